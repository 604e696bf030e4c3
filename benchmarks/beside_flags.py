"""The product's flags and rates, made by DuckDB from the records that :mod:`benchmarks.beside` wrote.

Tests of the national policies' YAML become SQL. Every record in scope gets a row for each of three readings, with the clauses that
failed, those that were undecided, the decisions that would change its outcome, and its area. Then come counts and directly standardised
rates of England, of each area that the flags name, and of each provider. This is less than the product does: no local policies,
no LSOA lookups, one vintage of people, no attrition, no pooled years, no intervals, no figures by month, nothing published.
"""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, assert_never

import duckdb

from benchmarks.duckdb_tables import in_folders, quoted, same_rows
from ebi_spark.config.settings import RunConfig
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.policies.compile import FIELDS, LIST_FIELDS
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.policies.model import (
    AgeRange,
    AllOf,
    AnyOf,
    Clause,
    FollowedBy,
    HasCode,
    IsNull,
    NoneOf,
    RevisionPeriod,
    Test,
)
from ebi_spark.rates.population import read_population

FLAGS, RATES = "flags.parquet", "rates.parquet"
_RECORDS = {"apc": "apc_spell", "op": "op_attendance"}
# Not the run, the policy's fingerprint, and on which day and by which newest lookup an area is to be read.
COMPARED = (
    "policy_id", "revision", "reading", "source_system", "dataset", "record_id", "person_id", "financial_year",
    "activity_date", "provider_code", "commissioner_code", "area_code", "area_basis", "sex", "age", "age_years",
    "outcome", "failed_clauses", "missing_clauses", "near_miss", "decisive_decisions",
)  # fmt: skip
COMPARED_RATES = (
    "policy_id", "revision", "reading", "financial_year", "area_code", "activity", "in_scope", "standardised_rate",
)  # fmt: skip

_PLACED = """
CREATE TEMP TABLE placed AS SELECT s.*, coalesce(p.sub_icb_code, c.code, c3.code) AS area_code,
  CASE WHEN p.sub_icb_code IS NOT NULL THEN 'gp_practice' WHEN coalesce(c.code, c3.code) IS NOT NULL THEN 'commissioner'
       WHEN coalesce(regexp_matches(s.lsoa, '^(?:W0|S0|N0|95|N2)'), false)
         OR coalesce(regexp_matches(upper(s.commissioner_code), '^(?:7A|6[A-C]|S[0-9]|ZC|ZT)'), false)
       THEN 'outside_england' ELSE 'unknown' END AS area_basis
FROM scoped s
LEFT JOIN practices p ON upper(s.gp_practice_code) = p.practice_code
  AND coalesce(s.activity_date, first_day_of(s.financial_year)) >= p.since
  AND coalesce(s.activity_date, first_day_of(s.financial_year)) < p.till
LEFT JOIN known_area c ON upper(s.commissioner_code) = c.code
LEFT JOIN known_area c3 ON left(upper(s.commissioner_code), 3) = c3.code
"""

_RATES = """
CREATE TEMP TABLE counted AS SELECT *, unnest([{'type': 'england', 'code': 'E92000001'}, {'type': 'area', 'code': area_code},
  {'type': 'provider', 'code': provider_code}]) AS area FROM flags WHERE area_basis <> 'outside_england';
CREATE TEMP TABLE cells AS SELECT policy_id, revision, reading, financial_year, area, sex, least(age_years // 5, 18) AS band,
  count(*) AS in_scope, count(*) FILTER (outcome = 'flagged') AS flagged FROM counted GROUP BY ALL;
CREATE TEMP TABLE people AS
  SELECT 'area' AS type, code, sex, band, people, weight FROM strata
  UNION ALL SELECT 'england', 'E92000001', sex, band, sum(people), any_value(weight) FROM strata GROUP BY ALL;
CREATE TEMP TABLE rates AS SELECT policy_id, revision, reading, financial_year, c.area.type AS area_type,
  c.area.code AS area_code, sum(flagged)::BIGINT AS activity, sum(in_scope)::BIGINT AS in_scope,
  100000 * sum(p.weight * flagged / p.people) / (SELECT sum(weight) FROM weights) AS standardised_rate
FROM cells c LEFT JOIN people p ON p.type = c.area.type AND p.code = c.area.code AND p.sex = c.sex AND p.band = c.band
WHERE c.area.code IS NOT NULL GROUP BY ALL
"""


