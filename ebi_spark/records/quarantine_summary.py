"""Lists quarantined rows as things to correct: how many rows, in how many files, and which columns to look at.

Only counts and column names. The values are in ``silver/quarantine``, for those who may see them.
"""

import json
from collections import Counter, defaultdict
from itertools import groupby
from typing import Any

from pyspark.sql import functions as F

from ebi_spark.lake.conditions import literal
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.lake.storage import Lake
from ebi_spark.records.file_counts import FileCounts
from ebi_spark.records.row_status import CONFLICTING, FUTURE
from ebi_spark.sources.layouts import layouts
from ebi_spark.tables.silver import QUARANTINE

# The columns, under our names, that each reason depends on. Columns that a table does not have are skipped.
REASON_COLUMNS = {
    "no_key": ("record_id",),
    "no_usable_date": ("discharge_date", "appointment_date", "year_text"),
    FUTURE: ("appointment_date",),
    "undischarged": ("discharge_date",),
    "unfinished": ("episode_status",),
    "no_spell": ("record_id",),
    "no_episode": ("record_id", "year_text"),
}
# A detail of an ingest that was refused before it wrote anything: its unusable rows, as JSON.
REFUSED_ROWS = "refused_rows"
# What to do about each reason.
REMEDIES = {
    "corrupt_line": "correct the line at the source: it has too many or too few fields, or quotes that do not close",
    "no_key": "ask the source for the key: without it a row can be neither counted once nor joined",
    "no_usable_date": "correct the date at the source, or map the column that has it under `columns`",
    FUTURE: "nothing: the row counts once the day of the appointment has come, in this file or in a later extract",
    "undischarged": "wait for the extract that has the discharge",
    "unfinished": "wait for the extract that has the finished episode",
    "no_episode": "add the file that has the episode or appointment of this code",
    "no_spell": "add the file that has the spell of this row of APCS_Der",
    CONFLICTING: "state `extract_date` for each file, so that the later row counts, or leave one of the files out",
}
MOST_COLUMNS = 4
# The columns that conflict are found only for up to this many conflicting rows.
MOST_COMPARED = 1_000_000
# Without Spark, up to this many rows of each source table are compared.
MOST_COMPARED_WITHOUT_SPARK = 10_000


def columns_of(reason: str, role: str) -> list[str]:
    """The source's columns that a reason depends on, under the names that source tables usually give them."""
    layout = layouts().get(role)
    return [layout.columns[ours][0] for ours in REASON_COLUMNS.get(reason, ()) if layout and ours in layout.columns]


def quarantine_summary(lake: LocalLake) -> list[dict[str, Any]]:
    """One dict for each source table and reason in ``silver/quarantine``, most rows first: ``role``, ``reason``, the numbers of
    ``rows`` and ``files``, ``columns`` to look at, and ``remedy``. A row with several reasons counts for each of them.

    | role | source_file | reasons                  | rows | → role | reason         | rows | files |
    |------|-------------|--------------------------|------|--------|----------------|------|-------|
    | opa  | a.csv       | [no_key]                 | 3    | opa    | no_key         | 4    | 2     |
    | opa  | b.csv       | [no_key, no_usable_date] | 1    | apcs   | undischarged   | 2    | 1     |
    | apcs | c.csv       | [undischarged]           | 2    | opa    | no_usable_date | 1    | 1     |
    """
    rows: Counter[tuple[str, str]] = Counter()
    files: dict[tuple[str, str], set[str]] = defaultdict(set)
    for group in lake.grouped(QUARANTINE, ["role", "source_file", "reasons"]):
        for reason in group["reasons"] or ():
            rows[group["role"], reason] += group["rows"]
            files[group["role"], reason] |= {group["source_file"]} - {None}
    conflicts = sum(number for (_, reason), number in rows.items() if reason == CONFLICTING)
    roles = sorted(role for role, reason in rows if reason == CONFLICTING)
    differing = _differing(lake, roles) if 0 < conflicts <= MOST_COMPARED else {}
    return [
        _with_remedy(
            {"role": key[0], "reason": key[1], "rows": number, "files": len(files[key])}, differing.get(key[0], [])
        )
        for key, number in sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    ]


