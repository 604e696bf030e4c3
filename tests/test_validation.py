"""The checks: good tables pass every suite, and every check has a table that fails it."""

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from approval_rows import APPROVAL_BAD_ROWS, APPROVAL_BAD_TABLES, good_approvals
from monitoring_rows import MONITORING_BAD_ROWS, MONITORING_BAD_TABLES, good_monitoring
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema
from spoilt_tables import Row, Spoil, Tables, add, change, change_all, drop

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.source_tables import REGISTERS, ROLES
from ebi_spark.lake.permissions import prepare_folders
from ebi_spark.lake.storage import Lake
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.silver import QUARANTINE
from ebi_spark.tables.table import Table
from ebi_spark.validation import native_suites
from ebi_spark.validation.check_layers import validate_layer
from ebi_spark.validation.page import write_page
from ebi_spark.validation.result import FailedCheck, LayerResult
from ebi_spark.validation.suites import LAYER_SUITES, Check, load_suite
from ebi_spark.validation.violations import ViolationCounter

SUITES = [name for names in LAYER_SUITES.values() for name in names]
POLICY = {"policy_id": "P", "revision": "2021-04"}
PUBLISHED, INTENDED = POLICY | {"reading": "as_published"}, POLICY | {"reading": "as_intended"}
YEAR, RELEASE = {"financial_year": "2021-22"}, {"release_id": "R1"}
FINGERPRINT = "0123456789abcdef"
FUSION = {"policy_id": "P", "source_system": "sus_plus", "dataset": "apc", "record_id": "A", "financial_year": "2021-22",
          "run_id": "run1"}  # fmt: skip


