"""Distributions of scores, compared; the numbers are tested with the reports."""

import numpy as np
from helpers import CLASSES

from tracksets.report import Report
from tracksets.shapes import Scored, compare


def scored(n, seed, classes):
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(3), n).astype(np.float32)
    return Scored(scores, random.choice(classes, n), np.ones(n))


def test_what_is_compared(tmp_path):
    """Every score for every class that both samples have; without any, there is no picture."""
    report = Report("Title")
    pair = scored(90, 1, [0, 1, 2]), scored(60, 2, [0, 2])
    tests, outputs = compare(report, tmp_path, "x", CLASSES, pair, "other")
    assert {label: list(each) for label, each in tests.items()} == {
        f"score for {name}": ["b", "light"] for name in ("b", "c", "light")
    }
    counts = tests["score for b"]["b"]
    assert counts["effective_training_events"] == (pair[0].truth == 0).sum()
    assert counts["effective_other_events"] == (pair[1].truth == 0).sum()
    assert [path.name for path in outputs] == ["x_0.png", "x_1.png", "x_2.png"]
    page = report.write(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<img") == 3
    assert page.count("<td>score for c</td>") == 2

    nothing = compare(report, tmp_path, "y", CLASSES, (pair[0], scored(0, 1, [0])), "other")
    assert nothing == ({}, [])
