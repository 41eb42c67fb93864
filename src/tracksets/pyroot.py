"""Scores in, further branches of a tree in a ROOT file out, by ROOT itself."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from tracksets.errors import FileError
from tracksets.feeds import Feed

__all__ = ("add_branches", "has_root")

_FILL = """
namespace tracksets {
class Filler {
 public:
  Filler(TTree *tree, const char *name) : tree_(tree) {
    branch_ = tree->Branch(name, &value_, (std::string(name) + "/F").c_str());
  }
  bool fill(const float *values, Long64_t n) {
    for (Long64_t i = 0; i < n; ++i) {
      value_ = values[i];
      if (branch_->Fill() < 0) return false;
    }
    return true;
  }
  Long64_t close() {
    tree_->ResetBranchAddress(branch_);
    return branch_->GetEntries();
  }
 private:
  TTree *tree_;
  TBranch *branch_;
  float value_ = 0;
};
void drop_branch(TTree *tree, const char *name) {
  TBranch *branch = tree->GetBranch(name);
  TObjArray *leaves = branch->GetListOfLeaves();
  for (int i = 0; i < leaves->GetEntriesFast(); ++i) tree->GetListOfLeaves()->Remove(leaves->At(i));
  tree->GetListOfLeaves()->Compress();
  tree->GetListOfBranches()->Remove(branch);
  tree->GetListOfBranches()->Compress();
}
bool note(TFile *file, const char *key, const char *text) {
  TObjString object(text);
  return file->WriteTObject(&object, key, "WriteDelete") > 0;
}
}
"""


_lock = RLock()
"""ROOT is not made for several threads, which a worker of a cluster may have."""


@cache
def has_root() -> bool:
    """Whether ROOT's Python module can be imported."""
    try:
        with _lock:
            _root()
    except ImportError:
        return False
    return True


@cache
def _root() -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "in alpha stage"
        import ROOT
    ROOT.gROOT.SetBatch(True)
    ROOT.gInterpreter.Declare(_FILL)
    return ROOT


@contextmanager
def _quiet(root: Any) -> Iterator[None]:
    """Silence ROOT's own messages; what matters is checked, and reported with the file's name."""
    level = root.gErrorIgnoreLevel
    root.gErrorIgnoreLevel = root.kFatal
    try:
        yield
    finally:
        root.gErrorIgnoreLevel = level


def add_branches(
    path: Path, tree: str, scores: Feed, replaced: Sequence[str], notes: Mapping[str, str]
) -> None:
    """Add branches to a tree, in place; no basket of another branch is written anew.

    Parameters
    ----------
    path, tree
        The file, and the tree in it.
    scores
        float32 columns.
    replaced
        Branches to remove from the tree first.
    notes
        Texts to leave in the file, by name.

    Raises
    ------
    FileError
        If ROOT cannot write.
    """
    root = _root()
    if {"#", "?"} & set(str(path)):
        raise FileError(f"{path.parent}: ROOT cannot write to a path with # or ? in it")
    full = FileError(f"ROOT could not write to {path.parent}; is the disk full?")
    with _lock, _quiet(root):
        file = root.TFile.Open(str(path), "UPDATE")
        try:
            target = file.Get(tree)
            for name in replaced:
                root.tracksets.drop_branch(target, name)
            fillers = {name: root.tracksets.Filler(target, name) for name in scores.types}
            for chunk in scores:
                for name, filler in fillers.items():
                    values = chunk[name]
                    # An empty array has no address to give.
                    if len(values) and not filler.fill(np.ascontiguousarray(values), len(values)):
                        raise full
            if any(filler.close() != scores.digest.n_event for filler in fillers.values()):
                raise full
            target.GetDirectory().cd()
            if not target.Write("", root.TObject.kOverwrite):
                raise full
            if not all(root.tracksets.note(file, key, text) for key, text in notes.items()):
                raise full
        finally:
            file.Close()
