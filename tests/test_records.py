"""Records worked by hand: what reading makes of single values, episodes, copies and clauses. Small enough to check by
eye; a Spark job a topic."""

import csv
import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import source_rows
from calling import COMPILED, ingest, rows_of
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.activity_dates import DateWindow
from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.errors import InputError
from ebi_spark.financial_years import digits_of_year, parse_years, start_of_digits, year_of_date, year_of_start
from ebi_spark.flags.apply_policies import apply_policies
from ebi_spark.geography.record_areas import Lookups
from ebi_spark.lake.storage import Lake
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.records import column_kinds, duplicates, hes, sus_plus
from ebi_spark.records.cleaning import KINDS, age_in_years, age_seen, clean
from ebi_spark.records.code_lists import as_codes, bare_codes, first_code
from ebi_spark.small_frames import small_frame
from ebi_spark.sources.layouts import layouts
from ebi_spark.spark.tuning import with_settings
from ebi_spark.tables.silver import APC_SPELL, INGEST_AUDIT, OP_ATTENDANCE, QUARANTINE
from ebi_spark.tables.table import Table

WINDOW = DateWindow(date(2000, 4, 1), date(2026, 11, 29), 731)

# Values: (kind, as the source has it, cleaned, what is noted)

VALUES: list[tuple[str, str | None, Any, str | None]] = [
    # SUS+'s concatenations
    ("codes", "||E119 ,J849 ,K869 ||I801 ,I802", ",E119,J849,K869,|,I801,I802,", None),
    ("codes", "||E851,T124,X403||Y532,Z921", ",E851,T124,X403,|,Y532,Z921,", None),
    ("codes", "E851,T124||Y532", ",E851,T124,|,Y532,", None),
    ("codes", " || E851 , T124 || Y532 ", ",E851,T124,|,Y532,", None),
    ("codes", "E119|J849", ",E119,|,J849,", None),
    ("codes", "||||E119,,J849||", ",E119,J849,", None),
    ("codes", "||E11.9,j84.9", ",E119,J849,", "dots"),
    ("codes", "||e119", ",E119,", "case"),
    ("codes", "||I10X ,C61X ,A099D,M4901A,E14-", ",I10X,C61X,A099D,M4901A,E14-,", None),
    ("codes", "U051,-   ,&,Z943", ",U051,Z943,", None),
    ("codes", "XM545", ",XM545,", None),
    ("codes", "||", None, "blank"),
    ("codes", "-", None, "blank"),
    ("codes", "||-||E119||--||J849||&", ",E119,|,J849,", None),
    ("codes", "   ", None, "blank"),
    ("codes", "", None, "blank"),
    ("codes", " null", None, "null_text"),
    ("codes", None, None, None),
    # Single codes
    ("code", "M545", "M545", None),
    ("code", " m54.5 ", "M545", "dots"),
    ("code", "m545", "M545", "case"),
    ("code", "M545 ", "M545", "padding"),
    ("code", "NULL", None, "null_text"),
    ("two_character_code", "2", "02", "one_digit"),
    ("two_character_code", "2a", "2A", "case"),
    ("two_character_code", "02", "02", None),
    ("two_character_code", " 11", "11", "padding"),
    ("two_character_code", "99", "99", None),
    ("short_code", "x", "X", "case"),
    ("identifier", "12345678901234567890", "12345678901234567890", None),
    ("identifier", " 007 ", "007", "padding"),
    ("identifier", "nUlL ", None, "null_text"),
    ("identifier", "NULLS", "NULLS", None),
    ("identifier", "NUL", "NUL", None),
    ("two_character_code", "null", None, "null_text"),
    ("short_code", " ", None, "blank"),
    # Numbers
    ("number", "45", 45, None),
    ("number", " 45.0", 45, None),
    ("number", "7001", 7001, None),
    ("number", "-1", -1, None),
    ("number", "forty", None, "not_a_number"),
    ("number", "", None, "blank"),
    # Dates
    ("day", "2021-04-01", date(2021, 4, 1), None),
    ("day", "01/04/2021", date(2021, 4, 1), None),
    ("day", "20210401", date(2021, 4, 1), None),
    ("day", "2021-04-01 00:00:00", date(2021, 4, 1), None),
    ("day", "01/04/2021 00:00:00", date(2021, 4, 1), None),
    ("day", "2021-03-31T23:00:00Z", date(2021, 4, 1), None),  # midnight in London, summer time
    ("day", "2021-03-31T22:59:59.000Z", date(2021, 3, 31), None),
    ("day", "2021-01-31T23:00:00Z", date(2021, 1, 31), None),  # winter time
    ("day", "1801-01-01", None, "sentinel"),
    ("day", "01/01/1800", None, "sentinel"),
    ("day", "1900-01-01", None, "sentinel"),
    ("day", "01/01/1901 00:00:00", None, "sentinel"),
    ("day", "99991231", None, "sentinel"),
    ("day", "1900-01-02", date(1900, 1, 2), None),
    ("day", "2021-02-30", None, "not_a_date"),
    ("day", "31/04/2021", None, "not_a_date"),
    ("day", "soon", None, "not_a_date"),
    ("day", "NULL", None, "null_text"),
    ("day", None, None, None),
]


@pytest.mark.usefixtures("compiled")
def test_values_are_cleaned_and_the_change_is_noted(spark: SparkSession) -> None:
    schema = "number int, " + ", ".join(f"`{kind}` string" for kind in KINDS)
    # One column a kind, all with the row's value: each row looks at its own kind alone.
    cases = [(number, *[raw] * len(KINDS)) for number, (_, raw, _, _) in enumerate(VALUES)]
    frame = small_frame(spark, cases, schema.replace("number int", "id int", 1))
    rows = {row["id"]: row for row in clean(frame, {kind: kind for kind in KINDS}).collect()}
    found = []
    for number, (kind, raw, _, _) in enumerate(VALUES):
        notes = [note.partition(":")[2] for note in rows[number]["cleaned"] if note.startswith(f"{kind}:")]
        found.append((kind, raw, rows[number][kind], *(notes or [None])))
    assert found == VALUES