def _with_remedy(item: dict[str, Any], differing: list[str]) -> dict[str, Any]:
    columns = differing if item["reason"] == CONFLICTING else columns_of(item["reason"], item["role"])
    remedy = REMEDIES.get(item["reason"], "look at the rows in silver/quarantine")
    return item | {"columns": columns, "remedy": remedy}


def unusable_rows(found: FileCounts) -> list[dict[str, Any]]:
    """The unusable rows of source files that were counted and not written: one dict for each source table and reason,
    most rows first, with ``role``, ``reason``, ``rows`` and ``files``."""
    rows, files = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for table_id in found.files:
        for count in found.counts(table_id).values():
            rows.update({(table_id[1], reason): number for reason, number in count.reasons.items()})
            files.update((table_id[1], reason) for reason in count.reasons)
    ordered = sorted(rows.items(), key=lambda item: (-item[1], item[0]))
    return [{"role": key[0], "reason": key[1], "rows": number, "files": files[key]} for key, number in ordered]


def refused_rows(details: str) -> list[dict[str, Any]]:
    """The unusable rows of a refused ingest, from the run log, as :func:`quarantine_summary` gives them."""
    return [_with_remedy(item, []) for item in json.loads(details)]


def _differing(lake: LocalLake, roles: list[str]) -> dict[str, list[str]]:
    """The columns in which rows of one key conflict, by role, the most frequent first. ``roles``: those with conflicts."""
    counted = _differing_by_spark(lake) if isinstance(lake, Lake) else _differing_without_spark(lake, roles)
    found: dict[str, list[str]] = {}
    for role, column in sorted(counted, key=lambda item: (item[0], -counted[item], item[1])):
        found.setdefault(role, []).append(column)
    # Columns that a record takes come first: rows that conflict may also differ in a load time.
    known = {role: layouts()[role].known_names() if role in layouts() else set() for role in found}
    return {
        role: sorted(names, key=lambda name: name.upper() not in known[role])[:MOST_COLUMNS]
        for role, names in found.items()
    }


def _differing_by_spark(lake: Lake) -> dict[tuple[str, str], int]:
    """The number of keys whose rows conflict in a column, by role and column."""
    quarantine = lake.read(QUARANTINE)
    rows = quarantine.where(F.array_contains("reasons", CONFLICTING) & F.col("record_id").isNotNull())
    cells = rows.select(
        "role",
        "source_system",
        "record_id",
        F.explode(F.from_json("raw", "map<string,string>")).alias("column", "value"),
    )
    values = cells.groupBy("role", "source_system", "record_id", "column").agg(
        F.countDistinct(F.coalesce("value", F.lit("\0"))).alias("values")
    )
    keys = values.where("values > 1").groupBy("role", "column").agg(F.count("*").alias("keys"))
    return {(row["role"], row["column"]): row["keys"] for row in keys.collect()}


def _differing_without_spark(lake: LocalLake, roles: list[str]) -> dict[tuple[str, str], int]:
    """As :func:`_differing_by_spark`, for the first rows of each role by key. Values are compared and dropped; only names
    of columns leave this function."""
    counted: Counter[tuple[str, str]] = Counter()
    for role in roles:
        where = f" WHERE role = {literal(role)} AND array_has(reasons, '{CONFLICTING}') AND record_id IS NOT NULL"
        order = f" ORDER BY source_system, record_id LIMIT {MOST_COMPARED_WITHOUT_SPARK}"
        rows = lake.select(QUARANTINE, "source_system, record_id, raw", where + order)
        cells = (row for batch in rows.to_batches(max_chunksize=1_000) for row in batch.to_pylist())
        for _, same in groupby(cells, key=lambda row: (row["source_system"], row["record_id"])):
            values: dict[str, set[Any]] = defaultdict(set)
            for row in same:
                for column, value in _parsed(row["raw"]).items():
                    values[column].add(json.dumps(value))
            counted.update((role, column) for column, different in values.items() if len(different) > 1)
    return counted


def _parsed(raw: str | None) -> dict[str, Any]:
    try:
        found = json.loads(raw or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
