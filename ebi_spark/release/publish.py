"""A release: all published tables under one id, or none. The manifest is written last."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark import __version__
from ebi_spark.config.settings import RunConfig, caveats, disclosure_rules
from ebi_spark.errors import DataError, InputError
from ebi_spark.geography.area_versions import CURRENT, read_geography
from ebi_spark.lake.storage import Lake, conform, published_mask, run_in_threads
from ebi_spark.own_files import write_whole
from ebi_spark.rates.completeness import MarkedMonths
from ebi_spark.release import monthly_tables, published_tables
from ebi_spark.release.spreadsheets import without_formulas
from ebi_spark.release.suppressed_tables import AREA, PERIOD, parents_of, protected_counts
from ebi_spark.release.suppression import Thresholds
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.schemas import (
    ACTIVITY_FLAG,
    ACTIVITY_MONTH,
    ACTIVITY_RATE,
    ATTRITION,
    COMPLETENESS,
    DAYS_BETWEEN,
    POLICY,
    POLICY_ATTRITION,
    POLICY_SENSITIVITY,
    PROVIDER_MONTH,
    PUBLISHED_ACTIVITY_MONTH,
    PUBLISHED_POLICY,
    QUALITY,
    QUARANTINE,
    RATE,
    RATE_VARIATION,
    READING_EFFECT,
    RECORD_QUALITY,
    RELEASE,
    SENSITIVITY,
    UNMAPPED_AREA,
    VARIATION,
    YEAR,
    Table,
)
from ebi_spark.validation.gate import GateResult, validate_layer

PUBLISHED = (
    RATE, VARIATION, ATTRITION, READING_EFFECT, SENSITIVITY, QUALITY, PUBLISHED_ACTIVITY_MONTH, DAYS_BETWEEN, COMPLETENESS,
    PUBLISHED_POLICY,
)  # fmt: skip


# How long a release that was replaced is kept whatever else: readers may hold its id.
GRACE = timedelta(hours=1)


@dataclass
class Release:
    """What was released: rows by table, and the gate that let it through."""

    release_id: str
    rows: dict[str, int]
    gate: GateResult


def published_frames(lake: Lake, config: RunConfig) -> tuple[dict[Table, DataFrame], float | None]:
    """Every published table of a release, before it is written, and the share of areas' counts that protection withholds."""
    rule = disclosure_rules()[config.disclosure]
    policies, flags = lake.read(POLICY), lake.read(ACTIVITY_FLAG)
    known = {item["key"]: item for item in caveats()}
    everywhere = [key for key, item in known.items() if item["applies_to"] == "all"]
    special = [
        F.when(F.col("policy_id").isin(*item["applies_to"]), F.lit(key))
        for key, item in known.items()
        if item["applies_to"] != "all"
    ]
    of_policy = F.array_compact(F.array(*[F.lit(key) for key in everywhere], *special))
    withheld: float | None = None
    version = shown_geography(lake)
    if rule.get("protected"):
        gold = published_tables.to_protect(lake.read(ACTIVITY_RATE), policies).toPandas()
        areas = read_geography(version).areas
        controlled = protected_counts(gold, parents_of(areas), rule, _earlier(lake, policies))
        rates = published_tables.protected_rates(
            lake.read(ACTIVITY_RATE), controlled, config.disclosure, rule
        ).unionByName(published_tables.withheld_local_rates(lake.read(ACTIVITY_RATE), policies, config.disclosure))
        variation = published_tables.protected_spread(
            lake.read(RATE_VARIATION), controlled, config.disclosure, rule, config.min_national_events
        )
        withheld = controlled.withheld_share
    else:
        rates = published_tables.published_rates(lake.read(ACTIVITY_RATE), policies, config.disclosure, rule)
        variation = published_tables.published_variation(lake.read(RATE_VARIATION), policies, config.disclosure)
    partial_coverage = config.coverage == "partial"
    marked = MarkedMonths(config.provisional_months, config.pandemic_months)
    # Months are published of policies that are England's alone: of an extract, or of one board's own policy, they would be
    # small counts that no rule looks at.
    england = lake.read(ACTIVITY_RATE).where("area_type = 'england'").select("policy_id").distinct()
    activity = lake.read(ACTIVITY_MONTH).join(F.broadcast(england), "policy_id", "left_semi")
    months = lake.read(PROVIDER_MONTH)
    of_months = monthly_tables.published_activity_months(activity, months, policies, marked)
    by_month = {
        PUBLISHED_ACTIVITY_MONTH: of_months,
        DAYS_BETWEEN: monthly_tables.days_between(
            of_months, policies, config.disclosure, rule, lake.years(ACTIVITY_RATE)
        ),
    }
    national = {
        ATTRITION: published_tables.national_only(
            published_tables.published_attrition(lake.read(POLICY_ATTRITION), flags), policies
        ),
        READING_EFFECT: published_tables.national_only(published_tables.reading_effects(flags, policies), policies),
        SENSITIVITY: published_tables.national_only(lake.read(POLICY_SENSITIVITY), policies),
        # A local policy's records are in scope of the national one already.
        QUALITY: published_tables.quality(
            lake.read(RECORD_QUALITY),
            lake.read(QUARANTINE),
            published_tables.national_only(flags, policies),
            lake.read(UNMAPPED_AREA),
        ),
    }
    if rule.get("protected") and partial_coverage:
        # What is national elsewhere is one board's here, and not controlled.
        national = {table: frame.limit(0) for table, frame in national.items()}
    frames = {
        RATE: rates.withColumn("caveats", of_policy),
        VARIATION: variation,
        **national,
        **by_month,
        COMPLETENESS: monthly_tables.published_completeness(months, config.disclosure, partial=partial_coverage),
        PUBLISHED_POLICY: policies,
    }
    return {table: without_formulas(frame) for table, frame in frames.items()}, withheld


