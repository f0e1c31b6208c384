"""How GoogLeNet was trained (2014), at each profile.

The paper leaves much open (section 6: no initial rate, batch, weight decay, initialisation, and no one
definitive way of sampling). What it does not state is taken from BVLC, who replicated the net with
the authors' help: models/bvlc_googlenet of BVLC/caffe. BVLC's own recipe, a shorter schedule with plain
crops, is ``bvlc_quick``.
"""

from dataclasses import replace

from pipeline.papers.deviations import COLOUR_BY_DEVIATION, DECODED_SMALLER, RESIZED, STATISTICS
from stages.augmentation import AreaCrop, Augmentation, CentreSquare
from stages.paper import Recipes
from stages.recipe import (
    Deviation,
    Ensemble,
    Member,
    MomentumSGD,
    Optimiser,
    ParameterGroup,
    Polynomial,
    Schedule,
    Staircase,
    Steps,
)
from stages.tasks.classification.recipe import Classification

# Section 6: what the authors verified after the competition. The photometric distortions are Howard's (arXiv
# 1312.5402): contrast, brightness and colour by 0.5 to 1.5, then lighting noise.
AUGMENTATION = Augmentation(
    resize=256,
    crop=224,
    sampling=AreaCrop(interpolations=("bilinear", "area", "nearest", "cubic")),
    mean="channel",
    distortion=0.5,
    colour_noise="standard_deviation",
)


def _optimiser(rate: Schedule) -> Optimiser:
    return MomentumSGD(
        momentum=0.9,  # section 6
        rate="inside",  # Caffe
        groups=(
            # train_val.prototxt: biases at twice the rate, without decay.
            ParameterGroup(r".*\.bias", rate, weight_decay=0.0, factor=2.0),
            ParameterGroup(r".*", rate, weight_decay=2e-4),  # solver.prototxt
        ),
    )


SZEGEDY = Classification(
    model="googlenet",  # Table 1; dropout of 40 % and 70 % in the auxiliary heads: section 5
    augmentation=AUGMENTATION,
    # Section 6: 4 % less every 8 epochs. solver.prototxt: 0.01 at first, and 320,000 iterations of 32, which
    # are 8 epochs less 288 steps.
    optimiser=_optimiser(Staircase(0.01, factor=0.96, every=8)),
    batch_size=32,  # train_val.prototxt
    epochs=250,  # solver.prototxt: 10 million iterations
    protocols=("144_crops", "ten_crop", "centre_crop"),  # section 7, Table 3
    test_scales=(256, 288, 320, 352),  # section 7
    start_steps=40_000,  # one epoch of ILSVRC-2012
    auxiliary_weight=0.3,  # section 5
    average_from=200,  # section 6: Polyak averaging; see the deviations
    deviations=(
        Deviation(
            "initial rate, batch, weight decay, length and initialisation are BVLC's",
            "section 6 states none of them",
        ),
        Deviation(
            "the weights of the last 50 epochs are averaged with equal weight",
            "section 6 mentions Polyak averaging but not over which steps the average is taken",
        ),
        Deviation(
            "one way of sampling images throughout",
            "section 6: sampling changed over months, and converged nets were trained further; this is "
            "the way that the authors verified after the competition",
        ),
        Deviation(
            "one process, synchronous steps",
            "section 6: DistBelief, asynchronous, on CPUs",
        ),
        Deviation(
            "10 crops are those of 2012, and one crop is the centre's",
            "section 7 does not define what it calls 1 crop and 10 crops",
        ),
        COLOUR_BY_DEVIATION,
        STATISTICS,
        RESIZED,
    ),
)

BVLC_QUICK = replace(
    SZEGEDY,
    # readme.md: neither relighting nor scale or aspect-ratio augmentation.
    augmentation=replace(
        AUGMENTATION, sampling=CentreSquare(), distortion=0.0, colour_noise="none"
    ),
    optimiser=_optimiser(Polynomial(0.01, power=0.5)),  # quick_solver.prototxt
    epochs=60,  # quick_solver.prototxt: 2.4 million iterations
    protocols=("centre_crop", "ten_crop"),  # readme.md
    test_scales=(),
    average_from=None,
    deviations=(
        Deviation(
            "crops from the centre square",
            "Caffe's ImageNet example squeezes the whole image into 256x256 instead",
        ),
        STATISTICS,
        DECODED_SMALLER,
        RESIZED,
    ),
)

