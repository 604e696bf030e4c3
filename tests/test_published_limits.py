"""How often what is published contains the truth. Areas are drawn whose truth is known, and published by the formulas of
``published_figures.py``. One test shows that Spark publishes the same; the others need no Spark."""

import numpy as np
import pytest
from published_figures import (
    RULE,
    Array,
    Row,
    count_limits,
    people,
    possible,
    publish,
    published_count,
    simulate,
    wilson,
)
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from scipy.stats import binomtest, poisson

from ebi_spark.config.shipped_files import disclosure_rules
from ebi_spark.release.disclosure_rules import control_rates
from ebi_spark.release.published_limits import compared, wider_limits
from ebi_spark.release.suppression import Thresholds
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.gold import ACTIVITY_RATE

# Flagged records in England and the share of records in scope that are flagged: fusion over three years, imaging of the demo,
# something that is rarely flagged, and something frequent.
SIZES = [(600, 0.45), (2000, 0.93), (6000, 0.93), (6000, 0.3), (60_000, 0.6)]
DRAWS = 30
FIGURES = {
    "share in gold": "share",
    "share that the draws come from": "share",
    "rate in gold": "rate",
    "rate that the draws come from": "rate",
    "crude rate in gold": "crude",
    "crude rate that the draws come from": "crude",
}
NAMES = {"share": ("share_lower", "share_upper"), "rate": ("lower", "upper"), "crude": ("crude_lower", "crude_upper")}


def covered(truth: Array, lower: Array, upper: Array) -> tuple[int, int]:
    """How many limits there are, and how many of them contain the truth."""
    given = ~np.isnan(lower) & ~np.isnan(upper)
    return int(given.sum()), int(((truth >= lower - 1e-12) & (truth <= upper + 1e-12) & given).sum())


@pytest.mark.parametrize(("events", "flagged"), SIZES)
def test_published_limits_contain_the_truth(events: int, flagged: float) -> None:
    draw, areas_of_england = np.random.default_rng(events), people().to_numpy()
    counted = {name: np.zeros(2, dtype=int) for name in FIGURES}
    wide, wrong = np.zeros(2, dtype=int), np.zeros(2, dtype=int)
    for _ in range(DRAWS):
        areas = simulate(draw, areas_of_england, events, flagged)
        shown = publish(areas, RULE)
        with np.errstate(invalid="ignore"):
            gold = (areas.activity / areas.in_scope, areas.gold_rate, areas.activity / areas.population * 100_000)
        truths = zip(FIGURES, (gold[0], areas.share, gold[1], areas.rate, gold[2], areas.crude), strict=True)
        for name, truth in truths:
            counted[name] += covered(truth, *(shown[end] for end in NAMES[FIGURES[name]]))
        wide += covered(areas.rate, shown["lower_998"], shown["upper_998"])
        # An area whose true rate is higher than England's is called lower, or the other way round.
        true_england = float(areas.rate @ areas.population / areas.population.sum())
        for rate, low, high in zip(areas.rate, shown["lower"], shown["upper"], strict=True):
            called = compared(None if np.isnan(low) or np.isnan(high) else (low, high), true_england)
            wrong += (called != "not_compared", called == ("lower" if rate > true_england else "higher"))
    for name, (given, inside) in counted.items():
        assert given >= 250, name
        assert inside / given >= 0.95, (name, inside / given)
        if name.endswith("in gold"):
            assert inside == given, f"{name}: published limits exclude {given - inside} of {given}"
    assert wide[1] / wide[0] >= 0.998
    assert wrong[1] / wrong[0] <= 0.025


def test_limits_of_the_rounded_counts_alone_would_exclude_the_truth() -> None:
    """What the limits are widened for: Wilson's limits of the two published counts exclude one share of gold in fifteen."""
    draw, given, inside = np.random.default_rng(6), 0, 0
    for _ in range(DRAWS):
        areas = simulate(draw, people().to_numpy(), 6000, 0.93)
        shown = publish(areas, RULE)
        narrow = wilson(np.minimum(shown["activity"], shown["in_scope"]), shown["in_scope"])
        kept = ~np.isnan(shown["share_lower"])
        more, right = covered((areas.activity / areas.in_scope)[kept], *(end[kept] for end in narrow))
        given, inside = given + more, inside + right
    assert 0.85 < inside / given < 0.95


