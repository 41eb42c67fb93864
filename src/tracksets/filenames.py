"""What users call files in, file names out: patterns, trees behind a colon, near misses."""

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

from tracksets.errors import FileError, near_misses

__all__ = ("expand", "is_remote", "no_such_file", "split_name")

_SERVER = re.compile(r"[A-Za-z][\w+.-]*://[^/]*")


def split_name(name: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Split `file.root:Events` into file and tree; the tree is None if it is not said.

    >>> split_name("root://server//store/data.root:dir/Events")
    ('root://server//store/data.root', 'dir/Events')
    """
    text = os.fspath(name)
    # The colons before a URL's path belong to its scheme and port.
    server = _SERVER.match(text)
    start = server.end() if server else 0
    head, colon, tail = text[start:].rpartition(":")
    # Folders and files may have a colon in their names, too.
    if not colon or tail.endswith(".root") or glob.has_magic(tail) or Path(text).exists():
        return text, None
    return text[:start] + head, tail or None


def is_remote(path: str) -> bool:
    """Whether a path is a URL."""
    return "://" in path


def expand(names: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """Expand patterns into file names, each with its tree if one is said; in order, once each.

    Parameters
    ----------
    names
        One or several of `file.root`, `data*.root`, `data*.root:Events`.

    Raises
    ------
    FileError
        If there are no names, or one matches no file.
    """
    if isinstance(names, (str, os.PathLike)):
        names = [names]
    files: dict[str, None] = {}
    for name in names:
        path, tree = split_name(name)
        suffix = f":{tree}" if tree else ""
        if is_remote(path) or Path(path).exists():
            files[path + suffix] = None
            continue
        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207  # absolute patterns too
        if not matches:
            raise FileError(no_such_file(path))
        files.update(dict.fromkeys(match + suffix for match in matches))
    if not files:
        raise FileError("the list of files is empty")
    return list(files)


def no_such_file(path: str) -> str:
    """Say that there is no such file, and what there is in its folder."""
    folder = Path(path).parent
    what = f"no file matches {path}" if glob.has_magic(path) else f"no file {path}"
    if glob.has_magic(str(folder)):
        return what
    if not folder.is_dir():
        return f"{what}: there is no folder {folder}"
    listed = near_misses(Path(path).name, sorted(each.name for each in folder.iterdir()))
    return f"{what}; in the folder {folder}: {listed}"
