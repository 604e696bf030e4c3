"""The estimates of an audit: shares weighted by how records were drawn, with limits that fit the design.

Where two readers differ, the adjudicated answer is used. The formulas are in :mod:`ebi_spark.statistics.stratified`. This module
counts records in cells and makes rows of ``gold/audit_estimate`` from the estimates.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np

from ebi_spark.case_audit.design import FLAGGED
from ebi_spark.case_audit.questions import CANNOT_TELL, NO, NOTES_FOUND, SUPPORTS_FLAG, VERDICT, YES
from ebi_spark.statistics.agreement import cohens_kappa
from ebi_spark.statistics.proportions import Limits, clopper_pearson, sample_size
from ebi_spark.statistics.stratified import CellCounts, Share
from ebi_spark.statistics.stratified import share as stratified_share
from ebi_spark.tables.table import RECORD_KEY

Key = tuple[str, ...]


@dataclass(frozen=True)
class Drawn:
    """One drawn record: where it was drawn, and what the readers of its notes found.

    ``cell_records``: records of the stratum and provider; ``cell_drawn``: how many of them were drawn. ``answers``: by question, the
    answers that estimates use; empty if no form was returned, only ``notes_found`` if the notes were not found. ``first`` and
    ``second``: the readers' own answers.
    """

    stratum: str
    provider: str
    cell_records: int
    cell_drawn: int
    flagged_by: frozenset[str] = frozenset()
    clauses: Mapping[str, str] = field(default_factory=dict)
    read_twice: bool = False
    returned: bool = True
    answers: Mapping[str, str] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    second: Mapping[str, str] = field(default_factory=dict)

    @property
    def notes_missing(self) -> bool:
        """Whether a form came back that says that the notes were not found."""
        return self.returned and self.answers.get(NOTES_FOUND) == NO


@dataclass(frozen=True)
class Estimate:
    """A row of ``gold/audit_estimate`` without the audit's own columns. The table has the meanings of the fields."""

    measure: str
    part: str = "overall"
    estimate: float | None = None
    lower: float | None = None
    upper: float | None = None
    worst: float | None = None
    best: float | None = None
    process_lower: float | None = None
    process_upper: float | None = None
    method: str | None = None
    records: int | None = None
    forms: int = 0
    counted: int | None = None
    effective: float | None = None
    not_returned: int = 0
    notes_not_found: int = 0
    cannot_tell: int = 0
    status: str = "ok"


def drawn_records(sample: Iterable[Mapping[str, Any]], results: Iterable[Mapping[str, Any]]) -> list[Drawn]:
    """The drawn records from rows of ``gold/audit_sample`` and ``gold/audit_result`` of one audit.

    | record_id | its results: reader, clause_id, found         | → returned | answers           |
    |-----------|-----------------------------------------------|------------|-------------------|
    | 1         | first, verdict, yes; adjudicated, verdict, no | True       | {verdict: no}     |
    | 2         | first, notes_found, no                        | True       | {notes_found: no} |
    | 3         | none                                          | False      | {}                |
    """
    found: dict[Key, dict[str, dict[str, str]]] = {}
    for row in results:
        key = tuple(row[name] for name in RECORD_KEY)
        found.setdefault(key, {}).setdefault(row["reader"], {})[row["clause_id"]] = row["found"]
    drawn = []
    for row in sample:
        by_reader = found.get(tuple(row[name] for name in RECORD_KEY), {})
        first = by_reader.get("first", {})
        drawn.append(
            Drawn(
                stratum=row["stratum"],
                provider=row["provider_code"],
                cell_records=row["records_in_stratum"],
                cell_drawn=row["records_drawn"],
                flagged_by=frozenset(row["flagged_by"]),
                clauses=row["clauses"],
                read_twice=row["read_twice"],
                returned=bool(by_reader),
                answers=first | by_reader.get("adjudicated", {}),
                first=first,
                second=by_reader.get("second", {}),
            )
        )
    return drawn


