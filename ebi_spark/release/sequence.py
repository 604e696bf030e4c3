"""Whether a new release, read beside all earlier ones that are kept, leaves every withheld cell its possible values.

:mod:`ebi_spark.release.protection` looks at two counts at a time, which it does exactly and fast. This is the last check before a
table is taken: one integer program over everything that is published of a period, both counts in every release, which looks for
a whole solution in which a withheld cell has its least value, and one in which it has its greatest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ebi_spark.release.bounds import NO_BOUND, Numbers, Tree
from ebi_spark.release.protection import Bounds, Thresholds, needed

# The two counts of a cell, the first a part of the second.
MEASURES = ("activity", "in_scope")
# Far more steps than one solution takes, and solutions than one table takes; with more there is no proof.
_STEPS, _SOLUTIONS = 10_000, 600


@dataclass(frozen=True)
class State:
    """What one release says of a table: the bounds of every node's counts, which cells are withheld, England's figures, and
    per count the most that a reader may take for known (``strict``: a provider without a row had none)."""

    england: dict[str, float]
    bounds: dict[str, Bounds]
    strict: dict[str, Bounds]
    withheld: dict[str, NDArray[np.bool_]]

    def taken_strictly(self) -> "State":
        """The same for a reader who takes the most for known."""
        return replace(self, bounds=self.strict)


def keeps(tree: Tree, earlier: Sequence[State], now: State, blind: State, rule: Thresholds) -> bool:
    """Whether every withheld cell of every release can still have the least and the greatest value that it has when ``now``
    says nothing below England (``blind``)."""
    taken = [[state.taken_strictly() for state in earlier], list(earlier)]
    # Releases that contradict each other are no knowledge: then what is less sure is left out, then the oldest.
    for kept in (states[oldest:] for oldest in range(len(earlier)) for states in taken):
        attack = _Program(tree, [*kept, now])
        if attack.solve() is None:
            continue
        without = _Program(tree, [*kept, blind])
        for cell in attack.not_reached(rule):
            ends = [program.furthest(cell, sign) for program in (attack, without) for sign in (-1, 1)]
            if any(end is None for end in ends):
                return False
            least, most, low, high = (float(end) for end in ends if end is not None)
            lowest, greatest = (float(end) for end in needed(np.array(low), np.array(high), rule))
            if lowest <= greatest and (least > lowest or most < greatest):
                return False
        return True
    return True


class _Program:
    """Unknown whole numbers: each count of each node in each release, in the order release, count, node."""

    def __init__(self, tree: Tree, states: Sequence[State]) -> None:
        from scipy import sparse

        self.states, self.solutions = states, 0
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
            # A reader takes it that records were only added, or only removed, as England's figure shows.
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
        """A whole solution in which the sum over ``cells`` is as large as can be (``sign`` 1; -1: as small), what a cell has
        above ``at_most`` or below ``at_least`` not counting; None where there is none."""
        from scipy import sparse
        from scipy.optimize import Bounds as Limits
        from scipy.optimize import LinearConstraint, milp

        count, extra = self.matrix.shape[1], len(cells)
        self.solutions += 1
        if (self.bounds[0] > self.bounds[1]).any() or self.solutions > _SOLUTIONS:
            return None
        # What counts of a cell: a number of its own, at most the cell and `at_most`; or at least both.
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
        return None if found.x is None or not found.success else np.round(found.x[:count])

    def furthest(self, cell: int, sign: int) -> float | None:
        """The greatest (``sign`` 1) or least value that a cell can have."""
        found = self.solve([cell], sign)
        return None if found is None else float(found[cell])

    def not_reached(self, rule: Thresholds) -> list[int]:
        """The withheld cells that cannot have all values from the rule's least to its greatest. One solution serves as many cells
        as it can."""
        withheld = np.concatenate([state.withheld[name] for state in self.states for name in MEASURES])
        lost: set[int] = set()
        for sign, value in ((1, float(rule.high)), (-1, float(rule.low))):
            left = np.setdiff1d(np.flatnonzero(withheld), sorted(lost))
            while len(left):
                found = self.solve(left.tolist(), sign, *((value, 0.0) if sign > 0 else (NO_BOUND, value)))
                there = left[:0] if found is None else left[(found[left] - value) * sign >= 0]
                if len(there):
                    left = np.setdiff1d(left, there)
                    continue
                cell, best = int(left[0]), self.furthest(int(left[0]), sign)
                if best is None or (best - value) * sign < 0:
                    lost.add(cell)
                if best is None:
                    return sorted(lost)
                left = left[1:]
        return sorted(lost)
