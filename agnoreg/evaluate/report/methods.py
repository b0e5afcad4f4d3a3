"""What a paper has to say of an evaluation, and from which files and versions the numbers are."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnoreg.evaluate.metric import HEADER
from agnoreg.evaluate.records import Evaluation
from agnoreg.evaluate.report.verdicts import unit_text

#: Digits of a hash that are printed in a sentence; the table has all.
SHORT = 12


def hashes(files: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of each file, by its role; none of an image that is no file."""
    found = {}
    for role, name in files.items():
        if name.startswith("<") and not Path(name).exists():
            continue
        try:
            with open(name, "rb") as file:
                found[role] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:  # It was there when it was read.
            continue
    return found


def methods_text(evaluation: Evaluation, digests: Mapping[str, str]) -> str:
    """Return sentences for the methods section of a paper."""
    versions = dict(evaluation.versions)
    own = versions.pop("agnoreg", "")
    others = ", ".join(f"{_named(name)} {number}" for name, number in versions.items())
    lines = [f"Registrations were evaluated with agnoreg {own} ({others}), computed by {evaluation.backend}."]
    shape = evaluation.inputs[0]
    size = " × ".join(str(n) for n in shape.shape)
    mm = " × ".join(f"{side:.4g}" for side in shape.voxel_size)
    lines.append(f"All volumes lie on the fixed image's grid of {size} voxels of {mm} mm.")
    scaled = [entry for entry in evaluation.inputs if entry.intensities is not None and entry.intensities.scaled]
    if scaled:
        lines.append("Each image was scaled to [0, 1] by its own minimum and maximum.")
    for kind, title in (("images", "Images"), ("labels", "Label maps"), ("field", "Displacement fields")):
        if names := _metrics(evaluation, kind):
            lines.append(
                f"{title} were compared by {names}." if kind != "field" else f"{title} were judged by {names}."
            )
    if landmarks := _metrics(evaluation, "landmarks"):
        lines.append(f"Landmarks were judged by {landmarks}.")
    if digests:
        short = ", ".join(f"{role} {digest[:SHORT]}" for role, digest in digests.items())
        lines.append(f"Files (first digits of SHA-256): {short}.")
    return " ".join(lines)


def _named(name: str) -> str:
    return {"numpy": "NumPy", "python": "Python", "nibabel": "NiBabel"}.get(name, name)


def _metrics(evaluation: Evaluation, measured: str) -> str:
    """Return the metrics of images, labels or a field with their arguments, as a list in words."""
    names: dict[str, Any] = {}
    for record in evaluation.records:
        if record.measured == measured:
            arguments = [_argument(key, value) for key, value in record.arguments.items()]
            said = [*([unit_text(record.unit)] if record.unit else []), *filter(None, arguments)]
            names[f"{record.title or record.metric} ({', '.join(said)})" if said else record.title or record.metric] = (
                None
            )
    listed = list(names)
    return listed[0] if len(listed) == 1 else ", ".join(listed[:-1]) + f" and {listed[-1]}" if listed else ""


def _argument(name: str, value: Any) -> str:
    """Return an argument in words; nothing of what is switched off."""
    if name == "spacing":
        return "displacements in mm" if value == HEADER else f"spacing {value}"
    name = name.replace("_", " ")
    return "" if value is False else name if value is True else f"{name} {value}"
