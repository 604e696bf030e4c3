"""How many records of each stratum and provider an audit draws: whole numbers, worked out before anything is drawn.

A *cell* is a stratum at a provider. In a cell of N records the audit draws m, so each record is drawn with the
probability m/N, which is never 0 and is stored.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from ebi_spark.errors import InputError

FLAGGED, DISAGREE, NEAR_MISS, REST = "flagged", "readings_disagree", "near_miss", "rest"
# From two records of a cell a variance can be estimated.
FEWEST_IN_A_CELL = 2
# The flagged records get this share of the places beyond the fewest: the positive predictive value is asked for first.
SHARE_FOR_FLAGGED = 0.5

Cell = tuple[str, str]  # stratum, provider


@dataclass(frozen=True)
class Design:
    """How many records each cell has and how many of them are drawn."""

    records: Mapping[Cell, int]
    drawn: Mapping[Cell, int]

    @property
    def size(self) -> int:
        """Records drawn."""
        return sum(self.drawn.values())

    def probability(self, cell: Cell) -> float:
        """The probability with which a record of the cell is drawn."""
        return self.drawn[cell] / self.records[cell]


def allocate(records: Mapping[Cell, int], size: int, cap: int | None = None) -> Design:
    """Share ``size`` places among the cells; ``cap`` is the most that one provider is asked for, over all strata.

    Every cell gets two places, or one where it has one record. Of the other places the flagged records get half and the
    other strata the rest in proportion to their records; within a stratum each place goes to the cell whose share drawn is
    lowest. Places that a stratum cannot take go to the others. Raises :class:`InputError` when ``size`` or ``cap`` cannot
    give every cell its fewest, and names the smallest that can.
    """
    cells = {cell: number for cell, number in sorted(records.items()) if number > 0}
    if not cells:
        raise InputError(
            "no record of these years is in scope of the policy", remedy="name other years or another policy"
        )
    drawn = {cell: min(FEWEST_IN_A_CELL, number) for cell, number in cells.items()}
    at_provider: dict[str, int] = {}
    for (_, provider), number in drawn.items():
        at_provider[provider] = at_provider.get(provider, 0) + number
    fewest, smallest_cap = sum(drawn.values()), max(at_provider.values())
    if cap is not None and smallest_cap > cap:
        raise InputError(
            f"--cap {cap}: {FEWEST_IN_A_CELL} records of each stratum of a provider (or the one there is) are {smallest_cap} "
            "records at one provider",
            remedy=f"the smallest cap that can be met is {smallest_cap} (with a size of at least {fewest})",
        )
    if size < fewest:
        raise InputError(
            f"--size {size}: {FEWEST_IN_A_CELL} records of each stratum and provider (or the one there is) are {fewest} "
            "records",
            remedy=f"the smallest size that can be met is {fewest}",
        )
    left = size - fewest
    for stratum, places in _places_by_stratum(cells, drawn, left).items():
        left -= places - _fill(cells, drawn, at_provider, {stratum}, places, cap)
    _fill(cells, drawn, at_provider, {stratum for stratum, _ in cells}, left, cap)
    return Design(cells, drawn)


def _places_by_stratum(cells: Mapping[Cell, int], drawn: Mapping[Cell, int], left: int) -> dict[str, int]:
    """How many of the places ``left`` each stratum should get, largest remainders first."""
    open_places: dict[str, int] = {}
    for cell, number in cells.items():
        open_places[cell[0]] = open_places.get(cell[0], 0) + number - drawn[cell]
    flagged = min(open_places.get(FLAGGED, 0), round(left * SHARE_FOR_FLAGGED))
    others = {stratum: number for stratum, number in open_places.items() if stratum != FLAGGED and number}
    all_others = sum(others.values())
    rest = min(left - flagged, all_others)
    exact = {stratum: rest * number / all_others for stratum, number in others.items()}
    shares = {stratum: int(share) for stratum, share in exact.items()}
    for stratum in sorted(exact, key=lambda name: (shares[name] - exact[name], name))[: rest - sum(shares.values())]:
        shares[stratum] += 1
    return {FLAGGED: flagged, **dict(sorted(shares.items()))}


def _fill(
    cells: Mapping[Cell, int],
    drawn: dict[Cell, int],
    at_provider: dict[str, int],
    strata: set[str],
    places: int,
    cap: int | None,
) -> int:
    """Give up to ``places`` more to the cells of these strata; gives how many found no record."""
    order = [(drawn[cell] / number, -number, cell) for cell, number in cells.items() if cell[0] in strata]
    heapq.heapify(order)
    while places > 0 and order:
        _, _, cell = heapq.heappop(order)
        if drawn[cell] == cells[cell] or (cap is not None and at_provider[cell[1]] >= cap):
            continue  # nothing more can be drawn there
        drawn[cell] += 1
        at_provider[cell[1]] += 1
        places -= 1
        heapq.heappush(order, (drawn[cell] / cells[cell], -cells[cell], cell))
    return places