def share(
    measure: str,
    drawn: Sequence[Drawn],
    question: str = VERDICT,
    *,
    part: str = "overall",
    belongs: Callable[[Drawn], bool] = lambda _: True,
    yes: str = YES,
    whole: bool = True,
) -> Estimate:
    """The share of the records of a group for which the answer to ``question`` is ``yes``.

    The group is all records of the frame for which ``belongs`` is true. ``whole``: the group consists of whole strata, so its
    number of records is known without the sample. ``yes``: the answer that is counted; it can be *no*.
    """
    group = [unit for unit in drawn if belongs(unit)]
    strata = sorted({unit.stratum for unit in group})
    cells: dict[tuple[str, str], _Cell] = {}
    for unit in drawn:
        if unit.stratum in strata:
            cell = cells.setdefault((unit.stratum, unit.provider), _Cell(unit.cell_records, unit.cell_drawn))
            if belongs(unit):
                answer = unit.answers.get(question)
                cell.in_group += 1
                cell.answered += answer in (YES, NO)
                cell.positive += answer == yes
    about = Estimate(
        measure,
        part,
        records=sum(cell.records for cell in cells.values()) if whole else None,
        forms=sum(cell.answered for cell in cells.values()),
        counted=sum(cell.positive for cell in cells.values()),
        not_returned=sum(not unit.returned for unit in group),
        notes_not_found=sum(unit.notes_missing for unit in group),
        cannot_tell=sum(unit.answers.get(question) == CANNOT_TELL for unit in group),
    )
    if not about.forms:
        return replace(about, status="no_answers")
    stratum = np.array([strata.index(name) for name, _ in cells])
    records, chosen, in_group, answered, positive = np.array([astuple(cell) for cell in cells.values()], dtype=float).T
    found = stratified_share(CellCounts(stratum, records, chosen, in_group, answered, positive, whole))
    census = bool(found.census)
    worst, best = _extremes(group, question, yes)
    process = clopper_pearson(int(positive.sum()), about.forms) if census else Limits(None, None)
    return replace(
        about,
        estimate=float(found.value),
        lower=float(found.lower),
        upper=float(found.upper),
        worst=worst,
        best=best,
        process_lower=process.lower,
        process_upper=process.upper,
        method=_method(found, len(strata)),
        effective=float(about.forms if census else found.effective),
        status="incomplete" if int(found.missing_strata) else "ok",
    )


@dataclass
class _Cell:
    """Records of a stratum at a provider: all, drawn, and of the drawn ones those in the group and their answers."""

    records: int
    drawn: int
    in_group: int = 0
    answered: int = 0
    positive: int = 0


def _method(found: Share, strata: int) -> str:
    """How the limits of a share over a number of strata were calculated."""
    if bool(found.census):
        return "census"
    if bool(found.few):
        return "clopper_pearson"
    return "wilson" if strata == 1 and bool(found.equal_weights) else "hajek"


def _extremes(group: Sequence[Drawn], question: str, yes: str) -> tuple[float, float]:
    """The weighted share with every record without an answer counted as no, and as yes."""
    weights = [unit.cell_records / unit.cell_drawn for unit in group]
    answers = [unit.answers.get(question) for unit in group]
    total = sum(weights)
    counted = sum(weight for weight, answer in zip(weights, answers, strict=True) if answer == yes)
    open_ = sum(weight for weight, answer in zip(weights, answers, strict=True) if answer not in (YES, NO))
    return counted / total, (counted + open_) / total


def audit_estimates(drawn: Sequence[Drawn], reading: str, precision: float = 0.05) -> list[Estimate]:
    """Every estimate of an audit whose strata are those of ``reading``.

    ``precision``: the wanted distance from an estimate to its limits, for the sample sizes.
    """
    is_flagged = _in(FLAGGED)
    flagged = [unit for unit in drawn if is_flagged(unit)]
    others = [unit for unit in drawn if not is_flagged(unit)]
    readings = sorted({reading, *(name for unit in drawn for name in unit.flagged_by)})
    ppv = share("positive_predictive_value", flagged)
    missed = share("missed_cases", others)
    rows = [ppv, *_by_clause(flagged)]
    for name in readings:
        flags = _flagged_by(name)
        whole = name == reading
        rows.append(share("positive_predictive_value", drawn, part=f"reading:{name}", belongs=flags, whole=whole))
    rows.append(missed)
    strata = sorted({unit.stratum for unit in drawn}, key=lambda name: (name != FLAGGED, name))
    rows += [
        share("missed_cases", others, part=f"stratum:{name}", belongs=_in(name)) for name in strata if name != FLAGGED
    ]
    for name in readings:
        if name != reading:
            rows.append(
                share("missed_cases", drawn, part=f"reading:{name}", belongs=_not_flagged_by(name), whole=False)
            )
    rows += _corrected(drawn, ppv, missed)
    rows += [_answers_of_stratum(name, [unit for unit in drawn if unit.stratum == name]) for name in strata]
    rows += _agreement(drawn)
    return [*rows, *(_wanted_size(row, precision) for row in (ppv, missed))]


