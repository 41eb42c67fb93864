"""The state of a training in, a folder from which it goes on out; and back. By orbax.

A checkpoint appears complete or not at all, and replaces the one before. It holds arrays and JSON,
nothing that could be executed. Of several processes, the first one writes it, reads it, and tells
the others.
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from numpy.typing import NDArray

from tracksets.errors import FileError
from tracksets.processes import from_first, is_first

__all__ = ("Checkpoints", "discard", "refuse_earlier")


class Checkpoints:
    """The checkpoints of one training.

    Parameters
    ----------
    folder
        Where they are; made if needed.
    fingerprint
        What decides the result of the training: that of another one is not gone on with.
    minutes
        How much time passes between two checkpoints.
    """

    def __init__(self, folder: Path, fingerprint: str, minutes: float) -> None:
        import orbax.checkpoint as ocp

        self.folder = folder.absolute()
        self.fingerprint = fingerprint
        self._args = ocp.args
        self._seconds = 60 * minutes
        self._last = time.monotonic()
        self._manager: Any = None
        if not is_first():
            return
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
        options = ocp.CheckpointManagerOptions(
            create=False,
            max_to_keep=1,
            cleanup_tmp_directories=True,
            multiprocessing_options=alone,
        )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(self.folder, options=options)
        except OSError as error:
            raise FileError(f"cannot write checkpoints to {self.folder}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._manager:
            self._manager.close()

    @property
    def due(self) -> bool:
        """Whether it is time for another one."""
        return self._manager is not None and time.monotonic() - self._last >= self._seconds

    def save(self, arrays: Any, progress: dict[str, Any]) -> None:
        """Write a checkpoint, in the background; the arrays must not change afterwards.

        Parameters
        ----------
        arrays
            A pytree of NumPy arrays.
        progress
            What JSON can say; its `step` names the checkpoint.
        """
        if not self._manager:
            return
        content = {"fingerprint": self.fingerprint, **progress}
        args = self._args
        self._manager.wait_until_finished()
        latest = self._manager.latest_step()
        self._manager.save(
            0 if latest is None else latest + 1,
            args=args.Composite(
                arrays=args.StandardSave(_named(arrays)), progress=args.JsonSave(content)
            ),
            force=True,
        )
        self._last = time.monotonic()

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """Read the latest checkpoint; None if there is none.

        Parameters
        ----------
        like
            Arrays of the same structure and shapes.

        Raises
        ------
        FileError
            If it is that of another training, or damaged.
        """
        found = self._read(like) if self._manager else None
        progress = json.loads(from_first(json.dumps(found and found[1]).encode()))
        return progress and (_from_first(found[0] if found else like), progress)

    def _read(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        self._manager.wait_until_finished()
        latest = self._manager.latest_step()
        if latest is None:
            return None
        args = self._args
        try:
            progress = self._manager.restore(
                latest, args=args.Composite(progress=args.JsonRestore())
            ).progress
            if progress.pop("fingerprint") != self.fingerprint:
                raise FileError(
                    f"the checkpoint in {self.folder} is that of another training: its data, "
                    "features, network or settings differ. Remove the folder to begin anew"
                )
            named = self._manager.restore(
                latest, args=args.Composite(arrays=args.StandardRestore(_named(like)))
            ).arrays
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise FileError(f"the checkpoint in {self.folder} is damaged: {error}") from error
        leaves, structure = jax.tree.flatten(like)
        names = _names(like)
        found = [
            np.asarray(named[name]) if leaf.size else leaf
            for name, leaf in zip(names, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, found), progress


def _names(tree: Any) -> list[str]:
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]


def _named(tree: Any) -> dict[str, NDArray[Any]]:
    """Name the arrays of a pytree by their places; orbax refuses those of size 0."""
    leaves = zip(_names(tree), jax.tree.leaves(tree), strict=True)
    return {name: np.asarray(leaf) for name, leaf in leaves if leaf.size}


def _from_first(tree: Any) -> Any:
    """Return the arrays of the first process; those of the others have the same shapes."""
    leaves, structure = jax.tree.flatten(tree)
    content = from_first(b"".join(leaf.tobytes() for leaf in leaves))
    parts = np.split(
        np.frombuffer(content, np.uint8), np.cumsum([leaf.nbytes for leaf in leaves])[:-1]
    )
    found = [
        np.frombuffer(part.tobytes(), leaf.dtype).reshape(leaf.shape)
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, found)


def refuse_earlier(folder: str | os.PathLike[str]) -> None:
    """Raise FileError if there are checkpoints of an earlier training in the folder."""
    path = Path(folder)
    if path.is_dir() and any(path.iterdir()):
        raise FileError(
            f"{path} has checkpoints of a training that did not end. Go on with it by --resume "
            "(resume=True), or begin anew with --force, or remove that folder"
        )


def discard(folder: str | os.PathLike[str]) -> None:
    """Remove a folder of checkpoints, if there is one."""
    if Path(folder).is_dir():
        shutil.rmtree(folder)
