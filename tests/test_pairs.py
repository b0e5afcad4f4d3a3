"""Many pairs: a row each, whatever happens to a pair, to a worker, to the scheduler or to the command itself."""

import csv
import errno
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

import agnoreg.files
from agnoreg import pairs as many
from agnoreg.cli import main
from agnoreg.evaluation import evaluate_pair
from agnoreg.pairs import evaluate_pairs, read_pairs

pytestmark = pytest.mark.cluster

AFFINE = np.diag([1.5, 2.0, 3.0, 1.0])
SHAPE = (11, 12, 13)
COUNT = 5
IMAGES = ["SumSquaredDifference", "GlobalNormalizedCrossCorrelation", "LocalNormalizedCrossCorrelation"]
IMAGES += ["GlobalMutualInformation"]
COMMAND = (sys.executable, "-W", "error", "-c", "from agnoreg.cli import main; main()", "evaluate")


def start(workers, threads=1, scheduler=None, **options):
    """Start a cluster on this machine, of which the command knows the scheduler's address alone."""
    scheduler = {**(scheduler or {}), **many.NO_DASHBOARD}
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
def test_a_row_equals_what_the_command_says_of_its_pair(folder, run, address, losses):
    chosen = [word for loss in losses for word in ("--loss", loss)]
    code, out, err = run("--pairs", folder / "pairs.csv", "--out", "out.parquet", "--scheduler", address, *chosen)
    assert (code, err) == (0, "")
    assert out == "out.parquet: 5 of 5 pairs evaluated; 0 failed.\n"
    table = pd.read_parquet("out.parquet")
    assert list(table["id"]) == [f"case {i}" for i in range(COUNT)]
    inputs = ["fixed", "moved", "fixed_label", "moved_label", "ddf"]
    described = {"id", *inputs, "warnings", "error", "seconds"}
    for i, row in enumerate(table.to_dict("records")):
        named = {name: row[name] for name in inputs}
        assert named == {name: f"{name}{i}.nii" for name in inputs}
        expected = columns_of(evaluate_pair(**{name: folder / file for name, file in named.items()}, losses=losses))
        found = {name: row[name] for name in row.keys() - described}
        assert {name: value for name, value in found.items() if not math.isnan(value)} == expected
        assert (row["warnings"], row["error"]) == ("", "")
        assert row["seconds"] > 0


def test_the_table_is_the_same_for_any_number_of_workers(folder, run, address):
    for out, *options in (("a.parquet", "--workers", 1), ("b.csv", "--scheduler", address)):
        assert run("--pairs", folder / "pairs.csv", "--out", out, *options)[0] == 0
    first, second = pd.read_parquet("a.parquet"), pd.read_csv("b.csv", keep_default_na=False, na_values={"": []})
    numbers = list(first.columns[first.dtypes == "float64"].drop("seconds"))
    assert list(first.columns) == list(second.columns)
    assert len(numbers) == 4 + 3 * 4 + 2
    for name in first.columns.drop("seconds"):
        if name in numbers:
            np.testing.assert_array_equal(first[name], pd.to_numeric(second[name]))
        else:
            assert list(first[name]) == list(second[name])


def test_columns_are_in_the_order_of_metrics_and_labels(folder, address):
    evaluate_pairs(folder / "pairs.csv", "out.parquet", losses=["dice", "ssd"], scheduler=address)
    names = ["SumSquaredDifference"]
    names += [f"{metric}[{label}]" for metric in ("DiceScore", names[0]) for label in (1, 2, 3, "mean")]
    assert list(pd.read_parquet("out.parquet").columns[6:-3]) == names


def test_a_failed_pair_is_a_row_and_stops_no_other(folder, run, address):
    (folder / "moved1.nii").unlink()
    (folder / "fixed3.nii").write_text("no image")
    (folder / "more.csv").write_text((folder / "images.csv").read_text() + "fixed0.nii,\n")
    code, out, err = run("--pairs", folder / "more.csv", "--out", "out.parquet", "--scheduler", address)
    assert (code, out) == (1, "out.parquet: 3 of 6 pairs evaluated; 3 failed.\n")
    table = pd.read_parquet("out.parquet")
    assert list(table["id"]) == ["1", "2", "3", "4", "5", "6"]
    error = list(table["error"])
    assert error[1] == f"moved image {folder / 'moved1.nii'} does not exist."
    assert f"fixed image {folder / 'fixed3.nii'} cannot be read as NIfTI" in error[3]
    assert error[5] == "The cell of the column moved is empty."
    assert error[0] == error[2] == error[4] == ""
    assert list(table[IMAGES].isna().all(axis=1)) == [False, True, False, True, False, True]
    lines = err.splitlines()
    assert lines[:3] == [f"agnoreg: warning: pair {i + 1}: {error[i]}" for i in (1, 3, 5)]
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
    assert set(bad["SumSquaredDifference":"BendingEnergy"]) == {np.dtype("float64")}


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


# --- rerunning --------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(folder, address):
    """Evaluate the pairs once; return how to do so again, as what the second run wrote anew."""

    def again(**settings):
        before = parts()
        summary = evaluate_pairs(folder / "pairs.csv", "out.parquet", scheduler=address, **settings)
        return summary, written_since(before)

    assert again()[1] == {f"case {i}" for i in range(COUNT)}
    return again


