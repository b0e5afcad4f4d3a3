"""Reductions and the terms of composite losses."""

import numpy as np
import pytest
from every import LOSSES, arrays_for

import agnoreg


@pytest.mark.parametrize("name", LOSSES)
def test_reductions_agree(backend, rng, name):
    given = [backend.from_numpy(x) for x in arrays_for(LOSSES[name], rng, (3, 7, 7, 7))]
    none, mean, total = (LOSSES[name](reduction=r)(*given) for r in ("none", "mean", "sum"))
    assert tuple(none.shape) == (3,)
    assert tuple(mean.shape) == tuple(total.shape) == ()
    assert agnoreg.backend_of(none, mean, total) is backend
    np.testing.assert_allclose(backend.to_numpy(mean), backend.to_numpy(none).mean(), rtol=1e-12)
    np.testing.assert_allclose(backend.to_numpy(total), backend.to_numpy(none).sum(), rtol=1e-12)


def test_a_composite_returns_its_named_terms(backend, rng):
    loss = agnoreg.build_loss(
        {
            "image": [{"name": "lncc", "kernel_size": 5}, {"name": "gmi", "weight": 0.5}],
            "label": {"name": "dice", "scales": [0, 1], "weight": 2.0},
            "regularization": [{"name": "bending", "weight": 0.1}, {"name": "gradient"}],
        }
    )
    t, p = (backend.from_numpy(x) for x in rng.random((2, 2, 8, 8, 8)))
    ddf = backend.from_numpy(rng.standard_normal((2, 8, 8, 8, 3)))
    total, terms = loss(image=(t, p), label=(t, p), regularization=ddf, return_terms=True)
    assert list(terms) == [
        "image/LocalNormalizedCrossCorrelationLoss",
        "image/GlobalMutualInformationLoss",
        "label/DiceLoss",
        "regularization/BendingEnergy",
        "regularization/GradientNorm",
    ]
    np.testing.assert_allclose(float(total), sum(float(term) for term in terms.values()), rtol=1e-12)
    np.testing.assert_allclose(float(total), float(loss(image=(t, p), label=(t, p), regularization=ddf)), rtol=1e-12)
