"""Loss objects: what they refuse, what a user makes of them, and that they are only configuration."""

import dataclasses
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import agnoreg
from agnoreg import functional
from agnoreg.loss import deform, image, kernel, label, util
from agnoreg.objects.registration import RegistrationLoss
from agnoreg.objects.weighted import WeightedLoss

LOSSES = agnoreg.registered_losses()


@agnoreg.register_loss("huber-for-tests")
class HuberForTests(agnoreg.Loss):
    """A user's loss with a gradient of its own."""

    delta: float = 0.3

    def call(self, y_true, y_pred):
        xp = agnoreg.backend_of(y_true).xp
        d = xp.abs(y_true - y_pred)
        axes = tuple(range(1, len(y_true.shape)))
        return xp.mean(xp.where(d < self.delta, d * d / 2, self.delta * (d - self.delta / 2)), axis=axes)

    def gradient(self, y_true, y_pred, wrt):
        xp = agnoreg.backend_of(y_true).xp
        d = xp.clip(y_pred - y_true, -self.delta, self.delta) / float(np.prod(y_true.shape[1:]))
        return tuple(d if index == 1 else -d for index in wrt)


class NegativeHuber(util.NegativeLossMixin, HuberForTests):
    """A user's loss with one of our mixins."""


class ScaledHuber(util.MultiScaleMixin, HuberForTests):
    """A user's loss with our other mixin."""


class LNCCAndSSD(agnoreg.Loss):
    """A user's loss made of ours."""

    def measure(self):
        return WeightedLoss(
            (image.LocalNormalizedCrossCorrelationLoss(kernel_size=3), label.SumSquaredDifference()), (1, 2)
        ).measure()


USERS = {
    "registered": {"name": "huber-for-tests", "delta": 0.2},
    "negated": NegativeHuber(),
    "scaled": ScaledHuber(scales=(0, 1)),
    "made of ours": LNCCAndSSD(),
    "weighted": [{"name": "huber-for-tests", "weight": 0.5}, {"name": "ssd"}],
}


@pytest.mark.parametrize("name", USERS)
def test_a_users_loss_has_its_gradient_on_every_framework(backend, rng, name):
    loss = USERS[name] if isinstance(USERS[name], agnoreg.Loss) else agnoreg.build_loss(USERS[name])
    t, p = rng.random((2, 2, 7, 6, 5))
    direction = rng.standard_normal(p.shape)
    value, gradient = agnoreg.value_and_grad(loss, backend.from_numpy(t), backend.from_numpy(p))
    np.testing.assert_allclose(float(value), float(loss(t, p)), rtol=1e-10)
    step = 1e-6
    expected = (float(loss(t, p + step * direction)) - float(loss(t, p - step * direction))) / (2 * step)
    assert float((backend.to_numpy(gradient) * direction).sum()) == pytest.approx(expected, rel=1e-5)


def test_mixins_change_a_users_call(rng):
    t, p = rng.random((2, 1, 6, 6, 6))
    plain = HuberForTests()
    assert NegativeHuber().call(t, p) == -plain.call(t, p)
    assert NegativeHuber().name == "NegativeHuberLoss"
    smooth = (
        util.separable_filter(t, kernel.gaussian_kernel1d_sigma(1)),
        util.separable_filter(p, kernel.gaussian_kernel1d_sigma(1)),
    )
    np.testing.assert_allclose(ScaledHuber(scales=[0, 1]).call(t, p), (plain.call(t, p) + plain.call(*smooth)) / 2)
    np.testing.assert_allclose(ScaledHuber(scales=1).call(y_pred=p, y_true=t), plain.call(*smooth))


def test_an_overridden_call_counts_everywhere(rng):
    class Doubled(label.DiceScore):
        def call(self, y_true, y_pred):
            return 2 * super().call(y_true, y_pred)

    class NegativeDoubled(util.NegativeLossMixin, Doubled):
        pass

    t, p = rng.random((2, 2, 5, 5, 5))
    once = float(label.DiceScore()(t, p))
    assert float(Doubled()(t, p)) == pytest.approx(2 * once)
    assert float(NegativeDoubled()(t, p)) == pytest.approx(-2 * once)
    assert float(WeightedLoss((NegativeDoubled(),), (3,))(t, p)) == pytest.approx(-6 * once)
    backend = agnoreg.get_backend("torch")
    value, gradient = agnoreg.value_and_grad(NegativeDoubled(), backend.from_numpy(t), backend.from_numpy(p))
    _, expected = agnoreg.value_and_grad(label.DiceScore(), t, p)
    assert float(value) == pytest.approx(-2 * once)
    np.testing.assert_allclose(gradient.numpy(), -2 * expected)


def test_a_mixin_behind_its_loss_is_refused():
    with pytest.raises(TypeError, match=r"class Wrong\(NegativeLossMixin, HuberForTests\)"):
        type("Wrong", (HuberForTests, util.NegativeLossMixin), {})
    with pytest.raises(TypeError, match="a mixin comes before the loss"):
        type("Wrong", (label.SumSquaredDifference, util.MultiScaleMixin), {})


