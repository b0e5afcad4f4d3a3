"""The metrics of labels in an evaluation: overlap and distances between surfaces, each with its definition."""

import csv
import io
import json
import math
import sys
import warnings

import nibabel as nib
import numpy as np
import pytest
import surface_distance

from agnoreg.evaluate.evaluation import InputError, evaluate_pair, planned, to_csv, to_json
from agnoreg.evaluate.found import FoundMean, found_means, mean_of_found
from agnoreg.evaluate.tables import print_evaluation
from agnoreg.metrics import overlap, surface_distances

SHAPE = (18, 16, 14)
SIZES = (1.0, 1.5, 3.0)
LABELS = (3, 7)


def nifti(array):
    return nib.Nifti1Image(array, np.diag([*SIZES, 1.0]))


def ball(centre, radius):
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij"), -1)
    return np.linalg.norm(grid - centre, axis=-1) <= radius


@pytest.fixture
def maps():
    """Two label maps, of which the second is moved and a bit smaller."""
    fixed, moved = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    fixed[ball((5, 5, 5), 4)], moved[ball((6, 5, 7), 3.5)] = 3, 3
    fixed[ball((12, 11, 8), 3)], moved[ball((12, 10, 8), 3)] = 7, 7
    return fixed, moved


@pytest.fixture
def evaluated(rng):
    images = [nifti(x) for x in rng.random((2, *SHAPE)).astype(np.float32)]

    def evaluated(fixed, moved, **options):
        return evaluate_pair(*images, fixed_label=nifti(fixed), moved_label=nifti(moved), **options)

    return evaluated


def columns(result):
    """Return the values of each metric by label."""
    found = {}
    for record in result.records:
        if record.measured == "labels":
            found.setdefault(record.metric, {})[record.label] = record.value
    return found


def records_of(result, metric):
    return [record for record in result.records if record.metric == metric]


# --- values -----------------------------------------------------------------------------------------------------------


def test_every_number_is_the_one_of_the_library_in_mm(evaluated, maps):
    found = columns(evaluated(*maps, nsd_tolerance=1.2))
    counts = overlap(*(x[None] for x in maps), labels=LABELS)
    surfaces = surface_distances(*(x[None] for x in maps), labels=LABELS, spacing=SIZES)
    expected = {
        "sensitivity": counts.sensitivity,
        "precision": counts.precision,
        "volume_similarity": counts.volume_similarity,
        "hd95": surfaces.hausdorff(95),
        "masd": surfaces.masd(),
        "assd": surfaces.assd(),
        "nsd": surfaces.nsd(1.2),
    }
    for name, values in expected.items():
        assert found[name] == pytest.approx({3: values[0, 0], 7: values[0, 1], "mean": values.mean()}, abs=1e-15)
    assert counts.dice[0] == pytest.approx([found["DiceScore"][label] for label in LABELS], abs=1e-6)


def test_the_surface_dice_needs_a_tolerance(evaluated, maps):
    assert "nsd" not in columns(evaluated(*maps))
    asked = evaluated(*maps, losses=["nsd:tolerance=1.2"])
    assert columns(asked) == columns(evaluated(*maps, losses=["nsd"], nsd_tolerance=1.2))
    assert dict(asked.records[0].arguments) == {"tolerance": 1.2}
    with pytest.raises(InputError, match=r"--loss nsd: a tolerance in mm is needed, .* --nsd-tolerance MM"):
        evaluated(*maps, losses=["nsd"])
    with pytest.raises(InputError, match="tolerance must be a number of mm of at least 0, got -1"):
        evaluated(*maps, nsd_tolerance=-1)


def test_a_name_much_like_a_metrics_is_answered_by_it(evaluated, maps):
    with pytest.raises(InputError, match="Did you mean the metric 'hd95'"):
        evaluated(*maps, losses=["hd96"])


def test_a_tolerance_needs_labels(maps):
    images = [nifti(x.astype(np.float32)) for x in maps]
    with pytest.raises(InputError, match="--nsd-tolerance is of labels: it needs --fixed-label and --moved-label"):
        evaluate_pair(*images, nsd_tolerance=2)


