"""Calling a job as the command line does, and reading what it wrote with another engine."""

import contextlib
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_delta
from deltalake import DeltaTable

from ebi_spark.config.settings import RunConfig
from ebi_spark.lake.storage import Lake
from ebi_spark.records.ingest_audit import IngestSummary
from ebi_spark.runs.stage_inputs import CHECKED
from ebi_spark.stages.ingest import Ingest
from ebi_spark.stages.run_context import RunContext
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.table import Table
from ebi_spark.validation.result import LayerResult

# As a job of more than a few rows runs: Spark compiles its queries.
COMPILED = {"spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "FALLBACK"}


def bad_input_page(title: str) -> dict[str, str]:
    """The table under a heading of ``docs/bad-input.md``: what a case gets, by its words."""
    page = (Path(__file__).parent.parent / "docs" / "bad-input.md").read_text(encoding="utf-8")
    section = page.split(f"## {title}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {case.strip(): gets.strip() for case, gets in rows[1:]}


def call(job: Callable[[list[str]], int], folder: Path, *options: str) -> dict[str, Any]:
    """What a job prints with ``--json`` for the configuration ``run.yml`` of a folder."""
    return answer_of(job, "--config", str(folder / "run.yml"), *options)


def answer_of(job: Callable[[list[str]], int], *arguments: str) -> dict[str, Any]:
    """What a job prints with ``--json``."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = job([*arguments, "--json"])
    answer: dict[str, Any] = json.loads(out.getvalue())
    assert answer["exit"] == status
    return answer


def all_checks_pass(lake: Lake, layers: Iterable[str], **_: Any) -> dict[str, LayerResult]:
    """In the place of `validate_layers`: lets everything pass unseen."""
    return {
        layer: LayerResult(True, 0, [], {name: lake.version(TABLES[name]) for name in CHECKED.get(layer, ())}, None)
        for layer in layers
    }


def ingest(lake: Lake, config: RunConfig) -> IngestSummary:
    """The stage as every run has it, in the session and lake of a test."""
    return Ingest(RunContext(config, lake, lake.run_id)).run().written


def rows_of(lake: Lake, table: Table) -> list[dict[str, Any]]:
    """All rows of a table of a lake in a folder, read by another library without a Spark query. Times are in UTC."""
    found: list[dict[str, Any]] = (
        DeltaTable(str(Path(str(lake.location.folder)) / table.full_name))
        .to_pyarrow_table()
        .to_pylist(maps_as_pydicts="strict")
    )
    return found


def delta_rows(table: Path, columns: str = "*", where: str = "true", order: str = "ALL") -> list[tuple[Any, ...]]:
    """Rows of a Delta table as DuckDB reads them: another engine and another Delta reader than the code under test."""
    with duckdb_on_delta() as reader:
        return reader.execute(f"SELECT {columns} FROM delta_scan('{table}') WHERE {where} ORDER BY {order}").fetchall()


def duckdb_on_delta() -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that reads Delta tables, without the network."""
    folder = Path(duckdb_extension_delta.__file__).parent / "extensions"
    extension = next(folder.rglob("delta.duckdb_extension"))
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    connection.execute(f"LOAD '{extension}'")
    return connection
