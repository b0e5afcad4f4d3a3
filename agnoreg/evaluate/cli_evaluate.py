"""``agnoreg evaluate``: its options, of one pair and of many."""

from pathlib import Path
from typing import Annotated, Any

from agnoreg.evaluate.cli_messages import activity, inform, warn

#: In place of a file's name: the standard output.
STDOUT = Path("-")


def add_evaluate(app: Any) -> None:
    """Add the command to the application."""
    import typer

    from agnoreg.evaluate.evaluation import InputError
    from agnoreg.evaluate.nifti import MAX_VOXELS

    files, what, reading, output, many = (
        {"rich_help_panel": panel}
        for panel in (
            "Files beside the images",
            "What is computed",
            "How files are read",
            "What is written",
            "Many pairs",
        )
    )

    @app.command()
    def evaluate(
        fixed: Annotated[
            Path | None, typer.Argument(metavar="FIXED", help="The fixed image, NIfTI: a volume, or a slice.")
        ] = None,
        moved: Annotated[
            Path | None, typer.Argument(metavar="MOVED", help="The moved image, on the same grid.")
        ] = None,
        fixed_label: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Label map of the fixed image: integers.", **files)
        ] = None,
        moved_label: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Label map of the moved image.", **files)
        ] = None,
        moved_before: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE", help="The moving image before the registration: its values stand beside.", **files
            ),
        ] = None,
        moved_label_before: Annotated[
            Path | None,
            typer.Option(metavar="FILE", help="Label map of the moving image before the registration.", **files),
        ] = None,
        ddf: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                help="Displacement field: NIfTI (X,Y,Z,3), component i along axis i; .npz, .npy (3,X,Y,Z).",
                **files,
            ),
        ] = None,
        fixed_landmarks: Annotated[
            Path | None,
            typer.Option(metavar="FILE", help="Landmarks of the fixed image: CSV, three numbers a line.", **files),
        ] = None,
        moving_landmarks: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE",
                help="The same landmarks in the moving image: the field takes the fixed ones there.",
                **files,
            ),
        ] = None,
        landmark_units: Annotated[
            str, typer.Option(metavar="voxel|mm", help="Unit of the landmarks; mm by the header's affine.", **reading)
        ] = "voxel",
        loss: Annotated[
            list[str] | None,
            typer.Option(
                "--loss",
                "--metric",
                metavar="NAME[:k=v,...]",
                help="What to compute (repeatable); all that fits the inputs if left out.",
                autocompletion=_names,
                **what,
            ),
        ] = None,
        convention: Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                help="Whose definitions, where they have one: of losses exact, deepreg, monai, voxelmorph or ants; of "
                "metrics deepmind, monai, medpy, learn2reg and others (agnoreg metrics NAME).",
                autocompletion=_conventions,
                **what,
            ),
        ] = None,
        nsd_tolerance: Annotated[
            float | None, typer.Option(metavar="MM", help="Tolerance of the normalised surface Dice, in mm.", **what)
        ] = None,
        mask: Annotated[
            Path | None,
            typer.Option(metavar="FILE", help="Mask of all inputs: voxels that are 0 here do not count.", **files),
        ] = None,
        fixed_mask: Annotated[
            Path | None,
            typer.Option(metavar="FILE", help="Mask of the fixed image and labels.", **files),
        ] = None,
        moving_mask: Annotated[
            Path | None,
            typer.Option(metavar="FILE", help="Mask of the moved image and labels, on the fixed grid.", **files),
        ] = None,
        nan_is_masked: Annotated[
            bool, typer.Option("--nan-is-masked", help="Voxels that are NaN or infinite do not count.", **what)
        ] = False,
        label_names: Annotated[
            Path | None,
            typer.Option(
                metavar="FILE", help="Names of labels: CSV or TSV with id and name, ITK-SNAP's, FreeSurfer's.", **files
            ),
        ] = None,
        backend: Annotated[
            str, typer.Option(help="Framework that computes: see agnoreg backends.", autocompletion=_backends, **what)
        ] = "numpy",
        device: Annotated[str | None, typer.Option(help="The backend's device, such as cuda.", **what)] = None,
        json: Annotated[
            Path | None,
            typer.Option(metavar="FILE", help="Write everything to this JSON file; -: to stdout.", **output),
        ] = None,
        csv: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Write the values to this CSV file; -: to stdout.", **output)
        ] = None,
        report: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Write a report with pictures to this HTML file.", **output)
        ] = None,
        scale: Annotated[
            bool,
            typer.Option(
                "--scale/--no-scale", help="Scale each image to [0, 1] by its minimum and maximum.", **reading
            ),
        ] = True,
        ddf_units: Annotated[
            str, typer.Option(metavar="voxel|mm", help="Unit of the displacement field.", **reading)
        ] = "voxel",
        ddf_frame: Annotated[
            str,
            typer.Option(
                metavar="array|itk", help="Axes of the field's components; itk: mm in LPS, as ANTs and ITK.", **reading
            ),
        ] = "array",
        regulariser_units: Annotated[
            str | None,
            typer.Option(
                metavar="voxel|mm", help="Unit to measure the field in; mm, by the header, if left out.", **what
            ),
        ] = None,
        affine_tol: Annotated[
            float, typer.Option(help="How far apart two grids may lie at the image's corners, in voxels.", **reading)
        ] = 1e-3,
        ignore_affine: Annotated[
            bool, typer.Option("--ignore-affine", help="Let grids differ and warn.", **reading)
        ] = False,
        verbose: Annotated[
            bool,
            typer.Option("--verbose", "-v", help="Print voxels, seconds and backend of each value, too.", **output),
        ] = False,
        quiet: Annotated[
            bool,
            typer.Option(
                "--quiet", "-q", help="Print only the table, with the mean over labels; no progress.", **output
            ),
        ] = False,
        dry_run: Annotated[
            bool,
            typer.Option("--dry-run", help="Check the inputs and say what would be computed; write nothing.", **output),
        ] = False,
        max_voxels: Annotated[
            int, typer.Option(metavar="N", min=1, help="The most voxels of an input, by its header.", **reading)
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
            typer.Option(
                metavar="N", help="Processes on this machine; chosen by the number of pairs if left out.", **many
            ),
        ] = None,
        memory_limit: Annotated[
            str | None, typer.Option(metavar="SIZE", help="Memory of each process, such as 4GiB; 0: no limit.", **many)
        ] = None,
        keep_parts: Annotated[
            bool, typer.Option("--keep-parts", help="Keep OUT.parts, the files of single rows, at the end.", **many)
        ] = False,
    ) -> None:
        """Measure a registration: images, labels, the displacement field, landmarks.

        Either of one pair, FIXED and MOVED, or of every pair of a CSV, --pairs CSV --out FILE.
        """
        sources = {
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
            "--fixed-landmarks": fixed_landmarks,
            "--moving-landmarks": moving_landmarks,
        }
        outputs = {"--json": json, "--csv": csv, "--report": report}
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
            "ddf_frame": ddf_frame,
            "landmark_units": landmark_units,
            "affine_tol": affine_tol,
            "ignore_affine": ignore_affine,
            "convention": convention,
            "nsd_tolerance": nsd_tolerance,
            "regulariser_units": regulariser_units,
            "nan_is_masked": nan_is_masked,
            "max_voxels": max_voxels,
            "label_names": label_names,
        }
        if pairs is not None:
            _none_of(sources | outputs, "of one pair, and --pairs names a CSV of pairs and --out their table")
            if out is None:
                raise InputError("--pairs needs --out FILE, the table that is written.")
            from agnoreg.evaluate.cli_pairs import check_many, evaluate_many

            if dry_run:
                raise typer.Exit(check_many(pairs, out, report_dir, **settings))
            how = {"scheduler": scheduler, "workers": workers, "memory_limit": memory_limit, "keep_parts": keep_parts}
            raise typer.Exit(evaluate_many(pairs, out, quiet, report_dir=report_dir, **settings, **how))
        _none_of(batch, "of many pairs: it needs --pairs")
        if fixed is None or moved is None:
            raise InputError(f"Missing argument '{'MOVED' if fixed else 'FIXED'}'. See agnoreg evaluate --help.")
        pair = {name.lstrip("-").replace("-", "_").lower(): path for name, path in sources.items()}
        _evaluate_one(pair, settings, outputs, (quiet, verbose, dry_run))


