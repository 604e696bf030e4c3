"""Show what is in a lake: years and rows, policies, the last stages, quarantined rows, releases."""

import sys
from collections import defaultdict
from datetime import date
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.runs.lake_status import LOST_CODES, OTHER_RELEASES, QUARANTINE_TITLE, lake_status
from ebi_spark.stages.run_context import stage_title
from ebi_spark.tables.gold import ACTIVITY_FLAG
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE, QUARANTINE
from jobs.arguments import JobParser, common_options, lake_option
from jobs.exit_status import guarded
from jobs.harness import read_lake
from jobs.screen import headed, output_console

SHOWN_CODES = 20


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark status``."""
    parser = JobParser(prog="ebi-spark status", description=__doc__)
    lake_option(parser)
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        outcome["status"] = collected = read_lake(arguments.lake, console, partial(lake_status, today=date.today()))
        if not arguments.json:
            _print(collected)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


_TITLES = {
    "rows": "Rows by financial year",
    QUARANTINE_TITLE: "Quarantined rows (rows that could not be used)",
    "columns": "Columns of the source tables",
    LOST_CODES: "Area codes that cannot be placed: their records count in England only",
    "policies": "Policies",
    "last stages": "Last stages, newest first (in local time)",
    "release": "Current release (in local time)",
    OTHER_RELEASES: "Other releases that are kept, newest first (in local time): `publish --release` makes one current",
}


def _print(collected: dict[str, list[dict[str, Any]]]) -> None:
    console = output_console()
    views = {"rows": _by_year, "policies": _by_policy, "last stages": _stages}
    views |= {"release": _releases, OTHER_RELEASES: _releases}
    for name, rows in collected.items():
        title = _TITLES.get(name, name[0].upper() + name[1:])
        if not rows:
            console.print(headed(title, ": none"))
            continue
        table = RichTable(title=title, title_justify="left")
        listed = views[name](rows) if name in views else rows
        for column in listed[0]:
            table.add_column(
                column.replace("_", " "),
                justify="right" if isinstance(listed[0][column], int) else "left",
                overflow="fold",
            )
        shown = listed[:SHOWN_CODES] if name == LOST_CODES else listed
        for row in shown:
            table.add_row(*map(_cell, row.values()))
        console.print(table)
        if len(shown) < len(listed):
            console.print(f"and {len(listed) - len(shown):,} more: gold/unmapped_area lists them all, as does --json")


_WORDS = {
    APC_SPELL.full_name: "spells",
    OP_ATTENDANCE.full_name: "attendances",
    QUARANTINE.full_name: "rows in quarantine",
    ACTIVITY_FLAG.full_name: "flags (a record, policy and reading each)",
}


def _by_year(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a year, with a column for each table."""
    counts = {(row["table"], row["year"]): row["rows"] for row in rows}
    tables = [table for table in _WORDS if any(row["table"] == table for row in rows)]
    years = sorted({row["year"] for row in rows})
    return [{"year": year} | {_WORDS[table]: counts.get((table, year), 0) for table in tables} for year in years]


def _by_policy(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each policy; readings and their fingerprints are in ``--json`` only."""
    revisions: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        if row["revision"] not in (known := revisions[row["policy_id"], row["title"]]):
            known.append(row["revision"])
    return [{"policy": key[0], "title": key[1], "revisions": names} for key, names in revisions.items()]


def _stages(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name.removesuffix("_at"): _to_seconds(row[name]) if name.endswith("_at") else row[name] for name in row}
        | {"stage": stage_title(row["stage"])}
        for row in rows
    ]


def _releases(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: _to_seconds(value) if name == "released_at" else value for name, value in row.items()} for row in rows
    ]


def _to_seconds(moment: Any) -> str:
    return str(moment).partition(".")[0] if moment is not None else ""


if __name__ == "__main__":
    sys.exit(main())
