"""Only the rules: applies every policy to every silver record, one policy at a time, without writing.

The *rule* asks what DuckDB's SQL asks: which records the published reading flags. *Applying* is what :mod:`ebi_spark.stages.flag` does before
it writes: three readings, every reason, the area. Both results are counted, in one session; the first pass of each is not timed.
"""

import argparse
import json
import sys
import time
from functools import partial, reduce
from operator import and_
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console

from ebi_spark.config.load import load_config
from ebi_spark.flags.apply_policies import apply_policies, basis_day
from ebi_spark.geography.record_areas import Lookups, read_lookups
from ebi_spark.policies.code_prefilter import code_prefilter
from ebi_spark.policies.compile import compile_test, holds
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.policies.model import RevisionPeriod
from ebi_spark.tables.silver import RECORD_TABLES
from jobs.exit_status import new_run_id
from jobs.harness import opened


def main(argv: list[str] | None = None) -> int:
    """Apply the policies to silver ``--repeat`` times; print seconds and hits by policy as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.rule_pass", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args(argv)
    config = load_config(given.config).with_options(lake=given.lake)
    seconds: dict[str, dict[str, list[float]]] = {"rule": {}, "applying": {}}
    hits: dict[str, dict[str, int]] = {"rule": {}, "applying": {}}
    with opened(config, Console(stderr=True), new_run_id()) as context:
        lookups = read_lookups(context.spark, config)
        for unit in revision_periods(load_policies(config.policy_dirs, config.policies), config):
            if unit.policy.boards:
                continue
            records = context.lake.read(RECORD_TABLES[unit.policy.dataset])
            counts = {"rule": partial(_ruled, records, unit), "applying": partial(_applied, records, unit, lookups)}
            for kind, count in counts.items():
                times = []
                for _ in range(given.repeat + 1):
                    started = time.monotonic()
                    hits[kind][unit.policy.id] = count()
                    times.append(time.monotonic() - started)
                seconds[kind][unit.policy.id] = times[1:]
    if hits["rule"] != hits["applying"]:
        print(
            f"benchmarks.rule_pass: the rule and the applied policy flag different numbers of records: {hits}",
            file=sys.stderr,
        )
        return 3
    print(json.dumps({"seconds": seconds, "hits": hits}))
    return 0


def _ruled(records: DataFrame, unit: RevisionPeriod) -> int:
    """Records that the policy flags as published, by a plain condition."""
    dataset, revision = unit.policy.dataset, unit.revision
    day = basis_day(dataset)
    span = [day >= unit.since if unit.since else F.lit(True), day < unit.until if unit.until else F.lit(True)]
    clauses = [
        F.coalesce(holds(clause, dataset), F.lit(clause.missing == "passes"))
        for clause in revision.readings["as_published"].deciding
    ]
    scope = [compile_test(revision.scope_test, dataset)]
    need = code_prefilter(revision.scope_test, dataset)
    if need:  # the prefilter that applying policies begins with too
        scope = [F.col(need.column).isNotNull(), need.may_match, *scope]
    return records.where(reduce(and_, [*scope, *span, *clauses])).count()


def _applied(records: DataFrame, unit: RevisionPeriod, lookups: Lookups) -> int:
    """The same from the full result: every reading and every reason."""
    flags = apply_policies(records, unit.policy.dataset, [unit], lookups)
    counts = flags.groupBy("reading", "outcome", F.size("failed_clauses").alias("failed")).count().collect()
    return sum(row["count"] for row in counts if (row["reading"], row["outcome"]) == ("as_published", "flagged"))


if __name__ == "__main__":
    sys.exit(main())
