"""How the nets of Zeiler and Fergus were trained (2013), at each profile.

They are the net of Fig. 3, the wider net of Table 2 (b), and the averages of five and six nets that the
paper prints.
"""

from dataclasses import replace

from pipeline.papers.deviations import PIXELS
from stages.augmentation import Augmentation, FixedCrops
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

# Section 3: the fixed ten sub-crops and the per-pixel mean; colour noise is not mentioned.
AUGMENTATION = Augmentation(resize=256, crop=224, sampling=FixedCrops())


def _optimiser(rate: Schedule) -> Optimiser:
    return MomentumSGD(
        momentum=0.9,  # section 3
        # Not stated; Krizhevsky's, on whose code section 3 says this one is based.
        rate="inside",
        groups=(
            ParameterGroup(r".*\.bias", rate, weight_decay=0.0, factor=2.0),
            ParameterGroup(".*", rate, weight_decay=5e-4),
        ),
    )


_AS_KRIZHEVSKY = Deviation(
    "weights decay by 5e-4; biases do not decay and learn at twice the weights' rate",
    "section 3 states neither; this is the code of Krizhevsky, on which theirs is based",
)
_TEN_CROPS = Deviation(
    "tested with ten crops", "the test is not spelt out; these are the sub-crops of section 3"
)

FIG_3 = Classification(
    model="zfnet",  # Fig. 3; dropout 0.5 on layers 6 and 7: section 3
    knobs={"inverted_dropout": False},  # Krizhevsky's code
    augmentation=AUGMENTATION,
    # Section 3: 1e-2, annealed by hand when the validation error plateaus.
    optimiser=_optimiser(Plateau(1e-2, factor=0.1, drops=3)),
    batch_size=128,  # section 3
    epochs=70,  # section 3
    protocols=("ten_crop", "centre_crop"),
    start_steps=10_000,  # one epoch of ILSVRC-2012
    filter_rms=0.1,  # section 3
    deviations=(
        Deviation(
            "the rate is divided by ten, three times, after three epochs without a gain of 0.1 points",
            "section 3 says the rate is annealed manually, but neither by how much nor how often",
        ),
        _AS_KRIZHEVSKY,
        _TEN_CROPS,
        *PIXELS,
    ),
)

# Table 2 (b): 512, 1024, 512 maps in layers 3, 4, 5.
WIDER = replace(FIG_3, knobs={**FIG_3.knobs, "wider": True})

_FIVE = tuple(Member(FIG_3, seed=seed) for seed in range(5))
_DIFFER_IN_SEEDS = Deviation(
    "the nets of one kind differ in their seeds",
    "section 5.1 mentions multiple models but not how they differ",
)

_SHORT_SCHEDULE = Deviation(
    "the rate drops on a fixed schedule", "in so few epochs there is no plateau to wait for"
)

# 64-pixel photographs of 100 real classes; meant for ten minutes on one GPU, not measured yet.
MINI = replace(
    FIG_3,
    knobs={**FIG_3.knobs, "image_size": 112},
    augmentation=replace(AUGMENTATION, resize=128, crop=112),
    optimiser=_optimiser(Steps(((0, 1e-2), (40, 1e-3), (52, 1e-4)))),
    epochs=60,
    start_steps=1000,
    deviations=(
        *FIG_3.deviations[1:],
        Deviation(
            "112-pixel crops of 128-pixel squares",
            "the images have 64 pixels; two strides of 2 and three pools leave little of a crop that small",
        ),
        Deviation(
            "60 epochs with drops at 40 and 52",
            "a hundredth of ILSVRC's images, and minutes instead of days",
        ),
        _SHORT_SCHEDULE,
    ),
)
MINI_WIDER = replace(MINI, knobs={**MINI.knobs, "wider": True})

# The embedded images, less than a minute on two CPU cores.
TOY = replace(
    FIG_3,
    knobs={
        **FIG_3.knobs,
        "image_size": 64,
        "width": 0.25,
        "dropout": 0.1,
        "initial_std": 0.015,
    },
    augmentation=replace(AUGMENTATION, resize=72, crop=64),
    optimiser=_optimiser(Steps(((0, 3e-3), (10, 1e-3), (12, 2e-4)))),
    batch_size=64,
    epochs=13,
    start_steps=600,
    deviations=(
        *FIG_3.deviations[1:],
        Deviation("a quarter of every layer's channels", "two CPU cores, about a minute"),
        Deviation("64-pixel crops of 72-pixel squares", "the embedded images have 72 pixels"),
        Deviation(
            "dropout 0.1 instead of 0.5",
            "0.5 doubles the time to converge, and overfitting is no concern here",
        ),
        Deviation("13 epochs of batches of 64", "two CPU cores, about a minute"),
        Deviation(
            "weights start at 0.015 instead of 0.01, rates fall from 3e-3 on a fixed schedule",
            "0.01 gives scores of nearly zero, and in so few steps not every seed gets beyond guessing",
        ),
    ),
)

RECIPES: Recipes = {
    "paper": {
        "fig3": FIG_3,
        "wider": WIDER,
        "five": Ensemble(_FIVE, FIG_3.protocols, (_DIFFER_IN_SEEDS,)),
        "six": Ensemble(
            (*_FIVE, Member(WIDER)),
            FIG_3.protocols,
            (
                _DIFFER_IN_SEEDS,
                Deviation(
                    "the sixth net is (b)",
                    "Table 2 says (a) and (b), where (a) is five nets and (b) is one",
                ),
            ),
        ),
    },
    "mini": {"fig3": MINI, "wider": MINI_WIDER},
    "toy": {"fig3": TOY},
}
