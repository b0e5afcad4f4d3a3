"""Reports without a browser: what is drawn and where, what the tables say, and that a page needs nothing else."""

import base64
import csv
import hashlib
import io
import itertools
import json
import math
import shutil
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from report_pages import AFFINE, NASTY, Page, write_pair

from agnoreg.evaluate.cli import main
from agnoreg.evaluate.evaluation import InputError, evaluate_pair, to_csv, to_json
from agnoreg.evaluate.records import Record
from agnoreg.evaluate.report import report_html
from agnoreg.evaluate.report.case import read_case
from agnoreg.evaluate.report.fields import counted_by, determinants, grids, volumes
from agnoreg.evaluate.report.orientation import PLANES, Orientation, planes_of
from agnoreg.evaluate.report.pictures import Slices, smooth, threshold_of
from agnoreg.evaluate.report.places import agreement, worst_place, worst_slices
from agnoreg.evaluate.report.points import around, worst_points
from agnoreg.evaluate.report.structures import structures
from agnoreg.evaluate.report.verdicts import threshold_of as asked_of
from agnoreg.evaluate.report.verdicts import verdict_rows


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def result(pair):
    return evaluate_pair(**pair)


@pytest.fixture(scope="module")
def page(result, pair):
    return report_html(result, pair)


# --- where ------------------------------------------------------------------------------------------------------------

FLIPS = list(itertools.product((1, -1), repeat=3))
ORDERS = list(itertools.permutations(range(3)))


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("order", ORDERS)
def test_a_volume_is_turned_as_nibabel_turns_it(order, flips, rng):
    array = rng.random((3, 4, 5))
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([2.0, 3.0, 1.5]) * flips)[:, list(order)] + 0.05
    affine[:3, 3] = (5, -7, 2)
    image = nib.Nifti1Image(array, affine)
    turned = nib.as_closest_canonical(image)
    orientation = Orientation(affine)
    np.testing.assert_array_equal(orientation.volume(array), turned.dataobj)
    sizes = nib.affines.voxel_sizes(affine)
    np.testing.assert_allclose(orientation.values(sizes), nib.affines.voxel_sizes(turned.affine))
    # A displacement leads to the same place in mm, whichever axes it is written along.
    ddf = rng.random((3, 4, 5, 3))
    in_mm = orientation.volume(ddf @ affine[:3, :3].T)
    np.testing.assert_allclose(orientation.field(ddf) @ turned.affine[:3, :3].T, in_mm)
    np.testing.assert_array_equal(orientation.file_field(orientation.field(ddf)), ddf)


@pytest.mark.parametrize(
    ("plane", "corner"),
    [(plane, corner) for plane in PLANES for corner in [(left, low) for left in (0, 1) for low in (0, 1)]],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_bright_corner_of_the_patient_is_seen_where_the_letters_say(plane, corner, tmp_path):
    """The corner is set in mm, by the affine; the picture has it at the side of its letter."""
    array = np.zeros((12, 10, 8), np.float32)
    ends = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}
    letters = plane.letters[corner[0]], plane.letters[2 + corner[1]]
    places = np.stack(np.meshgrid(*(np.arange(n) for n in array.shape), indexing="ij"), axis=-1) @ AFFINE[:3, :3].T
    for letter in letters:
        axis, sign = ends[letter]
        along = sign * places[..., axis]
        array[along < along.max() - 0.3 * np.ptp(along)] -= 1
    bright = (array == 0).astype(np.float32)
    file = tmp_path / "bright.nii.gz"
    nib.save(nib.Nifti1Image(bright, AFFINE), file)
    case = read_case({"fixed": file, "moved": file})
    drawn = Slices(case).on_image(plane, case.fixed.shape[plane.normal] // 2)
    drawn.figure.canvas.draw()
    pixels = np.asarray(drawn.figure.canvas.buffer_rgba())[..., 0].astype(float)
    rows, columns = (np.arange(n) / n for n in pixels.shape)
    across, down = (pixels.sum(0) @ columns) / pixels.sum(), (pixels.sum(1) @ rows) / pixels.sum()
    assert (across > 0.6, across < 0.4) == (corner[0] == 1, corner[0] == 0)
    assert (down < 0.4, down > 0.6) == (corner[1] == 1, corner[1] == 0)


def test_pictures_are_true_to_the_voxels(pair):
    case = read_case(pair)
    slices = Slices(case)
    for plane in case.planes:
        picture = slices.checkerboard(plane, 3)
        width, height = (case.fixed.shape[axis] * case.spacing[axis] for axis in (plane.across, plane.up))
        assert picture.width / picture.height == pytest.approx(width / height, rel=0.02)
        image = Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1])))
        assert image.size == (picture.width, picture.height)


