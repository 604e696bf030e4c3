"""The change of a rate from one period to another, with its confidence interval.

Plain functions on numbers, for the report and for notebooks. The figures come from published tables.
"""

import math
from dataclasses import dataclass

from ebi_spark.statistics.levels import Z_95

# With fewer events in either period, the normal approximation is not reliable.
FEWEST = 10


@dataclass(frozen=True)
class Change:
    """A rate compared with an earlier one: the ratio and the difference (per 100,000), each with its 95% interval."""

    ratio: float
    ratio_lower: float
    ratio_upper: float
    difference: float
    difference_lower: float
    difference_upper: float


def change(earlier: float, earlier_error: float, later: float, later_error: float) -> Change:
    """Ratio and difference of two independent rates, given with their standard errors (all per 100,000).

    The ratio's interval is exp(ln(r₂/r₁) ± z·√(s₁²/r₁² + s₂²/r₂²)), the difference's r₂ − r₁ ± z·√(s₁² + s₂²). Both rates must
    be above 0. Rothman, Greenland and Lash, Modern Epidemiology, 3rd ed. (2008), chapter 14; Boyle and Parkin, Cancer
    Registration: Principles and Methods (IARC 1991), chapter 11.
    """
    ratio = later / earlier
    reach = Z_95 * math.hypot(earlier_error / earlier, later_error / later)
    gap, spread = later - earlier, Z_95 * math.hypot(earlier_error, later_error)
    return Change(ratio, ratio * math.exp(-reach), ratio * math.exp(reach), gap, gap - spread, gap + spread)


def error_of_count(rate: float, events: float) -> float:
    """Standard error of a rate that is a Poisson count times a known factor: r/√O, in the unit of the rate."""
    return rate / math.sqrt(events)
