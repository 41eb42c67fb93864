"""Train from files as a TOML file says, save the model, and evaluate it on other files.

Shows the same as `tracksets train` and `tracksets evaluate`, from Python. Writes
`b_events.safetensors` and the folder `evaluation`.
"""

import argparse
from pathlib import Path

import tracksets as ts
from tracksets.config import read_config
from tracksets.evaluation import evaluate

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"


def main(output: Path, epochs: int | None) -> None:
    """Train, save, evaluate."""
    # `ts.train("train.toml")` is all it takes; a configuration in hand can be changed first.
    config = read_config(SAMPLE_DATA / "train.toml")
    if epochs is not None:
        training = config.training.model_copy(update={"epochs": epochs})
        config = config.model_copy(update={"training": training})
    scorer = ts.train(config)

    output.mkdir(parents=True, exist_ok=True)
    scorer.save(output / "b_events.safetensors")
    scorer = ts.load(output / "b_events.safetensors")

    result = evaluate(scorer, SAMPLE_DATA / "evaluate.toml", output / "evaluation")
    print(f"best epoch {scorer.summary['best_epoch']}, test AUC {result.figures['auc']:.3f}")
    for path in result.outputs:
        print(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path())
    parser.add_argument("--epochs", type=int, help="instead of what the file says")
    arguments = parser.parse_args()
    main(arguments.output, arguments.epochs)
