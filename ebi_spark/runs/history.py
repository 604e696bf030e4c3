"""What earlier runs of a lake did, compared with the present state by the rules of :mod:`ebi_spark.runs.due`.

:mod:`ebi_spark.runs.state` stores what a run did, and :mod:`ebi_spark.runs.stage_inputs` says what a stage reads.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import cached_property

from ebi_spark.config.fingerprint import fingerprint
from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import InputError
from ebi_spark.flags.policy_table import policy_rows
from ebi_spark.lake.storage import Lake
from ebi_spark.runs.due import (
    DONE,
    ONE_PART,
    READ_BEFORE,
    Due,
    History,
    StageRun,
    changed_years,
    commit_metadata,
    differences,
    due,
    due_at_all,
    last_done,
    newest_of_each_year,
    short_list,
    unchecked,
)
from ebi_spark.runs.run_inputs import RunInputs
from ebi_spark.runs.stage_inputs import CHECKED, OF_ALL_YEARS, READS, parts, stage_inputs
from ebi_spark.runs.state import RunState, StageRecord, has_batch, policies_of, without_policies
from ebi_spark.sources.file_inventory import is_remote, within
from ebi_spark.tables.gold import POLICY
from ebi_spark.tables.previous_ingest import PreviousIngest
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.silver import RECORD_TABLES, REPEATED_ROW
from ebi_spark.tables.table import YEAR, Table
from ebi_spark.validation.suites import row_checks

# The columns of gold/policy that are compared. The others follow from these.
_COMPARED = (
    "policy_id", "revision", "reading", "is_default_reading", "in_force_from", "in_force_to", "in_force_dated", "boards",
    "publish_years", "publish_first_year", "target", "definition",
)  # fmt: skip


class RunHistory:
    """What earlier runs of a lake did, compared with the present state."""

    def __init__(self, lake: Lake, config: RunConfig, run_id: str, inputs: RunInputs | None = None) -> None:
        self.lake, self.config, self.run_id = lake, config, run_id
        self.inputs = inputs or RunInputs(config)
        self.state = RunState(lake)
        self._sources: dict[str, str] | None = None

    def write(self, record: StageRecord, started: datetime, inputs: Mapping[str, str]) -> None:
        """Write what a stage used and did. It counts once the stage has its row in the run log (:meth:`note`)."""
        if has_batch(record.stage, record.outcome):
            self.state.write(self.lake, record, started, inputs)

    def note(self, record: StageRecord) -> None:
        """Count a stage whose row was just written to the run log."""
        if has_batch(record.stage, record.outcome):
            self.state.add(record)
            self._sources = None
            for made_from_records in ("_future_days", "_outcome_fingerprints"):
                self.__dict__.pop(made_from_records, None)

    def records(self, stage: str, outcome: str = "") -> list[StageRecord]:
        """What the stage's runs recorded, newest first. ``outcome``: only these."""
        return [record for record in self.state.records if record.stage == stage and outcome in ("", record.outcome)]

    def runs(self, stage: str) -> list[StageRun]:
        """The stage's runs, newest first."""
        return self._stage_runs(self.records(stage))

    def _stage_runs(self, records: Sequence[StageRecord]) -> list[StageRun]:
        """The same as :class:`StageRun`. Inputs are read only where they can count: for the newest runs of each year."""
        runs = [self._stage_run(record, {}) for record in records]
        newest = newest_of_each_year(runs)
        self.state.read_inputs(records[number].inputs for number in newest)
        for number in newest:
            runs[number] = self._stage_run(records[number], self.state.inputs(records[number].inputs))
        return runs

    @staticmethod
    def _stage_run(record: StageRecord, inputs: Mapping[str, str]) -> StageRun:
        return StageRun(
            run_id=record.run_id,
            outcome=record.outcome,
            years=frozenset(record.years),
            read=record.versions_read,
            written=record.versions_written,
            inputs=without_policies(inputs),
            parts=policies_of(inputs) or ONE_PART,
            whole=record.whole,
        )

    def keep_releases(self) -> int | None:
        """How many releases the configuration of the last publication keeps; None if there was none."""
        last = next(iter(self.records("publish", DONE)), None)
        return last.keep_releases if last else None

    def seconds_a_year(self, stage: str) -> float | None:
        """How many seconds the stage's last successful run took for each of its years; None without one."""
        last = next((record for record in self.records(stage, DONE) if record.years), None)
        return last.seconds / len(last.years) if last and last.seconds else None

    def last_seconds(self, stage: str) -> float | None:
        """How many seconds the stage's last successful run took, whatever its years. None if no run was successful."""
        return next((record.seconds for record in self.records(stage, DONE)), None)

    def histories(self, names: Iterable[str], runs: Iterable[StageRun]) -> dict[str, History]:
        """The history of the named tables since the earliest version that can count: that of a newest run of a year."""
        runs = list(runs)
        runs = [runs[number] for number in newest_of_each_year(runs)]
        found = {}
        for name in names:
            table = TABLES[name]
            if not self.lake.exists(table):
                continue
            known = [versions[name] for run in runs for versions in (run.read, run.written) if name in versions]
            commits = self.lake.commits(table, min(known)) if known else []
            found[name] = History(self.lake.version(table), commits)
        return found

    def _current_inputs(self, stage: str) -> dict[str, str]:
        """The inputs that a stage would have now. A source file with rows of future days counts as changed from the
        first of these days on, until it is read again."""
        found = stage_inputs(stage, self.config, self.lake, self.run_id, self.inputs)
        if stage == "ingest":
            for path, day in self._future_days.items():
                if self.config.day >= day:
                    for key in found:
                        kind, _, stated = key.partition(":")
                        if kind in ("data", "table") and within(path, stated):
                            found[key] = f"{found[key]}{READ_BEFORE}{day}"
        return found

    @cached_property
    def _future_days(self) -> dict[str, date]:
        """The files that had rows of future days when a batch last read them, each with the first of these days."""
        found: dict[str, date] = {}
        read: set[str] = set()
        ingests = self.records("ingest", DONE)
        if any(record.due_from for record in ingests):
            for record in ingests:  # the newest first
                files = (self.state.outcomes(record) or {}).keys()
                found |= {path: day for path, day in record.due_from.items() if path not in read}
                read |= files
        return found

    def due(self, stage: str, years: list[str]) -> Due:
        """What a stage that works by year has to do for ``years``."""
        runs = self._ingest_runs() if stage == "ingest" else self.runs(stage)
        by_year = {name for name, table in TABLES.items() if YEAR in table.partition_by and table.layer != "published"}
        written = {name for run in runs for name in run.written} & by_year
        return due(
            years,
            runs,
            self.histories({*READS[stage], *written}, runs),
            reads=READS[stage],
            inputs=self._current_inputs(stage),
            parts=parts(stage, self.inputs),
            whole=self.config.policies is None,
            writes_other_years=self._writes_other_years(stage),
        )

    def _writes_other_years(self, stage: str) -> bool:
        """Whether the stage's commits change rows of years that it did not work on. An ingest that replaces years does
        not. Then the commits of a run's last batch, if the run stopped in it, count as written by something else."""
        return stage != "ingest" or self.config.mode == "upsert"

    def _ingest_runs(self) -> list[StageRun]:
        """The runs of `ingest`, preceded by one for each year: the last run that wrote the year, with the inputs of
        the last run that wrote it or checked its files. Without these, a run that reads one year again would make
        all the others due."""
        return [*self._last_run_by_year().values(), *self.runs("ingest")]

    def _last_run_by_year(self) -> dict[str, StageRun]:
        last: dict[str, StageRecord] = {}
        for record in reversed(self.records("ingest", DONE)):
            last |= {year: replace(last[year], inputs=record.inputs) for year in record.years_unchanged if year in last}
            last |= {year: replace(record, years=[year]) for year in record.years}
        return dict(zip(last, self._stage_runs(list(last.values())), strict=True))

    def policies_unchanged(self) -> bool:
        """Whether ``gold/policy`` has the policies of this run, wording included. If a run was asked for some policies, the rows of
        the others do not count."""
        where = {"policy_id": [policy.id for policy in self.inputs.policies]} if self.config.policies else {}
        stored = self.lake.rows_if_there(POLICY, _COMPARED, where)
        made = policy_rows(self.inputs.policies, self.run_id)
        as_stored, as_made = ([[row[name] for name in _COMPARED] for row in rows] for rows in (stored, made))
        return sorted(as_stored, key=str) == sorted(as_made, key=str)

    def due_sources(self) -> Due:
        """What has to be read again of the source files. Without ``years`` in the configuration, the years are those
        that the last run of all years found; before such a run they are unknown."""
        if self.config.years:
            return self.due("ingest", list(self.config.years))
        last = self._last_run_of_all_years()
        if last is None:
            return Due(["every year"], None, ["not done yet"])
        found = self.due("ingest", _years_found(last))
        if not found:
            # A run of named years may have read files and left out their other years.
            reasons = differences(self.state.inputs(last.inputs), self._current_inputs("ingest"))
            return Due(["every year"], None, reasons) if reasons else found
        return found

    def previous_ingest(self) -> PreviousIngest | None:
        """What the last ingest knew of the source files. None unless it was completed, Python can see all source
        files, and since then only source files have changed or been added. A file that is gone also gives None: it
        may have had rows of any year."""
        ingests = self.records("ingest", DONE)
        last = self._last_run_by_year()
        all_years = self._last_run_of_all_years()
        years = self.config.years or (_years_found(all_years) if all_years else ())
        # A year without a run may have been written by a batch that failed.
        if not years or not all(year in last and year in self._outcome_fingerprints for year in years):
            return None
        known = [last[year] for year in years]
        # There must be one state of the files for all years and for the rows of repeated keys: an ingest that stopped
        # early leaves several.
        before, now = self.state.inputs(ingests[0].inputs), self._current_inputs("ingest")
        repeated = REPEATED_ROW.full_name
        wrote = (record.versions_written for record in ingests)
        repeated_version = next((versions[repeated] for versions in wrote if repeated in versions), 0)
        there = self.lake.exists(REPEATED_ROW) and self.lake.version(REPEATED_ROW) == repeated_version
        if not there or any(run.inputs != before for run in known):
            return None
        changed = {key for key in {*before, *now} if before.get(key) != now.get(key)}
        if any(key.startswith("table:") or is_remote(key.removeprefix("data:")) for key in now) or not all(
            key.startswith("data:") and key in now for key in changed
        ):
            return None
        if self._ingest_due(years, [replace(run, inputs=now) for run in known], now):
            return None
        files: dict[str, set[str]] = {}
        read: set[str] = set()
        for record in ingests:  # for each file, the last batch that read it
            recorded = self.state.outcomes(record) or {}
            for path in recorded.keys() - read:
                for year in recorded[path].keys() - {""}:
                    files.setdefault(year, set()).add(path)
            read |= recorded.keys()
        asked = {record.run_id: None if record.every_year else tuple(_years_found(record)) for record in ingests}
        by_year = {year: frozenset(paths) for year, paths in files.items()}
        paths = frozenset(key.removeprefix("data:") for key in changed)
        return PreviousIngest(paths, list(years), frozenset(read), by_year, asked)

    def _ingest_due(self, years: Sequence[str], runs: Sequence[StageRun], inputs: Mapping[str, str]) -> Due:
        """What these runs of `ingest` left to do for ``years``, by their inputs and by the tables of years that they wrote."""
        written = {name for run in runs for name in run.written if YEAR in TABLES[name].partition_by}
        return due(
            years,
            runs,
            self.histories(written, runs),
            reads=(),
            inputs=inputs,
            writes_other_years=self._writes_other_years("ingest"),
        )

    def _last_run_of_all_years(self) -> StageRecord | None:
        """The last batch of a run that was asked for all years."""
        return next((record for record in self.records("ingest", DONE) if record.every_year), None)

    def batch_due(self, years: list[str], files: Collection[str], fingerprints: Mapping[str, Mapping[str, str]]) -> Due:
        """What has to be read again of years that only the source files ``files`` have rows of.

        A file that is no longer a source may have had rows of any year. ``fingerprints``: for each file and year, a
        fingerprint of the status of its rows, which other files may have changed.
        """
        if self._sources is None:
            self._sources = self._current_inputs("ingest")

        def in_batch(key: str) -> bool:
            kind, _, path = key.partition(":")
            # It is not known here which files a remote path covers.
            inside = any(within(file, path) for file in files)
            return kind != "data" or inside or is_remote(path)

        now = {key: value for key, value in self._sources.items() if in_batch(key)}
        runs = [
            replace(run, inputs={k: v for k, v in run.inputs.items() if in_batch(k) or k not in self._sources})
            for run in self.runs("ingest")
        ]
        found = self._ingest_due(years, runs, now)
        if found:
            return found
        before = self._outcome_fingerprints
        changed: set[str] = set()
        for year in years:
            was, now_is = before.get(year, {}), _fingerprints_of_year(fingerprints, year)
            changed |= {path for path in was.keys() | now_is.keys() if was.get(path) != now_is.get(path)}
        changed |= {path for path in files if before[""].get(path) != fingerprints.get(path, {}).get("")}
        if not changed:
            return found
        named = short_list(sorted({path.rpartition("/")[2] for path in changed}))
        return Due(years, None, [f"other files change the status of rows in {named}"])

    def files_of(self, years: Iterable[str]) -> frozenset[str]:
        """The files that had rows of some years when these years were last written."""
        return frozenset(path for year in years for path in self._outcome_fingerprints.get(year, {}))

    @cached_property
    def _outcome_fingerprints(self) -> dict[str, dict[str, str | None]]:
        """By year, the fingerprints of its files from the last batch that wrote it. Under "", those of rows without a
        year: for each file, from the last batch that read it."""
        known: dict[str, dict[str, str | None]] = {"": {}}
        for record in self.records("ingest", DONE):  # the newest first
            recorded = self.state.outcomes(record)
            if recorded is not None:
                for year in record.years:
                    known.setdefault(year, _fingerprints_of_year(recorded, year))
                known[""] = {path: by_year.get("") for path, by_year in recorded.items()} | known[""]
        return known

    def why_publish(self) -> list[str]:
        """Why a new release has to be made; empty when the last one covers the present state."""
        runs = self.runs("publish")
        histories = self.histories(READS["publish"], runs)
        used = stage_inputs("publish", self.config, self.lake, self.run_id, self.inputs)
        reasons = due_at_all(runs, histories, reads=READS["publish"], inputs=used)
        last = last_done(runs)
        later = self.lake.commits(RELEASE, last.written.get(RELEASE.full_name, -1)) if last else []
        if any(commit_metadata(commit).get("stage") == "publish" for commit in later):
            # It was written by a run that did not end, or that the log has in another order (a clock set back).
            reasons.append(f"{RELEASE.full_name} was written by something else")
        return reasons

    def why_monitor(self) -> list[str]:
        """Why monitoring has to be computed again; empty when its last run covers the present state. It looks back and
        ahead from each operation, so it always works on all years."""
        runs = self.runs("monitor")
        written = {name for run in runs for name in run.written}
        histories = self.histories({*READS["monitor"], *written}, runs)
        used = stage_inputs("monitor", self.config, self.lake, self.run_id, self.inputs)
        reasons = due_at_all(runs, histories, reads=READS["monitor"], inputs=used)
        last = last_done(runs)
        for name, version in (last.written if last else {}).items():
            changed = changed_years(histories, name, version)
            if changed is None or changed:
                reasons.append(f"{name} was written by something else")
        return reasons

    def checks_due(self, years: list[str], existing: Iterable[str]) -> dict[str, Due]:
        """What has to be validated, by layer. For silver and flags these are ``years``; for rates also the other years
        in ``existing``, since pooled periods and marks of months depend on other years too, and for monitoring, whose
        tables are always replaced as a whole."""
        found = {}
        for layer, names in CHECKED.items():
            runs = self._checks(layer)
            recorded = stage_inputs("validate", self.config, self.lake, self.run_id, self.inputs)
            to_check = sorted({*years, *existing}) if layer in OF_ALL_YEARS else years
            found[layer] = due(to_check, runs, self.histories(names, runs), reads=names, inputs=recorded)
        return found

    def passed_checks(self, years: Iterable[str]) -> dict[str, set[str]]:
        """For each suite of silver's records, the years in which every record met the checks when an ingest wrote it, and
        which have not been changed since."""
        found: dict[str, set[str]] = {}
        ingests = self.records("ingest", DONE)
        for table in RECORD_TABLES.values():
            writers = [record for record in ingests if table.full_name in record.versions_written]
            known = [
                record.versions_written[table.full_name] for record in writers if checked_as(table) in record.checked
            ]
            if not known:
                continue
            history = History(self.lake.version(table), self.lake.commits(table, min(known)))
            for year in years:
                last = next((record for record in writers if year in record.years), None)
                if last and year in last.checked.get(checked_as(table), ()):
                    changed = history.changed(last.versions_written[table.full_name])
                    if changed is not None and year not in changed:
                        found.setdefault(table.name, set()).add(year)
        return found

    def unchecked(self, years: Iterable[str], layers: Iterable[str] = CHECKED) -> dict[str, str]:
        """The years that no validation covers, each with the reason."""
        years = list(years)
        found: dict[str, str] = {}
        for layer in layers:
            runs = self._checks(layer)
            found = unchecked(years, runs, self.histories(CHECKED[layer], runs), reads=CHECKED[layer]) | found
        return found

    def _checks(self, layer: str) -> list[StageRun]:
        """The runs of ``validate``, with the years of one layer. A failed run counts for every layer that it was to
        check."""
        records = [record for record in self.records("validate") if layer in record.years_by_layer]
        return self._stage_runs([replace(record, years=record.years_by_layer[layer]) for record in records])


