"""What each decision alone adds to and takes from a reading, and which records local and national policies judge apart.

Both are counts over the flags: a flag names the decisions that, flipped alone, would turn its outcome.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.clinical_policy.model import Unit
from ebi_spark.flags.attrition import steps_of
from ebi_spark.flags.judge import FLAGGED
from ebi_spark.small_frames import small_frame

_YEAR_OF_REVISION = ("policy_id", "revision", "financial_year")
_RECORD = ("financial_year", "source_system", "dataset", "record_id")
NATIONAL_ONLY, LOCAL_ONLY = "national_only", "local_only"


def sensitivity(flags: DataFrame, attrition: DataFrame, units: list[Unit]) -> DataFrame:
    """The rows of ``gold/policy_sensitivity`` but ``run_id``: a row a revision, base reading, decision and year that was
    read, also where the decision changes nothing. Effects of several decisions need not add up (decision 10)."""
    rows = [
        (
            unit.policy.id, unit.revision.name, flip.base, flip.decision, flip.source,
            "undone" if flip.undone else "made", flip.clause, flip.words, flip.because,
        )
        for unit in units
        for flip in unit.revision.flips
    ]  # fmt: skip
    decisions = small_frame(
        flags.sparkSession,
        rows,
        "policy_id string, revision string, base_reading string, decision string, source string, direction string, "
        "clause_id string, words string, because string",
    )
    periods = attrition.where("step = 0 AND records_in > 0").select(
        *_YEAR_OF_REVISION, F.col("reading").alias("base_reading"), F.col("records_left").alias("in_scope")
    )
    flagged = F.col("outcome") == FLAGGED
    of_base = flags.withColumnRenamed("reading", "base_reading")
    base = of_base.where(flagged).groupBy(*_YEAR_OF_REVISION, "base_reading").agg(F.count("*").alias("flagged"))
    turned = (
        of_base.withColumn("decision", F.explode("decisive_decisions"))
        .groupBy(*_YEAR_OF_REVISION, "base_reading", "decision")
        .agg(F.count_if(~flagged).alias("added"), F.count_if(flagged).alias("removed"))
    )
    return (
        periods.join(F.broadcast(decisions), ["policy_id", "revision", "base_reading"])
        .join(base, [*_YEAR_OF_REVISION, "base_reading"], "left")
        .join(turned, [*_YEAR_OF_REVISION, "base_reading", "decision"], "left")
        .fillna(0, ["flagged", "added", "removed"])
        .withColumn("flagged_flipped", F.col("flagged") + F.col("added") - F.col("removed"))
    )


def comparison(flags: DataFrame, attrition: DataFrame, units: list[Unit]) -> DataFrame:
    """The rows of ``gold/policy_comparison`` but ``run_id``, over records that both a local policy and the national one
    which it extends have in scope.

    A row a local revision, reading, year, direction and clause. ``national_only``: the national policy flags the record and
    the local does not, by a clause of the local one; every such clause has a row, also of 0. ``local_only``: the other way
    round, by a clause of the national one, where there are any. A record kept by several clauses counts at each.
    """
    spark = flags.sparkSession
    local = [unit for unit in units if unit.policy.boards and unit.policy.extends]
    pairs = sorted({(unit.policy.id, unit.policy.extends) for unit in local})
    bound = F.broadcast(small_frame(spark, pairs, "policy_id string, national_policy_id string"))
    flagged = F.col("outcome") == FLAGGED
    national = flags.select(
        F.col("policy_id").alias("national_policy_id"),
        "reading",
        *_RECORD,
        flagged.alias("_national"),
        F.col("failed_clauses").alias("_national_failed"),
    ).join(bound.select("national_policy_id").distinct(), "national_policy_id", "left_semi")
    both = (
        flags.join(bound, "policy_id")
        .withColumn("_local", flagged)
        .join(national, ["national_policy_id", "reading", *_RECORD])
    )
    by_year = ["policy_id", "revision", "reading", "national_policy_id", "financial_year"]
    totals = both.groupBy(*by_year).agg(
        F.count("*").alias("records_compared"),
        F.count_if(F.col("_national") & ~F.col("_local")).alias(NATIONAL_ONLY),
        F.count_if(F.col("_local") & ~F.col("_national")).alias(LOCAL_ONLY),
    )
    direction = F.when(F.col("_national"), F.lit(NATIONAL_ONLY)).otherwise(F.lit(LOCAL_ONLY))
    kept_by = F.when(F.col("_national"), F.col("failed_clauses")).otherwise(F.col("_national_failed"))
    counted = (
        both.where(F.col("_national") != F.col("_local"))
        .withColumns({"direction": direction, "_kept_by": kept_by})
        .withColumn("clause_id", F.explode("_kept_by"))
        .groupBy(*by_year, "direction", "clause_id")
        .agg(F.count("*").alias("records"), F.count_if(F.size("_kept_by") == 1).alias("records_alone"))
    )
    periods = attrition.where("step = 0 AND records_in > 0").select(*_YEAR_OF_REVISION, "reading")
    every_clause = (
        periods.join(F.broadcast(steps_of(spark, local).where("step > 0")), ["policy_id", "revision", "reading"])
        .join(bound, "policy_id")
        .select(*by_year, F.lit(NATIONAL_ONLY).alias("direction"), "clause_id")
    )
    return (
        every_clause.join(counted, [*by_year, "direction", "clause_id"], "full")
        .join(totals, by_year, "left")
        .fillna(0, ["records", "records_alone", "records_compared", NATIONAL_ONLY, LOCAL_ONLY])
        .withColumn("records_differing", F.when(F.col("direction") == NATIONAL_ONLY, F.col(NATIONAL_ONLY)).otherwise(F.col(LOCAL_ONLY)))
    )  # fmt: skip
