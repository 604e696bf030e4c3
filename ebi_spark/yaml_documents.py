"""YAML read safely, checked against a JSON Schema, with errors that name file, line, key and remedy."""

import difflib
import json
import math
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

from ebi_spark.errors import InputError

# The parser in C is ten times as fast; a hundred policies are a second rather than seven.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_SafeLoader):  # type: ignore[misc]
    """Safe loading in which dates stay text and a doubled key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

_ENV_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load_document(path: Path, schema: Path, *, what: str) -> dict[str, Any]:
    """The mapping in ``path``, valid under the JSON Schema in ``schema``; ``what`` names it in messages."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{what}: there is no file {path}", remedy="check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{what}: {path} cannot be read ({type(error).__name__})", remedy="give a readable UTF-8 file"
        ) from None
    try:
        document = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise InputError(f"{what}: {path}{line}: {problem}", remedy="correct the YAML there") from None
    if not isinstance(document, dict):
        raise InputError(f"{what}: {path} holds no keys", remedy="write `key: value` lines as the README shows")
    try:
        checked: dict[str, Any] = _with_environment(document, path, what)
    except RecursionError:
        raise InputError(
            f"{what}: {path} has a value that contains itself, or is nested too deeply",
            remedy="write the value out in place of the alias (`*name`)",
        ) from None
    validator = _validator(schema)
    errors = list(validator.iter_errors(checked))
    # A misspelt key says more than the right one being absent.
    found = next((e for e in errors if e.validator == "additionalProperties"), None) or best_match(errors)
    if found is not None:
        message, remedy = _explain(found)
        where = ".".join(str(part) for part in found.absolute_path)
        line_number = line_of(yaml.compose(text, Loader=_PlainLoader), list(found.absolute_path))
        raise InputError(f"{what}: {path}, line {line_number}{': ' + where if where else ''}: {message}", remedy=remedy)
    return checked


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    """A pattern's ``$`` is the end of the text. To Python it is also the place before a line break at the end."""
    strict = f"{pattern[:-1]}\\Z" if pattern.endswith("$") else pattern
    if isinstance(instance, str) and not re.search(strict, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


# 2.0 is no whole number here, and neither infinity nor "not a number" is within any bounds.
_TYPES = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda _, value: (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ),
    }
)
_Validator: Any = extend(Draft202012Validator, {"pattern": _pattern}, type_checker=_TYPES)  # type: ignore[no-untyped-call]


@cache
def _validator(schema: Path) -> Draft202012Validator:
    made: Draft202012Validator = _Validator(json.loads(schema.read_text(encoding="utf-8")))
    return made


def line_of(node: yaml.Node | None, path: list[Any]) -> int:
    """Line (from 1) at which the value under ``path`` starts, or that of its nearest parent found."""
    line = 1
    for part in [None, *path]:
        if part is not None:
            node = next(_children(node, part), None)
        if node is None:
            return line
        line = node.start_mark.line + 1
    return line


def _children(node: yaml.Node | None, part: Any) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        yield from (value for key, value in node.value if getattr(key, "value", None) == str(part))
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        yield node.value[part]


def _with_environment(value: Any, path: Path, what: str) -> Any:
    """Every ``${NAME}`` in a text replaced by that environment variable; an unset one is an error."""
    if isinstance(value, dict):
        return {key: _with_environment(item, path, what) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_environment(item, path, what) for item in value]
    if not isinstance(value, str):
        return value

    def substitute(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise InputError(f"{what}: {path} uses ${{{match[1]}}}, which is not set", remedy=f"export {match[1]}=…")
        return os.environ[match[1]]

    return _ENV_VARIABLE.sub(substitute, value)


def _explain(error: ValidationError) -> tuple[str, str]:
    """A schema violation in a user's words, and what to do."""
    schema: dict[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    rule: Any = error.validator_value
    instance: Any = error.instance
    if error.validator == "additionalProperties":
        known = sorted(schema.get("properties", {}))
        unknown = sorted(str(key) for key in set(instance) - set(known))
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.0)
        return (
            f"unknown key {unknown[0]!r}",
            f"did you mean {near[0]!r}? The keys are: {', '.join(known)}" if near else ("remove it"),
        )
    if error.validator == "required":
        missing = [key for key in rule if key not in instance]
        return f"the key {missing[0]!r} is missing", f"add `{missing[0]}: …`"
    if error.validator == "type":
        wanted = rule if isinstance(rule, str) else " or ".join(rule)
        if wanted == "string" and isinstance(instance, int | float):
            return (
                f"{instance!r} is a number to YAML, so its leading zeros are lost",
                'put codes in quotation marks: "02"',
            )
        return f"this is no {wanted}", schema.get("description", f"give a {wanted}")
    if error.validator == "enum":
        known = [str(choice) for choice in rule]
        near = difflib.get_close_matches(str(instance), known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"{instance!r} is not one of the choices", f"{hint}Choose from: {', '.join(known)}"
    if error.validator == "pattern":
        return f"{instance!r} has not the right form", schema.get("description", f"it must match {rule}")
    return error.message, schema.get("description", "correct the value")
