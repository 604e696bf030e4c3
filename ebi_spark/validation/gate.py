"""The gate: the checks that every table must pass before later stages use it.

Silver, flags, gold rates and monitoring: each suite in ``expectations/`` states the checks of one table. Spark counts the violations of
all checks of a layer in one or two queries. Great Expectations then evaluates these counts, on pandas. No patient's value can
therefore reach its results, log or pages, and a hundred checks do not need a hundred Spark jobs.

Published tables have figures only, a few thousand rows. What Great Expectations can express about one of them is a suite in
its own format in ``expectations/published/``. It evaluates the rows itself, on pandas. Spark counts the comparisons with other
tables, and the few conditions that it cannot express, as above.
"""

import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial, reduce
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.settings import resource
from ebi_spark.config.yaml_documents import load_document
from ebi_spark.errors import BrokenRunError, InputError
from ebi_spark.lake.storage import Lake, run_in_threads
from ebi_spark.own_files import pages_of, put_pages, refuse_pages
from ebi_spark.tables.schemas import QUARANTINE, TABLES, UNKNOWN_YEAR, YEAR, Table
from ebi_spark.validation import native_suites

LAYER_SUITES = {
    "silver": ("apc_spell", "op_attendance", "quarantine", "ingest_audit", "population"),
    "flags": ("policy", "activity_flag", "policy_attrition", "policy_sensitivity", "policy_comparison"),
    "rates": ("activity_rate", "rate_variation", "activity_month", "provider_month", "unmapped_area", "record_quality"),
    "monitoring": (
        "prior_approval",
        "approval_match",
        "approval_unused",
        "regime_change",
        "pathway",
        "pathway_step",
        "pathway_incidence",
        "linked_measure",
        "code_use",
        "activity_count",
        "activity_change",
        "equality_rate",
        "audit_sample",
        "audit_result",
        "audit_estimate",
    ),
    "published": (
        "published_rate",
        "published_variation",
        "published_attrition",
        "published_reading_effect",
        "published_sensitivity",
        "published_quality",
        "published_activity_month",
        "published_days_between",
        "published_completeness",
        "published_approval_summary",
        "published_pathway_summary",
        "published_activity_change",
        "published_measure_summary",
        "published_audit_estimate",
        "published_policy",
    ),
}
# Tables with one row for each record. All other tables have figures.
RECORD_SUITES = (
    "apc_spell", "op_attendance", "quarantine", "activity_flag", "prior_approval", "prior_approval_quarantine",
    "approval_match", "approval_unused", "pathway", "pathway_step",
)  # fmt: skip
EVERY_YEAR = "_every_year"
RELEASE_ID = "release_id"
KINDS = ("row", "unique", "unique_every_year", "total", "group", "count_of_violations")
COLUMNS_THERE = "columns_there"

ROW_COUNT = "expect_table_row_count_to_equal"
IN_SET = "expect_column_values_to_be_in_set"


@dataclass(frozen=True)
class Check:
    """One check.

    ``kind`` is one of :data:`KINDS`, ``schema`` or ``native``, and says what ``rule`` is: a SQL condition, a SQL query, column
    names, nothing, or the expectations that Great Expectations evaluates itself, as JSON. ``description`` says in a sentence
    what must be true.
    """

    id: str
    description: str
    kind: str
    rule: str | tuple[str, ...]
    severity: str = "critical"


@dataclass(frozen=True)
class Groups:
    """Totals of several tables that are compared group by group.

    ``by`` are the columns of a group. Each query in ``totals`` has these columns and at most one row for each group.
    """

    by: tuple[str, ...]
    totals: tuple[str, ...]


@dataclass(frozen=True)
class Suite:
    """The checks of one table, and the totals that its checks of the kind ``group`` compare.

    ``native`` is the suite in Great Expectations' own format that has the checks of the kind ``native``, if there are any.
    """

    name: str
    table: Table
    checks: tuple[Check, ...]
    groups: Groups | None = None
    native: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class FailedCheck:
    """A failed check: how many rows, groups or columns violate it (1 where it could not be evaluated)."""

    table: str
    check: str
    description: str
    violations: int


