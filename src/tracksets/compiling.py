"""The configuration of a network in, its compiled functions out; made once per process."""

from collections.abc import Mapping
from functools import cache, cached_property, lru_cache
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from tracksets.blocks import Block
from tracksets.network import Architecture, DeepSet

__all__ = ("Compiled", "compiled")


class Compiled:
    """The compiled functions of one architecture; made once per process, see `compiled`."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.traces = 0
        self.graph = nnx.graphdef(nnx.eval_shape(lambda: self._new(0)))
        self._shapes: set[tuple[Any, ...]] = set()
        self._tracing = Lock()

    def _new(self, seed: int) -> DeepSet:
        a = self.architecture
        return DeepSet(
            a.model, dict(a.tracks), a.event, a.outputs, dict(a.weights), rngs=nnx.Rngs(seed)
        )

    def new(self, seed: int) -> DeepSet:
        """Make a network with random weights."""
        return self._new(seed)

    def outputs(self, state: Any, block: Block) -> Array:
        """Compute what rho returns for each event slot; compiled once for each block shape."""
        shape = (len(block.mask), *(len(each) for each in block.tracks.values()))
        result: Array
        if shape in self._shapes:
            result = self._jitted(state, block)
            return result
        with self._tracing:  # threads that start together would trace one shape several times
            result = self._jitted(state, block)
            self._shapes.add(shape)
        return result

    @cached_property
    def _jitted(self) -> Any:  # at first use, as it starts JAX
        return jax.jit(self._outputs, compiler_options=_options())

    def _outputs(self, state: Any, block: Block) -> Array:
        self.traces += 1  # runs when JAX traces, not when it computes
        network: DeepSet = nnx.merge(self.graph, state)
        return network(block, scoring=True)

    def to_arrays(self, state: Any) -> dict[str, np.ndarray]:
        """Name every array of a network's state: `phi.Track.layers.0.kernel`."""
        return {
            ".".join(map(str, path)): np.asarray(leaf[...])
            for path, leaf in nnx.to_flat_state(state)
        }

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By name: the shape of every array of the state."""
        return {
            ".".join(map(str, path)): tuple(leaf.shape)
            for path, leaf in nnx.to_flat_state(self._abstract)
        }

    @cached_property
    def _abstract(self) -> Any:
        return nnx.state(nnx.eval_shape(lambda: self._new(0)))

    def to_state(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Turn named arrays, of the shapes that `shapes` says, into a network's state."""
        return nnx.from_flat_state(
            [
                (path, leaf.replace(jnp.asarray(arrays[".".join(map(str, path))])))
                for path, leaf in nnx.to_flat_state(self._abstract)
            ]
        )


@cache
def _options() -> dict[str, str] | None:
    """Choose kernels that don't share out each small product among the threads.

    XLA's own choice, YNN, does so even where whole blocks are computed side by side; without it,
    scoring takes 3 % less time on one core, and 17 % on two (100-100-256).
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # another version of XLA has other options
        return None
    return options


def compiled(architecture: Architecture) -> Compiled:
    """Return the compiled functions of an architecture, the same ones for the same architecture.

    They live at module level so that a scorer that is unpickled for every chunk of data, as coffea
    does, finds them compiled.
    """
    with _making:  # threads that start together must not each make and compile their own
        return _compiled(architecture)


_making = Lock()
_compiled = lru_cache(maxsize=64)(Compiled)
