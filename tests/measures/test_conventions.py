"""Other libraries' conventions give the other libraries' numbers, which the installed libraries say themselves."""

import warnings

import numpy as np
import pytest
import SimpleITK
import torch

import agnoreg
from agnoreg import functional
from agnoreg.loss.deform import BendingEnergy, GradientNorm
from agnoreg.loss.image import (
    GlobalMutualInformation,
    GlobalMutualInformationLoss,
    LocalNormalizedCrossCorrelation,
    LocalNormalizedCrossCorrelationLoss,
)
from agnoreg.loss.label import DiceLoss, DiceScore

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import monai.losses
    import neurite.nn.functional as neurite

# MONAI's own.
pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")

#: Images and fields of one to three dimensions, channels first.
SHAPES = {1: (2, 1, 31), 2: (2, 1, 15, 12), 3: (2, 1, 9, 10, 8)}
SEVERAL = {2: (2, 3, 11, 13), 3: (2, 2, 8, 9, 7)}
DIMS = [1, 2, 3]
FIELDS = {1: (2, 1, 9), 2: (2, 2, 7, 9), 3: (2, 3, 6, 7, 8)}

DEFINED = {
    "lncc": ("deepreg", "monai", "voxelmorph", "ants"),
    "mutual_information": ("deepreg", "monai"),
    "dice": ("deepreg", "monai", "voxelmorph", "ants"),
    "bending_energy": ("deepreg", "monai"),
    "gradient_norm": ("deepreg", "monai", "voxelmorph"),
}
CLASSES = {
    "lncc": (LocalNormalizedCrossCorrelation, LocalNormalizedCrossCorrelationLoss),
    "mutual_information": (GlobalMutualInformation, GlobalMutualInformationLoss),
    "dice": (DiceScore, DiceLoss),
    "bending_energy": (BendingEnergy,),
    "gradient_norm": (GradientNorm,),
}
PAIRS = [(measure, convention) for measure, conventions in DEFINED.items() for convention in conventions]
UNDEFINED = [
    (measure, convention)
    for measure, conventions in DEFINED.items()
    for convention in ("monai", "voxelmorph", "ants", "itk", "", None)
    if convention not in conventions
]


def similar(rng, shape):
    """Return two images that resemble each other."""
    t = rng.random(shape)
    return t, 0.6 * t + 0.4 * rng.random(shape)


#: What one image may be to another. Flat intensities are exact in binary: ITK's running sums round others.
KINDS = {
    "identical": lambda rng, t: (t, t),
    "inverted": lambda rng, t: (t, 1 - t),
    "noise": lambda rng, t: (t, rng.random(t.shape)),
    "flat": lambda rng, t: (np.full_like(t, 0.5), t),
    "both flat": lambda rng, t: (np.full_like(t, 0.5), np.full_like(t, 0.25)),
    "half flat": lambda rng, t: (np.where(np.arange(t.shape[-1]) < t.shape[-1] // 2, 0.25, t), t),
    "scaled by 0.01": lambda rng, t: (0.01 * t, 0.01 * (0.6 * t + 0.4 * rng.random(t.shape))),
}


def broadcast_samples(function, *arrays, dtype=torch.float64):
    """Return a library's number of every sample by itself, ``(B,)``."""
    tensors = [torch.tensor(x, dtype=dtype) for x in arrays]
    return np.asarray([float(function(*(x[i : i + 1] for x in tensors))) for i in range(len(arrays[0]))])


def slope(function, fixed, moving):
    """Return the gradient of a library's number with respect to its last array, by autograd."""
    leaf = torch.tensor(moving, dtype=torch.float64, requires_grad=True)
    function(*(torch.tensor(x, dtype=torch.float64) for x in fixed), leaf).backward()
    return leaf.grad.numpy()


def agree(found, expected, rtol=1e-4, atol=0.0):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def agree_in_gradient(found, expected):
    assert np.max(np.abs(expected)) > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.max(np.abs(expected)))


# --- LNCC -------------------------------------------------------------------------------------------------------------


def monai_lncc(dims, **options):
    loss = monai.losses.LocalNormalizedCrossCorrelationLoss(spatial_dims=dims, **options)
    return lambda t, p: -loss(p, t)


def neurite_ncc(size):
    return lambda t, p: neurite.ncc(t, p, window_size=size).sum()


def itk_lncc(fixed, moving, radius, pixel=SimpleITK.sitkFloat64):
    """Return ANTs' neighbourhood correlation of two images, as ITK evaluates it without moving one."""
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsANTSNeighborhoodCorrelation(radius)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetInitialTransform(SimpleITK.Transform(fixed.ndim, SimpleITK.sitkIdentity))
    return -method.MetricEvaluate(*(SimpleITK.Cast(SimpleITK.GetImageFromArray(x), pixel) for x in (fixed, moving)))


def itk_channels(t, p, radius):
    """Return the mean over the channels of each sample, channels first."""
    return np.asarray(
        [np.mean([itk_lncc(*pair, radius) for pair in zip(*two, strict=True)]) for two in zip(t, p, strict=True)]
    )


def ours(t, p, **options):
    return functional.lncc(t, p, spatial_dims=t.ndim - 2, data_format="channels_first", **options)


@pytest.mark.parametrize("kernel_type", ["rectangular", "triangular", "gaussian"])
@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9])
@pytest.mark.parametrize("dims", DIMS)
def test_lncc_is_monais_in_every_window(rng, dims, kernel_size, kernel_type):
    t, p = similar(rng, SHAPES[dims])
    window = {"kernel_size": kernel_size, "kernel_type": kernel_type}
    expected = broadcast_samples(monai_lncc(dims, **window), t, p)
    agree(ours(t, p, **window, convention="monai"), expected)


