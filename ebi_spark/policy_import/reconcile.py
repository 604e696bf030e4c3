"""Compare the words of a page with its SQL: list what one says and the other does not, with the page's line numbers."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ebi_spark.policies.code_books import SYSTEM_OF, SYSTEMS, CodeBook, is_covered
from ebi_spark.policies.model import AgeRange, NoneOf, Test
from ebi_spark.policies.patterns import AGE_FIELDS
from ebi_spark.policies.simplify import Leaf, leaves, normal_test, simplified
from ebi_spark.policy_import.page import Page
from ebi_spark.policy_import.page_words import Words
from ebi_spark.policy_import.rule_clauses import Draft
from ebi_spark.policy_import.tsql_rule import Note

_SYSTEM_WORDS = {"icd10": "diagnosis", "opcs4": "procedure"}
_POSITION = {
    ("dominant", "procedure"): "dominant_procedure",
    ("primary", "diagnosis"): "primary_diagnosis",
    ("any", "procedure"): "any_procedure",
    ("any", "diagnosis"): "any_diagnosis",
}
# The kinds of findings, in the order in which they are listed. Those before "precedence" have to be resolved by a person.
KINDS = (
    "in the SQL, not in the words",
    "in the words, not in the SQL",
    "wider than the words",
    "narrower than the words",
    "position",
    "missing values",
    "precedence",
    "unbound alias",
    "not taken over",
    "read as",
    "repaired",
)
# How people see a kind, where its name alone does not say enough.
_TITLES = {
    "position": "position of a code",
    "precedence": "AND and OR without brackets",
    "unbound alias": "alias of another table",
    "not taken over": "left out",
    "read as": "how the page was read",
    "repaired": "repaired typing and typesetting",
}


@dataclass(frozen=True)
class Finding:
    """One difference to resolve, or one thing to know. ``line`` is the page's line; ``clause`` is the id of the policy's
    clause, or empty if the finding is not about a clause."""

    kind: str
    line: int
    clause: str
    text: str

    @property
    def title(self) -> str:
        """The kind as people see it."""
        return _TITLES.get(self.kind, self.kind)

    def as_dict(self) -> dict[str, Any]:
        """The finding as ``--json`` prints it."""
        return asdict(self)


def reconcile(
    page: Page,
    words: Words,
    drafts: list[Draft],
    notes: Iterable[Note],
    fragments: dict[int, list[Test] | None],
    books: dict[str, CodeBook],
) -> list[Finding]:
    """All findings, sorted by :data:`KINDS` and then by line.

    ``fragments`` are SQL conditions that appear among the words, by line; None where a line cannot be read.
    """
    found = [
        *_codes(words, drafts, books),
        *_ages(words, drafts),
        *_other_clauses(page, words, drafts),
        *_logic(words, drafts, fragments),
        *_nulls(drafts),
        *_aliases(notes),
        *(Finding(_kind(note), note.line, "", note.text) for note in notes if note.kind != "unbound alias"),
        *_repairs(page),
    ]
    return sorted(dict.fromkeys(found), key=lambda item: (KINDS.index(item.kind), item.line))


def _kind(note: Note) -> str:
    return note.kind if note.kind in KINDS else "read as"


def _repairs(page: Page) -> Iterator[Finding]:
    by_what: dict[str, list[int]] = {}
    for repair in page.repairs:
        by_what.setdefault(repair.what, []).append(repair.line)
    for what, lines in by_what.items():
        yield Finding("repaired", lines[0], "", f"{what} (line{'s' * (len(lines) > 1)} {_numbered(lines)})")


def _numbered(lines: Iterable[int]) -> str:
    """Line numbers as a text, with consecutive ones shortened: 16, 20–31."""
    runs: list[list[int]] = []
    for line in sorted(set(lines)):
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _aliases(notes: Iterable[Note]) -> Iterator[Finding]:
    by_alias: dict[str, list[Note]] = {}
    for note in notes:
        if note.kind == "unbound alias":
            by_alias.setdefault(note.text.partition(".")[0], []).append(note)
    for alias, listed in by_alias.items():
        lines = _numbered([note.line for note in listed])
        reason = listed[0].text.partition(": ")[2]
        yield Finding("unbound alias", listed[0].line, "", f"{alias} (line{'s' * (len(listed) > 1)} {lines}): {reason}")


def _named(words: Words, system: str, kind: str, books: dict[str, CodeBook]) -> dict[str, int]:
    """The codes of a system (a key of :data:`SYSTEMS`) that the words require or exclude (``kind``), with their lines."""
    titles = {item.code: words.titles.get(item.line, "") for item in (*words.listed, *words.informational)}
    named = [
        (code, item.line, item.system, titles.get(code))
        for item in words.logic
        if item.kind == kind
        for code in item.codes
    ]
    named += [
        (item.code, item.line, item.system, words.titles.get(item.line, ""))
        for item in words.listed
        if item.kind == kind
    ]
    return {code: line for code, line, heading, title in named if system in _systems(code, heading, title, books)}


def _systems(code: str, heading: str, title: str | None, books: dict[str, CodeBook]) -> tuple[str, ...]:
    """The systems to which a code in the words can belong.

    - A code under a heading belongs to the system of that heading.
    - Exception: if that system does not have the code, it belongs to the other system, provided that the page gives no title
      for it (as in a sentence of the logic) or that the title shares a word with the other system's title.
    - Without a heading, it belongs to the systems that have the code. If both have it, the page's title for it decides,
      if it can.
    """
    by_heading = tuple(system for system, word in _SYSTEM_WORDS.items() if word == heading)
    known = tuple(system for system in books if books[system].found("starts_with", code))
    if by_heading and (not known or by_heading[0] in known):
        return by_heading
    if by_heading and title is not None and not _shared_words(title, books[known[0]], code):
        return by_heading
    if len(known) < 2:
        return known or tuple(books)[:1]
    shared = {system: _shared_words(title or "", books[system], code) for system in known}
    return tuple(system for system in known if shared[system] == max(shared.values()))


# Words that occur in the titles of both systems.
_IN_BOTH = {"other", "unspecified", "specified", "with", "without", "from", "elsewhere", "classified"}


def _shared_words(title: str, book: CodeBook, code: str) -> int:
    words = _distinctive(title)
    return max((len(words & _distinctive(found.title)) for found in book.found("starts_with", code)), default=0)


def _distinctive(title: str) -> set[str]:
    return set(re.findall(r"[a-z]{4,}", title.lower())) - _IN_BOTH


def _side(draft: Draft, leaf: Leaf) -> str:
    return "require" if (draft.kind == "require") == leaf.positive else "exclude"


def _codes(words: Words, drafts: list[Draft], books: dict[str, CodeBook]) -> Iterator[Finding]:
    matched: dict[tuple[str, str], set[str]] = {}
    for draft in drafts:
        for leaf in leaves(draft.test):
            if leaf.field not in SYSTEM_OF:
                continue
            system, side = SYSTEM_OF[leaf.field], _side(draft, leaf)
            hits = {c.code for pattern in leaf.codes for c in books[system].found(leaf.operator, pattern, leaf.left)}
            matched.setdefault((system, side), set()).update(hits)
            named = _named(words, system, side, books)
            if not named and not words.ranges and not (draft.use and words.says("cancer")):
                text = f"the words name no {SYSTEMS[system]} codes for this; the SQL has {_some(leaf.codes)}"
                yield Finding("in the SQL, not in the words", draft.line, draft.id, text)
                continue
            if draft.use and words.says("cancer"):
                continue
            if wider := sorted(code for code in hits if not is_covered(code, named, words.ranges)):
                text = f"the SQL finds {_titled(wider, books[system])}, which the words do not name"
                yield Finding("wider than the words", draft.line, draft.id, text)
    for system, side in [(system, side) for system in _SYSTEM_WORDS for side in ("require", "exclude")]:
        for code, line in _named(words, system, side, books).items():
            known = {c.code for c in books[system].found("starts_with", code)}
            not_matched = known - matched.get((system, side), set())
            if not known:
                which = (
                    SYSTEMS[system]
                    if any(b.found("starts_with", code) for b in books.values())
                    else " or ".join(SYSTEMS.values())
                )
                text = f"the words name {code}, which is not an {which} code in use"
                yield Finding("in the words, not in the SQL", line, "", text)
            elif not_matched == known and not _matched_in_any(code, side, matched, books):
                text = f"{_titled([code], books[system])} is {'excluded' if side == 'exclude' else 'required'} in words only"
                yield Finding("in the words, not in the SQL", line, "", text)
            elif not_matched and not_matched != known:
                text = f"the words name {code}, but the SQL leaves out {_titled(sorted(not_matched), books[system])}"
                yield Finding("narrower than the words", line, "", text)


def _matched_in_any(code: str, side: str, matched: dict[tuple[str, str], set[str]], books: dict[str, CodeBook]) -> bool:
    """Whether the SQL matches the code in either system: some codes exist in both."""
    return any(found.startswith(code) for system in books for found in matched.get((system, side), ()))


def _some(codes: Iterable[str], most: int = 8) -> str:
    listed = list(codes)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _titled(codes: list[str], book: CodeBook) -> str:
    return _some([f"{code} ({book.codes[code].title})" if code in book.codes else code for code in codes], 4)


def _ages(words: Words, drafts: list[Draft]) -> Iterator[Finding]:
    clauses = [draft for draft in drafts if set(draft.fields) & set(AGE_FIELDS)]
    for draft in clauses:
        low, high = (draft.test.low, draft.test.high) if isinstance(draft.test, AgeRange) else (None, None)
        if not words.ages:
            yield Finding("in the SQL, not in the words", draft.line, draft.id, "the words name no age")
        elif not any((age.low, age.high) == (low, high) for age in words.ages):
            named = ", ".join(f"{age.low} {'and over' if age.high is None else f'to {age.high}'} (line {age.line})"
                              for age in words.ages)  # fmt: skip
            sql = f"from {low if low is not None else 'birth'}{f' to {high}' if high is not None else ''}"
            kind = "narrower than the words" if any(age.low == low and age.high is None for age in words.ages) else \
                "in the SQL, not in the words"  # fmt: skip
            yield Finding(kind, draft.line, draft.id, f"ages {sql} in the SQL, {named} in the words")
    if words.ages and not clauses:
        yield Finding("in the words, not in the SQL", words.ages[0].line, "", f"age: {words.lines[words.ages[0].line]}")


def _other_clauses(page: Page, words: Words, drafts: list[Draft]) -> Iterator[Finding]:
    for draft in drafts:
        names = set(draft.fields) - set(SYSTEM_OF) - set(AGE_FIELDS)
        if not names:
            continue
        if "admission_method" in names and (line := words.says(r"\b(?:non-?\s?)?elective|emergency")):
            text = (
                f"the words (line {line}: {words.lines[line]}) name no methods, but the SQL does: {draft.sql}. "
                "Check that these are the methods that the words mean"
            )
            yield Finding("read as", draft.line, draft.id, text)
        elif "administrative_category" in names and words.says("private"):
            continue
        else:
            remark = draft.conditions[0].heading
            quoted = f" (a comment in the SQL says: {remark})" if remark and remark not in words.lines.values() else ""
            yield Finding("in the SQL, not in the words", draft.line, draft.id, f"{draft.sql}{quoted}")
    used = {draft.use for draft in drafts}
    for word, clause in (("cancer", "global_cancer"), ("private", "private_patient")):
        line = words.says(rf"\b{word}")
        if line and clause not in used and not any(clause == draft.id for draft in drafts):
            yield Finding(
                "in the words, not in the SQL", line, "", f"{words.lines[line]}: the SQL has no clause {clause}"
            )
    if (line := words.says(r"\bnon-?\s?elective")) and not any("admission_method" in draft.fields for draft in drafts):
        yield Finding("in the words, not in the SQL", line, "", words.lines[line])
    if line := words.says(r"\bsecondary to\b"):
        text = f"the words ask for an order of codes ({words.lines[line]}), but the SQL finds the code anywhere in the list"
        yield Finding("in the words, not in the SQL", line, "", text)
    between = [n for n in page.between if n < page.parts[-1].line]
    if between:
        text = f"lines {_numbered(between)} are between parts of the SQL and were read as words"
        yield Finding("read as", between[0], "", text)
    yield from _guidance(page, words)


def _guidance(page: Page, words: Words) -> Iterator[Finding]:
    """Conditions that the guidance lists before the coding section; the page gives no SQL for them."""
    start = min(words.lines, default=0)
    listed = {n: text.strip(" •*-\t") for n, text in page.words.items() if n < start and re.match(r"[•*]\s", text)}
    if listed:
        some = "; ".join(list(listed.values())[:6]) + ("; …" if len(listed) > 6 else "")
        text = f"{len(listed)} conditions of the guidance have no code on the page (for guidance_coded): {some}"
        yield Finding("in the words, not in the SQL", min(listed), "", text)


def _logic(words: Words, drafts: list[Draft], fragments: dict[int, list[Test] | None]) -> Iterator[Finding]:
    fields = {name for draft in drafts for name in draft.fields}
    for item in words.logic:
        wanted = _POSITION.get((item.position, item.system))
        if item.codes and wanted and wanted not in fields:
            text = f"the words ask for the {item.position} position, but no clause of the SQL tests {wanted}"
            yield Finding("position", item.line, "", text)
    in_sql = {_effective_form(draft) for draft in drafts} | {
        _form(c.test) for draft in drafts for c in draft.conditions
    }
    for line, tests in fragments.items():
        if tests is None:
            text = f"SQL among the words that cannot be read: {words.lines[line]}"
            yield Finding("in the words, not in the SQL", line, "", text)
        elif any(_form(test) not in in_sql for test in tests):
            yield Finding("in the words, not in the SQL", line, "", words.lines[line])


def _form(test: Test) -> Test:
    return normal_test(simplified(test))


def _effective_form(draft: Draft) -> Test:
    """The form of the whole condition: the negated test for an exclusion."""
    return _form(NoneOf((draft.test,)) if draft.kind == "exclude" else draft.test)


def _nulls(drafts: list[Draft]) -> Iterator[Finding]:
    for draft in drafts:
        if draft.kind != "exclude" or draft.missing != "fails":
            continue
        name = " and ".join(draft.fields)
        text = (
            f"a record without {name} is dropped: NOT LIKE, NOT IN and <> are UNKNOWN on NULL, and there is no "
            "`OR … IS NULL` to keep it"
        )
        if kept := [d.id for d in drafts if d.missing == "passes" and d.fields == draft.fields]:
            text += f"; yet the clause {kept[0]} lets it through"
        yield Finding("missing values", draft.line, draft.id, text)
