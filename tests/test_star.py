"""The tables for BI tools: keys that join without anything lost, no counts, and the same figures as the published rates. The
release is made up; nothing here needs Spark."""

from datetime import date
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import poisson
from test_exports import _value
from test_report import FUSION, IMAGING, sample

from ebi_spark.config.settings import disclosure_rules
from ebi_spark.release.star import compared, count_limits, possible_counts, star_rows
from ebi_spark.tables.star import DIM_AREA, DIM_PERIOD, DIM_POLICY, DIM_STATUS, RATE_CURRENT, STAR_TABLES
from ebi_spark.tables.table import Table

RULE = disclosure_rules()["hes_2018_protected"]
PUBLISHED_YEARS = {FUSION: 3, IMAGING: 1}
Star = dict[Table, list[dict[str, Any]]]


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = frame.astype(object).to_dict("records")
    return [{str(name): _value(value) for name, value in row.items()} for row in rows]


@pytest.fixture(scope="module")
def tables() -> dict[str, list[dict[str, Any]]]:
    found = {name: plain(frame) for name, frame in sample().items() if name in ("rate", "policy")}
    for row in found["policy"]:
        row |= {"publish_years": PUBLISHED_YEARS[row["policy_id"]], "publish_first_year": "2020-21", "boards": None}
    for row in found["rate"]:
        if row["area_type"] == "england":
            row["area_code"] = "E92000001"
    return found


@pytest.fixture(scope="module")
def star(tables: dict[str, list[dict[str, Any]]]) -> Star:
    return star_rows(tables["rate"], tables["policy"], release_id="r-7", geography="icb_2026", rule=RULE)


@pytest.fixture(scope="module")
def query(star: Star) -> Any:
    connection = duckdb.connect()
    for table, rows in star.items():
        connection.register(table.name, pa.Table.from_pylist(rows))
    return lambda sql: connection.execute(sql).fetchall()


def test_each_row_has_the_columns_of_its_table(star: Star) -> None:
    assert tuple(star) == STAR_TABLES
    for table, rows in star.items():
        assert rows
        for row in rows:
            assert set(row) == set(table.names())
            assert all(row[name] is not None for name in table.required), (table.name, row)
            assert not any(isinstance(value, list | dict) for value in row.values())


@pytest.mark.parametrize(
    ("table", "key"),
    [(DIM_POLICY, "policy_key"), (DIM_AREA, "area_key"), (DIM_PERIOD, "period_key"), (DIM_STATUS, "status_code")],
)
def test_every_rate_joins_to_one_row(query: Any, table: Table, key: str) -> None:
    assert query(f"SELECT count(*) FROM (SELECT {key} FROM {table.name} GROUP BY 1 HAVING count(*) > 1)") == [(0,)]
    lost = query(f"SELECT count(*) FROM rate_current ANTI JOIN {table.name} USING ({key})")
    assert lost == [(0,)]


def test_there_is_one_rate_for_a_policy_area_and_period_and_no_count(query: Any) -> None:
    again = "SELECT 1 FROM rate_current GROUP BY policy_key, area_key, period_key HAVING count(*) > 1"
    assert query(again) == []
    assert not {"activity", "in_scope", "population", "expected"} & set(RATE_CURRENT.names())


def test_measures_are_those_of_the_published_rates(
    star: Star, tables: dict[str, list[dict[str, Any]]], query: Any
) -> None:
    published = {
        (f"{row['policy_id']}@{row['revision']}", f"{row['area_type']}/{row['area_code']}", row["period"]): row
        for row in tables["rate"]
    }
    assert star[RATE_CURRENT]
    for row in star[RATE_CURRENT]:
        source = published[row["policy_key"], row["area_key"], row["period_key"]]
        assert (row["standardised_rate"], row["crude_rate"]) == (source["standardised_rate"], source["crude_rate"])
        assert (row["lower_95"], row["upper_95"], row["status_code"]) == (
            source["lower"],
            source["upper"],
            source["status"],
        )
    # Fusion is published below England in windows of three years; single years are England's only.
    kinds = query("SELECT DISTINCT area_type, is_pooled FROM rate_current WHERE policy_key LIKE '2Y%' ORDER BY ALL")
    assert kinds == [("england", False), ("england", True), ("icb", True)]


