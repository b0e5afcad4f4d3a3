"""Every loss and every metric of agnoreg's own (other tests register some, too), and random inputs for each."""

import numpy as np

import agnoreg

#: By the names that they are registered with.
LOSSES = {name: cls for name, cls in agnoreg.registered_losses().items() if cls.__module__.startswith("agnoreg.")}
#: By their names in `agnoreg.loss`: the classes of which a higher value is better, too.
METRICS = {
    name: getattr(getattr(agnoreg.loss, module), name)
    for module in ("image", "label", "deform")
    for name in getattr(agnoreg.loss, module).__all__
    if isinstance(getattr(getattr(agnoreg.loss, module), name), type)
}
#: Those that compare two images, or two label maps.
PAIRS = {name: cls for name, cls in LOSSES.items() if cls.inputs == 2}


def arrays_for(cls, rng, shape=(2, 11, 12, 13), dtype=np.float64):
    """Return random inputs in [0, 1] for a loss."""
    if cls.inputs == 1:
        return (rng.standard_normal((*shape, 3)).astype(dtype),)
    return tuple(rng.random(shape).astype(dtype) for _ in range(2))
