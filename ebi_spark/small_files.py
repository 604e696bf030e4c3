"""Small CSV files, of the product or of the user, as dictionaries on the driver."""

import csv
from collections.abc import Iterable
from pathlib import Path

from ebi_spark.errors import InputError


def read_rows(path: Path, required: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of a small CSV file as dictionaries; an :class:`InputError` where a ``required`` column is missing."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__})", remedy="give a readable CSV file") from None
    missing = [name for name in required if not rows or name not in rows[0]]
    if missing:
        raise InputError(f"{path}: the column {missing[0]} is missing, or there is no row", remedy=f"add {missing[0]}")
    return rows
