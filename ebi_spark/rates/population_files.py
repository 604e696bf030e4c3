"""Readers of population files: the product's own bands, NHS England's registered patients, ONS mid-year estimates.

Each reader returns people by vintage, sub-ICB location (or CCG) as coded in the file, sex and five-year band. It checks that
nothing is missing and that the sums agree with the file's own totals. All codes of a file must belong to one version of the
areas. ONS codes help to tell which: they change with an area's boundary, while the NHS short code can stay the same. The
areas are assigned to the version that a run shows when rates are computed.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from ebi_spark.errors import InputError
from ebi_spark.geography.area_versions import Geography, Interval, ons_codes, version_on, versions
from ebi_spark.small_files import named_files
from ebi_spark.sources.published_files import PublishedTable, plain_name, read_table

BAND_YEARS = 5
LAST_BAND = 18  # 90 and over
SEXES = ("1", "2")

# (sub-ICB location, sex, band) → people
Strata = dict[tuple[str, str, int], int]

_SEX = {"MALE": "1", "FEMALE": "2", "M": "1", "F": "2", "1": "1", "2": "2"}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
# Names of the organisation type over the years. Older files have clinical commissioning groups (CCGs).
_LOCATIONS = ("SUB_ICB_LOCATION_CODE", "SUB_ICB_LOCATION", "SUB ICB LOCATION", "CCG")
_LAST_AGE = {"gp_registered": 95, "ons_mid_year": 90}
# Codes and names of England, regions and ICBs. Their rows are totals of locations, used as a check.
_ONS_WHOLE = re.compile(r"(E92|E40|E54|E12)\d{6}|ENGLAND")


@dataclass(frozen=True)
class Vintage:
    """The people on one day, ``vintage``, by area code as the file has it, sex and band. No stratum is missing.

    ``area_date`` is the day for which the area codes are interpreted. ``geography`` is the version to which they belong (empty
    if only the user's mappings have them), ``source`` the name of the file.
    """

    vintage: date
    area_date: date
    geography: str
    source: str
    strata: Strata


def read_population_file(item: dict[str, str], geography: Geography) -> dict[date, Vintage]:
    """The people by vintage in the file, or files, of one item of the setting ``population``. Its path can be a pattern.

    Raises an :class:`InputError` that names the file, the line where there is one, and the remedy.
    """
    readers: dict[str, Callable[[Path, _Codes], dict[date, Strata]]] = {
        "bands": _read_bands,
        "gp_registered": _read_gp_registered,
        "ons_mid_year": partial(_read_ons_mid_year, vintage=item.get("vintage")),
    }
    layout, path = item.get("layout", "bands"), Path(item["path"])
    if "vintage" in item and layout != "ons_mid_year":
        raise InputError(
            f"population: {path}: `vintage` is set, but files of the layout {layout} have their own",
            remedy="remove `vintage` from this item",
        )
    paths = named_files(path)
    if not paths:
        raise InputError(f"population: there is no file {path}", remedy="correct the path")
    if item.get("geography", "") not in ("", *versions()):
        raise InputError(
            f"population: {path}: there is no geography {item['geography']!r}",
            remedy=f"choose one of the versions: {', '.join(versions())}",
        )
    by_vintage: dict[date, Vintage] = {}
    for one in paths:
        codes = _Codes(f"population: {one}", geography, item.get("geography"))
        for vintage, strata in readers[layout](one, codes).items():
            if vintage in by_vintage:
                raise vintage_twice(vintage, one)
            by_vintage[vintage] = Vintage(vintage, *codes.read_on(vintage, strata), one.name, strata)
    return by_vintage


def vintage_twice(vintage: date, path: Path) -> InputError:
    """The error for a vintage that two files have."""
    return InputError(
        f"population: the vintage {vintage} is in two files; the second is {path}",
        remedy="give each vintage once",
    )


def _read_bands(path: Path, codes: "_Codes") -> dict[date, Strata]:
    """Read the layout ``bands``: one row for each area, sex and band. Rows of England are used to check the sum; rows of
    regions and ICBs are ignored."""
    what = f"population: {path}"
    columns = ("area_type", "area_code", "sex", "age_from", "age_to", "people", "vintage")
    by_vintage: dict[date, Strata] = defaultdict(dict)
    england: dict[date, Strata] = defaultdict(dict)
    for number, row in _rows(_table(path, columns, "give people by sub-ICB location in 19 bands")):
        kind = row["AREA_TYPE"].lower()
        if kind in ("region", "icb"):
            continue
        if kind not in ("sub_icb", "england"):
            raise InputError(
                f"{what}, line {number}: area_type is not sub_icb, icb, region or england", remedy="correct area_type"
            )
        band, vintage = _band_and_vintage(row, f"{what}, line {number}")
        people = _people(row["PEOPLE"], f"{what}, line {number}: people")
        if row["SEX"] not in SEXES:
            raise InputError(f"{what}, line {number}: sex is not 1 or 2", remedy="write 1 for male, 2 for female")
        strata = england[vintage] if kind == "england" else by_vintage[vintage]
        code = "" if kind == "england" else codes.area_of((row["AREA_CODE"],), f"{what}, line {number}", vintage)
        if code is None:
            codes.unknown.add(row["AREA_CODE"].upper())
            continue
        key = (code, row["SEX"], band)
        if key in strata:
            raise InputError(
                f"{what}, line {number}: this area, sex and band appear twice", remedy="give each combination once"
            )
        strata[key] = people
    codes.refuse_unknown()
    if not by_vintage:
        raise InputError(f"{what}: there is no row with area_type sub_icb", remedy="give people by sub-ICB location")
    for vintage, strata in by_vintage.items():
        areas = {area for area, _, _ in strata}
        wanted = len(areas) * len(SEXES) * (LAST_BAND + 1)
        if len(strata) != wanted:
            raise InputError(
                f"{what}: {wanted - len(strata)} of {wanted} strata of the vintage {vintage} are missing",
                remedy="give every area, both sexes and all 19 bands: a missing stratum would make the denominator too small",
            )
        stated = england.get(vintage, {})
        if stated:
            sums = {("England", ""): (sum(strata.values()), sum(stated.values()))}
            _reconcile(what, f"all locations of {vintage}", sums)
    return by_vintage


def _band_and_vintage(row: Mapping[str, str], what: str) -> tuple[int, date]:
    """The number of the row's band, and its vintage."""
    try:
        start, vintage = int(row["AGE_FROM"]), date.fromisoformat(row["VINTAGE"])
        end = int(row["AGE_TO"]) if row["AGE_TO"] else None
    except ValueError:
        raise InputError(
            f"{what}: age_from, age_to or vintage cannot be read",
            remedy="write ages as whole numbers and the vintage as 2022-10-01",
        ) from None
    last = start == LAST_BAND * BAND_YEARS
    if start % BAND_YEARS or not 0 <= start <= LAST_BAND * BAND_YEARS or (not last and end != start + BAND_YEARS - 1):
        raise InputError(
            f"{what}: {row['AGE_FROM']} to {row['AGE_TO'] or 'over'} is not one of the 19 bands",
            remedy="use the bands 0 to 4, 5 to 9 … 85 to 89, and 90 with an empty age_to",
        )
    return start // BAND_YEARS, vintage


def _read_gp_registered(path: Path, codes: "_Codes") -> dict[date, Strata]:
    """Read NHS England's *Patients Registered at a GP Practice* by sex and age, which has one vintage in each file.

    Ages are single years (``AGE``: 0–94, 95+) or five-year bands (``AGE_GROUP_5``: 0_4 … 90_94, 95+). Rows with sex and age
    ``ALL``, and rows of ICBs, regions and England, are totals used as a check.
    """
    what = f"population: {path}"
    remedy = "give the file with sub-ICB locations by sex and age: gp-reg-pat-prac-sing-age-regions or gp-reg-pat-prac-quin-age"
    columns = ("EXTRACT_DATE", "ORG_TYPE", "ORG_CODE", "SEX", "NUMBER_OF_PATIENTS")
    table = _table(path, columns, remedy)
    banded = "AGE" not in table.header
    if banded and "AGE_GROUP_5" not in table.header:
        raise InputError(f"{what}: the column AGE (or AGE_GROUP_5) is missing", remedy=remedy)
    age_column, read_age = ("AGE_GROUP_5", _age_group) if banded else ("AGE", _single_age)
    ages: dict[tuple[str, str, int], int] = {}
    stated: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)  # totals: type of area → (area, sex) → people
    vintages: set[date] = set()
    for number, given in _rows(table):
        kind, area, age = given["ORG_TYPE"].upper(), given["ORG_CODE"].upper(), given[age_column].upper()
        sex = "ALL" if given["SEX"].upper() == "ALL" else _SEX.get(given["SEX"].upper())
        if sex is None:
            raise InputError(f"{what}, line {number}: SEX is not MALE, FEMALE or ALL", remedy="correct SEX")
        people = _people(given["NUMBER_OF_PATIENTS"], f"{what}, line {number}: NUMBER_OF_PATIENTS")
        vintages.add(_extract_date(given["EXTRACT_DATE"], f"{what}, line {number}"))
        if kind in _LOCATIONS and codes.area_of((area, given.get("ONS_CODE", "")), f"{what}, line {number}") is None:
            codes.unknown.add(area)
        if age == "ALL":
            stated["location" if kind in _LOCATIONS else kind][(area, sex)] = people
        elif kind in _LOCATIONS and sex != "ALL":
            years = read_age(age, f"{what}, line {number}: {age_column}")
            if (area, sex, years) in ages:
                raise InputError(
                    f"{what}, line {number}: this area, sex and age appear twice", remedy="give each combination once"
                )
            ages[(area, sex, years)] = people
    if not ages:
        raise InputError(
            f"{what}: there is no row with ORG_TYPE {_LOCATIONS[0]} (or CCG), a sex and an age", remedy=remedy
        )
    if len(vintages) != 1:
        raise InputError(
            f"{what}: EXTRACT_DATE has {len(vintages)} different dates", remedy="give one file for each extract"
        )
    last = _LAST_AGE["gp_registered"]
    strata = _by_band(ages, what, range(0, last + 1, BAND_YEARS) if banded else range(last + 1), codes)
    by_sex: dict[tuple[str, str], int] = defaultdict(int)
    for (area, sex, _), people in ages.items():
        by_sex[(area, sex)] += people
        by_sex[(area, "ALL")] += people
    _reconcile(
        what, "an area's ages", {key: (by_sex[key], people) for key, people in stated.pop("location", {}).items()}
    )
    everyone = sum(ages.values())
    for kind, totals in stated.items():
        if re.search("REGION|ICB|STP|ENGLAND", kind):
            whole = [people for (_, sex), people in totals.items() if sex == "ALL"]
            if whole:
                _reconcile(what, "all locations", {(kind, "ALL"): (everyone, sum(whole))})
    return {vintages.pop(): strata}


