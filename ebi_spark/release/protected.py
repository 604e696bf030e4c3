"""Figures below England under a rule that protects what it withholds: counts, and all else made from published counts.

The frames are pandas on the driver: a row an area, period and policy, never a record. What is not made from a published
count is not published below England at all: people, records of unknown age or sex, other readings, periods that overlap.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ebi_spark.rates.methods import FEW_EVENTS, PER
from ebi_spark.rates.variation import AREA_TYPES, SHARES
from ebi_spark.release.bounds import NO_BOUND, Numbers, Tree
from ebi_spark.release.protection import ANY, SHOWN, SMALL, SMALL_OR_ZERO, Measure, Partner, Thresholds, protect

PERIOD = ["policy_id", "revision", "reading", "financial_year", "period_years"]
AREA = ["area_type", "area_code"]
STATUS = {SMALL: "withheld_small", SMALL_OR_ZERO: "withheld_secondary", ANY: "withheld_secondary"}

# (type, code) of an area → (type, code) of the one that it is a part of
Parents = dict[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True)
class Protected:
    """Counts as they may be published, a row an area and period, beside ``population``, ``expected`` and England's
    ``national_events`` and ``national_rate``; and how many cells of ``activity`` that took."""

    counts: pd.DataFrame
    cells: int
    small: int
    withheld: int

    @property
    def loss(self) -> dict[str, float]:
        """Cells of ``activity`` and the share withheld; no rule can withhold less than the small ones."""
        of_all = max(self.cells, 1)
        return {
            "cells": float(self.cells),
            "withheld_share": self.withheld / of_all,
            "least_withheld_share": self.small / of_all,
        }


def protected_counts(
    rates: pd.DataFrame, parents: Parents, rule: dict[str, Any], before: pd.DataFrame | None = None
) -> Protected:
    """The counts of every area and period that may be published.

    ``rates``: ``PERIOD``, ``AREA``, ``activity``, ``in_scope``, ``population``, ``expected``, ``standardised_rate``,
    ``geography`` (the version of the areas); England's rows where there are any, below it one reading of periods that do
    not overlap. ``before``: the same with ``status`` and ``rule`` (:class:`Thresholds`) as the release
    before published them, which stays readable.
    """
    parts: list[pd.DataFrame] = []
    cells = small = withheld = 0
    older = {} if before is None else dict(iter(before.groupby(PERIOD, sort=False)))
    shown_before = _shown(before)
    thresholds = Thresholds.of(rule)
    for key, period in rates.groupby(PERIOD, sort=True):
        england = period[period["area_type"] == "england"]
        past = older.get(key)
        # The same activity under another reading or revision, or as part of a period of another length, would be a second
        # table to set against this one.
        now = (key[3], key[4])
        clash = any(
            policy == key[0] and _overlap((year, length), now) and (past is None or (year, length) != now)
            for policy, year, length in shown_before
        )
        # So would areas of another version be, each overlapping several of these.
        moved = past is not None and _versions(past) != _versions(period)
        for is_provider in (False, True):
            areas = period[(period["area_type"] != "england") & ((period["area_type"] == "provider") == is_provider)]
            if areas.empty:
                continue
            table = _Table.of(areas, parents, england, past)
            done = table.control(thresholds, rows_tell=is_provider, everything=clash or (moved and not is_provider))
            parts.append(done)
            cells += len(areas)
            small += int(thresholds.is_small(areas["activity"].to_numpy(float)).sum())
            withheld += len(areas) - int(done["activity"].notna().sum())
    national = rates[rates["area_type"] == "england"].rename(
        columns={"activity": "national_events", "standardised_rate": "national_rate"}
    )
    columns = [*PERIOD, *AREA, "activity", "in_scope", "status", "population", "expected"]
    counts = (pd.concat(parts, ignore_index=True) if parts else rates.iloc[:0].assign(status=""))[columns]
    counts = counts.merge(national[[*PERIOD, "national_events", "national_rate"]], on=PERIOD, how="left")
    return Protected(counts, cells, small, withheld)


def _versions(rates: pd.DataFrame) -> set[str]:
    return set(rates["geography"].dropna()) if "geography" in rates else set()


def _shown(before: pd.DataFrame | None) -> list[tuple[str, str, int]]:
    """Policy, last year and length of the periods for which the release before shows an area's count."""
    if before is None:
        return []
    shown = before[(before["area_type"] != "england") & before["activity"].notna()]
    rows = shown[["policy_id", "financial_year", "period_years"]].drop_duplicates()
    return [(str(policy), str(year), int(length)) for policy, year, length in rows.to_numpy()]


