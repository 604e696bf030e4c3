"""The rows that kept releases have of a published table. A new release must not reveal a small count by its difference from them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ebi_spark.tables.table import YEAR

# The status of a row with figures, and of one without them because a count is too small or would reveal a small one.
OK, WITHHELD = "ok", "withheld"


@dataclass(frozen=True)
class Earlier:
    """The rows of a published table in kept releases: ``rows``."""

    rows: Sequence[Mapping[str, Any]] = ()
    _by_key: dict[tuple[str, ...], dict[tuple[Any, ...], list[Mapping[str, Any]]]] = field(default_factory=dict)

    def withheld(self, key: Mapping[str, Any], name: str) -> frozenset[str]:
        """The values of the column ``name`` in withheld rows with this key."""
        return frozenset(str(row[name]) for row in self.of(key) if row["status"] == WITHHELD)

    def shown(self, key: Mapping[str, Any], name: str) -> frozenset[str]:
        """The values of the column ``name`` in rows with this key that have figures."""
        return frozenset(str(row[name]) for row in self.of(key) if row["status"] == OK)

    def definitions(self, key: Mapping[str, Any]) -> set[tuple[str, str]]:
        """The revisions and readings of the rows with this key that have figures."""
        return {(row["revision"], row["reading"]) for row in self.of(key) if row["status"] == OK}

    def boards(self, year: str) -> dict[str, set[frozenset[str]]]:
        """The sets of boards on which published figures of a year are based, by policy."""
        found: dict[str, set[frozenset[str]]] = defaultdict(set)
        for row in self.rows:
            if row[YEAR] == year and row["boards"]:
                found[row["policy_id"]].add(frozenset(row["boards"].split(",")))
        return found

    def of(self, key: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The rows that have the values of ``key`` in its columns."""
        names = tuple(key)
        if names not in self._by_key:
            self._by_key[names] = defaultdict(list)
            for row in self.rows:
                self._by_key[names][tuple(row[name] for name in names)].append(row)
        return self._by_key[names].get(tuple(key.values()), ())