def good() -> Tables:
    """A small complete lake: twelve spells, of which ten are flagged as published and eleven as intended."""
    record = YEAR | {"source_system": "sus_plus", "activity_date": date(2021, 5, 1), "provider_code": "RX1"}
    record |= {"age": 40, "age_years": 40, "sex": "1", "run_id": "run1"}
    spells = [
        record
        | {"dataset": "apc", "record_id": f"a{n}", "diagnosis_codes": ",M545,|,E119,", "procedure_codes": ",V382,"}
        | {"dominant_procedure": "V3821", "dominant_procedure_4": "V382", "dominance_basis": "sus_grouper"}
        | {"admission_date": date(2021, 4, 30), "episodes": 1, "source_file": "apcs.csv"}
        for n in range(12)
    ]
    attendances = [record | {"dataset": "op", "record_id": f"o{n}", "source_file": "opa.csv"} for n in range(2)]
    audit = {"run_id": "run1", "source_system": "sus_plus", "written_at": datetime(2022, 1, 1, tzinfo=UTC)}
    audit |= {"rows_quarantined": 0, "rows_duplicate": 0, "rows_outside_years": 0, "reasons": {}, "year_disagrees": 0}
    audits = [
        audit
        | {"dataset": "apc", "role": "apcs", "source_file": "apcs.csv", "rows_read": 14, "rows_valid": 12}
        | {"rows_quarantined": 1, "rows_duplicate": 1, "reasons": {"undischarged": 1}, "records_built": 12},
        audit
        | {
            "dataset": "op",
            "role": "opa",
            "source_file": "opa.csv",
            "rows_read": 2,
            "rows_valid": 2,
            "records_built": 2,
        },
    ]
    quarantined = {"source_system": "sus_plus", "dataset": "apc", "role": "apcs", "financial_year": "unknown"}
    quarantined |= {"reasons": ["undischarged"], "source_file": "apcs.csv", "raw": "{}", "run_id": "run1"}
    clauses = [{"clause_id": name, "step": step} for step, name in enumerate(("procedure", "age", "diagnosis"))]
    policy = {"dataset": "apc", "policy_fingerprint": FINGERPRINT, "definition": '{"id": "P"}', "clauses": clauses}
    policy |= {"in_force_from": date(2021, 4, 1), "in_force_to": date(2022, 4, 1), "in_force_dated": "month"}
    policy |= {"publish_years": 1, "publish_first_year": "2018-19"}
    local = {"policy_id": "L", "revision": "2021-04", "extends": "P", "boards": ["QXX"], "is_default_reading": True}
    policies = [
        PUBLISHED | policy | {"is_default_reading": True},
        INTENDED | policy | {"is_default_reading": False},
        PUBLISHED | policy | local,
    ]
    flag = {key: record[key] for key in ("source_system", "activity_date", "provider_code", "age_years", "run_id")}
    flag |= YEAR | {"dataset": "apc", "policy_fingerprint": FINGERPRINT, "missing_clauses": []}
    flags = []
    for reading, failing in (
        (PUBLISHED, {10: ["age"], 11: ["age", "diagnosis"]}),
        (INTENDED, {11: ["age", "diagnosis"]}),
    ):
        for n in range(12):
            failed = failing.get(n, [])
            area = {"area_basis": "unknown"} if n == 11 else {"area_basis": "gp_practice", "area_code": "A1"}
            outcome = {"failed_clauses": failed, "near_miss": len(failed) == 1}
            outcome["outcome"] = "not_flagged" if failed else "flagged"
            outcome["decisive_decisions"] = ["older"] if reading is PUBLISHED and n == 10 else []
            flags.append(reading | flag | area | outcome | {"record_id": f"a{n}"})
    # The local policy has two of the records and flags one: the age clause, which it repeats, removes the other.
    for n in range(2):
        area = {"area_basis": "gp_practice", "area_code": "A1", "decisive_decisions": []}
        failed = ["age"] * n
        outcome = {"failed_clauses": failed, "near_miss": bool(n), "outcome": "not_flagged" if n else "flagged"}
        flags.append(PUBLISHED | {"policy_id": "L"} | flag | area | outcome | {"record_id": f"a{n}"})
    turned = YEAR | {"decision": "older", "source": "as_intended", "clause_id": "age", "because": "why", "words": "who"}
    sensitivities = [
        {**{key: value for key, value in reading.items() if key != "reading"}, "base_reading": reading["reading"]}
        | turned
        | {"direction": direction, "in_scope": 12, "flagged": flagged, "flagged_flipped": flagged + added}
        | {"added": added, "removed": 0}
        for reading, direction, flagged, added in ((PUBLISHED, "made", 10, 1), (INTENDED, "undone", 11, 0))
    ]
    compared = PUBLISHED | {"policy_id": "L", "national_policy_id": "P", "direction": "national_only"} | YEAR
    compared |= {"records_differing": 1, "records_compared": 2}
    comparisons = [
        compared | {"clause_id": "age", "records": 1, "records_alone": 1},
        compared | {"clause_id": "diagnosis", "records": 0, "records_alone": 0},
    ]
    attrition = []
    for reading, counts in (
        (PUBLISHED, ((12, 0, 0, 12), (12, 1, 1, 10), (10, 0, 0, 10))),
        (INTENDED, ((12, 0, 0, 12), (12, 1, 0, 11), (11, 0, 0, 11))),
        (PUBLISHED | {"policy_id": "L"}, ((12, 10, 0, 2), (2, 1, 0, 1), (1, 0, 0, 1))),
    ):
        for step, (into, failed_here, missing, left) in enumerate(counts):
            numbers = {
                "records_in": into,
                "records_failed": failed_here,
                "records_missing": missing,
                "records_left": left,
            }
            clause = {"step": step, "clause_id": clauses[step]["clause_id"]}
            attrition.append(reading | YEAR | clause | numbers)
    shown = {"coverage": "national", "geography": "icb_2026"}
    single = YEAR | shown | {"period_years": 1, "period": "2021-22", "notes": []}

    def rate(reading: Row, kind: str, code: str, activity: int, in_scope: int, population: int | None) -> Row:
        row = reading | single | {"area_type": kind, "area_code": code, "activity": activity, "in_scope": in_scope}
        row |= {"people_flagged": activity, "activity_unknown_age_sex": 0, "population": population}
        if in_scope:
            row |= {"flagged_share": activity / in_scope, "share_lower": 0.0, "share_upper": 1.0}
        if population is None:
            return row | {"status": "no_population"}
        value = activity / population * 100_000
        row |= {"crude_rate": value, "standardised_rate": value, "lower": value * 0.5}
        row |= {"upper": value * 1.5 if activity else None, "standard_error": value * 0.3}
        row |= {"lower_adjusted": row["lower"] * 0.9, "upper_adjusted": value * 1.6 if activity else None}
        return row | {"status": "ok" if activity >= 10 else "few_events"}

    rates = []
    for reading, flagged in ((PUBLISHED, 10), (INTENDED, 11)):
        rates += [
            rate(reading, "england", "E92000001", flagged, 12, 1_000_000),
            rate(reading, "sub_icb", "A1", flagged, 11, 500_000),
            rate(reading, "sub_icb", "B1", 0, 0, 500_000),
            rate(reading, "provider", "RX1", flagged, 12, None),
        ]
    rates += [
        rate(PUBLISHED | {"policy_id": "L"}, "icb", "QXX", 1, 2, 500_000),
        rate(PUBLISHED | {"policy_id": "L"}, "sub_icb", "A1", 1, 2, 500_000),
        rate(PUBLISHED | {"policy_id": "L"}, "provider", "RX1", 1, 2, None),
    ]
    earlier = {"financial_year": "2020-21", "period": "2020-21"}
    rates.append(rate(PUBLISHED, "england", "E92000001", 0, 0, 1_000_000) | earlier)
    pooled = {"period_years": 2, "period": "2020-21..2021-22"}
    rates.append(rate(PUBLISHED, "england", "E92000001", 10, 12, 2_000_000) | pooled)
    spread = []
    for reading, value in ((PUBLISHED, 2.0), (INTENDED, 2.2)):
        row = reading | single | {"area_type": "sub_icb", "areas": 2, "areas_with_activity": 1, "n_fold": 1.0}
        row |= {f"p{share}": value for share in (10, 25, 50, 75, 90)}
        row |= {f"all_areas_p{share}": share / 100 for share in (10, 25, 50, 75, 90)}
        spread.append(row | {"status": "not_calculated"})
    rule = RELEASE | {"disclosure": "hes_2018_protected"}
    national = [row for row in rates if row["policy_id"] == "P"]
    standing = [row | rule for row in national if row["area_type"] == "england" or row["reading"] == "as_published"]
    released = [row | {"in_scope": 10} if row["area_type"] in ("sub_icb", "provider") else row for row in standing]
    released = [row | {"in_scope": 0} if row["area_code"] == "B1" else row for row in released]
    hidden = {"people_flagged": None, "activity_unknown_age_sex": None, "expected": 5.0}
    hidden |= dict.fromkeys(("lower_adjusted", "upper_adjusted", "standard_error"))
    released = [row if row["area_type"] == "england" else row | hidden for row in released]
    for row in released:
        row["flagged_share"] = row["activity"] / row["in_scope"] if row["in_scope"] else None
    april, may = {"month": date(2021, 4, 1)}, {"month": date(2021, 5, 1)}
    monthly = [
        reading | YEAR | month | {"activity": activity, "in_scope": in_scope}
        for reading, flagged in ((PUBLISHED, 10), (INTENDED, 11))
        for month, activity, in_scope in ((april, 0, 0), (may, flagged - 1, 11), ({"month": None}, 1, 1))
    ]
    marks = {"provisional": False, "pandemic": False}
    provider = YEAR | may | marks | {"provider_code": "RX1", "low": False, "share_of_typical": 1.0}
    by_provider = [
        provider | {"dataset": dataset, "records": records, "typical_month": float(records)}
        for dataset, records in (("apc", 12), ("op", 2))
    ]
    complete = RELEASE | YEAR | may | marks | {"dataset": "apc", "disclosure": "hes_2018_protected"}
    people = {"vintage": date(2022, 10, 1), "area_type": "sub_icb", "area_date": date(2022, 10, 1), "people": 10}
    people |= {"geography": "icb_2024", "source": "people.csv", "run_id": "run1"}
    bands = [(band * 5, None if band == 18 else band * 5 + 4) for band in range(19)]
    population = [
        people | {"area_code": code, "sex": sex, "age_from": start, "age_to": end}
        for code in ("A1", "B1")
        for sex in ("1", "2")
        for start, end in bands
    ]
    lost = YEAR | {"dataset": "apc", "code_kind": "gp_practice", "code": "C1", "reason": "unmapped", "records": 2}
    effect = RELEASE | YEAR | {"in_scope": 12, "flagged_as_published": 10, "removed": 0}
    measure = RELEASE | YEAR | {"dataset": "apc", "of_records": 12}
    quality = [
        YEAR | {"dataset": dataset, "measure": name, "records": records, "of_records": of_records}
        for dataset, name, records, of_records in (
            ("apc", "records", 12, 12),
            ("apc", "no_age", 3, 12),
            ("op", "records", 2, 2),
        )
    ]
    return {
        "apc_spell": spells,
        "op_attendance": attendances,
        "quarantine": [quarantined],
        "ingest_audit": audits,
        "population": population,
        "policy": policies,
        "activity_flag": flags,
        "policy_attrition": attrition,
        "policy_sensitivity": sensitivities,
        "policy_comparison": comparisons,
        "activity_rate": rates,
        "rate_variation": spread,
        "unmapped_area": [lost | {"geography": "icb_2026"}],
        "record_quality": quality,
        "published_rate": released,
        "published_variation": [spread[0] | rule],
        "published_attrition": [row | RELEASE | {"near_miss": 0} for row in attrition if row["policy_id"] == "P"],
        "published_reading_effect": [
            PUBLISHED | effect | {"flagged": 10, "added": 0},
            INTENDED | effect | {"flagged": 11, "added": 1},
        ],
        "published_sensitivity": [row | RELEASE for row in sensitivities],
        "published_quality": [
            measure | {"measure": "no_age", "records": 300, "of_records": 1200, "status": "ok"},
            measure | {"measure": "quarantined:undischarged", "records": 1300, "status": "ok"},
            measure | {"measure": "area_unknown", "policy_id": "P", "status": "withheld_small"},
            measure | {"measure": "records", "records": 12, "status": "ok"},
        ],
        "activity_month": [*monthly, PUBLISHED | {"policy_id": "L"} | YEAR | april | {"activity": 1, "in_scope": 2}],
        "provider_month": by_provider,
        "published_activity_month": [row | RELEASE | marks for row in monthly],
        "published_days_between": [
            RELEASE
            | PUBLISHED
            | YEAR
            | may
            | {"number": 1, "events": 8, "days": 70, "disclosure": "hes_2018_protected"}
        ],
        "published_completeness": [
            complete
            | {"area_type": "england", "area_code": "E92000001", "records": 12, "providers": 1, "status": "ok"}
            | {"providers_low": 0},
            complete
            | {"area_type": "provider", "area_code": "RX2", "status": "ok", "low": False, "share_of_typical": 0.9},
        ],
        "published_policy": [row | RELEASE for row in policies],
        "activity_change": [
            PUBLISHED
            | {"area_type": "england", "area_code": "E92000001", "period_from": "2020-21", "period_to": "2021-22", "run_id": "run1"}
            | {"component": component, "value_from": before, "value_to": after, "records": records, "notes": []}
            for component, before, after, records in (
                ("people", 100.0, 200.0, 7.5), ("in_scope", 0.1, 0.05, -7.5), ("revision", None, None, 2.0),
                ("total_from", None, None, 10.0), ("total_to", None, None, 12.0),
            )
        ],
        "pathway": [
            FUSION
            | {"revision": "1", "reading": "as_published", "person_id": "p", "operation_date": date(2021, 6, 1)}
            | {"operation_date_basis": "admission_date", "admission_date": date(2021, 6, 1), "flagged": True}
            | {"levels": "one", "approach": "posterior", "algorithm_step": "confirm", "missing_to_decide": ["medicines"]}
            | {"died_in_hospital": False, "follow_up_days": 30, "readmitted_after": 5, "further_fusion_after": 9}
        ],
        "pathway_step": [
            FUSION | {"step_id": step, "window": window, "state": state, "evidence": evidence}
            for step, window, state, evidence in (
                ("pain_management", "3_months", "not_seen", []), ("pain_management", "6_months", "seen", ["191"]),
                ("pain_management", "12_months", "seen", ["191"]), ("instability", "at_operation", "cannot_be_seen", []),
                ("infection", "90_days", "not_seen", []), ("further_fusion", "2_years", "not_seen", []),
            )
        ],
        "code_use": [
            YEAR | {"policy_id": "P", "kind": kind, "code": code, "records": 3, "of_records": 12, "run_id": "run1"}
            for kind, code in (("operation_outside_scope", "V393"), ("operation_outside_scope", "any"), ("primary_diagnosis", "M545"))
        ],
        "activity_count": [
            YEAR | {"policy_id": policy, "revision": "in_force", "revision_at_end": "r", "reading": "as_published"}
            | {"area_type": "icb", "area_code": "QXX", "operations": operations, "in_scope": 9, "primary_diagnosis": primary}
            | {"no_exclusion": 5, "flagged": 4, "run_id": "run1"}
            for policy, operations, primary in (("P", 12, 6), ("Q", None, None))
        ],
        "equality_rate": [
            PUBLISHED
            | {"period": "2020-21..2021-22", "run_id": "run1", "dimension": dimension, "group": group, "activity": activity}
            | {"population": 1_000, "rate": 5.0, "lower": 4.0, "upper": 6.0, "status": status}
            | ({"slope_index": 2.0, "slope_lower": -1.0, "slope_upper": 5.0} if dimension == "deprivation_fifth" else {})
            for dimension, group, activity, status in (
                ("deprivation_fifth", "1", 10, "ok"), ("deprivation_fifth", "5", 4, "few_events"), ("sex", "1", 14, "ok"),
            )
        ],
        **good_approvals(),
        **good_monitoring(),
    }  # fmt: skip


