"""Only the rules: applies every policy to every silver record, one policy at a time, without writing.

The *rule* asks what DuckDB's SQL asks: which records the published reading flags. *Applying* is what :mod:`ebi_spark.stages.flag` does before
it writes: three readings, every reason, the area. Each record is read by the revision in force on its day, and a pass is over all revisions
of a policy. Both results are counted, in one session; the first pass of each is not timed.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from functools import partial, reduce
from itertools import groupby
from operator import and_, or_
from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from rich.console import Console

from ebi_spark.config.load import load_config
from ebi_spark.flags.apply_policies import apply_policies, basis_day
from ebi_spark.geography.record_areas import Lookups, read_lookups
from ebi_spark.policies.code_prefilter import code_prefilter
from ebi_spark.policies.compile import compile_test, holds
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.policies.model import Clause, RevisionPeriod, Test
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
        every_unit = revision_periods(load_policies(config.policy_dirs, config.policies), config)
        for policy, periods in groupby(every_unit, lambda unit: unit.policy):
            units = list(periods)
            if policy.boards:
                continue
            records = context.lake.read(RECORD_TABLES[policy.dataset])
            counts = {"rule": partial(_ruled, records, units), "applying": partial(_applied, records, units, lookups)}
            for kind, count in counts.items():
                times = []
                for _ in range(given.repeat + 1):
                    started = time.monotonic()
                    hits[kind][policy.id] = count()
                    times.append(time.monotonic() - started)
                seconds[kind][policy.id] = times[1:]
    if hits["rule"] != hits["applying"]:
        print(
            f"benchmarks.rule_pass: the rule and the applied policy flag different numbers of records: {hits}",
            file=sys.stderr,
        )
        return 3
    print(json.dumps({"seconds": seconds, "hits": hits}))
    return 0


def _ruled(records: DataFrame, units: list[RevisionPeriod]) -> int:
    """Records that the policy flags as published, by a plain condition. Revisions that ask for the same codes share theirs."""
    dataset = units[0].policy.dataset
    conditions: dict[tuple[Test, tuple[Clause, ...]], list[Column]] = {}
    for unit in units:
        asked = (unit.revision.scope_test, unit.revision.readings["as_published"].deciding)
        conditions.setdefault(asked, []).append(_in_force(unit))
    ruled = [
        _all([*_scope(scope, dataset), reduce(or_, spans), *(_through(clause, dataset) for clause in deciding)])
        for (scope, deciding), spans in conditions.items()
    ]
    return records.where(reduce(or_, ruled)).count()


def _scope(scope: Test, dataset: str) -> list[Column]:
    """The conditions of a scope, after the prefilter that applying policies begins with too."""
    need = code_prefilter(scope, dataset)
    before = [F.col(need.column).isNotNull(), need.may_match] if need else []
    return [*before, compile_test(scope, dataset)]


def _in_force(unit: RevisionPeriod) -> Column:
    day = basis_day(unit.policy.dataset)
    return _all([day >= unit.since if unit.since else F.lit(True), day < unit.until if unit.until else F.lit(True)])


def _through(clause: Clause, dataset: str) -> Column:
    return F.coalesce(holds(clause, dataset), F.lit(clause.missing == "passes"))


def _all(conditions: Iterable[Column]) -> Column:
    return reduce(and_, conditions)


def _applied(records: DataFrame, units: list[RevisionPeriod], lookups: Lookups) -> int:
    """The same from the full result: every reading and every reason."""
    flags = apply_policies(records, units[0].policy.dataset, units, lookups)
    counts = flags.groupBy("reading", "outcome", F.size("failed_clauses").alias("failed")).count().collect()
    return sum(row["count"] for row in counts if (row["reading"], row["outcome"]) == ("as_published", "flagged"))


if __name__ == "__main__":
    sys.exit(main())