def shown_geography(lake: Lake) -> str:
    """The version of the areas that gold's rates are of. An :class:`InputError` where some years have another than the rest:
    what is published below England holds one version, or areas of one could be set against those of the other."""
    found = (
        lake.read(ACTIVITY_RATE).groupBy("geography").agg(F.array_sort(F.collect_set(YEAR)).alias("years")).collect()
    )
    if len(found) > 1:
        listed = "; ".join(f"{row['geography']}: {', '.join(row['years'])}" for row in sorted(found, key=str))
        raise InputError(
            f"nothing was published: gold/activity_rate holds several versions of the areas ({listed})",
            remedy="run `ebi-spark rate` and `ebi-spark validate` for all years with one `geography.version`",
        )
    return str(found[0]["geography"]) if found else CURRENT


def _earlier(lake: Lake, policies: DataFrame) -> pd.DataFrame | None:
    """The counts by area that every kept release shows, with the thresholds behind them and ``released``, its place among
    them; None before the first. England's are of each policy's default reading."""
    if not lake.exists(RELEASE):
        return None
    listed = lake.read(RELEASE).select("release_id", "disclosure", F.unix_micros("released_at").alias("at")).collect()
    order = {row["release_id"]: number for number, row in enumerate(sorted(listed, key=lambda row: row["at"]))}
    shown = lake.read(RATE).where(F.col("release_id").isin(*order))
    default = F.broadcast(published_tables.default_readings(policies))
    england = shown.where("area_type = 'england'").join(default, ["policy_id", "reading"], "left_semi")
    columns = ["release_id", *PERIOD, *AREA, "activity", "in_scope", "status", "geography"]
    rows: pd.DataFrame = (
        shown.where("area_type <> 'england'").select(*columns).unionByName(england.select(*columns)).toPandas()
    )
    rules = {name: Thresholds.of(rule) for name, rule in disclosure_rules().items()}
    known = {row["release_id"]: rules.get(row["disclosure"]) for row in listed}
    return rows.assign(released=rows["release_id"].map(order), rule=rows["release_id"].map(known))


