"""ONNX Runtime on a file that tracksets has exported."""

from collections.abc import Iterator

import numpy as np
import onnxruntime
from case import CORES, Case, Contestants, fastest, serve


def batches(counts: np.ndarray, tracks: np.ndarray, size: int) -> Iterator[dict[str, np.ndarray]]:
    """Cut flat tracks into batches of whole events with about so many tracks."""
    offsets = np.concatenate([[0], np.cumsum(counts)])
    start = 0
    while start < len(counts):
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + size, "right")) - 1)
        part = tracks[offsets[start] : offsets[stop]]
        yield {"tracks.Track": part, "counts.Track": counts[start:stop].astype(np.int64)}
        start = stop


def load(case: Case, task: str) -> tuple[Contestants, dict[str, float], str]:
    version = f"onnxruntime {onnxruntime.__version__}"
    file = case.folder / "model.onnx"
    if task == "train" or not file.exists():
        return {}, {}, version
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])

    def run(feeds: object) -> np.ndarray:
        return np.concatenate([session.run(["scores"], each)[0] for each in feeds])

    def prepared(size: int) -> object:
        made = list(batches(*case.flat(), size))
        return lambda: run(made)

    size = fastest(prepared, (2_048, 8_192, 32_768))
    difference = case.difference_of_scores(run(batches(*case.flat(), size))[:, 0])
    contestants = {
        "ONNX Runtime|network": prepared(size),
        "ONNX Runtime|call": lambda: run(batches(*case.flat(), size)),
    }
    return contestants, {"ONNX Runtime": difference}, version


serve(load)
