"""Control charts: which differences between areas, or changes over time, chance alone could explain.

Plain functions on numbers, for the report and for notebooks. The figures come from published tables. The rules are those of
NHS England's *Making Data Count*, by default exactly as the R package NHSRplotthedots 0.2.2 applies them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

# Below this average number of events a month there is no XmR chart: limits of a count that is often 0 are not symmetrical.
LEAST_MONTHLY = 10
# The number of points in a row that make a shift (all on one side of the mean) or a trend (all rising or all falling).
RUN = 7
# 3 / d2 with d2 = 1.128, the mean range of two values of a normal distribution, rounded as in Making Data Count.
XMR = 2.66
# D4, the upper limit of a chart of moving ranges: a range of this many times the mean range, or more, is an outlier.
SCREEN = 3.267
# ``plot_the_dots``: outlying ranges are left out, and the two-of-three rule needs all three points on one side of the mean.
# ``unscreened``: every range counts, and the third point of two of three may be anywhere (Western Electric's rule).
Form = Literal["plot_the_dots", "unscreened"]
# The share of areas at either end whose difference from the expected events is limited.
WINSORISED = 0.1


@dataclass(frozen=True)
class ControlChart:
    """Centre and limits of a series, in its unit. ``signals`` lists for each point the rules that it meets:
    ``astronomical``, ``shift``, ``trend``, ``two_of_three``."""

    centre: float
    lower: float
    upper: float
    signals: tuple[tuple[str, ...], ...]


def funnel_limits(national: float, population: float, z: float, phi: float = 1.0) -> tuple[float, float]:
    """The range of rates per 100,000 for an area of this population that differs from the nation by chance only.

    Poisson limits: of E = national · population / 100,000 expected events an area has about (√E ± z·√φ/2)², because the
    square root of a Poisson count has a standard deviation of one half whatever E is; the lower limit is 0 while
    √E < z·√φ/2. φ (:func:`over_dispersion`) widens them where areas differ by more than chance. With
    population = expected · 100,000 / national, expected by sex and age, the limits are those of an indirectly standardised
    rate. Spiegelhalter, Statistics in Medicine 24 (2005) 1185–1202.
    """
    root = math.sqrt(national * population / 100_000)
    scale, half_width = 100_000 / population, z * math.sqrt(max(phi, 1.0)) / 2
    return max(0.0, root - half_width) ** 2 * scale, (root + half_width) ** 2 * scale


def over_dispersion(observed: Sequence[float], expected: Sequence[float]) -> float:
    """Spiegelhalter's multiplicative factor φ: how much more areas vary than chance alone would explain (φ = 1).

    φ = Σ z²/I over I areas, z = 2(√O − √E). The lowest and the highest tenth of the z are winsorised (set to that percentile),
    so that a few outliers do not widen the limits until they lie within them. Returns 1 without areas.
    Spiegelhalter, Quality and Safety in Health Care 14 (2005) 347–351.
    """
    z = 2 * (np.sqrt(np.asarray(observed, float)) - np.sqrt(np.asarray(expected, float)))
    if not len(z):
        return 1.0
    low, high = np.quantile(z, [WINSORISED, 1 - WINSORISED])
    return float(np.mean(np.clip(z, low, high) ** 2))


def xmr(values: Sequence[float], baseline: Sequence[bool] | None = None, form: Form = "plot_the_dots") -> ControlChart:
    """XmR chart of a series: mean ± 2.66 · average moving range, with the rules of :func:`signals`.

    ``baseline`` marks the points from which the mean and the moving ranges are calculated (default: all). A moving range is
    the difference of two consecutive points that are both in the baseline. Without any, a :class:`ValueError` is raised. As
    in NHSRplotthedots, ranges of 3.267 times their mean or more are left out once, and the mean range is calculated again;
    no point is left out of the centre. ``form="unscreened"`` keeps every range, as this product did before and as Making
    Data Count's spreadsheet does.
    Wheeler, Understanding Variation (1993).
    """
    chosen = [True] * len(values) if baseline is None else list(baseline)
    kept = [value for value, inside in zip(values, chosen, strict=True) if inside]
    ranges = [
        abs(after - before)
        for before, after, both in zip(
            values, values[1:], map(all, zip(chosen, chosen[1:], strict=False)), strict=False
        )
        if both
    ]
    if not ranges:
        raise ValueError("an XmR chart needs two consecutive points of the baseline")
    centre = sum(kept) / len(kept)
    if form == "plot_the_dots":
        outlying = SCREEN * sum(ranges) / len(ranges)
        # Where all ranges are 0, none is below 3.267 times their mean, but none is an outlier either: all are kept.
        ranges = [each for each in ranges if each < outlying] or ranges
    half_width = XMR * sum(ranges) / len(ranges)
    found = signals(values, centre, centre - half_width, centre + half_width, form)
    return ControlChart(centre, centre - half_width, centre + half_width, found)


def signals(
    values: Sequence[float], centre: float, lower: float, upper: float, form: Form = "plot_the_dots"
) -> tuple[tuple[str, ...], ...]:
    """The rules of Making Data Count that each point meets, in the order of ``values``.

    - ``astronomical``: the point is outside the limits.
    - ``shift``: it is one of seven or more points in a row on one side of the mean.
    - ``trend``: it is one of seven or more points in a row that all rise or all fall.
    - ``two_of_three``: it is one of at least two points near the same limit among three in a row that are all on one side
      of the mean. Near means in the outer third between mean and limit, not beyond the limit.

    With ``form="unscreened"`` a point beyond a limit counts as near it too, and the third point may be on either side.
    """
    found: list[set[str]] = [set() for _ in values]
    side = [(value > centre) - (value < centre) for value in values]
    step = [0, *((after > before) - (after < before) for before, after in zip(values, values[1:], strict=False))]
    outside = [value < lower or value > upper for value in values]
    outer = [
        1 if value > centre + (upper - centre) * 2 / 3 else -1 if value < centre - (centre - lower) * 2 / 3 else 0
        for value in values
    ]
    strict = form == "plot_the_dots"
    for number in range(len(values)):
        if outside[number]:
            found[number].add("astronomical")
        if number + RUN <= len(values):
            window = range(number, number + RUN)
            if side[number] and len({side[place] for place in window}) == 1:
                for place in window:
                    found[place].add("shift")
            # Seven points are joined by six steps, so the step into the first point does not count.
            steps = {step[place] for place in window[1:]}
            if steps in ({1}, {-1}):
                for place in window:
                    found[place].add("trend")
        three = range(number, min(number + 3, len(values)))
        for sign in (1, -1):
            near = [place for place in three if outer[place] == sign and not (strict and outside[place])]
            one_side = len(three) == 3 and all(side[place] == sign for place in three)
            if len(near) >= 2 and (one_side or not strict):
                for place in near:
                    found[place].add("two_of_three")
    order = ("astronomical", "shift", "trend", "two_of_three")
    return tuple(tuple(name for name in order if name in each) for each in found)


def t_chart(days: Sequence[float], form: Form = "plot_the_dots") -> ControlChart:
    """Chart of rare events: one point for each group of several events, whose value is the days that they took.

    At a constant rate, the time t to several events has a gamma distribution, and y = t^(1/3) is about normal (Wilson and
    Hilferty, Proceedings of the National Academy of Sciences 17 (1931) 684–688). The chart is an XmR chart of y (:func:`xmr`,
    with this ``form``), converted back into days. Its centre is about the median. Points above the upper limit show that events
    have become rarer. The lower limit is 0 where that of y is negative.
    """
    chart = xmr([value ** (1 / 3) for value in days], form=form)
    back = [max(0.0, value) ** 3 for value in (chart.centre, chart.lower, chart.upper)]
    return ControlChart(back[0], back[1], back[2], chart.signals)