def publish(lake: Lake, config: RunConfig, tell: Callable[[str], None]) -> Release:
    """Make every published table, check them all, and only then write them under the run's id and name the release as current.

    What is to be checked is kept in memory: nothing that a check refuses is ever below ``published/``, not even in the history
    of a table. The old release stays current until the new one is whole.
    """
    release_id = lake.run_id
    tell(f"making {len(PUBLISHED)} tables to publish")
    frames, withheld = published_frames(lake, config)
    if withheld is not None:
        tell(f"disclosure control withholds {withheld:.1%} of the counts below England")
    made = run_in_threads([partial(_made, table, frames[table], release_id) for table in PUBLISHED])
    staged, rows = {}, {}
    for table, (frame, count) in zip(PUBLISHED, made, strict=True):
        staged[table], rows[table.full_name] = frame, count
    tell("checking what is to be published")
    gate = validate_layer(lake, "published", years=None, release_id=release_id, docs=None, tell=tell, staged=staged)
    if not gate.success:
        failed = gate.failed[0]
        raise DataError(
            f"{failed.table}: {failed.words} ({failed.violations:,} violations; {len(gate.failed)} checks failed); "
            "nothing was published and the old release stands",
            remedy="this is a fault of the product or of a table changed by hand: run the stages again, then report it",
        )
    tell(f"writing {len(PUBLISHED)} published tables")
    of_release = {"release_id": [release_id]}
    run_in_threads(
        [
            partial(lake.replace, table, frame.coalesce(1), of_release, stage="publish")
            for table, frame in staged.items()
        ]
    )
    _name_current(lake, config, release_id, rows)
    return Release(release_id, rows, gate)


def _made(table: Table, frame: DataFrame, release_id: str) -> tuple[DataFrame, int]:
    """A table's rows of a release, computed once and kept in memory, and how many there are. They are figures, never records:
    the report takes the same rows to the driver."""
    marked = conform(frame.withColumn("release_id", F.lit(release_id)), table)
    rows = marked.coalesce(1).toArrow()
    return marked.sparkSession.createDataFrame(rows, schema=table.schema), rows.num_rows


def _name_current(lake: Lake, config: RunConfig, release_id: str, rows: dict[str, int]) -> None:
    policies = lake.read(POLICY).select("policy_id", "revision", "reading", "policy_fingerprint").collect()
    manifest: dict[str, Any] = {
        "release_id": release_id,
        "is_current": True,
        "released_at": datetime.now(UTC),
        "run_id": lake.run_id,
        "code_version": __version__,
        "configuration": config.fingerprint,
        "disclosure": config.disclosure,
        "coverage": config.coverage,
        "geography": shown_geography(lake),
        "years": sorted({*lake.years(ACTIVITY_RATE)}),
        "tables": rows,
        "versions": {table.full_name: lake.version(table) for table in PUBLISHED},
        "sources": {name: version for name, version in lake.versions_read.items() if not name.startswith("published/")},
        "policy_fingerprints": {
            f"{row['policy_id']}/{row['revision']}/{row['reading']}": row["policy_fingerprint"] for row in policies
        },
        "caveats": {item["key"]: item["text"] for item in caveats()},
        # How many of the withheld are truly small would narrow what they can be.
        "disclosure_loss": None,
    }
    earlier = lake.read(RELEASE).where(F.col("release_id") != release_id).withColumn("is_current", F.lit(False))
    row = small_frame(lake.spark, [manifest], RELEASE.schema)
    lake.replace(RELEASE, earlier.unionByName(row).coalesce(1), {}, stage="publish")


