"""What TensorBoard will find."""

import struct
import sys

import pytest

from tracksets.callbacks import Step
from tracksets.errors import FileError, MissingExtraError
from tracksets.integrations.tensorboard import TensorBoard

ENTRY = {"epoch": 1.0, "loss": 0.5, "validation_auc": 0.75, "step": 2.0, "seconds": 3.0}


def scalars(folder):
    """Read event files as the format says: length, its checksum, content, its checksum."""
    crc32c = pytest.importorskip("tensorboardX.crc32c").crc32c
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")

    def masked(content):
        crc = crc32c(content)
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            n, check = struct.unpack_from("<QI", content, at)
            assert check == masked(content[at : at + 8])
            data = content[at + 12 : at + 12 + n]
            [check] = struct.unpack_from("<I", content, at + 12 + n)
            assert check == masked(data)
            event = event_pb2.Event.FromString(data)
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
            at += 16 + n
    return found


@pytest.fixture
def written():
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")


def test_all_is_written(written, tmp_path):
    with TensorBoard(tmp_path / "run") as board:
        board.on_step(Step(1, 1, 100, 0.75, 1e-3))
        board.on_step(Step(2, 1, 100, 0.25, 0.5))
        board.on_epoch(ENTRY)
        board.on_step(Step(3, 2, 100, 0.125, 0.25))
    assert scalars(tmp_path / "run") == {
        ("step/loss", 1): 0.75,
        ("step/learning_rate", 1): pytest.approx(1e-3),
        ("step/loss", 2): 0.25,
        ("step/learning_rate", 2): 0.5,
        ("step/loss", 3): 0.125,
        ("step/learning_rate", 3): 0.25,
        ("epoch/loss", 1): 0.5,
        ("epoch/validation_auc", 1): 0.75,
        ("epoch/step", 1): 2.0,
        ("epoch/seconds", 1): 3.0,
    }


def test_a_folder_that_cannot_be(written, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"cannot write to the folder .*file"):
        TensorBoard(tmp_path / "file").__enter__()


def test_without_the_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    message = (
        r"TensorBoard needs the package 'tensorboardX'.*pip install 'tracksets\[tensorboard\]'"
    )
    with pytest.raises(MissingExtraError, match=message):
        TensorBoard(tmp_path)
