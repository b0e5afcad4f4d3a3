"""A page of many pairs: what it counts, who lies outside, and which pages are written anew."""

import base64
import csv
import errno
import io
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from report_pages import NASTY, Page, write_pair

from agnoreg.evaluate.batch import evaluate_pairs, work
from agnoreg.evaluate.cli import main
from agnoreg.evaluate.evaluation import InputError, evaluate_pair
from agnoreg.evaluate.report import case, report_html
from agnoreg.evaluate.report import folder as folders
from agnoreg.evaluate.report.folder import page_name
from agnoreg.evaluate.report.group import group_html
from agnoreg.evaluate.report.members import Member, Members
from agnoreg.evaluate.report.strips import Dot, Strip, strip_plot

LOSSES = ["ssd", "dice"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Reports of three pairs, of which one fails, and what was computed."""
    there = tmp_path_factory.mktemp("group")
    lines = [["id", "fixed", "moved", "moved_before", "fixed_label", "moved_label", "ddf"]]
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


def test_values_before_the_registration_stand_beside_those_after(folder):
    _, summary = folder
    page = Page(summary.reports.read_text("utf-8"))
    assert "The strip above it has the values before the registration." in " ".join(page.text.split())
    (link,) = (one for one in page.all("a") if "download" in one)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link["href"].split(",")[1]).decode())))
    for row in rows:
        assert bool(row["before"]) == (row["measured"] == "images"), row["metric"]
    assert all(float(row["before"]) > float(row["value"]) for row in rows if row["measured"] == "images")
    # A strip of three dots before and one of three after, over one axis: of the images' metric alone.
    before = [path["d"] for path in page.all("path") if path.get("class") == "dots before"]
    assert [path.count("M") for path in before] == [3]


def test_only_pages_that_are_not_true_any_more_are_written_anew(folder):
    there, _ = folder
    pages = sorted(path for path in (there / "reports").iterdir() if path.name != "index.html")
    for path in pages:
        os.utime(path, (1, 1))
    changed = next(path for path in (there / "0").iterdir() if path.name.startswith("moved "))
    os.utime(changed, (2, 2))
    evaluate_pairs(there / "pairs.csv", there / "table.csv", losses=LOSSES, report_dir=there / "reports", workers=1)
    assert {path.name for path in pages if path.stat().st_mtime != 1} == {page_name("one")}


# --- one evaluation ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """The CSV of three pairs, and their arguments by id."""
    monkeypatch.chdir(tmp_path)
    names = ("fixed", "moved", "fixed_label", "moved_label")
    found = {}
    for index in range(3):
        (tmp_path / str(index)).mkdir()
        pair = write_pair(tmp_path / str(index), (24, 20, 1), np.eye(4), seed=index)
        found[f"case {index}"] = {name: pair[name] for name in names}
    with open("pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([("id", *names), *((name, *pair.values()) for name, pair in found.items())])
    return found


@pytest.fixture
def counts(monkeypatch):
    """How often a pair is evaluated, and how often its files are read to draw them, by the fixed image's file."""
    found = {"evaluated": [], "drawn": []}

    def evaluate(fixed, moved, **options):
        found["evaluated"].append(fixed)
        return evaluate_pair(fixed, moved, **options)

    def read(pair):
        found["drawn"].append(pair["fixed"])
        return case.read_case(pair)

    monkeypatch.setattr(work, "evaluate_pair", evaluate)
    monkeypatch.setattr("agnoreg.evaluate.report.pair.read_case", read)
    return found


def run_all(**options):
    return evaluate_pairs("pairs.csv", "table.csv", losses=LOSSES, report_dir="reports", **options)


def without_title_and_time(page):
    page = re.sub(r"<nav>.*</nav>|<title>.*</title>|<h1>.*</h1>|<!-- agnoreg .* -->|Written .* by", "", page)
    # Seconds are in what is saved; they differ.
    return re.sub(r'href="data:(text/csv|application/json)[^"]*"', "", page).strip()


def test_each_pair_is_evaluated_once_and_its_page_is_that_of_the_report(pairs, counts):
    assert run_all().finished == 3
    files = sorted(pair["fixed"] for pair in pairs.values())
    assert sorted(counts["evaluated"]) == sorted(counts["drawn"]) == files
    for name, pair in pairs.items():
        page = (Path("reports") / page_name(name)).read_text("utf-8")
        arguments = {**pair, "losses": LOSSES}
        alone = report_html(evaluate_pair(**arguments), arguments)
        assert without_title_and_time(page) == without_title_and_time(alone)
    assert run_all().before == 3
    assert len(counts["evaluated"]) == 3


def test_a_page_that_is_gone_is_drawn_again_and_the_rows_stay(pairs, counts):
    run_all()
    table = Path("table.csv").read_text()
    (Path("reports") / page_name("case 1")).unlink()
    counts["evaluated"].clear()
    assert run_all().before == 2
    assert counts["evaluated"] == [pairs["case 1"]["fixed"]]
    assert Path("table.csv").read_text() == table
    # Without its files a row stays, and the page of all says what it lacks.
    (Path("reports") / page_name("case 1")).unlink()
    os.unlink(pairs["case 1"]["moved"])
    summary = run_all()
    assert (summary.finished, list(summary.undrawn)) == (3, ["case 1"])
    assert Path("table.csv").read_text() == table
    assert "its page cannot be drawn: moved image" in Page(summary.reports.read_text("utf-8")).text


def test_what_cannot_be_drawn_costs_no_row(pairs, monkeypatch, capsys):
    def draw(*_, title, **__):
        if title == "case 1":
            raise RuntimeError("no ink")
        return "<p>"

    monkeypatch.setattr(work, "report_html", draw)
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "--pairs", "pairs.csv", "--out", "table.csv", "--loss", "ssd", "--report-dir", "reports"])
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert "table.csv: 3 of 3 pairs evaluated; 0 failed." in printed.out
    assert "line 3, pair case 1 is evaluated, but has no report: RuntimeError: no ink" in printed.err


