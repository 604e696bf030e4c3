"""Make up source files in the layout of SUS+ or HES, with a run.yml that reads them."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from ebi_spark.errors import InputError
from ebi_spark.financial_years import parse_years
from ebi_spark.own_files import refuse_place
from jobs.arguments import JobParser, common_options
from jobs.exit_status import guarded

# A rough figure for text files.
BYTES_A_ROW = 200


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``ebi-spark generate``."""
    parser = JobParser(prog="ebi-spark generate", description=__doc__)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new or empty folder")
    parser.add_argument(
        "--years", default="2021-22..2023-24", metavar="YEARS", help="financial years (default %(default)s)"
    )
    for name, number in (("spells", 60_000), ("attendances", 200_000)):
        words = f"{name} over all years (default %(default)s)"
        parser.add_argument(f"--{name}", type=int, default=number, metavar="N", help=words)
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="the same seed makes the same rows (default %(default)s)"
    )
    parser.add_argument(
        "--system", choices=("sus_plus", "hes"), default="sus_plus", help="layout of the files (default %(default)s)"
    )
    parser.add_argument(
        "--format", choices=("csv", "parquet", "mixed"), default="csv", help="file format (default %(default)s)"
    )
    parser.add_argument(
        "--histories", action="store_true", help="also a few patients whose care before and after a fusion is known"
    )
    common_options(parser)
    arguments = parser.parse_args(argv)

    def work(console: Console, outcome: dict[str, Any]) -> None:
        for name in ("spells", "attendances"):
            if getattr(arguments, name) < 1:
                raise InputError(
                    f"--{name} {getattr(arguments, name)}: it must be 1 or more", remedy=f"correct --{name}"
                )
        if not -(2**31) <= arguments.seed < 2**31:
            raise InputError(
                f"--seed cannot be {arguments.seed}", remedy="give a whole number from -2147483648 to 2147483647"
            )
        years = list(parse_years(arguments.years))
        check_empty(arguments.out)
        from ebi_spark.spark.session import spark_session
        from ebi_spark.synthetic import generate

        with spark_session(data_bytes=(arguments.spells + arguments.attendances) * BYTES_A_ROW) as spark:
            counts = generate(
                spark, arguments.out, years=years, spells=arguments.spells, attendances=arguments.attendances,
                seed=arguments.seed, system=arguments.system, file_format=arguments.format,
                histories=arguments.histories,
                progress=lambda message: console.print(message, highlight=False),
            )  # fmt: skip
        outcome["tables"] = counts
        if not arguments.json:
            for name, rows in counts.items():
                print(f"{name:<{max(map(len, counts))}} {rows:>12,} rows")
            print(f"\nNow run it: ebi-spark run --config {arguments.out / 'run.yml'}")

    return guarded(work, as_json=arguments.json, debug=arguments.debug)


def check_empty(folder: Path) -> None:
    """Refuse a folder that is not empty, and one that cannot be created."""
    refuse_place("--out", folder.absolute(), folder=True)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} exists and is not empty", remedy="name a new or empty folder: nothing is overwritten"
        )


if __name__ == "__main__":
    sys.exit(main())
