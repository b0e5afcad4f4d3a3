"""Measure one subject in a process of its own: ``python -m benchmarks.worker JOB``, the job and the answer in JSON."""

import json
import sys
import time
from pathlib import Path

from benchmarks.subjects import SUBJECTS


def peak():
    """Return the process's greatest resident memory since it was last reset, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def reset_peak():
    """Let the greatest resident memory be the present one."""
    Path("/proc/self/clear_refs").write_text("5")


def main():
    """Build the subject, warm it up once on a small volume, and measure it once."""
    job = json.loads(sys.argv[1])
    make = SUBJECTS[job["subject"]]
    options = {"backend": job["backend"], "device": job["device"]}
    for function in make(job["loss"], [24, 24, 24], **options):
        function()
    value, gradient = make(job["loss"], job["size"], **options)
    result = {}
    for name, function in (("value", value), ("gradient", gradient)):
        reset_peak()
        before = peak()
        start = time.perf_counter()
        result["result"] = function()
        result[name] = time.perf_counter() - start
        result[f"{name}_memory"] = peak() - before
    print(json.dumps(result))


if __name__ == "__main__":
    main()
