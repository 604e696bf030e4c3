"""Months: completeness against a typical month, national activity, and the days between groups of rare events."""

from datetime import date, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.rates.completeness import (
    MarkedMonths,
    activity_months,
    completeness,
    months_with_activity,
    provider_months,
)
from ebi_spark.release import monthly
from ebi_spark.small_frames import small_frame

MARKED = MarkedMonths(2, (date(2021, 4, 1), date(2021, 6, 1)))
POLICY = {"policy_id": "P", "revision": "1", "reading": "as_published"}
KEY = "policy_id string, revision string, reading string"
YEAR_2021 = [date(2021 + month // 12, month % 12 + 1, 1) for month in range(3, 15)]


def year_of(day: date) -> str:
    first = day.year - (day.month < 4)
    return f"{first}-{(first + 1) % 100:02d}"


@pytest.fixture(scope="module")
def months(spark: SparkSession) -> DataFrame:
    """2021-22: BIG has 100 a month but 49 in November; GONE stops after October; SMALL has 10, 4 in November; of nobody 3."""
    sent = {"BIG": [100] * 12, "GONE": [30] * 7 + [0] * 5, "SMALL": [10] * 12, None: [3] * 12}
    sent["BIG"][7], sent["SMALL"][7] = 49, 4
    rows = [
        ("apc", year_of(day), code, day + timedelta(days=3))
        for code, counts in sent.items()
        for day, count in zip(YEAR_2021, counts, strict=True)
        for _ in range(count)
    ]
    rows += [("apc", "2021-22", "BIG", None)]
    records = small_frame(
        spark, rows, "dataset string, financial_year string, provider_code string, activity_date date"
    )
    return completeness(provider_months(records), MARKED)


def test_a_month_is_held_against_the_providers_own_typical_month(months: DataFrame) -> None:
    found = {(row["provider_code"], row["month"]): row.asDict() for row in months.collect()}
    assert len(found) == 4 * 12, "every provider has every month"
    assert [month for (_, month), row in sorted(found.items(), key=str) if row["provisional"]] == YEAR_2021[-2:] * 4
    assert {month for (_, month), row in found.items() if row["pandemic"]} == {*YEAR_2021[:3]}
    november, december = YEAR_2021[7], YEAR_2021[8]
    big, gone, small = (found[(code, november)] for code in ("BIG", "GONE", "SMALL"))
    assert (big["records"], big["typical_month"], big["share_of_typical"], big["low"]) == (49, 100.0, 0.49, True)
    assert (gone["records"], gone["typical_month"], gone["low"]) == (0, 30.0, True)
    assert (small["share_of_typical"], small["low"]) == (0.4, False), "ten a month can halve by chance"
    assert not found[("BIG", december)]["low"] and found[(None, december)]["records"] == 3
    low = {code for (code, month), row in found.items() if row["low"] and month > november}
    assert low == {"GONE"}
    assert [row.asDict() for row in months_with_activity(months).collect()] == [
        {"dataset": "apc", "financial_year": "2021-22", "months": 12}
    ]


def test_completeness_is_published_without_a_count_of_a_provider(months: DataFrame) -> None:
    shown = monthly.published_completeness(months, "hes_2018_protected", partial=False).collect()
    november = {row["area_code"]: row.asDict() for row in shown if row["month"] == YEAR_2021[7]}
    england = november.pop("E92000001")
    assert (england["records"], england["providers"], england["providers_low"]) == (49 + 0 + 4 + 3, 2, 2)
    assert {code: (row["share_of_typical"], row["low"], row["status"]) for code, row in november.items()} == {
        "BIG": (0.5, True, "ok"),
        "GONE": (None, None, "withheld_small"),
        "SMALL": (None, None, "withheld_small"),
    }
    assert all(row["records"] is None and row["providers_low"] is None for row in november.values())
    extract = monthly.published_completeness(months, "hes_2018_protected", partial=True)
    assert [row["area_type"] for row in extract.select("area_type").distinct().collect()] == ["provider"]


def flags_on(spark: SparkSession, days: list[date | None], **given: Any) -> DataFrame:
    rows = [
        {**POLICY, "financial_year": year_of(day) if day else "2021-22", "activity_date": day, "outcome": "flagged",
         "area_basis": "commissioner", "record_id": f"r{number:03d}", **given} for number, day in enumerate(days)
    ]  # fmt: skip
    kinds = "financial_year string, activity_date date, outcome string, area_basis string, record_id string"
    return small_frame(spark, rows, f"{KEY}, {kinds}")


def test_activity_by_month_has_zeros_and_undated_records(spark: SparkSession, months: DataFrame) -> None:
    flagged = flags_on(spark, [date(2021, 5, 2), date(2021, 5, 30), None, date(2022, 3, 31)])
    other = flags_on(spark, [date(2021, 5, 9)], outcome="not_flagged")
    policies = small_frame(spark, [("P", "apc"), ("Q", "apc")], "policy_id string, dataset string")
    read = small_frame(spark, [(*POLICY.values(), "2021-22")], f"{KEY}, financial_year string")
    made = activity_months(flagged.unionByName(other), read, policies, months)
    found = {row["month"]: (row["activity"], row["in_scope"]) for row in made.collect()}
    wanted = dict.fromkeys(YEAR_2021, (0, 0)) | {date(2021, 5, 1): (2, 3), date(2022, 3, 1): (1, 1), None: (1, 1)}
    assert found == wanted
    named = monthly.published_activity_months(made, months, policies, MARKED).collect()
    assert {row["month"] for row in named if row["provisional"]} == {*YEAR_2021[-2:]}
    assert {row["month"] for row in named if row["pandemic"]} == {*YEAR_2021[:3]}


def test_days_between_are_of_groups_that_no_rule_withholds(spark: SparkSession) -> None:
    """A record every nine days for three years of which the second is not held; the last two months are provisional."""
    days = [date(2019, 4, 1) + timedelta(days=9 * number) for number in range(122)]
    days = [day for day in days if year_of(day) != "2020-21"]
    flags = flags_on(spark, [*reversed(days), None]).unionByName(
        flags_on(spark, [days[3]], area_basis="outside_england")
    )
    policies = small_frame(
        spark, [(*POLICY.values(), True, "apc")], f"{KEY}, is_default_reading boolean, dataset string"
    )
    sent = [("apc", date(2022, 3, 1), 5)]
    months = small_frame(spark, sent, "dataset string, month date, records long")
    rule = {"withhold": {"from": 1, "to": 7}}

    def between(average: int) -> list[Any]:
        activity = small_frame(
            spark, [(*POLICY.values(), date(2021, 5, 1), average)], f"{KEY}, month date, activity long"
        )
        frame = monthly.days_between(
            flags, activity, months, policies, MARKED, "hes_2018_protected", rule, ["2019-20", "2021-22"]
        )
        return frame.orderBy("number").collect()

    found = between(4)
    settled = {
        year: sum(year_of(day) == year and day < date(2022, 2, 1) for day in days) for year in ("2019-20", "2021-22")
    }
    assert [row["number"] for row in found] == list(range(1, len(found) + 1))
    assert {row["days"] for row in found} == {72} and {row["events"] for row in found} == {8}
    for year, count in settled.items():  # the first group of each run has none before it
        assert sum(row["financial_year"] == year for row in found) == count // 8 - 1
    assert found[0]["month"] == (days[15]).replace(day=1)
    assert between(10) == [], "months carry a chart of their own"
    assert flags.where(F.col("activity_date").isNull()).count() == 1
