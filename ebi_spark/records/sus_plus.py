"""SUS+ rows judged: APCS left-joined to APCS_Der, and OPA."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import DateWindow
from ebi_spark.financial_years import start_of_year, year_of_start
from ebi_spark.records.cleaning import age_in_years, age_seen, clean, text
from ebi_spark.records.row_status import reasons, with_year

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
# Identifiers that mean the same as one of the above and are only looked up, by the area of a record. They are tidied without a
# note of what changed: the method that Java compiles for a row has little room left.
ALTERNATIVES = ("lsoa_2021", "lsoa_2001", "gp_practice_sus")
CODE_KINDS = {"diagnosis_codes": "codes", "procedure_codes": "codes"}


def with_alternatives(rows: DataFrame) -> DataFrame:
    """``rows`` with the columns of :data:`ALTERNATIVES` tidied, NULL where the source has none."""
    nothing = F.lit(None).cast("string")
    return rows.withColumns({n: text(F.col(n)) if n in rows.columns else nothing for n in ALTERNATIVES})


def with_ages(rows: DataFrame) -> DataFrame:
    """``rows`` with ``age`` as the published SQL sees it and ``age_years`` cleaned."""
    seen = rows.withColumn("age", age_seen(F.col("age"), F.col("age_fallback"))).drop("age_fallback")
    return seen.withColumn("age_years", age_in_years(F.col("age")))


def classify_spells(rows: DataFrame, window: DateWindow, bare_year: str | None = None) -> DataFrame:
    """APCS rows judged, without what stands in APCS_Der. The year is that of the discharge date."""
    kinds = RECORD_KINDS | CODE_KINDS | SPELL_KINDS
    cleaned = with_alternatives(with_ages(clean(rows, kinds, unread=["discharge_date"])))
    judged = with_year(cleaned, "discharge_date", window, bare_year)
    corrupt = F.col("corrupt").isNotNull()
    undated = F.col("discharge_date").isNull() & ~corrupt
    return judged.withColumns(
        {
            "reasons": reasons(
                corrupt_line=corrupt,
                no_key=F.col("record_id").isNull() & ~corrupt,
                no_usable_date=undated & F.col("unread_discharge_date"),
                undischarged=undated & ~F.col("unread_discharge_date"),
                conflicting_duplicate=F.col("conflict"),
            ),
            "activity_date": F.col("discharge_date"),
            "financial_year": F.coalesce("dated_year", "stated_year"),
        }
    ).drop("conflict", "dated_year", "stated_year", "unread_discharge_date")


def spell_years(
    alone: DataFrame, repeated: DataFrame | None, window: DateWindow, bare_year: str | None = None
) -> DataFrame:
    """The keys of APCS rows as read, each once (``_spell``), with the calendar year in which their financial year starts
    (``_start``, INT; the earliest where rows of the key conflict). Only keys of ``repeated`` rows have to be brought together:
    that the others stand once is what the first look found, and holds while the sources stand still."""

    def dated(rows: DataFrame) -> DataFrame:
        keyed = clean(
            rows.select("record_id", "discharge_date", "year_text", "extract_date", "corrupt"),
            {"record_id": "identifier", "discharge_date": "day", "extract_date": "day"},
        ).where("corrupt IS NULL AND record_id IS NOT NULL")
        start = start_of_year(F.coalesce("dated_year", "stated_year"))
        with_years = with_year(keyed, "discharge_date", window, bare_year)
        return with_years.select(F.col("record_id").alias("_spell"), start.alias("_start"))

    if repeated is None:
        return dated(alone)
    counted = dated(repeated.where("NOT is_duplicate"))
    return dated(alone).unionByName(counted.groupBy("_spell").agg(F.min("_start").alias("_start")))


def classify_derived(rows: DataFrame, known: DataFrame) -> DataFrame:
    """APCS_Der rows judged against the keys of the APCS rows as read (:func:`spell_years`): a row is valid when its spell is
    there. Its year is its spell's."""
    corrupt = F.col("corrupt").isNotNull()
    # As in join_derived: neither side has to be sorted.
    joined = clean(rows, DERIVED_KINDS).join(known.hint("shuffle_hash"), F.col("record_id") == F.col("_spell"), "left")
    return joined.withColumns(
        {
            "reasons": reasons(
                corrupt_line=corrupt,
                no_key=F.col("record_id").isNull() & ~corrupt,
                no_spell=F.col("record_id").isNotNull() & F.col("_spell").isNull() & ~corrupt,
                conflicting_duplicate=F.col("conflict"),
            ),
            "financial_year": year_of_start(F.col("_start")),
            "year_disagrees": F.lit(False),
            "due_from": F.lit(None).cast("date"),
        }
    ).drop("_spell", "_start", "conflict")


