"""The lake itself: older schemas, commits that meet, maintenance under readers, releases that are let go."""

import json
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import delta.exceptions
import pytest
from calling import delta_rows, duckdb_on_delta, rows_of
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import BrokenRunError, InputError
from ebi_spark.lake import local_tables, permissions, storage
from ebi_spark.lake.local_tables import LocalLake, UnreadableTableError
from ebi_spark.lake.new_tables import VERSION_PROPERTY, create_table
from ebi_spark.lake.permissions import prepare_folders
from ebi_spark.lake.storage import Lake
from ebi_spark.release.publish import PUBLISHED
from ebi_spark.release.retention import remove_old_releases
from ebi_spark.runs.history import RunHistory, new_record
from ebi_spark.runs.stage_inputs import READS, recorded_inputs
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.gold import ACTIVITY_RATE, BATCH, POLICY, RUN_LOG, STAGE_INPUT
from ebi_spark.tables.published import RATE, RELEASE
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.silver import WITHDRAWN_RECORD
from ebi_spark.tables.table import SCHEMA_VERSION, YEAR, Table
from jobs import exit_status, maintain

USED = {table.full_name: table for table in (ACTIVITY_RATE, POLICY, RATE, RELEASE)}


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake of four tables, not yet made."""
    monkeypatch.setattr(storage, "TABLES", USED)
    prepare_folders(tmp_path)
    return Lake(spark, LakeLocation(folder=tmp_path), "test-run")


def log_of(lake: Lake, table: Table) -> Path:
    return Path(str(lake.location.folder)) / table.full_name / "_delta_log"


def without(table: Table, *columns: str) -> Table:
    """The table as a version had it that did not know some columns yet."""
    lines = [line for line in table.columns.splitlines() if line.strip().split(" ")[0] not in columns]
    return replace(table, columns="\n".join(lines))


def rates(lake: Lake, *rows: tuple[str, str, int]) -> Any:
    listed = [{YEAR: year, "area_code": code, "activity": activity} for year, code, activity in rows]
    return small_frame(lake.spark, listed, ACTIVITY_RATE.schema)


def test_a_lake_of_an_older_version_is_brought_up_to_date(lake: Lake) -> None:
    older = without(ACTIVITY_RATE, "expected", "notes")
    create_table(lake, older)
    create_table(lake, replace(POLICY, columns=POLICY.columns.replace(",because:string", "")))
    for table in (older, POLICY):
        lake.spark.sql(f"ALTER TABLE {lake.identifier(table)} UNSET TBLPROPERTIES ('{VERSION_PROPERTY}')")
    lake.replace(older, rates(lake, ("2021-22", "A", 3)), {YEAR: ["2021-22"]}, stage="rate")
    # A checkpoint holds what the log's first entries said, which Delta cleans up in time.
    lake.spark.sql(f"ALTER TABLE {lake.identifier(older)} SET TBLPROPERTIES ('delta.checkpointInterval' = '1')")
    lake.replace(older, rates(lake, ("2022-23", "A", 4)), {YEAR: ["2022-23"]}, stage="rate")
    assert list(log_of(lake, older).glob("*.checkpoint.parquet"))
    for entry in log_of(lake, older).glob("*.json"):
        if int(entry.stem) < 4:
            entry.unlink()
    lake.prepare()
    assert lake.read(ACTIVITY_RATE).columns[-2:] == ["expected", "notes"]
    assert set(lake.read(ACTIVITY_RATE).columns) == set(ACTIVITY_RATE.names())
    lake.append(ACTIVITY_RATE, rates(lake, ("2022-23", "B", 5)).withColumn("expected", F.lit(1.5)), stage="rate")
    found = lake.read(ACTIVITY_RATE).orderBy("activity").select("activity", "expected").collect()
    assert [tuple(row) for row in found] == [(3, None), (4, None), (5, 1.5)]
    assert "because" in lake.read(POLICY).schema["clauses"].simpleString()
    for table in USED.values():
        described = local_tables.described(log_of(lake, table).parent)
        assert described[1][VERSION_PROPERTY] == str(SCHEMA_VERSION), table.full_name
    versions = {name: lake.version(table) for name, table in USED.items()}
    assert lake.migrate() == []
    assert {name: lake.version(table) for name, table in USED.items()} == versions
    # A table that was up to date is looked at again after a commit.
    newer = f"'{VERSION_PROPERTY}' = '{SCHEMA_VERSION + 1}'"
    lake.spark.sql(f"ALTER TABLE {lake.identifier(ACTIVITY_RATE)} SET TBLPROPERTIES ({newer})")
    with pytest.raises(InputError, match="gold/activity_rate was written by a newer version"):
        lake.migrate()


# Half past one twice: before and after clocks were set back.
MOMENTS = [datetime(2022, 10, 30, hour, 30, 0, 123456, tzinfo=UTC) for hour in (0, 1)]


@pytest.fixture(scope="module")
def logged(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of two tables with several commits each, and a checkpoint at each of them."""
    folder = tmp_path_factory.mktemp("logged")
    prepare_folders(folder)
    lake = Lake(spark, LakeLocation(folder=folder), "test-run")
    for table in (ACTIVITY_RATE, RELEASE):
        create_table(lake, table)
        assert lake.grouped(table, []) == [{"rows": 0}]
        assert lake.years(table) == [] if table is ACTIVITY_RATE else lake.small_rows(table, ["run_id"]) == []
        lake.spark.sql(f"ALTER TABLE {lake.identifier(table)} SET TBLPROPERTIES ('delta.checkpointInterval' = '1')")
    for year, activity in (("2020-21", 1), ("2021-22", 2), ("2022-23", 3), ("2021-22", 4)):
        lake.replace(ACTIVITY_RATE, rates(lake, (year, "A", activity)), {YEAR: [year]}, stage="rate")
    lake.replace(ACTIVITY_RATE, rates(lake), {YEAR: ["2020-21"]}, stage="rate")
    for number, moment in enumerate(MOMENTS):
        row = {
            "release_id": f"R{number}", "is_current": bool(number), "released_at": moment, "years": ["2021-22"],
            "tables": {"published/rate": 7}, "caveats": {} if number else None,
        }  # fmt: skip
        lake.append(RELEASE, small_frame(lake.spark, [row], RELEASE.schema), stage="publish")
    return folder


