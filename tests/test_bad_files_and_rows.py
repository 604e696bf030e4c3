"""One of every bad row and bad file that ``docs/bad-input.md`` lists: each gets what the page says, and the page lists no
other."""

import bz2
import gzip
import io
import json
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from calling import bad_input_page, call, rows_of
from calling import ingest as ingested
from pyspark.sql import SparkSession

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.errors import InputError
from ebi_spark.lake.storage import Lake
from ebi_spark.records import plan
from ebi_spark.records import write_batch as canonical
from ebi_spark.sources import text_scan
from ebi_spark.sources.reader import read_sources
from ebi_spark.tables.silver import APC_SPELL, QUARANTINE
from jobs import ingest

COLUMNS = [
    "APCS_Ident", "Der_Provider_Code", "Note", "Sex", "Administrative_Category", "Der_Diagnosis_All", "Der_Procedure_All",
    "Der_Financial_Year", "Age_At_Start_of_Spell_SUS", "Admission_Method", "Discharge_Date",
    "Extract_Date", "Remark",
]  # fmt: skip
HEADER = ",".join(COLUMNS).encode()
USUAL = {
    "Note": b"", "Sex": b"1", "Administrative_Category": b"01", "Der_Diagnosis_All": b'"||M545 ,I10X"',
    "Der_Procedure_All": b'"||V382"', "Der_Financial_Year": b"2021-22", "Age_At_Start_of_Spell_SUS": b"45",
    "Admission_Method": b"11", "Discharge_Date": b"2021-05-03", "Extract_Date": b"2022-05-31",
    "Remark": b"-",
}  # fmt: skip
BIG = b"x" * 5_000_000


def line(number: int, **changes: bytes) -> bytes:
    """A line of spells; its provider tells it apart wherever it goes."""
    cells = {"APCS_Ident": b"%d" % number, "Der_Provider_Code": b"RX%03d" % number} | USUAL | changes
    return b",".join(cells[name] for name in COLUMNS)


