"""What is published by month: national activity, the days between the events of rare policies, and completeness."""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.financial_years import start_of
from ebi_spark.flags.areas import OUTSIDE_ENGLAND
from ebi_spark.flags.judge import FLAGGED
from ebi_spark.rates.completeness import MarkedMonths
from ebi_spark.rates.control_charts import LEAST_MONTHLY
from ebi_spark.schemas import YEAR
from ebi_spark.small_frames import small_frame

# A provider's share of its typical month is given in tenths, and only where a tenth is ten records or more: so it tells
# no count that a disclosure rule would withhold.
LEAST_TYPICAL_PUBLISHED = 100

_READING = ("policy_id", "revision", "reading")


def _latest(months: DataFrame, policies: DataFrame) -> DataFrame:
    """A row a policy: ``latest``, the last month that its data set has records of."""
    latest = months.where("records > 0").groupBy("dataset").agg(F.max("month").alias("latest"))
    return policies.select("policy_id", "dataset").distinct().join(latest, "dataset").drop("dataset")


def published_activity_months(
    activity: DataFrame, months: DataFrame, policies: DataFrame, marked: MarkedMonths
) -> DataFrame:
    """``gold/activity_month`` with its marked months. All of it is national, and national figures stand."""
    latest = F.broadcast(_latest(months, policies))
    return activity.join(latest, "policy_id", "left").withColumns(
        {
            "provisional": marked.is_provisional(F.col("month"), F.col("latest")),
            "pandemic": marked.is_pandemic(F.col("month")),
        }
    )


def days_between(
    flags: DataFrame,
    activity: DataFrame,
    months: DataFrame,
    policies: DataFrame,
    marked: MarkedMonths,
    rule_name: str,
    rule: dict[str, Any],
    years: Sequence[str],
) -> DataFrame:
    """Days between one group of flagged records in England and the next, of policies too rare for months to carry a chart.

    A row a group of so many records, in the order of their dates, that no rule withholds the count (8 where 1 to 7 are):
    ``number``, ``events``, ``month`` and year of the group's last record, ``days`` since the last record of the group
    before. Default readings; dated records of months that are not provisional; ``years`` that do not follow one another
    start anew. Rare: fewer than ``LEAST_MONTHLY`` records in a month on average.
    """
    group = int(rule["withhold"]["to"]) + 1
    spark = flags.sparkSession
    runs: list[tuple[str, int]] = []
    for number, year in enumerate(sorted(years)):
        follows = number and start_of(year).year == start_of(runs[-1][0]).year + 1
        runs.append((year, runs[-1][1] if follows else number))
    default = policies.where("is_default_reading").select(*_READING).distinct()
    rare = (
        activity.where("month IS NOT NULL")
        .groupBy(*_READING)
        .agg(F.avg("activity").alias("_monthly"))
        .where(F.col("_monthly") < LEAST_MONTHLY)
        .select(*_READING)
        .join(default, list(_READING), "left_semi")
    )
    events = (
        flags.where((F.col("outcome") == FLAGGED) & (F.col("area_basis") != OUTSIDE_ENGLAND) & F.col("activity_date").isNotNull())
        .join(F.broadcast(rare), list(_READING), "left_semi")
        .join(F.broadcast(_latest(months, policies)), "policy_id")
        .where(~marked.is_provisional(F.trunc("activity_date", "month"), F.col("latest")))
        .join(F.broadcast(small_frame(spark, runs, f"{YEAR} string, run int")), YEAR)
    )  # fmt: skip
    within = Window.partitionBy(*_READING, "run")
    numbered = events.withColumn("_rank", F.row_number().over(within.orderBy("activity_date", "record_id")))
    ends = numbered.where(F.col("_rank") % group == 0)
    last = F.lag("activity_date").over(within.orderBy("_rank"))
    return (
        ends.withColumn("days", F.date_diff("activity_date", last))
        .where("days IS NOT NULL")
        .withColumn("number", F.row_number().over(Window.partitionBy(*_READING).orderBy("run", "_rank")))
        .select(
            *_READING,
            YEAR,
            "number",
            F.lit(group).alias("events"),
            F.trunc("activity_date", "month").alias("month"),
            "days",
            F.lit(rule_name).alias("disclosure"),
        )
    )


def published_completeness(months: DataFrame, rule_name: str, *, partial: bool) -> DataFrame:
    """Completeness of a data set by month: England's records, and each provider's share of its typical month.

    No count of a provider is given. Its share is in tenths, and only where it has ``LEAST_TYPICAL_PUBLISHED`` records in
    a typical month; else it is withheld. Under ``partial`` coverage nothing is called England.
    """
    key = ["dataset", YEAR, "month"]
    named = months.where("provider_code IS NOT NULL")
    large = F.col("typical_month") >= LEAST_TYPICAL_PUBLISHED
    providers = named.select(
        *key,
        F.lit("provider").alias("area_type"),
        F.col("provider_code").alias("area_code"),
        F.lit(None).cast("long").alias("records"),
        F.lit(None).cast("long").alias("providers"),
        F.lit(None).cast("long").alias("providers_low"),
        F.when(large, F.round("share_of_typical", 1)).alias("share_of_typical"),
        F.when(large, F.col("low")).alias("low"),
        "provisional",
        "pandemic",
        F.when(large, F.lit("ok")).otherwise(F.lit("withheld_small")).alias("status"),
    )
    england = months.groupBy(*key, "provisional", "pandemic").agg(
        F.sum("records").alias("records"),
        F.count_if(F.col("provider_code").isNotNull() & (F.col("records") > 0)).alias("providers"),
        F.count_if(F.col("provider_code").isNotNull() & F.col("low")).alias("providers_low"),
    )
    national = england.withColumns(
        {
            "area_type": F.lit("england"),
            "area_code": F.lit("E92000001"),
            "share_of_typical": F.lit(None).cast("double"),
            "low": F.lit(None).cast("boolean"),
            "status": F.lit("ok"),
        }
    ).select(*providers.columns)
    frame = providers if partial else national.unionByName(providers)
    return frame.withColumn("disclosure", F.lit(rule_name))
