"""What is published by month: national activity, the days between the events of rare policies, and completeness."""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.financial_years import start_of
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
    activity: DataFrame, policies: DataFrame, rule_name: str, rule: dict[str, Any], years: Sequence[str]
) -> DataFrame:
    """Days in which a group of flagged records in England came together, of policies too rare for months to carry a chart.

    ``activity``: rows of ``published/activity_month``. A group is as many whole months, one after another, as it takes to have
    more records than any rule withholds (8 where 1 to 7 are): ``number``, ``events``, ``days`` of its months, its last ``month``
    and year. So it holds nothing but what the months say, and no date of a record. Default readings; months that are not
    provisional; ``years`` that do not follow one another start a new series. Rare: fewer than ``LEAST_MONTHLY`` records in a
    month on average.
    """
    least = int(rule["withhold"]["to"]) + 1
    spark = activity.sparkSession
    runs: list[tuple[str, int]] = []
    for number, year in enumerate(sorted(years)):
        follows = number and start_of(year).year == start_of(runs[-1][0]).year + 1
        runs.append((year, runs[-1][1] if follows else number))
    default = policies.where("is_default_reading").select(*_READING).distinct()
    dated = activity.where("month IS NOT NULL")
    rare = (
        dated.groupBy(*_READING)
        .agg(F.avg("activity").alias("_monthly"))
        .where(F.col("_monthly") < LEAST_MONTHLY)
        .select(*_READING)
        .join(default, list(_READING), "left_semi")
    )
    # A month under several years (by admission and discharge) is one month.
    months = (
        dated.where("NOT provisional")
        .join(F.broadcast(rare), list(_READING), "left_semi")
        .join(F.broadcast(small_frame(spark, runs, f"{YEAR} string, run int")), YEAR)
        .groupBy(*_READING, "run", "month")
        .agg(F.max(YEAR).alias(YEAR), F.sum("activity").alias("activity"))
    )
    ordered = months.groupBy(*_READING, "run").agg(
        F.array_sort(F.collect_list(F.struct("month", "activity", YEAR))).alias("_months")
    )
    days = "struct<month:date,financial_year:string,events:bigint,days:int>"
    start = F.struct(
        F.array().cast(f"array<{days}>").alias("groups"), F.lit(0).cast("long").alias("events"), F.lit(0).alias("days")
    )

    def add(state: Column, month: Column) -> Column:
        events = state["events"] + month["activity"]
        length = state["days"] + F.date_diff(F.add_months(month["month"], 1), month["month"])
        group = F.struct(
            month["month"].alias("month"), month[YEAR].alias(YEAR), events.alias("events"), length.alias("days")
        )
        full = events >= least
        return F.struct(
            F.when(full, F.concat(state["groups"], F.array(group))).otherwise(state["groups"]).alias("groups"),
            F.when(full, F.lit(0).cast("long")).otherwise(events).alias("events"),
            F.when(full, F.lit(0)).otherwise(length).alias("days"),
        )

    return (
        ordered.select(*_READING, "run", F.inline(F.aggregate("_months", start, add, lambda state: state["groups"])))
        .withColumn("number", F.row_number().over(Window.partitionBy(*_READING).orderBy("run", "month")))
        .select(
            *_READING,
            YEAR,
            "number",
            F.col("events").cast("int").alias("events"),
            "month",
            "days",
            F.lit(rule_name).alias("disclosure"),
        )
    )


def published_completeness(months: DataFrame, rule_name: str, *, partial: bool) -> DataFrame:
    """Completeness of a data set by month: England's records, and each provider's share of its typical month.

    No count of a provider is given. Its share is in tenths, and only where it has ``LEAST_TYPICAL_PUBLISHED`` records in
    a typical month; a smaller one has no row, whose coming or going would say when it has a record, and is not in England's
    numbers of providers either. Under ``partial`` coverage nothing is called England.
    """
    key = ["dataset", YEAR, "month"]
    large = F.col("provider_code").isNotNull() & (F.col("typical_month") >= LEAST_TYPICAL_PUBLISHED)
    named = months.where(large)
    providers = named.select(
        *key,
        F.lit("provider").alias("area_type"),
        F.col("provider_code").alias("area_code"),
        F.lit(None).cast("long").alias("records"),
        F.lit(None).cast("long").alias("providers"),
        F.lit(None).cast("long").alias("providers_low"),
        F.round("share_of_typical", 1).alias("share_of_typical"),
        "low",
        "provisional",
        "pandemic",
        F.lit("ok").alias("status"),
    )
    england = months.groupBy(*key, "provisional", "pandemic").agg(
        F.sum("records").alias("records"),
        F.count_if(large).alias("providers"),
        F.count_if(large & F.col("low")).alias("providers_low"),
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
