"""The design of a case-note audit and its estimates: worked by hand, beside statsmodels, and over simulated audits."""

import random
from collections import Counter

import pytest
from statsmodels.stats.proportion import proportion_confint

from ebi_spark.case_audit.design import FLAGGED, Cell, allocate
from ebi_spark.case_audit.estimates import Drawn, corrected_share, rogan_gladen, share
from ebi_spark.errors import DataError

CELLS: dict[Cell, int] = {
    ("flagged", "A"): 40, ("flagged", "B"): 3, ("flagged", "C"): 1, ("near_miss:deformity", "A"): 5,
    ("rest", "A"): 100, ("rest", "B"): 20,
}  # fmt: skip


def units(stratum: str, provider: str, drawn: int, of: int, true: int, unread: int = 0) -> list[Drawn]:
    answers = [True] * true + [False] * (drawn - true - unread) + [None] * unread
    return [Drawn(stratum, provider, drawn / of, of, answers={"confirmed": answer}) for answer in answers]


def test_every_cell_gets_its_fewest_and_the_size_is_met() -> None:
    design = allocate(CELLS, 40)
    assert design.size == 40
    assert all(design.drawn[cell] >= min(2, number) for cell, number in CELLS.items())
    assert all(design.drawn[cell] <= number for cell, number in CELLS.items())
    assert design.probability(("flagged", "C")) == 1


def test_a_size_that_cannot_be_met_names_the_smallest_that_can() -> None:
    with pytest.raises(DataError) as refused:
        allocate(CELLS, 10)
    assert "smallest size that can is 11" in refused.value.remedy
    assert allocate(CELLS, 11).size == 11


def test_a_cap_holds_over_all_strata_of_a_provider_or_names_the_smallest() -> None:
    design = allocate(CELLS, 30, cap=12)
    at_provider: Counter[str] = Counter()
    for (_, provider), number in design.drawn.items():
        at_provider[provider] += number
    assert max(at_provider.values()) <= 12
    assert min(design.drawn.values()) > 0, "a cap must leave every record a chance"
    with pytest.raises(DataError) as refused:
        allocate(CELLS, 30, cap=5)
    assert "smallest cap that can is 6" in refused.value.remedy


def test_more_places_than_records_draw_every_record() -> None:
    assert dict(allocate(CELLS, 10_000).drawn) == CELLS


def test_few_equal_units_have_exact_limits() -> None:
    found = share(units(FLAGGED, "A", 20, 100_000, 15), "confirmed")
    assert (found.value, found.method) == (0.75, "exact")
    assert (found.lower, found.upper) == pytest.approx(proportion_confint(15, 20, method="beta"), abs=1e-3)


def test_many_equal_units_have_wilson_limits() -> None:
    found = share(units(FLAGGED, "A", 200, 10_000_000, 150), "confirmed")
    assert (found.value, found.method) == (0.75, "wilson")
    assert (found.lower, found.upper) == pytest.approx(proportion_confint(150, 200, method="wilson"), abs=1e-4)


def test_unequal_weights_count_each_provider_by_its_records() -> None:
    drawn = units(FLAGGED, "A", 50, 100, 40) + units(FLAGGED, "B", 50, 400, 20)
    found = share(drawn, "confirmed")
    assert found.value == pytest.approx((100 * 0.8 + 400 * 0.4) / 500)
    assert found.method == "design"
    # By hand: (sum of w)² / sum of w² (1 - f), with w = 2 and 8, f = 1/2 and 1/8.
    assert found.effective == pytest.approx(500**2 / (50 * 4 * 0.5 + 50 * 64 * 0.875))


def test_a_stratum_read_whole_is_a_census_with_limits_for_the_process_apart() -> None:
    found = share(units(FLAGGED, "A", 30, 30, 21), "confirmed")
    assert (found.value, found.lower, found.upper, found.method) == (0.7, 0.7, 0.7, "census")
    assert found.process == pytest.approx(proportion_confint(21, 30, method="beta"), abs=1e-12)


def test_forms_not_returned_are_made_up_for_within_their_stratum_and_bounded() -> None:
    drawn = units(FLAGGED, "A", 40, 400, 20, unread=10) + units("rest", "A", 40, 4000, 2)
    flagged = share(drawn, "confirmed", lambda unit: unit.stratum == FLAGGED)
    assert flagged.value == pytest.approx(20 / 30)
    assert (flagged.worst, flagged.best) == (pytest.approx(20 / 40), pytest.approx(30 / 40))
    together = share(drawn, "confirmed")
    assert together.value == pytest.approx((400 * 20 / 30 + 4000 * 0.05) / 4400)


