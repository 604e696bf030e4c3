"""An attack on published tables that knows nothing of how they were protected: integer programming over all that is shown.

Everything that a reader has is written down as linear constraints on the unknown counts; the solver then says which values
a withheld cell can still have.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix

from ebi_spark.statistics.agreement import cohens_kappa
from ebi_spark.statistics.stratified import CellCounts, share

SMALL = range(1, 8)
HUGE = 100_000


@dataclass
class Knowledge:
    """Unknown whole numbers by name, their bounds, and linear constraints on them."""

    index: dict[tuple[str, ...], int] = field(default_factory=dict)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)
    limits: LinearConstraint | None = None
    # Numbers that agree with everything.
    found: list[np.ndarray] = field(default_factory=list)

    def number(self, *name: str) -> int:
        if name not in self.index:
            self.index[name] = len(self.low)
            self.low.append(0)
            self.high.append(HUGE)
        return self.index[name]

    def between(self, variable: int, low: float, high: float) -> None:
        self.low[variable] = max(self.low[variable], low)
        self.high[variable] = min(self.high[variable], high)

    def constrain(self, terms: Iterable[tuple[int, float]], low: float, high: float) -> None:
        row: dict[int, float] = {}
        for variable, factor in terms:
            row[variable] = row.get(variable, 0.0) + factor
        self.rows.append((row, low, high))

    def reach(self, variable: int) -> tuple[int, int]:
        """The least and the greatest value that a number can have; (1, 0) where everything together is impossible."""
        ends = []
        for sign in (1, -1):
            goal = np.zeros(len(self.low))
            goal[variable] = sign
            found = self._numbers(goal)
            if found is None:
                return 1, 0
            ends.append(int(found[variable]))
        return ends[0], ends[1]

    def spans(self, variable: int, low: float, high: float) -> bool:
        """Whether a number can be ``low`` or less, and can be ``high`` or more. Much quicker than :meth:`reach`: any numbers
        that agree with everything will do, and those found before are looked at first."""
        for number, (least, most) in enumerate(((-np.inf, low), (high, np.inf))):
            seen = [found[variable] <= low if number == 0 else found[variable] >= high for found in self.found]
            if not any(seen) and self._numbers(np.zeros(len(self.low)), {variable: (least, most)}) is None:
                return False
        return True

    def _numbers(self, goal: np.ndarray, within: Mapping[int, tuple[float, float]] | None = None) -> np.ndarray | None:
        """All numbers, where they agree with everything and make the goal least; None where nothing agrees."""
        low, high = np.array(self.low, float), np.array(self.high, float)
        for variable, (least, most) in (within or {}).items():
            low[variable], high[variable] = max(low[variable], least), min(high[variable], most)
        if (low > high).any():
            return None
        if self.limits is None:
            entries = [(n, column, value) for n, (row, _, _) in enumerate(self.rows) for column, value in row.items()]
            at, columns, values = zip(*entries, strict=True)
            matrix = csr_matrix((values, (at, columns)), shape=(len(self.rows), len(low)))
            self.limits = LinearConstraint(matrix, [row[1] for row in self.rows], [row[2] for row in self.rows])
        solved = milp(goal, constraints=self.limits, bounds=Bounds(low, high), integrality=np.ones(len(low)))
        if not solved.success:
            return None
        self.found.append(np.round(solved.x))
        return self.found[-1]


def narrower(attack: Knowledge, blind: Knowledge, name: tuple[str, ...], small: Sequence[int] = SMALL) -> str | None:
    """What a withheld number can be, where that is less than every small value that it could have if only England's figures
    were published (``blind``); None where it can be all of them. The attack knows all that ``blind`` knows, and more."""
    if attack.spans(attack.index[name], min(small), max(small)):
        return None
    if blind.spans(blind.index[name], min(small), max(small)):
        wanted = min(small), max(small)
    else:
        low, high = blind.reach(blind.index[name])
        wanted = low, min(high, max(small))
    least, most = attack.reach(attack.index[name])
    if wanted[0] <= wanted[1] and (least > wanted[0] or most < wanted[1]):
        return f"{least} to {most}, not {wanted[0]} to {wanted[1]}"
    return None


def possible_counts(shown: float, step: int = 5, small: Sequence[int] = SMALL) -> tuple[float, float]:
    """The counts that are published as a value, by trying each."""
    could = [n for n in range(int(shown) + step + 1) if n not in small and int((n + step / 2) // step) * step == shown]
    return min(could), max(could)


def read(
    knowledge: Knowledge,
    table: pd.DataFrame,
    parents: dict[tuple[str, str], tuple[str, str]],
    release: str = "",
    unknown: dict[str, int] | None = None,
    step: int = 5,
    small: Sequence[int] = SMALL,
) -> None:
    """Add what one release says of one policy and period. ``unknown``: the records without an area, where these are known."""
    areas = table[table["area_type"] != "england"]
    england = table[table["area_type"] == "england"].iloc[0]
    codes = list(zip(areas["area_type"], areas["area_code"], strict=True))
    for measure in ("activity", "in_scope"):
        for code, (_, row) in zip(codes, areas.iterrows(), strict=True):
            cell = knowledge.number(release, measure, *code)
            if pd.notna(row[measure]):
                knowledge.between(cell, *possible_counts(row[measure], step, small))
            elif measure == "activity" and row["status"] == "withheld_small":
                knowledge.between(cell, min(small), max(small))
        whole, parts = {}, {}
        for code in codes:
            root = code[0] if code[0] == "provider" else "areas"
            above = parents.get(code)
            parts.setdefault(above if above in codes else root, []).append(knowledge.number(release, measure, *code))
        for above, children in parts.items():
            if isinstance(above, tuple):
                terms = [(knowledge.number(release, measure, *above), -1.0), *((child, 1.0) for child in children)]
                knowledge.constrain(terms, 0, 0)
            else:
                whole[above] = children
        whole.setdefault("areas", [])
        for root, children in whole.items():
            nowhere = knowledge.number(release, measure, root, "unknown")
            if unknown is not None and root == "areas":
                knowledge.between(nowhere, unknown[measure], unknown[measure])
            total = float(england[measure])
            knowledge.constrain([(nowhere, 1.0), *((child, 1.0) for child in children)], total, total)
    for name in [key for key in knowledge.index if key[:2] == (release, "activity")]:
        scope = knowledge.number(release, "in_scope", *name[2:])
        knowledge.constrain([(scope, 1.0), (knowledge.index[name], -1.0)], 0, HUGE)


def narrowed(
    table: pd.DataFrame,
    parents: dict[tuple[str, str], tuple[str, str]],
    before: pd.DataFrame | None = None,
    unknown: dict[str, int] | None = None,
    step: int = 5,
    small: Sequence[int] = SMALL,
    truth: pd.DataFrame | None = None,
    years: Sequence[pd.DataFrame] = (),
) -> list[str]:
    """The withheld cells that cannot have every small value any more, though they could if only England were published.

    ``years``: what is published of the single years that ``table`` pools. ``truth``: also attack what is in scope, where the cells that matter are those that are small in truth (no status tells).
    """
    attack, blind = Knowledge(), Knowledge()
    for knowledge, seen_by in ((attack, lambda shown: shown), (blind, _england_alone)):
        read(knowledge, seen_by(table), parents, "now", unknown, step, small)
        for number, year in enumerate(years):
            read(knowledge, seen_by(year), parents, f"year {number}", None, step, small)
        if years:
            _pool(knowledge, len(years))
        if before is not None:
            read(knowledge, before, parents, "before", None, step, small)
            _link(knowledge, before, table)
    found = []
    of_years = [(f"year {number}", year) for number, year in enumerate(years)]
    for release, shown in (("now", table), *of_years, *((("before", before),) if before is not None else ())):
        for measure in ("activity", "in_scope"):
            hidden = shown[(shown["area_type"] != "england") & shown[measure].isna()]
            if measure == "in_scope":
                if truth is None or release != "now":
                    continue
                few = truth[truth["in_scope"].isin(small)].set_index(["area_type", "area_code"]).index
                hidden = hidden[pd.MultiIndex.from_frame(hidden[["area_type", "area_code"]]).isin(few)]
            for code in zip(hidden["area_type"], hidden["area_code"], strict=True):
                less = narrower(attack, blind, (release, measure, *code), small)
                if less:
                    found.append(f"{release} {measure} {code}: {less}")
    return found


def narrowed_over(
    releases: Sequence[pd.DataFrame],
    truths: Sequence[pd.DataFrame],
    parents: dict[tuple[str, str], tuple[str, str]],
) -> list[str]:
    """The withheld cells, of any of several releases in the order of time, that the last one narrows.

    A provider without a row counts as one published with 0 where the releases allow for that, else as one that may have up to the
    greatest small count. Releases that contradict one another, as when records move, tell nothing together: the oldest are left out. ``truths``: of what is in scope, and of what is in no area, the cells that matter are those that
    are small in truth.
    """
    newest = len(releases) - 1
    for oldest, absent in [(oldest, absent) for oldest in range(len(releases)) for absent in (0, max(SMALL))]:
        attack, blind = Knowledge(), Knowledge()
        for knowledge in (attack, blind):
            for number in range(oldest, len(releases)):
                release, last = releases[number], number == newest
                seen = _england_alone(release) if knowledge is blind and last else release
                read(knowledge, seen, parents, f"release {number}")
            _add_absent(knowledge, releases, oldest, absent)
            for number in range(oldest, newest):
                _link(knowledge, releases[number], releases[number + 1], f"release {number}", f"release {number + 1}")
        if attack.reach(0) != (1, 0):
            break
    found = []
    for release, measure, *code in attack.index:
        number = int(release.split()[1])
        if not _small_or_withheld(releases[number], truths[number], measure, tuple(code)):
            continue
        less = narrower(attack, blind, (release, measure, *code))
        if less:
            found.append(f"{release} {measure} {code}: {less}")
    return found


def _small_or_withheld(shown: pd.DataFrame, truth: pd.DataFrame, measure: str, code: tuple[str, ...]) -> bool:
    """Whether a cell is one that has to keep its values."""
    if code[-1] == "unknown":
        kind = "provider" if code[0] == "provider" else "region"
        inside = truth.loc[truth["area_type"] == kind, measure].sum()
        return truth.loc[truth["area_type"] == "england", measure].iloc[0] - inside in SMALL
    row = shown[(shown["area_type"] == code[0]) & (shown["area_code"] == code[1])]
    if measure == "activity":
        return bool(row[measure].isna().any())
    true = truth.loc[(truth["area_type"] == code[0]) & (truth["area_code"] == code[1]), measure]
    return bool(row[measure].isna().any() and true.isin(SMALL).any())


def _add_absent(knowledge: Knowledge, releases: Sequence[pd.DataFrame], oldest: int, most: int) -> None:
    """Providers that have a row in some release and none in another."""
    codes = {code for release in releases for code in release.loc[release["area_type"] == "provider", "area_code"]}
    for number, release in enumerate(releases):
        if number < oldest:
            continue
        there = set(release.loc[release["area_type"] == "provider", "area_code"])
        for measure in ("activity", "in_scope"):
            absent = [
                knowledge.number(f"release {number}", measure, "provider", code) for code in sorted(codes - there)
            ]
            for cell in absent:
                knowledge.between(cell, 0, most)
            total = float(release.loc[release["area_type"] == "england", measure].iloc[0])
            cells = [
                cell
                for name, cell in knowledge.index.items()
                if name[:3] == (f"release {number}", measure, "provider") and name[3] != "unknown"
            ]
            nowhere = knowledge.number(f"release {number}", measure, "provider", "unknown")
            if absent:
                # The sum that `read` wrote down left them out.
                knowledge.rows = [row for row in knowledge.rows if nowhere not in row[0]]
                knowledge.constrain([(nowhere, 1.0), *((cell, 1.0) for cell in cells)], total, total)


# What a release shows of one-way tables: the count of each class by table, None where it is withheld.
Shown = Mapping[str, Mapping[str, float | None]]


def narrowed_classes(
    releases: Sequence[Shown],
    truths: Sequence[Mapping[str, Mapping[str, int]]],
    *,
    at_most: Sequence[tuple[tuple[str, str], tuple[str, str]]] = (),
    sums: Sequence[tuple[tuple[str, str], Sequence[tuple[str, str]]]] = (),
    known_sums: Sequence[tuple[str, Sequence[str]]] = (),
    exact: bool = False,
) -> list[str]:
    """The withheld small classes of one-way tables, of any release, that cannot have every small value any more, though they
    could if the last release showed its total only.

    Each table splits the same records, whose number is published elsewhere. ``at_most``: (table, class) that cannot be more than
    another one, such as what is seen in 3 and in 6 months. ``sums``: (table, class) that is the sum of others. ``known_sums``: classes of a table whose sum is known too. ``exact``:
    the reader knows each shown count as it is, not rounded. Between two releases records were only added or only removed.
    """
    attack, blind = Knowledge(), Knowledge()
    last = len(releases) - 1
    for knowledge in (attack, blind):
        for number, (release, truth) in enumerate(zip(releases, truths, strict=True)):
            unseen = knowledge is blind and number == last
            for table, classes in release.items():
                cells = {name: knowledge.number(str(number), table, name) for name in classes}
                total = sum(truth[table].values())
                knowledge.constrain([(cell, 1.0) for cell in cells.values()], total, total)
                for name, count in classes.items():
                    if count is not None and not unseen:
                        true = truth[table][name]
                        knowledge.between(cells[name], *((true, true) if exact else possible_counts(count)))
            for table, names in known_sums:
                total = sum(truth[table][name] for name in names)
                knowledge.constrain([(knowledge.number(str(number), table, name), 1.0) for name in names], total, total)
            for whole, parts in sums:
                terms = [(knowledge.number(str(number), *whole), -1.0)]
                terms += [(knowledge.number(str(number), *part), 1.0) for part in parts]
                knowledge.constrain(terms, 0, 0)
            for smaller, larger in at_most:
                cells_of = [knowledge.number(str(number), *name) for name in (smaller, larger)]
                knowledge.constrain([(cells_of[1], 1.0), (cells_of[0], -1.0)], 0, HUGE)
            if number:
                table = next(iter(truth))
                change = sum(truth[table].values()) - sum(truths[number - 1][table].values())
                for table, classes in release.items():
                    for name in classes:
                        pair = [knowledge.number(str(at), table, name) for at in (number, number - 1)]
                        knowledge.constrain([(pair[0], 1.0), (pair[1], -1.0)], min(change, 0), max(change, 0))
    found = []
    for number, (release, truth) in enumerate(zip(releases, truths, strict=True)):
        for table, classes in release.items():
            for name, count in classes.items():
                if count is not None or truth[table][name] > max(SMALL):
                    continue
                less = narrower(attack, blind, (str(number), table, name))
                if less:
                    found.append(f"release {number} {table} {name}: {less}")
    return found


@dataclass
class Strata:
    """What published rates say of England's events by sex and age: a linear program over all strata.

    ``shares``: of each area (a row), its part of England's people of each stratum. ``table`` has ``expected``,
    ``standardised_rate`` and ``activity`` of the areas as published, ``national`` England's events and rate; ``weights``
    makes England's rate of its events by stratum.
    """

    shares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    total: float

    @classmethod
    def read(
        cls, shares: np.ndarray, table: pd.DataFrame, total: float, weights: np.ndarray, national: dict[str, float]
    ) -> "Strata":
        given = table["expected"].to_numpy(float)
        again = table["activity"].to_numpy(float) * national["rate"] / table["standardised_rate"].to_numpy(float)
        # What a rate gives back is no more than the expected that is published.
        both = ~np.isnan(again) & ~np.isnan(given) & (table["activity"] > 0).to_numpy()
        assert np.allclose(again[both], given[both], rtol=1e-9)
        half = np.where(given < 10, 0.25, 0.5)
        low, high = np.where(np.isnan(given), 0, given - half), np.where(np.isnan(given), np.inf, given + half)
        unit = national["unit"] / 2
        rates = [national["rate"] - unit, national["rate"] + unit]
        return cls(np.vstack([shares, weights]), np.append(low, rates[0]), np.append(high, rates[1]), total)

    def _found(self, goal: np.ndarray, low: np.ndarray, high: np.ndarray, total: float) -> float | None:
        limits = [LinearConstraint(self.shares, low, high), LinearConstraint(np.ones(len(goal)), total, total)]
        found = milp(goal, constraints=limits, bounds=Bounds(0, np.inf))
        return float(found.fun) if found.success else None

    def width(self, stratum: int) -> float:
        """How far apart the least and the greatest number of events of a stratum are."""
        goal = np.zeros(self.shares.shape[1])
        goal[stratum] = 1
        ends = [self._found(sign * goal, self.low, self.high, self.total) for sign in (1, -1)]
        assert ends[0] is not None and ends[1] is not None
        return -ends[1] - ends[0]

    def of_one_more(self, after: "Strata") -> list[int]:
        """The strata that can be that of the one record which came between two releases."""
        size = self.shares.shape[1]
        found = []
        for stratum in range(size):
            added = self.shares[:, stratum]
            low, high = np.maximum(self.low, after.low - added), np.minimum(self.high, after.high - added)
            if (low <= high).all() and self._found(np.zeros(size), low, high, self.total) is not None:
                found.append(stratum)
        return found


def _england_alone(table: pd.DataFrame) -> pd.DataFrame:
    national = table["area_type"] == "england"
    nothing = table.assign(**{name: table[name].where(national) for name in ("activity", "in_scope")})
    nothing["status"] = nothing["status"].where(national, "withheld_secondary")
    return nothing


def _pool(knowledge: Knowledge, years: int) -> None:
    """Every count of a pooled period is the sum of those of its years."""
    for name in [key for key in knowledge.index if key[0] == "now"]:
        parts = [(knowledge.number(f"year {number}", *name[1:]), 1.0) for number in range(years)]
        knowledge.constrain([(knowledge.index[name], -1.0), *parts], 0, 0)


def _link(
    knowledge: Knowledge, before: pd.DataFrame, now: pd.DataFrame, then: str = "before", latest: str = "now"
) -> None:
    """Between two releases records were only added, or only removed, as England's figure tells."""
    for measure in ("activity", "in_scope"):
        totals = [frame.loc[frame["area_type"] == "england", measure].iloc[0] for frame in (before, now)]
        change = float(totals[1] - totals[0])
        for name in [key for key in knowledge.index if key[:2] == (latest, measure)]:
            earlier = knowledge.number(then, measure, *name[2:])
            terms = [(knowledge.index[name], 1.0), (earlier, -1.0)]
            knowledge.constrain(terms, min(change, 0), max(change, 0))


