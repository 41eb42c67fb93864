import warnings

import awkward as ak
import numpy as np
import pytest
import vector

from tracksets.errors import DataError
from tracksets.features import jagged_inputs
from tracksets.fields import Columns, Fields, Naming
from tracksets.inputs import Collection, Inputs

PT = ak.Array([[1.0, 2.0], [], [3.0]])
ETA, PHI, MASS = PT / 10, PT / 5 - 3, PT / 7
FOUR = {"pt": PT, "eta": ETA, "phi": PHI, "mass": MASS}
PXYZE = ak.zip(FOUR, with_name="Momentum4D", behavior=vector.backends.awkward.behavior)


def find(name, paths, naming=None):
    return [*Fields(paths).find(name, naming).paths.values()]


def split(text):
    return [tuple(each.split("/")) for each in text.split()]


TRACK = Naming("Track")
FOUND = [
    # (name, collection, columns with / between the fields, the one that is meant)
    ("pt", TRACK, "Track/pt Jet/pt", "Track/pt"),
    ("pt", TRACK, "Jet_pt Track_pt pt", "Track_pt"),
    ("pt", TRACK, "Track.pt", "Track.pt"),
    ("pt", TRACK, "Jet_pt pt", "pt"),
    ("PV_z", TRACK, "PV_z Track_z", "PV_z"),
    ("PV_z", None, "PV/z PV/x", "PV/z"),
    ("PV.z", None, "PV/z PV/x", "PV/z"),
    ("PV.z", None, "PV_z PV_x", "PV_z"),
    ("PV_z", None, "PV/z PV_z", "PV_z"),
    ("PV.z", None, "PV_z PV/z", "PV/z"),
    ("fInvMass", Naming("V0s"), "V0s.fInvMass[2] V0Hyper.fInvMass", "V0s.fInvMass[2]"),
    ("V0s.fInvMass", None, "V0s.fInvMass[2]", "V0s.fInvMass[2]"),
    ("V0s_fInvMass", None, "V0s/fInvMass[2][3]", "V0s/fInvMass[2][3]"),
    ("Pt", Naming("jet"), "Jet_pt", "Jet_pt"),
    ("pt", TRACK, "Track_PT Track_pt", "Track_pt"),
    ("pt", Naming("part", verbatim=True), "partpt", "partpt"),
    ("pt", Naming("part", verbatim=True), "partPt part_pt", "part_pt"),
    ("pt", Naming("trk", rename={"pt": "momentum"}), "trk_pt trk_momentum", "trk_momentum"),
    ("pt", Naming("trk", rename={"pt": "all_pt"}), "trk_pt all_pt", "all_pt"),
]


@pytest.mark.parametrize(("name", "naming", "columns", "meant"), FOUND)
def test_found(name, naming, columns, meant):
    assert find(name, split(columns), naming) == split(meant)


@pytest.mark.parametrize(
    ("name", "naming", "columns", "message"),
    [
        ("ptt", TRACK, "Track_pt J", "'ptt' or 'Track_ptt' or 'Track.ptt' in FILE: did you mean"),
        ("ptt", TRACK, "Track_pt Jet_x", "did you mean 'Track_pt'"),
        ("PVz", None, "PV_z Jet_x", "no branch or field 'PVz' in FILE: did you mean 'PV_z'"),
        ("x", None, "a b", "FILE: there are: a, b"),
        ("x", None, "", "FILE: there are none"),
        ("pt", TRACK, "Track_PT Track_Pt", "did you mean 'Track_PT' or 'Track_Pt'"),
        ("m", None, "m[2] m[3] x", "no branch or field 'm'"),
        ("pt", Naming("part"), "partpt", "no branch or field"),
        ("pt", Naming("trk", rename={"pt": "gone"}), "trk_px trk_py", "'gone' or 'trk_gone'"),
        ("mass", TRACK, "Track_pt Track_eta Track_phi", "no branch or field 'mass'"),
        ("energy", TRACK, "Track_pt Track_phi", "no branch or field 'energy'"),
        ("px", TRACK, "Track_pt phi", "no branch or field 'px'"),
    ],
)  # fmt: skip
def test_not_found(name, naming, columns, message):
    with pytest.raises(DataError, match=message):
        Fields(split(columns), "FILE").find(name, naming)