def test_a_group_and_a_percentile_can_be_asked_for(evaluated, maps):
    found = columns(evaluated(*maps, losses=["overlap", "hausdorff:percentile=90", "hausdorff", "hd95:surface=voxels"]))
    counts = overlap(*(x[None] for x in maps), labels=LABELS)
    assert list(found)[:5] == ["overlap_dice", "overlap_jaccard", "sensitivity", "precision", "volume_similarity"]
    assert [found["overlap_jaccard"][label] for label in LABELS] == counts.jaccard[0].tolist()
    result = evaluated(*maps, losses=["hausdorff:percentile=90", "hausdorff", "hd95:surface=voxels"])
    arrays = [x[None] for x in maps]
    surfaces = surface_distances(*arrays, labels=[3], spacing=SIZES)
    voxels = surface_distances(*arrays, labels=[3], spacing=SIZES, surface="voxels")
    firsts = [record for record in result.records if record.label == 3]
    assert [record.value for record in firsts] == [
        surfaces.hausdorff(90)[0, 0],
        surfaces.hausdorff(100)[0, 0],
        voxels.hausdorff(95)[0, 0],
    ]
    assert [record.title for record in firsts] == ["HD90", "HD", "HD95"]


@pytest.mark.parametrize("backend", ["torch", "dask"])
def test_another_backend_finds_the_same(evaluated, maps, backend):
    losses = ["overlap", "hd95", "assd"]
    expected = columns(evaluated(*maps, losses=losses))
    found = columns(evaluated(*maps, losses=losses, backend=backend))
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-12)


def test_before_stands_beside(evaluated, maps):
    fixed, moved = maps
    zeros = nifti(np.zeros(SHAPE, np.float32))
    result = evaluated(fixed, moved, moved_before=zeros, moved_label_before=nifti(np.roll(moved, 2, 0)))
    before = columns(evaluated(fixed, np.roll(moved, 2, 0)))
    assert {record.label: record.before for record in records_of(result, "hd95")} == before["hd95"]


# --- what is missing --------------------------------------------------------------------------------------------------


def test_a_missed_label_never_drops_out_unseen(evaluated, maps):
    fixed, moved = maps
    result = evaluated(fixed, np.where(moved == 7, 0, moved).astype(np.uint8))
    found = columns(result)
    assert found["hd95"][7] == found["hd95"]["mean"] == math.inf
    assert found["sensitivity"][7] == 0
    assert found["sensitivity"]["mean"] == found["sensitivity"][3] / 2
    note = next(note for note in result.notes if note.startswith("HD95"))
    assert note.endswith("inf in 1 of 2 labels.")
    assert f"HD95 (mean of the others {found['hd95'][3]:.4g})" in note
    entries = {(entry["metric"], entry["label"]): entry for entry in json.loads(to_json(result))["metrics"]}
    assert (entries["hd95", 7]["value"], entries["hd95", 7]["infinite"]) == (None, ["value"])
    assert (entries["compute_centroid_distance", 7]["value"], entries["compute_centroid_distance", 7]["infinite"]) == (
        None,
        [],
    )


def test_the_table_shows_the_mean_of_the_labels_found_and_of_how_many(evaluated, maps, capsys):
    """Of two labels one is missed; before the registration both are there."""
    fixed, moved = maps
    zeros = nifti(np.zeros(SHAPE, np.float32))
    missing = np.where(moved == 7, 0, moved).astype(np.uint8)
    result = evaluated(fixed, missing, moved_before=zeros, moved_label_before=nifti(moved))
    found = columns(result)
    (mean,) = (record for record in result.records if (record.metric, record.label) == ("hd95", "mean"))
    before, after = found_means(result.records, mean)
    assert (before, after) == (None, FoundMean(found["hd95"][3], 1, 2))
    print_evaluation(result)
    printed = capsys.readouterr().out
    # HD95, MASD, ASSD, and the distance of centroids, which is undefined.
    assert printed.count("1 of 2 found") == 4
    assert "- n of N found: the mean over the n labels that both maps have." in printed
    assert "found" not in quiet_table(evaluated(fixed, moved), capsys)
    assert "1 of 2 found" in quiet_table(result, capsys)


def quiet_table(result, capsys):
    print_evaluation(result, quiet=True)
    return capsys.readouterr().out


def test_nothing_found_is_no_mean():
    assert mean_of_found(math.inf, [math.inf, math.inf]) == FoundMean(math.inf, 0, 2)
    assert mean_of_found(math.nan, [math.nan]) is None
    assert mean_of_found(None, [math.inf]) is None
    assert mean_of_found(1.0, [0.5, 1.5]) is None


