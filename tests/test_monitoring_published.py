"""The published tables of monitoring: what is withheld, and an attack on it. Nothing here needs Spark."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from ebi_spark.approvals.match import MATCH_CLASSES
from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import disclosure_rules
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.pathway.definitions import STATES
from ebi_spark.release.approval_summary import LINKED, approval_summary
from ebi_spark.release.kept_releases import Earlier
from ebi_spark.release.monitoring_tables import published_monitoring
from ebi_spark.release.one_way_suppression import withheld_classes
from ebi_spark.release.pathway_summary import CLASSES, pathway_summary
from ebi_spark.release.published_activity_change import activity_change
from ebi_spark.release.published_audit_estimate import audit_estimate, audits_of_england
from ebi_spark.release.suppression import Thresholds
from ebi_spark.tables.gold import ACTIVITY_RATE, POLICY
from ebi_spark.tables.monitoring_approvals import APPROVAL_MATCH, APPROVAL_SUMMARY
from ebi_spark.tables.monitoring_audit import AUDIT_ESTIMATE, AUDIT_SAMPLE, PUBLISHED_AUDIT_ESTIMATE
from ebi_spark.tables.monitoring_changes import (
    ACTIVITY_CHANGE,
    CODE_USE,
    EQUALITY_RATE,
    LINKED_MEASURE,
    MEASURE_SUMMARY,
    PUBLISHED_ACTIVITY_CHANGE,
)
from ebi_spark.tables.monitoring_pathway import PATHWAY, PATHWAY_INCIDENCE, PATHWAY_STEP, PATHWAY_SUMMARY
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.table import Table
from tests.disclosure_attack import narrowed_classes

RULE = Thresholds.from_rule(disclosure_rules()["hes_2018_protected"])
YEAR = "2021-22"
OPERATION = {"policy_id": "P", "revision": "2022-08", "reading": "as_published", "financial_year": YEAR}
BOARDS = {f"Q{number:02d}" for number in range(42)}
Row = dict[str, Any]


@pytest.mark.parametrize(
    ("counts", "withheld"),
    [
        ((40, 900, 0), ""),
        ((3, 900, 0), "seen not_seen"),
        ((3, 900, 30), "seen cannot_be_seen"),
        ((0, 900, 0), "seen not_seen"),  # a 0 that became 1 would tell of a new record
        ((0, 0, 900), ""),  # nothing can be seen: that says nothing of a patient
        ((900, 0, 0), "seen not_seen"),  # all have it
        ((40, 900, 3), "seen cannot_be_seen"),
        ((2, 3, 900), "seen not_seen cannot_be_seen"),  # two small ones of 5 together
        ((5, 3, 900), "seen not_seen"),  # 8 together: each can be any small count
        ((8, 900, 0), ""),
        ((7, 900, 8), "seen cannot_be_seen"),
        ((0, 0, 0), ""),
    ],
)
def test_what_is_withheld_of_a_step(counts: tuple[int, ...], withheld: str) -> None:
    found = withheld_classes(dict(zip(STATES, counts, strict=True)), RULE, uninformative=["cannot_be_seen"])
    assert found == set(withheld.split())


def test_linked_classes_have_a_second_withheld_class_of_their_own() -> None:
    """The number of linked operations can follow from the counts of the boards with a register."""
    counts = {"cannot_link": 900, "approved_in_time": 3, "declined": 60, "none_on_record": 80}
    assert withheld_classes(counts, RULE, totals=[LINKED]) == {"approved_in_time", "declined"}


# Fusions as the tables of gold count them


@dataclass(frozen=True)
class Fusion:
    """A made-up fusion: months before it when a step is seen (99: never), months that the data cover, and so on."""

    seen_at: int
    covered: int
    levels: str
    reached: str
    decompression: bool
    stenosis: str = ""  # with, without (instability) or none

    def state(self, months: int) -> str:
        return "seen" if self.seen_at <= months else "not_seen" if self.covered >= months else "cannot_be_seen"


WINDOWS = {"3_months": 3, "6_months": 6, "12_months": 12}
NESTED = [
    ((f"step {a}", state), (f"step {b}", state))
    for state, order in (("seen", ("3_months", "6_months", "12_months")), ("not_seen", ("12_months", "6_months", "3_months")))
    for a, b in zip(order, order[1:], strict=False)
]  # fmt: skip
STENOSIS = ("stenosis", "stenosis_with_instability", "stenosis_without_instability")
# What is seen with and without instability is what is seen.
SUMS = [((STENOSIS[0], "seen"), [(part, "seen") for part in STENOSIS[1:]])]


def stenosis_states(fusions: Sequence[Fusion]) -> dict[str, Counter[str]]:
    shown = {STENOSIS[0]: ("with", "without"), STENOSIS[1]: ("with",), STENOSIS[2]: ("without",)}
    return {
        step: Counter("seen" if fusion.stenosis in kinds else "not_seen" for fusion in fusions)
        for step, kinds in shown.items()
    }


def truth_of(fusions: Sequence[Fusion]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for window, months in WINDOWS.items():
        found[f"step {window}"] = dict.fromkeys(STATES, 0) | Counter(fusion.state(months) for fusion in fusions)
    for measure, value in (
        ("levels", lambda f: f.levels),
        ("algorithm_step", lambda f: f.reached),
        ("decompression", lambda f: "seen" if f.decompression else "not_seen"),
    ):
        found[measure] = dict.fromkeys(CLASSES[measure], 0) | Counter(map(value, fusions))
    for step, states in stenosis_states(fusions).items():
        found[step] = dict.fromkeys(STATES, 0) | states
    return found


def release_of(fusions: Sequence[Fusion], earlier: Sequence[Row] = ()) -> list[Row]:
    """The rows of a release, as the product makes them."""
    operations = Counter((f.levels, f.reached, f.decompression) for f in fusions)
    rows = [
        OPERATION
        | {"levels": levels, "approach": None, "decompression": decompression, "algorithm_step": reached, "rows": count}
        for (levels, reached, decompression), count in operations.items()
    ]
    steps = [
        {"policy_id": "P", "financial_year": YEAR, "step_id": "pain_management", "window": window, "state": state}
        | {"rows": count}
        for window, months in WINDOWS.items()
        for state, count in Counter(f.state(months) for f in fusions).items()
    ]
    steps += [
        {
            "policy_id": "P",
            "financial_year": YEAR,
            "step_id": step,
            "window": "at_operation",
            "state": state,
            "rows": count,
        }
        for step, states in stenosis_states(fusions).items()
        for state, count in states.items()
    ]
    return pathway_summary(rows, steps, [], Earlier(earlier), RULE)


def shown_of(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for row in rows:
        name = f"step {row['window']}" if row["measure"] == "pain_management" else row["measure"]
        if name != "approach":
            found.setdefault(name, {})[row["class"]] = row["operations"]
    return found


def drawn(draw: np.random.Generator, count: int, rare: float) -> list[Fusion]:
    def pick(names: Sequence[str]) -> str:
        shares = np.array([1.0, *[rare * (place + 1) for place in range(len(names) - 1)]])
        return str(draw.choice(list(names), p=shares / shares.sum()))

    return [
        Fusion(
            seen_at=int(draw.choice([2, 5, 11, 99], p=[rare, rare, rare, 1 - 3 * rare])),
            covered=int(draw.choice([12, 4, 0], p=[1 - 2 * rare, rare, rare])),
            levels=pick(CLASSES["levels"]),
            reached=pick(CLASSES["algorithm_step"]),
            decompression=bool(draw.random() < rare),
            stenosis=str(
                draw.choice(["", "with", "without"], p=[1 - 4 * min(rare, 0.2), min(rare, 0.2), 3 * min(rare, 0.2)])
            ),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("exact", [False, True])
def test_four_releases_reveal_no_small_class(seed: int, exact: bool) -> None:
    """Records are added or removed between releases; the reader knows England's number and, if ``exact``, shown counts unrounded."""
    draw = np.random.default_rng(seed)
    fusions = drawn(draw, (60, 150, 400, 900)[seed % 4], (0.01, 0.31, 0.04)[seed % 3])
    earlier: list[Row] = []
    releases, truths = [], []
    for number in range(4):
        rows = release_of(fusions, earlier)
        earlier = [*earlier, *(row | {"release_id": str(number)} for row in rows)]
        releases.append(shown_of(rows))
        truths.append(truth_of(fusions))
        assert narrowed_classes(releases, truths, at_most=NESTED, sums=SUMS, exact=exact) == []
        if draw.random() < 0.6:
            fusions = [*fusions, *drawn(draw, int(draw.integers(1, 9)), 0.05)]
        else:
            fusions = fusions[: -int(draw.integers(1, 9))]
    assert any(count is not None for release in releases for table in release.values() for count in table.values())


