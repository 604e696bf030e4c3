"""Write the current release, or another one, as files for other systems: accessible spreadsheets (xlsx, ods), Fingertips CSV, NHS
England's Central Metrics Library, an Open Data Contract and OpenLineage events. No file shows a figure that the release
suppresses."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

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
        help="send the OpenLineage events to the server at this address instead of a file, after the other files are written",
    )
    common_options(parser)
    arguments = parser.parse_args(argv)
    if arguments.openlineage_url and arguments.formats and "openlineage" not in arguments.formats:
        parser.error("--openlineage-url needs the format openlineage, which --format leaves out")

    def work(console: Console, outcome: dict[str, Any]) -> None:
        from ebi_spark.exports.write_release import make_folder, write_release

        out = arguments.out
        make_folder(out)
        written: dict[str, str] = {}
        outcome["files"] = written
        # What is sent comes last: a server that fails leaves the files complete.
        formats = sorted(set(arguments.formats or FORMATS), key=FORMATS.index)
        write = partial(
            write_release, out=out, formats=formats, release_id=arguments.release, address=arguments.openlineage_url,
            written=written,
        )  # fmt: skip
        try:
            read_lake(arguments.lake, console, write)
        finally:
            if written and not arguments.json:
                shown = RichTable("file", "has", title=f"Written to {out}", title_justify="left")
                for name, has in written.items():
                    shown.add_row(name, has)
                output_console().print(shown)

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


if __name__ == "__main__":
    sys.exit(main())
