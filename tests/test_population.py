"""Population files as they are published, made up at a small size with the same header; and what is wrong with bad ones."""

import csv
import gzip
import io
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path

import pytest

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.rates.population import (
    areas_without_people,
    build_population,
    population_rows,
    population_warnings,
    read_population,
    share_people,
    shipped_population,
)
from ebi_spark.rates.population_files import Vintage, read_population_file
from ebi_spark.sources import published_files

HEADER = "PUBLICATION,EXTRACT_DATE,ORG_TYPE,ORG_CODE,ONS_CODE,SEX,AGE,NUMBER_OF_PATIENTS"
AREAS = ("00L", "00N")


def read(path: Path, layout: str = "gp_registered", **item: str) -> dict[date, Vintage]:
    return read_population_file({"path": str(path), "layout": layout, **item}, read_geography())


def people_of(area: int, sex: str, age: int) -> int:
    return 1000 * area + 10 * age + (1 if sex == "MALE" else 2)


def registered(
    kind: str = "SUB_ICB_LOCATION_CODE", day: str = "2026-08-01", areas: tuple[str, ...] = AREAS
) -> list[str]:
    """Lines of the published form: for each area every age by sex, its totals by sex and together; then the region's."""
    lines, everyone = [HEADER], 0
    for number, code in enumerate(areas, start=1):
        start, whole = f"GP_PRAC_PAT_LIST,{day},{kind},{code},E38000{number:03d}", 0
        for sex in ("FEMALE", "MALE"):
            of_sex = 0
            for age in range(96):
                of_sex += people_of(number, sex, age)
                lines.append(f"{start},{sex},{'95+' if age == 95 else age},{people_of(number, sex, age)}")
            lines.append(f"{start},{sex},ALL,{of_sex}")
            whole += of_sex
        lines.append(f"{start},ALL,ALL,{whole}")
        everyone += whole
    return [*lines, f"GP_PRAC_PAT_LIST,{day},Comm Region,Y63,E40000012,ALL,ALL,{everyone}"]


def ons(areas: tuple[str, ...] = AREAS) -> list[str]:
    names = [f"{letter}{age}" for letter in "FM" for age in range(91)]
    lines = [",".join(["\ufeffSICBL 2024 Code ", "SICBL 2024 Name", "Total", *names])]
    for number, code in enumerate(areas, start=1):
        numbers = [people_of(number, sex, age) for sex in ("FEMALE", "MALE") for age in range(91)]
        whole = f'"{sum(numbers):,}"'
        lines.append(",".join([f"E38999{number:03d}", f"NHS Somewhere ICB - {code}", whole, *map(str, numbers)]))
    return lines


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_registered_patients_in_both_layouts(tmp_path: Path) -> None:
    write(tmp_path / "pat-2026.csv", registered())
    write(tmp_path / "pat-2018.csv", registered("CCG", "01Aug2018"))
    found = read(tmp_path / "pat-*.csv")
    assert set(found) == {date(2018, 8, 1), date(2026, 8, 1)}
    older, newer = found[date(2018, 8, 1)], found[date(2026, 8, 1)]
    assert older.strata == newer.strata
    # Codes of the vintage's own day where they are known, else of the version nearest to it.
    assert (newer.geography, newer.area_date, newer.source) == ("icb_2026", date(2026, 8, 1), "pat-2026.csv")
    assert (older.geography, older.area_date) == ("ccg_2021", date(2021, 4, 1))
    strata = newer.strata
    assert len(strata) == 2 * 2 * 19
    assert strata[("00N", "1", 1)] == sum(people_of(2, "MALE", age) for age in range(5, 10))
    assert strata[("00L", "2", 18)] == sum(people_of(1, "FEMALE", age) for age in range(90, 96))


