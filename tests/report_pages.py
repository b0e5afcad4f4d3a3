"""A small pair with everything that a report shows, and what is said of a page without opening it."""

from html.parser import HTMLParser

import nibabel as nib
import numpy as np

SHAPE = (24, 30, 20)
#: Axis 0 runs to the left, axis 1 downwards, axis 2 to the front: none of them as in RAS.
AFFINE = np.array([[-2.0, 0, 0, 20], [0, 0, 3.0, -30], [0, -2.5, 0, 40], [0, 0, 0, 1]])
#: A name that a page must show as it is.
NASTY = "<script>alert('x')<img src=x>"


def write_pair(folder, shape=SHAPE, affine=AFFINE, seed=0, shift=1):
    """Write images, label maps, names of labels and a field that folds; return the arguments of `evaluate_pair`."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else [0.0] for n in shape), indexing="ij"))
    fixed = 100 * np.exp(-3 * np.sum(grid**2, axis=0)) + rng.random(shape)
    axis = int(np.argmax(shape))
    moving = np.roll(fixed, 2 * shift, axis)
    labels = (np.sum(grid**2, axis=0) < 0.4).astype(np.uint8)
    labels[: shape[0] // 4] *= 2
    missed = np.where((labels == 0) & (grid[axis] > 0.8), 3, labels).astype(np.uint8)
    moved_labels = np.roll(labels, shift, axis)
    ddf = np.zeros((*shape, 3), np.float32)
    ddf[..., axis] = 2.5 * np.sin(4 * grid[axis])
    arrays = {
        "fixed": fixed,
        "moved": np.roll(fixed, shift, axis),
        "moved_before": moving,
        "fixed_label": missed,
        "moved_label": moved_labels,
        "moved_label_before": np.roll(labels, 2 * shift, axis),
        "ddf": ddf,
    }
    pair = {}
    for name, array in arrays.items():
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        pair[name] = str(folder / f"{name} {NASTY}.nii.gz")
        nib.save(nib.Nifti1Image(array, affine), pair[name])
    points = np.stack([rng.uniform(1, max(n - 2, 1), 9) if n > 1 else np.zeros(9) for n in shape], axis=-1)
    points = points[:, [n > 1 for n in shape]] if 1 in shape else points
    pair |= {"fixed_landmarks": points, "moving_landmarks": points + 0.3}
    pair["label_names"] = {1: "core", 2: f"rim {NASTY}", 3: "top"}
    return pair


class Page(HTMLParser):
    """The elements of a page, and its text.

    Attributes
    ----------
    elements
        Names and attributes.
    text
        All text but that of styles and scripts.
    """

    def __init__(self, page):
        super().__init__()
        self.elements, self.text, self._inside = [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""
        self.text += " " if tag in ("td", "th") else ""

    def handle_data(self, data):
        if self._inside not in ("style", "script"):
            self.text += data

    def all(self, tag):
        """Return the attributes of all elements of a name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def links(self):
        """Return whatever the page could load or lead to, but pictures and files that are in it."""
        found = [attributes.get(name) for _, attributes in self.elements for name in ("src", "href", "srcset", "data")]
        return [link for link in found if link is not None and not link.startswith("data:")]
