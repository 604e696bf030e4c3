"""Figures, and the short names in the tables, in words for a reader of the report."""

import math
from collections.abc import Sequence
from datetime import date, datetime
from functools import cache
from typing import Any

from markupsafe import Markup

from ebi_spark.config.shipped_files import resource
from ebi_spark.geography.area_lists import ENGLAND
from ebi_spark.release.published_limits import limits_of
from ebi_spark.report.rows import Row, day, is_suppressed, years_of
from ebi_spark.small_files import read_rows

# What a suppressed figure shows, as in tables of the government statistical service. The page explains it once.
HIDDEN = "[c]"

READING_MEANINGS = {
    "as_published": "the page's SQL as SQL Server runs it",
    "as_intended": "the words of the page's Coding section",
    "guidance_coded": "as intended, with the clinical exclusions of the guidance as codes",
}
# Counts that disclosure control may suppress for an area while the row's status stays ok.
SUPPRESSIBLE = ("activity", "in_scope", "people_flagged")
DATASETS = {"apc": "Admitted patient care", "op": "Outpatients"}
AREA_TYPES = {
    "england": ("England", "England"),
    "region": ("region", "regions"),
    "icb": ("ICB", "ICBs"),
    "sub_icb": ("sub-ICB location", "sub-ICB locations"),
    "provider": ("provider", "providers"),
}
DATA_KINDS = {"real": "real records", "sample": "a sample of real records", "synthetic": "made up"}
STATUSES = {
    "few_events": "fewer than 10 events: rate unreliable",
    "no_population": "no population",
    "not_calculated": "not calculated",
    "withheld_small": "suppressed (small number)",
    "withheld_secondary": "suppressed so that a small number elsewhere cannot be worked out",
}
# What a cell shows in place of a missing figure.
ABSENT = {
    "few_events": "too few events",
    "no_population": "no population",
    "withheld_small": HIDDEN,
    "withheld_secondary": HIDDEN,
}
# A mark in a table leads to each of these, which is explained once on the page.
FOOTNOTES = {
    "partial_year": "The year is incomplete.",
    "partial_coverage": "The data are an extract, not the whole of England.",
    "local_policy": "A local policy counts patients of its own ICB only.",
    "back_cast": "The policy came into force later; shown for comparison only.",
    "distant_vintage": "The population estimate is of a date far from this period.",
    "partial_population": "The population file lacks some of this area's people.",
    "unusual_population": "The population file has far more or far fewer people than expected.",
    "split_estimate": (
        "This may be an estimate. An area was split, and records that lookups could not place were divided between its parts in "
        "proportion to their numbers of small areas (LSOAs), not of people."
    ),
    "unmapped_part": (
        "No area code of this period covers all of this area. Records of people in the missing part count in England only, "
        "so a 0 or a low rate says nothing about them."
    ),
}
MONTH_MARKS = ("provisional", "pandemic")
SIGNALS = {
    "astronomical": "outside the limits",
    "shift": "seven or more in a row on one side of the mean",
    "trend": "seven or more in a row that all rise or all fall",
    "two_of_three": "two of three in a row near the same limit",
}
MISSING = {"fails": "drops the record", "passes": "keeps the record"}
MEASURES = {"standardised_rate": "Standardised rate", "crude_rate": "Crude rate"}
QUALITY = {
    "records": "Records",
    "no_person": "No pseudonymised person",
    "no_age": "No age",
    "no_sex": "No sex",
    "procedure_without_code": "A procedure that no code describes",
    "no_gp_practice": "No GP practice",
    "gp_practice_not_known": "GP practice not known",
    "gp_practice_not_applicable": "GP practice not applicable",
    "provider_not_a_code": "Provider code in the wrong format, shown as unknown",
    "commissioner_not_a_code": "Commissioner code in the wrong format",
    "area_unknown": "Area unknown",
    "area_unmapped": "Area code that does not belong to any area shown",
    "outside_england": "Outside England",
}
# What a suppressed measure of data quality shows.
SUPPRESSED_MEASURES = {"withheld_small": "fewer than 50", "withheld_secondary": "all, or all but fewer than 50"}


