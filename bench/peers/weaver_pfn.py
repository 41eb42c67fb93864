"""weaver's `predict` with a particle flow network, which it has none of: files in, padded batches.

*The network alone* is the loop of `predict` over prepared batches; the whole starts from a ROOT
file, as nothing else is possible, and reads it in the process itself. The figures of merit that
`predict` logs, and the writing of its scores, are left out.
"""

import argparse
import os
from collections.abc import Callable
from functools import partialmethod
from importlib.metadata import version

import awkward as ak
import numpy as np
import torch
import tqdm
import uproot
from case import CORES, LARGEST, Case, Contestants, fastest, serve
from torch_layers import dense
from weaver.utils.dataset import SimpleIterDataset
from weaver.utils.nn.tools import evaluate_classification

torch.set_num_threads(CORES)
tqdm.tqdm.__init__ = partialmethod(tqdm.tqdm.__init__, disable=True)
SIZES = (128, 512, 1024)
"""Events of a batch that are tried; 128 is what weaver takes by default."""
DATA = """
treename: Events
new_variables: {{mask: ak.ones_like(a)}}
preprocess: {{method: manual, data_fraction: 1.0}}
inputs:
  tracks: {{length: {length}, vars: [{variables}]}}
  mask: {{length: {length}, vars: [[mask, null]]}}
labels: {{type: simple, value: [is_0, is_1]}}
"""


class Network(torch.nn.Module):
    """The same network, for two classes: weaver's scores are those of a softmax."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.phi, self.rho = dense(case.phi), dense(case.rho)
        [(kernel, bias)] = case.out
        two = [(np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0)))]
        self.out = dense(two, last=False)

    def forward(self, tracks: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        latent = self.phi(tracks.transpose(1, 2)) * mask.transpose(1, 2)
        return self.out(self.rho(latent.sum(1)))


class Batches(list):
    """Prepared batches, as a loader of weaver's."""

    dataset: SimpleIterDataset


def write(case: Case) -> tuple[str, str]:
    """Write what weaver reads: the events, and what to take of them."""
    events, data = case.folder / "events.root", case.folder / "data.yaml"
    names = case.events.fields
    labels = {"is_0": case.targets == 0, "is_1": case.targets == 1}
    columns = dict(zip(names, ak.unzip(case.events), strict=True))
    columns |= {name: each.astype(np.int32) for name, each in labels.items()}
    with uproot.recreate(events) as file:
        tree = file.mktree(
            "Events",
            {name: "i4" if name in labels else "var * float32" for name in columns},
            counter_name=lambda _: "n",
        )
        tree.extend(columns)
    variables = ", ".join(f"[{name}, null]" for name in names)
    data.write_text(DATA.format(length=case.largest, variables=variables), encoding="utf-8")
    return os.fspath(events), os.fspath(data)


def load(case: Case, task: str) -> tuple[Contestants, dict[str, float], str]:
    said = f"weaver-core {version('weaver-core')}"
    if task == "train" or case.largest > LARGEST:
        return {}, {}, said
    events, data = write(case)
    network = Network(case)
    options = {"args": argparse.Namespace(use_amp=False, amp_dtype=None)}

    def loader(size: int) -> torch.utils.data.DataLoader:
        dataset = SimpleIterDataset(
            {"": [events]}, data, for_training=False, fetch_by_files=True, fetch_step=1, name="test"
        )
        return torch.utils.data.DataLoader(dataset, batch_size=size)

    def predict(batches: object) -> np.ndarray:
        device = torch.device("cpu")
        return evaluate_classification(
            network, batches, device, None, False, eval_metrics=(), extra_args=options
        )[1]

    def prepared(size: int) -> Callable[[], np.ndarray]:
        of_file = loader(size)
        batches = Batches(of_file)
        batches.dataset = of_file.dataset
        return lambda: predict(batches)

    size = fastest(prepared, SIZES)
    difference = case.difference_of_scores(prepared(size)()[:, 1])
    contestants = {
        "weaver PFN|network": prepared(size),
        "weaver PFN|call": lambda: predict(loader(size)),
    }
    return contestants, {"weaver PFN": difference}, said


serve(load)