@pytest.mark.parametrize("loss", [label.DiceScore, label.SumSquaredDifference, image.GlobalMutualInformation])
def test_the_order_of_mixins_is_told_with_the_loss_that_was_named(loss):
    with pytest.raises(TypeError, match=rf"class Wrong\(NegativeLossMixin, {loss.__name__}\)"):
        type("Wrong", (loss, util.NegativeLossMixin), {})


def test_a_users_call_sees_checked_arrays_and_is_checked(backend, rng):
    class Seen(agnoreg.Loss):
        def call(self, y_true, y_pred):
            xp = agnoreg.backend_of(y_true).xp
            return xp.mean((y_true - y_pred) ** 2, axis=(1, 2, 3))

    one, two = (backend.from_numpy(np.full((2, 2, 2, 2), v, dtype=np.uint8)) for v in (1, 2))
    assert float(Seen()(one, two)) == 1
    with pytest.raises(ValueError, match=r"\(2, 2, 2, 2\).*\(1, 2, 2, 2\)"):
        Seen()(one, two[:1, ...])

    class Whole(agnoreg.Loss):
        def call(self, y_true, y_pred):
            return agnoreg.backend_of(y_true).xp.sum((y_true - y_pred) ** 2, axis=(2, 3))

    with pytest.raises(ValueError, match=r"Whole must return one value a sample, shape \(2,\), got"):
        Whole()(one, two)


def test_a_users_gradient_is_checked(rng):
    class NoTuple(HuberForTests):
        def gradient(self, y_true, y_pred, wrt):
            return y_pred - y_true

    class Short(HuberForTests):
        def gradient(self, y_true, y_pred, wrt):
            return (y_pred[:1],)

    t, p = rng.random((2, 2, 3, 3, 3))
    for cls in (NoTuple, Short):
        with pytest.raises(ValueError, match=f"{cls.__name__}.gradient must return a tuple of shapes"):
            agnoreg.value_and_grad(cls(), t, p)


def test_arguments_become_plain_and_immutable():
    class Listed(agnoreg.Loss):
        w: tuple = (1.0, 2.0)

        def call(self, y_true, y_pred):
            return y_true[:, 0] * self.w[0]

    for loss in (
        Listed(w=[1, [2, 3]]),
        image.LocalNormalizedCrossCorrelation(kernel_size=np.int64(7), smooth_nr=np.float32(0.5)),
        image.LocalNormalizedCrossCorrelation(kernel_size=7.0),
        label.DiceLoss(scales=np.asarray([0, 1, 2]), binary=np.True_),
        agnoreg.build_loss({"name": "ssd", "weight": np.float32(0.5)}),
    ):
        again = type(loss).from_config(json.loads(json.dumps(loss.get_config())))
        assert again == loss
        assert hash(again) == hash(loss)


def test_a_weight_keeps_the_reduction_and_the_way_of_differentiation(rng):
    t, p = rng.random((2, 3, 2, 2, 2))
    plain = agnoreg.build_loss({"name": "ssd", "reduction": "sum"})
    weighted = agnoreg.build_loss({"name": "ssd", "reduction": "sum", "weight": 2.0, "native": True})
    assert float(weighted(t, p)) == pytest.approx(2 * float(plain(t, p)))
    assert weighted.native
    assert agnoreg.build_loss({"image": {"name": "lncc", "reduction": "none"}}).reduction == "none"


def test_directions_of_sums_follow_their_terms():
    assert agnoreg.build_loss([{"name": "DiceScore"}]).direction == "higher"
    assert agnoreg.build_loss([{"name": "DiceScore", "weight": -1}, {"name": "ssd"}]).direction == "lower"
    assert agnoreg.build_loss({"image": {"name": "DiceScore"}}).direction == "higher"


def test_what_weighs_nothing_has_no_direction():
    nothing, dice = {"name": "ssd", "weight": 0.0}, {"name": "DiceScore"}
    assert agnoreg.build_loss([nothing]).direction == "lower"
    assert agnoreg.build_loss([nothing, dice]).direction == "higher"
    assert agnoreg.build_loss({"image": nothing, "label": dice}).direction == "higher"
    assert agnoreg.build_loss({"image": nothing}).direction == "lower"
    assert WeightedLoss((agnoreg.build_loss(nothing), label.DiceScore()), (1, 1)).direction == "higher"
    with pytest.raises(ValueError, match="improve in the same direction"):
        agnoreg.build_loss({"image": "ssd", "label": dice})


