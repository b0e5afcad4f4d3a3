"""The code in the documents, and a process that runs it: ``python document_code.py FOLDER PAGE...`` prints JSON.

A page's blocks run in the page's order, in one namespace and in a folder of their own:

- ```` ```python ````, and ``<!-- python ... -->``, which a reader does not see;
- ```` ```shell ````, whose lines are commands of `agnoreg`;
- ```` ```yaml ````, which `agnoreg.load_loss` must take.

``<!-- run as NAME -->`` says that the code of a page is that of the module ``NAME``. What needs a library that is not
installed here stands in ```` ```{code-block} python ```` and does not run.
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import traceback
import warnings
from pathlib import Path

BLOCK = re.compile(r"^```(python|shell|yaml)\n(.*?)^```$|^<!-- python\n(.*?)^-->$", flags=re.DOTALL | re.MULTILINE)

#: A block that imports it is left out where it cannot be used.
NEEDS_A_CARD = "cupy"


def blocks(page):
    """Return the kind and the code of each block of a page."""
    found = (match.groups() for match in BLOCK.finditer(page))
    return [(kind or "python", shown if shown is not None else hidden) for kind, shown, hidden in found]


def module_of(page):
    """Return the name of the module that the code of a page is."""
    found = re.search(r"<!-- run as (\S+) -->", page)
    return found.group(1) if found else "__main__"


def run(page, name):
    """Run the blocks of a page in the current folder."""
    import agnoreg

    namespace = {"__name__": module_of(page)}
    for number, (kind, code) in enumerate(blocks(page), 1):
        if kind == "python":
            if NEEDS_A_CARD in code and agnoreg.available_backends()[NEEDS_A_CARD] != "ok":
                continue
            exec(compile(code, f"{name}, block {number}", "exec"), namespace)
        elif kind == "shell":
            for line in code.strip().replace("\\\n", " ").splitlines():
                command, *words = shlex.split(line)
                assert command == "agnoreg", f"{name}, block {number}: only agnoreg runs in a shell block"
                script = shutil.which(command, path=sysconfig.get_path("scripts"))
                done = subprocess.run([script, *words], capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{line}\n{done.stderr}"
        else:
            path = Path(f"block{number}.yaml")
            path.write_text(code)
            agnoreg.load_loss(path)


def main(folder, *paths):
    """Run pages one after the other, and print what each raised and how long it took."""
    from agnoreg.objects import registry

    warnings.simplefilter("error")
    tables = {name: dict(getattr(registry, name)) for name in ("_by_name", "_by_class")}
    results = {}
    pages = [Path(path).resolve() for path in paths]
    for number, (path, page) in enumerate(zip(paths, pages, strict=True)):
        place = Path(folder) / str(number)
        place.mkdir(parents=True)
        os.chdir(place)
        start, raised = time.perf_counter(), ""
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                run(page.read_text(), page.name)
        except BaseException:
            raised = traceback.format_exc()
        # A page that registers a loss leaves none behind.
        for name, table in tables.items():
            getattr(registry, name).clear()
            getattr(registry, name).update(table)
        results[path] = {"raised": raised, "seconds": round(time.perf_counter() - start, 2)}
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
