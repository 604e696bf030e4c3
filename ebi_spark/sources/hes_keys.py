"""Keys of HES rows that repeat from year to year: before 2012-13 a key names one row only together with its year.

The row itself decides, whatever files are given: by its own year column, else by the day on which it ended. Its key is then
``2010-11/100001``; every other row keeps its bare key.
"""

from pyspark.sql import Column
from pyspark.sql import functions as F

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

# The tables of which this holds, and the columns that tell a row's year: as text, else by a day.
YEARLY_KEYS = {"apc": ("year_text", "episode_end"), "op": ("year_text", "appointment_date")}


def _written(starts: range) -> dict[str, str]:
    """The usual ways to write a year, and its label. (Years of this century of which the last digits could be of the one before
    are left out.)"""
    years = [label(start) for start in starts if start < 2000 or start % 100 < FIRST_YEAR % 100]
    return {text: year for year in years for text in (year[2:4] + year[5:], year, year.replace("-", "/"))}


# Most rows state their year in one of these ways, and need no closer look.
_EARLIER = _written(range(FIRST_YEAR, HES_KEYS_UNIQUE_FROM))
_LATER = _written(range(HES_KEYS_UNIQUE_FROM, LAST_YEAR))


def key_with_year(key: Column, year: Column | None, day: Column | None, bare_year: str | None) -> Column:
    """A key, with the year before it where the row is of a year before 2012-13. ``year`` as the source writes it, ``day`` as
    text or DATE (None: the table has no such column); ``bare_year``: what a year of four digits means."""
    found = []
    if year is not None:
        listed = F.create_map(*[F.lit(text) for pair in _EARLIER.items() for text in pair])
        found += [F.try_element_at(listed, F.trim(year)), year_of_text(year, bare_year)]
    if day is not None:
        # A date that has its type is written out: there are few rows without a year.
        text = F.trim(day.cast("string"))
        found.append(year_of_start(start_of_date(day_of_iso(iso_day(text)))))
    if not found:
        return key
    of_row = F.coalesce(*found)
    bare = F.trim(key)
    stated = (bare != "") & (F.upper(bare) != "NULL")
    earlier = stated & of_row.between(label(FIRST_YEAR), label(HES_KEYS_UNIQUE_FROM - 1))
    with_year = F.when(earlier, F.concat(of_row, F.lit("/"), bare)).otherwise(key)
    return with_year if year is None else F.when(F.trim(year).isin(*_LATER), key).otherwise(with_year)
