"""Single top against WW: a Deep Set against boosted trees on padded columns, the same folds."""

import os
from pathlib import Path

import awkward as ak
import numpy as np
import uproot
from sklearn.ensemble import HistGradientBoostingClassifier

import tracksets as ts
from bench import harness
from tracksets.config import read_config
from tracksets.metrics import roc_auc

REPOSITORY = Path(__file__).parents[1]
FOLDS = 4


def read(folder: Path) -> tuple[ak.Array, np.ndarray]:
    """Return the events of both classes, and whether they are single top."""
    parts = [
        uproot.open(f"{folder / name}:events").arrays() for name in ("ww.root", "single_top.root")
    ]
    return ak.concatenate(parts), np.repeat([0, 1], [len(part) for part in parts])


def padded_columns(events: ak.Array) -> np.ndarray:
    """Pad to four jets, one muon and one electron: 41 columns, NaN where there is none."""
    columns = [events[name] for name in ("NJet", "NMuon", "NElectron", "MET_px", "MET_py")]
    for collection, most, names in (
        ("Jet", 4, ("Px", "Py", "Pz", "E", "btag", "ID")),
        ("Muon", 1, ("Px", "Py", "Pz", "E", "Charge", "Iso")),
        ("Electron", 1, ("Px", "Py", "Pz", "E", "Charge", "Iso")),
    ):
        for name in names:
            values = ak.values_astype(events[f"{collection}_{name}"], np.float64)
            filled = ak.fill_none(ak.pad_none(values, most, clip=True), np.nan)
            columns += [filled[:, i] for i in range(most)]
    return np.stack([ak.to_numpy(each).astype(np.float64) for each in columns], axis=1)


def compare(folder: Path, seed: int = 1) -> dict[str, float]:
    """Return the AUC on held-out events of each contestant."""
    config = read_config(REPOSITORY / "examples" / "single_top.toml")
    events, truth = read(folder)
    columns = padded_columns(events)
    fold = np.arange(len(events)) % FOLDS
    scores = {name: np.empty(len(events)) for name in ("tracksets", "boosted trees")}
    training = config.training.model_copy(update={"seed": seed})
    for k in range(FOLDS):
        chosen = fold != k
        scorer = ts.fit(
            events[chosen],
            truth[chosen],
            config.inputs,
            model=config.model,
            training=training,
            progress=False,
        )
        scores["tracksets"][~chosen] = scorer(events[~chosen])
        trees = HistGradientBoostingClassifier(random_state=seed)
        trees.fit(columns[chosen], truth[chosen])
        scores["boosted trees"][~chosen] = trees.predict_proba(columns[~chosen])[:, 1]
    btag = ak.fill_none(ak.max(events.Jet_btag, axis=1), -99)
    return {
        **{name: roc_auc(truth, each) for name, each in scores.items()},
        "largest b-tag alone": roc_auc(truth, ak.to_numpy(btag)),
    }


def main() -> None:
    """Measure with three seeds and print; the files are those of TRACKSETS_TEST_DATA."""
    folder = Path(os.environ.get("TRACKSETS_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "ww.root").is_file():
        print(f"real_data is left out: no ww.root in {folder}; set TRACKSETS_TEST_DATA")
        return
    rows = [{"seed": f"{seed}", **compare(folder, seed)} for seed in (1, 2, 3)]
    shown = [{k: v if isinstance(v, str) else f"{v:.4f}" for k, v in row.items()} for row in rows]
    harness.show("Single top against WW, AUC on held-out events (4 folds)", shown)
