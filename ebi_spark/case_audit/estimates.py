"""What returned forms say of the flags: shares weighted by how records were drawn, with limits that fit the design.

A *unit* is one drawn record whose notes were found and read. Its weight is 1/π, where π is the probability with which it was
drawn, raised within its stratum for the forms that were not returned and the notes that were not found.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt

from scipy.stats import beta

from ebi_spark.case_audit.design import FLAGGED
from ebi_spark.statistics.proportions import Limits, clopper_pearson, wilson

# Fewer units, or fewer expected of either answer, than these have exact limits.
FEW_UNITS, FEW_EXPECTED = 30, 5


@dataclass(frozen=True)
class Drawn:
    """One drawn record: where it was drawn, with which probability, and what its notes said.

    ``answers`` maps a question to True, False or None (the notes do not say); it is empty where no form was returned or the
    notes were not found, and ``returned`` says which.
    """

    stratum: str
    provider: str
    probability: float
    cell_records: int
    returned: bool = True
    notes_found: bool = True
    answers: Mapping[str, bool | None] | None = None

    def answer(self, question: str) -> bool | None:
        """The answer to one question; None where there is none."""
        return (self.answers or {}).get(question)


@dataclass(frozen=True)
class Estimate:
    """A share with its limits, and what they rest on.

    ``method``: ``exact`` (Clopper-Pearson), ``wilson`` or ``design`` (weighted, Hájek with linearised variance, Wilson limits
    of the effective size), ``census`` (every record of the group was read). ``worst`` and ``best`` count every record
    without an answer as False and as True. ``status`` is ``ok``, ``no_answers`` or ``undefined``.
    """

    value: float | None
    lower: float | None
    upper: float | None
    method: str
    units: int
    effective: float
    worst: float | None = None
    best: float | None = None
    status: str = "ok"
    process: Limits | None = None  # of a census: exact limits for the process behind the records


def share(
    drawn: Sequence[Drawn], question: str, belongs: Callable[[Drawn], bool] = lambda _: True, level: float = 0.95
) -> Estimate:
    """The share of the records of a group for which the answer to ``question`` is True.

    The group is all records of the frame for which ``belongs`` holds; it may cut through strata. Each stratum has limits of
    its own: exact where few, else Wilson's of its effective size. Limits of several strata are put together by Newcombe's
    square-and-add rule (MOVER), which keeps the limits of rare answers lopsided as they should be.
    """
    group = [unit for unit in drawn if belongs(unit)]
    strata = sorted({unit.stratum for unit in group})
    parts = [
        part
        for stratum in strata
        if (part := _of_stratum([unit for unit in group if unit.stratum == stratum], question, level)) is not None
    ]
    if not parts:
        return Estimate(None, None, None, "none", 0, 0.0, status="no_answers")
    total = sum(part.records for part in parts)
    value = sum(part.records * part.value for part in parts) / total
    units = sum(part.units for part in parts)
    worst, best = _extremes(group, question)
    if all(part.method == "census" for part in parts):
        events = sum(bool(unit.answer(question)) for unit in group)
        process = clopper_pearson(events, units, level)
        return Estimate(value, value, value, "census", units, float(units), worst, best, process=process)
    lower, upper = _together([(part.records / total, part.value, part.lower, part.upper) for part in parts])
    method = parts[0].method if len(parts) == 1 else "design"
    effective = 1 / sum((part.records / total) ** 2 / part.effective for part in parts if part.effective < inf)
    return Estimate(value, lower, upper, method, units, effective, worst, best)


@dataclass(frozen=True)
class _Part:
    """The share in the records of one stratum that belong to a group."""

    records: float  # estimated number in the frame
    value: float
    lower: float
    upper: float
    method: str
    units: int
    effective: float


def _of_stratum(units: Sequence[Drawn], question: str, level: float) -> _Part | None:
    read = [unit for unit in units if unit.answer(question) is not None]
    if not read:
        return None
    weights = [1 / unit.probability for unit in read]
    records = sum(1 / unit.probability for unit in units)
    value = sum(w for unit, w in zip(read, weights, strict=True) if unit.answer(question)) / sum(weights)
    if len(read) == len(units) and all(unit.probability == 1 for unit in units):
        return _Part(records, value, value, value, "census", len(read), inf)
    # Of a cell read whole nothing is left to chance; of others the part that was not read.
    answered = Counter((unit.stratum, unit.provider) for unit in read)
    unread = [1 - min(1.0, answered[unit.stratum, unit.provider] / unit.cell_records) for unit in read]
    noise = sum(w * w * part for w, part in zip(weights, unread, strict=True))
    effective = sum(weights) ** 2 / noise if noise > 0 else float(len(read))
    equal = max(weights) - min(weights) < 1e-9 * sum(weights)
    if len(read) < FEW_UNITS or min(value, 1 - value) * effective < FEW_EXPECTED:
        lower, upper = _exact(value, effective, level)
        return _Part(records, value, lower, upper, "exact", len(read), effective)
    return _Part(
        records, value, *_wilson(value, effective, level), "wilson" if equal else "design", len(read), effective
    )


def _together(parts: Iterable[tuple[float, float, float, float]]) -> tuple[float, float]:
    """Limits of a weighted sum of independent shares, from (weight, value, lower, upper) of each: square and add
    (Newcombe, Statistics in Medicine 1998; Zou and Donner 2008)."""
    listed = list(parts)
    value = sum(weight * share for weight, share, _, _ in listed)
    below = sqrt(sum((weight * (share - lower)) ** 2 for weight, share, lower, _ in listed))
    above = sqrt(sum((weight * (upper - share)) ** 2 for weight, share, _, upper in listed))
    return max(0.0, value - below), min(1.0, value + above)


def _wilson(value: float, effective: float, level: float) -> tuple[float, float]:
    lower, upper = wilson(value, effective, level)
    assert lower is not None and upper is not None
    return lower, upper


def corrected_share(
    drawn: Sequence[Drawn], question: str, flagged: int, not_flagged: int, level: float = 0.95
) -> Estimate:
    """The share of records in scope that the notes confirm: flagged × predictive value + unflagged × miss rate, over all.

    The two parts are drawn independently; their limits are put together by square and add. It holds for the audited
    providers and years only.
    """
    parts = [
        (number, share(drawn, question, belongs, level))
        for number, belongs in (
            (flagged, lambda unit: unit.stratum == FLAGGED),
            (not_flagged, lambda unit: unit.stratum != FLAGGED),
        )
        if number
    ]
    known = [
        (number, part.value, part.lower, part.upper)
        for number, part in parts
        if part.value is not None and part.lower is not None and part.upper is not None
    ]
    if not parts or len(known) < len(parts):
        return Estimate(None, None, None, "none", 0, 0.0, status="no_answers")
    everybody = flagged + not_flagged
    value = sum(number * share_of for number, share_of, _, _ in known) / everybody
    lower, upper = _together([(number / everybody, *limits) for number, *limits in known])  # type: ignore[misc]
    units, effective = sum(part.units for _, part in parts), sum(part.effective for _, part in parts)
    return Estimate(value, lower, upper, "design", units, effective)


def rogan_gladen(apparent: float, sensitivity: float | None, specificity: float | None) -> float | None:
    """The share behind an apparent one (Rogan and Gladen, American Journal of Epidemiology 1978), clamped to 0 to 1.
    None (undefined) where sensitivity and specificity together are 1 or less: the flag then says nothing."""
    if sensitivity is None or specificity is None or sensitivity + specificity <= 1:
        return None
    return min(1.0, max(0.0, (apparent + specificity - 1) / (sensitivity + specificity - 1)))


def _exact(value: float, effective: float, level: float) -> tuple[float, float]:
    """Clopper-Pearson limits of an effective size (Korn and Graubard, Survey Methodology 1998)."""
    events, tail = value * effective, (1 - level) / 2
    lower = 0.0 if value <= 0 else float(beta.ppf(tail, events, effective - events + 1))
    upper = 1.0 if value >= 1 else float(beta.ppf(1 - tail, events + 1, effective - events))
    return lower, upper


def _extremes(group: Sequence[Drawn], question: str) -> tuple[float | None, float | None]:
    """The weighted share with every record without an answer counted as False, and as True."""
    total = sum(1 / unit.probability for unit in group)
    if not total:
        return None, None
    true = sum(1 / unit.probability for unit in group if unit.answer(question))
    unknown = sum(1 / unit.probability for unit in group if unit.answer(question) is None)
    return true / total, (true + unknown) / total