@dataclass(frozen=True)
class AuditShown:
    """What a release shows of one share of an audit: figures as in ``published/audit_estimate``, and the records of its group, which
    England's counts of the years show too."""

    row: Mapping[str, Any]
    records: int

    def candidates(self, forms_to: float, most_missing: int) -> set[tuple[int, int, int]]:
        """The (forms, of which counted, without an answer) that would be published like this, for records drawn with one weight.

        ``forms_to``: the multiple to which numbers of forms are rounded. Limits are made by the published methods, which are
        those of the product's own function.
        """
        row, half = self.row, forms_to / 2
        # A group is not shown if 7 or fewer of its records were not read.
        unread = 0 if forms_to < 10 else max(SMALL) + 1
        least, most = int(np.ceil(row["forms"] - half)), min(self.records - unread, int(row["forms"] + half))
        numbers = [
            (n, x, o)
            for n in range(least, most + 1)
            for x in range(8, n - 7)
            if abs(x / n - row["estimate"]) <= unit_of(n, forms_to) / 2 + 1e-9
            for o in range(min(most_missing, self.records - n) + 1)
        ]
        if not numbers:
            return set()
        n, x, o = np.array(numbers).T
        drawn = (n + o)[:, None]
        made = share(CellCounts(np.zeros(1, int), np.array([[self.records]]), drawn, drawn, n[:, None], x[:, None]))
        figures = {"estimate": x / n, "lower": made.lower, "upper": made.upper}
        figures |= {"worst": x / (n + o), "best": (x + o) / (n + o)}
        units = {
            name: np.array(
                [unit_of(forms, forms_to, 1 if name == "estimate" or forms_to < 10 else LIMITS_OF) for forms in n]
            )
            for name in figures
        }
        fits = np.ones(len(n), bool)
        for name, side in (("estimate", 0), ("lower", -1), ("upper", 1), ("worst", -1), ("best", 1)):
            if row[name] is not None:
                unit = units[name]
                parts = figures[name] / unit
                whole = np.round(parts) if side == 0 else np.ceil(parts - 1e-9) if side > 0 else np.floor(parts + 1e-9)
                fits &= np.abs(whole * unit - row[name]) < 1e-6
        census = (n + o == self.records) & (o == 0)
        if row["method"] == "census":
            fits &= census
        else:
            fits &= ~census & (np.asarray(made.few) == (row["method"] == "clopper_pearson"))
        return {(int(a), int(b), int(c)) for a, b, c in np.array(numbers)[fits]}


