"""How complete the records are: a provider's months against its own typical month, and what is known of months themselves.

A rate says nothing of a provider that sent half of a year. Counts here are of all records of a data set, not of a policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.flags.apply_policies import FLAGGED
from ebi_spark.tables.schemas import YEAR

# A month with less than half of the typical records is low; a provider with fewer than 20 a month can halve by chance.
LOW_SHARE = 0.5
LEAST_TYPICAL = 20


@dataclass(frozen=True)
class MarkedMonths:
    """Which months are to be read with care: the latest ``provisional`` months of a data set, since records are still to
    come, and those of the pandemic, from ``pandemic[0]`` to ``pandemic[1]`` (first days of months)."""

    provisional: int
    pandemic: tuple[date, date]

    def is_provisional(self, month: Column, latest: Column) -> Column:
        """Whether a month is among the latest of its data set, ``latest`` being the last."""
        return F.coalesce(month > F.add_months(latest, -self.provisional), F.lit(False))

    def is_pandemic(self, month: Column) -> Column:
        """Whether a month is one of the pandemic's."""
        return F.coalesce(month.between(*map(F.lit, self.pandemic)), F.lit(False))


def provider_months(records: DataFrame) -> DataFrame:
    """Dated records by data set, year, provider (NULL without one) and month (its first day)."""
    return (
        records.where("activity_date IS NOT NULL")
        .groupBy("dataset", YEAR, "provider_code", F.trunc("activity_date", "month").alias("month"))
        .agg(F.count("*").alias("records"))
    )


def completeness(counts: DataFrame, marked: MarkedMonths) -> DataFrame:
    """The rows of ``gold/provider_month`` but ``run_id``, from :func:`provider_months` of all years (a row a month).

    Every provider of a year has a row for every month in which the data set has any record, 0 included. Its typical month
    is the median of that year's months with records, leaving out those marked where that leaves any. ``low``: less than
    half of it, in a provider with 20 or more in a typical month. The pandemic's months are never low: they are marked.
    """
    key = ["dataset", YEAR, "provider_code"]
    # Windows rather than joins: the counts behind them are read once, and NULL is a provider like others.
    known = counts.select(
        *counts.columns,
        F.max("month").over(Window.partitionBy("dataset")).alias("latest"),
        F.collect_set("month").over(Window.partitionBy("dataset", YEAR)).alias("_months"),
    )
    filled = (
        known.groupBy(*key)
        .agg(
            F.first("latest").alias("latest"),
            F.first("_months").alias("_months"),
            F.map_from_entries(F.collect_list(F.struct("month", "records"))).alias("_counted"),
        )
        .select(*key, "latest", "_counted", F.explode("_months").alias("month"))
    )
    rows = filled.select(
        *key,
        "month",
        F.coalesce(F.try_element_at("_counted", "month"), F.lit(0)).cast("long").alias("records"),
        marked.is_provisional(F.col("month"), F.col("latest")).alias("provisional"),
        marked.is_pandemic(F.col("month")).alias("pandemic"),
    )
    there, plain = F.col("records") > 0, ~F.col("provisional") & ~F.col("pandemic")
    of_provider = Window.partitionBy(*key)
    typical = F.coalesce(
        F.percentile(F.when(there & plain, F.col("records")), F.lit(0.5)).over(of_provider),
        F.percentile(F.when(there, F.col("records")), F.lit(0.5)).over(of_provider),
    )
    share = F.col("records") / F.col("typical_month")
    low = (share < LOW_SHARE) & (F.col("typical_month") >= LEAST_TYPICAL) & ~F.col("pandemic")
    return rows.withColumn("typical_month", typical).withColumns({"share_of_typical": share, "low": low})


def months_with_activity(months: DataFrame) -> DataFrame:
    """How many calendar months of each data set and year have a record: ``dataset``, ``financial_year``, ``months``."""
    return months.where("records > 0").groupBy("dataset", YEAR).agg(F.count_distinct("month").alias("months"))


def activity_months(flags: DataFrame, read: DataFrame, policies: DataFrame, months: DataFrame) -> DataFrame:
    """The rows of ``gold/activity_month`` but ``run_id``: England's records of each policy reading by month.

    ``flags`` are rows of ``gold/activity_flag`` without records from outside England, ``read`` has a row a policy reading and year that was
    read, ``months`` are rows of ``gold/provider_month``: a month in which the data set has records and the policy none is
    a row of 0. Records without a date have a row of their own, without a month.
    """
    key = ["policy_id", "revision", "reading", YEAR]
    dataset = policies.select("policy_id", "dataset").distinct()
    empty = (
        read.join(F.broadcast(dataset), "policy_id")
        .join(F.broadcast(months.where("records > 0").select("dataset", YEAR, "month").distinct()), ["dataset", YEAR])
        .select(*key, "month", *[F.lit(0).cast("long").alias(name) for name in ("activity", "in_scope")])
    )
    counted = flags.groupBy(*key, F.trunc("activity_date", "month").alias("month")).agg(
        F.count_if(F.col("outcome") == FLAGGED).alias("activity"), F.count("*").alias("in_scope")
    )
    sums: Sequence[Column] = [F.sum(name).alias(name) for name in ("activity", "in_scope")]
    return empty.unionByName(counted).groupBy(*key, "month").agg(*sums)
