"""Hostile calls, configurations, environments and names: each is refused by name before a session starts, or works as it is.
``docs/bad-input.md`` lists the same cases with what each gets."""

import ast
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark
import pytest
from calling import answer_of, bad_input_page, call
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.table import Table as RichTable

import ebi_spark.spark.session as sessions
from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.config.load import load_config
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource
from ebi_spark.config.source_tables import TableSource
from ebi_spark.errors import InputError, shown
from ebi_spark.lake import permissions
from ebi_spark.lake.new_tables import create_table
from ebi_spark.lake.permissions import prepare_folders
from ebi_spark.lake.storage import Lake
from ebi_spark.own_files import LIST, own_pages, put_pages, refuse_pages, refuse_report, write_whole
from ebi_spark.policies.load import load_policies
from ebi_spark.quoting import java_option, spark_path, sql_name, sql_text, table_parts
from ebi_spark.runs import stage_inputs
from ebi_spark.sources.file_inventory import file_headers, find_files
from ebi_spark.sources.layouts import layouts
from ebi_spark.sources.reader import raw_json, read_table
from ebi_spark.spark.scratch import swept
from ebi_spark.spark.tuning import VARIABLES, with_settings
from ebi_spark.tables.gold import POLICY
from jobs import demo, exit_status, generate, ingest, maintain, policy, run, screen, status

ROOT = Path(__file__).parent.parent

SOURCES = "sources: {a: {system: hes, tables: {op: op.csv}}}\n"
PLAIN = "lake: ./lake\n" + SOURCES

# Names that work wherever a name can be: for a folder, a file, a column, a text of SQL.
ODD = (
    "it's", 'a "b" c', "back\\slash", "\\u0041", "$HOME", "$(touch pwned)", "ünï 漢字", "[x]", "{a;b}", "st*r", "wh?t",
    "per%41cent", "a+b", "ha#sh", "co:lon", "`tick`", "~tilde", "a&b|c<d>", "-XX:OnOutOfMemoryError=touch pwned",
    '" -XX:OnOutOfMemoryError="touch pwned', "' OR 1=1 --", "[/bold]", "--help",
)  # fmt: skip
# Names that are refused wherever they are given.
UNUSABLE = ("", " ", "nu\x00l", "line\nbreak", "carriage\rreturn", "es\x1b[31mcape", "bell\x07", "c1\x9b31m",
            "next\x85line", "line\u2028end", "byte\udcff", "${env:HOME}")  # fmt: skip


# The page


def configured(text: str, *options: str, **files: str) -> Callable[[Path], dict[str, Any]]:
    """Runs a configuration; files beside it first."""

    def answer(folder: Path) -> dict[str, Any]:
        for name, content in files.items():
            (folder / name).write_text(content)
        (folder / "run.yml").write_text(text, encoding="utf-8")
        return call(run.main, folder, *options)

    return answer


def prepared(make: Callable[[Path], object], text: str) -> Callable[[Path], dict[str, Any]]:
    """Runs a configuration beside what ``make`` makes."""

    def answer(folder: Path) -> dict[str, Any]:
        make(folder)
        return configured(text)(folder)

    return answer


def exiting(*arguments: str) -> Callable[[Path], dict[str, Any]]:
    """Runs a call that ends as soon as its arguments are looked at."""

    def answer(folder: Path) -> dict[str, Any]:
        (folder / "run.yml").write_text(PLAIN)
        out = io.StringIO()
        before, sys.stdout = sys.stdout, out
        try:
            with pytest.raises(SystemExit) as ended:
                run.main(["--config", str(folder / "run.yml"), "--json", *arguments])
        finally:
            sys.stdout = before
        found: dict[str, Any] = json.loads(out.getvalue())
        assert ended.value.code == found["exit"]
        return found

    return answer


def in_environment(name: str, value: str) -> Callable[[Path], dict[str, Any]]:
    def answer(folder: Path) -> dict[str, Any]:
        (folder / "op.csv").write_text("x\n")
        patch = pytest.MonkeyPatch()
        patch.undo()
        patch.setenv(name, value)
        try:
            return configured(PLAIN)(folder)
        finally:
            patch.undo()

    return answer


def foreign_pages(folder: Path) -> None:
    (folder / "pages" / "expectations-silver").mkdir(parents=True)
    (folder / "pages" / "expectations-silver" / "thesis.txt").write_text("ten years of work")


