"""Reads the YAML file of a configuration, and gives its JSON Schema."""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ebi_spark.config.activity_dates import first_days, today
from ebi_spark.config.fingerprint import fingerprint
from ebi_spark.config.keys import object_schema, settings_of
from ebi_spark.config.lake_location import lake_location, refuse_url
from ebi_spark.config.settings import RunConfig
from ebi_spark.config.shipped_files import disclosure_rules, resource
from ebi_spark.config.source_tables import CODE_TABLES, REGISTERS, ROLES, Source, TableSource
from ebi_spark.config.yaml_documents import load_document
from ebi_spark.errors import InputError, did_you_mean
from ebi_spark.financial_years import parse_years
from ebi_spark.quoting import refuse_unusable, table_parts, texts
from ebi_spark.small_files import read_rows

# Files and folders that are stored among the time zones but that Java does not know as time zones.
_NO_ZONES = re.compile(r"localtime|posixrules|Factory|leapseconds|(?:right|posix)/.*")
# Fields for which the file has another form.
_CONVERTED = ("lake", "years", "sources", "population", "activity_from", "pooled_years", "pandemic_months")


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
    where = f"configuration: {path}"
    for key, text in texts(document):
        if not (key.endswith(".delimiter") and text):  # a delimiter may be a tab or a space
            refuse_unusable(f"{where}: {key}", text)
    places = _Places(path.resolve().parent, where)
    sources = tuple(_source(name, given, places) for name, given in document["sources"].items())
    if all(source.system == REGISTERS for source in sources):
        raise InputError(
            f"{where}: no source has records of care", remedy="name a source of sus_plus or hes besides the registers"
        )
    _check_mode(document.get("mode", "refresh"), sources, where)
    settings = _settings(document, places) | {
        "lake": lake_location(document["lake"], places.base),
        "sources": sources,
        "population": [
            {**item, "path": str(places.local(item["path"], "population"))} for item in document.get("population", [])
        ],
        "activity_from": _activity_from(document.get("activity_from", {}), where),
    }
    if "years" in document:
        settings["years"] = parse_years(document["years"])
    if "pooled_years" in document:
        settings["pooled_years"] = sorted(document["pooled_years"])
    if "pandemic_months" in document:
        settings["pandemic_months"] = _months(document["pandemic_months"], f"{where}: pandemic_months")
    if settings.get("standard_population", "").endswith(".csv"):
        settings["standard_population"] = places.absolute(settings["standard_population"])
    _check_approvals(document.get("approvals", {}), f"{where}: approvals")
    _check_names(settings, where)
    return RunConfig(
        **settings, day=today(settings.get("timezone", "Europe/London")), fingerprint=fingerprint(document)
    )


@dataclass(frozen=True)
class _Places:
    """Finds the files that a configuration names: paths are relative to its own folder, ``base``. ``where`` names it in messages."""

    base: Path
    where: str

    def absolute(self, value: str) -> str:
        """An absolute path, or a URL as it is."""
        return value if "://" in value or Path(value).is_absolute() else str(self.base / value)

    def pattern(self, value: str) -> str:
        """An absolute path or pattern; characters in the configuration's own folder name are not part of the pattern."""
        whole = self.absolute(value)
        return f"{glob.escape(str(self.base))}/{value}" if whole != value and glob.has_magic(value) else whole

    def local(self, value: str, key: str) -> Path:
        """The absolute path of a file or folder that cannot be at a URL."""
        refuse_url(f"{self.where}: {key}", value)
        return Path(self.absolute(value))


def _settings(document: dict[str, Any], places: _Places) -> dict[str, Any]:
    """The values that the file gives, by the name of their field, with absolute paths. Those that :func:`load_config` converts are
    left out."""
    found: dict[str, Any] = {}
    for setting in settings_of(RunConfig):
        value = _value_at(document, setting.name)
        if value is None or setting.field.name in _CONVERTED:
            continue
        kind = get_args(setting.annotation)[0]
        if kind == Path | None:
            value = places.local(value, setting.name)
        elif kind == tuple[Path, ...]:
            value = [places.local(item, setting.name) for item in value]
        found[setting.field.name] = value
    return found


def _value_at(document: dict[str, Any], key: str) -> Any:
    """The value of a key such as ``mode`` or ``geography.version``; None if the file does not have it."""
    *above, name = key.split(".")
    for part in above:
        document = document.get(part, {})
    return document.get(name)


