"""The files of the made-up histories say what the histories say, in both systems."""

import csv
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from ebi_spark import synthetic
from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.load import load_config
from ebi_spark.lake.storage import Lake
from ebi_spark.pathway.definitions import definitions
from ebi_spark.policies.code_books import code_books
from ebi_spark.stages.flag import Flag
from ebi_spark.stages.ingest import Ingest
from ebi_spark.stages.monitor import Monitor
from ebi_spark.stages.run_context import RunContext
from ebi_spark.synthetic.histories import HISTORIES, Stay, Visit, operation_day, write_histories
from ebi_spark.tables.monitoring_pathway import PATHWAY, PATHWAY_STEP

STARTS = (2021, 2022, 2023)
SUS_PLUS = {
    "apcs": """APCS_Ident Der_Pseudo_NHS_Number Sex Der_Provider_Code Der_Commissioner_Code GP_Practice_Code
        Der_Postcode_LSOA_2011_Code Age_At_Start_of_Spell_SUS Der_Age_at_CDS_Activity_Date Administrative_Category
        Admission_Method Source_of_Admission Discharge_Method Discharge_Destination Hospital_Spell_No
        Patient_Classification Admission_Date Discharge_Date Der_Spell_LoS Der_Admit_Treatment_Function_Code
        Der_Diagnosis_All Der_Procedure_All Der_Financial_Year Der_Activity_Month""",
    "apcs_der": "APCS_Ident Spell_Dominant_Procedure Spell_Primary_Diagnosis Spell_Secondary_Diagnosis",
    "opa": """OPA_Ident Der_Pseudo_NHS_Number Sex Der_Provider_Code Der_Commissioner_Code GP_Practice_Code
        Der_Postcode_LSOA_2011_Code Age_at_Start_of_Episode_SUS Der_Age_at_CDS_Activity_Date Administrative_Category
        Appointment_Date Attendance_Status First_Attendance Treatment_Function_Code Referral_Source Der_Diagnosis_All
        Der_Procedure_All Der_Financial_Year Der_Activity_Month""",
}
_HES = """SUSRECID PSEUDO_HESID FYEAR SEX ADMINCAT PROCODE3 PROCODET CCG_RESPONSIBILITY GPPRAC LSOA11 TRETSPEF DIAG_4_CONCAT
    OPERTN_4_CONCAT DIAG_4_01 DIAG_4_02 DIAG_4_03 DIAG_4_04 DIAG_4_05 OPERTN_4_01 OPERTN_4_02 OPERTN_4_03 OPERTN_4_04 OPERTN_4_05"""
HES = {
    "apc": f"""EPIKEY STARTAGE STARTAGE_CALC ADMIDATE ADMIMETH ADMISORC CLASSPAT DISDATE DISMETH DISDEST EPIORDER EPISTART
        EPIEND EPISTAT EPITYPE SPELBGIN SPELEND SPELDUR PROVSPNOPS FCE FAE FDE {_HES}""",
    "op": f"ATTENDKEY APPTAGE APPTAGE_CALC APPTDATE ATTENDED FIRSTATT REFSOURC {_HES}",
}


def written(folder: Path, system: str, starts: tuple[int, ...] = STARTS) -> dict[str, list[dict[str, str]]]:
    """The rows of each role's file, after the numbers of rows were compared."""
    columns = {role: names.split() for role, names in (SUS_PLUS if system == "sus_plus" else HES).items()}
    for role in columns:
        (folder / role).mkdir()
    counts = write_histories(folder, system, starts, columns)
    found = {}
    for role in columns:
        with (folder / role / f"{role}_histories.csv").open(encoding="utf-8") as file:
            found[role] = list(csv.DictReader(file))
    assert counts == {role: len(rows) for role, rows in found.items()}
    return found


def expected(kind: type) -> list[tuple[Any, date, date]]:
    """Every record of a kind, with its days, in order."""
    found = []
    for history in HISTORIES:
        day = operation_day(history, STARTS)
        for item in (*history.stays, *history.visits):
            if isinstance(item, kind):
                first, last = (item.start, item.end) if isinstance(item, Stay) else (item.on, item.on)
                found.append((item, day + timedelta(days=first), day + timedelta(days=last)))
    return found