def frame_of(spark: SparkSession, table: Table, rows: list[Row]) -> DataFrame:
    # With Arrow the rows are part of the query plan. With tuples every query would start Python for them.
    return spark.createDataFrame(arrow_of(table, rows), table.schema)


def arrow_of(table: Table, rows: list[Row]) -> pa.Table:
    names = table.names()
    assert not {key for row in rows for key in row} - {*names, "run_id"}
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in names} for row in rows], to_arrow_schema(table.schema)
    )


class Frames:
    """Replaces a lake in these tests: its tables are made from rows when they are first read."""

    def __init__(self, spark: SparkSession, tables: Tables, frames: dict[str, DataFrame] | None = None) -> None:
        self.spark, self.frames = spark, frames or {}
        self.rows = {load_suite(name).table.full_name: rows for name, rows in tables.items()}
        self.versions_read = dict.fromkeys(self.rows, 7)

    def read(self, table: Table) -> DataFrame:
        if table.full_name not in self.frames:
            self.frames[table.full_name] = frame_of(self.spark, table, self.rows[table.full_name])
        return self.frames[table.full_name]

    def read_small(self, table: Table) -> DataFrame:
        return self.read(table)

    def in_memory(self, table: Table) -> pa.Table | None:
        """Rows of figures, as those of a lake in a folder; Spark counts frames that a test made otherwise."""
        made = table.full_name in self.rows and not {"record_id", "approval_id", "raw"} & set(table.names())
        return arrow_of(table, self.rows[table.full_name]) if made else None

    def is_empty(self, table: Table) -> bool:
        return not self.rows.get(table.full_name, [{}])


def violations(spark: SparkSession, suite: str, check: str, tables: Tables) -> int:
    """The violations of one check of a suite."""
    whole = load_suite(suite)
    kept = tuple(item for item in whole.checks if item.id == check)
    if kept[0].kind == "native":
        return native_violations(suite, tables[suite], check)[check]
    lake: Any = Frames(spark, tables)
    return ViolationCounter(lake, None, None).violations([replace(whole, checks=kept)]).counts[(suite, check)]


# The types of the columns that suites in Great Expectations' own format name. The others are lists, whose type is inferred.
ARROW = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
}


def native_violations(suite: str, rows: list[Row], *checks: str) -> dict[str, int]:
    """The violations of checks (all, if none are named) that Great Expectations evaluates itself. Needs no Spark."""
    whole = load_suite(suite)
    assert whole.native is not None
    kept = [item for item in whole.native["expectations"] if not checks or item["meta"]["id"] in checks]
    columns = {
        name: pa.array([row.get(name) for row in rows], ARROW.get(kind)) for name, kind, _ in whole.table.fields()
    }
    loaded = native_suites.load({**whole.native, "expectations": kept}, suite)
    results = native_suites.run(loaded, native_suites.to_pandas(pa.table(columns)))
    counts, raised = native_suites.count_violations(results)
    assert not raised
    return counts


