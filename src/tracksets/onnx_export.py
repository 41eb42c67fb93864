"""A scorer in, an ONNX graph of the same scores out; and ONNX Runtime to score with it.

The graph takes flat tracks and counts of any number and is written node by node from the scorer's
arrays. It needs operator set 18: ONNX Runtime 1.15 or newer.
"""

import math
import os
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets.calibration import Calibration
from tracksets.errors import MissingExtraError, ModelError, near_misses
from tracksets.features import JaggedInputs
from tracksets.layers import STEEPEST
from tracksets.models import Model
from tracksets.onnx_graph import POOLINGS, Events, Graph, Latent
from tracksets.scorer import Scorer
from tracksets.targets import Task

try:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper
except ImportError as error:
    raise MissingExtraError(error.name or "onnx", "onnx", "ONNX") from None

__all__ = ("onnx_bytes", "onnx_scores")

OPSET, IR_VERSION = 18, 8


def onnx_bytes(scorer: Scorer, metadata: str) -> bytes:
    """Write a scorer as an ONNX graph.

    Parameters
    ----------
    scorer
        The scorer.
    metadata
        A text to keep in the file, under the key `tracksets`.

    Returns
    -------
    bytes
        A model with the inputs `tracks.NAME` (float32, shape (n_track, n_feature)) and
        `counts.NAME` (int64, shape (n_event,)) of each collection, `event` (float32, shape
        (n_event, n_event_feature)) if there are event-level features, and the output `scores`
        (float32, shape (n_event, n_score)).

    Raises
    ------
    ModelError
        If the network has something that this export does not know.
    """
    model, architecture = scorer.model, scorer.architecture
    network = _Network(scorer.arrays, model)
    graph, inputs, collections, parts = network.graph, [], [], []
    for name, width in architecture.tracks:
        tracks, counts = f"tracks.{name}", f"counts.{name}"
        inputs.append(_value(tracks, TensorProto.FLOAT, f"n_{name}", width))
        inputs.append(_value(counts, TensorProto.INT64, "n_event"))
        scaled = network.scaled(graph.checked(tracks, counts), f"scaling.{name}")
        weights, column = None, dict(architecture.weights).get(name)
        if column is not None:
            weights = graph("Gather", tracks, graph.constant([column]), axis=1)
            others = [i for i in range(width) if i != column]
            scaled = graph("Gather", scaled, graph.constant(others), axis=1)
        collections.append(_Collection(name, scaled, Events(graph, counts, weights)))
        parts += network.pooled(collections[-1], "phi")
    if architecture.event:
        inputs.append(_value("event", TensorProto.FLOAT, "n_event", architecture.event))
        parts.append(network.scaled("event", "event_scaling"))
    for i in range(model.rounds):
        context = network.dense(graph("Concat", *parts, axis=1), f"rounds.{i}.context", 1)
        again = [network.pooled(each, f"rounds.{i}.phi", context) for each in collections]
        parts = [*chain(*again), *parts]
    x = network.dense(graph("Concat", *parts, axis=1), "rho", len(model.rho))
    _link(graph, network.affine(x, "out"), scorer.task, scorer.calibration, "scores")
    unknown = {name for name, array in scorer.arrays.items() if array.size} - network.used
    if unknown:
        raise ModelError(f"ONNX export does not know the arrays {', '.join(sorted(unknown))}")
    scores = _value("scores", TensorProto.FLOAT, "n_event", architecture.outputs)
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "tracksets", inputs, [scores], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tracksets",
    )
    helper.set_model_props(proto, {"tracksets": metadata})
    onnx.checker.check_model(proto, full_check=True)
    content: bytes = proto.SerializeToString()
    return content


def onnx_scores(
    path: str | os.PathLike[str],
) -> Callable[[JaggedInputs], Float[np.ndarray, "event score"]]:
    """Open an exported file with ONNX Runtime; what comes back scores flat inputs."""
    session = onnxruntime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    wanted = {each.name for each in session.get_inputs()}

    def score(jagged: JaggedInputs) -> NDArray[np.float32]:
        feeds: dict[str, NDArray[Any]] = {"event": jagged.event}
        for name, tracks in jagged.tracks.items():
            feeds |= {f"tracks.{name}": tracks, f"counts.{name}": jagged.counts[name]}
        [scores] = session.run(["scores"], {name: feeds[name] for name in wanted})
        return np.asarray(scores, np.float32)

    return score


class _Collection(NamedTuple):
    """A collection: its name, what phi sees of its tracks, and whose tracks are whose."""

    name: str
    seen: str
    events: Events


