"""Progress bars, in a terminal and in a notebook."""

import pytest
import rich.console
from rich import jupyter

from tracksets.progress import epochs_bar, files_bar


def test_nothing_is_shown_on_request(capsys):
    with files_bar("labelling", 2, show=False) as advance:
        advance(5)
    with epochs_bar(1, show=False) as on_epoch:
        on_epoch({"loss": 1.0})
    assert capsys.readouterr() == ("", "")


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
