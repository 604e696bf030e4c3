"""How complete the records are: each provider's months compared with its own typical month, and months to read with care.

A rate does not show that a provider sent only half a year of records. Counts here are of all records of a data set, not of
a policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from ebi_spark.flags.apply_policies import FLAGGED
from ebi_spark.tables.table import POLICY_KEY, YEAR

# A month with less than half of the typical number of records is low. Below 20 records a month, a halving can be chance.
LOW_SHARE = 0.5
LEAST_TYPICAL = 20


@dataclass(frozen=True)
class MarkedMonths:
    """Months to read with care: the latest ``provisional`` months of a data set, for which records are still to come, and
    the months of the pandemic, from ``pandemic[0]`` to ``pandemic[1]`` (first days of months, both included)."""

    provisional: int
    pandemic: tuple[date, date]

    def is_provisional(self, month: Column, latest: Column) -> Column:
        """Whether a month is among the latest of its data set; ``latest`` is the last month with records."""
        return F.coalesce(month > F.add_months(latest, -self.provisional), F.lit(False))

    def is_pandemic(self, month: Column) -> Column:
        """Whether a month is one of the months of the pandemic."""
        return F.coalesce(month.between(*map(F.lit, self.pandemic)), F.lit(False))


def provider_months(records: DataFrame) -> DataFrame:
    """One row for each data set, year, provider (NULL where missing) and month (its first day): ``records``, a count.

    | provider_code | activity_date | → provider_code | month      | records |
    |---------------|---------------|-----------------|------------|---------|
    | RX1           | 2021-04-03    | RX1             | 2021-04-01 | 2       |
    | RX1           | 2021-04-30    | NULL            | 2021-05-01 | 1       |
    | NULL          | 2021-05-02    |                 |            |         |

    Records without a date are left out.
    """
    return (
        records.where("activity_date IS NOT NULL")
        .groupBy("dataset", YEAR, "provider_code", F.trunc("activity_date", "month").alias("month"))
        .agg(F.count("*").alias("records"))
    )


def completeness(counts: DataFrame, marked: MarkedMonths) -> DataFrame:
    """The rows of ``gold/provider_month`` except ``run_id``, from the rows of :func:`provider_months` for all years. Three months
    of a provider that has 100 records in each of the other months of the year:

    | provider_code | month      | records | → typical_month | share_of_typical | low   |
    |---------------|------------|---------|-----------------|------------------|-------|
    | RX1           | 2021-04-01 | 100     | 100.0           | 1.0              | false |
    | RX1           | 2021-05-01 | 40      | 100.0           | 0.4              | true  |
    | RX1           | 2021-06-01 | 0       | 100.0           | 0.0              | true  |

    Every provider of a year has a row for every month of that year in which the data set has any record, with 0 where the
    provider has none. ``typical_month`` is the median number of records over the provider's months of that year that have
    records. Provisional and pandemic months are left out of the median unless there are no others. A month is ``low`` if it
    has less than half of the typical number and the typical number is 20 or more. Pandemic months are never low.
    """
    key = ["dataset", YEAR, "provider_code"]
    # Windows instead of joins: the counts are read once, and NULL is treated as a provider like any other.
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
    provider_window = Window.partitionBy(*key)
    typical = F.coalesce(
        F.percentile(F.when(there & plain, F.col("records")), F.lit(0.5)).over(provider_window),
        F.percentile(F.when(there, F.col("records")), F.lit(0.5)).over(provider_window),
    )
    share = F.col("records") / F.col("typical_month")
    low = (share < LOW_SHARE) & (F.col("typical_month") >= LEAST_TYPICAL) & ~F.col("pandemic")
    return rows.withColumn("typical_month", typical).withColumns({"share_of_typical": share, "low": low})


def activity_months(flags: DataFrame, read: DataFrame, policies: DataFrame, months: DataFrame) -> DataFrame:
    """The rows of ``gold/activity_month`` except ``run_id``: England's flagged and in-scope records by month.

    One row for each policy, revision, reading and month. A month in which the data set has records and the policy has none
    has a row with 0. Records without a date are counted in a row whose month is NULL.

    | policy_id | reading      | month      | activity | in_scope |
    |-----------|--------------|------------|----------|----------|
    | P         | as_published | 2021-04-01 | 30       | 41       |
    | P         | as_published | 2021-05-01 | 0        | 0        |
    | P         | as_published | NULL       | 1        | 2        |

    ``flags`` are rows of ``gold/activity_flag`` without records from outside England. ``read`` has one row for each policy,
    revision, reading and year with records. ``months`` are rows of ``gold/provider_month``.
    """
    key = [*POLICY_KEY, YEAR]
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
