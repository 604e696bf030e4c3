"""What local Spark needs besides Python packages: Java, Delta's jars, and for quicker starts an archive of the classes
that it loads."""

import sys

from ebi_spark.spark.java import keep_classes, require_java
from ebi_spark.spark.session import fetch_jars, platform_session
from jobs.harness import guarded


def main() -> int:
    """Check Java, bring the jars, make the archive."""

    def tell(message: str) -> None:
        print(message, file=sys.stderr)

    def work(console: object, _: dict[str, object]) -> None:
        require_java()
        jars = fetch_jars(tell)
        if not platform_session():  # which brings a Java of its own
            keep_classes(jars, tell)

    return guarded(work, as_json=False, debug=False)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
