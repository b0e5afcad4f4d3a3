"""The page of results: tables of medians, what was aimed at and what was reached, and charts."""

import json
import math

from benchmarks.aims import targets
from benchmarks.charts import charts
from benchmarks.figures import (
    Figures,
    figure,
    gradient_bytes,
    input_bytes,
    label,
    measured,
    number,
    overheads,
    ratio,
    spread,
    table,
    title,
    volume,
)
from benchmarks.titles import TITLES

#: Relative difference up to which two values are the same.
SAME = 1e-3
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


TRIED = """## What falls short, and what was tried

- **GNCC** reads its inputs for sums before it reads them for the gradient: 1.67 times what `t − p` reads. The rest is
  two calls into kernels, each of which wakes a thread, and Python between them. Gradients in reverse order and
  prefetching gained nothing. JAX computes these losses without kernels: XLA makes one pass of them and of what is
  around them. In TensorFlow, its own part of a call takes longer than the loss.
- **Masks.** With a mask LNCC's kernels keep a sixth sum, and threads read a third array. Planes and lines around what
  counts are left out, so that a smaller ball costs less.
- **Triangular and Gaussian windows.** Both became faster; the rectangular one, beside which they are measured, became
  faster still.
- **New memory.** In one of two processes the bending energy and the gradient norm take four times as long in PyTorch,
  and in the other as long as in NumPy; at 256³ the same goes for NumPy, and for mutual information. The gradient's
  memory, 82 MB and more, is new in each call, and a virtual machine may have to get it from its host. JAX keeps its
  own. To keep a gradient's memory between calls was tried: it helps, but holds that memory for good.
- **Dask's regularisers and LNCC** read a stored chunk twice, for its block and for the rim that others get. To keep
  chunks in memory instead took as long, and 100 MiB more of a worker.
- **Busy cores.** Mutual information without kernels multiplies matrices, by PyTorch's own threads.
"""


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
                parts += whole(entry.get("tables", {})) if not gpu else []
                if rows := list(targets(figures)):
                    aims += [f"On {place(entry['machine'], gpu)}:\n", table(["", "aim", "measured", ""], rows)]
    if not on_gpu:
        parts.append("## On a GPU\n\nNot yet measured on a GPU.\n")
    parts += [HOW, *aims, TRIED]
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


def whole(tables):
    """Yield what was measured in whole processes."""
    for one in tables.values():
        yield f"### {one['heading']}\n"
        yield f"{one['text']} Measured on {one['date']}.\n"
        yield table(one["header"], one["rows"])


def sizes(records):
    """Return the records by loss and size, in the order they have."""
    groups = {}
    for record in records:
        groups.setdefault((json.dumps(record["job"]["loss"]), tuple(record["job"]["size"])), []).append(record)
    return [(json.loads(loss), size, group) for (loss, size), group in groups.items()]


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


#: How long `make bench` takes on 2 cores.
MINUTES = 75
