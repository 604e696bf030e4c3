"""Attacks on disclosure control: published tables must leave every suppressed cell all of its possible values."""

import csv
from typing import Any

import numpy as np
import pandas as pd
import published_figures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from scipy.stats import binomtest

from ebi_spark.config.shipped_files import disclosure_rules, resource
from ebi_spark.release.disclosure_rules import controlled_count, possible_counts
from ebi_spark.release.interval_bounds import NO_BOUND, Pair, Tree, solve
from ebi_spark.release.published_tables import in_published_periods, rates_to_suppress, suppressed_rates
from ebi_spark.release.suppressed_tables import PERIOD, SuppressedCounts, suppressed_counts, suppressed_variation
from ebi_spark.release.suppression import Thresholds
from ebi_spark.small_frames import small_frame
from ebi_spark.tables.gold import ACTIVITY_RATE
from tests.disclosure_attack import Strata, narrowed, narrowed_over

HES = disclosure_rules()["hes_2018_protected"]
KEY = ("P", "2022-08", "as_published", "2021-22", 1)
# Two regions, one of three ICBs and one of two, with three, one, two, two and one locations.
SHAPE = {"R1": {"I1": ["A", "B", "C"], "I2": ["D"], "I3": ["E", "F"]}, "R2": {"I4": ["G", "H"], "I5": ["J"]}}
PARENTS = {("icb", icb): ("region", region) for region, icbs in SHAPE.items() for icb in icbs}
PARENTS |= {("sub_icb", code): ("icb", icb) for icbs in SHAPE.values() for icb, codes in icbs.items() for code in codes}
LOCATIONS = [code for icbs in SHAPE.values() for codes in icbs.values() for code in codes]


def table(flagged: dict[str, int], more: dict[str, int] | None = None, providers: dict[str, tuple[int, int]] | None = None,
          unknown: int = 0) -> pd.DataFrame:  # fmt: skip
    """True figures: ``flagged`` records by location (others 0), ``more`` unflagged records in scope, ``unknown`` without an area."""
    counts: dict[tuple[str, str], list[int]] = {}
    for code in LOCATIONS:
        pair = flagged.get(code, 0), flagged.get(code, 0) + (more or {}).get(code, 0)
        icb = PARENTS[("sub_icb", code)]
        for area in (("sub_icb", code), icb, PARENTS[icb]):
            counts[area] = [a + b for a, b in zip(counts.get(area, [0, 0]), pair, strict=True)]
    total = [sum(counts[("region", region)][n] for region in SHAPE) + unknown for n in (0, 1)]
    rows = [("england", "E92000001", *total, 9e6)]
    rows += [(*area, *pair, 1e6) for area, pair in sorted(counts.items())]
    rows += [("provider", code, *pair, None) for code, pair in (providers or {}).items()]
    frame = pd.DataFrame(rows, columns=["area_type", "area_code", "activity", "in_scope", "population"])
    frame["expected"] = frame["population"] / 9e6 * total[0]
    frame["standardised_rate"] = total[0] / 90.0
    return frame.assign(**dict(zip(PERIOD, KEY, strict=True)))


def published(truth: pd.DataFrame, rule: dict[str, Any] = HES, before: pd.DataFrame | None = None) -> pd.DataFrame:
    counts = suppressed_counts(truth, PARENTS, rule, before).counts
    england = truth[truth["area_type"] == "england"].assign(status="ok")
    return pd.concat([england, counts], ignore_index=True)


def as_before(*releases: pd.DataFrame) -> pd.DataFrame:
    """Earlier releases, the oldest first, as the next release gets them."""
    return pd.concat(
        [
            release.assign(rule=[Thresholds.from_rule(HES)] * len(release), released=number)
            for number, release in enumerate(releases)
        ],
        ignore_index=True,
    )


def as_hes_2018(truth: pd.DataFrame) -> pd.DataFrame:
    """The rule as NHS Digital wrote it: small counts are suppressed, others are rounded, and nothing else is done."""
    frame = truth.assign(status="ok")
    below = frame["area_type"] != "england"
    frame.loc[below & frame["activity"].between(1, 7), "status"] = "withheld_small"
    for name in ("activity", "in_scope"):
        rounded = (frame[name] / 5 + 0.5).apply(np.floor) * 5
        frame[name] = frame[name].where(~below, rounded.where(~frame[name].between(1, 7)))
    return frame


CASES = {
    "a region with one ICB that is not zero": table({"A": 3}, unknown=1),
    "all but one zero, and that one is England": table({"J": 5}),
    "England is the sum of its areas and one": table(dict.fromkeys(LOCATIONS, 9) | {"B": 2}, unknown=1),
    "two small ones under a small one": table({"A": 2, "B": 3, "E": 40, "G": 60, "H": 33}),
    "a small one beside one of nearly all": table({"G": 98, "H": 1, "J": 50, "A": 70, "D": 81, "E": 45, "F": 31}),
    "small ones that are all at their greatest": table(
        {"A": 7, "B": 7, "C": 7, "E": 7, "F": 7, "G": 7, "H": 7, "J": 7}
    ),
    "nearly all in scope is flagged": table({"A": 7, "B": 11, "C": 12, "D": 15, "G": 22, "H": 30}, {"A": 1}),
    "nothing at all": table({}),
    "providers, one record each": table({"A": 2, "G": 1}, providers={"X": (1, 1), "Y": (1, 1), "Z": (1, 1)}),
    "providers, one of them small": table({"A": 30, "G": 25}, {"A": 9}, {"X": (3, 5), "Y": (40, 41), "Z": (12, 18)}),
}


