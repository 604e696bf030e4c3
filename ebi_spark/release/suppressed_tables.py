"""Figures below England under a rule with secondary suppression: the counts, and the variation calculated from them.

The frames are pandas frames on the driver, with one row for each area, period and policy, and never a record. Figures that
cannot be calculated from a published count are not published below England at all: people, records of unknown age or
sex, other readings, and overlapping periods.
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
from ebi_spark.release.release_sequence import MEASURES, PublishedState, keeps_possible_values
from ebi_spark.release.suppression import (
    ANY,
    SHOWN,
    SMALL,
    SMALL_OR_ZERO,
    Measure,
    Partner,
    Thresholds,
    choose_suppression,
)

PERIOD = ["policy_id", "revision", "reading", "financial_year", "period_years"]
AREA = ["area_type", "area_code"]
# Expected events of areas are published only where England has at least this many events.
LEAST_EXPECTED = 20
STATUS = {SMALL: "withheld_small", SMALL_OR_ZERO: "withheld_secondary", ANY: "withheld_secondary"}

# (type, code) of an area → (type, code) of the area that it is a part of
Parents = dict[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True)
class SuppressedCounts:
    """Counts as published, one row for each area and period, with England's figures next to them.

    Columns: :data:`PERIOD`, :data:`AREA`, ``activity`` and ``in_scope`` (missing where suppressed), ``status``, ``population``,
    ``expected``, and England's ``national_events`` and ``national_rate``.
    """

    counts: pd.DataFrame

    @property
    def suppressed_share(self) -> float:
        """The share of the cells of ``activity`` that are suppressed. Every reader can count this too."""
        return float(self.counts["activity"].isna().mean()) if len(self.counts) else 0.0


def suppressed_counts(
    rates: pd.DataFrame, parents: Parents, rule: dict[str, Any], earlier: pd.DataFrame | None = None
) -> SuppressedCounts:
    """The counts of every area and period as published.

    ``rates`` has :data:`PERIOD`, :data:`AREA`, ``activity``, ``in_scope``, ``population``, ``expected`` (rounded),
    ``standardised_rate`` and ``geography`` (the version of the areas). It includes England's rows where there are any. Below
    England it has one reading, and periods that do not overlap.

    ``earlier`` has the counts as published by earlier releases that can still be read, with ``status``, ``rule``
    (:class:`Thresholds`) and ``released`` (0 for the oldest release, and so on).

    | area_type | activity | in_scope | → activity | in_scope | status             |
    |-----------|----------|----------|------------|----------|--------------------|
    | icb       | 23       | 51       | 25         | 50       | ok                 |
    | icb       | 4        | 18       | NULL       | 20       | withheld_small     |
    | icb       | 0        | 9        | NULL       | 10       | withheld_secondary |
    """
    thresholds = Thresholds.from_rule(rule)
    earlier = _with_release_numbers(earlier)
    rates = _with_listed_providers(rates, thresholds, earlier)
    parts: list[pd.DataFrame] = []
    earlier_by_period = {} if earlier is None else dict(iter(earlier.groupby(PERIOD, sort=False)))
    releases = _published_periods(earlier)
    for key, period in rates.groupby(PERIOD, sort=True):
        england = period[period["area_type"] == "england"]
        earlier_of_period = earlier_by_period.get(key)
        # If an earlier release shows the same records under another reading or revision, or in a period of another length,
        # readers could compare that table with this one.
        overlaps = any(
            _same_records(shown, key) and (shown[3:] != key[3:] or key not in periods)
            for periods, periods_with_counts in releases
            for shown in periods_with_counts - {key}
        )
        # The same is true of areas of another version, because each overlaps several areas of this one.
        other_version = earlier_of_period is not None and _versions(earlier_of_period) | _versions(period) != _versions(
            period
        )
        for is_provider in (False, True):
            areas = period[(period["area_type"] != "england") & ((period["area_type"] == "provider") == is_provider)]
            if not areas.empty:
                table = _Table.build(areas, parents, england, earlier_of_period, thresholds)
                parts.append(table.suppress(everything=overlaps or (other_version and not is_provider)))
    national = rates[rates["area_type"] == "england"].rename(
        columns={"activity": "national_events", "standardised_rate": "national_rate"}
    )
    columns = [*PERIOD, *AREA, "activity", "in_scope", "status", "population", "expected"]
    counts = (pd.concat(parts, ignore_index=True) if parts else rates.iloc[:0].assign(status=""))[columns]
    counts = counts.merge(national[[*PERIOD, "national_events", "national_rate"]], on=PERIOD, how="left")
    # With so few events, even rounded expected events of all areas would narrow down the sex and age of the patients.
    counts["expected"] = counts["expected"].where(counts["national_events"] >= LEAST_EXPECTED)
    return SuppressedCounts(counts)


def _with_release_numbers(earlier: pd.DataFrame | None) -> pd.DataFrame | None:
    """``earlier`` with the column ``released`` (0 if it is missing). None if there are no rows."""
    if earlier is None or earlier.empty:
        return None
    return earlier if "released" in earlier else earlier.assign(released=0)


def _with_listed_providers(rates: pd.DataFrame, rule: Thresholds, earlier: pd.DataFrame | None) -> pd.DataFrame:
    """The rates with one row for each listed provider in every period of a policy, and without other providers.

    A provider is listed if its count in scope is larger than a small count in any period of the policy, or if it has a row
    in a release that is kept. Counts are 0 where a listed provider has no records. If rows appeared and disappeared with a
    provider's records, they would show when it had some.
    """
    is_provider = rates["area_type"] == "provider"
    large = rates[is_provider & (rates["in_scope"] > rule.high)]
    names = ["policy_id", "area_code"]
    listed = [large[names]]
    if earlier is not None:
        listed.append(earlier.loc[earlier["area_type"] == "provider", names])
    listed_providers = pd.concat(listed).drop_duplicates()
    periods = rates.drop_duplicates(PERIOD)[[*PERIOD, *(["geography"] if "geography" in rates else [])]]
    every = periods.merge(listed_providers, on="policy_id").assign(area_type="provider")
    rows = every.merge(rates[is_provider].drop(columns="geography", errors="ignore"), on=[*PERIOD, *AREA], how="left")
    rows = rows.fillna({"activity": 0, "in_scope": 0})
    areas = rates[~is_provider]
    return pd.concat([areas, rows[areas.columns]], ignore_index=True) if len(rows) else areas


def _versions(rates: pd.DataFrame) -> set[str]:
    """The versions of the areas in ``rates``."""
    return set(rates["geography"].dropna()) if "geography" in rates else set()


def _published_periods(earlier: pd.DataFrame | None) -> list[tuple[set[tuple[Any, ...]], set[tuple[Any, ...]]]]:
    """For each earlier release: the keys of its periods below England, and of those where it shows a count of an area."""
    if earlier is None:
        return []
    areas = earlier[earlier["area_type"] != "england"]

    def keys(rows: pd.DataFrame) -> set[tuple[Any, ...]]:
        return {tuple(row) for row in rows[PERIOD].drop_duplicates().to_numpy()}

    return [(keys(rows), keys(rows[rows["activity"].notna()])) for _, rows in areas.groupby("released", sort=True)]


def _same_records(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two keys of :data:`PERIOD` are of the same policy and have a year in common."""
    ends = [int(str(key[3])[:4]) for key in (one, other)]
    return bool(one[0] == other[0] and max(ends[0] - one[4], ends[1] - other[4]) < min(ends))