@pytest.mark.usefixtures("compiled")
def test_concatenations_of_codes_and_marks_in_every_order(spark: SparkSession) -> None:
    tokens = ("E119", "J84", "||", "", "-", "&-")
    texts = [",".join(chosen) for size in range(1, 6) for chosen in itertools.product(tokens, repeat=size)]
    frame = small_frame(spark, list(enumerate(texts)), "id int, codes string")
    found = {row["id"]: row["codes"] for row in clean(frame, {"codes": "codes"}).select("id", "codes").collect()}
    for number, text in enumerate(texts):
        kept: list[str] = []
        for token in text.replace("||", "|").split(","):
            if token.strip("-&") and not (token == "|" and kept[-1:] in ([], ["|"])):
                kept.append(token)
        wanted = ",".join(kept[:-1] if kept[-1:] == ["|"] else kept)
        assert found[number] == (f",{wanted}," if wanted else None), text


@pytest.mark.usefixtures("compiled")
def test_dates_and_numbers_with_a_type_say_what_their_text_says(spark: SparkSession) -> None:
    days = ["2021-04-01", "2021-03-31", "1800-01-01", "1801-01-01", "1600-01-01", "1582-10-15", "9999-12-31", None]
    numbers = [45, 0, 7001, -1, 999, 2**31 - 1, None, 3]
    cases = list(zip(range(len(days) + 1), [*days, "2021-12-31"], [*numbers, 1], strict=True))
    text = small_frame(spark, cases, "id int, day string, number int").withColumn(
        "number", F.col("number").cast("string")
    )
    # The last date is of a year with five digits, which no text can state.
    far = F.date_add(F.col("day").cast("date"), 365 * 9000)
    typed = text.withColumns(
        {
            "day": F.when(F.col("id") == len(days), far).otherwise(F.col("day").cast("date")),
            "number": F.col("number").cast("int"),
        }
    )
    as_text = typed.withColumns({"day": F.col("day").cast("string"), "number": F.col("number").cast("string")})
    kinds = {"day": "day", "number": "number"}
    found, wanted = (
        sorted(clean(frame, kinds, unread=["day"]).collect(), key=lambda row: row["id"]) for frame in (typed, as_text)
    )
    assert found == wanted
    assert [row["cleaned"] for row in found] == [[], [], *[["day:sentinel"]] * 5, [], ["day:not_a_date"]]
    assert [row["unread_day"] for row in found][-2:] == [False, True]


HES_CODES = [
    ("E119", "E119"),
    (" e11.9 ", "E119"),
    ("I10X", "I10X"),
    ("C61XD", "C61X"),
    ("M5459", "M5459"),
    ("M5459A", "M5459"),
    ("E119D", "E119"),
    ("E14-", "E14"),
    ("V382", "V382"),
    ("-", None),
    ("-   ", None),
    ("&", None),
    ("NULL", None),
    ("", None),
    (None, None),
]
# (year as a source states it, what a bare year means, label)
YEAR_TEXTS = [
    ("2021-22", None, "2021-22"),
    ("2021/22", None, "2021-22"),
    ("202122", None, "2021-22"),
    ("2021-2022", None, "2021-22"),
    (" 2122 ", None, "2021-22"),
    ("9900", None, "1999-00"),
    ("910", None, "2009-10"),  # a number
    ("2122.0", None, "2021-22"),
    ("202122.0", None, "2021-22"),
    ("911", None, None),
    ("2021", None, "2020-21"),
    ("2021", "starts", "2020-21"),
    ("2019", None, None),
    ("2019", "starts", "2019-20"),
    ("2019", "ends", "2018-19"),
    ("2021-23", None, None),
    ("21", None, None),
    ("NULL", None, None),
    (None, None, None),
]
# (day, label)
YEAR_DAYS = [
    (date(2021, 3, 31), "2020-21"),
    (date(2021, 4, 1), "2021-22"),
    (date(1999, 12, 31), "1999-00"),
    (date(2099, 4, 1), "2099-00"),
    (None, None),
]
# (first age, fall-back, as the SQL sees it, in years)
AGES = [
    (45, 50, 45, 45),
    (None, 50, 50, 50),
    (None, None, None, None),
    (7001, 45, 7001, 0),
    (121, 45, 121, None),
    (120, None, 120, 120),
    (-1, 45, -1, None),
    (0, None, 0, 0),
]


@pytest.mark.usefixtures("compiled")
def test_codes_years_and_ages(spark: SparkSession) -> None:
    codes = small_frame(spark, HES_CODES, "raw string, expected string")
    found = F.replace(as_codes(bare_codes(F.array("raw"), F.lit(None))), F.lit(","), F.lit(""))
    assert [tuple(row) for row in codes.select("raw", found).collect()] == HES_CODES

    stated = small_frame(spark, YEAR_TEXTS, "raw string, bare string, expected string")
    of_text = {bare: year_of_start(start_of_digits(digits_of_year("raw"), bare)) for bare in (None, "starts", "ends")}
    by_meaning = {bare: F.expr(of_text[bare]) for bare in ("starts", "ends")}
    label = F.when(F.col("bare").isNull(), F.expr(of_text[None]))
    for bare, column in by_meaning.items():
        label = label.when(F.col("bare") == bare, column)
    assert [tuple(row) for row in stated.select("raw", "bare", label).collect()] == YEAR_TEXTS

    days = small_frame(spark, YEAR_DAYS, "day date, expected string")
    assert [tuple(row) for row in days.select("day", F.expr(year_of_date("day"))).collect()] == YEAR_DAYS

    ages = small_frame(spark, AGES, "first int, fallback int, seen int, years int")
    seen = age_seen("first", "fallback")
    found = ages.selectExpr("first", "fallback", seen, age_in_years(seen)).collect()
    assert [tuple(row) for row in found] == AGES


