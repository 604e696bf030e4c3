"""Case-note audit: draw a sample of records, import the filled forms, and estimate how often the flags are right.

The files of a draw name records of patients. They are restricted, like silver and gold.
"""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.case_audit.audit import (
    DrawnAudit,
    DrawOptions,
    EstimatedAudit,
    ImportedForms,
    check_draw,
    check_estimate,
    draw_audit,
    estimate_audit,
    import_forms,
)
from ebi_spark.case_audit.estimates import Estimate
from ebi_spark.case_audit.forms import refuse_folder
from ebi_spark.case_audit.returns import read_forms
from ebi_spark.config.lake_location import lake_location
from ebi_spark.errors import DataError
from ebi_spark.financial_years import parse_years
from jobs.arguments import JobParser, common_options, lake_option, policy_option
from jobs.exit_status import guarded
from jobs.harness import check_lake, existing_lake, opened_lake
from jobs.screen import headed, output_console, table_of_lines

_COMMANDS = {
    "draw": "Draw a stratified sample, and write a worklist and forms for each provider.",
    "import": "Check filled forms, and keep those that can be used.",
    "estimate": "Estimate how many flags the notes confirm, and how many cases were missed.",
}
# Estimates that are numbers of records, not shares.
_NUMBERS = ("corrected_records", "sample_size")


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark audit``."""
    arguments = _parser().parse_args(argv)
    work = {"draw": _draw, "import": _import, "estimate": _estimate}[arguments.command]
    return guarded(
        lambda console, outcome: work(arguments, console, outcome), as_json=arguments.json, debug=arguments.debug
    )


def _parser() -> JobParser:
    parser = JobParser(prog="ebi-spark audit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in _COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        lake_option(command)
        if name != "import":
            policy_option(command, "--policy", required=True, help="the policy whose flags are audited")
        if name == "draw":
            command.add_argument(
                "--years", required=True, metavar="YEARS", help="the financial years, such as 2018-19..2023-24"
            )
            command.add_argument("--size", required=True, type=int, metavar="N", help="how many records to draw")
            command.add_argument(
                "--seed", type=int, default=1, metavar="K", help="another seed draws other records (default 1)"
            )
            command.add_argument("--cap", type=int, metavar="M", help="draw at most this many records of one provider")
            command.add_argument(
                "--reading", metavar="R", help="the reading that decides the strata (default: the policy's)"
            )
            command.add_argument(
                "--double-share", type=float, default=0.2, metavar="S",
                help="the share of each stratum that two people read (default %(default)s)",
            )  # fmt: skip
            command.add_argument(
                "--out", required=True, type=Path, metavar="DIR", help="a new or empty folder for the files"
            )
        elif name == "import":
            command.add_argument("forms", nargs="+", type=Path, metavar="FORMS", help="CSV files with filled forms")
            command.add_argument(
                "--replace", action="store_true", help="a form replaces an earlier one with other answers"
            )
        else:
            command.add_argument("--audit", metavar="ID", help="one audit of the policy (default: the newest)")
            command.add_argument(
                "--precision", type=float, default=0.05, metavar="W",
                help="the wanted distance from an estimate to its limits, for sample sizes (default %(default)s)",
            )  # fmt: skip
        common_options(command)
    return parser


@contextmanager
def _lake(arguments: Any, console: Console, outcome: dict[str, Any]) -> Any:
    """The lake, locked. Its run id is written to the rows."""
    draws, run_id = arguments.command == "draw", outcome["run_id"]
    with opened_lake(arguments.lake, console, all_records=draws, to_write=True, run_id=run_id) as context:
        yield context.lake
        outcome["tables"] = dict(sorted(context.lake.versions_written.items()))


def _draw(arguments: Any, console: Console, outcome: dict[str, Any]) -> None:
    options = DrawOptions(
        arguments.policy, parse_years(arguments.years), arguments.size, arguments.seed, arguments.cap, arguments.reading,
        arguments.double_share,
    )  # fmt: skip
    out = arguments.out.resolve()
    # Errors in the call are reported before Spark starts.
    refuse_folder(out, lake_location(arguments.lake, Path.cwd(), "--lake").folder)
    check_lake(existing_lake(arguments.lake), lambda lake: check_draw(lake, options))
    with _lake(arguments, console, outcome) as lake:
        drawn = draw_audit(lake, options, out)
    outcome["audit"] = {**asdict(drawn), "out": str(out)}
    if not arguments.json:
        _show_draw(drawn, arguments)


def _show_draw(drawn: DrawnAudit, arguments: Any) -> None:
    console = output_console()
    console.print(headed(f"Audit {drawn.audit_id}", f": strata by {drawn.reading}"))
    table = RichTable()
    table.add_column("stratum")
    for name in ("records", "drawn"):
        table.add_column(name, justify="right")
    for stratum, records, number in drawn.strata:
        table.add_row(stratum, f"{records:,}", f"{number:,}")
    table.add_section()
    table.add_row("all", f"{sum(row[1] for row in drawn.strata):,}", f"{drawn.drawn:,}")
    console.print(table)
    if drawn.drawn < arguments.size:
        every = "every record is drawn" if arguments.cap is None else "with this cap there are no more to draw"
        console.print(headed("note:", f" {drawn.drawn:,} of {arguments.size:,} records: {every}"))
    console.print(
        table_of_lines(
            "Files",
            [
                f"{arguments.out.resolve()}: a folder for each of {len(drawn.folders):,} providers, restricted to you",
                "worklist.csv, forms.csv and forms.html (to print) in each",
                f"{drawn.read_twice:,} records are read by two people",
            ],
        )
    )


def _import(arguments: Any, console: Console, outcome: dict[str, Any]) -> None:
    forms, unreadable = read_forms(arguments.forms)
    with _lake(arguments, console, outcome) as lake:
        found = import_forms(lake, forms, replace=arguments.replace)
    found.rejected[:0] = unreadable
    outcome["audit"] = {
        "taken": found.taken, "unchanged": found.unchanged, "empty": found.empty,
        "rejected": [{**asdict(form), "words": form.words} for form in found.rejected],
    }  # fmt: skip
    if not arguments.json:
        _show_import(found)
    if found.rejected:
        raise DataError(
            f"{len(found.rejected):,} forms were rejected and {found.taken:,} were taken",
            remedy="correct the rejected forms (file and line above) and import their files again; the forms taken are kept",
        )


def _show_import(found: ImportedForms) -> None:
    console = output_console()
    lines = [
        f"{found.taken:,} forms taken, {found.unchanged:,} of them unchanged since an earlier import",
        f"{found.empty:,} forms have no answer and count as not returned",
    ]
    console.print(table_of_lines("Forms", lines))
    if found.rejected:
        table = RichTable(title="Rejected forms", title_justify="left")
        for name in ("file", "line", "reason", "what it means"):
            table.add_column(name, overflow="fold")
        for form in found.rejected:
            table.add_row(form.file, str(form.line), form.reason, form.words)
        console.print(table)


def _estimate(arguments: Any, console: Console, outcome: dict[str, Any]) -> None:
    asked = arguments.policy, arguments.audit, arguments.precision
    check_lake(existing_lake(arguments.lake), lambda lake: check_estimate(lake, *asked))
    with _lake(arguments, console, outcome) as lake:
        found = estimate_audit(lake, *asked)
    outcome["audit"] = {**asdict(found)}
    if not arguments.json:
        _show_estimates(found)


def _show_estimates(found: EstimatedAudit) -> None:
    console = output_console()
    console.print(
        headed(
            f"Audit {found.audit_id}",
            f": {found.drawn:,} records at {found.providers:,} providers, {', '.join(found.years)}, strata by {found.reading}",
        )
    )
    table = RichTable(title="Estimates, with 95% confidence limits", title_justify="left")
    table.add_column("measure", no_wrap=True)
    table.add_column("part", overflow="fold")
    columns: dict[str, Callable[[Estimate], str]] = {
        "estimate": lambda row: _shown(row.measure, row.estimate),
        "limits": lambda row: _range(row.measure, row.lower, row.upper),
        "worst to best": lambda row: _range(row.measure, row.worst, row.best),
        "forms": lambda row: f"{row.forms:,}",
        "method": lambda row: row.method or "",
    }
    for name in columns:
        table.add_column(name, justify="left" if name == "method" else "right")
    table.add_column("status")
    for row in found.estimates:
        table.add_row(row.measure, row.part, *(show(row) for show in columns.values()), row.status)
        if row.process_lower is not None:
            process = _range(row.measure, row.process_lower, row.process_upper)
            table.add_row("", "process (exact limits)", "", process, "", "", "clopper_pearson", "")
    console.print(table)
    console.print(
        "The estimates are for records in scope, at the audited providers, in these years. They do not replace the published rate."
    )
    if found.others:
        console.print(headed("other audits of the policy:", f" {', '.join(found.others)} (`--audit ID` shows one)"))


def _shown(measure: str, value: float | None) -> str:
    if value is None:
        return "–"
    if measure in _NUMBERS:
        return f"{value:,.0f}"
    return f"{value:.2f}" if measure == "kappa" else f"{100 * value:.1f}%"


def _range(measure: str, low: float | None, high: float | None) -> str:
    return "" if low is None and high is None else f"{_shown(measure, low)} to {_shown(measure, high)}"


if __name__ == "__main__":
    sys.exit(main())
