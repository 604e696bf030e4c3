"""Which boards and days the registers cover, whether their people can be found in silver, and warnings about them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from ebi_spark.approvals.regimes import Coverage
from ebi_spark.approvals.register import APPROVED

# How many boards or reasons a warning lists.
_SHOWN = 10


def entries_by_board(entries: DataFrame) -> DataFrame:
    """For each board that an entry names (NULL: no board): its ``entries``; ``absent``, those whose person is not in silver;
    ``approved`` entries and ``approved_in_silver``; and ``first`` and ``last``, the days of its first and last request or
    decision. ``entries`` has rows of ``silver/prior_approval``.

    | board | decision | person_in_silver | requested_on | decided_on |
    |-------|----------|------------------|--------------|------------|
    | QJ2   | approved | true             | 2023-05-02   | 2023-05-20 |
    | QJ2   | declined | false            | 2023-04-11   | 2023-04-30 |
    | QOP   | approved | false            | NULL         | 2023-06-01 |

    | → board | entries | absent | approved | approved_in_silver | first      | last       |
    |---------|---------|--------|----------|--------------------|------------|------------|
    | QJ2     | 2       | 1      | 1        | 1                  | 2023-04-11 | 2023-05-20 |
    | QOP     | 1       | 1      | 1        | 0                  | 2023-06-01 | 2023-06-01 |
    """
    approved = F.col("decision") == APPROVED
    return entries.groupBy("board").agg(
        F.count("*").alias("entries"),
        F.count_if(~F.col("person_in_silver")).alias("absent"),
        F.count_if(approved).alias("approved"),
        F.count_if(approved & F.col("person_in_silver")).alias("approved_in_silver"),
        F.min(F.least("requested_on", "decided_on")).alias("first"),
        F.max(F.greatest("requested_on", "decided_on")).alias("last"),
    )


def register_coverage(
    boards: Iterable[Mapping[str, Any]], stated: Iterable[Coverage], linkable_share: float, person_system: str | None
) -> list[dict[str, Any]]:
    """The boards and days that the registers cover, as :func:`~ebi_spark.approvals.match.match_approvals` needs them.

    ``boards``: rows of :func:`entries_by_board`. Without ``stated`` coverage, a register covers each board that it names, from
    its first entry to its last. A board can be linked if at least ``linkable_share`` of its approved entries have their person
    in silver. Entries that name no board count for every board.
    """
    listed = list(boards)
    spans = list(stated) or [Coverage(row["board"], row["first"], row["last"]) for row in listed if row["board"]]
    return [
        {
            "board": span.board,
            "covered_from": span.since,
            "covered_to": span.until,
            "linkable": _share_in_silver(listed, span.board) >= linkable_share,
            "person_system": person_system,
        }
        for span in spans
    ]


def _share_in_silver(boards: Iterable[Mapping[str, Any]], board: str) -> float:
    """1 for a board without approved entries: nothing shows that its pseudonyms are different."""
    own = [row for row in boards if row["board"] in (board, None)]
    approved = sum(row["approved"] for row in own)
    return sum(row["approved_in_silver"] for row in own) / approved if approved else 1.0


def register_warnings(
    boards: Iterable[Mapping[str, Any]],
    covered: Iterable[Mapping[str, Any]],
    quarantined: Iterable[Mapping[str, Any]],
    *,
    stated: bool,
    linkable_share: float,
) -> list[str]:
    """Warnings about the registers, one line each. ``quarantined``: ``rows`` by ``reasons``. ``stated``: the configuration
    says what the registers cover."""
    listed, spans = list(boards), list(covered)
    lines = []
    for board in sorted({span["board"] for span in spans if not span["linkable"]}):
        share = _share_in_silver(listed, board)
        lines.append(
            f"register_not_linkable: only {share:.0%} of the approved entries of {board} have their person in silver, fewer than "
            f"{linkable_share:.0%}, so none of its operations is linked: check whose person_id the register has"
        )
    if not spans:
        lines.append("the registers name no board, so no operation is linked: name the board under `approvals.covers`")
    elif not stated:
        days = [f"{span['board']} {span['covered_from']} to {span['covered_to']}" for span in spans]
        lines.append(
            f"the registers are assumed to cover the days from their first entry to their last: {_named(days)}; if they cover "
            "more, say so under `approvals.covers`"
        )
    absent, entries = (sum(row[name] for row in listed) for name in ("absent", "entries"))
    if absent:
        lines.append(f"{absent:,} of {entries:,} entries of the registers have a person that is not in silver")
    by_reason: Counter[str] = Counter()
    rows = 0
    for row in quarantined:
        rows += row["rows"]
        by_reason.update(dict.fromkeys(row["reasons"], row["rows"]))
    if rows:
        reasons = [f"{reason} {number:,}" for reason, number in by_reason.most_common()]
        lines.append(
            f"{rows:,} rows of the registers are quarantined ({_named(reasons)}): see silver/prior_approval_quarantine"
        )
    return lines


def _named(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
