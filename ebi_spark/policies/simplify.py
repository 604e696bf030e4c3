"""Put tests into a standard form, so that equivalent tests written differently can be shortened and compared."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ebi_spark.policies.compile import parts_of
from ebi_spark.policies.patterns import MOST_WRITTEN_OUT, OPERATORS, written_out

Test = dict[str, Any]


def simplified(test: Test) -> Test:
    """The test with nested groups flattened and the codes of one field merged into one list. It is true, false or unknown
    for the same records as before."""
    for key in ("any_of", "all_of"):
        if key in test:
            items: list[Test] = []
            for item in map(simplified, test[key]):
                items += item.get(key, [item])
            items = _merge_alternatives(items) if key == "any_of" else _merge_exclusions(items)
            return items[0] if len(items) == 1 else {key: items}
    if "none_of" in test:
        inner = simplified({"any_of": test["none_of"]})
        if "none_of" in inner and len(inner["none_of"]) == 1:
            only: Test = inner["none_of"][0]
            return only
        if "is_null" in inner:  # never unknown
            return {**inner, "is_null": not inner["is_null"]}
        return {"none_of": inner.get("any_of", [inner])}
    made = dict(test)
    for key in OPERATORS:
        if key in test:
            made[key] = _unique(code for pattern in test[key] for code in written_out(pattern, MOST_WRITTEN_OUT))
    return made


def _unique(codes: Any) -> list[str]:
    return list(dict.fromkeys(codes))


def merged_with(one: Test, other: Test) -> Test | None:
    """``one OR other`` as one test if both use the same operator on the same field, otherwise None."""
    if set(one) != set(other) or one.get("field") != other.get("field") or one.get("left") != other.get("left"):
        return None
    key = next((key for key in OPERATORS if key in one), None)
    return None if key is None else {**one, key: _unique([*one[key], *other[key]])}


def _merge_alternatives(items: list[Test]) -> list[Test]:
    merged: list[Test] = []
    for item in items:
        for number, before in enumerate(merged):
            if (both := merged_with(before, item)) is not None:
                merged[number] = both
                break
        else:
            merged.append(item)
    return merged


def _merge_exclusions(items: list[Test]) -> list[Test]:
    """Merge neighbouring exclusions: NOT a AND NOT b equals NOT (a OR b), also if one of them is unknown."""
    merged: list[Test] = []
    for item in items:
        if merged and "none_of" in item and "none_of" in merged[-1]:
            merged[-1] = simplified({"none_of": [*merged[-1]["none_of"], *item["none_of"]]})
        else:
            merged.append(item)
    return merged


def normal_test(test: dict[str, Any]) -> Any:
    """A test in its standard form: classes expanded, codes and alternatives sorted. Tests with equal forms give the same
    result on every record."""
    for key in ("any_of", "all_of", "none_of"):
        if key in test:
            items = sorted((normal_test(item) for item in test[key]), key=lambda item: json.dumps(item, sort_keys=True))
            return items[0] if len(items) == 1 and key != "none_of" else {key: items}
    made = dict(test)
    for key in OPERATORS:
        if key in test:
            made[key] = sorted({code for pattern in test[key] for code in written_out(pattern)})
    if "followed_by" in test:
        made["followed_by"] = {
            side: sorted({code for pattern in codes for code in written_out(pattern)})
            for side, codes in test["followed_by"].items()
        }
    return made


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
    for item in parts_of(test):
        yield from leaves(item, positive != ("none_of" in test))
    operator = next((key for key in OPERATORS if key in test), None)
    if operator:
        yield Leaf(test["field"], operator, tuple(test[operator]), test.get("left"), positive)
    for codes in test.get("followed_by", {}).values():
        yield Leaf(test["field"], "starts_with", tuple(codes), None, positive)
