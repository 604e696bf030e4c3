"""Counts the records that each clause of a policy removes, in the order of the policy's page."""

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ebi_spark.policies.model import RevisionPeriod
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.table import POLICY_KEY, YEAR

_KEY = (*POLICY_KEY, YEAR)


def attrition_steps(spark: SparkSession, periods: list[RevisionPeriod]) -> DataFrame:
    """One row for each revision, reading and clause. ``step`` 0 is the scope; the deciding clauses follow in order.

    | policy_id | revision | reading      | step | clause_id |
    |-----------|----------|--------------|------|-----------|
    | P         | 2021-04  | as_published | 0    | procedure |
    | P         | 2021-04  | as_published | 1    | age       |
    | P         | 2021-04  | as_intended  | 0    | procedure |
    """
    rows = [
        (period.policy.id, period.revision.name, reading.reading, step, clause.id)
        for period in periods
        for reading in period.revision.readings.values()
        for step, clause in enumerate((period.revision.scope, *reading.deciding))
    ]
    return small_frame(spark, rows, "policy_id string, revision string, reading string, step int, clause_id string")


def attrition(flags: DataFrame, totals: DataFrame, periods: list[RevisionPeriod]) -> DataFrame:
    """The rows of ``gold/policy_attrition`` except ``run_id``: one for each revision, reading, financial year and step.

    | step | clause_id | records_in | records_failed | records_missing | records_left |
    |------|-----------|------------|----------------|-----------------|--------------|
    | 0    | procedure | 1000       | 940            | 10              | 50           |
    | 1    | age       | 50         | 8              | 2               | 40           |
    | 2    | cancer    | 40         | 0              | 0               | 40           |

    All columns with ``records`` count records. A record is removed by the first clause that it fails. ``records_missing``
    counts the records that a clause removed only because it could not be decided. Every step of every reading has a row in
    each year that has records, including steps that remove none. ``flags`` are rows of ``gold/activity_flag``, ``totals``
    those of :func:`ebi_spark.flags.apply_policies.scope_totals`.
    """
    spark = flags.sparkSession
    first = F.get("failed_clauses", F.lit(0))
    removed_by_clause = (
        flags.withColumn("clause_id", first)
        .groupBy(*_KEY, "clause_id")
        .agg(
            F.count("*").alias("records"),
            F.count_if(F.array_contains("missing_clauses", F.col("clause_id"))).alias("undecided"),
        )
    )
    scoped = flags.groupBy(*_KEY).agg(F.count("*").alias("in_scope"))
    steps = F.broadcast(attrition_steps(spark, periods))
    frame = steps.join(totals.where("records_in > 0"), ["policy_id", "revision"])
    frame = (
        frame.join(scoped, list(_KEY), "left")
        .join(removed_by_clause, [*_KEY, "clause_id"], "left")
        .fillna(0, ["in_scope", "records", "undecided"])
    )
    scope_step = F.col("step") == 0
    failed = F.when(scope_step, F.col("records_in") - F.col("records_missing") - F.col("in_scope")).otherwise(
        F.col("records") - F.col("undecided")
    )
    missing = F.when(scope_step, F.col("records_missing")).otherwise(F.col("undecided"))
    removed = F.sum(F.col("_failed") + F.col("_missing")).over(
        Window.partitionBy(*_KEY).orderBy("step").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    counted = frame.withColumns({"_failed": failed, "_missing": missing}).withColumn(
        "_left", F.col("records_in") - removed
    )
    return counted.select(
        *_KEY,
        "step",
        "clause_id",
        (F.col("_left") + F.col("_failed") + F.col("_missing")).alias("records_in"),
        F.col("_failed").alias("records_failed"),
        F.col("_missing").alias("records_missing"),
        F.col("_left").alias("records_left"),
    )
