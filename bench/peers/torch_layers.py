"""A feed-forward network in PyTorch with given weights."""

import torch
from case import Layers


def dense(layers: Layers, last: bool = True) -> torch.nn.Sequential:
    """Make a feed-forward network with these weights."""
    modules: list[torch.nn.Module] = []
    for kernel, bias in layers:
        linear = torch.nn.Linear(*kernel.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(kernel.T.copy()))
            linear.bias.copy_(torch.from_numpy(bias.copy()))
        modules += [linear, torch.nn.ReLU(inplace=True)]
    return torch.nn.Sequential(*(modules if last else modules[:-1]))
