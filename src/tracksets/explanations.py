"""A scorer and events in; what each track contributes to the score of its event out.

`change` is the score minus the score that the event has without this track, exactly. `gradient` is
the gradient of the score times the distance of the track's features from their means, an
approximation of first order for what features other than the average ones do (gradient times input:
Shrikumar et al., arXiv:1605.01713; Sundararajan, Taly, Yan, arXiv:1703.01365, say what it lacks).
Both are in the unit of the score.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal, get_args

import awkward as ak
import numpy as np
from jaxtyping import Float

from tracksets.blocks import pack_inputs
from tracksets.compiling import compiled
from tracksets.errors import ConfigError, DataError, near_misses
from tracksets.features import JaggedInputs, kept_tracks
from tracksets.fields import Columns
from tracksets.jagged import Axis
from tracksets.leaving_out import can_leave_out, gradients, without_each
from tracksets.members import shares
from tracksets.scorer import Scorer

__all__ = ("Kind", "contributions", "explain_columns", "explain_inputs")

Kind = Literal["change", "gradient"]
Explained = dict[str, Float[np.ndarray, "track score"]]

_WINDOW_TRACKS = 2**18


def contributions(scorer: Scorer, events: ak.Array, kind: Kind = "change") -> ak.Array:
    """Explain the scores of events; see `Scorer.contributions`."""
    if kind not in get_args(Kind):
        raise ConfigError(f"no contributions {kind!r}: {near_misses(str(kind), get_args(Kind))}")
    if not isinstance(events, ak.Array) or ak.backend(events) == "typetracer":
        raise DataError(
            f"events must be an awkward array with data, not {type(events).__name__}; of a lazy "
            "one, compute it first"
        )
    if len(events) == 0 and not ak.fields(events):
        nothing = np.empty((0, scorer.task.outputs), np.float32)
        explained = {name: (Axis(np.zeros(0, np.int64)), nothing) for name in scorer.inputs.widths}
    else:
        explained = explain_columns(scorer, Columns(events), kind)
    fields = {name: as_jagged(scorer, *each) for name, each in explained.items()}
    return fields.popitem()[1] if len(fields) == 1 else ak.zip(fields, depth_limit=1)


def as_jagged(scorer: Scorer, axis: Axis, values: Float[np.ndarray, "track score"]) -> ak.Array:
    """Share out contributions: `n * var * float32`, or a record by class within."""
    names = scorer.task.score_names
    columns = [np.ascontiguousarray(each) for each in values.T]
    flat = ak.zip(dict(zip(names, columns, strict=True))) if names else ak.Array(columns[0])
    return ak.unflatten(flat, axis.counts)


def explain_columns(
    scorer: Scorer, columns: Columns, kind: Kind, first_event: int = 0
) -> dict[str, tuple[Axis, Float[np.ndarray, "track score"]]]:
    """Explain columns that are looked up already.

    Parameters
    ----------
    scorer
        Its scores are explained.
    columns
        Of the events.
    kind
        As in `Scorer.contributions`.
    first_event
        Number of the first one in its source, for messages.

    Returns
    -------
    dict
        By collection: how all tracks are shared out, and their contributions, shape
        (n_track, n_score); 0 for tracks that the network does not see.
    """
    counts: dict[str, list[np.ndarray]] = {name: [] for name in scorer.inputs.widths}
    values: dict[str, list[np.ndarray]] = {name: [] for name in counts}
    paths = scorer.paths(columns.fields)
    for start, stop in columns.windows(paths, _WINDOW_TRACKS):
        window = columns.window(start, stop)
        kept = kept_tracks(window, scorer.inputs)
        [jagged] = scorer.flatten(window, first_event + start)
        for name, found in explain_inputs(scorer, jagged, kind).items():
            axis, mask = kept.get(name, (jagged.axes[name], slice(None)))
            everyone = np.zeros((axis.n_track, found.shape[1]), np.float32)
            everyone[mask] = found
            counts[name].append(axis.counts)
            values[name].append(everyone)
    return {
        name: (Axis(np.concatenate(counts[name])), np.concatenate(values[name])) for name in counts
    }


def explain_inputs(scorer: Scorer, jagged: JaggedInputs, kind: Kind = "change") -> Explained:
    """Explain flat inputs; by collection, shape (n_track, n_score)."""
    if scorer.n_member > 1:
        return _by_members(scorer, jagged, kind)
    if type(scorer) is not Scorer:
        if kind == "gradient":
            raise ConfigError(f"a {type(scorer).__name__} has no gradient; use kind='change'")
        return leave_out_one_by_one(scorer, jagged)
    if kind == "gradient":
        return _by_gradient(scorer, jagged)
    if can_leave_out(scorer.architecture):
        return _by_pooling(scorer, jagged)
    return leave_out_one_by_one(scorer, jagged)


def _by_members(scorer: Scorer, jagged: JaggedInputs, kind: Kind) -> Explained:
    """Explain a mean of several models by the mean of what explains each."""
    if scorer.calibration is not None:
        if kind == "gradient":
            raise ConfigError("a calibrated mean of several models has no gradient; use 'change'")
        return leave_out_one_by_one(scorer, jagged)
    nothing = (scorer.task.outputs,)
    found = {n: np.zeros((axis.n_track, *nothing), np.float32) for n, axis in jagged.axes.items()}
    for events, chosen in shares(jagged, scorer.n_member, scorer.folds):
        some = jagged.take(events)
        each = [explain_inputs(scorer.members[i], some, kind) for i in chosen]
        for name, axis in jagged.axes.items():
            mean = np.mean([one[name] for one in each], axis=0, dtype=np.float64)
            found[name][np.isin(axis.event, events)] = mean
    return found


def leave_out_one_by_one(scorer: Scorer, jagged: JaggedInputs) -> Explained:
    """Score every event without each of its tracks, whatever the network is.

    An event of n tracks costs as much as n events of n - 1 tracks.
    """
    whole = scorer.score_inputs(jagged)
    changes = {}
    for name, axis in jagged.axes.items():
        lacking = scorer.score_parts(_lacking(jagged, name))
        changes[name] = _difference(whole[axis.event], lacking)
    return changes


def _lacking(jagged: JaggedInputs, name: str) -> Iterator[JaggedInputs]:
    """Make for each track of a collection the event that lacks it, in parts of bounded size."""
    axis = jagged.axes[name]
    size = np.sum([each.counts for each in jagged.axes.values()], axis=0)[axis.event]
    edges = np.flatnonzero(np.diff(np.cumsum(size) // _WINDOW_TRACKS)) + 1
    for tracks in np.split(np.arange(axis.n_track), edges):
        owners = axis.event[tracks]
        copies = jagged.take(owners)
        keep = np.ones(len(copies.tracks[name]), bool)
        keep[copies.axes[name].offsets[:-1] + tracks - axis.offsets[owners]] = False
        yield replace(
            copies,
            counts={**copies.counts, name: copies.counts[name] - 1},
            tracks={**copies.tracks, name: copies.tracks[name][keep]},
        )


def _by_pooling(scorer: Scorer, jagged: JaggedInputs) -> Explained:
    function = without_each(scorer.architecture)

    def change(state: Any, block: Any) -> Explained:
        outputs, lacking = function(state, block)
        whole = scorer.link(np.asarray(outputs))
        return {
            name: _difference(
                np.concatenate([whole, whole[:1]])[block.rows[name]], scorer.link(np.asarray(each))
            )
            for name, each in lacking.items()
        }

    return _by_block(scorer, jagged, change)


def _by_gradient(scorer: Scorer, jagged: JaggedInputs) -> Explained:
    function = gradients(scorer.architecture, scorer.task, scorer.calibration)
    return _by_block(scorer, jagged, function)


def _by_block(
    scorer: Scorer, jagged: JaggedInputs, function: Callable[[Any, Any], Any]
) -> Explained:
    """Join what a function says of the tracks in use of each block."""
    state = compiled(scorer.architecture).to_state(scorer.arrays)
    nothing = np.empty((0, scorer.task.outputs), np.float32)
    parts: dict[str, list[np.ndarray]] = {name: [nothing] for name in jagged.tracks}
    for block in pack_inputs(jagged, scorer.shape):
        for name, each in function(state, block).items():
            parts[name].append(np.asarray(each)[: int(block.n_track[name])])
    return {name: np.concatenate(each) for name, each in parts.items()}


def _difference(
    whole: Float[np.ndarray, "track score"], lacking: Float[np.ndarray, "track score"]
) -> Float[np.ndarray, "track score"]:
    change: np.ndarray = whole.astype(np.float64) - lacking
    return change.astype(np.float32)
