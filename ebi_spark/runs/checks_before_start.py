"""Checks before a session starts: a run that would fail at its third stage does not begin.

They need no Java and take seconds. Every check is made even where an earlier one found a problem, so that one call shows
all of them. What needs a session is listed as not checked.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ebi_spark.approvals.regimes import boards_shown, read_regimes, stated_coverage
from ebi_spark.config.lake_location import LAYERS
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.errors import InputError
from ebi_spark.geography.area_versions import read_geography, resolved
from ebi_spark.geography.lookup_files import read_provider_names
from ebi_spark.geography.record_areas import lookup_spans
from ebi_spark.lake.locking import LOCK
from ebi_spark.lake.object_store import Objects
from ebi_spark.own_files import refuse_pages, refuse_place, refuse_report
from ebi_spark.rates.equality import read_fifths, read_people_of_fifths
from ebi_spark.rates.population import read_population
from ebi_spark.runs.output_paths import docs_folder, report_file
from ebi_spark.runs.run_inputs import RunInputs
from ebi_spark.small_files import named_files, refuse_special
from ebi_spark.sources.file_inventory import source_bytes
from ebi_spark.sources.header_checks import check_headers
from ebi_spark.spark.jars import local_jars
from ebi_spark.spark.platform import platform_session, refuse_local_catalogue, refuse_local_stores
from ebi_spark.spark.scratch import refuse_scratch
from ebi_spark.spark.session import local_size

PASSED, WARNING, NOT_CHECKED, REFUSED = "ok", "warning", "not checked", "refused"
LAYERS_OF_PAGES = ("silver", "flags", "rates", "monitoring", "published")


class Answer(NamedTuple):
    """What a check found, and its result."""

    found: str
    result: str = PASSED


@dataclass(frozen=True)
class Finding:
    """One check: the key of the configuration, what was found, the result, and the remedy for a problem."""

    check: str
    found: str
    result: str
    remedy: str = ""


# A check: the key of the configuration, and the work, which raises an InputError for a problem.
Check = tuple[str, Callable[[], Answer]]


def check_before_start(config: RunConfig, job: str, inputs: RunInputs | None = None) -> list[Finding]:
    """A finding for each check that matters to a job (``run`` and ``check``: all of them), in the order of the
    configuration's stages. ``inputs`` keeps the files and policies that were found, for the run that follows."""
    inputs = inputs or RunInputs(config)
    findings: list[Finding] = []
    problems: set[str] = set()
    for check, work in (item for part in _PARTS.get(job, ()) for item in part(config, inputs)):
        try:
            found, result = work()
            findings.append(Finding(check, found, result))
        except InputError as error:
            # One bad file can stop several checks. It is shown once.
            known = error.message in problems
            problems.add(error.message)
            findings.append(
                Finding(check, "needs what is refused above", NOT_CHECKED)
                if known
                else Finding(check, error.message, REFUSED, error.remedy)
            )
    return findings


def refuse_problems(findings: Iterable[Finding]) -> None:
    """Raise an :class:`InputError` with the first problem, if there is any. It says how many more there are."""
    problems = [finding for finding in findings if finding.result == REFUSED]
    if problems:
        more = len(problems) - 1
        others = f"; `ebi-spark check` shows this and {more} more problem{'s' if more > 1 else ''}" if more else ""
        raise InputError(problems[0].found, remedy=problems[0].remedy + others)


def _policies(config: RunConfig, inputs: RunInputs) -> Iterator[Check]:
    def work() -> Answer:
        _ = inputs.periods
        return Answer(", ".join(policy.id for policy in inputs.policies))

    yield "policies", work


