"""The rule pass alone: every silver record judged by every policy, nothing written.

It does what :mod:`jobs.flag` does before it writes (three readings, the reasons, the area), a policy at a time as the
SQL beside it does, and counts the outcomes, in one session: the first pass is not counted.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console

from ebi_spark.canonical.ingest import SILVER
from ebi_spark.clinical_policy.load import load_policies, units
from ebi_spark.clinical_policy.model import Unit
from ebi_spark.flags.areas import Lookups, read_lookups
from ebi_spark.flags.judge import judge_records
from ebi_spark.settings import load_config
from jobs.harness import new_run_id, opened


def main(argv: list[str] | None = None) -> int:
    """Judge silver ``--repeat`` times and print seconds and hits by policy as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.rule_pass", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args(argv)
    config = load_config(given.config).with_options(lake=given.lake)
    seconds: dict[str, list[float]] = {}
    hits: dict[str, int] = {}
    with opened(config, Console(stderr=True), new_run_id()) as context:
        lookups = read_lookups(context.spark, config)
        for unit in units(load_policies(config.policy_dirs, config.policies), config):
            if unit.policy.boards:
                continue
            records = context.lake.read(SILVER[unit.policy.dataset])
            times = []
            for _ in range(given.repeat + 1):
                started = time.monotonic()
                hits[unit.policy.id] = _flagged(records, unit, lookups)
                times.append(time.monotonic() - started)
            seconds[unit.policy.id] = times[1:]
    print(json.dumps({"seconds": seconds, "hits": hits}))
    return 0


def _flagged(records: DataFrame, unit: Unit, lookups: Lookups) -> int:
    """Records that the policy flags as published; every reading is judged and every reason kept."""
    flags = judge_records(records, unit.policy.dataset, [unit], lookups)
    counts = flags.groupBy("reading", "outcome", F.size("failed_clauses").alias("failed")).count().collect()
    return sum(row["count"] for row in counts if (row["reading"], row["outcome"]) == ("as_published", "flagged"))


if __name__ == "__main__":
    sys.exit(main())
