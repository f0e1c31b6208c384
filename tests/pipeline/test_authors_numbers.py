"""The authors' own numbers, each with its source, against what the recipes resolve to.

The numbers are literal, so that an edit which bends the truth fails here and is told the source. A number
that a paper does not state, and that a recipe takes from elsewhere, has the source that it was taken from.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from models.parts.layers import WithinMapNorm
from pipeline import papers
from stages.augmentation import FixedCrops, PaddedSquare, ScaleJitter
from stages.recipe import RMSProp, Start
from tests.pipeline.authors_numbers import (
    Number,
    Of,
    area_crop,
    close,
    momentum,
    round_to,
    sizes,
    strides,
)

NET_145 = Of("alexnet", "authors")
NET_145_2010 = Of("alexnet", "authors_2010")
FIG_3 = Of("zfnet", "fig3")
A, A_LRN, D, D_384, D_JITTER = (
    Of("vgg", name) for name in ("a_256", "a_lrn_256", "d_256", "d_384", "d_jitter")
)
GOOGLENET, BVLC_QUICK = Of("googlenet", "szegedy"), Of("googlenet", "bvlc_quick")
RESNET_50, CIFAR_110 = Of("resnet", "resnet50"), Of("resnet", "cifar110")
RESNEXT = Of("resnext", "50_32x4d")
SE_RESNET_50, SENET_154 = Of("senet", "se_resnet50"), Of("senet", "senet154")
SE_270, SE_PLATEAU = Of("senet", "se_resnet50_270"), Of("senet", "se_resnet50_plateau")
V3, V4 = Of("trimps", "inception_v3"), Of("trimps", "inception_v4")
IR_V2, PREACT_200 = Of("trimps", "inception_resnet_v2"), Of("trimps", "preact_resnet200")
LENET5 = Of("lenet", "lenet5")

EPOCH, CIFAR_EPOCH = 1_281_167, 50_000


def alexnet() -> Iterator[Number]:
    params, params_2010 = "layers/layer-params-145.cfg", "layers/layer-params-145-2010.cfg"
    layers, code = "layers/layers-145.cfg", "convdata_jpeg.py"
    one, two = NET_145, NET_145_2010
    before_and_after = (0, 24.9, 25, 51, 79)
    yield Number(
        params,
        "epsW of the net, dropped at epochs 25, 51, 79",
        [0.01, 0.01, 0.001, 1e-4, 1e-5],
        lambda: one.rates("fc8.weight", *before_and_after),
    )
    yield Number(params, "the end", 91, lambda: one.recipe.epochs)
    yield Number(params, "epsB, never dropped", [0.02] * 2, lambda: one.rates("fc8.bias", 0, 90))
    yield Number(
        params,
        "epsW of conv1: 1e-5 at 67, 0 at 72",
        [1e-4, 1e-5, 0.0],
        lambda: one.rates("conv1.weight", 66.9, 67, 72),
    )
    yield Number(params, "epsB of conv1 at the end", [0.0], lambda: one.rates("conv1.bias", 90))
    yield Number(params, "colour noise off at 67", 67, lambda: one.recipe.augmentation.colour_until)
    yield Number(
        params_2010,
        "epsW of the net, dropped at epochs 23, 51, 78",
        [0.01, 0.001, 1e-4, 1e-5],
        lambda: two.rates("fc8.weight", 0, 23, 51, 78),
    )
    yield Number(params_2010, "the end", 93, lambda: two.recipe.epochs)
    yield Number(
        params_2010,
        "epsW of conv1: 1e-5 at 68, 0 at 72",
        [1e-4, 1e-5, 0.0],
        lambda: two.rates("conv1.weight", 67.9, 68, 72),
    )
    yield Number(
        params_2010, "colour noise off at 68", 68, lambda: two.recipe.augmentation.colour_until
    )
    yield Number(params_2010, "epsB at the end", [0.002], lambda: two.rates("fc8.bias", 92))
    yield Number(
        "src/layer.cu",
        "biases are not decayed; wc of the weights",
        [0.0, 0.0, 5e-4, 5e-4],
        lambda: one.decays("conv1.bias", "fc8.bias", "conv1.weight", "fc8.weight"),
    )
    yield Number(
        "src/layer.cu, HiddenSexLayer",
        "dropout masks in training and scales at the test",
        [("OriginalDropout", 0.5)] * 2,
        one.dropped,
    )
    yield Number(
        layers,
        "initW",
        [0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01],
        lambda: one.initial_stds(*(f"conv{n}" for n in range(1, 6)), "fc6", "fc7", "fc8"),
    )
    yield Number(
        layers,
        "initB",
        [0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        lambda: one.initial_biases(*(f"conv{n}" for n in range(1, 6)), "fc6", "fc7", "fc8"),
    )
    yield Number(
        f"{params}; layer.py divides scale by size",
        "size, scale, pow and minDiv of the response norms",
        [(5, 1e-4 / 5, 0.75, 2.0)] * 2,
        one.response_norms,
    )
    yield Number(
        params,
        "the within-map norm of layer 2",
        [(5, 1e-3, 0.75, 1.0)],
        lambda: [
            (m.size, m.alpha, m.beta, m.k)
            for m in one.layers(WithinMapNorm)
            if isinstance(m, WithinMapNorm)
        ],
    )
    yield Number(
        "section 3.3",
        "the response norm as printed: alpha is not divided",
        [(5, 1e-4, 0.75, 2.0)] * 2,
        Of("alexnet", "text").response_norms,
    )
    yield Number("section 3.4", "s = 2, z = 3", {(3, 2)}, lambda: {p[:2] for p in one.pools()})
    yield Number(
        "section 4.1 and " + code,
        "224-pixel crops of 256-pixel squares; noise of 0.1 deviations, then divided by 1.1",
        (256, 224, 0.1, 1.1, "standard_deviation"),
        lambda: (
            one.recipe.augmentation.resize,
            one.recipe.augmentation.crop,
            one.recipe.augmentation.colour_sigma,
            one.recipe.augmentation.colour_divisor,
            one.recipe.augmentation.colour_noise,
        ),
    )
    yield Number("section 5", "batch", 128, lambda: one.recipe.batch_size)
    yield Number("section 5", "momentum, the rate inside", *momentum(one, 0.9, "inside", False))


def zfnet() -> Iterator[Number]:
    text = "arXiv:1311.2901, section 3"
    net = FIG_3
    layers = (*(f"conv{n}" for n in range(1, 6)), "fc6", "fc7", "fc8")
    yield Number(text, "batch and epochs", (128, 70), lambda: sizes(net))
    yield Number(
        text,
        "1e-2, annealed",
        [1e-2, 1e-3],
        lambda: net.rates("fc8.weight", 0, drops=(0, 1)),
    )
    yield Number(text, "momentum; Krizhevsky's code", *momentum(net, 0.9, "inside", False))
    yield Number(text, "weights of 1e-2", [0.01] * 8, lambda: net.initial_stds(*layers))
    yield Number(text, "biases of 0", [0.0] * 8, lambda: net.initial_biases(*layers))
    yield Number(text, "filters of RMS 1e-1", 0.1, lambda: net.recipe.filter_rms)
    yield Number(text, "ten sub-crops", FixedCrops(), lambda: net.recipe.augmentation.sampling)
    yield Number(
        f"{text}; Krizhevsky's src/layer.cu",
        "dropout of 0.5 masks in training and scales at the test",
        [("OriginalDropout", 0.5)] * 2,
        net.dropped,
    )
    yield Number(
        "Krizhevsky's src/layer.cu and layer-params-145.cfg",
        "biases: no decay, twice the rate",
        ([0.0, 5e-4], [0.02]),
        lambda: (net.decays("conv1.bias", "conv1.weight"), net.rates("conv1.bias", 0)),
    )
    yield Number(
        "Krizhevsky's layer-params-145.cfg",
        "the response norms",
        [(5, 1e-4 / 5, 0.75, 2.0)] * 2,
        net.response_norms,
    )
    yield Number(
        "Fig. 3",
        "maps of 110, 55, 26, 13, 13, 13, 6",
        {(3, 2, 0, True), (3, 2, 0, False)},
        net.pools,
    )


def vgg() -> Iterator[Number]:
    text = "arXiv:1409.1556, section 3.1"
    caffe = "Caffe of December 2013"
    small = {"fc_units": 64}
    yield Number(text, "batch", 256, lambda: A.recipe.batch_size)
    yield Number(
        text,
        "370,000 iterations",
        370_000,
        lambda: round_to(A.recipe.epochs * EPOCH / A.recipe.batch_size, 1000),
    )
    yield Number(
        text,
        "1e-2, divided by ten three times",
        [1e-2, 1e-3, 1e-4, 1e-5, 1e-5],
        lambda: A.rates("fc8.weight", 0, drops=range(5)),
    )
    yield Number(text, "1e-3 at S = 384", [1e-3], lambda: D_384.rates("fc8.weight", 0))
    yield Number(text, "momentum", *momentum(A, 0.9, "inside", False))
    yield Number(text, "decay of the weights", [5e-4], lambda: A.decays("conv1_1.weight"))
    yield Number(
        f"{caffe}, examples/imagenet",
        "blobs_lr 2 and weight_decay 0 of the biases",
        ([0.0], [0.02]),
        lambda: (A.decays("conv1_1.bias"), A.rates("conv1_1.bias", 0)),
    )
    yield Number(f"{caffe}, dropout_layer.cpp", "0.5", [("Dropout", 0.5)] * 2, A.dropped)
    yield Number(f"{caffe}, pooling_layer.cpp", "pools round up", {(2, 2, 0, True)}, D_JITTER.pools)
    yield Number(
        f"{caffe}, lrn_layer.cpp",
        "alpha divided by n, k of 1",
        [(5, 1e-4 / 5, 0.75, 1.0)],
        A_LRN.response_norms,
    )
    yield Number(
        "Krizhevsky 2012, section 3.3, cited by Table 1",
        "the formula of A-LRN",
        [(5, 1e-4, 0.75, 2.0)],
        Of("vgg", "a_lrn_256_text").response_norms,
    )
    yield Number(
        f"{text}, read as a standard deviation",
        "1e-2",
        [0.01, 0.01],
        lambda: A.initial_stds("conv3_1", "fc8", **small),
    )
    yield Number(
        text, "biases of 0", [0.0, 0.0], lambda: A.initial_biases("conv1_1", "fc8", **small)
    )
    yield Number(
        text,
        "training scales of 256, 384 and 256 to 512",
        [ScaleJitter(256, 256), ScaleJitter(384, 384), ScaleJitter(256, 512)],
        lambda: [of.recipe.augmentation.sampling for of in (D, D_384, D_JITTER)],
    )
    yield Number(
        "section 3.2",
        "test scales",
        [(224, 256, 288), (352, 384, 416), (256, 384, 512)],
        lambda: [of.recipe.test_scales for of in (D, D_384, D_JITTER)],
    )
    yield Number(
        text,
        "the first four convolutions and the three fully connected layers of A",
        {"conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"},
        lambda: {
            name.split(".")[0]
            for name in A.parameters()
            if isinstance(D.recipe.start, Start) and re.fullmatch(D.recipe.start.parameters, name)
        },
    )


def googlenet() -> Iterator[Number]:
    text, bvlc = "arXiv:1409.4842, section", "BVLC/caffe, models/bvlc_googlenet"
    net, quick = GOOGLENET, BVLC_QUICK
    yield Number(f"{text} 6", "momentum", *momentum(net, 0.9, "inside", False))
    yield Number(
        f"{text} 6; {bvlc}/solver.prototxt",
        "0.01, 4 % less every 8 epochs",
        [0.01, 0.01, 0.0096, 0.009216],
        lambda: net.rates("classifier.weight", 0, 7.9, 8, 16),
    )
    yield Number(
        f"{bvlc}/solver.prototxt",
        "10 million iterations of 32",
        10_000_000,
        lambda: round_to(net.recipe.epochs * EPOCH / net.recipe.batch_size, 100_000),
    )
    yield Number(
        f"{bvlc}/quick_solver.prototxt",
        "2.4 million iterations, 0.01 (1 - t)^0.5",
        (2_400_000, [0.01, 0.005, 0.0]),
        lambda: (
            round_to(quick.recipe.epochs * EPOCH / quick.recipe.batch_size, 100_000),
            quick.rates("classifier.weight", 0, 45, 60),
        ),
    )
    yield Number(
        f"{bvlc}/train_val.prototxt",
        "lr_mult and decay_mult of weights and biases",
        ([2e-4, 0.0], [0.01, 0.02]),
        lambda: (
            net.decays("classifier.weight", "classifier.bias"),
            [*net.rates("classifier.weight", 0), *net.rates("classifier.bias", 0)],
        ),
    )
    yield Number(
        f"{bvlc}/train_val.prototxt",
        "biases of 0.2, but 0 in the classifiers",
        [0.2, 0.0],
        lambda: net.initial_biases("conv1.conv", "classifier"),
    )
    yield Number(
        f"{bvlc}/train_val.prototxt; Caffe's lrn_layer.cpp",
        "the response norms: alpha divided by n, k of 1",
        [(5, 1e-4 / 5, 0.75, 1.0)] * 2,
        net.response_norms,
    )
    yield Number(
        f"{bvlc}/train_val.prototxt: xavier",
        "variance of 1 / fan-in",
        round((1 / 1024) ** 0.5, 3),
        lambda: net.initial_stds("classifier")[0],
    )
    yield Number(
        f"{text} 5",
        "dropout of 40 %, and of 70 % in the auxiliary heads",
        [("Dropout", 0.4), ("Dropout", 0.7), ("Dropout", 0.7)],
        lambda: sorted(net.dropped()),
    )
    yield Number(
        f"{text} 5", "weight of the auxiliary losses", 0.3, lambda: net.recipe.auxiliary_weight
    )
    yield Number(
        f"{text} 6",
        "8 to 100 % of the area, 3/4 to 4/3, four interpolations",
        ((0.08, 1.0), (3 / 4, 4 / 3), False, False, {"bilinear", "area", "nearest", "cubic"}),
        lambda: area_crop(net),
    )
    yield Number(
        "arXiv:1312.5402 (Howard)",
        "contrast, brightness and colour by 0.5 to 1.5, clipped as bytes are",
        (0.5, True),
        lambda: (net.recipe.augmentation.distortion, net.recipe.augmentation.clip),
    )
    yield Number(f"{text} 7", "scales", (256, 288, 320, 352), lambda: net.recipe.test_scales)


def resnet() -> Iterator[Number]:
    text = "arXiv:1512.03385, section"
    readme = "KaimingHe/deep-residual-networks, README.md"
    net, cifar = RESNET_50, CIFAR_110
    yield Number(f"{text} 3.4", "batch", 256, lambda: net.recipe.batch_size)
    yield Number(
        f"{text} 3.4",
        "60 x 10^4 iterations",
        600_000,
        lambda: round_to(net.recipe.epochs * EPOCH / net.recipe.batch_size, 10_000),
    )
    yield Number(
        f"{text} 3.4",
        "0.1, divided by ten at plateaus",
        [0.1, 0.01, 0.001],
        lambda: net.rates("fc.weight", 0, drops=(0, 1, 2)),
    )
    yield Number(f"{text} 3.4; Caffe", "momentum", *momentum(net, 0.9, "inside", False))
    yield Number(
        f"{text} 3.4; Caffe's usual settings",
        "decay of weights; none of biases and batch norm",
        [1e-4, 1e-4, 0.0, 0.0],
        lambda: net.decays("conv1.weight", "fc.weight", "fc.bias", "bn1.weight"),
    )
    yield Number(
        f"{text} 3.4",
        "short sides of 256 to 480",
        ScaleJitter(256, 480),
        lambda: net.recipe.augmentation.sampling,
    )
    yield Number(
        f"{text} 3.4", "test scales", (224, 256, 384, 480, 640), lambda: net.recipe.test_scales
    )
    yield Number(
        readme,
        "ten crops of the whole image",
        "ten_crop_rectangle",
        lambda: net.recipe.protocols[1],
    )
    yield Number(readme, "32 images a GPU", 32, lambda: net.recipe.batch_norm_images)
    yield Number(
        readme,
        "batch norm's averages over a large batch after training",
        True,
        lambda: (net.recipe.true_statistics or 0) >= 10_000,
    )
    yield Number(
        "released prototxts",
        "pool of 3x3, stride 2, not padded, rounding up",
        {(3, 2, 0, True)},
        net.pools,
    )
    yield Number(
        "released prototxts",
        "the stride is in the first 1x1",
        ((2, 2), (1, 1)),
        lambda: strides(net, "conv3_x.0"),
    )
    yield Number(
        "arXiv:1502.01852",
        "standard deviation of sqrt(2 / n)",
        [round((2 / (9 * 512)) ** 0.5, 3)],
        lambda: net.initial_stds("conv5_x.0.conv2"),
    )
    yield Number(f"{text} 3.4", "no dropout", [], net.dropped)
    yield Number(
        f"{text} 4.2",
        "32,000, 48,000 and 64,000 iterations of 128",
        [32_000, 48_000, 64_000],
        lambda: [
            round_to(e * (CIFAR_EPOCH // cifar.recipe.batch_size), 1000)
            for e in (82, 123, cifar.recipe.epochs)
        ],
    )
    yield Number(
        f"{text} 4.2 and footnote 5",
        "0.01 at first for 110 layers, then 0.1, 0.01, 0.001",
        [0.01, 0.1, 0.1, 0.01, 0.01, 0.001],
        lambda: cifar.rates("fc.weight", 0, 1, 81.9, 82, 122.9, 123),
    )
    yield Number(
        f"{text} 4.2",
        "4 pixels on each side, 128 images on two GPUs",
        (PaddedSquare(4), 64),
        lambda: (cifar.recipe.augmentation.sampling, cifar.recipe.batch_norm_images),
    )


def resnext() -> Iterator[Number]:
    torch7 = "facebookresearch/ResNeXt,"
    net = RESNEXT
    yield Number("arXiv:1611.05431, section 4", "batch", 256, lambda: net.recipe.batch_size)
    yield Number(
        "arXiv:1611.05431, section 4; train.lua",
        "0.1, divided by ten every 30 epochs, three times",
        [0.1, 0.1, 0.01, 0.001, 1e-4],
        lambda: net.rates("fc.weight", 0, 29.9, 30, 60, 90),
    )
    yield Number(f"{torch7} train.lua", "Nesterov, 0.9", *momentum(net, 0.9, "outside", True))
    yield Number(
        f"{torch7} train.lua",
        "decay of all parameters",
        [1e-4] * 3,
        lambda: net.decays("conv1.weight", "fc.bias", "bn1.weight"),
    )
    for of in (net, PREACT_200):
        yield Number(
            f"{torch7} datasets/transforms.lua, RandomSizedCrop",
            "8 to 100 %, 3/4 to 4/3 uniformly, sides swapped, bicubic, else the centre",
            ((0.08, 1.0), (3 / 4, 4 / 3), False, True, {"cubic"}),
            lambda of=of: area_crop(of),  # type: ignore[misc]
        )
    yield Number(
        f"{torch7} datasets/transforms.lua, RandomSizedCrop",
        "after ten tries the centre crop",
        "centre",
        lambda: getattr(net.recipe.augmentation.sampling, "fallback", ""),
    )
    yield Number(
        f"{torch7} datasets/imagenet.lua",
        "std of 0.229, 0.224, 0.225",
        [0.229, 0.224, 0.225],
        lambda: [d / 255 for d in net.recipe.augmentation.divisor or ()],
    )
    yield Number(
        f"{torch7} datasets/imagenet.lua",
        "jitter of 0.4, not clipped; lighting of 0.1 by eigenvalues",
        (0.4, False, 0.1, "variance"),
        lambda: (
            net.recipe.augmentation.distortion,
            net.recipe.augmentation.clip,
            net.recipe.augmentation.colour_sigma,
            net.recipe.augmentation.colour_noise,
        ),
    )
    yield Number(
        f"{torch7} models/resnext.lua",
        "pool of 3x3, stride 2, padded by 1",
        {(3, 2, 1, False)},
        net.pools,
    )
    yield Number(
        f"{torch7} models/resnext.lua",
        "the stride is in the 3x3",
        ((1, 1), (2, 2)),
        lambda: strides(net, "conv3_x.0"),
    )
    yield Number(
        "arXiv:1611.05431, section 4", "32 images a GPU", 32, lambda: net.recipe.batch_norm_images
    )


def trimps() -> Iterator[Number]:
    v3 = "arXiv:1512.00567, section 8"

    def rmsprop(of: Of) -> Any:
        optimiser = of.recipe.optimiser
        assert isinstance(optimiser, RMSProp)
        return optimiser.decay, optimiser.epsilon, optimiser.clip_norm

    yield Number(
        v3, "RMSProp: decay, epsilon, threshold of clipping", (0.9, 1.0, 2.0), lambda: rmsprop(V3)
    )
    yield Number(v3, "50 replicas of 32, 100 epochs", (1600, 100), lambda: sizes(V3))
    yield Number(
        v3,
        "0.045, times 0.94 every two epochs",
        [0.045, 0.045, 0.0423],
        lambda: V3.rates("net.fc.weight", 0, 1.9, 2),
    )
    yield Number(
        "arXiv:1512.00567, section 7", "label smoothing", 0.1, lambda: V3.recipe.label_smoothing
    )
    for of in (V4, IR_V2):
        yield Number(
            "arXiv:1602.07261, section 4",
            "20 replicas of 32; RMSProp: decay, epsilon",
            (640, (0.9, 1.0, None)),
            lambda of=of: (of.recipe.batch_size, rmsprop(of)),  # type: ignore[misc]
        )
    for of in (V3, V4, IR_V2):
        yield Number(
            "Google's inception_preprocessing.py",
            "299 pixels, intensities from -1 to 1",
            (299, "half", (127.5, 127.5, 127.5)),
            lambda of=of: (  # type: ignore[misc]
                of.recipe.augmentation.crop,
                of.recipe.augmentation.mean,
                of.recipe.augmentation.divisor,
            ),
        )
    yield Number(
        "fb.resnet.torch, models/preresnet.lua",
        "the stride is in the 3x3; padded pool",
        (((1, 1), (2, 2)), {(3, 2, 1, False)}),
        lambda: (strides(PREACT_200, "conv3_x.0"), PREACT_200.pools()),
    )


def senet() -> Iterator[Number]:
    text, readme = "arXiv:1709.01507, section", "hujie-frank/SENet, README.md"
    yield Number(f"{text} 5.1", "batch and epochs", (1024, 100), lambda: sizes(SE_RESNET_50))
    yield Number(
        f"{text} 5.1",
        "0.6, divided by ten every 30 epochs",
        [0.6, 0.06, 0.006, 6e-4],
        lambda: SE_RESNET_50.rates("fc.weight", 0, 30, 60, 90),
    )
    yield Number(
        f"{text} 6, footnote",
        "270 epochs from 0.1, drops at 125, 200, 250",
        (270, [0.1, 0.01, 0.001, 1e-4]),
        lambda: (SE_270.recipe.epochs, SE_270.rates("fc.weight", 0, 125, 200, 250)),
    )
    yield Number(
        f"{text} 6",
        "about 300 epochs from 0.1, three drops at plateaus",
        (300, [0.1, 0.01, 0.001, 1e-4, 1e-4]),
        lambda: (SE_PLATEAU.recipe.epochs, SE_PLATEAU.rates("fc.weight", 0, drops=range(5))),
    )
    for of in (SE_270, SE_PLATEAU):
        yield Number(
            f"{text} 6",
            "the excitation has no biases: 16,048 parameters fewer than the released net's",
            28_088_024 - 16_048,
            lambda of=of: sum(p.numel() for p in of.on_meta().parameters()),  # type: ignore[misc]
        )
    yield Number(readme, "batches of 256", 256, lambda: SE_270.recipe.batch_size)
    yield Number(
        readme,
        "32 images a GPU",
        [32] * 3,
        lambda: [of.recipe.batch_norm_images for of in (SE_RESNET_50, SE_270, SENET_154)],
    )
    yield Number(f"{text} 5.1", "momentum", *momentum(SE_RESNET_50, 0.9, "inside", False))
    yield Number(
        f"{text} 5.1",
        "crops of a random area and shape",
        ((0.08, 1.0), (3 / 4, 4 / 3), False, False, {"bilinear"}),
        lambda: area_crop(SE_RESNET_50),
    )
    yield Number(
        "appendix",
        "SENet-154: batches of 2048 on 64 GPUs, 1.0, dropout of 0.2",
        (2048, [1.0], [("Dropout", 0.2)]),
        lambda: (
            SENET_154.recipe.batch_size,
            SENET_154.rates("fc.weight", 0),
            SENET_154.dropped(),
        ),
    )
    yield Number(
        "appendix",
        "batch norm is frozen in the last epochs",
        (True, [0.0, 1e-3]),
        lambda: (
            90 < (SENET_154.recipe.freeze_norm_from or 0) < SENET_154.recipe.epochs,
            [*SENET_154.rates("bn1.weight", 99), *SENET_154.rates("fc.weight", 99)],
        ),
    )


def lenet() -> Iterator[Number]:
    yield Number(
        "LeCun 1998, section III.B; halved distances double the rates",
        "0.0005 (2), 0.0002 (3), 0.0001 (3), 0.00005 (4), 0.00001",
        [5e-4, 2e-4, 1e-4, 5e-5, 1e-5],
        lambda: [rate / 2 for rate in LENET5.rates("c1.weight", 0, 2, 5, 8, 12)],
    )
    yield Number("LeCun 1998, section III.B", "20 passes", 20, lambda: LENET5.recipe.epochs)
    yield Number(
        "LeCun 1998, section II.B",
        "-0.1 and 1.175",
        {-0.1, 1.175},
        lambda: set(LENET5.recipe.grey or ()),
    )


BY_PAPER = {
    paper.__name__: list(paper())
    for paper in (lenet, alexnet, zfnet, vgg, googlenet, resnet, resnext, trimps, senet)
}


def test_every_paper_has_numbers_here() -> None:
    assert BY_PAPER.keys() == {paper.name for paper in papers.PAPERS}


@pytest.mark.parametrize(
    "number",
    [number for numbers in BY_PAPER.values() for number in numbers],
    ids=lambda number: f"{number.source}: {number.what}"[:90],
)
def test_the_recipe_has_the_authors_number(number: Number) -> None:
    ours = number.ours()
    assert close(ours, number.theirs), (
        f"{number.source} has {number.what}: {number.theirs}; the recipe has {ours}"
    )
