import math
import tracemalloc
from itertools import pairwise

import awkward as ak
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracksets.errors import DataError, NonFiniteError
from tracksets.features import JaggedInputs, event_values, jagged_inputs
from tracksets.fields import Columns
from tracksets.inputs import Collection, Inputs

N_EVENT = 50


def make_events(seed=0):
    random = np.random.default_rng(seed)
    counts = {"Track": random.poisson(3, N_EVENT), "Jet": random.poisson(1, N_EVENT)}

    def jagged(name, values):
        return ak.unflatten(values, counts[name])

    n, n_jet = counts["Track"].sum(), counts["Jet"].sum()
    return ak.zip(
        {
            "Track_pt": jagged("Track", random.exponential(1, n).astype(np.float32)),
            "Track_eta": jagged("Track", random.normal(0, 1, n)),
            "Track_charge": jagged("Track", random.choice([-1, 1], n)),
            "Track_rank": jagged("Track", random.integers(0, 3, n)),
            "Track_cov": jagged("Track", random.normal(0, 1, (n, 2))),
            "Jet_pt": jagged("Jet", random.exponential(9, n_jet)),
            "PV_z": random.normal(0, 1, N_EVENT),
            "flag": random.choice([True, False], N_EVENT),
        },
        depth_limit=1,
    )


EVENTS = make_events()
INPUTS = Inputs(
    collections={
        "Track": Collection(
            features=[
                "log(pt)",
                "eta - PV_z",
                "onehot(charge, -1, 1)",
                "cov[1]",
                "1.5",
                "pt/sum(pt)",
            ],
            select="pt > 0.3",
        ),
        "Jet": Collection(features=["pt > 5", "pt"]),
    },
    event=["PV_z", "count(Track_pt)", "sum(Jet_pt)", "onehot(flag, 0, 1)", "7"],
)


def slow(events):
    """Evaluate INPUTS event by event and track by track."""
    tracks, jets, event_level, counts = [], [], [], []
    for event in ak.to_list(events):
        z, pts = event["PV_z"], event["Track_pt"]
        kept = [i for i, pt in enumerate(pts) if pt > 0.3]
        for i in kept:
            charge = event["Track_charge"][i]
            flags = [charge == -1, charge == 1]
            kinematics = [math.log(pts[i]), event["Track_eta"][i] - z]
            tracks.append([*kinematics, *flags, event["Track_cov"][i][1], 1.5, pts[i] / sum(pts)])
        jets += [[pt > 5, pt] for pt in event["Jet_pt"]]
        flag = event["flag"]
        event_level.append([z, len(pts), sum(event["Jet_pt"]), not flag, flag, 7])
        counts.append([len(kept), len(event["Jet_pt"])])
    return tracks, jets, event_level, np.array(counts).reshape(-1, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e,
        lambda e: e[::-1],
        lambda e: e[ak.num(e.Track_pt) > 2],
        lambda e: e[ak.num(e.Track_pt) == 0],
        lambda e: e[:0],
        lambda e: e[7:8],
    ],
    ids=["all", "reversed", "masked", "no tracks", "no events", "one event"],
)
def test_is_like_a_slow_loop(change):
    events = change(EVENTS)
    found = jagged_inputs(events, INPUTS)
    tracks, jets, event_level, counts = slow(events)
    assert found.n_event == len(events)
    assert found.n_track == len(tracks) + len(jets)
    for name, expected, column in (("Track", tracks, 0), ("Jet", jets, 1)):
        assert found.counts[name].tolist() == counts[:, column].tolist()
        assert found.counts[name].dtype == np.int64
        width = INPUTS.widths[name]
        np.testing.assert_allclose(
            found.tracks[name], np.reshape(expected, (-1, width)), 1e-5, 1e-6
        )
    np.testing.assert_allclose(found.event, np.reshape(event_level, (-1, 6)), 1e-6)
    assert {each.dtype for each in (*found.tracks.values(), found.event)} == {np.dtype("f4")}


@pytest.mark.parametrize("first", [1, 2, 100])
@pytest.mark.parametrize("select", [None, "pt > 0.5"])
@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("pt", lambda track: -track[0]),
        ("-pt", lambda track: track[0]),
        ("rank", lambda track: -track[1]),
        ("rank == 1", lambda track: track[1] != 1),
    ],
)
def test_first_tracks_by_falling_key_and_ties_by_position(sort, key, select, first):
    collection = Collection(features=["pt", "rank"], sort=sort, first=first, select=select)
    found = jagged_inputs(EVENTS, Inputs(collections={"Track": collection}))
    counts, tracks = [], []
    for event in ak.to_list(EVENTS):
        every = zip(event["Track_pt"], event["Track_rank"], strict=True)
        left = [track for track in every if select is None or track[0] > 0.5]
        hardest = sorted(left, key=key)[:first]
        counts.append(len(hardest))
        tracks += [track for track in left if track in hardest]  # in their old order
    assert found.counts["Track"].tolist() == counts
    np.testing.assert_allclose(found.tracks["Track"], np.reshape(tracks, (-1, 2)))


