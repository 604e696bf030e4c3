"""What becomes of a source row: valid, a further copy, of a year not asked for, or set aside with its reasons.

A *judged* frame has a row a source row: the canonical columns as far as known, ``reasons`` (``array<string>``, empty
when usable), ``is_duplicate``, ``financial_year`` (NULL when unknown), ``year_disagrees``, and the lineage columns of
:class:`ebi_spark.sources.reader.SourceTable`. What is judged are source rows whose copies are settled
(:mod:`ebi_spark.records.duplicates`).
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import DateWindow
from ebi_spark.financial_years import (
    LAST_YEAR,
    digits_of_year,
    start_of_date,
    start_of_digits,
    year_of_date,
    year_of_start,
)
from ebi_spark.records.cleaning import list_of

# The reason of an appointment that is yet to come, in a year that is: no bad row.
FUTURE = "future_appointment"

# How a day that cannot be true is noted.
BEFORE, AFTER = "before_first_day", "after_extract"

VALID, QUARANTINED, DUPLICATE, OUTSIDE = "valid", "quarantined", "duplicate", "outside_years"


def reasons(**conditions: Column) -> Column:
    """``array<string>`` of the names of the conditions that hold."""
    return list_of((held, F.lit(name)) for name, held in conditions.items())


def with_year(rows: DataFrame, name: str, window: DateWindow, bare_year: str | None) -> DataFrame:
    """``rows``, of which the column ``name`` holds the cleaned day that decides the year, and ``extract_date`` the cleaned day
    of the extract. A day that cannot be true (``window``) becomes NULL and is noted in ``cleaned``.

    Added are the year of the day (``dated_year``), the one that the year column states, if that can be true (``stated_year``),
    ``year_disagrees``, and ``due_from``: where day or year are yet to come, the day from which on the row says more. Corrupt
    lines have none of these. Each is a column before anything looks at it (see :mod:`ebi_spark.records.cleaning`).
    """
    usable = F.col("corrupt").isNull()
    day, newest = F.col(name), F.col("_newest")
    first, last = F.lit(window.first), F.lit(window.last)
    limited = rows.withColumn("_newest", F.least("extract_date", last))
    outside = F.coalesce(~day.between(first, newest), F.lit(False))
    # Later than the run, and not later than the extract: on that day the row is read otherwise.
    in_time = F.coalesce(F.col("extract_date") >= day, F.lit(True))
    weighed = limited.withColumns(
        {
            name: F.when(~outside, day),
            "cleaned": F.when(
                outside,
                F.concat("cleaned", F.array(F.when(day < first, f"{name}:{BEFORE}").otherwise(f"{name}:{AFTER}"))),
            ).otherwise(F.col("cleaned")),
            "due_from": F.when((day > last) & in_time & usable, day),
        }
    )
    dated = weighed.withColumns(
        {"dated_year": year_of_date(F.when(usable, day)), "_stated": F.trim(F.when(usable, F.col("year_text")))}
    )
    # Most rows state the very year of their date, in the same words: only the others are worth reading.
    same = F.col("_stated") == F.col("dated_year")
    digits = dated.withColumn("_digits", digits_of_year(F.when(~F.coalesce(same, F.lit(False)), F.col("_stated"))))
    start = F.col("_start")
    first_of_april = F.make_date(start, F.lit(4), F.lit(1))
    soon = day.isNull() & start.between(start_of_date(last), LAST_YEAR) & (first_of_april > last)
    in_time = F.coalesce(F.col("extract_date") >= first_of_april, F.lit(True))
    years = digits.withColumn("_start", start_of_digits(F.col("_digits"), bare_year)).withColumns(
        {
            "stated_year": F.when(same, F.col("dated_year")).when(
                start.between(start_of_date(first), start_of_date(newest)), year_of_start(start)
            ),
            "year_disagrees": F.coalesce(start != start_of_date(day), F.lit(False)),
            "due_from": F.when(soon & in_time, first_of_april).otherwise(F.col("due_from")),
        }
    )
    return years.drop("_digits", "_start", "_stated", "_newest", "year_text")


def disposition(years: tuple[str, ...] | None) -> Column:
    """What becomes of a judged row under the years asked for (None: all). A copy, or a row that a later extract supersedes, is
    a duplicate, whatever else is wrong with it: it says nothing that another row does not say."""
    outside = F.col("financial_year").isNotNull() & ~F.col("financial_year").isin(*years) if years else F.lit(False)
    return (
        F.when(outside, F.lit(OUTSIDE))
        .when(F.col("is_duplicate"), F.lit(DUPLICATE))
        .when(F.size("reasons") > 0, F.lit(QUARANTINED))
        .otherwise(F.lit(VALID))
    )


def keep(rows: DataFrame, fate: str, years: tuple[str, ...] | None) -> DataFrame:
    """The judged rows of one fate.

    The row number, which is not kept, stops Spark from pushing the condition below the cleaning: pushed down, every
    column it rests on would be put in place of its name, stage upon stage, until planning runs out of memory, and every
    value would be cleaned twice.
    """
    marked = rows.withColumns({"_fate": disposition(years), "_row": F.monotonically_increasing_id()})
    return marked.where((F.col("_fate") == fate) & (F.col("_row") >= 0)).drop("_fate", "_row")
