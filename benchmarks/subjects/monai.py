"""MONAI's losses of registration, on PyTorch."""

from benchmarks.inputs import FIELDS
from benchmarks.subjects import NotOfferedError, by_autograd

COMPACT = "second differences are x[i+1] - 2 x[i] + x[i-1] (ours and DeepReg's: central differences applied twice)"


def build(loss, arrays, backend, device):
    """Return MONAI's loss, with the constants of ours where it has them as arguments."""
    import torch
    from monai.losses import (
        BendingEnergyLoss,
        DiceLoss,
        DiffusionLoss,
        GlobalMutualInformationLoss,
        LocalNormalizedCrossCorrelationLoss,
    )

    options = {key: value for key, value in loss.items() if key != "name"}
    makers = {
        "lncc": lambda: LocalNormalizedCrossCorrelationLoss(**{"kernel_size": 9} | options, smooth_nr=1e-5),
        "gmi": lambda: GlobalMutualInformationLoss(**options, smooth_nr=1e-5, smooth_dr=1e-5),
        "bending": BendingEnergyLoss,
        "gradient": DiffusionLoss,
        "dice": DiceLoss,
        "jaccard": lambda: DiceLoss(jaccard=True),
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
