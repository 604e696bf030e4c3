"""From source tables to silver: judge, survey before anything is written, write each table once, set aside, account.

What is judged is one lazy frame a source table; the survey reads only its light columns (keys, dates), the silver write
its canonical columns, the quarantine its raw text.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial, reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.acquire.tables import SourceTable, raw_json
from ebi_spark.acquire.watch import refuse_changed
from ebi_spark.canonical import hes, sus_plus
from ebi_spark.canonical.copies import Suspects, first_look, settle, with_copies_settled
from ebi_spark.canonical.judging import DUPLICATE, OUTSIDE, QUARANTINED, VALID, disposition, keep
from ebi_spark.errors import DataError, InputError
from ebi_spark.schemas import APC_SPELL, INGEST_AUDIT, OP_ATTENDANCE, QUARANTINE, YEAR, Table
from ebi_spark.settings import RunConfig
from ebi_spark.small_frames import small_frame
from ebi_spark.storage import Lake, conform, side_by_side

UNKNOWN_YEAR = "unknown"
SILVER = {"apc": APC_SPELL, "op": OP_ATTENDANCE}
# Rows lie sorted inside each file by what rules ask for first, so that Parquet's page index can skip the rest.
SORTED_BY = {"apc": (YEAR, "dominant_procedure_4"), "op": (YEAR, "procedure_codes")}


@dataclass
class Judged:
    """One source table judged: ``rows`` a row a source row, ``records`` what is valid of it as canonical records
    (None for a table that only completes another)."""

    table: SourceTable
    dataset: str
    rows: DataFrame
    records: DataFrame | None


@dataclass
class FileCount:
    """What became of the rows of one file."""

    bytes: int | None = None
    modified: datetime | None = None
    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    year_disagrees: int = 0


@dataclass
class Survey:
    """Counts by (system, role) and file, and the years found in usable rows by dataset, each with its valid rows (of the
    tables that records are made of)."""

    files: dict[tuple[str, str], dict[str, FileCount]]
    years: dict[str, dict[str, int]]

    def total(self, kind: str) -> int:
        """Rows of one disposition over all files."""
        return sum(count.rows[kind] for files in self.files.values() for count in files.values())


@dataclass
class Ingested:
    """What an ingest did, for the summary."""

    years: list[str]
    records: dict[str, int]
    rows_read: int
    rows_quarantined: int
    reasons: dict[str, int]


def judge(
    lake: Lake, tables: Iterable[SourceTable], suspects: dict[tuple[str, str], Suspects], config: RunConfig
) -> list[Judged]:
    """Every source table judged; APCS_Der joins the spells of its own system. ``suspects``: the keys of each table that
    may stand in more than one row."""
    by_role = {(table.system, table.role): table for table in tables}
    settled = {place: with_copies_settled(lake, table, suspects[place]) for place, table in by_role.items()}
    judged: list[Judged] = []
    for (system, role), table in by_role.items():
        rows = settled[system, role]
        if role == "apcs":
            spells = sus_plus.judge_spells(rows, config.bare_year)
            derived = settled[system, "apcs_der"]
            valid = keep(spells, VALID, config.years)
            judged.append(Judged(table, "apc", spells, sus_plus.join_derived(valid, derived)))
            told = sus_plus.judge_derived(derived, table.rows, config.bare_year)
            judged.append(Judged(by_role[system, "apcs_der"], "apc", told, None))
        elif role == "opa":
            attendances = sus_plus.judge_attendances(rows, config.bare_year)
            judged.append(Judged(table, "op", attendances, keep(attendances, VALID, config.years)))
        elif role == "apc":
            episodes = hes.judge_episodes(rows, config.bare_year)
            valid = keep(episodes, VALID, config.years)
            judged.append(Judged(table, "apc", episodes, hes.build_spells(valid)))
        elif role == "op":
            attendances = hes.judge_attendances(rows, config.bare_year)
            judged.append(Judged(table, "op", attendances, keep(attendances, VALID, config.years)))
    return judged


def survey(judged: list[Judged], config: RunConfig) -> Survey:
    """Count rows by file, fate, year and reason; collects a row a combination, never a record."""
    years: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    counted = side_by_side([partial(_count_files, item, config) for item in judged])
    for item, (_, found) in zip(judged, counted, strict=True):
        for year, valid in found.items():
            years[item.dataset][year] += valid if item.records is not None else 0
    files = [counts for counts, _ in counted]
    return Survey({(i.table.system, i.table.role): c for i, c in zip(judged, files, strict=True)}, years)


def _count_files(item: Judged, config: RunConfig) -> tuple[dict[str, FileCount], dict[str, int]]:
    grouped = (
        item.rows.withColumn("fate", disposition(config.years))
        .groupBy("source_file", "file_bytes", "file_modified", YEAR, "fate", "reasons", "year_disagrees")
        .count()
    )
    seen: dict[str, FileCount] = {}
    years: dict[str, int] = defaultdict(int)
    for row in grouped.collect():
        count = seen.setdefault(row["source_file"], FileCount(row["file_bytes"], row["file_modified"]))
        count.rows[row["fate"]] += row["count"]
        count.year_disagrees += row["count"] if row["year_disagrees"] else 0
        if row["fate"] == QUARANTINED:
            for reason in row["reasons"]:
                count.reasons[reason] += row["count"]
        elif row[YEAR] is not None:
            years[row[YEAR]] += row["count"] if row["fate"] == VALID else 0
    # A file without a row is in no group; folders of many files show as their files.
    for path in item.table.files:
        if path not in seen and not any(name.startswith(f"{path.rstrip('/')}/") for name in seen):
            seen[path] = FileCount()
    return seen, years


def check(present: set[str], config: RunConfig) -> list[str]:
    """The years that the run will replace; an :class:`InputError` when a year asked for is in no file."""
    if config.years:
        absent = [year for year in config.years if year not in present]
        if absent:
            held = ", ".join(sorted(present)) or "no usable year"
            raise InputError(
                f"years: {', '.join(absent)} {'is' if len(absent) == 1 else 'are'} in none of the source files",
                remedy=f"the files hold {held}; correct `years` or add the files",
            )
        return list(config.years)
    if not present:
        raise InputError(
            "the source files hold no usable row",
            remedy="check paths, delimiter and dates; `ebi-spark status` lists why rows were set aside",
        )
    return sorted(present)


def ingest(
    spark: SparkSession, lake: Lake, tables: list[SourceTable], config: RunConfig, tell: Callable[[str], None]
) -> Ingested:
    """Read, judge and write silver; raises :class:`DataError` when too large a share of rows had to be set aside."""
    tell("looking at keys and years of the source files")
    suspects, present = first_look(tables, config.bare_year)
    check(present, config)
    lake.prepare()
    settle(lake, tables, suspects)
    judged = judge(lake, tables, suspects, config)
    tell("counting what becomes of each row")
    found = survey(judged, config)
    years = check(set().union(*found.years.values()), config)
    _refuse_shrunken(lake, found, years, config)
    for source in tables:
        refuse_changed(source.state)
    datasets = sorted({item.dataset for item in judged})

    def write(dataset: str) -> None:
        table = SILVER[dataset]
        parts = [
            _canonical(item.records, table, item.table.system, dataset, lake.run_id)
            for item in judged
            if item.dataset == dataset and item.records is not None
        ]
        frame = reduce(DataFrame.unionByName, parts)
        lake.replace(table, frame.sortWithinPartitions(*SORTED_BY[dataset]), {YEAR: years}, stage="ingest")

    tell(f"writing {', '.join(SILVER[dataset].full_name for dataset in datasets)} and {QUARANTINE.full_name}")
    side_by_side(
        [
            *[partial(write, dataset) for dataset in datasets],
            partial(_write_quarantine, lake, judged, found, config, years, datasets),
        ]
    )
    built, cleaned = _built(lake, years, datasets)
    records = {dataset: sum(n for (d, _, _), n in built.items() if d == dataset) for dataset in datasets}
    _write_audit(spark, lake, judged, found, built, cleaned)
    reasons: dict[str, int] = defaultdict(int)
    for files in found.files.values():
        for count in files.values():
            for reason, number in count.reasons.items():
                reasons[reason] += number
    result = Ingested(
        years=years,
        records=records,
        rows_read=sum(sum(c.rows.values()) for files in found.files.values() for c in files.values()),
        rows_quarantined=found.total(QUARANTINED),
        reasons=dict(sorted(reasons.items())),
    )
    _check_share(found, config)
    return result


def _refuse_shrunken(lake: Lake, found: Survey, years: list[str], config: RunConfig) -> None:
    """A year that would lose more than the allowed share of its rows waits for a person's word."""
    if config.accept_shrunken:
        return
    for dataset, counts in found.years.items():
        table = SILVER[dataset]
        if lake.version(table) == 0:
            continue
        size = F.sum("episodes") if dataset == "apc" else F.count("*")
        held = lake.read(table).where(F.col(YEAR).isin(years)).groupBy(YEAR).agg(size.alias("rows")).collect()
        for row in sorted(held):
            now = counts.get(row[YEAR], 0)
            if now < (1 - config.max_shrink_share) * row["rows"]:
                raise DataError(
                    f"{table.full_name}: {row[YEAR]} has {now:,} usable rows in the source files and {row['rows']:,} in "
                    f"the lake, fewer by more than the share of {config.max_shrink_share:g} that the configuration "
                    "allows; nothing was replaced",
                    remedy="check that the extract is whole; if the year did shrink, run again with --accept",
                )


