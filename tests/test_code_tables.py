"""HES with its codes in long tables: the same care in either form makes the same records, and each row of a long table is
accounted for."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calling import ingest
from pyspark.sql import SparkSession
from source_rows import state

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.load import load_config
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.errors import InputError
from ebi_spark.lake.staging_area import StagingArea
from ebi_spark.lake.storage import Lake

EPISODES = """
EPIKEY,FYEAR,TOKEN_PERSON_ID,PROCODE3,ADMINCAT,STARTAGE,ADMIMETH,CLASSPAT,EPIORDER,EPISTAT,PROVSPNOPS,SUSSPELLID,ADMIDATE,DISDATE,EPISTART,EPIEND
11,2122,P1,RH8,01,50,11,1,1,3,S1,9001,2021-05-01,,2021-05-01,2021-05-03
12,2122,P1,RH8,01,50,11,1,2,3,S1,9001,2021-05-01,2021-05-09,2021-05-03,2021-05-09
21,2122,P2,RH8,01,61,21,1,1,3,,9002,2021-06-01,,2021-06-01,2021-06-02
22,2122,P2,RH8,01,61,21,1,2,3,,9002,2021-06-01,2021-06-04,2021-06-02,2021-06-04
31,2122,P3,RH8,01,40,11,1,1,3,,-1,2021-07-01,2021-07-02,2021-07-01,2021-07-02
32,2122,P3,RH8,01,40,11,1,1,3,,-1,2021-07-01,2021-07-02,2021-07-01,2021-07-02
41,1011,P4,RH8,01,40,11,1,1,3,S4,,2010-07-01,2010-07-02,2010-07-01,2010-07-02
41,1112,P5,RH8,01,40,11,1,1,3,S5,,2011-07-01,2011-07-02,2011-07-01,2011-07-02
51,2122,P6,RH8,01,70,11,1,1,3,S6,,2021-03-20,2021-04-02,2021-03-20,2021-04-02
"""
# key, year, place, code
DIAGNOSES = [
    ("11", "2122", 2, "E11.9"), ("11", "2122", 1, "M54.5"), ("12", "2122", 1, "M549"),
    ("21", "2122", 2, "I10X"), ("22", "2122", 1, "M545"), ("31", "2122", 1, "M545"),
    ("41", "1011", 1, "M480"), ("41", "1112", 1, "M511"), ("51", "2021", 1, "M545"),
]  # fmt: skip
PROCEDURES = [
    ("11", "2122", 1, "V38.2", "2021-05-02"), ("11", "2122", 2, "Z06.3", "2021-05-02"),
    ("22", "2122", 1, "V384", ""), ("41", "1112", 1, "V382", "2011-07-01"), ("51", "2021", 1, "-", ""),
]  # fmt: skip
APPOINTMENTS = """
ATTENDKEY,FYEAR,TOKEN_PERSON_ID,PROCODE3,ADMINCAT,APPTAGE,APPTDATE
1,2122,P1,RH8,01,50,2021-05-01
2,2122,P2,RH8,01,61,2021-05-02
"""
OP_DIAGNOSES = [("1", "2122", 1, "M545"), ("2", "2122", 2, "M549")]
OP_PROCEDURES = [("1", "2122", 1, "U055", "2021-05-01")]
# Rows that are no code of a row: an unknown episode, no place, the same twice, and two codes in one place.
BAD_DIAGNOSES = [
    ("99", "2122", 1, "M545"), ("11", "2122", "", "M549"), ("12", "2122", 1, "M549"),
    ("41", "0910", 1, "M480"), ("32", "2122", 1, "M545"), ("32", "2122", 1, "M546"),
]  # fmt: skip


def written(path: Path, names: str, rows: list[tuple[Any, ...]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names.split(","), *rows])
    return str(path)


def wide(text: str, diagnoses: list[tuple[Any, ...]], procedures: list[tuple[Any, ...]], path: Path) -> str:
    """The rows with the codes in numbered columns of their own, put there by plain Python."""
    header, *rows = [line.split(",") for line in text.strip().splitlines()]
    names = [*header, *(f"DIAG_{n:02}" for n in (1, 2)), *(f"OPERTN_{n:02}" for n in (1, 2)), "OPDATE_01"]
    out = []
    for row in rows:
        # The long row of a code says its own year: that of episode 51 ended on 2 April is the year before.
        mine = [row[0], *({row[1], "2021"} if row[0] == "51" else {row[1]})]
        codes = {(kind, c[2]): c[3] for kind, listed in (("d", diagnoses), ("o", procedures)) for c in listed
                 if c[0] == row[0] and c[1] in mine}  # fmt: skip
        day = next((c[4] for c in procedures if c[0] == row[0] and c[1] in mine and c[2] == 1), "")
        out.append((*row, *(codes.get((kind, place), "") for kind in "do" for place in (1, 2)), day))
    return written(path, ",".join(names), out)


def long(text: str, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.lstrip(), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def lakes(
    spark: SparkSession, empty_lake: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Two folders with a lake: of wide files, and of the same with long tables, with bad rows besides."""
    folder = tmp_path_factory.mktemp("codes")
    in_columns = {
        "apc": wide(EPISODES, DIAGNOSES, PROCEDURES, folder / "wide" / "apc.csv"),
        "op": wide(APPOINTMENTS, OP_DIAGNOSES, OP_PROCEDURES, folder / "wide" / "op.csv"),
    }
    names, dated = "fyear,procode3,diag_order,diagnosis", "fyear,procedure_order,procedure_code,procedure_date"
    diagnoses = [(key, year, "RH8", place, code) for key, year, place, code in [*DIAGNOSES, *BAD_DIAGNOSES]]
    in_tables = {
        "apc": long(EPISODES, folder / "long" / "apc.csv"),
        "op": long(APPOINTMENTS, folder / "long" / "op.csv"),
        "apc_diagnoses": written(folder / "long" / "apc_diagnoses.csv", f"epikey,{names}", diagnoses),
        "apc_procedures": written(folder / "long" / "apc_procedures.csv", f"epikey,{dated}", PROCEDURES),
        "op_diagnoses": written(
            folder / "long" / "op_diagnoses.csv", f"attendkey,{names.replace('procode3,', '')}", OP_DIAGNOSES
        ),
        "op_procedures": written(folder / "long" / "op_procedures.csv", f"attendkey,{dated}", OP_PROCEDURES),
    }
    made = {}
    for name, tables in (("wide", in_columns), ("long", in_tables)):
        location = LakeLocation(folder=empty_lake(folder / name / "lake"))
        sources = (Source("hes", "hes", {role: TableSource(role, (path,)) for role, path in tables.items()}),)
        config = RunConfig(lake=location, sources=sources, max_quarantine_share=1.0)
        with pytest.MonkeyPatch.context() as patch:
            if name == "wide":  # staged as in a catalogue
                patch.setattr(StagingArea, "adoptable", False)
            ingest(Lake(spark, location, "test-run"), config)
        made[name] = folder / name
    return made


