"""Options of the regularisers: spacing, dimensions and the order of axes."""

import itertools

import numpy as np
import pytest

import agnoreg
from agnoreg import functional

REGULARISERS = {"gradient": functional.gradient_norm, "bending": functional.bending_energy}


@pytest.mark.parametrize("name", REGULARISERS)
def test_axes_may_change_places_together_with_spacing_and_components(rng, name):
    field, spacing = rng.normal(size=(2, 6, 7, 8, 3)), (0.7, 1.5, 2.0)
    expected = REGULARISERS[name](field, spacing=spacing)
    for order in itertools.permutations(range(3)):
        turned = field.transpose(0, *(axis + 1 for axis in order), 4)[..., order]
        found = REGULARISERS[name](turned, spacing=[spacing[axis] for axis in order])
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "spacing", [(1.0, 2.0), (1.0, 1.0, 1.0, 1.0), 0.0, -1.0, (1.0, 0.0, 1.0), "1", None, (1, 2, "a")]
)
def test_a_spacing_that_does_not_fit_is_refused(spacing):
    for cls in (agnoreg.loss.deform.GradientNorm, agnoreg.loss.deform.BendingEnergy):
        with pytest.raises(ValueError, match="spacing must be a positive number, or one for each of 3 axes"):
            cls(spacing=spacing)


@pytest.mark.parametrize("name", REGULARISERS)
def test_the_same_physical_field_costs_the_same_at_1_and_2_mm(name):
    values = []
    for step in (1.0, 2.0):
        x, y, z = np.meshgrid(*[np.arange(0, 40, step)] * 3, indexing="ij")
        phase = x / 12 + y / 15 + z / 20
        # Of a spiral, every voxel costs the same, those at the border too.
        field = 3 * np.stack([np.sin(phase), np.cos(phase), 0 * phase], axis=-1)[None]
        values.append(REGULARISERS[name](field, spacing=step)[0])
    assert values[1] == pytest.approx(values[0], rel=0.02)


def test_quadratic_and_affine_fields_have_their_analytic_values(rng):
    steps = np.asarray([0.5, 1.5, 2.0])
    place = np.stack(np.meshgrid(*[np.arange(9)] * 3, indexing="ij"), axis=-1) * steps
    x, y, z = np.moveaxis(place, -1, 0)
    quadratic = np.stack([x**2 / 2, x * y, y * z + z**2], axis=-1)[None]
    affine = (place @ rng.normal(size=(3, 3)) + rng.normal(size=3))[None]
    for stencil in ("central", "compact"):
        # The Hessians' squared norms, mixed derivatives twice: 1, 2 and 2 + 4; the mean over the components.
        found = functional.bending_energy(quadratic, spacing=steps, stencil=stencil)
        assert found[0] == pytest.approx(9 / 3, rel=1e-12)
        assert functional.bending_energy(affine, spacing=steps, stencil=stencil)[0] < 1e-10


@pytest.mark.parametrize("name", REGULARISERS)
def test_compact_differences_see_a_checkerboard(name):
    sign = (-1.0) ** np.indices((7, 8, 9)).sum(axis=0)
    field = np.stack([sign] * 3, axis=-1)[None]
    assert REGULARISERS[name](field)[0] == 0.0
    # Along every axis a step of 2, and a second difference of 4.
    expected = {"gradient": 3 * 2.0**2, "bending": 3 * 4.0**2}[name]
    assert REGULARISERS[name](field, stencil="compact")[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", REGULARISERS)
def test_a_plane_costs_what_it_does_as_a_volume(rng, name):
    plane = rng.normal(size=(2, 9, 8, 2))
    volume = np.zeros((2, 6, 9, 8, 3))
    volume[..., 1:] = plane[:, None]
    for stencil in ("central", "compact"):
        found = REGULARISERS[name](plane, spatial_dims=2, spacing=(1.5, 2.0), stencil=stencil)
        same = REGULARISERS[name](volume, spacing=(9.0, 1.5, 2.0), stencil=stencil)
        # The mean over components counts one more, of zeros.
        np.testing.assert_allclose(found * 2 / 3, same, rtol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", REGULARISERS)
def test_components_may_come_first(backend, rng, name, dims):
    field = rng.normal(size=(2, *(8, 7, 9)[:dims], dims))
    last = agnoreg.build_loss({"name": name, "spatial_dims": dims})
    first = agnoreg.build_loss({"name": name, "spatial_dims": dims, "data_format": "channels_first"})
    value, gradient = agnoreg.value_and_grad(last, backend.from_numpy(field))
    found, turned = agnoreg.value_and_grad(first, backend.from_numpy(np.moveaxis(field, -1, 1).copy()))
    np.testing.assert_allclose(backend.to_numpy(found), backend.to_numpy(value), rtol=1e-12)
    np.testing.assert_allclose(np.moveaxis(backend.to_numpy(turned), 1, -1), backend.to_numpy(gradient), atol=1e-14)


@pytest.mark.parametrize(
    ("options", "shape", "layout"),
    [
        ({}, (1, 8, 8, 8, 2), r"\(batch, dim1, dim2, dim3, 3\)"),
        ({}, (1, 3, 8, 8, 8), r"\(batch, dim1, dim2, dim3, 3\)"),
        ({"data_format": "channels_first"}, (1, 8, 8, 8, 3), r"\(batch, 3, dim1, dim2, dim3\)"),
        ({"spatial_dims": 2}, (1, 8, 8, 8, 3), r"\(batch, dim1, dim2, 2\)"),
        ({"spatial_dims": 1, "data_format": "channels_first"}, (1, 8, 1), r"\(batch, 1, dim1\)"),
    ],
)
def test_a_field_of_another_layout_is_refused_and_the_right_one_named(options, shape, layout):
    for function in REGULARISERS.values():
        with pytest.raises(ValueError, match=layout):
            function(np.zeros(shape), **options)


@pytest.mark.parametrize(
    "options", [{"spatial_dims": 4}, {"spatial_dims": "3"}, {"data_format": "BCDHW"}, {"stencil": "wide"}]
)
def test_an_option_that_is_unknown_is_refused_and_the_known_ones_named(options):
    with pytest.raises(ValueError, match="must be one of"):
        agnoreg.loss.deform.GradientNorm(**options)