SEVEN = Ensemble(
    tuple(Member(SZEGEDY, seed=seed) for seed in range(7)),
    protocols=SZEGEDY.protocols,  # section 7: the mean over crops, then over nets
    deviations=(
        Deviation(
            "seven nets of one width",
            "section 7: one of the seven was wider; how much wider is not stated",
        ),
        Deviation(
            "each net has its own initial weights",
            "section 7: by an oversight the authors' nets shared theirs; they differed in sampling and order",
        ),
    ),
)

# 64-pixel photographs of 100 real classes; meant for ten minutes on one GPU, not measured yet.
MINI = replace(
    SZEGEDY,
    knobs={"image_size": 112},
    augmentation=replace(AUGMENTATION, resize=128, crop=112),
    optimiser=_optimiser(Polynomial(0.01, power=0.5)),
    epochs=60,
    test_scales=(128, 144, 160, 176),
    start_steps=2000,
    average_from=56,
    deviations=(
        *SZEGEDY.deviations[2:],
        Deviation(
            "initial rate, batch, weight decay and initialisation are BVLC's",
            "section 6 states none of them",
        ),
        Deviation(
            "112-pixel crops; tests at half the published scales",
            "the images have 64 pixels, and the auxiliary heads' pool needs crops of 79",
        ),
        Deviation(
            "60 epochs, the rate of quick_solver.prototxt, the weights of the last four averaged",
            "a hundredth of ILSVRC's images, and minutes instead of days",
        ),
    ),
)

# The embedded images, less than a minute on two CPU cores.
TOY = replace(
    SZEGEDY,
    model="googlenet_bn",
    knobs={
        "image_size": 64,
        "width": 0.25,
        "remove": ("4b", "4c", "4e", "5a"),
        "aux_pool": "adaptive",
        "aux_dropout": 0.2,
        "dropout": 0.1,
    },
    augmentation=replace(
        AUGMENTATION,
        resize=72,
        crop=64,
        sampling=AreaCrop(area=(0.6, 1.0)),
        distortion=0.0,
        colour_noise="none",
    ),
    optimiser=_optimiser(Steps(((0, 2e-2), (4, 4e-3), (4.7, 1e-3)))),
    epochs=5,
    protocols=("ten_crop", "centre_crop"),
    test_scales=(72, 80, 88, 96),  # for the claims about 144 crops
    start_steps=600,
    average_from=4.7,
    deviations=(
        *SZEGEDY.deviations[2:],
        Deviation(
            "batch normalisation instead of local response normalisation",
            "without it a net this deep and this narrow is still guessing when the time is up",
        ),
        Deviation(
            "five of the nine modules, a quarter of every layer's channels",
            "two CPU cores, less than a minute; all nine need longer to begin to learn",
        ),
        Deviation(
            "64-pixel crops of 72-pixel squares, of at least 60 % of the area, colours as they are",
            "two CPU cores, less than a minute; and smaller crops hide the object",
        ),
        Deviation(
            "the auxiliary heads pool to 4x4, whatever the size of the maps",
            "their 5x5 pool does not fit crops under 79 pixels",
        ),
        Deviation(
            "dropout of 0.1 and 0.2 instead of 0.4 and 0.7", "overfitting is no concern here"
        ),
        Deviation(
            "5 epochs at 2e-2, with drops at 4 and 4.7; the weights of the last third of an epoch averaged",
            "two CPU cores, less than a minute",
        ),
        Deviation("ten crops", "144 crops of every image take longer than the training"),
    ),
)

RECIPES: Recipes = {
    "paper": {"szegedy": SZEGEDY, "bvlc_quick": BVLC_QUICK, "seven": SEVEN},
    "mini": {"szegedy": MINI},
    "toy": {"szegedy": TOY},
}
