"""The main job on made-up data, from nothing: source files, run, where everything is."""

import shutil
import sys
from pathlib import Path

from jobs import generate, run

FOLDER = Path("demo")


def main() -> int:
    """Make ``./demo/source`` once, then run into ``./demo/lake``."""
    source = FOLDER / "source"
    config = source / "run.yml"
    if not config.exists():
        shutil.rmtree(source, ignore_errors=True)  # what an interrupted demo left
        status = generate.main(["--out", str(source)])
        if status:
            return status
    status = run.main(["--config", str(config), "--lake", str(FOLDER / "lake")])
    if status == 0:
        print(
            f"""
Look at it:
  {FOLDER}/lake/report.html            what was found, drawn (opens offline)
  {FOLDER}/lake/docs/                  what was checked, a folder of pages a layer
  .venv/bin/ebi-spark status --lake {FOLDER}/lake
  .venv/bin/ebi-spark policy show 2Y_back_pain_fusion"""
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
