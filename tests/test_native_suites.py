"""Suites in Great Expectations' own format: loaded completely or refused, and run on pandas without a value in the results.
Nothing here needs Spark."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.tables.schemas import TABLES
from ebi_spark.validation import native_suites
from ebi_spark.validation.page import native_in_words
from ebi_spark.validation.suites import LAYER_SUITES, load_suite

FILES = sorted(resource("expectations", "published").glob("*.json"))


def expectation(kind: str = "not_be_null", check: str = "a", **kwargs: Any) -> dict[str, Any]:
    """An expectation of the column ``n``, with a text of its own."""
    kwargs = {"column": "n"} | kwargs
    return {
        "type": f"expect_column_values_to_{kind}",
        "kwargs": kwargs,
        "description": f"{check} is true.",
        "severity": "critical",
        "meta": {"id": check},
    }


def suite(*expectations: dict[str, Any]) -> dict[str, Any]:
    return {"name": "small", "expectations": list(expectations)}


def violations(frame: pd.DataFrame, *expectations: dict[str, Any]) -> tuple[dict[str, int], set[str]]:
    counts, raised = native_suites.count_violations(
        native_suites.run(native_suites.load(suite(*expectations), "small.json"), frame)
    )
    return dict(counts), raised


def test_every_published_table_has_a_suite() -> None:
    assert {f"published_{path.stem}" for path in FILES} == set(LAYER_SUITES["published"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_anybody_can_load_a_suite(path: Path) -> None:
    gx = native_suites.great_expectations()
    document = json.loads(path.read_text(encoding="utf-8"))
    loaded = gx.ExpectationSuite(**document)
    assert loaded.name == f"published_{path.stem}" == load_suite(loaded.name).name
    assert len(loaded.expectations) == len(document["expectations"])
    # The file is Great Expectations' own form: what is loaded from it has the same expectations.
    kept = loaded.to_json_dict()["expectations"]
    assert [(item["type"], item["meta"]) for item in kept] == [
        (item["type"], item["meta"]) for item in document["expectations"]
    ]


def test_the_page_on_reading_results_checks_a_release_and_makes_data_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its examples run as they are printed, on a table of Delta without rows."""
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "false")
    monkeypatch.chdir(tmp_path)
    root = Path(__file__).parents[1]
    (tmp_path / "expectations").symlink_to(root / "expectations")
    rate = TABLES["published/rate"]
    empty = pa.schema([(name, pa.string()) for name in rate.names()]).empty_table()
    write_deltalake(tmp_path / "lake" / "published" / "rate", empty, partition_by=["release_id"])
    section = (
        (root / "docs" / "reading-results.md").read_text(encoding="utf-8").partition("## Check a release yourself")[2]
    )
    shared: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL):
        exec(block, shared)
    assert "local_site" in capsys.readouterr().out
    pages = list((tmp_path / "checks").rglob("local_site/validations/**/*.html"))
    assert len(pages) == 1
    text = pages[0].read_text(encoding="utf-8")
    assert "published_rate" in text
    # Data Docs count expectations, and the page of the checks says how many these are.
    evaluated = re.search(r"Evaluated Expectations\D+?(\d+)", re.sub(r"<[^>]+>", " ", text))
    assert evaluated and f", as {evaluated[1]} expectations," in native_in_words(load_suite("published_rate"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_suite_names_columns_of_its_table(path: Path) -> None:
    document = native_suites.read_suite(path)
    table = TABLES[document["meta"]["table"]]
    named = {
        column
        for item in document["expectations"]
        for key, value in item["kwargs"].items()
        if key in ("column", "column_A", "column_B", "column_list", "column_set")
        for column in ([value] if isinstance(value, str) else value)
    }
    assert named == set(table.names())  # `columns_there` names them all
    there = [item["kwargs"] for item in document["expectations"] if item["meta"]["id"] == "columns_there"]
    assert there == [{"column_set": table.names(), "exact_match": False}]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{", "is not JSON"),
        ('{"name": "a"}', "a key is missing"),
        ('{"name": "a", "expectations": []}', "no expectations"),
        ("[]", "a key is missing"),
        (json.dumps(suite(expectation() | {"meta": {}})), "'id'"),
        (json.dumps(suite(expectation() | {"description": ""})), "a text is empty"),
        (
            json.dumps(suite(expectation(), expectation() | {"severity": "warning"})),
            "differ in description or severity",
        ),
    ],
)
def test_a_file_that_is_no_suite_is_refused(tmp_path: Path, wrong: str, said: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(wrong, encoding="utf-8")
    with pytest.raises(InputError) as refused:
        native_suites.read_suite(path)
    assert said in refused.value.message and str(path) in refused.value.message
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (expectation("be_perfect"), "does not know expect_column_values_to_be_perfect"),
        (expectation(colum="n"), "colum"),
        (expectation(column=None), "column"),
        (expectation(row_condition={"type": "sometimes"}), "row_condition"),
    ],
)
def test_an_expectation_that_great_expectations_does_not_know_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        native_suites.load(suite(expectation(), wrong), "small.json")
    assert said in refused.value.message and "small.json" in refused.value.message and refused.value.remedy


