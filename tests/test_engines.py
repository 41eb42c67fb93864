"""An engine is chosen by name; what cannot be meant is refused, with the nearest thing that can."""

import pickle
from dataclasses import replace

import pytest
from helpers import make_scorer, need_openvino
from rootfiles import TOY, scorer_for, write_toy

import tracksets as ts
from tracksets import engines
from tracksets.engines import JAX, Engine
from tracksets.errors import ConfigError, MissingExtraError
from tracksets.labelling import label
from tracksets.provenance import Provenance
from tracksets.reading import provenances

SCORER = make_scorer()


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("openvinoo", "float32", "no engine 'openvinoo': did you mean 'openvino'"),
        ("torch", "float32", "no engine 'torch': there are: jax, openvino"),
        ("openvino", "bfloat", "openvino does not compute in 'bfloat': did you mean 'bfloat16'"),
        ("openvino", "int8", "there are: float32, bfloat16"),
        ("jax", "bfloat16", "jax does not compute in 'bfloat16': openvino does"),
    ],
)
def test_names_that_are_none(engine, precision, message):
    with pytest.raises(ConfigError, match=message):
        SCORER.on(engine, precision)


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tracksets\[openvino\]'"):
        SCORER.on("openvino")
    SCORER.save(tmp_path / "model.safetensors")
    with pytest.raises(MissingExtraError, match="openvino"):
        ts.load(tmp_path / "model.safetensors", engine="openvino")
    assert SCORER.on("jax") == SCORER


def test_the_engine_decides_who_is_equal():
    kinds = [SCORER, *(replace(SCORER, engine=Engine("openvino", each)) for each in _PRECISIONS)]
    assert len(set(kinds)) == len({each.__dask_tokenize__() for each in kinds}) == 3
    assert len({each.hash for each in kinds}) == 1
    for each in kinds:
        assert pickle.loads(pickle.dumps(each)) == each
        assert pickle.loads(pickle.dumps(each)).engine == each.engine


_PRECISIONS = ("float32", "bfloat16")


def test_a_model_file_does_not_say(tmp_path):
    replace(SCORER, engine=Engine("openvino")).save(tmp_path / "model.safetensors")
    assert ts.load(tmp_path / "model.safetensors").engine == JAX
    assert JAX.describe() == "jax in float32: the reference"


def test_what_was_measured_depends_on_the_kernel():
    assert "1.1 to 7 times" in engines._gain("bfloat16", "brgemm_avx512_amx_bf16")
    assert "0.5 times" in engines._gain("bfloat16", "brgemm_avx512_bf16")
    assert "0.03 times" in engines._gain("bfloat16", "jit_gemm_bf16")
    assert "0.5 to 1.1 times" in engines._gain("float32", "brgemm_avx512_f32")
    assert "0.6 times" in engines._gain("float32", "brgemm_avx2_f32")


def test_a_precision_needs_its_engine(tmp_path):
    with pytest.raises(ConfigError, match="precision 'bfloat16' needs an engine that has it"):
        label(SCORER, write_toy(tmp_path / "in.root"), tmp_path / "out", precision="bfloat16")


def test_a_labelled_file_says_its_engine_and_is_made_anew_for_another(tmp_path):
    need_openvino()
    source, scorer = write_toy(tmp_path / "in.root"), scorer_for(TOY)

    def run(model, **options):
        return label(model, source, tmp_path / "out", progress=False, **options)

    def note() -> Provenance:
        [found] = provenances(tmp_path / "out" / "in.root")
        return found

    assert len(run(scorer).written) == 1
    assert (note().engine, note().precision) == ("jax", "float32")
    assert "with" not in note().describe()
    assert len(run(scorer, engine="jax").skipped) == 1
    assert len(run(scorer, engine="openvino").written) == 1
    assert (note().engine, note().precision) == ("openvino", "float32")
    assert "with openvino in float32" in note().describe()
    assert note().model == scorer.hash
    assert len(run(scorer.on("openvino")).skipped) == 1
    assert len(run({"score": scorer}, engine="openvino").skipped) == 1
    assert len(run(scorer.on("openvino"), engine="jax").written) == 1


def test_notes_from_before_engines_were_jax():
    note = Provenance(
        field="x",
        model="0",
        config={},
        input="a",
        tree="t",
        uuid="1",
        size=1,
        mode="branch",
        format="root",
    )
    old = note.model_dump(exclude={"engine", "precision"})
    assert Provenance(**old).is_same_work(note)
    assert not note.is_same_work(note.model_copy(update={"engine": "openvino"}))


def test_the_command_line_says_what_is_gained_and_workers_compute_alike(tmp_path):
    need_openvino()
    from typer.testing import CliRunner

    from tracksets.cli import app

    scorer_for(TOY).save(tmp_path / "model.safetensors")
    files = [str(write_toy(tmp_path / f"{name}.root")) for name in "ab"]
    options = ["--mode", "friend", "--engine", "openvino", "--workers", "2"]
    arguments = [str(tmp_path / "model.safetensors"), *files, "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["label", *arguments, *options])
    assert result.exit_code == 0, result.output
    assert "openvino in float32 by" in result.stderr
    for name in "ab":
        [note] = provenances(tmp_path / "out" / f"{name}.root")
        assert (note.engine, note.model) == ("openvino", scorer_for(TOY).hash)
