"""Code patterns: what one may hold, how it is written out, what it matches in a code.

A pattern is a run of places: a letter or digit, a class such as ``[789]`` or ``[0-9]``, a class that negates
(``[^0]``), or ``_`` for any one character; the last two on fields of one code only.
"""

import itertools
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

_PLACE = re.compile(r"\[(\^?)([^\]]*)\]|(_)|([A-Z0-9])")
_RANGE = re.compile(r"([A-Z0-9])-([A-Z0-9])")
# Patterns with more codes than this stay classes when a page is written out.
MOST_WRITTEN_OUT = 12
# Nor are those of more codes than this looked for by what they share.
_MOST_IN_TREE = 200
_BRANCHES_WITH_LOOK_AHEAD = 4
AGE_FIELDS = ("age", "age_years")
CODE_FIELDS = ("dominant_procedure", "primary_diagnosis", "any_diagnosis", "any_procedure")
# Ages that a bound can sensibly name: years, and the codes of babies (7001 to 7007).
_POSSIBLE_AGES = ((0, 120), (7000, 7007))
OPERATORS = ("starts_with", "contains", "in")
# What a code of either system can be: ICD-10 and OPCS-4 both have a letter and two digits, then a digit or X.
_CODE_PLACES = ("letter", "digit", "digit", "digit or X", "digit or X", "suffix")


class PatternError(ValueError):
    """A pattern that cannot be read; the text says why."""


@lru_cache(maxsize=4096)
def places(pattern: str) -> tuple[str | None, ...]:
    """The characters that each place of the pattern allows; None where it is ``_`` or negates."""
    found: list[str | None] = []
    at = 0
    while at < len(pattern):
        match = _PLACE.match(pattern, at)
        if match is None:
            raise PatternError(f"{pattern[at]!r} in {pattern!r} cannot stand in a code")
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
            raise PatternError(f"the range {match[0]} in {pattern!r} runs backwards or from digits to letters")
        return "".join(chr(n) for n in range(ord(first), ord(last) + 1))

    members = "".join(dict.fromkeys(_RANGE.sub(spread, inner)))
    if not members:
        raise PatternError(f"{pattern!r} has an empty class")
    if not members.isalnum():
        raise PatternError(f"the class [{inner}] in {pattern!r} holds a character that no code has")
    return members


def canonical(pattern: str) -> str:
    """The pattern with its classes in one form: ranges inside lists written out, one character as itself."""
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
    """Every code of the pattern's classes, or the pattern alone where there are more than ``most`` or no end."""
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
    """The pattern as a regular expression over upper-case text; classes mean the same there as in T-SQL."""
    return pattern.replace("_", ".")


def one_of(patterns: Iterable[str]) -> str:
    """A regular expression for any of the patterns, or what starts so, that fails fast: what they share at their start is
    asked once."""
    tree: dict[str, Any] = {}
    rest: list[str] = []
    for code in (code for pattern in patterns for code in written_out(pattern, _MOST_IN_TREE)):
        if not code.isalnum():  # a class that negates, `_`, or too many codes
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
    if "" in tree:  # a shorter code ends here: what follows says no more
        return ""
    by_rest: dict[str, list[str]] = {}
    for character in sorted(tree):
        by_rest.setdefault(_branches(tree[character]), []).append(character)
    parts = [f"{_class(characters)}{rest}" for rest, characters in by_rest.items()]
    if len(parts) == 1:
        return parts[0]
    # Branches are tried one by one at every place of a text: a look ahead spares most places that.
    ahead = f"(?={_class(sorted(tree))})" if len(parts) >= _BRANCHES_WITH_LOOK_AHEAD else ""
    return f"{ahead}(?:{'|'.join(parts)})"


def _class(characters: list[str]) -> str:
    return characters[0] if len(characters) == 1 else f"[{''.join(characters)}]"


def no_code(pattern: str) -> str | None:
    """Why no code of ICD-10 or OPCS-4 can start with the pattern; None where one can."""
    try:
        parts = places(pattern)
    except PatternError as error:
        return str(error)
    if len(parts) > len(_CODE_PLACES):
        return f"{pattern} has {len(parts)} characters, a code has at most {len(_CODE_PLACES)}"
    for number, (part, wanted) in enumerate(zip(parts, _CODE_PLACES, strict=False), start=1):
        if part is None or wanted == "suffix":
            continue
        fits = str.isalpha if wanted == "letter" else (lambda c, x="X" in wanted: c.isdigit() or (x and c == "X"))
        if not all(fits(character) for character in part):
            return f"{pattern} has {part!r} where a code has a {wanted} (place {number})"
    return None


def impossible_age(bound: int) -> bool:
    """Whether no record can be of that age, neither in years nor as the code of a baby."""
    return not any(low <= bound <= high for low, high in _POSSIBLE_AGES)
