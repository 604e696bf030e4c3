"""Computes the flags and the attrition of some years of a lake, for the flag stage and for a replay."""

from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.flags.apply_policies import apply_policies, scope_totals
from ebi_spark.flags.attrition import attrition
from ebi_spark.geography.record_areas import Lookups
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.model import RevisionPeriod
from ebi_spark.tables.silver import RECORD_TABLES
from ebi_spark.tables.table import YEAR


@dataclass(frozen=True)
class ComputedFlags:
    """``flags``: the rows of ``gold/activity_flag`` except ``run_id``, one for each record in scope, revision and reading
    (:func:`~ebi_spark.flags.apply_policies.apply_policies` has an example)."""

    flags: DataFrame
    _records: dict[str, DataFrame]
    _periods: list[RevisionPeriod]

    def attrition(self, written: DataFrame) -> DataFrame:
        """The rows of ``gold/policy_attrition`` except ``run_id``: one for each revision, reading, year and step.
        ``written``: the same flags as the table has them, which saves applying the policies again."""
        totals = [scope_totals(frame, dataset, self._periods) for dataset, frame in self._records.items()]
        return attrition(written, reduce(DataFrame.unionByName, totals), self._periods)


def compute_flags(lake: Lake, years: list[str], periods: list[RevisionPeriod], lookups: Lookups) -> ComputedFlags:
    """Apply the policies to the silver records of the given financial years, in one pass for each dataset."""
    records = {dataset: lake.read(table).where(F.col(YEAR).isin(years)) for dataset, table in RECORD_TABLES.items()}
    flags = [apply_policies(frame, dataset, periods, lookups) for dataset, frame in records.items()]
    return ComputedFlags(reduce(DataFrame.unionByName, flags), records, periods)
