"""Operations matched with approvals: hand-worked days, and every combination against a plain reading of the rules."""

from collections.abc import Callable, Iterable
from datetime import date, timedelta
from itertools import combinations_with_replacement, product
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ebi_spark.approvals.match import MATCH_CLASSES, match_approvals
from ebi_spark.small_frames import small_frame

DAY = date(2024, 2, 1)
OPERATION = "source_system string, dataset string, record_id string, policy_id string, person_id string, operation_date date, board string, emergency boolean"
ENTRY = "approval_id string, person_id string, policy_id string, board string, route string, requested_on date, decided_on date, decision string, valid_from date, valid_to date"
REGIME = "board string, policy_id string, kind string, since date, until date, exempts_emergencies boolean"
BOARD = "board string, covered_from date, covered_to date, linkable boolean"

Entry = dict[str, Any]
Match = Callable[..., dict[str, Any]]


def day(offset: int) -> date:
    return DAY + timedelta(days=offset)


def operation(name: str = "1", **changes: Any) -> dict[str, Any]:
    return {
        "source_system": "sus_plus", "dataset": "apc", "record_id": name, "policy_id": "P", "person_id": f"person {name}",
        "operation_date": DAY, "board": "QJ2", "emergency": False, **changes,
    }  # fmt: skip


def entry(person: str = "1", name: str = "a", **changes: Any) -> Entry:
    return {
        "approval_id": f"{person}{name}", "person_id": f"person {person}", "policy_id": "P", "board": "QJ2",
        "route": "prior_approval", "requested_on": day(-60), "decided_on": day(-30), "decision": "approved",
        "valid_from": None, "valid_to": None, **changes,
    }  # fmt: skip


REGIMES = [
    {"board": "QJ2", "policy_id": "P", "kind": "prior_approval", "since": None, "until": date(2024, 3, 18),
     "exempts_emergencies": True},
    {"board": "QJ2", "policy_id": "P", "kind": "none", "since": date(2024, 3, 18), "until": None,
     "exempts_emergencies": False},
    {"board": "QK1", "policy_id": "P", "kind": "prior_approval", "since": None, "until": None, "exempts_emergencies": False},
]  # fmt: skip
BOARDS = [
    {"board": "QJ2", "covered_from": date(2023, 4, 1), "covered_to": date(2024, 3, 31), "linkable": True},
    {"board": "QK1", "covered_from": None, "covered_to": None, "linkable": False},
    {"board": "QOQ", "covered_from": None, "covered_to": None, "linkable": True},
]


@pytest.fixture
def matched(spark: SparkSession, not_compiled: None) -> Callable[..., dict[str, Any]]:
    def match(operations: Iterable[dict[str, Any]], entries: Iterable[Entry] = ()) -> dict[str, Any]:
        frame = match_approvals(
            small_frame(spark, list(operations), OPERATION), small_frame(spark, list(entries), ENTRY),
            small_frame(spark, REGIMES, REGIME), small_frame(spark, BOARDS, BOARD),
        )  # fmt: skip
        return {row["record_id"]: row for row in frame.collect()}

    return match


CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], str]] = {
    "no person": ({"person_id": None}, [], "cannot_link"),
    "a board that the register does not cover": ({"board": "QXX"}, [], "cannot_link"),
    "a day before the register begins": ({"operation_date": date(2023, 3, 31)}, [], "cannot_link"),
    "the first day of the register": ({"operation_date": date(2023, 4, 1)}, [], "none_on_record"),
    "a day after the register ends": ({"operation_date": date(2024, 4, 1)}, [], "cannot_link"),
    "another pseudonym in the register": ({"board": "QK1"}, [], "cannot_link"),
    "no regime known": ({"board": "QOQ"}, [{"board": "QOQ"}], "regime_unknown"),
    "17 March 2024": ({"operation_date": date(2024, 3, 17)}, [], "none_on_record"),
    "18 March 2024": ({"operation_date": date(2024, 3, 18)}, [], "not_required"),
    "18 March 2024, approved all the same": ({"operation_date": date(2024, 3, 18)}, [{}], "not_required"),
    "an emergency": ({"emergency": True}, [], "not_required"),
    "approved on the day of the operation": ({}, [{"decided_on": DAY}], "approved_in_time"),
    "approved the day after": ({}, [{"decided_on": day(1)}], "approved_late"),
    "valid until the day of the operation": ({}, [{"valid_to": DAY}], "approved_in_time"),
    "valid until the day before": ({}, [{"valid_to": day(-1)}], "approved_expired"),
    "valid from the day of the operation": ({}, [{"valid_from": DAY}], "approved_in_time"),
    "valid from the day after": ({}, [{"valid_from": day(1)}], "approved_late"),
    "an individual funding request": ({}, [{"route": "ifr"}], "approved_in_time"),
    "criteria checked": ({}, [{"route": "criteria_checked"}], "criteria_confirmed"),
    "two that are valid": ({}, [{}, {"decided_on": day(-10)}], "ambiguous"),
    "one valid, one expired": ({}, [{}, {"valid_to": day(-5)}], "approved_in_time"),
    "refused, then approved": ({}, [{"decision": "declined", "decided_on": day(-40)}, {}], "approved_in_time"),
    "approved, then refused": ({}, [{}, {"decision": "declined", "decided_on": day(-1)}], "approved_in_time"),
    "refused": ({}, [{"decision": "declined"}], "declined"),
    "refused on the day": ({}, [{"decision": "declined", "decided_on": DAY}], "declined"),
    "refused afterwards": ({}, [{"decision": "declined", "decided_on": day(1)}], "pending"),
    "pending": ({}, [{"decision": "pending", "decided_on": None}], "pending"),
    "requested afterwards": ({}, [{"decision": "pending", "decided_on": None, "requested_on": day(1)}], "none_on_record"),
    "withdrawn": ({}, [{"decision": "withdrawn"}], "withdrawn"),
    "of another policy": ({}, [{"policy_id": "Q"}], "none_on_record"),
    "of another board": ({}, [{"board": "QXX"}], "none_on_record"),
    "of no board": ({}, [{"board": None}], "approved_in_time"),
}  # fmt: skip


