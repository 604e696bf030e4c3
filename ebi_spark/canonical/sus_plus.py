"""SUS+ rows judged: APCS left-joined to APCS_Der, and OPA."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.canonical.cleaning import age_in_years, age_seen, clean
from ebi_spark.canonical.judging import reasons, resolve_duplicates
from ebi_spark.financial_years import year_of_date, year_of_text

RECORD_KINDS = {
    "record_id": "identifier",
    "person_id": "identifier",
    "provider_code": "identifier",
    "commissioner_code": "identifier",
    "gp_practice_code": "identifier",
    "lsoa": "identifier",
    "sex": "short_code",
    "administrative_category": "two_character_code",
    "treatment_function": "identifier",
    "age": "number",
    "age_fallback": "number",
    "extract_date": "day",
}
SPELL_KINDS = {
    "admission_date": "day",
    "discharge_date": "day",
    "admission_method": "two_character_code",
    "discharge_method": "short_code",
    "patient_classification": "short_code",
}
ATTENDANCE_KINDS = {
    "appointment_date": "day",
    "attendance_status": "short_code",
    "first_attendance": "short_code",
    "referral_source": "two_character_code",
}
DERIVED_KINDS = {
    "record_id": "identifier",
    "dominant_procedure": "code",
    "primary_diagnosis": "code",
    "extract_date": "day",
}
CODE_KINDS = {"diagnosis_codes": "codes", "procedure_codes": "codes"}


def with_ages(rows: DataFrame) -> DataFrame:
    """``rows`` with ``age`` as the published SQL sees it and ``age_years`` cleaned."""
    seen = rows.withColumn("age", age_seen(F.col("age"), F.col("age_fallback"))).drop("age_fallback")
    return seen.withColumn("age_years", age_in_years(F.col("age")))


def judge_spells(rows: DataFrame, bare_year: str | None = None) -> DataFrame:
    """APCS rows judged, without what stands in APCS_Der. The year is that of the discharge date."""
    unreadable = F.array_contains("cleaned", "discharge_date:not_a_date")
    judged = resolve_duplicates(with_ages(clean(rows, RECORD_KINDS | CODE_KINDS | SPELL_KINDS)))
    corrupt = F.col("corrupt").isNotNull()
    undated = F.col("discharge_date").isNull() & ~corrupt
    stated = year_of_text(F.col("year_text"), bare_year)
    by_date = year_of_date(F.col("discharge_date"))
    return judged.withColumns(
        {
            "reasons": reasons(
                corrupt_line=corrupt,
                no_key=F.col("record_id").isNull() & ~corrupt,
                no_usable_date=undated & unreadable,
                undischarged=undated & ~unreadable,
                conflicting_duplicate=F.col("conflict"),
            ),
            "activity_date": F.col("discharge_date"),
            "financial_year": F.coalesce(by_date, F.when(~corrupt, stated)),
            "year_disagrees": F.coalesce(by_date != stated, F.lit(False)),
        }
    ).drop("conflict", "year_text")


def judge_derived(rows: DataFrame, spells: DataFrame, bare_year: str | None = None) -> DataFrame:
    """APCS_Der rows judged against the APCS rows as read: a row is valid when its spell is there.

    Its year is its spell's. Duplicates are resolved here too, so that they cannot multiply spells in the join.
    """
    derived = resolve_duplicates(clean(rows, DERIVED_KINDS))
    keyed = clean(
        spells.where("corrupt IS NULL").select("record_id", "discharge_date", "year_text"),
        {"record_id": "identifier", "discharge_date": "day"},
    )
    year = F.coalesce(year_of_date(F.col("discharge_date")), year_of_text(F.col("year_text"), bare_year))
    known = (
        keyed.where("record_id IS NOT NULL")
        .groupBy(F.col("record_id").alias("_spell"))
        .agg(F.min(year).alias("financial_year"))
    )
    corrupt = F.col("corrupt").isNotNull()
    joined = derived.join(known, F.col("record_id") == F.col("_spell"), "left")
    return joined.withColumns(
        {
            "reasons": reasons(
                corrupt_line=corrupt,
                no_key=F.col("record_id").isNull() & ~corrupt,
                no_spell=F.col("record_id").isNotNull() & F.col("_spell").isNull() & ~corrupt,
                conflicting_duplicate=F.col("conflict"),
            ),
            "year_disagrees": F.lit(False),
        }
    ).drop("_spell", "conflict")


def join_derived(spells: DataFrame, derived: DataFrame) -> DataFrame:
    """Judged spells with the dominant procedure and primary diagnosis of their one usable APCS_Der row, or NULL."""
    usable = derived.where((F.size("reasons") == 0) & ~F.col("is_duplicate")).select(
        F.col("record_id").alias("_derived_id"),
        "dominant_procedure",
        "primary_diagnosis",
        F.col("cleaned").alias("_derived_cleaned"),
    )
    joined = spells.join(usable, F.col("record_id") == F.col("_derived_id"), "left")
    found = F.col("_derived_id").isNotNull()
    return joined.withColumns(
        {
            "dominance_basis": F.when(found, F.lit("sus_grouper")).otherwise(F.lit("no_derived_row")),
            "cleaned": F.concat("cleaned", F.coalesce("_derived_cleaned", F.array().cast("array<string>"))),
            "incomplete_spell": F.lit(False),
            "episodes": F.lit(1),
        }
    ).drop("_derived_id", "_derived_cleaned")


def judge_attendances(rows: DataFrame, bare_year: str | None = None) -> DataFrame:
    """OPA rows judged. The year is that of the appointment date, without one that of the year column."""
    return date_attendances(
        resolve_duplicates(with_ages(clean(rows, RECORD_KINDS | CODE_KINDS | ATTENDANCE_KINDS))), bare_year
    )


def date_attendances(judged: DataFrame, bare_year: str | None) -> DataFrame:
    """Attendances (of either system, duplicates resolved) with their year and their reasons."""
    corrupt = F.col("corrupt").isNotNull()
    stated = F.when(~corrupt, year_of_text(F.col("year_text"), bare_year))
    by_date = year_of_date(F.col("appointment_date"))
    return judged.withColumns(
        {
            "reasons": reasons(
                corrupt_line=corrupt,
                no_key=F.col("record_id").isNull() & ~corrupt,
                no_usable_date=F.coalesce(by_date, stated).isNull() & ~corrupt,
                conflicting_duplicate=F.col("conflict"),
            ),
            "activity_date": F.col("appointment_date"),
            "financial_year": F.coalesce(by_date, stated),
            "year_disagrees": F.coalesce(by_date != stated, F.lit(False)),
        }
    ).drop("conflict", "year_text", "appointment_date")
