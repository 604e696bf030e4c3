"""Operations matched with approvals: hand-worked days, and every combination against a plain reading of the rules."""

import random
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from itertools import combinations, combinations_with_replacement, product
from typing import Any

import duckdb
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from ebi_spark.approvals.match import MATCH_CLASSES, match_approvals
from ebi_spark.small_frames import small_frame

DAY = date(2024, 2, 1)
OPERATION = (
    "source_system string, dataset string, record_id string, policy_id string, person_id string, procedure_codes string, "
    "operation_date date, board string, emergency boolean"
)
ENTRY = (
    "register string, approval_id string, person_id string, policy_id string, procedure_codes string, board string, "
    "route string, requested_on date, decided_on date, decision string, valid_from date, valid_to date"
)
REGIME = "board string, policy_id string, kind string, since date, until date, exempts_emergencies boolean"
BOARD = "board string, covered_from date, covered_to date, linkable boolean, person_system string"

Entry = dict[str, Any]
Match = Callable[..., dict[str, Any]]


def day(offset: int) -> date:
    return DAY + timedelta(days=offset)


def operation(name: str = "1", **changes: Any) -> dict[str, Any]:
    return {
        "source_system": "sus_plus", "dataset": "apc", "record_id": name, "policy_id": "P", "person_id": f"person {name}",
        "procedure_codes": ",V382,Z993,", "operation_date": DAY, "board": "QJ2", "emergency": False, **changes,
    }  # fmt: skip


def entry(person: str = "1", name: str = "a", **changes: Any) -> Entry:
    return {
        "register": "r", "approval_id": f"{person}{name}", "person_id": f"person {person}", "policy_id": "P", "board": "QJ2",
        "route": "prior_approval", "requested_on": day(-60), "decided_on": day(-30), "decision": "approved",
        "valid_from": None, "valid_to": None, **changes,
    }  # fmt: skip


REGIMES = [
    {"board": "QJ2", "policy_id": "P", "kind": "prior_approval", "since": None, "until": date(2024, 3, 18),
     "exempts_emergencies": True},
    {"board": "QJ2", "policy_id": "P", "kind": "none", "since": date(2024, 3, 18), "until": None,
     "exempts_emergencies": False},
    {"board": "QK1", "policy_id": "P", "kind": "prior_approval", "since": None, "until": None, "exempts_emergencies": False},
    {"board": "QH8", "policy_id": "P", "kind": "criteria_based", "since": None, "until": None, "exempts_emergencies": False},
]  # fmt: skip
BOARDS = [
    {"board": "QJ2", "covered_from": date(2023, 4, 1), "covered_to": date(2024, 3, 31), "linkable": True},
    {"board": "QK1", "covered_from": None, "covered_to": None, "linkable": False},
    {"board": "QOQ", "covered_from": None, "covered_to": None, "linkable": True},
    {"board": "QH8", "covered_from": None, "covered_to": None, "linkable": True, "person_system": "sus_plus"},
]


