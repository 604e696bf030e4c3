"""Counts and rates of flagged activity by area, in one aggregation over all policies, readings, periods and types of area."""

from collections.abc import Iterable, Mapping, Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.flags.apply_policies import FLAGGED
from ebi_spark.geography.area_lists import ENGLAND_ONS
from ebi_spark.geography.area_versions import SPLIT_ESTIMATE, UNMAPPED_PART, Geography
from ebi_spark.geography.code_forms import with_known_codes
from ebi_spark.geography.output_areas import assign_output_area, has_unmapped_part
from ebi_spark.geography.record_areas import OUTSIDE_ENGLAND
from ebi_spark.rates.methods import (
    crude_rate,
    dobson_limits,
    rate_status,
    repeated_variance,
    standard_error,
    standardised_rate,
    wilson_limits,
)
from ebi_spark.rates.periods import Period, period_rows, years_of_periods
from ebi_spark.rates.population import (
    DISTANT_VINTAGE,
    PARTIAL_POPULATION,
    UNUSUAL_POPULATION,
    Population,
    area_names,
    band_of,
    memberships,
    strata_frame,
)
from ebi_spark.rates.population_files import LAST_BAND, SEXES
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.table import POLICY_KEY, YEAR

KEY = (*POLICY_KEY, YEAR)
WINDOW = (YEAR, "period_years")
PERIOD = (*POLICY_KEY, *WINDOW)
AREA = ("area_type", "area_code")
_PLACE_COLUMNS = ("area_basis", "area_code", "provider_code")
METHOD = (
    "directly standardised by sex and five-year age band; Dobson limits on Byar (10 events and more) or exact Poisson"
)


def by_area(flags: DataFrame, population: Population) -> DataFrame:
    """One row for each row of ``flags`` and area in which it counts: England, region, ICB, sub-ICB location, provider.

    Records from outside England count nowhere. A record without an area of the version counts only in England and at its
    provider. The columns ``area_basis``, ``area_code`` and ``provider_code`` are replaced by ``area_type`` and
    ``area_code``; all others are kept. The areas of a record are collected in a list and exploded, so the data is read once.

    | record_id | area_code | provider_code | → area_type | area_code |
    |-----------|-----------|---------------|-------------|-----------|
    | 1         | NULL      | RX1           | england     | E92000001 |
    | 1         | NULL      | RX1           | provider    | RX1       |
    | 2         | 15N       | NULL          | england     | E92000001 |
    | 2         | 15N       | NULL          | sub_icb     | 15N       |

    Record 2 also has a row for its region and one for its ICB.
    """
    carried = [name for name in flags.columns if name not in _PLACE_COLUMNS]
    inside = flags.where(F.col("area_basis") != OUTSIDE_ENGLAND).join(
        F.broadcast(memberships(flags.sparkSession, population)), F.col("area_code") == F.col("location"), "left"
    )
    provider = F.when(F.col("provider_code").isNotNull(), _area(F.lit("provider"), F.col("provider_code")))
    areas = F.concat(
        F.array(_area(F.lit("england"), F.lit(ENGLAND_ONS))),
        F.coalesce("areas", F.array().cast("array<struct<area_type:string,area_code:string>>")),
        F.array_compact(F.array(provider)),
    )
    return inside.select(*carried, F.inline(areas).alias(*AREA))


def _area(kind: Column, code: Column) -> Column:
    return F.struct(kind.alias("area_type"), code.alias("area_code"))