def test_ctrl_c_keeps_pages_and_the_next_run_draws_the_others(pairs, counts):
    def press(finished, failed, total):
        if finished == 1:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        summary = run_all(progress=press)
    finally:
        signal.signal(signal.SIGINT, before)
    assert summary.interrupted
    there = {path.name for path in Path("reports").glob("case*.html")}
    assert 1 <= len(there) == summary.finished < 3
    assert {link for link in Page(summary.reports.read_text("utf-8")).links() if link.startswith("case")} == there
    written = len(counts["evaluated"])
    assert run_all().finished == 3
    assert len(counts["evaluated"]) <= written + 3 - summary.finished


def test_a_full_disk_ends_the_run_and_leaves_no_part_of_a_page(pairs, monkeypatch):
    def full(contents):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_whole", full)
        with pytest.raises(InputError, match=r"No space left on device.*run the same command again"):
            run_all()
    assert list(Path("reports").iterdir()) == []
    # What a run that was killed left behind is removed.
    stale = Path("reports") / f".{page_name('case 0')}.{'0' * 32}.tmp"
    stale.write_text("half")
    assert run_all().finished == 3
    assert len(list(Path("reports").iterdir())) == 4
    assert not stale.exists()


@pytest.mark.parametrize("where", ["pairs.csv", "pairs.csv/reports", "table.csv", "x" * 300, "a\0b"])
def test_a_folder_that_cannot_be_is_said_before_anything_is_computed(where, pairs, counts):
    with pytest.raises(InputError, match="reports cannot be written to"):
        evaluate_pairs("pairs.csv", "table.csv", losses=LOSSES, report_dir=where)
    assert counts["evaluated"] == []
    assert not Path("table.csv").exists()


@pytest.mark.parametrize("name", ["index.html", page_name("case 1")])
def test_no_page_of_somebody_else_is_replaced(name, pairs, counts):
    Path("reports").mkdir()
    page = Path("reports") / name
    page.write_text("<html>a page of mine</html>")
    with pytest.raises(InputError, match=f"{re.escape(name)} is no report of agnoreg, so it is not replaced"):
        run_all()
    assert page.read_text() == "<html>a page of mine</html>"
    if name == "index.html":
        assert counts["evaluated"] == []
    page.unlink()
    assert run_all().finished == 3
    # A run replaces the pages of the last one.
    assert run_all().finished == 3


@pytest.mark.cluster
def test_workers_draw_the_pages(pairs):
    summary = run_all(workers=1)
    assert (summary.finished, summary.undrawn) == (3, {})
    assert len(list(Path("reports").glob("case*.html"))) == 3


# --- names and strips -------------------------------------------------------------------------------------------------


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
    found = Strip("", dots, "higher").outliers
    assert set(found) == set(beyond) >= {"30", "31"}
    assert list(found)[:2] == ["30", "31"]
    assert next(iter(Strip("", dots, "lower").outliers)) == "32"
    assert Strip("", dots[:3], "lower").outliers == {}


def test_a_strip_places_values_to_scale():
    dots = [Dot(str(value), "", value, "") for value in (0.0, 1.0, 2.0, 4.0)]
    plot = strip_plot([Strip("", dots, "lower")])
    places = [float(part.split(" ")[0]) for part in plot.strips[0].path.split("M")[1:]]
    np.testing.assert_allclose(np.diff(places) / (places[-1] - places[0]), [0.25, 0.25, 0.5], atol=1e-3)
    assert [text for _, text in plot.ticks] == ["0", "1", "2", "3", "4"]
    assert strip_plot([Strip("", [], "lower")]) is None
    assert strip_plot([Strip("", dots[:1], "lower")]) is not None


def test_a_group_of_which_every_pair_failed_has_a_page():
    text = Page(group_html(Members([Member("a", error="no such file")]), "all")).text
    assert "1 failed" in " ".join(text.split())
    assert "no such file" in text
