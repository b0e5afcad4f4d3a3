"""The command as a tour: help, completion, lists and pages of metrics, quiet and dry runs, JSON to stdout, progress."""

import json
import os
import re
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest

from agnoreg.engine import kernels
from agnoreg.evaluate import cli_messages
from agnoreg.evaluate.evaluation import check_pair, evaluate_pair, planned
from agnoreg.evaluate.metrics import known_names
from agnoreg.evaluate.quantities import QUANTITIES
from agnoreg.objects.registry import registered_losses

SHAPE = (11, 12, 13)
AFFINE = np.diag([1.5, 2.0, 3.0, 1.0])
PAIR = ("fixed.nii.gz", "moved.nii")
LABELS = ("--fixed-label", "label.nii", "--moved-label", "moved_label.nii")
FILES = {"fixed_label": "label.nii", "moved_label": "moved_label.nii", "ddf": "disp.npz"}


@pytest.fixture(autouse=True)
def files(tmp_path, rng, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def save(name, array):
        nib.save(nib.Nifti1Image(array, AFFINE), name)

    fixed = rng.random(SHAPE).astype(np.float32)
    label = np.zeros(SHAPE, np.uint8)
    label[1:5, 2:8, 3:9] = 3
    label[6:9, 2:8, 3:9] = 5
    save("fixed.nii.gz", fixed)
    save("moved.nii", (fixed + rng.random(SHAPE)).astype(np.float32))
    save("label.nii", label)
    save("moved_label.nii", np.roll(label, 1, 0))
    np.savez("disp.npz", rng.standard_normal((3, *SHAPE)).astype(np.float16))
    (tmp_path / "points.csv").write_text("1,2,3\n5,5,5\n")


# --- help -------------------------------------------------------------------------------------------------------------


def test_help_is_a_tour_with_three_examples_that_fit_80_columns(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    examples = re.findall(r"^   agnoreg evaluate .*$", out, re.MULTILINE)
    assert len(examples) == 3
    assert "--pairs pairs.csv --out results.parquet" in examples[2]
    for word in ("evaluate", "losses", "metrics", "backends", "--dry-run", "--install-completion"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_examples_of_the_help_are_commands_that_parse(run):
    code, _, err = run("evaluate", "f.nii.gz", "m.nii.gz", "--ddf", "disp.npz", "--convention", "learn2reg")
    assert (code, err) == (2, "agnoreg: error: fixed image f.nii.gz does not exist.\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("agnoreg eval", {"evaluate"}),
        ("agnoreg metrics tre_m", {"tre_mean", "tre_median", "tre_max"}),
        ("agnoreg evaluate --convention med", {"medpy", "medpy-0.4"}),
        ("agnoreg evaluate --loss hd", {"hd95"}),
    ],
)
def test_the_shell_completes_names(line, expected):
    words = line.split()
    environment = os.environ | {
        "_AGNOREG_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_TESTING": "1",
    }
    command = [sys.executable, "-c", "from agnoreg.evaluate.cli import main; main()"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert set(found.stdout.split()) == expected, found.stderr


# --- lists and pages --------------------------------------------------------------------------------------------------


def test_metrics_lists_all_that_can_be_asked_for(run):
    code, out, _ = run("metrics")
    assert code == 0
    for name in QUANTITIES:
        assert re.search(rf"^{name} ", out, re.MULTILINE)


@pytest.mark.parametrize("name", [*QUANTITIES, "overlap", "tre"])
def test_a_page_of_a_metric_says_what_it_is(run, name):
    code, out, err = run("metrics", name)
    assert (code, err) == (0, "")
    assert " is better" in out
    flat = " ".join(out.split())
    for one in [QUANTITIES[name]] if name in QUANTITIES else []:
        assert one.definition in flat
        for convention in one.conventions:
            assert f"- convention={convention}:" in flat


@pytest.mark.parametrize("name", registered_losses())
def test_a_page_of_a_loss_says_formula_range_and_arguments(run, name):
    code, out, err = run("losses", name)
    assert (code, err) == (0, "")
    assert out.startswith(f"{name}: ")
    assert registered_losses()[name].__name__ in out.partition("\n\n")[0]
    assert " is better" in out
    assert re.search("^(Arguments: |No arguments)", out, re.MULTILINE)


def test_another_name_of_a_loss_has_the_same_page(run):
    for name, other in (("gncc", "ncc"), ("gmi", "mi"), ("lncc", "LNCC")):
        first, second = (run("losses", one)[1].partition("\n\n") for one in (name, other))
        assert second[2] == first[2]


def test_a_metric_is_found_by_the_name_of_its_loss_and_each_page_names_the_other(run):
    for name, metric in (("dice", "overlap_dice"), ("jaccard", "overlap_jaccard"), ("hd", "hausdorff")):
        code, out, err = run("metrics", name)
        assert (code, err) == (0, "")
        assert out.startswith(f"{name} means {metric} among the metrics.\n{metric}: ")
    for name, metric in (("dice", "overlap_dice"), ("DiceScore", "overlap_dice"), ("jaccard", "overlap_jaccard")):
        assert f"agnoreg metrics {metric} prints" in run("losses", name)[1]
        assert f"agnoreg losses {metric.removeprefix('overlap_')} prints" in run("metrics", metric)[1]
    for name in ("bending", "lncc", "centroid_distance"):
        code, out, err = run("metrics", name)
        assert (code, err, out.partition("\n\n")[2]) == (0, "", run("losses", name)[1])
    for name in ("hd95", "tre"):
        code, out, err = run("losses", name)
        assert (code, err, out.partition("\n\n")[2]) == (0, "", run("metrics", name)[1])
        assert out.startswith(f"{name} has no gradient: it is no loss, but a metric")


def test_the_best_value_says_of_what_it_is(run):
    for name in ("bending", "gradient"):
        assert "0 for displacements of zero; of field" in run("losses", name)[1]
        assert "equal" not in run("losses", name)[1].partition("Arguments")[0]
    assert "0 for two equal images or labels; of images, labels" in run("losses", "ssd")[1]
    assert "1 for two equal images; of images" in run("losses", "lncc")[1]


def test_each_title_has_one_definition():
    quantities = list(QUANTITIES.values())
    assert len({one.title for one in quantities}) == len(quantities)
    assert [QUANTITIES[name].title for name in ("ndv_percent", "ndv")] == ["NDV, share", "NDV, volume"]


def test_a_name_that_nobody_has_is_answered_by_those_that_there_are(run):
    code, out, err = run("metrics", "hd96")
    assert (code, out) == (2, "")
    assert "There is no metric 'hd96': there are overlap_dice," in err
    assert run("losses", "lnc")[0] == 2


def test_every_known_name_can_be_planned():
    for name in known_names():
        assert planned([name], ("images", "labels", "field", "landmarks"), nsd_tolerance=1.0)


# --- what is printed --------------------------------------------------------------------------------------------------


def test_json_to_stdout_is_alone_there(run):
    code, out, err = run("evaluate", *PAIR, *LABELS, "--json", "-")
    assert (code, err) == (0, "")
    content = json.loads(out)
    expected = evaluate_pair(*PAIR, fixed_label="label.nii", moved_label="moved_label.nii")
    assert [entry["value"] for entry in content["metrics"]] == [record.value for record in expected.records]
    code, out, _ = run("evaluate", *PAIR, "--csv", "-")
    assert out.startswith("metric,arguments,")
    assert run("evaluate", *PAIR, "--json", "-", "--csv", "-")[0] == 2


def test_quiet_prints_the_table_alone_and_means(run):
    loud, quiet = (run("evaluate", *PAIR, *LABELS, *how)[1] for how in ((), ("-q",)))
    assert "- background label 0 left out." in loud
    assert "- HD95: " in loud
    assert not re.search("^- ", quiet, re.MULTILINE)
    labels = [line.split() for line in quiet.splitlines()[2:]]
    assert all("3" not in words[1:2] for words in labels)
    assert quiet.count("mean") == 9


def test_a_definition_is_printed_for_every_metric(run):
    out = " ".join(run("evaluate", *PAIR, *LABELS, "--ddf", "disp.npz")[1].split())
    result = evaluate_pair(*PAIR, **FILES)
    for record in result.records:
        assert f"{record.title}: {record.definition.split('; ')[0].rstrip('.')}" in out


def test_a_dry_run_checks_and_says_and_writes_nothing(run, tmp_path):
    before = sorted(path.name for path in tmp_path.iterdir())
    options = ("--ddf", "disp.npz", "--fixed-landmarks", "points.csv", "--moving-landmarks", "points.csv")
    code, out, err = run("evaluate", *PAIR, *LABELS, *options, "--dry-run", "--json", "out.json")
    assert (code, err) == (0, "")
    assert "disp.npz" in out
    assert "- labels: Dice, Jaccard, centroid distance (mm), sensitivity," in out
    assert "- landmarks: TRE, mean (mm)," in out
    assert "out.json would be written." in out
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5), np.float32), AFFINE), "other.nii")
    code, out, err = run("evaluate", "fixed.nii.gz", "other.nii", "--dry-run")
    assert (code, out) == (2, "")
    assert "have different shapes" in err


