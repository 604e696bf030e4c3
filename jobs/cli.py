"""The console script: ``ebi-spark COMMAND``, with one command for each job."""

import importlib
import os
import sys

from ebi_spark import __version__
from ebi_spark.errors import did_you_mean
from jobs.examples import first_examples

GROUPS = {
    "start": {
        "doctor": "check this machine: Java, packages, memory, disk, rights",
        "generate": "make up source files, to try everything",
        "check": "check a configuration and its files in seconds, without Spark",
        "completion": "complete commands and options in your shell",
    },
    "run": {
        "run": "all stages below in order, for what has changed",
        "ingest": "read the source tables into the lake",
        "flag": "apply the policies to the records",
        "rate": "count flags by area and calculate rates",
        "monitor": "match approvals, follow care around operations, explain changes",
        "validate": "check every table before it is published",
        "publish": "suppress small numbers, publish a release, draw the report",
    },
    "see the results": {
        "status": "show what is in a lake: years, policies, quarantine, releases",
        "explain": "say why a record was flagged or not",
        "change": "split a change in flagged records into its factors",
        "export": "write a release as spreadsheets and in other offices' formats",
        "replay": "compute an old run again and compare the result",
    },
    "policies and audits": {
        "policy": "list, show, check and compare policies; import a published page",
        "audit": "case-note audits: draw records, import forms, estimate",
    },
    "look after a lake": {
        "maintain": "remove old releases and unused files",
        "catalogue": "describe a lake in Unity Catalog: comments, tags, keys, grants",
    },
}
COMMANDS = {name: words for commands in GROUPS.values() for name, words in commands.items()}


def main(argv: list[str] | None = None) -> int:
    """Call the job that is named first."""
    if "_ARGCOMPLETE" in os.environ:
        return _complete()
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version", "version"):
        print(f"ebi-spark {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        remedy = did_you_mean(command, COMMANDS, 0.5, quoted=True)
        print(
            f"ebi-spark: there is no command {command!r}\nwhat to do: {remedy}`ebi-spark --help` lists the commands",
            file=sys.stderr,
        )
        return 2
    try:
        job = importlib.import_module(f"jobs.{command}")
    except KeyboardInterrupt:  # the job has not started yet, so nothing needs to be undone
        print("ebi-spark: interrupted; nothing was done", file=sys.stderr)
        return 130
    return int(job.main(rest))


def _complete() -> int:
    """Complete the command, or the options of the command that is typed already."""
    typed = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "0"))].split(" ")
    if len(typed) > 2 and typed[1] in COMMANDS:
        # Two words come before the options: ebi-spark and the command.
        os.environ["_ARGCOMPLETE"] = "2"
        return int(importlib.import_module(f"jobs.{typed[1]}").main([]))
    import argparse

    import argcomplete

    parser = argparse.ArgumentParser(prog="ebi-spark")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("command", choices=COMMANDS)
    argcomplete.autocomplete(parser)
    return 0


def task() -> None:
    """The same, for a scheduler that knows failure only as an exception (Databricks wheel tasks)."""
    status = main()
    if status:
        raise RuntimeError(f"ebi-spark ended with status {status}; see its message above")


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: ebi-spark COMMAND [options]",
        "",
        "Find hospital activity that published policies say should not be routine.",
    ]
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<{width}}  {words}" for name, words in commands.items())]
    lines += ["", first_examples("generate", "check", "run", "explain", "export")]
    return "\n".join([*lines, "", "`ebi-spark COMMAND --help` shows its options, with more examples."])


if __name__ == "__main__":
    sys.exit(main())
