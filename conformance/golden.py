"""The golden vectors: values and gradients that the original computes in float32.

``golden.npz`` holds for each case ``ID/input0`` (and ``ID/input1``), ``ID/value`` of shape ``(B,)`` and ``ID/gradK``,
the gradient of ``sum(value)`` for input K; ``fn/...`` the plain functions of ``fn/input/...``; ``kernel/NAME/ARGUMENT``
the kernels; ``cases.json`` the list of cases, as UTF-8 bytes.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


@cache
def vectors() -> dict[str, np.ndarray]:
    """Return all arrays of the file, by their names."""
    with np.load(Path(__file__).with_name("golden.npz")) as file:
        return dict(file)


def cases() -> list[dict[str, Any]]:
    """Return the cases: ``id``, ``module``, ``cls``, ``kwargs`` and ``n_inputs`` of each."""
    return json.loads(vectors()["cases.json"].tobytes())


def kernels() -> list[tuple[str, float | int]]:
    """Return the name and the argument of each kernel in the file."""
    names = [name.split("/") for name in vectors() if name.startswith("kernel/")]
    return [(name, float(text) if "sigma" in name or "cauchy" in name else int(text)) for _, name, text in names]
