"""The YAML configuration of a run as one frozen object, and the files that the product ships."""

import difflib
import glob
import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic.dataclasses import dataclass as settings_model

from ebi_spark.config.keys import Key, NotInFile, object_schema, settings_of
from ebi_spark.config.yaml_documents import load_document
from ebi_spark.errors import InputError
from ebi_spark.financial_years import parse_years
from ebi_spark.quoting import refuse_catalogue_name, refuse_unusable, table_parts, texts
from ebi_spark.small_files import read_rows

# Files and folders that are stored among the time zones but that Java does not know as time zones.
_NO_ZONES = re.compile(r"localtime|posixrules|Factory|leapseconds|(?:right|posix)/.*")
AreaBasis = Literal["gp_practice", "residence", "commissioner"]
AREA_BASES: tuple[AreaBasis, ...] = ("gp_practice", "residence", "commissioner")
LAYERS = ("silver", "gold", "published")
# This value of --years or --policies means those of the configuration. A platform's job always gives both options.
AS_CONFIGURED = "configured"

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


def resource(*parts: str) -> Path:
    """A file that the product ships under ``conf/`` or ``expectations/``, in a checkout or in the installed wheel."""
    package = Path(__file__).resolve().parent.parent
    for root in (package, package.parent):
        path = root.joinpath(*parts)
        if path.exists():
            return path
    raise InputError(f"the installation has no {'/'.join(parts)}", remedy="install ebi-spark again")


@dataclass(frozen=True)
class DateWindow:
    """The days on which activity can have taken place (decision 22).

    They begin with ``first`` and end with the date of the extract if that is known. They never end after ``last``, the
    day of the run. An appointment up to ``ahead`` days later is a future appointment; a later date is a mistake.
    """

    first: date
    last: date
    ahead: int


@cache
def activity_dates() -> dict[str, Any]:
    """``conf/activity_dates.yml``: the first day of each data set and how far ahead appointments are made, with
    reasons."""
    path, schema = resource("conf", "activity_dates.yml"), resource("conf", "activity_dates.schema.json")
    return load_document(path, schema, what="activity dates")


def _first_days() -> dict[str, str]:
    return {name: item["day"] for name, item in activity_dates()["activity_from"].items()}


def _days_ahead() -> int:
    days: int = activity_dates()["appointments_ahead_days"]["days"]
    return days


def _as_written(value: float, check: ValidatorFunctionWrapHandler) -> float:
    """Check a number, but keep it as it is written: the run log compares it with that of earlier runs, and 1 is not
    written as 1.0."""
    check(value)
    return value


def today(timezone: str = "Europe/London") -> date:
    """Today's date in a time zone."""
    return datetime.now(ZoneInfo(timezone)).date()


