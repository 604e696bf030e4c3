"""What has to be computed again, and why: the run log and the tables' histories held against what stands now.

A stage's row of the run log says which years it worked on, which table versions it read and left, and what else it used:
program, definitions, settings and files, each by a fingerprint. A year of a stage is due when any of these differs from
its last successful run, when a table that it read has changed in that year since, or when what it wrote has. What cannot
be known is due. Pure functions: whoever calls brings the log, the histories and the fingerprints.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ebi_spark.lake.delta_log import CommitInfo

# Commits that leave every row as it was.
ROWS_UNTOUCHED = frozenset(
    {"CREATE TABLE", "OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "ADD COLUMNS",
     "UPGRADE PROTOCOL", "COMPUTE STATS", "REORG"}
)  # fmt: skip
DONE = "done"
ONE_PART = {"": ""}
# Behind the state of a source file: it was read before this day, which has come and of which it has rows.
READ_BEFORE = ", read before "


@dataclass(frozen=True)
class StageRun:
    """One row of the run log. ``uses`` maps ``kind:name`` to a fingerprint; ``parts`` maps what the stage does side by
    side (policies) to a fingerprint each; ``whole``: it replaced its years whole, other parts' rows included."""

    run_id: str
    outcome: str
    years: frozenset[str]
    read: Mapping[str, int]
    written: Mapping[str, int]
    uses: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=lambda: ONE_PART)
    whole: bool = True


@dataclass(frozen=True)
class History:
    """A table's newest version and the commits that lead to it, as far as they are known."""

    newest: int
    commits: Sequence[CommitInfo] = ()

    def changed(self, since: int | None, part: str = "", besides: Collection[str] = ()) -> frozenset[str] | None:
        """The years in which rows (of ``part``, where given) can have changed after the version ``since``; None: any.
        Commits of the runs ``besides`` do not count."""
        if since is None or since > self.newest:
            return None
        known = {commit.version: commit for commit in self.commits}
        years: set[str] = set()
        for version in range(since + 1, self.newest + 1):
            if version not in known:
                return None
            if checksum_columns_of(known[version]).get("run_id") in besides:
                continue
            touched = _touched(known[version], part)
            if touched is None:
                return None
            years |= touched
        return frozenset(years)


def _touched(commit: CommitInfo, part: str) -> frozenset[str] | None:
    if commit.operation in ROWS_UNTOUCHED:
        return frozenset()
    told = checksum_columns_of(commit)
    parts, years = told.get("parts"), told.get("years")
    if part and isinstance(parts, list) and part not in parts:
        return frozenset()
    # Without years: all of them, or not written by this product.
    return frozenset(years) if commit.operation == "WRITE" and isinstance(years, list) else None


def checksum_columns_of(commit: CommitInfo) -> dict[str, Any]:
    """What the writer of a commit said of it; nothing when it was not this product."""
    try:
        told = json.loads(commit.metadata or "")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


@dataclass(frozen=True)
class Due:
    """What a stage has to do: nothing without ``years``. ``parts``: only these (None: all). ``reasons`` in words."""

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
    uses: Mapping[str, str],
    parts: Mapping[str, str] = ONE_PART,
    whole: bool = True,
    beside: bool = True,
) -> Due:
    """The years and parts of a stage that its last successful runs do not cover.

    ``runs`` are the stage's rows of the run log, newest first; ``histories`` those of the tables that it reads or
    writes by year; ``reads`` names the former; ``whole``: rows of parts that are not in ``parts`` have to go; ``beside``: a run
    may write rows of other years than its own.
    """
    done = [run for run in runs if run.outcome == DONE]
    reads = list(reads)
    found: dict[str, set[str]] = {}
    due_parts: set[str] = set()
    for year in years:
        of_year = [run for run in done if year in run.years]
        gone = sorted(_held(of_year) - set(parts)) if whole else []
        if gone:
            due_parts |= set(parts)
            for part in gone:
                found.setdefault(f"{part} is no longer asked for", set()).add(year)
        for part, fingerprint in parts.items():
            last = next((run for run in of_year if part in run.parts), None)
            if last is None:
                reasons = [f"{part} is new" if part and of_year else "not done yet"]
            else:
                reasons = differences(last.uses, uses)
                if last.parts[part] != fingerprint:
                    reasons.append(f"{part} has changed")
                ended = {run.run_id for run in (done if beside else of_year)}
                reasons += _changed_tables(last, year, part, reads, histories, ended)
            for reason in reasons:
                due_parts.add(part)
                found.setdefault(reason, set()).add(year)
    due_years = sorted(set().union(*found.values())) if found else []
    chosen = None if due_parts == set(parts) else sorted(due_parts)
    by_years: dict[tuple[str, ...], list[str]] = {}
    for reason, of in found.items():
        by_years.setdefault(tuple(sorted(of)), []).append(reason)
    return Due(due_years, chosen, [f"{', '.join(reasons)} ({a_few(of)})" for of, reasons in by_years.items()])


