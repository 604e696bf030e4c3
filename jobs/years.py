"""Which years a stage works on."""

from collections import defaultdict

from ebi_spark.errors import InputError
from ebi_spark.runs.due import DONE
from ebi_spark.tables.schemas import ACTIVITY_FLAG, ACTIVITY_RATE, APC_SPELL, OP_ATTENDANCE, POLICY_ATTRITION, YEAR
from jobs.harness import Context

# What stays of a year of which silver has lost every record, until its stages have run again.
_MADE_OF_RECORDS = (ACTIVITY_FLAG, POLICY_ATTRITION, ACTIVITY_RATE)


def silver_records(context: Context) -> dict[str, int]:
    """Records of each year in silver."""
    found: dict[str, int] = defaultdict(int)
    for table in (APC_SPELL, OP_ATTENDANCE):
        for row in context.lake.read(table).groupBy(YEAR).count().collect():
            found[row[YEAR]] += row["count"]
    return found


def silver_years(context: Context) -> list[str]:
    """The years asked for, which silver must hold; without any, every year that it holds. Years of which silver has lost
    every record are among them while flags or rates of them are left."""
    lake, asked = context.lake, context.config.years
    held = {year for table in (APC_SPELL, OP_ATTENDANCE) for year in lake.years(table)}
    emptied = {year for table in _MADE_OF_RECORDS if lake.exists(table) for year in lake.years(table)} - held
    done = (
        {year for run in context.books.runs("ingest") if run.outcome == DONE for year in run.years} if asked else set()
    )
    absent = [year for year in asked or () if year not in held | emptied | done]
    years = sorted((held | emptied) & set(asked) if asked else held | emptied)
    if absent or not years:
        raise InputError(
            f"silver holds no records of {', '.join(absent or asked or ()) or 'any year'}",
            remedy=f"run `ebi-spark ingest` for them first; it holds {', '.join(sorted(held)) or 'nothing'}",
        )
    return years
