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

SHOWN_REFUSALS = 5


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
        from ebi_spark.exports.unity_catalog import unity_catalog_sql

        location = existing_lake(arguments.lake)
        if location.place:
            raise InputError(
                f"{arguments.lake} is a {'folder' if location.folder else 'URL'}, not a lake in a catalogue",
                remedy="name a lake as catalog.prefix, such as main.ebi",
            )
        for group in arguments.readers:
            refuse_unusable("--readers", group)
        if arguments.apply:
            outcome["statements"] = _apply(arguments.lake, arguments.readers, console)
            return
        outcome["statements"] = unity_catalog_sql(location, arguments.readers)
        if not arguments.json:
            print(_script(location, outcome["statements"]))

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def _script(location: LakeLocation, statements: list[str]) -> str:
    return "\n".join([f"-- Unity Catalog: the lake {location}", *(f"{statement};" for statement in statements)])


def _apply(lake: str, readers: list[str], console: Console) -> list[str]:
    """Run every statement, and return those that ran. Raises an :class:`InputError` that names those that were refused."""
    from ebi_spark.exports.unity_catalog import Existing, unity_catalog_sql
    from ebi_spark.tables.schemas import TABLES

    done, refused = [], []
    with opened_lake(lake, console) as context:
        spark, there = context.lake.spark, [table for table in TABLES.values() if context.lake.exists(table)]
        names = {table.full_name: context.lake.identifier(table) for table in there}
        existing = {
            full_name: Existing(spark.catalog.getTable(name).description or "", spark.table(name).schema)
            for full_name, name in names.items()
        }
        for statement in unity_catalog_sql(context.config.lake, readers, existing):
            try:
                spark.sql(statement)
                done.append(statement)
            except Exception as error:  # each platform raises its own errors; a statement has no data in it
                condition = getattr(error, "getCondition", lambda: None)() or type(error).__name__
                refused.append(f"{statement[:120]} ({condition})")
        context.progress(f"{len(done):,} statements ran")
    if refused:
        shown = "; ".join(refused[:SHOWN_REFUSALS])
        raise InputError(
            f"{len(refused):,} of {len(done) + len(refused):,} statements were refused, such as: {shown}",
            remedy="run as the owner of the schemas, or with APPLY TAG and MANAGE; without --apply the SQL is printed, for "
            "somebody with these rights",
        )
    return done


if __name__ == "__main__":
    sys.exit(main())
