"""The tables for BI tools: keys that join without anything lost, no counts, and the same figures as the published rates. The
release is made up; nothing here needs Spark."""

from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from published_figures import FUSION, IMAGING, LOCAL, RULE, release

from ebi_spark.geography.area_lists import areas_on
from ebi_spark.release.published_limits import compared
from ebi_spark.release.star import STATUSES, star_rows
from ebi_spark.report.between_areas import comparisons
from ebi_spark.tables.published import RATE
from ebi_spark.tables.star import DIM_AREA, DIM_PERIOD, DIM_POLICY, DIM_STATUS, RATE_CURRENT, STAR_TABLES
from ebi_spark.tables.table import Table

Row = dict[str, Any]
Star = dict[Table, list[Row]]


@pytest.fixture(scope="module")
def published() -> tuple[list[Row], list[Row]]:
    return release()


@pytest.fixture(scope="module")
def star(published: tuple[list[Row], list[Row]]) -> Star:
    return star_rows(*published, release_id="r-7", geography="icb_2026", rule=RULE)


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
        assert {kind for _, kind, _ in table.fields()} <= {"string", "double", "int", "boolean", "date"}


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
    counts = {name for name, kind, _ in RATE.fields() if kind in ("bigint", "int")} | {"expected"}
    assert counts >= {"activity", "in_scope", "population", "people_flagged"}
    assert not counts & set(RATE_CURRENT.names())


def test_measures_are_those_of_the_published_rates(
    star: Star, published: tuple[list[Row], list[Row]], query: Any
) -> None:
    rates, _ = published
    by_key = {
        (f"{row['policy_id']}@{row['revision']}", f"{row['area_type']}/{row['area_code']}", row["period"]): row
        for row in rates
        if row["reading"] == {IMAGING: "as_intended"}.get(row["policy_id"], "as_published")
    }
    same = {"standardised_rate": "standardised_rate", "crude_rate": "crude_rate", "crude_lower_95": "crude_lower",
            "crude_upper_95": "crude_upper", "flagged_share": "flagged_share", "share_lower_95": "share_lower",
            "share_upper_95": "share_upper", "status_code": "status", "method": "method"}  # fmt: skip
    for row in star[RATE_CURRENT]:
        source = by_key[row["policy_key"], row["area_key"], row["period_key"]]
        assert {ours: row[ours] for ours in same} == {ours: source[theirs] for ours, theirs in same.items()}
        adjusted = "_adjusted" if row["area_type"] == "england" else ""
        assert (row["lower_95"], row["upper_95"]) == (source[f"lower{adjusted}"], source[f"upper{adjusted}"])
        assert row["notes"] == ("; ".join(source["notes"]) or None)
    # Every published figure is there: imaging in single years, fusion below England in windows that do not overlap,
    # without the other windows of England. England has single years of both.
    shown = "SELECT policy_key, area_type, is_pooled, count(*), count(DISTINCT period_key) FROM rate_current GROUP BY ALL ORDER BY ALL"
    assert [row for row in query(shown) if row[1] != "provider"] == [
        (f"{IMAGING}@2023-12", "england", False, 6, 6),
        (f"{IMAGING}@2023-12", "icb", False, 36 * 6, 6),
        (f"{IMAGING}@2023-12", "region", False, 7 * 6, 6),
        (f"{FUSION}@2022-08", "england", False, 6, 6),
        (f"{FUSION}@2022-08", "england", True, 2, 2),
        (f"{FUSION}@2022-08", "icb", True, 36 * 2, 2),
        (f"{FUSION}@2022-08", "region", True, 7 * 2, 2),
        (f"{LOCAL}@2024-03", "icb", False, 6, 6),
    ]


