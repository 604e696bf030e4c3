"""An imported page written down: the policy file, and the reconciliation that stands beside it."""

import json
import re
import textwrap
from collections.abc import Iterable
from typing import Any

from ebi_spark.policies.code_books import covered
from ebi_spark.policies.codes_in_words import ranges_in
from ebi_spark.policies.patterns import AGE_FIELDS, OPERATORS
from ebi_spark.policies.simplify import Test
from ebi_spark.policy_import.page import MONTH, Page
from ebi_spark.policy_import.page_words import Words
from ebi_spark.policy_import.reconcile import KINDS, Finding
from ebi_spark.policy_import.rule_clauses import Draft

TO_COMPLETE = "TO COMPLETE"
# A revision needs a day; where the page has none this one stands until it is completed.
NO_DAY = "1900-01-01"
_WIDTH = 118
_NULL_DROPS = "The SQL's bare NOT LIKE or <> is UNKNOWN where the field is missing, so the record drops."
_NULL_KEPT = "The SQL keeps a record without the field: OR … IS NULL."


def to_complete(page: Page, drafts: list[Draft], findings: list[Finding]) -> list[str]:
    """What the page could not say, a line each: no run reads the policy before each is settled."""
    several = len(set(MONTH.findall(page.updated))) > 1 and "coding updated" not in page.updated.lower()
    last = ", the last of several" if several else ""
    day = (
        f"in_force: the page names the month only ({page.revised:%B %Y}{last}); its first day is assumed"
        if page.revised
        else f"in_force and the revision's name: the page names no month; {NO_DAY} is a placeholder"
    )
    # Mends, precedence and the like are told, not settled.
    open_kinds = KINDS[: KINDS.index("precedence")]
    settle = sum(finding.kind in open_kinds for finding in findings)
    lines = [
        "source: who published the page, and where",
        f"scope: clause {drafts[0].id} decides which records get a row at all",
        day,
        "readings: as_intended and guidance_coded are as published until their decisions are written, each with its reason",
        "default_reading: as_published is assumed",
    ]
    return lines + ([f"reconciliation: {settle} differences between words and SQL to settle"] if settle else [])


def policy_text(
    page: Page, policy_id: str, dataset: str, drafts: list[Draft], words: Words, open_points: list[str]
) -> str:
    """The YAML of the policy, comments where something is to be completed."""
    updated = page.updated or "undated"
    lines = [
        f"# Read from {page.path.name} by `ebi-spark policy import`. {TO_COMPLETE} marks what the page cannot say; the",
        "# reconciliation of its words with its SQL stands beside this file.",
        f"id: {policy_id}",
        f"title: {_scalar(page.title)}",
        f"dataset: {dataset}",
        "source:",
        f"  publisher: {TO_COMPLETE}",
        f"  page: {_scalar(page.title)}",
        *_text("updated", updated, "  "),
        f"default_reading: as_published  # {TO_COMPLETE}: the reading that is published below England",
        "to_complete:  # delete each line once it is settled; until then no run reads the policy",
        *(f"  - {_scalar(point)}" for point in open_points),
        "revisions:",
        f"  - revision: {_scalar(f'{page.revised:%Y-%m}' if page.revised else 'undated')}",
        f"    in_force: {{from: {page.revised or NO_DAY}}}  # {TO_COMPLETE}: the day",
        *(["    baseline:  # the page's own figures of past activity"] if page.baseline else []),
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
        lines.append(f"{pad}scope: true  # {TO_COMPLETE}: is this what decides which records get a row?")
    if draft.use:
        # Where the page's SQL treats a missing value otherwise, the shared clause's words would be wrong.
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
    """The page's words for a clause: of its coding logic, its lists or its ages; else the SQL itself."""
    codes = set(_codes_of(draft.test))
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
    # The ranges that a page states are what its classes mean, also where codes in them never occur.
    stated = [text for text in words.lines.values() if any(covered(code[:3], (), ranges_in(text)) for code in codes)]
    return f"{' '.join(stated)} ({sql})" if stated else sql


def _codes_of(test: Test) -> Iterable[str]:
    for key in ("any_of", "all_of", "none_of"):
        for item in test.get(key, ()):
            yield from _codes_of(item)
    for key in OPERATORS:
        yield from test.get(key, ())


def _scalar(text: str) -> str:
    """A text as one YAML scalar; quoted wherever a plain one could be read otherwise."""
    simple = re.fullmatch(r"[A-Za-z][\w ,;()/.'’“”–-]*", text) and not re.search(r":\s|\s#|[\s.]$", text + "|"[:0])
    return text if simple and text.lower() not in ("true", "false", "null", "yes", "no", "on", "off") else \
        json.dumps(text, ensure_ascii=False)  # fmt: skip


def _text(key: str, text: str, pad: str) -> list[str]:
    """``key: text``, folded where it is long."""
    whole = f"{pad}{key}: {_scalar(text)}"
    if len(whole) <= _WIDTH:
        return [whole]
    wrapped = textwrap.wrap(text, _WIDTH - len(pad) - 2, break_long_words=False, break_on_hyphens=False)
    return [f"{pad}{key}: >-", *(f"{pad}  {line}" for line in wrapped)]


def _test(key: str, test: Test, pad: str) -> list[str]:
    """A test in flow form where it fits a line, else in block form."""
    flow = f"{pad}{key}: {_flow(test)}"
    if len(flow) <= _WIDTH:
        return [flow]
    return [f"{pad}{key}:", *_block(test, pad + "  ")]


def _block(test: Test, pad: str) -> list[str]:
    lines: list[str] = []
    for key, value in test.items():
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
        f"{page.title}. {page.updated or 'The page names no date'}. Read from `{page.path.name}`; lines are its own.",
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
        lines.append("None: words and SQL say the same.")
    for kind in KINDS:
        of_kind = [finding for finding in findings if finding.kind == kind]
        if of_kind:
            lines += [f"### {kind[0].upper()}{kind[1:]}", ""]
            lines += [f"- line {f.line}{f', `{f.clause}`' if f.clause else ''}: {_cell(f.text)}" for f in of_kind]
            lines.append("")
    if page.baseline:
        lines += ["## The page's own figures of past activity", ""]
        lines += [f"- {name.replace('_', ' ')}: {_cell(_stated(value))}" for name, value in page.baseline.items()]
        lines.append("")
    if words.informational:
        of_line: dict[int, list[str]] = {}
        for item in words.informational:
            of_line.setdefault(item.line, []).append(item.code)
        lines += [
            "## Codes that the page gives for information",
            "",
            "The rule need not have them, and they are not compared.",
            "",
        ]
        lines += [f"- line {n}: {', '.join(codes)}" for n, codes in of_line.items()]
    return "\n".join(lines).rstrip() + "\n"


def _stated(value: Any) -> str:
    return (
        "; ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
