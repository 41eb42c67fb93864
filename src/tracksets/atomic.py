"""Outputs that appear complete or not at all: written under a temporary name, then moved."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tracksets.errors import FileError, TracksetsError

__all__ = ("appearing", "discard", "refuse_existing")


@contextmanager
def appearing(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside `path`, and move the file there when all went well.

    What a process that was killed has left behind is replaced; of two that write the same output
    at once, the second is refused.

    Parameters
    ----------
    path
        Where the output appears. Its folder is made if needed.
    force
        Whether a file that exists is replaced.

    Raises
    ------
    FileError
        If the file exists and `force` is false, if another process is writing it, if the folder
        cannot be written, or if writing fails.
    """
    path = Path(path)
    refuse_existing(path, force=force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, lock = _locked(path)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"cannot write to the folder {path.parent}: {error.strerror}") from error
    moved = False
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        refuse_existing(path, force=force)
        temporary.replace(path)
        moved = True
    except TracksetsError:
        raise
    except OSError as error:  # such as a full disk
        raise FileError(f"cannot write {path}: {error}") from error
    finally:
        if not moved:  # else, what has this name now is another process's
            temporary.unlink(missing_ok=True)
        os.close(lock)


def discard(path: str | os.PathLike[str]) -> None:
    """Remove what a process that died has left of an output, unless another one is writing it."""
    if not _temporary(Path(path)).exists():
        return
    with suppress(OSError):  # which FileError is
        temporary, lock = _locked(Path(path))
        temporary.unlink(missing_ok=True)
        os.close(lock)


def _temporary(path: Path) -> Path:
    # Not tempfile's: its files are private, and the umask can't be asked for without changing it.
    # The ending stays: by it, readers tell formats apart.
    return path.with_name(f".{path.stem}.partial{path.suffix}")


def _locked(path: Path) -> tuple[Path, int]:
    """Make an empty temporary file that no other process writes; the lock ends with the process."""
    temporary = _temporary(path)
    while True:
        lock = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise FileError(f"another process is writing {path} at this moment") from None
        except OSError:  # a file system without locks: a name that no one else has
            os.close(lock)
            temporary.unlink(missing_ok=True)
            temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
            return temporary, os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        # Meanwhile it may have been moved or removed by the process that had the lock.
        with suppress(FileNotFoundError):
            if temporary.stat().st_ino == os.fstat(lock).st_ino:
                os.truncate(lock, 0)
                return temporary, lock
        os.close(lock)


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise FileError if there is something at `path` that must not be replaced."""
    if path.is_dir():
        raise FileError(f"{path} is a folder; expected the name of a file to write")
    if path.exists() and not force:
        raise FileError(f"{path} exists already; remove it, or replace it with --force")