def test_slices_and_the_worst_place_are_where_the_images_differ(tmp_path, rng):
    fixed = rng.random((30, 28, 26)).astype(np.float32)
    moved = fixed.copy()
    moved[5:12, 15:22, 8:15] = rng.random((7, 7, 7))
    files = {"fixed": tmp_path / "fixed.nii", "moved": tmp_path / "moved.nii"}
    for name, array in (("fixed", fixed), ("moved", moved)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), files[name])
    case = read_case(files)
    found = agreement(case, case.moved)
    for place in (worst_slices(found.disagreement), worst_place(found.disagreement)):
        np.testing.assert_allclose(place, (8, 18, 11), atol=2.5)
    # The voxel that a close-up is of lies in what differs, or next to it.
    place = np.array(worst_place(found.disagreement))
    assert (place >= (4, 14, 7)).all()
    assert (place <= (12, 22, 15)).all()
    assert worst_slices(np.zeros((5, 6, 7))) == (2, 3, 3)


def test_a_slice_that_shows_little_is_not_chosen():
    difference, shown = np.zeros((5, 6, 7)), np.ones((5, 6, 7))
    difference[0], difference[3] = 2.0, 1.0
    assert worst_slices(difference, shown)[0] == 0
    shown[0] = 0.3
    assert worst_slices(difference, shown)[0] == 3


def test_what_the_moved_image_lacks_altogether_is_where_they_disagree(tmp_path, rng):
    """A part of the moved image is 0, as beyond its field of view: its windows are flat and have no correlation."""
    fixed = rng.random((30, 28, 26)).astype(np.float32)
    moved = fixed.copy()
    moved[18:] = 0
    files = {"fixed": tmp_path / "fixed.nii", "moved": tmp_path / "moved.nii"}
    for name, array in (("fixed", fixed), ("moved", moved)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), files[name])
    case = read_case(files)
    found = agreement(case, case.moved)
    assert worst_place(found.disagreement)[0] >= 18
    assert worst_slices(found.disagreement)[0] >= 18
    assert (found.correlation[23:] == 0).all()
    assert (found.disagreement[:13] < 1e-3).all()


def test_images_that_are_alike_have_no_worst_place(tmp_path):
    file = tmp_path / "image.nii"
    nib.save(nib.Nifti1Image(np.indices((9, 8, 7))[0].astype(np.float32), np.eye(4)), file)
    alike = {"fixed": file, "moved": file}
    flat = tmp_path / "flat.nii"
    nib.save(nib.Nifti1Image(np.ones((9, 8, 7), np.float32), np.eye(4)), flat)
    for given, there in (({"fixed": flat, "moved": flat}, False), ({"fixed": file, "moved": flat}, True)):
        assert ("The worst place" in Page(report_html(evaluate_pair(**given), given)).text) == there
    found = agreement(read_case(alike), read_case(alike).moved)
    assert found.disagreement.max() < 1e-3


def test_contrast_is_the_deviation_in_a_window_that_ends_at_the_border(tmp_path, rng):
    image = (rng.random((14, 12, 6)) + 3).astype(np.float32)
    file = tmp_path / "image.nii"
    nib.save(nib.Nifti1Image(image, np.eye(4)), file)
    case = read_case({"fixed": file, "moved": file, "scale": False})
    contrast = agreement(case, case.moved).contrast
    for place in ((0, 0, 0), (13, 11, 5), (7, 6, 3), (2, 9, 1)):
        window = image[tuple(slice(max(0, at - 4), at + 5) for at in place)]
        assert contrast[place] == pytest.approx(window.std(), rel=1e-4)


def test_an_outline_stays_at_the_edge_of_what_has_few_thick_voxels():
    """A bar two thick voxels high: its outline crosses between them and their neighbours, and is smooth across."""
    bar = np.zeros((9, 30), np.float32)
    bar[4:6, 8:22] = 1
    thick = smooth(bar, (1.0, 4.0))
    np.testing.assert_array_equal(thick[:, 15], bar[:, 15])
    assert 0 < thick[4, 7] < 0.5 < thick[4, 8] < 1
    cubes = smooth(bar, (1.0, 1.0))
    assert 0 < cubes[3, 15] < 0.5 < cubes[4, 15] < 1
    assert cubes.sum() == pytest.approx(bar.sum())


