"""What each stage rests on besides its tables, and what it did before: the facts that `ebi_spark.runs.due` weighs.

A setting or file that is not listed for a stage here counts for every stage: rather computed again than stale.
"""

import glob
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from ebi_spark.config.settings import RunConfig, TableSource, fingerprint, resource
from ebi_spark.errors import InputError
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.policies.model import Policy
from ebi_spark.runs.due import (
    DONE,
    ONE_PART,
    READ_BEFORE,
    Due,
    History,
    StageRun,
    a_few,
    checksum_columns_of,
    differences,
    due,
    due_at_all,
    unchecked,
)
from ebi_spark.runs.stage_versions import STAGE_VERSIONS
from ebi_spark.sources.file_inventory import find_files, is_remote, within
from ebi_spark.tables.previous_ingest import PreviousIngest
from ebi_spark.tables.schemas import (
    ACTIVITY_FLAG,
    APC_SPELL,
    OP_ATTENDANCE,
    POLICY,
    POLICY_ATTRITION,
    RELEASE,
    REPEATED_ROW,
    RUN_LOG,
    TABLES,
    YEAR,
)
from ebi_spark.validation.gate import LAYER_SUITES, load_suite

STAGES = ("ingest", "flag", "rate", "validate", "publish")

# What `validate` checks, layer by layer, each with its own years; and what `publish` works from.
CHECKED: dict[str, tuple[str, ...]] = {
    layer: tuple(dict.fromkeys(load_suite(suite).table.full_name for suite in LAYER_SUITES[layer]))
    for layer in ("silver", "flags", "rates")
}
_CHECKED = tuple(name for names in CHECKED.values() for name in names)
# Tables whose rows a stage works from.
READS: dict[str, tuple[str, ...]] = {
    "ingest": (),
    "flag": (APC_SPELL.full_name, OP_ATTENDANCE.full_name),
    # Of gold/policy it takes only what the flags' own fingerprints stand for.
    "rate": (ACTIVITY_FLAG.full_name, POLICY_ATTRITION.full_name, APC_SPELL.full_name, OP_ATTENDANCE.full_name),
    "validate": _CHECKED,
    "publish": _CHECKED,
}

SHIPPED: dict[str, tuple[str, ...]] = {
    "ingest": ("conf/layouts.yml", "conf/default_codes.yml"),
    "flag": ("conf/reference/*.csv", "conf/default_codes.yml"),
    "rate": ("conf/reference/*.csv", "conf/default_codes.yml", "conf/code_forms.yml"),
    "validate": ("expectations/*.yml",),
    "publish": ("conf/disclosure.yml", "conf/caveats.yml", "conf/reference/*.csv", "expectations/published_*.yml"),
}
# The stages whose rows a setting changes.
SETTINGS: dict[str, tuple[str, ...]] = {
    "lake": (), "years": (), "policies": (), "policy_dirs": (), "report": (), "docs": (), "fingerprint": (),
    "accept_shrunken": (), "keep_releases": (), "max_shrink_share": (), "max_columns": (),
    "sources": (),  # told table by table and file by file
    "mode": ("ingest",), "bare_year": ("ingest",), "timezone": ("ingest",), "max_quarantine_share": ("ingest",),
    "max_field_bytes": ("ingest",), "activity_from": ("ingest",), "appointments_ahead_days": ("ingest",),
    "max_unknown_code_share": ("publish",),
    "day": (),  # a new day alone changes no row but of files with rows of days to come, see RunHistory._uses
    "basis": ("flag",), "fixed_revisions": ("flag",), "practices": ("flag",), "lsoas": ("flag",),
    "area_order": ("flag",), "mappings": ("flag", "rate"), "geography": ("flag", "rate", "publish"),
    "pooled_years": ("rate",), "provisional_months": ("rate", "publish"), "pandemic_months": ("rate", "publish"),
    "over_dispersion": ("publish",), "control_charts": ("publish",),
    "population": ("rate",), "standard_population": ("rate",), "max_vintage_days": ("rate",),
    "distant_vintage": ("rate",), "max_population_difference": ("rate",), "min_national_events": ("rate", "publish"), "coverage": ("rate", "publish"),
    "disclosure": ("publish",),
}  # fmt: skip