def test_where_a_tool_raises_an_error_the_other_labels_have_values(evaluated, maps):
    fixed, moved = maps
    moved = np.where(moved == 7, 0, moved).astype(np.uint8)
    result = evaluated(fixed, moved, convention="medpy")
    values = columns(result)["hd95"]
    expected = surface_distances(fixed[None], moved[None], labels=[3], spacing=SIZES, convention="medpy").hausdorff(95)
    assert values[3] == values["mean"] == expected[0, 0]
    assert math.isnan(values[7])
    assert any(note.startswith("HD95") and "undefined in 1 of 2 labels" in note for note in result.notes)
    assert "a label that the moved map lacks: NaN (an error in that tool)" in records_of(result, "hd95")[0].definition


def test_without_scipy_one_line_says_what_to_install(evaluated, maps, monkeypatch):
    for name in ("scipy.spatial", "scipy.ndimage"):
        monkeypatch.setitem(sys.modules, name, None)
    result = evaluated(*maps)
    found = columns(result)
    assert "sensitivity" in found
    assert "hd95" not in found
    lines = [note for note in result.notes if "SciPy" in note]
    assert lines == [
        "HD95, MASD, ASSD left out: Distances of surfaces, and splines, need SciPy: pip install agnoreg[metrics]."
    ]
    with pytest.raises(
        InputError, match=r"hd95: Distances of surfaces, and splines, need SciPy: pip install agnoreg\[metrics\]"
    ):
        evaluated(*maps, losses=["hd95"])


# --- conventions ------------------------------------------------------------------------------------------------------


def learn2reg_labels(fixed, moved, unwarped, labels):
    """Return the Dice and HD95 of the Learn2Reg evaluator, label by label.

    A label that the fixed or the moving map before the warp lacks is NaN; one that vanished has an HD95 of inf.
    Distances are DeepMind's, at a spacing of 1.
    """
    dice, hd95 = [], []
    for label in labels:
        a, b = fixed == label, moved == label
        if not a.any() or not (unwarped == label).any():
            dice.append(math.nan)
            hd95.append(math.nan)
            continue
        dice.append(2 * np.sum(a & b) / (a.sum() + b.sum()))
        if not b.any():  # The package fails here under NumPy 2, where it means inf.
            hd95.append(math.inf)
            continue
        with warnings.catch_warnings():  # It imports from places that SciPy is about to give up.
            warnings.simplefilter("ignore", DeprecationWarning)
            distances = surface_distance.compute_surface_distances(a, b, np.ones(3))
        hd95.append(surface_distance.compute_robust_hausdorff(distances, 95.0))
    return dice, hd95


def test_learn2reg_reproduces_the_evaluators_dice_and_hd95(evaluated, maps):
    fixed, moved = (x.copy() for x in maps)
    # Label 9 vanishes under the warp, the fixed map lacks 11, and the moving one lacked 12.
    fixed[0:2, 0:2, 10:] = 9
    fixed[16:, 0:3, 0:3] = 12
    moved[15:, 14:, 12:] = 11
    moved[16:, 0:3, 0:2] = 12
    unwarped = np.roll(np.where(moved == 12, 0, moved), 1, 1).astype(np.uint8)
    unwarped[0:2, 3:5, 10:] = 9
    labels = (3, 7, 9, 11, 12)
    dice, hd95 = learn2reg_labels(fixed, moved, unwarped, labels)
    assert np.isnan(dice).tolist() == [False, False, False, True, True]
    assert (dice[2], hd95[2]) == (0, math.inf)
    zeros = nifti(np.zeros(SHAPE, np.float32))
    result = evaluated(fixed, moved, convention="learn2reg", moved_before=zeros, moved_label_before=nifti(unwarped))
    found = columns(result)
    np.testing.assert_allclose([found["overlap_dice"][label] for label in labels], dice, rtol=1e-12)
    np.testing.assert_allclose([found["hd95"][label] for label in labels], hd95, rtol=1e-12)
    assert found["overlap_dice"]["mean"] == pytest.approx(np.nanmean(dice))
    assert found["hd95"]["mean"] == math.inf == np.nanmean(hd95)
    assert {record.unit for record in records_of(result, "hd95")} == {"voxel"}
    # No second row is called Dice.
    assert [record.metric for record in result.records if record.title == "Dice"] == ["overlap_dice"] * 6
    own = columns(evaluated(fixed, moved))
    both = [(own["hd95"][label], found["hd95"][label]) for label in (3, 7)]
    (ours, theirs) = (sum(values) / 2 for values in zip(*both, strict=True))
    line = next(note for note in result.notes if note.startswith("learn2reg differs from agnoreg's own definitions"))
    assert f"HD95 is {ours:.4g} mm, not {theirs:.4g} voxel, in the mean over labels" in line


