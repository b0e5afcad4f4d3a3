"""MONAI's losses of labels."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agnoreg.backend import backend_of
from agnoreg.compat.monai.shared import FIRST, _reduced
from agnoreg.engine.validate import check_flag, check_same_shape
from agnoreg.functional import dice, jaccard
from agnoreg.loss import label

Array = Any

#: Arguments of MONAI's DiceLoss that are not supported, with its defaults.
UNSUPPORTED: dict[str, Any] = {
    "to_onehot_y": False,
    "sigmoid": False,
    "softmax": False,
    "other_act": None,
    "batch": False,
    "weight": None,
    "soft_label": False,
    "ignore_index": None,
}


@dataclass(frozen=True)
class DiceLoss:
    """One minus the Dice score of each channel, by MONAI's formula.

    Takes two labels ``(B, C, d1, d2, d3)`` or of fewer axes, a mask in [0, 1] in each channel; in [0, 1], lower is
    better, 0 for equal binary masks. The loss of a channel is ``1 - (2 sum tp + smooth_nr) / (sum t + sum p +
    smooth_dr)``, with sums over its voxels; the loss of a sample is the mean over its channels. Two empty masks have
    ``1 - smooth_nr / smooth_dr``, which is 0.

    Parameters
    ----------
    include_background
        Whether channel 0 counts. A single channel always counts.
    squared_pred
        Use ``sum t^2 + sum p^2`` in the denominator.
    jaccard
        Return one minus the Jaccard index instead, ``(2 sum tp + smooth_nr) / (2 (sum t + sum p - sum tp) +
        smooth_dr)``; not together with ``squared_pred``.
    reduction
        ``"mean"``, ``"sum"`` (over samples and channels) or ``"none"``, which is ``(B,)``, the mean over channels.
    smooth_nr, smooth_dr
        Added to numerator and denominator.
    to_onehot_y, sigmoid, softmax, other_act, batch, weight, soft_label, ignore_index
        Only MONAI's defaults are supported: prepare the masks before the call.

    Raises
    ------
    ValueError
        If a parameter is out of range or not supported, or, when called, if the shapes do not fit.

    References
    ----------
    ``monai.losses.DiceLoss`` of MONAI 1.6.

    Examples
    --------
    >>> import numpy as np
    >>> label = np.asarray([[[0.0, 1.0, 1.0, 0.0]]])
    >>> DiceLoss()(np.asarray([[[0.0, 1.0, 0.0, 0.0]]]), label).round(4)
    np.float64(0.3333)
    """

    include_background: bool = True
    to_onehot_y: bool = False
    sigmoid: bool = False
    softmax: bool = False
    other_act: Callable[..., Any] | None = None
    squared_pred: bool = False
    jaccard: bool = False
    reduction: str = "mean"
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    batch: bool = False
    weight: Any = None
    soft_label: bool = False
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name, default in UNSUPPORTED.items():
            if getattr(self, name) is not default:
                raise ValueError(
                    f"DiceLoss does not support {name}, got {getattr(self, name)!r}: prepare the masks before the call."
                )
        for name in ("include_background", "squared_pred", "jaccard"):
            check_flag(name, getattr(self, name))
        if self.jaccard and self.squared_pred:
            raise ValueError("DiceLoss does not support jaccard=True together with squared_pred=True.")
        # This object checks the constants and reduces the values.
        score = label.DiceScore(smooth_nr=self.smooth_nr, smooth_dr=self.smooth_dr, reduction=self.reduction)
        object.__setattr__(self, "_score", score)

    def _scores(self, true: Array, pred: Array, channels: int, spatial_dims: int) -> Array:
        """Return the mean over the channels, ``(B,)``."""
        nr, dr = self.smooth_nr, self.smooth_dr
        if self.jaccard:
            # Its numerator and denominator are half of MONAI's.
            pairs = [(true[:, i, ...], pred[:, i, ...]) for i in range(channels)]
            return sum(jaccard(*pair, smooth_nr=0.5 * nr, smooth_dr=0.5 * dr) for pair in pairs) / channels
        return dice(
            true,
            pred,
            smooth_nr=nr,
            smooth_dr=dr,
            squared=self.squared_pred,
            convention="monai",
            spatial_dims=spatial_dims,
            data_format=FIRST,
        )

    def __call__(self, input: Array, target: Array) -> Array:
        """Return the loss.

        Parameters
        ----------
        input, target
            The predicted and the true masks, shape ``(B, C, d1, d2, d3)``, or fewer axes; both of one shape.

        Returns
        -------
        array
            Shape ``()``, or ``(B,)`` without a reduction.
        """
        backend = backend_of(input, target)
        pred, true = backend.prepare(input), backend.prepare(target)
        check_same_shape(backend.shape(true), backend.shape(pred))
        shape = backend.shape(pred)
        channels, dims = shape[1] if len(shape) > 1 else None, len(shape) - 2
        if channels is None or dims not in (1, 2, 3):
            raise ValueError(f"Labels must be (batch, channels, dim1[, dim2[, dim3]]), got shape {shape}.")
        if not self.include_background:
            if channels == 1:
                warnings.warn("include_background=False is ignored: there is only one channel.", stacklevel=2)
            else:
                pred, true, channels = pred[:, 1:, ...], true[:, 1:, ...], channels - 1
        with backend.execution.at(pred):
            return _reduced(self.__dict__["_score"], 1.0 - self._scores(true, pred, channels, dims), (channels,))
