"""The augmentation of each paper at its published size; smaller profiles replace the lengths.

Krizhevsky 2012 stands in `pipeline.papers.alexnet.recipes`. Test scales are those of the papers' tests.
"""

from stages.augmentation import AreaCrop, Augmentation, FixedCrops, ScaleJitter

# Zeiler and Fergus 2013, section 3: the fixed ten sub-crops, per-pixel mean, no colour noise.
ZFNET = Augmentation(resize=256, crop=224, sampling=FixedCrops())


def vgg(low: int, high: int) -> Augmentation:
    """Simonyan and Zisserman 2014, sections 2.1 and 3.1: S in [low, high], one mean a channel.

    (256, 256) and (384, 384) are the single scales, (256, 512) is the jittered one. Centre crops are
    from the middle of the range.
    """
    return Augmentation(
        resize=(low + high) // 2,
        crop=224,
        sampling=ScaleJitter(low, high),
        mean="channel",
        colour_noise="standard_deviation",
    )


# Section 3.2, by training scale; the middle one is that of the single-scale test.
VGG_TEST_SCALES = {
    (256, 256): (224, 256, 288),
    (384, 384): (352, 384, 416),
    (256, 512): (256, 384, 512),
}

# Szegedy 2014, section 6: what the authors verified after the competition. The photometric distortions
# are Howard's (arXiv 1312.5402): contrast, brightness and colour by 0.5 to 1.5, then lighting noise.
GOOGLENET = Augmentation(
    resize=256,
    crop=224,
    sampling=AreaCrop(interpolations=("bilinear", "area", "nearest", "cubic")),
    mean="channel",
    distortion=0.5,
    colour_noise="standard_deviation",
)
GOOGLENET_TEST_SCALES = (256, 288, 320, 352)  # section 7

# He 2015, section 3.4: per-pixel mean and the colour augmentation of 2012.
RESNET = Augmentation(
    resize=256,
    crop=224,
    sampling=ScaleJitter(256, 480),
    colour_noise="standard_deviation",
)
RESNET_TEST_SCALES = (224, 256, 384, 480, 640)  # section 3.4

# fb.resnet.torch (datasets/imagenet.lua and transforms.lua), followed by Xie 2016, section 4: 8 to 100 % of
# the area, colours changed by up to 40 %, and lighting noise, whose formula there is the variance's. Theirs
# multiplies one side by r and divides the other by it, r uniform in 3/4 to 4/3: hence these shapes.
FB_RESNET = Augmentation(
    resize=256,
    crop=224,
    sampling=AreaCrop(ratio=(9 / 16, 16 / 9), log_ratio=True, interpolations=("cubic",)),
    mean="channel",
    unit_variance=True,
    distortion=0.4,
    colour_noise="variance",
)

# Hu 2017, section 5.1: crops of random area and shape, mirror images, channel means.
SENET = Augmentation(resize=256, crop=224, sampling=AreaCrop(), mean="channel")

# torchvision's references/classification, the comparison of today: random resized crop and mirror.
TORCHVISION = Augmentation(
    resize=256,
    crop=224,
    sampling=AreaCrop(log_ratio=True),
    mean="channel",
    unit_variance=True,
)
