"""Commands that only read a lake in a folder need neither Java nor Spark."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, TableFeatures, write_deltalake

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.geography.code_forms import UNKNOWN_CODE, valid_code
from ebi_spark.lake.local_tables import LocalLake, UnreadableTableError, commits_after, may_have_rows, partitions
from ebi_spark.records import quarantine_summary as summaries
from ebi_spark.records.quarantine_summary import REFUSED_ROWS, quarantine_summary
from ebi_spark.release.current import current_release, current_release_id, local_time
from ebi_spark.sources.column_drift import last_ingested
from ebi_spark.tables.gold import POLICY, POLICY_SENSITIVITY, RUN_LOG, UNMAPPED_AREA
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.silver import APC_SPELL, INGEST_AUDIT, QUARANTINE
from ebi_spark.tables.table import YEAR, Table

TEXTS = pa.list_(pa.string())
# A name that SQL, a shell and a URL would each read differently.
FOLDER = "a lake's “name” #1?"


def put(folder: Path, table: Table, rows: list[dict[str, Any]], schema: dict[str, pa.DataType] | None = None) -> None:
    """Append rows; ``schema``: the types of columns that are not text."""
    types = {name: (schema or {}).get(name, pa.string()) for name in rows[0]}
    path = folder / table.full_name
    path.mkdir(parents=True, exist_ok=True)
    data = pa.Table.from_pylist(rows, schema=pa.schema(types.items()))
    by = [name for name in table.partition_by if name in types]
    write_deltalake(path, data, mode="append", partition_by=by or None)


def moment(hour: int) -> datetime:
    return datetime(2022, 10, 30, hour, 30, 0, 123456, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> LocalLake:
    """A lake with a few rows in the tables that `status` shows."""
    folder = tmp_path / FOLDER
    for year, code in (("2021-22", "A"), ("2021-22", "B"), ("2022-23", "C")):
        put(folder, APC_SPELL, [{"record_id": code, YEAR: year}])
    raw = [{"SEX": "1", "ADMIMETH": "11", "LOADED": "1"}, {"SEX": "1", "ADMIMETH": "12", "LOADED": "2"}]
    conflict = {"source_system": "hes", "role": "apc", "record_id": "7", YEAR: "2021-22"}
    rows = [
        conflict | {"source_file": f"f{number}", "raw": json.dumps(values), "reasons": ["conflicting_duplicate"]}
        for number, values in enumerate(raw)
    ]
    rows.append(conflict | {"source_file": "f1", "raw": "{not JSON", "reasons": ["no_key", "undischarged"]})
    put(folder, QUARANTINE, rows, {"reasons": TEXTS})
    audit = [("run-1", "x.csv", ["age"], 0), ("run-1", "y.csv", [], 0), ("run-2", "y.csv", ["sex"], 1)]
    for run, file, missing, hour in audit:
        row = {"run_id": run, "source_system": "sus_plus", "role": "opa", "source_file": file, "columns_missing": missing,
               "columns_extra": [], "written_at": moment(hour)}  # fmt: skip
        put(
            folder,
            INGEST_AUDIT,
            [row],
            {"columns_missing": TEXTS, "columns_extra": TEXTS, "written_at": pa.timestamp("us", "UTC")},
        )
    for year, code, records in (("2021-22", "99X", 2), ("2022-23", "99X", 5), ("2022-23", "4857773456", 1)):
        put(
            folder,
            UNMAPPED_AREA,
            [{"code": code, "reason": "unmapped", YEAR: year, "records": records}],
            {"records": pa.int64()},
        )
    put(
        folder,
        POLICY,
        [
            {"policy_id": policy, "revision": "1", "reading": "r", "title": "t", "definition": definition}
            for policy, definition in (("2Z", '{"source": {"last_checked": "2020-01-31"}}'), ("2Y", "{}"))
        ],
    )
    refused = json.dumps([{"role": "apc", "reason": "no_key", "rows": 3, "files": 1}])
    for hour, stage, details in ((1, "ingest", {REFUSED_ROWS: refused}), (0, "ingest", None)):
        row = {"run_id": f"run-{hour}", "stage": stage, "started_at": moment(hour), "ended_at": moment(hour), "outcome": "done",
               "rows": hour, "details": details}  # fmt: skip
        kinds = {"started_at": pa.timestamp("us", "UTC"), "ended_at": pa.timestamp("us", "UTC"), "rows": pa.int64(),
                 "details": pa.map_(pa.string(), pa.string())}  # fmt: skip
        put(folder, RUN_LOG, [row], kinds)
    for number in (0, 1, 2):
        row = {
            "release_id": f"r{number}",
            "is_current": number == 2,
            "released_at": moment(number),
            "years": ["2021-22"],
        }
        put(
            folder, RELEASE, [row], {"is_current": pa.bool_(), "released_at": pa.timestamp("us", "UTC"), "years": TEXTS}
        )
    return LocalLake(LakeLocation(folder=folder))


def without_java(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": "/nowhere", "JAVA_HOME": "/nowhere"}
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *arguments], capture_output=True, text=True, timeout=60, check=False,
        env=environment, cwd=Path(__file__).parents[1],
    )  # fmt: skip


def test_status_needs_no_java(lake: LocalLake) -> None:
    answer = without_java("status", "--json", "--lake", str(lake.location.folder))
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    status = json.loads(answer.stdout)["status"]
    assert status["rows"] == [
        {"table": "silver/apc_spell", "year": "2021-22", "rows": 2},
        {"table": "silver/apc_spell", "year": "2022-23", "rows": 1},
        {"table": "silver/quarantine", "year": "2021-22", "rows": 3},
    ]
    assert [(row["reason"], row["rows"], row["files"]) for row in status["quarantine"]] == [
        ("conflicting_duplicate", 2, 2), ("no_key", 1, 1), ("undischarged", 1, 1),
    ]  # fmt: skip
    assert [
        row["rows"] for row in status["rows that the last ingest could not use (it was refused and wrote nothing)"]
    ] == [3]
    assert status["area codes that count in England only"] == [
        {"code": "99X", "reason": "unmapped", "years": ["2021-22", "2022-23"], "records": 7},
        {"code": UNKNOWN_CODE, "reason": "unmapped", "years": ["2022-23"], "records": 1},
    ]
    assert [row["policy_id"] for row in status["policies"]] == ["2Y", "2Z"]
    assert status["sources of policies to check"] == [
        {"policy": "2Z", "why": "its source was last checked on 2020-01-31, more than a year ago"}
    ]
    assert [row["run_id"] for row in status["last stages"]] == ["run-1", "run-0"]
    assert status["last stages"][0]["started_at"] == str(moment(1).astimezone().replace(tzinfo=None))
    assert [row["release_id"] for row in status["release"]] == ["r2"]
    assert [row["release_id"] for row in status["other kept releases"]] == ["r1", "r0"]
    assert status["other kept releases"][0]["released_at"] == str(moment(1).astimezone().replace(tzinfo=None))
    assert "4857773456" not in answer.stdout
    table = without_java("status", "--lake", str(lake.location.folder))
    assert table.returncode == 0 and "2021-22" in table.stdout and "spells" in table.stdout
    assert "Other releases that are kept" in table.stdout and "r1" in table.stdout


def test_a_policys_decisions_are_shown_without_java(tmp_path: Path) -> None:
    (tmp_path / "silver").mkdir()
    policy = "2S_lower_back_imaging"
    counts = dict.fromkeys(("flagged", "added", "removed"), pa.int64())
    for year, other, added in (("2021-22", policy, 2), ("2022-23", policy, 3), ("2022-23", "another", 100)):
        row = {"policy_id": other, "revision": "1", "base_reading": "as_published", "decision": "d", "source": "s",
               "direction": "made", YEAR: year, "flagged": 10, "added": added, "removed": 0}  # fmt: skip
        put(tmp_path, POLICY_SENSITIVITY, [row], counts)
    answer = without_java("policy", "show", policy, "--json", "--lake", str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["sensitivity"] == [
        {"revision": "1", "base_reading": "as_published", "decision": "d", "source": "s", "direction": "made", "flagged": 20,
         "added": 5, "removed": 0}
    ]  # fmt: skip


def test_a_table_that_only_spark_can_read_is_left_to_spark(lake: LocalLake) -> None:
    folder = Path(str(lake.location.folder)) / RUN_LOG.full_name
    DeltaTable(folder).alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    with pytest.raises(UnreadableTableError):
        lake.small_rows(RUN_LOG, ["run_id"])
    answer = without_java("status", "--lake", str(lake.location.folder))
    assert answer.returncode == 2
    assert "starting Spark" in answer.stderr and "run_log" in answer.stderr and "Java" in answer.stderr


@pytest.mark.parametrize(("name", "decoded"), [("a%20b", "a b"), ("a\\b", "a/b")])
def test_a_folder_whose_name_would_be_decoded_is_left_to_spark(tmp_path: Path, name: str, decoded: str) -> None:
    """`deltalake` takes such a path for another one."""
    put(tmp_path / decoded, POLICY, [{"policy_id": decoded}])
    shutil.copytree(tmp_path / decoded / "gold", tmp_path / name / "gold")
    with pytest.raises(UnreadableTableError):
        LocalLake(LakeLocation(folder=tmp_path / name)).small_rows(POLICY, ["policy_id"])
    (found,) = LocalLake(LakeLocation(folder=tmp_path / decoded)).small_rows(POLICY, ["policy_id"])
    assert found == {"policy_id": decoded}


def test_a_file_that_is_gone_is_left_to_spark(lake: LocalLake) -> None:
    folder = Path(str(lake.location.folder)) / POLICY.full_name
    next(folder.glob("*.parquet")).unlink()
    with pytest.raises(UnreadableTableError):
        lake.small_rows(POLICY, ["policy_id"])


def test_rows_are_plain_values(lake: LocalLake) -> None:
    newest, first = sorted(
        lake.small_rows(RUN_LOG, ["run_id", "started_at", "details", "configuration"]), key=str, reverse=True
    )
    assert first == {"run_id": "run-0", "started_at": 1667089800123456, "details": None, "configuration": None}
    assert list(newest["details"]) == [REFUSED_ROWS]
    assert local_time(newest["started_at"]) == moment(1).astimezone().replace(tzinfo=None)
    assert lake.small_rows(RUN_LOG, ["rows"], {"run_id": ["run-0"], "rows": [0, 1]}) == [{"rows": 0}]
    assert len(lake.small_rows(RUN_LOG, ["rows"], [{"run_id": ["run-0"]}, {"rows": [1], "stage": ["ingest"]}])) == 2
    counted = lake.grouped(UNMAPPED_AREA, [], ["records"], [{"code": ["99X"], YEAR: ["2022-23"]}, {"records": [1]}])
    assert counted == [{"rows": 2, "records": 6}]
    assert lake.grouped(UNMAPPED_AREA, [], where={"code": []}) == [{"rows": 0}]
    assert lake.frame(RELEASE, {"release_id": ["r1", "it's"]})["release_id"].tolist() == ["r1"]
    assert len(lake.frame(RELEASE, {})) == 3
    assert current_release_id(lake) == "r2"
    release = current_release(lake)
    assert release is not None and release["released_at"] == moment(2).astimezone().replace(tzinfo=None)
    assert release["caveats"] is None


def test_partitions_and_commits_come_from_the_log(lake: LocalLake) -> None:
    folder = Path(str(lake.location.folder)) / APC_SPELL.full_name
    assert partitions(folder, YEAR) == {"2021-22", "2022-23"}
    assert lake.size(APC_SPELL) == (3, sum(file.stat().st_size for file in folder.glob("*/*.parquet")))
    DeltaTable(folder).delete(f"{YEAR} = '2022-23'")
    assert lake.size(APC_SPELL)[0] == 2
    assert partitions(folder, YEAR) == {"2021-22"}
    # A commit without a description must not change the numbers of the others.
    newest = folder / "_delta_log" / f"{3:020}.json"
    (folder / "_delta_log" / f"{4:020}.json").write_text('{"txn": {"appId": "another tool", "version": 1}}\n')
    DeltaTable(folder).create_checkpoint()
    assert [(commit.version, commit.operation) for commit in commits_after(folder, 1)] == [(2, "WRITE"), (3, "DELETE")]
    newest.unlink()
    assert partitions(folder, YEAR) == {"2021-22"}
    assert [commit.version for commit in commits_after(folder, 1)] == [2]


def test_the_log_says_whether_there_are_rows_to_replace(lake: LocalLake) -> None:
    folder = Path(str(lake.location.folder)) / APC_SPELL.full_name
    assert may_have_rows(folder, [{}])
    assert may_have_rows(folder, [{YEAR: ["2019-20", "2021-22"]}])
    assert not may_have_rows(folder, [{YEAR: ["2019-20"]}])
    assert not may_have_rows(folder, [{YEAR: []}])
    # The log does not say which keys are there.
    assert may_have_rows(folder, [{YEAR: ["2021-22"], "record_id": ["Z"]}])
    assert not may_have_rows(folder, [{YEAR: ["2019-20"], "record_id": ["A"]}])
    assert may_have_rows(folder, [{YEAR: ["2019-20"]}, {"record_id": ["Z"]}])
    DeltaTable(folder).delete(f"{YEAR} = '2021-22'")
    assert not may_have_rows(folder, [{YEAR: ["2021-22"]}])
    DeltaTable(folder).delete()
    assert not may_have_rows(folder, [{}])


def test_conflicts_are_named_by_their_columns(lake: LocalLake) -> None:
    found = {row["reason"]: row["columns"] for row in quarantine_summary(lake)}
    assert found["conflicting_duplicate"] == ["ADMIMETH", "LOADED"]


def test_conflicts_of_each_source_table_are_named(lake: LocalLake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only some rows of each table are compared; a table with many does not use up the others' share."""
    monkeypatch.setattr(summaries, "MOST_COMPARED_WITHOUT_SPARK", 2)
    rows = [
        {"source_system": "hes", "role": "op", "record_id": "8", "source_file": "o", YEAR: "2021-22",
         "raw": json.dumps({"ATTENDED": attended}), "reasons": ["conflicting_duplicate"]}
        for attended in ("5", "6")
    ]  # fmt: skip
    put(Path(str(lake.location.folder)), QUARANTINE, rows, {"reasons": TEXTS})
    found = {(row["role"], row["reason"]): row["columns"] for row in quarantine_summary(lake)}
    assert found["apc", "conflicting_duplicate"] == ["ADMIMETH", "LOADED"]
    assert found["op", "conflicting_duplicate"] == ["ATTENDED"]


