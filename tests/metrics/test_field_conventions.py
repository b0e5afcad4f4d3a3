"""Each convention of fields against a plain writing of the tool's own formula, for one field without a batch.

Learn2Reg's evaluation is in no registry, and TransMorph's is a script; VoxelMorph and ICON bring more than a test
needs. So the formulas are written down here from the tools' source, faults included. SimpleITK is asked itself.
"""

import numpy as np
import pytest
from fields import random_field

from agnoreg.metrics import folding, jacobian_determinant, nondiffeomorphic_volume, sdlogj
from conformance.reference_metrics import digital_determinants, positions

FOLDED = random_field(0, (1, 9, 8, 10), 0.7)
#: Determinants near 1, the field of a registration.
SMOOTH = 0.03 * FOLDED


def determinant_of(rows):
    """Return the determinant of ``rows[axis][..., component]`` at every voxel."""
    return np.linalg.det(np.stack(rows, axis=-2))


# --- Learn2Reg, LUMIR -------------------------------------------------------------------------------------------------


def learn2reg_determinant(u):
    """Return central differences with zeros beyond the image, plus the identity, of all but two voxels at each end."""
    rows = []
    for axis in range(3):
        padded = np.pad(u, [(1, 1) if other == axis else (0, 0) for other in range(4)])
        ahead, behind = (
            np.moveaxis(np.moveaxis(padded, axis, 0)[part], 0, axis) for part in (slice(2, None), slice(-2))
        )
        rows.append((ahead - behind) / 2 + np.eye(3)[axis])
    return determinant_of(rows)[2:-2, 2:-2, 2:-2]


def learn2reg(u, mask):
    """Return what the evaluation calls SDlogJ and num_foldings."""
    raised = (learn2reg_determinant(u) + 3).clip(0.000000001, 1000000000)
    logs = np.ma.MaskedArray(np.log(raised), 1 - mask[2:-2, 2:-2, 2:-2])
    return logs.std(), (raised <= 0).sum()


@pytest.mark.parametrize("name", ["learn2reg", "lumir"])
@pytest.mark.parametrize("u", [FOLDED, SMOOTH], ids=["folded", "smooth"])
def test_learn2reg_s_numbers(u, name):
    mask = np.random.default_rng(1).random(u.shape[1:-1]) < 0.6
    spread, folds = learn2reg(u[0], mask.astype(np.uint8))
    found = sdlogj(u, mask=mask, convention=name)
    assert found.value[0] == pytest.approx(spread, rel=1e-12)
    assert found.left_out[0] == 0
    assert folding(u, mask=mask, convention=name).count[0] == folds
    expected = learn2reg_determinant(u[0])
    np.testing.assert_allclose(jacobian_determinant(u, convention=name)[0], expected, atol=1e-12)


def test_learn2reg_counts_no_fold_and_a_quarter_of_the_deviation_which_ours_corrects():
    assert folding(FOLDED, convention="learn2reg").count[0] == 0
    assert folding(FOLDED).count[0] > 30
    theirs, ours = sdlogj(SMOOTH, convention="learn2reg").value[0], sdlogj(SMOOTH[:, 1:-1, 1:-1, 1:-1]).value[0]
    assert theirs / ours == pytest.approx(0.25, rel=0.02)
    # A field that folds everywhere alike has the best score there is.
    turned = np.zeros((1, 8, 8, 8, 3))
    turned[..., 0] = -1.5 * np.arange(8.0)[:, None, None]
    assert sdlogj(turned, convention="learn2reg").value[0] == 0
    assert np.isnan(sdlogj(turned).value[0])
    assert folding(turned).share[0] == 1


def test_lumir_s_volume_in_percent_is_ours():
    mask = np.random.default_rng(2).random(FOLDED.shape[1:-1]) < 0.6
    inside = mask[1:-1, 1:-1, 1:-1]
    turned = np.maximum(0, -digital_determinants(FOLDED[0])).sum(axis=-1) / 6 / 2
    expected = 100 * (turned * inside).sum() / inside.sum()
    for name in (None, "lumir"):
        found = nondiffeomorphic_volume(FOLDED, mask=mask, convention=name)
        assert found.percent[0] == pytest.approx(expected, rel=1e-12)


