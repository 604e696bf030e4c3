"""Writes what follows from the code: ``docs/tables.md``, ``docs/python-api.md``, the tables of keys in
``docs/configuration.md``, of platforms in ``docs/sources.md`` and of steps in ``docs/monitoring-pathway.md``, and the JSON Schema
of the configuration, ``conf/run.schema.json``.

``make docs`` runs it. ``tests/test_docs.py`` fails if a page is not current.
"""

import doctest
import inspect
import json
import re
from dataclasses import MISSING
from datetime import date
from pathlib import Path
from typing import Any

import ebi_spark
from ebi_spark.config.keys import Key, Setting, default_of, settings_of
from ebi_spark.config.load import run_schema
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import TableSource
from ebi_spark.pathway.code_lists import steps, windows_of
from ebi_spark.pathway.definitions import definitions
from ebi_spark.sources.platforms import document as platforms_document
from ebi_spark.sources.platforms import platforms
from ebi_spark.tables.schemas import TABLES
from ebi_spark.tables.table import Table

DOCS = Path(__file__).resolve().parent
SCHEMA = DOCS.parent / "conf" / "run.schema.json"
BEGIN, END = "<!-- generated: {} -->", "<!-- end of {} -->"

# Keys that only have other keys below them.
GROUPS = {
    "geography": Key(
        "The areas that figures are shown for, and lookups of your own. [geography.md](geography.md)",
        default="see below",
    ),
    "deprivation": Key(
        "Deprivation of small areas, from files of your own. [monitoring-changes.md](monitoring-changes.md#groups-of-people)",
        default="none",
    ),
    "approvals": Key(
        "Registers of approvals and what boards ask for. [monitoring-approvals.md](monitoring-approvals.md)",
        default="see below",
    ),
}

LAYERS = {
    "silver": "Records as they were read, cleaned and counted. **Restricted**: these tables have patients' records.",
    "gold": "Flags, rates, monitoring and the run log. **Restricted**: these tables have patients' records or figures before disclosure "
    "control.",
    "published": "What may leave: tables after disclosure control, by release. Always join to the current release.",
}


def tables_page() -> str:
    """``docs/tables.md``: every table of a lake with its columns, from ``ebi_spark/tables/``."""
    lines = [
        "# Tables",
        "",
        "Every table of a lake, from [ebi_spark/tables/](../ebi_spark/tables). This page is generated: run",
        "`make docs` after a change of a table. All tables are Delta tables with reader protocol 1. A check makes sure that columns",
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


API = """# Python API

For notebooks and scripts: `import ebi_spark`. This page is generated from [ebi_spark/api.py](../ebi_spark/api.py) (`make docs`), and
its examples run as tests.

**Only the names on this page are public**: those in `ebi_spark.__all__`. They keep their meaning, and [CHANGELOG.md](../CHANGELOG.md)
says when one changes. Every other module, function and class of the package is private and can change with any version.

Only `apply_policy`, `clause`, `explain` and `standardised_rates` need a Spark session, and so does a lake in a catalogue; nothing here starts
one. A local session, Spark Connect and Databricks all work. In the examples, `spark` is the session. Where a call or its data is
wrong, the error is an `ebi_spark.InputError`: its `message` says what is wrong and where, its `remedy` what to do about it."""
# The order of the page: policies first, then records, then figures.
API_ORDER = (
    "load_policies", "lint_policies", "needed_columns", "apply_policy", "explain", "clause", "standardised_rates", "read_release",
    "activity_change",
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


def pathway_rows() -> list[str]:
    """The steps of the pathway before and at an operation, from ``conf/pathway.yml``."""
    lines = [
        "| Step | Coding | Looked for in | Windows | Source text |",
        "|---|---|---|---|---|",
    ]
    for step in steps():
        places = "<br>".join(map(_place, step.get("look_in", ()))) or _derived(step)
        windows = ", ".join(window.replace("_", " ") for window in windows_of(step))
        because = f" {step['because']}" if "because" in step else ""
        if "source_text" in step:
            words = f"“{step['source_text']}”" + (f" ({step['source']})" if "source" in step else "")
        else:
            words = f"The article has no words for it. {step['not_in_source']}"
        lines.append(
            f"| {step['title']} (`{step['id']}`) | {step['coding']}.{because} | {places} | {windows} | {_cell(words)} |"
        )
    return lines


def _place(look: dict[str, Any]) -> str:
    where = {"outpatients": "outpatients", "admitted": "admitted care"}[look["in"]]
    codes = look.get("procedures") or look.get("diagnoses") or look["treatment_functions"]
    found = f"{where}: {', '.join(codes)}"
    for key, text in (("site_after", "with a site after it: {}"), ("no_site_after", "without a site after it: {}")):
        if key in look:
            found += f" ({text.format(definitions()['sites'][look[key]]['title'])})"
    if "programme" in look:
        programme = look["programme"]
        found += f" (at least {programme['contacts']} attended contacts, one of them a first attendance, and at least {programme['days_apart']} days from the first to the last)"
    return found + (" (not where it is cervical or thoracic)" if look.get("not_elsewhere") else "")


def _derived(step: dict[str, Any]) -> str:
    if "flagged_by" in step:
        return f"the flags of `{step['flagged_by']['policy']}`"
    if "chain" in step:
        return " or ".join(step["chain"]["first"]) + ", then " + " or ".join(step["chain"]["then"])
    if "both" in step:
        return " and ".join(step["both"]["with"]) + "".join(f", not {name}" for name in step["both"].get("without", ()))
    return "nowhere"


def platform_rows() -> list[str]:
    """Whose column names are whose, from ``conf/platforms.yml``: a row for each platform, then names that belong to none."""
    lines = ["| Platform | Its tables | Names where platforms differ | Source |", "|---|---|---|---|"]
    for item in platforms():
        tables = "<br>".join(f"`{role}`: {name}" for role, name in item.tables.items())
        by_column: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for role, columns in item.names.items():
            for ours, names in columns.items():
                by_column.setdefault((ours, names), []).append(role)
        listed = "<br>".join(
            f"`{ours}` ({', '.join(roles)}): {', '.join(f'`{name}`' for name in names)}"
            for (ours, names), roles in by_column.items()
        )
        tried = "" if item.tried else "; not tried there"
        lines.append(f"| {item.title} (`{item.system}`) | {tables} | {listed} | {item.source}{tried} |")
    lines += ["", "Other names for one column, which are read from any platform:", ""]
    lines += ["| Tables | Our column | Names | Source |", "|---|---|---|---|"]
    for entry in platforms_document()["anywhere"]:
        of, names = (", ".join(f"`{name}`" for name in entry[key]) for key in ("of", "names"))
        lines.append(f"| {of} | `{entry['column']}` | {names} | {entry['source']} |")
    return lines


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
    pathway = DOCS / "monitoring-pathway.md"
    steps_page = with_generated(pathway.read_text(encoding="utf-8"), "steps", pathway_rows())
    sources = DOCS / "sources.md"
    sources_page = with_generated(sources.read_text(encoding="utf-8"), "platforms", platform_rows())
    schema = json.dumps(run_schema(), indent=2, ensure_ascii=False) + "\n"
    return {
        DOCS / "tables.md": tables_page(), DOCS / "python-api.md": api_page(), configuration: text, SCHEMA: schema,
        pathway: steps_page, sources: sources_page,
    }  # fmt: skip


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
