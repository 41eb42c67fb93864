"""The programs of the benchmark run, on tiny inputs; what they measure is not tested."""

import importlib.util
import json
from pathlib import Path

import pytest

from tracksets.network import Model


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    contest = importlib.import_module("bench.contest")
    found = importlib.util.find_spec
    absent = ("torch", "onnxruntime")
    monkeypatch.setattr(
        contest.importlib.util, "find_spec", lambda name: None if name in absent else found(name)
    )
    for name in ("ENERGYFLOW", "WEAVER"):
        monkeypatch.setenv(f"TRACKSETS_{name}", "/nowhere/python")
    return contest, importlib.import_module("bench.report")


@pytest.mark.slow
@pytest.mark.parametrize("task", ["score", "train"])
def test_contest_without_peers(bench, tmp_path, task, capsys):
    contest, report = bench
    tiny = Model(phi=[8, 8], rho=[8])
    fields = [
        (contest.Field("100 | tiny", tiny, kind, 60), cores)
        for kind, cores in (("jets", 1), ("zipf", 2))
    ]
    result = contest.contest(task, fields, rounds=1)
    names = {name.partition("|")[0] for name in result["cases"][0]["seconds"]}
    expected = {"tracksets", "whole block, BCOO", "whole block, segment sum"}
    assert names - {"whole block, dense matrix", "padded, JAX"} == expected
    assert max(result["cases"][0]["differences"].values(), default=0) < 1e-3
    missing = ("PyTorch", "ONNX Runtime", "EnergyFlow", "weaver")
    assert [each.partition(":")[0] for each in result["missing"]] == [*missing]

    report.keep(result, tmp_path / "results", tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    said = capsys.readouterr().out
    for name in missing:
        assert f"Not compared: {name}:" in page
        assert f"not compared: {name}:" in said
    assert "100 → tiny, zipf | 2 |" in page
    kept = json.loads((tmp_path / "results" / f"{task}.json").read_text())
    assert kept["cases"] == result["cases"]
    assert (tmp_path / "benchmarks.svg").stat().st_size > 1000


def test_tables_stay_on_the_page(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    report = importlib.import_module("bench.report")
    results = tmp_path / "results"
    started = [{"fresh process": "import tracksets", "seconds": "0.10"}]
    report.keep_tables("start", {"": started}, 7, results, tmp_path)
    grown = {"8 | 8": [{"tracks": "10", "adapter": "5%"}, {"tracks": "20", "adapter": "4%"}]}
    report.keep_tables("growth", grown, 3, results, tmp_path)
    page = (tmp_path / "benchmarks.md").read_text()
    assert page.index("### 8 → 8") < page.index("## Fresh processes")
    assert "| tracks | adapter |\n| --- | ---: |\n| 10 | 5% |\n| 20 | 4% |\n" in page
    assert "| import tracksets | 0.10 |" in page
    assert json.loads((results / "growth.json").read_text())["tables"] == grown


def test_what_two_cores_gain(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    cores = importlib.import_module("bench.cores")

    class Fake:
        def __init__(self, python, program, cores, **variables):
            self.cores, self.apart = cores, bool(variables)

        def ask(self, **request):
            assert request.keys() == {"load", "task"}

        def end(self):
            pass

    def seconds(peers, name, pool):
        """Nothing is lost, but by products that are not shared out."""
        [cores, *_] = [len(peer.cores) for peer in peers]
        all_each = name == "limit|shapes"
        return 1.0 if len(peers) == 2 or all_each or peers[0].apart else 1.0 / cores

    monkeypatch.setattr(cores, "Peer", Fake)
    monkeypatch.setattr(cores, "seconds", seconds)
    rows = {row.pop("work"): row for row in cores.gains("score", "", 3)}
    assert [*rows] == ["products of 2048³", "own products", "scoring"]
    assert [*rows["scoring"].values()] == ["1.00", "2.00", "2.00", "1.00"]
    assert [*rows["own products"].values()] == ["1.00", "2.00", "2.00", "2.00"]
