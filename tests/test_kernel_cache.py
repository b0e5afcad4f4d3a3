"""What is compiled for the host is kept on disk, whoever else is doing the same."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the kernels on the host need Numba")

MODULE = """
from agnoreg_cpu.compiling import kernel

@kernel()
def more(x):
    return x + {step}
"""
#: A process that waits before it writes what it compiled, when it has written that there is something.
SLOW = """
import pathlib, sys, time
from numba.core.caching import IndexDataCacheFile

write = IndexDataCacheFile._save_data

def wait_and_write(self, name, data):
    pathlib.Path("indexed").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    write(self, name, data)

IndexDataCacheFile._save_data = wait_and_write
"""
CALL = "from module import more; print(more(1))"


def python(folder: Path, code: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    environment.pop("NUMBA_CACHE_DIR", None)
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def printed(process: subprocess.Popen[str]) -> str:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return out.strip()


@pytest.mark.slow
def test_a_process_never_gets_what_an_older_version_left_while_another_one_writes(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(MODULE.format(step=10))
    assert printed(python(tmp_path, CALL)) == "11"
    # The same bytes but for a constant: only the file's time and size tell the versions apart.
    module.write_text(MODULE.format(step=1000))
    slow = python(tmp_path, SLOW + CALL)
    while not (tmp_path / "indexed").exists():
        assert slow.poll() is None, slow.communicate()
        time.sleep(0.01)
    other = python(tmp_path, CALL)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=3)
    finally:
        (tmp_path / "go").touch()
    results = [printed(process) for process in (slow, other)]
    assert results == ["1001", "1001"]


@pytest.mark.slow
def test_a_kernel_computes_where_nothing_can_be_written(tmp_path):
    (tmp_path / "module.py").write_text(MODULE.format(step=10))
    full = """
import errno
from numba.core.caching import IndexDataCacheFile

def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

IndexDataCacheFile._save_index = fail
"""
    assert printed(python(tmp_path, full + CALL)) == "11"


@pytest.mark.slow
def test_what_is_compiled_is_kept(tmp_path):
    (tmp_path / "module.py").write_text(MODULE.format(step=10))
    hits = CALL + "; print(sum(more.stats.cache_hits.values()))"
    assert printed(python(tmp_path, hits)).split() == ["11", "0"]
    assert printed(python(tmp_path, hits)).split() == ["11", "1"]
