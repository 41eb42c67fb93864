"""Configurations: what they say, and every mistake at once with its path."""

import contextlib
import tomllib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracksets.config import check_config, read_config
from tracksets.errors import ConfigError, TracksetsError

GOOD = """
[data]
tree = "Events"
weight = "genWeight"
select = "nTrack > 0"
target = "flavour"
balance = true
reweight = {variable = "log(jet_pt)", bins = [1, 2, 3], match = "b"}
files = ["a.root"]
[data.classes.light]
where = "flavour < 4"
[data.classes.b]
value = 5
[inputs]
event = ["PV_z"]
[inputs.collections.Track]
features = ["log(pt)", "eta"]
select = "pt > 0.5"
[model]
phi = [8]
rho = [8]
[training]
epochs = 3
"""


def content(**changes):
    """The good configuration with values replaced; keys are dotted with two underscores."""
    result = tomllib.loads(GOOD)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = result
        for each in parents:
            place = place.setdefault(each, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    return result


def test_every_key_is_read(tmp_path):
    path = tmp_path / "train.toml"
    path.write_text(GOOD)
    config = read_config(path)
    assert list(config.data.classes) == ["light", "b"]
    assert config.data.reweight.match == "b"
    assert config.inputs.collections["Track"].select == "pt > 0.5"
    assert config.model.phi == (8,)
    assert config.training.epochs == 3
    assert config.folder == str(tmp_path)


def test_all_mistakes_are_reported_at_once_with_path_and_near_miss():
    wrong = content(
        training__epoch=3,
        training__learning_rate="fast",
        model__pool=["summ"],
        inputs__collections__Track__features=["log(pt"],
        inputs__collections__Track__selekt="pt > 1",
        data__classes__b__were="x",
        trainig={},
    )
    with pytest.raises(ConfigError) as caught:
        check_config(wrong, "train.toml")
    text = str(caught.value)
    assert text.startswith("train.toml has 8 mistake(s)")
    for part in (
        "training.epoch: unknown key; did you mean 'epochs'?",
        "training.learning_rate: ",
        "not 'fast'",
        "model.pool.0: ",
        "inputs.collections.Track.features: '(' was never closed",
        "inputs.collections.Track.selekt: unknown key; did you mean 'select'?",
        "data.classes.b.were: unknown key; did you mean 'where'?",
        "trainig: unknown key; did you mean 'training'?",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__classes__light": None}, "only one class, ['b']"),
        ({"data__classes": {}}, "say either"),
        ({"data__regression": {"targets": ["x"]}}, "say either"),
        (
            {"data__classes": {}, "data__regression": {"targets": ["x"], "units": ["GeV", "m"]}},
            "2 units for 1 target(s)",
        ),
        ({"data__files": None}, "light needs files of its own"),
        ({"data__target": None}, "b has a value, but there is no target"),
        ({"data__reweight__match": "ligth"}, "no class 'ligth'; did you mean 'light'?"),
        ({"data__reweight__bins": [2, 1]}, "bins must be rising"),
        ({"data__weight": "onehot(x, 1, 2)"}, "gives several numbers"),
        ({"data__weight": "exec('x')"}, "not allowed"),
        ({"data__select": "nTrack >"}, "invalid syntax"),
        ({"training__seed": -1}, "training.seed"),
        ({"training__validation": 1.5}, "validation: expected a fraction from 0 to below 1, or an"),
        ({"training__validation": "event %"}, "training.validation: "),
        ({"training__folds": "exec('x')"}, "not allowed"),
        ({"training__folds": "5"}, "training.folds: '5' names no branch"),
        ({"training__ensemble": 0}, "training.ensemble"),
        ({"model__phi": []}, "model.phi"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, message):
    with pytest.raises(ConfigError) as caught:
        check_config(content(**changes))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["[data", "\x00", "a = 1\na = 2"])
def test_what_is_not_toml_is_refused(tmp_path, text):
    path = tmp_path / "train.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not a TOML file"):
        read_config(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not a TOML file"):
        read_config(path)
    with pytest.raises(ConfigError, match="no configuration file"):
        read_config(tmp_path / "other.toml")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
PATHS = [
    *("data", "data__files", "data__classes", "data__classes__b", "data__classes__b__value"),
    *("data__reweight", "data__weight", "data__select", "data__regression", "data__tree"),
    *("inputs", "inputs__event", "inputs__collections", "inputs__collections__Track"),
    *("inputs__collections__Track__features", "inputs__collections__Track__fill"),
    *("inputs__collections__Track__clip", "model__phi", "model__pool", "training__epochs"),
    *("training__validation", "training__folds", "training__ensemble"),
    *("training__learning_rate", "training", "model", "folder"),
]


def read_or_refused(path, value):
    with contextlib.suppress(TracksetsError):
        check_config(content(**{path: value}) if value is not None else content())


@given(st.sampled_from(PATHS), VALUES)
@settings(max_examples=300)
def test_any_value_is_read_or_refused(path, value):
    read_or_refused(path, value)


@pytest.mark.slow
def test_a_hundred_thousand_values_are_read_or_refused():
    random = Random(1)
    words = ["b", "log(pt)", "pt >", "onehot(x, 1)", "", "\x00", "é", "1e999", "sum", "Track"]

    def value(depth=0):
        kind = random.randrange(7 if depth < 3 else 5)
        if kind == 5:
            return [value(depth + 1) for _ in range(random.randrange(3))]
        if kind == 6:
            return {random.choice(words): value(depth + 1) for _ in range(random.randrange(3))}
        numbers = [random.randrange(-9, 9), random.uniform(-9, 9), float("nan"), True]
        return [*numbers, random.choice(words)][kind]

    for _ in range(100_000):
        read_or_refused(random.choice(PATHS), value())