def _canonical(records: DataFrame | None, table: Table, system: str, dataset: str, run_id: str) -> DataFrame:
    assert records is not None
    frame = records.withColumns({"source_system": F.lit(system), "dataset": F.lit(dataset), "run_id": F.lit(run_id)})
    if dataset == "apc":
        frame = frame.withColumn("dominant_procedure_4", F.substring("dominant_procedure", 1, 4))
    return conform(frame, table)


def _write_quarantine(
    lake: Lake, judged: list[Judged], found: Survey, config: RunConfig, years: list[str], datasets: list[str]
) -> None:
    """Replace what earlier runs set aside of these datasets, years and of rows without a year. Only tables in which the
    survey found something are read again."""
    parts = [
        keep(item.rows, QUARANTINED, config.years).select(
            F.lit(item.table.system).alias("source_system"),
            F.lit(item.dataset).alias("dataset"),
            F.lit(item.table.role).alias("role"),
            "record_id",
            F.when(F.col(YEAR).isin(*years), F.col(YEAR)).otherwise(F.lit(UNKNOWN_YEAR)).alias(YEAR),
            "reasons",
            "source_file",
            raw_json().alias("raw"),
            F.lit(lake.run_id).alias("run_id"),
        )
        for item in judged
        if any(count.rows[QUARANTINED] for count in found.files[(item.table.system, item.table.role)].values())
    ]
    frame = reduce(DataFrame.unionByName, parts, small_frame(lake.spark, [], QUARANTINE.schema))
    lake.replace(QUARANTINE, frame, {YEAR: [*years, UNKNOWN_YEAR], "dataset": datasets}, stage="ingest")


def _built(
    lake: Lake, years: list[str], datasets: list[str]
) -> tuple[dict[tuple[str, str, str], int], dict[tuple[str, str, str], dict[str, int]]]:
    """Records and cleaned values by (dataset, system, file), read back from what silver now holds."""
    built: dict[tuple[str, str, str], int] = {}
    cleaned: dict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def counted(dataset: str) -> list[Any]:
        frame = lake.read(SILVER[dataset]).where(F.col(YEAR).isin(years))
        return frame.groupBy("source_system", "source_file", "cleaned").count().collect()

    answers = side_by_side([partial(counted, dataset) for dataset in datasets])
    for dataset, rows in zip(datasets, answers, strict=True):
        for row in rows:
            key = (dataset, row["source_system"], row["source_file"])
            built[key] = built.get(key, 0) + row["count"]
            for change in row["cleaned"] or []:
                cleaned[key][change] += row["count"]
    return built, cleaned


def _write_audit(
    spark: SparkSession,
    lake: Lake,
    judged: list[Judged],
    found: Survey,
    built: dict[tuple[str, str, str], int],
    cleaned: dict[tuple[str, str, str], dict[str, int]],
) -> None:
    now = datetime.now(UTC)
    rows = []
    for item in judged:
        system, role = item.table.system, item.table.role
        for path, count in sorted(found.files[(system, role)].items()):
            key = (item.dataset, system, path)
            rows.append(
                {
                    "run_id": lake.run_id,
                    "source_system": system,
                    "dataset": item.dataset,
                    "role": role,
                    "source_file": path,
                    "file_bytes": count.bytes,
                    "file_modified": count.modified,
                    "rows_read": sum(count.rows.values()),
                    "rows_valid": count.rows[VALID],
                    "rows_quarantined": count.rows[QUARANTINED],
                    "rows_duplicate": count.rows[DUPLICATE],
                    "rows_outside_years": count.rows[OUTSIDE],
                    "records_built": built.get(key, 0) if item.records is not None else 0,
                    "year_disagrees": count.year_disagrees,
                    "reasons": dict(count.reasons),
                    "cleaned": dict(cleaned.get(key, {})) if item.records is not None else {},
                    "columns_missing": list(item.table.group_of(path).missing),
                    "columns_extra": list(item.table.group_of(path).extra),
                    "written_at": now,
                }
            )
    lake.append(INGEST_AUDIT, small_frame(spark, rows, INGEST_AUDIT.schema), stage="ingest")


def _check_share(found: Survey, config: RunConfig) -> None:
    for (system, role), files in found.files.items():
        read = sum(sum(c.rows.values()) - c.rows[OUTSIDE] for c in files.values())
        bad = sum(c.rows[QUARANTINED] for c in files.values())
        if read and bad / read > config.max_quarantine_share:
            reasons: dict[str, int] = defaultdict(int)
            for count in files.values():
                for reason, number in count.reasons.items():
                    reasons[reason] += number
            listed = ", ".join(f"{reason} {number:,}" for reason, number in sorted(reasons.items()))
            raise DataError(
                f"{system} {role}: {bad:,} of {read:,} rows had to be set aside ({listed}), more than the share of "
                f"{config.max_quarantine_share:g} that the configuration allows; nothing was published",
                remedy="look at silver/quarantine, mend the source, or raise max_quarantine_share",
            )
