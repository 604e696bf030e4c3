"""Confidence limits of a count."""

from scipy.stats import chi2, norm

from ebi_spark.statistics.levels import LEVEL


def exact_poisson(count: int, level: float = LEVEL) -> tuple[float, float]:
    """Two-sided exact limits of the mean of a Poisson count (Garwood, Biometrika 1936). For 0 the lower limit is 0."""
    if count < 0:
        raise ValueError(f"a count cannot be {count}")
    tail = (1 - level) / 2
    lower = 0.0 if count == 0 else float(chi2.ppf(tail, 2 * count)) / 2
    return lower, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2


def byar(count: int, level: float = LEVEL) -> tuple[float, float]:
    """Byar's limits of the mean of a Poisson count of 10 or more (Breslow and Day 1987, p. 69)."""
    z = float(norm.ppf((1 + level) / 2))

    def limit(x: int, side: int) -> float:
        return float(x * (1 - 1 / (9 * x) + side * z / (3 * x**0.5)) ** 3)

    return limit(count, -1), limit(count + 1, 1)


def count_limits(count: int, level: float = LEVEL) -> tuple[float, float]:
    """Limits of a count as in every rate: exact below 10, Byar's from 10."""
    return exact_poisson(count, level) if count < 10 else byar(count, level)
