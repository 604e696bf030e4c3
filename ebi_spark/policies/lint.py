"""Check the codes of policies against ICD-10 and OPCS-4. It finds patterns that match no code, codes of the wrong system,
more codes than the clause's words name, or codes that were not in use in every year of the revision.

A range that the clause's own words state (C00-C99) gives no finding, though some codes in it never occur (decision 13).
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from ebi_spark.financial_years import label, starts_in
from ebi_spark.policies.code_books import SYSTEM_OF, SYSTEMS, Code, CodeBook, is_covered
from ebi_spark.policies.codes_in_words import codes_in, ranges_in
from ebi_spark.policies.lines import PolicyLines
from ebi_spark.policies.model import Clause, Policy, Revision
from ebi_spark.policies.patterns import written_out
from ebi_spark.policies.simplify import Leaf, leaves

# A code that was recorded less often than this even in its busiest year can be absent from a year by chance, so its years
# of use prove nothing.
RARE = 20
_MOST_NAMED = 6


@dataclass(frozen=True)
class LintFinding:
    """One pattern to change: where it is, what is wrong with it, and what to write instead."""

    policy: str
    revision: str
    reading: str  # the first reading that has the clause
    clause: str
    pattern: str
    kind: str
    text: str
    change: str
    file: str = ""  # the policy's file
    line: int | None = None  # the line of the pattern there; None where the clause is in the file of an extended policy

    def as_dict(self) -> dict[str, Any]:
        """The finding as ``--json`` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class _Found:
    pattern: str
    kind: str
    text: str
    change: str


def lint(policies: Iterable[Policy], books: dict[str, CodeBook]) -> list[LintFinding]:
    """All findings, in the order of policies, revisions, readings and clauses. A finding in a clause that several readings
    share is listed once, under the first of them."""
    found: dict[tuple[str, ...], LintFinding] = {}
    for policy in policies:
        lines = PolicyLines(policy.path)
        for revision in policy.revisions:
            years = _years(revision, books)
            for reading in revision.readings.values():
                for clause in reading.clauses:
                    for item in _check_clause(clause, books, years):
                        key = (policy.id, revision.name, clause.id, item.pattern, item.kind)
                        found.setdefault(
                            key,
                            LintFinding(
                                policy.id, revision.name, reading.reading, clause.id,
                                item.pattern, item.kind, item.text, item.change, policy.path,
                                lines.find(revision.name, clause.id, item.pattern),
                            ),
                        )  # fmt: skip
    return list(found.values())


def _years(revision: Revision, books: dict[str, CodeBook]) -> tuple[str, str]:
    """The first and last financial year in which the revision is in force, not later than the last year of the code books."""
    last = max(book.last_year for book in books.values())
    return min(_year(revision.start), last), min(_year(revision.end) if revision.end else last, last)


def _year(day: date) -> str:
    return label(starts_in(day))


def _check_clause(clause: Clause, books: dict[str, CodeBook], years: tuple[str, str]) -> Iterator[_Found]:
    if clause.test is None:
        return
    named, ranges = codes_in(clause.source_text), ranges_in(clause.source_text)
    for leaf in leaves(clause.test):
        if leaf.field not in SYSTEM_OF:
            yield from _check_field(leaf, books)
            continue
        book = books[SYSTEM_OF[leaf.field]]
        hits: dict[str, Code] = {}
        for pattern in leaf.codes:
            matched = book.found(leaf.operator, pattern, leaf.left)
            hits |= {code.code: code for code in matched}
            yield from _check_pattern(leaf, pattern, matched, book, books, ranges)
            for one in written_out(pattern):
                if not is_covered(one, (), ranges):
                    yield from _check_years(book.found(leaf.operator, one, leaf.left), one, years)
        if named or ranges:
            yield from _check_against_words(leaf, hits, named, ranges, book)


def _check_field(leaf: Leaf, books: dict[str, CodeBook]) -> Iterator[_Found]:
    """Clinical codes in a test of a field that never has them, such as the treatment function, whose values are numbers."""
    for pattern in leaf.codes:
        for system, book in books.items():
            if len(pattern) > 2 and (elsewhere := book.found("starts_with", pattern)):
                fields = " or ".join(name for name, its_system in SYSTEM_OF.items() if its_system == system)
                yield _Found(pattern, "wrong field", f"{leaf.field} does not contain clinical codes, but {SYSTEMS[system]} "
                             f"has {_some(elsewhere)}", f"test {fields}")  # fmt: skip
                break


