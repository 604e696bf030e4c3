"""Records judged by all policies in one pass, at a cost that hardly grows with their number.

A plain condition keeps the records that any policy can have in scope (a fraction of a percent). Each is paired, through
the codes it holds, with the few revisions that ask for them, and only there are clauses evaluated: each different test of
a revision once, for all readings and for every decision flipped alone. Revisions that differ in their scopes alone, or in
what one of them leaves out, have these tests in common. What is false and undecided then stands in two bit masks, and a
reading is a choice of bits: the plan has one such expression, however many policies there are.
"""

import json
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.errors import InputError
from ebi_spark.geography.boards import restrict_to_board
from ebi_spark.geography.record_areas import Lookups, with_area
from ebi_spark.policies.code_prefilter import KEY_LENGTH, CodePrefilter, code_prefilter
from ebi_spark.policies.compile import (
    compile_test,
    has_default_codes,
    holds,
    null_columns,
    stored_four,
    uses_code_meaning,
)
from ebi_spark.policies.model import READINGS, Clause, RevisionPeriod
from ebi_spark.policies.patterns import one_of
from ebi_spark.small_frames import small_frame

FLAGGED, NOT_FLAGGED = "flagged", "not_flagged"
# The bits of a long without its sign.
MOST_TESTS = 63
_ANY_RECORD = "*"


def basis_day(dataset: str) -> Column:
    """The day by which a revision is in force for a record: admission, or appointment (decision 11). A record without
    it goes by the first day of its financial year."""
    own = [F.col("admission_date")] if dataset == "apc" else []
    return F.coalesce(*own, _area_day())


def _area_day() -> Column:
    """The day on which a record's area is looked up."""
    first_day = F.to_date(F.concat(F.substring("financial_year", 1, 4), F.lit("-04-01")))
    return F.coalesce(F.col("activity_date"), first_day)


def apply_policies(records: DataFrame, dataset: str, units: list[RevisionPeriod], lookups: Lookups) -> DataFrame:
    """A row a record in scope, revision and reading, with the columns of ``gold/activity_flag`` but ``run_id``."""
    units = [unit for unit in units if unit.policy.dataset == dataset]
    located = with_area(_paired(records, dataset, units), lookups)
    own = restrict_to_board(located, [unit.policy.boards for unit in units], _area_day())
    tests = _tests_in_common(units)
    judged = own.withColumns(_states(tests, dataset)).withColumns(
        {"_false": F.expr(_mask(_IS_FALSE)), "_undecided": F.expr(_mask(_IS_UNDECIDED))}
    )
    readings = small_frame(
        records.sparkSession,
        [
            row
            for number, (unit, found) in enumerate(zip(units, tests, strict=True))
            for row in _readings(number, unit, found)
        ],
        _READINGS,
    )
    verdicts = (
        judged.join(F.broadcast(readings), F.col("_unit") == F.col("_reading_unit"))
        .withColumn("_passes", F.expr(_PASSES))
        # One step for all that goes through lists: Spark does not compile it, and copies each record before such a step.
        .withColumns(
            {
                "failed_clauses": F.expr(_FAILED),
                "missing_clauses": F.expr(_MISSING),
                "decisive_decisions": F.expr(_DECISIVE),
            }
        )
    )
    return verdicts.select(
        "policy_id",
        "revision",
        "reading",
        "policy_fingerprint",
        (basis_day(dataset) < F.col("_first_day")).alias("back_cast"),
        "source_system",
        "dataset",
        "record_id",
        "person_id",
        "financial_year",
        "activity_date",
        "provider_code",
        "commissioner_code",
        "area_code",
        "area_date",
        "latest_area_code",
        "area_basis",
        "sex",
        "age",
        "age_years",
        F.when(F.col("_passes"), F.lit(FLAGGED)).otherwise(F.lit(NOT_FLAGGED)).alias("outcome"),
        "failed_clauses",
        "missing_clauses",
        (F.size("failed_clauses") == 1).alias("near_miss"),
        "decisive_decisions",
    )


