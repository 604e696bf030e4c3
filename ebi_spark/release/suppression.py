"""Chooses which cells of a table of nested areas are suppressed, so that nobody can calculate the small ones.

A published cell is known to be 0 or to lie within its rounding. A cell that is suppressed as small (primary suppression) is
known to lie in the rule's range, such as 1 to 7. If the sums of the table narrow that range for any suppressed cell,
more cells are suppressed (secondary suppression): first the zeros and small counts next to it, then the whole breakdown
below an area, and finally every cell. The national figure is always published.

The choice is greedy, so it may suppress more cells than necessary. It is nevertheless safe:
:mod:`ebi_spark.release.interval_bounds` calculates exactly what a reader can work out, and a choice is accepted only if every
suppressed cell keeps all of its possible values. These are the rule's whole range. Where the national figure is too small
for that, they are the values that remain possible when nothing below the national figure is published.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebi_spark.release.interval_bounds import NO_BOUND, Numbers, Pair, Tree, solve

Bounds = tuple[Numbers, Numbers]

# How far a cell is suppressed, in increasing order. Plain numbers, because they are stored in arrays.
SHOWN = 0  # published: zero or rounded
SMALL = 1  # suppressed because it is small
SMALL_OR_ZERO = 2  # suppressed together with small counts and zeros next to it
ANY = 3  # suppressed with the whole breakdown; can be any number


@dataclass(frozen=True)
class Thresholds:
    """A rule's numbers: counts from ``low`` to ``high`` are suppressed, others are rounded to a multiple of ``step``."""

    low: int
    high: int
    step: int

    @classmethod
    def from_rule(cls, rule: dict[str, Any]) -> "Thresholds":
        """The numbers of a rule in ``conf/disclosure.yml``."""
        return cls(rule["withhold"]["from"], rule["withhold"]["to"], rule["round_to"])

    def rounded(self, counts: Numbers) -> Numbers:
        """Counts rounded to the nearest multiple (halves are rounded up)."""
        return np.floor((counts + self.step / 2) / self.step) * self.step

    def rounded_count(self, count: int) -> int:
        """One count, rounded in the same way."""
        return int(self.rounded(np.array(float(count))))

    def too_near(self, count: int, published: int) -> bool:
        """Whether the difference between a count and another one, which was published as ``published``, could be a small count for a
        reader of both rounded numbers."""
        return abs(self.rounded_count(count) - published) - self.step + 1 <= self.high

    def differs_little(self, count: int, published: int, terms: int) -> bool:
        """Whether the true difference between a count and another one could be small. ``published``: the other one, as a sum or
        difference of so many (``terms``) rounded numbers."""
        return abs(count - published) <= self.high + terms * (self.step // 2)

    def is_small(self, counts: Numbers) -> NDArray[np.bool_]:
        """Whether each count is suppressed as small."""
        return (counts >= self.low) & (counts <= self.high)

    def possible_counts(self, published: Numbers) -> Bounds:
        """The smallest and largest true count that is published as each value."""
        low = np.maximum(np.ceil(published - self.step / 2), 0)
        high = np.ceil(published + self.step / 2) - 1
        low = np.where(self.is_small(low), np.minimum(self.high + 1, high), low)
        return low, np.where(self.is_small(high) & (low < self.low), self.low - 1, high)


@dataclass
class Measure:
    """One count of every node, and how far the breakdown below each node is suppressed (``below``).

    Node 0 is England. Its figure is published if ``national`` is true; otherwise no total is published. The last node has the
    records that are in no area of the table: of unknown or unmapped areas, or of providers that are not listed. It is
    never published.
    """

    tree: Tree
    counts: Numbers
    rule: Thresholds
    national: bool = True
    below: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.below = np.zeros(len(self.tree), dtype=np.int64)

    def cells(self, below: NDArray[np.int64]) -> NDArray[np.int64]:
        """How far each cell is suppressed (``SHOWN`` to ``ANY``) for a choice of ``below``. The root is always shown."""
        state = np.where(self.rule.is_small(self.counts), SMALL, SHOWN).astype(np.int64)
        state[0] = SHOWN
        under_zero = np.zeros(len(self.tree), dtype=bool)
        for nodes in self.tree.levels:
            above = self.tree.parent[nodes]
            everything = (state[above] == ANY) | (below[above] == ANY)
            zeros = under_zero[above] | (below[above] == SMALL_OR_ZERO) & (self.counts[nodes] <= self.rule.high)
            state[nodes] = np.where(everything, ANY, np.where(zeros, SMALL_OR_ZERO, state[nodes]))
            # Areas below a zero are zero. They are suppressed too, because their sum would reveal the zero.
            under_zero[nodes] = (state[nodes] == SMALL_OR_ZERO) & (self.counts[nodes] == 0)
        state[-1] = ANY
        return state

    def known(self, state: NDArray[np.int64]) -> Bounds:
        """The bounds of each cell that a reader knows before using any sums."""
        low, high = self._shown
        low = np.select([state == SMALL, state >= SMALL_OR_ZERO], [float(self.rule.low), 0.0], low)
        high = np.select(
            [(state == SMALL) | (state == SMALL_OR_ZERO), state == ANY],
            [float(self.rule.high), NO_BOUND],
            high,
        )
        low[0], high[0] = (self.counts[0], self.counts[0]) if self.national else (0.0, NO_BOUND)
        return low, high

    def must_keep_values(self, state: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The cells that must keep all their possible values: suppressed cells, and the last node if its count is small."""
        suppressed: NDArray[np.bool_] = state != SHOWN
        suppressed[-1] = bool(self.rule.is_small(self.counts)[-1])
        return suppressed

    @cached_property
    def _shown(self) -> Bounds:
        return self.rule.possible_counts(self.rule.rounded(self.counts))


@dataclass(frozen=True)
class Partner:
    """Another count of the same cells that a reader knows about, such as the same count in an earlier release.

    ``bounds`` are its bounds at every cell, ``suppressed`` its suppressed cells, and ``difference`` the bounds of (partner −
    measure), which are the same at every cell. ``elsewhere`` is its number of records in no area, for a reader who knows
    that number; None if nobody knows it.
    """

    bounds: Bounds
    suppressed: NDArray[np.bool_]
    difference: tuple[float, float]
    elsewhere: float | None


def choose_suppression(measure: Measure, partners: Sequence[Sequence[Partner]]) -> NDArray[np.int64]:
    """Choose what is suppressed: set ``measure.below`` and return how far each cell is suppressed (``SHOWN`` to ``ANY``).

    Every suppressed cell of the measure and of each partner keeps all of its possible values. This holds for readers who
    know how many records are in no area, and for readers who do not.

    Each partner comes in several forms, from the most that a reader may assume to the least. The first form that does
    not contradict the measure is used. A partner that contradicts it in every form is left out, because it says nothing
    about the measure. Figures of an earlier release can do so after areas were corrected.
    """
    nowhere = np.zeros(len(measure.tree), dtype=np.int64)
    everywhere = nowhere.copy()
    everywhere[0] = ANY
    cases: list[_Case] = []
    for forms in partners:
        for knows_elsewhere in (False, True):
            candidates = (
                _Case(form, knows_elsewhere, _solved(measure, everywhere, form, knows_elsewhere)) for form in forms
            )
            cases += [case for case in candidates if case.widest.possible][:1]

    def narrowed_cells(below: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        return sorted(
            (node, number, row)
            for number, case in enumerate(cases)
            for node, row in case.narrowed_cells(measure, below)
        )

    inner = measure.tree.has_children()
    below, narrowed = nowhere, narrowed_cells(nowhere)
    while narrowed:
        first = narrowed[0]
        for node, extent in (
            (node, extent)
            for node in measure.tree.chain(first[0])
            if inner[node]
            for extent in (SMALL_OR_ZERO, ANY)
            if extent > below[node]
        ):
            trial = below.copy()
            trial[node] = extent
            remaining = narrowed_cells(trial)
            if first not in remaining and len(remaining) < len(narrowed):
                below, narrowed = trial, remaining
                break
        else:
            below, narrowed = everywhere, []
    measure.below = below
    return measure.cells(below)


@dataclass(frozen=True)
class _Case:
    """What one reader knows.

    ``knows_elsewhere`` says whether the reader knows the number of records in no area. ``widest`` are the bounds that remain
    when nothing below England is published.
    """

    partner: Partner
    knows_elsewhere: bool
    widest: Pair

    def narrowed_cells(self, measure: Measure, below: NDArray[np.int64]) -> list[tuple[int, int]]:
        """The cells that lose a value which they must keep: (node, 0 for the measure or 1 for the partner)."""
        now = _solved(measure, below, self.partner, self.knows_elsewhere)
        found = []
        for row, keep in ((0, measure.must_keep_values(measure.cells(below))), (1, self.partner.suppressed)):
            low, high = values_to_keep(self.widest.low[row], self.widest.high[row], measure.rule)
            narrowed = keep & (low <= high) & ((now.low[row] > low) | (now.high[row] < high))
            found += [(int(node), row) for node in np.flatnonzero(narrowed)]
        return found


def _solved(measure: Measure, below: NDArray[np.int64], partner: Partner, knows_elsewhere: bool) -> Pair:
    """The bounds of the measure and the partner that a reader can calculate."""
    of_measure = measure.known(measure.cells(below))
    of_partner = partner.bounds[0].copy(), partner.bounds[1].copy()
    if knows_elsewhere:
        for bounds, elsewhere in ((of_measure, measure.counts[-1]), (of_partner, partner.elsewhere)):
            if elsewhere is not None:
                bounds[0][-1] = bounds[1][-1] = elsewhere
    return solve(measure.tree, Pair.from_bounds(of_measure, of_partner, partner.difference))


def values_to_keep(low: Numbers, high: Numbers, rule: Thresholds) -> Bounds:
    """The smallest and largest value that a suppressed cell must keep.

    ``low`` and ``high`` bound the cell when nothing below the root is published. If they cover the rule's whole range, the
    cell must keep that range; otherwise it must keep the values from ``low`` up to ``high`` or the rule's largest small count.
    """
    whole = (low <= rule.low) & (high >= rule.high)
    return np.where(whole, float(rule.low), low), np.where(whole, float(rule.high), np.minimum(high, rule.high))
