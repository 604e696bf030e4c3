"""Policies that extend another: a board's own clauses on top of a national policy, as one document.

The overlay's revision takes over the clauses, readings and sensitivities of the revision that the national policy has in
force on the overlay's first day. Where a reading of the national policy adds a clause of the same name, the overlay's
clause takes its place, so that one matter is judged once.
"""

import csv
import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ebi_spark.config.settings import resource
from ebi_spark.config.yaml_documents import line_of
from ebi_spark.errors import InputError

Document = dict[str, Any]
# id → the document as its file has it, and the file
Documents = Mapping[str, tuple[Document, Path]]


def composed(policy_id: str, documents: Documents) -> Document:
    """The policy with all that it takes over; an :class:`InputError` names file and line."""
    return _composed(policy_id, documents, ())


def _composed(policy_id: str, documents: Documents, above: tuple[str, ...]) -> Document:
    document, path = documents[policy_id]
    _check_boards(document, path)
    if "extends" not in document:
        if "dataset" not in document:
            raise at(path, [], "the key 'dataset' is missing", "add `dataset: apc` or `dataset: op`")
        for number, item in enumerate(document["revisions"]):
            _check_names(item, set(), path, ["revisions", number])
        return document
    base_id = document["extends"]
    if base_id not in documents:
        near = difflib.get_close_matches(base_id, documents, n=1, cutoff=0.0)
        raise at(
            path,
            ["extends"],
            f"there is no policy {base_id!r} to extend",
            (f"did you mean {near[0]}? " if near else "")
            + "Its file must be in conf/policies or in a folder of policy_dirs",
        )
    chain = (*above, policy_id)
    if base_id in chain:
        circle = " → ".join((*chain[chain.index(base_id) :], base_id))
        raise at(path, ["extends"], f"the policies extend each other in a circle: {circle}", "leave one `extends` out")
    base = _composed(base_id, documents, chain)
    if document.get("dataset", base["dataset"]) != base["dataset"]:
        raise at(path, ["dataset"], f"{base_id} judges {base['dataset']}", "leave `dataset` out, it is taken over")
    revisions = [
        _revision(base, item, path, ["revisions", number]) for number, item in enumerate(document["revisions"])
    ]
    return {**document, "dataset": base["dataset"], "revisions": revisions}


def _revision(base: Document, item: Document, path: Path, where: list[Any]) -> Document:
    under = _in_force(base, item["in_force"]["from"])
    taken = {_name(clause) for clause in under["clauses"]}
    for number, clause in enumerate(item["clauses"]):
        if _name(clause) in taken:
            raise at(
                path,
                [*where, "clauses", number],
                f"the clause id {_name(clause)!r} stands twice: {base['id']} has it too",
                "give the clause an id of its own, or change the other one by a decision of a reading",
            )
    _check_names(item, taken | _added(under), path, where)
    own = {_name(clause) for clause in item["clauses"]}
    readings: Document = {}
    for name in dict.fromkeys((*under.get("readings", {}), *item.get("readings", {}))):
        before, after = under.get("readings", {}).get(name, {}), item.get("readings", {}).get(name, {})
        decisions = [d for d in before.get("decisions", []) if not ("add" in d and _name(d["add"]) in own)] + after.get(
            "decisions", []
        )
        readings[name] = {**before, **after, "decisions": decisions}
    known = {sensitivity["id"] for sensitivity in item.get("sensitivities", [])}
    sensitivities = [s for s in under.get("sensitivities", []) if s["id"] not in known]
    return {
        **item,
        "clauses": [*under["clauses"], *item["clauses"]],
        "readings": readings,
        "sensitivities": [*sensitivities, *item.get("sensitivities", [])],
    }


def _decisions(revision: Document) -> Iterator[tuple[list[Any], Document]]:
    """Every decision of a revision's readings and sensitivities, with its place."""
    for reading, given in revision.get("readings", {}).items():
        for number, decision in enumerate(given.get("decisions", [])):
            yield ["readings", reading, "decisions", number], decision
    for number, decision in enumerate(revision.get("sensitivities", [])):
        yield ["sensitivities", number], decision


def _added(revision: Document) -> set[str]:
    return {_name(decision["add"]) for _, decision in _decisions(revision) if "add" in decision}


def _check_names(revision: Document, taken: set[str], path: Path, where: list[Any]) -> None:
    """Clauses that a clause or a decision names must be there: in the revision or among those taken over (``taken``)."""
    others = _added(revision) | taken
    known = {_name(clause) for clause in revision["clauses"]} | others
    tested = {_name(c) for c in revision["clauses"] if {"use", "require", "exclude"} & set(c)} | others

    def check(name: str, among: set[str], place: list[Any], message: str) -> None:
        if name not in among:
            near = difflib.get_close_matches(name, sorted(among), n=1, cutoff=0.0)
            raise at(path, [*where, *place], message, f"did you mean {near[0]}?" if near else "name a clause")

    for number, clause in enumerate(revision["clauses"]):
        if "covered_by" in clause:
            name = clause["covered_by"]
            message = f"the clause {_name(clause)} is covered by {name!r}, which is no clause with a test"
            check(name, tested, ["clauses", number, "covered_by"], message)
    for place, decision in _decisions(revision):
        if "clause" in decision:
            name = decision["clause"]
            check(name, known, [*place, "clause"], f"decision {decision['id']}: there is no clause {name!r}")


def _in_force(base: Document, day: str) -> Document:
    """The revision in force on a day; before the first, the first."""
    started = [item for item in base["revisions"] if item["in_force"]["from"] <= day]
    found: Document = (
        max(started, key=lambda item: str(item["in_force"]["from"]))
        if started
        else min(base["revisions"], key=lambda item: str(item["in_force"]["from"]))
    )
    return found


def _name(clause: Document) -> str:
    return str(clause.get("id", clause.get("use")))


def _check_boards(document: Document, path: Path) -> None:
    for number, code in enumerate(document.get("boards", [])):
        known = _boards()
        if code not in known:
            near = difflib.get_close_matches(code, known, n=1, cutoff=0.0)[0]
            raise at(
                path,
                ["boards", number],
                f"there is no integrated care board {code!r}",
                f"did you mean {near} ({known[near]})? The codes stand in conf/reference/areas.csv",
            )


@cache
def _boards() -> dict[str, str]:
    """Every integrated care board that there is or was, by code."""
    with resource("conf", "reference", "areas.csv").open(encoding="utf-8", newline="") as file:
        return {row["icb_code"]: row["icb_name"] for row in csv.DictReader(file)}


def at(path: Path, where: list[Any], message: str, remedy: str) -> InputError:
    """An error about one place of a policy file, with its line."""
    node = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    return InputError(f"policy: {path}, line {line_of(node, where)}: {message}", remedy=remedy)
