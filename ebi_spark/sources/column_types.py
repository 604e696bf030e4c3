"""Read columns of Parquet, Delta and catalogue tables as text, and refuse types that do not fit.

Text is not changed. A whole number is written without a fraction, whatever its number type. A date or time stamp is
accepted only for a date column. A two-character code stored as a number gets its leading zero back in cleaning, like
one written as ``2``. Dates and ages that already have their type keep it, because converting them to text and back
would cost time in every pass over the rows.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BinaryType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    NullType,
    NumericType,
    ShortType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from ebi_spark.errors import InputError
from ebi_spark.quoting import sql_name
from ebi_spark.sources.layouts import DAYS, NUMBERS, ColumnMapping

# Keys: they can have so many digits that a floating-point number loses the last ones.
KEYS = ("record_id", "person_id", "provider_spell_number", "approval_id")
_TYPED_DAYS = frozenset(DAYS) - {"extract_date"}
_DAY_TYPES = (DateType, TimestampType, TimestampNTZType)
# Floating-point types, and the number below which they store every whole number exactly.
_EXACT_BELOW: dict[type[DataType], int] = {DoubleType: 1 << 53, FloatType: 1 << 24}


def refuse_other_types(schema: StructType, mapping: ColumnMapping, where: str) -> None:
    """Raise an :class:`InputError` that names column and type if a column that is read has a type that does not fit."""
    types = {item.name: item.dataType for item in schema.fields}
    for ours, name in [*mapping.single.items(), *mapping.lists()]:
        kind = types[name]
        if isinstance(kind, StringType | NumericType | NullType) or (ours in DAYS and isinstance(kind, _DAY_TYPES)):
            continue
        wanted = "a date or text" if ours in DAYS else "text or a number"
        raise InputError(
            f"{where}: the column {name} has the type {kind.typeName()}, but {ours} must be {wanted}",
            remedy=f"change the type of {name} at the source, or map another column: `columns: {{{ours}: …}}`",
        )


def as_text(name: str, kind: DataType) -> str:
    """A column as text, in SQL. (Python calls Java once for such a text, but for a Column once for each of its parts.)"""
    column = sql_name(name)
    if isinstance(kind, StringType):
        return column
    text, whole = f"CAST({column} AS STRING)", f"try_cast({column} AS DECIMAL(38,0))"
    if isinstance(kind, DoubleType | FloatType):
        # Data frame tools write a missing number as NaN ("not a number").
        without_fraction = f"CASE WHEN rint({column}) = {column} THEN CAST({whole} AS STRING) END"
        return f"CASE WHEN NOT isnan({column}) THEN coalesce({without_fraction}, {text}) END"
    if isinstance(kind, DecimalType) and kind.scale:
        return f"coalesce(CASE WHEN {whole} = {column} THEN CAST({whole} AS STRING) END, {text})"
    return f"hex({column})" if isinstance(kind, BinaryType) else text


def as_read(ours: str, name: str, kind: DataType) -> str:
    """A column that is read as our column ``ours``, in SQL: a DATE or an INT if it has that type, otherwise text."""
    column = sql_name(name)
    if ours in _TYPED_DAYS and isinstance(kind, _DAY_TYPES):
        return f"CAST({column} AS DATE)"  # a time stamp in the session's time zone, just as its text would be read
    if ours in NUMBERS and isinstance(kind, ByteType | ShortType | IntegerType):
        return f"CAST({column} AS INT)"
    return as_text(name, kind)


def united(frames: Sequence[DataFrame]) -> DataFrame:
    """All rows of frames that have the same columns. A column whose type differs between the frames becomes text.

    | frame | discharge_date (its type) | → discharge_date (text) |
    |-------|---------------------------|-------------------------|
    | 1     | 2021-05-03 (DATE)         | 2021-05-03              |
    | 1     | NULL (DATE)               | NULL                    |
    | 2     | 04/05/2021 (text)         | 04/05/2021              |
    """
    kinds = [dict(frame.dtypes) for frame in frames]
    mixed = {name for name in kinds[0] if len({kind[name] for kind in kinds}) > 1}
    return reduce(
        DataFrame.unionByName,
        [
            frame.withColumns({name: F.col(name).cast("string") for name in mixed}) if mixed else frame
            for frame in frames
        ],
    )


def inexact_key(schema: StructType, mapping: ColumnMapping) -> Column | None:
    """Whether a row has a key stored as a floating-point number that is too large to be exact. None if no key is
    one."""
    types = {item.name: item.dataType for item in schema.fields}
    found = []
    for ours in KEYS:
        name = mapping.single.get(ours)
        most = _EXACT_BELOW.get(type(types[name])) if name else None
        if name and most:
            found.append(F.coalesce(F.abs(F.col(sql_name(name))) >= F.lit(most), F.lit(False)))
    return reduce(or_, found) if found else None
