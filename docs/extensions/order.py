"""The order of the gallery: by what most people come with."""

FIRST = ("torch", "monai", "keras", "jax", "scipy", "modalities", "deepreg", "cupy", "learn2reg", "group")


class Order:
    """Sorts the examples of a folder; those not listed come last."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, name: str) -> tuple[int, str]:
        """Return what an example is sorted by."""
        places = [place for place, word in enumerate(FIRST) if word in name]
        return (places[0] if places else len(FIRST), name)
