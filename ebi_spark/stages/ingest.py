"""The stage ingest: reads the source tables into silver, batch by batch."""

from collections import ChainMap, Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ebi_spark.lake.staging_area import StagingArea
from ebi_spark.records.file_counts import Batch
from ebi_spark.records.ingest_audit import IngestSummary
from ebi_spark.records.plan import Plan, plan_ingest, years_that_meet_checks
from ebi_spark.records.write_batch import write_batch
from ebi_spark.records.years_to_replace import refuse_too_many_quarantined
from ebi_spark.runs.due import Due
from ebi_spark.runs.history import checked_as
from ebi_spark.runs.stage_inputs import READS
from ebi_spark.sources.column_drift import column_warnings, last_ingested
from ebi_spark.sources.file_watch import watched
from ebi_spark.sources.reader import read_sources
from ebi_spark.stages.batches import seconds_left, years_done
from ebi_spark.stages.run_context import StageReport
from ebi_spark.stages.stage import Stage
from ebi_spark.tables.silver import (
    APC_SPELL,
    INGEST_AUDIT,
    OP_ATTENDANCE,
    QUARANTINE,
    RECORD_TABLES,
    REPEATED_ROW,
    WITHDRAWN_RECORD,
)
from ebi_spark.validation.suites import row_checks


@dataclass(frozen=True)
class IngestResult:
    """What an ingest did. ``written``: the sum of its batches. ``quarantined``: rows of the files read that are in
    quarantine. ``column_warnings``: a line each. ``files``: the files that were read."""

    written: IngestSummary
    quarantined: int
    column_warnings: list[str]
    files: frozenset[str]


# The number of quarantined rows by (file, reason).
QuarantineCounts = dict[tuple[str, str], int]


@dataclass(frozen=True)
class RetryResult:
    """What reading the files with quarantined rows again did, and the quarantined rows ``before`` and ``after``."""

    ingest: IngestResult
    before: QuarantineCounts
    after: QuarantineCounts


@dataclass
class _Progress:
    """How far an ingest is. ``to_write``: the batches, each with the reasons for it."""

    plan: Plan
    to_write: list[tuple[Batch, list[str]]]
    unchanged: list[str]
    written: IngestSummary = field(default_factory=IngestSummary)


