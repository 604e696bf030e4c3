"""Finds one record of a lake by its key, and explains it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.flags.explain import Explanation, explain_records, possible_keys, with_key
from ebi_spark.geography.lookup_files import read_provider_names
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.code_books import code_books
from ebi_spark.policies.model import Policy
from ebi_spark.tables.gold import ACTIVITY_FLAG
from ebi_spark.tables.silver import RECORD_TABLES
from ebi_spark.tables.star import DIM_AREA
from ebi_spark.tables.table import YEAR


def years_with_record(lake: LocalLake, asked: str, datasets: Iterable[str]) -> dict[str, list[str]]:
    """By data set, the years in which the lake has a record with this key. Spark then reads these years only."""
    found = {}
    for dataset in datasets:
        table = RECORD_TABLES[dataset]
        rows = lake.rows_if_there(table, [YEAR], {"record_id": possible_keys(asked)})
        found[dataset] = sorted({row[YEAR] for row in rows})
    return found


def provider_names(lake: LocalLake, lookup: Path | None = None) -> dict[str, str]:
    """The names of providers by their codes: those of the current release and those in ``lookup``, the file of
    `geography.providers`, which decides where both have one."""
    columns, where = ["ods_code", "area_name"], {"area_type": ["provider"]}
    rows = lake.rows_if_there(DIM_AREA, columns, where)
    released = {row["ods_code"]: row["area_name"] for row in rows if row["area_name"] != row["ods_code"]}
    return released | (read_provider_names(lookup) if lookup else {})


def explain_in_lake(
    lake: Lake,
    asked: str,
    years: Mapping[str, Sequence[str]],
    policies: Sequence[Policy],
    names: Mapping[str, str] | None = None,
) -> list[Explanation]:
    """The explanation of each record with this key. ``years``: where the records are, by data set, as
    :func:`years_with_record` found them. ``names``: those of providers, as :func:`provider_names` found them."""
    found: list[Explanation] = []
    for dataset, in_years in years.items():
        if in_years:
            meant = with_key(asked) & (F.col("dataset") == dataset) & F.col(YEAR).isin(*in_years)
            own = [policy for policy in policies if policy.dataset == dataset]
            applied = _applied_policies(lake, meant) if any(policy.boards for policy in own) else None
            records = lake.read(RECORD_TABLES[dataset]).where(meant)
            found += explain_records(records, own, code_books(), applied, provider_names=names)
    return found


def _applied_policies(lake: Lake, meant: Column) -> set[str] | None:
    """The policies that a run applied to the records; None if the lake has no flags."""
    if not lake.exists(ACTIVITY_FLAG) or not lake.years(ACTIVITY_FLAG):
        return None
    rows = lake.read(ACTIVITY_FLAG).where(meant).select("policy_id").distinct().collect()
    return {row["policy_id"] for row in rows}
