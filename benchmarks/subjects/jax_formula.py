"""LNCC as one writes it down in JAX: sums by `jax.lax.reduce_window` in float32, an axis at a time, and autodiff."""

from benchmarks.subjects import NotOfferedError, by_jit

EPS = 1e-5


def build(loss, arrays, backend, device):
    """Return the formula, compiled by ``jax.jit``."""
    if loss["name"] != "lncc" or loss.get("kernel_type", "rectangular") != "rectangular" or backend != "jax":
        raise NotOfferedError("written for LNCC's rectangular windows only")
    import jax

    function = lncc(jax, loss.get("kernel_size", 9))
    return by_jit(function, [jax.device_put(x, device and jax.devices(device)[0]) for x in arrays])


def lncc(jax, width):
    """Return the loss of windows ``width`` wide."""
    lax, xp, volume = jax.lax, jax.numpy, float(width**3)

    def window(x):
        for axis in (1, 2, 3):
            x = lax.reduce_window(x, 0.0, lax.add, [width if i == axis else 1 for i in range(4)], [1] * 4, "SAME")
        return x

    def loss(t, p):
        st, sp = window(t), window(p)
        cross = window(t * p) - st * sp / volume
        vt = xp.maximum(window(t * t) - st * st / volume, 0)
        vp = xp.maximum(window(p * p) - sp * sp / volume, 0)
        return -xp.mean((cross * cross + EPS) / (vt * vp + EPS))

    return loss