def remove_old_releases(lake: Lake, keep: int, now: datetime | None = None, *, leftovers: bool = False) -> list[str]:
    """Remove all but the newest ``keep`` releases and the current one; gives the ids of those removed. With ``leftovers``
    also the rows of releases that were never named, which killed runs left.

    The release before stays for an hour after it was replaced: who looked up the current one just before that still finds
    its rows.
    """
    if not lake.exists(RELEASE):
        return []
    # As numbers: a time of the machine's zone is not clear in the hour that comes twice in October.
    listed = lake.read(RELEASE).select("release_id", "is_current", F.unix_micros("released_at").alias("at"))
    releases = sorted(listed.collect(), key=lambda row: row["at"], reverse=True)
    at_least = ((now or datetime.now(UTC)) - GRACE).timestamp() * 1e6
    fresh = any(row["is_current"] and row["at"] > at_least for row in releases)
    kept = {row["release_id"] for row in releases[: max(keep, 2 if fresh else 1)]}
    old = [row["release_id"] for row in releases if row["release_id"] not in kept and not row["is_current"]]
    if old:
        # The manifest first: who joins to it never sees a release whose rows are going.
        remaining = lake.read(RELEASE).where(~F.col("release_id").isin(old)).coalesce(1)
        lake.replace(RELEASE, remaining, {}, stage="maintain")
    stay = {row["release_id"] for row in releases} - set(old)

    def remove_rows(table: Table) -> None:
        gone = set(old)
        if leftovers:
            held = lake.read(table).select("release_id").distinct().collect()
            gone |= {row["release_id"] for row in held} - stay
        if gone:
            lake.replace(table, lake.read(table).limit(0), {"release_id": sorted(gone)}, stage="maintain")

    run_in_threads([partial(remove_rows, table) for table in PUBLISHED if lake.exists(table)])
    return old


def roll_back(lake: Lake, release_id: str) -> None:
    """Name an earlier release as the current one: one row of the manifest, in one commit. An :class:`InputError` when
    there is no such release, or its tables no longer hold all of it."""
    releases = {row["release_id"]: row for row in lake.read(RELEASE).select("release_id", "tables").collect()}
    if release_id not in releases:
        near = difflib.get_close_matches(release_id, releases, n=1, cutoff=0.0)
        raise InputError(
            f"there is no release {release_id!r} in {lake.location}",
            remedy=f"did you mean {near[0]}? `ebi-spark status` lists the releases" if near else "publish one first",
        )
    for table in PUBLISHED:
        held = lake.read(table).where(F.col("release_id") == release_id).count()
        stated = releases[release_id]["tables"].get(table.full_name)
        if stated is not None and held != stated:
            raise InputError(
                f"{table.full_name} holds {held:,} rows of release {release_id}, its manifest says {stated:,}",
                remedy="it was removed by maintenance or changed by hand: choose another release, or publish anew",
            )
    named = lake.read(RELEASE).withColumn("is_current", F.col("release_id") == release_id)
    lake.replace(RELEASE, named.coalesce(1), {}, stage="roll_back")


def current_release_id(lake: Lake) -> str | None:
    """The id of the current release, None before the first; asks no query of a local lake."""
    rows = lake.small_rows(RELEASE, ["release_id", "is_current"]) if lake.exists(RELEASE) else []
    return next((row["release_id"] for row in rows if row["is_current"]), None)


def current_release(lake: Lake) -> dict[str, Any] | None:
    """The manifest row of the current release, None before the first."""
    if not lake.exists(RELEASE):
        return None
    rows = lake.read(RELEASE).where("is_current").collect()
    return rows[0].asDict(recursive=True) if rows else None


def report_tables(lake: Lake, release_id: str) -> dict[str, Any]:
    """The published tables of a release as pandas frames: national figures and areas, never records."""
    return {table.name: lake.read(table).where(F.col("release_id") == release_id).toPandas() for table in PUBLISHED}


def write_text(path: Path, text: str) -> None:
    """Write a file in one move, so that a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text, 0o666 & ~published_mask())
