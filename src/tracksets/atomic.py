"""Outputs that appear complete or not at all: written under a temporary name, then moved."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracksets.errors import FileError

__all__ = ("appearing",)


@contextmanager
def appearing(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside `path`, and move the file there when all went well.

    Parameters
    ----------
    path
        Where the output appears. Its folder is made if needed.
    force
        Whether a file that exists is replaced.

    Raises
    ------
    FileError
        If the file exists and `force` is false, or the folder cannot be written.
    """
    path = Path(path)
    refuse_existing(path, force=force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(".partial", f".{path.name}.", path.parent)
    except OSError as error:
        raise FileError(f"cannot write to the folder {path.parent}: {error.strerror}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp's files are private
        refuse_existing(path, force=force)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise FileError if there is something at `path` that must not be replaced."""
    if path.is_dir():
        raise FileError(f"{path} is a folder; expected the name of a file to write")
    if path.exists() and not force:
        raise FileError(f"{path} exists already; remove it, or replace it with --force")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