@pytest.mark.parametrize("case", CASES)
def test_no_suppressed_cell_can_be_narrowed(case: str) -> None:
    release = published(CASES[case])
    assert narrowed(release, PARENTS, truth=CASES[case]) == []
    truth = CASES[case].set_index(["area_type", "area_code"])
    unknown = {
        name: int(truth.loc[("england", "E92000001"), name] - truth.loc["region", name].sum())
        for name in ("activity", "in_scope")
    }
    assert narrowed(release, PARENTS, unknown=unknown, truth=CASES[case]) == []


def test_the_same_attack_breaks_the_rule_without_secondary_suppression() -> None:
    broken = {case for case, truth in CASES.items() if narrowed(as_hes_2018(truth), PARENTS)}
    assert broken == set(CASES) - {"nothing at all", "providers, one of them small"}


@pytest.mark.parametrize("seed", range(12))
def test_random_tables_resist_the_attack(seed: int) -> None:
    draw = np.random.default_rng(seed)
    level = (0.3, 1.5, 4, 9, 20, 60)[seed % 6]
    flagged = {code: int(draw.poisson(level) * draw.integers(0, 2 + seed % 6)) for code in LOCATIONS}
    more = {code: int(draw.poisson(0.3 * (seed % 6))) for code in LOCATIONS}
    parts = draw.multinomial(sum(flagged.values()), [0.5, 0.3, 0.15, 0.05])
    providers = {name: (int(n), int(n) + 1) for name, n in zip("WXYZ", parts, strict=True)}
    truth = table(flagged, more | {"A": more["A"] + 4}, providers, unknown=int(draw.integers(0, 3)))
    assert narrowed(published(truth), PARENTS, truth=truth) == []


def test_a_second_release_reveals_nothing() -> None:
    first = {"A": 12, "B": 9, "C": 3, "D": 20, "E": 8, "F": 7, "G": 31, "J": 12}
    then = as_before(published(table(first)))
    for added in ({"A": 13}, {"H": 1}, {"F": 8}, {"C": 4, "H": 2}, {"A": 14, "B": 10, "D": 44, "G": 80}, {}, {"A": 11}):
        now = published(table(first | added), before=then)
        assert narrowed(now, PARENTS, then) == [], added
    careless = [
        added for added in ({"A": 13}, {"H": 1}, {"F": 8}) if narrowed(published(table(first | added)), PARENTS, then)
    ]
    assert careless, "without the release before in view, a revision gives a cell away"


def sequence(truths: list[pd.DataFrame], *, careless: bool = False) -> list[pd.DataFrame]:
    """Publish each table, taking the releases before it into account (unless ``careless``)."""
    releases: list[pd.DataFrame] = []
    for truth in truths:
        releases.append(published(truth, before=None if careless or not releases else as_before(*releases)))
    return releases


def grown(table_: dict[str, int], draw: np.random.Generator, most: int) -> dict[str, int]:
    """Counts by code after a few records were added to some of them. Sometimes one record is removed."""
    after = dict(table_)
    for code in draw.choice(sorted(after), size=int(draw.integers(1, 4))):
        after[code] = max(0, after[code] + int(draw.integers(-1, most)))
    return after


