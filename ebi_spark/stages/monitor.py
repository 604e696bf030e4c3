"""The stage monitor: approvals, the care around operations, and what changed from one year to another."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, partial, reduce
from operator import or_
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.approvals.before_and_after import before_and_after
from ebi_spark.approvals.coverage import COUNTED_BY, entries_by_board, register_coverage, register_warnings
from ebi_spark.approvals.match import MATCH_CLASSES, match_approvals
from ebi_spark.approvals.regimes import (
    RegimeChange,
    boards_shown,
    read_regimes,
    regime_changes,
    stated_coverage,
)
from ebi_spark.approvals.register import classify_entries, read_registers, unused_approvals
from ebi_spark.financial_years import end_of, start_of
from ebi_spark.geography.area_lists import ENGLAND_ONS
from ebi_spark.geography.area_versions import Geography, read_geography
from ebi_spark.geography.record_areas import read_lookups
from ebi_spark.lake.writers import Rows
from ebi_spark.pathway.after import outcome_steps, outcomes_after
from ebi_spark.pathway.algorithm import step_reached
from ebi_spark.pathway.at_operation import approach, decompression, fusions, levels, steps_at_operation
from ebi_spark.pathway.before import by_operation, findings, steps_before
from ebi_spark.pathway.continuous_spells import transfer_warning, transfers_by
from ebi_spark.pathway.coverage import Coverage, coverage, last_day
from ebi_spark.pathway.definitions import OPERATION
from ebi_spark.pathway.incidence import counts_by_day, incidence_rows
from ebi_spark.pathway.linked import linked_attendances, linked_flags, linked_spells
from ebi_spark.pathway.measures import measure_counts, measure_rows
from ebi_spark.pathway.operations import FEW, operations
from ebi_spark.policies.model import Policy, RevisionPeriod
from ebi_spark.rates.activity_change import (
    area_counts,
    chains,
    change_rows,
    changes,
    code_use_rows,
    counts_frame,
    counts_of,
)
from ebi_spark.rates.equality import (
    equality_counts,
    equality_rows,
    pooled_years,
    read_fifths,
    read_people_of_fifths,
)
from ebi_spark.rates.population import (
    Population,
    build_population,
    people_by_year,
    stored_vintages,
)
from ebi_spark.runs.stage_inputs import READS
from ebi_spark.small_frames import kept, small_frame
from ebi_spark.stages.stage import Stage
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY, POLICY_ATTRITION
from ebi_spark.tables.monitoring_approvals import (
    APPROVAL_MATCH,
    APPROVAL_UNUSED,
    PRIOR_APPROVAL,
    PRIOR_APPROVAL_QUARANTINE,
    REGIME_CHANGE,
)
from ebi_spark.tables.monitoring_changes import ACTIVITY_CHANGE, ACTIVITY_COUNT, CODE_USE, EQUALITY_RATE, LINKED_MEASURE
from ebi_spark.tables.monitoring_pathway import PATHWAY, PATHWAY_INCIDENCE, PATHWAY_STEP
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE, POPULATION, RECORD_TABLES
from ebi_spark.tables.table import YEAR, Table
from ebi_spark.threads import run_in_threads

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
    """Analyses the operations in scope of each policy, in its default reading, over all years of the lake.

    Replaces all rows of its tables, because the care around an operation can be in other years.
    """

    name = "monitor"
    reads = READS["monitor"]
    writes = (
        PRIOR_APPROVAL, PRIOR_APPROVAL_QUARANTINE, APPROVAL_MATCH, APPROVAL_UNUSED, REGIME_CHANGE, PATHWAY, PATHWAY_STEP,
        PATHWAY_INCIDENCE, LINKED_MEASURE, CODE_USE, ACTIVITY_COUNT, ACTIVITY_CHANGE, EQUALITY_RATE,
    )  # fmt: skip

    def run(self) -> MonitorSummary:
        """Compute every table of monitoring again."""
        context, lake = self.context, self.lake
        with context.stage(self.name) as report:
            lake.prepare()
            report.years = lake.years(ACTIVITY_FLAG)
            summary = MonitorSummary()

            def operations_and_care() -> None:
                self._approvals(summary)
                self._pathways(summary)

            run_in_threads([operations_and_care, self._changes])
            report.rows = sum(summary.approvals.values()) + sum(summary.pathways.values())
            for warning in summary.warnings:
                context.progress(warning)
            return summary

    @cached_property
    def geography(self) -> Geography:
        """The areas that figures are shown for."""
        return read_geography(self.config.geography, self.config.mappings)

    def _operations(self) -> DataFrame:
        """The operations of all years; see :func:`~ebi_spark.pathway.operations.operations`. They are computed once
        and written to ``gold/approval_match``, from which the rest of the stage reads them."""
        lake = self.lake
        default = {(row["policy_id"], row["reading"]) for row in self._readings if row["is_default_reading"]}
        in_scope = lake.small_rows(POLICY_ATTRITION, ["policy_id", "reading", "records_left"], {"step": [0]})
        number = sum(
            row["records_left"]
            for row in in_scope
            if row["policy_id"] in self._policies_applied and (row["policy_id"], row["reading"]) in default
        )
        return operations(
            lake.read(ACTIVITY_FLAG), lake.read(APC_SPELL), lake.read(POLICY), self.geography, few=number <= FEW
        )

    def _approvals(self, summary: MonitorSummary) -> None:
        """Read the registers of approvals, match the operations with them, and count around each change of a regime.

        Without a register no operation can be linked. The operations are written all the same, with what their board asked
        for; the tables of entries are empty.
        """
        shown = boards_shown(self.geography)
        regimes = read_regimes(self.config, shown)
        covered = self._read_registers(shown, summary)
        lake, spark = self.lake, self.context.spark
        matched = match_approvals(
            self._operations(),
            lake.read(PRIOR_APPROVAL),
            small_frame(spark, [vars(regime) for regime in regimes], _REGIME),
            small_frame(spark, covered, _COVERED),
        )
        self._replace_all(APPROVAL_MATCH, self.with_run(matched).repartition(YEAR))
        if self.config.registers:
            found = {row["match_class"]: row["rows"] for row in lake.grouped(APPROVAL_MATCH, ["match_class"])}
            summary.approvals = {name: found[name] for name in MATCH_CLASSES if name in found}
        self._unused_approvals(covered)
        # The lake has no operations of a policy that was not applied. That does not mean that there were none.
        self._changes_of_regimes(
            [change for change in regime_changes(regimes) if change.policy_id in self._policies_applied]
        )

    def _read_registers(self, shown: Mapping[str, str], summary: MonitorSummary) -> list[dict[str, Any]]:
        """Write the entries of the registers. Returns the boards and days that they cover, each with whether its entries can
        be linked."""
        lake, config = self.lake, self.config
        rows = read_registers(self.context.spark, config, self.context.inputs.files)
        if rows is None:
            self._clear(PRIOR_APPROVAL, PRIOR_APPROVAL_QUARANTINE)
            return []
        known = self.context.inputs.known_policies
        plausible = date.fromisoformat(min(config.activity_from.values())), config.day
        classified = self.with_run(classify_entries(rows, [policy.id for policy in known], shown, plausible))
        usable = F.size("reasons") == 0
        self._replace_all(PRIOR_APPROVAL_QUARANTINE, classified.where(~usable).coalesce(1))
        entries = classified.where(usable)
        records = [lake.read(table) for table in (APC_SPELL, OP_ATTENDANCE)]
        people = [
            frame.where(F.col("source_system") == config.register_pseudonym) if config.register_pseudonym else frame
            for frame in records
        ]
        # The registers have few people, so silver is read once and not shuffled.
        seen = (
            people[0]
            .select("person_id")
            .unionByName(people[1].select("person_id"))
            .join(F.broadcast(entries.select("person_id").distinct()), "person_id", "left_semi")
            .distinct()
            .withColumn("person_in_silver", F.lit(True))
        )
        in_silver = entries.join(F.broadcast(seen), "person_id", "left").fillna(False, ["person_in_silver"])
        self._replace_all(PRIOR_APPROVAL, in_silver.coalesce(1))
        boards = entries_by_board(lake.grouped(PRIOR_APPROVAL, COUNTED_BY))
        stated = stated_coverage(config, shown)
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
        self._replace_all(APPROVAL_UNUSED, self.with_run(unused).coalesce(1))

    def _changes_of_regimes(self, changes: list[RegimeChange]) -> None:
        """Count the operations by month and quarter around each change of a regime."""
        by = ["policy_id", "board", "operation_date", "flagged"]
        counts = self.lake.grouped(APPROVAL_MATCH, by) if changes else []
        if self.config.coverage == "partial":
            # A board without any operation may be outside the extract, so its zeros would mean nothing.
            there = {row["board"] for row in counts}
            changes = [change for change in changes if change.board in there]
        rows = before_and_after(counts, changes, self._days_of_data)
        if rows:
            self._replace_rows(REGIME_CHANGE, rows)
        else:
            self._clear(REGIME_CHANGE)

    @cached_property
    def _policies_applied(self) -> set[str]:
        """The policies for admitted care that the lake has flags of."""
        return {row["policy_id"] for row in self._readings if row["dataset"] == "apc"}

    @cached_property
    def _periods(self) -> list[RevisionPeriod]:
        """Which revision of each policy that the lake has flags of applies when. The run may have been asked for a few of them."""
        return self.context.inputs.periods_of({row["policy_id"] for row in self._readings})

    @cached_property
    def _readings(self) -> list[dict[str, Any]]:
        """The readings of the policies that the lake has flags of."""
        return self.lake.small_rows(POLICY, ["policy_id", "reading", "dataset", "is_default_reading"])

    @cached_property
    def _days_of_data(self) -> set[date]:
        """The days on which a spell of the lake ended."""
        return {row["activity_date"] for row in self.lake.grouped(APC_SPELL, ["activity_date"])} - {None}

    def _replace_all(self, table: Table, rows: Rows) -> None:
        self.replace(table, rows, {})

    def _replace_rows(self, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace a table by a few rows, with the run's id."""
        self._replace_all(table, [{**row, "run_id": self.context.run_id} for row in rows])

    def _clear(self, *tables: Table) -> None:
        """Empty these tables. One that is empty already is not written."""
        for table in tables:
            if self.lake.grouped(table, [])[0]["rows"]:
                self._replace_all(table, [])

    def _pathways(self, summary: MonitorSummary) -> None:
        """Follow the care before and after each fusion."""
        lake = self.lake
        self.context.progress("following the care around fusions")
        spells, attendances = lake.read(APC_SPELL), lake.read(OP_ATTENDANCE)
        chosen = [
            (F.col("policy_id") == row["policy_id"]) & (F.col("reading") == row["reading"])
            for row in self._readings
            if row["is_default_reading"]
        ]
        flags = lake.read(ACTIVITY_FLAG).where(reduce(or_, chosen, F.lit(False)))
        covered = coverage(spells, attendances)
        read = sorted({row["policy_id"] for row in self._readings})
        # The fusions and the spells of their persons are few. They are read once for the care before and after, and for both tables.
        with kept(fusions(lake.read(APPROVAL_MATCH))) as followed, kept(linked_spells(followed, spells)) as linked:
            self._write_pathways(followed, linked, attendances, flags, covered, read)
        pathways = lake.read(PATHWAY)
        by_step = pathways.groupBy("algorithm_step").agg(
            F.count("*").alias("records"), F.count_if(F.col("person_id").isNull()).alias("without_person")
        )
        measured = measure_counts(pathways, lake.read(PATHWAY_STEP), flags, covered.stretches, read)
        # Three counts in one query.
        every = counts_by_day(pathways).unionByName(measured, True).unionByName(by_step, True).collect()
        self._replace_rows(
            PATHWAY_INCIDENCE,
            incidence_rows(
                (row for row in every if row["history"]), transfers_by(covered.sources, covered.destinations)
            ),
        )
        self._replace_rows(LINKED_MEASURE, measure_rows(row.asDict() for row in every if row["measure"]))
        counted = [row for row in every if row["algorithm_step"]]
        summary.pathways = {row["algorithm_step"]: row["records"] for row in counted}
        without_person = sum(row["without_person"] for row in counted)
        if without_person:
            summary.warnings.append(
                f"{without_person:,} of {sum(summary.pathways.values()):,} fusions have no person: what came before and after "
                "them cannot be seen"
            )
        warning = transfer_warning(covered.sources, covered.destinations)
        if warning and counted:
            summary.warnings.append(warning)

    def _write_pathways(
        self,
        followed: DataFrame,
        linked: DataFrame,
        attendances: DataFrame,
        flags: DataFrame,
        covered: Coverage,
        policies_read: list[str],
    ) -> None:
        """Write the steps of each fusion, and its row."""
        shown = findings(linked, linked_attendances(followed, attendances), linked_flags(followed, flags))
        steps = steps_before(followed, by_operation(followed, shown), covered.stretches, policies_read)
        data_end = last_day(covered.stretches, "apc", F.col("discharge_date"))
        for others in (steps_at_operation(followed), outcome_steps(followed, linked, data_end)):
            steps = steps.unionByName(others, allowMissingColumns=True)
        self._replace_all(PATHWAY_STEP, self.with_run(steps).repartition(YEAR))
        described = followed.withColumns({"levels": levels(), "approach": approach(), "decompression": decompression()})
        # Reads the steps that were just written, so that the outpatient table is read only once.
        reached = step_reached(self.lake.read(PATHWAY_STEP), described)
        whole = described.join(reached, list(OPERATION)).join(
            outcomes_after(followed, linked, data_end), list(OPERATION)
        )
        self._replace_all(PATHWAY, self.with_run(whole).repartition(YEAR))

    def _changes(self) -> None:
        """Split the change of flagged records into its factors, and compare groups of people."""
        context, config, lake = self.context, self.config, self.lake
        partial_coverage = config.coverage == "partial"
        records = {dataset: lake.read(table) for dataset, table in RECORD_TABLES.items()}
        years = {dataset: lake.years(table) for dataset, table in RECORD_TABLES.items()}
        flags, every_year = lake.read(ACTIVITY_FLAG), sorted({*years["apc"], *years["op"]})
        stored = stored_vintages(lake.small_rows(POPULATION, POPULATION.names()))
        population = build_population(config, stored, self.geography, every_year) if stored else None
        people = people_by_year(population, every_year) if population else {}
        totals = {area: sum(strata.values()) for area, strata in people.items()}
        covered = [year for year in every_year if (population or self.geography).covers(year)]
        context.progress("splitting the change of flagged records into its factors")
        split = chains(self._periods)
        counted: list[dict[str, Any]] = []
        if split and every_year:
            frame = counts_frame(records, flags, split, read_lookups(context.spark, config), self.geography)
            counted = [row.asDict() for row in frame.collect()]
        by_location = counts_of(counted)
        rows: dict[Table, list[dict[str, Any]]] = {
            CODE_USE: code_use_rows(counted),
            ACTIVITY_COUNT: [],
            ACTIVITY_CHANGE: [],
        }
        for chain in split:
            of_areas = area_counts(
                chain, by_location, years[chain.dataset], totals, self.geography, covered, partial=partial_coverage
            )
            rows[ACTIVITY_COUNT] += of_areas
            rows[ACTIVITY_CHANGE] += change_rows(changes(of_areas, years[chain.dataset]))
        rows[EQUALITY_RATE] = [] if partial_coverage else self._equality(records, flags, years, people, population)
        run_in_threads([partial(self._replace_rows, table, of_table) for table, of_table in rows.items()])

    def _equality(
        self,
        records: dict[str, DataFrame],
        flags: DataFrame,
        years: dict[str, list[str]],
        people: dict[tuple[str, str, str], dict[tuple[str, int], int]],
        population: Population | None,
    ) -> list[dict[str, Any]]:
        """The rows of ``gold/equality_rate``: each national policy over its newest pooled years."""
        config, periods = self.config, self._periods
        pooled: dict[str, tuple[Policy, tuple[str, ...]]] = {}
        for period in periods:
            policy = period.policy
            if not policy.boards and years[policy.dataset]:
                length = max(config.pooled_years, default=policy.publish_years)
                pooled[policy.id] = policy, pooled_years(years[policy.dataset], length)
        if not pooled:
            return []
        fifths = read_fifths(config.deprivation) if config.deprivation else None
        of_fifths = read_people_of_fifths(config.deprivation_population) if config.deprivation_population else None
        counted = [row.asDict() for row in equality_counts(flags, records, pooled, fifths).collect()]
        rows = []
        for policy, chosen in pooled.values():
            strata = [people.get((year, "england", ENGLAND_ONS)) for year in chosen]
            whole = sum((Counter(given) for given in strata if given), Counter[tuple[str, int]]())
            first, last = start_of(chosen[0]), end_of(chosen[-1])
            revisions = {
                period.revision.name
                for period in periods
                if period.policy.id == policy.id
                and (period.since is None or period.since <= last)
                and (period.until is None or period.until > first)
            }
            rows += equality_rows(
                policy,
                chosen,
                revisions.pop() if len(revisions) == 1 else None,
                [row for row in counted if row["policy_id"] == policy.id],
                whole if all(strata) else None,
                population.weights if population else {},
                {name: {key: len(chosen) * number for key, number in of.items()} for name, of in of_fifths.items()}
                if of_fifths and population
                else None,
                fifths_known=fifths is not None,
            )
        return rows
