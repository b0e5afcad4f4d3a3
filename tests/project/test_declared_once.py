"""A measure is declared once: what its function, its classes, the registry and the documents say of it is one thing."""

import inspect
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from every import LOSSES
from mypy import api

import agnoreg
from agnoreg import functional
from agnoreg.engine.masks import MASKS
from agnoreg.objects.mixins import metric_of
from agnoreg.objects.options import Options
from conformance.cases import DEFAULTS, MASKED

ROOT = Path(agnoreg.__file__).parents[1]
FUNCTIONS = {name: one for name in functional.__all__ if hasattr(one := getattr(functional, name), "measure")}
#: From a registered name to the options of its measure.
OPTIONS = {
    name: next(one for one in cls.__mro__ if issubclass(one, Options) and not issubclass(one, agnoreg.Loss))
    for name, cls in LOSSES.items()
}


def defaults(callable_):
    """Return the options of a function or class and their defaults."""
    parameters = inspect.signature(callable_).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_the_options_of_a_registered_loss_with_the_same_defaults(name):
    own = {key: value for key, value in defaults(FUNCTIONS[name]).items() if key not in MASKS}
    assert own in [defaults(options) for options in OPTIONS.values()]


@pytest.mark.parametrize("name", LOSSES)
def test_metric_and_loss_have_the_options_of_their_measure(name):
    for cls in (metric_of(LOSSES[name]), LOSSES[name]):
        given = defaults(cls)
        assert {key: given[key] for key in defaults(OPTIONS[name])} == defaults(OPTIONS[name])


@pytest.mark.parametrize("name", LOSSES)
def test_every_registered_loss_is_everywhere(name):
    cls, metric = LOSSES[name], metric_of(LOSSES[name])
    assert getattr(agnoreg, cls.short) is cls
    assert {cls.__name__, metric.__name__} <= set(agnoreg.loss.__all__)
    assert any(getattr(getattr(agnoreg.loss, room), cls.__name__, None) is cls for room in ("image", "label", "deform"))
    assert cls.title
    assert f"`{name}`" in (ROOT / "docs" / "losses.md").read_text()
    for one in {cls, metric}:
        assert any(case.cls == one.__name__ for case in DEFAULTS)
    assert any(case.cls in (cls.__name__, metric.__name__) for case in MASKED)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_help_describes_every_argument_once_and_nothing_else(name):
    text = FUNCTIONS[name].__doc__
    section = text.split("Parameters\n----------\n")[1].split("\n\n")[0]
    described = [word for line in re.findall(r"^\S.*$", section, flags=re.MULTILINE) for word in line.split(", ")]
    assert sorted(described) == sorted(inspect.signature(FUNCTIONS[name]).parameters)
    assert "Returns\n-------" in text


@pytest.mark.parametrize("name", LOSSES)
def test_the_text_of_a_class_describes_the_options_of_its_measure_once(name):
    for cls in (metric_of(LOSSES[name]), LOSSES[name]):
        section = inspect.getdoc(cls).split("Parameters\n----------\n")[1].split("\n\n")[0]
        described = [word for line in re.findall(r"^\S.*$", section, flags=re.MULTILINE) for word in line.split(", ")]
        assert len(described) == len(set(described))
        assert {one.name for one in fields(cls)} == set(described)


def mypy(file):
    """Return mypy's revealed types, in order, and all that it says."""
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    said, _, _ = api.run([*config, str(file)])
    return re.findall(r'Revealed type is "(.*)"', said), said


def pyright(file):
    """Return the same of pyright, in the edition that brings its own Node.js."""
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson", str(file)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=file.parent, timeout=300)
    said = "\n".join(one["message"] for one in json.loads(ran.stdout)["generalDiagnostics"])
    return re.findall(r'^Type of "[^"]*" is "(.*)"$', said, flags=re.MULTILINE), said


ERRORS = {
    mypy: ('Unexpected keyword argument "alpa"', 'has incompatible type "str"; expected "bool"'),
    pyright: ('No parameter named "alpa"', '"Literal[\'no\']" is not assignable to "bool"'),
}


@pytest.mark.parametrize("checker", ERRORS)
def test_a_type_checker_sees_the_signatures_that_there_are(checker, tmp_path):
    found = {f"functional.{name}": one for name, one in FUNCTIONS.items()}
    for cls in {cls for name in LOSSES for cls in (LOSSES[name], metric_of(LOSSES[name]))}:
        found[f"agnoreg.loss.{cls.__name__}.__init__"] = cls
    lines = ["import agnoreg", "from agnoreg import functional", *(f"reveal_type({name})" for name in found)]
    lines += ["functional.tversky(0, 0, alpa=0.3)", 'agnoreg.loss.DiceScore(binary="no")']
    file = tmp_path / "reveal.py"
    file.write_text("\n".join(lines) + "\n")
    revealed, said = checker(file)
    for (name, one), text in zip(found.items(), revealed, strict=True):
        assert set(re.findall(r"(\w+): [^=:]*? =", text)) == set(defaults(one)), name
    for error in ERRORS[checker]:
        assert error in said
