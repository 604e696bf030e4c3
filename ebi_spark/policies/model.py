"""A policy after it has been loaded: dated revisions, three readings of each, an ordered list of clauses in each reading,
and the tests of these clauses.

Every kind of test is a class. Code that treats kinds differently uses ``match`` and ends with ``assert_never``, so that mypy
names every place that a new kind has to be added to.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, assert_never, get_args

AS_PUBLISHED = "as_published"
READINGS = (AS_PUBLISHED, "as_intended", "guidance_coded")
# The operators of a test whose value is a list of codes.
Operator = Literal["starts_with", "contains", "in"]
OPERATORS: tuple[Operator, ...] = get_args(Operator)
# Every operator of a policy file.
ALL_OPERATORS = (*OPERATORS, "between", "at_least", "at_most", "is_null", "followed_by")


@dataclass(frozen=True)
class AnyOf:
    """True if any part is true."""

    parts: tuple["Test", ...]


@dataclass(frozen=True)
class AllOf:
    """True if all parts are true."""

    parts: tuple["Test", ...]


@dataclass(frozen=True)
class NoneOf:
    """True if all parts are false."""

    parts: tuple["Test", ...]


@dataclass(frozen=True)
class HasCode:
    """A field has one of the codes. ``codes`` are patterns (see :mod:`ebi_spark.policies.patterns`)."""

    field: str
    operator: Operator
    codes: tuple[str, ...]
    left: int | None = None  # how many of the field's first characters are tested; None: all


@dataclass(frozen=True)
class FollowedBy:
    """In a list of codes, a code of ``then`` comes after a code of ``first``."""

    field: str
    first: tuple[str, ...]
    then: tuple[str, ...]
    directly: bool | None = None  # whether no code may be between the two; None: not stated, the same as False


@dataclass(frozen=True)
class AgeRange:
    """An age from ``low`` to ``high``, both included. A range that is open at one end has None there."""

    field: str
    low: int | None
    high: int | None


@dataclass(frozen=True)
class IsNull:
    """A field is missing, or, if not ``is_null``, has a value. Never undecided."""

    field: str
    is_null: bool


FieldTest = HasCode | FollowedBy | AgeRange | IsNull
# A condition on a record: true, false, or undecided where the record lacks the value.
Test = AnyOf | AllOf | NoneOf | FieldTest


def parse_test(document: dict[str, Any]) -> Test:
    """The test that a policy file or a stored definition describes. :mod:`ebi_spark.policies.checks` has checked it."""
    for key, kind in (("any_of", AnyOf), ("all_of", AllOf), ("none_of", NoneOf)):
        if key in document:
            return kind(tuple(map(parse_test, document[key])))
    name = document["field"]
    if "is_null" in document:
        return IsNull(name, document["is_null"])
    if "between" in document:
        return AgeRange(name, *document["between"])
    if "at_least" in document or "at_most" in document:
        return AgeRange(name, document.get("at_least"), document.get("at_most"))
    if "followed_by" in document:
        pair = document["followed_by"]
        return FollowedBy(name, tuple(pair["first"]), tuple(pair["then"]), document.get("directly"))
    operator = next(key for key in OPERATORS if key in document)
    return HasCode(name, operator, tuple(document[operator]), document.get("left"))


def document_of(test: Test) -> dict[str, Any]:
    """The test with the keys of a policy file, as definitions store it and fingerprints contain it: the reverse of
    :func:`parse_test`."""
    match test:
        case AnyOf(parts):
            return {"any_of": [document_of(part) for part in parts]}
        case AllOf(parts):
            return {"all_of": [document_of(part) for part in parts]}
        case NoneOf(parts):
            return {"none_of": [document_of(part) for part in parts]}
        case HasCode(name, operator, codes, left):
            return {"field": name, **({} if left is None else {"left": left}), operator: list(codes)}
        case FollowedBy(name, first, then, directly):
            stated = {} if directly is None else {"directly": directly}
            return {"field": name, "followed_by": {"first": list(first), "then": list(then)}, **stated}
        case AgeRange(name, None, high):
            return {"field": name, "at_most": high}
        case AgeRange(name, low, None):
            return {"field": name, "at_least": low}
        case AgeRange(name, low, high):
            return {"field": name, "between": [low, high]}
        case IsNull(name, is_null):
            return {"field": name, "is_null": is_null}
        case _:
            assert_never(test)


def field_tests(test: Test) -> Iterator[FieldTest]:
    """Every test of a field within a test, in order."""
    match test:
        case AnyOf(parts) | AllOf(parts) | NoneOf(parts):
            for part in parts:
                yield from field_tests(part)
        case _:
            yield test


def fields_of(test: Test) -> Iterator[str]:
    """Every field that a test names, with repeats."""
    return (item.field for item in field_tests(test))


def asks_null(test: Test) -> bool:
    """Whether the test contains ``is_null``. Such a test can be decided although a field is NULL."""
    return any(isinstance(item, IsNull) for item in field_tests(test))


@dataclass(frozen=True)
class Clause:
    """One condition of a policy. ``test`` is None if no code expresses the condition."""

    id: str
    source_text: str  # the source's own words; the key `words` of the policy file
    kind: str  # scope, require, exclude, or note (no test)
    test: Test | None
    missing: str  # the result for a record on which the test cannot be decided: fails or passes
    coding: str = "coded"  # coded, proxy, not_codable or not_applicable
    rationale: str = ""  # why it is coded this way; the key `because` of the policy file
    decision: str = ""  # the decision that added or changed the clause, if one did
    covered_by: str = ""  # for a clause without a test: the clause that already tests the same words

    @classmethod
    def from_definition(cls, item: dict[str, Any]) -> "Clause":
        """The clause from its entry in a definition of ``gold/policy``, which uses the keys of the policy file."""
        names = {"words": "source_text", "because": "rationale"}
        values = {names.get(key, key): value for key, value in item.items()}
        return cls(**{**values, "test": parse_test(item["test"]) if item["test"] else None})

    @property
    def definition(self) -> dict[str, Any]:
        """The clause's entry in a definition of ``gold/policy``: the reverse of :meth:`from_definition`."""
        return {"id": self.id, "kind": self.kind, "words": self.source_text, "test": self._document,
                "missing": self.missing, "coding": self.coding, "because": self.rationale, "decision": self.decision,
                "covered_by": self.covered_by}  # fmt: skip

    @property
    def outcome_parts(self) -> list[Any]:
        """Everything in the clause that can change the outcome of a record, for fingerprints."""
        return [self.id, self.kind, self._document, self.missing]

    @property
    def _document(self) -> dict[str, Any] | None:
        return None if self.test is None else document_of(self.test)

    @property
    def decides(self) -> bool:
        """Whether the clause can prevent a record in scope from being flagged."""
        return self.kind in ("require", "exclude")


