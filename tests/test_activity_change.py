"""What changed from one period to another: the chain of counts, its parts, codes beside the rule, groups of people.

Parts are checked by hand, against every order of the factors, and on random counts; counts against another engine.
"""

import csv
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import permutations
from math import fsum, prod
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import pytest
import statsmodels.api as sm
from pyspark.sql import SparkSession
from scipy.stats import chi2

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.flags.apply_policies import apply_policies
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.geography.record_areas import Lookups
from ebi_spark.lake.storage import Lake
from ebi_spark.pathway.definitions import definitions as pathway_definitions
from ebi_spark.pathway.definitions import definitions_after
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.rates.activity_change import (
    IN_FORCE,
    NO_POPULATION,
    UNDEFINED,
    Chain,
    Change,
    area_counts,
    by_area,
    chains,
    change_between,
    change_rows,
    changes,
    code_use_rows,
    counts_frame,
    counts_of,
    definitions,
    pairs_of,
)
from ebi_spark.rates.equality import (
    FIFTHS,
    equality_counts,
    equality_rows,
    pooled_years,
    read_fifths,
    read_people_of_fifths,
)
from ebi_spark.rates.population_files import LAST_BAND, SEXES
from ebi_spark.runs.run_inputs import RunInputs
from ebi_spark.small_frames import small_frame
from ebi_spark.stages.monitor import Monitor
from ebi_spark.stages.run_context import RunContext
from ebi_spark.statistics.counts import exact_poisson
from ebi_spark.statistics.decomposition import factors_of, shapley_parts
from ebi_spark.statistics.inequality import Estimate, Stratum, slope_index, standardised
from ebi_spark.tables.gold import ACTIVITY_FLAG
from ebi_spark.tables.monitoring_changes import ACTIVITY_CHANGE, ACTIVITY_COUNT, CODE_USE, EQUALITY_RATE
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE
from ebi_spark.tables.table import Table
from tests.test_population import listed

FUSION, IMAGING = "2Y_back_pain_fusion", "2S_lower_back_imaging"
CONFIG = RunConfig(lake=LakeLocation())
GEOGRAPHY = read_geography("current", ())
NAMES = ("people", "operations_per_person", "in_scope", "primary_diagnosis", "no_exclusion", "flagged")


def shipped() -> dict[str, Chain]:
    return {chain.policy_id: chain for chain in chains(revision_periods(load_policies(), CONFIG))}


# Definitions


def test_codes_have_their_official_titles() -> None:
    given = definitions()
    titles: dict[str, str] = {}
    for name in ("opcs4_codes", "icd10_codes"):
        with resource("conf", "reference", f"{name}.csv").open(encoding="utf-8", newline="") as file:
            titles |= {f"{name}/{row['code']}": row["title"] for row in csv.DictReader(file)}
    lists = {"scope": "opcs4", "outside_scope": "opcs4", "unspecified": "opcs4", "primary_diagnosis": "icd10"}
    for part, book in lists.items():
        assert given[part]["source"] and given[part]["coding"] in ("coded", "proxy")
        for code, title in given[part]["codes"].items():
            assert titles[f"{book}_codes/{code}"] == title
    outside = {*given["outside_scope"]["codes"]}
    assert outside == {
        "V251", "V253", "V261", "V263", "V333", "V335", "V336", "V343", "V345", "V346", "V393", "V394", "V395", "V396",
        "V397", "V511",
    }  # fmt: skip
    assert {*given["unspecified"]["codes"]} == {"V388", "V389", "V398", "V399"}
    scope = load_policies(only=[FUSION])[0].revisions[0].scope_test
    assert [*given["scope"]["codes"]] == [*scope.codes]  # type: ignore[union-attr]
    assert not outside & {*given["scope"]["codes"]}
    # The lists of the pathway are the same fusions.
    every = outside | {*given["scope"]["codes"]}
    approaches = pathway_definitions()["approach"]
    by_approach = [code for way in ("posterior", "anterior", "lateral", "combined") for code in approaches[way]]
    assert sorted(by_approach) == sorted(every)
    later = [step for step in definitions_after()["steps"] if step["id"] in ("further_fusion", "revision")]
    assert sorted(item["code"] for step in later for item in step["codes"]) == sorted(every)