def test_the_sections_of_a_registration_must_fit_together(rng):
    loss = agnoreg.build_loss({"image": "ssd", "regularization": "gradient"})
    t, p = rng.random((2, 2, 5, 5, 5))
    with pytest.raises(ValueError, match="one batch size, got image 2, regularization 1"):
        loss(image=(t, p), regularization=rng.random((1, 5, 5, 5, 3)))
    torch = agnoreg.get_backend("torch")
    with pytest.raises(TypeError, match="two frameworks"):
        loss(image=(torch.from_numpy(t), torch.from_numpy(p)), regularization=rng.random((2, 5, 5, 5, 3)))
    for reduction in ("sum", "none"):
        other = dataclasses.replace(loss, reduction=reduction)
        field = rng.random((2, 5, 5, 5, 3))
        _, gradient = agnoreg.value_and_grad(other, image=(t, p), regularization=field)
        _, expected = agnoreg.value_and_grad(deform.GradientNorm(reduction="sum"), field)
        np.testing.assert_allclose(gradient, expected)


def test_a_filters_kernel_belongs_to_its_tensor(rng):
    x, k = rng.random((1, 4, 4, 4, 1)), rng.random(3)
    torch, tensorflow = (agnoreg.get_backend(name) for name in ("torch", "tensorflow"))
    expected = util.separable_filter(x, k)
    for backend in (torch, tensorflow):
        found = util.separable_filter(backend.from_numpy(x), backend.from_numpy(k))
        np.testing.assert_allclose(backend.to_numpy(found), expected)
    with pytest.raises(TypeError, match="two frameworks"):
        util.separable_filter(torch.from_numpy(x), tensorflow.from_numpy(k))
    with pytest.raises(TypeError, match="Expected an array"):
        util.separable_filter(torch.from_numpy(x), 3.0)
    for empty in ([], torch.from_numpy(np.zeros(0))):
        with pytest.raises(ValueError, match="not empty"):
            util.separable_filter(torch.from_numpy(x), empty)


def test_arrays_are_chosen_by_name(rng):
    t, p = rng.random((2, 1, 3, 3, 3))
    loss = agnoreg.build_loss("ssd")
    by_name = agnoreg.value_and_grad(loss, t, p, argnums=("y_pred", "y_true"))[1]
    by_index = agnoreg.value_and_grad(loss, t, p, argnums=(1, 0))[1]
    np.testing.assert_array_equal(by_name, by_index)
    with pytest.raises(ValueError, match="image; got 'imag'"):
        agnoreg.value_and_grad(agnoreg.build_loss({"image": "ssd"}), image=(t, p), argnums="imag")


def test_terms_come_with_the_gradient(backend, rng):
    loss = agnoreg.build_loss({"image": "ssd", "regularization": {"name": "gradient", "weight": 0.5}})
    given = {
        "image": tuple(backend.from_numpy(x) for x in rng.random((2, 1, 4, 4, 4))),
        "regularization": backend.from_numpy(rng.random((1, 4, 4, 4, 3))),
    }
    (total, terms), gradient = agnoreg.value_and_grad(loss, **given, return_terms=True)
    expected, expected_gradient = agnoreg.value_and_grad(loss, **given)
    assert float(total) == float(expected) == pytest.approx(sum(float(term) for term in terms.values()))
    np.testing.assert_array_equal(backend.to_numpy(gradient), backend.to_numpy(expected_gradient))


def test_a_section_as_deepreg_writes_it(rng):
    section = {
        "image": {"name": "lncc", "kernel_size": 5, "weight": 1.0},
        "label": {"name": "dice", "weight": 0.0, "binary": False, "scales": [0, 1, 2]},
        "regularization": [{"name": "bending", "weight": 0.5}, {"name": "gradient", "l1": False, "weight": 0.5}],
    }
    loss = agnoreg.build_loss(section)
    image_pair, ddf = tuple(rng.random((2, 1, 6, 6, 6))), rng.random((1, 6, 6, 6, 3))
    without = loss(image=image_pair, regularization=ddf)
    assert without == loss(image=image_pair, label=image_pair, regularization=ddf)
    assert agnoreg.build_loss(section | {"label": None})(image=image_pair, regularization=ddf) == without
    with pytest.raises(TypeError, match=r"build_loss\(config\['loss'\]\)"):
        agnoreg.build_loss({"loss": section})
    with pytest.raises(TypeError, match=r"by keyword: image=\(y_true, y_pred\)"):
        loss(*image_pair)


def test_names_of_terms_never_meet(rng):
    parts = tuple(label.SumSquaredDifference(name=name) for name in ("a", "a", "a_2"))
    t, p = rng.random((2, 1, 3, 3, 3))
    terms = WeightedLoss(parts, (1, 1, 1)).terms(t, p)
    assert list(terms) == ["a", "a_2", "a_2_2"]


def test_a_plain_function_is_differentiated_where_there_is_autodiff(rng):
    backend = agnoreg.get_backend("torch")
    moving, ddf = backend.from_numpy(rng.random((1, 4, 4, 4))), backend.from_numpy(rng.random((1, 4, 4, 4, 3)))

    def total(image, field):
        return functional.warp(image, field).sum((1, 2, 3))

    value, gradient = agnoreg.value_and_grad(total, moving, ddf)
    _, expected = functional.warp_adjoint(moving, ddf, backend.xp.ones_like(moving), wrt=(0, 1))
    assert value.shape == (1,)
    np.testing.assert_allclose(gradient.numpy(), expected.numpy())