class _WithClauses:
    clauses: tuple[Clause, ...]

    @property
    def deciding(self) -> tuple[Clause, ...]:
        """The clauses after the scope that have a test, in order."""
        return tuple(clause for clause in self.clauses if clause.decides)


@dataclass(frozen=True)
class PolicyReading(_WithClauses):
    """The clauses of one revision in one reading; ``clauses[0]`` is the scope."""

    policy_id: str
    revision: str
    reading: str
    clauses: tuple[Clause, ...]
    fingerprint: str
    definition: dict[str, Any] = field(repr=False)  # the whole reading as stored in gold/policy


@dataclass(frozen=True)
class Flip(_WithClauses):
    """A reading with one decision reversed: added if the reading does not make it, removed if it does (decision 10)."""

    base: str  # the reading that is changed
    decision: str
    source: str  # the reading that makes the decision, or `sensitivity`
    undone: bool  # whether the decision was removed from the base reading (otherwise: added to it)
    clause: str  # the clause that the decision adds or changes
    source_text: str
    rationale: str
    clauses: tuple[Clause, ...]  # all clauses after the change


@dataclass(frozen=True)
class Revision:
    """One revision of a policy, in force from ``start`` (inclusive) to ``end`` (exclusive; None if it has not ended)."""

    name: str
    start: date
    end: date | None
    scope: Clause
    readings: dict[str, PolicyReading]
    dated: str = "stated"  # how the start date is known: stated, month (only the month is given) or inferred
    rationale: str = ""  # why this start date was chosen
    regime: tuple[
        tuple[date, str], ...
    ] = ()  # changes to how the policy is controlled, such as prior approval; none ends it
    flips: tuple[Flip, ...] = ()
    baseline: dict[str, Any] = field(default_factory=dict)  # past activity as stated by the source

    @property
    def days(self) -> str:
        """When it is in force, in words."""
        return f"from {self.start}" + (f" until the day before {self.end}" if self.end else "")

    @property
    def scope_test(self) -> Test:
        """The test that decides which records are in scope."""
        assert self.scope.test is not None
        return self.scope.test


@dataclass(frozen=True)
class Policy:
    """A published policy on the records of one dataset, with its revisions in order of their start dates.

    A local policy ``extends`` a national one and applies only to the patients of its ``boards``.
    """

    id: str
    title: str
    dataset: str
    source: dict[str, str]
    default_reading: str
    revisions: tuple[Revision, ...]
    path: str
    publish_years: int = 1  # how many years are pooled in each figure published below England
    publish_first_year: str = "2018-19"  # one of these windows of years starts with this financial year
    to_complete: tuple[str, ...] = ()  # what the imported page did not say; runs refuse the policy until it is empty
    extends: str = ""
    boards: tuple[str, ...] = ()  # codes of integrated care boards; empty for a national policy
    target: float | None = None  # the standardised rate to reach, per 100,000, where one is set


@dataclass(frozen=True)
class RevisionPeriod:
    """One revision and the period of activity to which a run applies it."""

    policy: Policy
    revision: Revision
    since: date | None  # inclusive; None: no lower bound, so earlier activity is included too
    until: date | None  # exclusive; None: no upper bound

    @property
    def key(self) -> str:
        """``policy/revision``."""
        return f"{self.policy.id}/{self.revision.name}"
