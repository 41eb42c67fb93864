"""Files or a lazy array in, lazy scores out: a scorer on Dask, sent to each worker once.

Every task is a function of its arguments alone: one that is tried again, on whatever worker, gives
the same again.
"""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import awkward as ak

from tracksets.errors import ConfigError, DataError, FileError, MissingExtraError
from tracksets.features import event_values
from tracksets.fields import Columns
from tracksets.filenames import expand
from tracksets.reading import open_tree
from tracksets.trees import CHUNK_EVENTS

if TYPE_CHECKING:
    from tracksets.scorer import Scorer

__all__ = ("score_files", "score_partitions")


def score_files(
    scorer: "Scorer",
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    columns: Sequence[str] = (),
    tree: str | None = None,
    steps_per_file: int = 1,
    spread: bool = False,
) -> dict[str, Any]:
    """Score the events of files, each file in one task or in several.

    Nothing is opened before `dask.compute`, which the scheduler of your choice carries out:
    threads, processes, or the cluster of a `distributed.Client`.

    Parameters
    ----------
    scorer
        The trained model.
    files
        Names and patterns: `data*.root`, `data.root:Events`. The workers must find them, too.
    columns
        Event-level expressions whose values are wanted beside the score: `event`, `genWeight`.
    tree
        Name of the tree, if it is not said with the file and there are several.
    steps_per_file
        Tasks that share the events of a file.
    spread
        Whether the spread of each score is wanted, too; see `Scorer`.

    Returns
    -------
    dict[str, dask.delayed.Delayed]
        By file: lazily, `n * {score: float32, event: int64, ...}` in the order of its events.

    Raises
    ------
    ConfigError
        If there are no steps, or a column is called `score` or `spread`.
    ModelError
        If the spread is wanted of a single model.
    FileError
        If a name matches no file. When it is computed: as for `label`.
    MissingExtraError
        If dask is not installed.

    Examples
    --------
    >>> scores = score_files(scorer, "data*.root", columns=["event"])      # doctest: +SKIP
    >>> dask.compute(scores)                                               # doctest: +SKIP
    """
    if steps_per_file < 1:
        raise ConfigError(f"a file cannot be read in {steps_per_file} steps; ask for 1 or more")
    for name in {"score", "spread"} & set(columns):
        raise ConfigError(
            f"a column cannot be called {name!r}, which is what the scores are called"
        )
    scorer.check_spread(spread)
    delayed = _dask().delayed(pure=True)
    model = _model(scorer)
    score, join = delayed(_score_step), delayed(_join)
    lazy = {}
    for name in expand(files):
        steps = [
            score(model, name, tree, tuple(columns), step, steps_per_file, spread)
            for step in range(steps_per_file)
        ]
        lazy[name] = join(steps) if steps_per_file > 1 else steps[0]
    return lazy


def score_partitions(scorer: "Scorer", events: Any, spread: bool = False) -> Any:
    """Score a dask-awkward array; this is what `scorer(events)` does with one.

    Nothing is read. When it is computed, the columns that the scorer needs are read, and no others.

    Parameters
    ----------
    scorer
        The trained model.
    events
        A dask-awkward array of events.
    spread
        As in `scorer(events, spread=True)`.

    Returns
    -------
    dask_awkward.Array
        As many partitions, each `n * float32` or a record of those.
    """
    import dask_awkward

    return dask_awkward.map_partitions(
        _call,
        _model(scorer),
        events,
        spread,
        meta=scorer(events._meta, spread),
        output_divisions=1,
        label="score",
    )


def _dask() -> Any:
    try:
        import dask
    except ImportError:
        raise MissingExtraError("dask", "dask", "scoring on Dask") from None
    return dask


def _model(scorer: "Scorer") -> Any:
    """Make a task of a scorer, so that it is sent on its own, not with each of the others.

    Other than scattered data, it can be made again if the workers that hold it die.
    """
    return _dask().delayed(_same)(scorer, dask_key_name=f"scorer-{scorer.identity}")


def _same(scorer: "Scorer") -> "Scorer":
    return scorer


def _call(scorer: "Scorer", events: ak.Array, spread: bool) -> ak.Array:
    return scorer(events, spread)


def _score_step(
    scorer: "Scorer",
    name: str,
    tree: str | None,
    columns: tuple[str, ...],
    step: int,
    steps: int,
    spread: bool,
) -> ak.Array:
    """Score one of several equal parts of the events of a file."""
    with open_tree(name, tree) as opened:
        try:
            paths = scorer.paths(opened.fields, *columns)
        except DataError as error:
            raise FileError(str(error)) from error
        first, end = (opened.n_event * k // steps for k in (step, step + 1))
        parts = []
        for start in range(first, end, CHUNK_EVENTS) or [first]:
            events = opened.read(paths, start, min(start + CHUNK_EVENTS, end))
            read = Columns(events, opened.fields)
            scores = scorer.task.as_array(scorer.score(read, start, spread), spread)
            found = (
                {"score": scores.score, "spread": scores.spread} if spread else {"score": scores}
            )
            others = {text: event_values(text, read) for text in columns}
            parts.append(ak.zip({**found, **others}, depth_limit=1))
        return _join(parts)


def _join(parts: Sequence[ak.Array]) -> ak.Array:
    return ak.concatenate(parts) if len(parts) > 1 else parts[0]
