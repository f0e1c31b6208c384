"""The outputs of named layers, taken from any network without editing it."""

from collections.abc import Collection

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def features(model: nn.Module, layers: Collection[str], x: Tensor) -> dict[str, Tensor]:
    """Run ``model(x)`` and return the outputs of the named submodules.

    The features are copies, since the next layer may work in place; gradients flow from them to
    ``x`` and the weights. The mode (training or evaluation) and `torch.no_grad` are up to the caller.
    A layer that runs more than once gives its last output.

    Args:
        model: any module.
        layers: names of submodules, as in ``model.named_modules()``.
        x: a batch of images.

    Returns:
        name -> output, in the order of ``layers``.

    Raises:
        ValueError: there is no submodule of that name, or it did not run.
    """
    modules = dict(model.named_modules())
    if unknown := [name for name in layers if name not in modules]:
        raise ValueError(f"no layers are called {unknown}; the layers are {', '.join(modules)}")
    taken: dict[str, Tensor] = {}

    def take(name: str) -> RemovableHandle:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            taken[name] = output.clone()

        return modules[name].register_forward_hook(hook)

    handles = [take(name) for name in layers]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    if idle := [name for name in layers if name not in taken]:
        raise ValueError(f"the layers {idle} did not run on this input")
    return {name: taken[name] for name in layers}
