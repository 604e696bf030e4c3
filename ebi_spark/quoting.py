"""Quote text from outside the product for SQL, Java options and Spark paths.

Names of files, tables, columns and settings come from configurations, environments and source files. Each is quoted by
a function of this module before it is used. A name that cannot be quoted is refused with an error that shows it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ebi_spark.errors import InputError, shown

# Control characters, line ends that only some programs recognise, and bytes of a name that are not valid text.
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_GLOB = re.compile(r"([\\\[\]{}*?])")
_PART = re.compile(r"`((?:[^`]|``)+)`|([^`.\s]+)")
_NAME = re.compile(r"[^`./\s]+")


def sql_name(*parts: str) -> str:
    """A name for SQL, with each part in backticks."""
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def sql_text(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def sql_list(texts: Iterable[str]) -> str:
    """Texts as a list in SQL, such as ``('A', 'B')``. An empty list is ``(NULL)``, in which no text is."""
    return f"({', '.join(map(sql_text, texts)) or 'NULL'})"


def table_parts(name: str) -> list[str]:
    """The parts of a table name as a user writes it: ``catalog.schema.name``, with backticks around a part that has
    spaces or dots. Raises an :class:`InputError` if the text is not such a name."""
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
        remedy="write `catalog.schema.name`, with backticks around a part that has spaces or dots",
    )


def refuse_catalogue_name(what: str, name: str) -> None:
    """Raise an :class:`InputError` if ``name`` cannot be the name of a catalogue or schema."""
    refuse_unusable(what, name)
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{what}: a catalogue or schema cannot be called {name!r}",
            remedy="write the name only, without quotation marks, backticks, spaces, dots or slashes",
        )


def refuse_unusable(what: str, text: str) -> None:
    """Raise an :class:`InputError` if a setting, name or argument is empty or has a character that is not allowed in
    one."""
    if not text.strip():
        raise InputError(f"{what} is empty", remedy="give it a value, or leave it out")
    found = _UNUSABLE.search(text)
    if found:
        raise InputError(
            f"{what} has the character {shown(found[0])}, which is not allowed in a name: {text}",
            remedy="remove control characters, line breaks and bytes that are not UTF-8",
        )
    if "${" in text:
        raise InputError(
            f"{what} has ${{ without the name of an environment variable: {text}",
            remedy="write ${NAME} with letters, digits and underscores, or remove the ${",
        )


def texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document, keys as well as values, as (place, text)."""
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
    """One Java option, quoted the way Spark's launcher expects it in a line of options."""
    if any(ord(character) > 0xFFFF for character in option):  # the launcher reads each of these as two characters
        raise InputError(
            f"Java cannot be given the name {option.partition('=')[2] or option}: it has a character beyond U+FFFF",
            remedy="rename the folder without that character, such as an emoji",
        )
    return '"' + option.replace("\\", "\\\\").replace('"', '\\"') + '"'


def spark_path(path: str) -> str:
    """The path of one local file for Spark's readers, which would otherwise read brackets, braces and stars as a
    pattern."""
    quoted = _GLOB.sub(r"\\\1", path)
    # Spark looks for a file whose path has a pattern character part by part, and for a file's checksum by its name alone. In
    # both cases it reads a colon as the end of a URL scheme.
    name = path.rpartition("/")[2]
    if ":" in name or (quoted != path and ":" in path):
        raise InputError(
            f"Spark cannot read {path}: it has a colon in its name, or a colon and a pattern character ([ ] {{ }} * ? \\)",
            remedy="rename the file or its folder",
        )
    return quoted
