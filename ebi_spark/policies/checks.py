"""Checks of a policy file that a JSON Schema cannot express. Each problem is reported with its line."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, assert_never

import yaml

from ebi_spark.config.yaml_documents import DocumentError, line_of
from ebi_spark.errors import InputError, did_you_mean
from ebi_spark.policies.compile import FIELDS, LIST_FIELDS
from ebi_spark.policies.model import (
    ALL_OPERATORS,
    READINGS,
    AgeRange,
    AllOf,
    AnyOf,
    FollowedBy,
    HasCode,
    IsNull,
    NoneOf,
    Policy,
    parse_test,
)
from ebi_spark.policies.patterns import (
    AGE_FIELDS,
    CODE_FIELDS,
    PatternError,
    impossible_age,
    places,
    why_not_a_code,
)

Where = list[Any]
# Clauses that several policies use, by id.
Shared = Mapping[str, Mapping[str, Any]]


def refuse_drafts(policies: Iterable[Policy]) -> None:
    """Raise an :class:`InputError` if an imported policy still has entries under ``to_complete``."""
    for policy in policies:
        if policy.to_complete:
            raise InputError(
                f"policies: {policy.id} ({policy.path}) is a draft; still to complete: {'; '.join(policy.to_complete)}",
                remedy="complete each entry under `to_complete` and delete it, or leave the policy out with --policies",
            )


def document_faults(document: dict[str, Any], path: Path, shared: Shared) -> Iterator[DocumentError]:
    """Every field, code, age, id, date or clause of a policy file that is certainly wrong.

    ``shared``: the shared clauses by id. A policy without a dataset takes it from the one it extends; the fields of both
    datasets are then accepted.
    """
    node: yaml.Node | None = None
    for where, message, remedy in _problems(document, document.get("dataset") or "", shared):
        node = node or _node(path)
        yield DocumentError("policy", path, line_of(node, where), message, remedy=remedy)


def error_at(path: Path, where: Where, message: str, remedy: str) -> DocumentError:
    """An error that names a policy file and the line of the value at ``where``."""
    return DocumentError("policy", path, line_of(_node(path), where), message, remedy=remedy)


def _node(path: Path) -> yaml.Node | None:
    return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)


def clause_id(clause: dict[str, Any]) -> str:
    """The id of a clause as written in a file: its own, or that of the shared clause that it uses."""
    return str(clause.get("id", clause.get("use")))


def _problems(document: dict[str, Any], dataset: str, shared: Shared) -> Iterator[tuple[Where, str, str]]:
    yield from _source(document["source"])
    yield from _revisions(document["revisions"])
    for number, revision in enumerate(document["revisions"]):
        here: Where = ["revisions", number, "clauses"]
        named = f"revision {revision['revision']}: "
        seen: set[str] = set()
        for at, clause in enumerate(revision.get("clauses", [])):
            name = clause_id(clause)
            if name in seen:
                yield [*here, at], f"the clause id {name!r} appears twice", "give each clause a different id"
            seen.add(name)
            yield from _clause(clause, [*here, at], dataset)
            yield from _parts(clause, [*here, at], named, shared)
        for reading, given in revision.get("readings", {}).items():
            before = [*READINGS[: READINGS.index(reading)]] if reading in READINGS else [*READINGS]
            if "extends" in given and given["extends"] not in before:
                place: Where = ["revisions", number, "readings", reading, "extends"]
                message = f"{named}the reading {reading} extends {given['extends']}, which does not come before it"
                yield place, message, f"extend {' or '.join(before)}"
            place = ["revisions", number, "readings", reading, "decisions"]
            yield from _decisions(given.get("decisions", []), "decision", place, dataset, named, shared)
        place = ["revisions", number, "sensitivities"]
        yield from _decisions(revision.get("sensitivities", []), "sensitivity", place, dataset, named, shared)


def _decisions(
    decisions: list[dict[str, Any]], what: str, place: Where, dataset: str, named: str, shared: Shared
) -> Iterator[tuple[Where, str, str]]:
    """What is wrong in decisions and in the clauses that they add. ``what``: what the file calls one of them."""
    seen: set[str] = set()
    for at, decision in enumerate(decisions):
        where = [*place, at]
        if decision["id"] in seen:
            yield where, f"the {what} {decision['id']!r} appears twice", f"give each {what} a different id"
        seen.add(decision["id"])
        yield from _clause(decision, where, dataset)
        if "add" in decision:
            yield from _clause(decision["add"], [*where, "add"], dataset)
            yield from _parts(decision["add"], [*where, "add"], named, shared)


def _parts(clause: dict[str, Any], where: Where, named: str, shared: Shared) -> Iterator[tuple[Where, str, str]]:
    """Whether a clause has what it needs: an id, and one test unless it says why it has none. ``named``: its revision."""
    if "use" in clause and clause["use"] not in shared:
        yield (
            [*where, "use"],
            f"{named}there is no shared clause {clause['use']!r}",
            did_you_mean(clause["use"], shared, 0).strip() or "write the clause out in the policy",
        )
        return
    merged = {**shared.get(clause.get("use", ""), {}), **clause}
    if "id" not in merged:
        yield where, f"{named}a clause has no id", "give it one, such as `id: age`"
        return
    tests = [key for key in ("require", "exclude") if key in merged]
    if len(tests) > 1:
        message = f"{named}the clause {merged['id']} has both `require` and `exclude`"
        yield where, message, "split it into two clauses"
    untested = merged.get("coding") in ("not_codable", "not_applicable") or "covered_by" in merged
    if bool(tests) == untested and not merged.get("scope"):
        problem = "has a test, but also says that it needs none" if untested else "has no test"
        yield (
            where,
            f"{named}the clause {merged['id']} {problem}",
            "give `require` or `exclude`; or, for a clause without a test, `covered_by: CLAUSE`, `coding: not_codable` or "
            "`coding: not_applicable`",
        )
    if merged.get("scope") and tests != ["require"]:
        yield (
            where,
            f"{named}the scope {merged['id']} has no `require`",
            "give it a test with `require`: it decides which records the policy is about",
        )


def _clause(clause: dict[str, Any], where: Where, dataset: str) -> Iterator[tuple[Where, str, str]]:
    for kind in ("require", "exclude"):
        if kind in clause:
            yield from _test(clause[kind], [*where, kind], dataset)


def _test(test: dict[str, Any], where: Where, dataset: str) -> Iterator[tuple[Where, str, str]]:
    joined = [key for key in ("any_of", "all_of", "none_of") if key in test]
    for key in joined:
        for number, item in enumerate(test[key]):
            yield from _test(item, [*where, key, number], dataset)
    if joined:
        if len(test) > 1:
            yield (
                where,
                "a test can have one of any_of, all_of and none_of, or a field, but not two of these",
                "split it into two tests within all_of",
            )
        return
    name = test.get("field")
    fields = FIELDS.get(dataset) or FIELDS["apc"] | FIELDS["op"]
    if name not in fields:
        hint = did_you_mean(str(name), fields, 0, quoted=True)
        message = f"{dataset} records have no field {name!r}" if name else "a test names no field"
        yield where, message.strip(), f"{hint}The fields are: {', '.join(sorted(fields))}"
        return
    operators = [key for key in ALL_OPERATORS if key in test]
    if len(operators) != 1:
        yield (
            where,
            f"the test of {name} has {len(operators)} operators, where it must have one",
            "give one operator, and combine tests with all_of or any_of",
        )
        return
    yield from _field_test(test, operators[0], where)


def _field_test(test: dict[str, Any], operator: str, where: Where) -> Iterator[tuple[Where, str, str]]:
    """What is wrong in a test of a known field with one operator: fields that the operator cannot test, and its values."""
    name, value, here = test["field"], test[operator], [*where, operator]
    parsed = parse_test(test)
    if isinstance(parsed, AgeRange) != (name in AGE_FIELDS) and not isinstance(parsed, IsNull):
        yield (
            here,
            f"{operator} cannot be used with {name}",
            "use between, at_least or at_most for ages, and a list of codes for other fields",
        )
        return
    if "left" in test and (name in LIST_FIELDS or not isinstance(parsed, HasCode)):
        yield (
            [*where, "left"],
            f"left cannot be used with {operator} on {name}",
            "use it with starts_with, contains or in, on a field with a single code such as dominant_procedure",
        )
    if "directly" in test and not isinstance(parsed, FollowedBy):
        yield [*where, "directly"], f"directly cannot be used with {operator}", "use it only with followed_by"
        return
    match parsed:
        case AgeRange(_, low, high):
            bounds = [age for age in (low, high) if age is not None]
            if bounds != sorted(bounds) or any(map(impossible_age, bounds)):
                yield (
                    here,
                    f"an impossible age: {value}",
                    "give ages from 0 to 120 (or 7000 to 7007, the codes for babies), the lower one first",
                )
        case FollowedBy(_, first, then):
            if name in LIST_FIELDS:
                yield from _patterns(name, operator, (*first, *then), here)
            else:
                yield here, f"{operator} cannot be used with {name}", f"use it with {' or '.join(LIST_FIELDS)}"
        case HasCode(_, _, codes):
            yield from _patterns(name, operator, codes, here)
        case IsNull() | AnyOf() | AllOf() | NoneOf():
            pass  # no values; and tests that are combined are checked one by one
        case _:
            assert_never(parsed)


def _patterns(name: str, operator: str, patterns: Iterable[str], where: Where) -> Iterator[tuple[Where, str, str]]:
    for pattern in patterns:
        yield from _pattern(name, operator, pattern, where)


def _pattern(name: str, operator: str, pattern: str, where: Where) -> Iterator[tuple[Where, str, str]]:
    try:
        open_ended = None in places(pattern)
    except PatternError as error:
        yield where, f"an invalid code: {error}", "correct the code"
        return
    if name in CODE_FIELDS and (why := why_not_a_code(pattern)):
        yield where, f"an invalid code: {why}", "correct the code"
    elif open_ended and name in LIST_FIELDS:
        yield where, f"{pattern} could match the comma between two codes", "list the characters, as in M17[1234]"
    elif operator == "in" and any(part is None or len(part) > 1 for part in places(pattern)):
        yield (
            where,
            f"`in` compares whole codes, but {pattern} matches several codes",
            "list the codes, or use starts_with",
        )


def _source(source: dict[str, Any]) -> Iterator[tuple[Where, str, str]]:
    day = source.get("last_checked")
    if day is not None:
        try:
            date.fromisoformat(day)
        except ValueError:
            yield ["source", "last_checked"], f"{day!r} is not a date", "write dates as 2022-08-01"


def _revisions(revisions: list[dict[str, Any]]) -> Iterator[tuple[Where, str, str]]:
    spans = []
    for number, revision in enumerate(revisions):
        span = revision["in_force"]
        days: list[tuple[Where, str]] = [(["in_force", key], span[key]) for key in ("from", "to") if key in span]
        days += [(["regime", at, "day"], item["day"]) for at, item in enumerate(revision.get("regime", []))]
        for where, value in days:
            try:
                date.fromisoformat(value)
            except ValueError:
                yield ["revisions", number, *where], f"{value!r} is not a date", "write dates as 2022-08-01"
                return
        if "to" in span and span["to"] <= span["from"]:
            yield (
                ["revisions", number, "in_force", "to"],
                f"revision {revision['revision']}: it ends on or before the day it starts",
                "correct the dates: `to` is exclusive and must be later than `from`",
            )
        spans.append((span["from"], span.get("to", "9999-12-31"), number, revision["revision"]))
    names: set[str] = set()
    spans.sort()
    for earlier, later in zip(spans, spans[1:], strict=False):
        if earlier[1] > later[0]:
            yield (
                ["revisions", later[2], "in_force"],
                f"revisions {earlier[3]} and {later[3]} overlap",
                f"end {earlier[3]} with `to: {later[0]}` or earlier (exclusive)",
            )
    for _, _, number, name in spans:
        if name in names:
            yield ["revisions", number], f"the revision {name!r} appears twice", "rename one of them"
        names.add(name)