def _held(runs: Sequence[StageRun]) -> set[str]:
    """The parts that a year's rows are of: those of its runs since the last that replaced it whole."""
    held: set[str] = set()
    for run in runs:
        held |= set(run.parts) - {""}
        if run.whole:
            break
    return held


def _changed_tables(
    last: StageRun,
    year: str,
    part: str,
    reads: Sequence[str],
    histories: Mapping[str, History],
    done: Collection[str] = (),
) -> list[str]:
    """Tables that changed since a run. What runs of the stage that came to their end (``done``) wrote to its own tables
    beside their years (pooled periods, marks, comparisons) is as it should be."""
    reasons = []
    for table in reads:
        changed = histories[table].changed(last.read.get(table)) if table in histories else None
        if changed is None or year in changed:
            reasons.append(f"{table} has changed")
    for table, version in last.written.items():
        if table in histories and table not in reads:
            changed = histories[table].changed(version, part, done)
            if changed is None or year in changed:
                reasons.append(f"{table} was written by something else")
    return reasons


def due_at_all(
    runs: Sequence[StageRun], histories: Mapping[str, History], *, reads: Iterable[str], uses: Mapping[str, str]
) -> list[str]:
    """Why a stage that always works on all years has to run: nothing when its last successful run covers what stands."""
    last = next((run for run in runs if run.outcome == DONE), None)
    if last is None:
        return ["not done yet"]
    reasons = differences(last.uses, uses)
    for table in reads:
        changed = histories[table].changed(last.read.get(table)) if table in histories else None
        if changed is None or changed:
            of = f" ({a_few(sorted(changed))})" if changed else ""
            reasons.append(f"{table} has changed{of}")
    return reasons


def unchecked(
    years: Iterable[str], runs: Sequence[StageRun], histories: Mapping[str, History], *, reads: Iterable[str]
) -> dict[str, str]:
    """Years whose last validation does not hold for what stands now, each with the reason. ``runs`` are those of
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
    "policies": ("how policies are to be published has changed", "how policies are to be published has changed"),
    "program": ("the program has changed", "the program has changed"),
    "setting": ("the setting {} has changed", "the settings {} have changed"),
    "source": ("the source {} is described differently", "the sources {} are described differently"),
    "table": ("the source table {} has changed", "the source tables {} have changed"),
    "file": ("the file {} has changed", "the files {} have changed"),
    "data": ("the source file {} has changed", "the source files {} have changed"),
    "day": (
        "the source {} has rows of a day that was still to come",
        "the sources {} have rows of days that were still to come",
    ),
}


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """In words, what is not as it was; names of files without their folders."""
    if now and not before:
        return ["the last run did not note what it used"]
    names: dict[str, list[str]] = {}
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            kind, _, name = key.partition(":")
            if READ_BEFORE in now.get(key, "") and now[key].partition(READ_BEFORE)[0] == before.get(key):
                kind, name = "day", name.rpartition("/")[2]
            names.setdefault(kind, []).append(name.rpartition("/")[2] if kind in ("file", "data") else name)
    return [
        _WORDS.get(kind, (f"{kind} {{}} has changed", f"{kind} {{}} have changed"))[len(listed) > 1].format(
            a_few(listed)
        )
        for kind, listed in names.items()
    ]


def a_few(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown
