"""Check silver, flags, rates and monitoring before anything is published. Exits 1 if a check fails."""

import sys

from rich.table import Table as RichTable

from ebi_spark.stages.validate import Validate, ValidateSummary
from jobs.harness import Context, run_stages


def stage(context: Context) -> None:
    """Validate, and show how many checks each layer has. Any failed check ends the run with status 1 before anything is
    published."""
    show(context, Validate(context).run())


def show(context: Context, done: ValidateSummary) -> None:
    """Add the number of checks of each layer to the summary."""
    shown = RichTable(title="Validated", title_justify="left")
    for name in ("layer", "checks", "warnings", "failed"):
        shown.add_column(name, justify="left" if name == "layer" else "right")
    for layer, result in done.layers.items():
        shown.add_row(layer, f"{result.checks:,}", f"{len(result.warnings):,}", f"{len(result.failed):,}")
    context.summary.append(shown)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark validate``."""
    return run_stages("validate", __doc__ or "", [stage], argv)


if __name__ == "__main__":
    sys.exit(main())