def activity_rates(
    flags: DataFrame,
    periods: Sequence[Period],
    population: Population,
    *,
    partial: bool,
    boards: Mapping[str, Sequence[str]] | None = None,
) -> DataFrame:
    """The rows of ``gold/activity_rate`` except ``run_id``, for all of ``periods``.

    One row for each policy, revision, reading, period and area. Counts are of records, rates are per 100,000 people (for
    pooled years per 100,000 person-years). Every area of the version has a row, with 0 where it has no activity. An area
    has no rate (NULL, status ``no_population``) where the population lacks some of its people.

    | period           | area_type | area_code | activity | in_scope | population | crude_rate | status |
    |------------------|-----------|-----------|----------|----------|------------|------------|--------|
    | 2021-22          | england   | E92000001 | 560      | 700      | 56000000   | 1.0        | ok     |
    | 2021-22          | sub_icb   | 15N       | 12       | 15       | 1200000    | 1.0        | ok     |
    | 2020-21..2021-22 | provider  | RX1       | 9        | 14       | NULL       | NULL       | no_population |

    - ``flags``: the result of :func:`prepare_flags` for all years of the periods.
    - ``partial``: coverage is partial, so there are no rows for England.
    - ``boards``: the boards of each local policy. A local policy has rows only for these boards, their sub-ICB locations and
      providers (decision 12).

    Records are first counted by year, area, sex and age band. Only these counts are then assigned to the periods that
    include their year, so all policies, areas and periods need a single aggregation.
    """
    boards = boards or {}
    spark = flags.sparkSession
    strata = strata_of_periods(spark, periods, population)
    counted = _by_stratum(flags, periods, population).join(strata, [*WINDOW, *AREA, "sex", "band"], "left")
    named, names = period_rows(spark, periods), area_names(spark, population)
    # Areas without people have a row too: whether an area has a row must not depend on its records.
    every_area = F.broadcast(named.select(*PERIOD)).crossJoin(F.broadcast(names.select(*AREA)))
    every_area = every_area.join(_people_of_areas(strata), [*WINDOW, *AREA], "left")
    # If records of one year cannot be placed below England, the records of the other years do not make a figure for the whole
    # period. Such periods have rows for England and providers only.
    unplaced = _in_one_of(period for period in periods if not all(map(population.covers, period.years)))
    placed = F.col("area_type").isin("provider", "england") | ~unplaced
    lacking = F.broadcast(_areas_without_people(spark, periods, population))
    # One join serves areas with and without records, so that Spark computes the totals only once.
    joined = every_area.join(_totals(counted), [*PERIOD, *AREA], "full")
    frame = (
        _restrict_to_own_boards(joined, population, boards)
        .where(placed)
        .join(lacking, [*WINDOW, *AREA], "left")
        .fillna(False, ["distant", "split", "lacking"])
        .withColumn("unusual", _in_one_of(p for p in periods if any(map(population.is_unusual, p.years))))
        .withColumn("england_lacking", _in_one_of(p for p in periods if _england_lacks_people(p, population)))
        .join(F.broadcast(named), list(PERIOD))
        .join(F.broadcast(names), list(AREA), "left")
        .join(F.broadcast(_rates_of_england(flags, periods, strata)), list(PERIOD), "left")
    )
    if partial:
        frame = frame.where("area_type <> 'england'")
    return _rate_columns(frame, population, partial=partial, local=sorted(boards))


def _totals(counted: DataFrame) -> DataFrame:
    """One row for each period and area with records: its counts, and the sums of which rates are made (``weighted_rates``,
    ``weighted_variances``, and ``repeated_variances``, where the events of one person are not independent). ``counted``: rows of
    :func:`_by_stratum` with the ``people`` and the ``weight`` of their stratum.

    | area | person | events | single_people | people | weight | → activity | people_flagged | weighted_rates |
    |------|--------|--------|---------------|--------|--------|------------|----------------|----------------|
    | X    | A      | 2      | 0             | 1000   | 5000   | 4          | 2              | 20.0           |
    | X    | NULL   | 2      | 1             | 1000   | 5000   |            |                |                |
    | Y    | NULL   | 1      | 1             | NULL   | NULL   | 1          | 1              | NULL           |
    """
    weighted = F.col("weight") / F.col("people")
    persons = counted.groupBy(*PERIOD, *AREA, "person").agg(
        F.sum("events").alias("activity"),
        F.sum("in_scope").alias("in_scope"),
        F.sum("single_people").alias("single_people"),
        F.sum(F.when(~F.coalesce(_known_stratum(), F.lit(False)), F.col("events"))).alias("unknown"),
        F.sum(F.when(F.col("people").isNotNull(), F.col("events"))).alias("events"),
        F.sum(F.when(F.col("people") > 0, weighted * F.col("events"))).alias("weighted"),
        F.sum(F.when(F.col("people") > 0, weighted * weighted * F.col("events"))).alias("variance"),
        F.max((F.col("people") == 0) & (F.col("events") > 0)).alias("empty_stratum"),
    )
    # Each person with several events has rows of their own. All other people share one row, as their events are independent.
    has_repeats = F.col("person").isNotNull()
    squares = repeated_variance(F.when(has_repeats, F.col("weighted")))
    return persons.groupBy(*PERIOD, *AREA).agg(
        F.sum("activity").alias("activity"),
        F.sum("in_scope").alias("in_scope"),
        (F.sum("single_people") + F.count_if(has_repeats & (F.col("activity") > 0))).alias("people_flagged"),
        F.sum("unknown").alias("activity_unknown_age_sex"),
        F.sum("events").alias("events"),
        F.sum("weighted").alias("weighted_rates"),
        F.sum("variance").alias("weighted_variances"),
        (
            F.coalesce(F.sum(F.when(~has_repeats, F.col("variance"))), F.lit(0.0)) + F.coalesce(squares, F.lit(0.0))
        ).alias("repeated_variances"),
        F.max("empty_stratum").alias("empty_stratum"),
    )


