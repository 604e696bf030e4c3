"""Which platform a file looks like by its column names (``conf/platforms.yml``). Reading the file does not depend on it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from ebi_spark.config.shipped_files import shipped_document
from ebi_spark.config.source_tables import ROLES
from ebi_spark.sources.layouts import compared_name


@dataclass(frozen=True)
class Platform:
    """A platform with a copy of SUS+ or HES. ``names``: by source table and our column, the names that this platform uses where
    platforms use different ones. ``tables``: where it has each source table."""

    title: str
    system: str
    source: str
    tried: bool
    tables: dict[str, str]
    names: dict[str, dict[str, tuple[str, ...]]]

    def names_of(self, role: str) -> set[str]:
        """All these names of one source table."""
        return {name for names in self.names.get(role, {}).values() for name in names}


@cache
def document() -> dict[str, Any]:
    """The whole of ``conf/platforms.yml``. Shared by all callers: do not change it."""
    return shipped_document("platforms", "platforms")


@cache
def platforms() -> tuple[Platform, ...]:
    """All platforms, in the order of the file."""
    found = []
    for item in document()["platforms"].values():
        names: dict[str, dict[str, tuple[str, ...]]] = {}
        for entry in item["names"]:
            for role in entry["of"]:
                names.setdefault(role, {})[entry["column"]] = tuple(entry["names"])
        found.append(Platform(item["title"], item["system"], item["source"], item["tried"], item["tables"], names))
    return tuple(found)


def best_fit(role: str, columns: Iterable[str]) -> list[Platform]:
    """The platforms that a file of one source table fits best by its columns; several if it fits them equally, and none if no
    column tells one platform from another.

    A name in the file counts for each platform that uses it, and the platform with the most names fits best. So a platform that
    lacks one of the names fits less well than those that use all of them.
    """
    of_system = [item for item in platforms() if role in ROLES[item.system]]
    present = set(map(compared_name, columns))
    fits = {item.title: len(present & item.names_of(role)) for item in of_system}
    most, least = max(fits.values(), default=0), min(fits.values(), default=0)
    return [item for item in of_system if fits[item.title] == most] if most > least else []