def test_a_run_of_one_policy_keeps_the_changes_of_the_others_in_the_lake() -> None:
    """`monitor` replaces its tables whole, so it covers all policies that the lake has flags of."""
    applied = ("gold/policy", [{"policy_id": FUSION}, {"policy_id": IMAGING}])

    class OfTwoPolicies:
        def small_rows(self, table: Table, *_: Any) -> list[dict[str, str]]:
            assert table.full_name == applied[0]
            return applied[1]

    config = replace(CONFIG, policies=[IMAGING])
    stage = Monitor(RunContext(config, cast("Lake", OfTwoPolicies()), "run"))
    assert {policy.id for policy in stage.context.inputs.policies} == {IMAGING}
    assert {period.policy.id for period in stage._periods} == {FUSION, IMAGING}


def test_revisions_of_policies_that_were_not_asked_for_can_be_fixed() -> None:
    fixed = replace(CONFIG, policies=[IMAGING], basis="fixed", fixed_revisions={FUSION: "2022-08"})
    assert [period.policy.id for period in RunInputs(fixed).periods] == [IMAGING]
    with pytest.raises(InputError, match="fixed_revisions: there is no policy 'fusion'"):
        _ = RunInputs(replace(fixed, fixed_revisions={"fusion": "2022-08"})).periods


def test_chains_name_clauses_of_their_policies() -> None:
    found = shipped()
    assert {*found} == {FUSION, IMAGING}
    for chain in found.values():
        for period in chain.periods:
            clauses = {clause.id for clause in period.revision.readings[chain.reading].deciding}
            assert {*chain.primary_diagnosis, *chain.no_exclusion} <= clauses
    assert found[FUSION].steps == ("operations", "in_scope", "primary_diagnosis", "no_exclusion", "flagged")
    assert found[IMAGING].steps == ("in_scope", "no_exclusion", "flagged")
    # The coding was carried over, so one count serves both revisions.
    assert len(found[FUSION].periods) == 2 and found[FUSION].others == ()
    assert [found[FUSION].revision_on(date(year, 3, 31)) for year in (2019, 2024, 2025)] == [
        "2022-08",
        "2022-08",
        "2024-09",
    ]


# Parts


def by_orders(before: list[float], after: list[float]) -> list[float]:
    """The mean effect of each factor over every order in which they can change, one order at a time."""
    effects = [0.0] * len(before)
    orders = list(permutations(range(len(before))))
    for order in orders:
        now = list(before)
        for place in order:
            earlier = prod(now)
            now[place] = after[place]
            effects[place] += (prod(now) - earlier) / len(orders)
    return effects


def narrowing(draw: random.Random, length: int, most: int) -> list[int]:
    counts = [draw.randint(0, most)]
    while len(counts) < length:
        counts.append(draw.choice((counts[-1], draw.randint(0, counts[-1]), 0)))
    return counts


def test_parts_are_the_mean_over_every_order() -> None:
    draw = random.Random(7)
    before, after = ([narrowing(draw, 6, 60_000_000) for _ in range(40)] for _ in range(2))
    factors = factors_of(before, after)
    totals = [b[-1] - a[-1] for a, b in zip(before, after, strict=True)]
    parts = shapley_parts(factors, totals)
    for row, total in enumerate(totals):
        wanted = by_orders(factors.before[row].tolist(), factors.after[row].tolist())
        assert parts[row].tolist() == pytest.approx(wanted, rel=1e-9, abs=1e-6)
        assert abs(fsum(parts[row]) - total) < 1e-9
    assert factors.undefined.any() and not factors.undefined[:, 0].any()


