"""How much each factor of a product contributes to a change of the product, independent of the order of the factors."""

from collections.abc import Mapping, Sequence
from math import factorial, fsum
from typing import Any, NamedTuple

import numpy as np


class Factors(NamedTuple):
    """The factors of many chains in two periods, one row a chain, one column a factor; ``undefined`` where a period has
    0/0 and the other period's value is used (1 if both have 0/0)."""

    before: np.ndarray[Any, np.dtype[np.float64]]
    after: np.ndarray[Any, np.dtype[np.float64]]
    undefined: np.ndarray[Any, np.dtype[np.bool_]]


def factors_of(before: Sequence[Sequence[int]], after: Sequence[Sequence[int]]) -> Factors:
    """The factors of chains of counts, each a part of the one before it: people, operations, in scope, …, flagged.

    The first factor is the first count, each other one the ratio of a count to the count before it. So their product is the last
    count. Both arguments have one row a chain, with its counts, the widest first.
    """
    old, new = _ratios(before), _ratios(after)
    undefined = np.isnan(old) | np.isnan(new)
    first = np.where(np.isnan(old), np.where(np.isnan(new), 1.0, new), old)
    second = np.where(np.isnan(new), np.where(np.isnan(old), 1.0, old), new)
    return Factors(first, second, undefined)


def shapley_parts(factors: Factors, totals: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The part of each factor in the change of the product: one row a chain, one column a factor.

    A factor's part is its mean effect over all orders in which the factors can change (Shapley, A value for n-person games,
    1953). ``totals`` are the changes themselves. The rounding error of floating point numbers (far below 1e-9) is added to
    the largest part, so that the parts of a chain add up to its total.

    >>> shapley_parts(factors_of([(100, 10)], [(200, 10)]), [0]).tolist()
    [[7.5, -7.5]]
    """
    number = factors.before.shape[1]
    # The product of every set of changed factors; bit i of the index says whether factor i has changed.
    changed = np.array([[bool(index >> place & 1) for place in range(number)] for index in range(2**number)])
    products = np.stack([np.prod(np.where(row, factors.after, factors.before), axis=1) for row in changed])
    sizes = changed.sum(axis=1)
    weights = [factorial(size) * factorial(number - size - 1) / factorial(number) for size in range(number)]
    parts = np.empty_like(factors.before)
    for place in range(number):
        without = np.flatnonzero(~changed[:, place])
        effects = products[without | (1 << place)] - products[without]
        parts[:, place] = np.array([weights[size] for size in sizes[without]]) @ effects
    largest = np.abs(parts).argmax(axis=1)
    for row, total in enumerate(totals):
        parts[row, largest[row]] += total - fsum(parts[row])
    return parts


def rounded(parts: Mapping[str, float], total: float) -> dict[str, float]:
    """The parts rounded to whole numbers for display. The largest part takes the rounding difference, so they add up to the rounded total."""
    shown = {name: round(part, 0) for name, part in parts.items()}
    largest = max(shown, key=lambda name: abs(parts[name]))
    shown[largest] = round(shown[largest] + round(total, 0) - sum(shown.values()), 0)
    return shown


def _ratios(chains: Sequence[Sequence[int]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The first count and the ratio of each count to the one before it; NaN for 0/0."""
    counts = np.asarray(chains, dtype=np.float64)
    wider, narrower = counts[:, :-1], counts[:, 1:]
    if ((wider == 0) & (narrower > 0)).any():
        raise ValueError("a count cannot be larger than the one it is part of")
    ratios = np.divide(narrower, wider, out=np.full_like(wider, np.nan), where=wider > 0)
    return np.concatenate([counts[:, :1], ratios], axis=1)
