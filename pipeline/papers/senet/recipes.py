"""How the nets of Hu, Shen, Albanie, Sun and Wu were trained (2017), at each profile.

The winning entry is a small ensemble that includes SENet-154. Tables 2 and 8 give single nets; the
baselines without squeeze-and-excitation (``resnet50`` beside ``se_resnet50``) are the authors' own
re-implementations in Table 2.
"""

from dataclasses import replace

from pipeline.papers.augmentations import AREA_CROPS
from pipeline.papers.deviations import RESIZED, STATISTICS, WHOLE_BATCH_NORM
from stages.augmentation import AreaCrop
from stages.paper import Recipes
from stages.recipe import (
    Deviation,
    MomentumSGD,
    Optimiser,
    ParameterGroup,
    Plateau,
    Schedule,
    Steps,
)
from stages.tasks.classification.recipe import Classification

_BATCH_NORM = r"(.*\.)?bn\d\..*|conv1\.[14]\..*|.*\.shortcut\.1\..*"


def _optimiser(rate: Schedule, *frozen: ParameterGroup) -> Optimiser:
    return MomentumSGD(
        momentum=0.9,  # section 5.1
        rate="inside",  # not stated; the authors' models are Caffe's
        # Not stated; He 2015, section 3.4.
        groups=(*frozen, ParameterGroup(".*", rate, weight_decay=1e-4)),
    )


_DECAY = Deviation("weight decay of 1e-4", "section 5.1 states none; this is ResNet's")
_SMOOTHING = "labels are smoothed by 0.1"
_AS_INCEPTION = "mentions label smoothing but not its strength; 0.1 is Inception-v3's"
_COMMON = (_DECAY, STATISTICS, RESIZED)


def _net(model: str, **knobs: object) -> Classification:
    """The recipe of Tables 2 and 3."""
    return Classification(
        model=model,  # Table 1, r = 16
        knobs=knobs,
        augmentation=AREA_CROPS,  # section 5.1
        # Section 5.1: 0.6, divided by ten every 30 epochs.
        optimiser=_optimiser(Steps(((0, 0.6), (30, 0.06), (60, 6e-3), (90, 6e-4)))),
        batch_size=1024,  # section 5.1
        epochs=100,  # section 5.1
        protocols=("centre_crop",),  # section 5.1
        start_steps=2500,  # two epochs of ILSVRC-2012
        batch_norm_images=32,  # README.md: 1024 images on 4 servers of 8 GPUs
        deviations=_COMMON,
    )


def _ablation(model: str, rate: Schedule, epochs: int, **knobs: object) -> Classification:
    """Section 6: from 0.1 with label smoothing, and no biases in the excitation."""
    if knobs.get("se", True):
        knobs["bias"] = False
    return replace(
        _net(model, **knobs),
        optimiser=_optimiser(rate),
        batch_size=256,  # README.md; see the deviations
        epochs=epochs,
        start_steps=10_000,
        label_smoothing=0.1,
        deviations=(
            *_COMMON,
            Deviation(_SMOOTHING, f"section 6 {_AS_INCEPTION}"),
            Deviation(
                "batches of 256, of 32 images each for batch normalisation",
                "section 6 does not state them; they are those of the released nets, on 8 GPUs",
            ),
        ),
    )


def _plateau(model: str, **knobs: object) -> Classification:
    """Section 6, Tables 10 to 16: the rate waits for plateaus, about 300 epochs."""
    recipe = _ablation(model, Plateau(0.1, factor=0.1, drops=3), 300, **knobs)
    return replace(
        recipe,
        deviations=(
            *recipe.deviations,
            Deviation(
                "the three drops wait for three epochs without a gain of 0.1 points, by the centre crop",
                "section 6 says only that the rate falls at plateaus, in about 300 epochs",
            ),
        ),
    )


def _fixed(model: str, **knobs: object) -> Classification:
    """Section 6, footnote: the fixed schedule of 270 epochs."""
    rate = Steps(((0, 0.1), (125, 0.01), (200, 1e-3), (250, 1e-4)))
    return _ablation(model, rate, 270, **knobs)


# Appendix: 1.0 and batches of 2048 on 64 GPUs. The drops are those of section 5.1.
_LARGEST_RATES = ((0, 1.0), (30, 0.1), (60, 0.01), (90, 1e-3))
_FROZEN_FROM = 95

