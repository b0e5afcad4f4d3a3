"""The examples, on a smaller grid: what they promise to print is true."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

needs_images = pytest.mark.skipif(
    importlib.util.find_spec("nilearn") is None, reason="nilearn, whose package holds the images, is not installed"
)
needs_nifti = pytest.mark.skipif(importlib.util.find_spec("nibabel") is None, reason="nibabel is not installed")


@pytest.fixture
def example(monkeypatch):
    """Import a file of the examples' folder, as running it would."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def blobs(shape, seed=0, count=400):
    """Return an image of Gaussian blobs, ``(1, *shape)`` in [0, 1]."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape)
    for _ in range(count):
        centre, width = rng.uniform(0.15, 0.85, 3) * shape, rng.uniform(1.0, 2.0)
        x, y, z = (np.exp(-(((np.arange(n) - c) / width) ** 2) / 2) for n, c in zip(shape, centre, strict=True))
        image += rng.uniform(0.3, 1.0) * x[:, None, None] * y[:, None] * z
    return (image / image.max()).astype(np.float32)[None]


def error(ddf, truth, inside):
    return float(np.mean(np.sqrt(np.sum((ddf - truth) ** 2, axis=-1))[inside]))


def test_register_recovers_a_known_field(example):
    from agnoreg.functional import warp

    registration = example("register_numpy")
    moving = blobs((40, 44, 36))
    truth = registration.smooth_field(moving.shape[1:], largest=2.0)
    fixed = warp(moving, truth)
    inside = fixed > 0.1
    seen = []
    ddf, losses = registration.register(fixed, moving, iterations=40, report=lambda *state: seen.append(state[:3]))

    assert error(ddf, truth, inside) <= 0.4 * error(np.zeros_like(truth), truth, inside)
    assert np.mean((warp(moving, ddf) - fixed) ** 2) <= 0.1 * np.mean((moving - fixed) ** 2)
    assert ddf.shape == (*moving.shape, 3)
    assert ddf.dtype == np.float32

    # The losses fall, and those reported are those returned.
    tens = np.mean(np.reshape(losses, (4, 10)), axis=1)
    assert np.all(np.diff(tens) < 0)
    assert losses[-1] == min(losses)
    assert [number for number, _, _ in seen] == list(range(40))
    np.testing.assert_allclose([image + 3.0 * bending for _, image, bending in seen], losses, rtol=1e-6)


def test_the_registration_needs_nothing_but_numpy():
    code = "import sys, register_numpy; print(*(set(sys.argv[1:]) & set(sys.modules)))"
    others = ["torch", "tensorflow", "cupy", "jax", "scipy", "nilearn", "nibabel", "numpy"]
    done = subprocess.run(
        [sys.executable, "-c", code, *others], cwd=EXAMPLES, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["numpy"]


def test_two_equal_images_stay_where_they_are(example):
    moving = blobs((16, 16, 16), count=20)
    ddf, losses = example("register_numpy").register(moving, moving.copy(), iterations=2, step=0.1)
    assert np.max(np.abs(ddf)) <= 0.1
    assert losses[0] == pytest.approx(-1.0, abs=1e-5)


def test_the_field_is_smooth_invertible_and_the_same_on_every_grid(example):
    field = example("register_numpy").smooth_field
    fine, coarse = field((49, 57, 45), 2.0), field((25, 29, 23), 1.0)
    assert np.max(np.linalg.norm(fine, axis=-1)) == pytest.approx(2.0, rel=1e-5)
    np.testing.assert_allclose(fine[:, ::2, ::2, ::2] / 2, coarse, rtol=0, atol=0.05)
    jacobian = np.stack([np.stack(np.gradient(fine[0, ..., i]), axis=-1) for i in range(3)], axis=-2) + np.eye(3)
    assert np.min(np.linalg.det(jacobian)) > 0.3
    assert not np.array_equal(field((9, 9, 9), 1.0), field((9, 9, 9), 1.0, seed=1))


@needs_images
@needs_nifti
def test_register_numpy_prints_an_error_that_falls_and_a_dice_that_rises(example, capsys, tmp_path):
    import nibabel

    example("register_numpy").main(["--factor", "4", "--iterations", "40", "--out", str(tmp_path / "new" / "folder")])
    printed = capsys.readouterr().out
    rows = re.findall(r"^ +(\d+) +(-0\.\d+) +(0\.\d+) +(\d\.\d+) +\d+\.\d$", printed, re.MULTILINE)
    assert [int(row[0]) for row in rows] == [0, 5, 10, 15, 20, 25, 30, 35, 39]
    assert float(rows[0][1]) > float(rows[4][1]) > float(rows[8][1])
    before, after = map(float, re.search(r"brain: (\S+) voxels before, (\S+) after", printed).groups())
    assert after <= 0.4 * before
    before, after = map(float, re.search(r"grey matter: (\S+) before, (\S+) after", printed).groups())
    assert after > before + 0.05

    saved = {path.name: nibabel.load(path) for path in (tmp_path / "new" / "folder").iterdir()}
    assert sorted(saved) == ["ddf.nii.gz", "ddf_true.nii.gz", "fixed.nii.gz", "moving.nii.gz", "warped.nii.gz"]
    assert saved["ddf.nii.gz"].shape == (*saved["fixed.nii.gz"].shape, 3)
    # A block of 4 voxels of 1 mm: its middle lies 1.5 voxels after its first one.
    np.testing.assert_allclose(saved["fixed.nii.gz"].affine[:3, :3], 4 * np.eye(3))
    np.testing.assert_allclose(saved["fixed.nii.gz"].affine[:3, 3], np.asarray([-98, -134, -72]) + 1.5)


@needs_images
@needs_nifti
def test_the_demo_registers_a_pair_and_evaluates_it_before_and_after_in_one_table(example, capfd, tmp_path):
    pytest.importorskip("typer", reason="typer, which the command line needs, is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib, which draws the picture, is not installed")
    pytest.importorskip("jinja2", reason="jinja2, which fills the report's page, is not installed")
    example("demo").main(["--out", str(tmp_path), "--factor", "4", "--iterations", "12"])
    printed = capfd.readouterr().out
    assert printed.count("$ agnoreg evaluate") == 1
    assert re.search(r"metric +label +before +after", printed)
    assert "1 grey matter" in printed
    before, after = map(float, re.search(r"brain: (\S+) voxels before, (\S+) after", printed).groups())
    assert after < 0.6 * before
    # The last lines say what to do next, and where the picture and the report are.
    told, last = printed.strip().splitlines()[-2:]
    assert "agnoreg evaluate FIXED MOVED" in told
    picture, report = tmp_path / "registration.png", tmp_path / "report.html"
    assert told.endswith(f"{picture},")
    assert last.endswith(str(report))
    assert "grey matter" in report.read_text("utf-8")
    assert picture.read_bytes().startswith(b"\x89PNG")

    records = json.loads((tmp_path / "evaluation.json").read_text())["metrics"]
    assert {record["label_name"] for record in records} == {"", "grey matter", "white matter"}
    for record in records:
        if record["measured"] == "field":
            assert record["before"] is None
            continue
        gained = record["value"] - record["before"]
        if record["metric"] == "hd95" and record["label"] != "mean" and gained == 0:
            # A percentile of distances between surfaces is a multiple of these voxels of 4 mm.
            assert record["value"] % 4 == 0
            continue
        assert gained > 0 if record["direction"] == "higher" else gained < 0, record["metric"]


@needs_images
def test_the_picture_shows_the_slice_that_differs_most(example):
    pytest.importorskip("matplotlib", reason="matplotlib, which draws the picture, is not installed")
    fixed, moving = np.zeros((2, 5, 6, 7))
    moving[1:3, 2, 4] = 1.0
    assert example("picture").most_different(fixed, moving) == 4


def test_the_demo_labels_the_likelier_tissue(example):
    pytest.importorskip("nibabel", reason="nibabel is not installed")
    grey, white = np.asarray([0.9, 0.2, 0.4, 0.1, 0.5]), np.asarray([0.1, 0.8, 0.35, 0.2, 0.5])
    np.testing.assert_array_equal(example("demo").tissues(grey, white), [1, 2, 1, 0, 2])


#: Runs scripts one after the other as the gallery does, and prints what each raised, and how many figures it made.
RUNNER = """
import json, runpy, sys, time, traceback, warnings
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot
warnings.simplefilter("error")
# Keras hands PyTorch's arrays to NumPy in an older way, and MONAI's bending energy indexes PyTorch's in one.
warnings.filterwarnings("ignore", "Using a non-tuple sequence", UserWarning)
warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
pyplot.show = lambda *arguments: None
results = {}
for path in sys.argv[1:]:
    start, raised = time.perf_counter(), ""
    try:
        runpy.run_path(path, run_name="__main__")
    except BaseException:
        raised = traceback.format_exc()
    results[path] = raised, len(pyplot.get_fignums()), time.perf_counter() - start
    pyplot.close("all")
