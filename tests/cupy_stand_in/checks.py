"""What a card would be asked for: run by `test_cupy_stand_in.py`, in a process in which `cupy` is the stand-in."""

import os
from contextlib import contextmanager

import agnoreg_cupy
import cupy as cp
import dask
import dask.array as da
import nibabel as nib
import numpy as np
import pytest
from agnoreg_cuda.by_cupy import usable
from cupy import _card
from cupy._raw import LAUNCHED

import agnoreg
from agnoreg import functional
from agnoreg.compat import monai
from agnoreg.evaluate.evaluation import evaluate_pair
from conformance.arrays import Maker
from conformance.cases import CASES, FORMULAS, MASKED, SHAPES

CUPY = agnoreg.get_backend("cupy")
#: The current card is the first one: what is not of the arrays' own would be there.
CARDS = ("cuda:0", "cuda:1")

kernels = pytest.mark.skipif(
    os.environ.get("CUPY_STAND_IN_KERNELS") != "1", reason="kernels are emulated in a process of their own"
)


@pytest.fixture(params=CARDS)
def maker(request):
    return Maker(CUPY, request.param)


@contextmanager
def nothing_but_kernels():
    """Fail where the host waits, or memory goes to the card, from it or to another one."""
    with _card.watched() as events:
        yield
    assert not events, _card.counted(events)


def results(tree):
    """Return the arrays of nested tuples and dicts."""
    if isinstance(tree, cp.ndarray):
        return [tree]
    return [array for part in (tree.values() if isinstance(tree, dict) else tree) for array in results(part)]


def check_card(maker, tree):
    assert {array.device.id for array in results(tree)} == {int(maker.device[-1])}
    assert cp.cuda.Device().id == 0, "the current card is another one than before"


# --- the stand-in is as strict as CuPy --------------------------------------------------------------------------------


def test_an_array_of_the_card_is_not_taken_for_one_of_numpys():
    x, host = cp.ones((2, 3)), np.ones((2, 3))
    for wrong in (
        lambda: np.asarray(x),
        lambda: np.add(host, x),
        lambda: host * x,
        lambda: x * host,
        lambda: cp.sum(host),
        lambda: cp.where(x > 0.0, x, host),
        lambda: cp.concatenate([x, host]),
        lambda: x.__iadd__(host),
        lambda: range(cp.asarray(3)),
    ):
        with pytest.raises((TypeError, AttributeError)):
            wrong()
    with pytest.raises(ValueError, match="non-scalar"):
        x[...] = host


def test_a_result_without_axes_is_an_array():
    x = cp.ones((2, 3), dtype=cp.float32)
    for result in (x.sum(), cp.mean(x), x[0, 0], x[0, 0] + x[0, 1], cp.sqrt(x.max()), x.sum() * np.float32(2.0)):
        assert isinstance(result, cp.ndarray)
        assert result.shape == ()
        assert result.dtype == np.float32
    assert (np.float64(2.0) * x).dtype == np.float64


@pytest.mark.parametrize(
    "act",
    [
        bool,
        int,
        float,
        str,
        repr,
        "{}".format,
        cp.asnumpy,
        lambda x: x.item(),
        lambda x: x.tolist(),
        lambda x: x.get(),
        lambda x: x.reshape(1)[x.reshape(1) > 0],
        lambda x: x.reshape(1).__setitem__(x.reshape(1) > 0, 1.0),
        lambda x: cp.nonzero(x.reshape(1)),
        lambda x: cp.unique(x),
        lambda x: cp.bincount(x.reshape(1).astype(cp.int64)),
        lambda x: x.device.synchronize(),
    ],
    ids=str,
)
def test_what_waits_is_noted(act):
    x = cp.ones(())
    with _card.watched() as events:
        act(x)
    assert any(event.kind == _card.WAIT for event in events)


