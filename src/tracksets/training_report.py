"""A training watched from begin to end in, a folder with its report out.

The report has losses, learning rates and the area under the ROC curve, and compares the scores of
training and validation events: as pictures, as numbers (JSON), and as one HTML file.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tracksets.atomic import appearing
from tracksets.callbacks import Callback, Entry, Step, write_history
from tracksets.errors import FileError
from tracksets.fitting import Problem
from tracksets.metrics import mean_auc
from tracksets.overtraining import kolmogorov_smirnov
from tracksets.plots import plot_history
from tracksets.report import Report
from tracksets.samples import Part
from tracksets.scorer import Scorer
from tracksets.targets import Task
from tracksets.training_plots import Weighted, plot_auc, plot_rates, plot_shapes, require_plots

__all__ = ("TrainingReport",)

_TEST = (
    "Two-sample Kolmogorov-Smirnov test of training against validation events, with weights. "
    "The number of events is the effective one, (Σw)² / Σw²; negative weights are summed as they "
    "are. A small p-value says that the two differ: the network knows its training events better "
    "than others. Of many events small differences have small p-values too: look at the distance, "
    "and at the AUC of both. The validation events have chosen the best epoch, so for final "
    "figures take events of their own."
)

Pairs = dict[str, tuple[Weighted, Weighted]]


class TrainingReport(Callback):
    """Writes `report.html`, `report.json`, `history.csv` and pictures when a training has ended.

    All training and validation events are scored for it.

    Parameters
    ----------
    folder
        Where; files of these names are replaced.

    Raises
    ------
    MissingExtraError
        If matplotlib, mplhep or hist is not installed.
    FileError
        When the training begins, if the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        require_plots()
        self.folder = Path(folder)
        self._history: list[Entry] = []
        self._rates: dict[int, float] = {}

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror
            raise FileError(f"cannot write to the folder {self.folder}: {reason}") from error
        return self

    def on_step(self, step: Step) -> None:
        """Keep the learning rate."""
        self._rates[step.step] = step.learning_rate

    def on_epoch(self, entry: Entry) -> None:
        """Keep the entry, and the learning rate of its last step."""
        self._history.append(entry)
        self._rates[int(entry["step"])] = entry["learning_rate"]

    def on_end(self, scorer: Scorer, problem: Problem) -> None:
        """Score the events and write the report."""
        folder, history, task = self.folder, self._history, problem.task
        best_epoch = scorer.summary["best_epoch"]
        write_history(history, folder / "history.csv")
        report = Report(f"Training: {', '.join(task.names)}")
        report.section("Training")
        report.facts(_facts(scorer, problem, history))
        report.section("Epochs")
        caption = "Loss; the parameters of the best epoch are kept."
        report.figure(plot_history(history, folder / "loss.png", best_epoch), caption)
        rates = dict(sorted(self._rates.items()))
        report.figure(plot_rates(rates, folder / "learning_rate.png"), "Learning rate by step.")
        if "validation_auc" in history[0]:
            caption = "Area under the ROC curve of the validation events."
            report.figure(plot_auc(history, folder / "auc.png"), caption)
        report.table(_whole(entry) for entry in history)

        figures: dict[str, Any] = {"best_epoch": best_epoch, **history[best_epoch - 1]}
        if problem.validation is not None:
            report.section("Training against validation")
            scores = [_scores(scorer, part) for part in (problem.sample, problem.validation)]
            parts = (problem.sample, problem.validation)
            if task.kind != "regression":
                aucs = [
                    mean_auc(part.targets[:, 0], each, part.weights)
                    for part, each in zip(parts, scores, strict=True)
                ]
                figures["auc"] = dict(zip(("training", "validation"), aucs, strict=True))
                report.table([{"": "AUC, best epoch", **figures["auc"]}])
            figures["overtraining"] = self._compare(report, task, parts, scores)
        with appearing(folder / "report.json", force=True) as file:
            file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        report.write(folder / "report.html")

    def _compare(
        self,
        report: Report,
        task: Task,
        parts: tuple[Part, Part],
        scores: list[NDArray[np.float32]],
    ) -> dict[str, dict[str, Any]]:
        """Draw and compare the distributions of each score; return the numbers of the tests."""
        found: dict[str, dict[str, Any]] = {}
        for column, (label, pairs, ends) in enumerate(_distributions(task, parts, scores)):
            if not pairs:
                continue
            path = self.folder / f"scores_{column}.png"
            caption = f"Training (lines) and validation events (points) by {label}."
            report.figure(plot_shapes(pairs, ends, label, path), caption)
            found[label] = {}
            for name, (one, other) in pairs.items():
                test = kolmogorov_smirnov(one.values, other.values, one.weights, other.weights)
                found[label][name] = {
                    "distance": test.distance,
                    "p_value": test.p_value,
                    "effective_training_events": test.n_effective[0],
                    "effective_validation_events": test.n_effective[1],
                }
        report.text(_TEST)
        report.table(
            {"": label, "of": name, **{key.replace("_", " "): each for key, each in test.items()}}
            for label, tests in found.items()
            for name, test in tests.items()
        )
        return found


