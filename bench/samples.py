"""Multiplicities to measure on, and inputs with them."""

import numpy as np

from tracksets.features import JaggedInputs

N_FEATURE = 6


def counts(kind: str, n_event: int, seed: int = 1) -> np.ndarray:
    """Draw tracks per event: `constant`, `jets` (mean 43), `exponential` (mean 40) or `zipf`."""
    random = np.random.default_rng(seed)
    if kind == "constant":
        return np.full(n_event, 40)
    if kind == "jets":
        return np.clip(random.gamma(6.5, 43 / 6.5, n_event).round(), 3, 130).astype(np.int64)
    if kind == "exponential":
        return random.exponential(40, n_event).round().astype(np.int64)
    if kind == "zipf":
        return np.minimum(random.zipf(1.6, n_event), 20_000)
    raise ValueError(kind)


def jagged(n_per_event: np.ndarray, seed: int = 1) -> JaggedInputs:
    """Draw normal features."""
    random = np.random.default_rng(seed)
    tracks = random.standard_normal((int(n_per_event.sum()), N_FEATURE), np.float32)
    return JaggedInputs(
        {"Track": n_per_event}, {"Track": tracks}, np.empty((len(n_per_event), 0), np.float32)
    )