CODES = "record_id, financial_year, diagnosis_codes, procedure_codes"
SPELL = f"{CODES}, dominant_procedure, primary_diagnosis, dominance_basis, procedure_date::VARCHAR, episodes, discharge_date"


def test_both_forms_make_the_same_records(lakes: dict[str, Path]) -> None:
    assert state(lakes["long"], "silver/apc_spell", SPELL) == state(lakes["wide"], "silver/apc_spell", SPELL)
    assert state(lakes["long"], "silver/op_attendance", CODES) == state(lakes["wide"], "silver/op_attendance", CODES)


def test_the_records_are_those_worked_by_hand(lakes: dict[str, Path]) -> None:
    assert [row[:9] for row in state(lakes["long"], "silver/apc_spell", SPELL)] == [
        ("11", "2021-22", ",M545,E119,|,M549,", ",V382,Z063,", "V382", "M545", "hes_first_operation", "2021-05-02", 2),
        # Joined by the number of the spell in SUS. The first place of episode 21 is empty: its second code does not move up.
        ("2010-11/41", "2010-11", ",M480,", None, None, "M480", "hes_no_operation", None, 1),
        ("2011-12/41", "2011-12", ",M511,", ",V382,", "V382", "M511", "hes_first_operation", "2011-07-01", 1),
        ("21", "2021-22", ",I10X,|,M545,", ",V384,", "V384", "M545", "hes_first_operation", None, 2),
        # -1 is no number of a spell: each of these is a spell of its own.
        ("31", "2021-22", ",M545,", None, None, "M545", "hes_no_operation", None, 1),
        ("32", "2021-22", None, None, None, None, "hes_no_operation", None, 1),
        # Its codes say 2020-21, and its spell ended in 2021-22.
        ("51", "2021-22", ",M545,", None, None, "M545", "hes_no_operation", None, 1),
    ]
    assert state(lakes["long"], "silver/op_attendance", CODES) == [
        ("1", "2021-22", ",M545,", ",U055,"), ("2", "2021-22", ",M549,", None),
    ]  # fmt: skip


