"""An attack on published audits and measures by a reader who has all published tables, two releases, and the methods. No Spark."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ebi_spark.case_audit.design import FLAGGED
from ebi_spark.case_audit.estimates import Drawn, audit_estimates
from ebi_spark.config.shipped_files import disclosure_rules
from ebi_spark.release.kept_releases import Earlier
from ebi_spark.release.measure_summary import equality, linked, sums_of_withheld_years
from ebi_spark.release.pathway_summary import too_near
from ebi_spark.release.published_audit_estimate import audit_estimate
from ebi_spark.release.rounding import to_unit
from ebi_spark.release.suppression import Thresholds
from tests.disclosure_attack import (
    LIMITS_OF,
    AuditShown,
    additions,
    cells_of_kappa,
    hidden_years,
    missing_answers,
    narrowed_periods,
    unit_of,
)

RULE = Thresholds.from_rule(disclosure_rules()["hes_2018_protected"])
Row = dict[str, Any]
# As many values as a published count has, which is rounded to 5: a number that could be any of so many is not worked out.
ENOUGH = RULE.step
CLAUSES = {"diagnosis": "require", "age": "scope"}
FORMS_OF = {
    "flagged": ("positive_predictive_value", "overall"),
    "missed": ("missed_cases", "overall"),
    "diagnosis": ("positive_predictive_value", "clause:diagnosis"),
    "age": ("positive_predictive_value", "clause:age"),
}

# Case-note audits


def sample(draw: np.random.Generator, sizes: tuple[int, int], drawn: tuple[int, int], missing: float) -> list[Drawn]:
    """A made-up audit of one provider, so that all records of a stratum have one weight: what a reader can use best."""
    units = []
    for stratum, records, number, share in zip((FLAGGED, "rest"), sizes, drawn, (0.7, 0.2), strict=True):
        for _ in range(number):
            answers = {"notes_found": "yes", "verdict": "yes" if draw.random() < share else "no"}
            answers |= {clause: "yes" if draw.random() < 0.8 else "no" for clause in CLAUSES}
            for question in ("verdict", *CLAUSES):
                if draw.random() < missing / 2:
                    answers[question] = "cannot_tell"
            returned = draw.random() >= missing / 2
            asked = CLAUSES if stratum == FLAGGED else {}
            units.append(
                Drawn(stratum, "A", records, number, frozenset({"a"} if stratum == FLAGGED else ()), asked, False, returned,
                      answers if returned else {})
            )  # fmt: skip
    return units


def gold(drawn: Sequence[Drawn]) -> list[Row]:
    common = {"audit_id": "A", "policy_id": "P", "reading": "a"}
    return [common | vars(row) for row in audit_estimates(drawn, "a")]


def careless(rows: Sequence[Row]) -> list[Row]:
    """What was published before the attack: forms to 5, a worst and best case for each row with 8 or more without an answer."""
    found = []
    for row in rows:
        forms, missing = row["forms"], row["not_returned"] + row["notes_not_found"] + row["cannot_tell"]
        if row["status"] != "ok" or (row["counted"] is not None and min(row["counted"], forms - row["counted"]) < 8):
            continue
        unit = next(u for u in (0.01, 0.02, 0.05, 0.1, 0.2) if u * forms >= 1 or u == 0.2)
        sides = {"estimate": 0, "lower": -1, "upper": 1} | ({"worst": -1, "best": 1} if missing > 7 else {})
        shown = (
            row | {"worst": None, "best": None} | {name: to_unit(row[name], unit, side) for name, side in sides.items()}
        )
        found.append(shown | {"forms": (forms + 2) // 5 * 5})
    return found


def seen(published: Sequence[Row], sizes: tuple[int, int]) -> dict[str, AuditShown]:
    by_key = {(row["measure"], row["part"]): row for row in published if row["status"] == "ok"}
    return {name: AuditShown(by_key[key], sizes[name == "missed"]) for name, key in FORMS_OF.items() if key in by_key}


def corrected_of(published: Sequence[Row], forms_to: int) -> Row | None:
    by_measure = {row["measure"]: row for row in published if row["status"] == "ok"}
    if "corrected_share" not in by_measure:
        return None
    row = by_measure["corrected_share"]
    return {name: row[name] for name in ("estimate", "worst", "best")} | {
        "sensitivity": by_measure.get("sensitivity", {}).get("estimate"),
        "unit": unit_of(row["forms"], forms_to),
        "unit_of_limits": unit_of(row["forms"], forms_to, LIMITS_OF if forms_to == 10 else 1),
    }


def two_releases(seed: int) -> tuple[list[list[Row]], tuple[int, int]]:
    """Rows of gold of two estimates of a made-up audit of 60 to 140 forms of each side, and the records of each side."""
    draw = np.random.default_rng(seed)
    number = (int(draw.integers(60, 140)), int(draw.integers(60, 140)))
    sizes = (int(number[0] + draw.choice([0, 3, 20, 200])), int(number[1] + draw.choice([0, 3, 20, 200])))
    units = sample(draw, sizes, number, float(draw.choice([0.02, 0.05, 0.12])))
    return [gold(units), gold(later(draw, units))], sizes


def narrowed(
    audits: Sequence[Sequence[Row]], truths: Sequence[Sequence[Row]], sizes: tuple[int, int], protected: bool
) -> list[str]:
    """The small numbers without an answer that have fewer possible values than a small count has."""
    releases = [seen(published, sizes) for published in audits]
    if not any(releases):
        return []
    corrected = [corrected_of(published, 10 if protected else 5) for published in audits]
    if protected:
        values = missing_answers(releases, corrected=corrected)
    else:
        values = missing_answers(releases, forms_to=5, by_row=True, corrected=corrected)
    found = []
    for number, (of_release, truth) in enumerate(zip(values, truths, strict=True)):
        by_key = {(row["measure"], row["part"]): row for row in truth}
        for name, row in releases[number].items():
            true = by_key[FORMS_OF[name]]
            missing = true["not_returned"] + true["notes_not_found"] + true["cannot_tell"]
            possible = of_release.get(name, set())
            assert missing in possible, f"the attack leaves out the truth: {number} {name} {missing} {sorted(possible)}"
            if missing in range(8) and len(possible) < min(ENOUGH, row.records):
                found.append(f"release {number} {name}: {missing}, one of {sorted(possible)}")
    return found


def later(draw: np.random.Generator, drawn: Sequence[Drawn]) -> list[Drawn]:
    """The same sample when more forms have come back, and one was replaced."""
    found = [
        replace(unit, returned=True, answers={"notes_found": "yes", "verdict": "yes"} | dict.fromkeys(CLAUSES, "yes"))
        if not unit.returned and draw.random() < 0.6
        else unit
        for unit in drawn
    ]
    place = int(draw.integers(0, len(found)))
    found[place] = replace(found[place], returned=True, answers={"notes_found": "no"})
    return found


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_estimates_of_two_releases_do_not_give_away_how_few_have_no_answer(first: int) -> None:
    """The reader knows England's counts, so the size of each side, and every formula. The same attack on what was published before, each
    row for itself, finds the number of most audits."""
    careless_found, shown, extremes = 0, 0, 0
    for seed in range(first, first + 10):
        truths, sizes = two_releases(seed)
        careless_found += bool(narrowed([careless(truth) for truth in truths], truths, sizes, protected=False))
        before = audit_estimate(truths[0], Earlier(), RULE)
        now = audit_estimate(truths[1], Earlier(before), RULE)
        assert narrowed([before, now], truths, sizes, protected=True) == []
        shown += len(seen(before, sizes)) + len(seen(now, sizes))
        extremes += sum(row["worst"] is not None for row in before)
    assert careless_found >= 3 and shown > 30 and extremes > 5


def test_the_attack_names_the_number_of_records_without_an_answer() -> None:
    """Of 300 flagged records 112 were drawn. All but 7 have a verdict, and all have an answer on age: 112 forms say that 105 and 7
    are all."""
    units = [
        Drawn(FLAGGED, "A", 300, 112, frozenset({"a"}), {"age": "scope"},
              answers={"notes_found": "yes", "verdict": "cannot_tell" if n < 7 else "yes" if n < 80 else "no",
                       "age": "yes" if n < 90 else "no"})
        for n in range(113)
    ]  # fmt: skip
    units = [replace(unit, cell_drawn=113) for unit in units]
    units += sample(np.random.default_rng(0), (300, 400), (100, 110), 0.0)[100:]
    truth, sizes = gold(units), (300, 400)
    shown = seen(careless(truth), sizes)
    assert shown["flagged"].row["forms"] == 105 and shown["age"].row["forms"] == 115
    found = missing_answers([shown], forms_to=5, by_row=True)[0]
    assert found["flagged"] <= {6, 7} and found["age"] <= {0, 1}
    assert narrowed([audit_estimate(truth, Earlier(), RULE)], [truth], sizes, protected=True) == []


def test_a_group_of_which_nearly_all_records_were_read_is_not_published() -> None:
    """A census says that every record was drawn; 7 records that were not read could be counted."""
    base = two_releases(1)[0][0]
    for unread, status in ((0, "withheld"), (7, "withheld"), (8, "ok")):
        rows = [
            row | {"records": row["forms"] + unread}
            if (row["measure"], row["part"]) == ("positive_predictive_value", "overall")
            else row | {"records": 5000}
            for row in base
        ]
        found = {(row["measure"], row["part"]): row["status"] for row in audit_estimate(rows, Earlier(), RULE)}
        assert found["positive_predictive_value", "overall"] == status
        assert found["positive_predictive_value", "clause:diagnosis"] == status, "the same records"
        assert found["missed_cases", "overall"] == "ok" and found["corrected_share", "overall"] == status


def test_worst_and_best_cases_stay_away_and_do_not_go() -> None:
    """A release without them after one with them says how many answers came between; so the audit is withheld."""
    [few, many] = [
        [row | {"not_returned": missing, "notes_not_found": 0, "cannot_tell": 0, "records": 5000} for row in two_releases(1)[0][0]]
        for missing in (7, 8)
    ]  # fmt: skip
    hidden, given = (audit_estimate(rows, Earlier(), RULE) for rows in (few, many))
    assert {row["worst"] for row in hidden} == {None}
    assert any(row["worst"] is not None for row in given)
    assert {row["worst"] for row in audit_estimate(many, Earlier(hidden), RULE)} == {None}
    assert {row["status"] for row in audit_estimate(few, Earlier(given), RULE)} == {"withheld"}


def test_the_method_of_a_withheld_share_does_not_say_how_few_count_for_it() -> None:
    """Limits are exact where fewer than 5 of either answer are expected. So Wilson's say that 5, 6 or 7 of 100 forms count."""
    by_method: dict[str, set[int]] = {}
    for counted in range(8):
        units = [
            Drawn(FLAGGED, "A", 900, 100, frozenset({"a"}), answers={"notes_found": "yes", "verdict": verdict})
            for verdict in ["yes"] * counted + ["no"] * (100 - counted)
        ]
        [row] = [row for row in gold(units) if (row["measure"], row["part"]) == FORMS_OF["flagged"]]
        by_method.setdefault(row["method"], set()).add(counted)
        [published] = audit_estimate([row], Earlier(), RULE)
        assert {name for name, value in published.items() if value is not None} == {
            "audit_id", "policy_id", "reading", "measure", "part", "status",
        }  # fmt: skip
    assert by_method == {"clopper_pearson": {0, 1, 2, 3, 4}, "wilson": {5, 6, 7}}


