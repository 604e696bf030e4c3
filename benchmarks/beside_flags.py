"""The product's flags and rates, made by DuckDB from the records that :mod:`benchmarks.beside` wrote.

Tests of the national policies' YAML become SQL. Every record in scope gets a row for each of three readings of the revision in
force on its day, with the clauses that failed, those that were undecided, the decisions that would change its outcome, and its
area. Readings other than ``as_published`` take default codes by their meaning (decision 24). Then come counts and directly standardised
rates of England, of each area that the flags name, and of each provider. This is less than the product does: no local policies,
no LSOA lookups, one vintage of people, no attrition, no pooled years, no intervals, no figures by month, nothing published.
"""

from collections.abc import Iterable, Mapping
from itertools import chain, groupby
from pathlib import Path
from typing import Any, assert_never

import duckdb

from benchmarks.duckdb_tables import in_folders, quoted, same_rows
from ebi_spark.config.default_codes import EPISODE, LISTS, MISSING, default_codes_of
from ebi_spark.config.settings import RunConfig
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.policies.compile import AS_SEEN, FIELDS, LIST_FIELDS, stored_four, uses_code_meaning
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
    "policy_id", "revision", "reading", "back_cast", "source_system", "dataset", "record_id", "person_id", "financial_year",
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
    parts: list[str] = []
    for _, periods in groupby(chosen, lambda unit: unit.policy.id):
        units = list(periods)
        dataset = units[0].policy.dataset
        scopes = dict.fromkeys(_sql(unit.revision.scope_test, FIELDS[dataset]) for unit in units)
        records = in_folders(out / _RECORDS[dataset])
        database.execute(f"CREATE TEMP TABLE scoped AS SELECT * FROM {records} WHERE {' OR '.join(scopes)}")
        database.execute(_PLACED)
        for unit in units:
            database.execute(f"CREATE TEMP TABLE applied{len(parts)} AS {_applied(unit)}")
            parts.append(f"FROM applied{len(parts)}")
        database.execute("DROP TABLE scoped; DROP TABLE placed")
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


def _day(dataset: str) -> str:
    """The day that decides which revision applies to a record (decision 11)."""
    own = "admission_date, " if dataset == "apc" else ""
    return f"coalesce({own}activity_date, first_day_of(financial_year))"


def _in_force(unit: RevisionPeriod) -> str:
    day = _day(unit.policy.dataset)
    since = f"{day} >= DATE '{unit.since}'" if unit.since else "true"
    return f"{since} AND " + (f"{day} < DATE '{unit.until}'" if unit.until else "true")


def _has_default(column: str) -> str:
    """Whether a record has only default codes that count as missing, never NULL; empty where the column has no such codes."""
    codes = default_codes_of(column, *MISSING)
    if not codes:
        return ""
    if column in LISTS:
        either = "|".join(codes)
        return f"coalesce(regexp_full_match({column}, ',(?:{either})(?:,(?:{either}|[{EPISODE}]))*,'), false)"
    return f"coalesce(upper({column}::VARCHAR) IN ({', '.join(map(quoted, codes))}), false)"


