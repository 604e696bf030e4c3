"""Set up what local Spark needs besides Python packages: check Java, and fetch Delta's jars. With --urls, also the jars
for s3a://."""

import argparse
import sys

from ebi_spark.spark.jars import fetch_jars
from ebi_spark.spark.java import require_java
from jobs.exit_status import guarded


def main(argv: list[str] | None = None) -> int:
    """Check Java and fetch the jars."""
    parser = argparse.ArgumentParser(prog="jobs.setup", description=__doc__)
    parser.add_argument("--urls", action="store_true", help="fetch also the jars for s3a://")
    arguments = parser.parse_args(argv)

    def progress(message: str) -> None:
        print(message, file=sys.stderr)

    def work(console: object, _: dict[str, object]) -> None:
        require_java()
        fetch_jars(progress, ["s3a"] if arguments.urls else [])

    return guarded(work, as_json=False, debug=False)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
