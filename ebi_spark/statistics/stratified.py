"""A share from a stratified sample, with limits that fit how it was drawn.

The sample is drawn in *cells* (a stratum at a provider). In each cell some of the records are drawn, all with the same
probability. The last axis of every array is that of the cells. The axes before it are repeated samples, which are computed together.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, t

from ebi_spark.statistics.levels import TAIL, Z_95

Array = NDArray[Any]

# With fewer records, or fewer expected of either answer, limits are exact.
FEWEST_RECORDS, FEWEST_EXPECTED = 30, 5


@dataclass(frozen=True)
class CellCounts:
    """What was drawn and found in each cell.

    ``records``: records of the cell (N). ``drawn``: how many of them were drawn (m, at least 1). ``in_group``: drawn records
    of the group whose share is wanted; the group can cut through cells. ``answered``: records of the group with an answer.
    ``positive``: those whose answer is yes. ``stratum``: the number of the cell's stratum. ``whole``: whether the group is
    made of whole strata.
    """

    stratum: Array
    records: Array
    drawn: Array
    in_group: Array
    answered: Array
    positive: Array
    whole: bool = True


@dataclass(frozen=True)
class Share:
    """A share with its limits; NaN where no record of the group has an answer.

    ``few``: limits are exact. ``census``: every record of the group was drawn and has an answer. ``equal_weights``: all
    records with an answer have the same weight. ``effective``: the number of records in a simple random sample that would give
    as much information; infinite for a census.
    ``missing_strata``: strata of the group without any answer, which the share leaves out.
    """

    value: Array
    lower: Array
    upper: Array
    few: Array
    census: Array
    equal_weights: Array
    effective: Array
    missing_strata: Array


def share(cells: CellCounts) -> Share:
    """The share of a group's records whose answer is yes.

    Within a stratum it is a Hájek mean with the weights N / m, so that the others of their stratum count for records
    without an answer. Its variance is linearised, within cells and with the finite-population correction. Strata are weighted by
    their numbers of records. Limits of one stratum are those of Wilson at the effective sample size (Korn and Graubard, Survey
    Methodology 1998), or exact (Clopper and Pearson) where records are few; those of several strata are combined through the
    variances that each stratum's limits imply (Zou and Donner, Statistics in Medicine 2008; Yan and Su 2010).
    """
    cells = _of_one_shape(cells)
    parts = [_stratum(cells, cells.stratum == number) for number in np.unique(cells.stratum)]
    sizes = np.stack([part.size for part in parts])
    known = np.stack([part.answered > 0 for part in parts])
    all_known = np.where(known, sizes, 0.0).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(known, sizes, 0.0) / all_known
        values = np.stack([np.where(part.answered > 0, part.value, 0.0) for part in parts])
        value = (shares * values).sum(0)
        census = np.stack([part.census | (part.size == 0) for part in parts]).all(0)
        # How many records of equal weight there would be, without the finite-population correction.
        kish = 1 / np.nansum(np.where(known, shares**2 / np.stack([part.kish for part in parts]), 0.0), 0)
        few = _few(value, kish, np.stack([part.unread for part in parts]).sum(0))
        # If most of the variance comes from strata with few records, the group also counts as one with few.
        variances = np.stack(
            [
                np.where(known_here, weight**2 * part.value * (1 - part.value) / part.effective, 0.0)
                for known_here, weight, part in zip(known, shares, parts, strict=True)
            ]
        )
        of_few = np.stack([_few(part.value, part.kish, part.unread) for part in parts])
        few |= np.where(of_few, variances, 0.0).sum(0) > variances.sum(0) / 2
    below, above = np.zeros_like(value), np.zeros_like(value)
    for part, weight in zip(parts, shares, strict=True):
        lower, upper = _limits(part, few)
        below += np.where(part.answered > 0, (weight * (part.value - lower)) ** 2, 0.0)
        above += np.where(part.answered > 0, (weight * (upper - part.value)) ** 2, 0.0)
    spread = _spread_of_sizes(cells, parts, value, all_known) * Z_95**2
    lower = np.maximum(0.0, value - np.sqrt(below + spread))
    upper = np.minimum(1.0, value + np.sqrt(above + spread))
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = 1 / np.where(known, shares**2 / np.stack([part.effective for part in parts]), 0.0).sum(0)
        weights = np.where(cells.answered > 0, cells.records / cells.drawn, np.nan)
    none = all_known == 0
    return Share(
        value=np.where(none, np.nan, value),
        lower=np.where(none, np.nan, np.where(census, value, lower)),
        upper=np.where(none, np.nan, np.where(census, value, upper)),
        few=few,
        census=census & ~none,
        equal_weights=~none & (np.fmax.reduce(weights, -1) - np.fmin.reduce(weights, -1) < 1e-9),
        effective=np.where(none, 0.0, effective),
        missing_strata=(~known & (sizes > 0)).sum(0),
    )


def _few(value: Array, read: Array, unread: Array) -> Array:
    """Whether there are too few records for limits that are not exact: too few read, or too few of either answer expected among
    those read or among those not read (an audit that read all but a few records)."""
    found: Array = (read < FEWEST_RECORDS) | (np.minimum(value, 1 - value) * np.minimum(read, unread) < FEWEST_EXPECTED)
    return found


def _of_one_shape(cells: CellCounts) -> CellCounts:
    records, drawn, in_group, answered, positive = (
        counts.astype(float)
        for counts in np.broadcast_arrays(cells.records, cells.drawn, cells.in_group, cells.answered, cells.positive)
    )
    return CellCounts(cells.stratum, records, drawn, in_group, answered, positive, cells.whole)


@dataclass(frozen=True)
class _Part:
    """The share of one stratum, and what its limits need.

    ``size``: its records that belong to the group; ``unread``: those of them without an answer. ``answered``: records with one.
    ``kish``: the number of records of equal weight that they correspond to; ``kish_corrected``: the same with the
    finite-population correction; ``effective``: the same, also with the gain from drawing at each provider. ``least``, ``most``:
    the lowest and highest share that the unread records could still make.
    """

    size: Array
    unread: Array
    answered: Array
    value: Array
    kish: Array
    kish_corrected: Array
    effective: Array
    census: Array
    least: Array
    most: Array


def _stratum(cells: CellCounts, own: Array) -> _Part:
    """The share of one stratum and what its limits need."""
    records, drawn, in_group, answered, positive = (
        counts[..., own] for counts in (cells.records, cells.drawn, cells.in_group, cells.answered, cells.positive)
    )
    weight = records / drawn
    with np.errstate(divide="ignore", invalid="ignore"):
        total = (weight * answered).sum(-1)
        value = (weight * positive).sum(-1) / total
        p = value[..., None]
        kish = total**2 / (weight**2 * answered).sum(-1)
        unread = 1 - np.where(in_group > 0, answered / in_group, 1.0) * drawn / records
        squares = weight**2 * (positive * (1 - p) ** 2 + (answered - positive) * p**2)
        sums = weight * (positive - p * answered)
        # Records with an answer are known, and so are those outside the group, which count as 0.
        known = answered + drawn - in_group
        within = np.where(known > 1, known / (known - 1) * (squares - sums**2 / known), squares)
        # Whether a form is returned is also chance, over the whole stratum: this part of the variance is not within cells.
        response = (total / (weight * in_group).sum(-1))[..., None]
        stratified = ((1 - drawn / records) * response * within + (1 - response) * squares).sum(-1)
        all_drawn = drawn.sum(-1)
        noise = unread * weight**2 * answered
        with_correction = np.where(noise.sum(-1) > 0, total**2 / noise.sum(-1), np.inf)
        # A variance from few cells is itself uncertain.
        freedom = np.maximum(1.0, noise.sum(-1) ** 2 / (noise**2 / np.maximum(drawn - 1, 1)).sum(-1))
        caution = (
            t.ppf(1 - TAIL, np.maximum(1.0, all_drawn - 1)) / t.ppf(1 - TAIL, np.nan_to_num(freedom, nan=1.0))
        ) ** 2
        # If providers differ, the sample is better than a simple random sample of the same size.
        exact = value * (1 - value) * all_drawn / (all_drawn - 1) * total**2 / stratified
        usable = (stratified > 0) & (value > 0) & (value < 1) & (all_drawn > 1)
        effective = np.where(usable, np.minimum(exact, 20 * with_correction), with_correction) * np.minimum(
            1.0, caution
        )
    all_records, every = records.sum(-1), answered.sum(-1)
    return _Part(
        size=(weight * in_group).sum(-1),
        unread=(weight * in_group).sum(-1) - every,
        answered=every,
        value=value,
        kish=kish,
        kish_corrected=with_correction,
        effective=effective,
        census=np.all((answered == in_group) & (drawn == records), axis=-1),
        least=positive.sum(-1) / all_records if cells.whole else np.zeros_like(value),
        most=1 - (answered - positive).sum(-1) / all_records if cells.whole else np.ones_like(value),
    )


def _limits(part: _Part, few: Array) -> tuple[Array, Array]:
    """The limits of one stratum's share; exact where the whole group has few records."""
    value = part.value
    with np.errstate(divide="ignore", invalid="ignore"):
        few_here = _few(value, part.kish, part.unread)
        size = np.where(few_here, part.kish_corrected, part.effective)
        z = Z_95
        centre = (value + z * z / (2 * size)) / (1 + z * z / size)
        half = z / (1 + z * z / size) * np.sqrt(value * (1 - value) / size + z * z / (4 * size * size))
        # Without the finite-population correction, exact limits are exact for any number of records left unread.
        events, others = value * part.kish, (1 - value) * part.kish
        exact_lower = np.where(value <= 0, 0.0, beta.ppf(TAIL, events, others + 1))
        exact_upper = np.where(value >= 1, 1.0, beta.ppf(1 - TAIL, events + 1, others))
        lower = np.where(few, exact_lower, np.maximum(0.0, centre - half))
        upper = np.where(few, exact_upper, np.minimum(1.0, centre + half))
        lower = np.minimum(value, np.maximum(lower, part.least))
        upper = np.maximum(value, np.minimum(upper, part.most))
    return np.where(part.census, value, lower), np.where(part.census, value, upper)


def _spread_of_sizes(cells: CellCounts, parts: list[_Part], value: Array, total: Array) -> Array:
    """The variance that comes from not knowing how many records of each stratum belong to the group; 0 for whole strata."""
    variance = np.zeros_like(value)
    for number, part in zip(np.unique(cells.stratum), parts, strict=True):
        own = cells.stratum == number
        records, drawn, in_group = (counts[..., own] for counts in (cells.records, cells.drawn, cells.in_group))
        weight = records / drawn
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.where(part.answered > 0, (part.value - value) / total, 0.0)[..., None] * weight
            squares = in_group * change**2
            within = drawn / (drawn - 1) * (squares - (in_group * change) ** 2 / drawn)
        variance += ((1 - drawn / records) * np.where(drawn > 1, within, 0.0)).sum(-1)
    return np.maximum(0.0, variance)
