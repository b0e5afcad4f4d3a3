"""MONAI's losses of registration, on PyTorch."""

from importlib import import_module

from benchmarks.inputs import FIELDS
from benchmarks.subjects import NotOfferedError, by_autograd

COMPACT = "second differences are x[i+1] - 2 x[i] + x[i-1] (ours and DeepReg's: central differences applied twice)"


def build(loss, arrays, backend, device, module="monai.losses"):
    """Return MONAI's loss, with the constants of ours where it has them as arguments; or that of another module."""
    import torch

    theirs = import_module(module)
    options = {key: value for key, value in loss.items() if key != "name"}
    makers = {
        "lncc": lambda: theirs.LocalNormalizedCrossCorrelationLoss(**{"kernel_size": 9} | options, smooth_nr=1e-5),
        "gmi": lambda: theirs.GlobalMutualInformationLoss(**options, smooth_nr=1e-5, smooth_dr=1e-5),
        "bending": theirs.BendingEnergyLoss,
        "gradient": theirs.DiffusionLoss,
        "dice": theirs.DiceLoss,
        "jaccard": lambda: theirs.DiceLoss(jaccard=True),
    }
    if loss["name"] not in makers:
        raise NotOfferedError("MONAI has no such loss")
    function = makers[loss["name"]]()
    tensors = [torch.tensor(x, device=device) for x in arrays]
    # Channels first is MONAI's layout; it is made before anything is measured.
    tensors = [x.movedim(-1, 1).contiguous() if loss["name"] in FIELDS else x[:, None] for x in tensors]
    offset = -1.0 if loss["name"] in ("dice", "jaccard") else 0.0
    return by_autograd(
        lambda *pair: function(*pair[::-1]),
        tensors,
        number=lambda value: float(value) + offset,
        differs=COMPACT if loss["name"] == "bending" else "",
    )
