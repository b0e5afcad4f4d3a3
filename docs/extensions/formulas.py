"""Formulas as MathML, which browsers draw themselves: no JavaScript, no fonts and no network."""

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def _formula(writer: Any, node: Any, block: bool) -> None:
    mathml = tex2mathml(node.astext(), as_block=block)
    writer.body.append(f'<div class="math">{mathml}</div>' if block else f'<span class="math">{mathml}</span>')
    raise nodes.SkipNode


def inline(writer: Any, node: Any) -> None:
    """Write a formula in a line."""
    _formula(writer, node, block=False)


def displayed(writer: Any, node: Any) -> None:
    """Write a formula of its own."""
    _formula(writer, node, block=True)


def setup(app: Any) -> dict[str, bool]:
    """Tell Sphinx of the renderer; ``html_math_renderer = "mathml"`` chooses it."""
    app.add_html_math_renderer("mathml", (inline, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
