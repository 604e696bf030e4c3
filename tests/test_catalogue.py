"""Source tables and lakes in a catalogue, as on Databricks."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import source_rows
from calling import answer_of, call, delta_rows, duckdb_on_delta
from pyspark.sql import SparkSession
from real_runs import LOGS

from ebi_spark.config.lake_location import LAYERS, LakeLocation
from ebi_spark.config.load import load_config
from ebi_spark.config.source_tables import TableSource
from ebi_spark.lake import staging_area, storage
from ebi_spark.lake.new_tables import create_table
from ebi_spark.lake.staging_area import StagingArea, remove_left
from ebi_spark.lake.storage import Lake
from ebi_spark.records import plan
from ebi_spark.runs.due import ROWS_UNTOUCHED
from ebi_spark.runs.state import RunState
from ebi_spark.sources.reader import SourceTable, read_table
from ebi_spark.stages import whole_run
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.silver import APC_SPELL, QUARANTINE
from jobs import catalogue, flag, ingest, run, status

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
    rows = {
        "apcs": [source_rows.spell(f"S{n}") for n in range(30)],
        "apcs_der": [source_rows.derived(f"S{n}") for n in range(30)],
        "opa": [source_rows.attendance(f"A{n}", Der_Procedure_All="U054") for n in range(30)],
    }
    spark.sql("CREATE SCHEMA IF NOT EXISTS records")
    for table in ROLES:
        frame = spark.createDataFrame(pa.Table.from_pylist(rows[table]))
        frame.write.format("delta").mode("overwrite").saveAsTable(f"records.{table}")
    (folder / "run.yml").write_text(CONFIG)
    yield folder
    for schema in SCHEMAS:
        spark.sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a platform brings the session, and a catalogue that is there after it."""
    monkeypatch.setattr("ebi_spark.spark.platform.platform_session", lambda: True)
    monkeypatch.setattr("ebi_spark.lake.catalogue.outlasts_session", lambda *_: True)


# Enough for an ingest. In a catalogue Spark makes each table, and looks at each for every ingest, which takes most of the time of a
# test here. One test makes all tables.
OF_INGESTS = {name: table for name, table in TABLES.items() if table.layer == "silver" or name in LOGS}


@pytest.fixture
def tables_of_ingests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "TABLES", OF_INGESTS)


def test_tables_of_a_catalogue_are_sources_like_files(spark: SparkSession, source: Path) -> None:
    done = call(ingest.main, source, "--lake", str(source / "lake"))
    assert done["exit"] == 0, done["error"]
    read = {table: spark.table(f"records.{table}").count() for table in ROLES}
    audit = delta_rows(source / "lake/silver/ingest_audit", "role, rows_read, records_built")
    assert {role: rows for role, rows, _ in audit} == read
    assert {role: built for role, _, built in audit if role != "apcs_der"} == {"apcs": 30, "opa": 30}


def test_a_table_that_is_written_to_is_read_as_it_was(spark: SparkSession, source: Path) -> None:
    spark.sql("CREATE TABLE records.op_growing USING DELTA AS SELECT * FROM records.opa")
    spark.sql("CREATE VIEW records.op_seen AS SELECT * FROM records.op_growing")
    config = load_config(source / "run.yml")
    lake = Lake(spark, config.lake)
    rows = spark.table("records.opa").count()

    def read(*names: str) -> SourceTable:
        tables = tuple(f"records.{name}" for name in names)
        return read_table(spark, TableSource("opa", catalogue_tables=tables), "sources.outpatients.opa", config)

    table, view = read("op_growing"), read("op_seen")
    version = lake.foreign_version("records.op_growing")
    spark.sql("INSERT INTO records.op_growing SELECT * FROM records.opa LIMIT 7")
    assert table.rows.count() == rows
    assert read("op_growing").rows.count() == rows + 7
    assert view.rows.count() == rows + 7  # a view has no versions
    # Several tables, such as one a year, are read as one. Each row says from which it is.
    several = read("op_growing", "op_seen").rows.groupBy("source_file").count().collect()
    assert {row["source_file"]: row["count"] for row in several} == dict.fromkeys(
        ("records.op_growing", "records.op_seen"), rows + 7
    )
    # The run goes on saying which version it began with; the next one sees another.
    assert (
        lake.foreign_version("records.op_growing")
        == version
        != Lake(spark, config.lake).foreign_version("records.op_growing")
    )


