"""What a metric measures, in a plain sentence, and its definition: what a row of the verdict table unfolds to."""

import re
from dataclasses import dataclass

from agnoreg.evaluate.records import Record

#: What a metric measures, by the name that the field has for it, in lower case and without a number or a loss's ending.
MEASURES = {
    "ssd": "How far the intensities of the two images lie apart. Only for images of one modality.",
    "mean absolute difference": "How far the intensities of the two images lie apart. Only for images of one modality.",
    "pearson's r": "Whether the intensities of the two images rise and fall together, over the whole image.",
    "gncc": "Whether the intensities of the two images rise and fall together, over the whole image.",
    "lncc": "Whether the intensities of the two images rise and fall together within small windows, so that a slow "
    "change of brightness does not matter.",
    "mutual information": "How much one image's intensities tell about the other's, whatever the modalities.",
    "ngf": "Whether edges of the two images lie at the same places and in the same directions.",
    "dice": "How much of a structure overlaps: the share of both labels together that they have in common.",
    "jaccard": "How much of a structure overlaps: the common part as a share of everything that either label has.",
    "sensitivity": "How much of the fixed label the moved label covers.",
    "precision": "How much of the moved label lies inside the fixed label.",
    "volume similarity": "How alike the volumes of the two labels are, wherever they lie.",
    "hd": "How far the two surfaces of a structure lie apart at the worst place.",
    "masd": "How far the two surfaces of a structure lie apart on average, both directions alike.",
    "assd": "How far the two surfaces of a structure lie apart on average, all surface together.",
    "nsd": "The share of both surfaces that lies within a tolerance of the other surface.",
    "centroid distance": "How far the centres of the two labels lie apart.",
    "gradient norm": "How fast the displacement changes from voxel to voxel. A smooth field has a low value; it says "
    "nothing about whether the images match.",
    "bending energy": "How strongly the displacement field bends. Affine motion has none.",
    "tre": "How far corresponding landmarks lie apart after the registration.",
    "folding": "Where the transform turns space inside out, which no tissue does.",
    "folded voxels": "Where the transform turns space inside out, which no tissue does.",
    "det": "How the transform changes volumes: det J is 1 where they stay, below 1 where they shrink, and at most 0 "
    "where space is turned inside out.",
    "ndv": "How much volume the transform turns inside out, counted by tetrahedra and not by voxels.",
    "sdlogj": "How unevenly the transform changes volumes: the spread of the logarithm of det J.",
}


@dataclass(frozen=True)
class Explanation:
    """What a metric measures, and its definition; either may be empty."""

    measures: str
    definition: str


def explanation(record: Record) -> Explanation:
    """Return what there is to say of a record's metric."""
    return Explanation(measures(record.title or record.metric), record.definition)


def measures(title: str) -> str:
    """Return what a metric measures, by its title; empty where nothing is known of it."""
    key = title.lower().removesuffix(" loss")
    for name in (key, re.sub(r"\s*\(.*\)|[\d.%]+", "", key).strip(), key.split(" ")[0]):
        if name in MEASURES:
            return MEASURES[name]
    words = set(re.findall(r"[a-z]+", key))
    return next((MEASURES[name] for name in MEASURES if " " not in name and name in words), "")
