"""Policies held against the code books: patterns that find nothing, the wrong thing, too much, or not in every year.

Ranges that a clause's words state (C00-C99) raise nothing, though some codes in them never occur (decision 13).
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from ebi_spark.policies.code_books import SYSTEM_OF, SYSTEMS, Code, CodeBook, covered
from ebi_spark.policies.codes_in_words import codes_in, ranges_in
from ebi_spark.policies.model import Clause, Policy, Revision
from ebi_spark.policies.patterns import written_out
from ebi_spark.policies.simplify import Leaf, leaves

# A code used less often than this in its best year comes and goes by chance: its years prove nothing.
RARE = 20
_MOST_NAMED = 6


@dataclass(frozen=True)
class LintFinding:
    """One pattern to change, where it stands, and what to write instead."""

    policy: str
    revision: str
    reading: str  # the first reading that has the clause
    clause: str
    pattern: str
    kind: str
    text: str
    change: str

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


@dataclass(frozen=True)
class _Found:
    pattern: str
    kind: str
    text: str
    change: str


def lint(policies: Iterable[Policy], books: dict[str, CodeBook]) -> list[LintFinding]:
    """All findings, in the order of policies, revisions, readings and clauses; a clause that several readings share is
    told once."""
    found: dict[tuple[str, ...], LintFinding] = {}
    for policy in policies:
        for revision in policy.revisions:
            years = _years(revision, books)
            for reading in revision.readings.values():
                for clause in reading.clauses:
                    for item in _of_clause(clause, books, years):
                        key = (policy.id, revision.name, clause.id, item.pattern, item.kind)
                        found.setdefault(
                            key,
                            LintFinding(
                                policy.id, revision.name, reading.reading, clause.id,
                                item.pattern, item.kind, item.text, item.change,
                            ),
                        )  # fmt: skip
    return list(found.values())


def _years(revision: Revision, books: dict[str, CodeBook]) -> tuple[str, str]:
    """The financial years in which the revision is in force, as far as the code books reach."""
    last = max(book.last_year for book in books.values())
    return min(_year(revision.start), last), min(_year(revision.end) if revision.end else last, last)


def _year(day: date) -> str:
    start = day.year - (day.month < 4)
    return f"{start}-{(start + 1) % 100:02d}"


def _of_clause(clause: Clause, books: dict[str, CodeBook], years: tuple[str, str]) -> Iterator[_Found]:
    if clause.test is None:
        return
    named, ranges = codes_in(clause.words), ranges_in(clause.words)
    for leaf in leaves(clause.test):
        if leaf.field not in SYSTEM_OF:
            yield from _in_wrong_field(leaf, books)
            continue
        book = books[SYSTEM_OF[leaf.field]]
        hits: dict[str, Code] = {}
        for pattern in leaf.codes:
            matched = book.found(leaf.operator, pattern, leaf.left)
            hits |= {code.code: code for code in matched}
            yield from _of_pattern(leaf, pattern, matched, book, books, ranges)
            for one in written_out(pattern):
                if not covered(one, (), ranges):
                    yield from _of_years(book.found(leaf.operator, one, leaf.left), one, years)
        if named or ranges:
            yield from _beyond(leaf, hits, named, ranges, book)


def _in_wrong_field(leaf: Leaf, books: dict[str, CodeBook]) -> Iterator[_Found]:
    """Clinical codes asked of a field of another kind, such as a treatment function; those are numbers."""
    for pattern in leaf.codes:
        for system, book in books.items():
            if len(pattern) > 2 and (there := book.found("starts_with", pattern)):
                fields = " or ".join(name for name, of in SYSTEM_OF.items() if of == system)
                yield _Found(pattern, "wrong field", f"{leaf.field} holds no clinical codes; {SYSTEMS[system]} has "
                             f"{_some(there)}", f"test {fields}")  # fmt: skip
                break


def _of_pattern(
    leaf: Leaf,
    pattern: str,
    matched: list[Code],
    book: CodeBook,
    books: dict[str, CodeBook],
    ranges: list[tuple[str, str]],
) -> Iterator[_Found]:
    title = SYSTEMS[book.system]
    if not matched:
        if covered(pattern, (), ranges):
            return
        if leaf.operator == "in" and (whole := book.found("starts_with", pattern)):
            if [c.code for c in whole] == [f"{pattern}X"]:
                yield _Found(pattern, "category without X", f"records write the category as {pattern}X, and `in` compares "
                             f"whole codes", f"write {pattern}X")  # fmt: skip
            else:
                yield _Found(pattern, "dead", f"`in` compares whole codes and {pattern} is not one ({_some(whole)})",
                             "write starts_with")  # fmt: skip
            return
        for other, other_book in books.items():
            if other != book.system and (there := other_book.found(leaf.operator, pattern, leaf.left)):
                fields = " or ".join(name for name, system in SYSTEM_OF.items() if system == other)
                yield _Found(pattern, "wrong system", f"no {title} code, but {SYSTEMS[other]} has {_some(there)}; "
                             f"{leaf.field} holds {title}", f"test {fields}, or correct the code")  # fmt: skip
                return
        near = book.found("starts_with", pattern[:3]) if "[" not in pattern else []
        change = f"{pattern[:3]} has {_some(near)}" if near else "take it out, or correct it against the page"
        yield _Found(pattern, "dead", f"no {title} code of {book.first_year} to {book.last_year} matches", change)
        return
    alive = [one for one in written_out(pattern) if book.found(leaf.operator, one, leaf.left)]
    lost = [one for one in written_out(pattern) if one not in alive and not covered(one, (), ranges)]
    if lost and alive:
        yield _Found(pattern, "part-dead class", f"{', '.join(lost[:_MOST_NAMED])}{' …' if len(lost) > _MOST_NAMED else ''} "
                     f"match no {title} code", f"write {', '.join(alive)}" if len(alive) <= 12 else "narrow the class")  # fmt: skip
    bare = [one for one in written_out(pattern) if len(one) == 3 and f"{one}X" in book.codes]
    bare = [one for one in bare if not covered(one, (), ranges)]
    if bare and len(matched) == len(bare):
        yield _Found(pattern, "category without X", f"{', '.join(bare)} has no subdivisions and is recorded with an X",
                     f"write {', '.join(one + 'X' for one in bare)}")  # fmt: skip


def _of_years(matched: list[Code], pattern: str, years: tuple[str, str]) -> Iterator[_Found]:
    """Whether all that a pattern finds came or went; a category that was there before takes new codes in."""
    first, last = years
    if max((code.uses for code in matched), default=0) < RARE:
        return
    began, ended = min(code.first_year for code in matched), max(code.last_year for code in matched)
    if first < began <= last:
        yield _Found(pattern, "came into use", f"{_some(matched)}: first recorded in {began}, the revision reads from "
                     f"{first}", f"begin a revision with {began}, or say in `notes` how such records were coded before")  # fmt: skip
    elif ended < last:
        since = "within" if ended >= first else "before"
        yield _Found(pattern, "went out of use", f"{_some(matched)}: last recorded in {ended}, {since} the revision's "
                     "years", f"add what replaced {pattern}, and say so in `notes`")  # fmt: skip


def _beyond(
    leaf: Leaf, hits: dict[str, Code], named: list[str], ranges: list[tuple[str, str]], book: CodeBook
) -> Iterator[_Found]:
    of_system = [code for code in named if book.found("starts_with", code)]
    if not of_system and not ranges:
        return
    over = [code for text, code in hits.items() if not covered(text, of_system, ranges)]
    if over:
        pattern = next(p for p in leaf.codes if over[0] in book.found(leaf.operator, p, leaf.left))
        yield _Found(pattern, "more than the words name", f"finds {_some(over)}", "narrow the pattern to the codes that the "
                     "words name, or mend the words")  # fmt: skip


def _some(codes: list[Code]) -> str:
    listed = ", ".join(f"{code.code} {code.title}" for code in codes[:3])
    return listed + (f" and {len(codes) - 3} more" if len(codes) > 3 else "")


def code_tests(policies: Iterable[Policy]) -> int:
    """How many patterns of codes were looked up, so that no findings says more than nothing."""
    seen: set[tuple[str, ...]] = set()
    for policy in policies:
        for revision in policy.revisions:
            for reading in revision.readings.values():
                for clause in reading.clauses:
                    for leaf in leaves(clause.test) if clause.test else ():
                        if leaf.field in SYSTEM_OF:
                            seen |= {(policy.id, revision.name, clause.id, leaf.field, code) for code in leaf.codes}
    return len(seen)
