"""A training watched from begin to end in, a folder with its report out.

The report has losses, learning rates and the area under the ROC curve, and compares the scores of
training and validation events: as pictures, as numbers (JSON), and as one HTML file.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tracksets.atomic import appearing
from tracksets.callbacks import Callback, Entry, Step, write_history
from tracksets.errors import FileError
from tracksets.metrics import mean_auc
from tracksets.plots import plot_history
from tracksets.problems import Problem
from tracksets.report import Report
from tracksets.samples import Part
from tracksets.scorer import Scorer
from tracksets.shapes import Scored, compare
from tracksets.training_plots import plot_auc, plot_rates, require_plots

__all__ = ("TrainingReport",)


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

    def for_member(self, name: str) -> Callback:
        """Return one that writes into a folder of this name below."""
        return TrainingReport(self.folder / name)

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
            pair = (_scored(scorer, problem.sample), _scored(scorer, problem.validation))
            if task.kind != "regression":
                aucs = [mean_auc(each.truth, each.scores, each.weights) for each in pair]
                figures["auc"] = dict(zip(("training", "validation"), aucs, strict=True))
                report.table([{"": "AUC, best epoch", **figures["auc"]}])
            tests, _ = compare(report, folder, "scores", task, pair, "validation")
            figures["overtraining"] = tests
            report.text(
                "The validation events have chosen the best epoch: final figures come from events "
                "of their own."
            )
        with appearing(folder / "report.json", force=True) as file:
            file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        report.write(folder / "report.html")


def _scored(scorer: Scorer, part: Part) -> Scored:
    store, targets = part.sample.store, part.targets
    scores = scorer.score_parts(inputs for inputs, _ in store.parts(part.events))
    truth = scorer.task.link(targets) if scorer.task.kind == "regression" else targets[:, 0]
    return Scored(scores, truth, part.weights)


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
