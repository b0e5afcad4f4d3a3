"""The page of results: tables of medians, what was aimed at and what was reached, and charts."""

import json
import math
from dataclasses import dataclass
from statistics import median

from benchmarks.charts import charts
from benchmarks.inputs import FIELDS, REFERENCE
from benchmarks.plan import CPU_BACKENDS, POINTWISE, SIZES
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
#: Relative difference up to which two values are the same.
SAME = 1e-3
#: Bytes that a value with its gradient has to move a voxel, in two passes of fused kernels, and the memory's speed.
FLOORS = {"lncc": 44, "gmi": 20}
BANDWIDTH = 4.3e12

HEAD = """# Benchmarks

Written by `make bench`, or `python -m benchmarks` in an environment with the extra `bench` and `benchmarks/peers.txt`;
`python -m benchmarks --report` writes it again from [the raw results](benchmarks/results.json) and measures nothing.

    make bench                                                      # everything; about {minutes} minutes on 2 cores
    make bench BENCH_ARGS="--loss lncc --backend torch --peer monai"
    python -m benchmarks --section voxels cores --runs 3            # parts; results of other parts are kept
    python -m benchmarks --device cuda                              # PyTorch and CuPy on a GPU, beside MONAI on it
    python -m benchmarks --help
"""

HOW = """## How it is measured

- The inputs are float32: two smooth random images in [0, 1], or a standard normal displacement field, of 1×160×192×224
  where nothing else is said; the gradient is by y_pred (or the field) only.
- Each run is a process of its own, which imports the measured library only; the libraries take turns, run by run. A
  figure is the median over the processes, beside the least and the greatest: 5 for agnoreg, MONAI and DeepReg's
  formula; 3 for others, for windows, pointwise losses, overhead (up to 2000 calls in each) and calls of more than
  15 s; 1 for memory and for the scaling with voxels and cores.
- Before a call is measured it has run once on a small volume and once on the full one, so that neither imports nor
  tracing nor the first touch of fresh memory is counted (a call of more than 30 s is not run twice). A short call is
  repeated for half a second, and a process's figure is the median.
- Memory is the greatest resident set during the call, above what was resident with the inputs in place: the gradient
  itself is part of it. On a GPU it is the allocator's peak.
- agnoreg has its extra `numba`, whose kernels serve the losses, in graphs that TensorFlow and JAX build, too
  ("without kernels": the core alone). What Numba compiles at the first call of all is not counted either.
- Every library may use all cores of the process, by its affinity and by its own setting.
- On a GPU a time is that between CUDA events around one call among many that are queued without waiting; "alone" is one
  call from start to synchronised end.
- "Same function" compares values of 40³ images that have half their intensities in common: equal to 10⁻³ (relative), or
  else it says what differs. The value in the table is that of the full volumes, which have nothing in common, so that
  mutual information is nearly 0: where it is off although the functions agree, that is float32 rounding.
- DeepReg's formula is our own plain rendering in TensorFlow of the formulas in its documentation, with autodiff; its
  release on PyPI needs an older TensorFlow. SimpleITK and ANTs give values only.
- JAX is compiled by `jax.jit`, and a call is over when its results are there. "The plain formula" is LNCC by
  `jax.lax.reduce_window` in float32, one axis at a time, and autodiff.
"""


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


def agreement(record, reference):
    """Return what is to be said about a value beside ours, and whether it is an error."""
    run = record["runs"][0]
    if run.get("differs"):
        return f"no: {run['differs']}", False
    if reference is None or record is reference:
        return "", False
    ours = reference["runs"][0]["check"]
    off = abs(run["check"] - ours) / max(abs(ours), 1e-12)
    if off <= SAME:
        return f"yes ({number(off, 1)})" if off else "yes (0)", False
    return f"**NO: {run['check']:.6g}, ours {ours:.6g}**", True


