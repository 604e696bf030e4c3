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
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ebi_spark.config.yaml_documents import load_document
from ebi_spark.errors import InputError
from ebi_spark.financial_years import parse_years
from ebi_spark.quoting import refuse_catalogue_name, refuse_unusable, table_parts, texts
from ebi_spark.small_files import read_rows

# Files and folders that are stored among the time zones but that Java does not know as time zones.
_NO_ZONES = re.compile(r"localtime|posixrules|Factory|leapseconds|(?:right|posix)/.*")
AREA_BASES = ("gp_practice", "residence", "commissioner")

# The source tables that a source of each system may have.
ROLES = {
    "sus_plus": ("apcs", "apcs_der", "opa", "apcs_withdrawn", "opa_withdrawn"),
    "hes": ("apc", "op", "op_withdrawn"),
}


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


def today(timezone: str = "Europe/London") -> date:
    """Today's date in a time zone."""
    return datetime.now(ZoneInfo(timezone)).date()


@dataclass(frozen=True)
class TableSource:
    """Where one source table is, and how it is written. What is None is detected when the table is read."""

    role: str
    paths: tuple[str, ...] = ()
    table: str | None = None
    format: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    header: bool | None = None
    headers_file: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    extract_date: str | None = None

    @property
    def where(self) -> str:
        """The table name or the paths, for messages."""
        return self.table or ", ".join(self.paths)


@dataclass(frozen=True)
class Source:
    """One source of the configuration: its system, and its tables by role (``apcs``, ``opa``, …)."""

    name: str
    system: str
    tables: dict[str, TableSource]


@dataclass(frozen=True)
class LakeLocation:
    """Where the lake is: a folder, or a catalogue with one schema for each layer."""

    folder: Path | None = None
    catalog: str | None = None
    schemas: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return str(self.folder) if self.folder else f"{self.catalog}.{{{', '.join(self.schemas.values())}}}"


@dataclass(frozen=True)
class RunConfig:
    """A complete configuration, with absolute paths and with defaults for what is not set."""

    lake: LakeLocation
    sources: tuple[Source, ...] = ()
    years: tuple[str, ...] | None = None
    policies: tuple[str, ...] | None = None
    policy_dirs: tuple[Path, ...] = ()
    basis: str = "in_force"
    fixed_revisions: dict[str, str] = field(default_factory=dict)
    population: tuple[dict[str, str], ...] = ()
    practices: Path | None = None
    lsoas: Path | None = None
    mappings: tuple[Path, ...] = ()
    geography: str = "current"  # the version of England's areas in which every year is shown
    area_order: tuple[str, ...] = AREA_BASES
    coverage: str = "national"
    disclosure: str = "hes_2018_protected"
    mode: str = "refresh"
    bare_year: str | None = None
    timezone: str = "Europe/London"
    standard_population: str = "england"
    max_vintage_days: int = 731
    distant_vintage: str = "mark"
    # How much a population may differ from the shipped one in the same areas. England grew by 16% from 2011 to 2026,
    # and 9% more people are registered at practices than live there. A file that differs by more than 25% probably has
    # another unit.
    max_population_difference: float = 0.25
    max_quarantine_share: float = 0.05
    max_shrink_share: float = 0.1
    max_unknown_code_share: float = 0.1
    max_columns: int = 2000
    max_field_bytes: int = 1_000_000
    accept_shrunken: bool = False  # set on the command line only, never in the file
    min_national_events: int = 100
    pooled_years: tuple[int, ...] = (2, 3, 5)
    over_dispersion: bool = False
    control_charts: Literal["plot_the_dots", "unscreened"] = "plot_the_dots"
    provisional_months: int = 2
    pandemic_months: tuple[date, date] = (date(2020, 3, 1), date(2021, 6, 1))
    keep_releases: int = 5
    report: Path | None = None
    docs: Path | None = None
    # The first day of each data set (as text) and how far ahead appointments are made. Reasons:
    # conf/activity_dates.yml.
    activity_from: dict[str, str] = field(default_factory=_first_days)
    appointments_ahead_days: int = field(default_factory=_days_ahead)
    day: date = field(default_factory=today)  # the day of the run: recorded with the run, never set in the file
    fingerprint: str = ""

    def window(self, system: str, role: str) -> DateWindow:
        """The days on which the activity in a source table can have taken place."""
        name = system if system == "sus_plus" else f"{system}_{role}"
        return DateWindow(date.fromisoformat(self.activity_from[name]), self.day, self.appointments_ahead_days)

    def with_options(
        self, *, lake: str | None = None, years: str | None = None, policies: str | None = None, accept: bool = False
    ) -> "RunConfig":
        """This configuration, changed by the options of the command line."""
        changed = replace(self, accept_shrunken=accept)
        if lake is not None:
            changed = replace(changed, lake=lake_location(lake, Path.cwd(), "--lake"))
        if years is not None:
            changed = replace(changed, years=parse_years(years))
        if policies is not None:
            refuse_unusable("--policies", policies.replace(",", ""))
            changed = replace(changed, policies=tuple(part.strip() for part in policies.split(",") if part.strip()))
        return changed


