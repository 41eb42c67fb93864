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
    return events, ak.to_numpy(ak.any(which(events), axis=1))


def which(events: ak.Array) -> ak.Array:
    """Say of every vertex whether it is a K0s."""
    found = (
        (abs(events["MCparticles.fPDGcode"]) == K0S)
        & (events["MCparticles.fRecoIndex"] >= 0)
        & ~events["MCparticles.fHyperCandidate"]
    )
    indices = events["MCparticles.fRecoIndex"][found]
    vertices = ak.local_index(events["V0s.fV0pt"])
    return ak.any(vertices[:, :, None] == indices[:, None, :], axis=2)


def main(path: str, folds: int = 4, progress: bool = True) -> tuple[float, float]:
    """Train on all folds but one and score that one.

    Returns the AUC of the scores against the truth of each event, of all folds together, and that
    of the contributions against the truth of each vertex.
    """
    events, has_k0s = read(path)
    fold = np.random.default_rng(0).permutation(len(events)) % folds
    scores = np.empty(len(events))
    parts = []
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
        tested = events[~chosen]
        parts.append([scorer.contributions(tested, kind) for kind in ("change", "gradient")])
    distance = abs(events["V0s.fInvMass[2]"][:, :, 0] - K0S_MASS)
    alone = roc_auc(has_k0s, -ak.to_numpy(ak.min(distance, axis=1)))
    auc = roc_auc(has_k0s, scores)
    print(f"{has_k0s.sum()} of {len(events)} events have a reconstructed K0s")
    print(f"AUC on held-out events {auc:.4f}; of the distance from its mass alone {alone:.4f}")
    # Do the vertices that are a K0s stand out? The network was not told which they are.
    order = np.concatenate([np.flatnonzero(fold == k) for k in range(folds)])
    contributions = {
        "leaving it out": ak.concatenate([change for change, _ in parts]),
        "gradient": ak.concatenate([gradient for _, gradient in parts]),
        "distance from the mass": -distance[order],
    }
    truth, there = which(events)[order], has_k0s[order]
    areas = {}
    for name, each in contributions.items():
        areas[name] = [
            roc_auc(ak.to_numpy(ak.flatten(truth[chosen])), ak.to_numpy(ak.flatten(each[chosen])))
            for chosen in (there, slice(None))
        ]
        print(
            f"AUC of the vertices by {name}: {areas[name][0]:.4f} in events with a K0s, "
            f"{areas[name][1]:.4f} in all events"
        )
    return auc, areas["leaving it out"][0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    main(parser.parse_args().file)