def naive(truth: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, float | None]]:
    """Small counts are withheld and others rounded; nothing else is done."""
    return {
        table: {name: None if 0 < count < 8 else float((count + 2) // 5 * 5) for name, count in classes.items()}
        for table, classes in truth.items()
    }


def test_the_attack_breaks_tables_that_only_withhold_small_counts() -> None:
    fusions = [Fusion(2 if n < 3 else 99, 12, "one", "confirm", True) for n in range(100)]
    found = narrowed_classes([naive(truth_of(fusions))], [truth_of(fusions)])
    assert [line for line in found if "seen: 1 to 4" in line or "seen: 3 to 7" in line], found
    assert narrowed_classes([shown_of(release_of(fusions))], [truth_of(fusions)], exact=True) == []


def test_the_attack_breaks_releases_that_ignore_earlier_ones() -> None:
    """One fusion more is seen: 7 were withheld, 8 would be shown."""
    before = [Fusion(2 if n < 7 else 99, 12, "one", "confirm", n % 2 == 0) for n in range(100)]
    after = [*before, Fusion(2, 12, "one", "confirm", False)]
    truths = [truth_of(before), truth_of(after)]
    first = release_of(before)
    alone = [shown_of(first), shown_of(release_of(after))]
    assert [line for line in narrowed_classes(alone, truths) if "release 0" in line and " seen: 7 to" in line]
    together = [shown_of(first), shown_of(release_of(after, first))]
    assert together[1]["step 12_months"] == dict.fromkeys(STATES[:2]) | {"cannot_be_seen": 0}
    assert narrowed_classes(together, truths, exact=True) == []


def test_unchanged_fusions_are_published_unchanged() -> None:
    fusions = drawn(np.random.default_rng(3), 300, 0.03)
    first = release_of(fusions)
    assert release_of(fusions, first) == first


def test_another_reading_withholds_everything_while_a_kept_release_shows_the_first() -> None:
    fusions = drawn(np.random.default_rng(3), 300, 0.03)
    first = release_of(fusions)
    other = [row | {"reading": "as_intended"} for row in first]
    assert {row["status"] for row in release_of(fusions, other)} == {"withheld"}


def test_steps_of_later_events_are_not_given_by_year() -> None:
    """The sum over all years is published as an incidence, so single years would be the difference of two of them."""
    fusion = OPERATION | {"levels": "one", "approach": "posterior", "decompression": True, "algorithm_step": "confirm"}
    steps = [
        {"policy_id": "P", "financial_year": YEAR, "step_id": step, "window": window, "state": state, "rows": 50}
        for step, window in (
            ("infection", "90_days"), ("readmission", "30_days"), ("further_fusion", "1_year"), ("died", "index_spell"),
        )
        for state in ("seen", "not_seen")
    ]  # fmt: skip
    rows = pathway_summary([fusion | {"rows": 100}], steps, [], Earlier(), RULE)
    assert {row["measure"] for row in rows if row["kind"] == "step"} == {"infection"}
    seen = next(row for row in rows if row["measure"] == "infection" and row["class"] == "seen")
    assert (seen["operations"], seen["of_operations"], seen["share"], seen["status"]) == (50, 100, 0.5, "ok")


def steps_of(*steps: tuple[str, int, int]) -> dict[str, dict[str, int | None]]:
    """What is published of steps at the operation with these counts of seen and not seen."""
    fusion = OPERATION | {
        "levels": "one",
        "approach": None,
        "decompression": True,
        "algorithm_step": "confirm",
        "rows": 500,
    }
    rows = [
        {
            "policy_id": "P",
            "financial_year": YEAR,
            "step_id": step,
            "window": "at_operation",
            "state": state,
            "rows": count,
        }
        for step, *counts in steps
        for state, count in zip(STATES, counts, strict=False)
    ]
    found: dict[str, dict[str, int | None]] = {}
    for row in pathway_summary([fusion], rows, [], Earlier(), RULE):
        if row["kind"] == "step":
            found.setdefault(row["measure"], {})[row["class"]] = row["operations"]
    return found


def test_a_part_of_a_step_is_not_the_difference_of_others() -> None:
    """Of 103 with stenosis 3 have instability: 100 without would give 3 away."""
    found = steps_of(
        ("stenosis", 103, 397), ("stenosis_with_instability", 3, 497), ("stenosis_without_instability", 100, 400)
    )
    assert found["stenosis"]["seen"] == 105
    assert {found[f"stenosis_{part}_instability"][state] for part in ("with", "without") for state in STATES} == {None}
    # What is in no part is small: the part is withheld. Where nothing is small, all are shown.
    assert steps_of(("imaging", 203, 297), ("imaging_flagged", 200, 300))["imaging_flagged"]["seen"] is None
    assert steps_of(("imaging", 203, 297), ("imaging_flagged", 90, 410))["imaging_flagged"]["seen"] == 90
    # The step is withheld, because 2 do not have it: the sum of its parts would give it back.
    found = steps_of(
        ("stenosis", 498, 2), ("stenosis_with_instability", 98, 402), ("stenosis_without_instability", 400, 100)
    )
    assert {count for states in found.values() for name, count in states.items() if name != "cannot_be_seen"} == {None}


# Incidence

START = {"policy_id": "P", "group": "all", "method": "aalen_johansen"}


def curve(event: str, counts: Mapping[int, int], start: int = 1000) -> list[Row]:
    """A curve without censoring, with a row for each day of ``counts`` and of those that are published."""
    rows, left = [], start
    for day in sorted({0, 30, 90, 365, 730, *counts}):
        events = counts.get(day, 0)
        share = 1 - (left - events) / start
        rows.append(
            START
            | {"event": event, "day": day, "at_risk": left, "events": events, "estimate": share}
            | {"lower": max(share - 0.01, 0), "upper": share + 0.01}
        )
        left -= events
    return rows


def incidence_of(
    rows: list[Row], earlier: Sequence[Row] = (), years: Sequence[str] = (YEAR,)
) -> dict[tuple[str, int], Row]:
    fusions = [
        OPERATION
        | {"financial_year": year, "levels": "one", "approach": None, "decompression": True, "rows": 500}
        | {"algorithm_step": "confirm"}
        for year in years
    ]
    summary = pathway_summary(fusions, [], rows, Earlier(earlier), RULE)
    return {(row["measure"], row["day"]): row for row in summary if row["kind"] == "incidence"}


def test_incidence_on_four_days_from_rounded_counts() -> None:
    found = incidence_of(curve("readmission", {3: 20, 29: 13, 31: 4, 200: 21}))
    assert sorted(day for _, day in found) == [30, 90, 365, 730]
    first = found["readmission", 30]
    # 33 of 1,000 by day 30. The estimate is a multiple of 5 in 1,000, and its limits are rounded outwards.
    assert [first[name] for name in ("operations", "of_operations", "share", "share_lower", "share_upper")] == [
        35, 1000, 0.035, 0.02, 0.045,
    ]  # fmt: skip
    assert found["readmission", 90]["status"] == "withheld", "only 4 more than by day 30"
    assert (found["readmission", 365]["operations"], found["readmission", 730]["status"]) == (60, "withheld")
    assert found["readmission", 90]["share"] is None and found["readmission", 90]["at_risk"] is None


@pytest.mark.parametrize(
    ("counts", "start", "withheld"),
    [
        ({3: 7}, 1000, True),  # fewer than 8 events
        ({3: 8}, 1000, False),
        ({3: 20}, 27, True),  # 7 are left at risk
        ({3: 20}, 28, False),
    ],
)
def test_an_incidence_of_few_is_withheld(counts: dict[int, int], start: int, withheld: bool) -> None:
    found = incidence_of(curve("readmission", counts, start))
    assert (found["readmission", 30]["status"] == "withheld") is withheld


def test_an_incidence_says_what_decides_a_transfer() -> None:
    known = [row | {"transfers_by": "admission_method"} for row in curve("readmission", {3: 20})]
    found = incidence_of([*known, *curve("further_operation", {3: 20})])
    assert found["readmission", 30]["transfers_by"] == found["readmission", 730]["transfers_by"] == "admission_method"
    assert found["further_operation", 30]["transfers_by"] is None, "a lake of an earlier version does not say"


def test_an_incidence_that_was_withheld_stays_withheld() -> None:
    first = incidence_of(curve("readmission", {3: 7}))
    again = incidence_of(curve("readmission", {3: 8}), list(first.values()))
    assert again["readmission", 30]["status"] == "withheld"
    assert incidence_of(curve("readmission", {3: 8}))["readmission", 30]["status"] == "ok"


def within(events: int, discharges: int) -> Row:
    limits = {"lower": events / discharges - 0.01, "upper": events / discharges + 0.01, "estimate": events / discharges}
    return START | {"event": "readmission_within_30_days", "day": 30, "at_risk": discharges, "events": events, **limits}


@pytest.mark.parametrize(
    ("events", "discharges", "withheld"),
    [
        (7, 1000, True),  # fewer than 8 readmissions
        (20, 1000, False),  # every discharge has 30 days of data
        (20, 990, True),  # of the other ten, none was readmitted
        (13, 900, True),  # 7 of the other hundred were
        (12, 900, False),
        (12, 985, True),  # 8 of the other 15 were readmitted, so 7 were not
    ],
)
def test_readmission_within_30_days_has_discharges_of_its_own(events: int, discharges: int, withheld: bool) -> None:
    found = incidence_of([*curve("readmission", {3: 20}), within(events, discharges)])
    assert [day for event, day in found if event == "readmission_within_30_days"] == [30]
    row = found["readmission_within_30_days", 30]
    assert (row["status"] == "withheld") is withheld
    if not withheld:
        # Counts to the nearest 5; the share is a multiple of 5 in all discharges.
        whole = round(discharges / 5) * 5
        assert (row["operations"], row["of_operations"], row["at_risk"]) == (round(events / 5) * 5, whole, whole)
        assert row["share"] == pytest.approx(round(events / discharges * whole / 5) * 5 / whole, abs=1e-6)


def test_another_year_is_not_the_difference_of_two_incidences() -> None:
    first = list(incidence_of(curve("readmission", {3: 20})).values())
    both = (YEAR, "2022-23")
    assert incidence_of(curve("readmission", {3: 25}), first, both)["readmission", 30]["status"] == "withheld"
    # 33 is published as 35, which is 15 more than 20: the other year has 11 events at least.
    assert incidence_of(curve("readmission", {3: 33}), first, both)["readmission", 30]["status"] == "ok"


def test_alive_without_further_operation_does_not_give_away_the_deaths() -> None:
    alive = curve("alive_without_further_operation", {3: 63})
    few = [*curve("further_operation", {3: 60}), *curve("death_in_hospital", {3: 3}), *alive]
    assert {event: row["status"] for (event, day), row in incidence_of(few).items() if day == 30} == {
        "further_operation": "ok", "death_in_hospital": "withheld", "alive_without_further_operation": "withheld",
    }  # fmt: skip
    enough = [*curve("further_operation", {3: 50}), *curve("death_in_hospital", {3: 13}), *alive]
    assert {row["status"] for (_, day), row in incidence_of(enough).items() if day == 30} == {"ok"}


# Prior approval


def matched(boards: Mapping[str, Mapping[str, int]], policy: str = "P") -> list[Row]:
    """Operations by board and class; all other boards of England have no register."""
    rows = [
        OPERATION | {"policy_id": policy, "board": board, "match_class": name, "rows": count}
        for board, classes in boards.items()
        for name, count in classes.items()
    ]
    rest = BOARDS - set(boards)
    return rows + [
        OPERATION | {"policy_id": policy, "board": b, "match_class": "cannot_link", "rows": 30} for b in rest
    ]


LARGE = {"approved_in_time": 40, "declined": 20, "none_on_record": 12}


def summary_of(rows: Sequence[Row], earlier: Sequence[Row] = (), policy: str = "P") -> dict[str, Row]:
    found = approval_summary(rows, Earlier(earlier), BOARDS, RULE)
    return {row["match_class"]: row for row in found if row["policy_id"] == policy}


def test_approvals_of_several_boards() -> None:
    found = summary_of(matched({"Q01": LARGE, "Q02": LARGE | {"pending": 3}}))
    assert tuple(found) == MATCH_CLASSES
    assert {row["boards"] for row in found.values()} == {"Q01,Q02"}
    shown = {name: row["operations"] for name, row in found.items() if row["status"] == "ok"}
    # 24 without an entry are withheld too: their number and the total would otherwise give 3 away. 1,200 are in 40 boards
    # without a register.
    assert shown == {"cannot_link": 1200, "regime_unknown": 0, "approved_in_time": 80, "declined": 40}
    assert found["approved_in_time"]["of_operations"] == 1345 and found["approved_in_time"]["share"] == 0.059480


@pytest.mark.parametrize(
    "boards",
    [
        {"Q01": LARGE},  # one board
        dict.fromkeys(BOARDS - {"Q07"}, LARGE),  # England less one board
    ],
)
def test_one_board_is_not_published_nor_all_but_one(boards: dict[str, dict[str, int]]) -> None:
    found = summary_of(matched(boards))
    assert {row["status"] for row in found.values()} == {"sub_national"}
    assert {row[name] for row in found.values() for name in ("operations", "of_operations", "boards")} == {None}


def test_all_boards_of_england_and_two_fewer_are_published() -> None:
    for without in (set(), {"Q07", "Q08"}):
        found = summary_of(matched(dict.fromkeys(BOARDS - without, LARGE)))
        assert found["approved_in_time"]["status"] == "ok"


def test_a_year_without_a_linked_operation_has_no_rows() -> None:
    assert summary_of(matched({})) == {}


def test_two_releases_or_policies_that_differ_by_boards_are_not_published() -> None:
    two = {"Q01": LARGE, "Q02": LARGE}
    first = list(summary_of(matched(two)).values())
    assert {row["status"] for row in first} == {"ok", "withheld"}
    more = matched(two | {"Q03": LARGE})
    assert {row["status"] for row in summary_of(more, first).values()} == {"sub_national"}
    assert summary_of(more)["declined"]["status"] == "ok", "without the earlier release it is published"
    # Another policy whose boards differ by one, in the same release or a kept one; by two is allowed.
    both = [*matched(two), *matched(two | {"Q03": LARGE}, "R")]
    assert {row["status"] for policy in "PR" for row in summary_of(both, policy=policy).values()} == {"sub_national"}
    assert {row["status"] for row in summary_of(matched(two | {"Q03": LARGE}, "R"), first, "R").values()} == {
        "sub_national"
    }
    apart = [*matched(two), *matched(two | {"Q03": LARGE, "Q04": LARGE}, "R")]
    assert summary_of(apart)["declined"]["status"] == summary_of(apart, policy="R")["declined"]["status"] == "ok"


def test_what_two_boards_differ_by_would_be_one_boards_count() -> None:
    """Why such a release is not published: the third board's 3 refusals would be the difference, within rounding."""
    two = {"Q01": LARGE, "Q02": LARGE}
    first = summary_of(matched(two))
    more = summary_of(matched(two | {"Q03": {"approved_in_time": 40, "declined": 3}}))
    difference = more["declined"]["operations"] - first["declined"]["operations"]
    assert abs(difference - 3) <= 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("exact", [False, True])
def test_approvals_over_four_releases_reveal_no_small_class(seed: int, exact: bool) -> None:
    draw = np.random.default_rng(seed)
    shares = np.array([0.02, 0.02, 0.01, 0.01, 0.4, 0.1, 0.02, 0.02, 0.1, 0.01, 0.01, 0.28])
    counts = draw.multinomial((200, 700, 2500)[seed % 3], shares)
    earlier: list[Row] = []
    releases, truths = [], []
    for _ in range(4):
        classes = dict(zip(MATCH_CLASSES, map(int, counts), strict=True))
        linked = {name: classes[name] for name in LINKED}
        boards = {"Q01": linked, "Q02": {"none_on_record": 9}}
        rows = [row for row in matched(boards) if row["match_class"] != "cannot_link"]
        rows.append(OPERATION | {"board": None, "match_class": "cannot_link", "rows": classes["cannot_link"]})
        summary = list(summary_of(rows, earlier).values())
        earlier = [*earlier, *summary]
        releases.append({"classes": {row["match_class"]: row["operations"] for row in summary}})
        truths.append({"classes": classes | {"none_on_record": classes["none_on_record"] + 9}})
        for sums in ([], [("classes", LINKED)]):
            known = [] if classes["cannot_link"] <= RULE.high else sums
            assert narrowed_classes(releases, truths, known_sums=known, exact=exact) == []
        change = draw.multinomial(int(draw.integers(1, 9)), shares)
        counts = counts + change if draw.random() < 0.6 else np.maximum(counts - change, 0)


# What changed


def change_of(before: Sequence[int], after: Sequence[int], **more: Any) -> list[Row]:
    """Rows of gold for two chains of counts: people, operations, in scope, with the diagnosis, without exclusion, flagged."""
    names = ("people", "operations_per_person", "in_scope", "primary_diagnosis", "no_exclusion", "flagged")
    key = {"policy_id": "P", "revision": "2022-08", "reading": "as_published", "area_type": "england"}
    key |= {"period_from": "2020-21", "period_to": YEAR}
    factors = [
        [chain[0], *(b / a if a else 0.0 for a, b in zip(chain, chain[1:], strict=False))] for chain in (before, after)
    ]
    parts = (after[-1] - before[-1]) / len(names)
    rows = [
        key | {"component": name, "value_from": a, "value_to": b, "records": parts, "notes": []}
        for name, a, b in zip(names, *factors, strict=True)
    ]
    totals = (("total_from", before[-1]), ("total_to", after[-1]))
    empty = {"value_from": None, "value_to": None, "notes": []}
    return [row | more for row in rows] + [key | empty | {"component": n, "records": float(v)} for n, v in totals]


BEFORE, AFTER = (50_000_000, 9000, 5000, 900, 600, 300), (51_000_000, 8000, 4500, 800, 500, 225)


def test_parts_of_a_change_are_whole_records_that_add_up() -> None:
    found = {row["component"]: row for row in activity_change(change_of(BEFORE, AFTER), Earlier(), RULE)}
    parts = [row["records"] for name, row in found.items() if not name.startswith("total")]
    assert sum(parts) == 225 - 300 == found["total_to"]["records"] - found["total_from"]["records"]
    assert {row["status"] for row in found.values()} == {"ok"}
    assert found["flagged"]["value_from"] == 0.5 and found["in_scope"]["value_from"] == 0.556


@pytest.mark.parametrize(
    "after",
    [
        (51_000_000, 4503, 4500, 800, 500, 225),  # 3 operations outside the scope
        (51_000_000, 8000, 4500, 800, 500, 494),  # 6 not flagged
        (51_000_000, 8000, 4500, 800, 500, 4),
    ],
)
def test_a_chain_with_a_small_count_shows_its_totals_only(after: tuple[int, ...]) -> None:
    found = {row["component"]: row for row in activity_change(change_of(BEFORE, after), Earlier(), RULE)}
    assert found["total_to"]["records"] == after[-1] and found["total_to"]["status"] == "ok"
    assert {row["status"] for name, row in found.items() if not name.startswith("total")} == {"withheld"}
    assert {row[n] for k, row in found.items() if k[:5] != "total" for n in ("records", "value_from", "value_to")} == {
        None
    }


def small_counts_found(published: Mapping[str, Row], chain: Sequence[int], side: str) -> list[int]:
    """The attack: a reader who knows the people and the total works the counts of a chain out from the factors, each known to half of
    its last digit. Returns the counts from 1 to 7, and such differences of one count and the next, that can have one value only."""
    factors = [
        published[name][f"value_{side}"] for name in published if name not in ("total_from", "total_to", "people")
    ]
    low, high = [float(chain[0])], [float(chain[0])]
    for factor in factors:
        half = 0.0 if not factor else 0.5 * 10 ** (np.floor(np.log10(factor)) - 2)
        low.append(0.0 if factor is None else np.ceil(low[-1] * (factor - half) - 1e-9))
        high.append(high[-1] if factor is None else np.floor(high[-1] * (factor + half) + 1e-9))
    low[-1] = high[-1] = float(published[f"total_{side}"]["records"])
    for place in range(len(low) - 2, 0, -1):
        low[place] = max(low[place], low[place + 1])
    known = [count for place, count in enumerate(chain[1:-1], 1) if low[place] == high[place]]
    for place in range(1, len(chain) - 1):
        if low[place] == high[place] and low[place + 1] == high[place + 1]:
            known.append(chain[place] - chain[place + 1])
    return [count for count in known if 1 <= count <= 7]


def test_the_factors_of_a_change_reveal_no_small_count() -> None:
    draw = np.random.default_rng(28)
    careless, found = 0, 0
    for _ in range(400):
        chains = []
        for _ in range(2):
            chain = [int(draw.integers(50_000_000, 60_000_000)), int(draw.integers(1, 120))]
            while len(chain) < 6:
                chain.append(chain[-1] - int(draw.choice([0, draw.integers(0, 9), draw.integers(0, chain[-1] + 1)])))
                chain[-1] = max(0, chain[-1])
            chains.append(chain)
        for rule in (RULE, Thresholds(1, 0, 5)):
            rows = {row["component"]: row for row in activity_change(change_of(*chains), Earlier(), rule)}
            revealed = [
                number
                for chain, side in zip(chains, ("from", "to"), strict=True)
                for number in small_counts_found(rows, chain, side)
            ]
            if rule is RULE:
                assert revealed == [], chains
                found += rows["flagged"]["status"] == "ok"
            else:
                careless += len(revealed)
    assert careless > 500 and found > 5, "the attack breaks what is published without the rule"


def test_parts_that_a_kept_release_withholds_stay_withheld() -> None:
    small = activity_change(change_of(BEFORE, (51_000_000, 8000, 4500, 800, 500, 494)), Earlier(), RULE)
    found = {row["component"]: row for row in activity_change(change_of(BEFORE, AFTER), Earlier(small), RULE)}
    assert {row["status"] for name, row in found.items() if not name.startswith("total")} == {"withheld"}
    assert found["total_to"]["records"] == 225


# Case-note audits


def estimated(**values: Any) -> Row:
    return {
        "audit_id": "A", "policy_id": "P", "reading": "as_published", "measure": "positive_predictive_value",
        "part": "overall", "estimate": 0.8, "lower": 0.713, "upper": 0.869, "worst": 0.72, "best": 0.83, "method": "wilson",
        "forms": 102, "not_returned": 9, "notes_not_found": 2, "status": "ok",
    } | values  # fmt: skip


def audited(*rows: Row, earlier: Sequence[Row] = ()) -> list[Row]:
    return audit_estimate(rows, Earlier(earlier), RULE)


def test_an_estimate_is_rounded_and_says_nothing_of_the_sample() -> None:
    [row] = audited(estimated())
    names = ("estimate", "lower", "upper", "worst", "best", "forms", "status")
    assert [row[name] for name in names] == [0.8, 0.7, 0.9, 0.7, 0.85, 100, "ok"], (
        "limits are multiples of 5 forms of 100"
    )
    [few_missing] = audited(estimated(not_returned=3))
    assert (few_missing["worst"], few_missing["best"], few_missing["estimate"]) == (None, None, 0.8)
    [fewer] = audited(estimated(forms=40, estimate=0.62, lower=0.46, upper=0.76))
    assert [fewer[name] for name in names[:3]] == [0.6, 0.4, 0.8], "one form of 40 is 0.025, five are 0.125"
    missed = estimated(measure="missed_cases", estimate=0.2)
    corrected = estimated(measure="corrected_records", estimate=312.4, lower=288.0, upper=341.0)
    *_, count = audited(corrected, estimated(), missed)
    assert [count[name] for name in names[:3]] == [310.0, 285.0, 345.0]


def test_a_corrected_figure_does_not_give_away_a_share_that_is_withheld() -> None:
    """England's counts and two of the three give the third: flagged × predictive value + others × missed = corrected."""
    rows = [estimated(), estimated(measure="missed_cases", estimate=3 / 102)]
    rows += [estimated(measure=name, estimate=0.3) for name in ("corrected_share", "sensitivity", "rogan_gladen")]
    shown = {row["measure"]: row["status"] for row in audited(*rows)}
    assert shown.pop("positive_predictive_value") == "ok" and set(shown.values()) == {"withheld"}


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"estimate": 7 / 102}, "withheld"),
        ({"estimate": 8 / 102}, "ok"),
        ({"estimate": 95 / 102}, "withheld"),  # 7 count against it
        # Forms have weights: 7 of them may count for as much as 20.
        ({"estimate": 20 / 102, "counted": 7}, "withheld"),
        ({"estimate": 20 / 102, "counted": 8}, "ok"),
        ({"estimate": 82 / 102, "counted": 95}, "withheld"),
        ({"estimate": 7 / 102, "counted": 20}, "withheld"),
        ({"estimate": None}, "withheld"),
        ({"measure": "kappa", "forms": 29}, "withheld"),
        ({"measure": "kappa", "forms": 30, "counted": 8}, "ok"),
        ({"measure": "kappa", "forms": 30, "counted": 7}, "withheld"),  # in a cell of the two readers' answers
        ({"measure": "kappa", "status": "undefined", "estimate": None}, "withheld"),  # all have one answer
        ({"measure": "corrected_records", "estimate": 312.0}, "withheld"),  # without the shares behind it
        ({"status": "undefined", "estimate": None}, "undefined"),
        ({"part": "clause:age"}, "ok"),
    ],
)
def test_an_estimate_of_few_forms_is_withheld(values: dict[str, Any], status: str) -> None:
    [row] = audited(estimated(**values))
    assert row["status"] == status and (row["forms"] is None) == (status != "ok")


