"""The examples of ``docs/bi-tools.md``, read from the page: those that can run here give the same three tables, worked out from the
rows that were published. Power BI and Tableau cannot run here; their examples may only name columns that exist."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from calling import duckdb_on_delta
from deltalake import write_deltalake
from published_figures import FUSION, IMAGING, RULE, release
from pyspark.sql import SparkSession

from ebi_spark.release.star import STATUSES, star_rows
from ebi_spark.report.wording import FOOTNOTES
from ebi_spark.tables.star import STAR_TABLES

PAGE = (Path(__file__).parents[1] / "docs" / "bi-tools.md").read_text(encoding="utf-8")
ARROW = {"string": pa.string(), "double": pa.float64(), "int": pa.int32(), "boolean": pa.bool_(), "date": pa.date32()}
Tables = dict[str, list[tuple[Any, ...]]]


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of a section of the page."""
    (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def queries(script: str) -> list[str]:
    """The statements of a script in SQL."""
    return [statement.strip() for statement in re.sub(r"--.*", "", script).split(";") if statement.strip()]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``lake/published`` has the tables of a made-up release."""
    folder = tmp_path_factory.mktemp("bi")
    star = star_rows(*release(), release_id="r-7", geography="icb_2026", rule=RULE)
    for table, rows in star.items():
        schema = pa.schema([(name, ARROW[kind]) for name, kind, _ in table.fields()])
        path = folder / "lake" / "published" / table.name
        path.mkdir(parents=True)
        write_deltalake(str(path), pa.Table.from_pylist(rows, schema=schema))
    return folder


@pytest.fixture(scope="module")
def expected() -> Tables:
    """The three tables from the published rows themselves, by area names and codes that these rows have."""
    rates, _ = release()
    boards = [row for row in rates if row["area_type"] == "icb"]
    league = [row for row in boards if (row["policy_id"], row["period"]) == (IMAGING, "2022-23")]
    league.sort(key=lambda row: (-(row["standardised_rate"] or 0), row["area_name"]))
    england = [
        row for row in rates if (row["policy_id"], row["area_type"], row["period_years"]) == (IMAGING, "england", 1)
    ]
    windows = [row for row in boards if (row["policy_id"], row["period"]) == (FUSION, "2018-19..2020-21")]
    with (Path(__file__).parents[1] / "conf/reference/icb_ons_codes.csv").open() as file:
        ons = pd.read_csv(file, dtype=str).query("valid_to.isna()").set_index("icb_code")["ons_code"]
    return {
        "league_table": [
            (row["area_name"], row["standardised_rate"], row["lower"], row["upper"], STATUSES[row["status"]][1]) for row in league
        ],
        "trend": [
            (row["period"], row["standardised_rate"], row["lower_adjusted"], row["upper_adjusted"])
            for row in sorted(england, key=lambda row: str(row["period"]))
        ],
        "map_table": sorted((ons[row["area_code"]], row["area_name"], row["standardised_rate"]) for row in windows),
    }  # fmt: skip


def same(found: Tables, expected: Tables) -> None:
    """The three tables without their comparisons with England, whose values are checked here by the limits."""
    league = [tuple(row) for row in found["league_table"]]
    for _, _, low, high, called, _ in league:
        assert (called == "not_compared") == (low is None or high is None)
    without = [row[:4] + row[5:] for row in league]
    assert without == [pytest.approx(row) for row in expected["league_table"]]
    assert len(without) == 36 and without[0][1] > without[5][1]
    assert [tuple(row) for row in found["trend"]] == [pytest.approx(row) for row in expected["trend"]]
    assert len(expected["trend"]) == 6
    assert [tuple(row[:3]) for row in found["map_table"]] == [pytest.approx(row) for row in expected["map_table"]]
    assert len(expected["map_table"]) == 36 and all(row[0].startswith("E54") for row in found["map_table"])


def test_duckdb(lake: Path, expected: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lake)
    (script,) = blocks("DuckDB", "sql")
    install, load, *rest = queries(script)
    assert (install, load) == ("INSTALL delta", "LOAD delta")  # needs the network: here the offline way loads it
    results = []
    with duckdb_on_delta() as connection:
        for statement in rest:
            answer = connection.execute(statement)
            if statement.startswith("SELECT"):
                results.append(answer.fetchall())
    same(dict(zip(("league_table", "trend", "map_table"), results, strict=True)), expected)


def test_duckdb_without_a_network(lake: Path, expected: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lake)
    (script,) = blocks("DuckDB", "sql")
    selects = [statement for statement in queries(script) if statement.startswith("SELECT")]
    views = [statement for statement in queries(script) if statement.startswith("CREATE")]
    for way in blocks("DuckDB", "python"):
        names: dict[str, Any] = {}
        exec(way, names)
        with names["connection"] as connection:
            for view in [] if "register" in way else views:
                connection.execute(view)
            results = [connection.execute(statement).fetchall() for statement in selects]
        same(dict(zip(("league_table", "trend", "map_table"), results, strict=True)), expected)
    (copy,) = blocks("Tableau", "sql")
    with duckdb_on_delta() as connection:
        connection.execute(copy)
    assert len(pd.read_csv(lake / "rate_current.csv")) > 300


@pytest.mark.parametrize("library", ["Polars", "pandas"])
def test_data_frames(library: str, lake: Path, expected: Tables) -> None:
    """In a process of its own: Polars and deltalake together can abort when a process ends."""
    (script,) = blocks(library, "python")
    rows = {"Polars": "{}.rows()", "pandas": "{}.astype(object).values.tolist()"}[library]
    listed = ", ".join(f"'{name}': {rows.format(name)}" for name in expected)
    script += f"\nimport json, os\nprint(json.dumps({{{listed}}}), flush=True)\nos._exit(0)\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=lake, capture_output=True, text=True, check=True)

    def value(cell: Any) -> Any:
        return None if isinstance(cell, float) and math.isnan(cell) else cell

    found = json.loads(done.stdout)
    same({name: [tuple(map(value, row)) for row in found[name]] for name in found}, expected)


def test_spark_sql(lake: Path, expected: Tables, spark: SparkSession) -> None:
    (script,) = blocks("Spark SQL", "sql")
    view, *selects = queries(script.replace("lake/published", str(lake / "lake" / "published")))
    spark.sql(view)
    try:
        results = [[tuple(row) for row in spark.sql(statement).collect()] for statement in selects]
    finally:
        spark.catalog.dropTempView("rates")
    same(dict(zip(("league_table", "trend", "map_table"), results, strict=True)), expected)


def columns_of_the_star() -> dict[str, set[str]]:
    return {table.name: set(table.names()) for table in STAR_TABLES}


def test_power_bi_names_columns_that_exist() -> None:
    known = columns_of_the_star()
    anywhere = set().union(*known.values())
    (text,) = re.findall(r"^## Power BI$(.*?)(?=^## )", PAGE, re.M | re.S)
    named = re.findall(r"(\w+)\[(\w+)\]", text)
    assert {table for table, _ in named} == known.keys()
    assert [f"{table}[{column}]" for table, column in named if column not in known[table]] == []
    scripts = blocks("Power BI", "powerquery")
    assert len(scripts) == 4
    joins = set()
    for script in scripts:
        for opening, closing in ("()", "[]", "{}"):
            assert script.count(opening) == script.count(closing)
        assert script.count('"') % 2 == 0 and script.lstrip().startswith("let")
        steps = re.findall(r"^    (\w+) =", script, re.M)
        assert script.split()[-1] == steps[-1]
        texts = set(re.findall(r'"(\w+)"', script))
        of_rows = set(re.findall(r"\[(\w+)\]", script))
        assert of_rows <= anywhere, of_rows - anywhere
        assert texts - anywhere <= {*known, "icb", "england"}, texts - anywhere
        joins |= set(re.findall(r'"(\w+)", (?:Open\()?"(dim_\w+)"', script))
    assert joins == {("area_key", "dim_area"), ("period_key", "dim_period"), ("status_code", "dim_status")}
    assert all(key in known[table] & known["rate_current"] for key, table in joins)


# What a reader of the page filters on to draw each of the three, and sorts by.
DRAWN = {
    "League table": (IMAGING, {"rate_current[area_type]": "icb", "dim_period[label]": "2022-23"}, "standardised_rate DESC NULLS LAST, 1"),
    "Trend": (IMAGING, {"rate_current[area_type]": "england", "rate_current[is_pooled]": "false"}, "1"),
    "Map": (FUSION, {"rate_current[area_type]": "icb", "dim_period[label]": "2018-19 to 2020-21"}, "1"),
}  # fmt: skip
KEYS = {"area_key": "dim_area", "period_key": "dim_period", "policy_key": "dim_policy", "status_code": "dim_status"}


def test_power_bi_draws_the_three_tables_from_its_measures(expected: Tables) -> None:
    """Each drawing as Power BI calculates it: its filters, a group for each value of its columns, and in each group the measures;
    groups in which every measure is empty are left out. The model has the page's relationships and no other join."""
    (text,) = re.findall(r"^## Power BI$(.*?)(?=^## )", PAGE, re.M | re.S)
    assert all(f"`{key}` in `{table}`" in " ".join(text.split()) for key, table in KEYS.items())
    model = " ".join(f"JOIN {table} ON rate_current.{key} = {table}.{key}" for key, table in KEYS.items())
    (dax,) = blocks("Power BI", "dax")
    form = re.compile(r"(.+) = IF \( COUNTROWS \( rate_current \) = 1, MAX \( rate_current\[(\w+)\] \) \)")
    measures = dict(found.groups() for found in map(form.fullmatch, dax.splitlines()) if found)
    assert len(measures) == len(dax.splitlines())
    assert {*re.findall(r"`\[([^\]]+)\]`", text)} == measures.keys()

    def drawn(name: str, *shown: str) -> list[tuple[Any, ...]]:
        policy, filters, order = DRAWN[name]
        ((asked, described),) = re.findall(rf"^- \*\*{name}\*\* \((.*?)\): (.*?)\. ", text, re.M | re.S)
        assert asked.startswith(f"`{filters['rate_current[area_type]']}`, ")
        assert {"rate_current[area_type]", *re.findall(r"\w+\[\w+\]", asked)} == filters.keys()
        columns = [f"{table}.{column}" for table, column in re.findall(r"`(\w+)\[(\w+)\]`", described)]
        values = [measures[measure] for measure in re.findall(r"`\[([^\]]+)\]`", described)]
        groups = ", ".join(
            [*columns, *(f"CASE count(*) WHEN 1 THEN max(rate_current.{each}) END AS {each}" for each in values)]
        )
        wanted = " AND ".join(f"{field.replace('[', '.').rstrip(']')} = '{value}'" for field, value in filters.items())
        rows = f"SELECT {groups} FROM rate_current {model} WHERE dim_policy.policy_id = '{policy}' AND {wanted} GROUP BY {', '.join(columns)}"
        return connection.execute(
            f"SELECT {', '.join(shown)} FROM ({rows}) WHERE coalesce({', '.join(f'{each}::text' for each in values)}) IS NOT NULL ORDER BY {order}"
        ).fetchall()

    rate = ("standardised_rate", "lower_95", "upper_95")
    with duckdb.connect() as connection:
        for table, rows in star_rows(*release(), release_id="r-7", geography="icb_2026", rule=RULE).items():
            connection.register(table.name, pa.Table.from_pylist(rows))
        assert drawn("League table", "area_name", *rate, "footnote") == expected["league_table"]
        assert drawn("Trend", "label", *rate) == expected["trend"]
        # A board without a rate has no colour, so the map needs no row for it.
        boards = [row for row in expected["map_table"] if row[2] is not None]
        assert drawn("Map", "ons_code", "area_name", "standardised_rate") == boards


def test_tableau_names_columns_that_exist() -> None:
    known = columns_of_the_star()
    anywhere = set().union(*known.values())
    (text,) = re.findall(r"^## Tableau$(.*)", PAGE, re.M | re.S)
    named = set(re.findall(r"\[(\w+)\]", text))
    assert {"area_name", "standardised_rate", "ons_code"} <= named <= anywhere
    (calculation,) = blocks("Tableau", "tableau")
    assert set(re.findall(r'WHEN "(\w+)"', calculation)) == {"lower", "similar", "higher"}


def test_the_page_names_every_table_and_note() -> None:
    assert [table.name for table in STAR_TABLES if f"| `{table.name}` |" not in PAGE] == []
    assert dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", PAGE, re.M)) == FOOTNOTES