@pytest.mark.parametrize("seed", [1, 3, 8, 9])
def test_four_releases_in_a_row_reveal_nothing(seed: int) -> None:
    """Records are added, moved and removed, providers too. All releases are attacked together after each new one."""
    draw = np.random.default_rng(seed)
    level = (0.6, 3, 8, 25, 60)[seed % 5]
    flagged = {code: int(draw.poisson(level) * draw.integers(0, 3)) for code in LOCATIONS}
    more = {code: int(draw.poisson(1.5)) for code in LOCATIONS}
    providers = {code: int(draw.poisson(level) * draw.integers(0, 3)) for code in "UVWXYZ"}
    truths = []
    for _ in range(4):
        total = sum(flagged.values())
        inside = {code: (min(n, total // 6), min(n, total // 6) + 1) for code, n in providers.items() if n}
        truths.append(table(flagged, more, inside, unknown=int(draw.integers(0, 4))))
        most = int(draw.choice([2, 2, 3, 12]))
        flagged, more, providers = grown(flagged, draw, most), grown(more, draw, 2), grown(providers, draw, most)
    releases = sequence(truths)
    for length in range(2, 5):
        assert narrowed_over(releases[:length], truths[:length], PARENTS) == [], length


BASE = {"A": 40, "B": 31, "D": 52, "E": 26, "G": 33, "H": 61, "J": 24}
OTHERS = {"V": (60, 70), "W": (45, 52), "Y": (90, 99), "Z": (52, 60)}


def coming(code: str, *counts: int) -> list[pd.DataFrame]:
    """Tables in which a provider has these counts one after another. England's figures rise by the same amounts."""
    tables = []
    for number, count in enumerate(counts):
        flagged = BASE | {"A": BASE["A"] + count}
        own = {code: (count, count)} if count else {}
        tables.append(table(flagged, {"D": 49}, OTHERS | own, unknown=number % 2))
    return tables


@pytest.mark.parametrize("counts", [(0, 1, 1, 2), (0, 7, 8, 9), (12, 13, 1, 0)])
def test_a_provider_that_comes_or_goes_does_not_reveal_its_count(counts: tuple[int, ...]) -> None:
    truths = coming("NEW", *counts)
    releases = sequence(truths)
    for length in (2, 4):
        assert narrowed_over(releases[:length], truths[:length], PARENTS) == [], length
    for truth, release in zip(truths, releases, strict=True):
        listed = set(release.loc[release["area_type"] == "provider", "area_code"])
        assert set(OTHERS) <= listed
        few = truth.loc[(truth["area_type"] == "provider") & (truth["in_scope"] <= 7), "area_code"]
        assert not set(few) & listed or max(counts) > 7, "a row is no news of a small count"


def test_all_releases_together_reveal_more_than_each_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for the final integer program: all counts together can reveal what no pair of counts reveals."""
    draw = np.random.default_rng(23)
    flagged = {code: int(draw.poisson(12) * draw.integers(0, 3)) for code in LOCATIONS}
    more = {code: int(draw.poisson(1.0)) for code in LOCATIONS}
    truths = [table(flagged, more)]
    for code in draw.choice(LOCATIONS, 2):
        flagged[code] += 1
    truths.append(table(flagged, more))
    assert narrowed_over(sequence(truths), truths, PARENTS) == []
    monkeypatch.setattr("ebi_spark.release.suppressed_tables.keeps_possible_values", lambda *_: True)
    assert narrowed_over(sequence(truths), truths, PARENTS)


def test_a_table_that_could_not_be_proved_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the solver gives up, nothing is known: that must not count as releases that contradict each other."""
    monkeypatch.setattr("ebi_spark.release.release_sequence._SOLUTIONS", 0)
    truths = [table(BASE | {"C": count}) for count in (20, 21)]
    shown = sequence(truths)[-1]
    below = shown[shown["area_type"] != "england"]
    assert below["activity"].isna().all() and below["in_scope"].isna().all()


def test_the_same_attack_breaks_releases_that_ignore_earlier_ones() -> None:
    truths = [table(BASE | {"C": 3, "F": count}) for count in (7, 8)]
    assert narrowed_over(sequence(truths), truths, PARENTS) == []
    assert narrowed_over(sequence(truths, careless=True), truths, PARENTS)


def test_a_row_that_appears_with_a_record_would_reveal_it() -> None:
    """The reason why providers keep their rows: if a row appeared with a record, it would show whose record England's new one is."""
    before, after = (published(truth) for truth in coming("NEW", 0, 1)[:2])
    row = after[after["area_type"] == "provider"].iloc[:1]
    row = row.assign(area_code="NEW", activity=np.nan, in_scope=np.nan, status="withheld_small")
    found = narrowed_over([before, pd.concat([after, row])], coming("NEW", 0, 1), PARENTS)
    assert [cell for cell in found if "NEW" in cell]


def test_listed_providers_have_a_row_in_every_period_and_stay() -> None:
    """A provider is listed once its count in scope is not small. It has 0 where it has no records, and stays while a release is kept."""
    first = table(BASE, {"D": 49}, OTHERS | {"NEW": (3, 7)})
    second = of_period(table(BASE, {"D": 49}, OTHERS | {"NEW": (2, 8)}), "2022-23", 1)
    third = of_period(table(BASE, {"D": 49}, {"V": (60, 70)}), "2023-24", 1)

    def rows(release: pd.DataFrame, year: str) -> dict[str, float]:
        own = release[(release["area_type"] == "provider") & (release["financial_year"] == year)]
        return dict(zip(own["area_code"], own["activity"], strict=True))

    assert set(rows(published(first), "2021-22")) == set(OTHERS)
    both = published(pd.concat([first, second, third], ignore_index=True))
    for year in ("2021-22", "2022-23", "2023-24"):
        assert set(rows(both, year)) == {*OTHERS, "NEW"}
    assert rows(both, "2023-24")["W"] == 0 and np.isnan(rows(both, "2021-22")["NEW"])
    alone = published(first, before=as_before(both))
    assert set(rows(alone, "2021-22")) == {*OTHERS, "NEW"}


def test_records_in_no_area_are_not_revealed_as_the_remainder() -> None:
    """England's figure minus its areas' can be the records of one area, whose code is not among the areas shown."""
    truth = table({"J": 12}, unknown=3)
    release = published(truth)
    assert narrowed_over([release], [truth], PARENTS) == []
    shown = as_hes_2018(truth)
    assert [cell for cell in narrowed_over([shown], [truth], PARENTS) if "unknown" in cell]


def test_a_reading_stays_suppressed_while_a_kept_release_shows_another() -> None:
    truth = table({"A": 30, "D": 12, "G": 31})
    first = published(truth).assign(reading="as_intended")
    second = published(truth, before=as_before(first))
    third = published(truth, before=as_before(first, second))
    for release in (second, third):
        assert release.loc[release["area_type"] != "england", ["activity", "in_scope"]].isna().all(axis=None)


def test_unchanged_figures_are_published_unchanged() -> None:
    truth = table({"A": 3, "B": 9, "D": 12, "G": 31, "H": 2}, {"D": 3})
    first = published(truth)
    pd.testing.assert_frame_equal(published(truth, before=as_before(first)), first)


def test_another_reading_is_not_published_next_to_the_earlier_one() -> None:
    truth = table({"A": 30, "D": 12, "G": 31})
    then = as_before(published(truth)).assign(reading="as_intended")
    now = published(truth, before=then)
    assert now.loc[now["area_type"] != "england", ["activity", "in_scope"]].isna().all(axis=None)


def of_period(truth: pd.DataFrame, year: str, length: int) -> pd.DataFrame:
    return truth.assign(financial_year=year, period_years=length)


# Three years of a rare policy, and the window of all three years.
RARE = [
    {"A": 8, "B": 2, "D": 9, "G": 12, "H": 1},
    {"A": 8, "B": 9, "D": 4, "G": 8, "J": 3},
    {"A": 1, "B": 8, "D": 2, "G": 9, "H": 2},
]
SINGLE = [of_period(table(year), f"20{19 + n}-{20 + n}", 1) for n, year in enumerate(RARE)]
WINDOW = of_period(
    table({code: sum(year.get(code, 0) for year in RARE) for code in LOCATIONS}),
    SINGLE[-1]["financial_year"].iloc[0],
    3,
)


def test_a_window_is_safe_next_to_englands_years() -> None:
    """A rare policy: England is published by year and pooled, areas by window only."""
    release = published(WINDOW)
    years = [year.assign(status="withheld_secondary", activity=year["activity"].where(year["area_type"] == "england"),
                         in_scope=year["in_scope"].where(year["area_type"] == "england")) for year in SINGLE]  # fmt: skip
    assert release.loc[release["area_type"] != "england", "activity"].notna().sum() >= 5, "something is published"
    assert narrowed(release, PARENTS, truth=WINDOW) == []
    zero = release.loc[release["activity"] == 0, ["area_type", "area_code"]].itertuples(index=False, name=None)
    none = {str(tuple(code)) for code in zero}
    # A zero for the window says that each year was zero, and zeros are published.
    found = [cell for cell in narrowed(release, PARENTS, years=years) if not any(code in cell for code in none)]
    assert found == []


def test_single_years_next_to_their_window_would_reveal_cells() -> None:
    """The reason why areas have either years or windows: each is safe alone, but their difference is not."""
    years = [published(year) for year in SINGLE]
    assert all(narrowed(year, PARENTS) == [] for year in years)
    assert narrowed(published(WINDOW), PARENTS, years=years)


@pytest.mark.parametrize("first", ["years", "window"])
def test_a_policy_that_moves_between_years_and_windows_reveals_nothing(first: str) -> None:
    years = [published(year) for year in SINGLE]
    if first == "years":
        then = as_before(pd.concat(years, ignore_index=True))
        now = published(WINDOW, before=then)
        found = narrowed(now, PARENTS, years=years)
        assert [cell for cell in found if cell.startswith("year")] == []
        shown = [now]
    else:
        then = as_before(published(WINDOW))
        shown = [published(year, before=then) for year in SINGLE]
        found = narrowed(published(WINDOW), PARENTS, years=shown)
        assert [cell for cell in found if cell.startswith("now")] == []
    for table_ in shown:
        assert table_.loc[table_["area_type"] != "england", ["activity", "in_scope"]].isna().all(axis=None)
    # Periods that have no year in common with earlier ones are published as usual.
    apart = of_period(WINDOW, "2024-25", 3)
    pd.testing.assert_frame_equal(published(apart, before=then), published(apart))


def test_below_england_a_policy_has_periods_that_never_overlap_or_shift(spark: SparkSession) -> None:
    policies = [("P", 1, "2018-19"), ("Q", 3, "2018-19"), ("R", 2, "2019-20")]
    chosen = [
        {"policy_id": name, "reading": reading, "is_default_reading": reading == "as_intended", "publish_years": years,
         "publish_first_year": first} for name, years, first in policies for reading in ("as_intended", "as_published")
    ]  # fmt: skip
    starts = range(2014, 2024)
    label = "{}-{:02d}".format
    rows = [
        {"policy_id": name, "reading": reading, "period_years": length, "financial_year": label(last, (last + 1) % 100),
         "period": f"{label(last - length + 1, (last - length + 2) % 100)}..{label(last, (last + 1) % 100)}"}
        for name, _, _ in policies for reading in ("as_intended", "as_published") for length in (1, 2, 3, 5)
        for last in starts if last - length + 1 in starts
    ]  # fmt: skip
    kinds = "reading string, period_years int, financial_year string, period string, policy_id string"
    kept = in_published_periods(
        small_frame(spark, rows, kinds),
        small_frame(spark, chosen, "policy_id string, reading string, is_default_reading boolean, publish_years int, "
                                   "publish_first_year string"),
    ).collect()  # fmt: skip
    assert {row["reading"] for row in kept} == {"as_intended"}
    found = {name: sorted(row["period"] for row in kept if row["policy_id"] == name) for name, _, _ in policies}
    assert [period[:4] for period in found["P"]] == [str(year) for year in starts]
    assert found["Q"] == ["2015-16..2017-18", "2018-19..2020-21", "2021-22..2023-24"]
    assert found["R"] == [f"{label(y, y % 100 + 1)}..{label(y + 1, y % 100 + 2)}" for y in (2015, 2017, 2019, 2021)]


@pytest.mark.parametrize(("name", "small", "step"), [("five_or_fewer", range(1, 6), 1), ("under_five", range(1, 5), 5)])
def test_other_publishers_thresholds(name: str, small: range, step: int) -> None:
    truth = table({"A": 5, "B": 4, "C": 6, "D": 20, "G": 31, "H": 2}, {"D": 3})
    release = published(truth, disclosure_rules()[name])
    assert narrowed(release, PARENTS, step=step, small=small) == []
    # Records in no area can be from one area. Without rounding, two such records are England's figure minus its areas'.
    alone = table({"A": 5, "B": 4, "C": 6, "D": 20, "G": 31, "H": 2}, {"D": 3}, unknown=2)
    assert narrowed(published(alone, disclosure_rules()[name]), PARENTS, step=step, small=small) == []
    cells = release.set_index("area_code")["activity"]
    assert cells["D"] == 20 and np.isnan(cells["H"])
    assert cells["R2"] == {1: 33, 5: 35}[step]


def test_few_cells_but_the_small_ones_are_suppressed() -> None:
    truth = table({"A": 120, "B": 90, "C": 3, "D": 25, "E": 88, "F": 41, "G": 62, "H": 5, "J": 73}, {"A": 30, "H": 40})
    done = suppressed_counts(truth, PARENTS, HES)
    assert done.suppressed_share == 2 / 16
    cells = done.counts.set_index("area_code")
    assert cells.loc["H", "status"] == "withheld_small" and cells.loc["A", "activity"] == 120
    assert cells.loc["R1", "activity"] == 365 and cells.loc["H", "in_scope"] == 45
    assert suppressed_counts(table({}), PARENTS, HES).suppressed_share == 0.0


def test_england_alone_needs_no_suppression() -> None:
    done = suppressed_counts(CASES["nothing at all"].iloc[:1], PARENTS, HES)
    assert done.counts.empty and done.suppressed_share == 0.0
    assert suppressed_variation(done.counts, HES, 100).empty


def test_without_england_the_areas_are_still_suppressed() -> None:
    truth = table({"A": 30, "C": 2, "G": 31})
    extract = truth[truth["area_type"] != "england"]
    counts = suppressed_counts(extract, PARENTS, HES).counts.set_index("area_code")
    assert np.isnan(counts.loc["C", "activity"]) and counts.loc["G", "activity"] == 30


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 14), min_size=9, max_size=9), st.lists(st.integers(0, 9), min_size=9, max_size=9))
def test_variation_is_the_same_for_all_values_of_suppressed_cells(flagged: list[int], values: list[int]) -> None:
    """Percentiles are calculated again with other values in the suppressed cells. Published ones must not change."""
    truth = table({code: 7 * n for code, n in zip(LOCATIONS, flagged, strict=True)} | {"A": flagged[0]})
    done = suppressed_counts(truth, PARENTS, HES)
    spread = suppressed_variation(done.counts, HES, 10).set_index("area_type").loc["sub_icb"]
    rows = done.counts[done.counts["area_type"] == "sub_icb"]
    other = np.clip(values, np.where(rows["status"] == "withheld_small", 1, 0), 7)
    counts = rows["activity"].to_numpy(float)
    filled = np.where(np.isnan(counts), other, counts)
    rates = filled * (rows["national_rate"] / rows["expected"]).to_numpy(float)
    if truth["activity"].iloc[0] == 0:
        return
    for share in (10, 25, 50, 75, 90):
        for name, chosen in ((f"p{share}", rates[filled > 0]), (f"all_areas_p{share}", rates)):
            if pd.notna(spread[name]):
                assert np.percentile(chosen, share) == pytest.approx(spread[name], rel=1e-12)
    if pd.notna(spread["opportunity"]):
        assert np.maximum(0, rates - spread["p25"]).sum() * 10 == pytest.approx(spread["opportunity"], rel=1e-9)
    if pd.notna(spread["areas_with_activity"]):
        assert spread["areas_with_activity"] == (filled > 0).sum()


