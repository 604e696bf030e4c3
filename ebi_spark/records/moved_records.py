"""Handles records that move from one year to another between ingests.

A refresh replaces whole years. If a year is in the lake from a configured file, and no file has rows of it now, it is
emptied, so that no record counts twice. A year that the run does not replace (it was not requested, or its files are
not configured) must have none of the records that the run writes.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import DataError
from ebi_spark.lake.storage import Lake
from ebi_spark.records.file_counts import ClassifiedTable, FileCounts
from ebi_spark.records.row_status import VALID
from ebi_spark.sources.file_inventory import is_configured
from ebi_spark.tables.silver import QUARANTINE, RECORD_TABLES
from ebi_spark.tables.table import UNKNOWN_YEAR, YEAR, Table


def emptied_years(
    lake: Lake,
    config: RunConfig,
    present: Collection[str],
    asked: Collection[str] | None,
) -> dict[str, frozenset[str]]:
    """Years that the lake has from files that the configuration names, and that are not ``present`` in any source file
    now. Each comes with these files, whether they have changed or gone. Only years in ``asked`` (None: all years).
    Years of files that are not configured are left out.

    | in the lake: year, file | file is configured | files have the year now | → emptied      |
    |-------------------------|--------------------|-------------------------|----------------|
    | 2019-20, a.csv          | yes                | no                      | 2019-20: a.csv |
    | 2020-21, a.csv          | yes                | yes                     | no             |
    | 2018-19, old.csv        | no                 | no                      | no             |
    """
    parts: list[DataFrame] = []
    for table in (*RECORD_TABLES.values(), QUARANTINE):
        if lake.exists(table):
            absent = set(lake.years(table)) - {*present, UNKNOWN_YEAR}
            if asked is not None:
                absent &= set(asked)
            if absent:
                parts.append(lake.read(table).where(F.col(YEAR).isin(*absent)).select(YEAR, "source_file").distinct())
    found: dict[str, set[str]] = {}
    for row in reduce(DataFrame.unionByName, parts).distinct().collect() if parts else []:
        if is_configured(row["source_file"], config.sources):
            found.setdefault(row[YEAR], set()).add(row["source_file"])
    return {year: frozenset(files) for year, files in found.items()}


def refuse_in_two_years(
    lake: Lake,
    classified: list[ClassifiedTable],
    found: FileCounts,
    config: RunConfig,
    replaced: Collection[str],
    in_files: Collection[str],
) -> None:
    """Raise :class:`DataError` where a run would leave a record both in a year that it replaces and in another.

    This is so when the lake has a key of a ``replaced`` year in another year, or when one of the files has rows
    there in the lake and has no rows of that year any more. ``in_files`` are the years that source files have rows
    of.
    """
    for dataset, table in RECORD_TABLES.items():
        others = sorted(set(lake.years(table)) - set(replaced)) if lake.exists(table) else []
        items = [item for item in classified if item.dataset == dataset and item.records is not None]
        if not others or not items:
            continue
        keys = [
            item.having(VALID).select(F.lit(item.table.system).alias("source_system"), "record_id") for item in items
        ]
        incoming = reduce(DataFrame.unionByName, keys).withColumn("_met", F.lit(1))
        existing = lake.read(table).where(F.col(YEAR).isin(*others))
        joined = existing.select(YEAR, "source_file", "source_system", "record_id").join(
            incoming, ["source_system", "record_id"], "left"
        )
        duplicated: Counter[str] = Counter()
        emptied: dict[str, set[str]] = {}
        for row in joined.groupBy(YEAR, "source_file").agg(F.count("_met").alias("keys")).collect():
            if row["keys"]:
                duplicated[row[YEAR]] += row["keys"]
            path = row["source_file"]
            now = [counts[path] for counts in (found.files[item.table_id] for item in items) if path in counts]
            if now and not any(year == row[YEAR] for count in now for year, _ in count.outcome_checksums):
                emptied.setdefault(row[YEAR], set()).add(path.rpartition("/")[2])
        if duplicated or emptied:
            raise _in_two_years(lake, table, config, duplicated, emptied, replaced, in_files)


def _in_two_years(
    lake: Lake,
    table: Table,
    config: RunConfig,
    duplicated: Mapping[str, int],
    emptied: Mapping[str, Collection[str]],
    replaced: Collection[str],
    in_files: Collection[str],
) -> DataError:
    found = [
        f"{number:,} record{'s' if number > 1 else ''} of {', '.join(sorted(replaced))} "
        f"{'are' if number > 1 else 'is'} in the lake under {year} too"
        for year, number in sorted(duplicated.items())
    ]
    found += [f"{', '.join(sorted(files))} no longer has rows of {year}" for year, files in sorted(emptied.items())]
    others = {*duplicated, *emptied}
    lacking = sorted(others - {*in_files, *emptied_years(lake, config, in_files, others)})
    years = ",".join(sorted({*replaced, *others}))
    add = f"add the source files of {', '.join(lacking)} to the configuration and " if lacking else ""
    again = f"run again with `--years {years}`" if config.years else "run again"
    return DataError(
        f"{table.full_name}: {'; '.join(found)}, and this run does not replace {', '.join(sorted(others))}: records would "
        "count twice; nothing was replaced",
        remedy=f"{add}{again}",
    )
