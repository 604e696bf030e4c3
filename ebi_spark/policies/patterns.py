"""Code patterns: what a pattern may contain, which codes it stands for, and its regular expression.

A pattern is a sequence of places. Each place is a letter or digit, a class such as ``[789]`` or ``[0-9]``, a negated class
(``[^0]``), or ``_`` for any one character. The last two are allowed only on fields with a single code.
"""

import itertools
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

_PLACE = re.compile(r"\[(\^?)([^\]]*)\]|(_)|([A-Z0-9])")
_RANGE = re.compile(r"([A-Z0-9])-([A-Z0-9])")
# A pattern that stands for more codes than this keeps its classes when a test is simplified.
MOST_WRITTEN_OUT = 12
# A pattern that stands for more codes than this is left as it is in the expression of `one_of`.
_MOST_IN_TREE = 200
_BRANCHES_WITH_LOOK_AHEAD = 4
AGE_FIELDS = ("age", "age_years")
CODE_FIELDS = ("dominant_procedure", "primary_diagnosis", "any_diagnosis", "any_procedure")
# Ages that a bound can sensibly name: years, and the range around the codes for babies (7001 to 7007).
_POSSIBLE_AGES = ((0, 120), (7000, 7007))
# The form of a code in both ICD-10 and OPCS-4: a letter and two digits, then a digit or X.
_CODE_PLACES = ("letter", "digit", "digit", "digit or X", "digit or X", "suffix")


class PatternError(ValueError):
    """The pattern is invalid; the message says why."""


@lru_cache(maxsize=4096)
def places(pattern: str) -> tuple[str | None, ...]:
    """The characters that each place of the pattern allows; None for ``_`` and for a negated class."""
    found: list[str | None] = []
    at = 0
    while at < len(pattern):
        match = _PLACE.match(pattern, at)
        if match is None:
            raise PatternError(f"{pattern[at]!r} in {pattern!r} cannot be part of a code")
        negated, inner, anything, plain = match.groups()
        if plain:
            found.append(plain)
        elif anything or negated:
            if negated:
                _members(inner, pattern)
            found.append(None)
        else:
            found.append(_members(inner, pattern))
        at = match.end()
    if not found:
        raise PatternError("the pattern is empty")
    return tuple(found)


def _members(inner: str, pattern: str) -> str:
    def spread(match: re.Match[str]) -> str:
        first, last = match[1], match[2]
        if first.isdigit() != last.isdigit() or first > last:
            raise PatternError(f"the range {match[0]} in {pattern!r} runs backwards or mixes digits and letters")
        return "".join(chr(n) for n in range(ord(first), ord(last) + 1))

    members = "".join(dict.fromkeys(_RANGE.sub(spread, inner)))
    if not members:
        raise PatternError(f"{pattern!r} has an empty class")
    if not members.isalnum():
        raise PatternError(f"the class [{inner}] in {pattern!r} contains a character that no code has")
    return members


def canonical(pattern: str) -> str:
    """The pattern with every class in a standard form: ranges inside lists are expanded, and a class of one character
    becomes that character."""
    made = []
    for match in _PLACE.finditer(pattern):
        negated, inner, anything, plain = match.groups()
        if plain or anything:
            made.append(match[0])
            continue
        members = _members(inner, pattern)
        made.append(members if len(members) == 1 and not negated else f"[{negated}{_as_range(members)}]")
    places(pattern)
    return "".join(made)


def _as_range(members: str) -> str:
    run = "".join(chr(n) for n in range(ord(members[0]), ord(members[-1]) + 1))
    return f"{members[0]}-{members[-1]}" if members == run and len(members) > 3 else members


def written_out(pattern: str, most: int | None = None) -> list[str]:
    """Every code that the pattern stands for. The pattern itself is the only item if there are more than ``most`` codes, or
    if it has ``_`` or a negated class."""
    parts = places(pattern)
    if any(part is None for part in parts):
        return [pattern]
    size = 1
    for part in parts:
        size *= len(part or "")
    if most is not None and size > most:
        return [pattern]
    return ["".join(chosen) for chosen in itertools.product(*[part or "" for part in parts])]


def as_regex(pattern: str) -> str:
    """The pattern as a regular expression for upper-case text; classes mean the same there as in T-SQL."""
    return pattern.replace("_", ".")


def one_of(patterns: Iterable[str]) -> str:
    """A regular expression that finds any of the patterns. It fails fast: characters that several patterns share at their
    start are tested once, and of two patterns that start alike the shorter one is enough."""
    tree: dict[str, Any] = {}
    rest: list[str] = []
    for code in (code for pattern in patterns for code in written_out(pattern, _MOST_IN_TREE)):
        if not code.isalnum():  # a negated class, `_`, or too many codes
            rest.append(as_regex(code))
            continue
        here = tree
        for character in code:
            here = here.setdefault(character, {})
        here[""] = {}
    if not rest:
        return _branches(tree)
    return f"(?:{'|'.join([*([_branches(tree)] if tree else []), *rest])})"


def _branches(tree: dict[str, Any]) -> str:
    if "" in tree:  # a shorter code ends here: whatever follows matches too
        return ""
    by_rest: dict[str, list[str]] = {}
    for character in sorted(tree):
        by_rest.setdefault(_branches(tree[character]), []).append(character)
    parts = [f"{_class(characters)}{rest}" for rest, characters in by_rest.items()]
    if len(parts) == 1:
        return parts[0]
    # Branches are tried one by one at every place of a text. A look-ahead avoids this at most places.
    ahead = f"(?={_class(sorted(tree))})" if len(parts) >= _BRANCHES_WITH_LOOK_AHEAD else ""
    return f"{ahead}(?:{'|'.join(parts)})"


def _class(characters: list[str]) -> str:
    return characters[0] if len(characters) == 1 else f"[{''.join(characters)}]"


def why_not_a_code(pattern: str) -> str | None:
    """Why no code of ICD-10 or OPCS-4 can start with the pattern; None if a code can."""
    try:
        parts = places(pattern)
    except PatternError as error:
        return str(error)
    if len(parts) > len(_CODE_PLACES):
        return f"{pattern} has {len(parts)} characters, but a code has at most {len(_CODE_PLACES)}"
    for number, (part, wanted) in enumerate(zip(parts, _CODE_PLACES, strict=False), start=1):
        if part is None or wanted == "suffix":
            continue
        fits = str.isalpha if wanted == "letter" else (lambda c, x="X" in wanted: c.isdigit() or (x and c == "X"))
        if not all(fits(character) for character in part):
            return f"{pattern} has {part!r} as character {number}, where a code has a {wanted}"
    return None


def impossible_age(bound: int) -> bool:
    """Whether the number can be neither an age in years nor a code for babies."""
    return not any(low <= bound <= high for low, high in _POSSIBLE_AGES)
