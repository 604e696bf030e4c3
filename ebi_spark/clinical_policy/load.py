"""Reading policies from YAML: shared clauses taken over, readings built by their decisions, everything checked."""

import difflib
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from ebi_spark.clinical_policy.checks import check_document, refuse_drafts
from ebi_spark.clinical_policy.compile import FIELDS, fields_of
from ebi_spark.clinical_policy.model import READINGS, Clause, Policy, PolicyReading, Revision, Unit
from ebi_spark.errors import InputError
from ebi_spark.settings import RunConfig, fingerprint, resource
from ebi_spark.yaml_documents import load_document


def load_policies(policy_dirs: Iterable[Path] = (), only: Iterable[str] | None = None) -> list[Policy]:
    """The shipped policies and those of ``policy_dirs``, sorted by id; ``only`` picks some by id."""
    shared = shared_clauses()
    policies: dict[str, Policy] = {}
    for folder in (resource("conf", "policies"), *policy_dirs):
        if not folder.is_dir():
            raise InputError(f"policies: there is no folder {folder}", remedy="correct policy_dirs")
        for path in sorted((*folder.glob("*.yml"), *folder.glob("*.yaml"))):
            policy = load_policy(path, shared)
            if policy.id in policies:
                raise InputError(
                    f"policies: {policy.id} stands in two files: {policies[policy.id].path} and {path}",
                    remedy="give one of them another id",
                )
            policies[policy.id] = policy
    if only is None:
        return [policies[name] for name in sorted(policies)]
    chosen = []
    for name in sorted(set(only)):
        if name not in policies:
            near = difflib.get_close_matches(name, policies, n=1, cutoff=0.0)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InputError(
                f"policies: there is no policy {name!r}",
                remedy=f"{hint}The policies are: {', '.join(sorted(policies))}",
            )
        chosen.append(policies[name])
    return chosen


def shared_clauses() -> dict[str, dict[str, Any]]:
    """The clauses that several policies use, by id."""
    document = load_document(
        resource("conf", "shared_clauses.yml"), resource("conf", "shared_clauses.schema.json"), what="shared clauses"
    )
    return {clause["id"]: clause for clause in document["clauses"]}


def load_policy(path: Path, shared: dict[str, dict[str, Any]]) -> Policy:
    """One policy file; an :class:`InputError` names file, revision, clause and remedy."""
    document = load_document(path, resource("conf", "policy.schema.json"), what="policy")
    check_document(document, path)
    where = f"policy: {path}"
    revisions = []
    for item in document["revisions"]:
        here = f"{where}: revision {item['revision']}"
        published = [_clause(clause, shared, here) for clause in item["clauses"]]
        _check_clauses(published, document["dataset"], here)
        readings = {"as_published": published}
        for name in READINGS[1:]:
            given = item.get("readings", {}).get(name, {})
            base = given.get("extends", READINGS[READINGS.index(name) - 1])
            if base not in readings:
                raise InputError(
                    f"{here}: the reading {name} extends {base}, which does not come before it",
                    remedy="extend as_published or as_intended",
                )
            readings[name] = _decided(readings[base], given.get("decisions", []), shared, f"{here}: reading {name}")
            _check_clauses(readings[name], document["dataset"], f"{here}: reading {name}")
        start = _day(item["in_force"]["from"], here)
        end = _day(item["in_force"]["to"], here) if "to" in item["in_force"] else None
        if end is not None and end <= start:
            raise InputError(
                f"{here}: it ends before it starts", remedy="`to` is exclusive and must be later than `from`"
            )
        revisions.append(
            Revision(
                name=item["revision"],
                start=start,
                end=end,
                scope=published[0],
                readings={
                    name: _reading(document, item, name, clauses, start, end) for name, clauses in readings.items()
                },
            )
        )
    _check_revisions(revisions, where)
    return Policy(
        id=document["id"],
        title=document["title"],
        dataset=document["dataset"],
        source=dict(document["source"]),
        default_reading=document["default_reading"],
        revisions=tuple(sorted(revisions, key=lambda revision: revision.start)),
        path=str(path),
        to_complete=tuple(document.get("to_complete", ())),
    )


def units(policies: Iterable[Policy], config: RunConfig) -> list[Unit]:
    """Which revision reads which span of activity: the one in force on the day, or one fixed for all days."""
    policies = list(policies)
    refuse_drafts(policies)
    ids = {policy.id for policy in policies}
    chosen: list[Unit] = []
    for name in config.fixed_revisions:
        if name not in ids:
            raise InputError(
                f"fixed_revisions: there is no policy {name!r}", remedy=f"choose from: {', '.join(sorted(ids))}"
            )
    for policy in policies:
        if config.basis == "fixed":
            named = config.fixed_revisions.get(policy.id, policy.revisions[-1].name)
            fixed = [revision for revision in policy.revisions if revision.name == named]
            if not fixed:
                known = ", ".join(revision.name for revision in policy.revisions)
                raise InputError(
                    f"fixed_revisions: {policy.id} has no revision {named!r}", remedy=f"its revisions are: {known}"
                )
            chosen.append(Unit(policy, fixed[0], None, None))
            continue
        for number, revision in enumerate(policy.revisions):
            chosen.append(Unit(policy, revision, None if number == 0 else revision.start, revision.end))
    return chosen


