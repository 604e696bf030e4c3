"""What must not be published: values that are not codes, formulas, a release that fails its checks, and figures that earlier
versions disclosed."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from calling import answer_of, call, delta_rows, duckdb_on_delta
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from source_rows import OPA, attendance, write

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.settings import RunConfig
from ebi_spark.errors import DataError
from ebi_spark.geography.code_forms import COMPARED, LIKE_A_KEY, NOT_A_CODE, refuse_invalid_codes, with_known_codes
from ebi_spark.lake.new_tables import VERSION_PROPERTY
from ebi_spark.lake.storage import Lake
from ebi_spark.rates.record_quality import record_quality
from ebi_spark.release import publish as publishing
from ebi_spark.release.spreadsheets import without_formulas
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.gold import POLICY
from ebi_spark.tables.published import COMPLETENESS, DAYS_BETWEEN, QUALITY, RATE, RELEASE, VARIATION
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.table import YEAR as YEAR_COLUMN
from ebi_spark.tables.table import Table
from jobs import maintain, publish, run, status

CODES = "provider_code string, commissioner_code string, person_id string, record_id string"
CONFIG = RunConfig(lake=LakeLocation(folder=Path("lake")))


PAGE = Path(__file__).parent.parent / "docs" / "bad-input.md"
# Case in docs/bad-input.md → provider, commissioner, and what is published of them
SHOWN: dict[str, tuple[str | None, ...]] = {
    "of an NHS trust and a sub-ICB location": ("RX1", "15E", "RX1", "15E"),
    "in small letters, with blanks": (" rx1 ", "d4u1y", "RX1", "D4U1Y"),
    "of an independent provider, a commissioner of five characters": ("NT401", "15E00", "NT401", "15E00"),
    "of a GP practice, an ONS code": ("A81001", "E38000001", "A81001", "E38000001"),
    "of the data dictionary's defaults": ("89997", "VPP00", "89997", "VPP00"),
    "of Wales, one letter of HES": ("7A1", "S", "7A1", "S"),
    "that is a number of ten digits": ("9434765919", "9434765919", "unknown", "unknown"),
    "that is a number of three or five digits": ("123", "12345", "unknown", "unknown"),
    "that is a key in letters and digits": ("P000147", "8F3C0A9E77D1B2C4", "unknown", "unknown"),
    "that is a name or a postcode": ("SMITH, JOHN", "AB1 2CD", "unknown", "unknown"),
    "that a spreadsheet would run": ("=1+1", "@SUM(A1)", "unknown", "unknown"),
    "with a sign in front": ("-RX", "+RX", "unknown", "unknown"),
    "that is the key of the row's own person or record": ("P12", "R12", "unknown", "unknown"),
    "that is missing": (None, None, None, None),
}


def test_the_page_lists_these_codes_and_no_others() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## Provider and commissioner codes\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    said = {
        case: "nothing" if row[2] is None else "`unknown`" if row[2] == "unknown" else "" for case, row in SHOWN.items()
    }
    assert [case for case, _ in rows] == list(SHOWN)
    assert all(said[case] in ("", gets) and (gets == said[case]) == bool(said[case]) for case, gets in rows)


def test_values_that_are_not_codes_are_unknown(spark: SparkSession) -> None:
    rows = small_frame(spark, [(*row[:2], "P12", "R12") for row in SHOWN.values()], CODES)
    found = [tuple(row)[:2] for row in with_known_codes(rows).collect()]
    assert found == [row[2:] for row in SHOWN.values()]


def records(spark: SparkSession, rows: DataFrame) -> DataFrame:
    """Rows of numbers ``id`` as records of a data set and year."""
    nothing = (
        "age",
        "age_years",
        "diagnosis_codes",
        "procedure_codes",
        "activity_date",
        "gp_practice_code",
        "gp_practice_sus",
    )
    empty = dict.fromkeys(nothing, F.lit(None).cast("string"))
    return rows.withColumns(
        {"dataset": F.lit("op"), "financial_year": F.lit("2021-22"), "sex": F.lit("1"), **empty}
    ).withColumn("record_id", F.concat(F.lit("r"), F.col("id").cast("string")))


def like_keys(spark: SparkSession, count: int, provider: str, person: str) -> bool:
    """Whether the provider column looks like a key. It is calculated from a row's number by a SQL expression."""
    rows = spark.range(count).selectExpr("id", f"{provider} AS provider_code", f"{person} AS person_id")
    made = record_quality([records(spark, rows.withColumn("commissioner_code", F.lit("15E")))])
    found = {row["measure"]: row["records"] for row in made.collect()}
    assert found[LIKE_A_KEY["commissioner_code"]] == 0 and found[NOT_A_CODE["provider_code"]] == 0
    assert found[LIKE_A_KEY["provider_code"]] in (0, count)
    return found[LIKE_A_KEY["provider_code"]] == count


