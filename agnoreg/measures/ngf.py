"""Normalised gradient fields (NGF) of two images."""

from collections.abc import Sequence

from agnoreg.measures.author import *
from agnoreg.measures.families.stencil import Filter, Stencil


class NGFOptions(ImageOptions):
    """Distance of normalised gradient fields: ``mean(1 - <a, b>^2 / ((|a|^2 + eps^2) (|b|^2 + eps^2)))``.

    ``a`` and ``b`` are the images' gradients by central differences, in intensity per voxel; the border voxels are
    repeated beyond the image. Inverting the contrast of an image does not change the value.

    Parameters
    ----------
    eps
        Edge parameter: gradients well below it count as noise; in intensity per voxel, above 0.

    References
    ----------
    Haber and Modersitzki, Intensity gradient based registration and fusion of multi-modal images, 2006.
    """

    short = "NGF"
    title, bounds = "NGF", (0.0, 1.0)
    eps: float = number(default=0.01, above=True, between=(1e-15, 1e15))


class NGFMeasure(NGFOptions, Stencil):
    def filters(self) -> Sequence[Filter]:
        return [self.along(axis, (-0.5, 0.0, 0.5)) for axis in range(self.spatial_dims)]

    def _parts(self, a: Sequence[Array], b: Sequence[Array]) -> tuple[Array, Array, Array]:
        dot, aa, bb = (sum(x * y for x, y in zip(u, v, strict=True)) for u, v in ((a, b), (a, a), (b, b)))
        return dot, aa + self.eps**2, bb + self.eps**2

    def local(self, xp: Any, t: Sequence[Array], p: Sequence[Array]) -> Array:
        dot, tt, pp = self._parts(t, p)
        return 1.0 - (dot / tt) * (dot / pp)

    def derivatives(self, xp: Any, t: Sequence[Array], p: Sequence[Array], index: int) -> Sequence[Array]:
        own, other = (t, p) if index == 0 else (p, t)
        dot, aa, bb = self._parts(own, other)
        factor = 2.0 * (dot / aa) / bb
        return [factor * (dot / aa * a - b) for a, b in zip(own, other, strict=True)]


class _Call(NGFOptions, Masks): ...


ngf = pair_function("ngf", _Call, NGFMeasure)


class NormalizedGradientField(NGFOptions, ImageLoss):
    formula = NGFMeasure


@register_loss("ngf")
class NormalizedGradientFieldLoss(MultiScaleMixin, NormalizedGradientField): ...
