"""Which measurements make up the benchmark: sections of groups of jobs; the jobs of a group are measured in turn."""

WINDOWED = ("lncc", "gmi", "bending", "gradient")
POINTWISE = ("dice", "jaccard", "ssd", "cross-entropy", "gncc")
LOSSES = WINDOWED + POINTWISE

CPU_BACKENDS = ("torch", "numpy", "tensorflow", "tensorflow graph", "jax")
GPU_BACKENDS = ("torch", "cupy")
#: Computed by the core alone, beside those that take compiled kernels.
WITHOUT_KERNELS = {"torch": "torch plain", "numpy": "numpy plain", "jax": "jax plain"}
CPU_PEERS = ("monai", "voxelmorph", "deepreg-formula", "jax-formula", "simpleitk", "ants")
#: To be asked for by name: its CPU path takes about as long as MONAI's, of which it is a variant.
OPTIONAL_PEERS = ("fireants",)
GPU_PEERS = ("monai", "voxelmorph")
#: Those that the charts show.
CHARTED = ("monai", "deepreg-formula", "jax-formula")

WINDOWS = ({}, {"kernel_type": "triangular"}, {"kernel_type": "gaussian"}, {"kernel_size": 31})
MASKS = ({}, {"mask": "ball"})
SIZES = (40, 64, 128, 256)
BOTH, GRADIENT = ("value", "gradient"), ("gradient",)

SECTIONS = ("reference", "windows", "masks", "pointwise", "overhead", "memory", "voxels", "cores")
GPU_SECTIONS = ("reference", "windows", "masks", "pointwise", "voxels")
ONE_SIZE = ("reference", "pointwise")


def plan(*, sections, losses, backends, peers, device, size, cores):
    """Yield ``(section, [job, ...])``; a job is what `benchmarks.worker` takes, less the folder of the inputs."""

    def job(subject, backend, loss, at=size, what=BOTH, on=cores):
        return {
            "subject": subject,
            "backend": backend,
            "loss": loss,
            "size": list(at),
            "what": list(what),
            "cores": on,
            "device": "cuda" if backend == "cupy" else device,
        }

    def ours(loss, among=None, **keywords):
        chosen = [backend for backend in backends if among is None or backend in among]
        return [job("agnoreg", backend, loss, **keywords) for backend in chosen]

    def by_the_core(loss):
        """Return what LNCC takes without kernels; on a CPU, the losses beside it have none."""
        taken = loss["name"] == "lncc" and device is None
        return [job("agnoreg", WITHOUT_KERNELS[b], loss) for b in backends if taken and b in WITHOUT_KERNELS]

    def instead_of_monai(loss):
        return [job("compat", "torch", loss)] if "torch" in backends and "monai" in peers else []

    def others(loss, modes=("tensorflow", "tensorflow graph"), **keywords):
        return [
            job(peer, mode, loss, **keywords)
            for peer in peers
            for mode in {"deepreg-formula": modes, "jax-formula": ("jax",)}.get(peer, (None,))
        ]

    def charted(loss, **keywords):
        return [j for j in others(loss, ("tensorflow graph",), **keywords) if j["subject"] in CHARTED]

    def named(names):
        return [loss for loss in losses if loss["name"] in names]

    def bare(name, **keywords):
        return [job("plain", backend, {"name": name}, **keywords) for backend in backends]

    makers = {
        "reference": lambda: [
            ours(loss) + by_the_core(loss) + instead_of_monai(loss) + others(loss) for loss in named(WINDOWED)
        ],
        "windows": lambda: [
            [j for window in WINDOWS for j in ours(loss | window, ("torch", "numpy", "cupy"), what=GRADIENT)]
            for loss in named(["lncc"])
        ],
        "masks": lambda: [
            [j for mask in MASKS for j in ours(loss | mask, what=GRADIENT)] for loss in named(WINDOWED[:2])
        ],
        "pointwise": lambda: [
            [j for loss in named(POINTWISE) for j in ours(loss, what=GRADIENT) + bare(loss["name"], what=GRADIENT)]
            + [j for name in ("pass", "scaled pass") for j in bare(name, what=GRADIENT)]
        ],
        "overhead": lambda: [
            [
                j | {"size": [32, 32, 32], "what": list(GRADIENT)}
                for loss in named(POINTWISE)
                for j in ours(loss) + bare(loss["name"])
                if j["backend"] in ("numpy", "torch")
            ]
        ],
        "memory": lambda: [
            *([j] for loss in losses for j in ours(loss, ("torch", "numpy"), at=[192] * 3, what=GRADIENT)),
            *([j] for j in _gmi_of_64_bins(named, ours)),
            *(
                [j for width in (5, 21) for j in ours(loss | {"kernel_size": width}, ("torch", "numpy"), at=[128] * 3)]
                for loss in named(["lncc"])
            ),
        ],
        "voxels": lambda: [
            ours(loss, at=[n] * 3, what=GRADIENT) + charted(loss, at=[n] * 3, what=GRADIENT)
            for loss in named(WINDOWED[:3])
            for n in SIZES
        ],
        "cores": lambda: [
            ours(loss, what=GRADIENT, on=n) + charted(loss, what=GRADIENT, on=n)
            for loss in named(WINDOWED[:2])
            for n in powers(cores)
        ],
    }
    for section in sections:
        group_needs = named(POINTWISE) if section in ("pointwise", "overhead") else losses
        for jobs in makers[section]() if group_needs else []:
            if jobs:
                yield section, jobs


def _gmi_of_64_bins(named, ours):
    at = [SIZES[-1]] * 3
    return [j for loss in named(["gmi"]) for j in ours(loss | {"num_bins": 64}, ("torch",), at=at, what=GRADIENT)]


def runs(section, job, most):
    """Return how many processes a job's figures are the median of: what an aim is set for gets all, sweeps get one."""
    if section in ("memory", "voxels", "cores"):
        return 1
    if section == "reference" and job["subject"] in ("agnoreg", "compat", *CHARTED):
        return most
    return (most + 1) // 2


def powers(cores):
    """Return 1, 2, 4, ... up to the number of cores, and that number."""
    below = [2**k for k in range(cores.bit_length()) if 2**k < cores]
    return [*below, cores]
