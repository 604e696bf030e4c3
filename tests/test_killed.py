"""Runs killed, and broken at a commit of each stage (with `make soak`, at every commit): the same call goes on, nothing is
lost, nothing is there twice, and readers see whole releases. `make soak` has longer ones too (`test_soak.py`)."""

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from calling import all_checks_pass, call, delta_rows
from pyspark.sql import SparkSession
from real_runs import (
    SECRET,
    RealRun,
    end_state,
    faults_at,
    leaks,
    lives,
    releases_are_whole,
    seed_secrets,
    until_gone,
)

from ebi_spark import synthetic
from ebi_spark.lake.locking import LOCK
from ebi_spark.release.publish import PUBLISHED
from ebi_spark.stages import validate as stages_validate
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.star import DIM_STATUS, STAR_TABLES
from ebi_spark.validation import check_layers
from jobs import run

pytestmark = pytest.mark.usefixtures("one_session")

STAGES = ["ingest", "flag", "rate", "monitor", "validate", "publish"]
# The commits of a run in their order; those of one line are made side by side. Between two lines nothing is written: to stop
# after the one leaves the lake as to stop before the other does, and so one stop is enough for both.
RECORDED = [["gold/stage_input", "gold/batch"], ["gold/run_log"]]
COMMITS = {
    "ingest": [
        ["silver/repeated_row"],
        ["silver/apc_spell", "silver/op_attendance", "silver/quarantine"],
        ["silver/ingest_audit"],
        *RECORDED,
    ],
    "flag": [
        ["gold/activity_flag"],
        ["gold/policy_attrition", "gold/policy"],
        ["gold/policy_sensitivity", "gold/policy_comparison"],
        *RECORDED,
    ],
    "rate": [
        ["silver/population", "gold/provider_month", "gold/record_quality"],
        ["gold/activity_rate", "gold/activity_month", "gold/unmapped_area"],
        ["gold/rate_variation"],
        *RECORDED,
    ],
    # What changed from year to year is computed beside the approvals and the care. So its commits may come at any time.
    "monitor": [
        ["gold/code_use", "gold/activity_count", "gold/activity_change", "gold/equality_rate"],
        ["silver/prior_approval_quarantine"],
        ["silver/prior_approval"],
        ["gold/approval_match"],
        ["gold/approval_unused"],
        ["gold/regime_change"],
        ["gold/pathway_step"],
        ["gold/pathway"],
        ["gold/pathway_incidence"],
        ["gold/linked_measure"],
        *RECORDED,
    ],
    "validate": RECORDED,
    "publish": [
        [table.full_name for table in PUBLISHED],
        ["published/release"],
        [table.full_name for table in STAR_TABLES if table is not DIM_STATUS],
        [DIM_STATUS.full_name],
        *RECORDED,
    ],
}
# The lines after which the usual suite breaks each stage: most tables are written there. (Before `validate` can break, `monitor`
# must have ended. After its first line it has a batch and no row of the log.) Before the manifest of a release a process is killed.
USUAL = {"ingest": [1], "flag": [1], "rate": [1], "monitor": [6, 11], "validate": [0, 1], "publish": [1]}


class Clock(datetime):
    """A minute before midnight on 31 March 2024 in England (summer time began that day), and seven minutes later at each
    look, so that a run goes past midnight there and in UTC."""

    looks = 0

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        cls.looks += 1
        return (datetime(2024, 3, 31, 22, 59, tzinfo=UTC) + (cls.looks - 1) * timedelta(minutes=7)).astimezone(tz)