def test_a_league_table_a_trend_and_a_map_need_joins_on_keys_only(query: Any) -> None:
    ranked = query(
        "SELECT a.area_name, a.ons_code, r.standardised_rate FROM rate_current r JOIN dim_area a USING (area_key) "
        "JOIN dim_policy p USING (policy_key) JOIN dim_period d USING (period_key) "
        f"WHERE p.policy_id = '{IMAGING}' AND a.area_type = 'icb' AND NOT d.is_pooled ORDER BY 3 DESC NULLS LAST"
    )
    assert len(ranked) == 42
    trend = query(
        "SELECT d.label, r.standardised_rate FROM rate_current r JOIN dim_period d USING (period_key) "
        "JOIN dim_policy p USING (policy_key) JOIN dim_area a USING (area_key) "
        f"WHERE p.policy_id = '{IMAGING}' AND a.area_type = 'england' AND NOT d.is_pooled ORDER BY d.sort_key"
    )
    assert [label for label, _ in trend] == ["2019-20", "2020-21", "2021-22", "2022-23"]
    (ends,) = query("SELECT start_date, end_date, years FROM dim_period WHERE is_pooled")
    assert ends == (date(2020, 4, 1), date(2023, 3, 31), 3)


def test_wider_limits_are_those_of_the_counts_behind_the_published_one(star: Star) -> None:
    assert possible_counts(10, RULE) == (8, 12)
    assert possible_counts(0, RULE) == (0, 0)
    assert possible_counts(15, RULE) == (13, 17)
    # Exact limits cover a count by definition; Byar's are close to them.
    for count in (0, 3, 9, 10, 60):
        for level in (0.95, 0.998):
            lower, upper = count_limits(count, level)
            tail = (1 - level) / 2
            assert poisson.cdf(count, upper) == pytest.approx(tail, rel=0.15)
            if count:
                assert poisson.sf(count - 1, lower) == pytest.approx(tail, rel=0.15)
    for row in star[RATE_CURRENT]:
        if row["lower_998"] is not None:
            assert row["lower_998"] <= row["lower_95"] and row["upper_998"] >= row["upper_95"]
    areas = [row for row in star[RATE_CURRENT] if row["area_type"] == "icb" and row["lower_95"] is not None]
    assert areas and all(row["lower_998"] is not None for row in areas)


def test_an_area_is_compared_with_england_of_the_same_policy_and_period(star: Star) -> None:
    assert compared(1.0, 2.0, 2.5) == "lower"
    assert compared(1.0, 2.5, 2.5) == "similar" == compared(2.5, 3.0, 2.5)
    assert compared(2.6, 3.0, 2.5) == "higher"
    assert compared(None, 3.0, 2.5) == "not_compared" == compared(1.0, 2.0, None)
    england = {
        (row["policy_key"], row["period_key"]): row for row in star[RATE_CURRENT] if row["area_type"] == "england"
    }
    seen = set()
    for row in star[RATE_CURRENT]:
        rate = england[row["policy_key"], row["period_key"]]["standardised_rate"]
        assert row["england_rate"] == rate
        if row["area_type"] == "icb":
            seen.add(row["compared_with_england_95"])
            # What differs by the wider limits differs by the narrower ones too.
            if row["compared_with_england_998"] in ("lower", "higher"):
                assert row["compared_with_england_95"] == row["compared_with_england_998"]
    assert {"lower", "similar", "higher"} <= seen


def test_areas_have_their_parents_and_ons_codes() -> None:
    row = dict.fromkeys(("activity", "standardised_rate", "lower", "upper", "lower_adjusted", "upper_adjusted", "crude_rate",
                         "flagged_share", "share_lower", "share_upper", "method")) | {
        "policy_id": "P", "revision": "1", "reading": "as_published", "financial_year": "2025-26", "period_years": 1,
        "period": "2025-26", "status": "withheld_small",
    }  # fmt: skip
    places = [("england", "E92000001", "England"), ("region", "Y62", "North West"), ("icb", "QYG", "Board"),
              ("sub_icb", "99A", "Liverpool"), ("provider", "RX1", None)]  # fmt: skip
    rates = [row | {"area_type": kind, "area_code": code, "area_name": name} for kind, code, name in places]
    policy = dict.fromkeys(("title", "publisher", "source", "in_force_from", "in_force_to", "boards", "clauses")) | {
        "policy_id": "P", "revision": "1", "reading": "as_published", "is_default_reading": True, "publish_years": 1,
        "publish_first_year": "2018-19",
    }  # fmt: skip
    found = star_rows(rates, [policy], release_id="r", geography="icb_2026", rule=RULE)
    areas = {row["area_key"]: row for row in found[DIM_AREA]}
    assert areas["england/E92000001"]["ons_code"] == "E92000001"
    assert areas["region/Y62"]["parent_key"] == "england/E92000001"
    assert areas["icb/QYG"]["parent_key"] == "region/Y62"
    assert areas["icb/QYG"]["ons_code"] == "E54000008"
    assert (areas["sub_icb/99A"]["parent_key"], areas["sub_icb/99A"]["region_code"]) == ("icb/QYG", "Y62")
    assert areas["provider/RX1"]["area_name"] == "RX1"
    assert areas["provider/RX1"]["parent_key"] is None