@dataclass(frozen=True)
class GateResult:
    """The result of checking one layer.

    ``checks`` is the number of checks that were evaluated, which progress, summary and page show. A check is a statement about
    a table; it can need one expectation of Great Expectations or several. ``failed`` are critical checks;
    ``warnings`` do not make ``success`` false. ``versions`` are the Delta versions that were checked. ``docs`` is the index
    page, if pages were written.
    """

    success: bool
    checks: int
    failed: list[FailedCheck]
    versions: dict[str, int]
    docs: Path | None
    warnings: list[FailedCheck] = field(default_factory=list)

    @property
    def in_words(self) -> str:
        """For example ``101 checks passed``, or ``98 of 101 checks passed, 2 warnings, 1 failed``."""
        missed = len(self.failed) + len(self.warnings)
        passed = f"{self.checks - missed:,} of {self.checks:,}" if missed else f"{self.checks:,}"
        parts = [f"{passed} checks passed"]
        parts += (
            [f"{len(self.warnings):,} {'warning' if len(self.warnings) == 1 else 'warnings'}"] if self.warnings else []
        )
        return ", ".join([*parts, *([f"{len(self.failed):,} failed"] if self.failed else [])])


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
) -> GateResult:
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
) -> dict[str, GateResult]:
    """Check every table of each layer of :data:`LAYER_SUITES`, with one checkpoint for each layer.

    Only rows of ``years`` are checked (None: all years). The layer ``published`` needs a ``release_id``: only rows of that
    release are checked, and they are compared with gold as it is now. Other layers must not have one (``ValueError``).
    Tables in ``staged`` are checked as given there, before they are written; ``staged_rows`` are the same rows, if they are
    already in memory. ``passed``: for a suite, the years in which every row is known to meet its checks of the kind ``row``. The rows of
    these years are not read for these checks. A check that compares tables may read other rows. Layers are counted in parallel. A page about each
    layer is written to a folder of its own in ``docs``.
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
    tasks: list[tuple[str, Callable[[], _Violations]]] = [
        (layer, partial(_ViolationCounter(lake, years, release_id, staged, staged_rows, passed).violations, part))
        for layer, part in parts
    ]
    for layer, layer_suites in suites.items():
        if any(suite.native for suite in layer_suites):
            counter = _ViolationCounter(lake, years, release_id, staged, staged_rows)
            tasks.append((layer, partial(counter.native_violations, layer_suites)))
    results = run_in_threads([task for _, task in tasks])
    violations = {layer: _Violations() for layer in suites}
    for (layer, _), found in zip(tasks, results, strict=True):
        violations[layer].add(found)
    return {
        layer: _gate_result(lake, layer, layer_suites, violations[layer], docs, progress)
        for layer, layer_suites in suites.items()
    }


def _gate_result(
    lake: Lake,
    layer: str,
    suites: list[Suite],
    violations: "_Violations",
    docs: Path | None,
    progress: Callable[[str], None],
) -> GateResult:
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
    result = GateResult(not failed, checks, failed, versions, None, warnings)
    progress(f"{layer}: {result.in_words}")
    return replace(result, docs=_write_page(layer, suites, result, docs)) if docs else result


# The suites


@cache
def load_suite(name: str) -> Suite:
    """The suite in ``expectations/NAME.yml``; for a published table, with that in ``expectations/published/``.

    The checks that follow from the table's declared columns come first. A suite of a published table has them in its file.
    An :class:`InputError` for a file with an unknown table, a repeated check, or checks of groups without ``groups``.
    """
    folder = resource("expectations")
    path, native_path = folder / f"{name}.yml", folder / "published" / f"{name.removeprefix('published_')}.json"
    native = native_suites.read_suite(native_path) if name in LAYER_SUITES["published"] else None
    if native is None or path.exists():
        document = load_document(path, folder / "suite.schema.json", what="expectations")
    else:
        path, document = native_path, {"table": native.get("meta", {}).get("table"), "checks": []}
    if document["table"] not in TABLES:
        raise InputError(f"expectations: {path}: there is no table {document['table']}", remedy="correct `table`")
    table = TABLES[document["table"]]
    types = Check("columns_of_their_type", f"Every column of {table.full_name} has the right type.", "schema", ())
    if native is None:
        checks = [
            Check(COLUMNS_THERE, f"{table.full_name} has every column that it should have.", "schema", ()),
            types,
            *[
                Check(f"not_null_{column}", f"{column} is never missing.", "row", f"{column} IS NOT NULL")
                for column in table.required
            ],
        ]
    else:
        checks = [types, *_native_checks(native)]
    checks += [_check(item, path) for item in document["checks"]]
    names = [check.id for check in checks]
    twice = sorted({item for item in names if names.count(item) > 1})
    if twice:
        raise InputError(
            f"expectations: {path}: the check {twice[0]} appears twice", remedy="give each check its own id"
        )
    grouping = document.get("groups")
    groups = Groups(tuple(grouping["by"]), tuple(grouping["totals"])) if grouping else None
    if groups is None and any(check.kind == "group" for check in checks):
        raise InputError(f"expectations: {path} has checks of the kind `group` but no `groups`", remedy="add `groups`")
    return Suite(name, table, tuple(checks), groups, native)


def _native_checks(suite: Mapping[str, Any]) -> list[Check]:
    """One check for each ``meta.id`` of a suite in Great Expectations' own format."""
    expectations: dict[str, list[dict[str, Any]]] = {}
    for item in suite["expectations"]:
        expectations.setdefault(item["meta"]["id"], []).append(item)
    return [
        Check(
            name, items[0]["description"], "native", json.dumps([_rule(item) for item in items]), items[0]["severity"]
        )
        for name, items in expectations.items()
    ]