def _read_ons_mid_year(path: Path, codes: "_Codes", vintage: str | None) -> dict[date, Strata]:
    """Read the ONS mid-year estimates of sub-ICB locations: one row for each area.

    Columns ``F0`` … ``F90`` and ``M0`` … ``M90`` have the people of each age (90 is 90 and over). The names of the other
    columns change every year, so the area is found as the field with a known code, or with a name that ends with one. Rows
    of England, regions and ICBs are totals used as a check. The vintage is the day ``vintage`` if the configuration gives it, or
    else 30 June of the year in the file's name or its title lines (``mid-2022``).
    """
    what = f"population: {path}"
    last = _LAST_AGE["ons_mid_year"]
    wanted = [f"{letter}{age}" for letter in "FM" for age in range(last + 1)]
    table = read_table(path, what, wanted, _bare_name)
    missing = [name for name in wanted if name not in table.header]
    if missing or not table.rows:
        raise InputError(
            f"{what}: {len(missing)} of {len(wanted)} age columns are missing (such as {missing[0]}) in line {table.line}, "
            "the line most like a header"
            if missing
            else f"{what}: there is no row below the header (line {table.line})",
            remedy="give the estimates by sex and single year of age, with the columns F0 to F90 and M0 to M90",
        )
    beyond = [name for name in table.header if re.fullmatch(r"[FM]\d+", name) and name not in wanted]
    if beyond:
        raise InputError(
            f"{what}: {beyond[0]} overlaps {beyond[0][0]}{last}, which is {last} and over", remedy="remove this column"
        )
    total = next((name for name in table.header if name in ("TOTAL", "ALLAGES", "ALLPERSONS")), None)
    ages: dict[tuple[str, str, int], int] = {}
    stated: dict[tuple[str, str], int] = {}
    wholes: dict[str, int] = defaultdict(int)
    for number, row in table.records():
        if not any(row[name] for name in wanted):
            continue  # a note below the table
        named = [value for name, value in row.items() if not re.fullmatch(r"[FM]\d+", name)]
        where = f"{what}, line {number}"
        people = {name: _people(row[name], f"{where}: {name}") for name in wanted}
        area = codes.area_of(named, where)
        whole = next((value.upper()[:3] for value in named if _ONS_WHOLE.fullmatch(value.upper())), None)
        if area is None and whole is None:
            codes.unknown.add(next((value for value in named if value), "?"))
            continue
        if area is None:
            wholes["England" if whole in ("E92", "ENG") else f"the areas {whole}…"] += sum(people.values())
            continue
        if (area, "1", 0) in ages:
            raise InputError(f"{where}: this area appears twice", remedy="give each area once")
        ages |= {(area, _SEX[name[0]], int(name[1:])): count for name, count in people.items()}
        if total:
            stated[(area, "ALL")] = _people(row[total], f"{where}: {total}")
    strata = _by_band(ages, what, range(last + 1), codes)
    by_area: dict[str, int] = defaultdict(int)
    for (area, _, _), count in ages.items():
        by_area[area] += count
    _reconcile(what, "an area's ages", {key: (by_area[key[0]], count) for key, count in stated.items()})
    everyone = sum(by_area.values())
    _reconcile(what, "all locations", {(name, ""): (everyone, count) for name, count in wholes.items()})
    return {date.fromisoformat(vintage) if vintage else _mid_year(path, table.titles, what): strata}


