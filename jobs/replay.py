"""Compute an old run again, and compare the result with what it wrote. Writes nothing."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.errors import DataError
from ebi_spark.runs.state import RunState
from ebi_spark.stages.replay import Comparison, replay, stages_of_run
from jobs.arguments import JobParser, common_options, flag_with_earlier_spelling, lake_option
from jobs.exit_status import guarded
from jobs.harness import opened_lake, read_lake
from jobs.screen import output_console


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark replay``."""
    parser = JobParser(prog="ebi-spark replay", description=__doc__)
    parser.add_argument("run", metavar="RUN_ID", help="the id of a run, as `ebi-spark status` lists them")
    lake_option(parser)
    flag_with_earlier_spelling(
        parser,
        "--ignore-code-changes",
        "--anyway",
        "replay even if the program or its files have changed since the run: shows what that does to the figures",
    )
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        # An unknown run is refused before a session starts.
        read_lake(arguments.lake, console, lambda lake: stages_of_run(RunState(lake), arguments.run))
        with opened_lake(arguments.lake, console, all_records=True) as context:
            results = replay(
                context.lake,
                arguments.run,
                ignore_code_changes=arguments.ignore_code_changes,
                progress=context.progress,
            )
        outcome["compared"] = [vars(item) for item in results]
        if not arguments.json:
            _print(arguments.run, results)
        differing = [item.table for item in results if item.differing]
        if differing:
            raise DataError(
                f"computed again, {', '.join(differing)} {'differs' if len(differing) == 1 else 'differ'} from what run "
                f"{arguments.run} wrote",
                remedy="the table shows how many rows differ; a table changed by hand, or another version of Spark, can be "
                "the cause",
            )

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _print(run_id: str, results: list[Comparison]) -> None:
    shown = RichTable(title=f"Run {run_id} computed again", title_justify="left")
    for name in ("stage", "table"):
        shown.add_column(name)
    for name in ("rows recorded", "rows computed again", "differing"):
        shown.add_column(name, justify="right")
    shown.add_column("")
    for item in results:
        shown.add_row(
            item.stage, item.table, f"{item.recorded:,}", f"{item.again:,}", f"{item.differing:,}",
            "differs" if item.differing else "the same",
        )  # fmt: skip
    output_console().print(shown)


if __name__ == "__main__":
    sys.exit(main())
