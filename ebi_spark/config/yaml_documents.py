"""Read YAML safely and check it against a JSON Schema; errors name file, line, key and remedy."""

import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

from ebi_spark.errors import InputError, did_you_mean, nearest_name, shown
from ebi_spark.small_files import refuse_special

# Limits on bytes, nesting, values (with aliases expanded) and numbers. No configuration or policy needs more, and more
# could keep the parser busy for minutes, use all memory or exhaust Python's stack.
MOST_BYTES, MOST_DEPTH, MOST_VALUES, MOST_NUMBER = 2_000_000, 50, 200_000, 10**18

# A file with more faults than this is probably the wrong file.
_MOST_FAULTS = 100
# How many faults besides the first are listed in one message.
_MOST_LISTED = 5

# The C parser is ten times as fast: a hundred policies take one second instead of seven.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_SafeLoader):  # type: ignore[misc]
    """A safe loader that keeps dates as text and raises an error for a repeated key."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"a key is not text ({type(key).__name__})", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} appears twice", key_node.start_mark
                )
            seen.add(key)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def _whole_number(loader: Any, node: yaml.ScalarNode) -> int:
    number: int = loader.construct_yaml_int(node)
    if abs(number) > MOST_NUMBER:
        raise yaml.constructor.ConstructorError(None, None, "a number of more than 18 digits", node.start_mark)
    return number


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _whole_number)
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}

_ENV_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class DocumentError(InputError):
    """One fault of a YAML file. ``problem`` is the message without the file and the line. ``line`` is None if the fault is in no
    single line."""

    def __init__(self, what: str, path: Path, line: int | None, problem: str, *, remedy: str) -> None:
        self.path, self.line, self.problem = path, line, shown(problem)
        super().__init__(f"{what}: {path}{f', line {line}' if line else ''}: {problem}", remedy=remedy)


def load_document(path: Path, schema: Path, *, what: str) -> dict[str, Any]:
    """The mapping in the YAML file ``path``, checked against the JSON Schema in ``schema``.

    ``${NAME}`` is replaced by the environment variable. ``what`` names the document in messages. Raises an
    :class:`InputError` if the file cannot be read or is not valid; it lists the first faults of the file.
    """
    document, faults = read_document(path, schema, what=what)
    if faults:
        raise all_at_once(faults)
    return document


def all_at_once(faults: Sequence[DocumentError]) -> InputError:
    """An error for the first fault of a file. Its message also lists the other faults with their lines."""
    first, *others = faults
    if not others:
        return first
    listed = [f"line {fault.line}: {_with_hint(fault)}" if fault.line else fault.problem for fault in others]
    more = f"; and {len(listed) - _MOST_LISTED} more" if len(listed) > _MOST_LISTED else ""
    return InputError(
        f"{first.message}{'' if first.message.endswith('?') else '.'} Also wrong: {'; '.join(listed[:_MOST_LISTED])}{more}",
        remedy=f"{f'line {first.line}: ' if first.line else ''}{first.remedy}",
    )


def _with_hint(fault: DocumentError) -> str:
    """The problem, with what was probably meant where the remedy says it."""
    hint, mark, _ = fault.remedy.partition("?")
    return f"{fault.problem}, {hint}?" if mark and hint.startswith("did you mean") else fault.problem


def read_document(path: Path, schema: Path, *, what: str) -> tuple[dict[str, Any], list[DocumentError]]:
    """As :func:`load_document`, but with every fault that the schema finds, in the order of their lines. It still raises an
    :class:`InputError` for a file that cannot be read as keys and values."""
    text = _text(path, what)
    try:
        _check_size(text)
        document = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "this is not YAML"
        context, begun = getattr(error, "context", None), getattr(error, "context_mark", None)
        if context and begun and mark and begun.line < mark.line:
            problem += f" {context}, which begins in line {begun.line + 1}"
        raise DocumentError(
            what, path, mark.line + 1 if mark else None, problem,
            remedy="correct the YAML there: indent with spaces instead of tabs, and close quotation marks and brackets",
        ) from None  # fmt: skip
    except (ValueError, RecursionError) as error:  # such as a number of thousands of digits
        raise DocumentError(
            what, path, None, f"it has a value that cannot be read ({type(error).__name__})", remedy="correct the YAML"
        ) from None
    if not isinstance(document, dict):
        raise DocumentError(
            what, path, None, "the file has no keys", remedy="write `key: value` lines as the README shows"
        )
    checked: dict[str, Any] = _with_environment(document, path, what)
    errors = list(islice(_validator(schema).iter_errors(checked), _MOST_FAULTS))
    if not errors:
        return checked, []
    node = yaml.compose(text, Loader=_PlainLoader)
    # If a value can have several forms, only the fault of the form that fits best is given.
    explained = [fault for error in errors for fault in _explain(best_match([error]) or error)]
    misspelt = {(*fault.path, fault.meant) for fault in explained if fault.meant}
    found: dict[tuple[int, str], DocumentError] = {}
    # Several places of a document can be aliases of one value. Its fault is listed once, at the first of them.
    seen: set[tuple[int, str]] = set()
    for fault in explained:
        if (*fault.path, fault.missing) in misspelt:
            continue  # the key is there, but mistyped
        value = id(_at(node, fault.path)), fault.message
        if value in seen:
            continue
        seen.add(value)
        line = line_of(node, fault.path, key=fault.key)
        place = ".".join(map(str, fault.path))
        problem = f"{place}: {fault.message}" if place else fault.message
        found.setdefault((line, problem), DocumentError(what, path, line, problem, remedy=fault.remedy))
    return checked, [found[place] for place in sorted(found)]


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    """Match ``$`` at the end of the text only. Python would also match it before a line break at the end."""
    strict = f"{pattern[:-1]}\\Z" if pattern.endswith("$") else pattern
    if isinstance(instance, str) and not re.search(strict, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


# 2.0 is not accepted as a whole number, nor infinity or "not a number" as a number.
_TYPES = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda _, value: (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ),
    }
)
_Validator: Any = extend(Draft202012Validator, {"pattern": _pattern}, type_checker=_TYPES)  # type: ignore[no-untyped-call]


def _text(path: Path, what: str) -> str:
    refuse_special(path, f"{what}: ", MOST_BYTES)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{what}: there is no file {path}", remedy="check the path") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"{what}: {path} cannot be read ({type(error).__name__})", remedy="give a readable UTF-8 file"
        ) from None


def _check_size(text: str) -> None:
    """Raise a YAML error if the text is nested too deep, has too many values with aliases expanded, or has an alias
    inside its own value. It reads only the parser's events, so nothing is built before the check."""
    open_now: list[list[Any]] = []  # for each open list or mapping: its anchor, and the number of values in it so far
    sizes: dict[Any, int] = {}
    values = 0
    for event in yaml.parse(text, Loader=_SafeLoader):
        problem, added = "", 0
        if isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = added = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_now.append([event.anchor, 0])
            added = 1
            if len(open_now) > MOST_DEPTH:
                problem = f"lists and mappings are nested more than {MOST_DEPTH} deep"
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_now.pop()
            sizes[anchor] = size
            if open_now:
                open_now[-1][1] += size
        elif isinstance(event, yaml.AliasEvent):
            added = sizes.get(event.anchor, 1)
            if any(anchor == event.anchor for anchor, _ in open_now):
                problem = f"the alias {event.anchor!r} contains itself"
        values += added
        if open_now:
            open_now[-1][1] += added
        if values > MOST_VALUES:
            problem = f"there are more than {MOST_VALUES:,} values when aliases are expanded"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]


