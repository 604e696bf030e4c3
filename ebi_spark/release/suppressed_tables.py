"""Figures below England under a rule that protects what it withholds: counts, and all else made from published counts.

The frames are pandas on the driver: a row an area, period and policy, never a record. What is not made from a published
count is not published below England at all: people, records of unknown age or sex, other readings, periods that overlap.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ebi_spark.rates.methods import FEW_EVENTS, PER
from ebi_spark.rates.variation import AREA_TYPES, SHARES
from ebi_spark.release.interval_bounds import NO_BOUND, Numbers, Tree
from ebi_spark.release.release_sequence import MEASURES, State, keeps
from ebi_spark.release.suppression import ANY, SHOWN, SMALL, SMALL_OR_ZERO, Measure, Partner, Thresholds, protect

PERIOD = ["policy_id", "revision", "reading", "financial_year", "period_years"]
AREA = ["area_type", "area_code"]
# Events in England from which on those expected of its areas are published.
LEAST_EXPECTED = 20
STATUS = {SMALL: "withheld_small", SMALL_OR_ZERO: "withheld_secondary", ANY: "withheld_secondary"}

# (type, code) of an area → (type, code) of the one that it is a part of
Parents = dict[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True)
class Protected:
    """Counts as they may be published, a row an area and period, beside ``population``, ``expected`` and England's
    ``national_events`` and ``national_rate``."""

    counts: pd.DataFrame

    @property
    def withheld_share(self) -> float:
        """The share of the cells of ``activity`` that are withheld: what anybody can count."""
        return float(self.counts["activity"].isna().mean()) if len(self.counts) else 0.0


def protected_counts(
    rates: pd.DataFrame, parents: Parents, rule: dict[str, Any], before: pd.DataFrame | None = None
) -> Protected:
    """The counts of every area and period that may be published.

    ``rates``: ``PERIOD``, ``AREA``, ``activity``, ``in_scope``, ``population``, ``expected`` (rounded), ``standardised_rate``,
    ``geography`` (the version of the areas); England's rows where there are any, below it one reading of periods that do
    not overlap. ``before``: the same with ``status`` and ``rule`` (:class:`Thresholds`) as earlier releases, which stay readable,
    published them; ``released`` numbers these in the order of their times.
    """
    thresholds = Thresholds.of(rule)
    before = _numbered(before)
    rates = _with_listed_providers(rates, thresholds, before)
    parts: list[pd.DataFrame] = []
    older = {} if before is None else dict(iter(before.groupby(PERIOD, sort=False)))
    releases = _releases(before)
    for key, period in rates.groupby(PERIOD, sort=True):
        england = period[period["area_type"] == "england"]
        past = older.get(key)
        # The same activity under another reading or revision, or as part of a period of another length, would be a second
        # table to set against this one.
        clash = any(
            _same_records(shown, key) and (shown[3:] != key[3:] or key not in there)
            for there, given in releases
            for shown in given - {key}
        )
        # So would areas of another version be, each overlapping several of these.
        moved = past is not None and _versions(past) | _versions(period) != _versions(period)
        for is_provider in (False, True):
            areas = period[(period["area_type"] != "england") & ((period["area_type"] == "provider") == is_provider)]
            if not areas.empty:
                table = _Table.of(areas, parents, england, past, thresholds)
                parts.append(table.control(everything=clash or (moved and not is_provider)))
    national = rates[rates["area_type"] == "england"].rename(
        columns={"activity": "national_events", "standardised_rate": "national_rate"}
    )
    columns = [*PERIOD, *AREA, "activity", "in_scope", "status", "population", "expected"]
    counts = (pd.concat(parts, ignore_index=True) if parts else rates.iloc[:0].assign(status=""))[columns]
    counts = counts.merge(national[[*PERIOD, "national_events", "national_rate"]], on=PERIOD, how="left")
    # With so few events even rounded sums of all areas would narrow down who they were.
    counts["expected"] = counts["expected"].where(counts["national_events"] >= LEAST_EXPECTED)
    return Protected(counts)


def _numbered(before: pd.DataFrame | None) -> pd.DataFrame | None:
    if before is None or before.empty:
        return None
    return before if "released" in before else before.assign(released=0)


def _with_listed_providers(rates: pd.DataFrame, rule: Thresholds, before: pd.DataFrame | None) -> pd.DataFrame:
    """The rates with a row for each listed provider in every period of a policy, 0 where it has no record, and with no
    other provider. A row that came and went with a provider's records would say when it had some.

    Listed is who has a count in scope that is not small in any period of the policy, or a row in a release that is kept.
    """
    is_provider = rates["area_type"] == "provider"
    large = rates[is_provider & (rates["in_scope"] > rule.high)]
    names = ["policy_id", "area_code"]
    listed = [large[names]]
    if before is not None:
        listed.append(before.loc[before["area_type"] == "provider", names])
    wanted = pd.concat(listed).drop_duplicates()
    periods = rates.drop_duplicates(PERIOD)[[*PERIOD, *(["geography"] if "geography" in rates else [])]]
    every = periods.merge(wanted, on="policy_id").assign(area_type="provider")
    rows = every.merge(rates[is_provider].drop(columns="geography", errors="ignore"), on=[*PERIOD, *AREA], how="left")
    rows = rows.fillna({"activity": 0, "in_scope": 0})
    areas = rates[~is_provider]
    return pd.concat([areas, rows[areas.columns]], ignore_index=True) if len(rows) else areas


def _versions(rates: pd.DataFrame) -> set[str]:
    return set(rates["geography"].dropna()) if "geography" in rates else set()


def _releases(before: pd.DataFrame | None) -> list[tuple[set[tuple[Any, ...]], set[tuple[Any, ...]]]]:
    """Of each earlier release the keys of the periods below England, and of those for which it shows an area's count."""
    if before is None:
        return []
    areas = before[before["area_type"] != "england"]

    def keys(rows: pd.DataFrame) -> set[tuple[Any, ...]]:
        return {tuple(row) for row in rows[PERIOD].drop_duplicates().to_numpy()}

    return [(keys(rows), keys(rows[rows["activity"].notna()])) for _, rows in areas.groupby("released", sort=True)]


