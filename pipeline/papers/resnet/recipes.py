"""2015: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition (arXiv:1512.03385, CVPR 2016).

    python -m pipeline.run --year 2015 --profile paper --data FOLDER_WITH_THE_OFFICIAL_ARCHIVES

The nets of Table 1 with the shortcuts of Tables 2 and 3 (option A at 18 and 34 layers, B in the deeper ones,
``resnet34_b`` and ``_c`` beside them), the plain nets, and the nets of section 4.2 for CIFAR, which want
``--data FOLDER_WITH_CIFAR_10``. Where the text is silent the authors' released Caffe models decide
(KaimingHe/deep-residual-networks).
"""

from collections.abc import Iterator
from dataclasses import replace

from pipeline.papers.augmentations import RESNET, RESNET_TEST_SCALES
from stages.augmentation import Augmentation, PaddedSquare, ScaleJitter
from stages.measurement import Published
from stages.paper import Paper
from stages.recipe import (
    Deviation,
    Ensemble,
    Member,
    Optimiser,
    ParameterGroup,
    Plateau,
    Schedule,
    Steps,
)
from stages.tasks.classification.recipe import Classification

# fb.resnet.torch's README on how the paper differs from it: only the convolutions' weights are decayed.
_NOT_DECAYED = r"fc\..*|(.*\.)?bn\d\..*|.*\.shortcut\.1\..*"


def _optimiser(rate: Schedule) -> Optimiser:
    return Optimiser(
        momentum=0.9,  # section 3.4
        rate="inside",  # Caffe
        groups=(
            ParameterGroup(_NOT_DECAYED, rate, weight_decay=0.0),
            ParameterGroup(".*", rate, weight_decay=1e-4),  # section 3.4
        ),
    )


RESNET_152 = Classification(
    model="resnet152",  # Table 1, option B (section 4.1); no dropout (section 3.4)
    augmentation=RESNET,  # section 3.4
    # Section 3.4: 0.1, divided by ten when the error plateaus.
    optimiser=_optimiser(Plateau(0.1, factor=0.1, drops=2)),
    batch_size=256,  # section 3.4
    epochs=120,  # section 3.4: up to 600,000 iterations
    protocols=("dense_multi_scale", "ten_crop", "centre_crop"),  # section 3.4; Fig. 4
    test_scales=RESNET_TEST_SCALES,  # section 3.4
    start_steps=10_000,  # two epochs of ILSVRC-2012
    deviations=(
        Deviation(
            "the drops wait for three epochs without a gain of 0.1 points, by the centre crop; two of them",
            "section 3.4 says when the error plateaus, and no more; Fig. 4 shows two",
        ),
        Deviation(
            "mirror images are tested at every scale",
            "section 3.4 does not mention them; the papers do that it takes the method from",
        ),
        Deviation(
            "batch normalisation is tested with running averages",
            "the released models have true averages over a large batch after training; less than 0.1 points",
        ),
    ),
)


def _net(model: str, **knobs: object) -> Classification:
    return replace(RESNET_152, model=model, knobs=knobs)


RESNET_101, RESNET_50 = _net("resnet101"), _net("resnet50")
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
    protocols=("dense_multi_scale", "ten_crop"),  # section 4.1, Table 5
    deviations=(
        Deviation(
            "beside the two nets of 152 layers, two of 101, one of 50 and one of 34",
            "section 4.1 says six models of different depth, only two of them of 152 layers, and no more",
        ),
    ),
)


def _cifar(n: int, shortcut: str | None = "A") -> Classification:
    """Section 4.2: 6n + 2 layers, option A in all cases."""
    # 64,000 iterations of 128 are 164 epochs of the 50,000 images; drops at 32,000 and 48,000.
    drops = ((82, 0.01), (123, 0.001))
    # Footnote 5: 0.01 until the training error is below 80 %, about 400 iterations, for 110 layers.
    begin = ((0, 0.01), (1, 0.1)) if n == 18 else ((0, 0.1),)
    return Classification(
        model="resnet_cifar",
        knobs={"depth": 6 * n + 2, "shortcut": shortcut},
        augmentation=Augmentation(resize=32, crop=32, sampling=PaddedSquare(4)),
        optimiser=_optimiser(Steps((*begin, *drops))),
        batch_size=128,
        epochs=164,
        protocols=("centre_crop",),  # the plain image of 32 x 32
        start_steps=2000,
        deviations=(
            Deviation(
                "the border is black, and the mean image is subtracted from the crop",
                "section 4.2 names the subtraction first, after which zeros are grey; here images are bytes "
                "until they are on the device",
            ),
            Deviation(
                "all 50,000 images are trained on from the start",
                "section 4.2 chose the schedule on 45,000 of them, and not said is what it tested",
            ),
        ),
    )


_CIFAR = {f"cifar{6 * n + 2}": _cifar(n) for n in (3, 5, 7, 9, 18, 200)}
_CIFAR_PLAIN = {f"cifar_plain{6 * n + 2}": _cifar(n, None) for n in (3, 5, 7, 9, 18)}

