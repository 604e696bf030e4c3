"""Draws ``docs/report.png``, which the README shows: the first screen of a report, taken by Chromium without a window.

``make picture`` draws it from the demo's report. Look at the picture before you commit it.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
# In pixels: the width of a page without its outer margins, and down to the end of the first policy's card.
SIZE = (1180, 1000)


def draw(report: Path, picture: Path) -> None:
    """Write the first screen of ``report``, an HTML page, to ``picture``, in light colours and few of them, so that the file is small."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("no Chromium was found: install it (Debian, Ubuntu: apt install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "taken.png"
        subprocess.run(
            [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile",
             f"--window-size={SIZE[0]},{SIZE[1]}", f"--screenshot={taken}", report.resolve().as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        with Image.open(taken) as image:
            image.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), DOCS / "report.png")
