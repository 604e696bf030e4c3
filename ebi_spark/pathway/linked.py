"""The records of all persons who have an operation. The persons are few, so they are sent to the outpatient table, which is never
shuffled."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.pathway.code_lists import steps
from ebi_spark.pathway.definitions import PERSON, definitions
from ebi_spark.tables.table import RECORD_KEY, YEAR

_SPELL_COLUMNS = (
    *RECORD_KEY, "person_id", YEAR, "provider_code", "admission_date", "discharge_date", "admission_method",
    "discharge_method", "admission_source", "discharge_destination", "patient_classification", "primary_diagnosis",
    "dominant_procedure", "diagnosis_codes", "procedure_codes",
)  # fmt: skip
_ATTENDANCE_COLUMNS = (
    *RECORD_KEY, "person_id", YEAR, "activity_date", "treatment_function", "first_attendance", "procedure_codes",
)  # fmt: skip


def linked_spells(operations: DataFrame, spells: DataFrame) -> DataFrame:
    """The spells of all years of the persons who have an operation: one row for each spell. A spell without a pseudonym has no row.

    ``operations`` has rows of :func:`~ebi_spark.pathway.operations.operations`, ``spells`` of ``silver/apc_spell``. Pseudonyms
    link records of one source system only.

    | operations: person | spells: person, record | → record |
    |--------------------|------------------------|----------|
    | P1                 | P1, a                  | a        |
    |                    | P1, b                  | b        |
    | NULL               | NULL, c                |          |
    """
    return spells.select(*_SPELL_COLUMNS).join(_persons(operations), list(PERSON), "left_semi")


def linked_attendances(operations: DataFrame, attendances: DataFrame) -> DataFrame:
    """The attended appointments of these persons that may show a step (``conf/pathway.yml``): one row for each appointment.

    Persons are matched as in :func:`linked_spells`. Other appointments are filtered out before the join, by simple conditions on
    three columns.
    """
    seen = attendances.where(_may_show_a_step()).select(*_ATTENDANCE_COLUMNS)
    return seen.join(_persons(operations), list(PERSON), "left_semi")


def linked_flags(operations: DataFrame, flags: DataFrame) -> DataFrame:
    """The flagged records of these persons under the policies that a step refers to (``flagged_by``): one row for each record and
    policy.

    ``flags`` has rows of ``gold/activity_flag`` of the policies' default readings. Persons are matched as in
    :func:`linked_spells`.
    """
    policies = [step["flagged_by"]["policy"] for step in steps() if "flagged_by" in step]
    flagged = flags.where(F.col("policy_id").isin(*policies) & (F.col("outcome") == "flagged"))
    return flagged.select("policy_id", *RECORD_KEY, YEAR, "person_id").join(
        _persons(operations), list(PERSON), "left_semi"
    )


def _may_show_a_step() -> Column:
    looks = [
        look for step in steps(looked_for_in="outpatients") for look in step["look_in"] if look["in"] == "outpatients"
    ]
    functions = sorted({code for look in looks for code in look.get("treatment_functions", ())})
    codes = sorted({code for look in looks for code in look.get("procedures", ())})
    attended = F.col("attendance_status").isin(*definitions()["attendance"]["attended"]["codes"])
    wanted = F.col("treatment_function").isin(*functions) | F.col("procedure_codes").rlike(f",(?:{'|'.join(codes)})")
    return attended & wanted & F.col("person_id").isNotNull()


def _persons(operations: DataFrame) -> DataFrame:
    return F.broadcast(operations.where("person_id IS NOT NULL").select(*PERSON).distinct())
