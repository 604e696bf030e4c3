"""Reads the user's lookup files of GP practices and small areas.

A lookup has either the product's own columns, or is the practice file of the NHS's Organisation Data Service (ODS,
``epraccur``: 27 columns, no header row). It names areas by whatever codes its source has: sub-ICB locations and CCGs, their
ONS codes, five-character commissioners, or boards. Practices can also belong to other nations, NHS England or the armed
forces, so a code that is not an area of England is kept, not refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

from ebi_spark.config.shipped_files import resource
from ebi_spark.errors import InputError
from ebi_spark.geography.area_versions import Geography, Interval, ons_codes
from ebi_spark.small_files import read_rows
from ebi_spark.sources.published_files import plain_name, read_lines, read_table

# The first and the last day of a span that has no beginning or end.
EVER, NEVER = date(1900, 1, 1), date(9999, 12, 31)
# Codes of commissioners in Wales (7A), Northern Ireland (Z), Scotland (S) and the islands, and ONS codes of these nations.
OUTSIDE = r"^(7A|6[A-C]|S[0-9]|ZC|ZT)"
_OUTSIDE_ONS = re.compile(r"[WSNLM]\d{8}")
# Columns of published lookups. The ONS code of an area is read only where there is no short code.
_AREA, _ONS_AREA = "SUB_ICB_CODE", "SUB_ICB_ONS_CODE"
_PUBLISHED_NAMES = (
    (re.compile(r"LSOA\d\dCD"), "LSOA"),
    (re.compile(r"SUB_ICB_LOCATION_CODE|(SICBL|CCG)\d\dCDH"), _AREA),
    (re.compile(r"ONS_SUB_ICB_LOCATION_CODE|(SICBL|CCG)\d\dCD"), _ONS_AREA),
)
# Positions of columns in epraccur, from 0.
_ODS_COLUMNS = 27
_CODE, _OPENED, _CLOSED, _COMMISSIONER, _JOINED, _LEFT = 0, 10, 11, 14, 15, 16


@dataclass(frozen=True)
class LookupRow:
    """The practice or small area ``code`` belongs to ``area`` from ``since`` to ``until`` (exclusive). A row without dates
    (``dated`` is false) is valid on all days."""

    line: int
    code: str
    area: str
    since: date
    until: date
    dated: bool


def read_lookup(path: Path, key: str) -> list[LookupRow]:
    """The rows of a lookup file. ``key`` is the column of the practices (``practice_code``) or small areas (``lsoa``).

    Raises an :class:`InputError` that names the file, the line and the remedy.
    """
    table = read_table(path, str(path), (key.upper(), _AREA, _ONS_AREA), _known_as)
    if key == "practice_code" and key.upper() not in table.header and len(table.header) == _ODS_COLUMNS:
        return list(_ods_rows(path))
    area = _ONS_AREA if _ONS_AREA in table.header and _AREA not in table.header else _AREA
    for name in (key.upper(), area):
        if name not in table.header or not table.rows:
            also = " (or give ODS's epraccur.csv unchanged)" if key == "practice_code" else ""
            raise InputError(
                f"{path}: the column {name.lower()} is missing, or the file has no rows",
                remedy=f"add {name.lower()}{also}",
            )
    rows = [
        _row(path, line, row[key.upper()], row[area], row.get("VALID_FROM", ""), row.get("VALID_TO", ""))
        for line, row in table.records()
    ]
    backwards = [row.line for row in rows if row.since >= row.until]
    if backwards:
        raise InputError(f"{path}, line {backwards[0]}: valid_to is not after valid_from", remedy="correct the dates")
    return rows


def read_provider_names(path: Path) -> dict[str, str]:
    """The name of each provider by its code.

    The file has the columns ``provider_code`` and ``provider_name``, or is a file of NHS trusts or sites of ODS (``etr``, ``ets``: 27
    columns, no header row). Raises an :class:`InputError` that names the file and the remedy.
    """
    table = read_table(path, str(path), ("PROVIDER_CODE", "PROVIDER_NAME"))
    named = [(row.get("PROVIDER_CODE", ""), row.get("PROVIDER_NAME", "")) for _, row in table.records()]
    if not {"PROVIDER_CODE", "PROVIDER_NAME"} <= set(table.header) and len(table.header) == _ODS_COLUMNS:
        named = [(cells[0], cells[1]) for _, cells in read_lines(path, str(path)) if len(cells) > 1]
    found = {code.upper(): name for code, name in named if code and name}
    if not found:
        raise InputError(
            f"{path}: the columns provider_code and provider_name are missing, or no row has both",
            remedy="add them (or give ODS's etr.csv unchanged)",
        )
    return found


def _known_as(name: str) -> str:
    """Our name for a column of NHS England's practice mapping or of an ONS small-area lookup; otherwise its own name."""
    plain = plain_name(name)
    for pattern, ours in _PUBLISHED_NAMES:
        if pattern.fullmatch(plain):
            return ours
    return plain