def hes_code(raw: str | None) -> str | None:
    """One cleaned HES code, by Python."""
    plain = "".join(letter for letter in (raw or "").upper() if not letter.isspace() and letter not in ".&-")
    if plain in ("", "NULL"):
        return None
    digits = plain[:1].isalpha() and plain[1:5].isdigit() and len(plain) >= 5
    return plain[:5] if digits or plain[:5] in ("R69X6", "R69X8") else plain[:4]


@pytest.mark.usefixtures("compiled")
def test_the_codes_of_a_row_are_cleaned_like_each_alone(spark: SparkSession) -> None:
    drawn = random.Random(3)
    kinds = [raw for raw, _ in HES_CODES] + [
        "null",
        " nu.ll ",
        "NULLX",
        "r69.x6",
        "R69X7",
        "M54",
        "4",
        "M545,M549",
        "\t",
        "--",
        ",",
        "é12",
        "Z12345",
    ]
    lists = [[drawn.choice(kinds) for _ in range(drawn.randint(1, 24))] for _ in range(3000)]
    rows = [(number, listed, None) for number, listed in enumerate(lists)]
    rows += [(3000, None, "M54.5,,-,NULL,e119 "), (3001, None, ",Z12"), (3002, None, None), (3003, [], None)]
    by_hand = {3000: (",M545,E119,", "M545"), 3001: (",Z12,", None), 3002: (None, None), 3003: (None, None)}

    frame = small_frame(spark, rows, "id int, listed array<string>, concat string")
    bare = frame.withColumn("bare", bare_codes(F.col("listed"), F.col("concat"))).withColumn(
        "codes", as_codes(F.col("bare"))
    )
    found = {
        row["id"]: (row["codes"], row["first"])
        for row in bare.select("id", "codes", first_code(F.col("bare"), F.col("codes")).alias("first")).collect()
    }
    for number, listed in enumerate(lists):
        codes = [code for code in map(hes_code, listed) if code]
        first = hes_code(listed[0])
        expected = f",{','.join(codes)}," if codes else None
        # A comma inside one column separates no codes, but the first code ends at it.
        assert found[number] == (expected, (first.partition(",")[0] or None) if first else None), listed
    assert {key: found[key] for key in by_hand} == by_hand


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("2021-22", ("2021-22",)),
        ("2021/22", ("2021-22",)),
        ("202122", ("2021-22",)),
        ("2122", ("2021-22",)),
        ("2021-2022", ("2021-22",)),
        ("2022-23,2020-21, 2022-23", ("2020-21", "2022-23")),
        ("2019-20..2021-22", ("2019-20", "2020-21", "2021-22")),
        ("1999-00", ("1999-00",)),
    ],
)
def test_years_of_a_call(text: str, years: tuple[str, ...]) -> None:
    assert parse_years(text) == years


@pytest.mark.parametrize("text", ["2021", "2021-23", "2021-22..2019-20", "2019", "", "lately", "2021..2022", "1980-81"])
def test_years_that_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_years(text)


# HES episodes and SUS+ attendances, ingested once

EPISODE = {
    "PROCODE3": "RXX", "CLASSPAT": "1", "ADMIMETH": "11", "ADMINCAT": "01", "STARTAGE": "45", "SEX": "1", "EPISTAT": "3",
    "EPIORDER": "1", "ADMIDATE": "2021-05-01", "EPISTART": "2021-05-01", "EPIEND": "2021-05-03", "DISDATE": "2021-05-03",
    "DISMETH": "1", "FYEAR": "2122", "DIAG_4_01": "M545", "OPERTN_4_01": "-",
}  # fmt: skip
EPISODE_COLUMNS = (
    "EPIKEY", "PSEUDO_HESID", "PROVSPNOPS", *EPISODE, "DIAG_4_02", "OPERTN_4_02", "ADMISORC", "DISDEST", "OPDATE_01",
)  # fmt: skip


def episode(key: str, person: str | None, spell: str | None, **changes: str | None) -> dict[str, str | None]:
    return EPISODE | {"EPIKEY": key, "PSEUDO_HESID": person, "PROVSPNOPS": spell} | changes


EARLIER_FILE = [
    # A spell over the turn of the year: its second episode is in the later file.
    episode("61", "P6", "S6", ADMIDATE="2021-03-20", EPISTART="2021-03-20", EPIEND="2021-03-29", DISDATE="1801-01-01",
            FYEAR="2021", DIAG_4_02="E119"),
]  # fmt: skip
LATER_FILE = [
    # The second episode comes first in the file; it has the operation.
    episode("12", "P1", "S1", EPIORDER="2", EPISTART="2021-05-02", STARTAGE="46", ADMIMETH="81", DIAG_4_01="M54.9",
            OPERTN_4_01="v382", OPERTN_4_02="Z063", DISMETH="4", DISDATE="2021-05-09", ADMISORC="52", DISDEST=" 79 ",
            OPDATE_01="2021-05-02"),
    episode("11", "P1", "S1", DIAG_4_02="E119", DISDATE=None, ADMISORC="51", DISDEST="98", OPDATE_01="2021-05-01"),
    # The operation's episode has no diagnosis in first place.
    episode("21", "P2", "S2"),
    episode("22", "P2", "S2", EPIORDER="2", EPISTART="2021-05-02", DIAG_4_01="-", DIAG_4_02="I10X", OPERTN_4_01="V384",
            OPDATE_01="1801-01-01"),
    # No operation at all.
    episode("31", "P3", "S3", DIAG_4_01="M549", OPDATE_01="2021-05-02"),
    # A regular attender: each attendance is a spell.
    episode("41", "P4", "S4", CLASSPAT="3"),
    episode("42", "P4", "S4", CLASSPAT="3", EPIORDER="2"),
    # No person: provider and spell number have to do.
    episode("51", None, "S5"),
    episode("52", None, "S5", EPIORDER="2", EPISTART="2021-05-02"),
    # The same number and person, another admission: another spell.
    episode("53", "P5", "S5"),
    episode("54", "P5", "S5", ADMIDATE="2021-07-01", EPISTART="2021-07-01"),
    episode("62", "P6", "S6", ADMIDATE="2021-03-20", EPIORDER="2", EPISTART="2021-03-29", DISDATE="2021-04-01"),
    # Its first episode is nowhere.
    episode("72", "P7", "S7", EPIORDER="2"),
    # An unfinished episode takes its spell with it.
    episode("81", "P8", "S8"),
    episode("82", "P8", "S8", EPIORDER="2", EPISTAT="1"),
    # No discharge; one that cannot be read.
    episode("91", "P9", "S9", DISDATE="1801-01-01"),
    episode("92", "P9", "S10", DISDATE="soon"),
    # The same row twice; one key with two contents and no extract date to tell which is newer.
    episode("A1", "PA", "SA"),
    episode("A1", "PA", "SA"),
    episode("B1", "PB", "SB"),
    episode("B1", "PB", "SB", STARTAGE="54"),
    # Of the same spell, in one row alone: what keeps the other from counting keeps the spell.
    episode("B2", "PB", "SB", EPIORDER="2", EPISTART="2021-05-02"),
    episode("", "PC", "SC"),
]  # fmt: skip

