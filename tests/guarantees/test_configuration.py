"""Names and arguments in configurations, and the objects that they make."""

import json
import pickle

import pytest
from every import LOSSES, METRICS

import agnoreg
from agnoreg.loss.deform import BendingEnergy, GradientNorm
from agnoreg.loss.kernel import gaussian_kernel1d_sigma, rectangular


@pytest.mark.parametrize(("name", "near"), [("lnc", "lncc"), ("dise", "dice"), ("mutual", "known"), ("", "known")])
def test_an_unknown_name_lists_the_known_and_the_nearest(name, near):
    with pytest.raises(ValueError, match="Unknown loss") as error:
        agnoreg.build_loss({"name": name})
    assert near in str(error.value)
    assert all(known in str(error.value) for known in LOSSES)


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match=r"no argument 'kernelsize'\. Did you mean 'kernel_size'"):
        agnoreg.build_loss({"name": "lncc", "kernelsize": 3})


@pytest.mark.parametrize("name", METRICS)
def test_configuration_makes_the_same_object_again(name):
    loss = METRICS[name](name="mine", reduction="sum")
    again = METRICS[name].from_config(json.loads(json.dumps(loss.get_config())))
    assert again == loss
    assert hash(again) == hash(loss)
    assert pickle.loads(pickle.dumps(loss)) == loss


def test_fields_and_kernels_are_what_they_say():
    assert BendingEnergy().inputs == GradientNorm().inputs == 1
    assert rectangular(9).sum() == 9
    assert gaussian_kernel1d_sigma(2).sum() == pytest.approx(1)
