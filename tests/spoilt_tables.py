"""Changes that spoil small tables of good rows, so that a check over several rows or tables must fail."""

from collections.abc import Callable
from typing import Any

Row = dict[str, Any]
Tables = dict[str, list[Row]]
Spoil = Callable[[Tables], None]


def change(table: str, row: int = 0, **values: Any) -> Spoil:
    def apply(tables: Tables) -> None:
        tables[table][row] = tables[table][row] | values

    return apply


def add(table: str, row: int = 0, **values: Any) -> Spoil:
    """A copy of a row, with other values."""

    def apply(tables: Tables) -> None:
        tables[table].append(tables[table][row] | values)

    return apply


def drop(table: str, row: int = 0) -> Spoil:
    def apply(tables: Tables) -> None:
        del tables[table][row]

    return apply


def change_all(table: str, **values: Any) -> Spoil:
    def apply(tables: Tables) -> None:
        tables[table] = [row | values for row in tables[table]]

    return apply