@pytest.fixture(scope="module")
def source(spark: SparkSession, empty_lake: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "source of blanks"  # Java gets paths below it
    synthetic.generate(
        spark, folder, years=["2021-22"], spells=900, attendances=300, seed=7, system="sus_plus",
        file_format="csv", progress=lambda _: None,
    )  # fmt: skip
    assert seed_secrets(folder / "data") > 500
    with (folder / "run.yml").open("a", encoding="utf-8") as file:
        file.write("policies: [2Y_back_pain_fusion]\nmax_quarantine_share: 0.2\n")
    for name in ("lake", "undisturbed"):
        empty_lake(folder / name)
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, one_session: None) -> dict[str, list[tuple[Any, ...]]]:
    """What a run leaves that nobody disturbs, in a lake of its own and across the midnight when the financial year ends."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith(("ebi_spark.", "jobs.")) and getattr(module, "datetime", None) is datetime:
                patch.setattr(module, "datetime", Clock)
        done = call(run.main, source, "--lake", str(source / "undisturbed"))
    assert done["outcome"] == "done", done["error"]
    assert done["run_id"].startswith("20240331T225900Z-")
    assert Clock.now(UTC).date() > datetime(2024, 3, 31).date()
    state = end_state(source / "undisturbed")
    empty = {name for name, rows in state.items() if not rows}
    few = {
        "silver/withdrawn_record",
        "gold/policy_comparison",
        "gold/unmapped_area",
        "published/variation",
        "published/days_between",
        # One year, few operations and no audit.
        "published/approval_summary",
        "gold/activity_change",
        "gold/audit_sample",
        "gold/audit_result",
        "gold/audit_estimate",
        "published/activity_change",
        "published/audit_estimate",
    }
    assert empty <= few, empty
    return state


@pytest.mark.parametrize("every_commit", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_run_that_is_killed_or_broken_is_taken_up_again(
    every_commit: bool,
    source: Path,
    undisturbed: dict[str, list[tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake = source / "lake"
    printed = []
    unfinished: set[str] = set()  # the stage that the last break left before its last commit
    # Checks take half of a run and commit nothing; the undisturbed run goes through them.
    monkeypatch.setattr(check_layers, "validate_layers", all_checks_pass)
    monkeypatch.setattr(stages_validate, "validate_layers", all_checks_pass)

    def breaks(stage: str, strikes: dict[str, str]) -> None:
        """The run takes up where the last one stopped, does over no stage that had ended, and breaks in its turn."""
        with faults_at(monkeypatch, strikes) as met:
            broken = call(run.main, source)
        assert (met, broken["exit"], broken["outcome"]) == (set(strikes), 3, "broken"), strikes
        assert "Fault" in broken["error"]["message"]
        assert "run the same command again" in broken["error"]["remedy"]
        assert broken["stages"][-1]["name"] == stage
        ended = [name for name in STAGES[: STAGES.index(stage)] if name not in unfinished]
        assert [item["name"] for item in broken["stages"] if item.get("skipped")] == ended
        printed.append(str(broken))
        named = [broken["run_id"]] if "published/release" in met else []
        assert releases_are_whole(lake) == named

    def breaks_after_lines(stage: str, lines: list[int]) -> None:
        for line in lines if every_commit else [line for line in lines if line in USUAL[stage]]:
            breaks(stage, dict.fromkeys(COMMITS[stage][line], "after"))
            unfinished.clear()
            if line < len(COMMITS[stage]) - 1:
                unfinished.add(stage)

    if every_commit:
        breaks("ingest", {"silver/repeated_row": "before"})

    # The whole process group killed after the first commit of ingest.
    killed = RealRun(source, "silver/repeated_row", "after", compiled=False)
    killed.until()
    java = killed.java()
    killed.kill_all()
    until_gone(java)
    assert (lake / "silver" / LOCK).exists()
    assert releases_are_whole(lake) == []
    # Nobody else gets into what these processes wrote.
    for layer in ("silver", "gold", "silver/_scratch"):
        assert (lake / layer).stat().st_mode & 0o077 == 0, layer

    breaks_after_lines("ingest", [*range(1, len(COMMITS["ingest"]))])
    for stage in ("flag", "rate", "monitor", "validate"):
        breaks_after_lines(stage, [*range(len(COMMITS[stage]))])

    # Python killed while the tables of a release are written side by side and Java lives on: the lake stays locked until
    # that is gone too.
    orphaned = RealRun(source, "published/quality", "before", compiled=False)
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
    assert releases_are_whole(lake) == []

    # After the very last commit the release is whole, and the run that follows makes another one.
    breaks_after_lines("publish", [0, 1])

    rest = call(run.main, source)
    assert rest["outcome"] == "done", rest["error"]
    assert len(releases_are_whole(lake)) == 2
    assert end_state(lake) == undisturbed
    log = delta_rows(lake / "gold/run_log", "stage", "outcome = 'done'")
    assert Counter(stage for (stage,) in log) == dict.fromkeys(STAGES, 1)

    # None of the seeded values is in anything printed or written but the records themselves, which do contain them.
    assert SECRET in str(undisturbed["silver/apc_spell"])
    assert SECRET in str(undisturbed["silver/quarantine"])
    for name in ("silver/prior_approval", "silver/prior_approval_quarantine", "gold/approval_unused"):
        assert SECRET in str(undisturbed[name]), name
    printed += [killed.text(), orphaned.text(), str(second), str(rest)]
    assert leaks(lake, *printed) == leaks(source / "undisturbed") == []
    planted = lake / "gold/policy_attrition/_delta_log/planted.json"
    planted.write_text(f'{{"minValues": {{"person_id": "{SECRET}P9"}}}}', encoding="utf-8")
    assert [found.split(":")[0] for found in leaks(lake)] == [planted.relative_to(lake).as_posix()]


def test_every_table_that_a_run_commits_to_is_struck() -> None:
    struck = {table for lines in COMMITS.values() for tables in lines for table in tables}
    # Written by upserts and by an audit.
    others = {"silver/withdrawn_record", "gold/audit_sample", "gold/audit_result", "gold/audit_estimate"}
    assert struck == set(TABLES) - others
