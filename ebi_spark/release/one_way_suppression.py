"""Which classes of a one-way table are withheld, so that no small count can be worked out; and the rows of such a table.

A one-way table splits a total that is published elsewhere, such as England's operations in scope, into classes. A class with few
records is withheld. With it so many others are withheld that there are at least two, and that together they have more records
than a small count. Nothing says which of the withheld classes is the small one. So each of them can have any count from 0 to
their sum, even for a reader who knows every published class exactly and not rounded.

A class that a kept release withholds is withheld again. Otherwise a count of 7 could be worked out from the 8 of the next
release. Then every withheld count keeps its possible values, even for a reader who has all releases: moving the same number of
records from one withheld class to another in each release contradicts nothing. In the reverse case, which is rare because records
must have been removed, a class that a kept release shows becomes small. Then the whole table is withheld, so that the other classes
do not show which class lost records.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ebi_spark.release.kept_releases import OK, WITHHELD, Earlier
from ebi_spark.release.suppression import Thresholds

Row = dict[str, Any]

# Classes that are about the data only, so that their 0 says nothing about a patient.
UNINFORMATIVE = ("cannot_link", "regime_unknown", "cannot_be_seen")


def withheld_classes(
    counts: Mapping[str, int],
    rule: Thresholds,
    *,
    totals: Sequence[Collection[str]] = (),
    uninformative: Collection[str] = (),
    earlier: Collection[str] = (),
    earlier_shown: Collection[str] = (),
) -> frozenset[str]:
    """The classes of ``counts`` to withhold.

    ``totals``: groups of classes whose sum a reader may know, besides the sum of all classes. ``uninformative``: classes that
    are about the data only and say nothing about a patient, such as ``cannot_be_seen``; their 0 is shown. The 0 of another class is
    withheld like a small count, unless all records are in uninformative classes. ``earlier``: the classes that a kept release
    withholds. ``earlier_shown``: those that a kept release shows.

    | seen | not_seen | cannot_be_seen | → withheld             |
    |------|----------|----------------|------------------------|
    | 40   | 900      | 0              | none                   |
    | 3    | 900      | 0              | seen, not_seen         |
    | 3    | 900      | 30             | seen, cannot_be_seen   |
    """
    informed = sum(count for name, count in counts.items() if name not in uninformative)

    def is_small(name: str) -> bool:
        # A count is small if it is below the smallest count that the rule shows. A rule's own range of small counts begins at 1.
        return counts[name] <= rule.high and (counts[name] > 0 or bool(informed and name not in uninformative))

    chosen = {name for name in counts if is_small(name) or name in earlier}
    groups = [*([name for name in group if name in counts] for group in totals), list(counts)]
    changed = True
    while changed:
        changed = False
        for group in groups:
            hidden = [name for name in group if name in chosen]
            if not hidden or (len(hidden) > 1 and sum(counts[name] for name in hidden) > rule.high):
                continue
            shown = sorted((counts[name], name) for name in group if name not in chosen and counts[name])
            if shown:
                chosen.add(shown[0][1])
                changed = True
    return frozenset(counts) if (chosen - set(earlier)) & set(earlier_shown) else frozenset(chosen)


def hidden_classes(
    counts: Mapping[str, int],
    labels: Row,
    column: str,
    earlier: Earlier,
    key: Row,
    rule: Thresholds,
    *,
    totals: Sequence[Collection[str]] = (),
) -> frozenset[str]:
    """The classes of a one-way table to withhold: all where a kept release shows counts of the same operations by another
    revision or reading, because the two would overlap."""
    if earlier.definitions(key) - {(labels["revision"], labels["reading"])}:
        return frozenset(counts)
    return withheld_classes(
        counts,
        rule,
        totals=totals,
        uninformative=UNINFORMATIVE,
        earlier=earlier.withheld(key, column),
        earlier_shown=earlier.shown(key, column),
    )


def class_rows(
    counts: Mapping[str, int], hidden: Collection[str], labels: Row, column: str, rule: Thresholds
) -> list[Row]:
    """A row for each class, with the class in ``column``. ``labels``: what all rows have."""
    whole = rule.rounded_count(sum(counts.values())) if sum(counts.values()) > rule.high else None
    found = []
    for name, count in counts.items():
        shown = None if name in hidden or whole is None else rule.rounded_count(count)
        found.append(
            labels
            | {
                column: name,
                "operations": shown,
                "of_operations": whole,
                "share": None if shown is None or not whole else round(min(shown / whole, 1.0), 6),
                "status": OK if shown is not None else WITHHELD,
            }
        )
    return found


def definition_of(rows: Iterable[Row]) -> Row:
    """The revisions and readings of some rows, each as one text."""
    rows = list(rows)
    return {name: ", ".join(sorted({str(row[name]) for row in rows})) for name in ("revision", "reading")}