@pytest.fixture
def matched(spark: SparkSession) -> Callable[..., dict[str, Any]]:
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
    "the last day of the register": ({"operation_date": date(2024, 3, 31)}, [], "not_required"),
    "another pseudonym, though approved": ({"board": "QK1"}, [{}], "cannot_link"),
    "no board": ({"board": None}, [{}], "cannot_link"),
    "the pseudonym of another system": ({"board": "QH8", "source_system": "hes"}, [{}], "cannot_link"),
    "the pseudonym of the same system": ({"board": "QH8"}, [{}], "approved_in_time"),
    "an emergency that is not exempt": ({"board": "QH8", "emergency": True}, [], "none_on_record"),
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
    "valid from before it was decided, and used before": (
        {}, [{"decided_on": day(5), "valid_from": day(-5)}], "approved_late",
    ),
    "an individual funding request": ({}, [{"route": "ifr"}], "approved_in_time"),
    "criteria checked": ({}, [{"route": "criteria_checked"}], "criteria_confirmed"),
    "two that are valid": ({}, [{}, {"decided_on": day(-10)}], "ambiguous"),
    "one valid, one expired": ({}, [{}, {"valid_to": day(-5)}], "approved_in_time"),
    "refused, then approved": ({}, [{"decision": "declined", "decided_on": day(-40)}, {}], "approved_in_time"),
    "approved, then refused": ({}, [{}, {"decision": "declined", "decided_on": day(-1)}], "approved_in_time"),
    "refused once, asked again": (
        {}, [{"decision": "declined"}, {"decision": "pending", "decided_on": None, "requested_on": day(-2)}], "declined",
    ),
    "refused, approved too late": ({}, [{"decision": "declined"}, {"decided_on": day(3)}], "approved_late"),
    "refused, and an approval that expired": ({}, [{"decision": "declined"}, {"valid_to": day(-2)}], "approved_expired"),
    "refused": ({}, [{"decision": "declined"}], "declined"),
    "refused on the day": ({}, [{"decision": "declined", "decided_on": DAY}], "declined"),
    "refused afterwards": ({}, [{"decision": "declined", "decided_on": day(1)}], "pending"),
    "pending": ({}, [{"decision": "pending", "decided_on": None}], "pending"),
    "requested afterwards": ({}, [{"decision": "pending", "decided_on": None, "requested_on": day(1)}], "none_on_record"),
    "requested on the day": ({}, [{"decision": "pending", "decided_on": None, "requested_on": DAY}], "pending"),
    "pending, and no day of the request": (
        {}, [{"decision": "pending", "decided_on": None, "requested_on": None}], "pending",
    ),
    "withdrawn afterwards": ({}, [{"decision": "withdrawn", "decided_on": day(1)}], "pending"),
    "withdrawn, and no day": ({}, [{"decision": "withdrawn", "decided_on": None}], "withdrawn"),
    "requested and withdrawn afterwards": (
        {}, [{"decision": "withdrawn", "decided_on": day(9), "requested_on": day(8)}], "none_on_record",
    ),
    "withdrawn": ({}, [{"decision": "withdrawn"}], "withdrawn"),
    "of another policy": ({}, [{"policy_id": "Q"}], "none_on_record"),
    "of the board where the person lived before": ({}, [{"board": "QXX"}], "approved_in_time"),
    "of no board": ({}, [{"board": None}], "approved_in_time"),
    "of the procedure": ({}, [{"policy_id": None, "procedure_codes": ",V382,"}], "approved_in_time"),
    "of its three-character code": ({}, [{"policy_id": None, "procedure_codes": ",W371,V38,"}], "approved_in_time"),
    "of another procedure": ({}, [{"policy_id": None, "procedure_codes": ",W371,"}], "none_on_record"),
    "of the procedure, for another policy": ({}, [{"policy_id": "Q", "procedure_codes": ",V382,"}], "none_on_record"),
    "of the procedure, by its policy too": ({}, [{}, {"policy_id": None, "procedure_codes": ",V382,"}], "ambiguous"),
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
        [
            operation("1"), operation("2"), operation("3", operation_date=date(2024, 3, 18)), operation("4"), operation("5"),
            operation("6"), operation("7", person_id=None),
            # The same operation under two policies is not two operations.
            operation("8"), operation("8b", person_id="person 8", policy_id="Q"),
        ],
        [
            entry("1"), entry("1", "b", policy_id="Q"), entry("1", "c", decision="declined"), entry("2", "a", policy_id="Q"),
            entry("3"), entry("4", decided_on=day(2)), entry("5", decision="declined", decided_on=day(-7)),
            entry("6"), entry("6", "b"), entry("8", policy_id=None, procedure_codes=",V382,"),
        ],
    )  # fmt: skip
    assert (found["1"]["approval_ids"], found["1"]["days_from_decision"]) == (["1a"], 30)
    assert found["1"]["other_policy_approvals"] == ["1b"]
    assert (found["2"]["match_class"], found["2"]["other_policy_approvals"]) == ("none_on_record", ["2a"])
    assert (found["3"]["match_class"], found["3"]["approval_ids"]) == ("not_required", ["3a"])
    assert (found["4"]["approval_ids"], found["4"]["days_from_decision"]) == (["4a"], -2)
    assert (found["5"]["approval_ids"], found["5"]["days_from_decision"]) == (["5a"], 7)
    assert (found["6"]["approval_ids"], found["6"]["days_from_decision"]) == (["6a", "6b"], None)
    assert (found["7"]["match_class"], found["7"]["reason"]) == ("cannot_link", "no_person")
    assert (found["8"]["match_class"], found["8b"]["match_class"]) == ("approved_in_time", "regime_unknown")


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


