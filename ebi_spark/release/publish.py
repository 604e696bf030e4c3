"""Makes a release: all published tables under one id, or none of them. The manifest is written last."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark import __version__
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import caveats, disclosure_rules
from ebi_spark.errors import DataError, InputError
from ebi_spark.geography.area_versions import CURRENT, read_geography
from ebi_spark.geography.lookup_files import read_provider_names
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.lake.permissions import published_mask
from ebi_spark.lake.storage import Lake
from ebi_spark.own_files import write_whole
from ebi_spark.rates.completeness import MarkedMonths
from ebi_spark.release import monitoring_tables, monthly_tables, published_tables
from ebi_spark.release.current import no_such_release
from ebi_spark.release.spreadsheets import without_formulas
from ebi_spark.release.star import star_rows
from ebi_spark.release.suppressed_tables import AREA, PERIOD, parents_of, suppressed_counts
from ebi_spark.release.suppression import Thresholds
from ebi_spark.small_frames import small_frame, small_table
from ebi_spark.tables.gold import (
    ACTIVITY_FLAG,
    ACTIVITY_MONTH,
    ACTIVITY_RATE,
    POLICY,
    POLICY_ATTRITION,
    POLICY_SENSITIVITY,
    PROVIDER_MONTH,
    RATE_VARIATION,
    RECORD_QUALITY,
    UNMAPPED_AREA,
)
from ebi_spark.tables.monitoring import PUBLISHED_MONITORING
from ebi_spark.tables.published import (
    ATTRITION,
    COMPLETENESS,
    DAYS_BETWEEN,
    PUBLISHED_ACTIVITY_MONTH,
    PUBLISHED_POLICY,
    QUALITY,
    RATE,
    READING_EFFECT,
    RELEASE,
    SENSITIVITY,
    VARIATION,
)
from ebi_spark.tables.silver import QUARANTINE
from ebi_spark.tables.star import DIM_STATUS
from ebi_spark.tables.table import YEAR, Table
from ebi_spark.threads import run_in_threads
from ebi_spark.validation.check_layers import validate_layer
from ebi_spark.validation.result import LayerResult

PUBLISHED = (
    RATE, VARIATION, ATTRITION, READING_EFFECT, SENSITIVITY, QUALITY, PUBLISHED_ACTIVITY_MONTH, DAYS_BETWEEN, COMPLETENESS,
    *PUBLISHED_MONITORING, PUBLISHED_POLICY,
)  # fmt: skip


@dataclass
class Release:
    """A release that was written: its rows by table, and the result of its checks."""

    release_id: str
    rows: dict[str, int]
    checks: LayerResult


def published_frames(lake: Lake, config: RunConfig) -> tuple[dict[Table, DataFrame], float | None]:
    """Every published table of a release before it is written, and the share of the counts below England that is suppressed.

    The share is None under a rule without secondary suppression. An :class:`InputError` if gold has rates by several versions
    of the areas.
    """
    rule = disclosure_rules()[config.disclosure]
    policies, flags = lake.read_small(POLICY), lake.read(ACTIVITY_FLAG)
    gold_rates = lake.read_small(ACTIVITY_RATE)
    version = shown_geography(lake)
    rates, variation, suppressed_share = _rates_and_variation(lake, config, rule, gold_rates, policies, version)
    partial_coverage = config.coverage == "partial"
    marked = MarkedMonths(config.provisional_months, config.pandemic_months)
    # Months are published only for policies that have figures for England. For an extract, or for a board's own policy, they
    # would be small counts without disclosure control.
    england = gold_rates.where("area_type = 'england'").select("policy_id").distinct()
    activity = lake.read_small(ACTIVITY_MONTH).join(F.broadcast(england), "policy_id", "left_semi")
    months = lake.read_small(PROVIDER_MONTH)
    published_months = monthly_tables.published_activity_months(activity, months, policies, marked)
    by_month = {
        PUBLISHED_ACTIVITY_MONTH: published_months,
        DAYS_BETWEEN: monthly_tables.days_between(
            published_months, policies, config.disclosure, rule, lake.years(ACTIVITY_RATE)
        ),
    }
    national = _national_tables(lake, policies, flags)
    if rule.get("protected") and partial_coverage:
        # Under partial coverage these tables would show one board's figures without disclosure control.
        national = {table: frame.limit(0) for table, frame in national.items()}
    if config.providers:
        rates = published_tables.with_provider_names(rates, read_provider_names(config.providers))
    frames = {
        RATE: rates.withColumn("caveats", _policy_caveats()),
        VARIATION: variation,
        **national,
        **by_month,
        COMPLETENESS: monthly_tables.published_completeness(months, config.disclosure, partial=partial_coverage),
        PUBLISHED_POLICY: policies,
    }
    monitoring = monitoring_tables.published_monitoring(lake, config, rule, version)
    frames |= {table: small_frame(lake.spark, rows, table.schema) for table, rows in monitoring.items()}
    return {table: without_formulas(frame) for table, frame in frames.items()}, suppressed_share


def _rates_and_variation(
    lake: Lake, config: RunConfig, rule: dict[str, Any], gold_rates: DataFrame, policies: DataFrame, geography: str
) -> tuple[DataFrame, DataFrame, float | None]:
    """The published rates, without caveats, and their variation; and the share of suppressed counts as in
    :func:`published_frames`."""
    gold_variation = lake.read_small(RATE_VARIATION)
    if not rule.get("protected"):
        rates = published_tables.published_rates(gold_rates, policies, config.disclosure, rule)
        return rates, published_tables.published_variation(gold_variation, policies, config.disclosure), None
    gold = published_tables.rates_to_suppress(gold_rates, policies).toPandas()
    parents = parents_of(read_geography(geography).areas)
    controlled = suppressed_counts(gold, parents, rule, _earlier_releases(lake, policies))
    rates = published_tables.suppressed_rates(gold_rates, controlled, config.disclosure, rule).unionByName(
        published_tables.suppressed_local_rates(gold_rates, policies, config.disclosure)
    )
    variation = published_tables.variation_from_counts(
        gold_variation, controlled, config.disclosure, rule, config.min_national_events
    )
    return rates, variation, controlled.suppressed_share


def _policy_caveats() -> Column:
    """The keys of the caveats that apply to a row's policy."""
    listed = caveats()
    general = [F.lit(item["key"]) for item in listed if item["applies_to"] == "all"]
    of_some_policies = [
        F.when(F.col("policy_id").isin(*item["applies_to"]), F.lit(item["key"]))
        for item in listed
        if item["applies_to"] != "all"
    ]
    return F.array_compact(F.array(*general, *of_some_policies))