def _check_pattern(
    leaf: Leaf,
    pattern: str,
    matched: list[Code],
    book: CodeBook,
    books: dict[str, CodeBook],
    ranges: list[tuple[str, str]],
) -> Iterator[_Found]:
    title = SYSTEMS[book.system]
    if not matched:
        if is_covered(pattern, (), ranges):
            return
        if leaf.operator == "in" and (whole := book.found("starts_with", pattern)):
            if [c.code for c in whole] == [f"{pattern}X"]:
                yield _Found(pattern, "category without X", f"records write the category as {pattern}X, and `in` compares "
                             f"whole codes", f"write {pattern}X")  # fmt: skip
            else:
                yield _Found(pattern, "dead", f"`in` compares whole codes, but {pattern} is not a whole code ({_some(whole)})",
                             "use starts_with")  # fmt: skip
            return
        for other, other_book in books.items():
            if other != book.system and (elsewhere := other_book.found(leaf.operator, pattern, leaf.left)):
                fields = " or ".join(name for name, system in SYSTEM_OF.items() if system == other)
                yield _Found(pattern, "wrong system", f"not a {title} code, but {SYSTEMS[other]} has {_some(elsewhere)}; "
                             f"{leaf.field} contains {title} codes", f"test {fields}, or correct the code")  # fmt: skip
                return
        near = book.found("starts_with", pattern[:3]) if "[" not in pattern else []
        change = (
            f"correct the code: {pattern[:3]} has {_some(near)}"
            if near
            else "remove it, or correct it against the page"
        )
        yield _Found(
            pattern, "dead", f"matches no {title} code recorded from {book.first_year} to {book.last_year}", change
        )
        return
    found = [one for one in written_out(pattern) if book.found(leaf.operator, one, leaf.left)]
    unknown = [one for one in written_out(pattern) if one not in found and not is_covered(one, (), ranges)]
    if unknown and found:
        listed = f"{', '.join(unknown[:_MOST_NAMED])}{' …' if len(unknown) > _MOST_NAMED else ''}"
        yield _Found(pattern, "part-dead class", f"no {title} code for {listed}",
                     f"write {', '.join(found)}" if len(found) <= 12 else "narrow the class")  # fmt: skip
    without_x = [one for one in written_out(pattern) if len(one) == 3 and f"{one}X" in book.codes]
    without_x = [one for one in without_x if not is_covered(one, (), ranges)]
    if without_x and len(matched) == len(without_x):
        are = "has no subdivisions and is" if len(without_x) == 1 else "have no subdivisions and are"
        yield _Found(pattern, "category without X", f"{', '.join(without_x)} {are} recorded with an X",
                     f"write {', '.join(one + 'X' for one in without_x)}")  # fmt: skip


def _check_years(matched: list[Code], pattern: str, years: tuple[str, str]) -> Iterator[_Found]:
    """Whether all codes that a pattern matches began or ceased to be used while the revision was in force. A category that
    was in use before gives no finding when a new code is added to it."""
    first, last = years
    if max((code.uses for code in matched), default=0) < RARE:
        return
    began, ended = min(code.first_year for code in matched), max(code.last_year for code in matched)
    if first < began <= last:
        yield _Found(pattern, "came into use", f"{_some(matched)}: first recorded in {began}, but the revision applies from "
                     f"{first}", f"start a revision in {began}, or say in `notes` how such records were coded before")  # fmt: skip
    elif ended < last:
        since = "within" if ended >= first else "before"
        yield _Found(pattern, "went out of use", f"{_some(matched)}: last recorded in {ended}, {since} the revision's "
                     "years", f"add the code that replaced {pattern}, and say so in `notes`")  # fmt: skip


def _check_against_words(
    leaf: Leaf, hits: dict[str, Code], named: list[str], ranges: list[tuple[str, str]], book: CodeBook
) -> Iterator[_Found]:
    """Whether a test finds codes that the clause's words do not name."""
    in_system = [code for code in named if book.found("starts_with", code)]
    if not in_system and not ranges:
        return
    extra = [code for text, code in hits.items() if not is_covered(text, in_system, ranges)]
    if extra:
        pattern = next(p for p in leaf.codes if extra[0] in book.found(leaf.operator, p, leaf.left))
        yield _Found(pattern, "more than the words name", f"also finds {_some(extra)}", "narrow the pattern to the codes that "
                     "the words name, or correct the words")  # fmt: skip


def _some(codes: list[Code]) -> str:
    listed = ", ".join(f"{code.code} {code.title}" for code in codes[:3])
    return listed + (f" and {len(codes) - 3} more" if len(codes) > 3 else "")


def code_tests(policies: Iterable[Policy]) -> int:
    """How many different patterns of clinical codes the policies have, counted by revision and clause. A report of no
    findings shows this number, so that it is clear how much was checked."""
    seen: set[tuple[str, ...]] = set()
    for policy in policies:
        for revision in policy.revisions:
            for reading in revision.readings.values():
                for clause in reading.clauses:
                    for leaf in leaves(clause.test) if clause.test else ():
                        if leaf.field in SYSTEM_OF:
                            seen |= {(policy.id, revision.name, clause.id, leaf.field, code) for code in leaf.codes}
    return len(seen)