def test_limits_contain_the_rate_and_the_wider_ones_the_narrower(star: Star) -> None:
    areas = [row for row in star[RATE_CURRENT] if row["area_type"] in ("icb", "region") and row["lower_95"] is not None]
    assert len(areas) > 250
    for row in areas:
        ends = [row[name] for name in ("lower_998", "lower_95", "standardised_rate", "upper_95", "upper_998")]
        assert ends == sorted(ends)
        assert row["crude_lower_95"] <= row["crude_rate"] <= row["crude_upper_95"]
    for row in star[RATE_CURRENT]:
        if row["area_type"] in ("england", "provider"):
            assert (row["lower_998"], row["compared_with_england_95"], row["compared_with_england_998"]) == (
                None, "not_compared", "not_compared",
            )  # fmt: skip
        if row["status_code"].startswith("withheld"):
            figures = [
                name for name, kind, _ in RATE_CURRENT.fields() if kind == "double" and not name.startswith("england_")
            ]
            assert all(row[name] is None for name in figures)


def test_an_area_is_compared_with_england_of_the_same_policy_and_period(star: Star) -> None:
    assert compared((1.0, 2.0), 2.5) == "lower"
    assert compared((1.0, 2.5), 2.5) == "similar" == compared((2.5, 3.0), 2.5)
    assert compared((2.6, 3.0), 2.5) == "higher"
    assert compared(None, 2.5) == "not_compared" == compared((1.0, 2.0), None)
    england = {
        (row["policy_key"], row["period_key"]): row for row in star[RATE_CURRENT] if row["area_type"] == "england"
    }
    seen, differing = set(), set()
    for row in star[RATE_CURRENT]:
        whole = england.get((row["policy_key"], row["period_key"]), {})
        assert row["england_rate"] == whole.get("standardised_rate")
        assert row["england_share"] == whole.get("flagged_share")
        if row["area_type"] == "icb":
            narrow, wide = row["compared_with_england_95"], row["compared_with_england_998"]
            seen.add(narrow)
            # What differs by the wider limits differs by the narrower ones too.
            assert wide in (narrow, "similar")
            differing.add((narrow, wide))
    assert seen == {"lower", "similar", "higher", "not_compared"}
    assert {("higher", "similar"), ("higher", "higher")} <= differing


def test_the_report_calls_no_area_higher_or_lower_that_is_similar_here(
    star: Star, published: tuple[list[Row], list[Row]]
) -> None:
    """Without widened limits both say the same. With widened ones, the report calls fewer areas higher or lower."""
    here = {
        (row["policy_key"], row["area_key"], row["period_key"]): row["compared_with_england_998"]
        for row in star[RATE_CURRENT]
    }
    words = {"above": "higher", "below": "lower"}
    called, named = {True: 0, False: 0}, 0
    for key, reading in ((f"{IMAGING}@2023-12", "as_intended"), (f"{FUSION}@2022-08", "as_published")):
        own = [row for row in published[0] if (row["policy_id"], row["reading"]) == (key.split("@")[0], reading)]
        whole = [row for row in own if row["area_type"] == "england"]
        for adjust in (False, True):
            for each in comparisons(own, whole, adjust=adjust, rule=RULE):
                keys = {code: (key, f"{each.kind}/{code}", each.rows[0]["period"]) for code in each.by_own_limits}
                assert {code: words.get(side, "similar") for code, side in each.by_own_limits.items()} == {
                    code: here[place] for code, place in keys.items()
                }
                assert each.sides.items() <= {code: side for code, side in each.by_own_limits.items() if side}.items()
                if each.widened == 1:
                    assert each.sides == {code: side for code, side in each.by_own_limits.items() if side}
                    # What is drawn outside the limits, but called neither higher nor lower, is named as uncertain.
                    uncertain = [str(row["area_code"]) for row in each.uncertain]
                    assert all(here[keys[code]] == "similar" for code in uncertain)
                    named += len(uncertain)
                called[adjust] += len(each.sides)
    assert called[False] > 20 > called[True] > 0 and named > 0


