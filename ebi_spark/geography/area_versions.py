"""Areas through time: which codes mean an area on a day, and what each of them is on the one version that is shown.

The shipped tables begin with the clinical commissioning groups of April 2021; a user's mappings go before them, or take
the place of a shipped one. Areas change on a few days only: between two of them a code means one thing. A code reaches an
area of the version by what became of it, day of change by day of change, forwards or backwards. Where an area was split,
the shares say how much of it each part is: counts of small areas in what ships, so estimates, and marked as such.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path

from ebi_spark.config.settings import resource
from ebi_spark.errors import InputError
from ebi_spark.financial_years import end_of, start_of
from ebi_spark.small_files import read_rows

CURRENT = "current"
SPLIT_ESTIMATE = "split_estimate"
UNMAPPED_PART = "unmapped_part"
UNMAPPED, NOT_VALID = "unmapped", "not_valid_on_date"
WHOLE = 1 - 1e-9
_SHARES_ROUNDED = 1e-3  # how far printed shares of one area may be from 1

Interval = tuple[date, date]  # from inclusive, to exclusive


@dataclass(frozen=True)
class Step:
    """What became of a part of an area on a day; ``small_areas`` is its size where it is known."""

    from_code: str
    to_code: str
    on: date
    share: float
    small_areas: float | None = None


@dataclass(frozen=True)
class Span:
    """A code between two days of change, and the areas of the version that it is: none, one, or the shares of several."""

    code: str
    since: date
    until: date
    parts: tuple[tuple[str, float], ...]

    @property
    def is_split(self) -> bool:
        """Whether a record or its people can only be put in one of several areas by estimate."""
        return len(self.parts) > 1 or any(share < WHOLE for _, share in self.parts)


@dataclass(frozen=True)
class Geography:
    """One version of England's areas, and the way of every known code to it.

    ``areas``: the version's sub-ICB locations (of ``ccg_2021`` the CCGs) with their row of ``conf/reference/areas.csv``.
    ``valid``: the days on which each code means an area. ``covered_from``: the first day of the shipped tables.
    ``shipped``: ``valid`` without what a user's mappings add.
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
        """Every day on which some code begins, ends or changes, sorted."""
        days = {day for intervals in self.valid.values() for interval in intervals for day in interval}
        return sorted(days | {step.on for step in self.steps} | {date.min, date.max})

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Every known code in every stretch between two days of change in which it means an area."""
        days = self.days_of_change
        return tuple(
            Span(code, since, until, self.map_code(code, since))
            for code in sorted(self.valid)
            for since, until in zip(days, days[1:], strict=False)
            if self.is_valid(code, since)
        )

    @cached_property
    def newest(self) -> dict[str, date]:
        """For each known code the first day of the newest stretch in which it means an area."""
        return {span.code: span.since for span in sorted(self.spans, key=lambda span: span.since)}

    @cached_property
    def newest_area(self) -> dict[str, str]:
        """The area of the version that each known code, as it was last understood, is as a whole."""
        last = {span.code: span for span in sorted(self.spans, key=lambda span: span.since)}
        return {code: span.parts[0][0] for code, span in last.items() if span.parts and not span.is_split}

    def is_valid(self, code: str, day: date) -> bool:
        """Whether the code means an area on the day."""
        return any(since <= day < until for since, until in self.valid.get(code, ()))

    def areas_of_england(self, day: date) -> set[str]:
        """The codes of all areas that England had on a day by the shipped tables; none before these begin."""
        return {
            code for code, intervals in self.shipped.items() if any(since <= day < until for since, until in intervals)
        }

    def covers(self, year: str) -> bool:
        """Whether some code means an area on the first day of the financial year."""
        return any(span.since <= start_of(year) < span.until for span in self.spans)

    def split_areas(self, year: str) -> set[tuple[str, str]]:
        """(type, code) of every area whose figures of the year rest on shares of a split area."""
        found: set[tuple[str, str]] = set()
        for span in self.spans:
            if span.is_split and span.since <= end_of(year) and span.until > start_of(year):
                found |= areas_of_parts(self, [code for code, _ in span.parts])
        return found

    @cached_property
    def mapped_days(self) -> dict[str, Interval]:
        """For each area of the version the days from the first to the last on which some code is it, or a part of it."""
        found: dict[str, Interval] = {}
        for span in self.spans:
            for area, _ in span.parts:
                since, until = found.get(area, (span.since, span.until))
                found[area] = min(since, span.since), max(until, span.until)
        return found

    def map_code(self, code: str, day: date) -> tuple[tuple[str, float], ...]:
        """The areas of the version that a code of a day is, each with its share, by code; nothing where what became of it
        is not known."""
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
        """What a code of the day before is on a day of change."""
        steps = self._leaving.get((code, day))
        if steps:
            return {step.to_code: step.share for step in steps}
        return {code: 1.0} if self.is_valid(code, day) else {}

    def _before(self, code: str, day: date) -> dict[str, float]:
        """What a code of a day of change was the day before: one area, or several whose sizes are known."""
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
    """(type, code) of the areas that the parts of a split area lie in, of those types of area where they do not all lie in
    one."""
    found: set[tuple[str, str]] = set()
    for kind in ("sub_icb", "icb", "region"):
        codes = {geography.areas[part][f"{kind}_code"] for part in parts}
        if len(codes) > 1 or kind == "sub_icb":
            found |= {(kind, code) for code in codes}
    return found


def ons_codes() -> dict[str, tuple[str, Interval]]:
    """Each ONS code of a CCG or sub-ICB location: the NHS's short code of the same area, and the days on which it was of one
    of the versions that ship. An ONS code changes with an area's boundary, where the short code can stay."""
    rows = read_rows(resource("conf", "reference", "area_ons_codes.csv"))
    return {
        row["ons_code"]: (row["sub_icb_code"], (date.fromisoformat(row["valid_from"]), _end(row["valid_to"])))
        for row in rows
    }


