"""The published T-SQL, run by another engine on the raw files, against the flags of ``as_published``: row for row.

DuckDB reads the files as text and applies the source decisions on blanks and code formats (decision 1) in SQL of its
own; :mod:`tests.tsql` evaluates the pages' own words. ``EBI_SPARK_ADVERSARIAL_ROWS`` raises the number of rows.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import tsql
from adversarial import write_attendances, write_spells
from calling import COMPILED, rows_of
from pyspark.sql import SparkSession
from tsql import as_regex, conjuncts, published, repaired, to_duckdb

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import Source, TableSource
from ebi_spark.lake.storage import Lake
from ebi_spark.spark.tuning import with_settings
from ebi_spark.stages.flag import Flag
from ebi_spark.stages.ingest import Ingest
from ebi_spark.stages.run_context import RunContext
from ebi_spark.tables.gold import ACTIVITY_FLAG, POLICY_COMPARISON, POLICY_SENSITIVITY

ROWS = int(os.environ.get("EBI_SPARK_ADVERSARIAL_ROWS", "6000"))
SEED = 20_221_201


# The engine itself, on cases small enough to check by eye


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("%M54[59]%", ["M545", "||m549,E119", "XM5459"], ["M546", "M54", "M54[59]", ""]),
        ("2%", ["2", "2a", "28"], ["12", "", " 2A"]),
        ("%C[0-9][0-9]%", ["AC34", "c00"], ["C7A", "C", "C[0-9][0-9]"]),
        ("[^0-9]_", ["ab", "-1"], ["1a", "a", "abc"]),
        ("D0", ["d0"], ["D00", "xD0"]),
        ("%", ["", "x\ny"], []),
        ("a.c", ["A.C"], ["abc"]),
        ("[a-c^]x", ["bX", "^x"], ["dx"]),
        ("[-x]", ["-", "X"], ["w"]),
        ("[[]%]", ["[1]"], ["1]"]),
    ],
)
def test_like_patterns(pattern: str, matches: list[str], others: list[str]) -> None:
    connection = duckdb.connect()
    for value, expected in [*((m, True) for m in matches), *((o, False) for o in others)]:
        found = connection.execute("SELECT regexp_matches(?, ?)", [value, as_regex(pattern)]).fetchone()
        assert found == (expected,), (pattern, value)


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("x LIKE '%D0%'", "'d05'", True),
        ("x NOT LIKE '%D0%'", "'D50'", True),
        ("x not like ('2%')", "'2a'", False),
        ("x not like ('2%')", "NULL", None),
        ("NOT (x like '2%')", "'11'", True),
        ("NOT (x not like '2%' OR x IS NULL)", "NULL", False),
        ("x like '[345]%' and x not like '%[^0-9]%'", "'45'", True),
        ("x like '[345]%' and x not like '%[^0-9]%'", "'4a'", False),
        ("x <> '02'", "NULL", None),
        ("x<>'2a'", "'2A '", False),
        ("(x not like '%C[0-9]%' OR x IS NULL)", "NULL", True),
        ("left(x,4) like '%V38[23]%'", "'v3829'", True),
        ("left(x,4) like '%V38[23]%'", "'XV382'", False),
        ("ISNULL(x, 30) between 19 AND 120", "NULL", True),
        ("ISNULL(x, 30) between 19 AND 120", "121", False),
    ],
)
def test_conditions(condition: str, value: str, expected: bool | None) -> None:
    assert duckdb.sql(f"SELECT {to_duckdb(condition)} FROM (SELECT {value} AS x)").fetchone() == (expected,)


def test_mending_touches_typography_and_the_alias_only() -> None:
    spells, attendances = (published(rule.file) for rule in RULES.values())
    assert repaired(spells) == spells
    assert "’" in attendances and "—" in attendances and "apcs." in attendances
    assert repaired(attendances) == (
        attendances.replace("’", "'").replace("— Private", "-- Private").replace("apcs.", "opa.")
    )
    for policy, rule in RULES.items():
        assert tsql.label_of(published(rule.file)) == policy
        assert len(conjuncts(published(rule.file))) == sum(map(len, rule.clauses.values()))


# The rules


@dataclass(frozen=True)
class Rule:
    """A published rule: its page's SQL, the tables it reads and the clauses that its ANDed parts make up."""

    file: str
    tables: str
    key: str
    clauses: dict[str, list[int]]
    # Clauses that the product counts as undecided though the SQL's own `OR … IS NULL` decides them, and by what.
    settled_by_null: dict[str, str]