def _applied(unit: RevisionPeriod) -> str:
    """The flags of one revision: one SELECT for each reading. Tests are evaluated once with the codes as written (``t0`` …), and by
    the meaning of default codes (``m0`` …) only for records that have one."""
    dataset, readings = unit.policy.dataset, unit.revision.readings
    written = FIELDS[dataset]
    defaults = {name: _has_default(column) for name, column in written.items() if name not in AS_SEEN}
    meant = {
        name: f"(CASE WHEN NOT {defaults[name]} THEN {column} END)" if defaults.get(name) else column
        for name, column in written.items()
    }
    clauses = list(chain(*(r.deciding for r in readings.values()), *(flip.deciding for flip in unit.revision.flips)))
    tests: dict[str, tuple[int, str]] = {}
    for clause in clauses:
        tests.setdefault(_test_of(clause, written), (len(tests), _test_of(clause, meant)))
    states = ", ".join(f"({sql}) AS t{number}" for sql, (number, _) in tests.items())
    any_default = " OR ".join(dict.fromkeys(filter(None, defaults.values()))) or "false"
    by_meaning = ", ".join(
        f"CASE WHEN has_default THEN ({other}) ELSE t{number} END AS m{number}" for number, other in tests.values()
    )

    def state(clause: Clause, reading: str) -> str:
        return f"{'m' if uses_code_meaning(reading) else 't'}{tests[_test_of(clause, written)][0]}"

    def through(clause: Clause, reading: str) -> str:
        return f"coalesce({state(clause, reading)}, {clause.missing == 'passes'})"

    def all_through(deciding: tuple[Clause, ...], reading: str) -> str:
        return " AND ".join(through(clause, reading) for clause in deciding) or "true"

    first_day = min(revision.start for revision in unit.policy.revisions)
    selects = []
    for name, reading in readings.items():
        failed = ", ".join(f"CASE WHEN NOT {through(c, name)} THEN '{c.id}' END" for c in reading.deciding)
        undecided = ", ".join(f"CASE WHEN {state(c, name)} IS NULL THEN '{c.id}' END" for c in reading.deciding)
        turned = ", ".join(
            f"CASE WHEN ({all_through(flip.deciding, name)}) <> ({all_through(reading.deciding, name)}) "
            f"THEN '{flip.decision}' END"
            for flip in unit.revision.flips
            if flip.base == name
        )
        selects.append(
            f"SELECT '{unit.policy.id}' AS policy_id, '{unit.revision.name}' AS revision, '{name}' AS reading, "
            f"{_day(dataset)} < DATE '{first_day}' AS back_cast, source_system, "
            "dataset, record_id, person_id, financial_year, activity_date, provider_code, commissioner_code, area_code, "
            f"area_basis, sex, age, age_years, {_some(failed)} AS failed_clauses, {_some(undecided)} AS "
            f"missing_clauses, {_some(turned)} AS decisive_decisions, CASE WHEN len(failed_clauses) = 0 THEN 'flagged' ELSE "
            "'not_flagged' END AS outcome, len(failed_clauses) = 1 AS near_miss FROM tested"
        )
    in_scope = f"{_sql(unit.revision.scope_test, written)} AND {_in_force(unit)}"
    return (
        f"WITH seen AS MATERIALIZED (SELECT *, {any_default} AS has_default, {states} FROM placed WHERE {in_scope}), "
        f"tested AS MATERIALIZED (SELECT *, {by_meaning} FROM seen) {' UNION ALL '.join(selects)}"
    )


def _some(items: str) -> str:
    return f"list_filter([{items}]::VARCHAR[], x -> x IS NOT NULL)"


def _test_of(clause: Clause, columns: Mapping[str, str]) -> str:
    assert clause.test is not None
    sql = _sql(clause.test, columns)
    return f"NOT ({sql})" if clause.kind == "exclude" else sql


def _sql(test: Test, columns: Mapping[str, str]) -> str:
    """A test as a three-valued condition of DuckDB's. ``columns``: what each field of the policies is in SQL."""
    match test:
        case AnyOf(parts):
            return f"({' OR '.join(_sql(part, columns) for part in parts)})"
        case AllOf(parts):
            return f"({' AND '.join(_sql(part, columns) for part in parts)})"
        case NoneOf(parts):
            return f"NOT ({' OR '.join(_sql(part, columns) for part in parts)})"
        case IsNull(name, is_null):
            return f"{columns[name]} IS {'' if is_null else 'NOT '}NULL"
        case AgeRange(name, low, None):
            return f"{columns[name]} >= {low}"
        case AgeRange(name, None, high):
            return f"{columns[name]} <= {high}"
        case AgeRange(name, low, high):
            return f"{columns[name]} BETWEEN {low} AND {high}"
        case FollowedBy(name, first, then, directly):
            between = "[^,|]*," if directly else ".*,"
            return f"regexp_matches({columns[name]}, ',{_either(first)}{between}{_either(then)}')"
        case HasCode(name, operator, codes, left):
            if stored_four(test):  # lets DuckDB skip parts of the files, which are sorted by this column
                return f"dominant_procedure_4 IN ({', '.join(map(quoted, codes))})"
            column = columns[name] if left is None else f"left({columns[name]}, {left})"
            if operator == "in":
                return f"{column} IN ({', '.join(map(quoted, codes))})"
            start = "" if operator == "contains" else "," if name in LIST_FIELDS else "^"
            return f"regexp_matches({column}, '{start}{_either(codes)}')"
        case _:
            assert_never(test)


def _either(patterns: Iterable[str]) -> str:
    return f"(?:{'|'.join(pattern.replace('_', '.') for pattern in patterns)})"