def _areas(config: RunConfig, inputs: RunInputs) -> Iterator[Check]:
    """The version of the areas with the user's mappings, and the lookups that give a record its area."""

    def areas() -> Answer:
        for path in config.mappings:
            _refuse_missing("geography.mappings", path)
        geography = read_geography(config.geography, config.mappings)
        return Answer(f"{len(geography.areas):,} areas (version {resolved(config.geography)})")

    def lookup(name: str, path: Path, key: str) -> Answer:
        _refuse_missing(name, path)
        remarks: list[str] = []
        rows = len(lookup_spans(path, key, read_geography(config.geography, config.mappings), remarks))
        return Answer("; ".join([f"{path}: {rows:,} rows", *remarks]))

    yield "geography", areas
    if config.practices:
        yield "geography.practices", partial(lookup, "geography.practices", config.practices, "practice_code")
    if config.lsoas:
        yield "geography.lsoas", partial(lookup, "geography.lsoas", config.lsoas, "lsoa")
    if config.providers:
        yield "geography.providers", partial(_providers, config.providers)
    if config.deprivation:
        yield "deprivation.lookup", partial(_deprivation, "deprivation.lookup", config.deprivation, read_fifths)
    if config.deprivation_population:
        read, path = read_people_of_fifths, config.deprivation_population
        yield "deprivation.population", partial(_deprivation, "deprivation.population", path, read)


def _providers(path: Path) -> Answer:
    _refuse_missing("geography.providers", path)
    return Answer(f"{path}: {len(read_provider_names(path)):,} names")


def _deprivation(name: str, path: Path, read: Callable[[Path], Sized]) -> Answer:
    _refuse_missing(name, path)
    return Answer(f"{path}: {len(read(path)):,} {'small areas' if name.endswith('lookup') else 'fifths'}")


def _population(config: RunConfig, inputs: RunInputs, most_bytes: int | None = None) -> Iterator[Check]:
    """The population files. Those of more than ``most_bytes`` together are left to the stage `rate`."""

    def work() -> Answer:
        paths = [path for item in config.population for path in _refuse_missing("population", Path(item["path"]))]
        size = sum(path.stat().st_size for path in paths)
        if most_bytes is not None and size > most_bytes:
            return Answer(f"{_size(size)} of files, which are read when rates are computed", NOT_CHECKED)
        if config.standard_population.endswith(".csv"):
            _refuse_missing("standard_population", Path(config.standard_population))
        # `build_population` reads these lookups too: say which of them is not there.
        for name, lookup in (("geography.practices", config.practices), ("geography.lsoas", config.lsoas)):
            if lookup:
                _refuse_missing(name, lookup)
        population = read_population(config, list(config.years or []))
        days = ", ".join(str(vintage) for vintage in sorted(population.by_vintage))
        return Answer(f"people of {days}; standard {config.standard_population}")

    yield "population", work


def _refuse_missing(what: str, path: Path) -> list[Path]:
    """The files that a path or pattern names. An :class:`InputError` if there is none, or something that is not a file."""
    found = named_files(path)
    for one in found:
        refuse_special(one, f"{what}: ")
    if not any(os.path.isfile(one) for one in found):  # noqa: PTH113 - answers also where a name is too long
        raise InputError(
            f"{what}: there is no file {path}",
            remedy="correct the path; it is relative to the configuration file",
        )
    return [one for one in found if one.is_file()]


def _docs(config: RunConfig, inputs: RunInputs) -> Iterator[Check]:
    folder = docs_folder(config)

    def work() -> Answer:
        if folder:
            refuse_pages(folder, LAYERS_OF_PAGES)
        return Answer(str(folder or "no validation pages: the lake is not a folder, and the key `docs` names none"))

    yield "docs", work


def _report(config: RunConfig, inputs: RunInputs) -> Iterator[Check]:
    path = report_file(config)

    def work() -> Answer:
        if path:
            refuse_report(path)
        return Answer(str(path or "no report: the lake is not a folder, and the key `report` names no file"))

    yield "report", work


def _approvals(config: RunConfig, inputs: RunInputs) -> Iterator[Check]:
    """What boards ask for before a procedure, and which boards the registers cover."""

    def work() -> Answer:
        shown = boards_shown(read_geography(config.geography, config.mappings))
        regimes, covered = read_regimes(config, shown), stated_coverage(config, shown)
        stated = f"registers cover {', '.join(sorted({item.board for item in covered}))}" if covered else ""
        of_boards = f"regimes of {', '.join(sorted({regime.board for regime in regimes}))}"
        return Answer("; ".join(filter(None, [of_boards, stated])))

    if config.registers or config.approval_regimes or config.register_covers:
        yield "approvals", work


