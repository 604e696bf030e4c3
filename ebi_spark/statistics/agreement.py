"""Agreement of two readers beyond chance."""

from collections.abc import Mapping
from math import sqrt
from typing import NamedTuple

from ebi_spark.statistics.proportions import exact_limits

# With fewer double readings than this, no kappa is given.
FEWEST_PAIRS = 30


class Kappa(NamedTuple):
    """``value`` with its limits and standard error; ``status`` is ``ok``, ``few_pairs`` or ``undefined`` (then the numbers
    are None)."""

    value: float | None
    lower: float | None
    upper: float | None
    pairs: int
    status: str
    standard_error: float | None = None


def cohens_kappa(counts: Mapping[tuple[str, str], int]) -> Kappa:
    """Cohen's kappa of two readers, with the large-sample standard error of Fleiss, Cohen and Everitt (Psychological Bulletin
    1969).

    Limits are the exact limits of the share of records on which the readers agree, at the sample size that gives this
    standard error, less the agreement by chance. With several hundred pairs they are about kappa plus or minus 1.96
    standard errors. With fewer pairs, or a kappa near 1, such symmetric limits contain the true value too seldom (in some
    simulations in 7 of 10 samples).

    ``counts`` maps (first reader's class, second reader's class) to the number of records. Where both readers put every
    record in one and the same class, chance agreement is 1 and kappa is undefined.
    """
    n = sum(counts.values())
    if n < FEWEST_PAIRS:
        return Kappa(None, None, None, n, "few_pairs")
    classes = sorted({name for pair in counts for name in pair})
    share = {(a, b): counts.get((a, b), 0) / n for a in classes for b in classes}
    first = {a: sum(share[a, b] for b in classes) for a in classes}
    second = {b: sum(share[a, b] for a in classes) for b in classes}
    agreed = sum(share[a, a] for a in classes)
    chance = sum(first[a] * second[a] for a in classes)
    if chance > 1 - 1e-12:
        return Kappa(None, None, None, n, "undefined")
    kappa = (agreed - chance) / (1 - chance)
    on_diagonal = sum(share[a, a] * (1 - (first[a] + second[a]) * (1 - kappa)) ** 2 for a in classes)
    off_diagonal = sum(share[a, b] * (first[b] + second[a]) ** 2 for a in classes for b in classes if a != b)
    variance = on_diagonal + (1 - kappa) ** 2 * off_diagonal - (kappa - chance * (1 - kappa)) ** 2
    # If all pairs agree, the variance is 0, and the sample size is the number of pairs.
    scatter = agreed * (1 - agreed)
    effective = n * scatter / variance if variance > 1e-12 and scatter > 1e-12 else n
    lower, upper = exact_limits(min(1.0, agreed), effective)
    assert lower is not None and upper is not None
    error = sqrt(max(0.0, variance) / n) / (1 - chance)
    return Kappa(kappa, max(-1.0, (lower - chance) / (1 - chance)), (upper - chance) / (1 - chance), n, "ok", error)