def test_no_estimate_has_a_cell_of_few_forms_behind_it() -> None:
    """Whatever the weights: the forms for and against an estimate are 8 or more each, or it is withheld."""
    for forms in (15, 16, 31, 102):
        for yes in range(forms + 1):
            for weighted in (yes / forms, 0.5):
                [row] = audited(estimated(estimate=weighted, forms=forms, counted=yes))
                assert (row["status"] == "ok") == (min(yes, forms - yes) >= 8), (forms, yes, weighted)
                assert row["status"] == "ok" or row["forms"] is row["estimate"] is row["upper"] is None


def test_strata_providers_and_samples_are_not_published() -> None:
    rows = [estimated(part=part) for part in ("stratum:flagged", "reading:as_intended", "provider:RX1")]
    assert audited(*rows, estimated(measure="sample_size")) == []


def test_an_estimate_that_was_withheld_stays_withheld() -> None:
    first = audited(estimated(estimate=7 / 102))
    assert audited(estimated(estimate=8 / 102), earlier=first)[0]["status"] == "withheld"


def test_only_audits_of_every_provider_are_of_england() -> None:
    rated = [{"policy_id": "P", "financial_year": YEAR, "area_code": code} for code in ("RX1", "RX2")]
    sample = [
        {"audit_id": audit, "policy_id": "P", "financial_year": YEAR, "provider_code": code}
        for audit, codes in (("A", ("RX1", "RX2")), ("B", ("RX1",)))
        for code in codes
    ]
    assert audits_of_england(sample, rated) == {"A"}
    assert audits_of_england(sample, []) == set()


