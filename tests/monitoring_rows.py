"""Small tables of monitoring for the tests of the checks: good rows, and rows and tables that must fail each check."""

from datetime import date

from spoilt_tables import Row, Spoil, Tables, add, change

YEAR, RELEASE = {"financial_year": "2021-22"}, {"release_id": "R1"}
POLICY = {"policy_id": "P", "revision": "2021-04", "reading": "as_published"}
AUDITED = {"audit_id": "A", "source_system": "sus_plus", "dataset": "apc"}
CONTROLLED = {"status": "ok", "disclosure": "hes_2018_protected"}
CLASSES = (
    "cannot_link", "regime_unknown", "not_required", "ambiguous", "approved_in_time", "criteria_confirmed",
    "approved_expired", "approved_late", "declined", "pending", "withdrawn", "none_on_record",
)  # fmt: skip


def good_monitoring() -> Tables:
    run = {"run_id": "run1"}
    approved = RELEASE | POLICY | YEAR | CONTROLLED | {"of_operations": 100, "boards": "QXX,QYY"}
    step = RELEASE | POLICY | YEAR | CONTROLLED | {"period": "2021-22", "kind": "step", "window": "6_months"}
    step |= {"of_operations": 100}
    late = {"kind": "incidence", "window": None, "measure": "readmission", "class": "event", "day": 30, "at_risk": 95}
    changed = RELEASE | POLICY | CONTROLLED | {"period_from": "2020-21", "period_to": "2021-22"}
    of_measure = RELEASE | POLICY | YEAR | CONTROLLED | {"period": "2021-22", "kind": "equality", "measure": "sex"}
    of_measure |= {"of_records": 100, "lower": 1.0, "value": 1.5, "upper": 2.0}
    audit = RELEASE | CONTROLLED | {"audit_id": "A", "policy_id": "P", "reading": "as_published", "part": "overall"}
    drawn = (
        run
        | AUDITED
        | POLICY
        | YEAR
        | {"policy_fingerprint": "f", "seed": 1, "years": ["2021-22"], "provider_code": "RX1"}
    )
    drawn |= {"stratum": "flagged", "flagged_by": ["as_published"], "records_in_stratum": 3, "records_drawn": 2}
    drawn |= {"probability": 2 / 3, "read_twice": False, "clauses": {"age": "require"}}
    return {
        "approval_unused": [
            run | {"register": "r", "approval_id": "a1", "person_in_silver": True, "policy_id": "P"}
            | {"decided_on": date(2021, 5, 1), "days_waited": 300}
        ],
        "regime_change": [
            run
            | {"policy_id": "P", "board": "QXX", "changed_on": date(2021, 5, 18), "regime_before": "prior_approval"}
            | {"regime_after": "none", "grain": grain, "period_start": start, "side": side, "days": 30}
            | {"operations": 12, "flagged": 10, "flagged_lower": 4.8, "flagged_upper": 18.4}
            for grain, start, side in (
                ("month", date(2021, 4, 1), "before"), ("month", date(2021, 5, 1), "during"),
                ("quarter", date(2021, 7, 1), "after"),
            )
        ],
        "pathway_incidence": [
            run
            | {"policy_id": "P", "group": "all", "event": event, "method": method, "day": 30, "at_risk": 12}
            | {"events": 1, "estimate": 0.1, "lower": 0.01, "upper": 0.4}
            for event, method in (("readmission", "aalen_johansen"), ("death_in_hospital", "kaplan_meier"))
        ],
        "linked_measure": [
            run | POLICY | YEAR | {"measure": "repeat_imaging", "group": group, "records": 40, "counted": 10, "left_out": 3}
            | {"share": 0.25, "lower": 0.14, "upper": 0.4}
            for group in ("all", "flagged")
        ],
        "audit_sample": [
            drawn | {"record_id": "1", "draw_order": 1},
            drawn | {"record_id": "2", "draw_order": 2},
            drawn | {"record_id": "3", "draw_order": 1, "stratum": "near_miss:age", "flagged_by": [], "probability": 1.0}
            | {"records_in_stratum": 1, "records_drawn": 1},
            drawn | {"record_id": "4", "draw_order": 1, "stratum": "readings_disagree", "flagged_by": ["as_intended"]}
            | {"probability": 1.0, "records_in_stratum": 1, "records_drawn": 1},
        ],
        "audit_result": [
            run | AUDITED | {"record_id": "1", "reader": "first", "clause_id": clause, "found": found, "form": "f.csv"}
            for clause, found in (("verdict", "cannot_tell"), ("notes_found", "yes"))
        ],
        "audit_estimate": [
            run | {"policy_id": "P", "reading": "as_published", "audit_id": "A", "part": "overall", "status": "ok", **values}
            for values in (
                {"measure": "positive_predictive_value", "estimate": 0.8, "lower": 0.7, "upper": 0.9, "worst": 0.6, "best": 0.95},
                {"measure": "sample_size", "estimate": 300.0},
                {"measure": "kappa", "status": "few_pairs"},
            )
        ],
        "published_approval_summary": [
            approved
            | {"match_class": name}
            | ({"operations": 0, "share": 0.0} if name in CLASSES[:2] else {"status": "withheld"})
            for name in CLASSES[:-1]
        ]
        + [approved | {"match_class": CLASSES[-1], "operations": 60, "share": 0.6}],
        "published_pathway_summary": [
            step | {"measure": "imaging", "class": "seen", "operations": 60, "share": 0.6},
            step | {"measure": "imaging", "class": "not_seen", "operations": 40, "share": 0.4},
            step | {"measure": "imaging", "class": "cannot_be_seen", "operations": 0, "share": 0.0},
            *[step | {"measure": "pain", "class": name, "status": "withheld"} for name in ("seen", "not_seen")],
            step | late | {"operations": 10, "share": 0.1, "share_lower": 0.05, "share_upper": 0.2},
        ],
        "published_activity_change": [
            changed | {"component": name, "records": records, "value_from": 0.5, "value_to": 0.6}
            for name, records in (("people", 2), ("flagged", -5), ("total_from", 13), ("total_to", 10))
        ],
        "published_measure_summary": [
            of_measure | {"class": "1", "records": 60},
            of_measure | {"class": "2", "records": 40},
            of_measure | {"kind": "linked", "measure": "repeat_imaging", "class": "all", "records": 25, "value": 0.25}
            | {"lower": 0.15, "upper": 0.35},
            *[
                of_measure | {"measure": "age_group", "class": name, "status": "withheld"}
                | dict.fromkeys(("records", "of_records", "value", "lower", "upper"))
                for name in ("0-19", "20-29")
            ],
        ],
        "published_audit_estimate": [
            audit
            | {"measure": "positive_predictive_value", "method": "wilson", "forms": 100, "estimate": 0.8}
            | {"lower": 0.7, "upper": 0.9},
            audit | {"measure": "kappa", "status": "undefined"},
        ],
    }  # fmt: skip


