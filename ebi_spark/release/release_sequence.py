"""Checks that a new release, read together with all kept earlier releases, leaves every suppressed cell its possible values.

:mod:`ebi_spark.release.suppression` compares two counts at a time, which is exact and fast. This module is the last check
before a table is accepted. It builds one integer program over everything that is published about a period: both counts, in
every release. For each suppressed cell it looks for a solution in whole numbers where the cell has its smallest value, and
for another where it has its largest value.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ebi_spark.release.interval_bounds import NO_BOUND, Numbers, Tree
from ebi_spark.release.suppression import Bounds, Thresholds, values_to_keep

# The two counts of a cell. The first is a part of the second.
MEASURES = ("activity", "in_scope")
# Limits on the steps of one solution and on the solutions for one table, far above what is normally needed. If a limit is
# reached, nothing is proved and the table is not accepted.
_STEPS, _SOLUTIONS = 10_000, 600
# The status that the solver gives when there is no solution.
_INFEASIBLE = 2


@dataclass(frozen=True)
class PublishedState:
    """What one release says about a table, for each of the two counts.

    ``england`` has England's figures, ``bounds`` the bounds of every node's count and ``suppressed`` its suppressed cells.
    ``strict`` has narrower bounds, for a reader who assumes the most (that a provider without a row had no records).
    """

    england: dict[str, float]
    bounds: dict[str, Bounds]
    strict: dict[str, Bounds]
    suppressed: dict[str, NDArray[np.bool_]]

    def read_strictly(self) -> "PublishedState":
        """The same state for a reader who assumes the most."""
        return replace(self, bounds=self.strict)


def keeps_possible_values(
    tree: Tree, earlier: Sequence[PublishedState], now: PublishedState, blind: PublishedState, rule: Thresholds
) -> bool:
    """Whether every suppressed cell of every release keeps its possible values when ``now`` is published.

    A cell must still be able to have the smallest and the largest value that it can have with ``blind``, which is the new
    release with nothing below England.
    """
    readings = [[state.read_strictly() for state in earlier], list(earlier)]
    # Releases that contradict each other say nothing together. Then the strict assumptions are left out, then the oldest release.
    for kept in (states[oldest:] for oldest in range(len(earlier)) for states in readings):
        attack = _Program(tree, [*kept, now])
        if attack.solve() is None:
            if attack.gave_up:
                return False
            continue
        without = _Program(tree, [*kept, blind])
        for cell in attack.not_reached(rule):
            ends = [program.furthest(cell, sign) for program in (attack, without) for sign in (-1, 1)]
            if any(end is None for end in ends):
                return False
            least, most, low, high = (float(end) for end in ends if end is not None)
            lowest, greatest = (float(end) for end in values_to_keep(np.array(low), np.array(high), rule))
            if lowest <= greatest and (least > lowest or most < greatest):
                return False
        return True
    return True


class _Program:
    """An integer program. Its unknowns are each count of each node in each release, in the order release, count, node."""

    def __init__(self, tree: Tree, states: Sequence[PublishedState]) -> None:
        from scipy import sparse

        self.states, self.solutions = states, 0
        self.gave_up = False  # a limit was reached: whether there is a solution is not known
        size, releases, counts = len(tree), len(states), len(MEASURES)
        inner = np.flatnonzero(tree.has_children())
        sums = sparse.lil_matrix((len(inner), size))
        for row, node in enumerate(inner):
            sums[row, node] = -1
            sums[row, np.flatnonzero(tree.parent == node)] = 1
        node = sparse.identity(size)
        blocks = [sparse.kron(sparse.identity(releases * counts), sums)]
        low, high = [np.zeros(blocks[0].shape[0])], [np.zeros(blocks[0].shape[0])]
        blocks.append(sparse.kron(sparse.identity(releases), sparse.hstack([-node, node])))
        low.append(np.zeros(releases * size))
        high.append(np.full(releases * size, np.inf))
        if releases > 1:
            steps = sparse.diags([-np.ones(releases - 1), np.ones(releases - 1)], [0, 1], (releases - 1, releases))
            blocks.append(sparse.kron(steps, sparse.identity(counts * size)))
            changes = [
                after.england[name] - before.england[name]
                for before, after in zip(states, states[1:], strict=False)
                for name in MEASURES
            ]
            # A reader assumes that records were only added or only removed, depending on how England's figure changed.
            low.append(np.repeat(np.minimum(changes, 0), size))
            high.append(np.repeat(np.maximum(changes, 0), size))
        self.matrix = sparse.csr_matrix(sparse.vstack(blocks))
        self.low, self.high = np.concatenate(low), np.concatenate(high)
        self.bounds = tuple(
            np.concatenate([state.bounds[name][end] for state in states for name in MEASURES]) for end in (0, 1)
        )

    def solve(
        self, cells: Sequence[int] = (), sign: int = 1, at_most: float = NO_BOUND, at_least: float = 0.0
    ) -> Numbers | None:
        """A solution in whole numbers where the sum over ``cells`` is as large (``sign`` 1) or as small (-1) as possible.

        A cell's value above ``at_most`` or below ``at_least`` does not count towards the sum. None if there is no solution, or if
        none was found within the limits.
        """
        from scipy import sparse
        from scipy.optimize import Bounds as Limits
        from scipy.optimize import LinearConstraint, milp

        count, extra = self.matrix.shape[1], len(cells)
        self.solutions += 1
        if (self.bounds[0] > self.bounds[1]).any():
            return None
        if self.solutions > _SOLUTIONS:
            self.gave_up = True
            return None
        # The part of a cell that counts is an extra variable: at most the cell and `at_most`, or at least the cell and `at_least`.
        chosen = sparse.csr_matrix((np.ones(extra), (range(extra), list(cells))), (extra, count))
        whole = sparse.vstack(
            [
                sparse.hstack([self.matrix, sparse.csr_matrix((self.matrix.shape[0], extra))]),
                sparse.hstack([chosen, -sparse.identity(extra)]),
            ]
        )
        ends = (np.zeros(extra), np.full(extra, np.inf)) if sign > 0 else (np.full(extra, -np.inf), np.zeros(extra))
        found = milp(
            np.concatenate([np.zeros(count), np.full(extra, -float(sign))]),
            constraints=LinearConstraint(
                sparse.csr_matrix(whole), np.concatenate([self.low, ends[0]]), np.concatenate([self.high, ends[1]])
            ),
            bounds=Limits(
                np.concatenate([self.bounds[0], np.full(extra, at_least)]),
                np.concatenate([self.bounds[1], np.full(extra, at_most)]),
            ),
            integrality=np.concatenate([np.ones(count), np.zeros(extra)]),
            options={"node_limit": _STEPS},
        )
        if found.success and found.x is not None:
            values: Numbers = np.round(found.x[:count])
            return values
        self.gave_up |= found.status != _INFEASIBLE
        return None

    def furthest(self, cell: int, sign: int) -> float | None:
        """The largest (``sign`` 1) or smallest (-1) value that a cell can have. None if there is no solution."""
        found = self.solve([cell], sign)
        return None if found is None else float(found[cell])

    def not_reached(self, rule: Thresholds) -> list[int]:
        """The suppressed cells that cannot have both the rule's smallest and its largest small count.

        Each solution tries to settle as many cells as possible.
        """
        suppressed = np.concatenate([state.suppressed[name] for state in self.states for name in MEASURES])
        narrowed: set[int] = set()
        for sign, value in ((1, float(rule.high)), (-1, float(rule.low))):
            left = np.setdiff1d(np.flatnonzero(suppressed), sorted(narrowed))
            while len(left):
                found = self.solve(left.tolist(), sign, *((value, 0.0) if sign > 0 else (NO_BOUND, value)))
                reached = left[:0] if found is None else left[(found[left] - value) * sign >= 0]
                if len(reached):
                    left = np.setdiff1d(left, reached)
                    continue
                cell, best = int(left[0]), self.furthest(int(left[0]), sign)
                if best is None or (best - value) * sign < 0:
                    narrowed.add(cell)
                if best is None:
                    return sorted(narrowed)
                left = left[1:]
        return sorted(narrowed)