ATTENDANCE = {
    "Appointment_Date": "2021-05-01", "Age_at_Start_of_Episode_SUS": "45", "Administrative_Category": "01",
    "Der_Procedure_All": "U055", "Der_Financial_Year": "2021/22", "Extract_Date": "2022-01-01",
}  # fmt: skip
ATTENDANCE_COLUMNS = ("OPA_Ident", *ATTENDANCE, "Der_Diagnosis_All", "Remark")


def attendance(key: str, **changes: str | None) -> dict[str, str | None]:
    return ATTENDANCE | {"OPA_Ident": key} | changes


ATTENDANCES = [
    attendance("1"),
    # The newer of two extracts wins; identical but for the extract is one as well.
    attendance("2", Administrative_Category="02"),
    attendance("2", Extract_Date="2022-06-01", Administrative_Category="1"),
    attendance("3"),
    attendance("3", Extract_Date="2022-06-01"),
    # Two contents on the newest day.
    attendance("4", Extract_Date="2022-06-01"),
    attendance("4", Extract_Date="2022-06-01", Der_Procedure_All="U054"),
    # No date: the year column; neither: nothing.
    attendance("5", Appointment_Date=None),
    attendance("6", Appointment_Date="NULL", Der_Financial_Year=" "),
    # The date wins over the column; midnight of 1 April in summer time.
    attendance("7", Der_Financial_Year="2020-21"),
    attendance("8", Appointment_Date="2021-03-31T23:00:00Z"),
    # Of a year not asked for.
    attendance("9", Appointment_Date="2017-06-01", Der_Financial_Year="2017-18"),
    attendance("10", Age_at_Start_of_Episode_SUS="", Der_Diagnosis_All='say "M54.5", twice', Remark="é"),
    attendance("11", Appointment_Date="1801-01-01", Der_Financial_Year="", Remark='a "quoted", text'),
]


def write(path: Path, columns: Iterable[str], rows: list[dict[str, str | None]], *more: str) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file.writelines(f"{line}\n" for line in more)
    return str(path)


# Monthly extracts of HES beside one another: three of 60 spells are open at the end of the first one.
JUNE, JULY = {"EXTRACT_DATE": "2021-06-01", "LOADED": "1"}, {"EXTRACT_DATE": "2021-07-01", "LOADED": "2"}
STILL_OPEN = {"EPISTAT": "1", "EPIEND": "1801-01-01", "DISDATE": "1801-01-01"}
MONTHLY = [episode(f"M{n}", f"M{n}", f"M{n}") for n in range(60)]
# Under another person by then: the earlier state would be a spell of its own.
RENAMED = MONTHLY[2] | {"EPIKEY": "MX", "PROVSPNOPS": "MX"}
JUNE_FILE = [
    *(row | JUNE for row in MONTHLY[2:]),
    *(row | STILL_OPEN | JUNE for row in MONTHLY[:2]),
    RENAMED | {"PSEUDO_HESID": "old"} | STILL_OPEN | JUNE,
]
JULY_FILE = [*(row | JULY for row in MONTHLY), RENAMED | {"PSEUDO_HESID": "PX"} | JULY]
# The last episode in order was discharged before the first one, on the other side of 1 April.
TURN_FILE = [
    episode("T1", "PT", "ST", EPISTART="2021-03-01", DISDATE="2021-04-02"),
    episode("T2", "PT", "ST", EPISTART="2021-03-10", DISDATE="2021-03-30", EPIORDER="2", DISMETH="4"),
]
EXTRACT_COLUMNS = (*EPISODE_COLUMNS, "EXTRACT_DATE", "LOADED")


def stay(key: str, days: int, **changes: str) -> dict[str, str | None]:
    """A spell of SUS+ with a column that nothing reads."""
    return {**source_rows.spell(key, **changes), "Der_Spell_LoS": str(days)}