def test_hand_worked_days(matched: Match) -> None:
    operations, entries = [], []
    for number, (changes, given, _) in enumerate(CASES.values()):
        operations.append(operation(str(number), **changes))
        entries += [entry(str(number), "abc"[place], **item) for place, item in enumerate(given)]
    found = matched(operations, entries)
    seen = {name: found[str(number)]["match_class"] for number, name in enumerate(CASES)}
    assert seen == {name: expected for name, (_, _, expected) in CASES.items()}
    assert {expected for _, _, expected in CASES.values()} == set(MATCH_CLASSES)


def test_one_approval_for_two_operations_is_ambiguous_for_both(matched: Match) -> None:
    twice = [operation("1"), operation("2", person_id="person 1", operation_date=day(20))]
    found = matched(twice, [entry("1")])
    assert [row["match_class"] for row in found.values()] == ["ambiguous", "ambiguous"]
    ended = matched(twice, [entry("1", valid_to=DAY)])
    assert {name: row["match_class"] for name, row in ended.items()} == {
        "1": "approved_in_time",
        "2": "approved_expired",
    }


def test_what_a_class_rests_on(matched: Match) -> None:
    found = matched(
        [operation("1"), operation("2"), operation("3", operation_date=date(2024, 3, 18))],
        [entry("1"), entry("1", "b", policy_id="Q"), entry("2", "a", policy_id="Q"), entry("3")],
    )
    assert (found["1"]["approval_ids"], found["1"]["days_from_decision"]) == (["1a"], 30)
    assert (found["2"]["match_class"], found["2"]["other_policy_approvals"]) == ("none_on_record", ["2a"])
    assert (found["3"]["match_class"], found["3"]["approval_ids"]) == ("not_required", ["3a"])


# A plain reading of the rules, one operation and its entries at a time, that shares no code with the product.


def plainly(entries: list[Entry]) -> str:
    approved = [item for item in entries if item["decision"] == "approved"]
    starts = [(item, item["valid_from"] or item["decided_on"]) for item in approved]
    valid = [
        item for item, start in starts
        if item["decided_on"] <= DAY and start <= DAY and (item["valid_to"] is None or item["valid_to"] >= DAY)
    ]  # fmt: skip
    if len(valid) > 1:
        return "ambiguous"
    if valid:
        return "criteria_confirmed" if valid[0]["route"] == "criteria_checked" else "approved_in_time"
    if any(item["decided_on"] <= DAY and start <= DAY and item["valid_to"] < DAY for item, start in starts):
        return "approved_expired"
    if any(item["decided_on"] > DAY or start > DAY for item, start in starts):
        return "approved_late"
    decided = [item for item in entries if item["decision"] in ("approved", "declined") and item["decided_on"] <= DAY]
    if decided and max(decided, key=lambda item: item["decided_on"])["decision"] == "declined":
        return "declined"
    for item in entries:
        undecided = item["decided_on"] is None or item["decided_on"] > DAY
        if item["requested_on"] <= DAY and item["decision"] != "approved" and undecided:
            return "pending"
    return "withdrawn" if any(item["decision"] == "withdrawn" for item in entries) else "none_on_record"


def test_every_combination_has_exactly_one_class_and_the_plain_one(matched: Match) -> None:
    kinds: list[dict[str, Any]] = []
    for decision, decided, route in product(
        ("approved", "declined", "withdrawn"), (-30, 0, 5), ("ifr", "criteria_checked")
    ):
        spans = (
            ((None, None), (0, None), (3, None), (None, 0), (None, -1)) if decision == "approved" else ((None, None),)
        )
        for start, end in spans:
            if end is not None and end < decided:
                continue
            kinds.append(
                {
                    "decision": decision, "decided_on": day(decided), "route": route,
                    "valid_from": None if start is None else day(start), "valid_to": None if end is None else day(end),
                }
            )  # fmt: skip
    kinds += [{"decision": "pending", "decided_on": None, "requested_on": day(asked)} for asked in (-5, 0, 2)]
    cases = [list(pair) for number in (0, 1, 2) for pair in combinations_with_replacement(kinds, number)]
    operations = [operation(str(number)) for number in range(len(cases))]
    entries = [
        [entry(str(number), "ab"[place], **item) for place, item in enumerate(case)]
        for number, case in enumerate(cases)
    ]
    found = matched(operations, [item for of_case in entries for item in of_case])
    assert len(found) == len(cases) > 400
    differing = {
        number: (cases[number], found[str(number)]["match_class"], plainly(of_case))
        for number, of_case in enumerate(entries)
        if found[str(number)]["match_class"] != plainly(of_case)
    }
    assert differing == {}
