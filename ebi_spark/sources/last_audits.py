"""The newest audit row of each source file, from ``silver/ingest_audit``."""

from collections.abc import Sequence
from typing import Any

from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.tables.silver import INGEST_AUDIT


def last_audits(lake: LocalLake, columns: Sequence[str]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Some columns of the newest audit row of each file, by system, role and file, the newest first.

    | role | source_file | written_at | → | source_file | written_at |
    |------|-------------|------------|---|-------------|------------|
    | opa  | a.csv       | 10:00      |   | b.csv       | 11:00      |
    | opa  | b.csv       | 10:00      |   | a.csv       | 10:00      |
    | opa  | b.csv       | 11:00      |   |             |            |
    """
    rows = lake.rows_if_there(INGEST_AUDIT, ["source_system", "role", "source_file", "written_at", *columns])
    rows.sort(key=lambda row: row["written_at"] or 0)
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in reversed(rows):
        found.setdefault((row["source_system"], row["role"], row["source_file"]), row)
    return found
