"""Ours compared with torchvision's and timm's: response norms, training steps and inference, in one run.

    python -m benchmarks.networks [--only norms|networks] [--batch 32] [--device cpu] [--threads 1]

The two in a row take turns, so that a busy machine slows both alike; the figures are medians over a few
rounds. Only the ratios carry over to other machines.
"""

import argparse
import platform
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from statistics import median
from time import perf_counter

import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import models
from models.parts.layers import LocalResponseNorm

NORM_SHAPES = {
    "AlexNet norm1": (96, 55, 55),
    "AlexNet norm2": (256, 27, 27),
    "GoogLeNet norm1": (64, 56, 56),
    "GoogLeNet norm2": (192, 56, 56),
}
FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}

PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "alexnet / the same without any norm": (
        lambda: models.create("alexnet"),
        lambda: models.create("alexnet", lrn=False),
    ),
    "alexnet, paper / the same without any norm": (
        lambda: models.create("alexnet", preset="paper"),
        lambda: models.create("alexnet", preset="paper", lrn=False),
    ),
    "alexnet, one weird trick without norms / torchvision alexnet (same except for conv1's padding)": (
        lambda: models.create("alexnet", variant="one_weird_trick", lrn=False),
        torchvision.models.alexnet,
    ),
    "vgg_d / torchvision vgg16 (same)": (
        lambda: models.create("vgg_d"),
        torchvision.models.vgg16,
    ),
    "googlenet / torchvision googlenet (batch norm instead of response norm)": (
        lambda: models.create("googlenet", aux_heads="none"),
        lambda: torchvision.models.googlenet(aux_logits=False, init_weights=False),
    ),
    "resnet50, stride in the 3x3 / torchvision resnet50 (same)": (
        lambda: models.create("resnet50", stride_in="3x3", pool="padded"),
        torchvision.models.resnet50,
    ),
    "resnext50_32x4d / torchvision resnext50_32x4d (same except for the pool's padding)": (
        lambda: models.create("resnext50_32x4d"),
        torchvision.models.resnext50_32x4d,
    ),
    "se_resnet50 / timm legacy_seresnet50 (same except for the dropout)": (
        lambda: models.create("se_resnet50"),
        lambda: timm.create_model("legacy_seresnet50"),
    ),
}


def alternately(runs: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Median seconds of each, after one warm-up round."""
    seconds: list[list[float]] = [[] for _ in runs]
    for round_ in range(rounds + 1):
        for run, spent in zip(runs, seconds, strict=True):
            _synchronise()
            start = perf_counter()
            run()
            _synchronise()
            if round_:
                spent.append(perf_counter() - start)
    return [median(spent) for spent in seconds]


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def norms(batch: int, device: str, dtype: torch.dtype, rounds: int) -> None:
    ratios = {}
    for name, shape in NORM_SHAPES.items():
        for layout, memory_format in FORMATS.items():
            x = (30 * torch.randn(batch, *shape, device=device)).to(dtype)
            x = x.contiguous(memory_format=memory_format).requires_grad_()
            grad = torch.randn_like(x)
            layers: list[nn.Module] = [LocalResponseNorm(), nn.LocalResponseNorm(5, k=2.0)]
            kept = [_bytes_for_backward(layer, x) for layer in layers]
            ours, theirs = alternately([partial(_norm, layer, x, grad) for layer in layers], rounds)
            ratios[name, layout] = theirs / ours
            print(
                f"{name:16} {layout:14} ours {ours * 1e3:6.1f} ms, torch {theirs * 1e3:6.1f} ms, "
                f"{theirs / ours:5.2f} x as fast; kept for backward {kept[0] / 2**20:.0f} MiB, "
                f"torch {kept[1] / 2**20:.0f} MiB"
            )
    alexnets = [ratio for (name, _), ratio in ratios.items() if name.startswith("AlexNet")]
    print(f"geometric mean of AlexNet's four: {prod(alexnets) ** (1 / len(alexnets)):.2f} x")
    print(f"geometric mean of all: {prod(ratios.values()) ** (1 / len(ratios)):.2f} x\n")


def _norm(layer: nn.Module, x: Tensor, grad: Tensor) -> None:
    x.grad = None
    layer(x).backward(grad)


def _bytes_for_backward(layer: nn.Module, x: Tensor) -> int:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    return sum(kept.values())


def networks(batch: int, device: str, dtype: torch.dtype, rounds: int, only: str) -> None:
    x = (60 * torch.randn(batch, 3, 224, 224, device=device)).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(1000, (batch,), device=device)
    for name, pair in PAIRS.items():
        if only not in name:
            continue
        print(name)
        nets = [build().to(device, dtype).to(memory_format=torch.channels_last) for build in pair]
        _compare("forward and backward", [partial(_train, net, x, labels) for net in nets], rounds)
        _compare("inference", [partial(_infer, net.eval(), x) for net in nets], rounds)


def _train(net: nn.Module, x: Tensor, labels: Tensor) -> int:
    net.zero_grad()
    F.cross_entropy(net(x), labels).backward()
    return len(x)


@torch.inference_mode()
def _infer(net: nn.Module, x: Tensor) -> int:
    net(x)
    return len(x)


def _compare(kind: str, runs: Sequence[Callable[[], int]], rounds: int) -> None:
    peaks = []
    for run in runs:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        images = run()
        peaks.append(torch.cuda.max_memory_allocated())
    ours, theirs = alternately(runs, rounds)
    print(
        f"    {kind}: {images / ours:.1f} and {images / theirs:.1f} images/s, "
        f"{theirs / ours:.2f} x as fast"
        + (f"; peak {peaks[0] / 2**30:.2f} and {peaks[1] / 2**30:.2f} GiB" if any(peaks) else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--only", choices=("norms", "networks"))
    parser.add_argument("--pairs", default="", help="only the pairs whose name contains this")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor()
    print(
        f"torch {torch.__version__}, {device or platform.machine()}, {options.threads} threads, "
        f"batch {options.batch}, {options.dtype}\n"
    )
    run = options.batch, options.device, getattr(torch, options.dtype), options.rounds
    if options.only != "networks":
        norms(*run)
    if options.only != "norms":
        networks(*run, options.pairs)


if __name__ == "__main__":
    main()