# All of them, from the tables of a lake


KINDS = {
    "string": pa.string(), "bigint": pa.int64(), "int": pa.int32(), "double": pa.float64(), "boolean": pa.bool_(),
    "date": pa.date32(), "timestamp": pa.timestamp("us", "UTC"), "array<string>": pa.list_(pa.string()),
}  # fmt: skip


def arrow(table: Table, rows: Sequence[Row]) -> pa.Table:
    """Rows with the declared types; a column of another type is as its values are, or left out without values."""
    columns = {name: pa.array([row.get(name) for row in rows], KINDS.get(kind)) for name, kind, _ in table.fields()}
    return pa.table({name: column for name, column in columns.items() if not pa.types.is_null(column.type)})


def lake_of(folder: Path, tables: Mapping[Table, Sequence[Row]]) -> LocalLake:
    """A lake in a folder with these rows, as Spark would have written them."""
    for table, rows in tables.items():
        names = {name for row in rows for name in row}
        assert names <= set(table.names()), names - set(table.names())
        write_deltalake(str(folder / table.layer / table.name), arrow(table, rows))
    return LocalLake(LakeLocation(folder=folder))


def small_lake(folder: Path) -> LocalLake:
    """Two boards' registers, fusions of a national and a local policy, and an audit of both providers."""
    boards = sorted({row["icb_code"] for row in read_geography("current").areas.values()})[:2]
    record = OPERATION | {
        "source_system": "sus_plus",
        "dataset": "apc",
        "person_id": "x",
        "run_id": "r",
        "flagged": True,
    }
    matches, fusions, steps = [], [], []
    for number in range(80):
        operation = record | {"record_id": f"k{number}", "board": boards[number % 2]}
        matches.append(operation | {"match_class": "approved_in_time" if number < 60 else "none_on_record"})
        fusions.append(operation | {"levels": "one", "decompression": number < 30, "algorithm_step": "confirm"})
        steps += [
            {
                name: operation[name]
                for name in ("policy_id", "record_id", "financial_year", "source_system", "dataset", "run_id")
            }
            | {"step_id": "rheumatology", "window": "6_months", "state": state}
            for state in ("seen" if number < 20 else "not_seen",)
        ]
    local = {"policy_id": "L"}
    change = {"area_code": "E92000001", "run_id": "r"}
    audit = {"audit_id": "A", "policy_id": "P", "run_id": "r"}
    default = {"reading": "as_published", "is_default_reading": True}
    policies = [{"policy_id": "P"} | default, {"policy_id": "L", "boards": [boards[0]]} | default]
    policies.append({"policy_id": "P", "reading": "as_intended", "is_default_reading": False})
    return lake_of(
        folder,
        {
            POLICY: policies,
            APPROVAL_MATCH: [*matches, *(row | local for row in matches)],
            PATHWAY: [*fusions, *(row | local for row in fusions)],
            PATHWAY_STEP: [*steps, *(row | local for row in steps)],
            PATHWAY_INCIDENCE: [row | {"run_id": "r"} for row in curve("readmission", {3: 20})],
            ACTIVITY_CHANGE: [
                *(row | change for row in change_of(BEFORE, AFTER)),
                *(row | change | {"area_type": "icb", "area_code": boards[0]} for row in change_of(BEFORE, AFTER)),
            ],
            CODE_USE: [
                *(
                    {
                        "policy_id": "P",
                        "financial_year": YEAR,
                        "kind": "primary_diagnosis",
                        "code": code,
                        "records": number,
                    }
                    | {"of_records": 80, "run_id": "r"}
                    for code, number in (("M545", 40), ("M549", 20), ("M511", 20))
                ),
            ],
            EQUALITY_RATE: [
                {
                    "policy_id": policy,
                    "reading": "as_published",
                    "revision": "2022-08",
                    "period": YEAR,
                    "dimension": "sex",
                }
                | {"group": sex, "activity": 40, "rate": 1.0, "lower": 0.7, "upper": 1.4, "run_id": "r", "status": "ok"}
                for policy in ("P", "L")
                for sex in ("1", "2")
            ],
            LINKED_MEASURE: [
                {name: OPERATION[name] for name in ("policy_id", "revision", "reading", "financial_year")}
                | {
                    "measure": "imaging_before_fusion",
                    "group": group,
                    "records": records,
                    "counted": counted,
                    "run_id": "r",
                }
                for group, records, counted in (("all", 80, 40), ("flagged", 40, 20))
            ],
            AUDIT_SAMPLE: [audit | {"financial_year": YEAR, "provider_code": code} for code in ("RX1", "RX2")],
            AUDIT_ESTIMATE: [
                estimated() | {"run_id": "r"},
                estimated(part="clause:age") | {"run_id": "r"},
                estimated(reading="as_intended") | {"run_id": "r"},  # not the reading that figures are published by
            ],
            ACTIVITY_RATE: [
                {
                    "policy_id": "P",
                    "financial_year": YEAR,
                    "area_type": "provider",
                    "area_code": code,
                    "period_years": 1,
                }
                for code in ("RX1", "RX2")
            ],
        },
    )


