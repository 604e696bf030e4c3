"""Areas through time: shipped and own mappings, splits, codes on the wrong day, each against hand-worked answers."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.load import load_config
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import disclosure_rules, resource
from ebi_spark.errors import InputError
from ebi_spark.geography.area_versions import Geography, read_geography
from ebi_spark.geography.lookup_files import AreaCodes, read_lookup, read_provider_names
from ebi_spark.geography.output_areas import assign_output_area, unmapped_areas
from ebi_spark.geography.record_areas import Lookups, lookup_spans, read_lookups, with_area
from ebi_spark.lake.storage import Lake
from ebi_spark.rates.activity import activity_rates, by_area, prepare_flags
from ebi_spark.rates.periods import Period
from ebi_spark.rates.population import read_population
from ebi_spark.rates.variation import variation
from ebi_spark.release.publish import shown_geography
from ebi_spark.release.suppressed_tables import parents_of, suppressed_counts
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.gold import ACTIVITY_FLAG, ACTIVITY_RATE
from tests.test_population import listed

SPRING_2021, SUMMER_2022, SPRING_2026 = date(2021, 5, 1), date(2022, 8, 1), date(2026, 5, 1)
MAPPING = "from_code,to_code,from_date,share"


def written(path: Path, header: str, *lines: str) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def shipped_rows(name: str) -> list[dict[str, str]]:
    with resource("conf", "reference", name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_shipped_versions() -> None:
    """Counts and codes as NHS England and the ONS list them."""
    boards = {}
    for version, number in (("ccg_2021", 42), ("icb_2024", 42), ("icb_2026", 36)):
        geography = read_geography(version)
        assert len(geography.areas) == 106, version
        boards[version] = {code: row["icb_code"] for code, row in geography.areas.items()}
        assert len({*boards[version].values()}) == number, version
        assert len({row["region_code"] for row in geography.areas.values()}) == 7, version
    # 06T was Suffolk and North East Essex, and is Essex; 02Q, Bassetlaw, went to Nottinghamshire.
    assert (boards["icb_2024"]["06T"], boards["icb_2026"]["06T"]) == ("QJG", "D7T5G")
    assert boards["ccg_2021"]["02Q"] == boards["icb_2024"]["02Q"] == "QT1"
    assert "D4U1Y" in boards["icb_2024"] and "U2G6B" in boards["icb_2026"]
    assert {*boards["icb_2024"]} ^ {*boards["icb_2026"]} == {"D4U1Y", "U2G6B"}
    assert read_geography().version == "icb_2026"
    went_on = [row for row in shipped_rows("area_successors.csv") if row["estimate"] == "false"]
    assert len(went_on) == 103 and all(row["from_code"] == row["to_code"] for row in went_on)
    assert {row["sub_icb_code"] for row in shipped_rows("area_ons_codes.csv")} == set().union(*boards.values())
    ends = Counter(row["sub_icb_code"] for row in shipped_rows("areas.csv") if row["valid_from"] == "2021-04-01")
    assert len(ends) == 106 and {*ends.values()} == {1}


def test_a_code_means_something_only_with_a_date() -> None:
    now, then, oldest = read_geography(), read_geography("icb_2024"), read_geography("ccg_2021")
    assert now.map_code("02P", SPRING_2021) == now.map_code("02P", SPRING_2026) == (("02P", 1.0),)
    # Tameside and Glossop, of which Glossop (21 of 162 LSOAs) went to Derbyshire.
    for geography in (now, then):
        assert geography.map_code("01Y", SPRING_2021) == (("01Y", 0.870370), ("15M", 0.129630))
        assert geography.map_code("01Y", SUMMER_2022) == (("01Y", 1.0),)
    assert oldest.map_code("01Y", SUMMER_2022) == (("01Y", 1.0),)
    back = dict(oldest.map_code("15M", SPRING_2026))
    assert back == pytest.approx({"15M": 621 / 642, "01Y": 21 / 642})
    # Nothing that ships says where Frimley went, or where Thames Valley's new location came from.
    assert (now.map_code("D4U1Y", SUMMER_2022), then.map_code("D4U1Y", SUMMER_2022)) == ((), (("D4U1Y", 1.0),))
    assert (then.map_code("U2G6B", SPRING_2026), now.map_code("U2G6B", SPRING_2026)) == ((), (("U2G6B", 1.0),))
    assert not now.is_valid("U2G6B", SUMMER_2022) and not now.is_valid("D4U1Y", SPRING_2026)
    assert not now.is_valid("02P", date(2021, 3, 31)) and not now.covers("2020-21") and now.covers("2021-22")
    # The Black Country and West Birmingham lost a part inside its region; boards differ, the region does not.
    split = now.split_areas("2022-23")
    assert {("sub_icb", "15E"), ("sub_icb", "D2P2L"), ("icb", "QHL"), ("icb", "QUA")} < split
    assert now.split_areas("2023-24") == set()
    assert ("region", "Y62") in split  # Glossop left the North West


def test_own_mappings(tmp_path: Path) -> None:
    own = written(
        tmp_path / "own.csv", MAPPING,
        "00C,16C,2020-04-01,1", "00D,16C,2020-04-01,1", "16C,16C,2021-04-01,1", "03X,15M,2019-04-01,0.5",
        "03X,15E,2019-04-01,0.5", "15M,15M,2021-04-01,1", "15E,15E,2021-04-01,1",
        "D4U1Y,U2G6B,2026-04-01,0.6", "D4U1Y,92A,2026-04-01,0.4",
        "01Y,01Y,2022-07-01,0.9", "01Y,15M,2022-07-01,0.1",
    )  # fmt: skip
    now = read_geography("icb_2026", [own])
    assert now.map_code("00C", date(2015, 1, 1)) == now.map_code("16C", date(2020, 6, 1)) == (("16C", 1.0),)
    assert not now.is_valid("16C", date(2020, 3, 31)) and not now.is_valid("00C", date(2020, 4, 1))
    assert now.map_code("03X", date(2018, 5, 1)) == (("15E", 0.5), ("15M", 0.5))
    assert now.map_code("D4U1Y", SPRING_2021) == (("92A", 0.4), ("U2G6B", 0.6))
    assert now.map_code("01Y", SPRING_2021) == (("01Y", 0.9), ("15M", 0.1))  # in the place of the shipped shares
    assert now.covers("2015-16")
    # Backwards: of areas that several went into, no size is known but by the shipped tables.
    then = read_geography("icb_2024", [own])
    assert then.map_code("U2G6B", SPRING_2026) == (("D4U1Y", 1.0),)
    assert then.map_code("92A", SPRING_2026) == ()


BAD_MAPPINGS = {
    "shares": (["00C,16C,2021-04-01,0.5", "00C,15M,2021-04-01,0.4"], ["line 3", "00C", "add up to 0.9"]),
    "share_too_large": (["00C,16C,2021-04-01,1.5"], ["line 2", "share"]),
    "share_no_number": (["00C,16C,2021-04-01,all"], ["line 2", "share"]),
    "date": (["00C,16C,01/04/2021,1"], ["line 2", "from_date"]),
    "unknown_code": (["00C,QQQ,2021-04-01,1"], ["line 2", "'QQQ'", "2021-04-01", "areas.csv"]),
    "not_valid_then": (["00C,U2G6B,2021-04-01,1"], ["line 2", "'U2G6B'", "2021-04-01"]),
    "empty_code": ([",16C,2021-04-01,1"], ["line 2", "empty"]),
    "twice": (["00C,16C,2021-04-01,1", "00C,16C,2021-04-01,1"], ["line 3", "twice"]),
    "column": (["x"], ["column"]),
}


@pytest.mark.parametrize("case", BAD_MAPPINGS)
def test_bad_mappings(case: str, tmp_path: Path) -> None:
    lines, expected = BAD_MAPPINGS[case]
    path = written(tmp_path / "bad.csv", "from_code,to" if case == "column" else MAPPING, *lines)
    with pytest.raises(InputError) as caught:
        read_geography("current", [path])
    for words in (*expected, "bad.csv"):
        assert words in f"{caught.value} {caught.value.remedy}", words


def test_a_version_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "run.yml"
    text = "lake: x\nsources: {a: {system: hes, tables: {op: x.csv}}}\ngeography: {version: icb_2025}\n"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"geography\.version: there is no version 'icb_2025'") as caught:
        load_config(path)
    assert "icb_2024" in caught.value.remedy
    path.write_text(text.replace("icb_2025", "icb_2024"), encoding="utf-8")
    assert load_config(path).geography == "icb_2024"


FLAG: dict[str, Any] = {
    "policy_id": "P", "revision": "2021-04", "reading": "as_published", "back_cast": False, "source_system": "hes",
    "dataset": "apc", "provider_code": "RX1", "sex": "1", "age": 40, "age_years": 40, "outcome": "flagged",
    "area_basis": "commissioner",
}  # fmt: skip


def flags_of(spark: SparkSession, rows: Iterable[dict[str, Any]]) -> DataFrame:
    numbered = [FLAG | {"record_id": str(n), "person_id": f"p{n}"} | row for n, row in enumerate(rows)]
    return small_frame(spark, numbered, ACTIVITY_FLAG.schema)


def at(day: date, code: str | None, **more: Any) -> dict[str, Any]:
    start = day.year if day.month > 3 else day.year - 1
    year = f"{start}-{(start + 1) % 100:02d}"
    dates = {"activity_date": day, "area_date": day if code else None, "financial_year": year}
    return dates | {"area_code": code, "commissioner_code": code} | more


def drawn(key: str) -> float:
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) / 2**32


def test_records_in_the_areas_of_a_version(spark: SparkSession) -> None:
    """Two hundred people of Tameside and Glossop before its split, and records whose code means nothing on their day."""
    people = [at(SPRING_2021, "01Y", person_id=f"someone{n}") for n in range(200)]
    others = [
        at(SPRING_2021, "01Y", latest_area_code="15M"),  # a lookup says which part
        at(SPRING_2021, "01Y", latest_area_code="01Y"),
        at(SPRING_2021, "01Y", latest_area_code="02P"),  # has moved since: says nothing of the parts
        at(SPRING_2021, "01Y", person_id=None),
        at(SUMMER_2022, "01Y"),
        at(SUMMER_2022, "D4U1Y"),
        at(SUMMER_2022, "D4U1Y", reading="as_intended"),
        at(SPRING_2026, "D4U1Y"),
        at(SUMMER_2022, "U2G6B"),
        at(date(2020, 5, 1), "02P"),
        at(SPRING_2021, None, area_basis="unknown", commissioner_code="13q"),
        at(SPRING_2021, None, area_basis="unknown"),
        at(SPRING_2021, None, area_basis="outside_england", commissioner_code="7A1"),
        at(SUMMER_2022, "02P", area_basis="gp_practice"),
    ]
    flags = flags_of(spark, [*people, *others])
    geography = read_geography()
    rows = {row["record_id"]: row["area_code"] for row in assign_output_area(flags, geography).collect()}
    assert len(rows) == len(people) + len(others)
    expected = ["15M" if drawn(f"someone{n}") >= 0.870370 else "01Y" for n in range(200)]
    assert [rows[str(n)] for n in range(200)] == expected
    assert 10 < expected.count("15M") < 45
    moved, alone = "p202", "hes/apc/203"
    parts = ["15M" if drawn(key) >= 0.870370 else "01Y" for key in (moved, alone)]
    found = [rows[str(200 + n)] for n in range(len(others))]
    assert found == ["15M", "01Y", *parts, "01Y", *[None] * 8, "02P"]
    listed = {tuple(row)[:-1] for row in unmapped_areas(flags, geography).collect()}
    assert listed == {
        ("apc", "2022-23", "commissioner", "D4U1Y", "unmapped", 2),
        ("apc", "2026-27", "commissioner", "D4U1Y", "not_valid_on_date", 1),
        ("apc", "2022-23", "commissioner", "U2G6B", "not_valid_on_date", 1),
        ("apc", "2020-21", "commissioner", "02P", "unmapped", 1),
        ("apc", "2021-22", "commissioner", "13Q", "unmapped", 1),
    }


def test_a_lookup_without_dates_is_of_today(spark: SparkSession, tmp_path: Path) -> None:
    lines = ["A1,U2G6B,,", "A2,01Y,2012-04-01,2022-07-01", "A2,15M,2022-07-01,", "A3,02P,2012-04-01,"]
    practices = written(tmp_path / "p.csv", "practice_code,sub_icb_code,valid_from,valid_to", *lines)
    lookups: Lookups = read_lookups(spark, RunConfig(LakeLocation(), practices=practices))
    kinds = "gp_practice_code string, commissioner_code string, lsoa string, activity_date date, financial_year string"
    rows = [
        ("A1", "02P", None, date(2019, 5, 1), "2019-20"),
        ("A2", "02P", None, SPRING_2021, "2021-22"),
        ("A3", None, None, date(2019, 5, 1), "2019-20"),
        ("A9", "15m00", None, SUMMER_2022, "2022-23"),
        ("A9", None, None, None, "2022-23"),
    ]
    placed = with_area(small_frame(spark, rows, kinds), lookups).orderBy("gp_practice_code", "commissioner_code")
    found = [tuple(row) for row in placed.select("area_code", "area_date", "latest_area_code", "area_basis").collect()]
    assert found == [
        ("U2G6B", date(2026, 4, 1), "U2G6B", "gp_practice"),
        ("01Y", SPRING_2021, "15M", "gp_practice"),
        ("02P", date(2019, 5, 1), "02P", "gp_practice"),
        (None, None, None, "unknown"),
        ("15M", SUMMER_2022, None, "commissioner"),
    ]
    with pytest.raises(InputError, match="1 codes in sub_icb_code are not those of a sub-ICB location"):
        read_lookups(
            spark,
            RunConfig(LakeLocation(), practices=written(tmp_path / "q.csv", "practice_code,sub_icb_code", "A1,QQQ")),
        )


def ods(code: str, commissioner: str, joined: str, left: str = "", closed: str = "") -> str:
    """A line of ODS's practice file: 27 columns, each in quotation marks."""
    cells = [code, "MADE UP SURGERY", "Y58", "QJK", *["1 HIGH STREET"] * 5, "EX1 1AA", "19740401", closed, "A", "B"]
    cells += [commissioner, joined, left, "", "", "", "", "0", "", "", "", "4", ""]
    assert len(cells) == 27
    return ",".join(f'"{cell}"' for cell in cells)


