"""The voxels of a NIfTI file as they are stored: no more memory than there are data, whatever a header claims."""

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

Array = Any

#: How many bytes are decompressed at a time.
PIECE = 1 << 20
#: How many bytes may follow the last voxel of a compressed file whose header is still believed.
TRAILING = 1 << 20
#: The most bytes that deflate makes of one: a longest match, 258 bytes, in two bits.
RATIO = 1032


@dataclass(frozen=True)
class FileData:
    """Numbers in a file, compressed where its name ends in ``.gz``, and the line that turns them into values.

    Attributes
    ----------
    path
        The file.
    offset
        Where they begin, in bytes; uncompressed.
    dtype
        What they are.
    shape
        The size of each axis, the first one changing fastest.
    slope, inter
        A stored number x is the value ``slope * x + inter``.
    """

    path: Path
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    slope: float
    inter: float

    @property
    def compressed(self) -> bool:
        """Whether the file is compressed."""
        return is_compressed(self.path)

    def check(self) -> None:
        """Compare what the header claims with the file's size.

        Raises
        ------
        ValueError
            If the file is too small to hold it.
        """
        claimed, size = self.offset + math.prod(self.shape) * self.dtype.itemsize, self.path.stat().st_size
        if self.compressed and claimed > RATIO * size:
            raise ValueError(f"its header claims {claimed} bytes, and {size} compressed bytes cannot hold as many.")
        if not self.compressed and claimed > size:
            raise ValueError(f"its header claims {claimed} bytes, and the file has {size}.")

    def read(self) -> Array:
        """Return the numbers: mapped into memory, or decompressed in pieces and read to the checksum.

        Raises
        ------
        Exception
            Whatever gzip, zlib and the file system have for a file that is truncated or damaged.
        """
        self.check()
        if not self.compressed:
            return np.memmap(self.path, self.dtype, "r", self.offset, self.shape, "F")
        with gzip.open(self.path) as file:
            for _ in range(self.offset // PIECE):
                exactly(file, PIECE)
            exactly(file, self.offset % PIECE)
            # It grows with what is there: what a header claims is not allocated beforehand.
            stored = exactly(file, math.prod(self.shape) * self.dtype.itemsize)
            # The checksum is at the end.
            beyond = 0
            while piece := file.read(PIECE):
                beyond += len(piece)
                if beyond > TRAILING:
                    raise ValueError(f"more than {TRAILING} bytes follow the last voxel that its header names.")
        return np.frombuffer(stored, self.dtype).reshape(self.shape, order="F")


@dataclass(frozen=True)
class HeldData:
    """Numbers that nibabel holds, or reads by itself; attributes and methods are those of `FileData`."""

    held: Any
    dtype: np.dtype[Any]
    slope: float
    inter: float

    def check(self) -> None:
        """Find nothing wrong: there is no file to compare with."""

    def read(self) -> Array:
        """Return the numbers."""
        return self.held.get_unscaled() if hasattr(self.held, "get_unscaled") else np.asanyarray(self.held)


def is_compressed(path: Path) -> bool:
    """Return whether a file is compressed, by its name."""
    return path.name.lower().endswith(".gz")


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first bytes of a file, decompressed; fewer where it has no more."""
    with gzip.open(path) if is_compressed(path) else open(path, "rb") as file:
        return bytes(file.read(count))


def exactly(file: BinaryIO | gzip.GzipFile, count: int) -> bytearray:
    """Return so many bytes of a file, read in pieces; raise EOFError where it has fewer."""
    content = bytearray()
    while len(content) < count:
        piece = file.read(min(PIECE, count - len(content)))
        if not piece:
            raise EOFError(f"it ends {count - len(content)} bytes early.")
        content += piece
    return content
