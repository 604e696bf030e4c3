"""What a user is told when something is wrong: one message, one remedy, one exit status.

No message carries a patient's value: files, columns, counts and keys of the configuration only.
"""

# No message is longer: a header can have a column whose name is a megabyte.
MOST_SHOWN = 4000


def shown(text: str) -> str:
    """A text that is not the product's own (a column, a path, a setting), safe to print: whatever a terminal or a log would
    act on instead of showing it (escapes, line breaks, marks that turn the direction of writing) is written out."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


class EbiError(Exception):
    """An outcome that ends a job. ``message`` says what is wrong and where, ``remedy`` what to do about it."""

    exit_status = 3
    outcome = "broken"

    def __init__(self, message: str, *, remedy: str) -> None:
        self.message, self.remedy = _cut(shown(message)), _cut(shown(remedy))
        # What the run log keeps of it, besides.
        self.details: dict[str, str] = {}
        super().__init__(self.message)


def _cut(text: str) -> str:
    """What is too long loses its middle: the cause is at the end, where a name of a megabyte comes first."""
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN // 2]} … {text[-MOST_SHOWN // 2 :]}"


class InputError(EbiError):
    """The call, the configuration, an input file or the environment is wrong; no table was touched."""

    exit_status = 2
    outcome = "refused"


class DataError(EbiError):
    """The data failed a check: nothing was published and the old release stands."""

    exit_status = 1
    outcome = "failed"


class BrokenRunError(EbiError):
    """Something broke midway; what was committed stands and the same call repeats the rest."""
