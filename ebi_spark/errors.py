"""What a user is told when something is wrong: one message, one remedy, one exit status.

No message carries a patient's value: files, columns, counts and keys of the configuration only.
"""


class EbiError(Exception):
    """An outcome that ends a job. ``message`` says what is wrong and where, ``remedy`` what to do about it."""

    exit_status = 3
    outcome = "broken"

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        # What the run log keeps of it, besides.
        self.details: dict[str, str] = {}


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
