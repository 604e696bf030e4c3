"""Dates that cannot be true, HES keys that repeat from year to year, and default codes: rows worked by hand."""

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from calling import ingest, rows_of
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ebi_spark.config import default_codes
from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.load import load_config
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.errors import DataError, InputError
from ebi_spark.flags.explain import possible_keys, with_key
from ebi_spark.geography.record_areas import Lookups, with_area
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.compile import compile_test
from ebi_spark.policies.model import HasCode
from ebi_spark.rates.record_quality import record_quality
from ebi_spark.records.checksums import content
from ebi_spark.records.code_lists import as_codes, bare_codes
from ebi_spark.runs.history import new_record
from ebi_spark.runs.stage_inputs import recorded_inputs
from ebi_spark.small_frames import small_frame
from ebi_spark.sources.hes_keys import key_with_year
from ebi_spark.stages.replay import _config as recorded_settings
from ebi_spark.tables.silver import APC_SPELL, INGEST_AUDIT, OP_ATTENDANCE, QUARANTINE

RUN_DAY = date(2023, 1, 31)


def write(path: Path, rows: list[dict[str, Any]], **given: Any) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, **given)
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def spell(key: int, discharged: str, **changes: str) -> dict[str, Any]:
    row = {
        "APCS_Ident": key, "Discharge_Date": discharged, "Der_Financial_Year": "2022/23", "Admission_Date": "2022-06-01",
        "Der_Diagnosis_All": "||M545", "Der_Procedure_All": "||V382", "Admission_Method": "11",
        "Administrative_Category": "01", "Age_At_Start_of_Spell_SUS": "50",
    }  # fmt: skip
    return row | changes


def seen(key: int, day: str, year: str = "2022/23", **changes: str) -> dict[str, Any]:
    row = {
        "OPA_Ident": key, "Appointment_Date": day, "Der_Financial_Year": year, "Der_Diagnosis_All": "",
        "Der_Procedure_All": "||U054", "Administrative_Category": "01", "Age_at_Start_of_Episode_SUS": "50",
    }  # fmt: skip
    return row | changes


def sus(folder: Path, spells: list[dict[str, Any]], attendances: list[dict[str, Any]]) -> RunConfig:
    """A configuration over the rows, at a day of its own."""
    tables = {}
    if spells:
        apcs = write(folder / "apcs.csv", spells)
        der = write(folder / "der.csv", [
            {"APCS_Ident": row["APCS_Ident"], "Spell_Dominant_Procedure": "V382", "Spell_Primary_Diagnosis": "M545"}
            for row in spells
        ])  # fmt: skip
        tables |= {"apcs": TableSource("apcs", (apcs,)), "apcs_der": TableSource("apcs_der", (der,))}
    if attendances:
        tables["opa"] = TableSource("opa", (write(folder / "opa.csv", attendances),))
    return RunConfig(
        lake=LakeLocation(folder=folder / "lake"),
        sources=(Source("sus", "sus_plus", tables),),
        max_quarantine_share=1.0,
        day=RUN_DAY,
    )


def taken_in(lake: Lake, config: RunConfig) -> dict[str, dict[str, Any]]:
    """What a table of the lake says of each record, by its key."""
    ingest(lake, config)
    tables = {"spells": APC_SPELL, "attendances": OP_ATTENDANCE, "quarantine": QUARANTINE}
    return {name: {row["record_id"]: row for row in rows_of(lake, table)} for name, table in tables.items()}


