"""Put tests into a standard form, so that equivalent tests written differently can be shortened and compared."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from ebi_spark.policies.model import AgeRange, AllOf, AnyOf, FollowedBy, HasCode, IsNull, NoneOf, Test
from ebi_spark.policies.patterns import MOST_WRITTEN_OUT, written_out


def simplified(test: Test) -> Test:
    """The test with nested groups flattened and the codes of one field merged into one list. It is true, false or unknown
    for the same records as before."""
    match test:
        case AnyOf(parts):
            simple = [item.parts if isinstance(item, AnyOf) else (item,) for item in map(simplified, parts)]
            merged = _merge_alternatives(item for items in simple for item in items)
            return merged[0] if len(merged) == 1 else AnyOf(tuple(merged))
        case AllOf(parts):
            simple = [item.parts if isinstance(item, AllOf) else (item,) for item in map(simplified, parts)]
            merged = _merge_exclusions(item for items in simple for item in items)
            return merged[0] if len(merged) == 1 else AllOf(tuple(merged))
        case NoneOf(parts):
            match simplified(AnyOf(parts)):
                case NoneOf((only,)):
                    return only
                case IsNull(name, is_null):  # never unknown
                    return IsNull(name, not is_null)
                case AnyOf(alternatives):
                    return NoneOf(alternatives)
                case inner:
                    return NoneOf((inner,))
        case HasCode():
            return replace(test, codes=_written_out(test.codes, MOST_WRITTEN_OUT))
        case FollowedBy() | AgeRange() | IsNull():
            return test
        case _:
            assert_never(test)


def _written_out(patterns: Iterable[str], most: int | None = None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(code for pattern in patterns for code in written_out(pattern, most)))


def merged_with(one: Test, other: Test) -> HasCode | None:
    """``one OR other`` as one test if both use the same operator on the same field, otherwise None."""
    if not (isinstance(one, HasCode) and isinstance(other, HasCode)) or replace(one, codes=other.codes) != other:
        return None
    return replace(one, codes=tuple(dict.fromkeys((*one.codes, *other.codes))))


def _merge_alternatives(items: Iterable[Test]) -> list[Test]:
    merged: list[Test] = []
    for item in items:
        for number, before in enumerate(merged):
            if (both := merged_with(before, item)) is not None:
                merged[number] = both
                break
        else:
            merged.append(item)
    return merged


def _merge_exclusions(items: Iterable[Test]) -> list[Test]:
    """Merge neighbouring exclusions: NOT a AND NOT b equals NOT (a OR b), also if one of them is unknown."""
    merged: list[Test] = []
    for item in items:
        match merged[-1:], item:
            case [NoneOf(before)], NoneOf(after):
                merged[-1] = simplified(NoneOf((*before, *after)))
            case _:
                merged.append(item)
    return merged


def normal_test(test: Test) -> Test:
    """A test in its standard form: classes expanded, codes and alternatives sorted. Tests with equal forms give the same
    result on every record."""
    match test:
        case AnyOf(parts) | AllOf(parts):
            items = _normal_parts(parts)
            return items[0] if len(items) == 1 else replace(test, parts=items)
        case NoneOf(parts):
            return NoneOf(_normal_parts(parts))
        case HasCode():
            return replace(test, codes=_every_code(test.codes))
        case FollowedBy(name, first, then, directly):
            return FollowedBy(name, _every_code(first), _every_code(then), bool(directly))
        case AgeRange() | IsNull():
            return test
        case _:
            assert_never(test)


def _normal_parts(parts: tuple[Test, ...]) -> tuple[Test, ...]:
    return tuple(sorted(map(normal_test, parts), key=repr))


def _every_code(patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(_written_out(patterns)))


@dataclass(frozen=True)
class Leaf:
    """The codes of one field in a test. ``positive``: having one of them counts for the test, not against it."""

    field: str
    operator: str
    codes: tuple[str, ...]
    left: int | None
    positive: bool


def leaves(test: Test, positive: bool = True) -> Iterator[Leaf]:
    """Every test of codes within a test. ``none_of`` reverses ``positive`` for the tests inside it."""
    match test:
        case AnyOf(parts) | AllOf(parts):
            for part in parts:
                yield from leaves(part, positive)
        case NoneOf(parts):
            for part in parts:
                yield from leaves(part, not positive)
        case HasCode(name, operator, codes, left):
            yield Leaf(name, operator, codes, left, positive)
        case FollowedBy(name, first, then):
            yield Leaf(name, "starts_with", first, None, positive)
            yield Leaf(name, "starts_with", then, None, positive)
        case AgeRange() | IsNull():
            pass
        case _:
            assert_never(test)
