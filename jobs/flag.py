"""Applies every policy to the silver records and writes flags, attrition and the policy table."""

import sys
from functools import partial
from typing import Any

from pyspark.sql import functions as F
from rich.table import Table as RichTable

from ebi_spark.flags.compute_flags import compute_attrition, compute_flags, records_by_dataset
from ebi_spark.flags.policy_table import policy_rows
from ebi_spark.flags.sensitivity import comparison, sensitivity
from ebi_spark.geography.record_areas import read_lookups
from ebi_spark.lake.storage import Lake, run_in_threads
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.policies.model import Policy
from ebi_spark.runs.due import Due
from ebi_spark.tables.schemas import (
    ACTIVITY_FLAG,
    POLICY,
    POLICY_ATTRITION,
    POLICY_COMPARISON,
    POLICY_SENSITIVITY,
    YEAR,
)
from jobs.harness import Context, run_stages
from jobs.years import silver_years

FLIPPED_FROM = ("as_published", "as_intended")
MOST_DECISIONS_SHOWN = 3


def stage(context: Context, due: Due | None = None) -> None:
    """Apply the policies to the records of the years asked for and replace the flags of these years, in one pass for each
    dataset. With ``due``, only the years and policies that are due."""
    config, spark = context.config, context.spark
    lake: Lake = context.lake
    only = due.parts if due else None
    policies = load_policies(config.policy_dirs, config.policies)
    every = revision_periods(policies, config)
    chosen = [period for period in every if only is None or period.policy.id in only]
    lookups = read_lookups(spark, config)
    with context.stage("flag", only) as report:
        years = report.years = due.years if due else silver_years(context)
        for remark in lookups.remarks:
            context.progress(remark)
        records = records_by_dataset(lake, years)
        flags = compute_flags(records, chosen, lookups).withColumn("run_id", F.lit(context.run_id))
        replaced = only if only is not None else config.policies
        where = {YEAR: years} | ({"policy_id": list(replaced)} if replaced else {})
        # Comparisons are made over all policies, even where only some were applied in this run.
        where_all_policies = {YEAR: years} | ({"policy_id": list(config.policies)} if config.policies else {})
        context.progress("applying the policies to the records")
        lake.replace(ACTIVITY_FLAG, flags.repartition(YEAR), where, stage="flag")
        written = lake.read(ACTIVITY_FLAG).where(F.col(YEAR).isin(years))

        def write_effects() -> list[dict[str, Any]]:
            context.progress("counting the records that each clause removes")
            steps = compute_attrition(records, written, chosen).withColumn("run_id", F.lit(context.run_id))
            lake.replace(POLICY_ATTRITION, steps.repartition(YEAR), where, stage="flag")
            context.progress("measuring the effect of each decision, comparing local policies with national ones")
            attrition = lake.read(POLICY_ATTRITION).where(F.col(YEAR).isin(years))
            found = {
                POLICY_SENSITIVITY: sensitivity(written, attrition, every),
                POLICY_COMPARISON: comparison(written, attrition, every),
            }
            run_id = F.lit(context.run_id)
            run_in_threads(
                [
                    partial(
                        lake.replace,
                        table,
                        frame.withColumn("run_id", run_id).coalesce(1),
                        where_all_policies,
                        stage="flag",
                    )
                    for table, frame in found.items()
                ]
            )
            by = ["policy_id", "base_reading", "decision"]
            return lake.grouped(POLICY_SENSITIVITY, by, ["added", "removed"], {YEAR: years})

        def write_policies_and_count() -> list[dict[str, Any]]:
            if context.history.policies_unchanged():
                lake.versions_read[POLICY.full_name] = lake.version(POLICY)
            else:
                _write_policies(context, policies)
            return lake.grouped(ACTIVITY_FLAG, ["policy_id", "revision", "reading", "outcome"], where={YEAR: years})

        decisive, counts = run_in_threads([write_effects, write_policies_and_count])
        report.rows = sum(row["rows"] for row in counts)
    shown = RichTable(title="Flagged", title_justify="left")
    for name in ("policy", "revision", "reading"):
        shown.add_column(name)
    for name in ("in scope", "flagged", "share"):
        shown.add_column(name, justify="right")
    defaults = {policy.id: policy.default_reading for policy in policies}
    by_reading: dict[tuple[str, str, str], dict[str, int]] = {}
    for row in counts:
        by_reading.setdefault((row["policy_id"], row["revision"], row["reading"]), {})[row["outcome"]] = row["rows"]
    for (policy_id, revision, reading), outcomes in sorted(by_reading.items()):
        scoped, flagged = sum(outcomes.values()), outcomes.get("flagged", 0)
        star = " (default)" if defaults.get(policy_id) == reading else ""
        shown.add_row(policy_id, revision, reading + star, f"{scoped:,}", f"{flagged:,}", f"{flagged / scoped:.1%}")
    context.summary.append(shown)
    _show_decisions(context, defaults, decisive)


def _show_decisions(context: Context, defaults: dict[str, str], decisive: list[dict[str, Any]]) -> None:
    """Add a table of the three decisions that change each policy's count most. They are reversed from the default reading
    where effects are counted from it, and otherwise from ``as_intended``."""
    shown = RichTable(title="Coding decisions with the largest effect, each reversed on its own", title_justify="left")
    for name in ("policy", "from", "decision"):
        shown.add_column(name)
    for name in ("adds", "removes"):
        shown.add_column(name, justify="right")
    for policy_id, default in sorted(defaults.items()):
        base = default if default in FLIPPED_FROM else FLIPPED_FROM[-1]
        of_policy = [row for row in decisive if (row["policy_id"], row["base_reading"]) == (policy_id, base)]
        moved = [row for row in of_policy if row["added"] + row["removed"]]
        for row in sorted(moved, key=lambda row: (-row["added"] - row["removed"], row["decision"]))[
            :MOST_DECISIONS_SHOWN
        ]:
            shown.add_row(policy_id, base, row["decision"], f"{row['added']:,}", f"{row['removed']:,}")
    if shown.row_count:
        context.summary.append(shown)


def stage_policies(context: Context) -> None:
    """Write only the policy table: the text of policies has changed, and no outcome of a record has."""
    policies = load_policies(context.config.policy_dirs, context.config.policies)
    with context.stage("flag") as report:
        report.years = []
        _write_policies(context, policies)


def _write_policies(context: Context, policies: list[Policy]) -> None:
    where = {"policy_id": [policy.id for policy in policies]} if context.config.policies else {}
    rows = policy_rows(context.spark, policies, context.run_id)
    context.lake.replace(POLICY, rows.coalesce(1), where, stage="flag")


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark flag``."""
    return run_stages("flag", __doc__ or "", [stage], argv)


if __name__ == "__main__":
    sys.exit(main())