def test_no_answer_gives_no_figure() -> None:
    assert share(units(FLAGGED, "A", 5, 50, 0, unread=5), "confirmed").status == "no_answers"
    assert corrected_share(units(FLAGGED, "A", 5, 50, 3), "confirmed", 50, 100).status == "no_answers"


def test_the_corrected_share_is_worked_by_hand() -> None:
    drawn = units(FLAGGED, "A", 50, 500, 40) + units("rest", "A", 50, 1000, 5)
    found = corrected_share(drawn, "confirmed", 500, 1000)
    assert found.value == pytest.approx((500 * 0.8 + 1000 * 0.1) / 1500)
    assert found.lower is not None and found.upper is not None
    assert found.lower < found.value < found.upper  # type: ignore[operator]


@pytest.mark.parametrize(
    "sensitivity, specificity, expected",
    [(0.9, 0.8, (0.3 - 0.2) / 0.7), (0.9, 0.65, 0.0), (0.2, 1.0, 1.0), (0.5, 0.5, None), (None, 0.9, None)],
)
def test_rogan_gladen_is_clamped_and_undefined_where_the_flag_says_nothing(
    sensitivity: float | None, specificity: float | None, expected: float | None
) -> None:
    assert rogan_gladen(0.3, sensitivity, specificity) == (expected if expected is None else pytest.approx(expected))


def simulated(seed: int, providers: int, size: int, ppv: float, miss: float, returned: float) -> dict[str, float]:
    """The share of 1,000 audits of one made-up truth whose limits hold it."""
    draw = random.Random(seed)
    frame: dict[Cell, list[bool]] = {}
    for provider in map(str, range(providers)):
        for stratum, number, share_true in (
            (FLAGGED, draw.randint(10, 60), ppv), ("readings_disagree", draw.randint(2, 20), 0.4),
            ("near_miss:a", draw.randint(1, 15), 0.2), ("rest", draw.randint(40, 150), miss),
        ):  # fmt: skip
            here = min(1.0, max(0.0, share_true + draw.uniform(-0.1, 0.1)))
            frame[stratum, provider] = [draw.random() < here for _ in range(number)]
    design = allocate({cell: len(truths) for cell, truths in frame.items()}, size)
    flagged = [truth for (stratum, _), truths in frame.items() if stratum == FLAGGED for truth in truths]
    others = [truth for (stratum, _), truths in frame.items() if stratum != FLAGGED for truth in truths]
    truths_of = {
        "ppv": sum(flagged) / len(flagged), "missed": sum(others) / len(others),
        "all": sum(flagged + others) / len(flagged + others),
    }  # fmt: skip
    covered: Counter[str] = Counter()
    for _ in range(1000):
        drawn = [
            Drawn(
                *cell, design.probability(cell), len(truths), answers={"q": truth if draw.random() < returned else None}
            )
            for cell, truths in frame.items()
            for truth in draw.sample(truths, design.drawn[cell])
        ]
        estimates = {
            "ppv": share(drawn, "q", lambda unit: unit.stratum == FLAGGED),
            "missed": share(drawn, "q", lambda unit: unit.stratum != FLAGGED),
            "all": corrected_share(drawn, "q", len(flagged), len(others)),
        }
        for name, found in estimates.items():
            assert found.lower is not None and found.upper is not None
            covered[name] += found.lower <= truths_of[name] <= found.upper
    return {name: number / 1000 for name, number in covered.items()}


@pytest.mark.parametrize(
    "seed, providers, size, ppv, miss, returned",
    [
        (1, 10, 200, 0.7, 0.05, 1.0),
        (2, 6, 300, 0.8, 0.1, 1.0),
        (3, 10, 200, 0.7, 0.05, 0.8),
        (5, 20, 400, 0.5, 0.2, 1.0),
    ],
)
def test_limits_hold_the_truth_in_simulated_audits(
    seed: int, providers: int, size: int, ppv: float, miss: float, returned: float
) -> None:
    covered = simulated(seed, providers, size, ppv, miss, returned)
    assert all(0.93 <= share_covered <= 0.97 for share_covered in covered.values()), covered
