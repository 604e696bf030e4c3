"""Lists quarantined rows as things to correct: how many rows, in how many files, and which columns to look at.

Only counts and column names. The values are in ``silver/quarantine``, for those who may see them.
"""

import json
from collections import defaultdict
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.records.file_counts import FileCounts
from ebi_spark.records.row_status import CONFLICTING, FUTURE
from ebi_spark.sources.layouts import layouts

# The columns, under our names, that each reason depends on. Columns that a table does not have are skipped.
REASON_COLUMNS = {
    "no_key": ("record_id",),
    "no_usable_date": ("discharge_date", "appointment_date", "year_text"),
    FUTURE: ("appointment_date",),
    "undischarged": ("discharge_date",),
    "unfinished": ("episode_status",),
    "no_spell": ("record_id",),
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
    "no_spell": "add the file that has the spell of this row of APCS_Der",
    CONFLICTING: "state `extract_date` for each file, so that the later row counts, or leave one of the files out",
}
MOST_COLUMNS = 4
# The columns that conflict are found only for up to this many conflicting rows.
MOST_COMPARED = 1_000_000


def columns_of(reason: str, role: str) -> list[str]:
    """The source's columns that a reason depends on, under the names that source tables usually give them."""
    layout = layouts().get(role)
    return [layout.columns[ours][0] for ours in REASON_COLUMNS.get(reason, ()) if layout and ours in layout.columns]


def quarantine_summary(quarantine: DataFrame) -> list[dict[str, Any]]:
    """One dict for each source table and reason, most rows first: ``role``, ``reason``, ``rows``, ``files``,
    ``columns`` to look at, and ``remedy``."""
    named = quarantine.select("role", "source_file", F.explode("reasons").alias("reason"))
    counted = named.groupBy("role", "reason").agg(
        F.count("*").alias("rows"), F.countDistinct("source_file").alias("files")
    )
    found = [row.asDict() for row in counted.orderBy(F.col("rows").desc(), "role", "reason").collect()]
    conflicts = sum(item["rows"] for item in found if item["reason"] == CONFLICTING)
    differing = _differing(quarantine) if 0 < conflicts <= MOST_COMPARED else {}
    return [_with_remedy(item, differing.get(item["role"], [])) for item in found]


def _with_remedy(item: dict[str, Any], differing: list[str]) -> dict[str, Any]:
    columns = differing if item["reason"] == CONFLICTING else columns_of(item["reason"], item["role"])
    remedy = REMEDIES.get(item["reason"], "look at the rows in silver/quarantine")
    return item | {"columns": columns, "remedy": remedy}


def unusable_rows(found: FileCounts) -> list[dict[str, Any]]:
    """The unusable rows of source files that were counted and not written: one dict for each source table and reason,
    most rows first, with ``role``, ``reason``, ``rows`` and ``files``."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for table_id in found.files:
        for count in found.counts(table_id).values():
            for reason, number in count.reasons.items():
                counted = rows[table_id[1], reason]
                counted[0], counted[1] = counted[0] + number, counted[1] + 1
    ordered = sorted(rows.items(), key=lambda item: (-item[1][0], item[0]))
    return [
        {"role": role, "reason": reason, "rows": number, "files": files} for (role, reason), (number, files) in ordered
    ]


def refused_rows(details: str) -> list[dict[str, Any]]:
    """The unusable rows of a refused ingest, from the run log, as :func:`quarantine_summary` gives them."""
    return [_with_remedy(item, []) for item in json.loads(details)]


def _differing(quarantine: DataFrame) -> dict[str, list[str]]:
    """The columns in which rows of one key conflict, by role, the most frequent first."""
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
    found: dict[str, list[str]] = {}
    for row in keys.orderBy("role", F.col("keys").desc(), "column").collect():
        found.setdefault(row["role"], []).append(row["column"])
    # Columns that a record takes come first: rows that conflict may also differ in a load time.
    known = {role: layouts()[role].known_names() if role in layouts() else set() for role in found}
    return {
        role: sorted(names, key=lambda name: name.upper() not in known[role])[:MOST_COLUMNS]
        for role, names in found.items()
    }
