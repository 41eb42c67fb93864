import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from flax import nnx
from helpers import deep_set, flat_inputs, random_arrays
from hypothesis import given, settings
from hypothesis import strategies as st

from tracksets import compiling
from tracksets.blocks import Shape, pack_inputs, unpack
from tracksets.compiling import compiled
from tracksets.features import JaggedInputs
from tracksets.layers import dropping
from tracksets.network import Architecture, DeepSet, Model
from tracksets.scaling import Scaling

WIDTHS = {"Track": 3, "Jet": 2}  # not in alphabetical order
COUNTS = {"Track": [3, 0, 11, 0, 1, 7, 2], "Jet": [1, 0, 0, 2, 5, 3, 1]}
SHAPE = Shape({"Track": 16, "Jet": 10}, 4)


def architecture_of(outputs=2, **model):
    options = {"phi": [8, 6], "rho": [5], **model}
    return Architecture(model=Model(**options), tracks=(*WIDTHS.items(),), event=2, outputs=outputs)


def run(architecture, inputs, shape=SHAPE, arrays=None):
    functions = compiled(architecture)
    state = functions.to_state(arrays or random_arrays(architecture))
    blocks = list(pack_inputs(inputs, shape))
    return unpack([functions.outputs(state, block) for block in blocks], blocks)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"pool": ["mean"]},
        {"pool": ["max", "sum"], "activation": "tanh"},
        {"pool": ["sum", "mean", "max"], "activation": "silu", "rho": []},
        {"activation": "gelu", "phi": [7], "rho": [5, 4]},
        {"pool": ["std"], "activation": "tanh"},
        {"pool": ["softmax", "std", "mean"]},
        {"residual": True, "phi": [6, 6, 8, 8], "rho": [5, 5], "activation": "gelu"},
        {"rounds": 1},
        {"rounds": 2, "residual": True, "pool": ["sum", "mean", "max", "std", "softmax"]},
    ],
)
def test_like_a_loop_over_events(model, strict_dtypes):
    architecture, inputs = architecture_of(**model), flat_inputs(COUNTS, WIDTHS, event=2)
    outputs = run(architecture, inputs)
    assert outputs.dtype == np.float32
    expected = deep_set(architecture, random_arrays(architecture), inputs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


ALL = ["sum", "mean", "max", "std", "softmax"]
ARCHITECTURE = architecture_of(pool=ALL, rounds=1, residual=True)
REFERENCE = random_arrays(ARCHITECTURE)


@jax.jit(static_argnames="chunk")
def chunked(state, block, chunk):
    return nnx.merge(compiled(ARCHITECTURE).graph, state)(block, chunk=chunk)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8)), min_size=1, max_size=12),
    st.integers(0, 100),
    st.sampled_from([SHAPE, Shape({"Track": 64, "Jet": 9}, 13)]),
    st.sampled_from([5, 64]),
)
def test_order_and_packing_change_nothing(rows, seed, shape, chunk):
    counts = dict(zip(WIDTHS, np.transpose(rows), strict=True))
    inputs = flat_inputs(counts, WIDTHS, event=2, seed=seed)
    random = np.random.default_rng(seed)
    events = random.permutation(inputs.n_event)
    tracks = {  # sorting by event and a random number shuffles the tracks of each event
        name: inputs.tracks[name][np.lexsort([random.random(axis.n_track), axis.event])]
        for name, axis in inputs.axes.items()
    }
    shuffled = JaggedInputs(inputs.counts, tracks, inputs.event).take(events)
    blocks = list(pack_inputs(shuffled, shape))
    state = compiled(ARCHITECTURE).to_state(REFERENCE)
    outputs = unpack([chunked(state, block, chunk) for block in blocks], blocks)
    expected = deep_set(ARCHITECTURE, REFERENCE, inputs)[events]
    np.testing.assert_allclose(outputs, expected, rtol=2e-4, atol=2e-4)


def test_padding_never_leaks():
    functions = compiled(ARCHITECTURE)
    state = functions.to_state(REFERENCE)
    [block] = pack_inputs(
        flat_inputs({"Track": [3, 0, 2], "Jet": [1, 0, 2]}, WIDTHS, event=2), SHAPE
    )
    for f in (functions.outputs, lambda *args: chunked(*args, 64)):
        expected = np.asarray(f(state, block))[block.mask]
        for name, tracks in block.tracks.items():
            tracks[block.n_track[name] :] = np.nan
        block.event[~block.mask] = np.nan
        np.testing.assert_array_equal(np.asarray(f(state, block))[block.mask], expected)


