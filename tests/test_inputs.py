import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tracksets.configuration import as_config_error
from tracksets.errors import ConfigError, DataError
from tracksets.fields import Fields
from tracksets.inputs import Collection, Inputs, feature_names, paths_of
from tracksets.network import Model
from tracksets.settings import Training

TRACK = {"features": ["log(pt)", "d0/d0_err"], "select": "pt > 0.5"}
FULL = Inputs(
    collections={
        "Track": Collection(
            features=["log(pt)", "onehot(charge, -1, 1)"],
            select="pt > 0.5",
            sort="pt",
            first=10,
            prefix="trk_",
            rename={"pt": "momentum"},
            fill={"log(pt)": -1},
            clip={"log(pt)": (-5, 5)},
            scale="quantile",
        ),
        "Jet": Collection(features=["pt"], scale="none"),
    },
    event=["PV_z", "onehot(n, 1, 2, 3)"],
    fill={"PV_z": 0},
)


def inputs(event=(), event_options=None, **changes):
    return {
        "collections": {"Track": {**TRACK, **changes}},
        "event": event,
        **(event_options or {}),
    }


@pytest.mark.parametrize(
    ("config", "path", "message"),
    [
        (inputs(feature=["pt"]), "collections.Track.feature", "unknown key"),
        (inputs(event_options={"evnt": []}), "evnt", "unknown key"),
        ({"event": ["z"]}, "collections", "Field required"),
        ({"collections": {}}, "collections", "at least 1 item"),
        ({"collections": {"Track": {}}}, "collections.Track.features", "Field required"),
        (inputs(features=[]), "collections.Track.features", "at least 1 item"),
        (inputs(features="pt"), "collections.Track.features", "valid tuple"),
        (inputs(features=["pt", "logg(pt)"]), "collections.Track.features", "unknown function"),
        (inputs(features=[""]), "collections.Track.features", "an expression is empty"),
        (inputs(select="pt >"), "collections.Track.select", "invalid syntax"),
        (inputs(select=""), "collections.Track.select", "an expression is empty"),
        (inputs(select="onehot(q, 1)"), "collections.Track", "can only be a feature"),
        (inputs(sort="onehot(q, 1, 2)", first=1), "collections.Track", "can only be a feature"),
        (inputs(sort="pt"), "collections.Track", "sort and first go together"),
        (inputs(first=3), "collections.Track", "sort and first go together"),
        (inputs(sort="pt", first=0), "collections.Track.first", "greater than 0"),
        (inputs(fill={"pt": 0}), "collections.Track", "fill: 'pt' is not one of the features"),
        (inputs(clip={"pt": (0, 1)}), "collections.Track", "clip: 'pt' is not one of the features"),
        (inputs(clip={"log(pt)": (1, 1)}), "collections.Track", "1.0 and 1.0 the wrong way"),
        (inputs(clip={"log(pt)": (2, 1)}), "collections.Track", "2.0 and 1.0 the wrong way"),
        (inputs(clip={"log(pt)": [1]}), "collections.Track.clip.log(pt)", "required"),
        (inputs(fill={"log(pt)": float("nan")}), "collections.Track.fill.log(pt)", "finite number"),
        (inputs(scale="minmax"), "collections.Track.scale", "'standard', 'quantile' or 'none'"),
        (inputs(event=["z ^ 2"]), "event", "'^' is ambiguous"),
        (
            inputs(event=["z"], event_options={"fill": {"y": 0}}),
            "(top level)",
            "fill: 'y' is not one",
        ),
        ({"collections": {"a/b": TRACK}}, "collections", "collection 'a/b': use letters"),
        ({"collections": {"": TRACK}}, "collections", "collection '': use letters"),
    ],
)
def test_mistakes_are_reported_with_their_path(config, path, message):
    with pytest.raises(ValidationError) as caught:
        Inputs.model_validate(config)
    error = as_config_error(caught.value, "train.toml")
    assert isinstance(error, ConfigError)
    assert str(error).startswith("train.toml has ")
    assert f"  {path}" in str(error)
    assert message in str(error)