LOCAL = "DDICB_back_pain_fusion"
RULES = {
    "2Y_back_pain_fusion": Rule(
        file="2Y_back_pain_fusion_2022-08",
        tables="apcs LEFT JOIN apcs_der AS der ON der.APCS_Ident = apcs.APCS_Ident",
        key="apcs.APCS_Ident",
        clauses={
            "procedure": [0],
            "primary_diagnosis": [1],
            "deformity": [2, 3, 4, 5, 6],
            "age": [7],
            "non_elective": [8],
            "global_cancer": [9, 10],  # 9 is 1=1
            "private_patient": [11],
        },
        settled_by_null={"global_cancer": "apcs.Der_Diagnosis_All IS NULL"},
    ),
    "2S_lower_back_imaging": Rule(
        file="2S_lower_back_imaging_2023-12",
        tables="opa",
        key="opa.OPA_Ident",
        clauses={"imaging": [0], "age": [1], "global_cancer": [2, 3, 4, 5], "private_patient": [6]},
        settled_by_null={},
    ),
}


# Source decisions in SQL of their own: a column's meaning → the expression that reads it


def _known(column: str) -> str:
    return f"CASE WHEN trim({column}) = '' OR upper(trim({column})) = 'NULL' THEN NULL ELSE trim({column}) END"


def _codes(column: str) -> str:
    # Without dots and blanks; a text of separators and marks of empty codes alone holds no code: NULL.
    packed = f"upper(regexp_replace({_known(column)}, '[.\\s]', '', 'g'))"
    return f"CASE WHEN regexp_matches({packed}, '[^|,&-]') THEN {packed} END"


def _code(column: str) -> str:
    return f"nullif(upper(replace(replace({_known(column)}, '.', ''), ' ', '')), '')"


def _two_characters(column: str) -> str:
    return f"lpad(upper({_known(column)}), greatest(2, length({_known(column)}))::INTEGER, '0')"


def _whole(column: str) -> str:
    number = f"trunc(try_cast({_known(column)} AS DOUBLE))"
    return f"try_cast({number} AS INTEGER)"


DECISIONS: dict[str, Callable[[str], str]] = {
    "APCS_Ident": _known,
    "OPA_Ident": _known,
    "Der_Diagnosis_All": _codes,
    "Der_Procedure_All": _codes,
    "Spell_Dominant_Procedure": _code,
    "Spell_Primary_Diagnosis": _code,
    "Administrative_Category": _two_characters,
    "Admission_Method": _two_characters,
    "Age_At_Start_of_Spell_SUS": _whole,
    "Age_at_Start_of_Episode_SUS": _whole,
    "Der_Age_at_CDS_Activity_Date": _whole,
}


@dataclass(frozen=True)
class Case:
    """The same files in both hands."""

    sql: duckdb.DuckDBPyConnection
    flags: dict[str, dict[str, tuple[bool, set[str], set[str], bool]]]
    revisions: Counter[tuple[str, str]]  # policy, revision → records
    turned: dict[tuple[str, str], tuple[int, int]]  # policy, decision → records that it adds to as_published and takes
    compared: dict[str, tuple[int, int, int]]  # clause → records of national_only, alone, of all in that direction


