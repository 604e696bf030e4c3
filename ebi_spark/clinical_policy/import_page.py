"""From a published coding page to a policy file and a reconciliation: read, compare, write both or nothing."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ebi_spark.clinical_policy.code_books import code_books
from ebi_spark.clinical_policy.forms import Test, simplified
from ebi_spark.clinical_policy.load import load_policy, shared_clauses
from ebi_spark.clinical_policy.model import Policy
from ebi_spark.clinical_policy.page import Page, SqlPart, is_sql, read_page
from ebi_spark.clinical_policy.page_words import Words, words_of
from ebi_spark.clinical_policy.policy_file import policy_text, reconciliation_text, to_complete
from ebi_spark.clinical_policy.reconcile import Finding, reconciled
from ebi_spark.clinical_policy.rule_clauses import Draft, drafts_of
from ebi_spark.clinical_policy.sql_columns import aliases_in, binding_for, dataset_of, dataset_of_alias, dataset_of_page
from ebi_spark.clinical_policy.tsql_parse import Refused
from ebi_spark.clinical_policy.tsql_rule import Condition, Note, RuleReader
from ebi_spark.clinical_policy.typography import mended_line
from ebi_spark.errors import InputError


@dataclass(frozen=True)
class Imported:
    """What a page became."""

    page: Page
    policy_id: str
    dataset: str
    drafts: list[Draft]
    findings: list[Finding]
    open_points: list[str]
    policy_yaml: str
    reconciliation: str


def import_page(path: Path, policy_id: str | None = None) -> Imported:
    """The page in ``path`` as a policy; an :class:`InputError` names the line that cannot be read, and why."""
    page = read_page(path)
    try:
        return _imported(page, policy_id)
    except RecursionError:
        raise page.refusal(
            page.parts[0].line,
            "the SQL is nested too deep to be read",
            "take out brackets or NOTs that say nothing",
        ) from None


def _imported(page: Page, policy_id: str | None) -> Imported:
    chosen_id = _id(page, policy_id)
    dataset = dataset_of_page(page)
    reader = RuleReader(page, binding_for(dataset))
    conditions: list[Condition] = []
    for number, part in enumerate(page.parts):
        if number and _of_other_dataset(part, dataset):
            first = part.text.strip().splitlines()[0].strip()
            text = f"a part on the other dataset, under {part.heading!r}: {first}"
            reader.notes.append(Note(part.line, "not taken over", text))
            continue
        conditions += reader.conditions(number, part)
    drafts = drafts_of(conditions, shared_clauses())
    if not drafts or not drafts[0].scope:
        raise page.refusal(
            page.parts[0].line,
            "no condition asks for a procedure, so nothing can be the scope of the policy",
            "a policy starts from records that have its procedure: add that condition to the rule",
        )
    words = words_of(page)
    findings = reconciled(page, words, drafts, reader.notes, _fragments(page, words, reader), code_books())
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
    """Both files in ``folder``, and the policy as the loader reads it. Files that are there are left, the call refused."""
    policy_path = folder / f"{imported.policy_id}.yml"
    report_path = folder / f"{imported.policy_id}.reconciliation.md"
    for path in (policy_path, report_path):
        if path.exists():
            raise InputError(
                f"import: {path} is there already", remedy="name another --out or --id, or move the file away"
            )
    with tempfile.TemporaryDirectory() as scratch:
        tried = Path(scratch) / policy_path.name
        tried.write_text(imported.policy_yaml, encoding="utf-8")
        policy = load_policy(tried, shared_clauses())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        policy_path.write_text(imported.policy_yaml, encoding="utf-8")
        report_path.write_text(imported.reconciliation, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"import: {folder} cannot be written to ({type(error).__name__})", remedy="name another --out"
        ) from None
    return policy_path, report_path, policy


def _id(page: Page, given: str | None) -> str:
    chosen = given or page.label
    if not chosen:
        raise page.refusal(
            page.parts[0].line, "the SQL has no THEN '…', so the policy has no name", "give one with --id"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", chosen):
        raise InputError(f"import: {chosen!r} is no policy id", remedy="use letters, digits and underscores")
    return chosen


def _of_other_dataset(part: SqlPart, dataset: str) -> bool:
    """Whether a part is, by its heading and by its aliases, the other dataset's twin of an exclusion."""
    named = dataset_of(part.heading)
    return named not in (None, dataset) and {dataset_of_alias(alias) for alias in aliases_in(part.text)} == {named}


def _fragments(page: Page, words: Words, reader: RuleReader) -> dict[int, Test | None]:
    """Conditions of SQL among the words, as tests by line."""
    found: dict[int, Test | None] = {}
    for line, raw in words.lines.items():
        text, _ = mended_line(raw, line)
        if not is_sql(text):
            continue
        quiet = RuleReader(page, reader.binding)
        try:
            conditions = quiet.conditions(-1, SqlPart(line, text, ""))
        except Refused:
            found[line] = None
            continue
        for condition in conditions:
            found[line] = simplified(condition.test)
    return found
