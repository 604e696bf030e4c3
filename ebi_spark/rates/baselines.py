"""Our counts compared with past activity as the sources publish it (``conf/baselines.yml``)."""

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from ebi_spark.config.shipped_files import shipped_document


class Comparison(NamedTuple):
    """A reading's count of a year for England, as a multiple of the published one; None if ours is 0. ``nearest``: no other
    reading's count is nearer, by the ratio of the larger to the smaller count."""

    reading: str
    records: int
    ratio: float | None
    nearest: bool


@cache
def baselines() -> Mapping[str, Mapping[str, Any]]:
    """The published baseline of each policy, by policy id. Shared by all callers: do not change it."""
    return {item["policy"]: item for item in shipped_document("baselines", "baselines")["baselines"]}


# How areas differ, as a baseline and rows of `published/variation` name it.
SPREAD = ("n_fold", "p10", "p25", "p50", "p90")


def nearest_period(baseline: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> str | None:
    """The shortest period of ``rows`` that has the baseline's year in it. None if none has.

    >>> nearest_period({"financial_year": "2018-19"}, [{"period": "2018-19..2020-21"}, {"period": "2021-22..2023-24"}])
    '2018-19..2020-21'
    """
    year = baseline["financial_year"]
    having = {period for row in rows if (period := str(row["period"]))[:7] <= year <= period[-7:]}
    return min(having, key=lambda period: (int(period[-7:-3]) - int(period[:4]), period), default=None)


def compare(baseline: Mapping[str, Any], counts: Mapping[str, int]) -> list[Comparison]:
    """Each reading's count beside the published one. ``counts``: the flagged records of England in the baseline's year, by
    reading.

    >>> [(c.reading, c.ratio, c.nearest) for c in compare({"records": 40}, {"as_published": 50, "as_intended": 20})]
    [('as_published', 1.25, True), ('as_intended', 0.5, False)]
    """
    ratios = {reading: number / baseline["records"] if number else None for reading, number in counts.items()}
    distances = {reading: abs(math.log(ratio)) for reading, ratio in ratios.items() if ratio}
    least = min(distances.values(), default=None)
    return [
        Comparison(reading, number, ratios[reading], least is not None and distances.get(reading) == least)
        for reading, number in counts.items()
    ]
