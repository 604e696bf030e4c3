"""The console script: ``ebi-spark COMMAND``, one command a job."""

import importlib
import sys

from ebi_spark import __version__

COMMANDS = {
    "run": "every stage below, in order",
    "ingest": "source tables into silver records",
    "flag": "records judged by every policy",
    "rate": "flags aggregated to rates by area",
    "validate": "the gate over silver, flags and rates",
    "publish": "disclosure control, published tables, release, report",
    "generate": "made-up source files to try it all on",
    "policy": "list, show, lint and compare policies; import a published page",
    "explain": "one record, clause by clause",
    "replay": "an old run made again from what it recorded, and compared",
    "status": "what is in a lake",
    "maintain": "compaction, vacuum, old releases",
}


def main(argv: list[str] | None = None) -> int:
    """Dispatch to the job named first."""
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
    except KeyboardInterrupt:  # the job itself minds it; until it does, there is nothing to say but that it ended
        print("ebi-spark: interrupted; nothing was done", file=sys.stderr)
        return 130
    return int(job.main(rest))


def task() -> None:
    """The same for a scheduler that knows failure only as an exception (Databricks wheel tasks)."""
    status = main()
    if status:
        raise RuntimeError(f"ebi-spark ended with status {status}; its message stands above")


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: ebi-spark COMMAND [options]   (ebi-spark COMMAND --help says more)", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
