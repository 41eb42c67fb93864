"""What a training tells those who watch it."""

import csv

import numpy as np
import pytest
from helpers import BINARY, INPUTS, make_events, make_scorer

from tracksets.callbacks import Callback, Callbacks, HistoryFile, Saving, Step
from tracksets.errors import FileError
from tracksets.network import Model
from tracksets.scorer import load
from tracksets.settings import Training
from tracksets.training import fit

ENTRIES = [
    {"epoch": 1.0, "loss": 0.12345678, "seconds": 2.0},
    {"epoch": 2.0, "loss": 1e-12, "seconds": 1.5},
]


class Recorder(Callback):
    """Writes down what it is told."""

    def __init__(self):
        self.said, self.steps, self.entries = [], [], []

    def on_step(self, step):
        self.said.append("step")
        self.steps.append(step)

    def on_epoch(self, entry):
        self.said.append("epoch")
        self.entries.append(entry)

    def on_end(self, scorer, problem):
        self.said.append("end")
        self.result = scorer, problem

    def __enter__(self):
        self.said.append("enter")
        return self

    def __exit__(self, *error):
        self.said.append("exit")


def train(*callbacks, epochs=3, **options):
    events = make_events(200, seed=1)
    targets = np.asarray(events.PV_z) > 0
    training = Training(epochs=epochs, block_tracks=150, learning_rate=0.01, **options)
    model = Model(phi=[4], rho=[4])
    return fit(
        events,
        targets,
        INPUTS,
        weights=np.linspace(0.5, 1.5, 200),
        model=model,
        training=training,
        progress=False,
        callbacks=callbacks,
    )


def test_every_step_and_epoch_is_told():
    told = Recorder()
    scorer = train(told, schedule="cosine")
    n = len(told.steps)
    assert [each.step for each in told.steps] == list(range(1, n + 1))
    for epoch, entry in enumerate(told.entries, 1):
        of_epoch = [each for each in told.steps if each.epoch == epoch]
        assert sum(each.events for each in of_epoch) == 160
        assert entry["epoch"] == epoch
        assert entry["step"] == of_epoch[-1].step
        assert entry["learning_rate"] == of_epoch[-1].learning_rate
        assert entry["events_per_second"] > 160 / entry["seconds"]
    rates = [each.learning_rate for each in told.steps]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.009
    assert told.said[0] == "enter"
    assert told.said[-2:] == ["exit", "end"]
    assert told.said.count("epoch") == len(told.entries) == 3
    assert told.result[0] is scorer
    assert told.result[1].sample.n_event == 160


def test_losses_of_steps_add_up_to_that_of_the_epoch():
    told = Recorder()
    train(told)
    problem = told.result[1]
    # The norm of a step is the mean sum of weights, of the steps as estimated.
    n_step = problem.sample.n_block(problem.shape)
    for entry in told.entries:
        losses = [each.loss for each in told.steps if each.epoch == entry["epoch"]]
        assert sum(losses) / n_step == pytest.approx(entry["loss"], rel=1e-6)


def test_the_scorer_keeps_the_history_but_for_the_times():
    """So that the same training gives the same model file."""
    told = Recorder()
    scorer = train(told)
    times = ("seconds", "events_per_second")
    expected = [{k: v for k, v in each.items() if k not in times} for each in told.entries]
    assert scorer.history == expected
    scorer.history[0]["loss"] = 0.0  # a copy
    assert scorer.history == expected
    assert make_scorer(BINARY).history == []


def test_a_training_that_goes_on_repeats_the_epochs_before(tmp_path):
    class Stop(Exception):
        pass

    class Stopping(Callback):
        def on_epoch(self, entry):
            if entry["epoch"] == 2:
                raise Stop

    kept = {"checkpoints": tmp_path / "state", "progress": False}
    events = make_events(200, seed=1)
    arguments = (events, np.asarray(events.PV_z) > 0, INPUTS)
    options = {
        "model": Model(phi=[4], rho=[4]),
        "training": Training(epochs=3, block_tracks=150, checkpoint_minutes=0),
    }
    with pytest.raises(Stop):
        fit(*arguments, **options, **kept, callbacks=[Stopping()])
    told, table = Recorder(), HistoryFile(tmp_path / "h.csv")
    fit(*arguments, **options, **kept, resume=True, callbacks=[told, table])
    assert [each["epoch"] for each in told.entries] == [1, 2, 3]
    assert min(each.epoch for each in told.steps) > 1
    assert len((tmp_path / "h.csv").read_text().splitlines()) == 4


def test_history_file(tmp_path):
    path = tmp_path / "new" / "history.csv"
    with HistoryFile(path) as table:
        for n, entry in enumerate(ENTRIES, 1):
            table.on_epoch(entry)
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            read = [{name: float(value) for name, value in row.items()} for row in rows]
            assert read == ENTRIES[:n]
    assert path.read_bytes().startswith(b"epoch,loss,seconds\n1,0.12345678,2\n")


def test_a_file_that_exists_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "h.csv"
    path.write_text("mine")
    first = Recorder()
    with pytest.raises(FileError, match=r"h\.csv exists already"):
        train(first, HistoryFile(path))
    assert first.said == ["enter", "exit"]  # before the training
    assert path.read_text() == "mine"
    train(HistoryFile(path, force=True), epochs=1)
    assert len(path.read_text().splitlines()) == 2


def test_saving(tmp_path):
    scorer = train(Saving(tmp_path / "m.safetensors"), epochs=1)
    assert load(tmp_path / "m.safetensors") == scorer


def test_nothing_is_an_answer():
    """A callback may leave out what it does not care for."""
    with Callbacks([Callback()]) as each:
        each.on_step(Step(1, 1, 10, 0.5, 1e-3))
        each.on_epoch(ENTRIES[0])
        each.on_end(None, None)