EARLY, LATE = {"Extract_Date": "2022-01-01"}, {"Extract_Date": "2022-02-01"}
STAYS = [
    stay("1", 3), stay("1", 4),  # in a column that nothing reads
    stay("2", 3), stay("2", 3, Der_Diagnosis_All=" m54.5 "),  # written otherwise
    stay("3", 3), stay("3", 3, Admission_Method="12"),  # another record
    stay("4", 3), stay("4", 4), stay("4", 3, Admission_Method="12"),  # the same, one of them twice
    stay("5", 3, Discharge_Date="", **EARLY), stay("5", 3, **LATE),  # superseded: not "undischarged"
    stay("6", 3, Discharge_Date=""), stay("6", 4, Discharge_Date=""),  # quarantined once
    # Two contents of the latest extract; what is older counts no more.
    stay("7", 3, Discharge_Date="", **EARLY), stay("7", 3, **LATE), stay("7", 3, Admission_Method="12", **LATE),
    # A copied; B contradicts itself, in two years.
    stay("A", 3), stay("A", 3), stay("B", 3, Discharge_Date="2022-06-01"), stay("B", 3), stay("C", 3, Discharge_Date="2022-06-01"),
]  # fmt: skip
DERIVED = [
    source_rows.derived(key, **changes) | {"Spell_Secondary_Diagnosis": other}
    for key, changes, other in [
        ("1", {}, "E119"),
        ("1", {}, "Z999"),
        ("2", {}, ""),
        ("2", {"Spell_Dominant_Procedure": "v38.2"}, ""),
        ("5", {}, ""),
        ("5", {"Spell_Primary_Diagnosis": "M549"}, ""),
        ("A", {}, ""),
        ("B", {"Spell_Dominant_Procedure": "V384"}, ""),
        ("B", {"Spell_Dominant_Procedure": "V385"}, ""),
        ("C", {"Spell_Dominant_Procedure": "W371"}, ""),
        ("C", {"Spell_Dominant_Procedure": "W371"}, ""),
        ("D", {}, ""),
    ]
]


def with_types(row: dict[str, str | None]) -> dict[str, Any]:
    """A spell as a table with types has it."""
    read: dict[str, Callable[[str], Any]] = {"Age_At_Start_of_Spell_SUS": int}
    read |= dict.fromkeys(("Discharge_Date", "Admission_Date", "Extract_Date"), date.fromisoformat)
    return {name: read.get(name, str)(value) if value else None for name, value in row.items()}


@dataclass
class Ingested:
    """What the lake has: HES spells by file and key, the attendances and SUS+ spells by key, and the other rows."""

    episodes: dict[str, dict[str, dict[str, Any]]]
    stays: dict[str, dict[str, Any]]
    attendances: dict[str, dict[str, Any]]
    quarantine: list[dict[str, Any]]
    audit: dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=[duplicates.FEW_KEYS, 0], ids=["few repeated keys", "too many to bring along"])
def ingested(
    request: pytest.FixtureRequest, spark: SparkSession, empty_lake: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ingested]:  # fmt: skip
    folder = tmp_path_factory.mktemp("records")
    too_long = ",".join(["Z1", *["x"] * (len(EXTRACT_COLUMNS) + 2)])
    apc = (
        write(folder / "apc_2021.csv", EXTRACT_COLUMNS, EARLIER_FILE),
        write(folder / "apc_2122.csv", EXTRACT_COLUMNS, LATER_FILE, too_long),
        write(folder / "june.csv", EXTRACT_COLUMNS, JUNE_FILE),
        write(folder / "july.csv", EXTRACT_COLUMNS, JULY_FILE),
        write(folder / "turn.csv", EXTRACT_COLUMNS, TURN_FILE),
    )
    seen = write(folder / "opa.csv", ATTENDANCE_COLUMNS, ATTENDANCES)
    stays = spark.createDataFrame(pa.Table.from_pylist([with_types(row) for row in STAYS]))
    stays.coalesce(1).write.format("delta").save(str(folder / "apcs"))
    der = write(folder / "der.csv", (*source_rows.DER, "Spell_Secondary_Diagnosis"), DERIVED)
    tables = {"opa": seen, "apcs": str(folder / "apcs"), "apcs_der": der}
    config = RunConfig(
        lake=LakeLocation(folder=empty_lake(folder / "lake")),
        sources=(
            Source("hes", "hes", {"apc": TableSource("apc", apc)}),
            Source("sus", "sus_plus", {role: TableSource(role, (path,)) for role, path in tables.items()}),
        ),
        years=("2021-22", "2022-23"),
        max_quarantine_share=1.0,
    )
    lake = Lake(spark, config.lake, "test-run")
    # A job of more rows compiles its queries: so does one of the two.
    with pytest.MonkeyPatch.context() as patch, with_settings(spark, {} if request.param else COMPILED):
        patch.setattr(duplicates, "FEW_KEYS", request.param)
        ingest(lake, config)

    def rows(table: Table) -> list[dict[str, Any]]:
        return rows_of(lake, table)

    spells = rows(APC_SPELL)
    episodes: dict[str, dict[str, dict[str, Any]]] = {}
    for row in spells:
        if row["source_system"] == "hes":
            episodes.setdefault(Path(row["source_file"]).name, {})[row["record_id"]] = row
    audit: dict[str, dict[str, Any]] = {}
    for row in rows(INGEST_AUDIT):
        name = row["role"] if row["role"].startswith("apcs") else Path(row["source_file"]).name
        assert name not in audit
        audit[name] = row
    yield Ingested(
        episodes=episodes,
        stays={row["record_id"]: row for row in spells if row["source_system"] == "sus_plus"},
        attendances={row["record_id"]: row for row in rows(OP_ATTENDANCE)},
        quarantine=rows(QUARANTINE),
        audit=audit,
    )


