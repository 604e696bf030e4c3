"""The public Python API, for notebooks and scripts.

Only the names in ``ebi_spark.__all__`` are public: they keep their meaning, and the change log says when one changes.
Every other module, function and class of the package is private and can change with any version.

Nothing here starts a Spark session. The functions that need one use that of the DataFrame they are given, or the active
one, which can be a Spark Connect or Databricks session too. Each example runs as a test.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from ebi_spark.config.lake_location import LakeLocation, lake_location
from ebi_spark.errors import InputError
from ebi_spark.flags.apply_policies import apply_policies, basis_day
from ebi_spark.flags.explain import SHOWN, explain_records
from ebi_spark.geography.area_versions import read_geography
from ebi_spark.geography.record_areas import Lookups
from ebi_spark.lake.local_tables import LocalLake, UnreadableTableError
from ebi_spark.lake.storage import Lake
from ebi_spark.policies import compile as compiled
from ebi_spark.policies import load
from ebi_spark.policies.checks import refuse_drafts
from ebi_spark.policies.code_books import code_books
from ebi_spark.policies.diff import revision_of
from ebi_spark.policies.lint import LintFinding, lint
from ebi_spark.policies.model import AS_PUBLISHED, READINGS, Clause, Policy, Revision, RevisionPeriod, fields_of
from ebi_spark.rates.activity_change import change_of_periods
from ebi_spark.rates.methods import crude_rate, dobson_limits, rate_status, standard_error, standardised_rate
from ebi_spark.rates.population import standard_weights
from ebi_spark.rates.population_files import BAND_YEARS
from ebi_spark.records.cleaning import age_in_years, clean
from ebi_spark.records.code_lists import as_text
from ebi_spark.records.column_kinds import ATTENDANCE_KINDS, CODE_KINDS, DERIVED_KINDS, RECORD_KINDS, SPELL_KINDS
from ebi_spark.release.current import no_such_release
from ebi_spark.small_frames import arrow_frame, small_frame
from ebi_spark.tables.monitoring_changes import ACTIVITY_CHANGE, ACTIVITY_COUNT
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.silver import RECORD_TABLES
from ebi_spark.tables.table import Table

# How each column is cleaned.
_KINDS = {
    **RECORD_KINDS,
    **CODE_KINDS,
    **SPELL_KINDS,
    **ATTENDANCE_KINDS,
    **DERIVED_KINDS,
    "activity_date": "day",
    "age_years": "number",
}
# The columns that give a record its day, the first of them that is not NULL (decision 11).
_DAYS = {"apc": ("admission_date", "activity_date", "financial_year"), "op": ("activity_date", "financial_year")}
# The types of a column that are read as the type that silver has.
_ACCEPTED = {
    "string": ("string",),
    "int": ("int", "bigint", "smallint", "tinyint", "string"),
    "date": ("date", "string"),
}
_WHOLE = ("int", "bigint", "smallint", "tinyint")
_COUNTS = {
    "sex": ("string", *_WHOLE),
    "age_from": _WHOLE,
    "events": ("bigint", *_WHOLE, "double", "float"),
    "people": ("bigint", *_WHOLE, "double", "float"),
}
# One call shows the values of at most this many records.
_MOST_EXPLAINED = 20
_FLAG_COLUMNS = (
    "record_id", "policy_id", "revision", "reading", "outcome", "failed_clauses", "missing_clauses", "near_miss",
    "decisive_decisions", "back_cast",
)  # fmt: skip


def load_policies(folder: str | Path | None = None, *, only: Iterable[str] | None = None) -> list[Policy]:
    """Load and check the shipped policies and, with ``folder``, those in its YAML files.

    - ``only``: the ids of the policies to return; None returns all.

    Returns the policies, sorted by ``id``. A policy also has ``title``, ``dataset`` (``apc`` for spells, ``op`` for
    attendances), ``default_reading``, and ``revisions``, in order of their days. A revision has ``name``, ``start``
    (its first day), ``end`` (the day after its last, None if it has not ended) and ``readings``, by name.

    Raises an ``InputError`` that names the file, the line and the remedy where a policy is wrong, and one for an
    unknown folder or id. It needs no Spark session.

    >>> for policy in ebi_spark.load_policies(only=["2S_lower_back_imaging", "2Y_back_pain_fusion"]):
    ...     print(policy.id, policy.dataset, policy.default_reading, [revision.name for revision in policy.revisions])
    2S_lower_back_imaging op as_intended ['2023-12']
    2Y_back_pain_fusion apc as_published ['2022-08', '2024-09']
    """
    return load.load_policies([Path(folder)] if folder is not None else [], only)


def lint_policies(policies: Iterable[Policy] | None = None, *, code_files: Iterable[str | Path] = ()) -> pd.DataFrame:
    """Check the codes of policies against ICD-10 and OPCS-4, as ``ebi-spark policy lint`` does.

    - ``policies``: the result of :func:`load_policies`; None checks the shipped policies.
    - ``code_files``: CSV files to use instead of the shipped code book of their system.

    Returns a pandas DataFrame with one row for each pattern to change, and no rows if there is nothing to change. Its
    columns are texts without nulls: ``policy``, ``revision``, ``reading`` (the first that has the clause), ``clause``,
    ``pattern``, ``kind`` (what is wrong), ``text`` (the facts), ``change`` (what to write instead) and ``file`` (the
    policy's file). One more column, ``line``, is a number: the line in this file, or null for a clause that is in the file of an
    extended policy.

    Raises an ``InputError`` that names the file and line of a code book that cannot be read. It needs no Spark session.

    >>> ebi_spark.lint_policies().empty
    True
    >>> ebi_spark.lint_policies(ebi_spark.load_policies("my_policies", only=["knee"]))[["clause", "pattern", "kind"]]
          clause pattern  kind
    0  arthrosis    M177  dead
    """
    if policies is None:
        policies = load_policies()
    findings = lint(policies, code_books(tuple(map(Path, code_files))))
    frame = pd.DataFrame(
        [finding.as_dict() for finding in findings], columns=[item.name for item in fields(LintFinding)]
    )
    return frame.astype({"line": "Int64"})


def needed_columns(policy: Policy | str) -> pd.DataFrame:
    """The columns that :func:`apply_policy` uses of a DataFrame of records.

    - ``policy``: a policy, or the id of a shipped one.

    Returns a pandas DataFrame with one row for each column: ``column``, ``type`` (Spark's name), ``required`` (False for
    a column that may be absent and then counts as NULL in every record) and ``meaning``. None of them is null. Only a
    policy with several revisions needs a day: one of the columns of days, unless ``on`` is given.

    Raises an ``InputError`` for an unknown policy. It needs no Spark session.

    >>> ebi_spark.needed_columns("2S_lower_back_imaging")[["column", "type", "required"]]
                         column    type  required
    0                 record_id  string      True
    1           procedure_codes  string      True
    2   administrative_category  string     False
    3                       age     int     False
    4                 age_years     int     False
    5         attendance_status  string     False
    6           diagnosis_codes  string     False
    7           referral_source  string     False
    8        treatment_function  string     False
    9             activity_date    date     False
    10           financial_year  string     False
    """
    policy = _policy(policy)
    table = {name: (kind, meaning) for name, kind, meaning in RECORD_TABLES[policy.dataset].fields()}
    required, optional = _columns_of(policy)
    return pd.DataFrame(
        [(name, table[name][0], name in required, table[name][1]) for name in (*required, *optional)],
        columns=["column", "type", "required", "meaning"],
    )


def apply_policy(
    records: DataFrame, policy: Policy | str, *, reading: str | None = None, on: date | str | None = None
) -> DataFrame:
    """Apply one policy to a DataFrame of spells or attendances, exactly as ``ebi-spark flag`` does.

    - ``records``: one row for each record, with the columns of :func:`needed_columns` (upper and lower case are the same);
      all others are ignored. Values are cleaned as in ``ingest``: codes may be in lower case or have dots, and lists of
      codes may be text (``M54.5,Z98.1``, SUS+'s ``||M545 ,Z981``, or silver's ``,M545,Z981,``) or ``array<string>``. An
      absent ``age_years`` is computed from ``age``. A clause on an absent column cannot be decided.
    - ``policy``: a policy, or the id of a shipped one. A local policy is applied to all ``records``: keep only the
      patients of its board in them.
    - ``reading``: ``as_published``, ``as_intended`` or ``guidance_coded``; None is the policy's default.
    - ``on``: a day. The revision in force on it is applied to all records; None applies to each record the revision in
      force on its own day. Activity before the first revision always gets the first revision.

    Returns a DataFrame with one row for each record in the policy's scope; records out of scope, and those on which it
    cannot be decided, have none. Join it to ``records`` by ``record_id``.

    - ``record_id``, ``policy_id``, ``revision``, ``reading``: texts, never NULL.
    - ``outcome``: ``flagged`` or ``not_flagged``, never NULL.
    - ``failed_clauses``: the ids of the clauses that kept the record from being flagged; an empty list if it is flagged.
    - ``missing_clauses``: the ids of the clauses that could not be decided, because a value is missing; an empty list if
      all were decided.
    - ``near_miss``: whether exactly one clause failed.
    - ``decisive_decisions``: the decisions that change the outcome when reversed alone.
    - ``back_cast``: whether the record's day is before the first revision; NULL for a record without a day.

    Raises an ``InputError`` for an unknown policy or reading, a draft, a required column that is missing, a column of
    another type, and a day on which no revision is in force.

    >>> records = spark.createDataFrame(
    ...     [("a", "V38.2", "M54.5", "M54.5,Z98.1", 45), ("b", "V382", "M545", "M545,C795", 45), ("c", "W371", "M170", "M170", 70)],
    ...     "record_id string, dominant_procedure string, primary_diagnosis string, diagnosis_codes string, age int",
    ... ).selectExpr("*", "'11' AS admission_method", "'01' AS administrative_category")
    >>> flags = ebi_spark.apply_policy(records, "2Y_back_pain_fusion", on="2024-04-01")
    >>> flags.select("record_id", "revision", "outcome", "failed_clauses", "near_miss").sort("record_id").show()
    +---------+--------+-----------+---------------+---------+
    |record_id|revision|    outcome| failed_clauses|near_miss|
    +---------+--------+-----------+---------------+---------+
    |        a| 2022-08|    flagged|             []|    false|
    |        b| 2022-08|not_flagged|[global_cancer]|     true|
    +---------+--------+-----------+---------------+---------+
    <BLANKLINE>
    """
    policy = _policy(policy)
    chosen = _reading(policy, reading)
    required, optional = _checked_columns(records, policy, on)
    if on is not None:
        periods = [RevisionPeriod(policy, _revision_on(policy, _as_day(on)), None, None)]
    else:
        periods = load.periods_in_force(policy)
    # The caller has chosen the records, so a local policy does not ask whose patients they are.
    everywhere = replace(policy, boards=())
    flags = apply_policies(
        _as_silver(records, policy, [*required, *optional]),
        policy.dataset,
        [replace(period, policy=everywhere) for period in periods],
        Lookups(practices=None, lsoas=None, known_codes=(), order=()),
    )
    return flags.where(F.col("reading") == chosen).select(*_FLAG_COLUMNS)


def explain(
    records: DataFrame, policy: Policy | str, *, reading: str | None = None, on: date | str | None = None
) -> pd.DataFrame:
    """Why a policy flags some records or not, clause by clause, as ``ebi-spark explain`` shows it.

    Unlike every other function, this one brings the values of records to the driver: choose a few records first.

    - ``records``, ``policy``, ``reading`` and ``on``: as for :func:`apply_policy`; at most 20 records.

    Returns a pandas DataFrame with one row for each record and clause of the revision that applies to it, in the order of
    the policy. All columns are texts without nulls:

    - ``record_id``;
    - ``sentence``, the same on all rows of a record: what the record is, and whether the policy flags it or why not, with the
      codes and their titles;
    - ``outcome``: ``flagged``, ``not flagged`` or ``not in scope``;
    - ``clause``, ``source_text``, ``test``, ``value`` (what the record has) and ``result``.

    Raises an ``InputError`` in the cases of :func:`apply_policy`, for more than 20 records, and for a record without a day if
    ``on`` is not given.

    >>> records = spark.createDataFrame(
    ...     [("b", "V382", "M545", "M545,C795", 45)],
    ...     "record_id string, dominant_procedure string, primary_diagnosis string, diagnosis_codes string, age int",
    ... ).selectExpr("*", "'11' AS admission_method", "'01' AS administrative_category")
    >>> found = ebi_spark.explain(records, "2Y_back_pain_fusion", on="2024-04-01")
    >>> print(found.sentence[0].rpartition("but ")[2])
    is not flagged: 1 of 6 clauses is not met (global_cancer, because it has C795 (Secondary malignant neoplasm of bone and bone marrow)).
    >>> found[["clause", "result"]]
                  clause    result
    0          procedure  in scope
    1  primary_diagnosis    passes
    2          deformity    passes
    3                age    passes
    4       non_elective    passes
    5      global_cancer     fails
    6    private_patient    passes
    """
    policy = _policy(policy)
    chosen = _reading(policy, reading)
    required, optional = _checked_columns(records, policy, on)
    day: Column | None = None
    if on is not None:
        revision = _revision_on(policy, _as_day(on))
        policy, day = replace(policy, revisions=(revision,)), F.lit(_as_day(on))
    elif len(policy.revisions) == 1:
        # The only revision applies to every record. If a record has no day, the revision's first day is used.
        day = F.coalesce(basis_day(policy.dataset), F.lit(policy.revisions[0].start))
    columns = list(dict.fromkeys([*required, *optional, *SHOWN[policy.dataset]]))
    silver = _as_silver(records, policy, columns).limit(_MOST_EXPLAINED + 1)
    alone = replace(policy, boards=(), default_reading=chosen)
    found = explain_records(silver, [alone], code_books(), None, day)
    if len(found) > _MOST_EXPLAINED:
        raise InputError(
            f"records: there are more than {_MOST_EXPLAINED}, and their values would all be shown",
            remedy="choose a few of them first, such as `records.where(\"record_id = 'a'\")`",
        )
    names = {"clause_id": "clause", "words": "source_text", "test": "test", "value": "value", "verdict": "result"}
    rows = [
        {"record_id": item["record_id"], "sentence": one.sentences[policy.id], "outcome": item["outcome"]}
        | {name: clause[key] for key, name in names.items()}
        for one in found
        for item in one.readings
        if item["in_force"] and item["reading"] == chosen
        for clause in item["clauses"]
    ]
    return pd.DataFrame(rows, columns=["record_id", "sentence", "outcome", *names.values()])


def clause(policy: Policy | str, clause_id: str, *, revision: str | None = None, reading: str | None = None) -> Column:
    """One clause of a policy as a Column, for ``select``, ``where`` or ``groupBy`` on a DataFrame of your own.

    - ``policy``: a policy, or the id of a shipped one.
    - ``clause_id``: the id of the clause in the policy's file.
    - ``revision``: the name of the revision; None is the newest.
    - ``reading``: ``as_published``, ``as_intended`` or ``guidance_coded``; None is the policy's default.

    Returns a BOOLEAN Column: true where the record meets the clause (for an exclusion: is not excluded), false where it
    does not, NULL where that cannot be decided. It reads the columns of :func:`needed_columns` as silver has them: codes
    in upper case without dots, lists of codes with a comma before and after each code, and, for a scope,
    ``dominant_procedure_4``.

    Raises an ``InputError`` for an unknown policy, revision, reading or clause, and for a clause without a test. Spark
    raises an ``AnalysisException`` where the DataFrame lacks a column. It needs an active Spark session.

    >>> records = spark.createDataFrame(
    ...     [("a", ",M545,Z981,"), ("b", ",M545,C795,"), ("c", None)], "record_id string, diagnosis_codes string"
    ... )
    >>> records.withColumn("no_cancer", ebi_spark.clause("2Y_back_pain_fusion", "global_cancer")).show()
    +---------+---------------+---------+
    |record_id|diagnosis_codes|no_cancer|
    +---------+---------------+---------+
    |        a|    ,M545,Z981,|     true|
    |        b|    ,M545,C795,|    false|
    |        c|           NULL|     NULL|
    +---------+---------------+---------+
    <BLANKLINE>
    """
    policy = _policy(policy)
    newest = policy.revisions[-1]
    chosen = newest if revision is None else revision_of(policy, revision)
    name = _reading(policy, reading)
    clauses = {item.id: item for item in chosen.readings[name].clauses}
    tested = [item.id for item in clauses.values() if item.test is not None]
    found = clauses.get(clause_id)
    if found is None or found.test is None:
        problem = "has no clause" if found is None else "has no test for the clause"
        raise InputError(
            f"policies: {policy.id}/{chosen.name} {problem} {clause_id!r} in the reading {name}",
            remedy=f"choose from: {', '.join(tested)}",
        )
    # A scope is tested as published in every reading (decision 8).
    return compiled.holds(found, policy.dataset, AS_PUBLISHED if found.kind == "scope" else name)


def standardised_rates(
    counts: DataFrame | pd.DataFrame, *, by: str | Sequence[str], standard: str = "england"
) -> DataFrame | pd.DataFrame:
    """Rates per 100,000 people, directly standardised for age and sex, from counts of anything.

    - ``counts``: a Spark or pandas DataFrame with one row for each group, sex and five-year age band: the columns of
      ``by``, ``sex`` (1 male, 2 female), ``age_from`` (first age of the band: 0, 5 … 90, the last for 90 and over),
      ``events`` (the count) and ``people`` (people, or person-years if the events are of several years). Rows of the same
      group, sex and band are added. Events of another sex or age, or without one, count in the crude rate only.
    - ``by``: the columns that make a group, such as an area and a year, or the name of the only one.
    - ``standard``: ``england`` (the shipped population), ``esp2013``, or the path of a CSV file with ``age_from``,
      ``people`` and, where they differ, ``sex``.

    Returns a DataFrame of the same kind with one row for each group: the columns of ``by``, and

    - ``events``, ``events_unknown_age_sex``, ``people``: sums; ``people`` is NULL where no row has people;
    - ``crude_rate``, ``standardised_rate``: per 100,000;
    - ``lower``, ``upper``: 95% limits of the standardised rate (Dobson), which take all events as independent;
    - ``standard_error``: of the standardised rate, per 100,000;
    - ``status``: ``ok``; ``few_events`` (fewer than 10); ``no_population`` where the group lacks people of some sex and
      band, so that all rates are NULL; ``not_calculated`` where a band has events but 0 people, so that the standardised
      rate is NULL. Without events ``upper`` is NULL: it cannot be calculated in this way.

    Raises an ``InputError`` for a missing column, a column of another type, and an unknown standard. A pandas DataFrame
    needs an active Spark session.

    >>> import pandas as pd
    >>> bands = pd.DataFrame([(sex, age) for sex in (1, 2) for age in range(0, 95, 5)], columns=["sex", "age_from"])
    >>> areas = pd.DataFrame({"area": ["A", "B"], "people": [5_000, 2_000]})
    >>> counts = areas.merge(bands, how="cross").assign(events=1)
    >>> counts.head(3)
      area  people  sex  age_from  events
    0    A    5000    1         0       1
    1    A    5000    1         5       1
    2    A    5000    1        10       1
    >>> rates = ebi_spark.standardised_rates(counts, by="area", standard="esp2013")
    >>> rates[["area", "events", "standardised_rate", "lower", "upper", "status"]].round(1)
      area  events  standardised_rate  lower  upper status
    0    A      38               20.0   13.8   27.9     ok
    1    B      38               50.0   34.6   69.6     ok
    """
    by = [by] if isinstance(by, str) else list(by)
    if not isinstance(counts, DataFrame):
        spark = SparkSession.getActiveSession()
        if spark is None:
            raise InputError(
                "counts: a pandas DataFrame needs a Spark session, and none is active",
                remedy="start one first: SparkSession.builder.getOrCreate()",
            )
        wanted = [name for name in (*by, *_COUNTS) if name in counts.columns]
        frame = arrow_frame(spark, pa.Table.from_pandas(counts[wanted], preserve_index=False))
        rates: pd.DataFrame = _rates(frame, by, standard).toPandas()
        return rates.sort_values(by, ignore_index=True) if by else rates
    return _rates(counts, by, standard)


def read_release(
    lake: str | Path | Mapping[str, Any], table: str = "rate", *, release_id: str | None = None
) -> pd.DataFrame:
    """One published table of one release, as a pandas DataFrame.

    - ``lake``: the folder of the lake, ``catalog.prefix``, or the mapping of the configuration's key ``lake``.
    - ``table``: a table of ``published/``, such as ``rate``, ``variation``, ``attrition`` or ``policy``; ``release`` is the
      manifest.
    - ``release_id``: the release; None is the current one.

    Returns the rows of the release with all columns of the table, in no particular order: docs/tables.md says what a row
    and each column is. A suppressed figure is null and has a ``status`` that says so: do not turn it into 0.

    Raises an ``InputError`` for an unknown table or release, and for a lake that has published nothing. A lake in a folder
    needs no Spark session; one at a URL or in a catalogue needs an active one.

    >>> rates = ebi_spark.read_release("lake")
    >>> rates[["release_id", "area_code", "activity", "status"]]
       release_id  area_code  activity          status
    0  2024-06-02  E92000001     112.0              ok
    1  2024-06-02        QYG      15.0              ok
    2  2024-06-02        QJ2       NaN  withheld_small
    """
    published = {item.name: item for item in TABLES.values() if item.layer == RELEASE.layer}
    if table not in published:
        raise InputError(
            f"there is no published table {table!r}", remedy=f"choose from: {', '.join(sorted(published))}"
        )
    location = _location(lake)
    releases = _rows(location, RELEASE)
    wanted = releases["is_current"] if release_id is None else releases["release_id"] == release_id
    chosen = releases[wanted.astype(bool)]
    if chosen.empty:
        raise no_such_release(location, release_id, releases["release_id"])
    if table == RELEASE.name:
        return chosen.reset_index(drop=True)
    return _rows(location, published[table], {"release_id": [str(chosen["release_id"].iloc[0])]})


def activity_change(
    lake: str | Path | Mapping[str, Any], policy: str, period_from: str, period_to: str, *, area: str = "england"
) -> pd.DataFrame:
    """How much each factor changed the flagged records of a policy between any two periods, as ``ebi-spark change`` shows it.

    - ``lake``: the folder of the lake, ``catalog.prefix``, or the mapping of the configuration's key ``lake``.
    - ``policy``: the id of a policy of ``conf/lumbar_fusions.yml``.
    - ``period_from``, ``period_to``: a year such as ``2018-19``, or a range such as ``2018-19..2020-21``, whose counts are added
      up. The periods need not have the same number of years.
    - ``area``: ``england``, or a type and a code such as ``icb:QYG``.

    Returns one row for each factor, the revision and both totals, with the columns of ``gold/activity_change`` without ``run_id``
    (docs/monitoring-changes.md). The parts add up to the difference of the totals. ``value_from`` and ``value_to`` are null for
    the revision and totals. **The figures are restricted**: they are made from ``gold/activity_count``, and small numbers are not
    suppressed.

    Raises an ``InputError`` if the lake has no counts of the policy, area or year, or if the periods have a year in common. A lake
    in a folder needs no Spark session; one at a URL or in a catalogue needs an active one.

    >>> change = ebi_spark.activity_change("lake", "2Y_back_pain_fusion", "2019-20..2020-21", "2021-22")
    >>> change[["component", "value_from", "value_to", "records"]].round(3)
                   component  value_from  value_to  records
    0                 people      2000.0    1000.0    -75.0
    1  operations_per_person         0.1       0.1      0.0
    2               in_scope         1.0       0.5    -75.0
    3      primary_diagnosis         1.0       1.0      0.0
    4           no_exclusion         1.0       1.0      0.0
    5                flagged         1.0       1.0      0.0
    6               revision         NaN       NaN      0.0
    7             total_from         NaN       NaN    200.0
    8               total_to         NaN       NaN     50.0
    """
    location = _location(lake)
    counts = _rows(location, ACTIVITY_COUNT, {"policy_id": [policy]})
    rows = [
        {name: None if pd.isna(value) else value for name, value in row.items()} for row in counts.to_dict("records")
    ]
    found = change_of_periods(rows, policy, area, period_from, period_to)
    return pd.DataFrame(found, columns=[name for name in ACTIVITY_CHANGE.names() if name != "run_id"])


def _location(lake: str | Path | Mapping[str, Any]) -> LakeLocation:
    return lake_location(dict(lake) if isinstance(lake, Mapping) else str(lake), Path.cwd())


def _rates(counts: DataFrame, by: Sequence[str], standard: str) -> DataFrame:
    """One row for each group: see :func:`standardised_rates`."""
    types = dict(counts.dtypes)
    for name in (*by, *_COUNTS):
        if name not in types:
            raise InputError(f"counts: the column {name} is missing", remedy="add it, or correct the name in `by`")
    for name, accepted in _COUNTS.items():
        if types[name] not in accepted:
            raise InputError(f"counts: the column {name} is {types[name]}", remedy=f"cast it to {accepted[0]} first")
    weights = standard_weights(standard, {}, read_geography())
    all_weights = float(sum(weights.values()))
    rows = [(sex, band * BAND_YEARS, weight) for (sex, band), weight in weights.items()]
    known = small_frame(counts.sparkSession, rows, "_sex string, _age int, _weight double")
    strata = counts.groupBy(*by, F.col("sex").cast("string").alias("_sex"), F.col("age_from").alias("_age")).agg(
        F.sum("events").alias("_events"), F.sum("people").alias("_people")
    )
    weight, events, people = F.col("_weight"), F.col("_events"), F.col("_people")
    share = F.when(people > 0, weight / people)
    groups = (
        strata.join(F.broadcast(known), ["_sex", "_age"], "left")
        .groupBy(*by)
        .agg(
            F.coalesce(F.sum(events), F.lit(0)).alias("events"),
            F.coalesce(F.sum(F.when(weight.isNull(), events)), F.lit(0)).alias("events_unknown_age_sex"),
            F.sum(people).alias("people"),
            F.coalesce(F.sum(F.when(weight.isNotNull(), events)), F.lit(0)).alias("_known"),
            F.coalesce(F.sum(share * events), F.lit(0.0)).alias("_rates"),
            F.coalesce(F.sum(share * share * events), F.lit(0.0)).alias("_variances"),
            F.count_if(weight.isNotNull() & people.isNotNull()).alias("_strata"),
            F.max((weight > 0) & (people == 0) & (events > 0)).alias("_empty"),
        )
    )
    has_people = F.col("_strata") == len(weights)
    computable = has_people & ~F.coalesce("_empty", F.lit(False))
    lower, upper = dobson_limits(F.col("_known"), F.col("_rates"), F.col("_variances"), all_weights)
    return groups.select(
        *by,
        "events",
        "events_unknown_age_sex",
        "people",
        F.when(has_people, crude_rate(F.col("events"), F.col("people"))).alias("crude_rate"),
        F.when(computable, standardised_rate(F.col("_rates"), all_weights)).alias("standardised_rate"),
        F.when(computable, lower).alias("lower"),
        F.when(computable, upper).alias("upper"),
        F.when(computable, standard_error(F.col("_variances"), all_weights)).alias("standard_error"),
        rate_status(has_people, computable, F.col("events")).alias("status"),
    )


def _policy(policy: Policy | str) -> Policy:
    return policy if isinstance(policy, Policy) else load_policies(only=[policy])[0]


def _reading(policy: Policy, reading: str | None) -> str:
    """The reading, or the policy's default for None."""
    if reading is None:
        return policy.default_reading
    if reading not in READINGS:
        raise InputError(f"there is no reading {reading!r}", remedy=f"choose from: {', '.join(READINGS)}")
    return reading


def _as_day(on: date | str) -> date:
    try:
        return date.fromisoformat(on) if isinstance(on, str) else on
    except ValueError:
        raise InputError(f"on: {on!r} is not a date", remedy="write dates as 2022-08-01") from None


def _revision_on(policy: Policy, day: date) -> Revision:
    """The revision that applies to a day; the first one also applies to days before it."""
    for period in load.periods_in_force(policy):
        if (period.since is None or day >= period.since) and (period.until is None or day < period.until):
            return period.revision
    spans = ", ".join(f"{item.start} to {item.end or 'now'}" for item in policy.revisions)
    raise InputError(f"on: no revision of {policy.id} is in force on {day}", remedy=f"choose a day within: {spans}")


def _columns_of(policy: Policy) -> tuple[list[str], list[str]]:
    """The silver columns that a policy needs, and those that may be absent, over all its revisions and readings."""

    def tested(clauses: Iterable[Clause]) -> set[str]:
        tests = [item.test for item in clauses if item.test is not None]
        return {compiled.FIELDS[policy.dataset][name] for test in tests for name in fields_of(test)}

    scope = tested(revision.scope for revision in policy.revisions)
    others: set[str] = set()
    for revision in policy.revisions:
        others |= tested(clause for reading in revision.readings.values() for clause in reading.clauses)
        others |= tested(clause for flip in revision.flips for clause in flip.clauses)
    if "age_years" in others:
        others.add("age")
    return ["record_id", *sorted(scope)], [*sorted(others - scope), *_DAYS[policy.dataset]]


def _checked_columns(records: DataFrame, policy: Policy, on: date | str | None) -> tuple[list[str], list[str]]:
    """The columns that a policy needs, and those that may be absent. Raises an :class:`InputError` if the policy cannot be applied
    to the records, or is a draft."""
    refuse_drafts([policy])
    required, optional = _columns_of(policy)
    present = {name.lower() for name in records.columns}
    if missing := [name for name in required if name not in present]:
        raise InputError(
            f"records: the column {missing[0]} is missing, and {policy.id} needs it",
            remedy=f"add it, or rename the column that has it; `needed_columns({policy.id!r})` lists all",
        )
    days = _DAYS[policy.dataset]
    if on is None and len(policy.revisions) > 1 and not present & {*days}:
        raise InputError(
            f"records: {policy.id} has {len(policy.revisions)} revisions, and no column gives the record's day",
            remedy=f"add one of {', '.join(days)}, or name a day with `on`",
        )
    return required, optional


def _as_silver(records: DataFrame, policy: Policy, needed: Sequence[str]) -> DataFrame:
    """``records`` with the columns of silver: those that the policy needs cleaned as in ingest, all others NULL."""
    types = {name.lower(): kind for name, kind in records.dtypes}
    silver = {name: kind for name, kind, _ in RECORD_TABLES[policy.dataset].fields()}
    present = [name for name in needed if name in types]
    for name in present:
        accepted = _ACCEPTED[silver[name]]
        if types[name] not in accepted and not (name in CODE_KINDS and types[name] == "array<string>"):
            raise InputError(f"records: the column {name} is {types[name]}", remedy=f"cast it to {accepted[0]} first")
    given = records.select(
        *[(as_text(F.col(n)) if types[n] == "array<string>" else F.col(n)).alias(n) for n in present]
    )
    cleaned = clean(given, {name: _KINDS[name] for name in present if name in _KINDS})
    typed = {name: F.col(name).cast(silver[name]) for name in present if silver[name] != "string"}
    if "age" in present and "age_years" not in present:
        typed["age_years"] = F.expr(age_in_years("CAST(age AS INT)"))
    # The row number, which is dropped again, stops Spark from replacing each column by the expression that cleans it.
    cleaned = cleaned.withColumns(typed).withColumn("_row", F.monotonically_increasing_id()).where("_row >= 0")
    own = {
        name: F.col(name) if name in cleaned.columns else F.lit(None).cast(kind)
        for name, kind in silver.items()
        if name != "cleaned"
    }
    own["dataset"] = F.lit(policy.dataset)
    if "dominant_procedure" in present:
        own["dominant_procedure_4"] = F.substring("dominant_procedure", 1, 4)
    return cleaned.select(*[column.alias(name) for name, column in own.items()])


def _rows(location: LakeLocation, table: Table, where: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """The rows of a small table, all or some. Spark is used only if nothing else can read the table."""
    where = where or {}
    spark, why = SparkSession.getActiveSession(), f"{location} is not a folder"
    if location.folder is not None:
        local = LocalLake(location)
        if not local.exists(table):
            remedy = "publish a release first" if table.layer == RELEASE.layer else "run `ebi-spark monitor` first"
            raise InputError(f"{location} has no table {table.full_name}", remedy=remedy)
        try:
            return local.frame(table, where)
        except UnreadableTableError as error:
            why = f"only Spark can read this table ({error})"
    if spark is None:
        raise InputError(
            f"{why}, and no Spark session is active",
            remedy="start one first: SparkSession.builder.getOrCreate()",
        )
    return Lake(spark, location).frame(table, where)