def write(machines, out):
    """Write the page and its charts into ``out``; return which libraries did not compute the function they should."""
    parts, wrong = [HEAD.format(minutes=MINUTES)], []
    on_gpu, aims = False, ["## What is aimed at, and what is reached\n"]
    for index, entry in enumerate(machines):
        for gpu in (False, True):
            records = tuple(r for r in entry["records"] if (r["job"]["device"] is not None) == gpu)
            if records:
                on_gpu = on_gpu or gpu
                figures = Figures(records, gpu)
                # What someone wrote beside the records; measuring again drops it.
                parts += [entry["note"] + "\n"] if "note" in entry else []
                parts += part(entry["machine"], figures, out, f"{index + 1}-gpu" if gpu else str(index + 1), wrong)
                if rows := list(targets(figures)):
                    aims += [f"On {place(entry['machine'], gpu)}:\n", table(["", "aim", "measured", ""], rows)]
    if not on_gpu:
        parts.append("## On a GPU\n\nNot yet measured on a GPU.\n")
    parts += [HOW, *aims]
    out.mkdir(parents=True, exist_ok=True)
    (out / "benchmarks.md").write_text("\n".join(parts))
    return wrong


def place(machine, gpu):
    """Return where figures were measured."""
    return machine["gpu"] or "a CUDA device" if gpu else f"{machine['cores']} cores of {machine['cpu']}"


def part(machine, figures, out, name, wrong):
    """Yield the page's paragraphs on one machine."""
    yield f"## On {place(machine, figures.gpu)}\n"
    dates = sorted({record["date"] for record in figures.records})
    found = sorted({f"{key} {value}" for record in figures.records for key, value in record["versions"].items()})
    gpu = machine["gpu"] or "no GPU"
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {gpu}, {machine['system']}; "
        f"{' to '.join(dict.fromkeys([dates[0], dates[-1]]))}; {', '.join(found)}.\n"
    )
    for path, text in charts(figures, out / "benchmarks", name):
        yield f"![{text}](benchmarks/{path.name})\n"
    for section, render in SECTIONS.items():
        yield from render(figures, figures.find(section), wrong)


def sizes(records):
    """Return the records by loss and size, in the order they have."""
    groups = {}
    for record in records:
        groups.setdefault((json.dumps(record["job"]["loss"]), tuple(record["job"]["size"])), []).append(record)
    return [(json.loads(loss), size, group) for (loss, size), group in groups.items()]


def volume(size):
    """Return a size in words."""
    return f"{size[0]}³" if len(set(size)) == 1 else "×".join(map(str, size))


def title(loss):
    """Return what a configuration is called."""
    rest = {key: value for key, value in loss.items() if key != "name"}
    name = TITLES.get(loss["name"], loss["name"])
    return f"{name.split(',')[0]}, {', '.join(f'{k} = {v}' for k, v in rest.items())}" if rest else name


def unit(figures):
    """Return the unit of times and its size in seconds: milliseconds on a GPU."""
    return ("ms", 1e-3) if figures.gpu else ("s", 1.0)


def reference(figures, records, wrong):
    """Yield a table a loss: ours and the other libraries."""
    name, second = unit(figures)
    for loss, size, group in sizes(records):
        ours = next((r for r in group if r["job"]["subject"] == "agnoreg" and measured(r)), None)
        best = figure(ours, "gradient") if ours else None
        alone = ["alone " + name] if figures.gpu else []
        rows = []
        for record in group:
            if not measured(record):
                rows.append([label(record["job"]), *[""] * (6 + len(alone)), _reason(record)])
                continue
            verdict, error = agreement(record, ours)
            if error:
                wrong.append(f"{title(loss)}: {label(record['job'])}: {verdict}")
            value, gradient = figure(record, "value"), figure(record, "gradient")
            kind = "value" if gradient is None else "gradient"
            low, high = spread(record, kind)
            rows.append(
                [
                    label(record["job"]),
                    number(value / second) if value is not None else "",
                    f"**{number(gradient / second)}**" if gradient is not None else "none",
                    f"{number(low / second)} to {number(high / second)}",
                    *([number((figure(record, f"{kind}_alone") or math.nan) / second)] if alone else []),
                    number(figure(record, f"{kind}_memory") / 1e6),
                    number(gradient / best, 2) if gradient and best else "",
                    f"{record['runs'][0]['result']:.6g}",
                    verdict,
                ]
            )
        yield f"### {title(loss)}: {volume(size)}\n"
        header = ["", f"value {name}", f"value+gradient {name}", "least to greatest", *alone, "extra memory MB"]
        yield table([*header, "times the first row", "value", "same function"], rows)


