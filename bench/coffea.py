"""Score the next chunk of 100,000 events in a worker that has scored one: overhead over computing.

The chunk is what coffea hands over: a processor's scorer that is unpickled, and events in memory.
Computing is the compiled network on blocks that are packed already.
"""

import pickle

import awkward as ak
import numpy as np

from bench import harness, samples, scoring
from tracksets.blocks import Shape, pack_inputs
from tracksets.compiling import compiled
from tracksets.engine import compute
from tracksets.network import Model
from tracksets.scorer import Scorer

NETWORKS = {**dict(list(scoring.NETWORKS.items())[:2]), "128-128-128 | 128-128": Model()}


def main(n_event: int = 100_000, rounds: int = 5) -> None:
    """Measure and print."""
    jagged = samples.jagged(samples.counts("jets", n_event))
    counts, features = jagged.counts["Track"], jagged.tracks["Track"].T
    columns = [ak.unflatten(np.ascontiguousarray(each), counts) for each in features]
    tracks = ak.zip(dict(zip("abcdef", columns, strict=True)))
    events = ak.Array({"Track": tracks})
    shape = Shape.for_multiplicities(jagged.counts)
    blocks = list(pack_inputs(jagged, shape))
    rows = []
    for title, model in NETWORKS.items():
        made = scoring.scorer(model)
        scorer = Scorer(made.inputs, model, made.task, made.arrays, shape)
        functions, data = compiled(scorer.architecture), pickle.dumps(scorer)

        def bare(scorer=scorer):
            return list(
                compute(scorer.hash, scorer.architecture, scorer.arrays, blocks, scorer.shape)
            )

        def chunk(data=data):
            return pickle.loads(data)(events)  # noqa: S301  # made above, as coffea does

        chunk()
        before = functions.traces
        seconds = harness.alternate({"compute": bare, "chunk": chunk}, rounds)
        rows.append(
            {
                "network": title,
                "pickle": f"{len(data) / 1000:.0f} kB",
                "compute": f"{seconds['compute']:.2f} s",
                "chunk": f"{seconds['chunk']:.2f} s",
                "overhead": f"{seconds['chunk'] / seconds['compute'] - 1:.1%}",
                "compiled": str(functions.traces - before),
            }
        )
    harness.show(f"Next chunk of {n_event:,} events, {counts.sum():,} tracks", rows)