# --- VoxelMorph, TransMorph -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["voxelmorph", "transmorph"])
@pytest.mark.parametrize("shape", [(1, 7, 9), (1, 5, 6, 7)], ids=["2-D", "3-D"])
def test_the_determinant_of_numpy_gradient_whole_border_included(shape, name):
    u = random_field(3, shape, 0.7)
    dims = len(shape) - 1
    expected = determinant_of(np.gradient(positions(u[0]), axis=tuple(range(dims))))
    np.testing.assert_allclose(jacobian_determinant(u, convention=name)[0], expected, atol=1e-12)
    found = folding(u, convention=name)
    assert found.voxels[0] == expected.size
    assert found.count[0] == (expected <= 0).sum() > 0
    assert found.share[0] == (expected <= 0).sum() / np.prod(shape)
    mask = np.random.default_rng(4).random(shape[1:]) < 0.5
    assert folding(u, mask=mask, convention=name).count[0] == (expected[mask] <= 0).sum()


# --- SimpleITK --------------------------------------------------------------------------------------------------------


def test_our_determinant_is_simpleitk_s_inside_the_border_in_mm():
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    spacing = (1.0, 2.0, 0.5)
    # Arrays of SimpleITK's have their axes in reverse; vectors are along x, y and z, in mm.
    image = itk.GetImageFromArray(np.ascontiguousarray(FOLDED[0].transpose(2, 1, 0, 3)), isVector=True)
    image.SetSpacing(spacing)
    expected = itk.GetArrayFromImage(itk.DisplacementFieldJacobianDeterminant(image)).transpose(2, 1, 0)
    found = jacobian_determinant(FOLDED, spacing=spacing, units="mm")[0]
    np.testing.assert_allclose(found, expected[1:-1, 1:-1, 1:-1], rtol=1e-10, atol=1e-12)


# --- ICON -------------------------------------------------------------------------------------------------------------


def icon_flips(phi):
    """Return how many cells are turned over, and of how many: by backward differences, of slices by forward ones."""
    dims = phi.ndim - 1
    rows = []
    for axis in range(dims):
        if dims == 3:
            here = phi[1:, 1:, 1:]
            other = phi[tuple(slice(None, -1) if k == axis else slice(1, None) for k in range(3))]
            rows.append(here - other)
        else:
            here = phi[(slice(None, -1),) * dims]
            rows.append(phi[tuple(slice(1, None) if k == axis else slice(None, -1) for k in range(dims))] - here)
    return int((determinant_of(rows) < 0).sum()), rows[0][..., 0].size


@pytest.mark.parametrize("shape", [(1, 30), (1, 7, 9), (1, 5, 6, 7)], ids=["1-D", "2-D", "3-D"])
def test_icon_s_flips(shape):
    u = random_field(5, shape, {2: 1.5, 3: 0.7, 4: 0.5}[len(shape)])
    flips, cells = icon_flips(positions(u[0]))
    found = folding(u, convention="icon")
    assert found.count[0] == flips > 0
    assert found.voxels[0] == cells
    assert np.isnan(found.digital_count[0])


def test_a_cell_of_no_volume_is_no_flip_of_icon_s_and_a_fold_of_ours():
    u = np.zeros((1, 6, 6, 6, 3))
    u[..., 0] = -np.arange(6.0)[:, None, None]
    assert folding(u, convention="icon").count[0] == 0
    assert folding(u).share[0] == 1


def test_a_tool_that_does_not_compute_a_measure_has_no_convention_of_it():
    with pytest.raises(ValueError, match="convention of sdlogj must be one of learn2reg, lumir, got 'icon'"):
        sdlogj(SMOOTH, convention="icon")
    with pytest.raises(ValueError, match="convention of nondiffeomorphic_volume must be one of lumir"):
        nondiffeomorphic_volume(SMOOTH, convention="learn2reg")
    with pytest.raises(ValueError, match=r"at least 5 voxels along each axis, got \(4, 6, 6\)"):
        folding(np.zeros((1, 4, 6, 6, 3)), convention="learn2reg")
