"""The benchmark runs, and its page says what was measured; no figure is asserted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import agnoreg
from benchmarks import __main__ as command
from benchmarks import charts, plan, report
from benchmarks.results import Results
from benchmarks.subjects import compat, deepreg_formula, jax_formula, ours, plain
from benchmarks.tables import Table
from benchmarks.whole import WHOLE

ROOT = Path(agnoreg.__file__).parents[1]
HERE = {"cpu": "a processor", "cores": 2, "memory_gib": 8, "gpu": None, "system": "Linux"}


def benchmark(out, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--out", str(out), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (out / "benchmarks.md").read_text()


def job(subject, backend=None, loss="lncc", **changes):
    made = {"subject": subject, "backend": backend, "loss": {"name": loss}, "size": [160, 192, 224]}
    return made | {"what": ["value", "gradient"], "cores": 2, "device": None} | changes


def run(seconds=1.0, memory=8e6, check=-0.5, **changes):
    kinds = {kind: seconds for kind in ("value", "gradient")} | {
        f"{kind}_memory": memory for kind in ("value", "gradient")
    }
    return kinds | {"result": -0.25, "check": check, "differs": ""} | changes


def page(tmp_path, *entries, machine=HERE):
    results = Results(tmp_path / "benchmarks" / "results.json")
    for section, which, figures in entries:
        results.add(machine, section, which, figures, 1)
    wrong = report.write(results.machines, tmp_path)
    return (tmp_path / "benchmarks.md").read_text(), wrong


@pytest.mark.slow
def test_a_small_benchmark_writes_its_page_and_grows_it(tmp_path):
    common = ["--backend", "numpy", "--size", "8", "10", "12", "--runs", "1"]
    text = benchmark(tmp_path, "--loss", "lncc", "--peer", "simpleitk", *common)
    assert "| agnoreg, NumPy | " in text
    assert "SimpleITK" in text
    assert "### LNCC, windows of 9³: 8×10×12" in text
    assert "Not yet measured on a GPU" in text
    assert "not measured:" not in text
    assert (tmp_path / "benchmarks" / "reference-1.svg").read_text().count("agnoreg, NumPy")
    text = benchmark(tmp_path, "--loss", "ssd", "--peer", "none", *common)
    assert "### Pointwise losses: 8×10×12" in text
    assert "### LNCC, windows of 9³: 8×10×12" in text
    assert benchmark(tmp_path, "--report") == text


@pytest.mark.parametrize(
    ("name", "formula", "backend"),
    [
        *((name, deepreg_formula, "tensorflow") for name in ("lncc", "gmi", "bending", "gradient")),
        ("gmi", deepreg_formula, "tensorflow graph"),
        ("gmi", ours, "tensorflow graph"),
        ("lncc", jax_formula, "jax"),
    ],
)
def test_the_rendered_formulas_and_our_subject_are_the_losses(name, formula, backend):
    rng = np.random.default_rng(0)
    shapes = [(1, 11, 12, 13, 3)] if name in ("bending", "gradient") else [(1, 11, 12, 13)] * 2
    arrays = [rng.random(shape, dtype=np.float32) for shape in shapes]
    work = formula.build({"name": name}, arrays, backend, None)
    value, gradient = work.gradient()
    expected, slope = agnoreg.value_and_grad(agnoreg.build_loss(name), *arrays)
    np.testing.assert_allclose(float(value), float(expected), rtol=1e-4)
    np.testing.assert_allclose(gradient, slope, atol=1e-3 * np.max(np.abs(slope)))


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("name", plan.POINTWISE)
def test_the_bare_arithmetic_is_the_loss(name, backend):
    rng = np.random.default_rng(0)
    arrays = [rng.random((1, 8, 9, 10), dtype=np.float32) for _ in range(2)]
    value, gradient = plain.build({"name": name}, arrays, backend, None).gradient()
    expected, slope = agnoreg.value_and_grad(agnoreg.build_loss(name), *arrays)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(gradient, slope, atol=1e-4 * np.max(np.abs(slope)))


def test_values_are_the_same_to_a_thousandth_or_said_not_to_be(tmp_path):
    ours = ("reference", job("agnoreg", "numpy"), run())
    text, wrong = page(
        tmp_path,
        ours,
        ("reference", job("monai"), run(check=-0.5004)),
        ("reference", job("voxelmorph"), run(check=-0.51)),
        ("reference", job("fireants"), run(check=-0.7, differs="other constants")),
    )
    assert "| yes (0.0008) |" in text
    assert "**NO: -0.51, ours -0.5**" in text
    assert "| no: other constants |" in text
    assert len(wrong) == 1
    assert "VoxelMorph" in wrong[0]


def test_an_absent_library_and_a_failure_are_said(tmp_path):
    absent = {"absent": "No module named 'monai'"}
    text, wrong = page(
        tmp_path,
        ("reference", job("agnoreg", "numpy"), run()),
        ("reference", job("monai"), absent),
        ("reference", job("ants"), {"failed": "RuntimeError: it broke"}),
    )
    assert "| absent: No module named 'monai' |" in text
    assert "| not measured: RuntimeError: it broke |" in text
    assert not wrong


@pytest.mark.slow
def test_the_worker_says_that_a_library_is_absent(tmp_path):
    (tmp_path / "monai.py").write_text("raise ImportError('none here')")
    code = "import sys; sys.path.insert(0, sys.argv.pop()); from benchmarks import worker; worker.main()"
    small = job("monai", size=[8, 8, 8], cores=1, folder=str(tmp_path))
    arguments = [sys.executable, "-c", code, json.dumps(small), str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=False)
    assert json.loads(done.stdout.splitlines()[-1]) == {"absent": "none here"}


@pytest.mark.slow
def test_an_unknown_backend_does_not_stop_the_rest(tmp_path):
    common = ["--loss", "bending", "--peer", "none", "--size", "8", "8", "8", "--runs", "1"]
    text = benchmark(tmp_path, "--backend", "nonsense", "numpy", *common)
    assert "not measured: " in text
    assert "| agnoreg, NumPy | " in text


def test_aims_are_met_or_not_met(tmp_path):
    text, _ = page(
        tmp_path,
        ("reference", job("agnoreg", "torch"), run(0.5, 1e6)),
        ("reference", job("agnoreg", "numpy"), run(2.0)),
        ("reference", job("monai"), run(10.0, 16e6)),
    )
    assert "| LNCC, PyTorch: speed beside MONAI | at least 18.0 × (stretch 90.0 ×) | 20.0 × | met |" in text
    assert "| LNCC, PyTorch: memory, MONAI's divided by ours | at least 8.00 × | 16.0 × | met |" in text
    assert "| LNCC, NumPy: speed beside MONAI | at least 8.00 × (stretch 15.0 ×) | 5.00 × | **not met** |" in text
    assert "| not measured |  |" in text


def test_a_gpu_has_a_part_of_its_own(tmp_path):
    card = HERE | {"gpu": "a card"}
    text, _ = page(
        tmp_path,
        ("reference", job("agnoreg", "torch", device="cuda"), run(4e-4, gradient_alone=5e-4)),
        ("reference", job("monai", device="cuda"), run(4e-2)),
        machine=card,
    )
    assert "## On a card" in text
    assert "Not yet measured on a GPU" not in text
    assert "0.400 ms; 5.68 times the floor of 0.070 ms (44 B a voxel at 4.3 TB/s); MONAI" in text
    assert "takes 100 times as long | met |" in text


def test_finished_runs_are_replaced_only_by_as_many(tmp_path):
    path = tmp_path / "results.json"
    first = Results(path)
    for seconds in (1.0, 2.0):
        first.add(HERE, "reference", job("monai"), run(seconds), 2)
    second = Results(path)
    second.add(HERE, "reference", job("monai"), run(3.0), 5)
    kept = [r["gradient"] for r in Results(path).machines[0]["records"][0]["runs"]]
    assert kept == [1.0, 2.0]
    second.add(HERE, "reference", job("monai"), run(4.0), 5)
    kept = [r["gradient"] for r in Results(path).machines[0]["records"][0]["runs"]]
    assert kept == [3.0, 4.0]


def test_an_interrupt_keeps_what_was_measured(tmp_path, monkeypatch, capsys):
    answers = iter([run()])

    def measure(job):
        answer = next(answers, None)
        if answer is None:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(command, "measure", measure)
    arguments = ["--loss", "bending", "--backend", "numpy", "torch", "--peer", "none", "--size", "8", "8", "8"]
    assert command.main([*arguments, "--out", str(tmp_path)]) == 130
    assert "| agnoreg, NumPy | 1.00 | **1.00** |" in (tmp_path / "benchmarks.md").read_text()
    assert "stopped" in capsys.readouterr().out


def test_the_full_plan_covers_every_loss_and_every_peer():
    options = command.options_of([])
    jobs = [
        (section, job)
        for section, group in plan.plan(
            sections=options.section,
            losses=options.loss,
            backends=options.backend,
            peers=options.peer,
            device=None,
            size=[160, 192, 224],
            cores=4,
        )
        for job in group
    ]
    assert {section for section, _ in jobs} == set(plan.SECTIONS)
    assert {j["loss"]["name"] for s, j in jobs if s in ("reference", "pointwise")} >= set(plan.LOSSES)
    assert {j["subject"] for _, j in jobs} == {"agnoreg", "compat", "plain", *plan.CPU_PEERS}
    assert {j["cores"] for s, j in jobs if s == "cores"} == {1, 2, 4}
    assert len({json.dumps([s, j]) for s, j in jobs}) == len(jobs)
    drawn = {(j["subject"], j["backend"]) for s, j in jobs if s in ("reference", "voxels", "cores")}
    assert drawn <= set(charts.STYLES)


def test_tables_of_whole_processes_stand_on_the_page_and_are_replaced(tmp_path):
    results = Results(tmp_path / "benchmarks" / "results.json")
    results.add(HERE, "reference", job("agnoreg", "numpy"), run(), 1)
    for cell in ("1.5", "2.5"):
        results.put(HERE, "busy", Table("Busy cores", "The aim is 2.", ["", "ratio"], [["lncc", cell]]))
    kept = Results(tmp_path / "benchmarks" / "results.json")
    report.write(kept.machines, tmp_path)
    text = (tmp_path / "benchmarks.md").read_text()
    assert "### Busy cores\n\nThe aim is 2. Measured on " in text
    assert "| lncc | 2.5 |" in text
    assert "| lncc | 1.5 |" not in text


def test_what_is_not_of_one_loss_runs_where_nothing_was_chosen():
    assert command.options_of([]).whole == list(WHOLE)
    assert command.options_of(["--loss", "lncc"]).whole == []
    assert command.options_of(["--section", "busy"]).whole == ["busy"]
    assert command.options_of(["--section", "busy"]).section == []


def test_what_takes_monais_place_is_called_as_monai_is():
    rng = np.random.default_rng(0)
    arrays = [rng.random((1, 11, 12, 13), dtype=np.float32) for _ in range(2)]
    value, gradient = compat.build({"name": "lncc", "kernel_size": 5}, arrays, "torch", None).gradient()
    expected, slope = agnoreg.value_and_grad(agnoreg.build_loss({"name": "lncc", "kernel_size": 5}), *arrays)
    np.testing.assert_allclose(float(value), expected, rtol=1e-4)
    np.testing.assert_allclose(gradient[:, 0].numpy(), slope, atol=1e-4 * np.max(np.abs(slope)))