def test_no_event_features_and_one_collection():
    architecture = Architecture(
        model=Model(phi=[4], rho=[3]), tracks=(("items", 2),), event=0, outputs=1
    )
    inputs = flat_inputs({"items": [2, 0, 5]}, event=0)  # also the name of a method of dicts
    expected = deep_set(architecture, random_arrays(architecture), inputs)
    outputs = run(architecture, inputs, Shape({"items": 8}, 3))
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_collections_survives_split_and_merge():
    network = DeepSet(Model(phi=[4], rho=[3]), WIDTHS, event=2, rngs=nnx.Rngs(0))
    [block] = pack_inputs(flat_inputs({"Track": [3, 0], "Jet": [1, 2]}, WIDTHS, event=2), SHAPE)
    merged = nnx.merge(*nnx.split(network))
    np.testing.assert_allclose(merged(block), network(block), rtol=1e-6)


def test_constants_are_not_trained():
    network = DeepSet(Model(phi=[4], rho=[3]), WIDTHS, event=2, rngs=nnx.Rngs(0))
    network.scaling["Jet"].set(Scaling(np.float32([1, 2]), np.float32([3, 4])))
    params, rest = (nnx.to_flat_state(each) for each in nnx.state(network, nnx.Param, ...))
    assert {path[0] for path, _ in params} == {"phi", "rho", "out"}
    assert {path[0] for path, _ in rest} == {"scaling", "event_scaling"}
    x = np.float32([[5, 6]])
    np.testing.assert_array_equal(network.scaling["Jet"](x), [[(5 - 1) * 3, (6 - 2) * 4]])


def test_arrays_round_trip():
    functions = compiled(ARCHITECTURE)
    arrays = functions.to_arrays(functions.to_state(REFERENCE))
    assert arrays.keys() == functions.shapes.keys() == REFERENCE.keys()
    for name, array in arrays.items():
        assert array.shape == functions.shapes[name]
        np.testing.assert_array_equal(array, REFERENCE[name], strict=True)
    new = functions.to_arrays(nnx.state(functions.new(0)))
    assert new.keys() == arrays.keys()
    assert new["phi.Track.layers.1.kernel"].shape == (8, 6)


