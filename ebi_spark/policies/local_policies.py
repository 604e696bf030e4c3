"""Policies that extend another one: a national policy and a board's own clauses, merged into one document.

Each revision of the local policy inherits the clauses, readings and sensitivities of the national revision that is in force
on its first day. With ``follow_national: true`` it is split at the days on which the national policy changes, and each part
inherits what is in force then. If a reading or sensitivity of the national policy adds a clause with the same id as a local
clause, the local clause replaces it, so that the same matter is not tested twice.
"""

import csv
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import did_you_mean, nearest_name
from ebi_spark.policies.checks import clause_id, error_at

Document = dict[str, Any]
_NO_END = "9999-12-31"  # sorts after every day
# policy id → the content of its file, and the file
Documents = Mapping[str, tuple[Document, Path]]


def with_extended(policy_id: str, documents: Documents) -> Document:
    """The policy including everything that it inherits. An :class:`InputError` names the file, the line and the remedy."""
    return _with_extended(policy_id, documents, ())


def _with_extended(policy_id: str, documents: Documents, above: tuple[str, ...]) -> Document:
    """``above``: the policies that led here by their ``extends``, to detect a circle."""
    document, path = documents[policy_id]
    _check_boards(document, path)
    if "extends" not in document:
        for number, item in enumerate(document["revisions"]):
            if "follow_national" in item:
                message = "follow_national is only for a policy that extends another"
                raise error_at(path, ["revisions", number, "follow_national"], message, "delete it, or add `extends`")
        if "dataset" not in document:
            raise error_at(path, [], "the key 'dataset' is missing", "add `dataset: apc` or `dataset: op`")
        for number, item in enumerate(document["revisions"]):
            _check_names(item, set(), path, ["revisions", number])
        return document
    base_id = document["extends"]
    if base_id not in documents:
        raise error_at(
            path,
            ["extends"],
            f"there is no policy {base_id!r} to extend",
            f"{did_you_mean(base_id, documents, 0)}Its file must be in conf/policies or in a folder of policy_dirs",
        )
    chain = (*above, policy_id)
    if base_id in chain:
        circle = " → ".join((*chain[chain.index(base_id) :], base_id))
        message = f"the policies extend each other in a circle: {circle}"
        raise error_at(path, ["extends"], message, "remove one `extends`")
    base = _with_extended(base_id, documents, chain)
    if document.get("dataset", base["dataset"]) != base["dataset"]:
        message = f"{base_id}, which this policy extends, has the dataset {base['dataset']}"
        raise error_at(path, ["dataset"], message, "leave `dataset` out: it is inherited")
    revisions = [
        _revision(base, part, national, path, ["revisions", number])
        for number, item in enumerate(document["revisions"])
        for part, national in _parts(base, item, path, ["revisions", number])
    ]
    return {**document, "dataset": base["dataset"], "revisions": revisions}


def _parts(base: Document, item: Document, path: Path, where: list[Any]) -> Iterator[tuple[Document, Document]]:
    """A local revision, or with ``follow_national`` a part of it for each national revision during its time, with the
    national revision that it inherits from. Days are texts such as 2024-09-01, which sort like days.

    | local revision 2024-03, from 2024-03-01 | inherits from |
    |-----------------------------------------|---------------|
    | 2024-03: 2024-03-01 to 2024-09-01       | 2022-08       |
    | 2024-03+2024-09: from 2024-09-01        | 2024-09       |
    """
    span = item["in_force"]
    start, end = span["from"], span.get("to", _NO_END)
    first = _in_force(base, start, path, where)
    if not item.get("follow_national"):
        yield item, first
        return
    later = [other for other in base["revisions"] if start < other["in_force"]["from"] < end]
    for national in [first, *sorted(later, key=_first_day)]:
        since = max(start, _first_day(national)) if national is not first else start
        until = min(end, national["in_force"].get("to", _NO_END))
        in_force = {**span, "from": since} | ({} if until == _NO_END else {"to": until})
        name = item["revision"] if national is first else f"{item['revision']}+{national['revision']}"
        yield {**item, "revision": name, "in_force": in_force}, national


