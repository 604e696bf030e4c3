"""Checksums that show whether a record, or a set of records in any order, has changed.

``content`` is a hash of a record's canonical values. It changes when the source does, and when the configuration
maps a column differently. The number of records, the exclusive or of their hashes and the sum of their hashes
together stand for a whole file.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pyspark.sql import Column, Row
from pyspark.sql import functions as F

from ebi_spark.quoting import sql_text
from ebi_spark.tables.table import Table

# Where a record comes from and when it was read: not part of its content.
_LINEAGE = ("cleaned", "source_file", "run_id", "extract_date", "content")
# Columns added in later versions. Rows of older versions do not have them: where such a column is NULL, the hash is
# the same as before it was added.
_LATER = (
    "lsoa_2021", "lsoa_2001", "gp_practice_sus", "procedure_date", "admission_source", "discharge_destination",
    "provider_spell_number",
)  # fmt: skip
# Used for NULL, which a hash ignores. No source has these values. In SQL, for which Python calls Java less often (see
# :data:`ebi_spark.records.cleaning.Stage`).
ABSENT = {"string": sql_text("\0"), "int": f"CAST({-(2**31)} AS INT)", "date": "DATE'0001-01-01'"}


def content(table: Table, made: Mapping[str, str] = MappingProxyType({})) -> str:
    """The hash of the canonical values of a record of ``table``, ``bigint``, in SQL. NULL is distinguished from every value.
    ``made``: values in SQL that are not columns yet, by name."""
    values = []
    for name, kind, _ in table.fields():
        if name not in (*_LINEAGE, *_LATER):
            kind = "int" if kind == "boolean" else kind
            values.append(f"coalesce(CAST({made.get(name, name)} AS {kind}), {ABSENT[kind]})")
    # A hash ignores NULL. The column name in front distinguishes a value in one column from the same value in another.
    later = [f"concat('{name}:', {name})" for name in _LATER if name in table.names()]
    return f"xxhash64({', '.join([*values, *later])})"


def record_checksum_columns() -> list[Column]:
    """The aggregates of :func:`checksum_columns` over records, extract dates included."""
    return checksum_columns(f"xxhash64(content, coalesce(extract_date, {ABSENT['date']}))")


def checksum_columns(row_hash: str) -> list[Column]:
    """Two aggregates over row hashes (in SQL), ``checksum_xor`` and ``checksum_sum``, which do not depend on the order of rows.
    :class:`Checksum` adds them up."""
    return [F.expr(f"bit_xor({row_hash}) AS checksum_xor"), F.expr(f"sum({row_hash} & {0xFFFFFFFF}) AS checksum_sum")]


class Checksum:
    """The checksum of a set of records, added up from the aggregates of its parts."""

    def __init__(self) -> None:
        self._xor, self._sum = 0, 0

    def add(self, part: Row) -> None:
        """Add a row that has the aggregates of :func:`checksum_columns`."""
        self._xor ^= part["checksum_xor"] & (2**64 - 1)
        self._sum += part["checksum_sum"]

    def merge(self, other: "Checksum") -> None:
        """Add the records of another set."""
        self._xor ^= other._xor
        self._sum += other._sum

    def __str__(self) -> str:
        return f"{self._xor:016x}-{self._sum:x}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checksum) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]  # its value changes as parts are added
