"""A cheap filter by codes: a record without any of these codes cannot be in the scope of a policy.

A scope such as "U05.4, or U13.3 with Z66.5" needs U054 or U133 somewhere in the record. The codes of all policies together
make one plain condition on a dataset. The same codes also narrow each record that passes down to the few policies that it
can belong to, however many policies there are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import assert_never

from pyspark.sql import Column
from pyspark.sql import functions as F

from ebi_spark.policies.compile import FIELDS, stored_four
from ebi_spark.policies.model import AgeRange, AllOf, AnyOf, FollowedBy, HasCode, IsNull, NoneOf, Test
from ebi_spark.policies.patterns import one_of, written_out
from ebi_spark.quoting import sql_list, sql_name

# A key is the first characters of a code: its category.
KEY_LENGTH = 3
_MOST_WRITTEN_OUT = 200


@dataclass(frozen=True)
class CodePrefilter:
    """A record can be in scope only if ``column`` contains one of ``codes``; with ``whole``, only if it equals one."""

    column: str
    codes: tuple[str, ...]
    whole: bool

    @property
    def keys(self) -> tuple[str, ...]:
        """The codes themselves if ``whole``, otherwise their categories; sorted and without repeats."""
        return tuple(sorted({code if self.whole else code[:KEY_LENGTH] for code in self.codes}))

    @property
    def may_match(self) -> Column:
        """Whether a record has one of the codes. NULL if the column is missing, so that such records can be counted.

        The text that all codes start with is searched for first. Most records do not have it, and a regular expression
        takes several times as long as a plain search.
        """
        column = F.col(self.column)
        if self.whole:
            return F.expr(f"{sql_name(self.column)} IN {sql_list(self.codes)}")
        shared = _shared_start(self.codes)
        found = column.rlike(one_of(self.codes))
        return column.contains(shared) & found if shared else found


def _shared_start(codes: tuple[str, ...]) -> str:
    """The text that all codes start with, which may be empty. It is enough to compare the first and the last in order."""
    pairs = zip(min(codes), max(codes), strict=False)
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def code_prefilter(test: Test, dataset: str) -> CodePrefilter | None:
    """A record must have one of these codes for the test to be true. None if no list of codes expresses this."""
    match test:
        case AnyOf(items):
            parts = [code_prefilter(item, dataset) for item in items]
            first = parts[0]
            if first is None or any(p is None or (p.column, p.whole) != (first.column, first.whole) for p in parts):
                return None
            return CodePrefilter(first.column, _sorted(code for p in parts if p for code in p.codes), first.whole)
        case AllOf(items):
            # One part is enough: the whole test is applied to the records it finds.
            return next((part for item in items if (part := code_prefilter(item, dataset)) is not None), None)
        case HasCode() if stored_four(test):
            return CodePrefilter("dominant_procedure_4", test.codes, True)
        case HasCode(name, "starts_with" | "contains", codes, None) | FollowedBy(name, codes):
            return _of_patterns(codes, FIELDS[dataset].get(name))
        case NoneOf() | HasCode() | AgeRange() | IsNull():
            return None
        case _:
            assert_never(test)


def _of_patterns(patterns: tuple[str, ...], column: str | None) -> CodePrefilter | None:
    if column not in ("dominant_procedure", "primary_diagnosis", "diagnosis_codes", "procedure_codes"):
        return None
    codes: list[str] = []
    for pattern in patterns:
        written = written_out(pattern)
        if len(written) > _MOST_WRITTEN_OUT or any(len(code) < KEY_LENGTH or not code.isalnum() for code in written):
            return None
        codes += written
    return CodePrefilter(column, _sorted(codes), False)


def _sorted(codes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(codes)))
