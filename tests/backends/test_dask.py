"""The Dask adapter: blocks of any size, nothing computed early, chunks of any kind, and workers with little memory."""

import ctypes
import os
import threading

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from agnoreg_cpu.measures import HostEvaluation
from agnoreg_dask import neighbourhoods
from distributed import Client, LocalCluster
from every import LOSSES

import agnoreg
from agnoreg import functional
from agnoreg.loss.deform import BendingEnergy, GradientNorm
from agnoreg.loss.image import (
    GlobalMutualInformation,
    GlobalNormalizedCrossCorrelation,
    LocalNormalizedCrossCorrelation,
)
from agnoreg.loss.label import DiceScore, SumSquaredDifference

SHAPE = (2, 6, 7, 5)
#: Of each axis of an image.
CHUNKS = {"ones": (1, 1, 7, 1), "threes": (2, 3, 3, 3), "ragged": ((1, 1), (1, 4, 1), (2, 5), (5,)), "whole": SHAPE}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, request):
    """Compute in this thread, a chunk a block, unless a test says otherwise; on a cluster blocks as users have them."""
    if not request.node.get_closest_marker("cluster"):
        monkeypatch.setattr(neighbourhoods, "NUMBERS", 1)
    with dask.config.set(scheduler="synchronous"):
        yield


def images(loss, rng, shape=SHAPE):
    size = (*shape, 3) if loss.inputs == 1 else shape
    return [rng.random(size) for _ in range(loss.inputs)]


def chunked(x, chunks=CHUNKS["threes"], **options):
    return da.from_array(x, chunks=(*chunks, *x.shape[4:]), **options)


def check(loss, arrays, chunks, **masks):
    """Compare value and all gradients with NumPy's."""
    every = range(len(arrays))
    expected, gradients = agnoreg.value_and_grad(loss, *arrays, argnums=every, **masks)
    lazy = [chunked(x, chunks) for x in arrays]
    lazy_masks = {name: chunked(mask, CHUNKS["threes"][: mask.ndim]) for name, mask in masks.items()}
    value, lazy_gradients = agnoreg.value_and_grad(loss, *lazy, argnums=every, **lazy_masks)
    for x, gradient in zip(lazy, lazy_gradients, strict=True):
        assert gradient.chunks == x.chunks
        assert gradient.dtype == x.dtype
    alone = loss(*lazy, **lazy_masks)
    value, alone, *found = dask.compute(value, alone, *lazy_gradients)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(alone, expected, rtol=1e-12)
    for one, gradient in zip(found, gradients, strict=True):
        np.testing.assert_allclose(one, gradient, atol=1e-12 * abs(gradient).max(), rtol=0)


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_does_not_depend_on_its_chunks(rng, name, chunks):
    loss = LOSSES[name]()
    check(loss, images(loss, rng), chunks)


@pytest.mark.parametrize("name", LOSSES)
def test_chunks_may_be_empty(rng, name):
    empty = ((1, 0, SHAPE[0] - 1), (0, 4, SHAPE[1] - 4), (SHAPE[2], 0), SHAPE[3:])
    loss = LOSSES[name]()
    check(loss, images(loss, rng), empty, mask=rng.random(SHAPE) > 0.1)


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.inputs == 2])
@pytest.mark.parametrize("shape", [(2, 9, 8), (2, 17)], ids=str)
def test_a_plane_and_a_line_do_not_depend_on_their_chunks(rng, shape, name):
    loss = LOSSES[name](spatial_dims=len(shape) - 1)
    check(loss, images(loss, rng, shape), CHUNKS["threes"][: len(shape)], mask=rng.random(shape) > 0.1)


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(
    "loss",
    [
        LocalNormalizedCrossCorrelation(kernel_size=3),
        LocalNormalizedCrossCorrelation(kernel_size=(2, 5, 4), padding="truncate"),
        DiceScore(),
        GradientNorm(),
        GradientNorm(stencil="compact", spacing=(1.0, 2.0, 3.0)),
        BendingEnergy(),
    ],
    ids=["lncc", "lncc truncated", "dice", "gradient", "gradient compact", "bending"],
)
def test_a_mask_is_cut_as_the_image_is(rng, loss, chunks):
    check(loss, images(loss, rng), chunks, mask=rng.random(SHAPE) > 0.05)


