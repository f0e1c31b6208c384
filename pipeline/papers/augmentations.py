"""Augmentations that several papers share; those of a single paper are in that paper's `recipes`.

They have the published sizes, which the smaller profiles replace.
"""

from stages.augmentation import AreaCrop, Augmentation

# fb.resnet.torch (datasets/imagenet.lua and transforms.lua), followed by Xie 2016, section 4: 8 to 100 % of
# the area, colours changed by up to 40 %, and lighting noise by the formula with the variance. That code
# multiplies one side by r and divides the other by r, uniform in 3/4 to 4/3: hence these shapes.
FB_RESNET = Augmentation(
    resize=256,
    crop=224,
    sampling=AreaCrop(ratio=(9 / 16, 16 / 9), log_ratio=True, interpolations=("cubic",)),
    mean="channel",
    unit_variance=True,
    distortion=0.4,
    colour_noise="variance",
)

# Hu 2017, section 5.1: crops of random area and shape, mirror images and channel means.
AREA_CROPS = Augmentation(resize=256, crop=224, sampling=AreaCrop(), mean="channel")