def test_variation_of_large_counts_is_complete() -> None:
    truth = table({code: 100 + 10 * n for n, code in enumerate(LOCATIONS)})
    spread = suppressed_variation(suppressed_counts(truth, PARENTS, HES).counts, HES, 100).set_index("area_type")
    row = spread.loc["sub_icb"]
    rates = np.arange(100, 190, 10) / 10.0  # per 100,000 of a million people
    assert [row[f"p{share}"] for share in (10, 25, 50, 75, 90)] == pytest.approx(
        np.percentile(rates, (10, 25, 50, 75, 90))
    )
    assert row["n_fold"] == pytest.approx(row["p90"] / row["p10"])
    assert row["opportunity"] == pytest.approx(np.maximum(0, rates - np.percentile(rates, 25)).sum() * 10)
    assert (row["areas"], row["areas_with_activity"], row["status"]) == (9, 9, "ok")


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_bounds_are_those_of_exhaustive_search(data: Any) -> None:
    tree = Tree(np.array([-1, 0, 0, 1, 1]))
    numbers = st.integers(0, 3)
    known = []
    for _ in range(2):
        low = [data.draw(numbers) for _ in range(5)]
        known.append((np.array(low, float), np.array([n + data.draw(numbers) for n in low], float)))
    difference = (float(data.draw(st.integers(-2, 1))), float(data.draw(st.integers(1, 4))))
    found = []
    spans = [[range(int(low[n]), int(high[n]) + 1) for n in (2, 3, 4)] for low, high in known]
    for xs in np.array(np.meshgrid(*spans[0])).reshape(3, -1).T:
        for ys in np.array(np.meshgrid(*spans[1])).reshape(3, -1).T:
            x, y = ([sum(v), v[1] + v[2], *v] for v in (xs, ys))
            whole = all(
                low[n] <= v[n] <= high[n] for v, (low, high) in zip((x, y), known, strict=True) for n in range(5)
            )
            if whole and all(difference[0] <= b - a <= difference[1] for a, b in zip(x, y, strict=True)):
                found.append((x, y))
    solved = solve(tree, Pair.from_bounds(known[0], known[1], difference))
    assert solved.possible == bool(found)
    if found:
        values = np.array(found)
        assert (solved.low[:2] == values.min(axis=0)).all() and (solved.high[:2] == values.max(axis=0)).all()
        for row, node in np.ndindex(2, 5):
            assert set(values[:, row, node]) == set(range(int(solved.low[row, node]), int(solved.high[row, node]) + 1))
    assert solved.high.max() < NO_BOUND