def test_what_a_check_plans_is_what_is_computed():
    checked = check_pair(*PAIR, **FILES)
    result = evaluate_pair(*PAIR, **FILES)
    distinct = dict.fromkeys((record.metric, record.measured, record.unit, record.title) for record in result.records)
    assert [(one.metric, one.measured, one.unit, one.title) for one in checked.series] == list(distinct)
    assert [(entry.role, entry.path) for entry in checked.inputs] == [(one.role, one.path) for one in result.inputs]


def test_many_pairs_can_be_tried(run, tmp_path):
    (tmp_path / "pairs.csv").write_text(
        "fixed,moved,fixed_label,moved_label,ddf\nfixed.nii.gz,moved.nii,label.nii,moved_label.nii,disp.npz\n"
        "fixed.nii.gz,none.nii,,,\n"
    )
    before = sorted(path.name for path in tmp_path.iterdir())
    code, out, err = run("evaluate", "--pairs", "pairs.csv", "--out", "out.csv", "--dry-run")
    assert code == 1
    assert out.startswith("pairs.csv: 2 pairs, 1 of which can be evaluated.\n")
    assert "  hd95[mean] (mm)\n" in out
    assert "line 3, pair 2: moved image" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# --- warnings and progress --------------------------------------------------------------------------------------------