# Number of days, and a date, as the file writes them.
_Days = Annotated[int, Field(ge=0)]
_Day = Annotated[str, Field(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
_Share = Annotated[float, Field(ge=0, le=1), WrapValidator(_as_written)]
_PATHS = Annotated[list[str], Field(min_length=1)]
_MONTH = "[0-9]{4}-(0[1-9]|1[0-2])"
_UNIQUE = Field(json_schema_extra={"uniqueItems": True})


@dataclass(frozen=True)
class TableSource:
    """Where one source table is, and how it is written. What is None is detected when the table is read."""

    role: str
    paths: Annotated[
        tuple[str, ...],
        Key(
            "One path, a list of paths, or a glob.",
            unit="paths",
            default="this or `table` is required",
            name="path",
            written=str | _PATHS,
        ),
    ] = ()
    catalogue_tables: Annotated[
        tuple[str, ...],
        Key(
            "A table of a catalogue, or a list of tables, such as one a year.",
            unit="catalog.schema.name",
            default="this or `path` is required",
            name="table",
            written=str | _PATHS,
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
            written=_Day,
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


@dataclass(frozen=True)
class LakeLocation:
    """Where the lake is: a folder, or a catalogue with one schema for each layer."""

    folder: Path | None = None
    catalog: str | None = None
    schemas: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.folder) if self.folder else f"{self.catalog}.{{{', '.join(self.schemas.values())}}}"


# A lake as the file writes it. (A choice between two types would give less exact messages.)
_LAKE: dict[str, Any] = {
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


@dataclass(frozen=True)
class PopulationFile:
    """The keys of one item of ``population``. A :class:`RunConfig` has them as a dictionary of what is set."""

    path: Annotated[str, Key("The file.", unit="path", default="required")]
    layout: Annotated[
        Literal["bands", "gp_registered", "ons_mid_year"], Key("`bands`, `gp_registered` or `ons_mid_year`.")
    ] = "bands"
    vintage: Annotated[
        str | None,
        Key(
            "With `ons_mid_year`: the day of the estimate.",
            unit="date",
            default="from the file's name or title",
            hint='a date such as "2022-10-01"',
            written=_Day,
        ),
    ] = None
    geography: Annotated[
        str | None,
        Key(
            "The version of the areas that the file has.",
            unit="version",
            default="detected from the codes",
            hint="the version of the geography that the file's areas belong to, such as icb_2024",
        ),
    ] = None


_A_DAY = 'a date such as "2003-04-01"'
_BOARD = Annotated[str, Field(pattern="^[A-Z0-9]{3}$")]


@dataclass(frozen=True)
class ApprovalRegime:
    """The keys of one item of ``approvals.regimes``. A :class:`RunConfig` has them as a dictionary of what is set."""

    board: Annotated[str, Key("The integrated care board.", unit="NHS code", default="required", written=_BOARD)]
    policies: Annotated[
        list[str], Key("The policies that the regime is for.", unit="policy ids", default="required", written=_PATHS)
    ]
    kind: Annotated[
        Literal["prior_approval", "ifr_only", "criteria_based", "none"],
        Key("`prior_approval`, `ifr_only`, `criteria_based` or `none`.", default="required"),
    ]
    since: Annotated[
        str | None,
        Key("The first day.", unit="date", default="not known", name="from", hint=_A_DAY, written=_Day),
    ] = None
    until: Annotated[
        str | None,
        Key("The day after the last.", unit="date", default="not ended", name="to", hint=_A_DAY, written=_Day),
    ] = None
    exempts_emergencies: Annotated[
        bool, Key("Whether emergency admissions need nothing. `kind: none` needs no answer.")
    ] = True
    source: Annotated[str | None, Key("Where the board says so.", default="none")] = None


@dataclass(frozen=True)
class RegisterCoverage:
    """The keys of one item of ``approvals.covers``. A :class:`RunConfig` has them as a dictionary of what is set."""

    board: Annotated[str, Key("The integrated care board.", unit="NHS code", default="required", written=_BOARD)]
    since: Annotated[
        str | None,
        Key("The first day.", unit="date", default="from ever", name="from", hint=_A_DAY, written=_Day),
    ] = None
    until: Annotated[
        str | None,
        Key("The last day, which is included.", unit="date", default="no end", name="to", hint=_A_DAY, written=_Day),
    ] = None


@dataclass(frozen=True)
class ActivityFrom:
    """The keys of ``activity_from``. Their defaults, with reasons, are in ``conf/activity_dates.yml``."""

    hes_apc: Annotated[str, Key("HES admitted patient care.", unit="date", hint=_A_DAY, written=_Day)] = ""
    hes_op: Annotated[str, Key("HES outpatients.", unit="date", hint=_A_DAY, written=_Day)] = ""
    sus_plus: Annotated[str, Key("SUS+.", unit="date", hint=_A_DAY, written=_Day)] = ""


@settings_model(frozen=True, config=ConfigDict(extra="forbid"))
class RunConfig:
    """A complete configuration, with absolute paths and with defaults for what is not set.

    Each key of the file is described here, once: name, type, bounds, default, meaning, and the stages that a change
    makes due. The JSON Schema and the documentation follow from it (``make docs``).
    """

    lake: Annotated[
        LakeLocation,
        Key(
            "Where the tables are: a folder, or one schema for each layer of a catalogue.",
            unit="path or names",
            default="required",
            written=_LAKE,
            hint="a folder, or {catalog: …, schemas: {silver: …, gold: …, published: …}}",
        ),
    ]
    years: Annotated[
        tuple[str, ...] | None,
        Key(
            "The financial years that the run works on.",
            unit="financial years",
            default="every year that the sources have",
            written=str,
            hint='financial years in quotation marks, such as "2021-22" or "2018-19..2023-24"',
        ),
    ] = None
    policies: Annotated[
        tuple[str, ...] | None,
        Key("The policies to apply.", unit="policy ids", default="all", hint="a list of policy ids", written=_PATHS),
    ] = None
    policy_dirs: Annotated[
        tuple[Path, ...],
        Key(
            "Folders with policies of your own, besides the shipped ones.",
            unit="paths",
            default="none",
            hint="a list of folders",
        ),
    ] = ()
    basis: Annotated[
        Literal["in_force", "fixed"],
        Key(
            "Which revision of a policy applies: `in_force`, the one in force on the day of the record; `fixed`, one "
            "revision for all years.",
            stages=("flag",),
        ),
    ] = "in_force"
    fixed_revisions: Annotated[
        dict[str, str],
        Key(
            "With `basis: fixed`: the revision of each policy.",
            unit="policy id: revision",
            default="the newest of each policy",
            hint="policy id: revision",
            stages=("flag",),
        ),
    ] = field(default_factory=dict)
    sources: Annotated[
        tuple[Source, ...],
        # Not a stage's setting: sources are recorded table by table and file by file.
        Key(
            "Your deliveries. The names are yours.",
            default="required",
            hint="for each source: a name, then its system and tables",
            of=Source,
            each=".NAME",
        ),
    ] = ()
    population: Annotated[
        tuple[dict[str, str], ...],
        Key(
            "People by area, sex and age band. [geography.md](geography.md#population)",
            unit="files",
            default="the shipped population of August 2026",
            hint="a list of {path, layout} items",
            stages=("rate",),
            of=PopulationFile,
            each="[]",
        ),
    ] = ()
    geography: Annotated[
        str,
        Key(
            "The version of the areas that every year is shown on: `current`, `icb_2026`, `icb_2024` or `ccg_2021`.",
            hint="current, or a version named in conf/reference/geographies.csv, such as icb_2024",
            stages=("flag", "rate", "publish"),
            name="geography.version",
        ),
    ] = "current"
    practices: Annotated[
        Path | None,
        Key(
            "Which sub-ICB location a practice belongs to.",
            unit="CSV file",
            default="none: the practice does not decide the area",
            hint="a CSV file: practice_code, sub_icb_code, and optionally valid_from, valid_to; or ODS's epraccur.csv",
            stages=("flag",),
            name="geography.practices",
        ),
    ] = None
    lsoas: Annotated[
        Path | None,
        Key(
            "Which sub-ICB location a small area belongs to.",
            unit="CSV file",
            default="none: the home address does not decide the area",
            hint="a CSV file: lsoa, sub_icb_code, and optionally valid_from, valid_to",
            stages=("flag",),
            name="geography.lsoas",
        ),
    ] = None
    providers: Annotated[
        Path | None,
        Key(
            "The names of providers, for published tables.",
            unit="CSV file",
            default="none: a provider is shown by its code",
            hint="a CSV file: provider_code, provider_name; or ODS's etr.csv",
            stages=("publish",),
            name="geography.providers",
        ),
    ] = None
    mappings: Annotated[
        tuple[Path, ...],
        Key(
            "What became of areas that the shipped tables do not know.",
            unit="CSV files",
            default="none",
            hint="a list of CSV files: from_code, to_code, from_date, share",
            stages=("flag", "rate"),
            name="geography.mappings",
        ),
    ] = ()
    deprivation: Annotated[
        Path | None,
        Key(
            "Which fifth of deprivation a small area belongs to: 1 is the most deprived. Rates by fifth need it.",
            unit="CSV file",
            default="none: no rates by deprivation",
            hint="a CSV file: lsoa, fifth",
            stages=("monitor",),
            name="deprivation.lookup",
        ),
    ] = None
    deprivation_population: Annotated[
        Path | None,
        Key(
            "England's people in one year by fifth of deprivation, sex and five-year age band.",
            unit="CSV file",
            default="none: the fifths have counts and no rates",
            hint="a CSV file: fifth, sex, age_from, people",
            stages=("monitor",),
            name="deprivation.population",
        ),
    ] = None
    area_order: Annotated[
        tuple[AreaBasis, ...],
        Field(min_length=1),
        _UNIQUE,
        Key(
            "What decides the area of a record, in this order.",
            hint="a list of gp_practice, residence and commissioner; the first that is known gives the area of a record",
            stages=("flag",),
        ),
    ] = AREA_BASES
    coverage: Annotated[
        Literal["national", "partial"],
        Key(
            "`national`, or `partial` for an extract of a part of England: then nothing is called England.",
            stages=("rate", "monitor", "publish"),
        ),
    ] = "national"
    data_kind: Annotated[
        Literal["real", "sample", "synthetic"],
        Key(
            "What the records are: `real`; `sample`, a part of real records, to try things; or `synthetic`, made up. The "
            "release and the report say so.",
            hint="real, sample (a part of real records) or synthetic (made up)",
            stages=("publish",),
        ),
    ] = "real"
    disclosure: Annotated[
        str,
        Key(
            "The disclosure rule: `hes_2018_protected`, `hes_2018`, `five_or_fewer` or `under_five`. "
            "[disclosure.md](disclosure.md)",
            hint="a rule named in conf/disclosure.yml",
            stages=("publish",),
        ),
    ] = "hes_2018_protected"
    mode: Annotated[
        Literal["refresh", "upsert"],
        Key(
            "`refresh` replaces whole years; `upsert` inserts or updates records by key. "
            "[incremental-runs.md](incremental-runs.md)",
            stages=("ingest",),
        ),
    ] = "refresh"
    bare_year: Annotated[
        Literal["starts", "ends"] | None,
        Key(
            "What a calendar year in a year column means: the financial year that `starts` or that `ends` in it.",
            default="such a year is unknown",
            stages=("ingest",),
        ),
    ] = None
    # The first day of each data set (as text) and how far ahead appointments are made.
    activity_from: Annotated[
        dict[str, str],
        Key(
            "The first plausible day of activity.",
            unit="dates",
            default="see below",
            hint='the first day on which a data set can have activity, such as {hes_op: "2003-04-01"}',
            stages=("ingest",),
            of=ActivityFrom,
        ),
    ] = field(default_factory=_first_days)
    appointments_ahead_days: Annotated[
        _Days,
        Key(
            "How far ahead of the run an appointment can be. A later one is treated as a wrong date.",
            unit="days",
            hint="how many days after the day of the run an appointment can be, such as 731",
            stages=("ingest",),
        ),
    ] = field(default_factory=_days_ahead)
    timezone: Annotated[
        str,
        Key(
            "The time zone in which a time stamp becomes a date.",
            hint="a time zone such as Europe/London",
            stages=("ingest",),
        ),
    ] = "Europe/London"
    standard_population: Annotated[
        str,
        Key(
            "The standard for direct standardisation: `england`, `esp2013`, or a CSV file of your own (`age_from`, "
            "`people`, `sex` where they differ).",
            hint="england, a standard in conf/reference/standard_populations.csv, or a CSV file of your own",
            stages=("rate", "monitor"),
        ),
    ] = "england"
    max_vintage_days: Annotated[
        _Days,
        Field(le=36525),
        Key(
            "The most days between a population and 1 October of the year. Beyond them, `distant_vintage` applies.",
            unit="days",
            hint="the most days between a population and its period before the rate is marked",
            stages=("rate",),
        ),
    ] = 731
    distant_vintage: Annotated[
        Literal["mark", "error"],
        Key(
            "What happens beyond `max_vintage_days`: `mark` notes `distant_vintage` on the rates, `error` stops the run.",
            stages=("rate",),
        ),
    ] = "mark"
    # England grew by 16% from 2011 to 2026, and 9% more people are registered at practices than live there. A file that
    # differs by more than 25% probably has another unit.
    max_population_difference: Annotated[
        float,
        Field(ge=0),
        WrapValidator(_as_written),
        Key(
            "The largest difference between a population and the shipped one in the same areas. Beyond it, the rates are "
            "noted `unusual_population`.",
            unit="share",
            hint="a share: how much a population may differ from the shipped one before it is marked",
            stages=("rate",),
        ),
    ] = 0.25
    max_quarantine_share: Annotated[
        _Share,
        Key(
            "The largest share of a source table's rows that may be quarantined. Above it, the run ends with status 1.",
            unit="share, 0 to 1",
            hint="a share from 0 to 1: the most rows of a source table that may be quarantined",
            stages=("ingest",),
        ),
    ] = 0.05
    max_columns: Annotated[
        int,
        Field(ge=1, le=100_000),
        Key(
            "The most columns that a source file may have.",
            unit="columns",
            hint="how many columns a source file may have",
        ),
    ] = 2000
    max_field_bytes: Annotated[
        int,
        Field(ge=1, le=100_000_000),
        Key(
            "The longest value that is read. A longer one sends its row to quarantine.",
            unit="bytes",
            hint="how many bytes a field of a source file may have",
            stages=("ingest",),
        ),
    ] = 1_000_000
    max_shrink_share: Annotated[
        _Share,
        Key(
            "The largest share of its rows that a year may lose without `--accept-shrinkage`.",
            unit="share, 0 to 1",
            hint="a share from 0 to 1: how many fewer records a year may have than in the lake",
        ),
    ] = 0.1
    max_unknown_code_share: Annotated[
        _Share,
        Key(
            "The largest share of records whose provider or commissioner code does not look like a code. Above it, nothing "
            "is published.",
            unit="share, 0 to 1",
            hint="a share from 0 to 1: the most records that may have a provider or commissioner code in the wrong form",
            stages=("publish",),
        ),
    ] = 0.1
    min_national_events: Annotated[
        int,
        Field(ge=0, le=1_000_000_000),
        Key(
            "The fewest events of all areas together for which the opportunity is calculated.",
            unit="events",
            hint="the fewest events in England for which opportunity is calculated",
            stages=("rate", "publish"),
        ),
    ] = 100
    pooled_years: Annotated[
        tuple[Annotated[int, Field(ge=2, le=10)], ...],
        _UNIQUE,
        Key(
            "The lengths of pooled periods. `[]`: single years only.",
            unit="years",
            hint="a list of numbers of years from 2 to 10, such as [2, 3, 5]; [] for single years only",
            stages=("rate", "monitor"),
        ),
    ] = (2, 3, 5)
    over_dispersion: Annotated[
        bool,
        Key(
            "`true` widens the limits of funnel plots where areas differ by more than chance would explain; `false` never does.",
            hint="true to widen the limits of funnel plots if areas differ by more than chance",
            stages=("publish",),
        ),
    ] = True
    control_charts: Annotated[
        Literal["plot_the_dots", "unscreened"],
        Key(
            "`plot_the_dots` screens out large moving ranges as NHSRplotthedots does; `unscreened` uses every moving range.",
            hint="how limits and signals of monthly charts are calculated: as in NHSRplotthedots, or with every moving range",
            stages=("publish",),
        ),
    ] = "plot_the_dots"
    provisional_months: Annotated[
        int,
        Field(ge=0, le=1200),
        Key(
            "How many of the latest months are marked as provisional.",
            unit="months",
            hint="how many of the latest months are marked as provisional",
            stages=("rate", "publish"),
        ),
    ] = 2
    pandemic_months: Annotated[
        tuple[date, date],
        Key(
            "The first and the last month that are marked as pandemic.",
            unit="months",
            hint="the first and the last month marked as pandemic, such as 2020-03..2021-06",
            stages=("rate", "publish"),
            written=Annotated[str, Field(pattern=rf"^{_MONTH}\.\.{_MONTH}$")],
        ),
    ] = (date(2020, 3, 1), date(2021, 6, 1))
    approval_regimes: Annotated[
        tuple[dict[str, Any], ...],
        Key(
            "What a board asks for before a procedure, and when. It replaces the shipped regimes of the same board and policy.",
            unit="list",
            default="those in [conf/approval_regimes.yml](../conf/approval_regimes.yml)",
            hint="a list of {board, policies, kind, from, to} items",
            stages=("monitor",),
            name="approvals.regimes",
            of=ApprovalRegime,
            each="[]",
        ),
    ] = ()
    register_covers: Annotated[
        tuple[dict[str, str], ...],
        Key(
            "The boards and days that the registers cover.",
            unit="list",
            default="each board that a register names, from its first entry to its last",
            hint="a list of {board, from, to} items",
            stages=("monitor",),
            name="approvals.covers",
            of=RegisterCoverage,
            each="[]",
        ),
    ] = ()
    linkable_share: Annotated[
        _Share,
        Key(
            "The smallest share of a board's approved entries whose person must be in silver. Below it, none of its operations "
            "is linked.",
            unit="share, 0 to 1",
            hint="a share from 0 to 1: how many approved entries must have their person in silver",
            stages=("monitor",),
            name="approvals.linkable_share",
        ),
    ] = 0.5
    unused_after_days: Annotated[
        _Days,
        Field(le=36525),
        Key(
            "How long after its decision an approval without an operation is listed.",
            unit="days",
            hint="how many days an approval may wait for its operation before it is listed",
            stages=("monitor",),
            name="approvals.unused_after_days",
        ),
    ] = 365
    register_pseudonym: Annotated[
        Literal["sus_plus", "hes"] | None,
        Key(
            "Whose `person_id` the registers use. Operations of the other system are then not linked.",
            default="that of any source",
            hint="sus_plus or hes: whose person_id the registers use",
            stages=("monitor",),
            name="approvals.pseudonym",
        ),
    ] = None
    keep_releases: Annotated[
        int,
        Field(ge=1, le=1000),
        Key(
            "How many releases are kept. The current one always is.",
            unit="releases",
            hint="how many releases are kept",
        ),
    ] = 5
    report: Annotated[
        Path | None,
        Key(
            "Where the HTML report is written.",
            unit="path",
            default="`report.html` in the lake's folder; none for a lake in a catalogue",
            hint="a path for the HTML report",
        ),
    ] = None
    docs: Annotated[
        Path | None,
        Key(
            "The folder of the validation pages: every check of each layer, how it is made and its outcome.",
            unit="path",
            default="`docs` in the lake's folder; none for a lake in a catalogue",
            hint="a folder for the validation pages",
        ),
    ] = None
    accept_shrunken: Annotated[bool, NotInFile()] = False  # set on the command line
    # The day of the run, recorded with it. A new day only changes rows of files that have rows of future days.
    day: Annotated[date, NotInFile()] = field(default_factory=today)
    fingerprint: Annotated[str, NotInFile()] = ""

    @property
    def record_sources(self) -> tuple[Source, ...]:
        """The sources of records, which ingest reads."""
        return tuple(source for source in self.sources if source.system != REGISTERS)

    @property
    def registers(self) -> tuple[Source, ...]:
        """The sources with a board's own registers, which monitoring reads."""
        return tuple(source for source in self.sources if source.system == REGISTERS)

    def window(self, system: str, role: str) -> DateWindow:
        """The days on which the activity in a source table can have taken place."""
        name = system if system == "sus_plus" else f"{system}_{role}"
        return DateWindow(date.fromisoformat(self.activity_from[name]), self.day, self.appointments_ahead_days)

    def with_options(
        self, *, lake: str | None = None, years: str | None = None, policies: str | None = None, accept: bool = False
    ) -> "RunConfig":
        """This configuration, changed by the options of the command line. ``configured`` for years or policies changes
        nothing."""
        changed = replace(self, accept_shrunken=accept)
        if lake is not None:
            changed = replace(changed, lake=lake_location(lake, Path.cwd(), "--lake"))
        if years is not None and years != AS_CONFIGURED:
            changed = replace(changed, years=parse_years(years))
        if policies is not None and policies != AS_CONFIGURED:
            refuse_unusable("--policies", policies.replace(",", ""))
            changed = replace(changed, policies=tuple(part.strip() for part in policies.split(",") if part.strip()))
        return changed


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
    _refuse_url(what, value)
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


def _refuse_url(what: str, value: str) -> None:
    """Raise an :class:`InputError` for a URL: it would become a folder of that name next to the configuration."""
    if "://" in value or value.startswith("dbfs:"):
        raise InputError(
            f"{what} cannot be at a URL: {value}",
            remedy="name a folder or file on this machine, such as /Volumes/… or /mnt/…",
        )


# Keys whose values `load_config` converts: paths, years, months, and what has keys of its own.
_CONVERTED = (
    "lake", "years", "policies", "policy_dirs", "sources", "population", "activity_from", "area_order", "pooled_years",
    "pandemic_months", "report", "docs",
)  # fmt: skip


def run_schema() -> dict[str, Any]:
    """The JSON Schema of a configuration, as ``conf/run.schema.json`` has it."""
    table = [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        object_schema(TableSource),
    ]
    keys = ", ".join(setting.name for setting in settings_of(TableSource) if setting.name not in ("path", "table"))
    whole = object_schema(RunConfig)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of a run: what it reads and writes",
        **whole,
        "required": ["lake", "sources"],
        "$defs": {
            "table": {
                "description": f"a path, a list of paths, or {{path: …}} or {{table: …}} with {keys}",
                "anyOf": table,
            }
        },
    }


def load_config(path: Path) -> RunConfig:
    """The configuration in a YAML file. Raises an :class:`InputError` with file, line, key and remedy if it is not
    valid."""
    document = load_document(path, resource("conf", "run.schema.json"), what="configuration")
    base = path.resolve().parent
    for where, text in texts(document):
        if not (where.endswith(".delimiter") and text):  # a delimiter may be a tab or a space
            refuse_unusable(f"configuration: {path}: {where}", text)

    def absolute(value: str) -> str:
        return value if "://" in value or Path(value).is_absolute() else str(base / value)

    def absolute_pattern(value: str) -> str:
        """An absolute path or pattern; characters in the configuration's own folder name are not part of the
        pattern."""
        whole = absolute(value)
        return f"{glob.escape(str(base))}/{value}" if whole != value and glob.has_magic(value) else whole

    def local(value: str, what: str) -> str:
        _refuse_url(f"configuration: {path}: {what}", value)
        return absolute(value)

    sources = []
    for name, source in document["sources"].items():
        tables = {}
        for role, given in source["tables"].items():
            if role not in ROLES[source["system"]]:
                raise InputError(
                    f"configuration: {path}: sources.{name}.tables.{role} is not a table of {source['system']}",
                    remedy=f"its tables are: {', '.join(ROLES[source['system']])}",
                )
            tables[role] = _table_source(
                role, given, absolute_pattern, f"configuration: {path}: sources.{name}.tables.{role}"
            )
        if "apcs_der" in tables and "apcs" not in tables:
            raise InputError(
                f"configuration: {path}: sources.{name} has apcs_der without apcs",
                remedy="add apcs, the spells that the rows of apcs_der belong to",
            )
        if "apcs" in tables and "apcs_der" not in tables:
            raise InputError(
                f"configuration: {path}: sources.{name} has apcs without apcs_der",
                remedy="add apcs_der, which has the dominant procedure and the primary diagnosis",
            )
        for role in tables:
            if role in CODE_TABLES and CODE_TABLES[role] not in tables:
                raise InputError(
                    f"configuration: {path}: sources.{name} has {role} without {CODE_TABLES[role]}",
                    remedy=f"add {CODE_TABLES[role]}, to whose rows the codes belong",
                )
        sources.append(Source(name, source["system"], tables))
    if all(source.system == REGISTERS for source in sources):
        raise InputError(
            f"configuration: {path}: no source has records of care",
            remedy="name a source of sus_plus or hes besides the registers",
        )
    _check_mode(document.get("mode", "refresh"), sources, path)

    # What the file writes as the configuration has it. The other keys are converted below.
    settings: dict[str, Any] = {
        key: document[key]
        for key in (setting.name for setting in settings_of(RunConfig))
        if key in document and key not in _CONVERTED
    }
    settings["activity_from"] = _first_days() | document.get("activity_from", {})
    for name, day in settings["activity_from"].items():
        if not _is_date(day):
            raise InputError(
                f"configuration: {path}: activity_from.{name}: {day!r} is not a date of the calendar",
                remedy="write a date such as 2003-04-01",
            )
    settings |= _approvals(document.get("approvals", {}), f"configuration: {path}: approvals")
    if settings.get("standard_population", "").endswith(".csv"):
        settings["standard_population"] = absolute(settings["standard_population"])
    if "pandemic_months" in document:
        first, last = (date.fromisoformat(f"{month}-01") for month in document["pandemic_months"].split(".."))
        if last < first:
            raise InputError(
                f"configuration: {path}: pandemic_months runs backwards", remedy="write the earlier month first"
            )
        settings["pandemic_months"] = (first, last)
    fifths = document.get("deprivation", {})
    geography = document.get("geography", {})
    known_versions = [
        "current",
        *(row["version"] for row in read_rows(resource("conf", "reference", "geographies.csv"))),
    ]
    if geography.get("version", "current") not in known_versions:
        near = difflib.get_close_matches(geography["version"], known_versions, n=1, cutoff=0.0)
        raise InputError(
            f"configuration: {path}: geography.version: there is no version {geography['version']!r}",
            remedy=f"did you mean {near[0]!r}? The versions are: {', '.join(known_versions)}",
        )
    if settings.get("basis") != "fixed" and settings.get("fixed_revisions"):
        raise InputError(
            f"configuration: {path}: fixed_revisions is set but basis is in_force", remedy="write `basis: fixed`"
        )
    known_rules = disclosure_rules()
    if "disclosure" in settings and settings["disclosure"] not in known_rules:
        near = difflib.get_close_matches(settings["disclosure"], known_rules, n=1, cutoff=0.0)
        raise InputError(
            f"configuration: {path}: there is no disclosure rule {settings['disclosure']!r}",
            remedy=f"did you mean {near[0]!r}? The rules are: {', '.join(known_rules)}",
        )
    zone = settings.get("timezone", "Europe/London")
    if not _is_zone(zone):
        raise InputError(
            f"configuration: {path}: {zone!r} is not a time zone", remedy="write one such as Europe/London"
        )
    return RunConfig(
        lake=lake_location(document["lake"], base),
        sources=tuple(sources),
        years=parse_years(document["years"]) if "years" in document else None,
        policies=tuple(document["policies"]) if "policies" in document else None,
        policy_dirs=tuple(Path(local(folder, "policy_dirs")) for folder in document.get("policy_dirs", [])),
        population=tuple(
            {**item, "path": local(item["path"], "population")} for item in document.get("population", [])
        ),
        practices=Path(local(geography["practices"], "geography.practices")) if "practices" in geography else None,
        lsoas=Path(local(geography["lsoas"], "geography.lsoas")) if "lsoas" in geography else None,
        providers=Path(local(geography["providers"], "geography.providers")) if "providers" in geography else None,
        deprivation=Path(local(fifths["lookup"], "deprivation.lookup")) if "lookup" in fifths else None,
        deprivation_population=(
            Path(local(fifths["population"], "deprivation.population")) if "population" in fifths else None
        ),
        pooled_years=tuple(sorted(document.get("pooled_years", RunConfig.pooled_years))),
        mappings=tuple(Path(local(item, "geography.mappings")) for item in geography.get("mappings", [])),
        geography=geography.get("version", "current"),
        area_order=tuple(document.get("area_order", AREA_BASES)),
        report=Path(local(document["report"], "report")) if "report" in document else None,
        docs=Path(local(document["docs"], "docs")) if "docs" in document else None,
        day=today(settings.get("timezone", "Europe/London")),
        fingerprint=fingerprint(document),
        **settings,
    )


def _approvals(given: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings below ``approvals``, by the name of their field."""
    for name in ("regimes", "covers"):
        for item in given.get(name, []):
            for key in ("from", "to"):
                if key in item and not _is_date(item[key]):
                    raise InputError(
                        f"{where}.{name}: {item[key]!r} is not a date of the calendar",
                        remedy="write a date such as 2024-03-18",
                    )
    named = {setting.name: setting.field.name for setting in settings_of(RunConfig)}
    return {
        named[f"approvals.{key}"]: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return not _NO_ZONES.fullmatch(name)


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _check_mode(mode: str, sources: list[Source], path: Path) -> None:
    """Raise an :class:`InputError` for a source table that cannot be used in this mode."""
    named = {(source.system, role) for source in sources for role in source.tables}
    for source in sources:
        for role in source.tables:
            where = f"configuration: {path}: sources.{source.name}.tables.{role}"
            if mode == "refresh" and role.endswith("_withdrawn"):
                raise InputError(
                    f"{where}: lists of withdrawn keys need `mode: upsert`",
                    remedy="remove the list and leave withdrawn records out of the extract: a refresh replaces whole years",
                )
            whose = role.removesuffix("_withdrawn")
            if whose != role and (source.system, whose) not in named:
                raise InputError(
                    f"{where}: keys of {whose} are listed as withdrawn, but no source has {whose}",
                    remedy=f"add {whose} with the files of its latest submission: records that have not changed are not "
                    "written again",
                )
            if mode == "upsert" and role == "apc":
                raise InputError(
                    f"{where}: HES episodes cannot be upserted: a spell is made from all its episodes, and its key is "
                    "the key of the first one",
                    remedy="use `mode: refresh` with the whole year (or the year to date) of episodes",
                )
            if mode == "upsert" and role in CODE_TABLES:
                raise InputError(
                    f"{where}: a table of codes cannot be upserted, because the codes belong to rows of {CODE_TABLES[role]}",
                    remedy="use `mode: refresh` with whole years",
                )


def fingerprint(definition: Any) -> str:
    """A hash (16 hexadecimal digits) of a definition as JSON with sorted keys: the same for the same content."""
    canonical = json.dumps(definition, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def disclosure_rules() -> dict[str, Any]:
    """The disclosure rules in ``conf/disclosure.yml``, by name."""
    rules: dict[str, Any] = load_document(
        resource("conf", "disclosure.yml"), resource("conf", "disclosure.schema.json"), what="disclosure rules"
    )["rules"]
    return rules


def policy_aims() -> dict[str, str]:
    """What each policy asks for in its source's words, by policy id, from ``conf/policy_aims.yml``."""
    path, schema = resource("conf", "policy_aims.yml"), resource("conf", "policy_aims.schema.json")
    items = load_document(path, schema, what="policy aims")["aims"]
    return {name: item["text"] for item in items for name in item["applies_to"]}


def caveats() -> list[dict[str, Any]]:
    """What to know before using the figures, from ``conf/caveats.yml``: key, text, and the policies concerned or
    ``all``."""
    items: list[dict[str, Any]] = load_document(
        resource("conf", "caveats.yml"), resource("conf", "caveats.schema.json"), what="caveats"
    )["caveats"]
    return items


def _table_source(role: str, given: Any, absolute: Any, where: str) -> TableSource:
    item = given if isinstance(given, dict) else {"path": given}
    if ("path" in item) == ("table" in item):
        raise InputError(
            f"{where}: give either a path or a table", remedy="write `path: …` or `table: catalog.schema.name`"
        )
    paths, tables = (
        ([item[key]] if isinstance(item.get(key), str) else item.get(key, [])) for key in ("path", "table")
    )
    for name in tables:
        table_parts(name)
    delimiter = "\t" if item.get("delimiter") == "\\t" else item.get("delimiter")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\\\n\r\0' or delimiter.isalnum()):
        raise InputError(
            f"{where}: the delimiter cannot be {delimiter!r}",
            remedy="write one character that is in no code, such as ',' or '|', or \"\\t\" for a tab",
        )
    return TableSource(
        role=role,
        paths=tuple(map(absolute, paths)),
        catalogue_tables=tuple(dict.fromkeys(tables)),
        format=item.get("format"),
        delimiter=delimiter,
        encoding=item.get("encoding"),
        header=item.get("header"),
        headers_file=absolute(item["headers_file"]) if "headers_file" in item else None,
        columns=dict(item.get("columns", {})),
        extract_date=item.get("extract_date"),
    )
