"""Several models of one training: what each has seen, and what the scorer makes of them."""

import os
import signal

import awkward as ak
import numpy as np
import pytest
from helpers import make_events, with_numbers

import tracksets as ts
from tracksets.calibration import link
from tracksets.callbacks import Callback, HistoryFile, Saving
from tracksets.errors import ConfigError, DataError, ExpressionError, FileError, StoppedError
from tracksets.fitting import _Fit
from tracksets.metrics import roc_auc

INPUTS = ts.Inputs(
    collections={"Track": {"features": ["log(pt)", "eta", "charge"]}}, event=["PV_z"]
)
MODEL = ts.Model(phi=[8], rho=[8])
TRAINING = ts.Training(
    epochs=2, block_tracks=400, block_events=100, learning_rate=1e-2, checkpoint_minutes=0
)
EVENTS = with_numbers(make_events(300, seed=5))
TARGETS = np.random.default_rng(1).integers(0, 2, 300)
FOLD = ak.to_numpy(EVENTS.event) % 3


def fit(events=EVENTS, targets=TARGETS, options=None, **settings):
    training = TRAINING.model_copy(update=settings)
    return ts.fit(
        events, targets, INPUTS, model=MODEL, training=training, progress=False, **(options or {})
    )


@pytest.fixture(scope="module")
def folded():
    return fit(folds="event % 3", ensemble=2)


def same(one, other):
    return all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)


def test_no_event_is_scored_by_a_model_that_was_trained_on_it(folded):
    """Whatever is done to the events of a fold changes nothing in the models that score them."""
    for i in range(3):
        inside = i == FOLD
        changed = ak.with_field(EVENTS, np.where(inside, 3 + 2 * EVENTS.PV_z, EVENTS.PV_z), "PV_z")
        changed["Track_eta"] = ak.where(inside, -EVENTS.Track_eta, EVENTS.Track_eta)
        weights = np.where(inside, 7.0, 1.0)
        other = fit(
            changed,
            np.where(inside, 1 - TARGETS, TARGETS),
            {"weights": weights},
            folds="event % 3",
            ensemble=2,
        )
        unchanged = [same(*pair) for pair in zip(folded.members, other.members, strict=True)]
        assert unchanged == [j // 2 == i for j in range(6)]
        assert folded(changed)[inside].to_list() == other(changed)[inside].to_list()
        every = [np.asarray(member(EVENTS)) for member in other.members[2 * i : 2 * i + 2]]
        expected = np.mean(every, axis=0, dtype=np.float64).astype(np.float32)
        np.testing.assert_array_equal(other(EVENTS)[inside], expected[inside])


def test_what_is_learned_by_heart_helps_no_score():
    """Targets are drawn at random, so that nothing can be known of an event that was not seen."""
    random = np.random.default_rng(0)
    events = make_events(120, seed=2)
    names = [f"x{i}" for i in range(12)]
    for name in names:
        events[name] = random.normal(size=120)
    events["event"] = np.arange(120)
    targets = random.integers(0, 2, 120)
    inputs = ts.Inputs(collections={"Track": {"features": ["log(pt)"]}}, event=names)
    training = TRAINING.model_copy(update={"epochs": 60, "validation": 0.0, "folds": "event % 2"})
    model = ts.Model(phi=[4], rho=[32])
    scorer = ts.fit(events, targets, inputs, model=model, training=training, progress=False)
    for i, member in enumerate(scorer.members):
        seen = np.arange(120) % 2 != i
        assert roc_auc(targets[seen], member(events)[seen]) > 0.95
    assert roc_auc(targets, scorer.without_folds()(events)) > 0.9
    assert abs(roc_auc(targets, scorer(events)) - 0.5) < 0.2


def test_each_model_is_that_of_a_training_without_its_fold(folded):
    for i in range(3):
        outside = i != FOLD
        for j in range(2):
            alone = fit(EVENTS[outside], TARGETS[outside], seed=TRAINING.seed + j)
            assert same(alone, folded.members[2 * i + j])
            about = folded.summary["members"][2 * i + j]
            assert about["fold"] == i
            for key in ("events", "best_epoch", "history"):
                assert about[key] == alone.summary[key]


def test_an_ensemble_is_made_of_single_trainings():
    scorer = fit(ensemble=3, seed=7)
    assert scorer.folds is None
    singles = [fit(seed=7 + j) for j in range(3)]
    assert list(scorer.members) == singles
    scores = np.asarray([np.asarray(single(EVENTS)) for single in singles], np.float64)
    found = scorer(EVENTS, spread=True)
    np.testing.assert_allclose(found.score, scores.mean(axis=0), rtol=2e-7)
    np.testing.assert_allclose(found.spread, scores.std(axis=0, ddof=1), rtol=1e-5)


def test_same_seed_same_scorer(folded):
    again = fit(folds="event % 3", ensemble=2)
    assert again == folded
    assert again.summary == folded.summary
    assert fit(folds="event % 3", ensemble=2, seed=9) != folded


def test_validation_by_expression():
    scorer = fit(validation="event < 60")
    assert scorer.summary["events"] == {"training": 240, "validation": 60}
    held_out = ak.to_numpy(EVENTS.event) < 60
    changed = ak.with_field(EVENTS, np.where(held_out, 50, EVENTS.PV_z), "PV_z")
    one = {"epochs": 1, "validation": "event < 60"}
    assert fit(changed, np.where(held_out, 1 - TARGETS, TARGETS), **one) == fit(**one)
    assert fit(folds="event % 3", validation="event < 60").summary["members"][0]["events"] == {
        "training": int((~held_out & (FOLD != 0)).sum()),
        "validation": int((held_out & (FOLD != 0)).sum()),
    }


def test_three_classes_and_a_regression_have_folds_too():
    scorer = fit(targets=np.arange(300) % 3, folds="event % 2")
    assert scorer(EVENTS, spread=True).spread.fields == ["0", "1", "2"]
    scorer = fit(targets=np.linspace(0, 9, 300), folds="event % 2")
    assert 0 < np.mean(scorer(EVENTS)) < 9


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"folds": "event % 2 + PV_z"}, DataError, "where a whole number is needed"),
        ({"folds": "event - 1"}, DataError, "gives -1 for a training event"),
        ({"folds": "event * 0"}, DataError, "1 different number"),
        ({"folds": "evnt % 2"}, DataError, "did you mean 'event'"),
        ({"folds": "Track_pt"}, DataError, "one number per track"),
        ({"validation": "event < 0"}, DataError, "'event < 0' holds out 0 of 300 events"),
        ({"validation": "Track_pt > 1"}, DataError, "one number per track"),
        ({"folds": "event %"}, ExpressionError, "event %"),
    ],
)
def test_refused(settings, error, message):
    with pytest.raises(error, match=message):
        fit(**settings)


