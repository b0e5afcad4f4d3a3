"""A reduction means the same everywhere: for losses, metrics and their sums, for values, gradients and terms.

That the values of the registered losses agree is tested in `guarantees/`, and that the gradients of each formula do, by
the conformance suite.
"""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agnoreg
from agnoreg.loss import deform, image, label
from agnoreg.objects.registration import RegistrationLoss
from agnoreg.objects.weighted import WeightedLoss
from conformance.settings import set_for

REDUCTIONS = ("mean", "sum", "none")
#: The others have no autodiff.
DIFFERENTIATING = ("torch", "tensorflow")
SHAPE = (6, 5, 7)

CLASSES = {
    name: getattr(module, name)
    for module in (image, label, deform)
    for name in module.__all__
    if isinstance(getattr(module, name), type)
}


class MeanPower(agnoreg.Loss):
    """A user's loss, whose values the framework reduces."""

    power: int = 4

    def call(self, y_true, y_pred):
        return agnoreg.backend_of(y_true).xp.mean((y_true - y_pred) ** self.power, axis=(1, 2, 3))

    def gradient(self, y_true, y_pred, wrt):
        slope = self.power * (y_pred - y_true) ** (self.power - 1) / float(np.prod(SHAPE))
        return tuple(slope if index == 1 else -slope for index in wrt)


SECTION = {
    "image": [{"name": "lncc", "kernel_size": 3, "weight": 2.0}, {"name": "ssd", "weight": 0.25}],
    "label": {"name": "dice", "scales": [0, 1], "weight": 0.5},
    "regularization": [{"name": "bending", "weight": 0.1}, {"name": "gradient", "weight": 0.3}],
}
SSD = label.SumSquaredDifference
COMPOSITES = {
    "a weight": agnoreg.build_loss({"name": "gncc", "weight": 3.0}),
    "a sum": agnoreg.build_loss(SECTION["image"]),
    "a sum of fields": agnoreg.build_loss(SECTION["regularization"]),
    "a sum of metrics": agnoreg.build_loss([{"name": "DiceScore"}, {"name": "ssd", "weight": -2.0}]),
    "terms with reductions of their own": WeightedLoss((SSD(reduction="sum"), MeanPower(reduction="none")), (0.5, 1)),
    "a sum of sums": WeightedLoss((agnoreg.build_loss(SECTION["image"]), SSD(name="mine")), (0.5, 2)),
    "a section": agnoreg.build_loss(SECTION),
    "a section without images": agnoreg.build_loss({"regularization": "gradient"}),
    "a section whose sums have reductions of their own": RegistrationLoss(
        image=WeightedLoss((SSD(),), (2,), reduction="sum"), label=label.CrossEntropyLoss(reduction="none")
    ),
    "a section of native sums": agnoreg.build_loss({"image": {"name": "gmi", "native": True}, "label": "jaccard"}),
}
CASES = {name: cls() for name, cls in CLASSES.items()} | {"a user's": MeanPower()} | COMPOSITES


def inputs_of(loss, rng, batch=3):
    """Return NumPy arrays for a loss, by section where it has sections."""

    def arrays(count):
        return tuple(rng.random((batch, *SHAPE, 3) if count == 1 else (batch, *SHAPE)) for _ in range(count))

    if isinstance(loss, RegistrationLoss):
        return {name: arrays(section.inputs) for name, section in loss.sections().items()}
    return {"": arrays(loss.inputs)}


def moved(inputs, make):
    """Return the inputs with every array replaced by what ``make`` makes of it."""
    return {name: tuple(make(x) for x in arrays) for name, arrays in inputs.items()}


def flat(inputs):
    """Return all arrays in a row."""
    return [x for arrays in inputs.values() for x in arrays]


def call(function, inputs, **options):
    """Call a loss, or a method of it, with its inputs."""
    return function(*inputs[""], **options) if "" in inputs else function(**inputs, **options)


def gradients_by_array(loss, inputs, **options):
    """Return what value_and_grad does, with the gradients for all arrays."""
    count = len(flat(inputs))
    if "" in inputs:
        return agnoreg.value_and_grad(loss, *inputs[""], argnums=range(count), **options)
    return agnoreg.value_and_grad(loss, **inputs, argnums=range(count), **options)


def as_reduced(values, reduction):
    """Return NumPy's own reduction of the values of the samples."""
    return {"mean": np.mean, "sum": np.sum, "none": np.asarray}[reduction](values)