@cache
def _validator(schema: Path) -> Draft202012Validator:
    made: Draft202012Validator = _Validator(json.loads(schema.read_text(encoding="utf-8")))
    return made


def line_of(node: yaml.Node | None, path: Sequence[Any], *, key: str = "") -> int:
    """The line (counted from 1) where the value at ``path`` starts, or its nearest parent that is there. With ``key``, the
    line of that key of the mapping at ``path``."""
    node = _at(node, path)
    line = node.start_mark.line + 1 if node else 1
    if key and isinstance(node, yaml.MappingNode):
        return next((name.start_mark.line + 1 for name, _ in node.value if getattr(name, "value", None) == key), line)
    return line


def _at(node: yaml.Node | None, path: Sequence[Any]) -> yaml.Node | None:
    """The value at ``path``, or its nearest parent that is there."""
    for part in path:
        child = child_of(node, part)
        if child is None:
            break
        node = child
    return node


def child_of(node: yaml.Node | None, part: Any) -> yaml.Node | None:
    """The value of a key in a mapping, or the item at a place in a list; None if it is not there."""
    found: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        found = [value for key, value in node.value if getattr(key, "value", None) == str(part)]
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        found = node.value[part : part + 1]
    return found[0] if found else None


def _with_environment(value: Any, path: Path, what: str) -> Any:
    """Replace every ``${NAME}`` in a text by that environment variable; an :class:`InputError` if it is not set."""
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


