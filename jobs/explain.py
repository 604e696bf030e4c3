"""Explain one record, clause by clause, for each policy, revision and reading.

Prints the record's values on standard output. No other command is meant to show them.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.errors import InputError
from ebi_spark.flags.explain import explain_record, possible_keys, with_key
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.load import load_policies
from ebi_spark.tables.schemas import ACTIVITY_FLAG, RECORD_TABLES, YEAR
from jobs.harness import (
    JobParser,
    common_options,
    guarded,
    headed,
    opened_lake,
    output_console,
    read_lake,
    shipped_policies,
)


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark explain``."""
    parser = JobParser(prog="ebi-spark explain", description=__doc__)
    parser.add_argument("--lake", required=True, metavar="LAKE", help="the lake's folder or catalog.prefix")
    parser.add_argument(
        "--record",
        required=True,
        metavar="RECORD_ID",
        help="the record's key in the source; for HES before 2012-13 with or without its year",
    )
    parser.add_argument("--dataset", choices=("apc", "op"), help="spells or attendances (default: both)")
    policy = parser.add_argument("--policy", metavar="ID", help="one policy (default: all)")
    policy.completer = shipped_policies  # type: ignore[attr-defined]
    parser.add_argument(
        "--policies-dir",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a folder of further policies; can be given more than once",
    )
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        policies = load_policies(arguments.policies_dir, [arguments.policy] if arguments.policy else None)
        datasets = [arguments.dataset] if arguments.dataset else list(RECORD_TABLES)
        years = read_lake(arguments.lake, console, partial(_years_by_dataset, arguments.record, datasets))
        if not any(years.values()):
            raise InputError(
                "no record of that id is in silver" + (f" ({arguments.dataset})" if arguments.dataset else ""),
                remedy="check the id and the dataset; `ebi-spark status` shows which years the lake has",
            )
        with opened_lake(arguments.lake, console) as context:
            found = []
            for dataset in (name for name in datasets if years[name]):
                asked = with_key(arguments.record) & (F.col("dataset") == dataset) & F.col(YEAR).isin(years[dataset])
                records = context.lake.read(RECORD_TABLES[dataset]).where(asked)
                applied = _applied_policies(context.lake, asked) if any(policy.boards for policy in policies) else None
                for policy in policies:
                    if policy.dataset == dataset:
                        found += explain_record(records, policy, applied)
                if not any(policy.dataset == dataset for policy in policies):
                    found += [{"policy_id": None}]
            outcome["explained"] = found
        if not arguments.json:
            for item in found:
                if item["policy_id"]:
                    _print(item)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _years_by_dataset(record: str, datasets: list[str], lake: LocalLake) -> dict[str, list[str]]:
    """By data set, the years in which the lake has the record. Spark then reads these years only."""
    found = {}
    for dataset in datasets:
        table = RECORD_TABLES[dataset]
        rows = lake.small_rows(table, [YEAR], {"record_id": possible_keys(record)}) if lake.exists(table) else []
        found[dataset] = sorted({row[YEAR] for row in rows})
    return found


def _applied_policies(lake: Lake, asked: Column) -> set[str] | None:
    """The policies that apply to the record; None where the lake has no flags."""
    if not lake.exists(ACTIVITY_FLAG) or not lake.years(ACTIVITY_FLAG):
        return None
    rows = lake.read(ACTIVITY_FLAG).where(asked).select("policy_id").distinct().collect()
    return {row["policy_id"] for row in rows}


def _print(item: dict[str, Any]) -> None:
    console = output_console()
    head = f"{item['policy_id']}, revision {item['revision']}, reading {item['reading']}"
    console.print(headed(head, f"  record {item['source_system']} {item['dataset']} {item['record_id']}"))
    console.print(headed(item["outcome"], f": {item['why']}" if item["why"] else ""))
    table = RichTable()
    for name in ("clause", "source text", "test", "value", "result"):
        table.add_column(name, overflow="fold")
    for clause in item["clauses"]:
        table.add_row(clause["clause_id"], clause["words"], clause["test"], clause["value"], clause["verdict"])
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
