"""HES keys before 2012-13, which repeat from year to year: such a key identifies a row only together with its year.

The row itself decides (decision 23): by its own year column or, without it, by the day on which it ended. A row before
2012-13 gets a key such as ``2010-11/100001``; every other row keeps its key. Which files are read makes no difference.
"""

from collections.abc import Callable

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
from ebi_spark.quoting import sql_list

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


def key_with_year(key: str, year: str | None, day: str | None, bare_year: str | None) -> str:
    """The key of a row, with the year in front of it for a row before 2012-13. Takes columns in SQL and returns the key in SQL.

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
        start = _of(digits_of_year(f"trim({year})"), "_digits", lambda digits: start_of_digits(digits, bare_year))
        plausible = f"BETWEEN {FIRST_YEAR} AND {LAST_YEAR}"
        starts.append(_of(start, "_start", lambda start: f"CASE WHEN {start} {plausible} THEN {start} END"))
    if day is not None:
        on = _of(f"trim(CAST({day} AS STRING))", "_text", lambda text: _of(iso_day(text), "_iso", day_of_iso))
        starts.append(_of(on, "_day", start_of_date))
    if not starts:
        return key

    def with_start(start: str) -> str:
        earlier = f"{start} BETWEEN {FIRST_YEAR} AND {HES_KEYS_UNIQUE_FROM - 1} AND {_is_stated(key)}"
        return f"CASE WHEN {earlier} THEN concat({year_of_start(start)}, '/', trim({key})) ELSE {key} END"

    keyed = _of(f"coalesce({', '.join(starts)})", "_start", with_start)
    return keyed if year is None else f"CASE WHEN trim({year}) IN {sql_list(_LATER)} THEN {key} ELSE {keyed} END"


def _of(value: str, name: str, function: Callable[[str], str]) -> str:
    """What the function makes of a value, which it has under a name. Spark interprets it; rows since 2012-13 that state their year in a
    usual way do not need it. Written out, a value that an expression uses many times is repeated so often that the code for reading a row
    is too long to compile."""
    return f"get(transform(array({value}), {name} -> {function(name)}), 0)"


def _is_stated(key: str) -> str:
    """Whether a key is neither blank nor the word NULL."""
    return f"trim({key}) != '' AND upper(trim({key})) != 'NULL'"


def key_of_code(key: str, place: str) -> str:
    """The key of a row of a long table: the key of its episode or appointment, and the place of its code. NULL if either
    is missing.

    | key            | place | → key            |
    |----------------|-------|------------------|
    | 100001         | 01    | 100001#1         |
    | 2010-11/100001 | 2     | 2010-11/100001#2 |
    """
    stated = f"CASE WHEN {_is_stated(key)} THEN trim({key}) END"
    return f"concat({stated}, '{PLACE}', CAST(try_cast(trim({place}) AS INT) AS STRING))"
