"""Checks every table of a layer. All must pass before anything is published.

Silver, flags, gold rates and monitoring: each suite in ``expectations/`` states the checks of one table. Spark counts the
violations of all checks of a layer in one or two queries. Great Expectations then evaluates these counts, on pandas. No patient's
value can therefore reach its results, log or pages, and a hundred checks do not need a hundred Spark jobs.

Published tables have figures only, a few thousand rows. What Great Expectations can express about one of them is a suite in
its own format in ``expectations/published/``. It evaluates the rows itself, on pandas. Spark counts the comparisons with other
tables, and the few conditions that it cannot express, as above.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame

from ebi_spark.errors import BrokenRunError
from ebi_spark.lake.storage import Lake
from ebi_spark.tables.table import Table
from ebi_spark.threads import run_in_threads
from ebi_spark.validation import native_suites
from ebi_spark.validation.page import write_page
from ebi_spark.validation.result import FailedCheck, LayerResult
from ebi_spark.validation.suites import LAYER_SUITES, Suite, load_suite
from ebi_spark.validation.violations import OUR_FAULT, ViolationCounter, Violations

ROW_COUNT = "expect_table_row_count_to_equal"
IN_SET = "expect_column_values_to_be_in_set"


def validate_layer(
    lake: Lake,
    layer: str,
    *,
    years: list[str] | None,
    release_id: str | None = None,
    docs: Path | None,
    progress: Callable[[str], None],
    staged: Mapping[Table, DataFrame] | None = None,
    staged_rows: Mapping[Table, pa.Table] | None = None,
) -> LayerResult:
    """Check one layer, as :func:`validate_layers` does."""
    results = validate_layers(
        lake,
        (layer,),
        years=years,
        release_id=release_id,
        docs=docs,
        progress=progress,
        staged=staged,
        staged_rows=staged_rows,
    )
    return results[layer]


def validate_layers(
    lake: Lake,
    layers: Iterable[str],
    *,
    years: list[str] | None,
    release_id: str | None = None,
    docs: Path | None,
    progress: Callable[[str], None],
    staged: Mapping[Table, DataFrame] | None = None,
    staged_rows: Mapping[Table, pa.Table] | None = None,
    passed: Mapping[str, Collection[str]] | None = None,
) -> dict[str, LayerResult]:
    """Check every table of each layer of :data:`LAYER_SUITES`, with one checkpoint for each layer.

    Only rows of ``years`` are checked (None: all years). The layer ``published`` needs a ``release_id``: only rows of that
    release are checked, and they are compared with gold as it is now. Other layers must not have one (``ValueError``).
    Tables in ``staged`` are checked as given there, before they are written; ``staged_rows`` are the same rows, if they are
    already in memory. ``passed``: for a suite, the years in which every row is known to meet its checks of the kind ``row``. The
    rows of these years are not read for these checks. A check that compares tables may read other rows. Layers are counted in
    parallel. A page about each layer is written to a folder of its own in ``docs``.
    """
    suites = {layer: [load_suite(name) for name in LAYER_SUITES[layer]] for layer in layers}
    if any((layer == "published") != (release_id is not None) for layer in suites):
        raise ValueError("give a release_id for the layer `published`, and for no other layer")
    for layer, layer_suites in suites.items():
        checks = sum(len(suite.checks) for suite in layer_suites)
        progress(f"checking {layer}: {checks} checks of {len(layer_suites)} tables")
    # Planning the queries takes longest and keeps one core busy, so a single layer is counted in two halves.
    halves = 1 if len(suites) > 1 else 2
    parts = [(layer, layer_suites[half::halves]) for layer, layer_suites in suites.items() for half in range(halves)]
    tasks: list[tuple[str, Callable[[], Violations]]] = [
        (layer, partial(ViolationCounter(lake, years, release_id, staged, staged_rows, passed).violations, part))
        for layer, part in parts
    ]
    for layer, layer_suites in suites.items():
        if any(suite.native for suite in layer_suites):
            counter = ViolationCounter(lake, years, release_id, staged, staged_rows)
            tasks.append((layer, partial(counter.native_violations, layer_suites)))
    results = run_in_threads([task for _, task in tasks])
    violations = {layer: Violations() for layer in suites}
    for (layer, _), found in zip(tasks, results, strict=True):
        violations[layer].add(found)
    return {
        layer: _layer_result(lake, layer, layer_suites, violations[layer], docs, progress)
        for layer, layer_suites in suites.items()
    }


def _layer_result(
    lake: Lake,
    layer: str,
    suites: list[Suite],
    violations: Violations,
    docs: Path | None,
    progress: Callable[[str], None],
) -> LayerResult:
    """Evaluate the counts of one layer, and report each failed check and warning as a progress line."""
    not_met = _evaluate_counts(layer, suites, violations)
    failed: list[FailedCheck] = []
    warnings: list[FailedCheck] = []
    for suite in suites:
        for check in suite.checks:
            key = (suite.name, check.id)
            if key in not_met:
                description = check.description
                if key in violations.notes:
                    description = f"{description} ({violations.notes[key]})"
                if key in violations.raised:
                    description = f"{description} (Great Expectations could not evaluate this)"
                found = FailedCheck(suite.table.full_name, check.id, description, max(1, violations.counts[key]))
                (warnings if check.severity == "warning" else failed).append(found)
    for label, problems in (("Failed", failed), ("Warning", warnings)):
        for item in problems:
            progress(f"{label}: {item.table}: {item.description} (violations of {item.check}: {item.violations:,})")
    names = [suite.table.full_name for suite in suites]
    versions = {name: lake.versions_read[name] for name in names if name in lake.versions_read}
    checks = sum(len(suite.checks) for suite in suites)
    result = LayerResult(not failed, checks, failed, versions, None, warnings)
    progress(f"{layer}: {result.in_words}")
    return replace(result, docs=write_page(layer, suites, result, docs)) if docs else result


def _evaluate_counts(layer: str, suites: list[Suite], violations: Violations) -> set[tuple[str, str]]:
    """The checks that failed, each with its suite. One checkpoint says which of Spark's counts are not 0. The counts are the rows of
    one table, because an expectation for each count would take seconds. Checks that were evaluated on rows are added."""
    gx = native_suites.great_expectations()
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    # Great Expectations drops an unknown expectation and only writes a line to its log.
    unknown = {IN_SET, ROW_COUNT} - set(list_registered_expectation_implementations())
    if unknown:
        raise BrokenRunError(
            f"Great Expectations {gx.__version__} does not know {', '.join(sorted(unknown))}",
            remedy="install the locked version: `make setup`",
        )
    counts = {key: count for key, count in violations.counts.items() if key not in violations.native}
    context = native_suites.new_context()
    batch = context.data_sources.add_or_update_pandas("lake").add_dataframe_asset(layer)
    expectations: list[dict[str, Any]] = [
        {"type": ROW_COUNT, "kwargs": {"value": len(counts)}},
        {"type": IN_SET, "kwargs": {"column": "violations", "value_set": [0]}},
    ]
    definition = gx.ValidationDefinition(
        name=layer,
        data=batch.add_batch_definition_whole_dataframe("violations"),
        suite=context.suites.add(gx.ExpectationSuite(name=layer, expectations=expectations)),
    )
    names = ["suite", "check"]
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=layer,
            validation_definitions=[context.validation_definitions.add(definition)],
            result_format={"result_format": "COMPLETE", "unexpected_index_column_names": names},
        )
    )
    rows = pd.DataFrame([(*key, count) for key, count in counts.items()], columns=[*names, "violations"])
    result = checkpoint.run(batch_parameters={"dataframe": rows}, run_id=gx.RunIdentifier(run_name=layer))
    results = [item for validation in result.run_results.values() for item in validation.results]
    found = {item.expectation_config.type: item for item in results}
    listed = found[IN_SET].result.get("unexpected_index_list", ()) if IN_SET in found else ()
    failed = {(row["suite"], row["check"]) for row in listed}
    expected = {(suite.name, check.id) for suite in suites for check in suite.checks} - violations.native
    whole = set(found) == {ROW_COUNT, IN_SET} and found[ROW_COUNT].success and counts.keys() == expected
    if not whole or failed != {key for key, count in counts.items() if count != 0}:
        raise BrokenRunError(
            f"the checks of {layer} are incomplete: {len(counts)} of {len(expected)} counted, {len(failed)} failed",
            remedy=OUR_FAULT,
        )
    return failed | {key for key in violations.native if violations.counts[key]} | violations.raised
