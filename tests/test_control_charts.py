"""Control charts and change against SciPy, NumPy and numbers worked by hand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats.mstats import winsorize

from ebi_spark.rates.change import change, error_of_count
from ebi_spark.rates.control_charts import (
    ControlChart,
    funnel_limits,
    over_dispersion,
    signals,
    t_chart,
    xmr,
)
from ebi_spark.statistics.levels import Z_95, Z_998


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
    # The ranges have the mean 6.2: 22 is 3.267 times that and more.
    reach = 2.66 * (2 + 3 + 2 + 2) / 4
    assert (chart.lower, chart.upper) == pytest.approx((15 - reach, 15 + reach), rel=1e-9)
    chart = xmr(values, form="unscreened")
    reach = 2.66 * (2 + 3 + 2 + 2 + 22) / 5
    assert (chart.lower, chart.upper) == pytest.approx((15 - reach, 15 + reach), rel=1e-9)
    # The last value is left out of the baseline, but compared with it.
    chart = xmr(values, [True] * 5 + [False])
    reach = 2.66 * (2 + 3 + 2 + 2) / 4
    assert (chart.centre, chart.upper) == pytest.approx((11, 11 + reach), rel=1e-9)
    assert chart.signals[5] == ("astronomical",) and not any(chart.signals[:5])
    # No range spans a point that is left out.
    chart = xmr([10, 12, 90, 11, 14], [True, True, False, True, True])
    assert (chart.centre, chart.upper) == pytest.approx((47 / 4, 47 / 4 + 2.66 * 2.5), rel=1e-9)
    with pytest.raises(ValueError, match="two consecutive points"):
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
    assert marked("two_of_three", [14.1, 10.1, 14.1, 10, 10, 14.1, 5.9]) == [0, 2]
    assert marked("two_of_three", [14.1, 10.1, 10.1, 14.1]) == [] and marked("two_of_three", [14, 14, 14]) == []


def test_two_of_three_are_near_one_limit_and_all_on_one_side() -> None:
    def marked(values: list[float], **form: Any) -> list[int]:
        return [n for n, found in enumerate(signals(values, 50, 35, 65, **form)) if "two_of_three" in found]

    # 60 to 65 is near. The third on the other side, or on the mean, is no signal; the older form asks nothing of it.
    assert marked([50, 62, 44, 63, 50]) == [] and marked([50, 62, 44, 63, 50], form="unscreened") == [1, 3]
    assert marked([62, 50, 63]) == [] and marked([62, 51, 63]) == [0, 2]
    # Beyond the limit is not near it, but it is on the side of the mean.
    assert marked([62, 66, 51]) == [] and marked([62, 66, 51], form="unscreened") == [0, 1]
    assert marked([62, 66, 63]) == [0, 2] and marked([65, 65, 51]) == [0, 1]
    assert marked([38, 34, 37]) == [0, 2] and marked([38, 34, 45]) == []
    # Two points alone are no three.
    assert marked([62, 63]) == [] and marked([62, 63], form="unscreened") == [0, 1]


# 24 months with one of 90: the case of its own tool. Mean 1,021 / 24; of the ranges (148, mean 6.43) 51 and 50 go.
OUTLIER = [40, 42, 38, 41, 39, 43, 40, 41, 90, 40, 42, 39, 41, 40, 38, 42, 41, 39, 40, 43, 41, 40, 39, 42]


def test_outlying_ranges_are_left_out_once() -> None:
    chart = xmr(OUTLIER)
    assert (chart.centre, chart.lower, chart.upper) == pytest.approx((42.5417, 36.5883, 48.4950), abs=5e-5)
    assert [n for n, found in enumerate(chart.signals) if "astronomical" in found] == [8]
    # NHSRplotthedots's vignette "Deviations from Excel defaults": its data and printed limits; without screening by hand.
    vignette = [1, 2, 1, 2, 10, *[1, 2] * 6, 1]
    for form, limits in (("plot_the_dots", (-0.72, 1.94, 4.6)), ("unscreened", (-3.06, 1.94, 6.95))):
        chart = xmr(vignette, form=form)
        assert (chart.lower, chart.centre, chart.upper) == pytest.approx(limits, abs=5e-3)
    # Of ranges with the sum 1,000 one of 816.75 is exactly 3.267 times the mean: left out. A little less stays.
    chart = xmr([0, 61, 122, 183.25, 1000])
    assert chart.upper - chart.centre == pytest.approx(2.66 * 183.25 / 3, rel=1e-9)
    chart = xmr([0, 61, 122, 184, 1000])
    assert chart.upper - chart.centre == pytest.approx(2.66 * 1000 / 4, rel=1e-9)
    # Once: the ranges 1 (eight), 5 and 40 have the mean 5.3. Only 40 goes, though 5 is beyond 3.267 times what is left.
    chart = xmr([0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 53])
    assert chart.upper - chart.centre == pytest.approx(2.66 * 13 / 9, rel=1e-9)
    # No range at all: limits on the mean, as nothing varies.
    assert xmr([7, 7, 7]) == ControlChart(7, 7, 7, ((), (), ()))


def _published_rules(values: list[float]) -> tuple[float, float, float, list[bool]]:
    """Mean, limits and the points that are a special cause, written from NHSRplotthedots's documentation alone, by windows."""
    y = np.asarray(values, float)
    mean, ranges = y.mean(), np.abs(np.diff(y))
    average = ranges[ranges < 3.267 * ranges.mean()].mean()
    lower, upper = mean - 2.66 * average, mean + 2.66 * average
    special = (y < lower) | (y > upper)
    near = ~special & ((y < mean - 2.66 * 2 / 3 * average) | (y > mean + 2.66 * 2 / 3 * average))
    shown = special.copy()
    for start in range(len(y)):
        seven, three = slice(start, start + 7), slice(start, start + 3)
        if len(y[seven]) == 7:
            steps = np.diff(y[seven])
            if any(np.all(test) for test in (y[seven] > mean, y[seven] < mean, steps > 0, steps < 0)):
                shown[seven] = True
        if len(y[three]) == 3 and near[three].sum() >= 2 and (np.all(y[three] > mean) or np.all(y[three] < mean)):
            shown[three] |= near[three]
    return mean, lower, upper, list(shown)


