"""NHS financial years (April to March, written ``2021-22`` in every table), and reading the dates that they are made
from."""

import re
from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.errors import InputError

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


def iso_day(text: Column) -> Column:
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

    def part(start: int, size: int = 99) -> Column:
        return F.substring(text, start, size)

    size = F.octet_length(text)
    british = (size >= 10) & (part(3, 1) == "/") & (part(6, 1) == "/")
    dash = F.lit("-")
    return (
        F.when((size >= 10) & (part(5, 1) == "-"), text)
        .when(british, F.concat(part(7, 4), dash, part(4, 2), dash, part(1, 2), part(11)))
        .when(size == 8, F.concat(part(1, 4), dash, part(5, 2), dash, part(7, 2)))
    )


def day_of_iso(iso: Column) -> Column:
    """A DATE from the text that :func:`iso_day` returns; NULL if it is not a date of the calendar.

    A time stamp becomes the date in the session's time zone (Europe/London unless configured). So 1 April at midnight,
    stored as 23:00Z on 31 March, belongs to the new year.
    """
    stamp = iso.try_cast("timestamp").cast("date")
    return F.when(F.octet_length(iso) == 10, iso.try_cast("date")).otherwise(stamp)


def start_of_date(day: Column) -> Column:
    """The calendar year (INT) in which the financial year of a DATE starts; NULL for NULL."""
    return F.year(day) - F.when(F.month(day) < 4, 1).otherwise(0)


def year_of_date(day: Column) -> Column:
    """Label of the financial year of a DATE; NULL for NULL."""
    return year_of_start(start_of_date(day))


def year_of_start(start: Column) -> Column:
    """Label of the financial year that starts in a calendar year (INT); NULL for NULL."""
    # Looking up a label is many times faster than making it. Only years that no source has are made.
    labels = F.split(F.lit(",".join(label(year) for year in range(FIRST_YEAR, LAST_YEAR + 1))), ",")
    looked_up = F.when(start >= FIRST_YEAR, F.get(labels, start - FIRST_YEAR))
    return F.coalesce(looked_up, _label(start))


def start_of_year(year: Column) -> Column:
    """The calendar year (INT) in which the financial year with this label starts; NULL for NULL."""
    return F.substring_index(year, "-", 1).try_cast("int")


def _label(start: Column) -> Column:
    return F.concat(start.cast("string"), F.lit("-"), F.lpad(F.pmod(start + 1, F.lit(100)).cast("string"), 2, "0"))


def year_of_text(text: Column, bare_year: str | None) -> Column:
    """Label of the financial year that a source writes as text; NULL if it cannot be read (decision 3).

    Four digits are read as the last two digits of two years if the second follows the first. Any other four digits are
    a calendar year: ``bare_year`` says whether the financial year ``starts`` or ``ends`` in it. Without it they become
    NULL.

    | text    | bare_year | → label |
    |---------|-----------|---------|
    | 2021/22 |           | 2021-22 |
    | 202122  |           | 2021-22 |
    | 2122    |           | 2021-22 |
    | 2021    |           | 2020-21 |
    | 2019    |           | NULL    |
    | 2019    | ends      | 2018-19 |
    """
    start = start_of_digits(digits_of_year(text), bare_year)
    return F.when(start.between(FIRST_YEAR, LAST_YEAR), year_of_start(start))


def digits_of_year(text: Column) -> Column:
    """The digits of a year as a source writes it. It may be stored as a number: 910 becomes 0910, and 2122.0 becomes
    2122."""
    digits = F.regexp_replace(text, r"\.0*\s*$|[^0-9]", "")
    return F.regexp_replace(F.concat(F.lit("0"), digits), r"^0(?=[0-9]{4})", "")


def start_of_digits(digits: Column, bare_year: str | None) -> Column:
    """The calendar year (INT) in which the financial year starts, from the digits of :func:`digits_of_year`; NULL if
    unreadable.

    Years that no source can have are not excluded. Pass a plain column, not an expression: Spark evaluates it many
    times.
    """
    first4 = F.substring(digits, 1, 4).try_cast("int")
    pair_start, pair_end = F.substring(digits, 1, 2).try_cast("int"), F.substring(digits, 3, 2).try_cast("int")
    from_pair = F.when(pair_start >= 89, 1900).otherwise(2000) + pair_start
    bare = F.lit(None).cast("int")
    if bare_year == "starts":
        bare = first4
    elif bare_year == "ends":
        bare = first4 - 1
    is_pair = F.pmod(pair_start + 1, F.lit(100)) == pair_end
    last2 = F.substring(digits, -2, 2).try_cast("int")
    well_formed = F.pmod(first4 + 1, F.lit(100)) == last2
    return (
        F.when(F.length(digits).isin(6, 8) & well_formed, first4)
        .when((F.length(digits) == 4) & is_pair, from_pair)
        .when(F.length(digits) == 4, bare)
    )
