"""What each decision alone adds to a reading or removes from it, and where local and national policies disagree.

Both count rows of ``gold/activity_flag``. Each row names the decisions that would change its outcome if reversed alone.
"""

from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.flags.apply_policies import FLAGGED
from ebi_spark.flags.attrition import attrition_steps
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.policies.model import RevisionPeriod
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.gold import POLICY_SENSITIVITY
from ebi_spark.tables.table import YEAR_OF_REVISION

_RECORD = ("financial_year", "source_system", "dataset", "record_id")
NATIONAL_ONLY, LOCAL_ONLY = "national_only", "local_only"
# Used only while counting: the direction of records on which both policies agree, and the clause id that stands for *all
# records of a direction*.
_ALIKE, _EVERY = "alike", "*"


def sensitivity(flags: DataFrame, attrition: DataFrame, periods: list[RevisionPeriod]) -> DataFrame:
    """The rows of ``gold/policy_sensitivity`` except ``run_id``.

    | base_reading | decision     | direction | in_scope | flagged | added | removed | flagged_flipped |
    |--------------|--------------|-----------|----------|---------|-------|---------|-----------------|
    | as_published | null_list    | made      | 1000     | 700     | 12    | 0       | 712             |
    | as_published | non_elective | made      | 1000     | 700     | 0     | 31      | 669             |
    | as_intended  | null_list    | undone    | 1000     | 681     | 0     | 12      | 669             |

    One row for each revision, base reading, decision and financial year with records, including decisions that change
    nothing. ``added`` and ``removed`` count the records that reversing this decision alone would add to the flagged ones or
    remove from them. The effects of several decisions need not add up (decision 10).
    """
    rows = [
        (
            period.policy.id, period.revision.name, flip.base, flip.decision, flip.source,
            "undone" if flip.undone else "made", flip.clause, flip.source_text, flip.rationale,
        )
        for period in periods
        for flip in period.revision.flips
    ]  # fmt: skip
    decisions = small_frame(
        flags.sparkSession,
        rows,
        "policy_id string, revision string, base_reading string, decision string, source string, direction string, "
        "clause_id string, words string, because string",
    )
    # The attrition already has the counts of records in scope and flagged.
    base = (
        attrition.groupBy(*YEAR_OF_REVISION, F.col("reading").alias("base_reading"))
        .agg(
            F.min_by("records_left", "step").alias("in_scope"),
            F.max_by("records_left", "step").alias("flagged"),
            F.max("records_in").alias("_read"),
        )
        .where("_read > 0")
    )
    flagged = F.col("outcome") == FLAGGED
    changed = (
        flags.withColumn("decision", F.explode("decisive_decisions"))
        .groupBy(*YEAR_OF_REVISION, F.col("reading").alias("base_reading"), "decision")
        .agg(F.count_if(~flagged).alias("added"), F.count_if(flagged).alias("removed"))
    )
    return (
        base.join(F.broadcast(decisions), ["policy_id", "revision", "base_reading"])
        .join(changed, [*YEAR_OF_REVISION, "base_reading", "decision"], "left")
        .fillna(0, ["added", "removed"])
        .withColumn("flagged_flipped", F.col("flagged") + F.col("added") - F.col("removed"))
    )


def comparison(flags: DataFrame, attrition: DataFrame, periods: list[RevisionPeriod]) -> DataFrame:
    """The rows of ``gold/policy_comparison`` except ``run_id``: records on which a local policy and the national policy that
    it extends disagree, among the records in scope of both.

    | direction     | clause_id | records | records_alone | records_differing | records_compared |
    |---------------|-----------|---------|---------------|-------------------|------------------|
    | national_only | age       | 5       | 4             | 6                 | 90               |
    | national_only | imaging   | 2       | 1             | 6                 | 90               |
    | local_only    | cancer    | 1       | 1             | 1                 | 90               |

    One row for each local revision, reading, financial year, direction and clause. ``national_only``: the national policy
    flags the record, and this clause of the local policy keeps it from being flagged; every clause of the local policy has
    a row, with 0 where it keeps none. ``local_only``: the local policy flags the record, and this clause of the national
    policy does not; only clauses with such records have a row. A record that fails several clauses counts for each of
    them; ``records_alone`` counts the records that fail this clause only.
    """
    spark = flags.sparkSession
    local = [period for period in periods if period.policy.boards and period.policy.extends]
    pairs = sorted({(period.policy.id, period.policy.extends) for period in local})
    extended = F.broadcast(small_frame(spark, pairs, "policy_id string, national_policy_id string"))
    flagged = F.col("outcome") == FLAGGED
    is_local, is_national = (F.col("policy_id").isin([pair[place] for pair in pairs]) for place in (0, 1))
    local_flags = flags.where(is_local).select(
        "policy_id", "revision", "reading", *_RECORD, flagged.alias("_local"), "failed_clauses"
    )
    national_flags = flags.where(is_national).select(
        F.col("policy_id").alias("national_policy_id"),
        "reading",
        *_RECORD,
        flagged.alias("_national"),
        F.col("failed_clauses").alias("_national_failed"),
    )
    # One board has far fewer patients than the nation, so its flags are broadcast.
    both = national_flags.join(
        F.broadcast(local_flags.join(extended, "policy_id")), ["national_policy_id", "reading", *_RECORD]
    )
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
    counted_years = attrition.where("step = 0 AND records_in > 0").select(*YEAR_OF_REVISION, "reading")
    every_clause = (
        counted_years.join(
            F.broadcast(attrition_steps(spark, local).where("step > 0")), ["policy_id", "revision", "reading"]
        )
        .join(extended, "policy_id")
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


def effect_of_decisions(lake: LocalLake, policy_id: str) -> list[dict[str, Any]]:
    """How many records each decision of a policy adds and removes if it is reversed, over all years of ``gold/policy_sensitivity``.
    A row for each revision, reading and decision; in each reading the decisions with the largest effect come first."""
    by = ["revision", "base_reading", "decision", "source", "direction"]
    totals = lake.grouped(POLICY_SENSITIVITY, by, ["flagged", "added", "removed"], {"policy_id": [policy_id]})
    return sorted(
        ({name: value for name, value in row.items() if name != "rows"} for row in totals),
        key=lambda row: (
            row["revision"],
            row["base_reading"],
            -row["added"] - row["removed"],
            row["decision"],
            row["source"],
        ),
    )
