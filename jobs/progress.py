"""Many years in steps: which years go together, and how long the rest will take."""

from collections.abc import Iterable, Mapping, Sequence

# Records that one step of `flag` goes through at most (a single year may be more): a step is committed and noted in the
# run log, so that a run that is stopped goes on behind it. Smaller steps cost more starts than they save.
STEP_RECORDS = 8_000_000


def steps(years: Iterable[str], records: Mapping[str, int], most: int = STEP_RECORDS) -> list[list[str]]:
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
    """Seconds for ``records`` more at the pace of what is ``done`` ((seconds, records) each); None before anything is."""
    seconds, of = sum(item[0] for item in done), sum(item[1] for item in done)
    return seconds / of * records if of else None


def in_words(seconds: float) -> str:
    """A length of time, roughly: people plan by it."""
    if seconds < 90:
        return f"{max(10, round(seconds / 10) * 10)} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