def test_every_mistake_is_reported():
    with pytest.raises(ValidationError) as caught:
        Inputs.model_validate(inputs(event=["1 +"], scale="x", first=-1))
    assert str(as_config_error(caught.value, "here")).startswith("here has 3 mistake(s)\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Inputs(colections={}), "unknown key; did you mean 'collections'?"),
        (lambda: Collection(feature=["pt"]), "unknown key; did you mean 'features'?"),
        (lambda: Inputs(collections={"T": {"features": ["pt +"]}}), "collections.T.features"),
        (lambda: Model(phi=[0]), "Model(...) has 2 mistake(s)\n  phi.0"),
        (lambda: Training(epochs=0), "Training(...) has 1 mistake(s)\n  epochs"),
        (lambda: Training(learning_rat=1), "did you mean 'learning_rate'?"),
    ],
)
def test_mistakes_in_python_are_errors_of_ours(make, message):
    with pytest.raises(ConfigError) as caught:
        make()
    assert message in str(caught.value)


def test_a_branch_may_be_called_like_a_onehot():
    assert Collection(features=["pt"], select="is_onehot > 0").select == "is_onehot > 0"


@pytest.mark.parametrize("config", [FULL, Inputs.model_validate(inputs())])
def test_json_round_trip(config):
    again = Inputs.model_validate_json(config.model_dump_json())
    assert again == config
    assert list(again.collections) == list(config.collections)
    assert Inputs.model_validate(config.model_dump(mode="json")) == config


def test_is_immutable():
    with pytest.raises(ValidationError):
        FULL.event = ()


@given(
    st.lists(st.sampled_from(["pt", "log(eta)", "onehot(q, 1)", "onehot(q, 1, 2, 3)"]), min_size=1)
)
def test_widths_and_names(features):
    widths = [3 if "3" in each else 1 for each in features]
    config = Inputs(collections={"a": Collection(features=features)}, event=features[:3])
    assert config.widths == {"a": sum(widths)}
    assert config.event_width == sum(widths[:3])
    names = feature_names(features)
    assert len(names) == sum(widths)
    assert [name for name in names if "onehot" not in name] == [
        each for each in features if "onehot" not in each
    ]


def test_names_of_onehots_have_their_position():
    assert feature_names(["a", "onehot(q, -1, 1)", "onehot(q, 2)"]) == [
        "a", "onehot(q, -1, 1)[0]", "onehot(q, -1, 1)[1]", "onehot(q, 2)[0]"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "prefix", "finds"),
    [
        ("Track", None, ["Track.pt", "Track_pt", "pt"]),
        ("Track", "part_", ["part.pt", "part_pt", "partpt", "pt"]),
        ("Track", "V0s.", ["V0s.pt", "V0s_pt", "V0spt", "pt"]),
        ("Track", "", ["pt"]),
    ],
)
def test_naming(name, prefix, finds):
    naming = Collection(features=["pt"], prefix=prefix).naming(name)
    assert list(naming.candidates("pt")) == finds


COLUMNS = ["trk_momentum", "trk_charge", "Jet_pt", "Jet_x", "PV_z", "n", "weight", "unused"]
FIELDS = Fields([(name,) for name in COLUMNS], "tree Events of a.root")


def test_paths_of():
    read = ["trk_momentum", "trk_charge", "Jet_pt", "PV_z", "n"]
    assert paths_of(FULL, FIELDS) == [(name,) for name in read]
    assert paths_of(FULL, FIELDS, "abs(weight)") == [(name,) for name in [*read, "weight"]]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (inputs(), r"^collection Track, 'log\(pt\)': no branch .* in tree Events of a.root"),
        (inputs(features=["1"], select="weight > 0"), "collection Track: no feature uses a branch"),
        (inputs(features=["n"], select="n>1", event=["PV_zz"]), "^event-level 'PV_zz': .*'PV_z'"),
        (inputs(features=["n"], select="x>0"), "^collection Track, 'x>0': no branch"),
        (inputs(features=["n"], select=None, sort="y1", first=1), "^collection Track, 'y1'"),
    ],
)
def test_paths_that_are_not_there(config, message):
    with pytest.raises((DataError, ConfigError), match=message):
        paths_of(Inputs.model_validate(config), FIELDS)
