"""The sheets of a workbook, following the guidance of the Government Statistical Service: one table on each sheet, no merged or
empty cells, `[c]` for a suppressed figure, `[x]` for one that is not available. :mod:`ebi_spark.exports.workbooks` writes them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from ebi_spark.exports.release_data import ReleaseData
from ebi_spark.geography.area_lists import AREA_TYPES
from ebi_spark.release.published_limits import limits_of
from ebi_spark.release.star import STATUSES
from ebi_spark.report import wording
from ebi_spark.report.rows import Row, is_suppressed
from ebi_spark.report.wording import in_words

CONFIDENTIAL, NOT_AVAILABLE = "[c]", "[x]"
SYMBOLS = (
    f"{CONFIDENTIAL}: suppressed, to protect people or because another suppressed figure could be worked out from it.",
    f"{NOT_AVAILABLE}: not available, for example because there is no population or too few records for a rate.",
)
Cell = str | int | float | date


@dataclass(frozen=True)
class Sheet:
    """One table. ``name``: the name of the sheet, at most 31 characters. ``columns``: headings. ``about``: what a row is."""

    name: str
    title: str
    about: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


# A heading, and the value of a row.
_Column = tuple[str, Callable[[Row], Any]]
# Figures that disclosure control removes together.
_SUPPRESSED = {
    "activity", "in_scope", "crude_rate", "standardised_rate", "lower", "upper", "flagged_share", "share_lower",
    "share_upper", "areas_with_activity", "p10", "p25", "p50", "p75", "p90", "n_fold", "opportunity", "records",
    "share_of_typical",
}  # fmt: skip


def sheets_of(release: ReleaseData) -> list[Sheet]:
    """Every sheet of a release except cover and notes: rates by kind of area, variation, months, attrition, readings, quality and
    policies. A sheet without rows is left out."""
    titles = {policy: row["title"] for policy, row in release.policies.items()}
    policy: _Column = ("Policy", lambda row: str(titles.get(row["policy_id"]) or row["policy_id"]))
    found = [
        *_rates(release, policy),
        _variation(release, policy),
        _months(release, policy),
        _attrition(release, policy),
        _readings(release, policy),
        _quality(release, ("Policy", lambda row: titles.get(row["policy_id"], "all"))),
        _policies(release),
    ]
    return [sheet for sheet in found if sheet.rows]


def _rates(release: ReleaseData, policy: _Column) -> list[Sheet]:
    columns: list[_Column] = [
        policy,
        ("Period", _column("period")),
        ("Area code", _column("area_code")),
        ("Area name", _column("area_name")),
        ("Flagged records", _column("activity")),
        ("Records in scope", _column("in_scope")),
        ("People", _column("population")),
        ("Rate per 100,000, standardised for age and sex", _column("standardised_rate")),
        ("Lower 95% limit", _limit("lower")),
        ("Upper 95% limit", _limit("upper")),
        ("Compared with England (95% limits)", lambda row: in_words(release.compared_with_england(row))),
        ("Share flagged of those in scope", _column("flagged_share")),
        ("Lower 95% limit of the share", _column("share_lower")),
        ("Upper 95% limit of the share", _column("share_upper")),
        _REVISION,
        _STATUS,
        ("Notes", lambda row: " ".join(wording.notes_of(row))),
    ]
    return [
        _sheet(
            f"Rates_{kind}",
            f"Flagged records and rates: {name}",
            "A row is one policy, period and area. Below England counts are rounded, and rates are indirectly standardised from "
            "published counts. Limits cover every count that a rounded one can stand for."
            if kind != "england"
            else "A row is one policy and period.",
            columns,
            [row for row in release.rates if row["area_type"] == kind],
        )
        for kind, name in AREA_TYPES.items()
    ]


def _variation(release: ReleaseData, policy: _Column) -> Sheet:
    return _sheet(
        "Variation",
        "How much rates vary between areas",
        "A row is one policy, period and kind of area.",
        [
            policy,
            ("Period", _column("period")),
            ("Kind of area", lambda row: AREA_TYPES[row["area_type"]]),
            ("Areas", _column("areas")),
            ("10th percentile", _column("p10")),
            ("Median", _column("p50")),
            ("90th percentile", _column("p90")),
            ("N-fold", _column("n_fold")),
            ("Opportunity", _column("opportunity")),
            _REVISION,
            _STATUS,
        ],
        _sorted(release.of_default_readings("variation"), "policy_id", "period_years", "period", "area_type"),
    )


def _months(release: ReleaseData, policy: _Column) -> Sheet:
    dated = [row for row in release.of_default_readings("activity_month") if row["month"] is not None]
    return _sheet(
        "Months",
        "Flagged records by month, England",
        "A row is one policy and month.",
        [
            policy,
            ("Month", _column("month")),
            ("Flagged records", _column("activity")),
            ("Records in scope", _column("in_scope")),
            ("Provisional", lambda row: _yes_no(row["provisional"])),
            ("Pandemic", lambda row: _yes_no(row["pandemic"])),
            _REVISION,
        ],
        _sorted(dated, "policy_id", "month"),
    )


def _attrition(release: ReleaseData, policy: _Column) -> Sheet:
    return _sheet(
        "Attrition",
        "How many records each clause removes, England",
        "A row is one policy, year and clause, in the order in which clauses are applied.",
        [
            policy,
            ("Year", _column("financial_year")),
            ("Step", _column("step")),
            ("Clause", _in_words("clause_id")),
            ("Records before", _column("records_in")),
            ("Records that fail", _column("records_failed")),
            ("Removed because a value is missing", _column("records_missing")),
            ("Records left", _column("records_left")),
            ("Near misses", _column("near_miss")),
            _REVISION,
        ],
        _sorted(release.of_default_readings("attrition"), "policy_id", "financial_year", "revision", "step"),
    )


def _readings(release: ReleaseData, policy: _Column) -> Sheet:
    return _sheet(
        "Readings",
        "What each reading of a policy flags, England",
        "A row is one policy, reading and year.",
        [
            policy,
            ("Reading", _in_words("reading")),
            ("Main definition", lambda row: _yes_no(row["is_default_reading"])),
            ("Year", _column("financial_year")),
            ("Records in scope", _column("in_scope")),
            ("Flagged records", _column("flagged")),
            ("Flagged as published", _column("flagged_as_published")),
            _REVISION,
        ],
        _sorted(release.tables["reading_effect"], "policy_id", "financial_year", "revision", "reading"),
    )


def _quality(release: ReleaseData, policy: _Column) -> Sheet:
    return _sheet(
        "Quality",
        "Data quality, England",
        "A row is one measure of a data set and year. All but totals are to the nearest 100.",
        [
            ("Year", _column("financial_year")),
            ("Data set", lambda row: wording.DATASETS.get(row["dataset"], row["dataset"])),
            policy,
            ("Measure", lambda row: wording.quality_measure(str(row["measure"]))),
            ("Records", _column("records")),
            ("Of records", _column("of_records")),
            ("Status", lambda row: wording.SUPPRESSED_MEASURES.get(row["status"], row["status"])),
        ],
        _sorted(release.tables["quality"], "dataset", "financial_year", "measure", "policy_id"),
    )


def _policies(release: ReleaseData) -> Sheet:
    return _sheet(
        "Policies",
        "The policies and where they come from",
        "A row is one policy and revision in its main definition.",
        [
            ("Policy", _column("policy_id")),
            ("Title", _column("title")),
            ("Revision", _column("revision")),
            ("Main definition", _in_words("reading")),
            ("Publisher", _column("publisher")),
            ("Source", _column("source")),
            ("In force from", _column("in_force_from")),
            ("In force until", _column("in_force_to")),
            ("Boards", lambda row: ", ".join(row["boards"] or []) or "England"),
        ],
        _sorted(release.of_default_readings("policy"), "policy_id", "revision"),
    )


def notes_of(release: ReleaseData) -> list[tuple[str, str]]:
    """(key, text) of each caveat of the release and of each symbol."""
    caveats = release.manifest["caveats"] or {}
    return [*sorted(caveats.items()), *((text[:3], text) for text in SYMBOLS)]


def cover_of(release: ReleaseData) -> list[str]:
    """The lines of the cover, below its title."""
    manifest = release.manifest
    years = manifest["years"] or []
    return [
        f"Release {release.release_id}, published on {release.released_on.day} {release.released_on:%B %Y}.",
        f"Financial years: {', '.join(years)}.",
        f"Areas: {manifest['geography']}. Coverage: {manifest['coverage']}. Data: {wording.data_kind(manifest.get('data_kind'))}.",
        f"Disclosure control: {manifest['disclosure']}. Counts below England are rounded, and small ones are suppressed.",
        *SYMBOLS,
        "The flags apply published Evidence-Based Interventions policies to hospital records. A flag is no judgement of a "
        "patient's care: clinical circumstances are not in these data.",
    ]


def _sheet(name: str, title: str, about: str, columns: list[_Column], rows: Iterable[Row]) -> Sheet:
    return Sheet(
        name,
        title,
        about,
        tuple(heading for heading, _ in columns),
        [tuple(_cell(value(row)) for _, value in columns) for row in rows],
    )


def _sorted(rows: Iterable[Row], *names: str) -> list[Row]:
    def key(value: Any) -> str:
        return f"{value:06.0f}" if isinstance(value, int | float) else str(value)

    return sorted(rows, key=lambda row: [key(row.get(name)) for name in names])


def _column(name: str) -> Callable[[Row], Any]:
    def value(row: Row) -> Any:
        found = row[name]
        return CONFIDENTIAL if found is None and name in _SUPPRESSED and is_suppressed(row) else found

    return value


_REVISION: _Column = ("Revision of the policy", _column("revision"))
_STATUS: _Column = ("Status", lambda row: STATUSES.get(row["status"], (in_words(row["status"]),))[0])


def _in_words(name: str) -> Callable[[Row], str]:
    return lambda row: in_words(row[name])


def _limit(name: str) -> Callable[[Row], Any]:
    """A limit of the rate: the one that allows for people with several records, where it is published."""

    def value(row: Row) -> Any:
        limits = limits_of(row)
        return limits[name == "upper"] if limits else _column(name)(row)

    return value


def _yes_no(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def _cell(value: Any) -> Cell:
    if value is None:
        return NOT_AVAILABLE
    if value == "":
        return "none"
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, str | int | date):
        return value
    raise TypeError(f"a cell cannot have {type(value).__name__}")
