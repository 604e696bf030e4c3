"""The stage monitor: approvals, the care around operations, and what changed from one year to another."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.approvals.before_and_after import before_and_after
from ebi_spark.approvals.coverage import entries_by_board, register_coverage, register_warnings
from ebi_spark.approvals.match import MATCH_CLASSES, match_approvals
from ebi_spark.approvals.regimes import (
    RegimeChange,
    boards_shown,
    read_regimes,
    regime_changes,
    stated_coverage,
)
from ebi_spark.approvals.register import classify_entries, read_registers, unused_approvals
from ebi_spark.geography.area_versions import Geography, read_geography
from ebi_spark.pathway.operations import operations
from ebi_spark.policies.load import load_policies
from ebi_spark.runs.history import READS
from ebi_spark.small_frames import small_frame
from ebi_spark.stages.stage import Stage
from ebi_spark.tables.monitoring import (
    ACTIVITY_CHANGE,
    APPROVAL_MATCH,
    APPROVAL_UNUSED,
    CODE_USE,
    EQUALITY_RATE,
    PATHWAY,
    PATHWAY_INCIDENCE,
    PATHWAY_STEP,
    PRIOR_APPROVAL,
    PRIOR_APPROVAL_QUARANTINE,
    REGIME_CHANGE,
)
from ebi_spark.tables.schemas import ACTIVITY_FLAG, APC_SPELL, OP_ATTENDANCE, POLICY, YEAR, Table

# What an operation is matched by, and what its row shows.
_MATCHED = (
    "policy_id", "revision", "reading", "source_system", "dataset", "record_id", "person_id", "financial_year",
    "operation_date", "operation_date_basis", "board", "provider_code", "flagged", "emergency",
)  # fmt: skip
_REGIME = "board string, policy_id string, kind string, since date, until date, exempts_emergencies boolean"
_COVERED = "board string, covered_from date, covered_to date, linkable boolean, person_system string"


@dataclass
class MonitorSummary:
    """``approvals``: operations by match class. ``pathways``: fusions by step of the algorithm. ``warnings``: what to know
    about them."""

    approvals: dict[str, int] = field(default_factory=dict)
    pathways: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Monitor(Stage):
    """Looks at the operations in scope of the policies, each in its default reading, over all years of the lake.

    Replaces all rows of its tables, because an operation is followed back and ahead over the years.
    """

    name = "monitor"
    reads = READS["monitor"]
    writes = (
        PRIOR_APPROVAL, PRIOR_APPROVAL_QUARANTINE, APPROVAL_MATCH, APPROVAL_UNUSED, REGIME_CHANGE, PATHWAY, PATHWAY_STEP,
        PATHWAY_INCIDENCE, CODE_USE, ACTIVITY_CHANGE, EQUALITY_RATE,
    )  # fmt: skip

    def run(self) -> MonitorSummary:
        """Compute every table of monitoring again."""
        context, lake = self.context, self.lake
        with context.stage(self.name) as report:
            lake.prepare()
            report.years = lake.years(ACTIVITY_FLAG)
            summary = MonitorSummary()
            self._approvals(summary)
            self._pathways(summary)
            self._changes(summary)
            report.rows = sum(summary.approvals.values()) + sum(summary.pathways.values())
            for warning in summary.warnings:
                context.progress(warning)
            return summary

    @cached_property
    def geography(self) -> Geography:
        """The areas that figures are shown for."""
        return read_geography(self.config.geography, self.config.mappings)

    def operations(self) -> DataFrame:
        """The operations of all years; see :func:`~ebi_spark.pathway.operations.operations`."""
        lake = self.lake
        return operations(lake.read(ACTIVITY_FLAG), lake.read(APC_SPELL), lake.read(POLICY), self.geography)

    def _approvals(self, summary: MonitorSummary) -> None:
        """Read the registers of approvals, match the operations with them, and count around each change of a regime.

        Without a register no operation can be linked. The operations are written all the same, with what their board asked
        for; the tables of entries are empty.
        """
        shown = boards_shown(self.geography)
        regimes = [replace(regime, board=shown[regime.board]) for regime in read_regimes(self.config)]
        covered = self._read_registers(shown, summary)
        lake, spark, run_id = self.lake, self.context.spark, F.lit(self.context.run_id)
        matched = match_approvals(
            self.operations().select(*_MATCHED, "procedure_codes"),
            lake.read(PRIOR_APPROVAL),
            small_frame(spark, [vars(regime) for regime in regimes], _REGIME),
            small_frame(spark, covered, _COVERED),
        )
        self._replace(APPROVAL_MATCH, matched.withColumn("run_id", run_id).repartition(YEAR))
        if self.config.registers:
            found = {row["match_class"]: row["rows"] for row in lake.grouped(APPROVAL_MATCH, ["match_class"])}
            summary.approvals = {name: found[name] for name in MATCH_CLASSES if name in found}
        self._unused_approvals(covered)
        # A policy that was not applied has no operations, which is not the same as none.
        self._changes_of_regimes(
            [change for change in regime_changes(regimes) if change.policy_id in self._policies_applied]
        )

    def _read_registers(self, shown: Mapping[str, str], summary: MonitorSummary) -> list[dict[str, Any]]:
        """Write the entries of the registers. Returns the boards and days that they cover, each with whether its entries can
        be linked."""
        lake, config, run_id = self.lake, self.config, F.lit(self.context.run_id)
        rows = read_registers(self.context.spark, config, self.context.inputs.files)
        if rows is None:
            self._clear(PRIOR_APPROVAL, PRIOR_APPROVAL_QUARANTINE)
            return []
        known = self.context.inputs.policies if config.policies is None else load_policies(config.policy_dirs)
        classified = classify_entries(rows, [policy.id for policy in known], shown).withColumn("run_id", run_id)
        usable = F.size("reasons") == 0
        self._replace(PRIOR_APPROVAL_QUARANTINE, classified.where(~usable).coalesce(1))
        entries = classified.where(usable)
        records = [lake.read(table) for table in (APC_SPELL, OP_ATTENDANCE)]
        people = [
            frame.where(F.col("source_system") == config.register_pseudonym) if config.register_pseudonym else frame
            for frame in records
        ]
        # The people of the registers are few: silver is read once and not shuffled.
        seen = (
            people[0]
            .select("person_id")
            .unionByName(people[1].select("person_id"))
            .join(F.broadcast(entries.select("person_id").distinct()), "person_id", "left_semi")
            .distinct()
            .withColumn("person_in_silver", F.lit(True))
        )
        in_silver = entries.join(F.broadcast(seen), "person_id", "left").fillna(False, ["person_in_silver"])
        self._replace(PRIOR_APPROVAL, in_silver.coalesce(1))
        boards = [row.asDict() for row in entries_by_board(lake.read(PRIOR_APPROVAL)).collect()]
        stated = [replace(item, board=shown[item.board]) for item in stated_coverage(config)]
        covered = register_coverage(boards, stated, config.linkable_share, config.register_pseudonym)
        quarantined = lake.grouped(PRIOR_APPROVAL_QUARANTINE, ["reasons"])
        summary.warnings += register_warnings(
            boards, covered, quarantined, stated=bool(stated), linkable_share=config.linkable_share
        )
        return covered

    def _unused_approvals(self, covered: list[dict[str, Any]]) -> None:
        """List approvals without an operation, of the boards whose entries can be linked."""
        lake, config = self.lake, self.config
        if not config.registers or not self._days_of_data:
            self._clear(APPROVAL_UNUSED)
            return
        linked = {row["board"] for row in covered if row["linkable"]}
        entries = lake.read(PRIOR_APPROVAL).where(F.col("board").isNull() | F.col("board").isin(sorted(linked)))
        unused = unused_approvals(
            entries,
            lake.read(APPROVAL_MATCH),
            self._policies_applied,
            max(self._days_of_data),
            config.unused_after_days,
        )
        self._replace(APPROVAL_UNUSED, unused.withColumn("run_id", F.lit(self.context.run_id)).coalesce(1))

    def _changes_of_regimes(self, changes: list[RegimeChange]) -> None:
        """Count the operations by month and quarter around each change of a regime."""
        of_boards = {"board": sorted({change.board for change in changes})}
        by = ["policy_id", "board", "operation_date", "flagged"]
        counts = self.lake.grouped(APPROVAL_MATCH, by, where=of_boards) if changes else []
        rows = before_and_after(counts, changes, self._days_of_data) if counts else []
        if rows:
            rows = [row | {"run_id": self.context.run_id} for row in rows]
            self._replace(REGIME_CHANGE, small_frame(self.context.spark, rows, REGIME_CHANGE.schema).coalesce(1))
        else:
            self._clear(REGIME_CHANGE)

    @cached_property
    def _policies_applied(self) -> set[str]:
        """The policies for admitted care that the lake has flags of."""
        return {row["policy_id"] for row in self.lake.small_rows(POLICY, ["policy_id"], {"dataset": ["apc"]})}

    @cached_property
    def _days_of_data(self) -> set[date]:
        """The days on which a spell of the lake ended."""
        return {row["activity_date"] for row in self.lake.grouped(APC_SPELL, ["activity_date"])} - {None}

    def _replace(self, table: Table, frame: DataFrame) -> None:
        self.lake.replace(table, frame, {}, stage=self.name)

    def _clear(self, *tables: Table) -> None:
        """Empty tables. One that is empty is not written again."""
        for table in tables:
            if self.lake.grouped(table, [])[0]["rows"]:
                self._replace(table, small_frame(self.context.spark, [], table.schema))

    def _pathways(self, summary: MonitorSummary) -> None:
        """Follow the care before and after each fusion."""

    def _changes(self, summary: MonitorSummary) -> None:
        """Split the change of flagged records into its factors, and compare groups of people."""
