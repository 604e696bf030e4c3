"""Words and SQL of a page held against each other: what one says and the other does not, by line."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ebi_spark.policies.code_books import SYSTEM_OF, SYSTEMS, CodeBook, covered
from ebi_spark.policies.patterns import AGE_FIELDS
from ebi_spark.policies.simplify import Leaf, Test, leaves, normal_test, simplified
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
# Findings of these kinds are read in the order given, the rest after them.
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
    "mended",
)


@dataclass(frozen=True)
class Finding:
    """One thing to settle or to know. ``line`` is the page's; ``clause`` the policy's, where it is about one."""

    kind: str
    line: int
    clause: str
    text: str

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def reconciled(
    page: Page,
    words: Words,
    drafts: list[Draft],
    notes: Iterable[Note],
    fragments: dict[int, Test | None],
    books: dict[str, CodeBook],
) -> list[Finding]:
    """All findings, in the order of :data:`KINDS` and of the page.

    ``fragments`` are SQL conditions that stand among the words, by line; None where one cannot be read.
    """
    found = [
        *_codes(words, drafts, books),
        *_ages(words, drafts),
        *_other_clauses(page, words, drafts),
        *_logic(words, drafts, fragments),
        *_nulls(drafts),
        *_aliases(notes),
        *(Finding(_kind(note), note.line, "", note.text) for note in notes if note.kind != "unbound alias"),
        *_mends(page),
    ]
    return sorted(dict.fromkeys(found), key=lambda item: (KINDS.index(item.kind), item.line))


def _kind(note: Note) -> str:
    return note.kind if note.kind in KINDS else "read as"


def _mends(page: Page) -> Iterator[Finding]:
    by_what: dict[str, list[int]] = {}
    for mend in page.mends:
        by_what.setdefault(mend.what, []).append(mend.line)
    for what, lines in by_what.items():
        yield Finding("mended", lines[0], "", f"{what} (line{'s' * (len(lines) > 1)} {_numbered(lines)})")


def _numbered(lines: Iterable[int]) -> str:
    """Line numbers with runs of them made short: 16, 20–31."""
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
    """The codes that the words name for a system (one of :data:`SYSTEMS`) on one side, with their lines."""
    titles = {item.code: words.titles.get(item.line, "") for item in (*words.listed, *words.informational)}
    said = [
        (code, item.line, item.system, titles.get(code))
        for item in words.logic
        if item.kind == kind
        for code in item.codes
    ]
    said += [
        (item.code, item.line, item.system, words.titles.get(item.line, ""))
        for item in words.listed
        if item.kind == kind
    ]
    return {code: line for code, line, given, title in said if system in _systems(code, given, title, books)}


def _systems(code: str, given: str, title: str | None, books: dict[str, CodeBook]) -> tuple[str, ...]:
    """The systems that a code of the words can be of: what its heading says; where that says nothing, those that know the
    code, and where both do, the title beside the code decides if it can. A code that its heading's system does not have is of
    the other where the title is that of the other, or where no title says otherwise (in a sentence of the logic)."""
    of_heading = tuple(system for system, word in _SYSTEM_WORDS.items() if word == given)
    known = tuple(system for system in books if books[system].found("starts_with", code))
    if of_heading and (not known or of_heading[0] in known):
        return of_heading
    if of_heading and title is not None and not _shared_words(title, books[known[0]], code):
        return of_heading
    if len(known) < 2:
        return known or tuple(books)[:1]
    shared = {system: _shared_words(title or "", books[system], code) for system in known}
    return tuple(system for system in known if shared[system] == max(shared.values()))


# Words that titles of both systems have.
_IN_BOTH = {"other", "unspecified", "specified", "with", "without", "from", "elsewhere", "classified"}


def _shared_words(title: str, book: CodeBook, code: str) -> int:
    said = _telling(title)
    return max((len(said & _telling(found.title)) for found in book.found("starts_with", code)), default=0)


def _telling(title: str) -> set[str]:
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
                text = f"the words name no such {SYSTEMS[system]} codes: {_some(leaf.codes)}"
                yield Finding("in the SQL, not in the words", draft.line, draft.id, text)
                continue
            if draft.use and words.says("cancer"):
                continue
            if wider := sorted(code for code in hits if not covered(code, named, words.ranges)):
                text = f"{_titled(wider, books[system])} found by the SQL, not named in the words"
                yield Finding("wider than the words", draft.line, draft.id, text)
    for system, side in [(system, side) for system in _SYSTEM_WORDS for side in ("require", "exclude")]:
        for code, line in _named(words, system, side, books).items():
            known = {c.code for c in books[system].found("starts_with", code)}
            lost = known - matched.get((system, side), set())
            if not known:
                asked = (
                    SYSTEMS[system]
                    if any(b.found("starts_with", code) for b in books.values())
                    else " or ".join(SYSTEMS.values())
                )
                text = f"{code} stands in the words and is no {asked} code in use"
                yield Finding("in the words, not in the SQL", line, "", text)
            elif lost == known and not _either(code, side, matched, books):
                text = f"{_titled([code], books[system])} is {'excluded' if side == 'exclude' else 'asked for'} in words only"
                yield Finding("in the words, not in the SQL", line, "", text)
            elif lost and lost != known:
                text = f"of {code} in the words the SQL leaves out {_titled(sorted(lost), books[system])}"
                yield Finding("narrower than the words", line, "", text)


def _either(code: str, side: str, matched: dict[tuple[str, str], set[str]], books: dict[str, CodeBook]) -> bool:
    """Whether a code that is one of both systems is matched in the other."""
    return any(found.startswith(code) for system in books for found in matched.get((system, side), ()))


def _some(codes: Iterable[str], most: int = 8) -> str:
    listed = list(codes)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _titled(codes: list[str], book: CodeBook) -> str:
    return _some([f"{code} ({book.codes[code].title})" if code in book.codes else code for code in codes], 4)


def _ages(words: Words, drafts: list[Draft]) -> Iterator[Finding]:
    clauses = [draft for draft in drafts if set(draft.fields) & set(AGE_FIELDS)]
    for draft in clauses:
        test = draft.test
        low, high = test.get("between", [test.get("at_least"), test.get("at_most")])
        if not words.ages:
            yield Finding("in the SQL, not in the words", draft.line, draft.id, "the words name no age")
        elif not any((age.low, age.high) == (low, high) for age in words.ages):
            told = ", ".join(f"{age.low} {'and over' if age.high is None else f'to {age.high}'} (line {age.line})"
                             for age in words.ages)  # fmt: skip
            sql = f"from {low if low is not None else 'birth'}{f' to {high}' if high is not None else ''}"
            kind = "narrower than the words" if any(age.low == low and age.high is None for age in words.ages) else \
                "in the SQL, not in the words"  # fmt: skip
            yield Finding(kind, draft.line, draft.id, f"ages {sql} in the SQL, {told} in the words")
    if words.ages and not clauses:
        yield Finding("in the words, not in the SQL", words.ages[0].line, "", f"age: {words.lines[words.ages[0].line]}")


def _other_clauses(page: Page, words: Words, drafts: list[Draft]) -> Iterator[Finding]:
    for draft in drafts:
        names = set(draft.fields) - set(SYSTEM_OF) - set(AGE_FIELDS)
        if not names:
            continue
        if "admission_method" in names and (line := words.says(r"\b(?:non-?\s?)?elective|emergency")):
            text = f"the words (line {line}: {words.lines[line]}) name no methods; the SQL: {draft.sql}. Check that these are they"
            yield Finding("read as", draft.line, draft.id, text)
        elif "administrative_category" in names and words.says("private"):
            continue
        else:
            remark = draft.conditions[0].heading
            told = f" (a remark in the SQL says: {remark})" if remark and remark not in words.lines.values() else ""
            yield Finding("in the SQL, not in the words", draft.line, draft.id, f"{draft.sql}{told}")
    used = {draft.use for draft in drafts}
    for word, clause in (("cancer", "global_cancer"), ("private", "private_patient")):
        line = words.says(rf"\b{word}")
        if line and clause not in used and not any(clause == draft.id for draft in drafts):
            yield Finding(
                "in the words, not in the SQL", line, "", f"{words.lines[line]}: no clause of the SQL is {clause}"
            )
    if (line := words.says(r"\bnon-?\s?elective")) and not any("admission_method" in draft.fields for draft in drafts):
        yield Finding("in the words, not in the SQL", line, "", words.lines[line])
    if line := words.says(r"\bsecondary to\b"):
        text = f"an order ({words.lines[line]}): the SQL finds the code anywhere in the list"
        yield Finding("in the words, not in the SQL", line, "", text)
    between = [n for n in page.between if n < page.parts[-1].line]
    if between:
        text = f"lines {_numbered(between)} stand between parts of the SQL and are read as words"
        yield Finding("read as", between[0], "", text)
    yield from _guidance(page, words)


def _guidance(page: Page, words: Words) -> Iterator[Finding]:
    """Conditions that the guidance lists before the coding: no SQL says them unless someone codes them."""
    start = min(words.lines, default=0)
    listed = {n: text.strip(" •*-\t") for n, text in page.words.items() if n < start and re.match(r"[•*]\s", text)}
    if listed:
        some = "; ".join(list(listed.values())[:6]) + ("; …" if len(listed) > 6 else "")
        text = f"{len(listed)} conditions of the guidance have no code on the page (for guidance_coded): {some}"
        yield Finding("in the words, not in the SQL", min(listed), "", text)


def _logic(words: Words, drafts: list[Draft], fragments: dict[int, Test | None]) -> Iterator[Finding]:
    fields = {name for draft in drafts for name in draft.fields}
    for item in words.logic:
        wanted = _POSITION.get((item.position, item.system))
        if item.codes and wanted and wanted not in fields:
            text = f"the words ask for the {item.position} position, no clause of the SQL tests {wanted}"
            yield Finding("position", item.line, "", text)
    told = {_judged(draft) for draft in drafts} | {_form(c.test) for draft in drafts for c in draft.conditions}
    for line, test in fragments.items():
        if test is None:
            text = f"SQL among the words that cannot be read: {words.lines[line]}"
            yield Finding("in the words, not in the SQL", line, "", text)
        elif _form(test) not in told:
            yield Finding("in the words, not in the SQL", line, "", words.lines[line])


def _form(test: Test) -> str:
    return str(normal_test(simplified(test)))


def _judged(draft: Draft) -> str:
    return _form({"none_of": [draft.test]} if draft.kind == "exclude" else draft.test)


def _nulls(drafts: list[Draft]) -> Iterator[Finding]:
    for draft in drafts:
        if draft.kind != "exclude" or draft.missing != "fails":
            continue
        name = " and ".join(draft.fields)
        text = f"a record without {name} drops: NOT LIKE, NOT IN and <> are UNKNOWN on NULL, and no `OR … IS NULL` keeps it"
        if kept := [d.id for d in drafts if d.missing == "passes" and d.fields == draft.fields]:
            text += f"; {kept[0]} has let it through"
        yield Finding("missing values", draft.line, draft.id, text)
