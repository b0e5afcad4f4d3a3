"""Many pairs: a row each, whatever happens to a pair, to a worker, to the scheduler or to the command itself."""

import csv
import errno
import inspect
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import agnoreg.files
from agnoreg.evaluate.batch import Pair, evaluate_pairs, here, read_pairs, table_out, work
from agnoreg.evaluate.batch import cluster as clusters
from agnoreg.evaluate.batch import rows as rows_on_disk
from agnoreg.evaluate.batch.rows import RowStore
from agnoreg.evaluate.batch.table_in import COLUMNS as COLUMNS_OF_CSV
from agnoreg.evaluate.batch.work import evaluate_row
from agnoreg.evaluate.cli import main
from agnoreg.evaluate.evaluation import InputError, Series, evaluate_pair

pytestmark = pytest.mark.cluster

AFFINE = np.diag([1.5, 2.0, 3.0, 1.0])
SHAPE = (11, 12, 13)
COUNT = 5
IMAGES = ["SumSquaredDifference", "GlobalNormalizedCrossCorrelation(convention=exact, squared=False)"]
IMAGES += ["LocalNormalizedCrossCorrelation(convention=exact)", "GlobalMutualInformation(rescale=True)"]
COMMAND = (sys.executable, "-W", "error", "-c", "from agnoreg.evaluate.cli import main; main()", "evaluate")


def start(workers, threads=1, scheduler=None, **options):
    """Start a cluster on this machine, of which the command knows the scheduler's address alone."""
    scheduler = {**(scheduler or {}), **clusters.NO_DASHBOARD}
    quiet = {"silence_logs": logging.CRITICAL, "scheduler_kwargs": scheduler}
    return LocalCluster(n_workers=workers, threads_per_worker=threads, **quiet, **options)


@pytest.fixture(scope="module")
def cluster():
    """Start a scheduler with two workers, as a user's cluster has them."""
    with start(2) as it:
        yield it


@pytest.fixture
def address(cluster):
    """Return the address of the running scheduler."""
    return cluster.scheduler_address


def save(name, array):
    nib.save(nib.Nifti1Image(array, AFFINE), name)