def checked_as(table: Table) -> str:
    """The name under which an ingest notes which checks of a table it has made. It changes if the checks change."""
    return f"{table.full_name} {fingerprint(row_checks(table.name))}"


def _years_found(record: StageRecord) -> list[str]:
    """The years that an ingest was to replace. One record is one batch: a stopped run may not have reached the others."""
    return record.years_found or record.years


def _fingerprints_of_year(fingerprints: Mapping[str, Mapping[str, str]], year: str) -> dict[str, str | None]:
    return {path: by_year[year] for path, by_year in fingerprints.items() if year in by_year}


def new_record(stage: str, config: RunConfig, run_id: str, only: list[str] | None) -> StageRecord:
    """The record of a stage that begins, with the facts of the configuration that later runs need."""
    return StageRecord(
        run_id=run_id,
        stage=stage,
        day=config.day,
        every_year=config.years is None,
        whole=stage != "flag" or (config.policies is None and only is None),
        keep_releases=config.keep_releases,
    )


def refuse_unchecked(history: RunHistory, years: Iterable[str]) -> None:
    """Raise :class:`InputError` unless every year, in its present state, has passed a validation."""
    found = history.unchecked(years)
    if found:
        reasons: dict[str, list[str]] = {}
        for year, reason in found.items():
            reasons.setdefault(reason, []).append(year)
        listed = "; ".join(f"{', '.join(of)}: {reason}" for reason, of in reasons.items())
        raise InputError(
            f"nothing was published: {listed}",
            remedy=f"run `ebi-spark validate --config … --years {','.join(sorted(found))}` first, with the same configuration",
        )
