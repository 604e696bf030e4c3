"""Computes an old run again from the table versions and definitions that it recorded, and compares the result with
what the run wrote. Writes nothing."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark import __version__
from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import InputError, did_you_mean
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.geography.record_areas import read_lookups
from ebi_spark.lake.conditions import predicate_of
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.load import outcome_fingerprint, revision_periods
from ebi_spark.policies.model import Clause, Policy, PolicyReading, Revision
from ebi_spark.rates.periods import rows_to_replace
from ebi_spark.rates.variation import variation
from ebi_spark.runs.due import DONE, commit_metadata, differences
from ebi_spark.runs.stage_inputs import stage_inputs
from ebi_spark.runs.state import RunState, StageRecord, policies_of, without_policies
from ebi_spark.stages.flag import Flag
from ebi_spark.stages.publish import Publish
from ebi_spark.stages.rate import Rate
from ebi_spark.tables.gold import (
    ACTIVITY_FLAG,
    ACTIVITY_RATE,
    POLICY,
    POLICY_ATTRITION,
    PROVIDER_MONTH,
    RATE_VARIATION,
    RUN_LOG,
)
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.silver import POPULATION
from ebi_spark.tables.table import YEAR, Table

# The last digits of floating-point sums depend on the order of the rows.
TOLERANCE = 1e-9
# Columns that name a run; and decisive_decisions, since gold/policy does not keep each decision apart.
NOT_COMPARED = ("run_id", "release_id", "decisive_decisions")
_OWN = (PROVIDER_MONTH, POPULATION)


@dataclass(frozen=True)
class Comparison:
    """One table: the number of rows that the run wrote (``recorded``), the number computed again (``again``), and the
    number of rows that differ or are on one side only (``differing``)."""

    stage: str
    table: str
    recorded: int
    again: int
    differing: int


def replay(lake: Lake, run_id: str, *, ignore_code_changes: bool, progress: Callable[[str], None]) -> list[Comparison]:
    """Compare every table that the run's stages flag, rate and publish wrote with what is computed again from the same
    inputs.

    Raises :class:`InputError` when the run is unknown, when its table versions are gone, or when the program or the
    files have changed since (unless ``ignore_code_changes``).
    """
    state = RunState(lake)
    stages = stages_of_run(state, run_id)
    found: list[Comparison] = []
    for stage, compute in (("flag", _flag), ("rate", _rate), ("publish", _publish)):
        if stage not in stages:
            progress(f"{stage}: not part of this run, or it had nothing to do")
        for record in stages.get(stage, []):
            inputs = state.inputs(record.inputs)
            config = _config(lake, record, inputs)
            _refuse_code_changes(lake, config, record, inputs, ignore_code_changes)
            progress(f"{stage}: computing {', '.join(record.years)} again")
            for table, recorded, made in compute(lake, config, record, inputs):
                found.append(compare_tables(stage, table, recorded, made))
    return found


def stages_of_run(state: RunState, run_id: str) -> dict[str, list[StageRecord]]:
    """The run's stages that were done. A stage that worked in batches has several. Raises :class:`InputError` if there is nothing
    to replay."""
    done = [record for record in reversed(state.records) if record.outcome == DONE]
    stages: dict[str, list[StageRecord]] = {}
    for record in done:
        if record.run_id == run_id:
            stages.setdefault(record.stage, []).append(record)
    if not set(stages) & {"flag", "rate", "publish"}:
        known = [record.run_id for record in reversed(done) if record.stage == "publish"]
        last = f"the last runs that published are: {', '.join(known[:3]) or 'none'}; "
        raise InputError(
            f"{run_id} is not a run of this lake that flagged, rated or published anything",
            remedy=f"{did_you_mean(run_id, (record.run_id for record in done), 0.9) or last}`ebi-spark status` lists runs",
        )
    return stages


def _config(lake: Lake, record: StageRecord, inputs: Mapping[str, str]) -> RunConfig:
    """The settings that the run recorded for the stage."""
    prefix = "setting:"
    settings = {key.removeprefix(prefix): json.loads(value) for key, value in inputs.items() if key.startswith(prefix)}
    # Settings at their defaults are not recorded, so a run may have none.
    if not inputs:
        raise InputError(
            f"the run did not record the settings of its stage {record.stage}: it ran under an older version of ebi-spark",
            remedy="only runs of this version and later can be replayed",
        )
    known = {item.name for item in fields(RunConfig)}
    settings = {name: value for name, value in settings.items() if name in known}
    if record.day is not None:
        settings["day"] = record.day
    return RunConfig(lake=lake.location, **settings)


def _refuse_code_changes(
    lake: Lake, config: RunConfig, record: StageRecord, inputs: Mapping[str, str], ignore_code_changes: bool
) -> None:
    changed = differences(without_policies(inputs), stage_inputs(record.stage, config, lake, ""))
    if changed and not ignore_code_changes:
        raise InputError(
            f"the stage {record.stage} cannot be replayed: {'; '.join(changed)} since (it ran under version "
            f"{record.code_version}, this is {__version__})",
            remedy="install that version and restore the files, or add --ignore-code-changes to see what the change does "
            "to the figures",
        )


def _at(lake: Lake, versions: dict[str, int], names: Iterable[str]) -> Lake:
    """The lake at the recorded versions of the named tables. Raises :class:`InputError` when a version is gone."""
    names = list(names)
    unknown = [name for name in names if name not in versions]
    past = Lake(
        lake.spark, lake.location, lake.run_id, as_of={name: versions[name] for name in names if name in versions}
    )
    gone = unknown + [
        f"{name} (version {versions[name]})" for name in past.as_of if not _is_complete(past, TABLES[name])
    ]
    if gone:
        raise InputError(
            f"the run cannot be replayed: the log or files of {', '.join(gone)} are no longer there",
            remedy="`ebi-spark maintain` keeps the table versions that kept releases were made from: keep more releases "
            "(keep_releases), or keep versions for longer (--keep-hours)",
        )
    return past


def _is_complete(past: Lake, table: Table) -> bool:
    """Whether the log of the version and, where they can be checked, its files are still there."""
    try:
        files = past.read(table).inputFiles()
    except PySparkException:
        return False
    return not past.location.folder or all(Path(unquote(urlparse(file).path)).exists() for file in files)


Comparisons = Iterable[tuple[Table, DataFrame, DataFrame]]


def _flag(lake: Lake, config: RunConfig, record: StageRecord, inputs: Mapping[str, str]) -> Comparisons:
    policy_ids = list(policies_of(inputs))
    read, written = record.versions_read, record.versions_written
    policy_version = written.get(POLICY.full_name, read.get(POLICY.full_name))
    if not policy_ids or policy_version is None:
        return []
    past = _at(lake, read, Flag.reads)
    after = _at(
        lake, {**written, POLICY.full_name: policy_version}, (*_names_in_layer(written, "gold"), POLICY.full_name)
    )
    policies = recorded_policies(after, set(policy_ids))
    fixed = {policy: revision for policy, revision in config.fixed_revisions.items() if policy in policy_ids}
    chosen = revision_periods(policies, replace(config, fixed_revisions=fixed))
    years = record.years
    made = Flag.compute(past, years, chosen, read_lookups(lake.spark, config))
    selected = F.col(YEAR).isin(years) & F.col("policy_id").isin(policy_ids)
    recorded = after.read(ACTIVITY_FLAG).where(selected)
    return [
        (ACTIVITY_FLAG, recorded, made.flags),
        (POLICY_ATTRITION, after.read(POLICY_ATTRITION).where(selected), made.attrition(recorded)),
    ]


def _rate(lake: Lake, config: RunConfig, record: StageRecord, _inputs: Mapping[str, str]) -> Comparisons:
    written = record.versions_written
    # It reads the months and populations that it wrote itself, where it did.
    versions = {**record.versions_read, **{t.full_name: written[t.full_name] for t in _OWN if t.full_name in written}}
    past = _at(lake, versions, (*Rate.reads, POLICY.full_name, *(table.full_name for table in _OWN)))
    after = _at(lake, written, (ACTIVITY_RATE.full_name, RATE_VARIATION.full_name))
    years = record.years
    made = Rate.compute(past, config, years, read_geography(config.geography, config.mappings))
    selected = predicate_of(rows_to_replace(years, made.years_read | {*after.years(ACTIVITY_RATE)}))
    recorded = after.read(ACTIVITY_RATE).where(selected)
    return [
        (ACTIVITY_RATE, recorded, made.rates),
        (RATE_VARIATION, after.read(RATE_VARIATION).where(selected), variation(recorded, config.min_national_events)),
    ]


def _publish(lake: Lake, config: RunConfig, record: StageRecord, _inputs: Mapping[str, str]) -> Comparisons:
    run_id = record.run_id
    manifest = lake.read(RELEASE).where(F.col("release_id") == run_id).first()
    if manifest is None:
        raise InputError(
            f"the release {run_id} was removed: its published rows are gone",
            remedy="keep more releases (keep_releases, `maintain --keep-releases`) to replay older runs",
        )
    named = [commit.version for commit in lake.commits(RELEASE, -1) if commit_metadata(commit).get("run_id") == run_id]
    if not named:
        raise InputError(
            f"the history of {RELEASE.full_name} does not go back to {run_id}", remedy="replay a later run"
        )
    # What was published before it also matters: suppression in a release takes the release before it into account.
    before = {RELEASE.full_name: min(named) - 1, **manifest["versions"]}
    past = _at(lake, {**record.versions_read, **before}, (*Publish.reads, *before))
    frames, _ = Publish.compute(past, config)
    return [(table, lake.read(table).where(F.col("release_id") == run_id), frame) for table, frame in frames.items()]


def _names_in_layer(versions: dict[str, int], layer: str) -> list[str]:
    return [name for name in versions if name.startswith(f"{layer}/") and name != RUN_LOG.full_name]


def recorded_policies(lake: Lake, ids: set[str]) -> list[Policy]:
    """The policies as ``gold/policy`` has them. Raises :class:`InputError` when a definition does not match its own
    fingerprint."""
    rows = lake.read(POLICY).where(F.col("policy_id").isin(sorted(ids))).collect()
    policies = []
    for policy_id in sorted({row["policy_id"] for row in rows}):
        selected = [row for row in rows if row["policy_id"] == policy_id]
        first = json.loads(selected[0]["definition"])
        revisions = []
        for name in sorted({row["revision"] for row in selected}):
            readings = {row["reading"]: _reading(row) for row in selected if row["revision"] == name}
            one = next(row for row in selected if row["revision"] == name)
            scope = next(iter(readings.values())).clauses[0]
            revisions.append(Revision(name, one["in_force_from"], one["in_force_to"], scope, readings))
        revisions.sort(key=lambda revision: revision.start)
        policies.append(
            Policy(
                policy_id,
                first["title"],
                first["dataset"],
                first["source"],
                first["default_reading"],
                tuple(revisions),
                POLICY.full_name,
                publish_years=selected[0]["publish_years"],
                publish_first_year=selected[0]["publish_first_year"],
                extends=first.get("extends", ""),
                boards=tuple(first.get("boards", ())),
                target=selected[0]["target"],
            )
        )
    return policies


def _reading(row: Any) -> PolicyReading:
    definition = json.loads(row["definition"])
    clauses = tuple(Clause.from_definition(clause) for clause in definition["clauses"])
    start: date = row["in_force_from"]
    found = outcome_fingerprint(definition, row["revision"], row["reading"], clauses, start, row["in_force_to"])
    if found != row["policy_fingerprint"]:
        raise InputError(
            f"{POLICY.full_name}: the definition of {row['policy_id']}/{row['revision']}/{row['reading']} does not match "
            "the fingerprint on its row",
            remedy="the table was changed by hand, or another version wrote it: this run cannot be replayed",
        )
    return PolicyReading(row["policy_id"], row["revision"], row["reading"], clauses, found, definition)


def compare_tables(stage: str, table: Table, recorded: DataFrame, again: DataFrame) -> Comparison:
    """Compare both sides in one pass. Rows are grouped by everything but floating-point numbers: each group must have
    the same number of rows on both sides, with the same numbers apart from their last digits.

    | row of area | recorded rate | rate again | → counts as differing |
    |-------------|---------------|------------|-----------------------|
    | 15E         | 1.5           | 1.5        | 0                     |
    | 15M         | 2.0           | 2.1        | 1                     |
    | 15N         | (no row)      | 3.0        | 1                     |
    """
    names = [name for name, _, _ in table.fields() if name not in NOT_COMPARED]
    kinds = {name: kind for name, kind, _ in table.fields()}
    numbers = [name for name in names if kinds[name] == "double"]
    exact = [name for name in names if name not in numbers]
    sides = [
        frame.select(F.lit(sign).alias("side"), *[F.col(name).cast(kinds[name]).alias(name) for name in names]).select(
            "side", *numbers, F.xxhash64(*exact).alias("row")
        )
        for sign, frame in ((1, recorded), (-1, again))
    ]
    both = reduce(DataFrame.unionByName, sides)
    same: list[Column] = [F.sum("side") == 0]
    for name in numbers:
        near = F.max(name) - F.min(name) <= TOLERANCE * F.greatest(F.abs(F.max(name)), F.abs(F.min(name)))
        same.append((F.count(name) == 0) | ((F.count(name) == F.count("*")) & near))
    whole = reduce(and_, same)
    groups = both.groupBy("row").agg(
        F.coalesce(whole, F.lit(False)).alias("same"),
        F.count_if(F.col("side") == 1).alias("recorded"),
        F.count_if(F.col("side") == -1).alias("again"),
    )
    row = groups.agg(
        F.coalesce(F.sum("recorded"), F.lit(0)).alias("recorded"),
        F.coalesce(F.sum("again"), F.lit(0)).alias("again"),
        F.coalesce(F.sum(F.when(~F.col("same"), F.greatest("recorded", "again"))), F.lit(0)).alias("differing"),
    ).first()
    assert row is not None
    return Comparison(stage, table.full_name, int(row["recorded"]), int(row["again"]), int(row["differing"]))
