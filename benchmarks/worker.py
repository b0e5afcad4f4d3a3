"""Measure one subject in a process of its own: ``python -m benchmarks.worker JOB``, the job and the answer in JSON.

The subject is called once on a small volume and once on the full one before its call is measured, so that neither
imports nor tracing nor the first touch of fresh memory is counted.
"""

import ctypes
import gc
import importlib
import json
import os
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

from benchmarks.inputs import inputs
from benchmarks.subjects import LIBRARIES, NotOfferedError

#: A call that takes longer than this at its first time on the full volume is not repeated: that was its measurement.
LONG = 30.0
#: Shorter calls are repeated for this long, at the most so many times, and the median is taken.
SPAN = 0.5
MOST = 2000
#: Voxels along each axis of the small volume.
SMALL = 40


class Host:
    """A clock and a memory gauge for calls that compute on the CPU."""

    def reset(self):
        """Give freed memory back to the system and let the greatest resident set be the present one."""
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        Path("/proc/self/clear_refs").write_text("5")

    def peak(self):
        """Return the greatest resident set since the reset, in bytes."""
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

    def start(self):
        """Return the resident set as it is now, with the inputs in it."""
        self.reset()
        return self.peak()

    def times(self, call, span):
        """Return the seconds of calls, repeated until they have taken ``span`` together."""
        seconds = []
        end = time.perf_counter() + span
        while not seconds or (time.perf_counter() < end and len(seconds) < MOST):
            before = time.perf_counter()
            result = call()
            seconds.append(time.perf_counter() - before)
            del result
        return seconds

    def alone(self, call):
        """Return None: a call on the CPU is over when it returns."""


class TorchDevice:
    """The same for a CUDA device, by PyTorch's events and allocator."""

    def __init__(self):
        import torch

        self.cuda = torch.cuda

    def event(self):
        """Return an event that has a time."""
        return self.cuda.Event(enable_timing=True)

    def synchronize(self):
        """Wait for the device."""
        self.cuda.synchronize()

    def elapsed(self, first, last):
        """Return the seconds between two events."""
        return first.elapsed_time(last) / 1000

    def reset(self):
        """Give freed memory back to the device, and begin a new peak."""
        gc.collect()
        self.synchronize()
        self.cuda.empty_cache()
        self.cuda.reset_peak_memory_stats()

    def start(self):
        """Return the memory in use."""
        self.reset()
        return self.cuda.memory_allocated()

    def peak(self):
        """Return the greatest memory in use since the reset."""
        return self.cuda.max_memory_allocated()

    def times(self, call, span):
        """Return the seconds of calls that are queued one after another without waiting, between events."""
        before = time.perf_counter()
        call()
        self.synchronize()
        count = max(3, min(200, int(span / (time.perf_counter() - before))))
        events = [self.event()]
        events[0].record()
        for _ in range(count):
            call()
            events.append(self.event())
            events[-1].record()
        self.synchronize()
        return [self.elapsed(a, b) for a, b in pairwise(events)]

    def alone(self, call):
        """Return the median of the seconds from a call to its end, waiting for the device each time."""
        seconds = []
        for _ in range(10):
            self.synchronize()
            before = time.perf_counter()
            call()
            self.synchronize()
            seconds.append(time.perf_counter() - before)
        return statistics.median(seconds)


class CupyDevice(TorchDevice):
    """The same, by CuPy's events and pool."""

    def __init__(self):
        import cupy

        self.cupy = cupy
        self.pool = cupy.get_default_memory_pool()

    def event(self):
        """Return an event that has a time."""
        return self.cupy.cuda.Event()

    def synchronize(self):
        """Wait for the device."""
        self.cupy.cuda.Device().synchronize()

    def elapsed(self, first, last):
        """Return the seconds between two events."""
        return self.cupy.cuda.get_elapsed_time(first, last) / 1000

    def reset(self):
        """Give freed memory back to the device."""
        gc.collect()
        self.synchronize()
        self.pool.free_all_blocks()

    def start(self):
        """Return the memory that the pool holds."""
        self.reset()
        return self.pool.total_bytes()

    def peak(self):
        """Return the memory that the pool holds: it gives none back by itself."""
        return self.pool.total_bytes()


def gauge(job):
    """Return the clock and memory gauge for where a job computes."""
    if job["backend"] == "cupy":
        return CupyDevice()
    return TorchDevice() if str(job["device"]).startswith("cuda") else Host()


def limit(cores):
    """Let this process use so many cores only."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    os.sched_setaffinity(0, allowed)
    for name in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{name}_NUM_THREADS"] = str(len(allowed))
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(len(allowed))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def measure(job):
    """Return the figures of a job."""
    module = importlib.import_module(f"benchmarks.subjects.{LIBRARIES[job['subject']][0]}")
    name, options = job["loss"]["name"], (job["backend"], job["device"])
    arrays = inputs(name, [min(SMALL, n) for n in job["size"]], job["folder"])
    if len(arrays) == 2:
        # Images that have something in common, so that every loss is well away from 0 and values can be compared.
        arrays[1] = (arrays[0] + arrays[1]) / 2
    small = module.build(job["loss"], arrays, *options)
    check = small.number(small.value())
    if small.gradient is not None:
        small.gradient()
    del small, arrays
    work = module.build(job["loss"], inputs(name, job["size"], job["folder"]), *options)
    meter = gauge(job)
    base = meter.start()
    result = {"differs": work.differs, "check": check}
    for kind in job["what"]:
        call = getattr(work, kind)
        if call is None:
            continue
        meter.reset()
        before = time.perf_counter()
        first = call()
        result["result"] = work.number(first[0] if kind == "gradient" else first)
        seconds = time.perf_counter() - before
        del first
        if seconds <= LONG:
            seconds = statistics.median(meter.times(call, SPAN))
        result[kind] = seconds
        result[f"{kind}_memory"] = max(meter.peak() - base, 0)
        if seconds <= LONG:
            result[f"{kind}_alone"] = meter.alone(call)
    return result


def main():
    """Read the job, measure it, print the answer."""
    job = json.loads(sys.argv[1])
    limit(job["cores"])
    try:
        answer = measure(job)
    except NotOfferedError as error:
        answer = {"not_offered": str(error)}
    except ImportError as error:
        answer = {"absent": str(error)}
    except Exception as error:
        answer = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
