"""Records and their figures: which there are, and how they are written."""

import math
from dataclasses import dataclass
from statistics import median

from benchmarks.inputs import FIELDS, REFERENCE
from benchmarks.subjects import LIBRARIES
from benchmarks.titles import TITLES

FRAMEWORKS = {
    "torch": "PyTorch",
    "numpy": "NumPy",
    "cupy": "CuPy",
    "tensorflow": "TensorFlow eager",
    "tensorflow graph": "TensorFlow graph",
    "torch plain": "PyTorch without kernels",
    "numpy plain": "NumPy without kernels",
    "jax": "JAX",
    "jax plain": "JAX without kernels",
}


def label(job):
    """Return what a job's subject is called."""
    name = LIBRARIES[job["subject"]][1]
    if job["subject"] == "plain" and job["loss"]["name"] in ("pass", "scaled pass"):
        name = {"pass": "t − p", "scaled pass": "(t − p) · a"}[job["loss"]["name"]]
    framework = FRAMEWORKS.get(job["backend"])
    return f"{name}, {framework}" if framework else name


def number(x, digits=3):
    """Return a number with so many significant digits, without an exponent where that is readable."""
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    places = max(digits - 1 - math.floor(math.log10(abs(x))), 0)
    return f"{x:.{places}f}" if abs(x) >= 1e-4 else f"{x:.{digits - 1}e}"


@dataclass(frozen=True)
class Figures:
    """The records of one machine, CPU or GPU."""

    records: tuple
    gpu: bool

    def find(self, section, subject=None, backend=None, **loss):
        """Return the records of a section, with these properties."""
        return [
            record
            for record in self.records
            if record["section"] == section
            and subject in (None, record["job"]["subject"])
            and (backend is None or record["job"]["backend"] == backend)
            and all(record["job"]["loss"].get(key) == value for key, value in loss.items())
        ]

    def one(self, section, subject, backend, loss, **where):
        """Return the record of a loss (a configuration) at the reference size, or at what ``where`` says; or None."""
        where = {"size": list(REFERENCE)} | where
        for record in self.find(section, subject, backend):
            job = record["job"]
            if job["loss"] == loss and all(job[key] == value for key, value in where.items()) and measured(record):
                return record
        return None


def measured(record):
    """Say whether a record has figures."""
    return any("gradient" in run or "value" in run for run in record["runs"])


def figure(record, name):
    """Return the median of a figure, or None."""
    values = [run[name] for run in record["runs"] if run.get(name) is not None] if record else []
    return median(values) if values else None


def spread(record, name):
    """Return the least and the greatest of a figure."""
    values = [run[name] for run in record["runs"] if run.get(name) is not None]
    return min(values), max(values)


def table(header, rows):
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def ratio(a, b, name="gradient"):
    """Return the ratio of two records' medians, or None."""
    a, b = figure(a, name), figure(b, name)
    return a / b if a and b else None


def volume(size):
    """Return a size in words."""
    return f"{size[0]}³" if len(set(size)) == 1 else "×".join(map(str, size))


def title(loss):
    """Return what a configuration is called."""
    rest = {key: value for key, value in loss.items() if key != "name"}
    name = TITLES.get(loss["name"], loss["name"])
    return f"{name.split(',')[0]}, {', '.join(f'{k} = {v}' for k, v in rest.items())}" if rest else name


def overheads(figures):
    """Yield the record of each call at 32³, and the seconds by which it is longer than the bare arithmetic."""
    for record in figures.find("overhead", "agnoreg"):
        job = record["job"]
        bare = figures.one("overhead", "plain", job["backend"], job["loss"], size=job["size"])
        if bare and measured(record):
            yield record, figure(record, "gradient"), figure(bare, "gradient")


def input_bytes(job):
    """Return the size of a job's inputs."""
    return math.prod(job["size"]) * (12 if job["loss"]["name"] in FIELDS else 8)


def gradient_bytes(job):
    """Return the size of a job's gradient."""
    return math.prod(job["size"]) * (12 if job["loss"]["name"] in FIELDS else 4)