def test_the_practice_file_of_ods_is_a_lookup(spark: SparkSession, tmp_path: Path) -> None:
    """England, Wales, NHS England's, closed ones; a last day belongs to its span."""
    epraccur = tmp_path / "epraccur.csv"
    lines = [
        ods("L83001", "15N", "20130401"),
        ods("W93036", "7A1", "20091001"),
        ods("Y00001", "13Q", "20130401"),
        ods("A81001", "00L", "20130401", left="20220630"),
        ods("A81002", "00L", "", closed="20220630"),
        ods("A81002", "15N", "20230401", left="20220630"),  # came after it had closed: never
    ]
    epraccur.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")
    # The same, cut down to a lookup with the product's names; dates as ODS writes them, or ours, the first day after.
    header = "practice_code,sub_icb_code,valid_from,valid_to"
    cut = ["L83001,15N,20130401,", "W93036,7A1,20091001,", "Y00001,13Q,20130401,", "A81001,00L,20130401,20220630"]
    as_ods = written(tmp_path / "ods.csv", header, *cut, "A81002,00L,19740401,20220630")
    own = [line.replace("20130401,20220630", "2013-04-01,2022-07-01") for line in cut]
    as_ours = written(tmp_path / "ours.csv", header, *own, "A81002,00L,1974-04-01,2022-07-01")
    kinds = "record int, gp_practice_code string, commissioner_code string, lsoa string, activity_date date, financial_year string"
    june, july = date(2022, 6, 30), date(2022, 7, 1)
    rows = [
        (1, "L83001", "7A100", None, june, "2022-23"),
        (2, "W93036", "15N00", "E01000001", june, "2022-23"),
        (3, "Y00001", "13Q00", "E01000001", june, "2022-23"),
        (4, "Y00001", "15M00", None, june, "2022-23"),
        (5, "Y00001", None, "W01000001", june, "2022-23"),
        (6, "A81001", None, None, june, "2022-23"),
        (7, "A81001", None, None, july, "2022-23"),
        (8, "A81002", None, None, june, "2022-23"),
        (9, "A81002", None, None, july, "2022-23"),
    ]
    wanted = {
        1: ("15N", june, "15N", "gp_practice"),
        2: (None, None, None, "outside_england"),
        3: ("13Q", june, None, "gp_practice"),
        4: ("15M", june, None, "commissioner"),
        5: (None, None, None, "outside_england"),
        6: ("00L", june, "00L", "gp_practice"),
        7: (None, None, None, "unknown"),
        8: ("00L", june, "00L", "gp_practice"),
        9: (None, None, None, "unknown"),
    }
    records = small_frame(spark, rows, kinds)
    for practices in (epraccur, as_ods, as_ours):
        lookups = read_lookups(spark, RunConfig(LakeLocation(), practices=practices))
        assert lookups.remarks == (
            f"{practices.name}: 2 of 5 rows have no area of England: 1 are outside England, 1 have another code or no code (13Q)",
        )
        placed = with_area(records, lookups).select(
            "record", "area_code", "area_date", "latest_area_code", "area_basis"
        )
        assert {row[0]: tuple(row)[1:] for row in placed.collect()} == wanted, practices
    # NHS England's is listed under the practices, not as an area of another day.
    named = at(SUMMER_2022, "13Q", area_basis="gp_practice", commissioner_code="13Q00")
    listed = [tuple(row)[:-1] for row in unmapped_areas(flags_of(spark, [named]), read_geography()).collect()]
    assert listed == [("apc", "2022-23", "gp_practice", "13Q", "unmapped", 1)]