def test_a_rerun_skips_every_finished_row_and_starts_no_cluster(folder, finished, monkeypatch):
    table = Path("out.parquet").read_bytes()
    Path("out.parquet").unlink()

    def start_none(*_):
        raise AssertionError("There is nothing to compute.")

    monkeypatch.setattr(many, "_client", start_none)
    summary, written = finished()
    assert written == set()
    assert (summary.finished, summary.before) == (COUNT, COUNT)
    assert Path("out.parquet").read_bytes() == table


def test_a_rerun_needs_no_inputs_of_finished_rows(folder, finished):
    for path in folder.glob("*3.nii"):
        path.unlink()
    summary, written = finished()
    assert (written, summary.failures) == (set(), {})


def test_a_changed_input_is_computed_again(folder, finished):
    before = pd.read_parquet("out.parquet")
    save(folder / "moved2.nii", np.ones(SHAPE, np.float32))
    assert finished()[1] == {"case 2"}
    after = pd.read_parquet("out.parquet")
    changed = before["SumSquaredDifference"] != after["SumSquaredDifference"]
    assert list(changed) == [False, False, True, False, False]


def test_another_choice_is_computed_again_and_keeps_what_there_is(finished):
    before = set(Path("out.parquet.parts").iterdir())
    summary, _ = finished(losses=["ssd"])
    assert summary.before == 0
    assert before < set(Path("out.parquet.parts").iterdir())
    assert list(pd.read_parquet("out.parquet").columns[6:-3]) == [
        "SumSquaredDifference",
        *(f"SumSquaredDifference[{label}]" for label in (1, 2, 3, "mean")),
    ]


def test_rows_may_come_go_and_change_places(folder, finished):
    header, *rows = (folder / "pairs.csv").read_text().splitlines()
    new = rows[0].replace("case 0", "new")
    (folder / "pairs.csv").write_text("\n".join([header, rows[4], new, rows[1]]) + "\n")
    summary, written = finished()
    assert (summary.total, written) == (3, {"new"})
    assert list(pd.read_parquet("out.parquet")["id"]) == ["case 4", "new", "case 1"]


def test_a_failed_row_is_tried_again(folder, address, run):
    moved = (folder / "moved1.nii").read_bytes()
    (folder / "moved1.nii").unlink()
    command = ("--pairs", folder / "images.csv", "--out", "out.parquet", "--scheduler", address)
    assert run(*command)[0] == 1
    before = parts()
    (folder / "moved1.nii").write_bytes(moved)
    code, out, err = run(*command)
    assert (code, err) == (0, "")
    assert out == "out.parquet: 5 of 5 pairs evaluated, 4 of them before; 0 failed.\n"
    assert written_since(before) == {"2"}
    assert list(pd.read_parquet("out.parquet")["error"]) == [""] * COUNT


def test_a_damaged_file_of_a_row_is_computed_again(finished):
    paths = {json.loads(path.read_text())["id"]: path for path in parts()}
    table = pd.read_parquet("out.parquet").drop(columns="seconds")
    Path("out.parquet").unlink()
    paths["case 0"].write_text("")
    paths["case 1"].write_text(paths["case 1"].read_text()[:-3])
    paths["case 2"].write_text("{}")
    summary, written = finished()
    assert written == {"case 0", "case 1", "case 2"}
    assert (summary.finished, summary.before) == (COUNT, 2)
    pd.testing.assert_frame_equal(pd.read_parquet("out.parquet").drop(columns="seconds"), table)


def test_a_full_disk_ends_the_run_and_keeps_what_is_finished(folder, address, run, monkeypatch):
    written = []

    def full(contents):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        agnoreg.files.write_whole(contents)
        written.extend(contents)

    command = ("--pairs", folder / "images.csv", "--out", "out.parquet", "--scheduler", address)
    with monkeypatch.context() as patch:
        patch.setattr(many, "write_whole", full)
        code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert "No space left on device" in err
    assert "out.parquet.parts are kept" in err
    assert sorted(Path("out.parquet.parts").iterdir()) == sorted(Path(path) for path in written)
    assert run(*command)[1] == "out.parquet: 5 of 5 pairs evaluated, 2 of them before; 0 failed.\n"


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
    code, out, err = run(*running.arguments, "--scheduler", address)
    assert (code, err) == (0, "")
    assert out == f"out.parquet: 100 of 100 pairs evaluated, {len(before)} of them before; 0 failed.\n"
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
    assert out == f"out.parquet: {there} of 100 pairs evaluated; 0 failed.\n"
    assert err == (
        "agnoreg: error: interrupted: out.parquet holds the rows that there are; run the same command again for the "
        "others.\n"
    )
    table = pd.read_parquet("out.parquet")
    assert set(table["id"]) == {json.loads(path.read_text())["id"] for path in parts()}
    assert list(table["id"].astype(int)) == sorted(table["id"].astype(int))
    running.wait_for_its_end()


