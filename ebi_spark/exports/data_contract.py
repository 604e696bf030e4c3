"""The published tables as an Open Data Contract (ODCS 3.1): tables and columns from the schemas, quality from the suites."""

import json
from pathlib import Path
from typing import Any

import yaml

from ebi_spark import __version__
from ebi_spark.config.shipped_files import resource
from ebi_spark.exports.release_data import ReleaseData
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.table import Table

_LOGICAL = {
    "string": "string", "boolean": "boolean", "int": "integer", "bigint": "integer", "double": "number", "date": "date",
    "timestamp": "timestamp",
}  # fmt: skip
_SEVERITY = {"critical": "error", "warning": "warning", "info": "info"}


def write_data_contract(path: Path, release: ReleaseData) -> int:
    """Write the contract of a release; returns the number of tables."""
    document = data_contract(release)
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
    return len(document["schema"])


def data_contract(release: ReleaseData) -> dict[str, Any]:
    """The contract as a dictionary."""
    manifest = release.manifest
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "ebi-spark-published",
        "name": "Evidence-Based Interventions: published tables",
        "version": __version__,
        "status": "active",
        "domain": "health",
        "description": {
            "purpose": "Flagged hospital activity under published Evidence-Based Interventions policies, and rates by area.",
            "usage": "Join every table to published/release on release_id where is_current is true.",
            "limitations": " ".join(text for _, text in sorted((manifest["caveats"] or {}).items()))
            or "See the caveats of each release.",
        },
        "customProperties": [
            {"property": "releaseId", "value": release.release_id},
            {"property": "disclosure", "value": str(manifest["disclosure"])},
            {"property": "coverage", "value": str(manifest["coverage"])},
            {"property": "dataKind", "value": str(manifest.get("data_kind") or "not stated")},
            {"property": "geography", "value": str(manifest["geography"])},
        ],
        "schema": [_table(table) for table in TABLES.values() if table.layer == "published"],
    }


def _table(table: Table) -> dict[str, Any]:
    quality = _quality(table)
    return {
        "name": table.name,
        "physicalName": table.full_name,
        "physicalType": "table",
        "description": f"A row is {table.row}.",
        "properties": [_property(table, *field) for field in table.fields()],
        **({"quality": quality} if quality else {}),
    }


def _property(table: Table, name: str, kind: str, meaning: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "logicalType": _LOGICAL.get(kind, "array" if kind.startswith("array") else "object"),
        "physicalType": kind,
        "required": name in table.required,
    }
    if meaning:
        found["description"] = meaning
    if kind == "array<string>":
        found["items"] = {"logicalType": "string", "physicalType": "string"}
    elif kind.startswith("array"):
        found["items"] = {"logicalType": "object", "physicalType": kind[len("array<") : -1]}
    if name in table.partition_by:
        found |= {"partitioned": True, "partitionKeyPosition": table.partition_by.index(name) + 1}
    return found


def _quality(table: Table) -> list[dict[str, Any]]:
    """The expectations of the table's own suite, as Great Expectations has them."""
    path = resource("expectations", "published") / f"{table.name}.json"
    if not path.is_file():
        return []
    suite = json.loads(path.read_text(encoding="utf-8"))
    return [
        {
            "name": item["meta"]["id"],
            "description": item["description"],
            "type": "custom",
            "engine": "great-expectations",
            "severity": _SEVERITY.get(item["severity"], item["severity"]),
            "implementation": {"type": item["type"], "kwargs": item["kwargs"]},
        }
        for item in suite["expectations"]
    ]
