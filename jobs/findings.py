"""How `check` and `doctor` show what they found, and end."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table as RichTable

from ebi_spark.errors import InputError
from ebi_spark.runs.checks_before_start import REFUSED, WARNING, Finding, refuse_problems
from jobs.screen import output_console

_STYLES = {REFUSED: "bold red", WARNING: "yellow"}


def report_findings(findings: Sequence[Finding], outcome: dict[str, Any], title: str, *, as_json: bool) -> None:
    """Show each finding with its remedy, or add all to the JSON object. An :class:`InputError` if there is a problem."""
    outcome["checks"] = [asdict(finding) for finding in findings]
    if not as_json:
        shown = RichTable(title=title, title_justify="left")
        for name in ("what", "result", "found"):
            shown.add_column(name, overflow="fold")
        for finding in findings:
            remedy = f"\nwhat to do: {finding.remedy}" if finding.remedy else ""
            shown.add_row(finding.check, finding.result, f"{finding.found}{remedy}", style=_STYLES.get(finding.result))
        output_console().print(shown)
    problems = [finding for finding in findings if finding.result == REFUSED]
    if len(problems) > 1:
        raise InputError(
            f"{len(problems)} of {len(findings)} checks found a problem. The first: {problems[0].found}",
            remedy=f"{problems[0].remedy}. The table has the remedies of the others (with `--json`: `checks`)",
        )
    refuse_problems(findings)
