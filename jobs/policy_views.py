"""Policies on the terminal: lists, clauses, what an import found, what lint found, what a revision changed."""

from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from ebi_spark.clinical_policy.code_books import SYSTEMS, CodeBook
from ebi_spark.clinical_policy.compile import clause_in_words, in_words
from ebi_spark.clinical_policy.differences import Change
from ebi_spark.clinical_policy.import_page import Imported
from ebi_spark.clinical_policy.lint import LintFinding
from ebi_spark.clinical_policy.model import Policy, Revision
from jobs.harness import headed, output_console


def as_dict(policy: Policy) -> dict[str, Any]:
    """A policy for ``--json``."""
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
    """A line a policy."""
    table = _table("id", "title", "dataset", "for", "revisions", "default reading", "file")
    for policy in policies:
        revisions = ", ".join(f"{r.name} (from {r.start})" for r in policy.revisions)
        draft = f" (draft, {len(policy.to_complete)} to complete)" if policy.to_complete else ""
        table.add_row(
            policy.id,
            policy.title + draft,
            policy.dataset,
            ", ".join(policy.boards) or "England",
            revisions,
            policy.default_reading,
            Path(policy.path).name,
        )
    output_console().print(table)


def show_policy(policy: Policy) -> None:
    """One policy, a table a revision and reading."""
    console = output_console()
    console.print(headed(policy.id, f"  {policy.title}"))
    console.print(f"{policy.source['publisher']}: {policy.source['page']} ({policy.source.get('updated', 'undated')})")
    if policy.boards:
        console.print(f"extends {policy.extends}; for patients of {', '.join(policy.boards)} alone", highlight=False)
    if policy.source.get("review"):
        console.print(f"review: {policy.source['review']}", highlight=False)
    for point in policy.to_complete:
        console.print(headed("to complete", f"  {point}", "yellow"), highlight=False)
    for revision in policy.revisions:
        until = f" to {revision.end}" if revision.end else ""
        if revision.because:
            console.print(f"revision {revision.name}: {revision.because}", highlight=False)
        for day, words in revision.regime:
            console.print(f"{day}: {words}", highlight=False)
        for reading in revision.readings.values():
            star = ", the default" if reading.reading == policy.default_reading else ""
            table = _table(
                "clause",
                "the page's words",
                "test",
                "undecided",
                "coding",
                "decision",
                title=f"revision {revision.name} (in force from {revision.start}{until}{_DATED[revision.dated]}), reading {reading.reading}{star}, "
                f"fingerprint {reading.fingerprint}",
            )
            for clause in reading.clauses:
                undecided = clause.missing if clause.decides else ("not in scope" if clause.kind == "scope" else "")
                decision = f"{clause.decision}: {clause.because}" if clause.decision else clause.because
                test = clause_in_words(clause)
                coding = clause.coding.replace("_", " ")
                row = (clause.id, clause.words, test, undecided, coding, decision)
                table.add_row(*row)
            console.print(table)
        if revision.flips:
            console.print(_flips(revision))


_DATED = {"stated": "", "month": ", of which the source gives the month", "inferred": ", inferred"}


def _flips(revision: Revision) -> RichTable:
    """The decisions that are flipped alone, each once, with the readings that they are flipped from."""
    title = f"revision {revision.name}: decisions that gold/policy_sensitivity flips alone"
    table = _table("decision", "of", "flipped from", "clause", "the source's words", "because", title=title)
    bases: dict[tuple[str, str], list[str]] = {}
    for flip in revision.flips:
        bases.setdefault((flip.source, flip.decision), []).append(f"{flip.base}{' (undone)' if flip.undone else ''}")
    for (source, decision), listed in bases.items():
        flip = next(f for f in revision.flips if (f.source, f.decision) == (source, decision))
        row = (decision, source, ", ".join(listed), flip.clause, flip.words, flip.because)
        table.add_row(*row)
    return table


def show_sensitivity(rows: list[dict[str, Any]]) -> None:
    """What each decision alone adds and removes in a lake, all its years together, the most moving first."""
    table = _table("revision", "from", "decision", title="Each decision flipped alone, all years of the lake")
    for name in ("flagged", "adds", "removes"):
        table.add_column(name, justify="right")
    for row in rows:
        counts = [f"{row[name]:,}" for name in ("flagged", "added", "removed")]
        direction = " (undone)" if row["direction"] == "undone" else ""
        table.add_row(row["revision"], row["base_reading"], row["decision"] + direction, *counts)
    output_console().print(table)


