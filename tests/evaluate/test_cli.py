"""The command: what it prints, what it writes, and its one line where something does not fit."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import agnoreg
from agnoreg.backend import lookup
from agnoreg.evaluate.evaluation import evaluate_pair

AFFINE = np.diag([1.5, 2.0, 3.0, 1.0])
SHAPE = (11, 12, 13)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")


@pytest.fixture
def files(tmp_path, rng, monkeypatch):
    """Write a pair, its label maps and a field into the current folder; return how to write more."""
    monkeypatch.chdir(tmp_path)

    def save(name, array, affine=AFFINE):
        nib.save(nib.Nifti1Image(array, affine), name)

    fixed = rng.random(SHAPE).astype(np.float32)
    label = np.zeros(SHAPE, np.uint8)
    label[1:5, 2:8, 3:9] = 3
    save("fixed.nii.gz", fixed)
    save("moved.nii", (fixed + rng.random(SHAPE)).astype(np.float32))
    save("fixed_label.nii.gz", label)
    save("moved_label.nii", np.roll(label, 1, 0))
    save("ddf.nii.gz", rng.standard_normal((*SHAPE, 3)).astype(np.float32))
    return save


PAIR = ("fixed.nii.gz", "moved.nii")
LABELS = ("--fixed-label", "fixed_label.nii.gz", "--moved-label", "moved_label.nii")


@pytest.fixture
def refused(run, tmp_path):
    """Run a command that must fail: exit code 2, one line on stderr, nothing on stdout, no file touched."""

    def refused(*arguments):
        def state():
            return {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}

        before = state()
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert re.fullmatch(r"agnoreg: error: [^\n]+\n", err), err
        assert state() == before
        return err

    return refused


NAMES = ["SSD", "Pearson's r", "LNCC", "mutual information", "Dice", "Jaccard", "centroid distance (mm)"]


def rows(out):
    """Return the cells of the printed table by metric."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    return {cells[0]: cells[1:] for cells in lines if len(cells) > 4}


def words(text):
    """Return what stands between blanks, without brackets, commas and stops."""
    return [word.strip("(),.;:") for word in text.split()]


# --- what it prints ---------------------------------------------------------------------------------------------------


def test_the_table_shows_the_values_of_the_api(files, run):
    code, out, err = run("evaluate", *PAIR, "--ddf", "ddf.nii.gz")
    assert (code, err) == (0, "")
    table = rows(out)
    result = evaluate_pair(*PAIR, ddf="ddf.nii.gz")
    folds = [
        "folded voxels",
        "folding (%)",
        "digital folding (%)",
        "min det(J)",
        "NDV, share (%)",
        "NDV, volume (mm^3)",
    ]
    folds.append("SDlogJ")
    assert list(table) == ["metric", *NAMES[:4], "gradient norm", "bending energy (1/mm^2)", *folds]
    for cells, record in zip(list(table.values())[1:], result.records, strict=True):
        assert float(cells[0]) == pytest.approx(record.value, rel=0.005)
        if record.value < 1000:
            assert len(re.sub(r"^0\.0*|\.", "", cells[0].lstrip("-"))) in (3, 4), cells[0]
        else:
            assert cells[0] == f"{record.value:.0f}"
    for note in result.notes:
        assert f"- {note}" in out
    assert "(convention=exact, squared=False)" in out
    assert "fixed.nii.gz (fixed) and moved.nii (moved): 11 x 12 x 13 voxels of 1.5 x 2 x 3 mm; numpy on cpu" in out


def test_cli_states_direction_range_and_identity(files, run):
    _, out, _ = run("evaluate", *PAIR, *LABELS, "--ddf", "ddf.nii.gz")
    table = rows(out)
    assert table["metric"] == ["label", "value", "range", "better", "best"]
    stated = {name: [*cells[-3:]] for name, cells in table.items()}
    assert stated["SSD"] == ["0 to inf", "lower", "0"]
    assert stated["Pearson's r"] == ["-1 to 1", "higher", "1"]
    assert stated["LNCC"] == ["0 to 1", "higher", "1"]
    assert stated["mutual information"] == ["0 to 3.135", "higher", "—"]
    assert stated["Dice"] == ["0 to 1", "higher", "1"]
    assert stated["Jaccard"] == ["0 to 1", "higher", "1"]
    assert stated["centroid distance (mm)"] == ["0 to inf", "lower", "0"]
    assert stated["gradient norm"] == ["0 to inf", "lower", "0"]
    assert stated["bending energy (1/mm^2)"] == ["0 to inf", "lower", "0"]
    assert "best: the value of two equal images" in out


