"""The commands that train: arguments in, calls of the library out."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ("Config", "Force", "Output", "Quiet", "find_rate", "say", "train")

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Show no progress.")]


def say(text: str, *, stderr: bool = False) -> None:
    """Print a line."""
    typer.echo(text, err=stderr)


def train(
    config: Config,
    output: Output = Path("model.safetensors"),
    history: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write losses and metrics of each epoch as CSV."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write a report of the training: report.html, plots, figures."
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write events for TensorBoard.")
    ] = None,
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
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Train a model as a configuration says, and save it."""
    if force and resume:
        raise typer.BadParameter("--force begins anew and --resume goes on: say one of them")
    watched = (history, report, tensorboard)
    place = (coordinator, processes, process)
    if distributed or place != (None, None, None):
        from tracksets.processes import joined

        with joined(*place):
            _train(config, output, *watched, resume=resume, force=force, quiet=quiet)
    else:
        _train(config, output, *watched, resume=resume, force=force, quiet=quiet)


def _train(
    config: Path,
    output: Path,
    history: Path | None,
    report: Path | None,
    tensorboard: Path | None,
    *,
    resume: bool,
    force: bool,
    quiet: bool,
) -> None:
    from tracksets.atomic import refuse_existing
    from tracksets.callbacks import Callback, HistoryFile, Saving
    from tracksets.checkpoints import discard
    from tracksets.processes import is_first
    from tracksets.training import train as run

    refuse_existing(output, force=force or resume)  # rather now than after the training
    checkpoints = output.with_name(f"{output.name}.checkpoints")
    if not is_first():
        run(config, progress=False, checkpoints=checkpoints, resume=resume)
        return
    if force:
        discard(checkpoints)
    callbacks: list[Callback] = [Saving(output)]
    if history is not None:
        callbacks.append(HistoryFile(history, force=force or resume))
    if tensorboard is not None:
        from tracksets.integrations.tensorboard import TensorBoard

        callbacks.append(TensorBoard(tensorboard))
    if report is not None:
        from tracksets.training_report import TrainingReport

        callbacks.append(TrainingReport(report))
    scorer = run(
        config, progress=not quiet, checkpoints=checkpoints, resume=resume, callbacks=callbacks
    )
    members = scorer.summary.get("members", [scorer.summary])
    if len(members) > 1:
        scorer.save(output)
    for i, each in enumerate(members):
        best = each["history"][each["best_epoch"] - 1]
        losses = ", ".join(
            f"{key} {best[key]:.4f}"
            for key in ("loss", "validation_loss", "validation_auc")
            if key in best
        )
        which = f", model {i + 1} of {len(members)}" if len(members) > 1 else ""
        say(f"{output}{which}: best epoch {each['best_epoch']}, {losses}")
        if report is not None:
            say(str(report / (f"model_{i}/" * (len(members) > 1)) / "report.html"))
    if scorer.summary.get("stopped"):
        say(f"stopped early; to go on: tracksets train {config} -o {output} --resume", stderr=True)
    else:
        discard(checkpoints)


def find_rate(
    config: Config,
    output: Output = Path("learning_rate.png"),
    start: Annotated[float, typer.Option(metavar="RATE", help="The lowest rate.")] = 1e-6,
    stop: Annotated[float, typer.Option(metavar="RATE", help="The highest rate.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Steps from the lowest to the highest rate.")] = 100,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Suggest a learning rate: train some steps at rising rates and draw the loss."""
    from tracksets.atomic import refuse_existing
    from tracksets.rate_finder import find_learning_rate_for
    from tracksets.training_plots import require_plots

    require_plots()
    refuse_existing(output, force=force)
    found = find_learning_rate_for(config, start=start, stop=stop, steps=steps, progress=not quiet)
    say(str(found.plot(output)))
    end = "diverges" if found.diverged else "does not diverge"
    say(f"the loss is lowest at {found.lowest:.2g} and {end} up to {found.rates[-1]:.2g}")
    say(f"suggestion: learning_rate = {found.suggestion:.1e}")
