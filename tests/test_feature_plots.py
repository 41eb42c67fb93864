import numpy as np
import pytest
from helpers import flat_inputs

from tracksets.feature_plots import plot_feature, values_by_class
from tracksets.training_plots import Weighted


def test_values_by_class():
    """Against a loop over events."""
    inputs = flat_inputs({"Track": [2, 0, 3, 1], "Jet": [1, 1, 0, 0]})
    classes, weights = np.asarray([0, 1, 1, 0]), np.asarray([1.0, -2.0, 0.5, 3.0])
    features = {"Track": ["pt", "eta"], "Jet": ["pt", "m"], "event": ["z"]}
    found = dict(values_by_class(inputs, features, classes, weights, ("b", "s")))
    assert list(found) == ["Track: pt", "Track: eta", "Jet: pt", "Jet: m", "event: z"]
    for i, name in enumerate(("b", "s")):
        values, expected = [], []
        for event in np.flatnonzero(classes == i):
            one = inputs.take(np.asarray([event]))
            values += list(one.tracks["Track"][:, 1])
            expected += [weights[event]] * len(one.tracks["Track"])
        np.testing.assert_array_equal(found["Track: eta"][name].values, values)
        np.testing.assert_array_equal(found["Track: eta"][name].weights, expected)
    assert list(found["Jet: pt"]) == ["b", "s"]
    np.testing.assert_array_equal(found["event: z"]["s"].weights, [-2.0, 0.5])


@pytest.mark.parametrize("what", ["usual", "constant", "negative", "nothing"])
def test_pictures(what, tmp_path):
    random = np.random.default_rng(1)
    values = np.full(50, 3.0) if what == "constant" else random.normal(size=50)
    one = Weighted(values, random.uniform(0.5, 1, 50))
    other = one._replace(weights=-one.weights) if what == "negative" else one
    samples = {} if what == "nothing" else {"b": one, "s_$x$": other}
    path = plot_feature("Track: d0/d0_err $_{", samples, tmp_path / "feature_0.png")
    assert path.read_bytes().startswith(b"\x89PNG")