def test_channels_that_come_first_are_refused_where_they_would_be_smoothed(rng):
    labels = rng.random((2, 1, 1, 5, 5, 5))
    with pytest.raises(ValueError, match="channels go last"):
        agnoreg.build_loss({"name": "dice", "scales": [1]})(*labels)


def test_value_and_grad_says_what_it_takes(rng):
    t, p = rng.random((2, 1, 3, 3, 3))
    for wrong in ("lncc", image.LocalNormalizedCrossCorrelationLoss, 3):
        with pytest.raises(TypeError, match="takes a loss object"):
            agnoreg.value_and_grad(wrong, t, p)
    with pytest.raises(TypeError, match=r"takes 2 array\(s\), y_true, y_pred, got 1"):
        agnoreg.value_and_grad(agnoreg.build_loss("ssd"), t)
    with pytest.raises(ValueError, match="argnums must be indices"):
        agnoreg.value_and_grad(agnoreg.build_loss("ssd"), t, p, argnums=None)
    assert agnoreg.value_and_grad(agnoreg.build_loss("ssd"), t, p, argnums=np.int64(1))[1].shape == p.shape


def test_keywords_are_forwarded_to_a_users_call():
    class Weighted(agnoreg.Loss):
        def call(self, y_true, y_pred, factor=1.0):
            return ((y_true - y_pred) ** 2).mean(axis=1) * factor

        def gradient(self, y_true, y_pred, wrt, factor=1.0):
            return [2 * factor * (y_pred - y_true) / y_true.shape[1] * (1 if index else -1) for index in wrt]

    class Negative(util.NegativeLossMixin, Weighted):
        pass

    t, p = np.zeros((1, 2)), np.ones((1, 2))
    for loss, sign in ((Weighted(), 1), (Negative(), -1)):
        value, gradient = agnoreg.value_and_grad(loss, t, p, factor=3.0)
        assert value == loss(t, p, factor=3.0) == loss(y_pred=p, y_true=t, factor=3.0) == 3 * sign
        np.testing.assert_allclose(gradient, 3 * sign)
        with pytest.raises(TypeError, match="takes y_true, y_pred, got shape beside them"):
            loss(t, p, shape=3)


def test_a_users_call_of_any_signature_works_by_keyword_too(rng):
    class Starred(label.DiceScore):
        def call(self, *arrays, **keywords):
            return 2 * super().call(*arrays, **keywords)

    class StarredAlone(agnoreg.Loss):
        def call(self, *arrays):
            y_true, y_pred = arrays
            return ((y_true - y_pred) ** 2).mean(axis=(1, 2))

    class HalfStarred(agnoreg.Loss):
        def call(self, fixed, *others):
            return (fixed * fixed - others[0]).mean(axis=(1, 2))

    class ByKeywordAlone(agnoreg.Loss):
        def call(self, *, y_true, y_pred):
            return (y_true - 2 * y_pred).mean(axis=(1, 2))

    class AnyKeyword(agnoreg.Loss):
        def call(self, **arrays):
            return (arrays["y_true"] - 2 * arrays["y_pred"]).mean(axis=(1, 2))

    class Smoothness(agnoreg.Loss):
        inputs = 1

        def call(self, *arrays, **keywords):
            return (arrays[0] ** 2).mean(axis=(1, 2))

    class Negative(util.NegativeLossMixin, Starred):
        pass

    t, p = rng.random((2, 3, 4, 5))
    mask = rng.random((3, 4, 5)) < 0.5
    for loss, first in (
        *((kind(reduction="none"), "y_true") for kind in (Starred, StarredAlone, ByKeywordAlone, AnyKeyword, Negative)),
        (HalfStarred(reduction="none"), "fixed"),
    ):
        by_position = loss(t, p)
        assert by_position.shape == (3,)
        np.testing.assert_array_equal(loss(**{first: t, "y_pred": p}), by_position)
        np.testing.assert_array_equal(loss(t, y_pred=p), by_position)
        np.testing.assert_array_equal(loss.call(**{"y_pred": p, first: t}), by_position)
    for loss in (Starred(reduction="none"), Negative(reduction="none")):
        expected = label.DiceScore(reduction="none")(t, p, mask=mask) * (2 if type(loss) is Starred else -2)
        np.testing.assert_allclose(loss(y_true=t, y_pred=p, mask=mask), expected)
        _, gradient = agnoreg.value_and_grad(
            loss, *map(agnoreg.get_backend("torch").from_numpy, (t, p)), argnums="y_pred"
        )
        assert gradient.shape == p.shape
    np.testing.assert_array_equal(Smoothness()(inputs=t), Smoothness()(t))


