"""The command line: arguments in, calls of the library out."""

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Score every event of a ROOT file from its variable-size set of tracks.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")]
_Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")]
_Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]
_Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
_Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress.")]


def main() -> None:
    """Run the command line; errors of the user are one message and exit code 2."""
    from tracksets.errors import TracksetsError

    try:
        app()
    except (TracksetsError, OSError) as error:  # such as a file where a folder should be made
        _say(f"error: {error}", stderr=True)
        sys.exit(2)
    except SystemExit as stop:
        if stop.code == 130:  # what typer makes of a KeyboardInterrupt
            _say("interrupted; nothing incomplete was left behind", stderr=True)
        raise


def _say(text: str, *, stderr: bool = False) -> None:
    typer.echo(text, err=stderr)


def _version(show: bool) -> None:
    if show:
        from tracksets import __version__

        _say(f"tracksets {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[  # handled by its callback
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(output: _Output = Path("demo"), quiet: _Quiet = False) -> None:
    """Train on the sample data, label a file and draw the plots."""
    from tracksets.demo import run

    run(output, _say, progress=not quiet)


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE[:TREE]", help="A ROOT or Parquet file.")],
    nan: Annotated[
        bool, typer.Option("--nan", help="Read all and count NaN and infinity.")
    ] = False,
) -> None:
    """Show trees, collections, branches and multiplicities; print a starting config."""
    from tracksets.inspection import describe

    _say(describe(file, count_nan=nan))


@app.command()
def train(
    config: _Config,
    output: _Output = Path("model.safetensors"),
    force: _Force = False,
    quiet: _Quiet = False,
) -> None:
    """Train a model as a configuration says, and save it."""
    from tracksets.atomic import refuse_existing
    from tracksets.training import train as run

    refuse_existing(output, force=force)  # rather now than after the training
    scorer = run(config, progress=not quiet)
    scorer.save(output)
    best = scorer.summary["history"][scorer.summary["best_epoch"] - 1]
    losses = ", ".join(
        f"{key} {best[key]:.4f}" for key in ("loss", "validation_loss") if key in best
    )
    _say(f"{output}: best epoch {scorer.summary['best_epoch']}, {losses}")


@app.command()
def label(
    model: _Model,
    files: Annotated[list[str], typer.Argument(metavar="FILE[:TREE]...", help="ROOT files.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the outputs.")],
    mode: Annotated[
        str,
        typer.Option(
            help="branch: the input with the score as a branch; append: a copy of the input plus "
            "a friend tree; friend: scores and event identifiers only."
        ),
    ] = "branch",
    field: Annotated[str, typer.Option(help="Name of the score's branch.")] = "score",
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    force: _Force = False,
    quiet: _Quiet = False,
) -> None:
    """Write the score of every event into new ROOT files."""
    from tracksets.labelling import LabellingError
    from tracksets.labelling import label as run

    try:
        report = run(
            model,
            files,
            output,
            mode=cast("Any", mode),  # which is checked there
            field=field,
            workers=workers,
            force=force,
            progress=not quiet,
        )
    except LabellingError as error:
        for path in error.report.outputs:
            _say(str(path))
        _say(f"error: {error}", stderr=True)
        sys.exit(1)
    for path in report.outputs:
        _say(str(path))


@app.command()
def export(
    model: _Model,
    output: _Output = Path("model.onnx"),
    check: Annotated[
        str | None,
        typer.Option(metavar="FILE[:TREE]", help="Events to compare scores on; else made-up ones."),
    ] = None,
    force: _Force = False,
) -> None:
    """Write a model as .onnx or .stablehlo, which score without tracksets."""
    from tracksets.export import export as run

    result = run(model, output, check, force=force)
    for path in result.outputs:
        _say(str(path))
    events = f"{result.events} events" if check else f"{result.events} made-up events"
    _say(f"largest relative difference of a score {result.difference:.1e}, on {events}")


@app.command()
def evaluate(model: _Model, config: _Config, output: _Output = Path("evaluation")) -> None:
    """Compare scores with the truth: figures of merit and plots."""
    from tracksets.evaluation import evaluate as run

    result = run(model, config, output)
    for name, value in result.figures.items():
        _say(f"{name}: {value:.6g}")
    for path in result.outputs:
        _say(str(path))
