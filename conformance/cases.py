"""What is checked: every loss with every option that changes its formula, on inputs of several kinds and shapes."""

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import agnoreg
from agnoreg.measures.families.histogram import JointHistogram
from agnoreg.measures.families.images import VolumeMeasure
from agnoreg.measures.families.stencil import Stencil
from agnoreg.objects.mixins import metric_of

from . import reference

#: What each registered loss is: its metric's class and its own. Others than agnoreg's may be registered, too.
REGISTERED = {
    name: list(dict.fromkeys((metric_of(cls), cls)))
    for name, cls in agnoreg.registered_losses().items()
    if cls.__module__.startswith("agnoreg.")
}
#: The row of the table that a class belongs to, and the class.
FAMILIES = {cls.__name__: (name, cls) for name, classes in REGISTERED.items() for cls in classes}


@dataclass(frozen=True)
class Case:
    """One class with its options, the kind of input that it is given, and the kind of mask if there is one."""

    cls: str
    kind: str
    options: tuple[tuple[str, Any], ...] = ()
    masked: str = ""

    @property
    def family(self) -> str:
        """The loss's name in the registry: a row of the table."""
        return FAMILIES[self.cls][0]

    @property
    def blocks(self) -> list[str]:
        """The blocks of the table, beside that of its dtype, that this case has a part in."""
        options = dict(self.options)
        blocks = {
            "dims": options.get("spatial_dims", 3) != 3,
            "channels first": options.get("data_format") == "channels_first",
            "masks": bool(self.masked),
            "conventions": options.get("convention", "deepreg") not in ("deepreg", "exact"),
            "exact": options.get("convention") == "exact",
        }
        return [block for block, present in blocks.items() if present]

    @property
    def inputs(self) -> int:
        """2 images or labels, or 1 field."""
        return 1 if self.kind.startswith("field") else 2

    @property
    def needs_neighbours(self) -> bool:
        """Whether a voxel counts only where its neighbours do."""
        formula = getattr(loss_class(self.cls), "formula", None)
        return self.inputs == 1 or (isinstance(formula, type) and issubclass(formula, Stencil))

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}".replace(" ", "") for name, value in self.options)
        return f"{self.cls}({options})-{self.kind}" + (f"-{self.masked}" if self.masked else "")

    def build(self, **more: Any) -> Any:
        """Return the loss."""
        return loss_class(self.cls)(**dict(self.options), **more)

    def arrays(self, shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, ...]:
        """Return float64 inputs of this case's kind and this shape, the same ones at every call."""
        return make(self.kind, shape, zlib.crc32(f"{self}{shape}{seed}".encode()))

    def masks(self, *arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Return masks for these inputs by their names, bools or float32 numbers; none where the case has none."""
        if not self.masked:
            return {}
        shape, first = arrays[0].shape, dict(self.options).get("data_format") == "channels_first"
        place, seed = 1 if first else len(shape) - 1, zlib.crc32(f"{self}{shape}".encode())
        return make_masks(self.masked, shape, place, self.inputs == 1, seed, self.needs_neighbours)

    def expected(self, *arrays: np.ndarray, **masks: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Return the reference's value and gradients for these inputs, and masks as `masks` makes them."""
        return _expected(self, tuple(map(_frozen, arrays)), tuple(map(_frozen, masks.values())))

    def expected_map(self, *arrays: np.ndarray) -> np.ndarray:
        """Return the reference's map of local correlations, ``(B, d1, d2, d3)``, for these images."""
        return _expected_map(self, *map(_frozen, arrays))


# Every backend asks for the same reference, which is slow: it is computed once.

Frozen = tuple[bytes, tuple[int, ...]]


def _frozen(array: np.ndarray) -> Frozen:
    return np.asarray(array, dtype=np.float64).tobytes(), array.shape


def _thawed(frozen: Frozen) -> np.ndarray:
    return np.frombuffer(frozen[0], dtype=np.float64).reshape(frozen[1])


@lru_cache(maxsize=4096)
def _expected(
    case: Case, inputs: tuple[Frozen, ...], masks: tuple[Frozen, ...]
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    mask = None
    if masks:
        mask = math.prod(map(_thawed, masks))
        # Without the axis of channels it has one axis less than an image; that of a field has no components.
        place = 1 if dict(case.options).get("data_format") == "channels_first" else -1
        rank = len(inputs[0][1])
        if case.inputs == 2 and mask.ndim < rank:
            mask = np.expand_dims(mask, place)
        elif case.inputs == 1 and mask.ndim == rank:
            mask = np.squeeze(mask, place)
    return reference.evaluate(case.cls, dict(case.options), *map(_thawed, inputs), mask=mask)


@lru_cache(maxsize=4096)
def _expected_map(case: Case, *inputs: Frozen) -> np.ndarray:
    return reference.lncc_map(*map(_thawed, inputs), **dict(case.options))


def loss_class(cls: str) -> Any:
    """Return the class called ``cls`` of agnoreg.loss."""
    return FAMILIES[cls][1]


#: Kinds of fields: how many dimensions they have, and whether their components come first.
FIELDS = {
    "field": (3, False),
    "field, components first": (3, True),
    "field of a plane": (2, False),
    "field of a plane, components first": (2, True),
    "field of a line": (1, False),
}


#: Images that are no volumes, or have channels, by how their kind's name ends: their shape, from that of a volume.
LAYOUTS = {
    "": lambda shape: shape,
    " of a plane": lambda shape: shape[:3],
    " of a line": lambda shape: shape[:2],
    " of channels": lambda shape: (*shape[:4], 2),
    ", channels first": lambda shape: (shape[0], 2, *shape[1:4]),
    " of a line, channels first": lambda shape: (shape[0], 3, shape[1]),
    " of a plane, channels first": lambda shape: (shape[0], 3, *shape[1:3]),
}


def make(kind: str, shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, ...]:
    """Return the inputs of a kind: two images or label maps that resemble each other, or a field."""
    rng = np.random.default_rng(seed)
    if kind in FIELDS:
        dims, first = FIELDS[kind]
        sizes = shape[1 : dims + 1]
        return (rng.normal(scale=2.0, size=(shape[0], dims, *sizes) if first else (shape[0], *sizes, dims)),)
    contents = kind.partition(",")[0].partition(" of ")[0]
    shape, kind = LAYOUTS[kind.removeprefix(contents)](shape), contents
    t = rng.uniform(size=shape)
    p = np.clip(0.7 * t + 0.3 * rng.uniform(size=shape), 0.0, 1.0)
    if kind == "image":
        return t, p
    if kind == "small":  # of little contrast, one spot brighter
        for x, place in ((t, 0), (p, -1)):
            x *= 0.1
            x[(slice(None), *(place for _ in shape[1:]))] = 1.0
        return t, p
    if kind == "background":  # a scaled image: much of it exactly 0, its maximum exactly 1
        return tuple(np.where(x < 0.4, 0.0, np.where(x > 0.9, 1.0, x)) for x in (t, p))
    if kind == "beyond":  # a tenth outside [0, 1] at each end
        return 1.2 * t - 0.1, 1.2 * p - 0.1
    if kind == "soft":  # labels in [0, 1], none of them within 1e-2 of the threshold
        return tuple(x + np.where(np.abs(x - 0.5) < 0.01, 0.05, 0.0) for x in (t, p))
    if kind == "hard":  # 0 and 1
        return tuple(np.where(x > 0.6, 1.0, 0.0) for x in (t, p))
    if kind == "steps":  # multiples of 1/4: the threshold itself is met
        return tuple(np.round(4 * x) / 4 for x in (t, p))
    raise ValueError(f"Unknown kind of input {kind!r}.")


def make_masks(
    kind: str, shape: tuple[int, ...], place: int, field: bool, seed: int, region: bool
) -> dict[str, np.ndarray]:
    """Return masks of a kind, by name, for images or a field of this shape, with channels or components in this place.

    About 30 % of the voxels have no weight: any of them, or those of a region, where stencils need neighbours.
    """
    rng, what = np.random.default_rng(seed), kind.split(", ")
    if "batch of 1" in what:
        shape = (1, *shape[1:])
    if "without channels" in what or field:
        shape = (*shape[:place], *shape[place + 1 :])
    if "of a plane" in what:
        shape = (*shape[:-1], 1)

    def there() -> np.ndarray:
        if not region:
            return rng.uniform(size=shape) > 0.3
        axis = int(np.argmax(shape[1:])) + 1
        along = np.arange(shape[axis]).reshape((-1,) + (1,) * (len(shape) - axis - 1))
        return along + rng.uniform(size=shape) > 0.3 * shape[axis]

    def soft() -> np.ndarray:
        return (there() * rng.uniform(0.1, 2.0, size=shape)).astype(np.float32)

    if "fixed and moving" in what:
        return {"fixed_mask": there(), "moving_mask": soft()}
    mask = there() if "bool" in what else soft()
    return {"mask": np.expand_dims(mask, place) if "one component" in what else mask}


#: Batches 1, 2 and 3; even, odd and anisotropic sizes; sizes below the default window.
SHAPES = {
    "even": (2, 8, 10, 12),
    "odd": (1, 9, 11, 7),
    "small": (3, 5, 6, 5),
    "long": (1, 20, 5, 10),
}
#: A trailing channel axis, and fewer axes than a volume's, for the losses that take them.
CHANNEL = (2, 8, 7, 9, 1)
CHANNELS = (2, 6, 7, 8, 3)
PLANE = (3, 11, 10)
ROW = (2, 37)


def _variants(cls: str, kind: str, *options: dict[str, Any]) -> list[Case]:
    return [Case(cls, kind, tuple(option.items())) for option in ({}, *options)]


def _overlap(cls: str) -> list[Case]:
    return [
        *_variants(
            cls,
            "soft",
            {"background_weight": 0.3},
            {"background_weight": 1.0},
            {"smooth_nr": 1e-2, "smooth_dr": 1e-1},
        ),
        Case(cls, "steps", (("binary", True),)),
        Case(cls, "steps", (("binary", True), ("background_weight", 0.1))),
        Case(cls, "hard"),
    ]


def _local(kind: str, *options: dict[str, Any]) -> list[Case]:
    return [Case("LocalNormalizedCrossCorrelation", kind, tuple(option.items())) for option in options]


_SPACINGS = ({"spacing": 1.5}, {"spacing": (0.7, 1.5, 2.0)})


def _fields(cls: str) -> list[Case]:
    """Return a case of each kind of field that is not the default one, with a spacing of its own along each axis."""
    cases = []
    for kind, (dims, first) in FIELDS.items():
        options = {"spacing": (0.7, 1.5, 2.0)[-dims:], "spatial_dims": dims}
        options |= {"data_format": "channels_first"} if first else {}
        cases.append(Case(cls, kind, tuple(options.items())))
        cases.append(Case(cls, kind, (*options.items(), ("stencil", "compact"))))
    return cases[1:]


_SCALES = (
    {"scales": (0, 1, 2)},
    {"scales": (0.5, 2.2), "kernel": "cauchy"},
    {"scales": 1.0},
)

#: Every class with its default options comes first among its own.
CASES: list[Case] = [
    *_variants("GlobalMutualInformation", "image", {"num_bins": 11, "sigma_ratio": 0.8}, {"num_bins": 2}),
    Case("GlobalMutualInformation", "background"),
    Case("GlobalMutualInformation", "beyond"),
    Case("GlobalMutualInformationLoss", "image"),
    *_variants(
        "LocalNormalizedCrossCorrelation",
        "image",
        {"kernel_size": 1},
        {"kernel_size": 4},
        {"kernel_size": 5, "smooth_nr": 1e-3, "smooth_dr": 1e-2},
        {"kernel_size": 12},
        {"kernel_size": 3, "kernel_type": "triangular"},
        {"kernel_size": 9, "kernel_type": "triangular"},
        {"kernel_size": 4, "kernel_type": "gaussian"},
        {"kernel_size": 7, "kernel_type": "gaussian"},
    ),
    Case("LocalNormalizedCrossCorrelation", "background", (("kernel_size", 3),)),
    *_local("image", {"kernel_size": (3, 5, 4)}, {"kernel_size": (1, 3, 1), "kernel_type": "gaussian"}),
    *_local("image", {"padding": "truncate"}, {"kernel_size": 4, "kernel_type": "gaussian", "padding": "truncate"}),
    *_local("image of a plane", {"kernel_size": 5, "spatial_dims": 2}, {"kernel_size": (3, 4), "spatial_dims": 2}),
    *_local("image of a line", {"kernel_size": 3, "spatial_dims": 1}),
    *_local("image of channels", {"kernel_size": 3, "data_format": "channels_last"}),
    *_local("image, channels first", {"kernel_size": 3, "data_format": "channels_first"}),
    *_local("image of a plane, channels first", {"kernel_size": 5, "spatial_dims": 2, "data_format": "channels_first"}),
    *_local(
        "image",
        {"kernel_size": 5, "squared": False},
        {"kernel_size": 4, "squared": False, "smooth_nr": 1e-3, "smooth_dr": 1e-2, "padding": "truncate"},
        {"kernel_size": 3, "kernel_type": "gaussian", "squared": False},
    ),
    *_local("background", {"kernel_size": 3, "flat_value": 0.25}, {"kernel_size": 3, "convention": "ants"}),
    Case("LocalNormalizedCrossCorrelationLoss", "image"),
    *_variants(
        "GlobalNormalizedCrossCorrelation",
        "image",
        {"smooth_nr": 1e-3, "smooth_dr": 1e-2},
        {"squared": False},
        {"squared": False, "smooth_nr": 1e-3, "smooth_dr": 1e-2},
    ),
    *_variants("GlobalNormalizedCrossCorrelationLoss", "image"),
    *_variants("SumSquaredDifference", "image"),
    *_variants("SumSquaredDifferenceLoss", "image", *_SCALES),
    *_overlap("DiceScore"),
    *_variants("DiceLoss", "soft", *_SCALES),
    *_overlap("JaccardIndex"),
    *_variants("JaccardLoss", "soft", *_SCALES),
    *_variants("CrossEntropy", "soft", {"background_weight": 0.2}, {"background_weight": 1.0}, {"smooth": 1e-3}),
    Case("CrossEntropy", "steps", (("binary", True), ("background_weight", 0.5))),
    Case("CrossEntropy", "hard", (("background_weight", 0.2),)),
    *_variants("CrossEntropyLoss", "soft", *_SCALES),
    *_variants("GradientNorm", "field", {"l1": True}, *_SPACINGS, {"l1": True, "spacing": (0.7, 1.5, 2.0)}),
    *_variants("BendingEnergy", "field", *_SPACINGS),
    Case("GradientNorm", "field", (("stencil", "compact"),)),
    Case("GradientNorm", "field", (("stencil", "compact"), ("l1", True), ("spacing", (0.7, 1.5, 2.0)))),
    Case("BendingEnergy", "field", (("stencil", "compact"),)),
    *(case for cls in ("GradientNorm", "BendingEnergy") for case in _fields(cls)),
    Case("GradientNorm", "field of a plane", (("l1", True), ("spatial_dims", 2), ("spacing", (0.5, 2.0)))),
]

#: Images of fewer axes and with their channels first, where channels matter or scales do.
for _cls, _kind, _more in (
    ("GlobalMutualInformation", "image", {}),
    ("GlobalNormalizedCrossCorrelation", "image", {}),
    ("SumSquaredDifference", "image", {}),
    ("SumSquaredDifferenceLoss", "image", {"scales": (0, 1)}),
    ("DiceLoss", "soft", {"scales": (0, 1)}),
    ("JaccardLoss", "soft", {"scales": (0, 1)}),
    ("CrossEntropyLoss", "soft", {"scales": (0, 1)}),
):
    for _where, _axes in (
        ("", {"data_format": "channels_first"}),
        (" of a plane", {"spatial_dims": 2, "data_format": "channels_first"}),
        (" of a plane", {"spatial_dims": 2}),
        (" of a line", {"spatial_dims": 1}),
    ):
        _first = ", channels first" if "data_format" in _axes else ""
        CASES.append(Case(_cls, f"{_kind}{_where}{_first}", tuple((_more | _axes).items())))

#: Other libraries' formulas; `tests/measures/test_conventions.py` compares them with the libraries.
CASES += [
    *_local("image", *({"kernel_size": 3, "convention": name} for name in ("monai", "voxelmorph", "ants"))),
    *_local("image", *({"kernel_size": k, "kernel_type": "triangular", "convention": "monai"} for k in (3, 5, 7))),
    *_local("image", {"kernel_size": 5, "kernel_type": "gaussian", "convention": "monai"}),
    *_local("background", {"kernel_size": 3, "convention": "monai"}),
    Case("LocalNormalizedCrossCorrelationLoss", "image", (("convention", "monai"),)),
    Case("GlobalMutualInformation", "image", (("convention", "monai"),)),
    Case("GlobalMutualInformation", "image", (("smooth_nr", 1e-3), ("smooth_dr", 1e-2))),
    Case("DiceScore", "soft", (("squared", True), ("background_weight", 0.2))),
    *(
        Case("DiceLoss", kind, (("convention", name), *layout))
        for name, kind, layout in (
            ("monai", "soft", ()),
            ("monai", "soft of channels", (("data_format", "channels_last"),)),
            ("monai", "soft, channels first", (("data_format", "channels_first"), ("scales", (0, 1)))),
            ("voxelmorph", "soft, channels first", (("data_format", "channels_first"),)),
            ("ants", "steps", ()),
        )
    ),
    Case("GradientNorm", "field", (("convention", "monai"),)),
    Case("GradientNorm", "field", (("convention", "voxelmorph"),)),
    Case("GradientNorm", "field of a plane", (("convention", "voxelmorph"), ("l1", True), ("spatial_dims", 2))),
    Case("BendingEnergy", "field", (("convention", "monai"),)),
]

#: Correlations without constants: of images with flat windows, of even windows, signed, of images of fewer axes.
CASES += [
    *(
        Case("GlobalNormalizedCrossCorrelation", kind, (("convention", "exact"), *more))
        for kind, more in (
            ("image", ()),
            ("image", (("squared", False),)),
            ("small", ()),
            ("small", (("squared", False),)),
            ("image of a plane", (("spatial_dims", 2),)),
        )
    ),
    *_local(
        "image",
        {"convention": "exact"},
        {"kernel_size": 4, "squared": False, "convention": "exact"},
        {"kernel_size": 5, "kernel_type": "gaussian", "convention": "exact"},
        {"kernel_size": 3, "kernel_type": "triangular", "padding": "zero", "convention": "exact"},
    ),
    *_local("small", {"kernel_size": 3, "convention": "exact"}),
    *_local(
        "background",
        {"kernel_size": 3, "convention": "exact"},
        {"kernel_size": 4, "squared": False, "convention": "exact"},
        {"kernel_size": 3, "flat_value": 0.25, "convention": "exact"},
    ),
    *_local("image of a plane", {"kernel_size": 5, "spatial_dims": 2, "convention": "exact"}),
    *_local("image of a line", {"kernel_size": 9, "spatial_dims": 1, "convention": "exact"}),
    *_local("image of channels", {"kernel_size": 3, "data_format": "channels_last", "convention": "exact"}),
    Case("LocalNormalizedCrossCorrelationLoss", "background", (("kernel_size", 3), ("convention", "exact"))),
]

#: Mutual information of narrow windows and many bins, steep functions of intensity, and of more bins than usual.
NARROW: list[Case] = [
    Case("GlobalMutualInformation", "image", (("num_bins", bins), ("sigma_ratio", sigma)))
    for bins, sigma in (
        *((bins, sigma) for bins in (23, 64, 256) for sigma in (0.02, 0.09, 0.1, 0.11, 0.12, 0.15)),
        (256, 0.5),
        (1000, 0.3),
        (40, 0.19),
    )
]

#: LNCC of images that are single voxels along some axes, where windows hold little but what lies beyond the border.
THIN_SHAPES = {"plane": (2, 6, 7, 1), "line": (1, 1, 13, 1), "column": (2, 9, 1, 1)}
THIN: list[Case] = [
    *(
        Case("LocalNormalizedCrossCorrelation", "image", tuple(options.items()), mask)
        for mask in ("", "soft")
        for options in (
            {},
            {"kernel_size": (3, 4, 5), "padding": "truncate"},
            {"kernel_size": 4, "kernel_type": "gaussian"},
            {"kernel_size": 5, "kernel_type": "triangular", "squared": False},
            {"kernel_size": 3, "padding": "zero", "convention": "exact"},
        )
    ),
    Case(
        "LocalNormalizedCrossCorrelation", "image of channels", (("kernel_size", 3), ("data_format", "channels_last"))
    ),
]

#: A measure of which nothing else is listed has its default options checked, on the kind of input that it is of.
KINDS = {"images": "image", "labels": "soft", "field": "field"}
for _name, _classes in REGISTERED.items():
    for _metric in _classes:
        if not any(case.cls == _metric.__name__ for case in CASES):
            CASES.append(Case(_metric.__name__, KINDS[_metric.measured_on[0]]))

#: One case a class: its default options.
DEFAULTS: list[Case] = list({case.cls: case for case in reversed(CASES) if not case.options}.values())[::-1]


def _masked(cls: str, kind: str, mask: str, **options: Any) -> Case:
    return Case(cls, kind, tuple(options.items()), mask)


_LNCC = "LocalNormalizedCrossCorrelation"

#: Every family with masks of every kind, and its options that meet them in another way.
MASKED: list[Case] = [
    _masked("GlobalMutualInformation", "image", "bool"),
    _masked("GlobalMutualInformation", "beyond", "soft, batch of 1", num_bins=11, sigma_ratio=0.8),
    _masked("GlobalMutualInformationLoss", "image of channels", "soft, without channels"),
    _masked(_LNCC, "image", "bool"),
    _masked(_LNCC, "image", "soft", kernel_size=4, smooth_nr=1e-3, smooth_dr=1e-2),
    _masked(_LNCC, "image", "soft, batch of 1", kernel_size=12),
    _masked(_LNCC, "image", "fixed and moving", kernel_size=1),
    _masked(_LNCC, "image", "soft", kernel_size=(3, 5, 4)),
    _masked(_LNCC, "image", "bool", kernel_size=5, kernel_type="triangular"),
    _masked(_LNCC, "image", "soft", kernel_size=4, kernel_type="gaussian"),
    _masked(_LNCC, "image", "soft", kernel_size=3, padding="truncate"),
    _masked(_LNCC, "image", "bool", kernel_size=7, kernel_type="gaussian", padding="truncate"),
    _masked(_LNCC, "image of a plane", "soft", kernel_size=(3, 4), spatial_dims=2),
    _masked(_LNCC, "image of a line", "bool", kernel_size=3, spatial_dims=1),
    _masked(_LNCC, "image of channels", "soft, without channels", kernel_size=3, data_format="channels_last"),
    _masked(_LNCC, "image, channels first", "bool, without channels", kernel_size=3, data_format="channels_first"),
    _masked(
        _LNCC,
        "image of a plane, channels first",
        "soft",
        kernel_size=5,
        spatial_dims=2,
        data_format="channels_first",
        padding="truncate",
    ),
    _masked("LocalNormalizedCrossCorrelationLoss", "image", "soft, of a plane"),
    _masked(_LNCC, "image", "soft", kernel_size=4, convention="exact"),
    _masked(_LNCC, "background", "bool", kernel_size=3, squared=False, convention="exact"),
    _masked(_LNCC, "background", "soft", kernel_size=3, padding="zero", convention="exact"),
    _masked(
        _LNCC,
        "image of channels",
        "soft, without channels",
        kernel_size=3,
        kernel_type="gaussian",
        data_format="channels_last",
        convention="exact",
    ),
    _masked("GlobalNormalizedCrossCorrelation", "small", "soft", convention="exact"),
    _masked("GlobalNormalizedCrossCorrelation", "image", "bool, batch of 1", squared=False, convention="exact"),
    _masked("GlobalNormalizedCrossCorrelation", "image", "bool"),
    _masked("GlobalNormalizedCrossCorrelation", "image of channels", "soft, without channels, batch of 1"),
    _masked("GlobalNormalizedCrossCorrelationLoss", "image of a plane", "fixed and moving"),
    _masked("SumSquaredDifference", "image", "soft"),
    _masked("SumSquaredDifference", "image of a line", "bool, batch of 1"),
    _masked("SumSquaredDifferenceLoss", "image", "bool", scales=(0, 1, 2)),
    _masked("DiceScore", "soft", "fixed and moving"),
    _masked("DiceScore", "soft", "soft, batch of 1", background_weight=0.3),
    _masked("DiceScore", "steps", "soft", binary=True, background_weight=0.1),
    _masked("DiceLoss", "soft", "soft", scales=(0, 1, 2)),
    _masked("DiceLoss", "soft", "bool, of a plane", scales=(0.5, 2.2), kernel="cauchy"),
    _masked("JaccardIndex", "soft", "bool"),
    _masked("JaccardIndex", "soft", "soft", background_weight=0.3),
    _masked("JaccardLoss", "soft", "fixed and moving", scales=1.0),
    _masked("CrossEntropy", "soft", "bool", smooth=1e-3),
    _masked("CrossEntropy", "soft", "soft, batch of 1", background_weight=0.2),
    _masked("CrossEntropyLoss", "soft", "soft", scales=(0, 1, 2)),
    _masked("GradientNorm", "field", "bool"),
    _masked("GradientNorm", "field", "soft, batch of 1", l1=True, spacing=(0.7, 1.5, 2.0)),
    _masked("GradientNorm", "field", "soft, one component", stencil="compact", spacing=(0.7, 1.5, 2.0)),
    _masked("GradientNorm", "field", "bool", stencil="compact", l1=True),
    _masked("GradientNorm", "field, components first", "soft", data_format="channels_first"),
    _masked("GradientNorm", "field of a plane", "soft", spatial_dims=2, spacing=(0.5, 2.0)),
    _masked("GradientNorm", "field of a plane", "soft, batch of 1", spatial_dims=2, stencil="compact"),
    _masked("GradientNorm", "field of a line", "bool", spatial_dims=1, l1=True),
    _masked("BendingEnergy", "field", "bool"),
    _masked("BendingEnergy", "field", "soft", spacing=(0.7, 1.5, 2.0)),
    _masked("BendingEnergy", "field", "soft, batch of 1", stencil="compact", spacing=1.5),
    _masked(
        "BendingEnergy",
        "field, components first",
        "soft, one component",
        stencil="compact",
        data_format="channels_first",
    ),
    _masked("BendingEnergy", "field of a plane", "soft", spatial_dims=2),
    _masked(
        "BendingEnergy",
        "field of a plane, components first",
        "bool",
        spatial_dims=2,
        spacing=(0.5, 2.0),
        data_format="channels_first",
    ),
    _masked("BendingEnergy", "field of a line", "soft", spatial_dims=1, stencil="compact"),
]

MASKED += [
    Case(classes[0].__name__, KINDS[classes[0].measured_on[0]], masked="soft")
    for classes in REGISTERED.values()
    if not any(case.cls == classes[0].__name__ for case in MASKED)
]

#: One of them for each class and kind of input.
MASKED_KINDS: list[Case] = list({(case.cls, case.kind): case for case in reversed(MASKED)}.values())[::-1]
#: And one of them for each class.
MASKED_CLASSES: list[Case] = list({case.cls: case for case in reversed(MASKED)}.values())[::-1]

#: One case a formula, for what does not depend on a loss's options; a multi-scale and negated one among them.
FORMULAS: list[Case] = [
    *(case for case in DEFAULTS if not case.cls.endswith("Loss")),
    Case("DiceLoss", "soft", (("scales", (0, 1)),)),
]


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Return the shapes that a case is checked on: all of them with default options, two otherwise."""
    if case.masked:
        return {name: SHAPES[name] for name in ("even", "long")}
    if case not in DEFAULTS:
        return {name: SHAPES[name] for name in ("even", "small")}
    more: dict[str, tuple[int, ...]] = {}
    if case.inputs == 2:
        more["channel"] = CHANNEL
    formula = getattr(loss_class(case.cls), "formula", None)
    if case.inputs == 2 and not issubclass(formula, VolumeMeasure):
        more["channels"] = CHANNELS
        if not issubclass(formula, JointHistogram):
            more |= {"plane": PLANE, "row": ROW}
    return SHAPES | more
