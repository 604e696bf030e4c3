"""Monthly tables: completeness compared with a typical month, national activity, and days between groups of rare events."""

from datetime import date, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.rates.completeness import (
    MarkedMonths,
    activity_months,
    completeness,
    provider_months,
)
from ebi_spark.release import monthly_tables, published_tables
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
    """2021-22: BIG has 100 a month but 49 in November. GONE stops after October. SMALL has 10, but 4 in November. No provider: 3."""
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


def test_a_month_is_compared_with_the_providers_own_typical_month(months: DataFrame) -> None:
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


def test_completeness_is_published_without_a_count_of_a_provider(months: DataFrame) -> None:
    shown = monthly_tables.published_completeness(months, "hes_2018_protected", partial=False).collect()
    november = {row["area_code"]: row.asDict() for row in shown if row["month"] == YEAR_2021[7]}
    england = november.pop("E92000001")
    # A row of a small provider would show when it has a record. England's number of providers would too.
    assert (england["records"], england["providers"], england["providers_low"]) == (49 + 0 + 4 + 3, 1, 1)
    assert {code: (row["share_of_typical"], row["low"], row["status"]) for code, row in november.items()} == {
        "BIG": (0.5, True, "ok")
    }
    assert all(row["records"] is None and row["providers_low"] is None for row in november.values())
    extract = monthly_tables.published_completeness(months, "hes_2018_protected", partial=True)
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
    named = monthly_tables.published_activity_months(made, months, policies, MARKED).collect()
    assert {row["month"] for row in named if row["provisional"]} == {*YEAR_2021[-2:]}
    assert {row["month"] for row in named if row["pandemic"]} == {*YEAR_2021[:3]}


def test_days_between_cover_whole_months_that_no_rule_suppresses(spark: SparkSession) -> None:
    """Three records a month for three years. The second year is missing, and the last two months are provisional."""
    years = ("2019-20", "2021-22")
    counts = {
        date(first + month // 12, month % 12 + 1, 1): 3 for first in (2019, 2021) for month in range(3, 15)
    }  # fmt: skip
    counts[date(2019, 6, 1)] = 9
    policies = small_frame(
        spark, [(*POLICY.values(), True, "apc")], f"{KEY}, is_default_reading boolean, dataset string"
    )

    def between(more: int) -> list[Any]:
        rows = [
            (*POLICY.values(), year_of(month), month, count + more, month >= date(2022, 2, 1))
            for month, count in counts.items()
        ]
        rows.append((*POLICY.values(), "2021-22", None, 40, False))
        activity = small_frame(
            spark, rows, f"{KEY}, financial_year string, month date, activity long, provisional boolean"
        )
        rule = {"withhold": {"from": 1, "to": 7}}
        frame = monthly_tables.days_between(activity, policies, "hes_2018_protected", rule, years)
        return [
            (row["number"], row["financial_year"], row["month"], row["events"], row["days"])
            for row in frame.orderBy("number").collect()
        ]

    # By hand: April to June have 3 + 3 + 9, then three months each have 9. The rest at the end is not yet a group.
    assert between(0) == [
        (1, "2019-20", date(2019, 6, 1), 15, 30 + 31 + 30),
        (2, "2019-20", date(2019, 9, 1), 9, 31 + 31 + 30),
        (3, "2019-20", date(2019, 12, 1), 9, 31 + 30 + 31),
        (4, "2019-20", date(2020, 3, 1), 9, 31 + 29 + 31),
        (5, "2021-22", date(2021, 6, 1), 9, 30 + 31 + 30),
        (6, "2021-22", date(2021, 9, 1), 9, 31 + 31 + 30),
        (7, "2021-22", date(2021, 12, 1), 9, 31 + 30 + 31),
    ]
    assert between(7) == [], "months carry a chart of their own"


def test_quality_measures_are_rounded_to_hundreds(spark: SparkSession) -> None:
    """All records of a measure can be from one area, provider or board. So only hundreds are given, and nothing near none or all."""
    rows = [
        ("records", 1234, 1234), ("no_age", 0, 1234), ("no_sex", 4, 1234), ("no_person", 49, 1234), ("no_diagnosis", 50, 1234),
        ("no_procedure", 1184, 1234), ("no_commissioner", 1185, 1234), ("quarantined:undischarged", 151, 20), ("area_unmapped", 4, 4),
    ]  # fmt: skip
    measured = small_frame(spark, rows, "measure string, records long, of_records long")
    shown = published_tables.round_quality_measures(measured, F.col("measure") == "records").collect()
    assert {row["measure"]: (row["records"], row["status"]) for row in shown} == {
        "records": (1234, "ok"),
        "no_age": (None, "withheld_small"),
        "no_sex": (None, "withheld_small"),
        "no_person": (None, "withheld_small"),
        "no_diagnosis": (100, "ok"),
        "no_procedure": (1200, "ok"),
        "no_commissioner": (None, "withheld_secondary"),
        "quarantined:undischarged": (200, "ok"),
        "area_unmapped": (None, "withheld_small"),
    }
