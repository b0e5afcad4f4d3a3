"""Devices as short names: ``"CPU:0"``, ``"GPU:1"``."""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import tensorflow as tf


@lru_cache(maxsize=64)
def device_name(device: str) -> str:
    """Return the one name of a device that TensorFlow can write in several ways.

    ``"cpu"``, ``"/CPU:0"`` and ``"/job:localhost/replica:0/task:0/device:CPU:0"`` are all ``"CPU:0"``. A device of
    another machine keeps its job and task.
    """
    text = device if ":" in device else f"{device.lstrip('/')}:0"
    spec = tf.DeviceSpec.from_string(text)
    if spec.device_type is None:
        raise ValueError(f"{device!r} names no device: write for example 'cpu', 'gpu' or 'GPU:1'.")
    name = f"{spec.device_type}:{spec.device_index or 0}"
    return name if spec.job in (None, "localhost") else f"/job:{spec.job}/task:{spec.task or 0}/device:{name}"


def device_of(x: Any) -> str | None:
    """Return where ``x`` lives, or ``None`` while a function is traced: TensorFlow places its operations afterwards."""
    return device_name(x.device) if tf.executing_eagerly() and x.device else None


def placed(device: Any) -> AbstractContextManager[Any]:
    """Return a context whose operations run on ``device``; ``None`` or ``""`` leaves that to TensorFlow.

    Raises
    ------
    ValueError
        If there is no such device. TensorFlow itself would silently take the CPU.
    """
    if not device:
        return nullcontext()
    name = device_name(str(device))
    known = [device_name(found.name) for found in tf.config.list_logical_devices()]
    if name not in known:
        raise ValueError(f"TensorFlow has no device {device!r} here, only {', '.join(known)}.")
    return tf.device(name)
