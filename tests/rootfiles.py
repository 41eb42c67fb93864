"""ROOT files for the tests, scorers that fit them, and comparisons of what is in two files."""

import atexit
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from helpers import BINARY, MODEL, random_arrays

from tracksets.blocks import Shape
from tracksets.inputs import Collection, Inputs
from tracksets.network import Model
from tracksets.reading import leaves_of
from tracksets.scorer import Scorer
from tracksets.targets import Task

SAMPLE = Inputs(
    collections={"Track": Collection(features=["log(pt)", "eta", "d0/d0_err"])}, event=["PV_z/35"]
)
TOY = Inputs(collections={"Track": Collection(features=["pt"])})
MODES = ("branch", "append", "friend")


def scorer_for(inputs: Inputs, task: Task = BINARY, model: Model = MODEL, seed: int = 0) -> Scorer:
    """Make a scorer with random parameters."""
    shape = Shape(dict.fromkeys(inputs.collections, 8192), 128)
    blank = Scorer(inputs, model, task, {}, shape)
    arrays = random_arrays(blank.architecture, seed)
    arrays["out.kernel"] *= 0.01  # sums over many tracks would all give 0 or 1
    return Scorer(inputs, model, task, arrays, shape)


def toy_events(n_event: int, seed: int = 0) -> ak.Array:
    """Make events with 0 to 4 tracks and an event number beyond 32 bits."""
    random = np.random.default_rng(seed)
    counts = random.integers(0, 5, n_event)
    tracks = ak.zip({"pt": ak.unflatten(random.random(counts.sum(), np.float32), counts)})
    return ak.zip(
        {"Track": tracks, "event": np.arange(n_event, dtype=np.uint64) + 2**40}, depth_limit=1
    )


def write_toy(path: Path, n_event: int = 20, seed: int = 0, name: str = "Events") -> Path:
    """Write toy events as a TTree: `nTrack`, `Track_pt`, `event`."""
    events = toy_events(n_event, seed)
    types = {"Track": ak.type(toy_events(1).Track).content, "event": np.dtype("u8")}
    with uproot.recreate(path) as file:
        tree = file.mktree(name, types)
        if n_event:
            tree.extend({"Track": events.Track, "event": events.event})
    return path


def write_rntuple(path: Path, n_event: int = 20, seed: int = 0) -> Path:
    """Write toy events as an RNTuple: `Track.pt`, `event`."""
    with uproot.recreate(path) as file:
        file["Events"] = toy_events(n_event, seed)
    return path


def write_nano(path: Path, sample_data: Path) -> Path:
    """Write events of the sample data as NanoAOD would: tracks as jets, the harder ones as muons.

    Each muon refers to a jet, so that NanoEvents has a cross-reference to follow.
    """
    names = {"pt": "pt", "eta": "eta", "phi": "phi", "charge": "charge", "d0": "dxy"}
    with uproot.open(f"{sample_data}/events.root:Events") as tree:
        events = tree.arrays()
    tracks = ak.zip({new: events[f"Track_{old}"] for old, new in names.items()})
    tracks["mass"] = ak.full_like(tracks.pt, 0.13957)
    index = ak.local_index(tracks.pt, axis=1)
    tracks["jetIdx"] = ak.values_astype(ak.where(index % 3 == 0, -1, index), np.int32)
    jets = tracks[["pt", "eta", "phi", "mass"]]
    muons = tracks[tracks.pt > 3]
    columns = {
        **{name: events[name] for name in ("run", "luminosityBlock", "event", "genWeight")},
        **{f"PV_{name}": events.PV_z * factor for name, factor in (("x", 0), ("y", 0), ("z", 1))},
        "Jet": jets,
        "Muon": muons,
    }
    with uproot.recreate(path) as file:
        types = {name: ak.type(column).content for name, column in columns.items()}
        file.mktree("Events", types).extend(columns)
    return path


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def no_partial_files(folder: Path) -> bool:
    """Whether nothing incomplete lies in a folder: what is there can be read to the end."""
    for path in folder.rglob("*") if folder.exists() else ():
        if path.suffix != ".root" or path.name.startswith("."):
            return False
        with uproot.open(path) as file:
            for tree in file.values(filter_classname="TTree"):
                tree.arrays()
    return True


def different_branches(a: Any, b: Any, names: Iterable[str] | None = None) -> list[str]:
    """List the branches of tree `a` that are missing in `b` or whose values differ, by uproot."""
    others = leaves_of(b)
    different = []
    for key, branch in leaves_of(a).items():
        if names is not None and key not in names:
            continue
        values = None
        with suppress(Exception):  # some are not for uproot to read
            values = branch.array()
        if values is None:
            continue
        if key not in others or not same_values(values, others[key].array()):
            different.append(key)
    return different