def in_words(name: Any) -> str:
    """A short name as words: ``primary_diagnosis`` becomes primary diagnosis."""
    return str(name).replace("_", " ")


def data_kind(name: Any) -> str:
    """What the records of a release are: made up, for example."""
    return DATA_KINDS.get(str(name), "not stated")


def count(value: Any, absent: str = "–") -> str:
    """A count with thousands separators."""
    return absent if value is None else f"{value:,.0f}"


def rate(value: Any, absent: str = "not calculated") -> str:
    """A rate to one decimal place. Below 1 it has two significant digits, so that a rare event does not show as 0.0."""
    if value is None:
        return absent
    if value == 0:
        return "0"
    # The magnitude after rounding: 0.996 has two significant digits as 1.0, not as 1.00.
    magnitude = math.floor(math.log10(abs(float(f"{value:.1e}"))))
    return f"{value:,.{max(1, 1 - magnitude)}f}"


def share(part: Any, whole: Any) -> str:
    """A part of a whole as a percentage; empty if the part is missing, or the whole is missing or 0."""
    return f"{rate(100 * part / whole)}%" if part is not None and whole else ""


def reason_missing(row: Row) -> str:
    """What a cell shows when the row lacks a figure."""
    return ABSENT.get(str(row.get("status")), "not calculated")


def count_in(row: Row, name: str) -> str:
    """The count in a column of a row. A suppressed count says so: it must never look like 0.

    Below England each count is controlled separately, so a count may be suppressed in a row whose status is ok.
    """
    suppressible = name in SUPPRESSIBLE and row.get("area_type", ENGLAND) != ENGLAND
    return count(row.get(name), HIDDEN if suppressible or is_suppressed(row) else "not given")


def rate_in(row: Row, name: str) -> str:
    """The rate in a column of a row, or why it is missing."""
    return rate(row.get(name), reason_missing(row))


def limits(row: Row) -> str:
    """The 95% limits of a row, or why they are missing."""
    both = limits_of(row)
    if both is None:
        return HIDDEN if is_suppressed(row) else "not given"
    return f"{rate(both[0])} to {rate(both[1])}"


def flagged_share(row: Row) -> str:
    """Flagged records as a percentage of records in scope, or why it is missing, with 95% limits where these are published."""
    if row.get("flagged_share") is None:
        return HIDDEN if is_suppressed(row) else "–"
    percentage = f"{rate(100 * row['flagged_share'])}%"
    if row.get("share_lower") is None or row.get("share_upper") is None:  # emptied in a release of an earlier version
        return percentage
    return f"{percentage} ({rate(100 * row['share_lower'])} to {rate(100 * row['share_upper'])})"


def month(value: Any) -> str:
    """The month of a date: May 2021."""
    return f"{value:%B %Y}" if isinstance(value, date) else str(value)


def month_marks(row: Row) -> str:
    """Whether a month is provisional or in the pandemic; a dash if neither."""
    return "; ".join(name for name in MONTH_MARKS if row.get(name)) or "–"


def period(row: Row) -> str:
    """A year or a pooled period."""
    return str(row.get("period") or row.get("financial_year")).replace("..", " to ")


class Footnotes:
    """The notes of the page, in the order in which its tables first need them. Each text is there once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def marks(self, texts: Sequence[str]) -> Markup:
        """Links to the notes with these texts, as small numbers."""
        self.texts += [text for text in dict.fromkeys(texts) if text not in self.texts]
        numbers = sorted({self.texts.index(text) + 1 for text in texts})
        links = Markup(", ").join(Markup('<a href="#note-{0}">{0}</a>').format(number) for number in numbers)
        return (
            Markup(' <sup class="mark"><span class="unseen">note </span>{}</sup>').format(links)
            if numbers
            else Markup()
        )


def notes_of(row: Row) -> list[str]:
    """What to know about a row's figures, in sentences."""
    return [
        _distant_population(row)
        if note == "distant_vintage"
        else FOOTNOTES.get(note, in_words(note).capitalize() + ".")
        for note in map(str, row.get("notes") or [])
    ]


