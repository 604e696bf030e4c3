"""Decides the status of a source row: valid, duplicate, outside the requested years, or quarantined with its reasons.

A *classified* frame has one row for each source row. Its columns are the canonical columns as far as they are
known; ``reasons`` (``array<string>``, empty when the row is usable); ``is_duplicate``; ``financial_year`` (NULL
when unknown); ``year_disagrees``; and the lineage columns of :class:`ebi_spark.sources.reader.SourceTable`. Rows
are classified after duplicates have been resolved (:mod:`ebi_spark.records.duplicates`).
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.activity_dates import DateWindow
from ebi_spark.financial_years import (
    LAST_YEAR,
    digits_of_year,
    start_of_date,
    start_of_digits,
    year_of_date,
    year_of_start,
)
from ebi_spark.records.cleaning import list_of

# The reason for an appointment on a future day of a future year. It does not count as a bad row.
FUTURE = "future_appointment"
# The reason for rows of one key with different content.
CONFLICTING = "conflicting_duplicate"
# The reason for a line that could not be parsed.
CORRUPT_LINE = "corrupt_line"

# The notes for a date outside its plausible range.
BEFORE, AFTER = "before_first_day", "after_extract"

VALID, QUARANTINED, DUPLICATE, OUTSIDE = "valid", "quarantined", "duplicate", "outside_years"


def reasons(**conditions: Column) -> Column:
    """``array<string>`` of the names of the conditions that are true."""
    return list_of((condition, F.lit(name)) for name, condition in conditions.items())


def row_conditions(**own: Column) -> dict[str, Column]:
    """When a row cannot be used, by reason: those of every source table, and the table's ``own``, which no corrupt line has."""
    whole = F.col("corrupt").isNull()
    return {
        CORRUPT_LINE: ~whole,
        "no_key": F.col("record_id").isNull() & whole,
        **{name: condition & whole for name, condition in own.items()},
        CONFLICTING: F.col("conflict"),
    }


def row_reasons(**own: Column) -> Column:
    """``array<string>`` of the reasons of :func:`row_conditions` why a row cannot be used."""
    return reasons(**row_conditions(**own))


def with_year(rows: DataFrame, name: str, window: DateWindow, bare_year: str | None) -> DataFrame:
    """``rows`` with the financial year of each row.

    The column ``name`` is the cleaned date that decides the year, and ``extract_date`` the cleaned date of the
    extract. A date outside its plausible range (``window``) becomes NULL and is noted in ``cleaned``. Added are:

    - ``dated_year``: the year of the date;
    - ``stated_year``: the year in the year column, if that is plausible;
    - ``year_disagrees``: whether the two differ;
    - ``due_from``: where date or year are in the future, the day from which the row would be read differently;
    - ``in_future``: whether date or year come after the extract or the run, but not too far ahead to be plausible.

    Corrupt lines have none of these. Each value becomes a column before anything uses it (see
    :mod:`ebi_spark.records.cleaning`).

    | day        | year_text | run on     | → dated_year | stated_year | year_disagrees | due_from   |
    |------------|-----------|------------|--------------|-------------|----------------|------------|
    | 2021-05-03 | 2021-22   | 2026-11-29 | 2021-22      | 2021-22     | false          | NULL       |
    | NULL       | 2020-21   | 2026-11-29 | NULL         | 2020-21     | false          | NULL       |
    | 2027-01-04 | 2026-27   | 2026-11-29 | NULL         | 2026-27     | false          | 2027-01-04 |
    """
    usable = F.col("corrupt").isNull()
    day, newest = F.col(name), F.col("_newest")
    first, last = F.lit(window.first), F.lit(window.last)
    limited = rows.withColumn("_newest", F.least("extract_date", last))
    outside = F.coalesce(~day.between(first, newest), F.lit(False))

    def in_extract(future: Column) -> Column:
        """Whether a day after the run is not after the extract: on that day the row will be read differently."""
        return F.coalesce(F.col("extract_date") >= future, F.lit(True))

    checked = limited.withColumns(
        {
            name: F.when(~outside, day),
            "cleaned": F.when(
                outside,
                F.concat("cleaned", F.array(F.when(day < first, f"{name}:{BEFORE}").otherwise(f"{name}:{AFTER}"))),
            ).otherwise(F.col("cleaned")),
            "due_from": F.when((day > last) & in_extract(day) & usable, day),
            "in_future": F.coalesce((day > newest) & (day <= F.date_add(last, window.ahead)) & usable, F.lit(False)),
        }
    )
    dated = checked.withColumns(
        {"dated_year": year_of_date(F.when(usable, day)), "_stated": F.trim(F.when(usable, F.col("year_text")))}
    )
    # Most rows state the year of their date in the same form: only the others need parsing.
    same = F.col("_stated") == F.col("dated_year")
    with_digits = dated.withColumn("_digits", digits_of_year(F.when(~F.coalesce(same, F.lit(False)), F.col("_stated"))))
    start = F.col("_start")
    first_of_april = F.make_date(start, F.lit(4), F.lit(1))
    soon = day.isNull() & start.between(start_of_date(last), LAST_YEAR) & (first_of_april > last)
    years = with_digits.withColumn("_start", start_of_digits(F.col("_digits"), bare_year)).withColumns(
        {
            "stated_year": F.when(same, F.col("dated_year")).when(
                start.between(start_of_date(first), start_of_date(newest)), year_of_start(start)
            ),
            "year_disagrees": F.coalesce(start != start_of_date(day), F.lit(False)),
            "due_from": F.when(soon & in_extract(first_of_april), first_of_april).otherwise(F.col("due_from")),
            "in_future": F.col("in_future")
            | F.coalesce(soon & (first_of_april <= F.date_add(last, window.ahead)), F.lit(False)),
        }
    )
    return years.drop("_digits", "_start", "_stated", "_newest", "year_text")