SPELLS = {
    # first episode's key: what the spell must say
    "11": {
        "episodes": 2, "dominant_procedure": "V382", "dominant_procedure_4": "V382", "primary_diagnosis": "M549",
        "dominance_basis": "hes_first_operation", "diagnosis_codes": ",M545,E119,|,M549,",
        "procedure_codes": ",V382,Z063,", "admission_method": "11", "age": 45, "discharge_method": "4",
        "discharge_date": date(2021, 5, 9), "incomplete_spell": False, "admission_source": "51",
        "discharge_destination": "79", "procedure_date": date(2021, 5, 2), "provider_spell_number": "S1",
    },
    "21": {
        "episodes": 2, "dominant_procedure": "V384", "primary_diagnosis": "M545",
        "dominance_basis": "hes_first_operation_diagnosis_of_first_episode", "diagnosis_codes": ",M545,|,I10X,",
        "procedure_date": None, "admission_source": None, "discharge_destination": None,
    },
    "31": {
        "episodes": 1, "dominant_procedure": None, "primary_diagnosis": "M549", "dominance_basis": "hes_no_operation",
        "procedure_codes": None, "procedure_date": None,
    },
    "41": {"episodes": 1, "patient_classification": "3"},
    "42": {"episodes": 1},
    "51": {"episodes": 2, "person_id": None},
    "53": {"episodes": 1},
    "54": {"episodes": 1},
    "61": {
        "episodes": 2, "financial_year": "2021-22", "discharge_date": date(2021, 4, 1), "incomplete_spell": False,
        "admission_date": date(2021, 3, 20), "diagnosis_codes": ",M545,E119,|,M545,",
    },
    "72": {"episodes": 1, "incomplete_spell": True},
    "A1": {"episodes": 1},
}  # fmt: skip


def test_spells_are_built_from_episodes(ingested: Ingested) -> None:
    spells = ingested.episodes["apc_2122.csv"] | ingested.episodes.get("apc_2021.csv", {})
    assert set(spells) == set(SPELLS)
    for key, expected in SPELLS.items():
        spell = spells[key]
        assert {name: spell[name] for name in expected} == expected, key
        assert (spell["source_system"], spell["dataset"]) == ("hes", "apc")


def test_attendances_and_their_years(ingested: Ingested) -> None:
    assert set(ingested.attendances) == {"1", "2", "3", "5", "7", "8", "10"}
    assert {row["financial_year"] for row in ingested.attendances.values()} == {"2021-22"}
    assert ingested.attendances["2"]["administrative_category"] == "01"  # of the newer extract
    assert ingested.attendances["5"]["activity_date"] is None
    assert ingested.attendances["8"]["activity_date"] == date(2021, 4, 1)
    assert ingested.attendances["10"]["age"] is None
    assert "administrative_category:one_digit" in ingested.attendances["2"]["cleaned"]


def test_what_is_set_aside_says_why_and_keeps_the_row(ingested: Ingested) -> None:
    quarantined = [row for row in ingested.quarantine if row["role"] in ("apc", "opa")]
    why = sorted((row["role"], row["record_id"] or "", *row["reasons"]) for row in quarantined)
    assert why == [
        ("apc", "", "no_key"),
        ("apc", "81", "unfinished"),
        ("apc", "82", "unfinished"),
        ("apc", "91", "undischarged"),
        ("apc", "92", "no_usable_date"),
        ("apc", "B1", "conflicting_duplicate"),
        ("apc", "B1", "conflicting_duplicate"),
        ("apc", "B2", "conflicting_duplicate"),
        ("apc", "Z1", "corrupt_line"),
        ("opa", "11", "no_usable_date"),
        ("opa", "4", "conflicting_duplicate"),
        ("opa", "4", "conflicting_duplicate"),
        ("opa", "6", "no_usable_date"),
    ]
    raw = {(row["record_id"], row["financial_year"]): row["raw"] for row in ingested.quarantine}
    assert json.loads(raw["92", "2021-22"]) == {
        name: value or None for name, value in {**dict.fromkeys(EXTRACT_COLUMNS), **LATER_FILE[-7]}.items()
    }
    assert json.loads(raw["11", "unknown"])["REMARK"] == 'a "quoted", text'
    assert all(isinstance(json.loads(row["raw"]), dict) for row in ingested.quarantine)
    line = json.loads(next(row["raw"] for row in ingested.quarantine if row["reasons"] == ["corrupt_line"]))["line"]
    assert line.startswith("Z1,x,") and line.count(",") == len(EXTRACT_COLUMNS) + 2


def test_every_row_read_is_accounted_for(ingested: Ingested) -> None:
    counts = ("rows_read", "rows_valid", "rows_quarantined", "rows_duplicate", "rows_outside_years", "records_built")
    found = {name: tuple(row[count] for count in counts) for name, row in ingested.audit.items()}
    assert found == {
        "apc_2021.csv": (1, 1, 0, 0, 0, 0),
        "apc_2122.csv": (len(LATER_FILE) + 1, 14, 9, 1, 0, 11),
        "june.csv": (61, 0, 0, 61, 0, 0),
        "july.csv": (61, 61, 0, 0, 0, 61),
        "turn.csv": (2, 2, 0, 0, 0, 1),
        "opa.csv": (len(ATTENDANCES), 7, 4, 2, 1, 7),
        "apcs": (21, 5, 9, 7, 0, 5),
        "apcs_der": (12, 4, 5, 3, 0, 0),
    }
    for read, *parts, _ in found.values():
        assert read == sum(parts)
    assert ingested.audit["opa.csv"]["year_disagrees"] == 1
    assert ingested.audit["opa.csv"]["columns_extra"] == ["REMARK"]
    assert ingested.audit["apc_2122.csv"]["reasons"] == {
        "no_key": 1, "unfinished": 2, "undischarged": 1, "no_usable_date": 1, "conflicting_duplicate": 3,
        "corrupt_line": 1,
    }  # fmt: skip


def test_a_spell_that_a_later_extract_finishes_counts_once(ingested: Ingested) -> None:
    assert ingested.episodes["july.csv"].keys() == {row["EPIKEY"] for row in JULY_FILE}
    assert "june.csv" not in ingested.episodes
    # What a later extract says once more differs in nothing but the time when it was loaded.
    assert (
        ingested.audit["june.csv"]["rows_differing_elsewhere"],
        ingested.audit["july.csv"]["rows_differing_elsewhere"],
    ) == (58, 0)
    assert not [row for row in ingested.quarantine if (row["record_id"] or "").startswith("M")]


