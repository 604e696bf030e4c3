"""People by area, sex and five-year age band: the table the product ships, or the user's own, stored in silver; and the
standard that rates are weighted to.

Populations are of all ages, also for policies on adults (decision 14). Tables are small: they are read and checked on
the driver. They are stored by the areas of their file; on which areas they are shown is a matter of the rates.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.settings import RunConfig, resource
from ebi_spark.errors import InputError
from ebi_spark.financial_years import midpoint_of
from ebi_spark.geography.area_versions import Geography, areas_of_parts, read_geography
from ebi_spark.geography.lookup_files import read_lookup
from ebi_spark.rates.population_files import (
    BAND_YEARS,
    LAST_BAND,
    SEXES,
    Vintage,
    read_population_file,
)
from ebi_spark.small_files import read_rows
from ebi_spark.small_frames import small_frame

ENGLAND = "E92000001"
DISTANT_VINTAGE = "distant_vintage"
PARTIAL_POPULATION = "partial_population"
UNUSUAL_POPULATION = "unusual_population"
# (type, code) of an area
Area = tuple[str, str]


@dataclass(frozen=True)
class Population:
    """People by vintage, the version of the areas that they are shown on, and the weights of the standard."""

    by_vintage: dict[date, Vintage]
    geography: Geography
    weights: dict[tuple[str, int], float]
    standard: str
    max_days: int
    # Rows of lookups that hold for all days: they say for every year which area a practice or residence is today.
    undated_lookups: bool = False
    # By vintage how many times the people of the population that ships it has, where that is far from 1.
    unusual: dict[date, float] = field(default_factory=dict)

    def covers(self, year: str) -> bool:
        """Whether records of the year can be placed below England: where no code is known, no activity is no zero."""
        return self.undated_lookups or self.geography.covers(year)

    def vintage_for(self, year: str) -> date:
        """The vintage nearest to 1 October of the year; the earlier of two equally near."""
        middle = midpoint_of(year)
        return min(sorted(self.by_vintage), key=lambda vintage: abs((vintage - middle).days))

    def is_distant(self, year: str) -> bool:
        """Whether that vintage is farther from the year's middle than the configuration's ``max_vintage_days``."""
        return abs((self.vintage_for(year) - midpoint_of(year)).days) > self.max_days

    def is_unusual(self, year: str) -> bool:
        """Whether that vintage is farther from the one that ships than ``max_population_difference`` allows."""
        return self.vintage_for(year) in self.unusual

    @cached_property
    def _without(self) -> dict[date, set[Area]]:
        return {vintage: areas_without_people(self.geography, people) for vintage, people in self.by_vintage.items()}

    def without_people(self, year: str) -> set[Area]:
        """The areas, England among them, for which the year's vintage lacks people: they have no rate."""
        return self._without[self.vintage_for(year)]


def band_of(age: Column) -> Column:
    """Index of the five-year band of an age in years: 0 for 0–4 … 18 for 90 and over; NULL for unknown."""
    # least() passes over NULL: an unknown age would be 90 and over.
    return F.when(age.isNotNull(), F.least(F.floor(age / BAND_YEARS), F.lit(LAST_BAND))).cast("int")


def read_vintages(config: RunConfig, geography: Geography) -> dict[date, Vintage]:
    """The populations that the configuration names, or the one that ships, each complete and checked."""
    by_vintage: dict[date, Vintage] = {}
    shipped = resource("conf", "reference", "population_gp_registered.csv")
    for item in config.population or ({"path": str(shipped), "layout": "bands"},):
        for vintage, people in read_population_file(dict(item), geography).items():
            if vintage in by_vintage:
                raise InputError(
                    f"population: the vintage {vintage} stands in two files, {item['path']} being the second",
                    remedy="give each vintage once",
                )
            by_vintage[vintage] = people
    return by_vintage


def population_rows(by_vintage: dict[date, Vintage], run_id: str) -> list[dict[str, Any]]:
    """The rows of ``silver/population``."""
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


