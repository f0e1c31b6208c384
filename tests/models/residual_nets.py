"""Helpers that the tests of the residual networks share."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.registry import create_on_meta


def on_meta(name: str, **knobs) -> nn.Module:
    return create_on_meta(name, **knobs).eval()


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model: nn.Module, side: int) -> int:
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, side, side, device="meta"))
    return counter.get_total_flops() // 2


def sizes(model: nn.Module, layers: list[str], side: int) -> dict[str, tuple[int, int]]:
    """Channels and side of the output of each layer."""
    found: dict[str, tuple[int, int]] = {}
    for layer in layers:
        model.get_submodule(layer).register_forward_hook(
            lambda _module, _args, out, layer=layer: found.update({layer: tuple(out.shape[1:3])})
        )
    model(torch.empty(1, 3, side, side, device="meta"))
    return found


def randomise_norms(model: nn.Module) -> None:
    """Give every batch norm an effect, so that two nets are equal only if each norm is in place."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.8, 1.2)


def assert_learns(model: nn.Module, side: int, lr: float = 0.05, steps: int = 12) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, side, side), torch.arange(8) % 4
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    losses = []
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0], losses


def from_torchvision(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of torchvision's ResNet under our names."""
    renamed = {}
    for key, value in state.items():
        for layer in range(4, 0, -1):
            key = key.replace(f"layer{layer}.", f"conv{layer + 1}_x.")
        renamed[key.replace("downsample", "shortcut")] = value
    return renamed
