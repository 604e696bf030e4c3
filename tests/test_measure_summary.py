"""The published measures of monitoring: what is shown and what is withheld. Nothing here needs Spark."""

import random
from typing import Any

import pytest

from ebi_spark.config.shipped_files import disclosure_rules
from ebi_spark.release.kept_releases import Earlier
from ebi_spark.release.measure_summary import code_use, equality, linked
from ebi_spark.release.suppression import Thresholds

RULE = Thresholds.from_rule(disclosure_rules()["hes_2018_protected"])
YEAR = "2021-22"
REQUIRED = ("M545", "M549")
LABELS = {"revision": "2022-08", "reading": "as_published"}
Row = dict[str, Any]


def used(kind: str, counts: dict[str, int], whole: int) -> list[Row]:
    key = {"policy_id": "P", "financial_year": YEAR, "kind": kind, "of_records": whole}
    return [key | {"code": code, "records": number} for code, number in counts.items()]


def shown_codes(rows: list[Row], earlier: list[Row] | None = None) -> dict[tuple[str, str], Any]:
    found = code_use(rows, {("P", YEAR): LABELS}, REQUIRED, Earlier(earlier or []), RULE)
    return {(row["measure"], row["class"]): row["records"] for row in found}


def released(rows: list[Row], name: str, earlier: list[Row] | None = None) -> list[Row]:
    """The rows of a release, after those of earlier ones."""
    found = code_use(rows, {("P", YEAR): LABELS}, REQUIRED, Earlier(earlier or []), RULE)
    return [*(earlier or []), *(row | {"release_id": name} for row in found)]


DIAGNOSES = {"M545": 300, "M549": 60, "M511": 40, "M480": 20, "C412": 3, "Q675": 1}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # The rare ones are 4 together, so the rarest of the others joins them.
        ({}, {"M545": 300, "M549": 60, "M511": 40, "other": 25}),
        ({"C412": 9}, {"M545": 300, "M549": 60, "M511": 40, "M480": 20, "other": 10}),  # 9, and 1 of another
        ({"Q675": 8, "C412": 7}, {"M545": 300, "M549": 60, "M511": 40, "M480": 20, "other": 15}),
        # What the rule requires follows from the attrition, so a rare one would be the difference.
        ({"M549": 7}, {"required": 305, "M511": 40, "other": 25}),
        ({"M549": 0}, {"required": 300, "M511": 40, "other": 25}),
        # No other code at all would be known as 0.
        ({"M480": 0, "C412": 0, "Q675": 0, "M511": 60}, {"M545": 300, "M549": 60, "other": 60}),
        ({"M511": 2, "M480": 1}, {}),
    ],
)
def test_primary_diagnoses(changes: dict[str, int], expected: dict[str, int | None]) -> None:
    counts = {code: number for code, number in (DIAGNOSES | changes).items() if number}
    found = shown_codes(used("primary_diagnosis", counts, sum(counts.values())))
    assert found == {("primary_diagnosis", code): number for code, number in expected.items()}


def test_no_release_shows_a_rare_diagnosis_by_the_difference() -> None:
    """Random counts that grow from release to release. A reader who knows every published count exactly, the number in scope and the
    number with a required code cannot tell a count of 1 to 7, nor whether a code was recorded at all."""
    draw = random.Random(5)
    tried = 0
    for _ in range(300):
        counts = {code: draw.choice((0, 1, 4, 7, 8, 12, 60)) for code in ("M545", "M549", "M511", "M480", "C412")}
        earlier: list[Row] = []
        hidden: set[str] = set()
        for release in range(3):
            rows = used("primary_diagnosis", {code: n for code, n in counts.items() if n}, sum(counts.values()))
            if rows:
                earlier = released(rows, f"r{release}", earlier)
            shown = {row["class"] for row in earlier if row["release_id"] == f"r{release}" and row["status"] == "ok"}
            for group in (REQUIRED, ("M511", "M480", "C412")):
                if not shown & {*group, "required", "other"}:
                    continue
                rest = [code for code in group if code not in shown]
                if rest:
                    # Together they are more than a small count, in this release and among those hidden before.
                    assert sum(counts[code] for code in rest) > RULE.high
                    tried += 1
                assert all(counts[code] > RULE.high for code in set(group) & shown)
                assert not hidden & set(group) & shown, "shown after it was hidden"
                hidden |= {*rest}
            counts = {code: number + draw.choice((0, 0, 1, 9)) for code, number in counts.items()}
    assert tried > 200


