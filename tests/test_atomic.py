import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest
from helpers import unprivileged

from tracksets.atomic import appearing, discard
from tracksets.errors import ConfigError, FileError


def write(path: Path, error: type[BaseException] | BaseException | None = None) -> None:
    path.write_text("mine")
    if error is not None:
        raise error


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_appears_when_all_went_well(tmp_path):
    path = tmp_path / "new" / "folder" / "out.txt"
    with appearing(path) as temporary:
        assert temporary.parent == path.parent  # on the same file system, so that it can be moved
        temporary.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert names(path.parent) == ["out.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_has_the_permissions_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        with appearing(tmp_path / "out.txt") as temporary:
            temporary.write_text("")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("error", [ConfigError, KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("force", [False, True])
def test_leaves_nothing_behind_when_it_fails(tmp_path, error, force):
    if force:
        (tmp_path / "out.txt").write_text("old")
    with pytest.raises(error), appearing(tmp_path / "out.txt", force=force) as temporary:
        write(temporary, error)
    assert names(tmp_path) == (["out.txt"] if force else [])
    assert not force or (tmp_path / "out.txt").read_text() == "old"


@pytest.mark.parametrize("stage", ["body", "fsync", "replace"])
def test_a_full_disk_is_said(tmp_path, monkeypatch, stage):
    error = OSError(errno.ENOSPC, "No space left on device")

    def full(*_):
        raise error

    if stage != "body":
        monkeypatch.setattr(*((os, "fsync") if stage == "fsync" else (Path, "replace")), full)
    with (
        pytest.raises(FileError, match=r"cannot write .*out\.txt.*No space left"),
        appearing(tmp_path / "out.txt") as temporary,
    ):
        write(temporary, error if stage == "body" else None)
    assert names(tmp_path) == []


def test_existing(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(FileError, match=r"out\.txt exists already.*--force"), appearing(path):
        pytest.fail("refused too late")
    assert path.read_text() == "old"
    with appearing(path, force=True) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_what_came_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "out.txt"
    with pytest.raises(FileError, match="exists already"), appearing(path):
        write(path)
    assert path.read_text() == "mine"
    assert names(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_is_in_the_way(tmp_path, force):
    (tmp_path / "out").mkdir()
    with pytest.raises(FileError, match="is a folder"), appearing(tmp_path / "out", force=force):
        pytest.fail("refused too late")


def test_a_file_is_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FileError, match=r"cannot write to the folder .*file"),
        appearing(tmp_path / "file" / "out.txt"),
    ):
        pytest.fail("refused too late")


def test_read_only_folder():
    with unprivileged() as place:
        folder = place / "out"
        folder.mkdir(mode=0o500)
        with (
            pytest.raises(FileError, match=r"cannot write to the folder .*Permission denied"),
            appearing(folder / "out.txt"),
        ):
            pytest.fail("refused too late")
        assert names(folder) == []


def test_two_at_once(tmp_path):
    """The second is refused while the first one writes, and does not disturb it."""
    path = tmp_path / "out.txt"
    with appearing(path) as temporary:
        temporary.write_text("first")
        with (
            pytest.raises(FileError, match=r"another process is writing .*out\.txt"),
            appearing(path, force=True),
        ):
            pytest.fail("refused too late")
        discard(path)
        assert temporary.read_text() == "first"
    assert path.read_text() == "first"
    assert names(tmp_path) == ["out.txt"]


def test_the_temporary_file_of_another_process_is_left_alone(tmp_path, monkeypatch):
    """One that begins to write the same output between the last two steps."""
    path, replace = tmp_path / "out.txt", Path.replace

    def replace_and_let_another_begin(self, target):
        replace(self, target)
        self.write_text("of another process")

    monkeypatch.setattr(Path, "replace", replace_and_let_another_begin)
    with appearing(path) as temporary:
        temporary.write_text("mine")
    assert path.read_text() == "mine"
    assert temporary.read_text() == "of another process"


def test_what_a_dead_process_left(tmp_path):
    left = tmp_path / ".out.partial.txt"
    left.write_text("much longer than what comes")
    with appearing(tmp_path / "out.txt") as temporary:
        assert temporary == left
        with temporary.open("r+") as file:
            file.write("short")
    assert (tmp_path / "out.txt").read_text() == "short"
    left.write_text("half")
    discard(tmp_path / "out.txt")
    discard(tmp_path / "nothing.txt")
    assert names(tmp_path) == ["out.txt"]


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with appearing(tmp_path / "out.txt") as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("content")
    assert names(tmp_path) == ["out.txt"]