# --- values and gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_of_the_three_reductions_agree(backend, rng, name, batch):
    inputs = moved(inputs_of(CASES[name], rng, batch), backend.from_numpy)
    values = backend.to_numpy(call(CASES[name].call, inputs))
    assert values.shape == (batch,)
    for reduction in REDUCTIONS:
        loss = dataclasses.replace(CASES[name], reduction=reduction)
        value, gradients = gradients_by_array(loss, inputs)
        if reduction == "mean":
            of_mean = [backend.to_numpy(gradient) for gradient in gradients]
        for found in (call(loss, inputs), value):
            assert agnoreg.backend_of(found) is backend
            assert tuple(found.shape) == ((batch,) if reduction == "none" else ())
            np.testing.assert_allclose(backend.to_numpy(found), as_reduced(values, reduction), rtol=1e-12)
        for gradient, expected in zip(gradients, of_mean, strict=True):
            scaled = expected if reduction == "mean" else batch * expected
            np.testing.assert_allclose(backend.to_numpy(gradient), scaled, rtol=1e-9, atol=1e-12 * abs(scaled).max())


def torch_gradients(loss, inputs):
    """Return the value and what backward() leaves at the leaves."""
    import torch

    leaves = moved(inputs, lambda x: torch.tensor(x, requires_grad=True))
    value = call(loss, leaves)
    value.sum().backward()
    return value.detach().numpy(), [leaf.grad.numpy() for leaf in flat(leaves)]


def tensorflow_gradients(loss, inputs):
    """Return the value and what a tape gives for it."""
    import tensorflow as tf

    variables = moved(inputs, tf.Variable)
    with tf.GradientTape() as tape:
        value = call(loss, variables)
    return value.numpy(), [gradient.numpy() for gradient in tape.gradient(value, flat(variables))]


def jax_gradients(loss, inputs):
    """Return the value and what jax.vjp gives for its sum."""
    import jax

    agnoreg.get_backend("jax")
    with set_for("float64"):
        value, back = jax.vjp(lambda given: call(loss, given), moved(inputs, jax.numpy.array))
        (gradients,) = back(jax.numpy.ones_like(value))
        return np.asarray(value), [np.asarray(gradient) for gradient in flat(gradients)]


GRADIENTS = {"torch": torch_gradients, "tensorflow": tensorflow_gradients, "jax": jax_gradients}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("framework", GRADIENTS)
@pytest.mark.parametrize("name", CASES)
def test_a_frameworks_own_gradient_is_that_of_the_reduction(rng, name, framework, reduction):
    loss = dataclasses.replace(CASES[name], reduction=reduction)
    inputs = inputs_of(loss, rng)
    value, gradients = GRADIENTS[framework](loss, inputs)
    expected, closed = gradients_by_array(loss, inputs)
    np.testing.assert_allclose(value, expected, rtol=1e-10)
    for found, one in zip(gradients, closed, strict=True):
        np.testing.assert_allclose(found, one, atol=1e-9 * abs(one).max())


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", ["DiceLoss", "GradientNorm", "a user's", "a sum", "a section"])
def test_a_batch_of_unknown_size_is_reduced_alike(rng, name, reduction):
    import tensorflow as tf

    loss = dataclasses.replace(CASES[name], reduction=reduction)
    spec = moved(inputs_of(loss, rng), lambda x: tf.TensorSpec((None, *x.shape[1:]), tf.float64))

    @tf.function(input_signature=[spec])
    def traced(inputs):
        return call(loss, inputs), *gradients_by_array(loss, inputs)

    for batch in (1, 3):
        inputs = inputs_of(loss, rng, batch)
        expected, expected_gradients = gradients_by_array(loss, inputs)
        value, same, gradients = traced(moved(inputs, tf.constant))
        for found in (value, same):
            np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)
        for found, one in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(found.numpy(), one, atol=1e-9 * abs(one).max())


# --- terms ------------------------------------------------------------------------------------------------------------


def terms_of(loss):
    """Return name, loss and weight of each term, and the section that it belongs to."""
    if isinstance(loss, RegistrationLoss):
        return [
            (f"{section}/{name}", part, weight, section)
            for section, parts in loss.sections().items()
            for name, part, weight in parts.named()
        ]
    return [(name, part, weight, "") for name, part, weight in loss.named()]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", COMPOSITES)
