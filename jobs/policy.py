"""List, show, import, check (lint) and compare (diff) policies."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from ebi_spark.config.load import load_config
from ebi_spark.errors import DataError, InputError
from ebi_spark.policies.code_books import code_books
from ebi_spark.policies.diff import changes, revision_of
from ebi_spark.policies.lint import code_tests, lint
from ebi_spark.policies.load import load_policies, read_policies
from jobs import policy_views as views
from jobs.arguments import JobParser, common_options, policy_option
from jobs.exit_status import guarded
from jobs.harness import opened_lake, read_lake
from jobs.screen import counted

_COMMANDS = {
    "list": "List all policies.",
    "show": "Show one policy, clause by clause. With --lake, also show how each of its decisions changes the counts.",
    "import": "Turn a published coding page into a policy file, and compare the page's words with its SQL.",
    "lint": "Check policy files, and their codes against ICD-10 and OPCS-4. Lists everything that is wrong in all files. Exits 1 if "
    "a code is wrong, and 2 if a file cannot be loaded.",
    "diff": "Compare two revisions of a policy. With --lake, also count the records that become flagged or stop being "
    "flagged, by year and area.",
}


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark policy``."""
    parser = JobParser(prog="ebi-spark policy", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, description in _COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        if name == "show":
            policy_option(command, "id", help="the id of the policy")
            command.add_argument(
                "--lake", metavar="LAKE", help="show how each decision changes the counts of this lake"
            )
        if name == "import":
            command.add_argument("file", type=Path, metavar="FILE", help="the page, saved as text in UTF-8")
            command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder for both files")
            command.add_argument("--id", metavar="ID", help="an id for the policy, instead of the label after THEN")
        if name == "diff":
            policy_option(command, "id", help="the id of the policy")
            command.add_argument("before", metavar="BEFORE", help="the name of the older revision")
            command.add_argument("after", metavar="AFTER", help="the name of the newer revision")
            command.add_argument("--lake", metavar="LAKE", help="apply both revisions to the records of this lake")
        if name == "lint":
            policy_option(command, "id", nargs="?", help="check the codes of this policy only")
            command.add_argument("--codes", type=Path, action="append", default=[], metavar="FILE",
                                 help="use this code book (CSV) instead of the shipped one for its code system; may be repeated")  # fmt: skip
        command.add_argument("--policies-dir", type=Path, action="append", default=[], metavar="DIR",
                             help="also load the policies in this folder; may be repeated")  # fmt: skip
        words = "also load the policies in the policy_dirs of this configuration"
        words += ", and with --lake use its lookups of areas" if name == "diff" else ""
        command.add_argument("--config", type=Path, metavar="FILE", help=words)
        common_options(command)
    arguments = parser.parse_args(argv)
    plain_commands = {"list": _list, "import": _import, "lint": _lint}
    lake_commands = {"diff": _diff, "show": _show}

    def work(console: Console, outcome: dict[str, Any]) -> None:
        if arguments.command in lake_commands:
            lake_commands[arguments.command](arguments, console, outcome)
        else:
            plain_commands[arguments.command](arguments, outcome)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _folders(arguments: argparse.Namespace) -> list[Path]:
    return [*arguments.policies_dir, *(load_config(arguments.config).policy_dirs if arguments.config else ())]


def _list(arguments: argparse.Namespace, outcome: dict[str, Any]) -> None:
    policies = load_policies(_folders(arguments))
    outcome["policies"] = [views.as_dict(policy) for policy in policies]
    if not arguments.json:
        views.show_list(policies)


def _show(arguments: argparse.Namespace, console: Console, outcome: dict[str, Any]) -> None:
    policies = load_policies(_folders(arguments), [arguments.id])
    outcome["policies"] = [views.as_dict(policy) for policy in policies]
    outcome["definitions"] = [
        reading.definition for policy in policies for r in policy.revisions for reading in r.readings.values()
    ]
    if not arguments.json:
        views.show_policy(policies[0])
    if not arguments.lake:
        return
    from ebi_spark.flags.sensitivity import effect_of_decisions

    outcome["sensitivity"] = read_lake(arguments.lake, console, partial(effect_of_decisions, policy_id=arguments.id))
    if not arguments.json:
        views.show_sensitivity(outcome["sensitivity"])


def _import(arguments: argparse.Namespace, outcome: dict[str, Any]) -> None:
    from ebi_spark.policy_import.import_page import import_page, write_imported

    imported = import_page(arguments.file, arguments.id)
    others = {policy.id: policy.path for policy in load_policies(_folders(arguments))}
    if imported.policy_id in others:
        outcome["also_at"] = others[imported.policy_id]
    policy_path, report_path, policy = write_imported(imported, arguments.out)
    outcome["policy"] = views.as_dict(policy)
    outcome["files"] = [str(policy_path), str(report_path)]
    outcome["baseline"] = imported.page.baseline
    outcome["reconciliation"] = [finding.as_dict() for finding in imported.findings]
    if not arguments.json:
        views.show_import(imported, policy_path, report_path, others.get(imported.policy_id))


def _lint(arguments: argparse.Namespace, outcome: dict[str, Any]) -> None:
    policies, faults = read_policies(_folders(arguments))
    if arguments.id and not faults:
        policies = load_policies(_folders(arguments), [arguments.id])
    elif arguments.id:
        policies = [policy for policy in policies if policy.id == arguments.id]
    books = code_books(tuple(arguments.codes))
    findings = lint(policies, books)
    outcome["policies"] = [policy.id for policy in policies]
    outcome["patterns"] = code_tests(policies)
    outcome["faults"] = [
        {"file": str(fault.path), "line": fault.line, "problem": fault.problem, "remedy": fault.remedy}
        for fault in faults
    ]
    outcome["findings"] = [finding.as_dict() for finding in findings]
    if not arguments.json:
        views.show_lint(policies, faults, findings, outcome["patterns"], books)
    if faults:
        files = len({fault.path for fault in faults})
        raise InputError(
            f"lint: {counted(len(faults), 'fault')} in {counted(files, 'file')} that cannot be loaded"
            + (f", and {counted(len(findings), 'finding')} in the others" if findings else ""),
            remedy="correct each line as the table says, then run lint again; a run refuses these files",
        )
    if findings:
        in_policies = len({finding.policy for finding in findings})
        raise DataError(
            f"lint: {counted(len(findings), 'finding')} in {in_policies} of {counted(len(policies), 'policy')}",
            remedy="make the change that each finding names, or correct the code book given with --codes",
        )


def _diff(arguments: argparse.Namespace, console: Console, outcome: dict[str, Any]) -> None:
    policy = load_policies(_folders(arguments), [arguments.id])[0]
    before, after = revision_of(policy, arguments.before), revision_of(policy, arguments.after)
    found = changes(before, after)
    outcome["policies"] = [views.as_dict(policy)]
    outcome["changes"] = [change.as_dict() for change in found]
    if not arguments.json:
        views.show_changes(policy, before, after, found)
    if not arguments.lake:
        return
    from ebi_spark.flags.revision_effect import effect_in_lake, sum_over_areas

    with opened_lake(arguments.lake, console, all_records=True) as context:
        config = load_config(arguments.config) if arguments.config else context.config
        outcome["effect_by_area"] = effect_in_lake(context.lake, config, policy, before, after)
        outcome["effect"] = sum_over_areas(outcome["effect_by_area"])
    if not arguments.json:
        views.show_effect(policy, outcome["effect"], outcome["effect_by_area"])


if __name__ == "__main__":
    sys.exit(main())