def _scores(scorer: Scorer, part: Part) -> NDArray[np.float32]:
    return scorer.score_parts(inputs for inputs, _ in part.sample.store.parts(part.events))


def _distributions(
    task: Task, parts: tuple[Part, Part], scores: list[NDArray[np.float32]]
) -> list[tuple[str, Pairs, tuple[float, float]]]:
    """Return label, events by class, and ends of each distribution to compare.

    A class whose weights sum to zero or less in one of the parts is left out.
    """
    if task.kind == "regression":
        residuals = [
            each - task.link(part.targets) for part, each in zip(parts, scores, strict=True)
        ]
        result = []
        for i, name in enumerate(task.names):
            one, other = (
                Weighted(each[:, i], part.weights)
                for part, each in zip(parts, residuals, strict=True)
            )
            low, high = np.percentile(other.values, (0.5, 99.5))
            margin = 0.1 * (high - low) or 1.0
            unit = f" [{task.units[i]}]" if task.units else ""
            ends = (float(low - margin), float(high + margin))
            result.append((f"predicted - true {name}{unit}", {"events": (one, other)}, ends))
        return result
    signals = [len(task.names) - 1] if task.kind == "binary" else range(len(task.names))
    result = []
    for column, signal in enumerate(signals):
        pairs: Pairs = {}
        for i, name in enumerate(task.names):
            one, other = (
                Weighted(
                    each[part.targets[:, 0] == i, column], part.weights[part.targets[:, 0] == i]
                )
                for part, each in zip(parts, scores, strict=True)
            )
            if one.weights.sum() > 0 and other.weights.sum() > 0:
                pairs[name] = (one, other)
        result.append((f"score for {task.names[signal]}", pairs, (0.0, 1.0)))
    return result


def _whole(entry: Mapping[str, float]) -> dict[str, object]:
    """Return an entry for people: whole numbers as such, spaces in names."""
    counts = ("epoch", "step", "events_per_second")
    return {
        key.replace("_", " "): round(each) if key in counts else each for key, each in entry.items()
    }


def _facts(scorer: Scorer, problem: Problem, history: list[Entry]) -> dict[str, object]:
    validation, settings = problem.validation, scorer.summary["training"]
    return {
        "learns": f"{problem.task.kind}: {', '.join(problem.task.names)}",
        "training events": problem.sample.n_event,
        "validation events": validation.n_event if validation else 0,
        "epochs": f"{len(history)}, best {scorer.summary['best_epoch']}",
        "time": f"{sum(entry['seconds'] for entry in history):.0f} s",
        "parameters": sum(each.size for each in scorer.arrays.values()),
        "inputs": "; ".join(
            f"{name}: {', '.join(each)}" for name, each in problem.features.items() if each
        ),
        "network": scorer.model.model_dump_json(),
        "settings": ", ".join(f"{name} = {value}" for name, value in settings.items()),
        "versions": ", ".join(f"{k} {v}" for k, v in scorer.summary["versions"].items()),
        "model": scorer.hash,
    }
