"""Progress bars, in a terminal and in a notebook."""

import warnings

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


@pytest.mark.parametrize("widgets", [True, False])
def test_in_a_notebook(monkeypatch, capsys, widgets):
    """The console shows itself by IPython there, whatever the stream is."""
    pytest.importorskip("IPython")
    shown = []
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setattr(jupyter, "display", lambda _segments, text: shown.append(text))
    if not widgets:
        monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rich recommends ipywidgets
        with files_bar("labelling", 1) as advance:
            advance(7)
    out, err = capsys.readouterr()
    assert shown
    assert (out, err) == ("", "")
