"""People by area, sex and five-year age band (the shipped table or the user's own), and the standard population of rates.

Populations cover all ages, also for policies on adults (decision 14). The tables are small, so they are read and checked on
the driver. Silver stores them by the areas of their file; they are assigned to the areas shown when rates are computed.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.financial_years import midpoint_of
from ebi_spark.geography.area_lists import ENGLAND_ONS
from ebi_spark.geography.area_versions import Geography, areas_of_parts, read_geography
from ebi_spark.geography.lookup_files import read_lookup
from ebi_spark.rates.population_files import (
    BAND_YEARS,
    LAST_BAND,
    SEXES,
    Vintage,
    read_population_file,
    vintage_twice,
)
from ebi_spark.small_files import read_rows
from ebi_spark.small_frames import small_frame

DISTANT_VINTAGE = "distant_vintage"
PARTIAL_POPULATION = "partial_population"
UNUSUAL_POPULATION = "unusual_population"
# (type, code) of an area
Area = tuple[str, str]


@dataclass(frozen=True)
class Population:
    """People by vintage (the day of the estimate), the geography version shown, and the weights of the standard population."""

    by_vintage: dict[date, Vintage]
    geography: Geography
    weights: dict[tuple[str, int], float]
    standard: str
    max_days: int
    # Whether some lookup row has no dates. Such rows place the records of every year in an area of today.
    undated_lookups: bool = False
    # By vintage: its number of people as a multiple of the shipped population's, where that is far from 1.
    unusual: dict[date, float] = field(default_factory=dict)

    def covers(self, year: str) -> bool:
        """Whether records of the year can be placed below England. If not, an area without activity must not be shown as 0."""
        return self.undated_lookups or self.geography.covers(year)

    def vintage_for(self, year: str) -> date:
        """The vintage nearest to 1 October of the financial year; of two equally near, the earlier."""
        middle = midpoint_of(year)
        return min(sorted(self.by_vintage), key=lambda vintage: abs((vintage - middle).days))

    def is_distant(self, year: str) -> bool:
        """Whether the year's vintage is more than the configured ``max_vintage_days`` from 1 October of the year."""
        return abs((self.vintage_for(year) - midpoint_of(year)).days) > self.max_days

    def is_unusual(self, year: str) -> bool:
        """Whether the year's vintage differs from the shipped population by more than ``max_population_difference``."""
        return self.vintage_for(year) in self.unusual

    @cached_property
    def _without(self) -> dict[date, set[Area]]:
        return {vintage: areas_without_people(self.geography, people) for vintage, people in self.by_vintage.items()}

    def without_people(self, year: str) -> set[Area]:
        """The areas (England can be one) for which the year's vintage lacks some people. They have no rate."""
        return self._without[self.vintage_for(year)]


def band_of(age: Column) -> Column:
    """Index of the five-year band of an age in years: 0 for 0–4, up to 18 for 90 and over; NULL for an unknown age."""
    # least() ignores NULL, so an unknown age would become 90 and over.
    return F.when(age.isNotNull(), F.least(F.floor(age / BAND_YEARS), F.lit(LAST_BAND))).cast("int")


def read_vintages(config: RunConfig, geography: Geography) -> dict[date, Vintage]:
    """The populations that the configuration names (or the shipped one) by vintage, read and checked.

    Raises an :class:`InputError` for a file that is incomplete or inconsistent, and for a vintage that is in two files.
    """
    by_vintage: dict[date, Vintage] = {}
    for item in config.population or (_shipped_file(),):
        for vintage, people in read_population_file(dict(item), geography).items():
            if vintage in by_vintage:
                raise vintage_twice(vintage, Path(item["path"]))
            by_vintage[vintage] = people
    return by_vintage


def population_rows(by_vintage: dict[date, Vintage], run_id: str) -> list[dict[str, Any]]:
    """The rows of ``silver/population``: one for each vintage, area, sex and age band.

    | area, sex, band: people | → area_code | sex | age_from | age_to | people |
    |-------------------------|-------------|-----|----------|--------|--------|
    | 15M, 1, 0: 28400        | 15M         | 1   | 0        | 4      | 28400  |
    | 15M, 1, 18: 3100        | 15M         | 1   | 90       | None   | 3100   |
    | 15M, 2, 18: 6500        | 15M         | 2   | 90       | None   | 6500   |
    """
    return [
        {
            "vintage": people.vintage,
            "area_type": "sub_icb",
            "area_code": code,
            "geography": people.geography,
            "area_date": people.area_date,
            "sex": sex,
            "age_from": band * BAND_YEARS,
            "age_to": None if band == LAST_BAND else band * BAND_YEARS + BAND_YEARS - 1,
            "people": number,
            "source": people.source,
            "run_id": run_id,
        }
        for people in by_vintage.values()
        for (code, sex, band), number in sorted(people.strata.items())
    ]