MINE = """
id: "mine\\n"
title: A test
dataset: apc
source: {publisher: us, page: none}
default_reading: as_published
revisions:
  - revision: 2020-01
    in_force: {from: 2020-01-01}
    clauses:
      - {id: procedure, scope: true, require: {field: dominant_procedure, starts_with: [W371]}}
"""


def own_policy(folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "mine.yml").write_text(MINE)


CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "with a lake that has no name": configured('lake: ""\n' + SOURCES),
    "with a lake of blanks": configured('lake: "  "\n' + SOURCES),
    "with a NUL in the lake's name": configured('lake: "a\\0b"\n' + SOURCES),
    "with a line break in the lake's name": configured('lake: "a\\nb"\n' + SOURCES),
    "with a terminal's escape in a path": configured(PLAIN + 'report: "\\e[31mred.html"\n'),
    "with a comma in the lake's name": configured("lake: ./a,b\n" + SOURCES),
    "with an emoji in the lake's name": configured("lake: ./😀\n" + SOURCES),
    "with a variable of Spark's in the lake's name": configured("lake: ./${env:HOME}\n" + SOURCES),
    "with a lake at `s3://`": configured("lake: s3://bucket/lake\n" + SOURCES),
    "with a lake at a URL that has a password in it": configured("lake: s3a://user:secret@bucket/lake\n" + SOURCES),
    "with a lake at `abfss://`, in a local session": configured(
        "lake: abfss://lake@account.dfs.core.windows.net/ebi\n" + SOURCES
    ),
    "with `report` at a URL": configured(PLAIN + "report: https://example.org/report.html\n"),
    "with a lake in the home of an unknown user": configured("lake: ~nobody-of-this-name/lake\n" + SOURCES),
    "with a lake below links that lead to each other": prepared(
        lambda folder: (folder / "circle").symlink_to(folder / "circle"), "lake: ./circle/lake\n" + SOURCES
    ),
    "with a backtick in a catalogue's name": configured(
        'lake: {catalog: "a`b", schemas: {silver: s, gold: g, published: p}}\n' + SOURCES
    ),
    "with a catalogue that has no name": configured(
        'lake: {catalog: "", schemas: {silver: s, gold: g, published: p}}\n' + SOURCES
    ),
    "with two layers in one schema": configured(
        "lake: {catalog: main, schemas: {silver: s, gold: s, published: p}}\n" + SOURCES
    ),
    "with a lake in a catalogue, in a local session": configured(
        "lake: {catalog: main, schemas: {silver: s, gold: g, published: p}}\n" + SOURCES
    ),
    "with a table whose name cannot be a name": configured(
        'lake: ./lake\nsources: {a: {system: hes, tables: {op: {table: "x; DROP TABLE y"}}}}\n'
    ),
    "with a value that contains itself": configured(PLAIN + "policies: &a [*a]\n"),
    "with a key that is empty": configured("lake: ./lake\nsources: {'': {system: hes, tables: {op: op.csv}}}\n"),
    "with a value that is empty": configured(PLAIN + 'docs: ""\n'),
    "with a folder of time zones for a time zone": configured(PLAIN + "timezone: Europe\n"),
    "with a time zone that Java does not know": configured(PLAIN + "timezone: localtime\n"),
    "with a share that is not a number": configured(PLAIN + "max_quarantine_share: .nan\n"),
    "with a fraction for a whole number": configured(PLAIN + "keep_releases: 2.0\n"),
    "with a number beyond all bounds": configured(PLAIN + "max_vintage_days: 999999999\n"),
    "with a delimiter of two characters": configured(
        'lake: ./lake\nsources: {a: {system: hes, tables: {op: {path: op.csv, delimiter: "||"}}}}\n'
    ),
    "with a quotation mark for a delimiter": configured(
        "lake: ./lake\nsources: {a: {system: hes, tables: {op: {path: op.csv, delimiter: '\"'}}}}\n"
    ),
    "with a policy that is not there": configured(PLAIN + "policies: [2Y_back_pain_fusoin]\n"),
    "with a policy's id that ends in a line break": prepared(own_policy, PLAIN + "policy_dirs: [mine]\n"),
    "with `docs` that names a file": configured(PLAIN + "docs: op.csv\n", **{"op.csv": "x"}),
    "with `docs` below a file": configured(PLAIN + "docs: op.csv/pages\n", **{"op.csv": "x"}),
    "with `docs` where someone else's folder is": prepared(foreign_pages, PLAIN + "docs: pages\n"),
    "with `report` that names a folder": prepared(lambda folder: (folder / "r").mkdir(), PLAIN + "report: r\n"),
    "with `report` that names another file": configured(PLAIN + "report: run.yml\n"),
    "with a lookup that is not there": configured(PLAIN + "geography: {practices: practices.csv}\n"),
    "with a lookup that is a named pipe": prepared(
        lambda folder: os.mkfifo(folder / "practices.csv"), PLAIN + "geography: {practices: practices.csv}\n"
    ),
    "with a population that is a device": configured(PLAIN + "population: [{path: /dev/zero}]\n"),
    "with `--lake` and no value": exiting("--lake", ""),
    "with an argument that has an escape": exiting("--years", "2021-22\x1b[2J"),
    "with an argument that is no text": exiting("--lake", "a\udcff"),
    "with `--policies` that name no policy": configured(PLAIN, "--policies", ","),
    "that generates files below a file": lambda folder: (
        (folder / "file").write_text("x"), answer_of(generate.main, "--out", str(folder / "file" / "made")),
    )[-1],
    "that generates files with no spell": lambda folder: answer_of(
        generate.main, "--out", str(folder / "made"), "--spells", "0"
    ),
    "that generates files with a seed of thirty digits": lambda folder: answer_of(
        generate.main, "--out", str(folder / "made"), "--seed", "9" * 30
    ),
    "that keeps versions for longer than a century": lambda folder: answer_of(
        maintain.main, "--lake", str(folder), "--keep-hours", "9" * 12
    ),
    "with an `EBI_SPARK_MASTER` on another machine": in_environment("EBI_SPARK_MASTER", "spark://elsewhere:7077"),
    "with an option after `EBI_SPARK_DRIVER_MEMORY`": in_environment(
        "EBI_SPARK_DRIVER_MEMORY", "4g -XX:OnOutOfMemoryError=touch"
    ),
    "with a colon in `EBI_SPARK_JARS`": in_environment("EBI_SPARK_JARS", "/a:/b"),
    "with a line break in `EBI_SPARK_JARS`": in_environment("EBI_SPARK_JARS", "/a\n/b"),
}  # fmt: skip