def join_derived(spells: DataFrame, derived: DataFrame) -> DataFrame:
    """ClassifiedTable spells with the dominant procedure and primary diagnosis of their one usable APCS_Der row, or NULL.

    ``derived`` are rows as read with their copies settled, so that no key can multiply spells.
    """
    usable = clean(derived.where("corrupt IS NULL AND NOT conflict AND NOT is_duplicate"), DERIVED_KINDS).select(
        F.col("record_id").alias("_derived_id"),
        "dominant_procedure",
        "primary_diagnosis",
        F.col("cleaned").alias("_derived_cleaned"),
        F.col("extract_date").alias("_derived_extract"),
    )
    # Derived rows are narrow: a table of them in memory, a part of the keys at a time, spares sorting both sides.
    joined = spells.join(usable.hint("shuffle_hash"), F.col("record_id") == F.col("_derived_id"), "left")
    found = F.col("_derived_id").isNotNull()
    return joined.withColumns(
        {
            "dominance_basis": F.when(found, F.lit("sus_grouper")).otherwise(F.lit("no_derived_row")),
            "cleaned": F.concat("cleaned", F.coalesce("_derived_cleaned", F.array().cast("array<string>"))),
            "extract_date": F.greatest("extract_date", "_derived_extract"),
            "incomplete_spell": F.lit(False),
            "episodes": F.lit(1),
        }
    ).drop("_derived_id", "_derived_cleaned", "_derived_extract")


def classify_attendances(rows: DataFrame, window: DateWindow, bare_year: str | None = None) -> DataFrame:
    """OPA rows judged. The year is that of the appointment date, without one that of the year column."""
    cleaned = with_alternatives(with_ages(clean(rows, RECORD_KINDS | CODE_KINDS | ATTENDANCE_KINDS)))
    return date_attendances(cleaned, window, bare_year)


def date_attendances(cleaned: DataFrame, window: DateWindow, bare_year: str | None) -> DataFrame:
    """Attendances of either system with their year and their reasons. An appointment that is yet to come, in a year yet to
    come, is no error: it waits in quarantine under a reason of its own."""
    judged = with_year(cleaned, "appointment_date", window, bare_year)
    corrupt = F.col("corrupt").isNotNull()
    year = F.coalesce("dated_year", "stated_year")
    undated = year.isNull() & ~corrupt
    to_come = F.coalesce(F.col("due_from") <= F.date_add(F.lit(window.last), window.ahead), F.lit(False))
    return judged.withColumns(
        {
            "reasons": reasons(
                corrupt_line=corrupt,
                no_key=F.col("record_id").isNull() & ~corrupt,
                no_usable_date=undated & ~to_come,
                future_appointment=undated & to_come,
                conflicting_duplicate=F.col("conflict"),
            ),
            "activity_date": F.col("appointment_date"),
            "financial_year": year,
        }
    ).drop("conflict", "dated_year", "stated_year", "appointment_date")


def classify_withdrawn(rows: DataFrame) -> DataFrame:
    """Rows of a list of withdrawn keys judged; of which year the records are is not theirs to say."""
    corrupt = F.col("corrupt").isNotNull()
    return (
        clean(rows, {"record_id": "identifier", "extract_date": "day"})
        .withColumns(
            {
                "reasons": reasons(
                    corrupt_line=corrupt,
                    no_key=F.col("record_id").isNull() & ~corrupt,
                    no_usable_date=F.col("extract_date").isNull() & ~corrupt,
                ),
                "financial_year": F.lit(None).cast("string"),
                "year_disagrees": F.lit(False),
                "due_from": F.lit(None).cast("date"),
            }
        )
        .drop("conflict")
    )
