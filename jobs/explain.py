"""Explain one record: one sentence for each policy on whether it flags the record and why, the codes with their titles, then every
clause.

It prints the record's values on standard output. No other command is meant to show them.
"""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.config.load import load_config
from ebi_spark.errors import InputError
from ebi_spark.flags.explain import NOUNS, Explanation, with_name
from ebi_spark.flags.explain_in_lake import explain_in_lake, provider_names, years_with_record
from ebi_spark.policies.load import load_policies, with_fixed_revision
from ebi_spark.tables.silver import RECORD_TABLES
from jobs.arguments import JobParser, common_options, lake_option, policy_option
from jobs.exit_status import guarded
from jobs.harness import opened_lake, read_lake
from jobs.screen import headed, output_console


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark explain``."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not (arguments.lake or arguments.config):
        parser.error("the following arguments are required: --lake or --config")

    def work(console: Console, outcome: dict[str, Any]) -> None:
        config = load_config(arguments.config) if arguments.config else None
        folders = [*arguments.policies_dir, *(config.policy_dirs if config else ())]
        policies = load_policies(folders, [arguments.policy] if arguments.policy else None)
        if config and config.basis == "fixed":
            policies = [with_fixed_revision(policy, config) for policy in policies]
        lookup = config.providers if config else None
        lake = arguments.lake or (config.lake if config else "")
        datasets = [arguments.dataset] if arguments.dataset else list(RECORD_TABLES)
        years, names = read_lake(
            lake,
            console,
            lambda tables: (years_with_record(tables, arguments.record, datasets), provider_names(tables, lookup)),
        )
        if not any(years.values()):
            raise InputError(
                "no record of that id is in silver" + (f" ({arguments.dataset})" if arguments.dataset else ""),
                remedy="check the id and the dataset; `ebi-spark status` shows which years the lake has",
            )
        with opened_lake(lake, console) as context:
            found = explain_in_lake(context.lake, arguments.record, years, policies, names)
        outcome["records"] = [one.facts | {"sentences": one.sentences} for one in found]
        outcome["explained"] = [item for one in found for item in one.readings]
        if arguments.json:
            return
        if not found:
            only = ", ".join(name for name in datasets if years[name])
            output_console().print(f"The record is in the data set {only}, which {arguments.policy} is not about.")
            return
        for one in found:
            _print_sentences(one)
        for one in found:
            _print_tables(one, every=arguments.all)
        if not arguments.all:
            hint = "--all also shows revisions that were not in force, and policies that are not about the record."
            output_console().print(hint)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _parser() -> JobParser:
    parser = JobParser(prog="ebi-spark explain", description=__doc__)
    lake_option(parser, required=False)
    parser.add_argument(
        "--record",
        required=True,
        metavar="RECORD_ID",
        help="the record's key in the source; for HES before 2012-13 with or without its year",
    )
    parser.add_argument("--dataset", choices=("apc", "op"), help="spells or attendances (default: both)")
    policy_option(parser, "--policy", help="one policy (default: all)")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="use this configuration's lake, its policy_dirs besides the shipped policies, its basis and its names of providers",
    )
    parser.add_argument(
        "--policies-dir",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="also load the policies in this folder; may be repeated",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="also show revisions that were not in force on the record's day, and policies that are not about the record",
    )
    common_options(parser)
    return parser


def _print_sentences(one: Explanation) -> None:
    """A sentence for each policy that is about the record, and one that names the others."""
    console = output_console()
    inside = one.in_scope
    for policy_id, sentence in one.sentences.items():
        if policy_id in inside or len(one.sentences) == 1:
            console.print(sentence, highlight=False)
    outside = [policy_id for policy_id in one.sentences if policy_id not in inside]
    if len(one.sentences) > 1 and outside:
        what = "It" if inside else f"Record {one.facts['record_id']}"
        console.print(f"{what} is not in the scope of {', '.join(outside)}.", highlight=False)


def _print_tables(one: Explanation, *, every: bool) -> None:
    output_console().print(_facts(one.facts))
    for item in one.readings:
        if every or (item["in_force"] and item["policy_id"] in one.in_scope):
            _print_reading(item)


def _facts(facts: dict[str, Any]) -> RichTable:
    """The record's dates, provider and codes, one a row."""
    table = RichTable(title=f"{NOUNS[facts['dataset']]} {facts['record_id']}", title_justify="left", show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for words, name in (("admitted", "admission_date"), ("discharged", "discharge_date")):
        if facts.get(name):
            table.add_row(words, str(facts[name]))
    if facts["dataset"] == "op":
        table.add_row("date", str(facts["activity_date"]))
    table.add_row("provider", with_name(facts) if facts["provider_code"] else "not known")
    for item in facts["codes"]:
        table.add_row(item["role"], item["code"], item["title"] or "not in the code book")
    return table


def _print_reading(item: dict[str, Any]) -> None:
    console = output_console()
    head = f"{item['policy_id']}, revision {item['revision']}, reading {item['reading']}"
    console.print(headed(head, f": {item['outcome']}{', ' * bool(item['why'])}{item['why']}"))
    table = RichTable()
    for name in ("clause", "source text", "test", "value", "result"):
        table.add_column(name, overflow="fold")
    for clause in item["clauses"]:
        table.add_row(clause["clause_id"], clause["words"], clause["test"], clause["value"], clause["verdict"])
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