def test_a_change_worked_by_hand() -> None:
    """1,000 people with 100 operations, all of them flagged; then 50 operations, of which half are in scope.

    By order: first the operations (100 to 50: -50), then the scope (50 to 25: -25); the other way -50 and -25. So the
    operations have (-50 - 25) / 2 = -37.5, the scope (-25 - 50) / 2 = -37.5.
    """
    chain = shipped()[FUSION]
    change = Change(
        FUSION, chain.reading, ("icb", "QJ2"), ("2021-22", "2022-23"), "2022-08", (1_000, 100, 100, 100, 100, 100), (1_000, 50, 25, 25, 25, 25),
        (100, 25), NAMES,
    )  # fmt: skip
    nothing = replace(change, before=(1_000, 0, 0, 0, 0, 0), after=(1_000, 10, 10, 10, 10, 10), in_force=(0, 10))
    revised = replace(change, in_force=(90, 30))
    unknown = replace(change, before=change.before[1:], after=change.after[1:], names=NAMES[1:], notes=(NO_POPULATION,))
    rows = change_rows([change, nothing, revised, unknown])
    assert {key for row in rows for key in row} <= {*ACTIVITY_CHANGE.names()}
    found = [rows[start : start + 9] for start in (0, 9, 18)]
    first = {row["component"]: row for row in found[0]}
    assert [row["component"] for row in found[0]] == [*NAMES, "revision", "total_from", "total_to"]
    assert {name: row["records"] for name, row in first.items()} == pytest.approx(
        dict.fromkeys(NAMES, 0)
        | {"operations_per_person": -37.5, "in_scope": -37.5, "revision": 0, "total_from": 100, "total_to": 25}
    )
    assert (first["in_scope"]["value_from"], first["in_scope"]["value_to"]) == (1, 0.5)
    # 0 operations: every later factor is 0/0, keeps the other period's value, and is noted; the operations explain all.
    second = {row["component"]: row for row in found[1]}
    assert [row["component"] for row in found[1] if row["notes"]] == [*NAMES[2:]]
    assert second["flagged"]["notes"] == [UNDEFINED]
    assert second["operations_per_person"]["records"] == pytest.approx(10)
    # 90 and 30 in force, 100 and 25 by one revision: the revision in force adds 5 more later than it took earlier: 5 - (-10).
    third = {row["component"]: row["records"] for row in found[2]}
    assert third["revision"] == 15
    assert fsum(third[name] for name in (*NAMES, "revision")) == pytest.approx(
        third["total_to"] - third["total_from"], abs=1e-9
    )
    last = {row["component"]: row for row in rows[27:]}
    assert "people" not in last and last["operations_per_person"]["value_from"] == 100
    assert all(NO_POPULATION in row["notes"] for row in last.values())


