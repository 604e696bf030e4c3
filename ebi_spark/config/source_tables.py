"""The source tables that a configuration can name: systems, their tables, and how a table is written."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from ebi_spark.config.keys import Day, Key, Paths

# The system of a board's own registers. Ingest does not read them; the stage `monitor` does.
REGISTERS = "local"
# The source tables that a source of each system may have.
ROLES = {
    "sus_plus": ("apcs", "apcs_der", "opa", "apcs_withdrawn", "opa_withdrawn"),
    "hes": ("apc", "apc_diagnoses", "apc_procedures", "op", "op_diagnoses", "op_procedures", "op_withdrawn"),
    REGISTERS: ("prior_approval",),
}
# A long table of HES, with a row for each code → the table to whose rows these codes belong.
CODE_TABLES = {"apc_diagnoses": "apc", "apc_procedures": "apc", "op_diagnoses": "op", "op_procedures": "op"}


@dataclass(frozen=True)
class TableSource:
    """Where one source table is, and how it is written. What the configuration does not say (None) is detected from the file."""

    role: str
    paths: Annotated[
        tuple[str, ...],
        Key(
            "One path, a list of paths, or a glob.",
            unit="paths",
            default="this or `table` is required",
            name="path",
            written=str | Paths,
        ),
    ] = ()
    catalogue_tables: Annotated[
        tuple[str, ...],
        Key(
            "A table of a catalogue, or a list of tables, such as one a year.",
            unit="catalog.schema.name",
            default="this or `path` is required",
            name="table",
            written=str | Paths,
        ),
    ] = ()
    format: Annotated[
        str | None,
        Key("`csv`, `parquet` or `delta`.", default="detected", written=Literal["csv", "parquet", "delta"]),
    ] = None
    delimiter: Annotated[
        str | None,
        Key(
            'The delimiter of a text file; `"\\t"` for a tab.',
            unit="one character",
            default="detected",
            written=Annotated[str, Field(min_length=1, max_length=2)],
        ),
    ] = None
    encoding: Annotated[
        str | None, Key("`utf-8` or `iso-8859-1`.", default="`utf-8`", written=Literal["utf-8", "iso-8859-1"])
    ] = None
    header: Annotated[bool | None, Key("Whether the file begins with a header row.", default="detected")] = None
    headers_file: Annotated[
        str | None,
        Key("A file that has the header row, where the data files have none.", unit="path", default="none"),
    ] = None
    columns: Annotated[
        dict[str, str],
        Key(
            "A column mapping: our name, then the file's own name.",
            default="by the names in [conf/layouts.yml](../conf/layouts.yml)",
        ),
    ] = field(default_factory=dict)
    extract_date: Annotated[
        str | None,
        Key(
            "The date of the extract. The later of two versions of one row counts.",
            unit="date",
            default="the column of that name, if any",
            written=Day,
        ),
    ] = None

    @property
    def where(self) -> str:
        """The names of tables or the paths, for messages."""
        return ", ".join(self.catalogue_tables or self.paths)


@dataclass(frozen=True)
class Source:
    """One source of the configuration: its system, and its tables by role (``apcs``, ``opa``, …)."""

    name: str
    system: Annotated[
        str,
        Key(
            "`sus_plus` or `hes`; `local` for a board's own registers of approvals.",
            default="required",
            written=Literal["sus_plus", "hes", "local"],
        ),
    ]
    tables: Annotated[
        dict[str, TableSource],
        Key(
            "The source tables: a path, a list of paths, a glob, or a description with the keys below. "
            "[sources.md](sources.md)",
            unit="paths",
            default="required",
            written={
                "type": "object",
                "minProperties": 1,
                "additionalProperties": False,
                "properties": {role: {"$ref": "#/$defs/table"} for roles in ROLES.values() for role in roles},
            },
        ),
    ]
