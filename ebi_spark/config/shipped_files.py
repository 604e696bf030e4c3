"""The files that the product ships: where they are, and those of them that several folders read."""

from pathlib import Path
from typing import Any

from ebi_spark.config.yaml_documents import load_document
from ebi_spark.errors import InputError


def resource(*parts: str) -> Path:
    """A file that the product ships under ``conf/`` or ``expectations/``, in a checkout or in the installed wheel."""
    package = Path(__file__).resolve().parent.parent
    for root in (package, package.parent):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise InputError(f"the installation has no {'/'.join(parts)}", remedy="install ebi-spark again")


def shipped_document(name: str, what: str) -> dict[str, Any]:
    """``conf/NAME.yml``, checked against ``conf/NAME.schema.json``. ``what`` names it in messages."""
    return load_document(resource("conf", f"{name}.yml"), resource("conf", f"{name}.schema.json"), what=what)


def disclosure_rules() -> dict[str, Any]:
    """The disclosure rules in ``conf/disclosure.yml``, by name."""
    rules: dict[str, Any] = shipped_document("disclosure", "disclosure rules")["rules"]
    return rules


def policy_aims() -> dict[str, str]:
    """What each policy asks for in its source's words, by policy id, from ``conf/policy_aims.yml``."""
    items = shipped_document("policy_aims", "policy aims")["aims"]
    return {name: item["text"] for item in items for name in item["applies_to"]}


def caveats() -> list[dict[str, Any]]:
    """What to know before using the figures, from ``conf/caveats.yml``: key, text, and the policies concerned or
    ``all``."""
    items: list[dict[str, Any]] = shipped_document("caveats", "caveats")["caveats"]
    return items
