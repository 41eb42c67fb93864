import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import uproot
from rootfiles import different_branches

from tracksets import demo
from tracksets.errors import FileError
from tracksets.scorer import load


def png_size(path: Path) -> tuple[int, int]:
    """Check every block of a PNG file, and return the width and height of the picture."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at, kinds = 8, []
    while at < len(content):
        n, kind = struct.unpack(">I4s", content[at : at + 8])
        data, [checksum] = (
            content[at + 4 : at + 8 + n],
            struct.unpack(">I", content[at + 8 + n :][:4]),
        )
        assert zlib.crc32(data) == checksum
        kinds.append(kind)
        at += 12 + n
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def check(folder: Path, lines: list[str], n_event: int, source: Path) -> float:
    """Check what a demo made and said; returns the area under the curve."""
    scorer = load(folder / "b_events.safetensors")
    with uproot.open(folder / "labelled" / "events.root") as new, uproot.open(source) as old:
        events = new["Events"].arrays()
        assert different_branches(old["Events"], new["Events"]) == []
    assert len(events) == n_event
    assert np.allclose(events.score, scorer(events), rtol=1e-5)
    plots = sorted((folder / "plots").glob("*.png"))
    assert {path.name for path in plots} >= {"calibration.png", "loss.png", "roc.png", "score.png"}
    assert f"plots    {folder / 'plots' / 'report.html'}" in lines
    for path in plots:
        assert min(png_size(path)) > 300
        assert any(str(path) in line for line in lines)
    [auc] = [float(m[1]) for line in lines if (m := re.match(r"test AUC ([\d.]+) on", line))]
    # The probability that a signal event has the higher score, pair by pair.
    signal = np.asarray(events.isSignal) == 1
    weight, score = np.asarray(events.genWeight, float), np.asarray(events.score)
    a, b = score[signal][:, None], score[~signal][None, :]
    w = weight[signal][:, None] * weight[~signal][None, :]
    assert auc == pytest.approx(
        ((a > b) + 0.5 * (a == b)).astype(float).ravel() @ w.ravel() / w.sum(), abs=1e-4
    )
    return auc


def test_demo(sample_data, tmp_path, monkeypatch):
    """A short one: smaller networks, two epochs. The second run replaces the first one."""
    data = tmp_path / "data"
    data.mkdir()
    for path in sample_data.glob("*"):
        (data / path.name).symlink_to(path)
    text = (sample_data / "train.toml").read_text()
    for old, new in (
        ("epochs = 30", "epochs = 2"),
        ("[128, 128, 128]", "[16]"),
        ("[128, 128]", "[8]"),
    ):
        assert old in text
        text = text.replace(old, new)
    (data / "train.toml").unlink()
    (data / "train.toml").write_text(text)
    monkeypatch.setattr(demo, "sample_data", lambda: data)
    first: list[str] = []
    demo.run(tmp_path / "out", first.append, progress=False)
    assert 0.5 < check(tmp_path / "out", first, 1500, data / "events.root") < 1
    again: list[str] = []
    demo.run(tmp_path / "out", again.append, progress=False)
    assert again[:-1] == first[:-1]  # all but the time


@pytest.mark.slow
def test_the_real_demo(sample_data, tmp_path):
    lines: list[str] = []
    demo.run(tmp_path, lines.append, progress=False)
    assert check(tmp_path, lines, 1500, sample_data / "events.root") > 0.85


def test_sample_data(sample_data, tmp_path, monkeypatch):
    assert demo.sample_data() == sample_data
    package = tmp_path / "site" / "lib" / "tracksets"
    package.mkdir(parents=True)
    monkeypatch.setattr(demo, "__file__", str(package / "demo.py"))
    with pytest.raises(FileError, match="the sample data is neither in .*tracksets nor in"):
        demo.sample_data()
    (package / "sample_data").mkdir()
    (package / "sample_data" / "events.root").touch()
    assert demo.sample_data() == package / "sample_data"
