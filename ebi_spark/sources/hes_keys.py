"""HES keys before 2012-13, which repeat from year to year: such a key identifies a row only together with its year.

The row itself decides (decision 23): by its own year column or, without it, by the day on which it ended. A row before
2012-13 gets a key such as ``2010-11/100001``; every other row keeps its key. Which files are read makes no difference.
"""

from ebi_spark.config.source_tables import CODE_TABLES
from ebi_spark.financial_years import (
    FIRST_YEAR,
    HES_KEYS_UNIQUE_FROM,
    LAST_YEAR,
    day_of_iso,
    iso_day,
    label,
    year_of_date,
    year_of_text,
)
from ebi_spark.quoting import sql_list, sql_text

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


def key_with_year(key: str, year: str | None, day: str | None, bare_year: str | None) -> str:
    """The key of a row, with the year in front of it for a row before 2012-13. The columns are given, and the key is returned, in SQL.

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
        listed = f"map({', '.join(sql_text(text) for pair in _EARLIER.items() for text in pair)})"
        found += [f"try_element_at({listed}, trim({year}))", year_of_text(year, bare_year)]
    if day is not None:
        # A typed date is converted to text here. Few rows have no year, so it costs little.
        found.append(year_of_date(day_of_iso(iso_day(f"trim(CAST({day} AS STRING))"))))
    if not found:
        return key
    row_year = f"coalesce({', '.join(found)})"
    years = f"'{label(FIRST_YEAR)}' AND '{label(HES_KEYS_UNIQUE_FROM - 1)}'"
    earlier = f"{_is_stated(key)} AND {row_year} BETWEEN {years}"
    with_year = f"CASE WHEN {earlier} THEN concat({row_year}, '/', trim({key})) ELSE {key} END"
    return (
        with_year if year is None else f"CASE WHEN trim({year}) IN {sql_list(_LATER)} THEN {key} ELSE {with_year} END"
    )


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
