"""PyTorch: packed tracks that are summed by `index_add`, or padded ones; float32 and bfloat16."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from case import CORES, LARGEST, Case, Contestants, fastest, serve
from torch_layers import dense

torch.set_num_threads(CORES)
SIZES = (4_096, 16_384, 65_536)
"""Track slots of a batch that are tried when scoring."""


class DeepSet(torch.nn.Module):
    """The same network for both forms."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.phi = dense(case.phi)
        self.rho = torch.nn.Sequential(dense(case.rho), dense(case.out, last=False))

    def packed(self, tracks: torch.Tensor, rows: torch.Tensor, n_event: int) -> torch.Tensor:
        latent = self.phi(tracks)
        pooled = torch.zeros(n_event, latent.shape[1], dtype=latent.dtype)
        return self.rho(pooled.index_add_(0, rows, latent))[:, 0]

    def padded(self, tracks: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.rho((self.phi(tracks) * mask[:, :, None]).sum(1))[:, 0]


Packed = tuple[torch.Tensor, torch.Tensor, int]


def packed_batches(counts: np.ndarray, tracks: np.ndarray, size: int) -> Iterator[Packed]:
    """Cut flat tracks into batches of whole events with about so many tracks."""
    offsets = np.concatenate([[0], np.cumsum(counts)])
    start = 0
    while start < len(counts):
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + size, "right")) - 1)
        rows = np.repeat(np.arange(stop - start), counts[start:stop])
        part = tracks[offsets[start] : offsets[stop]]
        yield torch.from_numpy(part), torch.from_numpy(rows), stop - start
        start = stop


def padded_batches(padded: np.ndarray, mask: np.ndarray, size: int) -> Iterator[list[torch.Tensor]]:
    """Cut padded tracks into batches of so many slots."""
    n = max(1, size // padded.shape[1])
    for start in range(0, len(padded), n):
        part = slice(start, start + n)
        yield [torch.from_numpy(padded[part]), torch.from_numpy(mask[part]).float()]


def scoring(case: Case) -> tuple[Contestants, dict[str, float]]:
    network = DeepSet(case).eval()

    def bare(
        forward: Callable[..., torch.Tensor], batches: object, half: bool = False
    ) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return np.concatenate([forward(*each).float().numpy() for each in batches])

    contestants: dict[str, Callable[[], object]] = {}
    differences = {}
    for name, half in (("PyTorch packed", False), ("PyTorch packed, bfloat16", True)):

        def prepared(size: int, half: bool = half) -> Callable[[], np.ndarray]:
            batches = list(packed_batches(*case.flat(), size))
            return lambda: bare(network.packed, batches, half)

        size = fastest(prepared, SIZES)
        contestants[f"{name}|network"] = prepared(size)
        contestants[f"{name}|call"] = lambda size=size, half=half: bare(
            network.packed, packed_batches(*case.flat(), size), half
        )
        differences[name] = case.difference(prepared(size)())
    if case.largest <= LARGEST:

        def made(size: int) -> Callable[[], np.ndarray]:
            batches = list(padded_batches(*case.padded(), size))
            return lambda: bare(network.padded, batches)

        size = fastest(made, SIZES)
        contestants["PyTorch padded|network"] = made(size)
        contestants["PyTorch padded|call"] = lambda: bare(
            network.padded, padded_batches(*case.padded(), size)
        )
        differences["PyTorch padded"] = case.difference(made(size)())
    return contestants, differences


def training(case: Case) -> tuple[Contestants, dict[str, float]]:
    """Make one pass over the events in random order, batches included."""
    random = np.random.default_rng(1)
    offsets = np.concatenate([[0], np.cumsum(case.counts)])

    def batches() -> Iterator[np.ndarray]:
        order = random.permutation(len(case.counts))
        for start in range(0, len(order), case.per_batch):
            yield order[start : start + case.per_batch]

    def packed(chosen: np.ndarray) -> Packed:
        counts = case.counts[chosen]
        rows = np.repeat(np.arange(len(chosen)), counts)
        before = np.concatenate([[0], np.cumsum(counts)[:-1]])
        places = np.arange(counts.sum()) + np.repeat(offsets[chosen] - before, counts)
        return torch.from_numpy(case.tracks[places]), torch.from_numpy(rows), len(chosen)

    def trainer(forward: str, batch: Callable[[np.ndarray], object]) -> Callable[[], object]:
        network = DeepSet(case).train()
        optimiser = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
        loss = torch.nn.BCEWithLogitsLoss()

        def run() -> None:
            for chosen in batches():
                optimiser.zero_grad()
                targets = torch.from_numpy(case.targets[chosen])
                loss(getattr(network, forward)(*batch(chosen)), targets).backward()
                optimiser.step()

        return run

    contestants = {"PyTorch packed": trainer("packed", packed)}
    if case.largest <= LARGEST:
        padded, mask = case.padded()
        numbers = mask.astype(np.float32)
        contestants["PyTorch padded"] = trainer(
            "padded",
            lambda chosen: (torch.from_numpy(padded[chosen]), torch.from_numpy(numbers[chosen])),
        )
    return contestants, {}


def load(case: Case, task: str) -> tuple[Contestants, dict[str, float], str]:
    return *(scoring if task == "score" else training)(case), f"torch {torch.__version__}"


serve(load)
