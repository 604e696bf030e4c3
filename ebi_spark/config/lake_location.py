"""Where a lake is: a folder, a URL in an object store, or a catalogue with one schema for each layer."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ebi_spark.errors import InputError
from ebi_spark.quoting import refuse_catalogue_name, refuse_unusable

LAYERS = ("silver", "gold", "published")


# The object stores that a lake can be in: how a URL names its first part (bucket, or container and account), by its scheme.
STORES = {
    "s3a": re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
    "abfss": re.compile(r"[a-z0-9-]{3,63}@[a-z0-9-]+(\.[a-z0-9-]+)+"),
    "gs": re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
}
# Names of folders that every store, Spark and `obstore` write in the same way.
_FOLDER_OF_STORE = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*")


@dataclass(frozen=True)
class LakeLocation:
    """Where the lake is: a folder, a URL in an object store, or a catalogue with one schema for each layer."""

    folder: Path | None = None
    catalog: str | None = None
    schemas: dict[str, str] = field(default_factory=dict)
    url: str | None = None

    @property
    def place(self) -> Path | str | None:
        """The folder or the URL with the tables and the lock; None for a catalogue."""
        return self.folder or self.url

    def __str__(self) -> str:
        return str(self.place) if self.place else f"{self.catalog}.{{{', '.join(self.schemas.values())}}}"


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
    of the three schemas), a URL in an object store, or a folder relative to ``base``.

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
    if value.partition("://")[0] in STORES:
        return LakeLocation(url=_url_of_lake(what, value))
    refuse_url(
        what,
        value,
        "write s3a://BUCKET/FOLDER, abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER or gs://BUCKET/FOLDER, or name a "
        "folder on this machine",
    )
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


def _url_of_lake(what: str, value: str) -> str:
    """A lake's URL without a slash at its end. Raises an :class:`InputError` if programs could read it as different places, or
    if it contains credentials."""
    scheme, _, rest = value.partition("://")
    store, *folders = rest.rstrip("/").split("/")
    # The part before an @ can be a secret, so it is not shown.
    if not STORES[scheme].fullmatch(store):
        example = "CONTAINER@ACCOUNT.dfs.core.windows.net" if scheme == "abfss" else "BUCKET"
        raise InputError(
            f"{what}: {scheme}://…{store.rpartition('@')[2]} does not name "
            f"{'a container and its account' if scheme == 'abfss' else 'a bucket'}",
            remedy=f"write {scheme}://{example}/FOLDER, without keys or passwords: credentials come from the environment",
        )
    if not folders or not all(map(_FOLDER_OF_STORE.fullmatch, folders)):
        raise InputError(
            f"{what}: {value} does not name a folder in the store that every program reads alike",
            remedy="write at least one folder after the bucket, with letters, digits, '.', '_', '-' and '=' only",
        )
    return f"{scheme}://{'/'.join([store, *folders])}"


def refuse_url(
    what: str, value: str, remedy: str = "name a folder or file on this machine, such as /Volumes/… or /mnt/…"
) -> None:
    """Raise an :class:`InputError` for a URL: it would become a folder of that name next to the configuration."""
    if "://" in value or value.startswith("dbfs:"):
        raise InputError(f"{what} cannot be at a URL: {value}", remedy=remedy)
