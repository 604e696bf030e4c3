"""Print policies on the terminal: lists, clauses, the results of import and lint, and what a revision changed."""

from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from ebi_spark.config.yaml_documents import DocumentError
from ebi_spark.policies.code_books import SYSTEMS, CodeBook
from ebi_spark.policies.compile import clause_in_words, in_words
from ebi_spark.policies.diff import Change
from ebi_spark.policies.lint import LintFinding
from ebi_spark.policies.model import Policy, Revision
from ebi_spark.policy_import.import_page import Imported
from jobs.screen import counted, headed, output_console


def as_dict(policy: Policy) -> dict[str, Any]:
    """A policy as ``--json`` prints it."""
    return {
        "id": policy.id,
        "title": policy.title,
        "dataset": policy.dataset,
        "default_reading": policy.default_reading,
        "revisions": [revision.name for revision in policy.revisions],
        "extends": policy.extends or None,
        "boards": list(policy.boards),
        "to_complete": list(policy.to_complete),
    }


def show_list(policies: list[Policy]) -> None:
    """Print a table with a row for each policy."""
    table = _table("id", "title", "records", "area", "revisions", "default reading")
    for policy in policies:
        draft = f" (draft, {len(policy.to_complete)} to complete)" if policy.to_complete else ""
        table.add_row(
            policy.id,
            policy.title + draft,
            "spells" if policy.dataset == "apc" else "attendances",
            ", ".join(policy.boards) or "England",
            ", ".join(revision.name for revision in policy.revisions),
            policy.default_reading,
        )
    table.columns[0].no_wrap = True
    output_console().print(table)
    output_console().print("`ebi-spark policy show ID` has the clauses, and since when each revision is in force.")


def show_policy(policy: Policy) -> None:
    """Print one policy, with a table for each revision and reading."""
    console = output_console()
    console.print(headed(policy.id, f"  {policy.title}"))
    console.print(f"{policy.source['publisher']}: {policy.source['page']} ({policy.source.get('updated', 'undated')})")
    if policy.boards:
        console.print(f"extends {policy.extends}; only for patients of {', '.join(policy.boards)}", highlight=False)
    if policy.source.get("review"):
        console.print(f"review: {policy.source['review']}", highlight=False)
    if policy.source.get("last_checked"):
        console.print(f"compared with its source on {policy.source['last_checked']}", highlight=False)
    for point in policy.to_complete:
        console.print(headed("to complete", f"  {point}", "yellow"), highlight=False)
    for revision in policy.revisions:
        if revision.rationale:
            console.print(f"revision {revision.name}: {revision.rationale}", highlight=False)
        if revision.readings["as_published"].definition.get("coding_seen") is False:
            console.print(
                f"revision {revision.name}: its coding was not seen; that of the revision before it is used",
                highlight=False,
            )
        for day, words in revision.regime:
            console.print(f"{day}: {words}", highlight=False)
        for reading in revision.readings.values():
            default = " (the default)" if reading.reading == policy.default_reading else ""
            if reading.definition.get("words_seen") == "excerpt":
                default += " (the words of an excerpt)"
            table = _table(
                "clause",
                "the page's words",
                "test",
                "if it cannot be decided",
                "coding",
                "decision",
                title=f"revision {revision.name} (in force {revision.days}{_DATED[revision.dated]}), "
                f"reading {reading.reading}{default}, fingerprint {reading.fingerprint}",
            )
            for clause in reading.clauses:
                undecided = clause.missing if clause.decides else ("not in scope" if clause.kind == "scope" else "")
                decision = f"{clause.decision}: {clause.rationale}" if clause.decision else clause.rationale
                test = clause_in_words(clause)
                coding = clause.coding.replace("_", " ")
                row = (clause.id, clause.source_text, test, undecided, coding, decision)
                table.add_row(*row)
            console.print(table)
        if revision.flips:
            console.print(_flips(revision))


_DATED = {
    "stated": "",
    "month": "; the source gives only the month",
    "inferred": "; the source gives no date, this one is inferred",
}


def _flips(revision: Revision) -> RichTable:
    """A table of the decisions that are reversed one at a time, with the readings from which each is reversed."""
    title = f"revision {revision.name}: decisions that gold/policy_sensitivity reverses one at a time"
    table = _table("decision", "made by", "changed reading", "clause", "the source's words", "reason", title=title)
    bases: dict[tuple[str, str], list[str]] = {}
    for flip in revision.flips:
        direction = " (decision removed)" if flip.undone else " (decision added)"
        bases.setdefault((flip.source, flip.decision), []).append(f"{flip.base}{direction}")
    for (source, decision), listed in bases.items():
        flip = next(f for f in revision.flips if (f.source, f.decision) == (source, decision))
        row = (decision, source, ", ".join(listed), flip.clause, flip.source_text, flip.rationale)
        table.add_row(*row)
    return table


def show_sensitivity(rows: list[dict[str, Any]]) -> None:
    """Print how many records become flagged or stop being flagged if one decision is reversed, over all years of the lake."""
    title = "What happens to the count if one decision at a time is changed, all years of the lake"
    table = _table("revision", "reading", "decision", title=title)
    for name in ("flagged now", "would be added", "would be removed"):
        table.add_column(name, justify="right")
    moved = [row for row in rows if row["added"] or row["removed"]]
    for row in moved:
        counts = [f"{row[name]:,}" for name in ("flagged", "added", "removed")]
        direction = " (decision removed)" if row["direction"] == "undone" else " (decision added)"
        table.add_row(row["revision"], row["base_reading"], row["decision"] + direction, *counts)
    output_console().print(table)
    others = sorted({row["decision"] for row in rows} - {row["decision"] for row in moved})
    if others:
        output_console().print(f"Other decisions change no record here: {', '.join(others)}", highlight=False)


