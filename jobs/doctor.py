"""Check this machine: Python, packages, Java, Delta's jars, memory, disk, rights, locale and time zone. If something is
wrong, it says what to do."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.config.settings import load_config
from ebi_spark.errors import InputError
from ebi_spark.runs.checks_before_start import REFUSED, WARNING, refuse_problems
from ebi_spark.runs.environment import check_environment
from jobs.harness import JobParser, common_options, guarded, output_console

STYLES = {REFUSED: "bold red", WARNING: "yellow"}


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark doctor``."""
    parser = JobParser(prog="ebi-spark doctor", description=__doc__)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a configuration: also checks the place of its lake"
    )
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(_: Console, outcome: dict[str, Any]) -> None:
        folder = load_config(arguments.config).lake.folder if arguments.config else None
        findings = check_environment(folder)
        outcome["checks"] = [asdict(finding) for finding in findings]
        if not arguments.json:
            shown = RichTable(title="This machine", title_justify="left")
            for name in ("what", "result", "found"):
                shown.add_column(name, overflow="fold")
            for finding in findings:
                remedy = f"\nwhat to do: {finding.remedy}" if finding.remedy else ""
                shown.add_row(
                    finding.check, finding.result, f"{finding.found}{remedy}", style=STYLES.get(finding.result)
                )
            output_console().print(shown)
        problems = [finding for finding in findings if finding.result == REFUSED]
        if len(problems) > 1:
            raise InputError(
                f"{len(problems)} things have to be corrected. The first: {problems[0].found}",
                remedy=f"{problems[0].remedy}. The table has a remedy for each of the others (with `--json`: `checks`)",
            )
        refuse_problems(findings)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())
