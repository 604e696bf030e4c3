"""Records judged by all policies in one pass.

A plain condition keeps the records that any policy has in scope (a fraction of a percent); each of them is then paired
with the revisions in whose scope and span it lies, and only there are clauses evaluated, once for all readings.
"""

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.clinical_policy.compile import compile_test, holds, null_columns, passes
from ebi_spark.clinical_policy.model import PolicyReading, Unit
from ebi_spark.flags.areas import Lookups, with_area
from ebi_spark.small_frames import small_frame

FLAGGED, NOT_FLAGGED = "flagged", "not_flagged"


def basis_day(dataset: str) -> Column:
    """The day by which a revision is in force for a record: admission, or appointment (decision 11). A record without
    it goes by the first day of its financial year."""
    first_day = F.to_date(F.concat(F.substring("financial_year", 1, 4), F.lit("-04-01")))
    own = [F.col("admission_date")] if dataset == "apc" else []
    return F.coalesce(*own, F.col("activity_date"), first_day)


def _in_span(unit: Unit, day: Column) -> Column:
    conditions = []
    if unit.since is not None:
        conditions.append(day >= F.lit(unit.since))
    if unit.until is not None:
        conditions.append(day < F.lit(unit.until))
    return reduce(lambda a, b: a & b, conditions, F.lit(True)) if conditions else F.lit(True)


def _scope(unit: Unit) -> Column:
    return compile_test(unit.revision.scope.test or {}, unit.policy.dataset)


def judge_records(records: DataFrame, dataset: str, units: list[Unit], lookups: Lookups) -> DataFrame:
    """A row a record in scope, revision and reading, with the columns of ``gold/activity_flag`` but ``run_id``."""
    units = [unit for unit in units if unit.policy.dataset == dataset]
    scopes = [_scope(unit) for unit in units]
    in_any = reduce(lambda a, b: a | b, scopes, F.lit(False)) if scopes else F.lit(False)
    # Where one column's NULL leaves every scope undecided it must be there: said apart, so that the scan skips by it.
    needed = {column for unit in units for column in _undecided(unit) or ("",)}
    if len(needed) == 1 and "" not in needed:
        in_any = F.col(needed.pop()).isNotNull() & in_any
    day = basis_day(dataset)
    paired = F.array_compact(
        F.array(
            *[
                F.when(scope & _in_span(unit, day), F.lit(number))
                for number, (unit, scope) in enumerate(zip(units, scopes, strict=True))
            ]
        )
    )
    hits = records.where(in_any).withColumn("_unit", F.explode(paired)) if units else None
    if hits is None:
        hits = records.where(F.lit(False)).withColumn("_unit", F.lit(0))
    verdicts: Column | None = None
    for number, unit in enumerate(units):
        judged = F.array(*[_verdict(unit, reading) for reading in unit.revision.readings.values()])
        condition = F.col("_unit") == number
        verdicts = F.when(condition, judged) if verdicts is None else verdicts.when(condition, judged)
    if verdicts is None:
        verdicts = F.lit(None).cast(f"array<{_VERDICT}>")
    located = with_area(hits, lookups)
    return located.withColumn("_verdict", F.explode(verdicts)).select(
        F.col("_verdict.policy_id").alias("policy_id"),
        F.col("_verdict.revision").alias("revision"),
        F.col("_verdict.reading").alias("reading"),
        F.col("_verdict.policy_fingerprint").alias("policy_fingerprint"),
        F.col("_verdict.back_cast").alias("back_cast"),
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
        F.when(F.size("_verdict.failed_clauses") == 0, F.lit(FLAGGED)).otherwise(F.lit(NOT_FLAGGED)).alias("outcome"),
        F.col("_verdict.failed_clauses").alias("failed_clauses"),
        F.col("_verdict.missing_clauses").alias("missing_clauses"),
        (F.size("_verdict.failed_clauses") == 1).alias("near_miss"),
    )


_VERDICT = (
    "struct<policy_id:string,revision:string,reading:string,policy_fingerprint:string,back_cast:boolean,"
    "failed_clauses:array<string>,missing_clauses:array<string>>"
)


def _verdict(unit: Unit, reading: PolicyReading) -> Column:
    dataset = unit.policy.dataset
    failed = [F.when(~passes(clause, dataset), F.lit(clause.id)) for clause in reading.deciding]
    missing = [F.when(holds(clause, dataset).isNull(), F.lit(clause.id)) for clause in reading.deciding]
    none = F.array().cast("array<string>")
    first = min(revision.start for revision in unit.policy.revisions)
    return F.struct(
        F.lit(unit.policy.id).alias("policy_id"),
        F.lit(unit.revision.name).alias("revision"),
        F.lit(reading.reading).alias("reading"),
        F.lit(reading.fingerprint).alias("policy_fingerprint"),
        (basis_day(dataset) < F.lit(first)).alias("back_cast"),
        (F.array_compact(F.array(*failed)) if failed else none).alias("failed_clauses"),
        (F.array_compact(F.array(*missing)) if missing else none).alias("missing_clauses"),
    )


def _undecided(unit: Unit) -> list[str]:
    return null_columns(unit.revision.scope.test or {}, unit.policy.dataset) or []


def scope_totals(records: DataFrame, dataset: str, units: list[Unit]) -> DataFrame:
    """Of each revision and year, all records of its span (``records_in``) and those whose scope cannot be decided
    (``records_missing``): step 0 of the attrition. Reads the light columns only."""
    units = [unit for unit in units if unit.policy.dataset == dataset]
    day = basis_day(dataset)
    counts = []
    for number, unit in enumerate(units):
        span = _in_span(unit, day)
        columns = _undecided(unit)
        undecided = F.col(columns[0]).isNull() if columns else _scope(unit).isNull()
        counts += [F.count_if(span).alias(f"in_{number}"), F.count_if(span & undecided).alias(f"missing_{number}")]
    if not counts:
        return small_frame(
            records.sparkSession,
            [],
            "policy_id string, revision string, financial_year string, records_in long, records_missing long",
        )
    by_year = records.groupBy("financial_year").agg(*counts)
    rows = F.array(
        *[
            F.struct(
                F.lit(unit.policy.id).alias("policy_id"),
                F.lit(unit.revision.name).alias("revision"),
                F.col(f"in_{number}").alias("records_in"),
                F.col(f"missing_{number}").alias("records_missing"),
            )
            for number, unit in enumerate(units)
        ]
    )
    return by_year.select("financial_year", F.inline(rows))
