"""The definitions of monitoring: codes, windows and steps, from ``conf/pathway.yml``."""

from functools import cache
from typing import Any

import yaml

from ebi_spark.config.settings import resource


@cache
def definitions() -> dict[str, Any]:
    """The whole of ``conf/pathway.yml``. Shared by all callers: do not change it."""
    found: dict[str, Any] = yaml.safe_load(resource("conf", "pathway.yml").read_text(encoding="utf-8"))
    return found
