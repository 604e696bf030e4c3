"""Check this machine: Python, packages, Java, Delta's jars, memory, disk, rights, locale and time zone. If something is
wrong, it says what to do."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from ebi_spark.config.load import load_config
from ebi_spark.errors import InputError
from ebi_spark.runs.checks_before_start import REFUSED, Finding
from ebi_spark.runs.environment import check_environment
from jobs.arguments import JobParser, common_options
from jobs.exit_status import guarded
from jobs.findings import report_findings


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark doctor``."""
    parser = JobParser(prog="ebi-spark doctor", description=__doc__)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a configuration: also checks the place of its lake"
    )
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(_: Console, outcome: dict[str, Any]) -> None:
        folder, faults = None, []
        try:
            folder = load_config(arguments.config).lake.folder if arguments.config else None
        except InputError as error:
            faults = [Finding("configuration", error.message, REFUSED, error.remedy)]
        report_findings([*check_environment(folder), *faults], outcome, "This machine", as_json=arguments.json)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())
