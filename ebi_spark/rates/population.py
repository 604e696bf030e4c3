"""People by area, sex and five-year age band: the table the product ships, or the user's own, and the standard that
rates are weighted to.

Populations are of all ages, also for policies on adults (decision 14). Tables are small: they are read and checked on
the driver.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.errors import InputError
from ebi_spark.financial_years import midpoint_of
from ebi_spark.flags.areas import read_rows
from ebi_spark.settings import RunConfig, resource
from ebi_spark.small_frames import small_frame

ENGLAND = "E92000001"
BAND_YEARS = 5
LAST_BAND = 18  # 90 and over
SEXES = ("1", "2")
DISTANT_VINTAGE = "distant_vintage"

# (sub-ICB location, sex, band) → people
Strata = dict[tuple[str, str, int], int]


@dataclass(frozen=True)
class Population:
    """People by vintage and stratum, the areas they belong to, and the weights of the standard."""

    by_vintage: dict[date, Strata]
    hierarchy: dict[str, dict[str, str]]  # sub-ICB location → its row in conf/reference/areas.csv
    weights: dict[tuple[str, int], float]
    standard: str
    max_days: int

    def vintage_for(self, year: str) -> date:
        """The vintage nearest to 1 October of the year; the earlier of two equally near."""
        middle = midpoint_of(year)
        return min(sorted(self.by_vintage), key=lambda vintage: abs((vintage - middle).days))

    def is_distant(self, year: str) -> bool:
        """Whether that vintage is farther from the year's middle than the configuration's ``max_vintage_days``."""
        return abs((self.vintage_for(year) - midpoint_of(year)).days) > self.max_days


def band_of(age: Column) -> Column:
    """Index of the five-year band of an age in years: 0 for 0–4 … 18 for 90 and over; NULL for unknown."""
    return F.least(F.floor(age / BAND_YEARS), F.lit(LAST_BAND)).cast("int")


def read_population(config: RunConfig, years: list[str]) -> Population:
    """The population and standard that the configuration names, complete and checked."""
    hierarchy = current_areas()
    by_vintage: dict[date, Strata] = defaultdict(dict)
    shipped = resource("conf", "reference", "population_gp_registered.csv")
    items = config.population or ({"path": str(shipped), "layout": "bands"},)
    for item in items:
        for vintage, strata in _read_bands(Path(item["path"]), hierarchy).items():
            if vintage in by_vintage:
                raise InputError(
                    f"population: the vintage {vintage} stands in two files, {item['path']} being the second",
                    remedy="give each vintage once",
                )
            by_vintage[vintage] = strata
    weights = _weights(config.standard_population, by_vintage)
    population = Population(dict(by_vintage), hierarchy, weights, config.standard_population, config.max_vintage_days)
    distant = [year for year in years if population.is_distant(year)]
    if distant and config.distant_vintage == "error":
        raise InputError(
            f"population: no vintage within {config.max_vintage_days} days of 1 October of {', '.join(distant)}",
            remedy="give a population file nearer to these years, or write `distant_vintage: mark`",
        )
    return population


def current_areas() -> dict[str, dict[str, str]]:
    """The sub-ICB locations of today with their ICB and region."""
    rows = read_rows(resource("conf", "reference", "areas.csv"))
    return {row["sub_icb_code"]: row for row in rows if not row["valid_to"]}


def _read_bands(path: Path, hierarchy: dict[str, dict[str, str]]) -> dict[date, Strata]:
    """A file of the layout ``bands`` by vintage, every area, sex and band there once."""
    what = f"population: {path}"
    columns = ("area_type", "area_code", "sex", "age_from", "age_to", "people", "vintage")
    by_vintage: dict[date, Strata] = defaultdict(dict)
    unknown: set[str] = set()
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
        if row["area_code"] not in hierarchy:
            unknown.add(row["area_code"])
            continue
        key = (row["area_code"], row["sex"], start // BAND_YEARS)
        if key in by_vintage[vintage]:
            raise InputError(f"{what}, line {number}: this area, sex and band stand twice", remedy="give each once")
        by_vintage[vintage][key] = people
    if unknown:
        raise InputError(
            f"{what}: {len(unknown)} area codes are no sub-ICB location of today (such as {sorted(unknown)[0]!r})",
            remedy="use the codes of conf/reference/areas.csv",
        )
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


def _weights(standard: str, by_vintage: dict[date, Strata]) -> dict[tuple[str, int], float]:
    """The weight of each sex and band, one fixed set for the whole run so that trends compare."""
    weights: dict[tuple[str, int], float] = defaultdict(float)
    if standard == "england":
        for (_, sex, band), people in by_vintage[max(by_vintage)].items():
            weights[(sex, band)] += people
        return dict(weights)
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


def members_of(population: Population, code: str) -> list[tuple[str, str, str]]:
    """(area type, code, name) of every area that a sub-ICB location belongs to, itself included."""
    row = population.hierarchy[code]
    return [
        ("england", ENGLAND, "England"),
        ("region", row["region_code"], row["region_name"]),
        ("icb", row["icb_code"], row["icb_name"]),
        ("sub_icb", row["sub_icb_code"], row["sub_icb_name"]),
    ]


def strata_frame(spark: SparkSession, population: Population, years: list[str]) -> DataFrame:
    """A row a year, area, sex and band: ``people``, ``weight`` (of the standard), ``vintage``."""
    people: dict[tuple[date, str, str, str, int], int] = defaultdict(int)
    vintages = {year: population.vintage_for(year) for year in years}
    for vintage in set(vintages.values()):
        for (code, sex, band), number in population.by_vintage[vintage].items():
            for area_type, area_code, _ in members_of(population, code):
                people[(vintage, area_type, area_code, sex, band)] += number
    rows = [(*key, number, population.weights[(key[3], key[4])]) for key, number in people.items()]
    by_vintage = small_frame(
        spark,
        rows,
        "vintage date, area_type string, area_code string, sex string, band int, people long, weight double",
    )
    dated = small_frame(
        spark,
        [(year, vintage, population.is_distant(year)) for year, vintage in vintages.items()],
        "financial_year string, vintage date, distant boolean",
    )
    return by_vintage.join(F.broadcast(dated), "vintage")


def area_names(spark: SparkSession, population: Population) -> DataFrame:
    """A row an area of each type: ``area_type``, ``area_code``, ``area_name``."""
    areas = {area for code in population.hierarchy for area in members_of(population, code)}
    return small_frame(spark, sorted(areas), "area_type string, area_code string, area_name string")


def memberships(spark: SparkSession, population: Population) -> DataFrame:
    """A row a known code of a record and area above it: ``known_code``, ``area_type``, ``area_code``.

    Codes of earlier years reach today's areas through successors that took them over whole; what was split has no row.
    """
    successors = read_rows(resource("conf", "reference", "area_successors.csv"))
    whole = {row["from_code"]: row["to_code"] for row in successors if float(row["share"]) == 1.0}
    reached = {code: code for code in population.hierarchy}
    for start in whole:
        code, seen = start, {start}
        while code not in population.hierarchy and code in whole and whole[code] not in seen:
            code = whole[code]
            seen.add(code)
        if code in population.hierarchy:
            reached.setdefault(start, code)
    rows = [
        (known, area_type, area_code)
        for known, code in sorted(reached.items())
        for area_type, area_code, _ in members_of(population, code)
        if area_type != "england"
    ]
    return small_frame(spark, rows, "known_code string, area_type string, area_code string")