def _national_tables(lake: Lake, policies: DataFrame, flags: DataFrame) -> dict[Table, DataFrame]:
    """The tables that have figures for England only, of national policies."""
    return {
        ATTRITION: published_tables.national_only(
            published_tables.published_attrition(lake.read_small(POLICY_ATTRITION), flags), policies
        ),
        READING_EFFECT: published_tables.national_only(published_tables.reading_effects(flags, policies), policies),
        SENSITIVITY: published_tables.national_only(lake.read_small(POLICY_SENSITIVITY), policies),
        # The records of a local policy are already in scope of the national policy.
        QUALITY: published_tables.quality(
            lake.read_small(RECORD_QUALITY),
            lake.read(QUARANTINE),
            published_tables.national_only(flags, policies),
            lake.read_small(UNMAPPED_AREA),
        ),
    }


def shown_geography(lake: Lake) -> str:
    """The version of the areas in gold's rates, such as ``icb_2026``; ``current`` if there are no rates.

    An :class:`InputError` if years have different versions. A release has one version only: otherwise suppressed counts could
    be calculated from areas of the two versions that overlap.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for row in lake.grouped(ACTIVITY_RATE, ["geography", YEAR]):
        found[row["geography"]].add(row[YEAR])
    if len(found) > 1:
        listed = "; ".join(
            f"{version}: {', '.join(sorted(years))}" for version, years in sorted(found.items(), key=str)
        )
        raise InputError(
            f"nothing was published: gold/activity_rate has rates by several versions of the areas ({listed})",
            remedy="run `ebi-spark rate` and `ebi-spark validate` for all years with one `geography.version`",
        )
    return str(next(iter(found))) if found else CURRENT


def _earlier_releases(lake: Lake, policies: DataFrame) -> pd.DataFrame | None:
    """The published counts by area of every release that is still kept. None before the first release.

    Columns: ``release_id``, :data:`PERIOD`, :data:`AREA`, ``activity``, ``in_scope``, ``status``, ``geography``; ``rule``, the
    :class:`Thresholds` of the release; and ``released``, the position of the release in time (0 is the oldest). England's rows
    are of each policy's default reading.
    """
    listed = lake.rows_if_there(RELEASE, ["release_id", "disclosure", "released_at"])
    if not listed:
        return None
    order = {row["release_id"]: number for number, row in enumerate(sorted(listed, key=lambda row: row["released_at"]))}
    columns = ["release_id", *PERIOD, *AREA, "activity", "in_scope", "status", "geography"]
    shown = lake.frame(RATE, {"release_id": list(order)})[columns]
    is_england = shown["area_type"] == "england"
    default = published_tables.default_readings(policies).toPandas()
    england = shown[is_england].merge(default, on=["policy_id", "reading"])
    rows = pd.concat([shown[~is_england], england[columns]], ignore_index=True)
    rules = {name: Thresholds.from_rule(rule) for name, rule in disclosure_rules().items()}
    rule_by_release = {row["release_id"]: rules.get(row["disclosure"]) for row in listed}
    return rows.assign(released=rows["release_id"].map(order), rule=rows["release_id"].map(rule_by_release))


def publish(lake: Lake, config: RunConfig, progress: Callable[[str], None], docs: Path | None = None) -> Release:
    """Make every published table, check them all, write them under the run's id and then make the release current.

    The tables are checked in memory. Rows that fail a check are therefore never written to ``published/``, not even to the
    history of a table. The previous release stays current until the new one is complete. ``docs``: the folder for the page
    of these checks. A :class:`DataError` if a check fails; an :class:`InputError` as in :func:`published_frames`.
    """
    release_id = lake.run_id
    progress(f"preparing {len(PUBLISHED)} tables for the release")
    frames, suppressed_share = published_frames(lake, config)
    if suppressed_share is not None:
        progress(f"disclosure control suppresses {suppressed_share:.1%} of the counts below England")
    computed = run_in_threads([partial(_compute, lake, table, frames[table], release_id) for table in PUBLISHED])
    staged_rows = dict(zip(PUBLISHED, computed, strict=True))
    staged = {table: lake.spark.createDataFrame(rows, schema=table.schema) for table, rows in staged_rows.items()}
    rows = {table.full_name: table_rows.num_rows for table, table_rows in staged_rows.items()}
    progress("checking the tables before they are published")
    checked = validate_layer(
        lake,
        "published",
        years=None,
        release_id=release_id,
        docs=docs,
        progress=progress,
        staged=staged,
        staged_rows=staged_rows,
    )
    if not checked.success:
        failed = checked.failed[0]
        raise DataError(
            f"{failed.table}: {failed.description} ({failed.violations:,} violations; {len(checked.failed)} checks failed); "
            "nothing was published, and the previous release is still current",
            remedy="a table was changed by hand, or this is a fault in ebi-spark: run all stages again, and report it if it "
            "happens again",
        )
    progress(f"writing {len(PUBLISHED)} published tables")
    partition = {"release_id": [release_id]}
    run_in_threads(
        [partial(lake.replace, table, rows_of, partition, stage="publish") for table, rows_of in staged_rows.items()]
    )
    _make_current(lake, config, release_id, rows)
    _write_star(
        lake, release_id, staged_rows[RATE].to_pylist(), staged_rows[PUBLISHED_POLICY].to_pylist(), stage="publish"
    )
    return Release(release_id, rows, checked)


def _write_star(
    lake: Lake, release_id: str, rates: list[dict[str, Any]], policies: list[dict[str, Any]], *, stage: str
) -> None:
    """Write the tables for BI tools, which have the current release only. Their rows are made from published rows, which were
    checked and whose texts a spreadsheet does not run.

    ``dim_status`` is written last. So if it has the release, all of them have it.
    """
    (manifest,) = lake.small_rows(RELEASE, ["geography", "disclosure"], {"release_id": [release_id]})
    rule = disclosure_rules()[manifest["disclosure"]]
    tables = star_rows(rates, policies, release_id=release_id, geography=manifest["geography"], rule=rule)

    last = tables.pop(DIM_STATUS)
    run_in_threads([partial(lake.replace, table, rows, {}, stage=stage) for table, rows in tables.items()])
    lake.replace(DIM_STATUS, last, {}, stage=stage)


def refresh_star(lake: Lake, release_id: str, *, stage: str) -> bool:
    """Write the tables for BI tools from the release that is current already, unless they have it. Returns whether they were
    written."""
    if not lake.exists(DIM_STATUS):
        lake.prepare()
    elif {row["release_id"] for row in lake.small_rows(DIM_STATUS, ["release_id"])} == {release_id}:
        return False
    rates, policies = (
        lake.small_rows(table, table.names(), {"release_id": [release_id]}) for table in (RATE, PUBLISHED_POLICY)
    )
    _write_star(lake, release_id, rates, policies, stage=stage)
    return True


def _compute(lake: Lake, table: Table, frame: DataFrame, release_id: str) -> pa.Table:
    """A table's rows in a release, computed once and kept in memory.

    The rows are figures, never records. The report collects the same rows on the driver.
    """
    return lake.collect(table, frame.withColumn("release_id", F.lit(release_id)))


def _make_current(lake: Lake, config: RunConfig, release_id: str, rows: dict[str, int]) -> None:
    """Write the manifest row of a release as the current one. All other releases become not current, in the same commit."""
    policies = lake.small_rows(POLICY, ["policy_id", "revision", "reading", "policy_fingerprint"])
    manifest: dict[str, Any] = {
        "release_id": release_id,
        "is_current": True,
        "released_at": datetime.now(UTC),
        "run_id": lake.run_id,
        "code_version": __version__,
        "configuration": config.fingerprint,
        "disclosure": config.disclosure,
        "coverage": config.coverage,
        "data_kind": config.data_kind,
        "geography": shown_geography(lake),
        "years": sorted({*lake.years(ACTIVITY_RATE)}),
        "tables": rows,
        "versions": {table.full_name: lake.version(table) for table in PUBLISHED},
        "sources": {name: version for name, version in lake.versions_read.items() if not name.startswith("published/")},
        "policy_fingerprints": {
            f"{row['policy_id']}/{row['revision']}/{row['reading']}": row["policy_fingerprint"] for row in policies
        },
        "caveats": {item["key"]: item["text"] for item in caveats()},
        # The number of suppressed counts that are truly small would narrow their possible values, so it is not published.
        "disclosure_loss": None,
    }
    earlier = lake.arrow(RELEASE)
    earlier = earlier.filter(pc.field("release_id") != release_id)
    _replace_manifest(lake, pa.concat_tables([earlier, small_table([manifest], RELEASE.schema)]), release_id, "publish")


def _replace_manifest(lake: Lake, rows: pa.Table, current: str, stage: str) -> None:
    """Write the rows of all releases, one of them as the current one."""
    is_current = pc.equal(rows.column("release_id"), current)
    rows = rows.set_column(rows.schema.get_field_index("is_current"), "is_current", is_current)
    lake.replace(RELEASE, rows, {}, stage=stage)


def kept_release(lake: LocalLake, release_id: str) -> dict[str, Any]:
    """The rows that each table has in a release, from its manifest. An :class:`InputError` if there is no such release."""
    rows = lake.rows_if_there(RELEASE, ["release_id", "tables"])
    releases = {row["release_id"]: row for row in rows}
    if release_id not in releases:
        raise no_such_release(lake.location, release_id, releases)
    tables: dict[str, Any] = releases[release_id]["tables"]
    return tables


def roll_back(lake: Lake, release_id: str) -> None:
    """Make an earlier release the current one, by one commit to the manifest.

    An :class:`InputError` if there is no such release, or if a table no longer has all of its rows.
    """
    tables = kept_release(lake, release_id)
    for table in PUBLISHED:
        stated = tables.get(table.full_name)
        if stated is None:  # a table that the release does not have
            continue
        found = lake.grouped(table, [], where={"release_id": [release_id]})[0]["rows"]
        if found != stated:
            raise InputError(
                f"{table.full_name} has {found:,} rows of release {release_id}, but its manifest says {stated:,}",
                remedy="maintenance removed rows or somebody changed the table by hand: choose another release, or publish a new one",
            )
    _replace_manifest(lake, lake.arrow(RELEASE), release_id, "roll_back")
    refresh_star(lake, release_id, stage="roll_back")


def report_tables(lake: Lake, release_id: str) -> dict[str, pd.DataFrame]:
    """The published tables of a release by name, with all their columns. They are national and area figures, never records. A
    table that the lake does not have is left out."""
    return {table.name: lake.frame(table, {"release_id": [release_id]}) for table in PUBLISHED if lake.exists(table)}


def write_text(path: Path, text: str) -> None:
    """Write a file in one step, so that a reader sees either the old or the new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text, 0o666 & ~published_mask())
