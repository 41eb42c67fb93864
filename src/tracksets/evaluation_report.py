"""An evaluation with its pictures in, one HTML file that tells all of it out."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from tracksets.bands import Band
from tracksets.config import Config
from tracksets.datasets import Dataset, read_dataset
from tracksets.errors import ConfigError
from tracksets.feature_plots import plot_feature, values_by_class
from tracksets.features import JaggedInputs
from tracksets.figures import significant
from tracksets.folds import whole_numbers
from tracksets.importance import important_features, important_tracks, names_of
from tracksets.plots import plot_history
from tracksets.report import Report
from tracksets.scorer import Scorer
from tracksets.shapes import Scored, compare

__all__ = ("Evaluated", "trained_on", "write_evaluation_report")

_SOME = 100_000
"""Events that features are drawn of, and that the speed is measured with."""
_FEW = 10_000
"""Events that importance is measured with."""
_FEWEST = 1000
"""Events whose tracks are compared."""
_EFFICIENCIES = (0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Evaluated:
    """What has been found.

    Attributes
    ----------
    scorer, config, data
        The model, which events, and these.
    scores
        Shape (n_event, n_score).
    figures
        By name; what ends in `_uncertainty` is shown beside the figure itself.
    pictures
        PNG files that were drawn.
    bands
        By signal class: the ROC curve with its uncertainty.
    note
        What speaks against the figures.
    """

    scorer: Scorer
    config: Config
    data: Dataset
    scores: NDArray[np.float32]
    figures: Mapping[str, float]
    pictures: Sequence[Path]
    bands: Mapping[str, Band] = field(default_factory=dict)
    note: str = ""


def write_evaluation_report(
    found: Evaluated, folder: Path, training: Config | None = None
) -> list[Path]:
    """Write `report.html`, and the pictures that are not drawn yet.

    Parameters
    ----------
    found
        What there is to tell.
    folder
        Where.
    training
        The configuration that the model was trained with: its events are scored to compare them.
    """
    scorer, task = found.scorer, found.scorer.task
    members = [
        each for each in scorer.summary.get("members", [scorer.summary]) if "history" in each
    ]
    outputs: list[Path] = []
    report = Report(f"Evaluation: {', '.join(task.names)}")
    report.section("Model and data")
    report.facts(_facts(found))
    report.table(_samples(found.data))
    if found.note:
        report.text(found.note)

    report.section("Figures")
    report.table(_figures(found.figures))
    for name, band in found.bands.items():
        report.table(_rejections(band), f"Signal {name}; intervals of 68 % from a bootstrap.")
    for path in found.pictures:
        report.figure(path, path.stem.replace("_", " "))

    if members:
        report.section("Training")
    for i, each in enumerate(members):
        several = len(members) > 1
        file = folder / (f"loss_{i + 1}.png" if several else "loss.png")
        outputs.append(plot_history(each["history"], file, each.get("best_epoch")))
        which = f", model {i + 1} of {len(members)}" if several else ""
        report.figure(
            outputs[-1], f"Loss by epoch{which}; the parameters of the best one are kept."
        )
    if training is not None:
        report.section("Overtraining")
        pair = (
            _trained(scorer, training),
            Scored(found.scores, found.data.targets, found.data.weights),
        )
        outputs += compare(report, folder, "overtraining", task, pair, "evaluation")[1]

    some = np.linspace(0, len(found.scores) - 1, min(_SOME, len(found.scores))).astype(np.int64)
    [inputs] = found.data.store.load([some])
    if scorer.folds:
        numbers = found.data.columns[scorer.folds.expression][some]
        inputs = replace(inputs, fold=whole_numbers(numbers, scorer.folds.expression))
    if task.kind != "regression":
        report.section("Features by class")
        report.text("Of unit area; a track has the weight of its event.")
        classes, weights = found.data.targets[some], found.data.weights[some]
        features = names_of(scorer)
        pairs = values_by_class(inputs, features, classes, weights, task.names)
        for i, (label, samples) in enumerate(pairs):
            outputs.append(plot_feature(label, samples, folder / f"feature_{i}.png"))
            report.figure(outputs[-1], label)
    report.section("Importance")
    fewer = np.arange(min(_FEW, len(some)))
    few, targets = inputs.take(fewer), found.data.targets[some[fewer]]
    lost = important_features(scorer, few, targets, found.data.weights[some[fewer]])
    report.table(
        (
            {"collection": each.collection, "feature": each.feature, "loss": each.loss}
            for each in lost
        ),
        "What is lost of the area under the ROC curve (of a regression: what the residuals grow by, "
        f"over the spread of the targets) if a feature is shuffled; {len(few.event):,} events.",
    )
    report.table(
        important_tracks(scorer, inputs.take(fewer[:_FEWEST])),
        "The tracks without which a score would change most, in up to a thousand events.",
    )
    report.section("Speed and size")
    report.facts(_speed(scorer, inputs))
    return [report.write(folder / "report.html"), *outputs]


def trained_on(scorer: Scorer, data: Dataset) -> str:
    """Say which files of the data the model was trained on; nothing if none, or if folds tell."""
    if scorer.folds:
        return ""
    seen = [path for uuid, path in data.files.items() if uuid in scorer.summary.get("files", ())]
    if not seen:
        return ""
    some = ", ".join(seen[:3]) + (", ..." if len(seen) > 3 else "")
    return (
        f"The model was trained on {len(seen)} of these {len(data.files)} file(s): {some}. Unless "
        "selections keep their events apart, the figures are better than those of new events."
    )


def _facts(found: Evaluated) -> dict[str, object]:
    scorer, data = found.scorer, found.config.data
    members = scorer.summary.get("members", [scorer.summary])
    trained = [
        ", ".join(f"{n:,} {what} events" for what, n in each.get("events", {}).items())
        for each in members
    ]
    names = [*(data.files or ()), *(name for c in data.classes.values() for name in c.files or ())]
    return {
        "model": scorer.hash,
        "gives": f"{scorer.task.kind}: {', '.join(scorer.task.names)}",
        "inputs": "; ".join(
            f"{name}: {', '.join(each)}" for name, each in names_of(scorer).items() if each
        ),
        "cuts on tracks": "; ".join(
            f"{name}: {each.select}" for name, each in scorer.inputs.collections.items()
            if each.select
        ),
        "network": scorer.model.model_dump_json(),
        "trained on": "; ".join(trained),
        "files": ", ".join(names),
        "weight": data.weight or "1",
        "events": data.select or "all",
    }  # fmt: skip


def _samples(data: Dataset) -> Iterator[dict[str, object]]:
    """Count events, by class."""
    of_class = [(name, data.targets == i) for i, name in enumerate(data.task.names)]
    if data.task.kind == "regression":
        of_class = [("all", np.ones(len(data.weights), bool))]
    for name, chosen in of_class:
        weights = data.weights[chosen]
        row: dict[str, object] = {"class": name, "events": int(chosen.sum())}
        row |= {"sum of weights": float(weights.sum()), "negative": int((weights < 0).sum())}
        means = data.store.counts.items()
        yield row | {f"{each} per event": float(n[chosen].mean()) for each, n in means}


def _figures(figures: Mapping[str, float]) -> Iterator[dict[str, object]]:
    for name, value in figures.items():
        if not name.endswith("_uncertainty"):
            row: dict[str, object] = {"figure": name.replace("_", " "), "value": value}
            uncertainty = figures.get(f"{name}_uncertainty")
            digits = significant(uncertainty)
            if digits is not None:
                row["value"] = f"{value:.{digits}f}"
                row["uncertainty"] = f"{uncertainty:.{digits}f}"
            yield row


def _rejections(band: Band) -> Iterator[dict[str, object]]:
    """Tell background efficiency and rejection, its inverse, at some signal efficiencies."""
    for efficiency in _EFFICIENCIES:
        i = int(np.argmin(np.abs(band.signal - efficiency)))
        b, low, high = (float(each[i]) for each in (band.background, band.low, band.high))
        yield {
            "signal efficiency": efficiency,
            "background efficiency": b,
            "interval": f"{low:.3g} to {high:.3g}",
            "rejection": 1 / b if b > 0 else None,
            "its interval": f"{1 / high:.3g} to {1 / low:.3g}" if low > 0 else "",
        }


def _trained(scorer: Scorer, training: Config) -> Scored:
    """Score the events of the training."""
    with read_dataset(training, scorer.inputs, columns=scorer.event_level) as data:
        task = scorer.task
        if (data.task.kind, data.task.names) != (task.kind, task.names):
            raise ConfigError(
                f"the model gives {task.kind} scores of {list(task.names)}, but the configuration "
                f"of its training has {data.task.kind} targets {list(data.task.names)}"
            )
        return Scored(
            scorer.score_parts(data.parts(scorer.fold_expression)), data.targets, data.weights
        )


def _speed(scorer: Scorer, inputs: JaggedInputs) -> dict[str, Any]:
    """Measure the speed of scoring flat inputs, by one model; all is compiled by now."""
    begin = time.perf_counter()
    scorer.members[0].score_inputs(inputs)
    seconds = time.perf_counter() - begin
    devices = jax.devices()
    return {
        "events per second": round(inputs.n_event / seconds),
        "tracks per second": round(inputs.n_track / seconds),
        "on": f"{len(devices)} {devices[0].platform.upper()} device(s), reading not counted",
        "parameters": sum(each.size for each in scorer.arrays.values()),
        "size": f"{sum(each.nbytes for each in scorer.arrays.values()) / 1e6:.3g} MB",
    }