def changed_baskets(source: Path, copy: Path, name: str) -> list[str]:
    """List the branches of a tree whose baskets are not, byte for byte, where they were."""
    before, after = source.read_bytes(), copy.read_bytes()
    changed = []
    with uproot.open(source) as a, uproot.open(copy) as b:
        for key, branch in a[name].iteritems(recursive=True):
            where, size = branch.member("fBasketSeek"), branch.member("fBasketBytes")
            outside = where > 0  # small ones stand in the header of the tree, which is new
            moved = (b[name][key].member("fBasketSeek") != where)[outside].any()
            where, size = where[outside], size[outside]
            spans = zip(where.tolist(), (where + size).tolist(), strict=True)
            if moved or any(before[start:stop] != after[start:stop] for start, stop in spans):
                changed.append(key)
    return changed


def same_values(a: ak.Array, b: ak.Array) -> bool:
    """Whether two arrays are equal; counters may change their type, numbers of tracks may not."""
    return bool(ak.array_equal(a, b, equal_nan=True, dtype_exact=False, same_content_types=False))


_COMPARE = """
namespace tracksets_tests {
// Branches of numbers of `a` that differ in `b`, each with the first entry where they do. To read
// the others, ROOT would need dictionaries of their classes.
std::string different(TTree *a, TTree *b, int most) {
  std::string result;
  if (a->GetEntries() != b->GetEntries()) return "entries";
  TObjArray *la = a->GetListOfLeaves(), *lb = b->GetListOfLeaves();
  for (int k = 0; k < la->GetEntriesFast(); ++k) {
    TLeaf *x = (TLeaf *)la->At(k), *y = (TLeaf *)lb->At(k);
    if (!y || strcmp(x->GetName(), y->GetName())) return std::string("order: ") + x->GetName();
    if (x->InheritsFrom("TLeafElement") || x->InheritsFrom("TLeafObject")) continue;
    for (Long64_t i = 0; i < a->GetEntries() && i < most; ++i) {
      bool same = x->GetBranch()->GetEntry(i) == y->GetBranch()->GetEntry(i);
      same = same && x->GetLen() == y->GetLen();
      for (int j = 0; same && j < x->GetLen(); ++j) {
        double u = x->GetValue(j), v = y->GetValue(j);
        same = u == v || (u != u && v != v);
      }
      if (!same) {
        result += std::string(x->GetBranch()->GetName()) + "[" + std::to_string(i) + "] ";
        break;
      }
    }
  }
  return result;
}
// Read a float branch, also one of a friend, at every entry of `tree`; false if there is none.
bool values(TTree *tree, const char *name, float *result) {
  for (Long64_t i = 0; i < tree->GetEntries(); ++i) {
    tree->LoadTree(i);
    TLeaf *leaf = tree->GetLeaf(name);
    if (!leaf) return false;
    leaf->GetBranch()->GetEntry(leaf->GetBranch()->GetTree()->GetReadEntry());
    result[i] = leaf->GetValue();
  }
  return true;
}
}
"""


class RootReader:
    """Real ROOT, to read back with what `tracksets` wrote."""

    def __init__(self, root: Any) -> None:
        self.root = root
        if not hasattr(root, "tracksets_tests"):
            root.gInterpreter.Declare(_COMPARE)

    def different(self, a: Path, b: Path, name: str, most: int = 10**9) -> str:
        """Name the branches of a tree that are not the same in two files; "" if all are."""
        files = [self.root.TFile.Open(str(path)) for path in (a, b)]
        try:
            return str(self.root.tracksets_tests.different(*(f.Get(name) for f in files), most))
        finally:
            for file in files:
                file.Close()

    def scores(
        self, path: Path, name: str, score: str, friend: Path | None = None, other: str = ""
    ) -> np.ndarray:
        """Read a branch of a tree, or of a tree `other` in the file `friend` as a friend."""
        file = self.root.TFile.Open(str(path))
        try:
            tree = file.Get(name)
            if friend is not None:
                tree.AddFriend(other, str(friend))
            values = np.empty(max(tree.GetEntries(), 1), np.float32)  # an empty one has no address
            assert self.root.tracksets_tests.values(tree, score, values)
            return values[: tree.GetEntries()]
        finally:
            file.Close()


_FRAMES = """
import json, sys, warnings
warnings.simplefilter("ignore")
import ROOT

def plain(values):
    if hasattr(values, "tolist"):
        return values.tolist()
    if hasattr(values, "size") and callable(values.size):
        return [plain(each) for each in values]
    return values.item() if hasattr(values, "item") else values

for line in sys.stdin:
    path, tree, columns = json.loads(line)
    frame = ROOT.RDataFrame(tree, path)
    if "small" in columns:  # which Python would get as a character
        frame = frame.Redefine("small", "int(small)")
    found = frame.AsNumpy(columns)
    print(json.dumps({k: [plain(each) for each in v] for k, v in found.items()}), flush=True)
"""


@cache
def _frames() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _FRAMES]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes)
    atexit.register(process.kill)
    return process


def by_rdataframe(path: Path, tree: str, columns: list[str]) -> dict[str, list[Any]]:
    """Read columns by RDataFrame, in a process where nothing else has used ROOT's interpreter."""
    process = _frames()
    print(json.dumps([str(path), tree, columns]), file=process.stdin, flush=True)
    line = process.stdout.readline()
    assert line, f"ROOT could not read {columns} of {path}"
    return json.loads(line)
