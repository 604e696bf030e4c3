"""Which cells of a table of nested areas are withheld, so that nobody can solve for the small ones.

A published cell is known to be 0 or to lie within rounding; a cell that is withheld as small lies in the rule's range (1–7).
Where the table's sums narrow that range for any withheld cell, more is withheld: first the zeros and small counts beside it,
then the whole breakdown below an area, at last every cell; the national figure always stands. The choice is greedy, the
protection is not: :mod:`ebi_spark.release.bounds` finds exactly what can be worked out, and a choice is only taken when every
withheld cell keeps all of its possible values. Those are the rule's whole range or, where the national figure itself is too
small for that, every value that is left when nothing below it is published.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebi_spark.release.bounds import NO_BOUND, Numbers, Pair, Tree, solve

Bounds = tuple[Numbers, Numbers]


# What becomes of a cell, from the least to the most withheld. Plain numbers, since they stand in arrays.
SHOWN = 0  # zero, or rounded
SMALL = 1  # withheld because it is small
SMALL_OR_ZERO = 2  # withheld with the zeros beside it
ANY = 3  # withheld with the whole breakdown


@dataclass(frozen=True)
class Thresholds:
    """A rule's numbers: counts from ``low`` to ``high`` are withheld, others go to the nearest multiple of ``step``."""

    low: int
    high: int
    step: int

    @classmethod
    def of(cls, rule: dict[str, Any]) -> "Thresholds":
        """The numbers of a rule in ``conf/disclosure.yml``."""
        return cls(rule["withhold"]["from"], rule["withhold"]["to"], rule["round_to"])

    def rounded(self, counts: Numbers) -> Numbers:
        """Counts to the nearest multiple (a half goes up)."""
        return np.floor((counts + self.step / 2) / self.step) * self.step

    def is_small(self, counts: Numbers) -> NDArray[np.bool_]:
        """Whether each count is withheld as small."""
        return (counts >= self.low) & (counts <= self.high)

    def behind(self, published: Numbers) -> Bounds:
        """The least and greatest count that is published as each value."""
        low = np.maximum(np.ceil(published - self.step / 2), 0)
        high = np.ceil(published + self.step / 2) - 1
        low = np.where(self.is_small(low), np.minimum(self.high + 1, high), low)
        return low, np.where(self.is_small(high) & (low < self.low), self.low - 1, high)


@dataclass
class Measure:
    """One count of every node, and of every node how far the breakdown below it is withheld.

    ``total`` are the bounds of the root: one number, since the national figure stands and the records without an area
    are taken to be known as well. ``least`` is what every cell is known to have by being there.
    """

    tree: Tree
    counts: Numbers
    rule: Thresholds
    total: tuple[float, float]
    least: float = 0.0
    below: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.below = np.zeros(len(self.tree), dtype=np.int64)

    def cells(self, below: NDArray[np.int64]) -> NDArray[np.int64]:
        """What becomes of each cell; the root is always shown."""
        state = np.where(self.rule.is_small(self.counts), SMALL, SHOWN).astype(np.int64)
        state[0] = SHOWN
        under_zero = np.zeros(len(self.tree), dtype=bool)
        for nodes in self.tree.levels:
            above = self.tree.parent[nodes]
            everything = (state[above] == ANY) | (below[above] == ANY)
            zeros = under_zero[above] | (below[above] == SMALL_OR_ZERO) & (self.counts[nodes] <= self.rule.high)
            state[nodes] = np.where(everything, ANY, np.where(zeros, SMALL_OR_ZERO, state[nodes]))
            # What lies below a zero is zero: it is withheld too, or its sum would give the zero away.
            under_zero[nodes] = (state[nodes] == SMALL_OR_ZERO) & (self.counts[nodes] == 0)
        return state

    def known(self, state: NDArray[np.int64]) -> Bounds:
        """What a reader knows of each cell before adding anything up."""
        low, high = self._shown
        low = np.select([state == SMALL, state >= SMALL_OR_ZERO], [float(self.rule.low), 0.0], low)
        high = np.select(
            [(state == SMALL) | (state == SMALL_OR_ZERO), state == ANY],
            [float(self.rule.high), NO_BOUND],
            high,
        )
        low = np.maximum(low, np.where(high >= self.least, self.least, 0.0))
        low[0], high[0] = self.total
        return low, high

    @cached_property
    def _shown(self) -> Bounds:
        return self.rule.behind(self.rule.rounded(self.counts))


@dataclass(frozen=True)
class Partner:
    """Another count of the same cells that a reader knows, and the bounds of (partner − measure) at every cell."""

    bounds: Bounds
    withheld: NDArray[np.bool_]
    difference: tuple[float, float]


def protect(measure: Measure, partners: list[Partner]) -> NDArray[np.int64]:
    """Choose what is withheld (``measure.below``) and say what becomes of each cell.

    Every withheld cell of the measure, and of each partner, keeps all of its possible values. A partner that contradicts
    the measure, as figures of the release before can after areas were corrected, is no knowledge about it and is left out.
    """
    tree, rule = measure.tree, measure.rule
    nowhere = np.zeros(len(tree), dtype=np.int64)
    everywhere = nowhere.copy()
    everywhere[0] = ANY
    partners = [partner for partner in partners if _solved(measure, everywhere, partner).possible]
    if not partners:
        free = np.zeros(len(tree)), np.full(len(tree), NO_BOUND)
        partners = [Partner(free, nowhere.astype(bool), (-NO_BOUND, NO_BOUND))]
    best = [_solved(measure, everywhere, partner) for partner in partners]

    def broken(below: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        state = measure.cells(below)
        found = []
        for number, partner in enumerate(partners):
            now = _solved(measure, below, partner)
            for row, withheld in ((0, state != SHOWN), (1, partner.withheld)):
                low, high = _needed(best[number].low[row], best[number].high[row], rule)
                lost = withheld & (low <= high) & ((now.low[row] > low) | (now.high[row] < high))
                found += [(int(node), number, row) for node in np.flatnonzero(lost)]
        return sorted(found)

    inner = tree.has_children()
    below, lost = nowhere, broken(nowhere)
    while lost:
        worst = lost[0]
        for node, extent in (
            (node, extent)
            for node in tree.chain(worst[0])
            if inner[node]
            for extent in (SMALL_OR_ZERO, ANY)
            if extent > below[node]
        ):
            trial = below.copy()
            trial[node] = extent
            left = broken(trial)
            if worst not in left and len(left) < len(lost):
                below, lost = trial, left
                break
        else:
            below, lost = everywhere, []
    measure.below = below
    return measure.cells(below)


def _solved(measure: Measure, below: NDArray[np.int64], partner: Partner) -> Pair:
    known = measure.known(measure.cells(below))
    return solve(measure.tree, Pair.of(known, partner.bounds, partner.difference))


def _needed(low: Numbers, high: Numbers, rule: Thresholds) -> Bounds:
    """The values that a withheld cell must keep, from those that it has when nothing below the root is published."""
    whole = (low <= rule.low) & (high >= rule.high)
    return np.where(whole, float(rule.low), low), np.where(whole, float(rule.high), np.minimum(high, rule.high))
