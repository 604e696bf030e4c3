"""The main job on made-up data, from nothing: source files, run, where everything is."""

import shutil
import sys
from pathlib import Path

from jobs import generate, run

FOLDER = Path("demo")
# There while made-up files are being written: what it finds without, the demo does not remove.
BEGUN = FOLDER / ".source-begun"


def main() -> int:
    """Make ``./demo/source`` once, then run into ``./demo/lake``."""
    source = FOLDER / "source"
    config = source / "run.yml"
    if not config.exists():
        if BEGUN.exists():
            shutil.rmtree(source, ignore_errors=True)  # what an interrupted demo left
        if not source.exists() or not any(source.iterdir()):  # else it is someone's own, which `generate` refuses
            FOLDER.mkdir(exist_ok=True)
            BEGUN.touch()
        status = generate.main(["--out", str(source)])
        if status:
            return status
        BEGUN.unlink(missing_ok=True)
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
