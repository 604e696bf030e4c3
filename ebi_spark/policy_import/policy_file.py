"""Write an imported page as a policy file, and the reconciliation of its words with its SQL as Markdown."""

import json
import re
import textwrap
from typing import Any

from ebi_spark.policies.code_books import is_covered
from ebi_spark.policies.codes_in_words import ranges_in
from ebi_spark.policies.model import Test, document_of
from ebi_spark.policies.patterns import AGE_FIELDS
from ebi_spark.policies.simplify import leaves
from ebi_spark.policy_import.page import MONTH, Page
from ebi_spark.policy_import.page_words import Words
from ebi_spark.policy_import.reconcile import KINDS, Finding
from ebi_spark.policy_import.rule_clauses import Draft

TO_COMPLETE = "TO COMPLETE"
# A revision needs a start date. This placeholder is used if the page gives none.
NO_DAY = "1900-01-01"
_WIDTH = 118
_NULL_DROPS = "The SQL's NOT LIKE or <> is UNKNOWN if the field is missing, so such records are dropped."
_NULL_KEPT = "The SQL keeps records in which the field is missing (OR … IS NULL)."


def to_complete(page: Page, drafts: list[Draft], findings: list[Finding]) -> list[str]:
    """What the page does not say and a person has to decide, one line each. Runs refuse the policy until all are done."""
    several = len(set(MONTH.findall(page.updated))) > 1 and "coding updated" not in page.updated.lower()
    latest = ", the latest of several" if several else ""
    day = (
        f"in_force: the page gives only the month ({page.revised:%B %Y}{latest}); its first day is assumed"
        if page.revised
        else f"in_force and the revision's name: the page gives no month; {NO_DAY} is a placeholder"
    )
    # Findings of the kinds from "precedence" on are for information.
    open_kinds = KINDS[: KINDS.index("precedence")]
    number = sum(finding.kind in open_kinds for finding in findings)
    lines = [
        "source: who published the page, and where",
        f"scope: check that clause {drafts[0].id} is what decides which records the policy is about",
        day,
        "readings: as_intended and guidance_coded equal as_published until you write their decisions, each with its reason",
        "default_reading: as_published is assumed",
    ]
    plural = "s" * (number > 1)
    return lines + ([f"reconciliation: {number} difference{plural} between words and SQL to resolve"] if number else [])


