"""Source tables and lakes in a catalogue, as on Databricks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from calling import call, duckdb_on_delta
from pyspark.sql import SparkSession

from ebi_spark import synthetic
from ebi_spark.acquire.tables import SourceTable, read_table
from ebi_spark.settings import TableSource, load_config
from ebi_spark.storage import Lake
from jobs import flag, ingest, status

pytestmark = pytest.mark.usefixtures("one_session")

ROLES = ("apcs", "apcs_der", "opa")
SCHEMAS = ("records", "ebi_silver", "ebi_gold", "ebi_published")
CONFIG = """
lake: {catalog: spark_catalog, schemas: {silver: ebi_silver, gold: ebi_gold, published: ebi_published}}
sources:
  admitted: {system: sus_plus, tables: {apcs: {table: spark_catalog.records.apcs}, apcs_der: {table: records.apcs_der}}}
  outpatients: {system: sus_plus, tables: {opa: {table: records.opa}}}
"""


@pytest.fixture(scope="module")
def source(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("catalogue")
    synthetic.generate(
        spark, folder / "made", years=["2021-22"], spells=300, attendances=600, seed=3, system="sus_plus",
        file_format="parquet", progress=lambda _: None,
    )  # fmt: skip
    spark.sql("CREATE SCHEMA IF NOT EXISTS records")
    for table in ROLES:
        rows = spark.read.parquet(str(folder / "made" / "data" / table))
        rows.write.format("delta").mode("overwrite").saveAsTable(f"records.{table}")
    (folder / "run.yml").write_text(CONFIG)
    yield folder
    for schema in SCHEMAS:
        spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def test_tables_of_a_catalogue_are_sources_like_files(spark: SparkSession, source: Path) -> None:
    done = call(ingest.main, source, "--lake", str(source / "lake"))
    assert done["exit"] == 0, done["error"]
    read = {table: spark.table(f"records.{table}").count() for table in ROLES}
    with duckdb_on_delta() as connection:
        audit = connection.execute(
            f"SELECT role, rows_read, records_built FROM delta_scan('{source / 'lake/silver/ingest_audit'}')"
        ).fetchall()
    assert {role: rows for role, rows, _ in audit} == read
    assert all(built > 0 for role, _, built in audit if role != "apcs_der")


def test_a_table_that_is_written_to_is_read_as_it_was(spark: SparkSession, source: Path) -> None:
    spark.sql("CREATE TABLE records.op_growing USING DELTA AS SELECT * FROM records.opa")
    spark.sql("CREATE VIEW records.op_seen AS SELECT * FROM records.op_growing")
    config = load_config(source / "run.yml")
    lake = Lake(spark, config.lake)
    rows = spark.table("records.opa").count()

    def read(name: str) -> SourceTable:
        return read_table(spark, TableSource("opa", table=f"records.{name}"), "sources.outpatients.opa", config)

    table, view = read("op_growing"), read("op_seen")
    told = lake.foreign_version("records.op_growing")
    spark.sql("INSERT INTO records.op_growing SELECT * FROM records.opa LIMIT 7")
    assert table.rows.count() == table.where_key(lambda frame, _: frame).count() == rows
    assert read("op_growing").rows.count() == rows + 7
    assert view.rows.count() == rows + 7  # a view has no versions
    # The run goes on saying which version it began with; the next one sees another.
    assert (
        lake.foreign_version("records.op_growing")
        == told
        != Lake(spark, config.lake).foreign_version("records.op_growing")
    )


@pytest.mark.soak
def test_a_lake_in_a_catalogue(spark: SparkSession, source: Path) -> None:
    for job in (ingest, flag):
        done = call(job.main, source)
        assert done["exit"] == 0, done["error"]
    built = {row["role"]: row["records_built"] for row in spark.table("ebi_silver.ingest_audit").collect()}
    assert built["apcs"] == spark.table("ebi_silver.apc_spell").count() > 0
    assert built["opa"] == spark.table("ebi_silver.op_attendance").count() > 0
    judged = spark.table("ebi_gold.activity_flag").select("policy_id").distinct().collect()
    assert {row[0] for row in judged} >= {"2S_lower_back_imaging"}
    assert status.main(["--lake", "spark_catalog.ebi", "--json"]) == 0
