"""The design of a case-note audit and its estimates: worked by hand, beside statsmodels, and over simulated audits."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from ebi_spark.case_audit.design import FLAGGED, Cell, allocate
from ebi_spark.case_audit.estimates import Drawn, Estimate, audit_estimates, rogan_gladen, share
from ebi_spark.errors import InputError
from ebi_spark.statistics.agreement import cohens_kappa
from ebi_spark.statistics.stratified import CellCounts, Share
from ebi_spark.statistics.stratified import share as stratified_share

CELLS: dict[Cell, int] = {
    ("flagged", "A"): 40, ("flagged", "B"): 3, ("flagged", "C"): 1, ("near_miss:deformity", "A"): 5,
    ("rest", "A"): 100, ("rest", "B"): 20,
}  # fmt: skip


def units(stratum: str, provider: str, drawn: int, of: int, true: int, unread: int = 0) -> list[Drawn]:
    """Drawn records with a verdict; the last ``unread`` without a form."""
    one = Drawn(stratum, provider, of, drawn, flagged_by=frozenset({"as_published"} if stratum == FLAGGED else ()))
    verdicts = ["yes"] * true + ["no"] * (drawn - true - unread)
    read = [replace(one, answers={"notes_found": "yes", "verdict": verdict}) for verdict in verdicts]
    return read + [replace(one, returned=False)] * unread


def the(rows: list[Estimate], measure: str, part: str = "overall") -> Estimate:
    (found,) = [row for row in rows if (row.measure, row.part) == (measure, part)]
    return found


def test_every_cell_gets_its_fewest_and_the_size_is_met() -> None:
    design = allocate(CELLS, 40)
    assert design.size == 40
    assert all(design.drawn[cell] >= min(2, number) for cell, number in CELLS.items())
    assert all(design.drawn[cell] <= number for cell, number in CELLS.items())
    assert design.drawn["flagged", "C"] == CELLS["flagged", "C"], "a cell of one record is drawn"


def test_a_size_that_cannot_be_met_names_the_smallest_that_can() -> None:
    with pytest.raises(InputError) as refused:
        allocate(CELLS, 10)
    assert "smallest size that can be met is 11" in refused.value.remedy
    assert allocate(CELLS, 11).size == 11


def test_a_cap_holds_over_all_strata_of_a_provider_or_names_the_smallest() -> None:
    design = allocate(CELLS, 30, cap=12)
    at_provider: Counter[str] = Counter()
    for (_, provider), number in design.drawn.items():
        at_provider[provider] += number
    assert max(at_provider.values()) <= 12
    assert min(design.drawn.values()) > 0, "a cap must leave every record a chance"
    with pytest.raises(InputError) as refused:
        allocate(CELLS, 30, cap=5)
    assert "smallest cap that can be met is 6" in refused.value.remedy


def test_more_places_than_records_draw_every_record() -> None:
    assert dict(allocate(CELLS, 10_000).drawn) == CELLS


def test_a_large_design_is_shared_out_quickly_and_evenly() -> None:
    cells = {(stratum, str(provider)): 10 + provider for stratum in ("flagged", "rest") for provider in range(150)}
    design = allocate(cells, 10_000, cap=100)
    assert design.size == 10_000
    shares = [design.drawn[cell] / number for cell, number in cells.items() if cell[0] == "rest" and number < 60]
    assert max(shares) - min(shares) < 0.1


def test_few_records_have_exact_limits() -> None:
    found = share("x", units(FLAGGED, "A", 20, 100_000, 15))
    assert (found.estimate, found.method, found.forms, found.records) == (0.75, "clopper_pearson", 20, 100_000)
    assert (found.lower, found.upper) == pytest.approx(proportion_confint(15, 20, method="beta"), abs=1e-9)


def test_many_records_of_equal_weight_have_wilson_limits() -> None:
    found = share("x", units(FLAGGED, "A", 200, 10_000_000, 150))
    assert (found.estimate, found.method) == (0.75, "wilson")
    assert (found.lower, found.upper) == pytest.approx(proportion_confint(150, 200, method="wilson"), abs=1e-5)


def test_unequal_weights_count_each_provider_by_its_records() -> None:
    found = share("x", units(FLAGGED, "A", 50, 100, 40) + units(FLAGGED, "B", 50, 400, 20))
    value = (100 * 0.8 + 400 * 0.4) / 500
    assert (found.estimate, found.method) == (pytest.approx(value), "hajek")
    # The textbook's variance of a stratified mean: the squares of the shares, (1 - f) s² / m.
    variance = 0.2**2 * 0.5 * (50 / 49 * 0.8 * 0.2) / 50 + 0.8**2 * 0.875 * (50 / 49 * 0.4 * 0.6) / 50
    assert found.lower is not None and found.upper is not None and found.effective is not None
    assert value * (1 - value) / found.effective == pytest.approx(variance, rel=0.04)
    assert (found.upper - found.lower) / 2 == pytest.approx(1.96 * variance**0.5, rel=0.05)


def test_a_stratum_read_whole_is_a_census_with_limits_for_the_process_apart() -> None:
    found = share("x", units(FLAGGED, "A", 20, 20, 14) + units(FLAGGED, "B", 10, 10, 7))
    assert (found.estimate, found.lower, found.upper, found.method) == (0.7, 0.7, 0.7, "census")
    assert (found.process_lower, found.process_upper) == pytest.approx(
        proportion_confint(21, 30, method="beta"), abs=1e-12
    )


def test_records_that_were_read_bound_the_limits() -> None:
    found = share("x", units(FLAGGED, "A", 18, 20, 18))
    assert (found.lower, found.upper) == (0.9, 1.0), "two records are left, so at least 18 of 20 are confirmed"


def test_forms_that_are_missing_are_made_up_for_within_their_stratum_and_bounded() -> None:
    drawn = units(FLAGGED, "A", 40, 400, 20, unread=10) + units("rest", "A", 40, 4000, 2)
    drawn[39] = replace(drawn[39], returned=True, answers={"notes_found": "no"})
    rows = audit_estimates(drawn, "as_published")
    flagged = the(rows, "positive_predictive_value")
    assert flagged.estimate == pytest.approx(20 / 30)
    assert (flagged.worst, flagged.best) == (pytest.approx(20 / 40), pytest.approx(30 / 40))
    assert (flagged.forms, flagged.counted, flagged.not_returned, flagged.notes_not_found) == (30, 20, 9, 1)
    corrected = the(rows, "corrected_share")
    assert corrected.estimate == pytest.approx((400 * 20 / 30 + 4000 * 0.05) / 4400)
    assert (corrected.method, the(rows, "corrected_records").estimate) == (
        "mover", pytest.approx(400 * 20 / 30 + 4000 * 0.05),
    )  # fmt: skip
    # Rogan and Gladen's formula on the forms as they were drawn: 10 for each flagged one, 100 for each other one. Answers are
    # missing among the flagged only, so the check differs from the corrected share.
    sensitivity, specificity = 200 / (200 + 200), 3800 / (3800 + 100)
    assert the(rows, "sensitivity").estimate == pytest.approx(sensitivity)
    assert the(rows, "specificity").estimate == pytest.approx(specificity)
    check = (400 / 4400 + specificity - 1) / (sensitivity + specificity - 1)
    assert the(rows, "rogan_gladen").estimate == pytest.approx(check)
    assert abs(check - corrected.estimate) > 0.02
    answered = the(rows, "answered", "stratum:flagged")
    assert (answered.estimate, answered.records) == (0.75, 400)


def test_no_answer_gives_no_figure_and_a_stratum_without_one_is_said() -> None:
    rows = audit_estimates(units(FLAGGED, "A", 5, 50, 0, unread=5) + units("rest", "A", 5, 50, 1), "as_published")
    for measure in ("positive_predictive_value", "corrected_share", "rogan_gladen", "sensitivity"):
        assert (the(rows, measure).status, the(rows, measure).estimate) == ("no_answers", None)
    assert the(rows, "kappa").status == "few_pairs"
    others = units("near_miss:a", "A", 5, 50, 0, unread=5) + units("rest", "A", 40, 400, 8)
    missed = the(audit_estimates(units(FLAGGED, "A", 5, 50, 3) + others, "as_published"), "missed_cases")
    assert (missed.status, missed.estimate) == ("incomplete", pytest.approx(0.2))
    assert missed.best == pytest.approx((50 + 80) / 450)


def test_estimates_by_clause_and_reading_worked_by_hand() -> None:
    clauses = {"procedure": "scope", "diagnosis": "require", "deformity": "exclude", "viscera": "note"}

    def read(stratum: str, by: set[str], of: int, drawn: int, **answers: str) -> Drawn:
        return Drawn(stratum, "A", of, drawn, frozenset(by), clauses, answers={"notes_found": "yes"} | answers)

    drawn = [
        read(FLAGGED, {"a", "b"}, 40, 4, verdict="yes", procedure="yes", diagnosis="yes", deformity="no", viscera="no"),
        read(FLAGGED, {"a", "b"}, 40, 4, verdict="yes", procedure="yes", diagnosis="yes", deformity="no", viscera="yes"),
        read(FLAGGED, {"a"}, 40, 4, verdict="no", procedure="yes", diagnosis="no", deformity="no", viscera="no"),
        read(FLAGGED, {"a"}, 40, 4, verdict="no", procedure="yes", diagnosis="cannot_tell", deformity="yes", viscera="no"),
        read("readings_disagree", {"b"}, 10, 2, verdict="yes"),
        read("readings_disagree", {"b"}, 10, 2, verdict="no"),
        read("rest", set(), 100, 2, verdict="no"),
        read("rest", set(), 100, 2, verdict="no"),
    ]  # fmt: skip
    rows = audit_estimates(drawn, "a")
    value = {(row.measure, row.part): row.estimate for row in rows}
    assert value["positive_predictive_value", "clause:procedure"] == 1
    assert value["positive_predictive_value", "clause:diagnosis"] == pytest.approx(2 / 3)
    assert value["positive_predictive_value", "clause:deformity"] == pytest.approx(3 / 4)
    assert the(rows, "positive_predictive_value", "clause:deformity").counted == 3, "three notes show no deformity"
    assert the(rows, "sensitivity").counted is the(rows, "kappa").counted is None
    assert value["not_codable_in_notes", "clause:viscera"] == pytest.approx(1 / 4)
    assert the(rows, "positive_predictive_value", "clause:diagnosis").cannot_tell == 1
    assert value["positive_predictive_value", "reading:a"] == value["positive_predictive_value", "overall"] == 0.5
    # Reading b flags the first two (weight 10 each) and both of the second stratum (weight 5 each).
    assert value["positive_predictive_value", "reading:b"] == pytest.approx((20 + 5) / 30)
    assert value["missed_cases", "overall"] == pytest.approx(5 / 110)
    assert value["missed_cases", "stratum:readings_disagree"] == 0.5
    assert value["missed_cases", "reading:b"] == 0
    assert value["flagged_share", "overall"] == pytest.approx(40 / 150)
    assert value["corrected_share", "overall"] == pytest.approx((40 * 0.5 + 110 * 5 / 110) / 150)
    assert value["sensitivity", "overall"] == pytest.approx(20 / 25)
    assert value["specificity", "overall"] == pytest.approx(105 / 125)
    assert value["rogan_gladen", "overall"] == pytest.approx(value["corrected_share", "overall"])


def test_the_sample_size_for_a_precision() -> None:
    drawn = units(FLAGGED, "A", 100, 1000, 70) + units("rest", "A", 100, 1000, 10)
    wanted = the(audit_estimates(drawn, "as_published", 0.05), "sample_size", "positive_predictive_value").estimate
    # 319 of an endless frame: 319 / (1 + 319 / 1000) of a thousand records.
    assert wanted is not None
    assert abs(wanted - 319 / 1.319) < 3
    again = share("x", units(FLAGGED, "A", int(wanted), 1000, round(0.7 * wanted)))
    assert again.lower is not None and again.upper is not None
    assert again.upper - again.lower == pytest.approx(0.1, abs=0.002)


@pytest.mark.parametrize(
    "sensitivity, specificity, expected",
    [(0.9, 0.8, (0.3 - 0.2) / 0.7), (0.9, 0.65, 0.0), (0.2, 1.0, 1.0), (0.5, 0.5, None), (None, 0.9, None)],
)
def test_rogan_gladen_is_clamped_and_undefined_where_the_flag_says_nothing(
    sensitivity: float | None, specificity: float | None, expected: float | None
) -> None:
    assert rogan_gladen(0.3, sensitivity, specificity) == (expected if expected is None else pytest.approx(expected))


# A thousand audits of one made-up truth at a time: where the limits hold it.

SIMULATIONS = 1000


class Frame:
    """Records of made-up providers with known answers, and a thousand samples of them."""

    def __init__(self, seed: int, providers: int, size: int, ppv: float, miss: float, returned: float, spread: float):
        self.draw = draw = np.random.default_rng(seed)
        sizes: dict[Cell, int] = {}
        true: dict[Cell, int] = {}
        for provider in map(str, range(providers)):
            for stratum, lowest, highest, confirmed in (
                (FLAGGED, 10, 60, ppv), ("readings_disagree", 2, 20, 0.4), ("near_miss:a", 1, 15, 0.2),
                ("rest", 40, 150, miss),
            ):  # fmt: skip
                here = np.clip(confirmed + draw.uniform(-spread, spread), 0, 1)
                sizes[stratum, provider] = int(draw.integers(lowest, highest + 1))
                true[stratum, provider] = int(draw.binomial(sizes[stratum, provider], here))
        design = allocate(sizes, size)
        cells = sorted(sizes)
        self.names = np.array([stratum for stratum, _ in cells])
        self.stratum = np.unique(self.names, return_inverse=True)[1]
        self.records, self.true, self.drawn = (
            np.array([counts[cell] for cell in cells]) for counts in (sizes, true, design.drawn)
        )
        self.returned = returned

    def coverage(self, cells: np.ndarray) -> tuple[float, Share]:
        """Of the samples of some cells: how many have limits that hold the truth, and the shares."""
        shape = (SIMULATIONS, len(self.records))
        positive = self.draw.hypergeometric(self.true, self.records - self.true, self.drawn, size=shape)
        answered_yes = self.draw.binomial(positive, self.returned)
        answered = answered_yes + self.draw.binomial(self.drawn - positive, self.returned)
        found = stratified_share(
            CellCounts(
                self.stratum[cells], self.records[cells], self.drawn[cells], self.drawn[cells], answered[:, cells],
                answered_yes[:, cells],
            )
        )  # fmt: skip
        return self._held(found, self.true[cells].sum() / self.records[cells].sum()), found

    def coverage_of_another_reading(self) -> tuple[float, Share]:
        """The same of a group that cuts through two strata: what another reading flags, the confirmed ones more often."""
        cells = np.isin(self.names, (FLAGGED, "readings_disagree"))
        often = np.where(self.names == FLAGGED, 0.7, 0.5)
        true = self.draw.binomial(self.true, often)
        false = self.draw.binomial(self.records - self.true, often * 0.8)
        shape = (SIMULATIONS, len(self.records))
        yes = self.draw.hypergeometric(true, self.records - true, self.drawn, size=shape)
        no = self.draw.hypergeometric(false, self.records - true - false, self.drawn - yes)
        answered_yes = self.draw.binomial(yes, self.returned)
        answered = answered_yes + self.draw.binomial(no, self.returned)
        found = stratified_share(
            CellCounts(
                self.stratum[cells], self.records[cells], self.drawn[cells], (yes + no)[:, cells], answered[:, cells],
                answered_yes[:, cells], whole=False,
            )
        )  # fmt: skip
        return self._held(found, true[cells].sum() / (true + false)[cells].sum()), found

    @staticmethod
    def _held(found: Share, truth: float) -> float:
        return float(np.mean((found.lower <= truth + 1e-12) & (truth - 1e-12 <= found.upper)))


def coverages(frame: Frame) -> dict[str, tuple[float, Share]]:
    flagged = frame.names == FLAGGED
    return {
        "positive_predictive_value": frame.coverage(flagged),
        "missed_cases": frame.coverage(~flagged),
        "corrected_share": frame.coverage(np.full(len(flagged), True)),
        "another_reading": frame.coverage_of_another_reading(),
    }


@pytest.mark.parametrize("spread", [0.05, 0.1, 0.25])
@pytest.mark.parametrize(
    "providers, size, ppv, miss, returned",
    [
        (10, 260, 0.7, 0.25, 1.0),
        (10, 300, 0.7, 0.3, 0.8),
        (20, 400, 0.5, 0.2, 1.0),
        (30, 500, 0.6, 0.2, 0.8),
        (12, 300, 0.5, 0.3, 0.7),
        (40, 500, 0.5, 0.15, 1.0),
    ],
)
def test_wilson_and_weighted_limits_hold_the_truth_in_95_of_100_audits(
    providers: int, size: int, ppv: float, miss: float, returned: float, spread: float
) -> None:
    frame = Frame(providers * 1000 + size, providers, size, ppv, miss, returned, spread)
    found = coverages(frame)
    many = {measure: covered for measure, (covered, shares) in found.items() if shares.few.mean() < 0.05}
    assert {"positive_predictive_value", "missed_cases", "corrected_share"} <= set(many)
    assert all(found[measure][1].effective.mean() > 30 for measure in many)
    assert all(0.93 <= covered <= 0.97 for covered in many.values()), many
    assert all(covered >= 0.93 for covered, _ in found.values())


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("spread", [0.05, 0.4])
@pytest.mark.parametrize(
    "providers, size, ppv, miss, returned",
    [(3, 60, 0.5, 0.1, 1.0), (5, 100, 0.9, 0.02, 1.0), (4, 60, 0.95, 0.0, 0.7), (2, 150, 0.7, 0.05, 0.9)],
)
def test_limits_of_few_records_hold_the_truth_at_least_as_often(
    providers: int, size: int, ppv: float, miss: float, returned: float, spread: float, seed: int
) -> None:
    frame = Frame(seed, providers, size, ppv, miss, returned, spread)
    for measure, (covered, found) in coverages(frame).items():
        assert covered >= 0.93, (measure, covered, found.few.mean())


@pytest.mark.parametrize("pairs", [30, 40, 80, 200])
@pytest.mark.parametrize("confirmed, right", [(0.5, 0.9), (0.8, 0.85), (0.3, 0.75), (0.5, 0.98), (0.9, 0.95)])
def test_limits_of_kappa_hold_the_truth(pairs: int, confirmed: float, right: float) -> None:
    """Two readers who are each right on a record with the same probability."""
    both, one = confirmed * right**2 + (1 - confirmed) * (1 - right) ** 2, right * (1 - right)
    agreed, says_yes = 1 - 2 * one, both + one
    chance = says_yes**2 + (1 - says_yes) ** 2
    truth = (agreed - chance) / (1 - chance)
    draw = np.random.default_rng(pairs)
    covered = []
    for counts in draw.multinomial(pairs, [both, one, one, 1 - both - 2 * one], size=SIMULATIONS):
        answers = [("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no")]
        found = cohens_kappa({pair: int(count) for pair, count in zip(answers, counts, strict=True)})
        if found.lower is not None and found.upper is not None:
            covered.append(found.lower <= truth + 1e-12 and truth - 1e-12 <= found.upper)
    assert len(covered) > 0.95 * SIMULATIONS
    assert np.mean(covered) >= 0.93