MONITORING_BAD_ROWS: dict[str, dict[str, list[Row]]] = {
    "approval_unused": {"waited_since_the_decision": [{"days_waited": -1}, {"decided_on": None}, {"days_waited": None}]},
    "regime_change": {
        "regimes_differ": [{"regime_after": "prior_approval"}, {"regime_before": "ask"}, {"regime_after": "ask"}],
        "side_of_the_change": [
            {"side": "after"}, {"side": "during", "changed_on": date(2021, 4, 1)}, {"side": "soon"},
            {"grain": "year"}, {"grain": "quarter"}, {"period_start": date(2021, 4, 2)},
        ],
        "flagged_within_operations": [{"flagged": 13}, {"operations_lower": 12.5, "operations_upper": 20.0}, {"flagged_lower": 10.5}, {"flagged_upper": 9.5}, {"flagged": -1}],
    },
    "pathway_incidence": {
        "event_with_its_method": [{"event": "pain"}, {"method": "kaplan_meier"}],
        "group_known": [{"group": "some"}],
        "events_among_those_at_risk": [{"events": 13}, {"day": -1}, {"events": -1}],
        "estimate_is_a_share": [{"estimate": 1.1}, {"estimate": None}],
        "estimate_within_limits": [{"lower": 0.2}, {"upper": 0.05}, {"upper": None}],
    },
    "linked_measure": {
        "measure_known": [{"measure": "pain"}, {"group": "some"}],
        "year_form": [{"financial_year": "21-22"}],
        "part_of_whole": [{"counted": 41}, {"left_out": -1}, {"share": None}, {"lower": 0.3}, {"records": 0, "counted": 0}],
    },
    "audit_sample": {
        "probability_is_m_of_n": [{"probability": 0.5}, {"records_drawn": 4}, {"probability": 0.0}, {"records_drawn": 0}],
        "two_where_there_are_two": [{"records_drawn": 1, "probability": 1 / 3}],
        "order_of_the_draw": [{"draw_order": 0}, {"draw_order": 3}, {"draw_order": None}],
        "stratum_known": [{"stratum": "others"}, {"stratum": "near_miss:"}],
        "stratum_follows_the_readings": [{"flagged_by": []}, {"stratum": "rest"}, {"stratum": "readings_disagree"}],
    },
    "audit_result": {
        "reader_known": [{"reader": "third"}],
        "answer_known": [{"found": "perhaps"}, {"clause_id": "notes_found"}],
    },
    "audit_estimate": {
        "status_known": [{"status": "withheld"}],
        "limits_around_the_estimate": [{"lower": 0.85}, {"upper": 0.75}, {"lower": None}],
        "shares_from_0_to_1": [{"estimate": 1.5, "upper": 2.0}, {"upper": 1.1}],
        "worst_below_best": [{"worst": 0.99}],
        "counted_among_the_forms": [{"counted": 13, "forms": 12}, {"counted": -1, "forms": 12}],
        "no_estimate_without_answers": [{"status": "no_answers"}, {"estimate": None, "lower": None, "upper": None}],
    },
    "published_approval_summary": {
        "year_form": [{"financial_year": "21-22"}],
        "match_class_known": [{"match_class": "lost"}],
        "status_known": [{"status": "withheld_small"}],
        "count_or_status": [{"operations": None}, {"share": None}, {"status": "withheld"}, {"status": "sub_national"}],
        "no_small_count": [{"operations": 3}, {"of_operations": 4}],
        "more_than_one_board": [{"boards": "QXX"}, {"boards": None}, {"status": "sub_national"}],
        "share_of_all": [{"share": 1.1}],
    },
    "published_pathway_summary": {
        "year_form": [{"financial_year": "21-22"}],
        "kind_known": [{"kind": "other"}],
        "window_known": [{"window": "2_years"}, {"window": None}, {"kind": "class"}],
        "day_known": [{"day": 31, "kind": "incidence"}, {"day": 30}, {"kind": "incidence"}],
        "status_known": [{"status": "withheld_small"}],
        "count_or_status": [{"operations": None}, {"share": None}, {"status": "withheld"}],
        "no_small_count": [{"operations": 3}, {"of_operations": 4}],
        "enough_events": [
            {"kind": "incidence"}, {"kind": "incidence", "at_risk": 90, "operations": 0},
            {"kind": "incidence", "at_risk": 0},
        ],
        "share_within_limits": [{"share": 1.1}, {"share_lower": 0.7, "share_upper": 0.8}],
    },
    "published_activity_change": {
        "reading_known": [{"reading": "mine"}],
        "periods_in_order": [{"period_from": "2021-22"}],
        "component_known": [{"component": "weather"}],
        "status_known": [{"status": "withheld_small"}],
        "count_or_status": [{"records": None}, {"status": "withheld"}, {"status": "withheld", "records": None}],
        "totals_shown": [{"component": "total_to", "status": "withheld"}],
    },
    "published_measure_summary": {
        "year_form": [{"financial_year": "21-22"}],
        "kind_known": [{"kind": "other"}],
        "status_known": [{"status": "withheld_small"}],
        "count_or_status": [{"records": None}, {"status": "withheld"}],
        "no_small_count": [{"records": 3}, {"of_records": 4}],
        "share_of_whole": [{"kind": "linked"}],
        "value_within_limits": [{"lower": 1.7}, {"upper": 1.2}],
    },
    "published_audit_estimate": {
        "reading_known": [{"reading": "mine"}],
        "measure_known": [{"measure": "sample_size"}],
        "no_stratum": [{"part": name} for name in ("flagged", "readings_disagree", "stratum:rest", "reading:as_intended", "RX1")],
        "status_known": [{"status": "withheld_small"}],
        "estimate_or_status": [{"estimate": None}, {"forms": None}, {"status": "withheld"}],
        "enough_forms": [{"forms": 0}],
        "estimate_within_limits": [{"lower": 0.85}, {"upper": 0.75}],
    },
}  # fmt: skip


