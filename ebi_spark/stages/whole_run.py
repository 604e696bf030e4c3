"""All stages in order: ingest, flag, rate, monitor, validate, publish."""

import importlib
import threading
from collections.abc import Callable
from dataclasses import replace

from ebi_spark.own_files import is_current_report
from ebi_spark.release.current import current_release_id
from ebi_spark.release.publish import Release
from ebi_spark.runs.due import Due
from ebi_spark.stages.batches import batches, in_words, seconds_left, years_done
from ebi_spark.stages.flag import Flag, FlagSummary
from ebi_spark.stages.ingest import Ingest, IngestResult
from ebi_spark.stages.monitor import Monitor, MonitorSummary
from ebi_spark.stages.publish import Publish
from ebi_spark.stages.rate import Rate, RateSummary
from ebi_spark.stages.run_context import RunContext
from ebi_spark.stages.validate import Validate, ValidateSummary
from ebi_spark.stages.years import silver_records, silver_years
from ebi_spark.tables.gold import ACTIVITY_RATE

StageSummary = IngestResult | FlagSummary | RateSummary | MonitorSummary | ValidateSummary | Release


def _not_shown(_: StageSummary) -> None:
    """Nobody looks at the summaries."""


class WholeRun:
    """Every stage, or those that are due. ``show`` is called with the summary of each stage when it ends."""

    def __init__(self, context: RunContext, show: Callable[[StageSummary], None] = _not_shown) -> None:
        self.context, self.lake, self.show = context, context.lake, show

    def run_all(self) -> None:
        """Every stage, whatever earlier runs did."""
        _import_early()
        for stage in (Ingest, Flag, Rate, Monitor, Validate, Publish):
            self.show(stage(self.context).run())

    def run_due(self) -> None:
        """Each stage for the years (and policies) that its last successful run does not cover."""
        context, history = self.context, self.context.history
        if self._run_if_due(Ingest(context), history.due_sources(), "sources and configuration have not changed"):
            _import_early()
        years = silver_years(context)
        due = history.due(Flag.name, years)
        if not due and not history.policies_unchanged():
            context.why = ["the wording of a policy has changed"]
            Flag(context).run_policies()
        else:
            self._flag(due)
        self._run_if_due(Rate(context), history.due(Rate.name, years), "flags and populations have not changed")
        context.why = history.why_monitor()
        if context.why:
            context.expect(history.last_seconds(Monitor.name))
            self.show(Monitor(context).run())
        else:
            context.skip(Monitor.name, "records, flags and registers have not changed")
        self._validate(years)
        context.why = history.why_publish()
        released = current_release_id(self.lake)
        if released is None or context.why:
            _import_early()
            context.expect(history.last_seconds(Publish.name))
            self.show(Publish(context).run())
        else:
            context.skip(Publish.name, f"{released} is still the current release")
            self._keep_release(released)

    def _run_if_due(self, stage: Ingest | Flag | Rate, due: Due, otherwise: str, left: float | None = None) -> bool:
        """``left``: how many seconds this stage will probably take, if this run already shows it."""
        context = self.context
        if not due:
            context.skip(stage.name, otherwise)
            return False
        context.why = due.reasons
        earlier = context.history.seconds_a_year(stage.name)
        if earlier is not None and left is None:
            left = earlier * len(due.years)
            context.progress(f"{stage.name}: {', '.join(due.years)}, about {in_words(left)}, judging by the last run")
        context.expect(left)
        self.show(stage.run(due))
        return True

    def _flag(self, due: Due) -> None:
        """Flag records in batches of several years, so that an interrupted backfill keeps what it has completed."""
        context = self.context
        records = silver_records(context) if len(due.years) > 1 else {}
        ahead = batches(due.years, records)
        paces: list[tuple[float, int]] = []
        left: float | None = None
        for number, years in enumerate(ahead or [[]], start=1):
            self._run_if_due(Flag(context), replace(due, years=years), "records and policies have not changed", left)
            if number < len(ahead):
                paces.append((context.stages[-1].seconds, sum(records[year] for year in years)))
                rest = [year for later in ahead[number:] for year in later]
                left = seconds_left(paces, sum(records[year] for year in rest))
                context.progress(years_done(Flag.name, len(due.years) - len(rest), len(due.years), left))

    def _validate(self, years: list[str]) -> None:
        context = self.context
        due = context.history.checks_due(years, self.lake.years(ACTIVITY_RATE))
        if not any(due.values()):
            context.skip(Validate.name, "the checked tables have not changed")
            return
        _import_early()
        context.why = [f"{layer}: {reason}" for layer, found in due.items() for reason in found.reasons]
        context.expect(context.history.last_seconds(Validate.name))
        self.show(Validate(context).run(due))

    def _keep_release(self, release_id: str) -> None:
        """Name the release that stays current, and draw its report where that is missing or has an older design."""
        context, publish = self.context, Publish(self.context)
        context.release = release_id
        publish.keep(release_id)
        path = publish.report_path
        if path is not None and not is_current_report(path):
            publish.draw_report()
        context.report = str(path) if path else None


def _import_early() -> None:
    """Import Great Expectations in the background: it takes seconds, and nobody waits for it while Spark works."""
    threading.Thread(target=importlib.import_module, args=("great_expectations",), daemon=True).start()