def complete_others(cleaned: DataFrame, owners: DataFrame, key: Column, year: Column, missing: str) -> DataFrame:
    """Rows of a table that completes another one, with their status columns.

    ``owners`` are the keys of the other table's rows, each once, as ``_owner``, with what ``year`` needs to say a row's
    financial year. ``key``: the key of a row's owner. A row without its owner has the reason ``missing``.

    | key | owners              | → financial_year | reasons    |
    |-----|---------------------|------------------|------------|
    | 1   | 1, of 2021          | 2021-22          | []         |
    | 2   | none                | NULL             | [no_spell] |
    """
    # A hash join, so that neither side has to be sorted.
    joined = cleaned.join(owners.hint("shuffle_hash"), key == F.col("_owner"), "left")
    classified = {
        "reasons": row_reasons(**{missing: F.col("record_id").isNotNull() & F.col("_owner").isNull()}),
        "financial_year": year,
        "year_disagrees": F.lit(False),
        "due_from": F.lit(None).cast("date"),
    }
    return joined.withColumns(classified).drop(*owners.columns, "conflict")


def with_status(rows: DataFrame, years: tuple[str, ...] | None) -> DataFrame:
    """``rows`` with ``status``: the status of each classified row under the years asked for (None: all).

    Within the requested years, a duplicate or superseded row has the status duplicate even if it could not be used:
    another row of its key counts instead. Where only 2021-22 was asked for:

    | financial_year | is_duplicate | reasons          | → status      |
    |----------------|--------------|------------------|---------------|
    | 2021-22        | false        | []               | valid         |
    | 2021-22        | true         | [undischarged]   | duplicate     |
    | 2020-21        | false        | [undischarged]   | outside_years |
    | NULL           | false        | [no_usable_date] | quarantined   |
    """
    year = F.col("financial_year")
    outside = year.isNotNull() & ~year.isin(*years) if years else F.lit(False)
    return rows.withColumn(
        "status",
        F.when(outside, F.lit(OUTSIDE))
        .when(F.col("is_duplicate"), F.lit(DUPLICATE))
        .when(F.size("reasons") > 0, F.lit(QUARANTINED))
        .otherwise(F.lit(VALID)),
    )