def test_a_class_in_one_fold_only():
    with pytest.raises(DataError, match="fold 2 of 3: a class has no event in the training part"):
        fit(targets=FOLD == 1, folds="event % 3")


def test_progress_says_which_fold(capsys):
    training = TRAINING.model_copy(update={"folds": "event % 2", "ensemble": 2, "epochs": 1})
    ts.fit(EVENTS, TARGETS, INPUTS, model=MODEL, training=training)
    shown = capsys.readouterr().err
    for name in ("fold 1 of 2, model 1 of 2", "fold 2 of 2, model 2 of 2"):
        assert name in shown


@pytest.fixture
def epochs(monkeypatch):
    """Return a function that says what happens as the n-th epoch from now on begins."""
    original = _Fit._train

    def prepare(n, what):
        begun = []

        def train(self):
            begun.append(self)
            if len(begun) == n:
                what()
            return original(self)

        monkeypatch.setattr(_Fit, "_train", train)
        return begun

    return prepare


def power_cut():
    raise RuntimeError("power cut")


@pytest.mark.parametrize("n", [1, 3, 5, 6])
def test_going_on_with_the_model_that_was_interrupted(n, epochs, tmp_path):
    settings = {"folds": "event % 3", "options": {"checkpoints": tmp_path / "state"}}
    epochs(n, power_cut)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(**settings)
    with pytest.raises(FileError, match="--resume"):
        fit(**settings)
    begun = epochs(0, power_cut)
    settings["options"] |= {"resume": True}
    scorer = fit(**settings)
    assert len(begun) == 6 - (n - 1)  # epochs that were done are not done again
    assert scorer == fit(folds="event % 3")
    assert sorted(each.name for each in (tmp_path / "state").iterdir()) == [
        f"model_{i}" for i in range(3)
    ]


