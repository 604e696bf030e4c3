"""Every stage in order: ingest, flag, rate, validate, publish. Each does what changes since its last run call for, no more."""

import importlib
import sys
import threading
from collections.abc import Callable
from dataclasses import replace

from rich.table import Table as RichTable

from ebi_spark.own_files import is_current_report
from ebi_spark.release.publish import current_release_id
from ebi_spark.runs.due import Due
from ebi_spark.tables.schemas import ACTIVITY_RATE
from jobs import flag, ingest, publish, rate, validate
from jobs.harness import Context, by_name, run_with, stage_parser
from jobs.progress import in_words, seconds_left, steps
from jobs.years import silver_records, silver_years


def whole(context: Context) -> None:
    """Every stage, whatever earlier runs did."""
    _import_early()
    for stage in (ingest.stage, flag.stage, rate.stage, validate.stage, publish.stage):
        stage(context)


def changed(context: Context) -> None:
    """What depends on a change: each stage for the years (and policies) that its last successful run does not cover."""
    books = context.books
    if _done(context, "ingest", ingest.stage, books.due_sources(), "sources and configuration are as they were"):
        _import_early()
    years = silver_years(context)
    due = books.due("flag", years)
    if not due and not books.policies_stand():
        context.why = ["the wording of a policy has changed"]
        flag.stage_policies(context)
    else:
        _flag(context, due)
    _done(context, "rate", rate.stage, books.due("rate", years), "flags and populations are as they were")
    _validate(context, years)
    context.why = books.why_publish()
    released = current_release_id(context.lake)
    if released is None or context.why:
        _import_early()
        publish.stage(context)
    else:
        context.skip("publish", f"{released} stays the current release")
        _as_it_stands(context, released)
    _summary(context)


def _done(context: Context, name: str, stage: Callable[..., object], due: Due, otherwise: str) -> bool:
    if not due:
        context.skip(name, otherwise)
        return False
    context.why = due.reasons
    earlier = context.books.seconds_a_year(name)
    if earlier is not None:
        context.tell(f"{name}: {', '.join(due.years)}, about {in_words(earlier * len(due.years))} by earlier runs")
    stage(context, due)
    return True


def _flag(context: Context, due: Due) -> None:
    """Judge in steps of some years each: what a run that is stopped has done of a backfill stays done."""
    records = silver_records(context) if len(due.years) > 1 else {}
    ahead = steps(due.years, records)
    paces: list[tuple[float, int]] = []
    for number, years in enumerate(ahead or [[]], start=1):
        _done(context, "flag", flag.stage, replace(due, years=years), "records and policies are as they were")
        if number < len(ahead):
            paces.append((context.stages[-1].seconds, sum(records[year] for year in years)))
            rest = [year for later in ahead[number:] for year in later]
            left = seconds_left(paces, sum(records[year] for year in rest))
            about = f", about {in_words(left)} left of this stage" if left is not None else ""
            context.tell(f"flag: {len(due.years) - len(rest)} of {len(due.years)} years done{about}")


def _validate(context: Context, years: list[str]) -> None:
    due = context.books.checks_due(years, context.lake.years(ACTIVITY_RATE))
    if not any(due.values()):
        context.skip("validate", "what was checked is as it was")
        return
    _import_early()
    context.why = [f"{layer}: {reason}" for layer, found in due.items() for reason in found.reasons]
    validate.stage(context, due)


def _as_it_stands(context: Context, release_id: str) -> None:
    """Name the release that stands, and draw its report where that is missing or of an older design."""
    context.release = release_id
    path = publish.report_path(context)
    if path is not None and not is_current_report(path):
        publish.draw_report(context)
    context.report = str(path) if path else None


def _summary(context: Context) -> None:
    shown = RichTable(title="What was done, and why", title_justify="left")
    for name in ("stage", "years", "because"):
        shown.add_column(name, overflow="fold")
    for stage in by_name(context.stages):
        shown.add_row(stage.name, ", ".join(stage.years or []), "; ".join(stage.why) or "nothing to do")
    context.summary.append(shown)


def _import_early() -> None:
    """Great Expectations takes seconds to import: while Spark is at work, nobody waits for it."""
    threading.Thread(target=importlib.import_module, args=("great_expectations",), daemon=True).start()


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark run``."""
    parser = stage_parser("run", __doc__ or "")
    parser.add_argument("--force", action="store_true", help="do every stage again, whether anything changed or not")
    arguments = parser.parse_args(argv)
    return run_with(arguments, [whole if arguments.force else changed])


if __name__ == "__main__":
    sys.exit(main())
