"""Which cells of a table of nested areas are withheld, so that nobody can solve for the small ones.

A published cell is known to be 0 or to lie within rounding; a cell that is withheld as small lies in the rule's range (1–7).
Where the table's sums narrow that range for any withheld cell, more is withheld: first the zeros and small counts beside it,
then the whole breakdown below an area, at last every cell; the national figure always stands. The choice is greedy, the
protection is not: :mod:`ebi_spark.release.bounds` finds exactly what can be worked out, and a choice is only taken when every
withheld cell keeps all of its possible values. Those are the rule's whole range or, where the national figure itself is too
small for that, every value that is left when nothing below it is published.
"""

from collections.abc import Sequence
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

    Node 0 is England, whose figure stands (``national``; else nobody is told the whole). The last node is what is in no
    area of the table: records of unknown or unmapped areas, or of providers that are not listed. It is never published.
    """

    tree: Tree
    counts: Numbers
    rule: Thresholds
    national: bool = True
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
        state[-1] = ANY
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
        low[0], high[0] = (self.counts[0], self.counts[0]) if self.national else (0.0, NO_BOUND)
        return low, high

    def to_keep(self, state: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The cells that have to keep their possible values: those withheld, and what is in no area where that is small."""
        withheld: NDArray[np.bool_] = state != SHOWN
        withheld[-1] = bool(self.rule.is_small(self.counts)[-1])
        return withheld

    @cached_property
    def _shown(self) -> Bounds:
        return self.rule.behind(self.rule.rounded(self.counts))


@dataclass(frozen=True)
class Partner:
    """Another count of the same cells that a reader knows, and the bounds of (partner − measure) at every cell.

    ``elsewhere``: its count in no area, for a reader who knows that."""

    bounds: Bounds
    withheld: NDArray[np.bool_]
    difference: tuple[float, float]
    elsewhere: float | None


def protect(measure: Measure, partners: Sequence[Sequence[Partner]]) -> NDArray[np.int64]:
    """Choose what is withheld (``measure.below``) and say what becomes of each cell.

    Every withheld cell of the measure, and of each partner, keeps all of its possible values, for a reader who knows what is
    in no area and for one who does not. Of a partner there are several forms, from the most that a reader can take for
    known to the least: the first that does not contradict the measure counts. One that contradicts it in every form, as figures of
    an earlier release can after areas were corrected, is no knowledge about it and is left out.
    """
    nowhere = np.zeros(len(measure.tree), dtype=np.int64)
    everywhere = nowhere.copy()
    everywhere[0] = ANY
    cases: list[_Case] = []
    for forms in partners:
        for told in (False, True):
            found = (_Case(form, told, _solved(measure, everywhere, form, told)) for form in forms)
            cases += [case for case in found if case.best.possible][:1]

    def broken(below: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        return sorted(
            (node, number, row) for number, case in enumerate(cases) for node, row in case.lost(measure, below)
        )

    inner = measure.tree.has_children()
    below, lost = nowhere, broken(nowhere)
    while lost:
        worst = lost[0]
        for node, extent in (
            (node, extent)
            for node in measure.tree.chain(worst[0])
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


@dataclass(frozen=True)
class _Case:
    """What one reader knows: a partner, whether they are told what is in no area, and the bounds that this leaves where nothing
    below England is published."""

    partner: Partner
    told: bool
    best: Pair

    def lost(self, measure: Measure, below: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Cells (and 0 for the measure, 1 for the partner) that lose a value which they must keep."""
        now = _solved(measure, below, self.partner, self.told)
        found = []
        for row, keep in ((0, measure.to_keep(measure.cells(below))), (1, self.partner.withheld)):
            low, high = needed(self.best.low[row], self.best.high[row], measure.rule)
            gone = keep & (low <= high) & ((now.low[row] > low) | (now.high[row] < high))
            found += [(int(node), row) for node in np.flatnonzero(gone)]
        return found


def nothing_known(tree: Tree) -> Partner:
    """The partner that says nothing."""
    size = len(tree)
    return Partner((np.zeros(size), np.full(size, NO_BOUND)), np.zeros(size, dtype=bool), (-NO_BOUND, NO_BOUND), None)


def _solved(measure: Measure, below: NDArray[np.int64], partner: Partner, told: bool) -> Pair:
    mine = measure.known(measure.cells(below))
    theirs = partner.bounds[0].copy(), partner.bounds[1].copy()
    if told:
        for bounds, elsewhere in ((mine, measure.counts[-1]), (theirs, partner.elsewhere)):
            if elsewhere is not None:
                bounds[0][-1] = bounds[1][-1] = elsewhere
    return solve(measure.tree, Pair.of(mine, theirs, partner.difference))


def needed(low: Numbers, high: Numbers, rule: Thresholds) -> Bounds:
    """The values that a withheld cell must keep, from those that it has when nothing below the root is published."""
    whole = (low <= rule.low) & (high >= rule.high)
    return np.where(whole, float(rule.low), low), np.where(whole, float(rule.high), np.minimum(high, rule.high))