def test_a_key_that_is_nan_comes_last():
    events = ak.Array({"T_x": [[np.nan, 1.0, 3.0, np.nan, 2.0]], "T_i": [[0, 1, 2, 3, 4]]})
    for first, kept in ((2, [2, 4]), (4, [0, 1, 2, 4])):
        collection = Collection(features=["i"], sort="x", first=first)
        found = jagged_inputs(events, Inputs(collections={"T": collection}))
        assert found.tracks["T"][:, 0].tolist() == kept


def one(values, options=None, **branches):
    """Evaluate the feature `x` of the collection T, or of events where `values` are not jagged."""
    events = ak.Array({"T_x": values, **branches})
    options = {key: {"x": value} for key, value in (options or {}).items()}
    config = Inputs(collections={"T": Collection(features=["x"], **options)})
    return jagged_inputs(events, config).tracks["T"][:, 0]


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        ([NAN, INF, -INF, 2], {"fill": -1}, [-1, -1, -1, 2]),
        ([-5, 0.5, 5], {"clip": (0, 1)}, [0, 0.5, 1]),
        ([NAN, -INF, 9], {"fill": 7, "clip": (0, 3)}, [3, 3, 3]),
        ([1e300, -1e300, 1], {"clip": (-2, 2)}, [2, -2, 1]),
        ([2**40, 1], {"clip": (0, 100)}, [100, 1]),
        ([2**24, 1], {"clip": (0, 1e9)}, [2**24, 1]),
        ([True, False], {"clip": (0, 0.5)}, [0.5, 0]),
        ([3, 4], {"fill": 0}, [3, 4]),
    ],
)
def test_fill_and_clip(values, options, expected):
    assert one([values], options).tolist() == expected


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([[1.0], [], [2, NAN, INF]], {}, "'x' .of x. is NaN or infinite 2 .* first nan in event 2"),
        ([[1.0, -INF]], {}, "first -inf in event 0"),
        ([[1.0, INF]], {"clip": (0, 1)}, "first inf in event 0"),
        (
            [[1], [2**24 + 1]],
            {},
            "collection T in the array: feature 'x' holds the integer 16777217",
        ),
        ([[2**24 + 1]], {"fill": 0}, "holds the integer 16777217"),
        ([[2**24 + 1]], {"clip": (0, 1e9)}, "holds the integer 16777217"),
        ([[1.0], [1e39]], {}, "feature 'x' holds 1e.39"),
        ([[1.0], None], {}, "T_x: 1 event.s. missing"),
        ([["a"]], {}, "collection T: .*T_x holds strings"),
        ([1.0, 2.0], {}, r"collection T: none of \['x'\] is jagged"),
        ([[[1.0, 2], []]], {}, "T_x holds lists of lists"),
        (ak.to_regular(ak.Array([[[1.0, 2]]]), axis=2), {}, "'x' gives 2 numbers per track"),
    ],
)
def test_what_a_feature_cannot_be(values, options, message):
    with pytest.raises(DataError, match=message):
        one(values, options)


def test_non_finite_features_name_the_event_in_the_file():
    events = ak.Array({"T_x": [[1.0, 0.5], [], [0.25, 0.0]], "z": [1.0, 0.0, 1.0]})
    config = Inputs(collections={"T": Collection(features=["x", "log(x)"], select="x < 1")})
    with pytest.raises(NonFiniteError, match=r"collection T .*'log\(x\)' .* -inf in event 1002\. .*"
                       r'select, or .* fill = \{ "log\(x\)" = 0.0 \}'):  # fmt: skip
        jagged_inputs(events, config, first_event=1000)
    config = Inputs(collections={"T": Collection(features=["x"])}, event=["z", "1/z"])
    with pytest.raises(NonFiniteError, match=r"event-level .*'1/z' .of z. .* first inf in event 6"):
        jagged_inputs(events, config, first_event=5)


def test_only_tracks_that_are_kept_have_to_be_finite():
    events = ak.Array({"T_x": [[0.0, 2**30, 2.0]]})
    config = Inputs(collections={"T": Collection(features=["1/x"], select="x > 0 && x < 9")})
    assert jagged_inputs(events, config).tracks["T"].tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (["x", "y"], "collection T: 'y': unequal counts.* 2 and 1 in event 1"),
        (["x + y"], r"collection T: in 'x \+ y': unequal counts"),
    ],
)
def test_unequal_counts(features, message):
    events = ak.Array({"T_x": [[1], [2, 3]], "T_y": [[1], [2]]})
    with pytest.raises(DataError, match=message):
        jagged_inputs(events, Inputs(collections={"T": Collection(features=features)}))


def test_reductions_over_another_collection_come_in_any_order():
    for features in (["sum(Jet_pt)", "pt"], ["pt", "sum(Jet_pt)"], ["count(Jet_pt) > 0", "pt"]):
        config = Inputs(collections={"Track": Collection(features=features)})
        found = jagged_inputs(EVENTS, config)
        assert found.counts["Track"].tolist() == ak.num(EVENTS.Track_pt).to_list()