def people() -> np.ndarray:
    """People by area (sub-ICB locations, ICBs, regions) and stratum, from the shipped population."""
    with resource("conf", "reference", "areas.csv").open(encoding="utf-8", newline="") as file:
        areas = {row["sub_icb_code"]: row for row in csv.DictReader(file) if not row["valid_to"]}
    wide = published_figures.people()
    parts = [
        wide.groupby(wide.index.map(lambda code, name=name: areas[code][name])).sum()
        for name in ("icb_code", "region_code")
    ]
    return np.vstack([wide, *parts])


# The possible values of a stratum must span at least this many events: more than the small counts, 1 to 7.
STATED_WIDTH = 8.0


@pytest.mark.parametrize("total", [20, 300, 4000])
def test_expected_events_do_not_reveal_englands_strata(total: int) -> None:
    """An attack with all published figures of 106 areas and the areas above them, before and after one man aged 20 to 24 is added."""
    by_area = people()
    england = by_area[: -(len(by_area) - 106)].sum(axis=0)
    draw = np.random.default_rng(total)
    events = draw.multinomial(total, england * (d := np.linspace(0.2, 1.8, 38)) / (england * d).sum()).astype(float)
    # A standard population other than the year's, so that England's rate depends on the strata.
    weights = 1e5 * draw.uniform(0.7, 1.3, 38) / england.sum()

    def seen(events: np.ndarray) -> Strata:
        exact = by_area / england @ events
        expected = np.where(exact < 10, np.floor(exact * 2 + 0.5) / 2, np.floor(exact + 0.5))
        rate = round(float(weights @ events) / 0.002) * 0.002
        count = np.floor(exact / 5 + 0.5) * 5
        with np.errstate(divide="ignore", invalid="ignore"):
            table_ = pd.DataFrame(
                {"expected": expected, "activity": count, "standardised_rate": count * rate / expected}
            )
        return Strata.read(by_area / england, table_, events.sum(), weights, {"rate": rate, "unit": 0.002})

    before = seen(events)
    assert min(before.width(stratum) for stratum in range(0, 38, 5)) >= STATED_WIDTH
    added = events.copy()
    added[4] += 1
    assert len(before.of_one_more(seen(added))) >= 30, "nearly every stratum can be the record's"


