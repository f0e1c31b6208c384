"""How the nets of Xie, Girshick, Dollar, Tu and He were trained (2016), at each profile.

A recipe's name is the paper's own: layers, then cardinality x bottleneck width. The training is that of
fb.resnet.torch (section 4), on which the authors' code is built (facebookresearch/ResNeXt).
"""

from dataclasses import replace

from pipeline.papers.augmentations import FB_RESNET
from pipeline.papers.deviations import FB_RESNET_PIXELS, OWN_DIVISOR, WHOLE_BATCH_NORM
from stages.augmentation import AreaCrop
from stages.paper import Recipes
from stages.recipe import Deviation, MomentumSGD, Optimiser, ParameterGroup, Schedule, Steps
from stages.tasks.classification.recipe import Classification


def _optimiser(rate: Schedule) -> Optimiser:
    return MomentumSGD(
        momentum=0.9,  # section 4
        rate="outside",  # Torch
        nesterov=True,  # train.lua
        groups=(
            ParameterGroup(".*", rate, weight_decay=1e-4),
        ),  # section 4; all parameters: train.lua
    )


def _net(layers: int, cardinality: int, width: int) -> Classification:
    return Classification(
        model="resnext",  # Table 1; shortcuts B, stride in the 3 x 3: section 4
        knobs={"depth": layers, "cardinality": cardinality, "bottleneck_width": width},
        augmentation=FB_RESNET,  # section 4
        # Section 4: 0.1, divided by ten three times; train.lua: every 30 epochs.
        optimiser=_optimiser(Steps(((0, 0.1), (30, 0.01), (60, 0.001), (90, 1e-4)))),
        batch_size=256,  # section 4
        epochs=100,  # opts.lua
        protocols=("centre_crop", "dense_multi_scale"),  # section 4; section 5.1
        test_scales=(224, 256, 384, 480, 640),  # He 2015, section 3.4
        start_steps=10_000,  # two epochs of ILSVRC-2012
        batch_norm_images=32,  # section 4: 256 images on 8 GPUs
        deviations=(
            Deviation(
                "the test at several scales is that of ResNet: its five scales, with mirror images",
                "section 5.1 names no scales, and the authors' code has no such test",
            ),
            FB_RESNET_PIXELS,
        ),
    )


# Tables 3 and 4: (cardinality, bottleneck width).
_SAME_COST = ((1, 64), (2, 40), (4, 24), (8, 14), (32, 4))
_TWICE_THE_COST = ((64, 4), (2, 64), (1, 100))

_NETS = {
    f"{layers}_{cardinality}x{width}d": _net(layers, cardinality, width)
    for layers, settings in ((101, (*_TWICE_THE_COST, *_SAME_COST)), (50, _SAME_COST))
    for cardinality, width in settings
}

# 64-pixel photographs of 100 real classes; meant for ten minutes on one GPU, not measured yet.
MINI_50_32X4D = replace(
    _net(50, 32, 4),
    knobs={**_net(50, 32, 4).knobs, "image_size": 112},
    augmentation=replace(FB_RESNET, resize=128, crop=112),
    optimiser=_optimiser(Steps(((0, 0.1), (30, 0.01), (45, 0.001), (52, 1e-4)))),
    batch_size=128,
    epochs=55,
    protocols=("centre_crop", "dense_multi_scale"),
    test_scales=(112, 128, 192, 240, 320),
    start_steps=1000,
    batch_norm_images=None,
    deviations=(
        *_net(50, 32, 4).deviations,
        WHOLE_BATCH_NORM,
        Deviation("50 layers, not 101", "minutes instead of the ten days of the larger net"),
        Deviation(
            "112-pixel crops; all scales half the published ones",
            "the images have 64 pixels, and the net halves them five times",
        ),
        Deviation(
            "55 epochs of batches of 128 with drops at 30, 45 and 52",
            "a hundredth of ILSVRC's images, and minutes instead of days",
        ),
    ),
)
MINI_50_1X64D = replace(
    MINI_50_32X4D, knobs={"depth": 50, "cardinality": 1, "bottleneck_width": 64}
)

# The embedded images, less than a minute on two CPU cores.
TOY_8X8D = replace(
    _net(50, 8, 8),
    knobs={
        "depth": 50,
        "cardinality": 8,
        "bottleneck_width": 8,
        "width": 0.25,
        "blocks": (1, 1, 1, 1),
    },
    augmentation=replace(
        FB_RESNET,
        resize=72,
        crop=64,
        sampling=AreaCrop(area=(0.6, 1.0), swap_sides=True, fallback="centre"),
        divisor=None,
        unit_variance=True,
        distortion=0.0,
        colour_noise="none",
    ),
    optimiser=_optimiser(Steps(((0, 0.05), (3.5, 5e-3), (4.6, 5e-4)))),
    batch_size=32,
    epochs=5,
    protocols=("centre_crop",),
    test_scales=(),
    start_steps=450,
    batch_norm_images=None,
    deviations=(
        FB_RESNET_PIXELS,
        WHOLE_BATCH_NORM,
        OWN_DIVISOR,
        Deviation(
            "one block per stage, 14 layers, and a quarter of the channels, in 8 paths",
            "two CPU cores, less than a minute",
        ),
        Deviation("64-pixel crops", "the embedded images have 72 pixels"),
        Deviation(
            "crops of at least 60 % of the area",
            "smaller crops often miss the object, which matters in so few epochs",
        ),
        Deviation(
            "5 epochs of batches of 32 at 0.05, with drops at 3.5 and 4.6",
            "two CPU cores, less than a minute",
        ),
        Deviation(
            "neither distortion nor colour noise",
            "the embedded images' colours carry no information",
        ),
    ),
)

RECIPES: Recipes = {
    "paper": _NETS,
    "mini": {"50_32x4d": MINI_50_32X4D, "50_1x64d": MINI_50_1X64D},
    "toy": {"8x8d": TOY_8X8D},
}
