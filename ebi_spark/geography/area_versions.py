"""How areas change over time: which codes are valid on a day, and which area each code is on the version that a run shows.

A version is the set of areas that England had on one day. The shipped tables begin with the clinical commissioning groups
(CCGs) of April 2021. A user's mappings can describe earlier changes, or replace a shipped one. Areas change on a few days
only, and between two of these a code always means the same area. To find the area of the version, a code is followed
through each day of change, forwards or backwards. Where an area was split, shares say how much of it went to each part.
Shipped shares count small areas (LSOAs), not people, so figures that rest on them are marked as estimates.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path

from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.financial_years import end_of, start_of
from ebi_spark.small_files import read_rows

CURRENT = "current"
SPLIT_ESTIMATE = "split_estimate"
UNMAPPED_PART = "unmapped_part"
UNMAPPED, NOT_VALID = "unmapped", "not_valid_on_date"
WHOLE = 1 - 1e-9
_SHARES_ROUNDED = 1e-3  # the shares of one area are rounded in print: their sum may differ from 1 by this much

Interval = tuple[date, date]  # from inclusive, to exclusive


@dataclass(frozen=True)
class Step:
    """On the day ``on`` a share of ``from_code`` became a part of ``to_code``. ``small_areas`` is the size of that part in
    LSOAs, where it is known."""

    from_code: str
    to_code: str
    on: date
    share: float
    small_areas: float | None = None


@dataclass(frozen=True)
class Span:
    """A code between two days of change, with the areas of the version that it belongs to: none, one, or shares of several."""

    code: str
    since: date
    until: date
    parts: tuple[tuple[str, float], ...]

    @property
    def is_split(self) -> bool:
        """Whether records and people with this code can be placed in one of several areas only by an estimate."""
        return len(self.parts) > 1 or any(share < WHOLE for _, share in self.parts)


@dataclass(frozen=True)
class Geography:
    """One version of England's areas, and how every known code maps to it.

    - ``areas``: the sub-ICB locations of the version (for ``ccg_2021`` the CCGs), each with its row of
      ``conf/reference/areas.csv``.
    - ``valid``: the days on which each code is valid, that is, names an area.
    - ``steps``: all changes of areas, shipped ones and a user's.
    - ``covered_from``: the first day of the shipped tables.
    - ``shipped``: like ``valid``, without the codes that a user's mappings add.
    """

    version: str
    as_of: date
    areas: dict[str, dict[str, str]]
    valid: dict[str, list[Interval]]
    steps: tuple[Step, ...]
    covered_from: date
    shipped: dict[str, tuple[Interval, ...]]

    @cached_property
    def days_of_change(self) -> list[date]:
        """The sorted days on which any code begins, ends or changes."""
        days = {day for intervals in self.valid.values() for interval in intervals for day in interval}
        return sorted(days | {step.on for step in self.steps} | {date.min, date.max})

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """One span for each known code and each stretch between two days of change in which the code is valid."""
        days = self.days_of_change
        return tuple(
            Span(code, since, until, self.map_code(code, since))
            for code in sorted(self.valid)
            for since, until in zip(days, days[1:], strict=False)
            if self.is_valid(code, since)
        )

    @cached_property
    def newest(self) -> dict[str, date]:
        """For each known code, the first day of the newest stretch in which it is valid."""
        return {span.code: span.since for span in sorted(self.spans, key=lambda span: span.since)}

    @cached_property
    def newest_area(self) -> dict[str, str]:
        """For each known code, the area of the version that it belongs to in its newest stretch. Codes that belong to no area
        then, or are split, are left out."""
        last = {span.code: span for span in sorted(self.spans, key=lambda span: span.since)}
        return {code: span.parts[0][0] for code, span in last.items() if span.parts and not span.is_split}

    def is_valid(self, code: str, day: date) -> bool:
        """Whether the code names an area on the day."""
        return any(since <= day < until for since, until in self.valid.get(code, ()))

    def areas_of_england(self, day: date) -> set[str]:
        """The codes of all areas that England had on a day, by the shipped tables; empty for days before these begin."""
        return {
            code for code, intervals in self.shipped.items() if any(since <= day < until for since, until in intervals)
        }

    def covers(self, year: str) -> bool:
        """Whether any code is valid on the first day of the financial year."""
        return any(span.since <= start_of(year) < span.until for span in self.spans)

    def split_areas(self, year: str) -> set[tuple[str, str]]:
        """(type, code) of every area whose figures for the year rest on shares of a split area."""
        found: set[tuple[str, str]] = set()
        for span in self.spans:
            if span.is_split and span.since <= end_of(year) and span.until > start_of(year):
                found |= areas_of_parts(self, [code for code, _ in span.parts])
        return found

    @cached_property
    def mapped_days(self) -> dict[str, Interval]:
        """For each area of the version, the days between the first and the last on which any code maps to it or a part of it."""
        found: dict[str, Interval] = {}
        for span in self.spans:
            for area, _ in span.parts:
                since, until = found.get(area, (span.since, span.until))
                found[area] = min(since, span.since), max(until, span.until)
        return found

    def map_code(self, code: str, day: date) -> tuple[tuple[str, float], ...]:
        """The areas of the version that a code belongs to, given its meaning on ``day``: (area, share) sorted by area. Empty
        where the code is not valid on the day, or where the tables do not say what became of it."""
        parts = {code: 1.0} if self.is_valid(code, day) else {}
        forwards = [change for change in self.days_of_change if day < change <= self.as_of]
        backwards = [change for change in reversed(self.days_of_change) if self.as_of < change <= day]
        for change in forwards or backwards:
            moved: dict[str, float] = defaultdict(float)
            for old, share in parts.items():
                for new, part in (self._after(old, change) if forwards else self._before(old, change)).items():
                    moved[new] += share * part
            parts = moved
        return tuple(sorted((new, share) for new, share in parts.items() if new in self.areas))

    @cached_property
    def _leaving(self) -> dict[tuple[str, date], list[Step]]:
        found: dict[tuple[str, date], list[Step]] = defaultdict(list)
        for step in self.steps:
            found[(step.from_code, step.on)].append(step)
        return found

    @cached_property
    def _entering(self) -> dict[tuple[str, date], list[Step]]:
        found: dict[tuple[str, date], list[Step]] = defaultdict(list)
        for step in self.steps:
            found[(step.to_code, step.on)].append(step)
        return found

    def _valid_before(self, code: str, day: date) -> bool:
        return any(since < day <= until for since, until in self.valid.get(code, ()))

    def _after(self, code: str, day: date) -> dict[str, float]:
        """The codes, with shares, that a code valid the day before has become on a day of change."""
        steps = self._leaving.get((code, day))
        if steps:
            return {step.to_code: step.share for step in steps}
        return {code: 1.0} if self.is_valid(code, day) else {}

    def _before(self, code: str, day: date) -> dict[str, float]:
        """The codes, with shares, that made up a code the day before a day of change: one, or several if all their sizes are
        known. Empty otherwise."""
        sizes = {step.from_code: step.small_areas for step in self._entering.get((code, day), ())}
        if (code, day) not in self._leaving and self._valid_before(code, day):
            sizes[code] = None
        if len(sizes) == 1:
            return dict.fromkeys(sizes, 1.0)
        whole = sum(size or 0.0 for size in sizes.values())
        if not whole or any(size is None for size in sizes.values()):
            return {}
        return {old: (size or 0.0) / whole for old, size in sizes.items()}


def areas_of_parts(geography: Geography, parts: list[str]) -> set[tuple[str, str]]:
    """(type, code) of the areas that contain the parts of a split area. Includes every sub-ICB location, and ICBs and regions
    only where the parts lie in more than one."""
    found: set[tuple[str, str]] = set()
    for kind in ("sub_icb", "icb", "region"):
        codes = {geography.areas[part][f"{kind}_code"] for part in parts}
        if len(codes) > 1 or kind == "sub_icb":
            found |= {(kind, code) for code in codes}
    return found


def ons_codes() -> dict[str, tuple[str, Interval]]:
    """For each ONS code of a CCG or sub-ICB location: the NHS short code of the same area, and the days on which the code
    belonged to a shipped version. An ONS code changes with the area's boundary, while the short code can stay the same."""
    rows = read_rows(resource("conf", "reference", "area_ons_codes.csv"))
    return {row["ons_code"]: (row["sub_icb_code"], _days_of(row)) for row in rows}


