"""Compares two lakes table by table, for instance before and after a change that must not alter a figure.

``python -m benchmarks.compare_releases LAKE_A LAKE_B``: compares every table of silver, gold and published; of the
published tables, the rows of the current release. What differs between any two runs is not compared: ids of runs and
releases, times, paths, and the tables that only record runs. Ends with status 1 where anything else differs.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable
from rich.console import Console
from rich.table import Column, Table

LAYERS = ("silver", "gold", "published")
RUN_TABLES = {"gold/run_log", "gold/stage_input", "gold/batch"}
# Ids, paths and versions. (Times are left out by their type.)
RUN_COLUMNS = {"run_id", "release_id", "source_file", "configuration", "code_version", "versions", "sources"}
# Sums of floating-point numbers depend on their order, in the last digits.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Compared:
    """A table in both lakes: its rows in each (None: no such table), the rows that differ, and columns of one lake only."""

    table: str
    rows_a: int | None
    rows_b: int | None
    differing: int
    columns: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return None not in (self.rows_a, self.rows_b) and not self.differing and not self.columns


def compare(lake_a: Path, lake_b: Path) -> list[Compared]:
    """One entry for each table of either lake, in the order of layers and names."""
    names = sorted(
        {*_tables(lake_a), *_tables(lake_b)} - RUN_TABLES, key=lambda name: (LAYERS.index(_layer(name)), name)
    )
    with duckdb.connect() as connection:
        return [_compare(connection, name, lake_a, lake_b) for name in names]


def _tables(lake: Path) -> list[str]:
    return [f"{log.parts[-3]}/{log.parts[-2]}" for layer in LAYERS for log in lake.glob(f"{layer}/*/_delta_log")]


def _layer(name: str) -> str:
    return name.partition("/")[0]


def _compare(connection: duckdb.DuckDBPyConnection, name: str, lake_a: Path, lake_b: Path) -> Compared:
    lakes = {"a": lake_a, "b": lake_b}
    schemas: dict[str, dict[str, pa.DataType]] = {}
    for side, lake in lakes.items():
        if (lake / name / "_delta_log").is_dir():
            table = DeltaTable(str(lake / name))
            rows = table.to_pyarrow_dataset()
            schemas[side] = {field.name: field.type for field in rows.schema}
            connection.register(f"all_{side}", rows)
            current = _of_current_release(lake, schemas[side]) if _layer(name) == "published" else "true"
            connection.execute(f"CREATE OR REPLACE TEMP VIEW rows_{side} AS SELECT * FROM all_{side} WHERE {current}")
    if len(schemas) < len(lakes):
        counts = {side: connection.execute(f"SELECT count(*) FROM rows_{side}").fetchall()[0][0] for side in schemas}
        return Compared(name, counts.get("a"), counts.get("b"), max(counts.values()))
    types = schemas["a"]
    only_one = tuple(sorted(types.keys() ^ schemas["b"].keys()))
    wanted = [
        column
        for column, kind in types.items()
        if column in schemas["b"] and column not in RUN_COLUMNS and not pa.types.is_timestamp(kind)
    ]
    numbers = [column for column in wanted if pa.types.is_floating(types[column])]
    # The entries of a map have no order.
    exact = [
        f'list_sort(map_entries("{column}"))' if pa.types.is_map(types[column]) else f'"{column}"'
        for column in wanted
        if column not in numbers
    ]
    # DuckDB gives an empty list the hash of NULL.
    hashed = [f"CASE WHEN {item} IS NULL THEN 0 ELSE hash({item}) END" for item in exact]
    near = [
        f'(count("{n}") = 0 OR (count("{n}") = count(*) AND max("{n}") - min("{n}") <= '
        f'{TOLERANCE} * greatest(abs(max("{n}")), abs(min("{n}")))))'
        for n in numbers
    ]
    selected = ", ".join([f"hash([{', '.join(hashed)}]) AS row", *(f'"{n}"' for n in numbers)])
    answer = connection.execute(f"""
        WITH both_sides AS (
            SELECT 1 AS side, {selected} FROM rows_a UNION ALL SELECT 2 AS side, {selected} FROM rows_b
        ), same_rows AS (
            SELECT count(*) FILTER (side = 1) AS a, count(*) FILTER (side = 2) AS b,
                   {" AND ".join(["count(*) FILTER (side = 1) = count(*) FILTER (side = 2)", *near])} AS same
            FROM both_sides GROUP BY row
        )
        SELECT coalesce(sum(a), 0), coalesce(sum(b), 0), coalesce(sum(greatest(a, b)) FILTER (NOT same), 0) FROM same_rows
    """).fetchall()[0]
    rows_a, rows_b, differing = map(int, answer)
    return Compared(name, rows_a, rows_b, differing, only_one)


def _of_current_release(lake: Path, columns: dict[str, pa.DataType]) -> str:
    """The condition for rows of the current release."""
    if "is_current" in columns:
        return "is_current"
    manifest = DeltaTable(str(lake / "published" / "release")).to_pyarrow_table(columns=["release_id", "is_current"])
    current = [row["release_id"] for row in manifest.to_pylist() if row["is_current"]]
    return f"release_id IN ({', '.join(map(repr, current))})" if current else "false"


def main(argv: list[str] | None = None) -> int:
    """Print a line for each table. 0: nothing differs, 1: something does, 2: a folder is not a lake."""
    parser = argparse.ArgumentParser(prog="benchmarks.compare_releases", description=__doc__)
    parser.add_argument("lake_a", type=Path, metavar="LAKE_A")
    parser.add_argument("lake_b", type=Path, metavar="LAKE_B")
    given = parser.parse_args(argv)
    for lake in (given.lake_a, given.lake_b):
        if not _tables(lake):
            parser.error(f"{lake} has no tables in {', '.join(LAYERS)}")
    found = compare(given.lake_a, given.lake_b)
    shown = Table(
        Column("table", no_wrap=True),
        "rows in A",
        "rows in B",
        "differing",
        Column("columns of one only", overflow="fold"),
    )
    for item in found:
        numbers = ["no table" if rows is None else f"{rows:,}" for rows in (item.rows_a, item.rows_b)]
        style = None if item.same else "bold red"
        shown.add_row(item.table, *numbers, f"{item.differing:,}", ", ".join(item.columns), style=style)
    console = Console()
    console.print(shown)
    differing = [item.table for item in found if not item.same]
    console.print(
        f"{len(differing)} of {len(found)} tables differ" if differing else f"{len(found)} tables are the same"
    )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
