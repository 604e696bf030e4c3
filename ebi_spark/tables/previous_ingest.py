"""What the last ingest knew, passed to the next one as a plain object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PreviousIngest:
    """What the last ingest knew about the source files. Used only when nothing but source files has changed since.

    ``changed``: the files that changed or are new, or the folders that the configuration names for them. ``years``: the
    financial years that the last ingest covers. ``files``: for each year, the files that have rows of it, quarantined
    rows included. ``read``: every file ever read. ``asked``: for each run, the years it was asked for (None: all
    years).
    """

    changed: frozenset[str]
    years: Sequence[str]
    read: frozenset[str]
    files: Mapping[str, frozenset[str]]
    asked: Mapping[str, tuple[str, ...] | None]
