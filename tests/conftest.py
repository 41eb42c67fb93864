"""What all tests share: strict JAX, hypothesis profiles, where the files are."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Read when JAX is imported, and inherited by the processes that tests start. Strict dtype
# promotion can't be set for everything: optax's bias correction raises a float to an integer count.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

import jax
import pytest
from hypothesis import HealthCheck, settings

from tracksets.steps import State, Steps

REPOSITORY = Path(__file__).parents[1]

# The first example of a shape compiles, so times say nothing.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", settings.get_profile("dev"), derandomize=True, database=None, print_blob=True
)
settings.register_profile("thorough", settings.get_profile("dev"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture
def strict_dtypes() -> Iterator[None]:
    """Make JAX refuse implicit dtype promotion, for tests that don't run an optimiser."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Return the folder of the small ROOT files that the repository ships."""
    return REPOSITORY / "sample_data"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return a function that finds an optional real file by name, or skips the test.

    The files lie in the folder named by the environment variable TRACKSETS_TEST_DATA, or else in
    shared/data beside the repository.
    """
    folder = Path(os.environ.get("TRACKSETS_TEST_DATA", REPOSITORY.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = folder / name
        if not path.is_file():
            pytest.skip(f"no file {name} in {folder}; set TRACKSETS_TEST_DATA to a folder with it")
        return path

    return find


@pytest.fixture(scope="session")
def root() -> Iterator[Any]:
    """Return real ROOT, quiet, or skip the test."""
    from tracksets import pyroot

    if not pyroot.has_root():
        pytest.skip("ROOT is not installed")
    module = pyroot._root()
    level, module.gErrorIgnoreLevel = module.gErrorIgnoreLevel, module.kFatal
    yield module
    module.gErrorIgnoreLevel = level


@pytest.fixture(scope="module")
def client():
    """Return a client of a Dask cluster with two workers, each a process of its own."""
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Return a function that lets the n-th step from now on fail."""

    def prepare(n: int) -> None:
        calls = iter(range(n))
        original = Steps.start

        def start(self: Steps, *drawn: Any) -> State:
            step = self.step

            def counted(*arguments: Any) -> Any:
                if next(calls, None) is None:
                    raise RuntimeError("power cut")
                return step(*arguments)

            monkeypatch.setattr(self, "step", counted)
            return original(self, *drawn)

        monkeypatch.setattr(Steps, "start", start)

    yield prepare
    monkeypatch.undo()
