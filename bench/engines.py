"""Score with each engine, on one core: its speed against that of JAX, and how far scores are off.

Measured in processor time, which other programs on the machine take the least part in.
"""

import os
import time
from functools import partial

import numpy as np

from bench import harness, samples
from bench.scoring import NETWORKS, scorer
from tracksets.blocks import Shape
from tracksets.devices import limit_threads
from tracksets.engines import Engine
from tracksets.errors import ProcessError
from tracksets.network import Model

ENGINES = (Engine(), Engine("openvino"), Engine("openvino", "bfloat16"))
MAX = Model.pfn(pool=("max",))


def main(rounds: int = harness.ROUNDS) -> None:
    """Measure and print."""
    try:
        limit_threads(1)
    except ProcessError:
        print("engines are left out: JAX has its threads already; run `python -m bench engines`")
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    engines = []
    for engine in ENGINES:
        try:
            print(engine.describe())
            engines.append(engine)
        except (ProcessError, ImportError) as error:
            print(f"{engine} is left out: {error}")
    rows = []
    for title, model in {**NETWORKS, "the second with a maximum": MAX}.items():
        for kind in ("jets", "exponential", "zipf"):
            jagged = samples.jagged(samples.counts(kind, 400 if len(model.phi) > 3 else 1_500))
            plain = scorer(model, shape=Shape.for_multiplicities(jagged.counts))
            scorers = {str(each): plain.on(each.name, each.precision) for each in engines}
            scores = {name: each.score_inputs(jagged) for name, each in scorers.items()}
            seconds = harness.alternate(
                {name: partial(each.score_inputs, jagged) for name, each in scorers.items()},
                rounds,
                time.process_time,
            )
            jax = str(ENGINES[0])
            row = {"network": title, "multiplicities": kind}
            row["jax, tracks/s"] = f"{jagged.n_track / seconds[jax] / 1e6:.2f} M"
            for name in list(scorers)[1:]:
                off = np.abs(scores[name] - scores[jax]).max()
                row[name] = f"x {seconds[jax] / seconds[name]:.2f}, off {off:.0e}"
            rows.append(row)
    harness.show("Scoring on one core", rows)
    os.sched_setaffinity(0, cores)
