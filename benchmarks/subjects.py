"""What is measured: agnoreg's losses on each framework, and the same functions of other libraries.

A subject is built inside its own process. It returns two functions of no arguments, ``value()`` and ``gradient()``,
where the latter computes the value and its gradient with respect to ``y_pred`` (or the field) and both return the
value as a float.
"""

from collections.abc import Callable

import numpy as np

Work = tuple[Callable[[], float], Callable[[], float]]

FIELDS = ("bending", "gradient")


def images(size, seed=0):
    """Return two smooth random images in [0, 1], or what a field is made of, as float32 ``(1, *size)``."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    pair = [gaussian_filter(rng.standard_normal(size, dtype=np.float32), 2) for _ in range(2)]
    return [((x - x.min()) / (x.max() - x.min()))[None] for x in pair]


def field(size, seed=0):
    """Return a random displacement field, float32 ``(1, *size, 3)``."""
    return np.random.default_rng(seed).standard_normal((1, *size, 3), dtype=np.float32)


def inputs(loss, size):
    """Return the inputs of a loss of that name."""
    return [field(size)] if loss in FIELDS else images(size)


def agnoreg(loss, size, backend, device) -> Work:
    """Build agnoreg's loss on a framework."""
    import agnoreg

    adapter = agnoreg.get_backend(backend)
    function = agnoreg.build_loss(loss)
    arrays = [adapter.from_numpy(x, device=device) for x in inputs(loss["name"], size)]

    def number(value):
        return float(adapter.to_numpy(value))

    return (
        lambda: number(function(*arrays)),
        lambda: number(agnoreg.value_and_grad(function, *arrays)[0]),
    )


def monai(loss, size, backend, device) -> Work:
    """Build MONAI's loss of the same definition, where it has one."""
    import torch
    from monai.losses import (
        BendingEnergyLoss,
        DiceLoss,
        DiffusionLoss,
        GlobalMutualInformationLoss,
        LocalNormalizedCrossCorrelationLoss,
    )

    makers = {
        "lncc": lambda: LocalNormalizedCrossCorrelationLoss(kernel_size=loss.get("kernel_size", 9), smooth_nr=1e-5),
        "gmi": GlobalMutualInformationLoss,
        "bending": BendingEnergyLoss,
        "gradient": DiffusionLoss,
        "dice": DiceLoss,
        "ssd": torch.nn.MSELoss,
    }
    function = makers[loss["name"]]()
    arrays = [torch.tensor(x, device=device) for x in inputs(loss["name"], size)]
    # Channels first: MONAI's layout, made before anything is measured.
    arrays = [x.movedim(-1, 1).contiguous() if loss["name"] in FIELDS else x[:, None] for x in arrays]
    ordered = arrays[::-1]

    def gradient():
        pred = ordered[0].detach().requires_grad_()
        value = function(pred, *ordered[1:])
        value.backward()
        return float(value.detach())

    def value():
        with torch.no_grad():
            return float(function(*ordered))

    return value, gradient


def deepreg_formula(loss, size, backend, device) -> Work:
    """Build LNCC as DeepReg's formula is usually written: five separable tf.nn.conv3d sums, and autodiff."""
    import tensorflow as tf

    if loss["name"] != "lncc":
        raise KeyError(loss["name"])
    width = loss.get("kernel_size", 9)
    true, pred = (tf.constant(x[..., None]) for x in inputs("lncc", size))
    kernels = [tf.ones([width if axis == i else 1 for i in range(3)] + [1, 1]) for axis in range(3)]

    def window(x):
        for kernel in kernels:
            x = tf.nn.conv3d(x, kernel, strides=[1] * 5, padding="SAME")
        return x

    def lncc(t, p):
        volume = float(width**3)
        st, sp = window(t), window(p)
        cross = window(t * p) - st * sp / volume
        vt = tf.maximum(window(t * t) - st * st / volume, 0)
        vp = tf.maximum(window(p * p) - sp * sp / volume, 0)
        return -tf.reduce_mean((cross * cross + 1e-5) / (vt * vp + 1e-5))

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(pred)
            value = lncc(true, pred)
        tape.gradient(value, pred)
        return float(value)

    return lambda: float(lncc(true, pred)), gradient


SUBJECTS = {"agnoreg": agnoreg, "monai": monai, "deepreg-formula": deepreg_formula}
