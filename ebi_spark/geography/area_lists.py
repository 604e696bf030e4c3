"""The areas that England has on a day, with their parents and ONS codes, from the shipped tables."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from ebi_spark.config.shipped_files import resource
from ebi_spark.small_files import read_rows

ENGLAND, ENGLAND_ONS = "england", "E92000001"
# The kinds of area, from the largest to the smallest.
AREA_TYPES = {
    "england": "England",
    "region": "Region",
    "icb": "Integrated care board",
    "sub_icb": "Sub-ICB location",
    "provider": "Provider",
}
Place = tuple[str, str]  # kind of area, and its NHS code (for England the ONS code)


@dataclass(frozen=True)
class ListedArea:
    """An area and the area that it is a part of.

    ``since`` (inclusive) and ``until`` (exclusive): the days on which it has this ONS code; for a sub-ICB location, this name and
    board. A day that the shipped tables do not give is None. ``until`` is also None while the code is still in use.
    """

    name: str
    parent: Place | None
    ons_code: str | None = None
    since: date | None = None
    until: date | None = None


def areas_on(day: date) -> dict[Place, ListedArea]:
    """England, its regions, boards and sub-ICB locations on a day, by kind and code."""
    codes = ons_codes_on(day)
    found = {(ENGLAND, ENGLAND_ONS): ListedArea("England", None, ENGLAND_ONS)}
    for row, since, until in _valid("areas.csv", day):
        region, board = ("region", row["region_code"]), ("icb", row["icb_code"])
        location = ("sub_icb", row["sub_icb_code"])
        found[region] = ListedArea(row["region_name"], (ENGLAND, ENGLAND_ONS), *codes.get(region, ()))
        found[board] = ListedArea(row["icb_name"], region, *codes.get(board, ()))
        found[location] = ListedArea(row["sub_icb_name"], board, codes.get(location, (None,))[0], since, until)
    return found


def ons_codes_on(day: date) -> dict[Place, tuple[str, date, date | None]]:
    """By kind of area and NHS code: the ONS code on a day, with its first day and the day after its last."""
    files = {"region": "region_ons_codes.csv", "icb": "icb_ons_codes.csv", "sub_icb": "area_ons_codes.csv"}
    return {
        (kind, row[f"{kind}_code"]): (row["ons_code"], since, until)
        for kind, file in files.items()
        for row, since, until in _valid(file, day)
    }


def _valid(file: str, day: date) -> Iterator[tuple[dict[str, str], date, date | None]]:
    for row in read_rows(resource("conf", "reference", file)):
        since = date.fromisoformat(row["valid_from"])
        until = date.fromisoformat(row["valid_to"]) if row["valid_to"] else None
        if since <= day and (until is None or day < until):
            yield row, since, until
