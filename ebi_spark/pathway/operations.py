"""The operations that monitoring looks at: records of admitted care in scope of a policy."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.geography.area_versions import Geography
from ebi_spark.geography.output_areas import assign_output_area
from ebi_spark.geography.record_areas import OUTSIDE_ENGLAND
from ebi_spark.pathway.definitions import definitions
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.table import RECORD_KEY

PROCEDURE_DATE, ADMISSION_DATE = "procedure_date", "admission_date"


# If there are more operations than this, Spark decides how to join them with their spells.
FEW = 300_000


def operations(
    flags: DataFrame, spells: DataFrame, policies: DataFrame, geography: Geography, *, few: bool = True
) -> DataFrame:
    """A row for each record of admitted care in scope of a policy, under the policy's default reading. Records from outside
    England are left out, as in rates.

    ``flags`` has rows of ``gold/activity_flag``, ``spells`` of ``silver/apc_spell``, ``policies`` of ``gold/policy``. The
    columns are those of ``gold/approval_match`` up to ``emergency``. ``few``: the operations are at most :data:`FEW`, so they are sent
    to the spells, which are then read once and not shuffled. The day of the operation is the source's
    date of the dominant procedure, otherwise the day of admission. A record without either is left out. A date of the
    procedure that is not in the stay cannot be right, and counts as none.

    | record_id | procedure_date | admission_date | discharge_date | → operation_date | operation_date_basis |
    |-----------|----------------|----------------|----------------|------------------|----------------------|
    | 1         | 2024-03-05     | 2024-03-04     | 2024-03-08     | 2024-03-05       | procedure_date       |
    | 2         | NULL           | 2024-03-04     | 2024-03-08     | 2024-03-04       | admission_date       |
    | 3         | 2014-03-05     | 2024-03-04     | 2024-03-08     | 2024-03-04       | admission_date       |
    """
    default = policies.where("is_default_reading AND dataset = 'apc'").select("policy_id", "reading").distinct()
    of_england = ~F.col("area_basis").eqNullSafe(OUTSIDE_ENGLAND)
    scoped = flags.where((F.col("dataset") == "apc") & of_england).join(
        F.broadcast(default), ["policy_id", "reading"], "left_semi"
    )
    in_area = assign_output_area(scoped, geography)
    boards = small_frame(
        flags.sparkSession,
        [(code, row["icb_code"]) for code, row in sorted(geography.areas.items())],
        "area_code string, board string",
    )
    details = spells.select(
        *RECORD_KEY, "financial_year", "procedure_date", "admission_date", "discharge_date", "discharge_method",
        "admission_method", "primary_diagnosis", "dominant_procedure", "diagnosis_codes", "procedure_codes",
    )  # fmt: skip
    scope = in_area.select(
        "policy_id", "revision", "reading", *RECORD_KEY, "person_id", "financial_year", "area_code", "provider_code",
        (F.col("outcome") == "flagged").alias("flagged"),
    )  # fmt: skip
    joined = details.join(F.broadcast(scope) if few else scope, [*RECORD_KEY, "financial_year"]).join(
        F.broadcast(boards), "area_code", "left"
    )
    first, last = (F.coalesce(name, "procedure_date") for name in ("admission_date", "discharge_date"))
    in_stay = F.coalesce(F.col("procedure_date").between(first, last), F.lit(False))
    dated = joined.withColumns(
        {
            "operation_date": F.when(in_stay, F.col("procedure_date")).otherwise(F.col("admission_date")),
            "operation_date_basis": F.when(in_stay, F.lit(PROCEDURE_DATE)).otherwise(F.lit(ADMISSION_DATE)),
            "emergency": is_emergency(F.col("admission_method")),
        }
    )
    return dated.where("operation_date IS NOT NULL").select(
        "policy_id", "revision", "reading", *RECORD_KEY, "person_id", "financial_year", "operation_date",
        "operation_date_basis", "board", "provider_code", "flagged", "admission_date", "discharge_date",
        "discharge_method", "primary_diagnosis", "dominant_procedure", "diagnosis_codes", "procedure_codes", "emergency",
    )  # fmt: skip


def is_emergency(admission_method: Column) -> Column:
    """Whether a patient was admitted as an emergency; false where the method is unknown."""
    methods = definitions()["admission"]["emergency_methods"]["starts_with"]
    found = F.lit(False)
    for start in methods:
        found = found | admission_method.startswith(start)
    return F.coalesce(found, F.lit(False))