def write_csv(columns, *rows, name="pairs.csv"):
    with open(name, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def folder(tmp_path, rng, monkeypatch):
    """Write five pairs with labels and a field into a folder beside the current one, and the CSV that names them."""
    (tmp_path / "data").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    rows = []
    for i in range(COUNT):
        fixed = rng.random(SHAPE).astype(np.float32)
        label = np.zeros(SHAPE, np.uint8)
        label[1:5, 2:8, 3:9] = 1 + i % 3
        names = [f"{kind}{i}.nii" for kind in ("fixed", "moved", "fixed_label", "moved_label", "ddf")]
        field = rng.standard_normal((*SHAPE, 3)).astype(np.float32)
        for name, array in zip(names, (fixed, fixed + fixed**2, label, np.roll(label, 1, 0), field), strict=True):
            save(name, array)
        rows.append([f"case {i}", *names])
    write_csv(("id", "fixed", "moved", "fixed_label", "moved_label", "ddf"), *rows)
    write_csv(("fixed", "moved"), *(row[1:3] for row in rows), name="images.csv")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "data"


@pytest.fixture
def run(capsys):
    """Run the command; return its exit code and what it printed."""

    def run(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main(["evaluate", *map(str, arguments)])
        printed = capsys.readouterr()
        return exit_.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def refused(run):
    """Run a command that must fail before anything starts: exit code 2, one line on stderr, no file written."""

    def refused(*arguments):
        before = sorted(Path().rglob("*"))
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert re.fullmatch(r"agnoreg: error: [^\n]+\n", err), err
        assert sorted(Path().rglob("*")) == before
        return err

    return refused


def parts(out="out.parquet"):
    """Return what tells whether a row's file was written again, by the file."""
    states = ((path, path.stat()) for path in Path(f"{out}.parts").glob("*.json"))
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in states}


def written_since(before):
    """Return the ids of the rows whose file is not the one that there was."""
    return {json.loads(path.read_text())["id"] for path, state in parts().items() if before.get(path) != state}


# --- rows -------------------------------------------------------------------------------------------------------------


def columns_of(result):
    """Return the table's columns of one evaluation, as the documents describe them."""
    found = {}
    for record in result.records:
        label = "" if record.label is None else f"[{record.label}]"
        arguments = ", ".join(f"{key}={value}" for key, value in record.arguments.items())
        unit = f" ({record.unit})" if record.unit else ""
        found[record.metric + (f"({arguments})" if arguments else "") + label + unit] = record.value
    return found


@pytest.mark.parametrize("losses", [[], ["lncc:kernel_size=5", "ssd", "bending"]])
@pytest.mark.parametrize("where", ["here", "cluster"])
def test_a_row_equals_what_the_command_says_of_its_pair(folder, run, address, losses, where):
    chosen = [word for loss in losses for word in ("--loss", loss)]
    chosen += ["--scheduler", address] if where == "cluster" else []
    code, out, err = run("--pairs", folder / "pairs.csv", "--out", "out.parquet", *chosen)
    assert (code, err) == (0, "")
    assert out.splitlines(True)[0] == "out.parquet: 5 of 5 pairs evaluated; 0 failed.\n"
    table = pd.read_parquet("out.parquet")
    assert list(table["id"]) == [f"case {i}" for i in range(COUNT)]
    inputs = ["fixed", "moved", "fixed_label", "moved_label", "ddf"]
    described = {"id", *inputs, "warnings", "error", "seconds", "fingerprint"}
    for i, row in enumerate(table.to_dict("records")):
        named = {name: row[name] for name in inputs}
        assert named == {name: f"{name}{i}.nii" for name in inputs}
        expected = columns_of(evaluate_pair(**{name: folder / file for name, file in named.items()}, losses=losses))
        found = {name: row[name] for name in row.keys() - described}
        assert {name: value for name, value in found.items() if not math.isnan(value)} == expected
        assert (row["warnings"], row["error"]) == ("", "")
        assert row["seconds"] > 0


def test_the_table_is_the_same_for_any_number_of_workers(folder, run, address):
    for out, *options in (("a.parquet", "--workers", 1), ("b.csv", "--scheduler", address), ("c.csv",)):
        assert run("--pairs", folder / "pairs.csv", "--out", out, *options)[0] == 0
    first = pd.read_parquet("a.parquet")
    numbers = list(first.columns[first.dtypes == "float64"].drop("seconds"))
    assert len(numbers) == 4 + 9 * 4 + 9
    for other in ("b.csv", "c.csv"):
        second = pd.read_csv(other, keep_default_na=False, na_values={"": []})
        assert list(first.columns) == list(second.columns)
        for name in first.columns.drop(["seconds", "fingerprint"]):
            if name in numbers:
                np.testing.assert_array_equal(first[name], pd.to_numeric(second[name]))
            else:
                assert list(first[name]) == list(second[name])


def test_columns_are_in_the_order_of_metrics_and_labels(folder, address):
    evaluate_pairs(folder / "pairs.csv", "out.parquet", losses=["dice", "ssd"], scheduler=address)
    names = ["SumSquaredDifference"]
    names += [f"{metric}[{label}]" for metric in ("DiceScore", names[0]) for label in (1, 2, 3, "mean")]
    assert list(pd.read_parquet("out.parquet").columns[6:-4]) == names


def test_a_failed_pair_is_a_row_and_stops_no_other(folder, run, address):
    (folder / "moved1.nii").unlink()
    (folder / "fixed3.nii").write_text("no image")
    (folder / "more.csv").write_text((folder / "images.csv").read_text() + "fixed0.nii,\n")
    code, out, err = run("--pairs", folder / "more.csv", "--out", "out.parquet", "--scheduler", address)
    assert (code, out.splitlines(True)[0]) == (1, "out.parquet: 3 of 6 pairs evaluated; 3 failed.\n")
    table = pd.read_parquet("out.parquet")
    assert list(table["id"]) == ["1", "2", "3", "4", "5", "6"]
    error = list(table["error"])
    assert error[1] == f"moved image {folder / 'moved1.nii'} does not exist."
    assert f"fixed image {folder / 'fixed3.nii'} cannot be read as NIfTI" in error[3]
    assert error[5] == "The cell of the column moved is empty."
    assert error[0] == error[2] == error[4] == ""
    assert list(table.iloc[:, 3:-4].isna().all(axis=1)) == [False, True, False, True, False, True]
    lines = err.splitlines()
    more = folder / "more.csv"
    assert lines[:3] == [f"agnoreg: warning: {more}, line {i + 2}, pair {i + 1}: {error[i]}" for i in (1, 3, 5)]
    assert lines[3:] == [
        "agnoreg: error: 3 of 6 pairs failed: all are in the column error, and the same command tries them again."
    ]


def test_columns_and_their_types_do_not_depend_on_what_failed(folder, address):
    evaluate_pairs(folder / "pairs.csv", "good.parquet", scheduler=address)
    for path in folder.glob("moved?.nii"):
        path.unlink()
    summary = evaluate_pairs(folder / "pairs.csv", "bad.parquet", scheduler=address)
    assert (summary.finished, len(summary.failures)) == (0, COUNT)
    good, bad = pd.read_parquet("good.parquet").dtypes, pd.read_parquet("bad.parquet").dtypes
    assert set(good.index) - set(bad.index) == {name for name in good.index if re.search(r"\[\d+\]", name)}
    assert bad.equals(good[bad.index])
    assert set(bad["SumSquaredDifference":"BendingEnergy(spacing=header) (1/mm^2)"]) == {np.dtype("float64")}


def test_warnings_and_undefined_values_are_in_the_row(folder, address):
    save(folder / "fixed0.nii", np.full(SHAPE, np.nan, np.float32))
    evaluate_pairs(folder / "images.csv", "out.parquet", scheduler=address)
    table = pd.read_parquet("out.parquet")
    assert "voxels that are NaN or infinite" in table["warnings"][0]
    assert list(table["error"]) == [""] * COUNT
    assert list(table["SumSquaredDifference"].isna()) == [True] + [False] * (COUNT - 1)


def test_progress_counts_what_is_finished_and_what_failed(folder, address):
    (folder / "moved1.nii").unlink()
    seen = []
    evaluate_pairs(folder / "images.csv", "out.parquet", scheduler=address, progress=lambda *now: seen.append(now))
    assert seen[0] == (0, 0, COUNT)
    assert [finished + failed for finished, failed, _ in seen] == list(range(COUNT + 1))
    assert seen[-1] == (COUNT - 1, 1, COUNT)


# --- further columns --------------------------------------------------------------------------------------------------

#: What a column of a study's table may hold: none of it is read as a number, a date or a missing value.
CELLS = ["007", " a ", "", "NaN", "1,5", 'say "no"', "two\nlines", "two\r\nlines", "a\rb", "\u2028\x85é", "=1+1"]


def read_texts(out, count):
    """Return rows of a table as texts, read by neither of the libraries that wrote it where it is CSV."""
    if out == "out.csv":
        with open(out, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
    else:
        table = pd.read_parquet(out)
        header, rows = list(table.columns), [list(row) for row in table.itertuples(index=False)]
    assert len(rows) == count
    return header, rows


@pytest.fixture(params=["out.parquet", "out.csv"])
def out(request):
    """Return the table's name, in each format."""
    return request.param


def write_study(folder, *columns, name="study.csv"):
    """Write the five pairs with further columns, each the column's name and its cells."""
    names, cells = zip(*columns, strict=True)
    rows = [(f"fixed{i}.nii", *row, f"moved{i}.nii") for i, row in enumerate(zip(*cells, strict=True))]
    write_csv(("fixed", *names, "moved"), *rows, name=folder / name)
    return folder / name


def test_further_columns_are_carried_through(folder, out, evaluated):
    columns = [("site, no", CELLS[:5]), ("Alter", CELLS[5:10]), ("last", [*CELLS[10:], *CELLS[:4]])]
    study = write_study(folder, *columns)
    evaluate_pairs(study, out, losses=["ssd"])
    header, rows = read_texts(out, COUNT)
    assert header[:3] == ["id", "fixed", "moved"]
    assert header[3:6] == [name for name, _ in columns]
    assert header[6:] == ["SumSquaredDifference", "warnings", "error", "seconds", "fingerprint"]
    assert [tuple(row[3:6]) for row in rows] == list(zip(*(cells for _, cells in columns), strict=True))


@settings(max_examples=40, deadline=None)
@given(
    cells=st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")), min_size=1),
    separator=st.sampled_from(",;\t"),
)
def test_any_text_of_a_further_column_comes_back(tmp_path_factory, cells, separator):
    folder = tmp_path_factory.mktemp("any")
    name = cells[0].strip()
    assume(name and name not in COLUMNS_OF_CSV)
    lines = (("id", cells[0], "fixed", "moved"), *((i, cell, "f", "m") for i, cell in enumerate(cells)))
    with open(folder / "p", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(lines)
    _, rows = read_pairs(folder / "p")
    assert [pair.further for pair in rows] == [{name: cell} for cell in cells]
    part = {"values": [], "warnings": cells[:1], "error": cells[-1], "seconds": 1.0, "files": {}}
    columns = table_out.Columns(("fixed", "moved"), (name,), {})
    assume(not columns.clashing())
    table = [table_out.row(pair, f"{i:032x}", part) for i, pair in enumerate(rows)]
    for out in (folder / "out.csv", folder / "out.parquet"):
        table_out.write_table(out, columns, table)
        read = table_out.TableRows(out, columns)
        assert [line[name] for line in read.rows.values()] == cells
        assert [read.part(key)["error"] for key in read.rows] == [cells[-1]] * len(cells)


def test_the_index_of_pandas_is_carried_through(folder, out):
    table = pd.DataFrame({name: [f"{name}{i}.nii" for i in range(COUNT)] for name in ("fixed", "moved")})
    table.index = [f"sub-{i:02}" for i in range(COUNT)]
    table.to_csv(folder / "index.csv")
    evaluate_pairs(folder / "index.csv", out, losses=["ssd"])
    header, rows = read_texts(out, COUNT)
    assert header[:4] == ["id", "fixed", "moved", "Unnamed: 0"]
    assert header[3] == pd.read_csv(folder / "index.csv").columns[0]
    assert [row[3] for row in rows] == list(table.index)


def test_columns_without_a_name_are_told_apart_or_left_out(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(",Unnamed: 0,fixed,,moved,,\n0,1,a,,b,x,\n")
    _, (pair,) = read_pairs(path)
    assert pair.further == {"Unnamed: 0.1": "0", "Unnamed: 0": "1", "Unnamed: 5": "x"}


@pytest.mark.parametrize(
    ("name", "clashes"),
    [
        *((name, True) for name in ("warnings", "error", "seconds", "fingerprint", "SumSquaredDifference")),
        *((name, True) for name in ("DiceScore[mean]", "DiceScore[7]", "compute_centroid_distance[-2] (mm)")),
        *((name, False) for name in ("Error", "DiceScore", "DiceScore[07]", "DiceScore[x]", "LossOfMine", "name[1]")),
    ],
)
def test_a_further_column_of_a_name_that_the_table_has(folder, refused, evaluated, name, clashes):
    table = pd.read_csv(folder / "pairs.csv").head(1)
    table[name] = "mine"
    table.to_csv(folder / "pairs.csv", index=False)
    if clashes:
        message = refused("--pairs", folder / "pairs.csv", "--out", "out.csv")
        assert f"has a column {name!r}, and the table has one of that name for what is computed: rename it." in message
    else:
        evaluate_pairs(folder / "pairs.csv", "out.csv")
        assert list(pd.read_csv("out.csv")[name]) == ["mine"]


def test_changed_further_columns_are_those_of_now_and_nothing_is_computed_again(folder, out, evaluated):
    evaluate_pairs(write_study(folder, ("age", list("12345")), ("sex", list("mfmfm"))), out, losses=["ssd"])
    first = read_texts(out, COUNT)[1]
    evaluated.clear()
    summary = evaluate_pairs(write_study(folder, ("sex", list("abcde")), ("site", list("uvwxy"))), out, losses=["ssd"])
    assert (evaluated, summary.before) == ([], COUNT)
    header, rows = read_texts(out, COUNT)
    assert header[3:6] == ["sex", "site", "SumSquaredDifference"]
    assert [row[3:5] for row in rows] == [list(pair) for pair in zip("abcde", "uvwxy", strict=True)]
    assert [row[5:] for row in rows] == [row[5:] for row in first]


def test_an_interrupted_run_carries_further_columns_through_too(folder, out, evaluated, monkeypatch):
    study = write_study(folder, ("age", list("12345")))
    write = RowStore.write

    def write_two(self, *row):
        if len(parts(out)) == 2:
            raise KeyboardInterrupt
        return write(self, *row)

    with monkeypatch.context() as patch:
        patch.setattr(RowStore, "write", write_two)
        assert evaluate_pairs(study, out, losses=["ssd"]).interrupted
    assert [row[3] for row in read_texts(out, 2)[1]] == ["1", "2"]
    evaluated.clear()
    assert evaluate_pairs(study, out, losses=["ssd"]).before == 2
    assert evaluated == ["fixed2.nii", "fixed3.nii", "fixed4.nii"]
    assert [row[3] for row in read_texts(out, COUNT)[1]] == list("12345")


def test_a_column_that_is_spelt_much_like_one_that_is_read_is_told(folder, run):
    study = write_study(folder, ("ddff", [""] * COUNT), ("age", list("12345")))
    code, _, err = run("--pairs", study, "--out", "out.csv", "--loss", "ssd")
    assert code == 0
    assert err == (
        f"agnoreg: warning: {study}: the column 'ddff' is not read but carried through to the table; is ddf meant?\n"
    )


# --- rerunning --------------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluated(monkeypatch):
    """Collect the files of the fixed images whose pairs are evaluated in this process."""
    seen = []

    def evaluate(paths, settings):
        seen.append(Path(paths["fixed"]).name)
        return evaluate_row(paths, settings)

    monkeypatch.setattr(here, "evaluate_row", evaluate)
    return seen


@pytest.fixture(params=["parts", "out.parquet", "out.csv"])
def finished(folder, evaluated, request):
    """Evaluate the pairs once; return how to do so again, as the summary and whose pairs were evaluated then.

    What is finished is known from the files of rows, which are kept, or from the table alone.
    """
    kept = request.param == "parts"
    out = "out.parquet" if kept else request.param

    def again(**settings):
        evaluated.clear()
        summary = evaluate_pairs(folder / "pairs.csv", out, keep_parts=kept, **settings)
        return summary, sorted(evaluated)

    again.out = Path(out)
    again.table = lambda: pd.read_parquet(out) if out.endswith("parquet") else pd.read_csv(out, keep_default_na=False)
    assert again()[1] == [f"fixed{i}.nii" for i in range(COUNT)]
    assert len(parts(out)) == (COUNT if kept else 0)
    return again


def test_a_rerun_skips_every_finished_row_and_starts_nothing(finished, monkeypatch):
    table = finished.out.read_bytes()
    if list(parts()):
        finished.out.unlink()

    def start_none(*_):
        raise AssertionError("There is nothing to compute.")

    monkeypatch.setattr(clusters, "connected", start_none)
    summary, again = finished(workers=2)
    assert again == []
    assert (summary.finished, summary.before) == (COUNT, COUNT)
    assert finished.out.read_bytes() == table


def test_a_rerun_needs_no_inputs_of_finished_rows(folder, finished):
    for path in folder.glob("*3.nii"):
        path.unlink()
    summary, again = finished()
    assert (again, summary.failures) == ([], {})


def test_a_changed_input_is_computed_again(folder, finished):
    before = finished.table()
    save(folder / "moved2.nii", np.ones(SHAPE, np.float32))
    assert finished()[1] == ["fixed2.nii"]
    after = finished.table()
    changed = before["SumSquaredDifference"] != after["SumSquaredDifference"]
    assert list(changed) == [False, False, True, False, False]


def test_another_choice_is_computed_again(finished):
    summary, again = finished(losses=["ssd"])
    assert (summary.before, len(again)) == (0, COUNT)
    assert list(finished.table().columns[6:-4]) == [
        "SumSquaredDifference",
        *(f"SumSquaredDifference[{label}]" for label in (1, 2, 3, "mean")),
    ]


def test_files_of_rows_that_are_kept_come_back_into_use(folder, evaluated):
    for losses, expected in ((["ssd"], COUNT), (["lncc"], COUNT), (["ssd"], 0)):
        evaluated.clear()
        evaluate_pairs(folder / "images.csv", "out.parquet", losses=losses, keep_parts=True)
        assert len(evaluated) == expected


def test_a_default_that_is_given_is_the_default(folder, finished):
    assert finished(backend="numpy", scale=True, affine_tol=1e-3)[1] == []


def test_rows_may_come_go_and_change_places(folder, finished):
    header, *rows = (folder / "pairs.csv").read_text().splitlines()
    new = rows[0].replace("case 0", "new")
    (folder / "pairs.csv").write_text("\n".join([header, rows[4], new, rows[1]]) + "\n")
    summary, again = finished()
    assert (summary.total, again) == (3, ["fixed0.nii"])
    assert list(finished.table()["id"]) == ["case 4", "new", "case 1"]


def test_a_label_without_a_value_keeps_its_column(folder, evaluated):
    """The distance of centroids is undefined where a label is absent from one map, and all else may be left out."""
    values = [
        {"metric": "M", "arguments": {}, "measured": "labels", "unit": "", "label": label, "value": value}
        for label, value in ((1, 0.5), (2, math.nan), (-3, math.nan), ("mean", 0.5))
    ]
    pair = Pair("a", {"id": "a", "fixed": "f", "moved": "m"}, {})
    part = {"values": values, "warnings": ["one", "two"], "error": "", "seconds": 1.5, "files": {"fixed": [3, 4]}}
    series = {"M[mean]": Series("M", {}, "labels", "")}
    columns = table_out.Columns(("fixed", "moved"), (), series)
    first = table_out.row(pair, "0" * 32, part)
    assert first["labels"] == {1, 2, -3}
    for out in (Path("out.parquet"), Path("out.csv")):
        table_out.write_table(out, columns, [first])
        again = table_out.TableRows(out, columns).part("0" * 32)
        assert again["files"] == part["files"]
        assert table_out.row(pair, "0" * 32, again) == first | {"M[2]": pytest.approx(math.nan, nan_ok=True)} | {
            "M[-3]": pytest.approx(math.nan, nan_ok=True)
        }


def test_a_row_of_the_table_that_was_changed_is_computed_again(folder, evaluated, out):
    def read():
        return pd.read_csv(out, keep_default_na=False) if out == "out.csv" else pd.read_parquet(out)

    write = "to_csv" if out == "out.csv" else "to_parquet"
    evaluate_pairs(folder / "images.csv", out, losses=["ssd"])
    table = read()
    true = list(table["SumSquaredDifference"])
    table.loc[1, "SumSquaredDifference"] *= 1 + 1e-15
    table.loc[2, "warnings"] = "none"
    table.loc[3, "fingerprint"] = "nonsense"
    table.loc[4, "fingerprint"] = table.loc[4, "fingerprint"].replace("@", "")
    getattr(table, write)(out, index=False)
    evaluated.clear()
    evaluate_pairs(folder / "images.csv", out, losses=["ssd"])
    assert evaluated == [f"fixed{i}.nii" for i in (1, 2, 3, 4)]
    assert list(read()["SumSquaredDifference"]) == true


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"\xff\xfe", b"id,fingerprint\na\n", b"fingerprint\na b\n", b'a,"b', b"\0"]
)
def test_what_lies_in_the_tables_place_is_no_row(folder, evaluated, out, content):
    Path(out).write_bytes(content)
    summary = evaluate_pairs(folder / "images.csv", out, losses=["ssd"])
    assert (summary.finished, summary.before, len(evaluated)) == (COUNT, 0, COUNT)


def test_a_run_with_failures_keeps_the_files_of_rows_until_all_are_evaluated(folder, evaluated):
    moved = (folder / "moved1.nii").read_bytes()
    (folder / "moved1.nii").unlink()
    evaluate_pairs(folder / "images.csv", "out.parquet", losses=["ssd"])
    assert len(parts()) == COUNT
    (folder / "moved1.nii").write_bytes(moved)
    evaluated.clear()
    evaluate_pairs(folder / "images.csv", "out.parquet", losses=["ssd"])
    assert evaluated == ["fixed1.nii"]
    assert sorted(Path().iterdir()) == [Path("out.parquet")]


def test_a_damaged_file_of_a_row_is_computed_again(folder, evaluated):
    evaluate_pairs(folder / "pairs.csv", "out.parquet", keep_parts=True)
    paths = {json.loads(path.read_text())["id"]: path for path in parts()}
    table = pd.read_parquet("out.parquet").drop(columns=["seconds", "fingerprint"])
    Path("out.parquet").unlink()
    paths["case 0"].write_text("")
    paths["case 1"].write_text(paths["case 1"].read_text()[:-3])
    paths["case 2"].write_text("{}")
    evaluated.clear()
    summary = evaluate_pairs(folder / "pairs.csv", "out.parquet")
    assert evaluated == ["fixed0.nii", "fixed1.nii", "fixed2.nii"]
    assert (summary.finished, summary.before) == (COUNT, 2)
    again = pd.read_parquet("out.parquet").drop(columns=["seconds", "fingerprint"])
    pd.testing.assert_frame_equal(again, table)


def test_a_failed_row_is_tried_again(folder, address, run):
    moved = (folder / "moved1.nii").read_bytes()
    (folder / "moved1.nii").unlink()
    command = ("--pairs", folder / "images.csv", "--out", "out.parquet", "--scheduler", address, "--keep-parts")
    assert run(*command)[0] == 1
    before = parts()
    (folder / "moved1.nii").write_bytes(moved)
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert out.splitlines(True)[0] == "out.parquet: 5 of 5 pairs evaluated, 4 of them before; 0 failed.\n"
    assert written_since(before) == {"2"}
    assert list(pd.read_parquet("out.parquet")["error"]) == [""] * COUNT


def test_a_full_disk_ends_the_run_and_keeps_what_is_finished(folder, address, run, monkeypatch):
    written = []

    def full(contents):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        agnoreg.files.write_whole(contents)
        written.extend(contents)

    command = ("--pairs", folder / "images.csv", "--out", "out.parquet", "--scheduler", address)
    with monkeypatch.context() as patch:
        patch.setattr(rows_on_disk, "write_whole", full)
        code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert "No space left on device" in err
    assert "out.parquet.parts are kept" in err
    assert sorted(Path("out.parquet.parts").iterdir()) == sorted(Path(path) for path in written)
    assert run(*command)[1].splitlines(True)[0] == "out.parquet: 5 of 5 pairs evaluated, 2 of them before; 0 failed.\n"


# --- in this process --------------------------------------------------------------------------------------------------

#: Evaluates pairs, and says what was imported for it.
IMPORTED = """
import sys
from agnoreg.evaluate.cli import main
try:
    main(["evaluate", "--pairs", *sys.argv[1:]])
except SystemExit as error:
    print(error.code or 0, sorted({"dask", "distributed"} & set(sys.modules)))
"""


@pytest.mark.parametrize(("options", "imported"), [([], []), (["--workers", "1"], ["dask", "distributed"])])
def test_a_handful_of_pairs_starts_no_cluster(folder, options, imported):
    arguments = [folder / "images.csv", "--out", "out.csv", "--loss", "ssd", *options]
    command = [sys.executable, "-W", "error", "-c", IMPORTED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("out.csv: 5 of 5 pairs evaluated; 0 failed.\n")
    assert done.stdout.endswith(f"\n0 {imported}\n")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("count", "options", "starts"),
    [
        (8, {}, False),
        (9, {}, True),
        (1, {"workers": 1}, True),
        (1, {"memory_limit": "0"}, True),
        (1, {"scheduler": "tcp://x:1"}, True),
    ],
)
def test_a_cluster_is_started_for_many_pairs_or_as_asked(folder, evaluated, monkeypatch, count, options, starts):
    @contextmanager
    def connected(*_):
        raise clusters.LostError("Here one would be.")
        yield

    monkeypatch.setattr(clusters, "connected", connected)
    write_csv(("id", "fixed", "moved"), *((i, "fixed0.nii", "moved0.nii") for i in range(count)), name=folder / "n.csv")
    summary = evaluate_pairs(folder / "n.csv", "out.csv", losses=["ssd"], **options)
    assert (summary.lost, summary.finished) == (("Here one would be.", 0) if starts else ("", count))
    assert Path("out.csv").exists() == (not starts)


def test_what_is_left_of_many_pairs_is_computed_here(folder, evaluated):
    rows = [(i, f"fixed{i % COUNT}.nii", f"moved{i % COUNT}.nii") for i in range(12)]
    for first, last in ((0, 6), (0, 12)):
        write_csv(("id", "fixed", "moved"), *rows[first:last], name=folder / "n.csv")
        assert evaluate_pairs(folder / "n.csv", "out.csv", losses=["ssd"]).finished == last
    assert len(evaluated) == 12


def test_what_the_backend_cannot_do_is_said_before_any_pair_fails_here(folder, refused):
    command = ("--pairs", folder / "images.csv", "--out", "out.csv")
    assert "Unknown backend 'nonesuch'" in refused(*command, "--backend", "nonesuch")
    assert "cannot use the device 'nonesuch'" in refused(*command, "--device", "nonesuch")


def test_a_pair_that_would_end_the_process_is_a_failed_row_here(folder, monkeypatch):
    def leave(paths, settings):
        raise SystemExit(3)

    monkeypatch.setattr(here, "evaluate_row", leave)
    assert set(evaluate_pairs(folder / "images.csv", "out.csv").failures.values()) == {"SystemExit: 3"}


def test_before_landmarks_and_names_of_labels_are_in_the_table(folder, run, tmp_path):
    """A value before stands in front of that after; names stand beside numbers, and are no part of a row."""
    for name, points in (("f.csv", "1,2,3\n4,5,6\n"), ("m.csv", "2,2,3\n4,5,7\n")):
        (folder / name).write_text(points)
    (folder / "names.csv").write_text("id,name\n1,Left [L]\n2,Right\n")
    files = {
        "fixed": "fixed0.nii",
        "moved": "moved0.nii",
        "fixed_label": "fixed_label0.nii",
        "moved_label": "moved_label0.nii",
        "moved_before": "moved1.nii",
        "moved_label_before": "moved_label1.nii",
        "fixed_landmarks": "f.csv",
        "moving_landmarks": "m.csv",
    }
    write_csv(files, files.values(), name=folder / "one.csv")
    command = ("--pairs", folder / "one.csv", "--out", "out.csv", "--keep-parts", "--label-names", folder / "names.csv")
    code, out, err = run(*command, "--loss", "dice", "--loss", "hd95", "--loss", "tre_mean")
    assert code == 0, err
    result = evaluate_pair(
        **{name: folder / file for name, file in files.items()},
        losses=["dice", "hd95", "tre_mean"],
        label_names=folder / "names.csv",
    )
    (row,) = pd.read_csv("out.csv").to_dict("records")
    shown = {1: "1 Left L", 2: "2 Right", 3: "3", "mean": "mean"}
    for record in result.records:
        name = record.metric + ("" if record.label is None else f"[{shown[record.label]}]")
        name += f" ({record.unit})" if record.unit else ""
        assert row[name] == record.value
        assert row[f"before: {name}"] == record.before
    columns = list(row)
    assert columns.index("before: DiceScore[1 Left L]") == columns.index("DiceScore[1 Left L]") - 1
    figures = [line.split() for line in out.splitlines() if line.startswith("TRE, mean (mm)")]
    assert figures[0][3:5] == ["1", f"{row['tre_mean (mm)']:.4g}"]
    # The table says what is finished, with names of labels or without.
    for path in Path("out.csv.parts").glob("*.json"):
        path.unlink()
    code, out, _ = run(*command[:5], "--loss", "dice", "--loss", "hd95", "--loss", "tre_mean")
    assert out.startswith("out.csv: 1 of 1 pairs evaluated, 1 of them before; 0 failed.\n")
    assert "DiceScore[1]" in pd.read_csv("out.csv").columns


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_the_figures_of_all_pairs_cut_no_name_and_no_number(folder, run, monkeypatch, columns):
    """The third pair misses its label; losses of one title are told apart by their arguments."""
    monkeypatch.setenv("COLUMNS", str(columns))
    save(folder / "moved_label2.nii", np.zeros(SHAPE, np.uint8))
    losses = ("ssd", "lncc:kernel_size=3", "lncc:kernel_size=5", "LocalNormalizedCrossCorrelationLoss", "hd95", "dice")
    options = [word for loss in losses for word in ("--loss", loss)]
    code, out, err = run("--pairs", folder / "pairs.csv", "--out", "out.csv", *options)
    assert code == 0, err
    assert "…" not in out
    table = pd.read_csv("out.csv")
    assert math.isinf(table["hd95[mean] (mm)"].max())
    flat = " ".join(out.split())
    for name in ("SSD", "LNCC kernel_size=3", "LNCC kernel_size=5", "LNCC loss", "Dice"):
        assert name in flat
    finite = table["hd95[mean] (mm)"][np.isfinite(table["hd95[mean] (mm)"])]
    cells = [str(len(finite)), *(f"{x:.4g}" for x in (finite.mean(), finite.std(), finite.median(), min(finite)))]
    assert f"HD95 (mm) {' '.join(cells)}" in flat
    assert "HD95 (mm): inf in 1 pair, as a structure was missed, of 1 of which nothing was found." in flat
    ssd = table["SumSquaredDifference"]
    assert f"SSD 5 {ssd.mean():.4g} {ssd.std():.4g} {ssd.median():.4g} {ssd.min():.4g} {ssd.max():.4g}" in flat
    if columns >= 60:
        assert max(map(len, out.splitlines())) <= columns


def test_every_file_that_evaluate_pair_takes_is_a_column(tmp_path, monkeypatch):
    no_files = {"losses", "backend", "device", "scale", "progress", "label_names", "nan_is_masked", "max_voxels"}
    no_files |= {"convention", "nsd_tolerance", "affine_tol", "ignore_affine"}
    no_files |= {"ddf_units", "ddf_frame", "regulariser_units", "landmark_units"}
    assert set(work.FILES) == set(inspect.signature(evaluate_pair).parameters) - no_files
    write_csv(work.FILES, [f"{name}.nii" for name in work.FILES], name=tmp_path / "pairs.csv")
    columns, (pair,) = read_pairs(tmp_path / "pairs.csv")
    assert columns == work.FILES
    given = {}

    def evaluate(**arguments):
        given.update(arguments)
        raise InputError(f"--{work.FILES[-1].replace('_', '-')} FILE, --fixed-label or --ddf-units do not fit.")

    monkeypatch.setattr(work, "evaluate_pair", evaluate)
    result = evaluate_row(pair.paths, {"scale": False})
    assert given == {name: str(tmp_path / f"{name}.nii") for name in work.FILES} | {"scale": False}
    named = f"the column {work.FILES[-1]}, the column fixed_label or --ddf-units do not fit."
    assert result["error"] == named


def test_empty_cells_of_label_maps_are_answered_by_columns(folder, address):
    header, *rows = (line.split(",") for line in (folder / "pairs.csv").read_text().splitlines())
    rows[0][3], rows[1][4], rows[2][3:5] = "", "", ("", "")
    write_csv(header, *rows, name=folder / "pairs.csv")
    for out, options in (("here.csv", {}), ("cluster.csv", {"scheduler": address})):
        failures = evaluate_pairs(folder / "pairs.csv", out, **options).failures
        assert failures == {
            "case 0": "The cell of the column fixed_label is empty, and that of moved_label is not: both or neither.",
            "case 1": "The cell of the column moved_label is empty, and that of fixed_label is not: both or neither.",
        }


def test_a_row_whose_cells_lack_what_a_loss_needs_is_answered_by_columns(folder):
    header, *rows = (line.split(",") for line in (folder / "pairs.csv").read_text().splitlines())
    rows[0][3:] = ("", "", "")
    write_csv(header, *rows, name=folder / "pairs.csv")
    needs = {"dice": "DiceScore needs the column fixed_label and the column moved_label."}
    needs["gradient"] = "GradientNorm needs the column ddf."
    for loss, error in needs.items():
        assert evaluate_pairs(folder / "pairs.csv", f"{loss}.csv", losses=[loss]).failures == {"case 0": error}


def test_an_option_that_evaluate_pair_lacks_is_a_type_error(folder):
    with pytest.raises(TypeError, match="'bakend'"):
        evaluate_pairs(folder / "images.csv", "out.csv", bakend="numpy")
    with pytest.raises(TypeError, match="'fixed'"):
        evaluate_pairs(folder / "images.csv", "out.csv", fixed="a.nii")


# --- what a killed run leaves behind ----------------------------------------------------------------------------------

#: Evaluates pairs, and is killed as the n-th file takes its place.
KILLED = """
import os, signal, sys
from agnoreg.evaluate.batch import evaluate_pairs
count, replace = int(sys.argv[1]), os.replace
def killed(*paths):
    global count
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = killed
evaluate_pairs(*sys.argv[2:], losses=["ssd"])
"""

TEMPORARY = re.compile(r"\.(out\.csv|[0-9a-f]{32}\.json)\.[0-9a-f]{32}\.tmp")


def killed(folder, count):
    """Evaluate the pairs, killed as the n-th file takes its place; return which temporary files lie about then."""
    command = [sys.executable, "-c", KILLED, str(count), folder / "images.csv", "out.csv"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    return [path for path in Path().rglob("*") if TEMPORARY.fullmatch(path.name)]


@pytest.mark.parametrize("count", [1, 3, COUNT + 1])
def test_the_next_run_removes_what_a_killed_one_left_behind(folder, evaluated, count):
    (left,) = killed(folder, count)
    assert left.parent == (Path() if count > COUNT else Path("out.csv.parts"))
    summary = evaluate_pairs(folder / "images.csv", "out.csv", losses=["ssd"])
    assert (summary.finished, summary.before) == (COUNT, count - 1)
    assert sorted(Path().iterdir()) == [Path("out.csv")]


def test_files_of_users_stay(folder):
    killed(folder, 2)
    token = "0" * 32
    mine = [
        f".{token}.json.tmp",
        f"{token}.json.txt",
        f".notes.{token}.tmp",
        "notes.txt",
        f"x.{token}.json.{token}.tmp",
    ]
    beside = [f".out.csv.{token[1:]}.tmp", f".other.csv.{token}.tmp", "out.csv.tmp", f"out.csv.{token}.tmp"]
    paths = [Path("out.csv.parts", name) for name in mine] + [Path(name) for name in beside]
    for path in paths:
        path.write_text("mine")
    evaluate_pairs(folder / "images.csv", "out.csv", losses=["ssd"])
    assert sorted(path for path in Path().rglob("*") if path.is_file()) == sorted([Path("out.csv"), *paths])


def test_files_of_a_run_that_is_alive_stay(folder):
    (left,) = killed(folder, 2)
    other = RowStore(Path("out.csv"), {}, lambda key: None)
    with other.held():
        assert not left.exists()
        left.write_text("being written")
        evaluate_pairs(folder / "images.csv", "out.csv", losses=["ssd"])
        assert left.exists()
        assert len(parts("out.csv")) == COUNT
    evaluate_pairs(folder / "images.csv", "out.csv", losses=["ssd"])
    assert sorted(Path().iterdir()) == [Path("out.csv")]


def test_rows_in_a_folder_that_cannot_be_locked(folder, monkeypatch):
    killed(folder, 2)

    def lock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(rows_on_disk.fcntl, "flock", lock)
    assert evaluate_pairs(folder / "images.csv", "out.csv", losses=["ssd"]).before == 1
    assert sorted(Path().iterdir()) == [Path("out.csv")]


def test_parts_are_kept_where_asked(folder, run):
    command = ("--pairs", folder / "images.csv", "--out", "out.csv", "--loss", "ssd")
    assert run(*command, "--keep-parts")[0] == 0
    assert sorted(path.suffix for path in Path("out.csv.parts").iterdir()) == [".json"] * COUNT
    assert run(*command)[1].splitlines(True)[0] == "out.csv: 5 of 5 pairs evaluated, 5 of them before; 0 failed.\n"
    assert sorted(Path().iterdir()) == [Path("out.csv")]


# --- interrupted ------------------------------------------------------------------------------------------------------


@contextmanager
def ctrl_c_as_in_a_terminal():
    """Have Ctrl-C interrupt: where the tests run in the background of a shell, it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Running:
    """The command in a process group of its own, on a local cluster, with a pair that it never ends with."""

    PAIRS = 100

    def __init__(self, folder):
        self.endless = folder / "endless.nii"
        os.mkfifo(self.endless)
        # It is not the pipe's end while it is open here.
        self.writer = os.open(self.endless, os.O_RDWR)
        fixed = ["fixed0.nii"] * (self.PAIRS - 1) + ["endless.nii"]
        write_csv(("id", "fixed", "moved"), *((f"{i}", name, "moved0.nii") for i, name in enumerate(fixed)))
        os.replace("pairs.csv", folder / "many.csv")
        self.arguments = ("--pairs", folder / "many.csv", "--out", "out.parquet", "--loss", "lncc", "--loss", "ssd")
        # A child inherits it. (A preexec_fn would fork a process in which JAX's threads may run.)
        with ctrl_c_as_in_a_terminal():
            self.process = subprocess.Popen(
                [*COMMAND, *self.arguments, "--workers", "2"],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )

    def wait_for(self, rows):
        """Wait until as many rows are finished."""
        deadline = time.monotonic() + 60
        while len(parts()) < rows:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end_all_pairs(self):
        """Let the endless image end, and put another one in its place."""
        os.close(self.writer)
        self.endless.unlink()
        shutil.copy(self.endless.with_name("fixed0.nii"), self.endless)

    def wait_for_its_end(self):
        """Wait until no process of the group is left: a worker must not outlive the command for long."""
        deadline = time.monotonic() + 20
        while self._any():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _any(self):
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


def test_kill_9_loses_no_finished_row_and_none_is_computed_twice(folder, run, address):
    running = Running(folder)
    running.wait_for(4)
    running.process.kill()
    running.process.communicate()
    running.end_all_pairs()
    before = parts()
    assert 4 <= len(before) < Running.PAIRS
    assert not Path("out.parquet").exists()
    code, out, err = run(*running.arguments, "--scheduler", address, "--keep-parts")
    assert (code, err) == (0, "")
    assert (
        out.splitlines(True)[0] == f"out.parquet: 100 of 100 pairs evaluated, {len(before)} of them before; 0 failed.\n"
    )
    assert {path: state for path, state in parts().items() if path in before} == before
    table = pd.read_parquet("out.parquet")
    assert list(table["id"]) == [str(i) for i in range(Running.PAIRS)]
    assert (table["SumSquaredDifference"].nunique(dropna=False), set(table["error"])) == (1, {""})
    running.wait_for_its_end()


def test_ctrl_c_writes_the_table_of_the_finished_rows(folder):
    running = Running(folder)
    running.wait_for(3)
    os.killpg(running.process.pid, signal.SIGINT)  # As a terminal sends it: to the workers, too.
    out, err = running.process.communicate(timeout=30)
    assert running.process.returncode == 130
    there = len(parts())
    assert 3 <= there < Running.PAIRS
    assert out.splitlines(True)[0] == f"out.parquet: {there} of 100 pairs evaluated; 0 failed.\n"
    assert err == (
        "agnoreg: error: interrupted: out.parquet holds the rows that there are; run the same command again for the "
        "others.\n"
    )
    table = pd.read_parquet("out.parquet")
    assert set(table["id"]) == {json.loads(path.read_text())["id"] for path in parts()}
    assert list(table["id"].astype(int)) == sorted(table["id"].astype(int))
    running.wait_for_its_end()


#: The command, but the third pair never ends.
HANGING = """
import os, sys
from agnoreg.evaluate.batch import here
from agnoreg.evaluate.cli import main
evaluate = here.evaluate_row
def hang(paths, settings):
    if "fixed2" in paths["fixed"]:
        os.read(os.pipe()[0], 1)
    return evaluate(paths, settings)
here.evaluate_row = hang
main(["evaluate", *sys.argv[1:]])
"""


def test_ctrl_c_does_not_wait_for_the_pair_that_is_computed_here(folder):
    arguments = ["--pairs", folder / "images.csv", "--out", "out.parquet", "--loss", "ssd"]
    with ctrl_c_as_in_a_terminal():
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", HANGING, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    deadline = time.monotonic() + 60
    while len(parts()) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out.splitlines(True)[0]) == (130, "out.parquet: 2 of 5 pairs evaluated; 0 failed.\n")
    assert err.startswith("agnoreg: error: interrupted: out.parquet holds the rows that there are")
    assert len(pd.read_parquet("out.parquet")) == 2


class Pressing:
    """Something that is removed while Ctrl-C is pressed: Python ignores what is raised then, but for a warning."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_ctrl_c_counts_wherever_it_is_pressed(folder, address, where):
    def progress(finished, failed, total):
        if finished == 1:
            Pressing()

    with ctrl_c_as_in_a_terminal():
        scheduler = address if where == "cluster" else None
        summary = evaluate_pairs(folder / "images.csv", "out.parquet", scheduler=scheduler, progress=progress)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert summary.interrupted
    assert 1 <= summary.finished < COUNT
    assert len(pd.read_parquet("out.parquet")) == summary.finished


def test_a_second_ctrl_c_is_as_anywhere(folder, address):
    def progress(finished, failed, total):
        if finished == 1:
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    with ctrl_c_as_in_a_terminal():
        assert evaluate_pairs(folder / "images.csv", "out.csv", scheduler=address, progress=progress).interrupted


# --- workers and schedulers -------------------------------------------------------------------------------------------


def test_a_pair_that_does_not_fit_in_memory_fails_alone(folder, run):
    huge = np.zeros((512, 512, 640), np.uint8)  # 160 MiB, and 640 MiB in float32.
    save(folder / "huge.nii.gz", huge)
    del huge
    rows = [[f"fixed{i}.nii", f"moved{i}.nii"] for i in range(COUNT)]
    write_csv(("fixed", "moved"), *rows[:2], ["huge.nii.gz", "huge.nii.gz"], *rows[2:])
    os.replace("pairs.csv", folder / "pairs.csv")
    command = ("--pairs", folder / "pairs.csv", "--out", "out.csv", "--workers", 2, "--memory-limit", "500MiB")
    code, out, err = run(*command, "--loss", "ssd")
    assert (code, out.splitlines(True)[0]) == (1, "out.csv: 5 of 6 pairs evaluated; 1 failed.\n")
    where = f"agnoreg: warning: {folder / 'pairs.csv'}, line 4, pair 3: "
    assert err.splitlines()[0].startswith(f"{where}The worker process died")
    assert len(err.splitlines()) == 2
    assert list(pd.read_csv("out.csv")["SumSquaredDifference"].isna()) == [False, False, True, False, False, False]


#: What a worker does before it computes: it dies by one pair, and dawdles with the others until it has.
DEADLY = """
import os, time
import agnoreg.evaluate.batch.work
from agnoreg.evaluate.evaluation import evaluate_pair

def deadly(fixed, moved, **settings):
    time.sleep(0.5)
    if "fixed1" in fixed:
        os._exit(1)
    return evaluate_pair(fixed, moved, **settings)

agnoreg.evaluate.batch.work.evaluate_pair = deadly
"""


def test_pairs_that_die_with_another_are_not_to_blame(folder):
    with start(1, COUNT, {"allowed_failures": 0}, preload=[DEADLY]) as one:
        summary = evaluate_pairs(folder / "images.csv", "out.parquet", scheduler=one.scheduler_address)
    assert set(summary.failures) == {"2"}
    assert summary.failures["2"].startswith("The worker process died twice")
    assert summary.finished == COUNT - 1
    assert list(pd.read_parquet("out.parquet")["seconds"].isna()) == [False, True, False, False, False]


@pytest.fixture
def threads(monkeypatch):
    """Start a scheduler and two workers in this process."""
    # A worker keeps it to one thread, and this process is the worker.
    monkeypatch.setattr(agnoreg.get_backend("numpy"), "threads", None)
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 1)
    with start(2, processes=False, protocol="tcp://") as it:
        yield it


def test_no_more_pairs_are_sent_than_there_are_threads(folder, threads):
    from distributed import Client

    sent, seen = [], []
    settings = {"losses": ["ssd"], "backend": "numpy"}

    def pairs():
        for pair in read_pairs(folder / "images.csv")[1]:
            sent.append(pair.id)
            yield pair

    with Client(threads, set_as_default=False) as client:
        for pair, _, result in clusters.computed(client, pairs(), settings, SimpleQueue()):
            assert len(sent) - len(seen) <= 2
            seen.append(pair.id)
            assert result["error"] == ""
    assert sorted(seen) == sent == ["1", "2", "3", "4", "5"]


def test_a_scheduler_without_workers_is_waited_for(folder, threads):
    threads.scale(0)
    deadline = time.monotonic() + 20
    while threads.scheduler_info["workers"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    told = []

    def tell(sentence):
        told.append(sentence)
        threading.Timer(0.5, threads.scale, [1]).start()

    summary = evaluate_pairs(folder / "images.csv", "out.csv", scheduler=threads.scheduler_address, tell=tell)
    assert told == ["the scheduler has no worker yet; waiting for the first."]
    assert summary.finished == COUNT


def test_a_scheduler_that_goes_away_leaves_the_finished_rows(folder, threads, run, address, monkeypatch):
    write = RowStore.write

    def write_and_stop(self, *row):
        part = write(self, *row)
        if len(parts()) == 2:
            threads.close()
        return part

    command = ("--pairs", folder / "images.csv", "--out", "out.parquet", "--scheduler")
    with monkeypatch.context() as patch:
        patch.setattr(RowStore, "write", write_and_stop)
        code, _, err = run(*command, threads.scheduler_address)
    assert code == 1
    assert re.fullmatch(
        r"agnoreg: error: The connection to the scheduler was lost[^\n]*same command again[^\n]*\n", err
    )
    there = len(parts())
    assert 2 <= there < COUNT
    assert len(pd.read_parquet("out.parquet")) == there
    assert f"{there} of them before" in run(*command, address)[1]


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("tcp://127.0.0.1:1", "within 1 s"),
        ("nonsense", "missing port"),
        ("nowhere://x:1", "unknown address scheme"),
    ],
)
def test_a_scheduler_that_cannot_be_reached(folder, refused, monkeypatch, where, why):
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 1)
    message = refused("--pairs", folder / "images.csv", "--out", "out.csv", "--scheduler", where)
    assert f"The scheduler {where} cannot be reached" in message
    assert why in message