# Rows that must fail each condition on a row: the first row of the good table, with these values.
BAD_ROWS: dict[str, dict[str, list[Row]]] = {
    "activity_change": {
        "component_known": [{"component": "other"}],
        "area_type_known": [{"area_type": "provider"}],
        "periods_in_order": [{"period_from": "2021-22"}, {"period_to": "2021"}],
        "values_of_factors": [{"value_from": None}, {"value_to": -0.1}, {"component": "revision"}],
        "whole_totals": [
            {"component": "total_to", "records": -1.0},
            {"component": "total_from", "records": 0.5},
            {"component": "revision", "records": 0.5},
            {"records": float("nan")},
        ],
    },
    "pathway": {
        "pathway_levels_known": [{"levels": "four"}, {"levels": None}],
        "approach_known": [{"approach": "other"}],
        "algorithm_step_known": [{"algorithm_step": "decide"}],
        "missing_is_listed": [{"missing_to_decide": []}, {"missing_to_decide": None}],
        "basis_of_the_operation_date": [{"operation_date_basis": "other"}, {"admission_date": date(2021, 6, 2)}],
        "outcomes_after_the_operation": [{"readmitted_after": -1}, {"further_fusion_after": -1}],
        "dead_or_followed": [{"died_in_hospital": True}],
    },
    "pathway_step": {
        "pathway_state_known": [{"state": "no"}],
        "seen_with_evidence": [{"state": "seen"}, {"evidence": ["191"]}],
        "window_known": [{"window": "9_months"}, {"window": "after"}],
    },
    "code_use": {
        "kind_known": [{"kind": "other"}],
        "year_form": [{"financial_year": "2021"}],
        "part_of_whole": [{"records": 0}, {"records": 13}, {"of_records": -1, "kind": "unspecified"}],
        "code_form": [{"code": "V39.3"}, {"code": ""}],
    },
    "activity_count": {
        "area_type_known": [{"area_type": "ccg"}],
        "year_form": [{"financial_year": "2021"}],
        "each_a_part_of_the_one_before": [
            {"flagged": 6},
            {"flagged": -1},
            {"no_exclusion": 7},
            {"primary_diagnosis": 10},
            {"in_scope": 13},
            {"primary_diagnosis": None, "no_exclusion": 10},
        ],
    },
    "equality_rate": {
        "dimension_known": [{"dimension": "ethnicity"}],
        "status_known": [{"status": "withheld_small"}, {"rate": None}, {"status": "no_population"}],
        "few_events_marked": [{"activity": 9}, {"status": "few_events"}, {"activity": -1}],
        "limits_in_order": [{"lower": 5.5}, {"upper": 4.5}, {"population": 0}, {"lower": -1.0}, {"upper": None}],
        "slope_with_limits": [{"slope_lower": 3.0}, {"dimension": "sex"}, {"slope_index": None}, {"slope_upper": None}],
    },
    "apc_spell": {
        "source_system_known": [{"source_system": "other"}, {"source_system": None}],
        "dataset_known": [{"dataset": "op"}],
        "record_id_bare": [{"record_id": ""}, {"record_id": " a"}],
        "year_form": [{"financial_year": "2021/22"}, {"financial_year": "2021-23"}],
        "date_there": [{"activity_date": None}],
        "date_in_year": [{"activity_date": date(2022, 4, 1)}, {"activity_date": date(2021, 3, 31)}],
        "age_years_in_range": [{"age_years": 121}, {"age_years": -1}],
        "age_years_from_age": [{"age": 7001}, {"age_years": None}],
        "diagnosis_codes_form": [{"diagnosis_codes": text} for text in ("", ",", "M545", ",m545,", ",M54.5,", ",M 5,")],
        "procedure_codes_form": [{"procedure_codes": text} for text in ("", ",", "V382", ",v382,", ",V38.2,", ",V 3,")],
        "dominant_procedure_cut": [{"dominant_procedure_4": "V381"}, {"dominant_procedure": None}],
        "dominance_basis_known": [{"dominance_basis": "guess"}],
        "nothing_from_no_derived_row": [{"dominance_basis": "no_derived_row"}],
        "episodes_counted": [{"episodes": 0}, {"episodes": None}],
    },
    "op_attendance": {
        "source_system_known": [{"source_system": "other"}],
        "dataset_known": [{"dataset": "apc"}],
        "record_id_bare": [{"record_id": "a "}],
        "year_form": [{"financial_year": "2122"}],
        "date_in_year": [{"activity_date": date(2022, 4, 1)}],
        "age_years_in_range": [{"age_years": 121}],
        "age_years_from_age": [{"age": None}],
        "diagnosis_codes_form": [{"diagnosis_codes": "M545,"}],
        "procedure_codes_form": [{"procedure_codes": ",U05.4,"}],
    },
    "quarantine": {
        "source_known": [{"role": "opa"}, {"role": None}],
        "year_form": [{"financial_year": ""}],
        "reason_given": [{"reasons": []}, {"reasons": [None]}, {"reasons": ["Patient 123"]}],
        "raw_is_json": [{"raw": "a,b"}],
    },
    "population": {
        "area_type_known": [{"area_type": "icb"}],
        "sex_known": [{"sex": "0"}],
        "band_known": [{"age_from": 3, "age_to": 7}, {"age_to": 9}, {"age_to": None}, {"age_from": 95, "age_to": None}],
        "people_not_negative": [{"people": -1}],
    },
    "ingest_audit": {
        "source_known": [{"dataset": "op"}],
        "rows_reconcile": [{"rows_read": 15}],
        "counts_not_negative": [{"rows_duplicate": -1}, {"records_built": -1}],
        "differing_are_duplicates": [{"rows_differing_elsewhere": -1}, {"rows_differing_elsewhere": 99}],
        "reasons_reconcile": [{"reasons": {}}, {"reasons": None}, {"rows_quarantined": 0}],
    },
    "policy": {
        "reading_known": [{"reading": "mine"}],
        "dataset_known": [{"dataset": "did"}],
        "fingerprint_form": [{"policy_fingerprint": "xyz"}],
        "definition_is_json": [{"definition": "id: P"}],
        "clauses_there": [{"clauses": []}, {"clauses": [{"clause_id": None}]}, {"clauses": [{"clause_id": "a"}] * 2}],
        "in_force_in_order": [{"in_force_to": date(2021, 4, 1)}],
        "dated_known": [{"in_force_dated": "guessed"}, {"in_force_dated": None}],
        "local_extends": [{"boards": ["QXX"]}, {"boards": [], "extends": "N"}, {"boards": ["QXX"], "extends": "P"}],
    },
    "activity_flag": {
        "reading_known": [{"reading": "mine"}],
        "source_known": [{"source_system": "x"}, {"dataset": "x"}],
        "year_form": [{"financial_year": "21-22"}],
        "date_in_year": [{"activity_date": date(2022, 4, 1)}],
        "outcome_known": [{"outcome": "kept"}],
        "flagged_without_failed_clause": [{"failed_clauses": ["age"]}, {"outcome": "not_flagged"}],
        "near_miss_is_one_clause": [{"near_miss": True}, {"failed_clauses": ["age"], "outcome": "not_flagged"}],
        "clauses_named_once": [{"failed_clauses": ["age", "age"]}, {"missing_clauses": [None]}],
        "area_basis_known": [{"area_basis": "postcode"}],
        "area_where_known": [{"area_code": None}, {"area_basis": "unknown"}],
        "age_years_in_range": [{"age_years": 121}],
    },
    "policy_attrition": {
        "reading_known": [{"reading": "mine"}],
        "year_form": [{"financial_year": "21-22"}],
        "counts_not_negative": [{"records_failed": -1, "records_in": 11}, {"step": -1}],
        "records_reconcile": [{"records_in": 13}],
    },
    "policy_sensitivity": {
        "base_known": [{"base_reading": "mine"}],
        "direction_known": [{"direction": "undone"}, {"source": "as_published"}],
        "source_known": [{"source": "mine"}],
        "year_form": [{"financial_year": "21-22"}],
        "flip_reconciles": [{"flagged_flipped": 10}],
        "counts_in_order": [{"added": 3, "flagged_flipped": 13}, {"removed": 11}, {"added": -1}],
        "words_given": [{"because": None}, {"because": ""}],
    },
    "policy_comparison": {
        "reading_known": [{"reading": "mine"}],
        "direction_known": [{"direction": "both"}],
        "year_form": [{"financial_year": "21-22"}],
        "counts_in_order": [{"records_alone": 2}, {"records": 2}, {"records_compared": 0}, {"records_alone": -1}],
        "two_policies": [{"national_policy_id": "L"}],
    },
    "activity_rate": {
        "reading_known": [{"reading": "mine"}],
        "area_type_known": [{"area_type": "ward"}],
        "status_known": [{"status": "fine"}],
        "year_form": [{"financial_year": "21-22", "period": "21-22"}],
        "period_ends_in_year": [{"period": "2020-21"}, {"period_years": 2}, {"period_years": 0}],
        "counts_in_order": [
            {"in_scope": 9},
            {"people_flagged": 11},
            {"activity_unknown_age_sex": 11},
            {"activity": -1},
        ],
        "rates_are_numbers": [{"upper": float("nan")}, {"upper": float("inf")}, {"standardised_rate": -1.0}],
        "crude_rate_is_activity_by_population": [{"crude_rate": 1.001}, {"crude_rate": None}, {"population": 0}],
        "limits_around_rate": [{"lower": 1.1}, {"upper": 0.9}, {"standardised_rate": None}],
        "adjusted_limits_around_limits": [
            {"lower_adjusted": 0.6},
            {"upper_adjusted": 1.4},
            {"upper_adjusted": None},
            {"standard_error": None},
        ],
        "share_of_in_scope": [{"flagged_share": 0.9}, {"share_lower": 0.9}, {"share_upper": None}, {"in_scope": 0}],
        "status_agrees": [{"status": "few_events"}, {"activity": 9}, {"status": "no_population"}, {"crude_rate": None}],
        "provider_without_population": [{"area_type": "provider"}],
        "no_rate_of_a_part": [{"notes": ["partial_population"]}],
        "england_has_people": [{"population": None}],
        "coverage_known": [{"coverage": "partial"}, {"coverage": None}],
    },
    "unmapped_area": {
        "code_kind_known": [{"code_kind": "postcode"}],
        "reason_known": [{"reason": "lost"}],
        "year_form": [{"financial_year": "2122"}],
        "records_there": [{"records": 0}],
    },
    "rate_variation": {
        "reading_known": [{"reading": "mine"}],
        "area_type_known": [{"area_type": "provider"}],
        "status_known": [{"status": "fine"}],
        "year_form": [{"financial_year": "21-22"}],
        "period_ends_in_year": [{"period": "2020-21"}],
        "areas_in_order": [{"areas": 0}],
        "percentiles_in_order": [{"p25": 1.0}, {"p90": None}, {"all_areas_p10": 0.5}],
        "n_fold_is_p90_by_p10": [{"n_fold": 1.1}, {"n_fold": None}, {"p10": 0.0}],
        "opportunity_not_negative": [{"opportunity": -1.0, "status": "ok"}, {"status": "ok"}, {"opportunity": 1.0}],
        "no_variation_of_a_part": [{"notes": ["partial_population"]}],
    },
    "published_rate": {
        "reading_known": [{"reading": "mine"}, {"reading": None}],
        "area_type_known": [{"area_type": "ward"}, {"area_type": None}],
        "provider_has_a_code": [
            {"area_type": "provider", "area_code": code} for code in ("9434765919", "=1+1", "RX1 ", None)
        ],
        "status_known": [{"status": "fine"}, {"status": None}],
        "year_form": [{"financial_year": "21-22"}, {"financial_year": None}],
        "no_small_counts": [
            {"area_type": area, name: count, "disclosure": rule}
            for name in ("activity", "in_scope", "people_flagged", "activity_unknown_age_sex")
            for area, count, rule in (
                ("sub_icb", 1, "hes_2018"),
                ("sub_icb", 7, "hes_2018_protected"),
                ("sub_icb", 5, "five_or_fewer"),
                ("sub_icb", 4, "under_five"),
                (None, 7, None),
            )
        ],
        "counts_rounded": [
            {"area_type": "sub_icb", name: 11}
            for name in ("activity", "in_scope", "people_flagged", "activity_unknown_age_sex")
        ],
        "withheld_is_null": [
            {"activity": None},
            {"status": "withheld_small"},
            {"status": "withheld_secondary", "activity": None},
            {"status": None},
        ],
        "england_stands": [{"activity": None}, {"activity": None, "area_type": None}],
        "no_unreliable_rate": [{"area_type": "sub_icb", "status": "few_events"}],
        "crude_rate_of_published_count": [
            {"crude_rate": 1.1},
            {"population": None},
            {"activity": None},
            {"population": 0},
        ],
        "national_only": [{"area_type": "sub_icb"}, {"area_type": None, "disclosure": None}],
        "adjusted_only_where_it_stands": [{"area_type": "sub_icb"}],
        "share_of_published_counts": [
            {"flagged_share": 0.5},
            {"flagged_share": None},
            {"flagged_share": None, "share_lower": None, "share_upper": None},
            {"share_upper": 1.1},
            {"share_lower": None},
            {"in_scope": None},
        ],
        "limits_around_crude_rate": [
            {"crude_lower": 1.1, "crude_upper": 2.0},
            {"crude_lower": 0.5, "crude_upper": 0.9},
            {"crude_lower": 0.5},
            {"crude_lower": 0.5, "crude_upper": 2.0, "crude_rate": None, "population": None},
        ],
        "expected_rounded": [{"area_type": "icb", "expected": 3.2}, {"area_type": "icb", "expected": 31.2}],
        "rates_are_numbers": [{"upper": float("nan")}, {"lower": float("-inf")}, {"crude_rate": float("inf")}],
        "limits_around_rate": [{"lower": 1.1}, {"upper": 0.9}, {"standardised_rate": None}],
        "no_rate_of_a_part": [{"notes": ["partial_population"]}],
    },
    "activity_month": {
        "reading_known": [{"reading": "mine"}],
        "year_form": [{"financial_year": "21-22"}],
        "month_of_the_year": [{"month": date(2022, 4, 1)}, {"month": date(2021, 4, 2)}],
        "counts_in_order": [{"activity": -1}, {"activity": 1}],
    },
    "provider_month": {
        "dataset_known": [{"dataset": "did"}],
        "year_form": [{"financial_year": "21-22"}],
        "month_of_the_year": [{"month": date(2021, 3, 1)}, {"month": date(2021, 5, 31)}],
        "share_is_records_by_typical": [{"records": 13}, {"typical_month": 0.0}],
        "low_is_below_half": [{"low": True}, {"low": True, "records": 1, "share_of_typical": 1 / 12}],
    },
    "record_quality": {
        "dataset_known": [{"dataset": "did"}],
        "year_form": [{"financial_year": "21-22"}],
        "part_of_whole": [{"records": -1}, {"records": 13}],
    },
    "published_activity_month": {
        "reading_known": [{"reading": "mine"}],
        "year_form": [{"financial_year": "21-22"}],
        "counts_in_order": [{"activity": -1}, {"activity": 1}, {"activity": None}, {"in_scope": None}],
    },
    "published_days_between": {
        "year_form": [{"financial_year": "21-22"}],
        "month_of_the_year": [{"month": date(2022, 4, 1)}, {"month": date(2021, 5, 31)}],
        "not_single_records": [
            {"events": 7},
            {"events": 1},
            {"days": 27},
            {"events": 4, "disclosure": "under_five"},
            {"events": 5, "disclosure": "five_or_fewer"},
            {"events": 7, "disclosure": None},
            {"events": None},
            {"days": None},
        ],
    },
    "published_completeness": {
        "dataset_known": [{"dataset": "did"}],
        "area_type_known": [{"area_type": "icb"}],
        "provider_has_a_code": [{"area_type": "provider", "area_code": "9434765919"}],
        "year_form": [{"financial_year": "21-22"}],
        "month_of_the_year": [{"month": date(2022, 4, 1)}],
        "no_counts_of_providers": [
            {"area_type": "provider"},
            {"area_type": "provider", "records": None, "providers": None},
            {"records": None},
            {"area_type": None, "records": None, "providers": None, "providers_low": None},
        ],
        "shares_in_tenths": [
            {"share_of_typical": 0.5},
            {"area_type": "provider", "share_of_typical": 0.55, "low": False},
            {"area_type": "provider", "share_of_typical": 0.5, "low": None},
            {"area_type": "provider", "status": "ok"},
            {"area_type": None, "low": False},
            {"area_type": "provider", "share_of_typical": 0.5, "low": False, "status": "withheld_small"},
        ],
    },
    "published_variation": {
        "reading_known": [{"reading": "mine"}],
        "area_type_known": [{"area_type": "provider"}],
        "year_form": [{"financial_year": "21-22"}],
        "areas_in_order": [
            {"areas": 0},
            {"areas_with_activity": None, "disclosure": "hes_2018"},
            {"areas": None, "disclosure": None},
        ],
        "percentiles_in_order": [{"p25": 1.0}, {"all_areas_p75": 2.0}],
        "n_fold_is_p90_by_p10": [{"n_fold": 1.1}, {"p10": None}, {"p10": 0.0}],
        "opportunity_not_negative": [{"opportunity": -1.0}],
        "no_variation_of_a_part": [{"notes": ["partial_population"]}],
    },
    "published_attrition": {
        "reading_known": [{"reading": "mine"}],
        "year_form": [{"financial_year": "21-22"}],
        "records_reconcile": [{"records_in": 13}, {"records_left": -1, "records_in": -1}, {"records_missing": None}],
        "near_misses_fell_here": [{"near_miss": 1}, {"near_miss": 0, "records_failed": None}],
    },
    "published_reading_effect": {
        "reading_known": [{"reading": "mine"}],
        "year_form": [{"financial_year": "21-22"}],
        "counts_in_order": [
            {"in_scope": 9},
            {"removed": -1},
            {"in_scope": None},
            {"flagged": None, "flagged_as_published": None},
        ],
        "effect_reconciles": [{"flagged": 11}, {"added": None}],
        "as_published_changes_nothing": [{"added": 1, "removed": 1}, {"removed": None}, {"reading": None, "added": 1}],
    },
    "published_sensitivity": {
        "base_known": [{"base_reading": "mine"}],
        "year_form": [{"financial_year": "21-22"}],
        "flip_reconciles": [{"flagged_flipped": 10}, {"removed": -1, "flagged_flipped": 12}, {"flagged_flipped": None}],
    },
    "published_quality": {
        "dataset_known": [{"dataset": "did"}],
        "year_form": [{"financial_year": "21-22"}],
        "measure_form": [{"measure": "No age"}, {"measure": None}],
        "part_of_whole": [{"records": 1300}, {"records": -100}],
        "withheld_is_null": [{"records": None}, {"status": "withheld_small"}, {"status": None}],
        "coarse": [{"records": 303}, {"measure": "records"}, {"measure": "records", "of_records": None}],
    },
    "published_policy": {
        "reading_known": [{"reading": "mine"}],
        "fingerprint_form": [{"policy_fingerprint": None}],
        "definition_is_json": [{"definition": "id: P"}],
        "clauses_there": [{"clauses": None}],
    },
    **APPROVAL_BAD_ROWS,
    **MONITORING_BAD_ROWS,
}