def versions() -> dict[str, date]:
    """The shipped versions, oldest first, each with a day on which its areas were those of England."""
    rows = read_rows(resource("conf", "reference", "geographies.csv"))
    return {row["version"]: date.fromisoformat(row["as_of"]) for row in rows}


def version_on(day: date) -> str:
    """The name of the version that was in use on a day; empty before the first version."""
    rows = read_rows(resource("conf", "reference", "geographies.csv"))
    spans = {row["version"]: _days_of(row) for row in rows}
    return next((version for version, (since, until) in spans.items() if since <= day < until), "")


def resolved(version: str) -> str:
    """The name of a version; ``current`` means the newest."""
    known = versions()
    return max(known, key=lambda name: known[name]) if version == CURRENT else version


def read_geography(version: str = CURRENT, mappings: Iterable[Path] = ()) -> Geography:
    """The version with all changes of areas: the shipped ones and those of the user's mapping files.

    A user's rows replace the shipped rows of the same code and day. Raises an :class:`InputError` that names the file and
    line where a mapping is wrong.
    """
    name = resolved(version)
    as_of = versions()[name]
    rows = read_rows(resource("conf", "reference", "areas.csv"))
    valid: dict[str, list[Interval]] = defaultdict(list)
    areas: dict[str, dict[str, str]] = {}
    for row in rows:
        since, until = _days_of(row)
        valid[row["sub_icb_code"]].append((since, until))
        if since <= as_of < until:
            areas[row["sub_icb_code"]] = row
    shipped = [
        Step(row["from_code"], row["to_code"], date.fromisoformat(row["from_date"]), float(row["share"]), float(row["lsoas"]))
        for row in read_rows(resource("conf", "reference", "area_successors.csv"))
    ]  # fmt: skip
    shipped_days = {code: tuple(intervals) for code, intervals in valid.items()}
    covered_from = min(since for intervals in valid.values() for since, _ in intervals)
    own = [step for path in mappings for step in _read_mappings(path)]
    _refuse_repeated(own)
    replaced = {(step.from_code, step.on) for _, _, step in own}
    steps = [step for step in shipped if (step.from_code, step.on) not in replaced]
    _extend(valid, own)
    for path, line, step in own:
        if not any(since <= step.on < until for since, until in valid.get(step.to_code, ())):
            raise InputError(
                f"geography.mappings: {path}, line {line}: to_code {step.to_code!r} is not a valid area code on {step.on}",
                remedy="give a code of conf/reference/areas.csv that is valid on from_date, or add a row that says what became "
                "of this code",
            )
    whole: dict[tuple[str, date], float] = defaultdict(float)
    for _, _, step in own:
        whole[(step.from_code, step.on)] += step.share
    # Shares are rounded in print, so they are scaled to add up to 1.
    steps += [replace(step, share=step.share / whole[(step.from_code, step.on)]) for _, _, step in own]
    return Geography(name, as_of, areas, dict(valid), tuple(steps), covered_from, shipped_days)


