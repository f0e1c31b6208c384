"""How the nets of He, Zhang, Ren and Sun were trained (2015), at each profile.

They are the nets of Table 1 with the shortcuts of Tables 2 and 3 (option A at 18 and 34 layers, B in the
deeper ones, ``resnet34_b`` and ``_c`` beside them), the plain nets, and the nets of section 4.2 for CIFAR.
Where the text is silent the authors' released Caffe models decide (KaimingHe/deep-residual-networks).
"""

from dataclasses import replace

from pipeline.papers.deviations import (
    COLOUR_BY_DEVIATION,
    PIXELS,
    STATISTICS,
    WHOLE_BATCH_NORM,
)
from stages.augmentation import Augmentation, PaddedSquare, ScaleJitter
from stages.paper import Recipes
from stages.recipe import (
    Deviation,
    Ensemble,
    Member,
    MomentumSGD,
    Optimiser,
    ParameterGroup,
    Plateau,
    Schedule,
    Steps,
)
from stages.tasks.classification.recipe import Classification

# Section 3.4 says 1e-4, no more. Caffe's usual settings, which the authors used, spare biases and batch norm.
_NOT_DECAYED = r"fc\.bias|(.*\.)?bn\d\..*|.*\.shortcut\.1\..*"
# What fb.resnet.torch's README says of the paper: the convolutions' weights alone.
_ALL_BUT_CONVOLUTIONS = rf"fc\.weight|{_NOT_DECAYED}"


def _optimiser(rate: Schedule, not_decayed: str = _NOT_DECAYED) -> Optimiser:
    return MomentumSGD(
        momentum=0.9,  # section 3.4
        rate="inside",  # Caffe
        groups=(
            ParameterGroup(not_decayed, rate, weight_decay=0.0),
            ParameterGroup(".*", rate, weight_decay=1e-4),  # section 3.4
        ),
    )


# Section 3.4: the per-pixel mean and the colour augmentation of 2012.
AUGMENTATION = Augmentation(
    resize=256,
    crop=224,
    sampling=ScaleJitter(256, 480),
    colour_noise="standard_deviation",
)

# Section 3.4: 0.1, divided by ten when the error plateaus.
_PLATEAU = Plateau(0.1, factor=0.1, drops=2)

_DENSE = (
    Deviation(
        "of whole images, 7x7 windows of the last map are classified, and their scores averaged",
        "section 3.4 says only 'fully convolutional form'; the released nets end in a pool of 7x7",
    ),
    Deviation(
        "over the scales, and over image and mirror image, probabilities are averaged",
        "section 3.4 says scores, and mentions no mirror images; the released nets' README averages the "
        "softmax of ten crops, and the papers from which the method comes do both. "
        "dense_multi_scale_scores averages scores",
    ),
    Deviation(
        "from whole images the mean of each channel is subtracted, unless they are as large as a crop",
        "section 3.4 subtracts a mean image, which does not fit them",
    ),
)
_DECAY = Deviation(
    "the weights of convolutions and of the classifier decay, and nothing else",
    "section 3.4 does not say what decays; fb.resnet.torch's README says of the paper that the convolutions "
    "alone do, which is resnet50_conv_decay",
)

RESNET_152 = Classification(
    model="resnet152",  # Table 1, option B (section 4.1); no dropout (section 3.4)
    augmentation=AUGMENTATION,
    optimiser=_optimiser(_PLATEAU),
    batch_size=256,  # section 3.4
    epochs=120,  # section 3.4: up to 600,000 iterations
    # Section 3.4; README.md of the released models: ten crops of the whole image; Fig. 4.
    protocols=("dense_multi_scale", "ten_crop_rectangle", "centre_crop"),
    test_scales=(224, 256, 384, 480, 640),  # section 3.4
    start_steps=10_000,  # two epochs of ILSVRC-2012
    batch_norm_images=32,  # README.md: 8 GPUs with 32 images each
    true_statistics=51_200,  # README.md; see the deviations
    deviations=(
        Deviation(
            "the two drops wait for three epochs without a gain of 0.1 points, by the centre crop",
            "section 3.4 says only 'when the error plateaus'; Fig. 4 shows two drops",
        ),
        *_DENSE,
        Deviation(
            "batch normalisation's averages for testing are taken over 51,200 training images",
            "README.md: over a sufficiently large training batch after training",
        ),
        _DECAY,
        COLOUR_BY_DEVIATION,
        *PIXELS,
    ),
)


def _net(model: str, **knobs: object) -> Classification:
    return replace(RESNET_152, model=model, knobs=knobs)


RESNET_101, RESNET_50 = _net("resnet101"), _net("resnet50")
RESNET_50_CONV_DECAY = replace(
    RESNET_50, optimiser=_optimiser(_PLATEAU, not_decayed=_ALL_BUT_CONVOLUTIONS)
)
RESNET_34, RESNET_18 = _net("resnet34"), _net("resnet18")  # option A: Table 2
RESNET_34_B, RESNET_34_C = (_net("resnet34", shortcut=option) for option in "BC")  # Table 3
PLAIN_34, PLAIN_18 = _net("plain34"), _net("plain18")

SIX = Ensemble(
    (
        Member(RESNET_152),
        Member(RESNET_152, seed=1),
        Member(RESNET_101),
        Member(RESNET_101, seed=1),
        Member(RESNET_50),
        Member(RESNET_34_B),
    ),
    protocols=("dense_multi_scale", "ten_crop_rectangle"),  # section 4.1, Table 5
    deviations=(
        Deviation(
            "besides the two nets of 152 layers, two of 101, one of 50 and one of 34",
            "section 4.1 says only that there are six models of different depth, two of them with 152 layers",
        ),
    ),
)


