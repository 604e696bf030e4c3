"""The Databricks bundle and the SQL for Unity Catalog: what can be checked without a workspace."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
import yaml
from databricks.bundles.jobs import Job
from databricks.bundles.schemas import Schema
from databricks.bundles.volumes import Volume
from pyspark.sql.types import StringType, StructField, StructType
from real_runs import RECORD_TABLES
from sqlglot import exp

from ebi_spark.config.lake_location import LakeLocation, lake_location
from ebi_spark.config.settings import RunConfig
from ebi_spark.exports.metric_view import metric_view, metric_view_sql
from ebi_spark.exports.unity_catalog import Existing, primary_key, unity_catalog_sql
from ebi_spark.tables.gold import ACTIVITY_FLAG
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.silver import QUARANTINE
from ebi_spark.tables.star import DIM_AREA, DIM_PERIOD, DIM_POLICY, DIM_STATUS, RATE_CURRENT
from ebi_spark.tables.table import Table
from jobs import catalogue, cli
from jobs.arguments import JobParser

ROOT = Path(__file__).parents[1]
BUNDLE = yaml.safe_load((ROOT / "databricks.yml").read_text(encoding="utf-8"))
KINDS = {"jobs": Job, "schemas": Schema, "volumes": Volume}
COMPUTE = ("job_cluster_key", "libraries", "environment_key")
STAGES = ["ingest", "flag", "rate", "monitor", "validate", "publish"]
REFERENCE = re.compile(r"\$\{([^}]+)\}")


def resources(*folders: str) -> dict[str, dict[str, Any]]:
    """The resources in the files that the bundle includes from these folders, by kind."""
    found: dict[str, dict[str, Any]] = {}
    for pattern in (f"resources/{folder}*.yml" for folder in folders):
        for path in sorted(ROOT.glob(pattern)):
            for kind, named in yaml.safe_load(path.read_text(encoding="utf-8"))["resources"].items():
                found.setdefault(kind, {}).update(named)
    return found


CLASSIC, SERVERLESS = resources("", "classic/"), resources("", "serverless/")
JOBS = {"classic": CLASSIC["jobs"]["ebi_spark"], "serverless": SERVERLESS["jobs"]["ebi_spark"]}


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [value] if isinstance(value, str) else []


def test_the_bundle_includes_its_files_and_one_of_the_two_jobs() -> None:
    included = {path for pattern in BUNDLE["include"] for path in ROOT.glob(pattern)}
    every = set((ROOT / "resources").rglob("*.yml"))
    assert {path.name for path in included} == {path.name for path in every}
    assert len(included) == len(every) - 1
    assert "# - resources/serverless/*.yml" in (ROOT / "databricks.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("found", [CLASSIC, SERVERLESS], ids=["classic", "serverless"])
def test_resources_are_those_that_databricks_knows(found: dict[str, dict[str, Any]]) -> None:
    """Every key and every value of a list, as the models of Databricks' own package have them."""
    assert found.keys() == KINDS.keys()
    for kind, named in found.items():
        for value in named.values():
            KINDS[kind].from_dict(value)  # type: ignore[arg-type]
    for target in BUNDLE["targets"].values():
        for kind, named in target.get("resources", {}).items():
            for name, value in named.items():
                KINDS[kind].from_dict({**found[kind][name], **value})  # type: ignore[arg-type]
    misspelt = {**found["jobs"]["ebi_spark"], "max_concurent_runs": 1}
    with pytest.raises((TypeError, ValueError)):
        Job.from_dict(misspelt)  # type: ignore[arg-type]


def test_every_reference_leads_somewhere_and_every_variable_is_used() -> None:
    used = set()
    for found in (CLASSIC, SERVERLESS):
        for reference in REFERENCE.findall(" ".join(texts([BUNDLE, found]))):
            first, *rest = reference.split(".")
            if first == "var":
                used.add(rest[0])
            elif first == "resources":
                kind, name, key = rest
                assert key in found[kind][name], reference
            else:
                assert reference in ("workspace.current_user.userName", "bundle.name", "bundle.target"), reference
    assert used == BUNDLE["variables"].keys()
    for target in BUNDLE["targets"].values():
        assert target.get("variables", {}).keys() <= BUNDLE["variables"].keys()


