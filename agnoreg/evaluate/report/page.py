"""The templates of a report, filled: text is escaped, and nothing is fetched from anywhere."""

import base64
from collections.abc import Mapping
from typing import Any

from agnoreg.evaluate.nifti import InputError

#: What the browser may load: pictures that are in the page, its own style, and nothing else.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def check_packages() -> None:
    """Raise InputError where a package is not installed that a report needs."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f"A report needs jinja2 and matplotlib: pip install agnoreg[report] ({error})") from error


def render(template: str, view: Mapping[str, Any]) -> str:
    """Return a page, in which every text is escaped.

    Parameters
    ----------
    template
        The name of a file in ``templates``.
    view
        What it shows.

    Raises
    ------
    InputError
        If jinja2 is not installed.
    """
    check_packages()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("agnoreg.evaluate.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render({"policy": POLICY, **view})


def data_uri(text: str, kind: str) -> str:
    """Return a text as a data URI of a kind such as ``"text/csv"``, for a link to save it by."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode('ascii')}"


def gradient(colours: str, low: float = 0.0, high: float = 1.0) -> str:
    """Return a colour map of matplotlib, or a part of it, as a gradient of CSS from left to right."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    stops = [to_hex(colormaps[colours](low + (high - low) * step / 12)) for step in range(13)]
    return f"linear-gradient(to right, {', '.join(stops)})"
