"""Time to an event, from counts by day: Kaplan-Meier for one kind of event, Aalen-Johansen for several that compete.

Both take a table of counts by day, so that no record of a person has to leave Spark:

    day   events                              censored
    3     {"readmission": 1}                  0
    10    {"readmission": 2, "death": 1}      4

Everybody starts on day 0. A person who is censored on a day was at risk on that day, because events come first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, log, sqrt

from ebi_spark.statistics.levels import Z_95


@dataclass(frozen=True)
class Day:
    """What happened on one day after the start: events by kind, and how many were last seen on that day."""

    day: int
    events: Mapping[str, int] = field(default_factory=dict)
    censored: int = 0


@dataclass(frozen=True)
class Point:
    """A curve from ``day`` on, until the next point: ``value`` is a probability between 0 and 1."""

    day: int
    at_risk: int
    value: float
    lower: float
    upper: float


def kaplan_meier(days: Sequence[Day]) -> list[Point]:
    """The probability of no event up to each day on which one happened; every kind of event counts.

    S = product of (1 - d/n) (Kaplan and Meier, JASA 1958), Greenwood's variance, limits on the scale of log(-log S).
    """
    survival, greenwood, points = 1.0, 0.0, []
    for day, at_risk in _with_numbers_at_risk(days):
        events = sum(day.events.values())
        if events == 0:
            continue
        survival *= 1 - events / at_risk
        greenwood += events / (at_risk * (at_risk - events)) if at_risk > events else float("inf")
        points.append(Point(day.day, at_risk, survival, *_log_log_limits(survival, greenwood)))
    return points


def aalen_johansen(days: Sequence[Day], kind: str) -> list[Point]:
    """The cumulative incidence of one ``kind`` of event where others compete with it, at each day with an event of any kind.

    F = sum of S(before) * d/n (Aalen and Johansen, Scandinavian Journal of Statistics 1978), variance by the delta method
    (Marubini and Valsecchi 1995), limits on the scale of log(-log F).
    """
    survival, incidence = 1.0, 0.0
    steps: list[tuple[int, int, int, float, float]] = []  # at risk, all events, of the kind, S before, F after
    points = []
    for day, at_risk in _with_numbers_at_risk(days):
        events, of_kind = sum(day.events.values()), day.events.get(kind, 0)
        if events == 0:
            continue
        incidence += survival * of_kind / at_risk
        steps.append((at_risk, events, of_kind, survival, incidence))
        survival *= 1 - events / at_risk
        variance = sum(_variance_part(incidence, *step) for step in steps)
        points.append(Point(day.day, at_risk, incidence, *_incidence_limits(incidence, max(0.0, variance))))
    return points


def at_day(points: Sequence[Point], day: int) -> Point | None:
    """The point of a curve that applies on ``day``; None before the first point."""
    return next((point for point in reversed(points) if point.day <= day), None)


def at_risk_after(days: Sequence[Day], day: int) -> int:
    """How many are still observed and without an event after ``day``."""
    everybody = sum(sum(item.events.values()) + item.censored for item in days)
    return everybody - sum(sum(item.events.values()) + item.censored for item in days if item.day <= day)


def _with_numbers_at_risk(days: Sequence[Day]) -> list[tuple[Day, int]]:
    found = sorted(days, key=lambda item: item.day)
    if len({item.day for item in found}) != len(found):
        raise ValueError("a day appears twice")
    at_risk, numbered = sum(sum(item.events.values()) + item.censored for item in found), []
    for item in found:
        numbered.append((item, at_risk))
        at_risk -= sum(item.events.values()) + item.censored
    return numbered


def _variance_part(incidence: float, at_risk: int, events: int, of_kind: int, before: float, after: float) -> float:
    left = incidence - after
    # If nobody is left, no later value depends on this one.
    of_survival = left**2 * events / (at_risk * (at_risk - events)) if at_risk > events else 0.0
    own = before**2 * of_kind * (at_risk - of_kind) / at_risk**3
    return of_survival + own - 2 * left * before * of_kind / at_risk**2


def _log_log_limits(survival: float, greenwood: float) -> tuple[float, float]:
    if survival in (0.0, 1.0):
        return survival, survival
    half = Z_95 * sqrt(greenwood) / abs(log(survival))
    return survival ** exp(half), survival ** exp(-half)


def _incidence_limits(incidence: float, variance: float) -> tuple[float, float]:
    if not 0 < incidence < 1:
        return incidence, incidence
    half = Z_95 * sqrt(variance) / (incidence * abs(log(incidence)))
    return incidence ** exp(half), incidence ** exp(-half)
