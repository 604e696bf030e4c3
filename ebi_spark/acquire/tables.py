"""Source tables as DataFrames: every column text under our names, with the file each row stands in."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, FloatType, StringType, StructField, StructType

from ebi_spark.acquire.files import Form, find_files, form_of, is_remote
from ebi_spark.acquire.layouts import Layout, Resolved, layouts
from ebi_spark.errors import InputError
from ebi_spark.settings import RunConfig, TableSource

CORRUPT = "_corrupt_line"


@dataclass
class SourceTable:
    """All of one role of one system, from however many sources and files.

    ``rows`` has our names (text), lists of text for numbered columns (``diagnosis``, ``operation``), ``corrupt`` (the
    line when it could not be parsed, else NULL), ``raw_names`` and ``raw_values`` (the row under the table's own names, text),
    ``content`` (a hash of the whole row but its extract date), ``source_file``, ``file_bytes``, ``file_modified`` and ``extract_date`` (text).
    ``only``: the files, as ``source_file`` has them, where the rows are those of some files alone.
    """

    system: str
    role: str
    rows: DataFrame
    files: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    only: frozenset[str] | None = None

    def of_files(self, files: frozenset[str]) -> "SourceTable":
        """The rows of some of the files alone; Spark then opens no other."""
        return replace(self, rows=self.rows.where(F.col("source_file").isin(*files)), only=files)


def read_sources(spark: SparkSession, config: RunConfig) -> list[SourceTable]:
    """One :class:`SourceTable` a system and role that the configuration names, in the configuration's order."""
    groups: dict[tuple[str, str], list[tuple[str, TableSource]]] = {}
    for source in config.sources:
        for role, table in source.tables.items():
            groups.setdefault((source.system, role), []).append((source.name, table))
    tables = []
    for (system, role), members in groups.items():
        parts = [read_table(spark, table, f"sources.{name}.{role}", config.mode) for name, table in members]
        rows = parts[0].rows
        for part in parts[1:]:
            rows = rows.unionByName(part.rows)
        tables.append(
            SourceTable(
                system,
                role,
                rows,
                files=sorted({file for part in parts for file in part.files}),
                missing=sorted({name for part in parts for name in part.missing}),
                extra=sorted({name for part in parts for name in part.extra}),
            )
        )
    return tables


def read_table(spark: SparkSession, source: TableSource, where: str, mode: str = "refresh") -> SourceTable:
    """One configured table; anything that keeps it from being read is an :class:`InputError` that names ``where``."""
    layout = layouts()[source.role]
    frames: list[DataFrame] = []
    missing: set[str] = set()
    extra: set[str] = set()
    files: list[str] = []
    for frame, resolved, lines in _opened(spark, source, layout, where):
        if mode == "upsert" and not source.extract_date and "extract_date" not in resolved.single:
            raise InputError(
                f"{where}: {source.where} does not say of which extract its rows are, and an upsert lets the later one win",
                remedy=f"name its column `columns: {{extract_date: …}}` ({layout.columns['extract_date'][0]} is found by "
                'itself), or state `extract_date: "2022-06-30"` beside each path',
            )
        frames.append(_under_our_names(frame, resolved, layout, source, lines))
        missing.update(resolved.missing)
        extra.update(resolved.extra)
    if not source.table:
        files = find_files(source, where)
    rows = frames[0]
    for frame in frames[1:]:
        rows = rows.unionByName(frame)
    return SourceTable("", source.role, rows, files, sorted(missing), sorted(extra))


def _opened(
    spark: SparkSession, source: TableSource, layout: Layout, where: str
) -> Iterable[tuple[DataFrame, Resolved, bool]]:
    """(rows as the files have them, which column is which, whether they are lines of text), a group of files each."""
    try:
        if source.table:
            frame = spark.table(source.table)
            yield frame, layout.resolve(frame.columns, source.columns, f"{where}: {source.table}"), False
            return
        groups: dict[Form, list[str]] = {}
        for path in find_files(source, where):
            form = _remote_form(spark, path, source) if is_remote(path) else form_of(path, source, layout, where)
            groups.setdefault(form, []).append(path)
        for form, paths in groups.items():
            named = f"{where}: {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
            if form.format == "csv":
                resolved = layout.resolve(list(form.columns), source.columns, named)
                yield _read_csv(spark, form, paths), resolved, True
            elif form.format == "delta":
                for path in paths:
                    frame = spark.read.format("delta").load(path)
                    yield frame, layout.resolve(frame.columns, source.columns, f"{where}: {path}"), False
            else:
                frame = spark.read.parquet(*paths)
                yield frame, layout.resolve(frame.columns, source.columns, named), False
    except AnalysisException as error:
        raise InputError(
            f"{where}: {source.where} cannot be read ({error.getCondition() or 'unreadable'})",
            remedy="check that the table or path exists, is whole and is of the format stated",
        ) from None


def _remote_form(spark: SparkSession, path: str, source: TableSource) -> Form:
    """The form of a path that only Spark reaches: what the configuration states, else by its name."""
    kind = source.format or ("csv" if ".csv" in path or ".txt" in path else "parquet")
    if kind != "csv":
        return Form(kind, () if kind == "delta" else (path,))
    first = spark.read.text(path).first()
    delimiter = source.delimiter or max(",|\t;", key=(first[0] if first else "").count)
    columns = tuple(cell.strip().strip('"') for cell in (first[0] if first else "").split(delimiter))
    return Form("csv", columns, delimiter, source.header is not False)


def _read_csv(spark: SparkSession, form: Form, paths: list[str]) -> DataFrame:
    fields = [StructField(name, StringType()) for name in _distinct(form.columns)]
    schema = StructType([*fields, StructField(CORRUPT, StringType())])
    return (
        spark.read.schema(schema)
        .option("sep", form.delimiter)
        .option("header", form.header)
        .option("escape", '"')
        .option("mode", "PERMISSIVE")
        .option("columnNameOfCorruptRecord", CORRUPT)
        # Text as it is: Spark would otherwise read a quoted empty text as something else than an empty field.
        .option("emptyValue", "")
        .csv(paths)
    )


def _distinct(names: tuple[str, ...]) -> list[str]:
    """Names made distinct (case ignored) so that Spark takes them; repeated ones are never read."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        count = seen.get(name.upper(), 0)
        seen[name.upper()] = count + 1
        distinct.append(name if count == 0 and name else f"{name or 'unnamed'}__{count}")
    return distinct


def _under_our_names(
    frame: DataFrame, resolved: Resolved, layout: Layout, source: TableSource, lines: bool
) -> DataFrame:
    """``frame`` with every column of the layout as text (NULL where the file has none) and its lineage."""
    types = {item.name: item.dataType for item in frame.schema.fields}

    def text(name: str) -> Column:
        column = F.col(f"`{name}`")
        if isinstance(types[name], StringType):
            return column
        if isinstance(types[name], DoubleType | FloatType):  # a whole number that some tool stored as floating
            return F.coalesce(column.try_cast("decimal(38,0)").cast("string"), column.cast("string"))
        return column.cast("string")

    singles = [
        (text(resolved.single[ours]) if ours in resolved.single else F.lit(None).cast("string")).alias(ours)
        for ours in layout.columns
        if ours != "extract_date"
    ]
    extract = text(resolved.single["extract_date"]) if "extract_date" in resolved.single else F.lit(source.extract_date)
    runs = []
    for ours in layout.numbered:
        listed = [text(name) for name in resolved.runs.get(ours, [])]
        runs.append((F.array(*listed) if listed else F.lit(None).cast("array<string>")).alias(ours))
        concat = text(resolved.concats[ours]) if ours in resolved.concats else F.lit(None).cast("string")
        runs.append(concat.alias(f"{ours}_concat"))
    own_names = [name for name in frame.columns if name != CORRUPT]
    # What makes two rows of one key the same: every column but the extract's date, whatever its case or place.
    compared = sorted((n for n in own_names if n != resolved.single.get("extract_date")), key=str.upper)
    content = F.xxhash64(*[F.coalesce(text(name), F.lit("\0")) for name in compared])
    names = F.array(*[F.lit(name) for name in own_names])
    values = F.array(*[text(name) for name in own_names])
    corrupt = F.col(CORRUPT) if lines else F.lit(None).cast("string")
    if source.table:
        lineage = [
            F.lit(source.table).alias("source_file"),
            F.lit(None).cast("long").alias("file_bytes"),
            F.lit(None).cast("timestamp").alias("file_modified"),
        ]
    else:
        path = F.replace(F.col("_metadata.file_path"), F.lit("file:///"), F.lit("/"))
        path = F.when(path.startswith("file:/"), F.substr(path, F.lit(6))).otherwise(path)
        decoded = F.when(path.contains("%"), F.url_decode(F.replace(path, F.lit("+"), F.lit("%2B")))).otherwise(path)
        lineage = [
            decoded.alias("source_file"),
            F.col("_metadata.file_size").alias("file_bytes"),
            F.col("_metadata.file_modification_time").alias("file_modified"),
        ]
    return frame.select(
        *singles,
        *runs,
        extract.cast("string").alias("extract_date"),
        content.alias("content"),
        corrupt.alias("corrupt"),
        names.alias("raw_names"),
        values.alias("raw_values"),
        *lineage,
    )


def raw_json() -> Column:
    """The source row as JSON text, or the line itself where it could not be parsed. Made only of what is set aside:
    made of every row it would be the dearest column of the ingest."""
    return F.coalesce("corrupt", F.to_json(F.map_from_arrays("raw_names", "raw_values"), {"ignoreNullFields": "false"}))
