"""Numbered columns of codes as one list, each code in the place that its column's number gives it.

A file can have several families of them (``OPERTN_4_01`` … beside ``OPERTN_01`` …), some of them empty, and the same codes
once more as a concatenation. Of each row the first family that has a code is read, and the concatenation where none has: so
nothing is lost, and no two families are mixed in one row. A column that is missing leaves its place empty: what comes after
it does not move up.
"""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

# What marks that there is no code, and the word NULL.
_NO_CODE = r"[\s.&,|-]|\bNULL\b"


def has_code(text: Column) -> Column:
    """Whether a text, of one or of several columns, has any code."""
    return F.coalesce(F.regexp_replace(F.upper(text), _NO_CODE, "") != "", F.lit(False))


def listed(families: Sequence[Sequence[Sequence[Column]]], *, or_else: bool) -> Column:
    """``array<string>``, a text a place, of the first family in which a row has a code. ``or_else``: there is something else
    to read, so that the list is NULL for a row without any code."""
    lists = [[_first_with_code(place) for place in family] for family in families]
    if not lists:
        return F.lit(None).cast("array<string>")
    if len(lists) == 1 and not or_else:
        return F.array(*lists[0])
    chosen = [F.when(_any_has_code(places), F.array(*places)) for places in lists]
    return F.coalesce(*chosen) if or_else else F.coalesce(*chosen, F.array(*lists[0]))


def _any_has_code(places: Sequence[Column]) -> Column:
    # Most rows that have a code have one in the first place: the others are then not looked at.
    first, *others = places
    return has_code(first) | has_code(F.concat_ws(",", *others)) if others else has_code(first)


def concatenation(texts: Sequence[Column]) -> Column:
    """The first concatenation in which a row has a code."""
    return _first_with_code(texts)


def _first_with_code(texts: Sequence[Column]) -> Column:
    if not texts:
        return F.lit(None).cast("string")
    return reduce(lambda later, text: F.when(has_code(text), text).otherwise(later), reversed(texts))
