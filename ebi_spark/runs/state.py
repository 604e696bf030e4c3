"""What the stages of earlier runs worked on and used: reads and writes ``gold/batch`` and ``gold/stage_input``.

No other module knows the columns of these tables. When a stage has ended, its inputs are written (unless an earlier stage
recorded the same ones) and its batch, and after both its row in ``gold/run_log``. Only a stage with a row in the run log counts,
so a stage that was killed before it wrote this row runs again.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from ebi_spark.config.fingerprint import fingerprint
from ebi_spark.runs.stage_versions import STAGE_VERSIONS
from ebi_spark.tables.gold import BATCH, RUN_LOG, STAGE_INPUT
from ebi_spark.threads import run_in_threads

if TYPE_CHECKING:
    from ebi_spark.lake.local_tables import LocalLake
    from ebi_spark.lake.storage import Lake

# The kinds of inputs that do not make a whole stage due: those of one policy, and the texts of policies, which earlier versions
# recorded.
POLICY_KIND, WORDING = "policy:", "wording:"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass
class StageRecord:
    """One row of ``gold/batch``, whose columns have the same names and meanings.

    ``started_at``: in microseconds since 1970. ``seconds`` and ``code_version`` come from the row of the run log.
    ``outcomes``: by source file and year, a fingerprint of the status of its rows; the year "" is that of rows without a year.
    None if no batch was written. :meth:`RunState.outcomes` reads them.
    """

    run_id: str = ""
    stage: str = ""
    started_at: int = 0
    outcome: str = ""
    reasons: list[str] = field(default_factory=list)
    years: list[str] = field(default_factory=list)
    inputs: str | None = None
    versions_read: dict[str, int] = field(default_factory=dict)
    versions_written: dict[str, int] = field(default_factory=dict)
    day: date | None = None
    every_year: bool = False
    whole: bool = True
    keep_releases: int | None = None
    years_by_layer: dict[str, list[str]] = field(default_factory=dict)
    years_found: list[str] = field(default_factory=list)
    years_unchanged: list[str] = field(default_factory=list)
    due_from: dict[str, date] = field(default_factory=dict)
    checked: dict[str, list[str]] = field(default_factory=dict)
    outcomes: Mapping[str, Mapping[str, str]] | None = None
    seconds: float | None = None
    code_version: str | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """What names the row of the run log."""
        return self.run_id, self.stage, self.started_at


def has_batch(stage: str, outcome: str) -> bool:
    """Whether a stage with this outcome has a batch: the stage can be due, and it was done, or a check or a limit stopped it."""
    return stage in STAGE_VERSIONS and outcome in ("done", "failed")


_KEY = ("run_id", "stage", "started_at")
# Read for every run. The reasons are for people, and the files are many.
_COLUMNS = tuple(name for name in BATCH.names() if name not in ("reasons", "files"))


class RunState:
    """The stages of a lake that were done or failed. They are read when first needed."""

    def __init__(self, lake: "LocalLake") -> None:
        self.lake = lake
        # Those of `records` that an earlier version recorded in another form.
        self.converted: list[StageRecord] = []
        self._inputs: dict[str, dict[str, str]] = {}
        self._outcomes_read = False

    @cached_property
    def records(self) -> list[StageRecord]:
        """The stages, newest first, including those that an earlier version kept in the run log."""
        if not self.lake.exists(RUN_LOG):
            return []
        log = {
            (row["run_id"], row["stage"], row["started_at"]): row
            for row in self.lake.small_rows(RUN_LOG, (*_KEY, "ended_at", "outcome", "code_version"))
            if has_batch(row["stage"], row["outcome"])
        }
        rows = self.lake.rows_if_there(BATCH, _COLUMNS)
        found = [record for record in map(_record, rows) if record.key in log]
        self.converted = self._converted(log.keys() - {record.key for record in found})
        found += self.converted
        for record in found:
            row = log[record.key]
            record.seconds = (row["ended_at"] - row["started_at"]) / 1e6 if row["ended_at"] else None
            record.code_version = row["code_version"]
        return sorted(found, key=lambda record: (record.started_at, record.run_id), reverse=True)

    def read_inputs(self, names: Iterable[str | None]) -> None:
        """Read several sets of inputs in one query, for :meth:`inputs`."""
        wanted = sorted({name for name in names if name} - self._inputs.keys())
        if wanted and self.lake.exists(STAGE_INPUT):
            columns = ("inputs", "kind", "input", "fingerprint")
            for row in self.lake.small_rows(STAGE_INPUT, columns, {"inputs": wanted}):
                self._inputs.setdefault(row["inputs"], {})[f"{row['kind']}:{row['input']}"] = row["fingerprint"]

    def inputs(self, name: str | None) -> Mapping[str, str]:
        """A set of inputs: ``kind:name`` → fingerprint. Empty if it was not recorded."""
        self.read_inputs([name])
        return self._inputs.get(name or "", {})

    def outcomes(self, record: StageRecord) -> Mapping[str, Mapping[str, str]] | None:
        """The ``outcomes`` of a batch of `ingest`. The outcomes of all batches are read together."""
        if not self._outcomes_read and self.lake.exists(BATCH):
            found = {}
            for row in self.lake.small_rows(BATCH, (*_KEY, "files"), {"stage": ["ingest"]}):
                if row["files"] is not None:
                    by_file: dict[str, dict[str, str]] = {}
                    for item in row["files"]:
                        years = by_file.setdefault(item["file"], {})
                        if item["fingerprint"] is not None:
                            years[item["financial_year"] or ""] = item["fingerprint"]
                    found[row["run_id"], row["stage"], row["started_at"]] = by_file
            for other in self.records:
                other.outcomes = found.get(other.key, other.outcomes)
        self._outcomes_read = True
        return record.outcomes

    def write(self, lake: "Lake", record: StageRecord, started: datetime, inputs: Mapping[str, str]) -> None:
        """Write the inputs and the batch of a stage that has ended. They count once the caller has written the row of the run
        log. The caller then calls :meth:`add`. ``started``: when the stage began. ``lake``: the same lake, with a session."""
        record.started_at = (started - _EPOCH) // _MICROSECOND
        record.inputs = self._name(record.stage, inputs)
        _append(lake, [record], self._inputs)

    def add(self, record: StageRecord) -> None:
        """Count a stage whose row of the run log was just written."""
        if "records" in self.__dict__:
            self.records.insert(0, record)

    def _name(self, stage: str, inputs: Mapping[str, str]) -> str | None:
        """The name of a set of inputs; None for an empty one."""
        if not inputs:
            return None
        name = fingerprint([stage, inputs])
        self._inputs[name] = dict(inputs)
        return name

    def _converted(self, keys: Iterable[tuple[str, str, int]]) -> list[StageRecord]:
        """Stages that an earlier version recorded, as JSON and text in the column ``details`` of the run log."""
        keys = set(keys)
        if not keys:
            return []
        columns = (*_KEY, "outcome", "years", "versions_read", "versions_written", "details")
        rows = self.lake.small_rows(RUN_LOG, columns, {"run_id": sorted({run for run, _, _ in keys})})
        found = []
        for row in rows:
            if (row["run_id"], row["stage"], row["started_at"]) in keys:
                details: dict[str, str] = row.pop("details") or {}
                record = _record(row)
                self._fill(record, details)
                found.append(record)
        return found

    def _fill(self, record: StageRecord, details: Mapping[str, str]) -> None:
        inputs = {}
        for key, value in details.items():
            kind, _, name = key.partition(":")
            if kind == "uses":
                inputs[name] = value
            elif kind == "part":
                inputs[f"{POLICY_KIND}{name}"] = value
            elif kind == "years" and name:
                record.years_by_layer[name] = json.loads(value)
        if "definitions" in details:
            inputs[WORDING] = details["definitions"]
        record.inputs = self._name(record.stage, inputs)
        record.day = date.fromisoformat(details["day"]) if "day" in details else None
        record.every_year = details.get("asked") == "every year"
        record.whole = details.get("whole", "true") == "true"
        record.keep_releases = int(details["keep_releases"]) if "keep_releases" in details else None
        record.years_found = json.loads(details.get("found", "[]"))
        record.years_unchanged = json.loads(details.get("as_they_were", "[]"))
        days = json.loads(details.get("due_from", "{}"))
        record.due_from = {path: date.fromisoformat(day) for path, day in days.items()}
        record.outcomes = json.loads(details.get("verdicts", "null"))


def policies_of(inputs: Mapping[str, str]) -> dict[str, str]:
    """The policies among the inputs of a stage, each with a fingerprint of what can change its flags."""
    return {key.removeprefix(POLICY_KIND): value for key, value in inputs.items() if key.startswith(POLICY_KIND)}


def without_policies(inputs: Mapping[str, str]) -> dict[str, str]:
    """The inputs that make a whole stage due when they change."""
    return {key: value for key, value in inputs.items() if not key.startswith((POLICY_KIND, WORDING))}


def migrate(lake: "Lake") -> list[str]:
    """Copy what earlier versions kept in the run log to ``gold/batch`` and ``gold/stage_input``. Returns a line that says so,
    or nothing if there was nothing to copy."""
    state = RunState(lake)
    if not state.records or not state.converted:
        return []
    _append(lake, state.converted, state._inputs)
    return [f"{BATCH.full_name}, {STAGE_INPUT.full_name}: {len(state.converted)} rows of {RUN_LOG.full_name} converted"]


def _append(lake: "Lake", records: Iterable[StageRecord], inputs: Mapping[str, Mapping[str, str]]) -> None:
    if not (lake.exists(BATCH) and lake.exists(STAGE_INPUT)):
        lake.prepare()  # the lake of an earlier version
    records = sorted(records, key=lambda record: record.started_at, reverse=True)
    first = {record.inputs: record for record in records if record.inputs}  # the oldest of each set
    stored = lake.grouped(STAGE_INPUT, ["inputs"], where={"inputs": list(map(str, first))}) if first else []
    known = {row["inputs"] for row in stored}
    rows = [
        {"inputs": name, "run_id": record.run_id, "stage": record.stage, "kind": key.partition(":")[0],
         "input": key.partition(":")[2], "fingerprint": value}
        for name, record in first.items() if name not in known for key, value in sorted(inputs[str(name)].items())
    ]  # fmt: skip
    stages = {record.stage for record in records}
    stage = stages.pop() if len(stages) == 1 else "migrate"
    written = {STAGE_INPUT: rows, BATCH: list(map(_row, records))}
    run_in_threads([partial(lake.append, table, new, stage=stage) for table, new in written.items() if new])


def _record(row: Mapping[str, Any]) -> StageRecord:
    """A record from the columns of a row, which have the names of its fields."""
    return StageRecord(**{name: value for name, value in row.items() if value is not None})


def _row(record: StageRecord) -> dict[str, Any]:
    """A record as a row of ``gold/batch``."""
    row = {item.name: getattr(record, item.name) for item in fields(record) if item.name in BATCH.names()}
    files = None
    if record.outcomes is not None:
        # Each file also has an element without a year, so that it is listed even if no row of it counts.
        files = [
            {"file": file, "financial_year": year or None, "fingerprint": by_year.get(year)}
            for file, by_year in record.outcomes.items()
            for year in sorted({"", *by_year})
        ]
    return row | {"started_at": _EPOCH + record.started_at * _MICROSECOND, "files": files}
