"""Reports: what an evaluation found as one HTML page, and many pairs as a folder of pages.

- `orientation`, `case`: volumes in the patient's order, and the files of a pair in it.
- `places`: which slices are shown.
- `drawing`, `pictures`, `fields`, `charts`, `strips`: the pictures.
- `verdicts`, `explanations`, `structures`, `methods`: the tables and texts.
- `page`, `pair`, `group`, `folder`: the pages. `notebook`: a plain table.
"""

from agnoreg.evaluate.report.folder import INDEX, Listed, ReportFolder
from agnoreg.evaluate.report.page import check_packages
from agnoreg.evaluate.report.pair import report_html

__all__ = ["INDEX", "Listed", "ReportFolder", "check_packages", "report_html"]
