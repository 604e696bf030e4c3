"""Source tables as DataFrames under our column names, with the file that each row is in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import CODE_TABLES, REGISTERS, ROLES, TableSource
from ebi_spark.errors import InputError
from ebi_spark.lake.storage import ONE_PARTITION_BYTES
from ebi_spark.lake.versions import newest_commit
from ebi_spark.quoting import spark_path, sql_name, sql_text, table_parts
from ebi_spark.sources.column_types import as_read, as_text, inexact_key, refuse_other_types, united
from ebi_spark.sources.families import first_with_code, listed
from ebi_spark.sources.file_inventory import (
    FileFormat,
    FindFiles,
    file_formats,
    find_files,
    group_by_format,
    is_remote,
    stated_for,
    within,
)
from ebi_spark.sources.file_watch import State, state_of
from ebi_spark.sources.hes_keys import YEARLY_KEYS, key_of_code, key_with_year
from ebi_spark.sources.layouts import ColumnMapping, Layout, layout_for, layouts
from ebi_spark.spark.tuning import VARIABLES, setting

TableId = tuple[str, str]  # system and role

CORRUPT = "_corrupt_line"
# The value of ``corrupt`` for a row that has the right number of fields but whose values cannot be trusted. (No real
# line is empty.)
UNUSABLE = ""
# A line with more fields than this ends the job: Spark's reader reserves memory for each field in every task.
_FIELDS_OF_A_LINE = 1 << 17
# `_CELL` separates the cells of a source row in `raw_values`, and the names in `raw_names`; `_NO_VALUE` is a cell that is NULL. A cell of
# text has neither. (Rows are staged sooner than with two lists of texts.)
_CELL, _NO_VALUE = "\x1f\x1e\x1f", "\x1e"
_REPLACEMENT, _BYTE_ORDER_MARK = "\ufffd", "\ufeff"
# Used for NULL, which a hash ignores.
_ABSENT = sql_text("\0")


@dataclass(frozen=True)
class Group:
    """Files of one format.

    ``missing``: optional columns that they lack. ``extra``: columns that are not used. ``notes``: what the user should
    know about columns that mean the same. ``read``: our column → the files' column. ``mapped``: our columns that the
    configuration maps.
    """

    files: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    notes: tuple[str, ...] = ()
    read: Mapping[str, str] = field(default_factory=dict)
    mapped: frozenset[str] = frozenset()


@dataclass
class SourceTable:
    """All rows of one source table (system and role), from any number of sources and files.

    Columns of ``rows``, where a row is a row of a source file:

    - our columns: text, or DATE or INT if all files have the date or age in that type; NULL if a file does not have the
      column
    - ``diagnosis``, ``operation``: numbered columns as lists of text; ``…_concat``: the text with all the codes
    - ``corrupt``: the line if it could not be parsed, :data:`UNUSABLE` if its values cannot be trusted, otherwise NULL
    - ``raw_names``, ``raw_values``: the source's own column names, and the row's values under them, each as one text
      (:func:`raw_json` reads them)
    - ``content``: a hash of the whole row except its extract date
    - ``source_file``, ``file_bytes``, ``file_modified`` and ``extract_date`` (text)

    Three rows of a file of HES episodes, which has no column with all the codes:

    | EPIKEY | DIAG_4_01 | DIAG_4_02 | → record_id | diagnosis    | source_file    |
    |--------|-----------|-----------|-------------|--------------|----------------|
    | 1      | M545      | E119      | 1           | [M545, E119] | /files/apc.csv |
    | 2      | M545      |           | 2           | [M545, NULL] | /files/apc.csv |
    | 3      |           | E119      | 3           | [NULL, E119] | /files/apc.csv |
    """

    system: str
    role: str
    rows: DataFrame
    files: list[str] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    state: State = field(default_factory=dict)  # state of its files before the first was opened

    @property
    def table_id(self) -> TableId:
        """(system, role)."""
        return self.system, self.role

    @property
    def dataset(self) -> str:
        """``apc`` or ``op``."""
        return "apc" if self.role.startswith("ap") else "op"

    def group_of(self, path: str) -> Group:
        """The group of a file, by its name in ``source_file``."""
        return next(
            (g for g in self.groups if any(within(path, stated) for stated in g.files)),
            self.groups[0],
        )

    def restrict_to_files(self, files: frozenset[str]) -> "SourceTable":
        """Only the rows of some files; Spark then opens no others."""
        these = F.col("source_file").isin(*files) if files else F.lit(False)
        stated = set(self.files)
        return replace(
            self,
            rows=self.rows.where(these),
            files=sorted({found for path in files if (found := stated_for(path, stated))}),
            state={path: state for path, state in self.state.items() if path in files},
        )


def read_sources(spark: SparkSession, config: RunConfig, find: FindFiles = find_files) -> list[SourceTable]:
    """One :class:`SourceTable` for each system and role of the sources of records, in the order of the configuration."""
    groups: dict[tuple[str, str], list[tuple[str, TableSource]]] = {}
    for source in config.record_sources:
        for role, table in source.tables.items():
            groups.setdefault((source.system, role), []).append((source.name, table))
    tables = []
    for (system, role), members in groups.items():
        parts = [read_table(spark, table, f"sources.{name}.{role}", config, find) for name, table in members]
        # A few rows need no shuffle to be grouped or joined, if they are one partition.
        few, rows = _are_few(parts), united([part.rows for part in parts])
        tables.append(
            SourceTable(
                system,
                role,
                rows.coalesce(1) if few else rows,
                files=sorted({file for part in parts for file in part.files}),
                groups=[group for part in parts for group in part.groups],
                state={path: state for part in parts for path, state in part.state.items()},
            )
        )
    return tables


def _are_few(parts: Sequence[SourceTable]) -> bool:
    """Whether the rows are in small local files. Nothing is known of the size of remote files and of a catalogue's tables."""
    if any(not part.files or any(map(is_remote, part.files)) for part in parts):
        return False
    sizes = [state[0] for part in parts for state in part.state.values() if state is not None]
    return sum(sizes) <= ONE_PARTITION_BYTES


