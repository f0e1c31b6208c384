"""Inception-v3, v4 and Inception-ResNet-v2: members of the 2016 winner's ensemble.

Szegedy et al., "Rethinking the Inception architecture", arXiv:1512.00567 (v3), and "Inception-v4,
Inception-ResNet and the impact of residual connections on learning", arXiv:1602.07261. At 1000
classes, multiply-adds for one 299 x 299 image:

    ===================  ==========  =====  ============================================
    net                  parameters  G      whose code
    ===================  ==========  =====  ============================================
    inception_v3         23,834,568   5.71  torchvision.models.inception
    inception_v4         42,679,816  12.25  timm.models.inception_v4
    inception_resnet_v2  55,843,464  13.16  timm.models.inception_resnet_v2
    ===================  ==========  =====  ============================================

Inception-v3 with its auxiliary head has 27,161,264. `Inception.net` is torchvision's or timm's
unchanged port of Google's TensorFlow nets (tensorflow/models, research/slim/nets); the
initialisation and the dropout are Google's. No weights are included; either project's can be
loaded into `Inception.net`.
"""

import math

from torch import Generator, Tensor, nn

from models.fidelity import Fidelity
from models.registry import register


class Inception(nn.Module):
    """One of torchvision's or timm's nets, following the conventions of this package.

    In training a net with an auxiliary head returns (main, auxiliary) logits.

    Args:
        net: the net; its ``AuxLogits``, if any, is the auxiliary head.
        image_size: side in pixels of the images.
        smallest: the smallest side that the net can take.

    Raises:
        ValueError: `image_size` is too small.
    """

    def __init__(self, net: nn.Module, image_size: int, smallest: int) -> None:
        super().__init__()
        if image_size < smallest:
            head = getattr(net, "AuxLogits", None)
            layer = "the convolution of AuxLogits" if head else "the last pool"
            raise ValueError(
                f"{layer} cannot run at image_size={image_size}; the smallest is {smallest}"
                + (", or 75 with aux_head=False" if head else "")
            )
        self.input_size = image_size
        self.net = net
        self.reset_parameters()

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """He's truncated normal with fan-in, as in Google's code; smaller in the auxiliary head.

        Args:
            generator: source of the random numbers; None for torch's global one.
        """
        # Google's inception_v3.py has truncated normals of 0.01 and 0.001 there.
        small = {"net.AuxLogits.conv1.conv": 0.01, "net.AuxLogits.fc": 0.001}
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # Truncation at two standard deviations leaves a normal 1 / sqrt(1.3) of its spread.
                std = small.get(name, math.sqrt(1.3 * 2 / module.weight[0].numel()))
                nn.init.trunc_normal_(module.weight, 0, std, -2 * std, 2 * std, generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(N, 3, H, W) images to (N, num_classes) logits."""
        logits = self.net(x)
        return tuple(logits) if isinstance(logits, tuple) else logits


# The zoos are imported where they are used: importing them takes longer than all of this package.


@register("inception_v3")
def inception_v3(
    num_classes: int = 1000,
    *,
    aux_head: bool = True,
    dropout: float = 0.2,
    image_size: int = 299,
) -> Inception:
    """Inception-v3, 23,834,568 parameters and another 3,326,696 in the auxiliary head.

    Args:
        num_classes: length of the logits.
        aux_head: the auxiliary classifier on the last 17 x 17 map, with batch normalisation; it
            needs images of 299 px.
        dropout: probability of dropping an input of the classifier.
        image_size: side in pixels of the images; at least 75 without the auxiliary head.
    """
    from torchvision.models.inception import Inception3

    net = Inception3(num_classes, aux_logits=aux_head, init_weights=False, dropout=dropout)
    return Inception(net, image_size, 299 if aux_head else 75)


@register("inception_v4")
def inception_v4(
    num_classes: int = 1000, *, dropout: float = 0.2, image_size: int = 299
) -> Inception:
    """Inception-v4, 42,679,816 parameters.

    Args:
        num_classes: length of the logits.
        dropout: probability of dropping an input of the classifier.
        image_size: side in pixels of the images, at least 75.
    """
    from timm.models.inception_v4 import InceptionV4

    return Inception(InceptionV4(num_classes, drop_rate=dropout), image_size, 75)


@register("inception_resnet_v2")
def inception_resnet_v2(
    num_classes: int = 1000, *, dropout: float = 0.2, image_size: int = 299
) -> Inception:
    """Inception-ResNet-v2, 55,843,464 parameters.

    Args:
        num_classes: length of the logits.
        dropout: probability of dropping an input of the classifier.
        image_size: side in pixels of the images, at least 75.
    """
    from timm.models.inception_resnet_v2 import InceptionResnetV2

    return Inception(InceptionResnetV2(num_classes, drop_rate=dropout), image_size, 75)


_SLIM = "tensorflow/models, research/slim/nets"
_ROWS = (
    Fidelity(
        "batch normalisation",
        "deviates",
        "epsilon 0.001, moving averages with decay 0.9997, no scale",
        f"{_SLIM}/inception_utils.py",
        "epsilon 0.001; PyTorch's decay 0.9, and a scale",
    ),
    Fidelity(
        "initialisation",
        "not stated",
        "truncated normal, variance 2 / fan-in, in Google's code",
        f"{_SLIM}/inception_utils.py",
        "as in Google's code, also for the classifier",
    ),
)
_KEEP = Fidelity(
    "dropout",
    "same",
    "0.2 before the classifier",
    "arXiv:1602.07261, Fig. 9 and 15",
    checked="test_inception.test_dropout_is_googles",
)
_NO_AUX = Fidelity(
    "auxiliary head",
    "deviates",
    "in Google's code, not in the paper's figures",
    _SLIM,
    "none: timm's net has none",
)
FIDELITY: dict[str, tuple[Fidelity, ...]] = {
    "inception_v3": (
        Fidelity(
            "layers and channels",
            "same",
            "Table 1 and Fig. 5 to 7",
            f"arXiv:1512.00567; {_SLIM}/inception_v3.py",
            "torchvision's code",
            checked=(
                "parameters and multiply-adds: test_inception.test_parameters_and_multiply_adds"
            ),
        ),
        Fidelity(
            "auxiliary head",
            "same",
            "one, with batch normalisation",
            "Sect. 4",
            checked="test_inception.test_training_returns_the_auxiliary_logits_and_evaluation_does_not",
        ),
        Fidelity(
            "average pools in the modules",
            "deviates",
            "the padding is left out of the mean",
            f"{_SLIM}/inception_v3.py",
            "torchvision's code counts it as zeros",
        ),
        Fidelity(
            "dropout",
            "not stated",
            "0.2 before the classifier in Google's code",
            f"{_SLIM}/inception_v3.py",
            "0.2; torchvision's default is 0.5",
        ),
        *_ROWS,
    ),
    "inception_v4": (
        Fidelity(
            "layers and channels",
            "same",
            "Fig. 3 to 9",
            f"arXiv:1602.07261; {_SLIM}/inception_v4.py",
            "timm's code",
            checked=(
                "parameters and multiply-adds: test_inception.test_parameters_and_multiply_adds"
            ),
        ),
        _KEEP,
        _NO_AUX,
        *_ROWS,
    ),
    "inception_resnet_v2": (
        Fidelity(
            "layers and channels",
            "same",
            "10, 20, 10 residual modules, scaled by 0.17, 0.10, 0.20",
            f"{_SLIM}/inception_resnet_v2.py",
            "timm's code; Fig. 15 of the paper draws 5, 10, 5 modules",
            checked=(
                "parameters and multiply-adds: test_inception.test_parameters_and_multiply_adds"
            ),
        ),
        _KEEP,
        _NO_AUX,
        *_ROWS,
    ),
}
