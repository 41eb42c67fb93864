"""Start processes anew: importing, asking for help, and the first score, in seconds on the clock."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from bench import harness, report, samples
from bench.scoring import NETWORKS, scorer
from tracksets.blocks import Shape

FIRST = """
import sys
import awkward as ak, numpy as np, tracksets as ts

with np.load(sys.argv[2]) as file:
    columns = {f"Track_{name}": ak.unflatten(x, file["counts"]) for name, x in zip("abcdef", file["tracks"])}
scores = ts.load(sys.argv[1])(ak.Array(columns))
assert len(scores) == 1_000
"""
LIBRARIES = "import awkward, jax, numpy; jax.numpy.ones(1).block_until_ready()"


def run(*arguments: object, **variables: object) -> None:
    """Run Python once, with further environment variables."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, check=True, capture_output=True
    )


def contestants(folder: Path) -> dict[str, Callable[[], None]]:
    """Return what is started; each time in a process of its own."""
    jagged = samples.jagged(samples.counts("jets", 1_000))
    made = scorer(
        NETWORKS["100-100-256 | 100-100-100"], shape=Shape.for_multiplicities(jagged.counts)
    )
    made.save(folder / "model.safetensors")
    tracks = np.ascontiguousarray(jagged.tracks["Track"].T)
    np.savez(folder / "events.npz", counts=jagged.counts["Track"], tracks=tracks)
    first = partial(run, "-c", FIRST, folder / "model.safetensors", folder / "events.npz")
    cached = partial(
        first,
        JAX_COMPILATION_CACHE_DIR=folder / "cache",
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0,
    )
    return {
        "Python alone": partial(run, "-c", ""),
        "import tracksets": partial(run, "-c", "import tracksets"),
        "tracksets --help": partial(run, "-m", "tracksets", "--help"),
        "importing and starting JAX and awkward": partial(run, "-c", LIBRARIES),
        "first score": first,
        "first score, compiled before": cached,
    }


def main(rounds: int = harness.ROUNDS) -> None:
    """Measure, print and keep."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = harness.alternate(contestants(Path(folder)), rounds)
    rows = [{"fresh process": name, "seconds": f"{each:.2f}"} for name, each in seconds.items()]
    report.keep_tables("start", {"": rows}, rounds)