SENET_154 = replace(
    _net("senet154"),  # appendix; dropout of 0.2 before the classifier
    optimiser=_optimiser(
        Steps(_LARGEST_RATES),
        ParameterGroup(
            _BATCH_NORM, Steps((*_LARGEST_RATES, (_FROZEN_FROM, 0.0))), weight_decay=1e-4
        ),
    ),
    batch_size=2048,
    start_steps=1250,
    label_smoothing=0.1,
    freeze_norm_from=_FROZEN_FROM,  # appendix; see the deviations
    deviations=(
        *_COMMON,
        Deviation(_SMOOTHING, f"the appendix {_AS_INCEPTION}"),
        Deviation(
            "batch normalisation is frozen for the last 5 epochs: its averages, scales and shifts",
            "the appendix says the last epochs, but not how many",
        ),
        Deviation(
            "100 epochs with drops at 30, 60 and 90", "the appendix gives no schedule of its own"
        ),
    ),
)

# The names in Table 2, and the networks here.
_BASELINES = {
    "resnet50": "se_resnet50",
    "resnet101": "se_resnet101",
    "resnet152": "se_resnet152",
    "resnext50": "se_resnext50_32x4d",
    "resnext101": "se_resnext101_32x4d",
}

# 64-pixel photographs of 100 real classes; meant for ten minutes on one GPU, not measured yet.
MINI_50 = replace(
    _net("se_resnet50"),
    augmentation=replace(AREA_CROPS, resize=128, crop=112),
    optimiser=_optimiser(Steps(((0, 0.1), (30, 0.01), (45, 0.001), (52, 1e-4)))),
    batch_size=128,
    epochs=55,
    start_steps=1000,
    batch_norm_images=None,
    deviations=(
        *_COMMON,
        WHOLE_BATCH_NORM,
        Deviation(
            "SE-ResNet-50 stands in for SENet-154", "minutes on one GPU instead of training on 64"
        ),
        Deviation(
            "112-pixel crops of 128-pixel squares",
            "the images have 64 pixels, and the net halves them five times",
        ),
        Deviation(
            "55 epochs of batches of 128 at 0.1, with drops at 30, 45 and 52",
            "a hundredth of ILSVRC's images, and minutes instead of days",
        ),
    ),
)

# The embedded images, less than a minute on two CPU cores.
TOY_14 = replace(
    _net("se_resnet50", width=0.25, blocks=(1, 1, 1, 1), reduction=4, stride_in="3x3"),
    augmentation=replace(AREA_CROPS, resize=72, crop=64, sampling=AreaCrop(area=(0.6, 1.0))),
    optimiser=_optimiser(Steps(((0, 0.05), (3.6, 5e-3), (4.6, 5e-4)))),
    batch_size=32,
    epochs=5,
    start_steps=450,
    batch_norm_images=None,
    deviations=(
        *_COMMON,
        WHOLE_BATCH_NORM,
        Deviation(
            "SE-ResNet with one block per stage, 14 layers, and a quarter of the channels",
            "two CPU cores, less than a minute",
        ),
        Deviation(
            "the stride is in the 3 x 3 convolution",
            "with one block per stage, a strided first 1 x 1 would discard three quarters of every map "
            "unseen; SENet-154 has its stride there, too",
        ),
        Deviation(
            "a reduction by 4, not 16",
            "with so few channels a reduction by 16 would leave single units",
        ),
        Deviation("64-pixel crops of 72-pixel squares", "the embedded images have 72 pixels"),
        Deviation(
            "crops of at least 60 % of the area",
            "smaller crops often miss the object, which matters in so few epochs",
        ),
        Deviation(
            "5 epochs of batches of 32 at 0.05, with drops at 3.6 and 4.6",
            "two CPU cores, less than a minute",
        ),
    ),
)

RECIPES: Recipes = {
    "paper": {
        "senet154": SENET_154,
        **{f"se_{name}": _net(model) for name, model in _BASELINES.items()},
        **{name: _net(model, se=False) for name, model in _BASELINES.items()},
        "se_resnet50_plateau": _plateau("se_resnet50"),
        "resnet50_plateau": _plateau("se_resnet50", se=False),
        "se_resnet50_270": _fixed("se_resnet50"),
        "resnet50_270": _fixed("se_resnet50", se=False),
    },
    "mini": {"se_resnet50": MINI_50, "resnet50": replace(MINI_50, knobs={"se": False})},
    "toy": {"se_resnet14": TOY_14},
}
