"""How a fusion like that of Trimps-Soushen is trained (2016), at each profile.

The slides do not say how the team trained its nets. Each member is trained as its net's own paper says.
"""

from dataclasses import replace

from pipeline.papers.augmentations import AREA_CROPS, FB_RESNET
from pipeline.papers.deviations import (
    FB_RESNET_PIXELS,
    OWN_DIVISOR,
    RESIZED,
    WHOLE_BATCH_NORM,
)
from stages.augmentation import AreaCrop
from stages.paper import Recipes
from stages.recipe import (
    Deviation,
    Ensemble,
    Member,
    MomentumSGD,
    Optimiser,
    ParameterGroup,
    RMSProp,
    Schedule,
    Staircase,
    Steps,
)
from stages.tasks.classification.recipe import Classification, TestProtocol

_PROTOCOLS: tuple[TestProtocol, ...] = ("dense_multi_scale", "centre_crop")


def _optimiser(rate: Schedule) -> Optimiser:
    """fb.resnet.torch's."""
    return MomentumSGD(
        momentum=0.9,
        rate="outside",
        nesterov=True,
        groups=(ParameterGroup(".*", rate, weight_decay=1e-4),),
    )


_RMSPROP = RMSProp(
    # Both papers: 0.045, times 0.94 every two epochs.
    groups=(ParameterGroup(".*", Staircase(0.045, factor=0.94, every=2), weight_decay=4e-5),),
    decay=0.9,  # both papers
    epsilon=1.0,  # both papers
    momentum=0.9,  # not stated; see the deviations
)


def _inception(model: str, replicas: int, *deviations: Deviation) -> Classification:
    """arXiv:1512.00567, section 8 and arXiv:1602.07261, section 4.

    Args:
        model: its name.
        replicas: workers of the authors' training, each with batches of 32.
        deviations: the net's own.
    """
    return Classification(
        model=model,
        augmentation=replace(
            AREA_CROPS, resize=352, crop=299, mean="half", divisor=(127.5, 127.5, 127.5)
        ),
        optimiser=_RMSPROP,
        batch_size=32 * replicas,
        epochs=100,  # 1512.00567
        protocols=_PROTOCOLS,
        test_scales=(299, 352, 400),
        start_steps=80_000 // replicas,  # two epochs of ILSVRC-2012
        batch_norm_images=32,
        label_smoothing=0.1,  # 1512.00567, section 7
        average_from=95,
        deviations=(
            *deviations,
            Deviation(
                f"one synchronous step of {32 * replicas} images",
                f"{replicas} replicas trained side by side, each with batches of 32",
            ),
            Deviation(
                "a momentum of 0.9 in RMSProp, and weight decay of 4e-5",
                "the papers state neither; both are those of Google's released training",
            ),
            Deviation(
                "the weights of the last five epochs are averaged",
                "both papers mention a running average of the weights but not its length",
            ),
            Deviation(
                "crops of a random area and shape",
                "the winner's slides mention only multi-scale augmentation",
            ),
            RESIZED,
        ),
    )


def _later(model: str) -> Classification:
    return _inception(
        model,
        20,  # 1602.07261
        Deviation(
            "labels are smoothed by 0.1, and training takes 100 epochs",
            "arXiv:1602.07261 states neither; both are Inception-v3's",
        ),
    )


def _residual(model: str, **knobs: object) -> Classification:
    """fb.resnet.torch's training, which both nets' authors used."""
    return Classification(
        model=model,
        knobs=knobs,
        augmentation=FB_RESNET,
        optimiser=_optimiser(Steps(((0, 0.1), (30, 0.01), (60, 0.001)))),
        batch_size=256,
        epochs=90,
        protocols=_PROTOCOLS,
        test_scales=(224, 256, 320),
        start_steps=10_000,  # two epochs of ILSVRC-2012
        batch_norm_images=32,  # 256 images on 8 GPUs
        deviations=(FB_RESNET_PIXELS,),
    )


INCEPTION_V3 = replace(
    _inception("inception_v3", 50),
    optimiser=replace(_RMSPROP, clip_norm=2.0),  # section 8
    auxiliary_weight=0.4,  # Google's code
)
INCEPTION_V4, INCEPTION_RESNET_V2 = _later("inception_v4"), _later("inception_resnet_v2")
# fb.resnet.torch, models/preresnet.lua, whose ResNet-200 the authors' README links.
PREACT_RESNET_200 = _residual("preact_resnet200", stride_in="3x3", pool="padded")
WIDE_RESNET_68_3 = _residual("wide_resnet68_3")

FUSION = Ensemble(
    (
        Member(INCEPTION_RESNET_V2, weight=2.0),
        Member(INCEPTION_V3),
        Member(INCEPTION_V4),
        Member(PREACT_RESNET_200),
        Member(WIDE_RESNET_68_3),
    ),
    protocols=_PROTOCOLS,
    deviations=(
        Deviation(
            "one net of each kind, Inception-ResNet-v2 counted twice",
            "neither the number of nets nor their weights were published, only that the best single net, "
            "this one, had a larger weight",
        ),
        Deviation(
            "the wide ResNet has the 22 blocks that 68 layers allow",
            "the slides' WRN-68-3 was never defined in public",
        ),
        Deviation(
            "the test scales are our choice",
            "the slides say only that there were several, with mirror images",
        ),
        Deviation(
            "each member is trained as its own paper says",
            "the slides mention only multi-scale augmentation and large batches",
        ),
    ),
)