# The state of a test is 0 where it is false, 1 where it is true, 2 where it cannot be decided: two bits, a word of 64 for
# every 32 tests. A mask has one bit a test: those of the first word on even places, those of the second between them.
_IN_A_WORD = 32
_IS_FALSE = "~({0} | shiftrightunsigned({0}, 1))"
_IS_UNDECIDED = "shiftrightunsigned({0}, 1)"
_EVEN = f"{sum(1 << place for place in range(0, 64, 2))}L"


def _mask(of_a_word: str) -> str:
    first, second = (f"({of_a_word.format(word)} & {_EVEN})" for word in ("_first_states", "_second_states"))
    return f"{first} | shiftleft({second}, 1)"


def _place(number: int) -> int:
    """The bit of a test in a mask."""
    word, place = divmod(number, _IN_A_WORD)
    return 2 * place + word


_READINGS = (
    "_reading_unit int, policy_id string, revision string, reading string, policy_fingerprint string, _first_day date, "
    "_all struct<fails:bigint,drops:bigint>, _clauses array<struct<id:string,fails:bigint,drops:bigint>>, "
    "_flips array<struct<decision:string,fails:bigint,drops:bigint>>"
)
_AGAINST = "((_false & {0}.fails) | (_undecided & {0}.drops))"
_PASSES = f"{_AGAINST.format('_all')} = 0"
_FAILED = f"transform(filter(_clauses, c -> {_AGAINST.format('c')} <> 0), c -> c.id)"
_MISSING = "transform(filter(_clauses, c -> (_undecided & c.fails) <> 0), c -> c.id)"
_DECISIVE = f"transform(filter(_flips, f -> ({_AGAINST.format('f')} = 0) <> _passes), f -> f.decision)"