def _rule(expectation: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": expectation["type"], "kwargs": expectation["kwargs"]}


def _check(item: dict[str, Any], path: Path) -> Check:
    kinds = [kind for kind in KINDS if kind in item]
    if len(kinds) != 1:
        raise InputError(
            f"expectations: {path}: the check {item['id']} must have exactly one of {', '.join(KINDS)}",
            remedy="give exactly one of them",
        )
    rule = item[kinds[0]]
    return Check(
        item["id"],
        item["words"],
        kinds[0],
        tuple(rule) if kinds[0] in ("unique", "unique_every_year") else rule,
        item.get("severity", "critical"),
    )


def row_checks(suite: str) -> dict[str, str]:
    """The checks of a suite that look at one row, as SQL conditions by id."""
    return {check.id: str(check.rule) for check in load_suite(suite).checks if check.kind == "row"}


# Counting violations


@dataclass
class _Violations:
    """Violations by suite and check. A note names the wrong columns, or says why a check could not be evaluated.

    ``native`` are the checks that Great Expectations evaluated on the rows; ``raised`` those of them that raised an exception.
    """

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)
    native: set[tuple[str, str]] = field(default_factory=set)
    raised: set[tuple[str, str]] = field(default_factory=set)

    def add(self, other: "_Violations") -> None:
        self.counts |= other.counts
        self.notes |= other.notes
        self.native |= other.native
        self.raised |= other.raised


