"""The page about the checks of one layer: every check, how it is made and its outcome."""

import json
import tempfile
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ebi_spark.errors import BrokenRunError
from ebi_spark.own_files import pages_of, put_pages, refuse_pages
from ebi_spark.validation.result import LayerResult
from ebi_spark.validation.suites import Check, Suite


def write_page(layer: str, suites: list[Suite], result: LayerResult, docs: Path) -> Path:
    """Write the page about a layer to a folder of its own in ``docs``. It opens without a web connection."""
    found = {(item.table, item.check): item for item in (*result.failed, *result.warnings)}
    tables = [
        {
            "name": suite.table.full_name,
            "meaning": suite.table.row,
            "native": native_in_words(suite),
            "checks": [
                (check, _shown_rule(check), found.get((suite.table.full_name, check.id))) for check in suite.checks
            ],
        }
        for suite in suites
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("checks.html.j2").render(layer=layer, tables=tables, result=result.in_words)
    refuse_pages(docs, [layer])
    target = pages_of(docs, layer)
    try:
        docs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".expectations-", dir=docs) as folder:
            (Path(folder) / "index.html").write_text(page, encoding="utf-8")
            put_pages(Path(folder), target)
    except OSError as error:
        raise BrokenRunError(
            f"docs: the page of the checks of {layer} cannot be written to {docs} ({error.strerror})",
            remedy="make room for the page or choose another place (`docs: …`), then run the same command again",
        ) from None
    return target / "index.html"


def native_in_words(suite: Suite) -> str:
    """How many checks of a published table Great Expectations evaluates itself, and how many expectations these need. Its own
    Data Docs count expectations."""
    if suite.native is None:
        return ""
    native = sum(check.kind == "native" for check in suite.checks)
    counted = f"; Spark counts the other {len(suite.checks) - native}" if native < len(suite.checks) else ""
    return (
        f"Great Expectations evaluates {native} of these {len(suite.checks)} checks, as {len(suite.native['expectations'])} "
        f"expectations, because a check can need several{counted}."
    )


def _shown_rule(check: Check) -> str:
    """How a check is made, in one or more lines: the types of its expectations, or its SQL."""
    if check.kind == "native":
        return "\n".join(dict.fromkeys(item["type"] for item in json.loads(str(check.rule))))
    return check.rule if isinstance(check.rule, str) else f"{check.kind} {', '.join(check.rule)}".strip()
