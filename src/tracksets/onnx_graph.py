"""ONNX nodes in the making, and the pooling of tracks by event as such nodes."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from tracksets.errors import MissingExtraError
from tracksets.pooling import SMOOTH

try:
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    raise MissingExtraError("onnx", "onnx", "ONNX") from None

__all__ = ("POOLINGS", "Events", "Graph", "Latent")

_GROUP = 8
_LOWEST = float(np.finfo(np.float32).min)


class Graph:
    """Nodes and constants; values go by their names.

    Attributes
    ----------
    nodes, constants
        As ONNX has them, in order.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __call__(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        name = name or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Any, dtype: type[np.generic] = np.int64, name: str = "") -> str:
        """Add a constant, and return its name."""
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def filled(self, shape: str, value: float, kind: int = TensorProto.INT64) -> str:
        """Fill a tensor of a shape that is known when the graph runs."""
        return self("ConstantOfShape", shape, value=helper.make_tensor("", kind, [1], [value]))

    def total(self, counts: str) -> str:
        """Sum counts; shape (1,)."""
        return self("ReduceSum", counts, self.constant([0]), keepdims=1)

    def checked(self, tracks: str, counts: str) -> str:
        """Return the tracks; the graph fails if there are more or fewer than the counts say.

        Splitting them into one part does it, and no optimiser takes that away.
        """
        return self("Split", tracks, self.total(counts), axis=0)

    def owners(self, counts: str, total: str) -> str:
        """Number the owner of each element: counts [2, 0, 1] give [0, 0, 2]."""
        ends = self("CumSum", counts, self.constant(0))
        zeros = self.filled(self("Add", total, self.constant([1])), 0)
        ones = self.filled(self("Shape", counts), 1)
        passed = self("ScatterElements", zeros, ends, ones, axis=0, reduction="add")
        return self("Slice", self("CumSum", passed, self.constant(0)), self.constant([0]), total)

    def starts(self, counts: str) -> str:
        """Number the first element of each owner: counts [2, 0, 1] give [0, 2, 2]."""
        return self("CumSum", counts, self.constant(0), exclusive=1)


class Events:
    """Whose tracks are whose, ready to pool by event.

    An event's score must not depend on the events beside it, to which differences of running sums
    would carry rounding. ScatterND with reduction loses updates in ONNX Runtime where several
    threads add to the same event. ScatterElements does not, but takes as long as phi. So the tracks
    of an event are gathered in groups of up to 8, each group is reduced, and only their results are
    scattered.

    Parameters
    ----------
    graph
        Where nodes are added.
    counts
        int64, shape (n_event,).
    weights
        What each track counts, float32, shape (n_track, 1); 1 by default.
    """

    def __init__(self, graph: Graph, counts: str, weights: str | None = None) -> None:
        g = self.graph = graph
        self.counts, self.weights = counts, weights
        size, one = g.constant([_GROUP]), g.constant([1])
        groups = g("Div", g("Add", counts, g.constant([_GROUP - 1])), size)
        n_group = g.total(groups)
        self.owners = g.owners(groups, n_group)
        number = g("Range", g.constant(0), g("Squeeze", n_group), g.constant(1))
        before = g("Mul", g("Sub", number, g("Gather", g.starts(groups), self.owners)), size)
        first = g("Add", g("Gather", g.starts(counts), self.owners), before)
        left = g("Sub", g("Gather", counts, self.owners), before)
        places = g.constant(np.arange(_GROUP)[None, :])
        tracks = g("Add", g("Unsqueeze", first, one), places)
        # What a group lacks is taken from a row of padding behind the last track.
        self.tracks = g(
            "Where", g("Less", places, g("Unsqueeze", left, one)), tracks, g.total(counts)
        )

    def reduced(self, latent: "Latent", how: Literal["add", "max"], start: float) -> str:
        """Reduce the latents of each event; those without tracks get `start`."""
        g = self.graph
        padding = g.constant(np.full((1, latent.width), start), np.float32)
        groups = g("Gather", g("Concat", latent.values, padding, axis=0), self.tracks)
        operator = {"add": "ReduceSum", "max": "ReduceMax"}[how]
        groups = g(operator, groups, g.constant([1]), keepdims=0)
        rows = g("Expand", g("Unsqueeze", self.owners, g.constant([1])), g("Shape", groups))
        shape = g("Concat", g("Shape", self.counts), g.constant([latent.width]), axis=0)
        events = g.filled(shape, start, TensorProto.FLOAT)
        return g("ScatterElements", events, rows, groups, axis=0, reduction=how)

    def weighted(self, values: str) -> str:
        """Multiply by the weights, if there are any."""
        return values if self.weights is None else self.graph("Mul", values, self.weights)

    def sum(self, latent: "Latent") -> str:
        """Sum the latents of each event."""
        return self.reduced(latent._replace(values=self.weighted(latent.values)), "add", 0.0)

    def mean(self, latent: "Latent") -> str:
        """Average the latents of each event; zero without tracks."""
        return self.graph("Div", self.sum(latent), self._divisor())

    def max(self, latent: "Latent") -> str:
        """Find the largest latents of each event; zero without tracks."""
        g = self.graph
        some = g("Unsqueeze", g("Greater", self.counts, g.constant([0])), g.constant([1]))
        return g("Where", some, self.reduced(latent, "max", _LOWEST), g.constant(0, np.float32))

    def std(self, latent: "Latent") -> str:
        """Compute the standard deviation of the latents of each event as `pool` does."""
        g = self.graph
        mean = self.mean(latent)
        squares = self.mean(latent._replace(values=g("Mul", latent.values, latent.values)))
        variance = g("Relu", g("Sub", squares, g("Mul", mean, mean)))
        root = g("Sqrt", g("Add", variance, g.constant(SMOOTH, np.float32)))
        return g("Sub", root, g.constant(np.sqrt(np.float32(SMOOTH)), np.float32))

    def softmax(self, latent: "Latent") -> str:
        """Average the latents of each event with the weights that their logits say."""
        g = self.graph
        likely = g("Exp", latent.logits)
        total = self.sum(Latent(likely, 1))
        return g(
            "Div",
            self.sum(latent._replace(values=g("Mul", latent.values, likely))),
            self._never_zero(total),
        )

    def _divisor(self) -> str:
        g = self.graph
        if self.weights is not None:
            return self._never_zero(self.reduced(Latent(self.weights, 1), "add", 0.0))
        counts = g("Cast", g("Max", self.counts, g.constant([1])), to=TensorProto.FLOAT)
        return g("Unsqueeze", counts, g.constant([1]))

    def _never_zero(self, total: str) -> str:
        g = self.graph
        nothing = g("Equal", total, g.constant(0, np.float32))
        return g("Where", nothing, g.constant(1, np.float32), total)


class Latent(NamedTuple):
    """What phi made of all tracks.

    Attributes
    ----------
    values
        float32, shape (n_track, width).
    width
        Of the values.
    logits
        For the pooling `softmax`: float32, shape (n_track, 1).
    """

    values: str
    width: int
    logits: str = ""


POOLINGS: Mapping[str, Callable[[Events, Latent], str]] = {
    "sum": Events.sum,
    "mean": Events.mean,
    "max": Events.max,
    "std": Events.std,
    "softmax": Events.softmax,
}
