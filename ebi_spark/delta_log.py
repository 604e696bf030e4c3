"""What the log of a Delta table in a local folder says of itself, read without a Spark job.

Only `storage` asks. Whatever cannot be read here (cleaned up, another layout) is None, and Delta is asked instead.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from pyarrow.lib import ArrowException


class CommitInfo(NamedTuple):
    """One commit: ``operation`` as Delta names it, ``metadata`` as its writer gave it (None where it gave none)."""

    version: int
    operation: str
    metadata: str | None


def newest_version(folder: Path) -> int | None:
    """The newest version, by the names of the log's files."""
    return max(_entries(folder), default=None)


def commits_after(folder: Path, version: int) -> list[CommitInfo]:
    """The commits after ``version`` that the log still has; one that cannot be read is left out."""
    found = []
    for number, entry in sorted(_entries(folder).items()):
        if number > version:
            info = _action(entry, "commitInfo")
            if info is not None:
                found.append(CommitInfo(number, str(info.get("operation", "")), info.get("userMetadata")))
    return found


def rows_written(folder: Path) -> int | None:
    """The rows that the newest commit wrote, by the writer's own count."""
    entries = _entries(folder)
    info = _action(entries[max(entries)], "commitInfo") if entries else None
    counted = ((info or {}).get("operationMetrics") or {}).get("numOutputRows")
    return int(counted) if counted is not None else None


def described(folder: Path) -> tuple[dict[str, Any], dict[str, str]] | None:
    """(schema as Spark's JSON, table properties), from the newest commit or checkpoint that states them."""
    checkpoint = _checkpoint(folder)
    for number, entry in sorted(_entries(folder).items(), reverse=True):
        if checkpoint is not None and number <= checkpoint[0]:
            break
        stated = _action(entry, "metaData")
        if stated is not None:
            return json.loads(stated["schemaString"]), dict(stated.get("configuration") or {})
    if checkpoint is None:
        return None
    try:
        for row in pq.read_table(checkpoint[1], columns=["metaData"]).column("metaData").to_pylist():
            if row is not None:
                return json.loads(row["schemaString"]), dict(row["configuration"] or {})
    except (ArrowException, OSError, KeyError, ValueError):
        pass
    return None


def _entries(folder: Path) -> dict[int, Path]:
    return {int(entry.stem): entry for entry in (folder / "_delta_log").glob("*.json") if entry.stem.isdigit()}


def _checkpoint(folder: Path) -> tuple[int, Path] | None:
    """The newest whole checkpoint in one file."""
    found = [
        (int(entry.name.split(".")[0]), entry)
        for entry in (folder / "_delta_log").glob("*.checkpoint.parquet")
        if entry.name.split(".")[0].isdigit()
    ]
    return max(found, default=None)


def _action(entry: Path, name: str) -> dict[str, Any] | None:
    marker = f'"{name}"'
    try:
        with entry.open(encoding="utf-8") as file:
            for line in file:
                if marker in line[:40]:
                    action: dict[str, Any] = json.loads(line)[name]
                    return action
    except (OSError, ValueError, KeyError):
        return None
    return None
