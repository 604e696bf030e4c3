"""Find the field that a column of a page's SQL stands for, using the known columns of the source tables."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from ebi_spark.errors import InputError, did_you_mean
from ebi_spark.policies.compile import FIELDS
from ebi_spark.policy_import.page import Page
from ebi_spark.sources.layouts import layouts

# The tables of each dataset, and the aliases that the pages use for them.
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
    """What the names in the SQL of one page mean."""

    dataset: str
    columns: dict[str, dict[str, str]]  # table → column in upper case → field
    ages: list[list[str]]  # pairs in upper case: the age column, and the one used where it is missing

    def unbound(self, alias: str, column: str) -> str | None:
        """What is wrong with an alias whose table does not have the column; None if nothing is wrong."""
        table = _ALIASES.get(alias.lower())
        tables = [name for name, columns in self.columns.items() if column.upper() in columns]
        if not alias or table in tables or not tables:
            return None
        if table in self.columns:
            return f"{alias}.{column}: the table has no such column, so it is read from {' or '.join(tables)}"
        return f"{alias}.{column}: the rule has no table with this alias, so it is read as {' or '.join(tables)}"


def binding_for(dataset: str) -> Binding:
    """The known columns of a dataset's tables, from ``conf/layouts.yml``."""
    fields = {column: name for name, column in FIELDS[dataset].items()}
    columns: dict[str, dict[str, str]] = {}
    ages: list[list[str]] = []
    for table in TABLES[dataset]:
        known = layouts()[table].columns
        columns[table] = {name: fields[ours] for ours, names in known.items() if ours in fields for name in names}
        for name in known.get("age", []):
            ages += [[name, other] for other in known.get("age_fallback", [])]
    return Binding(dataset, columns, ages)


def dataset_of(text: str) -> str | None:
    """The dataset that a heading such as ``APC`` or ``Outpatients`` names; None if it names none."""
    return next((name for name, form in _DATASET_WORDS.items() if form.match(text)), None)


def dataset_of_alias(alias: str) -> str | None:
    """The dataset of the table that an alias stands for on the pages; None if the alias is unknown."""
    return _OF_ALIAS.get(alias.lower())


def aliases_in(text: str) -> set[str]:
    """The aliases that a part of SQL uses, in lower case."""
    bare = re.sub(r"'[^']*'|--[^\n]*", " ", text)
    return {match[1].lower() for match in _ALIAS.finditer(bare)}


def dataset_of_page(page: Page) -> str:
    """The dataset of the rule: by its aliases, or else by the page's words, or else by its columns."""
    rule = page.parts[0]
    named = {_OF_ALIAS[alias] for alias in aliases_in(rule.text) if alias in _OF_ALIAS}
    if len(named) > 1:
        raise page.refusal(
            rule.line,
            "the rule uses both tables of spells (apcs, der) and of attendances (opa)",
            "save one rule for each dataset in a separate file, and import one file at a time",
        )
    if not named:
        headings = {n: found for n, text in page.words.items() if n < rule.line and (found := dataset_of(text))}
        named = {headings[max(headings)]} if headings else set()
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
            "neither the aliases (apcs, der, opa) nor the words say whether the rule is about spells or attendances",
            "write the alias before each column, as in apcs.Admission_Method",
        )
    return named.pop()


def column_of(node: exp.Column, binding: Binding, refused: Callable[[str, str], InputError]) -> str:
    """The field that a column stands for. The error for an unknown column, made by ``refused``, suggests the nearest one."""
    everywhere = {name: known for columns in binding.columns.values() for name, known in columns.items()}
    name = node.name.upper()
    if name in everywhere:
        return everywhere[name]
    if any(name == pair[1] for pair in binding.ages):
        return "age"
    if node.args.get("db") or not re.fullmatch(r"\w+", node.name):
        raise refused(f"{node.sql()} is not the name of a column", "correct the name")
    kept = "spells" if binding.dataset == "apc" else "attendances"
    raise refused(
        f"unknown field: {node.sql()} is not among the columns that are kept for {kept}",
        f"{did_you_mean(name, everywhere, 0)}The columns are: {', '.join(sorted(everywhere))}",
    )