def test_the_formulas_here_are_those_of_the_text_books() -> None:
    for part, whole in ((0, 5), (3, 5), (5, 5), (48, 52), (300, 1200)):
        own = binomtest(part, whole).proportion_ci(method="wilson")
        low, high = wilson(np.array([float(part)]), np.array([float(whole)]))
        assert (low[0], high[0]) == pytest.approx((own.low, own.high), abs=1e-9)
    for count in (0, 3, 9, 10, 60, 800):
        for level in (0.95, 0.998):
            low, high = (float(end[0]) for end in count_limits(np.array([float(count)]), level))
            # Exact limits leave exactly the tail on either side, Byar's come close.
            near = {"rel": 1e-6} if count < 10 else {"rel": 0.15}
            assert poisson.cdf(count, high) == pytest.approx((1 - level) / 2, **near)
            assert count == 0 or poisson.sf(count - 1, low) == pytest.approx((1 - level) / 2, **near)


@pytest.mark.parametrize("name", sorted(disclosure_rules()))
def test_possible_counts_are_those_that_are_published_as_this_one(name: str) -> None:
    rule = disclosure_rules()[name]
    shown = np.unique([value for value in published_count(np.arange(400), rule) if not np.isnan(value)])
    found = Thresholds.from_rule(rule).possible_counts(shown)
    assert np.stack(found, axis=1).tolist() == np.stack(possible(shown, rule), axis=1).tolist()


def test_wider_limits_are_those_at_the_wider_level() -> None:
    areas = simulate(np.random.default_rng(3), people().to_numpy(), 2000, 0.9)
    shown = publish(areas, RULE)
    compared_rows = 0
    for number in np.flatnonzero(~np.isnan(shown["lower"])):
        narrow = (shown["lower"][number], shown["upper"][number])
        wide = wider_limits(narrow, shown["standardised_rate"][number], int(shown["activity"][number]), RULE)
        assert wide == pytest.approx((shown["lower_998"][number], shown["upper_998"][number]), rel=1e-9)
        compared_rows += 1
    assert compared_rows > 50
    # Direct rates (Dobson): rate + spread x (limit of the count - count), whichever count was rounded to 25.
    plain = disclosure_rules()["hes_2018"]
    for true in range(23, 28):
        ends = {
            level: [float(end[0]) for end in count_limits(np.array([float(true)]), level)] for level in (0.95, 0.998)
        }
        limits = {level: (2.0 + 0.07 * (low - true), 2.0 + 0.07 * (high - true)) for level, (low, high) in ends.items()}
        low, high = wider_limits(limits[0.95], 2.0, 25, plain)
        assert low <= limits[0.998][0] + 1e-12 and high >= limits[0.998][1] - 1e-12
        assert (low, high) == pytest.approx(limits[0.998], rel=0.02)


def test_spark_publishes_the_same_shares_and_crude_rates(spark: SparkSession) -> None:
    """Under a rule without secondary suppression, so that every count is published as the rule says."""
    areas = simulate(np.random.default_rng(8), people().to_numpy(), 3000, 0.8)
    shown = publish(areas, RULE)
    codes = [f"A{number:03d}" for number in range(len(areas.activity))]
    key: Row = {"policy_id": "P", "revision": "1", "reading": "as_published", "financial_year": "2021-22", "period_years": 1,
                "period": "2021-22", "area_type": "sub_icb", "status": "ok", "notes": []}  # fmt: skip
    rows = [
        key | {"area_code": code, "activity": int(count), "in_scope": int(scope), "population": int(people)}
        for code, count, scope, people in zip(codes, areas.activity, areas.in_scope, areas.population, strict=True)
    ]
    rows.append(
        key | {"area_type": "england", "area_code": "E", "activity": 3004, "in_scope": 3700, "population": 60_000_000}
    )
    names = (
        "activity",
        "in_scope",
        "flagged_share",
        "share_lower",
        "share_upper",
        "crude_lower",
        "crude_upper",
        "crude_rate",
    )
    frame = control_rates(small_frame(spark, rows, ACTIVITY_RATE.schema), "hes_2018", disclosure_rules()["hes_2018"])
    found = {row["area_code"]: row for row in frame.select("area_code", *map(F.col, names)).collect()}
    for number, code in enumerate(codes):
        for name in names:
            value = found[code][name]
            assert (np.nan if value is None else value) == pytest.approx(shown[name][number], rel=1e-9, nan_ok=True), (
                name
            )
    low, high = (float(end[0]) / 600 for end in count_limits(np.array([3004.0])))
    assert (found["E"]["crude_lower"], found["E"]["crude_upper"]) == pytest.approx((low, high), rel=1e-9)
