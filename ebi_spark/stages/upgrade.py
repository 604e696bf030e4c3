"""Brings a lake that an older version of the product wrote up to date, before anything else is written."""

from ebi_spark.lake.earlier_releases import EMPTIED
from ebi_spark.runs.state import migrate
from ebi_spark.stages.run_context import RunContext


def bring_up_to_date(context: RunContext) -> list[str]:
    """Migrate the lake and say what was done. Returns one line for each table.

    Where the migration emptied figures that earlier releases disclosed, the report is drawn again too.
    """
    lines = context.lake.migrate() + migrate(context.lake)
    for line in lines:
        context.progress(line)
    if any(EMPTIED in line for line in lines):
        from ebi_spark.stages.publish import Publish  # few commands need it, and loading it takes time

        Publish(context).redraw_report()
    return lines