def flags_and_rates(database: duckdb.DuckDBPyConnection, config: RunConfig, out: Path) -> None:
    """Apply the policies to the records in ``out`` and write flags and rates beside them."""
    _inputs(database, config)
    chosen = [
        unit
        for unit in revision_periods(load_policies(config.policy_dirs, config.policies), config)
        if not unit.policy.boards
    ]
    parts = []
    for number, unit in enumerate(chosen):
        records = in_folders(out / _RECORDS[unit.policy.dataset])
        scope = _sql(unit.revision.scope_test, unit.policy.dataset)
        database.execute(f"CREATE TEMP TABLE scoped AS SELECT * FROM {records} WHERE {scope} AND {_in_force(unit)}")
        database.execute(_PLACED)
        database.execute(f"CREATE TEMP TABLE applied{number} AS {_applied(unit)}")
        database.execute("DROP TABLE scoped; DROP TABLE placed")
        parts.append(f"FROM applied{number}")
    database.execute(f"CREATE VIEW flags AS {' UNION ALL '.join(parts)}")
    database.execute(f"COPY flags TO {quoted(out / FLAGS)} (FORMAT parquet, COMPRESSION zstd)")
    database.execute(_RATES)
    database.execute(f"COPY rates TO {quoted(out / RATES)} (FORMAT parquet, COMPRESSION zstd)")


