"""What JAX hardly makes public, and what is done where that has vanished."""

from typing import Any

import jax
import numpy as np

from agnoreg.backend.private import PrivateNames

names = PrivateNames()
_Tracer = names.find("jax.core.Tracer")
_SymbolicZero = names.find("jax.custom_derivatives.SymbolicZero")
if not hasattr(jax.Array, "committed"):
    names.missing.append("jax.Array.committed")


def traced(array: Any) -> bool:
    """Return whether this stands for an array while a function is traced."""
    if _Tracer is not None:
        return isinstance(array, _Tracer)
    try:
        array.unsafe_buffer_pointer()
    except jax.errors.ConcretizationTypeError:
        return True
    except Exception:  # One that is spread over devices has no single address, yet it is there.
        return False
    return False


def committed(array: Any) -> bool:
    """Return whether an array was put on a device; perhaps, where nobody knows: then JAX may choose."""
    return getattr(array, "committed", False)


def symbolic_zero(tangent: Any) -> bool:
    """Return whether a tangent is known to be 0."""
    if _SymbolicZero is None:
        return not isinstance(tangent, (jax.Array, np.ndarray))
    return isinstance(tangent, _SymbolicZero)