SPELLS = [
    # discharge, kept (None) or the reason why not
    spell(1, "2022-06-03"),
    spell(2, "9999-12-31"),
    spell(3, "1900-01-01"),
    spell(4, "1901-01-01"),
    spell(5, "2222-06-01"),
    spell(6, "2999-12-31", Der_Financial_Year="2999/00"),
    spell(7, "2000-03-31", Der_Financial_Year="1999/00"),
    spell(8, "2000-04-01", Der_Financial_Year="2000/01"),
    spell(9, "2023-01-31"),
    spell(10, "2023-02-01"),
    spell(11, "soon"),
    # Behind its own extract, though before the run; an extract that cannot be of a day to come.
    spell(12, "2022-12-02", EXTRACT_DATE="2022-12-01"),
    spell(13, "2022-12-01", EXTRACT_DATE="2022-12-01"),
    spell(14, "2023-02-01", EXTRACT_DATE="9999-12-31"),
    spell(15, "2023-02-01", EXTRACT_DATE="2024-01-01"),
]
SPELLS_KEPT = {"1": "2022-23", "8": "2000-01", "9": "2022-23", "13": "2022-23"}
ATTENDANCES = [
    seen(11, "2022-06-01"),
    seen(12, "1900-01-01"),
    seen(13, "9999-12-31"),
    seen(14, "1901-01-01"),
    seen(15, "2222-06-01"),
    # To come, in this year: a real row, by its year column; in a year that has not begun: it waits.
    seen(16, "2023-03-01"),
    seen(17, "2023-05-01", "2023/24"),
    seen(18, "2023-05-01", ""),
    # A date and a year that cannot be true.
    seen(19, "2098-06-01", "2098/99"),
    seen(20, "1995-06-01", "1995/96"),
    seen(21, "", "2098/99"),
    # A good date; what the year column says is counted.
    seen(22, "2022-06-01", "2098/99"),
]
ATTENDANCES_KEPT = dict.fromkeys(("11", "12", "13", "14", "15", "16", "22"), "2022-23")


def test_dates_that_cannot_be_true_are_missing_and_noted(lake_at: Callable[[Path], Lake], tmp_path: Path) -> None:
    config = sus(tmp_path, SPELLS, ATTENDANCES)
    lake = lake_at(tmp_path / "lake")
    found = taken_in(lake, config)
    assert {key: row["financial_year"] for key, row in found["spells"].items()} == SPELLS_KEPT
    assert {key: row["financial_year"] for key, row in found["attendances"].items()} == ATTENDANCES_KEPT
    dated = {key for key, row in found["attendances"].items() if row["activity_date"] is not None}
    assert dated == {"11", "22"}
    reasons = {key: row["reasons"] for key, row in found["quarantine"].items()}
    undischarged = {key: ["undischarged"] for key in ["2", "3", "4", "5", "6", "7", "10", "12", "14", "15"]}
    waiting = {"17": ["future_appointment"], "18": ["future_appointment"]}
    undated = {key: ["no_usable_date"] for key in ["19", "20", "21"]}
    assert reasons == undischarged | {"11": ["no_usable_date"]} | waiting | undated
    noted = {key: found["attendances"][key]["cleaned"] for key in ("12", "15", "16")}
    assert noted == {
        "12": ["appointment_date:sentinel"],
        "15": ["appointment_date:after_extract"],
        "16": ["appointment_date:after_extract"],
    }
    audit = {row["role"]: row for row in rows_of(lake, INGEST_AUDIT)}
    assert audit["opa"]["year_disagrees"] == 1
    assert audit["opa"]["cleaned"]["appointment_date:after_extract"] == 2
    # On a later day, in another lake: the very same rows say more.
    (tmp_path / "later").mkdir()
    later = taken_in(lake_at(tmp_path / "later" / "lake"), replace(config, day=date(2023, 6, 1)))
    assert later["spells"].keys() - found["spells"].keys() == {"10", "14", "15"}
    assert later["attendances"].keys() - found["attendances"].keys() == {"17", "18"}
    assert later["attendances"]["16"]["activity_date"] == date(2023, 3, 1)


def test_neither_one_placeholder_date_nor_appointments_to_come_stop_a_run(
    lake_at: Callable[[Path], Lake], tmp_path: Path
) -> None:
    """One of 31 spells has a placeholder: fewer than a twentieth. Appointments to come are no bad rows: three of four."""
    spells = [spell(key, "2022-06-03") for key in range(100, 130)] + [spell(200, "9999-12-31")]
    rows = [seen(1, "2022-06-01"), seen(2, "2023-05-01", "2023/24"), seen(3, "2025-01-31", "")]
    # After its own extract, which is known: it waits for a later one.
    rows.append(seen(5, "2023-05-01", "2023/24", EXTRACT_DATE="2023-01-15"))
    config = replace(sus(tmp_path, spells, rows), max_quarantine_share=0.05)
    found = taken_in(lake_at(tmp_path / "lake"), config)
    assert found["spells"].keys() == {str(key) for key in range(100, 130)}
    assert found["quarantine"]["200"]["reasons"] == ["undischarged"]
    assert found["attendances"].keys() == {"1"}
    # One day more than appointments are made ahead: a mistake.
    config = replace(sus(tmp_path, [], [*rows, seen(4, "2025-02-01", "")]), max_quarantine_share=0.0)
    with pytest.raises(DataError, match="no_usable_date 1"):
        taken_in(lake_at(tmp_path / "again"), config)