def _evaluate_one(
    sources: dict[str, Any], settings: dict[str, Any], outputs: dict[str, Path | None], how: tuple[bool, ...]
) -> None:
    """Evaluate one pair, write what is to be written, and print the rest."""
    from agnoreg.evaluate import evaluation
    from agnoreg.evaluate.report import check_packages, report_html
    from agnoreg.evaluate.tables import print_checked, print_evaluation

    given = {name: path for name, path in sources.items() if path is not None}
    quiet, verbose, dry_run = how

    def to_report(result: evaluation.Evaluation) -> str:
        return report_html(result, {**given, **settings})

    writers = {"--json": evaluation.to_json, "--csv": evaluation.to_csv, "--report": to_report}
    wanted = {path: writers[option] for option, path in outputs.items() if path is not None}
    if outputs["--report"] is not None:
        check_packages()
        if outputs["--report"] == STDOUT:
            raise evaluation.InputError("--report must name a file.")
    to_stdout = [path for path in outputs.values() if path == STDOUT]
    if len(to_stdout) > 1:
        raise evaluation.InputError("--json - and --csv - both write to stdout: one of them must name a file.")
    written = [path for path in outputs.values() if path is not None and path != STDOUT]
    inputs = [path for path in (*sources.values(), settings["label_names"]) if path is not None]
    evaluation.check_outputs(written, inputs)
    if dry_run:
        evaluation.check_backend(settings["backend"], settings["device"])
        checked = evaluation.check_pair(**sources, **settings)
        for warning in checked.warnings:
            warn(warning)
        print_checked(checked, written)
        return
    with activity(quiet) as say:
        result = evaluation.evaluate_pair(**sources, **settings, progress=say)
        say("drawing the report" if outputs["--report"] is not None else "writing")
        evaluation.write_files({path: write(result) for path, write in wanted.items() if path != STDOUT})
    for warning in result.warnings:
        warn(warning)
    if outputs["--report"] is not None and not quiet:
        inform(f"the report is written to {outputs['--report']}")
    if to_stdout:
        print(wanted[STDOUT](result), end="")
    else:
        print_evaluation(result, verbose, quiet)


def _none_of(options: dict[str, Any], why: str) -> None:
    from agnoreg.evaluate.nifti import InputError

    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} is {why}.")


# --- completion -------------------------------------------------------------------------------------------------------


def _names(incomplete: str) -> list[str]:
    from agnoreg.evaluate.metrics import known_names

    return [name for name in known_names() if name.startswith(incomplete)]


def _conventions(incomplete: str) -> list[str]:
    from agnoreg.evaluate.metrics import conventions

    names = dict.fromkeys(name for names in conventions().values() for name in names)
    return [name for name in names if name.startswith(incomplete)]


def _backends(incomplete: str) -> list[str]:
    from agnoreg.backend import available_backends

    return [name for name in available_backends() if name.startswith(incomplete)]