def read_table(
    spark: SparkSession, source: TableSource, where: str, config: RunConfig, find: FindFiles = find_files
) -> SourceTable:
    """One configured table. Raises an :class:`InputError` that names ``where`` if it cannot be read."""
    layout = layout_for(source.role, config)
    files = [] if source.catalogue_tables else find(source, where)
    state = state_of(files)
    frames: list[DataFrame] = []
    groups: list[Group] = []
    for opened in _opened(spark, source, files, layout, where, config):
        mapping = opened.mapping
        refuse_without_extract_date(source, mapping, where, config)
        _refuse_variables(opened, where)
        frames.append(_under_our_names(opened, layout, source, config))
        read = {ours: name.upper() for ours, name in mapping.single.items()}
        groups.append(Group(tuple(opened.paths), mapping.missing, mapping.extra, mapping.notes, read, mapping.mapped))
    return SourceTable("", source.role, united(frames), files, groups, state)


def refuse_without_extract_date(source: TableSource, mapping: ColumnMapping, where: str, config: RunConfig) -> None:
    """Raise an :class:`InputError` if a file of an upsert does not say from which extract its rows are. Registers are
    always read whole."""
    if (
        config.mode == "upsert"
        and source.role not in ROLES[REGISTERS]
        and not source.extract_date
        and "extract_date" not in mapping.single
    ):
        found_as = layouts()[source.role].columns["extract_date"][0]
        raise InputError(
            f"{where}: {source.where} does not say from which extract its rows are; an upsert needs to know, because the "
            "later extract wins",
            remedy=f"map the column that has it, `columns: {{extract_date: …}}` ({found_as} is "
            'found without that), or add `extract_date: "2022-06-30"` next to each path',
        )


def _refuse_variables(opened: "_Opened", where: str) -> None:
    """Raise an :class:`InputError` if Spark would replace a part of a column's name by the value of a variable."""
    named = next((name for name in opened.rows.columns if "${" in name), None)
    if named and setting(opened.rows.sparkSession, VARIABLES) != "false":
        raise InputError(
            f"{where}: {first_of(opened.paths)}: the column {named} has a name that Spark reads as a variable",
            remedy=f"rename the column, or set {VARIABLES} to false for this cluster",
        )


