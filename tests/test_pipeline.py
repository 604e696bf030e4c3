"""The main job as a user runs it: made-up sources in, published tables out, a second run, a rerun of one year."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from calling import all_checks_pass, call, delta_rows, duckdb_on_delta
from earlier_state import make_earlier
from pyspark.sql import SparkSession
from real_runs import LOGS, releases_are_whole

from ebi_spark import synthetic
from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.load import load_config
from ebi_spark.config.shipped_files import resource
from ebi_spark.lake.storage import Lake
from ebi_spark.release.publish import PUBLISHED
from ebi_spark.runs import history, stage_inputs
from ebi_spark.small_frames import small_frame
from ebi_spark.stages import validate as stages_validate
from ebi_spark.stages.replay import compare_tables
from ebi_spark.tables.gold import ACTIVITY_RATE
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.star import STAR_TABLES
from ebi_spark.tables.table import Table
from jobs import explain, flag, ingest, maintain, publish, rate, replay, run, status, validate
from tests.disclosure_attack import narrowed

YEARS = ("2021-22", "2022-23")
NATIONAL = "policy_id IN ('2Y_back_pain_fusion', '2S_lower_back_imaging')"
LOCAL = ("CMICB_Clin087", "DDICB_back_pain_fusion", "HNYICB_back_pain_fusion")
FIGURES = ("activity", "in_scope", "crude_rate", "standardised_rate", "lower", "upper")

pytestmark = pytest.mark.usefixtures("one_session")


@pytest.fixture(scope="module")
def source(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "source"
    synthetic.generate(
        spark, folder, years=list(YEARS), spells=2_500, attendances=5_000, seed=7, system="sus_plus",
        file_format="csv", progress=lambda _: None,
    )  # fmt: skip
    # A line that was cut short: it is quarantined, and the rest is published all the same.
    with max((folder / "data/opa").glob("*.csv")).open("a", encoding="utf-8") as file:
        file.write("97,cut short\n")
    return folder


@pytest.fixture(scope="module")
def looks(one_session: None, source: Path) -> Iterator[list[list[str]]]:
    """A reader by release looks after every commit to a published table, of every run here: what it sees must be whole."""
    seen: list[list[str]] = []
    commit = Lake._commit

    def looked_at(self: Lake, table: Table, writer: Any) -> None:
        commit(self, table, writer)
        if self.location.folder == lake(source) and table.layer == "published":
            seen.append(releases_are_whole(lake(source)))

    patch = pytest.MonkeyPatch()
    patch.setattr(Lake, "_commit", looked_at)
    yield seen
    patch.undo()


@pytest.fixture(scope="module")
def done(looks: list[list[str]], source: Path) -> dict[str, Any]:
    return call(run.main, source)


@pytest.fixture(scope="module")
def kept(done: dict[str, Any], source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the lake as the run left it."""
    return shutil.copytree(lake(source), tmp_path_factory.mktemp("kept") / "lake")


@pytest.fixture
def changed_here(kept: Path, source: Path, spark: SparkSession) -> Iterator[None]:
    """For a test that changes the lake or its configuration: every other test finds them as the run left them."""
    configuration = (source / "run.yml").read_text(encoding="utf-8")
    yield
    (source / "run.yml").write_text(configuration, encoding="utf-8")
    shutil.rmtree(lake(source))
    shutil.copytree(kept, lake(source))
    # Delta remembers the newest version of each table.
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # type: ignore[union-attr]


def lake(source: Path) -> Path:
    return source / "lake"


