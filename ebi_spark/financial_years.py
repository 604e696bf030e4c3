"""NHS financial years: April to March, written ``2021-22`` in every table; and the dates of sources, from which they follow."""

import re
from datetime import date

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.errors import InputError

YEAR_FORM = r"^[0-9]{4}-[0-9]{2}$"
FIRST_YEAR, LAST_YEAR = 1989, 2099
# The first year in which HES gives a key to one row only; before it, keys repeat from year to year.
HES_KEYS_HOLD_FROM = 2012


def label(start: int) -> str:
    """The label of the financial year that starts on 1 April of ``start``: 2021 → ``2021-22``."""
    return f"{start}-{(start + 1) % 100:02d}"


def start_of(year: str) -> date:
    """First day of a year given by its label."""
    return date(int(year[:4]), 4, 1)


def end_of(year: str) -> date:
    """Last day of a year given by its label."""
    return date(int(year[:4]) + 1, 3, 31)


def midpoint_of(year: str) -> date:
    """1 October, the day that a population of the year is wanted for (decision 14)."""
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
                "years: 2021 can be read as the year 2020-21 or as the calendar year 2021",
                remedy="write 2020-21 or 2021-22",
            )
        if second == (first + 1) % 100:
            return (1900 if first >= 89 else 2000) + first
    raise InputError(
        f"years: {text!r} is not a financial year",
        remedy="write years as 2021-22, a range as 2018-19..2023-24, or several parted by commas",
    )


def parse_years(text: str) -> tuple[str, ...]:
    """The years that a call names, sorted, without repeats.

    Understands ``2021-22``, ``2021/22``, ``202122``, ``2122``, ranges with ``..`` and comma lists. A bare ``2021``
    is refused, since it is 2020-21 in HES and 2021-22 to most readers.
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
    """``2021-04-01``, ``01/04/2021``, ``20210401`` or a time stamp with its date in ISO order; NULL for other forms. Give a
    column, not an expression: it is looked at many times."""

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
    """A DATE. A time stamp becomes the date in the session's time zone (Europe/London unless configured): a midnight of
    1 April stored as 23:00Z belongs to the new year."""
    stamp = iso.try_cast("timestamp").cast("date")
    return F.when(F.octet_length(iso) == 10, iso.try_cast("date")).otherwise(stamp)


def start_of_date(day: Column) -> Column:
    """The calendar year (INT) in which the financial year of a DATE starts; NULL for NULL."""
    return F.year(day) - F.when(F.month(day) < 4, 1).otherwise(0)


def year_of_date(day: Column) -> Column:
    """Label of the financial year that a DATE falls in; NULL for NULL."""
    return year_of_start(start_of_date(day))


def year_of_start(start: Column) -> Column:
    """Label of the financial year that starts in a calendar year (INT); NULL for NULL."""
    # Most dates are of years that sources have: their labels are looked up, which costs a fraction of making them.
    labels = F.split(F.lit(",".join(label(year) for year in range(FIRST_YEAR, LAST_YEAR + 1))), ",")
    looked_up = F.when(start >= FIRST_YEAR, F.get(labels, start - FIRST_YEAR))
    return F.coalesce(looked_up, _label(start))


def start_of_year(year: Column) -> Column:
    """The calendar year (INT) in which the financial year of a label starts; NULL for NULL."""
    return F.substring_index(year, "-", 1).try_cast("int")


def _label(start: Column) -> Column:
    return F.concat(start.cast("string"), F.lit("-"), F.lpad(F.pmod(start + 1, F.lit(100)).cast("string"), 2, "0"))


def year_of_text(text: Column, bare_year: str | None = None) -> Column:
    """Label of a year as source tables write it: ``2021-22``, ``2021/22``, ``202122``, ``2122``, ``2021``; else NULL.

    Four digits are two years' last digits when the second follows the first (HES: ``2021`` is 2020-21, decision 3).
    Other four digits are a calendar year: ``bare_year`` says whether the financial year ``starts`` or ``ends`` in it;
    without it they stay NULL.
    """
    start = start_of_digits(digits_of_year(text), bare_year)
    return F.when(start.between(FIRST_YEAR, LAST_YEAR), year_of_start(start))


def digits_of_year(text: Column) -> Column:
    """The digits of a year as a source writes it, also where it is a number: 910 is 0910 without its zero, 2122.0 is 2122."""
    digits = F.regexp_replace(text, r"\.0*\s*$|[^0-9]", "")
    return F.regexp_replace(F.concat(F.lit("0"), digits), r"^0(?=[0-9]{4})", "")


def start_of_digits(digits: Column, bare_year: str | None = None) -> Column:
    """The calendar year (INT) in which the year that :func:`year_of_text` reads starts, from the digits alone, whether a source
    can hold such a year or not: they are looked at many times, so give a column, not an expression."""
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
