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


def python(folder: Path, code: str, cache: object = None, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    environment.pop("NUMBA_CACHE_DIR", None)
    environment["AGNOREG_CACHE"] = str(folder / "cache" if cache is None else cache)
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env={**environment, **more}, text=True,
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


#: Prints the result, and how many kernels were loaded and not compiled.
HITS = CALL + "; print(sum(more.stats.cache_hits.values()))"


def written(folder: Path, code: str = HITS, **options: object) -> tuple[str, list[str]]:
    """Return what a process writes to its log, and its numbers."""
    process = python(folder, code, **options)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return error, out.split()


@pytest.mark.slow
def test_what_is_compiled_is_kept_once_for_all_environments_and_not_beside_the_package(tmp_path):
    for environment, hits in (("one", "0"), ("two", "1")):
        folder = tmp_path / environment
        folder.mkdir()
        (folder / "module.py").write_text(MODULE.format(step=10))
        assert written(folder, cache=tmp_path / "kept") == ("", ["11", hits])
        assert not list(folder.rglob("*.nbi"))
    assert len(list((tmp_path / "kept").rglob("*.nbi"))) == 1


@pytest.mark.slow
def test_the_users_cache_is_the_place_unless_another_is_given(tmp_path):
    (tmp_path / "module.py").write_text(MODULE.format(step=10))
    print_folder = "from agnoreg_cpu.kept import folder; print(folder())"
    homes = {"HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path / "local"), "XDG_CACHE_HOME": ""}
    default = {"win32": "local", "darwin": "Library/Caches"}.get(sys.platform, ".cache")
    for cache, more, expected in (
        ("", {}, tmp_path / default / "agnoreg"),
        ("", {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}, tmp_path / "numba"),
        (tmp_path / "own", {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}, tmp_path / "own"),
    ):
        error, (place,) = written(tmp_path, print_folder, cache=cache, **homes, **more)
        assert error == ""
        assert Path(place).is_relative_to(expected / "kernels")


@pytest.mark.slow
def test_where_nothing_can_be_kept_kernels_are_compiled_in_memory_and_one_line_says_so(tmp_path):
    (tmp_path / "module.py").write_text(MODULE.format(step=10) + MODULE.format(step=20).replace("more", "most"))
    (tmp_path / "file").touch()
    error, numbers = written(tmp_path, HITS + "; from module import most; print(most(1))", cache=tmp_path / "file")
    assert numbers == ["11", "0", "21"]
    (line,) = error.splitlines()
    assert line.startswith("Compiled kernels cannot be kept, so each process compiles its own: ")
    assert line.endswith("Set AGNOREG_CACHE to a folder that can be written to.")


@pytest.mark.slow
def test_kernels_that_were_kept_in_an_image_serve_where_nothing_can_be_written(tmp_path):
    (tmp_path / "module.py").write_text(MODULE.format(step=10))
    assert written(tmp_path) == ("", ["11", "0"])
    # The superuser may write everywhere.
    sealed = "import os; may = os.access; os.access = lambda path, mode: mode != os.W_OK and may(path, mode); "
    before = sorted(tmp_path.rglob("*"))
    assert written(tmp_path, sealed + HITS) == ("", ["11", "1"])
    (tmp_path / "module.py").write_text(MODULE.format(step=20))
    assert written(tmp_path, sealed + HITS) == ("", ["21", "0"])
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts] == [
        path for path in before if "__pycache__" not in path.parts
    ]


@pytest.mark.slow
def test_without_numbas_private_names_kernels_compute(tmp_path):
    (tmp_path / "module.py").write_text(
        """
import agnoreg_cpu._private as private
for name in ("_CompilerBase", "_noalias", "_FunctionCache", "_FunctionCacheImpl"):
    assert getattr(private, name) is not None
    setattr(private, name, None)
"""
        + MODULE.format(step=10).replace("@kernel()", "@kernel(apart=True)")
    )
    assert written(tmp_path) == ("", ["11", "0"])


#: A kernel that takes long to compile, because another thread of Python must announce it first.
LONG = """
import logging, sys
from agnoreg_cpu import compiling

said = []
compiling.SILENCE = 0.0
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("agnoreg").addHandler(handler)
"""


@pytest.mark.slow
def test_a_long_compilation_is_announced_once_and_what_is_kept_is_not(tmp_path):
    (tmp_path / "module.py").write_text(
        MODULE.format(step=10) + MODULE.format(step=20).replace("more(x)", "most(x)").replace("x +", "more(x) +")
    )
    call = LONG + "import module; print(module.most(1), len(said), *said)"
    for expected in ("31 1 Compiling kernels", "31 0"):
        process = python(tmp_path, call)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert out.startswith(expected), out


@pytest.mark.slow
def test_what_is_compiled_ahead_is_all_that_the_losses_need(tmp_path):
    ahead = """
from agnoreg_cpu import compile_all
compile_all()
"""
    # In another process: whatever is not found on disk is compiled, which is not allowed.
    later = """
import numpy as np
import agnoreg
from numba.core import compiler

def fail(*_, **__):
    raise AssertionError("something is compiled")

compiler.compile_extra = fail
t, p = np.random.default_rng(0).random((2, 1, 20, 20, 20), dtype=np.float32)
for name in ("lncc", "gncc", "dice", "jaccard", "ssd", "cross-entropy", "gmi"):
    loss = agnoreg.build_loss(name)
    loss(t, p)
    for argnums in (0, 1, (0, 1)):
        agnoreg.value_and_grad(loss, t, p, argnums=argnums)
for convention in ("monai", "ants", "exact"):
    agnoreg.value_and_grad(agnoreg.build_loss({"name": "lncc", "convention": convention}), t, p)
print("done")
"""
    printed(python(tmp_path, ahead))
    assert printed(python(tmp_path, later)) == "done"


#: Fields of odd sizes, whose last numbers a vectorised sum adds up on their own.
DIGITS = """
import numpy as np
import agnoreg

rng = np.random.default_rng(0)
fields = [rng.standard_normal((1, 11, 12, 13, 3), dtype=np.float32) for _ in range(40)]
print([float(agnoreg.Gradient()(field)) for field in fields])
"""


@pytest.mark.slow
def test_what_was_just_compiled_and_what_was_kept_compute_the_same_digits(tmp_path):
    fresh, kept = (printed(python(tmp_path, DIGITS)) for _ in range(2))
    assert fresh == kept