def spells(key: int, number: int, day: str) -> str:
    header = (
        "APCS_Ident,Sex,Der_Provider_Code,Administrative_Category,Der_Diagnosis_All,Der_Procedure_All,Der_Financial_Year,"
        "Age_At_Start_of_Spell_SUS,Admission_Method,Discharge_Date\n"
    )
    return header + "".join(f'{key + n},1,RXX,01,"||M545","||V382",,45,11,{day}\n' for n in range(number))


@pytest.mark.usefixtures("lasting")
def test_what_a_killed_run_has_staged_is_seen_by_nobody_and_dropped_after_a_week(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when all rows are staged. The same call writes the records; it drops its own tables, and leaves the others, which
    another run might still need."""
    (tmp_path / "apcs.csv").write_text(spells(100, 10, "2021-05-03"))
    (tmp_path / "der.csv").write_text("APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis\n100,V382,M545\n")
    (tmp_path / "run.yml").write_text(
        "lake: {catalog: spark_catalog, schemas: {silver: left_silver, gold: left_gold, published: left_published}}\n"
        "sources: {a: {system: sus_plus, tables: {apcs: apcs.csv, apcs_der: der.csv}}}\n"
    )

    class Killed(BaseException):
        """As if the process ended here."""

    def staged() -> set[str]:
        return {
            row[0] for row in spark.sql("SHOW TABLES IN left_silver LIKE '_staging*'").select("tableName").collect()
        }

    try:
        with monkeypatch.context() as patch:
            patch.setattr(StagingArea, "remove", lambda _: None)
            patch.setattr(plan, "count_files", lambda *_, **__: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                call(ingest.main, tmp_path)
        made = {row["tableName"] for layer in LAYERS for row in spark.sql(f"SHOW TABLES IN left_{layer}").collect()}
        assert made >= {table.name for table in TABLES.values()}
        monkeypatch.setattr(storage, "TABLES", OF_INGESTS)
        left = staged()
        assert {name.rpartition("_sus_plus_")[2] for name in left} == {"apcs", "apcs_der"}
        lake = Lake(spark, load_config(tmp_path / "run.yml").lake)
        assert lake.read(APC_SPELL).count() == 0
        answer = call(ingest.main, tmp_path)
        assert answer["exit"] == 0, answer["error"]
        bases = lake.read(APC_SPELL).groupBy("dominance_basis").count().collect()
        assert {tuple(row) for row in bases} == {("no_derived_row", 9), ("sus_grouper", 1)}
        assert staged() == left
        spark.sql("CREATE TABLE left_silver._staging_of_somebody (a int) USING DELTA")
        remove_left(lake)
        assert staged() == left | {"_staging_of_somebody"}
        monkeypatch.setattr(staging_area, "LEFT_AFTER", timedelta(seconds=-2))
        remove_left(lake)
        assert staged() == {"_staging_of_somebody"}
    finally:
        for layer in ("silver", "gold", "published"):
            spark.sql(f"DROP SCHEMA IF EXISTS left_{layer} CASCADE")


@pytest.mark.usefixtures("lasting", "tables_of_ingests")
def test_a_year_keeps_its_rows_when_another_is_run_after_it(spark: SparkSession, tmp_path: Path) -> None:
    """Also the partition that they lie in: DuckDB finds the year of each file where the table's log says it."""
    (tmp_path / "apcs_2021.csv").write_text(spells(100, 10, "2021-05-03"))
    (tmp_path / "der.csv").write_text(
        "APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis\n"
        + "".join(f"{n},V382,M545\n" for n in (*range(100, 110), *range(200, 207)))
    )
    (tmp_path / "run.yml").write_text(
        "lake: {catalog: spark_catalog, schemas: {silver: two_silver, gold: two_gold, published: two_published}}\n"
        "max_quarantine_share: 1\n"
        "sources: {a: {system: sus_plus, tables: {apcs: apcs_20*.csv, apcs_der: der.csv}}}\n"
    )
    try:
        first = call(ingest.main, tmp_path)
        assert first["exit"] == 0, first["error"]
        (tmp_path / "apcs_2022.csv").write_text(spells(200, 7, "2022-05-03"))
        second = call(ingest.main, tmp_path, "--years", "2022-23")
        assert second["exit"] == 0, second["error"]
        table = spark.sql("DESCRIBE DETAIL two_silver.apc_spell").first()
        assert table is not None and table["partitionColumns"] == ["financial_year"]
        with duckdb_on_delta() as connection:
            found = connection.execute(
                "SELECT financial_year, count(*), min(discharge_date) FROM "
                f"delta_scan('{table['location'].removeprefix('file:')}') GROUP BY 1 ORDER BY 1"
            ).fetchall()
        assert [(year, rows, str(day)) for year, rows, day in found] == [
            ("2021-22", 10, "2021-05-03"), ("2022-23", 7, "2022-05-03"),
        ]  # fmt: skip
        # What the runs recorded, as Spark reads it.
        state = RunState(Lake(spark, load_config(tmp_path / "run.yml").lake))
        assert [(record.years, record.every_year) for record in state.records] == [
            (["2022-23"], False), (["2021-22"], True),
        ]  # fmt: skip
        state.read_inputs(record.inputs for record in state.records)
        last, before = (state.inputs(record.inputs) for record in state.records)
        assert {key.rpartition("/")[2] for key in last.keys() - before.keys()} == {"apcs_2022.csv"}
        found = state.outcomes(state.records[0])
        assert found is not None and set(found[str(tmp_path / "apcs_2022.csv")]) == {"2022-23"}
    finally:
        for layer in ("silver", "gold", "published"):
            spark.sql(f"DROP SCHEMA IF EXISTS two_{layer} CASCADE")


def test_a_catalogue_that_is_not_there_or_would_go_is_refused(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 2, what to do, and nothing written: in a local session, in one that a platform brings and that forgets its
    catalogue, and where the name is none that it knows."""
    (tmp_path / "run.yml").write_text(CONFIG)
    schemas = {row[0] for row in spark.sql("SHOW SCHEMAS").collect()}

    def refused(*options: str) -> str:
        answer = call(ingest.main, tmp_path, *options)
        assert (answer["exit"], answer["outcome"], answer["tables"]) == (2, "refused", {})
        remedy = answer["error"]["remedy"]
        assert "folder" in remedy and not any(f"same {word} again" in remedy for word in ("call", "command"))
        assert {row[0] for row in spark.sql("SHOW SCHEMAS").collect()} == schemas
        return str(answer["error"]["message"])

    assert "a local session has no permanent catalogue" in refused()
    monkeypatch.setattr("ebi_spark.spark.platform.platform_session", lambda: True)
    assert "ends with it" in refused()
    assert "no catalogue 'nowhere'" in refused("--lake", "nowhere.ebi")


@pytest.mark.usefixtures("lasting")
def test_a_lake_is_described_and_what_the_catalogue_refuses_is_named(spark: SparkSession) -> None:
    """Spark's own catalogue takes comments, and has no tags, keys or metric views."""
    lake = Lake(spark, LakeLocation(catalog="spark_catalog", schemas={layer: f"described_{layer}" for layer in LAYERS}))
    table, name = QUARANTINE, "described_silver.quarantine"
    try:
        for layer in LAYERS:
            spark.sql(f"CREATE SCHEMA described_{layer}")
        create_table(lake, table)
        spark.sql(f"COMMENT ON TABLE {name} IS 'an older text'")
        spark.sql(f"ALTER TABLE {name} ALTER COLUMN role COMMENT 'an older meaning'")
        before = lake.version(table)
        answer = answer_of(catalogue.main, "--lake", "spark_catalog.described", "--apply")
        assert answer["exit"] == 2 and "SET TAGS" in answer["error"]["message"]
        assert {field.name: field.metadata["comment"] for field in spark.table(name).schema} == {
            column: meaning for column, _, meaning in table.fields()
        }
        assert spark.catalog.getTable(name).description == table.row
        commits = spark.sql(f"DESCRIBE HISTORY {name}").select("version", "operation").collect()
        assert {row["operation"] for row in commits if row["version"] > before} <= ROWS_UNTOUCHED
        described = lake.version(table)
        assert before < described <= before + 2
        answer_of(catalogue.main, "--lake", "spark_catalog.described", "--apply")
        assert lake.version(table) == described
    finally:
        for layer in LAYERS:
            spark.sql(f"DROP SCHEMA IF EXISTS described_{layer} CASCADE")


@pytest.mark.soak
@pytest.mark.usefixtures("lasting")
def test_a_lake_in_a_catalogue(spark: SparkSession, source: Path) -> None:
    for job in (ingest, flag):
        done = call(job.main, source)
        assert done["exit"] == 0, done["error"]
    built = {row["role"]: row["records_built"] for row in spark.table("ebi_silver.ingest_audit").collect()}
    assert built["apcs"] == spark.table("ebi_silver.apc_spell").count() > 0
    assert built["opa"] == spark.table("ebi_silver.op_attendance").count() > 0
    policies = spark.table("ebi_gold.activity_flag").select("policy_id").distinct().collect()
    assert {row[0] for row in policies} >= {"2S_lower_back_imaging"}
    assert status.main(["--lake", "spark_catalog.ebi", "--json"]) == 0


@pytest.mark.usefixtures("lasting", "tables_of_ingests")
@pytest.mark.parametrize(
    "place",
    ["./lake", "{catalog: spark_catalog, schemas: {silver: ref_silver, gold: ref_gold, published: ref_published}}"],
)
def test_a_refusal_leaves_the_lake_as_it_was_and_makes_nothing_due(
    spark: SparkSession, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        whole_run, "silver_years", lambda _: (_ for _ in ()).throw(KeyboardInterrupt)
    )  # ingest is enough
    source = tmp_path / "apcs.csv"
    # The last row is there twice: the rows of repeated keys stay as they were, too.
    source.write_text(whole := spells(100, 10, "2021-05-03") + spells(109, 1, "2021-05-03").splitlines()[1] + "\n")
    written = source.stat().st_mtime_ns
    (tmp_path / "der.csv").write_text("APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis\n100,V382,M545\n")
    (tmp_path / "run.yml").write_text(
        f"lake: {place}\nsources: {{a: {{system: sus_plus, tables: {{apcs: apcs.csv, apcs_der: der.csv}}}}}}\n"
    )
    try:
        assert call(run.main, tmp_path)["exit"] == 130
        lake = Lake(spark, load_config(tmp_path / "run.yml").lake)
        versions = {table: lake.version(table) for table in TABLES.values() if table.layer == "silver"}
        source.write_text(spells(100, 2, "2021-05-03") + spells(101, 1, "2021-05-03").splitlines()[1] + "\n")
        refused = call(run.main, tmp_path)
        assert refused["exit"] == 1
        assert "2021-22 has 2 usable rows in the source files and 10 in the lake" in refused["error"]["message"]
        assert versions == {table: lake.version(table) for table in versions}
        assert lake.read(APC_SPELL).count() == 10
        if lake.location.catalog:
            assert not spark.sql("SHOW TABLES IN ref_silver LIKE '_staging*'").collect()
        source.write_text(whole)
        os.utime(source, ns=(written, written))
        again = call(run.main, tmp_path)
        assert again["stages"][0]["skipped"], again["stages"]
        assert versions == {table: lake.version(table) for table in versions}
    finally:
        for schema in ("silver", "gold", "published"):
            spark.sql(f"DROP SCHEMA IF EXISTS ref_{schema} CASCADE")
