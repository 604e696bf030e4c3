"""Divides many years into batches, and estimates how long the rest will take."""

from collections.abc import Iterable, Mapping, Sequence

# The number of records that one batch of `flag` reads at most (a single year may be more). Each batch is committed and
# noted in the run log, so an interrupted run resumes after its last completed batch. Smaller batches would cost more
# in start-up than they save.
BATCH_RECORDS = 8_000_000


def batches(years: Iterable[str], records: Mapping[str, int], most: int = BATCH_RECORDS) -> list[list[str]]:
    """``years`` in order, in groups of at most ``most`` records where a group has more than one year."""
    found: list[list[str]] = []
    size = 0
    for year in sorted(years):
        number = records.get(year, 0)
        if not found or size + number > most:
            found.append([])
            size = 0
        found[-1].append(year)
        size += number
    return found


def seconds_left(done: Sequence[tuple[float, int]], records: int) -> float | None:
    """The seconds that ``records`` more will take at the speed of what is ``done`` ((seconds, records) each); None
    before anything is."""
    seconds, records_done = sum(item[0] for item in done), sum(item[1] for item in done)
    return seconds / records_done * records if records_done else None


def years_done(stage: str, done: int, years: int, left: float | None) -> str:
    """The line of progress between two batches. ``left``: how many seconds the stage will probably take; None: not known."""
    about = f", about {in_words(left)} left in this stage" if left is not None else ""
    return f"{stage}: {done} of {years} years done{about}"


def in_words(seconds: float) -> str:
    """A length of time, rounded for people to plan by."""
    if seconds < 90:
        return f"{max(10, round(seconds / 10) * 10)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