@pytest.mark.parametrize("convention", ["deepmind", "monai", "panoptica", "scikit-image"])
def test_a_tools_definitions_hold_for_what_it_defines_and_are_stated(evaluated, maps, convention):
    result = evaluated(*maps, convention=convention)
    arrays = [x[None] for x in maps]
    surfaces = surface_distances(*arrays, labels=LABELS, spacing=SIZES, convention=convention)
    for name, values in (("hd95", surfaces.hausdorff(95)), ("assd", surfaces.assd())):
        rows = records_of(result, name)
        assert [row.value for row in rows[:2]] == values[0].tolist()
        assert all(row.definition.endswith(f"; the definition of {convention}.") for row in rows)
        assert dict(rows[0].arguments) == {"convention": convention}
    assert "convention" not in records_of(result, "sensitivity")[0].arguments
    lncc = records_of(result, "LocalNormalizedCrossCorrelation")[0]
    assert lncc.arguments["convention"] == ("monai" if convention == "monai" else "exact")


def test_a_convention_nobody_has_lists_those_that_there_are(evaluated, maps):
    with pytest.raises(InputError) as error:
        evaluated(*maps, convention="itksnap")
    for part in ("deepreg", "(losses)", "learn2reg", "(surfaces)", "(fields)", "got 'itksnap'"):
        assert part in str(error.value)


def test_a_convention_of_metrics_is_refused_for_a_loss_that_is_asked_for(evaluated, maps):
    with pytest.raises(InputError, match=r"--loss lncc: .*convention must be one of .*'learn2reg'"):
        evaluated(*maps, losses=["lncc", "hd95"], convention="learn2reg")
    with pytest.raises(InputError, match=r"--loss hd95: convention must be one of .*'ants'"):
        evaluated(*maps, losses=["hd95"], convention="ants")
    own = evaluated(*maps, losses=["lncc", "hd95:convention=learn2reg"])
    assert own.records[1].value == columns(evaluated(*maps, convention="learn2reg"))["hd95"][3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hd95:percentile=90", "hd95 has no argument 'percentile': it takes"),
        ("sensitivity:smooth=1", "sensitivity has no argument 'smooth': it takes no arguments"),
        ("hausdorff:percentile=101", "percentile must be a number from 0 to 100, got 101"),
        ("masd:surface=cubes", "surface must be one of"),
        ("masd:combine=all", "combine must be one of"),
        ("masd:empty=0", "empty must be one of"),
        ("nsd:tolerance=wide", "tolerance must be a number of mm of at least 0, got 'wide'"),
    ],
)
def test_wrong_arguments_are_refused(evaluated, maps, text, message):
    with pytest.raises(InputError, match=message):
        evaluated(*maps, losses=[text])
    with pytest.raises(InputError, match=message):
        planned([text], ("images", "labels"))


# --- definitions ------------------------------------------------------------------------------------------------------


def test_every_number_states_its_definition_in_json_and_csv(evaluated, maps):
    result = evaluated(*maps, nsd_tolerance=2)
    assert all(record.definition.endswith(".") for record in result.records)
    definitions = {record.metric: record.definition for record in result.records}
    assert definitions["nsd"].startswith("the share of both surfaces within 2 mm of the other one;")
    assert definitions["hd95"].startswith("the larger of the two 95th percentiles of the distances in both directions")
    assert definitions["assd"].startswith("the mean of all distances of both directions together, in mm;")
    rows = list(csv.DictReader(io.StringIO(to_csv(result))))
    entries = json.loads(to_json(result))["metrics"]
    for row, entry, record in zip(rows, entries, result.records, strict=True):
        assert row["definition"] == entry["definition"] == record.definition
