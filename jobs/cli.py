"""The console script: ``ebi-spark COMMAND``, with one command for each job."""

import importlib
import os
import sys

from ebi_spark import __version__

COMMANDS = {
    "check": "check configuration, files, policies and places to write, without a session",
    "doctor": "check this machine: Java, jars, packages, memory, disk, rights",
    "run": "run the stages ingest to publish, in order",
    "ingest": "read source tables into silver records",
    "flag": "apply every policy to the records",
    "rate": "aggregate flags to rates by area",
    "monitor": "match approvals, follow the care around operations, explain what changed",
    "validate": "check silver, flags, rates and monitoring before they are published",
    "publish": "disclosure control, published tables, release, report",
    "generate": "make up source files to try everything on",
    "policy": "list, show, lint and compare policies; import a published page",
    "audit": "draw records for a case-note audit, import its forms, estimate how right the flags are",
    "change": "split the change of flagged records between two periods into its factors",
    "explain": "explain the flags of one record, clause by clause",
    "replay": "compute an old run again and compare the result",
    "status": "show what is in a lake",
    "export": "write a release as spreadsheets, Fingertips CSV, CML, data contract, OpenLineage",
    "maintain": "compact and vacuum tables, remove old releases",
    "completion": "print what bash, zsh or fish needs to complete commands and options",
}


def main(argv: list[str] | None = None) -> int:
    """Call the job that is named first."""
    if "_ARGCOMPLETE" in os.environ:
        return _complete()
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"ebi-spark {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0.0)
        print(f"ebi-spark: there is no command {command!r}\nwhat to do: did you mean {near[0]!r}?", file=sys.stderr)
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
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: ebi-spark COMMAND [options]   (ebi-spark COMMAND --help says more)", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