def test_parts_of_random_counts_add_up_in_every_area() -> None:
    draw = random.Random(11)
    chain = shipped()[FUSION]
    years = ["2019-20", "2020-21", "2022-23"]
    codes = sorted(GEOGRAPHY.areas)
    counts = {
        (FUSION, IN_FORCE, year): {code: tuple(narrowing(draw, 5, 900)) for code in [*codes[:30], None]}
        for year in years
    }
    people = {
        (year, *area): 100_000 + draw.randint(0, 9_999)
        for year in years
        for area in [("england", "E92000001"), ("icb", "QJ2"), ("sub_icb", codes[0])]
    }
    of_areas = area_counts(chain, counts, years, people, GEOGRAPHY, years, partial=False)
    assert {key for row in of_areas for key in row} == {*ACTIVITY_COUNT.names()} - {"run_id"}
    rows = change_rows(changes(of_areas, years))
    assert pairs_of(years) == [("2019-20", "2020-21"), ("2020-21", "2022-23"), ("2019-20", "2022-23")]
    grouped: dict[tuple[str, ...], dict[str, float]] = {}
    for row in rows:
        key = (row["area_type"], row["area_code"], row["period_from"], row["period_to"])
        grouped.setdefault(key, {})[row["component"]] = row["records"]
    for parts in grouped.values():
        total = parts.pop("total_to") - parts.pop("total_from")
        assert abs(fsum(parts.values()) - total) < 1e-9
    # England has the records of unknown area too, and the sum of all areas.
    england = grouped["england", "E92000001", "2019-20", "2020-21"]
    flagged = [sum(numbers[-1] for numbers in counts[FUSION, IN_FORCE, year].values()) for year in years]
    assert fsum(england.values()) == pytest.approx(flagged[1] - flagged[0])
    assert {key[0] for key in grouped} == {"england", "region", "icb", "sub_icb"}
    assert all(("people" in parts) == ((key[2], *key[:2]) in people) for key, parts in grouped.items())
    # An extract is not England; years that cannot be placed have England only.
    extract = area_counts(chain, counts, years, people, GEOGRAPHY, years, partial=True)
    assert {c.area[0] for c in changes(extract, years)} == {"icb", "sub_icb"}
    one_year = area_counts(chain, counts, years, people, GEOGRAPHY, ["2022-23"], partial=False)
    assert {c.area[0] for c in changes(one_year, years)} == {"england"}
    # Periods of several years, by hand: the counts of their years are added up.
    own = by_area(of_areas)["england", "E92000001"]
    wide = change_between(own, years[:2], years[2:])
    assert wide.periods == ("2019-20..2020-21", "2022-23") and wide.in_force == (sum(flagged[:2]), flagged[2])
    assert wide.before[0] == sum(people[year, "england", "E92000001"] for year in years[:2])
    operations = [sum(numbers[0] for numbers in counts[FUSION, IN_FORCE, year].values()) for year in years]
    assert (wide.before[1], wide.after[1]) == (sum(operations[:2]), operations[2])
    parts = {row["component"]: row["records"] for row in change_rows([wide])}
    total = parts.pop("total_to") - parts.pop("total_from")
    assert abs(fsum(parts.values()) - total) < 1e-9 and total == flagged[2] - sum(flagged[:2])


def test_a_revision_apart_is_the_later_period_by_both() -> None:
    """A revision that flags half as many from 2022: both years are read by the earlier one, and the rest is the revision."""
    [old] = revision_periods(load_policies(only=[IMAGING]), CONFIG)
    chain = Chain((old,), ("a",), False, (), ("global_cancer",))
    chain = replace(chain, periods=(replace(old, revision=replace(old.revision, name="a")),))
    counts = {
        (IMAGING, IN_FORCE, "2021-22"): {None: (100, 100, 100, 80, 60)},
        (IMAGING, IN_FORCE, "2022-23"): {None: (100, 100, 100, 80, 30)},
        (IMAGING, "a", "2021-22"): {None: (100, 100, 100, 80, 60)},
        (IMAGING, "a", "2022-23"): {None: (100, 100, 100, 80, 66)},
    }
    people = {(year, "england", "E92000001"): 1_000 for year in ("2021-22", "2022-23")}
    of_areas = area_counts(chain, counts, ["2021-22", "2022-23"], people, GEOGRAPHY, [], partial=False)
    found = changes(of_areas, ["2021-22", "2022-23"])
    rows = {row["component"]: row["records"] for row in change_rows(found)}
    assert rows == pytest.approx(
        {"people": 0, "in_scope": 0, "no_exclusion": 0, "flagged": 6, "revision": -36, "total_from": 60, "total_to": 30}
    )


# Counts, in Spark and in another engine

CODES = ("V382", "V383", "V404", "V251", "V393", "V511", "V388", "V399", "V254", "W371", "V3841")
DIAGNOSES = ("M545", "M545", "M549", "M513", None)


