"""Small tables of approvals for the tests of the checks: good rows, and rows and tables that must fail each check.

The operations are records of the good tables of ``test_validation``.
"""

from datetime import date

from spoilt_tables import Row, Spoil, Tables, add, change


def good_approvals() -> Tables:
    run = {"run_id": "run1"}
    operation = run | {
        "policy_id": "P", "revision": "2021-04", "reading": "as_published", "source_system": "sus_plus", "dataset": "apc",
        "financial_year": "2021-22", "operation_date": date(2021, 4, 30), "operation_date_basis": "admission_date",
        "board": "QXX", "provider_code": "RX1", "flagged": True, "emergency": False, "other_policy_approvals": [],
    }  # fmt: skip
    entry = run | {
        "register": "r", "approval_id": "a1", "person_id": "p0", "person_in_silver": True, "policy_id": "P",
        "route": "prior_approval", "requested_on": date(2021, 4, 1), "decided_on": date(2021, 4, 10), "decision": "approved",
        "valid_from": date(2021, 4, 10), "valid_to": date(2022, 4, 9), "source_file": "register.csv",
    }  # fmt: skip
    linked = {"regime": "prior_approval"}
    return {
        "approval_match": [
            operation | linked | {"record_id": "a0", "person_id": "p0", "match_class": "approved_in_time",
                                  "approval_ids": ["a1"], "days_from_decision": 20},
            operation | {"record_id": "a1", "match_class": "cannot_link", "reason": "no_person", "approval_ids": []},
            operation | {"record_id": "a2", "person_id": "p2", "match_class": "regime_unknown", "approval_ids": []},
            operation | {"record_id": "a3", "person_id": "p3", "match_class": "not_required", "regime": "none",
                         "approval_ids": []},
            operation | linked | {"record_id": "a4", "person_id": "p4", "match_class": "declined", "approval_ids": ["a2"],
                                  "days_from_decision": 1, "other_policy_approvals": ["a3"]},
        ],
        "prior_approval": [
            entry,
            entry | {"approval_id": "a2", "person_id": "p4", "decision": "declined", "valid_to": None},
            entry | {"approval_id": "a3", "person_id": "p4", "policy_id": "Q"},
        ],
    }  # fmt: skip


APPROVAL_BAD_ROWS: dict[str, dict[str, list[Row]]] = {
    "approval_match": {
        "match_class_known": [{"match_class": "lost"}],
        "regime_known": [{"regime": None}, {"regime": "ask"}, {"match_class": "regime_unknown"}],
        "reason_where_not_linked": [
            {"reason": "no_person"}, {"match_class": "cannot_link"}, {"match_class": "cannot_link", "reason": "lost"},
        ],
        "nobody_is_linked_without_a_person": [{"person_id": None}],
        "not_required_where_regime_says_so": [{"match_class": "not_required"}, {"regime": "none"}],
        "class_has_its_entries": [
            {"approval_ids": []}, {"approval_ids": ["a1", "a2"]}, {"match_class": "declined", "approval_ids": []},
            {"match_class": "ambiguous", "approval_ids": ["a1", "a1"]}, {"match_class": "none_on_record", "approval_ids": None},
        ],
        "decided_in_time": [{"days_from_decision": -1}],
        "date_basis_known": [{"operation_date_basis": "activity_date"}],
    },
    "prior_approval": {
        "route_known": [{"route": "telephone"}],
        "decision_known": [{"decision": "perhaps"}, {"decided_on": None}],
        "something_applied_for": [{"policy_id": None}],
        "days_in_order": [{"requested_on": date(2021, 4, 11)}, {"valid_to": date(2021, 4, 9)}],
    },
}  # fmt: skip


APPROVAL_BAD_TABLES: dict[str, dict[str, list[Spoil]]] = {
    "approval_match": {
        "one_row_an_operation": [add("approval_match", match_class="approved_late")],
        "operation_has_its_flag": [
            change("approval_match", flagged=False), change("approval_match", record_id="other"),
            change("approval_match", reading="as_intended", flagged=False),
        ],
        "entries_are_in_the_register": [
            change("approval_match", approval_ids=["a9"]), change("approval_match", other_policy_approvals=["a3"]),
        ],
    },
    "prior_approval": {"one_row_an_entry": [add("prior_approval", route="ifr")]},
}  # fmt: skip