def _in(stratum: str) -> Callable[[Drawn], bool]:
    return lambda unit: unit.stratum == stratum


def _flagged_by(reading: str) -> Callable[[Drawn], bool]:
    return lambda unit: reading in unit.flagged_by


def _not_flagged_by(reading: str) -> Callable[[Drawn], bool]:
    return lambda unit: reading not in unit.flagged_by


def _by_clause(flagged: Sequence[Drawn]) -> list[Estimate]:
    """Of the flagged records, the share whose notes agree with each clause; for a clause that no code can express, the share
    whose notes show it."""
    kinds = {clause: kind for unit in flagged for clause, kind in unit.clauses.items()}
    rows = []
    for clause, kind in kinds.items():

        def asked(unit: Drawn, clause: str = clause) -> bool:
            return clause in unit.clauses

        measure = "positive_predictive_value" if kind in SUPPORTS_FLAG else "not_codable_in_notes"
        # Revisions can have different clauses: then the group cuts through the stratum.
        whole = all(map(asked, flagged))
        rows.append(
            share(
                measure, flagged, clause, part=f"clause:{clause}", belongs=asked, whole=whole,
                yes=SUPPORTS_FLAG.get(kind, YES),
            )
        )  # fmt: skip
    return rows


def _corrected(drawn: Sequence[Drawn], ppv: Estimate, missed: Estimate) -> list[Estimate]:
    """The records in scope that the notes confirm: flagged × positive predictive value + not flagged × missed cases, as a share of
    those in scope and as a number. Rogan and Gladen's formula is a check that uses the forms in another way: see
    :func:`_sensitivity_and_specificity`."""
    flagged, others = ppv.records or 0, missed.records or 0
    everybody = flagged + others
    apparent = flagged / everybody
    seen = Estimate("flagged_share", estimate=apparent, method="count", records=everybody)
    if (flagged and ppv.estimate is None) or (others and missed.estimate is None):
        names = ("corrected_share", "corrected_records", "sensitivity", "specificity", "rogan_gladen")
        return [seen, *(Estimate(name, status="no_answers", records=everybody) for name in names)]
    whole = share("corrected_share", drawn)
    corrected = whole if whole.method == "census" else replace(whole, method="mover")

    def number(value: float | None) -> float | None:
        return None if value is None else value * everybody

    records = replace(
        corrected,
        measure="corrected_records",
        estimate=number(corrected.estimate),
        lower=number(corrected.lower),
        upper=number(corrected.upper),
        worst=number(corrected.worst),
        best=number(corrected.best),
        process_lower=None,
        process_upper=None,
    )
    sensitivity, specificity = _sensitivity_and_specificity(drawn)
    check = rogan_gladen(apparent, sensitivity, specificity)
    return [
        seen,
        corrected,
        records,
        *(
            Estimate(
                name, estimate=value, method="count", records=everybody, forms=corrected.forms,
                status="undefined" if value is None else corrected.status,
            )
            for name, value in (("sensitivity", sensitivity), ("specificity", specificity), ("rogan_gladen", check))
        ),
    ]  # fmt: skip


