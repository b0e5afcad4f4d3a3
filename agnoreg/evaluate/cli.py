"""The ``agnoreg`` command: options in, tables out.

What it computes is in `agnoreg.evaluate.evaluation`, what it prints in `agnoreg.evaluate.tables`.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

PREFIX = "agnoreg: error:"


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
        raise SystemExit(_fail(message)) from None
    from agnoreg.evaluate.nifti import InputError

    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _app()(given or ["--help"], prog_name="agnoreg", standalone_mode=False)
    except InputError as error:
        code = _fail(str(error))
    except typer.Abort:
        code = _fail("interrupted", code=130)
    except Exception as error:
        # What typer says about options; the class that its exceptions share moved between versions.
        if not hasattr(error, "format_message"):
            raise
        code = _fail(f"{error.format_message().rstrip('.')}. See agnoreg --help.")
    raise SystemExit(code)


def _fail(message: str, code: int = 2) -> int:
    print(f"{PREFIX} {' '.join(message.split())}", file=sys.stderr)
    return code


# --- options ----------------------------------------------------------------------------------------------------------


def _app() -> Any:
    import typer

    from agnoreg.evaluate.compile_command import add_compile
    from agnoreg.evaluate.nifti import MAX_VOXELS

    app = typer.Typer(
        help="Losses and metrics of medical image registration, on NIfTI files.",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            print(f"agnoreg {version('agnoreg')}")
            raise typer.Exit

    @app.callback()
    def options(
        shown: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
        ] = False,
    ) -> None:
        pass

    many = {"rich_help_panel": "Many pairs"}

    @app.command()
    def evaluate(
        fixed: Annotated[Path | None, typer.Argument(metavar="FIXED", help="The fixed image, NIfTI, 3-D.")] = None,
        moved: Annotated[
            Path | None, typer.Argument(metavar="MOVED", help="The moved image, on the same grid.")
        ] = None,
        fixed_label: Annotated[Path | None, typer.Option(help="Label map of the fixed image: integers.")] = None,
        moved_label: Annotated[Path | None, typer.Option(help="Label map of the moved image.")] = None,
        moved_before: Annotated[
            Path | None, typer.Option(help="The moving image before the registration: its values stand beside.")
        ] = None,
        moved_label_before: Annotated[
            Path | None, typer.Option(help="Label map of the moving image before the registration.")
        ] = None,
        ddf: Annotated[
            Path | None, typer.Option(help="Displacement field (X,Y,Z,3) or (X,Y,Z,1,3), component i along axis i.")
        ] = None,
        loss: Annotated[
            list[str] | None,
            typer.Option(metavar="NAME[:k=v,...]", help="What to compute (repeatable); all that fits if left out."),
        ] = None,
        convention: Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                help="Whose definitions, where they have one: of losses exact, deepreg, monai, voxelmorph or ants; of "
                "metrics deepmind, monai, medpy, learn2reg and others (agnoreg metrics NAME).",
            ),
        ] = None,
        nsd_tolerance: Annotated[
            float | None, typer.Option(metavar="MM", help="Tolerance of the normalised surface Dice, in mm.")
        ] = None,
        mask: Annotated[Path | None, typer.Option(help="What counts, in everything: where this is not 0.")] = None,
        fixed_mask: Annotated[
            Path | None, typer.Option(help="What counts of the fixed image and labels: where this is not 0.")
        ] = None,
        moving_mask: Annotated[
            Path | None, typer.Option(help="What counts of the moved image and labels, on the fixed grid.")
        ] = None,
        nan_is_masked: Annotated[
            bool, typer.Option("--nan-is-masked", help="Voxels that are NaN or infinite do not count.")
        ] = False,
        label_names: Annotated[
            Path | None,
            typer.Option(help="Names of labels: CSV or TSV with id and name, ITK-SNAP's, FreeSurfer's."),
        ] = None,
        backend: Annotated[str, typer.Option(help="What computes: see agnoreg backends.")] = "numpy",
        device: Annotated[str | None, typer.Option(help="The backend's device, such as cuda.")] = None,
        json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything to this JSON file.")] = None,
        csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the values to this CSV file.")] = None,
        report: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Write a report with pictures to this HTML file.")
        ] = None,
        scale: Annotated[
            bool, typer.Option("--scale/--no-scale", help="Scale each image to [0, 1] by its minimum and maximum.")
        ] = True,
        ddf_units: Annotated[str, typer.Option(metavar="voxel|mm", help="Unit of the displacement field.")] = "voxel",
        regulariser_units: Annotated[
            str | None,
            typer.Option(metavar="voxel|mm", help="Unit to measure the field in; mm, by the header, if left out."),
        ] = None,
        affine_tol: Annotated[
            float, typer.Option(help="How far apart two grids may lie at the image's corners, in voxels.")
        ] = 1e-3,
        ignore_affine: Annotated[bool, typer.Option("--ignore-affine", help="Let grids differ and warn.")] = False,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="Print voxels, seconds and backend of each value, too.")
        ] = False,
        max_voxels: Annotated[
            int, typer.Option(metavar="N", min=1, help="The most voxels of an input, by its header.")
        ] = MAX_VOXELS,
        pairs: Annotated[
            Path | None,
            typer.Option(metavar="CSV", help="Many pairs, one a line, in place of FIXED and MOVED.", **many),
        ] = None,
        out: Annotated[
            Path | None, typer.Option(metavar="FILE", help="The table, .parquet or .csv: one row a pair.", **many)
        ] = None,
        report_dir: Annotated[
            Path | None, typer.Option(metavar="DIR", help="A report of each pair, and of all: index.html.", **many)
        ] = None,
        scheduler: Annotated[
            str | None, typer.Option(metavar="ADDRESS", help="Compute on this scheduler of dask.distributed.", **many)
        ] = None,
        workers: Annotated[
            int | None,
            typer.Option(metavar="N", help="Processes on this machine; as many as pay if left out.", **many),
        ] = None,
        memory_limit: Annotated[
            str | None, typer.Option(metavar="SIZE", help="Memory of each of them, such as 4GiB; 0: no limit.", **many)
        ] = None,
        keep_parts: Annotated[
            bool, typer.Option("--keep-parts", help="Keep OUT.parts, the files of single rows, at the end.", **many)
        ] = False,
    ) -> None:
        """Measure how similar two images are, how their labels overlap, how smooth a field is.

        Either of one pair, FIXED and MOVED, or of every pair of a CSV, --pairs CSV --out FILE.
        """
        from agnoreg.evaluate import evaluation
        from agnoreg.evaluate.report import check_packages, report_html
        from agnoreg.evaluate.tables import print_evaluation

        files = {
            "FIXED": fixed,
            "MOVED": moved,
            "--fixed-label": fixed_label,
            "--moved-label": moved_label,
            "--moved-before": moved_before,
            "--moved-label-before": moved_label_before,
            "--ddf": ddf,
            "--mask": mask,
            "--fixed-mask": fixed_mask,
            "--moving-mask": moving_mask,
            "--label-names": label_names,
            "--json": json,
            "--csv": csv,
            "--report": report,
        }
        batch = {
            "--out": out,
            "--report-dir": report_dir,
            "--scheduler": scheduler,
            "--workers": workers,
            "--memory-limit": memory_limit,
            "--keep-parts": keep_parts or None,
        }
        settings: dict[str, Any] = {
            "losses": loss or [],
            "backend": backend,
            "device": device,
            "scale": scale,
            "ddf_units": ddf_units,
            "affine_tol": affine_tol,
            "ignore_affine": ignore_affine,
            "convention": convention,
            "nsd_tolerance": nsd_tolerance,
            "regulariser_units": regulariser_units,
            "nan_is_masked": nan_is_masked,
            "max_voxels": max_voxels,
        }
        if pairs is not None:
            _none_of(files, "of one pair, and --pairs names a CSV of pairs and --out their table")
            if out is None:
                raise evaluation.InputError("--pairs needs --out FILE, the table that is written.")
            how = {"scheduler": scheduler, "workers": workers, "memory_limit": memory_limit, "keep_parts": keep_parts}
            raise typer.Exit(evaluate_many(pairs, out, report_dir=report_dir, **settings, **how))
        _none_of(batch, "of many pairs: it needs --pairs")
        if fixed is None or moved is None:
            raise evaluation.InputError(f"Missing argument '{'MOVED' if fixed else 'FIXED'}'. See agnoreg --help.")
        written = ("--json", "--csv", "--report")
        pair = {_argument(name): path for name, path in files.items() if path and name not in written}

        def to_report(result: Any) -> str:
            return report_html(result, {**pair, **settings})

        writers = (evaluation.to_json, evaluation.to_csv, to_report)
        outputs = {path: write for path, write in zip((json, csv, report), writers, strict=True) if path}
        evaluation.check_outputs([path for path in (json, csv, report) if path], list(pair.values()))
        if report:
            check_packages()
        result = evaluation.evaluate_pair(
            fixed,
            moved,
            fixed_label=fixed_label,
            moved_label=moved_label,
            moved_before=moved_before,
            moved_label_before=moved_label_before,
            ddf=ddf,
            mask=mask,
            fixed_mask=fixed_mask,
            moving_mask=moving_mask,
            label_names=label_names,
            **settings,
        )
        evaluation.write_files({path: write(result) for path, write in outputs.items()})
        for warning in result.warnings:
            _warn(warning)
        print_evaluation(result, verbose)

    @app.command()
    def losses() -> None:
        """List every registered loss and its metric: range, direction, value for equal images, arguments."""
        from agnoreg.evaluate.tables import print_losses

        print_losses()

    @app.command()
    def backends() -> None:
        """List every backend: ok, absent, or broken and why; and what compiled kernels would bring."""
        from agnoreg.backend import available_backends

        states = available_backends()
        for name, state in states.items():
            print(f"{name:<{max(map(len, states))}}  {state}")

    add_compile(app)
    return app


def _argument(option: str) -> str:
    """Return the argument of `evaluate_pair` that an option stands for."""
    return option.removeprefix("--").replace("-", "_").lower()


def _none_of(options: dict[str, Any], why: str) -> None:
    from agnoreg.evaluate.nifti import InputError

    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} is {why}.")


# --- many pairs -------------------------------------------------------------------------------------------------------

#: How many of the pairs that failed are printed.
SHOWN = 5


def evaluate_many(pairs: Path, out: Path, **settings: Any) -> int:
    """Evaluate the pairs of a CSV with a progress bar on stderr, print what became of them, return the exit code."""
    from rich import progress
    from rich.console import Console

    from agnoreg.evaluate.batch import evaluate_pairs

    console = Console(stderr=True)
    bar = progress.Progress(
        progress.BarColumn(),
        progress.TextColumn("{task.fields[finished]} of {task.total:.0f} finished, {task.fields[failed]} failed"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=None, finished=0, failed=0, visible=False)

        def show(finished: int, failed: int, total: int) -> None:
            done = finished + failed
            bar.update(task, completed=done, total=total, visible=True, finished=finished, failed=failed)

        summary = evaluate_pairs(pairs, out, progress=show, tell=_warn, **settings)
    before = f", {summary.before} of them before" if summary.before else ""
    if summary.reports is not None:
        print(f"{summary.reports}: the reports of all pairs.")
    print(f"{out}: {summary.finished} of {summary.total} pairs evaluated{before}; {len(summary.failures)} failed.")
    for name, error in list(summary.failures.items())[:SHOWN]:
        _warn(f"{pairs}, line {summary.lines[name]}, pair {name}: {error}")
    there = f"{out} holds the rows that there are" if summary.finished or summary.failures else f"{out} was not written"
    rest = f"{there}; run the same command again for the others."
    if summary.interrupted:
        return _fail(f"interrupted: {rest}", code=130)
    if summary.lost:
        return _fail(f"{summary.lost}. {rest}", code=1)
    if summary.failures:
        why = "all are in the column error, and the same command tries them again"
        return _fail(f"{len(summary.failures)} of {summary.total} pairs failed: {why}.", code=1)
    return 0


def _warn(message: str) -> None:
    print(f"agnoreg: warning: {message}", file=sys.stderr)
