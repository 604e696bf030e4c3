"""Check everything that a run needs and that can be checked in seconds, without Spark: the configuration, source files and their
columns, policies, areas, populations, and the places that are written. It reads no rows and writes nothing."""

import sys
from typing import Any

from rich.console import Console

from ebi_spark.config.load import load_config
from ebi_spark.runs.checks_before_start import Finding, check_before_start
from jobs.arguments import JobParser, common_options, configuration_options
from jobs.exit_status import guarded
from jobs.findings import report_findings


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
        report_findings(findings, outcome, "Checked before a run", as_json=arguments.json)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())
