"""What goes wrong on real machines, really done: a clear error or a complete file, nothing else."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from helpers import unprivileged
from rootfiles import (
    MODES,
    TOY,
    changed_baskets,
    checksum,
    different_branches,
    same_values,
    scorer_for,
    toy_events,
    write_toy,
)

from tracksets import pipeline, pools, pyroot, writing
from tracksets.errors import FileError
from tracksets.labelling import LabellingError, Report, label
from tracksets.pipeline import Labelled
from tracksets.scorer import load

N = 20_000


@pytest.fixture(scope="module")
def scorer():
    return scorer_for(TOY)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """Write a file whose scores alone take several baskets."""
    return write_toy(tmp_path_factory.mktemp("large") / "in.root", N)


@pytest.fixture(scope="module")
def model(scorer, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    scorer.save(path)
    return path


def run(model: Any, files: Any, output: Path, mode: str = "branch", **options: Any) -> Report:
    return label(model, files, output, mode=mode, progress=False, **options)


def error_of(*args: Any, **options: Any) -> str:
    with pytest.raises(LabellingError) as caught:
        run(*args, **options)
    [failure] = caught.value.report.failures
    return str(failure.error)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


def scores_in(path: Path) -> np.ndarray:
    """Read the scores, wherever in a file they are."""
    if path.suffix == ".parquet":
        return ak.to_numpy(ak.from_parquet(path, columns=["score"]).score)
    with uproot.open(path) as file:
        tree = file["Events_score"] if "Events_score" in file else file["Events"]
        return tree["score"].array().to_numpy()


# Killed

_KILLED = """
import os, signal, sys
from tracksets import feeds
from tracksets.cli import main
from tracksets.trees import Tree

Tree.chunks.__defaults__ = (1000,)
take = feeds.Feed.take

def die(self, n):
    if self.digest.n_event > 10_000:
        os.kill(os.getpid(), signal.SIGKILL)
    return take(self, n)

feeds.Feed.take = die
main()
"""
KILLED = [
    ("branch", "root"),
    *(
        pytest.param(*each, marks=pytest.mark.slow)
        for each in (("append", "root"), ("friend", "rntuple"), ("friend", "parquet"))
    ),
]


@pytest.fixture(scope="module")
def clusters(tmp_path_factory) -> Path:
    """Write a file with many clusters."""
    path, events = tmp_path_factory.mktemp("clusters") / "in.root", toy_events(N)
    with uproot.recreate(path) as file:
        types = {"Track": ak.type(events.Track[:1]).content, "event": np.dtype("u8")}
        tree = file.mktree("Events", types)
        for i in range(0, N, 1000):
            tree.extend({name: events[name][i : i + 1000] for name in types})
    return path


@pytest.mark.parametrize(("mode", "kind"), KILLED)
def test_killed_in_the_middle_of_a_file(clusters, scorer, model, tmp_path, mode, kind):
    out = tmp_path / "out"
    command = ["label", str(model), str(clusters), "-o", str(out), "--mode", mode, "--format", kind]
    done = subprocess.run([sys.executable, "-c", _KILLED, *command], check=False)
    assert done.returncode == -signal.SIGKILL
    ending = "parquet" if kind == "parquet" else "root"
    assert names(out) == [f".in.partial.{ending}"]
    assert (out / names(out)[0]).stat().st_size > 0
    report = run(scorer, clusters, out, mode, format=kind)
    assert names(out) == [f"in.{ending}"]
    assert not report.skipped
    assert same_values(ak.Array(scores_in(report.outputs[0])), scorer(toy_events(N)))
    assert len(run(scorer, clusters, out, mode, format=kind).skipped) == 1


@pytest.mark.parametrize("mode", MODES)
def test_what_a_dead_process_left_is_replaced(large, scorer, tmp_path, mode):
    (tmp_path / ".in.partial.root").write_bytes(large.read_bytes()[: 2**16] * 100)
    run(scorer, large, tmp_path, mode)
    assert names(tmp_path) == ["in.root"]
    assert len(scores_in(tmp_path / "in.root")) == N


# A full disk

_LIMITED = """
import json, resource, sys
from pathlib import Path
from tracksets import writing
from tracksets.labelling import LabellingError, label