@pytest.mark.parametrize("name", ["people [2026].csv", "people*.csv", "people?.csv"])
def test_a_file_whose_name_looks_like_a_pattern(name: str, tmp_path: Path) -> None:
    """It means itself; only without such a file is it a pattern."""
    write(tmp_path / "people-2018.csv", registered("CCG", "01Aug2018"))
    write(tmp_path / "people2.csv", registered("CCG", "01Sep2018"))
    write(tmp_path / name, registered())
    assert [vintage.source for vintage in read(tmp_path / name).values()] == [name]


def test_mid_year_estimates(tmp_path: Path) -> None:
    path = write(tmp_path / "sapeicb-mid-2022.csv", ons())
    found = read(path, "ons_mid_year")
    assert list(found) == [date(2022, 6, 30)]
    strata = found[date(2022, 6, 30)].strata
    assert strata[("00L", "1", 18)] == people_of(1, "MALE", 90)
    assert strata[("00N", "2", 0)] == sum(people_of(2, "FEMALE", age) for age in range(5))
    plain = write(tmp_path / "estimates.csv", ons())
    dated = read(plain, "ons_mid_year", vintage="2021-06-30")
    assert list(dated) == [date(2021, 6, 30)]


def test_a_file_by_areas_of_another_day_than_its_vintage(tmp_path: Path) -> None:
    path = write(tmp_path / "old.csv", registered("CCG", areas=("D4U1Y", "E38000006")))
    found = read(path)[date(2026, 8, 1)]
    assert {area for area, _, _ in found.strata} == {"D4U1Y", "02P"}
    assert (found.geography, found.area_date) == ("icb_2024", date(2024, 4, 1))
    assert read(path, geography="ccg_2021")[date(2026, 8, 1)].area_date == date(2021, 4, 1)
    config = RunConfig(LakeLocation(tmp_path), population=({"path": str(path), "layout": "gp_registered"},))
    population = read_population(config, ["2026-27"])
    strata = found.strata
    # Two areas are not all of England, so the standard is England in the shipped population.
    assert population.weights == shipped_weights()
    empty, unusual, outside, standard = population_warnings(population, ["2026-27"])
    # 02P alone is in both populations.
    times = sum(n for (area, _, _), n in strata.items() if area == "02P") / shipped_people("02P")
    assert unusual.startswith(f"Warning: the population of 2026-08-01 (old.csv) has {times:.3g} times the people that ")
    assert empty.startswith(
        "Warning: the population of 2026-08-01 lacks some or all people of 105 of 106 areas of icb_2026 "
    )
    assert "(00L, 00N, 00P, 00Q, 00R, 00T, 00V, 00X, 00Y, 01A and 95 more)" in empty
    assert "no rate for England, 7 regions, 36 ICBs, 105 sub-ICB locations" in empty
    assert "standardised to England in the shipped population" in standard
    assert "no rate for 7 regions" in population_warnings(population, ["2026-27"], partial=True)[0]
    frimley = sum(people for (area, _, _), people in strata.items() if area == "D4U1Y")
    assert outside.startswith(f"{frimley:,} people in the population of 2026-08-01 count in England's figures only")
    assert "their areas (such as D4U1Y)" in outside
    rows = population_rows(population.by_vintage, "run1")
    assert len(rows) == 2 * 2 * 19 and sum(row["people"] for row in rows) == sum(strata.values())
    assert {(row["age_from"], row["age_to"]) for row in rows} == {(n, n + 4) for n in range(0, 90, 5)} | {(90, None)}
    both = write(tmp_path / "both.csv", registered(areas=("D4U1Y", "U2G6B")))
    with pytest.raises(InputError, match="1 of 2 area codes are not valid on the same day as the rest"):
        read(both)
    with pytest.raises(InputError, match="there is no geography 'icb_2025'"):
        read(path, geography="icb_2025")
    with pytest.raises(InputError, match="two area codes name the same area"):
        read(write(tmp_path / "one.csv", registered(areas=("02P", "E38000006"))))


