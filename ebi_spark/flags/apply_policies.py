"""Applies all policies to the records in one pass. The cost hardly grows with the number of policies.

1. A simple filter keeps the records that can be in scope of any policy (a fraction of a percent).
2. Each of these records is paired, through its codes, with the few revisions whose scope needs one of those codes.
3. Clauses are evaluated for these pairs only. Each distinct test of a revision is evaluated once and serves all readings
   and every decision reversed on its own. Revisions share their tests where they differ only in scope, or where the tests
   of one are a subset of those of another.
4. Two bit masks record which tests are false and which are undecided. A reading is a selection of bits, so the query plan
   has one such expression, however many policies there are.
"""

from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.default_codes import MISSING, has
from ebi_spark.errors import InputError
from ebi_spark.geography.boards import restrict_to_board
from ebi_spark.geography.record_areas import Lookups, lookup_day, with_area
from ebi_spark.policies.code_prefilter import KEY_LENGTH, CodePrefilter, code_prefilter
from ebi_spark.policies.compile import (
    AS_SEEN,
    FIELDS,
    compile_test,
    holds,
    null_column,
    stored_four,
)
from ebi_spark.policies.model import AS_PUBLISHED, READINGS, Clause, RevisionPeriod, Test
from ebi_spark.policies.patterns import one_of
from ebi_spark.small_frames import small_frame

FLAGGED, NOT_FLAGGED = "flagged", "not_flagged"
# A long has 63 bits besides its sign.
MOST_TESTS = 63
_ANY_RECORD = "*"


def basis_day(dataset: str) -> Column:
    """The day that decides which revision applies to a record (decision 11): the admission date of a spell, or the
    appointment date of an attendance. A record without that date uses its activity date, and without either the first day
    of its financial year."""
    own = [F.col("admission_date")] if dataset == "apc" else []
    return F.coalesce(*own, lookup_day())


