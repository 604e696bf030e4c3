"""Reads the YAML file of a configuration, and gives its JSON Schema."""

import glob
import re
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ebi_spark.config.activity_dates import first_days, today
from ebi_spark.config.fingerprint import fingerprint
from ebi_spark.config.keys import object_schema, settings_of
from ebi_spark.config.lake_location import lake_location, refuse_url
from ebi_spark.config.settings import AREA_BASES, RunConfig
from ebi_spark.config.shipped_files import disclosure_rules, resource
from ebi_spark.config.source_tables import CODE_TABLES, REGISTERS, ROLES, Source, TableSource
from ebi_spark.config.yaml_documents import load_document
from ebi_spark.errors import InputError, did_you_mean
from ebi_spark.financial_years import parse_years
from ebi_spark.quoting import refuse_unusable, table_parts, texts
from ebi_spark.small_files import read_rows

# Files and folders that are stored among the time zones but that Java does not know as time zones.
_NO_ZONES = re.compile(r"localtime|posixrules|Factory|leapseconds|(?:right|posix)/.*")
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
        refuse_url(f"configuration: {path}: {what}", value)
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
    settings["activity_from"] = first_days() | document.get("activity_from", {})
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
        raise InputError(
            f"configuration: {path}: geography.version: there is no version {geography['version']!r}",
            remedy=did_you_mean(geography["version"], known_versions, 0, quoted=True)
            + f"The versions are: {', '.join(known_versions)}",
        )
    if settings.get("basis") != "fixed" and settings.get("fixed_revisions"):
        raise InputError(
            f"configuration: {path}: fixed_revisions is set but basis is in_force", remedy="write `basis: fixed`"
        )
    known_rules = disclosure_rules()
    if "disclosure" in settings and settings["disclosure"] not in known_rules:
        # Never suggest a rule under which suppressed values can be recovered.
        safe = [name for name, rule in known_rules.items() if rule.get("protected")]
        raise InputError(
            f"configuration: {path}: there is no disclosure rule {settings['disclosure']!r}",
            remedy=did_you_mean(settings["disclosure"], safe, 0, quoted=True)
            + f"The rules are: {', '.join(known_rules)}",
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
