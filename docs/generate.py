"""Writes the pages that follow from the code: ``docs/tables.md``, ``docs/python-api.md``, and the tables of keys in
``docs/configuration.md``.

``make docs`` runs it. ``tests/test_docs.py`` fails while a page is not current.
"""

import doctest
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from datetime import date
from pathlib import Path
from typing import Any

import ebi_spark
from ebi_spark.config.settings import RunConfig
from ebi_spark.runs.history import SETTINGS
from ebi_spark.tables.schemas import TABLES, Table

DOCS = Path(__file__).resolve().parent
SCHEMA = DOCS.parent / "conf" / "run.schema.json"
BEGIN, END = "<!-- generated: {} -->", "<!-- end of {} -->"

# Keys whose setting has another name than the last part of the key.
SETTING_OF_KEY = {"geography.version": "geography", "geography": None}

LAYERS = {
    "silver": "Records as they were read, cleaned and counted. **Restricted**: these tables hold patients' records.",
    "gold": "Flags, rates and the run log. **Restricted**: these tables hold patients' records or figures before disclosure "
    "control.",
    "published": "What may leave: tables after disclosure control, by release. Always join to the current release.",
}


def tables_page() -> str:
    """``docs/tables.md``: every table of a lake with its columns, from ``ebi_spark/tables/schemas.py``."""
    lines = [
        "# Tables",
        "",
        "Every table of a lake, from [ebi_spark/tables/schemas.py](../ebi_spark/tables/schemas.py). This page is generated: run",
        "`make docs` after a change of the schemas. All tables are Delta tables with reader protocol 1. A check makes sure that columns",
        "marked ● are never empty. [methods.md](methods.md) says how a figure is made, and [reading-results.md](reading-results.md) how",
        "to read a release.",
    ]
    for layer, meaning in LAYERS.items():
        tables = [table for table in TABLES.values() if table.layer == layer]
        names = [f"[{table.name}](#{_anchor(table)})" for table in tables]
        lines += ["", f"## {layer.capitalize()}", "", meaning, "", ", ".join(names)]
        for table in tables:
            lines += _table(table)
    return "\n".join(lines) + "\n"


def _anchor(table: Table) -> str:
    return table.full_name.replace("/", "")


