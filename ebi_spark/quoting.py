"""Text that is not the product's own, made safe for where it goes: SQL, Java's options, Spark's paths, the terminal.

Names of files, tables, columns and settings come from configurations, environments and source files. Each passes through one
function of this module on its way; what cannot be quoted is refused by name.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ebi_spark.errors import InputError, shown

# Control characters, ends of lines that only some programs see, and bytes of a name that are no text.
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_GLOB = re.compile(r"([\\\[\]{}*?])")
_PART = re.compile(r"`((?:[^`]|``)+)`|([^`.\s]+)")
_NAME = re.compile(r"[^`./\s]+")


def sql_name(*parts: str) -> str:
    """A name for SQL, each of its parts between backticks."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def sql_text(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def table_parts(name: str) -> list[str]:
    """The parts of a table's name as a person writes it: ``catalog.schema.name``, a part with blanks or dots between
    backticks. An :class:`InputError` where it is no such name."""
    found: list[str] = []
    at = 0
    while match := _PART.match(name, at):
        found.append(match[1].replace("``", "`") if match[1] else match[2])
        at = match.end()
        if at == len(name):
            return found
        if name[at] != ".":
            break
        at += 1
    raise InputError(
        f"{name!r} is not the name of a table",
        remedy="write `catalog.schema.name`, with backticks around a part that has blanks or dots",
    )


def refuse_catalogue_name(what: str, name: str) -> None:
    """An :class:`InputError` where a catalogue or schema cannot be called so."""
    refuse_unusable(what, name)
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{what}: a catalogue or schema cannot be called {name!r}",
            remedy="write its name alone, without quotation marks, backticks, blanks, dots or slashes",
        )


def refuse_unusable(what: str, text: str) -> None:
    """An :class:`InputError` where a setting, a name or an argument is empty or has a character that cannot be part of
    one."""
    if not text.strip():
        raise InputError(f"{what} is empty", remedy="give it a value, or leave it out")
    found = _UNUSABLE.search(text)
    if found:
        raise InputError(
            f"{what} has the character {shown(found[0])}, which no name may have: {text}",
            remedy="take control characters, line breaks and bytes that are not UTF-8 out of it",
        )
    if "${" in text:
        raise InputError(
            f"{what} has ${{, and no environment variable is named so: {text}",
            remedy="write ${NAME} with letters, digits and underscores, or take the sign out",
        )


def texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document with its place, keys as well as values."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"{where} (a key)".strip(), str(key)
            yield from texts(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item, where)


def java_option(option: str) -> str:
    """One option in a line of Java's options, as Spark's launcher takes such a line apart."""
    if any(ord(character) > 0xFFFF for character in option):  # the launcher takes these for two characters
        raise InputError(
            f"Java cannot be given the name {option.partition('=')[2] or option}: it has a character beyond U+FFFF",
            remedy="rename the folder, for instance without the picture sign",
        )
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def spark_path(path: str) -> str:
    """The path of one local file for Spark's readers, which would take its brackets, braces and stars for a pattern."""
    quoted = _GLOB.sub(r"\\\1", path)
    if (
        quoted != path and ":" in path
    ):  # Spark looks for a file of such a name part by part, and takes the colon for a scheme's
        raise InputError(
            f"Spark cannot read {path}: it has a colon as well as one of the signs of a pattern ([ ] {{ }} * ? \\)",
            remedy="rename the file or its folder",
        )
    return quoted
