"""Every form of a release is read back by another program and compared with the published tables. The release is made up."""

import csv
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import published_figures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from calling import call
from cml_schemas import pandas_schemas, spark_schemas
from deltalake import write_deltalake
from jsonschema import Draft202012Validator
from openpyxl import load_workbook
from test_report import FUSION, IMAGING, manifest, sample

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.exports import lineage
from ebi_spark.exports.data_contract import data_contract
from ebi_spark.exports.fingertips import COLUMNS, INDIRECT, SUPPRESSED, fingertips_rows
from ebi_spark.exports.lineage import lineage_events
from ebi_spark.exports.metrics_library import metrics
from ebi_spark.exports.release_data import ReleaseData, comparison, read_release_data
from ebi_spark.exports.sheets import CONFIDENTIAL, sheets_of
from ebi_spark.lake.local_tables import LocalLake
from ebi_spark.release.star import star_rows
from ebi_spark.report.rows import is_suppressed
from ebi_spark.stages.run_context import StageReport
from ebi_spark.tables.gold import RUN_LOG
from ebi_spark.tables.published import RELEASE
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.star import RATE_CURRENT
from ebi_spark.tables.table import Table
from jobs import export, publish

pytestmark = pytest.mark.usefixtures("no_session")

_ARROW = {
    "string": pa.string(), "bigint": pa.int64(), "int": pa.int32(), "double": pa.float64(), "boolean": pa.bool_(),
    "date": pa.date32(), "timestamp": pa.timestamp("us", tz="UTC"), "array<string>": pa.list_(pa.string()),
    "map<string,bigint>": pa.map_(pa.string(), pa.int64()), "map<string,string>": pa.map_(pa.string(), pa.string()),
    "map<string,double>": pa.map_(pa.string(), pa.float64()),
}  # fmt: skip
_HEADER = (
    "Indicator ID,Indicator Name,Parent Code,Parent Name,Area Code,Area Name,Area Type,Sex,Age,Category Type,Category,Time period,"
    "Value,Lower CI 95.0 limit,Upper CI 95.0 limit,Lower CI 99.8 limit,Upper CI 99.8 limit,Count,Denominator,Value note,Recent Trend,"
    "Compared to England value or percentiles,Compared to Region value or percentiles,Time period Sortable,New data,Compared to goal,"
    "Time period range"
)

# A value of a made-up patient, which no export may show.
PATIENT = "patient-943-476-5919"


def put(folder: Path, table: Table, rows: list[dict[str, Any]]) -> None:
    schema = pa.schema([(name, _ARROW[kind]) for name, kind, _ in table.fields() if kind in _ARROW])
    plain = [{name: _value(row.get(name)) for name in schema.names} for row in rows]
    by = [name for name in table.partition_by if name in schema.names]
    write_deltalake(folder / table.full_name, pa.Table.from_pylist(plain, schema=schema), partition_by=by or None)