def _bare_name(name: str) -> str:
    """A column name without blanks and signs: ``F90+`` becomes ``F90``."""
    return re.sub(r"[^A-Z0-9]", "", name.upper())


class _Codes:
    """Reads the area codes of one file, and finds the version to which they belong. Unknown codes are collected in
    ``unknown`` and reported together."""

    def __init__(self, what: str, geography: Geography, stated: str | None) -> None:
        self.what, self.geography, self.stated = what, geography, stated
        self.ons = ons_codes()
        self.unknown: set[str] = set()
        # The ONS codes of the file, by vintage (None where the file has only one vintage) and area.
        self.named: dict[tuple[date | None, str], set[str]] = defaultdict(set)

    def area_of(self, fields: Iterable[str], where: str, vintage: date | None = None) -> str | None:
        """The area that the fields of a row name, by ONS code, short code, or a name that ends in `` - CODE``.

        None if they name no known area. Raises an :class:`InputError` if they name two different ones.
        """
        found: dict[str, str] = {}  # kind of code → area
        for value in fields:
            for code in (value.strip().upper(), value.rpartition(" - ")[2].strip().upper()):
                if code in self.ons:
                    found.setdefault("ons", self.ons[code][0])
                    self.named[(vintage, self.ons[code][0])].add(code)
                elif code in self.geography.valid:
                    found.setdefault("short", code)
        if len({*found.values()}) > 1:
            raise InputError(
                f"{where}: the ONS code is that of {found['ons']}, and the row also names {found['short']}",
                remedy="correct the row: both codes must be of the same area",
            )
        return next(iter(found.values()), None)

    def refuse_unknown(self) -> None:
        """Raise an :class:`InputError` if the file has codes of unknown areas."""
        if self.unknown:
            raise InputError(
                f"{self.what}: {len(self.unknown)} area codes are not those of a sub-ICB location or CCG that the product knows "
                f"(such as {sorted(self.unknown)[0]!r})",
                remedy="use the codes of conf/reference/areas.csv, or list in a file of geography.mappings what they became",
            )

    def read_on(self, vintage: date, strata: Strata) -> tuple[date, str]:
        """The day for which the area codes are interpreted, and the version to which they belong.

        The configured version (``geography`` of the item) is used if there is one. Otherwise it is the day of the vintage, if
        all codes are valid then, or else the nearest version that has all codes: people of one day are sometimes published by
        the areas of another, before or after a change. If the file has an ONS code for an area, the area's code is valid only
        on days on which the ONS code is. Raises an :class:`InputError` if no single day fits all codes.
        """
        codes = {code for code, _, _ in strata}
        known = versions()
        named = {code: self.named.get((vintage, code), set()) | self.named.get((None, code), set()) for code in codes}

        def is_valid(code: str, day: date) -> bool:
            spans: list[Interval] = [self.ons[ons][1] for ons in named[code]]
            by_ons = not spans or any(since <= day < until for since, until in spans)
            return by_ons and self.geography.is_valid(code, day)

        def absent(day: date) -> list[str]:
            return sorted(code for code in codes if not is_valid(code, day))

        if self.stated:
            candidates = [known[self.stated]]
        else:
            candidates = [vintage, *sorted(known.values(), key=lambda day: abs((day - vintage).days))]
        best = min(candidates, key=lambda day: len(absent(day)))  # the first of equals
        if absent(best):
            code = absent(best)[0]
            ons = f" ({', '.join(sorted(named[code]))})" if named[code] else ""
            raise InputError(
                f"{self.what}: {len(absent(best))} of {len(codes)} area codes are not valid on the same day as the rest "
                f"(such as {code!r}{ons}, not a valid area code on {best})",
                remedy="use the areas of one day in the file, or name its version next to its path, such as `geography: icb_2024`",
            )
        return best, version_on(best)