# Case → the line or lines for a key
Lines = Callable[[int], bytes]
SPELLS: dict[str, Lines] = {
    "as it should be": line,
    "with a quote in the middle of a field": lambda n: line(n, Note=b'5" nail'),
    "with doubled quotes in a quoted field": lambda n: line(n, Note=b'"a ""b"" c"'),
    "with a backslash before a quote": lambda n: line(n, Note=b'"a\\"b"'),
    "with a quote that opens a field and is never closed": lambda n: line(
        n, Sex=b'"1', Der_Diagnosis_All=b"M545", Der_Procedure_All=b"V382"
    ),
    # Taken to the next delimiter, the comma in the list makes up for the one that is lost: as many fields, all shifted.
    "with such a quote before a quoted field": lambda n: line(n, Administrative_Category=b'"01'),
    "with text after a closing quote": lambda n: line(n, Note=b'"a"b'),
    "with a quote never closed in the last field": lambda n: line(n, Remark=b'"a'),
    "broken in two inside quotes": lambda n: line(n, Note=b'"a\nRX%03d b"' % n),
    "broken in two by a carriage return": lambda n: line(n, Note=b"a\rRX%03d b" % n),
    "with too few fields": lambda n: line(n).rsplit(b",", 2)[0],
    "with too many fields": lambda n: line(n) + b",x,y",
    "with 30,000 fields": lambda n: line(n) + b"," * 30_000,
    "with a delimiter at its end that the others do not have": lambda n: line(n) + b",",
    "of delimiters only": lambda n: b"," * (len(COLUMNS) - 1),
    "that repeats the header": lambda n: HEADER,
    "that repeats the header, in small letters after a byte order mark": lambda n: b"\xef\xbb\xbf" + HEADER.lower(),
    "after a byte order mark, in the middle of a file": lambda n: b"\xef\xbb\xbf" + line(n),
    "with a NUL byte in a read field": lambda n: line(n, Admission_Method=b"1\x001"),
    "with a NUL byte in another field": lambda n: line(n, Note=b"a\x00b"),
    "with a Latin-1 byte in a read field": lambda n: line(n, Sex=b"\xe9"),
    "with a Latin-1 byte in another field": lambda n: line(n, Note=b"caf\xe9"),
    "with 5 MB in a read field": lambda n: line(n, Der_Diagnosis_All=BIG),
    "with 5 MB in another field": lambda n: line(n, Note=BIG),
    "ended by CR LF among others ended by LF": lambda n: line(n) + b"\r",
    "that is blank": lambda n: b"",
    "of blanks and tabs": lambda n: b" \t  ",
    "of an end-of-file mark (Ctrl-Z)": lambda n: b"\x1a",
    "without a key": lambda n: line(n, APCS_Ident=b" "),
    "with the word NULL as its key": lambda n: line(n, APCS_Ident=b"NULL"),
    "without a discharge date": lambda n: line(n, Discharge_Date=b""),
    "with 1801-01-01 as its discharge date": lambda n: line(n, Discharge_Date=b"1801-01-01"),
    "with 9999-12-31 as its discharge date": lambda n: line(n, Discharge_Date=b"9999-12-31"),
    "with a discharge date in 2222": lambda n: line(n, Discharge_Date=b"2222-05-03"),
    "with a discharge date before the first day of its data set": lambda n: line(n, Discharge_Date=b"1995-05-03"),
    "with a discharge date that does not exist (30 February)": lambda n: line(n, Discharge_Date=b"2022-02-30"),
    "with a discharge date in words": lambda n: line(n, Discharge_Date=b"in May"),
    "with the day before the month": lambda n: line(n, Discharge_Date=b"03/05/2021"),
    "that appears twice": lambda n: line(n) + b"\n" + line(n),
    "that appears twice, different in a column that nothing reads": lambda n: line(n) + b"\n" + line(n, Note=b"other"),
    "that appears twice and cannot be used": lambda n: (
        line(n, Discharge_Date=b"") + b"\n" + line(n, Discharge_Date=b"")
    ),
    "that cannot be used, and that a later extract replaces": lambda n: (
        line(n, Discharge_Date=b"") + b"\n" + line(n, Extract_Date=b"2022-06-30")
    ),
    "whose key is also in another line, with other content": lambda n: line(n) + b"\n" + line(n, Sex=b"2"),
    "with a code that is in no code list": lambda n: line(n, Admission_Method=b"ZZ"),
    "with one digit of a two-digit code": lambda n: line(n, Administrative_Category=b"1"),
    "with blanks around its values": lambda n: line(n, Admission_Method=b" 11 "),
    "with an age in words": lambda n: line(n, Age_At_Start_of_Spell_SUS=b"forty"),
    "with an age of 250": lambda n: line(n, Age_At_Start_of_Spell_SUS=b"250"),
    "with a year column that disagrees with the date": lambda n: line(n, Der_Financial_Year=b"2019-20"),
}
DERIVED: dict[str, Lines] = {"of derived codes without a spell": lambda n: b"%d,V382,RX%03d" % (n, n)}
EPISODES: dict[str, Lines] = {
    "of an unfinished episode": lambda n: b"%d,RX%03d,S1,1,2021-05-01,2021-05-03,11,01,45,M545,-,1" % (n, n)
}
EPISODE_HEADER = (
    b"EPIKEY,PROCODE3,PROVSPNOPS,EPIORDER,EPISTART,DISDATE,ADMIMETH,ADMINCAT,STARTAGE,DIAG_4_01,OPERTN_4_01,EPISTAT,"
    b"ADMIDATE\n"
)
CASES = [*SPELLS, *DERIVED, *EPISODES]
NUMBER = {case: 100 + at for at, case in enumerate(CASES)}
# Lines that cannot bear a mark, by what the quarantine keeps of them; a file has one line of the kind.
UNMARKED = {
    "of delimiters only": '"DER_PROVIDER_CODE":null',
    "that repeats the header": '"APCS_IDENT":"APCS_Ident"',
    "that repeats the header, in small letters after a byte order mark": '"APCS_IDENT":"\ufeffapcs_ident"',
}  # fmt: skip
# What a record must say, besides being one
TOLD: dict[str, dict[str, Any]] = {
    "with a code that is in no code list": {"admission_method": "ZZ"},
    "with one digit of a two-digit code": {
        "administrative_category": "01", "cleaned": ["administrative_category:one_digit"],
    },
    "with blanks around its values": {"admission_method": "11", "cleaned": ["admission_method:padding"]},
    "with an age in words": {"age": None, "cleaned": ["age:not_a_number"]},
    "with an age of 250": {"age": 250, "age_years": None, "cleaned": []},
    "with a year column that disagrees with the date": {"financial_year": "2021-22"},
    "with the day before the month": {"discharge_date": date(2021, 5, 3)},
    "with a quote never closed in the last field": {"discharge_date": date(2021, 5, 3)},
    "ended by CR LF among others ended by LF": {"discharge_date": date(2021, 5, 3)},
}  # fmt: skip


