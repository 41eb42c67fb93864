"""Label files: whole runs beside other programs, and beside what reading and arithmetic alone take.

weaver needs an environment of its own, which is made unless the variable `TRACKSETS_WEAVER` names
its Python.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from bench import harness, samples
from bench.environments import environment
from bench.scoring import NETWORKS, flops, matmul_rate, scorer
from tracksets.blocks import Shape
from tracksets.inputs import Collection, Inputs

PEERS = Path(__file__).parent / "peers"
BRANCHES = ("part_pt", "part_eta", "part_phi", "part_charge")
INPUTS = Inputs(collections={"part": Collection(features=["log(pt)", "eta", "phi", "charge"])})
MODEL = NETWORKS["100-100-256 | 100-100-100"]
CHUNK = 50_000


def write_jets(path: Path, n_event: int, seed: int = 1) -> Path:
    """Write jets of 43 particles in the mean, a chunk at a time."""
    random = np.random.default_rng(seed)
    types = dict.fromkeys(BRANCHES, "var * float32")
    with uproot.recreate(path) as file:
        tree = file.mktree(
            "Events", {**types, "event": "i8", "label": "i4"}, counter_name=lambda _: "npart"
        )
        for start in range(0, n_event, CHUNK):
            n = min(CHUNK, n_event - start)
            counts = samples.counts("jets", n, seed + start)
            m = int(counts.sum())
            values = (
                random.exponential(10, m) + 0.1,
                random.normal(0, 0.3, m),
                random.normal(0, 0.3, m),
                random.integers(-1, 2, m),
            )
            columns = {
                name: ak.unflatten(each.astype(np.float32), counts)
                for name, each in zip(BRANCHES, values, strict=True)
            }
            event = np.arange(start, start + n)
            label = random.integers(0, 2, n, dtype=np.int32)
            tree.extend({**columns, "event": event, "label": label})
    return path


def write_model(path: Path) -> Path:
    """Save a scorer with random weights."""
    scorer(MODEL, INPUTS, Shape({"part": 16384}, 512)).save(path)
    return path


def command(*arguments: object, cores: Sequence[int] = ()) -> Callable[[], float]:
    """Return a function that runs a command and returns its peak memory in MB."""
    pin = ["taskset", "-c", ",".join(map(str, cores))] if cores else []
    words = [*pin, *map(str, arguments)]

    def run() -> float:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{words}: {said.decode()}")
        return usage.ru_maxrss / 1000

    return run


def label(model: Path, files: Sequence[Path], output: Path, *options: object) -> list[object]:
    """Return the command that labels files."""
    program = [sys.executable, "-m", "tracksets", "label", model, *files]
    return [*program, "-o", output, "--mode", "friend", "--force", "-q", *options]


def throughput(folder: Path, n_event: int, rounds: int) -> None:
    """Compare whole runs."""
    model = write_model(folder / "model.safetensors")
    whole = write_jets(folder / "jets.root", n_event)
    parts = [write_jets(folder / f"part{i}.root", n_event // 4, i) for i in range(4)]
    with uproot.open(whole) as file:
        n_track = int(ak.sum(file["Events"]["npart"].array()))
    out = folder / "out"
    contestants: dict[str, Callable[[], object]] = {
        "matmul": matmul_rate(),
        "reading alone": lambda: uproot.open(whole)["Events"].arrays(BRANCHES),
        "tracksets": command(*label(model, [whole], out)),
        "tracksets, 4 files, 2 workers": command(*label(model, parts, out, "--workers", 2)),
    }
    try:
        import torch  # noqa: F401

        padded = command(sys.executable, PEERS / "padded_torch.py", whole, folder / "padded.root")
        contestants["pad_none + PyTorch"] = padded
    except ImportError:
        print("PyTorch is not installed, and not compared")
    try:
        contestants["weaver"] = weaver(environment("weaver"), whole, folder)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"not compared: weaver: {error}")
    seconds = harness.alternate(contestants, rounds)
    arithmetic = flops(MODEL, n_track, n_event, 4) / (2 * 2048.0**3 / seconds.pop("matmul"))
    seconds["matrix products alone"] = arithmetic
    floor = max(seconds["reading alone"], arithmetic)
    rows = [
        {
            "": name,
            "seconds": f"{each:.2f}",
            "events/s": f"{n_event / each:,.0f}",
            "x floor": f"{each / floor:.2f}",
            "x tracksets": f"{each / seconds['tracksets']:.1f}",
        }
        for name, each in seconds.items()
    ]
    harness.show(f"Labelling {n_event:,} jets, {n_track / n_event:.1f} particles each", rows)


def weaver(python: Path, source: Path, folder: Path) -> Callable[[], object]:
    """Return weaver's prediction of a file, with random weights."""
    make = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); import weaver_network as w;"
        "torch.save(w.DeepSet(4).state_dict(), sys.argv[2])"
    )
    subprocess.run([python, "-c", make, PEERS, folder / "net.pt"], check=True)
    return command(
        *(python.parent / "weaver", "--predict", "--gpus", "", "--batch-size", 1024),
        *("--data-test", source, "--data-config", PEERS / "weaver_data.yaml"),
        *("--network-config", PEERS / "weaver_network.py", "--model-prefix", folder / "net.pt"),
        *("--predict-output", folder / "weaver.root", "--num-workers", 1),
    )