def test_two_equal_images_have_the_stated_value(files, run):
    _, out, _ = run("evaluate", "fixed.nii.gz", "fixed.nii.gz", *LABELS[:3], "fixed_label.nii.gz")
    table = rows(out)
    assert table.keys() >= {*NAMES} - {"mutual information"}
    for name in table.keys() - {"metric", "mutual information", "mean"}:
        value, best = table[name][-4], table[name][-1]
        assert float(value) == pytest.approx(float(best), abs=1e-6), name


def test_labels_have_a_row_each_and_a_mean(files, run):
    _, out, _ = run("evaluate", *PAIR, *LABELS)
    assert rows(out)["Dice"][:2] == ["3", "0.750"]
    assert rows(out)["Jaccard"][:2] == ["3", "0.600"]
    assert rows(out)["centroid distance (mm)"][:2] == ["3", "1.5"]
    assert len(re.findall("^ +mean  ", out, re.MULTILINE)) == 9  # Of nine metrics.
    assert "- background label 0 left out." in out


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_the_table_fits_the_terminal(files, run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = run(
        "evaluate", *PAIR, *LABELS, "--ddf", "ddf.nii.gz", "--loss", "lncc", "--loss", "dice", "--loss", "ssd"
    )
    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in out
    assert "LNCC" in out
    _, out, _ = run("losses")
    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in out
    assert set(words(out)) >= {cls.__name__ for cls in agnoreg.registered_losses().values()}


def test_an_ascii_terminal_gets_ascii(files):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "140"}
    command = [
        sys.executable,
        "-c",
        "from agnoreg.evaluate.cli import main; main()",
        "evaluate",
        *PAIR,
        "--loss",
        "gmi",
    ]
    result = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert b"mutual information" in result.stdout
    assert result.stdout.isascii()


def test_brackets_in_a_name_are_no_markup(files, run):
    os.rename("fixed.nii.gz", "[red]fixed.nii.gz")
    _, out, _ = run("evaluate", "[red]fixed.nii.gz", "moved.nii", "--loss", "lncc:kernel_size=3")
    assert "[red]fixed.nii.gz" in out
    assert "(kernel_size=3)" in out


@pytest.mark.parametrize("name", ["torch", "tensorflow", "array_api_strict"])
def test_a_backend_gives_the_same_numbers(files, run, name):
    digits = 6
    numbers = []
    for backend in ("numpy", name):
        code, out, err = run("evaluate", *PAIR, *LABELS, "--backend", backend, "--json", "out.json")
        assert (code, err) == (0, "")
        assert f"; {backend} on " in out
        content = json.loads(Path("out.json").read_text("utf-8"))
        assert {entry["backend"] for entry in content["metrics"]} == {backend}
        numbers.append([entry["value"] for entry in content["metrics"]])
    assert numbers[1] == pytest.approx(numbers[0], rel=10**-digits)


def test_warnings_are_on_stderr(files, run):
    label = np.asarray(nib.load("fixed_label.nii.gz").dataobj) * np.float32(0.9999)
    files("float.nii.gz", label)
    code, out, err = run("evaluate", *PAIR, "--fixed-label", "float.nii.gz", "--moved-label", "moved_label.nii")
    assert code == 0
    assert re.fullmatch(r"agnoreg: warning: fixed label float\.nii\.gz stores values .* rounded[^\n]*\n", err)
    assert "warning" not in out


def test_mm_and_voxels(files, run):
    _, voxels, _ = run("evaluate", *PAIR, "--ddf", "ddf.nii.gz", "--loss", "gradient")
    field = np.asarray(nib.load("ddf.nii.gz").dataobj) * np.float32([1.5, 2, 3])
    files("mm.nii.gz", field[:, :, :, None])
    _, mm, _ = run("evaluate", *PAIR, "--ddf", "mm.nii.gz", "--ddf-units", "mm", "--loss", "gradient")
    assert rows(mm)["gradient norm"][0] == rows(voxels)["gradient norm"][0]
    assert "- ddf read in mm, divided by the voxel size of each axis." in mm


def test_no_scale(files, run):
    _, out, _ = run("evaluate", *PAIR, "--no-scale", "--loss", "ssd")
    difference = np.asarray(nib.load(PAIR[0]).dataobj) - np.asarray(nib.load(PAIR[1]).dataobj)
    assert rows(out)["SSD"][0] == f"{np.mean(difference**2):.4g}"
    assert "fixed image not scaled" in out


