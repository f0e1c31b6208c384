"""Augmentations that several papers share; those of a single paper are in that paper's `recipes`.

They have the published sizes, which the smaller profiles replace.
"""

from stages.augmentation import AreaCrop, Augmentation

# fb.resnet.torch (datasets/imagenet.lua, and transforms.lua since 19 February 2016), followed by Xie 2016,
# section 4: 8 to 100 % of the area; a shape of 3/4 to 4/3, drawn uniformly and turned over half of the time;
# colours blended by up to 40 % without clipping; lighting noise by the formula with the variance.
FB_RESNET = Augmentation(
    resize=256,
    crop=224,
    sampling=AreaCrop(swap_sides=True, fallback="centre", interpolations=("cubic",)),
    mean="channel",
    divisor=(0.229 * 255, 0.224 * 255, 0.225 * 255),
    distortion=0.4,
    clip=False,
    colour_noise="variance",
)

# Hu 2017, section 5.1: crops of random area and shape, mirror images and channel means.
AREA_CROPS = Augmentation(resize=256, crop=224, sampling=AreaCrop(), mean="channel")
