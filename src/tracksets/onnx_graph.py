"""ONNX nodes in the making, and the pooling of tracks by event as such nodes."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from tracksets.errors import MissingExtraError

try:
    from onnx import TensorProto, helper, numpy_helper
except ImportError:
    raise MissingExtraError("onnx", "onnx", "ONNX") from None

__all__ = ("POOLINGS", "Events", "Graph")

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
    """The latent of all tracks, ready to be pooled by event.

    ONNX Runtime's fast operator for this, ScatterND with a reduction, loses updates when several
    threads add to the same event. ScatterElements does not, but takes as long as phi. So the tracks
    of an event are gathered in groups of up to 8, each group is reduced, and only their results are
    scattered.

    Parameters
    ----------
    graph
        Where nodes are added.
    latent
        float32, shape (n_track, width).
    counts
        int64, shape (n_event,).
    width
        Of the latent.
    """

    def __init__(self, graph: Graph, latent: str, counts: str, width: int) -> None:
        g = self.graph = graph
        self.latent, self.counts, self.width = latent, counts, width
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

    def reduced(self, how: Literal["add", "max"], start: float) -> str:
        """Reduce the latents of each event; those without tracks get `start`."""
        g = self.graph
        padding = g.constant(np.full((1, self.width), start), np.float32)
        groups = g("Gather", g("Concat", self.latent, padding, axis=0), self.tracks)
        operator = {"add": "ReduceSum", "max": "ReduceMax"}[how]
        groups = g(operator, groups, g.constant([1]), keepdims=0)
        rows = g("Expand", g("Unsqueeze", self.owners, g.constant([1])), g("Shape", groups))
        shape = g("Concat", g("Shape", self.counts), g.constant([self.width]), axis=0)
        events = g.filled(shape, start, TensorProto.FLOAT)
        return g("ScatterElements", events, rows, groups, axis=0, reduction=how)

    def sum(self) -> str:
        """Sum the latents of each event."""
        return self.reduced("add", 0.0)

    def mean(self) -> str:
        """Average the latents of each event; zero without tracks."""
        g = self.graph
        counts = g("Cast", g("Max", self.counts, g.constant([1])), to=TensorProto.FLOAT)
        return g("Div", self.sum(), g("Unsqueeze", counts, g.constant([1])))

    def max(self) -> str:
        """Find the largest latents of each event; zero without tracks."""
        g = self.graph
        some = g("Unsqueeze", g("Greater", self.counts, g.constant([0])), g.constant([1]))
        return g("Where", some, self.reduced("max", _LOWEST), g.constant(0, np.float32))


POOLINGS: Mapping[str, Any] = {"sum": Events.sum, "mean": Events.mean, "max": Events.max}
