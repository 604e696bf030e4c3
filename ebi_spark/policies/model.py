"""A policy after it has been loaded: dated revisions, three readings of each, and an ordered list of clauses in each
reading."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any

AS_PUBLISHED = "as_published"
READINGS = (AS_PUBLISHED, "as_intended", "guidance_coded")


@dataclass(frozen=True)
class Clause:
    """One condition of a policy. ``test`` is the condition as written in the YAML; None if no code expresses it."""

    id: str
    source_text: str  # the source's own words; the key `words` of the policy file
    kind: str  # scope, require, exclude, or note (no test)
    test: dict[str, Any] | None
    missing: str  # the result for a record on which the test cannot be decided: fails or passes
    coding: str = "coded"  # coded, proxy, not_codable or not_applicable
    rationale: str = ""  # why it is coded this way; the key `because` of the policy file
    decision: str = ""  # the decision that added or changed the clause, if one did
    covered_by: str = ""  # for a clause without a test: the clause that already tests the same words

    @classmethod
    def from_definition(cls, item: dict[str, Any]) -> "Clause":
        """The clause from its entry in a definition of ``gold/policy``, which uses the keys of the policy file."""
        names = {"words": "source_text", "because": "rationale"}
        return cls(**{names.get(key, key): value for key, value in item.items()})

    @property
    def decides(self) -> bool:
        """Whether the clause can prevent a record in scope from being flagged."""
        return self.kind in ("require", "exclude")


@dataclass(frozen=True)
class PolicyReading:
    """The clauses of one revision in one reading; ``clauses[0]`` is the scope."""

    policy_id: str
    revision: str
    reading: str
    clauses: tuple[Clause, ...]
    fingerprint: str
    definition: dict[str, Any] = field(repr=False)  # the whole reading as stored in gold/policy

    @property
    def deciding(self) -> tuple[Clause, ...]:
        """The clauses after the scope that have a test, in order."""
        return tuple(clause for clause in self.clauses if clause.decides)


@dataclass(frozen=True)
class Flip:
    """A reading with one decision reversed: added if the reading does not make it, removed if it does (decision 10)."""

    base: str  # the reading that is changed
    decision: str
    source: str  # the reading that makes the decision, or `sensitivity`
    undone: bool  # whether the decision was removed from the base reading (otherwise: added to it)
    clause: str  # the clause that the decision adds or changes
    source_text: str
    rationale: str
    clauses: tuple[Clause, ...]  # all clauses after the change

    @property
    def deciding(self) -> tuple[Clause, ...]:
        """The clauses after the scope that have a test, in order."""
        return tuple(clause for clause in self.clauses if clause.decides)


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
