"""Finds out which years of a stage have to be computed again, and why. It compares what earlier runs recorded, and the
history of the tables, with their present state.

A stage's record (`ebi_spark.runs.state`) says which years it worked on, which table versions it read and wrote, and which other
inputs it had: stage version, definitions, settings and files, each by a fingerprint. A year of a stage is due when
one of these inputs differs from its last successful run, when a table that the stage reads has changed in that year
since, or when something else has written to its own tables. If a change cannot be ruled out, the year is due. These
are pure functions: the caller passes the runs, the histories and the fingerprints.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ebi_spark.lake.local_tables import CommitInfo

# Operations that change no row.
ROWS_UNTOUCHED = frozenset(
    {"CREATE TABLE", "OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "ADD COLUMNS",
     "CHANGE COLUMN", "CHANGE COLUMNS", "UPGRADE PROTOCOL", "COMPUTE STATS", "REORG"}
)  # fmt: skip
DONE = "done"
ONE_PART = {"": ""}
# Appended to the state of a source file once a day has come for which the file has rows, if the file was last read
# before that day.
READ_BEFORE = ", read before "


@dataclass(frozen=True)
class StageRun:
    """One stage of one run, or one of its batches.

    ``inputs`` maps ``kind:name`` to a fingerprint. ``parts`` maps each part of the stage (for `flag`, each policy)
    to a fingerprint. ``whole``: the stage replaced all rows of its years, including rows of other parts.
    """

    run_id: str
    outcome: str
    years: frozenset[str]
    read: Mapping[str, int]
    written: Mapping[str, int]
    inputs: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=lambda: ONE_PART)
    whole: bool = True


@dataclass(frozen=True)
class History:
    """A table's newest version, and the commits that led to it as far as they are known."""

    newest: int
    commits: Sequence[CommitInfo] = ()

    def changed(self, since: int | None, part: str = "", ignored_runs: Collection[str] = ()) -> frozenset[str] | None:
        """The years in which rows can have changed after the version ``since``; None means any year. With ``part``,
        only rows of that part count. Commits of the runs ``ignored_runs`` do not count."""
        if since is None or since > self.newest:
            return None
        known = {commit.version: commit for commit in self.commits}
        years: set[str] = set()
        for version in range(since + 1, self.newest + 1):
            if version not in known:
                return None
            if commit_metadata(known[version]).get("run_id") in ignored_runs:
                continue
            touched = _touched(known[version], part)
            if touched is None:
                return None
            years |= touched
        return frozenset(years)


def _touched(commit: CommitInfo, part: str) -> frozenset[str] | None:
    if commit.operation in ROWS_UNTOUCHED:
        return frozenset()
    metadata = commit_metadata(commit)
    parts, years = metadata.get("parts"), metadata.get("years")
    if part and isinstance(parts, list) and part not in parts:
        return frozenset()
    # Without years the commit changed all of them, or another tool made it.
    return frozenset(years) if commit.operation == "WRITE" and isinstance(years, list) else None


def commit_metadata(commit: CommitInfo) -> dict[str, Any]:
    """The metadata that this product wrote into a commit; empty for a commit made by another tool."""
    try:
        metadata = json.loads(commit.metadata or "")
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


@dataclass(frozen=True)
class Due:
    """What a stage has to do. Without ``years``, nothing. ``parts``: only these (None: all). ``reasons``: in words."""

    years: list[str]
    parts: list[str] | None
    reasons: list[str]

    def __bool__(self) -> bool:
        return bool(self.years)


def due(
    years: Iterable[str],
    runs: Sequence[StageRun],
    histories: Mapping[str, History],
    *,
    reads: Iterable[str],
    inputs: Mapping[str, str],
    parts: Mapping[str, str] = ONE_PART,
    whole: bool = True,
    writes_other_years: bool = True,
) -> Due:
    """The years and parts of a stage that its last successful runs do not cover.

    ``runs`` are the stage's runs, newest first. ``histories`` are those of the tables that the stage
    reads or writes by year; ``reads`` names the tables that it reads. ``whole``: rows of parts that are not in
    ``parts`` have to be removed. ``writes_other_years``: a run may also write rows of years that it did not work
    on.
    """
    completed = [run for run in runs if run.outcome == DONE]
    reads = list(reads)
    found: dict[str, set[str]] = {}
    due_parts: set[str] = set()
    for year in years:
        runs_of_year = [run for run in completed if year in run.years]
        year_runs = _since_whole(runs_of_year)
        existing = {part for run in year_runs for part in run.parts if part}
        removed = sorted(existing - set(parts)) if whole else []
        if removed:
            due_parts |= set(parts)
            for part in removed:
                found.setdefault(f"{part} is no longer configured", set()).add(year)
        for part, fingerprint in parts.items():
            last = next((run for run in year_runs if part in run.parts), None)
            if last is None:
                reasons = [f"{part} is new" if part and year_runs else "not done yet"]
            else:
                reasons = differences(last.inputs, inputs)
                if last.parts[part] != fingerprint:
                    reasons.append(f"{part} has changed")
                ended = {run.run_id for run in (completed if writes_other_years else runs_of_year)}
                reasons += _changed_tables(last, year, part, reads, histories, ended)
            for reason in reasons:
                due_parts.add(part)
                found.setdefault(reason, set()).add(year)
    due_years = sorted(set().union(*found.values())) if found else []
    chosen = None if due_parts == set(parts) else sorted(due_parts)
    by_years: dict[tuple[str, ...], list[str]] = {}
    for reason, years_of in found.items():
        by_years.setdefault(tuple(sorted(years_of)), []).append(reason)
    return Due(
        due_years, chosen, [f"{', '.join(reasons)} ({short_list(years_of)})" for years_of, reasons in by_years.items()]
    )


