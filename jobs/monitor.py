"""Match operations with approvals, follow the care before and after fusions, and split changes over the years into factors.
Works on all years of the lake."""

import sys

from rich.table import Table as RichTable

from ebi_spark.stages.monitor import Monitor, MonitorSummary
from jobs.harness import Context, run_stages


def stage(context: Context) -> None:
    """Monitor, and show the operations by class and step."""
    show(context, Monitor(context).run())


def show(context: Context, done: MonitorSummary) -> None:
    """Add the operations by match class and by step of the algorithm to the summary."""
    for title, counts in (
        ("Operations by match class in the registers of approvals", done.approvals),
        ("Fusions by step of the article's algorithm (pending human review, not NHS policy)", done.pathways),
    ):
        if counts:
            shown = RichTable("class", title=title, title_justify="left")
            shown.add_column("operations", justify="right")
            for name, number in counts.items():
                shown.add_row(name, f"{number:,}")
            context.summary.append(shown)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark monitor``."""
    return run_stages("monitor", __doc__ or "", [stage], argv)


if __name__ == "__main__":
    sys.exit(main())
