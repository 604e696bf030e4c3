"""Rates as a CSV file with the columns of a download from Fingertips (Office for Health Improvement and Disparities)."""

import csv
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

from ebi_spark.exports.release_data import ReleaseData
from ebi_spark.geography.area_lists import AREA_TYPES, ENGLAND, ENGLAND_ONS, areas_on
from ebi_spark.geography.area_versions import versions
from ebi_spark.release.published_limits import limits_998_of, limits_of
from ebi_spark.release.star import policy_key
from ebi_spark.report.rows import Row, is_suppressed

COLUMNS = (
    "Indicator ID", "Indicator Name", "Parent Code", "Parent Name", "Area Code", "Area Name", "Area Type", "Sex", "Age",
    "Category Type", "Category", "Time period", "Value", "Lower CI 95.0 limit", "Upper CI 95.0 limit",
    "Lower CI 99.8 limit", "Upper CI 99.8 limit", "Count", "Denominator", "Value note", "Recent Trend",
    "Compared to England value or percentiles", "Compared to Region value or percentiles", "Time period Sortable",
    "New data", "Compared to goal", "Time period range",
)  # fmt: skip
_COMPARED = {"lower": "Lower", "similar": "Similar", "higher": "Higher", "not_compared": "Not compared"}
SUPPRESSED = "Value suppressed for disclosure control"
NOT_CALCULATED = "Value not calculated"
INDIRECT = "Indirectly standardised from rounded counts; England is directly standardised"


def write_fingertips(path: Path, release: ReleaseData) -> int:
    """Write one row for each policy, period and area; returns the number of rows. A suppressed value is empty and has a value
    note. Areas have their ONS codes. Providers have no ONS code, so they have their NHS codes."""
    rows = fingertips_rows(release)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def fingertips_rows(release: ReleaseData) -> list[dict[str, Any]]:
    """The rows of the file: one for each rate of the release. A column that does not apply, and a figure that is suppressed or not
    calculated, is an empty text.

    | area_type | activity | standardised_rate | status         | → Value | Count | Value note                              |
    |-----------|----------|-------------------|----------------|---------|-------|-----------------------------------------|
    | england   | 1003     | 10.0              | ok             | 10.0    | 1003  |                                         |
    | icb       | None     | None              | withheld_small |         |       | Value suppressed for disclosure control |
    | provider  | 25       | None              | no_population  |         | 25    | Value not calculated                    |
    """
    day = _day_of(release)
    areas = areas_on(day)
    codes = {place: area.ons_code for place, area in areas.items() if area.ons_code}
    found = []
    of_policy: dict[str, set[str]] = defaultdict(set)
    for row in release.rates:
        of_policy[row["policy_id"]].add(row["revision"])
    for row in release.rates:
        place = (row["area_type"], str(row["area_code"]))
        if row["area_type"] == ENGLAND:
            place = (ENGLAND, ENGLAND_ONS)
        parent = areas[place].parent if place in areas else None
        low, high = limits_of(row) or (None, None)
        wide_low, wide_high = (limits_998_of(row, release.rule) if release.rule else None) or (None, None)
        indirect = INDIRECT if str(row["method"] or "").startswith("indirectly") else ""
        note = SUPPRESSED if is_suppressed(row) else NOT_CALCULATED if row["standardised_rate"] is None else indirect
        found.append(
            dict.fromkeys(COLUMNS, "")
            | {
                # With several revisions, a period can have a rate by each.
                "Indicator ID": policy_key(row) if len(of_policy[row["policy_id"]]) > 1 else row["policy_id"],
                "Indicator Name": f"{release.policies[row['policy_id']]['title']}: flagged records per 100,000, standardised "
                "for age and sex",
                "Parent Code": codes.get(parent, parent[1]) if parent else "",
                "Parent Name": areas[parent].name if parent else "",
                "Area Code": codes.get(place, place[1]),
                "Area Name": row["area_name"],
                "Area Type": AREA_TYPES[row["area_type"]],
                "Sex": "Persons",
                "Age": "All ages",
                "Time period": _period(row),
                "Value": _number(row["standardised_rate"]),
                "Lower CI 95.0 limit": _number(low),
                "Upper CI 95.0 limit": _number(high),
                "Lower CI 99.8 limit": _number(wide_low),
                "Upper CI 99.8 limit": _number(wide_high),
                "Count": _count(row["activity"]),
                "Denominator": _count(row["population"]),
                "Value note": note,
                "Recent Trend": "Cannot be calculated",
                "Compared to England value or percentiles": _COMPARED[release.compared_with_england(row)],
                "Compared to Region value or percentiles": "Not compared",
                "Time period Sortable": f"{row['financial_year'][:4]}0000",
                "Time period range": f"{row['period_years']}y",
            }
        )
    return found


def _day_of(release: ReleaseData) -> date:
    """A day of the version of the areas that the release shows."""
    version = str(release.manifest["geography"])
    return versions().get(version, release.released_on)


def _period(row: Row) -> str:
    """A year as 2021/22, pooled years as 2019/20 - 21/22."""
    first, last = str(row["period"])[:7], row["financial_year"]
    start, end = first.replace("-", "/"), last.replace("-", "/")
    return end if row["period_years"] == 1 else f"{start} - {end[2:]}"


def _number(value: float | int | None) -> str:
    return "" if value is None else repr(value)


def _count(value: float | None) -> str:
    """A count is a whole number, also where a missing value elsewhere has made its column one of floats."""
    return "" if value is None else str(int(value))
