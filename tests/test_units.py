import numpy as np
import pytest
from helpers import BINARY, flat_inputs

from tracksets.blocks import Shape
from tracksets.compiling import compiled
from tracksets.fitting import fit_network
from tracksets.models import Architecture, Model
from tracksets.problems import Problem
from tracksets.samples import InMemory, Sample
from tracksets.scaling import Scaling
from tracksets.settings import Training
from tracksets.units import multiplicities

COUNTS = {"Track": 30, "Jet": 4}
SCALING = ({name: Scaling.identity(2) for name in COUNTS}, Scaling.identity(1))


def trained(pool, model, n_event=200, **options):
    """Train on events that all have as many tracks."""
    counts = {name: np.full(n_event, n) for name, n in COUNTS.items()}
    targets = np.random.default_rng(1).integers(0, 2, (n_event, 1)).astype(np.float32)
    store = InMemory(flat_inputs(counts, seed=1))
    sample = Sample(store, targets, np.ones(n_event, np.float32))
    architecture = Architecture(
        model=Model(pool=pool, **model), tracks=(("Track", 2), ("Jet", 2)), event=1, outputs=1
    )
    problem = Problem(
        architecture,
        BINARY,
        SCALING,
        sample.all,
        None,
        Shape({"Track": 2048, "Jet": 512}, 64),
        multiplicity=multiplicities(architecture, counts),
    )
    return architecture, fit_network(problem, Training(epochs=3, learning_rate=0.01, **options))


@pytest.mark.parametrize(
    "model",
    [
        {"phi": [8], "rho": [8]},
        {"phi": [8], "rho": []},
        {"phi": [8], "rho": [8], "rounds": 2, "activation": "gelu"},
        {"phi": [8, 8], "rho": [8, 8], "residual": True},
    ],
)
@pytest.mark.parametrize(
    "options", [{}, {"weight_decay": 3.0, "clip_gradient": 0.05, "average": 0.9}]
)
def test_sums_of_m_tracks_are_learned_as_means(model, options):
    architecture, sums = trained(["sum"], model, **options)
    _, means = trained(["mean"], model, **options)
    for one, other in zip(sums.history, means.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    last = "rho.layers.0.kernel" if model["rho"] else "out.kernel"
    first_rows = sums.arrays[last][: architecture.model.phi[-1]]
    np.testing.assert_allclose(first_rows * 30, means.arrays[last][:8], rtol=0.02, atol=2e-3)
    begin = compiled(architecture).new(1).rho.layers
    if model["rho"]:
        assert np.abs(sums.arrays[last] - np.asarray(begin[0].kernel[...])).max() > 0.02


def test_only_sums_are_measured_in_other_units():
    model = {"phi": [8], "rho": [8]}
    _, both = trained(["sum", "max"], model)
    _, again = trained(["mean", "max"], model)
    assert both.history[-1]["loss"] == pytest.approx(again.history[-1]["loss"], rel=1e-3)


def test_multiplicities():
    counts = {"a": np.array([0, 2, 4]), "b": np.array([0, 0, 0]), "c": np.array([5, 5, 5])}
    architecture = Architecture(
        model=Model(weights="z"),
        tracks=(("a", 2), ("b", 2), ("c", 2)),
        event=0,
        outputs=1,
        weights=(("c", 0),),
    )
    assert multiplicities(architecture, counts) == {"a": 3.0, "b": 1.0, "c": 1.0}
