"""NHS financial years (April to March, written ``2021-22`` in every table), and reading the dates that they are made
from.

The functions that read columns take a column, or an expression, in SQL and return one in SQL. Python calls Java once for such a text, but
for a Column once for each of its parts.
"""

import re
from collections.abc import Sequence
from datetime import date

from ebi_spark.errors import InputError
from ebi_spark.quoting import sql_text

FIRST_YEAR, LAST_YEAR = 1989, 2099
# The first year (2012-13) from which a HES key identifies one row. Before it, keys repeat from year to year (decision
# 23).
HES_KEYS_UNIQUE_FROM = 2012


def label(start: int) -> str:
    """The label of the financial year that starts on 1 April of the year ``start``: 2021 → ``2021-22``."""
    return f"{start}-{(start + 1) % 100:02d}"


def starts_in(day: date) -> int:
    """The calendar year in which the financial year of a day starts.

    >>> starts_in(date(2022, 3, 31)), starts_in(date(2022, 4, 1))
    (2021, 2022)
    """
    return day.year - (day.month < 4)


def start_of(year: str) -> date:
    """First day of the financial year with this label."""
    return date(int(year[:4]), 4, 1)


def end_of(year: str) -> date:
    """Last day of the financial year with this label."""
    return date(int(year[:4]) + 1, 3, 31)


def period_of(years: Sequence[str]) -> str:
    """The name of a period: its year, or its first and last year.

    >>> period_of(["2019-20"]), period_of(["2019-20", "2020-21", "2021-22"])
    ('2019-20', '2019-20..2021-22')
    """
    return years[0] if len(years) == 1 else f"{years[0]}..{years[-1]}"


def midpoint_of(year: str) -> date:
    """1 October of the financial year with this label: the population nearest to this day is used (decision 14)."""
    return date(int(year[:4]), 10, 1)


def _one_year(text: str) -> int:
    text = text.strip()
    match = re.fullmatch(r"(\d{4})[-/](\d{2}|\d{4})", text) or re.fullmatch(r"(\d{4})(\d{2})", text)
    if match:
        start, end = int(match[1]), int(match[2])
        if end % 100 == (start + 1) % 100 and FIRST_YEAR <= start <= LAST_YEAR:
            return start
    elif match := re.fullmatch(r"(\d{2})(\d{2})", text):
        first, second = int(match[1]), int(match[2])
        if text == "2021":
            raise InputError(
                "years: 2021 can mean the financial year 2020-21 or the calendar year 2021",
                remedy="write 2020-21 or 2021-22",
            )
        if second == (first + 1) % 100:
            return (1900 if first >= 89 else 2000) + first
    raise InputError(
        f"years: {text!r} is not a financial year",
        remedy="write a year as 2021-22, a range as 2018-19..2023-24, or several separated by commas",
    )


def parse_years(text: str) -> tuple[str, ...]:
    """The labels of the years in ``text``, sorted, without repeats.

    A year is written ``2021-22``, ``2021/22``, ``202122`` or ``2122``. Ranges with ``..`` and lists with commas are
    allowed. ``2021`` raises an :class:`InputError`, because it is 2020-21 in HES and 2021-22 to most readers; so does
    anything else.
    """
    starts: set[int] = set()
    for part in str(text).split(","):
        first, dots, last = part.partition("..")
        begin = _one_year(first)
        end = _one_year(last) if dots else begin
        if end < begin:
            raise InputError(f"years: the range {part.strip()!r} runs backwards", remedy="write the earlier year first")
        starts.update(range(begin, end + 1))
    return tuple(label(start) for start in sorted(starts))


def iso_day(text: str) -> str:
    """A date as text, rewritten so that it starts ``YYYY-MM-DD``; NULL if it has none of these forms.

    | text                  | → result              |
    |-----------------------|-----------------------|
    | 2021-04-01            | 2021-04-01            |
    | 01/04/2021            | 2021-04-01            |
    | 20210401              | 2021-04-01            |
    | 2021-04-01 10:15:00   | 2021-04-01 10:15:00   |
    | 1 April               | NULL                  |

    Pass a plain column, not an expression: Spark evaluates it many times.
    """

    def part(start: int, size: int = 99) -> str:
        return f"substring({text}, {start}, {size})"

    size = f"octet_length({text})"
    return (
        f"CASE WHEN {size} >= 10 AND {part(5, 1)} = '-' THEN {text} "
        f"WHEN {size} >= 10 AND {part(3, 1)} = '/' AND {part(6, 1)} = '/' "
        f"THEN concat({part(7, 4)}, '-', {part(4, 2)}, '-', {part(1, 2)}, {part(11)}) "
        f"WHEN {size} = 8 THEN concat({part(1, 4)}, '-', {part(5, 2)}, '-', {part(7, 2)}) END"
    )


