"""agnoreg's losses, called as a user of each framework calls them."""

from functools import partial

from benchmarks.subjects import Work, by_autograd, by_jit, by_tape


def build(loss, arrays, backend, device):
    """Return the loss on ``backend``: an adapter's name, or with ``plain`` after it the same without compiled kernels.

    ``tensorflow graph`` is TensorFlow in a tf.function; JAX is compiled by jax.jit.
    """
    import agnoreg
    from benchmarks.inputs import ball

    name, _, mode = backend.partition(" ")
    adapter = agnoreg.get_backend(name)
    adapter.kernels = mode != "plain"
    function = agnoreg.build_loss({key: value for key, value in loss.items() if key != "mask"})
    options = {"mask": adapter.from_numpy(ball(arrays[0].shape[1:]), device=device)} if "mask" in loss else {}
    arrays = [adapter.from_numpy(x, device=device) for x in arrays]

    def number(value):
        return float(adapter.to_numpy(value).sum())

    if name == "torch":
        return by_autograd(partial(function, **options), arrays, number=number)
    if name == "tensorflow":
        return by_tape(partial(function, **options), arrays, graph=mode == "graph", number=number)
    if name == "jax":
        return by_jit(partial(function, **options), arrays, number=number)
    return Work(
        lambda: function(*arrays, **options),
        lambda: agnoreg.value_and_grad(function, *arrays, **options),
        number,
    )