def test_the_page_lists_these_calls_and_no_others() -> None:
    assert list(bad_input_page("Calls and configurations")) == list(CASES)


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_call(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "EBI_SPARK_" not in case:  # what a variable may be, the session itself looks at
        monkeypatch.setattr(sessions, "spark_session", lambda *_, **__: pytest.fail("a session was started"))
    before = sorted(tmp_path.iterdir())
    answer = CASES[case](tmp_path)
    assert (answer["exit"], answer["outcome"]) == (2, "refused"), answer
    message, remedy = answer["error"]["message"], answer["error"]["remedy"]
    assert message.isprintable() and remedy and remedy.isprintable()
    assert not any(f"same {word} again" in remedy for word in ("call", "command"))
    for words in re.findall(r"`([^`]+)`", bad_input_page("Calls and configurations")[case]):
        assert words.replace("\\|", "|") in f"{message}; {remedy}"
    assert not [path for path in tmp_path.rglob("_delta_log") if path not in before]
    if case == "with `docs` where someone else's folder is":
        assert (tmp_path / "pages" / "expectations-silver" / "thesis.txt").read_text() == "ten years of work"


# Every setting, with every name


def settings_of(schema: dict[str, Any], whole: dict[str, Any], at: str = "") -> dict[str, Any]:
    """The places of a schema where a text of any kind can be."""
    if "$ref" in schema:
        return settings_of(whole["$defs"][schema["$ref"].rsplit("/", 1)[1]], whole, at)
    found: dict[str, Any] = {}
    kinds = schema.get("type", [])
    if "string" in ([kinds] if isinstance(kinds, str) else kinds):
        found[at] = schema
    for name, item in schema.get("properties", {}).items():
        found |= settings_of(item, whole, f"{at}.{name}".lstrip("."))
    if isinstance(schema.get("additionalProperties"), dict):
        found |= settings_of(schema["additionalProperties"], whole, f"{at}.NAME".lstrip("."))
    for part in ("items", "then"):
        if part in schema:
            found |= settings_of(schema[part], whole, at + ("[]" if part == "items" else ""))
    for item in schema.get("anyOf", ()):
        found |= settings_of(item, whole, at)
    return found


SCHEMA = json.loads(resource("conf", "run.schema.json").read_text(encoding="utf-8"))
SETTINGS = sorted(settings_of(SCHEMA, SCHEMA))


def document_with(place: str, value: str) -> dict[str, Any]:
    """A configuration that has a value at a place; lists have it alone."""
    whole: dict[str, Any] = {"lake": "./lake", "sources": {"a": {"system": "hes", "tables": {"op": "op.csv"}}}}
    parts = [part.replace("NAME", "a") for part in place.split(".")]
    if place.startswith("sources.NAME.tables"):
        system = "hes" if parts[3].split("_")[0] in ("apc", "op") else "sus_plus"
        tables = {"hes": {"op": "op.csv"}, "sus_plus": {"apcs": "a.csv", "apcs_der": "d.csv", "opa": "o.csv"}}[system]
        whole["sources"] = {"a": {"system": system, "tables": dict(tables)}}
        if "withdrawn" in parts[3]:
            whole["mode"] = "upsert"
            whole["sources"]["a"]["tables"].setdefault(parts[3].removesuffix("_withdrawn"), "x.csv")
        if len(parts) > 4 and parts[4].rstrip("[]") not in ("path", "table"):
            whole["sources"]["a"]["tables"][parts[3].rstrip("[]")] = {"path": "x.csv"}
    if place.startswith("lake."):
        whole["lake"] = {"catalog": "c", "schemas": {"silver": "s", "gold": "g", "published": "p"}}
    if place.startswith("population[]."):
        whole["population"] = [{"path": "x.csv"}]
    if place.startswith("fixed_revisions"):
        whole["basis"] = "fixed"
    here: Any = whole
    for number, part in enumerate(parts):
        name, listed = part.removesuffix("[]"), part.endswith("[]")
        if number == len(parts) - 1:
            here[name] = [value] if listed else value
        elif listed:
            here = here.setdefault(name, [{}])[0]
        else:
            if not isinstance(here.get(name, {}), dict):
                here[name] = {}
            here = here.setdefault(name, {})
    return whole


@pytest.mark.parametrize("place", SETTINGS)
def test_every_setting_takes_a_name_as_it_is_or_refuses_it(place: str, tmp_path: Path) -> None:
    for name in ODD:
        (tmp_path / "run.yml").write_text(json.dumps(document_with(place, name)), encoding="utf-8")
        try:
            config = load_config(tmp_path / "run.yml")
        except InputError as error:
            assert error.message.isprintable()
            continue
        assert name in every_text(config), name
    for name in UNUSABLE:
        (tmp_path / "run.yml").write_text(json.dumps(document_with(place, name)), encoding="utf-8")
        if place.endswith("delimiter") and name == " ":
            continue
        with pytest.raises(InputError) as refusal:
            load_config(tmp_path / "run.yml")
        assert refusal.value.message.isprintable()


def every_text(value: Any) -> str:
    """All texts of a configuration, each as it is."""
    if isinstance(value, dict):
        return "\n".join(map(every_text, (*value.keys(), *value.values())))
    if isinstance(value, list | tuple):
        return "\n".join(map(every_text, value))
    return every_text(vars(value)) if hasattr(value, "__dataclass_fields__") else str(value)


# Where names go


def test_java_is_given_names_as_they_are(tmp_path: Path) -> None:
    """Spark's own launcher takes the line apart: it finds the folder's name whole, and no option besides ours."""
    found = sessions.java_options(tmp_path, 0)
    ours = {option.partition("=")[0] for option in launched(found) if option.startswith("-")}
    for name in ODD:
        options = launched(sessions.java_options(tmp_path / name, 0))
        assert f"-Djava.io.tmpdir={tmp_path / name}" in options
        assert {option.partition("=")[0] for option in options if option.startswith("-")} == ours


def launched(line: str) -> list[str]:
    """A line of options as Spark's launcher takes it apart (``CommandBuilderUtils.parseOptionString``)."""
    found: list[str] = []
    current, within, escaped, begun = "", "", False, False
    for character in line:
        if escaped:
            current, escaped = current + character, False
        elif character == "\\" and within != "'":
            begun = escaped = True
        elif character in "\"'" and within in ("", character):
            within, begun = ("" if within else character), True
        elif character.isspace() and not within:
            found += [current] if begun else []
            current, begun = "", False
        else:
            current, begun = current + character, True
    assert not within and not escaped
    return found + ([current] if begun else [])


def test_sparks_launcher_agrees(tmp_path: Path) -> None:
    """The real one, once, with all names."""
    line = " ".join(java_option(f"-Dname{number}={name}") for number, name in enumerate(ODD))
    home = Path(pyspark.__file__).parent
    java = shutil.which("java", path=f"{os.environ.get('JAVA_HOME', '/nowhere')}/bin:{os.environ['PATH']}")
    assert java
    answer = subprocess.run(
        [java, "-cp", f"{home}/jars/*", "org.apache.spark.launcher.Main", "org.apache.spark.deploy.SparkSubmit",
         "--conf", f"spark.driver.extraJavaOptions={line}", "pyspark-shell"],
        capture_output=True, check=True, env={**os.environ, "SPARK_HOME": str(home), "SPARK_SCALA_VERSION": "2.13", "LC_ALL": "C.UTF-8"}, cwd=tmp_path,
    )  # fmt: skip
    options = answer.stdout.decode().split("\x00")
    for number, name in enumerate(ODD):
        assert f"-Dname{number}={name}" in options
    assert launched(line) == [f"-Dname{number}={name}" for number, name in enumerate(ODD)]


def test_sql_is_given_names_as_they_are(spark: SparkSession) -> None:
    texts = [name for name in (*ODD, *UNUSABLE) if "\udcff" not in name and "${" not in name]
    columns = ", ".join(f"{sql_text(text)} AS {sql_name(f'{number} {text}')}" for number, text in enumerate(texts))
    row = spark.sql(f"SELECT {columns}").first()
    assert row is not None
    assert row.asDict() == {f"{number} {text}": text for number, text in enumerate(texts)}


def test_names_of_tables() -> None:
    assert table_parts("main.records.apcs") == ["main", "records", "apcs"]
    assert table_parts("`a.b`.`c``d`.é-f") == ["a.b", "c`d", "é-f"]
    for name in ("", "a..b", "a b", ".a", "a.", "a`b", "`a", "x; DROP TABLE y"):
        with pytest.raises(InputError, match="is not the name of a table"):
            table_parts(name)


def test_lakes_of_odd_names(spark: SparkSession, tmp_path: Path) -> None:
    """All names together, in two: a table is made, written and read in the very folder."""
    for number, name in enumerate((" ".join(ODD[:12]), " ".join(ODD[12:]))):
        folder = tmp_path / str(number) / name.replace("/", "∕")
        prepare_folders(folder)
        lake = Lake(spark, LakeLocation(folder=folder), "test-run")
        create_table(lake, POLICY)
        values = {column: F.lit(name if column == "policy_id" else None) for column, _, _ in POLICY.fields()}
        row = spark.range(1).select(*[values[column].cast(kind).alias(column) for column, kind, _ in POLICY.fields()])
        for _ in range(2):  # the second takes the place of the first
            lake.replace(POLICY, row, {"policy_id": [*ODD, name]}, stage="flag")
        assert [row["policy_id"] for row in lake.read(POLICY).collect()] == [name]
        assert sorted(path.name for path in (folder / "gold" / "policy" / "_delta_log").glob("*.json"))
        assert [path.name for path in (tmp_path / str(number)).iterdir()] == [folder.name]


def test_source_files_of_odd_names(spark: SparkSession, tmp_path: Path) -> None:
    """Each is read once, and no other in its place: to Spark, brackets and stars are patterns."""
    place = tmp_path / "src 1"
    place.mkdir()
    header = "APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis\n"
    wanted = {}
    for number, name in enumerate([*ODD, "x1"]):
        path = place / f"{name.replace('/', '∕')}.csv"
        if ":" in name:  # Spark cannot read a file of such a name
            with pytest.raises(InputError, match="it has a colon"):
                spark_path(str(path))
            continue
        path.write_text(f"{header}{number},V382,M545\n")
        wanted[str(number)] = str(path)
    config = RunConfig(lake=LakeLocation(folder=tmp_path))
    found = read_table(spark, TableSource("apcs_der", (str(place),)), "sources.a.apcs_der", config)
    assert {row[0]: row[1] for row in found.rows.select("record_id", "source_file").collect()} == wanted
    with pytest.raises(InputError, match="it has a colon"):
        spark_path(str(tmp_path / "[x]" / "co:lon.csv"))
    one = str(place / "[x].csv")
    assert read_table(spark, TableSource("apcs_der", (one,)), "a", config).files == [one]


def test_patterns_beside_a_configuration_in_an_odd_folder(tmp_path: Path) -> None:
    """The folder's own brackets are no pattern; a lookup there is looked at for changes too."""
    place = tmp_path / "[x] {y} *"
    (place / "data").mkdir(parents=True)
    for name in ("data/op1.csv", "data/op2.csv", "practices.csv", "pop1.csv"):
        (place / name).write_text("x")
    (place / "run.yml").write_text(
        "lake: ./lake\nsources: {a: {system: hes, tables: {op: 'data/*.csv', apc: practices.csv}}}\n"
        "geography: {practices: practices.csv}\npopulation: [{path: 'pop*.csv'}]\n"
    )
    config = load_config(place / "run.yml")
    tables = config.sources[0].tables
    assert find_files(tables["op"], "a") == [str(place / "data" / name) for name in ("op1.csv", "op2.csv")]
    assert find_files(tables["apc"], "a") == [str(place / "practices.csv")]
    for name, value, file in (
        ("practices", config.practices, "practices.csv"), ("population", config.population, "pop1.csv"),
    ):  # fmt: skip
        assert f"file:{place / file}" in stage_inputs._setting(name, value)


def test_a_folder_that_is_more_than_a_lake_keeps_its_rights(tmp_path: Path) -> None:
    for name, others in (("lake", []), ("home", ["thesis.txt"])):
        folder = tmp_path / name
        (folder / "published" / "rate").mkdir(parents=True)
        for other in (*others, "report.html"):
            (folder / other).touch()
        folder.chmod(0o700)
        permissions.open_to_others(folder / "published" / "rate", folder)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "lake").stat().st_mode & 0o777 != 0o700