def _value(value: Any) -> Any:
    if getattr(value, "ndim", 0):
        return list(value)
    if isinstance(value, list | tuple | dict) or value is None:
        return value
    return None if pd.isna(value) else value


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    (folder / "silver").mkdir()
    for name, frame in sample().items():
        rows = frame.astype(object).to_dict(orient="records")
        if name == "rate":
            rows[0]["area_name"] = "=HYPERLINK(1)"
        put(folder, TABLES[f"published/{name}"], rows)
    row = manifest(geography="icb_2022", coverage="national", caveats={"partial": "A caveat."}, sources={}, versions={})
    put(folder, RELEASE, [row | {"years": list(row["years"]), "released_at": row["released_at"].to_pydatetime()}])
    put(folder, TABLES["silver/apc_spell"], [{"record_id": PATIENT, "person_id": PATIENT, "financial_year": "2021-22"}])
    start = datetime(2026, 3, 12, 13, 0, tzinfo=UTC)
    put(
        folder,
        RUN_LOG,
        [
            {"run_id": row["run_id"], "stage": stage, "started_at": start + timedelta(minutes=number),
             "ended_at": start + timedelta(minutes=number + 1), "outcome": outcome, "rows": 3,
             "details": {"message": PATIENT},
             "versions_read": {"silver/apc_spell": 4}, "versions_written": {"gold/activity_flag": 7, "elsewhere": 1}}
            for number, (stage, outcome) in enumerate([("flag", "done"), ("rate", "failed")])
        ],
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def release(lake: Path) -> ReleaseData:
    return read_release_data(LocalLake(LakeLocation(folder=lake)))


@pytest.fixture(scope="module")
def files(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("out")
    assert export.main(["--lake", str(lake), "--out", str(out)]) == 0
    yield out


def test_every_form_is_written(files: Path) -> None:
    assert {path.name for path in files.iterdir()} == {
        "ebi.xlsx", "ebi.ods", "fingertips.csv", "cml_metric.parquet", "cml_metadata.parquet", "cml_source.parquet",
        "datacontract.yaml", "openlineage.ndjson",
    }  # fmt: skip


def by_sheet(files: Path, name: str) -> dict[str, list[list[Any]]]:
    if name.endswith("xlsx"):
        book = load_workbook(files / name, read_only=True)
        return {sheet.title: [list(row) for row in sheet.iter_rows(values_only=True)] for sheet in book}
    frames = pd.read_excel(files / name, sheet_name=None, header=None, engine="odf")
    return {
        title: frame.astype(object).where(frame.notna(), None).to_numpy().tolist() for title, frame in frames.items()
    }


@pytest.mark.parametrize("name", ["ebi.xlsx", "ebi.ods"])
def test_spreadsheets_have_what_is_published_and_nothing_that_is_suppressed(
    files: Path, release: ReleaseData, name: str
) -> None:
    book = by_sheet(files, name)
    assert {"Cover", "Notes", "Rates_england", "Rates_icb", "Months", "Policies"} <= book.keys()
    for sheet in sheets_of(release):
        lines = book[sheet.name]
        head = next(number for number, line in enumerate(lines) if line[: len(sheet.columns)] == list(sheet.columns))
        found = [line[: len(sheet.columns)] for line in lines[head + 1 :] if any(cell is not None for cell in line)]
        assert len(found) == len(sheet.rows)
        assert all(cell is not None for line in found for cell in line), "an empty cell"
        for line, row in zip(found, sheet.rows, strict=True):
            for cell, value in zip(line, row, strict=True):
                text = cell.date() if isinstance(cell, datetime) else cell
                expected = value.isoformat() if isinstance(value, date) and isinstance(text, str) else value
                assert text == (pytest.approx(expected) if isinstance(expected, float) else expected), sheet.name
    # Every suppressed rate, counted from the published table itself.
    suppressed = [row for row in release.rates if row["area_type"] == "icb" and is_suppressed(row)]
    cells = [line for line in book["Rates_icb"] if line[4] == CONFIDENTIAL]
    assert len(cells) == len(suppressed) > 10
    assert all(line[5] == CONFIDENTIAL and line[7] == CONFIDENTIAL for line in cells)


# The figures of a rate in a spreadsheet, and the columns of published/rate that they are. People are public.
_FIGURES = {
    "Flagged records": "activity", "Records in scope": "in_scope", "Rate per 100,000, standardised for age and sex": "standardised_rate",
    "Lower 95% limit": "lower", "Upper 95% limit": "upper", "Share flagged of those in scope": "flagged_share",
    "Lower 95% limit of the share": "share_lower", "Upper 95% limit of the share": "share_upper",
}  # fmt: skip


@pytest.mark.parametrize("name", ["ebi.xlsx", "ebi.ods"])
def test_spreadsheets_go_back_to_the_published_rates(files: Path, name: str) -> None:
    """Every figure of every rate in its default reading, from the published rows themselves; of a suppressed row, none."""
    tables = sample()
    default = tables["policy"].query("is_default_reading")[["policy_id", "reading", "title"]].drop_duplicates()
    published = tables["rate"].merge(default, on=["policy_id", "reading"])
    assert len(published) > 100
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for sheet, lines in by_sheet(files, name).items():
        if sheet.startswith("Rates_"):
            (head,) = [line for line in lines if "Flagged records" in line]
            rows = [
                dict(zip(head, line, strict=True)) for line in lines[lines.index(head) + 1 :] if line[0] is not None
            ]
            found |= {
                tuple(row[key] for key in ("Policy", "Period", "Area code", "Revision of the policy")): row
                for row in rows
            }
    assert len(found) == len(published)
    suppressed = 0
    for row in published.to_dict("records"):
        cells = found[row["title"], row["period"], row["area_code"], row["revision"]]
        hidden = str(row["status"]).startswith("withheld")
        suppressed += hidden
        for heading, column in _FIGURES.items():
            if hidden:
                assert cells[heading] == CONFIDENTIAL
            elif pd.isna(row[column]):
                assert cells[heading] in (CONFIDENTIAL, "[x]")
            else:
                assert cells[heading] == pytest.approx(row[column])
    assert suppressed > 40


def test_sheets_are_in_order_and_in_words(release: ReleaseData) -> None:
    sheets = {sheet.name: sheet for sheet in sheets_of(release)}
    titles = [policy["title"] for policy in release.policies.values()]
    for name, then in (("Months", 1), ("Attrition", 1), ("Readings", 3)):
        keys = [(titles.index(row[0]), str(row[then])) for row in sheets[name].rows]
        assert keys == sorted(keys) and len(set(keys)) > 2, name
    for name in ("Rates_icb", "Quality"):
        cells = {str(cell) for row in sheets[name].rows for cell in row}
        assert not {
            cell for cell in cells if cell.startswith(("withheld_", "not_compared", "no_person", "quarantined:"))
        }
    assert {"Suppressed: a small number.", "not compared"} <= {cell for row in sheets["Rates_icb"].rows for cell in row}
    # Where a period has rates by two revisions, the columns say which is which.
    assert all("Revision of the policy" in sheets[name].columns for name in ("Rates_england", "Months", "Readings"))


def test_a_text_that_looks_like_a_formula_stays_a_text(files: Path) -> None:
    book = load_workbook(files / "ebi.xlsx")
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert all(cell.data_type != "f" for cell in cells)
    assert any(cell.value == "=HYPERLINK(1)" for cell in cells)


def test_fingertips_has_its_header_and_each_published_rate(files: Path, release: ReleaseData) -> None:
    with (files / "fingertips.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert ",".join(COLUMNS) == _HEADER
    assert len(rows) == len(release.rates)
    for row, published in zip(rows, release.rates, strict=True):
        assert (row["Value"] == "") == (published["standardised_rate"] is None)
        assert row["Value"] == "" or float(row["Value"]) == published["standardised_rate"]
        assert (row["Value note"] == SUPPRESSED) == is_suppressed(published)
        assert row["Value note"] != SUPPRESSED or row["Count"] == row["Lower CI 95.0 limit"] == ""
        assert row["Count"] == ("" if published["activity"] is None else f"{published['activity']:.0f}")
    england = [row for row in rows if row["Area Type"] == "England"]
    assert {row["Area Code"] for row in england} == {"E92000001"}
    pooled = [row for row in rows if row["Time period range"] == "3y"]
    assert {row["Time period"] for row in pooled} == {"2020/21 - 22/23"}


@pytest.fixture(scope="module")
def simulated() -> ReleaseData:
    """A release of drawn areas, whose rates below England are indirect."""
    rates, policies = published_figures.release()
    others = {table.name: [] for table in TABLES.values() if table.layer == "published"}
    manifest = {
        "disclosure": "hes_2018_protected",
        "geography": "icb_2026",
        "released_at": datetime(2026, 3, 12, tzinfo=UTC),
    }
    return ReleaseData(manifest, others | {"rate": rates, "policy": policies})


def test_spreadsheets_have_no_rate_or_share_without_its_limits(simulated: ReleaseData) -> None:
    sheets = {sheet.name: sheet for sheet in sheets_of(simulated)}
    given = 0
    for name in ("Rates_england", "Rates_region", "Rates_icb", "Rates_provider"):
        sheet = sheets[name]
        assert ("indirectly standardised" in sheet.about) == (name != "Rates_england")
        places = {column: number for number, column in enumerate(sheet.columns)}
        for value, ends in (
            ("Rate per 100,000, standardised for age and sex", "{} 95% limit"),
            ("Share flagged of those in scope", "{} 95% limit of the share"),
        ):
            for row in sheet.rows:
                cells = [row[places[column]] for column in (ends.format("Lower"), value, ends.format("Upper"))]
                numbers = [cell for cell in cells if not isinstance(cell, str)]
                assert len(numbers) in (0, 3) and numbers == pytest.approx(sorted(numbers), rel=1e-9), (name, cells)
                given += len(numbers) == 3
    assert given > 600


def test_fingertips_has_the_limits_of_the_tables_for_bi_tools(simulated: ReleaseData) -> None:
    """Both levels, for every area that the tables have; and below England a note on the method."""
    made, rates, policies = simulated, simulated.tables["rate"], simulated.tables["policy"]
    rows = dict(
        zip(
            ((row["policy_id"], row["area_code"], row["period"]) for row in made.rates),
            fingertips_rows(made),
            strict=True,
        )
    )
    star = star_rows(rates, policies, release_id="r", geography="icb_2026", rule=made.rule)
    compared_rows = 0
    for row in star[RATE_CURRENT]:
        found = rows[row["policy_key"].split("@")[0], row["area_key"].split("/")[1], row["period_key"]]
        for level in ("95", "998"):
            ends = [found[f"{end} CI {int(level) / (10 if level == '998' else 1)} limit"] for end in ("Lower", "Upper")]
            given = [row[f"{end}_{level}"] for end in ("lower", "upper")]
            assert [float(end) if end else None for end in ends] == given
            compared_rows += given[0] is not None
        if found["Value"]:
            assert found["Value note"] == (INDIRECT if row["area_type"] != "england" else "")
    assert compared_rows > 500


def test_an_area_is_compared_with_england_by_its_limits() -> None:
    def compared(low: float | None, high: float | None, england: float | None = 100.0) -> str:
        row = {"area_type": "icb", "lower": low, "upper": high, "lower_adjusted": None, "upper_adjusted": None}
        return comparison(row, {"standardised_rate": england})

    assert compared(80.0, 99.9) == "lower"
    assert compared(80.0, 100.0) == "similar" == compared(100.0, 120.0)
    assert compared(100.1, 120.0) == "higher"
    assert compared(None, None) == "not_compared" == compared(1.0, 2.0, None)
    assert comparison({"area_type": "england"}, {"standardised_rate": 1.0}) == "not_compared"
    wider = {"area_type": "icb", "lower": 101.0, "upper": 120.0, "lower_adjusted": 99.0, "upper_adjusted": 122.0}
    assert comparison(wider, {"standardised_rate": 100.0}) == "similar"


def test_the_metrics_library_takes_its_tables(files: Path, release: ReleaseData) -> None:
    """By the validator of `cml-schemas`; counts by month and quarter are added up again from the published months."""
    for name, shape in (("metric", "METRIC"), ("metadata", "METADATA"), ("source", "SOURCE")):
        table = pq.read_table(files / f"cml_{name}.parquet")
        structure = getattr(spark_schemas, f"{shape}_SCHEMA")
        assert table.schema.names == [field.name for field in structure]
        for field in structure:
            column = table.column(field.name)
            assert table.num_rows > 0
            assert field.nullable or column.null_count == 0, field.name
    frame = pq.read_table(files / "cml_metric.parquet").to_pandas()
    assert list(pandas_schemas.select_from_schema(frame, pandas_schemas.METRIC_SCHEMA)) == list(frame)
    assert frame["datapoint_id"].is_unique
    assert set(frame["reporting_grain"]) == {"monthly", "quarterly"}
    assert set(frame["location_id"]) == {"E92000001"}
    months = pd.DataFrame(sample()["activity_month"])
    complete = months[~months["provisional"].astype(bool) & (months["policy_id"] == IMAGING)]
    flagged = frame[frame["metric_id"] == f"ebi_{IMAGING}_flagged".lower()]
    monthly = flagged[flagged["reporting_grain"] == "monthly"]
    assert monthly["metric_value"].sum() == complete["activity"].sum()
    assert len(monthly) == 34
    # 36 months from April 2020, the last two provisional: eleven whole quarters.
    quarterly = flagged[flagged["reporting_grain"] == "quarterly"]
    assert len(quarterly) == 11
    assert quarterly["metric_value"].sum() == complete["activity"].iloc[:33].sum()
    metadata = pq.read_table(files / "cml_metadata.parquet").to_pandas()
    assert set(metadata["metric_id"]) == set(frame["metric_id"])
    assert len(metrics(release)) == len(frame)


def test_the_contract_names_every_column_and_check(files: Path, release: ReleaseData) -> None:
    contract = yaml.safe_load((files / "datacontract.yaml").read_text(encoding="utf-8"))
    assert contract == json.loads(json.dumps(data_contract(release)))
    published = {table.name: table for table in TABLES.values() if table.layer == "published"}
    assert {table["name"] for table in contract["schema"]} == published.keys()
    for table in contract["schema"]:
        assert [column["name"] for column in table["properties"]] == published[table["name"]].names()
    rate = next(table for table in contract["schema"] if table["name"] == "rate")
    assert any(check["implementation"]["kwargs"] == {"column": "policy_id"} for check in rate["quality"])
    # The parts of the standard's schema that this uses; `make contract` checks it by the whole of it.
    logical = ["string", "date", "timestamp", "time", "number", "integer", "object", "array", "boolean"]
    columns = {
        "type": "object", "required": ["name", "logicalType"],
        "properties": {"logicalType": {"enum": logical}, "required": {"type": "boolean"}},
    }  # fmt: skip
    tables = {"type": "object", "required": ["name"], "properties": {"properties": {"type": "array", "items": columns}}}
    standard = {
        "required": ["version", "apiVersion", "kind", "id", "status", "schema"],
        "properties": {"kind": {"const": "DataContract"}, "schema": {"type": "array", "items": tables}},
    }
    assert not list(Draft202012Validator(standard).iter_errors(contract))


def test_events_tell_what_each_stage_read_and_wrote(files: Path, lake: Path) -> None:
    events = [json.loads(line) for line in (files / "openlineage.ndjson").read_text(encoding="utf-8").splitlines()]
    assert [(event["job"]["name"], event["eventType"]) for event in events] == [
        ("flag", "START"), ("flag", "COMPLETE"), ("rate", "START"), ("rate", "FAIL"),
    ]  # fmt: skip
    assert events[0]["run"]["runId"] == events[1]["run"]["runId"] != events[2]["run"]["runId"]
    assert [item["name"] for item in events[1]["inputs"]] == ["silver/apc_spell"]
    assert [item["name"] for item in events[1]["outputs"]] == ["gold/activity_flag"]
    assert events[1]["outputs"][0]["facets"]["version"]["datasetVersion"] == "7"
    assert lineage_events(LocalLake(LakeLocation(folder=lake)), "no such run") == []


# What the OpenLineage specification asks of a run event and of a facet.
_URI = {"type": "string", "pattern": "^[a-z][a-z0-9+.-]*:[^ ]+$"}
_FACETS = {
    "type": "object",
    "additionalProperties": {
        "required": ["_producer", "_schemaURL"],
        "properties": {"_producer": _URI, "_schemaURL": _URI},
    },
}
_DATASETS = {
    "type": "array",
    "items": {
        "required": ["namespace", "name"],
        "properties": {"namespace": {"type": "string"}, "name": {"type": "string"}, "facets": _FACETS},
    },
}
_RUN_EVENT = {
    "type": "object",
    "required": ["run", "job", "eventTime", "producer", "schemaURL"],
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"},
        "run": {
            "required": ["runId"],
            "properties": {"runId": {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}},
        },
        "job": {"required": ["namespace", "name"], "properties": {"facets": _FACETS}},
        "inputs": _DATASETS,
        "outputs": _DATASETS,
        "producer": _URI,
        "schemaURL": _URI,
    },
}


class LineageServer:
    """A server for OpenLineage events on this machine. ``answers``: the status of each request in turn (the last one for all
    that follow), or None for a server that does not answer. ``taken``: (path, body) of the requests."""

    def __init__(self) -> None:
        self.answers: list[int | None] = [201]
        self.taken: list[tuple[str, str]] = []
        self.stopped = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.taken.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
                answer = outer.answers[min(len(outer.taken), len(outer.answers)) - 1]
                if answer is None:
                    outer.stopped.wait(30)
                    return
                self.send_response(answer)
                self.send_header("Location", "/sign-in")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LineageServer]:
    monkeypatch.setattr(lineage, "ANSWER_SECONDS", 0.5)
    running = LineageServer()
    yield running
    running.close()


Asked = Callable[..., dict[str, Any]]


@pytest.fixture
def exported(lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Asked:
    def call(address: str, *formats: str) -> dict[str, Any]:
        capsys.readouterr()
        options = [option for name in formats for option in ("--format", name)]
        export.main(
            ["--lake", str(lake), "--json", "--out", str(tmp_path / "o"), "--openlineage-url", address, *options]
        )
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return call


@pytest.mark.parametrize("path", ["", "/", "/api/v1/lineage"])
def test_a_server_gets_the_events_of_the_file(
    files: Path, server: LineageServer, exported: Asked, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    done = exported(server.address + path, "openlineage")
    assert (done["exit"], done["files"]) == (0, {server.address + path: "4 events"})
    assert {path for path, _ in server.taken} == {"/api/v1/lineage"}
    bodies = [json.loads(body) for _, body in server.taken]
    assert bodies == [
        json.loads(line) for line in (files / "openlineage.ndjson").read_text(encoding="utf-8").splitlines()
    ]
    for body in bodies:
        assert not list(Draft202012Validator(_RUN_EVENT).iter_errors(body))


def test_events_carry_no_value_of_a_patient(lake: Path, server: LineageServer, exported: Asked) -> None:
    assert PATIENT in str(LocalLake(LakeLocation(folder=lake)).small_rows(RUN_LOG, ["details"]))
    assert exported(server.address, "openlineage")["exit"] == 0
    assert len(server.taken) == 4
    for _, body in server.taken:
        assert PATIENT not in body
        event = json.loads(body)
        assert {*event} == {"eventType", "eventTime", "run", "job", "inputs", "outputs", "producer", "schemaURL"}
        # Of a table: its name, its columns as the documentation has them, and the version.
        for item in event["inputs"] + event["outputs"]:
            assert {*item["facets"]} == {"schema", "version"}
            fields = [(field["name"], field["description"]) for field in item["facets"]["schema"]["fields"]]
            assert fields == [(name, text) for name, _, text in TABLES[item["name"]].fields()]


@pytest.mark.parametrize(
    ("answers", "reason", "took"),
    [
        ([201, 400], "HTTP status 400", 1),
        ([201, 201, 503], "it answers that it is busy or has failed", 2),
        ([302], "it answers with another page, such as one for signing in", 0),
        ([None], "no connection, or no answer in time", 0),
    ],
)
def test_a_server_that_fails_or_is_slow_leaves_the_files_complete(
    server: LineageServer, exported: Asked, tmp_path: Path, answers: list[int | None], reason: str, took: int
) -> None:
    server.answers = answers
    address = server.address.replace("http://", "http://user:secret@")
    done = exported(address, "openlineage", "fingertips", "odcs")
    assert done["exit"] == 2
    assert done["error"]["message"] == (
        f"OpenLineage events could not be sent to {server.address} ({reason}): the server took {took} of 4; "
        "the release is not affected"
    )
    assert "secret" not in str(done)
    assert (
        {*done["files"]}
        == {path.name for path in (tmp_path / "o").iterdir()}
        == {"fingertips.csv", "datacontract.yaml"}
    )


def test_a_busy_server_gets_the_event_again(server: LineageServer, exported: Asked) -> None:
    server.answers = [503, 201]
    assert exported(server.address, "openlineage")["exit"] == 0
    assert len(server.taken) == 5


def test_what_is_wrong_is_said_plainly(lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def asked(*options: str) -> dict[str, Any]:
        capsys.readouterr()
        export.main(["--lake", str(lake), "--json", *options])
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    unknown = asked("--out", str(tmp_path / "a"), "--release", "r-1")
    assert unknown["exit"] == 2
    assert unknown["error"]["remedy"] == "choose from: r-7"
    (tmp_path / "file").write_text("x")
    assert asked("--out", str(tmp_path / "file" / "b"))["exit"] == 2
    sent = asked("--out", str(tmp_path / "c"), "--format", "openlineage", "--openlineage-url", "http://127.0.0.1:9")
    assert (sent["exit"], sent["error"]["remedy"]) == (2, "check the address, or export them to a file")


def test_a_release_that_is_not_there_is_refused_before_a_session(lake: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yml").write_text("lake: ./nowhere\nsources: {a: {system: hes, tables: {op: x.csv}}}")
    absent = call(publish.main, tmp_path, "--release", "r-7")
    assert (absent["exit"], absent["outcome"]) == (2, "refused")
    assert absent["error"]["message"] == f"there is no lake at {tmp_path / 'nowhere'}"
    assert [path.name for path in tmp_path.iterdir()] == ["run.yml"], "nothing is created"
    unknown = call(publish.main, tmp_path, "--release", "r-6", "--lake", str(lake))
    assert unknown["error"] == {
        "message": f"{lake} has no release 'r-6'",
        "remedy": "choose from: r-7",
    }


def test_a_stage_is_named_by_its_command() -> None:
    assert [StageReport(name).title for name in ("publish", "roll_back")] == ["publish", "publish --release"]


def test_a_missing_package_is_named(
    lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gptables", None)
    assert export.main(["--lake", str(lake), "--out", str(tmp_path / "d"), "--format", "xlsx"]) == 2
    assert "extra `exports`" in capsys.readouterr().err


def test_a_policy_is_named_by_its_title(release: ReleaseData) -> None:
    assert list(release.policies) == [IMAGING, FUSION]
    assert {row["reading"] for row in release.rates if row["policy_id"] == IMAGING} == {"as_intended"}
