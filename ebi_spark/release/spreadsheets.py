"""Texts that a spreadsheet would run: none of them is published as it is.

A cell that begins with ``=``, ``+``, ``-`` or ``@`` is a formula to a spreadsheet, and a published table is soon a CSV file. Such
a text (of a policy file, or a name in a user's lookup) gets an apostrophe in front, which makes it a text again.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, StringType, StructType

# Also in full width, and behind blanks, tabs or line breaks, which some spreadsheets leave out.
FORMULA = r"^\s*[=+\-@＝＋－＠]"


def without_formulas(frame: DataFrame) -> DataFrame:
    """``frame`` with an apostrophe before each text that a spreadsheet would run, also inside lists and structures."""
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
