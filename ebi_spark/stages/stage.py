"""What every stage is."""

from collections.abc import Sequence
from typing import ClassVar

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.lake.conditions import Where
from ebi_spark.lake.writers import Rows
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

    def with_run(self, rows: DataFrame) -> DataFrame:
        """The rows, each with the id of this run."""
        return rows.withColumn("run_id", F.lit(self.context.run_id))

    def replace(self, table: Table, rows: Rows, where: Where | Sequence[Where]) -> None:
        """Replace some rows of a table, as :meth:`~ebi_spark.lake.storage.Lake.replace` does."""
        self.lake.replace(table, rows, where, stage=self.name)

    def replace_aggregate(self, table: Table, rows: DataFrame, where: Where) -> None:
        """Replace some rows of a table of figures. Spark computes the rows and the driver writes them, with the id of this run."""
        self.replace(table, self.lake.collect(table, self.with_run(rows)), where)