# Among the details of an ingest: what became of the rows of each file, by year, as JSON.
VERDICTS = "verdicts"
# Likewise: the years whose files it looked at and had no need to read again, as JSON.
STANDING = "as_they_were"
# Likewise: the files with rows of days to come, each with the first day from which on it has to be read again, as JSON.
DUE_FROM = "due_from"
# What of the run log is weighed.
_LOGGED = (
    "run_id", "stage", "outcome", "started_at", "ended_at", "years", "versions_read", "versions_written", "details",
)  # fmt: skip


class RunHistory:
    """The run log of a lake, held against what stands now."""

    def __init__(self, lake: Lake, config: RunConfig, run_id: str) -> None:
        self.lake, self.config, self.run_id = lake, config, run_id
        self._rows: list[dict[str, Any]] | None = None
        self._sources: dict[str, str] | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Ended stages, newest first."""
        if self._rows is None:
            self._rows = []
            if self.lake.exists(RUN_LOG):
                for row in self.lake.small_rows(RUN_LOG, _LOGGED):
                    if row["stage"] in STAGES and row["outcome"] in ("done", "failed"):
                        seconds = (row["ended_at"] - row["started_at"]) / 1e6 if row["ended_at"] else None
                        self._rows.append(row | {"seconds": seconds})
                self._rows.sort(key=lambda row: (row["started_at"], row["run_id"]), reverse=True)
        return self._rows

    def note(self, row: dict[str, Any]) -> None:
        """A row that was just added to the log."""
        if row["stage"] in STAGES and self._rows is not None:
            self._rows.insert(0, row)
            self.__dict__.pop("_days_to_come", None)

    def runs(self, stage: str) -> list[StageRun]:
        """The stage's rows, newest first."""
        return [stage_run(row) for row in self.rows if row["stage"] == stage]

    def fact(self, stage: str, name: str) -> str | None:
        """A detail of the stage's last successful run."""
        rows = (row for row in self.rows if row["stage"] == stage and row["outcome"] == "done")
        last = next(rows, None)
        return (last["details"] or {}).get(name) if last else None

    def seconds_a_year(self, stage: str) -> float | None:
        """How long the stage's last successful run took for each of its years; None before there is one."""
        rows = (row for row in self.rows if row["stage"] == stage and row["outcome"] == "done" and row["years"])
        last = next(rows, None)
        return last["seconds"] / len(last["years"]) if last and last.get("seconds") else None

    def histories(self, names: Iterable[str], runs: Iterable[StageRun]) -> dict[str, History]:
        """What happened to the named tables since the earliest version that a run knew."""
        runs = list(runs)
        found = {}
        for name in names:
            table = TABLES[name]
            if not self.lake.exists(table):
                continue
            known = [versions[name] for run in runs for versions in (run.read, run.written) if name in versions]
            commits = self.lake.commits(table, min(known)) if known else []
            found[name] = History(self.lake.version(table), commits)
        return found

    def _uses(self, stage: str) -> dict[str, str]:
        """What a stage would use now. A source file with rows of days to come counts as changed from the first of these days
        on, until it is read again."""
        found = uses(stage, self.config, self.lake, self.run_id)
        if stage == "ingest":
            for path, day in self._days_to_come.items():
                if self.config.day >= day:
                    for key in found:
                        kind, _, stated = key.partition(":")
                        if kind in ("data", "table") and within(path, stated):
                            found[key] = f"{found[key]}{READ_BEFORE}{day}"
        return found

    @cached_property
    def _days_to_come(self) -> dict[str, date]:
        """The files that held rows of days to come when a step last read them, each with the first of these days."""
        found: dict[str, date] = {}
        read: set[str] = set()
        for row in self.rows:  # the newest first
            details = row["details"] or {}
            if row["stage"] == "ingest" and row["outcome"] == DONE and VERDICTS in details:
                days = json.loads(details.get(DUE_FROM, "{}"))
                files = json.loads(details[VERDICTS]).keys()
                found |= {path: date.fromisoformat(days[path]) for path in files - read if path in days}
                read |= files
        return found

    def due(self, stage: str, years: list[str]) -> Due:
        """What a stage that works by year has to do of ``years``."""
        runs = self._ingests() if stage == "ingest" else self.runs(stage)
        by_year = {name for name, table in TABLES.items() if YEAR in table.partition_by and table.layer != "published"}
        written = {name for run in runs for name in run.written} & by_year
        return due(
            years,
            runs,
            self.histories({*READS[stage], *written}, runs),
            reads=READS[stage],
            uses=self._uses(stage),
            parts=parts(stage, self.config),
            whole=self.config.policies is None,
            beside=self._beside(stage),
        )

    def _beside(self, stage: str) -> bool:
        """Whether a stage's commits change rows of other years than those it worked on: not where a step of the ingest replaces
        its years. Of a run that broke off, the commits of its last step then count as not its own."""
        return stage != "ingest" or self.config.mode == "upsert"

    def _ingests(self) -> list[StageRun]:
        """The runs of `ingest`, and before them one a year: the last that wrote it, with what the last one used that wrote it or
        looked at its files. Without that, a run that reads one year again would leave all others due."""
        return [*self._last_of_years().values(), *self.runs("ingest")]

    def _last_of_years(self) -> dict[str, StageRun]:
        last: dict[str, StageRun] = {}
        for row in reversed(self.rows):
            if row["stage"] == "ingest" and row["outcome"] == DONE:
                run = stage_run(row)
                standing = json.loads((row["details"] or {}).get(STANDING, "[]"))
                last |= {year: replace(last[year], uses=run.uses) for year in standing if year in last}
                last |= {year: replace(run, years=frozenset([year])) for year in run.years}
        return last

    def policies_stand(self) -> bool:
        """Whether ``gold/policy`` holds the policies of this run, words included."""
        name = POLICY.full_name
        wrote = (
            r for r in self.rows if r["stage"] == "flag" and r["outcome"] == "done" and name in r["versions_written"]
        )
        last = next(wrote, None)
        if last is None or (last["details"] or {}).get("definitions") != definitions(self.config):
            return False
        run = stage_run(last)
        return self.histories([name], [run])[name].changed(run.written[name]) == frozenset()

    def due_sources(self) -> Due:
        """What has to be read again of the source files. Without ``years`` in the configuration the years are those that
        the last such run found; before it, they are not known."""
        if self.config.years:
            return self.due("ingest", list(self.config.years))
        last = self._last_of_every_year()
        if last is None:
            return Due(["every year"], None, ["not done yet"])
        found = self.due("ingest", _years_found(last))
        if not found:
            # A run of named years may have taken in files of which it left other years aside.
            reasons = differences(stage_run(last).uses, self._uses("ingest"))
            return Due(["every year"], None, reasons) if reasons else found
        return found

    def previous_ingest(self) -> PreviousIngest | None:
        """What the last ingest knew, where it came to its end and since then nothing but source files in Python's reach has
        changed or been added; else None. (A file that is gone may have held any year.)"""
        ingests = [row for row in self.rows if row["stage"] == "ingest" and row["outcome"] == DONE]
        last = self._last_of_years()
        every = self._last_of_every_year()
        years = self.config.years or (_years_found(every) if every else ())
        # A year without its run may have been written by a step that failed.
        if not years or not all(year in last and year in self._verdicts for year in years):
            return None
        known = [last[year] for year in years]
        # One state of the files, for all years and for the rows of repeated keys: a look that broke off leaves several.
        before, now = stage_run(ingests[0]).uses, self._uses("ingest")
        repeated = REPEATED_ROW.full_name
        wrote = (row["versions_written"] or {} for row in ingests)
        settled = next((versions[repeated] for versions in wrote if repeated in versions), 0)
        there = self.lake.exists(REPEATED_ROW) and self.lake.version(REPEATED_ROW) == settled
        if not there or any(run.uses != before for run in known):
            return None
        changed = {key for key in {*before, *now} if before.get(key) != now.get(key)}
        if any(key.startswith("table:") or is_remote(key.removeprefix("data:")) for key in now) or not all(
            key.startswith("data:") and key in now for key in changed
        ):
            return None
        written = {name for run in known for name in run.written if YEAR in TABLES[name].partition_by}
        as_used = [replace(run, uses=now) for run in known]
        if due(years, as_used, self.histories(written, known), reads=(), uses=now, beside=self._beside("ingest")):
            return None
        files: dict[str, set[str]] = {}
        read: set[str] = set()
        for row in ingests:  # of each file by the last step that read it
            told = json.loads((row["details"] or {}).get(VERDICTS, "{}"))
            for path in told.keys() - read:
                for year in told[path].keys() - {""}:
                    files.setdefault(year, set()).add(path)
            read |= told.keys()
        asked = {row["run_id"]: _years_asked(row) for row in ingests}
        by_year = {year: frozenset(paths) for year, paths in files.items()}
        paths = frozenset(key.removeprefix("data:") for key in changed)
        return PreviousIngest(paths, list(years), frozenset(read), by_year, asked)

    def _last_of_every_year(self) -> dict[str, Any] | None:
        """The last step of a run that was asked for all years."""
        ended = (row for row in self.rows if row["stage"] == "ingest" and row["outcome"] == DONE)
        return next((row for row in ended if _years_asked(row) is None), None)

    def step_due(self, years: list[str], files: Collection[str], verdicts: Mapping[str, Mapping[str, str]]) -> Due:
        """What has to be read again of years that no other source files than ``files`` hold rows of. A file that is no source
        any more may have held any year. ``verdicts``: what becomes of each file's rows, by year, as a fingerprint; other files
        may have changed it."""
        if self._sources is None:
            self._sources = self._uses("ingest")

        def of_step(key: str) -> bool:
            kind, _, path = key.partition(":")
            # Which files a remote path stands for is not known here.
            inside = any(within(file, path) for file in files)
            return kind != "data" or inside or is_remote(path)

        now = {key: value for key, value in self._sources.items() if of_step(key)}
        runs = [
            replace(run, uses={k: v for k, v in run.uses.items() if of_step(k) or k not in self._sources})
            for run in self.runs("ingest")
        ]
        written = {name for run in runs for name in run.written if YEAR in TABLES[name].partition_by}
        found = due(years, runs, self.histories(written, runs), reads=(), uses=now, beside=self._beside("ingest"))
        if found:
            return found
        before = self._verdicts
        changed: set[str] = set()
        for year in years:
            was, now_is = before.get(year, {}), _of_year(verdicts, year)
            changed |= {path for path in was.keys() | now_is.keys() if was.get(path) != now_is.get(path)}
        changed |= {path for path in files if before[""].get(path) != verdicts.get(path, {}).get("")}
        if not changed:
            return found
        named = a_few(sorted({path.rpartition("/")[2] for path in changed}))
        return Due(years, None, [f"other files change what becomes of rows of {named}"])

    def files_of(self, years: Iterable[str]) -> frozenset[str]:
        """The files that had rows of some years when these were last written."""
        return frozenset(path for year in years for path in self._verdicts.get(year, {}))

    @cached_property
    def _verdicts(self) -> dict[str, dict[str, str | None]]:
        """By year, what the last step that wrote it made of each file's rows of it; under "" the rows of no year, of each file
        by the last step that read it."""
        known: dict[str, dict[str, str | None]] = {"": {}}
        for row in self.rows:  # the newest first
            if row["stage"] == "ingest" and row["outcome"] == DONE and VERDICTS in (row["details"] or {}):
                told = json.loads(row["details"][VERDICTS])
                for year in row["years"] or ():
                    known.setdefault(year, _of_year(told, year))
                known[""] = {path: by_year.get("") for path, by_year in told.items()} | known[""]
        return known

    def why_publish(self) -> list[str]:
        """Why a new release has to be made; nothing when the last one covers what stands."""
        runs = self.runs("publish")
        histories = self.histories(READS["publish"], runs)
        used = uses("publish", self.config, self.lake, self.run_id)
        reasons = due_at_all(runs, histories, reads=READS["publish"], uses=used)
        last = next((run for run in runs if run.outcome == DONE), None)
        later = self.lake.commits(RELEASE, last.written.get(RELEASE.full_name, -1)) if last else []
        if any(checksum_columns_of(commit).get("stage") == "publish" for commit in later):
            # By a run that did not come to its end, or that the log puts in another place (a clock set back).
            reasons.append(f"{RELEASE.full_name} was written by something else")
        return reasons

    def checks_due(self, years: list[str], held: Iterable[str]) -> dict[str, Due]:
        """What has to be validated, by layer: of silver and flags ``years``, of rates also other years of those ``held``, since
        pooled periods and marks of months follow from years beside theirs."""
        found = {}
        for layer, names in CHECKED.items():
            runs = self._checks(layer)
            told = uses("validate", self.config, self.lake, self.run_id)
            of = sorted({*years, *held}) if layer == "rates" else years
            found[layer] = due(of, runs, self.histories(names, runs), reads=names, uses=told)
        return found

    def unchecked(self, years: Iterable[str], layers: Iterable[str] = CHECKED) -> dict[str, str]:
        """Years that no validation holds for, each with the reason."""
        years = list(years)
        found: dict[str, str] = {}
        for layer in layers:
            runs = self._checks(layer)
            found = unchecked(years, runs, self.histories(CHECKED[layer], runs), reads=CHECKED[layer]) | found
        return found

    def _checks(self, layer: str) -> list[StageRun]:
        """Runs of ``validate``, with the years of one layer. A failed one counts for every layer it was to check."""
        rows = [row for row in self.rows if row["stage"] == "validate"]
        return [
            replace(stage_run(row), years=frozenset(json.loads(details[f"years:{layer}"])))
            for row in rows
            if f"years:{layer}" in (details := row["details"] or {})
        ]