def test_columns_of_odd_names(spark: SparkSession, tmp_path: Path) -> None:
    header = ["APCS_Ident", "Spell_Dominant_Procedure", *(name.replace(",", ".").replace('"', "'") for name in ODD)]
    (tmp_path / "x.csv").write_text(",".join(header) + "\n1,V382" + ",z" * len(ODD) + "\n", encoding="utf-8")
    source = TableSource("apcs_der", (str(tmp_path / "x.csv"),), columns={"primary_diagnosis": "`tick`"})
    table = read_table(spark, source, "a", RunConfig(lake=LakeLocation(folder=tmp_path)))
    (row,) = table.rows.select("record_id", "primary_diagnosis", "raw_names").collect()
    assert (row[0], row[1]) == ("1", "z")

    name = "${env:HOME}"
    pq.write_table(
        pa.table({"APCS_Ident": ["1"], "Spell_Dominant_Procedure": ["V382"], name: ["M545"]}), tmp_path / "y.parquet"
    )
    source = TableSource("apcs_der", (str(tmp_path / "y.parquet"),), columns={"primary_diagnosis": name})
    table = read_table(spark, source, "a", RunConfig(lake=LakeLocation(folder=tmp_path)))
    (row,) = table.rows.select("primary_diagnosis", "raw_names").collect()
    assert row[0] == "M545" and name in row[1]
    refused = pytest.raises(InputError, match=re.escape(f"the column {name} has a name that Spark reads as a variable"))
    with with_settings(spark, {VARIABLES: "true"}), refused:
        read_table(spark, source, "a", RunConfig(lake=LakeLocation(folder=tmp_path)))


