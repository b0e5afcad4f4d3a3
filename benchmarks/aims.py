"""What is aimed at, and what is reached."""

import math

from benchmarks.figures import (
    FRAMEWORKS,
    figure,
    gradient_bytes,
    input_bytes,
    measured,
    number,
    overheads,
    ratio,
    title,
)
from benchmarks.inputs import REFERENCE
from benchmarks.plan import CPU_BACKENDS, POINTWISE, SIZES
from benchmarks.subjects import LIBRARIES
from benchmarks.titles import TITLES

#: Bytes that a value with its gradient has to move a voxel, in two passes of fused kernels, and the memory's speed.
FLOORS = {"lncc": 44, "gmi": 20}
BANDWIDTH = 4.3e12
#: How many times as long as t − p a loss with its gradient may take that reads its inputs more than once.
BESIDE_A_PASS = {"dice": 2.0, "jaccard": 2.0, "gncc": 2.0, "cross-entropy": 1.8}


def targets(figures):
    """Yield the rows of what is aimed at: what, the aim, the figure, and whether it is met."""
    yield from gpu_targets(figures) if figures.gpu else cpu_targets(figures)


def row(text, figure, limit, most=True, words="{}", stretch=None):
    """Return a row; ``most``: the figure may be at most the limit, else it must be at least that."""
    bound = "at most" if most else "at least"
    aim = f"{bound} {words.format(number(limit))}" + (f" (stretch {words.format(number(stretch))})" if stretch else "")
    if figure is None:
        return [text, aim, "not measured", ""]
    met = figure <= limit if most else figure >= limit
    verdict = "met" if met else "**not met**"
    if met and stretch is not None and (figure <= stretch if most else figure >= stretch):
        verdict = "met, stretch too"
    return [text, aim, words.format(number(figure)), verdict]


