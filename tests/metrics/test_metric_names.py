"""Names of metrics: a metric that is looked for by another name is found."""

import dataclasses
import re

import pytest

from agnoreg import metrics


def test_another_name_says_what_computes_the_metric():
    for name, meant in metrics._MEANT.items():
        with pytest.raises(AttributeError, match=re.escape(f"has no attribute {name!r}: use agnoreg.metrics.{meant}")):
            getattr(metrics, name)
        function, _, member = meant.partition("(...).")
        assert function.partition("(")[0] in metrics.__all__
        assert not member or member in {field.name for field in dataclasses.fields(metrics.Overlap)}


def test_a_name_that_nothing_has_is_refused_as_ever():
    with pytest.raises(AttributeError, match=r"module 'agnoreg.metrics' has no attribute 'nonsense'$"):
        _ = metrics.nonsense
    assert not hasattr(metrics, "__path_of_nothing__")
