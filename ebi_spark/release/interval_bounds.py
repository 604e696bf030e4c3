"""Calculates what a reader can work out from a table of nested areas: exact bounds of every count, by interval arithmetic.

A table is a tree: England's records with a known area at the root, then regions, ICBs and sub-ICB locations. Providers
are a separate tree with one level. Each node has two counts x and y. They lie between known bounds, and so does their
difference d = y − x. (x and y are flagged records and records in scope, or the same count in two releases.) Every count
of a node is the sum of the counts of its children.

The calculated bounds are exact: no solver can narrow them, and every whole number between them is part of a solution in
whole numbers. The proof: the sets {lo ≤ (x, y, y − x) ≤ hi} have edges in three directions only. Their sums and
intersections are therefore sets of the same form, and their bounds add up once they are tight. With whole bounds the
corners are whole, because the sums over two nested families make a totally unimodular matrix. On a tree, one pass up and
one pass down find every consequence.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
# Means "no bound". Counts are far smaller, and sums of it are exact in floating point.
NO_BOUND = 1e9


@dataclass(frozen=True)
class Tree:
    """A tree given by the index of each node's parent. Node 0 is the root (parent -1). Parents come before children."""

    parent: NDArray[np.int64]
    levels: tuple[NDArray[np.int64], ...] = field(init=False)

    def __post_init__(self) -> None:
        depth = np.zeros(len(self.parent), dtype=np.int64)
        for node in range(1, len(self.parent)):
            depth[node] = depth[self.parent[node]] + 1
        levels = tuple(np.flatnonzero(depth == level) for level in range(1, int(depth.max(initial=0)) + 1))
        object.__setattr__(self, "levels", levels)

    def __len__(self) -> int:
        return len(self.parent)

    def chain(self, node: int) -> list[int]:
        """The node, its parent and every further ancestor up to the root."""
        nodes = [node]
        while nodes[-1]:
            nodes.append(int(self.parent[nodes[-1]]))
        return nodes

    def has_children(self) -> NDArray[np.bool_]:
        """Whether each node has children."""
        inner = np.zeros(len(self), dtype=bool)
        inner[self.parent[1:]] = True
        return inner


@dataclass
class Pair:
    """Bounds of x, y and d = y − x (rows 0, 1, 2) for every node (columns)."""

    low: Numbers
    high: Numbers

    @classmethod
    def from_bounds(cls, x: tuple[Numbers, Numbers], y: tuple[Numbers, Numbers], d: tuple[float, float]) -> "Pair":
        """Build it from the lower and upper bounds of x and y by node, and the bounds of d, which are the same at every node."""
        count = len(x[0])
        return cls(
            np.stack([x[0], y[0], np.full(count, d[0])]).astype(float),
            np.stack([x[1], y[1], np.full(count, d[1])]).astype(float),
        )

    @property
    def possible(self) -> bool:
        """Whether no lower bound exceeds its upper bound."""
        return bool((self.low <= self.high).all())


def solve(tree: Tree, known: Pair) -> Pair:
    """The exact bounds of every node that follow from the bounds in ``known`` and the sums of the tree."""
    low, high = known.low.copy(), known.high.copy()
    sums: dict[int, tuple[Numbers, Numbers]] = {}
    all_nodes = np.arange(len(tree))
    _tighten(low, high, all_nodes)
    for depth in range(len(tree.levels) - 1, -1, -1):
        children = tree.levels[depth]
        above = tree.parent[children]
        size = len(tree)
        total_low = _sums(above, low[:, children], size)
        total_high = _sums(above, high[:, children], size)
        sums[depth] = (total_low, total_high)
        parents = np.unique(above)
        low[:, parents] = np.maximum(low[:, parents], total_low[:, parents])
        high[:, parents] = np.minimum(high[:, parents], total_high[:, parents])
        _tighten(low, high, parents)
    for depth, children in enumerate(tree.levels):
        above = tree.parent[children]
        total_low, total_high = sums[depth]
        # What is left of the parent when all siblings are as large, or as small, as possible.
        at_least = low[:, above] - (total_high[:, above] - high[:, children])
        at_most = high[:, above] - (total_low[:, above] - low[:, children])
        low[:, children] = np.maximum(low[:, children], at_least)
        high[:, children] = np.minimum(high[:, children], at_most)
        _tighten(low, high, children)
    return Pair(low, high)


def _sums(groups: NDArray[np.int64], values: Numbers, size: int) -> Numbers:
    return np.stack([np.bincount(groups, row, size) for row in values]).astype(float)


def _tighten(low: Numbers, high: Numbers, nodes: NDArray[np.int64]) -> None:
    """Narrow the bounds of x, y and d of each node by one another (shortest paths between x, y and 0)."""
    x, y, d = 0, 1, 2
    low[d, nodes] = np.maximum(low[d, nodes], low[y, nodes] - high[x, nodes])
    high[d, nodes] = np.minimum(high[d, nodes], high[y, nodes] - low[x, nodes])
    low[y, nodes] = np.maximum(low[y, nodes], low[x, nodes] + low[d, nodes])
    high[y, nodes] = np.minimum(high[y, nodes], high[x, nodes] + high[d, nodes])
    low[x, nodes] = np.maximum(low[x, nodes], low[y, nodes] - high[d, nodes])
    high[x, nodes] = np.minimum(high[x, nodes], high[y, nodes] - low[d, nodes])