def _same_records(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two keys of :data:`PERIOD` are of one policy and have a year in common."""
    ends = [int(str(key[3])[:4]) for key in (one, other)]
    return bool(one[0] == other[0] and max(ends[0] - one[4], ends[1] - other[4]) < min(ends))


@dataclass
class _Table:
    """One period of one breakdown of England: the areas, their tree (node 0 the whole, the last what is in no area), what is to
    be published and what earlier releases published, the oldest first."""

    areas: pd.DataFrame
    tree: Tree
    rule: Thresholds
    measures: dict[str, Measure]
    earlier: list[State]
    same: pd.DataFrame | None  # the rows of the release before, where England's figures are still those

    @classmethod
    def of(
        cls, areas: pd.DataFrame, parents: Parents, england: pd.DataFrame, past: pd.DataFrame | None, rule: Thresholds
    ) -> "_Table":
        codes = list(zip(areas["area_type"], areas["area_code"], strict=True))
        there = set(codes)

        def depth(code: tuple[str, str]) -> int:
            above = parents.get(code)
            return 1 + depth(above) if above in there else 1  # type: ignore[arg-type]

        order = sorted(range(len(codes)), key=lambda index: depth(codes[index]))
        node = {codes[index]: number for number, index in enumerate(order, start=1)}
        above = [-1, *(node.get(parents.get(codes[index], ("", "")), 0) for index in order), 0]
        areas = areas.iloc[order]
        tree = Tree(np.array(above, dtype=np.int64))
        national = not england.empty
        measures = {}
        for name in MEASURES:
            below = areas[name].to_numpy(float)
            inside = float(below[np.array(above[1:-1]) == 0].sum())
            total = float(england[name].iloc[0]) if national else inside
            counts = np.concatenate([[total], below, [max(total - inside, 0.0)]])
            measures[name] = Measure(tree, counts, rule, national)
        states: list[State] = []
        same = None
        # Without England's figures nothing says how a count can have changed.
        for _, release in past.groupby("released", sort=True) if past is not None and national else ():
            nation = release[release["area_type"] == "england"]
            if nation.empty:
                continue
            own = release[release["area_type"].eq("provider") == bool(areas["area_type"].eq("provider").all())]
            rows = own.set_index(AREA).reindex(pd.MultiIndex.from_frame(areas[AREA]))
            state = _state(rows, nation, own["rule"].dropna(), rule)
            if state is not None and not (states and _equal(states[-1], state)):
                states.append(state)
            unchanged = all(float(nation[name].iloc[0]) == float(england[name].iloc[0]) for name in MEASURES)
            same = rows if unchanged else None
        return cls(areas, tree, rule, measures, states, same)

    def control(self, *, everything: bool) -> pd.DataFrame:
        """The areas with what may be published of them."""
        whole = np.full(len(self.tree), ANY)
        whole[0] = SHOWN
        if everything:
            chosen = dict.fromkeys(MEASURES, whole)
        else:
            activity, in_scope = (self.measures[name] for name in MEASURES)
            # Nothing of what is in scope is chosen yet, but its small cells will be withheld.
            hidden = self._beside(in_scope, whole, self.rule.is_small(in_scope.counts), (0.0, NO_BOUND))
            flagged = protect(activity, [[hidden], *self._earlier("activity")])
            beside = self._beside(activity, flagged, activity.to_keep(flagged), (-NO_BOUND, 0.0))
            scoped = protect(in_scope, [[beside], *self._earlier("in_scope")])
            tries = [(flagged, scoped), (flagged, whole), (whole, whole)]
            chosen = next(
                found
                for found in (dict(zip(MEASURES, each, strict=True)) for each in tries)
                if found["activity"] is whole or self._keeps(found, whole)
            )
        result = self.areas.copy()
        for name, state in chosen.items():
            measure = self.measures[name]
            published = np.where(state == SHOWN, self.rule.rounded(measure.counts), np.nan)
            result[name] = published[1:-1]
        plain = np.select(
            [result["population"].isna(), result["activity"] < FEW_EVENTS], ["no_population", "few_events"], "ok"
        )
        states = chosen["activity"][1:-1].tolist()
        result["status"] = [STATUS.get(state, given) for state, given in zip(states, plain, strict=True)]
        return result

    def _beside(
        self, measure: Measure, state: NDArray[np.int64], withheld: NDArray[np.bool_], difference: tuple[float, float]
    ) -> Partner:
        withheld = withheld.copy()
        withheld[0] = False
        return Partner(measure.known(state), withheld, difference, float(measure.counts[-1]))

    def _earlier(self, name: str) -> Iterator[list[Partner]]:
        """What each earlier release says of a count, and how it can have changed since: a reader takes it that between two
        releases records were only added, or only removed, as England's figures show."""
        measure = self.measures[name]
        added = removed = 0.0
        latest = float(measure.counts[0])
        for state in reversed(self.earlier):
            change, latest = latest - state.england[name], state.england[name]
            added, removed = added + max(change, 0.0), removed + max(-change, 0.0)
            yield [
                Partner(bounds, state.withheld[name], (-added, removed), elsewhere)
                for bounds in (state.strict[name], state.bounds[name])
                # Records in no area are taken to be as many as now, or not known.
                for elsewhere in (float(measure.counts[-1]), None)
            ]

    def _keeps(self, chosen: dict[str, NDArray[np.int64]], whole: NDArray[np.int64]) -> bool:
        """Whether this may stand beside all that earlier releases say."""
        nothing = all(np.array_equal(chosen[name][1:-1], whole[1:-1]) for name in MEASURES)
        if not self.earlier or nothing or self._repeats(chosen):
            return True

        def state(of: dict[str, NDArray[np.int64]]) -> State:
            known = {name: self.measures[name].known(of[name]) for name in MEASURES}
            withheld = {name: self.measures[name].to_keep(chosen[name]) for name in MEASURES}
            england = {name: float(self.measures[name].counts[0]) for name in MEASURES}
            return State(england, known, known, withheld)

        blind = state(dict.fromkeys(MEASURES, whole))
        return keeps(self.tree, self.earlier, state(chosen), blind, self.rule)

    def _repeats(self, chosen: dict[str, NDArray[np.int64]]) -> bool:
        """Whether just what the release before shows is published again."""
        if self.same is None:
            return False
        small = (self.same["status"] == STATUS[SMALL]).to_numpy()
        return bool((small == (chosen["activity"][1:-1] == SMALL)).all()) and all(
            np.array_equal(
                np.where(chosen[name] == SHOWN, self.rule.rounded(self.measures[name].counts), np.nan)[1:-1],
                self.same[name].to_numpy(float),
                equal_nan=True,
            )
            for name in MEASURES
        )


def _state(rows: pd.DataFrame, nation: pd.DataFrame, rules: pd.Series, rule: Thresholds) -> State | None:
    """What a release says: ``rows`` by area as published, NaN throughout where it has no row of an area; None where it says
    nothing."""
    then = next((item for item in rules if isinstance(item, Thresholds)), rule)
    if rows["status"].isna().all():
        return None
    absent = rows["status"].isna().to_numpy()
    bounds, strict, withheld, england = {}, {}, {}, {}
    for name in MEASURES:
        published = rows[name].to_numpy(float)
        low, high = then.behind(np.nan_to_num(published))
        missing = np.isnan(published) & ~absent
        small = missing & (rows["status"] == "withheld_small").to_numpy() & (name == "activity")
        low = np.where(missing, np.where(small, then.low, 0.0), low)
        high = np.where(missing, np.where(small, then.high, NO_BOUND), high)
        england[name] = total = float(nation[name].iloc[0])
        # A provider without a row has none (earlier versions), or so few that it is not listed.
        few = np.where(absent, float(then.high), high)
        bounds[name] = np.array([total, *low, 0.0]), np.array([total, *few, NO_BOUND])
        none = np.where(absent, 0.0, high)
        # In earlier versions a provider had a row only with a record in scope: none then says 0.
        rows_tell = name == "in_scope" and absent.size and not (published == 0).any() and _providers(rows)
        least = np.where(~absent & (low == 0), 1.0, low) if rows_tell else low
        strict[name] = np.array([total, *least, 0.0]), np.array([total, *none, NO_BOUND])
        withheld[name] = np.array([False, *(missing | absent), False])
    return State(england, bounds, strict, withheld)


def _providers(rows: pd.DataFrame) -> bool:
    return bool((rows.index.get_level_values("area_type") == "provider").all())


def _equal(one: State, other: State) -> bool:
    return all(
        one.england[name] == other.england[name]
        and np.array_equal(one.bounds[name], other.bounds[name])
        and np.array_equal(one.withheld[name], other.withheld[name])
        for name in MEASURES
    )


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
    per_event = (group["national_rate"] / group["expected"].where(group["expected"] > 0)).to_numpy(float)
    people = group["population"].to_numpy(float)
    # An area without events has a rate of 0, whatever is expected.
    per_event = np.where(events == 0, 0.0, per_event)
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
