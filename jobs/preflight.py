"""Checks before a session starts: a run that would fail at its third stage does not begin."""

import glob
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import InputError
from ebi_spark.own_files import refuse_pages, refuse_report
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.runs.output_paths import docs_folder, report_file
from ebi_spark.small_files import refuse_special

LAYERS_CHECKED = ("silver", "flags", "rates", "published")


def _policies(config: RunConfig) -> None:
    revision_periods(load_policies(config.policy_dirs, config.policies), config)


def _lookups(config: RunConfig) -> None:
    for what, path in _named(config):
        pattern = glob.has_magic(path.name) and not os.path.lexists(path)
        found = sorted(path.parent.glob(path.name)) if pattern else [path]
        for one in found:
            refuse_special(one, f"{what}: ")
        if not any(os.path.isfile(one) for one in found):  # noqa: PTH113 - answers also where a name is too long
            raise InputError(
                f"{what}: there is no file {path}",
                remedy="correct the path; it is taken relative to the configuration file",
            )


def _named(config: RunConfig) -> Iterator[tuple[str, Path]]:
    for what, path in (("practices", config.practices), ("lsoas", config.lsoas)):
        if path:
            yield f"geography.{what}", path
    yield from (("geography.mappings", path) for path in config.mappings)
    yield from (("population", Path(item["path"])) for item in config.population)
    if config.standard_population.endswith(".csv"):
        yield "standard_population", Path(config.standard_population)


def _docs(config: RunConfig) -> None:
    folder = docs_folder(config)
    if folder:
        refuse_pages(folder, LAYERS_CHECKED)


def _report(config: RunConfig) -> None:
    path = report_file(config)
    if path:
        refuse_report(path)


CHECKS: dict[str, tuple[Callable[[RunConfig], None], ...]] = {
    "flag": (_policies, _lookups),
    "rate": (_lookups,),
    "validate": (_docs,),
    "publish": (_report,),
    "run": (_policies, _lookups, _docs, _report),
}


def preflight(config: RunConfig, job: str) -> None:
    """Raise the first :class:`InputError` that the stages of a job would otherwise meet after others have committed."""
    for check in CHECKS.get(job, ()):
        check(config)