def test_terms_are_reduced_as_the_sum_and_add_up_to_it(backend, rng, name, reduction):
    loss = dataclasses.replace(COMPOSITES[name], reduction=reduction)
    inputs = moved(inputs_of(loss, rng), backend.from_numpy)
    total, terms = backend.to_numpy(call(loss, inputs)), call(loss.terms, inputs)
    assert list(terms) == [title for title, *_ in terms_of(loss)]
    for title, part, weight, section in terms_of(loss):
        assert agnoreg.backend_of(terms[title]) is backend
        alone = backend.to_numpy(part.call(*inputs[section]))
        np.testing.assert_allclose(backend.to_numpy(terms[title]), as_reduced(weight * alone, reduction), rtol=1e-12)
        assert backend.to_numpy(terms[title]).shape == total.shape
    np.testing.assert_allclose(sum(backend.to_numpy(term) for term in terms.values()), total, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_call_that_returns_terms_returns_the_same_total(backend, rng, reduction, dtype):
    loss = dataclasses.replace(COMPOSITES["a section"], reduction=reduction)
    inputs = moved(inputs_of(loss, rng), lambda x: backend.from_numpy(x.astype(dtype)))
    expected, expected_terms = call(loss, inputs), call(loss.terms, inputs)
    total, terms = call(loss, inputs, return_terms=True)
    (of_gradient, more_terms), gradients = gradients_by_array(loss, inputs, return_terms=True)
    _, expected_gradients = gradients_by_array(loss, inputs)
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    for found in (total, of_gradient):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(backend.to_numpy(found), backend.to_numpy(expected), rtol=tolerance)
    assert list(terms) == list(more_terms) == list(expected_terms)
    for title, term in expected_terms.items():
        assert term.dtype == expected.dtype
        for found in (terms[title], more_terms[title]):
            np.testing.assert_allclose(backend.to_numpy(found), backend.to_numpy(term), rtol=tolerance)
    for found, one in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(found), backend.to_numpy(one))


#: What a sum may be of, as losses to be minimised; a few of them cheap, for they are drawn often.
PAIRS = (
    SSD(),
    SSD(name="mine"),
    label.DiceLoss(),
    label.JaccardLoss(reduction="sum"),
    label.CrossEntropyLoss(),
    image.GlobalNormalizedCrossCorrelationLoss(),
    image.LocalNormalizedCrossCorrelationLoss(kernel_size=3),
    MeanPower(),
)
FIELDS = (deform.GradientNorm(), deform.GradientNorm(l1=True), deform.BendingEnergy(reduction="none"))
WEIGHTS = st.sampled_from([0.0, 1.0]) | st.floats(0, 1e6, allow_subnormal=False)


def sums(parts):
    """Return a strategy of weighted sums of some of these losses, all weights with one sign."""
    chosen = st.lists(st.tuples(st.sampled_from(parts), WEIGHTS), min_size=1, max_size=4)
    return chosen.map(lambda pairs: WeightedLoss(*zip(*pairs, strict=True)))


def negative(loss):
    """Return the sum with every weight negated, to be maximised."""
    return dataclasses.replace(loss, weights=tuple(-weight for weight in loss.weights))


SECTIONS = st.fixed_dictionaries(
    {}, optional={"image": sums(PAIRS), "label": sums(PAIRS), "regularization": sums(FIELDS)}
).filter(bool)


@pytest.mark.parametrize("framework", ["numpy", *DIFFERENTIATING])
@settings(max_examples=25, deadline=None)
@given(
    sections=SECTIONS,
    alone=st.booleans(),
    turned=st.booleans(),
    reduction=st.sampled_from(REDUCTIONS),
    batch=st.integers(1, 3),
)
def test_terms_of_any_weights_add_up_to_the_total_and_their_gradients_to_its(
    framework, sections, alone, turned, reduction, batch
):
    if turned:
        sections = {name: negative(loss) for name, loss in sections.items()}
    loss = dataclasses.replace(
        next(iter(sections.values())) if alone else RegistrationLoss(**sections), reduction=reduction
    )
    backend = agnoreg.get_backend(framework)
    inputs = moved(inputs_of(loss, np.random.default_rng(batch), batch), backend.from_numpy)
    value, gradients = gradients_by_array(loss, inputs)
    terms = {title: backend.to_numpy(term) for title, term in call(loss.terms, inputs).items()}
    assert len(terms) == sum(len(part.losses) for part in ([loss] if alone else sections.values()))

    size = sum(abs(term) for term in terms.values())
    for total in (value, call(loss, inputs)):
        assert np.all(abs(backend.to_numpy(total) - sum(terms.values())) <= 1e-12 * size + 1e-300)

    expected = {section: [0.0] * len(arrays) for section, arrays in inputs.items()}
    largest = 0.0
    for _, part, weight, section in terms_of(loss):
        own = dataclasses.replace(part, reduction=reduction)
        _, parts = gradients_by_array(own, {"": inputs[section]})
        for index, gradient in enumerate(parts):
            expected[section][index] = expected[section][index] + weight * backend.to_numpy(gradient)
            largest = max(largest, weight * abs(backend.to_numpy(gradient)).max())
    for found, one in zip(gradients, flat(expected), strict=True):
        # A framework may take denormal numbers for 0.
        np.testing.assert_allclose(backend.to_numpy(found), one, rtol=1e-9, atol=1e-11 * abs(largest) + 1e-300)