def test_a_close_up_shows_what_is_inside_the_volume(tmp_path, rng):
    """The worst place lies in a corner: the picture has no empty part beyond it."""
    files = {name: tmp_path / f"{name}.nii" for name in ("fixed", "moved")}
    for file in files.values():
        nib.save(nib.Nifti1Image((1 + rng.random((80, 70, 60))).astype(np.float32), np.eye(4)), file)
    slices = Slices(read_case({**files, "scale": False}))
    for row in slices.close_ups((0, 69, 59)):
        for picture in row:
            image = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1]))).convert("L"))
            assert all((side > 0).mean() > 0.5 for side in (image[0], image[-1], image[:, 0], image[:, -1]))


def test_grids_are_drawn_where_the_image_is_and_not_at_its_dark_border(folding_pair):
    ddf = np.zeros((16, 14, 12, 3), np.float32)
    ddf[0] = 5
    ddf[8, 7, 6] = 1
    given = folding_pair(ddf)
    bright = np.zeros(ddf.shape[:3], np.float32)
    bright[5:11, 4:10, 3:9] = 1
    nib.save(nib.Nifti1Image(bright, AFFINE), given["fixed"])
    case = read_case(given)
    _, places = grids(Slices(case))
    np.testing.assert_array_equal(np.linalg.norm(case.ddf[places], axis=-1) > 1, True)
    assert case.fixed[places] == 1


def test_planes_of_volumes_slices_and_lines():
    assert [plane.name for plane in planes_of((4, 5, 6))] == ["sagittal", "coronal", "axial"]
    assert [plane.name for plane in planes_of((4, 5, 1))] == ["axial"]
    assert planes_of((4, 1, 1)) == ()


def test_the_threshold_parts_two_kinds_of_voxels(rng):
    image = np.concatenate([rng.normal(1, 0.1, 3000), rng.normal(5, 0.2, 2000)]).reshape(50, 10, 10)
    assert 1.5 < threshold_of(image) < 4.5


def test_det_j_of_a_linear_field_and_its_folds(tmp_path, rng):
    matrix = rng.normal(0, 0.3, (3, 3))
    grid = np.stack(np.meshgrid(*(np.arange(float(n)) for n in (6, 5, 7)), indexing="ij"), axis=-1)
    image = rng.random((6, 5, 7)).astype(np.float32)
    files = {name: tmp_path / f"{name}.nii" for name in ("fixed", "ddf")}
    nib.save(nib.Nifti1Image(image, AFFINE), files["fixed"])
    for linear, folds in ((matrix, 0), (matrix - np.diag([2.5, 0, 0]), image.size)):
        expected = np.linalg.det(np.eye(3) + linear)
        nib.save(nib.Nifti1Image((grid @ linear.T).astype(np.float32), AFFINE), files["ddf"])
        found = volumes(read_case({"fixed": files["fixed"], "moved": files["fixed"], "ddf": files["ddf"]}))
        np.testing.assert_allclose(found.determinant[1:-1, 1:-1, 1:-1], expected, rtol=1e-4)
        assert (found.folds > 0) == (expected <= 0) == (folds > 0)
        assert found.counted.sum() == 4 * 3 * 5


def alternating(shape, where, by=1.2):
    """A field that central differences do not see: every second plane of a block is moved."""
    ddf = np.zeros((*shape, 3), np.float32)
    ddf[where][..., 0] = by * (np.indices(ddf[where].shape[:3])[0] % 2)
    return ddf


@pytest.fixture
def folding_pair(tmp_path, rng):
    """Writes a field; returns the arguments of `evaluate_pair`."""

    def write(ddf, **given):
        files = {name: tmp_path / f"{name}.nii" for name in ("fixed", "ddf")}
        nib.save(nib.Nifti1Image(rng.random(ddf.shape[:3]).astype(np.float32), AFFINE), files["fixed"])
        nib.save(nib.Nifti1Image(ddf, AFFINE), files["ddf"])
        return {**files, "moved": files["fixed"], "losses": ["folding", "ndv_percent"], **given}

    return write


