"""The stage flag: applies every policy to the silver records."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.flags.compute_flags import compute_flags
from ebi_spark.flags.policy_table import policy_rows
from ebi_spark.flags.sensitivity import comparison, sensitivity
from ebi_spark.geography.record_areas import read_lookups
from ebi_spark.runs.due import Due
from ebi_spark.runs.stage_inputs import READS
from ebi_spark.stages.stage import Stage
from ebi_spark.stages.years import known_records, silver_years
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY, POLICY_ATTRITION, POLICY_COMPARISON, POLICY_SENSITIVITY
from ebi_spark.tables.table import YEAR, Table
from ebi_spark.threads import run_in_threads


@dataclass(frozen=True)
class DecisionEffect:
    """How many records are flagged more (``added``) or less (``removed``) when one decision is reversed from a reading."""

    policy_id: str
    base_reading: str
    decision: str
    added: int
    removed: int


@dataclass(frozen=True)
class FlagSummary:
    """``outcomes``: records by outcome, for each (policy, revision, reading). ``default_readings``: by policy."""

    outcomes: dict[tuple[str, str, str], dict[str, int]]
    default_readings: dict[str, str]
    effects: list[DecisionEffect]


class Flag(Stage):
    """Applies the policies to the records of some years, and counts what each clause and each decision does.

    Replaces the flags and the attrition of these years, the effects of decisions and the comparisons with national
    policies; and the policy table, where a policy has changed.
    """

    name = "flag"
    reads = READS["flag"]
    writes = (ACTIVITY_FLAG, POLICY_ATTRITION, POLICY_SENSITIVITY, POLICY_COMPARISON, POLICY)
    compute = staticmethod(compute_flags)

    def run(self, due: Due | None = None) -> FlagSummary:
        """Flag the years asked for, in one pass for each dataset. With ``due``, only the years and policies that are due."""
        context, config, lake = self.context, self.config, self.lake
        only = due.parts if due else None
        policies, every = context.inputs.policies, context.inputs.periods
        chosen = [period for period in every if only is None or period.policy.id in only]
        lookups = read_lookups(context.spark, config)
        with context.stage(self.name, only) as report:
            years = report.years = due.years if due else silver_years(context)
            report.rows_to_read = known_records(context, years)
            for remark in lookups.remarks:
                context.progress(remark)
            made = self.compute(lake, years, chosen, lookups)
            run_id = F.lit(context.run_id)
            replaced = only if only is not None else config.policies
            where = {YEAR: years} | ({"policy_id": list(replaced)} if replaced else {})
            # Comparisons are made over all policies, even where only some were applied in this run.
            where_all_policies = {YEAR: years} | ({"policy_id": list(config.policies)} if config.policies else {})
            context.progress("applying the policies to the records")
            flags = made.flags.withColumn("run_id", run_id)
            lake.replace(ACTIVITY_FLAG, flags.repartition(YEAR), where, stage=self.name)
            written = lake.read(ACTIVITY_FLAG).where(F.col(YEAR).isin(years))

            def write_effects() -> list[dict[str, Any]]:
                context.progress("counting the records that each clause removes")
                steps = made.attrition(written).withColumn("run_id", run_id)
                lake.replace(POLICY_ATTRITION, lake.collect(POLICY_ATTRITION, steps), where, stage=self.name)
                context.progress("measuring the effect of each decision, comparing local policies with national ones")
                attrition = lake.read_small(POLICY_ATTRITION).where(F.col(YEAR).isin(years))
                found = {
                    POLICY_SENSITIVITY: sensitivity(written, attrition, every),
                    POLICY_COMPARISON: comparison(written, attrition, every),
                }

                def write(table: Table, frame: DataFrame) -> None:
                    rows = lake.collect(table, frame.withColumn("run_id", run_id))
                    lake.replace(table, rows, where_all_policies, stage=self.name)

                run_in_threads([partial(write, table, frame) for table, frame in found.items()])
                by = ["policy_id", "base_reading", "decision"]
                return lake.grouped(POLICY_SENSITIVITY, by, ["added", "removed"], {YEAR: years})

            def write_policies_and_count() -> list[dict[str, Any]]:
                if context.history.policies_unchanged():
                    lake.versions_read[POLICY.full_name] = lake.version(POLICY)
                else:
                    self._write_policies()
                by = ["policy_id", "revision", "reading", "outcome"]
                return lake.grouped(ACTIVITY_FLAG, by, where={YEAR: years})

            effects, counts = run_in_threads([write_effects, write_policies_and_count])
            report.rows = sum(row["rows"] for row in counts)
        outcomes: dict[tuple[str, str, str], dict[str, int]] = {}
        for row in counts:
            outcomes.setdefault((row["policy_id"], row["revision"], row["reading"]), {})[row["outcome"]] = row["rows"]
        return FlagSummary(
            outcomes,
            {policy.id: policy.default_reading for policy in policies},
            [
                DecisionEffect(row["policy_id"], row["base_reading"], row["decision"], row["added"], row["removed"])
                for row in effects
            ],
        )

    def run_policies(self) -> None:
        """Write only the policy table: the text of policies has changed, and no outcome of a record has."""
        with self.context.stage(self.name) as report:
            report.years = []
            self._write_policies()

    def _write_policies(self) -> None:
        policies = self.context.inputs.policies
        where = {"policy_id": [policy.id for policy in policies]} if self.config.policies else {}
        self.lake.replace(POLICY, policy_rows(policies, self.context.run_id), where, stage=self.name)
