"""ANTs' metrics through antspyx: values only. The window's width cannot be chosen."""

from benchmarks.subjects import NotOfferedError, Work

TRUNCATED = "antspyx' own window width; windows are cut off at the border, and nothing is added to the quotient"
MATTES = "Mattes' estimate with antspyx' own number of bins"


def build(loss, arrays, backend, device):
    """Return ants.image_similarity over every voxel."""
    import ants

    metrics = {
        "lncc": ("ANTSNeighborhoodCorrelation", TRUNCATED),
        "gmi": ("MattesMutualInformation", MATTES),
        "ssd": ("MeanSquares", ""),
    }
    if loss["name"] not in metrics or set(loss) - {"name"}:
        raise NotOfferedError("antspyx has no such metric")
    metric, differs = metrics[loss["name"]]
    true, pred = (ants.from_numpy(x[0]) for x in arrays)

    def value():
        return ants.image_similarity(true, pred, metric_type=metric, sampling_strategy="none")

    return Work(value, None, differs=differs)