def test_codes_of_areas_in_lookups(tmp_path: Path) -> None:
    """What each code means, and on which days: ONS codes are of their own time whatever the record's."""
    geography = read_geography()
    codes = AreaCodes(geography)
    changed = date(2022, 7, 1)
    assert codes.location("15N") == codes.location("15N00") == codes.location("QJK") == ("15N", None)
    assert codes.location("E54000037") == ("15N", None)  # Devon, a board of one location
    assert codes.location("QK1") == (None, None)  # Leicester, of three
    assert codes.location("E38000230") == ("15N", (date(2021, 4, 1), date.max))
    assert codes.location("E38000220") == ("15E", (date(2021, 4, 1), changed))
    assert codes.location("E38000258") == ("15E", (changed, date.max))
    for code in ("13Q", "00C", "Q99", ""):
        assert codes.location(code) == (None, None) and not codes.is_outside(code), code
    assert all(map(codes.is_outside, ("7A1", "7A100", "6A1", "S08", "ZC010", "W11000023")))
    own = written(tmp_path / "own.csv", MAPPING, "00C,16C,2020-04-01,1", "16C,16C,2021-04-01,1")
    assert AreaCodes(read_geography("current", [own])).location("00C") == ("00C", None)

    def days(since: str, area: str) -> list[tuple[date, date, date | None]]:
        path = written(tmp_path / "one.csv", "practice_code,sub_icb_code,valid_from", f"A1,{area},{since}")
        [row] = read_lookup(path, "practice_code")
        location, interval = codes.location(row.area)
        assert location
        return list(codes.spans(row, location, interval))

    end = date(9999, 12, 31)
    assert days("2019-04-01", "15E") == [(date(2019, 4, 1), end, None)]
    assert days("2019-04-01", "E38000220") == [
        (date(2019, 4, 1), date(2021, 4, 1), date(2021, 4, 1)),
        (date(2021, 4, 1), changed, None),
        (changed, end, date(2022, 6, 30)),
    ]
    assert days("2023-04-01", "E38000258") == [(date(2023, 4, 1), end, None)]
    [(_, _, today)], [(_, _, then)] = days("", "E38000258"), days("", "E38000220")
    assert today == date(2026, 4, 1) and then and date(2021, 4, 1) <= then < changed


