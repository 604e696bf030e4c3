"""Errors shown to the user: each has a message, a remedy and an exit status.

No message contains a patient's value. Messages name only files, columns, counts and keys of the configuration.
"""

import difflib
from collections.abc import Iterable

# The longest message, in characters: a header can have a column name of a megabyte.
MOST_SHOWN = 4000


def shown(text: str) -> str:
    """A text from outside the product (a column, a path, a setting), made safe to print.

    Characters that a terminal or log would act on (escapes, line breaks, marks that change the direction of writing)
    are replaced by their escape codes.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def nearest_name(given: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that a mistyped name is most like; None if none is like it. ``cutoff``: how alike they have to be, from 0
    (the nearest name, however different) to 1."""
    return next(iter(difflib.get_close_matches(given, list(known), n=1, cutoff=cutoff)), None)


def did_you_mean(given: str, known: Iterable[str], cutoff: float = 0.6, *, quoted: bool = False) -> str:
    """A suggestion for a mistyped name: ``did you mean NAME? `` (with a blank at its end, and NAME in quotation marks if ``quoted``),
    or an empty text if :func:`nearest_name` finds none."""
    near = nearest_name(given, known, cutoff)
    return "" if near is None else f"did you mean {near!r}? " if quoted else f"did you mean {near}? "


def spark_condition(error: BaseException) -> str:
    """What Spark calls this kind of error, such as ``TABLE_OR_VIEW_NOT_FOUND``. Empty for errors that have no such name."""
    return getattr(error, "getCondition", lambda: None)() or ""


class EbiError(Exception):
    """An error that ends a job. ``message`` says what is wrong and where; ``remedy`` says what to do about it."""

    exit_status = 3
    outcome = "broken"

    def __init__(self, message: str, *, remedy: str) -> None:
        self.message, self.remedy = _cut(shown(message)), _cut(shown(remedy))
        # Further facts for the run log.
        self.details: dict[str, str] = {}
        super().__init__(self.message)


def _cut(text: str) -> str:
    """Cut the middle out of a text that is too long: if a very long name comes first, the cause is at the end."""
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN // 2]} … {text[-MOST_SHOWN // 2 :]}"


class InputError(EbiError):
    """The command, the configuration, an input file or the environment is wrong; no table was changed."""

    exit_status = 2
    outcome = "refused"


class DataError(EbiError):
    """The data failed a check: nothing was published and the old release stays current."""

    exit_status = 1
    outcome = "failed"


class BrokenRunError(EbiError):
    """The run failed part-way. What was committed stays in the lake; running the same command again does the rest."""