# The types of JSON Schema, in words for messages.
_TYPE_WORDS = {
    "string": "text",
    "array": "a list",
    "object": "a mapping of keys",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


class _Fault(NamedTuple):
    """A violation of the schema in words: where it is, and the remedy. ``key``: the key that should not be there, and
    ``meant`` the key that it probably stands for; ``missing``: the key that should be there."""

    path: list[Any]
    message: str
    remedy: str
    key: str = ""
    meant: str = ""
    missing: str = ""


def _explain(error: ValidationError) -> Iterator[_Fault]:
    """What a violation of the schema means: a fault for each key that is unknown or missing, otherwise one."""
    schema: dict[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    rule: Any = error.validator_value
    instance: Any = error.instance
    path = list(error.absolute_path)
    if error.validator == "additionalProperties":
        known = sorted(schema.get("properties", {}))
        for name in sorted(str(key) for key in set(instance) - set(known)):
            meant = nearest_name(name, known, 0.5) or ""
            hint = f", did you mean {meant!r}?" if meant else ""
            remedy = f"the keys are: {', '.join(known)}" if known else "remove it"
            yield _Fault(path, f"unknown key {name!r}{hint}", remedy, key=name, meant=meant)
    elif error.validator == "required":
        for name in (key for key in rule if key not in instance):
            yield _Fault(path, f"the key {name!r} is missing", f"add `{name}: …`", missing=name)
    else:
        yield _Fault(path, *_wrong_value(error, schema, rule, instance))


def _wrong_value(error: ValidationError, schema: dict[str, Any], rule: Any, instance: Any) -> tuple[str, str]:
    """(message, remedy) for a value that the schema does not allow."""
    if error.validator == "anyOf" and all("type" in form for form in rule):
        rule = list(dict.fromkeys(form["type"] for form in rule))
    if (
        error.validator in ("type", "anyOf")
        and isinstance(rule, str | list)
        and all(isinstance(kind, str) for kind in rule)
    ):
        if rule == "string" and isinstance(instance, int | float):
            if "quotation marks" in (about := str(schema.get("description"))):
                return f"YAML reads {instance!r} as a number, not as text", about
            return (
                f"YAML reads {instance!r} as a number, so its leading zeros are lost",
                'put codes in quotation marks: "02"',
            )
        wanted = " or ".join(_TYPE_WORDS.get(kind, kind) for kind in ([rule] if isinstance(rule, str) else rule))
        return f"this is not {wanted}", schema.get("description", f"give {wanted}")
    if error.validator == "enum":
        known = [str(choice) for choice in rule]
        hint = did_you_mean(str(instance), known, 0.4, quoted=True)
        return f"{instance!r} is not one of the choices", f"{hint}Choose from: {', '.join(known)}"
    if error.validator == "pattern":
        return f"{instance!r} does not have the right form", schema.get("description", f"it must match {rule}")
    return error.message, schema.get("description", "correct the value")
