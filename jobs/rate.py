"""Count the flags by area, calculate rates, and measure how areas vary."""

import sys

from rich.table import Table as RichTable

from ebi_spark.stages.rate import Rate, RateSummary
from ebi_spark.tables.table import YEAR
from jobs.harness import Context, run_stages


def stage(context: Context) -> None:
    """Rate, and show the rates of England."""
    show(context, Rate(context).run())


def show(context: Context, done: RateSummary) -> None:
    """Add the rates of England to the summary."""
    common = set.intersection(*(set(row["notes"]) for row in done.national)) if len(done.national) > 1 else set()
    shown = RichTable(title="England, each policy's default reading, per 100,000 people", title_justify="left")
    for name in ("policy", "reading", "year"):
        shown.add_column(name)
    for name in ("flagged", "crude", "standardised", "95% limits"):
        shown.add_column(name, justify="right")
    shown.add_column("status and notes")
    for row in done.national:
        limits = f"{row['lower']:.2f} to {row['upper']:.2f}" if row["upper"] is not None else ""
        crude, standardised = (
            "" if row[name] is None else f"{row[name]:.2f}" for name in ("crude_rate", "standardised_rate")
        )
        shown.add_row(
            row["policy_id"], row["reading"], row[YEAR], f"{row['activity']:,}", crude, standardised, limits, _in_words([row["status"], *(note for note in row["notes"] if note not in common)]),
        )  # fmt: skip
    if common:
        shown.caption, shown.caption_justify = f"all rows: {_in_words(sorted(common))}", "left"
    context.summary.append(shown)


def _in_words(names: list[str]) -> str:
    """A status and notes; docs/tables.md says what each means."""
    return ", ".join(name.replace("_", " ") for name in names)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark rate``."""
    return run_stages("rate", __doc__ or "", [stage], argv)


if __name__ == "__main__":
    sys.exit(main())
