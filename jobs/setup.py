"""Set up what local Spark needs besides Python packages: Java, Delta's jars, and a Java class cache so that later
sessions start faster."""

import sys

from ebi_spark.spark.java import keep_classes, require_java
from ebi_spark.spark.session import fetch_jars, platform_session
from jobs.exit_status import guarded


def main() -> int:
    """Check Java, fetch the jars, build the class cache."""

    def progress(message: str) -> None:
        print(message, file=sys.stderr)

    def work(console: object, _: dict[str, object]) -> None:
        require_java()
        jars = fetch_jars(progress)
        if not platform_session():  # a platform has its own Java
            keep_classes(jars, progress)

    return guarded(work, as_json=False, debug=False)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
