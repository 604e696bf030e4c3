"""Rounds published figures, so that they say no more than the rounded counts beside them."""

import math


def to_unit(value: float | None, unit: float, side: int, digits: int = 6) -> float | None:
    """A value as a multiple of ``unit``: the nearest, the one below (``side`` -1) or the one above (1)."""
    if value is None:
        return None
    parts = value / unit
    # The tolerance keeps floating point noise from moving an exact multiple to the next one.
    whole = round(parts) if side == 0 else math.ceil(parts - 1e-9) if side > 0 else math.floor(parts + 1e-9)
    return round(whole * unit, digits)
