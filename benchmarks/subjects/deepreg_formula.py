"""DeepReg's formulas as one writes them down in TensorFlow, and autodiff: our own rendering, not DeepReg's code."""

from benchmarks.subjects import NotOfferedError, by_tape

EPS = 1e-5


def build(loss, arrays, backend, device):
    """Return the formula in TensorFlow, eager or (``tensorflow graph``) in a tf.function."""
    import tensorflow as tf

    formulas = {"lncc": lncc, "gmi": gmi, "bending": bending, "gradient": gradient_norm}
    if loss["name"] not in formulas or backend not in ("tensorflow", "tensorflow graph"):
        raise NotOfferedError("no rendering of DeepReg's formula was written")
    options = {key: value for key, value in loss.items() if key != "name"}
    function = formulas[loss["name"]](tf, **options)
    with tf.device(device or "/CPU:0"):
        tensors = [tf.constant(x) for x in arrays]
    return by_tape(function, tensors, graph=backend == "tensorflow graph")


def lncc(tf, kernel_size=9, kernel_type="rectangular"):
    """Return LNCC by five separable tf.nn.conv3d sums."""
    if kernel_type != "rectangular":
        raise NotOfferedError("written for rectangular windows only")
    kernels = [tf.ones([kernel_size if axis == i else 1 for i in range(3)] + [1, 1]) for axis in range(3)]
    volume = float(kernel_size**3)

    def window(x):
        for kernel in kernels:
            x = tf.nn.conv3d(x, kernel, strides=[1] * 5, padding="SAME")
        return x

    def loss(t, p):
        t, p = t[..., None], p[..., None]
        st, sp = window(t), window(p)
        cross = window(t * p) - st * sp / volume
        vt = tf.maximum(window(t * t) - st * st / volume, 0)
        vp = tf.maximum(window(p * p) - sp * sp / volume, 0)
        return -tf.reduce_mean((cross * cross + EPS) / (vt * vp + EPS))

    return loss


def gmi(tf, num_bins=23, sigma_ratio=0.5):
    """Return mutual information by two dense tables of Parzen weights, samples by bins."""
    centres = tf.linspace(0.0, 1.0, num_bins)
    sigma = sigma_ratio / (num_bins - 1)

    def weights(x):
        x = tf.reshape(tf.clip_by_value(x, 0, 1), [-1, 1])
        w = tf.exp(-tf.square(x - centres) / (2 * sigma**2))
        return w / tf.reduce_sum(w, axis=-1, keepdims=True)

    def loss(t, p):
        wt, wp = weights(t), weights(p)
        joint = tf.matmul(wt, wp, transpose_a=True) / tf.cast(tf.shape(wt)[0], tf.float32)
        product = tf.reduce_mean(wt, axis=0)[:, None] * tf.reduce_mean(wp, axis=0)[None, :]
        return -tf.reduce_sum(joint * tf.math.log((joint + EPS) / (product + EPS) + EPS))

    return loss


def _dx(f):
    return (f[:, 2:, 1:-1, 1:-1] - f[:, :-2, 1:-1, 1:-1]) / 2


def _dy(f):
    return (f[:, 1:-1, 2:, 1:-1] - f[:, 1:-1, :-2, 1:-1]) / 2


def _dz(f):
    return (f[:, 1:-1, 1:-1, 2:] - f[:, 1:-1, 1:-1, :-2]) / 2


def _derivative(tf, u, difference):
    return tf.stack([difference(u[..., i]) for i in range(3)], axis=-1)


def bending(tf):
    """Return bending energy: first differences of first differences, component by component."""

    def loss(u):
        ux, uy, uz = (_derivative(tf, u, d) for d in (_dx, _dy, _dz))
        xx, yy, zz = (_derivative(tf, v, d) for v, d in ((ux, _dx), (uy, _dy), (uz, _dz)))
        xy, xz, yz = (_derivative(tf, v, d) for v, d in ((ux, _dy), (ux, _dz), (uy, _dz)))
        return tf.reduce_mean(xx**2 + yy**2 + zz**2 + 2 * xy**2 + 2 * xz**2 + 2 * yz**2)

    return loss


def gradient_norm(tf):
    """Return the mean squared gradient of a field, component by component."""

    def loss(u):
        ux, uy, uz = (_derivative(tf, u, d) for d in (_dx, _dy, _dz))
        return tf.reduce_mean(ux**2 + uy**2 + uz**2)

    return loss
