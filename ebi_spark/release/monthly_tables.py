"""Published tables by month: national activity, days between events of rare policies, and completeness."""

from collections.abc import Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.financial_years import start_of
from ebi_spark.geography.area_lists import ENGLAND_ONS
from ebi_spark.rates.completeness import MarkedMonths
from ebi_spark.rates.control_charts import LEAST_MONTHLY
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.table import POLICY_KEY, YEAR

# A provider's share of its typical month is published in tenths, and only where a tenth is ten records or more. So it
# reveals no count that a disclosure rule would suppress.
LEAST_TYPICAL_PUBLISHED = 100


def _latest(months: DataFrame, policies: DataFrame) -> DataFrame:
    """One row for each policy: ``policy_id`` and ``latest``, the last month in which its data set has records."""
    latest = months.where("records > 0").groupBy("dataset").agg(F.max("month").alias("latest"))
    return policies.select("policy_id", "dataset").distinct().join(latest, "dataset").drop("dataset")


def published_activity_months(
    activity: DataFrame, months: DataFrame, policies: DataFrame, marked: MarkedMonths
) -> DataFrame:
    """``gold/activity_month`` with the columns ``provisional`` and ``pandemic``.

    All figures are national and are therefore published unchanged. A row without a month has neither mark. Here two months are
    provisional, and the latest month with records is March 2024:

    | month      | activity | → provisional | pandemic |
    |------------|----------|---------------|----------|
    | 2020-04-01 | 3        | false         | true     |
    | 2024-01-01 | 30       | false         | false    |
    | 2024-02-01 | 21       | true          | false    |
    """
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
    """How many days it takes for a group of flagged records to occur in England, for rare policies.

    A policy is rare if it has fewer than ``LEAST_MONTHLY`` records in a month on average, too few for a monthly chart.
    ``activity`` has rows of ``published/activity_month``. A group consists of consecutive whole months and ends as soon as it
    has more records than the rule suppresses (8 records, where 1 to 7 are suppressed). Each row has the group's
    ``number``, ``events``, ``days`` in its months, last ``month`` and financial year. It says nothing that the published
    months do not say, and gives no date of a record. Only default readings and months that are not provisional are used.
    A gap between ``years`` starts a new series.

    | month   | activity | → number | events | days | month   |
    |---------|----------|----------|--------|------|---------|
    | 2021-04 | 5        |          |        |      |         |
    | 2021-05 | 4        | 1        | 9      | 61   | 2021-05 |
    | 2021-06 | 8        | 2        | 8      | 30   | 2021-06 |
    """
    least = int(rule["withhold"]["to"]) + 1
    spark = activity.sparkSession
    runs: list[tuple[str, int]] = []
    for number, year in enumerate(sorted(years)):
        follows = number and start_of(year).year == start_of(runs[-1][0]).year + 1
        runs.append((year, runs[-1][1] if follows else number))
    default = policies.where("is_default_reading").select(*POLICY_KEY).distinct()
    dated = activity.where("month IS NOT NULL")
    rare = (
        dated.groupBy(*POLICY_KEY)
        .agg(F.avg("activity").alias("_monthly"))
        .where(F.col("_monthly") < LEAST_MONTHLY)
        .select(*POLICY_KEY)
        .join(default, list(POLICY_KEY), "left_semi")
    )
    # A month that appears under several years (by admission and by discharge) is one month.
    months = (
        dated.where("NOT provisional")
        .join(F.broadcast(rare), list(POLICY_KEY), "left_semi")
        .join(F.broadcast(small_frame(spark, runs, f"{YEAR} string, run int")), YEAR)
        .groupBy(*POLICY_KEY, "run", "month")
        .agg(F.max(YEAR).alias(YEAR), F.sum("activity").alias("activity"))
    )
    ordered = months.groupBy(*POLICY_KEY, "run").agg(
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
        ordered.select(*POLICY_KEY, "run", F.inline(F.aggregate("_months", start, add, lambda state: state["groups"])))
        .withColumn("number", F.row_number().over(Window.partitionBy(*POLICY_KEY).orderBy("run", "month")))
        .select(
            *POLICY_KEY,
            YEAR,
            "number",
            F.col("events").cast("int").alias("events"),
            "month",
            "days",
            F.lit(rule_name).alias("disclosure"),
        )
    )


def published_completeness(months: DataFrame, rule_name: str, *, partial: bool) -> DataFrame:
    """How complete each month of a data set is: England's records, and each provider's share of its typical month.

    | month      | area_type | area_code | records | providers | providers_low | share_of_typical | low   |
    |------------|-----------|-----------|---------|-----------|---------------|------------------|-------|
    | 2021-05-01 | england   | E92000001 | 91200   | 141       | 1             | NULL             | NULL  |
    | 2021-05-01 | provider  | RX1       | NULL    | NULL      | NULL          | 0.4              | true  |
    | 2021-05-01 | provider  | RX2       | NULL    | NULL      | NULL          | 1.1              | false |

    ``months`` has rows of ``gold/provider_month`` with their marks. No count of a provider is published. Its share is rounded to
    tenths. A provider with fewer than ``LEAST_TYPICAL_PUBLISHED`` records in a typical month has no row, because a row that
    appears or disappears would show when it has a record. England's numbers of providers leave such providers out too.
    With ``partial`` coverage there are no rows for England.
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
            "area_code": F.lit(ENGLAND_ONS),
            "share_of_typical": F.lit(None).cast("double"),
            "low": F.lit(None).cast("boolean"),
            "status": F.lit("ok"),
        }
    ).select(*providers.columns)
    frame = providers if partial else national.unionByName(providers)
    return frame.withColumn("disclosure", F.lit(rule_name))
