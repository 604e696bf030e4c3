"""Which field of the policy language a column of a page's SQL is, by the columns that the source tables are known to have."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass

import yaml
from sqlglot import exp

from ebi_spark.config.settings import resource
from ebi_spark.errors import InputError
from ebi_spark.policies.compile import FIELDS
from ebi_spark.policy_import.page import Page

# The aliases that the pages give the source tables, and each dataset's tables.
TABLES = {"apc": ("apcs", "apcs_der"), "op": ("opa",)}
_ALIASES = {"apcs": "apcs", "der": "apcs_der", "apcs_der": "apcs_der", "opa": "opa"}
_OF_ALIAS = {"apcs": "apc", "der": "apc", "apcs_der": "apc", "opa": "op"}
_ALIAS = re.compile(r"(?i)\b([A-Za-z]\w*)\s*\.\s*[A-Za-z]\w*")
_DATASET_WORDS = {
    "apc": re.compile(r"(?i)^\W*(?:admitted patient care|apcs?|inpatients?)\W*$"),
    "op": re.compile(r"(?i)^\W*(?:out-?patients?(?: care)?|opa?)\W*$"),
}


@dataclass(frozen=True)
class Binding:
    """What the names of one page's SQL mean."""

    dataset: str
    columns: dict[str, dict[str, str]]  # table: column in upper case: field
    ages: list[list[str]]  # the column of age and its fall-back, upper case

    def unbound(self, alias: str, column: str) -> str | None:
        """What is wrong with an alias that does not lead to the column; None where it does."""
        table = _ALIASES.get(alias.lower())
        holders = [name for name, columns in self.columns.items() if column.upper() in columns]
        if not alias or table in holders or not holders:
            return None
        if table in self.columns:
            return f"{alias}.{column}: that table has no such column, it is read from {' or '.join(holders)}"
        return f"{alias}.{column}: the rule reads no table of that alias, it is read as {' or '.join(holders)}"


def binding_for(dataset: str) -> Binding:
    """The names of a dataset's tables, from ``conf/layouts.yml``."""
    layouts = yaml.safe_load(resource("conf", "layouts.yml").read_text(encoding="utf-8"))
    fields = {column: name for name, column in FIELDS[dataset].items()}
    columns: dict[str, dict[str, str]] = {}
    ages: list[list[str]] = []
    for table in TABLES[dataset]:
        known = layouts[table]["columns"]
        columns[table] = {name: fields[ours] for ours, names in known.items() if ours in fields for name in names}
        for name in known.get("age", []):
            ages += [[name, other] for other in known.get("age_fallback", [])]
    return Binding(dataset, columns, ages)


def dataset_of(text: str) -> str | None:
    """The dataset that a heading such as ``APC`` or ``Outpatients`` names."""
    return next((name for name, form in _DATASET_WORDS.items() if form.match(text)), None)


def dataset_of_alias(alias: str) -> str | None:
    """The dataset whose table an alias stands for on the pages."""
    return _OF_ALIAS.get(alias.lower())


def aliases_in(text: str) -> set[str]:
    """The aliases that a part of SQL uses, in lower case."""
    bare = re.sub(r"'[^']*'|--[^\n]*", " ", text)
    return {match[1].lower() for match in _ALIAS.finditer(bare)}


def dataset_of_page(page: Page) -> str:
    """Spells or attendances: by the rule's aliases, else by the page's words, else by the columns."""
    rule = page.parts[0]
    named = {_OF_ALIAS[alias] for alias in aliases_in(rule.text) if alias in _OF_ALIAS}
    if len(named) > 1:
        raise page.refusal(
            rule.line,
            "the rule reads both tables of spells (apcs, der) and of attendances (opa)",
            "import one rule for each dataset, each from a file of its own",
        )
    if not named:
        told = {n: found for n, text in page.words.items() if n < rule.line and (found := dataset_of(text))}
        named = {told[max(told)]} if told else set()
    if not named:
        bare = re.sub(r"'[^']*'", " ", rule.text).upper()
        fitting = {
            dataset
            for dataset in TABLES
            for columns in binding_for(dataset).columns.values()
            if any(re.search(rf"\b{name}\b", bare) for name in columns)
        }
        named = fitting if len(fitting) == 1 else set()
    if not named:
        raise page.refusal(
            rule.line,
            "neither an alias (apcs, der, opa) nor the words say whether the rule is on spells or on attendances",
            "write the alias before the columns, such as apcs.Admission_Method",
        )
    return named.pop()


def column_of(node: exp.Column, binding: Binding, refused: Callable[[str, str], InputError]) -> str:
    """The field that a column is; a refusal names the nearest column there is."""
    everywhere = {name: known for columns in binding.columns.values() for name, known in columns.items()}
    name = node.name.upper()
    if name in everywhere:
        return everywhere[name]
    if any(name == pair[1] for pair in binding.ages):
        return "age"
    if node.args.get("db") or not re.fullmatch(r"\w+", node.name):
        raise refused(f"{node.sql()} is no column", "correct the name")
    near = difflib.get_close_matches(name, everywhere, n=1, cutoff=0.0)
    raise refused(
        f"unknown field: {node.sql()} is no column that {'spells' if binding.dataset == 'apc' else 'attendances'} keep",
        f"did you mean {near[0]}? The columns are: {', '.join(sorted(everywhere))}",
    )
