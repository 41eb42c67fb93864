"""In processes of their own, as threads start and forks go wrong once and for all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tracksets.devices import limit_threads
from tracksets.errors import ConfigError

SCORE = """
import os, pickle, sys
import tracksets as ts
from helpers import make_events, make_scorer

scorer, events = pickle.loads(pickle.dumps(make_scorer())), make_events(9)
"""
COUNT = """
from pathlib import Path
ts.limit_threads(N)
scorer(events)
ts.limit_threads(N)
names = [each.read_text() for each in Path("/proc/self/task").glob("*/comm")]
print(sum("Eigen" in name for name in names))
"""
TWICE = """
scorer(events)
try:
    ts.limit_threads(1)
except ts.TracksetsError as error:
    sys.exit(f"refused: {error}")
"""
FORK = """
from multiprocessing import get_context
context = get_context("fork")

def child(queue):
    try:
        queue.put(str(scorer(events)[0]))
    except ts.TracksetsError as error:
        queue.put(f"{type(error).__name__}: {error}")

def grandchild(queue):
    child(queue)
    context.Process(target=child, args=(queue,)).start()

def run(target, answers):
    queue = context.SimpleQueue()
    process = context.Process(target=target, args=(queue,))
    process.start()
    for _ in range(answers):
        print(queue.get())
    process.join()

if __name__ == "__main__":
    run(child, 1)
    print(scorer(events)[0])
    run(grandchild, 2)
    context = get_context("forkserver")
    run(child, 1)
"""


def run(tmp_path: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process that must not hang."""
    script = tmp_path / "script.py"
    script.write_text(SCORE + code)
    paths = (str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
    return subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to count threads in")
@pytest.mark.parametrize("n", [1, 3])
def test_limit_threads(tmp_path: Path, n: int) -> None:
    result = run(tmp_path, COUNT.replace("N", str(n)))
    assert result.stdout == f"{n}\n", result.stderr


def test_too_late_to_limit(tmp_path: Path) -> None:
    assert "refused: JAX has computed in this process already" in run(tmp_path, TWICE).stderr
    assert run(tmp_path, TWICE, NPROC="1").returncode == 0


@pytest.mark.parametrize("n", [0, -1])
def test_no_threads(n: int) -> None:
    with pytest.raises(ConfigError, match=f"with {n} threads; ask for 1 or more"):
        limit_threads(n)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_fork(tmp_path: Path) -> None:
    result = run(tmp_path, FORK)
    before, here, *lost, after = result.stdout.splitlines()
    assert before == here == after  # a child that JAX starts in is fine
    assert len(lost) == 2
    assert all("ProcessError" in line and "would hang; start workers" in line for line in lost)
