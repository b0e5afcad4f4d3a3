"""Measure agnoreg and other libraries in turn, each run in its own process, and print medians and ratios."""

import argparse
import json
import statistics
import subprocess
import sys

from benchmarks.subjects import SUBJECTS


def measure(job):
    """Return one run's figures, or why there are none."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.worker", json.dumps(job)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--loss", action="append", help="a registered name, or JSON of a configuration; repeatable")
    parser.add_argument("--backend", action="append", help="agnoreg's backends; repeatable")
    parser.add_argument("--peer", action="append", choices=[name for name in SUBJECTS if name != "agnoreg"], default=[])
    parser.add_argument("--device")
    parser.add_argument("--size", type=int, nargs=3, default=[160, 192, 224])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    for text in options.loss or ["lncc", "gmi", "bending"]:
        loss = json.loads(text) if text.startswith("{") else {"name": text}
        jobs = {
            f"agnoreg on {backend}": {"subject": "agnoreg", "backend": backend}
            for backend in options.backend or ["numpy"]
        }
        jobs |= {peer: {"subject": peer, "backend": None} for peer in options.peer}
        shared = {"loss": loss, "size": options.size, "device": options.device}
        runs = {name: [] for name in jobs}
        for _ in range(options.runs):
            for name, job in jobs.items():
                runs[name].append(measure(job | shared))
        report(json.dumps(loss), options.size, runs)


def report(title, size, runs):
    """Print a table of one loss."""
    print(f"\n{title}, {' x '.join(map(str, size))}, float32\n")
    print("| | value s | value+gradient s | least to greatest | extra memory MB | value | times agnoreg's |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    first = None
    for name, results in runs.items():
        failed = [result for result in results if isinstance(result, str)]
        if failed:
            print(f"| {name} | not measured: {failed[0]} | | | | | |")
            continue
        times = [result["gradient"] for result in results]
        value, gradient = statistics.median(r["value"] for r in results), statistics.median(times)
        memory = statistics.median(r["gradient_memory"] for r in results)
        first = first or gradient
        print(
            f"| {name} | {value:.3f} | {gradient:.3f} | {min(times):.3f} to {max(times):.3f} | {memory:.0f} | "
            f"{results[0]['result']:.6g} | {gradient / first:.2f} |"
        )


if __name__ == "__main__":
    main()