def test_exact_expected_events_would_reveal_englands_strata() -> None:
    by_area = people()
    england = by_area[: -(len(by_area) - 106)].sum(axis=0)
    events = np.random.default_rng(1).integers(0, 30, 38).astype(float)
    solved = np.linalg.lstsq(by_area / england, by_area / england @ events, rcond=None)[0]
    assert np.round(solved) == pytest.approx(events)


ENGLAND = {"area_type": "england", "area_code": "E92000001", "population": 56_000_000, "activity": 840, "in_scope": 2000,
           "expected": 840.0, "standardised_rate": 1.50037, "lower": 1.4012, "upper": 1.6001, "lower_adjusted": 1.4,
           "upper_adjusted": 1.6, "standard_error": 0.0517, "flagged_share": 0.42, "share_lower": 0.4, "share_upper": 0.44,
           "status": "ok"}  # fmt: skip


def released_rates(spark: SparkSession, areas: list[dict[str, Any]], **england: Any) -> dict[str, Any]:
    """Published rates by code, for areas with their true counts and their published counts."""
    period = dict(zip(PERIOD, KEY, strict=True))
    rest = {
        "period": "2021-22",
        "notes": ["partial_year", "distant_vintage"],
        "geography": "icb_2026",
        "coverage": "national",
    }
    kept = ("activity", "in_scope", "population", "expected", "standardised_rate", "area_type", "area_code")
    gold = [period | rest | ENGLAND | england]
    gold += [period | rest | {name: row.get(name) for name in kept} for row in areas if not row.get("absent")]
    rates = small_frame(spark, gold, ACTIVITY_RATE.schema)
    policies = small_frame(
        spark, [("P", KEY[2], True, 1, "2018-19", None)],
        "policy_id string, reading string, is_default_reading boolean, publish_years int, publish_first_year string, "
        "boards array<string>",
    )  # fmt: skip
    shown = rates_to_suppress(rates, policies).toPandas()
    national = shown.loc[shown["area_type"] == "england", "standardised_rate"].iloc[0]
    given = pd.DataFrame([period | row | row["shown"] for row in areas]).drop(columns="shown")
    exact = shown.set_index("area_code")["expected"]
    given = given.assign(
        national_events=840.0, national_rate=national, expected=[exact.get(code) for code in given["area_code"]]
    )
    released = suppressed_rates(rates, SuppressedCounts(given), "hes_2018_protected", HES)
    return {row["area_code"]: row.asDict() for row in released.collect()}


