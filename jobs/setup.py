"""Set up what local Spark needs besides Python packages: Java, Delta's jars, and a Java class cache so that later
sessions start faster. With --urls, also the jars for s3a://."""

import sys

from ebi_spark.spark.jars import fetch_jars
from ebi_spark.spark.java import keep_classes, require_java
from ebi_spark.spark.platform import platform_session
from jobs.exit_status import guarded


def main(argv: list[str] | None = None) -> int:
    """Check Java, fetch the jars, build the class cache."""
    urls = "--urls" in (sys.argv[1:] if argv is None else argv)

    def progress(message: str) -> None:
        print(message, file=sys.stderr)

    def work(console: object, _: dict[str, object]) -> None:
        require_java()
        if urls:
            fetch_jars(progress, ["s3a"])
        jars = fetch_jars(progress)
        if not platform_session():  # a platform has its own Java
            keep_classes(jars, progress)

    return guarded(work, as_json=False, debug=False)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
