"""Outputs that appear complete or not at all: written under a temporary name, then moved."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracksets.errors import FileError, TracksetsError

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
        If the file exists and `force` is false, or the folder cannot be written, or writing fails.
    """
    path = Path(path)
    refuse_existing(path, force=force)
    # Not tempfile's: its files are private, and the umask can't be asked for without changing it.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise FileError(f"cannot write to the folder {path.parent}: {error.strerror}") from error
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        refuse_existing(path, force=force)
        temporary.replace(path)
    except TracksetsError:
        raise
    except OSError as error:  # such as a full disk
        raise FileError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise FileError if there is something at `path` that must not be replaced."""
    if path.is_dir():
        raise FileError(f"{path} is a folder; expected the name of a file to write")
    if path.exists() and not force:
        raise FileError(f"{path} exists already; remove it, or replace it with --force")
