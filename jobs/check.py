"""Check everything that a run needs and that can be checked before a session starts: the configuration, source files and
their columns, policies, areas, populations, and the places that are written. It reads no rows and writes nothing."""

import sys
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.config.settings import load_config
from ebi_spark.errors import InputError
from ebi_spark.runs.checks_before_start import REFUSED, Finding, check_before_start, refuse_problems
from jobs.harness import JobParser, common_options, configuration_options, guarded, output_console

STYLES = {REFUSED: "bold red"}


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark check``."""
    parser = JobParser(prog="ebi-spark check", description=__doc__)
    configuration_options(parser)
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(_: Console, outcome: dict[str, Any]) -> None:
        config = load_config(arguments.config).with_options(
            lake=arguments.lake, years=arguments.years, policies=arguments.policies
        )
        findings = [Finding("configuration", str(arguments.config), "ok"), *check_before_start(config, "check")]
        outcome["checks"] = [asdict(finding) for finding in findings]
        if not arguments.json:
            _print(findings)
        problems = [finding for finding in findings if finding.result == REFUSED]
        if len(problems) > 1:
            raise InputError(
                f"{len(problems)} of {len(findings)} checks found a problem. The first: {problems[0].found}",
                remedy=f"{problems[0].remedy}. The others have a remedy each, in the table (with `--json` under `checks`)",
            )
        refuse_problems(findings)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _print(findings: list[Finding]) -> None:
    shown = RichTable(title="Checked before a run", title_justify="left")
    for name in ("what", "result", "found"):
        shown.add_column(name, overflow="fold")
    for finding in findings:
        remedy = f"\nwhat to do: {finding.remedy}" if finding.remedy else ""
        shown.add_row(finding.check, finding.result, f"{finding.found}{remedy}", style=STYLES.get(finding.result))
    output_console().print(shown)


if __name__ == "__main__":
    sys.exit(main())
