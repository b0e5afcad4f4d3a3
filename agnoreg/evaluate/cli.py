"""The ``agnoreg`` command: options in, tables out.

What it computes is in `agnoreg.evaluate.evaluation`, what it prints in `agnoreg.evaluate.tables`; ``evaluate`` itself
is in `agnoreg.evaluate.cli_evaluate`.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

from agnoreg.evaluate.cli_messages import activity, fail

#: A paragraph a line: what is wrapped is up to the terminal.
TOUR = "\n\n".join(
    (
        "Losses and metrics of medical image registration, on NIfTI files.",
        "evaluate measures a registration: the similarity of the images, the overlap of labels and the distances of "
        "their surfaces, folds of the field, the error at landmarks; for one pair, or for every pair in a CSV. losses "
        "and metrics list what there is, or explain one by name. backends lists what can compute on this machine.",
        "\b\nHow good is the registration, and how good was it before?\n"
        "  agnoreg evaluate fixed.nii.gz moved.nii.gz --moved-before moving.nii.gz",
        "\b\nLabels and field, by the definitions of the Learn2Reg challenge:\n"
        "  agnoreg evaluate f.nii.gz m.nii.gz --fixed-label a.nii.gz \\\n"
        "      --moved-label b.nii.gz --ddf disp.npz --convention learn2reg",
        "\b\nA study: one line per pair in, one row per pair out:\n"
        "  agnoreg evaluate --pairs pairs.csv --out results.parquet",
        "--dry-run checks the inputs and lists what would be computed. All options are in docs/cli.md.",
    )
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit.

    Parameters
    ----------
    arguments
        The words after ``agnoreg``; those of the process where None.

    Raises
    ------
    SystemExit
        Always: with 0 where it worked, with 2 where the input did not fit, after one line on stderr that says why.
    """
    try:
        import nibabel  # noqa: F401
        import rich  # noqa: F401
        import typer
    except ImportError as error:
        message = f"the command needs nibabel, typer and rich: pip install agnoreg[cli] ({error})"
        raise SystemExit(fail(message)) from None
    from agnoreg.evaluate.nifti import InputError

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _app()(given or ["--help"], prog_name="agnoreg", standalone_mode=False)
    except InputError as error:
        code = fail(str(error))
    except typer.Abort:
        code = fail("interrupted", code=130)
    except Exception as error:
        # What typer says about options; the class that its exceptions share moved between versions.
        if not hasattr(error, "format_message"):
            raise
        code = fail(f"{error.format_message().rstrip('.')}. See agnoreg --help.")
    raise SystemExit(code)


def _app() -> Any:
    import typer

    from agnoreg.evaluate.cli_evaluate import add_evaluate
    from agnoreg.evaluate.compile_command import add_compile

    app = typer.Typer(
        help=TOUR,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            print(f"agnoreg {version('agnoreg')}")
            raise typer.Exit

    @app.callback(help=TOUR)
    def options(
        shown: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
        ] = False,
    ) -> None:
        pass

    add_evaluate(app)

    @app.command()
    def losses(
        name: Annotated[
            str | None, typer.Argument(help="One of them: its formula, range and arguments.", autocompletion=_losses)
        ] = None,
    ) -> None:
        """List every registered loss and its metric: range, direction, best value, arguments."""
        from agnoreg.evaluate.lists import print_loss, print_losses

        print_losses() if name is None else print_loss(name)

    @app.command()
    def metrics(
        name: Annotated[
            str | None,
            typer.Argument(help="One of them: its definition, range, arguments, conventions.", autocompletion=_metrics),
        ] = None,
    ) -> None:
        """List every metric of labels, fields and landmarks: range, direction, unit, conventions."""
        from agnoreg.evaluate.lists import print_metric, print_metrics

        print_metrics() if name is None else print_metric(name)

    @app.command()
    def backends() -> None:
        """List every backend: ok, absent, or broken and why; and what compiled kernels would bring."""
        from agnoreg.backend import available_backends

        with activity() as say:
            say("looking at backends")
            states = available_backends()
        for name, state in states.items():
            print(f"{name:<{max(map(len, states))}}  {state}")

    add_compile(app)
    return app


def _losses(incomplete: str) -> list[str]:
    from agnoreg.objects.registry import registered_losses

    return [name for name in registered_losses() if name.startswith(incomplete)]


def _metrics(incomplete: str) -> list[str]:
    from agnoreg.evaluate.quantities import ALIASES, GROUPS, QUANTITIES

    return [name for name in dict.fromkeys((*QUANTITIES, *GROUPS, *ALIASES)) if name.startswith(incomplete)]
