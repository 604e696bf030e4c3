"""How figures and the tables' short names are put to a reader."""

import math
from datetime import date, datetime
from typing import Any

from ebi_spark.report.rows import WITHHELD, Row, day, limits_of

READINGS = {
    "as_published": "as published",
    "as_intended": "as intended",
    "guidance_coded": "guidance coded",
}
READING_MEANINGS = {
    "as_published": "the page's SQL as SQL Server runs it",
    "as_intended": "the words of the page's Coding section",
    "guidance_coded": "as intended, with the clinical exclusions of the guidance as codes",
}
NATIONAL = "england"
# Counts that disclosure control may take away from an area.
CONTROLLED = ("activity", "in_scope", "people_flagged")
DATASETS = {"apc": "Admitted patient care", "op": "Outpatients"}
AREA_TYPES = {
    "england": ("England", "England"),
    "region": ("region", "regions"),
    "icb": ("ICB", "ICBs"),
    "sub_icb": ("sub-ICB location", "sub-ICB locations"),
    "provider": ("provider", "providers"),
}
STATUSES = {
    "few_events": "fewer than 10 events: rate unreliable",
    "no_population": "no population",
    "not_calculated": "not calculated",
    "withheld_small": "withheld (small numbers)",
    "withheld_secondary": "withheld (protects another cell)",
}
# What stands in the place of a figure that is not there.
ABSENT = {
    "few_events": "too few events",
    "no_population": "no population",
    "withheld_small": "withheld",
    "withheld_secondary": "withheld",
}
NOTES = {
    "back_cast": "read by a revision that came later",
    "distant_vintage": "population of a distant date",
    "partial_population": "the population file does not have all of its people",
    "unusual_population": "the population file has far more or fewer people than expected",
    "partial_year": "incomplete year",
    "split_estimate": "rests on shares of a split area",
    "unmapped_part": "records of a part are counted in England only",
    "partial_coverage": "extract, not the whole of England",
    "local_policy": "a local policy: its own board's patients only",
}
MONTH_MARKS = {"provisional": "provisional: records still to come", "pandemic": "pandemic"}
SIGNALS = {
    "astronomical": "outside the limits",
    "shift": "seven or more in a row on one side of the mean",
    "trend": "seven or more in a row that rise or fall",
    "two_of_three": "two of three in a row near one limit",
}
CODINGS = {"coded": "coded", "proxy": "proxy", "not_codable": "not codable", "not_applicable": "not applicable"}
MISSING = {"fails": "drops the record", "passes": "keeps the record"}
MEASURES = {"standardised_rate": "Standardised rate", "crude_rate": "Crude rate"}
QUALITY = {
    "records": "Records",
    "no_person": "No pseudonymised person",
    "no_age": "No age",
    "no_sex": "No sex",
    "procedure_without_code": "A procedure that no code fits",
    "no_gp_practice": "No GP practice",
    "gp_practice_not_known": "GP practice not known",
    "gp_practice_not_applicable": "GP practice not applicable",
    "provider_not_a_code": "Provider code without the form of one, shown as unknown",
    "commissioner_not_a_code": "Commissioner code without the form of one",
    "area_unknown": "Area unknown",
    "area_unmapped": "Area code that is none of the areas shown",
    "outside_england": "Outside England",
}
# What is printed for a measure of data quality that is withheld.
ABSENT_MEASURES = {"withheld_small": "fewer than 50", "withheld_secondary": "all, or all but fewer than 50"}


def spoken(name: Any) -> str:
    """A short name as words: ``primary_diagnosis`` is primary diagnosis."""
    return str(name).replace("_", " ")


def count(value: Any, absent: str = "–") -> str:
    """A count with thousands separators."""
    return absent if value is None else f"{value:,.0f}"