def _days_of(row: Mapping[str, str]) -> Interval:
    """The days on which a row of a shipped table is valid."""
    return date.fromisoformat(row["valid_from"]), date.fromisoformat(row["valid_to"]) if row["valid_to"] else date.max


def _extend(valid: dict[str, list[Interval]], own: list[tuple[Path, int, Step]]) -> None:
    """Add to ``valid`` the codes that only a user's mappings know: each is valid until the day on which it changes, from the
    day on which another row created it (or from the beginning of time)."""
    begins = {(step.to_code, step.on) for _, _, step in own}
    for code, on in sorted({(step.from_code, step.on) for _, _, step in own}):
        if not any(since < on <= until for since, until in valid.get(code, ())):
            since = max((day for begun, day in begins if begun == code and day < on), default=date.min)
            valid.setdefault(code, []).append((since, on))


def _read_mappings(path: Path) -> list[tuple[Path, int, Step]]:
    """The rows of a user's file as (path, line, step). Columns: ``from_code``, ``to_code``, ``from_date``, ``share``."""
    what = f"geography.mappings: {path}"
    steps: list[tuple[Path, int, Step]] = []
    for line, row in enumerate(read_rows(path, ("from_code", "to_code", "from_date", "share")), start=2):
        codes = [(row[name] or "").strip().upper() for name in ("from_code", "to_code")]
        if not all(codes):
            raise InputError(f"{what}, line {line}: a code is empty", remedy="give from_code and to_code")
        try:
            on = date.fromisoformat((row["from_date"] or "").strip())
        except ValueError:
            raise InputError(
                f"{what}, line {line}: from_date is not a date such as 2020-04-01",
                remedy="give the first day on which to_code is valid",
            ) from None
        try:
            share = float(row["share"] or "")
        except ValueError:
            share = -1.0
        if not 0 < share <= 1:
            raise InputError(
                f"{what}, line {line}: share must be above 0 and at most 1",
                remedy="give the share of from_code that went to to_code, such as 1 or 0.25",
            )
        steps.append((path, line, Step(codes[0], codes[1], on, share)))
    return steps


def _refuse_repeated(own: list[tuple[Path, int, Step]]) -> None:
    """Raise an :class:`InputError` where a pair of codes appears twice for a day, or the shares of an area do not add up to 1."""
    seen: set[tuple[str, str, date]] = set()
    shares: dict[tuple[str, date], list[tuple[Path, int, float]]] = defaultdict(list)
    for path, line, step in own:
        key = (step.from_code, step.to_code, step.on)
        if key in seen:
            raise InputError(
                f"geography.mappings: {path}, line {line}: {step.from_code} to {step.to_code} on {step.on} appears twice",
                remedy="keep one row for each pair of codes and day",
            )
        seen.add(key)
        shares[(step.from_code, step.on)].append((path, line, step.share))
    for (code, on), listed in shares.items():
        whole = sum(share for _, _, share in listed)
        if abs(whole - 1) > _SHARES_ROUNDED:
            path, line, _ = listed[-1]
            raise InputError(
                f"geography.mappings: {path}, line {line}: the shares of {code} on {on} add up to {whole:g}, not 1",
                remedy="add rows until every part of the area is listed with the area that it went to",
            )
