"""What batch normalisation normalises by when it does not look at the batch: averages over many images."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze(network: nn.Module) -> None:
    """Normalise by the averages as they are, and leave them, until the network is set to training again."""
    for norm in _norms(network):
        norm.eval()


@torch.no_grad()
def take_true_statistics(network: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Replace running averages by the mean over all of some batches, each counting alike.

    He 2015's released models have such averages, taken after training. Nothing but batch normalisation is as
    in training: dropout rests. A network without batch normalisation stays as it is.

    Args:
        network: on the inputs' device.
        inputs: batches as the network sees them in training.
    """
    norms = _norms(network)
    if not norms:
        return
    shares = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # then every batch counts alike
    for batch in inputs:
        network(batch)
    for norm, share in zip(norms, shares, strict=True):
        norm.momentum = share
    network.eval()


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]
