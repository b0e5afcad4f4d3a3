"""A Python Array API namespace (2024.12) over plain ``tf.Tensor``.

It switches nothing on in TensorFlow and never leaves it: every function works eagerly and while a function is traced,
also where the batch size is unknown. ``None`` in a shape stands for the size that the array has on that axis.
"""

# ruff: noqa: F403
import math

from agnoreg_tensorflow import fft as fft
from agnoreg_tensorflow import linalg as linalg
from agnoreg_tensorflow._creation import *
from agnoreg_tensorflow._dtypes import *
from agnoreg_tensorflow._elementwise import *
from agnoreg_tensorflow._info import NamespaceInfo as _NamespaceInfo
from agnoreg_tensorflow._manipulation import *
from agnoreg_tensorflow._reductions import *
from agnoreg_tensorflow._searching import *
from agnoreg_tensorflow.linalg import matmul as matmul
from agnoreg_tensorflow.linalg import matrix_transpose as matrix_transpose
from agnoreg_tensorflow.linalg import tensordot as tensordot
from agnoreg_tensorflow.linalg import vecdot as vecdot

__array_api_version__ = "2024.12"

pi, e, inf, nan = math.pi, math.e, math.inf, math.nan
newaxis = None


def __array_namespace_info__() -> _NamespaceInfo:  # noqa: N807
    """Return what this namespace can do, and its dtypes and devices."""
    return _NamespaceInfo()