class _Opened(NamedTuple):
    """A group of files, or a table of a catalogue, with its rows as they are there. ``form``: the format of text files,
    otherwise None."""

    paths: list[str]
    rows: DataFrame
    mapping: ColumnMapping
    form: FileFormat | None = None


def _opened(
    spark: SparkSession, source: TableSource, files: list[str], layout: Layout, where: str, config: RunConfig
) -> Iterator[_Opened]:
    """Each table of a catalogue and each group of files of one source table."""

    def typed(paths: list[str], frame: DataFrame) -> _Opened:
        named = f"{where}: {first_of(paths)}"
        mapping = layout.resolve(frame.columns, source.columns, named)
        refuse_other_types(frame.schema, mapping, named)
        return _Opened(paths, frame, mapping)

    def formats() -> Iterator[tuple[str, str, FileFormat]]:
        for path in files:
            if is_remote(path):
                yield path, path, _remote_form(spark, path, source)
            else:
                for file, form in file_formats(path, source, layout, where, config).items():
                    yield path, file, form

    try:
        for name in source.catalogue_tables:
            yield typed([name], _as_now(spark, table=name))
        for (form, base), paths in group_by_format(formats()).items():
            if form.format == "csv":
                mapping = layout.resolve(list(form.columns), source.columns, f"{where}: {first_of(paths)}")
                yield _Opened(paths, _read_csv(spark, form, paths, source.encoding or "utf-8"), mapping, form)
            elif form.format == "delta":
                for path in paths:
                    yield typed([path], _as_now(spark, path=path))
            else:
                reader = _careful(spark.read).option("parquet.page.verify-checksum.enabled", True)
                reader = reader.option("basePath", base) if base else reader
                yield typed(paths, reader.parquet(*_for_spark(paths)))
    except AnalysisException as error:
        raise InputError(
            f"{where}: {source.where} cannot be read ({error.getCondition() or 'unreadable'})",
            remedy="check that the table or path exists, is complete and has the stated format",
        ) from None


def _as_now(spark: SparkSession, *, table: str = "", path: str = "") -> DataFrame:
    """A Delta table at its current version.

    Spark reads a source several times, each time its newest version. Without a fixed version, a table that is written
    to meanwhile would give rows of two versions. A table without a readable history, or one that cannot be read at a
    version (a view, a table with row filters), is read without one.
    """

    def read(reader: DataFrameReader) -> DataFrame:
        return reader.table(sql_name(*table_parts(table))) if table else reader.format("delta").load(path)

    commit = newest_commit(spark, table=table, path=path)
    if commit is not None:
        with suppress(Exception):  # a fault of the table itself is reported by the read below
            frame = read(spark.read.option("versionAsOf", commit.version))
            if frame.columns:  # resolves the table now; Spark Connect would otherwise report a missing version later
                return frame
    return read(spark.read)


def _for_spark(paths: list[str]) -> list[str]:
    """Paths for Spark's readers. Local paths are names of files that were found; remote ones can be patterns."""
    return [path if is_remote(path) else spark_path(path) for path in paths]


def first_of(paths: list[str]) -> str:
    """The first path and the number of others, for messages."""
    return paths[0] + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def _careful(reader: DataFrameReader) -> DataFrameReader:
    """A reader that stops at a damaged or missing file, whatever the session's settings: skipping it would lose
    rows."""
    return reader.option("ignoreCorruptFiles", False).option("ignoreMissingFiles", False)


def _remote_form(spark: SparkSession, path: str, source: TableSource) -> FileFormat:
    """The format of a path that only Spark can read: as the configuration states, otherwise by its name."""
    kind = source.format or ("csv" if ".csv" in path or ".txt" in path else "parquet")
    if kind != "csv":
        return FileFormat(kind, () if kind == "delta" else (path,))
    first = spark.read.text(path).first()
    delimiter = source.delimiter or max(",|\t;", key=(first[0] if first else "").count)
    columns = tuple(cell.strip().strip('"') for cell in (first[0] if first else "").split(delimiter))
    return FileFormat("csv", columns, delimiter, source.header is not False)