@pytest.mark.parametrize("convention", [None, "voxelmorph", "icon", "learn2reg"])
def test_folds_are_marked_where_the_metrics_count_them(folding_pair, convention, rng, tmp_path):
    shape = (12, 11, 10)
    mask = (rng.random(shape) < 0.8).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, AFFINE), tmp_path / "mask.nii")
    ddf = rng.normal(0, 0.45, (*shape, 3)).astype(np.float32)
    losses = ["folding", "ndv"] if convention is None else [f"folding:convention={convention}"]
    given = folding_pair(ddf, mask=tmp_path / "mask.nii", losses=losses)
    result = evaluate_pair(**given)
    values = {record.metric: record for record in result.records}
    found = volumes(read_case(given), counted_by(result.records)[0])
    assert counted_by(result.records)[0] == convention
    if convention == "learn2reg":  # It adds 3 and counts none; those that there are are marked.
        assert values["folding_count"].value == 0 < found.folds
        return
    assert found.counted.sum() == values["folding_count"].counted
    assert 0 < found.folds == values["folding_count"].value
    if convention is None:
        percent = values["digital_folding_percent"].value
        assert 100 * found.digital_folds / found.counted.sum() == pytest.approx(percent)
        assert found.digital_folds > found.folds


def test_a_fold_that_central_differences_do_not_see_is_marked_and_said(folding_pair):
    given = folding_pair(alternating((14, 13, 12), np.s_[4:10, 4:9, 4:8]))
    result = evaluate_pair(**given)
    values = {record.metric: record.value for record in result.records}
    assert values["folding_count"] == 0 < values["ndv_percent"]
    found = volumes(read_case(given))
    assert (found.folds, found.only_digital) == (0, found.digital_folds)
    assert found.digital_folds > 50
    slices = Slices(read_case(given))
    pictures, places, _ = determinants(slices, found)
    assert all("0 folded voxels marked, and" in picture.alt for picture in pictures)
    assert found.digital[places[0]].any()
    text = " ".join(Page(report_html(result, given)).text.split())
    assert "No voxel is folded by the determinant: det J ≤ 0 by central differences." in text
    assert f"{found.digital_folds} fold digitally: one of the determinants around them" in text
    assert "Counted by the determinant: folded voxels, folding. Counted digitally: digital folding, NDV, share." in text


# --- what the tables say ----------------------------------------------------------------------------------------------


def record(value, before=None, metric="m", title="", unit="", direction="lower", label=None):
    return Record(
        metric, {}, "images", label, value, unit, (0, math.inf), direction, 0.0, 0.1, "numpy", title, before=before
    )


@pytest.mark.parametrize(
    ("one", "verdict", "why"),
    [
        (record(1.9, title="TRE, mean", unit="mm"), "pass", ""),
        (record(2.0, title="TRE, mean", unit="mm"), "pass", ""),
        (record(2.1, title="TRE, mean", unit="mm"), "look", "beyond the threshold"),
        (record(4.9, title="TRE, maximum", unit="mm"), "pass", ""),
        (record(5.1, title="TRE, maximum", unit="mm"), "look", "beyond the threshold"),
        (record(2.1, title="TRE, mean", unit="voxel"), "", ""),
        (record(0.0, title="folding"), "pass", ""),
        (record(1e-6, title="folding", unit="%"), "look", "beyond the threshold"),
        (record(math.nan), "look", "undefined"),
        (record(math.inf, title="HD95"), "look", "missed: 1"),
        (record(0.5, before=0.7), "better", "than before"),
        (record(0.5, before=0.4), "look", "worse than before"),
        (record(0.5, before=0.4, direction="higher"), "better", "than before"),
        (record(0.5, before=0.5), "", ""),
        (record(0.5), "", ""),
    ],
    ids=lambda value: f"{value.title} {value.value} {value.before}" if isinstance(value, Record) else None,
)
def test_a_verdict_is_by_the_threshold_of_the_field_else_by_the_value_before(one, verdict, why, result):
    (row,) = verdict_rows(replace(result, records=(one,)))
    assert (row.verdict, row.why) == (verdict, why)


def test_the_mean_of_a_missed_structure_is_that_of_those_found_with_their_number(result, page):
    """The label 3 is missed: its HD95 is inf, and its centroid has no distance."""
    rows = {row.title: row for row in verdict_rows(result)}
    for title in ("HD95", "MASD", "ASSD", "centroid distance"):
        own = [one for one in result.records if one.title == title]
        finite = [one.value for one in own if one.label in (1, 2)]
        row = rows[title]
        assert float(row.after) == pytest.approx(np.mean(finite), rel=1e-3)
        assert (row.of_before, row.of_after, row.verdict, row.why) == ("2 of 3", "2 of 3", "look", "missed: 1")
        (mean,) = (one.value for one in own if one.label == "mean")
        assert math.isinf(mean) == (title != "centroid distance")
    assert (rows["Dice"].of_after, rows["SSD"].of_after) == ("", "")
    assert "2 of 3 found" in Page(page).text


