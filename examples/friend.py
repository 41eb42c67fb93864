"""Label a file with a friend tree, and read it with RDataFrame and, the same, with uproot.

Shows that the input stays as it is: the scores are in a small file beside it, row by row. Needs
ROOT (`pip install 'tracksets[root]'`) and a model, for instance of `tracksets train`.
"""

import argparse
from pathlib import Path

import numpy as np
import ROOT
import uproot

import tracksets as ts

FILE = Path(__file__).parents[1] / "sample_data" / "events.root"


def with_rdataframe(friend: Path) -> tuple[int, float]:
    """Count the events with a high score, and sum their weights."""
    file = ROOT.TFile.Open(str(FILE))
    tree = file.Get("Events")
    tree.AddFriend("Events_score", str(friend))
    chosen = ROOT.RDataFrame(tree).Filter("Events_score.score > 0.5 && nTrack > 10")
    count, weights = chosen.Count(), chosen.Sum("genWeight")
    return count.GetValue(), weights.GetValue()


def with_uproot(friend: Path) -> tuple[int, float]:
    """Do the same with awkward arrays."""
    events = uproot.open(f"{FILE}:Events").arrays(["nTrack", "genWeight"])
    events["score"] = uproot.open(f"{friend}:Events_score")["score"].array()
    chosen = events[(events.score > 0.5) & (events.nTrack > 10)]
    return len(chosen), float(np.sum(chosen.genWeight.to_numpy(), dtype=np.float64))


def main(model: str, output: Path) -> None:
    """Label the file and compare."""
    report = ts.label(model, FILE, output, mode="friend", force=True)
    [friend] = report.outputs
    for name, (count, weights) in {
        "RDataFrame": with_rdataframe(friend),
        "uproot": with_uproot(friend),
    }.items():
        print(f"{name}: {count} events, weights {weights:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("-o", "--output", type=Path, default=Path("friend"))
    arguments = parser.parse_args()
    main(arguments.model, arguments.output)
