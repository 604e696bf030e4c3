"""Load and check policies from YAML.

Shared clauses and the clauses of an extended policy are included, the readings are built from their decisions, and each
decision is also reversed alone (see :class:`~ebi_spark.policies.model.Flip`).
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from ebi_spark.config.fingerprint import fingerprint
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource, shipped_document
from ebi_spark.config.yaml_documents import DocumentError, all_at_once, read_document
from ebi_spark.errors import InputError, did_you_mean
from ebi_spark.policies.checks import Shared, clause_id, document_faults, error_at, refuse_drafts
from ebi_spark.policies.compile import FIELDS
from ebi_spark.policies.local_policies import Documents, with_extended
from ebi_spark.policies.model import (
    READINGS,
    Clause,
    Flip,
    Policy,
    PolicyReading,
    Revision,
    RevisionPeriod,
    fields_of,
    parse_test,
)


def load_policies(policy_dirs: Iterable[Path] = (), only: Iterable[str] | None = None) -> list[Policy]:
    """The shipped policies and those in ``policy_dirs``, sorted by id; with ``only``, the policies with these ids.

    An :class:`InputError` names a folder or policy that does not exist, an id that two files have, or the file, line and
    remedy of anything wrong in a policy.
    """
    policies, faults = read_policies(policy_dirs)
    if faults:
        error = all_at_once([fault for fault in faults if fault.path == faults[0].path])
        others = len({fault.path for fault in faults}) - 1
        more = (
            f". {others} more {'file has' if others == 1 else 'files have'} faults: `ebi-spark policy lint` lists all"
        )
        raise InputError(error.message + more, remedy=error.remedy) if others else error
    if only is None:
        return policies
    known = {policy.id: policy for policy in policies}
    chosen = []
    for name in sorted(set(only)):
        if name not in known:
            raise InputError(
                f"policies: there is no policy {name!r}",
                remedy=f"{did_you_mean(name, known, 0)}The policies are: {', '.join(sorted(known))}",
            )
        chosen.append(known[name])
    return chosen


def read_policies(policy_dirs: Iterable[Path] = ()) -> tuple[list[Policy], list[DocumentError]]:
    """The policies of :func:`load_policies`, sorted by id, and everything that is wrong in the files of those that cannot be
    loaded. An :class:`InputError` names a folder that does not exist."""
    shared = shared_clauses()
    documents: dict[str, tuple[dict[str, Any], Path]] = {}
    faults: list[DocumentError] = []
    faulty: set[Any] = set()
    for folder in (resource("conf", "policies"), *policy_dirs):
        if not os.path.isdir(folder):  # noqa: PTH112 - unlike Path.is_dir, it does not fail on a name that is too long
            raise InputError(f"policies: there is no folder {folder}", remedy="correct policy_dirs, or --policies-dir")
        for path in sorted((*folder.glob("*.yml"), *folder.glob("*.yaml"))):
            try:
                document, wrong = _read(path, shared)
            except InputError as error:
                faults.append(_of_file(error, path))
                continue
            name = document.get("id")
            if isinstance(name, str) and name in documents:
                message = f"two files have the id {name}: this one and {documents[name][1]}"
                wrong.append(error_at(path, ["id"], message, "give one of them a different id"))
            elif wrong:
                faulty.add(str(name))
            else:
                documents[str(name)] = (document, path)
            faults += wrong
    policies = []
    for name, (document, path) in sorted(documents.items()):
        try:
            policies.append(_build(name, documents, shared))
        except InputError as error:
            # A policy that extends a faulty one cannot be built, but has no fault of its own.
            if document.get("extends") not in faulty:
                faults.append(_of_file(error, path))
            faulty.add(name)
    return policies, faults


def _of_file(error: InputError, path: Path) -> DocumentError:
    if isinstance(error, DocumentError):
        return error
    problem = error.message.removeprefix(f"policy: {path}").lstrip(": ")
    return DocumentError("policy", path, None, problem, remedy=error.remedy)


def shared_clauses() -> dict[str, dict[str, Any]]:
    """The clauses of ``conf/shared_clauses.yml``, which several policies use, by id."""
    return {clause["id"]: clause for clause in shipped_document("shared_clauses", "shared clauses")["clauses"]}


def _read(path: Path, shared: Shared) -> tuple[dict[str, Any], list[DocumentError]]:
    """The content of one policy file, and its faults: those that its JSON Schema finds, and on other lines those that
    :func:`document_faults` finds."""
    document, faults = read_document(path, resource("conf", "policy.schema.json"), what="policy")
    if not faults:
        return document, list(document_faults(document, path, shared))
    lines = {fault.line for fault in faults}
    # A value of another form than the schema allows ends the search.
    with suppress(KeyError, TypeError, AttributeError, ValueError):
        for fault in document_faults(document, path, shared):
            if fault.line not in lines:
                faults.append(fault)
    return document, sorted(faults, key=lambda fault: fault.line or 0)


def load_policy(path: Path, shared: Shared) -> Policy:
    """One policy that extends no other. An :class:`InputError` names the file, the line and the remedy."""
    document, faults = _read(path, shared)
    if faults:
        raise all_at_once(faults)
    return _build(document["id"], {document["id"]: (document, path)}, shared)


def _build(policy_id: str, documents: Documents, shared: Shared) -> Policy:
    document, path = with_extended(policy_id, documents), documents[policy_id][1]
    where = f"policy: {path}"
    revisions = []
    for item in document["revisions"]:
        here = f"{where}: revision {item['revision']}"
        published = [_clause(clause, shared) for clause in item["clauses"]]
        _check_clauses(published, document["dataset"], here)
        readings = {"as_published": published}
        for name in READINGS[1:]:
            given = item.get("readings", {}).get(name, {})
            base = given.get("extends", READINGS[READINGS.index(name) - 1])
            readings[name] = _apply_decisions(
                readings[base], given.get("decisions", []), shared, f"{here}: reading {name}"
            )
            _check_clauses(readings[name], document["dataset"], f"{here}: reading {name}")
        start = date.fromisoformat(item["in_force"]["from"])
        end = date.fromisoformat(item["in_force"]["to"]) if "to" in item["in_force"] else None
        revisions.append(
            Revision(
                name=item["revision"],
                start=start,
                end=end,
                scope=published[0],
                readings={
                    name: _reading(document, item, name, clauses, start, end) for name, clauses in readings.items()
                },
                dated=item["in_force"].get("dated", "stated"),
                rationale=item["in_force"].get("because", ""),
                regime=tuple((date.fromisoformat(known["day"]), known["words"]) for known in item.get("regime", ())),
                baseline=dict(item.get("baseline", {})),
                flips=tuple(_flips(item, readings, document["dataset"], shared, here)),
            )
        )
    return Policy(
        id=document["id"],
        title=document["title"],
        dataset=document["dataset"],
        source=dict(document["source"]),
        default_reading=document["default_reading"],
        revisions=tuple(sorted(revisions, key=lambda revision: revision.start)),
        path=str(path),
        **{f"publish_{key}": value for key, value in document.get("publish", {}).items()},
        to_complete=tuple(document.get("to_complete", ())),
        extends=document.get("extends", ""),
        boards=tuple(document.get("boards", ())),
        target=float(document["target"]) if "target" in document else None,
    )


def refuse_unknown_policies(fixed_revisions: Iterable[str], known: Iterable[str]) -> None:
    """Refuse ``fixed_revisions`` that name a policy that is not among the ``known``."""
    ids = sorted(known)
    for name in fixed_revisions:
        if name not in ids:
            raise InputError(f"fixed_revisions: there is no policy {name!r}", remedy=f"choose from: {', '.join(ids)}")


def revision_periods(policies: Iterable[Policy], config: RunConfig) -> list[RevisionPeriod]:
    """Which revision applies to which period of activity: each while it is in force, or with ``basis: fixed`` one revision
    for all days. The first revision also applies to activity before it (decision 11).

    An :class:`InputError` refuses drafts, and names a revision of ``fixed_revisions`` that does not exist.
    """
    policies = list(policies)
    refuse_drafts(policies)
    chosen: list[RevisionPeriod] = []
    for policy in policies:
        if config.basis == "fixed":
            chosen.append(RevisionPeriod(policy, _fixed_revision(policy, config), None, None))
            continue
        chosen += periods_in_force(policy)
    return chosen


def with_fixed_revision(policy: Policy, config: RunConfig) -> Policy:
    """The policy with one revision, which applies to all days, as a run with ``basis: fixed`` applies it."""
    revision = replace(_fixed_revision(policy, config), start=date.min, end=None)
    return replace(policy, revisions=(revision,))


def _fixed_revision(policy: Policy, config: RunConfig) -> Revision:
    named = config.fixed_revisions.get(policy.id, policy.revisions[-1].name)
    known = {revision.name: revision for revision in policy.revisions}
    if named not in known:
        raise InputError(
            f"fixed_revisions: {policy.id} has no revision {named!r}", remedy=f"choose from: {', '.join(known)}"
        )
    return known[named]


def periods_in_force(policy: Policy) -> list[RevisionPeriod]:
    """The revisions of a policy with the period of activity of each. The first also has all activity before it
    (decision 11)."""
    return [
        RevisionPeriod(policy, revision, None if number == 0 else revision.start, revision.end)
        for number, revision in enumerate(policy.revisions)
    ]


def _clause(item: dict[str, Any], shared: Shared, decision: str = "") -> Clause:
    """A clause as the file has it, or with ``use`` the shared clause with what the file changes."""
    merged = {**shared.get(item.get("use", ""), {}), **{key: value for key, value in item.items() if key != "use"}}
    kind = next((key for key in ("require", "exclude") if key in merged), "note")
    return Clause(
        id=merged["id"],
        source_text=merged.get("words", ""),
        kind="scope" if merged.get("scope") else kind,
        test=parse_test(merged[kind]) if kind in merged else None,
        missing=merged.get("missing", "fails"),
        coding=merged.get("coding", "coded"),
        rationale=merged.get("because", ""),
        decision=decision,
        covered_by=merged.get("covered_by", ""),
    )


def _apply_decisions(
    clauses: list[Clause], decisions: list[dict[str, Any]], shared: Shared, where: str
) -> list[Clause]:
    """``clauses`` as changed by the decisions, which are applied in the order given."""
    result = list(clauses)
    seen: set[str] = set()
    for item in decisions:
        here = f"{where}: decision {item['id']}"
        if item["id"] in seen:
            raise InputError(f"{here} appears twice", remedy="give each decision a different id")
        seen.add(item["id"])
        if "add" in item:
            result.append(_clause(item["add"], shared, item["id"]))
            continue
        at = next((n for n, clause in enumerate(result) if clause.id == item.get("clause")), None)
        if at is None:
            known = [clause.id for clause in result]
            raise InputError(
                f"{here}: there is no clause {item.get('clause')!r}",
                remedy=did_you_mean(str(item.get("clause")), known, 0).strip() or "name a clause of the policy",
            )
        if item.get("drop"):
            del result[at]
            continue
        old = result[at]
        kind = next((key for key in ("require", "exclude") if key in item), old.kind)
        result[at] = Clause(
            id=old.id,
            source_text=item.get("words", old.source_text),
            kind=kind,
            test=parse_test(item[kind]) if kind in item else old.test,
            missing=item.get("missing", old.missing),
            coding=old.coding,
            rationale=item["because"],
            decision=item["id"],
        )
    return result


def _flips(
    item: dict[str, Any], readings: Mapping[str, list[Clause]], dataset: str, shared: Shared, where: str
) -> list[Flip]:
    """Each decision reversed alone, starting from ``as_published`` and from ``as_intended`` (decision 10). Clauses that only a
    sensitivity adds are also added to ``guidance_coded`` if only an excerpt of its words was seen, because the whole source may
    still have them (decision 28).

    Two kinds of decision have no entry: one that adds a clause without a test, and, for a base reading that lacks the
    clause, one that changes a clause which another decision adds.
    """
    given = item.get("readings", {})
    intended = given.get("as_intended", {}).get("decisions", [])
    guidance = given.get("guidance_coded", {})
    listed = [("as_intended", decision) for decision in intended]
    listed += [("guidance_coded", decision) for decision in guidance.get("decisions", [])]
    listed += [("sensitivity", decision) for decision in item.get("sensitivities", [])]
    by_base = {"as_published": listed, "as_intended": listed}
    if guidance.get("words_seen") == "excerpt":
        by_base["guidance_coded"] = [
            (source, decision) for source, decision in listed if source == "sensitivity" and "add" in decision
        ]
    published = readings["as_published"]
    found: list[Flip] = []
    for base, decisions in by_base.items():
        clauses = readings[base]
        for source, decision in decisions:
            undone = base == source
            here = f"{where}: {source} {decision['id']}"
            try:
                if undone:
                    others = [d for d in intended if d is not decision]
                    flipped = _apply_decisions(published, others, shared, here)
                else:
                    flipped = _apply_decisions(clauses, [decision], shared, here)
                _check_clauses(flipped, dataset, here)
            except InputError:
                if source == "sensitivity" and base == "as_published":
                    raise
                continue
            if [c for c in flipped if c.decides] == [c for c in clauses if c.decides]:
                continue  # it only adds or removes a clause without a test
            changed = decision.get("clause") or clause_id(decision["add"])
            clause = next((c for c in (flipped if not undone else clauses) if c.id == changed), None)
            source_text = decision.get("words") or (clause.source_text if clause else "")
            found.append(
                Flip(base, decision["id"], source, undone, changed, source_text, decision["because"], tuple(flipped))
            )
    return found


def _check_clauses(clauses: list[Clause], dataset: str, where: str) -> None:
    seen: set[str] = set()
    for clause in clauses:
        if clause.id in seen:
            raise InputError(
                f"{where}: the clause id {clause.id!r} appears twice", remedy="give each clause a different id"
            )
        seen.add(clause.id)
        for name in fields_of(clause.test) if clause.test else ():
            if name not in FIELDS[dataset]:
                known = sorted(FIELDS[dataset])
                raise InputError(
                    f"{where}: clause {clause.id}: {dataset} records have no field {name!r}",
                    remedy=f"{did_you_mean(name, known, 0, quoted=True)}The fields are: {', '.join(known)}",
                )
    for clause in clauses:
        if clause.covered_by and not any(other.id == clause.covered_by and other.test for other in clauses):
            raise InputError(
                f"{where}: clause {clause.id} is covered by {clause.covered_by!r}, which is not a clause with a test",
                remedy=f"name one of: {', '.join(other.id for other in clauses if other.test)}",
            )
    scopes = [clause.id for clause in clauses if clause.kind == "scope"]
    if len(scopes) != 1 or clauses[0].kind != "scope":
        raise InputError(
            f"{where}: the first clause, and no other, must be the scope ({len(scopes)} found)",
            remedy="mark only the first clause `scope: true`: it decides which records the policy is about",
        )


def _reading(
    document: dict[str, Any], revision: dict[str, Any], name: str, clauses: list[Clause], start: date, end: date | None
) -> PolicyReading:
    found = outcome_fingerprint(document, revision["revision"], name, clauses, start, end)
    given = revision.get("readings", {}).get(name, {})
    definition: dict[str, Any] = {
        **{key: document[key] for key in ("id", "title", "dataset", "source", "default_reading")},
        "revision": revision["revision"],
        "reading": name,
        "in_force": revision["in_force"],
        **{key: document[key] for key in ("extends", "boards") if key in document},
        **{key: revision[key] for key in ("notes", "coding_seen", "regime", "baseline") if key in revision},
        **{key: given[key] for key in ("words_seen",) if key in given},
        "clauses": [clause.definition for clause in clauses],
    }
    return PolicyReading(document["id"], revision["revision"], name, tuple(clauses), found, definition)


def outcome_fingerprint(
    document: Mapping[str, Any], revision: str, reading: str, clauses: Iterable[Clause], start: date, end: date | None
) -> str:
    """A fingerprint of everything that can change the outcome of a record. A change of wording does not alter it."""
    return fingerprint(
        {
            "policy": document["id"],
            "dataset": document["dataset"],
            "revision": revision,
            "reading": reading,
            "in_force": [str(start), str(end)],
            "clauses": [clause.outcome_parts for clause in clauses if clause.kind != "note"],
            **({"boards": document["boards"]} if "boards" in document else {}),
        }
    )
