"""Agreement of two readers beyond chance."""

from collections.abc import Mapping
from math import sqrt
from typing import NamedTuple

from scipy.stats import norm

# Fewer double readings than this say too little for a kappa.
FEWEST_PAIRS = 30


class Kappa(NamedTuple):
    """``value`` with its limits; ``status`` is ``ok``, ``few_pairs`` or ``undefined`` (then the numbers are None)."""

    value: float | None
    lower: float | None
    upper: float | None
    pairs: int
    status: str


def cohens_kappa(counts: Mapping[tuple[str, str], int], level: float = 0.95, fewest: int = FEWEST_PAIRS) -> Kappa:
    """Cohen's kappa of two readers, with the large-sample limits of Fleiss, Cohen and Everitt (Psychological Bulletin 1969).

    ``counts`` maps (first reader's class, second reader's class) to the number of records. Where both readers put every
    record in one and the same class, chance agreement is 1 and kappa is undefined.
    """
    n = sum(counts.values())
    if n < fewest:
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
    half = float(norm.ppf((1 + level) / 2)) * sqrt(max(0.0, variance) / n) / (1 - chance)
    return Kappa(kappa, max(-1.0, kappa - half), min(1.0, kappa + half), n, "ok")
