"""What earlier runs recorded, in this version's tables and in the run log of earlier versions. No Spark."""

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from calling import duckdb_on_delta
from earlier_state import as_details
from test_without_java import TEXTS, put

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.runs.state import RunState, StageRecord, policies_of, without_policies
from ebi_spark.tables.gold import BATCH, RUN_LOG, STAGE_INPUT

VERSIONS = pa.map_(pa.string(), pa.int64())
WORDS = pa.map_(pa.string(), pa.string())
TIME = pa.timestamp("us", "UTC")
YEARS = ["2021-22", "2022-23"]
# Rows of the run log as versions before gold/batch wrote them.
DETAILS: dict[str, dict[str, str]] = {
    "ingest": {
        "uses:program:": "2", "uses:setting:max_quarantine_share": "0.5", "uses:data:/in/a:b.csv": "19809 1795993681",
        "day": "2023-05-01", "asked": "every year", "as_they_were": '["2022-23"]', "found": '["2021-22", "2022-23"]',
        "verdicts": '{"/in/a:b.csv": {"2021-22": "cf", "": "8b"}, "/in/empty.csv": {}}',
        "due_from": '{"/in/a:b.csv": "2023-06-01"}',
    },
    "flag": {
        "uses:program:": "2", "uses:file:conf/default_codes.yml": "73", "part:2Y_back_pain_fusion": "a1", "part:P": "b1",
        "day": "2023-05-01", "whole": "false", "definitions": "d1",
    },
    "validate": {"uses:program:": "2", "day": "2023-05-01", "years:silver": '["2021-22"]', "years:rates": "[]"},
    "publish": {"uses:program:": "2", "day": "2023-05-01", "keep_releases": "7"},
    "roll_back": {},
}  # fmt: skip


def started(number: int) -> datetime:
    return datetime(2023, 5, 1, 9, number, 0, 123457, tzinfo=UTC)


def log(folder: Path, number: int, stage: str, details: dict[str, str] | None, outcome: str = "done") -> dict[str, Any]:
    row = {
        "run_id": "r1", "stage": stage, "started_at": started(number), "ended_at": started(number + 2), "outcome": outcome,
        "years": YEARS, "code_version": "0.1", "versions_read": {"silver/apc_spell": 4}, "versions_written": {"gold/policy": 5},
        "details": details,
    }  # fmt: skip
    maps = {"versions_read": VERSIONS, "versions_written": VERSIONS, "details": WORDS}
    put(folder, RUN_LOG, [row], {"started_at": TIME, "ended_at": TIME, "years": TEXTS, **maps})
    return row


def state_of(folder: Path) -> RunState:
    return RunState(LocalLake(LakeLocation(folder=folder)))


def test_the_run_log_of_an_earlier_version(tmp_path: Path) -> None:
    for number, (stage, details) in enumerate(DETAILS.items()):
        log(tmp_path, number, stage, details)
    log(tmp_path, 9, "rate", None, "failed")  # before inputs were recorded
    log(tmp_path, 10, "rate", None, "broken")
    state = state_of(tmp_path)
    assert [(record.stage, record.outcome) for record in state.records] == [
        ("rate", "failed"), ("publish", "done"), ("validate", "done"), ("flag", "done"), ("ingest", "done"),
    ]  # fmt: skip
    rate, publish, validate, flag, ingest = state.records
    assert ingest.started_at == 1682931600123457
    assert (ingest.run_id, ingest.years, ingest.seconds, ingest.code_version) == ("r1", YEARS, 120.0, "0.1")
    assert (ingest.versions_read, ingest.versions_written) == ({"silver/apc_spell": 4}, {"gold/policy": 5})
    assert (ingest.day, ingest.every_year, ingest.whole) == (date(2023, 5, 1), True, True)
    assert (ingest.years_found, ingest.years_unchanged) == (YEARS, ["2022-23"])
    assert ingest.due_from == {"/in/a:b.csv": date(2023, 6, 1)}
    assert state.outcomes(ingest) == {"/in/a:b.csv": {"2021-22": "cf", "": "8b"}, "/in/empty.csv": {}}
    assert state.inputs(ingest.inputs) == {
        "program:": "2", "setting:max_quarantine_share": "0.5", "data:/in/a:b.csv": "19809 1795993681",
    }  # fmt: skip
    assert (flag.whole, flag.every_year, state.outcomes(flag)) == (False, False, None)
    assert policies_of(state.inputs(flag.inputs)) == {"2Y_back_pain_fusion": "a1", "P": "b1"}
    assert without_policies(state.inputs(flag.inputs)) == {"program:": "2", "file:conf/default_codes.yml": "73"}
    assert state.inputs(flag.inputs)["wording:"] == "d1"
    assert validate.years_by_layer == {"silver": ["2021-22"], "rates": []}
    assert publish.keep_releases == 7
    assert (rate.inputs, state.inputs(rate.inputs)) == (None, {})
    # The copy of the earlier form that `test_pipeline` uses is the same.
    for record in (ingest, flag, validate, publish):
        assert as_details(record, state.inputs(record.inputs), state.outcomes(record)) == DETAILS[record.stage]


