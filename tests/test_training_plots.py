from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracksets.training_plots import Weighted, plot_auc, plot_rates, plot_shapes

EDGES = np.linspace(0, 1, 5)


@given(st.lists(st.tuples(st.floats(-1, 2), st.floats(-0.25, 2)), min_size=1))
def test_density(pairs):
    """Its area is 1 where every event counts, those beyond the ends too."""
    values, weights = np.asarray(pairs).T
    weights[0] += 0.5 + 0.25 * len(pairs)
    density, errors = Weighted(values, weights).density(EDGES)
    assert density.sum() * 0.25 == pytest.approx(1)
    for i, (low, high) in enumerate(pairwise(EDGES)):
        chosen = (values >= low if i > 0 else True) & (values < high if i < 3 else True)
        area = weights.sum() * 0.25
        assert density[i] == pytest.approx(weights[chosen].sum() / area)
        assert errors[i] == pytest.approx(np.sqrt((weights[chosen] ** 2).sum()) / area)


def test_pictures(tmp_path):
    """A PNG and a PDF each; the same picture twice is the same file."""
    random = np.random.default_rng(1)

    def sample(n):
        return Weighted(random.random(n), random.normal(1, 0.5, n))

    pairs = {"b": (sample(500), sample(100)), "s": (sample(400), sample(1))}
    history = [{"epoch": 1.0, "validation_auc": 0.7}, {"epoch": 2.0, "validation_auc": 0.8}]
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        plot_shapes(pairs, (0.0, 1.0), "score", folder / "shapes.png")
        plot_rates({1: 0.1, 2: 0.2}, folder / "rates.png")
        plot_auc(history, folder / "auc.png")
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == [
        f"{name}.{kind}" for name in ("auc", "rates", "shapes") for kind in ("pdf", "png")
    ]
    for name in files:
        content = (tmp_path / "one" / name).read_bytes()
        assert content.startswith(b"%PDF" if name.endswith("pdf") else b"\x89PNG")
        assert len(content) > 5_000
        assert content == (tmp_path / "two" / name).read_bytes()
