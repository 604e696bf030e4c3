"""Check the files of a source table by their headers and schemas alone, before a session starts.

Everything here is what :mod:`ebi_spark.sources.reader` checks when it opens the files, in the same words.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.errors import PySparkTypeError
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import DataType, NullType, StructField, StructType

from ebi_spark.config.settings import RunConfig
from ebi_spark.config.source_tables import TableSource
from ebi_spark.sources.column_types import refuse_other_types
from ebi_spark.sources.file_inventory import FileFormat, FindFiles, file_headers, find_files, group_by_format, is_remote
from ebi_spark.sources.layouts import layout_for
from ebi_spark.sources.platforms import best_fit
from ebi_spark.sources.reader import first_of, refuse_without_extract_date


@dataclass(frozen=True)
class CheckedFiles:
    """The number of files whose headers were checked, the columns that are read of them (the least and the most of any
    file), what only a session can check, and the titles of the platforms that the files look like (see
    :func:`ebi_spark.sources.platforms.best_fit`)."""

    files: int
    columns: tuple[int, int]
    not_checked: tuple[str, ...]
    platforms: tuple[str, ...] = ()


def check_headers(source: TableSource, where: str, config: RunConfig, find: FindFiles = find_files) -> CheckedFiles:
    """Check that the files of one source table exist, can be read, and have the required columns in types that fit.

    Raises an :class:`InputError` that names ``where``, the file and the remedy. Rows are not read. ``find``: how the paths
    of a source are found, where a run has found them already.
    """
    if source.catalogue_tables:
        return CheckedFiles(0, (0, 0), tuple(f"the columns of the table {name}" for name in source.catalogue_tables))
    layout = layout_for(source.role, config)
    not_checked: list[str] = []
    checked: list[tuple[str, str, FileFormat]] = []
    for path in find(source, where):
        if is_remote(path):
            not_checked.append(f"{path}, which is not on this machine")
            continue
        for file, form in file_headers(path, source, layout, where, config).items():
            if form.format == "delta":
                not_checked.append(f"the columns of the Delta table {path}")
            else:
                checked.append((path, file, form))
    read, fits = [], []
    for (form, base), files in group_by_format(checked).items():
        named = f"{where}: {first_of(files)}"
        columns = [*form.columns, *(_folder_columns(files[0], base, form) if base else ())]
        mapping = layout.resolve(columns, source.columns, named)
        if form.format == "parquet":
            refuse_other_types(_types(files[0], columns), mapping, named)
        refuse_without_extract_date(source, mapping, where, config)
        read.append(len(mapping.used()))
        fits += [item.title for item in best_fit(source.role, columns)]
    columns_read = (min(read, default=0), max(read, default=0))
    return CheckedFiles(len(checked), columns_read, tuple(not_checked), tuple(dict.fromkeys(fits)))


def _folder_columns(path: str, base: str, form: FileFormat) -> list[str]:
    """The columns that Spark reads from the names of folders (``fyear=2122``) between ``base`` and a file."""
    known = {name.upper() for name in form.columns}
    named = (part.partition("=")[0] for part in Path(path).parent.relative_to(base).parts if "=" in part)
    return [name for name in named if name.upper() not in known]


def _types(path: str, columns: list[str]) -> StructType:
    """The types of a Parquet file's columns as Spark reads them. A type that is not known here, or the column of a
    folder, is left to the session: its type is NULL, which always fits."""
    arrow = pq.read_metadata(path).schema.to_arrow_schema()
    types: dict[str, DataType] = {}
    for item in arrow:
        try:
            types[item.name] = from_arrow_type(item.type)
        except PySparkTypeError:
            types[item.name] = NullType()
    return StructType([StructField(name, types.get(name, NullType())) for name in columns])
