"""Statistics on counts, beside other libraries and hand-worked figures."""

import random
from collections.abc import Sequence

import pytest
from lifelines import AalenJohansenFitter, KaplanMeierFitter
from statsmodels.stats.inter_rater import cohens_kappa as kappa_of_statsmodels
from statsmodels.stats.proportion import proportion_confint

from ebi_spark.statistics.agreement import cohens_kappa
from ebi_spark.statistics.decomposition import factors_of, rounded, shapley_parts
from ebi_spark.statistics.proportions import clopper_pearson, sample_size, wilson
from ebi_spark.statistics.survival import Day, aalen_johansen, at_day, at_risk_after, kaplan_meier


def by_day(times: list[int], kinds: list[int]) -> list[Day]:
    found: dict[int, tuple[dict[str, int], int]] = {}
    for time, kind in zip(times, kinds, strict=True):
        events, censored = found.get(time, ({}, 0))
        if kind:
            events = {**events, str(kind): events.get(str(kind), 0) + 1}
        else:
            censored += 1
        found[time] = (events, censored)
    return [Day(day, events, censored) for day, (events, censored) in found.items()]


@pytest.mark.parametrize("k, n", [(0, 10), (1, 10), (3, 10), (10, 10), (50, 300), (299, 300)])
def test_limits_of_a_proportion_are_those_of_statsmodels(k: int, n: int) -> None:
    assert clopper_pearson(k, n) == pytest.approx(proportion_confint(k, n, method="beta"), abs=1e-12)
    assert wilson(k / n, n) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)


def test_a_proportion_of_nothing_has_no_limits_and_an_impossible_one_is_refused() -> None:
    assert clopper_pearson(0, 0) == wilson(0, 0) == (None, None)
    # Whatever the computer rounds: the limits enclose a share of 0 and of 1.
    assert {(wilson(0, n).lower, wilson(1, n).upper) for n in range(1, 2_000)} == {(0.0, 1.0)}
    with pytest.raises(ValueError, match="not possible"):
        clopper_pearson(4, 3)


def test_the_sample_size_is_the_smallest_that_gives_the_precision() -> None:
    n = sample_size(0.7, 0.05)
    widths = [upper - lower for lower, upper in (wilson(0.7, size) for size in (n - 1, n))]  # type: ignore[operator]
    assert widths[1] <= 0.1 < widths[0]


