"""Published tables as plain rows: the same form, whether the tables come from pandas, Spark or deltalake."""

import json
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

import pandas as pd

Row = dict[str, Any]

SUPPRESSED = ("withheld_small", "withheld_secondary")


def rows_of(frame: pd.DataFrame | None) -> list[Row]:
    """The rows of a frame as dicts: a missing value is None, an array is a list."""
    if frame is None:
        return []
    return [{str(name): plain(value) for name, value in row.items()} for row in frame.to_dict(orient="records")]


def plain(value: Any) -> Any:
    """A value without numpy or pandas types: NaN, NaT and NA become None, arrays lists, numbers Python numbers."""
    if value is None or isinstance(value, str | bool | int | bytes):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "asDict"):
        return plain(value.asDict())
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if getattr(value, "ndim", 0):
        return [plain(item) for item in value.tolist()]
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def mapping(value: Any) -> dict[str, Any]:
    """A map column as a dict, whether it comes as a dict, as pairs, or as {key, value} entries."""
    value = plain(value)
    if isinstance(value, dict):
        return value
    entries: dict[str, Any] = {}
    for entry in value or []:
        key, item = (entry["key"], entry["value"]) if isinstance(entry, dict) else (entry[0], entry[1])
        entries[str(key)] = item
    return entries


def listing(value: Any) -> list[Any]:
    """An array column as a list. A missing value is an empty list, a single value a list of one."""
    value = plain(value)
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def clauses_of(policy: Row) -> list[Row]:
    """The clauses of a policy's row in order of their steps; from its definition if the column is empty."""
    clauses = [dict(clause) for clause in listing(policy.get("clauses")) if isinstance(clause, dict)]
    if not clauses and policy.get("definition"):
        try:
            given = json.loads(policy["definition"]).get("clauses", [])
        except (ValueError, AttributeError):
            return []
        # The definition has each test as an object, not in words. As JSON it still shows the codes.
        clauses = [
            {
                **clause,
                "clause_id": clause.get("id"),
                "test": json.dumps(clause["test"], ensure_ascii=False) if clause.get("test") else None,
            }
            for clause in given
            if isinstance(clause, dict)
        ]
    numbered = [
        {**clause, "step": number if clause.get("step") is None else clause["step"]}
        for number, clause in enumerate(clauses)
    ]
    return sorted(numbered, key=lambda clause: int(clause["step"]))


def years_of(row: Row) -> int:
    """How many years a row's period has."""
    return int(row.get("period_years") or 1)


def latest_year(rows: Iterable[Row]) -> tuple[str, list[Row]]:
    """The last financial year of rows, and its rows."""
    rows = list(rows)
    last = max((str(row["financial_year"]) for row in rows), default="")
    return last, [row for row in rows if str(row["financial_year"]) == last]


def position(name: Any, names: Iterable[str]) -> int:
    """The place of a name in a list, for sorting; a name that the list does not have is last."""
    listed = list(names)
    return listed.index(name) if name in listed else len(listed)


def is_suppressed(row: Row) -> bool:
    """Whether disclosure control suppressed the row's figures."""
    return row.get("status") in SUPPRESSED


def measure_of(rows: Iterable[Row]) -> str:
    """The rate to compare areas by: standardised if any row has one, otherwise crude.

    Some disclosure rules publish only rates of rounded or suppressed counts, and those are crude.
    """
    return "standardised_rate" if any(row.get("standardised_rate") is not None for row in rows) else "crude_rate"


def day(value: Any) -> str:
    """A date as 1 August 2022. A text is unchanged."""
    if isinstance(value, date):
        return f"{value.day} {value:%B %Y}"
    return str(value)