def _reason(record):
    run = record["runs"][-1]
    return f"absent: {run['absent']}" if "absent" in run else f"not measured: {run.get('failed', 'no answer')}"


def beside(section, keys, heading, plain):
    """Return what yields a section's table of a loss with options ``keys``, beside the same without them."""

    def render(figures, records, wrong):
        name, second = unit(figures)
        rows = []
        for record in records:
            job = record["job"]
            base = figures.one(
                section,
                "agnoreg",
                job["backend"],
                {k: v for k, v in job["loss"].items() if k not in keys},
                size=job["size"],
            )
            time, times = figure(record, "gradient"), ratio(record, base)
            cells = [number(time / second), number(times) if times else ""] if time else [_reason(record), ""]
            rows.append([label(job), title(job["loss"]), *cells])
        if rows:
            yield f"### {heading}\n"
            yield table(["", "", f"value+gradient {name}", f"times {plain}"], rows)

    return render


windows = beside("windows", ("kernel_type", "kernel_size"), "LNCC's windows", "the rectangular window of 9³")
masks = beside("masks", ("mask",), "Masks: a ball that holds half of the volume", "the same without a mask")


def pointwise(figures, records, wrong):
    """Yield the table of the pointwise losses beside one plain pass of their framework."""
    for size in dict.fromkeys(tuple(r["job"]["size"]) for r in records):
        rows = []
        for record in records:
            job = record["job"]
            if tuple(job["size"]) != size:
                continue
            if not measured(record):
                rows.append([job["loss"]["name"], label(job), _reason(record), "", "", "", "", ""])
                continue
            time, memory = figure(record, "gradient"), figure(record, "gradient_memory")
            low, high = spread(record, "gradient")
            ratios = []
            for name in ("pass", "scaled pass", job["loss"]["name"]):
                bare = figures.one("pointwise", "plain", job["backend"], {"name": name}, size=list(size))
                other = figure(bare, "gradient") if job["subject"] != "plain" or name != job["loss"]["name"] else None
                ratios.append(number(time / other) if other else "")
            timed = [number(time * 1e3), f"{number(low * 1e3)} to {number(high * 1e3)}", number(memory / 1e6)]
            rows.append([TITLES.get(job["loss"]["name"], ""), label(job), *timed, *ratios])
        yield f"### Pointwise losses: {volume(size)}\n"
        yield (
            "`t − p` reads both inputs and writes something as large as the gradient, by one operation. Plain "
            "arithmetic is the loss and its gradient as one writes them down in the framework: with no check, no "
            "autodiff, no slabs, and sums in float32 alone.\n\n"
            "Counted in volumes that are read or written, `t − p` takes 3. SSD and cross-entropy take 3, too; Dice and "
            "Jaccard read both inputs for their sums, and one of them for the gradient, 4 in all, and global NCC reads "
            "both again, 5: what is 1.33 and 1.67 times `t − p` at the least. JAX computes these losses without "
            "kernels, in passes that XLA makes.\n"
        )
        header = [
            "",
            "",
            "value+gradient ms",
            "least to greatest",
            "extra memory MB",
            "times t − p",
            "times (t − p) · a",
            "times plain arithmetic",
        ]
        yield table(header, rows)


def overheads(figures):
    """Yield the record of each call at 32³, and the seconds by which it is longer than the bare arithmetic."""
    for record in figures.find("overhead", "agnoreg"):
        job = record["job"]
        bare = figures.one("overhead", "plain", job["backend"], job["loss"], size=job["size"])
        if bare and measured(record):
            yield record, figure(record, "gradient"), figure(bare, "gradient")


