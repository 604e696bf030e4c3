"""Which years a stage works on."""

from ebi_spark.errors import InputError
from ebi_spark.schemas import APC_SPELL, OP_ATTENDANCE, YEAR
from jobs.harness import Context


def silver_records(context: Context) -> dict[str, int]:
    """Records of each year in silver."""
    found: dict[str, int] = {}
    for table in (APC_SPELL, OP_ATTENDANCE):
        for row in context.lake.read(table).groupBy(YEAR).count().collect():
            found[row[YEAR]] = found.get(row[YEAR], 0) + row["count"]
    return found


def silver_years(context: Context) -> list[str]:
    """The years asked for, which silver must hold; without any, every year that it holds."""
    held = sorted({*context.lake.years(APC_SPELL), *context.lake.years(OP_ATTENDANCE)})
    absent = [year for year in context.config.years or () if year not in held]
    if absent or not held:
        raise InputError(
            f"silver holds no records of {', '.join(absent) or 'any year'}",
            remedy=f"run `ebi-spark ingest` for them first; it holds {', '.join(held) or 'nothing'}",
        )
    return list(context.config.years or held)
