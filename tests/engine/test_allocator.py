"""Hints about memory."""

import mmap
import re
from pathlib import Path

import numpy as np
import pytest

from agnoreg.engine.allocator import LARGE_ARRAY, LARGE_PAGE, take_large_pages

MAPS = Path("/proc/self/smaps")


def flags(address):
    """Return the flags that the kernel has for the memory at an address of this process."""
    lines = iter(MAPS.read_text().splitlines())
    for line in lines:
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line)
        if found and int(found[1], 16) <= address < int(found[2], 16):
            return next(one for one in lines if one.startswith("VmFlags:")).split()[1:]
    raise ValueError(f"nothing is at {address:#x}")


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE") or not MAPS.exists(), reason="Linux tells of pages")
@pytest.mark.parametrize("size", [4 * LARGE_ARRAY, LARGE_ARRAY // 2])
def test_linux_is_asked_for_large_pages_of_large_memory_alone_which_keeps_what_it_holds(size):
    memory = np.frombuffer(mmap.mmap(-1, size), np.uint8)
    memory[1:] = 7
    # Neither end is that of a page.
    inner = memory[1:-1]
    take_large_pages(inner)
    middle = (inner.ctypes.data + inner.nbytes // 2) // LARGE_PAGE * LARGE_PAGE
    assert ("hg" in flags(middle if size > LARGE_ARRAY else inner.ctypes.data)) == (size > LARGE_ARRAY)
    assert (inner == 7).all()


def test_of_memory_without_a_whole_page_nothing_is_asked():
    take_large_pages(np.zeros(0, np.uint8))
