"""Make the sample data of tracksets: simulated proton-proton collisions at 13 TeV.

Signal events come from the production of a pair of b quarks, background events from that of light
quarks and gluons. Each event is a variable-size set of charged-particle tracks. Pythia 8 makes the
particles; the detector is a simple smearing of the impact parameters. README.md next to this
script describes the files and their branches.

    pip install "pythia8mc==8.317.*" awkward numpy uproot
    python make_sample_data.py

The same seed gives the same content; the bytes differ, as ROOT files hold the time of writing.
"""

import argparse
from pathlib import Path

import awkward as ak
import numpy as np
import pythia8mc
import uproot

COMMON_SETTINGS = (
    "Print:quiet = on",
    "Beams:eCM = 13000.",
    "PhaseSpace:pTHatMin = 70.",
    "PhaseSpace:pTHatMax = 140.",
    # Favour high pT-hat: the event weight, 70 GeV / pT-hat, undoes it and varies from 1 to 0.5.
    "PhaseSpace:bias2Selection = on",
    "PhaseSpace:bias2SelectionPow = 1.",
    "PhaseSpace:bias2SelectionRef = 70.",
    "Random:setSeed = on",
)
SIGNAL_SETTINGS = ("HardQCD:hardbbbar = on",)
BACKGROUND_SETTINGS = (
    "HardQCD:nQuarkNew = 3",
    "HardQCD:gg2gg = on",
    "HardQCD:gg2qqbar = on",
    "HardQCD:qg2qg = on",
    "HardQCD:qq2qq = on",
    "HardQCD:qqbar2gg = on",
    "HardQCD:qqbar2qqbarNew = on",
)

# Charge by PDG number of the charged particles that reach the detector: e, mu, pi, K, p.
CHARGES = {11: -1, 13: -1, 211: 1, 321: 1, 2212: 1}
MIN_PT = 0.5  # GeV
MAX_ETA = 2.5
MAX_RADIUS = 30.0  # mm, about the beam pipe's: a track that starts further out is not kept
MAX_D0 = 2.0  # mm
BEAM_SPOT_SIGMA_Z = 35.0  # mm
MANTISSA_BITS = 10
PYTHIA_BATCH = 250  # events in memory at a time


def round_mantissa(values: np.ndarray, bits: int = MANTISSA_BITS) -> np.ndarray:
    """Round float32 numbers to ``bits`` of the 23 mantissa bits; trailing zeros compress well."""
    drop = 23 - bits
    pattern = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (pattern + (1 << (drop - 1))) >> drop << drop
    return rounded.view(np.float32)