def overhead(figures, records, wrong):
    """Yield the table of what a call costs beside its arithmetic."""
    rows = [
        [
            TITLES[record["job"]["loss"]["name"]],
            label(record["job"]),
            *(number(x * 1e3) for x in (time, bare, time - bare)),
        ]
        for record, time, bare in overheads(figures)
    ]
    if rows:
        yield "### Call overhead: value+gradient at 32³\n"
        yield "Beside the same arithmetic, bare: with no check, no autodiff and no slabs.\n"
        yield table(["", "", "call ms", "bare arithmetic ms", "difference ms"], rows)


def input_bytes(job):
    """Return the size of a job's inputs."""
    return math.prod(job["size"]) * (12 if job["loss"]["name"] in FIELDS else 8)


def gradient_bytes(job):
    """Return the size of a job's gradient."""
    return math.prod(job["size"]) * (12 if job["loss"]["name"] in FIELDS else 4)


def memory(figures, records, wrong):
    """Yield the table of peak memory, of MI with 64 bins, and of the window's width."""
    rows, widths = [], []
    for record in records:
        job = record["job"]
        if "kernel_size" in job["loss"]:
            widths.append(record)
        elif measured(record):
            extra = figure(record, "gradient_memory")
            ratios = [number(extra / input_bytes(job)), number((extra - gradient_bytes(job)) / 1e6)]
            rows.append([title(job["loss"]), label(job), volume(job["size"]), number(extra / 1e6), *ratios])
        else:
            rows.append([title(job["loss"]), label(job), volume(job["size"]), _reason(record), "", ""])
    if rows:
        yield "### Memory\n"
        yield table(["", "", "", "extra memory MB", "divided by the inputs", "MB beyond the gradient"], rows)
    if widths:
        yield "### The window's width: LNCC at 128³\n"
        yield table(
            ["", "", "value s", "value+gradient s"],
            [
                [title(r["job"]["loss"]), label(r["job"]), *(number(figure(r, k)) for k in ("value", "gradient"))]
                for r in widths
                if measured(r)
            ],
        )


def sweep(heading, key, text):
    """Return what renders a table a loss, a subject a row, with a column for each of what ``key`` takes from a job."""

    def render(figures, records, wrong):
        name, second = unit(figures)
        for loss in dict.fromkeys(json.dumps(r["job"]["loss"]) for r in records):
            chosen = [r for r in records if json.dumps(r["job"]["loss"]) == loss]
            columns = sorted({key(r["job"]) for r in chosen})
            rows = {}
            for record in chosen:
                time = figure(record, "gradient")
                cell = number(time / second) if time is not None else _reason(record)
                rows.setdefault(label(record["job"]), {})[key(record["job"])] = cell
            yield f"### {title(json.loads(loss))}: {heading}\n"
            header = ["value+gradient " + name, *(text(c) for c in columns)]
            yield table(header, [[row, *(cells.get(c, "") for c in columns)] for row, cells in rows.items()])

    return render


SECTIONS = {
    "reference": reference,
    "windows": windows,
    "masks": masks,
    "pointwise": pointwise,
    "overhead": overhead,
    "memory": memory,
    "voxels": sweep("time and the number of voxels", lambda job: job["size"][0], lambda n: f"{n}³"),
    "cores": sweep(
        "time and the number of cores", lambda job: job["cores"], lambda n: f"{n} cores" if n > 1 else "1 core"
    ),
}


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


def ratio(a, b, name="gradient"):
    """Return the ratio of two records' medians, or None."""
    a, b = figure(a, name), figure(b, name)
    return a / b if a and b else None


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
        yield faster("lncc", "torch", "monai", None, 18, 25)
        monai = figures.one("reference", "monai", None, {"name": "lncc"})
        less = ratio(monai, ours("lncc", "torch"), "gradient_memory")
        yield row("LNCC, PyTorch: memory, MONAI's divided by ours", less, 8, False, "{} ×")
        yield faster("lncc", "numpy", "monai", None, 8, 15)
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
            yield faster(loss, "torch", "monai", None, 5)
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
                yield row(f"{TITLES[loss]}, {FRAMEWORKS[backend]}: time beside t − p", time, 1.5, True, "{} ×")
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


#: How long `make bench` takes on 2 cores.
MINUTES = 45