def area(code: str, true: int, shown: float, scope: float, expected: float | None, **more: Any) -> dict[str, Any]:
    status = "ok" if shown == shown else "withheld_small"
    row = {"area_type": "icb", "area_code": code, "activity": true, "in_scope": 60, "population": 1_000_000}
    row |= {"expected": expected, "standardised_rate": float(true)}
    return row | more | {"shown": {"activity": shown, "in_scope": scope, "status": status}}


def test_limits_below_england_hold_for_every_count_that_rounding_leaves_possible(spark: SparkSession) -> None:
    areas = [area("A", 31, 30.0, 60.0, 31.2), area("B", 11, 10.0, 15.0, 4.1), area("C", 5, np.nan, 60.0, 9.8),
             area("D", 0, 0.0, 60.0, 2.0), area("P", 0, 0.0, np.nan, None, area_type="provider", population=None, absent=True)]  # fmt: skip
    found = released_rates(spark, areas)
    england = found["E92000001"]
    # One record is 0.0018 per 100,000 of 56 million people. So rates are multiples of 0.002, and limits are rounded outwards.
    assert [england[name] for name in ("standardised_rate", "lower", "upper", "standard_error")] == [
        1.5,
        1.4,
        1.602,
        0.052,
    ]
    assert (england["activity"], england["flagged_share"]) == (840, 0.42)
    row = found["A"]
    assert (row["expected"], row["standardised_rate"]) == (31.0, pytest.approx(30 * 1.5 / 31))
    # A published count of 30 means 28 to 32, 31 expected events mean 30.5 to 31.5, and a rate of 1.5 means 1.499 to 1.501.
    low, high = 28 * (1 - 1 / (9 * 28) - 1.959963984540054 / (3 * 28**0.5)) ** 3, 33 * (1 - 1 / 297 + 1.959963984540054 / (3 * 33**0.5)) ** 3  # fmt: skip
    assert (row["lower"], row["upper"]) == (pytest.approx(low * 1.499 / 31.5), pytest.approx(high * 1.501 / 30.5))
    ends = [binomtest(n, of).proportion_ci(method="wilson") for n, of in ((28, 62), (32, 58))]
    assert (row["flagged_share"], row["share_lower"], row["share_upper"]) == pytest.approx(
        (0.5, ends[0].low, ends[1].high)
    )
    for true in range(28, 33):
        for scope in range(58, 63):
            own = binomtest(true, scope).proportion_ci(method="wilson")
            assert row["share_lower"] - 1e-9 <= own.low and own.high <= row["share_upper"] + 1e-9
    few = found["B"]
    assert few["expected"] == 4.0 and few["lower"] < few["standardised_rate"] < few["upper"]
    assert (few["flagged_share"], few["share_lower"], few["share_upper"]) == (None,) * 3, (
        "8 to 12 of 13 to 17 says nothing"
    )
    for name in ("standardised_rate", "crude_rate", "lower", "upper", "flagged_share", "share_lower", "share_upper"):
        assert found["C"][name] is None, name
    assert (found["D"]["standardised_rate"], found["D"]["lower"]) == (0.0, 0.0) and found["D"]["upper"] > 0
    provider = found["P"]
    assert (provider["activity"], provider["in_scope"], provider["status"]) == (0, None, "ok")
    assert provider["notes"] == ["partial_year"] and provider["period"] == "2021-22"