def shared_notes(rows: Sequence[Row], footnotes: Footnotes) -> tuple[Markup, list[Markup]]:
    """The marks of notes that hold for every row of a table, and for each row the marks of its other notes."""
    each = [notes_of(row) for row in rows]
    common = [note for note in (each[0] if each else []) if all(note in notes for notes in each)]
    return footnotes.marks(common), [footnotes.marks([note for note in notes if note not in common]) for notes in each]


_NUMBERS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _distant_population(row: Row) -> str:
    """How far the population estimate is from the row's period, where the row gives its date."""
    estimated, year = row.get("population_vintage"), str(row.get("financial_year"))[:4]
    if not isinstance(estimated, date) or not year.isdigit():
        return FOOTNOTES["distant_vintage"]
    first = date(int(year) - years_of(row) + 1, 4, 1)
    after = date(int(year) + 1, 3, 31)
    day_estimated = date(estimated.year, estimated.month, estimated.day)
    days, side = max(
        ((day_estimated - after).days, "after"),
        ((first - day_estimated).days, "before"),
    )
    years = int(days / 365.25)
    if years < 1:
        return FOOTNOTES["distant_vintage"]
    number = _NUMBERS[years] if years < len(_NUMBERS) else str(years)
    return (
        f"The population estimate is of {month(estimated)}, more than {number} {'year' if years == 1 else 'years'} {side} "
        "this period."
    )


def areas(area_type: Any, number: int = 2) -> str:
    """A type of area in words."""
    one, many = AREA_TYPES.get(str(area_type), (in_words(area_type), in_words(area_type)))
    return one if number == 1 else many


def area_name(row: Row) -> str:
    """An area's name in full. An area without a name has its code."""
    return str(row.get("area_name") or row.get("area_code") or "unknown")


def short_name(row: Row) -> str:
    """An area's name for a chart, without the words that all of its kind have. A sub-ICB location has its code."""
    name = area_name(row)
    if row.get("area_type") == "sub_icb":
        return str(row.get("area_code"))
    return name.removeprefix("NHS ").removesuffix(" Integrated Care Board").strip() or name


def area_key(row: Row) -> str:
    """What identifies an area on the page."""
    return f"{row.get('area_type')}/{row.get('area_code')}"


@cache
def _boards() -> dict[str, str]:
    rows = read_rows(resource("conf", "reference", "areas.csv"))
    # The last name of a board is its newest.
    return {row["icb_code"]: row["icb_name"] for row in sorted(rows, key=lambda row: row["valid_from"])}


def board(code: Any) -> str:
    """The name of an integrated care board. A code that the shipped table does not have stays a code."""
    return _boards().get(str(code), str(code))


def listed(names: Sequence[str]) -> str:
    """Names as a list in a sentence: a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def quality_measure(name: str) -> str:
    """A measure of data quality in words. In a measure such as ``quarantined:no_key`` the text after the colon is the kind."""
    if name in QUALITY:
        return QUALITY[name]
    head, _, kind = name.partition(":")
    words = in_words(head).capitalize()
    return f"{words}: {in_words(kind)}" if kind else words


def moment(value: Any) -> str:
    """A point in time, in UTC if the value has a time zone."""
    if isinstance(value, datetime):
        zone = " UTC" if value.utcoffset() is not None else ""
        if value.utcoffset():
            value = (value - value.utcoffset()).replace(tzinfo=None)  # type: ignore[operator]
        return f"{day(value)}, {value:%H:%M}{zone}"
    return day(value) if isinstance(value, date) else str(value)
