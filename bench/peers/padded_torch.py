"""Score jets the way it is often written by hand: read all, pad all, score in PyTorch, write.

python padded_torch.py INPUT OUTPUT
"""

import itertools
import sys

import awkward as ak
import numpy as np
import torch
import uproot

FEATURES = ("part_pt", "part_eta", "part_phi", "part_charge")
LARGEST = 128


class DeepSet(torch.nn.Module):
    """The same network: 100-100-256 | 100-100-100."""

    def __init__(self) -> None:
        super().__init__()
        self.phi, self.rho = layers(len(FEATURES), 100, 100, 256), layers(256, 100, 100, 100)
        self.out = torch.nn.Linear(100, 1)

    def forward(self, tracks: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Score a padded batch."""
        pooled = (self.phi(tracks) * mask[:, :, None]).sum(1)
        return torch.sigmoid(self.out(self.rho(pooled)))[:, 0]


def layers(*widths: int) -> torch.nn.Sequential:
    """Make a feed-forward network."""
    pairs = itertools.pairwise(widths)
    return torch.nn.Sequential(
        *(each for a, b in pairs for each in (torch.nn.Linear(a, b), torch.nn.ReLU()))
    )


def main(source: str, output: str) -> None:
    """Score a file, and write a friend."""
    with uproot.open(source) as file:
        events = file["Events"].arrays([*FEATURES, "event"])
    columns = []
    for name in FEATURES:
        padded = ak.fill_none(ak.pad_none(events[name], LARGEST, clip=True), 0)
        columns.append(ak.to_numpy(padded).astype(np.float32))
    tracks = np.stack(columns, axis=-1)
    mask = tracks[:, :, 0] > 0
    tracks[:, :, 0] = np.log(np.maximum(tracks[:, :, 0], 1e-6))
    network = DeepSet().eval()
    scores = []
    with torch.inference_mode():
        for start in range(0, len(tracks), 1024):
            batch = slice(start, start + 1024)
            x, m = torch.from_numpy(tracks[batch]), torch.from_numpy(mask[batch]).float()
            scores.append(network(x, m).numpy())
    columns_out = {"event": np.asarray(events.event), "score": np.concatenate(scores)}
    with uproot.recreate(output) as file:
        file.mktree("Events_score", {key: each.dtype for key, each in columns_out.items()})
        file["Events_score"].extend(columns_out)


main(*sys.argv[1:])
