"""What Spark did while a job ran, counted from its event log: jobs, scans of each table, files and bytes."""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

_PLACE = re.compile(r"\[?file:(?P<path>/[^\],]*)")


@dataclass
class Work:
    """``scans``: by the folder or file that was read, how often some query of the job scanned it."""

    jobs: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    scans: Counter[str] = field(default_factory=Counter)

    def scans_of(self, folder: Path) -> int:
        """Scans of what lies in a folder."""
        return sum(count for path, count in self.scans.items() if path == str(folder) or path.startswith(f"{folder}/"))


@contextlib.contextmanager
def counted(spark: SparkSession, folder: Path) -> Iterator[Work]:
    """Count what Spark does inside; the numbers are complete once the block has ended."""
    folder.mkdir()
    context = spark.sparkContext._jsc.sc()
    jvm: Any = spark.sparkContext._jvm
    listener = jvm.org.apache.spark.scheduler.EventLoggingListener(
        "counted",
        jvm.scala.Option.empty(),
        jvm.java.net.URI(folder.as_uri()),
        context.conf().clone().set("spark.eventLog.compress", "false").set("spark.eventLog.rolling.enabled", "false"),
        context.hadoopConfiguration(),
    )
    listener.start()
    context.addSparkListener(listener)
    work = Work()
    try:
        yield work
        context.listenerBus().waitUntilEmpty()
    finally:
        context.removeSparkListener(listener)
        listener.stop()
    for path in folder.iterdir():
        if path.is_file() and not path.name.startswith("."):
            with path.open(encoding="utf-8") as lines:
                count(lines, work)


def count(lines: Iterator[str], work: Work) -> None:
    """Add the events of a log to the counts."""
    # A plan is adapted while it runs: what it came to in the end shows which results were used again.
    plans: dict[int, dict[str, Any]] = {}
    for line in lines:
        event = json.loads(line)
        kind = event["Event"].rsplit(".", 1)[-1]
        if kind == "SparkListenerJobStart":
            work.jobs += 1
        elif kind == "SparkListenerTaskEnd":
            metrics = event.get("Task Metrics") or {}
            work.bytes_read += metrics.get("Input Metrics", {}).get("Bytes Read", 0)
            work.bytes_written += metrics.get("Output Metrics", {}).get("Bytes Written", 0)
        elif kind in ("SparkListenerSQLExecutionStart", "SparkListenerSQLAdaptiveExecutionUpdate"):
            plans[event["executionId"]] = event["sparkPlanInfo"]
    for plan in plans.values():
        _scans(plan, work)


def _scans(plan: dict[str, Any], work: Work) -> None:
    place = plan.get("metadata", {}).get("Location")
    if place:
        found = _PLACE.search(place)
        work.scans[found["path"] if found else place] += 1
    for child in plan["children"]:
        _scans(child, work)
