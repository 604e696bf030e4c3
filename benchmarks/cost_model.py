"""A cost model of the job, fitted to measurements: which part of the time is fixed, which part grows with the rows, and which
parts more cores shorten.

Seconds = fixed + shared / cores + rows * (each row + shared each row / cores). No term is below 0, and the squares of
the relative errors are smallest, so that a small run counts as much as a large one.
"""

import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

MILLION = 1_000_000
LEAST_SIZES, LEAST_CORES = 3, 2
# The time of a stage is known to a tenth of a second.
LEAST_SECONDS = 0.1
DRAWS = 500


class TooFewPointsError(ValueError):
    """The measurements cannot separate the model's terms, or cannot be compared with it."""


@dataclass(frozen=True)
class Point:
    """One measurement."""

    rows: int
    cores: int
    seconds: float


@dataclass(frozen=True)
class Model:
    """Seconds: ``fixed`` and ``row`` (a million rows) whatever the cores, the ``shared`` ones divided by them."""

    fixed: float
    shared: float
    row: float
    shared_row: float

    def seconds(self, rows: float, cores: float) -> float:
        """What a run takes."""
        return float(_terms(rows, cores) @ np.array(astuple(self)))


@dataclass(frozen=True)
class Quality:
    """How well a model holds: predicted by measured, less 1. ``held_out``: each measurement of the largest size,
    predicted from the smaller ones alone."""

    worst: float
    median: float
    held_out: list[tuple[Point, float]]


@dataclass(frozen=True)
class Refits:
    """Models that the measurements could as well have given: fits without one of the sizes, and ``DRAWS`` fits with the relative errors
    distributed over the measurements at random."""

    left_out: list[Model]
    drawn: list[Model]


@dataclass(frozen=True)
class Prediction:
    """Seconds of a run: as fitted, and from ``low`` to ``high``."""

    cores: int
    fitted: float
    low: float
    high: float

    def times(self, runs: int) -> "Prediction":
        """That many runs, one after the other."""
        return Prediction(self.cores, self.fitted * runs, self.low * runs, self.high * runs)


def fit(points: Sequence[Point]) -> Model:
    """The model of some measurements. A :class:`TooFewPointsError` says how many more are needed."""
    sizes, cores = ({getattr(point, name) for point in points} for name in ("rows", "cores"))
    if len(sizes) < LEAST_SIZES or len(cores) < LEAST_CORES:
        raise TooFewPointsError(
            f"a fit needs measurements of {LEAST_SIZES} sizes on {LEAST_CORES} numbers of cores; "
            f"there are {len(sizes)} and {len(cores)}"
        )
    return _solved(points)


def quality(model: Model, points: Sequence[Point]) -> Quality:
    """How well a fitted model predicts its own measurements, and those of the largest size when it is fitted without them."""
    errors = [abs(_error(model, point)) for point in points]
    largest = max(point.rows for point in points)
    without = _solved([point for point in points if point.rows != largest])
    held_out = [(point, _error(without, point)) for point in points if point.rows == largest]
    return Quality(max(errors), statistics.median(errors), held_out)


def refits(points: Sequence[Point], seed: int = 0) -> Refits:
    """Refit some measurements; errors that are distributed at random are made larger, because the terms of the fit have taken up a part of them."""
    model = fit(points)
    sizes = sorted({point.rows for point in points})
    left_out = [_solved([point for point in points if point.rows != rows]) for rows in sizes]
    fitted = np.array([model.seconds(point.rows, point.cores) for point in points])
    free = len(points) - sum(term > 0 for term in astuple(model))
    errors = (np.array([_known(point) for point in points]) / fitted - 1) * (len(points) / max(free, 1)) ** 0.5
    chance = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS):
        seconds = fitted * np.maximum(1 + chance.choice(errors, len(points)), 0.05)
        again = [Point(point.rows, point.cores, value) for point, value in zip(points, seconds, strict=True)]
        drawn.append(_solved(again))
    return Refits(left_out, drawn)


def predicted(
    model: Model, held: Quality, others: Refits, rows: int, cores: int, measured: int, efficiency: float
) -> Prediction:
    """The time of a run on that many cores. The ends of the range are the 5th and the 95th of a hundred drawn refits, or
    those without a size where they lie further out, moved by the worst error with which the largest size was foretold.
    At the low end all cores divide the shared work; at the high end those beyond the ``measured`` ones add less, so
    that all are worth ``efficiency`` of their number."""
    worth = cores if cores <= measured else max(measured, efficiency * cores)
    low, high = (
        [float(np.percentile([other.seconds(rows, of) for other in others.drawn], percent)),
         *(other.seconds(rows, of) for other in (model, *others.left_out))]
        for of, percent in ((cores, 5), (worth, 95))
    )  # fmt: skip
    wrong = [1 / (1 + error) for _, error in held.held_out]
    fitted = model.seconds(rows, cores)
    return Prediction(cores, fitted, min(low) * min(1, *wrong), max(high) * max(1, *wrong))


def smallest(predictions: Sequence[Prediction], seconds: float) -> Prediction | None:
    """The fewest cores that are done in time even at the high end; None where none of them is."""
    in_time = [item for item in predictions if item.high <= seconds]
    return min(in_time, key=lambda item: item.cores, default=None)


def _terms(rows: float, cores: float) -> NDArray[np.float64]:
    millions = rows / MILLION
    return np.array([1, 1 / cores, millions, millions / cores])


def _known(point: Point) -> float:
    return max(point.seconds, LEAST_SECONDS)


def _solved(points: Sequence[Point]) -> Model:
    terms = np.array([_terms(point.rows, point.cores) / _known(point) for point in points])
    found, _ = nnls(terms, np.ones(len(points)))
    return Model(*map(float, found))


def _error(model: Model, point: Point) -> float:
    return model.seconds(point.rows, point.cores) / _known(point) - 1