@pytest.mark.parametrize("checkpoints", ["none", "each", "each, and the log before it gone"])
def test_a_log_tells_without_spark_what_spark_finds(
    spark: SparkSession, logged: Path, tmp_path: Path, checkpoints: str
) -> None:
    lake = Lake(spark, LakeLocation(folder=shutil.copytree(logged, tmp_path / "lake")), "test-run")
    for table in (ACTIVITY_RATE, RELEASE):
        log = log_of(lake, table)
        if checkpoints == "none":
            for entry in (*log.glob("*.checkpoint.parquet"), log / "_last_checkpoint"):
                entry.unlink()
        newest = list(log.glob(f"{lake.version(table):020}.*"))
        assert (checkpoints != "none") == any(entry.name.endswith(".checkpoint.parquet") for entry in newest)
        if checkpoints.endswith("gone"):
            for entry in log.glob("*.json"):
                if int(entry.stem) < lake.version(table):
                    entry.unlink()
        assert LocalLake(lake.location).grouped(table, []) == [{"rows": lake.read(table).count()}]
    assert local_tables.partitions(log_of(lake, ACTIVITY_RATE).parent, YEAR) == {"2021-22", "2022-23"}
    assert lake.years(ACTIVITY_RATE) == ["2021-22", "2022-23"]
    names = ["release_id", "is_current", "released_at", "years", "tables", "caveats"]
    found = LocalLake(lake.location).small_rows(RELEASE, names)
    assert lake.small_rows(RELEASE, names) == found
    by_spark = lake.read(RELEASE).withColumn("released_at", F.unix_micros("released_at")).select(*names).collect()
    assert sorted(found, key=str) == sorted((row.asDict() for row in by_spark), key=str)
    assert {row["released_at"] for row in found} == {int(moment.timestamp()) * 10**6 + 123456 for moment in MOMENTS}
    assert found[0]["tables"] == {"published/rate": 7}


def test_spark_is_asked_for_what_the_log_does_not_say(lake: Lake) -> None:
    create_table(lake, ACTIVITY_RATE)
    for year in ("2021-22", "2022-23"):
        lake.replace(ACTIVITY_RATE, rates(lake, (year, "A", 1)), {YEAR: [year]}, stage="rate")
    earlier = Lake(lake.spark, lake.location, as_of={ACTIVITY_RATE.full_name: 1})
    assert earlier.years(ACTIVITY_RATE) == ["2021-22"]
    create_table(lake, RELEASE)
    row = {"release_id": "R", "is_current": True, "released_at": datetime(2022, 10, 30, 1, 30, tzinfo=UTC)}
    lake.append(RELEASE, small_frame(lake.spark, [row], RELEASE.schema), stage="publish")
    names = ["release_id", "released_at", "sources"]
    read = lake.small_rows(RELEASE, names)
    # Deletion vectors: a file holds rows that the table does not.
    for table in (ACTIVITY_RATE, RELEASE):
        lake.spark.sql(
            f"ALTER TABLE {lake.identifier(table)} SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')"
        )
        with pytest.raises(UnreadableTableError):
            LocalLake(lake.location).small_rows(table, table.names())
    lake.append(ACTIVITY_RATE, rates(lake, ("2022-23", "B", 2), ("2022-23", "C", 3)), stage="rate")
    lake.spark.sql(f"DELETE FROM {lake.identifier(ACTIVITY_RATE)} WHERE area_code = 'B'")
    assert lake.years(ACTIVITY_RATE) == ["2021-22", "2022-23"]
    counted = sorted(lake.grouped(ACTIVITY_RATE, [YEAR], ["activity"]), key=str)
    assert [tuple(row.values()) for row in counted] == [("2021-22", 1, 1), ("2022-23", 2, 4)]
    shown = lake.frame(ACTIVITY_RATE, {YEAR: ["2022-23"], "area_code": ["B", "C"]})
    assert shown["activity"].tolist() == [3]
    assert lake.small_rows(RELEASE, names) == read == [{**read[0], "release_id": "R", "sources": None}]
    log = log_of(lake, POLICY)
    create_table(lake, POLICY)
    lake.append(POLICY, small_frame(lake.spark, [{"policy_id": "2Y"}], POLICY.schema), stage="flag")
    assert [row["policy_id"] for row in LocalLake(lake.location).small_rows(POLICY, ["policy_id"])] == ["2Y"]
    # The first entry is gone, and so are the checksums, which repeat what it says.
    for entry in (log / f"{0:020}.json", *log.glob("*.crc")):
        entry.unlink()
    with pytest.raises(UnreadableTableError):
        LocalLake(lake.location).small_rows(POLICY, ["policy_id"])


def test_a_lake_of_a_newer_version_or_of_other_types_is_refused_whole(lake: Lake) -> None:
    create_table(lake, without(RATE, "caveats"))
    create_table(lake, replace(ACTIVITY_RATE, columns=ACTIVITY_RATE.columns.replace("activity bigint", "activity int")))
    with pytest.raises(InputError, match=r"gold/activity_rate has columns of another type .*: activity"):
        lake.migrate()
    assert lake.version(RATE) == 0
    newer = f"'{VERSION_PROPERTY}' = '{SCHEMA_VERSION + 1}'"
    lake.spark.sql(f"ALTER TABLE {lake.identifier(RATE)} SET TBLPROPERTIES ({newer})")
    with pytest.raises(
        InputError, match=rf"published/rate was written by a newer version .*schema {SCHEMA_VERSION + 1}"
    ) as refused:
        lake.migrate([RATE])
    assert "install" in refused.value.remedy


def test_rows_are_added_where_none_are_replaced(lake: Lake) -> None:
    create_table(lake, ACTIVITY_RATE)
    for activity in (1, 2):
        frame = rates(lake, ("2021-22", "A", activity))
        lake.replace(
            ACTIVITY_RATE, frame, [{YEAR: ["2021-22"]}, {YEAR: ["2022-23"], "period_years": [3]}], stage="rate"
        )
    lake.replace(ACTIVITY_RATE, rates(lake, ("2022-23", "A", 3)), {YEAR: ["2022-23"]}, stage="rate")
    history = (
        lake.spark.sql(f"DESCRIBE HISTORY {lake.identifier(ACTIVITY_RATE)}").where("version > 0").orderBy("version")
    )
    modes = [row["mode"] for row in history.select("operationParameters.mode").collect()]
    assert modes == ["Append", "Overwrite", "Append"]
    assert [json.loads(commit.metadata or "")["years"] for commit in lake.commits(ACTIVITY_RATE, 1)] == [
        ["2021-22", "2022-23"],
        ["2022-23"],
    ]
    assert {(row[YEAR], row["activity"]) for row in lake.read(ACTIVITY_RATE).collect()} == {
        ("2021-22", 2),
        ("2022-23", 3),
    }


def test_a_small_table_is_the_same_in_memory(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists, maps, times and dates, from files of which one is older than some columns."""
    older = without(RELEASE, "versions", "released_at")
    create_table(lake, older)
    assert lake.read_small(RELEASE).collect() == []
    row: dict[str, Any] = {
        "release_id": "r1",
        "is_current": False,
        "years": ["2021-22"],
        "tables": {"published/rate": 5},
    }
    lake.append(older, small_frame(lake.spark, [row], older.schema), stage="publish")
    lake.migrate([RELEASE])
    summer = datetime(2022, 10, 30, 0, 30, tzinfo=UTC)
    row |= {"release_id": "r2", "released_at": summer, "versions": {"published/rate": 7}, "years": []}
    lake.append(RELEASE, small_frame(lake.spark, [row], RELEASE.schema), stage="publish")
    small, read = lake.read_small(RELEASE), lake.read(RELEASE)
    assert small.schema == read.schema
    assert sorted(map(repr, small.collect())) == sorted(map(repr, read.collect()))
    assert not small.inputFiles()
    # Records never come to the driver.
    create_table(lake, WITHDRAWN_RECORD)
    record = {"record_id": "1", "source_file": "a.csv"}
    lake.append(WITHDRAWN_RECORD, small_frame(lake.spark, [record], WITHDRAWN_RECORD.schema), stage="ingest")
    assert lake.read_small(WITHDRAWN_RECORD).inputFiles()
    monkeypatch.setattr(storage, "IN_MEMORY_BYTES", 10)
    assert lake.read_small(RELEASE).inputFiles()
    assert Lake(lake.spark, lake.location, as_of={RELEASE.full_name: 1}).read_small(RELEASE).count() == 1


def test_a_small_table_is_read_from_its_files_as_delta_reads_it(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rows; with partitions, of which one was replaced; with a file that is older than some columns; and never where the
    folder of a partition is not named after it."""
    older_rates, older_releases = without(ACTIVITY_RATE, "expected", "notes"), without(RELEASE, "versions")
    for table in (older_rates, older_releases):
        create_table(lake, table)
    assert lake.read(ACTIVITY_RATE).collect() == [] != lake.read(ACTIVITY_RATE).columns
    lake.append(older_rates, rates(lake, ("2021-22", "A", 1), ("2022-23", "B", 2)), stage="")
    first = small_frame(lake.spark, [{"release_id": "r1", "tables": {"a": 1}}], older_releases.schema)
    lake.append(older_releases, first, stage="")
    lake.migrate(USED.values())
    lake.replace(ACTIVITY_RATE, rates(lake, ("2022-23", "C", 3)), {YEAR: ["2022-23"]}, stage="")
    lake.append(RELEASE, [{"release_id": "r2", "released_at": datetime(2022, 10, 30, 0, 30, tzinfo=UTC)}], stage="")

    def read() -> dict[str, Any]:
        frames = {table: lake.read(table) for table in (ACTIVITY_RATE, RELEASE)}
        return {
            table.name: (
                frame.schema,
                sorted(map(repr, frame.collect())),
                sorted(path.replace("file:///", "file:/") for path in frame.inputFiles()),
            )
            for table, frame in frames.items()
        }

    found = read()
    assert lake.read(ACTIVITY_RATE).rdd.getNumPartitions() == 1
    assert [len(rows) for _, rows, _ in found.values()] == [2, 2]
    monkeypatch.setattr(storage, "ONE_PARTITION_BYTES", 0)
    assert read() == found
    monkeypatch.undo()
    folder = log_of(lake, ACTIVITY_RATE).parent
    files = local_tables.data_files(folder)
    assert files is not None and len(files.paths) == 2
    (folder / f"{YEAR}=2021-22").rename(folder / "elsewhere")
    for entry in (folder / "_delta_log").glob("*.json"):
        entry.write_text(entry.read_text().replace(f'"path":"{YEAR}=2021-22', '"path":"elsewhere'))
    assert local_tables.data_files(folder) is None


def test_a_frame_of_few_rows_is_committed_without_delta_in_spark(lake: Lake) -> None:
    """Added; of two years; of all years, also without a year; and none. Rows of another year than is replaced are refused."""
    create_table(lake, ACTIVITY_RATE)
    place = log_of(lake, ACTIVITY_RATE).parent

    def found() -> list[tuple[Any, ...]]:
        by_delta = lake.spark.read.format("delta").load(str(place)).select(YEAR, "area_code", "activity")
        rows = sorted((tuple(row) for row in by_delta.collect()), key=str)
        with duckdb_on_delta() as reader:
            query = f"SELECT financial_year, area_code, activity FROM delta_scan('{place}')"
            assert sorted(reader.execute(query).fetchall(), key=str) == rows
        return rows

    lake.append(ACTIVITY_RATE, rates(lake, ("2021-22", "A", 1), ("2022-23", "B", 2)), stage="")
    lake.replace(ACTIVITY_RATE, rates(lake, ("2022-23", "C", 3)), {YEAR: ["2022-23", "2023-24"]}, stage="")
    assert found() == [("2021-22", "A", 1), ("2022-23", "C", 3)]
    with pytest.raises(ValueError, match="gold/activity_rate: there are rows of years that are not replaced"):
        lake.replace(ACTIVITY_RATE, rates(lake, ("2021-22", "D", 4)), {YEAR: ["2022-23"]}, stage="")
    assert lake.version(ACTIVITY_RATE) == 2
    lake.replace(ACTIVITY_RATE, rates(lake, ("2023-24", "E", 5), (None, "F", 6)), {}, stage="")  # type: ignore[arg-type]
    assert found() == [("2023-24", "E", 5), (None, "F", 6)]
    lake.replace(ACTIVITY_RATE, rates(lake), {}, stage="")
    assert found() == []
    for number in range(1, 5):
        assert '"clientVersion":"delta-rs' in (place / "_delta_log" / f"{number:020}.json").read_text()
    assert not list(permissions.scratch_folder(Path(str(lake.location.folder))).iterdir())


def test_two_backfills_at_once_lose_nothing(lake: Lake) -> None:
    """Different years commit side by side; of two runs on the same year at most one is refused, whole, and its retry
    works."""
    create_table(lake, ACTIVITY_RATE)

    def together(*works: tuple[str, int]) -> list[BrokenRunError]:
        barrier, refused = threading.Barrier(len(works)), []

        def work(year: str, activity: int) -> None:
            frame = rates(lake, *[(year, code, activity) for code in "ABC"])
            barrier.wait()
            try:
                Lake(lake.spark, lake.location, f"run-{activity}").replace(
                    ACTIVITY_RATE, frame, {YEAR: [year]}, stage="rate"
                )
            except BrokenRunError as error:
                refused.append(error)

        threads = [threading.Thread(target=work, args=item) for item in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return refused

    def contents() -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for row in lake.read(ACTIVITY_RATE).collect():
            found.setdefault(row[YEAR], set()).add(row["activity"])
        assert lake.read(ACTIVITY_RATE).count() == 3 * len(found)
        return found

    assert together(("2021-22", 1), ("2022-23", 2)) == []
    assert contents() == {"2021-22": {1}, "2022-23": {2}}
    refused = together(("2021-22", 3), ("2021-22", 4))
    assert len(refused) <= 1
    for error in refused:
        assert "gold/activity_rate: another run committed to the same rows" in error.message
        assert "run the same command again" in error.remedy
    assert contents()["2021-22"] in ({3}, {4})
    assert contents()["2022-23"] == {2}
    assert together(("2021-22", 5)) == []
    assert contents() == {"2021-22": {5}, "2022-23": {2}}


def test_a_full_disk_in_mid_write_leaves_the_old_rows(lake: Lake) -> None:
    """Java may for a while make no file larger than 20 kB: what it writes breaks off, and the same call works later."""
    create_table(lake, ACTIVITY_RATE)
    lake.replace(ACTIVITY_RATE, rates(lake, ("2021-22", "A", 3)), {YEAR: ["2021-22"]}, stage="rate")
    version = lake.version(ACTIVITY_RATE)
    many = lake.spark.range(5_000).select(
        F.lit("2021-22").alias(YEAR), F.sha2(F.col("id").cast("string"), 256).alias("area_code"), F.lit(7).alias("activity"),
        *[F.lit(None).alias(name) for name in ACTIVITY_RATE.names() if name not in (YEAR, "area_code", "activity")],
    )  # fmt: skip

    def contents() -> tuple[Any, ...]:
        (found,) = delta_rows(log_of(lake, ACTIVITY_RATE).parent, "count(*), sum(activity)")
        return found

    java = lake.spark.sparkContext._gateway.proc.pid  # type: ignore[union-attr]
    soft, hard = resource.prlimit(java, resource.RLIMIT_FSIZE)
    resource.prlimit(java, resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(Exception, match="File too large"):
            lake.replace(ACTIVITY_RATE, many, {YEAR: ["2021-22"]}, stage="rate")
    finally:
        resource.prlimit(java, resource.RLIMIT_FSIZE, (soft, hard))
    assert lake.version(ACTIVITY_RATE) == version
    assert contents() == (1, 3)
    lake.replace(ACTIVITY_RATE, many, {YEAR: ["2021-22"]}, stage="rate")
    assert contents() == (5_000, 35_000)


@pytest.mark.parametrize("name", delta.exceptions.__all__)
def test_every_conflict_that_delta_knows_is_told_the_same_way(name: str, lake: Lake) -> None:
    class Writer:
        def save(self, _: str) -> None:
            raise getattr(delta.exceptions, name)("the log said a patient's value")

    writer: Any = Writer()
    with pytest.raises(BrokenRunError) as refused:
        lake._commit(ACTIVITY_RATE, writer)
    assert name in refused.value.message
    assert "patient" not in refused.value.message


def manifest(number: int, released_at: datetime, *, current: bool) -> dict[str, Any]:
    return {"release_id": f"R{number}", "is_current": current, "released_at": released_at, "run_id": f"R{number}"}


@pytest.fixture(scope="module")
def released(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the rows of five releases, of which no manifest is written yet."""
    folder = tmp_path_factory.mktemp("released")
    prepare_folders(folder)
    lake = Lake(spark, LakeLocation(folder=folder), "test-run")
    create_table(lake, RELEASE)
    create_table(lake, RATE)
    published = [{"release_id": f"R{n}", YEAR: "2021-22", "activity": n} for n in range(1, 6)]
    lake.replace(RATE, small_frame(spark, published, RATE.schema), {}, stage="publish")
    return folder


@pytest.fixture
def releases(
    spark: SparkSession, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[list[dict[str, Any]]], Lake]:
    """A lake with the manifest rows given, and with rows of R5, which is named in none."""
    monkeypatch.setattr("ebi_spark.release.retention.PUBLISHED", (RATE,))

    def make(rows: list[dict[str, Any]]) -> Lake:
        lake = Lake(spark, LakeLocation(folder=shutil.copytree(released, tmp_path / "lake")), "test-run")
        lake.replace(RELEASE, small_frame(spark, rows, RELEASE.schema), {}, stage="publish")
        return lake

    return make


@pytest.mark.parametrize(
    ("current", "hours", "keep", "removed"),
    [(4, 2, 2, ["R1", "R2"]), (1, 2, 1, ["R2", "R3"]), (4, 0, 1, ["R1", "R2"]), (4, 2, 9, [])],
    ids=["newest", "rolled_back_to_stays", "just_replaced_stays", "all"],
)
def test_old_releases_go_and_what_killed_runs_left(
    releases: Callable[[list[dict[str, Any]]], Lake], current: int, hours: int, keep: int, removed: list[str]
) -> None:
    now = datetime(2024, 4, 1, tzinfo=UTC)
    lake = releases([manifest(n, now - timedelta(hours=hours + 4 - n), current=n == current) for n in range(1, 5)])
    gone = remove_old_releases(lake, keep, now, leftovers=True)
    if removed == ["R2", "R3"]:  # the newest and the one gone back to
        assert gone == ["R3", "R2"]
    else:
        assert sorted(gone) == removed
    stay = sorted({"R1", "R2", "R3", "R4"} - set(gone))
    assert sorted(row["release_id"] for row in rows_of(lake, RELEASE)) == stay
    assert sorted(row["release_id"] for row in rows_of(lake, RATE)) == stay
    assert all(table.layer == "published" for table in PUBLISHED)


def test_the_release_that_readers_used_until_now_stays_an_hour_also_after_a_roll_back(
    releases: Callable[[list[dict[str, Any]]], Lake],
) -> None:
    now = datetime(2024, 4, 1, tzinfo=UTC)
    # R1 was gone back to, then R4 was published.
    lake = releases([manifest(n, now - timedelta(hours=8 - 2 * n), current=n == 4) for n in range(1, 5)])
    assert sorted(remove_old_releases(lake, 1, now, previous="R1")) == ["R2"]
    assert sorted(remove_old_releases(lake, 1, now + timedelta(hours=2), previous="R1")) == ["R1", "R3"]


def test_maintenance_removes_only_what_no_kept_version_needs(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_session: None
) -> None:
    create_table(lake, ACTIVITY_RATE)
    folder = Path(str(lake.location.folder)) / ACTIVITY_RATE.full_name
    for number in range(3):
        lake.append(ACTIVITY_RATE, rates(lake, ("2021-22", f"A{number}", number)), stage="rate")
    lake.replace(ACTIVITY_RATE, rates(lake, ("2022-23", "B", 9)), {YEAR: ["2022-23"]}, stage="rate")
    long_ago = datetime.now().timestamp() - 400 * 24 * 3600
    orphan = folder / "financial_year=2021-22" / "part-left-by-a-kill.parquet"
    orphan.write_bytes(b"x")
    for file in folder.rglob("*.parquet"):
        os.utime(file, (long_ago, long_ago))
    with duckdb_on_delta() as reader:
        reader.execute(f"ATTACH '{folder}' AS contents (TYPE delta, PIN_SNAPSHOT)")
        assert reader.execute("SELECT count(*), sum(activity) FROM contents").fetchall() == [(4, 12)]
        compact = replace(ACTIVITY_RATE, compact=True)
        monkeypatch.setattr(maintain, "TABLES", USED | {compact.full_name: compact})
        where = str(lake.location.folder)
        assert maintain.main(["--lake", where, "--keep-hours", "24"]) == 2
        assert maintain.main(["--lake", where, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert reader.execute("SELECT count(*), sum(activity) FROM contents").fetchall() == [(4, 12)]
    assert not orphan.exists()
    (row,) = [item for item in answer["maintained"] if item["table"] == ACTIVITY_RATE.full_name]
    assert (row["files_before"], row["files"]) == (4, 2)
    # Files of earlier versions are still there, however old: they were let go only now.
    past = Lake(lake.spark, lake.location, as_of={ACTIVITY_RATE.full_name: 2})
    assert past.read(ACTIVITY_RATE).count() == 2
    assert Lake(lake.spark, lake.location).read(ACTIVITY_RATE).count() == 4


def test_logs_keep_no_value_of_a_patient() -> None:
    """Delta writes the lowest and highest value of some columns into its log: of the first 32, unless a table names them."""
    of_records = [t for t in TABLES.values() if {"record_id", "person_id", "approval_id", "raw"} & set(t.names())]
    assert {"prior_approval", "prior_approval_quarantine", "audit_sample", "pathway"} <= {t.name for t in of_records}
    harmless = {
        "activity_date", "operation_date", "source_file", "policy_id", "reading", "dataset", "role", "step_id", "register",
        "audit_id",
    }  # fmt: skip
    for table in of_records:
        assert table.statistics and set(table.statistics) <= harmless, table.full_name


def test_names_cannot_break_out_of_their_quotes(spark: SparkSession) -> None:
    odd = Lake(spark, LakeLocation(catalog="a`b", schemas={"gold": "x` AS y"}))
    assert odd.identifier(ACTIVITY_RATE) == "`a``b`.`x`` AS y`.`activity_rate`"
    in_folder = Lake(spark, LakeLocation(folder=Path("/lake/o`Brien's")))
    assert in_folder.identifier(ACTIVITY_RATE) == "`delta`.`/lake/o``Brien's/gold/activity_rate`"


def test_the_log_tells_of_each_commit_what_it_can_have_changed(lake: Lake) -> None:
    create_table(lake, ACTIVITY_RATE)
    lake.replace(ACTIVITY_RATE, rates(lake, ("2021-22", "A", 3)), {YEAR: ["2021-22"]}, stage="rate")
    lake.append(ACTIVITY_RATE, rates(lake, ("2021-22", "B", 3)), stage="rate")
    lake.spark.sql(f"UPDATE {lake.identifier(ACTIVITY_RATE)} SET activity = 4")
    found = lake.commits(ACTIVITY_RATE, 0)
    assert [(commit.version, commit.operation) for commit in found] == [(1, "WRITE"), (2, "WRITE"), (3, "UPDATE")]
    assert json.loads(found[0].metadata or "null")["years"] == ["2021-22"]
    # The same from Delta itself, which a catalogue lake asks.
    rows = lake.spark.sql(f"DESCRIBE HISTORY {lake.identifier(ACTIVITY_RATE)}").where("version > 0").orderBy("version")
    assert [tuple(row) for row in rows.select("version", "operation", "userMetadata").collect()] == [
        tuple(item) for item in found
    ]


def test_the_hour_that_comes_twice_and_a_clock_set_back(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs at 01:30 and, 40 minutes later, at 01:10 on the night in October when clocks go back; then one whose clock was
    set back by an hour. The log's order is that of the instants; a release that the order hides is seen in the history."""
    for table in (RUN_LOG, BATCH, STAGE_INPUT):
        monkeypatch.setitem(USED, table.full_name, table)
    lake.prepare()
    monkeypatch.setenv("TZ", "Europe/London")
    time.tzset()
    try:

        def ran(run_id: str, started: datetime, disclosure: str) -> None:
            lake.run_id = run_id
            row = manifest(1, started, current=True) | {"release_id": run_id, "run_id": run_id}
            lake.replace(RELEASE, small_frame(lake.spark, [row], RELEASE.schema), {}, stage="publish")
            config = RunConfig(lake=lake.location, disclosure=disclosure)
            record = new_record("publish", config, run_id, None)
            record.outcome, record.versions_written = "done", dict(lake.versions_written)
            inputs = recorded_inputs("publish", config, lake, run_id, None)
            RunHistory(lake, config, run_id).write(record, started, inputs)
            log = {"run_id": run_id, "stage": "publish", "started_at": started, "ended_at": started, "outcome": "done"}
            lake.append(RUN_LOG, small_frame(lake.spark, [log], RUN_LOG.schema), stage="publish")

        ran("summer", datetime(2024, 10, 27, 0, 30, tzinfo=UTC), "hes_2018")
        ran("winter", datetime(2024, 10, 27, 1, 10, tzinfo=UTC), "hes_2018_protected")
        monkeypatch.setitem(READS, "publish", ())
        history = RunHistory(lake, RunConfig(lake=lake.location, disclosure="hes_2018_protected"), "now")
        assert [record.run_id for record in history.state.records] == ["winter", "summer"]
        assert history.why_publish() == []
        ran("set_back", datetime(2024, 10, 27, 0, 10, tzinfo=UTC), "hes_2018")
        history = RunHistory(lake, history.config, "now")
        assert [record.run_id for record in history.state.records] == ["winter", "summer", "set_back"]
        assert history.why_publish() == ["published/release was written by something else"]
        # Around midnight of the last day of a year nothing is taken from the clock but these instants: run ids are UTC.
        monkeypatch.setattr(exit_status, "datetime", _Midnight)
        assert exit_status.new_run_id().startswith("20240331T233000Z-")
    finally:
        monkeypatch.undo()
        time.tzset()


class _Midnight:
    """Half an hour past midnight on 1 April in England, while it is still 31 March in UTC."""

    @staticmethod
    def now(zone: Any = None) -> datetime:
        return datetime(2024, 4, 1, 0, 30, tzinfo=ZoneInfo("Europe/London")).astimezone(zone)