def test_a_suite_of_which_a_part_is_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    gx = native_suites.great_expectations()
    whole = gx.ExpectationSuite

    def without_the_last(**given: Any) -> Any:
        return whole(**given | {"expectations": given["expectations"][:-1]})

    monkeypatch.setattr(gx, "ExpectationSuite", without_the_last)
    with pytest.raises(InputError, match="2 expectations in the file, 1 loaded") as refused:
        native_suites.load(suite(expectation(), expectation(check="b")), "small.json")
    assert refused.value.remedy


def test_violations_are_numbers_of_rows() -> None:
    frame = pd.DataFrame({"n": [1.0, None, 30.0, 40.0], "key": ["a", "a", "b", "c"]})
    rows = {"type": "pass_through", "pass_through_filter": "not n < 5"}
    found, raised = violations(
        frame,
        expectation(check="there"),
        expectation("be_between", check="two_parts", max_value=20),
        expectation(check="two_parts"),
        expectation("be_in_set", check="where", value_set=[1, 40], row_condition={"type": "nullity", "column": {"name": "n"}, "is_null": False}),
        expectation("be_between", check="met", max_value=40),
        expectation(check="no_row") | {"type": "expect_table_row_count_to_equal", "kwargs": {"value": 0, "row_condition": rows}},
        expectation(check="whole") | {"type": "expect_column_unique_value_count_to_be_between", "kwargs": {"column": "key", "max_value": 1}},
        expectation(check="absent", column="other"),
    )  # fmt: skip
    assert found == {"there": 1, "two_parts": 3, "where": 1, "met": 0, "no_row": 3, "whole": 1, "absent": 1}
    assert raised == {"absent"}


def test_results_have_no_values() -> None:
    frame = pd.DataFrame({"n": ["SECRET", "SECRET", None], "m": "SECRET"})
    loaded = native_suites.load(
        suite(
            expectation("be_in_set", value_set=["x"]),
            expectation("match_regex", check="b", regex="^y$"),
            expectation("be_null", check="c"),
            expectation("be_in_set", check="d")
            | {"type": "expect_compound_columns_to_be_unique", "kwargs": {"column_list": ["n", "m"]}},
        ),
        "small.json",
    )
    results = native_suites.run(loaded, frame)
    assert not any(item.success for item in results)
    assert "SECRET" not in json.dumps([item.to_json_dict() for item in results])


def test_not_a_number_is_not_missing_on_pandas() -> None:
    rows = pa.table({"n": pa.array([1.0, None, float("nan")]), "i": pa.array([1, None, 3]), "t": ["a", None, "b"]})
    frame = native_suites.to_pandas(rows)
    assert (
        frame["n"].isna().tolist() == frame["i"].isna().tolist() == frame["t"].isna().tolist() == [False, True, False]
    )
    assert frame["n"].tolist()[2] == float("inf")