def test_value_and_grad_chooses_arrays(rng):
    t, p = rng.random((2, 2, 5, 5, 5))
    loss = agnoreg.build_loss("dice")
    _, (by_t, by_p) = agnoreg.value_and_grad(loss, t, p, argnums=(0, 1))
    np.testing.assert_array_equal(agnoreg.value_and_grad(loss, t, p, argnums=0)[1], by_t)
    np.testing.assert_array_equal(agnoreg.value_and_grad(loss, t, p)[1], by_p)
    np.testing.assert_array_equal(agnoreg.value_and_grad(loss, t, y_pred=p)[1], by_p)
    for wrong in (2, -3, "image"):
        with pytest.raises(
            ValueError, match="argnums must be indices of the loss's 2 arrays, or of their names y_true, y_pred"
        ):
            agnoreg.value_and_grad(loss, t, p, argnums=wrong)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_gradient_is_that_of_the_reduced_value(rng, reduction):
    t, p = rng.random((2, 3, 4, 4, 4))
    loss = label.SumSquaredDifference(reduction=reduction)
    value, gradient = agnoreg.value_and_grad(loss, t, p)
    np.testing.assert_array_equal(value, loss(t, p))
    np.testing.assert_allclose(gradient, 2 * (p - t) / 64 / (3 if reduction == "mean" else 1))


def test_functions_have_gradients_too(rng):
    t, p = rng.random((2, 2, 6, 6, 6))
    for function, loss in (
        (functional.lncc, image.LocalNormalizedCrossCorrelation(kernel_size=3, reduction="none")),
        (functional.gncc, image.GlobalNormalizedCrossCorrelation(reduction="none")),
    ):
        options = {"kernel_size": 3} if function is functional.lncc else {}
        value, gradient = agnoreg.value_and_grad(function, t, p, **options)
        expected, expected_gradient = agnoreg.value_and_grad(loss, t, p)
        np.testing.assert_array_equal(value, expected)
        np.testing.assert_array_equal(gradient, expected_gradient)


# --- registrations
# ------------------------------------------------------------------------------------------------------

SECTION = {
    "image": {"name": "lncc", "kernel_size": 3, "weight": 2.0},
    "label": [{"name": "dice", "scales": [0, 1]}, {"name": "cross-entropy", "weight": 0.1}],
    "regularization": {"name": "bending", "weight": 0.5},
}


def test_a_whole_section_has_value_terms_and_gradients(backend, rng):
    loss = agnoreg.build_loss(SECTION)
    arrays = {"image": rng.random((2, 2, 6, 6, 6)), "label": rng.random((2, 2, 6, 6, 6))}
    field = rng.standard_normal((2, 6, 6, 6, 3))
    given = {name: tuple(backend.from_numpy(x) for x in pair) for name, pair in arrays.items()}
    given["regularization"] = backend.from_numpy(field)
    value, gradients = agnoreg.value_and_grad(loss, **given, argnums=("image", "label", "regularization"))
    np.testing.assert_allclose(float(value), float(loss(**given)), rtol=1e-12)
    alone = agnoreg.build_loss([SECTION["image"]])
    _, expected = agnoreg.value_and_grad(alone, *arrays["image"])
    np.testing.assert_allclose(backend.to_numpy(gradients[0]), expected, atol=1e-10)
    _, of_field = agnoreg.value_and_grad(loss, **given)
    np.testing.assert_array_equal(backend.to_numpy(of_field), backend.to_numpy(gradients[2]))
    assert [tuple(g.shape) for g in gradients] == [(2, 6, 6, 6), (2, 6, 6, 6), (2, 6, 6, 6, 3)]


def test_a_section_says_what_is_missing_or_too_much(rng):
    loss = agnoreg.build_loss({"image": {"name": "ssd"}, "regularization": {"name": "gradient"}})
    pair = tuple(rng.random((2, 1, 5, 5, 5)))
    with pytest.raises(TypeError, match=r"needs arrays for regularization: pass regularization=ddf"):
        loss(image=pair)
    with pytest.raises(TypeError, match="no section label; it has image, regularization"):
        loss(image=pair, regularization=rng.random((1, 5, 5, 5, 3)), label=pair)
    with pytest.raises(TypeError, match=r"image takes 2 array\(s\), got 1"):
        loss(image=pair[0], regularization=rng.random((1, 5, 5, 5, 3)))
    with pytest.raises(ValueError, match="must take a field"):
        agnoreg.build_loss({"regularization": {"name": "lncc"}})
    with pytest.raises(ValueError, match="needs one of the sections image, label, regularization"):
        agnoreg.build_loss({"image": None, "label": None})
    with pytest.raises(TypeError, match="of the sections image, label, regularization"):
        agnoreg.build_loss({"images": {"name": "lncc"}})


