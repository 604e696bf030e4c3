"""HES keys before 2012-13, which repeat from year to year: such a key identifies a row only together with its year.

The row itself decides (decision 23): by its own year column or, without it, by the day on which it ended. A row before
2012-13 gets a key such as ``2010-11/100001``; every other row keeps its key. Which files are read makes no difference.
"""

from collections.abc import Callable

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.config.source_tables import CODE_TABLES
from ebi_spark.financial_years import (
    FIRST_YEAR,
    HES_KEYS_UNIQUE_FROM,
    LAST_YEAR,
    day_of_iso,
    digits_of_year,
    iso_day,
    label,
    start_of_date,
    start_of_digits,
    year_of_start,
)

# The source tables concerned, and the columns that give a row's year: the year as text, otherwise a date if they have one.
YEARLY_KEYS = {
    "apc": ("year_text", "episode_end"),
    "op": ("year_text", "appointment_date"),
    **dict.fromkeys(CODE_TABLES, ("year_text", "")),
}
# Separates, in the key of a row of a long table, the key of the episode or appointment from the place of the code.
PLACE = "#"


# The usual ways to write a year since 2012-13. Rows that have one of them need no parsing. (From 2089 on, two digits could also mean
# a year of the last century.)
_LATER = [
    text
    for year in map(label, range(HES_KEYS_UNIQUE_FROM, 2000 + FIRST_YEAR % 100))
    for text in (year[2:4] + year[5:], year, year.replace("-", "/"))
]


def key_with_year(key: Column, year: Column | None, day: Column | None, bare_year: str | None) -> Column:
    """The key of a row, with the year in front of it for a row before 2012-13.

    ``year``: the year as the source writes it. ``day``: a date as text or DATE. Either is None if the table has no such
    column. ``bare_year``: what a year of four digits means (see :func:`start_of_digits`).

    | key    | year | day        | → key          |
    |--------|------|------------|----------------|
    | 100001 | 1011 |            | 2010-11/100001 |
    | 100001 |      | 2011-02-03 | 2010-11/100001 |
    | 100001 | 1213 |            | 100001         |
    """
    starts = []
    if year is not None:
        start = _of(digits_of_year(F.trim(year)), lambda digits: start_of_digits(digits, bare_year))
        starts.append(_of(start, lambda start: F.when(start.between(FIRST_YEAR, LAST_YEAR), start)))
    if day is not None:
        on = _of(F.trim(day.cast("string")), lambda text: _of(iso_day(text), day_of_iso))
        starts.append(_of(on, start_of_date))
    if not starts:
        return key
    bare = F.trim(key)

    def with_start(start: Column) -> Column:
        earlier = start.between(FIRST_YEAR, HES_KEYS_UNIQUE_FROM - 1) & _is_stated(bare)
        return F.when(earlier, F.concat(year_of_start(start), F.lit("/"), bare)).otherwise(key)

    keyed = _of(F.coalesce(*starts), with_start)
    return keyed if year is None else F.when(F.trim(year).isin(_LATER), key).otherwise(keyed)


def _of(value: Column, function: Callable[[Column], Column]) -> Column:
    """What the function makes of a value. Spark interprets it, for the few rows that need it. Written out, a value that an expression
    uses many times is repeated so often that the code for reading a row is too long to compile."""
    return F.get(F.transform(F.array(value), function), F.lit(0))


def _is_stated(bare: Column) -> Column:
    """Whether a trimmed key is neither blank nor the word NULL."""
    return (bare != "") & (F.upper(bare) != "NULL")


def key_of_code(key: Column, place: Column) -> Column:
    """The key of a row of a long table: the key of its episode or appointment, and the place of its code. NULL if either
    is missing.

    | key            | place | → key            |
    |----------------|-------|------------------|
    | 100001         | 01    | 100001#1         |
    | 2010-11/100001 | 2     | 2010-11/100001#2 |
    """
    bare = F.trim(key)
    return F.concat(F.when(_is_stated(bare), bare), F.lit(PLACE), F.trim(place).try_cast("int").cast("string"))