# Changes that must fail each check over several rows or tables.
BAD_TABLES: dict[str, dict[str, list[Spoil]]] = {
    "activity_change": {
        "one_row_a_component": [add("activity_change")],
        "parts_make_the_change": [
            change("activity_change", records=8.0),
            drop("activity_change", 2),
            drop("activity_change", 4),
        ],
    },
    "pathway": {"one_row_a_fusion": [add("pathway")]},
    "pathway_step": {
        "one_row_a_step_and_window": [add("pathway_step")],
        "shorter_window_within_longer": [change("pathway_step", 2, state="not_seen", evidence=[])],
        "pathway_step_of_a_fusion": [drop("pathway"), change("pathway_step", record_id="other")],
    },
    "code_use": {"one_row_a_code": [add("code_use")]},
    "activity_count": {"one_row_an_area": [add("activity_count")]},
    "equality_rate": {
        "one_row_a_group": [add("equality_rate")],
        "groups_make_the_whole": [change("equality_rate", 2, activity=15), drop("equality_rate", 1)],
    },
    "apc_spell": {
        "one_row_a_record": [add("apc_spell")],
        "admitted_before_discharge": [
            change("apc_spell", admission_date=date(2022, 1, 2), discharge_date=date(2022, 1, 1))
        ],
        "mostly_with_age": [change_all("apc_spell", age_years=None)],
        "mostly_with_provider": [change_all("apc_spell", provider_code=None)],
        "agrees_with_audit": [
            drop("apc_spell"),
            add("apc_spell", record_id="more"),
            change("apc_spell", run_id="run0"),
        ],
    },
    "op_attendance": {
        "one_row_a_record": [add("op_attendance")],
        "mostly_dated": [change_all("op_attendance", activity_date=None)],
        "mostly_with_age": [change_all("op_attendance", age_years=None)],
        "mostly_with_provider": [change_all("op_attendance", provider_code=None)],
        "agrees_with_audit": [drop("op_attendance")],
    },
    "quarantine": {"agrees_with_audit": [drop("quarantine"), add("quarantine")]},
    "ingest_audit": {"one_row_a_file": [add("ingest_audit")]},
    "population": {
        "one_row_a_stratum": [add("population")],
        "every_stratum_there": [drop("population")],
        "vintage_of_one_file": [
            change("population", source="other.csv"),
            change("population", area_date=date(2021, 4, 1)),
            change_all("population", people=0),
        ],
    },
    "unmapped_area": {
        "one_row_a_code": [add("unmapped_area")],
        "records_in_scope": [change("unmapped_area", records=13), change_all("activity_flag", dataset="op")],
    },
    "policy": {
        "one_row_a_reading": [add("policy")],
        "one_default_reading": [
            change("policy", is_default_reading=False),
            change("policy", 1, is_default_reading=True),
        ],
    },
    "activity_flag": {
        "one_row_a_judgement": [add("activity_flag")],
        "record_in_silver": [drop("apc_spell"), change("activity_flag", financial_year="2020-21")],
        "policy_recorded": [change("policy", policy_fingerprint="f" * 16), change("policy", dataset="op")],
        "clauses_of_the_policy": [change("activity_flag", missing_clauses=["other"])],
    },
    "policy_attrition": {
        "one_row_a_step": [add("policy_attrition")],
        "steps_follow": [drop("policy_attrition"), change("policy_attrition", 2, records_in=9)],
        "starts_with_scope": [drop("activity_flag"), drop("policy_attrition")],
        "ends_with_flagged": [
            change("activity_flag", outcome="not_flagged"),
            change("policy_attrition", 2, records_left=9),
        ],
        "scope_within_silver": [drop("apc_spell")],
    },
    "policy_sensitivity": {
        "one_row_a_decision": [add("policy_sensitivity")],
        "base_is_the_flags": [
            change("policy_sensitivity", flagged=9, flagged_flipped=10),
            change("policy_sensitivity", in_scope=13),
            drop("activity_flag"),
        ],
        "turns_are_the_flags": [
            change("policy_sensitivity", added=0, flagged_flipped=10),
            change("activity_flag", 0, decisive_decisions=["older"]),
            change("activity_flag", 10, decisive_decisions=["other"]),
        ],
    },
    "policy_comparison": {
        "one_row_a_clause": [add("policy_comparison")],
        "compared_are_judged": [
            change("policy_comparison", records_compared=1),
            change_all("policy_comparison", records_compared=3),
            change("policy_comparison", 1, records_alone=1, records=1),
        ],
        "local_policy_recorded": [
            change("policy", 2, extends="N"),
            change("policy", 2, boards=None),
            drop("policy", 2),
        ],
    },
    "activity_rate": {
        "one_row_an_area": [add("activity_rate")],
        "judged_is_rated": [change("activity_flag", revision="2022-08")],
        "england_is_the_flags": [drop("activity_flag"), change("activity_flag", area_basis="outside_england")],
        "providers_are_the_flags": [change("activity_flag", provider_code=None), drop("activity_rate", 3)],
        "areas_within_the_flags": [change("activity_flag", area_code=None)],
        "known_areas_are_rated": [drop("activity_rate", 1)],
        "areas_within_england": [change("activity_rate", 1, activity=11), change("activity_rate", 0, activity=9)],
        "local_without_england": [
            change("activity_rate", 8, area_type="england"),
            change("activity_rate", 9, area_type="region"),
        ],
        "pooled_is_the_sum_of_years": [change("activity_rate", 11, activity=1)],
        "one_geography": [change("activity_rate", geography="icb_2024")],
    },
    "rate_variation": {
        "one_row_a_type": [add("rate_variation")],
        "percentiles_of_the_rates": [
            change("rate_variation", p90=3.0),
            change("rate_variation", p10=1.0),
            change("rate_variation", areas=3),
        ],
    },
    "published_rate": {
        "one_row_an_area": [add("published_rate")],
        "one_disclosure_rule": [change("published_rate", disclosure="none")],
        "one_geography": [
            change("published_rate", geography="icb_2024"),
            change("published_rate", coverage="partial"),
        ],
        "one_reading_below_england": [change("published_rate", 1, reading="as_intended")],
        "windows_apart": [
            lambda tables: tables["published_rate"].extend(
                tables["published_rate"][1] | {"financial_year": year, "period_years": 3}
                for year in ("2021-22", "2022-23")
            ),
            # a window over a year that is also there as a single year
            add("published_rate", 1, financial_year="2022-23", period_years=2),
        ],
        "england_as_in_gold": [
            change("published_rate", activity=9),
            change("published_rate", standardised_rate=1.3),
            drop("activity_rate"),
        ],
        "providers_in_every_period": [add("published_rate", 3, financial_year="2020-21", area_code="RX2")],
        "standardised_from_published_count": [change("published_rate", 1, expected=4.0)],
        "areas_near_gold": [change("published_rate", 1, activity=15), drop("activity_rate", 1)],
    },
    "published_variation": {
        "one_row_a_type": [add("published_variation")],
        "one_reading": [add("published_variation", reading="as_intended")],
        "reading_of_the_rates": [change("published_variation", reading="as_intended")],
    },
    "published_attrition": {
        "one_row_a_step": [add("published_attrition")],
        "steps_follow": [drop("published_attrition")],
        "national_policies_only": [change("published_attrition", policy_id="L")],
    },
    "published_sensitivity": {
        "one_row_a_decision": [add("published_sensitivity")],
        "base_as_the_reading": [
            change("published_sensitivity", flagged=9, flagged_flipped=10),
            drop("published_reading_effect"),
        ],
        "national_policies_only": [change("published_sensitivity", policy_id="L")],
    },
    "published_reading_effect": {
        "one_row_a_reading": [add("published_reading_effect")],
        "flagged_as_in_the_waterfall": [
            change("published_reading_effect", flagged=9),
            change("published_attrition", 2, records_left=9),
        ],
        "national_policies_only": [change("published_reading_effect", policy_id="L")],
    },
    "published_quality": {"one_row_a_measure": [add("published_quality")]},
    "activity_month": {
        "one_row_a_month": [add("activity_month", 2)],
        "months_are_the_flags": [
            drop("activity_flag"),
            drop("activity_month", 1),
            change("activity_month", in_scope=1),
        ],
    },
    "provider_month": {
        "one_row_a_month": [add("provider_month")],
        "months_are_the_records": [drop("apc_spell"), change("op_attendance", activity_date=None)],
    },
    "record_quality": {
        "one_row_a_measure": [add("record_quality")],
        "of_all_records": [
            drop("apc_spell"),
            drop("record_quality", 2),
            change("record_quality", records=11),
            change("record_quality", 1, of_records=13),
        ],
    },
    "published_activity_month": {
        "one_row_a_month": [add("published_activity_month", 2)],
        "as_in_gold": [change("published_activity_month", 1, activity=8), drop("activity_month", 2)],
        "england_alone": [change_all("published_rate", area_type="icb")],
    },
    "published_days_between": {
        "one_row_a_group": [add("published_days_between")],
        "as_the_months": [change("published_days_between", events=10), drop("published_activity_month", 1)],
        "reading_of_the_policy": [change("published_days_between", reading="as_intended")],
    },
    "published_completeness": {
        "one_row_a_month": [add("published_completeness", 1)],
        "shares_of_large_months": [change("published_completeness", 1, area_code="RX1")],
    },
    "published_policy": {
        "one_row_a_reading": [add("published_policy")],
        "one_default_reading": [change("published_policy", is_default_reading=False)],
        "rates_have_their_policy": [drop("published_policy")],
    },
    **APPROVAL_BAD_TABLES,
    **MONITORING_BAD_TABLES,
}


