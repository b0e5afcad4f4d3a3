"""The adjoint of each family of measures, by a dot product: of a map that is linear, or quadratic, in its input."""

import numpy as np
import pytest

from agnoreg.engine.argnums import gradients_of
from agnoreg.engine.function import evaluate
from agnoreg.measures.bending import bending_measure
from agnoreg.measures.families.histogram import JointHistogram
from agnoreg.measures.families.local_moments import LocalMoments
from agnoreg.measures.families.pointwise import Pointwise
from agnoreg.measures.families.ratio import RatioOfSums
from agnoreg.measures.families.stencil import Stencil
from agnoreg.measures.gradient_norm import gradient_measure

SHAPE = (2, 7, 6, 5)


class Product(Pointwise):
    """The mean of ``t p``."""

    def term(self, xp, t, p):
        return t * p

    def derivative(self, xp, t, p, index):
        return p if index == 0 else t


class SumOfProducts(RatioOfSums):
    """The sum of ``t p + 2 t + 3 p``."""

    terms = ("tp", "t", "p")

    def ratio(self, xp, sums, count):
        ones = xp.ones_like(sums["tp"])
        return sums["tp"] + 2 * sums["t"] + 3 * sums["p"], {"tp": ones, "t": 2 * ones, "p": 3 * ones}


class CrossMoment(LocalMoments):
    """The mean of the second moment of both images in windows of three sizes."""

    own_taps = ((1.0, 1.0, 1.0), (1.0, 2.0, 1.0), (1.0, 1.0))

    def of_moments(self, xp, m, centres, here, weights, wrt):
        mask = xp.astype(here, m.t.dtype) + 0.0 * m.t if weights is None else weights
        if wrt is None:
            return m.tp * mask, ()
        sums = [0.5 * mask]
        for index in wrt:
            sums += [0.0 * mask, 0.5 * mask * (m.p if index == 0 else m.t)]
        return m.tp * mask, tuple(sums)


class FilteredProduct(Stencil):
    """The mean of the products of two filters of both images."""

    def filters(self):
        return [self.along(0, (1.0, -2.0, 0.5)), ((0.25, 0.5, 0.25), None, (1.0, 2.0, 3.0, 4.0, 5.0))]

    def local(self, xp, t, p):
        return t[0] * p[1] + 2 * t[1] * p[0]

    def derivatives(self, xp, t, p, index):
        return (p[1], 2 * p[0]) if index == 0 else (2 * t[1], t[0])


def value_and_gradient(measure, arrays, index, mask):
    _, (gradient,) = gradients_of(measure, arrays, (index,), False, {"mask": mask})
    return evaluate(measure, *arrays, masks={"mask": mask}), gradient


def masks(rng, shape):
    region = (np.arange(shape[1]) < 6).reshape(1, -1, 1, 1) * np.ones(shape)
    return {"no mask": None, "a mask": region > 0, "weights": region * rng.uniform(0.5, 2.0, size=shape)}


@pytest.mark.parametrize("small", [False, True], ids=["whole", "in slabs"])
@pytest.mark.parametrize("masked", ["no mask", "a mask", "weights"])
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("family", [Product, SumOfProducts, CrossMoment, FilteredProduct])
def test_the_gradient_of_a_linear_map_is_its_adjoint(rng, request, family, index, masked, small):
    request.getfixturevalue("small_slabs" if small else "no_kernels")
    measure, mask = family(), masks(rng, SHAPE)[masked]
    pair, direction = list(rng.normal(size=(2, *SHAPE))), rng.normal(size=SHAPE)
    value, gradient = value_and_gradient(measure, tuple(pair), index, mask)
    along = np.sum(gradient * direction, axis=(1, 2, 3))
    pair[index] = pair[index] + direction
    moved = evaluate(measure, *pair, masks={"mask": mask})
    np.testing.assert_allclose(moved - value, along, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("masked", ["no mask", "a mask"])
@pytest.mark.parametrize("stencil", ["central", "compact"])
@pytest.mark.parametrize("measure", [gradient_measure, bending_measure])
def test_the_gradient_of_a_quadratic_energy_is_its_bilinear_form(rng, no_kernels, measure, stencil, masked):
    measure = measure(stencil=stencil, spacing=(0.5, 1.0, 2.0))
    u, v = rng.normal(size=(2, *SHAPE, 3))
    mask = masks(rng, SHAPE)[masked]
    energy, gradient = value_and_gradient(measure, (u,), 0, mask)
    both, other = (evaluate(measure, x, masks={"mask": mask}) for x in (u + v, v))
    np.testing.assert_allclose(np.sum(gradient * v, axis=(1, 2, 3, 4)), both - energy - other, rtol=1e-10)


class Weighted(JointHistogram):
    """A linear function of the joint histogram."""

    def of_histogram(self, xp, joint):
        matrix = xp.reshape(xp.arange(float(self.num_bins**2), dtype=joint.dtype), (1, self.num_bins, self.num_bins))
        return xp.sum(joint * matrix, axis=(1, 2)), matrix + 0.0 * joint


@pytest.mark.parametrize("index", [0, 1])
def test_the_gradient_of_a_histogram_is_its_slope(rng, no_kernels, index):
    measure, step = Weighted(num_bins=7), 1e-6
    pair, direction = list(rng.uniform(0.05, 0.95, size=(2, *SHAPE))), rng.normal(size=SHAPE)
    _, gradient = value_and_gradient(measure, tuple(pair), index, None)
    ends = []
    for sign in (1, -1):
        moved = list(pair)
        moved[index] = pair[index] + sign * step * direction
        ends.append(evaluate(measure, *moved))
    np.testing.assert_allclose(
        np.sum(gradient * direction, axis=(1, 2, 3)), (ends[0] - ends[1]) / (2 * step), rtol=1e-7
    )
