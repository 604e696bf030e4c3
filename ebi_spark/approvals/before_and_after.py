"""Operations before and after a board's regime changed, by month and quarter, from counts by day."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta
from typing import Any

from ebi_spark.approvals.regimes import RegimeChange
from ebi_spark.financial_years import starts_in
from ebi_spark.statistics.counts import exact_poisson

_MONTHS = {"month": 1, "quarter": 3}


def before_and_after(
    counts: Iterable[Mapping[str, Any]], changes: Iterable[RegimeChange], data_days: Collection[date]
) -> list[dict[str, Any]]:
    """The rows of ``gold/regime_change`` except ``run_id``.

    ``counts``: ``rows`` operations by ``policy_id``, ``board``, ``operation_date`` and ``flagged``. ``data_days``: the days
    that have a record in the lake. They say which periods it covers. A period without operations has a row with 0; a period
    without any day in the data has no row. Quarters begin in January, April, July and October.

    | day        | operations | change on  | → grain | period_start | side   | operations |
    |------------|------------|------------|---------|--------------|--------|------------|
    | 2024-02-07 | 2          | 2024-03-18 | month   | 2024-02-01   | before | 2          |
    | 2024-03-05 | 1          | 2024-03-18 | month   | 2024-03-01   | during | 1          |
    """
    listed = list(counts)
    if not data_days:
        return []
    first, last = min(data_days), max(data_days)
    # A year between the first and the last may be missing from the lake.
    years = {starts_in(day) for day in data_days}
    days = [day for number in range((last - first).days + 1) if starts_in(day := first + timedelta(number)) in years]
    return [row for change in changes for grain in _MONTHS for row in _rows(listed, change, grain, days)]


def _rows(
    counts: list[Mapping[str, Any]], change: RegimeChange, grain: str, days: list[date]
) -> Iterable[dict[str, Any]]:
    covered = Counter(_start(day, grain) for day in days)
    all_of: Counter[date] = Counter()
    flagged: Counter[date] = Counter()
    for row in counts:
        if (row["policy_id"], row["board"]) == (change.policy_id, change.board):
            start = _start(row["operation_date"], grain)
            all_of[start] += row["rows"]
            flagged[start] += row["rows"] if row["flagged"] else 0
    during = _start(change.on, grain)
    for start, number in sorted(covered.items()):
        # If the change is on the first day of a period, the whole period is after it.
        side = "before" if start < during else "during" if start == during and start < change.on else "after"
        (of_all, of_flagged) = (exact_poisson(counted[start]) for counted in (all_of, flagged))
        yield {
            "policy_id": change.policy_id,
            "board": change.board,
            "changed_on": change.on,
            "regime_before": change.before,
            "regime_after": change.after,
            "grain": grain,
            "period_start": start,
            "side": side,
            "days": number,
            "operations": all_of[start],
            "operations_lower": of_all[0],
            "operations_upper": of_all[1],
            "flagged": flagged[start],
            "flagged_lower": of_flagged[0],
            "flagged_upper": of_flagged[1],
        }


def _start(day: date, grain: str) -> date:
    months = _MONTHS[grain]
    return date(day.year, (day.month - 1) // months * months + 1, 1)