@pytest.mark.parametrize("name", SUITES)
def test_every_check_is_tested(name: str) -> None:
    suite = load_suite(name)
    assert {c.id for c in suite.checks if c.id.startswith("not_null_")} == {
        f"not_null_{c}" for c in suite.table.required
    }
    declared = {c.id for c in suite.checks if c.id.startswith("not_null_")} | {"columns_there", "columns_of_their_type"}
    kinds = {c.id: c.kind for c in suite.checks if c.id not in declared}
    rows, tables = set(BAD_ROWS.get(name, {})), set(BAD_TABLES.get(name, {}))
    assert rows | tables == set(kinds) and not rows & tables
    assert {kinds[check] for check in rows} <= {"row", "native"} and "row" not in {kinds[check] for check in tables}


@pytest.mark.parametrize("name", SUITES)
def test_a_bad_row_fails_its_check(spark: SparkSession, name: str) -> None:
    suite = load_suite(name)
    rules = [check for check in suite.checks if check.kind == "row"]
    if not rules:
        return
    names = {check.id for check in rules}
    first = good()[name][0]
    cases = [(check, values) for check, listed in BAD_ROWS[name].items() for values in listed if check in names]
    if suite.native is None:
        cases += [(f"not_null_{column}", {column: None}) for column in suite.table.required]
    rows = [first, *(first | values for _, values in cases)]
    frame = frame_of(spark, suite.table, rows)
    broken = [F.expr(f"NOT coalesce(({check.rule}), false)").alias(check.id) for check in rules]
    found = frame.coalesce(1).select(*broken).collect()
    assert not [name for name, against in found[0].asDict().items() if against]
    assert [case for case, row in zip(cases, found[1:], strict=True) if not row[case[0]]] == []