def test_what_is_copied_is_noted():
    for act, kind in (
        (lambda: cp.asarray(np.ones(3)), _card.TO_CARD),
        (lambda: cp.ones(3)[np.asarray([0, 1])], _card.TO_CARD),
        (lambda: cp.ones(3).get(), _card.TO_HOST),
        (lambda: float(cp.ones(())), _card.TO_HOST),
    ):
        with _card.watched() as events:
            act()
        assert any(event.kind == kind and event.size > 0 for event in events)
    x = cp.ones(3)
    with cp.cuda.Device(1), pytest.warns(_card.PerformanceWarning, match="Peer access"):
        assert (x + 1.0).device.id == 1
    with nothing_but_kernels():
        cp.asarray(2.0), cp.full((3,), 2.0), cp.arange(3), x[1:], x[None] * 2.0, x.reshape(3, 1) + x


def test_memory_that_nobody_wrote_to_is_no_number():
    assert np.isnan(cp.empty((2, 2)).get()).all()
    assert np.isnan(cp.empty_like(cp.ones(2)).get()).all()


# --- no loss waits, copies, mixes or leaves its card ------------------------------------------------------------------


def test_every_registered_loss_is_among_the_cases():
    measured = {case.family for case in CASES} & {case.family for case in MASKED}
    assert set(agnoreg.registered_losses()) <= measured


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("case", CASES + MASKED, ids=str)
def test_no_loss_waits_copies_or_leaves_its_card(case, dtype, maker):
    inputs = case.arrays(SHAPES["even"])
    arrays = maker.all(tuple(np.abs(np.round(x)) for x in inputs) if dtype == "uint8" else inputs, dtype)
    masks, loss = maker.masks(case.masks(*inputs), "float32"), case.build()
    with nothing_but_kernels():
        value, gradients = agnoreg.value_and_grad(loss, *arrays, argnums=tuple(range(len(arrays))), **masks)
        found = loss(*arrays, **masks), case.build(reduction="none")(*arrays, **masks)
    check_card(maker, (value, gradients, found))


@pytest.mark.parametrize("case", FORMULAS, ids=str)
def test_no_loss_waits_between_its_slabs(case, maker, monkeypatch):
    monkeypatch.setattr(CUPY.execution, "slab_elements", lambda array, kind: 100)
    arrays = maker.all(case.arrays((2, 17, 5, 5)), "float32")
    with nothing_but_kernels():
        result = agnoreg.value_and_grad(case.build(), *arrays, argnums=tuple(range(len(arrays))))
    check_card(maker, result)


def test_nobody_looks_whether_a_mask_leaves_anything(maker):
    t, p, mask = maker.all((np.ones((1, 4, 4, 4)),) * 2 + (np.zeros((1, 4, 4, 4)),), "float32")
    with nothing_but_kernels():
        value = agnoreg.build_loss("ssd")(t, p, mask=mask)
    assert np.isnan(value.get())


def test_losses_of_several_sections_stay_on_their_card(maker):
    rng = np.random.default_rng(0)
    t, p = maker.all(tuple(rng.uniform(size=(2, 8, 8, 8)) for _ in "tp"), "float32")
    ddf = maker(rng.normal(size=(2, 8, 8, 8, 3)), "float32")
    loss = agnoreg.build_loss(
        {
            "image": [{"name": "lncc", "weight": 2.0}, {"name": "gmi"}],
            "label": {"name": "dice", "scales": [0, 1]},
            "regularization": {"name": "gradient", "l1": True, "weight": 0.1},
        }
    )
    given = {"image": (t, p), "label": (t, p), "regularization": ddf}
    with nothing_but_kernels():
        found = (
            loss(**given, return_terms=True),
            loss.call(**given),
            loss.value_and_grad(("image", "regularization"), **given, return_terms=True),
        )
    check_card(maker, found)


