"""Files side by side: the same results as one after another, whatever becomes of the processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rootfiles import TOY, scorer_for, write_toy

from tracksets import pools
from tracksets.atomic import appearing
from tracksets.errors import FileError, MissingExtraError
from tracksets.labelling import LabellingError, label
from tracksets.pipeline import Job, Labelled

N = 7


@pytest.fixture(scope="module")
def scorer():
    return scorer_for(TOY)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return [write_toy(folder / f"{i}.root", 10 + i, seed=i) for i in range(N)]


def run(model: Any, files: Any, output: Path, **options: Any) -> Any:
    return label(model, files, output, mode="friend", progress=False, **options)


def jobs_for(folder: Path, n: int = N) -> list[Job]:
    return [
        Job(f"{i}.root", folder / f"{i}.root", None, "friend", None, None, False) for i in range(n)
    ]


# What processes do in the tests; it is imported in each of them.


def die_over(job: Job, *fatal: str) -> Labelled:
    """Die over some files with an output half written, over others only the first time."""
    name = Path(job.source).name
    once = job.output.with_suffix(".tried")
    if name in fatal or (name == "3.root" and not once.exists()):
        once.touch()
        with appearing(job.output) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)  # so that no other process is further than one file when one dies
    with appearing(job.output) as temporary:
        temporary.write_text("whole")
    return Labelled(job.source, job.output, 7)


def die_over_one(job: Job) -> Labelled:
    return die_over(job, "1.root")


def die_over_every(job: Job) -> Labelled:
    os.kill(os.getpid(), signal.SIGKILL)
    return Labelled(job.source, job.output)


@pytest.mark.slow
def test_a_process_that_dies(tmp_path, monkeypatch):
    """One file kills each process, another one only the first: it is labelled in the end."""
    monkeypatch.setattr(pools, "_label_here", die_over_one)
    results = list(pools.run_in_processes({}, jobs_for(tmp_path), 2))
    errors = {each.source: each.error for each in results}
    assert sorted(errors) == [f"{i}.root" for i in range(N)]
    assert len(results) == N
    assert {name for name, error in errors.items() if error} == {"1.root"}
    assert errors["1.root"] == "the process that labelled it died"
    complete = {f"{i}.root" for i in range(N) if i != 1}
    assert {each.name for each in tmp_path.iterdir()} == complete | {"1.tried", "3.tried"}


@pytest.mark.slow
def test_every_process_dies(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "_label_here", die_over_every)
    results = list(pools.run_in_processes({}, jobs_for(tmp_path, 3), 2))
    assert [each.error for each in results] == ["the process that labelled it died"] * 3


_UNGUARDED = """
import sys
import tracksets as ts
ts.label(sys.argv[1], sys.argv[2:4], sys.argv[4], workers=2, progress=False)
"""


@pytest.mark.slow
def test_a_script_that_starts_itself_again_is_told_why(tmp_path, scorer, sources):
    scorer.save(tmp_path / "model")
    (tmp_path / "script.py").write_text(_UNGUARDED)
    command = [sys.executable, "script.py", "model", *map(str, sources[:2]), "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ProcessError: the processes that should label died as they started" in done.stderr
    assert "if __name__ == '__main__':" in done.stderr


# A Dask cluster


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.mark.parametrize("how", ["cluster", "address", "client"])
def test_dask(tmp_path, scorer, sources, cluster, how):
    import distributed

    one = run(scorer, sources, tmp_path / "1")
    with distributed.Client(cluster, set_as_default=False) as client:
        given = {"cluster": cluster, "address": cluster.scheduler_address, "client": client}
        many = run(scorer, sources, tmp_path / "2", dask=given[how])
        assert client.status == "running"  # what is not ours is not closed
    assert [each.source for each in many.files] == [str(path) for path in sources]
    assert many.events == one.events
    assert not many.skipped
    assert len(run(scorer, sources, tmp_path / "2", dask=cluster).skipped) == N


@pytest.mark.parametrize("mode", ["branch", "append"])
def test_dask_with_several_threads(tmp_path, scorer, sources, cluster, mode):
    """Those of one process write by ROOT, too."""
    label(scorer, sources, tmp_path, mode=mode, dask=cluster, progress=False)
    assert {each.name for each in tmp_path.iterdir()} == {f"{i}.root" for i in range(N)}


def test_dask_reports_failures(tmp_path, scorer, sources, cluster):
    bad = tmp_path / "bad.root"
    bad.write_bytes(sources[0].read_bytes()[:600])
    with pytest.raises(LabellingError, match=r"1 of 8 files.*\n.*bad\.root.*truncated"):
        run(scorer, [bad, *sources], tmp_path / "out", dask=cluster)
    assert len(list((tmp_path / "out").iterdir())) == N


def test_no_scheduler(tmp_path, scorer, sources, monkeypatch):
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "200ms"}),
        pytest.raises(FileError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
    ):
        run(scorer, sources, tmp_path, dask="tcp://127.0.0.1:9")
    with pytest.raises(FileError, match="no Dask scheduler answers at nonsense://x"):
        run(scorer, sources, tmp_path, dask="nonsense://x")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"tracksets\[dask\]"):
        run(scorer, sources, tmp_path, dask="tcp://127.0.0.1:9")
