import numpy as np
import pytest

from tracksets.bands import Band
from tracksets.metrics import roc
from tracksets.plots import experiment_label, plot_history, plot_roc

HISTORY = [{"epoch": 1.0, "loss": 1.0}, {"epoch": 2.0, "loss": 0.5}]


def test_experiment_label(tmp_path):
    """It stands on every picture within, and on none after."""
    plain = plot_history(HISTORY, tmp_path / "a.png").read_bytes()
    with experiment_label("LHCb $_{ work in progress"):
        labelled = plot_history(HISTORY, tmp_path / "b.png").read_bytes()
    assert labelled != plain
    with pytest.raises(RuntimeError), experiment_label("x"):
        raise RuntimeError
    assert plot_history(HISTORY, tmp_path / "c.png").read_bytes() == plain


def test_what_is_added_to_a_picture(tmp_path):
    """The best epoch, and the band of a curve."""
    plain = plot_history(HISTORY, tmp_path / "a.png").read_bytes()
    assert plot_history(HISTORY, tmp_path / "b.png", 2).read_bytes() != plain
    curves = {"s": roc([0, 1, 1], [0.1, 0.2, 0.05])}
    at = np.asarray([0.1, 1.0])
    bands = {"s": Band(at, np.asarray([0.1, 0.5]), np.asarray([0.05, 0.3]), at)}
    plain = plot_roc(curves, tmp_path / "c.png").read_bytes()
    assert plot_roc(curves, tmp_path / "d.png", bands).read_bytes() != plain
    assert (tmp_path / "d.pdf").read_bytes().startswith(b"%PDF")
