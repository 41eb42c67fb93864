"""Further commands: arguments in, calls of the library out. `cli.py` adds them to its own."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracksets.labelling import Report

__all__ = ("Vary", "calibrate", "explain", "report_on")

Vary = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[NAME:]ASSIGNMENTS",
        help="Score shifted events as well: 'up: Track_pt *= 1.02'. May be given several times.",
    ),
]


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")],
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write.")],
    method: Annotated[str, typer.Option(help="temperature or isotonic.")] = "temperature",
    force: Annotated[bool, typer.Option("--force", help="Replace what exists.")] = False,
) -> None:
    """Make probabilities fit events that were not trained on; write the new model."""
    from tracksets.atomic import refuse_existing
    from tracksets.calibrating import calibrate_on_files, describe

    refuse_existing(output, force=force)  # rather now than after the work
    done = calibrate_on_files(model, config, cast("Any", method))  # which is checked there
    done.scorer.save(output)
    typer.echo(describe(done))
    typer.echo(str(output))


def explain(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")],
    files: Annotated[
        list[str], typer.Argument(metavar="FILE[:TREE]...", help="ROOT or Parquet files.")
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", help="Folder, or a pattern for names, as of label.")
    ],
    format: Annotated[  # noqa: A002  # as the option is called
        str | None, typer.Option(help="root, rntuple or parquet; by default that of the input.")
    ] = None,
    field: Annotated[str, typer.Option(help="Name of the score.")] = "score",
    tree: Annotated[str | None, typer.Option(help="The tree, if the files have several.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace what exists.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress.")] = False,
) -> None:
    """Write friend trees with what each track contributes to the score of its event."""
    from tracksets.labelling import label

    report_on(
        lambda: label(
            model,
            files,
            output,
            mode="explain",
            format=cast("Any", format),
            field=field,
            tree=tree,
            workers=workers,
            force=force,
            progress=not quiet,
        ),
        quiet=quiet,
    )


def report_on(label: "Callable[[], Report]", *, quiet: bool) -> None:
    """Label files and say what became of them; exit code 1 if some failed."""
    from tracksets.labelling import LabellingError

    failure: LabellingError | None = None
    try:
        report = label()
    except LabellingError as error:
        failure, report = error, error.report
    for path in report.outputs:
        typer.echo(str(path))
    if not quiet:
        typer.echo(str(report), err=True)
    if failure is not None:
        typer.echo(f"error: {failure}", err=True)
        sys.exit(1)