class _Network:
    """Layers as nodes; `used` has the names of the arrays that are in the graph."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], model: Model) -> None:
        self.graph = Graph()
        self.arrays, self.model = arrays, model
        self.activation = _known(_ACTIVATIONS, "activation", model.activation)
        self.used: set[str] = set()

    def array(self, name: str) -> str:
        self.used.add(name)
        return self.graph.constant(self.arrays[name], np.float32, name)

    def scaled(self, x: str, prefix: str) -> str:
        shifted = self.graph("Sub", x, self.array(f"{prefix}.shift"))
        return self.graph("Mul", shifted, self.array(f"{prefix}.scale"))

    def affine(self, x: str, prefix: str) -> str:
        return self.graph("Gemm", x, self.array(f"{prefix}.kernel"), self.array(f"{prefix}.bias"))

    def dense(self, x: str, prefix: str, n_layer: int) -> str:
        g = self.graph
        for i in range(n_layer):
            norm = f"{prefix}.norms.{i - 1}"
            if f"{norm}.scale" not in self.arrays:
                x = self.activation(g, self.affine(x, f"{prefix}.layers.{i}"))
                continue
            scale, bias = self.array(f"{norm}.scale"), self.array(f"{norm}.bias")
            seen = g("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-6)
            y = self.activation(g, self.affine(seen, f"{prefix}.layers.{i}"))
            n_in, n_out = self.arrays[f"{prefix}.layers.{i}.kernel"].shape
            x = g("Add", x, y) if n_in == n_out else y
        return x

    def pooled(self, collection: _Collection, prefix: str, context: str = "") -> list[str]:
        """Run phi on all tracks, with what is known of their events, and pool."""
        g, (name, seen, events) = self.graph, collection
        prefix, phi = f"{prefix}.{name}", self.model.phi
        if context:
            known = g("Gather", context, g.owners(events.counts, g.total(events.counts)))
            seen = g("Concat", seen, known, axis=1)
        latent = Latent(self.dense(seen, prefix, len(phi)), phi[-1])
        if "softmax" in self.model.pool:
            steepest = g.constant(STEEPEST, np.float32)
            logits = g("Div", self.affine(latent.values, f"{prefix}.attention"), steepest)
            latent = latent._replace(logits=g("Mul", g("Tanh", logits), steepest))
        return [_known(POOLINGS, "pooling", how)(events, latent) for how in self.model.pool]


def _link(g: Graph, outputs: str, task: Task, calibration: Calibration | None, name: str) -> None:
    """Turn outputs into scores, in double precision as `tracksets.calibration.link` does."""
    wide = g("Cast", outputs, to=TensorProto.DOUBLE)
    if calibration is not None:
        wide = g("Div", wide, g.constant(calibration.temperature, np.float64))
    if task.kind == "binary":
        one = g.constant(1, np.float64)
        wide = g("Div", one, g("Add", one, g("Exp", g("Neg", wide))))
    elif task.kind == "classes":
        wide = g("Softmax", wide, axis=1)
    else:
        wide = g("Mul", wide, g.constant(task.scale, np.float64))
        wide = g("Add", wide, g.constant(task.shift, np.float64))
    if calibration is not None and calibration.knots:
        wide = _curves(g, wide, calibration)
    g("Cast", wide, name=name, to=TensorProto.FLOAT)


def _curves(g: Graph, scores: str, calibration: Calibration) -> str:
    """Map each score by its curve: the sum of what each of its lines rises up to there."""
    n = len(calibration.knots)
    mapped = []
    for i in range(n):
        column = g("Slice", scores, g.constant([i]), g.constant([i + 1]), g.constant([1]))
        x, y = calibration.curve(i)
        run = np.diff(x)[None, :]
        passed = g("Sub", column, g.constant(x[None, :-1], np.float64))
        passed = g("Min", g("Max", passed, g.constant(0, np.float64)), g.constant(run, np.float64))
        rises = g("Mul", passed, g.constant(np.diff(y)[None, :] / run, np.float64))
        mapped.append(g("ReduceSum", rises, g.constant([1]), keepdims=1))
    if n == 1:
        return mapped[0]
    together = g("Concat", *mapped, axis=1)
    return g("Div", together, g("ReduceSum", together, g.constant([1]), keepdims=1))


def _gelu(g: Graph, x: str) -> str:
    """Compute what `jax.nn.gelu` does; as an operator of its own it is newer than the others."""

    def number(value: float) -> str:
        return g.constant(value, np.float32)

    cubic = g("Mul", g("Mul", g("Mul", x, x), x), number(0.044715))
    inner = g("Mul", g("Add", x, cubic), number(math.sqrt(2 / math.pi)))
    return g("Mul", g("Mul", x, number(0.5)), g("Add", g("Tanh", inner), number(1)))


_ACTIVATIONS: Mapping[str, Callable[[Graph, str], str]] = {
    "relu": lambda g, x: g("Relu", x),
    "gelu": _gelu,
    "silu": lambda g, x: g("Mul", x, g("Sigmoid", x)),
    "tanh": lambda g, x: g("Tanh", x),
}


def _value(name: str, kind: int, *shape: str | int) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _known(table: Mapping[str, Any], what: str, name: str) -> Any:
    if name not in table:
        raise ModelError(
            f"ONNX export does not know the {what} '{name}'; {near_misses(name, table)}"
        )
    return table[name]