def test_a_source_row_with_our_own_marks(spark: SparkSession, tmp_path: Path) -> None:
    cells = [["1", "a", ""], ["2", "\x1e", "\x1f"], ["3", "a\x1f\x1e\x1fb", "c"]]
    lines = ["APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis", *map(",".join, cells)]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = read_table(
        spark, TableSource("apcs_der", (str(tmp_path / "x.csv"),)), "a", RunConfig(lake=LakeLocation(folder=tmp_path))
    )
    found = [json.loads(row[0]) for row in table.rows.orderBy("record_id").select(raw_json()).collect()]
    assert found[0] == {"APCS_IDENT": "1", "SPELL_DOMINANT_PROCEDURE": "a", "SPELL_PRIMARY_DIAGNOSIS": None}
    assert found[1] == {"APCS_IDENT": "2", "SPELL_DOMINANT_PROCEDURE": None, "SPELL_PRIMARY_DIAGNOSIS": "\x1f"}
    assert "a\x1f\x1e\x1fb" in found[2]["line"] and "3" in found[2]["line"]


# What is printed

RAW = "a\x1b[31mb [bold red]c[/] [/nothing] :x: \x9bd \u202ee\r\x07"


def test_nothing_that_a_terminal_acts_on_is_printed() -> None:
    out = io.StringIO()
    console = screen.SafeConsole(file=out, width=200, force_terminal=False)
    table = RichTable(RAW, title=RAW, show_header=True)
    table.add_row(RAW)
    console.print(table)
    console.print(RAW)
    console.print(screen.headed(RAW, RAW))
    console.print(screen.table_of_lines(RAW, [RAW]))
    printed = out.getvalue()
    assert printed.replace("\n", "").isprintable()
    assert printed.count("[bold red]c[/] [/nothing] :x:") == 8
    assert printed.count("\\x1b[31mb") == 8


