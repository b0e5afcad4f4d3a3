"""The command ``agnoreg compile``: kernels are compiled ahead, in an image of a container say."""

import time
from typing import Annotated, Any

from agnoreg.backend.accelerators import compile_all


def add_compile(app: Any) -> None:
    """Add the command to a `typer.Typer`."""
    import typer

    @app.command("compile")
    def compile_ahead(
        float64: Annotated[bool, typer.Option("--float64", help="For images in float64, too.")] = False,
    ) -> None:
        """Compile the kernels of all losses ahead, which otherwise happens at the first call of each."""
        start = time.perf_counter()
        kinds = compile_all(("float32", "float64") if float64 else ("float32",))
        seconds = time.perf_counter() - start
        if kinds:
            print(f"Kernels are compiled for arrays in the memory of: {', '.join(kinds)} ({seconds:.1f} s).")
        else:
            print("There are no kernels that can be compiled ahead.")
