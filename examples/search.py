"""Search settings and network with Optuna, and train with the best that was found.

Each trial is a training as a TOML file says, with some of its values changed; hopeless ones are
ended early. The same seed gives the same search. Writes `best.safetensors` and `trials.csv`.
"""

import argparse
from pathlib import Path
from typing import Any

import optuna

import tracksets as ts
from tracksets.callbacks import Callback
from tracksets.config import Config, read_config

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Choose what a trial tries."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.3),
        "width": trial.suggest_categorical("width", [32, 64, 128]),
        "pool": trial.suggest_categorical("pool", ["sum", "mean", "sum max"]),
    }


def changed(config: Config, values: dict[str, Any], epochs: int | None) -> Config:
    """Return the configuration with these values in it."""
    training = {"learning_rate": values["learning_rate"], "dropout": values["dropout"]}
    if epochs is not None:
        training["epochs"] = epochs
    model = {
        "phi": [values["width"]] * 3,
        "rho": [values["width"]] * 2,
        "pool": values["pool"].split(),
    }
    # Made anew, so that every value is checked.
    return Config.model_validate(
        {
            **config.model_dump(),
            "training": {**config.training.model_dump(), **training},
            "model": {**config.model.model_dump(), **model},
        }
    )


class Pruning(Callback):
    """Tells Optuna of each epoch, and ends the trial if others were better by then."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def on_epoch(self, entry: dict[str, float]) -> None:
        self.trial.report(entry["validation_loss"], int(entry["epoch"]))
        if self.trial.should_prune():
            raise optuna.TrialPruned


def main(path: Path, output: Path, trials: int, epochs: int | None, seed: int) -> None:
    """Search, then train."""
    config = read_config(path)

    def objective(trial: optuna.Trial) -> float:
        attempt = changed(config, suggest(trial), epochs)
        scorer = ts.train(attempt, progress=False, callbacks=[Pruning(trial)])
        return min(entry["validation_loss"] for entry in scorer.history)

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=3),
    )
    study.optimize(objective, n_trials=trials)

    output.mkdir(parents=True, exist_ok=True)
    with (output / "trials.csv").open("w") as table:
        table.write("trial,state,validation_loss,learning_rate,dropout,width,pool\n")
        for each in study.trials:
            values = (each.number, each.state.name, each.value, *each.params.values())
            table.write(",".join(map(str, values)) + "\n")
    scorer = ts.train(changed(config, study.best_params, epochs), progress=False)
    scorer.save(output / "best.safetensors")
    print(f"best of {len(study.trials)}: validation loss {study.best_value:.4f}")
    print(", ".join(f"{name} = {value}" for name, value in study.best_params.items()))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", default=SAMPLE_DATA / "train.toml")
    parser.add_argument("-o", "--output", type=Path, default=Path())
    parser.add_argument("-n", "--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, help="instead of what the file says")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    main(
        arguments.config,
        arguments.output,
        arguments.trials,
        arguments.epochs,
        arguments.seed,
    )