def rows(source: Path, table: str, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
    """Rows of a table of the lake, read by another engine."""
    return delta_rows(lake(source) / table, columns, where)


def files_of(source: Path, table: str, year: str) -> dict[str, str]:
    folder = lake(source) / table / f"financial_year={year}"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.parquet"))}


def figures(source: Path) -> list[tuple[Any, ...]]:
    key = "policy_id, revision, reading, financial_year, period_years, area_type, area_code, status"
    return rows(source, "gold/activity_rate", f"{key}, {', '.join(FIGURES)}")


def files_of_single_years(source: Path, year: str) -> dict[str, str]:
    """The files of a year's rates by their hash, without those of pooled periods, which have none of the others' rows."""
    in_use = {name.rsplit("/", 1)[-1] for (name,) in rows(source, "gold/activity_rate", "DISTINCT filename")}
    found = {}
    for path, digest in files_of(source, "gold/activity_rate", year).items():
        file = lake(source) / "gold/activity_rate" / f"financial_year={year}" / path
        # One file, not the table: its own columns alone, without the partition's.
        lengths = set(pq.ParquetFile(file).read(columns=["period_years"])["period_years"].to_pylist())
        assert lengths == {1} or 1 not in lengths
        if lengths == {1} and path in in_use:
            found[path] = digest
    return found


def test_a_run_publishes_one_current_release(done: dict[str, Any], source: Path) -> None:
    assert done["outcome"] == "done", done["error"]
    assert [stage["name"] for stage in done["stages"]] == ["ingest", "flag", "rate", "monitor", "validate", "publish"]
    assert set(done) >= {"run_id", "outcome", "exit", "stages", "tables", "release", "report", "error"}
    assert Path(done["report"]).is_file()
    assert rows(source, "published/release", "release_id", "is_current") == [(done["release"],)]


def test_a_run_writes_few_files(done: dict[str, Any], source: Path) -> None:
    """One file a year and table (of pooled and single rates one each), more only where two data sets or systems share it."""
    files = {name: len(list((lake(source) / name).rglob("*.parquet"))) for name in TABLES if name not in LOGS}
    assert max(files.values()) <= 6 and sum(files.values()) <= 90, files


def test_readers_see_no_release_before_it_is_whole(done: dict[str, Any], looks: list[list[str]]) -> None:
    assert looks[: len(PUBLISHED) + 1] == [[]] * len(PUBLISHED) + [[done["release"]]]


def test_every_table_of_the_contract_is_there(done: dict[str, Any], source: Path) -> None:
    with duckdb_on_delta() as connection:
        for table in TABLES.values():
            described = connection.execute(f"DESCRIBE SELECT * FROM delta_scan('{lake(source) / table.full_name}')")
            found = {row[0] for row in described.fetchall()}
            assert found == set(table.names()), table.full_name


def test_the_audit_accounts_for_every_line_of_every_file(done: dict[str, Any], source: Path) -> None:
    audited = rows(
        source, "silver/ingest_audit",
        "source_file, rows_read, rows_valid + rows_quarantined + rows_duplicate + rows_outside_years",
    )  # fmt: skip
    assert len(audited) == 6
    for path, read, accounted in audited:
        lines = Path(path).read_text(encoding="utf-8").count("\n") - 1
        assert (read, accounted) == (lines, lines), path


def test_records_are_what_the_audit_says_were_built(done: dict[str, Any], source: Path) -> None:
    built = dict(rows(source, "silver/ingest_audit", "dataset, sum(records_built)", "true GROUP BY dataset"))
    spells = rows(source, "silver/apc_spell", "count(*), count(DISTINCT record_id)")
    attendances = rows(source, "silver/op_attendance", "count(*), count(DISTINCT record_id)")
    assert spells == [(built["apc"], built["apc"])]
    assert attendances == [(built["op"], built["op"])]


def test_each_file_of_records_is_sorted_by_what_rules_ask_for(done: dict[str, Any], source: Path) -> None:
    """So that readers skip the pages in which no row can be in scope; NULL comes first."""
    with duckdb.connect() as reader:
        for table, column in (("apc_spell", "dominant_procedure_4"), ("op_attendance", "procedure_codes")):
            files = sorted((lake(source) / "silver" / table).rglob("financial_year=*/*.parquet"))
            assert len({file.parent for file in files}) > 1
            for file in files:
                (found,) = reader.execute(
                    f"SELECT list({column} ORDER BY file_row_number) FROM read_parquet('{file}', file_row_number = true)"
                ).fetchall()[0]
                assert found == sorted(found, key=lambda value: (value is not None, value or "")), file.name


def test_england_counts_the_flags_and_no_area_counts_more(done: dict[str, Any], source: Path) -> None:
    key = "policy_id, reading, financial_year"
    flagged = rows(
        source, "gold/activity_flag", f"{key}, count(*)",
        f"outcome = 'flagged' AND area_basis <> 'outside_england' AND {NATIONAL} GROUP BY {key}",
    )  # fmt: skip
    single = "activity > 0 AND period_years = 1"
    england = rows(source, "gold/activity_rate", f"{key}, activity", f"area_type = 'england' AND {single}")
    assert flagged == england
    assert len(flagged) >= 8
    beneath = rows(
        source, "gold/activity_rate", f"{key}, sum(activity)", f"area_type = 'icb' AND {single} GROUP BY {key}"
    )
    located = rows(
        source, "gold/activity_flag", f"{key}, count(*) FILTER (outcome = 'flagged' AND area_code <> 'D4U1Y')",
        f"area_code IS NOT NULL GROUP BY {key}",
    )  # fmt: skip
    assert {row[:3]: row[3] for row in beneath if row[3]} == {row[:3]: row[3] for row in located if row[3]}


def test_totals_of_changes_are_the_activity_of_rates(done: dict[str, Any], source: Path) -> None:
    """Counted again from the records, a change begins and ends with the counts that the rates have; its parts lie between."""
    key = "policy_id, reading, area_type, area_code"
    totals = rows(source, "gold/activity_change", f"{key}, period_to, records", "component = 'total_to'")
    counted_by = f"{key}, financial_year"
    activity = rows(
        source, "gold/activity_rate", f"{counted_by}, sum(activity)", f"period_years = 1 GROUP BY {counted_by}"
    )
    known = {row[:5]: row[5] for row in activity}
    assert {row[0] for row in totals} == {"2S_lower_back_imaging", "2Y_back_pain_fusion"}
    assert {row[2] for row in totals} == {"england", "region", "icb", "sub_icb"}
    assert all(known.get(row[:5], 0) == row[5] for row in totals) and sum(row[5] for row in totals)
    apart = rows(
        source, "gold/activity_change",
        "policy_id, sum(CASE component WHEN 'total_to' THEN -records WHEN 'total_from' THEN records ELSE records END)",
        "true GROUP BY policy_id, area_type, area_code, period_from, period_to",
    )  # fmt: skip
    assert max(abs(gap) for _, gap in apart) < 1e-6
    groups = rows(source, "gold/equality_rate", "policy_id, dimension, sum(activity)", "true GROUP BY ALL")
    assert {row[1] for row in groups} == {"sex", "age_group", "deprivation_fifth"}
    assert len({row[::2] for row in groups}) == len({row[0] for row in groups})
    assert rows(source, "gold/code_use", "DISTINCT kind")


def test_local_policies_have_their_own_boards_alone(done: dict[str, Any], source: Path) -> None:
    local = f"policy_id IN {LOCAL}"
    areas = rows(
        source, "gold/activity_rate", "DISTINCT policy_id, area_type, area_code", f"{local} AND area_type = 'icb'"
    )
    boards = dict(zip(LOCAL, ("QYG", "QJ2", "QOQ"), strict=True))
    assert areas == [(policy, "icb", board) for policy, board in boards.items()]
    kinds = rows(source, "gold/activity_rate", "DISTINCT area_type", f"{local} AND expected IS NULL")
    assert {kind for (kind,) in kinds} <= {"icb", "sub_icb", "provider"}
    assert not rows(source, "gold/activity_rate", "area_type", f"{local} AND area_type IN ('england', 'region')")
    flagged_rows = rows(source, "gold/activity_flag", "DISTINCT policy_id, area_code", local)
    with resource("conf", "reference", "areas.csv").open(encoding="utf-8", newline="") as file:
        board = {row["sub_icb_code"]: row["icb_code"] for row in csv.DictReader(file) if not row["valid_to"]}
    assert flagged_rows and all(board[code] == boards[policy] for policy, code in flagged_rows)
    # A record of the board has rows of both policies, and the local one flags no record that the national does not.
    both = rows(
        source, "gold/policy_comparison", "policy_id, max(records_compared), sum(records) FILTER (direction = 'local_only')",
        f"{local} AND reading = 'as_published' GROUP BY policy_id",
    )  # fmt: skip
    assert [row[0] for row in both] == list(LOCAL) and all(row[1] > 0 and not row[2] for row in both)
    for table in ("attrition", "reading_effect", "sensitivity", "variation"):
        assert rows(source, f"published/{table}", "policy_id", NATIONAL)
        assert not rows(source, f"published/{table}", "policy_id", local), table
    shown = rows(source, "published/rate", "DISTINCT status, activity, in_scope, standardised_rate, expected", local)
    assert shown == [("withheld_secondary", None, None, None, None)]


@pytest.fixture(scope="module")
def hes(one_session: None, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same made-up patients in HES's layout, as far as flags."""
    folder = tmp_path_factory.mktemp("made") / "hes"
    synthetic.generate(
        spark, folder, years=list(YEARS), spells=2_500, attendances=5_000, seed=7, system="hes",
        file_format="csv", progress=lambda _: None,
    )  # fmt: skip
    for job in (ingest.main, flag.main):
        answer = call(job, folder)
        assert answer["outcome"] == "done", answer["error"]
    return folder


def test_both_systems_lead_to_the_same_flags_but_for_named_differences(
    done: dict[str, Any], source: Path, hes: Path
) -> None:
    """Records are matched by SUSRECID, which HES carries. Where a verdict differs, the record must show why: HES has no
    dominant procedure and no spell primary diagnosis, and a spell may lack episodes of a file that was not read."""
    flagged_rows = "SELECT policy_id, reading, record_id, outcome FROM delta_scan('{}/gold/activity_flag')"
    keys = "SELECT DISTINCT {key} AS record_id, SUSRECID AS sus_id FROM read_csv('{path}', all_varchar = true, {form})"
    with duckdb_on_delta() as connection:
        connection.execute("CREATE TABLE matched (record_id VARCHAR, sus_id VARCHAR, dataset VARCHAR)")
        for folder, key, dataset in (("apc", "EPIKEY", "apc"), ("op", "ATTENDKEY", "op")):
            names: list[str] = []
            for path in sorted((hes / "data" / folder).glob("*.csv")):
                first = path.read_text(encoding="utf-8").split("\n", 1)[0]
                cells = first.replace("|", ",").split(",")
                if key in [cell.upper() for cell in cells]:
                    names, form = [cell.upper() for cell in cells], "header = true, normalize_names = false"
                    text = keys.format(key=key, path=path, form=form)
                else:  # the year without a header row has the columns of the year before
                    listed = ", ".join(f"'{name}'" for name in names)
                    text = keys.format(key=key, path=path, form=f"header = false, names = [{listed}]")
                connection.execute(f"INSERT INTO matched SELECT record_id, sus_id, '{dataset}' FROM ({text})")
        connection.execute(f"CREATE TABLE ours AS {flagged_rows.format(lake(source))}")
        connection.execute(f"CREATE TABLE theirs AS {flagged_rows.format(lake(hes))}")
        for name, folder in (("sus", source), ("hes_", hes)):
            connection.execute(
                f"CREATE TABLE {name}_spell AS SELECT record_id, dominant_procedure_4, left(primary_diagnosis, 4) AS dx, "
                f"incomplete_spell FROM delta_scan('{lake(folder)}/silver/apc_spell')"
            )
        both = connection.execute(
            "SELECT a.policy_id, count(*), count(*) FILTER (a.outcome <> b.outcome) FROM ours a "
            "JOIN matched m ON m.sus_id = a.record_id "
            "JOIN theirs b ON b.record_id = m.record_id AND (b.policy_id, b.reading) = (a.policy_id, a.reading) "
            "GROUP BY ALL ORDER BY ALL"
        ).fetchall()
        of_policy = {row[0]: row[1:] for row in both}
        assert {"2S_lower_back_imaging", "2Y_back_pain_fusion"} <= set(of_policy)
        assert of_policy["2S_lower_back_imaging"][0] > 300
        assert of_policy["2Y_back_pain_fusion"][0] > 60
        assert of_policy["2S_lower_back_imaging"][1] == 0  # an appointment says the same in both systems
        unexplained = connection.execute(
            "SELECT a.record_id FROM ours a JOIN matched m ON m.sus_id = a.record_id AND m.dataset = 'apc' "
            "JOIN theirs b ON b.record_id = m.record_id AND (b.policy_id, b.reading) = (a.policy_id, a.reading) "
            "JOIN sus_spell s ON s.record_id = a.record_id JOIN hes__spell h ON h.record_id = m.record_id "
            "WHERE a.outcome <> b.outcome AND s.dominant_procedure_4 IS NOT DISTINCT FROM h.dominant_procedure_4 "
            "AND s.dx IS NOT DISTINCT FROM h.dx AND NOT h.incomplete_spell"
        ).fetchall()
        assert unexplained == []


def test_codes_that_are_no_area_are_listed_not_dropped(done: dict[str, Any], source: Path) -> None:
    listed = rows(
        source, "gold/unmapped_area", "financial_year, code_kind, sum(records)", "code = 'D4U1Y' GROUP BY ALL"
    )
    key = "financial_year, area_basis"
    where = f"area_code = 'D4U1Y' GROUP BY {key}"
    flagged = rows(source, "gold/activity_flag", f"{key}, count(DISTINCT (dataset, record_id))", where)
    assert listed and listed == flagged
    # A code, and a basis, can be one area's alone: published is the sum over codes, and that to the nearest hundred.
    true = rows(source, "gold/unmapped_area", "financial_year, dataset, sum(records)", "true GROUP BY ALL")
    columns = "financial_year, dataset, records, status"
    shown = rows(source, "published/quality", columns, "measure = 'area_unmapped'")
    assert true and {row[:2] for row in true} <= {row[:2] for row in shown}
    few = [(*row[:2], None, "withheld_small") for row in true if row[2] < 50]
    assert few and set(few) <= set(shown)
    measures = {name for (name,) in rows(source, "published/quality", "DISTINCT measure")}
    assert not [name for name in measures if name.startswith("area_basis") or "valid" in name]
    odd = "measure <> 'records' AND records % 100 <> 0"
    assert rows(source, "published/quality", "measure, records", odd) == []
    shown = rows(source, "published/rate", "DISTINCT geography, coverage")
    assert shown == rows(source, "published/variation", "DISTINCT geography, coverage") == [("icb_2026", "national")]


def test_populations_are_stored_with_their_vintage(done: dict[str, Any], source: Path) -> None:
    with resource("conf", "reference", "population_gp_registered.csv").open(encoding="utf-8", newline="") as file:
        shipped = {
            (row["area_code"], row["sex"], int(row["age_from"])): int(row["people"]) for row in csv.DictReader(file)
        }
    columns = "area_code, sex, age_from, people, CAST(vintage AS VARCHAR), geography"
    stored = rows(source, "silver/population", columns)
    assert {row[:3]: row[3] for row in stored} == shipped and len(stored) == len(shipped)
    assert {row[4:] for row in stored} == {("2026-08-01", "icb_2026")}
    vintages = rows(source, "gold/activity_rate", "DISTINCT CAST(population_vintage AS VARCHAR)", "area_type = 'icb'")
    assert vintages == [("2026-08-01",)]


def test_nothing_small_is_published_below_england(done: dict[str, Any], source: Path) -> None:
    for column in ("activity", "in_scope", "people_flagged"):
        values = rows(source, "published/rate", f"DISTINCT {column}", "area_type <> 'england'")
        assert all(value is None or value % 5 == 0 for (value,) in values), column
    small = rows(source, "published/rate", "activity, crude_rate, standardised_rate", "status = 'withheld_small'")
    assert small
    assert set(small) == {(None, None, None)}
    shown = "DISTINCT policy_id, reading, period_years"
    readings = rows(source, "published/rate", shown, f"area_type <> 'england' AND {NATIONAL}")
    # Fusion is published below England in windows of three years; two years make none.
    assert readings == [("2S_lower_back_imaging", "as_intended", 1)]
    national = rows(
        source, "published/rate", "DISTINCT policy_id, period", "area_type = 'england' AND period_years = 2"
    )
    assert national == [("2S_lower_back_imaging", "2021-22..2022-23"), ("2Y_back_pain_fusion", "2021-22..2022-23")]
    completeness = rows(source, "published/completeness", "area_type, count(records) > 0", "true GROUP BY 1")
    assert ("england", True) in completeness and ("provider", True) not in completeness
    limits = "coalesce(crude_rate, standardised_rate, lower, upper, flagged_share, share_lower, share_upper)"
    assert rows(source, "published/rate", "area_code", f"activity IS NULL AND {limits} IS NOT NULL") == []
    periods = rows(source, "published/rate", "policy_id, area_code, count(*)", "area_type = 'provider' GROUP BY ALL")
    assert {(policy, number) for policy, _, number in periods} <= {("2S_lower_back_imaging", 2)}, "rows of all years"
    few = "policy_id = '2S_lower_back_imaging' AND reading = 'as_intended' AND in_scope > 7 AND area_type = 'provider'"
    listed = {(code,) for _, code, _ in periods}
    assert set(rows(source, "gold/activity_rate", "DISTINCT area_code", f"{few} AND period_years = 1")) == listed


def test_nobody_can_solve_for_what_is_withheld(done: dict[str, Any], source: Path) -> None:
    with resource("conf", "reference", "areas.csv").open(encoding="utf-8", newline="") as file:
        today = [row for row in csv.DictReader(file) if not row["valid_to"]]
    parents = {("sub_icb", row["sub_icb_code"]): ("icb", row["icb_code"]) for row in today}
    parents |= {("icb", row["icb_code"]): ("region", row["region_code"]) for row in today}
    names = ["area_type", "area_code", "activity", "in_scope", "status", "standardised_rate", "expected"]
    where = "policy_id = '2S_lower_back_imaging' AND reading = 'as_intended' AND period = '2021-22'"
    table = pd.DataFrame(rows(source, "published/rate", ", ".join(names), where), columns=names)
    assert table["status"].isin(["withheld_small", "withheld_secondary"]).any()
    assert narrowed(table, parents) == []
    england = table.set_index("area_type").loc["england"]
    shown = table[(table["area_type"] != "england") & table["standardised_rate"].notna() & (table["expected"] > 0)]
    counts = shown["standardised_rate"] * shown["expected"] / england["standardised_rate"]
    assert len(shown) and counts.to_numpy() == pytest.approx(shown["activity"].to_numpy(float))
    # How many of the withheld are truly small is in no published table.
    loss = rows(source, "published/release", "disclosure, disclosure_loss, data_kind", "is_current")[0]
    assert loss == ("hes_2018_protected", None, "synthetic")
    assert ((shown["expected"] * 2) % 1 == 0).all()


def test_expected_events_add_up_to_englands(done: dict[str, Any], source: Path) -> None:
    key = "policy_id, reading, period"
    by_region = rows(source, "gold/activity_rate", f"{key}, sum(expected)", f"area_type = 'region' GROUP BY {key}")
    known = "activity - activity_unknown_age_sex"
    england = rows(source, "gold/activity_rate", f"{key}, {known}, expected", "area_type = 'england'")
    assert [row[:3] for row in by_region] == [row[:3] for row in england]
    for (*_, expected), (*_, events, whole) in zip(by_region, england, strict=True):
        assert expected == pytest.approx(events) and whole == pytest.approx(events)


def test_other_readers_give_the_same_sums(done: dict[str, Any], source: Path, spark: SparkSession) -> None:
    table = lake(source) / "gold/activity_rate"
    frame = spark.read.format("delta").load(str(table))
    spark_sums = frame.selectExpr("count(*)", "sum(activity)", "sum(in_scope)", "round(sum(crude_rate), 9)").first()
    assert spark_sums is not None
    script = (
        "import sys, json, polars as pl; from deltalake import DeltaTable\n"
        "p = sys.argv[1]; a = DeltaTable(p).to_pyarrow_table(); b = pl.read_delta(p)\n"
        "c = a.column\n"
        "import pyarrow.compute as pc\n"
        "print(json.dumps([[a.num_rows, pc.sum(c('activity')).as_py(), pc.sum(c('in_scope')).as_py(),"
        " round(pc.sum(c('crude_rate')).as_py(), 9)],"
        " [b.height, b['activity'].sum(), b['in_scope'].sum(), round(b['crude_rate'].sum(), 9)]]), flush=True)\n"
        "import os; os._exit(0)\n"
    )
    answer = subprocess.run([sys.executable, "-c", script, str(table)], capture_output=True, text=True, check=True)
    for read in json.loads(answer.stdout):
        assert read == pytest.approx(list(spark_sums))
    sums = rows(source, "gold/activity_rate", "count(*), sum(activity), sum(in_scope), sum(crude_rate)")
    assert list(sums[0]) == pytest.approx(list(spark_sums))


def test_foreign_readers_need_protocol_1_only(done: dict[str, Any], source: Path) -> None:
    for table in TABLES.values():
        log = sorted((lake(source) / table.full_name / "_delta_log").glob("*.json"))[0]
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        assert [entry["protocol"]["minReaderVersion"] for entry in entries if "protocol" in entry] == [1], (
            table.full_name
        )


def test_tables_for_bi_tools_have_the_figures_of_the_release(done: dict[str, Any], source: Path) -> None:
    place = lake(source)
    for table in STAR_TABLES:
        assert rows(source, table.full_name, "DISTINCT release_id") == [(done["release"],)], table.full_name
    with duckdb_on_delta() as connection:
        for table in (*(item.full_name for item in STAR_TABLES), "published/rate", "published/policy"):
            name = table.split("/")[1]
            connection.execute(f"CREATE VIEW {name} AS SELECT * FROM delta_scan('{place / table}')")
        for table, key in (
            ("dim_policy", "policy_key"),
            ("dim_area", "area_key"),
            ("dim_period", "period_key"),
            ("dim_status", "status_code"),
        ):
            lost = f"SELECT count(*) FROM rate_current ANTI JOIN {table} USING ({key})"
            again = f"SELECT count(*) - count(DISTINCT {key}) FROM {table}"
            assert connection.execute(f"SELECT ({lost}), ({again})").fetchall() == [(0, 0)], table
        pairs = {"standardised_rate": "standardised_rate", "crude_rate": "crude_rate", "crude_lower_95": "crude_lower",
                 "crude_upper_95": "crude_upper", "flagged_share": "flagged_share", "share_lower_95": "share_lower",
                 "share_upper_95": "share_upper", "status_code": "status", "area_name": "area_name"}  # fmt: skip
        same = " AND ".join(f"s.{ours} IS NOT DISTINCT FROM r.{theirs}" for ours, theirs in pairs.items())
        answer = connection.execute(
            f"""WITH star AS (SELECT c.*, a.area_name FROM rate_current c JOIN dim_area a USING (area_key)),
            shown AS (SELECT r.* FROM rate r JOIN policy p USING (policy_id, revision, reading) WHERE p.is_default_reading
            AND (r.area_type <> 'england' OR r.period_years = 1))
            SELECT count(*), count(s.policy_key), count_if({same}) FROM shown r LEFT JOIN star s ON s.policy_key =
            r.policy_id || '@' || r.revision AND s.area_key = r.area_type || '/' || r.area_code AND s.period_key = r.period"""
        ).fetchall()
        ((in_release, found, equal),) = answer
        assert in_release == found == equal > 200
        limits = connection.execute(
            "SELECT count_if(crude_lower_95 <= crude_rate AND crude_rate <= crude_upper_95), count(crude_rate) FROM rate_current"
        ).fetchall()
        assert limits[0][0] == limits[0][1] > 1


def test_no_patients_value_leaves_the_record_tables(done: dict[str, Any], source: Path) -> None:
    """Person ids are distinctive numbers: none may be in anything published, logged or drawn."""
    people = {str(row[0]) for row in rows(source, "silver/apc_spell", "person_id", "person_id IS NOT NULL")}
    assert len(people) > 500
    searched = [Path(done["report"]), *(lake(source) / "docs").rglob("*.html")]
    searched += (lake(source) / "published").rglob("*.json")
    searched += [path for name in LOGS for path in (lake(source) / name).rglob("*.json")]
    for path in searched:
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not any(person in text for person in people), path
    for table in (
        "published/rate",
        "published/days_between",
        "published/quality",
        "published/release",
        "silver/ingest_audit",
        *LOGS,
    ):
        text = str(rows(source, table, "*"))
        assert not any(person in text for person in people), table


def test_silver_and_gold_are_closed_and_published_is_open(done: dict[str, Any], source: Path) -> None:
    assert (lake(source) / "silver").stat().st_mode & 0o077 == 0
    assert (lake(source) / "gold").stat().st_mode & 0o077 == 0
    file = next((lake(source) / "published/rate").rglob("*.parquet"))
    assert file.stat().st_mode & 0o044 == 0o044


def test_explain_and_status_answer(done: dict[str, Any], source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, failed = rows(
        source, "gold/activity_flag", "record_id, failed_clauses",
        "policy_id = '2Y_back_pain_fusion' AND reading = 'as_published' AND len(failed_clauses) = 2",
    )[0]  # fmt: skip
    capsys.readouterr()
    assert explain.main(["--lake", str(lake(source)), "--record", record, "--dataset", "apc", "--json"]) == 0
    explained = json.loads(capsys.readouterr().out)["explained"]
    published = next(item for item in explained if item["reading"] == "as_published")
    failing = [clause["clause_id"] for clause in published["clauses"] if clause["verdict"].startswith("fails")]
    assert (published["outcome"], sorted(failing)) == ("not flagged", sorted(failed))
    flagged_rows = {policy for (policy,) in rows(source, "gold/activity_flag", "policy_id", f"record_id = '{record}'")}
    assert {item["policy_id"] for item in explained if item["outcome"] != "not in scope"} <= flagged_rows
    elsewhere = [item for item in explained if item["policy_id"] in LOCAL and item["policy_id"] not in flagged_rows]
    assert elsewhere and all("not one of their patients" in item["why"] for item in elsewhere)
    assert status.main(["--lake", str(lake(source)), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["status"]
    assert shown["release"][0]["release_id"] == done["release"]
    listed = {(row["code"], row["records"]) for row in shown["area codes that count in England only"]}
    assert listed == {*rows(source, "gold/unmapped_area", "code, sum(records)", "true GROUP BY code")} and listed
    assert explain.main(["--lake", str(lake(source)), "--record", "no such record"]) == 2


def test_a_run_without_a_change_does_nothing_and_publishes_nothing(
    done: dict[str, Any], source: Path, changed_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commits() -> dict[str, int]:
        logs = {name: lake(source) / name / "_delta_log" for name in TABLES}
        return {name: len(list(log.glob("*.json"))) for name, log in logs.items()}

    before = commits()
    # Compaction changes files and versions, no row.
    few = ("silver/op_attendance", "gold/activity_flag", "gold/activity_rate")
    monkeypatch.setattr(maintain, "TABLES", {name: TABLES[name] for name in few})
    assert maintain.main(["--lake", str(lake(source))]) == 0
    compacted = commits()
    assert compacted != before

    def no_session(*_: Any, **__: Any) -> Any:
        raise AssertionError("a session was started")

    with monkeypatch.context() as patch:
        patch.setattr("ebi_spark.spark.session.spark_session", no_session)
        again = call(run.main, source)
    assert again["outcome"] == "done", again["error"]
    assert [stage["name"] for stage in again["stages"] if stage.get("skipped")] == [
        "ingest", "flag", "rate", "monitor", "validate", "publish",
    ]  # fmt: skip
    assert again["release"] == done["release"]
    assert commits() == compacted
    # The report is drawn again where somebody removed it.
    Path(done["report"]).unlink()
    one_year = call(run.main, source, "--years", YEARS[0])
    assert (one_year["outcome"], one_year["release"]) == ("done", done["release"])
    assert Path(done["report"]).is_file()


def test_a_lake_of_an_earlier_version_is_converted_and_nothing_is_due(
    done: dict[str, Any], source: Path, spark: SparkSession, tmp_path: Path
) -> None:
    """One whose run log kept everything that `gold/batch` and `gold/stage_input` have now."""
    earlier = tmp_path / "lake"
    shutil.copytree(lake(source), earlier)
    make_earlier(earlier)
    # What would be due has the same reasons, before anything is converted.
    config = replace(load_config(source / "run.yml"), lake=LakeLocation(folder=earlier), min_national_events=7)
    books = history.RunHistory(Lake(spark, config.lake), config, "now")
    assert not books.due_sources() and not books.due("flag", list(YEARS)) and books.policies_unchanged()
    assert books.due("rate", list(YEARS)).reasons == [
        f"the setting min_national_events has changed ({', '.join(YEARS)})"
    ]
    assert not any(books.checks_due(list(YEARS), YEARS).values())
    assert books.why_publish() == ["the setting min_national_events has changed"]
    assert not (earlier / "gold/batch").exists()

    again = call(run.main, source, "--lake", str(earlier))
    assert [stage["name"] for stage in again["stages"] if stage.get("skipped")] == [
        "ingest", "flag", "rate", "monitor", "validate", "publish",
    ]  # fmt: skip
    kept = "run_id, stage, started_at, outcome, years, inputs, versions_read, versions_written, day, whole, years_found, files"
    converted, made = (delta_rows(place / "gold/batch", kept) for place in (earlier, lake(source)))
    assert converted == made and len(made) >= 5
    inputs = "stage, inputs, kind, input, fingerprint"
    assert delta_rows(earlier / "gold/stage_input", inputs) == rows(source, "gold/stage_input", inputs)


@pytest.mark.soak
def test_a_new_policy_is_judged_alone_and_flows_on(
    done: dict[str, Any], source: Path, changed_here: None, tmp_path: Path
) -> None:
    before = figures(source)
    shipped = resource("conf", "policies", "2Y_back_pain_fusion.yml").read_text(encoding="utf-8")
    (tmp_path / "made_up.yml").write_text(
        shipped.replace("id: 2Y_back_pain_fusion", "id: made_up", 1), encoding="utf-8"
    )
    given = (source / "run.yml").read_text(encoding="utf-8")
    (source / "run.yml").write_text(f"{given}\npolicy_dirs: [{tmp_path}]\n", encoding="utf-8")
    again = call(run.main, source)
    assert again["outcome"] == "done", again["error"]
    why = {stage["name"]: "; ".join(stage["why"]) for stage in again["stages"]}
    assert (why["ingest"], why["flag"]) == ("", f"made_up is new ({', '.join(YEARS)})")
    assert "gold/activity_flag has changed" in why["rate"]
    runs = rows(source, "gold/activity_flag", "DISTINCT policy_id = 'made_up', run_id")
    assert runs == [(False, done["run_id"]), (True, again["run_id"])]
    twice = "policy_id, reading, financial_year, count(*)"
    copies = rows(
        source, "gold/policy_attrition", twice, "policy_id IN ('made_up', '2Y_back_pain_fusion') GROUP BY ALL"
    )
    assert [row[1:] for row in copies if row[0] == "made_up"] == [row[1:] for row in copies if row[0] != "made_up"]
    assert [row for row in figures(source) if row[0] != "made_up"] == before
    # And gone again when it is no longer asked for.
    (source / "run.yml").write_text(given, encoding="utf-8")
    assert "made_up is no longer configured" in "; ".join(call(run.main, source)["stages"][1]["why"])
    assert figures(source) == before


def test_a_rerun_of_one_year_changes_no_figure_and_one_command_goes_back_to_the_first_release(
    done: dict[str, Any], source: Path, changed_here: None, looks: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The figures are the same as those that the first run checked. What publishes checks its own tables all the same.
    monkeypatch.setattr(stages_validate, "validate_layers", all_checks_pass)
    before, before_it, shown = figures(source), len(looks), releases_are_whole(lake(source))[0]
    people = sorted((lake(source) / "silver/population").rglob("*"))
    tables = (
        "silver/apc_spell",
        "silver/op_attendance",
        "gold/activity_flag",
        "gold/activity_rate",
        "gold/activity_month",
    )
    untouched = {table: files_of(source, table, YEARS[0]) for table in tables}
    again = call(run.main, source, "--years", YEARS[1], "--force")
    assert again["outcome"] == "done", again["error"]
    assert figures(source) == before
    assert all(untouched.values())
    assert sorted((lake(source) / "silver/population").rglob("*")) == people  # the same file: no new version
    assert {table: files_of(source, table, YEARS[0]) for table in tables} == untouched
    current = rows(source, "published/release", "release_id, is_current")
    assert [seen[0] for seen in looks[before_it:]] == [shown] * len(PUBLISHED) + [again["release"]] * (
        1 + len(STAR_TABLES)
    )
    assert (done["release"], False) in current
    assert [release for release, is_current in current if is_current] == [again["release"]]
    outside = rows(source, "silver/ingest_audit", "sum(rows_outside_years) > 0", f"run_id = '{again['run_id']}'")
    assert outside == [(True,)]

    back = call(publish.main, source, "--release", done["release"])
    assert (back["outcome"], back["release"]) == ("done", done["release"])
    assert rows(source, "published/release", "release_id", "is_current") == [(done["release"],)]
    assert done["release"] in Path(back["report"]).read_text(encoding="utf-8")
    for table in STAR_TABLES:
        assert rows(source, table.full_name, "DISTINCT release_id") == [(done["release"],)], table.full_name
    unknown = call(publish.main, source, "--release", done["release"][:-1])
    assert unknown["exit"] == 2
    assert done["release"] in unknown["error"]["remedy"]
    assert rows(source, "published/release", "release_id", "is_current") == [(done["release"],)]


def test_what_a_gate_refuses_is_not_published_and_a_rerun_of_one_year_corrects_it(
    done: dict[str, Any], source: Path, changed_here: None, spark: SparkSession
) -> None:
    """Somebody changes rates of the earlier year, and England's of the pooled period that ends with the later one."""
    before, releases = figures(source), rows(source, "published/release", "release_id, is_current")
    single = files_of_single_years(source, YEARS[1])
    pooled = "period_years = 2 AND area_type = 'england'"
    of_boards = f"financial_year = '{YEARS[0]}' AND period_years = 1 AND area_type = 'icb' AND crude_rate > 0"
    spark.sql(
        f"UPDATE delta.`{lake(source) / 'gold/activity_rate'}` SET activity = activity + if({pooled}, 1, 0), "
        f"crude_rate = crude_rate + if({of_boards}, 1, 0) WHERE ({pooled}) OR ({of_boards})"
    )
    assert figures(source) != before
    # What has changed since it was validated is not published; nor is what a validation refused.
    refused = call(publish.main, source)
    assert refused["exit"] == 2
    assert "changed since the last validation" in refused["error"]["message"]
    failed = call(validate.main, source)
    assert (failed["exit"], failed["outcome"]) == (1, "failed")
    assert "activity_rate" in failed["error"]["message"]
    refused = call(publish.main, source)
    assert refused["exit"] == 2
    assert "failed its last validation" in refused["error"]["message"]
    assert rows(source, "published/release", "release_id, is_current") == releases
    # Corrected by the stage that makes the rates. A rerun of an earlier year renews pooled periods too, and no file of the
    # other single year.
    again = call(rate.main, source, "--years", YEARS[0])
    assert again["outcome"] == "done", again["error"]
    assert figures(source) == before
    assert single and files_of_single_years(source, YEARS[1]) == single
    assert call(validate.main, source, "--years", YEARS[0])["outcome"] == "done"
    assert call(ingest.main, source, "--years", "2010-11")["exit"] == 2


@pytest.mark.soak
def test_an_old_run_made_again_is_what_it_was(
    done: dict[str, Any], source: Path, changed_here: None, spark: SparkSession,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The first run, after another has replaced its flags and somebody its rates."""
    assert call(run.main, source, "--force")["outcome"] == "done"
    rates = lake(source) / "gold/activity_rate"
    spark.sql(f"UPDATE delta.`{rates}` SET activity = activity + 1 WHERE area_type = 'england'")

    def replayed(run_id: str = done["run_id"]) -> dict[str, Any]:
        capsys.readouterr()
        replay.main([run_id, "--lake", str(lake(source)), "--json"])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    commits = len(list(lake(source).rglob("_delta_log/*.json")))
    again = replayed()
    assert again["exit"] == 0, again["error"]
    found = {item["table"]: (item["recorded"], item["again"], item["differing"]) for item in again["compare_tables"]}
    gold = ["gold/activity_flag", "gold/policy_attrition", "gold/activity_rate", "gold/rate_variation"]
    assert sorted(found) == sorted([*gold, *(table.full_name for table in PUBLISHED)])
    assert all(recorded == made and differing == 0 for recorded, made, differing in found.values()), found
    # So few operations, and no audit.
    few = {"days_between", "approval_summary", "activity_change", "audit_estimate"}
    assert {name for name, (recorded, *_) in found.items() if not recorded} <= {f"published/{name}" for name in few}
    assert len(list(lake(source).rglob("_delta_log/*.json"))) == commits

    unknown = replayed("20200101T000000Z-000000")
    assert unknown["exit"] == 2
    assert "the last runs that published are: 20" in unknown["error"]["remedy"]
    with monkeypatch.context() as patch:
        patch.setattr(stage_inputs, "STAGE_VERSIONS", dict.fromkeys(stage_inputs.STAGES, 99))
        other = replayed()
    assert other["exit"] == 2
    assert "the program has changed since (it ran under version" in other["error"]["message"]
    # A file that only the old version has, gone as by vacuum.
    files = {
        json.loads(line)["add"]["path"]
        for line in (lake(source) / "gold/activity_flag/_delta_log/00000000000000000001.json").read_text().splitlines()
        if '"add"' in line
    }
    (lake(source) / "gold/activity_flag" / sorted(files)[0]).unlink()
    gone = replayed()
    assert gone["exit"] == 2
    assert "gold/activity_flag (version 1) are no longer there" in gone["error"]["message"]


def test_a_replay_finds_what_differs(spark: SparkSession) -> None:
    """Ten rows of rates; made again, one is missing, one is new, one appears twice, one counts other events, one has another
    rate, one lost it: and one whose rate differs in its last digit is the same."""
    rates = [
        {"policy_id": "P", "area_code": f"A{n}", "activity": n, "crude_rate": float(n), "run_id": "r1"}
        for n in range(10)
    ]
    again = [dict(row, run_id="r2") for row in rates[1:]]
    again += [{"policy_id": "P", "area_code": "new", "activity": 1, "crude_rate": 1.0}, dict(again[0])]
    again[1]["activity"] = 99
    again[2]["crude_rate"] = 3.001
    again[3]["crude_rate"] = None
    again[4]["crude_rate"] = 5.0 * (1 + 1e-15)
    found = compare_tables(
        "rate",
        ACTIVITY_RATE,
        small_frame(spark, rates, ACTIVITY_RATE.schema),
        small_frame(spark, again, ACTIVITY_RATE.schema),
    )
    # Missing 1, new 1, twice 2, other events 1 + 1, another rate 1, lost 1.
    assert (found.recorded, found.again, found.differing) == (10, 11, 8)
