"""Exact confidence limits of a count."""

from scipy.stats import chi2


def exact_poisson(count: int, level: float = 0.95) -> tuple[float, float]:
    """Two-sided exact limits of the mean of a Poisson count (Garwood, Biometrika 1936). For 0 the lower limit is 0."""
    if count < 0:
        raise ValueError(f"a count cannot be {count}")
    tail = (1 - level) / 2
    lower = 0.0 if count == 0 else float(chi2.ppf(tail, 2 * count)) / 2
    return lower, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2
