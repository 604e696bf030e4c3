"""Show what is in a lake: years and rows, policies, the last stages, quarantined rows, the current release."""

import sys
from collections import defaultdict
from datetime import date
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.geography.code_forms import valid_code
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.policies.reminders import reminders, sources_of
from ebi_spark.records.quarantine_summary import REFUSED_ROWS, quarantine_summary, refused_rows
from ebi_spark.release.current import current_release, local_time
from ebi_spark.sources import column_drift
from ebi_spark.tables.schemas import (
    ACTIVITY_FLAG,
    APC_SPELL,
    OP_ATTENDANCE,
    POLICY,
    QUARANTINE,
    RUN_LOG,
    UNMAPPED_AREA,
    YEAR,
)
from jobs.arguments import JobParser, common_options, lake_option
from jobs.exit_status import guarded
from jobs.harness import read_lake
from jobs.screen import headed, output_console

QUARANTINE_TITLE = "quarantine"
REFUSED = "rows that the last ingest could not use (it was refused and wrote nothing)"
LOST_CODES = "area codes that count in England only"
SOURCES = "sources of policies to check"
SHOWN_CODES = 20
SHOWN_STAGES = 10


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark status``."""
    parser = JobParser(prog="ebi-spark status", description=__doc__)
    lake_option(parser)
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        outcome["status"] = collected = read_lake(arguments.lake, console, _collect)
        if not arguments.json:
            _print(collected)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _collect(lake: LocalLake) -> dict[str, list[dict[str, Any]]]:
    """Counts and names only."""
    rows: dict[tuple[str, str], int] = {}
    for table in (APC_SPELL, OP_ATTENDANCE, QUARANTINE, ACTIVITY_FLAG):
        if lake.exists(table):
            for row in lake.grouped(table, [YEAR]):
                rows[(table.full_name, row[YEAR])] = row["rows"]
    found: dict[str, list[dict[str, Any]]] = {
        "rows": [{"table": t, "year": y, "rows": n} for (t, y), n in sorted(rows.items())]
    }
    if lake.exists(QUARANTINE):
        found[QUARANTINE_TITLE] = quarantine_summary(lake)
    log = lake.small_rows(RUN_LOG, _LOGGED) if lake.exists(RUN_LOG) else []
    log.sort(key=lambda row: (row["started_at"], row["run_id"]), reverse=True)
    if refused := _refused(lake, log):
        found[REFUSED] = refused
    found["columns"] = column_drift.columns_in_lake(lake)
    if lake.exists(UNMAPPED_AREA):
        found[LOST_CODES] = _lost_codes(lake)
    if lake.exists(POLICY):
        columns = ["policy_id", "revision", "reading", "policy_fingerprint", "title"]
        policies = lake.small_rows(POLICY, [*columns, "definition"])
        policies.sort(key=lambda row: [str(row[name]) for name in columns[:3]])
        found["policies"] = [{name: row[name] for name in columns} for row in policies]
        if due := reminders(sources_of(policies), date.today()):
            found[SOURCES] = [{"policy": name, "why": reason} for name, reason in due]
    if lake.exists(RUN_LOG):
        found["last stages"] = [
            {name: local_time(row[name]) if name.endswith("_at") else row[name] for name in _LOGGED}
            for row in log[:SHOWN_STAGES]
        ]
    release = current_release(lake)
    names = ("release_id", "released_at", "disclosure", "coverage", "data_kind", "years")
    found["release"] = [{name: release[name] for name in names}] if release else []
    return found


_LOGGED = ("run_id", "stage", "started_at", "ended_at", "outcome", "rows")


def _lost_codes(lake: LocalLake) -> list[dict[str, Any]]:
    """The codes of ``gold/unmapped_area`` with their years and records, most records first."""
    years: dict[tuple[str, str], set[str]] = defaultdict(set)
    records: dict[tuple[str, str], int] = defaultdict(int)
    for row in lake.grouped(UNMAPPED_AREA, ["code", "reason", YEAR], ["records"]):
        # An earlier version listed any text in the column, not only codes.
        key = (valid_code(row["code"], "commissioner"), row["reason"])
        years[key].add(row[YEAR])
        records[key] += row["records"]
    return [
        {"code": key[0], "reason": key[1], "years": sorted(years[key]), "records": number}
        for key, number in sorted(records.items(), key=lambda item: (-item[1], item[0]))
    ]


def _refused(lake: LocalLake, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The unusable rows of the last ingest where it was refused because of them; else nothing. ``log``: the newest row
    first."""
    last = next((row for row in log if row["stage"] == "ingest"), None)
    if last is None:
        return []
    # The details of one run only: those of an ingest are long.
    of_run = lake.small_rows(RUN_LOG, ["started_at", "details"], {"run_id": [last["run_id"]], "stage": ["ingest"]})
    details = next((row["details"] or {} for row in of_run if row["started_at"] == last["started_at"]), {})
    return refused_rows(details[REFUSED_ROWS]) if REFUSED_ROWS in details else []


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
    "last stages": "Last stages, newest first",
    "release": "Current release",
}


def _print(collected: dict[str, list[dict[str, Any]]]) -> None:
    console = output_console()
    views = {"rows": _by_year, "policies": _by_policy, "last stages": _stages, "release": _release}
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
        for row in rows
    ]


def _release(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: _to_seconds(value) if name == "released_at" else value for name, value in row.items()} for row in rows
    ]


def _to_seconds(moment: Any) -> str:
    return str(moment).partition(".")[0] if moment is not None else ""


if __name__ == "__main__":
    sys.exit(main())
