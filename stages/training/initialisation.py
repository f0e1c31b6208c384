"""Initial weights that two networks share wherever they can, so that a difference between them is paired."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from models.registry import DRAWS


class PairedInitialisation(TorchFunctionMode):
    """While this is entered, a tensor's random values depend on its shape and on how many of that shape
    came before, and on nothing else that was drawn.

    So leaving a layer out, or changing another one, leaves the rest of a network's initial weights as
    they are. A network that draws with a generator of its own is not touched.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._seen: Counter[tuple[int, ...]] = Counter()

    def __enter__(self) -> "PairedInitialisation":
        torch.manual_seed(self._seed)
        super().__enter__()
        return self

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Set the seed before each draw."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in DRAWS:
            drawn: Tensor = args[0] if args else kwargs["tensor"]
            shape = tuple(drawn.shape)
            key = [self._seed, math.prod(shape), *shape, self._seen[shape]]
            self._seen[shape] += 1
            torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        return func(*args, **kwargs)