@pytest.mark.parametrize("name", JOBS)
def test_the_job_is_safe_to_schedule(name: str) -> None:
    job = JOBS[name]
    assert job["max_concurrent_runs"] == 1 and job["queue"]["enabled"]
    assert job["schedule"]["pause_status"] == "PAUSED"
    assert job["email_notifications"]["on_failure"] and job["tags"]["project"] == "ebi-spark"
    if name == "classic":
        (cluster,) = (item["new_cluster"] for item in job["job_clusters"])
        assert cluster["data_security_mode"] == "USER_ISOLATION" and cluster["policy_id"]
    assert BUNDLE["targets"]["prod"]["run_as"] and BUNDLE["targets"]["prod"]["permissions"]


def test_both_jobs_have_the_same_tasks_in_the_order_of_the_stages() -> None:
    bare = {
        name: [{key: value for key, value in task.items() if key not in COMPUTE} for task in job["tasks"]]
        for name, job in JOBS.items()
    }
    assert bare["classic"] == bare["serverless"]
    assert JOBS["classic"]["parameters"] == JOBS["serverless"]["parameters"]
    names = [task["task_key"] for task in bare["classic"]]
    assert names == [*STAGES, "catalogue"]
    after = [[item["task_key"] for item in task.get("depends_on", [])] for task in bare["classic"]]
    assert after == [[], *([name] for name in names[:-1])]


def resolved(text: str, found: dict[str, dict[str, Any]]) -> str:
    """A text with the bundle's references replaced, as a deployment to ``main`` does."""
    values = {f"var.{name}": variable.get("default", name) for name, variable in BUNDLE["variables"].items()}
    values |= {"var.catalog": "main"}
    values |= {f"resources.{kind}.{name}.name": v["name"] for kind, named in found.items() for name, v in named.items()}
    while match := REFERENCE.search(text):
        text = text.replace(match[0], values[match[1]])
    return text


class Parsed(Exception):
    """Raised when the arguments have been parsed, instead of the work."""


@pytest.mark.parametrize("name", JOBS)
def test_the_command_line_takes_what_the_tasks_give(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"classic": CLASSIC, "serverless": SERVERLESS}[name]
    job, parsed = JOBS[name], []
    parse = JobParser.parse_args

    def parse_only(self: JobParser, *arguments: Any) -> Any:
        parsed.append(parse(self, *arguments))
        raise Parsed

    monkeypatch.setattr(JobParser, "parse_args", parse_only)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parameters = {item["name"]: resolved(item["default"], found) for item in job["parameters"]}
    given = set()
    for task in job["tasks"]:
        wheel = task["python_wheel_task"]
        assert wheel["package_name"].replace("_", "-") == scripts["name"]
        assert scripts["scripts"][wheel["entry_point"]] == "jobs.cli:task"
        arguments = []
        for argument in wheel["parameters"]:
            for reference in re.findall(r"\{\{job\.parameters\.(\w+)\}\}", argument):
                argument = argument.replace(f"{{{{job.parameters.{reference}}}}}", parameters[reference])
                given.add(reference)
            assert "{{" not in argument and "${" not in argument
            arguments.append(argument)
        assert arguments[0] == task["task_key"]
        with pytest.raises(Parsed):
            cli.main(arguments)
    assert given == parameters.keys()
    lake = LakeLocation(catalog="main", schemas={layer: f"ebi_{layer}" for layer in ("silver", "gold", "published")})
    for options in parsed:
        assert lake_location(options.lake, Path("/nowhere")) == lake
    config = RunConfig(lake=lake, years=("2021-22",), policies=("2Y_back_pain_fusion",))
    for options in parsed[:-1]:
        assert str(options.config) == "/Volumes/main/ebi_gold/configuration/run.yml"
        assert config.with_options(lake=options.lake, years=options.years, policies=options.policies) == config
    assert parsed[-1].apply


@pytest.mark.parametrize(
    ("text", "schemas"),
    [
        ("main.ebi", ("ebi_silver", "ebi_gold", "ebi_published")),
        ("main.one,two,three", ("one", "two", "three")),
        ("main.one,two", None),
        ("main.one,two,", None),
        ("lake.d/one,two,three", None),
    ],
)
def test_a_lake_in_a_catalogue_is_named_by_prefix_or_by_schemas(
    text: str, schemas: tuple[str, ...] | None, tmp_path: Path
) -> None:
    found = lake_location(text, tmp_path)
    assert (tuple(found.schemas.values()) or None) == schemas
    assert (found.folder is None) == (schemas is not None)
    (tmp_path / text).mkdir(parents=True)
    assert lake_location(text, tmp_path).folder == (tmp_path / text).resolve()


