"""Training in two processes: the same as on two devices of one, and none waits for a dead one."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tracksets as ts
from tracksets.errors import ConfigError, ProcessError
from tracksets.processes import agreed, from_first, is_first, joined, meet, refuse_different


def test_alone():
    meet()
    refuse_different("a", "data")
    assert is_first()
    assert agreed(True) is True
    assert agreed(False) is False
    assert from_first(b"abc") == b"abc"


def test_what_cannot_be_joined():
    with pytest.raises(ConfigError, match=r"'first', expected HOST:PORT"), joined("first", 2, 0):
        pass
    np.asarray(ts.pooling_matrix(np.int32([0]), 1).data)  # JAX has computed
    with pytest.raises(ProcessError, match="process 0 cannot join the others: .*before"):  # noqa: SIM117
        with joined("localhost:1234", 2, 0):
            pass


CONFIG = """
[data]
tree = "Events"
[data.classes.background]
files = ["{data}/background.root"]
[data.classes.signal]
files = ["{data}/signal.root"]
[inputs]
event = ["PV_z"]
[inputs.collections.Track]
features = ["log(pt)", "eta"]
[model]
phi = [8]
rho = [8]
[training]
epochs = {epochs}
block_tracks = 8192
average = 0.9
checkpoint_minutes = {minutes}
blocks_per_step = {blocks}
"""


@pytest.fixture
def config(tmp_path, sample_data):
    """Return a function that writes a configuration."""

    def write(epochs=3, blocks=1, minutes=5):
        path = tmp_path / "train.toml"
        options = {"epochs": epochs, "blocks": blocks, "minutes": minutes}
        path.write_text(CONFIG.format(data=sample_data, **options))
        return path

    return write


@pytest.fixture
def train():
    """Return a function that starts a training, alone or as one of several processes."""
    started = []

    def start(*arguments, devices=1):
        flags = f"--xla_force_host_platform_device_count={devices}"
        process = subprocess.Popen(
            [sys.executable, "-m", "tracksets", "train", "-q", *map(str, arguments)],
            env={**os.environ, "XLA_FLAGS": flags},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def train_two(train):
    """Return a function that starts two processes; `second` are other arguments for one."""

    def start(*arguments, second=()):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        place = ("--coordinator", f"localhost:{port}", "--processes", 2, "--process")
        return train(*arguments, *place, 0), train(*(second or arguments), *place, 1)

    return start


def end(*processes):
    """Wait for processes; return their exit codes and error messages."""
    said = [each.communicate(timeout=300)[1] for each in processes]
    return [each.returncode for each in processes], said


def history(path):
    entries = ts.load(path).summary["history"]
    return [[each["loss"], each["validation_loss"]] for each in entries]


@pytest.mark.slow
def test_two_processes_are_like_two_devices_and_like_one(tmp_path, config, train, train_two):
    paths = [tmp_path / f"{name}.safetensors" for name in ("processes", "devices", "one")]
    assert end(*train_two(config(), "-o", paths[0]))[0] == [0, 0]
    assert end(train(config(), "-o", paths[1], devices=2))[0] == [0]
    assert end(train(config(blocks=2), "-o", paths[2]))[0] == [0]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    np.testing.assert_allclose(history(paths[0]), history(paths[2]), rtol=1e-5)
    one, two = ts.load(paths[2]).arrays, ts.load(paths[0]).arrays
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-5, err_msg=name)
    assert not list(tmp_path.glob("*.checkpoints"))


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "sign"), [(0, signal.SIGTERM), (1, signal.SIGKILL)])
def test_one_dies_and_both_go_on(tmp_path, config, train, train_two, killed, sign):
    path, expected = tmp_path / "killed.safetensors", tmp_path / "expected.safetensors"
    processes = train_two(config(6, minutes=0), "-o", path)
    wait_for_checkpoint(path, 1, processes)
    processes[killed].send_signal(sign)
    codes, said = end(*processes)
    assert codes[killed] == -sign
    assert codes[1 - killed] != 0
    assert not path.exists()
    if killed == 1:
        assert "process 0: error: another process has ended" in said[0]
    assert end(*train_two(config(6), "-o", path, "--resume"))[0] == [0, 0]
    assert end(train(config(6), "-o", expected, devices=2))[0] == [0]
    assert path.read_bytes() == expected.read_bytes()


def wait_for_checkpoint(path, step, processes):
    folder = path.with_name(f"{path.name}.checkpoints")
    while max((int(each.name) for each in folder.glob("[0-9]*") if each.name.isdigit()), default=-1) < step:  # fmt: skip
        assert all(each.poll() is None for each in processes)
        time.sleep(0.01)


@pytest.mark.slow
def test_ctrl_c_on_one_stops_both(tmp_path, config, train_two):
    path = tmp_path / "model.safetensors"
    processes = train_two(config(500, minutes=0.05), "-o", path)
    wait_for_checkpoint(path, 0, processes)
    processes[1].send_signal(signal.SIGINT)
    codes, said = end(*processes)
    assert codes == [0, 0]
    assert "stopped early; to go on" in said[0]
    assert "stopped early" not in said[1]
    assert ts.load(path).summary["stopped"] is True


@pytest.mark.slow
def test_errors_end_all(tmp_path, config, train_two):
    model = tmp_path / "model.safetensors"
    other = tmp_path / "other.toml"
    other.write_text(config().read_text().replace("8192", "4096"))
    codes, said = end(*train_two(config(), "-o", model, second=(other, "-o", model)))
    assert codes == [2, 2]
    for i in (0, 1):
        assert f"process {i}: error: data or settings differ between the processes" in said[i]
    missing = (tmp_path / "missing.toml", "-o", model)
    codes, said = end(*train_two(config(), "-o", model, second=missing))
    assert codes[1] == 2
    assert codes[0] != 0
    assert "process 1: error: no configuration file" in said[1]


@pytest.mark.slow
def test_nobody_to_join(config, train):
    codes, [said] = end(train(config(), "--distributed"))
    assert codes == [2]
    assert "error: " in said
    assert "say --coordinator HOST:PORT --processes N --process I" in said
    codes, [said] = end(train(config(), "--process", 1))
    assert codes == [2]
    assert "say --coordinator" in said


SRUN = """#!/bin/bash
# As SLURM would, for two processes on this machine.
shift
export SLURM_JOB_ID={job} SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" & first=$!
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" || exit
wait $first
"""


@pytest.mark.slow
def test_slurm(tmp_path, config):
    """The example, with an srun of our own: also that JAX finds what SLURM says."""
    srun = tmp_path / "srun"
    with socket.socket() as free:
        free.bind(("localhost", 61440 + os.getpid() % 4096))  # the port that JAX takes for this job
        job = os.getpid() % 4096
    srun.write_text(SRUN.format(job=job))
    srun.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    example = Path(__file__).parents[1] / "examples" / "slurm_train.sh"
    done = subprocess.run(
        ["bash", example, config(2), tmp_path / "model.safetensors"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best epoch") == 1
    assert len(ts.load(tmp_path / "model.safetensors").summary["history"]) == 2
