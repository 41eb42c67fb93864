"""Write scores into ROOT files in three ways, and read them back with uproot.

Shows `branch` (the input with one more branch), `append` (an untouched copy of the input plus a
friend tree) and `friend` (a small file with the scores only). Writes one folder for each.
"""

import argparse
from pathlib import Path

import numpy as np
import uproot

import tracksets as ts
from tracksets.config import read_config

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"
FILE = SAMPLE_DATA / "events.root"


def short_training(epochs: int) -> ts.Scorer:
    """Train a model to label with."""
    config = read_config(SAMPLE_DATA / "train.toml")
    training = config.training.model_copy(update={"epochs": epochs})
    return ts.train(config.model_copy(update={"training": training}))


def main(output: Path, model: Path | None, epochs: int) -> None:
    """Label a file in the three modes."""
    scorer = ts.load(model) if model else short_training(epochs)

    ts.label(scorer, FILE, output / "branch", mode="branch", force=True)
    with uproot.open(f"{output}/branch/events.root:Events") as tree:
        scores = tree["score"].array(library="np")
        print(f"branch: {len(tree.keys())} branches, mean score {scores.mean():.3f}")

    # Row i of the friend belongs to row i of Events. In ROOT: Events->AddFriend("Events_score").
    ts.label(scorer, FILE, output / "append", mode="append", force=True)
    with uproot.open(output / "append" / "events.root") as file:
        truth = file["Events"]["isSignal"].array(library="np")
        same = file["Events_score"]["score"].array(library="np")
        print(f"append: mean score of the signal {same[truth == 1].mean():.3f}")

    # In ROOT: Events->AddFriend("Events_score", "friend/events.root"), with the input untouched.
    ts.label(scorer, FILE, output / "friend", mode="friend", force=True)
    with (
        uproot.open(FILE) as events,
        uproot.open(f"{output}/friend/events.root:Events_score") as friend,
    ):
        numbers = events["Events"]["event"].array(library="np")
        columns = friend.arrays(library="np")
        if not np.array_equal(numbers, columns["event"]):
            raise SystemExit("the friend belongs to another file")
        print(f"friend: branches {', '.join(columns)}")

    if not (np.array_equal(scores, same) and np.array_equal(scores, columns["score"])):
        raise SystemExit("the modes do not agree")
    print("all three hold the same scores")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("labelled"))
    parser.add_argument("--model", type=Path, help="a model file; by default one is trained")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.output, arguments.model, arguments.epochs)