# Unity Catalog

PUBLISHED_RATE = TABLES["published/rate"]
LOCATION = lake_location("main.ebi", Path("/nowhere"))
SQL = unity_catalog_sql(LOCATION, ["analysts", "a`b"])
# What sqlglot does not take apart, in the form of Databricks' SQL reference.
UNPARSED = re.compile(
    r"ALTER (SCHEMA `main`\.`\w+`|TABLE `main`\.`\w+`\.`\w+` ALTER COLUMN `\w+`) SET TAGS \('\w+' = '\w+'\)"
    r"|ALTER TABLE `main`\.`\w+`\.`\w+` ALTER COLUMN (`\w+` COMMENT '([^'\\]|\\.)*'(, )?)+"
)


def test_every_statement_is_sql_of_databricks() -> None:
    views = [statement for statement in SQL if "WITH METRICS" in statement]
    assert len(views) == 1 and views[0].count("$$") == 2
    for statement in set(SQL) - set(views):
        (tree,) = sqlglot.parse(statement, dialect="databricks")
        assert not isinstance(tree, exp.Command) or UNPARSED.fullmatch(statement), statement
    assert not UNPARSED.fullmatch("ALTER TABLE `main`.`a`.`b` ALTER COLUMN `c` COMMENT 'it's'")


def tags(subject: str) -> dict[str, str]:
    found = (re.fullmatch(rf"ALTER {subject} SET TAGS \('ebi_data' = '(\w+)'\)", statement) for statement in SQL)
    return {match[1].replace("`", "").removeprefix("main.ebi_").replace(".", "/"): match[2] for match in found if match}


def test_patients_records_are_tagged_and_nothing_published_is() -> None:
    tables = tags(r"TABLE (`main`\.`\w+`\.`\w+`)")
    assert tables.keys() == TABLES.keys()
    by_value = {value: {name for name, tag in tables.items() if tag == value} for value in set(tables.values())}
    assert by_value.keys() == {"patient_level", "unsuppressed", "published"}
    assert by_value["patient_level"] >= set(RECORD_TABLES) | {"gold/pathway_step", "gold/audit_sample"}
    assert by_value["published"] == {name for name in TABLES if name.startswith("published/")}
    assert tags(r"SCHEMA (`main`\.`\w+`)") == {
        "silver": "patient_level", "gold": "patient_level", "published": "published",
    }  # fmt: skip
    columns = tags(r"TABLE (`main`\.`\w+`\.`\w+` ALTER COLUMN `\w+`)")
    assert set(columns.values()) == {"identifier"} and not any(name.startswith("published/") for name in columns)
    assert {name.split(" ")[-1] for name in columns if name.startswith("silver/apc_spell ")} == {
        "record_id", "person_id", "provider_spell_number",
    }  # fmt: skip


def test_readers_get_the_published_schema_and_nothing_else() -> None:
    granted = [statement for statement in SQL if "GRANT" in statement]
    assert granted == [
        "GRANT USE SCHEMA, SELECT ON SCHEMA `main`.`ebi_published` TO `analysts`",
        "GRANT USE SCHEMA, SELECT ON SCHEMA `main`.`ebi_published` TO `a``b`",
    ]
    assert not any("GRANT" in statement for statement in unity_catalog_sql(LOCATION))


