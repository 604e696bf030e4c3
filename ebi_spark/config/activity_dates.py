"""The days on which activity can have taken place (``conf/activity_dates.yml``), and the day of the run."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from ebi_spark.config.shipped_files import shipped_document


@dataclass(frozen=True)
class DateWindow:
    """The days on which activity can have taken place (decision 22).

    They begin with ``first`` and end with the date of the extract if that is known. They never end after ``last``, the
    day of the run. An appointment up to ``ahead`` days later is a future appointment; a later date is a mistake.
    """

    first: date
    last: date
    ahead: int


@cache
def activity_dates() -> dict[str, Any]:
    """``conf/activity_dates.yml``: the first day of each data set and how far ahead appointments are made, with
    reasons."""
    return shipped_document("activity_dates", "activity dates")


def first_days() -> dict[str, str]:
    """The first day of each data set, as text."""
    return {name: item["day"] for name, item in activity_dates()["activity_from"].items()}


def days_ahead() -> int:
    """How many days after the day of a run an appointment can be."""
    days: int = activity_dates()["appointments_ahead_days"]["days"]
    return days


def today(timezone: str = "Europe/London") -> date:
    """Today's date in a time zone."""
    return datetime.now(ZoneInfo(timezone)).date()
