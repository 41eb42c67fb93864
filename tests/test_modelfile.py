import json
import pickle
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from helpers import CLASSES, make_events, make_folds, make_scorer
from safetensors import numpy as safetensors

from tracksets.errors import FileError, ModelError, TracksetsError
from tracksets.modelfile import FORMAT_VERSION, read_model, write_model
from tracksets.scorer import load
from tracksets.targets import Task

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    "a": np.float32([-0.0, 1e-45, 3.4e38]),
    "empty": np.zeros((0, 4), np.float32),
}
HEADER = {"z": 1, "a": {"y": "µ", "x": [1.5, None, True]}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """The bytes of a complete model file."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    make_scorer().save(path)
    return path.read_bytes()


def test_round_trip(path):
    write_model(path, HEADER, ARRAYS)
    header, arrays = read_model(path)
    assert header == {"format_version": FORMAT_VERSION, **HEADER}
    assert list(header) == ["format_version", "z", "a"]  # order means something: collections
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name], strict=True)
        assert np.signbit(array).tolist() == np.signbit(ARRAYS[name]).tolist()


def test_same_model_same_bytes(path):
    write_model(path, HEADER, ARRAYS)
    first = path.read_bytes()
    write_model(path, HEADER, dict(reversed(ARRAYS.items())))
    assert path.read_bytes() == first


def test_any_safetensors_reader_can_open_it(path):
    write_model(path, HEADER, ARRAYS)
    assert safetensors.load_file(path).keys() == ARRAYS.keys()


def test_failure_while_writing_leaves_the_old_file(path, monkeypatch):
    write_model(path, HEADER, ARRAYS)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    for name in ("write_bytes", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, fail)
            with pytest.raises(OSError, match="No space"):
                write_model(path, {"other": 1}, {})
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]
    with pytest.raises(TypeError):
        write_model(path, {"not JSON": object()}, {})
    assert path.read_bytes() == before


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write to the folder"):
        write_model(tmp_path / "file" / "model.safetensors", {}, {})


def saved(header, arrays, key="tracksets"):
    text = header if isinstance(header, str) else json.dumps(header)
    return safetensors.save(arrays, metadata={key: text})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a model file, or truncated"),
        (b"root" + bytes(500), "not a model file"),
        (b"\xff" * 500, "not a model file"),
        (json.dumps({"weights": [1, 2]}).encode(), "not a model file"),
        (pickle.dumps(ARRAYS), "not a model file"),
        (safetensors.save({"a": ARRAYS["a"]}), "not one that tracksets wrote"),
        (saved({}, {}, key="other"), "not one that tracksets wrote"),
        (saved("{", {}), "header is not what"),
        (saved("[1]", {}), "header is not what"),
        (saved("[" * 10_000, {}), "header is not what"),
        (saved({"version": 1}, {}), "header is not what"),
        (saved({"format_version": FORMAT_VERSION + 1}, {}), "has format version 3.*reads 1 and 2"),
        (saved({"format_version": None}, {}), "has format version None"),
    ],
)
def test_not_a_model(path, data, message):
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_model(path)
    with pytest.raises(ModelError, match=message):
        load(path)


def test_no_file(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ModelError, match="no model file"):
            load(path)


def test_nothing_is_executed(path):
    """A pickle would run its payload when it is loaded, wherever in the file it stands."""

    class Payload:
        def __reduce__(self):
            return (path.with_suffix(".executed").touch, ())

    payload = pickle.dumps(Payload())
    header = {"format_version": 1, "inputs": payload.hex()}
    array = np.frombuffer(payload, np.uint8)
    for data in (
        payload,
        saved(header, {"out.kernel": array}),
        saved({"format_version": 1}, {}) + payload,
    ):
        path.write_bytes(data)
        with pytest.raises(ModelError):
            load(path)
    assert not path.with_suffix(".executed").exists()


def test_truncated(path, content):
    for length in [*range(0, len(content), 97), *range(len(content) - 20, len(content))]:
        path.write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"not a model file, or truncated"):
            load(path)


def edited(content, edit):
    """Change the header of a complete model file, or its arrays."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["tracksets"])
    arrays = safetensors.load(content)
    edit(header, arrays)
    return saved(header, arrays)


def regression_without_constants(header, arrays):
    header["task"] |= {"kind": "regression", "names": ["x"]}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda h, a: a.pop("out.bias"), "missing or too many: out.bias"),
        (lambda h, a: a.update(extra=a["out.bias"]), "missing or too many: extra"),
        (
            lambda h, a: a.update({"out.bias": np.zeros(3, np.float32)}),
            r"out.bias is float32 \(3,\)",
        ),
        (lambda h, a: a.update({"out.bias": np.zeros(1)}), "out.bias is float64"),
        (lambda h, a: a["out.bias"].fill(np.nan), "out.bias is not finite"),
        (lambda h, a: a["scaling.Jet.scale"].fill(np.inf), "scaling.Jet.scale is not finite"),
        (lambda h, a: h.pop("inputs"), "inputs"),
        (lambda h, a: h.update(inputs=None), "damaged"),
        (lambda h, a: h.update(summary=7), "damaged"),
        (lambda h, a: h["model"].update(phi=[]), "phi"),
        (lambda h, a: h["model"].update(unknown=1), "damaged"),
        (lambda h, a: h["task"].update(kind="ranking"), "damaged"),
        (lambda h, a: h["task"].update(names=["one"]), "damaged"),
        (regression_without_constants, "damaged"),
        (lambda h, a: h["shape"].update(tracks=[1, 2]), "damaged"),
        (lambda h, a: h["shape"].update(tracks={"Track": 64}), "blocks of"),
        (lambda h, a: h["shape"]["tracks"].update(Track=0), "out of range"),
        (lambda h, a: h["shape"].update(events=10**12), "out of range"),
        (lambda h, a: h["shape"].update(events=float("inf")), "damaged"),
        (
            lambda h, a: h["inputs"]["collections"]["Jet"].update(features=["__import__('os')"]),
            "damaged",
        ),
        (lambda h, a: h["inputs"]["collections"].update(Jet={"features": ["a", "b"]}), "Jet"),
        (lambda h, a: h.pop("members"), "members"),
        (lambda h, a: h.update(members=0), "0 member"),
        (lambda h, a: h.update(members=None), "damaged"),
        (lambda h, a: h.update(members=2), r"expected float32 \(2, "),
        (lambda h, a: h.update(members=10**30), "expected float32"),
        (lambda h, a: h.update(folds={"expression": "event % 2", "values": [0, 1]}), "1 member"),
    ],
)
def test_damaged_model(path, content, edit, message):
    path.write_bytes(edited(content, edit))
    with pytest.raises(ModelError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda h, a: h.update(members=9), "expected float32"),
        (lambda h, a: h.update(members=5), "5 member"),
        (lambda h, a: h.update(members=1), "1 member"),
        (lambda h, a: h["folds"].update(values=[0, 1, 2, 3]), "6 member"),
        (lambda h, a: h["folds"].update(values=[0, 2, 1]), "not rising"),
        (lambda h, a: h["folds"].update(values=[0, 0, 1]), "not rising"),
        (lambda h, a: h["folds"].update(values=[-1, 0, 1]), "values"),
        (lambda h, a: h["folds"].update(values=[0]), "values"),
        (lambda h, a: h["folds"].update(values=None), "values"),
        (lambda h, a: h["folds"].update(expression="__import__('os')"), "expression"),
        (lambda h, a: h["folds"].update(expression="3"), "names no branch"),
        (lambda h, a: h["folds"].update(more=1), "more"),
        (lambda h, a: h.update(folds=None), "damaged"),
        (lambda h, a: h.update(folds=[1]), "damaged"),
        (lambda h, a: h.update(format_version=1), "expected float32"),
        (lambda h, a: a.update({"out.bias": a["out.bias"][0]}), "out.bias is float32"),
        (lambda h, a: a["out.bias"][4].fill(np.nan), "out.bias is not finite"),
    ],
)
def test_damaged_model_with_folds(path, edit, message):
    make_folds().save(path)
    path.write_bytes(edited(path.read_bytes(), edit))
    with pytest.raises(ModelError, match=message):
        load(path)