def test_seed_decides_the_initial_weights():
    functions = compiled(ARCHITECTURE)
    one, same, other = (
        functions.to_arrays(nnx.state(functions.new(seed)))["out.kernel"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_compiled_once_for_an_architecture():
    functions = compiled(architecture_of(outputs=1, phi=[3]))
    assert functions is compiled(architecture_of(outputs=1, phi=(3,)))
    assert functions is not compiled(architecture_of(outputs=2, phi=[3]))

    inputs = flat_inputs(COUNTS, WIDTHS, event=2)
    state = functions.to_state(random_arrays(functions.architecture))
    assert functions.traces == 0
    for shape, traces in [(SHAPE, 1), (SHAPE, 1), (SHAPE.rung(1), 2), (SHAPE, 2)]:
        for block in pack_inputs(inputs, shape):
            functions.outputs(state, block)
        assert functions.traces == traces


def test_what_is_compiled_waits_for_nothing():
    """Only a new shape of blocks is compiled by one thread at a time."""
    functions = compiled(architecture_of(outputs=1, phi=[2]))
    state = functions.to_state(random_arrays(functions.architecture))
    [block, *_] = pack_inputs(flat_inputs(COUNTS, WIDTHS, event=2), SHAPE)
    expected = functions.outputs(state, block)
    with functions._tracing, ThreadPoolExecutor(1) as pool:
        found = pool.submit(functions.outputs, state, block)
        try:
            np.testing.assert_array_equal(found.result(timeout=300), expected)
        finally:
            pool.shutdown(wait=False)


@pytest.mark.parametrize(
    "options",
    [
        {"phi": []},
        {"phi": [0]},
        {"rho": [-1]},
        {"pool": []},
        {"pool": ["median"]},
        {"activation": "step"},
        {"phi": [10**9]},
        {"width": 3},
    ],
)
def test_bad_model(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Model(**options)


def test_threads_that_start_together_compile_once():
    for width in range(20, 25):
        architecture = architecture_of(outputs=1, phi=[width])
        start, found = threading.Barrier(8), []

        def run_here(architecture=architecture, start=start, found=found):
            start.wait()
            found.append(run(architecture, flat_inputs(COUNTS, WIDTHS, event=2)))

        threads = [threading.Thread(target=run_here) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert all(np.array_equal(each, found[0]) for each in found)
        assert compiled(architecture).traces == 1


def test_dropout_keeps_the_mean():
    x = np.full((1000, 50), 3, np.float32)
    drop = dropping(0.25, jax.random.key(0))
    first, second = np.asarray(drop(x)), np.asarray(drop(x))
    for dropped in (first, second):
        assert set(np.unique(dropped)) == {0, 4}
        assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert not np.array_equal(first, second)
    assert dropping(0.0, jax.random.key(0))(x) is x
    assert dropping(0.5, None)(x) is x


def test_dropout_is_behind_the_pooling():
    """With all of rho's inputs dropped, the tracks say nothing any more."""
    network = compiled(ARCHITECTURE).new(0)
    [block] = pack_inputs(flat_inputs(COUNTS, WIDTHS, event=2), Shape({"Track": 64, "Jet": 64}, 8))
    plain = network(block)
    np.testing.assert_array_equal(network(block, dropout=0.5), plain)
    dropped = network(block, dropout=0.9999999, key=jax.random.key(1))
    np.testing.assert_array_equal(dropped, np.broadcast_to(dropped[:1], dropped.shape))
    assert not np.array_equal(dropped, plain)


def test_bfloat16_is_close_and_sums_are_float32(strict_dtypes):
    """A thousand tracks of latent 1 add up to 1000, where bfloat16 would stop at 256."""
    architecture = Architecture(
        model=Model(phi=[1], rho=[], activation="relu"), tracks=(("Track", 1),), event=0, outputs=1
    )
    network = compiled(architecture).new(0)
    layer = network.phi["Track"].layers[0]
    for array, value in ((layer.kernel, 1), (layer.bias, 0), (network.out.kernel, 1)):
        array[...] = np.full(array.shape, value, np.float32)
    tracks = np.ones((1000, 1), np.float32)
    inputs = JaggedInputs({"Track": np.array([1000])}, {"Track": tracks}, np.empty((1, 0), "f4"))
    [block] = pack_inputs(inputs, Shape({"Track": 1000}, 1))
    found = network(block, dtype="bfloat16", chunk=300)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 1000)

    inputs = flat_inputs(COUNTS, WIDTHS, event=2)
    functions = compiled(ARCHITECTURE)
    network = nnx.merge(functions.graph, functions.to_state(random_arrays(ARCHITECTURE)))
    [block] = pack_inputs(inputs, Shape({"Track": 64, "Jet": 64}, 8))
    rough, exact = network(block, dtype="bfloat16"), network(block)
    np.testing.assert_allclose(rough, exact, rtol=0.1, atol=0.1 * np.abs(exact).max())
    assert not np.array_equal(rough, exact)


def energy_flow(**options):
    """An energy flow network of shares, angles and a flag, with random parameters."""
    model = Model.efn("z", **{"phi": [8, 6], "rho": [5], **options})
    architecture = Architecture(
        model=model, tracks=(("part", 4),), event=0, outputs=1, weights=(("part", 1),)
    )
    return architecture, random_arrays(architecture)


def jet_of(z, angles):
    tracks = np.column_stack([angles[:, 0], z, angles[:, 1:]]).astype(np.float32)
    return JaggedInputs({"part": np.array([len(z)])}, {"part": tracks}, np.empty((1, 0), "f4"))


def jets(*each):
    return JaggedInputs.concatenate([jet_of(*jet) for jet in each])


SAFE = [
    {},
    {"pool": ["mean", "std", "softmax"]},
    {"rounds": 2, "residual": True, "pool": ["sum", "softmax"]},
]


@pytest.mark.parametrize("options", SAFE)
def test_energy_flow_network_like_a_loop(options, strict_dtypes):
    architecture, arrays = energy_flow(**options)
    inputs = flat_inputs({"part": [3, 0, 7, 1]}, {"part": 4}, event=0)
    np.abs(inputs.tracks["part"][:, 1], out=inputs.tracks["part"][:, 1])
    outputs = run(architecture, inputs, Shape({"part": 8}, 3), arrays)
    expected = deep_set(architecture, arrays, inputs)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", SAFE)
def test_energy_flow_network_is_infrared_and_collinear_safe(options):
    """A soft track changes the outputs in proportion to its energy, a collinear split not at all.

    What weighs tracks by nothing, or lets phi see their energy, does change.
    """
    random = np.random.default_rng(3)
    z, angles = random.dirichlet(np.ones(12)), random.normal(size=(12, 3))
    soft, where = np.append(z, 0), np.append(angles, random.normal(size=(1, 3)), axis=0)
    softer = [np.append(z * (1 - share), share) for share in (1e-2, 1e-3, 1e-4)]
    share = random.uniform(0.1, 0.9, 12)
    split = np.concatenate([z * share, z * (1 - share)]), np.concatenate([angles, angles])
    inputs = jets((z, angles), (soft, where), *((each, where) for each in softer), split)
    shape = Shape({"part": 64}, 8)
    outputs = run(*_with(energy_flow(**options), inputs, shape))[:, 0]
    np.testing.assert_allclose(outputs[[1, 5]], outputs[0], rtol=1e-4)
    change = np.abs(outputs[2:5] - outputs[0])
    assert change[0] > 3 * change[1] > 9 * change[2]
    plain = architecture_with(energy_flow(**options)[0].model)
    outputs = run(*_with((plain, random_arrays(plain)), inputs, shape))[:, 0]
    assert (np.abs(outputs[[1, 5]] - outputs[0]) > 1e-3 * np.abs(outputs[0])).all()


def architecture_with(model):
    """The same network without weights: phi sees the energy."""
    model = model.model_copy(update={"weights": None})
    return Architecture(model=model, tracks=(("part", 4),), event=0, outputs=1)


def _with(network, inputs, shape):
    architecture, arrays = network
    return architecture, inputs, shape, arrays


def test_gradients_are_finite_with_empty_events_and_padding():
    """Also where all tracks of an event are the same, and with no track at all."""
    functions = compiled(ARCHITECTURE)
    network = nnx.merge(functions.graph, functions.to_state(REFERENCE))
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    @jax.jit
    def gradient(params, block):
        return jax.value_and_grad(lambda p: nnx.merge(graph, p, rest)(block).sum())(params)

    for counts in (COUNTS, {"Track": [0, 0], "Jet": [0, 0]}):
        inputs = flat_inputs(counts, WIDTHS, event=2)
        inputs.tracks["Track"][:11] = 1
        [block] = pack_inputs(inputs, Shape({"Track": 64, "Jet": 64}, 8))
        for leaf in jax.tree.leaves(gradient(params, block)):
            assert np.isfinite(leaf).all()


def test_context_reaches_every_track():
    """A jet changes what phi makes of the tracks of its event, not of those of others."""
    architecture = architecture_of(rounds=1, outputs=1)
    arrays = random_arrays(architecture)
    arrays = {**arrays, "rho.layers.0.kernel": arrays["rho.layers.0.kernel"].copy()}
    arrays["rho.layers.0.kernel"][6:] = 0  # rho sees only the tracks of the last round
    inputs = flat_inputs({"Track": [3, 0, 2], "Jet": [1, 1, 1]}, WIDTHS, event=2)
    before = run(architecture, inputs, SHAPE, arrays)
    inputs.tracks["Jet"][0] += 1
    inputs.tracks["Jet"][1] += 1
    after = run(architecture, inputs, SHAPE, arrays)
    assert (before != after).ravel().tolist() == [True, False, False]


def test_options_that_xla_does_not_know(monkeypatch):
    def refuse(*_, **__):
        raise jax.errors.JaxRuntimeError("No such compile option")

    compiling._options.cache_clear()
    with monkeypatch.context() as patched:
        patched.setattr(jax, "jit", refuse)
        assert compiling._options() is None
    compiling._options.cache_clear()
    assert compiling._options()