def test_a_window_of_even_size_warns_in_the_commands_own_words(run, monkeypatch):
    monkeypatch.setattr(kernels, "_warned", [])
    code, _, err = run("evaluate", *PAIR, "--loss", "lncc:kernel_size=4")
    assert code == 0
    assert re.fullmatch(r"agnoreg: warning: An even kernel_size, here 4, puts windows off-centre: [^\n]+\n", err)


def test_a_scale_larger_than_the_image_is_refused(run):
    code, out, err = run("evaluate", *PAIR, *LABELS, "--loss", "DiceLoss:scales=[0,50]")
    assert (code, out) == (2, "")
    assert "a scale of 50 voxels is larger than the image, 13 voxels" in err


def test_what_takes_long_is_said_on_a_terminal_alone(monkeypatch, capsys):
    monkeypatch.setattr(cli_messages, "PATIENCE", 0.0)
    for terminal in (False, True):
        monkeypatch.setenv("TTY_COMPATIBLE", "1" if terminal else "0")
        with cli_messages.activity() as say:
            say("labels")
            time.sleep(0.2)
        out, err = capsys.readouterr()
        assert out == ""
        assert ("labels ..." in err) is terminal


def test_evaluate_pair_says_what_it_does():
    said = []
    evaluate_pair(*PAIR, **FILES, progress=said.append)
    assert said == ["reading", "loading numpy", "images", "labels", "field"]