def sources(folder: Path, apcs: TableSource | None = None, **tables: TableSource) -> RunConfig:
    """A configuration with the spells of a folder, or of other files."""
    der = TableSource("apcs_der", (str(folder / "der.csv"),))
    spells = apcs or TableSource("apcs", (str(folder / "apcs.csv"),))
    found = [Source("admitted", "sus_plus", {"apcs": spells, "apcs_der": der})]
    found += [Source(role, "hes", {role: table}) for role, table in tables.items()]
    return RunConfig(
        lake=LakeLocation(folder=folder / "lake"), sources=tuple(found), max_quarantine_share=1.0, max_columns=2000
    )


@pytest.fixture(scope="module")
def fates(
    spark: SparkSession, empty_lake: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """All bad rows in one ingest: what became of each."""
    folder = tmp_path_factory.mktemp("rows")
    rows = [lines(NUMBER[case]) for case, lines in SPELLS.items()]
    (folder / "apcs.csv").write_bytes(HEADER + b"\n" + b"\n".join(rows) + b"\n")
    derived = b"\n".join(lines(NUMBER[case]) for case, lines in DERIVED.items())
    (folder / "der.csv").write_bytes(b"APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis\n" + derived)
    episodes = b"\n".join(lines(NUMBER[case]) + b",2021-05-01" for case, lines in EPISODES.items())
    (folder / "apc.csv").write_bytes(EPISODE_HEADER + episodes)
    config = sources(folder, apc=TableSource("apc", (str(folder / "apc.csv"),)))
    empty_lake(folder / "lake")
    lake = Lake(spark, config.lake, "test-run")
    done = ingested(lake, config)
    records = {row["provider_code"]: row for row in rows_of(lake, APC_SPELL)}
    quarantined = [(row["raw"], row["reasons"]) for row in rows_of(lake, QUARANTINE)]
    return {"records": records, "quarantined": quarantined, "done": done}


def test_the_page_lists_these_rows_and_no_others() -> None:
    assert list(bad_input_page("Rows of text files")) == CASES


@pytest.mark.parametrize("case", CASES)
def test_a_bad_row(case: str, fates: dict[str, Any]) -> None:
    gets = bad_input_page("Rows of text files")[case]
    mark = f"RX{NUMBER[case]:03d}"
    record = fates["records"].get(mark)
    # The whole line or the whole row is kept, whatever is wrong with it.
    seen = UNMARKED.get(case, mark)
    reasons = [why for raw, why in fates["quarantined"] if seen in raw]
    if gets.startswith("record"):
        assert record is not None and not reasons, reasons
        assert {name: record[name] for name in TOLD.get(case, {})} == TOLD.get(case, {})
        return
    assert record is None
    if gets == "no row":
        assert not reasons
        return
    reason = re.findall(r"`(\w+)`", gets.split(":")[0])
    halves = 2 if ", both" in gets else 1
    assert reasons == [reason] * halves


def test_every_line_but_the_blank_ones_is_accounted_for(fates: dict[str, Any]) -> None:
    expected = bad_input_page("Rows of text files")
    lines = sum(gets != "no row" for gets in expected.values())
    once = sum(gets.endswith("once") for gets in expected.values())
    lines += once + sum(gets.startswith("quarantined") and ", both" in gets for gets in expected.values())
    assert fates["done"].rows_read == lines
    assert len(fates["records"]) == sum(gets.startswith("record") for gets in expected.values())
    assert len(fates["quarantined"]) == lines - len(fates["records"]) - once


# Files that are read: case → the files (or a folder) and, where stated, how they are written

TWO = [line(1), line(2)]
PARQUET: dict[str, Any] = {
    "APCS_Ident": ["1", "2"], "Der_Provider_Code": ["RX001", "RX002"], "Sex": ["1", "2"],
    "Administrative_Category": ["01", "01"], "Der_Diagnosis_All": ["||M545", "||M545"], "Der_Procedure_All": ["V382", None],
    "Der_Financial_Year": ["2021-22", "2021-22"], "Age_At_Start_of_Spell_SUS": ["45", None],
    "Admission_Method": ["11", "11"], "Discharge_Date": ["2021-05-03", "2021-05-03"],
}  # fmt: skip


def parquet(path: Path, **changes: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(PARQUET | changes), path)


def file(name: str, content: bytes) -> Callable[[Path], TableSource]:
    return files({name: content})


def files(contents: dict[str, bytes], **stated: Any) -> Callable[[Path], TableSource]:
    """Writes files; the first part of the first one's name is what the source names."""

    def write(folder: Path) -> TableSource:
        for name, content in contents.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        return TableSource("apcs", (str(folder / Path(next(iter(contents))).parts[0]),), **stated)

    return write


def parquets(*changes: dict[str, Any], named: str = "x*.parquet") -> Callable[[Path], TableSource]:
    def write(folder: Path) -> TableSource:
        for at, change in enumerate(changes):
            place = folder / named if "*" not in named else folder
            parquet(place / f"x{at}.parquet", **change)
        return TableSource("apcs", (str(folder / named),))

    return write


def text(*lines: bytes, end: bytes = b"\n") -> bytes:
    return b"".join(item + end for item in lines)


NUMBERS: dict[str, Any] = {
    "APCS_Ident": [1, 2], "Sex": [1, 2], "Administrative_Category": [1, 1], "Age_At_Start_of_Spell_SUS": [45, None],
    "Admission_Method": [11, 11],
}  # fmt: skip
DECIMALS = {
    name: [None if value is None else Decimal(value) / 100 * 100 for value in values]
    for name, values in NUMBERS.items()
}
FLOATS = {
    name: pa.array([float("nan") if value is None else float(value) for value in values], from_pandas=False)
    for name, values in NUMBERS.items()
}
MIDNIGHT = [datetime(2021, 5, 3), datetime(2021, 5, 3)]


def turned(number: int) -> bytes:
    """A line with its fields the other way round; none of them holds a comma."""
    return b",".join(reversed(line(number, Der_Diagnosis_All=b"M545").split(b",")))


HEADER_TURNED = ",".join(reversed(COLUMNS)).encode()
HEADERS = ("\n".join(COLUMNS)).encode()
READ: dict[str, Callable[[Path], TableSource]] = {
    "with CR LF": file("x.csv", text(HEADER, *TWO, end=b"\r\n")),
    "with CR only": file("x.csv", text(HEADER, *TWO, end=b"\r")),
    "whose last line does not end": file("x.csv", text(HEADER, *TWO)[:-1]),
    "that begins with a byte order mark": file("x.csv", b"\xef\xbb\xbf" + text(HEADER, *TWO)),
    "that begins with a byte order mark and has no header row": files(
        {"x/x.csv": b"\xef\xbb\xbf" + text(*TWO), "x/headers.txt": HEADERS}
    ),
    "that begins with blank lines": file("x.csv", text(b"", b"  ", HEADER, *TWO)),
    "with a delimiter after the last field of every row": file(
        "x.csv", text(HEADER, *[row + b"," for row in TWO])
    ),
    "with a delimiter after the header only": file("x.csv", text(HEADER + b",", *TWO)),
    "packed with gzip": file("x.csv.gz", gzip.compress(text(HEADER, *TWO))),
    "packed with bzip2": file("x.csv.bz2", bz2.compress(text(HEADER, *TWO))),
    "in Latin-1, as stated": files({"x.csv": text(HEADER, line(1, Sex=b"\xe9"), line(2))}, encoding="iso-8859-1"),
    "with a header and nothing else": file("x.csv", text(HEADER)),
    "that Spark wrote empty, in a folder with others": files({"x/a.csv": text(HEADER, *TWO), "x/b.csv": b""}),
    "with its columns in another order than the others of its folder": files(
        {"x/a.csv": text(HEADER, *TWO), "x/b.csv": text(HEADER_TURNED, turned(3), turned(4))}
    ),
    "of Parquet with whole numbers for codes, keys and ages": parquets(NUMBERS),
    "of Parquet with decimals": parquets(DECIMALS),
    "of Parquet with whole floating-point numbers, missing ones as NaN": parquets(FLOATS),
    "of Parquet with time stamps at midnight for dates": parquets(
        {"Discharge_Date": pa.array(MIDNIGHT, pa.timestamp("us"))}
    ),
    "of Parquet with other types than the next one of its glob": parquets({}, NUMBERS | {"APCS_Ident": [3, 4]}),
    "of Parquet with other types than the next one of its folder": parquets(
        {}, NUMBERS | {"APCS_Ident": [3, 4]}, named="fyear=2122"
    ),
    "of Parquet with a key as a floating-point number beyond 2⁵³": parquets({"APCS_Ident": [1.0, 2.0**53]}),
    "of Parquet with a list, a map and bytes in columns that nothing reads": parquets(
        {
            "L": [["a"], None],
            "M": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
            "B": [b"\xff", None],
        }
    ),
}  # fmt: skip


def test_the_page_lists_these_files_that_are_read_and_no_others() -> None:
    assert list(bad_input_page("Files that are read")) == list(READ)


@pytest.fixture(scope="module")
def read(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The rows of every such file, in one query a form."""
    frames = []
    names = ("record_id", "sex", "administrative_category", "discharge_date", "age", "corrupt", "source_file")
    folders = {}
    for case, write in READ.items():
        folder = tmp_path_factory.mktemp("file")
        folders[folder.name] = case
        (folder / "der.csv").write_text("APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis\n")
        frames.append(read_sources(spark, sources(folder, write(folder)))[0].rows.select(*names))
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.union(frame)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in whole.collect():
        folder = next(part for part in Path(row["source_file"]).parts if part in folders)
        found[folders[folder]].append(row.asDict())
    return found


@pytest.mark.parametrize("case", READ)
def test_a_file_that_is_read(case: str, read: dict[str, list[dict[str, Any]]]) -> None:
    count, quarantined = re.fullmatch(
        r"(\d) rows?(?:, and (\d) quarantined .*)?", bad_input_page("Files that are read")[case]
    ).groups()  # type: ignore[union-attr]
    usable = sorted((row for row in read[case] if row["corrupt"] is None), key=lambda row: row["record_id"])
    assert [row["record_id"] for row in usable] == [str(number) for number in range(1, int(count) + 1)]
    assert len(read[case]) == int(count) + int(quarantined or 0)
    for row in usable:
        # Each says the same, whatever it was written as; the cleaning gives codes their zeros.
        assert row["administrative_category"] in ("01", "1")
        assert str(row["discharge_date"]) == "2021-05-03"
        assert row["age"] is None or str(row["age"]) == "45"
        assert row["sex"] in ("1", "2") or (case == "in Latin-1, as stated" and row["sex"] == "é")


# Files that are refused

STRUCT = pa.array([{"a": 1}, None])
MAP = pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64()))
NANOSECONDS = pa.array([0, 0], pa.timestamp("ns"))


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.csv", text(HEADER, *TWO))
    return packed.getvalue()


def cut_parquet(folder: Path) -> TableSource:
    source = parquets({})(folder)
    path = folder / "x0.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    return source


def piped(folder: Path, pipe: str, stated: str) -> TableSource:
    """A named pipe, which whoever opens it waits at for ever."""
    (folder / pipe).parent.mkdir(parents=True, exist_ok=True)
    (folder / "x0.csv").write_bytes(text(HEADER, *TWO))
    os.mkfifo(folder / pipe)
    return TableSource("apcs", (str(folder / stated),))


def linked(folder: Path, target: Path | str, stated: str) -> TableSource:
    folder.mkdir(exist_ok=True)
    (folder / "x.csv").symlink_to(target)
    return TableSource("apcs", (str(folder / stated),))


REFUSED: dict[str, Callable[[Path], TableSource]] = {
    "that is not there": lambda folder: TableSource("apcs", (str(folder / "x.csv"),)),
    "that a glob does not find": lambda folder: TableSource("apcs", (str(folder / "x*.csv"),)),
    "with nothing in it": file("x.csv", b""),
    "of blank lines only": file("x.csv", b"\n \n\n"),
    "in UTF-16": file("x.csv", text(HEADER, *TWO).decode().encode("utf-16")),
    "in UTF-16 without a byte order mark": file("x.csv", text(HEADER, *TWO).decode().encode("utf-16-le")),
    "with NUL bytes in its header": file("x.csv", text(HEADER.replace(b"Sex", b"S\x00x"), *TWO)),
    "that is a ZIP archive or a workbook": file("x.csv", zipped()),
    "packed with gzip under another name": file("x.csv", gzip.compress(text(HEADER, *TWO))),
    "named .gz that is not packed": file("x.csv.gz", text(HEADER, *TWO)),
    "packed with gzip and cut in its first block": file("x.csv.gz", gzip.compress(text(HEADER, *TWO))[:40]),
    "packed with zstd": file("x.csv.zst", pa.compress(text(HEADER, *TWO), "zstd", asbytes=True)),
    "whose first line does not end": file("x.csv", HEADER + b"," * (1 << 21)),
    "with more columns than `max_columns` (2,000)": file("x.csv", text(HEADER + b",c" * 2000, *TWO)),
    "without a column that is required": file("x.csv", text(HEADER.replace(b"Admission", b"Admissn"), *TWO)),
    "with a column twice": file("x.csv", text(HEADER.replace(b"Note", b"sex"), *TWO)),
    "without the column that `columns` maps": files({"x.csv": text(HEADER, *TWO)}, columns={"sex": "GENDER_CODE"}),
    "without header row and headers file": file("x.csv", text(*TWO)),
    "whose headers file names fewer columns": files(
        {"x/x.csv": text(*TWO), "x/headers.txt": b"APCS_Ident,Sex,Discharge_Date"}
    ),
    "with another delimiter than stated": files({"x.csv": text(HEADER, *TWO)}, delimiter=";"),
    "of Parquet without its end": cut_parquet,
    "that is stated to be Parquet and is not": files({"x.csv": text(HEADER, *TWO)}, format="parquet"),
    "of Parquet with a structure for a code": parquets({"Sex": STRUCT}),
    "of Parquet with a map for a code": parquets({"Sex": MAP}),
    "of Parquet with a list for a code": parquets({"Sex": [["1"], ["2"]]}),
    "of Parquet with bytes for a code": parquets({"Sex": [b"1", b"2"]}),
    "of Parquet with true and false for a code": parquets({"Sex": [True, False]}),
    "of Parquet with a date for a code": parquets({"Sex": [date(2021, 1, 1), None]}),
    "of Parquet with time stamps in nanoseconds": parquets({"Discharge_Date": NANOSECONDS}),
    "that is an empty folder": lambda folder: TableSource("apcs", (str(folder / "lake"),)),
    "that is a named pipe": lambda folder: piped(folder, "x.csv", "x.csv"),
    "that is a named pipe, found by a glob beside others": lambda folder: piped(folder, "x1.csv", "x*.csv"),
    "that is a named pipe, in a folder beside others": lambda folder: piped(folder, "x/y/1.csv", "x"),
    "that is a link to another folder, in a folder": lambda folder: linked(folder / "x", folder / "lake", "."),
    "that is a device": lambda folder: linked(folder, "/dev/zero", "x.csv"),
    "that is a link that leads nowhere, found by a glob": lambda folder: linked(folder, folder / "nowhere", "x*.csv"),
    "whose name has a line break": files({"x\n1/x.csv": text(HEADER, *TWO)}),
    "whose name is too long": lambda folder: TableSource("apcs", (str(folder / ("x" * 5000)),)),
    "with a line of more than 16 MB": file("x.csv", text(HEADER, TWO[0], line(2, Note=b"x" * (17 << 20)), line(3))),
    "with a last line of more than 16 MB that does not end": file("x.csv", text(HEADER, *TWO) + b"x" * (17 << 20)),
    "packed with gzip that unpacks to more than 200 times its size, and 1 GB": file(
        "x.csv.gz", gzip.compress(text(HEADER, *TWO) + b"\n" * (40 << 20), 1)
    ),
    "packed with bzip2 that does so": file("x.csv.bz2", bz2.compress(text(HEADER, *TWO) + b"\n" * (40 << 20), 1)),
    "of Parquet with a value of more than 16 MB": parquets(
        {"Der_Diagnosis_All": ["M545", "x" * (17 << 20)]}, named="x.parquet"
    ),
}


def test_the_page_lists_these_files_that_are_refused_and_no_others() -> None:
    assert list(bad_input_page("Files that are refused")) == list(REFUSED)


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_refused(
    case: str, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_scan, "UNPACKED_FREELY", 32 << 20)  # a gigabyte takes seconds
    (tmp_path / "lake").mkdir()
    (tmp_path / "der.csv").write_text("APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis\n")
    config = sources(tmp_path, REFUSED[case](tmp_path))
    with pytest.raises(InputError) as refusal:
        read_sources(spark, config)
    message = f"{refusal.value.message}; {refusal.value.remedy}"
    for words in re.findall(r"`([^`]+)`", bad_input_page("Files that are refused")[case]):
        assert words.upper() in message.upper(), message
    assert "sources.admitted.apcs" in message
    assert str(tmp_path / ("lake" if case == "that is an empty folder" else "x")) in message
    assert "RX001" not in message and "M545" not in message
    assert not list((tmp_path / "lake").iterdir())


# Files that break or change while they are read

CONFIG = """
lake: ./lake
max_quarantine_share: 1
sources:
  admitted: {system: sus_plus, tables: {apcs: NAME, apcs_der: der.csv}}
"""
MANY = [line(number) for number in range(30_000)]


def damaged(folder: Path, column: str) -> str:
    """Parquet with checksums, one byte of a column's values turned."""
    whole = {name: [values[0]] * 2000 for name, values in PARQUET.items()}
    whole["APCS_Ident"] = [str(1_000_000 + number) for number in range(2000)]
    path = folder / "x.parquet"
    pq.write_table(pa.table(whole), path, write_page_checksum=True, use_dictionary=False, compression="none")
    described = pq.read_metadata(path).row_group(0)
    chunk = next(c for c in map(described.column, range(described.num_columns)) if c.path_in_schema == column)
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    path.write_bytes(bytes(content))
    return path.name


def late_cut(folder: Path) -> str:
    packed = gzip.compress(text(HEADER, *MANY), 1)
    (folder / "x.csv.gz").write_bytes(packed[: len(packed) * 9 // 10])
    return "x.csv.gz"


def whole(folder: Path) -> str:
    (folder / "x.csv").write_bytes(text(HEADER, *TWO, line(3)))
    return "x.csv"


def replace(folder: Path) -> None:
    (folder / "x.csv").write_bytes(text(HEADER, *TWO))


def delete(folder: Path) -> None:
    (folder / "x.csv").unlink()


# Case → what makes the file, the step of the ingest at which something happens to it, and what
Happens = tuple[Callable[[Path], str], tuple[ModuleType, str], Callable[[Path], None]]
BREAK: dict[str, Happens | tuple[Callable[[Path], str]]] = {
    "packed with gzip and cut after its first megabyte": (late_cut,),
    "of Parquet with a damaged page of keys": (lambda folder: damaged(folder, "APCS_Ident"),),
    "of Parquet with a damaged page of codes": (lambda folder: damaged(folder, "Der_Diagnosis_All"),),
    "replaced before anything is written": (whole, (plan, "classify_rows"), replace),
    "deleted before anything is written": (whole, (plan, "scan_for_repeated_keys"), delete),
    "replaced after the records are written": (whole, (canonical, "write_audit"), replace),
}


def test_the_page_lists_these_files_that_break_and_no_others() -> None:
    assert list(bad_input_page("Files that break while they are read")) == list(BREAK)


@pytest.mark.parametrize("case", BREAK)
@pytest.mark.usefixtures("one_session")
def test_a_file_that_breaks(
    case: str, empty_lake: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_lake(tmp_path / "lake")
    make, *happens = BREAK[case]
    name = make(tmp_path)
    rows = "".join(f"{number},V382,M545\n" for number in range(10))
    (tmp_path / "der.csv").write_text("APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis\n" + rows)
    (tmp_path / "run.yml").write_text(CONFIG.replace("NAME", name))
    if happens:
        (module, step), what = happens
        before = getattr(module, step)

        def meanwhile(*arguments: Any) -> Any:
            answer = before(*arguments)
            what(tmp_path)
            return answer

        monkeypatch.setattr(module, step, meanwhile)
    answer = call(ingest.main, tmp_path)
    gets = bad_input_page("Files that break while they are read")[case]
    status, words = re.fullmatch(r"status (\d), `(.+)`", gets).groups()  # type: ignore[union-attr]
    assert answer["exit"] == int(status)
    message = answer["error"]["message"]
    assert str(tmp_path / name) in message and words in message
    assert "same command again" in answer["error"]["remedy"]
    assert "RX0" not in json.dumps(answer)
    written = {table for table in answer["tables"] if table in ("silver/apc_spell", "silver/quarantine")}
    assert not written or status == "3"
    monkeypatch.undo()