def operation_keys() -> dict[str, str]:
    """The key of each case's operation in SUS+: records are numbered in the order of the histories, the operation first."""
    found, number = {}, 800_000_000_001
    for history in HISTORIES:
        found[history.case] = str(number)
        number += len(history.stays) + len(history.visits)
    return found


def test_sus_plus_has_every_spell_and_appointment_in_its_years(tmp_path: Path) -> None:
    rows = written(tmp_path, "sus_plus")
    stays = [(item, first, last) for item, first, last in expected(Stay) if last < date(2024, 4, 1)]
    for row, der, (stay, first, last) in zip(rows["apcs"], rows["apcs_der"], stays, strict=True):
        assert (row["Admission_Date"], row["Discharge_Date"]) == (str(first), str(last))
        assert (row["Admission_Method"], row["Source_of_Admission"]) == (stay.method, stay.source)
        assert (row["Discharge_Method"], row["Discharge_Destination"]) == (stay.ended, stay.destination)
        assert row["Der_Diagnosis_All"] == "||" + ",".join(stay.diagnoses)
        assert der["APCS_Ident"] == row["APCS_Ident"]
        assert (der["Spell_Dominant_Procedure"] or None) == next(iter(stay.procedures), None)
        assert der["Spell_Primary_Diagnosis"] == stay.diagnoses[0]
        assert row["Der_Financial_Year"] == ("2021-22" if last < date(2022, 4, 1) else
                                             "2022-23" if last < date(2023, 4, 1) else "2023-24")  # fmt: skip
    for row, (visit, first, _) in zip(rows["opa"], expected(Visit), strict=True):
        assert (row["Appointment_Date"], row["Treatment_Function_Code"]) == (str(first), visit.function)
        assert row["Attendance_Status"] == ("5" if visit.attended else "3")
    keys = [row["APCS_Ident"] for row in rows["apcs"]] + [row["OPA_Ident"] for row in rows["opa"]]
    assert len(set(keys)) == len(keys)
    people = {row["Der_Pseudo_NHS_Number"] for row in rows["apcs"]}
    assert len(people) == len(HISTORIES) and "" in people  # one has no person


def test_operations_are_spread_over_the_years() -> None:
    days = [operation_day(history, STARTS) for history in HISTORIES]
    assert max(Counter((day.year, day.month) for day in days).values()) <= 5
    years = Counter(day.year - (day.month < 4) for day in days)
    assert set(years) == set(STARTS) and min(years.values()) >= 10
    for history, day in zip(HISTORIES, days, strict=True):
        ends = [end for item in history.stays for end in (item.start, item.end)] + [item.on for item in history.visits]
        assert day + timedelta(days=min(ends)) >= date(2021, 4, 1), history.case
        assert day + timedelta(days=max(ends)) < date(2024, 4, 1), history.case
    # Days that are calendar months before an operation need an operation on that day of the month.
    assert [day for history, day in zip(HISTORIES, days, strict=True) if history.september] == [date(2022, 9, 15)] * 2


