"""What a record must hold for a policy to have it in scope, as codes: the one cheap condition for all policies at once.

A scope such as "U05.4, or U13.3 with Z66.5" needs one of U054, U133 somewhere. From these come a plain condition over a
dataset (any code of any policy) and the few policies that a record found by it can belong to, whatever their number.
"""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.policies.compile import FIELDS, stored_four
from ebi_spark.policies.patterns import one_of, written_out

# A key is the start of a code: its category.
KEY_LENGTH = 3
_MOST_WRITTEN_OUT = 200


@dataclass(frozen=True)
class CodePrefilter:
    """One of ``codes`` has to stand somewhere in ``column``; ``whole``: the column has to be one of them."""

    column: str
    codes: tuple[str, ...]
    whole: bool

    @property
    def keys(self) -> tuple[str, ...]:
        """The codes themselves where the column is one of them, else their first characters."""
        return tuple(sorted({code if self.whole else code[:KEY_LENGTH] for code in self.codes}))

    @property
    def may_match(self) -> Column:
        """Whether a record holds one of the codes: one quick look at one column. What all codes start with is looked for
        first, as plain text: most records do not hold even that, and a regular expression costs them several times as much."""
        column = F.col(self.column)
        if self.whole:
            return column.isin(*self.codes)
        shared = _shared_start(self.codes)
        found = column.rlike(one_of(self.codes))
        return column.contains(shared) & found if shared else found


def _shared_start(codes: tuple[str, ...]) -> str:
    """What all codes start with; empty where they share nothing. Of sorted texts the first and the last differ soonest."""
    pairs = zip(min(codes), max(codes), strict=False)
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def needed(test: dict[str, Any], dataset: str) -> CodePrefilter | None:
    """Codes of which a record must hold one for the test to be true; None where no list of codes says it."""
    if "any_of" in test:
        parts = [needed(item, dataset) for item in test["any_of"]]
        first = parts[0]
        if first is None or any(p is None or (p.column, p.whole) != (first.column, first.whole) for p in parts):
            return None
        return CodePrefilter(first.column, tuple(sorted({code for p in parts if p for code in p.codes})), first.whole)
    if "all_of" in test:
        found = [part for item in test["all_of"] if (part := needed(item, dataset)) is not None]
        return found[0] if found else None  # any part will do: what it finds is judged by the whole test
    if stored_four(test):
        return CodePrefilter("dominant_procedure_4", tuple(test["starts_with"]), True)
    if "none_of" in test or "left" in test:
        return None
    operator = next((name for name in ("starts_with", "contains") if name in test), None)
    patterns = test[operator] if operator else test.get("followed_by", {}).get("first")
    column = FIELDS[dataset].get(test.get("field", ""))
    if not patterns or column not in ("dominant_procedure", "primary_diagnosis", "diagnosis_codes", "procedure_codes"):
        return None
    codes: list[str] = []
    for pattern in patterns:
        written = written_out(pattern)
        if len(written) > _MOST_WRITTEN_OUT or any(len(code) < KEY_LENGTH or not code.isalnum() for code in written):
            return None
        codes += written
    return CodePrefilter(column, tuple(sorted(set(codes))), False)