model, source, folder, cases = sys.argv[1:]
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
has_root, found = writing.has_root, []
for mode, kind, use_root, limit in json.loads(cases):
    writing.has_root = has_root if use_root else lambda: False
    folder_now = Path(folder)
    error = ""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        label(model, source, folder_now, mode=mode, format=kind, progress=False)
    except LabellingError as failure:
        error = failure.report.failures[0].error
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    found.append((error, [each.name for each in folder_now.iterdir()]))
print(json.dumps(found))
"""
FORMATS = [
    each for each in product(MODES, ("root", "rntuple", "parquet")) if each != ("append", "parquet")
]


def test_the_disk_is_full(large, scorer, model, tmp_path):
    """A limit to the size of files stops every writer at several places, ROOT's own too."""
    cases = []
    for mode, kind in FORMATS:
        for use_root in (True, False) if (mode, kind) == ("branch", "root") else (True,):
            if use_root and mode == "branch" and not pyroot.has_root():
                continue
            with pytest.MonkeyPatch.context() as patch:
                if not use_root:
                    patch.setattr(writing, "has_root", lambda: False)
                [out] = run(scorer, large, tmp_path / "full", mode, format=kind, force=True).outputs
            size, copied = out.stat().st_size, large.stat().st_size
            limits = {1000, size // 2, size - 1}
            if mode != "friend" and kind != "parquet":  # after the copy
                limits |= {copied + 10, copied + (size - copied) // 2}
            cases += [(mode, kind, use_root, limit) for limit in sorted(limits)]
    command = [sys.executable, "-c", _LIMITED, str(model), str(large), str(tmp_path / "out")]
    done = subprocess.run([*command, json.dumps(cases)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    for case, (error, left) in zip(cases, found, strict=True):
        assert left == [], case
        assert (
            "cannot write" in error
            or "could not write" in error
            or ("not written correctly" in error)
        ), (case, error)


@pytest.mark.parametrize("mode", MODES)
def test_a_small_disk(large, scorer, tmp_path, mode):
    disk = tmp_path / "disk"
    disk.mkdir()
    room = 20_000 if mode == "friend" else large.stat().st_size + 20_000
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("no disk can be mounted; needs the rights of a superuser")
    try:
        error = error_of(scorer, large, disk, mode)
        assert "write" in error
        assert names(disk) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Damaged inputs

CODECS = {
    "ZLIB": uproot.ZLIB(1),
    "LZMA": uproot.LZMA(1),
    "LZ4": uproot.LZ4(1),
    "ZSTD": uproot.ZSTD(1),
    "none": None,
}
CHECKED = ("ZLIB", "LZMA", "LZ4")
"""Those whose blocks have a checksum. ROOT leaves that of ZSTD out."""
UNCHECKED = ("ZSTD", "none")


def write_compressed(path: Path, codec: str) -> Path:
    """Write six clusters."""
    events = ak.with_field(toy_events(3000), np.arange(3000) % 77, "other")
    with uproot.recreate(path, compression=CODECS[codec]) as file:
        types = {name: ak.type(events[name][:1]).content for name in ("Track", "event", "other")}
        tree = file.mktree("Events", types)
        for i in range(0, 3000, 500):
            tree.extend({name: events[name][i : i + 500] for name in types})
    return path


def basket(path: Path, branch: str, number: int = 3) -> tuple[int, int]:
    """Return where a basket lies and how long it is."""
    with uproot.open(path) as file:
        found = file["Events"][branch]
        start = int(found.member("fBasketSeek")[number])
        return start, int(found.member("fBasketBytes")[number])


def flipped(path: Path, place: int, bit: int, output: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    output.write_bytes(content)
    return output


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("branch", ["Track_pt", "nTrack"])
def test_flipped_bits_of_a_branch_that_is_read(scorer, tmp_path, codec, branch):
    """Where the format has checksums, no flipped bit changes a score without an error.

    Blocks of ZSTD and uncompressed ones have none: there, a bit of a number can go unnoticed, as
    it does for every reader of ROOT files, but rows never go missing.
    """
    good = write_compressed(tmp_path / "good.root", codec)
    expected = scores_in(run(scorer, good, tmp_path / "0", "friend").outputs[0])
    start, size = basket(good, branch)
    wrong = 0
    with np.errstate(all="ignore"):  # features may become anything
        for i, offset in enumerate(np.linspace(0, size - 1, 25).astype(int).tolist()):
            out = tmp_path / str(i + 1)
            bad = flipped(good, start + offset, i % 8, tmp_path / "bad.root")
            try:
                [path] = run(scorer, bad, out, "friend").outputs
            except LabellingError:
                assert names(out) == []
                continue
            scores = scores_in(path)
            assert len(scores) == 3000
            wrong += not np.array_equal(scores, expected)
    assert wrong == 0 or codec in UNCHECKED


@pytest.mark.parametrize("codec", [*CHECKED, "ZSTD"])
@pytest.mark.parametrize("mode", MODES)
def test_a_truncated_basket(scorer, tmp_path, codec, mode):
    """The file has its full length, but the rest of one basket never came to the disk."""
    good = write_compressed(tmp_path / "in.root", codec)
    start, size = basket(good, "Track_pt")
    content = bytearray(good.read_bytes())
    content[start + size // 2 : start + size] = bytes(size - size // 2)
    good.write_bytes(content)
    error = error_of(scorer, good, tmp_path / "out", mode)
    assert "in.root, tree Events, events " in error
    assert "cannot read" in error
    assert "damaged" in error
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("codec", CHECKED)
def test_damage_in_a_branch_that_is_not_read(root, scorer, tmp_path, monkeypatch, codec):
    """ROOT's copy keeps every byte, also wrong ones; what is written anew is read and refused."""
    good = write_compressed(tmp_path / "good.root", codec)
    start, size = basket(good, "other")
    bad = flipped(good, start + 9 * size // 10, 3, tmp_path / "bad.root")
    for mode in MODES:
        [out] = run(scorer, bad, tmp_path / mode, mode).outputs
        if mode != "friend":
            assert changed_baskets(bad, out, "Events") == []
            with uproot.open(good) as old, uproot.open(out) as new:
                kept = ["nTrack", "Track_pt", "event"]
                assert different_branches(old["Events"], new["Events"], kept) == []
    monkeypatch.setattr(writing, "has_root", lambda: False)
    for kind in ("root", "rntuple", "parquet"):
        error = error_of(scorer, bad, tmp_path / kind, format=kind)
        assert "cannot read" in error
        assert "other" in error
        assert names(tmp_path / kind) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("short", ["x", "nTrack", "Track_pt", "event"])
def test_branches_with_unequal_numbers_of_entries(root, scorer, tmp_path, mode, short):
    """Branches can be filled one by one, and one of them less often than the others."""
    import array

    n, x = array.array("i", [0]), array.array("f", [1, 2, 3])
    number = array.array("Q", [0])
    path = tmp_path / "in.root"
    file = root.TFile.Open(str(path), "RECREATE")
    tree = root.TTree("Events", "")
    branches = {
        "nTrack": tree.Branch("nTrack", n, "nTrack/I"),
        "Track_pt": tree.Branch("Track_pt", x, "Track_pt[nTrack]/F"),
        "x": tree.Branch("x", x, "x/F"),
        "event": tree.Branch("event", number, "event/l"),
    }
    for i in range(100):
        n[0], number[0] = i % 4, i
        for name, each in branches.items():
            if name != short or i < 90:
                each.Fill()
    tree.SetEntries(100)
    tree.Write()
    file.Close()
    if mode == "friend" and short in ("x", "nTrack"):  # which are neither read nor written
        assert run(scorer, path, tmp_path / "out", mode).events == 100
        return
    error = error_of(scorer, path, tmp_path / "out", mode)
    assert f"in.root, tree Events: {short} has 90 entries where the tree has 100" in error
    assert names(tmp_path / "out") == []


# Folders that cannot be written


@pytest.mark.parametrize("mode", MODES)
def test_read_only_folder(scorer, mode):
    with unprivileged() as folder:
        source = write_toy(folder / "in.root")
        out = folder / "out"
        out.mkdir(mode=0o555)
        error = error_of(scorer, source, out, mode)
        assert "cannot write to the folder" in error
        assert "Permission denied" in error
        assert names(out) == []
        error = error_of(scorer, source, out / "new", mode)
        assert "cannot write to the folder" in error


# Two at once


def _label_at_once(
    model: str, source: str, folder: str, rounds: list[tuple[str, bool]], barrier: Any, queue: Any
) -> None:
    results = []
    scorer = load(model)
    for i, (mode, force) in enumerate(rounds):
        barrier.wait()
        try:
            report = run(scorer, source, Path(folder) / str(i), mode, force=force)
            results.append("skipped" if report.skipped else "written")
        except LabellingError as error:
            results.append(str(error.report.failures[0].error))
    queue.put(results)


@pytest.mark.slow
def test_two_processes_write_the_same_output(model, scorer, large, tmp_path):
    rounds = [(mode, force) for mode in MODES for force in (False, True)] * 5
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(2), context.Queue()
    args = (str(model), str(large), str(tmp_path), rounds, barrier, queue)
    processes = [context.Process(target=_label_at_once, args=args) for _ in range(2)]
    for each in processes:
        each.start()
    both = [queue.get(timeout=300) for _ in processes]
    for each in processes:
        each.join()
    expected = scorer(toy_events(N))
    for i, results in enumerate(zip(*both, strict=True)):
        assert "written" in results
        for result in results:
            assert result in ("written", "skipped") or "another process is writing" in result
        assert names(tmp_path / str(i)) == ["in.root"]
        assert same_values(ak.Array(scores_in(tmp_path / str(i) / "in.root")), expected)
    assert len({result for results in both for result in results}) > 1  # they did meet


# Workers of a cluster that die


def poisoned_part(jobs: Any, scorers: Any) -> list[Labelled]:
    """Stand in for the real task: one file kills the process that labels it, half written."""
    results = []
    for job in jobs:
        if job.source.endswith("bad.root"):
            job.output.parent.mkdir(exist_ok=True)
            job.output.with_name(".bad.partial.root").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        results.append(pipeline.label_file(scorers, job))
    return results


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("many")
    first = write_toy(folder / "0.root", 500)
    return [first, *(Path(shutil.copy(first, folder / f"{i}.root")) for i in range(1, 60))]


@pytest.mark.slow
def test_a_worker_of_a_cluster_is_killed(scorer, many, tmp_path, cluster):
    out, killed = tmp_path / "out", []

    def kill() -> None:
        while len(list(out.glob("[0-9]*.root"))) < 3:
            time.sleep(0.01)
        worker = cluster.workers[0]
        killed.append(worker.pid)
        os.kill(worker.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    report = run(scorer, many, out, "append", dask=cluster)
    thread.join()
    assert len(killed) == 1
    assert len(report.outputs) == 60
    assert names(out) == sorted(path.name for path in many)
    expected = scorer(toy_events(500))
    for path in report.outputs:
        assert same_values(ak.Array(scores_in(path)), expected)


@pytest.mark.slow
def test_a_file_kills_every_worker(scorer, many, tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(pools, "_label_part", poisoned_part)
    bad = Path(shutil.copy(many[0], tmp_path / "bad.root"))
    out = tmp_path / "out"
    with pytest.raises(LabellingError) as caught:
        run(scorer, [*many[:5], bad, *many[5:]], out, "friend", dask=cluster)
    [failure] = caught.value.report.failures
    assert failure.source == str(bad)
    assert "the process that labelled it died: KilledWorker" in failure.error
    assert names(out) == sorted(path.name for path in many)


# In any case


def test_the_input_is_never_touched(large, scorer, tmp_path):
    before = checksum(large)
    run(scorer, large, tmp_path)
    with pytest.raises(FileError, match="is the input itself"):
        run(scorer, large, large.parent, force=True)
    assert checksum(large) == before
