"""Import a published coding page: read it, compare its words with its SQL, and write the policy file and the reconciliation,
or neither."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ebi_spark.errors import InputError
from ebi_spark.policies.code_books import code_books
from ebi_spark.policies.load import load_policy, shared_clauses
from ebi_spark.policies.model import Policy, Test
from ebi_spark.policy_import.page import Page, SqlPart, is_sql, read_page
from ebi_spark.policy_import.page_words import Words, read_words
from ebi_spark.policy_import.policy_file import policy_text, reconciliation_text, to_complete
from ebi_spark.policy_import.reconcile import Finding, reconcile
from ebi_spark.policy_import.rule_clauses import Draft, draft_clauses
from ebi_spark.policy_import.sql_columns import aliases_in, binding_for, dataset_of, dataset_of_alias, dataset_of_page
from ebi_spark.policy_import.tsql_parse import Refused
from ebi_spark.policy_import.tsql_rule import Condition, Note, RuleReader
from ebi_spark.policy_import.typography import repaired_line


@dataclass(frozen=True)
class Imported:
    """A page after it has been read: its clauses, what its words and SQL disagree on, and the text of both files."""

    page: Page
    policy_id: str
    dataset: str
    drafts: list[Draft]
    findings: list[Finding]
    open_points: list[str]
    policy_yaml: str
    reconciliation: str


def import_page(path: Path, policy_id: str | None = None) -> Imported:
    """Read the page in ``path`` as a policy; nothing is written. ``policy_id`` replaces the label after ``THEN``.

    An :class:`InputError` names the line that cannot be read, the reason and the remedy.
    """
    page = read_page(path)
    try:
        return _imported(page, policy_id)
    except RecursionError:
        raise page.refusal(
            page.parts[0].line,
            "the SQL is nested too deeply to be read",
            "remove brackets and NOTs that have no effect",
        ) from None


def _imported(page: Page, policy_id: str | None) -> Imported:
    chosen_id = _id(page, policy_id)
    dataset = dataset_of_page(page)
    reader = RuleReader(page, binding_for(dataset))
    conditions: list[Condition] = []
    for number, part in enumerate(page.parts):
        if number and _of_other_dataset(part, dataset):
            first = part.text.strip().splitlines()[0].strip()
            text = f"a part for the other dataset, below {part.heading!r}: {first}"
            reader.notes.append(Note(part.line, "not taken over", text))
            continue
        conditions += reader.conditions(number, part)
    drafts = draft_clauses(conditions, shared_clauses())
    if not drafts or not drafts[0].scope:
        raise page.refusal(
            page.parts[0].line,
            "no condition requires a procedure, so nothing can be the scope of the policy",
            "add the condition on the procedure to the rule: it decides which records the policy is about",
        )
    words = read_words(page)
    findings = reconcile(page, words, drafts, reader.notes, _fragments(page, words, reader), code_books())
    open_points = to_complete(page, drafts, findings)
    return Imported(
        page=page,
        policy_id=chosen_id,
        dataset=dataset,
        drafts=drafts,
        findings=findings,
        open_points=open_points,
        policy_yaml=policy_text(page, chosen_id, dataset, drafts, words, open_points),
        reconciliation=reconciliation_text(page, chosen_id, drafts, findings, words),
    )


def write_imported(imported: Imported, folder: Path) -> tuple[Path, Path, Policy]:
    """Write the policy file and the reconciliation to ``folder``; return both paths and the loaded policy.

    An :class:`InputError` refuses to overwrite an existing file, and nothing is written if the policy cannot be loaded.
    """
    policy_path = folder / f"{imported.policy_id}.yml"
    report_path = folder / f"{imported.policy_id}.reconciliation.md"
    for path in (policy_path, report_path):
        if path.exists():
            raise InputError(
                f"import: {path} already exists", remedy="give another --out or --id, or move the file away"
            )
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch) / policy_path.name
        trial.write_text(imported.policy_yaml, encoding="utf-8")
        policy = load_policy(trial, shared_clauses())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        policy_path.write_text(imported.policy_yaml, encoding="utf-8")
        report_path.write_text(imported.reconciliation, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"import: {folder} cannot be written to ({type(error).__name__})", remedy="give another --out"
        ) from None
    return policy_path, report_path, policy


def _id(page: Page, given: str | None) -> str:
    chosen = given or page.label
    if not chosen:
        raise page.refusal(
            page.parts[0].line, "the SQL has no THEN '…', so the policy has no name", "give the policy an id with --id"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", chosen):
        raise InputError(
            f"import: {chosen!r} cannot be a policy id", remedy="give an --id of letters, digits and underscores"
        )
    return chosen


def _of_other_dataset(part: SqlPart, dataset: str) -> bool:
    """Whether both the heading and the aliases of a part say that it is an exclusion for the other dataset."""
    named = dataset_of(part.heading)
    return named not in (None, dataset) and {dataset_of_alias(alias) for alias in aliases_in(part.text)} == {named}


def _fragments(page: Page, words: Words, reader: RuleReader) -> dict[int, list[Test] | None]:
    """Conditions of SQL that appear among the words, as tests by line; None where a line cannot be read."""
    found: dict[int, list[Test] | None] = {}
    for line, raw in words.lines.items():
        text, _ = repaired_line(raw, line)
        if not is_sql(text):
            continue
        separate_reader = RuleReader(page, reader.binding)  # its notes are not part of the reconciliation
        try:
            found[line] = [condition.test for condition in separate_reader.conditions(-1, SqlPart(line, text, ""))]
        except Refused:
            found[line] = None
    return found