def test_the_first_days_are_settings_with_reasons(tmp_path: Path) -> None:
    shipped = yaml.safe_load(resource("conf", "activity_dates.yml").read_text(encoding="utf-8"))
    assert all(item["because"] for item in (*shipped["activity_from"].values(), shipped["appointments_ahead_days"]))
    file = tmp_path / "run.yml"
    text = "lake: lake\nsources: {a: {system: hes, tables: {op: x.csv}}}\n"
    file.write_text(f'{text}activity_from: {{hes_op: "2010-04-01"}}\nappointments_ahead_days: 10\n', encoding="utf-8")
    config = load_config(file)
    firsts = {of: config.window(*of).first for of in (("hes", "op"), ("hes", "apc"), ("sus_plus", "opa"))}
    assert firsts == {
        ("hes", "op"): date(2010, 4, 1),
        ("hes", "apc"): date(1989, 4, 1),
        ("sus_plus", "opa"): date(2000, 4, 1),
    }
    assert config.window("hes", "op").ahead == 10
    file.write_text(f'{text}activity_from: {{hes_op: "2010-02-30"}}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"activity_from\.hes_op"):
        load_config(file)


def test_a_run_that_is_gone_over_has_the_day_it_had() -> None:
    lake: Any = SimpleNamespace(location=LakeLocation(folder=Path("/lake")))
    config = RunConfig(lake=lake.location, day=RUN_DAY)
    record, inputs = new_record("rate", config, "r", None), recorded_inputs("rate", config, lake, "r", None)
    assert recorded_settings(lake, record, inputs).day == RUN_DAY


# HES keys. (key, year column, day of the end, key with its year where it needs one)
KEYS = [
    ("1", "1112", None, "2011-12/1"),
    ("1", "2011/12", None, "2011-12/1"),
    ("1", "201112", None, "2011-12/1"),
    ("1", "1213", None, "1"),
    ("1", "2021", None, "1"),
    ("1", "0001", None, "2000-01/1"),
    ("1", "8990", None, "1989-90/1"),
    # Its own year column decides, else the end of the episode.
    ("1", "1112", "2013-01-01", "2011-12/1"),
    ("1", "1213", "2012-03-31", "1"),
    ("1", None, "2010-06-01", "2010-11/1"),
    ("1", " ", "31/03/2012", "2011-12/1"),
    ("1", "NULL", "01/04/2012", "1"),
    ("1", None, "1801-01-01", "1"),
    ("1", None, None, "1"),
    (" 1 ", "1112", None, "2011-12/1"),
    ("", "1112", None, ""),
    ("null", "1112", None, "null"),
    (None, "1112", None, None),
]


@pytest.mark.usefixtures("compiled")
def test_keys_that_repeat_have_their_year_before_them(spark: SparkSession) -> None:
    frame = small_frame(spark, KEYS, "key string, year string, day string, wanted string")
    keyed = F.expr(key_with_year("key", "year", "day", None))
    assert [tuple(row) for row in frame.select("key", "year", "day", keyed).collect()] == KEYS


def episode(key: str, person: str, year: str, day: str, **changes: str) -> dict[str, Any]:
    row = {
        "EPIKEY": key, "PERSON_ID_DEID": person, "FYEAR": year, "SEX": "1", "PROCODE3": "RH8", "ADMINCAT": "01",
        "STARTAGE": "50", "ADMIMETH": "11", "CLASSPAT": "1", "EPIORDER": "1", "EPISTAT": "3", "PROVSPNOPS": person,
        "ADMIDATE": day, "EPISTART": day, "EPIEND": day, "DISDATE": day, "DIAG_01": "M545", "OPERTN_01": "V382",
    }  # fmt: skip
    return row | changes


EARLIER = [episode("100001", "A1", "1011", "2010-06-01"), episode("100002", "A2", "1011", "2010-07-01")]
LATER = [
    episode("100001", "B7", "1112", "2011-09-01"),
    episode("100002", "B8", "1112", "2011-10-01"),
    # Of two years: the first episode's own year is before its key, though the spell belongs to the year of its discharge.
    episode("100003", "B9", "1112", "2012-03-30", DISDATE="", EPIEND="2012-03-31"),
    episode("100003", "B9", "1213", "2012-03-30", EPIORDER="2", EPISTART="2012-03-31", EPIEND="2012-04-02",
            DISDATE="2012-04-02"),
    episode("100004", "C1", "1213", "2012-06-01"),
    # The very same row twice counts once.
    episode("100005", "C2", "1112", "2011-10-01"),
    episode("100005", "C2", "1112", "2011-10-01"),
]  # fmt: skip


# Default codes


def test_the_list_of_default_codes_names_a_source_for_each() -> None:
    document = yaml.safe_load(resource("conf", "default_codes.yml").read_text(encoding="utf-8"))
    assert {item["source"] for item in document["codes"]} == set(document["sources"])
    assert default_codes.default_codes_of("gp_practice_code") == ("V81997", "V81998", "V81999")
    assert default_codes.default_codes_of("procedure_codes", *default_codes.MISSING) == ("X999",)
    # What a list holds as one code, its first place can hold alone.
    for listed, single in (("procedure_codes", "dominant_procedure"), ("diagnosis_codes", "primary_diagnosis")):
        assert default_codes.default_codes()[listed] == default_codes.default_codes()[single]


def outpatient(key: int, operation: str, **changes: str) -> dict[str, Any]:
    row = {
        "ATTENDKEY": key, "PERSON_ID_DEID": f"P{key}", "SEX": "2", "PROCODE3": "RH8", "CCG_RESPONSIBILITY": "15N",
        "GPPRAC": "L83001", "LSOA11": "E01000001", "ADMINCAT": "01", "FYEAR": "2223", "APPTAGE": "50",
        "APPTDATE": "2022-11-05", "ATTENDED": "5", "FIRSTATT": "1", "REFSOURC": "03", "TRETSPEF": "110", "DIAG_01": "",
        "OPERTN_01": operation, "OPERTN_02": "",
    }  # fmt: skip
    return row | changes


OUTPATIENTS = [
    outpatient(1, "X999", GPPRAC="V81999"),
    outpatient(2, "X999", GPPRAC="V81998", CCG_RESPONSIBILITY="VPP00"),
    outpatient(3, "X998", GPPRAC="V81997", CCG_RESPONSIBILITY="Q99"),
    outpatient(4, "U055", DIAG_01="R69X6", PROCODE3="89999"),
    outpatient(5, "", APPTAGE="999", DIAG_01="M545"),
]


WITHOUT_OPERATION = [
    episode("1", "A", "2223", "2022-06-01", OPERTN_01="X999"),
    episode("2", "B", "2223", "2022-06-01", OPERTN_01="X998"),
    episode("3", "C", "2223", "2022-06-01", OPERTN_01="X999"),
    episode("4", "C", "2223", "2022-06-01", OPERTN_01="V382", EPIORDER="2"),
]
# The first has the key of an attendance of a later year.
OLD_AND_NEW = [outpatient(11, "U055", FYEAR="1011", APPTDATE="2010-11-05"), outpatient(12, "U055")]


@dataclass
class Hes:
    """A lake of HES, its configuration, and what it says of each record by its key."""

    lake: Lake
    config: RunConfig
    found: dict[str, dict[str, Any]]
    outpatients: str  # the file of OLD_AND_NEW


@pytest.fixture(scope="module")
def hes(spark: SparkSession, empty_lake: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Hes:
    """Every row of HES that is asked about here, ingested once."""
    folder = tmp_path_factory.mktemp("hes")
    episodes = (
        write(folder / "apc_1011.csv", EARLIER, delimiter="|"),
        write(folder / "apc_1112.csv", LATER, delimiter="|"),
        write(folder / "apc_2223.csv", WITHOUT_OPERATION),
    )
    old_and_new = write(folder / "op.csv", OLD_AND_NEW)
    appointments = (write(folder / "op_2223.csv", OUTPATIENTS), old_and_new)
    tables = {
        "apc": TableSource("apc", episodes),
        "op": TableSource("op", appointments, extract_date="2023-01-01"),
    }
    config = RunConfig(
        lake=LakeLocation(folder=empty_lake(folder / "lake")),
        sources=(Source("hes", "hes", tables),),
        max_quarantine_share=0.0,
    )
    lake = Lake(spark, config.lake, "test-run")
    return Hes(lake, config, taken_in(lake, config), old_and_new)


def test_hes_keys_of_several_years_are_different_spells(hes: Hes) -> None:
    spells = {key: row for key, row in hes.found["spells"].items() if not row["source_file"].endswith("2223.csv")}
    assert {key: (row["person_id"], row["financial_year"]) for key, row in spells.items()} == {
        "2010-11/100001": ("A1", "2010-11"),
        "2010-11/100002": ("A2", "2010-11"),
        "2011-12/100001": ("B7", "2011-12"),
        "2011-12/100002": ("B8", "2011-12"),
        "2011-12/100003": ("B9", "2012-13"),
        "100004": ("C1", "2012-13"),
        "2011-12/100005": ("C2", "2011-12"),
    }
    assert spells["2011-12/100003"]["episodes"] == 2
    # `explain` takes a key in either form, also of a lake that has keys without a year.
    in_lake = hes.lake.read(APC_SPELL)
    bare = in_lake.limit(1).withColumns({"record_id": F.lit("7"), "financial_year": F.lit("2009-10")})
    asked = {
        "2010-11/100001": {"2010-11/100001"},
        "100001": {"2010-11/100001", "2011-12/100001"},
        "100004": {"100004"},
        "2012-13/100004": {"100004"},
        "2009-10/7": {"7"},
        "7": {"7"},
        "2010-11/7": set(),
        "1011/100001": set(),
        "00001": set(),
    }
    columns = [with_key(key).alias(f"asked_{number}") for number, key in enumerate(asked)]
    rows = in_lake.unionByName(bare).select("record_id", *columns).collect()
    for number, (key, wanted) in enumerate(asked.items()):
        assert {row["record_id"] for row in rows if row[f"asked_{number}"]} == wanted, key
    assert {"2010-11/100001", "2011-12/100001", "100001"} <= {*possible_keys("100001")}
    assert {"7", "2009-10/7"} <= {*possible_keys("2009-10/7")}


def test_default_codes_stay_and_count_by_what_they_mean(hes: Hes, spark: SparkSession) -> None:
    found = hes.found["attendances"]
    assert [found[key]["procedure_codes"] for key in "12345"] == [",X999,", ",X999,", ",X998,", ",U055,", None]
    assert found["4"]["diagnosis_codes"] == ",R69X6,"
    assert (found["5"]["age"], found["5"]["age_years"]) == (999, None)
    attendances = hes.lake.read(OP_ATTENDANCE).where(F.col("record_id").isin(*"12345"))
    measured = {row["measure"]: row["records"] for row in record_quality([attendances]).collect()}
    about = ("no_", "_not_known", "_not_applicable", "_without_code")
    assert {name: number for name, number in measured.items() if number and any(part in name for part in about)} == {
        "no_age": 1,
        "age_not_known": 1,
        "no_diagnosis": 4,
        "diagnosis_not_known": 1,
        "no_procedure": 3,
        "procedure_not_applicable": 2,
        "procedure_without_code": 1,
        "no_commissioner": 1,
        "commissioner_not_known": 1,
        "no_gp_practice": 2,
        "gp_practice_not_known": 1,
        "gp_practice_not_applicable": 1,
        "no_provider": 1,
        "provider_not_known": 1,
    }

    # What one column of several says is not missing.
    second = attendances.withColumn("gp_practice_sus", F.when(F.col("record_id") == "1", F.lit("L83001")))
    of_two = {row["measure"]: row["records"] for row in record_quality([second]).collect()}
    assert (of_two["no_gp_practice"], of_two["gp_practice_not_known"], of_two["gp_practice_not_applicable"]) == (
        1,
        0,
        1,
    )

    # No default code has an area, whatever a lookup says of it: the next basis answers.
    def lookup(key: str, *codes: str) -> Any:
        rows = [
            (code, date(1900, 1, 1), date(9999, 12, 31), area, None, area, None)
            for code, area in zip(codes, "XYZ", strict=False)
        ]
        return small_frame(
            spark,
            rows,
            f"{key} string, valid_from date, valid_to date, lookup_area string, area_day date, latest string, "
            "elsewhere string",
        )

    lookups = Lookups(
        lookup("practice_code", "V81999", "V81998", "V81997"), lookup("lsoa"), ("15N", "VPP", "Q99"),
        ("gp_practice", "residence", "commissioner"),
    )  # fmt: skip
    placed = with_area(attendances, lookups).collect()
    assert {row["record_id"]: (row["area_code"], row["area_basis"]) for row in placed} == {
        "1": ("15N", "commissioner"),
        "2": (None, "unknown"),
        "3": (None, "unknown"),
        "4": ("15N", "commissioner"),
        "5": ("15N", "commissioner"),
    }


def test_as_published_sees_codes_and_other_readings_their_meaning(spark: SparkSession) -> None:
    rows = [(None,), (",R69X6,",), (",R69X6,|,R69X8,",), (",R69X6,C509,",), (",M545,R69X6,",), (",R69X,",)]
    frame = small_frame(spark, rows, "diagnosis_codes string")
    test = HasCode("any_diagnosis", "starts_with", ("C",))
    verdicts = frame.select(
        compile_test(test, "apc", "as_published").alias("published"),
        compile_test(test, "apc", "as_intended").alias("meant"),
    ).collect()
    assert [row["published"] for row in verdicts] == [None, False, False, True, False, False]
    assert [row["meant"] for row in verdicts] == [None, None, None, True, False, False]


def test_no_dominant_procedure_of_hes_is_a_default_code(hes: Hes, spark: SparkSession) -> None:
    spells = {key: row for key, row in hes.found["spells"].items() if row["source_file"].endswith("2223.csv")}
    assert {key: (row["dominant_procedure"], row["dominance_basis"]) for key, row in spells.items()} == {
        "1": (None, "hes_no_operation"),
        "2": (None, "hes_no_operation"),
        "3": ("V382", "hes_first_operation"),
    }
    codes = small_frame(spark, [("R69X6",), ("r69.x8 ",), ("R69X",), ("R69X1",), ("C61XD",)], "raw string")
    found = [row[0] for row in codes.select(as_codes(bare_codes(F.array("raw"), F.lit(None)))).collect()]
    assert found == [",R69X6,", ",R69X8,", ",R69X,", ",R69X,", ",C61X,"]


def test_an_upsert_does_not_add_old_hes_records_a_second_time(hes: Hes) -> None:
    kept = {"2010-11/11", "12", *"12345"}
    assert hes.found["attendances"].keys() == kept
    # One more of the old year, which is added.
    write(Path(hes.outpatients), [*OLD_AND_NEW, outpatient(13, "U055", FYEAR="1011", APPTDATE="2010-11-05")])
    kept.add("2010-11/13")
    op = hes.config.sources[0].tables["op"]
    config = replace(hes.config, sources=(Source("hes", "hes", {"op": op}),), mode="upsert")
    lake = hes.lake
    assert taken_in(lake, config)["attendances"].keys() == kept
    # As an earlier version wrote it.
    earlier = lake.read(OP_ATTENDANCE).where("record_id = '2010-11/11'").withColumn("record_id", F.lit("11"))
    earlier = earlier.withColumn("content", F.expr(content(OP_ATTENDANCE)))
    lake.replace(OP_ATTENDANCE, earlier, {"financial_year": ["2010-11"]}, stage="ingest")
    with pytest.raises(InputError, match="1 HES records of 2010-11 have keys without their year"):
        taken_in(lake, config)
    assert taken_in(lake, replace(config, mode="refresh"))["attendances"].keys() == kept
