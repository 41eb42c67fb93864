"""Further commands: arguments in, calls of the library out. `cli.py` adds them to its own."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

__all__ = ("Vary", "calibrate")

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