def memory(folder: Path, sizes: tuple[int, int]) -> None:
    """Compare the peak memory for a small and a large file."""
    model = write_model(folder / "model.safetensors")
    rows = []
    for n_event in sizes:
        source = write_jets(folder / "jets.root", n_event)
        for mode in ("branch", "friend"):
            run = command(*label(model, [source], folder / "out"), "--mode", mode)
            rows.append({"events": f"{n_event:,}", "mode": mode, "peak MB": f"{run():,.0f}"})
    harness.show("Peak memory of labelling one file", rows)


def workers(folder: Path, n_event: int, rounds: int) -> None:
    """Compare two workers on two cores with one on one."""
    model = write_model(folder / "model.safetensors")
    files = [write_jets(folder / f"{i}.root", n_event // 40, i) for i in range(40)]
    seconds = harness.alternate(
        {
            "one, pinned": command(*label(model, files, folder / "out"), cores=[0]),
            "two": command(*label(model, files, folder / "out", "--workers", 2), cores=[0, 1]),
        },
        rounds,
    )
    rows = [
        {"workers": name, "seconds": f"{each:.2f}", "x": f"{seconds['one, pinned'] / each:.2f}"}
        for name, each in seconds.items()
    ]
    harness.show(f"Labelling 40 files of {n_event // 40:,} jets", rows)


def small_files(folder: Path, n_file: int, rounds: int) -> None:
    """Compare a Dask cluster with a plain loop on files that have next to nothing in them."""
    try:
        from distributed import LocalCluster
    except ImportError:
        print("small files are not labelled on a cluster: distributed is not installed")
        return
    from tracksets import label as label_
    from tracksets import load

    model = load(write_model(folder / "model.safetensors"))
    first = write_jets(folder / "first.root", 10)
    for i in range(n_file):
        shutil.copy(first, folder / f"small{i}.root")
    options = {"mode": "friend", "force": True, "progress": False}
    files = str(folder / "small*.root")
    seconds: dict[str, list[float]] = {"loop": [], "cluster of 1 worker": []}
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        for _ in range(rounds):
            for name, where in zip(seconds, (None, cluster), strict=True):
                begin = time.perf_counter()
                label_(model, files, folder / "out", dask=where, **options)
                seconds[name].append(time.perf_counter() - begin)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    loop = medians["loop"]
    rows = [
        {
            "": name,
            "seconds": f"{each:.1f}",
            "ms/file": f"{each / n_file * 1e3:.2f}",
            "overhead": f"{(each - loop) / n_file * 1e3:.2f}",
        }
        for name, each in medians.items()
    ]
    harness.show(f"Labelling {n_file:,} files of 10 jets", rows)


def main(rounds: int = 3, scale: float = 1.0) -> None:
    """Measure and print; runs take minutes each, so there are fewer rounds than elsewhere."""
    n = int(200_000 * scale)
    for each in (
        lambda folder: throughput(folder, n, rounds),
        lambda folder: memory(folder, (n * 5 // 2, n * 10)),
        lambda folder: workers(folder, 10 * n, rounds),
        lambda folder: small_files(folder, n // 20, 1),
    ):
        with tempfile.TemporaryDirectory() as folder:
            each(Path(folder))