def test_lookups_as_they_are_published(tmp_path: Path) -> None:
    """NHS England's map of practices and an ONS lookup of small areas; saved with semicolons below a title."""
    practice_map = written(
        tmp_path / "map.csv",
        "PUBLICATION,EXTRACT_DATE,PRACTICE_CODE,PRACTICE_NAME,ONS_SUB_ICB_LOCATION_CODE,SUB_ICB_LOCATION_CODE,ICB_CODE",
        "GP_PRAC_PAT_LIST,01Aug2026,A81001,THE MADE UP SURGERY,E38000247,16C,QHM",
    )
    [row] = read_lookup(practice_map, "practice_code")
    assert (row.code, row.area, row.dated) == ("A81001", "16C", False)
    ons_lookup = written(
        tmp_path / "lsoa.csv", "\ufeffLookup of small areas;;;", "LSOA21CD;LSOA21NM;SICBL24CD;ICB24CD",
        "E01000001;City of London 001A;E38000256;E54000029",
    )  # fmt: skip
    [row] = read_lookup(ons_lookup, "lsoa")
    assert (row.code, row.area) == ("E01000001", "E38000256")


def test_names_of_providers(tmp_path: Path) -> None:
    """A file with our columns, and one as ODS publishes it: 27 columns and no header row."""
    own = written(tmp_path / "own.csv", "Provider_Name,Provider_Code", '"A TRUST, NORTH",rx1', ",RX2")
    assert read_provider_names(own) == {"RX1": "A TRUST, NORTH"}
    ods_file = written(
        tmp_path / "etr.csv", *(f'"{code}","{name}"{"," * 25}' for code, name in (("RX1", "A"), ("R0A", "B")))
    )
    assert read_provider_names(ods_file) == {"RX1": "A", "R0A": "B"}
    for lines in (["code,name", "RX1,A"], ["provider_code,provider_name", "RX1,"]):
        with pytest.raises(InputError, match="or no row has both"):
            read_provider_names(written(tmp_path / "none.csv", *lines))