def mutated(content, random):
    data = bytearray(content)
    size = 8 + int.from_bytes(content[:8], "little")
    for _ in range(random.integers(1, 4)):
        # Most of the file is numbers; most of what can go wrong is in the header.
        at = int(random.integers(size if random.random() < 0.8 else len(data)))
        match random.integers(4):
            case 0:
                data[at] ^= 1 << random.integers(8)
            case 1:
                data[at] = random.integers(256)
            case 2:
                del data[at : at + random.integers(1, 9)]
            case 3:
                data[at:at] = random.bytes(random.integers(1, 9))
    return bytes(data)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("n", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files_load_or_are_refused(path, content, n, several):
    random = np.random.default_rng(n)
    loaded = 0
    if several:
        make_folds().save(path)
        content = path.read_bytes()
    for _ in range(n):
        path.write_bytes(mutated(content, random))
        try:
            load(path)
        except ModelError:
            continue
        loaded += 1
    assert loaded < n


def test_mutated_numbers_still_score_or_are_refused(path, content):
    """What loads is good for scoring, or the events are refused."""
    random, events = np.random.default_rng(0), make_events(5)
    for key in ("shift", "names", "tracks", "kind", "fill"):
        at = content.index(f'\\"{key}\\"'.encode())
        for _ in range(10):
            data = bytearray(content)
            data[at + random.integers(len(key) + 20)] = random.choice(list(b'0123456789abc[]{},:"'))
            path.write_bytes(data)
            try:
                assert len(load(path)(events)) == 5
            except TracksetsError:
                continue


@pytest.mark.parametrize(
    "task",
    [CLASSES, Task(kind="regression", names=("x",), shift=(1.1,), scale=(1e-7,))],
)
def test_scorer_round_trip(path, task):
    scorer, events = make_scorer(task), make_events(30)
    scorer.save(path)
    again = load(path)
    assert again == scorer
    assert list(again.inputs.collections) == ["Track", "Jet"]
    assert (again.shape, again.summary) == (scorer.shape, scorer.summary)
    assert again(events).to_list() == scorer(events).to_list()


GOLDEN = Path(__file__).with_name("golden")
FORMATS = sorted(each.name for each in GOLDEN.glob("format_*"))


KINDS = {
    "format_1": ["binary", "classes", "regression"],
    "format_2": ["binary", "classes", "regression", "ensemble", "folds"],
}


@pytest.mark.parametrize(
    ("version", "kind"), [(version, kind) for version in FORMATS for kind in KINDS[version]]
)
def test_golden_files_score_the_same_forever(version, kind):
    folder = GOLDEN / version
    scorer = load(folder / f"{kind}.safetensors")
    scores = scorer(ak.from_json(folder / "events.json"))
    names = scorer.task.score_names
    found = np.stack([ak.to_numpy(scores[name]) for name in names] or [ak.to_numpy(scores)], axis=1)
    expected = np.array(json.loads((folder / "scores.json").read_text())[kind])
    assert found.shape == expected.shape
    assert len(np.unique(expected[:, 0])) == 20
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_current_version_has_golden_files():
    assert FORMATS[-1] == f"format_{FORMAT_VERSION}"
    for kind in KINDS[FORMATS[-1]]:
        header, _ = read_model(GOLDEN / FORMATS[-1] / f"{kind}.safetensors")
        assert header["format_version"] == FORMAT_VERSION
        assert (header["members"] > 1) == (kind in ("ensemble", "folds"))
        assert ("folds" in header) == (kind == "folds")
        if header["members"] == 1:
            assert header["task"]["kind"] == kind
