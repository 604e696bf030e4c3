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
from ebi_spark.rates.population_files import (
    BAND_YEARS,
    LAST_BAND,
    SEXES,
    Strata,
    current_areas,
    reached_areas,
    read_population_file,
)
from ebi_spark.settings import RunConfig, resource
from ebi_spark.small_frames import small_frame

ENGLAND = "E92000001"
DISTANT_VINTAGE = "distant_vintage"


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
        for vintage, strata in read_population_file(dict(item)).items():
            if vintage in by_vintage:
                raise InputError(
                    f"population: the vintage {vintage} stands in two files, {item['path']} being the second",
                    remedy="give each vintage once",
                )
            by_vintage[vintage] = strata
    weights = _weights(config.standard_population, by_vintage)
    standard = (
        Path(config.standard_population).stem
        if config.standard_population.endswith(".csv")
        else config.standard_population
    )
    population = Population(dict(by_vintage), hierarchy, weights, standard, config.max_vintage_days)
    distant = [year for year in years if population.is_distant(year)]
    if distant and config.distant_vintage == "error":
        raise InputError(
            f"population: no vintage within {config.max_vintage_days} days of 1 October of {', '.join(distant)}",
            remedy="give a population file nearer to these years, or write `distant_vintage: mark`",
        )
    return population


def _weights(standard: str, by_vintage: dict[date, Strata]) -> dict[tuple[str, int], float]:
    """The weight of each sex and band, one fixed set for the whole run so that trends compare."""
    weights: dict[tuple[str, int], float] = defaultdict(float)
    if standard == "england":
        for (_, sex, band), people in by_vintage[max(by_vintage)].items():
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


def members_of(population: Population, code: str) -> list[tuple[str, str, str]]:
    """(area type, code, name) of every area that a sub-ICB location belongs to, itself included; of one that has ended
    England alone."""
    row = population.hierarchy.get(code)
    if row is None:
        return [("england", ENGLAND, "England")]
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
    """A row a known code of a record: ``known_code`` and ``areas``, those below England that it counts in.

    Codes of earlier years reach today's areas through successors that took them over whole; what was split has no row.
    """
    rows = [
        (
            known,
            [
                {"area_type": area_type, "area_code": area_code}
                for area_type, area_code, _ in members_of(population, code)
                if area_type != "england"
            ],
        )
        for known, code in sorted(reached_areas().items())
    ]
    return small_frame(spark, rows, "known_code string, areas array<struct<area_type:string,area_code:string>>")