# A case of docs/bad-input.md → the lines of a lookup of practices
BAD_LOOKUPS = {
    "without its areas": ["practice_code,board", "A1,15N"],
    "without its practices": ["practice,sub_icb_code", "A1,15N"],
    "with a header and nothing else": ["practice_code,sub_icb_code"],
    "with a column twice": ["practice_code,sub_icb_code,sub_icb_code", "A1,15N,15N"],
    "with a date in another form": ["practice_code,sub_icb_code,valid_from", "A1,15N,01/07/2022"],
    "with a date that does not exist": ["practice_code,sub_icb_code,valid_to", "A1,15N,20223001"],
    "with a row that ends before it begins": [
        "practice_code,sub_icb_code,valid_from,valid_to", "A1,15N,2022-07-01,2022-07-01",
    ],
    "of ODS with a column too few in a row": [ods("A1", "15N", "20130401"), ods("A2", "15N", "20130401")[:-3]],
    "with a practice in two areas on one day": [
        "practice_code,sub_icb_code,valid_from,valid_to", "A1,15N,2020-04-01,2022-07-02", "A1,00L,2022-07-01,",
    ],
    "with no area of England": ["practice_code,sub_icb_code", "A1,QQQ"],
}  # fmt: skip


def test_the_page_lists_these_lookups_and_no_others() -> None:
    assert [*listed("Lookups of practices and small areas")] == [*BAD_LOOKUPS]