# Limits, and worst and best cases, are rounded to the effect of so many forms.
LIMITS_OF = 5


def unit_of(forms: int, forms_to: float, effect_of: int = 1) -> float:
    """The unit of a share. Where forms are rounded to 10 it is made of the rounded number."""
    number = forms if forms_to < 10 else int((forms + 5) // 10) * 10
    return next(unit for unit in (0.01, 0.02, 0.05, 0.1, 0.2) if unit * number >= effect_of or unit == 0.2)


def missing_answers(
    releases: Sequence[Mapping[str, AuditShown]],
    *,
    forms_to: float = 10,
    by_row: bool = False,
    corrected: Sequence[Mapping[str, Any] | None] = (),
    most_missing: int = 40,
) -> list[dict[str, set[int]]]:
    """What the number without an answer can be, by release and share, for a reader of all releases.

    Shares whose name begins with ``missed`` are about the records not flagged, all others about the flagged ones; the records drawn
    of each are the same in all releases. No worst and best case means that 7 or fewer have no answer: for this share (``by_row``), or
    for some share of the release. ``corrected``: the figures of the corrected share, by release.
    """
    every = [{name: one.candidates(forms_to, most_missing) for name, one in release.items()} for release in releases]
    drawn: dict[bool, set[int]] = {}
    for release, found in zip(releases, every, strict=True):
        for name, triples in found.items():
            if by_row and release[name].row["worst"] is None:
                triples -= {triple for triple in triples if triple[2] > max(SMALL)}
            if release[name].row["worst"] is not None:
                triples -= {triple for triple in triples if triple[2] <= max(SMALL)}
            side = name.startswith("missed")
            can = {n + o for n, _, o in triples}
            drawn[side] = drawn.get(side, can) & can
    result = []
    for number, found in enumerate(every):
        release = releases[number]
        # Nothing follows where worst and best cases were hidden in a release before.
        hidden = not by_row and any(one.row["worst"] is None for one in release.values())
        hidden &= all(one.row["worst"] is not None for before in releases[:number] for one in before.values())
        sides = {side: [name for name in found if name.startswith("missed") == side] for side in drawn}
        # By number drawn, the triples of each share that fit it.
        fitting = {
            name: {
                size: {triple for triple in triples if triple[0] + triple[2] == size}
                for size in drawn[name.startswith("missed")]
            }
            for name, triples in found.items()
        }
        pairs = None
        if corrected and corrected[number] is not None and {"flagged", "missed"} <= found.keys():
            pairs = _joined(release, found, corrected[number])
        small_on = {
            side: {
                size
                for size in drawn[side]
                if any(o <= max(SMALL) for name in names for _, _, o in fitting[name][size])
            }
            for side, names in sides.items()
        }
        values: dict[str, set[int]] = {}
        for name in found:
            side = name.startswith("missed")
            for size in drawn[side]:
                if not all(fitting[other][size] for other in sides[side]):
                    continue
                elsewhere = any(
                    o <= max(SMALL) for other in sides[side] if other != name for _, _, o in fitting[other][size]
                ) or any(small_on[other] for other in small_on if other != side)
                for triple in fitting[name][size]:
                    if hidden and triple[2] > max(SMALL) and not elsewhere:
                        continue
                    if pairs is not None and name in pairs and triple not in pairs[name]:
                        continue
                    values.setdefault(name, set()).add(triple[2])
        result.append(values)
    return result


def _joined(
    release: Mapping[str, AuditShown], found: Mapping[str, set[tuple[int, int, int]]], corrected: Mapping[str, Any]
) -> dict[str, set[tuple[int, int, int]]]:
    """The triples of both shares that agree with a third figure made of them, England's counts being known."""
    names = ("flagged", "missed")
    lists = [np.array(sorted(found[name])) for name in names]
    weights = [release[name].records for name in names]
    total = sum(weights)
    first, second = (one.astype(float) for one in lists)
    made = {
        "estimate": (first[:, 1] / first[:, 0], second[:, 1] / second[:, 0]),
        "worst": (first[:, 1] / (first[:, 0] + first[:, 2]), second[:, 1] / (second[:, 0] + second[:, 2])),
        "best": tuple((one[:, 1] + one[:, 2]) / (one[:, 0] + one[:, 2]) for one in (first, second)),
    }
    fits = np.ones((len(first), len(second)), bool)
    for name, side in (("estimate", 0), ("worst", -1), ("best", 1)):
        if corrected[name] is not None:
            whole = (weights[0] * made[name][0][:, None] + weights[1] * made[name][1][None, :]) / total
            unit = corrected["unit"] if side == 0 else corrected["unit_of_limits"]
            least, most = {0: (-unit / 2, unit / 2), -1: (0, unit), 1: (-unit, 0)}[side]
            fits &= (whole >= corrected[name] + least - 1e-9) & (whole <= corrected[name] + most + 1e-9)
    if corrected.get("sensitivity") is not None:
        # Without an adjustment for missing answers: each form has the weight N / m.
        right = weights[0] * first[:, 1] / (first[:, 0] + first[:, 2])
        wrong = weights[1] * second[:, 1] / (second[:, 0] + second[:, 2])
        share_of = right[:, None] / (right[:, None] + wrong[None, :])
        fits &= np.abs(share_of - corrected["sensitivity"]) <= corrected["unit"] / 2 + 1e-9
    return {
        name: {tuple(map(int, triple)) for triple in one[fits.any(axis)]}
        for name, one, axis in zip(names, lists, (1, 0), strict=True)
    }


def cells_of_kappa(row: Mapping[str, Any], pairs_to: float = 10) -> dict[str, set[int]]:
    """The numbers of forms read twice on which both say yes, both say no, or the readers differ, that a published kappa allows."""
    found: dict[str, set[int]] = {"yes": set(), "no": set(), "differ": set()}
    unit = unit_of(int(row["forms"]), pairs_to)
    wide = unit_of(int(row["forms"]), pairs_to, 1 if pairs_to < 10 else LIMITS_OF)
    for n in range(max(30, int(np.ceil(row["forms"] - pairs_to / 2))), int(row["forms"] + pairs_to / 2) + 1):
        for differ in range(n + 1):
            for one in {differ // 2, differ}:
                yes = np.arange(n - differ + 1)
                no = n - differ - yes
                first, second = (yes + one) / n, (yes + differ - one) / n
                chance = first * second + (1 - first) * (1 - second)
                with np.errstate(divide="ignore", invalid="ignore"):
                    kappa = (1 - differ / n - chance) / (1 - chance)
                near = np.flatnonzero(np.abs(kappa - row["estimate"]) <= unit / 2 + 1e-9)
                for place in near:
                    counts = {
                        ("y", "y"): int(yes[place]),
                        ("n", "n"): int(no[place]),
                        ("y", "n"): one,
                        ("n", "y"): differ - one,
                    }
                    if row["lower"] is not None:
                        limits = cohens_kappa(counts)
                        if limits.lower is None or limits.upper is None:
                            continue
                        if not (
                            row["lower"] - 1e-6 <= limits.lower <= row["lower"] + wide + 1e-6
                            and row["upper"] - wide - 1e-6 <= limits.upper <= row["upper"] + 1e-6
                        ):
                            continue
                    for name, count in (("yes", yes[place]), ("no", no[place]), ("differ", differ)):
                        found[name].add(int(count))
    return found


def additions(
    releases: Sequence[pd.DataFrame], cells: Mapping[str, Mapping[str, int]], step: int = 5
) -> dict[str, tuple[int, int]]:
    """The least and the greatest number of records that the later of two releases adds to each cell, from rounded numbers.

    ``releases``: ``name`` and ``shown`` of each. ``cells``: each cell as a sum of numbers by name, with their signs. The years
    of the first release are part of those of the second.
    """
    knowledge = Knowledge()
    for number, release in enumerate(releases):
        for name, shown in zip(release["name"], release["shown"], strict=True):
            knowledge.between(knowledge.number(str(number), name), *possible_counts(shown, step, ()))
    for cell, signs in cells.items():
        more = knowledge.number("more", cell)
        sides = ((str(number), -1 if number == 0 else 1) for number in range(2))
        terms = [(knowledge.number(at, name), float(side * sign)) for at, side in sides for name, sign in signs.items()]
        knowledge.constrain([*terms, (more, -1.0)], 0, 0)
    return {cell: knowledge.reach(knowledge.index["more", cell]) for cell in cells}


def hidden_years(
    years: Mapping[str, Mapping[str, float | None]], total: Mapping[str, float], step: int = 5
) -> dict[tuple[str, str], tuple[int, int]]:
    """What the withheld classes of single years can be, if the sum over all years is published: ``years`` have the classes of each
    year, None where withheld, ``total`` those classes of all years together."""
    knowledge = Knowledge()
    for year, classes in years.items():
        for name, shown in classes.items():
            cell = knowledge.number(year, name)
            if shown is not None:
                knowledge.between(cell, *possible_counts(shown, step, ()))
    for name, shown in total.items():
        terms = [(knowledge.number(year, name), 1.0) for year in years]
        knowledge.constrain(terms, *possible_counts(shown, step, ()))
    return {
        (year, name): knowledge.reach(knowledge.index[year, name])
        for year, classes in years.items()
        for name, shown in classes.items()
        if shown is None and name in total
    }


def narrowed_periods(
    shown: Sequence[Mapping[str, float | None]], by_year: Sequence[Mapping[str, int]], years: int
) -> list[str]:
    """The withheld small classes of rolling periods of so many ``years`` that cannot have every small value, though they could if the
    last period showed its total only. ``shown``: the classes of each period, beginning one year after another; a number is known
    exactly. ``by_year``: the true counts of each year, whose sums over all classes are published."""
    attack, blind = Knowledge(), Knowledge()
    last = len(shown) - 1
    for knowledge in (attack, blind):
        for year, classes in enumerate(by_year):
            cells = [(knowledge.number(f"year {year}", name), 1.0) for name in classes]
            knowledge.constrain(cells, sum(classes.values()), sum(classes.values()))
        for period, classes in enumerate(shown):
            for name, count in classes.items():
                cell = knowledge.number(f"period {period}", name)
                parts = [(knowledge.number(f"year {period + more}", name), 1.0) for more in range(years)]
                knowledge.constrain([*parts, (cell, -1.0)], 0, 0)
                if count is not None and not (knowledge is blind and period == last):
                    true = sum(by_year[period + more][name] for more in range(years))
                    knowledge.between(cell, true, true)
    found = []
    for period, classes in enumerate(shown):
        for name, count in classes.items():
            true = sum(by_year[period + more][name] for more in range(years))
            if count is None and true <= max(SMALL):
                less = narrower(attack, blind, (f"period {period}", name))
                if less:
                    found.append(f"period {period} {name}: {less}")
    return found
