"""What one revision of a policy changes against another: the same records judged by both, whatever their day."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.flags.apply_policies import FLAGGED, apply_policies
from ebi_spark.geography.record_areas import Lookups
from ebi_spark.policies.model import Policy, Revision, RevisionPeriod


def revision_effect(
    records: DataFrame, policy: Policy, before: Revision, after: Revision, lookups: Lookups
) -> DataFrame:
    """A row a reading, financial year and area of the records (``area_code``, NULL where unknown): records in scope and
    flagged under each revision, and how many of the flagged ``enter`` (only ``after`` flags them) and ``leave`` (only
    ``before`` does). All counts, in one pass over ``records``.
    """
    units = [RevisionPeriod(policy, revision, None, None) for revision in (before, after)]
    judged = apply_policies(records, policy.dataset, units, lookups)
    old, new = (F.col("revision") == revision.name for revision in (before, after))
    flagged = F.col("outcome") == FLAGGED
    by_record = judged.groupBy("reading", "financial_year", "area_code", "source_system", "dataset", "record_id").agg(
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


def sum_over_areas(by_area: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of :func:`revision_effect` added up over areas, by reading and year."""
    totals: dict[tuple[str, str], Counter[str]] = {}
    for row in by_area:
        counts = {
            name: number for name, number in row.items() if name not in ("reading", "financial_year", "area_code")
        }
        totals.setdefault((row["reading"], row["financial_year"]), Counter()).update(counts)
    names = ("reading", "financial_year")
    return [{**dict(zip(names, key, strict=True)), **counts} for key, counts in sorted(totals.items())]
