"""Reminds when the source of a policy has to be looked at again."""

import calendar
import json
import re
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import NamedTuple

# A source that nobody has compared with its policy file for so long may have changed.
CHECK_AFTER = timedelta(days=365)


class Reminder(NamedTuple):
    """A policy whose source has to be looked at, and the reason in words."""

    policy_id: str
    reason: str


def review_day(review: str) -> date | None:
    """The last day before a review is late: of ``2029-03 (…)`` the end of the month; None where the text begins with no
    date."""
    found = re.match(r"(\d{4})-(\d{2})(?:-(\d{2}))?(?!\d)", review)
    if found is None:
        return None
    year, month = int(found[1]), int(found[2])
    try:
        return date(year, month, int(found[3]) if found[3] else calendar.monthrange(year, month)[1])
    except ValueError:
        return None


def reminders(sources: Mapping[str, Mapping[str, str]], today: date) -> list[Reminder]:
    """What has to be looked at on a day, by policy. ``sources``: each policy's ``source``, by policy id.

    A source without ``last_checked`` gives no reminder of its own: its file asks for none.
    """
    return [Reminder(name, reason) for name in sorted(sources) for reason in _reasons(sources[name], today)]


def sources_of(rows: Iterable[Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Each policy's ``source`` from rows of ``gold/policy`` with ``policy_id`` and ``definition``."""
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        try:
            found[row["policy_id"]] = dict(json.loads(row["definition"])["source"])
        except (ValueError, KeyError, TypeError):
            continue  # a definition of an earlier version
    return found


def _reasons(source: Mapping[str, str], today: date) -> Iterable[str]:
    checked = source.get("last_checked")
    if checked and today - date.fromisoformat(checked) > CHECK_AFTER:
        yield f"its source was last checked on {checked}, more than a year ago"
    review = source.get("review", "")
    late = review_day(review)
    if late is not None and today > late:
        yield f"the review that its source announces was due by {late}"
