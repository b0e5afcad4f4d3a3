"""Functions of arrays in words, as compiled code keeps them."""

import json

import numpy as np
import pytest
from every import LOSSES

from agnoreg.engine.words import from_words, to_words


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_made_of_the_words_of_a_loss_is_equal_to_it(name):
    function = LOSSES[name]().measure()
    words = to_words(function)
    made = from_words(words)
    assert made == function
    assert to_words(made) == words


def test_numbers_keep_every_digit_and_those_of_numpy_are_numbers():
    given = (0.1, -np.inf, np.float32(0.5), None, True, (1, "a"))
    assert from_words(to_words(given)) == (0.1, -np.inf, 0.5, None, True, (1, "a"))


@pytest.mark.parametrize("value", [lambda: None, object(), [1.0], {"a": 1}, np.zeros(2)])
def test_what_is_no_plain_function_has_no_words(value):
    with pytest.raises(TypeError, match="cannot be put into words"):
        to_words((value,))


@pytest.mark.parametrize("name", ["os:system", "subprocess:Popen", "builtins:eval", "agnoreg:LNCC"])
def test_words_name_nothing_but_functions_of_arrays(name):
    with pytest.raises(TypeError, match=f"names {name} as a loss, which is none"):
        from_words(json.dumps({"class": name, "args": "true"}))
