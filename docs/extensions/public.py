"""The public names that the reference has a page for, in groups."""

import importlib
import inspect
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Group:
    """Names of one module under one heading."""

    title: str
    text: str
    module: str
    #: The names; empty: all of the module's ``__all__`` that are functions or classes.
    names: tuple[str, ...] = ()
    with_members: bool = False


#: The families, by the modules that they are in.
FAMILIES = (
    ("pointwise", "Pointwise"),
    ("ratio", "RatioOfSums"),
    ("histogram", "JointHistogram"),
    ("local_moments", "LocalMoments"),
    ("stencil", "Stencil"),
    ("differences", "FirstDifferences"),
    ("differences", "SecondDifferences"),
)

GROUPS = (
    Group(
        "Making and calling losses",
        "What every script needs. The short names of losses, such as `agnoreg.LNCC`, are the classes below.",
        "agnoreg",
        ("value_and_grad", "build_loss", "load_loss", "save_loss", "register_loss", "registered_losses"),
    ),
    Group(
        "The base class",
        "All losses and metrics are of this class. Their pages list arguments; the methods are here.",
        "agnoreg",
        ("Loss",),
        with_members=True,
    ),
    Group("Losses and metrics", "Classes that end in `Loss` are to be minimised.", "agnoreg.loss"),
    Group("Functions", "The same as plain functions of arrays, and what they are made of.", "agnoreg.functional"),
    Group("Metrics of labels and fields", "See [the metrics](metrics.md).", "agnoreg.metrics", with_members=True),
    Group("Evaluation of files", "What `agnoreg evaluate` calls.", "agnoreg.evaluate", with_members=True),
    Group("Warnings", "", "agnoreg", ("EmptyMaskWarning", "EvenWindowWarning", "InputWarning")),
    Group(
        "Autodiff and backends",
        "How agnoreg finds out which framework an array is of.",
        "agnoreg",
        ("native_autodiff", "backend_of", "get_backend", "available_backends", "BackendNotAvailableError"),
    ),
    Group(
        "Writing an adapter",
        "See [adapters](adapters.md).",
        "agnoreg.backend",
        ("Backend", "Dtypes", "Execution", "Operations", "Autodiff", "Counting"),
        with_members=True,
    ),
    Group(
        "Writing a loss",
        "What the author of a measure imports. A [family](design.md#how-to-add-a-measure) does the rest.",
        "agnoreg.measures.author",
        (
            "ImageOptions",
            "LabelOptions",
            "FieldOptions",
            "Masks",
            "FieldMask",
            "number",
            "integer",
            "share",
            "flag",
            "choice",
            "pair_function",
            "field_function",
        ),
    ),
    *(Group("", "", f"agnoreg.measures.families.{module}", (name,), with_members=True) for module, name in FAMILIES),
    Group("MONAI's names", "See [migration from MONAI](migration/monai.md).", "agnoreg.compat.monai"),
    Group("Keras", "See [losses in Keras](losses.md).", "agnoreg_keras"),
)

#: Documented elsewhere.
SKIPPED = {("agnoreg.loss", "Loss")}


def members(group: Group) -> dict[str, Any]:
    """Return a group's functions and classes by name."""
    module = importlib.import_module(group.module)
    names = group.names or tuple(module.__all__)
    found = {name: getattr(module, name) for name in names if (group.module, name) not in SKIPPED}
    return {name: one for name, one in found.items() if callable(one) and not inspect.ismodule(one)}