# --- what it writes ---------------------------------------------------------------------------------------------------


def test_json_and_csv(files, run):
    code, out, _ = run("evaluate", *PAIR, *LABELS, "--json", "a.json", "--csv", "b.csv")
    assert code == 0
    content = json.loads(Path("a.json").read_text("utf-8"))
    lines = list(csv.DictReader(Path("b.csv").read_text("utf-8").splitlines()))
    assert [line["metric"] for line in lines] == [entry["metric"] for entry in content["metrics"]]
    for line, entry in zip(lines, content["metrics"], strict=True):
        assert float(line["value"]) == entry["value"]
        assert line["direction"] == entry["direction"]
        assert re.search(rf"(?m)^{re.escape(entry['title'])}\b", out)
    assert (lines[0]["range_low"], lines[0]["range_high"]) == ("0.0", "inf")


# --- refused ----------------------------------------------------------------------------------------------------------


def truncate(name, share=0.5):
    with open(name, "rb+") as file:
        file.truncate(int(os.path.getsize(name) * share))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
@pytest.mark.parametrize("name", ["fixed.nii.gz", "moved.nii"])
def test_a_truncated_file(files, refused, name, share):
    truncate(name, share)
    assert name in refused("evaluate", *PAIR, "--json", "out.json")


@pytest.mark.parametrize("name", ["fixed_label.nii.gz", "moved_label.nii", "ddf.nii.gz"])
def test_a_truncated_label_map_or_field(files, refused, name):
    truncate(name)
    assert name in refused("evaluate", *PAIR, *LABELS, "--ddf", "ddf.nii.gz", "--csv", "out.csv")


def test_a_damaged_stream(files, refused):
    """Every voxel is there, and the checksum at the end says that they are not what was written."""
    packed = bytearray(Path("fixed.nii.gz").read_bytes())
    packed[-8] ^= 1
    Path("fixed.nii.gz").write_bytes(packed)
    assert "fixed image fixed.nii.gz cannot be read" in refused("evaluate", *PAIR)


def test_a_missing_file(files, refused):
    assert "moved image nowhere.nii does not exist" in refused("evaluate", "fixed.nii.gz", "nowhere.nii")
    assert "is a folder" in refused("evaluate", "fixed.nii.gz", ".")


@pytest.mark.skipif(os.name != "posix", reason="how long a name may be is POSIX's")
def test_a_name_that_is_too_long_is_refused_wherever_it_stands(files, refused):
    long = "x" * 300
    assert "fixed image xxx" in refused("evaluate", f"{long}.nii", "moved.nii")
    assert "cannot be read: File name too long" in refused("evaluate", "fixed.nii.gz", f"{long}.nii.gz")
    for options in (("--fixed-label", f"{long}.nii", "--moved-label", "moved_label.nii"), ("--ddf", f"{long}.nii")):
        assert "File name too long" in refused("evaluate", *PAIR, *options)
    assert "cannot be written: File name too long" in refused("evaluate", *PAIR, "--json", f"{long}.json")
    assert "File name too long" in refused("evaluate", "--pairs", f"{long}.csv", "--out", "out.parquet")
    Path("pairs.csv").write_text("fixed,moved\nfixed.nii.gz,moved.nii\n")
    for name in (long, "x" * 245):
        said = refused("evaluate", "--pairs", "pairs.csv", "--out", f"{name}.parquet")
        assert re.search("cannot be written: (its name is longer than 249 bytes|File name too long)", said)


@pytest.mark.parametrize("name", ["text.nii", "text.nii.gz", "text.txt", "image.mgz", "image.png"])
def test_no_nifti(files, refused, name):
    if name == "image.mgz":
        nib.save(nib.MGHImage(np.zeros(SHAPE, np.float32), AFFINE), name)
    else:
        Path(name).write_text("no image\n" * 100)
    assert name in refused("evaluate", "fixed.nii.gz", name)


def test_a_header_with_a_huge_shape(files, refused):
    content = bytearray(Path("moved.nii").read_bytes())
    content[42:48] = np.array([32767, 32767, 32767], "<i2").tobytes()
    Path("moved.nii").write_bytes(content)
    refused("evaluate", "moved.nii", "moved.nii")