class _ViolationCounter:
    """Counts violations. It never collects a record."""

    def __init__(
        self,
        lake: Lake,
        years: list[str] | None,
        release_id: str | None,
        staged: Mapping[Table, DataFrame] | None = None,
        staged_rows: Mapping[Table, pa.Table] | None = None,
        passed: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.passed = passed or {}
        self.lake, self.years, self.release_id, self.staged = lake, years, release_id, staged or {}
        self.staged_rows = staged_rows or {}
        self.every_year: dict[str, DataFrame] = {}

    def violations(self, suites: list[Suite]) -> _Violations:
        """The violations of every check that Spark counts, in one query. Where keys seem to be repeated, a second query counts
        exactly. A check that cannot be evaluated has one violation."""
        violations = _Violations()
        parts: list[DataFrame] = []
        checks_of_part: dict[str, list[tuple[str, str]]] = {}
        keys_by_check: dict[tuple[str, str], tuple[DataFrame, tuple[str, ...]]] = {}

        def add_query(frame: DataFrame, counts: list[Column], keys: list[tuple[str, str]]) -> None:
            part = f"{keys[0][0]}/{len(parts)}"
            parts.append(frame.select(F.lit(part).alias("part"), F.array(*counts).alias("counts")))
            checks_of_part[part] = keys

        for suite in suites:
            frame, in_memory, empty = self.rows(suite.name), self._in_memory(suite.name), self._is_empty(suite.name)
            self._schema(suite, violations)
            aggregates: dict[tuple[str, str], Column] = {}
            by_row: dict[tuple[str, str], Column] = {}
            grouped: dict[tuple[str, str], Column] = {}
            for check in suite.checks:
                key = (suite.name, check.id)
                if check.kind == "schema" or check.id == COLUMNS_THERE:
                    continue
                reason = self._reason_not_checkable(suite, check)
                if reason:
                    violations.counts[key], violations.notes[key] = 1, f"cannot be checked: {reason}"
                elif check.kind == "native":
                    continue
                elif empty and check.kind in ("row", "unique", "unique_every_year"):
                    violations.counts[key] = 0
                elif check.kind == "row":
                    (by_row if self.passed.get(suite.name) else aggregates)[key] = _violation_count(check)
                elif check.kind == "group":
                    grouped[key] = _violation_count(check)
                elif check.kind == "total":
                    aggregates[key] = F.expr(f"CASE WHEN coalesce(({check.rule}), false) THEN 0L ELSE 1L END")
                elif in_memory is not None and check.kind in ("unique", "unique_every_year"):
                    rows = self._of_years(in_memory) if check.kind == "unique" else in_memory
                    violations.counts[key] = rows.num_rows - rows.group_by(list(check.rule)).aggregate([]).num_rows
                elif check.kind in ("unique", "unique_every_year"):
                    # Equal keys have equal hashes, so eight bytes of each row are shuffled instead of the whole key.
                    keyed = frame if check.kind == "unique" else self.whole(suite.name)
                    keys_by_check[key] = (keyed, tuple(check.rule))
                    hashed = keyed.groupBy(F.xxhash64(*check.rule).alias("_hash")).count()
                    add_query(_surplus(hashed), [F.col("surplus")], [key])
                else:
                    add_query(self._query(str(check.rule)).toDF("violations"), [F.col("violations")], [key])
            sources = {"": frame, "groups": self._groups(suite) if grouped else frame}
            if by_row:
                sources["rows"] = frame.where(~F.col(YEAR).isin(*self.passed[suite.name]) | F.col(YEAR).isNull())
            for counts, of in ((aggregates, ""), (by_row, "rows"), (grouped, "groups")):
                if counts:
                    source = sources[of]
                    names = [f"c{number}" for number in range(len(counts))]
                    counted = source.agg(*[c.alias(n) for c, n in zip(counts.values(), names, strict=True)])
                    add_query(counted, [F.col(name) for name in names], list(counts))
        for row in _union(parts).collect() if parts else []:
            violations.counts.update(zip(checks_of_part[row["part"]], map(int, row["counts"]), strict=True))
        for key, (frame, columns) in keys_by_check.items():
            if violations.counts[key]:  # either repeated keys or different keys with equal hashes: count exactly
                exact = _surplus(frame.groupBy(*columns).count()).first()
                violations.counts[key] = int(exact["surplus"]) if exact else 1
        return violations

    def native_violations(self, suites: list[Suite]) -> _Violations:
        """The violations of every check of the kind ``native``, as Great Expectations counts them on pandas."""
        violations = _Violations()
        for suite in suites:
            checks = {
                check.id
                for check in suite.checks
                if check.kind == "native"
                and (check.id == COLUMNS_THERE or not self._reason_not_checkable(suite, check))
            }
            if suite.native is None or not checks:
                continue
            expectations = [item for item in suite.native["expectations"] if item["meta"]["id"] in checks]
            loaded = native_suites.load({**suite.native, "expectations": expectations}, suite.name)
            results = native_suites.run(loaded, native_suites.to_pandas(self._arrow(suite.name)))
            counts, raised = native_suites.count_violations(results)
            if len(results) != len(expectations) or set(counts) != checks:
                raise BrokenRunError(
                    f"the checks of {suite.name} are incomplete: {len(results)} of {len(expectations)} evaluated",
                    remedy="this is a fault in ebi-spark: report it with the suites in expectations/",
                )
            violations.counts |= {(suite.name, check): count for check, count in counts.items()}
            violations.raised |= {(suite.name, check) for check in raised}
            violations.native |= {(suite.name, check) for check in checks}
        return violations

    def _arrow(self, suite: str) -> pa.Table:
        """The rows of a published table that are checked. They are figures, never records."""
        table = _table(suite)
        if self.years is None and table in self.staged_rows:
            return self.staged_rows[table]
        return self.rows(suite).toArrow()

    def _in_memory(self, suite: str) -> pa.Table | None:
        """All rows of a suite's table, if they are on the driver, or if the table is small and has only figures. Otherwise None."""
        table = _table(suite)
        if table in self.staged_rows:
            return self.staged_rows[table]
        # A published table also has other releases.
        return None if table.layer == "published" else self.lake.in_memory(table)

    def _is_empty(self, suite: str) -> bool:
        table = _table(suite)
        return not self.staged_rows[table].num_rows if table in self.staged_rows else self.lake.is_empty(table)

    def _of_years(self, rows: pa.Table) -> pa.Table:
        """The rows of figures in memory that are checked: those of the years, and those without a year."""
        if self.years is None or YEAR not in rows.column_names:
            return rows
        year = rows.column(YEAR)
        return rows.filter(pc.or_(pc.is_in(year, pa.array(self.years, pa.string())), pc.is_null(year)))

    def rows(self, suite: str) -> DataFrame:
        """The rows of a suite's table that are checked."""
        frame, table = self.whole(suite), _table(suite)
        if self.years is not None and YEAR in frame.columns:
            unknown = [UNKNOWN_YEAR] if table == QUARANTINE else []
            # A NULL year is in no list of years. It is kept, so that the check for missing years finds it.
            frame = frame.where(F.col(YEAR).isin(*self.years, *unknown) | F.col(YEAR).isNull())
        if self.release_id is not None and RELEASE_ID in frame.columns and table.layer == "published":
            frame = frame.where(F.col(RELEASE_ID) == self.release_id)
        return frame

    def whole(self, suite: str) -> DataFrame:
        """All rows of a suite's table. Every call gives the same version of the table."""
        if suite not in self.every_year:
            table = _table(suite)
            if suite in RECORD_SUITES:
                self.every_year[suite] = self.lake.read(table)
            else:
                # Tables of figures are small. In one partition their groups and joins need no shuffle, and shuffles are
                # most of the cost of checking them.
                frame = self.staged[table] if table in self.staged else self.lake.read_small(table)
                self.every_year[suite] = frame.coalesce(1)
        return self.every_year[suite]

    def _column_differences(self, suite: str) -> tuple[list[str], list[str]]:
        """Columns that are missing, and columns that have another type than declared."""
        found = {item.name: item.dataType.simpleString() for item in self.whole(suite).schema.fields}
        declared = {item.name: item.dataType.simpleString() for item in _table(suite).schema.fields}
        missing = [name for name in declared if name not in found]
        return missing, [name for name, kind in declared.items() if name in found and found[name] != kind]

    def _schema(self, suite: Suite, violations: _Violations) -> None:
        missing, mistyped = self._column_differences(suite.name)
        for check, columns in ((COLUMNS_THERE, missing), ("columns_of_their_type", mistyped)):
            if check != COLUMNS_THERE or suite.native is None:
                violations.counts[(suite.name, check)] = len(columns)
            if columns:
                violations.notes[(suite.name, check)] = f"columns: {', '.join(columns)}"

    def _reason_not_checkable(self, suite: Suite, check: Check) -> str | None:
        """Why a check cannot be evaluated: a column that it names is missing or has another type. None if it can be."""
        rules = [check.rule] if isinstance(check.rule, str) else list(check.rule)
        if check.kind == "group" and suite.groups:
            # The condition names columns of the totals. Only the queries behind them name columns of tables.
            rules = list(suite.groups.totals)
        queries = check.kind in ("group", "count_of_violations")
        sources = {name.removesuffix(EVERY_YEAR) for rule in rules for name in _placeholders(rule)}
        names = sources if queries else {suite.name}
        names_in_rules = {word for rule in rules for word in re.findall(r"\w+", rule)}
        for name in sorted(names):
            for columns, problem in zip(
                self._column_differences(name), ("is missing", "has another type"), strict=True
            ):
                for column in columns:
                    if column in names_in_rules:
                        return f"the column {column} of {_table(name).full_name} {problem}"
        return None

    def _query(self, sql: str) -> DataFrame:
        frames = {
            name: self.whole(name.removesuffix(EVERY_YEAR)) if name.endswith(EVERY_YEAR) else self.rows(name)
            for name in _placeholders(sql)
        }
        return self.lake.spark.sql(sql, **frames)  # type: ignore[arg-type]

    def _groups(self, suite: Suite) -> DataFrame:
        """One row for each group, with the totals of every query. A union needs at most one shuffle, joins would need more."""
        assert suite.groups is not None
        totals = [self._query(sql) for sql in suite.groups.totals]
        stacked = reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), totals)
        names = [name for name in stacked.columns if name not in suite.groups.by]
        return stacked.groupBy(*suite.groups.by).agg(*[F.first(name, ignorenulls=True).alias(name) for name in names])


