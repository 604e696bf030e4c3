"""Counts how many rows, groups or columns violate each check. Spark counts in one or two queries for a layer; Great Expectations
evaluates the native checks of published tables on pandas. No record is collected."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.errors import BrokenRunError
from ebi_spark.lake.storage import Lake
from ebi_spark.quoting import sql_list, sql_text
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.silver import QUARANTINE
from ebi_spark.tables.table import UNKNOWN_YEAR, YEAR, Table
from ebi_spark.validation import native_suites
from ebi_spark.validation.suites import COLUMNS_THERE, Check, Suite

EVERY_YEAR = "_every_year"
RELEASE_ID = "release_id"
OUR_FAULT = "this is a fault in ebi-spark: report it with the suites in expectations/"


@dataclass
class Violations:
    """Violations by suite and check. A note names the wrong columns, or says why a check could not be evaluated.

    ``native`` are the checks that Great Expectations evaluated on the rows; ``raised`` those of them that raised an exception.
    """

    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    notes: dict[tuple[str, str], str] = field(default_factory=dict)
    native: set[tuple[str, str]] = field(default_factory=set)
    raised: set[tuple[str, str]] = field(default_factory=set)

    def add(self, other: "Violations") -> None:
        """Add what another count of the same layer found."""
        self.counts |= other.counts
        self.notes |= other.notes
        self.native |= other.native
        self.raised |= other.raised


# (suite, check)
_Key = tuple[str, str]


class _Query:
    """Counts of many checks in one query. ``hashed``: checks that are counted by hashes of keys."""

    def __init__(self) -> None:
        self.hashed: set[_Key] = set()
        self._parts: list[DataFrame] = []
        self._keys: list[list[_Key]] = []

    def add(self, frame: DataFrame, counts: Mapping[_Key, str]) -> None:
        """``counts``: columns of a frame with one row, or aggregates over all rows, as SQL. Text, because each part of a Column is a
        call from Python to Java, and there are hundreds of checks."""
        number = f"{len(self._parts)} AS part"
        self._parts.append(frame.selectExpr(number, f"array({', '.join(counts.values())}) AS counts"))
        self._keys.append(list(counts))

    def counted(self) -> dict[_Key, int]:
        """Run the query: the count of each check."""
        found: dict[_Key, int] = {}
        for row in _union(self._parts).collect() if self._parts else []:
            found.update(zip(self._keys[row["part"]], map(int, row["counts"]), strict=True))
        return found


class ViolationCounter:
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

    def violations(self, suites: list[Suite]) -> Violations:
        """The violations of every check that Spark counts, in one query. Where keys seem to be repeated, a second query counts
        exactly. A check that cannot be evaluated has one violation."""
        violations, query = Violations(), _Query()
        for suite in suites:
            self._schema(suite, violations)
            self._count(suite, violations, query)
        violations.counts |= query.counted()
        for suite in suites:
            for check in suite.checks:
                # Either repeated keys, or different keys with equal hashes: count exactly.
                if (suite.name, check.id) in query.hashed and violations.counts[suite.name, check.id]:
                    keys = self._keyed(suite.name, check).groupBy(*check.rule).count()
                    exact = _surplus(keys).first()
                    violations.counts[suite.name, check.id] = int(exact["surplus"]) if exact else 1
        return violations

    def _count(self, suite: Suite, violations: Violations, query: "_Query") -> None:
        """Count each check of a suite: in ``violations`` if that needs no query, otherwise in ``query``."""
        frame, in_memory, empty = self.rows(suite.name), self._in_memory(suite.name), self._is_empty(suite.name)
        aggregates: dict[_Key, str] = {}
        by_row: dict[_Key, str] = {}
        grouped: dict[_Key, str] = {}
        for check in suite.checks:
            key = (suite.name, check.id)
            if check.kind == "schema" or check.id == COLUMNS_THERE:
                continue
            reason = self._reason_not_checkable(suite, check)
            unique = check.kind in ("unique", "unique_every_year")
            if reason:
                violations.counts[key], violations.notes[key] = 1, f"cannot be checked: {reason}"
            elif check.kind == "native":
                continue
            elif empty and (unique or check.kind == "row"):
                violations.counts[key] = 0
            elif check.kind == "row":
                (by_row if self.passed.get(suite.name) else aggregates)[key] = _violation_count(check)
            elif check.kind == "group":
                grouped[key] = _violation_count(check)
            elif check.kind == "total":
                aggregates[key] = f"CASE WHEN coalesce(({check.rule}), false) THEN 0L ELSE 1L END"
            elif unique and in_memory is not None:
                rows = self._of_years(in_memory) if check.kind == "unique" else in_memory
                violations.counts[key] = rows.num_rows - rows.group_by(list(check.rule)).aggregate([]).num_rows
            elif unique:
                # Equal keys have equal hashes, so eight bytes of each row are shuffled instead of the whole key.
                hashed = self._keyed(suite.name, check).groupBy(F.xxhash64(*check.rule).alias("_hash")).count()
                query.hashed.add(key)
                query.add(_surplus(hashed), {key: "surplus"})
            else:
                query.add(self._query(str(check.rule)).toDF("violations"), {key: "violations"})
        if aggregates:
            query.add(frame, aggregates)
        if by_row:
            passed = sql_list(self.passed[suite.name])
            query.add(frame.where(f"{YEAR} NOT IN {passed} OR {YEAR} IS NULL"), by_row)
        if grouped:
            query.add(self._groups(suite), grouped)

    def _keyed(self, suite: str, check: Check) -> DataFrame:
        """The rows among which the keys of a check must be unique."""
        return self.rows(suite) if check.kind == "unique" else self.whole(suite)

    def native_violations(self, suites: list[Suite]) -> Violations:
        """The violations of every check of the kind ``native``, as Great Expectations counts them on pandas."""
        violations = Violations()
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
                    remedy=OUR_FAULT,
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
            frame = frame.where(f"{YEAR} IN {sql_list([*self.years, *unknown])} OR {YEAR} IS NULL")
        if self.release_id is not None and RELEASE_ID in frame.columns and table.layer == "published":
            frame = frame.where(f"{RELEASE_ID} = {sql_text(self.release_id)}")
        return frame

    def whole(self, suite: str) -> DataFrame:
        """All rows of a suite's table. Every call gives the same version of the table."""
        if suite not in self.every_year:
            table = _table(suite)
            if table.patient_level:
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

    def _schema(self, suite: Suite, violations: Violations) -> None:
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
            # The condition names columns of the totals. Only their queries name columns of tables.
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
        return stacked.groupBy(*suite.groups.by).agg(*[F.expr(f"first({name}, true) AS {name}") for name in names])


def _table(suite: str) -> Table:
    layer = "published" if suite.startswith("published_") else "gold"
    name = suite.removeprefix("published_")
    return TABLES.get(f"{layer}/{name}") or TABLES[f"silver/{name}"]


def _placeholders(sql: str) -> list[str]:
    return sorted(set(re.findall(r"\{(\w+)\}", sql)))


def _union(parts: list[DataFrame]) -> DataFrame:
    """All rows of frames with the same columns. Each half is united first: Spark analyses every union as a whole, so a long chain of
    unions would be analysed again for each frame."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return _union(parts[:middle]).union(_union(parts[middle:]))


def _violation_count(check: Check) -> str:
    """How many rows do not meet a condition, as SQL. A condition that is NULL is not met."""
    return f"count_if(NOT coalesce(({check.rule}), false))"


def _surplus(counted: DataFrame) -> DataFrame:
    """How many rows have a key that another row already has, from the ``count`` of rows by key."""
    return counted.agg(F.coalesce(F.sum(F.col("count") - 1), F.lit(0)).alias("surplus"))
