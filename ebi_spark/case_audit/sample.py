"""The sample of an audit: every record in scope gets a stratum, and a hash of seed and key decides the order of the draw.

The same seed, records and policy fingerprint give the same sample again, on any engine and in any order of rows.
"""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.case_audit.design import DISAGREE, FLAGGED, NEAR_MISS, REST, Cell, Design
from ebi_spark.small_frames import small_frame

RECORD = ("source_system", "dataset", "record_id")
UNKNOWN_PROVIDER = "unknown"


def with_strata(flags: DataFrame, reading: str) -> DataFrame:
    """A row a record in scope of one policy, with its stratum; the first that applies under ``reading``.

    ``flags`` are rows of ``gold/activity_flag`` of one policy. Strata: ``flagged``; ``readings_disagree`` (another reading
    flags it); ``near_miss:CLAUSE`` (the one clause that failed); ``rest``.

    | record_id | reading      | outcome     | failed_clauses | → stratum            |
    |-----------|--------------|-------------|----------------|----------------------|
    | 1         | as_published | flagged     | []             | flagged              |
    | 2         | as_published | not_flagged | [deformity]    | near_miss:deformity  |
    | 3         | as_published | not_flagged | [age, trauma]  | rest                 |
    """
    other = (F.col("reading") != reading) & (F.col("outcome") == FLAGGED)
    by_record = flags.withColumn("_other_flags", F.max(other).over(Window.partitionBy(*RECORD)))
    stratum = (
        F.when(F.col("outcome") == FLAGGED, F.lit(FLAGGED))
        .when(F.col("_other_flags"), F.lit(DISAGREE))
        .when(F.col("near_miss"), F.concat(F.lit(f"{NEAR_MISS}:"), F.get("failed_clauses", F.lit(0))))
        .otherwise(F.lit(REST))
    )
    return by_record.where(F.col("reading") == reading).select(
        *RECORD,
        "policy_id",
        "revision",
        "reading",
        "policy_fingerprint",
        "financial_year",
        F.coalesce("provider_code", F.lit(UNKNOWN_PROVIDER)).alias("provider_code"),
        "outcome",
        "failed_clauses",
        stratum.alias("stratum"),
    )


def cell_sizes(records: DataFrame) -> dict[Cell, int]:
    """The records of each stratum and provider: counts alone leave Spark."""
    counted = records.groupBy("stratum", "provider_code").count().collect()
    return {(row["stratum"], row["provider_code"]): row["count"] for row in counted}


def draw(records: DataFrame, design: Design, seed: int, double_share: float = 0.0) -> DataFrame:
    """The records of the sample: those of :func:`with_strata` whose place in their cell is within what the design draws.

    Adds ``cell_records`` and ``cell_drawn`` (N and m), ``inclusion_probability`` (m/N), ``draw_order`` (from 1 in each cell)
    and ``read_twice``: of each stratum the stated share, rounded up, chosen by a second hash.
    """
    order = Window.partitionBy("stratum", "provider_code").orderBy(_hash(seed, "draw"), *RECORD)
    cells = small_frame(
        records.sparkSession,
        [
            (stratum, provider, design.records[stratum, provider], drawn)
            for (stratum, provider), drawn in design.drawn.items()
        ],
        "_stratum string, _provider string, cell_records int, cell_drawn int",
    )
    drawn = (
        records.withColumn("draw_order", F.row_number().over(order))
        .join(
            F.broadcast(cells),
            (F.col("stratum") == F.col("_stratum")) & (F.col("provider_code") == F.col("_provider")),
        )
        .where(F.col("draw_order") <= F.col("cell_drawn"))
        .drop("_stratum", "_provider")
        .withColumn("inclusion_probability", F.col("cell_drawn") / F.col("cell_records"))
    )
    again = Window.partitionBy("stratum").orderBy(_hash(seed, "second"), *RECORD)
    wanted = F.ceil(F.count("*").over(Window.partitionBy("stratum")) * F.lit(float(double_share)))
    return drawn.withColumn("_again", F.row_number().over(again)).withColumn(
        "read_twice", F.col("_again") <= wanted
    ).drop("_again")  # fmt: skip


def _hash(seed: int, purpose: str) -> Column:
    return F.sha2(F.concat_ws("|", F.lit(f"{seed}|{purpose}"), "policy_fingerprint", *RECORD), 256)


def fingerprints(records: DataFrame) -> Mapping[str, int]:
    """The policy fingerprints among the records, with their numbers: a sample may span revisions."""
    return {row[0]: row[1] for row in records.groupBy("policy_fingerprint").count().collect()}