def test_a_diagnosis_that_became_rare_withholds_all() -> None:
    first = released(used("primary_diagnosis", DIAGNOSES, 424), "r1")
    fewer = DIAGNOSES | {"M511": 6}
    assert set(shown_codes(used("primary_diagnosis", fewer, 390), first).values()) == {None}
    again = released(used("primary_diagnosis", fewer, 390), "r2", first)
    assert set(shown_codes(used("primary_diagnosis", DIAGNOSES, 424), again).values()) == {None}


@pytest.mark.parametrize(
    ("any_code", "fusions", "in_scope", "shown"),
    [(20, 500, 424, True), (7, 500, 424, False), (0, 500, 424, False), (495, 500, 424, False), (20, 430, 424, False)],
)
def test_operations_outside_the_scope_are_shown_together(
    any_code: int, fusions: int, in_scope: int, shown: bool
) -> None:
    rows = used("operation_outside_scope", {"any": any_code, "V393": any_code}, fusions)
    found = shown_codes([*rows, *used("primary_diagnosis", DIAGNOSES, in_scope)])
    assert found["operation_outside_scope", "any"] == (any_code if shown else None)
    assert ("operation_outside_scope", "V393") not in found, "records with two codes count for both"


def test_unspecified_fusions_have_no_whole() -> None:
    (row,) = code_use(
        used("unspecified", {"any": 33, "V388": 33}, 500), {("P", YEAR): LABELS}, REQUIRED, Earlier(), RULE
    )
    assert (row["records"], row["of_records"], row["value"], row["status"]) == (35, None, None, "ok")


# Groups of people


def rated(dimension: str, counts: dict[str, int], period: str = "2019-20..2021-22", **changes: Any) -> list[Row]:
    key = {"policy_id": "P", "period": period, "dimension": dimension} | LABELS
    return [
        key
        | {"group": group, "activity": number, "rate": number / 40, "lower": number / 50, "upper": number / 32}
        | {"status": "few_events" if number < 10 else "ok"}
        | changes
        for group, number in counts.items()
    ]


def test_rates_of_groups_are_rounded_to_what_five_records_are() -> None:
    found = {row["class"]: row for row in equality(rated("sex", {"1": 83, "2": 137}), Earlier(), RULE)}
    men = found["1"]
    # 83 records are a rate of 2.075, so 5 are 0.125: multiples of 0.2, and limits of 1.66 and 2.59 outwards.
    assert [men[name] for name in ("records", "of_records", "value", "lower", "upper")] == [85, 220, 2.0, 1.6, 2.6]
    assert (men["status"], men["period"], men["financial_year"]) == ("ok", "2019-20..2021-22", "2021-22")


def test_a_group_of_few_is_never_withheld_alone() -> None:
    found = equality(rated("age_group", {"0-19": 3, "20-29": 40, "30-39": 90, "unknown": 0}), Earlier(), RULE)
    assert {row["class"]: row["status"] for row in found} == {
        "0-19": "withheld", "20-29": "withheld", "30-39": "ok", "unknown": "ok",
    }  # fmt: skip
    assert [row["value"] for row in found[:2]] == [None, None]