@pytest.mark.parametrize("case", BAD_LOOKUPS)
def test_a_lookup_that_is_refused(case: str, tmp_path: Path) -> None:
    path = written(tmp_path / "practices.csv", *BAD_LOOKUPS[case])
    with pytest.raises(InputError) as caught:
        lookup_spans(path, "practice_code", read_geography(), [])
    assert caught.value.remedy and "practices.csv" in str(caught.value)
    for words in listed("Lookups of practices and small areas")[case]:
        assert words in f"{caught.value} {caught.value.remedy}", str(caught.value)


def test_rates_on_two_versions_of_the_areas(spark: SparkSession, tmp_path: Path) -> None:
    """Expected by hand from the shipped tables: population of August 2026, 10 records a code."""
    days = {"06T": SUMMER_2022, "01Y": SPRING_2021, "D4U1Y": SUMMER_2022, "02P": date(2020, 5, 1)}
    rows = [at(day, code, person_id=f"{code}-{n}") for code, day in days.items() for n in range(10)]
    years = ["2020-21", "2021-22", "2022-23"]
    flags = flags_of(spark, rows)
    read = [Period("P", "2021-04", "as_published", (year,)) for year in years]
    read += [Period("P", "2021-04", "as_published", tuple(years[n : n + 2])) for n in range(2)]
    people: Counter[str] = Counter()
    for row in shipped_rows("population_gp_registered.csv"):
        people[row["area_code"]] += int(row["people"])
    for version, essex in (("icb_2024", "QJG"), ("icb_2026", "D7T5G")):
        config = RunConfig(LakeLocation(tmp_path), geography=version, max_vintage_days=10_000)
        population = read_population(config, years)
        geography: Geography = population.geography
        made = activity_rates(prepare_flags(flags, geography), read, population, partial=False)
        everything = made.toPandas()
        pooled = everything[everything["period_years"] == 2].set_index(["financial_year", "area_type"]).sort_index()
        # Areas have no figure of two years when records of one cannot be placed.
        assert {*pooled.loc["2021-22"].index} == {"england", "provider"}
        assert pooled.loc[("2022-23", "england"), "activity"].tolist() == [30]
        glossop = sum(drawn(f"01Y-{n}") >= 0.870370 for n in range(10))
        both = pooled.loc[("2022-23", "sub_icb")].set_index("area_code")
        assert both.loc["15M", "activity"] == glossop and "split_estimate" in both.loc["15M", "notes"]
        frame = everything[everything["period_years"] == 1]
        rates = frame.set_index(["financial_year", "area_type", "area_code"]).sort_index()
        assert {*frame["geography"]} == {version} and {*frame["coverage"]} == {"national"}
        assert rates.loc[("2022-23", "icb", essex), "activity"] == 10
        assert rates.loc[("2022-23", "sub_icb", "06T"), "population"] == people["06T"]
        members = [code for code, row in geography.areas.items() if row["icb_code"] == essex]
        assert rates.loc[("2022-23", "icb", essex), "population"] == sum(people[code] for code in members)
        assert rates.loc[("2022-23", "england"), "population"].tolist() == [sum(people.values())]
        split = rates.loc["2021-22"]
        assert (split.loc[("sub_icb", "15M"), "activity"], split.loc[("sub_icb", "01Y"), "activity"]) == (
            glossop,
            10 - glossop,
        )
        marked = {key[1] for key, notes in split["notes"].items() if key[0] == "sub_icb" and "split_estimate" in notes}
        assert marked == {"01Y", "15M", "06H", "78H", "15E", "D2P2L"}
        assert not any("split_estimate" in notes for notes in rates.loc[("2020-21"), "notes"])
        # Nobody was placed in Thames Valley's new location before April 2026.
        lacking = {key[1:] for key, notes in rates["notes"].items() if "unmapped_part" in notes and key[0] == "2022-23"}
        thames_valley = {("sub_icb", "U2G6B"), ("icb", "S0E4D"), ("region", "Y59")}
        assert lacking == (thames_valley if version == "icb_2026" else set())
        # No code of 2020-21 is known: its areas have no rows, rather than rows of 0.
        assert {*rates.loc["2020-21"].index.get_level_values("area_type")} == {"england", "provider"}
        of_2022 = rates.loc["2022-23"]
        frimley = of_2022.loc[("sub_icb", "D4U1Y")] if version == "icb_2024" else None
        if frimley is not None:  # it has records, and nobody says how many people it has
            assert (frimley["activity"], frimley["status"]) == (10, "no_population")
            assert pd.isna(frimley["population"]) and pd.isna(frimley["crude_rate"])
        located_events = of_2022.loc["sub_icb"]["activity"].sum()
        assert located_events == (20 if version == "icb_2024" else 10)
        assert of_2022.loc["england"]["activity"].tolist() == [20]
    # The last of them: one pass gives the same as counting each type of area by itself.
    seen = by_area(prepare_flags(flags, geography), population).groupBy("area_type").count().collect()
    counted = {row["area_type"]: row["count"] for row in seen}
    assert counted == {"england": 40, "provider": 40, "sub_icb": 20, "icb": 20, "region": 20}
    spread = variation(made.where("period = '2022-23'").withColumn("run_id", F.lit("r")), 1)
    assert {(row["geography"], row["coverage"]) for row in spread.collect()} == {("icb_2026", "national")}


