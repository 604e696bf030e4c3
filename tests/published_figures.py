"""What is published of an area's true figures, by formulas of its own: nothing here imports the product's statistics.

:func:`simulate` draws areas whose truth is known. :func:`release` makes the rows of two published tables from such areas.
"""

import csv
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from ebi_spark.config.shipped_files import disclosure_rules, resource

Array = NDArray[np.float64]
Row = dict[str, Any]
PER = 100_000
WIDEST_SHARE = 0.5
FUSION, IMAGING, LOCAL = "2Y_back_pain_fusion", "2S_lower_back_imaging", "CMICB_Clin087"
RULE = disclosure_rules()["hes_2018_protected"]


def published_count(true: Any, rule: Row) -> Any:
    """Counts as published: NaN where they are small, otherwise to the nearest multiple."""
    step = rule["round_to"]
    rounded = np.floor((np.asarray(true, dtype=float) + step / 2) / step) * step
    return np.where((true >= rule["withhold"]["from"]) & (true <= rule["withhold"]["to"]), np.nan, rounded)


def possible(published: Array, rule: Row) -> tuple[Array, Array]:
    """The least and the most true count that is published as each one, by trying every count."""
    tried = np.arange(int(np.nanmax(published, initial=0)) + 2 * rule["round_to"] + 8)
    shown = published_count(tried, rule)
    ends = {
        value: (float(tried[shown == value].min()), float(tried[shown == value].max()))
        for value in np.unique(published[~np.isnan(published)])
    }
    pairs = np.array([ends.get(value, (np.nan, np.nan)) for value in published]).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def count_limits(count: Array, level: float = 0.95) -> tuple[Array, Array]:
    """Exact below 10 (by the relation of Poisson and chi-squared), Byar's from 10."""
    tail, z = (1 - level) / 2, norm.isf((1 - level) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        byar_low = count * (1 - 1 / (9 * count) - z / (3 * np.sqrt(count))) ** 3
        more = count + 1
        byar_high = more * (1 - 1 / (9 * more) + z / (3 * np.sqrt(more))) ** 3
        exact_low = np.where(count > 0, chi2.ppf(tail, 2 * count) / 2, 0.0)
    few = count < 10
    return np.where(few, exact_low, byar_low), np.where(few, chi2.isf(tail, 2 * count + 2) / 2, byar_high)


def wilson(part: Array, whole: Array) -> tuple[Array, Array]:
    """The two shares p at which (part/whole − p)² = z² p(1 − p)/whole (Wilson 1927), as roots of the quadratic."""
    z2 = norm.isf(0.025) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = part / whole
        a, b, c = 1 + z2 / whole, -(2 * share + z2 / whole), share**2
        root = np.sqrt(np.maximum(b * b - 4 * a * c, 0))
        return np.maximum((-b - root) / (2 * a), 0), np.minimum((-b + root) / (2 * a), 1)


def unit_of_rates(population: float) -> float:
    """1, 2 or 5 times a power of ten: the smallest that is at least the crude rate of one record."""
    return float(
        min(f * 10.0**e for e in range(-9, 6) for f in (1, 2, 5) if f * 10.0**e >= PER / population * (1 - 1e-12))
    )


@dataclass(frozen=True)
class Areas:
    """Areas with a truth and one draw from it. Arrays have one item an area.

    ``rate``: the direct rate per 100,000 that the draws come from. ``share``: likewise. ``gold_rate``: the direct rate of the draw.
    """

    population: Array
    activity: Array
    in_scope: Array
    expected: Array
    rate: Array
    share: Array
    crude: Array
    gold_rate: Array
    national: float
    national_population: float


@cache
def people() -> pd.DataFrame:
    """The shipped population: a row a sub-ICB location, a column a sex and age band."""
    with resource("conf", "reference", "population_gp_registered.csv").open(encoding="utf-8", newline="") as file:
        rows = pd.DataFrame(csv.DictReader(file)).astype({"people": float, "age_from": int})
    return rows.pivot_table(index="area_code", columns=["sex", "age_from"], values="people", aggfunc="sum")


def simulate(draw: np.random.Generator, population: Array, events: float, flagged: float) -> Areas:
    """Areas of about ``events`` flagged records in England, a share ``flagged`` of those in scope.

    ``population`` has a row an area and a column a stratum. Rates rise and fall with age, areas differ (standard deviation 0.35 on
    the log scale), and the ratio to England differs between an area's strata (0.25), so that direct and indirect rates differ.
    """
    strata = population.shape[1]
    by_age = np.exp(-((np.linspace(-1.6, 1.9, strata // 2)) ** 2))
    shape = np.concatenate([by_age, by_age * 1.3])
    effect = np.exp(draw.normal(0, 0.35, (len(population), 1)) + draw.normal(0, 0.25, population.shape))
    england = population.sum(axis=0)
    rates = shape * effect
    rates *= events / (rates * population).sum()
    drawn = draw.poisson(rates * population).astype(float)
    share = np.clip(flagged + draw.normal(0, 0.05, len(population)), 0.02, 0.98)
    activity = drawn.sum(axis=1)
    others = draw.poisson((rates * population).sum(axis=1) * (1 - share) / share)
    weights = england / england.sum()
    own = drawn.sum(axis=0) / england
    return Areas(
        population=population.sum(axis=1),
        activity=activity,
        in_scope=activity + others,
        expected=population @ own,
        rate=PER * rates @ weights,
        share=share,
        crude=PER * (rates * population).sum(axis=1) / population.sum(axis=1),
        gold_rate=PER * (drawn / population) @ weights,
        national=PER * float(own @ weights),
        national_population=float(england.sum()),
    )


def publish(areas: Areas, rule: Row) -> dict[str, Array]:
    """The published figures of every area, before any secondary suppression. NaN where none is given."""
    count, scope = published_count(areas.activity, rule), published_count(areas.in_scope, rule)
    (least, most), (fewest, greatest) = possible(count, rule), possible(scope, rule)
    expected = np.where(areas.expected < 10, np.round(areas.expected * 2) / 2, np.round(areas.expected))
    unit = unit_of_rates(areas.national_population)
    national = round(areas.national / unit) * unit
    half = np.where(expected < 10, 0.25, 0.5)
    figures: dict[str, Array] = {"activity": count, "in_scope": scope, "expected": expected}
    with np.errstate(divide="ignore", invalid="ignore"):
        for level, name in ((0.95, ""), (0.998, "_998")):
            low, high = count_limits(least, level)[0], count_limits(most, level)[1]
            figures[f"lower{name}"] = low * max(national - unit / 2, 0) / (expected + half)
            figures[f"upper{name}"] = high * (national + unit / 2) / (expected - half)
        figures["crude_rate"] = count / areas.population * PER
        figures["crude_lower"] = count_limits(least)[0] / areas.population * PER
        figures["crude_upper"] = count_limits(most)[1] / areas.population * PER
        figures["standardised_rate"] = count * national / expected
        lower, upper = wilson(least, greatest)[0], wilson(most, np.maximum(fewest, most))[1]
        given = (scope > 0) & (upper - lower <= WIDEST_SHARE)
        share = np.minimum(count / scope, 1)
    figures |= {"flagged_share": share, "share_lower": lower, "share_upper": upper}
    for name in ("flagged_share", "share_lower", "share_upper"):
        figures[name] = np.where(given & ~np.isnan(count), figures[name], np.nan)
    none = expected <= 0
    return {name: np.where(none & np.isin(name, ("lower", "upper")), np.nan, value) for name, value in figures.items()}


def release(seed: int = 1) -> tuple[list[Row], list[Row]]:
    """The rows of ``published/rate`` and ``published/policy`` of a release: fusion in windows of three years and imaging in single
    ones, for the boards and regions of today; the other readings and windows that are England's only; a local policy, suppressed;
    two providers."""
    draw = np.random.default_rng(seed)
    with resource("conf", "reference", "areas.csv").open(encoding="utf-8", newline="") as file:
        listed = {row["sub_icb_code"]: row for row in csv.DictReader(file) if not row["valid_to"]}
    wide = people()
    rates: list[Row] = []
    years = [f"{year}-{(year + 1) % 100}" for year in range(2018, 2024)]

    def rows(
        policy: str, revision: str, reading: str, last: int, length: int, events: float, flagged: float, below: bool
    ) -> None:
        first = last - length + 1
        period = {"policy_id": policy, "revision": revision, "reading": reading, "financial_year": years[last],
                  "period_years": length, "geography": "icb_2026", "coverage": "national", "notes": [],
                  "period": years[last] if length == 1 else f"{years[first]}..{years[last]}"}  # fmt: skip
        for kind in ("region", "icb"):
            whole = [listed[code][f"{kind}_code"] for code in wide.index]
            population = wide.groupby(whole).sum() * length
            areas = simulate(draw, population.to_numpy(), events * length, flagged)
            if kind == "region":
                rates.append(period | _england(areas))
            if not below:
                return
            names = {row[f"{kind}_code"]: row[f"{kind}_name"] for row in listed.values()}
            shown = publish(areas, RULE)
            for number, code in enumerate(population.index):
                row: Row = dict.fromkeys(("lower_adjusted", "upper_adjusted", "standard_error"))
                row |= {name: _number(value[number]) for name, value in shown.items() if not name.endswith("_998")}
                row |= {name: row[name] and int(row[name]) for name in ("activity", "in_scope")}
                if row["activity"] is None:
                    row |= dict.fromkeys(
                        ("standardised_rate", "lower", "upper", "crude_rate", "crude_lower", "crude_upper")
                    )
                status = "withheld_small" if row["activity"] is None else "ok"
                rates.append(period | row | {"area_type": kind, "area_code": code, "area_name": names[code], "status": status,
                                             "population": int(areas.population[number]), "method": "indirectly standardised"})  # fmt: skip
        nothing = dict.fromkeys(shown) | dict.fromkeys(("lower_adjusted", "upper_adjusted", "method", "population"))
        provider = {"activity": 40, "in_scope": 100, "flagged_share": 0.4, "share_lower": 0.28, "share_upper": 0.54}
        rates.append(period | nothing | provider | {"area_type": "provider", "area_code": "RX1", "area_name": "A TRUST", "status": "no_population"})  # fmt: skip
        rates.append(
            period
            | nothing
            | {"area_type": "provider", "area_code": "RX2", "area_name": "RX2", "status": "withheld_small"}
        )

    for last in range(6):
        rows(FUSION, "2022-08", "as_published", last, 1, 200, 0.45, below=False)
        rows(FUSION, "2022-08", "as_intended", last, 1, 200, 0.45, below=False)
        rows(IMAGING, "2023-12", "as_intended", last, 1, 6000, 0.93, below=True)
    for last in (2, 3, 4, 5):
        rows(FUSION, "2022-08", "as_published", last, 3, 200, 0.45, below=last in (2, 5))
    board = next(row for row in rates if row["area_type"] == "icb" and row["area_code"] == "QYG")
    suppressed = {name: None for name, value in board.items() if isinstance(value, float)} | {
        "activity": None,
        "in_scope": None,
    }
    rates += [board | suppressed | {"policy_id": LOCAL, "revision": "2024-03", "reading": "as_published", "status": "withheld_secondary",
                                    "financial_year": years[last], "period": years[last], "notes": ["local_policy", "back_cast"]}
              for last in range(6)]  # fmt: skip
    return rates, _policies()


def _england(areas: Areas) -> Row:
    unit, total, scope = unit_of_rates(areas.national_population), areas.activity.sum(), areas.in_scope.sum()
    rate = round(areas.national / unit) * unit
    (low,), (high,) = count_limits(np.array([total]))
    share_low, share_high = wilson(np.array([total]), np.array([scope]))
    crude = PER / areas.national_population
    return {
        "area_type": "england", "area_code": "E92000001", "area_name": "England", "status": "ok", "method": "directly standardised",
        "activity": int(total), "in_scope": int(scope), "population": int(areas.national_population), "expected": float(total),
        "standardised_rate": rate, "lower": low * crude, "upper": high * crude, "lower_adjusted": low * crude * 0.99,
        "upper_adjusted": high * crude * 1.01, "standard_error": unit, "crude_rate": total * crude, "crude_lower": low * crude,
        "crude_upper": high * crude, "flagged_share": total / scope, "share_lower": float(share_low[0]),
        "share_upper": float(share_high[0]),
    }  # fmt: skip


def _policies() -> list[Row]:
    found = []
    for policy, revision, default, years, boards in (
        (FUSION, "2022-08", "as_published", 3, None),
        (IMAGING, "2023-12", "as_intended", 1, None),
        (LOCAL, "2024-03", "as_published", 1, ["QYG"]),
    ):
        for reading in ("as_published", "as_intended"):
            found.append({
                "policy_id": policy, "revision": revision, "reading": reading, "is_default_reading": reading == default,
                "title": f"Title of {policy}", "publisher": "Academy of Medical Royal Colleges", "source": "https://example.org",
                "in_force_from": date(2018, 11, 1), "in_force_to": None, "boards": boards, "publish_years": years,
                "publish_first_year": "2018-19", "target": 0.25 if policy == FUSION else None,
                "clauses": [{"clause_id": "procedure", "kind": "scope", "words": "The words of the scope."},
                            {"clause_id": "age", "kind": "include", "words": "Adults."}],
            })  # fmt: skip
    return found


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