class Pressing:
    """Something that is removed while Ctrl-C is pressed: Python ignores what is raised then, but for a warning."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_counts_wherever_it_is_pressed(folder, address):
    def progress(finished, failed, total):
        if finished == 1:
            Pressing()

    with ctrl_c_as_in_a_terminal():
        summary = evaluate_pairs(folder / "images.csv", "out.parquet", scheduler=address, progress=progress)
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
    assert (code, out) == (1, "out.csv: 5 of 6 pairs evaluated; 1 failed.\n")
    assert err.splitlines()[0].startswith("agnoreg: warning: pair 3: The worker process died")
    assert len(err.splitlines()) == 2
    assert list(pd.read_csv("out.csv")["SumSquaredDifference"].isna()) == [False, False, True, False, False, False]


#: What a worker does before it computes: it dies by one pair, and dawdles with the others until it has.
DEADLY = """
import os, time
import agnoreg.pairs
from agnoreg.evaluation import evaluate_pair

def deadly(fixed, moved, **settings):
    time.sleep(0.5)
    if "fixed1" in fixed:
        os._exit(1)
    return evaluate_pair(fixed, moved, **settings)

agnoreg.pairs.evaluate_pair = deadly
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
    monkeypatch.setattr(many, "CONNECT_SECONDS", 1)
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
        for pair, _, result in many._computed(client, pairs(), settings, SimpleQueue()):
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
    write = many._Parts.write

    def write_and_stop(self, *row):
        write(self, *row)
        if len(parts()) == 2:
            threads.close()

    command = ("--pairs", folder / "images.csv", "--out", "out.parquet", "--scheduler")
    with monkeypatch.context() as patch:
        patch.setattr(many._Parts, "write", write_and_stop)
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
    monkeypatch.setattr(many, "CONNECT_SECONDS", 1)
    message = refused("--pairs", folder / "images.csv", "--out", "out.csv", "--scheduler", where)
    assert f"The scheduler {where} cannot be reached" in message
    assert why in message


def test_what_no_worker_can_do_is_said_before_any_pair_fails(folder, refused, address):
    command = ("--pairs", folder / "images.csv", "--out", "out.csv", "--scheduler", address)
    assert "Unknown backend 'nonesuch'" in refused(*command, "--backend", "nonesuch")
    assert "cannot use the device 'nonesuch'" in refused(*command, "--device", "nonesuch")


def test_workers_of_another_version_are_refused(folder, refused, address, monkeypatch):
    monkeypatch.setattr(many, "version", lambda _: "99.0")
    message = refused("--pairs", folder / "images.csv", "--out", "out.csv", "--scheduler", address)
    assert f"The workers have agnoreg {agnoreg.__version__}, and this is 99.0" in message


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("fixed,moved\n", "holds no pair"),
        ("fixed\na.nii\n", "lacks the column, moved. Its columns are fixed and moved"),
        ("fixed,warped\na,b\n", "has an unknown column, 'warped'. Its columns are fixed and moved"),
        ("fixed;moved\na;b\n", "unknown column, 'fixed;moved'"),
        ("fixed,moved,fixed_label\na,b,c\n", "lacks the column, moved_label"),
        ("fixed,moved,fixed\na,b,c\n", "names twice, fixed"),
        ("id,fixed,moved\nx,a,b\n\nx,c,d\n", "lines 2 and 4: the id 'x' twice"),
        ("fixed,moved\na,b\na,b\n", "lines 2 and 3: one pair twice"),
        ("id,fixed,moved\n,a,b\n", "line 2: the id is empty"),
        ("fixed,moved\na,b\na\n", "line 3: 1 cells, where the first line names 2 columns"),
        ("fixed,moved\na,b,c\n", "line 2: 3 cells"),
        ('fixed,moved\na,"b\n', "cannot be read as CSV"),
        (b"fixed,moved\na,\xff\n", "cannot be read as CSV"),
        (None, "cannot be read as CSV"),
    ],
)
def test_a_csv_that_does_not_fit(folder, refused, text, message):
    if text is not None:
        (folder / "wrong.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    found = refused("--pairs", folder / "wrong.csv", "--out", "out.parquet")
    assert "wrong.csv" in found
    assert message in found


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
        (("--out", "a.csv", "--loss", "dice"), "lacks columns for what was asked: DiceScore needs --fixed-label"),
        (("--out", "a.csv", "--loss", "ssd", "--loss", "ssd"), "have the column SumSquaredDifference: leave one out"),
        (("--out", "a.csv", "--ddf-units", "cm"), "'voxel' or 'mm'"),
        (("--out", "a.csv", "--affine-tol", "-1"), "0 or more"),
    ],
)
def test_options_that_do_not_fit(folder, refused, arguments, message):
    assert message in refused("--pairs", folder / "images.csv", *arguments)


@pytest.mark.parametrize("option", ["--out", "--scheduler", "--workers", "--memory-limit"])
def test_options_of_many_pairs_need_them(folder, refused, option):
    message = refused(folder / "fixed0.nii", folder / "moved0.nii", option, "1")
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
    assert "pip install agnoreg[pairs]" in refused("--pairs", folder / "images.csv", "--out", "out.csv")