def _table(suite: str) -> Table:
    layer = "published" if suite.startswith("published_") else "gold"
    name = suite.removeprefix("published_")
    return TABLES.get(f"{layer}/{name}") or TABLES[f"silver/{name}"]


def _placeholders(sql: str) -> list[str]:
    return sorted(set(re.findall(r"\{(\w+)\}", sql)))


def _union(parts: list[DataFrame]) -> DataFrame:
    """All rows of frames with the same columns. Halves are joined to halves: Spark analyses each union as a whole."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return _union(parts[:middle]).union(_union(parts[middle:]))


def _violation_count(check: Check) -> Column:
    """How many rows do not meet a condition. A condition that is NULL is not met."""
    return F.expr(f"count_if(NOT coalesce(({check.rule}), false))")


def _surplus(counted: DataFrame) -> DataFrame:
    """How many rows have a key that another row already has, from the ``count`` of rows by key."""
    return counted.agg(F.coalesce(F.sum(F.col("count") - 1), F.lit(0)).alias("surplus"))


# Evaluating the counts, in Great Expectations


def _evaluate_counts(layer: str, suites: list[Suite], violations: _Violations) -> set[tuple[str, str]]:
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
            remedy="this is a fault in ebi-spark: report it with the suites in expectations/",
        )
    return failed | {key for key in violations.native if violations.counts[key]} | violations.raised


# The page


def _write_page(layer: str, suites: list[Suite], result: GateResult, docs: Path) -> Path:
    """Write the page about a layer to a folder of its own in ``docs``. It opens without a web connection."""
    found = {(item.table, item.check): item for item in (*result.failed, *result.warnings)}
    tables = [
        {
            "name": suite.table.full_name,
            "meaning": suite.table.row,
            "native": _native_in_words(suite),
            "checks": [
                (check, _shown_rule(check), found.get((suite.table.full_name, check.id))) for check in suite.checks
            ],
        }
        for suite in suites
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("checks.html.j2").render(layer=layer, tables=tables, result=result.in_words)
    refuse_pages(docs, [layer])
    target = pages_of(docs, layer)
    try:
        docs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".expectations-", dir=docs) as folder:
            (Path(folder) / "index.html").write_text(page, encoding="utf-8")
            put_pages(Path(folder), target)
    except OSError as error:
        raise BrokenRunError(
            f"docs: the page of the checks of {layer} cannot be written to {docs} ({error.strerror})",
            remedy="make room for the page or choose another place (`docs: …`), then run the same command again",
        ) from None
    return target / "index.html"


def _native_in_words(suite: Suite) -> str:
    """How many checks of a published table Great Expectations evaluates itself, and how many expectations these need. Its own
    Data Docs count expectations."""
    if suite.native is None:
        return ""
    native = sum(check.kind == "native" for check in suite.checks)
    counted = f"; Spark counts the other {len(suite.checks) - native}" if native < len(suite.checks) else ""
    return (
        f"Great Expectations evaluates {native} of these {len(suite.checks)} checks, as {len(suite.native['expectations'])} "
        f"expectations, because a check can need several{counted}."
    )


def _shown_rule(check: Check) -> str:
    """How a check is made, in one or more lines: the types of its expectations, or its SQL."""
    if check.kind == "native":
        return "\n".join(dict.fromkeys(item["type"] for item in json.loads(str(check.rule))))
    return check.rule if isinstance(check.rule, str) else f"{check.kind} {', '.join(check.rule)}".strip()
