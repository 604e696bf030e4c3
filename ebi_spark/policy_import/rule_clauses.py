"""Turn the conditions of a page's SQL into clauses of a policy: merge chains of NOT LIKE, recognise shared clauses, and put
the scope first."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ebi_spark.policies.model import AnyOf, HasCode, IsNull, NoneOf, Test, asks_null, fields_of, parse_test
from ebi_spark.policies.patterns import written_out
from ebi_spark.policies.simplify import merged_with, normal_test, simplified
from ebi_spark.policy_import.tsql_rule import Condition

_PROCEDURES = ("dominant_procedure", "any_procedure")
_NAMES = {
    "dominant_procedure": "procedure",
    "any_procedure": "procedure",
    "any_diagnosis": "diagnosis",
    "age_years": "age",
}


@dataclass(frozen=True)
class Draft:
    """A clause read from the SQL. ``use`` is the id of the shared clause with the same test, or empty."""

    kind: str  # require or exclude
    test: Test
    missing: str
    conditions: tuple[Condition, ...]
    id: str = ""
    use: str = ""
    as_shared: bool = False  # whether `missing` is the same as that of the shared clause too
    scope: bool = False

    @property
    def line(self) -> int:
        """The line of the page on which the clause starts."""
        return self.conditions[0].line

    @property
    def sql(self) -> str:
        """The clause as SQL."""
        return " AND ".join(condition.sql for condition in self.conditions)

    @property
    def fields(self) -> list[str]:
        """The fields that the clause tests, in order and without repeats."""
        return list(dict.fromkeys(fields_of(self.test)))


def draft_clauses(conditions: list[Condition], shared: dict[str, dict[str, Any]]) -> list[Draft]:
    """The clauses made from the conditions, the scope first. ``shared`` are the clauses that policies share, by id.

    The scope is the first clause that requires a procedure. If there is none, no clause is marked as the scope.
    """
    drafts: list[Draft] = []
    for draft in map(_draft, conditions):
        before = drafts[-1] if drafts else None
        both = _merged(before, draft) if before else None
        if both is not None:
            drafts[-1] = both
        else:
            drafts.append(draft)
    drafts = [_as_shared(part, shared) for draft in drafts for part in _split(draft, shared)]
    scope = next((d for d in drafts if d.kind == "require" and set(d.fields) & set(_PROCEDURES)), None)
    if scope is not None:
        drafts = [replace(scope, scope=True, missing="fails"), *(d for d in drafts if d is not scope)]
    return list(_named(drafts))


def _draft(condition: Condition) -> Draft:
    test, missing = condition.test, "fails"
    alternatives = test.parts if isinstance(test, AnyOf) else ()
    nulls = [item for item in alternatives if isinstance(item, IsNull) and item.is_null]
    others = tuple(item for item in alternatives if item not in nulls)
    if len(nulls) == 1 and others:
        rest = simplified(AnyOf(others))
        # The rest is undecided exactly when this field is NULL, so `OR … IS NULL` means `missing: passes`.
        if set(fields_of(rest)) == {nulls[0].field} and not asks_null(rest):
            test, missing = rest, "passes"
    if isinstance(test, NoneOf):
        return Draft("exclude", _bare(test), missing, (condition,))
    return Draft("require", test, missing, (condition,))


def _merged(before: Draft, draft: Draft) -> Draft | None:
    """Two consecutive exclusions on one field as one clause: NOT a AND NOT b equals NOT (a OR b)."""
    same = (before.kind, before.missing, before.conditions[-1].part) == (
        draft.kind,
        draft.missing,
        draft.conditions[0].part,
    )
    if not same or draft.kind != "exclude":
        return None
    test = merged_with(before.test, draft.test)
    return None if test is None else replace(before, test=test, conditions=before.conditions + draft.conditions)


def _codes(test: Test) -> set[str]:
    return {code for pattern in test.codes for code in written_out(pattern)} if isinstance(test, HasCode) else set()


def _split(draft: Draft, shared: dict[str, dict[str, Any]]) -> list[Draft]:
    """Split a chain that contains a whole shared clause and more into that clause and the rest."""
    for clause in shared.values():
        part = parse_test(clause[draft.kind]) if draft.kind in clause else None
        if part is None or merged_with(part, draft.test) is None:
            continue
        inside = [c for c in draft.conditions if _codes(_bare(c.test)) <= _codes(part)]
        rest = [c for c in draft.conditions if c not in inside]
        if rest and set().union(*(_codes(_bare(c.test)) for c in inside)) == _codes(part):
            split = []
            for chosen in (inside, rest):
                test = simplified(AnyOf(tuple(_bare(c.test) for c in chosen)))
                split.append(replace(draft, test=test, conditions=tuple(chosen)))
            return sorted(split, key=lambda item: item.line)
    return [draft]


def _bare(test: Test) -> Test:
    """The test that an exclusion excludes."""
    return simplified(AnyOf(test.parts)) if isinstance(test, NoneOf) else test


def _as_shared(draft: Draft, shared: dict[str, dict[str, Any]]) -> Draft:
    for name, clause in shared.items():
        if draft.kind in clause and normal_test(parse_test(clause[draft.kind])) == normal_test(draft.test):
            return replace(draft, use=name, as_shared=clause.get("missing", "fails") == draft.missing)
    return draft


def _named(drafts: list[Draft]) -> Iterator[Draft]:
    taken: set[str] = set()
    for draft in drafts:
        base = draft.use
        if not base:
            names = list(dict.fromkeys(_NAMES.get(name, name) for name in draft.fields))
            base = "_or_".join(names[:3]) if not draft.scope else "procedure"
            if draft.kind == "exclude" and base in ("diagnosis", "primary_diagnosis", "procedure"):
                base = f"excluded_{base}"
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        yield replace(draft, id=name)
