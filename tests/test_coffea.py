"""In coffea processors: on all executors, compiled once per process, reading only what it needs."""

import os
import pickle
import re
import runpy
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from helpers import CLASSES, together
from rootfiles import scorer_for, write_nano

import tracksets as ts
from tracksets import scorer as scorer_module
from tracksets.compiling import compiled
from tracksets.errors import DataError
from tracksets.folds import Folds

reason = "coffea is not installed"
processor = pytest.importorskip("coffea.processor", reason=reason)
nanoevents = pytest.importorskip("coffea.nanoevents", reason=reason)

pytestmark = pytest.mark.filterwarnings(
    "ignore:Missing cross-reference:RuntimeWarning",
    "ignore:Branch Photon_:RuntimeWarning",
)
REPOSITORY = Path(__file__).parents[1]
REAL = ("nano_dy", "nano_dimuon", "nano_tt_v15", "pfnano", "nano_dy_empty", "nano_dy_rntuple")
JET = ts.Collection(features=["log(pt)", "eta", "mass/10", "px"], select="pt > 1")
MUON = ts.Collection(features=["eta", "charge"])
INPUTS = ts.Inputs(collections={"Jet": JET, "Muon": MUON}, event=["PV_z/10", "log1p(nMuon)"])
READ = {"Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "nJet"}
READ |= {"Muon_eta", "Muon_charge", "nMuon", "PV_z"}
SCORER = scorer_for(INPUTS)
EXECUTORS = ("iterative", "loky", "threads", "dask")


@pytest.fixture(scope="module")
def nano(tmp_path_factory, sample_data):
    return write_nano(tmp_path_factory.mktemp("nano") / "nano.root", sample_data)


@pytest.fixture(scope="module")
def plain(nano):
    with uproot.open(f"{nano}:Events") as tree:
        return tree.arrays()


def open_nano(path, **options):
    """Return NanoEvents and what was read of them."""
    read = []
    factory = nanoevents.NanoEventsFactory.from_root(
        {str(path): "Events"}, access_log=read, **options
    )
    return factory.events(), read


def branches(read):
    return [each.branch for each in read]


@pytest.fixture
def executors(request):
    """Return a function that makes an executor with two workers, of processes where it can."""

    def make(name):
        if name == "iterative":
            return processor.IterativeExecutor(status=False)
        if name == "loky":
            return processor.FuturesExecutor(workers=2, status=False)
        if name == "threads":
            return processor.FuturesExecutor(pool=ThreadPoolExecutor, workers=2, status=False)
        return processor.DaskExecutor(client=request.getfixturevalue("client"), status=False)

    return make


class Everything(processor.ProcessorABC):
    """Keeps the scores of each chunk, and how often each process has compiled."""

    def __init__(self, scorer):
        self.scorer = scorer

    def process(self, events):
        events["score"] = self.scorer(events)
        scores = processor.column_accumulator(ak.to_numpy(events.score))
        where = (events.metadata["dataset"], events.metadata["entrystart"])
        traces = compiled(self.scorer.architecture).traces
        return {"scores": {where: scores}, "traces": {(os.getpid(), traces)}}


def run(executor, scorer, files, **options):
    """Return the scores of each file in its order, and the set of (process, compilations)."""
    fileset = {path.stem: {"files": {str(path): "Events"}} for path in files}
    runner = processor.Runner(executor, **options)
    found = runner(fileset, Everything(scorer))
    chunks = {path.stem: [np.empty(0, np.float32)] for path in files}
    for (dataset, _), scores in sorted(found["scores"].items()):
        chunks[dataset].append(scores.value)
    return {name: np.concatenate(each) for name, each in chunks.items()}, found["traces"]


def check_executor(name, executors, scorer, files, folder, **options):
    """Score files by a Runner; the same as in labelled files, compiled once per process."""
    scores, traces = run(executors(name), scorer, files, **options)
    report = ts.label(scorer, files, folder, tree="Events", mode="friend", progress=False)
    for path, output in zip(files, report.outputs, strict=True):
        with uproot.open(f"{output}:Events_score") as friend:
            np.testing.assert_array_equal(scores[path.stem], friend["score"].array())
    assert {n for _, n in traces} == {1}
    assert (os.getpid() in {process for process, _ in traces}) == (name in ("iterative", "threads"))
    return scores


@pytest.mark.parametrize("name", EXECUTORS)
def test_executors(name, executors, nano, plain, tmp_path):
    # A network that nothing else has compiled in this process.
    scorer = scorer_for(INPUTS, model=ts.Model(phi=[8, 30 + EXECUTORS.index(name)]))
    [scores] = check_executor(name, executors, scorer, [nano], tmp_path, chunksize=190).values()
    np.testing.assert_array_equal(scores, scorer(plain))
    assert len(np.unique(scores)) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", EXECUTORS)
def test_executors_on_real_files(name, executors, shared_data, tmp_path):
    files = [shared_data(f"{each}.root") for each in REAL]
    scores = check_executor(name, executors, SCORER, files, tmp_path, chunksize=100)
    assert [len(scores[each]) for each in REAL] == [40, 40, 200, 10, 0, 40]


@pytest.mark.parametrize("mode", ["virtual", "eager"])
def test_reads_what_it_needs(nano, plain, mode, monkeypatch):
    monkeypatch.setattr(scorer_module, "_WINDOW_TRACKS", 5_000)
    events, read = open_nano(nano, mode=mode)
    if mode == "virtual":
        assert {*SCORER.branches(events)} == {"Jet.pt", "Jet.eta", "Jet.mass", "Jet.phi", *(
            "Muon.eta", "Muon.charge", "PV.z", "Muon.pt"  # one of them, to count
        )}  # fmt: skip
        assert not read
    scores = SCORER(events)
    np.testing.assert_array_equal(scores, SCORER(plain))
    assert str(scores.type) == "1500 * float32"
    if mode == "virtual":
        assert sorted(branches(read)) == sorted(READ)  # and each of them once
        SCORER(events)
        assert len(read) == len(READ)


@pytest.mark.parametrize("name", REAL)
def test_reads_what_it_needs_of_real_files(shared_data, name):
    events, read = open_nano(shared_data(f"{name}.root"))
    assert len(SCORER(events)) == len(events)
    assert set(branches(read)) <= {each.replace("_", sep, 1) for each in READ for sep in "_."}


def test_selections(nano, plain):
    """Masks on events and objects, replaced collections: as on plain arrays."""
    events, _ = open_nano(nano)
    many = ak.num(plain.Jet_pt) > 20
    np.testing.assert_array_equal(SCORER(events[ak.num(events.Jet) > 20]), SCORER(plain[many]))

    hard = {name: plain[name][plain.Jet_pt > 2] for name in plain.fields if name[:4] == "Jet_"}
    events["Jet"] = events.Jet[events.Jet.pt > 2]
    expected = SCORER(ak.Array({**dict(zip(plain.fields, ak.unzip(plain), strict=True)), **hard}))
    np.testing.assert_array_equal(SCORER(events), expected)

    jets = events.Jet
    events["Jet"] = ak.mask(jets, jets.pt > 3)
    with pytest.raises(DataError, match=r"Jet\.pt.*missing \(None\).*ak.drop_none"):
        SCORER(events)
    events["Jet"] = ak.drop_none(events.Jet)
    assert len(SCORER(events)) == len(events)


def test_cross_references(nano, plain):
    """Jets that muons refer to, as a collection of their own."""
    collections = {"MuonJet": ts.Collection(features=["pt", "eta", "px"])}
    scorer = scorer_for(ts.Inputs(collections=collections, event=["PV_z"]))
    events, _ = open_nano(nano)
    events["MuonJet"] = events.Muon.matched_jet
    with pytest.raises(DataError, match=r"MuonJet\.pt.*missing"):
        scorer(events)
    events["MuonJet"] = ak.drop_none(events.Muon.matched_jet)

    index = plain.Muon_jetIdx[plain.Muon_jetIdx >= 0]
    names = ("pt", "eta", "phi")
    by_hand = ak.Array(
        {**{f"MuonJet_{name}": plain[f"Jet_{name}"][index] for name in names}, "PV_z": plain.PV_z}
    )
    np.testing.assert_array_equal(scorer(events), scorer(by_hand))


def test_where_scores_go(nano):
    """Into fields, histograms, accumulators and pickles; several scores are a record."""
    hist = pytest.importorskip("hist", reason="hist is not installed")
    events, _ = open_nano(nano)
    scores = SCORER(events)
    assert type(scores) is ak.Array
    with_scores = ak.with_field(events, scores, "score")
    assert "score" not in events.fields
    np.testing.assert_array_equal(with_scores.score, scores)
    assert hist.Hist.new.Reg(10, 0, 1).Int64().fill(scores).sum(flow=True) == len(events)
    column = processor.column_accumulator(ak.to_numpy(scores))
    assert len(processor.accumulate([column, column]).value) == 2 * len(events)
    assert ak.array_equal(pickle.loads(pickle.dumps(scores)), scores)

    events["score"] = scorer_for(INPUTS, CLASSES)(events)
    assert events.score.fields == ["b", "c", "light"]
    np.testing.assert_allclose(events.score.b + events.score.c + events.score.light, 1, rtol=1e-6)
    assert len(events[events.score.b > 0.5].Jet) < len(events)


def with_score(events):
    events = events[ak.num(events.Jet) > 1]
    events["score"] = SCORER(events)
    return ak.sum(events[events.score > 0.5].genWeight)


def test_column_tracing(nano):
    module = pytest.importorskip("coffea.nanoevents.trace", reason="this coffea cannot trace")
    events, read = open_nano(nano)
    for each in ("typetracer", "length_zero_array", "length_one_array"):
        trace = getattr(module, f"trace_with_{each}")
        assert trace(SCORER, events, throw=True) - {"Muon_pt"} == READ  # that one to count
        assert {"genWeight"} <= trace(with_score, events, throw=True) - READ <= {
            "genWeight", "Muon_pt"
        }  # fmt: skip
    assert not read


def test_missing_collection(nano, executors):
    scorer = scorer_for(ts.Inputs(collections={"FatJet": JET}))
    events, _ = open_nano(nano)
    with pytest.raises(DataError, match=r"collection FatJet, .*'FatJet_pt'.*did you mean"):
        scorer(events)
    with pytest.raises(Exception) as caught:  # coffea raises its own
        run(executors("iterative"), scorer, [nano])
    lines = "".join(traceback.format_exception(caught.value))
    assert re.search(r"nano\.root.*collection FatJet, .*'FatJet_pt'", lines)


def test_what_a_pickled_scorer_weighs():
    data = pickle.dumps(SCORER)
    assert len(data) < sum(array.nbytes for array in SCORER.arrays.values()) + 3_000
    code = "import pickle, sys; pickle.loads(sys.stdin.buffer.read()); print(*sys.modules)"
    code += "; from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode()
    assert found.splitlines()[-1] == "False"  # JAX has started nothing
    assert pickle.loads(data).hash == SCORER.hash


def threads_of_jax(events):
    SCORER(events)
    names = [each.read_text() for each in Path("/proc/self/task").glob("*/comm")]
    return {"threads": {(os.getpid(), sum("Eigen" in name for name in names))}}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to count threads in")
@pytest.mark.parametrize("n", [1, 3])
def test_workers_inherit_the_number_of_threads(nano, executors, n, monkeypatch):
    monkeypatch.setenv("NPROC", str(n))  # what limit_threads does, if nothing is computed yet
    runner = processor.Runner(executors("loky"), chunksize=500)
    found = runner({"nano": {"files": {str(nano): "Events"}}}, threads_of_jax)["threads"]
    assert {threads for _, threads in found} == {n}


IMPORTS = "import hist\nfrom coffea import processor\n"


FOLDS = together(
    [scorer_for(INPUTS, seed=seed) for seed in range(4)],
    Folds(expression="event % 2", values=(0, 1)),
)


@pytest.mark.parametrize("executor", ["iterative", pytest.param("loky", marks=pytest.mark.slow)])
def test_documented_folds(nano, plain, tmp_path, executors, executor):
    pytest.importorskip("hist", reason="hist is not installed")
    text = (REPOSITORY / "docs" / "coffea.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(class Unbiased.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "folds.py").write_text(IMPORTS + code)
    processor_class = runpy.run_path(str(tmp_path / "folds.py"))["Unbiased"]
    runner = processor.Runner(executors(executor), chunksize=500)
    files = {"nano": {"files": {str(nano): "Events"}}}
    found = runner(files, processor_class(FOLDS))["score"]
    odd, even = (
        np.mean([each(plain) for each in FOLDS.members[first : first + 2]], axis=0)
        for first in (2, 0)
    )
    scores = np.where(plain.event % 2 == 0, even, odd)
    expected = np.histogram(scores, 20, (0, 1))[0]
    np.testing.assert_array_equal(found.values(), expected)
    assert not np.array_equal(np.histogram(even, 20, (0, 1))[0], expected)


def test_folds_of_nanoevents(nano, plain):
    events, read = open_nano(nano)
    found = FOLDS(events, spread=True)
    assert ak.array_equal(found, FOLDS(plain, spread=True))
    assert set(branches(read)) == READ | {"event"}
    module = pytest.importorskip("coffea.nanoevents.trace", reason="this coffea cannot trace")
    events, _ = open_nano(nano)
    for each in ("typetracer", "length_zero_array", "length_one_array"):
        trace = getattr(module, f"trace_with_{each}")
        assert trace(FOLDS, events, throw=True) - {"Muon_pt"} == READ | {"event"}


def script(name, *arguments, folder):
    """Run an example; coffea's own warnings are none of ours."""
    command = [sys.executable, str(REPOSITORY / "examples" / name), *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("options", [[], pytest.param(["--dask"], marks=pytest.mark.slow)])
def test_example(options, nano, plain, tmp_path):
    SCORER.save(tmp_path / "model.safetensors")
    printed = script("coffea_processor.py", "model.safetensors", nano, *options, folder=tmp_path)
    two = plain[ak.num(plain.Jet_pt) >= 2]
    high = np.sum(SCORER(two) > 0.5)
    assert 0 < high < len(two)
    found = re.findall(r": (\d+)$", printed, re.MULTILINE)
    assert found == [str(len(two)), str(high)]


@pytest.mark.slow
def test_example_on_real_files(executors, shared_data):
    analysis = runpy.run_path(str(REPOSITORY / "examples" / "coffea_processor.py"))["Analysis"]
    files = {str(shared_data(f"{each}.root")): "Events" for each in REAL}
    found = [
        processor.Runner(executors(name))({"nano": {"files": files}}, analysis(SCORER))
        for name in ("loky", "dask")
    ]
    assert found[0]["score"].sum() > 100
    for name in ("score", "jet_pt"):
        np.testing.assert_array_equal(found[0][name].values(), found[1][name].values())


def test_the_example_fits_on_one_screen():
    code = (REPOSITORY / "examples" / "coffea_processor.py").read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 60
    assert not re.search(r"pad|shape|device|block|jit|jax", code, re.IGNORECASE)