def _table(table: Table) -> list[str]:
    partition = f" Partitioned by `{'`, `'.join(table.partition_by)}`." if table.partition_by else ""
    lines = ["", f"### {table.full_name}", "", f"A row is {table.row}.{partition}", ""]
    lines += ["| Column | | Type | Meaning |", "|---|---|---|---|"]
    for name, spark_type, meaning in table.fields():
        mark = "●" if name in table.required else ""
        lines.append(f"| `{name}` | {mark} | `{_cell(spark_type)}` | {_cell(meaning)} |")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def keys(schema: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of the configuration, in the order of the schema: ``geography.version``, ``population[].path``."""
    for name, item in schema["properties"].items():
        key = f"{prefix}{name}"
        yield key
        if key == "sources":
            yield from (f"sources.NAME.{name}" for name in item["additionalProperties"]["properties"])
        elif item.get("type") == "object" and "properties" in item:
            yield from keys(item, f"{key}.")
        elif item.get("type") == "array" and "properties" in item["items"]:
            yield from keys(item["items"], f"{key}[].")


API = """# Python API

For notebooks and scripts: `import ebi_spark`. This page is generated from [ebi_spark/api.py](../ebi_spark/api.py) (`make docs`), and
its examples run as tests.

**Only the names on this page are public**: those in `ebi_spark.__all__`. They keep their meaning, and [CHANGELOG.md](../CHANGELOG.md)
says when one changes. Every other module, function and class of the package is private and can change with any version.

Only `apply_policy`, `clause` and `standardised_rates` need a Spark session, and so does a lake in a catalogue; nothing here starts
one. A local session, Spark Connect and Databricks all work. In the examples, `spark` is the session. Where a call or its data is
wrong, the error is an `ebi_spark.InputError`: its `message` says what is wrong and where, its `remedy` what to do about it."""
# The order of the page: policies first, then records, then figures.
API_ORDER = (
    "load_policies", "lint_policies", "needed_columns", "apply_policy", "clause", "standardised_rates", "read_release",
)  # fmt: skip


def api_page() -> str:
    """``docs/python-api.md``: every public function with its docstring and its examples."""
    lines = [API]
    for name in API_ORDER:
        function = getattr(ebi_spark, name)
        lines += ["", f"## {name}", "", "```python", f"{name}{_signature(function)}", "```", ""]
        lines += _with_fenced_examples(inspect.getdoc(function) or "")
    return "\n".join(lines) + "\n"


def _signature(function: Any) -> str:
    """The parameters of a function, with the short names of their types."""
    text = str(inspect.signature(function)).replace("pandas.core.frame.DataFrame", "pandas.DataFrame")
    return re.sub(r"\b(?!pandas)(?:\w+\.)+(\w+)", r"\1", text)


def _with_fenced_examples(docstring: str) -> list[str]:
    """A docstring in Markdown: its examples as blocks, names between single backticks."""
    lines: list[str] = []
    for part in doctest.DocTestParser().parse(docstring):
        if isinstance(part, str):
            lines.append(re.sub(r":\w+:`([^`]+)`", r"`\1`", part).replace("``", "`"))
        else:
            source = "".join(
                f"{'>>>' if number == 0 else '...'} {line}\n" for number, line in enumerate(part.source.splitlines())
            )
            lines.append(f"\0{source}{part.want}")
    text = "".join(lines)
    # Consecutive examples are one block.
    blocks = re.sub(r"((?:\0[^\0]*?(?=\0|\n\n|\Z))+)", lambda found: f"\n```python\n{found[1]}\n```", text)
    return blocks.replace("\0", "").replace("<BLANKLINE>\n", "").replace("\n\n```", "\n```").splitlines()


def key_rows(schema: Mapping[str, Any]) -> list[str]:
    """The table of keys. A KeyError names a key that the schema does not document."""
    lines = ["| Key | Default | Unit | Meaning | A change repeats |", "|---|---|---|---|---|"]
    for key in keys(schema):
        about = schema["documentation"][key]
        stages = ", ".join(SETTINGS.get(_setting(key) or "", ()))
        default = about.get("default") or _default(key)
        lines.append(f"| `{key}` | {default} | {about.get('unit', '')} | {about['meaning']} | {stages} |")
    return lines


def table_key_rows(schema: Mapping[str, Any]) -> list[str]:
    """The keys that describe one source table."""
    described = next(form for form in schema["$defs"]["table"]["anyOf"] if form.get("type") == "object")
    lines = ["| Key | Default | Unit | Meaning |", "|---|---|---|---|"]
    for key in described["properties"]:
        about = schema["documentation"][f"TABLE.{key}"]
        lines.append(f"| `{key}` | {about['default']} | {about.get('unit', '')} | {about['meaning']} |")
    return lines


def _setting(key: str) -> str | None:
    """The field of the configuration that a key sets."""
    if key in SETTING_OF_KEY:
        return SETTING_OF_KEY[key]
    first, _, last = key.partition(".")
    return last if first == "geography" else first.removesuffix("[]")


def _default(key: str) -> str:
    """The default of a key as it is written in YAML."""
    setting = next(item for item in fields(RunConfig) if item.name == _setting(key))
    value = setting.default_factory() if setting.default_factory is not MISSING else setting.default
    if key.startswith("activity_from."):
        value = value[key.partition(".")[2]]
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and all(isinstance(item, date) for item in value):
        return "..".join(f"{item:%Y-%m}" for item in value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value)


def with_generated(page: str, name: str, lines: list[str]) -> str:
    """The page with the part between the marks of ``name`` replaced."""
    begin, end = BEGIN.format(name), END.format(name)
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{after}"


def pages() -> dict[Path, str]:
    """Every generated page as it should be."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    configuration = DOCS / "configuration.md"
    text = configuration.read_text(encoding="utf-8")
    text = with_generated(text, "keys", key_rows(schema))
    text = with_generated(text, "keys of a table", table_key_rows(schema))
    return {DOCS / "tables.md": tables_page(), DOCS / "python-api.md": api_page(), configuration: text}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