# Five characters, one of them a letter, have the form of a code.
CODE = "concat('P', lpad(cast({} AS string), 4, '0'))"


@pytest.mark.parametrize(
    ("count", "provider", "person", "is_key"),
    [
        (300, CODE.format("id % 147"), "concat('x', id % 147)", True),  # another key of the same persons
        (300, CODE.format("id"), "concat('x', id % 147)", True),  # a key of records
        (12_000, CODE.format("id % 6000"), "NULL", True),  # persons, and no other key of them
        (60, CODE.format("id"), "concat('x', id)", False),  # so few rows say nothing
        (300, CODE.format("hash(id) % 150 + 150"), "concat('x', id)", False),  # many providers, each with some persons
        (
            1_000,
            CODE.format("least(id, 400)"),
            "concat('x', id)",
            False,
        ),  # one with many persons, the others with one each
        (12_000, CODE.format("id % 900"), "NULL", False),
    ],
)
def test_a_column_with_nearly_as_many_values_as_persons_looks_like_a_key(
    spark: SparkSession, count: int, provider: str, person: str, is_key: bool
) -> None:
    assert like_keys(spark, count, provider, person) is is_key


def counted(*rows: tuple[str, str, int, int]) -> list[dict[str, Any]]:
    return [dict(zip(COMPARED, ("op", *row), strict=True)) for row in rows]


def test_too_many_values_that_are_not_codes_are_refused_by_data_set_and_by_year() -> None:
    no_code, key = NOT_A_CODE["provider_code"], LIKE_A_KEY["provider_code"]
    few = [("2020-21", no_code, 2, 4), ("2021-22", no_code, 90, 1_000), ("2021-22", key, 0, 1_000)]
    refuse_invalid_codes(counted(*few), CONFIG)
    with pytest.raises(DataError) as refused:
        refuse_invalid_codes(counted(*few, ("2022-23", no_code, 12, 100)), CONFIG)
    assert "provider_code of op is not the code" in refused.value.message
    assert "on 104 of 1,104 records" in refused.value.message
    assert "(2022-23)" in refused.value.message and "max_unknown_code_share" in refused.value.message
    assert "mapped to provider_code" in refused.value.remedy
    with pytest.raises(DataError, match="120 of 1,004"):
        refuse_invalid_codes(counted(("2020-21", no_code, 4, 4), ("2021-22", no_code, 116, 1_000)), CONFIG)
    with pytest.raises(DataError, match="it looks like a key"):
        refuse_invalid_codes(counted(("2021-22", key, 300, 300)), CONFIG)


def test_no_text_that_a_spreadsheet_would_run_is_published(spark: SparkSession) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "＝1", "\n-1", "plain", "a=b", "", None]
    rows = [(text, [text], {"words": text}, -1.5) for text in texts]
    kinds = "text string, listed array<string>, inner struct<words:string>, number double"
    found = without_formulas(small_frame(spark, rows, kinds)).collect()
    safe = ["'" + text for text in texts[:8] if text] + texts[8:]
    assert [row["text"] for row in found] == safe
    assert [row["listed"] for row in found] == [[text] for text in safe]
    assert [row["inner"]["words"] for row in found] == safe
    assert {row["number"] for row in found} == {-1.5}


# End to end

YEAR = "2021-22"
COLUMNS = [*OPA, "Der_Pseudo_NHS_Number", "Der_Provider_Code", "Der_Commissioner_Code"]
ODD = ("4447771238", "=HYPERLINK(1)", "MRS JONES")