def spells(number: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(19)
    for n in range(number):
        listed = draw.sample(CODES, draw.randint(0, 3))
        primary = draw.choice(DIAGNOSES)
        dominant = draw.choice([*listed, None]) if listed else None
        year = draw.choice((2021, 2024))
        yield {
            "source_system": "sus_plus", "dataset": "apc", "record_id": str(n), "financial_year": f"{year}-{year - 1999}",
            "activity_date": date(year, draw.choice((5, 11)), 1), "admission_date": date(year, 4, 30), "person_id": f"p{n % 97}",
            "dominant_procedure": dominant, "dominant_procedure_4": dominant and dominant[:4], "primary_diagnosis": primary,
            "diagnosis_codes": None if primary is None else f",{primary},{draw.choice(('E119', 'E119', 'M431', 'C795'))},",
            "procedure_codes": f",{','.join(listed)}," if listed else None, "age": draw.choice((18, 45, 45, 45, None)),
            "age_years": 45, "sex": draw.choice(("1", "2", "9")), "admission_method": draw.choice(("11", "11", "21")),
            "administrative_category": "01", "commissioner_code": draw.choice(("15M00", "02P00", "99X", "7A1")),
        }  # fmt: skip


def test_counts_are_those_of_another_engine(spark: SparkSession) -> None:
    """One query for both policies; recounted by SQL on the same rows."""
    rows = list(spells(1_500))
    attended = [
        {"source_system": "sus_plus", "dataset": "op", "record_id": str(n), "financial_year": "2024-25", "age_years": 50,
         "activity_date": date(2024, 5, 1), "procedure_codes": ",U054,", "age": 50, "diagnosis_codes": diagnosis, "sex": "2",
         "administrative_category": category, "commissioner_code": "15M00"}
        for n, (diagnosis, category) in enumerate([(None, "01"), (",C795,", "01"), (",E119,", "02"), (",E119,", "01")])
    ]  # fmt: skip
    records = {
        "apc": small_frame(spark, rows, APC_SPELL.schema),
        "op": small_frame(spark, attended, OP_ATTENDANCE.schema),
    }
    lookups = Lookups(None, None, tuple(sorted(GEOGRAPHY.valid)), ("commissioner",))
    periods = revision_periods(load_policies(only=[FUSION, IMAGING]), CONFIG)
    flagged_rows = [
        row.asDict() | {"run_id": "r"}
        for dataset, frame in records.items()
        for row in apply_policies(frame, dataset, periods, lookups).collect()
    ]
    flags = small_frame(spark, flagged_rows, ACTIVITY_FLAG.schema)
    split = chains(periods)
    frame = counts_frame(records, flags, split, lookups, GEOGRAPHY)
    counted = [row.asDict() for row in frame.collect()]
    by_area = counts_of(counted)

    lists = {
        name: ",".join(f"'{code}'" for code in definitions()[name]["codes"])
        for name in ("scope", "outside_scope", "unspecified")
    }
    database = duckdb.connect()
    database.execute(
        "CREATE TABLE spell (id TEXT, y TEXT, codes TEXT, d TEXT, p TEXT, dx TEXT, age INT, m TEXT, c TEXT)"
    )
    database.executemany(
        "INSERT INTO spell VALUES (?,?,?,?,?,?,?,?,?)",
        [[r["record_id"], r["financial_year"], r["procedure_codes"], r["dominant_procedure_4"], r["primary_diagnosis"],
          r["diagnosis_codes"], r["age"], r["admission_method"], r["commissioner_code"]] for r in rows],
    )  # fmt: skip
    database.execute(
        f"""CREATE VIEW v AS SELECT *, list_transform(string_split(coalesce(codes, ''), ','), x -> left(x, 4)) AS l,
        d IN ({lists["scope"]}) IS TRUE AS scoped, list_has_any(l, [{lists["scope"]},{lists["outside_scope"]}]) OR scoped AS lumbar
        FROM spell WHERE c <> '7A1'"""
    )
    wanted = database.execute(
        """SELECT y, CASE WHEN c IN ('15M00', '02P00') THEN left(c, 3) END, count(*), count(*) FILTER (scoped),
        count(*) FILTER (scoped AND p IN ('M545', 'M549')),
        count(*) FILTER (scoped AND p IN ('M545', 'M549') AND dx NOT LIKE '%M431%' AND dx NOT LIKE '%C795%'),
        count(*) FILTER (scoped AND p IN ('M545', 'M549') AND dx LIKE '%E119%' AND age >= 19 AND m = '11')
        FROM v WHERE lumbar GROUP BY ALL"""
    ).fetchall()
    assert len(wanted) == 6 and all(row[-1] for row in wanted)
    found = {
        (y, code): numbers
        for (policy, _, y), areas in by_area.items()
        if policy == FUSION
        for code, numbers in areas.items()
    }
    assert found == {row[:2]: row[2:] for row in wanted}
    assert by_area[IMAGING, IN_FORCE, "2024-25"] == {"15M": (4, 4, 4, 3, 2)}

    used = {
        (row["financial_year"], row["kind"], row["code"]): (row["records"], row["of_records"])
        for row in code_use_rows(counted)
    }
    assert {key for row in code_use_rows(counted) for key in row} | {"run_id"} == {*CODE_USE.names()}
    expected: Counter[tuple[str, str, str]] = Counter()
    for kind, name, where in (
        ("operation_outside_scope", "outside_scope", "true"), ("non_dominant", "scope", "NOT scoped"), ("unspecified", "unspecified", "true"),
    ):  # fmt: skip
        sql = f"SELECT y, unnest(list_distinct(list_intersect(l, [{lists[name]}]))) AS code, id FROM v WHERE {where}"
        for y, code, number in database.execute(f"SELECT y, code, count(*) FROM ({sql}) GROUP BY ALL").fetchall():
            expected[y, kind, code] = number
        for y, number in database.execute(f"SELECT y, count(DISTINCT id) FROM ({sql}) GROUP BY ALL").fetchall():
            expected[y, kind, "any"] = number
    for y, code, number in database.execute(
        "SELECT y, coalesce(p, 'unknown'), count(*) FROM v WHERE scoped GROUP BY ALL"
    ).fetchall():
        expected[y, "primary_diagnosis", code] = number
    assert {key: number for key, (number, _) in used.items()} == dict(expected)
    totals = dict(
        database.execute(
            "SELECT y, [count(*) FILTER (lumbar), count(*) FILTER (scoped)] FROM v GROUP BY ALL"
        ).fetchall()
    )
    assert all(of == totals[key[0]][key[1] == "primary_diagnosis"] for key, (_, of) in used.items())

    # Where the clauses of two revisions differ, every year is also read by each of them.
    apart = [replace(chain, others=("2022-08", "2024-09")) if chain.fusions else chain for chain in split]
    both = counts_of(row.asDict() for row in counts_frame(records, flags, apart, lookups, GEOGRAPHY).collect())
    assert {key[1] for key in both if key[0] == FUSION} == {IN_FORCE, "2022-08", "2024-09"}
    for year in ("2021-22", "2024-25"):
        assert both[FUSION, "2022-08", year] == both[FUSION, "2024-09", year] == by_area[FUSION, IN_FORCE, year]

    # The flagged people of England, by sex, band and fifth of their home.
    policy = next(period.policy for period in periods if period.policy.id == FUSION)
    homes = records["apc"].selectExpr("*").withColumn("lsoa", records["apc"]["commissioner_code"])
    pooled = {FUSION: (policy, ("2021-22", "2024-25"))}
    people = equality_counts(flags, {"apc": homes}, pooled, {"15M00": "1", "99X": "5"}).collect()
    flagged = {
        j["record_id"] for j in flagged_rows
        if (j["dataset"], j["reading"], j["outcome"]) == ("apc", "as_published", "flagged") and j["area_basis"] != "outside_england"
    }  # fmt: skip
    hand = Counter(
        (row["sex"] if row["sex"] in SEXES else None, {"15M00": "1", "99X": "5"}.get(row["commissioner_code"]))
        for row in rows
        if row["record_id"] in flagged
    )
    assert {row["band"] for row in people} == {9}
    assert {(row["sex"], row["fifth"]): row["records"] for row in people} == dict(hand) and len(hand) > 5


# Groups of people


def test_rates_of_groups_against_a_statistics_library() -> None:
    assert exact_poisson(0) == (0.0, pytest.approx(chi2.ppf(0.975, 2) / 2))
    assert exact_poisson(10) == pytest.approx((4.795, 18.39), abs=0.005)  # Garwood's table
    crude = standardised([Stratum(10, 200_000, 3)])
    assert crude and (crude.value, crude.lower, crude.upper) == pytest.approx((5, 4.795 / 2, 18.39 / 2), abs=0.003)
    # By hand: (1 × 2/1,000 + 3 × 9/3,000) / 4 per 100,000.
    two = standardised([Stratum(2, 1_000, 1), Stratum(9, 3_000, 3)])
    assert two and two.value == pytest.approx(100_000 * (0.002 + 3 * 0.003) / 4)
    assert two.variance == pytest.approx(100_000**2 * (2 / 1_000**2 + 9 * 9 / 3_000**2) / 16)
    none = standardised([Stratum(0, 50_000, 1), Stratum(0, 50_000, 1)])
    assert none == (0.0, 0.0, pytest.approx(3.689, abs=0.001), 0.0)
    assert standardised([Stratum(1, 0, 1)]) is None and standardised([]) is None


def test_the_slope_index_is_a_weighted_regression() -> None:
    groups = [(100.0, 8.0), (120.0, 9.5), (90.0, 9.0), (110.0, 12.0), (80.0, 13.5)]
    people = np.array([number for number, _ in groups])
    ranks = (np.cumsum(people) - people / 2) / people.sum()
    fitted = sm.WLS([rate for _, rate in groups], sm.add_constant(ranks), weights=people).fit()
    found = slope_index([(number, Estimate(rate, 0, 0, 2.0)) for number, rate in groups])
    assert found and found.value == pytest.approx(fitted.params[1])
    # Its variance by simulation: rates drawn with the variances that were given.
    draws = np.random.default_rng(5).normal([rate for _, rate in groups], np.sqrt(2.0), size=(4_000, 5))
    slopes = [slope_index([(n, Estimate(r, 0, 0, 0)) for (n, _), r in zip(groups, row, strict=True)]) for row in draws]
    assert found.variance == pytest.approx(np.var([slope.value for slope in slopes if slope]), rel=0.08)
    assert found.upper - found.value == pytest.approx(1.96 * np.sqrt(found.variance), rel=1e-3)
    assert slope_index([(1.0, Estimate(1, 0, 0, 0))]) is None
    equal = slope_index([(10.0, Estimate(4, 0, 0, 1)), (10.0, Estimate(6, 0, 0, 1))])
    assert equal and equal.value == pytest.approx(4)  # from 4 at a quarter to 6 at three quarters: 2 ÷ ½


def test_groups_of_people_by_hand() -> None:
    policy = load_policies(only=[FUSION])[0]
    strata = {(sex, band): 1_000.0 for sex in SEXES for band in range(LAST_BAND + 1)}
    weights = dict.fromkeys(strata, 1.0)
    counts = [
        {"sex": "1", "band": 9, "fifth": "1", "records": 38},
        {"sex": "2", "band": 9, "fifth": "5", "records": 19},
        {"sex": "2", "band": 3, "fifth": None, "records": 2},
        {"sex": None, "band": 9, "fifth": "1", "records": 5},
        {"sex": "1", "band": None, "fifth": "2", "records": 1},
    ]
    years = pooled_years(["2017-18", "2019-20", "2020-21", "2021-22"], 5)
    assert years == ("2019-20", "2020-21", "2021-22") and pooled_years(years, 2) == ("2020-21", "2021-22")
    fifths = {fifth: dict.fromkeys(strata, 200.0) for fifth in FIFTHS}
    rows = equality_rows(policy, years, None, counts, strata, weights, fifths, fifths_known=True)
    assert {key for row in rows for key in row} | {"run_id"} == {*EQUALITY_RATE.names()}
    found = {(row["dimension"], row["group"]): row for row in rows}
    # 38 of 19 bands of 1,000 people of one sex, all bands weighted alike: 38/1,000/19 per 100,000.
    assert found["sex", "1"]["rate"] == pytest.approx(200) and found["sex", "1"]["population"] == 19_000
    assert found["sex", "2"]["activity"] == 21 and found["sex", "unknown"]["activity"] == 6
    assert found["age_group", "40-49"]["rate"] == pytest.approx(57 / 4_000 * 100_000)
    assert (found["age_group", "0-19"]["activity"], found["age_group", "0-19"]["status"]) == (2, "few_events")
    assert [group for dimension, group in found if dimension == "age_group"] == [
        "0-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-79", "80+", "unknown",
    ]  # fmt: skip
    assert found["deprivation_fifth", "1"]["rate"] == pytest.approx(38 / 200 / 38 * 100_000)
    assert found["deprivation_fifth", "unknown"]["activity"] == 8
    # Rates 250, 0, 0, 0, 500 from the least to the most deprived, at 0.1, 0.3 … 0.9: slope (-0.4 × 250 + 0.4 × 500) / 0.4.
    assert found["deprivation_fifth", "3"]["slope_index"] == pytest.approx(250)
    assert found["deprivation_fifth", "1"]["period"] == "2019-20..2021-22"
    bare = equality_rows(policy, years, None, counts, None, {}, None, fifths_known=True)
    assert {row["status"] for row in bare} == {"no_population"} and not any("rate" in row for row in bare)
    assert {row["dimension"] for row in equality_rows(policy, years, None, counts, strata, weights, None, fifths_known=False)} == {
        "sex", "age_group",
    }  # fmt: skip


PEOPLE_OF_FIFTHS = [
    f"{fifth},{sex},{band * 5},{100 + band}" for fifth in FIFTHS for sex in SEXES for band in range(LAST_BAND + 1)
]
# A case of docs/bad-input.md → the lines of a lookup of small areas, or of people by fifth
BAD_FIFTHS = {
    "without the fifths of its small areas": ["lsoa,decile", "E01000001,1"],
    "with a fifth that is no number from 1 to 5": ["lsoa,fifth", "E01000001,1", "E01000003,6"],
    "with a small area twice": ["lsoa,fifth", "E01000001,1", "e01000001,2"],
    "with a fifth but without its small area": ["lsoa,fifth", "E01000001,1", ",2"],
    "of people that lacks a group": ["fifth,sex,age_from,people", *PEOPLE_OF_FIFTHS[1:]],
    "of people with a number that cannot be read": ["fifth,sex,age_from,people", *PEOPLE_OF_FIFTHS[1:], "1,1,x,5"],
    "of people with an impossible fifth, sex or age": ["fifth,sex,age_from,people", *PEOPLE_OF_FIFTHS[1:], "1,1,3,5"],
    "of people with an infinite number": ["fifth,sex,age_from,people", *PEOPLE_OF_FIFTHS[1:], "1,1,0,inf"],
    "of people with a group twice": ["fifth,sex,age_from,people", *PEOPLE_OF_FIFTHS, "1,1,0,5"],
}


def test_the_page_lists_these_files_of_deprivation_and_no_others() -> None:
    assert [*listed("Files of deprivation")] == [*BAD_FIFTHS]


@pytest.mark.parametrize("case", BAD_FIFTHS)
def test_a_file_of_deprivation_that_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "fifths.csv"
    path.write_text("\n".join(BAD_FIFTHS[case]), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_people_of_fifths(path) if "people" in case else read_fifths(path)
    assert caught.value.remedy and "fifths.csv" in str(caught.value)
    assert all(words in str(caught.value) for words in listed("Files of deprivation")[case]), str(caught.value)


def test_files_of_deprivation_are_read(tmp_path: Path) -> None:
    path, people = tmp_path / "fifths.csv", tmp_path / "people.csv"
    path.write_text("lsoa,fifth\nE01000001,1\ne01000002 ,5\n", encoding="utf-8")
    assert read_fifths(path) == {"E01000001": "1", "E01000002": "5"}
    people.write_text("\n".join(["fifth,sex,age_from,people", *PEOPLE_OF_FIFTHS]), encoding="utf-8")
    assert read_people_of_fifths(people)["3"]["2", 18] == 118


def test_years_are_compared_in_order() -> None:
    assert pairs_of([]) == pairs_of(["2020-21"]) == []
    assert pairs_of(["2021-22", "2020-21"]) == [("2020-21", "2021-22")]
