"""A scorer and files in, labelled files out: the same rows in the same order, nothing lost."""

import os
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tracksets.atomic import appearing, refuse_existing
from tracksets.errors import ConfigError, DataError, FileError, TracksetsError, near_misses
from tracksets.features import JaggedInputs
from tracksets.fields import Columns
from tracksets.inputs import paths_of
from tracksets.prefetch import ahead
from tracksets.progress import events_bar
from tracksets.reading import RootTree, Tree, expand, is_remote, open_tree, split_name
from tracksets.scorer import Scorer, load
from tracksets.writing import write_append, write_branch, write_friend

__all__ = ("Labelled", "LabellingError", "Mode", "Report", "label")

Mode = Literal["branch", "append", "friend"]

IDENTIFIERS = ("run", "luminosityBlock", "event")


@dataclass(frozen=True)
class Labelled:
    """What became of one file.

    Attributes
    ----------
    source, output
        The input with its tree, and what was written.
    events, seconds
        How many, and how long it took.
    error
        Why it failed; None if it did not.
    """

    source: str
    output: Path
    events: int
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Report:
    """What became of all files, in the order of the inputs."""

    files: tuple[Labelled, ...]

    @property
    def outputs(self) -> list[Path]:
        """The files that were written."""
        return [each.output for each in self.files if each.error is None]

    @property
    def failures(self) -> list[Labelled]:
        """The files that were not."""
        return [each for each in self.files if each.error is not None]

    @property
    def events(self) -> int:
        """Events of all files that were written."""
        return sum(each.events for each in self.files if each.error is None)


class LabellingError(TracksetsError):
    """Some files could not be labelled; `report` says what became of all of them."""

    def __init__(self, report: Report) -> None:
        self.report = report
        lines = [f"  {each.source}: {each.error}" for each in report.failures]
        super().__init__(
            f"{len(lines)} of {len(report.files)} files could not be labelled\n" + "\n".join(lines)
        )


@dataclass(frozen=True)
class _Job:
    """One file to label; sent to workers as it is."""

    source: str
    output: Path
    tree: str | None
    mode: Mode
    field: str
    force: bool


def label(
    model: Scorer | str | os.PathLike[str],
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    mode: Mode = "branch",
    field: str = "score",
    tree: str | None = None,
    workers: int = 1,
    force: bool = False,
    progress: bool = True,
) -> Report:
    """Score every event of files and write the scores into new files.

    Each output has as many events as its input, in the same order. It appears complete or not at
    all, and a file that fails does not take the others with it.

    Parameters
    ----------
    model
        A scorer, or the name of a model file.
    files
        Names and patterns: `data*.root`, `data.root:Events`.
    output
        The folder for the outputs, which have the names of the inputs.
    mode
        `branch`: the input file with the score as one more branch of the tree. `append`: a
        byte-for-byte copy of the input file plus a friend tree `Events_score`. `friend`: that
        tree only, with `run`, `luminosityBlock` and `event` where the input has them.
    field
        Name of the branch. Several classes give one branch each: `score_b`, `score_c`.
    tree
        Name of the tree, if it is not said with the file and there are several.
    workers
        Processes that label files side by side.
    force
        Whether outputs, and branches of that name, are replaced.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Report
        What was written.

    Raises
    ------
    ConfigError, FileError
        Before anything is written: no such mode or file, an output exists or equals its input.
    LabellingError
        After all files were tried, if some failed.
    """
    modes = get_args(Mode)
    if mode not in modes:
        raise ConfigError(f"no mode {mode!r}: {near_misses(mode, modes)}")
    scorer = model if isinstance(model, Scorer) else load(model)
    if not re.fullmatch(r"[A-Za-z_]\w*", field, re.ASCII):
        raise ConfigError(f"{field!r} cannot be the name of a branch: use letters, digits and _")
    _score_fields(field, scorer.task.score_names)  # complain once, not for every file
    jobs = [
        _Job(source, target, tree, mode, field, force)
        for source, target in _outputs(expand(files), Path(output), force)
    ]
    results: dict[str, Labelled] = {}
    with events_bar(f"labelling {len(jobs)} file(s)", None, progress) as advance:
        for result in _run(scorer, jobs, workers):
            results[result.source] = result
            advance(result.events)
    report = Report(tuple(results[job.source] for job in jobs))
    if report.failures:
        raise LabellingError(report)
    return report


def _outputs(sources: list[str], folder: Path, force: bool) -> Iterator[tuple[str, Path]]:
    """Pair every input with its output; refuse collisions before anything is written."""
    taken: dict[Path, str] = {}
    for source in sources:
        path, _ = split_name(source)
        target = folder / Path(path).name
        if target in taken:
            raise FileError(
                f"{taken[target]} and {source} would both become {target}; label them into "
                "different folders"
            )
        taken[target] = source
        if not is_remote(path) and target.exists() and target.samefile(path):
            raise FileError(f"the output {target} is the input itself; choose another folder")
        refuse_existing(target, force=force)
        yield source, target


