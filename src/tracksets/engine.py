"""Packed blocks in, what the network says of their events out: by JAX, or another engine.

Parameters on the device, and what other engines compile, live in a cache of the process, by
content, as what JAX compiles does by architecture.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import Lock
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets.blocks import Block, Shape
from tracksets.compiling import compiled
from tracksets.devices import check_fork, threads
from tracksets.engines import JAX, Engine
from tracksets.network import Architecture

__all__ = ("compute",)


_Outputs = Callable[[Block], NDArray[Any]]


def compute(
    key: str,
    architecture: Architecture,
    arrays: Mapping[str, NDArray[Any]],
    blocks: Iterable[Block],
    shape: Shape,
    engine: Engine = JAX,
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
    shape
        Of typical blocks.
    engine
        What computes.

    Raises
    ------
    ProcessError
        In a process that was forked after anything had been computed.
    """
    check_fork()
    outputs = _cached(key, architecture, arrays, shape, engine)
    pool, most = _pool(engine.name)
    waiting: deque[Future[NDArray[Any]]] = deque()
    for block in blocks:
        waiting.append(pool.submit(outputs, block))
        if len(waiting) > most + 1:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@cache
def _pool(engine: str) -> tuple[ThreadPoolExecutor, int]:
    """Return threads, and how many blocks are computed at a time.

    XLA shares out the products of a chunk of tracks among its threads, which gains next to
    nothing, because they are small; whole blocks side by side keep all cores busy. An accelerator
    is kept busy by two: one computes, one is fetched.
    """
    n = 2 if engine == JAX.name and jax.default_backend() != "cpu" else threads()
    return ThreadPoolExecutor(n, "tracksets-scorer"), n


_known: OrderedDict[tuple[str, Engine, str], _Outputs] = OrderedDict()
_known_lock = Lock()
_MOST_KNOWN = 32


def _cached(
    key: str,
    architecture: Architecture,
    arrays: Mapping[str, NDArray[Any]],
    shape: Shape,
    engine: Engine,
) -> _Outputs:
    """Return what computes a block; the latest few models stay on their devices."""
    with _known_lock:
        place = key, engine, str(shape)
        outputs = _known.pop(place, None)
        if outputs is None:
            outputs = _new(architecture, arrays, shape, engine)
        _known[place] = outputs
        while len(_known) > _MOST_KNOWN:
            _known.popitem(last=False)
        return outputs


def _new(
    architecture: Architecture, arrays: Mapping[str, NDArray[Any]], shape: Shape, engine: Engine
) -> _Outputs:
    if engine.name == "openvino":
        from tracksets.openvino_engine import openvino_outputs

        return openvino_outputs(architecture, arrays, shape, engine.precision)
    functions = compiled(architecture)
    state = functions.to_state(arrays)
    return lambda block: np.asarray(functions.outputs(state, block))[: block.n_event]