def test_kappa_is_that_of_statsmodels() -> None:
    found = cohens_kappa({("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 3, ("no", "no"): 12})
    theirs = kappa_of_statsmodels([[20, 5], [3, 12]])
    assert (found.value, found.standard_error) == pytest.approx((theirs.kappa, theirs.std_kappa), abs=1e-12)
    # With many pairs, limits are those of the large sample too.
    many = cohens_kappa({("yes", "yes"): 200_000, ("yes", "no"): 50_000, ("no", "yes"): 30_000, ("no", "no"): 120_000})
    theirs = kappa_of_statsmodels([[200_000, 50_000], [30_000, 120_000]])
    assert (many.lower, many.upper) == pytest.approx((theirs.kappa_low, theirs.kappa_upp), abs=1e-5)


def test_kappa_is_undefined_where_all_agree_in_one_class_and_not_given_for_few_pairs() -> None:
    assert cohens_kappa({("yes", "yes"): 40}).status == "undefined"
    assert cohens_kappa({("yes", "yes"): 28, ("no", "no"): 1}).status == "few_pairs"
    assert cohens_kappa({("yes", "yes"): 29, ("no", "no"): 1}).status == "ok"


@pytest.mark.parametrize("tied", [True, False])
def test_kaplan_meier_is_that_of_lifelines(tied: bool) -> None:
    draw = random.Random(1)
    times = [draw.randint(1, 40) for _ in range(200)] if tied else draw.sample(range(1, 5000), 200)
    kinds = [draw.choice([0, 1, 1, 2]) for _ in times]
    theirs = KaplanMeierFitter().fit(times, [kind > 0 for kind in kinds])
    limits = theirs.confidence_interval_
    points = kaplan_meier(by_day(times, kinds))
    assert len(points) > 30
    for point in points:
        assert point.value == pytest.approx(theirs.predict(point.day), abs=1e-12)
        if 0 < point.value < 1:
            assert (point.lower, point.upper) == pytest.approx(tuple(limits.loc[point.day]), abs=1e-12)


def test_aalen_johansen_is_that_of_lifelines_without_ties() -> None:
    draw = random.Random(2)
    times = draw.sample(range(1, 5000), 200)
    kinds = [draw.choice([0, 1, 1, 2]) for _ in times]
    theirs = AalenJohansenFitter(calculate_variance=True).fit(times, kinds, event_of_interest=1)
    limits = theirs.confidence_interval_
    for point in aalen_johansen(by_day(times, kinds), "1"):
        assert point.value == pytest.approx(theirs.predict(point.day), abs=1e-12)
        if point.value > 0:
            assert (point.lower, point.upper) == pytest.approx(tuple(limits.loc[point.day]), abs=1e-12)


def test_aalen_johansen_with_ties_worked_by_hand() -> None:
    # Ten people. Day 5: two readmitted, one dead (7 left), one last seen. Day 9: one readmitted of 6.
    days = [Day(9, {"readmitted": 1}), Day(5, {"readmitted": 2, "dead": 1}, censored=1), Day(12, {}, censored=5)]
    first, second = aalen_johansen(days, "readmitted")
    assert (first.day, first.at_risk, first.value) == (5, 10, pytest.approx(0.2))
    assert (second.day, second.at_risk, second.value) == (9, 6, pytest.approx(0.2 + 0.7 / 6))
    of_dead = aalen_johansen(days, "dead")
    assert of_dead[-1].value == pytest.approx(0.1)
    # What happened and what did not add up to everybody.
    assert kaplan_meier(days)[-1].value + second.value + of_dead[-1].value == pytest.approx(1)


def test_a_curve_between_its_points() -> None:
    days = [Day(5, {"x": 2}), Day(9, {"x": 1}, censored=7)]
    points = kaplan_meier(days)
    assert at_day(points, 4) is None
    assert at_day(points, 8) == points[0]
    assert (at_risk_after(days, 4), at_risk_after(days, 5), at_risk_after(days, 9)) == (10, 8, 0)
    with pytest.raises(ValueError, match="twice"):
        kaplan_meier([Day(5), Day(5)])


def parts_of(before: Sequence[int], after: Sequence[int], names: Sequence[str]) -> dict[str, float]:
    parts = shapley_parts(factors_of([before], [after]), [after[-1] - before[-1]])[0]
    return dict(zip(names, parts.tolist(), strict=True))


def test_the_parts_of_a_change_worked_by_hand() -> None:
    # 100 people with rate 0.1, then 200 with 0.05: half the people's effect at each rate, and the reverse.
    found = parts_of((100, 10), (200, 10), ("people", "rate"))
    assert found == pytest.approx({"people": 100 * (0.1 + 0.05) / 2, "rate": -0.05 * (100 + 200) / 2})


def test_parts_add_up_and_do_not_depend_on_the_order_of_factors() -> None:
    draw = random.Random(3)
    names = ("people", "operations", "in_scope", "primary_diagnosis", "no_exclusion", "flagged")
    for _ in range(200):
        chains = []
        for _ in range(2):
            counts = [draw.randint(1, 10**7)]
            while len(counts) < len(names):
                counts.append(draw.randint(0, counts[-1]))
            chains.append(tuple(counts))
        found, total = parts_of(*chains, names), chains[1][-1] - chains[0][-1]
        assert sum(found.values()) == pytest.approx(total, abs=1e-9 * max(1, abs(total)))
        back = parts_of(chains[1], chains[0], names)
        assert back == pytest.approx({name: -part for name, part in found.items()}, abs=1e-9, rel=1e-9)
        assert sum(rounded(found, total).values()) == total


def test_a_factor_without_a_value_in_one_period_keeps_the_other_ones_and_is_noted() -> None:
    before, after, names = (100, 0, 0), (100, 10, 5), ("people", "operations", "flagged")
    assert factors_of([before], [after]).undefined.tolist() == [[False, False, True]]
    assert parts_of(before, after, names) == pytest.approx({"people": 0, "operations": 5, "flagged": 0})
