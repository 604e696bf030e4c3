"""Computes the flags and the attrition of some years of a lake, for the flag stage and for a replay."""

from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.flags.apply_policies import apply_policies, scope_totals
from ebi_spark.flags.attrition import attrition
from ebi_spark.geography.record_areas import Lookups
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.model import RevisionPeriod
from ebi_spark.tables.schemas import RECORD_TABLES, YEAR


def records_by_dataset(lake: Lake, years: list[str]) -> dict[str, DataFrame]:
    """The silver records of the given financial years, by dataset (``apc``, ``op``)."""
    return {dataset: lake.read(table).where(F.col(YEAR).isin(years)) for dataset, table in RECORD_TABLES.items()}


def compute_flags(records: dict[str, DataFrame], chosen: list[RevisionPeriod], lookups: Lookups) -> DataFrame:
    """The rows of ``gold/activity_flag`` except ``run_id``: one for each record in scope, revision and reading."""
    flags = [apply_policies(frame, dataset, chosen, lookups) for dataset, frame in records.items()]
    return reduce(DataFrame.unionByName, flags)


def compute_attrition(records: dict[str, DataFrame], flags: DataFrame, chosen: list[RevisionPeriod]) -> DataFrame:
    """The rows of ``gold/policy_attrition`` except ``run_id``: one for each revision, reading, year and step."""
    totals = [scope_totals(frame, dataset, chosen) for dataset, frame in records.items()]
    return attrition(flags, reduce(DataFrame.unionByName, totals), chosen)
