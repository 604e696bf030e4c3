"""Which boards and days the registers cover, whether their people can be found in silver, and warnings about them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ebi_spark.approvals.regimes import Coverage
from ebi_spark.approvals.register import APPROVED

# How many boards or reasons a warning lists.
_SHOWN = 10


# The columns of ``silver/prior_approval`` by which entries are counted.
COUNTED_BY = ("board", "decision", "person_in_silver", "requested_on", "decided_on")


def entries_by_board(counts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each board that an entry names (None: no board): its ``entries``; ``absent``, those whose person is not in silver;
    ``approved`` entries and ``approved_in_silver``; and ``first`` and ``last``, the days of its first and last request or
    decision (None if no entry has a day). ``counts``: the number of ``rows`` by :data:`COUNTED_BY`.

    | board | decision | person_in_silver | requested_on | decided_on | rows | → entries | absent | first      | last       |
    |-------|----------|------------------|--------------|------------|------|-----------|--------|------------|------------|
    | QJ2   | approved | true             | 2024-01-02   | 2024-01-10 | 1    | 3         | 2      | 2024-01-02 | 2024-01-20 |
    | QJ2   | pending  | false            | 2024-01-20   | NULL       | 2    |           |        |            |            |
    """
    found: dict[str | None, dict[str, Any]] = {}
    for row in counts:
        board = found.setdefault(
            row["board"],
            {"board": row["board"], **dict.fromkeys(("entries", "absent", "approved", "approved_in_silver"), 0)},
        )
        approved, seen = row["decision"] == APPROVED, row["person_in_silver"]
        board["entries"] += row["rows"]
        board["absent"] += 0 if seen else row["rows"]
        board["approved"] += row["rows"] if approved else 0
        board["approved_in_silver"] += row["rows"] if approved and seen else 0
        for name, choose in (("first", min), ("last", max)):
            days = [day for day in (row["requested_on"], row["decided_on"], board.get(name)) if day]
            board[name] = choose(days, default=None)
    return list(found.values())


def register_coverage(
    boards: Iterable[Mapping[str, Any]], stated: Iterable[Coverage], linkable_share: float, person_system: str | None
) -> list[dict[str, Any]]:
    """The boards and days that the registers cover, as :func:`~ebi_spark.approvals.match.match_approvals` needs them.

    ``boards``: rows of :func:`entries_by_board`. Without ``stated`` coverage, a register covers each board that it names, from
    its first entry to its last. A board can be linked if at least ``linkable_share`` of its approved entries have their person
    in silver. Entries that name no board count for every board. Here ``linkable_share`` is 0.5:

    | board | approved | approved_in_silver | first, last            | → covered_from | covered_to | linkable |
    |-------|----------|--------------------|------------------------|----------------|------------|----------|
    | QJ2   | 10       | 9                  | 2024-01-02, 2024-12-20 | 2024-01-02     | 2024-12-20 | True     |
    | QOP   | 10       | 1                  | 2024-02-01, 2024-11-30 | 2024-02-01     | 2024-11-30 | False    |
    | QWO   | 0        | 0                  | 2024-03-01, 2024-10-31 | 2024-03-01     | 2024-10-31 | True     |
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