# 64-pixel photographs of 100 real classes; three members in ten minutes on one GPU, not measured yet.
_MINI_STEPS = Steps(((0, 0.05), (12, 5e-3), (18, 5e-4)))
_MINI = replace(
    _residual("wide_resnet50_2"),
    augmentation=replace(FB_RESNET, resize=128, crop=112),
    optimiser=_optimiser(_MINI_STEPS),
    batch_size=128,
    epochs=22,
    test_scales=(112, 128, 160),
    start_steps=1000,
    batch_norm_images=None,
    deviations=(
        FB_RESNET_PIXELS,
        WHOLE_BATCH_NORM,
        Deviation(
            "112-pixel crops; all scales half the larger profile's", "the images have 64 pixels"
        ),
        Deviation(
            "22 epochs of batches of 128 at 0.05, with drops at 12 and 18",
            "a hundredth of ILSVRC's images, and three nets in minutes",
        ),
    ),
)
MINI_FUSION = Ensemble(
    (
        Member(
            replace(
                _MINI,
                model="inception_v3",
                knobs={"aux_head": False, "image_size": 112},
                deviations=(
                    *_MINI.deviations,
                    Deviation("no auxiliary head", "it needs images of 299 pixels"),
                ),
            )
        ),
        Member(
            replace(
                _MINI,
                model="preact_resnet200",
                knobs={"width": 0.5, "stride_in": "3x3", "pool": "padded"},
                deviations=(
                    *_MINI.deviations,
                    Deviation(
                        "half of the channels", "to fit 200 layers into a third of ten minutes"
                    ),
                ),
            )
        ),
        Member(
            replace(
                _MINI,
                deviations=(
                    *_MINI.deviations,
                    Deviation("50 layers, twice as wide", "its paper's own net for ImageNet"),
                ),
            )
        ),
    ),
    protocols=_PROTOCOLS,
    deviations=(Deviation("three of the five kinds, with equal weights", "ten minutes in total"),),
)

# The embedded images; three members in about a minute on two CPU cores.
_TOY_PROTOCOLS: tuple[TestProtocol, ...] = ("ten_crop", "centre_crop")
_TOY = replace(
    _MINI,
    augmentation=replace(
        FB_RESNET,
        resize=64,
        crop=56,
        sampling=AreaCrop(area=(0.6, 1.0), swap_sides=True, fallback="centre"),
        divisor=None,
        unit_variance=True,
        distortion=0.0,
        colour_noise="none",
    ),
    optimiser=_optimiser(Steps(((0, 0.05), (2.2, 5e-3), (2.7, 5e-4)))),
    batch_size=32,
    epochs=3,
    protocols=_TOY_PROTOCOLS,
    test_scales=(),
    start_steps=300,
    deviations=(
        FB_RESNET_PIXELS,
        WHOLE_BATCH_NORM,
        OWN_DIVISOR,
        Deviation("56-pixel crops of 64-pixel squares", "the embedded images have 72 pixels"),
        Deviation(
            "crops of at least 60 % of the area",
            "smaller crops often miss the object, which matters in so few epochs",
        ),
        Deviation(
            "3 epochs of batches of 32 at 0.05, with drops at 2.2 and 2.7",
            "two CPU cores, a minute for all nets",
        ),
        Deviation(
            "neither distortion nor colour noise",
            "the embedded images' colours carry no information",
        ),
        Deviation(
            "ten crops", "whole images are tested one by one, which takes as long as the training"
        ),
    ),
)
_ONE_BLOCK = Deviation(
    "one block per stage, an eighth or a quarter of the channels",
    "two CPU cores, a minute for all nets",
)
TOY_FUSION = Ensemble(
    (
        Member(
            replace(
                _TOY,
                model="resnext50_32x4d",
                knobs={"width": 0.25, "blocks": (1, 1, 1, 1)},
                deviations=(
                    *_TOY.deviations,
                    _ONE_BLOCK,
                    Deviation(
                        "a ResNeXt stands in for the three Inceptions",
                        "they cannot be made narrower, and GoogLeNet takes longer to begin to learn",
                    ),
                ),
            )
        ),
        Member(
            replace(
                _TOY,
                model="preact_resnet200",
                knobs={
                    "width": 0.25,
                    "blocks": (1, 1, 1, 1),
                    "stride_in": "3x3",
                    "pool": "padded",
                },
                deviations=(*_TOY.deviations, _ONE_BLOCK),
            )
        ),
        Member(
            replace(
                _TOY,
                model="wide_resnet50_2",
                knobs={"width": 0.125, "blocks": (1, 1, 1, 1)},
                deviations=(*_TOY.deviations, _ONE_BLOCK),
            )
        ),
    ),
    protocols=_TOY_PROTOCOLS,
    deviations=(Deviation("three nets, with equal weights", "a minute in total"),),
)

RECIPES: Recipes = {
    "paper": {
        "fusion": FUSION,
        "inception_resnet_v2": INCEPTION_RESNET_V2,
        "inception_v3": INCEPTION_V3,
        "inception_v4": INCEPTION_V4,
        "preact_resnet200": PREACT_RESNET_200,
        "wide_resnet68_3": WIDE_RESNET_68_3,
    },
    "mini": {"fusion": MINI_FUSION},
    "toy": {"fusion": TOY_FUSION},
}
