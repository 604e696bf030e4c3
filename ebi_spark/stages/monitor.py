"""The stage monitor: approvals, the care around operations, and what changed from one year to another."""

from dataclasses import dataclass, field
from functools import cached_property

from pyspark.sql import DataFrame

from ebi_spark.geography.area_versions import Geography, read_geography
from ebi_spark.pathway.operations import operations
from ebi_spark.runs.history import READS
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
from ebi_spark.tables.schemas import ACTIVITY_FLAG, APC_SPELL, POLICY


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
        """Read the registers of approvals and match the operations with them."""

    def _pathways(self, summary: MonitorSummary) -> None:
        """Follow the care before and after each fusion."""

    def _changes(self, summary: MonitorSummary) -> None:
        """Split the change of flagged records into its factors, and compare groups of people."""
