"""Where a lake is: a folder, or a catalogue with one schema for each layer."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebi_spark.errors import InputError
from ebi_spark.quoting import refuse_catalogue_name, refuse_unusable

LAYERS = ("silver", "gold", "published")


@dataclass(frozen=True)
class LakeLocation:
    """Where the lake is: a folder, or a catalogue with one schema for each layer."""

    folder: Path | None = None
    catalog: str | None = None
    schemas: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.folder) if self.folder else f"{self.catalog}.{{{', '.join(self.schemas.values())}}}"


# A lake as the file writes it. (A choice between two types would give less exact messages.)
LAKE_SCHEMA: dict[str, Any] = {
    "type": ["string", "object"],
    "if": {"type": "object"},
    "then": {
        "required": ["catalog", "schemas"],
        "additionalProperties": False,
        "properties": {
            "catalog": {"type": "string"},
            "schemas": {
                "type": "object",
                "required": list(LAYERS),
                "additionalProperties": False,
                "properties": {layer: {"type": "string"} for layer in LAYERS},
            },
        },
    },
}


def lake_location(value: str | dict[str, Any], base: Path, what: str = "lake") -> LakeLocation:
    """The location of a lake from its setting: a mapping, ``catalog.prefix``, ``catalog.silver,gold,published`` (the names
    of the three schemas) or a folder relative to ``base``.

    A text is read as names if it has no slash and one dot, and no folder of that name exists. Raises an
    :class:`InputError` that begins with ``what`` if a lake cannot be there.
    """
    if isinstance(value, dict):
        for key, name in {"catalog": value["catalog"], **value["schemas"]}.items():
            refuse_catalogue_name(f"{what}: {key}", name)
        if len({name.lower() for name in value["schemas"].values()}) < len(LAYERS):
            raise InputError(
                f"{what}: two of its layers have the same schema",
                remedy="name a different schema for each of silver, gold and published",
            )
        return LakeLocation(catalog=value["catalog"], schemas=dict(value["schemas"]))
    refuse_unusable(what, value)
    refuse_url(what, value)
    catalog, _, rest = value.partition(".")
    schemas = rest.split(",")
    try:
        if all(name.isidentifier() for name in (catalog, *schemas)) and not (base / value).exists():
            if len(schemas) == len(LAYERS):
                names = dict(zip(LAYERS, schemas, strict=True))
                return lake_location({"catalog": catalog, "schemas": names}, base, what)
            if len(schemas) == 1:
                return LakeLocation(catalog=catalog, schemas={layer: f"{rest}_{layer}" for layer in LAYERS})
        folder = (base / Path(value).expanduser()).resolve()
    except (OSError, RuntimeError) as error:  # an unknown home directory, or links in a circle
        raise InputError(
            f"{what}: {value} does not lead to a folder ({type(error).__name__})",
            remedy="write the full path of the folder",
        ) from None
    refuse_unusable(what, str(folder))
    return LakeLocation(folder=folder)


def refuse_url(what: str, value: str) -> None:
    """Raise an :class:`InputError` for a URL: it would become a folder of that name next to the configuration."""
    if "://" in value or value.startswith("dbfs:"):
        raise InputError(
            f"{what} cannot be at a URL: {value}",
            remedy="name a folder or file on this machine, such as /Volumes/… or /mnt/…",
        )
