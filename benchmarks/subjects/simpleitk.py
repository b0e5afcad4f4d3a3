"""SimpleITK's metrics: values only, at the identity transform."""

from benchmarks.subjects import NotOfferedError, Work

TRUNCATED = "windows are cut off at the border (ours: zeros count), and nothing is added to the quotient"
MATTES = "Mattes' estimate: third-order B-spline bins for one image, none for the other"


def build(loss, arrays, backend, device):
    """Return the metric over every voxel, with the threads that this process may use."""
    import SimpleITK as sitk  # noqa: N813

    method = sitk.ImageRegistrationMethod()
    metrics = {
        "lncc": lambda: method.SetMetricAsANTSNeighborhoodCorrelation(loss.get("kernel_size", 9) // 2),
        "gmi": lambda: method.SetMetricAsMattesMutualInformation(loss.get("num_bins", 23)),
        "ssd": method.SetMetricAsMeanSquares,
    }
    if loss["name"] not in metrics:
        raise NotOfferedError("SimpleITK has no such metric")
    metrics[loss["name"]]()
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(sitk.TranslationTransform(3))
    true, pred = (sitk.GetImageFromArray(x[0]) for x in arrays)
    return Work(
        lambda: method.MetricEvaluate(true, pred),
        None,
        differs={"lncc": TRUNCATED, "gmi": MATTES}.get(loss["name"], ""),
    )