def compare_flags(
    database: duckdb.DuckDBPyConnection, lake: Path, out: Path, policies: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Whether the lake's flags of these policies and its figures of England equal those that DuckDB made from its own records."""
    of_policies = f"policy_id IN ({', '.join(map(quoted, policies))})"
    ours = f"{in_folders(lake / 'gold' / 'activity_flag')} WHERE {of_policies}"
    england = (
        "(SELECT * REPLACE (round(standardised_rate, 9) AS standardised_rate) FROM {} WHERE area_type = 'england')"
    )
    our_rates = (
        f"{england.format(in_folders(lake / 'gold' / 'activity_rate'))} WHERE period_years = 1 AND {of_policies}"
    )
    return {
        "activity_flag": same_rows(database, ours, quoted(out / FLAGS), COMPARED),
        "rates of England": same_rows(database, our_rates, england.format(quoted(out / RATES)), COMPARED_RATES),
    }


def _inputs(database: duckdb.DuckDBPyConnection, config: RunConfig) -> None:
    """The small tables: practices, area codes that are known, people and weights."""
    assert config.practices is not None
    database.execute(
        "CREATE MACRO first_day_of(year) AS make_date(left(year, 4)::INT, 4, 1);"
        "CREATE TEMP TABLE practices AS SELECT upper(trim(practice_code)) AS practice_code, upper(trim(sub_icb_code)) AS "
        "sub_icb_code, coalesce(valid_from::DATE, DATE '1900-01-01') AS since, coalesce(valid_to::DATE, "
        f"DATE '9999-12-31') AS till FROM read_csv({quoted(config.practices)}, all_varchar = true);"
        "CREATE TEMP TABLE known_area (code VARCHAR);"
        "CREATE TEMP TABLE weights (sex VARCHAR, band INT, weight DOUBLE);"
        "CREATE TEMP TABLE strata (code VARCHAR, sex VARCHAR, band INT, people BIGINT, weight DOUBLE)"
    )
    known = read_geography(config.geography, config.mappings).valid
    database.executemany("INSERT INTO known_area VALUES (?)", [[code] for code in sorted(known)])
    years = list(config.years or ())
    population = read_population(config, years)
    strata = population.by_vintage[population.vintage_for(years[0])].strata
    database.executemany("INSERT INTO weights VALUES (?, ?, ?)", [[*key, w] for key, w in population.weights.items()])
    database.executemany(
        "INSERT INTO strata VALUES (?, ?, ?, ?, ?)",
        [[*key, people, population.weights[key[1:]]] for key, people in strata.items()],
    )


def _in_force(unit: RevisionPeriod) -> str:
    own = "admission_date, " if unit.policy.dataset == "apc" else ""
    day = f"coalesce({own}activity_date, first_day_of(financial_year))"
    since = f"{day} >= DATE '{unit.since}'" if unit.since else "true"
    return f"{since} AND " + (f"{day} < DATE '{unit.until}'" if unit.until else "true")


def _applied(unit: RevisionPeriod) -> str:
    """The flags of one revision: one SELECT for each reading, over tests that are evaluated once."""
    readings = unit.revision.readings
    clauses = list(chain(*(r.deciding for r in readings.values()), *(flip.deciding for flip in unit.revision.flips)))
    tests: dict[str, str] = {}
    for clause in clauses:
        tests.setdefault(_test_of(clause, unit.policy.dataset), f"t{len(tests)}")
    states = ", ".join(f"({sql}) AS {name}" for sql, name in tests.items())

    def through(clause: Clause) -> str:
        return f"coalesce({tests[_test_of(clause, unit.policy.dataset)]}, {clause.missing == 'passes'})"

    def all_through(deciding: tuple[Clause, ...]) -> str:
        return " AND ".join(map(through, deciding)) or "true"

    selects = []
    for name, reading in readings.items():
        failed = ", ".join(f"CASE WHEN NOT {through(c)} THEN '{c.id}' END" for c in reading.deciding)
        undecided = (
            f"CASE WHEN {tests[_test_of(c, unit.policy.dataset)]} IS NULL THEN '{c.id}' END" for c in reading.deciding
        )
        turned = ", ".join(
            f"CASE WHEN ({all_through(flip.deciding)}) <> ({all_through(reading.deciding)}) THEN '{flip.decision}' END"
            for flip in unit.revision.flips
            if flip.base == name
        )
        selects.append(
            f"SELECT '{unit.policy.id}' AS policy_id, '{unit.revision.name}' AS revision, '{name}' AS reading, source_system, "
            "dataset, record_id, person_id, financial_year, activity_date, provider_code, commissioner_code, area_code, "
            f"area_basis, sex, age, age_years, {_some(failed)} AS failed_clauses, {_some(', '.join(undecided))} AS "
            f"missing_clauses, {_some(turned)} AS decisive_decisions, CASE WHEN len(failed_clauses) = 0 THEN 'flagged' ELSE "
            "'not_flagged' END AS outcome, len(failed_clauses) = 1 AS near_miss FROM tested"
        )
    return f"WITH tested AS MATERIALIZED (SELECT *, {states} FROM placed) {' UNION ALL '.join(selects)}"


def _some(items: str) -> str:
    return f"list_filter([{items}]::VARCHAR[], x -> x IS NOT NULL)"


def _test_of(clause: Clause, dataset: str) -> str:
    assert clause.test is not None
    sql = _sql(clause.test, dataset)
    return f"NOT ({sql})" if clause.kind == "exclude" else sql


def _sql(test: Test, dataset: str) -> str:
    """A test as a three-valued condition of DuckDB's."""
    match test:
        case AnyOf(parts):
            return f"({' OR '.join(_sql(part, dataset) for part in parts)})"
        case AllOf(parts):
            return f"({' AND '.join(_sql(part, dataset) for part in parts)})"
        case NoneOf(parts):
            return f"NOT ({' OR '.join(_sql(part, dataset) for part in parts)})"
        case IsNull(name, is_null):
            return f"{FIELDS[dataset][name]} IS {'' if is_null else 'NOT '}NULL"
        case AgeRange(name, low, None):
            return f"{FIELDS[dataset][name]} >= {low}"
        case AgeRange(name, None, high):
            return f"{FIELDS[dataset][name]} <= {high}"
        case AgeRange(name, low, high):
            return f"{FIELDS[dataset][name]} BETWEEN {low} AND {high}"
        case FollowedBy(name, first, then, directly):
            between = "[^,|]*," if directly else ".*,"
            return f"regexp_matches({FIELDS[dataset][name]}, ',{_either(first)}{between}{_either(then)}')"
        case HasCode(name, operator, codes, left):
            column = FIELDS[dataset][name]
            if left is not None:
                column = f"left({column}, {left})"
            if operator == "in":
                return f"{column} IN ({', '.join(map(quoted, codes))})"
            start = "" if operator == "contains" else "," if name in LIST_FIELDS else "^"
            return f"regexp_matches({column}, '{start}{_either(codes)}')"
        case _:
            assert_never(test)


def _either(patterns: Iterable[str]) -> str:
    return f"(?:{'|'.join(pattern.replace('_', '.') for pattern in patterns)})"
