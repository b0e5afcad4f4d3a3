"""The conformance suite as the author of an adapter runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

import agnoreg

ROOT = Path(agnoreg.__file__).parents[1]


def run(*arguments):
    """Run the suite in an interpreter of its own and return its exit code and what it prints."""
    command = [sys.executable, "-m", "pytest", "conformance", "-q", "-p", "no:cacheprovider", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_the_table_is_written(tmp_path):
    code, printed = run("--backend", "numpy", "-k", "test_golden", "--report", tmp_path / "table.md")
    assert code == 0, printed
    table = (tmp_path / "table.md").read_text()
    assert "Golden vectors" in table
    assert "lncc" in table
    assert "numpy" in table


@pytest.mark.slow
def test_an_absent_backend_is_skipped_by_name(tmp_path):
    for name in ("cupy",):
        if agnoreg.available_backends()[name] == "ok":
            continue
        code, printed = run("--backend", name, "-k", "can_be_used or ssd")
        assert code == 0, printed
        assert "SKIPPED" in printed
        assert f"{name} " in printed
        assert " passed" not in printed.splitlines()[-1]


def test_an_unknown_backend_is_an_error():
    code, printed = run("--backend", "nonesuch")
    assert code != 0
    assert "nonesuch" in printed