MONITORING_BAD_TABLES: dict[str, dict[str, list[Spoil]]] = {
    "approval_unused": {"one_row_an_approval": [add("approval_unused", days_waited=1)]},
    "regime_change": {"one_row_a_period": [add("regime_change", operations=1)]},
    "pathway_incidence": {"one_row_a_day": [add("pathway_incidence", events=0)]},
    "linked_measure": {"one_row_a_group": [add("linked_measure", counted=1)]},
    "audit_sample": {
        "one_row_a_record": [add("audit_sample")],
        "as_many_as_drawn": [
            change("audit_sample", 1, stratum="rest", flagged_by=[]),
            change("audit_sample", 0, records_in_stratum=4),
        ],
    },
    "audit_result": {
        "one_answer": [add("audit_result")],
        "was_drawn": [change("audit_result", 0, record_id="9"), change("audit_result", 1, audit_id="B")],
    },
    "audit_estimate": {"one_estimate": [add("audit_estimate", forms=1)]},
    "published_approval_summary": {
        "one_row_a_class": [add("published_approval_summary", operations=5)],
        "never_one_alone": [
            lambda tables: [
                change("published_approval_summary", row, status="ok", operations=10)(tables) for row in range(3, 11)
            ]
        ],
        "national_policies_only": [add("published_approval_summary", policy_id="L")],
    },
    "published_pathway_summary": {
        "one_row_a_class": [add("published_pathway_summary", operations=10)],
        "never_one_alone": [change("published_pathway_summary", 0, status="withheld", operations=None)],
        "national_policies_only": [add("published_pathway_summary", policy_id="L")],
    },
    "published_activity_change": {"one_row_a_component": [add("published_activity_change", records=1)]},
    "published_measure_summary": {
        "one_row_a_class": [add("published_measure_summary", records=10)],
        "never_one_alone": [
            change(
                "published_measure_summary",
                0,
                status="withheld",
                **dict.fromkeys(("records", "value", "lower", "upper")),
            )
        ],
        "national_policies_only": [add("published_measure_summary", policy_id="L")],
    },
    "published_audit_estimate": {"one_row_an_estimate": [add("published_audit_estimate", forms=10)]},
}