def test_another_version_than_the_release_before_is_withheld() -> None:
    rule = disclosure_rules()["hes_2018_protected"]
    key = {"policy_id": "P", "revision": "r", "reading": "as_published", "financial_year": "2022-23", "period_years": 1}
    figures = {"population": 1e6, "expected": 50.0, "standardised_rate": 5.0}

    def gold(version: str, *codes: str) -> pd.DataFrame:
        geography = read_geography(version)
        kinds = [("sub_icb", code) for code in codes]
        kinds += sorted({("icb", geography.areas[code]["icb_code"]) for code in codes})
        kinds += sorted({("region", geography.areas[code]["region_code"]) for code in codes})
        below = {
            kind: 100 * sum(kind[1] in (code, *geography.areas[code].values()) for code in codes) for kind in kinds
        }
        counts = {("england", "E92000001"): 100 * len(codes), ("provider", "RX1"): 100 * len(codes)} | below
        rows = [
            key
            | figures
            | {"area_type": kind, "area_code": code, "activity": n, "in_scope": n + 50, "geography": version}
            for (kind, code), n in counts.items()
        ]
        return pd.DataFrame(rows)

    def released(now: pd.DataFrame, before: pd.DataFrame | None) -> pd.DataFrame:
        version = now["geography"].iloc[0]
        done = suppressed_counts(now, parents_of(read_geography(version).areas), rule, before).counts
        england = now[now["area_type"] == "england"].assign(status="ok")
        return pd.concat([england, done.assign(geography=version)]).assign(rule=None)

    first = released(gold("icb_2024", "06T", "07K"), None)
    assert first["activity"].notna().all()
    second = released(gold("icb_2026", "06T", "07K"), first)
    below = second[~second["area_type"].isin(["england", "provider"])]
    assert len(below) == 5 and below["activity"].isna().all()
    assert second[second["area_type"] == "provider"]["activity"].notna().all()
    # The same version as before is not.
    assert released(gold("icb_2024", "06T", "07K"), first)["activity"].notna().all()


def test_years_on_several_versions_are_not_published(lake_at: Callable[[Path], Lake], tmp_path: Path) -> None:
    lake = lake_at(tmp_path / "lake")
    assert shown_geography(lake) == "current"
    versions = {"2021-22": "icb_2024", "2022-23": "icb_2026", "2023-24": "icb_2026"}
    rows = [{"financial_year": year, "geography": version} for year, version in versions.items()]
    lake.replace(ACTIVITY_RATE, small_frame(lake.spark, rows, ACTIVITY_RATE.schema).coalesce(1), {}, stage="test")
    with pytest.raises(InputError, match="icb_2024: 2021-22; icb_2026: 2022-23, 2023-24"):
        shown_geography(lake)


