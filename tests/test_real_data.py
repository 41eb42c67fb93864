"""What real files with real tasks must give; the figures are of held-out events."""

import runpy
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from tracksets.config import read_config
from tracksets.features import jagged_inputs

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_single_top_beats_boosted_trees(shared_data):
    text = (EXAMPLES / "single_top.toml").read_text()
    assert len(text.strip().splitlines()) <= 25
    compare = runpy.run_path(str(EXAMPLES.parent / "bench" / "real_data.py"))["compare"]
    auc = compare(shared_data("single_top.root").parent)
    assert auc["tracksets"] > 0.89
    assert auc["tracksets"] > auc["boosted trees"] - 0.002  # the spread between seeds
    assert auc["largest b-tag alone"] < 0.87


@pytest.mark.slow
def test_k0s_are_found(shared_data):
    main = runpy.run_path(str(EXAMPLES / "k0s.py"))["main"]
    auc, auc_of_contributions = main(str(shared_data("alice_v0.root")), folds=2, progress=False)
    assert auc > 0.97
    assert auc_of_contributions > 0.9  # no one said which of the vertices are K0s


def test_the_inputs_of_quark_and_gluon_jets():
    random = np.random.default_rng(1)
    counts = random.integers(0, 6, 30)
    n = counts.sum()
    codes = np.array([22, 211, -211, 321, 130, 2112, -2212, 11, -13, 999])
    flat = {
        "pt": random.exponential(5, n).astype(np.float32) + 1,
        "y": random.normal(size=n).astype(np.float32),
        "phi": random.uniform(-np.pi, np.pi, n).astype(np.float32),
        "pdgId": random.choice(codes, n).astype(np.int32),
    }
    jet = {"jet_y": random.normal(size=30), "jet_phi": random.uniform(-np.pi, np.pi, 30)}
    events = ak.Array({**{f"part_{k}": ak.unflatten(v, counts) for k, v in flat.items()}, **jet})
    found = jagged_inputs(events, read_config(EXAMPLES / "quark_gluon.toml").inputs)
    types = [22, 211, 321, 130, 2112, 2212, 11, 13]
    rows = []
    for event in ak.to_list(events):
        columns = [event[f"part_{name}"] for name in ("pt", "y", "phi", "pdgId")]
        for pt, y, phi, code in zip(*columns, strict=True):
            row = [np.log(pt / sum(columns[0]))]
            for y_axis, phi_axis in (
                (event["jet_y"], event["jet_phi"]),
                (columns[1][0], columns[2][0]),
            ):
                delta = np.arctan2(np.sin(phi - phi_axis), np.cos(phi - phi_axis))
                distance = np.sqrt((y - y_axis) ** 2 + delta**2)
                row += [y - y_axis, delta, np.log(distance + 0.001)]
            rows.append(row + [float(abs(code) == each) for each in types])
    np.testing.assert_allclose(found.tracks["part"], rows, rtol=1e-5, atol=1e-6)
    assert found.counts["part"].tolist() == counts.tolist()


def test_a_tree_of_lorentz_vectors(shared_data):
    events = uproot.open(f"{shared_data('uproot-HZZ-objects.root')}:events").arrays(["muonp4"])
    inputs = read_config(EXAMPLES / "single_top.toml").inputs.model_copy(
        update={
            "event": (),
            "collections": {
                "muon": {
                    "features": ["log(pt)", "eta"],
                    "rename": {"px": "muonp4.fP.fX", "py": "muonp4.fP.fY", "pz": "muonp4.fP.fZ"},
                }
            },
        }
    )
    inputs = type(inputs).model_validate(inputs.model_dump(warnings=False))
    found = jagged_inputs(events, inputs).tracks["muon"]
    momenta = ak.flatten(events.muonp4.fP)
    pt = np.hypot(momenta.fX, momenta.fY)
    np.testing.assert_allclose(found[:, 0], np.log(pt), rtol=1e-5)
    np.testing.assert_allclose(found[:, 1], np.arcsinh(momenta.fZ / pt), rtol=1e-4, atol=1e-5)
