"""How many records of each stratum and provider an audit draws. The numbers are worked out before anything is drawn.

A *cell* is a stratum at a provider. In a cell of N records the audit draws m, so each record is drawn with the
probability m/N. It is never 0 and is stored.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from ebi_spark.errors import InputError

FLAGGED, DISAGREE, NEAR_MISS, REST = "flagged", "readings_disagree", "near_miss", "rest"
# A variance can be estimated from two records of a cell, not from one.
FEWEST_IN_A_CELL = 2
# The flagged records get this share of the remaining places, because the positive predictive value is asked for first.
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


def allocate(records: Mapping[Cell, int], size: int, cap: int | None = None) -> Design:
    """Divide ``size`` places among the cells; ``cap`` is the most records that one provider has to find, over all strata.

    Every cell gets two places, or one if it has one record. Of the remaining places the flagged records get half, and the
    other strata get the rest in proportion to their records. Within a stratum each place goes to the cell with the lowest share
    drawn. Places that a stratum cannot fill go to the others. Raises :class:`InputError` if ``size`` or ``cap`` is too small for
    the places that every cell gets first, and names the smallest that is enough. For a ``size`` of 9:

    | stratum | provider | records | → drawn |
    |---------|----------|---------|---------|
    | flagged | RX1      | 8       | 4       |
    | flagged | RX2      | 1       | 1       |
    | rest    | RX1      | 40      | 4       |
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
            f"--cap {cap}: {FEWEST_IN_A_CELL} records from each stratum of a provider (or its only one) make {smallest_cap} "
            "records at one provider",
            remedy=f"the smallest cap that can be met is {smallest_cap} (with a size of at least {fewest})",
        )
    if size < fewest:
        raise InputError(
            f"--size {size}: {FEWEST_IN_A_CELL} records from each stratum and provider (or its only one) make {fewest} "
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
    """Give up to ``places`` more places to the cells of these strata. Returns how many places are left."""
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
