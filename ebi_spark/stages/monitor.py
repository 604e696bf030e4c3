"""The stage monitor: approvals, the care around operations, and what changed from one year to another."""

from dataclasses import dataclass, field
from functools import cached_property

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.geography.area_versions import Geography, read_geography
from ebi_spark.pathway.after import outcome_steps, outcomes_after
from ebi_spark.pathway.algorithm import step_reached
from ebi_spark.pathway.at_operation import approach, decompression, fusions, levels, steps_at_operation
from ebi_spark.pathway.before import OPERATION, by_operation, findings, steps_before
from ebi_spark.pathway.coverage import covered_days, last_day
from ebi_spark.pathway.linked import linked_attendances, linked_flags, linked_spells
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
from ebi_spark.tables.schemas import ACTIVITY_FLAG, APC_SPELL, OP_ATTENDANCE, POLICY, YEAR


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
        lake, run_id = self.lake, F.lit(self.context.run_id)
        self.context.progress("following the care around fusions")
        spells, attendances = lake.read(APC_SPELL), lake.read(OP_ATTENDANCE)
        default = lake.read(POLICY).where("is_default_reading").select("policy_id", "reading").distinct()
        flags = lake.read(ACTIVITY_FLAG).join(F.broadcast(default), ["policy_id", "reading"], "left_semi")
        followed = fusions(self.operations())
        linked = linked_spells(followed, spells)
        stretches = covered_days(spells, attendances)
        shown = findings(linked, linked_attendances(followed, attendances), linked_flags(followed, flags))
        read = [row["policy_id"] for row in lake.grouped(POLICY, ["policy_id"])]
        steps = steps_before(followed, by_operation(followed, shown), stretches, read)
        data_end = last_day(stretches, "apc", F.col("discharge_date"))
        for others in (steps_at_operation(followed), outcome_steps(followed, linked, data_end)):
            steps = steps.unionByName(others, allowMissingColumns=True)
        steps = steps.withColumn("run_id", run_id)
        lake.replace(PATHWAY_STEP, steps.repartition(YEAR), {}, stage=self.name)
        described = followed.withColumns({"levels": levels(), "approach": approach(), "decompression": decompression()})
        # What was just written is read again: the outpatient table is read once.
        reached = step_reached(lake.read(PATHWAY_STEP), described)
        whole = described.join(reached, list(OPERATION)).join(
            outcomes_after(followed, linked, data_end), list(OPERATION)
        )
        lake.replace(PATHWAY, whole.withColumn("run_id", run_id).repartition(YEAR), {}, stage=self.name)
        counted = (
            lake.read(PATHWAY)
            .groupBy("algorithm_step")
            .agg(F.count("*").alias("rows"), F.count_if(F.col("person_id").isNull()).alias("without_person"))
        )
        by_step = counted.collect()
        summary.pathways = {row["algorithm_step"]: row["rows"] for row in by_step}
        without_person = sum(row["without_person"] for row in by_step)
        if without_person:
            summary.warnings.append(
                f"{without_person:,} of {sum(summary.pathways.values()):,} fusions have no person: what came before and after "
                "them cannot be seen"
            )

    def _changes(self, summary: MonitorSummary) -> None:
        """Split the change of flagged records into its factors, and compare groups of people."""
