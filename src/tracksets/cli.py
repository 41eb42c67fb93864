"""The command line: arguments in, calls of the library out."""

import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from tracksets.cli_models import Vary, calibrate, explain, report_on
from tracksets.cli_training import Config as _Config
from tracksets.cli_training import Force as _Force
from tracksets.cli_training import Output as _Output
from tracksets.cli_training import Quiet as _Quiet
from tracksets.cli_training import find_rate, train
from tracksets.cli_training import say as _say

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Score every event of a ROOT file from its variable-size set of tracks.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file.")]


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


@app.command("sample-data")
def sample_data(output: _Output = Path("sample_data")) -> None:
    """Copy the sample data, which the documentation uses, into a new folder."""
    from tracksets.demo import copy_sample_data

    for path in copy_sample_data(output):
        _say(str(path))


@app.command()
def inspect(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE[:TREE]...",
            help="A ROOT or Parquet file; or one for each class, for a starting config.",
        ),
    ],
    nan: Annotated[
        bool, typer.Option("--nan", help="Read all and count NaN and infinity.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="CONFIG", help="Write the starting config into this file."
        ),
    ] = None,
    provenance: Annotated[
        bool,
        typer.Option(
            "--provenance",
            help="Print, as JSON, what a labelled file says of its scores: model, configuration, "
            "input.",
        ),
    ] = False,
    force: _Force = False,
) -> None:
    """Show trees, collections, branches and multiplicities; print a starting config."""
    from tracksets.inspection import describe, describe_scores, write_starting_config

    if provenance:
        for file in files:
            _say(describe_scores(file))
    elif output is not None:
        _say(write_starting_config(output, *files, count_nan=nan, force=force))
        _say(f"wrote {output}", stderr=True)
    else:
        _say(describe(*files, count_nan=nan))


app.command()(train)
app.command()(find_rate)


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
    spread: Annotated[
        bool,
        typer.Option("--spread", help="Also write the spread of each score, over several models."),
    ] = False,
    vary: Vary = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes side by side.")] = 1,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Label on this Dask cluster.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="What computes: jax, or openvino (an extra).")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="float32; or bfloat16 with openvino: fast where there is AMX.")
    ] = "float32",
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first file that fails.")
    ] = False,
    force: _Force = False,
    quiet: _Quiet = False,
) -> None:
    """Write the score of every event into new ROOT or Parquet files."""
    from tracksets.engines import Engine
    from tracksets.labelling import label as run
    from tracksets.variations import named_variations

    models, files = _models(model or [], arguments)
    if engine is not None and not quiet:
        _say(Engine(engine, precision).describe(), stderr=True)
    report_on(
        lambda: run(
            models,
            files,
            output,
            mode=cast("Any", mode),  # which is checked there, as the format is
            format=cast("Any", format),
            field=field,
            tree=tree,
            select=select,
            spread=spread,
            vary=named_variations(vary or ()),
            workers=workers,
            dask=dask,
            engine=engine,
            precision=precision,
            fail_fast=fail_fast,
            force=force,
            progress=not quiet,
        ),
        quiet=quiet,
    )


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
def evaluate(
    model: _Model,
    config: _Config,
    output: _Output = Path("evaluation"),
    vary: Vary = None,
    training: Annotated[
        Path | None,
        typer.Option(metavar="CONFIG", help="That of the training: compare with its events too."),
    ] = None,
    experiment: Annotated[
        str, typer.Option(metavar="TEXT", help="Stands above every plot: 'CMS Preliminary'.")
    ] = "",
) -> None:
    """Compare scores with the truth: a report, figures of merit and plots."""
    from tracksets.evaluation import evaluate as run
    from tracksets.plots import experiment_label

    with experiment_label(experiment):
        result = run(model, config, output, vary=vary or (), training=training)
    _say(result.table)
    if result.note:
        _say(f"note: {result.note}", stderr=True)
    for path in result.outputs:
        _say(str(path))


app.command()(calibrate)
app.command()(explain)
