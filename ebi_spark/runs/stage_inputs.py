"""What each stage reads: tables, settings and files, each file and setting with a fingerprint.

A setting or file that is not listed for a stage here counts for every stage: it is better to compute something
again than to leave it out of date.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from ebi_spark.config.fingerprint import fingerprint
from ebi_spark.config.keys import default_of, stages_of
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource
from ebi_spark.config.source_tables import TableSource
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.model import Policy
from ebi_spark.runs.due import ONE_PART
from ebi_spark.runs.run_inputs import RunInputs
from ebi_spark.runs.stage_versions import STAGE_VERSIONS
from ebi_spark.runs.state import POLICY_KIND
from ebi_spark.small_files import named_files
from ebi_spark.sources.file_inventory import is_remote
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY, POLICY_ATTRITION
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE, POPULATION
from ebi_spark.validation.suites import LAYER_SUITES, load_suite

STAGES = ("ingest", "flag", "rate", "monitor", "validate", "publish")
# What `validate` checks, by layer, each with its own years; and what `publish` reads.
CHECKED: dict[str, tuple[str, ...]] = {
    layer: tuple(dict.fromkeys(load_suite(suite).table.full_name for suite in LAYER_SUITES[layer]))
    for layer in ("silver", "flags", "rates", "monitoring")
}
# Layers whose rows of a year depend on other years too.
OF_ALL_YEARS = ("rates", "monitoring")
_CHECKED = tuple(name for names in CHECKED.values() for name in names)
# The tables that a stage reads.
READS: dict[str, tuple[str, ...]] = {
    "ingest": (),
    "flag": (APC_SPELL.full_name, OP_ATTENDANCE.full_name),
    # Of gold/policy it takes only what the fingerprints of the flags already cover.
    "rate": (ACTIVITY_FLAG.full_name, POLICY_ATTRITION.full_name, APC_SPELL.full_name, OP_ATTENDANCE.full_name),
    "monitor": (
        ACTIVITY_FLAG.full_name,
        POLICY.full_name,
        POLICY_ATTRITION.full_name,
        APC_SPELL.full_name,
        OP_ATTENDANCE.full_name,
        POPULATION.full_name,
    ),
    "validate": _CHECKED,
    "publish": _CHECKED,
}
SHIPPED: dict[str, tuple[str, ...]] = {
    "ingest": ("conf/layouts.yml", "conf/default_codes.yml"),
    "flag": ("conf/reference/*.csv", "conf/default_codes.yml"),
    "rate": ("conf/reference/*.csv", "conf/default_codes.yml", "conf/code_forms.yml"),
    "monitor": (
        "conf/layouts.yml",
        "conf/approval_regimes.yml",
        "conf/lumbar_fusions.yml",
        "conf/pathway.yml",
        "conf/pathway_after.yml",
        "conf/reference/*.csv",
    ),
    "validate": ("expectations/*.yml",),
    "publish": (
        "conf/disclosure.yml",
        "conf/caveats.yml",
        "conf/policy_aims.yml",
        "conf/baselines.yml",
        "conf/reference/*.csv",
        "expectations/published_*.yml",
        "expectations/published/*.json",
    ),
}
# The stages whose rows depend on a setting.
SETTINGS = stages_of(RunConfig)


def recorded_inputs(
    stage: str,
    config: RunConfig,
    lake: Lake,
    run_id: str,
    only: list[str] | None,
    inputs: RunInputs | None = None,
) -> dict[str, str]:
    """What a stage records for later runs to compare: its inputs, and for `flag` its policies. ``only``:
    the policies that it worked on (None: all). ``inputs``: what this run has found already."""
    if stage not in STAGES:
        return {}
    inputs = inputs or RunInputs(config)
    recorded = stage_inputs(stage, config, lake, run_id, inputs)
    if stage == "flag":
        worked_on = {key: value for key, value in parts(stage, inputs).items() if only is None or key in only}
        recorded |= {f"{POLICY_KIND}{key}": value for key, value in worked_on.items()}
    return recorded


def stage_inputs(
    stage: str, config: RunConfig, lake: Lake, run_id: str, inputs: RunInputs | None = None
) -> dict[str, str]:
    """Everything that a stage's rows depend on, apart from tables of the lake: ``kind:name`` → fingerprint. What
    cannot be determined gets the run's own id, which no other run has."""
    inputs = inputs or RunInputs(config)
    recorded = {"program:": str(STAGE_VERSIONS[stage])}
    for pattern in SHIPPED[stage]:
        folder, _, name = pattern.rpartition("/")
        for path in sorted(resource(*folder.split("/")).glob(name)):
            recorded[f"file:{folder}/{path.name}"] = _content(str(path))
    for item in fields(config):
        value = getattr(config, item.name)
        # A setting left at its default is not recorded, so that a new setting makes nothing due.
        if stage in SETTINGS.get(item.name, STAGES) and value != default_of(item):
            recorded |= _setting(item.name, value)
    if stage == "rate":
        recorded["policies:"] = fingerprint([_published_by(policy) for policy in inputs.known_policies])
    if stage in ("ingest", "monitor"):
        for source in config.record_sources if stage == "ingest" else config.registers:
            for role, table in source.tables.items():
                name = f"{source.name}.{role}"
                recorded[f"source:{name}"] = fingerprint([source.system, vars(table)])
                if table.headers_file:
                    recorded[f"file:{table.headers_file}"] = _content(str(table.headers_file))
                recorded |= _source_state(table, f"sources.{name}", lake, run_id, inputs)
    return recorded


def _setting(name: str, value: Any) -> dict[str, str]:
    files: dict[str, str] = {}
    for path in _paths(value):
        files |= {f"file:{match}": _content(str(match)) for match in named_files(Path(path))}
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
        return type(error).__name__  # the code that reads the file reports what is wrong


def _source_state(source: TableSource, where: str, lake: Lake, run_id: str, inputs: RunInputs) -> dict[str, str]:
    if source.catalogue_tables:
        return {f"table:{name}": lake.foreign_version(name) or run_id for name in source.catalogue_tables}
    return {
        f"data:{path}": run_id if is_remote(path) else _file_state(Path(path)) for path in inputs.files(source, where)
    }


def _file_state(path: Path) -> str:
    """Size and modification time of a file, or of every file in a folder."""
    files = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    try:
        recorded = [(str(entry.relative_to(path)), entry.stat().st_size, entry.stat().st_mtime_ns) for entry in files]
    except OSError as error:
        return type(error).__name__
    return f"{recorded[0][1]} {recorded[0][2]}" if path.is_file() and recorded else fingerprint(recorded)


def parts(stage: str, inputs: RunInputs) -> dict[str, str]:
    """The policies of `flag`, each with a fingerprint of what decides its flags; for other stages a single part."""
    if stage != "flag":
        return dict(ONE_PART)
    found: dict[str, list[Any]] = {}
    for period in inputs.periods:
        readings = {name: reading.fingerprint for name, reading in period.revision.readings.items()}
        flips = [
            [flip.base, flip.decision, flip.undone, [clause.outcome_parts for clause in flip.clauses]]
            for flip in period.revision.flips
        ]
        recorded = [period.revision.name, period.since, period.until, readings, flips, period.policy.boards]
        found.setdefault(period.policy.id, []).append(recorded)
    return {policy: fingerprint(recorded) for policy, recorded in found.items()}


def _published_by(policy: Policy) -> list[Any]:
    """What decides how a policy's figures are pooled and published, apart from what decides its flags."""
    published = [policy.id, policy.default_reading, policy.publish_years, policy.publish_first_year, policy.boards]
    return published if policy.target is None else [*published, policy.target]