@pytest.mark.parametrize(
    "config", [SECTION, SECTION["label"], {"name": "gmi", "num_bins": 9}, {"name": "huber-for-tests"}]
)
def test_configurations_go_through_json(config):
    loss = agnoreg.build_loss(json.loads(json.dumps(config)))
    again = type(loss).from_config(json.loads(json.dumps(loss.get_config())))
    assert again == loss
    assert hash(again) == hash(loss)
    assert pickle.loads(pickle.dumps(loss)) == loss


def test_a_descriptions_place_is_that_of_a_name():
    loss = label.DiceLoss(name="mine", scales=(0, 1))
    one = {"class": "DiceLoss", "config": loss.get_config()}
    assert agnoreg.build_loss(one) == loss
    assert agnoreg.build_loss(one | {"weight": 2}) == WeightedLoss((loss,), (2.0,))
    assert agnoreg.build_loss([one, {"name": "ssd"}]).losses[0] == loss
    assert agnoreg.build_loss({"label": one}).label.losses == (loss,)
    assert agnoreg.build_loss({"class": "dice", "config": {}}) == label.DiceLoss()


# --- objects
# ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_immutable(name):
    loss = LOSSES[name]()
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.reduction = "sum"
    assert loss == LOSSES[name]()
    assert loss != LOSSES[name](reduction="sum")


def test_losses_are_safe_to_call_from_several_threads(rng):
    loss = agnoreg.build_loss([{"name": "lncc", "kernel_size": 3}, {"name": "gmi"}])
    pairs = [rng.random((2, 1, 12, 12, 12)) for _ in range(16)]
    expected = [float(loss(*pair)) for pair in pairs]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda pair: float(loss(*pair)), pairs)) == expected


