"""Pages made from what the code declares: one for each loss and each public name, and the tables of both.

``python -m extensions.generate`` in ``docs/`` writes them without building the site; Sphinx does so before it reads.
"""

import contextlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

import agnoreg
from agnoreg.engine.chosen import evaluator_of
from agnoreg.objects.documentation import sections
from agnoreg.objects.mixins import MultiScaleMixin, metric_of
from extensions import pictures, support
from extensions.loss_texts import TEXTS, Text
from extensions.public import GROUPS, Group, members

DOCS = Path(__file__).parents[1]
OUT = DOCS / "generated"

#: Arguments of every loss, which a page does not repeat.
EVERYWHERE = ("name", "reduction", "native")
#: Arguments of many losses, which come last.
SHARED = ("spatial_dims", "data_format")


def own_losses() -> dict[str, type[agnoreg.Loss]]:
    """Return the losses that agnoreg itself registers, by name."""
    return {k: v for k, v in agnoreg.registered_losses().items() if v.__module__.startswith("agnoreg.")}


def _interval(loss: Any) -> str:
    ends = ("∞" if np.isinf(end) else f"{end + 0.0:.6g}" for end in loss.value_range)
    return "[{}, {}{}".format(*ends, ")" if np.isinf(loss.value_range[1]) else "]")


def _equal(loss: Any) -> str:
    kind = "labels" if loss.measured_on == ("labels",) else "images"
    return f"depends on the {kind}" if loss.identity_value is None else f"{loss.identity_value + 0.0:g}"


def _in_one_line(text: str) -> str:
    return " ".join(text.split())


def _markdown(text: str) -> str:
    """Return a docstring's text in Markdown, on one line: double backticks become single ones."""
    text = re.sub(r"(?<!`)`([^`\n]+)`(?!`)", r"``\1``", text)
    return _in_one_line(text).replace("``", "`")


def _cell(text: str) -> str:
    """Return the same for a cell of a table, which a bar would end."""
    return _markdown(text).replace("|", "\\|")


def described(cls: type) -> dict[str, str]:
    """Return the description of each argument of a class, from its docstring."""
    found: dict[str, str] = {}
    text = sections(inspect.getdoc(cls) or "").get("Parameters", "")
    for names, body in re.findall(r"^(\S.*)\n((?:[ ]+.*\n?|\n)+)", text + "\n", flags=re.MULTILINE):
        for name in names.split(", "):
            found[name] = _cell(body)
    return found


def arguments(cls: type) -> Iterator[str]:
    """Yield the rows of the table of arguments."""
    texts = described(cls)
    yield "| argument | default | what it is |"
    yield "| --- | --- | --- |"
    # What is this loss's own comes first.
    for item in sorted(fields(cls), key=lambda one: one.name in SHARED):  # type: ignore[arg-type]
        if item.name not in EVERYWHERE:
            default = "required" if item.default is MISSING else f"`{item.default!r}`"
            yield f"| `{item.name}` | {default} | {texts.get(item.name, '')} |"


def role(cls: type) -> str:
    """Return a reference to the page of a class of losses."""
    return f"{{py:class}}`~agnoreg.loss.{cls.__name__}`"


def _call(cls: type[agnoreg.Loss]) -> tuple[str, str]:
    """Return the code that makes inputs for a loss, and their names."""
    if cls.inputs == 1:
        return "ddf = np.random.rand(1, 16, 16, 16, 3).astype(np.float32)", "ddf"
    names = "fixed, warped" if "images" in cls.measured_on else "fixed_label, warped_label"
    return f"{names} = np.random.rand(2, 1, 16, 16, 16).astype(np.float32)", names


def function_of(cls: type[agnoreg.Loss]) -> str:
    """Return the name of the function in `agnoreg.functional` that computes a loss's measure."""
    formula = metric_of(cls).formula
    for name in agnoreg.functional.__all__:
        one = getattr(agnoreg.functional, name)
        if getattr(one, "measure", None) is formula:
            return name
    raise LookupError(cls.__name__)


def loss_page(name: str, cls: type[agnoreg.Loss], text: Text, picture: str, alt: str) -> str:
    """Return the page of a loss."""
    loss, metric = cls(), metric_of(cls)
    made, called = _call(cls)
    definition = sections(inspect.getdoc(metric) or "")[""].split("\n\n")
    lines = [
        f"# {loss.own_title[0].upper()}{loss.own_title[1:]}",
        "",
        f"**{text.problem}**",
        "",
        text.sees,
        "",
        "```{math}",
        text.formula,
        "```",
        "",
        text.symbols,
        "",
        f"```{{image}} {picture}",
        f":alt: {alt}",
        ":width: 100%",
        "```",
        "",
        alt,
        "",
        f"| short name | `agnoreg.{cls.short}` |",
        "| --- | --- |",
        f'| by name | `agnoreg.build_loss("{name}")` |',
        f"| loss | {role(cls)}, in {_interval(loss)}, lower is better |",
    ]
    if metric is not cls:
        own = metric()
        lines.append(f"| metric | {role(metric)}, in {_interval(own)}, {own.direction} is better |")
    equal = "for a field of zero displacement" if cls.inputs == 1 else "for two equal inputs"
    lines += [
        f"| function | {{py:func}}`~agnoreg.functional.{function_of(cls)}` |",
        f"| {equal} | {_equal(loss)} |",
        f"| measured on | {', '.join(cls.measured_on)} |",
        f"| several scales | {'yes, `scales=[0, 1, 2]`' if issubclass(cls, MultiScaleMixin) else 'no'} |",
        f"| masks | {'`mask`' if cls.inputs == 1 else '`mask`, `fixed_mask`, `moving_mask`'} |",
        f"| compiled kernels on the CPU | {'yes' if has_kernel(cls) else 'no'} |",
        "",
        "```python",
        "import agnoreg, numpy as np",
        "",
        made,
        f"value, gradient = agnoreg.value_and_grad(agnoreg.{cls.short}(), {called})",
        "```",
        "",
        "## Definition",
        "",
        *(f"{_markdown(paragraph)}\n" for paragraph in definition),
        "## Arguments",
        "",
        *arguments(cls),
        "",
        "Every loss also takes `name`, `reduction` and `native`: see {py:class}`agnoreg.Loss`.",
        "",
        "## Pitfalls",
        "",
        *(f"- {one}" for one in text.pitfalls),
        "",
    ]
    return "\n".join(lines)


