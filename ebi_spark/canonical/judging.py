"""What becomes of a source row: valid, a further copy, of a year not asked for, or set aside with its reasons.

A *judged* frame has a row a source row: the canonical columns as far as known, ``reasons`` (``array<string>``, empty
when usable), ``is_duplicate``, ``financial_year`` (NULL when unknown), ``year_disagrees``, and the lineage columns of
:class:`ebi_spark.acquire.tables.SourceTable`. What is judged are source rows whose copies are settled
(:mod:`ebi_spark.canonical.copies`).
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.canonical.cleaning import list_of
from ebi_spark.financial_years import digits_of_year, year_of_date, year_of_digits

VALID, QUARANTINED, DUPLICATE, OUTSIDE = "valid", "quarantined", "duplicate", "outside_years"


def reasons(**conditions: Column) -> Column:
    """``array<string>`` of the names of the conditions that hold."""
    return list_of((held, F.lit(name)) for name, held in conditions.items())


def with_year(rows: DataFrame, day: Column, bare_year: str | None) -> DataFrame:
    """``rows`` with the year of ``day`` (``dated_year``) and the one that the year column states (``stated_year``);
    corrupt lines have neither. Each is a column before anything looks at it (see :mod:`ebi_spark.canonical.cleaning`).
    """
    usable = F.col("corrupt").isNull()
    dated = rows.withColumns(
        {"dated_year": year_of_date(F.when(usable, day)), "_stated": F.trim(F.when(usable, F.col("year_text")))}
    )
    # Most rows state the very year of their date, in the same words: only the others are worth reading.
    same = F.col("_stated") == F.col("dated_year")
    digits = dated.withColumn("_digits", digits_of_year(F.when(~F.coalesce(same, F.lit(False)), F.col("_stated"))))
    years = digits.withColumn(
        "stated_year", F.when(same, F.col("dated_year")).otherwise(year_of_digits(F.col("_digits"), bare_year))
    )
    return years.drop("_digits", "_stated", "year_text")


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
