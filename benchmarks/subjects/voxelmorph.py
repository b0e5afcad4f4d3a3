"""VoxelMorph's losses on PyTorch, which are neurite's since VoxelMorph 0.3."""

from benchmarks.inputs import FIELDS
from benchmarks.subjects import NotOfferedError, by_autograd

FORWARD = "forward differences (ours: central), averaged over the axes (ours: added up)"
SQUARED = "squares in the denominator of Dice"


def build(loss, arrays, backend, device):
    """Return neurite's function, negated where it is a similarity."""
    import torch
    from neurite.nn import functional

    name = loss["name"]
    width = loss.get("kernel_size", 9)
    functions = {
        "lncc": lambda t, p: -functional.ncc(t, p, window_size=width),
        "gradient": functional.spatial_gradient,
        "dice": lambda t, p: -functional.dice(t, p),
        "ssd": functional.mse,
    }
    if name not in functions or loss.get("kernel_type", "rectangular") != "rectangular":
        raise NotOfferedError("VoxelMorph has no such loss")
    tensors = [torch.tensor(x, device=device) for x in arrays]
    tensors = [x.movedim(-1, 1).contiguous() if name in FIELDS else x[:, None] for x in tensors]
    return by_autograd(functions[name], tensors, differs={"gradient": FORWARD, "dice": SQUARED}.get(name, ""))
