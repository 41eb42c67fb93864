"""weaver's ParticleNet-lite trained on padded jets: `particlenet_training.py FOLDER SEED EPOCHS`.

Sizes as in its paper (Qu, Gouskos, arXiv:1902.08570), AdamW and a one-cycle rate; batches are cut
to their largest jet.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from weaver.nn.model.ParticleNet import ParticleNet

BATCH = 256
folder, seed, epochs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(seed)
data = np.load(folder / "jets.npz")
n_test = int(data["n_test"])
truth = torch.from_numpy(data["truth"]).long()
z, y, phi = np.moveaxis(data["x"], 2, 0)
mask = z > 0
log_z = np.log(np.where(mask, z, 1)) / 2 + 2
features = np.stack([log_z, 10 * y, 10 * phi, 10 * np.hypot(y, phi)], 1) * mask[:, None]
arrays = (np.stack([y, phi], 1), features, mask[:, None])
jets = [torch.from_numpy(each.astype(np.float32)) for each in arrays]

network = ParticleNet(
    input_dims=4,
    num_classes=2,
    conv_params=[(7, (32, 32, 32)), (7, (64, 64, 64))],
    fc_params=[(128, 0.1)],
    use_fusion=True,
    use_fts_bn=True,
    use_counts=True,
)


def outputs(chosen):
    most = max(int(jets[2][chosen].sum(2).max()), 8)  # neighbours must exist
    return network(*(each[chosen][:, :, :most] for each in jets))


rest = torch.arange(n_test, len(truth))
n_step = len(rest) // BATCH
optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * n_step)
seconds = 0.0
for _ in range(epochs):
    network.train()
    begin = time.perf_counter()
    shuffled = rest[torch.randperm(len(rest))]
    for chosen in shuffled[: n_step * BATCH].split(BATCH):
        loss = cross_entropy(outputs(chosen), truth[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
    seconds += time.perf_counter() - begin

network.eval()
with torch.no_grad():
    parts = [outputs(chosen).softmax(1)[:, 1] for chosen in torch.arange(n_test).split(BATCH)]
    with FlopCounterMode(display=False) as counter:
        outputs(torch.arange(BATCH))
np.save(folder / "scores.npy", torch.cat(parts).numpy())
result = {
    "seconds": seconds,
    "parameters": sum(each.numel() for each in network.parameters()),
    "flops": counter.get_total_flops() / BATCH,
}
(folder / "result.json").write_text(json.dumps(result))