def _cifar(n: int, shortcut: str | None = "A") -> Classification:
    """Section 4.2: 6n + 2 layers, option A in all cases."""
    # 64,000 iterations of 128 are 164 epochs of the 50,000 images; drops at 32,000 and 48,000.
    drops = ((82, 0.01), (123, 0.001))
    # Footnote 5, for 110 layers.
    warm_up = ((0, 0.01), (1, 0.1)) if n == 18 else ((0, 0.1),)
    return Classification(
        model="resnet_cifar",
        data="cifar10",
        knobs={"depth": 6 * n + 2, "shortcut": shortcut},
        augmentation=Augmentation(resize=32, crop=32, sampling=PaddedSquare(4)),
        optimiser=_optimiser(Steps((*warm_up, *drops))),
        batch_size=128,
        epochs=164,
        protocols=("centre_crop",),  # the plain image of 32 x 32
        start_steps=2000,
        batch_norm_images=64,  # section 4.2: 128 images on two GPUs
        deviations=(
            _DECAY,
            Deviation(
                "batch normalisation uses running averages at test time",
                "section 4.2 does not say; README.md of the ImageNet nets has true averages, which change "
                "their error by less than 0.1 points",
            ),
            *(
                [
                    Deviation(
                        "one epoch at 0.01 before 0.1",
                        "footnote 5: until the training error is below 80 %, about 400 iterations; an epoch "
                        "has 390",
                    )
                ]
                if n == 18
                else []
            ),
            Deviation(
                "training uses all 50,000 images from the start",
                "section 4.2 chose the schedule on 45,000 of them, and does not say on how many the "
                "tested nets were trained",
            ),
            STATISTICS,
        ),
    )


_CIFAR = {f"cifar{6 * n + 2}": _cifar(n) for n in (3, 5, 7, 9, 18, 200)}
_CIFAR_PLAIN = {f"cifar_plain{6 * n + 2}": _cifar(n, None) for n in (3, 5, 7, 9, 18)}

# 64-pixel photographs of 100 real classes; meant for ten minutes on one GPU, not measured yet.
MINI_50 = replace(
    RESNET_50,
    knobs={"image_size": 112},
    augmentation=replace(AUGMENTATION, resize=128, crop=112, sampling=ScaleJitter(128, 240)),
    optimiser=_optimiser(Steps(((0, 0.1), (30, 0.01), (45, 0.001)))),
    batch_size=128,
    epochs=55,
    test_scales=(112, 128, 192, 240, 320),
    start_steps=1000,
    batch_norm_images=None,
    deviations=(
        *RESNET_152.deviations[1:],
        WHOLE_BATCH_NORM,
        Deviation(
            "112-pixel crops; all scales half the published ones",
            "the images have 64 pixels, and the net halves them five times",
        ),
        Deviation(
            "55 epochs of batches of 128 with drops at 30 and 45",
            "a hundredth of ILSVRC's images, and minutes instead of weeks",
        ),
    ),
)

# The embedded images, less than a minute on two CPU cores.
TOY_18 = replace(
    RESNET_18,
    knobs={"width": 0.25, "image_size": 64},
    augmentation=replace(
        AUGMENTATION, resize=72, crop=64, sampling=ScaleJitter(68, 80), colour_noise="none"
    ),
    optimiser=_optimiser(Steps(((0, 0.1), (4, 0.01), (6, 0.001)))),
    batch_size=64,
    epochs=7,
    test_scales=(64, 72, 80),
    start_steps=450,
    batch_norm_images=None,
    deviations=(
        *RESNET_152.deviations[1:],
        WHOLE_BATCH_NORM,
        Deviation(
            "18 layers with a quarter of their channels", "two CPU cores, less than a minute"
        ),
        Deviation(
            "64-pixel crops of scales from 68 to 80; three test scales",
            "the embedded images have 72 pixels",
        ),
        Deviation(
            "7 epochs of batches of 64 with drops at 4 and 6", "two CPU cores, less than a minute"
        ),
        Deviation("no colour noise", "the embedded images' colours carry no information"),
    ),
)


def _other_net(recipe: Classification, model: str) -> Classification:
    return replace(recipe, model=model)


RECIPES: Recipes = {
    "paper": {
        "resnet152": RESNET_152,
        "resnet101": RESNET_101,
        "resnet50": RESNET_50,
        "resnet50_conv_decay": RESNET_50_CONV_DECAY,
        "resnet34": RESNET_34,
        "resnet34_b": RESNET_34_B,
        "resnet34_c": RESNET_34_C,
        "resnet18": RESNET_18,
        "plain34": PLAIN_34,
        "plain18": PLAIN_18,
        "six": SIX,
        **_CIFAR,
        **_CIFAR_PLAIN,
    },
    "mini": {
        "resnet50": MINI_50,
        "resnet34": _other_net(MINI_50, "resnet34"),
        "resnet18": _other_net(MINI_50, "resnet18"),
        "plain34": _other_net(MINI_50, "plain34"),
        "plain18": _other_net(MINI_50, "plain18"),
    },
    "toy": {"resnet18": TOY_18, "plain18": _other_net(TOY_18, "plain18")},
}