def show_import(imported: Imported, policy_path: Path, report_path: Path, also_at: str | None) -> None:
    """Print the clauses read from a page, what its words and SQL disagree on, and what is left to do."""
    console = output_console()
    page = imported.page
    console.print(headed(imported.policy_id, f"  {page.title} ({page.updated or 'undated'})"))
    clauses = _table("line", "clause", "read as", "if it cannot be decided", title="Clauses read from the SQL")
    for draft in imported.drafts:
        undecided = "not in scope" if draft.scope else draft.missing
        clauses.add_row(str(draft.line), draft.id, in_words(draft.test, draft.kind), undecided)
    console.print(clauses)
    findings = _table("line", "finding", "clause", "details", title="Comparison of the page's words with its SQL")
    for finding in imported.findings:
        findings.add_row(str(finding.line), finding.title, finding.clause, finding.text)
    console.print(findings)
    console.print("To complete before a run can use the policy:")
    for point in imported.open_points:
        console.print(f"  • {point}", highlight=False)
    if also_at:
        console.print(
            f"  • {imported.policy_id} is also the id of {also_at}: import with another --id, or add this as a revision there",
            highlight=False,
        )
    console.print(f"policy          {policy_path}", highlight=False, soft_wrap=True)
    console.print(f"reconciliation  {report_path}", highlight=False, soft_wrap=True)


def show_lint(
    policies: list[Policy],
    faults: list[DocumentError],
    findings: list[LintFinding],
    patterns: int,
    books: dict[str, CodeBook],
) -> None:
    """Print what lint found, a table for each file, and how much was checked. ``faults``: what keeps a file from being loaded."""
    console = output_console()
    for path in dict.fromkeys(fault.path for fault in faults):
        table = _table("line", "what is wrong", "what to do", title=str(path))
        for fault in faults:
            if fault.path == path:
                table.add_row(str(fault.line or ""), fault.problem, fault.remedy)
        console.print(table)
    for file in dict.fromkeys(item.file for item in findings):
        table = _table("line", "revision", "clause", "code or pattern", "finding", "what to change", title=file)
        for item in (item for item in findings if item.file == file):
            clause = item.clause if item.reading == "as_published" else f"{item.clause} ({item.reading})"
            place = str(item.line) if item.line else "inherited"
            table.add_row(place, item.revision, clause, item.pattern, f"{item.kind}: {item.text}", item.change)
        console.print(table)
    known = ", ".join(
        f"{SYSTEMS[system]} ({len(book.codes):,} codes, {book.first_year} to {book.last_year})"
        for system, book in books.items()
    )
    result = counted(len(findings), "finding") if findings else "no problem found"
    checked = f"{counted(len(policies), 'policy')} with {counted(patterns, 'code pattern')}"
    console.print(f"{checked} checked against {known}: {result}", highlight=False)


def show_changes(policy: Policy, before: Revision, after: Revision, found: list[Change]) -> None:
    """Print what changed between two revisions."""
    console = output_console()
    console.print(headed(policy.id, f"  from revision {before.name} to {after.name}"), highlight=False)
    if not found:
        console.print("nothing changed", highlight=False)
        return
    table = _table("reading", "clause", "change", "before", "after")
    for change in found:
        shown = (change.before, change.after) if change.kind in ("words", "missing", "coding", "in_force") else ("", "")
        table.add_row(*(change.reading, change.clause, change.text, *shown))
    console.print(table)
    effective = sum(change.changes_outcomes for change in found)
    console.print(f"{counted(len(found), 'change')}; {effective} can change the outcome of a record", highlight=False)


# The counts of an effect, with their headings.
_EFFECT = {
    "flagged_before": "flagged before",
    "flagged_after": "flagged after",
    "enter": "newly flagged",
    "leave": "no longer flagged",
}


def show_effect(policy: Policy, effect: list[dict[str, Any]], by_area: list[dict[str, Any]]) -> None:
    """Print how many records become flagged or stop being flagged, by reading and year; for the default reading also by area,
    for the areas in which anything changes."""
    table = _table("reading", "year", title="Both revisions applied to the same records")
    for name in ("in scope", *_EFFECT.values()):
        table.add_column(name, justify="right")
    for row in effect:
        star = " (default)" if row["reading"] == policy.default_reading else ""
        scope = f"{row['in_scope_before']:,}"
        if row["in_scope_after"] != row["in_scope_before"]:
            scope += f" → {row['in_scope_after']:,}"
        counts = [f"{row[name]:,}" for name in _EFFECT]
        table.add_row(row["reading"] + star, row["financial_year"], scope, *counts)
    output_console().print(table)
    changed = [r for r in by_area if r["reading"] == policy.default_reading and r["enter"] + r["leave"]]
    if not changed:
        return
    areas = _table("area", "year", title=f"Areas in which the count changes, reading {policy.default_reading}")
    for name in _EFFECT.values():
        areas.add_column(name, justify="right")
    for row in sorted(changed, key=lambda r: (r["area_code"] or "", r["financial_year"])):
        counts = [f"{row[name]:,}" for name in _EFFECT]
        areas.add_row(row["area_code"] or "not known", row["financial_year"], *counts)
    output_console().print(areas)


def _table(*columns: str, title: str | None = None) -> RichTable:
    table = RichTable(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name == "line" else "left")
    return table
