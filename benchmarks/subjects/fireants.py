"""FireANTs' losses on PyTorch, without its compiled CUDA operators."""

from benchmarks.subjects import NotOfferedError, by_autograd

VARIANCES = "the constants are added to variances (ours: to window sums)"
CENTRES = "bin centres are (i + 0.5) / 23 (ours: i / 22)"


def build(loss, arrays, backend, device):
    """Return FireANTs' loss with the widths of ours."""
    import torch
    from fireants.losses.cc import LocalNormalizedCrossCorrelationLoss
    from fireants.losses.mi import GlobalMutualInformationLoss

    options = {key: value for key, value in loss.items() if key != "name"}
    makers = {
        "lncc": lambda: LocalNormalizedCrossCorrelationLoss(**{"kernel_size": 9} | options),
        "gmi": lambda: GlobalMutualInformationLoss(num_bins=options.get("num_bins", 23)),
    }
    if loss["name"] not in makers:
        raise NotOfferedError("FireANTs has no such loss")
    function = makers[loss["name"]]()
    tensors = [torch.tensor(x, device=device)[:, None] for x in arrays]
    return by_autograd(
        lambda *pair: function(*pair[::-1]), tensors, differs={"lncc": VARIANCES, "gmi": CENTRES}[loss["name"]]
    )
