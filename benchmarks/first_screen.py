"""The table of the README: one pair of images, five libraries, value, seconds and memory; from the last results."""

from benchmarks.figures import Figures, figure, number, table
from benchmarks.inputs import REFERENCE

#: Between these lines of the README the table is written.
START, END = "<!-- The table is written by python -m benchmarks --report. -->\n", "<!-- End of the table. -->\n"

#: What each row is called, and the subject and backend that it is of.
ROWS = (
    ("SimpleITK 2.5 (ANTs's metric)", "simpleitk", None),
    ("MONAI 1.6", "monai", None),
    ("VoxelMorph (neurite 0.3)", "voxelmorph", None),
    ("DeepReg's formula, TensorFlow", "deepreg-formula", "tensorflow"),
    ("**agnoreg**, PyTorch", "agnoreg", "torch"),
    ("**agnoreg**, NumPy", "agnoreg", "numpy"),
    ("**agnoreg**, TensorFlow", "agnoreg", "tensorflow"),
)


def first_table(machines):
    """Return the table, of LNCC at the reference size, or nothing where it was not measured on a CPU."""
    for entry in reversed(machines):
        figures = Figures(tuple(r for r in entry["records"] if r["job"]["device"] is None), False)
        found = [(title, figures.one("reference", *subject, {"name": "lncc"})) for title, *subject in ROWS]
        if all(record is not None for _, record in found):
            size = " × ".join(map(str, REFERENCE))
            cores = entry["machine"]["cores"]
            lines = [
                f"LNCC (9³ windows) of one pair of {size} voxels on {cores} cores, and its gradient:\n",
                table(["", "value", "value, s", "value + gradient, s", "extra memory, MB"], map(row, found)),
                "SimpleITK's windows end at the border of the image, where those of the others hold zeros.\n",
            ]
            return "\n".join(lines)
    return ""


def row(found):
    """Return a row of a record: seconds are medians, memory is that of the gradient where there is one."""
    title, record = found
    gradient = figure(record, "gradient")
    return [
        title,
        number(-record["runs"][0]["result"]),
        number(figure(record, "value"), 2),
        "none" if gradient is None else number(gradient, 2),
        number(figure(record, "value_memory" if gradient is None else "gradient_memory") / 1e6, 2),
    ]


def write_into(readme, machines):
    """Write the table into the README, between its marks; leave it as it is where there are no figures."""
    text, new = readme.read_text(), first_table(machines)
    if new and START in text:
        before, _, rest = text.partition(START)
        readme.write_text(before + START + "\n" + new + "\n" + END + rest.partition(END)[2])
