"""The public Python API: its examples run, it agrees with the stages, and it refuses what it cannot use."""

import doctest
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from calling import answer_of
from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession
from scipy.stats import chi2

import ebi_spark
from ebi_spark import InputError
from ebi_spark.flags.apply_policies import apply_policies
from ebi_spark.geography.record_areas import Lookups
from ebi_spark.policies.load import periods_in_force
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.silver import APC_SPELL
from jobs import change

ROOT = Path(__file__).parents[1]
FUNCTIONS = [name for name in ebi_spark.__all__ if inspect.isfunction(getattr(ebi_spark, name))]
FUSION = "2Y_back_pain_fusion"

# Two revisions, and a code that does not exist.
KNEE = """id: knee
title: Made up
dataset: apc
source: {publisher: Nobody, page: None}
default_reading: as_published
revisions:
  - revision: one
    in_force: {from: 2020-04-01, to: 2022-04-01}
    clauses:
      - {id: procedure, scope: true, require: {field: dominant_procedure, starts_with: ["W85"]}}
      - {id: age, require: {field: age, at_least: 19}}
  - revision: two
    in_force: {from: 2022-04-01, to: 2024-04-01}
    clauses:
      - {id: procedure, scope: true, require: {field: dominant_procedure, starts_with: ["W85"]}}
      - {id: age, require: {field: age, at_least: 40}}
      - {id: arthrosis, require: {field: any_diagnosis, starts_with: ["M177"]}, missing: passes}
    readings:
      as_intended:
        decisions:
          - {id: cleaned_age, clause: age, require: {field: age_years, at_least: 40}, because: made up}
"""
RATES = {
    "release_id": ["2024-06-01", *["2024-06-02"] * 3],
    "area_code": ["E92000001", "E92000001", "QYG", "QJ2"],
    "activity": [100, 112, 15, None],
    "status": ["ok", "ok", "ok", "withheld_small"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the examples run: a lake with two releases, and a policy."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_policies").mkdir()
    (tmp_path / "my_policies" / "knee.yml").write_text(KNEE, encoding="utf-8")
    published = tmp_path / "lake" / "published"
    write_deltalake(str(published / "rate"), pa.table(RATES), partition_by=["release_id"])
    releases = {"release_id": ["2024-06-01", "2024-06-02"], "is_current": [False, True]}
    write_deltalake(str(published / "release"), pa.table(releases))
    counts = {"2019-20": (100,) * 5, "2020-21": (100,) * 5, "2021-22": (100, 50, 50, 50, 50)}
    steps = ("operations", "in_scope", "primary_diagnosis", "no_exclusion", "flagged")
    rows = [
        {"policy_id": FUSION, "revision": "in_force", "revision_at_end": "2022-08", "reading": "as_published",
         "financial_year": year, "area_type": "england", "area_code": "E92000001", "people": 1000, "run_id": "r",
         **dict(zip(steps, numbers, strict=True))} for year, numbers in counts.items()
    ]  # fmt: skip
    write_deltalake(str(tmp_path / "lake" / "gold" / "activity_count"), pa.Table.from_pylist(rows))
    (tmp_path / "lake" / "silver").mkdir()
    return tmp_path


def knee() -> Any:
    return ebi_spark.load_policies("my_policies", only=["knee"])[0]


# The examples


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_examples_run(name: str, spark: SparkSession, folder: Path) -> None:
    example = doctest.DocTestParser().get_doctest(
        inspect.getdoc(getattr(ebi_spark, name)) or "", {"spark": spark, "ebi_spark": ebi_spark}, name, None, None
    )
    assert example.examples, f"{name} has no example"
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(example, out=report.append)
    assert not report, "".join(report)


CHANGE = [FUSION, "2019-20", "2021-22"]


@pytest.mark.parametrize(
    ("changes", "message", "remedy"),
    [
        ({0: "2Z"}, "no counts of '2Z'", "2S_lower_back_imaging"),
        ({1: "2018-19"}, "no counts of 2018-19 for england", "2019-20, 2020-21, 2021-22"),
        ({1: "2021-22"}, "have years in common", "earlier period first"),
        ({1: "2019-20,2021-22"}, "leaves out a year", "2018-19..2020-21"),
        ({"area": "icb:QYG"}, "the area 'icb:QYG'", "the types are england"),
        ({"area": "engalnd"}, "the area 'engalnd'", "did you mean england? Write "),
        ({1: "2021"}, "2021", "2021-22"),
    ],
)
def test_periods_that_have_no_change(changes: dict[Any, str], message: str, remedy: str, folder: Path) -> None:
    given = [changes.get(place, value) for place, value in enumerate(CHANGE)]
    with pytest.raises(InputError) as error:
        ebi_spark.activity_change("lake", *given, area=changes.get("area", "england"))
    assert message in error.value.message and remedy in error.value.remedy
    answer = answer_of(
        change.main, "--lake", "lake", "--policy", given[0], "--from", given[1], "--to", given[2],
        "--area", changes.get("area", "england"),
    )  # fmt: skip
    assert answer["exit"] == 2 and message in answer["error"]["message"]


def test_the_command_shows_whole_parts_that_add_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert change.main(["--lake", "lake", "--policy", FUSION, "--from", "2019-20", "--to", "2021-22"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"in_scope +│ +1 │ +0.5 │ +-50 ", shown) and re.search(
        r"flagged records +│ +100 │ +50 │ +-50 ", shown
    )


def test_every_public_name_is_on_the_page_and_no_other() -> None:
    page = (ROOT / "docs" / "python-api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^## (\w+)$", page, re.MULTILINE)) == sorted(FUNCTIONS)
    assert sorted({*FUNCTIONS, "InputError", "__version__"}) == sorted(ebi_spark.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        ebi_spark.no_such_name  # noqa: B018


def test_an_import_is_light_and_starts_nothing() -> None:
    program = """
import sys
import ebi_spark
assert not {"pyspark", "pandas", "pyarrow"} & set(sys.modules), "import ebi_spark"
assert "apply_policy" in dir(ebi_spark)
assert ebi_spark.lint_policies().empty
assert not {"great_expectations", "matplotlib"} & set(sys.modules), "the API"
from pyspark.sql import SparkSession
assert SparkSession.getActiveSession() is None
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=120)


# Policies on a DataFrame


def spells(spark: SparkSession, **columns: list[Any]) -> DataFrame:
    """Spells in the columns given (all of them with values of one type)."""
    types = {int: "bigint", date: "date", list: "array<string>", str: "string", bool: "boolean"}
    kinds = {name: types[type(next(v for v in values if v is not None))] for name, values in columns.items()}
    rows = list(zip(*columns.values(), strict=True))
    return small_frame(spark, rows, ", ".join(f"{name} {kind}" for name, kind in kinds.items()))


RAW = {
    "record_id": ["1", "2", "3", "4", "5"],
    "dominant_procedure": ["V38.2", "v383", "V382", "W371", None],
    "primary_diagnosis": ["M54.5", "m545", "M170", "M545", "M545"],
    "diagnosis_codes": ["||M54.5 ,Z98.1", "m545,c79.5", None, "M545", "M545"],
    "admission_method": ["11", "21", "12", "11", "11"],
    "administrative_category": ["1", "01", "02", "01", "01"],
    "age": ["45", "130", "50", "50", "50"],
    "admission_date": ["2021-05-03", "03/05/2023", "2024-01-01", "2024-01-01", "2024-01-01"],
}
SILVER = {
    "dominant_procedure": ["V382", "V383", "V382", "W371", None],
    "primary_diagnosis": ["M545", "M545", "M170", "M545", "M545"],
    "diagnosis_codes": [",M545,Z981,", ",M545,C795,", None, ",M545,", ",M545,"],
    "administrative_category": ["01", "01", "02", "01", "01"],
    "age": [45, 130, 50, 50, 50],
    "age_years": [45, None, 50, 50, 50],
    "admission_date": [date(2021, 5, 3), date(2023, 5, 3), *[date(2024, 1, 1)] * 3],
}


def test_raw_values_are_flagged_as_the_stage_flags_silver(spark: SparkSession) -> None:
    silver = RAW | SILVER
    silver["dominant_procedure_4"] = silver["dominant_procedure"]
    rows = [dict(zip(silver, values, strict=True)) for values in zip(*silver.values(), strict=True)]
    policy = ebi_spark.load_policies(only=[FUSION])[0]
    nowhere = Lookups(practices=None, lsoas=None, known_codes=(), order=("commissioner",))
    stage = apply_policies(small_frame(spark, rows, APC_SPELL.schema), "apc", periods_in_force(policy), nowhere)
    records = spells(spark, **RAW)
    readings = [ebi_spark.apply_policy(records, FUSION, reading=name) for name in ("as_intended", "guidance_coded")]
    ours = reduce(DataFrame.unionByName, readings, ebi_spark.apply_policy(records, FUSION))  # the default: as_published
    wanted = stage.select(*ours.columns).sort("record_id", "reading").collect()
    assert [row["record_id"] for row in wanted] == ["1"] * 3 + ["2"] * 3 + ["3"] * 3
    assert {row["back_cast"] for row in wanted} == {True, False}
    assert ours.sort("record_id", "reading").collect() == wanted


def test_each_record_has_the_revision_of_its_day(spark: SparkSession, folder: Path) -> None:
    records = spells(
        spark,
        record_id=["1", "2", "3"],
        dominant_procedure=["W852", "W852", "W852"],
        age=[25, 25, 45],
        diagnosis_codes=[["M179"], ["M179"], None],
        activity_date=[date(2019, 5, 1), date(2022, 4, 1), date(2024, 4, 1)],
    )
    found = ebi_spark.apply_policy(records, knee()).sort("record_id").collect()
    assert [tuple(row)[2:6] for row in found] == [
        ("one", "as_published", "flagged", []),
        ("two", "as_published", "not_flagged", ["age", "arthrosis"]),
    ]
    on_a_day = ebi_spark.apply_policy(records.drop("activity_date"), knee(), on=date(2023, 1, 1)).sort("record_id")
    assert [(row["revision"], row["outcome"], row["missing_clauses"]) for row in on_a_day.collect()] == [
        ("two", "not_flagged", []),
        ("two", "not_flagged", []),
        ("two", "flagged", ["arthrosis"]),
    ]


def test_an_absent_column_leaves_its_clause_undecided(spark: SparkSession, folder: Path) -> None:
    records = spells(spark, Record_ID=["1"], DOMINANT_PROCEDURE=["W852"], AGE=[45])
    row = ebi_spark.apply_policy(records, knee(), on="2023-01-01").collect()[0]
    assert (row["outcome"], row["failed_clauses"], row["missing_clauses"]) == ("flagged", [], ["arthrosis"])


def test_a_local_policy_is_applied_to_the_records_given(spark: SparkSession) -> None:
    found = ebi_spark.apply_policy(spells(spark, **RAW), "CMICB_Clin087")
    assert {row["policy_id"] for row in found.collect()} == {"CMICB_Clin087"}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f.drop("record_id"), {}, "the column record_id is missing"),
        (lambda f: f.drop("dominant_procedure"), {}, "the column dominant_procedure is missing"),
        (lambda f: f.withColumn("age", f["age"].cast("double")), {}, "the column age is double"),
        (lambda f: f.withColumn("record_id", f["age"]), {}, "the column record_id is bigint"),
        (lambda f: f, {"on": None}, "no column gives the record's day"),
        (lambda f: f, {"on": "1 May 2023"}, "is not a date"),
        (lambda f: f, {"on": "2024-04-01"}, "no revision of knee is in force on 2024-04-01"),
        (lambda f: f, {"reading": "as_told"}, "there is no reading 'as_told'"),
    ],
)
def test_records_that_cannot_be_used_are_refused(
    spark: SparkSession, folder: Path, change: Callable[[DataFrame], DataFrame], options: dict[str, Any], message: str
) -> None:
    records = spells(spark, record_id=["1"], dominant_procedure=["W852"], age=[45])
    for function in (ebi_spark.apply_policy, ebi_spark.explain):
        with pytest.raises(InputError, match=re.escape(message)) as raised:
            function(change(records), knee(), **({"on": "2023-01-01"} | options))
        assert raised.value.remedy


def test_a_draft_is_refused(spark: SparkSession, folder: Path) -> None:
    with pytest.raises(InputError, match="draft"):
        ebi_spark.apply_policy(
            spells(spark, record_id=["1"], dominant_procedure=["W852"]), replace(knee(), to_complete=("the title",))
        )


def test_clauses_follow_revision_and_reading(spark: SparkSession, folder: Path) -> None:
    records = spells(spark, age=[25, 45], age_years=[45, None], dominant_procedure=["W852", "W90"])
    columns = {
        "newest": ebi_spark.clause(knee(), "age"),
        "older": ebi_spark.clause(knee(), "age", revision="one"),
        "intended": ebi_spark.clause(knee(), "age", reading="as_intended"),
        "scope": ebi_spark.clause(knee(), "procedure"),
    }
    first, second = records.select(*[column.alias(name) for name, column in columns.items()]).collect()
    assert tuple(first) == (False, True, True, True) and tuple(second) == (True, True, None, False)
    with pytest.raises(InputError, match="has no clause 'sex'"):
        ebi_spark.clause(knee(), "sex")
    with pytest.raises(InputError, match="no revision 'three'"):
        ebi_spark.clause(knee(), "age", revision="three")
    with pytest.raises(InputError, match="no test for the clause 'viscera'"):
        ebi_spark.clause(FUSION, "viscera", reading="guidance_coded", revision="2022-08")


# Rates


def strata(**groups: Callable[[str, int], tuple[int | None, int | None]]) -> pd.DataFrame:
    """Rows of all strata, with (events, people) of each group by sex and first age."""
    rows = [
        (name, sex, age, *counted(sex, age))
        for name, counted in groups.items()
        for sex in "12"
        for age in range(0, 95, 5)
    ]
    return pd.DataFrame(rows, columns=["area", "sex", "age_from", "events", "people"]).astype(
        {"events": "Int64", "people": "Int64"}
    )


@pytest.fixture
def rates(spark: SparkSession) -> Iterator[Callable[[pd.DataFrame], dict[str, dict[str, Any]]]]:
    def computed(counts: pd.DataFrame) -> dict[str, dict[str, Any]]:
        found = ebi_spark.standardised_rates(counts, by=["area"], standard="esp2013")
        assert isinstance(found, pd.DataFrame)
        return {row["area"]: row for row in found.astype(object).where(found.notna(), None).to_dict("records")}

    yield computed


def test_rates_are_as_worked_out_by_hand(rates: Callable[[pd.DataFrame], dict[str, dict[str, Any]]]) -> None:
    # Events only in men of 70 to 74 (5,000 of the 200,000 of the European Standard Population of 2013, both sexes).
    counts = strata(few=lambda sex, age: (4 if (sex, age) == ("1", 70) else 0, 1_000))
    unknown = pd.DataFrame({"area": ["few"], "sex": [None], "age_from": [None], "events": [3]})
    row = rates(pd.concat([counts, unknown], ignore_index=True).astype({"age_from": "Int64"}))["few"]
    assert (row["events"], row["events_unknown_age_sex"], row["people"]) == (7, 3, 38_000)
    assert row["status"] == "few_events"
    assert row["crude_rate"] == pytest.approx(7 / 38_000 * 1e5)
    weight = 5_000 / 200_000
    assert row["standardised_rate"] == pytest.approx(weight * 4 / 1_000 * 1e5)
    # With events in one stratum only, Dobson's limits are those of the count, times its share of the rate.
    assert row["lower"] == pytest.approx(weight * chi2.ppf(0.025, 8) / 2 / 1_000 * 1e5)
    assert row["upper"] == pytest.approx(weight * chi2.ppf(0.975, 10) / 2 / 1_000 * 1e5)
    assert row["standard_error"] == pytest.approx(weight * 2 / 1_000 * 1e5)


def test_a_group_without_people_has_no_rate(rates: Callable[[pd.DataFrame], dict[str, dict[str, Any]]]) -> None:
    found = rates(
        strata(
            lacking=lambda sex, age: (1, None if (sex, age) == ("2", 40) else 1_000),
            empty=lambda sex, age: (1, 0 if (sex, age) == ("2", 90) else 1_000),
            none=lambda sex, age: (0, 1_000),
        )
    )
    figures = ("crude_rate", "standardised_rate", "lower", "upper", "standard_error")
    assert found["lacking"]["status"] == "no_population" and not any(found["lacking"][name] for name in figures)
    assert found["empty"]["status"] == "not_calculated" and found["empty"]["crude_rate"] > 0
    assert [found["empty"][name] for name in figures[1:]] == [None] * 4
    assert [found["none"][name] for name in figures] == [0, 0, 0, None, 0]


def test_a_spark_frame_gives_the_same_rates(spark: SparkSession) -> None:
    counts = strata(a=lambda sex, age: (age, 2_000), b=lambda sex, age: (1, 100 + age)).assign(year="2021-22")
    by = ["area", "year"]
    ours = ebi_spark.standardised_rates(spark.createDataFrame(pa.Table.from_pandas(counts)), by=by)
    assert isinstance(ours, DataFrame)
    pd.testing.assert_frame_equal(ours.sort("area").toPandas(), ebi_spark.standardised_rates(counts, by=by))


@pytest.mark.parametrize(
    ("counts", "standard", "message"),
    [
        (lambda f: f.drop(columns="people"), "esp2013", "the column people is missing"),
        (lambda f: f.drop(columns="area"), "esp2013", "the column area is missing"),
        (lambda f: f.astype({"age_from": "string"}), "esp2013", "the column age_from is string"),
        (lambda f: f, "esp1976", "there is no standard 'esp1976'"),
    ],
)
def test_counts_that_cannot_be_used_are_refused(
    spark: SparkSession, counts: Callable[[pd.DataFrame], pd.DataFrame], standard: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ebi_spark.standardised_rates(counts(strata(a=lambda sex, age: (1, 100))), by=["area"], standard=standard)


# Releases


def test_a_release_is_read_by_its_id(folder: Path) -> None:
    older = ebi_spark.read_release(folder / "lake", "rate", release_id="2024-06-01")
    assert older["activity"].tolist() == [100]
    manifest = ebi_spark.read_release("lake", "release")
    assert manifest["release_id"].tolist() == ["2024-06-02"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"table": "activity_flag"}, "there is no published table 'activity_flag'"),
        ({"table": "variation"}, "has no table published/variation"),
        ({"release_id": "2023-01-01"}, "has no release '2023-01-01'"),
        ({"lake": "elsewhere"}, "has no table published/release"),
    ],
)
def test_a_release_that_is_not_there_is_refused(folder: Path, asked: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ebi_spark.read_release(**({"lake": "lake"} | asked))


def test_a_lake_whose_name_would_be_decoded_is_not_taken_for_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Spark, `a%20b` would be read as `a b`."""
    shutil.copytree(folder / "lake", folder / "a%20b")
    (folder / "lake").rename(folder / "a b")
    monkeypatch.setattr(SparkSession, "getActiveSession", staticmethod(lambda: None))
    with pytest.raises(InputError, match=r"only Spark can read this table .* and no Spark session is active"):
        ebi_spark.read_release(folder / "a%20b", "rate")
    assert len(ebi_spark.read_release(folder / "a b", "rate"))
