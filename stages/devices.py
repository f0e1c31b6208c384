"""The device to compute on; and those whose data sheet is known, for plans that are made elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.errors import PipelineError

if TYPE_CHECKING:
    import torch

# Peak of dense half-precision matrix products with float32 sums, in FLOP/s, from the makers' data sheets.
DEVICES = {
    "t4": 65e12,
    "v100": 125e12,
    "l4": 121e12,
    "rtx3090": 71e12,
    "rtx4090": 165e12,
    "a100": 312e12,
    "h100": 989e12,
    "h200": 989e12,
}


def peak(device: str) -> float:
    """FLOP/s of a device by name.

    Raises:
        PipelineError: it is not known.
    """
    if device not in DEVICES:
        raise PipelineError(f"unknown device {device!r}", f"use one of: {', '.join(DEVICES)}")
    return DEVICES[device]


def default_device() -> torch.device:
    """The first GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