def test_checkpoints_of_other_folds_are_refused(epochs, tmp_path):
    options = {"checkpoints": tmp_path, "resume": True}
    epochs(3, power_cut)
    with pytest.raises(RuntimeError):
        fit(folds="event % 3", options=options)
    epochs(0, power_cut)
    with pytest.raises(FileError, match="another training"):
        fit(folds="event // 3 % 3", options=options)


def test_ctrl_c_before_the_last_model(epochs, tmp_path):
    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)

    epochs(3, interrupt)
    with pytest.raises(StoppedError, match=r"stopped at fold 2 of 3, and all are needed.*--resume"):
        fit(folds="event % 3", options={"checkpoints": tmp_path})
    epochs(0, interrupt)
    scorer = fit(folds="event % 3", options={"checkpoints": tmp_path, "resume": True})
    assert scorer == fit(folds="event % 3")
    epochs(5, interrupt)
    assert fit(folds="event % 3").summary["stopped"] is True


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_a_mean_is_calibrated_by_events_that_it_has_not_seen(method):
    raw = fit(folds="event % 3", ensemble=2)
    scorer = fit(folds="event % 3", ensemble=2, calibration=method)
    assert same(scorer, raw)
    assert scorer.calibration.method == method
    assert scorer.summary["calibration"]["events"] == len(EVENTS)
    expected = raw.calibrated(EVENTS, TARGETS, method=method)
    assert scorer.calibration == expected.calibration
    means = np.asarray(raw(EVENTS))[:, None]
    outputs = raw.task.unlink(means)
    np.testing.assert_allclose(raw.task.link(outputs), means, rtol=1e-6)
    calibrated = link(raw.task, scorer.calibration, outputs)[:, 0]
    np.testing.assert_array_equal(scorer(EVENTS), calibrated)
    assert not np.array_equal(calibrated, means[:, 0])
    both = scorer(EVENTS, spread=True)
    np.testing.assert_array_equal(both.score, calibrated)
    np.testing.assert_array_equal(both.spread, raw(EVENTS, spread=True).spread)
    assert scorer.hash != raw.hash
    assert all(member.calibration is None for member in scorer.members)


def test_a_calibrated_ensemble_is_saved(tmp_path):
    scorer = fit(validation="event % 4 == 0", ensemble=2, calibration="temperature")
    assert scorer.summary["calibration"]["events"] == np.sum(ak.to_numpy(EVENTS.event) % 4 == 0)
    scorer.save(tmp_path / "m.safetensors")
    again = ts.load(tmp_path / "m.safetensors")
    assert again == scorer
    np.testing.assert_array_equal(again(EVENTS), scorer(EVENTS))


def test_an_ensemble_leaves_no_events_to_calibrate_on():
    with pytest.raises(ConfigError, match="holds out other events.*state an expression"):
        fit(ensemble=2, calibration="temperature")


def test_each_model_is_watched_by_its_own(tmp_path):
    watching = [HistoryFile(tmp_path / "history.csv"), Saving(tmp_path / "model.safetensors")]
    scorer = fit(folds="event % 3", options={"callbacks": watching})
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [f"history_model_{i}.csv" for i in range(3)]
    for i, member in enumerate(scorer.summary["members"]):
        rows = (tmp_path / f"history_model_{i}.csv").read_text().splitlines()
        assert len(rows) == 1 + len(member["history"])


def test_whoever_watches_all_models_is_told_of_each():
    class All(Callback):
        def __init__(self):
            self.scorers = []

        def on_end(self, scorer, problem):
            assert len(problem.sample.events) == scorer.summary["events"]["training"]
            self.scorers.append(scorer)

    watch = All()
    scorer = fit(folds="event % 3", options={"callbacks": [watch]})
    assert len(watch.scorers) == 3
    assert all(same(*pair) for pair in zip(watch.scorers, scorer.members, strict=True))
