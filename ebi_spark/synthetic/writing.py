"""Write the files of the made-up tables, and the run configuration that reads them."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as F

# A year of a table is one file up to this number of rows. A larger one is split into files of about this size.
ROWS_PER_FILE = 500_000


@dataclass(frozen=True)
class OutputFile:
    """The file (or files) of a table's year. With ``headers_file`` the column names go there, not into the file."""

    name: str
    format: str
    columns: list[str]
    delimiter: str = ","
    headers_file: Path | None = None


def files_for(rows: int) -> int:
    """The number of files, and so of Spark tasks, for a table's year with this many rows."""
    return max(1, math.ceil(rows / ROWS_PER_FILE))


def write_table(frame: DataFrame, folder: Path, outputs: dict[int, OutputFile], *, one_file: bool) -> int:
    """Write a frame to a file (or several) for each number in its column ``file``. Returns the number of rows written.

    ``outputs``: what each number's file is like; rows of other numbers are not written. ``one_file``: a CSV file is never split.
    NULL is written as nothing. One Spark job writes all years that share a format and delimiter. The header rows, which differ
    between files, are added afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = 0
    for kind, delimiter in sorted({(output.format, output.delimiter) for output in outputs.values()}):
        chosen = {n: output for n, output in outputs.items() if (output.format, output.delimiter) == (kind, delimiter)}
        part = folder / ".part"
        seen = Observation()
        writer = (
            frame.where(F.col("file").isin(*chosen))
            .observe(seen, F.count(F.lit(1)).alias("rows"))
            .write.partitionBy("file")
        )
        if kind == "parquet":
            writer.option("compression", "zstd").parquet(str(part))
        else:
            writer.options(sep=delimiter, nullValue="", emptyValue="", dateFormat="yyyy-MM-dd").options(
                ignoreLeadingWhiteSpace=False, ignoreTrailingWhiteSpace=False
            ).csv(str(part))
        for number, output in chosen.items():
            parts = sorted((part / f"file={number}").glob("part-*"))
            if kind == "parquet":
                for index, path in enumerate(parts):
                    path.rename(folder / f"{output.name}{f'_{index:04d}' if len(parts) > 1 else ''}.parquet")
            elif one_file:
                _assemble(folder / f"{output.name}.csv", output, parts)
            else:
                for index, path in enumerate(parts):
                    _assemble(folder / f"{output.name}_{index:04d}.csv", output, [path])
        shutil.rmtree(part)
        rows += int(seen.get["rows"])
    return rows


def _assemble(path: Path, output: OutputFile, parts: list[Path]) -> None:
    """Join the parts to one CSV file. The column names become its header row, or go to a separate headers file."""
    header = output.delimiter.join(output.columns) + "\n"
    with path.open("wb") as whole:
        if output.headers_file:
            output.headers_file.write_text(header, encoding="utf-8")
        else:
            whole.write(header.encode())
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 20)
            part.unlink()


def write_run(
    path: Path,
    years: Sequence[str],
    sources: dict[str, tuple[str, dict[str, dict[str, object]]]],
    settings: Sequence[str],
) -> None:
    """Write the run configuration. ``sources`` maps a name to (system, role → table entry). ``settings``: further lines."""
    lines = [
        "# Made-up data: see docs/made-up-data.md. Run it with: ebi-spark run --config run.yml",
        "lake: ./lake",
        "data_kind: synthetic",
        f'years: "{_years_text(years)}"',
        "sources:",
    ]
    for name, (system, tables) in sources.items():
        lines += [f"  {name}:", f"    system: {system}", "    tables:"]
        for role, entry in tables.items():
            lines.append(f"      {role}:")
            lines += [f"        {key}: {_yaml(value)}" for key, value in entry.items()]
    lines += ["geography:", "  practices: practices.csv", *settings]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def globs(folder: Path, base: Path) -> list[str]:
    """Patterns, relative to ``base``, that match every data file in a folder."""
    kinds = sorted({path.suffix for path in folder.iterdir() if path.suffix in (".csv", ".parquet")})
    return [f"{folder.relative_to(base).as_posix()}/*{kind}" for kind in kinds]


def _years_text(years: Sequence[str]) -> str:
    starts = [int(year[:4]) for year in years]
    if len(years) > 1 and starts == list(range(starts[0], starts[-1] + 1)):
        return f"{years[0]}..{years[-1]}"
    return ",".join(years)


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return f'"{value}"'
