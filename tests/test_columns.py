"""Columns of source files: families of numbered ones, several that mean the same thing, names of other extracts, and what is
suggested for a missing one. Right values are worked out by hand."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calling import answer_of, call, ingest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import ROLES, Source, TableSource
from ebi_spark.errors import InputError
from ebi_spark.geography.record_areas import Lookups, with_area
from ebi_spark.lake.storage import Lake
from ebi_spark.records.checksums import content
from ebi_spark.runs.lake_status import REFUSED
from ebi_spark.small_frames import small_frame
from ebi_spark.sources.column_drift import column_warnings, columns_in_lake, probable_names
from ebi_spark.sources.families import first_with_code, has_code, listed
from ebi_spark.sources.layouts import ColumnMapping, layouts, likeness
from ebi_spark.sources.platforms import best_fit, document, platforms
from ebi_spark.sources.reader import Group, SourceTable
from ebi_spark.tables.silver import APC_SPELL, INGEST_AUDIT, OP_ATTENDANCE
from jobs import ingest as ingest_job
from jobs import status

OP = ["ATTENDKEY", "APPTDATE", "ADMINCAT", "APPTAGE"]
APC = ["EPIKEY", "DISDATE", "EPIORDER", "EPISTART", "PROVSPNOPS", "ADMIDATE", "ADMIMETH", "ADMINCAT", "STARTAGE"]


def resolved(*names: str, role: str = "op", **renamed: str) -> ColumnMapping:
    return layouts()[role].resolve([*(OP if role == "op" else APC), *names], renamed, "x.csv")


PAGE = Path(__file__).parent.parent / "docs" / "bad-input.md"


def page(heads: str) -> dict[str, str]:
    """A table of the page by its column heads: what a case gets, by its words."""
    section = PAGE.read_text(encoding="utf-8").split(f"| {heads} |")[1].split("\n\n")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {case.strip(): gets.strip() for case, gets in rows}


# Families of numbered columns (no Spark)

FAMILIES: dict[str, tuple[list[str], list[list[tuple[str, ...]]], list[str]]] = {
    "the first column under a name of its own (`1STOPERATION`)": (
        ["1STOPERATION", "OPERTN_02", "OPERTN_03"], [[("1STOPERATION",), ("OPERTN_02",), ("OPERTN_03",)]], [],
    ),
    "the first column alone": (["1stoperation"], [[("1stoperation",)]], []),
    "two names of the first column": (
        ["1STOPERATION", "OPERTN_01"], [[("OPERTN_01", "1STOPERATION")]], ["OPERTN_01 and 1STOPERATION mean the same"],
    ),
    "a gap at the front (`OPERTN_02` without `OPERTN_01`)": (
        ["OPERTN_02", "OPERTN_04"], [[(), ("OPERTN_02",), (), ("OPERTN_04",)]],
        ["the first operation column is missing; the file begins with OPERTN_02"],
    ),
    "numbers without a leading zero (`OPERTN_1`)": (
        [f"OPERTN_{n}" for n in (1, 2, 10, 11)],
        [[("OPERTN_1",), ("OPERTN_2",), *[()] * 7, ("OPERTN_10",), ("OPERTN_11",)]], [],
    ),
    "numbers with a zero and without": (
        ["OPERTN_1", "OPERTN_01"], [[("OPERTN_01", "OPERTN_1")]], ["OPERTN_01 and OPERTN_1 mean the same"],
    ),
    "more columns than the dictionary has": (
        [f"OPERTN_{n:02d}" for n in range(1, 26)], [[(f"OPERTN_{n:02d}",) for n in range(1, 26)]], [],
    ),
    "a second family (`OPERTN_4_01` beside `OPERTN_01`)": (
        ["OPERTN_4_01", "OPERTN_4_02", "OPERTN_01", "OPERTN_02"],
        [[("OPERTN_4_01",), ("OPERTN_4_02",)], [("OPERTN_01",), ("OPERTN_02",)]],
        ["OPERTN_4_01 … OPERTN_4_02 and OPERTN_01 … OPERTN_02 mean the same: for each row, the first of them that has a code"],
    ),
    "numbered columns and a concatenation (`OPERTN_4_CONCAT`)": (
        ["OPERTN_4_01", "OPERTN_4_CONCAT"], [[("OPERTN_4_01",)]], [],
    ),
    "LSOA of 2011 and of 2021": (
        ["OPERTN_01", "LSOA11", "LSOA21"], [[("OPERTN_01",)]], ["LSOA11 and LSOA21 mean the same: silver keeps all of them"],
    ),
    "several names for the person, the provider or the commissioner": (
        ["OPERTN_01", "PROCODET", "PROCODE3"], [[("OPERTN_01",)]],
        ["provider_code is read from PROCODE3; PROCODET can mean the same"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAMILIES)
def test_families_of_numbered_columns(case: str) -> None:
    names, families, notes = FAMILIES[case]
    found = resolved("DIAG_01", *names)
    assert [[tuple(place) for place in family] for family in found.runs["operation"]] == families
    assert not found.extra
    assert len(found.notes) == len(notes)
    for note, words in zip(found.notes, notes, strict=True):
        assert words in note
    gets = page("A file with … | Is read")[case]
    assert gets.endswith("; noted") == bool(notes)
    gaps = {name for name in found.missing if name.isupper()}
    assert gaps >= ({"OPERTN_01"} if "first operation column is missing" in " ".join(found.notes) else set())


def test_a_mapped_column_takes_its_place_in_the_family() -> None:
    found = resolved("DIAG_01", "FIRST_OP", "OPERTN_02", OPERTN_01="FIRST_OP")
    assert found.runs["operation"] == [(("FIRST_OP",), ("OPERTN_02",))]
    assert (found.notes, found.extra) == ((), ())


# Suggestions and names (no Spark)


@pytest.mark.parametrize("role", ["apcs", "apcs_der", "opa", "apc", "op"])
def test_a_suggestion_never_points_to_a_column_that_is_known_to_be_another_field(role: str) -> None:
    layout = layouts()[role]
    own = {name for options in layout.columns.values() for name in options}
    others = {name for name in layout.other_fields if "*" not in name} - own
    for ours in layout.columns:
        others_here = others | {n for key, options in layout.columns.items() if key != ours for n in options}
        suggested = {name for name in others_here if likeness(layout, ours, name, layout.wanted(ours))}
        assert not suggested, ours


SUGGESTED: list[tuple[str, str, str, bool]] = [
    ("apc", "admission_date", "ADMINCAT", False),
    ("apc", "admission_date", "ADMIDATE_X", True),
    ("apc", "admission_method", "ADMIMETH_DERIVED", True),
    ("op", "appointment_date", "APPTREFDATE", False),
    ("op", "appointment_date", "APPTDAT", False),  # not alike enough to say that it is a date
    ("apc", "lsoa", "MSOA11", False),
    ("apcs", "lsoa", "DER_POSTCODE_MSOA_2011_CODE", False),
    ("apcs", "provider_code", "DER_PROVIDER_SITE_CODE", False),
    ("apcs", "age", "AGE_AT_END_OF_SPELL_SUS", False),
    ("apcs", "gp_practice_code", "GP_PRACTICE_CD", True),
    ("apcs", "discharge_date", "APPOINTMENT_DATE", False),
    ("apc", "commissioner_code", "CCG_RESPONSIBILITY_ORIGIN", False),
]


@pytest.mark.parametrize(("role", "ours", "name", "expected"), SUGGESTED)
def test_what_is_suggested_for_a_missing_column(role: str, ours: str, name: str, expected: bool) -> None:
    assert probable_names(layouts()[role], [ours], [name]) == ({ours: name} if expected else {})


def test_the_message_on_a_missing_column_names_no_other_field() -> None:
    with pytest.raises(InputError) as refusal:
        layouts()["apc"].resolve([name for name in APC if name != "ADMIDATE"], {}, "x.csv")
    assert "ADMIDATE is missing" in refusal.value.message
    assert "ADMINCAT" not in refusal.value.remedy and "nearest" not in refusal.value.remedy
    with pytest.raises(InputError, match="maps admission_date to ADMIDAT, but") as refusal:
        layouts()["apc"].resolve([n for n in APC if n != "ADMIDATE"], {"admission_date": "ADMIDAT"}, "x.csv")
    assert refusal.value.remedy == "correct `columns`"


@pytest.mark.parametrize("end", ["DERIVED", "DV"])
def test_dates_under_the_names_of_other_extracts(end: str) -> None:
    names = [f"{name}_{end}" if name in ("DISDATE", "EPISTART", "ADMIDATE") else name for name in APC]
    found = layouts()["apc"].resolve([*names, f"EPIEND_{end}", "DIAG_01", "OPERTN_01"], {}, "x.csv")
    days = ("admission_date", "discharge_date", "episode_start", "episode_end")
    assert {found.single[ours] for ours in days} == {
        f"{name}_{end}" for name in ("ADMIDATE", "DISDATE", "EPISTART", "EPIEND")
    }
    assert not found.extra


# Columns that mean the same thing (no Spark)


def test_of_several_names_of_one_column_one_is_read_and_the_others_are_reported() -> None:
    found = resolved("DIAG_01", "OPERTN_01", "PROCODET", "PROCODE3", "PURCODE", "CCG_RESPONSIBILITY")
    assert found.single["provider_code"] == "PROCODE3"
    assert found.notes == (
        "provider_code is read from PROCODE3; PROCODET can mean the same and is not used: to read another column "
        "for the whole file, map it under `columns: {provider_code: …}`",
        "commissioner_code is read from CCG_RESPONSIBILITY; PURCODE can mean the same and is not used: to read "
        "another column for the whole file, map it under `columns: {commissioner_code: …}`",
    )
    mapped = resolved("DIAG_01", "OPERTN_01", "PROCODET", "PROCODE3", provider_code="PROCODET")
    assert mapped.single["provider_code"] == "PROCODET"
    assert "PROCODE3 can mean the same" in mapped.notes[0]
    # By another of the tables' names than the best one that the file has.
    other = resolved("DIAG_01", "OPERTN_01", "SITE", "PROCODE3", PROCODET="SITE")
    assert (other.single["provider_code"], other.mapped) == ("SITE", {"provider_code"})


def test_one_of_several_columns_for_the_area_is_enough() -> None:
    both = resolved("DIAG_01", "OPERTN_01", "LSOA11", "LSOA21")
    assert (both.single["lsoa"], both.single["lsoa_2021"]) == ("LSOA11", "LSOA21")
    assert [note for note in both.notes if "LSOA11 and LSOA21 mean the same: silver keeps all of them" in note]
    for names, missing in ((["LSOA11"], []), (["LSOA21"], []), (["LSOA01"], []), ([], ["lsoa"])):
        found = resolved("DIAG_01", "OPERTN_01", *names)
        assert [name for name in found.missing if name.startswith("lsoa")] == missing, names


def test_files_that_have_a_column_under_different_names_are_reported() -> None:
    groups = [
        Group(("/data/a.csv",), (), (), read={"person_id": "PSEUDO_HESID", "sex": "SEX"}),
        Group(("/data/b.csv",), (), (), read={"person_id": "TOKEN_PERSON_ID"}),
    ]
    no_rows: Any = None
    assert column_warnings([SourceTable("hes", "op", no_rows, groups=groups)], {}) == [
        "hes op: person_id is read from columns with different names, which may not have the same codes: PSEUDO_HESID in "
        "a.csv, TOKEN_PERSON_ID in b.csv. Map a column that all files have under `columns: {person_id: …}`"
    ]


# With Spark: families and concatenations row by row

A, B, C = "U055", "U133", "Z665"
ROWS: list[tuple[list[str | None], list[str | None] | None]] = [
    # The columns of two families and a concatenation; the list that is read (None: the concatenation).
    ([A, C, B, None, B], [A, C]),
    ([None, C, B, None, B], [None, C]),  # its first is empty, and stays empty
    (["", "-", B, C, None], [B, C]),
    ([" ", "NULL", None, C, None], [None, C]),
    (["&", None, "null", " - ", B], None),
    ([None, None, None, None, None], None),
]


def test_each_row_is_read_in_the_first_family_that_has_a_code(spark: SparkSession) -> None:
    names = ["p1", "p2", "s1", "s2", "c"]
    frame = small_frame(
        spark,
        [(at, *cells) for at, (cells, _) in enumerate(ROWS)],
        "id int, " + ", ".join(f"{n} string" for n in names),
    )
    p1, p2, s1, s2, c = (F.col(name) for name in names)
    families = [[[p1], [p2]], [[s1], [s2]]]
    found = frame.select(
        "id",
        listed(families, or_else=True).alias("list"),
        listed(families, or_else=False).alias("without_concat"),
        listed(families[:1], or_else=False).alias("one"),
        listed([[[p1, s1], [], [s2]]], or_else=False).alias("places"),
        first_with_code([c, s1]).alias("concat"),
        first_with_code([]).alias("no_concat"),
        has_code(c).alias("has"),
    )
    rows = sorted(found.collect(), key=lambda row: row["id"])
    assert [row["list"] for row in rows] == [wanted for _, wanted in ROWS]
    assert [row["without_concat"] for row in rows] == [wanted or cells[:2] for cells, wanted in ROWS]
    assert [row["one"] for row in rows] == [cells[:2] for cells, _ in ROWS]
    assert [row["places"] for row in rows] == [
        [A, None, None], [B, None, None], [B, None, C], [None, None, C], ["null", None, " - "], [None, None, None],
    ]  # fmt: skip
    assert [row["concat"] for row in rows] == [B, B, B, None, B, None]
    assert {row["no_concat"] for row in rows} == {None}
    assert [row["has"] for row in rows] == [True, True, False, False, True, False]


# With Spark: files of many forms in one ingest

HES_OP = {"APPTDATE": "2019-11-05", "ADMINCAT": "01", "APPTAGE": "50", "DIAG_01": ""}
HES_APC = {
    "DISDATE": "2021-06-03", "EPIORDER": "1", "EPISTART": "2021-06-01", "ADMIDATE": "2021-06-01", "ADMIMETH": "11",
    "ADMINCAT": "01", "STARTAGE": "50", "CLASSPAT": "1", "EPISTAT": "3", "DIAG_01": "M545",
}  # fmt: skip
OPA = {
    "Administrative_Category": "01", "Der_Diagnosis_All": "", "Der_Procedure_All": "||U054 ", "Age_at_Start_of_Episode_SUS": "50",
    "Appointment_Date": "2024-06-03",
}  # fmt: skip
UDAL = {
    "EPIKEY": "91", "ADMIMETH": "11", "ADMINCAT": "01", "STARTAGE": 50, "EPIORDER": 1, "PROVSPNOPS": "S91", "DIAG_01": "M545",
    "OPERTN_01": "V382", "ADMIDATE_DERIVED": date(2021, 6, 1), "EPISTART_DERIVED": date(2021, 6, 1),
    "EPIEND_DERIVED": date(2021, 6, 3), "DISDATE_DERIVED": date(2021, 6, 3), "FYEAR": 2122, "EPISTAT": 3, "PROCODE3": "RH8",
}  # fmt: skip
FILES: dict[tuple[str, str], list[tuple[str, dict[str, str]]]] = {
    ("op", "first_named"): [
        ("301", {"1STOPERATION": A, "OPERTN_02": "", "OPERTN_24": ""}),
        ("302", {"1STOPERATION": B, "OPERTN_02": C, "OPERTN_24": "Y981"}),
    ],
    ("op", "empty_beside_filled"): [
        ("311", {"OPERTN_4_01": "", "OPERTN_4_02": "", "OPERTN_01": B, "OPERTN_02": C}),
        ("312", {"OPERTN_4_01": A, "OPERTN_4_02": "", "OPERTN_01": B, "OPERTN_02": C}),
    ],
    ("op", "concatenated"): [("321", {"OPERTN_4_01": "-", "OPERTN_4_02": "", "OPERTN_4_CONCAT": f"{B},{C}"})],
    ("op", "no_zeros"): [
        ("331", {"DIAG_1": "M545", "DIAG_2": "E119", **{f"DIAG_{n}": "" for n in range(3, 10)}, "DIAG_10": "I10X", "OPERTN_1": A})
    ],
    ("apc", "gap"): [("71", {"PROVSPNOPS": "S71", "OPERTN_02": "V382", "OPERTN_03": "Z063"})],
    ("apc", "empty_beside_filled"): [
        ("72", {"PROVSPNOPS": "S72", "OPERTN_4_01": "", "OPERTN_01": "V382", "LSOA01": "E01000001", "LSOA21": "E01033900"})
    ],
    ("opa", "areas"): [
        ("1", {"Der_Postcode_LSOA_2011_Code": "E01020000", "Der_Postcode_LSOA_2021_Code": " E01033900", "GP_Practice_SUS": "L83001"}),
        ("2", {"Der_Postcode_LSOA_2011_Code": "NULL", "Der_Postcode_LSOA_2021_Code": "E01033900", "GP_Practice_SUS": ""}),
    ],
}  # fmt: skip
COMMON = {"op": ("ATTENDKEY", HES_OP), "apc": ("EPIKEY", HES_APC), "opa": ("OPA_Ident", OPA)}


@pytest.fixture(scope="module")
def silver(
    spark: SparkSession, empty_lake: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("columns")
    paths: dict[str, list[str]] = {"op": [], "apc": [], "opa": []}
    for (role, name), rows in FILES.items():
        key, common = COMMON[role]
        path = folder / f"{role}_{name}.csv"
        columns = [key, *(c for c in common if c != "DIAG_01" or "DIAG_1" not in rows[0][1]), *rows[0][1]]
        lines = [",".join(f'"{({key: ident} | common | own)[c]}"' for c in columns) for ident, own in rows]
        path.write_text("\n".join([",".join(columns), *lines]) + "\n", encoding="utf-8")
        paths[role].append(str(path))
    pq.write_table(pa.Table.from_pylist([UDAL]), folder / "apc_udal.parquet")
    paths["apc"].append(str(folder / "apc_udal.parquet"))
    tables = {role: TableSource(role, tuple(listed)) for role, listed in paths.items()}
    config = RunConfig(
        lake=LakeLocation(folder=empty_lake(folder / "lake")),
        sources=(
            Source("hes", "hes", {role: tables[role] for role in ("apc", "op")}),
            Source("sus", "sus_plus", {"opa": tables["opa"]}),
        ),
    )
    lake = Lake(spark, config.lake, "test-run")
    done = ingest(lake, config)
    found: dict[str, Any] = {"done": done}
    for table in (APC_SPELL, OP_ATTENDANCE):
        found |= {
            row["record_id"]: row for row in lake.read(table).withColumn("again", F.expr(content(table))).collect()
        }
    found["notes"] = {
        Path(row["source_file"]).name: list(row["column_notes"] or ()) for row in lake.read(INGEST_AUDIT).collect()
    }
    return found


SILVER: dict[str, dict[str, Any]] = {
    "301": {"procedure_codes": f",{A},"},
    "302": {"procedure_codes": f",{B},{C},Y981,"},
    "311": {"procedure_codes": f",{B},{C},"},
    "312": {"procedure_codes": f",{A},"},
    "321": {"procedure_codes": f",{B},{C},"},
    "331": {"procedure_codes": f",{A},", "diagnosis_codes": ",M545,E119,I10X,"},
    # The first operation is not known: the second is none.
    "71": {"procedure_codes": ",V382,Z063,", "dominant_procedure": None, "dominance_basis": "hes_no_operation"},
    "72": {"dominant_procedure": "V382", "lsoa": None, "lsoa_2001": "E01000001", "lsoa_2021": "E01033900"},
    "91": {
        "dominant_procedure": "V382", "financial_year": "2021-22", "discharge_date": date(2021, 6, 3),
        "admission_date": date(2021, 6, 1), "provider_code": "RH8", "incomplete_spell": False,
    },
    "1": {"lsoa": "E01020000", "lsoa_2021": "E01033900", "gp_practice_code": None, "gp_practice_sus": "L83001"},
    "2": {"lsoa": None, "lsoa_2021": "E01033900", "gp_practice_sus": None, "lsoa_2001": None},
}  # fmt: skip


@pytest.mark.parametrize("key", SILVER)
def test_what_silver_makes_of_such_files(key: str, silver: dict[str, Any]) -> None:
    row = silver[key]
    assert {name: row[name] for name in SILVER[key]} == SILVER[key]
    assert row["content"] == row["again"]


def test_nothing_of_it_is_silent(silver: dict[str, Any]) -> None:
    notes = silver["notes"]
    assert len(notes) == len(FILES) + 1
    assert "OPERTN_4_01 … OPERTN_4_02 and OPERTN_01 … OPERTN_02 mean" in notes["op_empty_beside_filled.csv"][0]
    assert "the first operation column is missing; the file begins with OPERTN_02" in notes["apc_gap.csv"][0]
    assert "silver keeps all of them" in notes["opa_areas.csv"][0]
    assert not notes["op_first_named.csv"] and not notes["apc_udal.parquet"]
    empty = silver["done"].empty
    assert "hes apc_gap.csv: dominant_procedure is empty in all 1 records" in empty
    assert not [line for line in empty if "procedure_codes" in line]


def test_rows_of_an_older_version_keep_their_content(spark: SparkSession) -> None:
    """Of a table without the columns that came later, the hash is the same as where they are NULL."""
    rows = [
        {"record_id": "1", "lsoa": "E01020000"},
        {"record_id": "2", "lsoa_2021": "X"},
        {"record_id": "2", "lsoa_2001": "X"},
    ]
    frame = small_frame(spark, rows, OP_ATTENDANCE.schema)
    before = [
        F.coalesce(F.col(name).cast(kind), F.lit({"string": "\0", "int": -(2**31), "date": "0001-01-01"}[kind]).cast(kind))
        for name, kind, _ in OP_ATTENDANCE.fields()
        if name not in ("cleaned", "source_file", "run_id", "extract_date", "content", "lsoa_2021", "lsoa_2001", "gp_practice_sus")
    ]  # fmt: skip
    first, second, third = frame.select(
        F.expr(content(OP_ATTENDANCE)).alias("now"), F.xxhash64(*before).alias("before")
    ).collect()
    assert first["now"] == first["before"]
    assert len({second["now"], third["now"], second["before"]}) == 3


def test_a_lake_of_the_version_before_is_migrated_and_its_records_are_the_same(
    spark: SparkSession, lake_at: Callable[[Path], Lake], tmp_path: Path
) -> None:
    columns = ["OPA_Ident", *OPA, "Der_Postcode_LSOA_2011_Code"]
    lines = [",".join(({"OPA_Ident": n} | OPA).get(name, "E01020000") for name in columns) for n in ("1", "2")]
    (tmp_path / "opa.csv").write_text("\n".join([",".join(columns), *lines]) + "\n", encoding="utf-8")
    lake = lake_at(tmp_path / "lake")
    tables = {"opa": TableSource("opa", (str(tmp_path / "opa.csv"),))}
    config = RunConfig(lake=lake.location, sources=(Source("sus", "sus_plus", tables),))
    ingest(lake, config)
    later = {OP_ATTENDANCE: ("lsoa_2021", "lsoa_2001", "gp_practice_sus"), INGEST_AUDIT: ("column_notes",)}
    for table, names in later.items():
        older = lake.read(table).drop(*names).write.format("delta").mode("overwrite")
        older = older.partitionBy(*table.partition_by) if table.partition_by else older
        older.option("overwriteSchema", "true").save(str(tmp_path / "lake" / table.full_name))
        assert not set(names) & set(lake.read(table).columns)
    assert columns_in_lake(lake)[0]["table"] == "sus_plus opa"  # as `status` looks at it, which migrates nothing
    done = [line.split("added ")[1] for line in lake.migrate(list(later))]
    assert done == ["lsoa_2021, lsoa_2001, gp_practice_sus", "column_notes"]
    again = ingest(lake, config)
    assert (again.changed_years, again.not_written) == (set(), {"unchanged": 2})
    rows = lake.read(OP_ATTENDANCE).select("lsoa", "lsoa_2021").collect()
    assert [tuple(row) for row in rows] == [("E01020000", None)] * 2


# With Spark: where the area is found

DAY = date(2024, 6, 3)
# practice, practice by SUS, LSOA of 2011, of 2021, of 2001, commissioner: area, basis
AREAS: list[tuple[tuple[str | None, ...], str | None, str]] = [
    ((None, None, "E01020000", "E01020000", None, None), "15N", "residence"),
    ((None, None, None, "E01033900", None, None), "15N", "residence"),
    ((None, None, "E01020500", "e01033901", None, None), "15N", "residence"),  # the lookup does not know that of 2011
    ((None, None, "E01000001", "E01033901", None, None), "02P", "residence"),  # it knows both: the first counts
    ((None, None, "E01000002", "E01033901", None, None), "15N", "residence"),  # known, and not on that day
    ((None, None, None, None, "E01000001", None), "02P", "residence"),
    (("L83001", "A1", "E01000001", None, None, None), "15N", "gp_practice"),
    (("V81999", "L83001", "E01000001", None, None, None), "15N", "gp_practice"),
    (("V81999", "V81999", "E01000001", None, None, None), "02P", "residence"),
    ((None, None, "W01000001", None, None, None), None, "outside_england"),
    ((None, None, None, "W01000001", None, "15N00"), "15N", "commissioner"),
    ((None, None, "E01020500", "E01020500", None, None), None, "unknown"),
]  # fmt: skip


def test_of_several_columns_the_first_that_the_lookup_knows_on_the_day_gives_the_area(spark: SparkSession) -> None:
    always = (date(1900, 1, 1), date(9999, 12, 31))
    kinds = "valid_from date, valid_to date, lookup_area string, area_day date, latest string, elsewhere string"
    lsoas = [
        ("E01020000", *always, "15N", date(2022, 7, 1), "15N", None), ("E01033900", *always, "15N", date(2022, 7, 1), "15N", None),
        ("E01033901", *always, "15N", None, "15N", None), ("E01000001", *always, "02P", date(2022, 7, 1), "X", None),
        ("E01000002", date(1900, 1, 1), date(2024, 4, 1), "02P", None, "02P", None),
    ]  # fmt: skip
    practices = [("L83001", *always, "15N", date(2022, 7, 1), "15N", None)]
    lookups = Lookups(
        practices=small_frame(spark, practices, f"practice_code string, {kinds}"),
        lsoas=small_frame(spark, lsoas, f"lsoa string, {kinds}"),
        known_codes=("15N", "02P"),
        order=("gp_practice", "residence", "commissioner"),
    )
    columns = ("gp_practice_code", "gp_practice_sus", "lsoa", "lsoa_2021", "lsoa_2001", "commissioner_code")
    records = small_frame(
        spark,
        [(at, DAY, "2024-25", *cells) for at, (cells, _, _) in enumerate(AREAS)],
        "id int, activity_date date, financial_year string, " + ", ".join(f"{name} string" for name in columns),
    )
    placed = with_area(records, lookups)
    rows = sorted(placed.collect(), key=lambda row: row["id"])
    assert [(row["area_code"], row["area_basis"]) for row in rows] == [(area, basis) for _, area, basis in AREAS]
    assert [row["area_date"] for row in rows][:4] == [date(2022, 7, 1), date(2022, 7, 1), DAY, date(2022, 7, 1)]
    assert [row["latest_area_code"] for row in rows][2:4] == ["15N", "X"]
    # A lake that this version has not written to has the older columns alone.
    older = with_area(records.drop("gp_practice_sus", "lsoa_2021", "lsoa_2001"), lookups).orderBy("id").collect()
    assert [row["area_code"] for row in older] == [
        "15N", None, None, "02P", None, None, "15N", "02P", "02P", None, "15N", None,
    ]  # fmt: skip


# What jobs say

HEADER = (
    "OPA_Ident,Sex,Administrative_Category,Der_Diagnosis_All,Der_Procedure_All,Der_Financial_Year,"
    "Age_at_Start_of_Episode_SUS,Appointment_Date,Request_Date,Extract_Date\n"
)
ROW = '{id},1,01,,"||U054",{year},{age},{day},{asked},\n'
CONFIG = "lake: ./lake\nsources:\n  o: {system: sus_plus, tables: {opa: {path: opa.csv, columns: {COLUMNS}}}}\n"
# A mapped column …: the mapping, the values of Appointment_Date and Request_Date in four rows
GOOD, ODD = "2024-06-03", "soon"
MAPPED: dict[str, tuple[str, list[str], list[str]]] = {
    "of a date whose values are mostly dates": ("appointment_date: Request_Date", [GOOD] * 4, [GOOD, GOOD, ODD, ""]),
    "of a date whose values are mostly not dates": ("appointment_date: Request_Date", [GOOD] * 4, [GOOD, ODD, ODD, ""]),
    "of a date, by the name that the tables use": ("Appointment_Date: Sex", [GOOD] * 4, [GOOD] * 4),
    "of an extract date without any date": ("extract_date: Administrative_Category", [GOOD] * 4, [GOOD] * 4),
    "of an age that holds dates": ("age: Request_Date", [GOOD] * 4, [GOOD] * 4),
}


def test_the_page_lists_these_columns_and_no_others() -> None:
    assert list(page("A file with … | Is read")) == list(FAMILIES)
    assert list(page("A mapped column … | Gets")) == list(MAPPED)


def source(folder: Path, columns: str, days: list[str], asked: list[str], year: str = "2024-25") -> Path:
    rows = zip(days, asked, strict=True)
    text = "".join(ROW.format(id=n, year=year, age=50, day=day, asked=other) for n, (day, other) in enumerate(rows))
    (folder / "opa.csv").write_text(HEADER + text, encoding="utf-8")
    (folder / "run.yml").write_text(CONFIG.replace("COLUMNS", columns), encoding="utf-8")
    return folder


USABLE = "of a date whose values are mostly dates"  # ingested where `status` is asked, below


def test_one_mapped_column_is_usable() -> None:
    gets = page("A mapped column … | Gets")
    assert [case for case in MAPPED if gets[case].startswith("records")] == [USABLE]


@pytest.mark.parametrize("case", [case for case in MAPPED if case != USABLE])
@pytest.mark.usefixtures("one_session")
def test_a_mapped_column_that_is_refused(case: str, tmp_path: Path, empty_lake: Callable[[Path], Path]) -> None:
    empty_lake(tmp_path / "lake")
    answer = call(ingest_job.main, source(tmp_path, *MAPPED[case]))
    gets = page("A mapped column … | Gets")[case]
    assert (answer["exit"], answer["outcome"]) == (2, "refused")
    assert gets.split("`")[1] in answer["error"]["message"]
    assert str(tmp_path / "opa.csv") in answer["error"]["message"] and "`columns`" in answer["error"]["remedy"]
    assert ODD not in answer["error"]["message"]
    assert "silver/op_attendance" not in answer["tables"]


@pytest.mark.usefixtures("one_session")
def test_status_lists_why_no_row_could_be_used(tmp_path: Path, empty_lake: Callable[[Path], Path]) -> None:
    empty_lake(tmp_path / "lake")
    refused = call(ingest_job.main, source(tmp_path, "", ["NULL", "", ODD], ["", "", ""], year=""))
    assert (refused["exit"], refused["outcome"]) == (2, "refused")
    assert refused["error"]["message"] == "the source files have no usable rows (opa no_usable_date 3)"
    assert "`ebi-spark status` lists the reasons" in refused["error"]["remedy"]
    listed = answer_of(status.main, "--lake", str(tmp_path / "lake"))["status"]
    (why,) = listed[REFUSED]
    assert (why["role"], why["reason"], why["rows"], why["files"]) == ("opa", "no_usable_date", 3, 1)
    assert "APPOINTMENT_DATE" in why["columns"] and why["remedy"]
    # Then usable rows come, from a mapped column.
    answer = call(ingest_job.main, source(tmp_path, *MAPPED[USABLE]))
    assert answer["exit"] == 0, answer
    listed = answer_of(status.main, "--lake", str(tmp_path / "lake"))["status"]
    assert REFUSED not in listed


@pytest.mark.usefixtures("one_session")
def test_a_year_that_no_usable_row_has_says_why(tmp_path: Path, empty_lake: Callable[[Path], Path]) -> None:
    empty_lake(tmp_path / "lake")
    folder = source(tmp_path, "", [GOOD, GOOD], ["", ""])
    text = (folder / "opa.csv").read_text(encoding="utf-8")
    (folder / "opa.csv").write_text(text.replace("\n0,", "\n,").replace("\n1,", "\nNULL,"), encoding="utf-8")
    refused = call(ingest_job.main, folder)
    assert refused["exit"] == 2 and "opa no_key 2" in refused["error"]["message"]


def test_whose_names_are_whose_is_stated_for_every_name_that_differs() -> None:
    """Every name in conf/platforms.yml is one that the layout reads for the same column. And every name of a column that can have
    several is that of a platform, or is listed with its source as one that any copy can have."""
    stated: dict[tuple[str, str], set[str]] = {}
    for platform in platforms():
        assert set(platform.tables) <= set(ROLES[platform.system]) >= set(platform.names), platform.title
        for role, columns in platform.names.items():
            for ours, names in columns.items():
                stated.setdefault((role, ours), set()).update(names)
    for entry in document()["anywhere"]:
        for role in entry["of"]:
            stated.setdefault((role, entry["column"]), set()).update(entry["names"])
    for (role, ours), names in stated.items():
        layout = layouts()[role]
        known = layout.numbered[ours].all_names() if ours in layout.numbered else {*layout.columns[ours]}
        assert names <= known, (role, ours)
    several = {
        (role, ours): set(names)
        for role, layout in layouts().items()
        if role not in ROLES["local"]
        for ours, names in layout.columns.items()
        if len(names) > 1
    }
    assert {
        key: names - stated.get(key, set()) for key, names in several.items() if names - stated.get(key, set())
    } == {}


@pytest.mark.parametrize(
    ("role", "columns", "expected"),
    [
        ("apcs", "APCS_Ident Sex Der_Postcode_LSOA_Code", ["SUS+ in NCDR"]),
        ("apcs", "APCS_Ident Der_Postcode_LSOA_2011_Code Der_Postcode_LSOA_2021_Code", ["SUS+ on UDAL"]),
        # Both have it; and nothing tells them apart.
        ("apcs", "APCS_Ident Der_Postcode_LSOA_2011_Code", []),
        ("apcs_der", "APCS_Ident Spell_Dominant_Procedure Spell_Primary_Diagnosis", []),
        ("apc", "EPIKEY PSEUDO_HESID ADMIDATE DISDATE DIAG_4_01", ["HES as NHS England delivers it"]),
        ("apc", "EPIKEY PERSON_ID_DEID ADMIDATE DISDATE DIAG_4_01", ["HES in NHS England's secure data environment"]),
        (
            "apc",
            "epikey token_person_id admidate_derived disdate_derived susspellid",
            ["HES on UDAL and at commissioning"],
        ),
        ("apc_diagnoses", "epikey fyear diag_order diagnosis", ["HES on UDAL and at commissioning"]),
        ("apc", "EPIKEY PSEUDO_HESID ADMIDATE_DV DISDATE_DV", ["HES at the bodies for public health"]),
        ("op", "ATTENDKEY", []),
        ("prior_approval", "APPROVAL_ID", []),
    ],
)
def test_the_platform_that_columns_fit_best(role: str, columns: str, expected: list[str]) -> None:
    found = best_fit(role, columns.split())
    assert len(found) == len(expected)
    for platform, begin in zip(found, expected, strict=True):
        assert platform.title.startswith(begin)