def _rates_of_england(flags: DataFrame, periods: Sequence[Period], strata: DataFrame) -> DataFrame:
    """One row for each period: ``rates``, England's rate in each stratum where it has events."""
    return (
        _events_of_england(flags, periods)
        .join(F.broadcast(strata.where("area_type = 'england' AND people > 0")), [*WINDOW, "sex", "band"])
        .groupBy(*PERIOD)
        .agg(F.collect_list(F.struct(_stratum(), (F.col("events") / F.col("people")).alias("rate"))).alias("rates"))
    )


def _people_of_areas(strata: DataFrame) -> DataFrame:
    """One row for each window of years and area: its people in all (``population``) and in each stratum (``strata``)."""
    return strata.groupBy(*WINDOW, *AREA).agg(
        F.sum("people").alias("population"),
        F.max("vintage").alias("population_vintage"),
        F.max("distant").alias("distant"),
        F.max("split").alias("split"),
        F.array_sort(F.collect_list(F.struct(_stratum(), "people")))["people"].alias("strata"),
    )


def _in_one_of(periods: Iterable[Period]) -> Column:
    """Whether a row's period has the same years as one of the periods."""
    windows = {f"{period.years[-1]}/{len(period.years)}" for period in periods}
    return F.concat_ws("/", YEAR, F.col("period_years").cast("string")).isin(sorted(windows))


def _england_lacks_people(period: Period, population: Population) -> bool:
    """Whether the population of some year of the period lacks people of England."""
    return any(("england", ENGLAND_ONS) in population.without_people(year) for year in period.years)


def _areas_without_people(spark: SparkSession, periods: Sequence[Period], population: Population) -> DataFrame:
    """One row (``lacking`` is true) for each window of years and area where the population of some year lacks people of the
    area."""
    found = {
        (years[-1], len(years), *area)
        for years in {period.years for period in periods}
        for year in years
        for area in population.without_people(year)
    }
    rows = [(*row, True) for row in sorted(found)]
    return small_frame(
        spark,
        rows,
        "financial_year string, period_years int, area_type string, area_code string, lacking boolean",
    )


def _restrict_to_own_boards(areas: DataFrame, population: Population, boards: Mapping[str, Sequence[str]]) -> DataFrame:
    """``areas`` (which have ``policy_id``) without the areas for which a local policy has no rows."""
    if not boards:
        return areas
    rows = {
        (policy_id, area_type, code)
        for policy_id, codes in boards.items()
        for row in population.geography.areas.values()
        if row["icb_code"] in codes
        for area_type, code in (("icb", row["icb_code"]), ("sub_icb", row["sub_icb_code"]))
    }
    own = small_frame(
        areas.sparkSession,
        [(*row, True) for row in sorted(rows)],
        "policy_id string, area_type string, area_code string, _own boolean",
    )
    anywhere = ~F.col("policy_id").isin(*boards) | (F.col("area_type") == "provider")
    marked = areas.join(F.broadcast(own), ["policy_id", *AREA], "left")
    return marked.where(anywhere | F.coalesce("_own", F.lit(False))).drop("_own")


