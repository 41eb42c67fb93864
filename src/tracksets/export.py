"""A scorer in, a file out that scores without tracksets: ONNX or StableHLO, checked when written.

Expressions, selections and fill values stay outside: the file takes numbers, and its metadata says
which ones, in order.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from tracksets._version import __version__
from tracksets.atomic import appearing, refuse_existing
from tracksets.errors import ConfigError, DataError, ModelError
from tracksets.features import JaggedInputs, jagged_inputs
from tracksets.fields import Columns
from tracksets.inputs import Collection, Inputs, feature_names, paths_of
from tracksets.reading import open_tree
from tracksets.scorer import Scorer, loaded

_Open = Callable[[Path], Callable[[JaggedInputs], NDArray[np.float32]]]

__all__ = ("Exported", "export", "metadata")

METADATA_VERSION = 1
MOST_EVENTS = 10_000
"""Events of a file that the check reads."""

_TOLERANCE = 1e-4
_BATCH = 256


@dataclass(frozen=True)
class Exported:
    """What was written, and how well it agrees with the scorer.

    Attributes
    ----------
    outputs
        The files.
    difference
        Largest relative difference of a score from the scorer's.
    events
        Events that were compared.
    source
        Where they are from; None if they were made up.
    """

    outputs: tuple[Path, ...]
    difference: float
    events: int
    source: str | None


def export(
    model: Scorer | str | os.PathLike[str],
    output: str | os.PathLike[str],
    check: str | os.PathLike[str] | None = None,
    *,
    force: bool = False,
) -> Exported:
    """Write a scorer as a file that scores without tracksets, and check its scores.

    Parameters
    ----------
    model
        A scorer, or a model file.
    output
        `model.onnx`, or `model.stablehlo`, beside which `model.stablehlo.json` has the metadata.
    check
        `file.root` or `file.root:Events`: real events to check with. Without them, the check uses
        random features, spread as those of the training events were.
    force
        Whether files that exist are replaced.

    Raises
    ------
    ConfigError
        If the name of the output ends in something else.
    ModelError
        If the scorer has something that cannot be exported, or the file gives other scores. Nothing
        is written then.
    FileError
        If a file cannot be read or written.
    MissingExtraError
        If onnx, onnxruntime or flatbuffers is not installed.
    """
    scorer = loaded(model).on("jax")
    path = Path(output)
    write, open_, beside = _format(path)
    for each in (path, beside):
        if each:
            refuse_existing(each, force=force)  # rather now than after the work
    _check_exportable(scorer)
    batches = list(_random_batches(scorer) if check is None else _file_batches(scorer, check))
    about = json.dumps(metadata(scorer))
    content = write(scorer, about)
    with ExitStack() as stack:
        if beside:
            stack.enter_context(appearing(beside, force=force)).write_text(about, encoding="utf-8")
        new = stack.enter_context(appearing(path, force=force))
        new.write_bytes(content)
        score = open_(new)
        expected = np.concatenate([scorer.score_inputs(batch) for batch in batches])
        found = np.concatenate([score(batch) for batch in batches])
        difference = _difference(found, expected, scorer)
        if not difference < _TOLERANCE:
            raise ModelError(
                f"{path} would give other scores than the model: the largest relative difference "
                f"on {len(expected)} events is {difference:.1e}, expected less than {_TOLERANCE}"
            )
    outputs = (path, beside) if beside else (path,)
    return Exported(outputs, difference, len(expected), None if check is None else os.fspath(check))


def _format(path: Path) -> tuple[Callable[[Scorer, str], bytes], _Open, Path | None]:
    """Return what writes a file, what opens it, and where its metadata goes if not into it."""
    if path.suffix == ".onnx":
        from tracksets.onnx_export import onnx_bytes, onnx_scores

        return onnx_bytes, onnx_scores, None
    if path.suffix == ".stablehlo":
        from tracksets.stablehlo import stablehlo_bytes, stablehlo_scores

        beside = path.with_name(f"{path.name}.json")
        return lambda scorer, _: stablehlo_bytes(scorer), stablehlo_scores, beside
    raise ConfigError(f"cannot export to {path}: expected a name that ends in .onnx or .stablehlo")


def metadata(scorer: Scorer) -> dict[str, Any]:
    """Describe what an exported scorer is fed with and what it gives; plain JSON.

    Examples
    --------
    >>> metadata(load("b_events.safetensors"))["collections"][0]["select"]    # doctest: +SKIP
    'pt > 0.5'
    """
    inputs, task = scorer.inputs, scorer.task
    return {
        "metadata_version": METADATA_VERSION,
        "tracksets_version": __version__,
        "hash": scorer.hash,
        "collections": [
            {
                "name": name,
                "tracks": f"tracks.{name}",
                "counts": f"counts.{name}",
                **_features(each, each.features),
                **each.model_dump(
                    mode="json", include={"select", "sort", "first", "prefix", "rename"}
                ),
            }
            for name, each in inputs.collections.items()
        ],
        "event": _features(inputs, inputs.event),
        "task": task.kind,
        "classes": [] if task.kind == "regression" else list(task.names),
        # The one score of two classes is the probability of the last.
        "scores": list(task.score_names or task.names[-1:]),
        "units": list(task.units),
        "calibration": scorer.calibration.method if scorer.calibration else None,
    }


def _features(config: Collection | Inputs, features: tuple[str, ...]) -> dict[str, Any]:
    dumped = config.model_dump(mode="json", include={"fill", "clip"})
    return {"features": feature_names(features), **dumped}


def _check_exportable(scorer: Scorer) -> None:
    """Refuse what neither format knows, by its name, rather than write half a scorer."""
    if type(scorer) is not Scorer:
        raise ModelError(f"cannot export a {type(scorer).__name__}, only a plain Scorer")
    if scorer.n_member > 1:
        kind = "with folds" if scorer.folds else "that is an ensemble"
        raise ModelError(
            f"cannot export a model {kind}, of {scorer.n_member} models. Each of them can be "
            "exported on its own, in Python: export(scorer.members[0], ...)"
        )
    if scorer.inputs.vary:
        raise ModelError(f"cannot export variations of inputs: {'; '.join(scorer.inputs.vary)}")
    known = {"phi", "rho", "pool", "activation", "residual", "rounds", "weights"}
    changed = {
        name: getattr(scorer.model, name)
        for name, field in type(scorer.model).model_fields.items()
        if name not in known and getattr(scorer.model, name) != field.default
    }
    if changed:
        settings = ", ".join(f"{name} = {value!r}" for name, value in changed.items())
        raise ModelError(f"cannot export a model with {settings}")


def _difference(
    found: Float[np.ndarray, "event score"],
    expected: Float[np.ndarray, "event score"],
    scorer: Scorer,
) -> float:
    """Return the largest difference, relative to the score; near 0, to the spread of a target."""
    task = scorer.task
    smallest = np.abs(task.scale) if task.kind == "regression" else np.finfo(np.float32).tiny
    size = np.maximum(np.abs(expected.astype(np.float64)), smallest)
    return float((np.abs(found - expected.astype(np.float64)) / size).max())


def _file_batches(scorer: Scorer, name: str | os.PathLike[str]) -> Iterator[JaggedInputs]:
    with open_tree(name) as tree:
        paths = paths_of(scorer.inputs, tree.fields)
        n_event = min(tree.n_event, MOST_EVENTS)
        if not n_event:
            raise DataError(f"{tree.path}, tree {tree.name} has no events to check with")
        events = tree.read(paths, 0, n_event)
        jagged = jagged_inputs(Columns(events, tree.fields), scorer.inputs)
    for start in range(0, n_event, _BATCH):
        yield jagged.slice(start, min(start + _BATCH, n_event))


def _random_batches(scorer: Scorer) -> Iterator[JaggedInputs]:
    """Make up one batch of events as large as those of the training, one without any track."""
    random = np.random.default_rng(0)

    def normal(n: int, prefix: str) -> NDArray[np.float32]:
        shift, scale = scorer.arrays[f"{prefix}.shift"], scorer.arrays[f"{prefix}.scale"]
        values: NDArray[np.float64] = shift + random.normal(size=(n, len(shift))) / scale
        return values.astype(np.float32)

    counts, tracks = {}, {}
    for name, slots in scorer.shape.tracks.items():
        counts[name] = random.poisson(max(slots / scorer.shape.events, 1), _BATCH)
        counts[name][0] = 0
        tracks[name] = normal(int(counts[name].sum()), f"scaling.{name}")
    for name, column in scorer.architecture.weights:  # shares of an energy are not negative
        tracks[name][:, column] = np.abs(tracks[name][:, column])
    yield JaggedInputs(counts, tracks, normal(_BATCH, "event_scaling"))