def resolutions(pt: np.ndarray, eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Resolutions of d0 and z0 in mm, for pT in GeV.

    Fits to the resolutions of isolated muons in CMS, arXiv:1405.6569 (JINST 9 P10009), figure 15:
    good to about 25% for 0.5 < pT < 25 GeV. The first term is the detector's precision, the second
    one multiple scattering.
    """
    sin_theta = 1 / np.cosh(eta)
    scattering = 1 / (pt * np.sqrt(sin_theta))  # = 1 / (p sin^(3/2) theta)
    return 0.012 + 0.070 * scattering, (0.022 + 0.077 * scattering) / sin_theta


def make_tracks(particles: ak.Array, rng: np.random.Generator) -> ak.Array:
    """Turn Pythia's particles into smeared tracks, a list of records per event."""
    pdg = abs(particles.id)
    charged = ak.zeros_like(pdg, dtype=bool)
    for number in CHARGES:
        charged = charged | (pdg == number)
    particles = particles[(particles.status > 0) & charged]

    counts = ak.num(particles)
    flat = ak.flatten(particles)
    px, py, pz = (ak.to_numpy(flat.p[axis]) for axis in ("px", "py", "pz"))
    # Pythia leaves out the production vertex of a particle made at the collision point, the origin.
    x, y, z = (ak.to_numpy(ak.fill_none(flat.vProd[axis], 0.0)) for axis in ("px", "py", "pz"))
    pdg_number = ak.to_numpy(flat.id)
    charge = np.sign(pdg_number) * np.array([CHARGES[number] for number in abs(pdg_number)])

    pt = np.hypot(px, py)
    eta = np.arcsinh(pz / pt)
    # Straight line through the production vertex, at its closest approach to the beam line.
    d0_err, z0_err = resolutions(pt, eta)
    d0 = (y * px - x * py) / pt + rng.normal(0.0, d0_err)
    z0 = z - (x * px + y * py) / pt * (pz / pt) + rng.normal(0.0, z0_err)

    columns = {"pt": pt, "eta": eta, "phi": np.arctan2(py, px)}
    columns |= {"d0": d0, "z0": z0, "d0_err": d0_err, "z0_err": z0_err}
    columns = {name: round_mantissa(column) for name, column in columns.items()}
    columns["charge"] = charge.astype(np.int32)
    tracks = ak.unflatten(ak.zip(columns), counts)

    keep = (pt > MIN_PT) & (abs(eta) < MAX_ETA) & (np.hypot(x, y) < MAX_RADIUS) & (abs(d0) < MAX_D0)
    return tracks[ak.unflatten(keep, counts)]


def simulate(settings: tuple[str, ...], count: int, seed: int) -> ak.Array:
    """Simulate ``count`` events of one process; their weights average 1."""
    pythia = pythia8mc.Pythia("", False)
    for setting in (*COMMON_SETTINGS, *settings, f"Random:seed = {seed}"):
        if not pythia.readString(setting):
            msg = f"Pythia does not accept {setting!r}"
            raise ValueError(msg)
    if not pythia.init():
        msg = "Pythia did not initialise"
        raise RuntimeError(msg)

    rng = np.random.default_rng(seed)
    tracks, weights = [], []
    for start in range(0, count, PYTHIA_BATCH):
        batch = pythia.nextBatch(min(PYTHIA_BATCH, count - start))
        tracks.append(make_tracks(batch.prt, rng))
        weights.append(ak.to_numpy(batch.info.weights[:, 0]))
    weight = np.concatenate(weights)
    pv_z = rng.normal(0.0, BEAM_SPOT_SIGMA_Z, count)
    return ak.zip(
        {
            "PV_z": round_mantissa(pv_z),
            "genWeight": round_mantissa(weight / weight.mean()),
            "Track": ak.concatenate(tracks),
        },
        depth_limit=1,
    )


def mix(signal: ak.Array, background: ak.Array, empty_fraction: float, seed: int) -> ak.Array:
    """Mix two samples in random order, label them and empty a share of the events of each."""
    rng = np.random.default_rng(seed)
    labelled = []
    for sample, label in ((signal, 1), (background, 0)):
        failed = np.zeros(len(sample), dtype=bool)
        failed[rng.choice(len(sample), round(empty_fraction * len(sample)), replace=False)] = True
        sample["Track"] = sample.Track[~failed & (sample.Track.pt > 0)]
        sample["isSignal"] = np.full(len(sample), label, dtype=np.int32)
        labelled.append(sample)
    events = ak.concatenate(labelled)
    return events[rng.permutation(len(events))]


def write(path: Path, events: ak.Array, run: int, first_event: int, cluster_size: int) -> None:
    """Number the events and write them as the TTree ``Events``, in clusters of baskets."""
    index = np.arange(len(events))
    branches = {
        "run": np.full(len(events), run, dtype=np.uint32),
        "luminosityBlock": (1 + index // 100).astype(np.uint32),
        "event": (first_event + index).astype(np.uint64),
    }
    branches |= {field: events[field] for field in events.fields}
    with uproot.recreate(path, compression=uproot.LZMA(9)) as file:
        parts = [slice(i, i + cluster_size) for i in range(0, len(events), cluster_size)]
        tree = file.mktree("Events", {name: array[parts[0]] for name, array in branches.items()})
        for part in parts[1:]:
            tree.extend({name: array[part] for name, array in branches.items()})


def main() -> None:
    """Make the three files."""
    parser = argparse.ArgumentParser(description="Make the sample data of tracksets with Pythia 8.")
    add = parser.add_argument
    add("--output", type=Path, default=Path(__file__).parent, help="folder of the files to write")
    add("--seed", type=int, default=13, help="first of the five random seeds (default: 13)")
    add("--train-events", type=int, default=2200, help="events per training file (default: 2200)")
    add("--mixed-events", type=int, default=1500, help="events in events.root (default: 1500)")
    add("--empty-fraction", type=float, default=0.01, help="share of empty events (default: 0.01)")
    args = parser.parse_args()

    half = args.mixed_events // 2
    train_signal = simulate(SIGNAL_SETTINGS, args.train_events, args.seed)
    train_background = simulate(BACKGROUND_SETTINGS, args.train_events, args.seed + 1)
    mixed_signal = simulate(SIGNAL_SETTINGS, half, args.seed + 2)
    mixed_background = simulate(BACKGROUND_SETTINGS, args.mixed_events - half, args.seed + 3)
    mixed = mix(mixed_signal, mixed_background, args.empty_fraction, args.seed + 4)

    write(args.output / "signal.root", train_signal, 1, 1, 1100)
    write(args.output / "background.root", train_background, 2, 1_000_001, 1100)
    write(args.output / "events.root", mixed, 3, 5_000_000_001, 300)


if __name__ == "__main__":
    main()