def shipped_weights() -> dict[tuple[str, int], float]:
    weights: Counter[tuple[str, int]] = Counter()
    with resource("conf", "reference", "population_gp_registered.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            weights[(row["sex"], int(row["age_from"]) // 5)] += int(row["people"])
    return {key: float(people) for key, people in weights.items()}


def shipped_people(*codes: str) -> int:
    with resource("conf", "reference", "population_gp_registered.csv").open(encoding="utf-8", newline="") as file:
        return sum(int(row["people"]) for row in csv.DictReader(file) if not codes or row["area_code"] in codes)


def by_areas(codes: Iterable[str], day: date, people: int = 100) -> Vintage:
    """So many people in each stratum of the areas, whose codes are those of the day."""
    strata = {(code, sex, band): people for code in codes for sex in "12" for band in range(19)}
    return Vintage(day, day, "", "made up", strata)


def test_which_areas_lack_people(tmp_path: Path) -> None:
    now, then, oldest = (read_geography(version) for version in ("icb_2026", "icb_2024", "ccg_2021"))
    today, before = date(2026, 5, 1), date(2024, 4, 1)
    england = ("england", "E92000001")
    assert areas_without_people(now, by_areas(now.areas, today)) == set()
    # Without one location: it, its board, its region and England.
    without = areas_without_people(now, by_areas({*now.areas} - {"15N"}, today))
    assert without == {("sub_icb", "15N"), ("icb", "QJK"), ("region", "Y58"), england}
    # Nobody living there is the same as no row.
    some = by_areas(now.areas, today)
    some.strata.update({key: 0 for key in some.strata if key[0] == "15N"})
    assert areas_without_people(now, some) == without
    # All areas of 2026 are all of England, on whichever version: Frimley of 2024 has no people of its own, England has all.
    frimley = {("sub_icb", "D4U1Y"), ("icb", "QNQ"), ("region", "Y59")}
    assert areas_without_people(then, by_areas(now.areas, today)) == frimley
    # A part of an area is not enough: Tameside and Glossop of 2021 was in two locations of 2022.
    parts = areas_without_people(oldest, by_areas({*then.areas} - {"15M"}, before))
    assert {("sub_icb", "01Y"), ("sub_icb", "15M"), ("icb", "QJ2"), ("icb", "QOP"), england} < parts
    # Before April 2021 nothing that ships lists England's areas: each area shown has to be reached.
    own = tmp_path / "own.csv"
    own.write_text("from_code,to_code,from_date,share\n" + "".join(f"{c},{c},2021-04-01,1\n" for c in oldest.areas))
    mapped = read_geography("ccg_2021", [own])
    assert areas_without_people(mapped, by_areas(mapped.areas, date(2018, 10, 1))) == set()
    assert england in areas_without_people(mapped, by_areas({*mapped.areas} - {"15N"}, date(2018, 10, 1)))
    # Frimley of 2021 is no area of 2026: its people count in England, which has all of them.
    mapped = read_geography("icb_2026", [own])
    thames_valley = {("sub_icb", "U2G6B"), ("icb", "S0E4D"), ("region", "Y59")}
    assert areas_without_people(mapped, by_areas(oldest.areas, date(2018, 10, 1))) == thames_valley
    # Codes of the user's own in the place of listed ones.
    own.write_text("from_code,to_code,from_date,share\nXXX,15N,2023-04-01,1\n")
    mapped = read_geography("icb_2024", [own])
    assert areas_without_people(mapped, by_areas({*then.areas} - {"15N"} | {"XXX"}, date(2022, 10, 1))) == set()


def test_the_standard_is_the_newest_population_of_all_england(tmp_path: Path) -> None:
    now = read_geography()
    whole, few = by_areas(now.areas, date(2026, 5, 1), 7), by_areas(["15N", "00L"], date(2026, 9, 1))
    config = RunConfig(LakeLocation(tmp_path))
    both = build_population(config, {people.vintage: people for people in (whole, few)}, now, ["2026-27"])
    assert {*both.weights.values()} == {7.0 * 106}
    alone = build_population(config, {few.vintage: few}, now, ["2026-27"])
    assert alone.weights == shipped_weights() and alone.standard == "england"


# Short codes that were CCGs until July 2022 and locations with another boundary after, with both ONS codes.
CHANGED = {
    "15E": ("E38000220", "E38000258"), "D2P2L": ("E38000250", "E38000259"), "06H": ("E38000026", "E38000260"),
    "15M": ("E38000229", "E38000261"), "78H": ("E38000242", "E38000262"), "01Y": ("E38000182", "E38000263"),
}  # fmt: skip


def estimates(rows: Iterable[tuple[str, str]], people: int = 1000) -> list[str]:
    names = [f"{letter}{age}" for letter in "FM" for age in range(91)]
    numbers = ",".join([str(people)] * 182)
    return [",".join(["Code", "Name", *names]), *(f"{code},{name},{numbers}" for code, name in rows)]


def test_the_ons_code_decides_which_areas_a_file_has(tmp_path: Path) -> None:
    """182,000 people in each of six areas whose boundary changed on 1 July 2022, a day after the vintage."""
    now = read_geography()
    new = [(codes[1], f"NHS Somewhere ICB - {short}") for short, codes in CHANGED.items()]
    found = read(write(tmp_path / "mid-2022.csv", estimates(new)), "ons_mid_year")[date(2022, 6, 30)]
    assert (found.geography, found.area_date) == ("icb_2024", date(2024, 4, 1))
    assert {code: now.map_code(code, found.area_date) for code in CHANGED} == {code: ((code, 1.0),) for code in CHANGED}
    people = Counter(dict.fromkeys(CHANGED, 0))
    for (code, _, _), number in found.strata.items():
        people.update(share_people(number, now.map_code(code, found.area_date)))
    assert people == dict.fromkeys(CHANGED, 182_000)
    # The reverse: clinical commissioning groups, though the short codes are locations on that day.
    old = [(codes[0], f"NHS Somewhere {short}") for short, codes in CHANGED.items()]
    found = read(write(tmp_path / "mid-2023.csv", estimates(old)), "ons_mid_year")[date(2023, 6, 30)]
    assert (found.geography, found.area_date) == ("ccg_2021", date(2021, 4, 1))
    # Glossop, 21 of Tameside and Glossop's 162 small areas, is in Derbyshire since.
    assert now.map_code("01Y", found.area_date) == (("01Y", 0.870370), ("15M", 0.129630))
    # Registered patients have both codes, bands either.
    lines = registered(day="2022-08-01", areas=("15E",))
    ccg = write(tmp_path / "ccg.csv", [line.replace("E38000001", "E38000220") for line in lines])
    assert read(ccg)[date(2022, 8, 1)].geography == "ccg_2021"
    bands = [line.replace("00L", "E38000220").replace("00N", "E38000182") for line in banded()]
    assert read(write(tmp_path / "bands.csv", bands), "bands")[date(2022, 10, 1)].geography == "ccg_2021"
    # Codes of two days, and a version stated against the codes, are refused.
    mixed = write(tmp_path / "mixed-mid-2022.csv", estimates([new[0], old[1]]))
    with pytest.raises(
        InputError, match=r"1 of 2 area codes are not valid .*'15E' \(E38000258\), not a valid area code on 2022"
    ):
        read(mixed, "ons_mid_year")
    with pytest.raises(InputError, match="not a valid area code on 2024-04-01"):
        read(tmp_path / "mid-2023.csv", "ons_mid_year", geography="icb_2024")
    wrong = write(tmp_path / "wrong.csv", [line.replace("E38000001", "E38000230") for line in registered()])
    with pytest.raises(InputError, match="line 2: the ONS code is that of 15N, and the row also names 00L"):
        read(wrong)


def saved(lines: list[str], *, delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    """The lines as a spreadsheet saves them."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(csv.reader(lines))
    return text.getvalue().encode(encoding)


def test_estimates_as_they_are_saved_from_the_published_workbook(tmp_path: Path) -> None:
    plain = read(write(tmp_path / "plain-mid-2022.csv", ons()), "ons_mid_year")[date(2022, 6, 30)].strata
    header, *rows = list(csv.reader(line.removeprefix("\ufeff") for line in ons()))
    thousands = [[f"{int(cell):,}" if cell.isdigit() else cell for cell in row] for row in rows]
    spaced = [[cell.replace(",", "\u00a0") for cell in row] for row in thousands]
    england = ["E92000001", "ENGLAND", "", *(str(sum(int(row[n]) for row in rows)) for n in range(3, len(header)))]
    below = ["Source: Office for National Statistics, Cymru: Ynys Môn"]

    def lines(table: list[list[str]]) -> list[str]:
        text = io.StringIO()
        above = [["Mid-2022 population estimates"], ["by sub-ICB location; persons, by sex"], [""]]
        csv.writer(text).writerows([*above, header, *table, england, below])
        return text.getvalue().splitlines()

    path = tmp_path / "as saved.csv"
    for content in (
        saved(lines(thousands)),
        saved(lines(thousands), encoding="utf-8-sig", delimiter=";"),
        saved(lines(spaced), encoding="utf-16", delimiter="\t"),
        saved(lines(rows), encoding="cp1252"),
        gzip.compress(saved(lines(thousands))),
    ):
        path.write_bytes(content)
        assert read(path, "ons_mid_year")[date(2022, 6, 30)].strata == plain
    england[3] = "9"
    path.write_bytes(saved(lines(rows)))
    with pytest.raises(InputError, match=r"all locations add up to .* the file says .*England"):
        read(path, "ons_mid_year")


def test_registered_patients_by_five_year_bands_and_in_an_archive(tmp_path: Path) -> None:
    single = registered()
    strata = read(write(tmp_path / "single.csv", single))[date(2026, 8, 1)].strata
    grouped: Counter[tuple[str, ...]] = Counter()
    for cells in csv.reader(single[1:]):
        age = cells[6] if cells[6] == "ALL" else f"{int(cells[6]) // 5 * 5}" if cells[6] != "95+" else "95+"
        band = age if not age.isdigit() else f"{age}_{int(age) + 4}"
        grouped[(*cells[:5], "", cells[5], band)] += int(cells[7])
    lines = [f"{','.join(key)},{people}" for key, people in grouped.items()]
    practice = "GP_PRAC_PAT_LIST,2026-08-01,GP,A81001,,TS18 1HU,MALE,0_4,12"
    banded_lines = [
        "PUBLICATION,EXTRACT_DATE,ORG_TYPE,ORG_CODE,ONS_CODE,POSTCODE,SEX,AGE_GROUP_5,NUMBER_OF_PATIENTS",
        *lines,
        practice,
    ]
    path = write(tmp_path / "quin.csv", banded_lines)
    assert read(path)[date(2026, 8, 1)].strata == strata
    with pytest.raises(InputError, match="1 of 80 areas by sex and age are missing"):
        read(write(tmp_path / "short.csv", [line for line in banded_lines if "00L,E38000001,,MALE,5_9" not in line]))
    with pytest.raises(InputError, match="AGE_GROUP_5 is not 0_4, 5_9"):
        read(write(tmp_path / "bad.csv", [line.replace(",0_4,", ",0_5,") for line in banded_lines]))
    archive = tmp_path / "pat.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(tmp_path / "single.csv", "gp-reg-pat-prac-sing-age-regions.csv")
        file.writestr("read me.txt", "notes")
    assert read(archive)[date(2026, 8, 1)].strata == strata


def archive(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            file.writestr(name, "x")
    return content.getvalue()


def as_bytes(lines: list[str]) -> bytes:
    return "\n".join(lines).encode()


# A case of docs/bad-input.md → the file's content (None: a folder)
REFUSED: dict[str, bytes | None] = {
    "that is not there": b"",
    "that is a folder": None,
    "with nothing in it": b"",
    "that is a workbook": archive("[Content_Types].xml", "a.csv"),
    "that is an old workbook": b"\xd0\xcf\x11\xe0 and more",
    "that is a ZIP archive of two tables": archive("a.csv", "b.csv"),
    "that is a ZIP archive without a table": archive("a.txt"),
    "that is a ZIP archive cut short": archive("a.csv")[:20],
    "packed with gzip and cut short": gzip.compress(b"x" * 100)[:20],
    "that unpacks to more than any published one": gzip.compress(b"x" * 5000),
    "that is not text": b"a,b\x81\n",
    "of practices without areas": b"PUBLICATION,EXTRACT_DATE,TYPE,CODE,SEX,AGE\n",
    "with a column twice": as_bytes(registered()).replace(b"ONS_CODE", b"SEX"),
    "with an ONS code and a short code of two areas": as_bytes(registered()).replace(b"E38000001", b"E38000230"),
    "with areas of two times": as_bytes(registered(areas=("D4U1Y", "U2G6B"))),
    "of an area that is not known": as_bytes(registered(areas=("00L", "ZZZ"))),
    "without one age of one area": as_bytes([line for line in registered() if ",00N,E38000002,MALE,44," not in line]),
    "whose totals are not the sum of its ages": as_bytes(registered()).replace(b"01,ALL,ALL,", b"01,ALL,ALL,1"),
}


def listed(title: str) -> dict[str, list[str]]:
    """The table under a heading of ``docs/bad-input.md``: what the message says of each case."""
    page = Path(__file__).parent.parent.joinpath("docs", "bad-input.md").read_text(encoding="utf-8")
    section = page.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    return {case: re.findall("`([^`]+)`", says) for case, says in rows}


def test_the_page_lists_these_population_files_and_no_others() -> None:
    assert [*listed("Population files")] == [*REFUSED]


@pytest.mark.parametrize("case", REFUSED)
def test_a_population_file_that_is_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, content = tmp_path / "people.csv", REFUSED[case]
    if "unpacks" in case:
        monkeypatch.setattr(published_files, "MOST_BYTES", 1000)
    if content is None:
        path.mkdir()
    elif case != "that is not there":
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.remedy and "people.csv" in str(caught.value)
    for words in listed("Population files")[case]:
        assert words in f"{caught.value} {caught.value.remedy}", str(caught.value)


def test_a_population_far_from_the_one_that_ships(tmp_path: Path) -> None:
    """In thousands instead of people, and of a year long past."""
    now = read_geography()
    shipped = shipped_population(now)

    def ratio(times: float, **settings: float) -> list[str]:
        people = {key: round(number * times) for key, number in shipped.strata.items()}
        vintage = Vintage(date(2025, 8, 1), shipped.area_date, "", "mine.csv", people)
        config = RunConfig(LakeLocation(tmp_path), **settings)  # type: ignore[arg-type]
        return population_warnings(build_population(config, {vintage.vintage: vintage}, now, ["2025-26"]), ["2025-26"])

    assert ratio(0.84) == ratio(1.2) == []
    [warning] = ratio(0.001)
    assert "mine.csv) has 0.001 times the people" in warning and "thousands" in warning
    assert ratio(0.84, max_population_difference=0.1) and ratio(2.0)


def test_people_of_a_split_area_stay_whole() -> None:
    assert share_people(1000, (("15E", 0.114428), ("D2P2L", 0.885572))) == {"15E": 114, "D2P2L": 886}
    assert share_people(1, (("A", 0.5), ("B", 0.3), ("C", 0.2))) == {"A": 1, "B": 0, "C": 0}
    assert share_people(7, ()) == {}


def change(old: str, new: str) -> Callable[[list[str]], list[str]]:
    def spoil(lines: list[str]) -> list[str]:
        assert any(old in line for line in lines)
        return [line.replace(old, new) for line in lines]

    return spoil


BAD = {
    "total_of_an_area": (change("00L,E38000001,ALL,ALL,", "00L,E38000001,ALL,ALL,1"), ["reconcile", "00L", "1 totals"]),
    "total_of_the_region": (lambda lines: [*lines[:-1], lines[-1] + "0"], ["reconcile", "all locations"]),
    "unknown_area": (change(",00N,", ",ZZZ,"), ["1 area codes", "'ZZZ'", "areas.csv"]),
    "absent_age": (
        lambda lines: [line for line in lines if ",00N,E38000002,MALE,44," not in line],
        ["1 of 384", "missing"],
    ),
    "negative": (
        change("00L,E38000001,MALE,7,1071", "00L,E38000001,MALE,7,-1"),
        ["line", "NUMBER_OF_PATIENTS", "negative"],
    ),
    "overlapping_age": (change("00L,E38000001,MALE,7,", "00L,E38000001,MALE,95,"), ["line", "AGE", "95+"]),
    "twice": (lambda lines: [*lines, lines[1]], ["line 393", "twice"]),
    "two_dates": (lambda lines: [*lines[:-1], lines[-1].replace("2026-08", "2026-09")], ["2 different dates"]),
    "no_date": (change("2026-08-01", "August"), ["line 2", "EXTRACT_DATE"]),
    "sex": (change(",FEMALE,", ",F?,"), ["line 2", "SEX"]),
    "column": (change("NUMBER_OF_PATIENTS", "PATIENTS"), ["NUMBER_OF_PATIENTS", "missing"]),
    "regions_only": (lambda lines: [lines[0], lines[-1]], ["SUB_ICB_LOCATION_CODE"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_of_registered_patients(case: str, tmp_path: Path) -> None:
    spoil, expected = BAD[case]
    path = write(tmp_path / "bad.csv", spoil(registered()))
    with pytest.raises(InputError) as caught:
        read(path)
    for words in (*expected, "bad.csv"):
        assert words in f"{caught.value} {caught.value.remedy}", words


BAD_ESTIMATES = {
    "absent_column": (change(",F88", ",FF"), ["1 of 182", "F88"]),
    "overlapping_column": (change("M90", "M90,M91"), ["M91", "overlaps"]),
    "total": (change(",1052,", ",1053,"), ["reconcile"]),
    "unknown_area": (change("- 00N", "- ZZZ"), ["1 area codes", "E38999002"]),
    "negative": (change(",1052,", ",-5,"), ["negative", "line 2"]),
    "twice": (change("- 00N", "- 00L"), ["line 3", "twice"]),
}


@pytest.mark.parametrize("case", BAD_ESTIMATES)
def test_bad_estimates(case: str, tmp_path: Path) -> None:
    spoil, expected = BAD_ESTIMATES[case]
    path = write(tmp_path / "mid-2022.csv", spoil(ons()))
    with pytest.raises(InputError) as caught:
        read(path, "ons_mid_year")
    for words in (*expected, "mid-2022.csv"):
        assert words in f"{caught.value} {caught.value.remedy}", words


BANDS = [f"{band * 5},{'' if band == 18 else band * 5 + 4}" for band in range(19)]


def banded() -> list[str]:
    lines = [f"sub_icb,{code},{sex},{band},10,2022-10-01" for code in AREAS for sex in "12" for band in BANDS]
    return ["area_type,area_code,sex,age_from,age_to,people,vintage", *lines]


BAD_BANDS = {
    "absent_band": (lambda lines: lines[:-1], ["1 of 76 strata", "2022-10-01", "all 19 bands"]),
    "negative_band": (change("00N,2,5,9,10", "00N,2,5,9,-10"), ["line 60", "negative"]),
    "overlapping_bands": (change("00N,2,5,9,", "00N,2,0,9,"), ["line 60", "0 to 9 is not one of the 19 bands"]),
    "overlapping_last_band": (change("00N,2,85,89,", "00N,2,85,,"), ["line 76", "85 to over"]),
    "unknown_area": (change("00N", "QQQ"), ["1 area codes", "'QQQ'", "geography.mappings"]),
    "band_twice": (lambda lines: [*lines, lines[-1]], ["line 78", "twice"]),
    "no_number": (change("00N,2,5,9,10", "00N,2,5,9,ten"), ["line 60", "not a whole number"]),
    "sex": (change("00N,2,5,9,10", "00N,3,5,9,10"), ["line 60", "sex"]),
    "england": (lambda lines: [*lines, "england,E92000001,1,0,4,21,2022-10-01"], ["reconcile", "760", "21", "England"]),
    "kind_of_area": (lambda lines: [*lines, "ward,E05000001,1,0,4,21,2022-10-01"], ["line 78", "area_type"]),
}


@pytest.mark.parametrize("case", BAD_BANDS)
def test_bad_bands(case: str, tmp_path: Path) -> None:
    spoil, expected = BAD_BANDS[case]
    with pytest.raises(InputError) as caught:
        read(write(tmp_path / "bands.csv", spoil(banded())), "bands")
    for words in (*expected, "bands.csv"):
        assert words in f"{caught.value} {caught.value.remedy}", words


def test_a_file_that_is_not_there_or_does_not_say_its_year(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        read(tmp_path / "none-*.csv")
    path = write(tmp_path / "estimates.csv", ons())
    with pytest.raises(InputError, match="mid-year"):
        read(path, "ons_mid_year")
    with pytest.raises(InputError, match="have their own"):
        read(path, vintage="2022-06-30")


def test_the_vintage_nearest_to_october(tmp_path: Path) -> None:
    for day in ("2021-04-01", "2021-12-01", "2019-10-01"):
        write(tmp_path / f"pat-{day}.csv", registered(day=day))
    items = ({"path": str(tmp_path / "pat-*.csv"), "layout": "gp_registered"},)
    population = read_population(RunConfig(LakeLocation(tmp_path), population=items, max_vintage_days=200), ["2021-22"])
    # 1 October 2021 is 61 days from 1 December and 183 from 1 April; 1 October 2020 is 182 from 1 April 2021.
    assert population.vintage_for("2021-22") == date(2021, 12, 1)
    assert population.vintage_for("2020-21") == date(2021, 4, 1)
    assert population.vintage_for("2018-19") == date(2019, 10, 1)
    assert not population.is_distant("2020-21") and population.is_distant("2018-19")
    strict = RunConfig(LakeLocation(tmp_path), population=items, max_vintage_days=200, distant_vintage="error")
    with pytest.raises(InputError, match="no vintage within 200 days of 1 October of 2018-19"):
        read_population(strict, ["2018-19"])


def test_a_standard_by_file(tmp_path: Path) -> None:
    people = write(tmp_path / "pat.csv", registered())
    bands = [f"{5 * band},{100 + band}" for band in range(19)]
    standard = write(tmp_path / "mine.csv", ["age_from,people", *bands])
    items = ({"path": str(people), "layout": "gp_registered"},)

    def config(path: Path) -> RunConfig:
        return RunConfig(LakeLocation(tmp_path), population=items, standard_population=str(path))

    population = read_population(config(standard), ["2026-27"])
    assert population.standard == "mine" and population.weights[("2", 18)] == 118
    with pytest.raises(InputError, match="2 of 38 weights are missing"):
        read_population(config(write(tmp_path / "short.csv", ["age_from,people", *bands[1:]])), ["2026-27"])
    with pytest.raises(InputError, match="line 3: this band appears twice"):
        read_population(config(write(tmp_path / "twice.csv", ["age_from,people", bands[0], bands[0]])), ["2026-27"])
    for weight in ("nan", "inf", "-1"):
        with pytest.raises(InputError, match="line 2: the row is not a weight"):
            read_population(config(write(tmp_path / "odd.csv", ["age_from,people", f"0,{weight}"])), ["2026-27"])
    with pytest.raises(InputError, match="every weight is 0"):
        read_population(
            config(write(tmp_path / "none.csv", ["age_from,people", *[f"{5 * band},0" for band in range(19)]])), []
        )
