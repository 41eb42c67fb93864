"""Processes and cores: how many threads JAX takes, and that it does not survive a fork.

JAX starts its threads when it first computes, and keeps them for the life of the process. So do
other engines.
"""

import os
import sys

from tracksets.errors import ConfigError, ProcessError

__all__ = ("check_fork", "limit_threads", "note_start", "threads")

_VARIABLE = "NPROC"
"""What XLA reads, when JAX first computes, as the size of its pool of threads on CPUs."""


def limit_threads(n: int) -> None:
    """Bound the threads that JAX computes with on CPUs, in this process and those it starts.

    Call it before the first score, training or other computation with JAX; importing tracksets,
    loading and unpickling a scorer are none. Where the scheduler binds the process to some cores,
    JAX takes one thread for each of them without being told.

    Parameters
    ----------
    n
        Threads; 1 for workers that have one core each.

    Raises
    ------
    ConfigError
        If it is not a positive number.
    ProcessError
        If JAX has computed in this process already, with another number of threads.

    Examples
    --------
    >>> limit_threads(1)                                    # doctest: +SKIP
    """
    if n < 1:
        raise ConfigError(f"JAX cannot compute with {n} threads; ask for 1 or more")
    if _started() and os.environ.get(_VARIABLE) != str(n):
        raise ProcessError(
            "JAX has computed in this process already, or another engine, with their threads "
            f"started, so that {n} "
            "can't be made their number; call limit_threads before anything is computed, or set "
            f"the environment variable {_VARIABLE}={n} before Python starts"
        )
    os.environ[_VARIABLE] = str(n)


def threads() -> int:
    """Return how many threads JAX computes with on CPUs."""
    bound = os.environ.get(_VARIABLE, "")
    if bound.isdigit():
        return max(1, int(bound))
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def check_fork() -> None:
    """Refuse to compute in a process that was forked from one where JAX had computed.

    The child has JAX's locks, but not the threads that would release them: it would hang.

    Raises
    ------
    ProcessError
        If this is such a process, and tracksets was imported before the fork.
    """
    if _Fork.lost:
        raise ProcessError(
            f"process {os.getpid()} was forked from one where JAX or another engine had computed "
            "already, and would hang; start workers with loky or Dask, or from "
            "multiprocessing.get_context('spawn') or 'forkserver'"
        )


def note_start() -> None:
    """Note that an engine other than JAX, which behaves alike, starts its threads."""
    _Fork.other_has_started = True


def _started() -> bool:
    """Whether anything has computed here; JAX has no public way to say without doing so."""
    if _Fork.other_has_started:
        return True
    started = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    return started is not None and bool(started())


class _Fork:
    """What the last fork of this process, or of those it comes from, has done to JAX."""

    other_has_started = False
    parent_had_started = False
    lost = False

    @classmethod
    def before(cls) -> None:
        cls.parent_had_started = _started()

    @classmethod
    def in_child(cls) -> None:
        cls.lost = cls.lost or cls.parent_had_started


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(before=_Fork.before, after_in_child=_Fork.in_child)
