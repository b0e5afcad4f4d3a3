"""The regularisers that have kernels, with a spacing that differs along the axes."""

from agnoreg.measures.families.central_differences import GradientEnergy, SecondDerivativeEnergy
from agnoreg.measures.families.compact_differences import CompactGradientEnergy, CompactSecondDerivativeEnergy

KINDS = {
    "gradient": (GradientEnergy, {}),
    "gradient, absolute": (GradientEnergy, {"l1": True}),
    "compact gradient": (CompactGradientEnergy, {}),
    "compact gradient, absolute": (CompactGradientEnergy, {"l1": True}),
    "bending": (SecondDerivativeEnergy, {}),
    "compact bending": (CompactSecondDerivativeEnergy, {}),
}
SPACING = (1.5, 0.8, 2.0)


def made(name, dims=3, data_format="channels_last", spacing=SPACING):
    kind, options = KINDS[name]
    return kind(spacing=spacing[:dims], spatial_dims=dims, data_format=data_format, **options)


def shape_of(measure, sizes, components=None):
    components = measure.spatial_dims if components is None else components
    return (2, *sizes, components) if measure.components_last else (2, components, *sizes)
