"""Tables that are made and rows that are committed without Spark: Spark reads them as its own, and works on with them."""

import json
import os
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.errors import BrokenRunError
from ebi_spark.lake import small_writes, storage
from ebi_spark.lake.new_tables import create_table
from ebi_spark.lake.permissions import prepare_folders
from ebi_spark.lake.storage import Lake
from ebi_spark.small_frames import small_table
from ebi_spark.spark_types import parse_schema, parse_type
from ebi_spark.tables.gold import ACTIVITY_RATE, BATCH, POLICY
from ebi_spark.tables.published import RATE, RELEASE
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.silver import REPEATED_ROW
from ebi_spark.tables.table import YEAR, Table

OFTEN = {table.full_name: table for table in (ACTIVITY_RATE, POLICY, RATE, RELEASE, BATCH)}
HOUR = datetime(2022, 10, 30, 0, 30, 0, 123456, tzinfo=UTC)


def lake_in(spark: SparkSession, folder: Path) -> Lake:
    folder.mkdir(parents=True, exist_ok=True)
    prepare_folders(folder)
    return Lake(spark, LakeLocation(folder=folder), "test-run")


def folder_of(lake: Lake, table: Table) -> Path:
    return Path(str(lake.location.folder)) / table.full_name


def rate(year: str, code: str, activity: int, years: int = 1) -> dict[str, Any]:
    return {YEAR: year, "area_code": code, "activity": activity, "period_years": years}


def entries(lake: Lake, table: Table, version: int, kind: str) -> list[dict[str, Any]]:
    """The actions of one kind in a commit."""
    entry = folder_of(lake, table) / "_delta_log" / f"{version:020}.json"
    actions = map(json.loads, entry.read_text(encoding="utf-8").splitlines())
    return [action[kind] for action in actions if kind in action]


def test_types_are_read_as_spark_reads_them(spark: SparkSession) -> None:
    listed = "".join(
        f", `{number}` {kind}" for number, kind in enumerate({k for t in TABLES.values() for _, k, _ in t.fields()})
    )
    parsed = DataType.fromDDL(listed.removeprefix(", "))
    assert parse_schema(listed.removeprefix(", ").replace("`", "")) == parsed
    assert parse_schema("a string, b map<string,array<struct<c:int,d:double>>>") == DataType.fromDDL(
        "a string, b map<string,array<struct<c:int,d:double>>>"
    )
    for unknown in ("strin", "array<>", "int<string>", ""):
        with pytest.raises(ValueError, match="unknown type"):
            parse_type(unknown)


