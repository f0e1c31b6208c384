"""How a network is computed: recorded with a run, but never part of what defines the run."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Execution:
    """How a training is computed; the recipe stays the same."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 trains the network in bfloat16 wherever autocast considers it safe."""
    compile: bool = False
    """Compile the network with torch.compile for training."""
    channels_last: bool = False
    """Store the channels of a pixel next to each other, which is faster on GPUs."""
    micro_batch: int | None = None
    """At most this many images at once per worker; gradients accumulate up to the recipe's batch.
    Batch normalisation then sees the smaller batches; a recipe that says how many it sees allows no other."""
    decode: Literal["cpu", "gpu"] = "cpu"
    """gpu decodes training images with the GPU's own decoder, and keeps and crops them there; their pixels
    then differ slightly from the CPU's. Test images are always decoded on the CPU."""