def test_nothing_that_a_terminal_acts_on_is_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    exit_status._finished({"exit": 0, "columns": [RAW, "\udcff"]}, as_json=True)
    printed = capsys.readouterr().out
    assert printed.rstrip("\n").isprintable()
    assert json.loads(printed)["columns"] == [RAW, "\udcff"]


def test_messages_are_one_printable_line() -> None:
    error = InputError(f"the column {RAW}\nis missing", remedy=f"map {RAW}")
    assert error.message.isprintable() and error.remedy.isprintable() and str(error) == error.message
    assert shown("plain é 漢 ⁵³ 😀") == "plain é 漢 ⁵³ 😀"
    assert len(InputError("x" * 10**6, remedy="y").message) < 5000


def test_jobs_print_through_one_console() -> None:
    """``Console`` of rich is made in ``screen`` alone, and nothing marks a text up."""
    for path in sorted((ROOT / "jobs").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        made = [
            node for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Console", "rich.print", "escape")
        ]  # fmt: skip
        assert not made, path
        assert "[bold" not in text and "[/" not in text.replace("[/…", ""), path


# Signals


def test_being_asked_to_stop_prints_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def work(*_: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:  # as Py4J does when it waits for an answer
            logging.exception("KeyboardInterrupt while sending command.")
            raise

    try:
        assert exit_status.guarded(work, as_json=False, debug=False) == 130
    finally:
        logging.disable(logging.NOTSET)
    printed = capfd.readouterr().err
    assert "interrupted" in printed and "Traceback" not in printed


# What is replaced


def test_only_own_pages_are_replaced(tmp_path: Path) -> None:
    target = tmp_path / "docs" / "expectations-silver"

    def made(*names: str) -> Path:
        new = tmp_path / "new"
        shutil.rmtree(new, ignore_errors=True)
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(" ".join(names))
        return new

    put_pages(made("index.html", "validations/a/1.html"), target)
    (target / "notes.txt").write_text("mine")
    (target / "validations" / "a" / "mine.html").write_text("mine")
    (target / "empty").mkdir()
    put_pages(made("index.html", "validations/b/2.html"), target)
    left = sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
    assert left == [LIST, "index.html", "notes.txt", "validations/a/mine.html", "validations/b/2.html"]
    assert (target / "empty").is_dir() and (target / "notes.txt").read_text() == "mine"
    (target / "validations" / "c").mkdir()
    (target / "validations" / "c" / "3.html").write_text("mine")
    with pytest.raises(InputError, match=r"3\.html exists and ebi-spark did not write it"):
        put_pages(made("index.html", "validations/c/3.html"), target)
    assert (target / "validations" / "c" / "3.html").read_text() == "mine"
    # A list that names what lies elsewhere is not followed.
    (tmp_path / "docs" / "thesis").write_text("mine")
    (target / LIST).write_text(json.dumps(["../thesis", str(tmp_path / "docs" / "thesis"), "index.html"]))
    put_pages(made("index.html"), target)
    assert (tmp_path / "docs" / "thesis").read_text() == "mine"


def test_pages_of_versions_without_a_list_are_known(tmp_path: Path) -> None:
    target = tmp_path / "expectations-silver"
    (target / "validations").mkdir(parents=True)
    (target / "index.html").write_text("<!DOCTYPE html><head><title>Checks of silver</title>")
    (target / "validations" / "1.html").write_text("page")
    (target / "thesis.html").write_text("mine")
    refuse_pages(tmp_path, ["silver"])
    assert own_pages(target) == {"index.html", "validations/1.html"}


def test_only_an_own_report_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    refuse_report(path)
    head = (ROOT / "ebi_spark" / "report" / "page.html.j2").read_text(encoding="utf-8").split("<!DOCTYPE html>")[1]
    for own in ("", "<!DOCTYPE html>" + head, "<title>Evidence-Based Interventions: 2021-22 (release x)</title>"):
        path.write_text(own)
        refuse_report(path)
    path.write_text("<title>My thesis</title>")
    with pytest.raises(InputError, match="is not a report of ebi-spark"):
        refuse_report(path)
    beside = tmp_path / ".report.html.part"
    beside.write_text("mine")
    write_whole(path, "new")
    assert path.read_text() == "new" and beside.read_text() == "mine"


def test_the_demo_removes_only_what_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "source").mkdir(parents=True)
    (tmp_path / "demo" / "source" / "thesis.txt").write_text("mine")
    assert demo.main([]) == 2
    assert demo.main([]) == 2
    assert (tmp_path / "demo" / "source" / "thesis.txt").read_text() == "mine"


def test_the_scratch_folder_is_rid_of_dead_sessions_alone(tmp_path: Path) -> None:
    for name in ("spark-notes", "spark-0-abc", f"spark-{os.getpid()}-abc", "other"):
        (tmp_path / name).mkdir()
    swept(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["other", f"spark-{os.getpid()}-abc", "spark-notes"]
    )


# Files that have no end, beside those of the sources


@pytest.mark.parametrize("place", ["page", "codes", "headers"])
def test_no_command_waits_for_a_pipe(place: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    if place == "page":
        answer = answer_of(policy.main, "import", str(pipe), "--out", str(tmp_path / "out"))
    elif place == "codes":
        answer = answer_of(policy.main, "lint", "--codes", str(pipe))
    else:
        (tmp_path / "x.csv").write_text("1,V382,M545\n")
        source = TableSource("apcs_der", (str(tmp_path / "x.csv"),), headers_file=str(pipe))
        with pytest.raises(InputError, match=r"pipe is a named pipe"):
            read_table(None, source, "a", RunConfig(lake=LakeLocation(folder=tmp_path)))  # type: ignore[arg-type]
        return
    assert answer["exit"] == 2 and "named pipe" in answer["error"]["message"]


def test_a_file_of_rows_is_not_refused_for_header_in_its_name(tmp_path: Path) -> None:
    header, row = b"APCS_Ident,Spell_Dominant_Procedure,Spell_Primary_Diagnosis\n", b"1,V382,M545\n"
    (tmp_path / "large_with_header.csv").write_bytes(header + row * 100_000)
    (tmp_path / "names_header_latin.csv").write_bytes(header + b"2,V382,\xe9\n")
    source = TableSource("apcs_der", (str(tmp_path),), encoding="latin-1")
    config = RunConfig(lake=LakeLocation(folder=tmp_path))
    found = file_headers(str(tmp_path), source, layouts()["apcs_der"], "a", config)
    assert sorted(Path(name).name for name in found) == ["large_with_header.csv", "names_header_latin.csv"]


@pytest.mark.usefixtures("no_session")
def test_a_lake_in_a_catalogue_is_not_looked_at_in_a_local_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = answer_of(status.main, "--lake", "demo.lake")
    assert answer["exit"] == 2 and "'demo'" in answer["error"]["message"] and "folder" in answer["error"]["remedy"]
    (tmp_path / "run.yml").write_text(PLAIN)
    answer = call(ingest.main, tmp_path, "--lake", "demo.lake")
    assert answer["exit"] == 2 and "nothing was written" in answer["error"]["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yml"]


def test_a_socket_is_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("x.csv")
        with pytest.raises(InputError, match=r"x\.csv is a socket"):
            read_table(None, TableSource("apcs_der", ("x.csv",)), "a", RunConfig(lake=LakeLocation(folder=tmp_path)))  # type: ignore[arg-type]


def test_ids_end_where_the_text_does(tmp_path: Path) -> None:
    """To Python, ``$`` is also the place before a line break at the end: so every pattern of every schema."""
    own_policy(tmp_path)
    with pytest.raises(InputError, match=r"does not have the right form"):
        load_policies([tmp_path / "mine"])
    for schema in sorted((ROOT / "conf").glob("*.schema.json")):
        for pattern in re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', schema.read_text(encoding="utf-8")):
            assert pattern.startswith("^") and pattern.endswith("$"), (schema.name, pattern)