def policy_text(
    page: Page, policy_id: str, dataset: str, drafts: list[Draft], words: Words, open_points: list[str]
) -> str:
    """The YAML of the policy, with a comment wherever something has to be completed."""
    updated = page.updated or "undated"
    lines = [
        f"# Imported from {page.path.name} by `ebi-spark policy import`. {TO_COMPLETE} marks what the page does not say. The",
        "# reconciliation of its words with its SQL is in the same folder.",
        f"id: {policy_id}",
        f"title: {_scalar(page.title)}",
        f"dataset: {dataset}",
        "source:",
        f"  publisher: {TO_COMPLETE}",
        f"  page: {_scalar(page.title)}",
        *_text("updated", updated, "  "),
        f"default_reading: as_published  # {TO_COMPLETE}: the reading that is published below England",
        "to_complete:  # delete each line when it is done; runs refuse the policy until none is left",
        *(f"  - {_scalar(point)}" for point in open_points),
        "revisions:",
        f"  - revision: {_scalar(f'{page.revised:%Y-%m}' if page.revised else 'undated')}",
        f"    in_force: {{from: {page.revised or NO_DAY}}}  # {TO_COMPLETE}: the day",
        *(["    baseline:  # past activity as stated on the page"] if page.baseline else []),
        *(f"      {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in page.baseline.items()),
        "    clauses:",
    ]
    for draft in drafts:
        lines += _clause(draft, words)
    lines += [
        f'    # {TO_COMPLETE}: readings, as the README\'s "Add a policy" shows.',
    ]
    return "\n".join(lines) + "\n"


def _clause(draft: Draft, words: Words) -> list[str]:
    pad = "        "
    lines = [f"      - use: {draft.use}"] if draft.use else [f"      - id: {draft.id}"]
    if draft.scope:
        lines.append(f"{pad}scope: true  # {TO_COMPLETE}: does this decide which records the policy is about?")
    if draft.use:
        # If the page's SQL treats missing values differently, the words of the shared clause would be wrong.
        if draft.as_shared:
            return lines
        lines += _text("words", clause_words(draft, words), pad)
        lines.append(f"{pad}missing: {draft.missing}")
        return lines + _text("because", _NULL_KEPT if draft.missing == "passes" else _NULL_DROPS, pad)
    lines += _text("words", clause_words(draft, words), pad)
    lines += _test(draft.kind, draft.test, pad)
    if not draft.scope and (draft.kind == "exclude" or draft.missing == "passes"):
        lines.append(f"{pad}missing: {draft.missing}")
        lines += _text("because", _NULL_KEPT if draft.missing == "passes" else _NULL_DROPS, pad)
    return lines


def clause_words(draft: Draft, words: Words) -> str:
    """The page's words for a clause: from its coding logic, its ages or its lists; otherwise the SQL itself."""
    codes = {code for leaf in leaves(draft.test) for code in leaf.codes}
    best, most = "", 0
    for item in words.logic:
        common = sum(any(code.startswith(named) or named.startswith(code) for code in codes) for named in item.codes)
        if item.kind == draft.kind and common > most:
            best, most = item.text, common
    if best:
        return best
    if set(draft.fields) <= set(AGE_FIELDS) and words.ages:
        age = words.ages[-1]
        return f"{words.lines[age.line]} (SQL: {draft.sql})"
    listed = [item for item in words.listed if item.kind == draft.kind
              and any(code.startswith(item.code) or item.code.startswith(code) for code in codes)]  # fmt: skip
    if listed:
        return "; ".join(words.lines[item.line] for item in listed)
    sql = f"SQL, line {draft.line}: {draft.sql}"
    # The ranges that a page states are what the classes in its SQL mean, though some codes in them never occur.
    stated = [text for text in words.lines.values() if any(is_covered(code[:3], (), ranges_in(text)) for code in codes)]
    return f"{' '.join(stated)} ({sql})" if stated else sql


def _scalar(text: str) -> str:
    """A text as one YAML scalar, in quotation marks wherever YAML could read a plain one differently."""
    simple = re.fullmatch(r"[A-Za-z][\w ,;()/.'’“”–-]*", text) and not re.search(r":\s|\s#|[\s.]$", text + "|"[:0])
    return text if simple and text.lower() not in ("true", "false", "null", "yes", "no", "on", "off") else \
        json.dumps(text, ensure_ascii=False)  # fmt: skip


def _text(key: str, text: str, pad: str) -> list[str]:
    """``key: text``, wrapped if it is long."""
    whole = f"{pad}{key}: {_scalar(text)}"
    if len(whole) <= _WIDTH:
        return [whole]
    wrapped = textwrap.wrap(text, _WIDTH - len(pad) - 2, break_long_words=False, break_on_hyphens=False)
    return [f"{pad}{key}: >-", *(f"{pad}  {line}" for line in wrapped)]


def _test(key: str, test: Test, pad: str) -> list[str]:
    """A test on one line (YAML flow style) if it fits, otherwise in block style."""
    document = document_of(test)
    flow = f"{pad}{key}: {_flow(document)}"
    if len(flow) <= _WIDTH:
        return [flow]
    return [f"{pad}{key}:", *_block(document, pad + "  ")]


def _block(document: dict[str, Any], pad: str) -> list[str]:
    lines: list[str] = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{pad}{key}:")
            for item in value:
                one = f"{pad}  - {_flow(item)}"
                if len(one) <= _WIDTH:
                    lines.append(one)
                else:
                    inner = _block(item, pad + "    ")
                    lines += [f"{pad}  - {inner[0].strip()}", *inner[1:]]
        else:
            lines += _list(key, value, pad)
    return lines


def _list(key: str, value: Any, pad: str) -> list[str]:
    whole = f"{pad}{key}: {_flow(value)}"
    if len(whole) <= _WIDTH or not isinstance(value, list):
        return [whole]
    wrapped = textwrap.wrap(_flow(value), _WIDTH - len(pad) - 2, break_long_words=False, break_on_hyphens=False)
    return [f"{pad}{key}:", *(f"{pad}  {' ' if number else ''}{line}" for number, line in enumerate(wrapped))]


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(json.dumps(item) if isinstance(item, str) else _flow(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def reconciliation_text(page: Page, policy_id: str, drafts: list[Draft], findings: list[Finding], words: Words) -> str:
    """The reconciliation as Markdown."""
    lines = [
        f"# {policy_id}: words and SQL of the page",
        "",
        f"{page.title}. {page.updated or 'The page gives no date'}. Read from `{page.path.name}`, to which line numbers refer.",
        "",
        "## Clauses read from the SQL",
        "",
        "| Line | Clause | Missing | SQL |",
        "|---|---|---|---|",
        *(f"| {d.line} | {d.id} | {'not in scope' if d.scope else d.missing} | `{_cell(d.sql)}` |" for d in drafts),
        "",
        "## Findings",
        "",
    ]
    if not findings:
        lines.append("None: the words and the SQL agree.")
    for kind in KINDS:
        findings_of_kind = [finding for finding in findings if finding.kind == kind]
        if findings_of_kind:
            title = findings_of_kind[0].title
            lines += [f"### {title[0].upper()}{title[1:]}", ""]
            lines += [
                f"- line {f.line}{f', `{f.clause}`' if f.clause else ''}: {_cell(f.text)}" for f in findings_of_kind
            ]
            lines.append("")
    if page.baseline:
        lines += ["## Past activity as stated on the page", ""]
        lines += [f"- {name.replace('_', ' ')}: {_cell(_figure(value))}" for name, value in page.baseline.items()]
        lines.append("")
    if words.informational:
        by_line: dict[int, list[str]] = {}
        for item in words.informational:
            by_line.setdefault(item.line, []).append(item.code)
        lines += [
            "## Codes that the page gives for information",
            "",
            "The rule need not contain them, so they are not compared with the SQL.",
            "",
        ]
        lines += [f"- line {n}: {', '.join(codes)}" for n, codes in by_line.items()]
    return "\n".join(lines).rstrip() + "\n"


def _figure(value: Any) -> str:
    return (
        "; ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