def test_policies_have_their_default_reading_words_and_target(star: Star) -> None:
    found = {row["policy_id"]: row for row in star[DIM_POLICY]}
    assert list(found) == [IMAGING, FUSION, LOCAL]
    assert (found[FUSION]["default_reading"], found[FUSION]["readings"]) == (
        "as_published",
        "as_intended; as_published",
    )
    assert (found[IMAGING]["default_reading"], found[IMAGING]["words"]) == ("as_intended", "The words of the scope.")
    assert [found[name]["target"] for name in (FUSION, IMAGING)] == [0.25, None]
    assert {row["wanted"] for row in star[DIM_POLICY]} == {"lower"}
    assert [(row["is_local"], row["boards"]) for row in found.values()] == [(False, None), (False, None), (True, "QYG")]


def test_periods_sort_by_their_end(query: Any) -> None:
    rows = query("SELECT label, start_date, end_date, years, is_pooled FROM dim_period ORDER BY sort_key")
    assert rows[:4] == [
        ("2018-19", date(2018, 4, 1), date(2019, 3, 31), 1, False),
        ("2019-20", date(2019, 4, 1), date(2020, 3, 31), 1, False),
        ("2020-21", date(2020, 4, 1), date(2021, 3, 31), 1, False),
        ("2018-19 to 2020-21", date(2018, 4, 1), date(2021, 3, 31), 3, True),
    ]


def test_every_status_that_a_rate_can_have_has_words() -> None:
    (meaning,) = [meaning for name, _, meaning in RATE.fields() if name == "status"]
    assert set(STATUSES) == set(meaning.replace(" or ", ", ").split(", "))


def test_areas_have_their_parents_and_ons_codes(published: tuple[list[Row], list[Row]]) -> None:
    row = next(row for row in published[0] if row["area_type"] == "icb")
    places = [("sub_icb", "99A", "Liverpool"), ("provider", "RX1", "A TRUST")]
    rates = [row | {"area_type": kind, "area_code": code, "area_name": name} for kind, code, name in places]
    found = star_rows(rates, published[1], release_id="r", geography="icb_2026", rule=RULE)
    areas = {row["area_key"]: row for row in found[DIM_AREA]}
    # What a location is part of is there even where a release has no rate of it.
    assert list(areas) == ["england/E92000001", "icb/QYG", "provider/RX1", "region/Y62", "sub_icb/99A"]
    assert areas["england/E92000001"]["ons_code"] == "E92000001"
    assert (areas["region/Y62"]["parent_key"], areas["region/Y62"]["parent_ons_code"]) == (
        "england/E92000001",
        "E92000001",
    )
    board = areas["icb/QYG"]
    assert (board["parent_key"], board["ons_code"], board["icb_code"]) == ("region/Y62", "E54000008", "QYG")
    assert (board["valid_from"], board["valid_to"]) == (date(2022, 7, 1), None)
    location = areas["sub_icb/99A"]
    assert (location["area_name"], location["parent_key"], location["parent_ods_code"]) == (
        "Liverpool",
        "icb/QYG",
        "QYG",
    )
    assert (location["icb_name"], location["region_code"]) == (board["area_name"], "Y62")
    assert location["ons_code"] == "E38000101"
    trust = areas["provider/RX1"]
    assert (trust["area_name"], trust["parent_key"], trust["ods_code"], trust["ons_code"]) == (
        "A TRUST",
        None,
        "RX1",
        None,
    )


def test_every_area_of_a_version_but_older_regions_has_a_name_and_an_ons_code() -> None:
    for day, boards in ((date(2021, 5, 1), 42), (date(2024, 4, 1), 42), (date(2026, 5, 1), 36)):
        areas = areas_on(day)
        assert [sum(kind == wanted for kind, _ in areas) for wanted in ("icb", "sub_icb", "region")] == [boards, 106, 7]
        without = {kind for (kind, _), area in areas.items() if area.ons_code is None}
        assert without <= ({"region", "icb"} if day.year == 2021 else {"region"})
        assert all(area.name and (area.parent in areas or kind == "england") for (kind, _), area in areas.items())
