"""The suites of checks in ``expectations/``: which table has which checks, read from their files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ebi_spark.config.shipped_files import resource
from ebi_spark.config.yaml_documents import load_document
from ebi_spark.errors import InputError
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.table import Table
from ebi_spark.validation import native_suites

LAYER_SUITES = {
    "silver": ("apc_spell", "op_attendance", "quarantine", "ingest_audit", "population"),
    "flags": ("policy", "activity_flag", "policy_attrition", "policy_sensitivity", "policy_comparison"),
    "rates": ("activity_rate", "rate_variation", "activity_month", "provider_month", "unmapped_area", "record_quality"),
    "monitoring": (
        "prior_approval",
        "approval_match",
        "approval_unused",
        "regime_change",
        "pathway",
        "pathway_step",
        "pathway_incidence",
        "linked_measure",
        "code_use",
        "activity_count",
        "activity_change",
        "equality_rate",
        "audit_sample",
        "audit_result",
        "audit_estimate",
    ),
    "published": (
        "published_rate",
        "published_variation",
        "published_attrition",
        "published_reading_effect",
        "published_sensitivity",
        "published_quality",
        "published_activity_month",
        "published_days_between",
        "published_completeness",
        "published_approval_summary",
        "published_pathway_summary",
        "published_activity_change",
        "published_measure_summary",
        "published_audit_estimate",
        "published_policy",
    ),
}
KINDS = ("row", "unique", "unique_every_year", "total", "group", "count_of_violations")
COLUMNS_THERE = "columns_there"


@dataclass(frozen=True)
class Check:
    """One check.

    ``kind`` is one of :data:`KINDS`, ``schema`` or ``native``, and says what ``rule`` is: a SQL condition, a SQL query, column
    names, nothing, or the expectations that Great Expectations evaluates itself, as JSON. ``description`` says in a sentence
    what must be true.
    """

    id: str
    description: str
    kind: str
    rule: str | tuple[str, ...]
    severity: str = "critical"


@dataclass(frozen=True)
class Groups:
    """Totals of several tables that are compared group by group.

    ``by`` are the columns of a group. Each query in ``totals`` has these columns and at most one row for each group.
    """

    by: tuple[str, ...]
    totals: tuple[str, ...]


@dataclass(frozen=True)
class Suite:
    """The checks of one table, and the totals that its checks of the kind ``group`` compare.

    ``native`` is the suite in Great Expectations' own format that has the checks of the kind ``native``, if there are any.
    """

    name: str
    table: Table
    checks: tuple[Check, ...]
    groups: Groups | None = None
    native: Mapping[str, Any] | None = None


@cache
def load_suite(name: str) -> Suite:
    """The suite in ``expectations/NAME.yml``; for a published table, with that in ``expectations/published/``.

    The checks that follow from the table's declared columns come first. A suite of a published table has them in its file.
    An :class:`InputError` for a file with an unknown table, a repeated check, or checks of groups without ``groups``.
    """
    folder = resource("expectations")
    path, native_path = folder / f"{name}.yml", folder / "published" / f"{name.removeprefix('published_')}.json"
    native = native_suites.read_suite(native_path) if name in LAYER_SUITES["published"] else None
    if native is None or path.exists():
        document = load_document(path, folder / "suite.schema.json", what="expectations")
    else:
        path, document = native_path, {"table": native.get("meta", {}).get("table"), "checks": []}
    if document["table"] not in TABLES:
        raise InputError(f"expectations: {path}: there is no table {document['table']}", remedy="correct `table`")
    table = TABLES[document["table"]]
    types = Check("columns_of_their_type", f"Every column of {table.full_name} has the right type.", "schema", ())
    if native is None:
        checks = [
            Check(COLUMNS_THERE, f"{table.full_name} has every column that it should have.", "schema", ()),
            types,
            *[
                Check(f"not_null_{column}", f"{column} is never missing.", "row", f"{column} IS NOT NULL")
                for column in table.required
            ],
        ]
    else:
        checks = [types, *_native_checks(native)]
    checks += [_check(item, path) for item in document["checks"]]
    names = [check.id for check in checks]
    twice = sorted({item for item in names if names.count(item) > 1})
    if twice:
        raise InputError(
            f"expectations: {path}: the check {twice[0]} appears twice", remedy="give each check its own id"
        )
    grouping = document.get("groups")
    groups = Groups(tuple(grouping["by"]), tuple(grouping["totals"])) if grouping else None
    if groups is None and any(check.kind == "group" for check in checks):
        raise InputError(f"expectations: {path} has checks of the kind `group` but no `groups`", remedy="add `groups`")
    return Suite(name, table, tuple(checks), groups, native)


def _native_checks(suite: Mapping[str, Any]) -> list[Check]:
    """One check for each ``meta.id`` of a suite in Great Expectations' own format."""
    expectations: dict[str, list[dict[str, Any]]] = {}
    for item in suite["expectations"]:
        expectations.setdefault(item["meta"]["id"], []).append(item)
    return [
        Check(
            name, items[0]["description"], "native", json.dumps([_rule(item) for item in items]), items[0]["severity"]
        )
        for name, items in expectations.items()
    ]


def _rule(expectation: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": expectation["type"], "kwargs": expectation["kwargs"]}


def _check(item: dict[str, Any], path: Path) -> Check:
    kinds = [kind for kind in KINDS if kind in item]
    if len(kinds) != 1:
        raise InputError(
            f"expectations: {path}: the check {item['id']} must have exactly one of {', '.join(KINDS)}",
            remedy="give exactly one of them",
        )
    rule = item[kinds[0]]
    return Check(
        item["id"],
        item["words"],
        kinds[0],
        tuple(rule) if kinds[0] in ("unique", "unique_every_year") else rule,
        item.get("severity", "critical"),
    )


def row_checks(suite: str) -> dict[str, str]:
    """The checks of a suite that look at one row, as SQL conditions by id."""
    return {check.id: str(check.rule) for check in load_suite(suite).checks if check.kind == "row"}
