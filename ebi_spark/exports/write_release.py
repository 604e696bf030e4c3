"""Writes a release in the formats that are asked for, and sends its OpenLineage events."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ebi_spark.errors import InputError
from ebi_spark.exports.data_contract import write_data_contract
from ebi_spark.exports.fingertips import write_fingertips
from ebi_spark.exports.lineage import without_password, write_lineage
from ebi_spark.exports.metrics_library import write_metrics_library
from ebi_spark.exports.release_data import read_release_data
from ebi_spark.exports.sheets import cover_of, notes_of, sheets_of
from ebi_spark.exports.workbooks import write_ods, write_xlsx
from ebi_spark.lake.local_tables import LocalLake


def write_release(
    lake: LocalLake,
    *,
    out: Path,
    formats: Sequence[str],
    release_id: str | None,
    address: str | None,
    written: dict[str, str],
) -> None:
    """Write a release to the folder ``out``: one or more files for each of ``formats``.

    ``release_id``: None for the current release. ``address``: the server that OpenLineage events are sent to; None: they are written
    to a file. ``written`` gets a line for each file once it is complete, so that a caller knows them after an error. Raises an
    :class:`InputError` for a release that the lake does not have, a package that is not installed, and files that cannot be written.
    """
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
    for name in formats:
        try:
            written |= writers[name]()
        except ModuleNotFoundError as error:
            raise InputError(
                f"the format {name} needs the package {error.name}, which is not installed",
                remedy="install ebi-spark with its extra `exports` (`make setup` does)",
            ) from None
        except OSError as error:
            raise InputError(
                f"the files of the format {name} cannot be written to {out} ({error.strerror})",
                remedy="make room, or name another folder with --out",
            ) from None


def make_folder(out: Path) -> None:
    """Create the folder for the files, if it is missing. Raises an :class:`InputError` if it cannot be created."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be made ({error.strerror})", remedy="name another folder with --out") from None