def test_spark_finds_every_table_as_it_would_have_made_it(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, other = lake_in(spark, tmp_path / "a lake's “name” #1?"), lake_in(spark, tmp_path / "100%")
    lake.prepare()
    monkeypatch.setattr(storage, "TABLES", OFTEN)
    other.prepare()  # made by Spark: deltalake would read another path

    def described(of: Lake, table: Table) -> Any:
        row = spark.sql(f"DESCRIBE DETAIL {of.identifier(table)}").drop(
            "id", "location", "createdAt", "lastModified", "clusteringColumns"
        ).first()  # fmt: skip
        return row.asDict() if row else None

    for table in OFTEN.values():
        assert described(lake, table) == described(other, table), table.full_name
        assert [(f.name, f.dataType, f.metadata) for f in lake.read(table).schema] == [
            (f.name, f.dataType, f.metadata) for f in other.read(table).schema
        ]
    for table in TABLES.values():
        opened = DeltaTable(folder_of(lake, table))
        assert json.loads(opened.schema().to_json()) == table.schema.jsonValue(), table.full_name
        assert opened.metadata().partition_columns == list(table.partition_by)
    version = lake.version(RATE)
    create_table(lake, RATE)
    assert lake.version(RATE) == version == 0


def test_rows_of_every_type_are_read_by_spark(spark: SparkSession, tmp_path: Path) -> None:
    lake = lake_in(spark, tmp_path / "a lake's “name” #1?")
    for table in (RELEASE, BATCH, POLICY):
        create_table(lake, table)
    manifest = {
        "release_id": "r1", "is_current": True, "released_at": HOUR, "years": ["2021-22"], "tables": {"published/rate": 5},
        "caveats": {}, "disclosure_loss": {"a": 0.1},
    }  # fmt: skip
    lake.append(RELEASE, [manifest, {"release_id": "r2"}], stage="publish")
    batch = {"run_id": "r", "day": date(2022, 4, 1), "due_from": {"f": date(2022, 5, 1)}, "years_by_layer": {"silver": ["y"]},
             "files": [{"file": "f", "financial_year": None, "fingerprint": "x"}], "every_year": False}  # fmt: skip
    lake.append(BATCH, [batch], stage="ingest")
    clause = {"clause_id": "c", "step": 1, "words": "it's", "because": None}
    lake.replace(
        POLICY, [{"policy_id": "2Y", "clauses": [clause]}, {"policy_id": "2Z", "clauses": []}], {}, stage="flag"
    )
    first, second = lake.read(RELEASE).withColumn("at", F.unix_micros("released_at")).orderBy("release_id").collect()
    assert (first["at"], first["tables"], first["caveats"], first["years"]) == (
        int(HOUR.timestamp()) * 10**6 + 123456, {"published/rate": 5}, {}, ["2021-22"],
    )  # fmt: skip
    assert (second["is_current"], second["tables"], second["at"]) == (None, None, None)
    (row,) = lake.read(BATCH).collect()
    assert {name: row[name] for name in ("day", "due_from", "years_by_layer", "every_year")} == {
        name: batch[name] for name in ("day", "due_from", "years_by_layer", "every_year")
    }
    assert row["files"][0].asDict() == batch["files"][0]
    rows = {row["policy_id"]: row["clauses"] for row in lake.read(POLICY).collect()}
    assert rows["2Z"] == [] and rows["2Y"][0]["words"] == "it's" and rows["2Y"][0]["step"] == 1
    # Arrow gives what was written, in the order of the columns.
    lake.replace(RELEASE, lake.arrow(RELEASE), {}, stage="publish")
    assert (
        lake.read(RELEASE).where("released_at IS NOT NULL").select("tables", "caveats").collect()[0][0]
        == manifest["tables"]
    )
    (history,) = spark.sql(f"DESCRIBE HISTORY {lake.identifier(POLICY)}").where("version = 1").collect()
    assert (history["operation"], json.loads(history["userMetadata"])["stage"]) == ("WRITE", "flag")


def test_times_of_a_frame_are_read_by_all(spark: SparkSession, tmp_path: Path) -> None:
    """Spark writes the files and `deltalake` commits them."""
    lake = lake_in(spark, tmp_path)
    create_table(lake, REPEATED_ROW)
    row = dict.fromkeys(REPEATED_ROW.names(), "x") | {
        "conflict": False, "is_duplicate": False, "differs_elsewhere": False, "content": 1, "file_bytes": 1,
        "file_modified": HOUR,
    }  # fmt: skip
    frame = spark.createDataFrame(small_table([row], REPEATED_ROW.schema), REPEATED_ROW.schema)
    lake.replace(REPEATED_ROW, frame, {}, stage="ingest")
    (commit,) = entries(lake, REPEATED_ROW, 1, "commitInfo")
    assert commit["engineInfo"].startswith("delta-rs")
    assert DeltaTable(folder_of(lake, REPEATED_ROW)).to_pyarrow_table()["file_modified"].to_pylist() == [HOUR]
    (found,) = lake.read(REPEATED_ROW).select(F.unix_micros("file_modified")).collect()
    assert found[0] == int(HOUR.timestamp()) * 10**6 + 123456


def test_both_ways_of_writing_replace_the_same_rows(spark: SparkSession, tmp_path: Path) -> None:
    """Spark and deltalake take turns on one table; checkpoints and their checksum files included."""
    lake = lake_in(spark, tmp_path)
    create_table(lake, ACTIVITY_RATE)
    frame = lake.spark.createDataFrame
    expected: dict[tuple[str, int], int] = {}
    for turn in range(14):
        year = f"20{20 + turn % 3}-{21 + turn % 3}"
        rows = [rate(year, "A", turn), rate(year, "B", turn), rate("2022-23", "A", turn, 3)]
        where: list[dict[str, list[Any]]] = [{YEAR: [year]}, {YEAR: ["2022-23"], "period_years": [3]}]
        small = small_table(rows, ACTIVITY_RATE.schema)
        by_spark = turn % 2 == 0
        lake.replace(ACTIVITY_RATE, frame(small, ACTIVITY_RATE.schema) if by_spark else rows, where, stage="rate")
        expected |= {(year, 1): turn, ("2022-23", 3): turn}
        if year == "2022-23":
            expected.pop((year, 2), None)
        found = (
            lake.read(ACTIVITY_RATE)
            .groupBy(YEAR, "period_years")
            .agg(F.min("activity"), F.max("activity"), F.count("*"))
        )
        found_by_key = {(row[0], row[1]): (row[2], row[3], row[4]) for row in found.collect()}
        assert found_by_key == {key: (value, value, 2 if key[1] == 1 else 1) for key, value in expected.items()}, turn
    log = folder_of(lake, ACTIVITY_RATE) / "_delta_log"
    assert [int(entry.name[:20]) for entry in log.glob("*.checkpoint.parquet")] == [10]
    engines = [entries(lake, ACTIVITY_RATE, version, "commitInfo")[0]["engineInfo"] for version in (3, 4)]
    assert [name.split(":")[0].split("/")[0] for name in engines] == ["Apache-Spark", "delta-rs"]
    # No rows: those meant go, the others stay.
    lake.replace(ACTIVITY_RATE, [], {YEAR: ["2022-23"], "period_years": [1]}, stage="rate")
    assert lake.read(ACTIVITY_RATE).where(f"{YEAR} = '2022-23'").count() == 1
    past = Lake(spark, lake.location, as_of={ACTIVITY_RATE.full_name: 2})
    assert past.read(ACTIVITY_RATE).agg(F.max("activity")).collect()[0][0] == 1
    assert past.arrow(ACTIVITY_RATE, {YEAR: ["2020-21"]}).column("activity").to_pylist() == [0, 0]
    maintained = lake.maintain([replace(ACTIVITY_RATE, compact=True)], 24 * 8)
    assert maintained.keys() == {ACTIVITY_RATE.full_name}
    lake.append(ACTIVITY_RATE, [rate("2022-23", "C", 99)], stage="rate")
    assert lake.read(ACTIVITY_RATE).where("activity = 99").count() == 1
    files = DeltaTable(folder_of(lake, ACTIVITY_RATE)).file_uris()
    assert all(".zstd." in name for name in files)


def test_a_table_of_an_earlier_version_gets_its_columns_in_their_place(spark: SparkSession, tmp_path: Path) -> None:
    lake = lake_in(spark, tmp_path)
    lines = [line for line in POLICY.columns.replace("coding:string,", "").splitlines() if " title " not in line[:11]]
    create_table(lake, replace(POLICY, columns="\n".join(lines)))
    assert "title" not in lake.read(POLICY).columns
    lake.migrate([POLICY])
    clause = {"clause_id": "c", "coding": "exact", "because": "b"}
    lake.append(POLICY, [{"policy_id": "2Y", "title": "T", "clauses": [clause]}], stage="flag")
    (row,) = lake.read(POLICY).collect()
    assert (row["policy_id"], row["title"], row["clauses"][0]["coding"], row["clauses"][0]["because"]) == (
        "2Y",
        "T",
        "exact",
        "b",
    )
    with pytest.raises(ValueError, match="policy has no columns nobody"):
        lake.append(POLICY, pa.table({"nobody": ["x"]}), stage="flag")


def test_spark_writes_where_deltalake_cannot(spark: SparkSession, tmp_path: Path) -> None:
    lake, other = lake_in(spark, tmp_path / "100%"), lake_in(spark, tmp_path / "usual")
    for each in (lake, other):
        create_table(each, ACTIVITY_RATE)
    # A writer version that this product does not use.
    lake_of_other = other.identifier(ACTIVITY_RATE)
    spark.sql(f"ALTER TABLE {lake_of_other} SET TBLPROPERTIES ('delta.minWriterVersion' = '3')")
    for each in (lake, other):
        assert not small_writes.can_write(folder_of(each, ACTIVITY_RATE))
        each.replace(ACTIVITY_RATE, [rate("2021-22", "A", 1)], {YEAR: ["2021-22"]}, stage="rate")
        each.replace(ACTIVITY_RATE, [rate("2021-22", "A", 2)], {YEAR: ["2021-22"]}, stage="rate")
        assert [row["activity"] for row in each.read(ACTIVITY_RATE).collect()] == [2]
        assert each.arrow(ACTIVITY_RATE).column("activity").to_pylist() == [2]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["100%", "usual"]


def test_of_two_small_commits_to_the_same_rows_one_is_refused(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_in(spark, tmp_path)
    create_table(lake, ACTIVITY_RATE)
    lake.append(ACTIVITY_RATE, [rate("2021-22", "A", 1)], stage="rate")
    before = DeltaTable(folder_of(lake, ACTIVITY_RATE))
    lake.replace(ACTIVITY_RATE, [rate("2021-22", "A", 2)], {YEAR: ["2021-22"]}, stage="rate")
    monkeypatch.setattr(small_writes, "open_table", lambda _: before)
    with pytest.raises(BrokenRunError, match="gold/activity_rate: another run committed to the same rows") as refused:
        lake.replace(ACTIVITY_RATE, [rate("2021-22", "A", 3)], {YEAR: ["2021-22"]}, stage="rate")
    assert "run the same command again" in refused.value.remedy
    monkeypatch.undo()
    assert [row["activity"] for row in lake.read(ACTIVITY_RATE).collect()] == [2]


def test_what_is_written_is_closed_to_others_and_published_is_open(spark: SparkSession, tmp_path: Path) -> None:
    lake = lake_in(spark, tmp_path)
    mask = os.umask(0o077)
    try:
        for table in (RATE, ACTIVITY_RATE):
            create_table(lake, table)
        lake.append(ACTIVITY_RATE, [rate("2021-22", "A", 1)], stage="rate")
        lake.append(RATE, [rate("2021-22", "A", 1) | {"release_id": "r"}], stage="publish")
    finally:
        os.umask(mask)
    for table, closed in ((ACTIVITY_RATE, True), (RATE, False)):
        entries = [folder_of(lake, table), *folder_of(lake, table).rglob("*")]
        assert len(entries) > 4
        assert all((entry.stat().st_mode & 0o044 == 0) == closed for entry in entries), table.full_name


def test_only_the_statistics_that_are_wanted_are_in_the_log(spark: SparkSession, tmp_path: Path) -> None:
    lake = lake_in(spark, tmp_path)
    table = replace(ACTIVITY_RATE, statistics=("area_code",))
    create_table(lake, table)
    lake.append(table, [rate("2021-22", "A", 7)], stage="rate")
    added = entries(lake, table, 1, "add")[0]
    stats = json.loads(added["stats"])
    assert (stats["numRecords"], stats["minValues"]) == (1, {"area_code": "A"})
