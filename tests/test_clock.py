"""Where the clock is read: for the names and times of runs and releases, and once for the day of the run, after which no
date of activity can be true. No year is made of it. A run across the midnight that
ends a financial year is in `test_killed.py`, the night when clocks go back in `test_lake.py`."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted([*(ROOT / "ebi_spark").rglob("*.py"), *(ROOT / "jobs").rglob("*.py")])
LOOKS = re.compile(r"\.(now|today|utcnow|localtime|gmtime)$|(^|\.)time\.time$")
IN_SPARK = re.compile(
    r"\b(current_date|current_timestamp|curdate|localtimestamp|unix_timestamp|getdate)\b|(?<!datetime\.)\bnow\(\)", re.I
)
# What for. Whoever adds one says here why no row of a year can come of it.
INSTANTS = {
    "ebi_spark/records/ingest_audit.py": "silver/ingest_audit: written_at",
    "ebi_spark/case_audit/audit.py": "when a sample was drawn and a form was taken",
    "ebi_spark/lake/locking.py": "since when a process runs, for the message to whoever waits",
    "ebi_spark/lake/staging_area.py": "which tables a killed run has left staged in a catalogue",
    "ebi_spark/release/publish.py": "released_at",
    "ebi_spark/release/retention.py": "how long ago a release was replaced; how old the oldest version to keep is",
    "ebi_spark/config/activity_dates.py": "the day of the run, after which no activity can be: recorded with it, and used when it is gone over",
    "ebi_spark/stages/run_context.py": "the run log's times",
    "jobs/exit_status.py": "run ids",
    "jobs/harness.py": "lines of progress",
    "jobs/status.py": "whether a policy's source has to be looked at again",
}


def _called(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def test_the_clock_is_read_for_instants_alone() -> None:
    found = {p.relative_to(ROOT).as_posix() for p in MODULES if any(LOOKS.search(name) for name in _called(p))}
    assert found == set(INSTANTS)


def test_spark_is_not_asked_for_the_time() -> None:
    """Neither in a module nor in the checks and policies."""
    texts = [*MODULES, *(ROOT / "expectations").rglob("*.yml"), *(ROOT / "conf").rglob("*.yml")]
    assert len(texts) > len(MODULES) + 20
    assert [path.name for path in texts if IN_SPARK.search(path.read_text(encoding="utf-8"))] == []