def lake_location(value: str | dict[str, Any], base: Path, what: str = "lake") -> LakeLocation:
    """The location of a lake from its setting: a mapping, ``catalog.prefix`` or a folder relative to ``base``.

    A text is read as ``catalog.prefix`` if it has no slash and one dot, and no folder of that name exists. Raises an
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
    catalog, dot, prefix = value.partition(".")
    try:
        if dot and catalog.isidentifier() and prefix.isidentifier() and not (base / value).exists():
            return LakeLocation(catalog=catalog, schemas={layer: f"{prefix}_{layer}" for layer in LAYERS})
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


LAYERS = ("silver", "gold", "published")


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
        sources.append(Source(name, source["system"], tables))
    _check_mode(document.get("mode", "refresh"), sources, path)

    settings: dict[str, Any] = {
        key: document[key]
        for key in (
            "basis", "fixed_revisions", "coverage", "disclosure", "mode", "bare_year", "timezone",
            "standard_population", "max_vintage_days", "distant_vintage", "max_population_difference", "max_quarantine_share",
            "max_shrink_share", "max_unknown_code_share", "max_columns", "max_field_bytes", "min_national_events",
            "keep_releases", "provisional_months", "over_dispersion", "control_charts", "appointments_ahead_days",
        )
        if key in document
    }  # fmt: skip
    settings["activity_from"] = _first_days() | document.get("activity_from", {})
    for name, day in settings["activity_from"].items():
        if not _is_date(day):
            raise InputError(
                f"configuration: {path}: activity_from.{name}: {day!r} is not a date of the calendar",
                remedy="write a date such as 2003-04-01",
            )
    if settings.get("standard_population", "").endswith(".csv"):
        settings["standard_population"] = absolute(settings["standard_population"])
    if "pandemic_months" in document:
        first, last = (date.fromisoformat(f"{month}-01") for month in document["pandemic_months"].split(".."))
        if last < first:
            raise InputError(
                f"configuration: {path}: pandemic_months runs backwards", remedy="write the earlier month first"
            )
        settings["pandemic_months"] = (first, last)
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
    if "table" in item:
        table_parts(item["table"])
    paths = item.get("path", [])
    delimiter = "\t" if item.get("delimiter") == "\\t" else item.get("delimiter")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\\\n\r\0' or delimiter.isalnum()):
        raise InputError(
            f"{where}: the delimiter cannot be {delimiter!r}",
            remedy="write one character that is in no code, such as ',' or '|', or \"\\t\" for a tab",
        )
    return TableSource(
        role=role,
        paths=tuple(absolute(path) for path in ([paths] if isinstance(paths, str) else paths)),
        table=item.get("table"),
        format=item.get("format"),
        delimiter=delimiter,
        encoding=item.get("encoding"),
        header=item.get("header"),
        headers_file=absolute(item["headers_file"]) if "headers_file" in item else None,
        columns=dict(item.get("columns", {})),
        extract_date=item.get("extract_date"),
    )
