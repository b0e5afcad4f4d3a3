"""Measure agnoreg and other libraries in turn, each run in its own process, and write docs/benchmarks.md."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import plan
from benchmarks.figures import label
from benchmarks.first_screen import write_into
from benchmarks.inputs import REFERENCE, inputs
from benchmarks.report import write
from benchmarks.results import Results, machine
from benchmarks.whole import WHOLE

ROOT = Path(__file__).parents[1]
#: A subject whose call takes longer than this gets half as many runs.
SLOW = 15.0
#: A process that takes longer than this is ended.
PATIENCE = 1200


def measure(job):
    """Return one run's figures, or why there are none."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(job)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took more than {PATIENCE} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    if done.returncode < 0:
        return {
            "failed": f"ended by signal {-done.returncode}" + (" (out of memory?)" if done.returncode == -9 else "")
        }
    return {"failed": (done.stderr.strip().splitlines() or ["no answer"])[-1][:300]}


def measure_group(section, jobs, results, here, options, folder):
    """Measure the jobs of a group in turn, as often as there are runs."""
    wanted = [plan.runs(section, job, options.runs) for job in jobs]
    for turn in range(max(wanted)):
        for i, job in enumerate(jobs):
            if turn >= wanted[i]:
                continue
            inputs(job["loss"]["name"], job["size"], folder)
            run = measure(job | {"folder": folder})
            if "not_offered" in run:
                wanted[i] = 0
                continue
            if "gradient" not in run and "value" not in run:
                wanted[i] = 0
            elif max(run.get("gradient", 0), run.get("value", 0)) > SLOW:
                wanted[i] = min(wanted[i], (options.runs + 1) // 2)
            results.add(here, section, job, run, wanted[i])
            print(f"{section}: {line(job, run)} ({turn + 1}/{wanted[i] or 1})", flush=True)


def line(job, run):
    """Return a run in words."""
    loss = " ".join(str(value) for value in job["loss"].values())
    size = "x".join(map(str, job["size"]))
    head = f"{loss}, {size}, {job['cores']} cores, {label(job)}"
    for reason in ("absent", "failed"):
        if reason in run:
            return f"{head}: {reason}: {run[reason]}"
    figures = [f"{kind} {run[kind]:.4g} s, {run[kind + '_memory'] / 1e6:.0f} MB" for kind in job["what"] if kind in run]
    return f"{head}: {'; '.join(figures)}"


def loss_of(text):
    """Return the configuration that ``--loss`` means."""
    return json.loads(text) if text.startswith("{") else {"name": text}


def options_of(arguments):
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add(
        "--loss",
        action="extend",
        nargs="+",
        type=loss_of,
        help="registered names, or JSON of configurations (default: all)",
    )
    add(
        "--backend",
        action="extend",
        nargs="+",
        help=f"agnoreg's: {', '.join(plan.CPU_BACKENDS)}; on a GPU {', '.join(plan.GPU_BACKENDS)}",
    )
    add(
        "--peer",
        action="extend",
        nargs="+",
        choices=[*plan.CPU_PEERS, *plan.OPTIONAL_PEERS, "none"],
        help="other libraries (default: all)",
    )
    every = (*plan.SECTIONS, *WHOLE)
    add("--section", action="extend", nargs="+", choices=every, help="parts of the benchmark (default: all)")
    add("--device", help="cuda: measure on the CUDA device")
    add("--size", type=int, nargs=3, help="another size than that of the reference work, and no other sizes")
    add("--runs", type=int, default=5, help="processes a figure (default 5)")
    add("--out", type=Path, default=ROOT / "docs", help="the folder of benchmarks.md and benchmarks/ (default docs)")
    add("--report", action="store_true", help="measure nothing; write the page again from benchmarks/results.json")
    options = parser.parse_args(arguments)
    gpu = options.device is not None or options.backend == ["cupy"]
    if gpu:
        options.device = options.device or "cuda"
    # What is measured in whole processes is not of one loss, nor of one size.
    narrowed = options.loss or options.backend or options.peer or options.size or gpu
    options.loss = options.loss or [{"name": name} for name in plan.LOSSES]
    options.backend = options.backend or (plan.GPU_BACKENDS if gpu else plan.CPU_BACKENDS)
    options.peer = [] if options.peer == ["none"] else options.peer or (plan.GPU_PEERS if gpu else plan.CPU_PEERS)
    chosen = options.section or (plan.ONE_SIZE if options.size else plan.GPU_SECTIONS if gpu else plan.SECTIONS)
    options.whole = [s for s in WHOLE if s in (options.section or (() if narrowed else WHOLE))]
    options.section = [s for s in plan.SECTIONS if s in chosen]
    return options


def main(arguments=None):
    """Read the options, measure, write the page; return 1 where a library did not compute the same function."""
    options = options_of(arguments)
    results = Results(options.out / "benchmarks" / "results.json")
    stopped = False
    if not options.report:
        here = machine()
        if (busy := os.getloadavg()[0]) > 0.5:
            # PyTorch's threads wait for one another by spinning: on a busy machine its calls take many times as long.
            print(f"other work is running (load {busy:.1f}): times will be too long", file=sys.stderr)
        groups = plan.plan(
            sections=options.section,
            losses=options.loss,
            backends=options.backend,
            peers=options.peer,
            device=options.device,
            size=options.size or REFERENCE,
            cores=len(os.sched_getaffinity(0)),
        )
        try:
            with tempfile.TemporaryDirectory() as folder:
                for section, jobs in groups:
                    measure_group(section, jobs, results, here, options, folder)
            for name in options.whole:
                print(f"{name}:", flush=True)
                results.put(here, name, WHOLE[name]())
        except KeyboardInterrupt:
            stopped = True
            print("stopped; what was measured is kept", flush=True)
    results.save()
    wrong = write(results.machines, options.out)
    if options.out.resolve() == ROOT / "docs":
        write_into(ROOT / "README.md", results.machines)
    for text in wrong:
        print(f"not the same function: {text}", file=sys.stderr)
    print(f"written: {options.out / 'benchmarks.md'}")
    return 130 if stopped else 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