@pytest.fixture(scope="module")
def case(spark: SparkSession, empty_lake: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("adversarial")
    spells, derived = write_spells(folder, ROWS, SEED)
    attendances = write_attendances(folder, ROWS, SEED + 1)
    files = {"apcs": spells, "apcs_der": derived, "opa": attendances}
    return Case(_in_duckdb(files), *_judged_by_the_product(spark, empty_lake(folder / "lake"), files))


def _in_duckdb(files: dict[str, Path]) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    for name, path in files.items():
        raw = f"read_csv('{path}', header=true, all_varchar=true, delim=',', quote='\"', escape='\"')"
        columns = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {raw}").fetchall()]
        read = [f"{DECISIONS[c](c)} AS {c}" if c in DECISIONS else c for c in columns]
        connection.execute(f"CREATE TABLE {name} AS SELECT {', '.join(read)} FROM {raw}")
    return connection


def _judged_by_the_product(spark: SparkSession, folder: Path, files: dict[str, Path]) -> tuple[Any, Any, Any, Any]:
    tables = {role: TableSource(role=role, paths=(str(path),)) for role, path in files.items()}
    config = RunConfig(
        lake=LakeLocation(folder=folder), sources=(Source("made_up", "sus_plus", tables),), policies=(*RULES, LOCAL)
    )
    context = RunContext(config, Lake(spark, config.lake, "test-run"), "test-run")
    with with_settings(spark, COMPILED):  # as a job of many rows runs
        Ingest(context).run()
        Flag(context).run()
    names = ("policy_id", "revision", "record_id", "outcome", "failed_clauses", "missing_clauses", "near_miss")
    rows = [
        tuple(row[name] for name in names)
        for row in rows_of(context.lake, ACTIVITY_FLAG)
        if row["reading"] == "as_published" and row["policy_id"] in RULES
    ]
    flags: dict[str, dict[str, tuple[bool, set[str], set[str], bool]]] = {policy: {} for policy in RULES}
    revisions = Counter(row[:2] for row in rows)
    for policy, _, record, outcome, failed, missing, near in rows:
        assert record not in flags[policy]
        flags[policy][record] = (outcome == "flagged", set(failed), set(missing), near)
    turned: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows_of(context.lake, POLICY_SENSITIVITY):
        if row["base_reading"] == "as_published":
            turned[row["policy_id"], row["decision"]].update(added=row["added"], removed=row["removed"])
    compared: dict[str, Counter[str]] = defaultdict(Counter)
    counts = ("records", "records_alone", "records_differing")
    for row in rows_of(context.lake, POLICY_COMPARISON):
        of = (row["policy_id"], row["reading"], row["direction"])
        if of == (LOCAL, "as_published", "national_only"):
            compared[row["clause_id"]].update({name: row[name] for name in counts})
    return (
        flags,
        revisions,
        {key: (found["added"], found["removed"]) for key, found in turned.items()},
        {clause: tuple(found[name] for name in counts) for clause, found in compared.items()},
    )


def _published_verdicts(case: Case, rule: Rule) -> dict[str, dict[str, bool | None]]:
    """Of every row of the files, each clause's verdict: true, false or NULL, and ``whole``."""
    parts = [to_duckdb(part) for part in conjuncts(published(rule.file))]
    made = {name: " AND ".join(f"({parts[i]})" for i in numbers) for name, numbers in rule.clauses.items()}
    made["whole"] = " AND ".join(f"({part})" for part in parts)
    made |= {f"null {name}": condition for name, condition in rule.settled_by_null.items()}
    chosen = ", ".join(f'{condition} AS "{name}"' for name, condition in made.items())
    rows = case.sql.execute(f"SELECT {rule.key}, {chosen} FROM {rule.tables}").fetchall()
    verdicts = {row[0]: dict(zip(made, row[1:], strict=True)) for row in rows}
    assert len(verdicts) == len(rows) == ROWS
    return verdicts


@pytest.mark.parametrize("policy", RULES)
def test_flags_are_those_of_the_published_sql(case: Case, policy: str) -> None:
    verdicts, flags = _published_verdicts(case, RULES[policy]), case.flags[policy]
    by_sql = {key for key, verdict in verdicts.items() if verdict["whole"]}
    by_product = {key for key, verdict in flags.items() if verdict[0]}
    assert by_sql - by_product == set()
    assert by_product - by_sql == set()
    assert len(by_sql) > ROWS / 20
    # The coding of August 2022 is carried over to September 2024: the same SQL holds for both.
    names = {"2022-08", "2024-09"} if policy == "2Y_back_pain_fusion" else {"2023-12"}
    assert {
        name: number > ROWS / 20 for (key, name), number in case.revisions.items() if key == policy
    } == dict.fromkeys(names, True)
    assert set(flags) <= set(verdicts)
    print(f"{policy}: {len(verdicts):,} rows, {len(flags):,} in scope, {len(by_sql):,} flagged by both")


@pytest.mark.parametrize("policy", RULES)
def test_every_clause_is_judged_as_the_sql_judges_it(case: Case, policy: str) -> None:
    rule = RULES[policy]
    scope, *deciding = rule.clauses
    verdicts, flags = _published_verdicts(case, rule), case.flags[policy]
    assert set(flags) == {key for key, verdict in verdicts.items() if verdict[scope]}
    wrong = []
    for key, (flagged, failed, missing, near) in flags.items():
        verdict = verdicts[key]
        expected_failed = {name for name in deciding if verdict[name] is not True}
        expected_missing = {name for name in deciding if verdict[name] is None or verdict.get(f"null {name}")}
        if (flagged, failed, missing, near) != (
            not expected_failed, expected_failed, expected_missing, len(expected_failed) == 1
        ):  # fmt: skip
            wrong.append((key, failed, expected_failed, missing, expected_missing, near))
    assert wrong == []
    alone = Counter(next(iter(failed)) for _, failed, _, _ in flags.values() if len(failed) == 1)
    assert all(alone[name] > ROWS / 200 for name in deciding), alone
    undecided = Counter(name for _, _, missing, _ in flags.values() for name in missing)
    assert all(undecided[name] > ROWS / 1000 for name in deciding), undecided
    print(f"{policy}: alone {dict(alone)}, undecided {dict(undecided)}")


# Decisions flipped from as_published, in SQL of their own: the clause that is replaced (or a new one), and by what.
_AGE = "coalesce(apcs.Age_At_Start_of_Spell_SUS, apcs.Der_Age_at_CDS_Activity_Date)"
FLIPS: dict[str, dict[str, tuple[str, str]]] = {
    "2Y_back_pain_fusion": {
        "unknown_diagnosis_kept": ("deformity", "({deformity}) OR apcs.Der_Diagnosis_All IS NULL"),
        "elective_methods_only": ("non_elective", "apcs.Admission_Method IN ('11', '12', '13')"),
        "missing_category_kept": ("private_patient", "({private_patient}) OR apcs.Administrative_Category IS NULL"),
        "missing_method_kept": ("non_elective", "({non_elective}) OR apcs.Admission_Method IS NULL"),
        "unknown_age_kept": ("age", f"({{age}}) OR {_AGE} IS NULL"),
        "ages_over_120_kept": ("age", f"{_AGE} >= 19 AND {_AGE} < 7000"),
        "baby_codes_read_as_years": ("age", f"({{age}}) OR {_AGE} >= 7000"),
        "neoplasm_excluded": ("new", "NOT coalesce(apcs.Der_Diagnosis_All, '') LIKE '%G550%'"),
        "osteoporotic_collapse_excluded": (
            "new", "NOT regexp_matches(coalesce(apcs.Der_Diagnosis_All, ''), 'M80[0-589]|M48[45]|M495')",
        ),
    },
    "2S_lower_back_imaging": {
        "unknown_diagnosis_kept": ("global_cancer", "({global_cancer}) OR opa.Der_Diagnosis_All IS NULL"),
        "attended_only": ("new", "coalesce(opa.Attendance_Status IN ('5', '6'), false)"),
        "lumbar_site_for_all": (
            "new", "opa.Der_Procedure_All LIKE '%Z665%' OR opa.Der_Procedure_All LIKE '%O162%'",
        ),
        "site_beside_its_code": (
            "new", "regexp_matches(opa.Der_Procedure_All, 'U05[45]|(^|[,|])(U13[2356]|U21[1267]).*[,|](Z665|O162)')",
        ),
        "missing_category_kept": ("private_patient", "({private_patient}) OR opa.Administrative_Category IS NULL"),
        "cauda_equina_excluded": ("new", "NOT coalesce(opa.Der_Diagnosis_All, '') LIKE '%G834%'"),
        "suspected_pathology_not_codable": ("new", "true"),
    },
}  # fmt: skip


@pytest.mark.parametrize("policy", RULES)
def test_each_decision_alone_turns_what_other_sql_says(case: Case, policy: str) -> None:
    rule = RULES[policy]
    parts = [to_duckdb(part) for part in conjuncts(published(rule.file))]
    clauses = {name: " AND ".join(f"({parts[i]})" for i in numbers) for name, numbers in rule.clauses.items()}

    def whole(changed: dict[str, str]) -> str:
        return "coalesce(" + " AND ".join(f"({sql})" for sql in {**clauses, **changed}.values()) + ", false)"

    found, expected = {}, {}
    for decision, (clause, sql) in FLIPS[policy].items():
        before, after = whole({}), whole({clause: sql.format(**clauses)})
        counts = f"count(*) FILTER ({after} AND NOT {before}), count(*) FILTER ({before} AND NOT {after})"
        expected[decision] = case.sql.execute(f"SELECT {counts} FROM {rule.tables}").fetchone()
        found[decision] = case.turned.get((policy, decision), (0, 0))
    assert found == expected
    assert sum(added + removed > 0 for added, removed in found.values()) >= len(found) - 2, found


# Codes of the statement's clauses, as the map of its phrases has them.
DERBY = {
    "lower_limb_pain": "M54[134]|M511|M472|G55[123]",
    "inflammatory": "M45X|M46[189]",
    "nerve_compression": "M480",
    "symptomatic_deformity": "M40[345]|M96[345]",
    "trauma": "S220|S320|S327|S331|T08X|M483",
}


def test_local_and_national_differ_as_other_sql_says(case: Case) -> None:
    rule = RULES["2Y_back_pain_fusion"]
    flagged = " AND ".join(f"({to_duckdb(part)})" for part in conjuncts(published(rule.file)))
    contains = "regexp_matches(apcs.Der_Diagnosis_All, '{}')"
    counts = ", ".join(f"count(*) FILTER ({contains.format(codes)})" for codes in DERBY.values())
    expected = case.sql.execute(
        f"SELECT {counts} FROM {rule.tables} WHERE {flagged} AND apcs.Der_Commissioner_Code = '15M00'"
    ).fetchone()
    assert expected is not None and expected[0] > ROWS / 100 and expected[2] > ROWS / 500
    assert tuple(case.compared[name][0] for name in DERBY) == expected
    every = "|".join(DERBY.values())
    differing = case.sql.execute(
        f"SELECT count(*) FROM {rule.tables} WHERE {flagged} AND apcs.Der_Commissioner_Code = '15M00' "
        f"AND {contains.format(every)}"
    ).fetchone()
    assert differing == (case.compared["lower_limb_pain"][2],)
    assert all(alone <= records <= whole for records, alone, whole in case.compared.values())