@pytest.mark.parametrize("numbers", [100, 10_000])
@pytest.mark.parametrize("name", ["lncc", "bending"])
def test_several_chunks_may_make_a_block(rng, name, numbers, monkeypatch):
    monkeypatch.setattr(neighbourhoods, "NUMBERS", numbers)
    loss = LocalNormalizedCrossCorrelation(kernel_size=3) if name == "lncc" else BendingEnergy()
    check(loss, images(loss, rng), (1, 2, 2, 2), mask=rng.random(SHAPE) > 0.05)


def test_a_block_is_joined_along_its_shortest_axis_and_no_larger_than_it_may_be(monkeypatch):
    monkeypatch.setattr(neighbourhoods, "NUMBERS", 6 << 20)
    image = [(1,), (96, 96, 96, 32), (96, 96, 96, 64), (96,) * 4]
    assert neighbourhoods.joined(image, 1) == [(1,), (96, 96, 96, 32), (192, 160), (192, 192)]
    assert neighbourhoods.joined(image, 3) == [(1,), (96, 96, 96, 32), (96, 96, 96, 64), (192, 192)]
    assert neighbourhoods.joined(image, 100) == image


@pytest.mark.parametrize("masked", [False, True])
def test_a_block_has_a_centre_of_its_own_which_costs_no_digits(rng, masked):
    # One centre of the whole image is far from the intensities of its first and last planes.
    arrays = [image + 4000 * (np.arange(24) // 8)[:, None, None] for image in rng.random((2, 1, 24, 9, 9))]
    arrays = [x.astype(np.float32) for x in arrays]
    masks = {"mask": rng.random((1, 24, 9, 9)) > 0.1} if masked else {}
    loss, chunks = LocalNormalizedCrossCorrelation(kernel_size=3), (1, 8, 9, 9)
    _, wanted = agnoreg.value_and_grad(loss, *(x.astype(np.float64) for x in arrays), **masks)
    _, whole = agnoreg.value_and_grad(loss, *arrays, **masks)
    lazy = [chunked(x, chunks) for x in arrays], {name: chunked(x, chunks) for name, x in masks.items()}
    _, gradient = agnoreg.value_and_grad(loss, *lazy[0], **lazy[1])
    assert np.abs(gradient.compute() - wanted).max() <= np.abs(whole - wanted).max() / 2


@pytest.mark.parametrize("kernel_size", [4, 9, 15])
@pytest.mark.parametrize("kernel_type", ["rectangular", "gaussian"])
def test_a_window_may_be_larger_than_a_chunk_or_the_image(rng, kernel_type, kernel_size):
    loss = LocalNormalizedCrossCorrelation(kernel_size=kernel_size, kernel_type=kernel_type)
    check(loss, images(loss, rng), (1, 2, 3, 1))


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_computed_before_it_is_asked_for(rng, name):
    def refuse(*_, **__):
        raise AssertionError("The graph was computed.")

    loss = LOSSES[name]()
    arrays = [chunked(x) for x in images(loss, rng)]
    mask = {} if name == "warp" else {"mask": chunked(rng.random(SHAPE) > 0.5)}
    with dask.config.set(scheduler=refuse):
        value, gradient = agnoreg.value_and_grad(loss, *arrays, **mask)
        assert loss(*arrays, **mask).shape == value.shape
        assert gradient.shape == arrays[-1].shape
        with pytest.raises(AssertionError, match="was computed"):
            value.compute()


@pytest.mark.parametrize(
    ("name", "masked"),
    [
        *((name, False) for name in ("gncc", "dice", "jaccard", "ssd", "cross-entropy")),
        *((name, masked) for name in ("lncc", "gmi", "bending", "gradient") for masked in (False, True)),
    ],
)
def test_blocks_are_computed_by_kernels(rng, name, masked, monkeypatch):
    loss = agnoreg.build_loss(name)
    arrays = [x.astype(np.float32) for x in images(loss, rng, (2, 12, 13, 14))]
    masks = {"mask": rng.random((2, 12, 13, 14)) > 0.01} if masked else {}
    expected, wanted = agnoreg.value_and_grad(loss, *arrays, **masks)
    taken = []
    of_block = HostEvaluation.of_block

    def note(self, constants, count, own):
        taken.append(of_block(self, constants, count, own))
        return taken[-1]

    monkeypatch.setattr(HostEvaluation, "of_block", note)
    lazy = [chunked(x, (1, 7, 8, 9)) for x in arrays]
    value, gradient = agnoreg.value_and_grad(loss, *lazy, **{key: chunked(x, (1, 7, 8, 9)) for key, x in masks.items()})
    value, gradient = dask.compute(value, gradient)
    assert taken
    assert all(taken)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    # A user may do without.
    taken.clear()
    monkeypatch.setattr(agnoreg.get_backend("dask"), "kernels", False)
    np.testing.assert_allclose(loss(*lazy).compute(), loss(*arrays), rtol=1e-6)
    assert not taken


class Card(np.ndarray):
    """Chunks of another kind than NumPy's: what is made of them must be of their kind."""


class CardBackend(agnoreg.Backend):
    """Stands for the adapter of a card, and remembers what it is handed."""

    def owns(self, array):
        return isinstance(array, Card)

    def prepare(self, array):
        seen.add(type(array))
        return array

    def from_numpy(self, array, device=None):
        return np.asarray(array).view(Card)


seen: set[type] = set()


@pytest.mark.parametrize(
    "loss",
    [
        LocalNormalizedCrossCorrelation(kernel_size=3, reduction="none"),
        DiceScore(reduction="none"),
        BendingEnergy(reduction="none"),
    ],
    ids=lambda loss: loss.name,
)
def test_chunks_keep_their_kind(rng, monkeypatch, loss):
    from agnoreg.backend import lookup as finding

    adapter = CardBackend("card", agnoreg.get_backend("numpy").xp)
    monkeypatch.setitem(finding._by_type, Card, adapter)
    seen.clear()
    arrays = images(loss, rng)
    # Cut into samples alone: NumPy drops a subclass when it puts chunks together.
    cards = [chunked(x.view(Card), (1, *SHAPE[1:]), asarray=False) for x in arrays]
    value, gradient = agnoreg.value_and_grad(loss, *cards)
    assert isinstance(gradient._meta, Card)
    assert isinstance(value._meta, Card)
    value, gradient = dask.compute(value, gradient)
    assert seen == {Card}
    expected, expected_gradient = agnoreg.value_and_grad(loss, *arrays)
    np.testing.assert_allclose(np.asarray(value), expected, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(gradient), expected_gradient, atol=1e-12)


def test_chunks_of_unknown_size_are_refused_with_what_to_call():
    x = chunked(np.zeros(SHAPE))
    unknown = x[x[:, 0, 0, 0] >= 0]
    with pytest.raises(ValueError, match=r"call compute_chunk_sizes\(\)"):
        agnoreg.value_and_grad(SumSquaredDifference(), unknown, unknown)


def test_a_numpy_array_beside_a_dask_array_is_refused(rng):
    x = rng.random(SHAPE)
    with pytest.raises(TypeError, match=r"two frameworks.*dask\.array.*numpy"):
        functional.ssd(chunked(x), x)


def test_inputs_may_have_chunks_of_their_own(rng):
    t, p = rng.random(SHAPE), rng.random(SHAPE)
    loss = LocalNormalizedCrossCorrelation(kernel_size=3)
    lazy = chunked(t, (1, 6, 2, 5)), chunked(p, (2, 2, 4, 3))
    _, gradients = agnoreg.value_and_grad(loss, *lazy, argnums=(0, 1))
    _, expected = agnoreg.value_and_grad(loss, t, p, argnums=(0, 1))
    for x, gradient, one in zip(lazy, gradients, expected, strict=True):
        assert gradient.chunks == x.chunks
        np.testing.assert_allclose(gradient.compute(), one, atol=1e-14)


def test_channels_and_planes(rng):
    for loss, shape in [
        (LocalNormalizedCrossCorrelation(kernel_size=3, data_format="channels_first"), (2, 3, 6, 7, 5)),
        (DiceScore(data_format="channels_last", convention="monai"), (2, 6, 7, 5, 3)),
        (LocalNormalizedCrossCorrelation(kernel_size=3, spatial_dims=2), (2, 8, 9)),
        (GradientNorm(spatial_dims=2, stencil="compact", data_format="channels_first"), (2, 2, 8, 9)),
    ]:
        arrays = [rng.random(shape) for _ in range(loss.inputs)]
        lazy = [da.from_array(x, chunks=(1, *(3,) * (x.ndim - 1))) for x in arrays]
        value, gradient = agnoreg.value_and_grad(loss, *lazy)
        expected, expected_gradient = agnoreg.value_and_grad(loss, *arrays)
        np.testing.assert_allclose(value.compute(), expected, rtol=1e-12)
        np.testing.assert_allclose(gradient.compute(), expected_gradient, atol=1e-12)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("lengths", [(1, 2, 3), (4, 9, 6), (5, None, 12)])
def test_conv3d_is_numpys(rng, lengths, transpose):
    x = rng.random((2, 6, 7, 5, 2))
    kernels = [None if n is None else tuple(rng.normal(size=n)) for n in lengths]
    lazy = da.from_array(x, chunks=(1, 2, 3, 4, 2))
    found = agnoreg.get_backend("dask").operations.conv3d(lazy, kernels, transpose)
    assert found.chunks == lazy.chunks
    expected = agnoreg.get_backend("numpy").operations.conv3d(x, kernels, transpose)
    np.testing.assert_allclose(found.compute(), expected, atol=1e-13)


def test_the_map_of_local_correlations_comes_in_the_images_chunks(rng):
    t, p = rng.random(SHAPE), rng.random(SHAPE)
    found = functional.lncc_map(chunked(t), chunked(p), kernel_size=4)
    assert found.chunks[:4] == chunked(t).chunks
    np.testing.assert_allclose(found.compute(), functional.lncc_map(t, p, kernel_size=4), atol=1e-14)


def test_a_loss_of_the_users_own_has_the_users_gradient(rng):
    class Cubes(agnoreg.Loss):
        def call(self, y_true, y_pred):
            return ((y_pred - y_true) ** 3).sum(axis=(1, 2, 3))

        def gradient(self, y_true, y_pred, wrt):
            return tuple((3.0 if index else -3.0) * (y_pred - y_true) ** 2 for index in wrt)

    t, p = rng.random(SHAPE), rng.random(SHAPE)
    value, gradient = agnoreg.value_and_grad(Cubes(reduction="none"), chunked(t), chunked(p))
    np.testing.assert_allclose(value.compute(), ((p - t) ** 3).sum((1, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(gradient.compute(), 3 * (p - t) ** 2, rtol=1e-12)


def test_a_function_without_a_gradient_says_that_there_is_no_autodiff(rng):
    x = chunked(rng.random(SHAPE))
    with pytest.raises(NotImplementedError, match="dask has no automatic differentiation"):
        agnoreg.value_and_grad(lambda y: y.sum(axis=(1, 2, 3)), x)


class Source:
    """Chunks that count how often each is made, and how many there are at once."""

    def __init__(self, shape):
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype(np.float64)
        self.made, self.alive, self.most = 0, 0, 0
        self.lock = threading.Lock()

    def __getitem__(self, index):
        source = self

        class PlaneBatch(np.ndarray):
            def __del__(self):
                if self.base is None:
                    source.alive -= 1

        sizes = [len(range(*i.indices(n))) for i, n in zip(index, self.shape, strict=True)]
        if 0 in sizes:  # Dask looks at the kind
            return np.empty(sizes)
        with self.lock:
            self.made += 1
            self.alive += 1
            self.most = max(self.most, self.alive)
        chunk = PlaneBatch(sizes)
        chunk[...] = np.random.default_rng([i.start for i in index]).random(sizes)
        return chunk


@pytest.mark.parametrize(
    ("loss", "reads"),
    [
        (SumSquaredDifference(), 1),
        (DiceScore(), 2),
        (GlobalMutualInformation(), 2),
        # Its rough centre is that of every other plane here.
        (GlobalNormalizedCrossCorrelation(), 2.5),
        # For the rim of each chunk, and by its block.
        (LocalNormalizedCrossCorrelation(kernel_size=3), 2),
    ],
    ids=["ssd", "dice", "gmi", "gncc", "lncc"],
)
def test_what_several_passes_read_is_read_again_and_not_kept(loss, reads):
    sources = [Source((1, 32, 8, 8)) for _ in range(2)]
    arrays = [da.from_array(x, chunks=(1, 1, 8, 8), asarray=False, name=f"source-{i}") for i, x in enumerate(sources)]
    value, gradient = agnoreg.value_and_grad(loss, *arrays)
    total = gradient.map_blocks(lambda x: np.sum(x, keepdims=True), chunks=(1, 1, 1, 1)).sum()
    dask.compute(value, total)
    for source in sources:
        assert source.made == 32 * reads
        # Dask reads ahead by a few.
        assert source.most <= 8


@pytest.mark.parametrize("kept", [False, True], ids=["computed", "in memory"])
def test_blocks_with_neighbourhoods_compute_their_inputs_once(rng, kept):
    calls = []

    def noted(x):
        calls.append(1)
        return x

    t, p = rng.random(SHAPE), rng.random(SHAPE)
    arrays = [chunked(x).map_blocks(noted, meta=np.empty((0,) * 4)) for x in (t, p)]
    arrays = list(dask.persist(*arrays)) if kept else arrays
    before = len(calls)
    value, gradient = agnoreg.value_and_grad(LocalNormalizedCrossCorrelation(kernel_size=3), *arrays)
    value, gradient = dask.compute(value, gradient)
    assert len(calls) - before == (0 if kept else 2 * arrays[0].npartitions)
    _, expected = agnoreg.value_and_grad(LocalNormalizedCrossCorrelation(kernel_size=3), t, p)
    np.testing.assert_allclose(gradient, expected, atol=1e-14)


def test_what_is_in_memory_is_not_computed_again(rng):
    calls = []

    def noted(x):
        calls.append(1)
        return x

    arrays = [chunked(rng.random(SHAPE)).map_blocks(noted, meta=np.empty((0,) * 4)).persist() for _ in range(2)]
    made = len(calls)
    _, gradient = agnoreg.value_and_grad(DiceScore(), *arrays)
    gradient.compute()
    assert len(calls) == made


def test_inputs_that_other_neighbourhoods_made_are_made_again_as_they_were(rng):
    # dask.graph_manipulation.clone mixes up the names of such tasks.
    t, p = rng.random(SHAPE), rng.random(SHAPE)

    def smooth(x):
        return da.map_overlap(lambda b: b + np.roll(b, 1, 2), x, depth={2: 1}, boundary="periodic", dtype=x.dtype)

    lazy = [da.broadcast_to(smooth(chunked(x)).reshape((1, *SHAPE)), (1, *SHAPE))[0] for x in (t, p)]
    _, gradient = agnoreg.value_and_grad(GlobalNormalizedCrossCorrelation(), *lazy)
    _, expected = agnoreg.value_and_grad(GlobalNormalizedCrossCorrelation(), *(x + np.roll(x, 1, 2) for x in (t, p)))
    np.testing.assert_allclose(gradient.compute(), expected, atol=1e-12)


# --- larger than memory -----------------------------------------------------------------------------------------------

#: Seconds after which a loss is given up.
PATIENCE = 400
#: An image and a field, there once and once with so many times the planes; their chunks, of some 0.5 MB.
TIMES = 4
IMAGE, FIELD = (1, 288, 144, 144), (1, 240, 112, 128, 3)
CHUNKS_OF = {"fixed": (1, 48, 72, 36), "moving": (1, 48, 72, 36), "ddf": (1, 40, 56, 32, 3)}
ON_DISK = {"fixed": IMAGE, "moving": IMAGE, "ddf": FIELD}


def peak() -> int:
    """Return the most memory that this process has held since the last time it was asked, in bytes."""
    with open("/proc/self/status") as status:
        found = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    # What is free goes back to the system first, or it would be used again without being counted.
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as forget:
        forget.write("5")
    return found


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Write images and fields of both sizes to zarr."""
    path = tmp_path_factory.mktemp("zarr")
    rng = np.random.default_rng(5)
    arrays = {}
    for times in (1, TIMES):
        group = zarr.open_group(path / str(times), mode="w")
        for name, (one, planes, *rest) in ON_DISK.items():
            shape = (one, times * planes, *rest)
            arrays[times, name] = rng.random(shape, dtype=np.float32)
            made = group.create_array(name, shape=shape, chunks=CHUNKS_OF[name], dtype="float32", compressors=None)
            made[...] = arrays[times, name]
    return path, arrays


@pytest.mark.cluster
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="a worker's peak memory is read from /proc")
@pytest.mark.filterwarnings("ignore:Creating scratch directories:UserWarning")  # on a slow disk
@pytest.mark.slow
def test_an_image_several_times_as_large_takes_the_workers_no_more_memory(stored, tmp_path):
    path, arrays = stored
    losses = {
        "lncc": (LocalNormalizedCrossCorrelation(kernel_size=5), ("fixed", "moving")),
        "gmi": (GlobalMutualInformation(num_bins=7), ("fixed", "moving")),
        "dice": (DiceScore(), ("fixed", "moving")),
        "bending": (BendingEnergy(), ("ddf",)),
    }
    with (
        # Nothing is written to disk to make room: what a worker keeps is in its memory.
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=0,
            local_directory=tmp_path,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
        dask.config.set(scheduler=None),
    ):
        for name, (loss, inputs) in losses.items():
            peaks = {}
            # The first time warms up: it compiles, and imports what it needs.
            for times in (1, 1, TIMES):
                group = zarr.open_group(path / str(times))
                lazy = [da.from_zarr(path / str(times), component=one) for one in inputs]
                value, gradient = agnoreg.value_and_grad(loss, *lazy)
                chunks = tuple(sizes[0] for sizes in gradient.chunks)
                target = group.create_array(
                    name, shape=gradient.shape, chunks=chunks, dtype="float32", compressors=None, overwrite=True
                )
                client.run(peak)
                written = da.store(gradient, target, lock=False, compute=False)
                # The bending energy's gradients are made faster than they are written, and wait for it where the value
                # is asked for, too: docs/scaling.md says how many. So its value is asked for afterwards.
                alone = name == "bending"
                futures = client.compute([written] if alone else [written, value])
                found = [future.result(timeout=PATIENCE) for future in futures]
                peaks[times] = max(client.run(peak).values())
                value = client.compute(value).result(timeout=PATIENCE) if alone else found[1]
            given = [arrays[TIMES, one] for one in inputs]
            expected, expected_gradient = agnoreg.value_and_grad(loss, *given)
            np.testing.assert_allclose(value, expected, rtol=1e-6)
            assert target.shape == expected_gradient.shape
            assert np.abs(target[...] - expected_gradient).max() <= 1e-5 * np.abs(expected_gradient).max()
            # Each of two workers would have kept half of what there is more.
            kept = sum(array.nbytes for array in given) * (1 - 1 / TIMES) / 2
            print(
                f"{name}: peaks of {[f'{p / 2**20:.0f} MiB' for p in peaks.values()]}, {kept / 2**20:.0f} MiB if kept"
            )
            assert peaks[TIMES] - peaks[1] < kept / 2
