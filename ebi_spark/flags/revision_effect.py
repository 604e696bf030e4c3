"""Compares two revisions of a policy on the same records, whatever the records' dates."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.flags.apply_policies import FLAGGED, apply_policies
from ebi_spark.geography.record_areas import Lookups, read_lookups
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.model import Policy, Revision, RevisionPeriod
from ebi_spark.tables.silver import RECORD_TABLES


def revision_effect(
    records: DataFrame, policy: Policy, before: Revision, after: Revision, lookups: Lookups
) -> DataFrame:
    """One row for each reading, financial year and area (``area_code``, NULL where unknown). All figures count records.

    | reading      | area_code | in_scope_before | in_scope_after | flagged_before | flagged_after | enter | leave |
    |--------------|-----------|-----------------|----------------|----------------|---------------|-------|-------|
    | as_published | 15N       | 120             | 131            | 80             | 85            | 7     | 2     |
    | as_published | 15E       | 60              | 60             | 41             | 38            | 0     | 3     |
    | as_published | NULL      | 4               | 4              | 2              | 2             | 0     | 0     |

    ``in_scope_before``, ``in_scope_after``, ``flagged_before`` and ``flagged_after`` count records under each revision.
    ``enter`` counts records that only ``after`` flags, ``leave`` those that only ``before`` flags. ``records`` are rows of
    the policy's silver table and are read once.
    """
    periods = [RevisionPeriod(policy, revision, None, None) for revision in (before, after)]
    flags = apply_policies(records, policy.dataset, periods, lookups)
    old, new = (F.col("revision") == revision.name for revision in (before, after))
    flagged = F.col("outcome") == FLAGGED
    by_record = flags.groupBy("reading", "financial_year", "area_code", "source_system", "dataset", "record_id").agg(
        F.bool_or(old).alias("in_scope_before"),
        F.bool_or(new).alias("in_scope_after"),
        F.bool_or(old & flagged).alias("before"),
        F.bool_or(new & flagged).alias("after"),
    )
    return by_record.groupBy("reading", "financial_year", "area_code").agg(
        F.count_if("in_scope_before").alias("in_scope_before"),
        F.count_if("in_scope_after").alias("in_scope_after"),
        F.count_if("before").alias("flagged_before"),
        F.count_if("after").alias("flagged_after"),
        F.count_if(F.col("after") & ~F.col("before")).alias("enter"),
        F.count_if(F.col("before") & ~F.col("after")).alias("leave"),
    )


def effect_in_lake(
    lake: Lake, config: RunConfig, policy: Policy, before: Revision, after: Revision
) -> list[dict[str, Any]]:
    """The rows of :func:`revision_effect` for all records of the lake, sorted by reading, year and area. ``config`` names the lookups
    that give a record its area."""
    records = lake.read(RECORD_TABLES[policy.dataset])
    effect = revision_effect(records, policy, before, after, read_lookups(lake.spark, config))
    return sorted(
        (row.asDict() for row in effect.collect()),
        key=lambda row: (row["reading"], row["financial_year"], row["area_code"] or ""),
    )


def sum_over_areas(by_area: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The counts of :func:`revision_effect` added up over all areas: one item for each reading and financial year.

    | reading      | financial_year | area_code | enter | leave | → financial_year | enter | leave |
    |--------------|----------------|-----------|-------|-------|------------------|-------|-------|
    | as_published | 2021-22        | 15N       | 7     | 2     | 2021-22          | 7     | 5     |
    | as_published | 2021-22        | 15E       | 0     | 3     |                  |       |       |
    | as_published | 2022-23        | 15N       | 1     | 0     | 2022-23          | 1     | 0     |
    """
    totals: dict[tuple[str, str], Counter[str]] = {}
    for row in by_area:
        counts = {
            name: number for name, number in row.items() if name not in ("reading", "financial_year", "area_code")
        }
        totals.setdefault((row["reading"], row["financial_year"]), Counter()).update(counts)
    names = ("reading", "financial_year")
    return [{**dict(zip(names, key, strict=True)), **counts} for key, counts in sorted(totals.items())]