# Every combination of what can be true of an operation, each made true by days that are worked out by hand.
MADE: dict[str, dict[str, Any]] = {
    "approved_in_time": {},
    "criteria_confirmed": {"route": "criteria_checked"},
    "approved_expired": {"valid_to": day(-1)},
    "approved_late": {"decided_on": day(1)},
    "declined": {"decision": "declined"},
    "pending": {"decision": "pending", "decided_on": None},
    "withdrawn": {"decision": "withdrawn"},
}
# Board and day: what holds of them before any entry counts.
PLACES: dict[str, dict[str, Any]] = {
    "required": {"board": "QJ2"},
    "not_required": {"board": "QJ2", "operation_date": date(2024, 3, 18)},
    "regime_unknown": {"board": "QOQ"},
    "not_linkable": {"board": "QK1"},
    "not_covered": {"board": "QXX"},
}


def first_that_holds(place: str, person: bool, emergency: bool, kinds: tuple[str, ...]) -> str:
    if not person or place in ("not_linkable", "not_covered"):
        return "cannot_link"
    if place != "required":
        return place
    if emergency:
        return "not_required"
    if {"approved_in_time", "criteria_confirmed"} <= {*kinds}:
        return "ambiguous"
    return next((name for name in MADE if name in kinds), "none_on_record")


def test_every_combination_of_conditions_has_one_class(matched: Match) -> None:
    subsets = [kinds for number in range(len(MADE) + 1) for kinds in combinations(MADE, number)]
    cases = list(product(PLACES, (True, False), (True, False), subsets))
    operations, entries, expected = [], [], {}
    for number, (place, person, emergency, kinds) in enumerate(cases):
        name = str(number)
        there = PLACES[place] | {"emergency": emergency} | ({} if person else {"person_id": None})
        shift = (there.get("operation_date", DAY) - DAY).days
        operations.append(operation(name, **there))
        expected[name] = first_that_holds(place, person, emergency, kinds)
        for kind in kinds:
            made = entry(name, kind, **MADE[kind])
            moved = {key: at + timedelta(shift) for key, at in made.items() if isinstance(at, date)}
            entries.append(made | moved)
    found = matched(operations, entries)
    assert len(found) == len(operations) == 5 * 2 * 2 * 2**7
    assert {name: row["match_class"] for name, row in found.items()} == expected
    assert {*expected.values()} == set(MATCH_CLASSES)


