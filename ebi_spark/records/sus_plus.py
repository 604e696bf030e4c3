"""Classifies SUS+ rows: APCS left-joined to APCS_Der, and OPA."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.activity_dates import DateWindow
from ebi_spark.financial_years import year_of_start
from ebi_spark.records.cleaning import age_in_years, age_seen, changed, clean, in_steps, step, tidied
from ebi_spark.records.column_kinds import (
    ALTERNATIVES,
    ATTENDANCE_KINDS,
    CODE_KINDS,
    RECORD_KINDS,
    SPELL_DAYS,
    SPELL_DETAILS,
    SPELL_KINDS,
)
from ebi_spark.records.row_status import VALID, complete_others, row_reasons, with_year


def with_ages(rows: DataFrame) -> DataFrame:
    """``rows`` with ``age`` as the published SQL sees it, and ``age_years`` cleaned."""
    seen = step({"age": age_seen("age", "age_fallback")}, {}, without=["age_fallback"])
    return in_steps(rows, [seen, step({}, {"age_years": age_in_years("age")})])


def classify_spells(rows: DataFrame, window: DateWindow, bare_year: str | None) -> DataFrame:
    """APCS rows with their status columns, without what comes from APCS_Der. The year is that of the discharge date.
    See :mod:`ebi_spark.records.row_status`. Three rows of a file without a year column:

    | record_id | discharge_date of the source | → financial_year | reasons          |
    |-----------|------------------------------|------------------|------------------|
    | 1         | 2021-05-03                   | 2021-22          | []               |
    | 2         | (blank)                      | NULL             | [undischarged]   |
    | 3         | 31/02/2021                   | NULL             | [no_usable_date] |
    """
    kinds = RECORD_KINDS | CODE_KINDS | SPELL_KINDS
    cleaned = with_ages(clean(rows, kinds, unread=["discharge_date"]))
    cleaned = tidied(cleaned, (*ALTERNATIVES, *SPELL_DETAILS), SPELL_DAYS)
    with_years = with_year(cleaned, "discharge_date", window, bare_year)
    undated = F.col("discharge_date").isNull()
    return changed(
        with_years,
        {
            "reasons": row_reasons(
                no_usable_date=undated & F.col("unread_discharge_date"),
                undischarged=undated & ~F.col("unread_discharge_date"),
            ),
            "activity_date": F.col("discharge_date"),
            "financial_year": F.coalesce("dated_year", "stated_year"),
        },
        without=("conflict", "dated_year", "stated_year", "unread_discharge_date", "in_future"),
    )


def classify_derived(rows: DataFrame, known: DataFrame) -> DataFrame:
    """Cleaned rows of APCS_Der with their status columns. A row is valid when its spell is among ``known``, the keys of
    :meth:`ebi_spark.records.staging.StagedRecords.keys`. Its year is that of its spell."""
    return complete_others(rows, known, F.col("record_id"), F.expr(year_of_start("_start")), "no_spell")


def join_derived(spells: DataFrame, derived: DataFrame) -> DataFrame:
    """Spells with the dominant procedure and primary diagnosis of their one usable APCS_Der row, or NULL. Spells that are not
    valid get none.

    ``derived`` are cleaned rows with duplicates resolved, so that no key can multiply spells.

    | record_id | derived row | → dominant_procedure | primary_diagnosis | dominance_basis |
    |-----------|-------------|----------------------|-------------------|-----------------|
    | 1         | V382, M545  | V382                 | M545              | sus_grouper     |
    | 2         | V382, NULL  | V382                 | NULL              | sus_grouper     |
    | 3         | none        | NULL                 | NULL              | no_derived_row  |
    """
    usable = derived.where("corrupt IS NULL AND NOT conflict AND NOT is_duplicate").select(
        F.col("record_id").alias("_derived_id"),
        "dominant_procedure",
        "primary_diagnosis",
        F.col("cleaned").alias("_derived_cleaned"),
        F.col("extract_date").alias("_derived_extract"),
    )
    # Derived rows are narrow: a hash table of them, one partition of keys at a time, saves sorting both sides.
    on = (F.col("record_id") == F.col("_derived_id")) & (F.col("status") == VALID)
    joined = spells.join(usable.hint("shuffle_hash"), on, "left")
    found = F.col("_derived_id").isNotNull()
    return changed(
        joined,
        {
            "dominance_basis": F.when(found, F.lit("sus_grouper")).otherwise(F.lit("no_derived_row")),
            "cleaned": F.concat("cleaned", F.coalesce("_derived_cleaned", F.array().cast("array<string>"))),
            "extract_date": F.greatest("extract_date", "_derived_extract"),
            "incomplete_spell": F.lit(False),
            "episodes": F.lit(1),
        },
        without=("_derived_id", "_derived_cleaned", "_derived_extract"),
    )


def classify_attendances(rows: DataFrame, window: DateWindow, bare_year: str | None) -> DataFrame:
    """OPA rows with their status columns. The year is that of the appointment date, or of the year column where the
    date is missing."""
    cleaned = tidied(with_ages(clean(rows, RECORD_KINDS | CODE_KINDS | ATTENDANCE_KINDS)), ALTERNATIVES)
    return date_attendances(cleaned, window, bare_year)


def date_attendances(cleaned: DataFrame, window: DateWindow, bare_year: str | None) -> DataFrame:
    """Attendances of either system with their year and their reasons. An appointment on a future day of a future year
    is no error: it waits in quarantine under a reason of its own. On 29 November 2026:

    | appointment_date | year column | → financial_year | reasons              |
    |------------------|-------------|------------------|----------------------|
    | 2021-05-03       | NULL        | 2021-22          | []                   |
    | 2027-01-10       | 2026-27     | 2026-27          | []                   |
    | 2027-05-03       | 2027-28     | NULL             | [future_appointment] |
    | NULL             | NULL        | NULL             | [no_usable_date]     |
    """
    with_years = with_year(cleaned, "appointment_date", window, bare_year)
    year = F.coalesce("dated_year", "stated_year")
    to_come = F.col("in_future")
    return changed(
        with_years,
        {
            "reasons": row_reasons(no_usable_date=year.isNull() & ~to_come, future_appointment=year.isNull() & to_come),
            "activity_date": F.col("appointment_date"),
            "financial_year": year,
        },
        without=("conflict", "dated_year", "stated_year", "appointment_date", "in_future"),
    )


def classify_withdrawn(rows: DataFrame) -> DataFrame:
    """Cleaned rows of a list of withdrawn keys, with their status columns. The list does not say in which year the records
    are."""
    return rows.withColumns(
        {
            "reasons": row_reasons(no_usable_date=F.col("extract_date").isNull()),
            "financial_year": F.lit(None).cast("string"),
            "year_disagrees": F.lit(False),
            "due_from": F.lit(None).cast("date"),
        }
    )
