"""Departures that several papers' recipes share."""

from stages.recipe import Deviation

STATISTICS = Deviation(
    "the mean and the principal components of colour are those of at most 10,000 training images",
    "the papers take the whole training set, which would be decoded for this alone; its mean differs by 0.7 "
    "grey levels",
)
DECODED_SMALLER = Deviation(
    "a training image whose short side is twice what is needed, or more, is decoded at half of its size",
    "several times faster; against the resized whole image, pixels differ by 0.6 to 2.1 grey levels on "
    "average. Tests decode whole images",
)
RESIZED = Deviation(
    "images are resized as bytes with an antialiased bilinear filter, unless the recipe says otherwise",
    "no paper names its filter; against a bicubic one without antialiasing, as in fb.resnet.torch, pixels "
    "of 40 photographs at 256 differ by 2.5 grey levels on average (median; 0.8 to 10.8)",
)
# For recipes with the pixels of 2012's pipeline.
PIXELS = (STATISTICS, DECODED_SMALLER, RESIZED)

COLOUR_BY_DEVIATION = Deviation(
    "colour noise is scaled by the components' standard deviations",
    "the paper cites Krizhevsky 2012, whose text prints the variance and whose code has this",
)
WHOLE_BATCH_NORM = Deviation(
    "batch normalisation takes its statistics over all images of a worker's batch",
    "the published nets' GPUs had 32 each; batches are smaller here",
)
# For recipes that train and test as fb.resnet.torch does.
FB_RESNET_PIXELS = Deviation(
    "means and components of colour are those of at most 10,000 training images; whole images are resized as "
    "bytes with an antialiased bilinear filter",
    "fb.resnet.torch has constants for ImageNet, and a bicubic filter without antialiasing, whose pixels "
    "differ by 2.5 grey levels on average (median of 40 photographs at 256; 0.8 to 10.8)",
)
OWN_DIVISOR = Deviation(
    "each channel is divided by its standard deviation in the data",
    "fb.resnet.torch's constants are ImageNet's; the embedded images have others",
)
