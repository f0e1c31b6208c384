"""How a network is computed, which is recorded with a run and never part of what defines it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Execution:
    """How a training is computed; the recipe stays the same."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 trains the network in bfloat16 where autocast deems it safe."""
    compile: bool = False
    """Train the network compiled by torch.compile."""
    channels_last: bool = False
    """Keep the channels of a pixel side by side, which GPUs like."""
    micro_batch: int | None = None
    """At most so many images at once on a worker; gradients are summed up to the recipe's batch.
    Batch normalisation then sees the smaller batches."""
    decode: Literal["cpu", "gpu"] = "cpu"
    """gpu decodes training images by the GPU's own decoder, and keeps and crops them there; their pixels
    are then not the CPU's to the bit. Test images are always decoded on the CPU."""
