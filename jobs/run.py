"""Run all stages in order: ingest, flag, rate, monitor, validate, publish. Each does only what its last run does not cover."""

import sys
from functools import partial

from rich.table import Table as RichTable

from ebi_spark.release.publish import Release
from ebi_spark.stages.flag import FlagSummary
from ebi_spark.stages.ingest import IngestResult
from ebi_spark.stages.monitor import MonitorSummary
from ebi_spark.stages.rate import RateSummary
from ebi_spark.stages.validate import ValidateSummary
from ebi_spark.stages.whole_run import StageSummary, WholeRun
from jobs import flag, ingest, monitor, publish, rate, validate
from jobs.arguments import stage_parser
from jobs.harness import Context, by_name, run_with


def run_all(context: Context) -> None:
    """Every stage, whatever earlier runs did."""
    WholeRun(context, partial(show, context)).run_all()


def run_due(context: Context) -> None:
    """Each stage for the years (and policies) that its last successful run does not cover."""
    WholeRun(context, partial(show, context)).run_due()
    _summary(context)


def show(context: Context, summary: StageSummary) -> None:
    """Show what one stage did."""
    match summary:
        case IngestResult():
            ingest.show(context, summary)
        case FlagSummary():
            flag.show(context, summary)
        case RateSummary():
            rate.show(context, summary)
        case MonitorSummary():
            monitor.show(context, summary)
        case ValidateSummary():
            validate.show(context, summary)
        case Release():
            publish.show(context, summary)


def _summary(context: Context) -> None:
    shown = RichTable(title="What was done, and why", title_justify="left")
    for name in ("stage", "years", "reason"):
        shown.add_column(name, overflow="fold")
    for stage in by_name(context.stages):
        shown.add_row(stage.name, ", ".join(stage.years or []), "; ".join(stage.why) or "nothing to do")
    context.summary.append(shown)


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
