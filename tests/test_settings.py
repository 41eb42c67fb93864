import pytest

from tracksets.settings import Training


@pytest.mark.parametrize(
    "option",
    [
        {"epochs": 0},
        {"learning_rate": 0},
        {"validation": 1},
        {"validation": -0.1},
        {"validation": "event %"},
        {"validation": "0.2"},
        {"validation": [0.2]},
        {"folds": 5},
        {"folds": "5"},
        {"folds": "onehot(event, 1, 2)"},
        {"ensemble": 0},
        {"ensemble": 101},
        {"seed": -1},
        {"patience": 0},
        {"block_tracks": 0},
        {"blocks_per_step": 0},
        {"weight_decay": -1},
        {"clip_gradient": 0},
        {"memory_gb": 0},
        {"label_smoothing": 1},
        {"dropout": 1},
        {"reflections": [[]]},
        {"reflections": ["eta"]},
        {"average": 1},
        {"precision": "float16"},
        {"schedule": "linear"},
        {"warmup": 30},
        {"momentum": 0.9},
    ],
)
def test_bad_options(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        Training(**option)


def test_expressions():
    assert Training().expressions == []
    settings = Training(folds="event % 5", validation="run == 3")
    assert settings.expressions == ["run == 3", "event % 5"]
    assert Training(validation="isTest", metric="auc").validation == "isTest"


def test_options_that_contradict_each_other():
    with pytest.raises(ValueError, match="one-cycle rises by itself"):
        Training(schedule="one-cycle", warmup=1)
    with pytest.raises(ValueError, match="'auc' needs validation events"):
        Training(metric="auc", validation=0)