@pytest.mark.parametrize("name", LAYER_SUITES["published"])
def test_a_bad_row_fails_its_check_on_pandas(name: str) -> None:
    suite = load_suite(name)
    rows = good()[name]
    assert not {check: count for check, count in native_violations(name, rows).items() if count}
    assert suite.native is not None
    expectations = Counter(item["meta"]["id"] for item in suite.native["expectations"])
    for check, listed in BAD_ROWS[name].items():
        if expectations[check]:
            # An expectation counts every bad row once. Where a check has several, each row is a table of its own.
            for batch in [listed] if expectations[check] == 1 else [[values] for values in listed]:
                bad = [rows[0] | values for values in batch]
                assert native_violations(name, bad, check)[check] >= len(batch), (check, batch)
    # One row for each column that must be there, where it is NULL.
    missing = native_violations(name, [rows[0], *(rows[0] | {column: None} for column in suite.table.required)])
    assert {column for column in suite.table.required if missing[f"not_null_{column}"] != 1} == set()


@pytest.mark.parametrize(
    ("suite", "check", "spoil"),
    [
        pytest.param(suite, check, spoil, id=f"{suite}-{check}-{number}")
        for suite, checks in BAD_TABLES.items()
        for check, spoils in checks.items()
        for number, spoil in enumerate(spoils)
    ],
)
def test_a_bad_table_fails_its_check(spark: SparkSession, suite: str, check: str, spoil: Spoil) -> None:
    tables = good()
    spoil(tables)
    assert violations(spark, suite, check, tables) > 0


# End to end: Spark, Great Expectations, pages


def progress(_: str) -> None:
    pass


