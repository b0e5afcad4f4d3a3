"""The table at the end of a run: worst errors, a row a loss and a column a backend, a block for each kind of check."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator

from . import tolerances
from .cases import FAMILIES
from .chosen import Chosen

#: Each kind of check: its title, and the tolerance that it was held to.
KINDS = {
    "golden": ("golden vectors", tolerances.GOLDEN),
    "float64": ("float64 against the reference", tolerances.FLOAT64),
    "dims": ("float64, images and fields of one and two dimensions", tolerances.FLOAT64),
    "channels first": ("float64, channels and components first", tolerances.FLOAT64),
    "conventions": ("float64, other libraries' conventions", tolerances.FLOAT64),
    "exact": ("float64, correlations without constants", tolerances.FLOAT64),
    "masks": ("float64, masks against the reference", tolerances.FLOAT64),
    "float32": ("float32 against the reference", tolerances.FLOAT32),
    "narrow": ("float32, narrow Parzen windows of many bins", tolerances.FLOAT32),
    "float16": ("float16 against the reference of the rounded input", tolerances.HALF["float16"]),
    "bfloat16": ("bfloat16 against the reference of the rounded input", tolerances.HALF["bfloat16"]),
    "integer": ("bool and integers against the reference", tolerances.FLOAT32),
    "mixed": ("two dtypes at once against the reference", tolerances.FLOAT32),
    "differences": ("gradient in float64 against central differences", tolerances.DIFFERENCES),
    "offset": ("float32, intensities raised by 0, 10, 100 and 1000", tolerances.FLOAT32),
    "flat": ("float32, flat regions, raised by up to 1000", tolerances.FLOAT32),
    "ct": ("float32, air at -1000 beside tissue near +50", tolerances.CT),
    "metrics": ("metrics against the reference", tolerances.METRICS),
}
OFFSETS = (0, 10, 100, 1000)
METRICS = (
    "overlap",
    "hausdorff",
    "masd",
    "assd",
    "nsd",
    "jacobian_determinant",
    "folding",
    "nondiffeomorphic_volume",
    "sdlogj",
    "inverse_consistency_error",
    "target_registration_error",
)
ROWS = [
    *dict.fromkeys(family for family, _ in FAMILIES.values()),
    "weighted sum",
    "functions",
    *METRICS,
    *(f"{family}, offset {offset}" for family in ("lncc", "gncc") for offset in OFFSETS),
]

Errors = tuple[float | None, float | None]


class Records:
    """The worst errors so far, by kind, loss and backend."""

    def __init__(self) -> None:
        self.worst: dict[tuple[str, str, str], Errors] = {}

    def add(self, loss: str, kind: str, backend: str, value: float | None, gradient: float | None) -> None:
        """Keep the larger of each error and the one known."""
        if kind not in KINDS or loss not in ROWS:
            raise ValueError(f"No cell for kind {kind!r} and loss {loss!r}: add it to report.py.")
        old = self.worst.get((kind, loss, backend), (None, None))
        self.worst[kind, loss, backend] = (_larger(old[0], value), _larger(old[1], gradient))


def _larger(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else max(a, b)


def lines(records: Records, chosen: list[Chosen], device: str | None, counts: dict[str, int]) -> Iterator[str]:
    """Yield the report as Markdown."""
    used = [one for one in chosen if one.backend is not None]
    versions = ", ".join(_version(one) for one in used) or "No backend"
    yield f"{versions}; Python {platform.python_version()}; {_machine(device)}."
    yield ""
    yield ", ".join(f"{number} {outcome}" for outcome, number in counts.items()) + "."
    for one in chosen:
        if one.backend is None:
            yield ""
            yield f"{one.name} was skipped: {one.reason}"
        elif one.stand_in:
            yield ""
            yield (
                f"{one.name} was on a stand-in: {one.stand_in} computed in its place, and no card was there. Its "
                "column says what the adapter and the core make of it, not what a card computes."
            )
    yield ""
    yield "A cell is the worst relative error of the value / of the gradient; `-` where it is not checked."
    names = [one.name for one in used]
    for kind, (title, tolerance) in KINDS.items():
        rows = [row for row in ROWS if any((kind, row, name) in records.worst for name in names)]
        if not rows:
            continue
        titles = [one.title for one in used]
        table = [["loss", *titles], *([row, *(_cell(records, kind, row, name) for name in names)] for row in rows)]
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        table.insert(1, ["-" * width for width in widths])
        yield ""
        yield f"### {title[0].upper()}{title[1:]}: {_allowed(tolerance)}"
        yield ""
        for row in table:
            yield "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"


def _allowed(tolerance: tolerances.Tolerance) -> str:
    parts = zip(("value", "gradient"), (tolerance.value, tolerance.gradient), strict=True)
    return ", ".join(f"{name} within {limit:.0e}" for name, limit in parts if limit is not None)


def _cell(records: Records, kind: str, row: str, name: str) -> str:
    errors = records.worst.get((kind, row, name), (None, None))
    limits = KINDS[kind][1].value, KINDS[kind][1].gradient
    return " / ".join(_number(error, limit) for error, limit in zip(errors, limits, strict=True))


def _number(error: float | None, limit: float | None) -> str:
    if error is None:
        return "-"
    return f"{error:.0e}" if limit is None or error <= limit else f"**{error:.0e}**"


def _version(one: Chosen) -> str:
    module = sys.modules.get(one.name)
    if one.stand_in:
        return f"{one.title} ({one.stand_in})"
    return f"{one.name} {getattr(module, '__version__', '')}".strip()


def _machine(device: str | None) -> str:
    """Name the processor, and the GPU where one is used."""
    names = [_cpu()]
    if device not in (None, "cpu") or "cupy" in sys.modules:
        names.append(_gpu())
    return ", ".join(name for name in names if name) + (f", device {device}" if device else "")


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _gpu() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return result.stdout.strip().partition("\n")[0] if result.returncode == 0 else ""
