"""How a network is computed, which is recorded with a run and never part of what defines it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Execution:
    """How a training is computed; the recipe stays the same."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 trains the network in bfloat16 wherever autocast considers it safe."""
    compile: bool = False
    """Compile the network with torch.compile."""
    channels_last: bool = False
    """Store the channels of a pixel side by side, which is faster on many GPUs."""
    micro_batch: int | None = None
    """The most images that a worker computes at once; gradients are summed up to the recipe's batch.
    Batch normalisation then sees the smaller batches."""
    decode: Literal["cpu", "gpu"] = "cpu"
    """gpu decodes training images with the GPU's own decoder, and keeps and crops them there; pixels differ
    slightly from CPU decoding. Test images are always decoded on the CPU."""
