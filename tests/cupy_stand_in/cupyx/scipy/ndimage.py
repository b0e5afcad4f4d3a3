"""The distance transform, by SciPy."""

import cupy as cp
from scipy import ndimage


def distance_transform_edt(image, sampling=None, *, float64_distances=False):
    assert float64_distances, "distances in float32 flip ties with a tolerance"
    assert image.dtype == bool
    return cp.asarray(ndimage.distance_transform_edt(cp.asnumpy(image), sampling=sampling))
