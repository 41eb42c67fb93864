"""A scorer and events with known truth in; figures of merit and pictures out."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracksets.atomic import appearing
from tracksets.bands import Band, roc_band
from tracksets.comparisons import confusion, mean_reliability, reliability
from tracksets.config import Config, read_config
from tracksets.datasets import Dataset, read_dataset
from tracksets.errors import DataError, FileError
from tracksets.evaluation_report import Evaluated, trained_on, write_evaluation_report
from tracksets.figures import (
    as_table,
    changes,
    class_figures,
    confusion_table,
    one_against_others,
    regression_figures,
)
from tracksets.metrics import roc
from tracksets.plots import plot_prediction, plot_reliability, plot_roc, plot_scores
from tracksets.scorer import Scorer, loaded
from tracksets.targets import Task
from tracksets.variations import named_variations

__all__ = ("Evaluation", "evaluate")


@dataclass(frozen=True)
class Evaluation:
    """How well a scorer does.

    Attributes
    ----------
    figures
        By name: numbers, such as `auc` and `auc_uncertainty`.
    outputs
        The files that were written.
    confusion
        Sums of weights by true (rows) and predicted class; of a regression, nothing.
    variations
        By name of the variation: its `text`, and how scores and figures change.
    table
        All of it, for people.
    note
        What speaks against the figures: files that the model was trained on.
    """

    figures: Mapping[str, float]
    outputs: tuple[Path, ...]
    confusion: Sequence[Sequence[float]] = ()
    variations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    table: str = field(default="", repr=False)
    note: str = ""


def evaluate(
    model: Scorer | str | os.PathLike[str],
    config: Config | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    vary: Sequence[str] = (),
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
    vary
        Assignments to branches, `Track_pt *= 1.02` or `up: Track_pt *= 1.02`: the events are scored
        again with each of them. What is true of the events, their weights and the selection of
        events stay.
    training
        The configuration that the model was trained with, to compare the scores of its events with
        those of the others in the report.

    Returns
    -------
    Evaluation
        See `tracksets.figures`.

    Raises
    ------
    FileError
        If the folder cannot be made.
    ConfigError
        If the configuration's classes or targets are not those of the model.
    MissingExtraError
        If matplotlib, mplhep or hist is not installed.
    """
    scorer, config = loaded(model), read_config(config)
    training = None if training is None else read_config(training)
    shifts = named_variations(vary)
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot write to the folder {folder}: {error.strerror}") from error
    with read_dataset(config, scorer.inputs, columns=scorer.event_level) as data:
        return _evaluate(scorer, config, data, shifts, folder, training)


def _evaluate(
    scorer: Scorer,
    config: Config,
    data: Dataset,
    shifts: Mapping[str, str],
    folder: Path,
    training: Config | None,
) -> Evaluation:
    task = scorer.task
    task.refuse_other(data.task)
    scores = scorer.score_parts(data.parts(scorer.fold_expression))
    figures: dict[str, float] = {"events": float(len(scores))}
    matrix: NDArray[np.float64] = np.empty((0, 0))
    if task.kind == "regression":
        truth = data.targets.reshape(len(scores), -1).astype(np.float64)
        figures |= regression_figures(task, truth, scores, data.weights)
        tables = [as_table(figures)]
        outputs = _plot_regression(task, truth, scores, folder)
        bands: dict[str, Band] = {}
    else:
        bands = _bands(task, data.targets, scores, data.weights)
        figures |= class_figures(task, data.targets, scores, data.weights)
        figures |= _uncalibrated(scorer, data)
        matrix = confusion(data.targets, scores, data.weights)
        tables = [
            as_table(figures),
            confusion_table(task, data.targets, scores, data.weights),
        ]
        outputs = _plot_classes(task, data.targets, scores, data.weights, folder, bands)
    variations = {}
    for name, text in shifts.items():
        found = _varied(scorer, config, data, scores, text)
        variations[name] = {"text": text, **found}
        tables.append(f"{name}: {text}\n{as_table(found)}")
    note = trained_on(scorer, data)
    evaluated = Evaluated(scorer, config, data, scores, figures, outputs, bands, note)
    outputs = [*write_evaluation_report(evaluated, folder, training), *outputs]
    result = Evaluation(
        figures,
        (folder / "figures.json", *outputs),
        matrix.tolist(),
        variations,
        "\n\n".join(tables),
        note,
    )
    with appearing(folder / "figures.json", force=True) as file:
        file.write_text(_as_json(result), encoding="utf-8")
    return result


def _as_json(result: Evaluation) -> str:
    """Write what JSON has numbers for; what it has none for is null."""

    def finite(content: Any) -> Any:
        if isinstance(content, Mapping):
            return {name: finite(each) for name, each in content.items()}
        return None if isinstance(content, float) and not np.isfinite(content) else content

    content = {**result.figures}
    extra = {"confusion": result.confusion, "variations": result.variations}
    content |= {name: each for name, each in extra.items() if each}  # type: ignore[misc]
    return json.dumps(finite(content), indent=2) + "\n"


def _uncalibrated(scorer: Scorer, data: Dataset) -> dict[str, float]:
    """Compute what the calibration error would be without the calibration."""
    if scorer.calibration is None:
        return {}
    parts = data.parts(scorer.fold_expression)
    scores = replace(scorer, calibration=None).score_parts(parts)
    found = mean_reliability(data.targets, scores, data.weights)
    return {f"{name}_uncalibrated": found[name] for name in ("ece", "calibration_rms")}


def _varied(
    scorer: Scorer, config: Config, data: Dataset, scores: NDArray[np.float32], text: str
) -> dict[str, float]:
    shifted = scorer.varied(text)
    with read_dataset(config, shifted.inputs, columns=scorer.event_level) as again:
        if len(again.targets) != len(data.targets):
            raise DataError(f"'{text}': the files have other events than a moment ago")
        others = shifted.score_parts(again.parts(scorer.fold_expression))
    return changes(scorer.task, data.targets, scores, others, data.weights)


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


def _plot_classes(
    task: Task,
    classes: NDArray[np.int64],
    scores: NDArray[np.float32],
    weights: NDArray[np.float64],
    folder: Path,
    bands: Mapping[str, Band],
) -> list[Path]:
    """Compare each class with all others; of two classes, the last one with the first."""
    outputs, curves, reliabilities = [], {}, {}
    for suffix, truth, column in one_against_others(task, classes):
        name = suffix.removeprefix("_") or task.names[-1]
        curves[name] = roc(truth, scores[:, column], weights)
        reliabilities[name] = reliability(truth, scores[:, column], weights)
        file = folder / f"score{suffix}.png"
        outputs.append(
            plot_scores(scores[:, column], classes, weights, task.names, f"score for {name}", file)
        )
    outputs.append(plot_roc(curves, folder / "roc.png", bands))
    outputs.append(plot_reliability(reliabilities, folder / "calibration.png"))
    return outputs


def _plot_regression(
    task: Task, truth: NDArray[np.float64], scores: NDArray[np.float32], folder: Path
) -> list[Path]:
    outputs = []
    for i, name in enumerate(task.names):
        file = folder / ("prediction.png" if len(task.names) == 1 else f"prediction_{i}.png")
        shown = f"{name} [{task.units[i]}]" if task.units else name
        outputs.append(plot_prediction(truth[:, i], scores[:, i], shown, file))
    return outputs