def _overlap(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two periods, each its last year and length, have a year in common."""
    ends = [int(year[:4]) for year, _ in (one, other)]
    return max(ends[0] - one[1], ends[1] - other[1]) < min(ends)


@dataclass
class _Table:
    """One period of one breakdown of England: the areas, their tree (node 0 the whole), and what was published before."""

    areas: pd.DataFrame
    tree: Tree
    england: pd.Series | None
    before: pd.DataFrame | None
    england_before: pd.Series | None

    @classmethod
    def of(cls, areas: pd.DataFrame, parents: Parents, england: pd.DataFrame, past: pd.DataFrame | None) -> "_Table":
        codes = list(zip(areas["area_type"], areas["area_code"], strict=True))
        there = set(codes)

        def depth(code: tuple[str, str]) -> int:
            above = parents.get(code)
            return 1 + depth(above) if above in there else 1  # type: ignore[arg-type]

        order = sorted(range(len(codes)), key=lambda index: depth(codes[index]))
        node = {codes[index]: number for number, index in enumerate(order, start=1)}
        above = [-1, *(node.get(parents.get(codes[index], ("", "")), 0) for index in order)]
        areas = areas.iloc[order]
        older = older_england = None
        if past is not None:
            at = pd.MultiIndex.from_frame(areas[AREA])
            older = past.set_index(AREA).reindex(at)
            national = past[past["area_type"] == "england"]
            older_england = national.iloc[0] if len(national) else None
        return cls(
            areas,
            Tree(np.array(above, dtype=np.int64)),
            england.iloc[0] if len(england) else None,
            older,
            older_england,
        )

    def control(self, rule: Thresholds, *, rows_tell: bool, everything: bool) -> pd.DataFrame:
        """The areas with what may be published of them; ``rows_tell`` where only areas with a record in scope have a row."""
        activity, in_scope = self._measure("activity", rule, 0.0), self._measure("in_scope", rule, float(rows_tell))
        if rows_tell and in_scope.total[1] - (len(self.tree) - 2) < rule.high:
            # So few records in scope that the rows themselves would tell how many each has.
            return self.areas.iloc[:0].assign(status=[])
        whole = np.full(len(self.tree), ANY)
        if everything:
            flagged = scoped = whole
        else:
            # Nothing of what is in scope is chosen yet, but its small cells will be withheld.
            small = rule.is_small(in_scope.counts) & (np.arange(len(self.tree)) > 0)
            hidden = Partner(in_scope.known(whole), small, (0.0, NO_BOUND))
            flagged = protect(activity, [hidden, *self._earlier("activity", rule)])
            beside = Partner(activity.known(flagged), flagged != SHOWN, (-NO_BOUND, 0.0))
            # Four counts of a cell at once (both, in both releases) have no such exact bounds: after a revision only what
            # is flagged is published anew.
            scoped = whole if self._revised() else protect(in_scope, [beside])
        result = self.areas.copy()
        for name, measure, state in (("activity", activity, flagged), ("in_scope", in_scope, scoped)):
            published = np.where(state == SHOWN, rule.rounded(measure.counts), np.nan)
            result[name] = published[1:]
        plain = np.select(
            [result["population"].isna(), result["activity"] < FEW_EVENTS], ["no_population", "few_events"], "ok"
        )
        result["status"] = [STATUS.get(state, given) for state, given in zip(flagged[1:].tolist(), plain, strict=True)]
        return result

    def _revised(self) -> bool:
        """Whether England's figures are others than in the release before; then areas' can be too."""
        if self.before is None or self.england is None or self.england_before is None:
            return self.before is not None
        return any(float(self.england[name]) != float(self.england_before[name]) for name in ("activity", "in_scope"))

    def _measure(self, name: str, rule: Thresholds, least: float) -> Measure:
        below = self.areas[name].to_numpy(float)
        total = float(below[self.tree.levels[0] - 1].sum())
        # Without England's row nobody is told the whole.
        bounds = (total, total) if self.england is not None else (0.0, NO_BOUND)
        return Measure(self.tree, np.concatenate([[total], below]), rule, bounds, least)

    def _earlier(self, name: str, rule: Thresholds) -> Iterator[Partner]:
        """What the release before says of a count, and how it can have changed: a reader takes it that records were only
        added, or only removed, as England's figure shows; that nothing was where it is the same."""
        if self.before is None:
            return
        published = self.before[name].to_numpy(float)
        then = next((item for item in self.before["rule"] if isinstance(item, Thresholds)), rule)
        low, high = then.behind(np.nan_to_num(published))
        missing = np.isnan(published)
        small = missing & (self.before["status"] == "withheld_small").to_numpy() & (name == "activity")
        low = np.where(missing, np.where(small, then.low, 0.0), low)
        high = np.where(missing, np.where(small, then.high, NO_BOUND), high)
        now = self._measure(name, rule, 0.0)
        total, difference = (0.0, NO_BOUND), (-NO_BOUND, NO_BOUND)
        if self.england is not None and self.england_before is not None:
            change = float(self.england[name]) - float(self.england_before[name])
            # Records without an area are taken to be as many as now.
            total = (now.total[0] - change,) * 2
            difference = (0.0, 0.0) if change == 0 else (-NO_BOUND, 0.0) if change > 0 else (0.0, NO_BOUND)
        bounds = np.concatenate([[total[0]], low]), np.concatenate([[total[1]], high])
        yield Partner(bounds, np.concatenate([[False], missing]), difference)


def protected_variation(areas: pd.DataFrame, rule: dict[str, Any], min_national_events: int) -> pd.DataFrame:
    """How areas vary, by :data:`PERIOD` and type of area, from nothing but published figures.

    ``areas``: rows with ``activity`` as published (NULL where withheld), ``status``, ``population``, ``expected`` events,
    ``national_rate`` and ``national_events`` (of England). A figure is given where it is the same whatever the withheld
    cells hold, so that it tells nothing about them.
    """
    rows = []
    chosen = areas[areas["area_type"].isin(AREA_TYPES)]
    for key, group in chosen.groupby([*PERIOD, "area_type"], sort=True):
        have_people = group["population"].notna()
        spread: dict[str, Any] = {"areas": int(have_people.sum()), "status": "not_calculated"}
        if have_people.all():  # the areas that are left are not the nation's
            spread = _spread(group, rule, min_national_events)
        rows.append(dict(zip([*PERIOD, "area_type"], key, strict=True)) | spread)
    names = [*PERIOD, "area_type", "areas", "areas_with_activity", *_points(""), "n_fold", *_points("all_areas_")]
    return pd.DataFrame(rows, columns=[*names, "opportunity", "opportunity_share", "status"])


def _points(prefix: str) -> list[str]:
    return [f"{prefix}p{share}" for share in SHARES]


def _spread(group: pd.DataFrame, rule: dict[str, Any], min_national_events: int) -> dict[str, Any]:
    events = group["activity"].to_numpy(float)
    small = (group["status"] == "withheld_small").to_numpy()
    unknown = np.isnan(events) & ~small
    national = float(group["national_events"].iloc[0])
    per_event = (group["national_rate"] / group["expected"]).to_numpy(float)
    people = group["population"].to_numpy(float)
    least = np.where(small, rule["withhold"]["from"], np.where(unknown, 0.0, events)) * per_event
    ceiling = NO_BOUND if np.isnan(national) else national
    most = np.where(small, rule["withhold"]["to"], np.where(unknown, ceiling, events)) * per_event
    active = small | (events > 0)
    enough = national >= min_national_events
    answer: dict[str, Any] = {
        "areas": len(group),
        "areas_with_activity": None if unknown.any() else int(active.sum()),
    }
    # With zeros among the withheld it is not known which areas have activity.
    chosen = active if not unknown.any() else np.zeros(len(group), dtype=bool)
    for prefix, where in (("", chosen), ("all_areas_", np.ones(len(group), dtype=bool))):
        answer |= dict(zip(_points(prefix), _settled_percentiles(least[where], most[where]), strict=True))
    p10, p25, p90 = answer["p10"], answer["p25"], answer["p90"]
    answer["n_fold"] = p90 / p10 if p10 and p90 is not None else None
    above = None if p25 is None else [np.maximum(0, end - p25) @ people / PER for end in (least, most)]
    settled = enough and above is not None and bool(above[0] == above[1])
    answer["opportunity"] = float(above[0]) if above is not None and settled else None
    answer["opportunity_share"] = answer["opportunity"] / national if settled else None
    hidden = bool(unknown.any() or small.any())
    answer["status"] = "ok" if settled else "withheld_secondary" if enough and hidden else "not_calculated"
    return answer


def _settled_percentiles(least: Numbers, most: Numbers) -> Iterable[float | None]:
    """Percentiles that are the same at either end: as none falls when a value rises, they are the same in between."""
    if not len(least) or np.isnan(least).any():
        return [None] * len(SHARES)
    ends = np.percentile(least, SHARES), np.percentile(most, SHARES)
    return [float(low) if low == high else None for low, high in zip(*ends, strict=True)]


def parents_of(hierarchy: dict[str, dict[str, str]]) -> Parents:
    """The area above each sub-ICB location and ICB, from the rows of ``conf/reference/areas.csv``."""
    above: Parents = {}
    for row in hierarchy.values():
        above[("sub_icb", row["sub_icb_code"])] = ("icb", row["icb_code"])
        above[("icb", row["icb_code"])] = ("region", row["region_code"])
    return above