def test_both_systems_have_the_same_records(tmp_path: Path) -> None:
    for name in ("sus", "hes"):
        (tmp_path / name).mkdir()
    sus, hes = written(tmp_path / "sus", "sus_plus"), written(tmp_path / "hes", "hes")
    for ours, theirs, pairs in (
        (sus["apcs"], hes["apc"], {"APCS_Ident": "SUSRECID", "Admission_Date": "ADMIDATE", "Discharge_Date": "DISDATE",
                                   "Admission_Method": "ADMIMETH", "Source_of_Admission": "ADMISORC",
                                   "Discharge_Destination": "DISDEST", "Hospital_Spell_No": "PROVSPNOPS",
                                   "Patient_Classification": "CLASSPAT", "Der_Provider_Code": "PROCODE3"}),
        (sus["opa"], hes["op"], {"OPA_Ident": "SUSRECID", "Appointment_Date": "APPTDATE", "First_Attendance": "FIRSTATT",
                                 "Attendance_Status": "ATTENDED", "Treatment_Function_Code": "TRETSPEF"}),
    ):  # fmt: skip
        for one, other in zip(ours, theirs, strict=True):
            assert {name: one[name] for name in pairs} == {name: other[column] for name, column in pairs.items()}
            listed = [other[f"DIAG_4_{n:02d}"] for n in range(1, 6) if other[f"DIAG_4_{n:02d}"]]
            assert one["Der_Diagnosis_All"].strip("|").split(",") == (listed or [""])
    keys = {row.get("EPIKEY") or row["ATTENDKEY"] for row in hes["apc"] + hes["op"]}
    assert len(keys) == len(hes["apc"]) + len(hes["op"])
    assert {len(key) for key in keys} == {20}  # keys of these years


def test_years_that_are_not_made_are_left_out(tmp_path: Path) -> None:
    rows = written(tmp_path, "sus_plus", (2022,))
    assert {row["Der_Financial_Year"] for row in [*rows["apcs"], *rows["opa"]]} == {"2022-23"}


def test_a_column_that_the_layout_does_not_have_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "apcs").mkdir()
    with pytest.raises((ValueError, KeyError)):
        write_histories(tmp_path, "sus_plus", STARTS, {"apcs": ["APCS_Ident"]})


def test_codes_are_in_the_code_books() -> None:
    books = code_books()
    for history in HISTORIES:
        for item in (*history.stays, *history.visits):
            assert set(item.diagnoses) <= set(books["icd10"].codes), history.case
            assert set(item.procedures) <= set(books["opcs4"].codes), history.case
    assert len({history.case for history in HISTORIES}) == len(HISTORIES)


def test_every_step_that_data_can_show_is_in_a_history() -> None:
    seen = {step for history in HISTORIES for step, _ in history.before}
    assert seen == {step["id"] for step in definitions()["steps"] if step["coding"] != "not_visible"}


def test_a_run_finds_what_is_true_of_each_history(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Monitor, "_changes", lambda *_: None)  # what changed between years is no part of a history
    made = tmp_path / "made"
    synthetic.generate(
        spark, made, years=["2021-22", "2022-23", "2023-24"], spells=150, attendances=150, seed=5, system="sus_plus",
        histories=True,
    )  # fmt: skip
    run = made / "run.yml"
    run.write_text(run.read_text() + "policies: [2Y_back_pain_fusion, 2S_lower_back_imaging]\n", encoding="utf-8")
    lake, config = Lake(spark, LakeLocation(folder=made / "lake"), "test-run"), load_config(run)
    for stage in (Ingest, Flag, Monitor):
        stage(RunContext(config, lake, lake.run_id)).run()  # type: ignore[attr-defined]
    cases = {key: case for case, key in operation_keys().items()}
    pathways = {
        cases[row["record_id"]]: row for row in lake.small_rows(PATHWAY, PATHWAY.names()) if row["record_id"] in cases
    }
    steps: dict[str, dict[str, set[tuple[str, str]]]] = {case: {} for case in cases.values()}
    for row in lake.small_rows(PATHWAY_STEP, PATHWAY_STEP.names()):
        if row["record_id"] in cases and row["policy_id"] == "2Y_back_pain_fusion":
            steps[cases[row["record_id"]]].setdefault(row["state"], set()).add((row["step_id"], row["window"]))
    assert set(pathways) == {history.case for history in HISTORIES}
    for history in HISTORIES:
        found = pathways[history.case]
        usual = {"levels": "two", "approach": "posterior", "decompression": False}
        for name, value in {**usual, **history.described}.items():
            assert found[name] == value, (history.case, name)
        for name in ("readmitted_after", "further_fusion_after", "revision_after", "removal_after", "death_after"):
            assert found[name] == history.outcomes.get(name), (history.case, name)
        assert steps[history.case].get("seen", set()) == history.steps | history.before, history.case