def _sources(config: RunConfig, inputs: RunInputs, sources: Iterable[Source] | None = None) -> Iterator[Check]:
    """The files of all sources, or of some."""

    def work(table: TableSource, where: str) -> Answer:
        checked = check_headers(table, where, config, inputs.files)
        parts = []
        if checked.files:
            least, most = checked.columns
            columns = f"{least}" if least == most else f"{least} to {most}"
            parts.append(f"{checked.files:,} file{'s' if checked.files > 1 else ''}, {columns} columns are read")
        if checked.platforms:
            parts.append(f"named as in {' or '.join(checked.platforms)}")
        parts += checked.not_checked
        return Answer("; ".join(parts), NOT_CHECKED if checked.not_checked else PASSED)

    for source in config.sources if sources is None else sources:
        for role, table in source.tables.items():
            where = f"sources.{source.name}.{role}"
            yield where, partial(work, table, where)


def _lake(config: RunConfig, inputs: RunInputs) -> Iterator[Check]:
    folder = config.lake.folder

    def work() -> Answer:
        refuse_local_catalogue(config.lake)
        if config.lake.url:
            refuse_local_stores(config.stores)
            there = Objects(config.lake.url).names("silver")
            free = "no lock" if LOCK not in there else f"locked by {LOCK}"
            return Answer(f"{config.lake}: it can be read ({free}); the right to write", NOT_CHECKED)
        if folder is None:
            return Answer(f"{config.lake}: the tables and the right to write them", NOT_CHECKED)
        refuse_scratch(folder)
        for place in (folder, *(folder / layer for layer in LAYERS)):
            refuse_place("lake", place, folder=True)
        return Answer(f"{folder}{'' if (folder / LAYERS[0]).is_dir() else ' (will be created)'}")

    yield "lake", work


def _session(config: RunConfig, inputs: RunInputs) -> Iterator[Check]:
    def work() -> Answer:
        if platform_session():
            return Answer("the platform's own", NOT_CHECKED)
        master, memory = local_size()
        local_jars(config.stores)
        more = f", and those for {', '.join(f'{store}://' for store in sorted(config.stores))}" if config.stores else ""
        return Answer(f"{master} with {memory}; Delta's jars{more} are there")

    yield "session", work


def _disk(config: RunConfig, inputs: RunInputs) -> Iterator[Check]:
    """The free disk of a local lake, beside the sources as text. What a run needs is not known exactly, so that too
    little is a warning."""
    folder = config.lake.folder

    def work(folder: Path) -> Answer:
        there = next((place for place in (folder, *folder.parents) if place.is_dir()), None)
        needed = source_bytes(config, inputs.files)
        if there is None or needed is None:
            return Answer("how much the sources need", NOT_CHECKED)
        free = shutil.disk_usage(there).free
        found = f"{_size(free)} free; the sources have about {_size(needed)} as text"
        return Answer(found) if free >= needed else Answer(f"{found}, and a first run can need as much", WARNING)

    if folder:
        yield "free disk", partial(work, folder)


def _size(number: int) -> str:
    return (
        f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB" if number >= 1e5 else "0.1 MB or less"
    )


def _record_sources(config: RunConfig, inputs: RunInputs) -> Iterator[Check]:
    yield from _sources(config, inputs, config.record_sources)


def _registers(config: RunConfig, inputs: RunInputs) -> Iterator[Check]:
    yield from _sources(config, inputs, config.registers)


# Reading more than this would delay each run by seconds, also one with nothing to do.
_quick_population = partial(_population, most_bytes=20_000_000)
_PARTS: dict[str, tuple[Callable[[RunConfig, RunInputs], Iterator[Check]], ...]] = {
    "ingest": (_lake, _session, _record_sources),
    "flag": (_policies, _areas, _lake, _session),
    "rate": (_areas, _quick_population, _lake, _session),
    "monitor": (_policies, _areas, _approvals, _lake, _session, _registers),
    "validate": (_docs, _lake, _session),
    "publish": (_docs, _report, _lake, _session),
    "run": (_policies, _areas, _approvals, _quick_population, _docs, _report, _lake, _session, _disk, _sources),
    "check": (_policies, _areas, _approvals, _population, _docs, _report, _lake, _session, _disk, _sources),
}
