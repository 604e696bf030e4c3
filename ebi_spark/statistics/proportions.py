"""Confidence limits of a proportion, exact and by score.

All limits are two-sided, at 95%. A proportion of nothing (``n`` = 0) has no limits: both are None.
"""

from math import sqrt
from typing import NamedTuple

from scipy.stats import beta

from ebi_spark.statistics.levels import TAIL, Z_95


class Limits(NamedTuple):
    """Lower and upper confidence limit, as proportions between 0 and 1; both None where there is no figure."""

    lower: float | None
    upper: float | None


def clopper_pearson(events: int, n: int) -> Limits:
    """Exact limits of ``events`` out of ``n`` (Clopper and Pearson, Biometrika 1934). They contain the true value in at least
    95% of samples, whatever it is. With no event the lower limit is 0, with ``n`` events the upper one is 1."""
    if not 0 <= events <= n:
        raise ValueError(f"{events} of {n} is not possible")
    return exact_limits(events / n, n) if n else Limits(None, None)


def exact_limits(share: float, n: float) -> Limits:
    """The same limits for a share of ``n``, which may be an effective sample size (Korn and Graubard, Survey Methodology 1998)."""
    events = share * n
    lower = 0.0 if share <= 0 else float(beta.ppf(TAIL, events, n - events + 1))
    upper = 1.0 if share >= 1 else float(beta.ppf(1 - TAIL, events + 1, n - events))
    return Limits(lower, upper)


def wilson(share: float, n: float) -> Limits:
    """Score limits of a share of ``n`` (Wilson, JASA 1927). ``n`` may be an effective sample size, so it need not be whole. With a
    share of 0 the lower limit is 0, with a share of 1 the upper one is 1, whatever the computer rounds."""
    if n < 0 or not 0 <= share <= 1:
        raise ValueError(f"a share between 0 and 1 of a size of at least 0 is needed, not {share} of {n}")
    if n == 0:
        return Limits(None, None)
    z = Z_95
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Limits(max(0.0, centre - half) if share > 0 else 0.0, min(1.0, centre + half) if share < 1 else 1.0)


def sample_size(share: float, half_width: float) -> int:
    """The smallest sample whose Wilson limits, at the expected ``share``, are no further apart than twice ``half_width``."""
    if not 0 <= share <= 1 or not 0 < half_width < 0.5:
        raise ValueError("a share between 0 and 1 and a half width between 0 and 0.5 are needed")
    low, high = 0, 1
    while _width(share, high) > 2 * half_width:
        low, high = high, high * 2
    while high - low > 1:  # the width falls as the sample grows
        middle = (low + high) // 2
        low, high = (middle, high) if _width(share, middle) > 2 * half_width else (low, middle)
    return high


def _width(share: float, n: int) -> float:
    lower, upper = wilson(share, n)
    assert lower is not None and upper is not None
    return upper - lower
