"""Which rows of a table are meant, as SQL: for Spark, and for the engine of `deltalake` (DataFusion)."""

from collections.abc import Iterable, Mapping, Sequence

from ebi_spark.quoting import sql_name, sql_text

# Which rows are meant: for each column, its possible values. Where there are several of these mappings, a row has to fit one.
Where = Mapping[str, Iterable[str | int]]


def predicate_of(where: Where | Sequence[Where]) -> str:
    """``where`` in Spark's SQL; empty if it means all rows."""
    either = [
        " AND ".join(
            f"{sql_name(column)} IN ({', '.join(spark_literal(value) for value in values) or 'NULL'})"
            for column, values in one.items()
        )
        for one in ([where] if isinstance(where, Mapping) else where)
    ]
    return either[0] if len(either) == 1 else " OR ".join(f"({one})" for one in either)


def spark_literal(value: str | int) -> str:
    """A value in Spark's SQL."""
    return str(value) if isinstance(value, int) else sql_text(value)


def condition_of(where: Where | Sequence[Where]) -> str:
    """``where`` in DataFusion's SQL; empty if it means all rows."""
    either = [
        " AND ".join(
            f"{quoted(column)} IN ({', '.join(map(literal, values)) or 'NULL'})" for column, values in one.items()
        )
        for one in ([where] if isinstance(where, Mapping) else where)
    ]
    return f"({') OR ('.join(either)})" if any(either) else ""


def literal(value: str | int) -> str:
    """A value in DataFusion's SQL."""
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A name in DataFusion's SQL."""
    return '"' + name.replace('"', '""') + '"'


def named_by_all(each: Sequence[Where], column: str) -> list[str] | None:
    """All values of a column in the mappings; None if a mapping does not name the column, since it then allows any
    value."""
    if not all(column in one for one in each):
        return None
    return sorted({str(value) for one in each for value in one[column]})
