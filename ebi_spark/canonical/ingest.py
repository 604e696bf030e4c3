"""From source tables to silver: judge, survey before anything is replaced, then write, set aside and account for the
years, those together that files tie together.

What is judged is one lazy frame a source table; the survey reads only its light columns (keys, dates), the silver write
its canonical columns, the quarantine its raw text.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial, reduce
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.acquire.tables import SourceTable, raw_json
from ebi_spark.acquire.watch import refuse_changed
from ebi_spark.canonical import hes, sus_plus, upsert
from ebi_spark.canonical.content import Checksum, content, told
from ebi_spark.canonical.copies import Suspects, first_look, settle, with_copies_settled
from ebi_spark.canonical.held import File, Holdings, Made, holdings, rows_told, unaccounted
from ebi_spark.canonical.judging import DUPLICATE, OUTSIDE, QUARANTINED, VALID, keep
from ebi_spark.canonical.survey import (
    FileCount,
    Judged,
    Step,
    Survey,
    refuse_shrunken,
    refuse_too_many_set_aside,
    steps,
    survey,
    years_named,
    years_to_replace,
)
from ebi_spark.schemas import APC_SPELL, INGEST_AUDIT, OP_ATTENDANCE, QUARANTINE, YEAR, Table
from ebi_spark.session import setting, with_settings
from ebi_spark.settings import RunConfig
from ebi_spark.small_frames import small_frame
from ebi_spark.storage import Lake, conform, side_by_side

UNKNOWN_YEAR = "unknown"
SILVER = {"apc": APC_SPELL, "op": OP_ATTENDANCE}
# The tables that a row of is a record, or for HES spells a part of one.
RECORD_ROLES = ("apcs", "opa", "apc", "op")
# Rows lie sorted inside each file by what rules ask for first, so that Parquet's page index can skip the rest.
SORTED_BY = {"apc": "dominant_procedure_4", "op": "procedure_codes"}
# A task that writes so few years keeps a file open for each. Of more it would need too much memory, and sorts its rows by
# year first, which takes longer: Spark compares the first eight bytes of the first column at once, and a year is all alike.
FILES_AT_ONCE, FEW_FILES = "spark.sql.maxConcurrentOutputFileWriters", 3
# Source rows that one step reads at most (a single year may be more): a step is committed and noted in the run log, so
# that a backfill that is stopped goes on behind it. Smaller steps cost more starts than they save.
STEP_ROWS = 5_000_000


@dataclass
class Plan:
    """What an ingest has found out before it replaces anything: the tables judged, their survey, and the steps to go."""

    tables: list[SourceTable]
    suspects: dict[tuple[str, str], Suspects]
    judged: list[Judged]
    found: Survey
    held: Holdings
    years: list[str]
    steps: list[Step]

    @property
    def datasets(self) -> list[str]:
        """``apc``, ``op`` or both."""
        return sorted({item.dataset for item in self.judged})


@dataclass
class Ingested:
    """What an ingest did, for the summary."""

    years: list[str] = field(default_factory=list)
    records: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rows_read: int = 0
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    # Records that were not written, by why: unchanged, older, conflict, withdrawn.
    kept_back: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    touched: set[str] = field(default_factory=set)

    def add(self, other: "Ingested") -> None:
        """Take in what a further step did."""
        self.years = sorted({*self.years, *other.years})
        self.rows_read += other.rows_read
        self.touched |= other.touched
        for mine, more in (
            (self.records, other.records), (self.reasons, other.reasons), (self.kept_back, other.kept_back),
        ):  # fmt: skip
            for name, number in more.items():
                mine[name] += number


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
        elif role.endswith("_withdrawn"):
            judged.append(Judged(table, _dataset_of(role), sus_plus.judge_withdrawn(rows), None))
    return judged


def _dataset_of(role: str) -> str:
    return "apc" if role.startswith("ap") else "op"


def plan(lake: Lake, tables: list[SourceTable], config: RunConfig, tell: Callable[[str], None]) -> Plan:
    """Look at all source files before anything of silver is replaced. Raises when a year asked for is in none of them, or
    would lose more rows than the configuration allows."""
    tell("looking at the keys of the source files")
    suspects = first_look(tables)
    if config.years:
        years_to_replace(years_named(tables, config.bare_year), config)
    lake.prepare()
    settle(lake, tables, suspects)
    judged = judge(lake, tables, suspects, config)
    tell("counting what becomes of each row")
    found = survey(judged, config)
    years = years_to_replace(set().union(*found.years.values()), config)
    held = holdings(lake, {dataset: SILVER[dataset] for dataset in found.years}, years)
    if config.mode == "refresh" and not config.accept_shrunken:
        for dataset, counts in found.years.items():
            refuse_shrunken(SILVER[dataset].full_name, held.rows_by_year(dataset), counts, config, years)
    return Plan(tables, suspects, judged, found, held, years, steps(found, years, STEP_ROWS))


def ingest(lake: Lake, tables: list[SourceTable], config: RunConfig, tell: Callable[[str], None]) -> Ingested:
    """Read, judge and write silver, all steps; raises :class:`DataError` when too large a share of rows was set aside."""
    whole = plan(lake, tables, config, tell)
    done = Ingested()
    for step in whole.steps:
        done.add(write(lake, whole, step, config, tell))
    refuse_too_many_set_aside(whole.found, config)
    return done


def write(lake: Lake, whole: Plan, step: Step, config: RunConfig, tell: Callable[[str], None]) -> Ingested:
    """One step: its years of silver, what is set aside of its files, and the account of these files."""
    for table in whole.tables:
        refuse_changed({path: state for path, state in table.state.items() if path in step.files})
    judged, all_told = _of_step(lake, whole, step, config)
    if config.mode == "upsert":
        _note_withdrawn(lake, whole, step)
    named = [*(SILVER[dataset].full_name for dataset in whole.datasets), QUARANTINE.full_name]
    tell(f"{', '.join(step.years)}: writing {', '.join(named)}")
    written = _upserted if config.mode == "upsert" else _refreshed
    tasks = [partial(written, lake, whole, judged, step, dataset) for dataset in whole.datasets]
    outcomes: dict[str, _Outcome] = {}

    aside_written: list[bool] = []

    def set_aside() -> None:
        aside_written.append(_set_aside(lake, whole, judged, all_told, step, config, outcomes))

    def records() -> None:
        with with_settings(lake.spark, {FILES_AT_ONCE: str(FEW_FILES)}):
            outcomes.update(zip(whole.datasets, side_by_side(tasks), strict=True))

    if config.mode == "refresh":
        side_by_side([records, set_aside])
    else:  # which rows contradict the lake is known only then
        records()
        set_aside()
    return _account(lake, whole, step, outcomes, aside_written[0])


def _of_step(lake: Lake, whole: Plan, step: Step, config: RunConfig) -> tuple[list[Judged], list[Judged]]:
    """The judged tables over the files alone that have something for the step to write: (for its records, for what is set
    aside). Every spell of the step's years has all its rows in their files; what is set aside of files that hold other years
    too can be told only beside all of these years' files."""
    files = whole.found.files
    held = {
        place: {path for path, count in counts.items() if any(count.rows.values())} for place, counts in files.items()
    }
    of_years: dict[tuple[str, str], set[str]] = {}
    aside: dict[tuple[str, str], set[str]] = {}
    alone = True
    for place, counts in files.items():
        of_years[place] = {path for path, count in counts.items() if count.years.keys() & set(step.years)}
        aside[place] = {path for path, count in counts.items() if path in step.files and count.rows[QUARANTINED]}
        alone &= not any(counts[path].rows[OUTSIDE] for path in aside[place])

    def over(wanted: dict[tuple[str, str], set[str]]) -> list[Judged]:
        if all(wanted[place] >= held[place] for place in files):
            return whole.judged
        tables = [table.of_files(frozenset(wanted[table.system, table.role])) for table in whole.tables]
        return judge(lake, tables, whole.suspects, config)

    records = over(of_years)
    if all(aside[place] <= of_years[place] for place in files) and alone:
        return records, records
    return records, over({place: of_years[place] | aside[place] for place in files}) if alone else whole.judged


