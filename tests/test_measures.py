"""Measures over records that are linked by person, worked by hand: one query for all of them."""

from datetime import date, timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession
from statsmodels.stats.proportion import proportion_confint

from ebi_spark.pathway.coverage import Covered
from ebi_spark.pathway.definitions import definitions
from ebi_spark.pathway.measures import measure_counts, measure_rows
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.gold import ACTIVITY_FLAG
from ebi_spark.tables.monitoring_pathway import PATHWAY, PATHWAY_STEP

FUSION, IMAGING = "2Y_back_pain_fusion", "2S_lower_back_imaging"
READ = (FUSION, IMAGING)
STRETCHES = [
    Covered("sus_plus", "apc", date(2020, 4, 1), date(2024, 3, 31)),
    Covered("sus_plus", "op", date(2021, 4, 1), date(2024, 3, 31)),
]
# Fusions: person, day, flagged, whether a scan and a flagged scan is seen.
FUSIONS: list[tuple[str | None, date, bool, bool, bool]] = [
    ("1", date(2023, 6, 1), True, True, True),
    ("2", date(2023, 6, 1), True, True, False),
    ("3", date(2023, 6, 1), True, False, False),
    ("4", date(2023, 6, 1), False, True, False),
    ("5", date(2022, 4, 1), False, False, False),  # outpatients cover the 12 months to the day
    ("6", date(2022, 3, 31), True, True, True),  # they begin a day too late, although a scan is seen
    (None, date(2023, 6, 1), True, False, False),
]
# Scans: person, day, flagged.
SCANS: list[tuple[str | None, date, bool]] = [
    ("a", date(2022, 5, 1), True),
    ("a", date(2023, 5, 1), True),  # 365 days later
    ("b", date(2022, 5, 1), True),
    ("b", date(2023, 5, 2), False),  # 366 days later
    ("c", date(2022, 6, 1), False),
    ("c", date(2022, 6, 1), True),  # on the same day
    ("d", date(2021, 4, 30), True),  # before there is a year of data
    ("d", date(2022, 4, 29), True),  # 364 days later
    (None, date(2023, 5, 1), True),
    (None, date(2023, 6, 1), True),
]


def year_of(day: date) -> str:
    start = day.year - (day.month < 4)
    return f"{start}-{(start + 1) % 100:02d}"


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> dict[tuple[str, str, str], dict[str, Any]]:
    labels = {"revision": "r", "reading": "as_published", "source_system": "sus_plus"}
    pathways, steps = [], []
    for number, (person, day, flagged, scan, flagged_scan) in enumerate(FUSIONS):
        key = {"policy_id": FUSION, "source_system": "sus_plus", "dataset": "apc", "record_id": str(number),
               "financial_year": year_of(day)}  # fmt: skip
        pathways.append(
            key | labels | {"person_id": person, "operation_date": day, "admission_date": day, "flagged": flagged}
        )
        for step, seen in (("lumbar_imaging", scan), ("lumbar_imaging_flagged", flagged_scan), ("rheumatology", True)):
            state = "seen" if seen else "not_seen"
            steps.append(key | {"step_id": step, "window": "12_months", "state": state})
            # Another window counts for nothing.
            steps.append(key | {"step_id": step, "window": "3_months", "state": "seen"})
    scans = [
        labels
        | {"policy_id": IMAGING, "dataset": "op", "record_id": f"s{number}", "person_id": person, "activity_date": day,
           "financial_year": year_of(day), "area_basis": basis, "outcome": "flagged" if flagged else "not_flagged"}
        for basis in ("residence", "outside_england")
        for number, (person, day, flagged) in enumerate(SCANS)
    ]  # fmt: skip
    scans.append(scans[1] | {"policy_id": FUSION, "record_id": "another policy"})
    frames = (
        small_frame(spark, pathways, PATHWAY.schema),
        small_frame(spark, steps, PATHWAY_STEP.schema),
        small_frame(spark, scans, ACTIVITY_FLAG.schema),
    )
    rows = measure_rows(row.asDict() for row in measure_counts(*frames, STRETCHES, READ).collect())
    # Without the flags of imaging, nothing says which scans are flagged.
    alone = measure_counts(frames[0].limit(1), frames[1], frames[2].limit(0), STRETCHES, [FUSION])
    assert {row["measure"] for row in alone.collect()} == {"imaging_before_fusion"}
    return {(row["measure"], row["group"], row["financial_year"]): row for row in rows}


def numbers(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["records"], row["counted"], row["left_out"]


def test_imaging_before_fusions(found: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    imaging = {key[1:]: numbers(row) for key, row in found.items() if key[0] == "imaging_before_fusion"}
    assert imaging == {
        ("all", "2023-24"): (4, 3, 1), ("flagged", "2023-24"): (3, 2, 1),
        ("all", "2022-23"): (1, 0, 0), ("all", "2021-22"): (0, 0, 1), ("flagged", "2021-22"): (0, 0, 1),
    }  # fmt: skip
    flagged = {key[1:]: numbers(row) for key, row in found.items() if key[0] == "flagged_imaging_before_fusion"}
    # Of those with a scan. Nobody knows of the person who is not known, whose scan is not seen.
    assert flagged[("all", "2023-24")] == (3, 1, 0) and flagged[("flagged", "2023-24")] == (2, 1, 0)
    assert flagged[("all", "2021-22")] == (0, 0, 1)


def test_repeated_imaging(found: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    repeated = {key[1:]: numbers(row) for key, row in found.items() if key[0] == "repeat_imaging"}
    assert repeated == {
        # a of 2022, b of 2022, both of c, d of 29 April 2022, which follows one of the year before.
        ("all", "2022-23"): (5, 1, 0), ("flagged", "2022-23"): (4, 1, 0),
        # a and b of 2023, of whom a comes within 365 days; two without a person.
        ("all", "2023-24"): (2, 1, 2), ("flagged", "2023-24"): (1, 1, 2),
        ("all", "2021-22"): (0, 0, 1), ("flagged", "2021-22"): (0, 0, 1),
    }  # fmt: skip


def test_shares_have_wilson_limits(found: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    row = found["repeat_imaging", "all", "2022-23"]
    assert row["share"] == 1 / 5
    assert (row["lower"], row["upper"]) == pytest.approx(proportion_confint(1, 5, method="wilson"))
    none = found["repeat_imaging", "all", "2021-22"]
    assert none["share"] is None and "lower" not in none


def test_definitions_of_measures_agree_with_the_steps() -> None:
    items = definitions()
    steps, measures = {step["id"] for step in items["steps"]}, {item["id"]: item for item in items["measures"]}
    for item in measures.values():
        assert item.get("step", "lumbar_imaging") in steps and item.get("of", "imaging_before_fusion") in measures
        assert item.get("window", "12_months") in items["windows"]
    assert measures["repeat_imaging"]["days"] == (date(2023, 5, 1) - date(2022, 5, 1)) / timedelta(days=1)
