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
    provenance: Annotated[
        bool,
        typer.Option(
            "--provenance",
            help="Print, as JSON, what a labelled file says of its scores: model, configuration, "
            "input.",
        ),
    ] = False,
) -> None:
    """Show trees, collections, branches and multiplicities; print a starting config."""
    from tracksets.inspection import describe, describe_scores

    _say(describe_scores(file) if provenance else describe(file, count_nan=nan))


@app.command()
def train(
    config: _Config,
    output: _Output = Path("model.safetensors"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was stopped or killed.")
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option("--distributed", help="Be one of the processes that SLURM or MPI started."),
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Or say where the first one is,")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="how many there are,")] = None,
    process: Annotated[int | None, typer.Option(min=0, help="and which one this is.")] = None,
    force: _Force = False,
    quiet: _Quiet = False,
) -> None:
    """Train a model as a configuration says, and save it."""
    if force and resume:
        raise typer.BadParameter("--force begins anew and --resume goes on: say one of them")
    place = (coordinator, processes, process)
    if distributed or place != (None, None, None):
        from tracksets.processes import joined

        with joined(*place):
            _train(config, output, resume=resume, force=force, quiet=quiet)
    else:
        _train(config, output, resume=resume, force=force, quiet=quiet)


def _train(config: Path, output: Path, *, resume: bool, force: bool, quiet: bool) -> None:
    from tracksets.atomic import refuse_existing
    from tracksets.checkpoints import discard
    from tracksets.processes import is_first
    from tracksets.training import train as run

    refuse_existing(output, force=force or resume)  # rather now than after the training
    checkpoints = output.with_name(f"{output.name}.checkpoints")
    if force and is_first():
        discard(checkpoints)
    scorer = run(config, progress=not quiet, checkpoints=checkpoints, resume=resume)
    if not is_first():
        return
    scorer.save(output)
    best = scorer.summary["history"][scorer.summary["best_epoch"] - 1]
    losses = ", ".join(
        f"{key} {best[key]:.4f}"
        for key in ("loss", "validation_loss", "validation_auc")
        if key in best
    )
    _say(f"{output}: best epoch {scorer.summary['best_epoch']}, {losses}")
    if scorer.summary.get("stopped"):
        _say(f"stopped early; to go on: tracksets train {config} -o {output} --resume", stderr=True)
    else:
        discard(checkpoints)


@app.command()
def label(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL FILE[:TREE]...",
            help="A model file, unless there are some with --model; then ROOT or Parquet files.",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="Folder for the outputs, or a pattern for their names with {name}, {stem}, "
            "{folder}, {number}.",
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=MODEL", help="One of several models, with its branch."),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="branch: the input with the score as a branch; append: a copy of the input plus "
            "a friend tree; friend: scores and event identifiers only."
        ),
    ] = "branch",
    format: Annotated[  # noqa: A002  # as the option is called
        str | None,
        typer.Option(help="root, rntuple or parquet; by default that of the input."),
    ] = None,
    field: Annotated[str, typer.Option(help="Name of the score's branch.")] = "score",
    tree: Annotated[str | None, typer.Option(help="The tree, if the files have several.")] = None,
    select: Annotated[
        str | None,
        typer.Option(
            metavar="EXPRESSION",
            help="Score these events only; others get NaN or are not in the friend.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Label on this Dask cluster.")
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first file that fails.")
    ] = False,
    force: _Force = False,
    quiet: _Quiet = False,
) -> None:
    """Write the score of every event into new ROOT or Parquet files."""
    from tracksets.labelling import LabellingError
    from tracksets.labelling import label as run

    models, files = _models(model or [], arguments)
    failure: LabellingError | None = None
    try:
        report = run(
            models,
            files,
            output,
            mode=cast("Any", mode),  # which is checked there, as the format is
            format=cast("Any", format),
            field=field,
            tree=tree,
            select=select,
            workers=workers,
            dask=dask,
            fail_fast=fail_fast,
            force=force,
            progress=not quiet,
        )
    except LabellingError as error:
        failure, report = error, error.report
    for path in report.outputs:
        _say(str(path))
    if not quiet:
        _say(str(report), stderr=True)
    if failure is not None:
        _say(f"error: {failure}", stderr=True)
        sys.exit(1)


def _models(named: list[str], arguments: list[str]) -> tuple[Any, list[str]]:
    """Tell models from files: the first argument is a model, unless there are named ones."""
    from tracksets.errors import ConfigError

    if not named:
        if len(arguments) < 2:
            raise ConfigError(f"expected a model and files to label, and there is {arguments[0]}")
        return arguments[0], arguments[1:]
    pairs = [each.partition("=") for each in named]
    for name, equals, path in pairs:
        if not (name and equals and path):
            raise ConfigError(f"--model {name}: expected FIELD=MODEL, as in b=b.safetensors")
    if len({name for name, _, _ in pairs}) < len(pairs):
        raise ConfigError("two models have the same field")
    return {name: path for name, _, path in pairs}, arguments


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
