"""The definitions of monitoring: codes, windows and steps, from ``conf/pathway.yml``."""

from functools import cache
from typing import Any

from ebi_spark.config.settings import resource
from ebi_spark.config.yaml_documents import load_document


@cache
def definitions() -> dict[str, Any]:
    """The whole of ``conf/pathway.yml``. Shared by all callers: do not change it."""
    return load_document(resource("conf", "pathway.yml"), resource("conf", "pathway.schema.json"), what="pathway")