def _read_csv(spark: SparkSession, form: FileFormat, paths: list[str], encoding: str) -> DataFrame:
    fields = [StructField(name, StringType()) for name in _distinct(form.columns)]
    schema = StructType([*fields, StructField(CORRUPT, StringType())])
    return (
        _careful(spark.read.schema(schema))
        .option("sep", form.delimiter)
        .option("encoding", encoding)
        .option("maxColumns", _FIELDS_OF_A_LINE)
        .option("header", form.header)
        .option("escape", '"')
        .option("mode", "PERMISSIVE")
        .option("columnNameOfCorruptRecord", CORRUPT)
        # With column pruning, Spark parses only the columns that a query needs, and does not notice a line with too
        # many or too few fields: the same line would be valid in one query and corrupt in the next.
        .option("columnPruning", False)
        # With this setting, a quote that is never closed swallows the fields after it: too few are left, and the line
        # is quarantined. By default the reader stops at the next delimiter, and fields would shift without notice.
        .option("unescapedQuoteHandling", "STOP_AT_CLOSING_QUOTE")
        # Otherwise Spark would read a quoted empty text differently from an empty field.
        .option("emptyValue", "")
        .csv(_for_spark(paths))
    )


def _distinct(names: tuple[str, ...]) -> list[str]:
    """Column names made distinct (ignoring case), as Spark requires. Repeated ones are never read."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        count = seen.get(name.upper(), 0)
        seen[name.upper()] = count + 1
        distinct.append(name if count == 0 and name else f"{name or 'unnamed'}__{count}")
    return distinct


def _under_our_names(opened: _Opened, layout: Layout, source: TableSource, config: RunConfig) -> DataFrame:
    """The rows with the columns of :class:`SourceTable`."""
    mapping = opened.mapping
    types = {item.name: item.dataType for item in opened.rows.schema.fields}

    def text(name: str) -> str:
        return as_text(name, types[name])

    def read(ours: str) -> str:
        column = as_read(ours, mapping.single[ours], types[mapping.single[ours]])
        if ours != "record_id" or source.role not in YEARLY_KEYS:
            return column
        year, day = (read(name) if name in mapping.single else None for name in YEARLY_KEYS[source.role])
        key = key_with_year(column, year, day, config.bare_year)
        return key_of_code(key, read("place")) if source.role in CODE_TABLES else key

    singles = [
        F.expr(read(ours) if ours in mapping.single else "CAST(NULL AS STRING)").alias(ours)
        for ours in layout.columns
        if ours != "extract_date"
    ]
    stated = mapping.single.get("extract_date")
    extract = F.expr(text(stated)) if stated else F.lit(source.extract_date)
    own_names = [name for name in opened.rows.columns if name != CORRUPT]
    # Two rows of one key are the same if all columns except the extract date agree, whatever the columns' case or
    # order.
    compared = sorted((n for n in own_names if n != stated), key=str.upper)
    values = [f"coalesce({text(name)}, {_ABSENT})" for name in compared]
    return opened.rows.select(
        *singles,
        *_code_lists(mapping, layout, text),
        extract.cast("string").alias("extract_date"),
        F.expr(f"xxhash64({', '.join(values)})").alias("content"),
        _corrupt(opened, layout, source, config.max_field_bytes).alias("corrupt"),
        F.lit(_CELL.join(own_names)).alias("raw_names"),
        F.array_join(F.expr(f"array({', '.join(map(text, own_names))})"), _CELL, _NO_VALUE).alias("raw_values"),
        *(_lineage_of_table(opened.paths[0]) if source.catalogue_tables else _lineage_of_files()),
    )


def _code_lists(mapping: ColumnMapping, layout: Layout, text: Callable[[str], str]) -> Iterator[Column]:
    """The numbered columns as lists, and the columns with all the codes. ``text``: a column of the files as text, in SQL."""
    for ours in layout.numbered:
        families = [
            [[F.expr(text(name)) for name in place] for place in family] for family in mapping.runs.get(ours, ())
        ]
        concats = [F.expr(text(name)) for name in mapping.concats.get(ours, ())]
        yield listed(families, or_else=bool(concats)).alias(ours)
        yield first_with_code(concats).alias(f"{ours}_concat")


def _corrupt(opened: _Opened, layout: Layout, source: TableSource, most_bytes: int) -> Column:
    """``corrupt`` of :class:`SourceTable`."""
    if opened.form is None:
        inexact = inexact_key(opened.rows.schema, opened.mapping)
        return F.lit(None).cast("string") if inexact is None else F.when(inexact, F.lit(UNUSABLE))
    if opened.form.plain:
        return F.col(CORRUPT)
    unusable = _unusable_line(opened.mapping, layout, source, most_bytes)
    return F.coalesce(F.col(CORRUPT), F.when(unusable, F.lit(UNUSABLE)))


def _lineage_of_table(name: str) -> list[Column]:
    return [
        F.lit(name).alias("source_file"),
        F.lit(None).cast("long").alias("file_bytes"),
        F.lit(None).cast("timestamp").alias("file_modified"),
    ]


def _lineage_of_files() -> list[Column]:
    uri = "_metadata.file_path"
    path = f"CASE {_after_start(uri, 'file:///', 7)} {_after_start(uri, 'file:/', 5)} ELSE {uri} END"
    decoded = f"CASE WHEN contains({path}, '%') THEN url_decode(replace({path}, '+', '%2B')) ELSE {path} END"
    return [
        F.expr(f"{decoded} AS source_file"),
        F.expr("_metadata.file_size AS file_bytes"),
        F.expr("_metadata.file_modification_time AS file_modified"),
    ]


def _after_start(uri: str, start: str, at: int) -> str:
    """The case that a text begins with ``start``, in SQL: the text without its first ``at`` bytes. Cutting by bytes is faster than
    searching or counting characters, which would take as long for each row as reading some of its fields."""
    cut = f"CAST(substring(CAST({uri} AS BINARY), {at + 1}, {1 << 20}) AS STRING)"
    return f"WHEN startswith({uri}, '{start}') THEN {cut}"


def _unusable_line(mapping: ColumnMapping, layout: Layout, source: TableSource, most_bytes: int) -> Column:
    """Whether a line cannot be used although it has the right number of fields.

    It is a repeated header, or a field that is read is longer than allowed, has a NUL byte or could not be decoded.
    """
    names = [*mapping.single.values(), *(name for _, name in mapping.lists())]
    fields = [F.col(sql_name(name)) for name in dict.fromkeys(names)]
    together = F.concat_ws("\x1f", *fields)
    longest = F.greatest(*[F.coalesce(F.octet_length(column), F.lit(0)) for column in fields])
    key = F.col(sql_name(mapping.single[layout.key]))
    return (
        together.contains("\x00")
        | together.contains(_REPLACEMENT)
        | ((F.octet_length(together) > most_bytes) & (longest > most_bytes))
        | key.startswith(_BYTE_ORDER_MARK)
        | F.upper(F.trim(key)).isin(sorted(layout.key_names(source.columns)))
    )


def raw_json() -> Column:
    """The source row as JSON text; ``{"line": …}`` for a line that could not be parsed, or a row in which a cell has our
    separator. Only for quarantined rows: computed for every row, it would be the slowest column of the ingest."""
    line = F.nullif("corrupt", F.lit(UNUSABLE))
    names = F.split("raw_names", _CELL)
    values = F.transform(F.split("raw_values", _CELL), lambda value: F.nullif(value, F.lit(_NO_VALUE)))
    cells = F.when(F.size(names) == F.size(values), F.map_from_arrays(names, values))
    as_line = F.coalesce(line, F.when(cells.isNull(), F.col("raw_values")))
    in_cells = F.to_json(cells, {"ignoreNullFields": "false"})
    return F.when(as_line.isNotNull(), F.to_json(F.struct(as_line.alias("line")))).otherwise(in_cells)
