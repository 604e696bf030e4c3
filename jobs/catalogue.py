"""Describe a lake in Databricks Unity Catalog: comments, tags for patient-level data, keys, a metric view, and the rights of those
who read published tables. Prints the SQL, or runs it."""

import sys
from typing import Any

from rich.console import Console

from ebi_spark.config.lake_location import LakeLocation
from ebi_spark.errors import InputError
from ebi_spark.quoting import refuse_unusable
from jobs.arguments import JobParser, common_options
from jobs.exit_status import guarded
from jobs.harness import existing_lake, opened_lake


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark catalogue``."""
    parser = JobParser(prog="ebi-spark catalogue", description=__doc__)
    parser.add_argument(
        "--lake", required=True, metavar="LAKE", help="catalog.prefix, or catalog.silver,gold,published"
    )
    parser.add_argument(
        "--readers", action="append", default=[], metavar="GROUP",
        help="a group that may read the published schema, and nothing else; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--apply", action="store_true", help="run the SQL in the platform's session instead of printing it"
    )
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        from ebi_spark.exports.unity_catalog import apply_to_catalogue, unity_catalog_sql

        location = existing_lake(arguments.lake)
        if location.place:
            raise InputError(
                f"{arguments.lake} is a {'folder' if location.folder else 'URL'}, not a lake in a catalogue",
                remedy="name a lake as catalog.prefix, such as main.ebi",
            )
        for group in arguments.readers:
            refuse_unusable("--readers", group)
        if arguments.apply:
            with opened_lake(arguments.lake, console) as context:
                outcome["statements"] = apply_to_catalogue(context.lake, arguments.readers, context.progress)
            return
        outcome["statements"] = unity_catalog_sql(location, arguments.readers)
        if not arguments.json:
            print(_script(location, outcome["statements"]))

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _script(location: LakeLocation, statements: list[str]) -> str:
    return "\n".join([f"-- Unity Catalog: the lake {location}", *(f"{statement};" for statement in statements)])


if __name__ == "__main__":
    sys.exit(main())