def test_a_population_of_a_few_areas_never_makes_england(spark: SparkSession, tmp_path: Path) -> None:
    """Six areas of 380 people each, 12 records in each of them and in one more: two whole boards, one without a part."""
    six, other = ("02Q", "52R", "15N", "03W", "04C", "00L"), "04V"
    bands = [f"{5 * band},{'' if band == 18 else 5 * band + 4}" for band in range(19)]

    def people(day: str, codes: Iterable[str]) -> Path:
        lines = [f"sub_icb,{code},{sex},{band},10,{day}" for code in codes for sex in "12" for band in bands]
        return written(tmp_path / f"{day}.csv", "area_type,area_code,sex,age_from,age_to,people,vintage", *lines)

    def rates_of(*files: Path, partial: bool = False, difference: float = 1.0) -> DataFrame:
        given = tuple({"path": str(file), "layout": "bands"} for file in files)
        config = RunConfig(
            LakeLocation(tmp_path), population=given, max_vintage_days=10_000, max_population_difference=difference
        )
        years = ["2026-27", "2027-28"]
        periods = [Period("P", "2021-04", "as_published", tuple(years[:n])) for n in (1, 2)]
        periods.append(Period("P", "2021-04", "as_published", ("2027-28",)))
        placed = prepare_flags(flags_of(spark, rows), read_geography())
        return activity_rates(placed, periods, read_population(config, years), partial=partial)

    rows = [at(SPRING_2026, code, person_id=f"{code}-{n}") for code in (*six, other) for n in range(12)]
    made = rates_of(people("2026-08-01", six)).cache()
    assert {row["area_type"]: row["rows"] for row in _rows_by_type(made, "2026-27")} == {
        "england": 1, "region": 7, "icb": 36, "sub_icb": 106, "provider": 1,
    }  # fmt: skip
    frame = made.where("period = '2026-27'").toPandas().set_index(["area_type", "area_code"])
    lacking = frame[[("partial_population" in notes) for notes in frame["notes"]]]
    assert {*lacking["status"]} == {"no_population"}
    for name in ("population", "population_vintage", "crude_rate", "standardised_rate", "lower", "upper", "method"):
        assert lacking[name].isna().all(), name
    assert frame["expected"].isna().all(), "there are no rates of England to expect anything by"
    england = frame.loc[("england", "E92000001")]
    assert (england["activity"], england["status"], *england["notes"]) == (84, "no_population", "partial_population")
    with_rate = {*frame.index[frame["status"] == "ok"]}
    assert with_rate == {("sub_icb", code) for code in six} | {("icb", "QT1"), ("icb", "QJK")}
    assert frame.loc[("icb", "QK1"), "activity"] == 36 and frame.loc[("sub_icb", other), "activity"] == 12
    assert frame.loc[("icb", "QT1"), "population"] == 760 and frame.loc[("sub_icb", "15N"), "population"] == 380
    assert frame.loc[("icb", "QT1"), "crude_rate"] == pytest.approx(24 / 760 * 1e5)
    assert frame.loc[("provider", "RX1"), "notes"] == []
    # Whether an area has a row does not depend on its records.
    assert frame.loc[("sub_icb", "01A"), "activity"] == 0
    spread = variation(made.where("period = '2026-27'"), 1).collect()
    assert {row["area_type"]: row["areas"] for row in spread} == {"region": 0, "icb": 2, "sub_icb": 6}
    for row in spread:
        assert (row["status"], row["notes"]) == ("not_calculated", ["partial_population"])
        figures = [row[name] for name in row.asDict() if name.startswith(("p1", "p2", "p5", "p7", "p9", "all_areas"))]
        assert figures == [None] * 10 and row["n_fold"] is None and row["opportunity"] is None
    # Under partial coverage nothing is England, and a board without a part has no rate either.
    partial = rates_of(people("2026-08-01", six), partial=True).where("period = '2026-27'").toPandas()
    assert {*partial["area_type"]} == {"region", "icb", "sub_icb", "provider"}
    assert {*partial[partial["status"] == "ok"]["area_code"]} == {code for _, code in with_rate}
    # So few people are noted where there is a population: 380 for a location is far from what ships.
    small = rates_of(people("2026-08-01", six), difference=0.25).where("period = '2026-27'")
    noted = {(row["area_type"], row["area_code"]) for row in small.collect() if "unusual_population" in row["notes"]}
    assert noted == with_rate
    # One year with all areas: its England has a rate, the two years together have none.
    whole = people("2027-10-01", read_geography().areas)
    both = rates_of(people("2026-08-01", six), whole).where("area_type = 'england'").collect()
    assert {row["period"]: (row["status"], row["population"]) for row in both} == {
        "2026-27": ("no_population", None),
        "2027-28": ("few_events", 380 * 106),
        "2026-27..2027-28": ("no_population", None),
    }
    made.unpersist()


def _rows_by_type(rates: DataFrame, period: str) -> list[Any]:
    counted = rates.where(F.col("period") == period).groupBy("area_type").agg(F.count("*").alias("rows"))
    return counted.collect()