def test_every_row_of_a_long_table_is_accounted_for(lakes: dict[str, Path]) -> None:
    assert state(lakes["long"], "silver/quarantine", "role, record_id, array_to_string(reasons, ',')") == [
        ("apc_diagnoses", "2009-10/41#1", "no_episode"), ("apc_diagnoses", "32#1", "conflicting_duplicate"),
        ("apc_diagnoses", "32#1", "conflicting_duplicate"), ("apc_diagnoses", "99#1", "no_episode"),
        ("apc_diagnoses", None, "no_key"),
    ]  # fmt: skip
    counts = "role, rows_read, rows_valid, rows_quarantined, rows_duplicate, records_built"
    assert state(lakes["long"], "silver/ingest_audit", counts) == [
        ("apc", 9, 9, 0, 0, 7),
        ("apc_diagnoses", 15, 9, 5, 1, 0),
        ("apc_procedures", 5, 5, 0, 0, 0),
        ("op", 2, 2, 0, 0, 2),
        ("op_diagnoses", 2, 2, 0, 0, 0),
        ("op_procedures", 1, 1, 0, 0, 0),
    ]


def test_a_changed_code_changes_the_record(spark: SparkSession, lakes: dict[str, Path], tmp_path: Path) -> None:
    """In a copy of the lake of long tables, whose file of diagnoses of appointments changes. (No test after this one reads it.)"""
    location = LakeLocation(folder=shutil.copytree(lakes["long"] / "lake", tmp_path / "lake"))
    roles = ("op", "op_diagnoses", "op_procedures")
    paths = {role: lakes["long"] / f"{role}.csv" for role in roles}
    sources = (Source("hes", "hes", {role: TableSource(role, (str(path),)) for role, path in paths.items()}),)
    changed = paths["op_diagnoses"]
    changed.write_text(changed.read_text(encoding="utf-8").replace("M545", "M544"), encoding="utf-8")
    assert state(tmp_path, "silver/op_attendance", CODES)[0] == ("1", "2021-22", ",M545,", ",U055,")
    ingest(Lake(spark, location, "second"), RunConfig(lake=location, sources=sources))
    assert state(tmp_path, "silver/op_attendance", CODES)[0] == ("1", "2021-22", ",M544,", ",U055,")


@pytest.mark.parametrize(
    ("mode", "tables", "words"),
    [
        ("refresh", "{apc_diagnoses: d.csv, op: o.csv}", "has apc_diagnoses without apc"),
        ("upsert", "{op: o.csv, op_diagnoses: d.csv}", "a table of codes cannot be upserted"),
    ],
)
def test_what_a_configuration_cannot_do_is_said(mode: str, tables: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "run.yml").write_text(
        f"lake: lake\nmode: {mode}\nsources:\n  hes: {{system: hes, tables: {tables}}}\n", encoding="utf-8"
    )
    with pytest.raises(InputError, match=words):
        load_config(tmp_path / "run.yml")