@dataclass
class _Table:
    """One period of one breakdown of England.

    ``areas`` are in the order of the nodes of ``tree``. Node 0 is England, and the last node has the records in no area.
    ``measures`` are the counts to be published, and ``earlier`` what earlier releases published, the oldest first.
    """

    areas: pd.DataFrame
    tree: Tree
    rule: Thresholds
    measures: dict[str, Measure]
    earlier: list[PublishedState]
    unchanged: pd.DataFrame | None  # the rows of the latest release, if England's figures have not changed since

    @classmethod
    def build(
        cls,
        areas: pd.DataFrame,
        parents: Parents,
        england: pd.DataFrame,
        earlier: pd.DataFrame | None,
        rule: Thresholds,
    ) -> "_Table":
        """Build the tree, the counts and the earlier states from frames as in :func:`suppressed_counts`."""
        codes = list(zip(areas["area_type"], areas["area_code"], strict=True))
        known_codes = set(codes)

        def depth(code: tuple[str, str]) -> int:
            above = parents.get(code)
            return 1 + depth(above) if above in known_codes else 1  # type: ignore[arg-type]

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
        states: list[PublishedState] = []
        unchanged = None
        # Without England's figures a reader cannot know how a count can have changed.
        for _, release in earlier.groupby("released", sort=True) if earlier is not None and national else ():
            nation = release[release["area_type"] == "england"]
            if nation.empty:
                continue
            breakdown = release[release["area_type"].eq("provider") == bool(areas["area_type"].eq("provider").all())]
            rows = breakdown.set_index(AREA).reindex(pd.MultiIndex.from_frame(areas[AREA]))
            state = _state(rows, nation, breakdown["rule"].dropna(), rule)
            if state is not None and not (states and _equal(states[-1], state)):
                states.append(state)
            same_figures = all(float(nation[name].iloc[0]) == float(england[name].iloc[0]) for name in MEASURES)
            unchanged = rows if same_figures else None
        return cls(areas, tree, rule, measures, states, unchanged)

    def suppress(self, *, everything: bool) -> pd.DataFrame:
        """The areas with their counts as published. ``everything``: suppress every count below England."""
        all_suppressed = np.full(len(self.tree), ANY)
        all_suppressed[0] = SHOWN
        if everything:
            chosen = dict.fromkeys(MEASURES, all_suppressed)
        else:
            activity, in_scope = (self.measures[name] for name in MEASURES)
            # Suppression of the records in scope is not chosen yet, but their small cells will be suppressed in any case.
            partner = self._partner(in_scope, all_suppressed, self.rule.is_small(in_scope.counts), (0.0, NO_BOUND))
            flagged = choose_suppression(activity, [[partner], *self._earlier_partners("activity")])
            partner = self._partner(activity, flagged, activity.must_keep_values(flagged), (-NO_BOUND, 0.0))
            scoped = choose_suppression(in_scope, [[partner], *self._earlier_partners("in_scope")])
            choices = [(flagged, scoped), (flagged, all_suppressed), (all_suppressed, all_suppressed)]
            chosen = next(
                choice
                for choice in (dict(zip(MEASURES, states, strict=True)) for states in choices)
                if choice["activity"] is all_suppressed or self._is_safe(choice, all_suppressed)
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

    def _partner(
        self, measure: Measure, state: NDArray[np.int64], suppressed: NDArray[np.bool_], difference: tuple[float, float]
    ) -> Partner:
        """The other count of this release, as a partner in choosing what is suppressed."""
        suppressed = suppressed.copy()
        suppressed[0] = False
        return Partner(measure.known(state), suppressed, difference, float(measure.counts[-1]))

    def _earlier_partners(self, name: str) -> Iterator[list[Partner]]:
        """What each earlier release says about a count, and how the count can have changed since, in several forms.

        A reader assumes that between two releases records were only added or only removed, depending on how England's
        figures changed.
        """
        measure = self.measures[name]
        added = removed = 0.0
        latest = float(measure.counts[0])
        for state in reversed(self.earlier):
            change, latest = latest - state.england[name], state.england[name]
            added, removed = added + max(change, 0.0), removed + max(-change, 0.0)
            yield [
                Partner(bounds, state.suppressed[name], (-added, removed), elsewhere)
                for bounds in (state.strict[name], state.bounds[name])
                # The number of records in no area is assumed to be the same as now, or unknown.
                for elsewhere in (float(measure.counts[-1]), None)
            ]

    def _is_safe(self, chosen: dict[str, NDArray[np.int64]], all_suppressed: NDArray[np.int64]) -> bool:
        """Whether this choice can be published, given what all earlier releases say."""
        shows_nothing = all(np.array_equal(chosen[name][1:-1], all_suppressed[1:-1]) for name in MEASURES)
        if not self.earlier or shows_nothing or self._repeats_latest(chosen):
            return True

        def published_state(cells: dict[str, NDArray[np.int64]]) -> PublishedState:
            known = {name: self.measures[name].known(cells[name]) for name in MEASURES}
            suppressed = {name: self.measures[name].must_keep_values(chosen[name]) for name in MEASURES}
            england = {name: float(self.measures[name].counts[0]) for name in MEASURES}
            return PublishedState(england, known, known, suppressed)

        blind = published_state(dict.fromkeys(MEASURES, all_suppressed))
        return keeps_possible_values(self.tree, self.earlier, published_state(chosen), blind, self.rule)

    def _repeats_latest(self, chosen: dict[str, NDArray[np.int64]]) -> bool:
        """Whether this choice publishes exactly what the latest release shows."""
        if self.unchanged is None:
            return False
        small = (self.unchanged["status"] == STATUS[SMALL]).to_numpy()
        return bool((small == (chosen["activity"][1:-1] == SMALL)).all()) and all(
            np.array_equal(
                np.where(chosen[name] == SHOWN, self.rule.rounded(self.measures[name].counts), np.nan)[1:-1],
                self.unchanged[name].to_numpy(float),
                equal_nan=True,
            )
            for name in MEASURES
        )


def _state(rows: pd.DataFrame, nation: pd.DataFrame, rules: pd.Series, rule: Thresholds) -> PublishedState | None:
    """What an earlier release says about a table. None if it has no row of any of the areas.

    ``rows`` are its rows in the order of the areas. All values are NaN where it has no row of an area. ``nation`` is its row of
    England. ``rules`` are its thresholds, and ``rule`` is used where these are not known.
    """
    thresholds = next((item for item in rules if isinstance(item, Thresholds)), rule)
    if rows["status"].isna().all():
        return None
    absent = rows["status"].isna().to_numpy()
    bounds, strict, suppressed, england = {}, {}, {}, {}
    for name in MEASURES:
        published = rows[name].to_numpy(float)
        low, high = thresholds.possible_counts(np.nan_to_num(published))
        missing = np.isnan(published) & ~absent
        small = missing & (rows["status"] == "withheld_small").to_numpy() & (name == "activity")
        low = np.where(missing, np.where(small, thresholds.low, 0.0), low)
        high = np.where(missing, np.where(small, thresholds.high, NO_BOUND), high)
        england[name] = total = float(nation[name].iloc[0])
        # A provider without a row has no records (in earlier versions), or too few to be listed.
        few = np.where(absent, float(thresholds.high), high)
        bounds[name] = np.array([total, *low, 0.0]), np.array([total, *few, NO_BOUND])
        none = np.where(absent, 0.0, high)
        # In earlier versions a provider had a row only if it had a record in scope, so a provider with a row has at least 1.
        rows_only_with_records = (
            name == "in_scope" and absent.size and not (published == 0).any() and _all_providers(rows)
        )
        least = np.where(~absent & (low == 0), 1.0, low) if rows_only_with_records else low
        strict[name] = np.array([total, *least, 0.0]), np.array([total, *none, NO_BOUND])
        suppressed[name] = np.array([False, *(missing | absent), False])
    return PublishedState(england, bounds, strict, suppressed)


def _all_providers(rows: pd.DataFrame) -> bool:
    return bool((rows.index.get_level_values("area_type") == "provider").all())


def _equal(one: PublishedState, other: PublishedState) -> bool:
    return all(
        one.england[name] == other.england[name]
        and np.array_equal(one.bounds[name], other.bounds[name])
        and np.array_equal(one.suppressed[name], other.suppressed[name])
        for name in MEASURES
    )


def suppressed_variation(areas: pd.DataFrame, rule: dict[str, Any], min_national_events: int) -> pd.DataFrame:
    """How areas vary, for each :data:`PERIOD` and type of area, calculated from published figures only.

    ``areas`` has rows with ``activity`` as published (missing where suppressed), ``status``, ``population``, ``expected`` events,
    and England's ``national_rate`` and ``national_events``. A figure is given only where it is the same for all possible values of
    the suppressed cells, so that it reveals nothing about them. For three boards, two of which have rates of 10 and 20:

    | third board        | → areas | areas_with_activity | p10  | p50  | p90  | n_fold | status             |
    |--------------------|---------|---------------------|------|------|------|--------|--------------------|
    | a rate of 30       | 3       | 3                   | 12.0 | 20.0 | 28.0 | 2.3    | ok                 |
    | withheld_small     | 3       | 3                   | None | 10.0 | 18.0 | None   | withheld_secondary |
    | withheld_secondary | 3       | None                | None | None | None | None   | withheld_secondary |
    """
    rows = []
    chosen = areas[areas["area_type"].isin(AREA_TYPES)]
    for key, group in chosen.groupby([*PERIOD, "area_type"], sort=True):
        have_people = group["population"].notna()
        spread: dict[str, Any] = {"areas": int(have_people.sum()), "status": "not_calculated"}
        if have_people.all():  # otherwise the areas with a population are not the whole of England
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
    # An area without events has a rate of 0, whatever its expected events are.
    per_event = np.where(events == 0, 0.0, per_event)
    least = np.where(small, rule["withhold"]["from"], np.where(unknown, 0.0, events)) * per_event
    ceiling = NO_BOUND if np.isnan(national) else national
    most = np.where(small, rule["withhold"]["to"], np.where(unknown, ceiling, events)) * per_event
    active = small | (events > 0)
    enough = national >= min_national_events
    result: dict[str, Any] = {
        "areas": len(group),
        "areas_with_activity": None if unknown.any() else int(active.sum()),
    }
    # If zeros may be among the suppressed cells, it is not known which areas have activity.
    chosen = active if not unknown.any() else np.zeros(len(group), dtype=bool)
    for prefix, where in (("", chosen), ("all_areas_", np.ones(len(group), dtype=bool))):
        result |= dict(zip(_points(prefix), _certain_percentiles(least[where], most[where]), strict=True))
    p10, p25, p90 = result["p10"], result["p25"], result["p90"]
    result["n_fold"] = p90 / p10 if p10 and p90 is not None else None
    above = None if p25 is None else [np.maximum(0, end - p25) @ people / PER for end in (least, most)]
    certain = enough and above is not None and bool(above[0] == above[1])
    result["opportunity"] = float(above[0]) if above is not None and certain else None
    result["opportunity_share"] = result["opportunity"] / national if certain else None
    hidden = bool(unknown.any() or small.any())
    result["status"] = "ok" if certain else "withheld_secondary" if enough and hidden else "not_calculated"
    return result


def _certain_percentiles(least: Numbers, most: Numbers) -> Iterable[float | None]:
    """The percentiles that are equal for the smallest and the largest values, None for others.

    A percentile never falls when a value rises, so it is then the same for all values in between.
    """
    if not len(least) or np.isnan(least).any():
        return [None] * len(SHARES)
    ends = np.percentile(least, SHARES), np.percentile(most, SHARES)
    return [float(low) if low == high else None for low, high in zip(*ends, strict=True)]


def parents_of(hierarchy: dict[str, dict[str, str]]) -> Parents:
    """The area that each sub-ICB location and ICB is a part of, from the rows of ``conf/reference/areas.csv``."""
    above: Parents = {}
    for row in hierarchy.values():
        above[("sub_icb", row["sub_icb_code"])] = ("icb", row["icb_code"])
        above[("icb", row["icb_code"])] = ("region", row["region_code"])
    return above
