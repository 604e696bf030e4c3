"""Real runs stopped and killed: nothing is lost, nothing stands twice, and readers see whole releases throughout."""

import json
import os
import signal
from pathlib import Path

import pytest
from calling import call
from pyspark.sql import SparkSession
from real_runs import SECRET, RealRun, end_state, fault_at, leaks, lives, releases_are_whole, seed_secrets, until_gone

from ebi_spark import synthetic
from ebi_spark.locking import LOCK
from jobs import run

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("one_session")]


@pytest.fixture(scope="module")
def source(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "source"
    synthetic.generate(
        spark, folder, years=["2021-22"], spells=1_200, attendances=2_500, seed=7, system="sus_plus",
        file_format="csv", progress=lambda _: None,
    )  # fmt: skip
    assert seed_secrets(folder / "data") > 500
    return folder


def test_a_run_that_is_stopped_or_killed_is_taken_up_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = source / "lake"
    lock = lake / "silver" / LOCK

    # Asked to stop (SIGTERM to Python alone, as a scheduler does) in the middle of writing silver.
    stopped = RealRun(source, "silver/apc_spell", "before")
    stopped.until()
    java = stopped.java()
    held = json.loads(lock.read_text(encoding="utf-8"))
    assert [item["pid"] for item in held["processes"]] == [stopped.process.pid, java]
    second = call(run.main, source)
    assert (second["exit"], second["outcome"]) == (2, "refused")
    assert f"process {stopped.process.pid} " in second["error"]["message"]
    os.kill(stopped.process.pid, signal.SIGTERM)
    assert stopped.ended() == 130
    until_gone(java)
    told = json.loads(stopped.text().splitlines()[0])
    assert (told["outcome"], told["exit"]) == ("interrupted", 130)
    assert "Traceback" not in stopped.text()
    assert not lock.exists()
    assert not list((lake / "silver" / "_scratch").glob("spark-*"))

    # The whole process group killed between two commits of one stage.
    killed = RealRun(source, "gold/activity_flag", "after")
    killed.until()
    java = killed.java()
    killed.kill_all()
    until_gone(java)
    assert lock.exists()
    assert releases_are_whole(lake) == []
    # Nobody else gets into what these processes wrote.
    for layer in ("silver", "gold", "silver/_scratch"):
        assert (lake / layer).stat().st_mode & 0o077 == 0, layer

    # An error in this process, before a commit and after one; each time the stage that it broke is done again.
    for table, when, stage_broken in (
        ("gold/policy_attrition", "before", "flag"), ("gold/rate_variation", "after", "rate"),
    ):  # fmt: skip
        with fault_at(monkeypatch, table, when) as met:
            broken = call(run.main, source)
        assert (met, broken["exit"], broken["outcome"]) == ([table], 3, "broken")
        assert "Fault" in broken["error"]["message"]
        assert broken["stages"][-1]["name"] == stage_broken
        assert [stage["name"] for stage in broken["stages"] if stage.get("skipped")] == ["ingest"]
        assert releases_are_whole(lake) == []

    # Python killed before the release is named, while Java lives on: the lake stays locked until that is gone too.
    orphaned = RealRun(source, "published/release", "before")
    orphaned.until()
    java = orphaned.java()
    os.kill(java, signal.SIGSTOP)
    orphaned.process.kill()
    orphaned.process.wait()
    second = call(run.main, source)
    assert second["exit"] == 2
    assert f"process {java} (java, started " in second["error"]["message"]
    assert str(orphaned.process.pid) not in second["error"]["message"]
    os.kill(java, signal.SIGCONT)
    until_gone(java)
    assert not lives(java)
    assert len(releases_are_whole(lake)) <= 1

    # An error behind the very last commit: the release stands whole, and the run that follows makes it anew.
    with fault_at(monkeypatch, "published/release", "after"):
        broken = call(run.main, source)
    assert broken["exit"] == 3
    assert releases_are_whole(lake)[0] == broken["run_id"]

    # The same call goes on from there, and comes to where a run that nobody disturbed comes to.
    rest = call(run.main, source)
    assert rest["outcome"] == "done", rest["error"]
    assert "ingest" in [stage["name"] for stage in rest["stages"] if stage.get("skipped")]
    disturbed = end_state(lake)
    assert all(disturbed[name] for name in ("silver/apc_spell", "gold/activity_flag", "published/rate"))
    assert call(run.main, source, "--force")["outcome"] == "done"
    assert end_state(lake) == disturbed
    assert releases_are_whole(lake)

    # None of the seeded values stands in anything printed or written but the records themselves, which do hold them.
    assert SECRET in str(disturbed["silver/apc_spell"])
    assert SECRET in str(disturbed["silver/quarantine"])
    assert leaks(lake, stopped.text(), killed.text(), orphaned.text(), str(second), str(rest)) == []
