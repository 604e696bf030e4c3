"""Writes what follows from the code: ``docs/tables.md``, the tables of keys in ``docs/configuration.md``, and the JSON
Schema of the configuration, ``conf/run.schema.json``.

``make docs`` runs it. ``tests/test_docs.py`` fails while a page is not current.
"""

import json
from dataclasses import MISSING
from datetime import date
from pathlib import Path
from typing import Any

from ebi_spark.config.keys import Key, Setting, default_of, settings_of
from ebi_spark.config.settings import RunConfig, TableSource, run_schema
from ebi_spark.tables.schemas import TABLES, Table

DOCS = Path(__file__).resolve().parent
SCHEMA = DOCS.parent / "conf" / "run.schema.json"
BEGIN, END = "<!-- generated: {} -->", "<!-- end of {} -->"

# Keys that only have other keys below them.
GROUPS = {
    "geography": Key(
        "The areas that figures are shown for, and lookups of your own. [geography.md](geography.md)",
        default="see below",
    )
}

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


def key_rows() -> list[str]:
    """The table of keys, in the order of the configuration's fields."""
    lines = ["| Key | Default | Unit | Meaning | A change repeats |", "|---|---|---|---|---|"]
    groups = set()
    for setting in settings_of(RunConfig):
        group = setting.name.rpartition(".")[0]
        if group and group not in groups:
            groups.add(group)
            lines.append(_row(group, GROUPS[group], "", ()))
        lines.append(_row(setting.name, setting.key, _default(setting), setting.key.stages))
        if setting.key.of:
            inner = default_of(setting.field)
            for part in settings_of(setting.key.of):
                default = _default(part)
                if isinstance(inner, dict):
                    default = f"`{inner[part.name]}`"
                lines.append(
                    _row(f"{setting.name}{setting.key.each}.{part.name}", part.key, default, setting.key.stages)
                )
    return lines


def _row(name: str, key: Key, default: str, stages: tuple[str, ...]) -> str:
    return f"| `{name}` | {key.default or default} | {key.unit} | {key.meaning} | {', '.join(stages)} |"


def table_key_rows() -> list[str]:
    """The keys that describe one source table."""
    lines = ["| Key | Default | Unit | Meaning |", "|---|---|---|---|"]
    for setting in settings_of(TableSource):
        key = setting.key
        lines.append(f"| `{setting.name}` | {key.default} | {key.unit} | {key.meaning} |")
    return lines


def _default(setting: Setting) -> str:
    """The default of a key as it is written in YAML."""
    value = default_of(setting.field)
    return "required" if value is MISSING else f"`{_yaml(value)}`"


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
    """Every generated file as it should be."""
    configuration = DOCS / "configuration.md"
    text = configuration.read_text(encoding="utf-8")
    text = with_generated(text, "keys", key_rows())
    text = with_generated(text, "keys of a table", table_key_rows())
    schema = json.dumps(run_schema(), indent=2, ensure_ascii=False) + "\n"
    return {DOCS / "tables.md": tables_page(), configuration: text, SCHEMA: schema}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