def _table(path: Path, required: Iterable[str], remedy: str) -> PublishedTable:
    """The table in a file, checked for the required columns and for rows."""
    what = f"population: {path}"
    names = [plain_name(name) for name in required]
    table = read_table(path, what, names)
    missing = [name for name in names if name not in table.header]
    if missing:
        raise InputError(
            f"{what}: the column {missing[0]} is missing in line {table.line}, the line most like a header",
            remedy=remedy,
        )
    if not table.rows:
        raise InputError(f"{what}: there is no row below the header (line {table.line})", remedy=remedy)
    return table


def _rows(table: PublishedTable) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows with their line numbers, without notes below the table (rows with text in the first field only)."""
    for line, row in table.records():
        if any([*row.values()][1:]):
            yield line, row


def _by_band(ages: dict[tuple[str, str, int], int], what: str, starts: range, codes: _Codes) -> Strata:
    """People by area, sex and five-year band, from people by single year or group of age.

    ``starts``: the first ages of all years or groups that must be present. Raises an :class:`InputError` if an area, sex or
    age is missing, or two codes name the same area.
    """
    codes.refuse_unknown()
    areas = {area for area, _, _ in ages}
    named = {area: codes.area_of((area,), what) or area for area in areas}
    if len({*named.values()}) < len(areas):
        raise InputError(f"{what}: two area codes name the same area", remedy="give each area once")
    wanted = len(areas) * len(SEXES) * len(starts)
    if len(ages) != wanted:
        raise InputError(
            f"{what}: {wanted - len(ages)} of {wanted} areas by sex and age are missing",
            remedy="give every area, both sexes and every age: a missing stratum would make the denominator too small",
        )
    strata: Strata = defaultdict(int)
    for (area, sex, age), people in ages.items():
        strata[(named[area], sex, min(age // BAND_YEARS, LAST_BAND))] += people
    return dict(strata)


def _reconcile(what: str, summed: str, sums: dict[tuple[str, str], tuple[int, int]]) -> None:
    """Raise an :class:`InputError` if a sum differs from the file's total. ``sums`` has pairs (our sum, the file's total);
    ``summed`` says in the message what was added up."""
    differing = {key: pair for key, pair in sums.items() if pair[0] != pair[1]}
    if differing:
        (name, _), (added, stated) = next(iter(sorted(differing.items())))
        raise InputError(
            f"{what}: {len(differing)} totals do not reconcile. The first: {summed} add up to {added:,}, the file says {stated:,} "
            f"({name})",
            remedy="download the file again. If you removed rows, remove their totals too",
        )


def _people(text: str, where: str) -> int:
    """A count of people. Commas or blanks may separate the thousands."""
    written = re.fullmatch(r"([0-9]+|[0-9]{1,3}(?:[, \u00a0\u2009\u202f][0-9]{3})+)(?:\.0+)?", text)
    if not written:
        raise InputError(f"{where} is negative or not a whole number", remedy="correct the count")
    return int(re.sub(r"\D", "", written[1]))


def _single_age(text: str, where: str) -> int:
    last = _LAST_AGE["gp_registered"]
    years = int(text.rstrip("+")) if re.fullmatch(r"[0-9]{1,3}\+?", text) else -1
    if not 0 <= years <= last or text.endswith("+") != (years == last):
        raise InputError(f"{where} is not 0 to {last - 1}, {last}+ or ALL", remedy="give single years of age")
    return years


def _age_group(text: str, where: str) -> int:
    """The first age of a five-year group."""
    last = _LAST_AGE["gp_registered"]
    written = re.fullmatch(r"([0-9]{1,2})(?:[_-]([0-9]{1,2})|\+)", text)
    start = int(written[1]) if written else -1
    open_ended = written is not None and written[2] is None
    fits = written is not None and (start == last if open_ended else int(written[2]) == start + BAND_YEARS - 1)
    if not fits or start % BAND_YEARS or start > last or open_ended != (start == last):
        raise InputError(f"{where} is not 0_4, 5_9 … 90_94, {last}+ or ALL", remedy="give five-year bands of age")
    return start


def _extract_date(text: str, where: str) -> date:
    written = re.fullmatch(r"(\d{1,2})[- ]?([A-Za-z]{3})[A-Za-z]*[- ]?(\d{4})", text)
    try:
        if written and written[2].upper() in _MONTHS:
            return date(int(written[3]), _MONTHS.index(written[2].upper()) + 1, int(written[1]))
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{where}: EXTRACT_DATE is not a date such as 2026-08-01 or 01Aug2026", remedy="correct EXTRACT_DATE"
        ) from None


def _mid_year(path: Path, titles: str, what: str) -> date:
    """30 June of the year that a file's name or its title lines give."""
    named = (re.findall(r"mid[-_ ]?(20\d\d|19\d\d)", text.lower()) for text in (path.name, titles))
    years = next((found for found in named if found), [])
    if len(set(years)) != 1:
        raise InputError(
            f"{what}: neither the file's name nor its titles say which mid-year it is for",
            remedy='write `vintage: "2022-06-30"` next to its path, or rename the file to contain mid-2022',
        )
    return date(int(years[0]), 6, 30)