@given(st.lists(st.integers(0, 60), min_size=2, max_size=40).filter(lambda values: len(set(values)) > 1))
def test_charts_follow_the_published_rules(values: list[int]) -> None:
    chart = xmr(values)
    mean, lower, upper, special = _published_rules([float(value) for value in values])
    assert (chart.centre, chart.lower, chart.upper) == pytest.approx((mean, lower, upper), rel=1e-9, abs=1e-9)
    # A point within rounding of a line may fall on either side of it.
    lines = [mean, lower, upper, *(mean + sign * 2 / 3 * (upper - mean) for sign in (1, -1))]
    if all(abs(value - line) > 1e-9 for value in values for line in lines if line != value):
        assert [bool(found) for found in chart.signals] == special


def test_a_chart_of_days_between_events_by_hand() -> None:
    for days in ([80, 95, 70, 88], [10, 40, 20, 90]):  # the lower limit of the second is 0
        chart, roots = t_chart(days), np.cbrt(days)
        centre, reach = roots.mean(), 2.66 * np.abs(np.diff(roots)).mean()
        assert chart.centre == pytest.approx(centre**3, rel=1e-9)
        assert chart.upper == pytest.approx((centre + reach) ** 3, rel=1e-9)
        assert chart.lower == pytest.approx(max(0, centre - reach) ** 3, rel=1e-9)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=40))
def test_a_charts_limits_hold_its_centre(values: list[float]) -> None:
    for chart in (xmr(values), t_chart(values)):
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
    contained = [
        one.ratio_lower <= 1 <= one.ratio_upper
        for a, b in pairs
        for one in [change(float(a), error_of_count(a, a), float(b), error_of_count(b, b))]
    ]
    assert 0.93 < np.mean(contained) < 0.97
