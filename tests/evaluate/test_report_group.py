"""A page of many pairs: what it counts, who lies outside, and which pages are written anew."""

import base64
import csv
import io
import os

import numpy as np
import pytest
from report_pages import NASTY, Page, write_pair

from agnoreg.evaluate.batch import evaluate_pairs
from agnoreg.evaluate.report.folder import page_name
from agnoreg.evaluate.report.group import Member, group_html
from agnoreg.evaluate.report.strips import Dot, Strip, outliers, strip_plot

LOSSES = ["ssd", "dice"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Reports of three pairs, of which one fails, and what was computed."""
    there = tmp_path_factory.mktemp("group")
    lines = [["id", "fixed", "moved", "fixed_label", "moved_label", "ddf"]]
    for index, name in enumerate(("one", NASTY, "index")):
        (there / str(index)).mkdir()
        pair = write_pair(there / str(index), seed=index, shift=1 + index)
        lines.append([name, *(pair[column] for column in lines[0][1:])])
    lines.append(["lost", "none.nii", *lines[1][2:]])
    with open(there / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows(lines)
    summary = evaluate_pairs(
        there / "pairs.csv", there / "table.csv", losses=LOSSES, report_dir=there / "reports", workers=1
    )
    return there, summary


def test_every_pair_has_a_page_to_which_the_page_of_all_links(folder):
    there, summary = folder
    assert summary.reports == there / "reports" / "index.html"
    page = Page(summary.reports.read_text("utf-8"))
    names = {page_name(name) for name in ("one", NASTY, "index")}
    assert {path.name for path in (there / "reports").iterdir()} == {*names, "index.html"}
    assert {link for link in page.links() if link.endswith(".html")} == names
    assert len(page.all("script")) == 1
    for name in names:
        assert "index.html" in Page((there / "reports" / name).read_text("utf-8")).links()


def test_the_page_of_all_counts_and_names(folder):
    _, summary = folder
    text = Page(summary.reports.read_text("utf-8")).text
    words = " ".join(text.split())
    assert "4 pairs: 3 evaluated, 1 failed." in words
    assert "lost : " in words or "lost: " in words
    assert NASTY in text
    # The label 3 is missed in each pair.
    assert "3 3 3 0 3 0" in words


def test_all_values_are_in_the_page_to_save(folder):
    there, summary = folder
    (link,) = (one for one in Page(summary.reports.read_text("utf-8")).all("a") if "download" in one)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link["href"].split(",")[1]).decode())))
    (value,) = (float(row["value"]) for row in rows if (row["id"], row["measured"]) == ("one", "images"))
    with open(there / "table.csv", encoding="utf-8", newline="") as file:
        table = {row["id"]: row for row in csv.DictReader(file)}
    assert value == float(table["one"]["SumSquaredDifference"])


def test_only_pages_that_are_not_true_any_more_are_written_anew(folder):
    there, _ = folder
    pages = sorted(path for path in (there / "reports").iterdir() if path.name != "index.html")
    for path in pages:
        os.utime(path, (1, 1))
    changed = next(path for path in (there / "0").iterdir() if path.name.startswith("moved "))
    os.utime(changed, (2, 2))
    evaluate_pairs(there / "pairs.csv", there / "table.csv", losses=LOSSES, report_dir=there / "reports", workers=1)
    assert {path.name for path in pages if path.stat().st_mtime != 1} == {page_name("one")}


def test_a_pages_name_is_one_that_every_system_has():
    assert page_name("sub-01_ses-2") == "sub-01_ses-2.html"
    names = [page_name(name) for name in ("a/b", "a b", "..", "index", "Index", "x" * 300, NASTY, "é", "")]
    assert len(set(names)) == len(names)
    assert all(
        name.isascii() and len(name) < 100 and name != "index.html" and not name.startswith(".") for name in names
    )


def test_outliers_are_on_the_worse_side_and_the_farthest_comes_first(rng):
    values = [*rng.normal(0.8, 0.01, 30), 0.1, 0.3, 0.99]
    dots = [Dot(str(index), "", value, "") for index, value in enumerate(values)]
    low, high = np.percentile(values, (25, 75))
    beyond = [str(index) for index, value in enumerate(values) if value < low - 1.5 * (high - low)]
    found = outliers(Strip("", dots, "higher"))
    assert set(found) == set(beyond) >= {"30", "31"}
    assert list(found)[:2] == ["30", "31"]
    assert next(iter(outliers(Strip("", dots, "lower")))) == "32"
    assert outliers(Strip("", dots[:3], "lower")) == {}


def test_a_strip_places_values_to_scale():
    dots = [Dot(str(value), "", value, "") for value in (0.0, 1.0, 2.0, 4.0)]
    plot = strip_plot([Strip("", dots, "lower")])
    places = [float(part.split(" ")[0]) for part in plot.strips[0].path.split("M")[1:]]
    np.testing.assert_allclose(np.diff(places) / (places[-1] - places[0]), [0.25, 0.25, 0.5], atol=1e-3)
    assert [text for _, text in plot.ticks] == ["0", "1", "2", "3", "4"]
    assert strip_plot([Strip("", [], "lower")]) is None
    assert strip_plot([Strip("", dots[:1], "lower")]) is not None


def test_a_group_of_which_every_pair_failed_has_a_page():
    text = Page(group_html([Member("a", "", {}, "no such file")], "all")).text
    assert "1 failed" in " ".join(text.split())
    assert "no such file" in text
