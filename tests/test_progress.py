"""Progress bars, in a terminal and in a notebook."""

import io
import re

import pytest
import rich.console
from rich import jupyter

from tracksets.callbacks import Step
from tracksets.progress import Pace, epochs_bar, files_bar

ENTRY = {
    "epoch": 1.0,
    "loss": 0.5,
    "validation_loss": 0.625,
    "validation_auc": 0.75,
    "learning_rate": 1e-3,
    "seconds": 60.0,
    "events_per_second": 12345.0,
}


def step(number, epoch=1, events=100, loss=0.5):
    return Step(number, epoch, events, loss, 1e-3)


def test_nothing_is_shown_on_request(capsys):
    with files_bar("labelling", 2, show=False) as advance:
        advance(5)
    with epochs_bar(1, 100, show=False) as bar:
        bar.on_step(step(1))
        bar.on_epoch(ENTRY)
    assert capsys.readouterr() == ("", "")


def test_pace():
    """Ten epochs of a thousand events; a step of 100 takes two seconds."""
    pace = Pace(10, 1000)
    assert (pace.left, str(pace)) == (None, "compiling")
    pace.on_step(step(1), 100.0)  # whenever it was compiled
    assert pace.left is None
    pace.on_step(step(2), 102.0)
    pace.on_step(step(3), 104.0)
    assert pace.per_second == 50
    assert pace.done == pytest.approx(0.3)
    assert pace.left == pytest.approx(9.7 * 20)
    assert str(pace) == "50 events/s 3:14 left"
    # With compiling and validation, the first epoch takes longer than what follows.
    pace.on_epoch({**ENTRY, "seconds": 50.0, "events_per_second": 40.0})
    assert pace.per_second == 40
    assert pace.left == 9 * 50
    for seconds in (20.0, 22.0):
        pace.on_epoch({**ENTRY, "seconds": seconds})
    assert pace.left == 7 * 21
    pace.on_step(step(31, 4, 500), 300.0)
    assert pace.done == 3.5
    assert pace.left == 6.5 * 21
    pace.on_step(step(32, 4, 500), 300.0)  # on a clock that is coarse
    pace.on_step(step(33, 4, 500), 301.0)  # more than there were said to be
    assert pace.done == 4


def test_a_line_per_epoch_in_a_file(capsys):
    with epochs_bar(3, 1000) as bar:
        bar.on_step(step(1))
        assert capsys.readouterr().err == ""
        bar.on_epoch(ENTRY)
        out, err = capsys.readouterr()
        bar.on_epoch({key: ENTRY[key] for key in ENTRY if "validation" not in key})
    assert out == ""
    assert err == ("epoch 1/3 loss 0.5 val 0.625 AUC 0.75 rate 0.001 12,345 events/s 2:00 left\n")
    assert capsys.readouterr().err.startswith("epoch 1/3 loss 0.5 rate 0.001")
    with epochs_bar(3, 1000, name="fold 2") as bar:
        bar.on_epoch(ENTRY)
    assert capsys.readouterr().err.startswith("fold 2, epoch 1/3 loss")


@pytest.mark.parametrize("width", [80, 150])
def test_in_a_terminal(monkeypatch, width):
    """The bar changes within an epoch, but not with every one of many steps."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal, now = Terminal(), [0.0]
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("tracksets.progress.time.monotonic", lambda: now[0])
    drawn = []
    with epochs_bar(2, 1000) as bar:
        show = bar._show
        monkeypatch.setattr(bar, "_show", lambda *what: (drawn.append(what), show(*what)))
        for i in range(100):  # a step of 10 events every 10 ms
            now[0] += 0.01
            bar.on_step(step(i + 1, events=10, loss=0.25 if i < 50 else 0.75))
        assert 9 <= len(drawn) <= 11
        assert "loss 0.25" in drawn[2][1]
        assert "1,000 events/s" in drawn[-1][1]
        assert "val" not in drawn[-1][1]
        bar.on_epoch(ENTRY)
        now[0] += 1
        bar.on_step(step(101, 2, 500, 0.1))
        assert drawn[-1][0] == 1.5
        # Of the present epoch the loss, of the last one what was validated.
        assert drawn[-1][1].startswith("loss 0.1 val 0.625 AUC 0.75 12,345")
        bar.on_epoch({**ENTRY, "epoch": 2.0})
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "compiling" in text
    last = [line for line in re.split(r"[\r\n]+", text) if line.strip()][-1]
    assert last.startswith("epoch 2/2 ")
    assert "12,345 events/s 0:00 left" in last


def test_files(capsys):
    with files_bar("labelling", 2) as advance:
        for n in (5, 1200):
            advance(n)
    out, err = capsys.readouterr()
    assert out == ""
    for each in ("labelling", "2/2", "1,205 events"):
        assert each in err


def test_in_a_notebook(monkeypatch, capsys):
    """It is drawn by IPython there, although it is meant for the standard error stream."""
    pytest.importorskip("IPython")
    pytest.importorskip("ipywidgets")
    shown = []
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setattr(
        jupyter, "display", lambda segments, text: shown.append(text + str(list(segments)))
    )
    with files_bar("labelling", 1) as advance:
        advance(7)
    assert "labelling" in "".join(shown)
    assert "1/1" in "".join(shown)
    assert capsys.readouterr() == ("", "")
