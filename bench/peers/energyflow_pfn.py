"""EnergyFlow's Particle Flow Network on Keras: padded with zeros, masked where all features are 0."""

import os

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import tensorflow as tf
from case import CORES, LARGEST, Case, Contestants, fastest, serve

tf.config.threading.set_intra_op_parallelism_threads(CORES)
tf.config.threading.set_inter_op_parallelism_threads(CORES)

import energyflow
from energyflow.archs import PFN


def network(case: Case) -> PFN:
    """Make the network, with the same weights and one logit."""
    made = PFN(
        input_dim=case.tracks.shape[1],
        Phi_sizes=tuple(len(bias) for _, bias in case.phi),
        F_sizes=tuple(len(bias) for _, bias in case.rho),
        output_dim=1,
        output_act="linear",
        loss=tf.keras.losses.BinaryCrossentropy(from_logits=True),
        summary=False,
    )
    layers = (*case.phi, *case.rho, *case.out)
    made.model.set_weights([array for layer in layers for array in layer])
    return made


def load(case: Case, task: str) -> tuple[Contestants, dict[str, float], str]:
    version = f"energyflow {energyflow.__version__}, tensorflow {tf.__version__}"
    if case.largest > LARGEST:
        return {}, {}, version
    pfn = network(case)
    padded, _ = case.padded()

    def predict(size: int, tracks: np.ndarray | None = None) -> np.ndarray:
        x = case.padded()[0] if tracks is None else tracks
        return pfn.predict(x, batch_size=size, verbose=0)

    if task == "train":
        targets = case.targets[:, None]
        options = {"epochs": 1, "batch_size": case.per_batch, "verbose": 0}
        return {"EnergyFlow PFN": lambda: pfn.fit(padded, targets, **options)}, {}, version
    size = fastest(lambda size: lambda: predict(size, padded), (250, 500, 1000))
    contestants = {
        "EnergyFlow PFN|network": lambda: predict(size, padded),
        "EnergyFlow PFN|call": lambda: predict(size),
    }
    return contestants, {"EnergyFlow PFN": case.difference(predict(size, padded))}, version


serve(load)