@pytest.fixture(scope="module")
def source(empty_lake: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Attendances of 147 persons at two providers. Three have no provider code, and one of these has no commissioner code."""
    folder = tmp_path_factory.mktemp("published")
    empty_lake(folder / "lake")
    rows = [
        attendance(f"k{number}", Der_Pseudo_NHS_Number=f"{7_000_000_000 + number % 147}")
        | {"Der_Provider_Code": "RX1" if number % 2 else "RWE", "Der_Commissioner_Code": "15E"}
        for number in range(300)
    ]
    for row, odd in zip(rows, ODD, strict=False):
        row["Der_Provider_Code"] = odd
    rows[2]["Der_Commissioner_Code"] = "1 HIGH ST"
    write(folder / "opa.csv", rows, COLUMNS)
    # One of the two providers has a name, and so would England if the names were for every kind of area.
    (folder / "names.csv").write_text("provider_code,provider_name\nrx1,A TRUST\nE92000001,NO PROVIDER\n")
    (folder / "run.yml").write_text(
        "lake: ./lake\nsources:\n  a: {system: sus_plus, tables: {opa: opa.csv}}\npolicies: [2S_lower_back_imaging]\n"
        "geography: {providers: names.csv}\n"
    )
    return folder


def shown(folder: Path, table: str, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
    return delta_rows(folder / "lake" / table, columns, where)


def outside_restricted_tables(folder: Path) -> str:
    """Everything in published/, in the report and pages, and in gold except the flags."""
    lake = folder / "lake"
    with duckdb_on_delta() as reader:
        tables = [path.parent for path in sorted(lake.glob("*/*/_delta_log")) if path.parts[-3] != "silver"]
        text = [
            str(reader.execute(f"SELECT * FROM delta_scan('{table}')").fetchall())
            for table in tables
            if table.name != "activity_flag"
        ]
    text += [path.read_text(encoding="utf-8") for path in lake.rglob("*.html")]
    return "\n".join(text)


@pytest.fixture(scope="module")
def done(one_session: None, source: Path) -> dict[str, Any]:
    answer = call(run.main, source)
    assert answer["exit"] == 0, answer["error"]
    return answer


def test_values_that_are_not_codes_appear_in_records_only(
    done: dict[str, Any], source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    providers = shown(source, "published/completeness", "DISTINCT area_code", "area_type = 'provider'")
    assert set(providers) <= {("RWE",), ("RX1",), ("unknown",)}
    assert shown(source, "gold/provider_month", "sum(records)", "provider_code = 'unknown'") == [(3,)]
    areas = shown(source, "gold/activity_rate", "DISTINCT area_code, in_scope", "area_type = 'provider'")
    assert ("unknown", 3) in areas and {code for code, _ in areas} == {"RWE", "RX1", "unknown"}
    measured = dict(shown(source, "gold/record_quality", "measure, records", "measure LIKE '%_not_a_code'"))
    assert measured == {"provider_not_a_code": 3, "commissioner_not_a_code": 1}
    assert shown(source, "gold/unmapped_area", "code, records", "code = 'unknown'") == [("unknown", 1)]
    assert status.main(["--lake", str(source / "lake")]) == 0
    printed = "".join(capfd.readouterr()) + json.dumps(done) + outside_restricted_tables(source)
    assert "unknown" in printed and not [odd for odd in (*ODD, "1 HIGH ST", "7000000") if odd in printed]


def test_providers_are_published_with_their_names(done: dict[str, Any], source: Path) -> None:
    for table in ("rate", "dim_area"):
        named = "DISTINCT area_type, area_code, area_name" if table == "rate" else "area_type, ods_code, area_name"
        providers = shown(source, f"published/{table}", named, "area_type = 'provider'")
        assert providers == [("provider", "RWE", "RWE"), ("provider", "RX1", "A TRUST")], table
        england = shown(source, f"published/{table}", "DISTINCT area_name", "area_type = 'england'")
        assert england == [("England",)], table


def below_published(source: Path) -> dict[str, bytes]:
    """Every file in published/ with its content, without files that a file system adds."""
    folder = source / "lake" / "published"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_refused_release_is_never_written(
    done: dict[str, Any], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An area has a count of 3. The release is refused, and no file in published/ changes, not even the history."""
    before = below_published(source)
    frames = publishing.published_frames

    def with_a_small_count(*given: Any) -> Any:
        made, loss = frames(*given)
        small = F.when(F.col("area_type") == "provider", 3).otherwise(F.col("activity"))
        return {**made, RATE: made[RATE].withColumn("activity", small)}, loss

    monkeypatch.setattr(publishing, "published_frames", with_a_small_count)
    refused = call(publish.main, source)
    assert (refused["exit"], refused["outcome"]) == (1, "failed")
    assert "published/rate" in refused["error"]["message"] and "nothing was published" in refused["error"]["message"]
    assert below_published(source) == before


def test_rows_of_a_broken_release_were_checked(
    done: dict[str, Any], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run breaks between two tables. All rows were checked before the first was written, and maintenance removes the rest."""
    order: list[str] = []
    check, replace = publishing.validate_layer, Lake.replace

    def checked(*given: Any, **named: Any) -> Any:
        order.append("checked")
        return check(*given, **named)

    def breaks(self: Lake, table: Table, *given: Any, **named: Any) -> None:
        if table.layer == "published":
            order.append(table.name)
        if table is RELEASE:
            raise RuntimeError("killed")
        replace(self, table, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "validate_layer", checked)
        patch.setattr(Lake, "replace", breaks)
        broken = call(publish.main, source)
    assert broken["exit"] == 3 and order[0] == "checked" and order[-1] == "release"
    assert sorted(order[1:-1]) == sorted(table.name for table in publishing.PUBLISHED)
    releases = "count(DISTINCT release_id)"
    assert shown(source, "published/rate", releases) == [(2,)]
    assert shown(source, "published/release", "release_id, is_current") == [(done["release"], True)]
    assert answer_of(maintain.main, "--lake", str(source / "lake"))["exit"] == 0
    assert shown(source, "published/rate", releases) == [(1,)]


def test_a_person_column_mapped_to_the_provider_is_refused(
    done: dict[str, Any], source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = (source / "run.yml").read_text()
    mapped = "{path: opa.csv, columns: {provider_code: Der_Pseudo_NHS_Number}}"
    (source / "run.yml").write_text(config.replace("opa.csv", mapped))
    before = shown(source, "published/release", "*")
    refused = call(run.main, source)
    assert (refused["exit"], refused["outcome"]) == (1, "failed")
    assert (
        "provider_code of op is not the code of an organisation or area on 300 of 300 records"
        in refused["error"]["message"]
    )
    assert "provider_code" in refused["error"]["remedy"]
    assert shown(source, "published/release", "*") == before
    assert status.main(["--lake", str(source / "lake")]) == 0
    assert "7000000" not in "".join(capfd.readouterr()) + json.dumps(refused) + outside_restricted_tables(source)


# Figures of earlier versions

DISCLOSIVE = 4711.25  # is nowhere else


def earlier_lake(lake: Lake) -> None:
    """Two releases of schema 1, a third that was refused and removed again, and the number of a person as a provider."""
    rate = {"policy_id": "P", "revision": "R", "reading": "as_published", YEAR_COLUMN: YEAR, "period_years": 1}
    figures = dict.fromkeys(
        ("expected", "standardised_rate", "lower", "upper", "lower_adjusted", "upper_adjusted", "standard_error"),
        DISCLOSIVE,
    )
    figures |= {"share_lower": 0.25, "share_upper": 0.5, "crude_rate": 2.5, "population": 1_000, "in_scope": 40}
    rates: list[dict[str, Any]] = []
    spread: list[dict[str, Any]] = []
    days: list[dict[str, Any]] = []
    measures: list[dict[str, Any]] = []
    complete: list[dict[str, Any]] = []
    for number, release in enumerate(("r1", "r2", "refused")):
        of = {"release_id": release}
        rates += [
            of | rate | figures | {"area_type": kind, "area_code": code, "activity": 25 + number, "status": "ok"}
            for kind, code in (
                ("england", "E92000001"),
                ("icb", "QXX"),
                ("provider", "RX1"),
                ("provider", "4447771238"),
            )
        ]
        spread.append(
            of
            | rate
            | {
                "area_type": "icb",
                "areas": 3,
                "p50": DISCLOSIVE,
                "all_areas_p90": DISCLOSIVE,
                "opportunity": DISCLOSIVE,
            }
        )
        days.append(of | rate | {"number": 1, "events": 8, "days": 4711})
        measures += [
            of | {YEAR_COLUMN: YEAR, "dataset": "op", "measure": name, "records": 4711}
            for name in ("records", "area_unmapped")
        ]
        complete += [
            of | {YEAR_COLUMN: YEAR, "dataset": "op", "area_type": kind, "area_code": code, "status": status, "providers": providers}
            for kind, code, status, providers in (
                ("england", "E92000001", "ok", 4711), ("provider", "RX1", "ok", None), ("provider", "RX2", "withheld_small", None),
                ("provider", "4447771238", "ok", None),
            )
        ]  # fmt: skip
    tables = {RATE: rates, VARIATION: spread, DAYS_BETWEEN: days, QUALITY: measures, COMPLETENESS: complete}
    for table, rows in tables.items():
        lake.append(table, rows, stage="publish")
        lake.replace(table, [], {"release_id": ["refused"]}, stage="publish")
    stated = {table.full_name: len(rows) // 3 for table, rows in tables.items()} | {"published/policy": 0}
    manifests = [
        {"release_id": f"r{n}", "is_current": n == 2, "released_at": datetime(2026, 5, n, tzinfo=UTC), "tables": stated}
        | {"disclosure": "hes_2018_protected", "disclosure_loss": {"least_withheld_share": DISCLOSIVE}}
        for n in (1, 2)
    ]
    lake.append(RELEASE, manifests, stage="publish")


def of_schema_1(folder: Path) -> None:
    """Says in the first entry of every published table's log that the table is of schema 1, before Spark has read it."""
    for log in (folder / "published").glob("*/_delta_log"):
        # A checksum file, which not every writer makes, repeats what the entry says.
        for entry in log.glob(f"{0:020}.*"):
            text = entry.read_text(encoding="utf-8")
            changed = re.sub(rf'("{re.escape(VERSION_PROPERTY)}":)"\d+"', r'\1"1"', text)
            assert changed != text, entry
            entry.write_text(changed, encoding="utf-8")
            (log / f".{entry.name}.crc").unlink(missing_ok=True)  # the checksum of the file before


def files_with_secrets(folder: Path) -> list[str]:
    """The files in a folder that contain a disclosive value or a person's number, including history and logs."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            text = (
                str(pq.ParquetFile(path).read().to_pylist()) if path.suffix == ".parquet" else path.read_text("latin-1")
            )
            found += [
                str(path.relative_to(folder))
                for secret in ("4711.25", "4447771238", "'days': 4711", '"days":4711')
                if secret in text
            ]
    return found


def test_figures_that_earlier_versions_disclosed_are_emptied_in_every_kept_release(
    lake_at: Callable[[Path], Lake], tmp_path: Path
) -> None:
    lake = lake_at(tmp_path / "lake")
    of_schema_1(tmp_path / "lake")
    earlier_lake(lake)
    assert {name.split("/")[0] for name in files_with_secrets(tmp_path / "lake/published")} == {
        "rate", "variation", "days_between", "release", "completeness",
    }  # fmt: skip
    policies = small_frame(
        lake.spark, [{"policy_id": "P", "reading": "as_published", "is_default_reading": True}], POLICY.schema
    )
    before = publishing._earlier_releases(Lake(lake.spark, lake.location), policies)
    # A table without a commit has nothing to empty.
    used = [table.full_name for table in TABLES.values() if table.layer == "published" and lake.version(table) > 0]
    lines = Lake(lake.spark, lake.location, "migration").migrate()
    assert sorted(line.partition(":")[0] for line in lines if "emptied figures" in line) == sorted(used)
    assert files_with_secrets(tmp_path / "lake/published") == []

    # Read by another engine. No version of a table has the refused release.
    assert shown(tmp_path, "published/rate", "DISTINCT expected, standardised_rate, lower, upper, standard_error") == [
        (None,) * 5
    ]
    kept = "release_id, area_code, activity, in_scope, crude_rate, share_lower"
    assert shown(tmp_path, "published/rate", kept) == [
        (f"r{n}", code, 24 + n, 40, 2.5, lower)
        for n in (1, 2) for code, lower in (("E92000001", 0.25), ("QXX", None), ("RX1", None))
    ]  # fmt: skip
    assert (
        shown(tmp_path, "published/variation", "p50, all_areas_p90, opportunity, areas") == [(None, None, None, 3)] * 2
    )
    assert shown(tmp_path, "published/days_between", "*") == []
    assert shown(tmp_path, "published/quality", "measure, records", "release_id = 'r1'") == [
        ("area_unmapped", None), ("records", 4711),
    ]  # fmt: skip
    assert shown(tmp_path, "published/completeness", "area_code, providers", "release_id = 'r1'") == [
        ("E92000001", None), ("RX1", None),
    ]  # fmt: skip
    assert {loss for (loss,) in shown(tmp_path, "published/release", "disclosure_loss")} == {None}
    written = (RATE, VARIATION, DAYS_BETWEEN, QUALITY, COMPLETENESS, RELEASE)
    assert {table.full_name for table in written} == {*used}
    for table in written:
        for version in (0, 1):  # as created, and with the first rows
            with pytest.raises(DeltaError, match=r"log segment|version"):
                DeltaTable(lake.path(table), version=version)

    # The next release takes the same counts into account as before, and the tables still match their manifests.
    again = Lake(lake.spark, lake.location, "later")
    after = publishing._earlier_releases(again, policies)
    assert before is not None and after is not None
    places = ["area_type", "area_code", "activity", "in_scope", "status"]
    known = before[before["area_code"] != "4447771238"][places].sort_values(places).to_dict("records")
    assert after[places].sort_values(places).to_dict("records") == known
    publishing.roll_back(again, "r1")
    assert shown(tmp_path, "published/release", "release_id", "is_current") == [("r1",)]
    assert Lake(lake.spark, lake.location, "once more").migrate() == []