def _clause(item: dict[str, Any], shared: dict[str, dict[str, Any]], where: str, decision: str = "") -> Clause:
    merged = item
    if "use" in item:
        if item["use"] not in shared:
            near = difflib.get_close_matches(item["use"], shared, n=1, cutoff=0.0)
            raise InputError(
                f"{where}: there is no shared clause {item['use']!r}",
                remedy=f"did you mean {near[0]}?" if near else "write it out",
            )
        merged = {**shared[item["use"]], **{key: value for key, value in item.items() if key != "use"}}
    if "id" not in merged:
        raise InputError(f"{where}: a clause has no id", remedy="give it one, such as `id: age`")
    if "require" in merged and "exclude" in merged:
        raise InputError(f"{where}: clause {merged['id']} both requires and excludes", remedy="make two clauses of it")
    kind = next((key for key in ("require", "exclude") if key in merged), "note")
    coding = merged.get("coding", "coded")
    if (kind == "note") != (coding == "not_codable"):
        raise InputError(
            f"{where}: clause {merged['id']} {'has no test' if kind == 'note' else 'has a test but is not_codable'}",
            remedy="give `require` or `exclude`, or write `coding: not_codable` without either",
        )
    test = merged.get(kind)
    return Clause(
        id=merged["id"],
        words=merged.get("words", ""),
        kind="scope" if merged.get("scope") else kind,
        test=test,
        missing=merged.get("missing", "fails"),
        coding=coding,
        because=merged.get("because", ""),
        decision=decision,
    )


def _decided(
    clauses: list[Clause], decisions: list[dict[str, Any]], shared: dict[str, dict[str, Any]], where: str
) -> list[Clause]:
    """``clauses`` after a reading's decisions, in their order."""
    result = list(clauses)
    seen: set[str] = set()
    for item in decisions:
        here = f"{where}: decision {item['id']}"
        if item["id"] in seen:
            raise InputError(f"{here} stands twice", remedy="give each decision an id of its own")
        seen.add(item["id"])
        if "add" in item:
            result.append(_clause(item["add"], shared, here, item["id"]))
            continue
        at = next((n for n, clause in enumerate(result) if clause.id == item.get("clause")), None)
        if at is None:
            known = [clause.id for clause in result]
            near = difflib.get_close_matches(str(item.get("clause")), known, n=1, cutoff=0.0)
            raise InputError(
                f"{here}: there is no clause {item.get('clause')!r}",
                remedy=f"did you mean {near[0]}?" if near else "name one",
            )
        if item.get("drop"):
            del result[at]
            continue
        old = result[at]
        kind = next((key for key in ("require", "exclude") if key in item), old.kind)
        result[at] = Clause(
            id=old.id,
            words=item.get("words", old.words),
            kind=kind,
            test=item.get(kind, old.test),
            missing=item.get("missing", old.missing),
            coding=old.coding,
            because=item["because"],
            decision=item["id"],
        )
    return result


def _check_clauses(clauses: list[Clause], dataset: str, where: str) -> None:
    seen: set[str] = set()
    for clause in clauses:
        if clause.id in seen:
            raise InputError(
                f"{where}: the clause id {clause.id!r} stands twice", remedy="give each clause an id of its own"
            )
        seen.add(clause.id)
        for name in fields_of(clause.test) if clause.test else ():
            if name not in FIELDS[dataset]:
                known = sorted(FIELDS[dataset])
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                raise InputError(
                    f"{where}: clause {clause.id}: {dataset} records have no field {name!r}",
                    remedy=f"did you mean {near[0]!r}? The fields are: {', '.join(known)}",
                )
    scopes = [clause.id for clause in clauses if clause.kind == "scope"]
    if len(scopes) != 1 or clauses[0].kind != "scope":
        raise InputError(
            f"{where}: the first clause, and only that, must be the scope ({len(scopes)} found)",
            remedy="mark the first clause `scope: true`: it decides which records get a row at all",
        )


def _check_revisions(revisions: list[Revision], where: str) -> None:
    ordered = sorted(revisions, key=lambda revision: revision.start)
    for earlier, later in zip(ordered, ordered[1:], strict=False):
        if earlier.name == later.name:
            raise InputError(f"{where}: the revision {later.name!r} stands twice", remedy="rename one")
        if earlier.end is None or earlier.end > later.start:
            raise InputError(
                f"{where}: revisions {earlier.name} and {later.name} overlap",
                remedy=f"end {earlier.name} with `to: {later.start}` or earlier (exclusive)",
            )


def _reading(
    document: dict[str, Any], revision: dict[str, Any], name: str, clauses: list[Clause], start: date, end: date | None
) -> PolicyReading:
    found = verdict_fingerprint(document, revision["revision"], name, clauses, start, end)
    definition = {
        **{key: document[key] for key in ("id", "title", "dataset", "source", "default_reading")},
        "revision": revision["revision"],
        "reading": name,
        "in_force": revision["in_force"],
        "clauses": [
            {"id": c.id, "kind": c.kind, "words": c.words, "test": c.test, "missing": c.missing, "coding": c.coding,
             "because": c.because, "decision": c.decision}
            for c in clauses
        ],
    }  # fmt: skip
    return PolicyReading(document["id"], revision["revision"], name, tuple(clauses), found, definition)


def verdict_fingerprint(
    document: Mapping[str, Any], revision: str, reading: str, clauses: Iterable[Clause], start: date, end: date | None
) -> str:
    """A fingerprint of what can change a verdict, and nothing else: a mended word leaves it as it is."""
    return fingerprint(
        {
            "policy": document["id"],
            "dataset": document["dataset"],
            "revision": revision,
            "reading": reading,
            "in_force": [str(start), str(end)],
            "clauses": [[c.id, c.kind, c.test, c.missing] for c in clauses if c.kind != "note"],
        }
    )


def _day(value: str, where: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise InputError(f"{where}: {value!r} is no date", remedy="write dates as 2022-08-01") from None
