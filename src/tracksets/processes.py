"""Several processes that train together, by JAX's distributed runtime: they meet, agree and leave.

All of them read the same and pack the same batches; the devices of each compute their share. What
is written is written by the first one.
"""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from tracksets.errors import ConfigError, DataError, ProcessError, TracksetsError
from tracksets.sharding import AXIS, device_mesh, to_host

__all__ = ("agreed", "from_first", "is_first", "joined", "meet", "refuse_different")

Numbers = NDArray[np.int32] | NDArray[np.uint8]


@contextmanager
def joined(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> Iterator[None]:
    """Be one of several processes, until all are done.

    An error inside ends the process, after its message: leaving in good order, JAX would wait
    minutes for the others, which wait for this one. They notice, and end too.

    Parameters
    ----------
    coordinator
        Address of the first process, as `host:port`.
    processes
        How many there are.
    process
        Which one this is, counted from 0. SLURM, Open MPI and Kubernetes say all three.

    Raises
    ------
    ConfigError
        If something is missing or impossible.
    ProcessError
        If JAX has computed already, or the port is taken.
    """
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(f"the coordinator is {coordinator!r}, expected HOST:PORT")
    # Otherwise JAX takes SIGTERM, by which schedulers end a job, as a piece of news.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except ValueError as error:
        raise ConfigError(
            f"{str(error).rstrip('.')}: neither SLURM nor Open MPI says how the processes find "
            "each other; say --coordinator HOST:PORT --processes N --process I, I from 0 to N - 1"
        ) from None
    except RuntimeError as error:
        raise ProcessError(f"process {process} cannot join the others: {error}") from error
    try:
        meet()
        yield
        meet()
    except BaseException as error:  # noqa: BLE001  # whatever it is, the others must not wait
        _leave(error)


def _leave(error: BaseException) -> None:
    """End this process as the error would, at once."""
    text, code = f"error: {error}", 2
    if isinstance(error, KeyboardInterrupt):
        text, code = "interrupted", 130
    elif "Gloo" in str(error):  # which has no exception of its own
        text = f"error: another process has ended: {error}"
    elif not isinstance(error, (TracksetsError, OSError)):
        text, code = "".join(traceback.format_exception(error)), 1
    sys.stdout.flush()
    sys.stderr.write(f"process {jax.process_index()}: {text}\n")
    sys.stderr.flush()
    os._exit(code)


def is_first() -> bool:
    """Whether this is the process that writes files and speaks to people."""
    return jax.process_index() == 0


def meet() -> None:
    """Wait for the other processes.

    The first time, it connects those on CPUs, for which JAX allows them 30 seconds: so before any
    of them is kept by its files.
    """
    agreed(False)


def agreed(wish: bool) -> bool:
    """Whether any of the processes has this wish; all of them must ask."""
    return wish if jax.process_count() == 1 else bool(_sum(np.asarray([wish], np.int32))[0])


def from_first(content: bytes) -> bytes:
    """Return what the first process says; all of them must ask."""
    if jax.process_count() == 1:
        return content
    said = np.frombuffer(content, np.uint8) if is_first() else np.empty(0, np.uint8)
    [n] = _sum(np.asarray([len(said)], np.int32))
    return _sum(said if is_first() else np.zeros(n, np.uint8)).tobytes()


def refuse_different(mark: str, what: str) -> None:
    """Raise DataError, in all processes, if this mark is not the same in all of them."""
    if agreed(from_first(mark.encode()) != mark.encode()):
        raise DataError(
            f"{what} differ between the processes: all of them must read the same configuration "
            "and the same files"
        )


def _sum(values: Numbers) -> Numbers:
    """Add up the values of all processes."""
    mesh = device_mesh()
    if mesh is None:
        return values
    # The same devices take part as in a step of the training, so that they are connected then.
    rows = np.zeros((jax.local_device_count(), len(values)), values.dtype)
    rows[0] = values
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    total: Numbers = to_host(_total(mesh)(jax.make_array_from_process_local_data(sharding, rows)))[
        0
    ]
    return total


@cache
def _total(mesh: Mesh) -> Any:
    """Return a compiled function that adds up one row per device."""
    rows, everywhere = PartitionSpec(AXIS), PartitionSpec()
    return jax.jit(
        jax.shard_map(
            partial(jax.lax.psum, axis_name=AXIS), mesh=mesh, in_specs=rows, out_specs=everywhere
        )
    )
