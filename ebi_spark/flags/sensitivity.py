"""What each decision alone adds to and takes from a reading, and which records local and national policies judge apart.

Both are counts over the flags: a flag names the decisions that, flipped alone, would turn its outcome.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.flags.apply_policies import FLAGGED
from ebi_spark.flags.attrition import steps_of
from ebi_spark.policies.model import RevisionPeriod
from ebi_spark.small_frames import small_frame

_YEAR_OF_REVISION = ("policy_id", "revision", "financial_year")
_RECORD = ("financial_year", "source_system", "dataset", "record_id")
NATIONAL_ONLY, LOCAL_ONLY = "national_only", "local_only"
# No clause and no direction: records judged alike, and all records of a direction, while they are counted together.
_ALIKE, _EVERY = "alike", "*"


def sensitivity(flags: DataFrame, attrition: DataFrame, units: list[RevisionPeriod]) -> DataFrame:
    """The rows of ``gold/policy_sensitivity`` but ``run_id``: a row a revision, base reading, decision and year that was
    read, also where the decision changes nothing. Effects of several decisions need not add up (decision 10)."""
    rows = [
        (
            unit.policy.id, unit.revision.name, flip.base, flip.decision, flip.source,
            "undone" if flip.undone else "made", flip.clause, flip.source_text, flip.rationale,
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
    # The waterfall has counted already what is in scope and what is flagged.
    base = (
        attrition.groupBy(*_YEAR_OF_REVISION, F.col("reading").alias("base_reading"))
        .agg(
            F.min_by("records_left", "step").alias("in_scope"),
            F.max_by("records_left", "step").alias("flagged"),
            F.max("records_in").alias("_read"),
        )
        .where("_read > 0")
    )
    flagged = F.col("outcome") == FLAGGED
    turned = (
        flags.withColumn("decision", F.explode("decisive_decisions"))
        .groupBy(*_YEAR_OF_REVISION, F.col("reading").alias("base_reading"), "decision")
        .agg(F.count_if(~flagged).alias("added"), F.count_if(flagged).alias("removed"))
    )
    return (
        base.join(F.broadcast(decisions), ["policy_id", "revision", "base_reading"])
        .join(turned, [*_YEAR_OF_REVISION, "base_reading", "decision"], "left")
        .fillna(0, ["added", "removed"])
        .withColumn("flagged_flipped", F.col("flagged") + F.col("added") - F.col("removed"))
    )


def comparison(flags: DataFrame, attrition: DataFrame, units: list[RevisionPeriod]) -> DataFrame:
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
    of_locals, of_nationals = (F.col("policy_id").isin([pair[place] for pair in pairs]) for place in (0, 1))
    of_local = flags.where(of_locals).select(
        "policy_id", "revision", "reading", *_RECORD, flagged.alias("_local"), "failed_clauses"
    )
    of_national = flags.where(of_nationals).select(
        F.col("policy_id").alias("national_policy_id"),
        "reading",
        *_RECORD,
        flagged.alias("_national"),
        F.col("failed_clauses").alias("_national_failed"),
    )
    # One board's patients are few beside the nation's.
    both = of_national.join(F.broadcast(of_local.join(bound, "policy_id")), ["national_policy_id", "reading", *_RECORD])
    by_year = ["policy_id", "revision", "reading", "national_policy_id", "financial_year"]
    differs = F.col("_national") != F.col("_local")
    kept_by = F.when(F.col("_national"), F.col("failed_clauses")).otherwise(F.col("_national_failed"))
    direction = F.when(F.col("_national"), F.lit(NATIONAL_ONLY)).otherwise(F.lit(LOCAL_ONLY))
    counted = (
        both.withColumns({"_kept_by": F.when(differs, kept_by).otherwise(F.array().cast("array<string>")),
                          "direction": F.when(differs, direction).otherwise(F.lit(_ALIKE))})
        .withColumn("clause_id", F.explode(F.concat(F.array(F.lit(_EVERY)), "_kept_by")))
        .groupBy(*by_year, "direction", "clause_id")
        .agg(F.count("*").alias("records"), F.count_if(F.size("_kept_by") == 1).alias("records_alone"))
    )  # fmt: skip
    periods = attrition.where("step = 0 AND records_in > 0").select(*_YEAR_OF_REVISION, "reading")
    every_clause = (
        periods.join(F.broadcast(steps_of(spark, local).where("step > 0")), ["policy_id", "revision", "reading"])
        .join(bound, "policy_id")
        .select(*by_year, F.lit(NATIONAL_ONLY).alias("direction"), "clause_id")
    )
    every = F.when(F.col("clause_id") == _EVERY, F.col("records")).otherwise(F.lit(0))
    year = Window.partitionBy(*by_year)
    return (
        every_clause.join(counted, [*by_year, "direction", "clause_id"], "full")
        .fillna(0, ["records", "records_alone"])
        .withColumns(
            {
                "records_compared": F.sum(every).over(year),
                "records_differing": F.sum(every).over(Window.partitionBy(*by_year, "direction")),
            }
        )
        .where(F.col("clause_id") != _EVERY)
    )
