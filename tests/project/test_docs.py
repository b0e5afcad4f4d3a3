"""The documents say what the code does."""

import dataclasses
import doctest
import importlib
import importlib.util
import json
import math
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import document_code
import pytest

import agnoreg
from agnoreg.objects import registry

ROOT = Path(agnoreg.__file__).parents[1]
MODULES = [module.name for module in pkgutil.walk_packages(agnoreg.__path__, "agnoreg.")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_run(name, monkeypatch):
    for table in ("_by_name", "_by_class"):  # an example that registers a loss leaves none behind
        monkeypatch.setattr(registry, table, dict(getattr(registry, table)))
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


def test_the_list_of_losses_is_true():
    page = (ROOT / "docs" / "losses.md").read_text()
    specification = importlib.util.spec_from_file_location("losses_table", ROOT / "docs" / "losses_table.py")
    table = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(table)
    assert table.written(page) == page, "run python docs/losses_table.py"
    # What the page says of a class holds of it.
    rows = re.findall(
        r"^\| `(\w+)\.(\w+)` \| (?:`([\w-]+)`)? *\| (?:`([^`]*)`)? *\| \[(.+), (.+)\] \| (\w+) \| (.+) \|$",
        page,
        flags=re.MULTILINE,
    )
    classes = {
        name
        for module in ("image", "label", "deform")
        for name in getattr(agnoreg.loss, module).__all__
        if isinstance(getattr(getattr(agnoreg.loss, module), name), type)
    }
    assert {name for _, name, *_ in rows} == classes
    for module, name, registered, arguments, *_ in rows:
        cls = getattr(getattr(agnoreg.loss, module), name)
        assert (agnoreg.registered_losses().get(registered) is cls) == bool(registered)
        assert eval(f"cls({arguments})") == cls()


def generated():
    """Import what makes the pages that are not written by hand."""
    if str(ROOT / "docs") not in sys.path:
        sys.path.insert(0, str(ROOT / "docs"))
    return importlib.import_module("extensions.generate")


def written_pages():
    """Return the documents that are written by hand."""
    docs = ROOT / "docs"
    return [ROOT / "README.md", *sorted(docs.glob("*.md")), *sorted((docs / "migration").glob("*.md"))]


@pytest.mark.slow
def test_every_block_of_code_in_the_documents_runs(tmp_path):
    generate = generated()
    pages = tmp_path / "pages"
    for name, cls in generate.own_losses().items():
        page = generate.loss_page(name, cls, generate.TEXTS[name], "", "")
        generate.write(pages / f"{name}.md", page)
    paths = [path for path in written_pages() if document_code.blocks(path.read_text())] + sorted(pages.iterdir())
    # A page that takes a module's place comes last.
    paths.sort(key=lambda path: document_code.module_of(path.read_text()) != "__main__")
    done = subprocess.run(
        [sys.executable, document_code.__file__, str(tmp_path / "work"), *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": "torch", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert set(results) == set(map(str, paths))
    assert len(paths) > 20
    raised = {path: result["raised"] for path, result in results.items() if result["raised"]}
    assert not raised, "\n".join(f"{path}\n{text}" for path, text in raised.items())


def test_code_that_does_not_run_needs_what_is_not_here():
    needs = {
        path.name: re.findall(r"^```\{code-block\} python\n:class: needs-(\S+)\n", text, flags=re.MULTILINE)
        for path in written_pages()
        if "```{code-block}" in (text := path.read_text())
    }
    assert needs == {"scaling.md": ["a-cluster"], "deepreg.md": ["deepreg"], "fireants.md": ["fireants"]}
    for name in ("deepreg", "fireants"):
        assert importlib.util.find_spec(name) is None, f"{name} is installed: run its block, ```python"


def test_every_registered_loss_has_a_text():
    generate = generated()
    assert set(generate.TEXTS) == set(generate.own_losses())
    for name, text in generate.TEXTS.items():
        assert text.problem.endswith("."), name
        assert len(text.pitfalls) >= 2, name


@pytest.mark.parametrize("name", sorted(agnoreg.registered_losses()))
def test_the_page_of_a_loss_says_what_the_class_declares(name):
    generate = generated()
    cls = agnoreg.registered_losses()[name]
    if name not in generate.own_losses():
        pytest.skip(f"{name} is not agnoreg's own")
    page = generate.loss_page(name, cls, generate.TEXTS[name], "", "")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \| \S", page, flags=re.MULTILINE))
    own = {one.name: one.default for one in dataclasses.fields(cls) if one.name not in generate.EVERYWHERE}
    assert rows == {key: f"`{value!r}`" for key, value in own.items()}
    low, high = cls().value_range
    assert f"[{low + 0.0:.6g}, " in page
    assert (f", {high + 0.0:.6g}]" in page) or (math.isinf(high) and ", ∞)" in page)
    assert f"agnoreg.{cls.short}" in page


@pytest.mark.parametrize("name", sorted(agnoreg.registered_losses()))
def test_the_picture_of_a_loss_is_made_by_the_loss(name, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib, which draws the pictures, is not installed")
    generate = generated()
    if name not in generate.own_losses():
        pytest.skip(f"{name} is not agnoreg's own")
    alt = generate.pictures.draw(name, generate.own_losses()[name](spatial_dims=2), tmp_path / "picture.svg")
    assert "<svg" in (tmp_path / "picture.svg").read_text()
    assert alt.endswith(".")


def test_the_table_of_frameworks_is_that_of_the_last_run():
    generate = generated()
    frameworks, rows = generate.support.checked((ROOT / "docs" / "conformance.md").read_text())
    assert {"numpy", "torch", "tensorflow", "jax", "dask"} <= set(frameworks)
    assert set(rows) >= set(generate.own_losses())
    table = generate.support.table(dict.fromkeys(generate.own_losses(), True))
    assert table.count("\n") == len(generate.own_losses()) + 2
    _, metrics = generate.support.checked((ROOT / "docs" / "conformance.md").read_text(), generate.support.METRICS)
    assert {"overlap", "hausdorff", "folding"} <= set(metrics) <= set(agnoreg.metrics.__all__)
    assert generate.support.metrics_table().count("\n") == len(metrics) + 2
    assert generate.support._word("1e-15 / **2e-3**") == "✗"
    assert generate.support._word("1e-15 / -") == "value only"


def test_no_line_of_a_docstring_is_taken_for_an_item_of_a_list():
    # "S. Nikolov et al." is the 19th item of a list to Sphinx, which drops the initial.
    texts = {path: path.read_text() for path in (ROOT / "agnoreg").rglob("*.py")}
    assert texts
    found = {str(path): re.findall(r"^ *[A-Za-z]\. [A-Z].*", text, flags=re.MULTILINE) for path, text in texts.items()}
    assert not {path: lines for path, lines in found.items() if lines}


def test_every_public_name_has_a_page():
    generate = generated()
    public = importlib.import_module("extensions.public")
    groups = [group for group in public.GROUPS if group.module != "agnoreg_keras"]
    paged = {id(target) for group in groups for target in public.members(group).values()}
    for module in (agnoreg, agnoreg.loss, agnoreg.functional, agnoreg.metrics):
        for name in module.__all__:
            target = getattr(module, name)
            if callable(target):
                assert id(target) in paged, f"{module.__name__}.{name}"
    assert generate.described(agnoreg.LNCC)["kernel_size"].startswith("Size of the window")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


def adapter_environment():
    """Return the environment of a process that has the toy adapter of the page on adapters installed."""
    places = [str(ROOT / "docs" / "toy_adapter"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}


@pytest.mark.slow
def test_the_adapter_of_the_page_passes_the_conformance_suite():
    files = [str(ROOT / "conformance" / f"test_{name}.py") for name in ("adapter", "golden", "masks")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "--backend", "toyarrays"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=adapter_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 200
    assert "toyarrays" in done.stdout


def test_the_page_on_adapters_shows_the_adapter_that_is_tested():
    page = (ROOT / "docs" / "adapters.md").read_text()
    shown = re.findall(r"```\{literalinclude\} (toy_adapter/\S+)", page)
    assert shown == ["toy_adapter/toyarrays.py", "toy_adapter/agnoreg_toyarrays.py"]
    assert all((ROOT / "docs" / one).is_file() for one in shown)
    entry = (ROOT / "docs" / "toy_adapter" / "agnoreg_toyarrays.dist-info" / "entry_points.txt").read_text()
    assert 'toyarrays = "agnoreg_toyarrays:backend"' in page
    assert "toyarrays = agnoreg_toyarrays:backend" in entry


def test_every_link_of_the_documents_leads_somewhere():
    for path in (*ROOT.glob("*.md"), *written_pages()):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text()):
            # Sphinx makes the gallery, and fails where a page of it is missing.
            if not target.startswith(("gallery/", "../gallery/")):
                assert (path.parent / target).exists(), (path.name, target)


def test_what_a_tensor_of_tensorflow_cannot_do_is_what_is_expected_to_fail():
    specification = importlib.util.spec_from_file_location("page", ROOT / "tests" / "array_api" / "page.py")
    page = importlib.util.module_from_spec(specification)
    # A dataclass looks its module up.
    sys.modules["page"] = page
    try:
        specification.loader.exec_module(page)
    finally:
        del sys.modules["page"]
    reasons = page.reasons(page.XFAILS.read_text())
    tests = [test for reason in reasons for test in reason.tests]
    assert len(tests) == len(set(tests)) > 10
    assert all(reason.text and reason.tests for reason in reasons)
    assert all(re.match(r"array_api_tests/test_\w+\.py::\w+", test) for test in tests)
    listed = page.PAGE.read_text().split(page.START)[1].split(page.END)[0]
    assert listed.strip() == page.written(reasons).strip()
    # The numbers of the last run are stated by hand.
    assert f"{len(tests)} failed as expected" in page.PAGE.read_text()