RULES = disclosure_rules()["hes_2018_protected"]


def test_every_table_is_made_of_national_policies_only(tmp_path: Path) -> None:
    config = RunConfig(lake=LakeLocation(folder=tmp_path))
    made = published_monitoring(small_lake(tmp_path), config, RULES, "current")
    assert {table: len(rows) for table, rows in made.items()} == {
        APPROVAL_SUMMARY: 12, PATHWAY_SUMMARY: 5 + 5 + 2 + 4 + 3 + 4, PUBLISHED_ACTIVITY_CHANGE: 8, PUBLISHED_AUDIT_ESTIMATE: 2,
        MEASURE_SUMMARY: 3 + 2 + 2,
    }  # fmt: skip
    for table, rows in made.items():
        assert {row["policy_id"] for row in rows} == {"P"}
        assert all(set(row) == set(table.names()) - {"release_id"} for row in rows), table.full_name
        arrow(table, rows)
        assert {row["disclosure"] for row in rows} == {config.disclosure}
    seen = {row["class"]: row["operations"] for row in made[PATHWAY_SUMMARY] if row["measure"] == "rheumatology"}
    assert seen == {"seen": 20, "not_seen": 60, "cannot_be_seen": 0}


def test_under_partial_coverage_nothing_is_published(tmp_path: Path) -> None:
    config = RunConfig(lake=LakeLocation(folder=tmp_path), coverage="partial")
    assert not any(published_monitoring(small_lake(tmp_path), config, RULES, "current").values())


def test_kept_releases_are_taken_into_account_and_removed_ones_are_not(tmp_path: Path) -> None:
    config = RunConfig(lake=LakeLocation(folder=tmp_path))
    lake = small_lake(tmp_path)
    first = published_monitoring(lake, config, RULES, "current")[PATHWAY_SUMMARY]
    withheld = [
        row
        | {"release_id": "r-1"}
        | ({"operations": None, "status": "withheld"} if row["measure"] == "rheumatology" else {})
        for row in first
    ]
    lake_of(tmp_path, {PATHWAY_SUMMARY: withheld, RELEASE: [{"release_id": "r-0"}]})
    assert published_monitoring(lake, config, RULES, "current")[PATHWAY_SUMMARY] == first, "r-1 is not a kept release"
    write_deltalake(str(tmp_path / "published" / "release"), arrow(RELEASE, [{"release_id": "r-1"}]), mode="append")
    again = published_monitoring(lake, config, RULES, "current")[PATHWAY_SUMMARY]
    assert {row["status"] for row in again if row["measure"] == "rheumatology"} == {"withheld"}