def cpu_targets(figures):
    """Yield the rows of the CPU."""

    def ours(loss, backend, section="reference", **options):
        return figures.one(section, "agnoreg", backend, {"name": loss} | options)

    def faster(loss, backend, peer, mode, limit, stretch=None):
        other = figures.one("reference", peer, mode, {"name": loss})
        text = f"{TITLES[loss].split(',')[0]}, {FRAMEWORKS[backend]}: speed beside {LIBRARIES[peer][1]}"
        text += f" ({FRAMEWORKS[mode]})" if mode else ""
        return row(text, ratio(other, ours(loss, backend)), limit, False, "{} ×", stretch)

    def beyond(loss, backend, limit):
        record = ours(loss, backend)
        extra = figure(record, "gradient_memory")
        extra = None if extra is None else (extra - gradient_bytes(record["job"])) / 1e6
        text = f"{TITLES[loss].split(',')[0]}, {FRAMEWORKS[backend]}: memory beyond the gradient"
        return row(text, extra, limit, True, "{} MB")

    def at_reference(section):
        return any(record["job"]["size"] == list(REFERENCE) for record in figures.find(section))

    graphs = ("tensorflow", "tensorflow graph")
    if at_reference("reference"):
        yield faster("lncc", "torch", "monai", None, 18, 90)
        monai = figures.one("reference", "monai", None, {"name": "lncc"})
        less = ratio(monai, ours("lncc", "torch"), "gradient_memory")
        yield row("LNCC, PyTorch: memory, MONAI's divided by ours", less, 8, False, "{} ×")
        yield faster("lncc", "numpy", "monai", None, 8, 15)
        for backend, limit in (("torch plain", 12), ("numpy plain", 8)):
            yield faster("lncc", backend, "monai", None, limit)
        for mode in graphs:
            yield faster("lncc", mode, "deepreg-formula", mode, 1, 1.5)
        yield faster("gmi", "torch", "monai", None, 10)
        yield faster("gmi", "numpy", "monai", None, 6)
        for mode in graphs:
            yield faster("gmi", mode, "deepreg-formula", mode, 1.6)
        yield faster("lncc", "jax", "monai", None, 15)
        yield faster("gmi", "jax", "monai", None, 20)
        for backend in CPU_BACKENDS:
            yield beyond("gmi", backend, 150)
        for loss in ("bending", "gradient"):
            yield faster(loss, "torch", "monai", None, 5, 25)
            for mode in graphs:
                yield faster(loss, mode, "deepreg-formula", mode, 6)
            for backend in CPU_BACKENDS:
                yield beyond(loss, backend, 300)
    if at_reference("windows"):
        for backend in ("torch", "numpy"):
            for options, limit in (
                ({"kernel_type": "triangular"}, 2),
                ({"kernel_type": "gaussian"}, 2.5),
                ({"kernel_size": 31}, 3),
            ):
                time = ratio(ours("lncc", backend, "windows", **options), ours("lncc", backend, "windows"))
                text = f"{title({'name': 'lncc'} | options)}, {FRAMEWORKS[backend]}: time beside the rectangular 9³"
                yield row(text, time, limit, True, "{} ×")
    if at_reference("masks"):
        for loss in ("lncc", "gmi"):
            for backend in CPU_BACKENDS:
                time = ratio(ours(loss, backend, "masks", mask="ball"), ours(loss, backend, "masks"))
                text = f"{TITLES[loss].split(',')[0]} with a mask, {FRAMEWORKS[backend]}: time beside the same without"
                yield row(text, time, 1.5, True, "{} ×")
    if at_reference("pointwise"):
        for loss in POINTWISE:
            for backend in CPU_BACKENDS:
                time = ratio(
                    ours(loss, backend, "pointwise"), figures.one("pointwise", "plain", backend, {"name": "pass"})
                )
                limit = BESIDE_A_PASS.get(loss, 1.5)
                yield row(f"{TITLES[loss]}, {FRAMEWORKS[backend]}: time beside t − p", time, limit, True, "{} ×")
    for backend in ("numpy", "torch"):
        times = [time - bare for r, time, bare in overheads(figures) if r["job"]["backend"] == backend]
        if times:
            text = f"Call overhead at 32³, {FRAMEWORKS[backend]}, the greatest of {len(times)} losses"
            yield row(text, max(times) * 1e3, 0.3, True, "{} ms")
    if figures.find("memory"):
        record = next((r for r in figures.find("memory", "agnoreg", num_bins=64) if measured(r)), None)
        extra = figure(record, "gradient_memory")
        volumes = extra / (input_bytes(record["job"]) / 2) if record else None
        yield row("Mutual information of 64 bins at 256³, PyTorch: memory in volumes", volumes, 8)
        for backend in ("torch", "numpy"):
            wide, narrow = (
                figures.one("memory", "agnoreg", backend, {"name": "lncc", "kernel_size": k}, size=[128] * 3)
                for k in (21, 5)
            )
            yield row(
                f"LNCC at 128³, {FRAMEWORKS[backend]}: time of width 21 over width 5",
                ratio(wide, narrow),
                5,
                True,
                "{} ×",
            )
    for backend, peer in (("tensorflow graph", "deepreg-formula"), ("jax", "jax-formula")):
        for n in SIZES:
            own, other = (
                figures.one("voxels", subject, backend, {"name": "lncc"}, size=[n] * 3) for subject in ("agnoreg", peer)
            )
            if own and other:
                text = f"LNCC at {n}³, {FRAMEWORKS[backend]}: speed beside {LIBRARIES[peer][1]}"
                yield row(text, ratio(other, own), 1, False, "{} ×")
    if figures.find("voxels", "agnoreg", name="gmi"):
        yield row(
            "Mutual information, PyTorch: memory beyond the gradient, 256³ less 128³",
            _growth(figures),
            20,
            True,
            "{} MB",
        )


def _growth(figures):
    def beyond(n):
        record = figures.one("voxels", "agnoreg", "torch", {"name": "gmi"}, size=[n] * 3)
        return (figure(record, "gradient_memory") - gradient_bytes(record["job"])) / 1e6 if record else None

    small, large = beyond(128), beyond(256)
    return None if small is None or large is None else large - small


def gpu_targets(figures):
    """Yield the rows of a GPU: the aim, the memory's floor, and MONAI on the same card."""
    for loss, limit in (("lncc", 0.6), ("gmi", 1.5)):
        floor = FLOORS[loss] * math.prod(REFERENCE) / BANDWIDTH
        monai = figures.one("reference", "monai", None, {"name": loss})
        for backend in ("torch", "cupy"):
            record = figures.one("reference", "agnoreg", backend, {"name": loss})
            time = figure(record, "gradient")
            line = row(
                f"{TITLES[loss]}, {FRAMEWORKS[backend]}: value+gradient", time and time * 1e3, limit, True, "{} ms"
            )
            if time:
                line[2] += f"; {number(time / floor)} times the floor of {number(floor * 1e3, 2)} ms"
                line[2] += f" ({FLOORS[loss]} B a voxel at {BANDWIDTH / 1e12:g} TB/s)"
                if monai:
                    line[2] += f"; MONAI on this card takes {number(ratio(monai, record))} times as long"
            yield line
