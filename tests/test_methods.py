"""Rates and limits against SciPy and numbers worked by hand, in one query."""

import csv
import math
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from scipy.stats import binomtest, chi2, norm

from ebi_spark.config.shipped_files import resource
from ebi_spark.rates import methods
from ebi_spark.rates.variation import variation
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.gold import ACTIVITY_RATE

COUNTS = (0, 1, 4, 9, 10, 41, 250, 38_088)
PEOPLE, MORE = 59_400_000, 7
# Three strata: weight, events by person, people. Worked by hand below.
STRATA = (("a", 2.0, (1, 1, 3), 100), ("b", 3.0, (2,), 50), ("c", 1.0, (1,) * 6, 400))


def byar(count: int) -> tuple[float, float]:
    z, above = norm.ppf(0.975), count + 1
    low = count * (1 - 1 / (9 * count) - z / (3 * math.sqrt(count))) ** 3
    return low, above * (1 - 1 / (9 * above) + z / (3 * math.sqrt(above))) ** 3


def limits(count: int) -> tuple[float, float]:
    if count >= 10:
        return byar(count)
    return (chi2.ppf(0.025, 2 * count) / 2 if count else 0.0), chi2.ppf(0.975, 2 * count + 2) / 2


@pytest.fixture(scope="module")
def answers(spark: SparkSession) -> dict[str, dict[str, Any]]:
    x, people, whole = F.col("x"), F.col("people"), F.col("x") + MORE
    rows = [(str(x), x, PEOPLE) for x in COUNTS] + [("nobody", 3, 0)]
    named = {
        "count": methods.count_limits(x),
        "crude": (methods.crude_rate(x, people),),
        "wilson": methods.wilson_limits(x, whole),
        "wilson_all": methods.wilson_limits(x, x),
    }
    counts = small_frame(spark, rows, "name string, x long, people long").select(
        "name",
        *[F.array(*[column.cast("double") for column in columns]).alias(name) for name, columns in named.items()],
    )
    persons = [(band, weight, f, n) for band, weight, fs, n in STRATA for f in fs]
    frame = small_frame(spark, persons, "band string, weight double, f long, people long")
    each = frame.groupBy("band", "weight", "people").agg(
        F.sum("f").alias("x"), methods.repeated_variance(F.col("f")).alias("squares")
    )
    sums = each.agg(
        F.sum("x").alias("events"),
        F.sum(F.col("weight") * F.col("x") / F.col("people")).alias("rates"),
        F.sum(F.pow("weight", F.lit(2)) * F.col("x") / F.pow("people", F.lit(2))).alias("plain"),
        F.sum(F.pow("weight", F.lit(2)) * F.col("squares") / F.pow("people", F.lit(2))).alias("repeated"),
    )
    direct = [methods.standardised_rate(F.col("rates"), 6.0)]
    for variance in ("plain", "repeated"):
        direct += methods.dobson_limits(F.col("events"), F.col("rates"), F.col(variance), 6.0)
    empty = F.array().cast("array<double>")
    summed = sums.select(
        F.lit("direct").alias("name"), F.array(*direct).alias("count"), *[empty.alias(n) for n in list(named)[1:]]
    )
    return {row["name"]: row.asDict() for row in counts.unionByName(summed).collect()}


def close(value: list[float] | tuple[float, ...], wanted: Any) -> bool:
    return list(value) == pytest.approx(list(wanted), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("count", COUNTS)
def test_limits_of_a_count_and_what_rests_on_it(answers: dict[str, dict[str, Any]], count: int) -> None:
    answer, (low, high) = answers[str(count)], limits(count)
    assert close(answer["count"], (low, high))
    assert close(answer["crude"], [count / PEOPLE * 100_000])


@pytest.mark.parametrize("count", COUNTS)
def test_wilson_limits_are_scipys(answers: dict[str, dict[str, Any]], count: int) -> None:
    interval = binomtest(count, count + MORE).proportion_ci(method="wilson")
    assert close(answers[str(count)]["wilson"], (interval.low, interval.high))
    if count:
        interval = binomtest(count, count).proportion_ci(method="wilson")
        assert close(answers[str(count)]["wilson_all"], (interval.low, interval.high))


def test_forty_one_events_print_as_a_tenth(answers: dict[str, dict[str, Any]]) -> None:
    assert round(answers["41"]["crude"][0], 1) == 0.1


def test_so_they_do_among_the_people_registered_today() -> None:
    with resource("conf", "reference", "population_gp_registered.csv").open(encoding="utf-8", newline="") as file:
        people = sum(int(row["people"]) for row in csv.DictReader(file))
    assert 63_000_000 < people < 64_000_000 and f"{41 / people * 100_000:.1f}" == "0.1"


def test_nothing_is_made_of_nobody(answers: dict[str, dict[str, Any]]) -> None:
    assert answers["nobody"]["crude"] == [None]
    assert answers["0"]["wilson_all"] == [None] * 2


def test_direct_rate_with_and_without_repeated_events(answers: dict[str, dict[str, Any]]) -> None:
    """Events 5, 2, 6; Σwx/n = 0.1 + 0.12 + 0.015 = 0.235 over weights of 6. Σw²x/n² = 0.002 + 0.0072 + 0.0000375;
    with Σf² = 11, 4, 6 for x: 0.0044 + 0.0144 + 0.0000375."""
    rate, *found = answers["direct"]["count"]
    assert rate == pytest.approx(0.235 / 6 * 100_000, rel=1e-12)
    low, high = byar(13)
    for variance, pair in ((0.0092375, found[:2]), (0.0188375, found[2:])):
        spread = math.sqrt(variance / 36 / 13)
        wanted = [(0.235 / 6 + spread * (end - 13)) * 100_000 for end in (low, high)]
        assert close(pair, wanted)
    assert found[2] < found[0] < rate < found[1] < found[3]


def test_without_any_event_there_is_no_opportunity(spark: SparkSession) -> None:
    """Even where the configuration asks for no least number of events (``min_national_events: 0``)."""
    common = {
        "policy_id": "P", "revision": "1", "reading": "as_published", "period_years": 1, "area_type": "icb",
        "population": 100_000, "status": "few_events", "notes": [],
    }  # fmt: skip
    rates = [
        common | {"period": year, "financial_year": year, "area_code": code, "activity": n, "standardised_rate": float(n)}
        for year, counts in (("2021-22", (0, 0, 0)), ("2022-23", (0, 2, 4)))
        for code, n in zip("ABC", counts, strict=True)
    ]  # fmt: skip
    found = variation(small_frame(spark, rates, ACTIVITY_RATE.schema), 0).collect()
    shown = {row["period"]: (row["opportunity"], row["opportunity_share"], row["status"]) for row in found}
    # P25 of the rates 2 and 4 is 2.5, so 1.5 records are above it.
    assert shown == {"2021-22": (None, None, "not_calculated"), "2022-23": (1.5, 0.25, "ok")}
