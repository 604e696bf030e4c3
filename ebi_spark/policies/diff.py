"""Compare two revisions of a policy: dates in force, readings, clauses and codes. The result is data with a sentence each."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, assert_never

from ebi_spark.errors import InputError, did_you_mean
from ebi_spark.policies.compile import clause_in_words
from ebi_spark.policies.model import (
    AgeRange,
    AllOf,
    AnyOf,
    Clause,
    FollowedBy,
    HasCode,
    IsNull,
    NoneOf,
    Policy,
    Revision,
    Test,
)
from ebi_spark.policies.patterns import written_out
from ebi_spark.policies.simplify import leaves, normal_test


@dataclass(frozen=True)
class Change:
    """One difference. ``reading`` is empty if the difference concerns the whole revision."""

    reading: str
    clause: str
    kind: str  # added, dropped, test, kind, missing, words, coding, order or in_force
    before: str
    after: str
    text: str

    @property
    def changes_outcomes(self) -> bool:
        """Whether the change can alter the outcome of a record."""
        return self.kind in ("added", "dropped", "test", "missing", "kind")

    def as_dict(self) -> dict[str, Any]:
        """The change as ``--json`` prints it."""
        return {**asdict(self), "judges": self.changes_outcomes}


def revision_of(policy: Policy, name: str) -> Revision:
    """The revision with this name. An :class:`InputError` suggests the nearest name if there is none."""
    for revision in policy.revisions:
        if revision.name == name:
            return revision
    known = [revision.name for revision in policy.revisions]
    raise InputError(
        f"policies: {policy.id} has no revision {name!r}",
        remedy=f"{did_you_mean(name, known, 0)}The revisions are: {', '.join(known)}",
    )


def changes(before: Revision, after: Revision) -> list[Change]:
    """All differences, those of the whole revision first. A change that several readings share is listed only under the
    first of them."""
    found = list(_in_force(before, after))
    listed: set[tuple[str, str, str, str]] = set()
    for name, old in before.readings.items():
        for change in _clauses(name, list(old.clauses), list(after.readings[name].clauses)):
            key = (change.clause, change.kind, change.before, change.after)
            if key not in listed:
                listed.add(key)
                found.append(change)
    return found


def _in_force(before: Revision, after: Revision) -> Iterator[Change]:
    if before.days != after.days:
        yield Change("", "", "in_force", before.days, after.days, "in force on other days")


def _clauses(reading: str, before: list[Clause], after: list[Clause]) -> Iterator[Change]:
    old, new = {c.id: c for c in before}, {c.id: c for c in after}
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            line = clause_in_words(old[name])
            yield Change(reading, name, "dropped", line, "", f"condition removed: {line}")
        elif name not in old:
            line = clause_in_words(new[name])
            yield Change(reading, name, "added", "", line, f"condition added: {line}")
        else:
            yield from _clause(reading, old[name], new[name])
    kept = [name for name in old if name in new]
    order = [name for name in new if name in old]
    if kept != order:
        text = "the order of the clauses changed: this alters the steps of the attrition but no record's outcome"
        yield Change(reading, "", "order", ", ".join(kept), ", ".join(order), text)


def _clause(reading: str, old: Clause, new: Clause) -> Iterator[Change]:
    if old.kind != new.kind:
        yield Change(
            reading,
            new.id,
            "kind",
            clause_in_words(old),
            clause_in_words(new),
            f"{clause_in_words(old)} becomes {clause_in_words(new)}",
        )
    elif _normal(old.test) != _normal(new.test):
        yield Change(reading, new.id, "test", clause_in_words(old), clause_in_words(new), _test(old, new))
    if old.missing != new.missing and old.kind != "scope":
        text = f"a record on which the clause cannot be decided: {old.missing} becomes {new.missing}"
        yield Change(reading, new.id, "missing", old.missing, new.missing, text)
    if _single_spaced(old.source_text) != _single_spaced(new.source_text):
        yield Change(reading, new.id, "words", old.source_text, new.source_text, "the wording of the clause changed")
    if old.coding != new.coding:
        yield Change(reading, new.id, "coding", old.coding, new.coding, f"{old.coding} becomes {new.coding}")


def _normal(test: Test | None) -> Test | None:
    return None if test is None else normal_test(test)


def _single_spaced(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _codes(clause: Clause) -> dict[tuple[str, str, bool], set[str]]:
    """The codes that a clause tests, by field, operator and whether having them counts for the test."""
    found: dict[tuple[str, str, bool], set[str]] = {}
    for leaf in leaves(clause.test) if clause.test else ():
        codes = {code for pattern in leaf.codes for code in written_out(pattern)}
        found.setdefault((leaf.field, leaf.operator, leaf.positive), set()).update(codes)
    return found


def _test(old: Clause, new: Clause) -> str:
    """The codes added and removed if the tests differ only in codes, otherwise both tests."""
    before, after = _codes(old), _codes(new)
    if old.test and new.test and _shape(old.test) == _shape(new.test):
        parts = []
        for key in before:
            added, removed = sorted(after[key] - before[key]), sorted(before[key] - after[key])
            parts += [f"{key[0]} adds {', '.join(added)}"] if added else []
            parts += [f"{key[0]} drops {', '.join(removed)}"] if removed else []
        if parts:
            return "; ".join(parts)
    return f"{clause_in_words(old)} becomes {clause_in_words(new)}"


def _shape(test: Test) -> Test:
    """A test without its codes."""
    match test:
        case AnyOf(parts) | AllOf(parts) | NoneOf(parts):
            return replace(test, parts=tuple(map(_shape, parts)))
        case HasCode():
            return replace(test, codes=())
        case FollowedBy():
            return replace(test, first=(), then=())
        case AgeRange() | IsNull():
            return test
        case _:
            assert_never(test)