def show_import(imported: Imported, policy_path: Path, report_path: Path, also_at: str | None) -> None:
    """What was read from a page, what its words and SQL disagree on, what is left to do."""
    console = output_console()
    page = imported.page
    console.print(headed(imported.policy_id, f"  {page.title} ({page.updated or 'undated'})"))
    clauses = _table("line", "clause", "read as", "undecided", title="Clauses read from the SQL")
    for draft in imported.drafts:
        undecided = "not in scope" if draft.scope else draft.missing
        clauses.add_row(str(draft.line), draft.id, in_words(draft.test, draft.kind), undecided)
    console.print(clauses)
    findings = _table("line", "finding", "clause", "what", title="Words and SQL held against each other")
    for finding in imported.findings:
        findings.add_row(str(finding.line), finding.kind, finding.clause, finding.text)
    console.print(findings)
    console.print("To complete, before a run reads the policy:")
    for point in imported.open_points:
        console.print(f"  • {point}", highlight=False)
    if also_at:
        console.print(f"  • {imported.policy_id} stands in {also_at} too: import with another --id, or make this a revision of it",
                      highlight=False)  # fmt: skip
    console.print(f"policy          {policy_path}", highlight=False, soft_wrap=True)
    console.print(f"reconciliation  {report_path}", highlight=False, soft_wrap=True)


def show_lint(policies: list[Policy], findings: list[LintFinding], patterns: int, books: dict[str, CodeBook]) -> None:
    """What to change, or that nothing is."""
    console = output_console()
    if findings:
        table = _table("policy", "revision", "clause", "pattern", "finding", "what to change")
        for item in findings:
            clause = item.clause if item.reading == "as_published" else f"{item.clause} ({item.reading})"
            row = (item.policy, item.revision, clause, item.pattern, f"{item.kind}: {item.text}", item.change)
            table.add_row(*row)
        console.print(table)
    known = ", ".join(
        f"{SYSTEMS[system]} ({len(book.codes):,} codes, {book.first_year} to {book.last_year})"
        for system, book in books.items()
    )
    told = f"{len(findings)} to change" if findings else "nothing to change"
    console.print(f"{counted(policies)}, {patterns} patterns looked up in {known}: {told}", highlight=False)


def counted(policies: list[Policy]) -> str:
    """How many policies, in words."""
    return f"{len(policies)} {'policy' if len(policies) == 1 else 'policies'}"


def show_changes(policy: Policy, before: Revision, after: Revision, found: list[Change]) -> None:
    """What changed, in words and clauses."""
    console = output_console()
    console.print(headed(policy.id, f"  from revision {before.name} to {after.name}"), highlight=False)
    if not found:
        console.print("nothing changed", highlight=False)
        return
    table = _table("reading", "clause", "what", "from", "to")
    for change in found:
        shown = (change.before, change.after) if change.kind in ("words", "missing", "coding", "in_force") else ("", "")
        table.add_row(*(change.reading, change.clause, change.text, *shown))
    console.print(table)
    judging = sum(change.judges for change in found)
    console.print(f"{len(found)} changes; {judging} of them can change a verdict", highlight=False)


def show_effect(policy: Policy, effect: list[dict[str, Any]], by_area: list[dict[str, Any]]) -> None:
    """Records that enter and leave, a row a reading and year; under the default reading also the areas that it changes."""
    table = _table("reading", "year", title="The same records judged by both revisions")
    for name in ("in scope", "flagged before", "flagged after", "enter", "leave"):
        table.add_column(name, justify="right")
    for row in effect:
        star = " (default)" if row["reading"] == policy.default_reading else ""
        scope = f"{row['in_scope_before']:,}"
        if row["in_scope_after"] != row["in_scope_before"]:
            scope += f" → {row['in_scope_after']:,}"
        counts = [f"{row[name]:,}" for name in ("flagged_before", "flagged_after", "enter", "leave")]
        table.add_row(row["reading"] + star, row["financial_year"], scope, *counts)
    output_console().print(table)
    changed = [r for r in by_area if r["reading"] == policy.default_reading and r["enter"] + r["leave"]]
    if not changed:
        return
    areas = _table("area", "year", title=f"Areas that change, {policy.default_reading}")
    for name in ("flagged before", "flagged after", "enter", "leave"):
        areas.add_column(name, justify="right")
    for row in sorted(changed, key=lambda r: (r["area_code"] or "", r["financial_year"])):
        counts = [f"{row[name]:,}" for name in ("flagged_before", "flagged_after", "enter", "leave")]
        areas.add_row(row["area_code"] or "not known", row["financial_year"], *counts)
    output_console().print(areas)


def _table(*columns: str, title: str | None = None) -> RichTable:
    table = RichTable(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name == "line" else "left")
    return table