def stored_vintages(stored: Iterable[Mapping[str, Any]]) -> dict[date, Vintage]:
    """The populations by vintage, from the rows of ``silver/population``."""
    found: dict[date, Vintage] = {}
    for row in stored:
        given = Vintage(row["vintage"], row["area_date"], row["geography"], row["source"], {})
        people = found.setdefault(row["vintage"], given)
        people.strata[(row["area_code"], row["sex"], row["age_from"] // BAND_YEARS)] = row["people"]
    return found


def read_population(config: RunConfig, years: list[str]) -> Population:
    """The population and standard that the configuration names, read from their files and checked."""
    geography = read_geography(config.geography, config.mappings)
    return build_population(config, read_vintages(config, geography), geography, years)


def build_population(
    config: RunConfig, by_vintage: dict[date, Vintage], geography: Geography, years: list[str]
) -> Population:
    """The populations together with the standard that the configuration names.

    With ``distant_vintage: error``, raises an :class:`InputError` if a year has no vintage within ``max_vintage_days``.
    """
    standard = config.standard_population
    name = Path(standard).stem if standard.endswith(".csv") else standard
    lookups = ((config.practices, "practice_code"), (config.lsoas, "lsoa"))
    undated = any(not row.dated for path, key in lookups if path for row in read_lookup(path, key))
    weights = standard_weights(standard, by_vintage, geography)
    shipped = shipped_population(geography)
    ratios = {vintage: people_ratio(geography, people, shipped) for vintage, people in by_vintage.items()}
    unusual = {vintage: ratio for vintage, ratio in ratios.items() if abs(ratio - 1) > config.max_population_difference}
    population = Population(by_vintage, geography, weights, name, config.max_vintage_days, undated, unusual)
    distant = [year for year in years if population.is_distant(year)]
    if distant and config.distant_vintage == "error":
        raise InputError(
            f"population: no vintage within {config.max_vintage_days} days of 1 October of {', '.join(distant)}",
            remedy="give a population file nearer to these years, or write `distant_vintage: mark`",
        )
    return population


def areas_without_people(geography: Geography, people: Vintage) -> set[Area]:
    """The areas of the version, England included, for which the population lacks some or all people.

    England lacks people if one of the areas that it had on the day of the file's codes is not in the file. If all of them
    are in the file, England lacks nobody, even if some of them belong to no area of the version shown: their people count in
    England. For days or codes that the shipped tables do not cover (before April 2021, or codes of the user's own), England
    is complete if, through the user's mappings, the file's codes reach every area of the version, or every area of April
    2021.
    """
    day, strata = people.area_date, people.strata
    given = {code for (code, _, _), number in strata.items() if number}
    lacking = {*geography.areas} - _reached(geography, given, day)
    england_then = geography.areas_of_england(day)
    if given and given <= england_then:
        missing = england_then - given
        lacking |= _reached(geography, missing, day)
    else:
        first = geography.areas_of_england(geography.covered_from)
        oldest = replace(geography, as_of=geography.covered_from, areas={code: {} for code in first})
        missing = lacking and first - _reached(oldest, given, day)
    found = {(kind, geography.areas[code][f"{kind}_code"]) for code in lacking for kind in ("region", "icb", "sub_icb")}
    return found | ({("england", ENGLAND_ONS)} if missing else set())


def _reached(geography: Geography, codes: set[str], day: date) -> set[str]:
    """The areas of the version to which the given codes belong, in full or in part, by their meaning on the day."""
    return {area for code in codes for area, _ in geography.map_code(code, day)}


def _parts_of(geography: Geography, people: Vintage) -> dict[str, tuple[tuple[str, float], ...]]:
    """For each area code of a population, the areas of the version to which it belongs, each with the share of its people."""
    return {code: geography.map_code(code, people.area_date) for code, _, _ in people.strata}


def people_ratio(geography: Geography, people: Vintage, other: Vintage) -> float:
    """The number of people as a multiple of that of ``other``, in the areas of the version that are complete in both. 1.0
    where there are no such areas."""
    lacking = areas_without_people(geography, people) | areas_without_people(geography, other)
    sums = []
    for each in (people, other):
        by_code: dict[str, int] = defaultdict(int)
        for (code, _, _), number in each.strata.items():
            by_code[code] += number
        sums.append(
            sum(
                number * share
                for code, number in by_code.items()
                for area, share in geography.map_code(code, each.area_date)
                if ("sub_icb", area) not in lacking
            )
        )
    return sums[0] / sums[1] if sums[1] else 1.0


def is_whole(geography: Geography, people: Vintage) -> bool:
    """Whether a population has all people of England."""
    return ("england", ENGLAND_ONS) not in areas_without_people(geography, people)


def population_warnings(population: Population, years: list[str], *, partial: bool = False) -> list[str]:
    """Messages about populations that do not fit the areas, one for each vintage and kind of problem.

    Problems are: areas of the version without all their people, an unusual number of people, people whose area belongs to no
    area of the version, and no population for England as the standard. Under ``partial`` coverage England has no rate
    anyway, so it is not named among the areas without one.
    """
    found = []
    geography = population.geography
    for vintage in sorted({population.vintage_for(year) for year in years}):
        stored = population.by_vintage[vintage]
        lacking = areas_without_people(geography, stored)
        empty = sorted(code for kind, code in lacking if kind == "sub_icb")
        reached = _parts_of(geography, stored)
        outside = sorted(code for code, parts in reached.items() if not parts)
        people = sum(number for (code, _, _), number in stored.strata.items() if code in outside)
        if empty:
            counted = [(word, sum(kind == area_type for kind, _ in lacking)) for area_type, word in _KINDS]
            named = ["England"] if ("england", ENGLAND_ONS) in lacking and not partial else []
            named += [f"{number:,} {word}" for word, number in counted]
            found.append(
                f"Warning: the population of {vintage} lacks some or all people of {len(empty):,} of {len(geography.areas):,} areas "
                f"of {geography.version} ({_some(empty)}). There is no rate for {', '.join(named)}. Give a population file with "
                "all areas of England, or list in a file of geography.mappings what its areas became"
            )
        if vintage in population.unusual:
            found.append(
                f"Warning: the population of {vintage} ({stored.source}) has {population.unusual[vintage]:.3g} times the "
                "people that the shipped population has in the same areas, which differs by more than "
                "max_population_difference. Check that the file counts people, not thousands, and each person once"
            )
        if outside:
            found.append(
                f"{people:,} people in the population of {vintage} count in England's figures only, because their areas (such as "
                f"{outside[0]}) belong to no area of {geography.version}. A file in geography.mappings can say what became of "
                "these areas"
            )
    if population.standard == "england" and not any(
        is_whole(geography, people) for people in population.by_vintage.values()
    ):
        found.append(
            "No given population has all areas of England, so rates are standardised to England in the shipped population"
        )
    return found


# The types of area below England that can lack people, with their plural names.
_KINDS = (("region", "regions"), ("icb", "ICBs"), ("sub_icb", "sub-ICB locations"))
_NAMED = 10


def _some(codes: list[str]) -> str:
    """The first ten codes as text, and how many more there are."""
    more = f" and {len(codes) - _NAMED:,} more" if len(codes) > _NAMED else ""
    return ", ".join(codes[:_NAMED]) + more


def standard_weights(
    standard: str, by_vintage: dict[date, Vintage], geography: Geography
) -> dict[tuple[str, int], float]:
    """The weight of each sex and band in the standard population: one set for the whole run, so that years can be compared.

    ``england`` is the newest of ``by_vintage`` that has all people of England, or else the shipped population. Any other
    name is a shipped standard, or a CSV file of the user. An :class:`InputError` for a standard that does not exist.
    """
    weights: dict[tuple[str, int], float] = defaultdict(float)
    if standard == "england":
        for (_, sex, band), people in _england_of(by_vintage, geography).strata.items():
            weights[(sex, band)] += people
        return dict(weights)
    if standard.endswith(".csv"):
        return _weights_in(Path(standard))
    rows = read_rows(resource("conf", "reference", "standard_populations.csv"))
    known = sorted({row["standard"] for row in rows})
    if standard not in known:
        raise InputError(
            f"standard_population: there is no standard {standard!r}",
            remedy=f"choose from: england, {', '.join(known)}",
        )
    for row in rows:
        if row["standard"] == standard:
            for sex in SEXES:
                weights[(sex, int(row["age_from"]) // BAND_YEARS)] = float(row["people"])
    return dict(weights)


def _england_of(by_vintage: dict[date, Vintage], geography: Geography) -> Vintage:
    """The newest population that has all people of England, or else the shipped one."""
    whole = (people for _, people in sorted(by_vintage.items(), reverse=True) if is_whole(geography, people))
    return next(whole, None) or shipped_population(geography)


def shipped_population(geography: Geography) -> Vintage:
    """The newest vintage of the shipped population."""
    vintages = read_population_file(_shipped_file(), geography)
    return vintages[max(vintages)]


def _shipped_file() -> dict[str, str]:
    """The shipped population, as an item of the setting ``population``."""
    return {"path": str(resource("conf", "reference", "population_gp_registered.csv")), "layout": "bands"}


def _weights_in(path: Path) -> dict[tuple[str, int], float]:
    """The weights in a user's file with the columns ``age_from``, ``people`` and, where the sexes differ, ``sex``."""
    what = f"standard_population: {path}"
    weights: dict[tuple[str, int], float] = {}
    for number, row in enumerate(read_rows(path, ("age_from", "people")), start=2):
        try:
            start, people = int(row["age_from"]), float(row["people"])
        except (TypeError, ValueError):
            raise InputError(
                f"{what}, line {number}: age_from or people is not a number", remedy="write plain numbers"
            ) from None
        band, odd = divmod(start, BAND_YEARS)
        sexes = SEXES if not row.get("sex") else (row["sex"],)
        if odd or not 0 <= band <= LAST_BAND or not 0 <= people < math.inf or not {*sexes} <= {*SEXES}:
            raise InputError(
                f"{what}, line {number}: the row is not a weight for one of the 19 bands (0, 5 … 90) of sex 1 or 2",
                remedy="give five-year bands, the last one 90 and over, and weights that are numbers of 0 or more",
            )
        for sex in sexes:
            if (sex, band) in weights:
                raise InputError(f"{what}, line {number}: this band appears twice", remedy="give each band once")
            weights[(sex, band)] = people
    wanted = len(SEXES) * (LAST_BAND + 1)
    if len(weights) != wanted:
        raise InputError(f"{what}: {wanted - len(weights)} of {wanted} weights are missing", remedy="give all 19 bands")
    if not any(weights.values()):
        raise InputError(f"{what}: every weight is 0", remedy="give the people of each band")
    return weights


def members_of(geography: Geography, code: str) -> list[tuple[str, str, str]]:
    """(area type, code, name) of every area to which a sub-ICB location of the version belongs, itself included."""
    row = geography.areas[code]
    return [
        ("england", ENGLAND_ONS, "England"),
        ("region", row["region_code"], row["region_name"]),
        ("icb", row["icb_code"], row["icb_name"]),
        ("sub_icb", row["sub_icb_code"], row["sub_icb_name"]),
    ]


def share_people(people: int, parts: tuple[tuple[str, float], ...]) -> dict[str, int]:
    """Divide the people of an area among its ``parts`` (area, share), in whole people. The largest part takes the rounding
    difference; shares that do not add up to 1 divide only that part of the people."""
    if not parts:
        return {}
    largest = max(parts, key=lambda part: part[1])[0]
    shares = {code: round(people * share) for code, share in parts if code != largest}
    whole = round(people * sum(share for _, share in parts))
    return {largest: whole - sum(shares.values())} | shares


def strata_frame(spark: SparkSession, population: Population, years: list[str]) -> DataFrame:
    """One row for each financial year, area, sex and band: ``people``, ``weight`` (of the standard population), ``vintage``,
    ``distant`` and ``split``.

    ``split`` is true where the area's people, or its records of the year, are known only through shares of a split area.
    People whose area belongs to no area of the version count in England only. In a year without any known code there are
    rows for England only. An area that lacks some of its people has no row.

    | people of 2021-10-01 (area, sex, band) | → financial_year | area_type | area_code | sex | band | people |
    |----------------------------------------|------------------|-----------|-----------|-----|------|--------|
    | 15E, 1, 9: 40000                       | 2021-22          | england   | E92000001 | 1   | 9    | 72000  |
    | 15M, 1, 9: 32000                       | 2021-22          | icb       | QJ2       | 1   | 9    | 32000  |
    |                                        | 2021-22          | sub_icb   | 15M       | 1   | 9    | 32000  |
    """
    vintages = {year: population.vintage_for(year) for year in years}
    geography = population.geography
    people, split_people = _people_by_stratum(population, set(vintages.values()))
    rows = [(*key, number, population.weights[(key[3], key[4])]) for key, number in people.items()]
    by_vintage = small_frame(
        spark,
        rows,
        "vintage date, area_type string, area_code string, sex string, band int, people long, weight double",
    )
    dated = small_frame(
        spark,
        [(year, vintage, population.is_distant(year), population.covers(year)) for year, vintage in vintages.items()],
        "financial_year string, vintage date, distant boolean, covered boolean",
    )
    marked = small_frame(
        spark,
        [
            (year, *area, True)
            for year, vintage in vintages.items()
            for area in sorted(geography.split_areas(year) | split_people[vintage])
        ],
        "financial_year string, area_type string, area_code string, split boolean",
    )
    frame = by_vintage.join(F.broadcast(dated), "vintage").where("covered OR area_type = 'england'").drop("covered")
    return frame.join(F.broadcast(marked), ["financial_year", "area_type", "area_code"], "left").fillna(
        False, ["split"]
    )


# (vintage, area type, area code, sex, band) → people
_Strata = dict[tuple[date, str, str, str, int], int]


def _people_by_stratum(population: Population, vintages: set[date]) -> tuple[_Strata, dict[date, set[Area]]]:
    """The people of each vintage by area, sex and band, without areas that lack some of their people; and by vintage the
    areas whose people are known only through shares of a split area."""
    people: _Strata = defaultdict(int)
    geography = population.geography
    split_people: dict[date, set[Area]] = defaultdict(set)
    for vintage in vintages:
        stored = population.by_vintage[vintage]
        parts = _parts_of(geography, stored)
        for (code, sex, band), number in stored.strata.items():
            people[(vintage, "england", ENGLAND_ONS, sex, band)] += number
            for area, part in share_people(number, parts[code]).items():
                for area_type, area_code, _ in members_of(geography, area)[1:]:
                    people[(vintage, area_type, area_code, sex, band)] += part
        for code_parts in parts.values():
            if len(code_parts) > 1:
                split_people[vintage] |= areas_of_parts(geography, [code for code, _ in code_parts])
    lacking = {(vintage, *area) for vintage in vintages for area in population._without[vintage]}
    return {key: number for key, number in people.items() if key[:3] not in lacking}, split_people


def people_by_year(population: Population, years: list[str]) -> dict[tuple[str, str, str], dict[tuple[str, int], int]]:
    """The people by sex and band of each (year, area type, area code), as rates count them; see :func:`strata_frame`."""
    vintages = {year: population.vintage_for(year) for year in years}
    people, _ = _people_by_stratum(population, set(vintages.values()))
    by_area: dict[tuple[date, str, str], dict[tuple[str, int], int]] = defaultdict(dict)
    for (vintage, area_type, code, sex, band), number in people.items():
        by_area[vintage, area_type, code][sex, band] = number
    return {
        (year, area_type, code): strata
        for year, vintage in vintages.items()
        for (of_vintage, area_type, code), strata in by_area.items()
        if of_vintage == vintage and (population.covers(year) or area_type == "england")
    }


def area_names(spark: SparkSession, population: Population) -> DataFrame:
    """One row for each area of the version, England included: ``area_type``, ``area_code``, ``area_name``.

    | area_type | area_code | area_name                                      |
    |-----------|-----------|------------------------------------------------|
    | england   | E92000001 | England                                        |
    | icb       | QJ2       | NHS Derby and Derbyshire Integrated Care Board |
    | sub_icb   | 15M       | NHS Derby and Derbyshire ICB - 15M             |
    """
    areas = {area for code in population.geography.areas for area in members_of(population.geography, code)}
    return small_frame(spark, sorted(areas), "area_type string, area_code string, area_name string")


def memberships(spark: SparkSession, population: Population) -> DataFrame:
    """One row for each sub-ICB location of the version: ``location``, and ``areas``, a list of the areas below England in which
    it counts.

    | location | areas (area_type, area_code)                |
    |----------|---------------------------------------------|
    | 15E      | [(region, Y60), (icb, QHL), (sub_icb, 15E)] |
    | 15M      | [(region, Y60), (icb, QJ2), (sub_icb, 15M)] |
    | 99A      | [(region, Y62), (icb, QYG), (sub_icb, 99A)] |
    """
    rows = [
        (
            code,
            [
                {"area_type": area_type, "area_code": area_code}
                for area_type, area_code, _ in members_of(population.geography, code)[1:]
            ],
        )
        for code in sorted(population.geography.areas)
    ]
    return small_frame(spark, rows, "location string, areas array<struct<area_type:string,area_code:string>>")
