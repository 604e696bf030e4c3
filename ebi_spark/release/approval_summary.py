"""The published table ``approval_summary``: operations by class of prior approval.

All rows are England's, made on the driver from grouped counts of gold. ``docs/disclosure.md`` says what is withheld, and why.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ebi_spark.approvals.match import MATCH_CLASSES
from ebi_spark.release.kept_releases import Earlier
from ebi_spark.release.one_way_suppression import class_rows, definition_of, hidden_classes
from ebi_spark.release.suppression import Thresholds
from ebi_spark.tables.table import YEAR

Row = dict[str, Any]

SUB_NATIONAL = "sub_national"
# Classes of operations that are not linked. All other classes are linked: they are based on the boards with a register.
NOT_LINKED = ("cannot_link",)
LINKED = tuple(name for name in MATCH_CLASSES if name not in NOT_LINKED)


def approval_summary(
    counted: Sequence[Row], earlier: Earlier, every_board: Collection[str], rule: Thresholds
) -> list[Row]:
    """The operations of each policy and year by match class.

    ``counted``: the number of ``rows`` of ``gold/approval_match`` by policy, revision, reading, year, ``board`` and
    ``match_class``. The linked classes are based on the boards with a register. They are published only if there are two or more of
    these boards and they are all boards of England or at least two fewer; if they are the same in all kept releases; and if no other
    policy's boards of that year differ from them by one. Otherwise the status is ``sub_national``. A policy and year without a
    linked operation has no rows.
    """
    years: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in counted:
        years[row["policy_id"], row[YEAR]].append(row)
    boards = {key: _boards(rows) for key, rows in years.items()}
    found: list[Row] = []
    for (policy, year), rows in sorted(years.items()):
        own = boards[policy, year]
        counts = Counter(dict.fromkeys(MATCH_CLASSES, 0))
        for row in rows:
            counts[row["match_class"]] += row["rows"]
        if not any(counts[name] for name in LINKED):
            continue
        known = earlier.boards(year)
        others = {boards[key] for key in boards if key[1] == year and key[0] != policy}
        others |= {seen for other, sets in known.items() if other != policy for seen in sets}
        national = (
            len(own) > 1
            and len(set(every_board) - own) != 1
            and known.get(policy, {own}) == {own}
            and not any(len(own ^ other) == 1 for other in others)
        )
        key = {"policy_id": policy, YEAR: year}
        labels = definition_of(rows) | key
        if not national:
            nothing = {"boards": None, "operations": None, "of_operations": None, "share": None}
            found += [labels | nothing | {"match_class": name, "status": SUB_NATIONAL} for name in MATCH_CLASSES]
            continue
        hidden = hidden_classes(counts, labels, "match_class", earlier, key, rule, totals=[LINKED])
        labels["boards"] = ",".join(sorted(own))
        found += class_rows(counts, hidden, labels, "match_class", rule)
    return found


def _boards(rows: Iterable[Row]) -> frozenset[str]:
    """The boards of linked operations."""
    return frozenset(str(row["board"]) for row in rows if row["match_class"] in LINKED and row["board"] is not None)