@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9])
@pytest.mark.parametrize("dims", DIMS)
def test_lncc_is_voxelmorphs_in_every_window(rng, dims, kernel_size):
    t, p = similar(rng, SHAPES[dims])
    agree(
        ours(t, p, kernel_size=kernel_size, convention="voxelmorph"), broadcast_samples(neurite_ncc(kernel_size), t, p)
    )


def test_lncc_is_voxelmorphs_in_a_window_with_a_width_for_each_axis(rng):
    t, p = similar(rng, SHAPES[3])
    agree(ours(t, p, kernel_size=(3, 7, 5), convention="voxelmorph"), broadcast_samples(neurite_ncc([3, 7, 5]), t, p))


@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9])
@pytest.mark.parametrize("dims", [2, 3])
def test_lncc_is_ants_in_every_window(rng, dims, kernel_size):
    t, p = similar(rng, SHAPES[dims])
    agree(ours(t, p, kernel_size=kernel_size, convention="ants"), itk_channels(t, p, kernel_size // 2))


def test_a_window_of_ants_may_be_larger_than_the_image(rng):
    t, p = similar(rng, (1, 1, 5, 6, 7))
    agree(ours(t, p, kernel_size=11, convention="ants"), itk_channels(t, p, 5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("convention", ["monai", "voxelmorph", "ants"])
def test_lncc_is_the_librarys_whatever_the_images_are(rng, convention, dims, kind):
    t, p = KINDS[kind](rng, rng.random(SHAPES[dims]))
    expected = {
        "monai": lambda: broadcast_samples(monai_lncc(dims, kernel_size=5), t, p),
        "voxelmorph": lambda: broadcast_samples(neurite_ncc(5), t, p),
        "ants": lambda: itk_channels(t, p, 2),
    }[convention]()
    agree(ours(t, p, kernel_size=5, convention=convention), expected, atol=1e-12)


@pytest.mark.parametrize("convention", ["monai", "voxelmorph", "ants"])
@pytest.mark.parametrize("dims", SEVERAL)
def test_lncc_of_several_channels_is_the_librarys_wherever_they_are(rng, dims, convention):
    t, p = similar(rng, SEVERAL[dims])
    expected = {
        "monai": lambda: broadcast_samples(monai_lncc(dims, kernel_size=5), t, p),
        "voxelmorph": lambda: broadcast_samples(lambda *x: neurite.ncc(*x, window_size=5), t, p),
        "ants": lambda: itk_channels(t, p, 2),
    }[convention]()
    agree(ours(t, p, kernel_size=5, convention=convention), expected)
    last = [np.moveaxis(x, 1, -1) for x in (t, p)]
    options = {"kernel_size": 5, "spatial_dims": dims, "data_format": "channels_last", "convention": convention}
    agree(functional.lncc(*last, **options), expected)
    single = [functional.lncc(t[:, c], p[:, c], **options | {"data_format": None}) for c in range(t.shape[1])]
    agree(np.mean(single, axis=0), expected)


@pytest.mark.parametrize("convention", ["monai", "voxelmorph", "ants"])
def test_lncc_in_float32_is_the_librarys(rng, convention):
    t, p = (x.astype(np.float32) for x in similar(rng, (2, 1, 13, 14, 12)))
    expected = {
        "monai": lambda: broadcast_samples(monai_lncc(3, kernel_size=5), t, p, dtype=torch.float32),
        "voxelmorph": lambda: broadcast_samples(neurite_ncc(5), t, p, dtype=torch.float32),
        "ants": lambda: np.asarray([itk_lncc(a[0], b[0], 2, SimpleITK.sitkFloat32) for a, b in zip(t, p, strict=True)]),
    }[convention]()
    found = ours(t, p, kernel_size=5, convention=convention)
    assert found.dtype == np.float32
    agree(found, expected)


@pytest.mark.parametrize(("smooth_nr", "smooth_dr"), [(0.0, 1e-3), (1e-3, 1e-2), (1e-5, 1e-5)])
def test_monais_constants_can_be_chosen(rng, smooth_nr, smooth_dr):
    constants = {"smooth_nr": smooth_nr, "smooth_dr": smooth_dr}
    for kind in KINDS.values():
        t, p = kind(rng, rng.random(SHAPES[3]))
        expected = broadcast_samples(monai_lncc(3, **constants), t, p)
        agree(ours(t, p, kernel_size=3, convention="monai", **constants), expected, atol=1e-12)


@pytest.mark.parametrize("smooth_dr", [1e-8, 1e-2])
def test_voxelmorphs_constant_can_be_chosen(rng, smooth_dr):
    t, p = similar(rng, SHAPES[3])
    expected = broadcast_samples(lambda *x: neurite.ncc(*x, window_size=5, eps=smooth_dr), t, p)
    agree(ours(t, p, kernel_size=5, convention="voxelmorph", smooth_dr=smooth_dr), expected)


def test_a_window_scores_1_in_ants_where_it_is_too_flat_to_divide_by(rng):
    # ITK's bound lies at the product of the sums of squares, whatever the number of voxels.
    t, p = similar(rng, (1, 1, 6, 7, 8))
    values = []
    for scale in (1e-3, 1e-4, 6e-5, 1e-6):
        expected = itk_channels(scale * t, scale * p, 1)
        agree(ours(scale * t, scale * p, kernel_size=3, convention="ants"), expected)
        values.append(expected[0])
    assert values[0] < values[1] < values[2] == 1


def test_flat_windows_of_float32_score_1_in_ants():
    image = np.linspace(0, 1, 512, dtype=np.float32).reshape(1, 1, 8, 8, 8)
    for value in (0.1, 0.3, 1000.1):
        agree(ours(np.full_like(image, value), image, kernel_size=3, convention="ants"), 1.0, rtol=1e-6)


@pytest.mark.parametrize("kind", ["noise", "half flat", "scaled by 0.01"])
@pytest.mark.parametrize("kernel_type", ["rectangular", "triangular", "gaussian"])
@pytest.mark.parametrize("dims", DIMS)
def test_the_gradient_of_lncc_is_monais(rng, dims, kernel_type, kind):
    t, p = KINDS[kind](rng, rng.random(SHAPES[dims]))
    window = {"kernel_size": 5, "kernel_type": kernel_type}
    options = window | {"spatial_dims": dims, "data_format": "channels_first", "convention": "monai"}
    _, gradient = agnoreg.value_and_grad(LocalNormalizedCrossCorrelation(**options), t, p)
    agree_in_gradient(gradient, slope(monai_lncc(dims, **window), (t,), p))


@pytest.mark.parametrize("kind", ["noise", "half flat", "scaled by 0.01"])
@pytest.mark.parametrize("dims", DIMS)
def test_the_gradient_of_lncc_is_voxelmorphs(rng, dims, kind):
    t, p = KINDS[kind](rng, rng.random(SHAPES[dims]))
    options = {"kernel_size": 5, "spatial_dims": dims, "data_format": "channels_first", "convention": "voxelmorph"}
    _, gradient = agnoreg.value_and_grad(LocalNormalizedCrossCorrelation(**options), t, p)
    agree_in_gradient(gradient, slope(lambda *x: neurite.ncc(*x, window_size=5).mean(), (t,), p))


@pytest.mark.parametrize("kind", ["noise", "half flat"])
def test_the_gradient_of_lncc_is_that_of_the_value_that_itk_gives(rng, kind):
    t, p = KINDS[kind](rng, rng.random((5, 6, 7)))
    loss = LocalNormalizedCrossCorrelation(kernel_size=3, convention="ants")
    _, gradient = agnoreg.value_and_grad(loss, t[None], p[None])
    largest = np.max(np.abs(gradient))
    # Corners, an edge, faces and the inside: windows are cut off differently for each.
    for index in ((0, 0, 0), (4, 5, 6), (0, 0, 3), (0, 3, 3), (2, 0, 6), (2, 3, 4), (3, 2, 5)):
        step = np.zeros_like(p)
        step[index] = 1e-4
        expected = (itk_lncc(t, p + step, 1) - itk_lncc(t, p - step, 1)) / 2e-4
        assert abs(gradient[(0, *index)] - expected) < 1e-3 * largest


# --- mutual information -----------------------------------------------------------------------------------------------


def monai_information(**options):
    loss = monai.losses.GlobalMutualInformationLoss(**options)
    return lambda t, p: -loss(p, t)


@pytest.mark.parametrize("kind", KINDS)
def test_mutual_information_is_monais_whatever_the_images_are(rng, kind):
    t, p = KINDS[kind](rng, rng.random(SHAPES[3]))
    expected = broadcast_samples(monai_information(), t, p)
    agree(functional.mutual_information(t[:, 0], p[:, 0], convention="monai"), expected, atol=1e-9)


@pytest.mark.parametrize("options", [{"num_bins": 16}, {"num_bins": 32, "sigma_ratio": 1.0}, {"sigma_ratio": 0.25}])
@pytest.mark.parametrize("dims", SEVERAL)
def test_mutual_information_is_monais_with_several_channels_and_other_bins(rng, dims, options):
    t, p = similar(rng, SEVERAL[dims])
    expected = broadcast_samples(monai_information(**options), t, p)
    agree(functional.mutual_information(t, p, **options, convention="monai"), expected)


def test_mutual_information_in_float32_is_monais(rng):
    t, p = (x.astype(np.float32) for x in similar(rng, (2, 1, 12, 13, 14)))
    expected = broadcast_samples(monai_information(), t, p, dtype=torch.float32)
    agree(functional.mutual_information(t, p, convention="monai"), expected)


def test_the_gradient_of_mutual_information_is_monais(rng):
    t, p = similar(rng, SEVERAL[3])
    p = 1.2 * p - 0.1
    _, gradient = agnoreg.value_and_grad(GlobalMutualInformation(convention="monai"), t, p)
    agree_in_gradient(gradient, slope(monai_information(), (t,), p))


# --- Dice -------------------------------------------------------------------------------------------------------------


def monai_dice(**options):
    loss = monai.losses.DiceLoss(**options)
    return lambda t, p: 1 - loss(p, t)


@pytest.mark.parametrize("kernel", ["gaussian", "cauchy"])
@pytest.mark.parametrize("scales", [(0.0, 1.0, 2.0), (0.1, 0.4), (1.5,)])
@pytest.mark.parametrize("dims", [2, 3])
def test_dice_of_several_scales_is_monais_whose_gaussian_is_not_normalised(rng, dims, scales, kernel):
    t, p = torch.from_numpy(rng.random((2, 2, 3, *(8, 9, 10)[:dims])))
    p.requires_grad_()
    theirs = monai.losses.MultiScaleLoss(monai.losses.DiceLoss(), scales=list(scales), kernel=kernel)(t, p)
    theirs.backward()
    loss = DiceLoss(scales=scales, kernel=kernel, convention="monai", spatial_dims=dims, data_format="channels_first")
    value, gradient = agnoreg.value_and_grad(loss, t.numpy(), p.detach().numpy())
    agree(value, theirs.item())
    agree_in_gradient(gradient, p.grad.numpy())
    low, high = loss.value_range
    assert low <= value <= high
    full = np.ones(t.shape)
    assert low <= loss(full, full) <= high


def neurite_dice(t, p):
    return neurite.dice(t, p).sum()


def itk_dice(t, p):
    """Return the mean over the channels of each sample, channels first, each a mask whose voxels are labelled 1."""
    values = []
    for masks in zip(t, p, strict=True):
        single = []
        for pair in zip(*masks, strict=True):
            overlap = SimpleITK.LabelOverlapMeasuresImageFilter()
            overlap.Execute(*(SimpleITK.GetImageFromArray(x.astype(np.uint8)) for x in pair))
            single.append(overlap.GetDiceCoefficient(1))
        values.append(np.mean(single))
    return np.asarray(values)


def our_dice(t, p, **options):
    return functional.dice(t, p, spatial_dims=t.ndim - 2, data_format="channels_first", **options)


LIBRARY_DICE = {
    "monai": lambda t, p: broadcast_samples(monai_dice(), t, p),
    "voxelmorph": lambda t, p: broadcast_samples(neurite_dice, t, p),
    "ants": itk_dice,
}


@pytest.mark.parametrize("convention", LIBRARY_DICE)
@pytest.mark.parametrize("shape", [*SHAPES.values(), *SEVERAL.values()][1:])
def test_dice_of_masks_is_the_librarys(rng, shape, convention):
    t, p = ((x > 0.5) * 1.0 for x in similar(rng, shape))
    expected = LIBRARY_DICE[convention](t, p)
    agree(our_dice(t, p, convention=convention), expected)
    last = [np.moveaxis(x, 1, -1) for x in (t, p)]
    options = {"spatial_dims": len(shape) - 2, "data_format": "channels_last", "convention": convention}
    agree(functional.dice(*last, **options), expected)


@pytest.mark.parametrize("convention", LIBRARY_DICE)
def test_dice_of_one_channel_needs_no_axis_for_it(rng, convention):
    t, p = ((x > 0.5) * 1.0 for x in similar(rng, SHAPES[3]))
    agree(functional.dice(t[:, 0], p[:, 0], convention=convention), LIBRARY_DICE[convention](t, p))


@pytest.mark.parametrize("convention", ["monai", "voxelmorph"])
@pytest.mark.parametrize("kind", ["identical", "inverted", "noise", "both flat", "scaled by 0.01"])
def test_dice_of_soft_labels_is_the_librarys(rng, kind, convention):
    t, p = KINDS[kind](rng, rng.random(SEVERAL[3]))
    found = our_dice(t, p, convention=convention)
    agree(found, LIBRARY_DICE[convention](t, p))


@pytest.mark.parametrize("convention", LIBRARY_DICE)
def test_dice_of_empty_masks_is_the_librarys(rng, convention):
    full = (rng.random((1, 1, 6, 7)) > 0.5) * 1.0
    empty = np.zeros_like(full)
    for t, p in ((empty, empty), (empty, full), (full, empty), (full, 1 - full), (full, full)):
        found = our_dice(t, p, convention=convention)
        agree(found, LIBRARY_DICE[convention](t, p))


def test_channels_that_are_empty_or_small_count_as_much_as_others(rng):
    t, p = ((x > 0.5) * 1.0 for x in similar(rng, (2, 3, 6, 7, 8)))
    t[:, 1] = p[:, 1] = 0
    p[:, 2] *= rng.random(p[:, 2].shape) > 0.9
    for convention in ("monai", "voxelmorph"):
        found = our_dice(t, p, convention=convention)
        agree(found, LIBRARY_DICE[convention](t, p))
        assert abs(found - functional.dice(t, p)).min() > 0.01


@pytest.mark.parametrize(("smooth_nr", "smooth_dr"), [(0.0, 1e-3), (1.0, 1.0)])
def test_the_constants_of_dice_can_be_chosen(rng, smooth_nr, smooth_dr):
    t, p = similar(rng, SEVERAL[2])
    options = {"smooth_nr": smooth_nr, "smooth_dr": smooth_dr}
    found = our_dice(t, p, convention="monai", **options)
    agree(found, broadcast_samples(monai_dice(**options), t, p))
    found = our_dice(t, p, convention="voxelmorph", **options)
    names = {"smooth_numerator": smooth_nr, "smooth_denominator": smooth_dr}
    agree(found, broadcast_samples(lambda *x: neurite.dice(*x, **names), t, p))


@pytest.mark.parametrize("convention", ["monai", "voxelmorph"])
def test_the_gradient_of_dice_is_the_librarys(rng, convention):
    t, p = similar(rng, SEVERAL[3])
    score = DiceScore(data_format="channels_first", convention=convention)
    _, gradient = agnoreg.value_and_grad(score, t, p)
    library = {"monai": monai_dice(), "voxelmorph": lambda *x: neurite.dice(*x).mean()}[convention]
    agree_in_gradient(gradient, slope(library, (t,), p))


# --- fields -----------------------------------------------------------------------------------------------------------

LIBRARY_FIELD = {
    ("bending_energy", "monai"): (BendingEnergy, {}, monai.losses.BendingEnergyLoss()),
    ("gradient_norm", "monai"): (GradientNorm, {}, monai.losses.DiffusionLoss()),
    ("gradient_norm", "voxelmorph"): (GradientNorm, {}, neurite.spatial_gradient),
    ("gradient_norm", "voxelmorph l1"): (
        GradientNorm,
        {"l1": True},
        lambda ddf: neurite.spatial_gradient(ddf, penalty="l1"),
    ),
}


@pytest.mark.parametrize("case", LIBRARY_FIELD)
@pytest.mark.parametrize("dims", DIMS)
def test_a_regulariser_is_the_librarys(rng, dims, case):
    measure, convention = case[0], case[1].split()[0]
    cls, options, library = LIBRARY_FIELD[case]
    ddf = rng.standard_normal(FIELDS[dims])
    expected = broadcast_samples(library, ddf)
    options = options | {"spatial_dims": dims, "convention": convention}
    found = getattr(functional, measure)(ddf, data_format="channels_first", **options)
    agree(found, expected)
    last = np.moveaxis(ddf, 1, -1)
    agree(getattr(functional, measure)(last, **options), expected)
    value, gradient = agnoreg.value_and_grad(cls(data_format="channels_first", **options), ddf)
    agree(value, np.mean(expected))
    agree_in_gradient(gradient, slope(library, (), ddf))


@pytest.mark.parametrize("case", LIBRARY_FIELD)
def test_a_regulariser_of_the_smallest_field_is_the_librarys(rng, case):
    size = 2 if case[1].startswith("voxelmorph") else 3
    ddf = rng.standard_normal((1, 3, size, size, size))
    _, options, library = LIBRARY_FIELD[case]
    found = getattr(functional, case[0])(ddf, data_format="channels_first", convention=case[1].split()[0], **options)
    agree(found, broadcast_samples(library, ddf))


# --- objects ----------------------------------------------------------------------------------------------------------


def test_losses_have_the_librarys_sign(rng):
    t, p = similar(rng, SEVERAL[3])
    first = {"data_format": "channels_first"}
    lncc, information, dice = (CLASSES[name][1] for name in ("lncc", "mutual_information", "dice"))
    found = lncc(kernel_size=5, convention="monai", **first)(t, p)
    agree(found, -broadcast_samples(monai_lncc(3, kernel_size=5), t, p).mean())
    agree(lncc(kernel_size=5, convention="ants", **first)(t, p), -itk_channels(t, p, 2).mean())
    agree(information(convention="monai")(t, p), -broadcast_samples(monai_information(), t, p).mean())
    agree(dice(convention="monai", **first)(t, p), broadcast_samples(lambda *x: 1 - monai_dice()(*x), t, p).mean())


@pytest.mark.parametrize("measure", DEFINED)
def test_deepregs_convention_is_the_default(rng, measure):
    cls = CLASSES[measure][0]
    assert cls().convention == "deepreg"
    assert cls() == cls(convention="deepreg")
    arrays = (rng.standard_normal((2, 6, 7, 8, 3)),) if cls.inputs == 1 else rng.random((2, 2, 6, 7, 8))
    function = getattr(functional, measure)
    np.testing.assert_array_equal(function(*arrays), function(*arrays, convention="deepreg"))


@pytest.mark.parametrize(
    ("cls", "convention", "constants"),
    [
        (LocalNormalizedCrossCorrelation, "deepreg", (1e-5, 1e-5)),
        (LocalNormalizedCrossCorrelation, "monai", (0.0, 1e-5)),
        (LocalNormalizedCrossCorrelation, "voxelmorph", (0.0, 1e-5)),
        (LocalNormalizedCrossCorrelation, "ants", (0.0, 0.0)),
        (DiceScore, "deepreg", (1e-5, 1e-5)),
        (DiceScore, "monai", (1e-5, 1e-5)),
        (DiceScore, "voxelmorph", (1e-5, 1e-5)),
        (DiceScore, "ants", (0.0, 0.0)),
    ],
)
def test_a_convention_says_its_constants(cls, convention, constants):
    loss = cls(convention=convention)
    assert (loss.smooth_nr, loss.smooth_dr) == constants


@pytest.mark.parametrize(("measure", "convention"), PAIRS)
def test_a_convention_survives_its_configuration(measure, convention):
    for cls in CLASSES[measure]:
        loss = cls(convention=convention)
        assert cls.from_config(loss.get_config()) == loss
        assert agnoreg.build_loss({"name": cls.__name__, "convention": convention}) == loss


@pytest.mark.parametrize(("measure", "convention"), UNDEFINED)
def test_a_convention_that_its_library_does_not_define_is_refused(rng, measure, convention):
    cls = CLASSES[measure][0]
    arrays = (rng.standard_normal((1, 6, 6, 6, 3)),) if cls.inputs == 1 else rng.random((2, 1, 6, 6, 6))
    message = "(?s)convention.*" + ".*".join(DEFINED[measure])
    for loss in CLASSES[measure]:
        with pytest.raises(ValueError, match=message):
            loss(convention=convention)
    with pytest.raises(ValueError, match=message):
        getattr(functional, measure)(*arrays, convention=convention)


@pytest.mark.parametrize("convention", ["voxelmorph", "ants"])
@pytest.mark.parametrize("kernel_type", ["triangular", "gaussian"])
def test_a_window_that_its_library_does_not_have_is_refused(convention, kernel_type):
    with pytest.raises(ValueError, match="rectangular"):
        LocalNormalizedCrossCorrelation(kernel_type=kernel_type, convention=convention)


@pytest.mark.parametrize(("measure", "convention"), PAIRS)
def test_values_lie_in_the_range_of_the_convention_and_equal_images_have_its_value(rng, measure, convention):
    for cls in CLASSES[measure]:
        loss = cls(convention=convention, reduction="none")
        low, high = loss.value_range
        if cls.inputs == 1:
            ddf = rng.standard_normal((2, 6, 7, 8, 3))
            assert np.all(loss(ddf) >= low)
            agree(loss(0 * ddf), loss.identity_value)
            continue
        t, p = similar(rng, (2, 8, 9, 7))
        for pair in ((t, p), (t, t), (t, 1 - t), (0.5 + 0 * t, t), (0.01 * t, 0.01 * p)):
            values = loss(*pair)
            assert np.all(values >= low - 1e-4 * (measure == "mutual_information"))
            assert np.all(values <= high + 1e-4 * (measure == "mutual_information"))
        if loss.identity_value is not None:
            for image in (t, 0.001 * t, 0.5 + 0 * t) if measure == "lncc" else (t,):
                agree(loss(image, image), loss.identity_value, atol=1e-9)


@pytest.mark.parametrize(("measure", "convention"), PAIRS)
def test_a_convention_is_the_same_on_every_framework(backend, rng, measure, convention):
    cls = CLASSES[measure][0]
    loss = cls(convention=convention, reduction="none")
    arrays = (rng.standard_normal((2, 6, 7, 8, 3)),) if cls.inputs == 1 else similar(rng, (2, 6, 7, 8))
    expected, slopes = agnoreg.value_and_grad(loss, *arrays)
    value, gradient = agnoreg.value_and_grad(loss, *map(backend.from_numpy, arrays))
    agree(backend.to_numpy(value), expected, rtol=1e-10)
    agree(backend.to_numpy(gradient), slopes, rtol=1e-8, atol=1e-12 * np.max(np.abs(slopes)) + 1e-15)


@pytest.mark.usefixtures("small_slabs")
@pytest.mark.parametrize("convention", ["monai", "voxelmorph", "ants"])
def test_lncc_is_the_librarys_plane_by_plane(rng, convention):
    t, p = similar(rng, (1, 1, 14, 9, 8))
    expected = {
        "monai": lambda: broadcast_samples(monai_lncc(3, kernel_size=7), t, p),
        "voxelmorph": lambda: broadcast_samples(neurite_ncc(7), t, p),
        "ants": lambda: itk_channels(t, p, 3),
    }[convention]()
    agree(ours(t, p, kernel_size=7, convention=convention), expected)
