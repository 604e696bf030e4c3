"""What a table is: its layer, its columns with their meanings, and how it is stored."""

from dataclasses import dataclass
from functools import cached_property

from pyspark.sql.types import StructField, StructType

from ebi_spark.spark_types import parse_type

# The version of all tables together, stored as a property of each table. Raise it when a column changes its type or
# meaning: a lake with a higher version than the program's is refused. A new column needs no higher version:
# `Lake.migrate` adds it.
SCHEMA_VERSION = 2

YEAR = "financial_year"
# The year of rows that have none: `silver/quarantine` is the only table with such rows.
UNKNOWN_YEAR = "unknown"
RECORD_KEY = ("source_system", "dataset", "record_id")
POLICY_KEY = ("policy_id", "revision", "reading")
YEAR_OF_REVISION = ("policy_id", "revision", YEAR)
# A table with one of these columns has rows of records or persons, which never come to the driver.
IDENTIFIERS = frozenset({"record_id", "person_id", "approval_id", "raw"})


@dataclass(frozen=True)
class Table:
    """One table of the lake.

    ``row`` says what a row is. ``columns`` lists one column a line: its name, its Spark type and, after ``--``, its
    meaning. Both are stored in Delta as comments, where users of the tables read them. ``columns`` is parsed once.
    """

    layer: str
    name: str
    row: str
    columns: str
    partition_by: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    # Delta keeps the minimum and maximum of only these columns in its log. Statistics on every column made writing a
    # third slower. In tables of records, never name a column here whose values could identify a person. (Policies skip
    # rows by the page index inside each sorted file, not by these statistics.) If none is named, Delta takes the first
    # 32 columns.
    statistics: tuple[str, ...] = ()
    # False for small tables whose files must stay separate.
    compact: bool = True

    @property
    def full_name(self) -> str:
        """``layer/name``, the name used in documents and messages."""
        return f"{self.layer}/{self.name}"

    @cached_property
    def schema(self) -> StructType:
        """The columns as a Spark schema, all nullable, with meanings as comments. Shared by all callers: do not change
        it."""
        return StructType(
            [
                StructField(name, parse_type(kind), metadata={"comment": meaning} if meaning else None)
                for name, kind, meaning in self._fields
            ]
        )

    @property
    def patient_level(self) -> bool:
        """Whether a row is of one record or person."""
        return not IDENTIFIERS.isdisjoint(self.names())

    def fields(self) -> list[tuple[str, str, str]]:
        """(name, Spark type, meaning) of each column, in order."""
        return list(self._fields)

    @cached_property
    def _fields(self) -> tuple[tuple[str, str, str], ...]:
        fields = []
        for line in filter(str.strip, self.columns.splitlines()):
            declared, _, meaning = line.strip().partition(" -- ")
            name, _, spark_type = declared.strip().partition(" ")
            fields.append((name, spark_type.strip(), meaning.strip()))
        return tuple(fields)

    def names(self) -> list[str]:
        """Column names in order."""
        return [name for name, _, _ in self._fields]
