"""Keeps spreadsheets from running published texts as formulas.

Published tables are often exported as CSV files. A spreadsheet treats a cell that begins with ``=``, ``+``, ``-`` or ``@``
as a formula. Such a text, from a policy file or a name in a user's lookup, gets an apostrophe in front, so that the
spreadsheet shows it as text.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, StringType, StructType

# Includes full-width signs, and signs after blanks, tabs or line breaks, which some spreadsheets ignore.
FORMULA = r"^\s*[=+\-@＝＋－＠]"


def without_formulas(frame: DataFrame) -> DataFrame:
    """``frame`` with an apostrophe before each text that a spreadsheet would run, including texts in lists and structs."""
    return frame.select([_safe(F.col(field.name), field.dataType).alias(field.name) for field in frame.schema.fields])


def _safe(value: Column, kind: DataType) -> Column:
    if isinstance(kind, StringType):
        return F.when(value.rlike(FORMULA), F.concat(F.lit("'"), value)).otherwise(value)
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, StringType | StructType):
        element = kind.elementType
        return F.transform(value, lambda item: _safe(item, element))
    if isinstance(kind, StructType):
        fields = [_safe(value[field.name], field.dataType).alias(field.name) for field in kind.fields]
        return F.when(value.isNotNull(), F.struct(*fields))
    return value