def put_batch(folder: Path, row: dict[str, Any], **facts: Any) -> None:
    kept = {name: row[name] for name in ("run_id", "stage", "started_at", "outcome", "years", "versions_read")}
    files = pa.list_(pa.struct([(name, pa.string()) for name in ("file", "financial_year", "fingerprint")]))
    layers = pa.map_(pa.string(), TEXTS)
    types = {"started_at": TIME, "years": TEXTS, "versions_read": VERSIONS, "whole": pa.bool_(), "files": files}
    types |= {"reasons": TEXTS, "years_by_layer": layers, "due_from": pa.map_(pa.string(), pa.date32())}
    empty = dict.fromkeys(("inputs", "whole", "files", "reasons", "years_by_layer", "due_from"))
    put(folder, BATCH, [kept | empty | facts], types)


def put_inputs(folder: Path, name: str, stage: str, **inputs: str) -> None:
    rows = [
        {"inputs": name, "run_id": "r1", "stage": stage, "kind": kind, "input": "x.csv", "fingerprint": value}
        for kind, value in inputs.items()
    ]
    put(folder, STAGE_INPUT, rows)


def test_a_batch_counts_once_its_stage_is_in_the_run_log(tmp_path: Path) -> None:
    row = log(tmp_path, 0, "ingest", {"message": "as ever"})
    none = {"file": "/in/b.csv", "financial_year": None, "fingerprint": None}
    files = [none | {"file": "/in/a.csv", "financial_year": "2021-22", "fingerprint": "cf"}, none]
    due_from = {"/in/a.csv": date(2023, 6, 1)}
    put_batch(
        tmp_path, row, files=files, due_from=due_from, years_by_layer={"silver": YEARS}, whole=False, inputs="one"
    )
    put_batch(tmp_path, row | {"started_at": started(1)})  # a stage that was killed before its row of the log
    put_inputs(tmp_path, "one", "ingest", data="12 34", setting="0.5")
    put_inputs(tmp_path, "two", "ingest", data="12 35")
    state = state_of(tmp_path)
    (record,) = state.records
    assert record == StageRecord(
        run_id="r1", stage="ingest", started_at=1682931600123457, outcome="done", years=YEARS, inputs="one",
        versions_read={"silver/apc_spell": 4}, whole=False, years_by_layer={"silver": YEARS}, due_from=due_from,
        seconds=120.0, code_version="0.1",
    )  # fmt: skip
    assert state.converted == []
    assert state.inputs("one") == {"data:x.csv": "12 34", "setting:x.csv": "0.5"}
    assert state.inputs("gone") == {}
    assert state.outcomes(record) == {"/in/a.csv": {"2021-22": "cf"}, "/in/b.csv": {}}


def test_a_batch_that_is_gone_recorded_nothing(tmp_path: Path) -> None:
    log(tmp_path, 0, "rate", {})
    state = state_of(tmp_path)
    assert [(record.stage, record.inputs) for record in state.records] == [("rate", None)]
    assert state_of(tmp_path / "no lake").records == []


def queries() -> list[str]:
    page = (Path(__file__).parents[1] / "docs/incremental-runs.md").read_text(encoding="utf-8")
    return re.findall(r"```sql\n(.*?)```", page, re.DOTALL)


def test_the_queries_of_the_page_say_why_a_stage_ran_again(tmp_path: Path) -> None:
    row = log(tmp_path, 0, "rate", {})
    whys = ([], ["the file x.csv has changed (2021-22)"], ["gold/activity_flag has changed (2022-23)"])
    for number, (name, why) in enumerate(zip(("one", "two", "two"), whys, strict=True)):
        put_batch(tmp_path, row | {"started_at": started(number)}, reasons=why, inputs=name)
    put_inputs(tmp_path, "one", "rate", setting="5", file="a", program="2")
    put_inputs(tmp_path, "two", "rate", file="b", program="2", source="c")
    with duckdb_on_delta() as reader:
        reasons, differing = (
            reader.execute(query.replace("delta_scan('lake", f"delta_scan('{tmp_path}")).fetchall()
            for query in queries()
        )
    assert [(stage, why) for _, stage, _, why in reasons] == [("rate", why) for why in reversed(whys)]
    assert differing == [("file", "x.csv", "a", "b"), ("setting", "x.csv", "5", None), ("source", "x.csv", None, "c")]


def test_records_have_the_names_of_their_columns() -> None:
    assert set(BATCH.names()) - set(StageRecord.__dataclass_fields__) == {"files"}
    extra = set(StageRecord.__dataclass_fields__) - set(BATCH.names())
    assert extra == {"outcomes", "seconds", "code_version"}
