"""A whole run with a population of a few areas and the practice file of ODS: what it warns of, writes and publishes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calling import call, duckdb_on_delta

from jobs import run
from tests.test_geography import ods

AREAS = ("15N", "00L", "02P", "02Q", "52R", "03W")
SPELLS = {1: ("L83001", "15N00", "E01000001"), 2: ("W93036", "7A100", "W01000001"), 3: ("Y00001", "13Q00", "E01000001")}


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, empty_lake: Callable[[Path], Path], one_session: None
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("few-areas")
    empty_lake(folder / "lake")
    apcs = [
        "APCS_Ident,Der_Pseudo_NHS_Number,Sex,Der_Provider_Code,Der_Commissioner_Code,GP_Practice_Code,"
        "Der_Postcode_LSOA_2011_Code,Administrative_Category,Der_Diagnosis_All,Der_Procedure_All,Der_Financial_Year,"
        "Age_At_Start_of_Spell_SUS,Der_Age_at_CDS_Activity_Date,Admission_Method,Admission_Date,Discharge_Date"
    ]
    for key, (practice, commissioner, lsoa) in SPELLS.items():
        apcs.append(
            f'{key},P{key},1,RH800,{commissioner},{practice},{lsoa},01,"||M545 ,I10X ","||V382 ,Z675 ",2022-23,50,50,11,'
            "2022-06-01,2022-06-03"
        )
    der = ["APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis", *(f"{key},V382,M545" for key in SPELLS)]
    practices = [ods("L83001", "15N", "20130401"), ods("W93036", "7A1", "20091001"), ods("Y00001", "13Q", "20130401")]
    bands = [f"{5 * band},{'' if band == 18 else 5 * band + 4}" for band in range(19)]
    people = ["area_type,area_code,sex,age_from,age_to,people,vintage"]
    people += [f"sub_icb,{area},{sex},{band},4000,2022-10-01" for area in AREAS for sex in "12" for band in bands]
    config = [
        "lake: ./lake",
        "sources: {admitted: {system: sus_plus, tables: {apcs: apcs.csv, apcs_der: der.csv}}}",
        "geography: {practices: epraccur.csv}",
        "population: [{path: six.csv}]",
        "policies: [2Y_back_pain_fusion]",
    ]
    files = {"apcs.csv": apcs, "der.csv": der, "epraccur.csv": practices, "six.csv": people, "run.yml": config}
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder, call(run.main, folder)


def rows(folder: Path, table: str, columns: str, where: str) -> list[Any]:
    with duckdb_on_delta() as connection:
        query = f"SELECT DISTINCT {columns} FROM delta_scan('{folder}/lake/{table}') WHERE {where} ORDER BY ALL"
        return connection.execute(query).fetchall()


def test_england_has_its_records_and_no_rate(done: tuple[Path, dict[str, Any]]) -> None:
    folder, answer = done
    assert (answer["exit"], answer["outcome"]) == (0, "done"), answer
    for table in ("gold/activity_rate", "published/rate"):
        england = rows(
            folder, table, "activity, status, notes, population, crude_rate, standardised_rate, upper",
            "area_type = 'england' AND policy_id = '2Y_back_pain_fusion' AND reading = 'as_published' AND period_years = 1",
        )  # fmt: skip
        notes = ["partial_population", "back_cast", "partial_year"]
        assert england == [(2, "no_population", notes, None, None, None, None)], table
        assert rows(folder, table, "area_code", "area_type IN ('england', 'region') AND crude_rate IS NOT NULL") == []
    with_rate = rows(folder, "gold/activity_rate", "area_type, area_code", "crude_rate IS NOT NULL")
    assert {code for kind, code in with_rate if kind == "sub_icb"} == {*AREAS}
    assert {code for kind, code in with_rate if kind == "icb"} == {"QJK", "QT1"}
    nothing = ("not_calculated", None, None)
    assert {*rows(folder, "gold/rate_variation", "status, p50, opportunity", "true")} == {nothing}
    # Of one year, no window of three is published.
    assert {*rows(folder, "published/variation", "status, p50, opportunity", "true")} <= {nothing}
    report = (folder / "lake/report.html").read_text(encoding="utf-8")
    assert "The population file lacks some of this area&#39;s people." in report


def test_practices_outside_england_and_of_nhs_england(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    where = "policy_id = '2Y_back_pain_fusion' AND reading = 'as_published'"
    assert rows(folder, "gold/activity_flag", "record_id, area_code, area_basis", where) == [
        ("1", "15N", "gp_practice"),
        ("2", None, "outside_england"),
        ("3", "13Q", "gp_practice"),
    ]
    listed = rows(folder, "gold/unmapped_area", "code_kind, code, reason, records", "true")
    assert listed == [("gp_practice", "13Q", "unmapped", 1)]