def _source(name: str, given: dict[str, Any], places: _Places) -> Source:
    """One source, with its tables. Raises an :class:`InputError` for a table that its system does not have or that needs another."""
    where = f"{places.where}: sources.{name}"
    tables = {}
    for role, table in given["tables"].items():
        if role not in ROLES[given["system"]]:
            raise InputError(
                f"{where}.tables.{role} is not a table of {given['system']}",
                remedy=f"its tables are: {', '.join(ROLES[given['system']])}",
            )
        tables[role] = _table_source(role, table, places, f"{where}.tables.{role}")
    if "apcs_der" in tables and "apcs" not in tables:
        raise InputError(
            f"{where} has apcs_der without apcs", remedy="add apcs, the spells that the rows of apcs_der belong to"
        )
    if "apcs" in tables and "apcs_der" not in tables:
        raise InputError(
            f"{where} has apcs without apcs_der",
            remedy="add apcs_der, which has the dominant procedure and the primary diagnosis",
        )
    for role in tables:
        if role in CODE_TABLES and CODE_TABLES[role] not in tables:
            raise InputError(
                f"{where} has {role} without {CODE_TABLES[role]}",
                remedy=f"add {CODE_TABLES[role]}, to whose rows the codes belong",
            )
    return Source(name, given["system"], tables)


def _activity_from(given: dict[str, str], where: str) -> dict[str, str]:
    """The first day of each data set, by the file or else by the product."""
    for name, day in given.items():
        if not _is_date(day):
            raise InputError(
                f"{where}: activity_from.{name}: {day!r} is not a date of the calendar",
                remedy="write a date such as 2003-04-01",
            )
    return first_days() | given


def _months(text: str, where: str) -> tuple[date, date]:
    """The first days of two months that are written ``2020-03..2021-06``."""
    first, last = (date.fromisoformat(f"{month}-01") for month in text.split(".."))
    if last < first:
        raise InputError(f"{where} runs backwards", remedy="write the earlier month first")
    return first, last


def _check_names(settings: dict[str, Any], where: str) -> None:
    """Raise an :class:`InputError` if a version of the areas, a disclosure rule or a time zone does not exist."""
    versions = ["current", *(row["version"] for row in read_rows(resource("conf", "reference", "geographies.csv")))]
    version = settings.get("geography", "current")
    if version not in versions:
        raise InputError(
            f"{where}: geography.version: there is no version {version!r}",
            remedy=f"{did_you_mean(version, versions, 0, quoted=True)}The versions are: {', '.join(versions)}",
        )
    if settings.get("basis") != "fixed" and settings.get("fixed_revisions"):
        raise InputError(f"{where}: fixed_revisions is set but basis is in_force", remedy="write `basis: fixed`")
    rules = disclosure_rules()
    rule = settings.get("disclosure", RunConfig.disclosure)
    if rule not in rules:
        # Never suggest a rule under which suppressed values can be recovered.
        safe = [name for name, item in rules.items() if item.get("protected")]
        raise InputError(
            f"{where}: there is no disclosure rule {rule!r}",
            remedy=f"{did_you_mean(rule, safe, 0, quoted=True)}The rules are: {', '.join(rules)}",
        )
    zone = settings.get("timezone", "Europe/London")
    if not _is_zone(zone):
        raise InputError(f"{where}: {zone!r} is not a time zone", remedy="write one such as Europe/London")


def _check_approvals(given: dict[str, Any], where: str) -> None:
    """Raise an :class:`InputError` if a day below ``approvals`` is not in the calendar."""
    for name in ("regimes", "covers"):
        for item in given.get(name, []):
            for key in ("from", "to"):
                if key in item and not _is_date(item[key]):
                    raise InputError(
                        f"{where}.{name}: {item[key]!r} is not a date of the calendar",
                        remedy="write a date such as 2024-03-18",
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


def _check_mode(mode: str, sources: Sequence[Source], configuration: str) -> None:
    """Raise an :class:`InputError` for a source table that cannot be used in this mode."""
    named = {(source.system, role) for source in sources for role in source.tables}
    for source in sources:
        for role in source.tables:
            where = f"{configuration}: sources.{source.name}.tables.{role}"
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


def _table_source(role: str, given: Any, places: _Places, where: str) -> TableSource:
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
        paths=tuple(map(places.pattern, paths)),
        catalogue_tables=tuple(dict.fromkeys(tables)),
        format=item.get("format"),
        delimiter=delimiter,
        encoding=item.get("encoding"),
        header=item.get("header"),
        headers_file=places.pattern(item["headers_file"]) if "headers_file" in item else None,
        columns=dict(item.get("columns", {})),
        extract_date=item.get("extract_date"),
    )
