"""Does the event hold a reconstructed K0s? A target made in a script, from truth in the tree.

The collection `V0s` has branches with dots and an inner axis: `V0s.fInvMass[2]` holds the mass of
each candidate as K0s and as Lambda.

Usage: python examples/k0s.py alice_v0.root
"""

import argparse

import awkward as ak
import numpy as np
import uproot

import tracksets as ts
from tracksets.metrics import roc_auc

K0S = 310
"""Its particle code."""
K0S_MASS = 0.4976
"""Its mass [GeV]."""

INPUTS = ts.Inputs(
    collections={
        "V0s": ts.Collection(
            features=[
                "log(fV0pt)",
                "fV0eta",
                "fInvMass[0]",
                f"log(abs(fInvMass[0] - {K0S_MASS}) + 1e-4)",
                "fInvMass[1]",
                "log(fV0radius)",
                "fV0CosPA",
                "fV0armAlpha",
                "fV0armPt",
                "log(fDcaV0daughters + 1e-3)",
                "fNsigmaPionPos",
                "fNsigmaPionNeg",
            ]
        )
    }
)


def read(path: str) -> tuple[ak.Array, np.ndarray]:
    """Return the events with a V0, and whether one of them is a K0s."""
    wanted = ("V0s.", "MCparticles.")
    events = uproot.open(f"{path}:fTreeV0").arrays(
        filter_branch=lambda branch: branch.name.startswith(wanted)
    )
    events = events[ak.num(events["V0s.fV0pt"]) > 0]
    is_k0s = abs(events["MCparticles.fPDGcode"]) == K0S
    is_found = events["MCparticles.fRecoIndex"] >= 0
    found = is_k0s & is_found & ~events["MCparticles.fHyperCandidate"]
    return events, ak.to_numpy(ak.any(found, axis=1))


def main(path: str, folds: int = 4, progress: bool = True) -> float:
    """Train on all folds but one, score that one, and return the AUC of all of them together."""
    events, has_k0s = read(path)
    fold = np.random.default_rng(0).permutation(len(events)) % folds
    scores = np.empty(len(events))
    for k in range(folds):
        chosen = fold != k
        scorer = ts.fit(
            events[chosen],
            has_k0s[chosen],
            INPUTS,
            model=ts.Model(phi=[64, 64], rho=[64], pool=["sum", "max"]),
            training=ts.Training(epochs=60, patience=8, block_tracks=256, weight_decay=1e-3),
            progress=progress,
        )
        scores[~chosen] = scorer(events[~chosen])
    distance = abs(events["V0s.fInvMass[2]"][:, :, 0] - K0S_MASS)
    alone = roc_auc(has_k0s, -ak.to_numpy(ak.min(distance, axis=1)))
    auc = roc_auc(has_k0s, scores)
    print(f"{has_k0s.sum()} of {len(events)} events have a reconstructed K0s")
    print(f"AUC on held-out events {auc:.4f}; of the distance from its mass alone {alone:.4f}")
    return auc


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    main(parser.parse_args().file)
