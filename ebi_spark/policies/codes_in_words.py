"""Find the codes and ranges of codes that a text names."""

import re

_CODE = r"[A-Z]\d{2}(?:\.?\d)?X?"
_SERIES = re.compile(rf"(?<![A-Za-z0-9])({_CODE})((?:\s*(?:[-–—,&]|\band\b)\s*\d(?![\w.]))+)")
_IN_TEXT = re.compile(rf"(?<![A-Za-z0-9])({_CODE})(?![A-Za-z0-9])")
_RANGE = re.compile(rf"(?<![A-Za-z0-9])({_CODE})\s*(?:-|–|—|to)\s*({_CODE})(?![A-Za-z0-9])")


def plain_code(text: str) -> str:
    """A code without its dot."""
    return text.replace(".", "")


def codes_in(text: str) -> list[str]:
    """The codes that a text names, without dots. A series such as ``M050-3`` is expanded; the ends of a range such as
    ``M40.0-M40.2`` are left out (see :func:`ranges_in`)."""
    found: list[str] = []
    for match in _IN_TEXT.finditer(_RANGE.sub(" ", _SERIES.sub(_written_out, text))):
        found.append(plain_code(match[1]))
    return found


def ranges_in(text: str) -> list[tuple[str, str]]:
    """The first and last code of each range that a text names, without dots."""
    return [(plain_code(match[1]), plain_code(match[2])) for match in _RANGE.finditer(text)]


def _written_out(match: re.Match[str]) -> str:
    """All the codes of a series such as ``M050-9`` or ``M000, 1,2 & 9``, separated by blanks."""
    codes = [plain_code(match[1])]
    for part in re.finditer(r"([-–—]?)\D*?(\d)", match[2]):
        codes += further_codes(codes[-1], part[2], bool(part[1]))
    return " ".join(codes)


def further_codes(code: str, digit: str, is_range: bool) -> list[str]:
    """The codes that a further last digit adds to a series: all up to that digit for a range, otherwise that one."""
    last = code[-1]
    if is_range and last.isdigit():
        return [code[:-1] + str(n) for n in range(int(last) + 1, int(digit) + 1)]
    return [code[:-1] + digit]