def test_names_are_those_of_the_classes():
    assert image.LocalNormalizedCrossCorrelation().name == "LocalNormalizedCrossCorrelation"
    assert image.LocalNormalizedCrossCorrelationLoss().name == "LocalNormalizedCrossCorrelationLoss"
    assert image.LocalNormalizedCrossCorrelationLoss(name="mine").name == "mineLoss"
    assert label.SumSquaredDifferenceLoss().name == "SumSquaredDifferenceLoss"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: image.LocalNormalizedCrossCorrelation(kernel_size=0),
            "kernel_size must be an integer of at least 1, got 0",
        ),
        (lambda: image.LocalNormalizedCrossCorrelation(kernel_size=2.5), "kernel_size must be an integer"),
        (
            lambda: image.LocalNormalizedCrossCorrelation(kernel_type="box"),
            r"Wrong kernel_type box for LNCC loss type\. Feasible values are rectangular, triangular, gaussian",
        ),
        (lambda: image.GlobalMutualInformation(num_bins=1), "num_bins must be an integer of at least 2, got 1"),
        (
            lambda: image.GlobalMutualInformation(num_bins=20_000),
            r"num_bins must be at most 4096, got 20000: every sample has a joint histogram .* 3\.2 GB",
        ),
        (lambda: image.GlobalMutualInformation(sigma_ratio=0), "sigma_ratio must be positive, got 0"),
        (
            lambda: label.DiceScore(background_weight=2.0),
            r"The background weight for Dice Score must be within \[0, 1\], got 2.0",
        ),
        (
            lambda: label.JaccardIndex(background_weight=-1),
            r"The background weight for Jaccard Index must be within \[0, 1\], got -1",
        ),
        (
            lambda: label.CrossEntropy(background_weight=1.5),
            r"The background weight for Cross Entropy must be within \[0, 1\], got 1.5",
        ),
        (lambda: label.DiceLoss(kernel="box", scales=[1]), r"Kernel box is not supported\."),
        (lambda: label.DiceLoss(scales=[-1]), "scales must be one or more numbers of at least 0"),
        (lambda: label.DiceLoss(scales="x"), "scales must be one or more numbers of at least 0, got 'x'"),
        (lambda: label.DiceLoss(binary=1), "binary must be True or False, got 1"),
        (lambda: deform.GradientNorm(l1="maybe"), "l1 must be True or False, got 'maybe'"),
        (lambda: label.DiceLoss(scales=[]), "scales must be one or more numbers of at least 0"),
        (lambda: label.DiceLoss(reduction="avg"), "reduction must be one of mean, sum, none, got 'avg'"),
        (lambda: kernel.gaussian_kernel1d_sigma(0), "sigma must be positive, got 0"),
        (lambda: kernel.cauchy_kernel1d(True), "sigma must be positive, got True"),
        (lambda: image.GlobalMutualInformation(sigma_ratio=True), "sigma_ratio must be positive, got True"),
        (lambda: kernel.cauchy_kernel1d(-1), "sigma must be positive, got -1"),
        (lambda: kernel.gaussian_kernel1d_sigma(1e9), "sigma must be at most 1000 voxels"),
        (lambda: image.LocalNormalizedCrossCorrelation(kernel_size=10**9), "kernel_size must be at most 1000"),
        (lambda: image.LocalNormalizedCrossCorrelation(kernel_size=float("inf")), "kernel_size must be an integer"),
        (lambda: image.LocalNormalizedCrossCorrelation(kernel_size=None), "kernel_size must be an integer"),
        (lambda: image.LocalNormalizedCrossCorrelation(kernel_type=["gaussian"]), "Wrong kernel_type"),
        (
            lambda: image.LocalNormalizedCrossCorrelation(smooth_nr="1e-5"),
            "smooth_nr must be a number of at least 0, got '1e-5'",
        ),
        (
            lambda: image.LocalNormalizedCrossCorrelation(smooth_dr=-1),
            "smooth_dr must be a number of at least 0, got -1",
        ),
        (lambda: label.DiceScore(smooth_dr=float("nan")), "smooth_dr must be a number of at least 0, got nan"),
        (lambda: label.DiceScore(background_weight="0.5"), r"must be within \[0, 1\], got '0.5'"),
        (lambda: label.CrossEntropy(smooth=-1), "smooth must be a number of at least 0, got -1"),
        (lambda: label.DiceLoss(native="no"), "native must be True or False, got 'no'"),
        (lambda: label.DiceLoss(name=5), "name must be a string, got 5"),
        (lambda: label.DiceLoss(scales=[None]), "scales must be one or more numbers"),
        (lambda: label.DiceLoss(scales=True), "scales must be one or more numbers"),
        (
            lambda: agnoreg.build_loss({"name": "ssd", "weight": float("nan")}),
            "ssd: A weight must be a finite number, got nan",
        ),
        (lambda: agnoreg.build_loss({"name": ["lncc"]}), "Unknown loss"),
        (
            lambda: agnoreg.build_loss([{"name": "ssd", "reduction": "sum"}, {"name": "gncc"}]),
            "have one reduction, got mean, sum",
        ),
        (lambda: agnoreg.build_loss([{"name": "DiceScore"}, {"name": "ssd"}]), "must improve in the same direction"),
        (lambda: kernel.triangular(4), "must be odd and at least 3, got 4"),
        (lambda: kernel.rectangular(-3), "kernel_size must be an integer of at least 1, got -3"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_arrays_are_refused(backend, rng):
    def make(*shape):
        return backend.from_numpy(rng.random(shape))

    for name in ("ssd", "dice", "gncc", "gmi", "lncc", "cross-entropy", "jaccard"):
        with pytest.raises(ValueError, match=r"\(1, 4, 5, 6\).*\(1, 4, 5, 7\)"):
            agnoreg.build_loss(name)(make(1, 4, 5, 6), make(1, 4, 5, 7))
    lncc = image.LocalNormalizedCrossCorrelation()
    with pytest.raises(ValueError, match=r"Last dimension of y_pred is not one.*\(1, 4, 5, 6, 2\)"):
        lncc(make(1, 4, 5, 6), make(1, 4, 5, 6, 2))
    with pytest.raises(ValueError, match=r"Last dimension of y_true is not one.*data_format="):
        lncc(make(1, 4, 5, 6, 3), make(1, 4, 5, 6))
    with pytest.raises(ValueError, match="at least 4 axes"):
        agnoreg.build_loss("gmi")(make(4, 5, 6), make(4, 5, 6))
    with pytest.raises(ValueError, match=r"must be \(batch, dim1, dim2, dim3, 3\)"):
        deform.BendingEnergy()(make(1, 6, 6, 6, 2))
    with pytest.raises(ValueError, match=r'\(1, 3, 6, 6, 6\)\. Or pass data_format="channels_first"'):
        deform.BendingEnergy()(make(1, 3, 6, 6, 6))
    with pytest.raises(ValueError, match="The bending energy needs at least 5 voxels along each axis"):
        deform.BendingEnergy()(make(1, 6, 4, 6, 3))
    for nothing in (None, [1.0, 2.0], 3.0, "image"):
        with pytest.raises(TypeError, match="Expected an array, got builtins"):
            functional.ssd(nothing, make(1, 2))
    with pytest.raises(TypeError, match="complex"):
        functional.ssd(backend.from_numpy(np.ones((1, 2), dtype=complex)), make(1, 2))


def test_trailing_channels_are_taken_where_the_reference_takes_them(backend, rng):
    t, p = rng.random((2, 2, 6, 7, 8))
    lncc = image.LocalNormalizedCrossCorrelation(kernel_size=3)
    expected, gradient = agnoreg.value_and_grad(lncc, t, p)
    value, with_channel = agnoreg.value_and_grad(lncc, backend.from_numpy(t), backend.from_numpy(p[..., None]))
    np.testing.assert_allclose(backend.to_numpy(value), expected)
    np.testing.assert_allclose(backend.to_numpy(with_channel), gradient[..., None], atol=1e-15)


def test_nan_gives_nan(backend, rng):
    for name, cls in LOSSES.items():
        arrays = list(rng.random((2, 2, 7, 7, 7))) if cls.inputs == 2 else [rng.random((2, 7, 7, 7, 3))]
        for index in range(len(arrays)):
            broken = [x.copy() for x in arrays]
            broken[index][0, 3, 3, 3] = np.nan
            values = backend.to_numpy(cls().call(*[backend.from_numpy(x) for x in broken]))
            # A central difference does not see the voxel itself, but its neighbours do.
            assert np.isnan(values[0]), name
            assert np.isfinite(values[1]), name


def test_the_reference_pages_names_exist():
    expected = {
        image: "GlobalMutualInformation GlobalNormalizedCrossCorrelation LocalNormalizedCrossCorrelation",
        label: "CrossEntropy DiceScore JaccardIndex SumSquaredDifference",
    }
    for module, names in expected.items():
        for name in names.split():
            assert issubclass(getattr(module, name), agnoreg.Loss)
            lossy = {"DiceScore": "DiceLoss", "JaccardIndex": "JaccardLoss"}.get(name, name + "Loss")
            assert issubclass(getattr(module, lossy), getattr(module, name))
    for name in ["compute_centroid", "compute_centroid_distance", "foreground_proportion"]:
        assert callable(getattr(label, name))
    for name in ["BendingEnergy", "GradientNorm", "gradient_dx", "gradient_dy", "gradient_dz", "gradient_dxyz"]:
        assert callable(getattr(deform, name))
    for name in ["MultiScaleMixin", "NegativeLossMixin", "separable_filter"]:
        assert callable(getattr(util, name))
    for name in ["rectangular", "triangular", "gaussian_kernel1d_size", "gaussian_kernel1d_sigma", "cauchy_kernel1d"]:
        assert callable(getattr(kernel, name))
    lncc = image.LocalNormalizedCrossCorrelation(kernel_size=5, kernel_type="triangular")
    assert set(lncc.kernel_fn_dict) == {"rectangular", "triangular", "gaussian"}
    np.testing.assert_array_equal(lncc.kernel, [1, 2, 3, 2, 1])
    assert lncc.kernel_vol == 9**3
    assert type(image.LocalNormalizedCrossCorrelation(kernel_size=9.0).get_config()["kernel_size"]) is int


def test_a_defaults_number_is_api():
    defaults = {
        name: {key: value for key, value in cls().get_config().items() if key not in ("name", "native", "reduction")}
        for name, cls in LOSSES.items()
        if name != "huber-for-tests"
    }
    axes = {"spatial_dims": 3, "data_format": None}
    deepreg = {"convention": "deepreg"}
    scaled = {"scales": None, "kernel": "gaussian", **axes}
    field = {"stencil": "central", "spacing": 1.0, "spatial_dims": 3, "data_format": "channels_last", **deepreg}
    small = {"smooth_nr": 1e-5, "smooth_dr": 1e-5}
    overlap = {"binary": False, "background_weight": 0.0, "squared": False, **small, **deepreg}
    assert defaults == {
        "gmi": {"num_bins": 23, "sigma_ratio": 0.5, **small, **axes, **deepreg},
        "lncc": {
            "kernel_size": 9,
            "kernel_type": "rectangular",
            "padding": "zero",
            "squared": True,
            "flat_value": None,
            **small,
            **axes,
            **deepreg,
        },
        "gncc": {"squared": True, **small, **axes, **deepreg},
        "ssd": scaled,
        "dice": {**overlap, **scaled},
        "jaccard": {**overlap, **scaled},
        "cross-entropy": {"binary": False, "background_weight": 0.0, "smooth": 1e-5, **scaled},
        "gradient": {"l1": False, **field},
        "bending": field,
        "l1": scaled,
        "tversky": {"alpha": 0.5, "beta": 0.5, "smooth": 1e-5, **scaled},
        "ngf": {"eps": 0.01, **scaled},
    }
    assert {cls().reduction for cls in LOSSES.values()} == {"mean"}


def test_registering_a_taken_name_is_refused():
    with pytest.raises(ValueError, match="'lncc' is taken"):
        agnoreg.register_loss("lncc")(type("Other", (agnoreg.Loss,), {"call": lambda self, y_true, y_pred: y_true}))
    with pytest.raises(TypeError, match=r"subclass of agnoreg\.Loss"):
        agnoreg.register_loss("function")(lambda y_true, y_pred: 0)


def test_composites_check_their_parts():
    with pytest.raises(ValueError, match="needs losses and a weight for each"):
        WeightedLoss((label.SumSquaredDifference(),), ())
    with pytest.raises(ValueError, match="some take images, some a field"):
        WeightedLoss((label.SumSquaredDifference(), deform.BendingEnergy()), (1, 1))
    with pytest.raises(ValueError, match="needs one of the sections"):
        RegistrationLoss()
    with pytest.raises(ValueError, match="ssd: A weight must be a finite number, got '1'"):
        agnoreg.build_loss({"name": "ssd", "weight": "1"})
    for wrong in ({}, 3, [3], {"kernel_size": 3}):
        with pytest.raises(TypeError, match="configuration"):
            agnoreg.build_loss(wrong)
