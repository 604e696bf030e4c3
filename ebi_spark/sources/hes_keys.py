"""HES keys before 2012-13, which repeat from year to year: such a key identifies a row only together with its year.

The row itself decides (decision 23): by its own year column or, without it, by the day on which it ended. A row before
2012-13 gets a key such as ``2010-11/100001``; every other row keeps its key. Which files are read makes no difference.
"""

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.config.source_tables import CODE_TABLES
from ebi_spark.financial_years import (
    FIRST_YEAR,
    HES_KEYS_UNIQUE_FROM,
    LAST_YEAR,
    day_of_iso,
    iso_day,
    label,
    start_of_date,
    year_of_start,
    year_of_text,
)

# The source tables concerned, and the columns that give a row's year: the year as text, otherwise a date if they have one.
YEARLY_KEYS = {
    "apc": ("year_text", "episode_end"),
    "op": ("year_text", "appointment_date"),
    **dict.fromkeys(CODE_TABLES, ("year_text", "")),
}
# Separates, in the key of a row of a long table, the key of the episode or appointment from the place of the code.
PLACE = "#"


def _written(starts: range) -> dict[str, str]:
    """The usual ways to write a year → its label. Years of this century are left out if their last two digits could
    also mean a year of the last century."""
    years = [label(start) for start in starts if start < 2000 or start % 100 < FIRST_YEAR % 100]
    return {text: year for year in years for text in (year[2:4] + year[5:], year, year.replace("-", "/"))}


# Most rows write their year in one of these ways, so that it need not be parsed.
_EARLIER = _written(range(FIRST_YEAR, HES_KEYS_UNIQUE_FROM))
_LATER = _written(range(HES_KEYS_UNIQUE_FROM, LAST_YEAR))


def key_with_year(key: Column, year: Column | None, day: Column | None, bare_year: str | None) -> Column:
    """The key of a row, with the year in front of it for a row before 2012-13.

    ``year``: the year as the source writes it. ``day``: a date as text or DATE. Either is None if the table has no such
    column. ``bare_year``: what a year of four digits means (see :func:`year_of_text`).

    | key    | year | day        | → key          |
    |--------|------|------------|----------------|
    | 100001 | 1011 |            | 2010-11/100001 |
    | 100001 |      | 2011-02-03 | 2010-11/100001 |
    | 100001 | 1213 |            | 100001         |
    """
    found = []
    if year is not None:
        listed = F.create_map(*[F.lit(text) for pair in _EARLIER.items() for text in pair])
        found += [F.try_element_at(listed, F.trim(year)), year_of_text(year, bare_year)]
    if day is not None:
        # A typed date is converted to text here. Few rows have no year, so it costs little.
        text = F.trim(day.cast("string"))
        found.append(year_of_start(start_of_date(day_of_iso(iso_day(text)))))
    if not found:
        return key
    row_year = F.coalesce(*found)
    bare = F.trim(key)
    earlier = _is_stated(bare) & row_year.between(label(FIRST_YEAR), label(HES_KEYS_UNIQUE_FROM - 1))
    with_year = F.when(earlier, F.concat(row_year, F.lit("/"), bare)).otherwise(key)
    return with_year if year is None else F.when(F.trim(year).isin(*_LATER), key).otherwise(with_year)


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
