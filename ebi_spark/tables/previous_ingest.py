"""What an ingest is told of the one before it, as a plain object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PreviousIngest:
    """What the last ingest knew of the source files, when only source files have changed since.

    ``changed``: the changed files, or folders as the configuration names them, including new ones. ``years``: the years it
    covers. ``files``: the files that have rows of each year, quarantined rows included. ``read``: every file ever read.
    ``asked``: the years that each run was asked for (None: all).
    """

    changed: frozenset[str]
    years: Sequence[str]
    read: frozenset[str]
    files: Mapping[str, frozenset[str]]
    asked: Mapping[str, tuple[str, ...] | None]