def _by_stratum(flags: DataFrame, periods: Sequence[Period], population: Population) -> DataFrame:
    """One row for each period, area, sex, band and ``person``: ``events`` (flagged records), ``in_scope`` (records) and
    ``single_people`` (people with one flagged record).

    ``person`` is set only on flagged records of people who have several of them for the policy. These people must be kept
    apart to count each person once, and because their events are not independent. It is NULL on all other records.

    | records of one sex and band in a period                        | → person | events | in_scope | single_people |
    |----------------------------------------------------------------|----------|--------|----------|---------------|
    | person A in area X: two flagged                                | A        | 2      | 2        | 0             |
    | person A in area Y: one flagged                                | A        | 1      | 1        | 0             |
    | area X: B flagged, C not flagged, one flagged without a person | NULL     | 2      | 3        | 1             |
    """
    spark = flags.sparkSession
    flagged = F.col("flagged")
    repeaters = (
        flags.where(flagged & F.col("person_id").isNotNull())
        .groupBy(*POLICY_KEY, "person_id")
        .agg(F.count("*").alias("times"))
        .where("times > 1")
        .select(*POLICY_KEY, "person_id", F.lit(True).alias("repeated"))
    )
    place = ["area_basis", "area_code", "provider_code"]
    cells = (
        # Repeaters are few, so hashing them in memory, one partition at a time, avoids sorting all flags.
        flags.join(repeaters.hint("shuffle_hash"), [*POLICY_KEY, "person_id"], "left")
        .withColumn("person", F.when(flagged & F.col("repeated"), F.col("person_id")))
        .groupBy(*POLICY_KEY, F.col(YEAR).alias("member"), *place, "sex", "band", "person")
        .agg(
            F.count_if(flagged).alias("events"),
            F.count("*").alias("in_scope"),
            F.count_if(flagged & F.col("person_id").isNotNull() & F.col("repeated").isNull()).alias("single_people"),
        )
    )
    sums = [F.sum(name).alias(name) for name in ("events", "in_scope", "single_people")]
    areas = by_area(cells, population).groupBy(*POLICY_KEY, "member", *AREA, "sex", "band", "person").agg(*sums)
    return (
        areas.join(F.broadcast(years_of_periods(spark, periods)), [*POLICY_KEY, "member"])
        .groupBy(*PERIOD, *AREA, "sex", "band", "person")
        .agg(*sums)
    )


def _events_of_england(flags: DataFrame, periods: Sequence[Period]) -> DataFrame:
    """One row for each period, sex and band with flagged records in England: ``events``.

    Counted from the flags directly, because Spark would compute the result of :func:`_by_stratum` a second time.
    """
    counted = (
        flags.where(F.col("flagged") & (F.col("area_basis") != OUTSIDE_ENGLAND))
        .groupBy(*POLICY_KEY, F.col(YEAR).alias("member"), "sex", "band")
        .agg(F.count("*").alias("events"))
    )
    spread = counted.join(F.broadcast(years_of_periods(flags.sparkSession, periods)), [*POLICY_KEY, "member"])
    return spread.groupBy(*PERIOD, "sex", "band").agg(F.sum("events").alias("events"))


def strata_of_periods(spark: SparkSession, periods: Sequence[Period], population: Population) -> DataFrame:
    """One row for each window of years, area, sex and band: ``people`` (person-years), ``weight`` of the standard population,
    ``vintage`` (the newest), ``distant`` and ``split`` (true if true for any year).

    An area has rows only where it has people in all years of the window. For the window of the two years 2020-21 and 2021-22:

    | area_code | sex | band | people of 2020-21 | of 2021-22 | → financial_year | period_years | people |
    |-----------|-----|------|-------------------|------------|------------------|--------------|--------|
    | QYG       | 1   | 9    | 1000              | 1100       | 2021-22          | 2            | 2100   |
    | QYG       | 2   | 9    | 1010              | 1090       | 2021-22          | 2            | 2100   |
    | QWO       | 1   | 9    | none              | 900        | no row           |              |        |
    """
    spans = sorted({period.years for period in periods})
    windows = small_frame(
        spark,
        [(member, years[-1], len(years)) for years in spans for member in years],
        "member string, financial_year string, period_years int",
    )
    years = sorted({member for years in spans for member in years})
    return (
        strata_frame(spark, population, years)
        .withColumnRenamed(YEAR, "member")
        .join(F.broadcast(windows), "member")
        .groupBy(*WINDOW, *AREA, "sex", "band")
        .agg(
            F.sum("people").alias("people"),
            F.first("weight").alias("weight"),
            F.max("vintage").alias("vintage"),
            F.max("distant").alias("distant"),
            F.max("split").alias("split"),
            F.count("*").alias("_years"),
        )
        .where("_years = period_years")
        .drop("_years")
    )


def _known_stratum() -> Column:
    return F.col("sex").isin(*SEXES) & F.col("band").isNotNull()


def _stratum() -> Column:
    """Index of a sex and band among the strata. Every area has all strata."""
    return ((F.col("sex").cast("int") - 1) * (LAST_BAND + 1) + F.col("band")).cast("int").alias("stratum")