@pytest.mark.parametrize("title", ["SSD", "LNCC", "Pearson's r", "HD95", "scaffold Dice", "TRE, median", "extremes"])
def test_there_is_no_threshold_where_the_field_has_none(title):
    assert asked_of(record(1.0, title=title, unit="mm")) is None


def test_the_worst_landmark_comes_first_and_is_ringed_where_it_lies(result, pair):
    listed = worst_points(result.landmarks)
    errors = [one.distance for one in result.landmarks]
    assert [one.number for one in listed] == list(np.argsort(errors)[::-1] + 1)
    slices = Slices(read_case(pair))
    worst = result.landmarks[listed[0].number - 1]
    in_mm = AFFINE[:3, :3] @ worst.fixed + AFFINE[:3, 3]
    lowest = np.min(
        [AFFINE[:3, :3] @ corner + AFFINE[:3, 3] for corner in itertools.product((0, 23), (0, 29), (0, 19))], 0
    )
    expected = (in_mm - lowest) / slices.case.spacing
    np.testing.assert_allclose(slices.case.orientation.place(worst.fixed, slices.case.fixed.shape), expected)
    pictures, where = around(slices, worst, 1)
    assert [picture.alt.split(", ")[1].rstrip(".") for picture in pictures] == where
    assert where[0] == f"sagittal slice {round(expected[0]) + 1} of {slices.case.fixed.shape[0]}"


def test_structures_are_counted_and_the_worst_comes_first(result, pair):
    found = structures(result, read_case(pair))
    assert (found.positives, found.negatives, found.missed, found.false_alarms) == (3, 0, 1, 0)
    assert found.rows[0].label == 3
    assert found.rows[0].state == "missed"
    fixed = np.asarray(nib.load(pair["fixed_label"]).dataobj)
    assert {row.label: row.voxels for row in found.rows} == {n: int((fixed == n).sum()) for n in (1, 2, 3)}
    others = [
        one.value for row in found.rows[1:] for one in result.records if (one.title, one.label) == ("Dice", row.label)
    ]
    assert others == sorted(others)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_a_page_needs_nothing_beside_itself(page):
    parsed = Page(page)
    assert parsed.links() == []
    assert not parsed.all("script")
    assert "url(" not in page
    assert "@import" not in page
    assert len(page.encode()) < 4e6
    images = parsed.all("img")
    assert len(images) > 30
    assert all(image["src"].startswith("data:image/png;base64,") and len(image["alt"]) > 10 for image in images)
    assert len({image["alt"] for image in images}) == len(images)


def test_names_of_files_and_labels_are_text(page, pair):
    parsed = Page(page)
    assert NASTY in parsed.text
    assert "<script" not in page
    assert "<img src=x>" not in page
    assert pair["ddf"] in parsed.text
    assert f"rim {NASTY}" in parsed.text


def test_values_are_in_the_page_to_save(page, result):
    saved = {link["download"]: base64.b64decode(link["href"].split(",")[1]).decode() for link in Page(page).all("a")}
    assert saved == {"evaluation.csv": to_csv(result), "evaluation.json": to_json(result)}


