"""Run every stage in order: ingest, flag, rate, validate, publish. Each does only what has become necessary since its
last run."""

import importlib
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

from rich.table import Table as RichTable

from ebi_spark.own_files import is_current_report
from ebi_spark.release.current import current_release_id
from ebi_spark.runs.due import Due
from ebi_spark.tables.schemas import ACTIVITY_RATE
from jobs import flag, ingest, publish, rate, validate
from jobs.harness import Context, by_name, run_with, stage_parser
from jobs.progress import batches, in_words, seconds_left
from jobs.years import silver_records, silver_years


def run_all(context: Context) -> None:
    """Every stage, whatever earlier runs did."""
    _import_early()
    for stage in (ingest.stage, flag.stage, rate.stage, validate.stage, publish.stage):
        stage(context)


def run_due(context: Context) -> None:
    """Each stage for the years (and policies) that its last successful run does not cover."""
    history = context.history
    if _run_if_due(
        context, "ingest", ingest.stage, history.due_sources(), "sources and configuration have not changed"
    ):
        _import_early()
    years = silver_years(context)
    due = history.due("flag", years)
    if not due and not history.policies_unchanged():
        context.why = ["the wording of a policy has changed"]
        flag.stage_policies(context)
    else:
        _flag(context, due)
    _run_if_due(context, "rate", rate.stage, history.due("rate", years), "flags and populations have not changed")
    _validate(context, years)
    context.why = history.why_publish()
    released = current_release_id(context.lake)
    if released is None or context.why:
        _import_early()
        publish.stage(context)
    else:
        context.skip("publish", f"{released} is still the current release")
        _keep_release(context, released)
    _summary(context)


def _run_if_due(context: Context, name: str, stage: Callable[..., object], due: Due, otherwise: str) -> bool:
    if not due:
        context.skip(name, otherwise)
        return False
    context.why = due.reasons
    earlier = context.history.seconds_a_year(name)
    if earlier is not None:
        context.progress(
            f"{name}: {', '.join(due.years)}, about {in_words(earlier * len(due.years))}, judging by the last run"
        )
    stage(context, due)
    return True


def _flag(context: Context, due: Due) -> None:
    """Flag records in batches of several years, so that an interrupted backfill keeps what it has completed."""
    records = silver_records(context) if len(due.years) > 1 else {}
    ahead = batches(due.years, records)
    paces: list[tuple[float, int]] = []
    for number, years in enumerate(ahead or [[]], start=1):
        _run_if_due(context, "flag", flag.stage, replace(due, years=years), "records and policies have not changed")
        if number < len(ahead):
            paces.append((context.stages[-1].seconds, sum(records[year] for year in years)))
            rest = [year for later in ahead[number:] for year in later]
            left = seconds_left(paces, sum(records[year] for year in rest))
            about = f", about {in_words(left)} left in this stage" if left is not None else ""
            context.progress(f"flag: {len(due.years) - len(rest)} of {len(due.years)} years done{about}")


def _validate(context: Context, years: list[str]) -> None:
    due = context.history.checks_due(years, context.lake.years(ACTIVITY_RATE))
    if not any(due.values()):
        context.skip("validate", "the checked tables have not changed")
        return
    _import_early()
    context.why = [f"{layer}: {reason}" for layer, found in due.items() for reason in found.reasons]
    validate.stage(context, due)


def _keep_release(context: Context, release_id: str) -> None:
    """Name the release that stays current, and draw its report where that is missing or has an older design."""
    context.release = release_id
    path = publish.report_path(context)
    if path is not None and not is_current_report(path):
        publish.draw_report(context)
    context.report = str(path) if path else None


def _summary(context: Context) -> None:
    shown = RichTable(title="What was done, and why", title_justify="left")
    for name in ("stage", "years", "reason"):
        shown.add_column(name, overflow="fold")
    for stage in by_name(context.stages):
        shown.add_row(stage.name, ", ".join(stage.years or []), "; ".join(stage.why) or "nothing to do")
    context.summary.append(shown)


def _import_early() -> None:
    """Import Great Expectations in the background: it takes seconds, and nobody waits for it while Spark works."""
    threading.Thread(target=importlib.import_module, args=("great_expectations",), daemon=True).start()


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark run``."""
    parser = stage_parser("run", __doc__ or "")
    parser.add_argument(
        "--force", action="store_true", help="run every stage again, whether or not anything has changed"
    )
    arguments = parser.parse_args(argv)
    return run_with(arguments, [run_all if arguments.force else run_due])


if __name__ == "__main__":
    sys.exit(main())