def _years_found(row: Mapping[str, Any]) -> list[str]:
    """The years that an ingest was to replace. One row of the log is one step: others may not have been reached."""
    return json.loads((row["details"] or {}).get("found", "null")) or list(row["years"] or ())


def _years_asked(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The years that an ingest was asked for; None: all that the files hold."""
    return None if (row["details"] or {}).get("asked") == "every year" else tuple(_years_found(row))


def _of_year(verdicts: Mapping[str, Mapping[str, str]], year: str) -> dict[str, str | None]:
    return {path: by_year[year] for path, by_year in verdicts.items() if year in by_year}


def stage_run(row: Mapping[str, Any]) -> StageRun:
    """A row of the run log as `recompute` weighs it."""
    details: dict[str, str] = row["details"] or {}

    def told(kind: str) -> dict[str, str]:
        return {key.removeprefix(kind): value for key, value in details.items() if key.startswith(kind)}

    return StageRun(
        run_id=row["run_id"],
        outcome=row["outcome"],
        years=frozenset(row["years"] or ()),
        read=row["versions_read"] or {},
        written=row["versions_written"] or {},
        uses=told("uses:"),
        parts=told("part:") or ONE_PART,
        whole=details.get("whole", "true") == "true",
    )


def details_of(stage: str, config: RunConfig, lake: Lake, run_id: str, only: list[str] | None) -> dict[str, str]:
    """What a stage's row of the run log has to say for later runs to compare; ``only``: the parts worked on."""
    if stage not in STAGES:
        return {}
    told = {f"uses:{key}": value for key, value in uses(stage, config, lake, run_id).items()}
    told |= {
        f"part:{key}": value for key, value in parts(stage, config).items() if key and (only is None or key in only)
    }
    told["day"] = config.day.isoformat()
    if stage == "ingest":
        told["asked"] = "every year" if config.years is None else "named years"
    if stage == "flag":
        told["whole"] = str(config.policies is None and only is None).lower()
        told["definitions"] = definitions(config)
    if stage == "publish":
        told["keep_releases"] = str(config.keep_releases)
    return told


def uses(stage: str, config: RunConfig, lake: Lake, run_id: str) -> dict[str, str]:
    """``kind:name`` → fingerprint of everything but tables of the lake that a stage's rows rest on. What cannot be
    known is told by the run's own id, which no other run has."""
    told = {"program:": str(STAGE_VERSIONS[stage])}
    for pattern in SHIPPED[stage]:
        folder, _, name = pattern.rpartition("/")
        for path in sorted(resource(*folder.split("/")).glob(name)):
            told[f"file:{folder}/{path.name}"] = _content(str(path))
    for item in fields(config):
        value = getattr(config, item.name)
        # A setting that is new, and left at its default, changes nothing.
        if stage in SETTINGS.get(item.name, STAGES) and value != _default(item):
            told |= _setting(item.name, value)
    if stage == "rate":
        policies = load_policies(config.policy_dirs, config.policies)
        told["policies:"] = fingerprint([_published_by(policy) for policy in policies])
    if stage == "ingest":
        for source in config.sources:
            for role, table in source.tables.items():
                name = f"{source.name}.{role}"
                told[f"source:{name}"] = fingerprint([source.system, vars(table)])
                if table.headers_file:
                    told[f"file:{table.headers_file}"] = _content(str(table.headers_file))
                told |= _source_state(table, f"sources.{name}", lake, run_id)
    return told


def _default(item: "Field[Any]") -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def _setting(name: str, value: Any) -> dict[str, str]:
    files: dict[str, str] = {}
    for path in _paths(value):
        place = Path(path)
        pattern = glob.has_magic(place.name) and not os.path.lexists(place)
        matches = sorted(map(str, place.parent.glob(place.name))) if pattern else [path]
        files |= {f"file:{match}": _content(match) for match in matches}
    return {f"setting:{name}": json.dumps(value, default=str, sort_keys=True), **files}


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, Path):
        yield str(value)
    elif isinstance(value, str) and Path(value).is_absolute():
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _paths(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _paths(item)


def _content(path: str) -> str:
    try:
        if not Path(path).is_file():
            return "no file"
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        return type(error).__name__  # whoever reads it says what is wrong


def _source_state(source: TableSource, where: str, lake: Lake, run_id: str) -> dict[str, str]:
    if source.table:
        return {f"table:{source.table}": lake.foreign_version(source.table) or run_id}
    return {f"data:{path}": run_id if is_remote(path) else _stated(Path(path)) for path in find_files(source, where)}


def _stated(path: Path) -> str:
    """Size and modification time of a file, or of every file in a folder."""
    files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    try:
        told = [(str(entry.relative_to(path)), entry.stat().st_size, entry.stat().st_mtime_ns) for entry in files]
    except OSError as error:
        return type(error).__name__
    return f"{told[0][1]} {told[0][2]}" if path.is_file() and told else fingerprint(told)


def parts(stage: str, config: RunConfig) -> dict[str, str]:
    """The policies that `flag` judges by, each with a fingerprint of its verdicts; of other stages the one part."""
    if stage != "flag":
        return dict(ONE_PART)
    found: dict[str, list[Any]] = {}
    for unit in revision_periods(load_policies(config.policy_dirs, config.policies), config):
        readings = {name: reading.fingerprint for name, reading in unit.revision.readings.items()}
        flips = [
            [flip.base, flip.decision, flip.undone, [[c.id, c.kind, c.test, c.missing] for c in flip.clauses]]
            for flip in unit.revision.flips
        ]
        told = [unit.revision.name, unit.since, unit.until, readings, flips, unit.policy.boards]
        found.setdefault(unit.policy.id, []).append(told)
    return {policy: fingerprint(told) for policy, told in found.items()}


def _published_by(policy: Policy) -> list[Any]:
    """What says how a policy's figures are pooled and published, besides its verdicts."""
    return [policy.id, policy.default_reading, policy.publish_years, policy.publish_first_year, policy.boards]


def definitions(config: RunConfig) -> str:
    """A fingerprint of the policies' whole definitions, wording included: what `gold/policy` shows."""
    policies = load_policies(config.policy_dirs, config.policies)
    return fingerprint(
        [
            [*_published_by(policy), revision.start, revision.end, revision.dated, reading.definition]
            for policy in policies
            for revision in policy.revisions
            for reading in revision.readings.values()
        ]
    )


def refuse_unchecked(books: RunHistory, years: Iterable[str]) -> None:
    """An :class:`InputError` unless a validation that let them pass holds for every year as it stands now."""
    found = books.unchecked(years)
    if found:
        reasons: dict[str, list[str]] = {}
        for year, reason in found.items():
            reasons.setdefault(reason, []).append(year)
        listed = "; ".join(f"{', '.join(of)}: {reason}" for reason, of in reasons.items())
        raise InputError(
            f"nothing was published: {listed}",
            remedy=f"run `ebi-spark validate --years {','.join(sorted(found))}` with the same configuration first",
        )
