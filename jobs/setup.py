"""Set up what local Spark needs besides Python packages: check Java, and fetch Delta's jars. With --urls, also the jars
for s3a://."""

import sys

from ebi_spark.spark.jars import fetch_jars
from ebi_spark.spark.java import require_java
from jobs.exit_status import guarded


def main(argv: list[str] | None = None) -> int:
    """Check Java and fetch the jars."""
    urls = "--urls" in (sys.argv[1:] if argv is None else argv)

    def progress(message: str) -> None:
        print(message, file=sys.stderr)

    def work(console: object, _: dict[str, object]) -> None:
        require_java()
        fetch_jars(progress, ["s3a"] if urls else [])

    return guarded(work, as_json=False, debug=False)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