@pytest.mark.parametrize(
    ("columns", "name", "read"),
    [
        ("pt eta phi mass px", "px", "px"),
        ("pt eta phi mass", "px", "pt phi"),
        ("pt eta phi mass", "pz", "pt phi eta"),
        ("pt eta phi mass", "energy", "pt phi eta mass"),
        ("pt eta phi mass", "E", "pt phi eta mass"),
        ("pt eta phi", "y", "pt phi eta"),
        ("Px Py Pz E", "pt", "Px Py"),
        ("Px Py Pz E", "eta", "Px Py Pz"),
        ("Px Py Pz E", "mass", "Px Py Pz E"),
    ],
)
def test_a_property_needs_no_more_than_its_coordinates(columns, name, read):
    paths = [(f"Jet_{each}",) for each in columns.split()]
    # an event's own numbers are not coordinates of its jets
    paths += [(each,) for each in ("mass", "energy", "theta") if each != name]
    assert find(name, paths, Naming("Jet")) == [(f"Jet_{each}",) for each in read.split()]
    assert find(f"Jet_{name}", paths) == [(f"Jet_{each}",) for each in read.split()]


@pytest.mark.parametrize(
    "stored",
    [
        FOUR,
        {"pt": PT, "eta": ETA, "phi": PHI},
        {"px": PXYZE.px, "py": PXYZE.py, "pz": PXYZE.pz, "E": PXYZE.energy},
        {"Px": PXYZE.px, "Py": PXYZE.py, "Pz": PXYZE.pz, "e": PXYZE.energy},
        {"pt": PT, "phi": PHI, "pz": PXYZE.pz, "m": MASS},
    ],
    ids=",".join,
)
def test_four_vectors_are_like_those_of_vector(stored):
    oracle = PXYZE
    names = ["px", "py", "pz", "pt", "phi", "eta", "theta", "p", "energy", "rapidity", "et", "mt"]
    if "mass" in "".join(stored) or len(stored) == 4:
        names += ["mass", "beta", "gamma"]
    else:
        four = {**stored, "mass": 0 * PT}
        oracle = ak.zip(four, with_name="Momentum4D", behavior=vector.backends.awkward.behavior)
    for events in (ak.Array({"Jet": ak.zip(stored)}), ak.zip(stored)):
        lookup = Columns(events).of(Naming("Jet"))
        for name in names:
            expected = ak.flatten(getattr(oracle, name))
            np.testing.assert_allclose(lookup(name).values, expected, rtol=1e-9, atol=1e-12)
            assert lookup(name).axis.counts.tolist() == [2, 0, 1]


def test_short_names_of_four_vectors():
    lookup = Columns(ak.zip({**FOUR, "mass": MASS}, depth_limit=1)).of()
    for short, name in (("m", "mass"), ("e", "energy"), ("y", "rapidity"), ("E", "energy")):
        np.testing.assert_array_equal(lookup(short).values, lookup(name).values)


def test_fields_of_arrays_nothing_of_which_is_read():
    events = ak.zip({"Track": ak.zip({"pt": PT, "q": PT}), "n": [1, 2, 3]}, depth_limit=1)
    assert Fields.of(events).paths == (("Track", "pt"), ("Track", "q"), ("n",))
    assert Fields.of(events[[2, 0]][1:]).paths == Fields.of(events).paths
    assert Fields.of(ak.Array([1, 2])).paths == ()
    assert Fields.of(ak.Array([])).paths == ()


def test_columns_are_flattened_once():
    columns = Columns(ak.Array({"Track": ak.zip({"pt": PT})}))
    assert columns.of(TRACK)("pt") is columns.of()("Track.pt") is columns.read(("Track", "pt"))


def test_windows_are_slices():
    columns = Columns(ak.Array({"x": PT, "n": [1, 2, 3]}))
    for start, stop in ((0, 3), (1, 3), (1, 1), (0, 2)):
        window = columns.window(start, stop)
        assert window.n_event == stop - start
        assert window.array(("x",)).to_list() == PT[start:stop].to_list()
        assert window.of()("n").values.tolist() == [1, 2, 3][start:stop]
    assert columns.window(1, 3).window(1, 2).of()("n").values.tolist() == [3]