@dataclass(frozen=True, eq=False)
class _Tests:
    """Different tests, each with its number, which gives it its place in a record's states and in the masks. By name a clause
    that has the test, and a reading that sees the record as it does."""

    clauses: dict[str, tuple[Clause, str]]
    dataset: str

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each test."""
        return {name: number for number, name in enumerate(self.clauses)}

    def bits(self, clause: Clause, reading: str) -> tuple[int, int]:
        """The bits of a clause: where false, and where undecided, keep a record from being flagged."""
        bit = 1 << _place(self.numbers[_test_of(clause, reading, self.dataset)])
        return bit, bit if clause.missing == "fails" else 0

    def joined(self, clauses: tuple[Clause, ...], reading: str) -> dict[str, int]:
        """The bits of several clauses together."""
        fails = drops = 0
        for clause in clauses:
            bit, dropped = self.bits(clause, reading)
            fails, drops = fails | bit, drops | dropped
        return {"fails": fails, "drops": drops}


def _tests_of(unit: RevisionPeriod) -> _Tests:
    """The different tests of one revision over all readings and flipped decisions."""
    dataset = unit.policy.dataset
    deciding = [(name, reading.deciding) for name, reading in unit.revision.readings.items()]
    deciding += [(flip.base, flip.deciding) for flip in unit.revision.flips]
    clauses: dict[str, tuple[Clause, str]] = {}
    for reading, of_one in deciding:
        for clause in of_one:
            clauses.setdefault(_test_of(clause, reading, dataset), (clause, reading))
    if len(clauses) > MOST_TESTS:
        raise InputError(
            f"policies: {unit.key} has {len(clauses)} different tests, {MOST_TESTS} are the most that one revision can have",
            remedy="join clauses by any_of, or make two policies of it",
        )
    return _Tests(clauses, dataset)


def _tests_in_common(units: list[RevisionPeriod]) -> list[_Tests]:
    """The tests by which each unit is judged: its own, or those of a unit that has them all."""
    own = [_tests_of(unit) for unit in units]
    kept: list[_Tests] = []
    for tests in sorted(own, key=lambda tests: len(tests.clauses), reverse=True):
        if not any(tests.clauses.keys() <= other.clauses.keys() for other in kept):
            kept.append(tests)
    return [next(other for other in kept if tests.clauses.keys() <= other.clauses.keys()) for tests in own]


def _states(tests: list[_Tests], dataset: str) -> dict[str, Column]:
    """The states of the tests of a record's unit, by word. The Column of a test that several policies have (cancer, private
    patients …) is built once."""
    made: dict[str, Column] = {}
    return {
        name: _word(tests, dataset, made, at) for name, at in (("_first_states", 0), ("_second_states", _IN_A_WORD))
    }


def _word(tests: list[_Tests], dataset: str, made: dict[str, Column], at: int) -> Column:
    """The states of the tests from number ``at`` on, as many as a word holds; 0 where a unit has none of them."""
    undecided, none = F.lit(2).cast("bigint"), F.lit(0).cast("bigint")
    word: Column | None = None
    for of_some in dict.fromkeys(tests):
        listed = list(of_some.clauses.items())[at : at + _IN_A_WORD]
        for name, (clause, reading) in listed:
            if name not in made:
                made[name] = F.coalesce(holds(clause, dataset, reading).cast("bigint"), undecided)
        if listed:
            states = [F.shiftleft(made[name], 2 * place) for place, (name, _) in enumerate(listed)]
            condition = F.col("_unit").isin(*[number for number, item in enumerate(tests) if item is of_some])
            found = reduce(lambda a, b: a.bitwiseOR(b), states)
            word = F.when(condition, found) if word is None else word.when(condition, found)
    return none if word is None else word.otherwise(none)


def _readings(number: int, unit: RevisionPeriod, tests: _Tests) -> list[dict[str, Any]]:
    """A row a reading of the unit: its clauses in order, and the decisions to flip from it."""
    policy, revision = unit.policy, unit.revision
    rows = []
    for name in READINGS:
        reading = revision.readings[name]
        clauses = [
            dict(zip(("id", "fails", "drops"), (c.id, *tests.bits(c, name)), strict=True)) for c in reading.deciding
        ]
        flips = [
            {"decision": flip.decision, **tests.joined(flip.deciding, name)}
            for flip in revision.flips
            if flip.base == name
        ]
        rows.append(
            {
                "_reading_unit": number,
                "policy_id": policy.id,
                "revision": revision.name,
                "reading": name,
                "policy_fingerprint": reading.fingerprint,
                "_first_day": min(item.start for item in policy.revisions),
                "_all": tests.joined(reading.deciding, name),
                "_clauses": clauses,
                "_flips": flips,
            }
        )
    return rows


def _test_of(clause: Clause, reading: str, dataset: str) -> str:
    """The same for clauses that come to the same for every record: readings differ in how they see default codes."""
    differs = uses_code_meaning(reading) and has_default_codes(clause.test or {}, dataset)
    return json.dumps([clause.kind, clause.test, *(["by meaning"] if differs else [])], sort_keys=True)


# Which records, and which policies for each


@dataclass(frozen=True)
class _Source:
    """A column in which scopes look for codes: all codes that any of them needs there."""

    number: int
    of: CodePrefilter

    @property
    def keys(self) -> Column:
        """The keys that a record holds, each once and marked with the source."""
        column = F.col(self.of.column)
        if self.of.whole:
            return F.array_compact(F.array(F.concat(F.lit(f"{self.number}:"), column)))
        starts = one_of({code[:KEY_LENGTH] for code in self.of.codes})
        # A look-ahead, so that keys which overlap are all found.
        found = F.array_distinct(F.regexp_extract_all(column, F.lit(f"(?=({starts}))"), F.lit(1)))
        marked = F.transform(found, lambda key: F.concat(F.lit(f"{self.number}:"), key))
        return F.coalesce(marked, F.array().cast("array<string>"))


def _sources(wanted: list[CodePrefilter | None]) -> dict[tuple[str, bool], _Source]:
    codes: dict[tuple[str, bool], set[str]] = {}
    for item in wanted:
        if item is not None:
            codes.setdefault((item.column, item.whole), set()).update(item.codes)
    return {
        (column, whole): _Source(number, CodePrefilter(column, tuple(sorted(listed)), whole))
        for number, ((column, whole), listed) in enumerate(sorted(codes.items()))
    }


def _paired(records: DataFrame, dataset: str, units: list[RevisionPeriod]) -> DataFrame:
    """``records`` in scope of a policy on its day, a row a record and unit: ``_unit`` is its place in ``units``."""
    scopes = [unit.revision.scope.test or {} for unit in units]
    wanted = [code_prefilter(test, dataset) for test in scopes]
    sources = _sources(wanted)
    possible = [source.of.may_match for source in sources.values()]
    possible += [compile_test(test, dataset) for test, need in zip(scopes, wanted, strict=True) if need is None]
    in_any = reduce(lambda a, b: a | b, possible, F.lit(False))
    columns = {source.of.column for source in sources.values()}
    if len(columns) == 1 and None not in wanted:
        # Where the one column is NULL no scope holds: said apart, so that the scan skips by it.
        in_any = F.col(columns.pop()).isNotNull() & in_any
    rows = []
    for number, (unit, need) in enumerate(zip(units, wanted, strict=True)):
        source = sources[need.column, need.whole] if need else None
        keys = [f"{source.number}:{key}" for key in need.keys] if need and source else [_ANY_RECORD]
        rows += [(key, number, keys, unit.since, unit.until) for key in keys]
    table = small_frame(
        records.sparkSession, rows, "_key string, _unit int, _unit_keys array<string>, _since date, _until date"
    )
    held = [source.keys for source in sources.values()]
    if None in wanted:
        held.append(F.array(F.lit(_ANY_RECORD)))
    every_key = F.concat(*held) if held else F.array().cast("array<string>")
    candidates = (
        records.where(in_any)
        .withColumn("_keys", every_key)
        .withColumn("_record_key", F.explode("_keys"))
        .join(F.broadcast(table), F.col("_record_key") == F.col("_key"))
    )
    day = basis_day(dataset)
    once = F.get(F.array_intersect("_keys", "_unit_keys"), F.lit(0)) == F.col("_key")
    in_span = (F.col("_since").isNull() | (day >= F.col("_since"))) & (
        F.col("_until").isNull() | (day < F.col("_until"))
    )
    # Where the stored four characters are the whole scope, their key has said it all.
    in_scope: Column | None = None
    for number, test in enumerate(scopes):
        if not stored_four(test):
            condition, scope = F.col("_unit") == number, compile_test(test, dataset)
            in_scope = F.when(condition, scope) if in_scope is None else in_scope.when(condition, scope)
    kept = candidates.where(once & in_span)
    if in_scope is not None:
        kept = kept.where(in_scope.otherwise(F.lit(True)))
    return kept.drop("_keys", "_record_key", "_key", "_unit_keys", "_since", "_until")


def scope_totals(records: DataFrame, dataset: str, units: list[RevisionPeriod]) -> DataFrame:
    """Of each revision and year, all records of its span (``records_in``) and those whose scope cannot be decided
    (``records_missing``): step 0 of the attrition. Reads the light columns only, and counts them by day first, so that a
    hundred revisions cost what one does. A local policy has the records of all boards here: who is not its own board's
    patient is out of its scope."""
    units = [unit for unit in units if unit.policy.dataset == dataset]
    undecided: dict[str, Column] = {}
    rows = []
    for unit in units:
        test = unit.revision.scope.test or {}
        columns = null_columns(test, dataset)
        name = columns[0] if columns else json.dumps(test, sort_keys=True)
        undecided.setdefault(name, F.col(name).isNull() if columns else compile_test(test, dataset).isNull())
        rows.append((unit.policy.id, unit.revision.name, list(undecided).index(name), unit.since, unit.until))
    spans = small_frame(
        records.sparkSession, rows, "policy_id string, revision string, _test int, _since date, _until date"
    )
    counts = F.array(*[F.count_if(column) for column in undecided.values()]).cast("array<bigint>")
    by_day = records.groupBy("financial_year", basis_day(dataset).alias("_day")).agg(
        F.count("*").alias("_records"), counts.alias("_undecided")
    )
    day = F.col("_day")
    in_span = (F.col("_since").isNull() | (day >= F.col("_since"))) & (
        F.col("_until").isNull() | (day < F.col("_until"))
    )
    return (
        by_day.join(F.broadcast(spans), in_span)
        .groupBy("policy_id", "revision", "financial_year")
        .agg(
            F.sum("_records").alias("records_in"),
            F.sum(F.get("_undecided", F.col("_test"))).alias("records_missing"),
        )
    )
