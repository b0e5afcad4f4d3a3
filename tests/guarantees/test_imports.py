"""Importing agnoreg loads no framework, and suffers from none that is broken or absent."""

import json

import pytest
from python_process import run_python


# Numba brings scipy along with the first loss.
@pytest.mark.parametrize(
    ("before", "others"),
    [("sys.modules.update(numba=None)", ["scipy"]), ("pass", [])],
    ids=["without numba", "with numba"],
)
def test_import_loads_no_framework(before, others, capsys):
    others = ["torch", "tensorflow", "jax", "cupy", "dask", "keras", "nibabel", *others]
    code = (
        f"import sys; {before}\n"
        "import time; start = time.perf_counter(); import agnoreg\n"
        "print(f'import agnoreg: {time.perf_counter() - start:.2f} s', file=sys.stdout)\n"
        "assert 'scipy' not in sys.modules\n"
        "import numpy as np; agnoreg.build_loss('ssd')(np.zeros((1, 2)), np.ones((1, 2)))\n"
        f"print([m for m in {others} if m in sys.modules])"
    )
    timing, loaded = run_python(code).strip().splitlines()
    with capsys.disabled():
        print(f"\n{timing}")
    assert loaded == "[]"


@pytest.mark.parametrize("error", ["ImportError('no libcuda.so.1')", "OSError('undefined symbol')"])
def test_a_framework_that_fails_to_import_is_reported_and_harms_nothing(tmp_path, error):
    for name in ("torch", "cupy"):
        (tmp_path / f"{name}.py").write_text(f"raise {error}\n")
    code = (
        "import agnoreg, numpy as np\n"
        "assert agnoreg.build_loss('ssd')(np.zeros((1, 2)), np.ones((1, 2))) == 1\n"
        "import json; print(json.dumps(agnoreg.available_backends()))"
    )
    states = json.loads(run_python(code, PYTHONPATH=str(tmp_path), TF_CPP_MIN_LOG_LEVEL="3").strip().splitlines()[-1])
    assert states["numpy"] == "ok"
    for name in ("torch", "cupy"):
        assert states[name].startswith("broken: ")
        assert error.split("'")[1] in states[name]


def test_a_framework_that_is_absent_says_which_extra_installs_it(monkeypatch):
    code = (
        "import sys; sys.modules['cupy'] = None; sys.modules['torch'] = None\n"
        "import agnoreg\n"
        "for name in ('cupy', 'torch'):\n"
        "    try: agnoreg.get_backend(name)\n"
        "    except ImportError as error: print(error)"
    )
    cupy, torch = run_python(code).strip().splitlines()
    assert "pip install agnoreg[cupy12] or agnoreg[cupy13]" in cupy
    assert "pip install agnoreg[torch]" in torch