def test_windows_have_about_as_many_tracks():
    counts = np.array([3, 0, 0, 4, 9, 1, 1, 1, 0])
    x = ak.unflatten(np.arange(counts.sum()), counts)
    columns = Columns(ak.Array({"x": x, "y": x[:, :1], "n": counts}))
    paths = [("y",), ("x",), ("n",)]
    windows = list(columns.windows(paths, 5))
    assert [i for window in windows for i in range(*window)] == list(range(9))
    assert len(windows) == 4
    # An event counts as one track at least, so that empty ones come to an end, too.
    assert list(columns.windows([("n",)], 3)) == [(0, 2), (2, 5), (5, 8), (8, 9)]
    assert list(columns.windows(paths, 100)) == [(0, 9)]
    assert list(Columns(columns_without_events()).windows([("x",)], 5)) == [(0, 0)]


def columns_without_events():
    return ak.Array({"x": PT, "n": [1, 2, 3]})[:0]


def test_errors_name_the_column():
    with pytest.raises(DataError, match=r"Track\.name holds strings"):
        Columns(ak.Array([{"Track": {"name": "a"}}])).of(TRACK)("name")


def test_counting_reads_no_values():
    def never():
        raise AssertionError("a column was read to count its tracks")

    form = ak.Array([{"Track": [{"eta": 1.0, "pt": 2.0}]}]).layout.form_with_key("{id}")
    buffers = {"1-offsets": np.array([0, 2, 2, 3]), "3-data": never, "4-data": never}
    events = ak.from_buffers(form, 3, buffers, buffer_key="{form_key}-{attribute}")
    assert Fields.of(events).find("nTrack").paths == {"nTrack": ("Track", "pt")}
    assert Columns(events).of()("nTrack").values.tolist() == [2, 0, 1]
    assert Columns(events).window(1, 3).of()("nTrack").values.tolist() == [0, 1]
    with pytest.raises(AssertionError, match="was read"):
        Columns(events).of()("Track_pt")


def test_counting_what_cannot_be_counted():
    with pytest.raises(DataError, match=r"PV\.z counts tracks, but has one number per event"):
        Columns(ak.Array({"PV": [{"z": 1.0}]})).of()("nPV")
    with pytest.raises(DataError, match=r"Track\.pt: 1 event\(s\) missing"):
        Columns(ak.Array({"Track": [[{"pt": 1.0}], None]})).of()("nTrack")


NANO = Inputs(
    collections={
        "Muon": Collection(features=["log(pt)", "eta", "px", "energy", "charge"], select="pt > 4"),
        "Jet": Collection(features=["pt / PV_z"]),
    },
    event=["PV.z", "count(Muon_pt)"],
)
READ = ("Muon_pt", "Muon_eta", "Muon_phi", "Muon_mass", "Muon_charge", "Jet_pt", "PV_z")


def test_nanoevents_records_and_branches_give_the_same_and_nothing_else_is_read(shared_data):
    nanoevents = pytest.importorskip("coffea.nanoevents")
    import uproot

    path = shared_data("nano_dy.root")
    log = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        factory = nanoevents.NanoEventsFactory.from_root({path: "Events"}, access_log=log)
        events = factory.events()
    assert Fields.of(events).find("pt", Naming("Muon")).paths == {"pt": ("Muon", "pt")}
    assert log == []
    found = jagged_inputs(events, NANO)
    assert {each.branch for each in log} == {*READ, "nMuon", "nJet"}

    with uproot.open(path) as file:
        branches = file["Events"].arrays(READ)
    records = ak.zip(
        {
            "Muon": ak.zip({name: branches[f"Muon_{name}"] for name in (*FOUR, "charge")}),
            "Jet": ak.zip({"pt": branches.Jet_pt}),
            "PV": ak.zip({"z": branches.PV_z}),
        },
        depth_limit=1,
    )
    assert found.counts["Muon"].sum() > 5
    for other in (jagged_inputs(branches, NANO), jagged_inputs(records, NANO)):
        for name in ("Muon", "Jet"):
            np.testing.assert_array_equal(other.counts[name], found.counts[name])
            np.testing.assert_array_equal(other.tracks[name], found.tracks[name])
        np.testing.assert_array_equal(other.event, found.event)


def test_vectors_in_branches_with_brackets(shared_data):
    import uproot

    with uproot.open(shared_data("alice_v0.root")) as file:
        events = file["fTreeV0"].arrays(filter_name="V0s.f*", entry_stop=500)
    inputs = Inputs(collections={"V0s": Collection(features=["fInvMass[1]", "fV0pt"])})
    found = jagged_inputs(events, inputs)
    assert found.n_track > 20
    expected = ak.flatten(events["V0s.fInvMass[2]"])[:, 1]
    np.testing.assert_array_equal(found.tracks["V0s"][:, 0], expected)