def test_copies_are_compared_by_what_a_record_takes_from_them(ingested: Ingested) -> None:
    in_lake = [
        (key, row["financial_year"], row["admission_method"], row["dominant_procedure"])
        for key, row in sorted(ingested.stays.items())
    ]
    assert in_lake == [
        ("1", "2021-22", "11", "V382"), ("2", "2021-22", "11", "V382"), ("5", "2021-22", "11", None),
        ("A", "2021-22", "11", "V382"), ("C", "2022-23", "11", "W371"),
    ]  # fmt: skip
    quarantined = [
        (row["role"], row["record_id"], row["financial_year"], ",".join(row["reasons"]))
        for row in ingested.quarantine
        if row["role"].startswith("apcs")
    ]
    conflict, year = "conflicting_duplicate", "2021-22"
    assert sorted((role, key, why) for role, key, _, why in quarantined if key.isdigit()) == [
        ("apcs", "3", conflict), ("apcs", "3", conflict), ("apcs", "4", conflict), ("apcs", "4", conflict),
        ("apcs", "6", "undischarged"), ("apcs", "7", conflict), ("apcs", "7", conflict),
        ("apcs_der", "5", conflict), ("apcs_der", "5", conflict),
    ]  # fmt: skip
    assert sorted(row for row in quarantined if not row[1].isdigit()) == [
        ("apcs", "B", year, conflict),
        ("apcs", "B", "2022-23", conflict),
        ("apcs_der", "B", year, conflict),  # the earlier of its spell's years
        ("apcs_der", "B", year, conflict),
        ("apcs_der", "D", "unknown", "no_spell"),
    ]
    assert {role: ingested.audit[role]["rows_differing_elsewhere"] for role in ("apcs", "apcs_der")} == {
        "apcs": 4,
        "apcs_der": 2,
    }


def test_the_latest_discharge_of_a_spell_is_its_date_and_decides_its_year(ingested: Ingested) -> None:
    (spell,) = ingested.episodes["turn.csv"].values()
    found = (spell["financial_year"], spell["activity_date"], spell["discharge_method"], spell["episodes"])
    assert found == ("2021-22", date(2021, 4, 2), "4", 2)


def test_all_that_a_spell_takes_from_an_episode_is_compared() -> None:
    taken = {*hes._FROM_FIRST, "discharge_date", "discharge_method", "diagnosis_codes", "procedure_codes",
             "discharge_destination", "procedure_date"}  # fmt: skip
    assert taken <= {*hes.EPISODE_VALUES}
    # Without its episode's value, a column of a spell would be NULL throughout.
    assert {*layouts()["apc"].columns} & {*APC_SPELL.names()} - {"extract_date"} <= taken


@pytest.mark.parametrize(
    ("role", "table", "parsed"),
    [
        ("apcs", APC_SPELL, {*column_kinds.SPELL_KINDS, *column_kinds.SPELL_DAYS}),
        ("apc", APC_SPELL, {*column_kinds.EPISODE_KINDS, *column_kinds.SPELL_DAYS}),
        ("opa", OP_ATTENDANCE, {*column_kinds.ATTENDANCE_KINDS}),
        ("op", OP_ATTENDANCE, {*column_kinds.ATTENDANCE_KINDS}),
    ],
)
def test_every_column_of_a_record_is_cleaned(role: str, table: Table, parsed: set[str]) -> None:
    columns = {*layouts()[role].columns}
    parsed = {*column_kinds.RECORD_KINDS, *parsed}
    assert parsed <= columns
    looked_up = {*column_kinds.ALTERNATIVES} | ({*column_kinds.SPELL_DETAILS} if table is APC_SPELL else set())
    assert columns & {*table.names()} <= parsed | looked_up | {*column_kinds.CODE_KINDS}


# (as the source has them) → (as silver has them): source of admission, destination on discharge, spell number, procedure date
DETAILS: list[tuple[tuple[str | None, ...], tuple[Any, ...]]] = [
    (("19", " 51", " S001 ", "2022-09-02"), ("19", "51", "S001", date(2022, 9, 2))),
    (("", "NULL", "null", "02/09/2022"), (None, None, None, date(2022, 9, 2))),
    (("3", "2B", "1", "1900-01-01"), ("3", "2B", "1", None)),
    ((None, None, None, "soon"), (None, None, None, None)),
    ((None, None, None, None), (None, None, None, None)),
]


def test_details_of_a_spell_that_only_monitoring_reads(spark: SparkSession) -> None:
    names = (*column_kinds.SPELL_DETAILS, *column_kinds.SPELL_DAYS)
    kinds = column_kinds.RECORD_KINDS | column_kinds.CODE_KINDS | column_kinds.SPELL_KINDS
    columns = dict.fromkeys((*kinds, *names, "year_text", "corrupt"), "string") | {"conflict": "boolean"}
    schema = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    rows = [
        {"record_id": str(n), "conflict": False} | dict(zip(names, raw, strict=True))
        for n, (raw, _) in enumerate(DETAILS)
    ]
    classified = sus_plus.classify_spells(small_frame(spark, rows, schema), WINDOW, None)
    found = classified.select("record_id", *names).collect()
    assert {int(row[0]): tuple(row[1:]) for row in found} == {n: wanted for n, (_, wanted) in enumerate(DETAILS)}


# Clauses: (what differs from a record that is flagged, reading, failed clauses, missing clauses); None: not in scope

FUSION = {
    "source_system": "sus_plus", "dataset": "apc", "financial_year": "2022-23", "activity_date": date(2022, 9, 3),
    "admission_date": date(2022, 9, 1), "dominant_procedure": "V382", "dominant_procedure_4": "V382",
    "primary_diagnosis": "M545", "diagnosis_codes": ",M545,E119,", "procedure_codes": ",V382,", "age": 45,
    "age_years": 45, "admission_method": "11", "administrative_category": "01",
}  # fmt: skip
IMAGING = {
    "source_system": "sus_plus", "dataset": "op", "financial_year": "2023-24", "activity_date": date(2024, 1, 3),
    "diagnosis_codes": ",M545,", "procedure_codes": ",U133,Z665,", "age": 45, "age_years": 45,
    "administrative_category": "01",
}  # fmt: skip
PUBLISHED, INTENDED, CODED = "as_published", "as_intended", "guidance_coded"
Verdict = tuple[dict[str, Any], str, list[str] | None, list[str]]

