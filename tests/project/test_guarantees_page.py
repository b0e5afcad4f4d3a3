"""The page of guarantees names tests that exist, and every test of `tests/guarantees/`."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "guarantees.md"


def named():
    """Return the tests that the page names, as pairs of a path in `tests/` and a function."""
    return re.findall(r"`([\w/]+\.py)::(test_\w+)`", PAGE.read_text())


def functions_of(path):
    """Return the names of the tests in a file."""
    return {node.name for node in ast.parse(path.read_text()).body if getattr(node, "name", "").startswith("test_")}


def test_every_test_that_the_page_names_exists():
    assert named()
    missing = [f"{path}::{test}" for path, test in named() if test not in functions_of(TESTS / path)]
    assert not missing


def test_the_page_names_no_test_twice():
    assert len(set(named())) == len(named())


def test_every_test_of_a_guarantee_is_on_the_page():
    there = {(f"guarantees/{path.name}", test) for path in TESTS.glob("guarantees/*.py") for test in functions_of(path)}
    assert there
    assert not there - set(named())


def test_every_guarantee_is_a_sentence_with_a_test():
    guarantees = re.split(r"^- ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    assert guarantees
    for guarantee in guarantees:
        assert guarantee.splitlines()[0].endswith(".")
        assert "::test_" in guarantee
