"""Where the validation pages and the report of a run are written."""

from pathlib import Path

from ebi_spark.config.settings import RunConfig


def docs_folder(config: RunConfig) -> Path | None:
    """The folder for the validation pages; None if the lake is not a folder and no folder is configured."""
    return config.docs or (config.lake.folder / "docs" if config.lake.folder else None)


def report_file(config: RunConfig) -> Path | None:
    """The path of the report; None if the lake is not a folder and no path is configured."""
    return config.report or (config.lake.folder / "report.html" if config.lake.folder else None)
