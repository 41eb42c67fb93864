"""Score events in the middle of an analysis: read with uproot, train, add a field, cut, plot.

Shows that a score is one more field of an awkward array. Writes `analysis.png`.
"""

import argparse
from pathlib import Path

import awkward as ak
import hist
import matplotlib.pyplot as plt
import mplhep
import numpy as np
import uproot

import tracksets as ts

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"


def main(output: Path, epochs: int) -> None:
    """Train on two files and look at a third."""
    background = uproot.open(f"{SAMPLE_DATA}/background.root:Events").arrays()
    signal = uproot.open(f"{SAMPLE_DATA}/signal.root:Events").arrays()
    train = ak.concatenate([background, signal])
    targets = np.repeat([0, 1], [len(background), len(signal)])

    inputs = ts.Inputs(
        collections={
            "Track": ts.Collection(
                features=["log(pt)", "eta", "cos(phi)", "sin(phi)", "charge", "d0/d0_err"],
                select="pt > 0.5",
            )
        }
    )
    training = ts.Training(epochs=epochs, block_tracks=4096)
    scorer = ts.fit(train, targets, inputs, weights=train.genWeight, training=training)

    # Any awkward array with these branches will do; here, only what is needed is read.
    with uproot.open(f"{SAMPLE_DATA}/events.root:Events") as tree:
        events = tree.arrays([*scorer.branches(tree), "nTrack", "isSignal", "genWeight"])
    events["score"] = scorer(events)

    events = events[events.nTrack > 0]
    chosen = events[events.score > 0.9]
    purity = ak.sum(chosen.genWeight[chosen.isSignal == 1]) / ak.sum(chosen.genWeight)
    efficiency = np.mean(events.score[events.isSignal == 1] > 0.9)
    print(f"score > 0.9 keeps {efficiency:.0%} of the signal, with a purity of {purity:.0%}")

    score = hist.Hist.new.StrCat(["background", "signal"], name="truth").Reg(40, 0, 1, name="score")
    counts = score.Weight()
    for i, name in enumerate(("background", "signal")):
        part = events[events.isSignal == i]
        counts.fill(truth=name, score=np.minimum(part.score, 0.999), weight=part.genWeight)

    mplhep.style.use("ROOT")
    figure, axes = plt.subplots()
    mplhep.histplot([counts["background", :], counts["signal", :]], label=list(counts.axes[0]))
    axes.axvline(0.9, color="black", linestyle="dashed")
    axes.set(xlabel="score", ylabel="weighted events")
    axes.legend()
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / "analysis.png")
    print(f"plot: {output / 'analysis.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path())
    parser.add_argument("--epochs", type=int, default=15)
    arguments = parser.parse_args()
    main(arguments.output, arguments.epochs)
