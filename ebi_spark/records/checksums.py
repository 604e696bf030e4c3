"""What tells two states of a record apart, and two sets of records, whatever their order.

``content`` is a hash of a record's canonical values: it changes when the source does, and when a mapping in the
configuration makes other values of the same source. Set beside their count, the exclusive or and the sum of the hashes
stand for a whole file.
"""

from pyspark.sql import Column, Row
from pyspark.sql import functions as F

from ebi_spark.tables.schemas import Table

# Where a record comes from, and when: no part of what it says.
_LINEAGE = ("cleaned", "source_file", "run_id", "extract_date", "content")
# Columns that came later, none of which an older version's rows have: where they are NULL the hash is what it was before.
_LATER = ("lsoa_2021", "lsoa_2001", "gp_practice_sus")
# Stand for NULL, which a hash would pass over: no source has them.
_ABSENT = {"string": "\0", "int": -(2**31), "date": "0001-01-01"}


def content(table: Table) -> Column:
    """The hash of the canonical values of a record of ``table``, ``bigint``; a NULL is told from every value."""
    values = []
    for name, kind, _ in table.fields():
        if name not in (*_LINEAGE, *_LATER):
            kind = "int" if kind == "boolean" else kind
            values.append(F.coalesce(F.col(name).cast(kind), F.lit(_ABSENT[kind]).cast(kind)))
    # A hash passes over NULL; with its name before it, a value of one column is none of another.
    later = [F.concat(F.lit(f"{name}:"), F.col(name)) for name in _LATER if name in table.names()]
    return F.xxhash64(*values, *later)


def told() -> list[Column]:
    """The aggregates of :func:`checksum_columns_of` over records, extract dates included."""
    return checksum_columns_of(F.xxhash64("content", F.coalesce("extract_date", F.lit("0001-01-01").cast("date"))))


def checksum_columns_of(one: Column) -> list[Column]:
    """Two aggregates over the hashes of rows that are the same for the same rows in any order, for :class:`Checksum` to
    take in."""
    return [F.bit_xor(one).alias("told_xor"), F.sum(one.bitwiseAND(F.lit(0xFFFFFFFF))).alias("told_sum")]


class Checksum:
    """The checksum of a set of records, put together from the aggregates of its parts."""

    def __init__(self) -> None:
        self._xor, self._sum = 0, 0

    def add(self, part: Row) -> None:
        """Take in a row with the aggregates of :func:`told`."""
        self._xor ^= part["told_xor"] & (2**64 - 1)
        self._sum += part["told_sum"]

    def __str__(self) -> str:
        return f"{self._xor:016x}-{self._sum:x}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checksum) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]  # it grows
