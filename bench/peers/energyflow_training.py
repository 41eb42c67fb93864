"""EnergyFlow's PFN trained on padded jets: `energyflow_training.py FOLDER SEED EPOCHS`."""

import json
import os
import sys
import time
from pathlib import Path

os.environ |= {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import tensorflow as tf
from energyflow.archs import PFN

folder, seed, epochs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
tf.keras.utils.set_random_seed(seed)
data = np.load(folder / "jets.npz")
n_test = int(data["n_test"])
x, y = data["x"], tf.keras.utils.to_categorical(data["truth"])
order = n_test + np.random.default_rng(seed).permutation(len(x) - n_test)
held_out, rest = np.split(order, [len(order) // 20])
pfn = PFN(input_dim=x.shape[2], Phi_sizes=(100, 100, 256), F_sizes=(100, 100, 100), summary=False)
best = tf.keras.callbacks.EarlyStopping(patience=epochs, restore_best_weights=True)
begin = time.perf_counter()
pfn.fit(
    x[rest],
    y[rest],
    epochs=epochs,
    batch_size=500,
    validation_data=(x[held_out], y[held_out]),
    callbacks=[best],
    verbose=0,
)
seconds = time.perf_counter() - begin
scores = pfn.predict(x[:n_test], batch_size=1000, verbose=0)[:, 1]
np.save(folder / "scores.npy", scores)
kernels = [each.shape for each in pfn.model.get_weights() if each.ndim == 2]
mean = (data["x"][:, :, 0] > 0).sum(1).mean()
flops = sum(2 * a * b * (mean if i < 3 else 1) for i, (a, b) in enumerate(kernels))
result = {"seconds": seconds, "parameters": pfn.model.count_params(), "flops": float(flops)}
(folder / "result.json").write_text(json.dumps(result))
