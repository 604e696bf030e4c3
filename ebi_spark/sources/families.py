"""Read numbered columns of codes (``DIAG_4_01`` … ``DIAG_4_20``) as one list, with each code at the position of its
column number.

A file can have several families of numbered columns (``OPERTN_4_01`` … and ``OPERTN_01`` …), some of them empty, and
the same codes again in one concatenated column. For each row, the first family that has a code is read; if none has,
the concatenated column is read. So no code is lost, and a row never mixes two families. A missing column leaves its
place empty: later codes do not move up.
"""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

# What can be in a text without being a code: separators, and the word NULL.
_NO_CODE = r"[\s.&,|-]|\bNULL\b"


def has_code(text: Column) -> Column:
    """Whether a text, from one column or several, has any code. Never NULL."""
    # Nearly every code begins like this, and finding it is much quicker than removing all that is no code.
    return F.coalesce(text.rlike("[A-Z][0-9]") | (F.regexp_replace(F.upper(text), _NO_CODE, "") != ""), F.lit(False))


def listed(families: Sequence[Sequence[Sequence[Column]]], *, or_else: bool) -> Column:
    """The first family in which a row has a code, as ``array<string>`` with a text for each place.

    ``families``: for each family, for each place, the columns that can fill it (the best first). ``or_else``: another
    column is read if there is no code, so the list is then NULL.

    | OPERTN_4_01 | OPERTN_4_02 | OPERTN_01 | → list       |
    |-------------|-------------|-----------|--------------|
    | V371        | Z665        | V37       | [V371, Z665] |
    |             |             | V37       | [V37]        |
    """
    lists = [[first_with_code(place) for place in family] for family in families]
    if not lists:
        return F.lit(None).cast("array<string>")
    if len(lists) == 1 and not or_else:
        return F.array(*lists[0])
    chosen = [F.when(_any_has_code(places), F.array(*places)) for places in lists]
    return F.coalesce(*chosen) if or_else else F.coalesce(*chosen, F.array(*lists[0]))


def _any_has_code(places: Sequence[Column]) -> Column:
    # Most rows that have a code have one in the first place, so that the others need not be checked.
    first, *others = places
    return has_code(first) | has_code(F.concat_ws(",", *others)) if others else has_code(first)


def first_with_code(texts: Sequence[Column]) -> Column:
    """The first of some columns in which a row has a code."""
    if not texts:
        return F.lit(None).cast("string")
    return reduce(lambda later, text: F.when(has_code(text), text).otherwise(later), reversed(texts))