def test_the_slope_index_needs_every_fifth() -> None:
    slope = {"slope_index": 1.13, "slope_lower": 0.51, "slope_upper": 1.78}
    fifths = {"1": 60, "2": 50, "3": 45, "4": 42, "5": 40}
    found = {row["class"]: row for row in equality(rated("deprivation_fifth", fifths, **slope), Earlier(), RULE)}
    # 5 of 40 records at a rate of 1: multiples of 0.2.
    assert [found["slope_index"][name] for name in ("value", "lower", "upper", "records")] == [1.2, 0.4, 1.8, None]
    few = equality(rated("deprivation_fifth", fifths | {"5": 4}, **slope), Earlier(), RULE)
    assert {row["class"]: row["status"] for row in few}["slope_index"] == "withheld"
    # 9 records are shown without a rate, so there is no slope either.
    nine = {
        row["class"]: row for row in equality(rated("deprivation_fifth", fifths | {"5": 9}, **slope), Earlier(), RULE)
    }
    assert [nine["5"][name] for name in ("records", "value", "status")] == [10, None, "ok"]
    assert nine["slope_index"]["status"] == "withheld"


def test_other_years_that_overlap_are_not_the_difference_of_two_releases() -> None:
    counts = {"1": 83, "2": 137}
    first = Earlier([row | {"release_id": "r1"} for row in equality(rated("sex", counts), Earlier(), RULE)])

    def statuses(period: str) -> set[str]:
        return {row["status"] for row in equality(rated("sex", counts, period), first, RULE)}

    assert statuses("2020-21..2022-23") == {"ok"}, "as many years"
    assert statuses("2022-23..2026-27") == {"ok"}, "no year in common"
    assert statuses("2018-19..2021-22") == statuses("2021-22") == {"withheld"}


def test_rates_without_a_population_have_counts() -> None:
    rows = rated("sex", {"1": 83, "2": 137}, rate=None, lower=None, upper=None)
    assert [(row["records"], row["value"], row["status"]) for row in equality(rows, Earlier(), RULE)] == [
        (85, None, "ok"), (135, None, "ok"),
    ]  # fmt: skip


# Measures over linked records


def measured(flagged: tuple[int, int], others: tuple[int, int], year: str = YEAR) -> list[Row]:
    """Records of flagged ones and of others: all, and those that count."""
    key = {"policy_id": "P", "measure": "repeat_imaging", "financial_year": year} | LABELS
    return [
        key | {"group": "flagged", "records": flagged[0], "counted": flagged[1]},
        key | {"group": "all", "records": flagged[0] + others[0], "counted": flagged[1] + others[1]},
    ]


@pytest.mark.parametrize(
    ("flagged", "others", "shown"),
    [
        ((400, 37), (900, 30), True),
        ((400, 7), (900, 30), False),
        ((400, 393), (900, 30), False),
        ((400, 37), (900, 6), False),  # the others are the difference of the two rows
        ((400, 37), (900, 895), False),
        ((400, 37), (0, 0), False),
    ],
)
def test_measures_over_linked_records(flagged: tuple[int, int], others: tuple[int, int], shown: bool) -> None:
    found = {row["class"]: row for row in linked(measured(flagged, others), Earlier(), RULE)}
    assert {row["status"] for row in found.values()} == {"ok" if shown else "withheld"}
    if shown:
        # 37 of 400 is 9.25%, in multiples of 5 in 400; Wilson's limits are 6.78% and 12.49%.
        assert [found["flagged"][name] for name in ("records", "of_records", "value", "lower", "upper")] == [
            35, 400, 0.0875, 0.0625, 0.125,
        ]  # fmt: skip


def test_another_year_is_not_the_difference_of_two_measures() -> None:
    first = linked(measured((400, 37), (900, 30)), Earlier(), RULE)
    kept = Earlier([row | {"release_id": "r1"} for row in first])
    for more, status in ((3, "withheld"), (40, "ok")):
        rows = measured((400, 37), (900, 30)) + measured((100, more), (100, more + 1), "2022-23")
        found = linked(rows, kept, RULE)
        assert {row["status"] for row in found} == {status}
        assert {row["period"] for row in found} == {"2021-22..2022-23"}
    assert {row["status"] for row in linked(measured((400, 37), (900, 30)), kept, RULE)} == {"ok"}
