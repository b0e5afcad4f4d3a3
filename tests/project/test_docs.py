"""The documents say what the code does."""

import doctest
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 12
    if agnoreg.available_backends()["cupy"] != "ok":
        blocks = [block for block in blocks if "cupy" not in block]
    inputs = (
        "import numpy as np\n"
        "fixed, warped, fixed_label, warped_label = np.random.rand(4, 1, 8, 8, 8)\n"
        "ddf = np.random.rand(1, 8, 8, 8, 3)\n"
    )
    script = tmp_path / "readme.py"
    script.write_text("\n".join(inputs + block if "image=(fixed" in block else block for block in blocks))
    done = subprocess.run([sys.executable, "-W", "error", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_link_of_the_documents_leads_somewhere():
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text()):
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
