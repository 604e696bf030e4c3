"""The sample of an audit: every record in scope gets a stratum, and a hash of seed and key decides the order of the draw.

The same seed, records and policy fingerprint give the same sample again, on any engine and in any order of rows.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.case_audit.design import DISAGREE, FLAGGED, NEAR_MISS, REST, Design
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.table import RECORD_KEY, YEAR

UNKNOWN_PROVIDER = "unknown"


def with_strata(flags: DataFrame, reading: str) -> DataFrame:
    """A row for each record in scope of one policy, with its stratum: the first that applies under ``reading``.

    ``flags`` are rows of ``gold/activity_flag`` of one policy, in all readings. Strata: ``flagged``; ``readings_disagree``
    (another reading flags it); ``near_miss:CLAUSE`` (the one clause that failed); ``rest``. ``flagged_by`` lists the readings
    that flag the record.

    | record_id | reading      | outcome     | failed_clauses | → stratum           |
    |-----------|--------------|-------------|----------------|---------------------|
    | 1         | as_published | flagged     | []             | flagged             |
    | 2         | as_published | not_flagged | [deformity]    | near_miss:deformity |
    | 3         | as_published | not_flagged | [age, trauma]  | rest                |
    """
    own = F.struct("revision", "policy_fingerprint", "provider_code", "near_miss", "failed_clauses")
    flagging = F.when(F.col("outcome") == FLAGGED, F.col("reading"))
    by_record = flags.groupBy(*RECORD_KEY, YEAR).agg(
        F.max(F.when(F.col("reading") == reading, own)).alias("own"),
        F.array_sort(F.collect_set(flagging)).alias("flagged_by"),
    )
    stratum = (
        F.when(F.array_contains("flagged_by", reading), F.lit(FLAGGED))
        .when(F.size("flagged_by") > 0, F.lit(DISAGREE))
        .when(F.col("own.near_miss"), F.concat(F.lit(f"{NEAR_MISS}:"), F.get("own.failed_clauses", F.lit(0))))
        .otherwise(F.lit(REST))
    )
    return by_record.where("own IS NOT NULL").select(
        *RECORD_KEY,
        YEAR,
        F.col("own.revision").alias("revision"),
        F.col("own.policy_fingerprint").alias("policy_fingerprint"),
        F.coalesce("own.provider_code", F.lit(UNKNOWN_PROVIDER)).alias("provider_code"),
        "flagged_by",
        stratum.alias("stratum"),
    )


def count_cells(records: DataFrame) -> DataFrame:
    """The records of each stratum, provider and policy fingerprint, with a checksum of their keys that does not depend on
    the order of rows. Only these counts decide how many are drawn.

    | stratum       | provider_code | policy_fingerprint | records | checksum |
    |---------------|---------------|--------------------|---------|----------|
    | flagged       | RXX           | 3f9c21d0a4b8e617   | 8       | 51…      |
    | flagged       | RYY           | 3f9c21d0a4b8e617   | 1       | -70…     |
    | near_miss:age | RXX           | 3f9c21d0a4b8e617   | 3       | 12…      |
    """
    return records.groupBy("stratum", "provider_code", "policy_fingerprint").agg(
        F.count("*").alias("records"), F.bit_xor(F.xxhash64(*RECORD_KEY)).alias("checksum")
    )


def draw(records: DataFrame, design: Design, seed: int, double_share: float) -> DataFrame:
    """The records of the sample: those of :func:`with_strata` whose place in their cell is within what the design draws.

    Adds ``records_in_stratum`` and ``records_drawn`` (N and m), ``probability`` (m / N), ``draw_order`` (from 1 in each cell)
    and ``read_twice``: of each stratum the stated share, rounded up, chosen by a second hash.

    | record_id | stratum | provider_code | draw_order | records_in_stratum | records_drawn | probability |
    |-----------|---------|---------------|------------|--------------------|---------------|-------------|
    | 7         | flagged | RXX           | 1          | 8                  | 2             | 0.25        |
    | 3         | flagged | RXX           | 2          | 8                  | 2             | 0.25        |
    | 5         | flagged | RYY           | 1          | 1                  | 1             | 1.0         |
    """
    order = Window.partitionBy("stratum", "provider_code").orderBy(_hash(seed, "draw"), *RECORD_KEY)
    cells = small_frame(
        records.sparkSession,
        [(*cell, design.records[cell], number) for cell, number in design.drawn.items()],
        "_stratum string, _provider string, records_in_stratum bigint, records_drawn bigint",
    )
    drawn = (
        records.withColumn("draw_order", F.row_number().over(order))
        .join(
            F.broadcast(cells),
            (F.col("stratum") == F.col("_stratum")) & (F.col("provider_code") == F.col("_provider")),
        )
        .where(F.col("draw_order") <= F.col("records_drawn"))
        .drop("_stratum", "_provider")
        .withColumn("probability", F.col("records_drawn") / F.col("records_in_stratum"))
    )
    again = Window.partitionBy("stratum").orderBy(_hash(seed, "read twice"), *RECORD_KEY)
    wanted = F.ceil(F.count("*").over(Window.partitionBy("stratum")) * F.lit(double_share) - F.lit(1e-9))
    return drawn.withColumn("_again", F.row_number().over(again)).withColumn(
        "read_twice", F.col("_again") <= wanted
    ).drop("_again")  # fmt: skip


def _hash(seed: int, purpose: str) -> Column:
    return F.sha2(F.concat_ws("|", F.lit(f"{seed}|{purpose}"), "policy_fingerprint", *RECORD_KEY), 256)
