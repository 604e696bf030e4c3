"""Policies as a run would read them: list, show."""

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.clinical_policy.compile import in_words
from ebi_spark.clinical_policy.load import load_policies
from ebi_spark.clinical_policy.model import Policy
from ebi_spark.settings import load_config
from jobs.harness import common_options, guarded, output_console


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark policy``."""
    parser = argparse.ArgumentParser(prog="ebi-spark policy", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("list", "every policy, a line each"), ("show", "one policy, clause by clause")):
        command = commands.add_parser(name, help=what)
        if name == "show":
            command.add_argument("id")
        command.add_argument("--policies-dir", type=Path, action="append", default=[], metavar="DIR")
        command.add_argument("--config", type=Path, metavar="FILE", help="take the configuration's policy_dirs")
        common_options(command)
    arguments = parser.parse_args(argv)

    def work(_: Console, outcome: dict[str, Any]) -> None:
        folders = [*arguments.policies_dir, *(load_config(arguments.config).policy_dirs if arguments.config else ())]
        only = [arguments.id] if arguments.command == "show" else None
        policies = load_policies(folders, only)
        outcome["policies"] = [
            {"id": policy.id, "title": policy.title, "dataset": policy.dataset, "default_reading": policy.default_reading,
             "revisions": [revision.name for revision in policy.revisions]}
            for policy in policies
        ]  # fmt: skip
        if arguments.command == "show":
            outcome["definitions"] = [
                reading.definition for policy in policies for r in policy.revisions for reading in r.readings.values()
            ]
        if arguments.json:
            return
        if arguments.command == "list":
            _list(policies)
        else:
            _show(policies[0])

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _list(policies: list[Policy]) -> None:
    table = RichTable()
    for name in ("id", "title", "dataset", "revisions", "default reading", "file"):
        table.add_column(name)
    for policy in policies:
        revisions = ", ".join(f"{r.name} (from {r.start})" for r in policy.revisions)
        table.add_row(
            policy.id, policy.title, policy.dataset, revisions, policy.default_reading, Path(policy.path).name
        )
    output_console().print(table)


def _show(policy: Policy) -> None:
    console = output_console()
    console.print(f"[bold]{policy.id}[/bold]  {policy.title}")
    console.print(f"{policy.source['publisher']}: {policy.source['page']} ({policy.source.get('updated', 'undated')})")
    for revision in policy.revisions:
        until = f" to {revision.end}" if revision.end else ""
        for reading in revision.readings.values():
            star = ", the default" if reading.reading == policy.default_reading else ""
            table = RichTable(
                title=f"revision {revision.name} (in force from {revision.start}{until}), reading {reading.reading}{star}, "
                f"fingerprint {reading.fingerprint}",
                title_justify="left",
            )
            for name in ("clause", "the page's words", "test", "undecided", "coding", "decision"):
                table.add_column(name, overflow="fold")
            for clause in reading.clauses:
                undecided = clause.missing if clause.decides else ("not in scope" if clause.kind == "scope" else "")
                decision = f"{clause.decision}: {clause.because}" if clause.decision else clause.because
                test = in_words(clause.test, clause.kind)
                table.add_row(clause.id, clause.words, test, undecided, clause.coding, decision)
            console.print(table)


if __name__ == "__main__":
    sys.exit(main())
