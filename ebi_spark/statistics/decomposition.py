"""What each factor of a product contributes to a change of the product, whatever the order of the factors."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial, prod
from typing import NamedTuple


class Chain(NamedTuple):
    """A count as a chain of narrowing counts, the widest first: people, operations, in scope, …, flagged."""

    counts: tuple[int, ...]


class Parts(NamedTuple):
    """The change of the last count by factor; the parts add up to ``total``. ``notes`` names factors of 0/0 in a period."""

    parts: Mapping[str, float]
    total: float
    notes: tuple[str, ...]


def shapley(before: Chain, after: Chain, names: Sequence[str]) -> Parts:
    """The part of each factor in the change from ``before`` to ``after``.

    The first factor is the first count, each other one the ratio of a count to the count before it, so that their product is
    the last count. A factor's part is its mean effect over all orders in which the factors can change (Shapley 1953). A
    ratio of 0/0 in one period keeps the other period's value and is noted; 0/0 in both counts as 1, since the product is 0
    either way.

    >>> shapley(Chain((100, 10)), Chain((200, 10)), ("people", "rate")).parts
    {'people': 7.5, 'rate': -7.5}
    """
    if not len(before.counts) == len(after.counts) == len(names):
        raise ValueError("as many names as counts are needed, in both periods")
    notes: list[str] = []
    old, new = _factors(before.counts), _factors(after.counts)
    first, second = [], []
    for name, a, b in zip(names, old, new, strict=True):
        if a is None or b is None:
            notes.append(name)
        known = next((value for value in (a, b) if value is not None), 1.0)
        first.append(known if a is None else a)
        second.append(known if b is None else b)
    total = float(after.counts[-1] - before.counts[-1])
    number = len(names)
    parts = {}
    for place, name in enumerate(names):
        others = [other for other in range(number) if other != place]
        part = 0.0
        for size in range(number):
            weight = factorial(size) * factorial(number - size - 1) / factorial(number)
            for changed in combinations(others, size):
                rest = prod(second[other] if other in changed else first[other] for other in others)
                part += weight * rest * (second[place] - first[place])
        parts[name] = part
    return Parts(parts, total, tuple(notes))


def rounded(parts: Mapping[str, float], total: float, digits: int = 0) -> dict[str, float]:
    """The parts rounded for display so that they still add up to the rounded total: what is left goes to the largest part."""
    shown = {name: round(part, digits) for name, part in parts.items()}
    largest = max(shown, key=lambda name: abs(parts[name]))
    shown[largest] = round(shown[largest] + round(total, digits) - sum(shown.values()), digits)
    return shown


def _factors(counts: Sequence[int]) -> list[float | None]:
    """The first count and the ratio of each to the one before it; None for 0/0."""
    found: list[float | None] = [float(counts[0])]
    for wider, narrower in zip(counts, counts[1:], strict=False):
        if wider == 0 and narrower > 0:
            raise ValueError("a count cannot be larger than the one it is part of")
        found.append(None if wider == 0 else narrower / wider)
    return found
