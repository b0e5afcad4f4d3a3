"""The compiler of kernels, which is there where they are to be emulated."""

import os


def getVersion():  # noqa: N802
    if os.environ.get("CUPY_STAND_IN_KERNELS") != "1":
        raise RuntimeError("CuPy's stand-in was not told to emulate kernels: CUPY_STAND_IN_KERNELS=1")
    return 12, 4
