"""Decides which years a stage works on."""

from collections import defaultdict

from ebi_spark.errors import InputError
from ebi_spark.runs.due import DONE
from ebi_spark.stages.run_context import RunContext
from ebi_spark.tables.gold import ACTIVITY_FLAG, ACTIVITY_RATE, POLICY_ATTRITION
from ebi_spark.tables.silver import APC_SPELL, OP_ATTENDANCE
from ebi_spark.tables.table import YEAR

# Tables that keep rows of a year after silver has lost all its records, until their stages have run again.
_DERIVED_TABLES = (ACTIVITY_FLAG, POLICY_ATTRITION, ACTIVITY_RATE)


def silver_records(context: RunContext) -> dict[str, int]:
    """The number of records of each year in silver."""
    found: dict[str, int] = defaultdict(int)
    for table in (APC_SPELL, OP_ATTENDANCE):
        for row in context.lake.grouped(table, [YEAR]) if context.lake.exists(table) else ():
            found[row[YEAR]] += row["rows"]
    return found


def known_records(context: RunContext, years: list[str]) -> int | None:
    """The number of records of these years in silver, to show in progress. None if it would need a Spark query."""
    if context.config.lake.folder is None:
        return None
    records = silver_records(context)
    return sum(records.get(year, 0) for year in years)


def silver_years(context: RunContext) -> list[str]:
    """The years asked for, which silver must have; without any, all years that it has.

    A year whose records silver has lost is included as long as flags or rates of it are left.
    """
    lake, asked = context.lake, context.config.years
    existing = {year for table in (APC_SPELL, OP_ATTENDANCE) for year in lake.years(table)}
    emptied = {year for table in _DERIVED_TABLES if lake.exists(table) for year in lake.years(table)} - existing
    done = (
        {year for run in context.history.runs("ingest") if run.outcome == DONE for year in run.years}
        if asked
        else set()
    )
    absent = [year for year in asked or () if year not in existing | emptied | done]
    years = sorted((existing | emptied) & set(asked) if asked else existing | emptied)
    if absent or not years:
        raise InputError(
            f"silver has no records of {', '.join(absent or asked or ()) or 'any year'}",
            remedy=f"run `ebi-spark ingest` for them first; silver has {', '.join(sorted(existing)) or 'nothing'}",
        )
    return years