def test_methods_name_versions_metrics_and_files(page, result, pair):
    text = " ".join(Page(page).text.split())
    for words in ("evaluated with agnoreg", f"Python {result.versions['python']}", "24 × 30 × 20 voxels", "LNCC"):
        assert words in text
    for name in ("fixed", "moved", "ddf"):
        with open(pair[name], "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        assert digest in text
        assert digest[:12] in text[text.index("Sentences to copy") : text.index("Save the values")]


def test_each_row_unfolds_to_what_it_measures(page, result):
    rows = verdict_rows(result)
    text = " ".join(Page(page).text.split())
    for row in rows:
        assert row.explanation.measures, row.title
        assert row.explanation.definition, row.title
        assert " ".join(row.explanation.definition.split()) in text
    assert len([one for one in Page(page).all("details")]) >= len(rows)


@pytest.mark.parametrize(("shape", "pictures"), [((24, 20, 1), 1), ((1, 24, 20), 1), ((24, 1, 1), 0)])
def test_slices_and_lines_have_a_page_too(shape, pictures, tmp_path):
    pair = write_pair(tmp_path, shape, np.eye(4))
    page = report_html(evaluate_pair(**pair), pair)
    boards = [image for image in Page(page).all("img") if image["alt"].startswith("Checkerboard")]
    assert len(boards) == pictures


def test_a_pair_of_images_alone_with_a_mask(pair, tmp_path):
    mask = np.zeros((24, 30, 20), np.uint8)
    mask[4:20, 4:26, 4:16] = 1
    nib.save(nib.Nifti1Image(mask, AFFINE), tmp_path / "mask.nii")
    given = {"fixed": pair["fixed"], "moved": pair["moved"], "mask": tmp_path / "mask.nii"}
    case = read_case(given)
    outside = ~Orientation(AFFINE).volume(mask.astype(bool))
    assert (agreement(case, case.moved).disagreement[outside] == 0).all()
    text = Page(report_html(evaluate_pair(**given), given)).text
    assert "Structures" not in text
    assert "Displacement field" not in text


def test_constant_images_and_an_image_of_nan_have_a_page(tmp_path):
    files = {name: tmp_path / f"{name}.nii" for name in ("fixed", "moved")}
    for array in (np.ones((6, 7, 8), np.float32), np.full((6, 7, 8), np.nan, np.float32)):
        for file in files.values():
            nib.save(nib.Nifti1Image(array, np.eye(4)), file)
        assert "Checkerboard" in report_html(evaluate_pair(**files), files)


def test_a_notebook_shows_a_plain_table(result):
    parsed = Page(result._repr_html_())
    assert len(parsed.all("tr")) == 1 + len(result.records)
    assert NASTY in parsed.text
    assert "img" not in dict(parsed.elements)


# --- the command ------------------------------------------------------------------------------------------------------


def run(*words):
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code or 0


def test_the_command_writes_a_report(pair, tmp_path, capsys):
    file = tmp_path / "report.html"
    options = [
        word for name in ("fixed_label", "moved_label", "ddf") for word in (f"--{name.replace('_', '-')}", pair[name])
    ]
    assert (
        run(
            "evaluate",
            pair["fixed"],
            pair["moved"],
            *options,
            "--loss",
            "ssd",
            "--loss",
            "dice",
            "--loss",
            "bending",
            "--report",
            file,
        )
        == 0
    )
    text = Page(file.read_text("utf-8")).text
    assert all(words in text for words in ("SSD", "Structures", "Deformed grid"))


def test_the_report_is_named_on_stderr(pair, tmp_path, capsys):
    file = tmp_path / "report.html"
    command = ("evaluate", pair["fixed"], pair["moved"], "--loss", "ssd", "--report", file)
    assert run(*command) == 0
    assert f"agnoreg: the report is written to {file}\n" in capsys.readouterr().err
    assert run(*command, "--json", "-") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["metrics"]
    assert str(file) in printed.err
    assert run(*command, "--quiet") == 0
    assert capsys.readouterr().err == ""


def test_a_report_takes_no_inputs_place(pair, tmp_path, capsys):
    fixed = tmp_path / "fixed.nii.gz"
    shutil.copy(pair["fixed"], fixed)
    before = fixed.read_bytes()
    assert run("evaluate", fixed, pair["moved"], "--report", fixed) == 2
    assert run("evaluate", fixed, pair["moved"], "--report", tmp_path / "none" / "report.html") == 2
    assert fixed.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["fixed.nii.gz"]


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_what_is_not_installed_is_said_before_anything_is_computed(missing, pair, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr("agnoreg.evaluate.evaluation.evaluate_pair", None)
    assert run("evaluate", pair["fixed"], pair["moved"], "--report", tmp_path / "report.html") == 2
    assert "pip install agnoreg[report]" in capsys.readouterr().err


def test_a_file_that_is_gone_is_an_error(result, pair, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        report_html(result, {**pair, "moved": tmp_path / "gone.nii.gz"})


def test_json_of_a_page_is_that_of_the_evaluation(page, result):
    (link,) = (link for link in Page(page).all("a") if link["download"].endswith("json"))
    content = json.loads(base64.b64decode(link["href"].split(",")[1]))
    assert len(content["metrics"]) == len(result.records)
    assert len(list(csv.reader(io.StringIO(to_csv(result))))) == 1 + len(result.records)
