"""Where the records of a policy fall away, clause by clause in the order of the page."""

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ebi_spark.policies.model import RevisionPeriod
from ebi_spark.small_frames import small_frame

_KEY = ("policy_id", "revision", "reading", "financial_year")


def attrition_steps(spark: SparkSession, units: list[RevisionPeriod]) -> DataFrame:
    """A row a revision, reading and clause: ``step`` 0 is the scope."""
    rows = [
        (unit.policy.id, unit.revision.name, reading.reading, step, clause.id)
        for unit in units
        for reading in unit.revision.readings.values()
        for step, clause in enumerate((unit.revision.scope, *reading.deciding))
    ]
    return small_frame(spark, rows, "policy_id string, revision string, reading string, step int, clause_id string")


def attrition(flags: DataFrame, totals: DataFrame, units: list[RevisionPeriod]) -> DataFrame:
    """The rows of ``gold/policy_attrition`` but ``run_id``.

    A record leaves at the first clause that it fails; ``records_missing`` are those that the clause dropped only because
    it could not be decided. Every step of every reading has a row in each year that has records, also where nothing
    left.
    """
    spark = flags.sparkSession
    first = F.get("failed_clauses", F.lit(0))
    left_at = (
        flags.withColumn("clause_id", first)
        .groupBy(*_KEY, "clause_id")
        .agg(
            F.count("*").alias("records"),
            F.count_if(F.array_contains("missing_clauses", F.col("clause_id"))).alias("undecided"),
        )
    )
    scoped = flags.groupBy(*_KEY).agg(F.count("*").alias("in_scope"))
    steps = F.broadcast(attrition_steps(spark, units))
    frame = steps.join(totals.where("records_in > 0"), ["policy_id", "revision"])
    frame = (
        frame.join(scoped, list(_KEY), "left")
        .join(left_at, [*_KEY, "clause_id"], "left")
        .fillna(0, ["in_scope", "records", "undecided"])
    )
    scope_step = F.col("step") == 0
    failed = F.when(scope_step, F.col("records_in") - F.col("records_missing") - F.col("in_scope")).otherwise(
        F.col("records") - F.col("undecided")
    )
    missing = F.when(scope_step, F.col("records_missing")).otherwise(F.col("undecided"))
    gone = F.sum(F.col("_failed") + F.col("_missing")).over(
        Window.partitionBy(*_KEY).orderBy("step").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    counted = frame.withColumns({"_failed": failed, "_missing": missing}).withColumn(
        "_left", F.col("records_in") - gone
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