def test_different_shapes_are_both_named(files, refused):
    files("other.nii", np.zeros((11, 12, 14), np.float32))
    message = refused("evaluate", "fixed.nii.gz", "other.nii", "--ignore-affine")
    assert "(11, 12, 13) and (11, 12, 14)" in message


def test_different_grids_are_refused_unless_tolerated(files, refused, run):
    moved = np.asarray(nib.load("moved.nii").dataobj)
    near, far = AFFINE.copy(), AFFINE.copy()
    near[0, 3] += 1.5e-5
    far[0, 3] += 0.3
    files("near.nii", moved, near)
    files("far.nii", moved, far)
    code, _, err = run("evaluate", "fixed.nii.gz", "near.nii", "--loss", "ssd")
    assert (code, err) == (0, "")
    message = refused("evaluate", "fixed.nii.gz", "far.nii", "--json", "out.json")
    assert "origin (0, 0, 0) and (0.3" in message
    assert "up to 0.3 mm, 0.2 voxels apart" in message
    code, _, err = run("evaluate", "fixed.nii.gz", "far.nii", "--loss", "ssd", "--affine-tol", "0.25")
    assert (code, err) == (0, "")
    code, _, err = run("evaluate", "fixed.nii.gz", "far.nii", "--loss", "ssd", "--ignore-affine")
    assert code == 0
    assert re.fullmatch(r"agnoreg: warning: .*origin.*ignored[^\n]*\n", err)


def test_a_4_d_image(files, refused):
    files("four.nii.gz", np.zeros((*SHAPE, 2), np.float32))
    assert "4-D" in refused("evaluate", "four.nii.gz", "moved.nii")


def test_a_probability_map_is_refused_as_labels(files, refused):
    files("probability.nii.gz", np.full(SHAPE, 0.25, np.float32))
    arguments = ("--fixed-label", "probability.nii.gz", "--moved-label", "moved_label.nii")
    assert "(0.25)" in refused("evaluate", *PAIR, *arguments)


def test_a_label_map_without_its_partner(files, refused):
    assert "--moved-label" in refused("evaluate", *PAIR, *LABELS[:2])


def test_an_unknown_loss_or_argument(files, refused):
    message = refused("evaluate", *PAIR, "--loss", "lnc")
    assert "Did you mean 'lncc'?" in message
    for name in agnoreg.registered_losses():
        assert name in message
    assert "Did you mean 'kernel_size'?" in refused("evaluate", *PAIR, "--loss", "lncc:kernel_siz=3")
    assert "kernel_size" in refused("evaluate", *PAIR, "--loss", "lncc:kernel_size=0")


def test_a_backend_that_is_not_installed(files, refused, monkeypatch):
    monkeypatch.setattr(lookup, "_loaded", {})
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "agnoreg_cupy", raising=False)
    message = refused("evaluate", *PAIR, "--backend", "cupy")
    assert "pip install agnoreg[cupy12] or agnoreg[cupy13]" in message
    assert "numpy, tensorflow, torch" in refused("evaluate", *PAIR, "--backend", "nonesuch")


@pytest.mark.parametrize("backend", ["numpy", "torch", "tensorflow"])
def test_a_device_that_is_not_there(files, refused, backend):
    message = refused("evaluate", *PAIR, "--backend", backend, "--device", "nonesuch")
    assert f"The backend {backend} cannot use the device 'nonesuch'" in message


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_an_output_that_cannot_be_written(files, refused, option):
    assert "folder that does not exist, nowhere" in refused("evaluate", *PAIR, option, "nowhere/out")
    os.mkdir("folder")
    assert "is a folder" in refused("evaluate", *PAIR, option, "folder")
    assert "is an input" in refused("evaluate", *PAIR, option, "fixed.nii.gz")
    assert "no regular file" in refused("evaluate", *PAIR, option, os.devnull)


def test_two_outputs_in_one_file(files, refused):
    assert "written twice" in refused("evaluate", *PAIR, "--json", "out", "--csv", "./out")


def test_an_older_output_survives_a_failure(files, refused, run):
    run("evaluate", *PAIR, "--json", "out.json", "--loss", "ssd")
    before = Path("out.json").read_bytes()
    truncate("moved.nii")
    refused("evaluate", *PAIR, "--json", "out.json", "--loss", "ssd")
    assert Path("out.json").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonesuch",),
        ("evaluate",),
        ("evaluate", "fixed.nii.gz"),
        ("evaluate", *PAIR, "more.nii"),
        ("evaluate", *PAIR, "--nonesuch"),
        ("evaluate", *PAIR, "--affine-tol", "wide"),
        ("evaluate", *PAIR, "--affine-tol", "-1"),
        ("evaluate", *PAIR, "--ddf-units", "cm"),
        ("evaluate", *PAIR, "--json"),
    ],
)
def test_options_that_do_not_fit(files, refused, arguments):
    refused(*arguments)