def test_primary_keys_are_those_that_the_checks_prove() -> None:
    assert primary_key(PUBLISHED_RATE) == (
        "release_id", "policy_id", "revision", "reading", "financial_year", "period_years", "area_type", "area_code",
    )  # fmt: skip
    assert primary_key(TABLES["published/activity_month"]) == ()  # a month can be NULL
    for table in TABLES.values():
        assert set(primary_key(table)) <= set(table.required)
        assert table.layer == "published" or not primary_key(table)
    assert primary_key(RATE_CURRENT) == ("policy_key", "area_key", "period_key")
    foreign = [statement for statement in SQL if "FOREIGN KEY" in statement]
    assert len(foreign) == 4 and all(
        f"`rate_current` ADD CONSTRAINT `rate_current_{name}`" in statement
        for name, statement in zip(("policy", "area", "period", "status"), foreign, strict=True)
    )
    first = SQL.index(foreign[0])
    assert not any("DROP PRIMARY KEY" in statement for statement in SQL[first:])  # it would drop the foreign keys too
    about_keys = [statement for statement in SQL if "`release`" in statement and "TAGS" not in statement]
    assert about_keys[-3:] == [
        "ALTER TABLE `main`.`ebi_published`.`release` ALTER COLUMN `release_id` SET NOT NULL",
        "ALTER TABLE `main`.`ebi_published`.`release` DROP PRIMARY KEY IF EXISTS CASCADE",
        "ALTER TABLE `main`.`ebi_published`.`release` ADD CONSTRAINT `release_key` PRIMARY KEY (`release_id`) NOT ENFORCED",
    ]


def there(table: Table, comment: str | None = None, **other: str) -> Existing:
    fields = [
        StructField(name, StringType(), name not in primary_key(table), {"comment": other.get(name, text)})
        for name, _, text in table.fields()
    ]
    return Existing(table.row if comment is None else comment, StructType(fields))


def test_what_a_table_already_has_is_not_written_again() -> None:
    """Each such statement is a commit, and readers would see a new version of the table for nothing."""

    def commits(*existing: tuple[Table, Existing]) -> list[str]:
        statements = unity_catalog_sql(LOCATION, existing={table.full_name: has for table, has in existing})
        return [one for one in statements if "COMMENT ON TABLE" in one or "` COMMENT '" in one or "NOT NULL" in one]

    assert commits((ACTIVITY_FLAG, there(ACTIVITY_FLAG)), (PUBLISHED_RATE, there(PUBLISHED_RATE))) == []
    assert commits((QUARANTINE, there(QUARANTINE, "an older text", role="an older meaning"))) == [
        "COMMENT ON TABLE `main`.`ebi_silver`.`quarantine` IS 'a source row that cannot be used, with every reason why'",
        "ALTER TABLE `main`.`ebi_silver`.`quarantine` ALTER COLUMN `role` COMMENT 'the source table, such as apcs, "
        "apcs_der, opa, apc, op'",
    ]


# The metric view, as DuckDB answers a query on it

POLICIES = ("1A@2022-08", "Fusion"), ("2B@2022-08", "Imaging")
AREAS = (
    ("england/E", "england", "England", None),
    ("icb/QA", "icb", "Ash", "North"),
    ("icb/QB", "icb", "Beech", "North"),
)
RATES = [
    # policy, area, period, pooled, rate, compared by the 99.8% limits
    ("1A@2022-08", "england/E", "2021-22", False, 10.0, "not_compared"),
    ("1A@2022-08", "icb/QA", "2021-22", False, 12.5, "higher"),
    ("1A@2022-08", "icb/QB", "2021-22", False, 9.5, "similar"),
    ("1A@2022-08", "icb/QA", "2022-23", False, 13.5, "higher"),
    ("2B@2022-08", "icb/QA", "2021-22", False, 99.0, "lower"),
    ("2B@2022-08", "icb/QB", "2021-22", False, None, "not_compared"),
]


def star_in_duckdb() -> duckdb.DuckDBPyConnection:
    """The tables of the view with a few rows; columns that no test reads are NULL."""
    connection = duckdb.connect()
    status = [("ok", "A rate is given."), ("withheld_small", "Suppressed: a small number.")]
    periods = [("2021-22", "2021-22"), ("2022-23", "2022-23")]
    rows = {
        DIM_POLICY: [dict(zip(("policy_key", "title"), row, strict=True)) for row in POLICIES],
        DIM_AREA: [dict(zip(("area_key", "area_type", "area_name", "region_name"), row, strict=True)) for row in AREAS],
        DIM_PERIOD: [dict(zip(("period_key", "label"), row, strict=True)) for row in periods],
        DIM_STATUS: [dict(zip(("status_code", "words"), row, strict=True)) for row in status],
        RATE_CURRENT: [
            {
                "policy_key": policy, "area_key": area, "period_key": period, "area_type": area.split("/")[0],
                "status_code": "ok" if rate else "withheld_small", "is_pooled": pooled, "standardised_rate": rate,
                "compared_with_england_998": compared,
            }
            for policy, area, period, pooled, rate, compared in RATES
        ],
    }  # fmt: skip
    for table, given in rows.items():
        columns = ", ".join(f"{name} {'VARCHAR' if kind == 'string' else kind}" for name, kind, _ in table.fields())
        connection.execute(f"CREATE TABLE {table.name} ({columns})")
        for row in given:
            named, marks = ", ".join(row), ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table.name} ({named}) VALUES ({marks})", list(row.values()))
    return connection


