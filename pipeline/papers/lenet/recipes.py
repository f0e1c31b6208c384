"""How LeCun, Bottou, Bengio and Haffner trained in 1998 (section III), at each scale."""

from dataclasses import replace

from stages.augmentation import Augmentation
from stages.paper import Recipes
from stages.recipe import Deviation, MomentumSGD, Optimiser, ParameterGroup, Steps
from stages.tasks.classification.recipe import Classification, CrossEntropy, MAPCriterion

# Section II.B: a pixel of the background, and one of the ink. The input's mean is then about 0.
_INTENSITIES = (-0.1, 1.175)

_ONE_RATE = Deviation(
    "one rate for all weights, twice the paper's global one",
    "the paper divides the global rate by mu + h for each weight, with mu 0.02 and h its second derivative, "
    "estimated before each pass (stochastic diagonal Levenberg-Marquardt); this is h = 0.48 everywhere",
)
_DISTANCE = Deviation(
    "the distance j of the MAP criterion's rubbish class is 10",
    "the summaries available to us do not give it",
)
_SOFTMAX = Deviation(
    "softmax and cross-entropy",
    "the paper's fully connected nets end in squashed units and a squared error",
)


def _optimiser(*rates: tuple[float, float]) -> MomentumSGD:
    return MomentumSGD(
        momentum=0.0,
        rate="outside",
        groups=(ParameterGroup(".*", Steps(rates), weight_decay=0.0),),
    )


def _times(optimiser: Optimiser, factor: float) -> Optimiser:
    groups = tuple(replace(group, factor=factor * group.factor) for group in optimiser.groups)
    return replace(optimiser, groups=groups)


LENET5 = Classification(
    model="lenet5",
    data="mnist",
    knobs={"image_size": 28, "border": 2},
    augmentation=Augmentation(
        resize=28,  # MNIST's digits; the net's border makes them 32
        crop=28,
        flip=False,
        random_crop=False,
    ),
    grey=_INTENSITIES,
    loss=MAPCriterion(j=10.0),  # section II.C, eq. 9
    # Section III.B: 0.0005 for two passes, 0.0002 and 0.0001 for three each, 0.00005 for four, then 0.00001.
    optimiser=_optimiser((0, 1e-3), (2, 4e-4), (5, 2e-4), (8, 1e-4), (12, 2e-5)),
    batch_size=1,  # "stochastic": after each digit
    epochs=20,
    protocols=("centre_crop",),  # the whole digit
    start_steps=0,  # guessing does not score ln(10) under this criterion
    deviations=(_ONE_RATE, _DISTANCE),
)

# Section III.C: 28x28-300-100-10.
_ITS_OWN_RATE = Deviation(
    "rates ten times those of LeNet-5",
    "each net needs rates at which it trains; in the paper the second derivatives take care of that",
)
FULLY_CONNECTED = replace(
    LENET5,
    model="lenet_fc",
    knobs={"hidden": (300, 100), "image_size": 28},
    loss=CrossEntropy(),
    optimiser=_times(LENET5.optimiser, 10),
    deviations=(_ONE_RATE, _ITS_OWN_RATE, _SOFTMAX),
)

# MNIST, or a part of it, in minutes on two CPU cores.
_FASTER = Deviation(
    "batches of 16, and rates five times as high",
    "minutes instead of hours; a batch's mean gradient is smoother than that of one digit",
)
_MINI_RATES = _optimiser((0, 5e-3), (2, 2e-3), (5, 1e-3), (8, 5e-4), (12, 1e-4))
MINI_LENET5 = replace(
    LENET5, optimiser=_MINI_RATES, batch_size=16, deviations=(*LENET5.deviations, _FASTER)
)
MINI_FULLY_CONNECTED = replace(
    FULLY_CONNECTED,
    optimiser=_times(_MINI_RATES, 10),
    batch_size=16,
    deviations=(*FULLY_CONNECTED.deviations, _FASTER),
)

# The embedded images, about a minute on two CPU cores.
_EMBEDDED = (
    Deviation(
        "the embedded images in grey, at 32 pixels, and random codes for their classes",
        "they are not digits, and their classes have no picture of 7 x 12 pixels",
    ),
    Deviation(
        "black is -1.95 and white 1.83",
        "these make the mean of the embedded images 0 and their variance 1, as -0.1 and 1.175 do for digits",
    ),
    Deviation(
        "15 epochs with momentum 0.9, batches of 16 and a rate of 0.001 that falls once",
        "without momentum the net does not get beyond guessing in a minute on these images",
    ),
)
_TOY_OPTIMISER = replace(_optimiser((0, 0.001), (12, 0.0002)), momentum=0.9)
_TOY_AUGMENTATION = replace(LENET5.augmentation, resize=32, crop=32)
TOY_LENET5 = replace(
    LENET5,
    knobs={"image_size": 32},
    augmentation=_TOY_AUGMENTATION,
    grey=(-1.95, 1.83),
    optimiser=_TOY_OPTIMISER,
    batch_size=16,
    epochs=15,
    deviations=(_DISTANCE, *_EMBEDDED),
)
TOY_FULLY_CONNECTED = replace(
    TOY_LENET5,
    model="lenet_fc",
    knobs={"hidden": (300, 100), "image_size": 32},
    loss=CrossEntropy(),
    optimiser=_times(_TOY_OPTIMISER, 10),
    deviations=(_ITS_OWN_RATE, _SOFTMAX, *_EMBEDDED),
)

RECIPES: Recipes = {
    "paper": {"lenet5": LENET5, "fully_connected": FULLY_CONNECTED},
    "mini": {"lenet5": MINI_LENET5, "fully_connected": MINI_FULLY_CONNECTED},
    "toy": {"lenet5": TOY_LENET5, "fully_connected": TOY_FULLY_CONNECTED},
}