@dataclass
class _Outcome:
    """What became of one dataset's records in a step: those that were not written by fate and file, with the checksums
    of all that came of each file; the years ``touched``; ``contradicting``: keys that another file of the same extract
    contradicts."""

    touched: list[str]
    fates: dict[File, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    checksums: dict[File, Checksum] = field(default_factory=lambda: defaultdict(Checksum))
    contradicting: DataFrame | None = None


def _incoming(lake: Lake, judged: list[Judged], dataset: str) -> DataFrame:
    """Canonical records of a dataset, of all systems."""
    parts = [
        _canonical(item.records, SILVER[dataset], item.table.system, dataset, lake.run_id)
        for item in judged
        if item.dataset == dataset and item.records is not None
    ]
    return reduce(DataFrame.unionByName, parts)


def _canonical(records: DataFrame, table: Table, system: str, dataset: str, run_id: str) -> DataFrame:
    frame = records.withColumns({"source_system": F.lit(system), "dataset": F.lit(dataset), "run_id": F.lit(run_id)})
    if dataset == "apc":
        frame = frame.withColumn("dominant_procedure_4", F.substring("dominant_procedure", 1, 4))
    return conform(frame.withColumn("content", content(table)), table)


def _write_sorted(lake: Lake, records: DataFrame, dataset: str, years: list[str]) -> None:
    at_once = len(years) <= int(setting(lake.spark, FILES_AT_ONCE) or 0)
    order = [*([] if at_once else [YEAR]), SORTED_BY[dataset]]
    lake.replace(SILVER[dataset], records.sortWithinPartitions(*order), {YEAR: years}, stage="ingest")


def _refreshed(lake: Lake, whole: Plan, judged: list[Judged], step: Step, dataset: str) -> _Outcome:
    """Replace the step's years of a dataset in one commit, unless the lake holds the very same records."""
    incoming = _incoming(lake, judged, dataset)
    held = whole.held.files(dataset, step.years)
    if held and _as_many(whole, step, dataset, held):
        now: dict[File, Checksum] = defaultdict(Checksum)
        for row in incoming.groupBy("source_system", "source_file").agg(*told()).collect():
            now[row["source_system"], row["source_file"]].add(row)
        if now == {file: made.checksum for file, made in held.items()}:
            same = _Outcome([], checksums=now)
            for file, made in held.items():
                same.fates[file][upsert.UNCHANGED] = made.records
            return same
    _write_sorted(lake, incoming, dataset, step.years)
    return _Outcome(step.years)


def _as_many(whole: Plan, step: Step, dataset: str, held: dict[File, Made]) -> bool:
    """Whether every file would make as many records as the lake holds of it; where not, they differ, and nobody needs to
    read the files for it. A HES spell counts at the file of its last episode: there only the sum can be compared."""
    now = {
        (item.table.system, path): count.rows[VALID]
        for item in whole.judged
        if item.dataset == dataset and item.records is not None
        for path, count in whole.found.files[item.place].items()
        if path in step.files and count.rows[VALID]
    }
    before = {file: made.rows for file, made in held.items()}
    return sum(now.values()) == sum(before.values()) if ("hes", "apc") in whole.found.files else now == before


def _upserted(lake: Lake, whole: Plan, judged: list[Judged], step: Step, dataset: str) -> _Outcome:
    """Put the records that are new or newer, take out those withdrawn, in one commit; without any nothing is written."""
    table = SILVER[dataset]
    incoming = _incoming(lake, judged, dataset)
    orphans = unaccounted(lake, table)
    weighed = upsert.weighed(incoming, lake, table, dataset, orphans)
    outcome = _Outcome([])
    touched: set[str] = set()
    named = ("source_system", "source_file", YEAR, upsert.FATE, upsert.HELD_YEAR)
    for row in weighed.groupBy(*named).agg(F.count("*").alias("records"), *told()).collect():
        file = row["source_system"], row["source_file"]
        outcome.checksums[file].add(row)
        if row[upsert.FATE] in upsert.PUT:
            touched |= {row[YEAR], row[upsert.HELD_YEAR]} - {None}
        else:
            outcome.fates[file][row[upsert.FATE]] += row["records"]
    gone = upsert.withdrawn_now(lake, table, dataset).groupBy(YEAR, "source_system", "file").count()
    for row in gone.collect():
        outcome.fates[row["source_system"], row["file"]][upsert.TAKEN_OUT] += row["count"]
        touched.add(row[YEAR])
    if any(fates[upsert.CONFLICT] for fates in outcome.fates.values()):
        outcome.contradicting = weighed.where(F.col(upsert.FATE) == upsert.CONFLICT).select(*upsert.KEY)
    outcome.touched = sorted(touched)
    if touched:
        _write_sorted(lake, upsert.merged(weighed, lake, table, dataset, outcome.touched), dataset, outcome.touched)
    return outcome


def _note_withdrawn(lake: Lake, whole: Plan, step: Step) -> None:
    """The keys of withdrawal lists into ``silver/withdrawn_record``; lists go with the first step."""
    lists = [item for item in whole.judged if item.table.role.endswith("_withdrawn")]
    # By the files that rows name: those of a folder are not the path that was configured, a table of a catalogue has none.
    if any(path in step.files for item in lists for path in whole.found.files[item.place]):
        parts = [
            keep(item.rows, VALID, None).select(
                F.lit(item.table.system).alias("source_system"),
                F.lit(item.dataset).alias("dataset"),
                "record_id", "extract_date", "source_file",
            )
            for item in lists
        ]  # fmt: skip
        upsert.note_withdrawn(lake, reduce(DataFrame.unionByName, parts), stage="ingest")


def _set_aside(
    lake: Lake,
    whole: Plan,
    judged: list[Judged],
    all_told: list[Judged],
    step: Step,
    config: RunConfig,
    outcomes: dict[str, _Outcome],
) -> bool:
    """Replace what earlier runs set aside of the step's years and files, and of rows without a year. Only tables in which
    the survey found something are read again; nothing is written, and False given, when the lake holds the very same
    rows."""
    parts = [
        _quarantined(
            item,
            keep(item.rows, QUARANTINED, config.years).where(F.col("source_file").isin(*step.files)),
            step.years,
            lake.run_id,
        )
        for item in all_told
        if whole.found.quarantined(item.place, step.files)
    ]
    for item in judged:
        contradicting = outcomes[item.dataset].contradicting if item.dataset in outcomes else None
        if item.table.role in RECORD_ROLES and contradicting is not None:
            keys = contradicting.where(F.col("source_system") == item.table.system).select("record_id")
            rows = keep(item.rows, VALID, config.years).join(keys, ["record_id"], "left_semi")
            rows = rows.withColumn("reasons", F.array(F.lit("conflicting_duplicate")))
            parts.append(_quarantined(item, rows, step.years, lake.run_id))
    frame = reduce(DataFrame.unionByName, parts, small_frame(lake.spark, [], QUARANTINE.schema))
    if config.mode == "upsert":
        return _replace_aside_by_file(lake, judged, step, config, frame)
    known = {path for files in whole.found.files.values() for path in files}
    # Files that are no source any more go with the first step.
    gone = whole.held.files_aside(UNKNOWN_YEAR, whole.datasets) - known if step is whole.steps[0] else set()
    files = sorted(step.files | gone)
    held = whole.held.rows_aside(step.years, files, UNKNOWN_YEAR, whole.datasets)
    number = sum(whole.found.quarantined(item.place, step.files) for item in judged)
    # Only where there are as many is it worth reading them to see whether they are the same.
    if held and held[0] == number and (not number or _told(frame) == held[1]):
        return False
    stated = {YEAR: step.years, "dataset": whole.datasets}
    unknown = {YEAR: [UNKNOWN_YEAR], "dataset": whole.datasets, "source_file": files}
    lake.replace(QUARANTINE, frame, [stated, unknown], stage="ingest")
    return True


def _told(aside: DataFrame) -> Checksum:
    found = Checksum()
    for row in rows_told(aside, "source_file"):
        found.add(row)
    return found


def _replace_aside_by_file(lake: Lake, judged: list[Judged], step: Step, config: RunConfig, frame: DataFrame) -> bool:
    """After an upsert: what is set aside of the step's files is ``frame``; of other files what stands, less the rows that a
    usable row of their key and extract, or of a later one, makes good. A contradiction takes a later one."""
    key = ["source_system", "role", "record_id"]
    usable = [
        keep(item.rows, VALID, config.years).select(
            F.lit(item.table.system).alias(key[0]), F.lit(item.table.role).alias(key[1]), key[2], "extract_date"
        )
        for item in judged
    ]
    latest = F.max(upsert.extract("extract_date")).alias("_usable")
    good = reduce(DataFrame.unionByName, usable).groupBy(*key).agg(latest)
    held = lake.read(QUARANTINE)
    others = held.where(~F.col("source_file").isin(*step.files)).join(good, key, "left")
    extract = upsert.extract("extract_date")
    contradiction = F.array_contains("reasons", "conflicting_duplicate")
    made_good = (F.col("_usable") > extract) | ((F.col("_usable") == extract) & ~contradiction)
    stands = others.where(~F.coalesce(made_good, F.lit(False)))
    after = stands.select(*QUARANTINE.names()).unionByName(frame)
    if _told(after) == _told(held) and not unaccounted(lake, QUARANTINE):
        return False
    lake.replace(QUARANTINE, after, {}, stage="ingest")
    return True


def _quarantined(item: Judged, rows: DataFrame, years: list[str], run_id: str) -> DataFrame:
    return rows.select(
        F.lit(item.table.system).alias("source_system"),
        F.lit(item.dataset).alias("dataset"),
        F.lit(item.table.role).alias("role"),
        "record_id",
        F.when(F.col(YEAR).isin(*years), F.col(YEAR)).otherwise(F.lit(UNKNOWN_YEAR)).alias(YEAR),
        "reasons",
        "source_file",
        raw_json().alias("raw"),
        "extract_date",
        F.lit(run_id).alias("run_id"),
    )


def _account(lake: Lake, whole: Plan, step: Step, outcomes: dict[str, _Outcome], aside_written: bool) -> Ingested:
    """Write the audit of the step's files: what the survey counted, and what silver now holds of this run."""
    built: dict[File, int] = defaultdict(int)
    cleaned: dict[File, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    done = Ingested(step.years)

    def counted(dataset: str) -> list[Any]:
        frame = lake.read(SILVER[dataset]).where(F.col(YEAR).isin(*outcomes[dataset].touched))
        mine = frame.where(F.col("run_id") == lake.run_id)
        return (
            mine.groupBy("source_system", "source_file", "cleaned").agg(F.count("*").alias("count"), *told()).collect()
        )

    wrote = [dataset for dataset, outcome in outcomes.items() if outcome.touched]
    answers = dict(zip(wrote, side_by_side([partial(counted, dataset) for dataset in wrote]), strict=True))
    for dataset, outcome in outcomes.items():
        done.records[dataset] = 0
        weighed_up = bool(outcome.checksums)
        done.touched |= set(outcome.touched)
        for row in answers.get(dataset, []):
            file = row["source_system"], row["source_file"]
            if file[1] not in step.files:
                continue
            built[file] += row["count"]
            done.records[dataset] += row["count"]
            if not weighed_up:
                outcome.checksums[file].add(row)
            for change in row["cleaned"] or []:
                cleaned[file][change] += row["count"]
        for fates in outcome.fates.values():
            for fate, number in fates.items():
                done.kept_back[fate] += number
    rows = []
    for item in whole.judged:
        outcome = outcomes[item.dataset]
        for path, count in sorted(whole.found.files[item.place].items()):
            if path in step.files:
                row = _audited(item, path, count, outcome, built, cleaned, lake.run_id)
                rows.append(row | {"rows_aside_before": 0 if aside_written else row["rows_quarantined"]})
                done.rows_read += rows[-1]["rows_read"]
                for reason, number in rows[-1]["reasons"].items():
                    done.reasons[reason] += number
    lake.append(INGEST_AUDIT, small_frame(lake.spark, rows, INGEST_AUDIT.schema), stage="ingest")
    return done


def _audited(
    item: Judged,
    path: str,
    count: FileCount,
    outcome: _Outcome,
    built: dict[File, int],
    cleaned: dict[File, dict[str, int]],
    run_id: str,
) -> dict[str, Any]:
    file = item.table.system, path
    makes = item.records is not None
    fates = outcome.fates.get(file, {}) if makes or item.table.role.endswith("_withdrawn") else {}
    contradicting = fates.get(upsert.CONFLICT, 0)
    reasons = dict(count.reasons)
    if contradicting:
        reasons["conflicting_duplicate"] = reasons.get("conflicting_duplicate", 0) + contradicting
    return {
        "run_id": run_id,
        "source_system": item.table.system,
        "dataset": item.dataset,
        "role": item.table.role,
        "source_file": path,
        "file_bytes": count.bytes,
        "file_modified": count.modified,
        "rows_read": sum(count.rows.values()),
        "rows_valid": count.rows[VALID] - contradicting,
        "rows_quarantined": count.rows[QUARANTINED] + contradicting,
        "rows_duplicate": count.rows[DUPLICATE],
        "rows_outside_years": count.rows[OUTSIDE],
        "records_built": built.get(file, 0) if makes else 0,
        "records_unchanged": fates.get(upsert.UNCHANGED, 0),
        "records_older": fates.get(upsert.OLDER, 0) + fates.get(upsert.WITHDRAWN, 0),
        "records_withdrawn": fates.get(upsert.TAKEN_OUT, 0),
        "rows_checksum": str(outcome.checksums[file]) if makes and file in outcome.checksums else None,
        "year_disagrees": count.year_disagrees,
        "reasons": reasons,
        "cleaned": dict(cleaned.get(file, {})) if makes else {},
        "columns_missing": list(item.table.group_of(path).missing),
        "columns_extra": list(item.table.group_of(path).extra),
        "written_at": datetime.now(UTC),
    }