def versions() -> dict[str, date]:
    """The versions that ship, oldest first, each with the day on which its areas were those of England."""
    rows = read_rows(resource("conf", "reference", "geographies.csv"))
    return {row["version"]: date.fromisoformat(row["as_of"]) for row in rows}


def version_on(day: date) -> str:
    """The version whose areas were those of England on a day; empty before the first."""
    rows = read_rows(resource("conf", "reference", "geographies.csv"))
    held = [row["version"] for row in rows if date.fromisoformat(row["valid_from"]) <= day < _end(row["valid_to"])]
    return held[0] if held else ""


def resolved(version: str) -> str:
    """A version's own name: ``current`` is the newest."""
    known = versions()
    return max(known, key=lambda name: known[name]) if version == CURRENT else version


def read_geography(version: str = CURRENT, mappings: Iterable[Path] = ()) -> Geography:
    """The version, with the shipped ways to it and those of the user's mappings, checked."""
    name = resolved(version)
    as_of = versions()[name]
    rows = read_rows(resource("conf", "reference", "areas.csv"))
    valid: dict[str, list[Interval]] = defaultdict(list)
    areas: dict[str, dict[str, str]] = {}
    for row in rows:
        since, until = date.fromisoformat(row["valid_from"]), _end(row["valid_to"])
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
    overruled = {(step.from_code, step.on) for _, _, step in own}
    steps = [step for step in shipped if (step.from_code, step.on) not in overruled]
    _extend(valid, own)
    for path, line, step in own:
        if not any(since <= step.on < until for since, until in valid.get(step.to_code, ())):
            raise InputError(
                f"geography.mappings: {path}, line {line}: to_code {step.to_code!r} is no area on {step.on}",
                remedy="give a code of conf/reference/areas.csv that is valid on from_date, or a further row that says what "
                "became of it",
            )
    whole: dict[tuple[str, date], float] = defaultdict(float)
    for _, _, step in own:
        whole[(step.from_code, step.on)] += step.share
    # Printed shares are rounded: they are made to add up.
    steps += [replace(step, share=step.share / whole[(step.from_code, step.on)]) for _, _, step in own]
    return Geography(name, as_of, areas, dict(valid), tuple(steps), covered_from, shipped_days)


def _end(text: str) -> date:
    return date.fromisoformat(text) if text else date.max


def _extend(valid: dict[str, list[Interval]], own: list[tuple[Path, int, Step]]) -> None:
    """Codes that only a user's mappings know mean an area until the day of their step, from that of the one before."""
    begins = {(step.to_code, step.on) for _, _, step in own}
    for code, on in sorted({(step.from_code, step.on) for _, _, step in own}):
        if not any(since < on <= until for since, until in valid.get(code, ())):
            since = max((day for begun, day in begins if begun == code and day < on), default=date.min)
            valid.setdefault(code, []).append((since, on))


def _read_mappings(path: Path) -> list[tuple[Path, int, Step]]:
    """The steps in a user's file, each with its line: ``from_code``, ``to_code``, ``from_date``, ``share``."""
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
                f"{what}, line {line}: from_date is not of the form 2020-04-01",
                remedy="give the first day on which to_code is valid",
            ) from None
        try:
            share = float(row["share"] or "")
        except ValueError:
            share = -1.0
        if not 0 < share <= 1:
            raise InputError(
                f"{what}, line {line}: share is not above 0 and at most 1",
                remedy="give the part of from_code that went to to_code, such as 1 or 0.25",
            )
        steps.append((path, line, Step(codes[0], codes[1], on, share)))
    return steps


def _refuse_repeated(own: list[tuple[Path, int, Step]]) -> None:
    """Each pair of codes once a day, and the shares of an area adding up to 1."""
    seen: set[tuple[str, str, date]] = set()
    shares: dict[tuple[str, date], list[tuple[Path, int, float]]] = defaultdict(list)
    for path, line, step in own:
        key = (step.from_code, step.to_code, step.on)
        if key in seen:
            raise InputError(
                f"geography.mappings: {path}, line {line}: {step.from_code} to {step.to_code} on {step.on} stands twice",
                remedy="give each pair of codes once a day",
            )
        seen.add(key)
        shares[(step.from_code, step.on)].append((path, line, step.share))
    for (code, on), listed in shares.items():
        whole = sum(share for _, _, share in listed)
        if abs(whole - 1) > _SHARES_ROUNDED:
            path, line, _ = listed[-1]
            raise InputError(
                f"geography.mappings: {path}, line {line}: the shares of {code} on {on} add up to {whole:g}, not 1",
                remedy="say where all of it went; a part that is nowhere any more still needs its area",
            )
