"""Apply every policy to the records, and write the flags with their reasons."""

import sys

from rich.table import Table as RichTable

from ebi_spark.stages.flag import Flag, FlagSummary
from jobs.harness import Context, run_stages

FLIPPED_FROM = ("as_published", "as_intended")
MOST_DECISIONS_SHOWN = 3


def stage(context: Context) -> None:
    """Flag, and show the counts of each reading."""
    show(context, Flag(context).run())


def show(context: Context, done: FlagSummary) -> None:
    """Add the counts of each reading and the decisions with the largest effect to the summary."""
    shown = RichTable(title="Flagged", title_justify="left")
    for name in ("policy", "revision", "reading"):
        shown.add_column(name)
    for name in ("in scope", "flagged", "share"):
        shown.add_column(name, justify="right")
    for (policy_id, revision, reading), outcomes in sorted(done.outcomes.items()):
        scoped, flagged = sum(outcomes.values()), outcomes.get("flagged", 0)
        star = " (default)" if done.default_readings.get(policy_id) == reading else ""
        shown.add_row(policy_id, revision, reading + star, f"{scoped:,}", f"{flagged:,}", f"{flagged / scoped:.1%}")
    context.summary.append(shown)
    _show_decisions(context, done)


def _show_decisions(context: Context, done: FlagSummary) -> None:
    """Add a table of the three decisions that change each policy's count most. They are reversed from the default reading
    where effects are counted from it, and otherwise from ``as_intended``."""
    shown = RichTable(title="Coding decisions with the largest effect, each reversed on its own", title_justify="left")
    for name in ("policy", "from", "decision"):
        shown.add_column(name)
    for name in ("adds", "removes"):
        shown.add_column(name, justify="right")
    for policy_id, default in sorted(done.default_readings.items()):
        base = default if default in FLIPPED_FROM else FLIPPED_FROM[-1]
        moved = [one for one in done.effects if (one.policy_id, one.base_reading) == (policy_id, base)]
        moved.sort(key=lambda one: (-one.added - one.removed, one.decision))
        for one in [one for one in moved if one.added + one.removed][:MOST_DECISIONS_SHOWN]:
            shown.add_row(policy_id, base, one.decision, f"{one.added:,}", f"{one.removed:,}")
    if shown.row_count:
        context.summary.append(shown)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark flag``."""
    return run_stages("flag", __doc__ or "", [stage], argv)


if __name__ == "__main__":
    sys.exit(main())
