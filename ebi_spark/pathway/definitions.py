"""The definitions of monitoring: codes, windows and steps, from ``conf/pathway.yml`` and ``conf/pathway_after.yml``."""

from functools import cache
from typing import Any

from ebi_spark.config.shipped_files import shipped_document
from ebi_spark.tables.table import RECORD_KEY

# Pseudonyms of two sources are different numbers, even if they look alike.
PERSON = ("source_system", "person_id")
OPERATION = ("policy_id", *RECORD_KEY)
# Whether a step is seen around an operation.
STATES = SEEN, NOT_SEEN, CANNOT_BE_SEEN = ("seen", "not_seen", "cannot_be_seen")


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
