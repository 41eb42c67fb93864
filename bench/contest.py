"""Contestants that cannot live in one process, round by round on the same cores.

Each library has a program in `peers/` that is started once, is given a case, and then runs a
contestant whenever it is told to. So one that is not installed is named, not hidden.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import samples
from bench.environments import environment
from bench.harness import ROUNDS
from bench.scoring import flops, scorer
from tracksets.blocks import Shape, pack_inputs
from tracksets.engine import compute
from tracksets.export import export
from tracksets.network import Model

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"


class Peer:
    """A program that runs contestants, bound to some cores; with further environment variables."""

    def __init__(
        self, python: Path | str, program: str, cores: Sequence[int], **variables: str
    ) -> None:
        pin = ["taskset", "-c", ",".join(map(str, cores))] if shutil.which("taskset") else []
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.program = program
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a pipe would fill up unread
        self.process = subprocess.Popen(
            [*pin, str(python), str(PEERS / program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            env={
                **os.environ,
                "PYTHONPATH": path,
                "OMP_NUM_THREADS": str(len(cores)),
                **variables,
            },
            text=True,
        )

    def ask(self, **request: object) -> Any:
        """Send a request and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        answer = ""
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        if not answer:
            self.said.seek(0)
            raise RuntimeError(f"{self.program} has ended: {self.said.read()[-1000:]}")
        return json.loads(answer)

    def end(self) -> None:
        """Let the program end."""
        self.process.communicate()
        self.said.close()


@dataclass(frozen=True)
class Field:
    """One network on events of one kind."""

    network: str
    model: Model
    multiplicities: str
    n_event: int

    def write(self, folder: Path) -> tuple[int, float]:
        """Write what the peers read; return the number of tracks and the operations of a pass."""
        jagged = samples.jagged(samples.counts(self.multiplicities, self.n_event))
        shape = Shape.for_multiplicities(jagged.counts)
        made = scorer(self.model, shape=shape)
        made.save(folder / "model.safetensors")
        if importlib.util.find_spec("onnxruntime"):
            export(made, folder / "model.onnx")
        blocks = pack_inputs(jagged, shape)
        outputs = [*compute(made.hash, made.architecture, made.arrays, blocks, made.shape)]
        tracks = jagged.tracks["Track"]
        random = np.random.default_rng(2)
        np.savez(
            folder / "case.npz",
            counts=jagged.counts["Track"],
            tracks=tracks,
            targets=random.integers(0, 2, self.n_event).astype(np.float32),
            outputs=np.concatenate(outputs)[:, 0],
            per_batch=max(1, round(shape.tracks["Track"] * self.n_event / len(tracks))),
            **_layers(made.arrays),
        )
        return len(tracks), flops(self.model, len(tracks), self.n_event)


def _layers(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Name the arrays as the peers do: `phi.0.kernel`, `out.0.bias`."""
    named = {}
    for name, array in arrays.items():
        first, *_, last = name.split(".")
        if first == "out":
            named[f"out.0.{last}"] = array
        elif first in ("phi", "rho"):
            named[f"{first}.{name.split('.')[-2]}.{last}"] = array
    return named


def environments() -> tuple[dict[str, tuple[Path | str, str]], list[str]]:
    """Return the Python and the program of each peer, and what is missing, and why."""
    found: dict[str, tuple[Path | str, str]] = {"JAX": (sys.executable, "jax_forms.py")}
    missing = []
    for title, module, program in (
        ("PyTorch", "torch", "packed_torch.py"),
        ("ONNX Runtime", "onnxruntime", "onnx_runtime.py"),
    ):
        if importlib.util.find_spec(module):
            found[title] = (sys.executable, program)
        else:
            missing.append(f"{title}: {module} is not installed")
    for title, module, program in (
        ("EnergyFlow", "energyflow", "energyflow_pfn.py"),
        ("weaver", "weaver", "weaver_pfn.py"),
    ):
        try:
            found[title] = (environment(module), program)
        except (OSError, subprocess.SubprocessError) as error:
            missing.append(f"{title}: {error}")
    return found, missing


def contest(task: str, fields: Sequence[tuple[Field, int]], rounds: int = ROUNDS) -> dict[str, Any]:
    """Let all contestants run, in turn, in every field and on so many cores.

    Returns
    -------
    dict
        JSON: `missing`, `versions`, and `cases`, each with the median seconds of each contestant.
    """
    pythons, missing = environments()
    for each in missing:
        print(f"not compared: {each}")
    cases, versions = [], {}
    for n_core in sorted({n for _, n in fields}):
        peers = {title: Peer(*pythons[title], range(n_core)) for title in pythons}
        for field, n in fields:
            if n != n_core:
                continue
            begin = time.perf_counter()
            case = _case(task, field, peers, versions, missing, rounds)
            case["limit_shapes"] /= n_core  # each core has computed as much
            cases.append({"cores": n_core, **case})
            took = time.perf_counter() - begin
            print(f"{task} {field.network}, {field.multiplicities}, {n_core} cores: {took:.0f} s")
        for peer in peers.values():
            peer.end()
    return {
        "task": task,
        "rounds": rounds,
        "missing": missing,
        "versions": versions,
        "cases": cases,
    }


def _case(
    task: str,
    field: Field,
    peers: dict[str, Peer],
    versions: dict[str, str],
    missing: list[str],
    rounds: int,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        n_track, operations = field.write(Path(folder))
        owners: dict[str, Peer] = {}
        differences: dict[str, float] = {}
        for title, peer in list(peers.items()):
            try:
                answer = peer.ask(load=folder, task=task)
            except RuntimeError as error:
                if title == "JAX":
                    raise
                where = f"{field.network}, {field.multiplicities}"
                missing.append(f"{title} from {where} on: {error}")
                print(f"not compared: {missing[-1]}")
                peers.pop(title).end()
                continue
            owners |= dict.fromkeys(answer["names"], peer)
            differences |= answer["differences"]
            versions[title] = answer["version"]
        times: dict[str, list[float]] = {name: [] for name in owners}
        for _ in range(rounds):
            for name, peer in owners.items():
                times[name].append(peer.ask(run=name)["seconds"])
    seconds = {name: statistics.median(each) for name, each in times.items()}
    phi = flops(field.model.model_copy(update={"rho": ()}), 65_536, 0)
    return {
        "network": field.network,
        "multiplicities": field.multiplicities,
        "events": field.n_event,
        "tracks": n_track,
        "limit": operations / (2 * 2048.0**3 / seconds.pop("limit|2048")),
        "limit_shapes": operations / (phi / seconds.pop("limit|shapes")),
        "seconds": seconds,
        "differences": differences,
    }