@pytest.mark.parametrize("layer", list(LAYER_SUITES))
def test_good_tables_pass(spark: SparkSession, layer: str, tmp_path: Path) -> None:
    lake: Any = Frames(spark, good())
    release = "R1" if layer == "published" else None
    lines: list[str] = []
    result = validate_layer(
        lake, layer, years=["2020-21", "2021-22"], release_id=release, docs=tmp_path, progress=lines.append
    )
    assert (result.failed, result.warnings) == ([], [])
    assert result.success and result.checks == sum(len(load_suite(name).checks) for name in LAYER_SUITES[layer])
    pages = list(tmp_path.rglob("*.html"))
    assert pages == [result.docs] == [tmp_path / f"expectations-{layer}" / "index.html"]
    text = pages[0].read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|@import|src=|url\(|https?://", text)
    links = re.findall(r'href="#([^"]+)"', text)
    assert (
        links
        == re.findall(r'<h2 id="([^"]+)"', text)
        == [load_suite(name).table.full_name for name in LAYER_SUITES[layer]]
    )
    assert len(re.findall('<td class="passed">', text)) == len(links) + result.checks
    # One number of checks everywhere: before and after checking, on top of the page, and over its tables.
    tables = len(LAYER_SUITES[layer])
    assert lines == [f"checking {layer}: {result.checks} checks of {tables} tables", f"{layer}: {result.in_words}"]
    assert result.in_words == f"{result.checks} checks passed" and f"<strong>{result.in_words}.</strong>" in text
    assert sum(map(int, re.findall(r'<td class="n">(\d+)</td>\s*<td class="passed">', text))) == result.checks


def test_a_lake_is_checked_at_its_versions(spark: SparkSession, tmp_path: Path) -> None:
    prepare_folders(tmp_path / "lake")
    lake = Lake(spark, LakeLocation(folder=tmp_path / "lake"), run_id="run1")
    layer = LAYER_SUITES["rates"]
    for name in (*layer, "activity_flag", "apc_spell", "op_attendance", "policy"):
        table = load_suite(name).table
        lake.replace(table, frame_of(spark, table, good()[name]).coalesce(1), {}, stage="test")
    result = validate_layer(lake, "rates", years=["2021-22"], docs=None, progress=progress)
    assert result.success and result.docs is None
    assert result.versions == {f"gold/{name}": 0 for name in layer}


def test_years_and_release_restrict_what_is_checked(spark: SparkSession) -> None:
    lake: Any = Frames(spark, good())

    def checked(suite: str, years: list[str] | None, release_id: str | None) -> int:
        return ViolationCounter(lake, years, release_id).rows(suite).count()

    assert checked("published_rate", None, "R1") == len(good()["published_rate"])
    assert checked("published_rate", None, "R9") == 0
    assert checked("activity_rate", ["2020-21"], None) == 1
    assert checked("quarantine", ["2020-21"], None) == 1  # its year is unknown
    assert checked("ingest_audit", ["2020-21"], None) == 2  # an audit row belongs to a run


def test_a_failed_check_says_what_is_wrong_without_values_of_records(spark: SparkSession, tmp_path: Path) -> None:
    tables, lines = good(), []
    bad = {"age_years": 133, "record_id": " SECRET", "provider_code": None}
    tables["op_attendance"] = [row | bad for row in tables["op_attendance"]]
    lake: Any = Frames(spark, tables)
    result = validate_layer(lake, "silver", years=["2021-22"], docs=tmp_path, progress=lines.append)
    found = {(item.table, item.check): item.violations for item in result.failed}
    assert not result.success and result.docs is not None
    assert found == {
        ("silver/op_attendance", check): count
        for check, count in (
            ("record_id_bare", 2), ("age_years_in_range", 2), ("age_years_from_age", 2), ("one_row_a_record", 1)
        )
    }  # fmt: skip
    # A warning is reported, and the layer still passes.
    assert [item.check for item in result.warnings] == ["mostly_with_provider"]
    pages = "".join(page.read_text(encoding="utf-8") for page in tmp_path.rglob("*.html"))
    assert "SECRET" not in pages + "".join(lines) and "133" not in "".join(lines)
    assert ">failed<" in result.docs.read_text(encoding="utf-8")


def test_missing_and_mistyped_columns_are_failed_checks(spark: SparkSession) -> None:
    tables = good()
    frames = {
        load_suite(name).table.full_name: frame_of(spark, load_suite(name).table, tables[name])
        for name in ("apc_spell", "quarantine")
    }
    spells, quarantine = TABLES["silver/apc_spell"].full_name, QUARANTINE.full_name
    frames[spells] = frames[spells].drop("age_years").withColumn("more", F.lit(1))
    frames[quarantine] = frames[quarantine].withColumn("reasons", F.lit("undischarged"))
    lake: Any = Frames(spark, tables, frames)
    result = validate_layer(lake, "silver", years=["2021-22"], docs=None, progress=progress)
    descriptions = {(item.table, item.check): item.description for item in result.failed}
    assert set(descriptions) == {
        (spells, "columns_there"),
        (spells, "age_years_in_range"),
        (spells, "age_years_from_age"),
        (quarantine, "columns_of_their_type"),
        (quarantine, "not_null_reasons"),
        (quarantine, "reason_given"),
    }
    assert descriptions[(spells, "columns_there")].endswith("(columns: age_years)")
    assert (
        "cannot be checked: the column reasons of silver/quarantine has another type"
        in descriptions[(quarantine, "reason_given")]
    )
    assert [item.check for item in result.warnings] == ["mostly_with_age"]


def test_rows_in_memory_are_checked_as_those_of_the_lake(spark: SparkSession) -> None:
    tables, lines = good(), []
    tables["published_rate"][1] |= {"activity": 3}
    tables["published_quality"].append(tables["published_quality"][0])
    lake: Any = Frames(spark, tables)
    published = [load_suite(name).table for name in LAYER_SUITES["published"]]
    staged = {table: lake.read(table) for table in published}
    rows = {table: frame.toArrow() for table, frame in staged.items()}
    options: dict[str, Any] = {"years": None, "release_id": "R1", "docs": None, "progress": lines.append}
    written = validate_layer(lake, "published", **options)
    in_memory = validate_layer(lake, "published", **options, staged=staged, staged_rows=rows)
    assert not written.success and written.failed == in_memory.failed and written.checks == in_memory.checks
    found = {(item.table, item.check): item.violations for item in written.failed}
    assert found["published/rate", "no_small_counts"] == found["published/rate", "counts_rounded"] == 1
    assert found["published/rate", "areas_near_gold"] == 1  # by Spark
    assert found["published/quality", "one_row_a_measure"] == 2  # both rows of the key
    description = "Below England there is no count that the rule suppresses (1 to 7, 5 or 4)."
    assert f"Failed: published/rate: {description} (violations of no_small_counts: 1)" in lines


def test_missing_and_mistyped_columns_of_a_published_table(spark: SparkSession) -> None:
    suite = load_suite("published_quality")
    frame = frame_of(spark, suite.table, good()["published_quality"]).drop("status").withColumn("measure", F.lit(1))
    lake: Any = Frames(spark, good(), {suite.table.full_name: frame})
    result = validate_layer(lake, "published", years=None, release_id="R1", docs=None, progress=progress)
    descriptions = {item.check: item.description for item in result.failed}
    assert {item.table for item in result.failed} == {suite.table.full_name}
    assert set(descriptions) == {
        "columns_there",
        "columns_of_their_type",
        "not_null_measure",
        "one_row_a_measure",
        "measure_form",
        "part_of_whole",
        "withheld_is_null",
        "coarse",
    }
    assert descriptions["columns_there"].endswith("(columns: status)")
    assert descriptions["withheld_is_null"].endswith(
        "cannot be checked: the column status of published/quality is missing)"
    )


@pytest.mark.parametrize("suite", ["apc_spell", "op_attendance"])
def test_a_key_in_two_years_fails_in_either_year(spark: SparkSession, suite: str) -> None:
    tables = good()
    add(suite, financial_year="2019-20")(tables)
    lake: Any = Frames(spark, tables)
    for year in ("2019-20", "2021-22"):
        found = ViolationCounter(lake, [year], None).violations([load_suite(suite)])
        assert found.counts[suite, "one_row_a_record"] == 1


def test_different_keys_with_equal_hashes_are_not_repeated_keys(spark: SparkSession) -> None:
    # xxhash64 passes over NULLs, so these two keys have one hash.
    tables = good()
    tables["op_attendance"] = [
        tables["op_attendance"][0] | {"source_system": None, "dataset": "op"},
        tables["op_attendance"][0] | {"source_system": "op", "dataset": None},
    ]
    assert violations(spark, "op_attendance", "one_row_a_record", tables) == 0


def test_newer_runs_may_have_replaced_years_of_earlier_runs(spark: SparkSession) -> None:
    tables = good()
    older = tables["ingest_audit"][0] | {"run_id": "run0", "written_at": datetime(2021, 1, 1, tzinfo=UTC)}
    tables["ingest_audit"].append(older)
    assert violations(spark, "apc_spell", "agrees_with_audit", tables) == 0
    assert violations(spark, "quarantine", "agrees_with_audit", tables) == 0


def test_rows_quarantined_before_belong_to_the_run_that_quarantined_them(spark: SparkSession) -> None:
    tables = good()
    later = datetime(2031, 1, 1, tzinfo=UTC)
    tables["ingest_audit"] += [
        row | {"run_id": "run2", "written_at": later, "records_built": 0, "rows_aside_before": row["rows_quarantined"]}
        for row in tables["ingest_audit"]
    ]
    assert violations(spark, "quarantine", "agrees_with_audit", tables) == 0
    tables["ingest_audit"][-1]["rows_aside_before"] = tables["ingest_audit"][-2]["rows_aside_before"] = 0
    assert violations(spark, "quarantine", "agrees_with_audit", tables) > 0


def test_exceptions_are_found_in_both_forms() -> None:
    has_raised = native_suites.has_raised
    assert has_raised({"raised_exception": True})
    assert has_raised({"('metric', 'x')": {"raised_exception": True}})
    assert not has_raised({"raised_exception": False}) and not has_raised({}) and not has_raised(None)


@pytest.mark.parametrize("suite", ["ingest_audit", "quarantine"])
def test_every_source_table_is_known_to_the_checks(suite: str) -> None:
    rule = next(check.rule for check in load_suite(suite).checks if check.id == "source_known")

    def is_known(system: str, dataset: str, role: str) -> bool:
        named = f"SELECT '{system}' AS source_system, '{dataset}' AS dataset, '{role}' AS role"
        return bool(duckdb.sql(f"SELECT {rule} FROM ({named})").fetchall()[0][0])

    for system, roles in ROLES.items():
        for role in roles if system != REGISTERS else ():
            dataset, other = ("apc", "op") if role.startswith("ap") else ("op", "apc")
            assert is_known(system, dataset, role), role
            assert not is_known(system, other, role), role
    assert not is_known("sus_plus", "op", "op")


def test_a_result_in_words() -> None:
    item = FailedCheck("gold/x", "a", "b", 1)
    words = {(0, 0): "9 checks passed", (2, 1): "6 of 9 checks passed, 1 warning, 2 failed",
             (0, 2): "7 of 9 checks passed, 2 warnings", (1, 0): "8 of 9 checks passed, 1 failed"}  # fmt: skip
    for (failed, warnings), expected in words.items():
        result = LayerResult(not failed, 9, [item] * failed, {}, None, [item] * warnings)
        assert result.in_words == expected


def test_the_page_escapes_texts(tmp_path: Path) -> None:
    suite = replace(load_suite("published_quality"), checks=(Check("a", "<b> & c", "row", "x < 1 AND y > 2"),))
    failed = [FailedCheck(suite.table.full_name, "a", "<b> & c (columns: <d>)", 1234)]
    result = LayerResult(False, 1, failed, {}, None)
    text = write_page("published", [suite], result, tmp_path).read_text(encoding="utf-8")
    assert "&lt;b&gt; &amp; c (columns: &lt;d&gt;)" in text and "x &lt; 1 AND y &gt; 2" in text and "1,234" in text
    assert '<td class="failed">failed</td>' in text and "<b>" not in text and "<d>" not in text


def test_declared_types_are_compared_completely(spark: SparkSession) -> None:
    table = TABLES["gold/policy"]
    rows = frame_of(spark, table, good()["policy"])
    other = rows.withColumn("clauses", F.transform("clauses", lambda c: F.struct(c["clause_id"].alias("clause_id"))))
    assert isinstance(other.schema["clauses"].dataType, T.ArrayType)
    lake: Any = Frames(spark, {}, {table.full_name: other})
    assert ViolationCounter(lake, None, None)._column_differences("policy") == ([], ["clauses"])
