"""Bare arithmetic in each framework: what a loss costs at the least, and what a call adds to it.

The name of a loss is ``pass``: ``t - p``, which reads both inputs and writes something of the gradient's size by one
operation; ``scaled pass``: ``(t - p) * a``, two operations; or that of a pointwise loss: its value and gradient as one
writes them down, with no check, no tape and no slab.
"""

from benchmarks.subjects import NotOfferedError, Work

EPS = 1e-5


def build(loss, arrays, backend, device):
    """Return the arithmetic on ``backend``, as `agnoreg.build_loss` would name the loss."""
    name, _, mode = backend.partition(" ")
    if loss["name"] not in FORMULAS:
        raise NotOfferedError("written for pointwise losses only")
    xp, tensors = NAMESPACES[name](arrays, device)
    both = FORMULAS[loss["name"]]
    if name == "jax":
        import jax

        value = jax.jit(lambda *pair: both(xp, *pair)[0])
        compiled = jax.jit(lambda *pair: both(xp, *pair))
        return Work(lambda: jax.block_until_ready(value(*tensors)), lambda: jax.block_until_ready(compiled(*tensors)))
    if mode == "graph":
        import tensorflow as tf

        traced = tf.function(lambda *pair: both(xp, *pair))
        return Work(lambda: traced(*tensors)[0], lambda: traced(*tensors))
    return Work(lambda: both(xp, *tensors)[0], lambda: both(xp, *tensors))


def _numpy(arrays, device):
    import numpy as np

    return np, arrays


def _cupy(arrays, device):
    import cupy

    return cupy, [cupy.asarray(x) for x in arrays]


def _torch(arrays, device):
    import torch

    return torch, [torch.tensor(x, device=device) for x in arrays]


class _TensorFlow:
    """The names that the formulas use."""

    def __init__(self, tf):
        self.sum, self.mean, self.log = tf.reduce_sum, tf.reduce_mean, tf.math.log


def _tensorflow(arrays, device):
    import tensorflow as tf

    with tf.device(device or "/CPU:0"):
        return _TensorFlow(tf), [tf.constant(x) for x in arrays]


def _jax(arrays, device):
    import jax

    return jax.numpy, [jax.device_put(x, device and jax.devices(device)[0]) for x in arrays]


def _pass(xp, t, p):
    return 0.0, t - p


def _scaled_pass(xp, t, p):
    return 0.0, (t - p) * 0.5


def _ssd(xp, t, p):
    d = p - t
    return xp.mean(d * d), d * (2 / _count(t))


def _dice(xp, t, p):
    product, both = xp.sum(t * p), xp.sum(t) + xp.sum(p) + EPS
    score = (2 * product + EPS) / both
    return -score, (score - 2 * t) / both


def _jaccard(xp, t, p):
    product = xp.sum(t * p)
    union = xp.sum(t) + xp.sum(p) - product + EPS
    index = (product + EPS) / union
    return -index, (index * (1 - t) - t) / union


def _cross_entropy(xp, t, p):
    p = p + EPS
    return -xp.mean(t * xp.log(p)), t / p * (-1 / _count(t))


def _gncc(xp, t, p):
    t, p = t - xp.mean(t), p - xp.mean(p)
    cross, vt, vp = xp.mean(t * p), xp.mean(t * t), xp.mean(p * p)
    bottom = vt * vp + EPS
    score = (cross * cross + EPS) / bottom
    return -score, (p * (score * vt) - t * cross) * (2 / (_count(t) * bottom))


def _count(x):
    count = 1
    for n in x.shape:
        count *= int(n)
    return count


NAMESPACES = {"numpy": _numpy, "cupy": _cupy, "torch": _torch, "tensorflow": _tensorflow, "jax": _jax}
FORMULAS = {
    "pass": _pass,
    "scaled pass": _scaled_pass,
    "ssd": _ssd,
    "dice": _dice,
    "jaccard": _jaccard,
    "cross-entropy": _cross_entropy,
    "gncc": _gncc,
}
