"""A scorer and events with known truth in; figures of merit and pictures out."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracksets.atomic import appearing
from tracksets.bands import Band, roc_band
from tracksets.config import Config, read_config
from tracksets.datasets import read_dataset
from tracksets.errors import ConfigError, FileError
from tracksets.evaluation_report import Evaluated, write_evaluation_report
from tracksets.metrics import Roc, roc
from tracksets.plots import plot_prediction, plot_roc, plot_scores
from tracksets.scorer import Scorer, load
from tracksets.targets import Task

__all__ = ("Evaluation", "evaluate")


@dataclass(frozen=True)
class Evaluation:
    """How well a scorer does.

    Attributes
    ----------
    figures
        By name: numbers, such as `auc`.
    outputs
        The files that were written.
    """

    figures: Mapping[str, float]
    outputs: tuple[Path, ...]


def evaluate(
    model: Scorer | str | os.PathLike[str],
    config: Config | str | os.PathLike[str],
    output: str | os.PathLike[str],
    training: Config | str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Score events with known truth and write figures of merit and plots.

    Parameters
    ----------
    model
        A scorer, or the name of a model file.
    config
        A configuration, or the name of a TOML file; its `[data]` says which events and what is
        true of them. Classes are matched by their order.
    output
        A folder for `report.html`, `figures.json` and the plots; files of these names are replaced.
    training
        The configuration that the model was trained with, to compare the scores of its events with
        those of the others in the report.

    Returns
    -------
    Evaluation
        Of classes: the weighted area under the ROC curve; of a regression: bias and resolution.

    Raises
    ------
    FileError
        If the folder cannot be made.
    ConfigError
        If the configuration's classes or targets are not those of the model.
    MissingExtraError
        If matplotlib, mplhep or hist is not installed.
    """
    scorer = model if isinstance(model, Scorer) else load(model)
    config = config if isinstance(config, Config) else read_config(config)
    if training is not None and not isinstance(training, Config):
        training = read_config(training)
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot write to the folder {folder}: {error.strerror}") from error
    data = read_dataset(config, scorer.inputs)
    task = scorer.task
    if (data.task.kind, len(data.task.names)) != (task.kind, len(task.names)):
        raise ConfigError(
            f"the model gives {task.kind} scores of {list(task.names)}, but the configuration has "
            f"{data.task.kind} targets {list(data.task.names)}"
        )
    scores = scorer.score_inputs(data.inputs)
    if task.kind == "regression":
        bands: dict[str, Band] = {}
        figures, outputs = _regression(task, data.targets, scores, data.weights, folder)
    else:
        bands = _bands(task, data.targets, scores, data.weights)
        figures, outputs = _classes(task, data.targets, scores, data.weights, folder, bands)
    figures = {"events": float(len(scores)), **figures}
    with appearing(folder / "figures.json", force=True) as file:
        file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    found = Evaluated(scorer, config, data, scores, figures, outputs, bands)
    outputs = [*write_evaluation_report(found, folder, training), *outputs]
    return Evaluation(figures, (folder / "figures.json", *outputs))


def _bands(
    task: Task,
    classes: NDArray[np.int64],
    scores: NDArray[np.float32],
    weights: NDArray[np.float64],
) -> dict[str, Band]:
    signals = [len(task.names) - 1] if task.kind == "binary" else range(len(task.names))
    at = np.linspace(0.01, 1, 100)
    return {
        task.names[i]: roc_band(classes == i, scores[:, column], weights, at)
        for column, i in enumerate(signals)
        if weights[classes == i].sum() > 0 and weights[classes != i].sum() > 0
    }


def _classes(
    task: Task,
    classes: NDArray[np.int64],
    scores: NDArray[np.float32],
    weights: NDArray[np.float64],
    folder: Path,
    bands: Mapping[str, Band],
) -> tuple[dict[str, float], list[Path]]:
    """Compare each class with all others; of two classes, the last one with the first."""
    signals = [len(task.names) - 1] if task.kind == "binary" else range(len(task.names))
    curves: dict[str, Roc] = {}
    outputs = []
    for column, i in enumerate(signals):
        name = task.names[i]
        curves[name] = roc(classes == i, scores[:, column], weights)
        file = folder / ("score.png" if task.kind == "binary" else f"score_{name}.png")
        outputs.append(
            plot_scores(scores[:, column], classes, weights, task.names, f"score for {name}", file)
        )
    outputs.append(plot_roc(curves, folder / "roc.png", bands))
    if task.kind == "binary":
        return {"auc": curves[task.names[-1]].auc}, outputs
    return {f"auc_{name}": each.auc for name, each in curves.items()}, outputs


def _regression(
    task: Task,
    targets: NDArray[Any],
    scores: NDArray[np.float32],
    weights: NDArray[np.float64],
    folder: Path,
) -> tuple[dict[str, float], list[Path]]:
    figures, outputs = {}, []
    truth = targets.reshape(len(targets), -1).astype(np.float64)
    for i, name in enumerate(task.names):
        residual = scores[:, i] - truth[:, i]
        figures[f"bias_{name}"] = float(np.average(residual, weights=weights))
        figures[f"rms_{name}"] = float(np.sqrt(np.average(residual**2, weights=weights)))
        file = folder / ("prediction.png" if len(task.names) == 1 else f"prediction_{i}.png")
        shown = f"{name} [{task.units[i]}]" if task.units else name
        outputs.append(plot_prediction(truth[:, i], scores[:, i], shown, file))
    return figures, outputs
