"""What boards ask for before a procedure, and when: the shipped regimes and those of the configuration.

Boards and policies are plain codes here. ``docs/monitoring-approvals.md`` says how the regimes are used.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from typing import Any

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import resource, shipped_document
from ebi_spark.errors import InputError
from ebi_spark.geography.area_versions import Geography
from ebi_spark.small_files import read_rows

NO_APPROVAL_NEEDED = "none"


@dataclass(frozen=True)
class Regime:
    """What one board asks for, for one policy. ``since`` is inclusive (None: not known), ``until`` exclusive (None: not ended)."""

    board: str
    policy_id: str
    kind: str
    since: date | None
    until: date | None
    exempts_emergencies: bool


@dataclass(frozen=True)
class Coverage:
    """The days of one board that a register covers, both inclusive; None: open."""

    board: str
    since: date | None
    until: date | None


@dataclass(frozen=True)
class RegimeChange:
    """The end of a regime. ``after`` is the kind that follows on the same day; None where none is known."""

    board: str
    policy_id: str
    on: date
    before: str
    after: str | None


def read_regimes(config: RunConfig, shown: Mapping[str, str]) -> list[Regime]:
    """The regimes of a run. A regime of the configuration replaces all shipped regimes of its board and policy.

    ``shown``: the code under which each known board is shown (:func:`boards_shown`). Two codes that are shown as one board are
    the same board here.

    Raises an :class:`InputError` for an unknown board, a regime that ends before it begins, and two regimes of one board and
    policy on the same day.
    """
    own = [regime for item in config.approval_regimes for regime in _regimes(item)]
    _refuse_unknown_boards("approvals.regimes", own)
    replaced = {(shown[regime.board], regime.policy_id) for regime in own}
    shipped = [item for item in _shipped() if (shown[item.board], item.policy_id) not in replaced]
    every = sorted([*shipped, *own], key=lambda item: (item.board, item.policy_id, item.since or date.min))
    _refuse_overlaps("approvals.regimes", every, shown, lambda item: f" and {item.policy_id}", inclusive=False)
    return [replace(item, board=shown[item.board]) for item in every]


def stated_coverage(config: RunConfig, shown: Mapping[str, str]) -> list[Coverage]:
    """The boards and days of ``approvals.covers``, each board under the code of ``shown``. Raises an :class:`InputError` as
    :func:`read_regimes` does."""
    found = [Coverage(item["board"], _day(item.get("from")), _day(item.get("to"))) for item in config.register_covers]
    _refuse_unknown_boards("approvals.covers", found)
    _refuse_overlaps("approvals.covers", found, shown, lambda _: "", inclusive=True)
    return [replace(item, board=shown[item.board]) for item in found]


def regime_changes(regimes: Iterable[Regime]) -> list[RegimeChange]:
    """Every end of a regime after which another kind follows or none is known; sorted by board, policy and day.

    | board | since      | until      | kind           | → on       | before         | after |
    |-------|------------|------------|----------------|------------|----------------|-------|
    | QJ2   | 2018-04-01 | 2024-03-18 | prior_approval | 2024-03-18 | prior_approval | none  |
    | QJ2   | 2024-03-18 | None       | none           | no change  |                |       |
    | QOP   | 2020-01-01 | 2023-04-01 | prior_approval | 2023-04-01 | prior_approval | None  |
    """
    listed = [item for item in regimes if item.since or item.until]
    begins = {(item.board, item.policy_id, item.since): item.kind for item in listed}
    ended = [
        RegimeChange(
            item.board, item.policy_id, item.until, item.kind, begins.get((item.board, item.policy_id, item.until))
        )
        for item in listed
        if item.until
    ]
    return sorted(
        (change for change in ended if change.after != change.before),
        key=lambda change: (change.board, change.policy_id, change.on),
    )


@cache
def known_boards() -> frozenset[str]:
    """The codes of all boards in any version of the areas."""
    return frozenset(row["icb_code"] for row in read_rows(resource("conf", "reference", "areas.csv")))


def boards_shown(geography: Geography) -> dict[str, str]:
    """For each known board, the code of the board that has the same areas in the version shown.

    A board that was merged or split keeps its own code, which no operation of that version has. What one of several merged
    boards asked for, or registered, says nothing about the others, so its entries are not linked.
    """
    areas: dict[str, set[str]] = {}
    for row in read_rows(resource("conf", "reference", "areas.csv")):
        parts = geography.map_code(row["sub_icb_code"], date.fromisoformat(row["valid_from"]))
        areas.setdefault(row["icb_code"], set()).update(part for part, _ in parts)
    shown: dict[str, set[str]] = {}
    for area, row in geography.areas.items():
        shown.setdefault(row["icb_code"], set()).add(area)
    same = {frozenset(own): board for board, own in shown.items()}
    return {board: board if board in shown else same.get(frozenset(own), board) for board, own in areas.items()}


def _shipped() -> list[Regime]:
    items = shipped_document("approval_regimes", "approval regimes")["regimes"]
    return [regime for item in items for regime in _regimes(item)]


def _regimes(item: Mapping[str, Any]) -> list[Regime]:
    since, until = _day(item.get("from")), _day(item.get("to"))
    exempts = bool(item.get("exempts_emergencies", True))
    return [Regime(item["board"], policy, item["kind"], since, until, exempts) for policy in item["policies"]]


def _day(value: date | str | None) -> date | None:
    return date.fromisoformat(value) if isinstance(value, str) else value


def _refuse_unknown_boards(where: str, items: Collection[Any]) -> None:
    unknown = sorted({item.board for item in items} - known_boards())
    if unknown:
        raise InputError(
            f"{where}: {', '.join(unknown)} is not an integrated care board",
            remedy="write a code of conf/reference/areas.csv, such as QJ2",
        )


def _refuse_overlaps(
    where: str, items: Collection[Any], shown: Mapping[str, str], more: Callable[[Any], str], *, inclusive: bool
) -> None:
    """Raise an :class:`InputError` if an item has no day, or if two items of one board (and of what ``more`` names) share a day."""
    last: dict[tuple[str, str], Any] = {}
    for item in sorted(items, key=lambda item: item.since or date.min):
        begins, named = item.since or date.min, f"{item.board}{more(item)}"
        if item.until and (item.until < begins or (item.until == begins and not inclusive)):
            raise InputError(f"{where}: {named}: it ends before it begins", remedy="correct `from` and `to`")
        before = last.get((shown[item.board], more(item)))
        if before and (before.until is None or begins < before.until or (inclusive and begins == before.until)):
            other = before.board != item.board
            raise InputError(
                f"{where}: {named}: two items have the same days"
                + (f", because {before.board} and {item.board} have the same areas" if other else ""),
                remedy=f"leave out one of {before.board} and {item.board}, or let one begin after the other has ended"
                if other
                else "let each begin after the one before it has ended",
            )
        last[shown[item.board], more(item)] = item
