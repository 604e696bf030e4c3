"""Run the main job on made-up data, from nothing: source files, run, and where to find everything."""

import argparse
import shutil
import sys
from pathlib import Path

from jobs import generate, run

FOLDER = Path("demo")
# This file exists while made-up files are being written. Without it, the demo does not remove what it finds.
BEGUN = FOLDER / ".source-begun"


def main(argv: list[str] | None = None) -> int:
    """Make ``./demo/source`` once, then run into ``./demo/lake``."""
    argparse.ArgumentParser(prog="jobs.demo", description=__doc__).parse_args(argv)
    source = FOLDER / "source"
    config = source / "run.yml"
    if not config.exists():
        if BEGUN.exists():
            shutil.rmtree(source, ignore_errors=True)  # files of an interrupted demo
        if not source.exists() or not any(
            source.iterdir()
        ):  # else the files belong to somebody, and `generate` refuses the folder
            FOLDER.mkdir(exist_ok=True)
            BEGUN.touch()
        status = generate.main(["--out", str(source), "--histories"])
        if status:
            return status
        BEGUN.unlink(missing_ok=True)
    elif "data_kind:" not in (written := config.read_text(encoding="utf-8")):
        # A demo of an earlier version did not say that its data are made up.
        config.write_text(f"data_kind: synthetic\n{written}", encoding="utf-8")
    status = run.main(["--config", str(config), "--lake", str(FOLDER / "lake")])
    if status == 0:
        print(
            f"""
See the results:
  {FOLDER}/lake/report.html            the findings as charts and tables (opens offline)
  {FOLDER}/lake/docs/                  the checks, a page for each layer
  .venv/bin/ebi-spark status --lake {FOLDER}/lake
  .venv/bin/ebi-spark policy show 2Y_back_pain_fusion"""
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