@pytest.mark.parametrize("change", [lambda e: e[:0], lambda e: e[ak.num(e.Track_pt) == 0]])
def test_nothing_to_see(change):
    events = change(EVENTS)
    found = jagged_inputs(events, INPUTS)
    assert found.tracks["Track"].shape == (0, 7)
    assert found.event.shape == (len(events), 6)


def test_no_events_of_unknown_type():
    events = ak.Array({"T_x": [], "z": []})
    config = Inputs(collections={"T": Collection(features=["log(x)"])}, event=["z"])
    found = jagged_inputs(events, config)
    assert (found.n_event, found.n_track) == (0, 0)
    assert found.counts["T"].shape == (0,)


def test_untyped_empty_lists():
    events = ak.Array({"T_x": [[], []]})
    found = jagged_inputs(events, Inputs(collections={"T": Collection(features=["log(x)"])}))
    assert found.counts["T"].tolist() == [0, 0]
    with pytest.raises(DataError, match=r"no branch or field 'x' or .* there are: T$"):
        jagged_inputs(ak.Array({"T": [[], []]}), Inputs(collections={"T": {"features": ["x"]}}))


def test_a_onehot_of_one_code_is_one_feature():
    config = Inputs(
        collections={"Track": Collection(features=["onehot(charge, 1)", "pt"])},
        event=["onehot(flag, 1)"],
    )
    found = jagged_inputs(EVENTS, config)
    charges = ak.flatten(EVENTS.Track_charge).to_numpy()
    assert found.tracks["Track"][:, 0].tolist() == (charges == 1).tolist()
    assert found.event[:, 0].tolist() == EVENTS.flag.to_list()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Track_pt", "'Track_pt' gives one number per track where one per event is needed"),
        ("sum(Track_cov)", r"'sum\(Track_cov\)' gives 2 numbers per event"),
        ("PV_zz", "did you mean 'PV_z'"),
    ],
)
def test_what_an_event_level_feature_cannot_be(text, message):
    with pytest.raises(DataError, match=message):
        jagged_inputs(EVENTS, INPUTS.model_copy(update={"event": (text,)}))


def test_event_values():
    columns = Columns(EVENTS)
    assert (
        event_values("sum(Track_pt > 1)", columns).tolist()
        == ak.sum(EVENTS.Track_pt > 1, axis=1).to_list()
    )
    assert event_values("2", columns).tolist() == [2] * N_EVENT
    with pytest.raises(DataError, match="several numbers per event"):
        event_values("onehot(flag, 0, 1)", columns)


WHOLE = jagged_inputs(EVENTS, INPUTS)


def assert_same(one, other):
    np.testing.assert_array_equal(one.event, other.event)
    for name in ("Track", "Jet"):
        np.testing.assert_array_equal(one.counts[name], other.counts[name])
        np.testing.assert_array_equal(one.tracks[name], other.tracks[name])


@given(st.lists(st.integers(0, N_EVENT - 1), max_size=9))
def test_take_is_like_evaluating_the_chosen_events(chosen):
    chosen = np.array(chosen, np.int64)
    assert_same(WHOLE.take(chosen), jagged_inputs(EVENTS[chosen], INPUTS))


@given(st.lists(st.integers(0, N_EVENT), max_size=4))
def test_slices_are_views_and_concatenate_is_the_way_back(cuts):
    edges = [0, *sorted(cuts), N_EVENT]
    parts = [WHOLE.slice(*edge) for edge in pairwise(edges)]
    for part in parts:
        if len(part.tracks["Track"]):
            assert np.shares_memory(part.tracks["Track"], WHOLE.tracks["Track"])
    assert_same(JaggedInputs.concatenate(parts), WHOLE)
    columns = Columns(EVENTS)
    windows = [jagged_inputs(columns.window(*edge), INPUTS) for edge in pairwise(edges)]
    assert_same(JaggedInputs.concatenate(windows), WHOLE)


def test_take_backwards_twice():
    back = np.arange(N_EVENT)[::-1]
    assert_same(WHOLE.take(back).take(back), WHOLE)


def test_every_number_is_copied_once():
    """From the columns of an array into the matrix: what else is allocated is per event."""
    n_event, n_track = 1000, 100_000
    flat = np.random.default_rng(1).random((6, n_track), np.float32)
    counts = np.full(n_event, n_track // n_event)
    events = ak.Array(
        {f"Track_{x}": ak.unflatten(y, counts) for x, y in zip("abcdef", flat, strict=True)}
    )
    inputs = Inputs(collections={"Track": {"features": list("abcdef")}})
    jagged_inputs(events, inputs)
    tracemalloc.start()
    found = jagged_inputs(events, inputs)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found.tracks["Track"], flat.T)
    assert most < flat.nbytes + 20 * 8 * n_event + 100_000