FUSION_CASES: list[Verdict] = [
    ({}, PUBLISHED, [], []),
    ({}, INTENDED, [], []),
    ({}, CODED, [], []),
    ({"dominant_procedure": "V387", "dominant_procedure_4": "V387"}, PUBLISHED, None, []),
    ({"dominant_procedure": None, "dominant_procedure_4": None}, PUBLISHED, None, []),
    ({"dominant_procedure": "V404D", "dominant_procedure_4": "V404"}, PUBLISHED, [], []),
    # The cancer clause lets a NULL list through, the bare NOT LIKE drops it.
    ({"diagnosis_codes": None}, PUBLISHED, ["deformity"], ["deformity", "global_cancer"]),
    ({"diagnosis_codes": None}, INTENDED, [], ["deformity", "global_cancer"]),
    ({"primary_diagnosis": None}, INTENDED, ["primary_diagnosis"], ["primary_diagnosis"]),
    ({"primary_diagnosis": "M546"}, PUBLISHED, ["primary_diagnosis"], []),
    ({"admission_method": None}, PUBLISHED, ["non_elective"], ["non_elective"]),
    ({"admission_method": None}, INTENDED, ["non_elective"], ["non_elective"]),
    ({"admission_method": "31"}, PUBLISHED, [], []),
    ({"admission_method": "31"}, INTENDED, ["non_elective"], []),
    ({"admission_method": "2A"}, PUBLISHED, ["non_elective"], []),
    ({"administrative_category": None}, PUBLISHED, ["private_patient"], ["private_patient"]),
    ({"administrative_category": "02"}, PUBLISHED, ["private_patient"], []),
    ({"administrative_category": "03"}, PUBLISHED, [], []),
    ({"age": 18, "age_years": 18}, PUBLISHED, ["age"], []),
    ({"age": 19, "age_years": 19}, PUBLISHED, [], []),
    ({"age": 121, "age_years": None}, PUBLISHED, ["age"], []),
    ({"age": 121, "age_years": None}, INTENDED, ["age"], ["age"]),
    ({"age": None, "age_years": None}, PUBLISHED, ["age"], ["age"]),
    ({"diagnosis_codes": ",M545,|,M401,C349,"}, PUBLISHED, ["deformity", "global_cancer"], []),
    ({"diagnosis_codes": ",M545,C7A0,D49X,D50X,M403,M416,"}, PUBLISHED, [], []),
    ({"diagnosis_codes": ",M545,M461,"}, INTENDED, [], []),
    ({"diagnosis_codes": ",M545,M461,"}, CODED, ["inflammatory", "sacroiliac"], []),
    ({"diagnosis_codes": ",M545,M532,"}, CODED, ["instability"], []),
]  # fmt: skip
IMAGING_CASES: list[Verdict] = [
    ({}, PUBLISHED, [], []),
    ({}, INTENDED, [], []),
    ({"procedure_codes": None}, INTENDED, None, []),
    ({"procedure_codes": ",U133,"}, INTENDED, None, []),
    ({"procedure_codes": ",Z665,"}, INTENDED, None, []),
    ({"procedure_codes": ",U054,"}, INTENDED, [], []),
    # The site must come after the code that it belongs to.
    ({"procedure_codes": ",Z665,U133,"}, PUBLISHED, [], []),
    ({"procedure_codes": ",Z665,U133,"}, INTENDED, ["site_after_imaging"], []),
    ({"procedure_codes": ",Z665,U133,O162,"}, INTENDED, [], []),
    ({"procedure_codes": ",U133,Y981,|,Z665,"}, INTENDED, [], []),
    ({"procedure_codes": ",O162,U217,|,U055,"}, INTENDED, [], []),
    ({"diagnosis_codes": None}, PUBLISHED, ["global_cancer"], ["global_cancer"]),
    ({"diagnosis_codes": None}, INTENDED, [], ["global_cancer"]),
    ({"diagnosis_codes": ",D059,"}, INTENDED, ["global_cancer"], []),
    ({"age": 18, "age_years": 18, "administrative_category": None}, INTENDED, ["age", "private_patient"], ["private_patient"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "table", "base", "cases"),
    [
        ("2Y_back_pain_fusion", APC_SPELL, FUSION, FUSION_CASES),
        ("2S_lower_back_imaging", OP_ATTENDANCE, IMAGING, IMAGING_CASES),
    ],
)
@pytest.mark.usefixtures("compiled")
def test_clauses_in_three_valued_logic(
    spark: SparkSession, policy: str, table: Any, base: dict[str, Any], cases: list[Verdict]
) -> None:
    records = small_frame(
        spark, [base | change | {"record_id": str(number)} for number, (change, *_) in enumerate(cases)], table.schema
    )
    chosen = revision_periods(load_policies(only=[policy]), RunConfig(lake=LakeLocation()))
    nowhere = Lookups(practices=None, lsoas=None, known_codes=(), order=("commissioner",))
    applied = apply_policies(records, base["dataset"], chosen, nowhere).collect()
    flags = {(int(row["record_id"]), row["reading"]): row for row in applied}
    assert len(flags) == len(applied)
    for number, (change, reading, failed, missing) in enumerate(cases):
        row = flags.get((number, reading))
        if failed is None:
            assert row is None, change
            continue
        assert row is not None, change
        found = (row["failed_clauses"], row["missing_clauses"], row["outcome"], row["near_miss"])
        outcome = "not_flagged" if failed else "flagged"
        assert found == (failed, missing, outcome, len(failed) == 1), (change, reading)
