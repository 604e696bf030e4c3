"""Pooled periods: which there are, which a rerun replaces, and their figures against plain counting."""

import math
import random
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.geography.area_lists import ENGLAND_ONS
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.lake.conditions import predicate_of
from ebi_spark.lake.permissions import prepare_folders
from ebi_spark.lake.storage import Lake
from ebi_spark.rates.activity import activity_rates, prepare_flags
from ebi_spark.rates.compute_rates import periods_read
from ebi_spark.rates.periods import Period, periods_of, rows_to_replace
from ebi_spark.rates.population import Population
from ebi_spark.rates.population_files import Vintage
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.gold import ACTIVITY_FLAG, ACTIVITY_RATE, POLICY, POLICY_ATTRITION, PROVIDER_MONTH
from ebi_spark.tables.table import YEAR
from tests.test_methods import limits

KEY = ("P", "2018-04", "as_published")
YEARS = ("2018-19", "2019-20", "2020-21", "2021-22")


def read(year: str, key: tuple[str, str, str] = KEY, **given: Any) -> dict[str, Any]:
    named = dict(zip(("policy_id", "revision", "reading"), key, strict=True))
    return named | {
        "financial_year": year, "policy_fingerprint": "f", "partial_year": False, "back_cast": False, **given,
    }  # fmt: skip


def test_a_period_is_there_where_all_its_years_are() -> None:
    rows = [read("2018-19", back_cast=True), read("2019-20"), read("2021-22"), read("2022-23", partial_year=True)]
    names = {p.name: p for p in periods_of(rows, (2, 3), {row["financial_year"] for row in rows})}
    pairs = {"2018-19..2019-20", "2021-22..2022-23"}
    assert set(names) == {"2018-19", "2019-20", "2021-22", "2022-23"} | pairs
    assert (names["2018-19..2019-20"].back_cast, names["2021-22..2022-23"].partial_year) == (True, True)
    assert not names["2019-20"].back_cast and not names["2021-22"].partial_year


def test_only_periods_that_hold_a_year_of_the_run_are_made() -> None:
    rows = [read(year) for year in YEARS]
    assert {p.name for p in periods_of(rows, (2, 3), {"2019-20"})} == {
        "2019-20", "2018-19..2019-20", "2019-20..2020-21", "2018-19..2020-21", "2019-20..2021-22",
    }  # fmt: skip


def test_years_judged_by_different_definitions_are_not_pooled() -> None:
    rows = [read("2018-19"), read("2019-20", policy_fingerprint="g"), read("2020-21", policy_fingerprint=None)]
    rows.append(read("2021-22", ("Q", *KEY[1:])))
    made = {(p.policy_id, p.name) for p in periods_of(rows, (2,), YEARS)}
    assert ("P", "2018-19..2019-20") not in made and ("P", "2019-20..2020-21") in made
    assert ("P", "2020-21..2021-22") not in made, "another policy's year fills no gap"


def test_what_a_rerun_replaces_is_what_holds_its_years(spark: SparkSession) -> None:
    """Every row of a table by period against the definition, and single years of other years never."""
    years = [f"{start}-{(start + 1) % 100:02d}" for start in range(2008, 2024)]
    rows = [(year, length) for year in years for length in range(1, 11)]
    frame = small_frame(spark, rows, "financial_year string, period_years int")
    rerun = ["2010-11", "2015-16"]
    found = frame.where(predicate_of(rows_to_replace(rerun, years))).collect()
    wanted = {
        (year, length)
        for year, length in rows
        if any(int(year[:4]) - length < int(other[:4]) <= int(year[:4]) for other in rerun)
    }
    assert {(row[0], row[1]) for row in found} == wanted
    assert {row for row in wanted if row[1] == 1} == {(year, 1) for year in rerun}


# Two boards: the first with two locations, the second with one.
GEOGRAPHY, TODAY = read_geography(), date(2026, 5, 1)
AREAS = GEOGRAPHY.areas
BOARDS: dict[str, list[str]] = {}
for _code, _row in sorted(AREAS.items()):
    BOARDS.setdefault(_row["icb_code"], []).append(_code)
LOCATIONS = [*next(codes for codes in BOARDS.values() if len(codes) > 1)[:2]]
LOCATIONS.append(next(codes for codes in BOARDS.values() if codes[0] not in LOCATIONS)[0])


def population() -> Population:
    draw = random.Random(2)
    # All of England's areas, since a few of them have no national rate.
    strata = {
        day: {(code, sex, band): draw.randint(800, 9000) for code in AREAS for sex in "12" for band in range(19)}
        for day in (date(2018, 10, 1), date(2020, 9, 1))
    }
    weights: Counter[tuple[str, int]] = Counter()
    for (_, sex, band), people in strata[date(2020, 9, 1)].items():
        weights[(sex, band)] += people
    # Whatever the day of the count, its areas are named as today.
    vintages = {day: Vintage(day, TODAY, GEOGRAPHY.version, "made up", people) for day, people in strata.items()}
    # Undated lookups say of every year where a record belongs.
    return Population(vintages, GEOGRAPHY, {key: float(n) for key, n in weights.items()}, "england", 350, True)