class Ingest(Stage):
    """Reads the configured source tables, and writes the records, quarantine and audit of the years asked for.

    The years that share a file are one batch. Each batch is committed and noted in the run log, so that an interrupted
    ingest resumes after its last completed batch.
    """

    name = "ingest"
    reads = READS["ingest"]
    writes = (APC_SPELL, OP_ATTENDANCE, QUARANTINE, REPEATED_ROW, WITHDRAWN_RECORD, INGEST_AUDIT)

    def run(self, due: Due | None = None, only: frozenset[str] | None = None) -> IngestResult:
        """Read all batches. With ``due``, only those that the last runs do not cover; with ``only``, only those that
        read one of these files."""
        area = StagingArea(self.lake)
        try:
            return self._run(area, due, only)
        finally:
            area.remove()

    def _run(self, area: StagingArea, due: Due | None, only: frozenset[str] | None) -> IngestResult:
        context = self.context
        with self._part() as report:
            report.years = list(self.config.years or [])
            tables = read_sources(context.spark, self.config, context.inputs.files)
            warnings = column_warnings(tables, last_ingested(self.lake, tables))
            for line in warnings:
                context.progress(line)
            previous = context.history.previous_ingest() if due is not None else None
            checks = {dataset: list(row_checks(table.name).values()) for dataset, table in RECORD_TABLES.items()}
            plan = plan_ingest(self.lake, area, tables, self.config, context.progress, previous, checks)
            done = _Progress(plan, *self._batches_to_write(plan, due, only))
            report.years = done.to_write[0][0].years if done.to_write else []
            report.record.years_unchanged = done.unchanged
            self._write(report, done, 0)
        for number in range(1, len(done.to_write)):
            self._say_how_far(done, number)
            context.why = done.to_write[number][1]
            with self._part() as report:
                report.years = done.to_write[number][0].years
                self._write(report, done, number)
        for line in done.written.empty:
            context.progress(line)
        files = frozenset(path for counts in plan.file_counts.files.values() for path in counts)
        return IngestResult(done.written, plan.file_counts.total("quarantined"), warnings, files)

    def retry_quarantine(self) -> RetryResult | None:
        """Read the files that have quarantined rows again, under the present configuration. None if there are none."""
        before = self._quarantine_counts()
        if not before:
            self.context.skip(self.name, "no row is in quarantine")
            return None
        files = frozenset(path for path, _ in before)
        result = RetryResult(self.run(only=files), before, self._quarantine_counts())
        gone = sorted(files - result.ingest.files)
        if gone:
            self.context.progress(
                f"not read, because they are no longer a source: {', '.join(gone[:5])}{' …' if len(gone) > 5 else ''}"
            )
        return result

    @contextmanager
    def _part(self) -> Iterator[StageReport]:
        """One row of the run log. While it lasts, the source files are watched."""
        context = self.context
        with (
            context.stage(self.name) as report,
            watched(self.config, ChainMap(self.lake.versions_written, context.tables), context.inputs.files),
        ):
            yield report

    def _batches_to_write(
        self, plan: Plan, due: Due | None, only: frozenset[str] | None
    ) -> tuple[list[tuple[Batch, list[str]]], list[str]]:
        """The batches to write, each with the reasons for it; and the years that have not changed."""
        history = self.context.history
        chosen: list[tuple[Batch, list[str]]] = []
        unchanged = plan.unchanged_years
        for batch in plan.batches:
            # A year that one of these files had rows of before is replaced too: a record may have moved out of it.
            if only is not None and not (batch.files | history.files_of(batch.years)) & only:
                continue
            batch_due = (
                history.batch_due(batch.years, batch.files, plan.file_counts.outcome_fingerprints(batch))
                if due
                else None
            )
            emptied = [year for year in batch.years if year in plan.emptied]
            if batch_due is None or batch_due or emptied:
                reasons = batch_due.reasons if batch_due else []
                reasons += [f"no source file has rows of {', '.join(emptied)} any more"] if emptied else []
                chosen.append((batch, reasons))
            else:
                unchanged += batch.years
                self.context.progress(f"{', '.join(batch.years)}: the source files have not changed")
        if len(chosen) > 1:
            self.context.progress(f"{sum(len(batch.years) for batch, _ in chosen)} years in {len(chosen)} batches")
        return chosen, unchanged

    def _write(self, report: StageReport, done: _Progress, number: int) -> None:
        """Write one batch, if there is any. After the last one, check whether too many rows of the files were
        quarantined overall."""
        plan = done.plan
        report.record.years_found = plan.years
        if done.to_write:
            batch = done.to_write[number][0]
            report.rows_to_read = batch.rows
            made = write_batch(self.lake, plan, batch, self.context.progress)
            report.record.outcomes = plan.file_counts.outcome_fingerprints(batch)
            report.record.due_from = plan.file_counts.due_from(batch)
            report.record.checked = {
                checked_as(RECORD_TABLES[dataset]): years_that_meet_checks(self.lake, plan, batch, dataset)
                for dataset in plan.datasets
                if RECORD_TABLES[dataset].full_name in self.lake.versions_written
            }
            report.rows = made.rows_read
            done.written.add(made)
            if not made.changed_years:
                self.context.progress(
                    f"{', '.join(made.years)}: the lake already has the same records, nothing was written"
                )
        if number >= len(done.to_write) - 1:
            refuse_too_many_quarantined(plan.file_counts, self.config)

    def _say_how_far(self, done: _Progress, number: int) -> None:
        """Say how many years are done, and about how long the others will take."""
        stages = [part for part in self.context.stages if part.name == self.name and not part.skipped][-number:]
        # Speeds are by the rows of each batch's own years, though the first batch also reads those of all other files.
        paces = [(part.seconds, batch.rows) for part, (batch, _) in zip(stages, done.to_write, strict=False)]
        rest = [batch for batch, _ in done.to_write[number:]]
        remaining = seconds_left(paces, sum(batch.rows for batch in rest))
        self.context.expect(remaining)
        years = sum(len(batch.years) for batch, _ in done.to_write)
        left = sum(len(batch.years) for batch in rest)
        self.context.progress(years_done(self.name, years - left, years, remaining))

    def _quarantine_counts(self) -> QuarantineCounts:
        found: QuarantineCounts = Counter()
        if self.lake.exists(QUARANTINE):
            for group in self.lake.grouped(QUARANTINE, ["source_file", "reasons"]):
                for reason in group["reasons"] or ():
                    found[group["source_file"], reason] += group["rows"]
        return found