# The same rules in another engine, written as a ladder of counts over a join.
RECOUNT = """
WITH pair AS (
  SELECT o.*, e.approval_id, e.decision, e.route, e.decided_on, e.requested_on, e.valid_to,
    coalesce(e.valid_from, e.decided_on) AS starts
  FROM operations o LEFT JOIN entries e ON e.person_id = o.person_id AND (e.policy_id = o.policy_id
    OR (e.policy_id IS NULL AND list_has_any(string_split(e.procedure_codes, ','), ['V382'])))
), marked AS (
  SELECT *, decision = 'approved' AND greatest(decided_on, starts) <= operation_date
    AND operation_date <= coalesce(valid_to, DATE '9999-12-31') AS valid FROM pair
), used AS (
  SELECT *, CASE WHEN valid THEN count(*) FILTER (WHERE valid) OVER (PARTITION BY approval_id, policy_id) END AS times FROM marked
), counted AS (
  SELECT record_id, any_value(person_id) AS person_id, any_value(board) AS board, any_value(operation_date) AS day,
    bool_or(emergency) AS emergency, count(*) FILTER (WHERE valid) AS valid, max(times) AS times,
    max(route) FILTER (WHERE valid) AS route,
    bool_or(decision = 'approved' AND valid_to < operation_date AND greatest(decided_on, starts) <= operation_date) AS expired,
    bool_or(decision = 'approved' AND greatest(decided_on, starts) > operation_date) AS late,
    bool_or(decision = 'declined' AND decided_on <= operation_date) AS declined,
    bool_or(requested_on <= operation_date AND decision <> 'approved'
      AND (decision = 'pending' OR decided_on > operation_date)) AS pending,
    bool_or(decision = 'withdrawn' AND requested_on <= operation_date) AS withdrawn
  FROM used GROUP BY record_id
)
SELECT record_id, CASE
  WHEN person_id IS NULL OR board NOT IN ('QJ2', 'QOQ') OR (board = 'QJ2' AND day NOT BETWEEN DATE '2023-04-01' AND DATE '2024-03-31')
    THEN 'cannot_link'
  WHEN board = 'QOQ' THEN 'regime_unknown'
  WHEN day >= DATE '2024-03-18' OR emergency THEN 'not_required'
  WHEN valid > 1 OR times > 1 THEN 'ambiguous'
  WHEN valid = 1 AND route = 'criteria_checked' THEN 'criteria_confirmed'
  WHEN valid = 1 THEN 'approved_in_time'
  WHEN expired THEN 'approved_expired' WHEN late THEN 'approved_late' WHEN declined THEN 'declined'
  WHEN pending THEN 'pending' WHEN withdrawn THEN 'withdrawn' ELSE 'none_on_record' END AS match_class
FROM counted
"""


def test_random_histories_recounted_by_duckdb(matched: Match) -> None:
    draw = random.Random(28)
    operations = [
        operation(
            str(number), person_id=draw.choice([None, *[f"person {one}" for one in range(250)]]),
            operation_date=date(2023, 3, 1) + timedelta(draw.randrange(420)), emergency=draw.random() < 0.1,
            board=draw.choices(["QJ2", "QOQ", "QK1", "QXX"], [20, 1, 1, 1])[0],
        )
        for number in range(400)
    ]  # fmt: skip
    entries = []
    for number in range(500):
        requested = date(2023, 2, 1) + timedelta(draw.randrange(420))
        decision = draw.choice(["approved", "approved", "declined", "withdrawn", "pending"])
        decided = None if decision == "pending" else requested + timedelta(draw.randrange(60))
        begins = None if draw.random() < 0.6 or decided is None else decided + timedelta(draw.randrange(30))
        ends = None if draw.random() < 0.5 or decided is None else (begins or decided) + timedelta(draw.randrange(200))
        by_code = draw.random() < 0.2
        entries.append(
            entry(
                str(draw.randrange(250)), f"-{number}", requested_on=requested, decided_on=decided, decision=decision,
                valid_from=begins, valid_to=ends, route=draw.choice(["ifr", "prior_approval", "criteria_checked"]),
                policy_id=None if by_code else draw.choice(["P", "P", "Q"]),
                procedure_codes=draw.choice([",V382,", ",W371,"]) if by_code else None,
            )
        )  # fmt: skip
    found = matched(operations, entries)
    days = ["operation_date", "requested_on", "decided_on", "valid_from", "valid_to"]
    with duckdb.connect() as other:
        for name, rows in (("operations", operations), ("entries", entries)):
            other.register(f"{name}_text", pd.DataFrame(rows).astype("string"))
            kept = [day for day in days if day in rows[0]]
            cast = ", ".join(f"CAST({day} AS DATE) AS {day}" for day in kept)
            truth = ", emergency = 'True' AS emergency" if name == "operations" else ""
            other.execute(f"CREATE VIEW {name} AS SELECT * REPLACE ({cast}{truth}) FROM {name}_text")
        recounted = dict(other.execute(RECOUNT).fetchall())
    assert {name: row["match_class"] for name, row in found.items()} == recounted
    assert {*recounted.values()} == set(MATCH_CLASSES)