def _since_whole(runs: Sequence[StageRun]) -> list[StageRun]:
    """Of the runs of a year, newest first, those up to the last one that replaced the whole year. No row of an older run is
    left."""
    found: list[StageRun] = []
    for run in runs:
        found.append(run)
        if run.whole:
            break
    return found


def newest_of_each_year(runs: Sequence[StageRun]) -> list[int]:
    """The places of the runs, newest first, that :func:`due`, :func:`due_at_all` and :func:`unchecked` look at: the last
    completed one, and in each year those up to the last one that replaced the whole year."""
    replaced: set[str] = set()
    found: list[int] = []
    for number, run in enumerate(runs):
        if run.outcome == DONE and (run.years - replaced or not found):
            found.append(number)
            replaced |= run.years if run.whole else set()
    return found


def _changed_tables(
    last: StageRun,
    year: str,
    part: str,
    reads: Sequence[str],
    histories: Mapping[str, History],
    ended: Collection[str] = (),
) -> list[str]:
    """The tables that have changed since a run, as reasons.

    Runs of the stage that ended (``ended``) may also have written rows of other years to its own tables (pooled
    periods, marks, comparisons). These do not count as changes.
    """
    reasons = []
    for table in reads:
        changed = changed_years(histories, table, last.read.get(table))
        if changed is None or year in changed:
            reasons.append(f"{table} has changed")
    for table, version in last.written.items():
        if table in histories and table not in reads:
            changed = histories[table].changed(version, part, ended)
            if changed is None or year in changed:
                reasons.append(f"{table} was written by something else")
    return reasons


def changed_years(histories: Mapping[str, History], table: str, since: int | None) -> frozenset[str] | None:
    """The years in which rows of a table can have changed after a version; None means any year."""
    return histories[table].changed(since) if table in histories else None


def last_done(runs: Iterable[StageRun]) -> StageRun | None:
    """The newest run that was completed, of runs that have the newest first."""
    return next((run for run in runs if run.outcome == DONE), None)


def due_at_all(
    runs: Sequence[StageRun], histories: Mapping[str, History], *, reads: Iterable[str], inputs: Mapping[str, str]
) -> list[str]:
    """Why a stage that always works on all years has to run. Empty when its last successful run covers the present
    state."""
    last = last_done(runs)
    if last is None:
        return ["not done yet"]
    reasons = differences(last.inputs, inputs)
    for table in reads:
        changed = changed_years(histories, table, last.read.get(table))
        if changed is None or changed:
            years_of = f" ({short_list(sorted(changed))})" if changed else ""
            reasons.append(f"{table} has changed{years_of}")
    return reasons


def unchecked(
    years: Iterable[str], runs: Sequence[StageRun], histories: Mapping[str, History], *, reads: Iterable[str]
) -> dict[str, str]:
    """The years whose last validation does not cover the present state, each with the reason. ``runs`` are those of
    ``validate``, newest first, failed ones included."""
    reads = list(reads)
    found = {}
    for year in years:
        last = next((run for run in runs if year in run.years), None)
        if last is None:
            found[year] = "was not validated"
        elif last.outcome != DONE:
            found[year] = "failed its last validation"
        else:
            changed = [
                reason.removesuffix(" has changed") for reason in _changed_tables(last, year, "", reads, histories)
            ]
            if changed:
                found[year] = f"{', '.join(changed)} changed since the last validation"
    return found


_WORDS = {
    "policies": ("how policies are published has changed", "how policies are published has changed"),
    "program": ("the program has changed", "the program has changed"),
    "setting": ("the setting {} has changed", "the settings {} have changed"),
    "source": ("the configuration of the source {} has changed", "the configuration of the sources {} has changed"),
    "table": ("the source table {} has changed", "the source tables {} have changed"),
    "file": ("the file {} has changed", "the files {} have changed"),
    "data": ("the source file {} has changed", "the source files {} have changed"),
    "day": (
        "the source file {} has rows of a day that was in the future",
        "the source files {} have rows of days that were in the future",
    ),
}


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two sets of inputs, in words. Files are named without their folders."""
    if now and not before:
        return ["the last run did not record its inputs"]
    names: dict[str, list[str]] = {}
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            kind, _, name = key.partition(":")
            if READ_BEFORE in now.get(key, "") and now[key].partition(READ_BEFORE)[0] == before.get(key):
                kind, name = "day", name.rpartition("/")[2]
            names.setdefault(kind, []).append(name.rpartition("/")[2] if kind in ("file", "data") else name)
    return [
        _WORDS.get(kind, (f"{kind} {{}} has changed", f"{kind} {{}} have changed"))[len(listed) > 1].format(
            short_list(listed)
        )
        for kind, listed in names.items()
    ]


def short_list(names: Sequence[str]) -> str:
    """The first four names, and how many more there are."""
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
