import pickle

import pytest

from tracksets import errors
from tracksets.errors import ExpressionError, MissingExtraError, TracksetsError, near_misses

FAMILY = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", FAMILY)
def test_one_family(kind):
    assert issubclass(kind, TracksetsError)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ConfigError, ValueError),
        (errors.ExpressionError, errors.ConfigError),
        (errors.DataError, ValueError),
        (errors.NonFiniteError, errors.DataError),
        (errors.FileError, OSError),
        (errors.ModelError, ValueError),
        (errors.ProcessError, RuntimeError),
        (errors.MissingExtraError, ImportError),
    ],
)
def test_kin_of_the_builtin_errors(kind, builtin):
    assert issubclass(kind, builtin)


def test_missing_extra_says_what_to_install():
    message = str(MissingExtraError("onnx", "export", "exporting"))
    assert "exporting needs the package 'onnx'" in message
    assert "pip install 'tracksets[export]'" in message


def test_expression_error_points_at_a_character():
    error = ExpressionError.at("is wrong", "a $ b", 2)
    assert str(error).splitlines() == ["is wrong", "    a $ b", "      ^"]


@pytest.mark.parametrize(
    "error", [ExpressionError.at("x", "a", 0), errors.FileError("gone"), MissingExtraError(*"abc")]
)
def test_survives_the_way_back_from_a_worker(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("Track_ptt", ["Track_pt", "MET"], "did you mean 'Track_pt'?"),
        ("track_PT", ["Track_pt", "MET"], "did you mean 'Track_pt'?"),
        ("x", [], "there are none"),
        ("x", ["eta", "phi", "eta"], "there are: eta, phi"),
        (
            "name",
            "abcdefghijklmnopqrstuvw",
            f"there are: {', '.join('abcdefghijklmnopqrst')} and 3 more",
        ),
    ],
)
def test_near_misses(name, known, expected):
    assert near_misses(name, known) == expected


def test_the_best_near_miss_comes_first():
    assert near_misses("pt_errr", ["pt_er", "pt_err"]) == "did you mean 'pt_err' or 'pt_er'?"
