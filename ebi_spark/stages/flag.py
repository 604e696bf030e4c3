"""The stage flag: applies every policy to the silver records."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyspark.sql import functions as F

from ebi_spark.flags.compute_flags import ComputedFlags, compute_flags
from ebi_spark.flags.policy_table import policy_rows
from ebi_spark.flags.sensitivity import comparison, sensitivity
from ebi_spark.geography.record_areas import read_lookups
from ebi_spark.lake.conditions import Where
from ebi_spark.runs.due import Due
from ebi_spark.runs.stage_inputs import READS
from ebi_spark.stages.stage import Stage
from ebi_spark.stages.years import known_records, silver_years
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY, POLICY_ATTRITION, POLICY_COMPARISON, POLICY_SENSITIVITY
from ebi_spark.tables.table import YEAR
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
    """Of the policies that were asked for. ``outcomes``: records by outcome, for each (policy, revision, reading).
    ``default_readings``: by policy. ``effects``: of each decision, from each reading."""

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
        context, config = self.context, self.config
        only = due.parts if due else None
        chosen = [period for period in context.inputs.periods if only is None or period.policy.id in only]
        lookups = read_lookups(context.spark, config)
        with context.stage(self.name, only) as report:
            years = report.years = due.years if due else silver_years(context)
            report.rows_to_read = known_records(context, years)
            for remark in lookups.remarks:
                context.progress(remark)
            made = self.compute(self.lake, years, chosen, lookups)
            where = _rows_of(years, only if only is not None else config.policies)
            context.progress("applying the policies to the records")
            self.replace(ACTIVITY_FLAG, self.with_run(made.flags).repartition(YEAR), where)
            effects, counts = run_in_threads(
                [partial(self._write_effects, made, years, where), partial(self._write_policies_and_count, years)]
            )
            report.rows = sum(row["rows"] for row in counts)
        outcomes: dict[tuple[str, str, str], dict[str, int]] = {}
        for row in counts:
            outcomes.setdefault((row["policy_id"], row["revision"], row["reading"]), {})[row["outcome"]] = row["rows"]
        return FlagSummary(
            outcomes,
            {policy.id: policy.default_reading for policy in context.inputs.policies},
            [
                DecisionEffect(row["policy_id"], row["base_reading"], row["decision"], row["added"], row["removed"])
                for row in effects
            ],
        )

    def _write_effects(self, made: ComputedFlags, years: list[str], where: Where) -> list[dict[str, Any]]:
        """Write the attrition (the rows ``where``), the effects of decisions and the comparisons. Returns the effect of each
        decision."""
        context, lake, in_years = self.context, self.lake, F.col(YEAR).isin(years)
        written = lake.read(ACTIVITY_FLAG).where(in_years)
        context.progress("counting the records that each clause removes")
        self.replace_aggregate(POLICY_ATTRITION, made.attrition(written), where)
        context.progress("measuring the effect of each decision, comparing local policies with national ones")
        attrition, inputs = lake.read_small(POLICY_ATTRITION).where(in_years), context.inputs
        # Both are made for all policies that were asked for, even where only those that are due were applied.
        asked, compared = self.config.policies, inputs.compared_policies
        tables = (
            (POLICY_SENSITIVITY, sensitivity(written, attrition, inputs.periods), asked),
            (POLICY_COMPARISON, comparison(written, attrition, inputs.periods_of(compared)), asked and compared),
        )
        run_in_threads(
            [partial(self.replace_aggregate, table, rows, _rows_of(years, ids)) for table, rows, ids in tables]
        )
        by = ["policy_id", "base_reading", "decision"]
        return lake.grouped(POLICY_SENSITIVITY, by, ["added", "removed"], _rows_of(years, asked))

    def _write_policies_and_count(self, years: list[str]) -> list[dict[str, Any]]:
        """Write the policy table if a policy has changed. Returns the number of records by reading and outcome."""
        if self.context.history.policies_unchanged():
            self.lake.versions_read[POLICY.full_name] = self.lake.version(POLICY)
        else:
            self._write_policies()
        by = ["policy_id", "revision", "reading", "outcome"]
        return self.lake.grouped(ACTIVITY_FLAG, by, where=_rows_of(years, self.config.policies))

    def run_policies(self) -> None:
        """Write only the policy table: the text of policies has changed, and no outcome of a record has."""
        with self.context.stage(self.name) as report:
            report.years = []
            self._write_policies()

    def _write_policies(self) -> None:
        policies = self.context.inputs.policies
        where = {"policy_id": [policy.id for policy in policies]} if self.config.policies else {}
        self.replace(POLICY, policy_rows(policies, self.context.run_id), where)


def _rows_of(years: Iterable[str], policies: Iterable[str] | None) -> Where:
    """The rows of some years, of some policies or (None) of all."""
    return {YEAR: years} | ({"policy_id": list(policies)} if policies else {})
