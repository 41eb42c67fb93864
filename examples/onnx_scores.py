"""Score a ROOT file with an exported model, without tracksets: what `onnx_scores.cpp` does.

The model is that of `sample_data/train.toml`, as `tracksets export` writes it. Prints the number
and the score of each event.

Usage: python examples/onnx_scores.py model.onnx sample_data/events.root
"""

import argparse
import json
from collections.abc import Iterator

import awkward as ak
import numpy as np
import onnxruntime
import uproot

FEATURES = ["log(pt)", "eta", "cos(phi)", "sin(phi)", "charge", "d0/d0_err"]
"""What `tracks` computes, in order."""
SELECT = "pt > 0.5"
EVENT = ["PV_z"]

TRACK = ("Track_pt", "Track_eta", "Track_phi", "Track_charge", "Track_d0", "Track_d0_err")
"""The branches that they are computed from."""

BATCH = 50
"""Events at a time, some 3,000 tracks: what the network makes of them fits the cache."""


def open_model(path: str) -> onnxruntime.InferenceSession:
    """Open a model, and refuse one that wants to be fed with something else."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["tracksets"])
    [track] = about["collections"]
    found = (track["features"], track["select"], about["event"]["features"])
    if found != (FEATURES, SELECT, EVENT):
        raise SystemExit(f"{path} wants {found}, this program has {FEATURES}, {SELECT}, {EVENT}")
    return session


def inputs(events: ak.Array) -> dict[str, np.ndarray]:
    """Return the tracks of all events, one after the other, and how many each event has."""
    kept = events.Track_pt > 0.5
    flat = (ak.to_numpy(ak.flatten(events[name][kept])) for name in TRACK)
    pt, eta, phi, charge, d0, d0_err = flat
    columns = [np.log(pt), eta, np.cos(phi), np.sin(phi), charge, d0 / d0_err]
    return {
        "tracks.Track": np.stack(columns, axis=1, dtype=np.float32, casting="same_kind"),
        "counts.Track": ak.to_numpy(ak.sum(kept, axis=1)).astype(np.int64),
        "event": ak.to_numpy(events.PV_z).astype(np.float32)[:, np.newaxis],
    }


def scores(model: str, file: str) -> Iterator[tuple[int, float]]:
    """Yield the number and the score of each event."""
    session = open_model(model)
    tree = uproot.open(f"{file}:Events")
    for events in tree.iterate(["event", "PV_z", *TRACK], step_size=BATCH):
        [values] = session.run(["scores"], inputs(events))
        yield from zip(events.event.to_list(), values[:, 0].tolist(), strict=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("file")
    arguments = parser.parse_args()
    for number, score in scores(arguments.model, arguments.file):
        print(number, f"{score:.9g}")