def has_kernel(cls: type[agnoreg.Loss]) -> bool:
    """Return whether compiled kernels serve a metric's default arguments on NumPy's float32 arrays."""
    metric = metric_of(cls)()
    shape = (1, 8, 8, 8, 3) if cls.inputs == 1 else (1, 8, 8, 8)
    arrays = (np.zeros(shape, np.float32),) * cls.inputs
    measure = metric.measure()
    backend = agnoreg.get_backend("numpy")
    return evaluator_of(measure, backend, arrays) is not backend.execution.override(measure, arrays)


HEADINGS = {"images": "Two images", "labels": "Two labels", "field": "A displacement field"}


def table_of_losses() -> str:
    """Return the tables by which a reader chooses a loss, one for each kind of input."""
    lines: list[str] = []
    for kind, heading in HEADINGS.items():
        chosen = {k: v for k, v in own_losses().items() if v.measured_on[0] == kind}
        lines += [f"### {heading}", "", "| loss | take it for | range of the loss |", "| --- | --- | --- |"]
        lines += [
            f"| [{v.short}](generated/losses/{k}.md) | {TEXTS[k].problem} | {_interval(v())} |"
            for k, v in chosen.items()
        ]
        lines.append("")
    names = "\n".join(f"generated/losses/{k}" for k in own_losses())
    return "\n".join([*lines, "```{toctree}", ":hidden:", "", names, "```", ""])


def api_page(group: Group, name: str, target: Any) -> str:
    """Return the page of a public name, in reStructuredText as docstrings are."""
    lines = [name, "=" * len(name), "", f".. currentmodule:: {group.module}", ""]
    short = getattr(target, "short", "")
    if isinstance(target, type) and short and getattr(agnoreg, short, None) is target:
        names = [one for one in agnoreg.__all__ if getattr(agnoreg, one) is target]
        lines += [f"Short name: {' or '.join(f'``agnoreg.{one}``' for one in names)}", ""]
    if isinstance(target, type) and issubclass(target, Exception):
        lines += [f".. autoexception:: {name}"]
    elif isinstance(target, type):
        lines += [f".. autoclass:: {name}"]
        if group.with_members:
            lines += ["   :members:", "   :exclude-members: parameter_names"]
    else:
        lines += [f".. autofunction:: {name}"]
    return "\n".join([*lines, ""])


def write(path: Path, text: str) -> None:
    """Write a page, unless it is there already: Sphinx reads what has changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def api_index() -> str:
    """Return the list of all public names, by group."""
    lines: list[str] = []
    for group in GROUPS:
        # A group without a title belongs to the one before.
        lines += [f"## {group.title}", "", group.text, ""] if group.title else []
        lines += ["| name | what it is |", "| --- | --- |"]
        names = members(group)
        for name, target in names.items():
            kind = "class" if isinstance(target, type) else "func"
            kind = "exc" if isinstance(target, type) and issubclass(target, Exception) else kind
            text = _cell(sections(inspect.getdoc(target) or "")[""].split("\n\n")[0])
            lines.append(f"| {{py:{kind}}}`~{group.module}.{name}` | {text.partition('. ')[0]} |")
        tree = "\n".join(f"{name} <generated/api/{group.module}.{name}>" for name in names)
        lines += ["", "```{toctree}", ":hidden:", "", tree, "```", ""]
    return "\n".join(lines)


def printed() -> str:
    """Return what the long command on the page of evaluations prints, on the files that the page makes."""
    page = (DOCS / "evaluation.md").read_text()
    code, command = (
        re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) for kind in ("python", "shell")
    )
    words = shlex.split(command[1].replace("\\\n", " "))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        exec(code[0], {})
        line = [sys.executable, "-c", "from agnoreg.evaluate.cli import main; main()", *words[1:]]
        done = subprocess.run(line, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"})
    return "\n".join(text.rstrip() for text in done.stdout.splitlines()).strip() + "\n"


def generate(_app: Any = None) -> None:
    """Write all pages and pictures into ``docs/generated``."""
    for name, cls in own_losses().items():
        picture = OUT / "losses" / f"{name}.svg"
        alt = pictures.draw(name, cls(spatial_dims=2), picture)
        write(OUT / "losses" / f"{name}.md", loss_page(name, cls, TEXTS[name], picture.name, alt))
    write(OUT / "table_of_losses.txt", table_of_losses())
    write(OUT / "support.txt", support.table({name: has_kernel(cls) for name, cls in own_losses().items()}))
    write(OUT / "support_of_metrics.txt", support.metrics_table())
    for group in GROUPS:
        for name, target in members(group).items():
            write(OUT / "api" / f"{group.module}.{name}.rst", api_page(group, name, target))
    write(OUT / "api_index.txt", api_index())
    write(OUT / "evaluation.txt", printed())


def setup(app: Any) -> dict[str, bool]:
    """Have Sphinx write the pages before it reads any."""
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    generate()