# 64-pixel photographs of 100 real classes; meant for ten minutes on one GPU, not measured yet.
MINI_50 = replace(
    RESNET_50,
    augmentation=replace(RESNET, resize=128, crop=112, sampling=ScaleJitter(128, 240)),
    optimiser=_optimiser(Steps(((0, 0.1), (30, 0.01), (45, 0.001)))),
    batch_size=128,
    epochs=55,
    test_scales=(112, 128, 192, 240, 320),
    start_steps=1000,
    deviations=(
        *RESNET_152.deviations[1:],
        Deviation(
            "112-pixel crops; all scales half of the published ones",
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
    knobs={"width": 0.25},
    augmentation=replace(
        RESNET, resize=72, crop=64, sampling=ScaleJitter(68, 80), colour_noise="none"
    ),
    optimiser=_optimiser(Steps(((0, 0.1), (4, 0.01), (6, 0.001)))),
    batch_size=64,
    epochs=7,
    test_scales=(64, 72, 80),
    start_steps=450,
    deviations=(
        *RESNET_152.deviations[1:],
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
        Deviation("no colour noise", "the embedded images' colours tell nothing"),
    ),
)


def _without_shortcuts(profile: Classification, model: str) -> Classification:
    return replace(profile, model=model)


_CIFAR_FIGURES = (  # Table 6
    ("ResNet-20", "cifar20", 8.75),
    ("ResNet-32", "cifar32", 7.51),
    ("ResNet-44", "cifar44", 7.17),
    ("ResNet-56", "cifar56", 6.97),
    ("ResNet-110, best of five (6.61 +- 0.16)", "cifar110", 6.43),
    ("ResNet-1202", "cifar1202", 7.93),
)


def _published() -> Iterator[Published]:
    for described, recipe, top1, top5, source in (
        ("plain-18", "plain18", 27.94, None, "Table 2"),
        ("plain-34", "plain34", 28.54, 10.02, "Tables 2 and 3"),
        ("ResNet-18", "resnet18", 27.88, None, "Table 2"),
        ("ResNet-34 A", "resnet34", 25.03, 7.76, "Tables 2 and 3"),
        ("ResNet-34 B", "resnet34_b", 24.52, 7.46, "Table 3"),
        ("ResNet-34 C", "resnet34_c", 24.19, 7.40, "Table 3"),
        ("ResNet-50", "resnet50", 22.85, 6.71, "Table 3"),
        ("ResNet-101", "resnet101", 21.75, 6.05, "Table 3"),
        ("ResNet-152", "resnet152", 21.43, 5.71, "Table 3"),
    ):
        yield Published(
            described,
            "ten_crop",
            recipe=recipe,
            error_top1=top1,
            error_top5=top5,
            source=source,
        )
    for described, recipe, top1, top5 in (
        ("ResNet-34 B", "resnet34_b", 21.84, 5.71),
        ("ResNet-34 C", "resnet34_c", 21.53, 5.60),
        ("ResNet-50", "resnet50", 20.74, 5.25),
        ("ResNet-101", "resnet101", 19.87, 4.60),
        ("ResNet-152", "resnet152", 19.38, 4.49),
    ):
        yield Published(
            described,
            "dense_multi_scale",
            recipe=recipe,
            error_top1=top1,
            error_top5=top5,
            source="Table 4",
        )
    for described, recipe, top1, top5 in (
        ("ResNet-50, released", "resnet50", 24.7, 7.8),
        ("ResNet-101, released", "resnet101", 23.6, 7.1),
        ("ResNet-152, released", "resnet152", 23.0, 6.7),
    ):
        yield Published(
            described,
            "centre_crop",
            recipe=recipe,
            error_top1=top1,
            error_top5=top5,
            logged=True,
            source="README.md, KaimingHe/deep-residual-networks",
        )
    yield Published(
        "6 models of different depth, two of 152 layers",
        "dense_multi_scale",
        recipe="six",
        error_top5=3.57,
        nets=6,
        split="test",
        source="Table 5; 0.03567 in the official results",
    )
    for described, recipe, top1 in _CIFAR_FIGURES:
        yield Published(
            f"{described} on CIFAR-10",
            "centre_crop",
            recipe=recipe,
            error_top1=top1,
            split="test",
            source="Table 6",
        )


PAPER = Paper(
    name="resnet",
    year=2015,
    title="Deep Residual Learning for Image Recognition (CVPR 2016)",
    system="MSRA",
    hardware="8 GPUs (the released models' README); the time is not in the paper",
    recipes={
        "paper": {
            "resnet152": RESNET_152,
            "resnet101": RESNET_101,
            "resnet50": RESNET_50,
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
            "resnet34": _without_shortcuts(MINI_50, "resnet34"),
            "resnet18": _without_shortcuts(MINI_50, "resnet18"),
            "plain34": _without_shortcuts(MINI_50, "plain34"),
            "plain18": _without_shortcuts(MINI_50, "plain18"),
        },
        "toy": {"resnet18": TOY_18, "plain18": _without_shortcuts(TOY_18, "plain18")},
    },
    published=tuple(_published()),
)
