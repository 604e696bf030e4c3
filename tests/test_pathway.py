"""The care before and at a fusion, from histories worked by hand: each shows one rule or boundary."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from calling import delta_rows
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from ebi_spark.config.settings import RunConfig
from ebi_spark.financial_years import label
from ebi_spark.lake.storage import Lake
from ebi_spark.pathway.algorithm import step_reached
from ebi_spark.pathway.at_operation import (
    approach,
    decompression,
    fusions,
    levels,
    levels_pattern,
    steps_at_operation,
)
from ebi_spark.pathway.before import by_operation, findings, steps_before
from ebi_spark.pathway.code_lists import pattern, steps, windows_of
from ebi_spark.pathway.coverage import Covered, Month, stretches
from ebi_spark.pathway.definitions import CANNOT_BE_SEEN, NOT_SEEN, SEEN, definitions, definitions_after
from ebi_spark.pathway.linked import linked_attendances, linked_flags, linked_spells
from ebi_spark.policies.code_books import code_books
from ebi_spark.policies.load import load_policies
from ebi_spark.small_frames import kept, small_frame
from ebi_spark.stages.monitor import Monitor, MonitorSummary
from ebi_spark.stages.run_context import RunContext
from ebi_spark.tables.gold import ACTIVITY_FLAG
from ebi_spark.tables.gold import POLICY as POLICY_TABLE
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE
from ebi_spark.tables.table import Table

POLICY = "2Y_back_pain_fusion"
DAY = date(2024, 6, 15)
COVERED = [
    Covered("sus_plus", "apc", date(2020, 4, 1), date(2025, 3, 31)),
    Covered("sus_plus", "op", date(2023, 4, 1), date(2024, 12, 31)),
    Covered("hes", "apc", date(2020, 4, 1), date(2025, 3, 31)),
]
THREE, SIX, TWELVE, AT = "3_months", "6_months", "12_months", "at_operation"


def seen_by(
    day: str, function: str = "", *, first: bool = False, codes: str | None = None, status: str = "5"
) -> dict[str, Any]:
    """An appointment."""
    return {
        "activity_date": date.fromisoformat(day), "treatment_function": function, "attendance_status": status,
        "first_attendance": "1" if first else "2", "procedure_codes": codes,
    }  # fmt: skip


def stay(day: str, codes: str | None = None, diagnoses: str | None = None) -> dict[str, Any]:
    """A spell of one day before the operation."""
    on = date.fromisoformat(day)
    return {"admission_date": on, "discharge_date": on, "procedure_codes": codes, "diagnosis_codes": diagnoses}


@dataclass
class History:
    """A fusion, what came before it, and what must be found: the state of steps in windows, and columns of its row."""

    rule: str
    expected: dict[tuple[str, str], str] = field(default_factory=dict)
    attendances: list[dict[str, Any]] = field(default_factory=list)
    spells: list[dict[str, Any]] = field(default_factory=list)
    operation: dict[str, Any] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)


def states(step: str, three: str, six: str, twelve: str) -> dict[tuple[str, str], str]:
    return {(step, THREE): three, (step, SIX): six, (step, TWELVE): twelve}


PHYSIO, PAIN = "physiotherapy_supervised", "pain_management"
FIRST_CONTACT = seen_by("2024-03-20", "650", first=True)
FIXTURES = Path(__file__).parent / "fixtures"
PROGRAMME = [seen_by("2023-09-01", "650", first=True), seen_by("2023-10-20", "650")]
HISTORIES = [
    History("42 days apart are six weeks", states(PHYSIO, SEEN, SEEN, SEEN), [FIRST_CONTACT, seen_by("2024-05-01", "650")],
            row={"algorithm_step": "conservative_care"}),
    History("41 days are not", states(PHYSIO, NOT_SEEN, NOT_SEEN, NOT_SEEN), [FIRST_CONTACT, seen_by("2024-04-30", "650")],
            row={"algorithm_step": "confirm"}),
    History("no first attendance among them", states(PHYSIO, NOT_SEEN, NOT_SEEN, NOT_SEEN),
            [seen_by("2024-03-20", "650"), seen_by("2024-05-01", "650")]),
    History("a first attendance by telephone", states(PHYSIO, SEEN, SEEN, SEEN),
            [seen_by("2024-03-20", "650") | {"first_attendance": "3"}, seen_by("2024-05-01", "650")]),
    History("one contact", states(PHYSIO, NOT_SEEN, NOT_SEEN, NOT_SEEN), [FIRST_CONTACT]),
    History("a second contact that was not attended", states(PHYSIO, NOT_SEEN, NOT_SEEN, NOT_SEEN),
            [FIRST_CONTACT, seen_by("2024-05-01", "650", status="7")]),
    History("arrived late, but was seen", states(PHYSIO, SEEN, SEEN, SEEN),
            [FIRST_CONTACT, seen_by("2024-05-01", "650", status="6")]),
    History("a programme begun before the window", states(PHYSIO, NOT_SEEN, SEEN, SEEN),
            [seen_by("2024-03-14", "650", first=True), seen_by("2024-05-01", "650")]),
    History("contacts of two services are no programme", states(PHYSIO, NOT_SEEN, NOT_SEEN, NOT_SEEN),
            [FIRST_CONTACT, seen_by("2024-05-01", "191")]),
    History("the first day of a window counts", states(PAIN, SEEN, SEEN, SEEN), [seen_by("2024-03-15", "191")]),
    History("the day before does not", states(PAIN, NOT_SEEN, SEEN, SEEN), [seen_by("2024-03-14", "191")]),
    History("twelve months to the day", states(PAIN, NOT_SEEN, NOT_SEEN, SEEN), [seen_by("2023-06-15", "191")]),
    History("a day more", states(PAIN, NOT_SEEN, NOT_SEEN, NOT_SEEN), [seen_by("2023-06-14", "191")]),
    History("the day of admission does not count", states(PAIN, NOT_SEEN, NOT_SEEN, NOT_SEEN), [seen_by("2024-06-15", "191")]),
    History("the day before admission does", states(PAIN, SEEN, SEEN, SEEN), [seen_by("2024-06-14", "191")]),
    History("a window that begins in a shorter month", states(PAIN, SEEN, SEEN, SEEN), [seen_by("2024-02-29", "191")],
            operation={"operation_date": date(2024, 5, 31), "admission_date": date(2024, 5, 31)}),
    History("operated two days after admission: back from the operation, not into the stay",
            states(PAIN, NOT_SEEN, SEEN, SEEN) | states("rheumatology", NOT_SEEN, NOT_SEEN, NOT_SEEN),
            [seen_by("2024-03-16", "191"), seen_by("2024-06-16", "410")], operation={"operation_date": date(2024, 6, 17)}),
    History("outpatient data begin later than the window", states(PAIN, NOT_SEEN, CANNOT_BE_SEEN, CANNOT_BE_SEEN),
            operation={"operation_date": date(2023, 7, 1), "admission_date": date(2023, 7, 1)}),
    History("the same, and the step is found", states(PAIN, NOT_SEEN, SEEN, SEEN), [seen_by("2023-03-31", "191")],
            operation={"operation_date": date(2023, 7, 1), "admission_date": date(2023, 7, 1)}),
    History("outpatient data end on the last day of the window", states(PAIN, NOT_SEEN, NOT_SEEN, NOT_SEEN),
            operation={"operation_date": date(2025, 1, 1), "admission_date": date(2025, 1, 1)}),
    History("outpatient data end a day early", states(PAIN, CANNOT_BE_SEEN, CANNOT_BE_SEEN, CANNOT_BE_SEEN),
            operation={"operation_date": date(2025, 1, 2), "admission_date": date(2025, 1, 2)}),
    History("a system without outpatient data", states(PAIN, *[CANNOT_BE_SEEN] * 3) | states("epidural_injection", *[CANNOT_BE_SEEN] * 3)
            | {("spondylolisthesis", TWELVE): NOT_SEEN}, operation={"source_system": "hes"}),
    History("the same, and the step is found in admitted care", states("epidural_injection", SEEN, SEEN, SEEN),
            spells=[stay("2024-05-01", ",A521,")], operation={"source_system": "hes"}),
    History("a person who is not known", states(PAIN, *[CANNOT_BE_SEEN] * 3) | {("spondylolisthesis", AT): NOT_SEEN},
            [seen_by("2024-05-01", "191")], operation={"person_id": None}),
    History("medicines can never be seen", {("medicines", TWELVE): CANNOT_BE_SEEN, ("mcas", TWELVE): CANNOT_BE_SEEN,
                                            ("informed_consent", AT): CANNOT_BE_SEEN}),
    History("every clinic by its treatment function",
            {(name, THREE): SEEN for name in ("psychology", "rheumatology", "spinal_surgery", "orthopaedics", "neurosurgery")},
            [seen_by("2024-05-01", code) for code in ("656", "410", "108", "110", "150")]),
    History("an epidural in outpatients", states("epidural_injection", SEEN, SEEN, SEEN), [seen_by("2024-05-01", codes=",A522,Z063,")]),
    History("a blood patch is none", states("epidural_injection", NOT_SEEN, NOT_SEEN, NOT_SEEN), [seen_by("2024-05-01", codes=",A523,")]),
    History("a facet injection with its site", states("facet_injection", SEEN, SEEN, SEEN), spells=[stay("2024-05-01", ",V544,Y534,Z675,")]),
    History("a facet injection of the neck", states("facet_injection", NOT_SEEN, NOT_SEEN, NOT_SEEN), spells=[stay("2024-05-01", ",V544,Z673,")]),
    History("denervation without a site", states("facet_denervation", SEEN, SEEN, SEEN), spells=[stay("2024-05-01", ",V487,")]),
    History("denervation of the neck", states("facet_denervation", NOT_SEEN, NOT_SEEN, NOT_SEEN), spells=[stay("2024-05-01", ",V487,Y123,Z673,")]),
    History("a nerve of the lumbar spine", states("peripheral_nerve", SEEN, SEEN, SEEN), spells=[stay("2024-05-01", ",A735,Z073,")]),
    History("any nerve", states("peripheral_nerve", NOT_SEEN, NOT_SEEN, NOT_SEEN), spells=[stay("2024-05-01", ",A735,Z094,")]),
    History("the record of the operation is not before it", states("epidural_injection", NOT_SEEN, NOT_SEEN, NOT_SEEN),
            operation={"procedure_codes": ",V385,A521,"}),
    History("a scan that 2S flags", states("lumbar_imaging", SEEN, SEEN, SEEN) | states("lumbar_imaging_flagged", SEEN, SEEN, SEEN),
            [seen_by("2024-05-01", codes=",U055,") | {"flagged": True}]),
    History("a scan that it does not flag", states("lumbar_imaging", SEEN, SEEN, SEEN)
            | states("lumbar_imaging_flagged", NOT_SEEN, NOT_SEEN, NOT_SEEN), [seen_by("2024-05-01", codes=",U212,Z665,")]),
    History("a site before the scan is not its site", states("lumbar_imaging", NOT_SEEN, NOT_SEEN, NOT_SEEN),
            [seen_by("2024-05-01", codes=",Z665,U212,")]),
    History("imaging, then an injection", {("imaging_then_injection", TWELVE): SEEN},
            [seen_by("2024-01-10", codes=",U055,")], [stay("2024-02-10", ",A577,")]),
    History("both on one day", {("imaging_then_injection", TWELVE): SEEN}, [seen_by("2024-02-10", codes=",U055,")], [stay("2024-02-10", ",A577,")]),
    History("an injection, then imaging", {("imaging_then_injection", TWELVE): NOT_SEEN},
            [seen_by("2024-02-11", codes=",U055,")], [stay("2024-02-10", ",A577,")]),
    History("spondylolisthesis and instability are two steps", {("spondylolisthesis", AT): SEEN, ("instability", AT): NOT_SEEN},
            operation={"diagnosis_codes": ",M545,M4316,"}, row={"algorithm_step": "proceed"}),
    History("a diagnosis in an earlier spell", {("spondylolisthesis", AT): NOT_SEEN, ("spondylolisthesis", TWELVE): SEEN},
            spells=[stay("2023-08-01", diagnoses=",M431,")], row={"algorithm_step": "proceed"}),
    History("stenosis with instability", {("stenosis_with_instability", AT): SEEN, ("stenosis_without_instability", AT): NOT_SEEN},
            operation={"diagnosis_codes": ",M480,M532,"}),
    History("stenosis without", {("stenosis_with_instability", AT): NOT_SEEN, ("stenosis_without_instability", AT): SEEN,
                                 ("stenosis", AT): SEEN}, operation={"diagnosis_codes": ",M4806,"}, row={"algorithm_step": "confirm"}),
    History("cauda equina, and leg pain as a step of its own", {("neurological_deficit", AT): SEEN, ("radiculopathy", AT): SEEN},
            operation={"diagnosis_codes": ",G834,M543,"}),
    History("myelopathy of no stated site", {("myelopathy", AT): SEEN, ("neurological_deficit", AT): NOT_SEEN}, operation={"diagnosis_codes": ",M545,M471,"}),
    History("myelopathy of the neck, by the fifth character", {("myelopathy", AT): NOT_SEEN}, operation={"diagnosis_codes": ",M545,M4712,"}),
    History("cord compression beside a disc of the neck", {("myelopathy", AT): NOT_SEEN}, operation={"diagnosis_codes": ",G952,M500,"}),
    History("cord compression beside a thoracic fifth character", {("myelopathy", AT): NOT_SEEN}, operation={"diagnosis_codes": ",G952,M5144,"}),
    History("a foot drop is named, and decides nothing", {("foot_drop", AT): SEEN}, operation={"diagnosis_codes": ",M545,M213,"},
            row={"algorithm_step": "confirm"}),
    History("no diagnoses", {("spondylolisthesis", AT): CANNOT_BE_SEEN, ("stenosis_without_instability", AT): CANNOT_BE_SEEN},
            operation={"diagnosis_codes": None, "primary_diagnosis": None}),
    History("a primary diagnosis that the list lacks", {("deformity", AT): SEEN}, operation={"diagnosis_codes": None, "primary_diagnosis": "M419"}),
    History("one level, from behind", row={"levels": "one", "approach": "posterior", "decompression": False, "algorithm_step": "confirm"}),
    History("levels of another operation", operation={"procedure_codes": ",V385,V254,V552,"},
            row={"levels": "not_stated", "approach": "posterior", "decompression": True}),
    History("levels that contradict each other", operation={"procedure_codes": ",V385,V551,|,V394,V552,"}, row={"levels": "ambiguous"}),
    History("levels of another episode", operation={"procedure_codes": ",V385,|,Z665,V551,"}, row={"levels": "not_stated"}),
    History("levels that are not specified", operation={"procedure_codes": ",V385,V558,"}, row={"levels": "not_stated"}),
    History("more than two levels, after other codes", operation={"procedure_codes": ",V404,Y539,Z675,V553,"}, row={"levels": "three_or_more"}),
    History("anterior with posterior", operation={"procedure_codes": ",V385,V551,V333,"}, row={"approach": "combined"}),
    History("lateral with posterior", operation={"procedure_codes": ",V385,V551,V511,"}, row={"approach": "combined"}),
    History("a dominant procedure that the list lacks", operation={"procedure_codes": None, "dominant_procedure": "V385"},
            row={"levels": "not_stated", "approach": "posterior"}),
    History("care, and the clinic three months after it began", attendances=[*PROGRAMME, seen_by("2023-12-01", "108")],
            operation={"procedure_codes": ",V385,V552,"}, row={"algorithm_step": "reassess"}),
    History("a day less than three months", attendances=[*PROGRAMME, seen_by("2023-11-30", "108")],
            operation={"procedure_codes": ",V385,V552,"}, row={"algorithm_step": "conservative_care"}),
    History("the same after three months, and one level", attendances=[*PROGRAMME, seen_by("2023-12-01", "191")],
            row={"algorithm_step": "proceed"}),
    History("a clinic without care before it", attendances=[seen_by("2023-12-01", "108")], row={"algorithm_step": "confirm"}),
]  # fmt: skip
# Two operations of one person, and a person of another system with the same pseudonym.
TWO = [
    History("the first of two operations", states(PAIN, NOT_SEEN, NOT_SEEN, NOT_SEEN), operation={"person_id": "twice"}),
    History("the second has what lies between them", states(PAIN, SEEN, SEEN, SEEN), [seen_by("2024-08-01", "191")],
            operation={"person_id": "twice", "operation_date": date(2024, 10, 1), "admission_date": date(2024, 10, 1)}),
    History("another system's pseudonym", states(PAIN, *[CANNOT_BE_SEEN] * 3), operation={"source_system": "hes", "person_id": "twice"}),
]  # fmt: skip
EVERY = [*HISTORIES, *TWO]

_OPERATIONS = (
    "policy_id string, source_system string, dataset string, record_id string, person_id string, financial_year string, "
    "operation_date date, admission_date date, discharge_date date, primary_diagnosis string, dominant_procedure string, "
    "diagnosis_codes string, procedure_codes string"
)


def rows_of_histories() -> dict[str, list[dict[str, Any]]]:
    """The histories as rows of operations, spells, attendances and flags; the operations are spells too."""
    found: dict[str, list[dict[str, Any]]] = {"operations": [], "spells": [], "attendances": [], "flags": []}
    for number, history in enumerate(EVERY):
        key = {"source_system": "sus_plus", "dataset": "apc", "record_id": f"o{number}", "person_id": f"p{number}"}
        operation = key | {
            "policy_id": POLICY, "financial_year": "2024-25", "operation_date": DAY, "admission_date": DAY,
            "discharge_date": date(2025, 1, 20), "primary_diagnosis": "M545", "dominant_procedure": "V385",
            "diagnosis_codes": ",M545,", "procedure_codes": ",V385,V551,Z665,",
        } | history.operation  # fmt: skip
        found["operations"].append(operation)
        own = {name: operation[name] for name in ("source_system", "person_id")}
        found["spells"].append(
            {name: operation[name] for name in operation if name not in ("policy_id", "operation_date")}
        )
        for at, spell in enumerate(history.spells):
            found["spells"].append(
                own | spell | {"dataset": "apc", "record_id": f"s{number}.{at}", "financial_year": "2024-25"}
            )
        for at, attendance in enumerate(history.attendances):
            row = own | attendance | {"dataset": "op", "record_id": f"a{number}.{at}", "financial_year": "2024-25"}
            if row.pop("flagged", False):
                found["flags"].append(row | {"policy_id": "2S_lower_back_imaging", "outcome": "flagged"})
            found["attendances"].append(row)
    # Persons without an operation, and records without a person.
    for person in ("nobody", None):
        found["spells"].append(
            {"source_system": "sus_plus", "dataset": "apc", "record_id": f"x{person}", "person_id": person}
        )
        found["attendances"].append(
            seen_by("2024-05-01", "191")
            | {"source_system": "sus_plus", "dataset": "op", "record_id": f"x{person}", "person_id": person}
        )
    return found


@dataclass
class Found:
    steps: dict[tuple[str, str, str], tuple[str, list[str]]]
    days: dict[tuple[str, str, str], tuple[date | None, date | None]]
    rows: dict[str, dict[str, Any]]
    linked: set[tuple[str, str]]
    without_outpatients: dict[tuple[str, str, str], str]


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> Found:
    rows = rows_of_histories()

    def only(name: str, schema: Any) -> DataFrame:
        names = {item.name for item in schema}
        return small_frame(spark, [{n: v for n, v in row.items() if n in names} for row in rows[name]], schema)

    operations = fusions(small_frame(spark, rows["operations"], _OPERATIONS))
    linked = linked_spells(operations, only("spells", APC_SPELL.schema))
    attendances = only("attendances", OP_ATTENDANCE.schema)
    attended = linked_attendances(operations, attendances)
    flags = linked_flags(operations, only("flags", ACTIVITY_FLAG.schema))
    described = operations.withColumns({"levels": levels(), "approach": approach(), "decompression": decompression()})
    before = by_operation(operations, findings(linked, attended, flags))
    all_steps = steps_before(operations, before, COVERED, [POLICY, "2S_lower_back_imaging"]).unionByName(
        steps_at_operation(operations), allowMissingColumns=True
    )
    reached = step_reached(all_steps, described)
    described = described.join(reached, ["policy_id", "source_system", "dataset", "record_id"])
    nothing = by_operation(operations, findings(linked, attended.limit(0), flags.limit(0)))
    without = steps_before(operations, nothing, [item for item in COVERED if item.dataset == "apc"], [POLICY])
    key = ("record_id", "step_id", "window")
    collected = {tuple(row[name] for name in key): row for row in all_steps.collect()}
    return Found(
        steps={place: (row["state"], row["evidence"]) for place, row in collected.items()},
        days={place: (row["first_day"], row["last_day"]) for place, row in collected.items()},
        rows={row["record_id"]: row.asDict() for row in described.collect()},
        linked={
            (row["dataset"], row["record_id"])
            for row in linked.select("dataset", "record_id").union(attended.select("dataset", "record_id")).collect()
        },
        without_outpatients={tuple(row[name] for name in key): row["state"] for row in without.collect()},
    )


@pytest.mark.parametrize("number", range(len(EVERY)), ids=[history.rule for history in EVERY])
def test_a_history_shows_what_was_worked_out_by_hand(number: int, found: Found) -> None:
    history, record = EVERY[number], f"o{number}"
    assert {place: found.steps[(record, *place)][0] for place in history.expected} == history.expected
    assert {name: found.rows[record][name] for name in history.row} == history.row


def test_every_operation_has_one_row_for_each_step_and_window(found: Found) -> None:
    wanted = {(step["id"], window) for step in steps() for window in windows_of(step)}
    assert len(found.rows) == len(EVERY) >= 35
    assert set(found.steps) == {(f"o{number}", *place) for number in range(len(EVERY)) for place in wanted}
    assert all((state == SEEN) == bool(evidence) for state, evidence in found.steps.values())


def test_evidence_names_the_codes(found: Found) -> None:
    by_rule = {history.rule: f"o{number}" for number, history in enumerate(EVERY)}
    assert found.steps[by_rule["42 days apart are six weeks"], PHYSIO, THREE][1] == ["650"]
    assert found.steps[by_rule["stenosis with instability"], "stenosis_with_instability", AT][1] == ["M480", "M532"]
    assert found.steps[by_rule["imaging, then an injection"], "imaging_then_injection", TWELVE][1] == ["A577", "U055"]


def test_days_are_the_first_and_last_in_the_window(found: Found) -> None:
    by_rule = {history.rule: f"o{number}" for number, history in enumerate(EVERY)}
    begun_before = by_rule["a programme begun before the window"]
    assert found.days[begun_before, PHYSIO, SIX] == (date(2024, 3, 14), date(2024, 5, 1))
    assert found.days[begun_before, PHYSIO, THREE] == (None, None)
    assert found.days[by_rule["a day less than three months"], "spinal_surgery", TWELVE] == (date(2023, 11, 30),) * 2


def test_what_is_missing_to_decide_is_named(found: Found) -> None:
    by_rule = {history.rule: f"o{number}" for number, history in enumerate(EVERY)}
    plain = found.rows[by_rule["one level, from behind"]]["missing_to_decide"]
    assert plain == ["community_physiotherapy", "exercise", "medicines", "radiographic_instability", "talking_therapy"]
    unknown = found.rows[by_rule["no diagnoses"]]["missing_to_decide"]
    assert {"spondylolisthesis", "deformity", *plain} <= set(unknown)


def test_without_outpatient_data_not_seen_becomes_cannot_be_seen(found: Found) -> None:
    """And never "no". What admitted care shows stays seen."""
    in_outpatients = {step["id"] for step in steps(looked_for_in="outpatients")} | {
        "lumbar_imaging_flagged",
        "imaging_then_injection",
    }
    checked = 0
    for place, state in found.without_outpatients.items():
        before = found.steps[place][0]
        if place[1] in in_outpatients:
            assert state in (SEEN, CANNOT_BE_SEEN), place
            checked += before == NOT_SEEN
        else:
            assert state == before, place
    assert checked > 100


def test_links_are_those_of_another_engine(found: Found) -> None:
    rows = rows_of_histories()
    looks = [
        look for step in steps(looked_for_in="outpatients") for look in step["look_in"] if look["in"] == "outpatients"
    ]
    functions = {code for look in looks for code in look.get("treatment_functions", ())}
    prefixes = {code for look in looks for code in look.get("procedures", ())}
    with duckdb.connect() as reader:
        reader.execute("CREATE TABLE operated (system TEXT, person TEXT)")
        reader.execute(
            "CREATE TABLE record (dataset TEXT, id TEXT, system TEXT, person TEXT, status TEXT, function TEXT, codes TEXT)"
        )
        reader.execute("CREATE TABLE wanted (prefix TEXT)")
        reader.executemany(
            "INSERT INTO operated VALUES (?, ?)",
            [(row["source_system"], row["person_id"]) for row in rows["operations"]],
        )
        reader.executemany("INSERT INTO wanted VALUES (?)", [(prefix,) for prefix in prefixes])
        reader.executemany(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (row["dataset"], row["record_id"], row["source_system"], row["person_id"], row.get("attendance_status"),
                 row.get("treatment_function"), row.get("procedure_codes"))
                for row in (*rows["spells"], *rows["attendances"])
            ],
        )  # fmt: skip
        named = ", ".join(f"'{code}'" for code in sorted(functions))
        linked = reader.execute(
            "SELECT dataset, id FROM record WHERE (system, person) IN (SELECT system, person FROM operated WHERE person IS NOT NULL) "
            "AND (dataset = 'apc' OR (status IN ('5', '6') "
            f"AND (function IN ({named}) OR EXISTS (SELECT 1 FROM wanted, unnest(string_split(codes, ',')) AS code(code) "
            "WHERE starts_with(code.code, wanted.prefix)))))"
        ).fetchall()
    assert found.linked == set(linked)
    assert ("op", "xnobody") not in found.linked and ("apc", "xNone") not in found.linked


def rows_of_a_lake() -> dict[Table, list[dict[str, Any]]]:
    """The histories as rows of silver and gold, with records at the ends of what the data cover."""
    rows = rows_of_histories()
    for row in (*rows["spells"], *rows["attendances"]):
        day = row["discharge_date"] if "discharge_date" in row else row.get("activity_date")
        row |= {"activity_date": day, "financial_year": label(start_of_day(day)) if day else "2024-25"}
    dated = {row["record_id"]: row for row in rows["spells"]}
    flags = []
    for row in rows["operations"]:
        spell = dated[row["record_id"]]
        if row["operation_date"] != row["admission_date"]:
            spell["procedure_date"] = row["operation_date"]
        flags.append(
            spell | {"policy_id": POLICY, "reading": "as_published", "revision": "2022-08", "outcome": "flagged"}
        )
    scans = {row["record_id"]: row for row in rows["attendances"]}
    for row in rows["flags"]:
        flags.append(scans[row["record_id"]] | row | {"reading": "as_intended", "financial_year": "2024-25"})
    # Flagged under another reading than the default: that does not count.
    other = next(row for row in rows["attendances"] if row["procedure_codes"] == ",U212,Z665,")
    flags.append(other | {"policy_id": "2S_lower_back_imaging", "reading": "as_published", "outcome": "flagged"})
    for item in COVERED:
        filler = {"source_system": item.source_system, "dataset": item.dataset}
        for year in range(start_of_day(item.first), start_of_day(item.last) + 1):
            day = min(date(year + 1, 3, 31), item.last)
            for at, on in enumerate({max(date(year, 4, 1), item.first), day}):
                row = filler | {"record_id": f"f{year}.{at}", "activity_date": on, "financial_year": label(year)}
                rows["spells" if item.dataset == "apc" else "attendances"].append(row)
    policies = [
        {"policy_id": POLICY, "reading": "as_published", "is_default_reading": True, "dataset": "apc"},
        {"policy_id": "2S_lower_back_imaging", "reading": "as_intended", "is_default_reading": True, "dataset": "op"},
    ]

    def of_table(table: Table, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: row.get(name) for name in table.names()} for row in found]

    return {
        APC_SPELL: of_table(APC_SPELL, rows["spells"]), OP_ATTENDANCE: of_table(OP_ATTENDANCE, rows["attendances"]),
        ACTIVITY_FLAG: of_table(ACTIVITY_FLAG, flags), POLICY_TABLE: of_table(POLICY_TABLE, policies),
    }  # fmt: skip


def start_of_day(day: date) -> int:
    """The calendar year in which the financial year of a day starts."""
    return day.year - (day.month < 4)


def test_the_stage_writes_the_same_from_silver_and_gold(
    spark: SparkSession, lake_at: Callable[[Path], Lake], tmp_path: Path
) -> None:
    lake = lake_at(tmp_path / "lake")
    for table, rows in rows_of_a_lake().items():
        lake.replace(table, small_frame(spark, rows, table.schema), {}, stage="test")
    summary = MonitorSummary()
    monitor = Monitor(RunContext(RunConfig(lake=lake.location, sources=()), lake, "test-run"))
    monitor._approvals(summary)  # writes the operations
    monitor._pathways(summary)
    gold = tmp_path / "lake/gold"
    states = delta_rows(gold / "pathway_step", 'record_id, step_id, "window", state')
    wide = delta_rows(
        gold / "pathway",
        "record_id, {'levels': levels, 'approach': approach, 'decompression': decompression, "
        "'algorithm_step': algorithm_step}",
    )
    found, described = {tuple(row[:3]): row[3] for row in states}, dict(wide)
    for number, history in enumerate(EVERY):
        record = f"o{number}"
        assert {place: found[(record, *place)] for place in history.expected} == history.expected, history.rule
        assert {name: described[record][name] for name in history.row} == history.row, history.rule
    assert sum(summary.pathways.values()) == len(EVERY) == len(described)
    without_person, transfers = summary.warnings
    assert without_person == f"1 of {len(EVERY)} fusions have no person: what came before and after them cannot be seen"
    assert transfers.startswith("continuous inpatient spells: no spell has a value in admission_source or")


def test_the_outpatient_table_is_not_shuffled(spark: SparkSession, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_of_histories()
    operations = small_frame(spark, rows["operations"], _OPERATIONS)
    attendances = [{name: row.get(name) for name in OP_ATTENDANCE.names()} for row in rows["attendances"]]
    linked_attendances(operations, small_frame(spark, attendances, OP_ATTENDANCE.schema)).explain()
    above_the_table, broadcast, _ = capsys.readouterr().out.partition("BroadcastExchange")
    assert broadcast and "BroadcastHashJoin" in above_the_table and "LeftSemi" in above_the_table
    assert "SortMergeJoin" not in above_the_table and "Exchange hashpartitioning" not in above_the_table


# Without Spark: definitions, patterns and days


class Frame:
    """Remembers what is asked of it; serverless compute refuses to keep a frame."""

    def __init__(self, serverless: bool) -> None:
        self.serverless, self.asked = serverless, [""]

    def persist(self) -> None:
        self.asked.append("persist")
        if self.serverless:
            raise PySparkException("PERSIST TABLE is not supported on serverless compute")

    def unpersist(self) -> None:
        self.asked.append("unpersist")


@pytest.mark.parametrize(("serverless", "asked"), [(False, ["persist", "unpersist"]), (True, ["persist"])])
def test_a_frame_is_kept_where_spark_can_keep_it(serverless: bool, asked: list[str]) -> None:
    frame = Frame(serverless)
    with kept(frame) as given:  # type: ignore[arg-type]
        assert given is frame and frame.asked[1:] == ["persist"]  # type: ignore[comparison-overlap]
    assert frame.asked[1:] == asked
    broken = Frame(serverless)
    with pytest.raises(ZeroDivisionError), kept(broken):  # type: ignore[arg-type]
        raise ZeroDivisionError
    assert broken.asked[1:] == asked, "nothing is left behind by a failure"


def looks_of(step_id: str) -> list[dict[str, Any]]:
    (step,) = (step for step in steps() if step["id"] == step_id)
    return [look for look in step["look_in"] if look["in"] == "admitted"]


# step, code list, codes found
FOUND: list[tuple[str, str, list[str]]] = [
    ("facet_injection", ",V544,Z675,", ["V544"]),
    ("facet_injection", ",V544,Z673,Z675,", ["V544"]),  # neck and back
    ("facet_injection", ",Z675,V544,", []),
    ("facet_injection", ",V544,A521,Z675,", []),  # the site of another operation
    ("facet_injection", ",V544,|,Z675,", []),  # of another episode
    ("facet_injection", ",W903,Z843,", []),
    ("facet_injection", ",W903,Y534,V551,Z676,W903,Z843,", ["W903"]),
    ("facet_denervation", ",V485,Z673,", ["V485"]),  # lumbar by itself
    ("facet_denervation", ",V489,Z675,V488,Z991,", ["V489"]),
    ("facet_denervation", ",V487D,Z673,", []),
    ("facet_denervation", ",V481,", []),
    ("epidural_injection", ",A521,A523,A529,", ["A521", "A529"]),
    ("peripheral_nerve", ",A604,Z073,A735,Z094,", ["A604"]),
    ("lumbar_imaging", ",U133,Y981,O162,U055,", ["U133", "U055"]),
    ("deformity", ",M4126,M439,M430,", ["M4126", "M439"]),
    ("radiculopathy", ",M5116,G551D,M545,", ["M5116", "G551D"]),
    ("neurogenic_bladder", ",N311,N312,N319,", ["N312", "N319"]),
]


@pytest.mark.parametrize(("step", "listed", "codes"), FOUND)
def test_codes_are_found_with_their_sites(step: str, listed: str, codes: list[str]) -> None:
    matches = itertools.chain.from_iterable(re.findall(pattern(look), listed) for look in looks_of(step))
    assert sorted(matches, key=codes.index if codes else None) == codes


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        (",V385,Y032,V551,Z665,", ["V551"]),
        (",V385,V551,V552,", ["V551"]),  # the first
        (",V385,V404,V553,", ["V553"]),  # of the code that it follows
        (",V551,V385,", []),
        (",V385,A521,V551,", []),
        (",V385,T123,V552,V404,V553,", ["V552", "V553"]),
    ],
)
def test_levels_belong_to_the_fusion_before_them(listed: str, found: list[str]) -> None:
    assert re.findall(levels_pattern(), listed) == found


def all_code_lists(value: Any, key: str = "") -> list[tuple[str, dict[str, str]]]:
    """(system, code → title) of every list of clinical codes in the definitions."""
    system = {"diagnoses": "icd10"}.get(key, "opcs4")
    if key in ("procedures", "diagnoses", "posterior", "anterior", "lateral", "combined") and "procedures" not in value:
        return [(system, value)]
    if isinstance(value, dict):
        return [item for name, part in value.items() for item in all_code_lists(part, name)]
    return [item for part in value for item in all_code_lists(part)] if isinstance(value, list) else []


def test_codes_are_in_the_code_books_with_their_official_titles() -> None:
    books = code_books()
    lists = all_code_lists(definitions())
    assert sum(len(codes) for _, codes in lists) > 150
    for system, codes in lists:
        assert codes == {code: books[system].codes[code].title for code in codes}


def plain(text: str) -> str:
    """Small letters and digits only, without the numbers of references at the end of a line or sentence."""
    cited = re.sub(r"(?<=[\w.)])\s\d(?:, \d)*(?=\.?\s*(?:\n|$)|\s[A-Z])", "", text)
    return re.sub(r"[^a-z0-9]+", " ", cited.lower()).strip()


def test_source_texts_are_the_words_of_the_article() -> None:
    article = plain((FIXTURES / "article_on_fusion.txt").read_text(encoding="utf-8"))
    items, after = definitions(), definitions_after()
    every = (*items["steps"], *items["algorithm"], *after["steps"], *after["not_visible"])
    quoted = [item for item in every if "source_text" in item and "source" not in item]
    assert len(quoted) > 35
    for item in quoted:
        assert f" {plain(item['source_text'])} " in f" {article} ", item["id"]
    assert plain(items["article"]["title"]) in article
    assert {item["id"] for item in items["steps"] if "source" in item} == {"lumbar_imaging_flagged", "mcas"}
    without = {item["id"] for item in items["steps"] if "source_text" not in item}
    assert {"rheumatology", "facet_injection", "imaging_then_injection"} <= without
    assert {item["id"] for item in after["steps"] if "source_text" not in item} == {
        "emergency_readmission", "possible_staged", "death_in_hospital",
    }  # fmt: skip
    assert not without & {name for item in items["algorithm"] for name in item.get("indications", ())}


def test_definitions_agree_with_each_other() -> None:
    items = definitions()
    named = {step["id"] for step in items["steps"]}
    assert len(named) == len(items["steps"])
    for step in items["steps"]:
        assert step["coding"] == "coded" or step["because"], step["id"]
        assert set(step.get("windows", ())) <= {*items["windows"], AT}
        assert ("look_in" in step) + ("chain" in step) + ("both" in step) + ("flagged_by" in step) == (
            step["coding"] != "not_visible"
        )
        for look in step.get("look_in", ()):
            assert set(look.get("treatment_functions", ())) <= set(items["treatment_functions"]["codes"])
    for item in items["algorithm"]:
        assert {*item["needs"], *item.get("any_of", ()), *item.get("indications", ())} <= named
    assert set(items["levels"]["number"]) <= set(items["levels"]["procedures"])
    # The imaging is that of the policy that flags it.
    (policy,) = (policy for policy in load_policies() if policy.id == "2S_lower_back_imaging")
    codes = {code for look in looks_of("lumbar_imaging") for code in look["procedures"]}
    assert all(code in str(policy.revisions[-1]) for code in codes)


def months_of(system: str, dataset: str, first: date, number: int, records: int, last_day: int = 28) -> list[Month]:
    """``number`` months from the one of ``first`` on, each with its last record on a day."""
    found = []
    for place in range(number):
        year, month = divmod(first.month - 1 + place, 12)
        start = date(first.year + year, month + 1, 1)
        found.append(Month(system, dataset, start, records, start.replace(day=last_day)))
    return found


def test_months_that_follow_each_other_are_one_stretch() -> None:
    op = months_of("sus_plus", "op", date(2021, 6, 1), 10, 900) + months_of(
        "sus_plus", "op", date(2022, 5, 1), 6, 900, 20
    )
    apc = months_of("sus_plus", "apc", date(2022, 4, 1), 11, 20, 27)
    assert stretches([*reversed(op), *apc]) == [
        Covered("sus_plus", "apc", date(2022, 4, 1), date(2023, 2, 27)),
        # No record in April 2022: what is looked for then cannot be seen.
        Covered("sus_plus", "op", date(2021, 6, 1), date(2022, 3, 28)),
        Covered("sus_plus", "op", date(2022, 5, 1), date(2022, 10, 20)),
    ]


def test_in_a_small_data_set_an_empty_month_is_chance_and_an_empty_year_a_gap() -> None:
    few = [*months_of("hes", "op", date(2021, 6, 1), 2, 3), *months_of("hes", "op", date(2023, 2, 1), 1, 19)]
    later = months_of("hes", "op", date(2024, 4, 1), 1, 3)
    assert stretches([*later, *few]) == [
        Covered("hes", "op", date(2021, 6, 1), date(2023, 2, 28)),
        Covered("hes", "op", date(2024, 4, 1), date(2024, 4, 28)),
    ]
