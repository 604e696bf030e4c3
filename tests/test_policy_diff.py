"""What a revision changes: in clauses and words, and on records."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from calling import answer_of
from pyspark.sql import SparkSession

import ebi_spark.spark.session as sessions
from ebi_spark.lake.storage import Lake
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.silver import APC_SPELL
from jobs import policy as job

TWO = """id: made_up
title: Made up, with a second revision that nobody published
dataset: apc
source: {publisher: Nobody, page: None}
default_reading: as_published
revisions:
  - revision: one
    in_force: {from: 2020-04-01, to: 2022-04-01}
    clauses:
      - {id: procedure, scope: true, words: Washout, require: {field: dominant_procedure, starts_with: ["W852", "W853"]}}
      - {id: injury, exclude: {field: any_diagnosis, contains: ["S83"]}, missing: fails}
      - {id: age, require: {field: age, between: [19, 120]}}
      - use: private_patient
    readings:
      as_intended: {decisions: [{id: cleaned, clause: age, because: x, require: {field: age_years, between: [19, 120]}}]}
  - revision: two
    in_force: {from: 2022-04-01}
    clauses:
      - {id: procedure, scope: true, words: A washout, require: {field: dominant_procedure, starts_with: ["W852", "W854"]}}
      - {id: injury, exclude: {field: any_diagnosis, contains: ["S83[0-9]", "M23"]}, missing: passes}
      - {id: age, require: {field: age, at_least: 19}}
      - {id: method, exclude: {field: admission_method, starts_with: ["2"]}}
    readings:
      as_intended: {decisions: [{id: cleaned, clause: age, because: x, require: {field: age_years, between: [19, 120]}}]}
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "made_up.yml").write_text(TWO)
    return folder


call = partial(answer_of, job.main)


def test_changes_in_clauses_and_words(policies: Path) -> None:
    answer = call("diff", "made_up", "one", "two", "--policies-dir", str(policies))
    found = {(c["reading"], c["clause"], c["kind"]): (c["text"], c["judges"]) for c in answer["changes"]}
    published = {key[1:]: value for key, value in found.items() if key[0] == "as_published"}
    assert published[("procedure", "test")] == (
        "dominant_procedure adds W854; dominant_procedure drops W853", True
    )  # fmt: skip
    assert published[("procedure", "words")][1] is False
    added, removed = published[("injury", "test")][0].split("; ")
    assert added.startswith("any_diagnosis adds M23, S830") and removed == "any_diagnosis drops S83"
    text = "a record on which the clause cannot be decided: fails becomes passes"
    assert published[("injury", "missing")] == (text, True)
    assert published[("age", "test")] == ("age between 19 and 120 becomes age ≥ 19", True)
    assert published[("private_patient", "dropped")][1] and published[("method", "added")][1]
    assert ("", "", "in_force") in found
    # A change that as_intended shares with as_published is listed once; its own test of age is the same in both.
    assert not [key for key in found if key[0] == "as_intended"]
    assert call("diff", "made_up", "one", "one", "--policies-dir", str(policies))["changes"] == []


def test_unknown_revisions(policies: Path, tmp_path: Path) -> None:
    answer = call("diff", "made_up", "one", "tow", "--policies-dir", str(policies))
    assert answer["exit"] == 2 and "did you mean two" in answer["error"]["remedy"]
    nowhere = call("diff", "made_up", "one", "two", "--policies-dir", str(policies), "--lake", str(tmp_path / "none"))
    assert nowhere["exit"] == 2 and "no lake" in nowhere["error"]["message"]


def test_records_that_enter_and_leave(
    spark: SparkSession,
    lake_at: Callable[[Path], Lake],
    policies: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextlib.contextmanager
    def given(*_: Any, **__: Any) -> Iterator[SparkSession]:
        yield spark

    monkeypatch.setattr(sessions, "spark_session", given)
    base = {
        "source_system": "sus_plus", "dataset": "apc", "financial_year": "2021-22", "activity_date": date(2021, 5, 1),
        "admission_date": date(2021, 5, 1), "dominant_procedure": "W852", "dominant_procedure_4": "W852",
        "diagnosis_codes": ",M179,", "age": 50, "age_years": 50, "administrative_category": "01", "admission_method": "11",
    }  # fmt: skip
    rows: list[dict[str, Any]] = [
        {},  # flagged by both
        {"dominant_procedure": "W853", "dominant_procedure_4": "W853"},  # leaves with its scope
        {"dominant_procedure": "W854", "dominant_procedure_4": "W854"},  # enters with its scope
        {"diagnosis_codes": None},  # enters: undecided now passes
        {"diagnosis_codes": ",M232,", "commissioner_code": "01F00"},  # leaves
        {"diagnosis_codes": ",S832,"},  # in neither
        {
            "age": 130,
            "commissioner_code": "15M00",
        },  # enters as published; age_years is 50, so flagged by both as intended
        {"admission_method": "21", "financial_year": "2022-23"},  # leaves, of the next year
        {"administrative_category": "02", "financial_year": "2022-23"},  # enters
        {"age": 3, "age_years": 3},  # in neither
    ]
    lake = lake_at(tmp_path / "lake")
    frame = small_frame(spark, [base | row | {"record_id": str(n)} for n, row in enumerate(rows)], APC_SPELL.schema)
    lake.append(APC_SPELL, frame, stage="ingest")
    answer = call("diff", "made_up", "one", "two", "--policies-dir", str(policies), "--lake", str(tmp_path / "lake"))
    assert answer["exit"] == 0, answer
    effect = {(row["reading"], row["financial_year"]): row for row in answer["effect"]}
    names = ("in_scope_before", "in_scope_after", "flagged_before", "flagged_after", "enter", "leave")
    assert [effect["as_published", "2021-22"][name] for name in names] == [7, 7, 3, 4, 3, 2]
    assert [effect["as_published", "2022-23"][name] for name in names] == [2, 2, 1, 1, 1, 1]
    assert [effect["as_intended", "2021-22"][name] for name in names] == [7, 7, 4, 4, 2, 2]
    areas = {
        (row["area_code"], row["financial_year"]): [row[name] for name in names]
        for row in answer["effect_by_area"]
        if row["reading"] == "as_published"
    }
    assert areas["15M", "2021-22"] == [1, 1, 0, 1, 1, 0]
    assert areas["01F", "2021-22"] == [1, 1, 1, 0, 0, 1]
    assert areas[None, "2021-22"] == [5, 5, 2, 3, 2, 1] and len(areas) == 4
