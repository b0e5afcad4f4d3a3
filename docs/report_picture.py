"""The picture of a report in README.md: ``python docs/report_picture.py demo/report.html`` takes it, in Chromium.

``make demo`` writes that report. Pillow is needed, which matplotlib brings along.
"""

import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from chromium import Chromium

PICTURE = HERE / "report.png"
WIDTH = 1240


def take(report: Path, picture: Path = PICTURE) -> None:
    """Write a picture of the top of a report: the verdicts, and the slices before the registration."""
    with Chromium() as browser:
        browser.open(report, WIDTH)
        browser.run("document.getElementById('show-before').click()")
        bottom = browser.run("document.querySelector('.flicker').getBoundingClientRect().bottom")
        browser.screenshot(picture, clip=(0, 0, WIDTH, round(bottom) + 16))
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)


if __name__ == "__main__":
    take(Path(sys.argv[1] if len(sys.argv) > 1 else "demo/report.html"))
