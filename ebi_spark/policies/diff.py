"""What changed between two revisions of a policy: in force, readings, clauses, codes; in words and as data."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ebi_spark.errors import InputError
from ebi_spark.policies.compile import clause_in_words
from ebi_spark.policies.model import Clause, Policy, Revision
from ebi_spark.policies.patterns import OPERATORS, written_out
from ebi_spark.policies.simplify import leaves, normal_test


@dataclass(frozen=True)
class Change:
    """One difference. ``reading`` is empty where it is of the revision as a whole."""

    reading: str
    clause: str
    kind: str  # added, dropped, test, kind, missing, words, coding, order, in_force
    before: str
    after: str
    text: str

    @property
    def judges(self) -> bool:
        """Whether the change can change a verdict."""
        return self.kind in ("added", "dropped", "test", "missing", "kind")

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {**asdict(self), "judges": self.judges}


def revision_of(policy: Policy, name: str) -> Revision:
    """A revision by its name; an :class:`InputError` names the nearest."""
    for revision in policy.revisions:
        if revision.name == name:
            return revision
    known = [revision.name for revision in policy.revisions]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise InputError(
        f"policies: {policy.id} has no revision {name!r}",
        remedy=f"did you mean {near[0]}? Its revisions are: {', '.join(known)}",
    )


def changes(before: Revision, after: Revision) -> list[Change]:
    """All differences, those of the revision first; a change that a reading takes over from the one it extends is told
    under the first reading only."""
    found = list(_in_force(before, after))
    told: set[tuple[str, str, str, str]] = set()
    for name, old in before.readings.items():
        for change in _clauses(name, list(old.clauses), list(after.readings[name].clauses)):
            key = (change.clause, change.kind, change.before, change.after)
            if key not in told:
                told.add(key)
                found.append(change)
    return found


def _in_force(before: Revision, after: Revision) -> Iterator[Change]:
    spans = [f"{r.start} to {r.end or 'now'}" for r in (before, after)]
    if spans[0] != spans[1]:
        yield Change("", "", "in_force", spans[0], spans[1], f"in force {spans[0]}, then {spans[1]}")


def _clauses(reading: str, before: list[Clause], after: list[Clause]) -> Iterator[Change]:
    old, new = {c.id: c for c in before}, {c.id: c for c in after}
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            line = _line(old[name])
            yield Change(reading, name, "dropped", line, "", f"no longer asked: {line}")
        elif name not in old:
            line = _line(new[name])
            yield Change(reading, name, "added", "", line, f"asked anew: {line}")
        else:
            yield from _clause(reading, old[name], new[name])
    kept = [name for name in old if name in new]
    order = [name for name in new if name in old]
    if kept != order:
        text = "the order of the clauses, which moves the waterfall and no verdict"
        yield Change(reading, "", "order", ", ".join(kept), ", ".join(order), text)


def _line(clause: Clause) -> str:
    return clause_in_words(clause)


def _clause(reading: str, old: Clause, new: Clause) -> Iterator[Change]:
    if old.kind != new.kind:
        yield Change(reading, new.id, "kind", _line(old), _line(new), f"{_line(old)} becomes {_line(new)}")
    elif (old.test is None) != (new.test is None) or normal_test(old.test or {}) != normal_test(new.test or {}):
        yield Change(reading, new.id, "test", _line(old), _line(new), _test(old, new))
    if old.missing != new.missing and old.kind != "scope":
        text = f"a record that cannot be decided {old.missing}, now {new.missing}"
        yield Change(reading, new.id, "missing", old.missing, new.missing, text)
    if _folded(old.words) != _folded(new.words):
        yield Change(reading, new.id, "words", old.words, new.words, "other words for the clause")
    if old.coding != new.coding:
        yield Change(reading, new.id, "coding", old.coding, new.coding, f"{old.coding} becomes {new.coding}")


def _folded(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _codes(clause: Clause) -> dict[tuple[str, str, bool], set[str]]:
    """The codes of each field, operator and side."""
    found: dict[tuple[str, str, bool], set[str]] = {}
    for leaf in leaves(clause.test or {}):
        codes = {code for pattern in leaf.codes for code in written_out(pattern)}
        found.setdefault((leaf.field, leaf.operator, leaf.positive), set()).update(codes)
    return found


def _test(old: Clause, new: Clause) -> str:
    """The codes that came and went where only these differ, else both tests."""
    before, after = _codes(old), _codes(new)
    if before.keys() == after.keys() and _shape(old.test) == _shape(new.test):
        parts = []
        for key in before:
            came, went = sorted(after[key] - before[key]), sorted(before[key] - after[key])
            parts += [f"{key[0]} also {', '.join(came)}"] if came else []
            parts += [f"{key[0]} no more {', '.join(went)}"] if went else []
        if parts:
            return "; ".join(parts)
    return f"{_line(old)} becomes {_line(new)}"


def _shape(test: Any) -> Any:
    """A test without its codes."""
    if isinstance(test, dict):
        return {key: ([] if key in OPERATORS or key == "followed_by" else _shape(value)) for key, value in test.items()}
    if isinstance(test, list):
        return [_shape(item) for item in test]
    return test