def _sensitivity_and_specificity(drawn: Sequence[Drawn]) -> tuple[float | None, float | None]:
    """Two shares: of the records that readers confirm, those that are flagged; and of the records that readers do not confirm, those
    that are not flagged. A share of no records is None.

    Each form has the weight 1/π, without an adjustment for missing answers. The corrected share adjusts for them within
    each stratum. So Rogan and Gladen's formula gives the same share if every drawn record has an answer, and another one if
    answers are missing more often in one stratum or at one provider than elsewhere.

    | flagged | verdict | N, m of the cell | weight |
    |---------|---------|------------------|--------|
    | yes     | yes     | 40, 4            | 10     |
    | no      | yes     | 10, 2            | 5      |

    The sensitivity of these two forms is 10 / 15.
    """
    weights: dict[tuple[bool, str | None], float] = {}
    for unit in drawn:
        cell = unit.stratum == FLAGGED, unit.answers.get(VERDICT)
        weights[cell] = weights.get(cell, 0.0) + unit.cell_records / unit.cell_drawn

    def share_of(flagged: bool, verdict: str) -> float | None:
        right, wrong = (weights.get((side, verdict), 0.0) for side in (flagged, not flagged))
        return right / (right + wrong) if right + wrong else None

    return share_of(True, YES), share_of(False, NO)


def rogan_gladen(apparent: float, sensitivity: float | None, specificity: float | None) -> float | None:
    """The true share that corresponds to an apparent one (Rogan and Gladen, American Journal of Epidemiology 1978), limited to 0
    to 1. None (undefined) if sensitivity and specificity add up to 1 or less: the flag then gives no information."""
    if sensitivity is None or specificity is None or sensitivity + specificity <= 1 + 1e-12:
        return None
    return min(1.0, max(0.0, (apparent + specificity - 1) / (sensitivity + specificity - 1)))


def _answers_of_stratum(stratum: str, units: Sequence[Drawn]) -> Estimate:
    """How many drawn records of a stratum have a verdict, and why the others do not."""
    answered = sum(unit.answers.get(VERDICT) in (YES, NO) for unit in units)
    return Estimate(
        "answered", f"stratum:{stratum}", answered / len(units), method="count",
        records=sum({unit.provider: unit.cell_records for unit in units}.values()), forms=answered,
        not_returned=sum(not unit.returned for unit in units),
        notes_not_found=sum(unit.notes_missing for unit in units),
        cannot_tell=sum(unit.answers.get(VERDICT) == CANNOT_TELL for unit in units),
    )  # fmt: skip


def _agreement(drawn: Sequence[Drawn]) -> list[Estimate]:
    """Kappa of the two readers for the verdict and each clause, from the answers before adjudication."""
    pairs = [unit for unit in drawn if unit.read_twice and unit.first and unit.second]
    questions = [VERDICT, *dict.fromkeys(clause for unit in drawn for clause in unit.clauses)]
    rows = []
    for question in questions:
        counts: dict[tuple[str, str], int] = {}
        for unit in pairs:
            if question in unit.first and question in unit.second:
                pair = unit.first[question], unit.second[question]
                counts[pair] = counts.get(pair, 0) + 1
        found = cohens_kappa(counts)
        agreed = [counts.get((answer, answer), 0) for answer in (YES, NO)]
        part = "overall" if question == VERDICT else f"clause:{question}"
        rows.append(
            Estimate(
                "kappa", part, found.value, found.lower, found.upper, method="kappa", forms=found.pairs,
                counted=min(*agreed, found.pairs - sum(agreed)) if found.status == "ok" else None, status=found.status,
            )
        )  # fmt: skip
    return rows


def _wanted_size(of: Estimate, precision: float) -> Estimate:
    """How many records of the same frame would have to be read, drawn as this sample was, for limits within ``precision`` of the
    estimate. Records without an answer have to be added."""
    part = of.measure
    if of.estimate is None or not of.effective or not of.records:
        return Estimate("sample_size", part, status="no_answers")
    simple = sample_size(of.estimate, precision)
    # `effective` contains the finite-population correction of this sample, which another size would have differently.
    uncorrected = of.effective * (1 - of.forms / of.records) if of.forms < of.records else float(of.forms)
    needed = simple * of.forms / uncorrected
    wanted = ceil(needed / (1 + needed / of.records))
    return Estimate("sample_size", part, float(wanted), method="count", records=of.records, forms=of.forms)
