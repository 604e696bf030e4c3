"""What every stage is."""

from typing import ClassVar

from ebi_spark.stages.run_context import RunContext
from ebi_spark.tables.table import Table


class Stage:
    """One stage of a run. Its method ``run`` does the work, writes a row of the run log, and returns a typed summary.

    ``reads`` names the tables whose changes make the stage due, as the run log has them. ``writes`` are all tables that it
    may write. A stage that can be replayed has ``compute``: its main tables as frames, without writing.
    """

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    writes: ClassVar[tuple[Table, ...]]

    def __init__(self, context: RunContext) -> None:
        self.context, self.config, self.lake = context, context.config, context.lake
