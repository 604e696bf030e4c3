"""Split the change of a policy's flagged records between two periods into its factors.

A period is a year or a range of years. The figures are restricted, because small numbers in them are not suppressed.
"""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.rates.activity_change import TOTAL_FROM, TOTAL_TO, change_of_periods
from ebi_spark.statistics.decomposition import rounded
from ebi_spark.tables.monitoring_changes import ACTIVITY_COUNT
from jobs.arguments import JobParser, common_options, lake_option, policy_option
from jobs.exit_status import guarded
from jobs.harness import read_lake
from jobs.screen import output_console


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark change``."""
    parser = JobParser(prog="ebi-spark change", description=__doc__)
    lake_option(parser)
    policy_option(parser, "--policy", required=True, help="the policy")
    for name, which in (("from", "earlier"), ("to", "later")):
        parser.add_argument(
            f"--{name}", required=True, dest=f"period_{name}", metavar="YEARS",
            help=f"the {which} period, such as 2018-19 or 2018-19..2020-21",
        )  # fmt: skip
    parser.add_argument(
        "--area",
        default="england",
        metavar="AREA",
        help="england, or a type and a code such as icb:QYG (default %(default)s)",
    )
    common_options(parser)
    arguments = parser.parse_args(argv)

    def read(lake: LocalLake) -> list[dict[str, Any]]:
        names = [name for name in ACTIVITY_COUNT.names() if name != "run_id"]
        there = lake.exists(ACTIVITY_COUNT)
        rows = lake.small_rows(ACTIVITY_COUNT, names, {"policy_id": [arguments.policy]}) if there else []
        return change_of_periods(rows, arguments.policy, arguments.area, arguments.period_from, arguments.period_to)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        outcome["change"] = found = read_lake(arguments.lake, console, read)
        if not arguments.json:
            _show(found, arguments.area)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _show(rows: list[dict[str, Any]], area: str) -> None:
    first = rows[0]
    totals = {row["component"]: row["records"] for row in rows if row["component"] in (TOTAL_FROM, TOTAL_TO)}
    parts = {row["component"]: row["records"] for row in rows if row["component"] not in totals}
    whole = rounded(parts, totals[TOTAL_TO] - totals[TOTAL_FROM])
    table = RichTable(
        title=f"{first['policy_id']}, {area}: flagged records, by revision {first['revision']}",
        title_justify="left",
    )
    for name in ("factor", first["period_from"], first["period_to"], "part of the change"):
        table.add_column(name, justify="left" if name == "factor" else "right")
    for row in rows:
        name = row["component"]
        if name in parts:
            values = ["" if row.get(of) is None else _figure(row[of]) for of in ("value_from", "value_to")]
            table.add_row(name + "*" * bool(row["notes"]), *values, f"{whole[name] or 0:+,.0f}")
    table.add_section()
    table.add_row(
        "flagged records", f"{totals[TOTAL_FROM]:,.0f}", f"{totals[TOTAL_TO]:,.0f}", f"{sum(whole.values()):+,.0f}"
    )
    console = output_console()
    console.print(table)
    notes = sorted({note for row in rows for note in row["notes"]})
    if notes:
        console.print(f"* {', '.join(notes)}: see docs/monitoring-changes.md")


def _figure(value: float) -> str:
    """Counts with thousands separators, ratios to four digits."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
