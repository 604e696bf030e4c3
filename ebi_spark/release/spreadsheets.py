"""Keeps spreadsheets from running published texts as formulas.

Published tables are often exported as CSV files. A spreadsheet treats a cell that begins with ``=``, ``+``, ``-`` or ``@``
as a formula. Such a text, from a policy file or a name in a user's lookup, gets an apostrophe in front, so that the
spreadsheet shows it as text.
"""

from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, DataType, StringType, StructType

from ebi_spark.quoting import sql_name, sql_text

# Includes full-width signs, and signs after blanks, tabs or line breaks, which some spreadsheets ignore.
FORMULA = r"^\s*[=+\-@＝＋－＠]"


def without_formulas(frame: DataFrame) -> DataFrame:
    """``frame`` with an apostrophe before each text that a spreadsheet would run, including texts in lists and structs."""
    named = [(sql_name(field.name), field.dataType) for field in frame.schema.fields]
    return frame.selectExpr(*[f"{_safe(name, kind)} AS {name}" for name, kind in named])


def _safe(value: str, kind: DataType) -> str:
    if isinstance(kind, StringType):
        return f"CASE WHEN {value} RLIKE {sql_text(FORMULA)} THEN concat('\\'', {value}) ELSE {value} END"
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, StringType | StructType):
        return f"transform({value}, item -> {_safe('item', kind.elementType)})"
    if isinstance(kind, StructType):
        fields = [(sql_name(field.name), field.dataType) for field in kind.fields]
        listed = ", ".join(f"{_safe(f'{value}.{name}', field)} AS {name}" for name, field in fields)
        return f"CASE WHEN {value} IS NOT NULL THEN struct({listed}) END"
    return value