# --- the other commands -----------------------------------------------------------------------------------------------


def test_losses_lists_every_registered_one_and_its_metric(run):
    code, out, err = run("losses")
    assert (code, err) == (0, "")
    table = rows(out)
    for name, kind in agnoreg.registered_losses().items():
        assert table[name][0] == kind.__name__
        assert table[name][-2] == kind().direction
    assert table["DiceScore"][-3:] == ["0 to 1", "higher", "—"]
    assert table["lncc"][1:] == ["images", "-1 to 0", "lower", "-1"]
    assert re.search(r"LocalNormalizedCrossCorrelation +kernel_size=9, kernel_type=rectangular, smooth_nr=1e-05", out)


def test_backends_says_ok_absent_or_broken_and_exits_0(run, monkeypatch):
    monkeypatch.setattr(lookup, "_loaded", {})
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "agnoreg_cupy", raising=False)
    code, out, _ = run("backends")
    assert code == 0
    states = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert states["numpy"] == "ok"
    assert states["cupy"].startswith("absent: ")
    assert "agnoreg[cupy12]" in states["cupy"]


def test_a_broken_framework_is_named_with_its_reason(run, monkeypatch, tmp_path):
    monkeypatch.setattr(lookup, "_loaded", {})
    monkeypatch.delitem(sys.modules, "agnoreg_cupy", raising=False)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    (tmp_path / "cupy.py").write_text("raise OSError('libcudart.so.12: cannot open\\nshared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    code, out, _ = run("backends")
    assert code == 0
    state = next(line for line in out.splitlines() if line.startswith("cupy"))
    assert "broken: " in state
    assert "OSError: libcudart.so.12: cannot open shared object file" in state


def test_version_and_help(run):
    assert run("--version") == (0, f"agnoreg {agnoreg.__version__}\n", "")
    for arguments in ((), ("--help",), ("evaluate", "-h")):
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        assert "Usage" in out


# --- a fresh process --------------------------------------------------------------------------------------------------

GUARD = """
import sys
from agnoreg.evaluate.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
loaded = {"torch", "tensorflow", "cupy", "jax", "dask"} & set(sys.modules)
assert not loaded, loaded
"""


def test_the_command_on_numpy_imports_no_framework(files):
    command = [sys.executable, "-W", "error", "-c", GUARD, "evaluate", *PAIR, *LABELS, "--ddf", "ddf.nii.gz"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "mutual information" in result.stdout


@pytest.mark.parametrize("module", ["nibabel", "typer", "rich"])
def test_without_the_cli_extra_it_says_what_to_install(module):
    code = f"import sys; sys.modules[{module!r}] = None\nfrom agnoreg.evaluate.cli import main\nmain()"
    result = subprocess.run([sys.executable, "-c", code, "losses"], capture_output=True, text=True)
    assert result.returncode == 2
    assert re.fullmatch(r"agnoreg: error: [^\n]*pip install agnoreg\[cli\][^\n]*\n", result.stderr)


def test_an_undefined_value_is_printed_as_nan(files, run):
    x = np.asarray(nib.load("fixed.nii.gz").dataobj).copy()
    x[0, 0, 0] = math.nan
    files("nan.nii", x)
    code, out, err = run("evaluate", "nan.nii", "moved.nii", "--json", "out.json")
    assert code == 0
    assert {cells[0] for name, cells in rows(out).items() if name != "metric"} == {"nan"}
    assert "1 voxels that are NaN or infinite" in err
    assert "--nan-is-masked" in err
    assert "--mask FILE" in err
    content = json.loads(Path("out.json").read_text("utf-8"))
    assert {entry["value"] for entry in content["metrics"]} == {None}


# --- options ----------------------------------------------------------------------------------------------------------


def test_seconds_and_backend_are_printed_where_they_are_asked_for(files, run):
    _, out, _ = run("evaluate", *PAIR, "--verbose")
    table = rows(out)
    assert table["metric"][-3:] == ["voxels", "seconds", "backend"]
    for name in NAMES[:4]:
        voxels, seconds, backend = table[name][-3:]
        assert (voxels, backend) == (str(math.prod(SHAPE)), "numpy")
        assert float(seconds) >= 0


@pytest.mark.parametrize("columns", [80, 100])
def test_a_long_list_of_labels_with_long_names_breaks_no_word(files, run, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    label = (np.arange(math.prod(SHAPE)) // 30).astype(np.int16).reshape(SHAPE)
    files("many.nii.gz", label)
    structures = ("Left-Cerebral-White-Matter", "ctx_rh_S_circular_insula_sup", "Hippocampus", "Nucleus of the Meynert")
    names = {which: f"{structures[which % 4]}-{which}" for which in np.unique(label)}
    Path("names.tsv").write_text("".join(f"{which}\t{name}\n" for which, name in names.items()))
    maps = ("--fixed-label", "many.nii.gz", "--moved-label", "many.nii.gz", "--label-names", "names.tsv")
    code, out, err = run("evaluate", *PAIR, *maps, "--ddf", "ddf.nii.gz")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= columns
    assert "…" not in out
    pieces = {piece for name in names.values() for piece in re.findall(r"[^-_ ]+[-_]?", name)}
    printed = {
        piece for line in out.splitlines() for word in line.split() for piece in re.findall(r"[^-_]+[-_]?", word)
    }
    assert pieces <= printed
    whole = {"mutual", "information", "Pearson's", "centroid", "distance", "gradient", "bending", "energy", "Jaccard"}
    assert whole <= set(words(out))


def test_the_names_of_labels_are_in_the_table(files, run):
    Path("lut.txt").write_text("#No. Label Name: R G B A\n0 Unknown 0 0 0 0\n3 Left-Thalamus 0 118 14 0\n")
    _, out, _ = run("evaluate", *PAIR, *LABELS, "--label-names", "lut.txt", "--json", "out.json")
    assert rows(out)["Dice"][:2] == ["3 Left-Thalamus", "0.750"]
    content = json.loads(Path("out.json").read_text("utf-8"))
    assert {entry["label_name"] for entry in content["metrics"] if entry["label"] == 3} == {"Left-Thalamus"}


def test_masks_and_nan_are_left_out_and_counted(files, run):
    x = np.asarray(nib.load("moved.nii").dataobj).copy()
    x[:2] = math.nan
    files("nan.nii", x)
    mask = np.ones(SHAPE, np.uint8)
    mask[:, :3] = 0
    files("mask.nii", mask)
    code, out, err = run("evaluate", "fixed.nii.gz", "nan.nii", "--nan-is-masked", "--mask", "mask.nii", "-v")
    assert (code, err) == (0, "")
    assert f"- images: {9 * 9 * 13} of {math.prod(SHAPE)} voxels count (mask mask.nii, {2 * 12 * 13} of moved" in out
    table = rows(out)
    assert {table[name][-3] for name in NAMES[:4]} == {str(9 * 9 * 13)}
    assert "nan" not in {cells[0] for cells in table.values()}


def test_many_pairs_take_masks_from_their_csv(files, refused):
    for option in ("--mask", "--fixed-mask", "--moving-mask"):
        assert f"{option} is of one pair" in refused("evaluate", "--pairs", "a.csv", "--out", "b.csv", option, "m.nii")


def test_a_convention_and_units_are_printed(files, run):
    _, out, _ = run("evaluate", *PAIR, "--ddf", "ddf.nii.gz", "--convention", "deepreg")
    assert out.count("convention=deepreg") == 5
    assert "bending energy (1/voxel^2)" in out
    assert "GNCC" in rows(out)
    _, out, _ = run("evaluate", *PAIR, "--ddf", "ddf.nii.gz", "--regulariser-units", "voxel", "--loss", "bending")
    assert list(rows(out)) == ["metric", "bending energy (1/voxel^2)"]


def test_a_list_of_numbers_is_an_argument(files, run):
    code, out, _ = run("evaluate", *PAIR, "--ddf", "ddf.nii.gz", "--loss", "lncc:kernel_size=[9,9,3]", "--loss", "ssd")
    assert code == 0
    assert "(kernel_size=[9, 9, 3])" in out
    code, out, _ = run("evaluate", *PAIR, "--ddf", "ddf.nii.gz", "--loss", "bending:spacing=[1,1,2.5]")
    assert code == 0
    assert "(spacing=[1, 1, 2.5])" in out
