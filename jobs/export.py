"""Write the current release, or another one, as files for other systems: accessible spreadsheets (xlsx, ods), Fingertips CSV, NHS
England's Central Metrics Library, an Open Data Contract and OpenLineage events. No file shows a figure that the release
suppresses."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from ebi_spark.errors import InputError
from ebi_spark.lake.local_tables import LocalLake
from jobs.arguments import JobParser, common_options, lake_option
from jobs.exit_status import guarded
from jobs.harness import read_lake
from jobs.screen import output_console

FORMATS = ("xlsx", "ods", "fingertips", "cml", "odcs", "openlineage")


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark export``."""
    parser = JobParser(prog="ebi-spark export", description=__doc__)
    lake_option(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder for the files")
    parser.add_argument(
        "--format", action="append", choices=FORMATS, dest="formats", metavar="FORMAT",
        help=f"one of {', '.join(FORMATS)}; may be repeated (default: all)",
    )  # fmt: skip
    parser.add_argument("--release", metavar="RELEASE_ID", help="a release that is kept (default: the current one)")
    parser.add_argument(
        "--openlineage-url",
        metavar="URL",
        help="send OpenLineage events to the server at this address, after the files are written",
    )
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        out = arguments.out
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{out} cannot be made ({error.strerror})", remedy="name another folder with --out"
            ) from None
        written: dict[str, str] = {}
        outcome["files"] = written
        # What is sent comes last: a server that fails leaves the files complete.
        formats = sorted(arguments.formats or FORMATS, key=FORMATS.index)
        write = partial(_write, out, formats, arguments.release, arguments.openlineage_url, written)
        try:
            read_lake(arguments.lake, console, write)
        finally:
            if written and not arguments.json:
                shown = RichTable("file", "has", title=f"Written to {out}", title_justify="left")
                for name, has in written.items():
                    shown.add_row(name, has)
                output_console().print(shown)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _write(
    out: Path,
    formats: list[str],
    release_id: str | None,
    address: str | None,
    written: dict[str, str],
    lake: LocalLake,
) -> None:
    """Write the files. Each gets a line in ``written`` once it is complete."""
    from ebi_spark.exports.data_contract import write_data_contract
    from ebi_spark.exports.fingertips import write_fingertips
    from ebi_spark.exports.lineage import without_password, write_lineage
    from ebi_spark.exports.metrics_library import write_metrics_library
    from ebi_spark.exports.release_data import read_release_data
    from ebi_spark.exports.sheets import cover_of, notes_of, sheets_of
    from ebi_spark.exports.workbooks import write_ods, write_xlsx

    release = read_release_data(lake, release_id)
    sheets = sheets_of(release)

    def workbook(name: str, write: Callable[..., None]) -> dict[str, str]:
        write(out / name, sheets, cover_of(release), notes_of(release))
        return {name: f"{len(sheets)} tables, {sum(len(sheet.rows) for sheet in sheets):,} rows"}

    def metrics() -> dict[str, str]:
        return {f"cml_{name}.parquet": f"{rows:,} rows" for name, rows in write_metrics_library(out, release).items()}

    def lineage() -> dict[str, str]:
        name = "openlineage.ndjson"
        events = write_lineage(address or out / name, lake, release.manifest["run_id"])
        return {without_password(address) if address else name: f"{events:,} events"}

    writers: dict[str, Callable[[], dict[str, str]]] = {
        "xlsx": lambda: workbook("ebi.xlsx", write_xlsx),
        "ods": lambda: workbook("ebi.ods", write_ods),
        "fingertips": lambda: {"fingertips.csv": f"{write_fingertips(out / 'fingertips.csv', release):,} rows"},
        "cml": metrics,
        "odcs": lambda: {"datacontract.yaml": f"{write_data_contract(out / 'datacontract.yaml', release)} tables"},
        "openlineage": lineage,
    }
    for name in dict.fromkeys(formats):
        try:
            written |= writers[name]()
        except ModuleNotFoundError as error:
            raise InputError(
                f"the format {name} needs the package {error.name}, which is not installed",
                remedy="install the extra `exports` of ebi-spark: `pip install ebi-spark[exports]`",
            ) from None
        except OSError as error:
            raise InputError(
                f"the files of the format {name} cannot be written to {out} ({error.strerror})",
                remedy="make room, or name another folder with --out",
            ) from None


if __name__ == "__main__":
    sys.exit(main())
