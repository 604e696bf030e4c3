"""What a policy is once it is read: revisions in force from a day, each in three readings, each an ordered list of
clauses."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any

AS_PUBLISHED = "as_published"
READINGS = (AS_PUBLISHED, "as_intended", "guidance_coded")


@dataclass(frozen=True)
class Clause:
    """One condition of a policy. ``test`` is the condition as the YAML has it; None where nothing codes it."""

    id: str
    words: str
    kind: str  # scope, require, exclude, or note where the words cannot be coded
    test: dict[str, Any] | None
    missing: str  # what becomes of a record for which the test cannot be decided: fails or passes
    coding: str = "coded"
    because: str = ""
    decision: str = ""  # the named decision of a reading that added or changed the clause
    covered_by: str = ""  # the clause that tests these words already, where this one has no test of its own

    @property
    def decides(self) -> bool:
        """Whether the clause can keep a record from being flagged."""
        return self.kind in ("require", "exclude")


@dataclass(frozen=True)
class PolicyReading:
    """The clauses of one revision under one reading; ``clauses[0]`` is the scope."""

    policy_id: str
    revision: str
    reading: str
    clauses: tuple[Clause, ...]
    fingerprint: str
    definition: dict[str, Any] = field(repr=False)

    @property
    def deciding(self) -> tuple[Clause, ...]:
        """The clauses behind the scope that have a test, in order."""
        return tuple(clause for clause in self.clauses if clause.decides)


@dataclass(frozen=True)
class Flip:
    """A reading with one decision flipped alone: made where the reading does not make it, undone where it does."""

    base: str  # the reading that it departs from
    decision: str
    source: str  # the reading that makes the decision, or `sensitivity`
    undone: bool
    clause: str  # the clause that the decision adds or changes
    words: str
    because: str
    clauses: tuple[Clause, ...]

    @property
    def deciding(self) -> tuple[Clause, ...]:
        """The clauses behind the scope that have a test, in order."""
        return tuple(clause for clause in self.clauses if clause.decides)


@dataclass(frozen=True)
class Revision:
    """One revision: in force from ``start`` (inclusive) to ``end`` (exclusive; None while in force)."""

    name: str
    start: date
    end: date | None
    scope: Clause
    readings: dict[str, PolicyReading]
    dated: str = "stated"  # how the source gives the day: stated, month, or inferred
    because: str = ""
    regime: tuple[tuple[date, str], ...] = ()  # days of its control (prior approval …), none of them an end
    flips: tuple[Flip, ...] = ()
    baseline: dict[str, Any] = field(default_factory=dict)  # the source's own figures of past activity


@dataclass(frozen=True)
class Policy:
    """A published policy over one dataset, revisions in order of their days.

    A local policy ``extends`` a national one and is for the patients of its ``boards`` alone.
    """

    id: str
    title: str
    dataset: str
    source: dict[str, str]
    default_reading: str
    revisions: tuple[Revision, ...]
    path: str
    publish_years: int = 1  # how many years each figure below England is of
    publish_first_year: str = "2018-19"  # one of the windows of that many years begins with it
    to_complete: tuple[str, ...] = ()  # what an imported page could not say; no run reads the policy meanwhile
    extends: str = ""
    boards: tuple[str, ...] = ()  # codes of integrated care boards; none: the policy is national


@dataclass(frozen=True)
class RevisionPeriod:
    """One revision and the span of activity that a run reads by it."""

    policy: Policy
    revision: Revision
    since: date | None  # None: from ever, activity before the first revision is read by it
    until: date | None

    @property
    def key(self) -> str:
        """``policy/revision``."""
        return f"{self.policy.id}/{self.revision.name}"
