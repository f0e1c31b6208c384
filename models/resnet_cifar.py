"""ResNets for CIFAR: He, Zhang, Ren, Sun, arXiv:1512.03385, Sect. 4.2.

3 x 3 convolution of 16 channels; then 2n layers each of 16, 32, 64 channels on maps of 32, 16, 8
pixels; global average pool; classifier: 6n + 2 layers, shortcuts of option A.

    =====  ===  ==========  =============
    depth  n    parameters  multiply-adds
    =====  ===  ==========  =============
    20     3       269,722   40.6 M
    32     5       464,154   68.9 M
    44     7       658,586   97.2 M
    56     9       853,018  125.5 M
    110    18    1,727,962  252.9 M
    1202   200  19,421,274
    =====  ===  ==========  =============

Ten classes, a 32 x 32 image. torchvision has no such net; the ImageNet ResNets with a smaller stem
that often go by this name have forty times the parameters.
"""

from functools import partial

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from models.fidelity import Fidelity
from models.parts.residual import BasicBlock, Shortcut, conv, initialise, make_stage
from models.registry import register
from models.resnet import DROPOUT, INITIALISATION, NORMALISATION


class ResNetCifar(nn.Module):
    """The net of 6n + 2 layers.

    Args:
        num_classes: length of the logits.
        depth: number of layers with weights, 6n + 2.
        shortcut: option A (the paper's), B or C, or None for the plain net.
        zero_gamma: start each block's last scale at zero; not in the paper.
        width: multiplier of all hidden channels.

    Raises:
        ValueError: `depth` is not 6n + 2, or `zero_gamma` is set without shortcuts.
    """

    input_size = 32

    def __init__(
        self,
        num_classes: int = 10,
        *,
        depth: int = 110,
        shortcut: Shortcut | None = "A",
        zero_gamma: bool = False,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        n, rest = divmod(depth - 2, 6)
        if rest or n < 1:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), not {depth}")
        self.zero_gamma = zero_gamma
        unit = partial(BasicBlock, shortcut=shortcut)
        planes = max(1, round(16 * width))
        self.conv1 = conv(3, planes, 3)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2_x, channels = make_stage(unit, n, planes, planes, 1)
        self.conv3_x, channels = make_stage(unit, n, channels, 2 * planes, 2)
        self.conv4_x, channels = make_stage(unit, n, channels, 4 * planes, 2)
        self.pool4 = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """He initialisation from ``generator``, or from torch's global one."""
        initialise(self, generator, zero_gamma=self.zero_gamma)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) images, any size, to (N, num_classes) logits."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.conv4_x(self.conv3_x(self.conv2_x(x)))
        return self.fc(self.pool4(x).flatten(1))


@register("resnet_cifar")
def resnet_cifar(
    num_classes: int = 10,
    *,
    depth: int = 110,
    shortcut: Shortcut | None = "A",
    zero_gamma: bool = False,
    width: float = 1.0,
) -> ResNetCifar:
    """The CIFAR net of ``depth`` layers, by default the best of Table 6. See `ResNetCifar`."""
    return ResNetCifar(
        num_classes, depth=depth, shortcut=shortcut, zero_gamma=zero_gamma, width=width
    )


FIDELITY: dict[str, tuple[Fidelity, ...]] = {
    "resnet_cifar": (
        Fidelity(
            "layers and channels",
            "same",
            "6n + 2, 16-32-64 channels",
            "Sect. 4.2",
            checked="test_resnet.test_cifar_layer_table, test_resnet.test_cifar_parameters",
        ),
        Fidelity(
            "shortcuts",
            "same",
            "option A in all cases",
            "Sect. 4.2",
            checked="parameters: test_resnet.test_cifar_parameters",
        ),
        NORMALISATION,
        *INITIALISATION,
        DROPOUT,
        Fidelity(
            "head",
            "same",
            "global average pool, 10-way fc, softmax",
            "Sect. 4.2",
            checked="test_resnet.test_cifar_layer_table",
        ),
    ),
}
