"""The same network for weaver, which has no particle flow network of its own."""

import itertools

import torch


class DeepSet(torch.nn.Module):
    """100-100-256 | 100-100-100, for two classes."""

    def __init__(self, n_feature: int) -> None:
        super().__init__()
        self.phi, self.rho = layers(n_feature, 100, 100, 256), layers(256, 100, 100, 100)
        self.out = torch.nn.Linear(100, 2)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Score a padded batch, shape (jet, feature, particle)."""
        latent = self.phi(features.transpose(1, 2)) * mask.transpose(1, 2)
        return self.out(self.rho(latent.sum(1)))


def layers(*widths: int) -> torch.nn.Sequential:
    """Make a feed-forward network."""
    pairs = itertools.pairwise(widths)
    return torch.nn.Sequential(
        *(each for a, b in pairs for each in (torch.nn.Linear(a, b), torch.nn.ReLU()))
    )


def get_model(data_config, **options):
    network = DeepSet(len(data_config.input_dicts["pf_features"]))
    info = {
        "input_names": list(data_config.input_names),
        "input_shapes": {k: ((1, *s[1:])) for k, s in data_config.input_shapes.items()},
        "output_names": ["softmax"],
        "dynamic_axes": {},
    }
    return network, info


def get_loss(data_config, **options):  # noqa: ARG001
    return torch.nn.CrossEntropyLoss()
