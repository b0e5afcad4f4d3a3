"""What a page says of a loss beside what its class declares: the formula in TeX, when to take it, and its pitfalls.

Range, direction, arguments, defaults and conventions are read from the class and are not repeated here. A loss that is
registered without an entry fails a test.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """The text of a page, keyed by the name of a registered loss."""

    #: One line for the table of all losses: the problem that it is for.
    problem: str
    #: The formula of the metric, in TeX.
    formula: str
    #: What the symbols are, in Markdown.
    symbols: str
    #: What it compares, in a few short sentences.
    sees: str
    #: Each a short paragraph of Markdown.
    pitfalls: tuple[str, ...]


_PAIR = "$t$ is the fixed image, $p$ the warped one, $N$ the number of voxels."
_LABELS = "$t$ is the fixed label, $p$ the warped one, both in $[0, 1]$; sums run over voxels and channels."

TEXTS = {
    "ssd": Text(
        problem="Two images of the same contrast and the same intensity scale, such as CT with CT.",
        formula=r"\mathrm{SSD} = \frac{1}{N} \sum_x \bigl(t(x) - p(x)\bigr)^2",
        symbols=_PAIR,
        sees="It compares each voxel with the voxel at the same place. Every difference of intensity counts, whatever "
        "its cause.",
        pitfalls=(
            "**It is a mean.** The name is the field's. The value does not grow with the size of the image.",
            "**A change of brightness counts as misalignment.** Scale both images to the same range first, or take "
            "[LNCC](lncc.md).",
            "**Background dilutes it.** Most voxels of a head scan are air. Pass the foreground as `mask=`.",
            "**One outlier can dominate.** A metal artefact counts by its square. [L1](l1.md) is more robust.",
        ),
    ),
    "l1": Text(
        problem="The same as SSD, where a few voxels differ strongly: lesions, artefacts, metal.",
        formula=r"\mathrm{L1} = \frac{1}{N} \sum_x \bigl|t(x) - p(x)\bigr|",
        symbols=_PAIR,
        sees="It compares each voxel with the voxel at the same place. A large difference weighs in proportion to its "
        "size, not to its square.",
        pitfalls=(
            "**A change of brightness counts as misalignment**, as for [SSD](ssd.md).",
            "**The gradient has the same size everywhere.** It is the sign of the difference, and 0 where the two "
            "images are equal. Lower the step length towards the end.",
        ),
    ),
    "gncc": Text(
        problem="Two images whose intensities differ by one scale and one offset, the same everywhere.",
        formula=r"\mathrm{GNCC} = \frac{\operatorname{cov}(t, p)^2 + \varepsilon_n}"
        r"{\sigma_t^2 \, \sigma_p^2 + \varepsilon_d}",
        symbols="$\\operatorname{cov}$ and $\\sigma^2$ are the covariance and the variances over all voxels of a "
        "sample. $\\varepsilon_n$ is `smooth_nr`, $\\varepsilon_d$ is `smooth_dr`.",
        sees="It is the square of Pearson's correlation of the whole images. A global scale or offset of the "
        "intensities does not matter.",
        pitfalls=(
            "**It is squared.** Inverted contrast scores as high as equal contrast. `squared=False` is signed.",
            "**A bias field breaks it.** Shading that changes over the image lowers the correlation. Take "
            "[LNCC](lncc.md).",
            "**The small constants are absolute.** Images of low contrast score high, related or not. Take "
            '`convention="exact"` to compare numbers, and scale images to [0, 1] for training.',
        ),
    ),
    "lncc": Text(
        problem="Two images of the same modality, also with shading or scanner differences. The usual first choice.",
        formula=r"\begin{aligned} \mathrm{LNCC} &= \dfrac{1}{N} \sum_x \dfrac{c(x)^2 + \varepsilon_n}"
        r"{v_t(x)\, v_p(x) + \varepsilon_d} \\ c &= S[t p] - \dfrac{S[t]\, S[p]}{V} \\ "
        r"v_t &= S[t^2] - \dfrac{S[t]^2}{V} \end{aligned}",
        symbols="$S[\\cdot](x)$ is the sum over the window about voxel $x$, with zeros beyond the border. $V$ is the "
        "volume of the window. $v_p$ is as $v_t$. $\\varepsilon_n$ is `smooth_nr`, $\\varepsilon_d$ is `smooth_dr`.",
        sees="It correlates the two images in a small window about each voxel. The contrast may change slowly over the "
        "image. What counts is the pattern in each window.",
        pitfalls=(
            "**It is squared.** Inverted contrast scores as high as equal contrast. `squared=False` is signed.",
            "**Flat windows score** `smooth_nr / smooth_dr`, **1 by default.** So background raises the value. Pass a "
            "mask, or set `flat_value`.",
            "**Noise in the background has the largest gradient**, as the picture shows. A mask leaves it out.",
            '**Zeros beyond the border count.** `padding="truncate"` uses the voxels of the image alone, as ITK does.',
            "**Libraries differ in constants, window and sign.** `convention=` computes the number of MONAI, "
            "VoxelMorph or ANTs: see [migration](../../migration/index.md).",
            "**A window of even size lies off-centre** by half a voxel. Choose an odd `kernel_size`.",
            "**A volume of a single plane is all border.** Take `spatial_dims=2`.",
        ),
    ),
    "gmi": Text(
        problem="Two modalities, such as MR T1 with T2, or CT with MR.",
        formula=r"\mathrm{MI} = \sum_{a,b} P_{ab} \, "
        r"\log\left(\frac{P_{ab} + \varepsilon_n}{P_a P_b + \varepsilon_d} + \varepsilon_d\right)",
        symbols="$P_{ab}$ is the joint histogram by Gaussian Parzen windows, $P_a$ and $P_b$ are its marginals. "
        "$\\varepsilon_n$ is `smooth_nr`, $\\varepsilon_d$ is `smooth_dr`. The value is in nats.",
        sees="It asks how well the intensity of one image predicts that of the other. Any relation counts, also one "
        "that is not monotonic. The place of a voxel does not matter, only its pair of intensities.",
        pitfalls=(
            "**Images are clipped to [0, 1].** Scale them first. Voxels beyond that range have no gradient.",
            "**The best value depends on the images.** Two equal images score at most log(`num_bins`).",
            "**Few voxels fill a histogram badly.** Use fewer bins for small images or narrow masks.",
            "**Background dominates.** Air against air is a perfect prediction. Pass a mask.",
            "**With many bins the small constants count.** Choose `smooth_nr` and `smooth_dr` with `num_bins`.",
        ),
    ),
    "ngf": Text(
        problem="Two modalities whose edges lie at the same places, such as CT with MR, or contrast-enhanced scans.",
        formula=r"\mathrm{NGF} = \frac{1}{N} \sum_x \left(1 - \frac{\langle \nabla t, \nabla p\rangle^2}"
        r"{(\lVert\nabla t\rVert^2 + \varepsilon^2)(\lVert\nabla p\rVert^2 + \varepsilon^2)}\right)",
        symbols="$\\nabla$ is the gradient by central differences, in intensity a voxel. $\\varepsilon$ is `eps`.",
        sees="It asks whether edges of the two images are parallel. How strong an edge is, and which side is brighter, "
        "does not matter.",
        pitfalls=(
            "**Choose `eps` by the noise.** Gradients well below it count as noise. The default, 0.01, is for images "
            "in [0, 1].",
            "**Flat areas cost 1.** A large background raises the value. Pass a mask.",
            "**It sees nothing beyond one voxel of an edge.** Start on smoothed or coarse images: `scales=[4, 2, 1]`.",
        ),
    ),
    "dice": Text(
        problem="Overlap of organs or structures: weak supervision by labels.",
        formula=r"\mathrm{Dice} = \frac{2 \sum t p + \varepsilon_n}{\sum (t + p) + \varepsilon_d}",
        symbols=_LABELS + " `background_weight` adds the overlap of the background.",
        sees="It is twice the intersection over the sum of both sizes.",
        pitfalls=(
            "**A label is one mask.** Split a map of several integer labels into one mask each first.",
            "**Equal soft labels score below 1.** `squared=True` scores them 1.",
            "**Small structures are noisy.** One voxel of a structure of ten changes the score much.",
            "**Labels that do not touch do not attract each other.** The warp has no gradient there. Smooth both: "
            "`scales=[0, 1, 2, 4]`.",
            "**agnoreg negates**, MONAI subtracts from 1: `-Dice` and `1 - Dice`.",
        ),
    ),
    "jaccard": Text(
        problem="Overlap of structures, with a stronger penalty for what does not overlap.",
        formula=r"\mathrm{Jaccard} = \frac{\sum t p + \varepsilon_n}{\sum (t + p) - \sum t p + \varepsilon_d}",
        symbols=_LABELS,
        sees="It is the intersection over the union. It ranks pairs as Dice does: J = D / (2 - D).",
        pitfalls=(
            "**Do not compare it with Dice.** For the same pair it is the lower of the two.",
            "**A label is one mask**, as for [Dice](dice.md).",
        ),
    ),
    "tversky": Text(
        problem="Overlap, where a missed voxel costs more than a false alarm, or the reverse.",
        formula=r"\mathrm{Tversky} = \frac{\mathrm{TP} + s}"
        r"{\mathrm{TP} + \alpha\,\mathrm{FP} + \beta\,\mathrm{FN} + s}",
        symbols="$\\mathrm{TP} = \\sum t p$, $\\mathrm{FP} = \\sum (1 - t) p$, $\\mathrm{FN} = \\sum t (1 - p)$; $s$ "
        "is `smooth`.",
        sees="It weighs false positives by `alpha` and false negatives by `beta`.",
        pitfalls=(
            "**Libraries swap the letters.** Here `alpha` is for false positives and `beta` for false negatives.",
            "**0.5 and 0.5 is Dice, 1 and 1 is Jaccard.**",
        ),
    ),
    "cross-entropy": Text(
        problem="Labels as probabilities, such as the output of a segmentation network.",
        formula=r"\mathrm{CE} = -\frac{1}{N} \sum_x \Bigl[(1 - w)\, t \log(p + s) + w\, (1 - t) \log(1 - p + s)\Bigr]",
        symbols="$t$ is the fixed label, $p$ the warped one, $w$ is `background_weight`, $s$ is `smooth`.",
        sees="It compares each voxel's probabilities.",
        pitfalls=(
            "**By default the background does not count.** `background_weight` is 0. Set it, or $p = 1$ everywhere is "
            "best.",
            "**It is not 0 for equal soft labels**: their own entropy remains.",
            "**It is not symmetric.** The fixed label comes first.",
        ),
    ),
    "gradient": Text(
        problem="Smooth fields: penalises every change of the displacement from voxel to voxel (diffusion).",
        formula=r"\mathrm{GradientNorm} = \frac{1}{3N} \sum_x \sum_{i,j} "
        r"\left(\frac{\partial u_i}{\partial x_j}\right)^2",
        symbols="$u_i$ is component $i$ of the displacement field. With `l1=True` absolute values take the place of "
        "squares.",
        sees="It is 0 for a translation. Rotation, scaling and shear cost.",
        pitfalls=(
            "**It penalises affine motion.** Align affinely first, or take [bending energy](bending.md).",
            "**Without `spacing`, voxels are the unit.** The same weight then means something else at another "
            "resolution. Pass the spacing in mm.",
            '**Central differences do not see a field that alternates from voxel to voxel.** `stencil="compact"` does.',
            "**VoxelMorph takes the mean over axes, DeepReg and MONAI the sum.** `convention=` chooses.",
        ),
    ),
    "bending": Text(
        problem="Smooth fields that may hold rotation, scaling and shear: penalises curvature alone.",
        formula=r"\mathrm{Bending} = \frac{1}{3N} \sum_x \sum_{i} \left[\sum_j "
        r"\left(\frac{\partial^2 u_i}{\partial x_j^2}\right)^2 + 2 \sum_{j<k} "
        r"\left(\frac{\partial^2 u_i}{\partial x_j \partial x_k}\right)^2\right]",
        symbols="$u_i$ is component $i$ of the displacement field.",
        sees="It is 0 for every affine field. Only a bend costs.",
        pitfalls=(
            "**It does not forbid folding.** A steep but straight ramp costs nothing. Count folds with "
            "`agnoreg.metrics.folding`.",
            "**Without `spacing`, voxels are the unit**, and the value is in 1/voxel². With mm it is in 1/mm².",
            "**MONAI 1.6 uses compact second differences**, DeepReg central ones of central ones. `convention=` "
            "chooses.",
            "**Each axis needs 5 voxels**, or 3 with the compact stencil.",
        ),
    ),
}
