"""Training on several devices: the same as on one with as many blocks per step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

_FIT = """
import json, sys
import jax
from helpers import INPUTS, make_events
import tracksets as ts
from tracksets import parts

parts.default_chunk = lambda: int(sys.argv[2])

events = make_events(600, seed=3)
truth = (events.PV_z > 0).to_numpy().astype(int)
options = {"epochs": 3, "block_tracks": 256, "blocks_per_step": int(sys.argv[1])}
scorer = ts.fit(
    events, truth, INPUTS, weights=1 - 1.5 * (events.PV_z > 1).to_numpy(),
    model=ts.Model(phi=[8], rho=[8]), training=ts.Training(**options), progress=False,
)
history = [[each["loss"], each["validation_loss"]] for each in scorer.summary["history"]]
print(json.dumps([jax.device_count(), history]))
"""


def history(devices: int, blocks: int, chunk: int = 1024) -> tuple[int, list[list[float]]]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-c", _FIT, str(blocks), str(chunk)],
        env={**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    n, values = json.loads(done.stdout.splitlines()[-1])
    return n, values


@pytest.mark.slow
def test_two_devices_are_like_one():
    """Also with weights of both signs, an odd number of blocks, and blocks that are cut."""
    for blocks, chunk in ((2, 1024), (3, 1024), (3, 32)):
        n_one, one = history(1, blocks, chunk)
        n_two, two = history(2, blocks, chunk)
        assert (n_one, n_two) == (1, 2)
        np.testing.assert_allclose(two, one, rtol=1e-4)
    assert history(2, 1) == history(2, 2)  # one block per device at least
    assert not np.allclose(history(1, 1)[1], history(2, 1)[1], rtol=1e-3)
