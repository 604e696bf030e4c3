"""The flagged records of England by sex, age group and deprivation fifth, over pooled years, for an equality impact analysis. One
query counts; the rates are made on the driver."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.errors import InputError
from ebi_spark.financial_years import period_of
from ebi_spark.flags.apply_policies import FLAGGED
from ebi_spark.geography.record_areas import NAMED_BY, OUTSIDE_ENGLAND
from ebi_spark.policies.model import Policy
from ebi_spark.rates.methods import FEW_EVENTS, NO_POPULATION
from ebi_spark.rates.population import band_of
from ebi_spark.rates.population_files import BAND_YEARS, LAST_BAND, SEXES
from ebi_spark.small_files import read_rows
from ebi_spark.small_frames import small_frame
from ebi_spark.statistics.inequality import Estimate, Stratum, slope_index, standardised
from ebi_spark.tables.table import RECORD_KEY, YEAR

SEX, AGE_GROUP, DEPRIVATION = "sex", "age_group", "deprivation_fifth"
UNKNOWN = "unknown"
FIFTHS = ("1", "2", "3", "4", "5")  # 1 is the most deprived
# First age of each age group. Groups are whole bands, so ages 15 to 19 are in the group of children, whom adult policies leave out.
_AGE_GROUPS = (0, 20, 30, 40, 50, 60, 70, 80)

# (sex, band) → people
Strata = Mapping[tuple[str, int], float]


def read_fifths(path: Path) -> dict[str, str]:
    """The deprivation fifth of each small area, from a CSV file with ``lsoa`` and ``fifth`` (1, the most deprived, to 5).

    Raises an :class:`InputError` with the line of a fifth that is not a number from 1 to 5, or of a small area that appears twice.
    """
    found: dict[str, str] = {}
    for number, row in enumerate(read_rows(path, ("lsoa", "fifth")), start=2):
        fifth, code = (row["fifth"] or "").strip(), (row["lsoa"] or "").strip().upper()
        if fifth not in FIFTHS or not code:
            raise InputError(
                f"deprivation.lookup: {path}, line {number}: the fifth of {code or 'no code'} is {fifth!r}",
                remedy="write 1 for the most deprived fifth, to 5 for the least deprived one",
            )
        if code in found:
            raise InputError(
                f"deprivation.lookup: {path}, line {number}: {code} appears twice", remedy="give each small area once"
            )
        found[code] = fifth
    return found


def read_people_of_fifths(path: Path) -> dict[str, dict[tuple[str, int], float]]:
    """England's people by deprivation fifth, sex and five-year band, from a CSV file with ``fifth``, ``sex``, ``age_from`` and
    ``people``. Raises an :class:`InputError` with the line of a value that cannot be read, or with the number of missing rows."""
    found: dict[str, dict[tuple[str, int], float]] = defaultdict(dict)
    what = f"deprivation.population: {path}"
    for number, row in enumerate(read_rows(path, ("fifth", "sex", "age_from", "people")), start=2):
        try:
            band, odd = divmod(int(row["age_from"]), BAND_YEARS)
            people = float(row["people"])
        except (TypeError, ValueError):
            raise InputError(
                f"{what}, line {number}: age_from or people is not a number", remedy="write plain numbers"
            ) from None
        if (
            row["fifth"] not in FIFTHS
            or row["sex"] not in SEXES
            or odd
            or not 0 <= band <= LAST_BAND
            or not 0 <= people < math.inf
        ):
            raise InputError(
                f"{what}, line {number}: fifth, sex, age_from or people is out of range",
                remedy="fifth 1 to 5, sex 1 or 2, age_from 0, 5, … 90, people of 0 or more",
            )
        if (row["sex"], band) in found[row["fifth"]]:
            raise InputError(
                f"{what}, line {number}: this fifth, sex and band appear twice", remedy="give each combination once"
            )
        found[row["fifth"]][row["sex"], band] = people
    missing = len(FIFTHS) * len(SEXES) * (LAST_BAND + 1) - sum(map(len, found.values()))
    if missing:
        raise InputError(f"{what}: {missing} rows are missing", remedy="give each fifth, sex and five-year band once")
    return found


def pooled_years(years: Iterable[str], length: int) -> tuple[str, ...]:
    """The newest ``length`` consecutive years of ``years``, or as many as there are without a gap."""
    known = sorted(set(years), reverse=True)
    run = [year for number, year in enumerate(known) if int(known[0][:4]) - int(year[:4]) == number]
    return tuple(sorted(run[:length]))


def equality_counts(
    flags: DataFrame,
    records: Mapping[str, DataFrame],
    periods: Mapping[str, tuple[Policy, tuple[str, ...]]],
    fifths: Mapping[str, str] | None,
) -> DataFrame:
    """The flagged records of England by ``policy_id``, ``sex``, ``band`` and ``fifth``: the column ``records``.

    | policy_id | sex  | band | fifth | records |
    |-----------|------|------|-------|---------|
    | P         | 1    | 9    | 1     | 12      |
    | P         | 2    | 9    | 1     | 15      |
    | P         | NULL | NULL | NULL  | 1       |

    ``periods``: each policy with the years that are pooled. Only its default reading counts. ``records`` are the silver
    tables by dataset, which are read only where ``fifths`` (the fifth of each small area) are given. Sex, band and fifth are
    NULL where they are unknown.
    """
    wanted = F.lit(False)
    for policy, years in periods.values():
        wanted = wanted | (
            (F.col("policy_id") == policy.id) & (F.col("reading") == policy.default_reading) & F.col(YEAR).isin(*years)
        )
    found = flags.where(wanted & (F.col("outcome") == FLAGGED) & (F.col("area_basis") != OUTSIDE_ENGLAND))
    fifth: Column = F.lit(None).cast("string")
    if fifths is not None:
        # Of the records only those of the pooled years are read and shuffled.
        pooled = F.col(YEAR).isin(*sorted({year for _, years in periods.values() for year in years}))
        homes = [
            frame.where(pooled).select(
                *RECORD_KEY, YEAR, *[F.col(name) for name in NAMED_BY["residence"] if name in frame.columns]
            )
            for frame in records.values()
        ]
        lookup = small_frame(flags.sparkSession, sorted(fifths.items()), "code string, fifth string")
        found = found.join(
            reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), homes), [*RECORD_KEY, YEAR], "left"
        )
        names = [name for name in NAMED_BY["residence"] if name in found.columns]
        for name in names:
            own = lookup.select(F.col("code").alias(name), F.col("fifth").alias(f"_{name}"))
            found = found.join(F.broadcast(own), name, "left")
        fifth = F.coalesce(*[F.col(f"_{name}") for name in names])
    sex = F.when(F.col("sex").isin(*SEXES), F.col("sex"))
    keys = [sex.alias("sex"), band_of(F.col("age_years")).alias("band"), fifth.alias("fifth")]
    return (
        found.select("policy_id", *keys).groupBy("policy_id", "sex", "band", "fifth").agg(F.count("*").alias("records"))
    )


def equality_rows(
    policy: Policy,
    years: Sequence[str],
    revision: str | None,
    counts: Iterable[Mapping[str, Any]],
    people: Strata | None,
    weights: Mapping[tuple[str, int], float],
    people_of_fifths: Mapping[str, Strata] | None,
    *,
    fifths_known: bool,
) -> list[dict[str, Any]]:
    """The rows of ``gold/equality_rate`` of one policy, without the run.

    ``counts``: rows of :func:`equality_counts`. ``people``: England's person-years over the pooled years by sex and band; without
    them there is no rate. ``weights``: the standard population. ``people_of_fifths``: person-years by fifth, sex and band; without
    them there is no rate by fifth. ``fifths_known``: the records have fifths; otherwise there are no rows by fifth. Rates are per 100,000 person-years. Records of unknown sex, age or fifth are the group
    ``unknown``, without a rate; without such records there is no such group. All other groups have a row, with 0 where they have
    no records.

    | sex  | band | records | → dimension | group   | activity |
    |------|------|---------|-------------|---------|----------|
    | 1    | 9    | 12      | sex         | 1       | 12       |
    | 2    | 9    | 15      | sex         | 2       | 15       |
    | NULL | NULL | 1       | sex         | unknown | 1        |
    |      |      |         | age_group   | 40-49   | 27       |
    """
    every = 0
    # (sex, band) → records, of everybody (None) and by fifth
    events: dict[str | None, dict[tuple[str, int], int]] = defaultdict(lambda: defaultdict(int))
    for row in counts:
        every += row["records"]
        if row["sex"] is not None and row["band"] is not None:
            for fifth in {None, row["fifth"]}:
                events[fifth][row["sex"], row["band"]] += row["records"]
    bands = range(LAST_BAND + 1)
    sexes = [_group(SEX, sex, [(sex, band) for band in bands], events[None], people, weights) for sex in SEXES]
    ages: list[_Group] = []
    for start, end in zip(_AGE_GROUPS, (*_AGE_GROUPS[1:], None), strict=True):
        own = [band for band in bands if start <= band * BAND_YEARS and (end is None or band * BAND_YEARS < end)]
        name = f"{start}+" if end is None else f"{start}-{end - 1}"
        ages.append(_group(AGE_GROUP, name, [(sex, band) for sex in SEXES for band in own], events[None], people, None))
    fifths: list[_Group] = []
    if fifths_known:
        strata = [(sex, band) for sex in SEXES for band in bands]
        for fifth in FIFTHS:
            of_fifth = None if people_of_fifths is None else people_of_fifths[fifth]
            fifths.append(_group(DEPRIVATION, fifth, strata, events[fifth], of_fifth, weights))
    ranked = [(group.people or 0.0, group.rate) for group in reversed(fifths) if group.rate is not None]
    slope = slope_index(ranked) if len(ranked) == len(FIFTHS) else None
    rows: list[dict[str, Any]] = []
    for of_dimension in (sexes, ages, fifths):
        outside = every - sum(group.events for group in of_dimension)
        unknown = [_Group(of_dimension[0].dimension, UNKNOWN, outside)] if of_dimension and outside else []
        rows += [
            {
                "policy_id": policy.id,
                "revision": revision,
                "reading": policy.default_reading,
                "period": period_of(years),
                **group.columns(slope),
            }
            for group in [*of_dimension, *unknown]
        ]
    return rows


@dataclass(frozen=True)
class _Group:
    """One group of people: its flagged records (``events``), and its people and rate where they are known."""

    dimension: str
    name: str
    events: int
    people: float | None = None
    rate: Estimate | None = None

    def columns(self, slope: Estimate | None) -> dict[str, Any]:
        """The group's columns of ``gold/equality_rate``. ``slope``: the slope index of the fifths."""
        found: dict[str, Any] = {
            "dimension": self.dimension,
            "group": self.name,
            "activity": self.events,
            "status": NO_POPULATION if self.rate is None else "few_events" if self.events < FEW_EVENTS else "ok",
        }
        if self.rate is not None:
            found |= {"rate": self.rate.value, "lower": self.rate.lower, "upper": self.rate.upper}
            found["population"] = round(self.people or 0)
        if self.dimension == DEPRIVATION and slope is not None and self.name != UNKNOWN:
            found |= {"slope_index": slope.value, "slope_lower": slope.lower, "slope_upper": slope.upper}
        return found


def _group(
    dimension: str,
    name: str,
    strata: Sequence[tuple[str, int]],
    events: Mapping[tuple[str, int], int],
    people: Strata | None,
    weights: Mapping[tuple[str, int], float] | None,
) -> _Group:
    """A group that is made up of some strata. Its rate is standardised by ``weights``; without them it is the crude rate."""
    total = sum(events.get(key, 0) for key in strata)
    if people is None:
        return _Group(dimension, name, total)
    number = sum(people.get(key, 0) for key in strata)
    parts = (
        [Stratum(total, number, 1)]
        if weights is None
        else [Stratum(events.get(key, 0), people.get(key, 0), weights[key]) for key in strata]
    )
    return _Group(dimension, name, total, number, standardised(parts))