def prepare_flags(flags: DataFrame, geography: Geography) -> DataFrame:
    """``flags`` (rows of ``gold/activity_flag``) made ready for :func:`activity_rates`.

    Adds ``flagged`` and ``band`` (the index of the five-year band of ``age_years``; NULL where the age is unknown).
    ``area_code`` becomes the sub-ICB location of the version shown (NULL where the code belongs to none), and invalid provider
    and commissioner codes become ``unknown``.
    """
    placed = with_known_codes(assign_output_area(flags, geography))
    return placed.withColumns({"flagged": F.col("outcome") == FLAGGED, "band": band_of(F.col("age_years"))})


def _rate_columns(frame: DataFrame, population: Population, *, partial: bool, local: list[str]) -> DataFrame:
    """The columns of ``gold/activity_rate`` from counts and weighted sums; ``local`` lists the local policies."""
    all_weights = float(sum(population.weights.values()))
    counts = ["activity", "in_scope", "people_flagged", "activity_unknown_age_sex", "events"]
    filled = frame.fillna(0, counts).fillna(0.0, ["weighted_rates", "weighted_variances", "repeated_variances"])
    has_people = F.col("population").isNotNull()
    computable = has_people & ~F.coalesce(F.col("empty_stratum"), F.lit(False))
    events, rates, repeated = F.col("events"), F.col("weighted_rates"), F.col("repeated_variances")
    lower, upper = dobson_limits(events, rates, F.col("weighted_variances"), all_weights)
    lower_adjusted, upper_adjusted = dobson_limits(events, rates, repeated, all_weights)
    share_lower, share_upper = wilson_limits(F.col("activity"), F.col("in_scope"))
    # Indirect standardisation: Σ n·(x/n of England) over sex and band. All areas of a period use the same rates of England.
    expected = F.aggregate(
        F.coalesce("rates", F.array().cast("array<struct<stratum:int,rate:double>>")),
        F.lit(0.0),
        lambda total, each: total + each["rate"] * F.get("strata", each["stratum"]),
    )
    # A lookup without dates places the records of every year in an area of today, so no part of an area is unmapped.
    unmapped = F.lit(False) if population.undated_lookups else has_unmapped_part(population.geography)
    is_local = F.col("policy_id").isin(*local) if local else F.lit(False)
    notes = F.array_compact(
        F.array(
            F.when(F.col("distant"), F.lit(DISTANT_VINTAGE)),
            F.when(F.col("lacking"), F.lit(PARTIAL_POPULATION)),
            F.when(F.col("unusual") & has_people, F.lit(UNUSUAL_POPULATION)),
            F.when(F.col("back_cast"), F.lit("back_cast")),
            F.when(F.col("partial_year"), F.lit("partial_year")),
            F.when(F.col("split"), F.lit(SPLIT_ESTIMATE)),
            F.when(unmapped, F.lit(UNMAPPED_PART)),
            F.when(F.lit(partial), F.lit("partial_coverage")),
            F.when(is_local, F.lit("local_policy")),
        )
    )
    return filled.select(
        *PERIOD,
        "period",
        *AREA,
        F.coalesce("area_name", "area_code").alias("area_name"),
        "activity",
        "in_scope",
        "people_flagged",
        "activity_unknown_age_sex",
        "population",
        "population_vintage",
        F.when(has_people, F.lit(population.standard)).alias("standard_population"),
        F.when(has_people & ~F.lit(partial) & ~is_local & ~F.col("england_lacking"), expected).alias("expected"),
        crude_rate(F.col("activity"), F.col("population")).alias("crude_rate"),
        F.when(computable, standardised_rate(F.col("weighted_rates"), all_weights)).alias("standardised_rate"),
        F.when(computable, lower).alias("lower"),
        F.when(computable, upper).alias("upper"),
        F.when(computable, lower_adjusted).alias("lower_adjusted"),
        F.when(computable, upper_adjusted).alias("upper_adjusted"),
        F.when(computable, standard_error(repeated, all_weights)).alias("standard_error"),
        F.try_divide("activity", "in_scope").alias("flagged_share"),
        share_lower.alias("share_lower"),
        share_upper.alias("share_upper"),
        F.when(has_people, F.lit(METHOD)).alias("method"),
        rate_status(has_people, computable, F.col("activity")).alias("status"),
        notes.alias("notes"),
        F.lit("partial" if partial else "national").alias("coverage"),
        F.lit(population.geography.version).alias("geography"),
    )
