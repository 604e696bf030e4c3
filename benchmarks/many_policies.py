"""Applies many policies at once: 2, 10, 50 or 100 of them to all silver records, without writing.

The policies are the shipped ones with other procedures: made up, half of them over spells and half over attendances. It
does what :mod:`ebi_spark.stages.flag` does before it writes (three readings, the reasons, decisions flipped, areas, attrition's step
0), in one session; the first pass of each number is not counted. With more policies, more records are in scope of at least one: the
answer says how many rows each pass produced.
"""

import argparse
import copy
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console

from ebi_spark.config.load import load_config
from ebi_spark.config.shipped_files import resource
from ebi_spark.config.yaml_documents import load_document
from ebi_spark.flags.apply_policies import apply_policies, scope_totals
from ebi_spark.geography.record_areas import Lookups, read_lookups
from ebi_spark.policies.code_books import code_books
from ebi_spark.policies.load import load_policies, revision_periods
from ebi_spark.tables.silver import RECORD_TABLES
from jobs.exit_status import new_run_id
from jobs.harness import opened

SHIPPED = ("2Y_back_pain_fusion", "2S_lower_back_imaging")
CODES_A_POLICY = 6


def write_policies(folder: Path, number: int, seed: int = 1) -> None:
    """``number`` policies as YAML files: the two shipped ones in turn, each with its own procedures."""
    draws = random.Random(seed)
    codes = sorted(code for code in code_books()["opcs4"].codes if code[0] not in "OXYZ")
    schema = resource("conf", "policy.schema.json")
    sources = [load_document(resource("conf", "policies") / f"{name}.yml", schema, what="policy") for name in SHIPPED]
    for n in range(number):
        document: dict[str, Any] = copy.deepcopy(sources[n % 2])
        document["id"] = f"made_up_{n:03d}"
        clauses = document["revisions"][0]["clauses"]
        if n >= len(SHIPPED):  # the first two are the shipped ones themselves
            drawn = draws.sample(codes, CODES_A_POLICY)
            if document["dataset"] == "apc":
                clauses[0]["require"]["starts_with"] = drawn
            else:
                clauses[0]["require"]["any_of"][0]["contains"] = drawn[:3]
                clauses[0]["require"]["any_of"][1]["all_of"][0]["contains"] = drawn[3:]
        (folder / f"{document['id']}.yml").write_text(
            yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )


def main(argv: list[str] | None = None) -> int:
    """Apply each number of policies to silver ``--repeat`` times; print seconds and rows as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.many_policies", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--lake", required=True)
    parser.add_argument("--numbers", default="2,10,50,100")
    parser.add_argument("--repeat", type=int, default=1)
    given = parser.parse_args(argv)
    numbers = [int(number) for number in given.numbers.split(",")]
    config = load_config(given.config).with_options(lake=given.lake)
    answer: dict[str, dict[str, Any]] = {"seconds": {}, "load_seconds": {}, "rows": {}}
    with (
        tempfile.TemporaryDirectory(prefix="ebi-spark-policies-") as folder,
        opened(config, Console(stderr=True), new_run_id()) as context,
    ):
        write_policies(Path(folder), max(numbers))
        started = time.monotonic()
        made_up = [policy for policy in load_policies([Path(folder)]) if policy.id.startswith("made_up")]
        answer["load_seconds"][str(len(made_up))] = time.monotonic() - started
        lookups = read_lookups(context.spark, config)
        silver = {dataset: context.lake.read(table) for dataset, table in RECORD_TABLES.items()}
        for number in numbers:
            chosen = revision_periods(made_up[:number], config)
            times = []
            for _ in range(given.repeat + 1):
                started = time.monotonic()
                answer["rows"][str(number)] = sum(_pass(frame, name, chosen, lookups) for name, frame in silver.items())
                times.append(time.monotonic() - started)
            answer["seconds"][str(number)] = times[1:]
    print(json.dumps(answer))
    return 0


def _pass(records: DataFrame, dataset: str, chosen: list[Any], lookups: Lookups) -> int:
    """Flags and step 0 of the attrition of one dataset; returns the number of rows."""
    flags = apply_policies(records, dataset, chosen, lookups)
    counts = flags.groupBy(
        "policy_id", "reading", "outcome", F.size("failed_clauses"), F.size("decisive_decisions")
    ).count()
    scope_totals(records, dataset, chosen).collect()
    return sum(row["count"] for row in counts.collect())


if __name__ == "__main__":
    sys.exit(main())
