"""What ``__array_namespace_info__`` returns."""

from typing import Any

import tensorflow as tf

from agnoreg_tensorflow import _dtypes as dt

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_STANDARD = ("bool", *_INTEGERS, "float32", "float64", "complex64", "complex128")


class NamespaceInfo:
    """What this namespace can do, and its dtypes and devices, as the standard asks."""

    def capabilities(self) -> dict[str, Any]:
        """Return what the standard leaves to an implementation.

        A mask indexes a tensor unless it is a scalar, and never assigns to one. A tensor may have 254 dimensions, but
        TensorFlow slices, reverses and chooses from no more than 8.
        """
        return {"boolean indexing": False, "data-dependent shapes": True, "max dimensions": 8}

    def default_device(self) -> str:
        """Return the device that new arrays are put on: the first GPU, or else the CPU."""
        devices = self.devices()
        return next((device for device in devices if "device:GPU:" in device), devices[0])

    def devices(self) -> list[str]:
        """Return all devices as a tensor's own ``device`` names them; functions take shorter names too."""
        place = tf.DeviceSpec.from_string("/job:localhost/replica:0/task:0")
        return [
            place.make_merged_spec(tf.DeviceSpec.from_string(device.name)).to_string()
            for device in tf.config.list_logical_devices()
        ]

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """Return the dtypes of Python numbers and of indices."""
        return {
            "real floating": dt.DEFAULT_FLOAT,
            "complex floating": dt.DEFAULT_COMPLEX,
            "integral": dt.DEFAULT_INT,
            "indexing": dt.DEFAULT_INT,
        }

    def dtypes(self, *, device: Any = None, kind: str | tuple[str, ...] | None = None) -> dict[str, Any]:
        """Return the standard's dtypes by name, all or those of a kind."""
        found = {name: getattr(dt, name) for name in _STANDARD}
        return found if kind is None else {name: one for name, one in found.items() if dt.isdtype(one, kind)}