def records() -> list[dict[str, Any]]:
    """Records of 25 people who come again, grow older and move, of people who do not, and of nobody known."""
    draw = random.Random(7)
    rows = []
    for number in range(400):
        person = f"p{draw.randint(0, 24)}" if number % 2 else None if number % 5 == 0 else f"only{number}"
        home = draw.choice(LOCATIONS)
        rows.append(
            {
                "policy_id": KEY[0], "revision": KEY[1], "reading": KEY[2], "financial_year": draw.choice(YEARS),
                "person_id": person, "sex": draw.choice(("1", "2", "2", "9")),
                "age_years": draw.choice((None, 3, 44, 44, 45, 91)), "outcome": draw.choice(("flagged", "not_flagged")),
                "area_code": home if number % 11 else None, "area_basis": "gp_practice" if number % 11 else "unknown",
                "provider_code": draw.choice(("RX1", "RX2", None)), "source_system": "hes", "dataset": "apc",
                "record_id": str(number), "area_date": TODAY, "latest_area_code": None,
            }
        )  # fmt: skip
    return rows


def band(row: dict[str, Any]) -> int | None:
    return None if row["age_years"] is None else min(row["age_years"] // 5, 18)


def by_hand(rows: list[dict[str, Any]], people: Population, years: tuple[str, ...], where: Any) -> dict[str, Any]:
    """An area's figures in one period: ``where`` says which locations it has (None: all records, also without an area)."""
    vintages = [people.by_vintage[people.vintage_for(year)].strata for year in years]
    strata: Counter[tuple[str, int]] = Counter()
    for vintage in vintages:
        for (code, sex, number), count in vintage.items():
            if where is None or code in where:
                strata[(sex, number)] += count
    inside = [r for r in rows if r["financial_year"] in years and (where is None or r["area_code"] in where)]
    flagged = [r for r in inside if r["outcome"] == "flagged"]
    known = [r for r in flagged if r["sex"] in "12" and band(r) is not None]
    weights, whole = people.weights, sum(people.weights.values())
    rate = plain = 0.0
    adds: dict[Any, float] = {}
    for number, row in enumerate(known):
        key = (row["sex"], band(row))
        share = weights[key] / strata[key]  # type: ignore[index]
        rate, plain = rate + share, plain + share**2
        person = row["person_id"] or number
        adds[person] = adds.get(person, 0.0) + share
    events = len(known)
    low, high = limits(events)
    answer = {
        "activity": len(flagged), "in_scope": len(inside), "population": sum(strata.values()),
        "people_flagged": len({r["person_id"] for r in flagged if r["person_id"]}),
        "activity_unknown_age_sex": len(flagged) - events, "standardised_rate": rate / whole * 1e5,
        "crude_rate": len(flagged) / sum(strata.values()) * 1e5,
        "standard_error": math.sqrt(sum(add**2 for add in adds.values())) / whole * 1e5,
    }  # fmt: skip
    for end, variance in (("", plain), ("_adjusted", sum(add**2 for add in adds.values()))):
        spread = math.sqrt(variance / whole**2 / events) if events else 0.0
        answer[f"lower{end}"] = (rate / whole + spread * (low - events)) * 1e5
        answer[f"upper{end}"] = (rate / whole + spread * (high - events)) * 1e5
    return answer


@pytest.fixture(scope="module")
def rated(spark: SparkSession) -> list[dict[str, Any]]:
    columns = (
        "policy_id string, revision string, reading string, financial_year string, person_id string, sex string, "
        "age_years int, outcome string, area_code string, area_basis string, provider_code string, "
        "source_system string, dataset string, record_id string, area_date date, latest_area_code string"
    )
    shuffled = records()
    random.Random(3).shuffle(shuffled)
    periods = periods_of([read(year) for year in YEARS], (2, 3), YEARS)
    answers = []
    for rows, parts in ((records(), 1), (shuffled, 3)):
        flags = small_frame(spark, rows, columns).repartition(parts)
        frame = activity_rates(prepare_flags(flags, GEOGRAPHY), periods, population(), partial=False)
        found = frame.orderBy("financial_year", "period_years", "area_type", "area_code").collect()
        answers.append([row.asDict() for row in found])
    one, other = answers
    assert [{k: v for k, v in row.items() if not isinstance(v, float)} for row in one] == [
        {k: v for k, v in row.items() if not isinstance(v, float)} for row in other
    ]
    for row, again in zip(one, other, strict=True):
        assert {k: v for k, v in again.items() if isinstance(v, float)} == pytest.approx(
            {k: v for k, v in row.items() if isinstance(v, float)}, rel=1e-12
        ), "the order of rows changes nothing"
    return one


def test_single_and_pooled_figures_are_those_of_plain_counting(rated: list[dict[str, Any]]) -> None:
    people, rows = population(), records()
    boards = {AREAS[code]["icb_code"] for code in LOCATIONS}
    places: dict[tuple[str, str], Any] = {("england", ENGLAND_ONS): None}
    places |= {("sub_icb", code): [code] for code in LOCATIONS}
    places |= {("icb", board): BOARDS[board] for board in boards}
    checked = 0
    for row in rated:
        area = (row["area_type"], row["area_code"])
        if area not in places:
            continue
        first = YEARS.index(row["financial_year"]) - row["period_years"] + 1
        years = YEARS[first : YEARS.index(row["financial_year"]) + 1]
        assert row["period"] == Period(*KEY, years).name
        wanted = by_hand(rows, people, years, places[area])
        assert {name: row[name] for name in wanted} == pytest.approx(wanted, rel=1e-9), (area, row["period"])
        # With nobody who comes again the two limits are the same but for the last digit.
        last = 1e-12 * row["upper"]
        assert row["lower_adjusted"] - last <= row["lower"] < row["standardised_rate"] < row["upper"]
        assert row["upper"] <= row["upper_adjusted"] + last
        assert area[0] != "england" or row["upper"] < row["upper_adjusted"], "there are people with several events"
        assert row["notes"] == (["distant_vintage"] if "2021-22" in years else [])
        checked += 1
    assert checked == (4 + 3 + 2) * (1 + 3 + len(boards))


def test_shares_and_expected_events_add_up(rated: list[dict[str, Any]]) -> None:
    for year, length in {(row["financial_year"], row["period_years"]) for row in rated}:
        rows = [r for r in rated if (r["financial_year"], r["period_years"]) == (year, length)]
        [england] = [r for r in rows if r["area_type"] == "england"]
        parts = [r for r in rows if r["area_type"] == "sub_icb"]
        known = england["activity"] - england["activity_unknown_age_sex"]
        assert sum(r["expected"] for r in parts) == pytest.approx(known)
        assert england["expected"] == pytest.approx(known)
        assert sum(r["population"] for r in parts) == england["population"]
        for row in rows:
            if row["in_scope"]:
                assert row["share_lower"] < row["flagged_share"] < row["share_upper"]
        providers = [r for r in rows if r["area_type"] == "provider"]
        assert {r["area_code"] for r in providers} == {"RX1", "RX2"}
        assert all(r["population"] is None and r["people_flagged"] > 0 for r in providers)


def test_a_population_standardised_to_itself_has_its_crude_rate(rated: list[dict[str, Any]]) -> None:
    """England of 2020-21 is the standard: of the records with age and sex the two rates are one."""
    [row] = [r for r in rated if r["period"] == "2020-21" and r["area_type"] == "england"]
    crude = (row["activity"] - row["activity_unknown_age_sex"]) / row["population"] * 1e5
    assert row["standardised_rate"] == pytest.approx(crude, rel=1e-12)


def test_columns_are_those_of_the_table(rated: list[dict[str, Any]]) -> None:
    assert [*rated[0], "run_id"] == ACTIVITY_RATE.names()


def test_the_years_that_policies_have_records_of(tmp_path: Path) -> None:
    """Read without Spark: 2021-22 is whole, 2022-23 has 11 months with records, 2023-24 has records and no flags, 2024-25 none."""
    no_session: Any = None
    prepare_folders(tmp_path)
    lake = Lake(no_session, LakeLocation(folder=tmp_path))
    lake.prepare()
    key = {"policy_id": "P", "revision": "R", "reading": "as_published"}
    years = {"2021-22": 1000, "2022-23": 900, "2023-24": 7, "2024-25": 0}
    steps = [key | {YEAR: year, "step": step, "records_in": n} for year, n in years.items() for step in (0, 1)]
    lake.append(POLICY_ATTRITION, steps, stage="test")
    lake.append(POLICY, [{"policy_id": "P", "dataset": "apc"}], stage="test")
    months = [
        {"dataset": dataset, YEAR: year, "month": date(2021, month, 1), "provider_code": provider, "records": records}
        for year, least in (("2021-22", 1), ("2022-23", 2))
        for month in range(1, 13)
        for dataset, provider, records in (("apc", "A", int(month >= least)), ("apc", "B", 0), ("op", "A", 1))
    ]
    lake.append(PROVIDER_MONTH, months, stage="test")
    flags = [
        key | {YEAR: year, "record_id": str(n), "back_cast": cast, "policy_fingerprint": "f"}
        for year in ("2021-22", "2022-23") for n, cast in enumerate((False, year == "2021-22"))
    ]  # fmt: skip
    lake.append(ACTIVITY_FLAG, flags, stage="test")
    found = {
        row[YEAR]: (row["policy_fingerprint"], row["partial_year"], row["back_cast"])
        for row in periods_read(lake, years)
    }
    assert found == {"2021-22": ("f", False, True), "2022-23": ("f", True, False), "2023-24": (None, False, False)}
    assert [row[YEAR] for row in periods_read(lake, ["2022-23"])] == ["2022-23"]
