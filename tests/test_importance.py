"""Which features and tracks matter, where it is known."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import BINARY, make_events, make_folds, make_scorer, with_numbers

from tracksets.explanations import explain_inputs
from tracksets.features import jagged_inputs
from tracksets.importance import important_features, important_tracks, names_of
from tracksets.metrics import mean_auc
from tracksets.targets import Task

REGRESSION = Task(kind="regression", names=("a", "b"), shift=(1.0, 0.0), scale=(3.0, 2.0))


def blind(scorer, *seen):
    """Let the network see some features of the tracks only."""
    kernel = scorer.arrays["phi.Track.layers.0.kernel"].copy()
    kernel[[i for i in range(len(kernel)) if i not in seen]] = 0
    arrays = {**scorer.arrays, "phi.Track.layers.0.kernel": kernel}
    return replace(scorer, arrays=arrays)


@pytest.mark.parametrize("task", [BINARY, REGRESSION])
def test_what_is_not_seen_does_not_matter(task):
    scorer = blind(make_scorer(task), 0, 1)
    jagged = jagged_inputs(make_events(200, seed=1), scorer.inputs)
    random = np.random.default_rng(0)
    weights = random.normal(1, 1, 200)
    scores = scorer.score_inputs(jagged)
    targets = scores + 0.1 if task is REGRESSION else scores[:, 0] > np.median(scores)
    found = important_features(scorer, jagged, targets, weights)
    assert [each.loss for each in found] == sorted((each.loss for each in found), reverse=True)
    names = names_of(scorer)
    assert {each[:2] for each in found} == {(k, v) for k, each in names.items() for v in each}
    lost = {each[:2]: each.loss for each in found}
    assert max(lost["Track", name] for name in names["Track"][:2]) > 1e-4
    assert all(lost["Track", name] == 0 for name in names["Track"][2:])


def test_the_loss_is_that_of_the_area():
    scorer = make_scorer()
    jagged = jagged_inputs(make_events(100, seed=1), scorer.inputs)
    targets = np.random.default_rng(1).integers(0, 2, 100)
    found = {
        each[:2]: each.loss for each in important_features(scorer, jagged, targets, np.ones(100))
    }
    random = np.random.default_rng(0)
    matrix = jagged.tracks["Track"].copy()
    first = next(iter(scorer.inputs.collections))
    matrix = jagged.tracks[first].copy()
    matrix[:, 0] = random.permutation(matrix[:, 0])
    changed = replace(jagged, tracks={**jagged.tracks, first: matrix})
    areas = [
        mean_auc(targets, scorer.score_inputs(each), np.ones(100)) for each in (jagged, changed)
    ]
    assert found[first, names_of(scorer)[first][0]] == pytest.approx(areas[0] - areas[1])


def test_tracks_that_change_most():
    scorer = make_folds(BINARY, 3, 2)
    events = with_numbers(make_events(50, seed=1))
    jagged = jagged_inputs(events, scorer.inputs, fold=scorer.fold_expression)
    found = important_tracks(scorer, jagged, 5)
    every = np.concatenate([each[:, 0] for each in explain_inputs(scorer, jagged).values()])
    largest = every[np.argsort(-np.abs(every))[:5]]
    np.testing.assert_allclose([each["change"] for each in found], largest)
    top = found[0]
    row = [top[name] for name in names_of(scorer)[top["collection"]]]
    assert row in jagged.tracks[top["collection"]].tolist()


def test_no_tracks():
    scorer = make_scorer()
    jagged = jagged_inputs(make_events(1, mean=0), scorer.inputs)
    assert important_tracks(scorer, jagged.slice(0, 0)) == []