def day_of_iso(iso: str) -> str:
    """A DATE from the text that :func:`iso_day` returns; NULL if it is not a date of the calendar.

    A time stamp becomes the date in the session's time zone (Europe/London unless configured). So 1 April at midnight,
    stored as 23:00Z on 31 March, belongs to the new year.
    """
    stamp = f"CAST(try_cast({iso} AS TIMESTAMP) AS DATE)"
    return f"CASE WHEN octet_length({iso}) = 10 THEN try_cast({iso} AS DATE) ELSE {stamp} END"


def start_of_date(day: str) -> str:
    """The calendar year (INT) in which the financial year of a DATE starts; NULL for NULL."""
    return f"(year({day}) - CASE WHEN month({day}) < 4 THEN 1 ELSE 0 END)"


def year_of_date(day: str) -> str:
    """Label of the financial year of a DATE; NULL for NULL."""
    return year_of_start(start_of_date(day))


def year_of_start(start: str) -> str:
    """Label of the financial year that starts in a calendar year (INT); NULL for NULL."""
    # Looking up a label is many times faster than making it. Only years that no source has are made.
    labels = f"split('{','.join(label(year) for year in range(FIRST_YEAR, LAST_YEAR + 1))}', ',')"
    looked_up = f"CASE WHEN {start} >= {FIRST_YEAR} THEN get({labels}, {start} - {FIRST_YEAR}) END"
    made = f"concat(CAST({start} AS STRING), '-', lpad(CAST(pmod({start} + 1, 100) AS STRING), 2, '0'))"
    return f"coalesce({looked_up}, {made})"


def start_of_year(year: str) -> str:
    """The calendar year (INT) in which the financial year with this label starts; NULL for NULL."""
    return f"try_cast(substring_index({year}, '-', 1) AS INT)"


def digits_of_year(text: str) -> str:
    """The digits of a year as a source writes it. It may be stored as a number: 910 becomes 0910, and 2122.0 becomes
    2122."""
    without_fraction, padding = sql_text(r"\.0*\s*$|[^0-9]"), sql_text(r"^0(?=[0-9]{4})")
    return f"regexp_replace(concat('0', regexp_replace({text}, {without_fraction}, '')), {padding}, '')"


def start_of_digits(digits: str, bare_year: str | None) -> str:
    """The calendar year (INT) in which the financial year that a source writes starts, from the digits of :func:`digits_of_year`; NULL
    if it cannot be read (decision 3). Years that no source can have are not excluded.

    Four digits are read as the last two digits of two years if the second follows the first. Any other four digits are
    a calendar year: ``bare_year`` says whether the financial year ``starts`` or ``ends`` in it. Without it they become
    NULL. Pass a plain column, not an expression: Spark evaluates it many times.

    | text    | digits | bare_year | → start |
    |---------|--------|-----------|---------|
    | 2021/22 | 202122 |           | 2021    |
    | 202122  | 202122 |           | 2021    |
    | 2122    | 2122   |           | 2021    |
    | 2021    | 2021   |           | 2020    |
    | 2019    | 2019   |           | NULL    |
    | 2019    | 2019   | ends      | 2018    |
    """

    def number(start: int, size: int) -> str:
        return f"try_cast(substring({digits}, {start}, {size}) AS INT)"

    first4, last2, pair_start, pair_end = number(1, 4), number(-2, 2), number(1, 2), number(3, 2)
    from_pair = f"CASE WHEN {pair_start} >= 89 THEN 1900 ELSE 2000 END + {pair_start}"
    bare = {"starts": first4, "ends": f"{first4} - 1"}.get(bare_year or "", "CAST(NULL AS INT)")
    return (
        f"CASE WHEN length({digits}) IN (6, 8) AND pmod({first4} + 1, 100) = {last2} THEN {first4} "
        f"WHEN length({digits}) = 4 AND pmod({pair_start} + 1, 100) = {pair_end} THEN {from_pair} "
        f"WHEN length({digits}) = 4 THEN {bare} END"
    )