# Kappa


def kappa_row(yes: int, no: int, differ: int) -> Row:
    answers = [("yes", "yes")] * yes + [("no", "no")] * no + [("yes", "no")] * (differ // 2)
    answers += [("no", "yes")] * (differ - differ // 2)
    units = [
        Drawn(
            "rest", "A", 900, len(answers), frozenset(), {}, True, True, {"verdict": a}, {"verdict": a}, {"verdict": b}
        )
        for a, b in answers
    ]
    [row] = [row for row in gold(units) if row["measure"] == "kappa"]
    return row


@pytest.mark.parametrize(
    ("cells", "status"),
    [((40, 12, 8), "ok"), ((45, 12, 3), "withheld"), ((45, 15, 0), "withheld"), ((52, 0, 8), "withheld"),
     ((60, 0, 0), "withheld"), ((44, 7, 9), "withheld"), ((9, 8, 8), "few_pairs")],
)  # fmt: skip
def test_kappa_is_published_only_if_each_of_its_cells_has_enough_forms(cells: tuple[int, ...], status: str) -> None:
    [row] = audit_estimate([kappa_row(*cells)], Earlier(), RULE)
    assert row["status"] == status and (row["estimate"] is None) == (status != "ok")
    older = kappa_row(*cells) | {"counted": None}
    assert audit_estimate([older], Earlier(), RULE)[0]["estimate"] is None, "an earlier version did not count the cells"


def test_a_kappa_gives_its_small_cells_away() -> None:
    """Why: of 60 forms the readers differ on 1 or 2, and no others agree with the figure and its limits."""
    row = kappa_row(40, 18, 2)
    found = cells_of_kappa(
        row | {name: to_unit(row[name], 0.02, side) for name, side in (("estimate", 0), ("lower", -1), ("upper", 1))}, 5
    )
    assert found["differ"] <= {1, 2, 3} and len(found["differ"]) < ENOUGH
    [published] = audit_estimate([kappa_row(40, 12, 8)], Earlier(), RULE)
    possible = cells_of_kappa(published)
    assert {name: number in possible[name] for name, number in (("yes", 40), ("no", 12), ("differ", 8))} == {
        "yes": True, "no": True, "differ": True,
    }  # fmt: skip


# Measures over linked records

CELLS = {
    "flagged, counted": {"flagged counted": 1},
    "flagged, not counted": {"flagged": 1, "flagged counted": -1},
    "others, counted": {"all counted": 1, "flagged counted": -1},
    "others, not counted": {"all": 1, "all counted": -1, "flagged": -1, "flagged counted": 1},
}


def of_year(year: str, cells: Sequence[int]) -> list[Row]:
    """Rows of gold with these cells of one year, in the order of ``CELLS``."""
    key = {"policy_id": "P", "measure": "repeat_imaging", "financial_year": year, "revision": "r", "reading": "a"}
    flagged, every = cells[0] + cells[1], sum(cells)
    return [
        key | {"group": "flagged", "records": flagged, "counted": cells[0]},
        key | {"group": "all", "records": every, "counted": cells[0] + cells[2]},
    ]


def numbers(published: Sequence[Row]) -> pd.DataFrame:
    shown = {}
    for row in published:
        shown |= {row["class"]: row["of_records"], f"{row['class']} counted": row["records"]}
    return pd.DataFrame({"name": list(shown), "shown": list(shown.values())})


def test_another_year_gives_away_none_of_four_cells() -> None:
    """The reader subtracts a kept release of fewer years: from each number, from complements, and flagged from all records."""
    draw = np.random.default_rng(6)
    careless_found, shown = 0, 0
    for _ in range(60):
        first = of_year("2020-21", draw.integers(30, 400, 4).tolist())
        more = draw.choice([0, 3, 7, 8, 30, 60, 200], 4).tolist()
        rows = [*first, *of_year("2021-22", more)]
        kept, alone = linked(first, Earlier(), RULE), linked(rows, Earlier(), RULE)
        for published in (alone, linked(rows, Earlier([row | {"release_id": "r1"} for row in kept]), RULE)):
            if published[0]["status"] != "ok":
                continue
            reach = additions([numbers(kept), numbers(published)], CELLS)
            for count, (least, most) in zip(more, reach.values(), strict=True):
                assert least <= count <= most
            # A difference that is small for certain, or is small and has fewer values than a small count has.
            careless_found += published is alone and any(count < 8 for count in more)
            if published is not alone:
                shown += 1
                assert min(more) >= 8 and max(most for _, most in reach.values()) >= 8
    assert careless_found > 20 and shown > 2


def test_the_attack_finds_the_cells_of_a_year() -> None:
    """A year with 16 flagged records, 15 with a repeat: only the number of those with a repeat was compared."""
    first, more = of_year("2020-21", (100, 300, 100, 500)), of_year("2021-22", (15, 0, 40, 60))
    kept, alone = linked(first, Earlier(), RULE), linked([*first, *more], Earlier(), RULE)
    reach = additions([numbers(kept), numbers(alone)], CELLS)
    assert reach["flagged, not counted"][1] <= 8 and reach["flagged, counted"][0] > 8
    kept = [row | {"release_id": "r1"} for row in kept]
    assert {row["status"] for row in linked([*first, *more], Earlier(kept), RULE)} == {"withheld"}


def test_a_sum_over_all_years_does_not_give_away_a_year_that_is_withheld() -> None:
    """Imaging before a fusion is published by year as a step, and over all years as a linked measure."""
    years = {
        "2019-20": {"seen": 40, "not_seen": 100},
        "2020-21": {"seen": 60, "not_seen": 80},
        "2021-22": {"seen": None, "not_seen": None},
    }
    # A reader who knows each published count exactly has both numbers; by rounded ones it is at most 11.
    total = {"seen": 103, "not_seen": 215}
    assert hidden_years(years, total, step=1) == {("2021-22", "seen"): (3, 3), ("2021-22", "not_seen"): (35, 35)}
    assert hidden_years(years, {"seen": 105})["2021-22", "seen"] == (0, 11)
    rows = of_year("2021-22", (30, 40, 50, 60))
    rows = [row | {"measure": "imaging_before_fusion"} for row in rows]
    assert {row["status"] for row in linked(rows, Earlier(), RULE)} == {"ok"}
    step = {"policy_id": "P", "kind": "step", "measure": "lumbar_imaging", "window": "12_months", "class": "seen"}
    for changes, status in (
        ({"status": "withheld"}, "withheld"),
        ({"status": "ok"}, "ok"),
        ({"status": "withheld", "window": "3_months"}, "ok"),
        ({"status": "withheld", "policy_id": "Q"}, "ok"),
        # A part of the scans: the fusions with a scan are what it is a share of.
        ({"status": "withheld", "measure": "lumbar_imaging_flagged"}, "ok"),
    ):
        withheld = sums_of_withheld_years([step | changes])
        assert {row["status"] for row in linked(rows, Earlier(), RULE, withheld)} == {status}
    part = [row | {"measure": "flagged_imaging_before_fusion"} for row in rows]
    assert {
        row["status"] for row in linked(part, Earlier(), RULE, sums_of_withheld_years([step | {"status": "withheld"}]))
    } == {"withheld"}


# Groups of people


def test_groups_of_people_of_two_periods_and_all_years_of_england_reveal_no_small_group() -> None:
    """England's flagged records of each year are published, so the sum of the groups of each period is known."""
    draw = np.random.default_rng(9)
    groups = ("0-19", "20-39", "40-59", "60+")
    alone, naive_found, shown = 0, 0, 0
    for _ in range(40):
        # The years that two periods do not share can have few records.
        few, many = [0, 0, 1, 2], [0, 2, 4, 30, 90]
        by_year = [
            dict(zip(groups, map(int, draw.choice(few if year in (0, 3) else many, 4)), strict=True))
            for year in range(4)
        ]
        truths = [{name: sum(by_year[at + more][name] for more in range(3)) for name in groups} for at in (0, 1)]
        first, single = (groups_of(truth, at, Earlier()) for at, truth in enumerate(truths))
        second = groups_of(truths[1], 1, Earlier([row | {"release_id": "r1"} for row in first]))
        tables = [{row["class"]: row["records"] for row in rows} for rows in (first, second, single)]
        assert narrowed_periods(tables[:2], by_year, 3) == [], (by_year, tables)
        shown += any(count is not None for count in tables[1].values())
        alone += bool(narrowed_periods([tables[0], tables[2]], by_year, 3))
        naive = [{name: None if 0 < n < 8 else n for name, n in truth.items()} for truth in truths]
        naive_found += bool(narrowed_periods(naive, by_year, 3))
    assert naive_found > 10 and alone > 0 and shown > 5, "the attack breaks what is published without the rules"


def groups_of(counts: dict[str, int], first: int, earlier: Earlier) -> list[Row]:
    """The published rows of three years from 2018-19 plus ``first``."""
    period = f"{2018 + first}-{19 + first}..{2020 + first}-{21 + first}"
    rows = [
        {"policy_id": "P", "dimension": "age_group", "period": period, "revision": "r", "reading": "a", "group": name,
         "activity": count, "rate": count / 40, "lower": count / 50, "upper": count / 32,
         "status": "few_events" if count < 10 else "ok"}
        for name, count in counts.items()
    ]  # fmt: skip
    return equality(rows, earlier, RULE)


# Later events


def test_another_year_gives_away_no_few_without_a_later_event() -> None:
    """Of 20 further fusions 15 were readmitted, so 5 were not."""
    labels = {"policy_id": "P", "period": "2020-21..2021-22"}
    key = {"policy_id": "P", "kind": "incidence", "measure": "readmission", "day": 30}
    kept = key | {"operations": 100, "of_operations": 500, "period": "2020-21", "status": "ok"}
    both = [pd.DataFrame({"name": ["all", "event"], "shown": shown}) for shown in ([500, 100], [520, 115])]
    assert additions(both, {"without": {"all": 1, "event": -1}})["without"] == (0, 13)
    assert too_near(520, 115, labels, Earlier([kept]), key, RULE)
    assert not too_near(600, 130, labels, Earlier([kept]), key, RULE)