def test_the_audit_of_the_last_ingest(lake: LocalLake) -> None:
    found = last_ingested(lake, [])
    assert {place: columns.missing for place, columns in found.items()} == {("sus_plus", "opa"): {"sex"}}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (" 15n ", "15N"),
        ("E38000182", "E38000182"),
        ("15N\n", UNKNOWN_CODE),
        ("4857773456", UNKNOWN_CODE),
        (None, UNKNOWN_CODE),
    ],
)
def test_a_code_is_valid_by_its_form(text: str | None, code: str) -> None:
    assert valid_code(text, "commissioner") == code


class PanicException(BaseException):
    """As `deltalake` raises it: no subclass of Exception."""


@pytest.mark.parametrize("where", ["deltalake.DeltaTable", "deltalake.QueryBuilder"])
def test_a_panic_of_the_reader_leaves_the_table_to_spark(
    lake: LocalLake, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(*_: Any) -> Any:
        raise PanicException

    monkeypatch.setattr(where, broken)
    with pytest.raises(UnreadableTableError, match="PanicException"):
        lake.grouped(APC_SPELL, [YEAR])


def test_an_interrupt_is_not_taken_for_a_broken_table(lake: LocalLake, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("deltalake.QueryBuilder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lake.grouped(APC_SPELL, [YEAR])
