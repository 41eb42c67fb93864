import numpy as np
from helpers import BINARY, INPUTS, flat_inputs

from tracksets.blocks import Shape
from tracksets.models import Architecture, Model
from tracksets.problems import Problem
from tracksets.reflections import Reflections
from tracksets.samples import InMemory, Sample
from tracksets.scaling import Scaling

WIDTHS = {"Track": 3, "Jet": 1}
RANDOM = np.random.default_rng(0)
FLAT = flat_inputs({"Track": RANDOM.poisson(3, 60), "Jet": RANDOM.poisson(1, 60)}, WIDTHS)
PROBLEM = Problem(
    Architecture(model=Model(phi=[4]), tracks=tuple(WIDTHS.items()), event=1, outputs=1),
    BINARY,
    ({name: Scaling.identity(n) for name, n in WIDTHS.items()}, Scaling.identity(1)),
    Sample(InMemory(FLAT), np.arange(60, dtype=np.float32)[:, None], np.ones(60, np.float32)).part(
        np.arange(5, 60)
    ),
    None,
    Shape({"Track": 50, "Jet": 40}, 16),
    reflections=Reflections.of([["eta", "PV_z"], ["charge"]], INPUTS),
)


def test_each_epoch_has_reflections_of_its_own_whatever_is_skipped():
    def events(*where):
        """Return the signs of the events' features, by event."""
        found = {}
        for batch in PROBLEM.batches(3, *where):
            used = batch.block.mask
            for number, value in zip(
                batch.targets[used, 0], batch.block.event[used, 0], strict=True
            ):
                found[int(number)] = float(value / FLAT.event[int(number), 0])
        return found

    first = events(1)
    assert set(first.values()) == {1.0, -1.0}
    assert set(first) == set(range(5, 60))
    later = events(1, 2)
    assert 10 < len(later) < len(first)
    assert all(first[number] == sign for number, sign in later.items())
    assert events(2) != first == events(1)
