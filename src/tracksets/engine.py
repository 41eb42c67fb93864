"""Packed blocks in, what the network says of their events out: JAX's side of a scorer.

The parameters on the device live in a cache of the process, by content, as what is compiled does by
architecture.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets.blocks import Block
from tracksets.compiling import compiled
from tracksets.devices import check_fork, threads
from tracksets.network import Architecture

__all__ = ("compute",)


def compute(
    key: str,
    architecture: Architecture,
    arrays: Mapping[str, NDArray[Any]],
    blocks: Iterable[Block],
) -> Iterator[Float[np.ndarray, "event output"]]:
    """Compute blocks, several at a time; yields the outputs of each one's events, in order.

    Parameters
    ----------
    key
        Stands for the arrays: the same key means the same arrays.
    architecture
        Of the network.
    arrays
        By name: every array of the network.
    blocks
        Packed while others are computed; only a few are in memory.

    Raises
    ------
    ProcessError
        In a process that was forked after JAX had computed.
    """
    check_fork()
    functions, state = compiled(architecture), _device_state(key, architecture, arrays)

    def outputs(block: Block) -> NDArray[Any]:
        return np.asarray(functions.outputs(state, block))[: block.n_event]

    waiting: deque[Future[NDArray[Any]]] = deque()
    for block in blocks:
        waiting.append(_pool().submit(outputs, block))
        if len(waiting) > _pool_size() + 1:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _pool_size() -> int:
    """Return how many blocks are computed at a time.

    XLA shares out the products of a chunk of tracks among its threads, which gains next to
    nothing, because they are small; whole blocks side by side keep all cores busy. An accelerator
    is kept busy by two: one computes, one is fetched.
    """
    return threads() if jax.default_backend() == "cpu" else 2


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_pool_size(), "tracksets-scorer")


_states: OrderedDict[str, Any] = OrderedDict()
_states_lock = Lock()
_MOST_STATES = 32


def _device_state(key: str, architecture: Architecture, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return the parameters on the device; the latest few models stay there."""
    with _states_lock:
        state = _states.pop(key, None)
        if state is None:
            state = compiled(architecture).to_state(arrays)
        _states[key] = state
        while len(_states) > _MOST_STATES:
            _states.popitem(last=False)
        return state
