import gc
import threading
import time
import weakref
from dataclasses import dataclass, replace

import awkward as ak
import numpy as np
import pytest
from helpers import CLASSES, make_scorer
from rootfiles import TOY, scorer_for

from tracksets.blocks import Shape
from tracksets.chunks import Chunk, branches_of, scored_chunks
from tracksets.fields import Fields
from tracksets.prefetch import ahead
from tracksets.trees import Tree


def test_columns():
    chosen = np.array([False, True, True, False])
    scores = {"a": np.array([1, 2], np.float32)}
    chunk = Chunk(10, chosen, {"event": np.arange(4)}, {}, scores)
    assert chunk.n_chosen == 2
    columns = chunk.columns()
    assert np.array_equal(columns["a"], [np.nan, 1, 2, np.nan], equal_nan=True)
    assert columns["a"].dtype == np.float32
    assert columns["event"].tolist() == [0, 1, 2, 3]
    columns = {name: each.tolist() for name, each in chunk.chosen_columns().items()}
    assert columns == {"event": [1, 2], "entry": [11, 12], "a": [1, 2]}


def test_branches():
    assert branches_of("x", make_scorer()) == ["x"]
    assert branches_of("x", make_scorer(CLASSES)) == ["x_b", "x_c", "x_light"]


# Memory


@dataclass(frozen=True)
class Counted(Tree):
    """A tree of equal chunks that says how many of them are in memory."""

    alive: list[int]
    most: list[int]

    format = uuid = ""  # type: ignore[assignment]
    n_byte = 0  # type: ignore[assignment]

    def _edges(self, paths):
        return range(0, self.n_event + 1, 100)

    def _columns(self, paths, start, stop):
        values = np.full(100, start, np.float32)
        self.alive.append(start)
        weakref.finalize(values, self.alive.remove, start)
        self.most.append(len(self.alive))
        rows = ak.unflatten(values, np.full(stop - start, 100 // (stop - start)))
        return ak.Array({"Track_pt": rows})


@pytest.mark.parametrize("select", [None, "sum(Track_pt) < 0"])
@pytest.mark.parametrize("models", [1, 3])
def test_chunks_in_memory_do_not_grow_with_the_file(monkeypatch, models, select):
    """Also when the writer is slow and when nothing is chosen."""
    monkeypatch.setattr(Tree.chunks, "__defaults__", (100,))
    scorer = scorer_for(TOY)
    scorers = {f"s{i}": replace(scorer, shape=Shape({"Track": 256}, 32 + i)) for i in range(models)}
    tree = Counted("", "", 20_000, Fields([("Track_pt",)], "here"), [], [])  # in 200 chunks
    rows = 0
    for chunk in ahead(scored_chunks(scorers, tree, select)):
        rows += len(chunk.chosen)
        if rows < 2000:
            time.sleep(0.005)
    del chunk
    assert rows == 20_000
    gc.collect()
    # What waits between three stages, what fills the blocks that are computed, and what is in hand.
    assert max(tree.most) <= 20
    assert not [each for each in threading.enumerate() if each.name == "tracksets-ahead"]