def rate(value: Any, absent: str = "not calculated") -> str:
    """A rate to one decimal; below 1 to two significant digits, so that a rare event is not printed as 0.0."""
    if value is None:
        return absent
    if value == 0:
        return "0"
    # ClassifiedTable after rounding: 0.996 has two significant digits as 1.0, not as 1.00.
    magnitude = math.floor(math.log10(abs(float(f"{value:.1e}"))))
    return f"{value:,.{max(1, 1 - magnitude)}f}"


def share(part: Any, whole: Any) -> str:
    """A part of a whole as a percentage; nothing where there is no whole."""
    return f"{rate(100 * part / whole)}%" if part is not None and whole else ""


def absent_of(row: Row) -> str:
    """What stands for a figure that this row does not have."""
    return ABSENT.get(str(row.get("status")), "not calculated")


def counted(row: Row, name: str) -> str:
    """A count of a rate's row. A withheld one says so: it must never look like 0.

    Below the nation each count is controlled on its own, so one may be withheld in a row whose status is ok.
    """
    controlled = name in CONTROLLED and row.get("area_type", NATIONAL) != NATIONAL
    return count(row.get(name), "withheld" if controlled or row.get("status") in WITHHELD else "not given")


def rated(row: Row, name: str) -> str:
    """A rate of a row, or why there is none."""
    return rate(row.get(name), absent_of(row))


def limits(row: Row) -> str:
    """The 95% limits of a row, or why there are none."""
    both = limits_of(row)
    if both is None:
        return "withheld" if row.get("status") in WITHHELD else "not given"
    return f"{rate(both[0])} to {rate(both[1])}"


def flagged_share(row: Row) -> str:
    """The flagged among the records in scope, with 95% limits, or why it is not there."""
    if row.get("flagged_share") is None:
        return "withheld" if row.get("status") in WITHHELD else "–"
    share_of = [100 * row[name] for name in ("flagged_share", "share_lower", "share_upper")]
    return f"{rate(share_of[0])}% ({rate(share_of[1])} to {rate(share_of[2])})"


def month(value: Any) -> str:
    """A month by its first day: May 2021."""
    return f"{value:%B %Y}" if isinstance(value, date) else str(value)


def month_marks(row: Row) -> str:
    """What is to be known of a month."""
    return "; ".join(words for name, words in MONTH_MARKS.items() if row.get(name)) or "–"


def period(row: Row) -> str:
    """A year or a pooled period."""
    return str(row.get("period") or row.get("financial_year")).replace("..", " to ")


def status(row: Row, ok: str = "published") -> str:
    """A row's status and notes in words."""
    name = str(row.get("status"))
    parts = [ok if name == "ok" else STATUSES.get(name, spoken(name))]
    parts += [NOTES.get(str(note), spoken(note)) for note in row.get("notes") or []]
    return "; ".join(parts)


def reading(name: Any) -> str:
    """A reading's name in words."""
    return READINGS.get(str(name), spoken(name))


def areas(area_type: Any, number: int = 2) -> str:
    """A type of area in words."""
    one, many = AREA_TYPES.get(str(area_type), (spoken(area_type), spoken(area_type)))
    return one if number == 1 else many


def area_name(row: Row) -> str:
    """An area's name short enough for an axis; its code where it has no name."""
    name = str(row.get("area_name") or row.get("area_code") or "unknown")
    return name.removeprefix("NHS ").removesuffix(" Integrated Care Board").strip() or name


def quality_measure(name: str) -> str:
    """A measure of data quality in words; what follows a colon names the kind."""
    if name in QUALITY:
        return QUALITY[name]
    head, _, kind = name.partition(":")
    words = spoken(head).capitalize()
    return f"{words}: {spoken(kind)}" if kind else words


def moment(value: Any) -> str:
    """A point in time, in UTC where the value says a zone."""
    if isinstance(value, datetime):
        zone = " UTC" if value.utcoffset() is not None else ""
        if value.utcoffset():
            value = (value - value.utcoffset()).replace(tzinfo=None)  # type: ignore[operator]
        return f"{day(value)}, {value:%H:%M}{zone}"
    return day(value) if isinstance(value, date) else str(value)