def _revision(base: Document, item: Document, inherited: Document, path: Path, where: list[Any]) -> Document:
    inherited_ids = {clause_id(clause) for clause in inherited["clauses"]}
    for number, clause in enumerate(item["clauses"]):
        if clause_id(clause) in inherited_ids:
            raise error_at(
                path,
                [*where, "clauses", number],
                f"the clause id {clause_id(clause)!r} appears twice: {base['id']} has it too",
                "give the clause a different id, or change the other clause by a decision of a reading",
            )
    _check_names(item, inherited_ids | _added(inherited), path, where)
    own_ids = {clause_id(clause) for clause in item["clauses"]}
    readings: Document = {}
    for name in dict.fromkeys((*inherited.get("readings", {}), *item.get("readings", {}))):
        before, after = inherited.get("readings", {}).get(name, {}), item.get("readings", {}).get(name, {})
        decisions = [d for d in before.get("decisions", []) if not ("add" in d and clause_id(d["add"]) in own_ids)]
        readings[name] = {**before, **after, "decisions": decisions + after.get("decisions", [])}
    known = {sensitivity["id"] for sensitivity in item.get("sensitivities", [])}
    sensitivities = [
        s
        for s in inherited.get("sensitivities", [])
        if s["id"] not in known and not ("add" in s and clause_id(s["add"]) in own_ids)
    ]
    return {
        **item,
        "clauses": [*inherited["clauses"], *item["clauses"]],
        "readings": readings,
        "sensitivities": [*sensitivities, *item.get("sensitivities", [])],
    }


def _decisions(revision: Document) -> Iterator[tuple[list[Any], Document]]:
    """Every decision of a revision's readings and sensitivities, with its path in the document."""
    for reading, given in revision.get("readings", {}).items():
        for number, decision in enumerate(given.get("decisions", [])):
            yield ["readings", reading, "decisions", number], decision
    for number, decision in enumerate(revision.get("sensitivities", [])):
        yield ["sensitivities", number], decision


def _added(revision: Document) -> set[str]:
    return {clause_id(decision["add"]) for _, decision in _decisions(revision) if "add" in decision}


def _check_names(revision: Document, inherited: set[str], path: Path, where: list[Any]) -> None:
    """Check that every clause that a clause or decision names exists, in the revision or among the ids ``inherited``."""
    others = _added(revision) | inherited
    known = {clause_id(clause) for clause in revision["clauses"]} | others
    tested = {clause_id(c) for c in revision["clauses"] if {"use", "require", "exclude"} & set(c)} | others

    def check(name: str, among: set[str], place: list[Any], message: str) -> None:
        if name not in among:
            raise error_at(
                path, [*where, *place], message, did_you_mean(name, sorted(among), 0).strip() or "name a clause"
            )

    for number, clause in enumerate(revision["clauses"]):
        if "covered_by" in clause:
            name = clause["covered_by"]
            message = f"the clause {clause_id(clause)} is covered by {name!r}, which is not a clause with a test"
            check(name, tested, ["clauses", number, "covered_by"], message)
    for place, decision in _decisions(revision):
        if "clause" in decision:
            name = decision["clause"]
            check(name, known, [*place, "clause"], f"decision {decision['id']}: there is no clause {name!r}")


def _in_force(base: Document, day: str, path: Path, where: list[Any]) -> Document:
    """The revision in force on a day; the first revision if the day is before all of them, as for activity (decision 11)."""
    first = min(base["revisions"], key=_first_day)
    found: Document = max(
        (item for item in base["revisions"] if _first_day(item) <= day), key=_first_day, default=first
    )
    if found["in_force"].get("to", _NO_END) <= day:
        raise error_at(
            path,
            [*where, "in_force"],
            f"{base['id']} has no revision in force on {day}: its revision {found['revision']} ended on "
            f"{found['in_force']['to']}",
            "correct `from`, or write the clauses out in a policy without `extends`",
        )
    return found


def _first_day(revision: Document) -> str:
    return str(revision["in_force"]["from"])


def _check_boards(document: Document, path: Path) -> None:
    for number, code in enumerate(document.get("boards", [])):
        known = _boards()
        if code not in known:
            near = nearest_name(code, known, 0) or ""
            raise error_at(
                path,
                ["boards", number],
                f"there is no integrated care board {code!r}",
                f"did you mean {near} ({known[near]})? All codes are in conf/reference/areas.csv",
            )


@cache
def _boards() -> dict[str, str]:
    """The name of every present or former integrated care board, by code."""
    with resource("conf", "reference", "areas.csv").open(encoding="utf-8", newline="") as file:
        return {row["icb_code"]: row["icb_name"] for row in csv.DictReader(file)}
