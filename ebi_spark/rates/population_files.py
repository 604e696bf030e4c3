"""Readers of population files: the product's own bands, NHS England's registered patients, ONS mid-year estimates.

Each gives people by vintage and by the file's own sub-ICB locations (or CCGs), sex and five-year band, complete and
reconciled with the file's own totals. All codes of a file are of one version of the areas: what they are on the version
that is shown is found when rates are made.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from ebi_spark.errors import InputError
from ebi_spark.flags.geography import Geography, version_on, versions
from ebi_spark.settings import resource
from ebi_spark.small_files import read_rows

BAND_YEARS = 5
LAST_BAND = 18  # 90 and over
SEXES = ("1", "2")

# (sub-ICB location, sex, band) → people
Strata = dict[tuple[str, str, int], int]

_SEX = {"MALE": "1", "FEMALE": "2", "M": "1", "F": "2", "1": "1", "2": "2"}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
# What one organisation type is called over the years; older files have clinical commissioning groups.
_LOCATIONS = ("SUB_ICB_LOCATION_CODE", "SUB_ICB_LOCATION", "SUB ICB LOCATION", "CCG")
_LAST_AGE = {"gp_registered": 95, "ons_mid_year": 90}


@dataclass(frozen=True)
class Vintage:
    """The people of one day, complete: by area code as the file has it, sex and band.

    ``area_date`` is the day on which those codes are to be read, ``geography`` the version whose areas they are (empty:
    of the user's mappings alone), ``source`` the file's name.
    """

    vintage: date
    area_date: date
    geography: str
    source: str
    strata: Strata


def read_population_file(item: dict[str, str], geography: Geography) -> dict[date, Vintage]:
    """The people in the files of one item of ``population``; its path may be a pattern, one vintage a file."""
    readers: dict[str, Callable[[Path, dict[str, str], _Codes], dict[date, Strata]]] = {
        "bands": _read_bands,
        "gp_registered": _read_gp_registered,
        "ons_mid_year": _read_ons_mid_year,
    }
    layout, path = item.get("layout", "bands"), Path(item["path"])
    if "vintage" in item and layout != "ons_mid_year":
        raise InputError(
            f"population: {path}: a vintage is given, but files of the layout {layout} carry their own",
            remedy="leave `vintage` out",
        )
    paths = sorted(path.parent.glob(path.name)) if any(sign in path.name for sign in "*?[") else [path]
    if not paths:
        raise InputError(f"population: there is no file {path}", remedy="correct the path")
    if item.get("geography", "") not in ("", *versions()):
        raise InputError(
            f"population: {path}: there is no geography {item['geography']!r}",
            remedy=f"the versions are: {', '.join(versions())}",
        )
    by_vintage: dict[date, Vintage] = {}
    for one in paths:
        codes = _Codes(f"population: {one}", geography, item.get("geography"))
        for vintage, strata in readers[layout](one, item, codes).items():
            if vintage in by_vintage:
                raise _twice(vintage, one)
            by_vintage[vintage] = Vintage(vintage, *codes.read_on(vintage, strata), one.name, strata)
    return by_vintage


def _twice(vintage: date, path: Path) -> InputError:
    return InputError(
        f"population: the vintage {vintage} stands in two files, {path} being the second",
        remedy="give each vintage once",
    )


def _read_bands(path: Path, item: dict[str, str], codes: "_Codes") -> dict[date, Strata]:
    """The layout ``bands``: a row an area, sex and band."""
    what = f"population: {path}"
    columns = ("area_type", "area_code", "sex", "age_from", "age_to", "people", "vintage")
    by_vintage: dict[date, Strata] = defaultdict(dict)
    for number, row in enumerate(read_rows(path, columns), start=2):
        if row["area_type"] != "sub_icb":
            continue
        try:
            start, people, vintage = int(row["age_from"]), int(row["people"]), date.fromisoformat(row["vintage"])
            end = int(row["age_to"]) if row["age_to"] else None
        except (TypeError, ValueError):
            raise InputError(
                f"{what}, line {number}: a number or the vintage cannot be read",
                remedy="write whole numbers, and the vintage as 2022-10-01",
            ) from None
        last = start == LAST_BAND * BAND_YEARS
        if start % BAND_YEARS or start > LAST_BAND * BAND_YEARS or (not last and end != start + BAND_YEARS - 1):
            raise InputError(
                f"{what}, line {number}: {row['age_from']} to {row['age_to'] or 'over'} is not one of the 19 bands",
                remedy="use 0-4, 5-9 … 85-89 and 90 with an empty age_to",
            )
        if people < 0:
            raise InputError(f"{what}, line {number}: people is negative", remedy="correct the count")
        if row["sex"] not in SEXES:
            raise InputError(f"{what}, line {number}: sex is neither 1 nor 2", remedy="1 is male, 2 is female")
        code = codes.known(row["area_code"])
        if code is None:
            continue
        key = (code, row["sex"], start // BAND_YEARS)
        if key in by_vintage[vintage]:
            raise InputError(f"{what}, line {number}: this area, sex and band stand twice", remedy="give each once")
        by_vintage[vintage][key] = people
    codes.refuse_unknown()
    if not by_vintage:
        raise InputError(f"{what}: there is no row of area_type sub_icb", remedy="give people by sub-ICB location")
    for vintage, strata in by_vintage.items():
        areas = {area for area, _, _ in strata}
        wanted = len(areas) * len(SEXES) * (LAST_BAND + 1)
        if len(strata) != wanted:
            raise InputError(
                f"{what}: {wanted - len(strata)} of {wanted} strata of the vintage {vintage} are missing",
                remedy="give every area, both sexes and all 19 bands: an absent stratum would shrink the denominator",
            )
    return by_vintage


def _read_gp_registered(path: Path, item: dict[str, str], codes: "_Codes") -> dict[date, Strata]:
    """NHS England's *Patients Registered at a GP Practice* by sex and single year of age (0–94, 95+), one vintage a file.

    Rows of the sex and age ``ALL`` are totals to reconcile with, as are those of ICBs, regions and England.
    """
    what = f"population: {path}"
    columns = ("EXTRACT_DATE", "ORG_TYPE", "ORG_CODE", "SEX", "AGE", "NUMBER_OF_PATIENTS")
    ages: dict[tuple[str, str, int], int] = {}
    own: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)  # type of area → (area, sex) → people
    vintages: set[date] = set()
    for number, given in enumerate(_named_rows(path, columns), start=2):
        kind, area, age = given["ORG_TYPE"].upper(), given["ORG_CODE"].upper(), given["AGE"].upper()
        sex = "ALL" if given["SEX"].upper() == "ALL" else _SEX.get(given["SEX"].upper())
        if sex is None:
            raise InputError(f"{what}, line {number}: SEX is not MALE, FEMALE or ALL", remedy="correct it")
        people = _people(given["NUMBER_OF_PATIENTS"], f"{what}, line {number}: NUMBER_OF_PATIENTS")
        vintages.add(_extract_date(given["EXTRACT_DATE"], f"{what}, line {number}"))
        if age == "ALL":
            own["location" if kind in _LOCATIONS else kind][(area, sex)] = people
        elif kind in _LOCATIONS and sex != "ALL":
            years = _age(age, _LAST_AGE["gp_registered"], f"{what}, line {number}: AGE")
            if (area, sex, years) in ages:
                raise InputError(f"{what}, line {number}: this area, sex and age stand twice", remedy="give each once")
            ages[(area, sex, years)] = people
    if not ages:
        raise InputError(
            f"{what}: there is no row of ORG_TYPE {_LOCATIONS[0]} (or CCG) by sex and age",
            remedy="give the file by single year of age, with sub-ICB locations (gp-reg-pat-prac-sing-age-regions)",
        )
    if len(vintages) != 1:
        raise InputError(f"{what}: EXTRACT_DATE has {len(vintages)} dates", remedy="give one file an extract")
    strata = _by_band(ages, what, _LAST_AGE["gp_registered"], codes)
    by_sex: dict[tuple[str, str], int] = defaultdict(int)
    for (area, sex, _), people in ages.items():
        by_sex[(area, sex)] += people
        by_sex[(area, "ALL")] += people
    _reconcile(what, "an area's ages", {key: (by_sex[key], told) for key, told in own.pop("location", {}).items()})
    everyone = sum(ages.values())
    for kind, totals in own.items():
        if re.search("REGION|ICB|STP|ENGLAND", kind):
            whole = [people for (_, sex), people in totals.items() if sex == "ALL"]
            if whole:
                _reconcile(what, "all locations", {(kind, "ALL"): (everyone, sum(whole))})
    return {vintages.pop(): strata}


def _read_ons_mid_year(path: Path, item: dict[str, str], codes: "_Codes") -> dict[date, Strata]:
    """ONS mid-year estimates of sub-ICB locations: a row an area, columns ``F0`` … ``F90``, ``M0`` … ``M90`` (90 is 90
    and over). Names of the other columns change every year; the area is the field that holds a known code, or a name that
    ends with one. The vintage is 30 June of the year in the item's ``vintage``, or in the file's name (``mid-2022``)."""
    what = f"population: {path}"
    last = _LAST_AGE["ons_mid_year"]
    rows = _named_rows(path, ())
    wanted = [f"{letter}{age}" for letter in "FM" for age in range(last + 1)]
    there = {re.sub(r"[^A-Z0-9]", "", name): name for name in (rows[0] if rows else {})}
    missing = [name for name in wanted if name not in there]
    if missing:
        raise InputError(
            f"{what}: {len(missing)} of {len(wanted)} age columns are missing (such as {missing[0]}), or there is no row",
            remedy="give the estimates by sex and single year of age, columns F0 to F90 and M0 to M90",
        )
    beyond = [name for name in there if re.fullmatch(r"[FM]\d+", name) and name not in wanted]
    if beyond:
        raise InputError(
            f"{what}: {beyond[0]} overlaps {beyond[0][0]}{last}, which is {last} and over", remedy="drop it"
        )
    total = next((name for short, name in there.items() if short in ("TOTAL", "ALLAGES", "ALLPERSONS")), None)
    ages, told = {}, {}
    for number, row in enumerate(rows, start=2):
        area = codes.found_in(value for name, value in row.items() if not re.fullmatch(r"[FM]\d+", name))
        if area is None:
            codes.unknown.add(next(iter(row.values())))
            continue
        if (area, "1", 0) in ages:
            raise InputError(f"{what}, line {number}: this area stands twice", remedy="give each area once")
        for name in wanted:
            people = _people(row[there[name]], f"{what}, line {number}: {name}")
            ages[(area, _SEX[name[0]], int(name[1:]))] = people
        if total:
            told[(area, "ALL")] = _people(row[total], f"{what}, line {number}: {total}")
    strata = _by_band(ages, what, last, codes)
    by_area: dict[str, int] = defaultdict(int)
    for (area, _, _), people in ages.items():
        by_area[area] += people
    _reconcile(what, "an area's ages", {key: (by_area[key[0]], people) for key, people in told.items()})
    return {_mid_year(path, item, what): strata}


class _Codes:
    """Area codes of a file as the NHS writes them, and the version that they are of; what is not known is gathered, to be
    told at once."""

    def __init__(self, what: str, geography: Geography, stated: str | None) -> None:
        self.what, self.geography, self.stated = what, geography, stated
        rows = read_rows(resource("conf", "reference", "area_ons_codes.csv"))
        self.ons = {row["ons_code"]: row["sub_icb_code"] for row in rows}
        self.unknown: set[str] = set()

    def known(self, code: str) -> str | None:
        """The code of an area, None (and noted) where it is unknown."""
        found = self.found_in((code,))
        if found is None:
            self.unknown.add(code.strip().upper())
        return found

    def found_in(self, fields: Iterable[str]) -> str | None:
        """The one area that a row's fields name by its code, or by a name ending in `` - CODE``."""
        for value in fields:
            for code in (value.strip().upper(), value.rpartition(" - ")[2].strip().upper()):
                code = self.ons.get(code, code)
                if code in self.geography.valid:
                    return code
        return None

    def refuse_unknown(self) -> None:
        if self.unknown:
            raise InputError(
                f"{self.what}: {len(self.unknown)} area codes are no sub-ICB location that is known "
                f"(such as {sorted(self.unknown)[0]!r})",
                remedy="use the codes of conf/reference/areas.csv, or say in geography.mappings what they became",
            )

    def read_on(self, vintage: date, strata: Strata) -> tuple[date, str]:
        """The day on which the codes are to be read, and the version they are of: the one that the configuration states,
        else what is valid on the vintage, else the version nearest to it that has every code. The people of one day are
        published by areas of another, before a change as after it."""
        codes = {code for code, _, _ in strata}
        known = versions()

        def absent(day: date) -> list[str]:
            return sorted(code for code in codes if not self.geography.is_valid(code, day))

        if self.stated:
            candidates = [known[self.stated]]
        else:
            candidates = [vintage, *sorted(known.values(), key=lambda day: abs((day - vintage).days))]
        best = min(candidates, key=lambda day: len(absent(day)))  # the first of equals
        if absent(best):
            raise InputError(
                f"{self.what}: {len(absent(best))} of {len(codes)} area codes are of another time than the rest "
                f"(such as {absent(best)[0]!r}, no area on {best})",
                remedy="give the file by the areas of one day, or name its version: `geography: icb_2024` beside its path",
            )
        return best, version_on(best)


def _named_rows(path: Path, required: Iterable[str]) -> list[dict[str, str]]:
    """Rows by column name in upper case without blanks around; an absent field is empty."""
    rows = [
        {
            (name or "").strip().upper(): (value or "").strip()
            for name, value in row.items()
            if isinstance(value, str | None)
        }
        for row in read_rows(path)
    ]
    missing = [name for name in required if not rows or name not in rows[0]]
    if missing:
        raise InputError(
            f"population: {path}: the column {missing[0]} is missing, or there is no row", remedy=f"add {missing[0]}"
        )
    return rows


def _by_band(ages: dict[tuple[str, str, int], int], what: str, last: int, codes: _Codes) -> Strata:
    """Single years as five-year bands, every area, sex and age there."""
    areas = {area for area, _, _ in ages}
    named = {area: codes.known(area) or area for area in areas}
    codes.refuse_unknown()
    if len({*named.values()}) < len(areas):
        raise InputError(f"{what}: two area codes stand for one area", remedy="give each area once")
    wanted = len(areas) * len(SEXES) * (last + 1)
    if len(ages) != wanted:
        raise InputError(
            f"{what}: {wanted - len(ages)} of {wanted} areas by sex and age are missing",
            remedy="give every area, both sexes and every age: an absent stratum would shrink the denominator",
        )
    strata: Strata = defaultdict(int)
    for (area, sex, age), people in ages.items():
        strata[(named[area], sex, min(age // BAND_YEARS, LAST_BAND))] += people
    return dict(strata)


def _reconcile(what: str, of: str, sums: dict[tuple[str, str], tuple[int, int]]) -> None:
    apart = {key: pair for key, pair in sums.items() if pair[0] != pair[1]}
    if apart:
        (name, _), (added, told) = next(iter(sorted(apart.items())))
        raise InputError(
            f"{what}: {len(apart)} totals do not reconcile; the first: {of} add up to {added:,}, the file says {told:,} "
            f"({name})",
            remedy="download the file again; if rows were taken out, take their totals out too",
        )


def _people(text: str, where: str) -> int:
    digits = text.replace(",", "")
    if not re.fullmatch(r"\d+(\.0+)?", digits):
        raise InputError(f"{where} is negative or no whole number", remedy="correct the count")
    return int(float(digits))


def _age(text: str, last: int, where: str) -> int:
    years = int(text.rstrip("+")) if re.fullmatch(r"\d+\+?", text) else -1
    if not 0 <= years <= last or text.endswith("+") != (years == last):
        raise InputError(f"{where} is not 0 to {last - 1}, {last}+ or ALL", remedy="give single years of age")
    return years


def _extract_date(text: str, where: str) -> date:
    written = re.fullmatch(r"(\d{1,2})[- ]?([A-Za-z]{3})[A-Za-z]*[- ]?(\d{4})", text)
    try:
        if written and written[2].upper() in _MONTHS:
            return date(int(written[3]), _MONTHS.index(written[2].upper()) + 1, int(written[1]))
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{where}: EXTRACT_DATE is not of the form 2026-08-01 or 01Aug2026", remedy="correct it"
        ) from None


def _mid_year(path: Path, item: dict[str, str], what: str) -> date:
    if "vintage" in item:
        return date.fromisoformat(item["vintage"])
    years = re.findall(r"mid[-_ ]?(20\d\d|19\d\d)", path.name.lower())
    if len(set(years)) != 1:
        raise InputError(
            f"{what}: the file's name does not say of which mid-year it is",
            remedy='write `vintage: "2022-06-30"` beside its path, or name the file …mid-2022….csv',
        )
    return date(int(years[0]), 6, 30)