def asked_of_the_view(fields: list[str], measures: list[str], where: str = "true") -> set[tuple[Any, ...]]:
    """What a query on the metric view answers: its source and joins, grouped by fields, with measures."""
    view = yaml.safe_load(metric_view_sql(LOCATION).split("$$")[1])
    columns = {item["name"]: item["expr"] for item in (*view["dimensions"], *view["measures"])}
    selected = ", ".join(f"{columns[name]} AS {name}" for name in (*fields, *measures))
    joins = " ".join(f"LEFT JOIN {item['source']} AS {item['name']} ON {item['on']}" for item in view["joins"])
    grouped = f"GROUP BY {', '.join(columns[name] for name in fields)}" if fields else ""
    # A name without a table is a column of the source.
    query = sqlglot.parse_one(
        f"SELECT {selected} FROM {view['source']} AS source {joins} WHERE {where} {grouped}", dialect="databricks"
    )
    for column in query.find_all(exp.Column):
        if not column.table:
            column.set("table", exp.to_identifier("source"))
    for table in query.find_all(exp.Table):
        table.set("catalog", None)
        table.set("db", None)
    with star_in_duckdb() as connection:
        return set(connection.execute(query.sql(dialect="duckdb")).fetchall())


def test_the_metric_view_gives_a_rate_for_one_row_and_for_no_sum_of_rows() -> None:
    fusion = "policy.title = 'Fusion' AND source.area_type = 'icb'"
    assert asked_of_the_view(["area_name", "period_label"], ["standardised_rate"], fusion) == {
        ("Ash", "2021-22", 12.5), ("Beech", "2021-22", 9.5), ("Ash", "2022-23", 13.5),
    }  # fmt: skip
    assert asked_of_the_view(["region_name"], ["standardised_rate", "areas_higher"], fusion) == {("North", None, None)}
    assert asked_of_the_view([], ["standardised_rate"]) == {(None,)}
    assert asked_of_the_view(["policy_title", "status_words"], ["standardised_rate"], "source.area_key = 'icb/QB'") == {
        ("Fusion", "A rate is given.", 9.5), ("Imaging", "Suppressed: a small number.", None),
    }  # fmt: skip


def test_the_metric_view_counts_areas_of_one_kind_in_one_period() -> None:
    counts = ["areas_lower", "areas_similar", "areas_higher"]
    assert asked_of_the_view(["policy_title", "period_label", "area_type"], counts) == {
        ("Fusion", "2021-22", "england", 0, 0, 0), ("Fusion", "2021-22", "icb", 0, 1, 1),
        ("Fusion", "2022-23", "icb", 0, 0, 1), ("Imaging", "2021-22", "icb", 1, 0, 0),
    }  # fmt: skip
    assert asked_of_the_view(["policy_title"], ["areas_higher"]) == {("Fusion", None), ("Imaging", 0)}


def test_the_metric_view_has_every_rate_and_limit_with_its_meaning() -> None:
    view = metric_view(LOCATION)
    measures = {item["name"]: item["comment"] for item in view["measures"]}
    assert {name for name, kind, _ in RATE_CURRENT.fields() if kind == "double"} <= measures.keys()
    assert all(item["comment"] for item in (*view["dimensions"], *view["measures"]))
    assert yaml.safe_load(metric_view_sql(LOCATION).split("$$")[1]) == view
    assert view["source"] == "`main`.`ebi_published`.`rate_current`"


def test_the_command_prints_the_sql(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert catalogue.main(["--lake", "main.ebi", "--readers", "analysts", "--readers", "a`b"]) == 0
    head, script = capsys.readouterr().out.split("\n", 1)
    assert head.startswith("-- ") and script == "".join(f"{statement};\n" for statement in SQL)
    (tmp_path / "silver").mkdir()
    assert catalogue.main(["--lake", str(tmp_path), "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert "is a folder" in answer["error"]["message"] and "main.ebi" in answer["error"]["remedy"]
