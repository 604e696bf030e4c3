"""Control charts and change against SciPy, NumPy and numbers worked by hand."""

import math
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats.mstats import winsorize

from ebi_spark.rates.change import change, error_of_count
from ebi_spark.rates.control_charts import (
    Z_95,
    Z_998,
    days_between,
    funnel_limits,
    over_dispersion,
    signals,
    t_chart,
    xmr,
)


def test_the_quantiles_are_those_of_the_normal_distribution() -> None:
    assert norm.ppf(0.975) == pytest.approx(Z_95, rel=1e-12) and norm.ppf(0.999) == pytest.approx(Z_998, rel=1e-12)


def test_funnel_limits_by_hand() -> None:
    # 100 per 100,000 among 10,000: 10 expected; √10 ± 1.96/2, squared, ten thousandths.
    low, high = funnel_limits(100, 10_000, Z_95)
    assert low == pytest.approx((math.sqrt(10) - norm.ppf(0.975) / 2) ** 2 * 10, rel=1e-9)
    assert high == pytest.approx((math.sqrt(10) + norm.ppf(0.975) / 2) ** 2 * 10, rel=1e-9)
    wide = funnel_limits(100, 10_000, Z_95, phi=4)
    assert wide == pytest.approx(((math.sqrt(10) - Z_95) ** 2 * 10, (math.sqrt(10) + Z_95) ** 2 * 10), rel=1e-9)
    assert funnel_limits(100, 10_000, Z_95, phi=0.5) == (low, high), "less than chance is no reason for narrower limits"
    assert funnel_limits(0.1, 500_000, Z_998)[0] == 0


def test_over_dispersion_is_the_mean_square_of_winsorised_scores() -> None:
    draw = np.random.default_rng(5)
    expected = draw.uniform(20, 400, 41)  # 41 areas: the percentiles are the fifth from either end exactly
    observed = draw.poisson(expected * draw.lognormal(0, 0.3, 41)).astype(float)
    scores = 2 * (np.sqrt(observed) - np.sqrt(expected))
    wanted = float(np.mean(winsorize(scores, limits=(0.1, 0.1)) ** 2))
    assert over_dispersion(list(observed), list(expected)) == pytest.approx(wanted, rel=1e-9)
    assert wanted > 2 > over_dispersion(list(draw.poisson(expected)), list(expected))
    assert over_dispersion([9.0] * 3, [9.0] * 3) == 0 and over_dispersion([], []) == 1


def test_xmr_limits_by_hand() -> None:
    values = [10, 12, 9, 11, 13, 35]
    chart = xmr(values)
    assert chart.centre == pytest.approx(15, rel=1e-9)
    reach = 2.66 * (2 + 3 + 2 + 2 + 22) / 5
    assert (chart.lower, chart.upper) == pytest.approx((15 - reach, 15 + reach), rel=1e-9)
    # The last value is left out of the baseline, but judged by it.
    chart = xmr(values, [True] * 5 + [False])
    reach = 2.66 * (2 + 3 + 2 + 2) / 4
    assert (chart.centre, chart.upper) == pytest.approx((11, 11 + reach), rel=1e-9)
    assert chart.signals[5] == ("astronomical",) and not any(chart.signals[:5])
    # No range spans a point that is left out.
    chart = xmr([10, 12, 90, 11, 14], [True, True, False, True, True])
    assert (chart.centre, chart.upper) == pytest.approx((47 / 4, 47 / 4 + 2.66 * 2.5), rel=1e-9)
    with pytest.raises(ValueError, match="two points"):
        xmr([10, 11], [True, False])


def test_each_rule_marks_its_points_and_no_others() -> None:
    def marked(rule: str, values: list[float]) -> list[int]:
        return [n for n, found in enumerate(signals(values, 10, 4, 16)) if rule in found]

    assert marked("astronomical", [10, 16, 16.1, 4, 3.9]) == [2, 4]
    assert marked("shift", [11, 9, *[11] * 6, 9]) == []
    assert marked("shift", [9, *[11] * 7, 9, 10, *[9] * 7]) == [*range(1, 8), *range(10, 17)]
    assert marked("shift", [*[11] * 6, 10, 11]) == [], "a point on the mean is on neither side"
    assert marked("trend", [9, 8, 9, 9.5, 10, 10.5, 11, 11.5]) == list(range(1, 8))
    assert marked("trend", [8, 9, 9.5, 10, 10.5, 11]) == []
    assert marked("trend", [8, 9, 9.5, 10, 10, 10.5, 11, 11.5]) == []
    assert marked("two_of_three", [14.1, 10, 14.1, 10, 10, 14.1, 5.9]) == [0, 2]
    assert marked("two_of_three", [14.1, 10, 10, 14.1]) == [] and marked("two_of_three", [14, 14, 14]) == []


def test_days_between_and_their_chart_by_hand() -> None:
    days = days_between([date(2021, 3, 1), date(2021, 1, 1), date(2021, 1, 11), date(2021, 1, 11)])
    assert days == [10, 0, 49]
    chart = t_chart([10, 40, 20, 90])
    powers = np.array([10, 40, 20, 90]) ** (1 / 3.6)
    centre, reach = powers.mean(), 2.66 * np.abs(np.diff(powers)).mean()
    assert chart.centre == pytest.approx(centre**3.6, rel=1e-9)
    assert chart.upper == pytest.approx((centre + reach) ** 3.6, rel=1e-9)
    assert chart.lower == pytest.approx(max(0, centre - reach) ** 3.6, rel=1e-9)
    grouped = t_chart([80, 95, 70, 88], events=8)
    roots = np.cbrt([80, 95, 70, 88])
    assert grouped.centre == pytest.approx(roots.mean() ** 3, rel=1e-9)
    assert grouped.lower == pytest.approx((roots.mean() - 2.66 * np.abs(np.diff(roots)).mean()) ** 3, rel=1e-9)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=40))
def test_a_charts_limits_hold_its_centre(values: list[float]) -> None:
    for chart in (xmr(values), t_chart(values), t_chart(values, 8)):
        assert chart.lower <= chart.centre * (1 + 1e-9) and chart.centre <= chart.upper * (1 + 1e-9)
        assert len(chart.signals) == len(values)


def test_change_by_hand_and_under_simulation() -> None:
    found = change(100, 5, 130, 6)
    z = norm.ppf(0.975)
    spread = z * math.sqrt(25 + 36)
    assert (found.difference_lower, found.difference_upper) == pytest.approx((30 - spread, 30 + spread), rel=1e-9)
    reach = z * math.sqrt(0.05**2 + (6 / 130) ** 2)
    assert (found.ratio, found.ratio_lower) == pytest.approx((1.3, 1.3 * math.exp(-reach)), rel=1e-9)
    assert found.ratio_upper == pytest.approx(1.3 * math.exp(reach), rel=1e-9)
    # Counts of which nothing but chance differs: about 95 of 100 intervals hold the true ratio of 1.
    draw = np.random.default_rng(11)
    pairs = draw.poisson(60, (2000, 2))
    held = [
        one.ratio_lower <= 1 <= one.ratio_upper
        for a, b in pairs
        for one in [change(float(a), error_of_count(a, a), float(b), error_of_count(b, b))]
    ]
    assert 0.93 < np.mean(held) < 0.97
