"""Parses schemas as this package writes them, without Java. Spark's own parser runs in Java and takes seconds for all tables."""

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DateType,
    DoubleType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

_PLAIN: dict[str, type[DataType]] = {
    "bigint": LongType,
    "boolean": BooleanType,
    "date": DateType,
    "double": DoubleType,
    "int": IntegerType,
    "long": LongType,
    "string": StringType,
    "timestamp": TimestampType,
}


def parse_schema(listed: str) -> StructType:
    """The schema of a list such as ``code string, people bigint``, with all columns nullable. A :class:`ValueError` if it has
    a type that is not used here."""
    return StructType([StructField(name, parse_type(kind)) for name, kind in _named(listed, " ")])


def parse_type(text: str) -> DataType:
    """A type such as ``bigint`` or ``array<struct<code:string,from:date>>``; a :class:`ValueError` as in
    :func:`parse_schema`."""
    outer, _, inner = text.strip().removesuffix(">").partition("<")
    if outer == "array" and inner:
        return ArrayType(parse_type(inner))
    if outer == "map" and inner:
        key, value = _split(inner)
        return MapType(parse_type(key), parse_type(value))
    if outer == "struct" and inner:
        return StructType([StructField(name, parse_type(kind)) for name, kind in _named(inner, ":")])
    if outer not in _PLAIN or inner:
        raise ValueError(f"unknown type {text.strip()!r}")
    return _PLAIN[outer]()


def _named(listed: str, separator: str) -> list[tuple[str, str]]:
    parts = [part.strip().partition(separator) for part in _split(listed)]
    return [(name.strip("`"), kind) for name, _, kind in parts]


def _split(listed: str) -> list[str]:
    """The parts between commas that are not inside ``<`` and ``>``."""
    parts, depth = [""], 0
    for character in listed:
        depth += (character == "<") - (character == ">")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts
