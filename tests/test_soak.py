"""Faults that take long to go through (`make soak`): a request to stop, kills at random moments, an error at every commit, a
full disk."""

import json
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import call
from pyspark.sql import SparkSession
from real_runs import LOGS, RealRun, end_state, faults_at, releases_are_whole, until_gone

from ebi_spark import synthetic
from ebi_spark.lake.locking import LOCK
from ebi_spark.tables.schemas import TABLES
from jobs import run

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("one_session")]

KILLS = int(os.environ.get("EBI_SPARK_SOAK_KILLS", "20"))
# Every table that a run commits to, in the order of the stages.
COMMITTED = [name for name in TABLES if name not in LOGS]


@pytest.fixture
def source(spark: SparkSession, tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    synthetic.generate(
        spark, folder, years=["2021-22", "2022-23"], spells=2_500, attendances=5_000, seed=7, system="sus_plus",
        file_format="csv", progress=lambda _: None,
    )  # fmt: skip
    return folder


def comes_to_the_undisturbed_end(source: Path) -> None:
    """The same call ends the run; what it leaves is what a run leaves in a lake that nobody disturbed."""
    rest = call(run.main, source)
    assert rest["outcome"] == "done", rest["error"]
    assert call(run.main, source, "--lake", str(source / "undisturbed"))["outcome"] == "done"
    assert end_state(source / "lake") == end_state(source / "undisturbed")


def change_a_file_of_each_table(source: Path) -> None:
    """The last row of one file of each source table goes, so that a run has all its stages to do."""
    for table in sorted(path for path in (source / "data").iterdir() if path.is_dir()):
        file = max(table.rglob("*.csv"), key=lambda path: path.stat().st_size)
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:-1]))


def test_a_run_that_is_asked_to_stop(source: Path) -> None:
    """SIGTERM to Python alone, as a scheduler does, in the middle of writing silver: no lock and no scratch files remain."""
    lock = source / "lake/silver" / LOCK
    stopped = RealRun(source, "silver/apc_spell", "before")
    stopped.until()
    java = stopped.java()
    lock_file = json.loads(lock.read_text(encoding="utf-8"))
    assert [item["pid"] for item in lock_file["processes"]] == [stopped.process.pid, java]
    second = call(run.main, source)
    assert (second["exit"], second["outcome"]) == (2, "refused")
    assert f"process {stopped.process.pid} " in second["error"]["message"]
    os.kill(stopped.process.pid, signal.SIGTERM)
    assert stopped.ended() == 130
    until_gone(java)
    answer = json.loads(stopped.text().splitlines()[0])
    assert (answer["outcome"], answer["exit"]) == ("interrupted", 130)
    assert "Traceback" not in stopped.text()
    assert not lock.exists()
    assert not list((source / "lake/silver/_scratch").glob("spark-*"))
    comes_to_the_undisturbed_end(source)


def test_kills_at_random_moments(source: Path) -> None:
    seed = int(os.environ.get("EBI_SPARK_SOAK_SEED", random.randrange(1 << 30)))
    print(f"EBI_SPARK_SOAK_SEED={seed}")
    draw = random.Random(seed)
    began = time.monotonic()
    whole = RealRun(source)
    assert whole.ended() == 0, whole.text()
    length = time.monotonic() - began
    for number in range(KILLS):
        change_a_file_of_each_table(source)
        killed = RealRun(source)
        time.sleep(draw.uniform(1, length))
        if killed.process.poll() is None:
            try:
                java = killed.java()
            except AssertionError:  # not started yet
                java = None
            if draw.random() < 0.5:
                killed.kill_all()
            else:
                killed.process.kill()
                killed.process.wait()
            if java:
                until_gone(java)
        assert releases_are_whole(source / "lake"), (seed, number)
    comes_to_the_undisturbed_end(source)


def faults() -> Iterator[tuple[str, str]]:
    for table in COMMITTED:
        for when in ("before", "after"):
            yield table, when


def test_an_error_before_and_after_every_commit(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = []
    for table, when in faults():
        with faults_at(monkeypatch, {table: when}) as met:
            answer = call(run.main, source)
        if met:  # a table that this run does not write is passed over
            raised.append((table, when))
            assert answer["exit"] == 3, (table, when)
        else:
            assert answer["outcome"] == "done", answer["error"]
            change_a_file_of_each_table(source)
        releases_are_whole(source / "lake")
    assert len(raised) > 20
    comes_to_the_undisturbed_end(source)


def test_a_full_disk(source: Path) -> None:
    """No file may grow beyond 40 kB: what Spark writes breaks off in the middle."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    options: dict[str, Any] = {"preexec_fn": limited}
    full = RealRun(source, **options)
    assert full.ended() == 3, full.text()
    assert "run the same command again" in full.text()
    assert releases_are_whole(source / "lake") == []
    comes_to_the_undisturbed_end(source)
