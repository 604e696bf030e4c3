"""Which area codes belong to an integrated care board (ICB), and on which days.

Boards began on 1 July 2022. Before that day an area counts as part of the board that its successor joined, so the back-cast
activity of a local policy covers the same places.
"""

from collections.abc import Collection, Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from ebi_spark.config.shipped_files import resource
from ebi_spark.geography.lookup_files import EVER, NEVER
from ebi_spark.small_files import read_rows
from ebi_spark.small_frames import small_frame


def members(board: str) -> list[tuple[str, date, date]]:
    """(area code, first day, end day exclusive) of the sub-ICB locations of a board, and of areas that became one of these
    in full."""
    rows = read_rows(resource("conf", "reference", "areas.csv"))
    spans: dict[str, list[tuple[date, date, str]]] = {}
    for row in rows:
        since = date.fromisoformat(row["valid_from"])
        until = date.fromisoformat(row["valid_to"]) if row["valid_to"] else NEVER
        spans.setdefault(row["sub_icb_code"], []).append((since, until, row["icb_code"]))
    found: list[tuple[str, date, date]] = []
    for code, listed in spans.items():
        listed.sort()
        for number, (since, until, icb) in enumerate(listed):
            if icb != board:
                continue
            if number and found and found[-1][0] == code and found[-1][2] == since:
                found[-1] = (code, found[-1][1], until)  # the same board before and after: one longer span
            else:
                found.append((code, since if number else EVER, until))
    current = {code for code, _, _ in found}
    for row in read_rows(resource("conf", "reference", "area_successors.csv")):
        if row["to_code"] in current and float(row["share"]) == 1.0 and row["from_code"] not in current:
            found.append((row["from_code"], EVER, date.fromisoformat(row["from_date"])))
    return sorted(found)


def restrict_to_board(records: DataFrame, boards: Sequence[Collection[str]], day: Column) -> DataFrame:
    """Remove the pairs of a record and a local policy whose patient belongs to another board, or whose area is unknown.

    ``records`` has one row for each record and revision period, with ``_unit`` (the number of the period) and
    ``area_code``. ``boards`` lists the boards of each period, empty for a national policy. ``day``: the day for which the
    board of an area is looked up.

    | record_id | boards of the period | area_code (its board) | → row   |
    |-----------|----------------------|-----------------------|---------|
    | 1         | none: national       | 15E (QHL)             | kept    |
    | 1         | QJ2                  | 15E (QHL)             | removed |
    | 2         | QJ2                  | 15M (QJ2)             | kept    |
    | 3         | QJ2                  | NULL                  | removed |
    """
    local = [number for number, own in enumerate(boards) if own]
    if not local:
        return records
    rows = [(number, *member) for number in local for board in boards[number] for member in members(board)]
    spans = F.broadcast(
        small_frame(records.sparkSession, rows, "_local_unit int, _board_area string, _board_from date, _board_to date")
    )
    here = (
        (F.col("_unit") == F.col("_local_unit"))
        & (F.col("area_code") == F.col("_board_area"))
        & (day >= F.col("_board_from"))
        & (day < F.col("_board_to"))
    )
    kept = records.join(spans, here, "left").where(~F.col("_unit").isin(*local) | F.col("_local_unit").isNotNull())
    return kept.drop("_local_unit", "_board_area", "_board_from", "_board_to")
