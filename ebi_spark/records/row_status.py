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
from ebi_spark.records.cleaning import changed, in_steps, list_of, step

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
    """The condition of each reason why a row cannot be used, by reason. ``own``: the reasons of this source table only; a corrupt line
    never has them."""
    whole = F.col("corrupt").isNull()
    return {
        CORRUPT_LINE: ~whole,
        "no_key": F.col("record_id").isNull() & whole,
        **{name: condition & whole for name, condition in own.items()},
        CONFLICTING: F.col("conflict"),
    }


def row_reasons(**own: Column) -> Column:
    """The reasons (:func:`row_conditions`) why a row cannot be used, as ``array<string>``."""
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
    first, last = f"DATE'{window.first}'", f"DATE'{window.last}'"
    usable, outside = "corrupt IS NULL", f"coalesce({name} NOT BETWEEN {first} AND _newest, false)"
    note = f"CASE WHEN {name} < {first} THEN '{name}:{BEFORE}' ELSE '{name}:{AFTER}' END"

    def in_extract(future: str) -> str:
        """Whether a day after the run is not after the extract: on that day the row will be read differently."""
        return f"coalesce(extract_date >= {future}, true)"

    def plausible(future: str) -> str:
        """Whether a day after the run is not too far ahead."""
        return f"{future} <= date_add({last}, {window.ahead})"

    # Most rows state the year of their date in the same form: only the others need parsing.
    other = "CASE WHEN NOT coalesce(_stated = dated_year, false) THEN _stated END"
    first_of_april = "make_date(_start, 4, 1)"
    soon = f"{name} IS NULL AND _start BETWEEN {start_of_date(last)} AND {LAST_YEAR} AND {first_of_april} > {last}"
    stated = f"_start BETWEEN {start_of_date(first)} AND {start_of_date('_newest')}"
    steps = [
        step({}, {"_newest": f"least(extract_date, {last})"}),
        step(
            {
                name: f"CASE WHEN NOT {outside} THEN {name} END",
                "cleaned": f"CASE WHEN {outside} THEN concat(cleaned, array({note})) ELSE cleaned END",
            },
            {
                "due_from": f"CASE WHEN {name} > {last} AND {in_extract(name)} AND {usable} THEN {name} END",
                "in_future": f"coalesce({name} > _newest AND {plausible(name)} AND {usable}, false)",
            },
        ),
        step(
            {},
            {
                "dated_year": year_of_date(f"CASE WHEN {usable} THEN {name} END"),
                "_stated": f"trim(CASE WHEN {usable} THEN year_text END)",
            },
        ),
        step({}, {"_digits": digits_of_year(other)}),
        step({}, {"_start": start_of_digits("_digits", bare_year)}),
        step(
            {
                "due_from": f"CASE WHEN {soon} AND {in_extract(first_of_april)} THEN {first_of_april} ELSE due_from END",
                "in_future": f"in_future OR coalesce({soon} AND {plausible(first_of_april)}, false)",
            },
            {
                "stated_year": f"CASE WHEN _stated = dated_year THEN dated_year WHEN {stated} THEN {year_of_start('_start')} END",
                "year_disagrees": f"coalesce(_start != {start_of_date(name)}, false)",
            },
            without=("_digits", "_start", "_stated", "_newest", "year_text"),
        ),
    ]
    return in_steps(rows, steps)


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
    return changed(joined, classified, without=(*owners.columns, "conflict"))


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