def _ods_rows(path: Path) -> Iterator[LookupRow]:
    for line, cells in read_lines(path, str(path)):
        if len(cells) != _ODS_COLUMNS:
            raise InputError(
                f"{path}, line {line} has {len(cells)} columns, where ODS's practice file has {_ODS_COLUMNS}",
                remedy="download epraccur again, or give a file with the columns practice_code and sub_icb_code",
            )
        since, last = cells[_JOINED] or cells[_OPENED], cells[_LEFT] or cells[_CLOSED]
        row = _row(path, line, cells[_CODE], cells[_COMMISSIONER], since, last)
        # A practice that closed before it joined this commissioner never belonged to it.
        if row.since < row.until:
            yield row


def _row(path: Path, line: int, code: str, area: str, since: str, until: str) -> LookupRow:
    first, end = _day(path, line, since), _day(path, line, until)
    if end and _is_ods(until):
        # A date in ODS's form (20220630) is the last day, so it belongs to the span.
        end = min(end, NEVER - timedelta(days=1)) + timedelta(days=1)
    return LookupRow(line, code.upper(), area.upper(), first or EVER, end or NEVER, first is not None)


def _is_ods(text: str) -> bool:
    return re.fullmatch(r"[0-9]{8}", text) is not None


def _day(path: Path, line: int, text: str) -> date | None:
    if not text:
        return None
    try:
        if not (_is_ods(text) or re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text)):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{path}, line {line}: a date is not of the form 2022-07-01 (or 20220701, as ODS writes it)",
            remedy="correct the date",
        ) from None


@dataclass(frozen=True)
class AreaCodes:
    """Translates the area codes of a lookup into sub-ICB locations or CCGs."""

    geography: Geography

    def location(self, code: str) -> tuple[str | None, Interval | None]:
        """The sub-ICB location or CCG that a code names (None if it names none), and for an ONS code the days on which that
        code is valid. An ONS code always means the area of those days, whatever the date of the record."""
        if code in self._ons:
            return self._ons[code]
        for known in (code, code[:3] if len(code) == 5 else "", self._only_location.get(code, "")):
            if known in self.geography.valid:
                return known, None
        return None, None

    def is_outside(self, code: str) -> bool:
        """Whether a code is a commissioner or area of another UK nation or of the islands."""
        return bool(re.match(OUTSIDE, code) or _OUTSIDE_ONS.fullmatch(code))

    @cached_property
    def _ons(self) -> dict[str, tuple[str, Interval]]:
        return ons_codes()

    @cached_property
    def _only_location(self) -> dict[str, str]:
        """For boards that have only ever had one sub-ICB location: that location, by the board's NHS code and ONS code."""
        locations: dict[str, set[str]] = {}
        for row in read_rows(resource("conf", "reference", "areas.csv")):
            locations.setdefault(row["icb_code"], set()).add(row["sub_icb_code"])
        only = {board: next(iter(codes)) for board, codes in locations.items() if len(codes) == 1}
        by_ons = read_rows(resource("conf", "reference", "icb_ons_codes.csv"))
        return only | {row["ons_code"]: only[row["icb_code"]] for row in by_ons if row["icb_code"] in only}

    def spans(self, row: LookupRow, area: str, interval: Interval | None) -> Iterator[tuple[date, date, date | None]]:
        """The spans of a row: (first day, end day exclusive, day for which the area's code is interpreted).

        The third item is None where the code is interpreted on the record's own date. A row without dates is valid on all
        days, so its code is interpreted in its newest stretch. An ONS code is interpreted within the days on which it is
        valid, so a row can give up to three spans.
        """
        if not row.dated:
            yield row.since, row.until, self._newest(area, interval)
        elif interval is None:
            yield row.since, row.until, None
        else:
            first, end = interval
            parts = [(row.since, min(row.until, first), first), (max(row.since, first), min(row.until, end), None)]
            if end < date.max:
                parts.append((max(row.since, end), row.until, end - timedelta(days=1)))
            yield from (part for part in parts if part[0] < part[1])

    def _newest(self, area: str, interval: Interval | None) -> date:
        """The first day of the newest stretch in which a code is valid, among those that overlap the interval (if given)."""
        first, end = interval or (date.min, date.max)
        newest = self.geography.newest[area]
        if newest < end:
            return newest
        stretches = (span for span in self.geography.spans if span.code == area)
        return max((span.since for span in stretches if span.since < end and span.until > first), default=newest)