MONAIS = (
    monai.LocalNormalizedCrossCorrelationLoss,
    monai.GlobalMutualInformationLoss,
    monai.DiceLoss,
)
FUNCTIONS = {
    "warp": lambda image, ddf, grid: functional.warp(image, ddf),
    "warp_adjoint": lambda image, ddf, grid: functional.warp_adjoint(image, ddf, image),
    "warp_adjoint of a plane": lambda image, ddf, grid: functional.warp_adjoint(
        image[:, 0], ddf[:, 0, ..., :2], image[:, 0]
    ),
    "compute_centroid": lambda image, ddf, grid: functional.compute_centroid(image, grid),
    "compute_centroid_distance": lambda image, ddf, grid: functional.compute_centroid_distance(
        image, ddf[..., 0], grid
    ),
    "foreground_proportion": lambda image, ddf, grid: functional.foreground_proportion(image),
    "separable_filter": lambda image, ddf, grid: functional.separable_filter(image, [1.0, 2.0, 1.0]),
    "separable_filter by an array": lambda image, ddf, grid: functional.separable_filter(image, image[0, 0, 0, :3]),
    "gradient_dxyz": lambda image, ddf, grid: functional.gradient_dxyz(ddf, functional.gradient_dx),
    "lncc_map": lambda image, ddf, grid: functional.lncc_map(image, ddf[..., 0]),
    "value_and_grad of a function": lambda image, ddf, grid: agnoreg.value_and_grad(
        functional.gncc, image, ddf[..., 0]
    ),
    "MONAI's losses": lambda image, ddf, grid: [
        loss(reduction=reduction)(image[:, None], image[:, None]) for loss in MONAIS for reduction in ("mean", "sum")
    ],
    "MONAI's regularisers": lambda image, ddf, grid: [
        loss(normalize=True)(ddf.transpose((0, 4, 1, 2, 3))) for loss in (monai.BendingEnergyLoss, monai.DiffusionLoss)
    ],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_waits_copies_or_leaves_its_card(name, maker):
    rng = np.random.default_rng(1)
    image, ddf = rng.uniform(size=(2, 6, 7, 8)), rng.normal(scale=2.0, size=(2, 6, 7, 8, 3))
    grid = np.stack(np.meshgrid(*map(np.arange, (6, 7, 8)), indexing="ij"), axis=-1)[None]
    host = [x.astype(np.float32) for x in (image, ddf, grid)]
    arrays = maker.all(tuple(host), "float32")
    with nothing_but_kernels():
        found = FUNCTIONS[name](*arrays)
    check_card(maker, found)
    expected = FUNCTIONS[name](*host)
    expected = list(expected) if isinstance(expected, tuple | list) else [expected]
    for got, right in zip(results(found), expected, strict=True):
        np.testing.assert_allclose(got.get(), right, rtol=2e-5, atol=1e-5)


def test_scattered_weights_are_added_up_in_float64():
    weights = np.full(2**12, 1.0, dtype=np.float32)
    weights[0] = 2.0**24
    found = CUPY.operations.scatter_add(cp.zeros(weights.size, dtype=cp.int64), cp.asarray(weights), 2)
    assert found.dtype == np.float32
    # In float32 each 1 would be lost beside 2^24.
    assert np.array_equal(found.get(), np.asarray([2.0**24 + 2**12 - 1, 0.0], dtype=np.float32))


def test_so_many_weights_that_cupy_cannot_count_them_are_added_up_too(monkeypatch):
    monkeypatch.setattr(agnoreg_cupy, "MOST", 3)
    found = CUPY.operations.scatter_add(cp.asarray([1, 0, 1, 1]), cp.asarray([1.0, 2.0, 4.0, 8.0]), 3)
    assert np.array_equal(found.get(), [2.0, 13.0, 0.0])


def test_clip_and_sign_keep_what_is_no_number():
    x = np.asarray([-2.0, -0.0, 0.5, 3.0, np.inf, np.nan], dtype=np.float32)
    for found, expected in (
        (CUPY.xp.clip(cp.asarray(x), 0.0, 1.0), np.clip(x, 0.0, 1.0)),
        (CUPY.xp.clip(cp.asarray(x), 0.0), np.clip(x, 0.0, None)),
        (CUPY.xp.sign(cp.asarray(x)), np.sign(x)),
    ):
        assert found.dtype == np.float32
        assert np.array_equal(found.get(), expected, equal_nan=True)
    assert np.array_equal(CUPY.xp.clip(cp.asarray([1, 5]), 2, 4).get(), [2, 4])


# --- what does not belong together is refused -------------------------------------------------------------------------


def test_arrays_of_the_host_or_of_two_cards_are_refused_before_anything_is_computed():
    loss, host = agnoreg.build_loss("ssd"), np.ones((1, 4, 4, 4), dtype=np.float32)
    first, second = (CUPY.from_numpy(host, card) for card in CARDS)
    with nothing_but_kernels():
        for other, words in ((host, "two frameworks"), (second, "two devices")):
            with pytest.raises(TypeError, match=words):
                loss(first, other)
            with pytest.raises(TypeError, match=words):
                loss(first, first, mask=other)


def test_arrays_go_to_the_card_that_is_named():
    for device, number in ((None, 0), (1, 1), ("cuda", 0), ("cuda:1", 1), (cp.cuda.Device(1), 1)):
        assert CUPY.from_numpy(np.ones(3), device).device.id == number
    with pytest.raises(cp.cuda.runtime.CUDARuntimeError):
        CUPY.from_numpy(np.ones(3), "cuda:7")


# --- what stands on the losses ----------------------------------------------------------------------------------------


def test_a_pair_is_evaluated_on_either_card_as_on_the_host():
    rng = np.random.default_rng(2)
    images = [nib.Nifti1Image(rng.uniform(size=(9, 8, 7)).astype(np.float32), np.eye(4)) for _ in "tp"]
    labels = [nib.Nifti1Image(rng.integers(0, 3, size=(9, 8, 7)).astype(np.int16), np.eye(4)) for _ in "tp"]
    ddf = nib.Nifti1Image(rng.normal(size=(9, 8, 7, 3)).astype(np.float32), np.eye(4))
    given = dict(zip(("fixed", "moved", "fixed_label", "moved_label"), images + labels, strict=True), ddf=ddf)
    expected = evaluate_pair(**given)
    for card in CARDS:
        found = evaluate_pair(**given, backend="cupy", device=card)
        assert found.device == f"<CUDA Device {card[-1]}>"
        for record, right in zip(found.records, expected.records, strict=True):
            assert (record.metric, record.label) == (right.metric, right.label)
            assert record.value == pytest.approx(right.value, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("name", ["lncc", "gmi", "ssd", "dice"])
def test_chunks_of_dasks_stay_on_their_card(name):
    rng = np.random.default_rng(4)
    arrays = [cp.asarray(rng.uniform(size=(1, 12, 10, 8)).astype(np.float32)) for _ in "tp"]
    chunked = [da.from_array(x, chunks=(1, 6, 10, 8), asarray=False) for x in arrays]
    loss = agnoreg.build_loss(name)
    with _card.watched() as events, dask.config.set(scheduler="synchronous"):
        value, gradient = dask.compute(*agnoreg.value_and_grad(loss, *chunked))
    # Dask itself sends a few indices to the card.
    assert {event.kind for event in events if event.size > 1024 or event.kind == _card.WAIT} == set()
    expected, exact = agnoreg.value_and_grad(loss, *arrays)
    assert isinstance(value, cp.ndarray)
    np.testing.assert_allclose(value.get(), expected.get(), rtol=1e-5)
    np.testing.assert_allclose(gradient.get(), exact.get(), rtol=1e-4, atol=1e-4 * np.max(np.abs(exact.get())))


def test_a_users_own_loss_works_on_its_card(maker):
    class MeanAbsolute(agnoreg.Loss):
        def call(self, y_true, y_pred):
            xp = agnoreg.backend_of(y_true).xp
            return xp.mean(xp.abs(y_true - y_pred), axis=(1, 2, 3))

        def gradient(self, y_true, y_pred, wrt):
            xp = agnoreg.backend_of(y_true).xp
            slope = xp.sign(y_pred - y_true) / y_true[0].size
            return tuple(slope if index else -slope for index in wrt)

    arrays = maker.all((np.zeros((2, 4, 4, 4)), np.full((2, 4, 4, 4), 0.5)), "float32")
    with nothing_but_kernels():
        found = agnoreg.value_and_grad(MeanAbsolute(), *arrays)
    check_card(maker, found)
    assert found[0].get() == np.float32(0.5)


# --- kernels, by way of CuPy ------------------------------------------------------------------------------------------


@kernels
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("name", ["lncc", "gmi", "bending"])
def test_kernels_are_launched_on_the_card_of_their_arrays_and_nobody_waits(name, masked, maker):
    rng = np.random.default_rng(3)
    shapes = [(2, 9, 8, 7, 3)] if name == "bending" else [(2, 9, 8, 7)] * 2
    host = [rng.uniform(size=shape).astype(np.float32) for shape in shapes]
    mask = rng.uniform(size=(2, 9, 8, 7)) > 0.01
    loss, argnums = agnoreg.build_loss(name), tuple(range(len(host)))
    arrays, (weights,) = maker.all(tuple(host), "float32"), maker.all((mask,), "bool")
    options = {"mask": weights} if masked else {}
    assert usable()
    LAUNCHED.clear()
    with nothing_but_kernels():
        value, gradients = agnoreg.value_and_grad(loss, *arrays, argnums=argnums, **options)
    assert {device for _, device in LAUNCHED} == {int(maker.device[-1])}
    check_card(maker, (value, gradients))
    doubles, options = [x.astype(np.float64) for x in host], {"mask": mask} if masked else {}
    expected, exact = agnoreg.value_and_grad(loss, *doubles, argnums=argnums, **options)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for gradient, right in zip(gradients, exact, strict=True):
        assert np.max(np.abs(gradient.get() - right)) <= 1e-4 * np.max(np.abs(right))


@kernels
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("convention", ["monai", "exact"])
def test_kernels_of_another_formula_wait_for_nothing_either(convention, masked, maker):
    rng = np.random.default_rng(3)
    host, mask = [rng.uniform(size=(2, 9, 8, 7)).astype(np.float32) for _ in "tp"], rng.uniform(size=(2, 9, 8, 7)) > 0.2
    loss = agnoreg.LNCC(kernel_size=3, convention=convention)
    images, (weights,) = maker.all(tuple(host), "float32"), maker.all((mask,), "bool")
    LAUNCHED.clear()
    with nothing_but_kernels():
        found = agnoreg.value_and_grad(loss, *images, **({"mask": weights} if masked else {}))
        image = functional.lncc_map(*images, kernel_size=3, convention=convention)
    assert [kernel for kernel, _ in LAUNCHED].count("correlate") == 2
    assert {device for _, device in LAUNCHED} == {int(maker.device[-1])}
    check_card(maker, (*found, image))
    right = agnoreg.value_and_grad(loss, *host, **({"mask": mask} if masked else {}))
    assert float(found[0]) == pytest.approx(float(right[0]), rel=1e-5)
    assert np.max(np.abs(found[1].get() - right[1])) <= 1e-4 * np.max(np.abs(right[1]))


@kernels
def test_kernels_are_switched_off_as_on_any_backend(monkeypatch):
    arrays = [cp.ones((1, 4, 4, 4), dtype=cp.float32)] * 2
    monkeypatch.setattr(CUPY, "kernels", False)
    LAUNCHED.clear()
    agnoreg.build_loss("lncc")(*arrays)
    assert not LAUNCHED