def apply_policies(records: DataFrame, dataset: str, periods: list[RevisionPeriod], lookups: Lookups) -> DataFrame:
    """One row for each record in scope, revision and reading, with the columns of ``gold/activity_flag`` except ``run_id``.

    | record_id | policy_id           | reading      | → outcome   | failed_clauses | near_miss |
    |-----------|---------------------|--------------|-------------|----------------|-----------|
    | 1         | 2Y_back_pain_fusion | as_published | flagged     | []             | false     |
    | 1         | 2Y_back_pain_fusion | as_intended  | not_flagged | [age]          | true      |
    | 2         | (in no scope)       |              | (no row)    |                |           |

    ``records`` are rows of the silver table of ``dataset``; ``periods`` of other datasets are ignored. ``missing_clauses``
    lists the clauses that could not be decided, ``decisive_decisions`` the decisions that change the outcome when reversed
    alone. Area columns are NULL where the area is unknown. Raises an :class:`InputError` for a revision with too many tests.
    """
    periods = [period for period in periods if period.policy.dataset == dataset]
    with_areas = with_area(_paired(records, dataset, periods), lookups)
    own = restrict_to_board(with_areas, [period.policy.boards for period in periods], lookup_day())
    tests = _shared_tests(periods)
    evaluated = _with_states(own, tests, dataset).withColumns(
        {
            f"{mask}{seen}": F.expr(_mask(bits, seen))
            for mask, bits in (("_false", _IS_FALSE), ("_undecided", _IS_UNDECIDED))
            for seen in (_AS_CODES, _BY_MEANING)
        }
    )
    readings = small_frame(
        records.sparkSession,
        [
            row
            for number, (period, found) in enumerate(zip(periods, tests, strict=True))
            for row in _readings(number, period, found)
        ],
        _READINGS,
    )
    codes = F.col("reading") == AS_PUBLISHED  # every other reading takes default codes by their meaning
    outcomes = (
        evaluated.join(F.broadcast(readings), F.col("_unit") == F.col("_reading_unit"))
        .withColumns(
            {
                mask: F.when(codes, F.col(f"{mask}{_AS_CODES}")).otherwise(F.col(f"{mask}{_BY_MEANING}"))
                for mask in ("_false", "_undecided")
            }
        )
        .withColumn("_passes", F.expr(_PASSES))
        # One step for all expressions over lists: Spark does not compile them, and copies each record before such a step.
        .withColumns(
            {
                "failed_clauses": F.expr(_FAILED),
                "missing_clauses": F.expr(_MISSING),
                "decisive_decisions": F.expr(_DECISIVE),
            }
        )
    )
    return outcomes.select(
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


# The state of a test is 0 (false), 1 (true) or 2 (cannot be decided). It takes two bits, so one 64-bit word has the states
# of 32 tests. A mask has one bit for each test: even positions for tests of the first word, odd ones for the second.
_IN_A_WORD = 32
# Each test has two states for a record: one with the codes as written, and one with default codes taken by their meaning.
# The two are the same for nearly every record.
_AS_CODES, _BY_MEANING = "_as_codes", "_by_meaning"
_IS_FALSE = "~({0} | shiftrightunsigned({0}, 1))"
_IS_UNDECIDED = "shiftrightunsigned({0}, 1)"
_EVEN = f"{sum(1 << place for place in range(0, 64, 2))}L"


def _mask(word_expression: str, seen: str) -> str:
    words = (f"_first_states{seen}", f"_second_states{seen}")
    first, second = (f"({word_expression.format(word)} & {_EVEN})" for word in words)
    return f"{first} | shiftleft({second}, 1)"


def _place(number: int) -> int:
    """The position of a test's bit in a mask."""
    word, place = divmod(number, _IN_A_WORD)
    return 2 * place + word


_READINGS = (
    "_reading_unit int, policy_id string, revision string, reading string, policy_fingerprint string, _first_day date, "
    "_all struct<fails:bigint,drops:bigint>, _clauses array<struct<id:string,fails:bigint,drops:bigint>>, "
    "_flips array<struct<decision:string,fails:bigint,drops:bigint>>"
)
_BLOCKING = "((_false & {0}.fails) | (_undecided & {0}.drops))"
_PASSES = f"{_BLOCKING.format('_all')} = 0"
_FAILED = f"transform(filter(_clauses, c -> {_BLOCKING.format('c')} <> 0), c -> c.id)"
_MISSING = "transform(filter(_clauses, c -> (_undecided & c.fails) <> 0), c -> c.id)"
_DECISIVE = f"transform(filter(_flips, f -> ({_BLOCKING.format('f')} = 0) <> _passes), f -> f.decision)"


# What a clause tests: its kind and its test.
_TestKey = tuple[str, Test | None]


@dataclass(frozen=True, eq=False)
class _Tests:
    """Distinct tests. The number of each gives its position in a record's states and in the masks."""

    clauses: dict[_TestKey, Clause]

    @property
    def numbers(self) -> dict[_TestKey, int]:
        """The number of each test."""
        return {name: number for number, name in enumerate(self.clauses)}

    def bits(self, clause: Clause) -> tuple[int, int]:
        """Two masks for a clause. The first has the bit of its test: a record on which the test is false is not flagged. The second
        has the same bit if a record on which the test is undecided is not flagged either, otherwise none."""
        bit = 1 << _place(self.numbers[_test_key(clause)])
        return bit, bit if clause.missing == "fails" else 0

    def joined(self, clauses: tuple[Clause, ...]) -> dict[str, int]:
        """The combined bits of several clauses."""
        fails = drops = 0
        for clause in clauses:
            bit, dropped = self.bits(clause)
            fails, drops = fails | bit, drops | dropped
        return {"fails": fails, "drops": drops}


def _distinct_tests(period: RevisionPeriod) -> _Tests:
    """The distinct tests of one revision, over all its readings and reversed decisions."""
    deciding = [reading.deciding for reading in period.revision.readings.values()]
    deciding += [flip.deciding for flip in period.revision.flips]
    clauses: dict[_TestKey, Clause] = {}
    for clause in (clause for listed in deciding for clause in listed):
        clauses.setdefault(_test_key(clause), clause)
    if len(clauses) > MOST_TESTS:
        raise InputError(
            f"policies: {period.key} has {len(clauses)} different tests; a revision can have at most {MOST_TESTS}",
            remedy="combine clauses with any_of, or split the policy in two",
        )
    return _Tests(clauses)


def _shared_tests(periods: list[RevisionPeriod]) -> list[_Tests]:
    """The tests to evaluate for each revision period: its own, or those of a period whose tests include them all."""
    own = [_distinct_tests(period) for period in periods]
    kept: list[_Tests] = []
    for tests in sorted(own, key=lambda tests: len(tests.clauses), reverse=True):
        if not any(tests.clauses.keys() <= other.clauses.keys() for other in kept):
            kept.append(tests)
    return [next(other for other in kept if tests.clauses.keys() <= other.clauses.keys()) for tests in own]


def _states(tests: list[_Tests], dataset: str, reading: str) -> dict[str, Column]:
    """The two words of test states for a record's revision period, with codes taken as ``reading`` takes them. The Column of
    a test that several policies share (cancer, private patients …) is built once."""
    made: dict[_TestKey, Column] = {}
    return {
        name: _word(tests, dataset, reading, made, at)
        for name, at in (("_first_states", 0), ("_second_states", _IN_A_WORD))
    }


def _with_states(records: DataFrame, tests: list[_Tests], dataset: str) -> DataFrame:
    """``records`` with the words of test states, for codes as written and for default codes taken by their meaning.

    Few records have a default code. All others have the same words for both, so their tests are evaluated once."""
    as_codes = _states(tests, dataset, AS_PUBLISHED)
    seen = records.withColumns({f"{name}{_AS_CODES}": word for name, word in as_codes.items()})
    columns = sorted(set(FIELDS[dataset].values()) - {FIELDS[dataset][name] for name in AS_SEEN})
    any_default = reduce(or_, [has(column, *MISSING) for column in columns])
    meant = _states(tests, dataset, READINGS[1])
    return seen.withColumns(
        {
            f"{name}{_BY_MEANING}": F.when(any_default, word).otherwise(F.col(f"{name}{_AS_CODES}"))
            for name, word in meant.items()
        }
    )


def _word(tests: list[_Tests], dataset: str, reading: str, made: dict[_TestKey, Column], at: int) -> Column:
    """The states of the tests from number ``at`` on, as many as fit in a word; 0 where a period has no such test."""
    undecided, none = F.lit(2).cast("bigint"), F.lit(0).cast("bigint")
    word: Column | None = None
    for group in dict.fromkeys(tests):
        listed = list(group.clauses.items())[at : at + _IN_A_WORD]
        for name, clause in listed:
            if name not in made:
                made[name] = F.coalesce(holds(clause, dataset, reading).cast("bigint"), undecided)
        if listed:
            states = [F.shiftleft(made[name], 2 * place) for place, (name, _) in enumerate(listed)]
            condition = F.col("_unit").isin(*[number for number, item in enumerate(tests) if item is group])
            found = reduce(lambda a, b: a.bitwiseOR(b), states)
            word = F.when(condition, found) if word is None else word.when(condition, found)
    return none if word is None else word.otherwise(none)


def _readings(number: int, period: RevisionPeriod, tests: _Tests) -> list[dict[str, Any]]:
    """One row for each reading of the period: its clauses in order, and the decisions to reverse from it."""
    policy, revision = period.policy, period.revision
    rows = []
    for name in READINGS:
        reading = revision.readings[name]
        clauses = [dict(zip(("id", "fails", "drops"), (c.id, *tests.bits(c)), strict=True)) for c in reading.deciding]
        flips = [
            {"decision": flip.decision, **tests.joined(flip.deciding)} for flip in revision.flips if flip.base == name
        ]
        rows.append(
            {
                "_reading_unit": number,
                "policy_id": policy.id,
                "revision": revision.name,
                "reading": name,
                "policy_fingerprint": reading.fingerprint,
                "_first_day": min(item.start for item in policy.revisions),
                "_all": tests.joined(reading.deciding),
                "_clauses": clauses,
                "_flips": flips,
            }
        )
    return rows


def _test_key(clause: Clause) -> _TestKey:
    return clause.kind, clause.test


# Which records can be in scope, and of which policies


@dataclass(frozen=True)
class _Source:
    """A column in which scopes search for codes, with all the codes that any of them needs there."""

    number: int
    prefilter: CodePrefilter

    @property
    def keys(self) -> Column:
        """The distinct keys in a record's column, each prefixed with the number of the source."""
        column = F.col(self.prefilter.column)
        if self.prefilter.whole:
            return F.array_compact(F.array(F.concat(F.lit(f"{self.number}:"), column)))
        starts = one_of({code[:KEY_LENGTH] for code in self.prefilter.codes})
        # A look-ahead finds overlapping keys too.
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


def _paired(records: DataFrame, dataset: str, periods: list[RevisionPeriod]) -> DataFrame:
    """One row for each record and revision period whose scope it is in on its day; ``_unit`` is the index in ``periods``.

    | record_id | in the scope of       | → _unit |
    |-----------|-----------------------|---------|
    | 1         | a fusion policy       | 0       |
    | 1         | its local policy too  | 3       |
    | 2         | no policy of its day  | no row  |
    """
    scopes = [period.revision.scope_test for period in periods]
    wanted = [code_prefilter(test, dataset) for test in scopes]
    sources = _sources(wanted)
    possible = [source.prefilter.may_match for source in sources.values()]
    possible += [compile_test(test, dataset) for test, need in zip(scopes, wanted, strict=True) if need is None]
    in_any = reduce(or_, possible, F.lit(False))
    columns = {source.prefilter.column for source in sources.values()}
    if len(columns) == 1 and None not in wanted:
        # Where the only column is NULL, no scope can be met. A separate condition lets the scan skip such data.
        in_any = F.col(columns.pop()).isNotNull() & in_any
    rows = []
    for number, (period, need) in enumerate(zip(periods, wanted, strict=True)):
        source = sources[need.column, need.whole] if need else None
        keys = [f"{source.number}:{key}" for key in need.keys] if need and source else [_ANY_RECORD]
        rows += [(key, number, keys, period.since, period.until) for key in keys]
    table = small_frame(
        records.sparkSession, rows, "_key string, _unit int, _unit_keys array<string>, _since date, _until date"
    )
    keys_by_source = [source.keys for source in sources.values()]
    if None in wanted:
        keys_by_source.append(F.array(F.lit(_ANY_RECORD)))
    every_key = F.concat(*keys_by_source) if keys_by_source else F.array().cast("array<string>")
    candidates = (
        records.where(in_any)
        .withColumn("_keys", every_key)
        .withColumn("_record_key", F.explode("_keys"))
        .join(F.broadcast(table), F.col("_record_key") == F.col("_key"))
    )
    once = F.get(F.array_intersect("_keys", "_unit_keys"), F.lit(0)) == F.col("_key")
    # Where the scope only asks for the stored four characters, the matching key already decides it.
    in_scope: Column | None = None
    for number, test in enumerate(scopes):
        if not stored_four(test):
            condition, scope = F.col("_unit") == number, compile_test(test, dataset)
            in_scope = F.when(condition, scope) if in_scope is None else in_scope.when(condition, scope)
    kept = candidates.where(once & _in_span(basis_day(dataset)))
    if in_scope is not None:
        kept = kept.where(in_scope.otherwise(F.lit(True)))
    return kept.drop("_keys", "_record_key", "_key", "_unit_keys", "_since", "_until")


def _in_span(day: Column) -> Column:
    """Whether a day is from ``_since`` (inclusive) to ``_until`` (exclusive). NULL is no bound."""
    since, until = F.col("_since"), F.col("_until")
    return (since.isNull() | (day >= since)) & (until.isNull() | (day < until))


def scope_totals(records: DataFrame, dataset: str, periods: list[RevisionPeriod]) -> DataFrame:
    """One row for each policy, revision and financial year: step 0 of the attrition.

    | financial_year | day        | scope can be decided | → policy_id | revision | financial_year | records_in | records_missing |
    |----------------|------------|----------------------|-------------|----------|----------------|------------|-----------------|
    | 2022-23        | 2022-05-01 | yes                  | P           | 2021-04  | 2022-23        | 3          | 1               |
    | 2022-23        | 2022-05-01 | yes                  |             |          |                |            |                 |
    | 2022-23        | 2022-06-01 | no                   |             |          |                |            |                 |

    ``records_in`` counts all records on days when the revision is in force, ``records_missing`` those whose scope cannot be
    decided. Records of all boards count for a local policy too: other boards' patients are out of its scope.

    Reads only small columns and counts by day first, so that a hundred revisions cost as much as one.
    """
    periods = [period for period in periods if period.policy.dataset == dataset]
    undecided: dict[str | Test, Column] = {}
    rows = []
    for period in periods:
        test = period.revision.scope_test
        column = null_column(test, dataset)
        key = column or test
        undecided.setdefault(key, F.col(column).isNull() if column else compile_test(test, dataset).isNull())
        rows.append((period.policy.id, period.revision.name, list(undecided).index(key), period.since, period.until))
    spans = small_frame(
        records.sparkSession, rows, "policy_id string, revision string, _test int, _since date, _until date"
    )
    counts = F.array(*[F.count_if(column) for column in undecided.values()]).cast("array<bigint>")
    by_day = records.groupBy("financial_year", basis_day(dataset).alias("_day")).agg(
        F.count("*").alias("_records"), counts.alias("_undecided")
    )
    return (
        by_day.join(F.broadcast(spans), _in_span(F.col("_day")))
        .groupBy("policy_id", "revision", "financial_year")
        .agg(
            F.sum("_records").alias("records_in"),
            F.sum(F.get("_undecided", F.col("_test"))).alias("records_missing"),
        )
    )