print(json.dumps(results))
"""


@pytest.mark.slow
def test_every_example_of_the_gallery_runs_and_ends_with_a_picture():
    scripts = sorted(EXAMPLES.glob("plot_*.py"))
    assert len(scripts) >= 8
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, *map(str, scripts)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": "torch", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    raised = {Path(path).name: one[0] for path, one in results.items() if one[0]}
    assert not raised, "\n".join(raised.values())
    assert all(one[1] for one in results.values()), "an example without a picture"
    # What the scripts promise to show.
    printed = dict(re.findall(r"^(.+?): (?:lowest at a shift of )?(-?\d+)", done.stdout, flags=re.MULTILINE))
    assert printed["CT with the body as mask"] == "-5"
    assert float(re.search(r"two curves: (\S+)", done.stdout).group(1)) < 1e-4
    for pattern in (r"new pairs: (\S+) before, (\S+) after", r"error of the field: (\S+) voxels before, (\S+) after"):
        before, after = map(float, re.search(pattern, done.stdout).groups())
        assert after < 0.6 * before
    before, after = map(float, re.search(r"LNCC loss: (\S+) before, (\S+) after", done.stdout).groups())
    assert after < before
    without, with_mask = map(float, re.findall(r"mask: mean error (\S+) voxels", done.stdout))
    assert with_mask < without
    # Learn2Reg's code counts no fold, also not in the field that is made to fold.
    folds = re.findall(r"folds,\s+%\s+(\S+),\s+folds,\s+Learn2Reg\s+(\S+),", done.stdout)
    assert {float(theirs) for _, theirs in folds} == {0.0}
    assert [float(ours) > 0 for ours, _ in folds] == [False, False, True, False]
    assert done.stdout.count("Dice of label 1") == 4
    assert "case 5 failed" in done.stdout
    assert "written: case_1 case_2 case_3 case_4 index" in done.stdout
    assert "mutual information is lowest at a shift of 0 voxels" in done.stdout
