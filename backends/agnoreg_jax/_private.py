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


def moves(tangent: Any) -> bool:
    """Return whether a tangent may be anything but 0; that of an integer has a dtype of its own."""
    return not symbolic_zero(tangent) and tangent.dtype != jax.dtypes.float0


def varies(array: Any) -> bool:
    """Return whether the type of an array says over which axes of ``shard_map`` it varies; no may be wrong.

    A result that lacks it JAX refuses, with an error.
    """
    kind = jax.typeof(array) if hasattr(jax, "typeof") else None
    return bool(getattr(getattr(kind, "manual_axis_type", None), "varying", None) or getattr(kind, "vma", None))
