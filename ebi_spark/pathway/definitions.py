"""The definitions of monitoring: codes, windows and steps, from ``conf/pathway.yml`` and ``conf/pathway_after.yml``."""

from functools import cache
from typing import Any

from ebi_spark.config.shipped_files import shipped_document


@cache
def definitions() -> dict[str, Any]:
    """The whole of ``conf/pathway.yml``. Shared by all callers: do not change it."""
    return shipped_document("pathway", "pathway")


@cache
def definitions_after() -> dict[str, Any]:
    """The whole of ``conf/pathway_after.yml``: the care after an operation. Shared by all callers: do not change it."""
    return shipped_document("pathway_after", "care after an operation")


def listed_codes(listed: list[dict[str, Any]]) -> list[str]:
    """The codes of a list of definitions."""
    return [item["code"] for item in listed]
