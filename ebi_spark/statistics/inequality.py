"""Rates of groups of people, and how much they differ by deprivation: plain functions with formula and source."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from ebi_spark.statistics.counts import exact_poisson
from ebi_spark.statistics.levels import Z_95

PER = 100_000


class Stratum(NamedTuple):
    """One sex and age band: the events, the person-years and the weight of the standard population."""

    events: int
    people: float
    weight: float


class Estimate(NamedTuple):
    """A figure with its limits and variance. All per 100,000; the variance per 100,000 squared."""

    value: float
    lower: float
    upper: float
    variance: float


def standardised(strata: Sequence[Stratum]) -> Estimate | None:
    """The directly standardised rate of strata, with Dobson's limits on exact Poisson limits of the count. With one stratum it
    is the crude rate. None where a stratum has no people, or there is no weight.

    Σ w·x/n ÷ Σ w; variance Σ w²·x/n² ÷ (Σ w)²; limits rate + √(variance/x)·(limit of x − x). Dobson, Kuulasmaa, Eberle and
    Scherer, Statistics in Medicine 10 (1991) 457–62. Without an event the upper limit is that of a count of 0 over all people.
    """
    total = sum(stratum.weight for stratum in strata)
    if not total or any(stratum.people <= 0 for stratum in strata):
        return None
    events = sum(stratum.events for stratum in strata)
    rate = PER * sum(s.weight * s.events / s.people for s in strata) / total
    variance = PER**2 * sum(s.weight**2 * s.events / s.people**2 for s in strata) / total**2
    lower, upper = exact_poisson(events)
    if events == 0:
        return Estimate(rate, 0.0, PER * upper / sum(stratum.people for stratum in strata), 0.0)
    scale = sqrt(variance / events)
    return Estimate(rate, rate + scale * (lower - events), rate + scale * (upper - events), variance)


def slope_index(groups: Sequence[tuple[float, Estimate]]) -> Estimate | None:
    """The slope index of inequality: how much higher the rate is at the end of the last group than at that of the first group.

    ``groups`` are (people, rate) in the order of the ranking, such as from the least to the most deprived fifth. The rates are
    regressed on the midpoint of each group's range in the ranked population (0 to 1), weighted by people. The limits follow
    from the variances of the rates: the slope is Σ c·r with c = p(x − x̄)/Σ p(x − x̄)², its variance Σ c²·V(r). None with fewer
    than two groups. Pamuk, Population Studies 39 (1985) 17–31; Low and Low, Public Health 118 (2004) 388–95.
    """
    people = sum(number for number, _ in groups)
    if len(groups) < 2 or people <= 0:
        return None
    below, ranks = 0.0, []
    for number, _ in groups:
        ranks.append((below + number / 2) / people)
        below += number
    mean = sum(number * rank for (number, _), rank in zip(groups, ranks, strict=True)) / people
    spread = sum(number * (rank - mean) ** 2 for (number, _), rank in zip(groups, ranks, strict=True))
    if spread <= 0:
        return None
    shares = [number * (rank - mean) / spread for (number, _), rank in zip(groups, ranks, strict=True)]
    slope = sum(share * rate.value for share, (_, rate) in zip(shares, groups, strict=True))
    variance = sum(share**2 * rate.variance for share, (_, rate) in zip(shares, groups, strict=True))
    half = Z_95 * sqrt(variance)
    return Estimate(slope, slope - half, slope + half, variance)