def stored_vintages(stored: DataFrame) -> dict[date, Vintage]:
    """The populations in the rows of ``silver/population``."""
    found: dict[date, Vintage] = {}
    for row in stored.collect():
        given = Vintage(row["vintage"], row["area_date"], row["geography"], row["source"], {})
        people = found.setdefault(row["vintage"], given)
        people.strata[(row["area_code"], row["sex"], row["age_from"] // BAND_YEARS)] = row["people"]
    return found


def read_population(config: RunConfig, years: list[str]) -> Population:
    """The population and standard that the configuration names, from their files, complete and checked."""
    geography = read_geography(config.geography, config.mappings)
    return build_population(config, read_vintages(config, geography), geography, years)


def build_population(
    config: RunConfig, by_vintage: dict[date, Vintage], geography: Geography, years: list[str]
) -> Population:
    """Populations with the standard that the configuration names; refuses a vintage that is farther than it allows."""
    standard = config.standard_population
    name = Path(standard).stem if standard.endswith(".csv") else standard
    lookups = ((config.practices, "practice_code"), (config.lsoas, "lsoa"))
    undated = any(not row.dated for path, key in lookups if path for row in read_lookup(path, key))
    weights = _weights(standard, by_vintage, geography)
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
    """Every area of the version, England included, of whose people the population lacks a part or all.

    England lacks people where one of its areas on the day of the file's codes is not in the file. It lacks none where all
    are there, also when some of them are no area of the version shown: their people count in England. Where the shipped
    tables do not say which areas England had (before April 2021, or by codes of the user's own), the user's mappings have to
    reach each area of the version, or of April 2021.
    """
    day, strata = people.area_date, people.strata
    given = {code for (code, _, _), number in strata.items() if number}
    lacking = {*geography.areas} - _reached(geography, given, day)
    of_england = geography.areas_of_england(day)
    if given and given <= of_england:
        missing = of_england - given
        lacking |= _reached(geography, missing, day)
    else:
        first = geography.areas_of_england(geography.covered_from)
        oldest = replace(geography, as_of=geography.covered_from, areas={code: {} for code in first})
        missing = lacking and first - _reached(oldest, given, day)
    found = {(kind, geography.areas[code][f"{kind}_code"]) for code in lacking for kind in ("region", "icb", "sub_icb")}
    return found | ({("england", ENGLAND)} if missing else set())


def _reached(geography: Geography, codes: set[str], day: date) -> set[str]:
    """The areas of the version that codes of a day are, or are a part of."""
    return {area for code in codes for area, _ in geography.map_code(code, day)}


def people_ratio(geography: Geography, people: Vintage, other: Vintage) -> float:
    """How many times the people of ``other`` a population has, in the areas of the version that both have all people of; 1
    where there is none."""
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
    """Whether a population has the people of all areas of England."""
    return ("england", ENGLAND) not in areas_without_people(geography, people)


def population_warnings(population: Population, years: list[str], *, partial: bool = False) -> list[str]:
    """What is missing between areas and people, a sentence a vintage and kind: areas of the version without people, and
    people whose area is none of the version. Under ``partial`` coverage England has no rate anyway."""
    found = []
    geography = population.geography
    for vintage in sorted({population.vintage_for(year) for year in years}):
        stored = population.by_vintage[vintage]
        lacking = areas_without_people(geography, stored)
        empty = sorted(code for kind, code in lacking if kind == "sub_icb")
        reached = {code: geography.map_code(code, stored.area_date) for code, _, _ in stored.strata}
        outside = sorted(code for code, parts in reached.items() if not parts)
        people = sum(number for (code, _, _), number in stored.strata.items() if code in outside)
        if empty:
            counted = [(word, sum(kind == area_type for kind, _ in lacking)) for area_type, word in _KINDS]
            named = ["England"] if ("england", ENGLAND) in lacking and not partial else []
            named += [f"{number:,} {word}" for word, number in counted]
            found.append(
                f"Warning: {len(empty):,} of {len(geography.areas):,} areas of {geography.version} have no people, or not "
                f"all, in the population of {vintage} ({_some(empty)}). There is no rate for {', '.join(named)}. Give a "
                "population file with all areas of England, or geography.mappings to them"
            )
        if vintage in population.unusual:
            found.append(
                f"Warning: the population of {vintage} ({stored.source}) has {population.unusual[vintage]:.3g} times the "
                "people that the shipped population has in the same areas (max_population_difference): check that the file "
                "counts people, not thousands, and each of them once"
            )
        if outside:
            found.append(
                f"{people:,} people of {vintage} count in England only: their areas (such as {outside[0]}) are none of "
                f"{geography.version}; geography.mappings can say what they became"
            )
    if population.standard == "england" and not any(
        is_whole(geography, people) for people in population.by_vintage.values()
    ):
        found.append(
            "No population given has all areas of England: rates are standardised to England in the population that ships "
            "with the product"
        )
    return found


# The types of area below England that can lack people, in words.
_KINDS = (("region", "regions"), ("icb", "ICBs"), ("sub_icb", "sub-ICB locations"))
_NAMED = 10


def _some(codes: list[str]) -> str:
    """The first ten codes, and how many more there are."""
    more = f" and {len(codes) - _NAMED:,} more" if len(codes) > _NAMED else ""
    return ", ".join(codes[:_NAMED]) + more


def _weights(standard: str, by_vintage: dict[date, Vintage], geography: Geography) -> dict[tuple[str, int], float]:
    """The weight of each sex and band, one fixed set for the whole run so that trends compare."""
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
    """The newest population with all areas of England; without one, the one that ships."""
    whole = (people for _, people in sorted(by_vintage.items(), reverse=True) if is_whole(geography, people))
    return next(whole, None) or shipped_population(geography)


def shipped_population(geography: Geography) -> Vintage:
    """The newest vintage of the population that ships with the product."""
    path = resource("conf", "reference", "population_gp_registered.csv")
    vintages = read_population_file({"path": str(path), "layout": "bands"}, geography)
    return vintages[max(vintages)]


def _weights_in(path: Path) -> dict[tuple[str, int], float]:
    """The weights in a file of the user's: ``age_from``, ``people`` and, where the sexes differ, ``sex``."""
    what = f"standard_population: {path}"
    weights: dict[tuple[str, int], float] = {}
    for number, row in enumerate(read_rows(path, ("age_from", "people")), start=2):
        try:
            start, people = int(row["age_from"]), float(row["people"])
        except (TypeError, ValueError):
            raise InputError(f"{what}, line {number}: a number cannot be read", remedy="write plain numbers") from None
        band, odd = divmod(start, BAND_YEARS)
        sexes = SEXES if not row.get("sex") else (row["sex"],)
        if odd or not 0 <= band <= LAST_BAND or people < 0 or not {*sexes} <= {*SEXES}:
            raise InputError(
                f"{what}, line {number}: this is not the weight of one of the 19 bands (0, 5 … 90) of sex 1 or 2",
                remedy="give five-year bands, 90 and over being the last, with weights that are not negative",
            )
        for sex in sexes:
            if (sex, band) in weights:
                raise InputError(f"{what}, line {number}: this band stands twice", remedy="give each once")
            weights[(sex, band)] = people
    wanted = len(SEXES) * (LAST_BAND + 1)
    if len(weights) != wanted or not sum(weights.values()):
        raise InputError(f"{what}: {wanted - len(weights)} of {wanted} weights are missing", remedy="give all 19 bands")
    return weights


def members_of(geography: Geography, code: str) -> list[tuple[str, str, str]]:
    """(area type, code, name) of every area that a sub-ICB location of the version belongs to, itself included."""
    row = geography.areas[code]
    return [
        ("england", ENGLAND, "England"),
        ("region", row["region_code"], row["region_name"]),
        ("icb", row["icb_code"], row["icb_name"]),
        ("sub_icb", row["sub_icb_code"], row["sub_icb_name"]),
    ]


def share_people(people: int, parts: tuple[tuple[str, float], ...]) -> dict[str, int]:
    """People of an area among the areas that it is, in whole people: the largest part takes what rounding leaves."""
    if not parts:
        return {}
    largest = max(parts, key=lambda part: part[1])[0]
    shares = {code: round(people * share) for code, share in parts if code != largest}
    whole = round(people * sum(share for _, share in parts))
    return {largest: whole - sum(shares.values())} | shares


def strata_frame(spark: SparkSession, population: Population, years: list[str]) -> DataFrame:
    """A row a year, area, sex and band: ``people``, ``weight`` (of the standard), ``vintage``, ``distant``, and ``split``
    where the area's people or records of the year are known by shares of a split area only.

    People of an area that is none of the version count in England only, as do all in a year of which no code is known. An
    area of whose people a part is missing has no row.
    """
    people: dict[tuple[date, str, str, str, int], int] = defaultdict(int)
    vintages = {year: population.vintage_for(year) for year in years}
    geography = population.geography
    split_people: dict[date, set[Area]] = defaultdict(set)
    for vintage in set(vintages.values()):
        stored = population.by_vintage[vintage]
        parts = {code: geography.map_code(code, stored.area_date) for code, _, _ in stored.strata}
        for (code, sex, band), number in stored.strata.items():
            people[(vintage, "england", ENGLAND, sex, band)] += number
            for area, part in share_people(number, parts[code]).items():
                for area_type, area_code, _ in members_of(geography, area)[1:]:
                    people[(vintage, area_type, area_code, sex, band)] += part
        for of_code in parts.values():
            if len(of_code) > 1:
                split_people[vintage] |= areas_of_parts(geography, [code for code, _ in of_code])
    lacking = {(vintage, *area) for year, vintage in vintages.items() for area in population.without_people(year)}
    rows = [
        (*key, number, population.weights[(key[3], key[4])]) for key, number in people.items() if key[:3] not in lacking
    ]
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


def area_names(spark: SparkSession, population: Population) -> DataFrame:
    """A row an area of the version, England included: ``area_type``, ``area_code``, ``area_name``."""
    areas = {area for code in population.geography.areas for area in members_of(population.geography, code)}
    return small_frame(spark, sorted(areas), "area_type string, area_code string, area_name string")


def memberships(spark: SparkSession, population: Population) -> DataFrame:
    """A row a sub-ICB location of the version: ``location``, and ``areas``, those below England that it counts in."""
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