def test_nothing_published_changes_with_what_is_rounded_away(spark: SparkSession) -> None:
    """The same counts of areas with other events of England by sex and age. No column may differ."""
    shown = [
        released_rates(
            spark,
            [area("A", 31, 30.0, 60.0, 31.2 + shift), area("B", 11, 10.0, 15.0, 4.1 - shift)],
            standardised_rate=1.50037 + shift / 1000,
            lower=1.4012 + shift / 1000,
        )
        for shift in (0.0, 0.1, -0.1)
    ]
    assert shown[0] == shown[1] == shown[2]


@pytest.mark.parametrize("name", ["hes_2018", "five_or_fewer", "under_five"])
def test_possible_counts_are_those_that_are_published_as_this_value(spark: SparkSession, name: str) -> None:
    rule = disclosure_rules()[name]
    made = {n: n for n in range(120) if not rule["withhold"]["from"] <= n <= rule["withhold"]["to"]}
    frame = spark.range(120).select("id", controlled_count(F.col("id"), rule).alias("shown"))
    rows = frame.select("id", "shown", *possible_counts(F.col("shown"), rule)).collect()
    for true in made:
        _, shown, least, most = rows[true]
        same = [n for n in made if rows[n][1] == shown]
        assert true >= 113 or (least, most) == (min(same), max(same)), true
    assert all(row[2] is None and row[3] is None for row in rows if row[1] is None)


def test_a_provider_has_no_rate_even_with_a_published_count_of_zero(spark: SparkSession) -> None:
    """Without a population there is no rate, for any count. An area with people and no event has a rate of 0."""
    truth = table({"A": 30, "G": 25}, {"A": 9}, {"X": (55, 60), "Y": (0, 9)})
    period = {"policy_id": KEY[0], "revision": KEY[1], "reading": KEY[2], "financial_year": KEY[3], "period_years": 1}
    rows = [
        {**period, "notes": [], "population": None if item["population"] != item["population"] else int(item["population"]),
         **{name: item[name] for name in ("area_type", "area_code")},
         "activity": int(item["activity"]), "in_scope": int(item["in_scope"]), "standardised_rate": 0.6,
         "expected": None if item["expected"] != item["expected"] else float(item["expected"])}
        for item in truth.to_dict("records")
    ]  # fmt: skip
    rates = small_frame(spark, rows, ACTIVITY_RATE.schema)
    released = suppressed_rates(rates, suppressed_counts(truth, PARENTS, HES), "hes_2018_protected", HES)
    found = {row["area_code"]: row for row in released.collect()}
    assert (found["Y"]["activity"], found["Y"]["standardised_rate"], found["Y"]["crude_rate"]) == (0, None, None)
    assert (found["X"]["activity"], found["X"]["standardised_rate"]) == (55, None)
    assert (found["J"]["activity"], found["J"]["standardised_rate"], found["J"]["lower"]) == (0, 0.0, 0.0)


def test_variation_is_not_calculated_if_an_area_has_no_population() -> None:
    """If some areas have no population, the remaining areas are not the whole of England."""
    rows = [
        dict(zip(("policy_id", "revision", "reading", "financial_year", "period_years"), KEY, strict=True))
        | {"area_type": "sub_icb", "area_code": code, "activity": 10.0 * n, "status": "ok", "population": 1000.0}
        | {"expected": 20.0, "national_events": 100.0, "national_rate": 5.0}
        for n, code in enumerate("ABCD", start=1)
    ]
    [whole] = suppressed_variation(pd.DataFrame(rows), HES, 100).to_dict("records")
    assert (whole["areas"], whole["status"], whole["p50"]) == (4, "ok", 25 / 20 * 5.0)
    rows[3] |= {"population": None, "expected": None, "status": "no_population"}
    [part] = suppressed_variation(pd.DataFrame(rows), HES, 100).to_dict("records")
    assert (part["areas"], part["status"]) == (3, "not_calculated")
    assert pd.isna(part["p50"]) and pd.isna(part["n_fold"]) and pd.isna(part["opportunity"])