def _run(scorer: Scorer, jobs: list[_Job], workers: int) -> Iterator[Labelled]:
    if workers <= 1 or len(jobs) <= 1:
        yield from (_label_file(scorer, job) for job in jobs)
        return
    n = min(workers, len(jobs))
    while jobs:
        done = []
        for result in _run_in_pool(scorer, jobs, n):
            done.append(result.source)
            yield result
        jobs = [job for job in jobs if job.source not in done]
        if jobs and n == 1:
            # The only worker died over the first of those that are left.
            guilty, *jobs = jobs
            yield Labelled(guilty.source, guilty.output, 0, 0.0, "the process that read it died")
        n = 1


def _run_in_pool(scorer: Scorer, jobs: list[_Job], n: int) -> Iterator[Labelled]:
    """Label files in n processes; without those that are left when a process dies."""
    # Spawned, not forked: JAX may have started threads in this process.
    context = get_context("spawn")
    with ProcessPoolExecutor(n, context, initializer=_start, initargs=(scorer,)) as pool:
        try:
            futures = [pool.submit(_label_here, job) for job in jobs]
            for future in as_completed(futures):
                with suppress(BrokenProcessPool):
                    yield future.result()
        except BrokenProcessPool:  # while jobs were submitted
            return
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt must not wait for all files


_scorer_here: list[Scorer] = []


def _start(scorer: Scorer) -> None:
    _scorer_here[:] = [scorer]


def _label_here(job: _Job) -> Labelled:
    return _label_file(_scorer_here[0], job)


def _label_file(scorer: Scorer, job: _Job) -> Labelled:
    begin = time.perf_counter()
    try:
        with open_tree(job.source, job.tree) as tree, appearing(job.output, force=job.force) as new:
            _write(scorer, tree, new, job)
            n = tree.n_event
    except Exception as error:  # noqa: BLE001  # one file must not take the others with it
        known = isinstance(error, TracksetsError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        return Labelled(job.source, job.output, 0, time.perf_counter() - begin, reason)
    return Labelled(job.source, job.output, n, time.perf_counter() - begin)


def _write(scorer: Scorer, tree: Tree, output: Path, job: _Job) -> None:
    if not isinstance(tree, RootTree):
        raise FileError(
            f"{tree.path} is not a ROOT file; read it with ak.from_parquet and score the array"
        )
    fields = _score_fields(job.field, scorer.task.score_names)
    columns = _score_tree(scorer, tree, _identifiers(tree) if job.mode == "friend" else [])
    scores = dict(zip(fields, columns.pop("").T, strict=True))
    name = f"{tree.name.split(';')[0]}_{job.field}"
    if job.mode == "branch":
        write_branch(tree, output, scores, force=job.force)
    elif job.mode == "append":
        write_append(tree, output, scores, name, force=job.force)
    else:
        write_friend(tree, output, scores, name.rpartition("/")[2], columns)


def _score_fields(field: str, names: tuple[str, ...]) -> list[str]:
    """Name the branches: `score`, or `score_b` for a class; of `log(pt)`, `score_log_pt_`."""
    fields = [f"{field}_{re.sub(r'[^A-Za-z0-9_]', '_', name)}" for name in names] or [field]
    if len(set(fields)) < len(fields):
        raise ConfigError(f"the scores {list(names)} would become branches of the same name")
    return fields


def _identifiers(tree: Tree) -> list[str]:
    """List the branches that say which event it is: whole numbers, one per event."""
    names = [name for name in IDENTIFIERS if (name,) in tree.fields.paths]
    types = {name: tree.read([(name,)], 0, 0)[name].type.content for name in names}
    return [name for name in names if "int" in getattr(types[name], "primitive", "")]


def _score_tree(scorer: Scorer, tree: Tree, others: list[str]) -> dict[str, NDArray[np.float32]]:
    """Score all events, a chunk at a time; the scores are under "", other columns beside them."""
    try:
        paths = paths_of(scorer.inputs, tree.fields)
    except DataError as error:
        raise FileError(str(error)) from error
    wanted = list(dict.fromkeys([*paths, *((name,) for name in others)]))
    columns: dict[str, list[NDArray[np.float32]]] = {name: [] for name in others}

    def parts() -> Iterator[JaggedInputs]:
        for start, stop in [*tree.chunks(paths)] or [(0, 0)]:
            events = tree.read(wanted, start, stop)
            for name in others:
                columns[name].append(np.asarray(events[name]))
            yield from scorer.flatten(Columns(events, tree.fields), start)

    # The next chunk is read and decompressed while this one is scored.
    scores = scorer.score_parts(ahead(parts()))
    return {"": scores, **{name: np.concatenate(each) for name, each in columns.items()}}