def test_what_no_worker_can_do_is_said_before_any_pair_fails(folder, refused, address):
    command = ("--pairs", folder / "images.csv", "--out", "out.csv", "--scheduler", address)
    assert "Unknown backend 'nonesuch'" in refused(*command, "--backend", "nonesuch")
    assert "cannot use the device 'nonesuch'" in refused(*command, "--device", "nonesuch")


def test_workers_of_another_version_are_refused(folder, refused, address, monkeypatch):
    monkeypatch.setattr(clusters, "version", lambda _: "99.0")
    message = refused("--pairs", folder / "images.csv", "--out", "out.csv", "--scheduler", address)
    assert f"The workers have agnoreg {agnoreg.__version__}, and this is 99.0" in message


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("\ufeff", "is empty"),
        ("sep=;\n", "is empty"),
        ("fixed,moved\n", "holds no pair"),
        ("fixed\na.nii\n", "lacks the column moved: its first line, separated by commas, names 'fixed'."),
        (
            "fixed,warped\na,b\n",
            "lacks the column moved: its first line, separated by commas, names 'fixed', 'warped'.",
        ),
        ("a,b\n", "lacks the column fixed and the column moved"),
        ("fixed|moved\na|b\n", "names 'fixed|moved'. Columns are separated by commas, semicolons or tabs."),
        ("Fixed,Moved\na,b\n", "Is 'Fixed' meant for fixed? Is 'Moved' meant for moved?"),
        ("fixed;moved\na;b;c\n", "line 2: 3 cells, where the first line names 2 columns, separated by semicolons"),
        ("sep=,\nfixed;moved\na;b\n", "separated by commas, names 'fixed;moved'"),
        ('sep="\nfixed;moved\na;b\n', "lacks the column fixed"),
        ("fixed,moved,fixed_label\na,b,c\n", "lacks the column moved_label"),
        ("fixed,moved,moved_label,fixed_lable\na,b,c,d\n", "Is 'fixed_lable' meant for fixed_label?"),
        ("fixed,moved,fixed\na,b,c\n", "names the column 'fixed' twice"),
        ("fixed,moved,age,sex,age\na,b,c,d,e\n", "names the column 'age' twice"),
        ("id,fixed,moved\nx,a,b\n\nx,c,d\n", "lines 2 and 4: the id 'x' twice"),
        ("fixed,moved\na,b\na,b\n", "lines 2 and 3: one pair twice"),
        ("fixed,moved,age\na,b,1\na,b,2\n", "lines 2 and 3: one pair twice"),
        ("id,fixed,moved\n,a,b\n", "line 2: the id is empty"),
        ("fixed,moved\na,b\na\n", "line 3: 1 cell, where the first line names 2 columns, separated by commas"),
        ("fixed,moved\na;b\n", "line 2: 1 cell, where the first line names 2 columns, separated by commas"),
        ("fixed,moved\na,b,c\n", "line 2: 3 cells"),
        ('fixed,moved\na,"b\n', "cannot be read as CSV"),
        ("fixed,moved\na,b\nc,\0\n", "line 3, cannot be read as CSV: it has a NUL"),
        ("fixed,mov\0ed\na,b\n", "line 1, cannot be read as CSV: it has a NUL"),
        (b"fixed,moved\na,\xff\n", "line 2, cannot be read as CSV: byte 0xff is not UTF-8"),
        ("fixed,moved\nGr\xf6\xdfe,b\n".encode("latin-1"), "line 2, cannot be read as CSV: byte 0xf6 is not UTF-8"),
        ("fixed,moved\na,b\n".encode("utf-16"), "it is UTF-16. Save it as CSV in UTF-8."),
        ("fixed,moved\na,b\n".encode("utf-16-be"), "it has a NUL character, as text in UTF-16"),
        ("fixed,moved\na,b\n".encode("utf-32"), "it is UTF-16"),
        (b"PK\x03\x04\x14\0", "it is a spreadsheet or a zip file"),
        (b"fixed,moved\n" + b"a" * 200_000 + b",b\n", "field larger than field limit"),
        (b"x" * 200_000, "field larger than field limit"),
        (None, "cannot be read as CSV"),
    ],
)
def test_a_csv_that_does_not_fit(folder, refused, text, message):
    if text is not None:
        (folder / "wrong.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    found = refused("--pairs", folder / "wrong.csv", "--out", "out.parquet")
    assert "wrong.csv" in found
    assert message in found


@pytest.mark.parametrize("name", [".", "nowhere/pairs.csv", "x" * 300])
def test_what_is_no_file_is_no_csv(folder, refused, name):
    assert "cannot be read as CSV" in refused("--pairs", folder / name, "--out", "out.parquet")


@pytest.mark.parametrize(("pairs", "out"), [("a\0.csv", "out.csv"), ("images.csv", "a\0.csv")])
def test_names_with_a_nul(folder, pairs, out):
    with pytest.raises(InputError, match="cannot be"):
        evaluate_pairs(folder / pairs, out)


def test_a_table_whose_files_names_would_be_too_long(folder, refused):
    assert "name is longer than 249 bytes" in refused("--pairs", folder / "images.csv", "--out", "x" * 246 + ".csv")


@pytest.mark.parametrize(("ending", "mark"), [("\n", ""), ("\r\n", "\ufeff"), ("\r", "")])
@pytest.mark.parametrize(
    "lines",
    [
        ["fixed,moved,age", '"a, b.nii","c;d.nii","x\ty"'],
        ["fixed;moved;age", '"a, b.nii";"c;d.nii";"x\ty"'],
        ["fixed\tmoved\tage", 'a, b.nii\tc;d.nii\t"x\ty"'],
        ["sep=|", "fixed|moved|age", "a, b.nii|c;d.nii|x\ty"],
        ["age;moved;fixed", '"x\ty";"c;d.nii";"a, b.nii"'],
    ],
)
def test_separators_are_recognised(tmp_path, lines, ending, mark):
    path = tmp_path / "pairs.csv"
    path.write_bytes((mark + ending.join([*lines, ""])).encode())
    columns, (pair,) = read_pairs(path)
    assert columns == ("fixed", "moved")
    assert pair.cells == {"fixed": "a, b.nii", "moved": "c;d.nii"}
    assert pair.further == {"age": "x\ty"}
    assert pair.line == len(lines)


def test_a_tilde_is_the_users_home(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_csv(("fixed", "moved"), ("~/data/fixed0.nii", "~nobody/x.nii"), ("~x.nii", "a~.nii"))
    os.replace("pairs.csv", folder / "tilde.csv")
    _, (first, second) = read_pairs(folder / "tilde.csv")
    assert first.cells["fixed"] == "~/data/fixed0.nii"
    assert first.paths["fixed"] == str(tmp_path / "data/fixed0.nii")
    assert second.paths == {"fixed": str(folder / "~x.nii"), "moved": str(folder / "a~.nii")}
    assert evaluate_pairs("~/data/images.csv", "~/work/out.csv", losses=["ssd"]).finished == COUNT
    assert sorted(Path().iterdir()) == [Path("out.csv")]


def test_a_csv_may_have_a_byte_order_mark_blank_lines_quotes_and_absolute_paths(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes('\ufeff moved ,fixed, ddf\r\n\r\n"a, b.nii",/c.nii,\r\n'.encode())
    columns, (pair,) = read_pairs(path)
    assert columns == ("fixed", "moved", "ddf")
    assert pair.id == "1"
    assert pair.paths == {"moved": str(tmp_path / "a, b.nii"), "fixed": str(Path("/c.nii").absolute())}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--pairs needs --out"),
        (("--out", "out.xlsx"), "must end in .parquet or .csv"),
        (("--out", "nowhere/out.csv"), "folder that does not exist, nowhere"),
        (("--out", "a.csv", "--json", "b.json"), "--json is of one pair"),
        (("--out", "a.csv", "fixed.nii"), "FIXED is of one pair"),
        (("--out", "a.csv", "--workers", "0"), "--workers must be 1 or more"),
        (("--out", "a.csv", "--memory-limit", "much"), "--memory-limit must be a size such as 4GiB"),
        (("--out", "a.csv", "--scheduler", "tcp://x:1", "--workers", "2"), "--scheduler has workers of its own"),
        (("--out", "a.csv", "--loss", "lnc"), "Did you mean 'lncc'?"),
        (("--out", "a.csv", "--loss", "dice"), "for what was asked: DiceScore needs the column fixed_label and the"),
        (("--out", "a.csv", "--loss", "ssd", "--loss", "ssd"), "have the column SumSquaredDifference: leave one out"),
        (("--out", "a.csv", "--ddf-units", "cm"), "'voxel' or 'mm'"),
        (("--out", "a.csv", "--affine-tol", "-1"), "0 or more"),
    ],
)
def test_options_that_do_not_fit(folder, refused, arguments, message):
    assert message in refused("--pairs", folder / "images.csv", *arguments)


@pytest.mark.parametrize("option", ["--out", "--scheduler", "--workers", "--memory-limit", "--keep-parts"])
def test_options_of_many_pairs_need_them(folder, refused, option):
    message = refused(folder / "fixed0.nii", folder / "moved0.nii", option, *(["1"] * (option != "--keep-parts")))
    assert f"{option} is of many pairs: it needs --pairs" in message


def test_an_output_over_the_csv(folder, refused):
    assert "is an input" in refused("--pairs", folder / "images.csv", "--out", folder / "images.csv")


def test_a_file_where_finished_rows_belong(folder, run):
    Path("out.csv.parts").write_text("")
    code, _, err = run("--pairs", folder / "images.csv", "--out", "out.csv")
    assert code == 2
    assert "out.csv.parts, which is no folder that can be written to" in err


@pytest.mark.parametrize("module", ["distributed", "pandas", "pyarrow"])
def test_without_the_pairs_extra_it_says_what_to_install(folder, refused, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    command = ("--pairs", folder / "images.csv", "--out", "out.csv", "--workers", 2)
    assert "pip install agnoreg[pairs]" in refused(*command)
