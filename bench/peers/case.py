"""What all contestants get: the same events and the same network. Needs NumPy and awkward only.

A contestant's program reads requests on its standard input, one JSON object a line, and answers
each with another. `{"load": FOLDER}` prepares a case and names the contestants; `{"run": NAME}` runs
one of them once, and answers with the seconds that it took.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import awkward as ak
import numpy as np

Layers = list[tuple[np.ndarray, np.ndarray]]
Contestants = Mapping[str, Callable[[], object]]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
LARGEST = 3_000
"""Tracks beyond which nobody would pad."""


class Case:
    """Events, targets and the layers of the network."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        with np.load(self.folder / "case.npz") as file:
            arrays = dict(file)
        self.counts: np.ndarray = arrays["counts"]
        self.tracks: np.ndarray = arrays["tracks"]
        self.targets: np.ndarray = arrays["targets"]
        self.outputs: np.ndarray = arrays["outputs"]
        self.per_batch = int(arrays["per_batch"])
        """Events that make a batch in training, the same number for all."""
        self.phi, self.rho, self.out = (layers(arrays, name) for name in ("phi", "rho", "out"))

    @cached_property
    def events(self) -> ak.Array:
        """As a user has them: one jagged column per feature."""
        columns = [ak.unflatten(np.ascontiguousarray(x), self.counts) for x in self.tracks.T]
        return ak.zip(dict(zip("abcdef", columns, strict=True)))

    @property
    def largest(self) -> int:
        return int(self.counts.max())

    def flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Return counts and one row per track, from the awkward array."""
        names = self.events.fields
        counts = ak.to_numpy(ak.num(self.events[names[0]]))
        columns = [ak.to_numpy(ak.flatten(self.events[name])) for name in names]
        return counts, np.stack(columns, axis=1)

    def padded(self) -> tuple[np.ndarray, np.ndarray]:
        """Return tracks padded to the largest event, and what is none, from the awkward array.

        Flattened and put in place, which is many times faster than `ak.pad_none`.
        """
        counts, tracks = self.flat()
        mask = np.arange(counts.max()) < counts[:, None]
        padded = np.zeros((*mask.shape, tracks.shape[1]), np.float32)
        padded[mask] = tracks
        return padded, mask

    def difference(self, outputs: np.ndarray) -> float:
        """Return the largest deviation from tracksets' logits, in units of their spread."""
        return float(np.max(np.abs(np.ravel(outputs) - self.outputs)) / np.std(self.outputs))

    def difference_of_scores(self, scores: np.ndarray) -> float:
        """Return the largest deviation from tracksets' scores, for who gives no logits."""
        return float(np.max(np.abs(scores - 1 / (1 + np.exp(-self.outputs.astype(np.float64))))))


def layers(arrays: Mapping[str, np.ndarray], name: str) -> Layers:
    """Collect kernels and biases."""
    n = sum(key.startswith(f"{name}.") for key in arrays) // 2
    return [(arrays[f"{name}.{i}.kernel"], arrays[f"{name}.{i}.bias"]) for i in range(n)]


def fastest(make: Callable[[int], Callable[[], object]], sizes: tuple[int, ...]) -> int:
    """Return the size of a batch that is fastest in one run after a warm-up."""
    seconds = {}
    for size in sizes:
        run = make(size)
        run()
        begin = time.perf_counter()
        run()
        seconds[size] = time.perf_counter() - begin
    return min(seconds, key=lambda size: seconds[size])


def serve(load: Callable[[Case, str], tuple[Contestants, Mapping[str, float], str]]) -> None:
    """Answer requests until there are no more.

    `load` returns the contestants of a task (`score` or `train`), how far their outputs are from
    those of tracksets, and the version of what computes.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print must not answer
    contestants: Contestants = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "load" in request:
            contestants, differences, version = load(Case(request["load"]), request["task"])
            for run in contestants.values():
                run()
            answer = {"names": [*contestants], "differences": differences, "version": version}
        else:
            begin = time.perf_counter()
            contestants[request["run"]]()
            answer = {"seconds": time.perf_counter() - begin}
        print(json.dumps(answer), file=answers, flush=True)
