"""What the YAML file can set: each key is described once, beside the field that it sets, and everything else follows.

``conf/run.schema.json``, the tables of keys in ``docs/configuration.md`` and the stages that a change makes due come from
here. A class of settings is a dataclass whose fields are annotated with a :class:`Key`.
"""

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from typing import Annotated, Any, NamedTuple, get_type_hints

from pydantic import Field as PydanticField
from pydantic import TypeAdapter

# Values that several keys have, as the file writes them: a date, and one path or more.
Day = Annotated[str, PydanticField(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Paths = Annotated[list[str], PydanticField(min_length=1)]


@dataclass(frozen=True)
class Key:
    """The key of a field.

    ``meaning``, ``unit`` and ``default`` are for the documentation; the default is that of the field unless it is
    described here. ``hint``: what a message advises for a wrong value. ``stages``: those that a change makes due.
    ``name``: the key, where it differs from the field's name (``geography.version``). ``written``: the type of the value
    in the file (or its JSON Schema), where the field has another. ``of``: the class of settings that the value has, or
    with ``each`` every value of a list (``[]``) or mapping (``.NAME``) has.
    """

    meaning: str
    unit: str = ""
    default: str = ""
    hint: str = ""
    stages: tuple[str, ...] = ()
    name: str = ""
    written: Any = None
    of: type | None = None
    each: str = ""


@dataclass(frozen=True)
class NotInFile:
    """A field that the file cannot set, and the stages that a change makes due."""

    stages: tuple[str, ...] = ()


class Setting(NamedTuple):
    """A field with its annotation and its key."""

    field: "Field[Any]"
    annotation: Any
    key: Key

    @property
    def name(self) -> str:
        """The name of the key in the file."""
        return self.key.name or self.field.name

    @property
    def is_required(self) -> bool:
        """Whether the file must have the key."""
        return default_of(self.field) is MISSING


def settings_of(cls: type) -> list[Setting]:
    """The fields of a class that the file can set, in order."""
    return [Setting(item, annotation, found) for item, annotation, found in _annotated(cls) if isinstance(found, Key)]


def stages_of(cls: type) -> dict[str, tuple[str, ...]]:
    """The stages that a change of each field makes due. A field that does not say so is left out: it counts for all."""
    return {item.name: found.stages for item, _, found in _annotated(cls)}


def _annotated(cls: type) -> Iterator[tuple["Field[Any]", Any, Key | NotInFile]]:
    annotations = get_type_hints(cls, include_extras=True)
    for item in fields(cls):
        annotation = annotations[item.name]
        for found in getattr(annotation, "__metadata__", ()):
            if isinstance(found, Key | NotInFile):
                yield item, annotation, found


def default_of(item: "Field[Any]") -> Any:
    """The default of a field; ``MISSING`` if it has none."""
    return item.default_factory() if item.default_factory is not MISSING else item.default


def object_schema(cls: type) -> dict[str, Any]:
    """The JSON Schema of a class of settings. A key ``a.b`` is the key ``b`` of the object ``a``."""
    whole = _empty_object()
    for setting in settings_of(cls):
        here = whole["properties"]
        *above, name = setting.name.split(".")
        for part in above:
            here = here.setdefault(part, _empty_object())["properties"]
        here[name] = _value_schema(setting)
    required = [setting.name for setting in settings_of(cls) if setting.is_required]
    return {"required": required, **whole} if required else whole


def _empty_object() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _value_schema(setting: Setting) -> dict[str, Any]:
    key = setting.key
    found: dict[str, Any]
    if key.of:
        inner = object_schema(key.of)
        found = {
            "": inner,
            "[]": {"type": "array", "items": inner},
            ".NAME": {"type": "object", "minProperties": 1, "additionalProperties": inner},
        }[key.each]
    elif isinstance(key.written, dict):
        found = dict(key.written)
    else:
        found = _plain(TypeAdapter(key.written or setting.annotation).json_schema())
    return {"description": key.hint, **found} if key.hint else found


def _plain(schema: Any) -> Any:
    """A schema of pydantic without what messages do not need: a choice is a choice whatever its type, a key that is
    left out is never null, and names and defaults are in the documentation."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "anyOf" in schema:
        choices = [item for item in schema["anyOf"] if item != {"type": "null"}]
        if len(choices) == 1:
            return _plain(choices[0])
    left_out = {"title", "default", "format"} | ({"type"} if "enum" in schema else set())
    return {name: _plain(item) for name, item in schema.items() if name not in left_out}
