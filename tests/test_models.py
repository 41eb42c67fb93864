"""Configurations of networks: presets, what is written, what does not fit together."""

import json
from pathlib import Path

import pytest

import tracksets as ts
from tracksets.config import check_config
from tracksets.errors import ConfigError
from tracksets.models import PRESETS, Architecture, Model

INPUTS = ts.Inputs(
    collections={"part": {"features": ["onehot(charge, -1, 1)", "pt/sum(pt)", "y", "phi"]}}
)
Z = "pt/sum(pt)"


def config(**model):
    data = {"files": ["a.root"], "regression": {"targets": ["x"]}}
    inputs = {"collections": {"part": {"features": [Z, "y"]}}}
    return check_config({"data": data, "inputs": inputs, "model": model})


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_method_and_a_key(name):
    needs = {"weights": Z} if name == "efn" else {}
    model = getattr(Model, name)(**needs)
    assert model == Model(preset=name, **needs) == config(preset=name, **needs).model
    for key, value in PRESETS[name].items():
        assert getattr(model, key) == value
    assert getattr(Model, name).__doc__
    assert Model(preset=name, phi=[7], **needs) == model.model_copy(update={"phi": (7,)})
    assert f"`{name}`" in Model.__doc__


@pytest.mark.parametrize("name", [None, "pfn"])
def test_a_preset_can_be_nothing_or_be_spoilt(name):
    assert (Model(preset=name) == Model()) is (name is None)
    with pytest.raises(ValueError, match="phi"):
        Model(preset=name, phi=[])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"preset": "deepset"}, r"no preset 'deepset'; did you mean 'deep_sets'"),
        ({"preset": 3}, r"no preset 3; there are: deep_sets, pfn, efn"),
        ({"preset": "efn"}, r"'efn' needs weights: the feature .* 'pt/sum\(pt\)'"),
        ({"presett": "pfn"}, r"unknown key; did you mean 'preset'"),
        ({"weights": Z, "pool": ["sum", "max"]}, r"no meaning for the pooling 'max'"),
        ({"weights": "pt/sum"}, r"'pt/sum', which .* collection part; did you mean 'pt/sum\(pt\)'"),
        ({"rounds": 9}, r"model.rounds"),
        ({"residual": "perhaps"}, r"model.residual"),
    ],
)
def test_mistakes(model, message):
    with pytest.raises(ConfigError, match=message):
        config(**model)


def test_what_does_nothing_is_not_written():
    """So files and hashes are those of the time before these keys."""
    plain = Model(phi=[2], rho=[], pool=["sum"], activation="relu")
    assert plain.model_dump_json() == '{"phi":[2],"rho":[],"pool":["sum"],"activation":"relu"}'
    model = Model.efn(Z, residual=True, rounds=2)
    assert json.loads(model.model_dump_json())["weights"] == Z
    for each in (plain, model, Model.resnet()):
        assert Model.model_validate_json(each.model_dump_json()) == each
        assert Model.model_validate(each.model_dump()) == each


@pytest.mark.parametrize(
    ("kind", "digest"),
    [("binary", "5b5661d73b13"), ("classes", "4d6360066273"), ("regression", "90a17857aff2")],
)
def test_hashes_of_the_first_format_stay(kind, digest):
    """Labelled files say by its hash which scorer made a score."""
    folder = Path(__file__).with_name("golden") / "format_1"
    assert ts.load(folder / f"{kind}.safetensors").hash.startswith(digest)


def test_the_column_of_the_weights():
    architecture = Architecture.of(Model.efn(Z), INPUTS, 1)
    assert architecture.tracks == (("part", 5),)
    assert architecture.weights == (("part", 2),)  # behind the two numbers of the one-hot
    assert Architecture.of(Model(), INPUTS, 1).weights == ()


@pytest.mark.parametrize(
    ("weights", "features", "message"),
    [
        ("pt", ["eta", "log(pt)"], "weighs tracks by 'pt', which is not one number"),
        ("onehot(charge, -1, 1)", ["onehot(charge, -1, 1)", "y"], "not one number"),
        ("pt", ["pt"], "collection Jet has no feature but the weights"),
    ],
)
def test_weights_that_cannot_be(weights, features, message):
    inputs = ts.Inputs(collections={"Jet": {"features": features}})
    with pytest.raises(ConfigError, match=message):
        Architecture.of(Model(weights=weights), inputs, 1)
