"""The charts of the page, as SVG."""

from pathlib import Path
from statistics import median

from benchmarks.titles import TITLES

PANELS = {name: TITLES[name] for name in ("lncc", "gmi", "bending", "gradient")}
#: A colour for each library and framework; ours are strong, the others' pale.
STYLES = {
    ("agnoreg", "torch"): ("agnoreg, PyTorch", "#d6451b", "-"),
    ("agnoreg", "numpy"): ("agnoreg, NumPy", "#1f6fb4", "-"),
    ("agnoreg", "cupy"): ("agnoreg, CuPy", "#1f6fb4", "-"),
    ("agnoreg", "tensorflow"): ("agnoreg, TensorFlow eager", "#2b8a3e", "-"),
    ("agnoreg", "tensorflow graph"): ("agnoreg, TensorFlow graph", "#66b36f", "-"),
    ("agnoreg", "torch plain"): ("agnoreg, PyTorch, no kernels", "#eda18b", "-"),
    ("agnoreg", "numpy plain"): ("agnoreg, NumPy, no kernels", "#90b9dc", "-"),
    ("agnoreg", "jax"): ("agnoreg, JAX", "#7a5195", "-"),
    ("agnoreg", "jax plain"): ("agnoreg, JAX, no kernels", "#bfa5cd", "-"),
    ("compat", "torch"): ("agnoreg.compat.monai", "#f0b429", "-"),
    ("monai", None): ("MONAI", "#777777", "--"),
    ("voxelmorph", None): ("VoxelMorph", "#999999", "--"),
    ("fireants", None): ("FireANTs", "#b3b3b3", "--"),
    ("deepreg-formula", "tensorflow"): ("DeepReg's formula, eager", "#8c6bb1", "--"),
    ("deepreg-formula", "tensorflow graph"): ("DeepReg's formula, graph", "#b9a3d0", "--"),
    ("jax-formula", "jax"): ("plain formula, JAX", "#a08fb0", "--"),
    ("simpleitk", None): ("SimpleITK (value only)", "#c4b08b", "--"),
    ("ants", None): ("ANTs (value only)", "#d8cbb0", "--"),
}


def charts(figures, folder, name):
    """Draw what there are figures for into ``folder``; yield each chart's path and what it shows."""
    import matplotlib as mpl

    mpl.use("Agg")
    style = {
        "svg.hashsalt": "agnoreg",
        "svg.fonttype": "none",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e6e6e6",
        "axes.axisbelow": True,
        "figure.facecolor": "white",
    }
    with mpl.rc_context(style):
        for kind, draw in (("reference", _bars), ("voxels", _voxels), ("cores", _cores)):
            chosen = figures.find(kind)
            drawn = draw(chosen, figures.gpu) if chosen else None
            if drawn is None:
                continue
            figure, text = drawn
            Path(folder).mkdir(parents=True, exist_ok=True)
            path = Path(folder) / f"{kind}-{name}.svg"
            figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
            yield path, text


def _median(record, name):
    values = [run[name] for run in record["runs"] if run.get(name) is not None]
    return median(values) if values else None


def _panels(records):
    from matplotlib.figure import Figure

    losses = [loss for loss in PANELS if any(r["job"]["loss"] == {"name": loss} for r in records)]
    if not losses:
        return None
    figure = Figure(figsize=(4.2 * len(losses), 3.4))
    return figure, dict(zip(losses, figure.subplots(1, len(losses), squeeze=False)[0], strict=True))


def _bars(records, gpu):
    """Time and memory of one size, a panel a loss and figure."""
    from matplotlib.figure import Figure

    size = records[0]["job"]["size"]
    records = [r for r in records if r["job"]["size"] == size]
    losses = [loss for loss in PANELS if any(r["job"]["loss"] == {"name": loss} for r in records)]
    if not losses:
        return None
    figure = Figure(figsize=(11, 2.6 * len(losses)), layout="constrained")
    axes = figure.subplots(len(losses), 2, squeeze=False)
    for loss, (left, right) in zip(losses, axes, strict=True):
        bars = []
        for record in records:
            kind = "value" if _median(record, "gradient") is None else "gradient"
            if record["job"]["loss"] == {"name": loss} and _median(record, kind) is not None:
                style = STYLES[record["job"]["subject"], record["job"]["backend"]]
                bars.append((*style[:2], _median(record, kind), _median(record, f"{kind}_memory") / 1e6))
        bars.reverse()
        for axis, index, unit, text in ((left, 2, "value+gradient, s", ".3g"), (right, 3, "extra memory, MB", ".0f")):
            drawn = axis.barh([b[0] for b in bars], [b[index] for b in bars], color=[b[1] for b in bars])
            axis.bar_label(drawn, [format(b[index], text) for b in bars], padding=2, fontsize=8)
            axis.margins(x=0.12)
            axis.grid(visible=False, axis="y")
            axis.set_title(f"{PANELS[loss]}: {unit}", fontsize=10, loc="left")
        right.set_yticklabels([])
    return figure, "Time and memory of agnoreg and of the other libraries"


def _lines(records, x, xlabel, ticks):
    made = _panels(records)
    if made is None:
        return None
    figure, panels = made
    for loss, axis in panels.items():
        for key, (name, colour, dash) in STYLES.items():
            points = sorted(
                (x(r["job"]), _median(r, "gradient"))
                for r in records
                if (r["job"]["subject"], r["job"]["backend"]) == key
                and r["job"]["loss"] == {"name": loss}
                and _median(r, "gradient") is not None
            )
            if points:
                axis.plot(*zip(*points, strict=True), dash, color=colour, marker="o", markersize=4, label=name)
        values = sorted({x(r["job"]) for r in records})
        axis.set(xscale="log", yscale="log", title=PANELS[loss], xlabel=xlabel)
        axis.set_xticks(values, [ticks(v) for v in values], minor=False)
        axis.set_xticks([], minor=True)
    first = next(iter(panels.values()))
    first.set_ylabel("value+gradient, s")
    handles, names = first.get_legend_handles_labels()
    figure.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, frameon=False)
    figure.tight_layout()
    return figure


def _voxels(records, gpu):
    figure = _lines(records, lambda job: job["size"][0], "voxels", lambda n: f"{n}³")
    return figure and (figure, "Time and the number of voxels, logarithmic scales")


def _cores(records, gpu):
    figure = _lines(records, lambda job: job["cores"], "cores", str)
    return figure and (figure, "Time and the number of cores, logarithmic scales")
