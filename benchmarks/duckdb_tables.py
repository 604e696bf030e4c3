"""What the comparisons with DuckDB share: texts and folders of Parquet files for SQL, and whether two tables are the same."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb


def quoted(value: str | Path) -> str:
    """A text for SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def rows_in(files: Path) -> str:
    """The table of some Parquet files, or of text files, whose columns are all text; with the file of each row."""
    if files.suffix == ".csv":
        return f"read_csv({quoted(files)}, all_varchar = true, header = true, delim = ',', quote = '\"', escape = '\"', filename = true)"
    return f"read_parquet({quoted(files)}, filename = true)"


def in_folders(folder: Path) -> str:
    """The table whose Parquet files are in a folder, with a folder for each partition."""
    return f"read_parquet({quoted(folder / '**' / '*.parquet')}, hive_partitioning = true)"


def same_rows(database: duckdb.DuckDBPyConnection, ours: str, theirs: str, names: Iterable[str]) -> dict[str, Any]:
    """The rows of the product's and of DuckDB's table, and whether they are the same in these columns, in any order."""
    row_hash = f"hash({', '.join(f'{name}::VARCHAR' for name in names)})"
    counted = f"SELECT count(*), coalesce(bit_xor({row_hash}), 0) FROM "
    mine, beside = (database.execute(counted + place).fetchall()[0] for place in (ours, theirs))
    return {"product": mine[0], "duckdb": beside[0], "same_rows": mine == beside}
