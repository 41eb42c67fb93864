"""Files to label in, what became of them out: one after another, in processes, or on a cluster."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from typing import Any

from tracksets.atomic import discard
from tracksets.chunks import Scorers
from tracksets.devices import limit_threads, threads
from tracksets.errors import FileError, MissingExtraError, ProcessError
from tracksets.pipeline import Job, Labelled, label_file

__all__ = ("run_here", "run_in_processes", "run_on_dask")

_PER_TASK = 8
"""Most files of one task of a cluster: it is scheduled, but also lost, as one."""


def run_here(scorers: Scorers, jobs: Sequence[Job]) -> Iterator[Labelled]:
    """Label files one after another."""
    return (label_file(scorers, job) for job in jobs)


def run_in_processes(scorers: Scorers, jobs: Sequence[Job], workers: int) -> Iterator[Labelled]:
    """Label files in several processes; yields results as they come.

    A file over which a process died (such as for want of memory) is tried once more, alone.

    Raises
    ------
    ProcessError
        If no process can be started.
    """
    while jobs:
        n = min(workers, len(jobs))
        done = set()
        for result in _run_in_pool(scorers, jobs, n):
            done.add(result.source)
            yield result
        jobs = [job for job in jobs if job.source not in done]
        # They are taken in order, so that the guilty one is among the first of those left.
        suspects, jobs = jobs[:n], jobs[n:]
        for job in suspects:
            yield from list(_run_in_pool(scorers, [job], 1)) or [_died(job)]


def _run_in_pool(scorers: Scorers, jobs: Sequence[Job], n: int) -> Iterator[Labelled]:
    """Label files in n processes; without those that are left when a process dies."""
    # Spawned, not forked: JAX may have started threads in this process.
    context = get_context("spawn")
    share = max(1, threads() // n)
    with ProcessPoolExecutor(n, context, initializer=_start, initargs=(scorers, share)) as pool:
        try:
            if n == 1:
                _check_start(pool)
            futures = [pool.submit(_label_here, job) for job in jobs]
            for future in as_completed(futures):
                with suppress(BrokenProcessPool):
                    yield future.result()
        except BrokenProcessPool:  # while jobs were submitted
            return
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt must not wait for all files


def _check_start(pool: ProcessPoolExecutor) -> None:
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise ProcessError(
            "the processes that should label died as they started; a script that asks for "
            "workers must do so under `if __name__ == '__main__':`, as each of them imports it"
        ) from None


def _died(job: Job, cause: str = "") -> Labelled:
    discard(job.output)
    return Labelled(job.source, job.output, error=f"the process that labelled it died{cause}")


_scorers_here: dict[str, Any] = {}


def _start(scorers: Scorers, share: int) -> None:
    limit_threads(share)
    _scorers_here.update(scorers)


def _label_here(job: Job) -> Labelled:
    return label_file(_scorers_here, job)


def run_on_dask(scorers: Scorers, jobs: Sequence[Job], cluster: Any) -> Iterator[Labelled]:
    """Label files on a Dask cluster; yields results as they come.

    The scorers are sent to each worker once. A task whose worker dies is given to another one by
    the scheduler, which finds the outputs that are finished and makes the others anew. Files of
    tasks over which several workers died are tried once more, alone.

    Parameters
    ----------
    scorers, jobs
        What to do; the workers see files under the same names.
    cluster
        Address of a scheduler, a `dask.distributed` cluster, or a client.

    Raises
    ------
    MissingExtraError
        If `distributed` is not installed.
    FileError
        If there is no scheduler at this address.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError("distributed", "dask", "labelling on a cluster") from error
    with _client(distributed, cluster) as client:
        # A task, not scattered data: that is lost for good when the workers that have it die.
        model = client.submit(dict, scorers, pure=False)
        n = max(1, min(_PER_TASK, len(jobs) // (4 * max(1, len(client.nthreads())))))
        parts = [tuple(jobs[i : i + n]) for i in range(0, len(jobs), n)]
        futures = client.map(_label_part, parts, scorers=model, pure=False)
        tasks = dict(zip(futures, parts, strict=True))
        suspects: list[Job] = []
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                if future.status == "finished":
                    yield from future.result()
                else:  # `_label_part` raises nothing: its workers died
                    suspects += tasks[future]
                future.release()
            # Files that waited at a worker die with the guilty one: each has a try alone.
            for job in suspects:
                futures = [client.submit(_label_part, (job,), scorers=model, pure=False)]
                cause = futures[0].exception()
                if cause is None:
                    yield from futures[0].result()
                else:
                    yield _died(job, f": {type(cause).__name__}: {cause}")
        finally:
            client.cancel(futures)


@contextmanager
def _client(distributed: Any, cluster: Any) -> Iterator[Any]:
    if isinstance(cluster, distributed.Client):
        yield cluster
        return
    try:
        client = distributed.Client(cluster, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise FileError(f"no Dask scheduler answers at {cluster}: {error}") from error
    with client:
        yield client


def _label_part(jobs: Sequence[Job], scorers: Scorers) -> list[Labelled]:
    return [label_file(scorers, job) for job in jobs]
